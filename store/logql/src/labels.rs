//! Label sets: immutable, sorted, cheap to clone. Knows nothing of queries.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

use crate::text::quote_go;

/// An immutable label set: names ascending and unique (but see [`Labels::with_repeats`]), pairs with an empty value dropped.
///
/// Cloning copies a pointer. Order and equality are those of the sorted pairs.
#[derive(Clone)]
pub struct Labels(Arc<Inner>);

struct Inner {
    pairs: Box<[(Box<str>, Box<str>)]>,
    hash: u64,
}

static EMPTY: LazyLock<Labels> = LazyLock::new(|| Labels::from_sorted(Vec::new()));

impl Labels {
    /// The set without labels.
    #[must_use]
    pub fn empty() -> Self {
        EMPTY.clone()
    }

    /// Builds a set from pairs in any order. Of a repeated name the last value wins; an empty value drops the name.
    pub fn from_pairs<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<Box<str>>,
        V: Into<Box<str>>,
    {
        let pairs = sorted(pairs);
        let mut unique: Vec<(Box<str>, Box<str>)> = Vec::with_capacity(pairs.len());
        for pair in pairs {
            match unique.last_mut() {
                Some(last) if last.0 == pair.0 => *last = pair,
                _ => unique.push(pair),
            }
        }
        unique.retain(|(_, value)| !value.is_empty());
        Self::from_sorted(unique)
    }

    /// As [`Labels::from_pairs`], but a repeated name stays repeated: a set to be refused with all that it says.
    pub fn with_repeats<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<Box<str>>,
        V: Into<Box<str>>,
    {
        let mut pairs = sorted(pairs);
        pairs.retain(|(_, value)| !value.is_empty());
        Self::from_sorted(pairs)
    }

    /// The first name that the set has more than once; only one of [`Labels::with_repeats`] can.
    #[must_use]
    pub fn repeated(&self) -> Option<&str> {
        let pairs = self.0.pairs.iter();
        let mut both = pairs.clone().zip(pairs.skip(1));
        both.find_map(|((name, _), (next, _))| (name == next).then_some(&**name))
    }

    /// As [`Labels::from_pairs`] for unique names; empty values stay, as they do in labels that stages made.
    pub(crate) fn keeping_empty<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self::from_sorted(sorted(pairs))
    }

    /// `pairs` must be ascending by name and without repeated names.
    pub(crate) fn from_sorted(pairs: Vec<(Box<str>, Box<str>)>) -> Self {
        let hash = hash_pairs(pairs.iter().map(|(name, value)| (&**name, &**value)));
        Self(Arc::new(Inner {
            pairs: pairs.into_boxed_slice(),
            hash,
        }))
    }

    /// The value of `name`, if the set has it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let pairs = &self.0.pairs;
        if pairs.len() <= 8 {
            return pairs.iter().find(|(n, _)| &**n == name).map(|(_, v)| &**v);
        }
        let index = pairs.binary_search_by(|(n, _)| (**n).cmp(name)).ok()?;
        pairs.get(index).map(|(_, v)| &**v)
    }

    /// Pairs by ascending name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + Clone {
        self.0.pairs.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Number of labels.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.pairs.len()
    }

    /// Whether the set has no labels.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.pairs.is_empty()
    }

    /// [`Labels::hash64`] of the set with these pairs: names ascending and unique, no value empty.
    #[must_use]
    pub fn hash_of<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> u64 {
        hash_pairs(pairs)
    }

    /// A hash that is the same in every process and version: xxh3 of `name 0xff value 0xff …`.
    #[must_use]
    pub fn hash64(&self) -> u64 {
        self.0.hash
    }

    /// Approximate heap bytes of the set itself.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.iter()
            .map(|(name, value)| name.len() + value.len() + 32)
            .sum::<usize>()
            + 40
    }
}

/// Pairs by name; those of one name stay in their order.
fn sorted<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Vec<(Box<str>, Box<str>)>
where
    N: Into<Box<str>>,
    V: Into<Box<str>>,
{
    let mut pairs: Vec<(Box<str>, Box<str>)> = pairs
        .into_iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    pairs
}

/// The hash of [`Labels::hash64`] for pairs that are ascending by name.
pub(crate) fn hash_pairs<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> u64 {
    let mut hasher = xxhash_rust::xxh3::Xxh3Default::new();
    for (name, value) in pairs {
        hasher.update(name.as_bytes());
        hasher.update(&[0xff]);
        hasher.update(value.as_bytes());
        hasher.update(&[0xff]);
    }
    hasher.digest()
}

impl Default for Labels {
    fn default() -> Self {
        Self::empty()
    }
}

impl PartialEq for Labels {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || (self.0.hash == other.0.hash && self.0.pairs == other.0.pairs)
    }
}

impl Eq for Labels {}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Labels {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.pairs.cmp(&other.0.pairs)
    }
}

impl Hash for Labels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&labels_text(self.iter()))
    }
}

/// Labels as Loki writes them, `{a="b", c="d"}`; streams are answered in the order of these texts.
pub fn labels_text<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    use fmt::Write as _;
    let mut text = String::from("{");
    for (index, (name, value)) in pairs.into_iter().enumerate() {
        let comma = if index > 0 { ", " } else { "" };
        // Writing to a string cannot fail.
        let _ = write!(text, "{comma}{name}={}", quote_go(value));
    }
    text.push('}');
    text
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<N: Into<Box<str>>, V: Into<Box<str>>> FromIterator<(N, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(iter: I) -> Self {
        Self::from_pairs(iter)
    }
}
