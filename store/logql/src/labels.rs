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

/// Packed: indexes and caches hold tens of thousands of sets, and a string of its own for each name and value would take three times
/// as much.
struct Inner {
    /// Names and values, one after another.
    text: Box<str>,
    /// Where each of them ends.
    ends: Box<[u32]>,
    hash: u64,
}

static EMPTY: LazyLock<Labels> = LazyLock::new(|| Labels::packed(std::iter::empty()));

impl Labels {
    /// The set without labels.
    #[must_use]
    pub fn empty() -> Self {
        EMPTY.clone()
    }

    /// Builds a set from pairs in any order. Of a repeated name the last value wins; an empty value drops the name.
    pub fn from_pairs<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: AsRef<str>,
        V: AsRef<str>,
    {
        Self::packed(without_empty(last_of_name(&sorted(pairs))))
    }

    /// A set of pairs whose names ascend, each once; empty values stay, as they do in labels that stages made.
    pub fn from_sorted<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let pairs: Vec<_> = pairs.into_iter().collect();
        Self::packed(pairs.into_iter())
    }

    /// All pairs of three sets, empty values too; of one name, the value of the later set stays.
    #[must_use]
    pub fn merged(first: &Self, second: &Self, third: &Self) -> Self {
        let pairs = sorted([first, second, third].into_iter().flat_map(Self::iter));
        Self::packed(last_of_name(&pairs).copied())
    }

    /// As [`Labels::from_pairs`], but a repeated name stays repeated: a set to be refused with all that it says.
    pub fn with_repeats<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: AsRef<str>,
        V: AsRef<str>,
    {
        Self::packed(without_empty(sorted(pairs).iter()))
    }

    /// The first name that the set has more than once; only one of [`Labels::with_repeats`] can.
    #[must_use]
    pub fn repeated(&self) -> Option<&str> {
        let mut both = self.iter().zip(self.iter().skip(1));
        both.find_map(|((name, _), (next, _))| (name == next).then_some(name))
    }

    /// As [`Labels::from_pairs`] for unique names; empty values stay, as they do in labels that stages made.
    pub(crate) fn keeping_empty<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self::packed(sorted(pairs).iter().copied())
    }

    /// `pairs` must be ascending by name.
    fn packed<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Self {
        let parts = pairs.clone().flat_map(|(name, value)| [name, value]);
        let mut text = String::with_capacity(parts.clone().map(str::len).sum());
        let ends = parts.map(|part| {
            text.push_str(part);
            // Requests are smaller; what is beyond is cut off, not taken for something else.
            u32::try_from(text.len()).unwrap_or(u32::MAX)
        });
        Self(Arc::new(Inner {
            ends: ends.collect(),
            text: text.into_boxed_str(),
            hash: hash_pairs(pairs),
        }))
    }

    /// The value of `name`, if the set has it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    /// Whether the set holds exactly these pairs, in this order.
    pub fn equals<'a>(&self, mut pairs: impl Iterator<Item = (&'a str, &'a str)>) -> bool {
        let mut own = self.iter();
        own.all(|(name, value)| pairs.next().is_some_and(|other| other == (name, value)))
            && pairs.next().is_none()
    }

    /// Address of the shared storage: equal for clones, so that equal sets can be told apart cheaply.
    #[must_use]
    pub fn address(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// Pairs by ascending name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + Clone {
        let (text, mut start) = (&*self.0.text, 0);
        self.0.ends.as_chunks::<2>().0.iter().map(move |&[name, value]| {
            let from = std::mem::replace(&mut start, value) as usize;
            let (name, value) = (name as usize, value as usize);
            let part = |range| text.get(range).unwrap_or_default();
            (part(from..name), part(name..value))
        })
    }

    /// Number of labels.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.ends.len() / 2
    }

    /// Whether the set has no labels.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.ends.is_empty()
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
        self.0.text.len() + self.0.ends.len() * 4 + size_of::<Inner>() + 16
    }
}

/// Pairs by name; those of one name stay in their order.
fn sorted<N: AsRef<str>, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Vec<(N, V)> {
    let mut pairs: Vec<(N, V)> = pairs.into_iter().collect();
    pairs.sort_by(|a, b| a.0.as_ref().cmp(b.0.as_ref()));
    pairs
}

/// Of pairs in order of their names the last of each name.
fn last_of_name<N: AsRef<str>, V>(pairs: &[(N, V)]) -> impl Iterator<Item = &(N, V)> + Clone {
    let of_name = pairs.chunk_by(|a, b| a.0.as_ref() == b.0.as_ref());
    of_name.filter_map(|pairs| pairs.last())
}

/// The pairs whose value is not empty.
fn without_empty<'a, N: AsRef<str> + 'a, V: AsRef<str> + 'a>(
    pairs: impl Iterator<Item = &'a (N, V)> + Clone,
) -> impl Iterator<Item = (&'a str, &'a str)> + Clone {
    let pairs = pairs.map(|(name, value)| (name.as_ref(), value.as_ref()));
    pairs.filter(|(_, value)| !value.is_empty())
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
        Arc::ptr_eq(&self.0, &other.0) || {
            let (a, b) = (&*self.0, &*other.0);
            a.hash == b.hash && a.text == b.text && a.ends == b.ends
        }
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
        self.iter().cmp(other.iter())
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

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(iter: I) -> Self {
        Self::from_pairs(iter)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    type Texts = Vec<(String, String)>;

    fn texts() -> impl Strategy<Value = Texts> {
        prop::collection::vec(("[aé]{0,2}|b", "[xü]{0,2}"), 0..5)
    }

    fn pairs(labels: &Labels) -> Texts {
        let pairs = labels.iter();
        pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    proptest! {
        #[test]
        fn a_set_is_a_map_without_empty_values(a in texts(), b in texts()) {
            let map = |texts: &Texts| -> Texts {
                let all: BTreeMap<String, String> = texts.iter().cloned().collect();
                all.into_iter().filter(|(_, value)| !value.is_empty()).collect()
            };
            let (one, other) = (Labels::from_pairs(a.clone()), Labels::from_pairs(b.clone()));
            let (map_a, map_b) = (map(&a), map(&b));
            prop_assert_eq!(&pairs(&one), &map_a);
            prop_assert_eq!((one.len(), one.is_empty()), (map_a.len(), map_a.is_empty()));
            prop_assert_eq!(one == other, map_a == map_b);
            prop_assert_eq!(one.cmp(&other), map_a.cmp(&map_b));
            prop_assert!(one.equals(one.iter()));
            prop_assert_eq!(one.equals(other.iter()), one == other);
            for name in ["", "a", "aé", "b", "c"] {
                let value = map_a.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
                prop_assert_eq!(one.get(name), value);
            }
            prop_assert_eq!(one.hash64(), Labels::hash_of(one.iter()));
            prop_assert_eq!(one.repeated(), None);
        }

        #[test]
        fn of_merged_sets_the_later_values_stay(a in texts(), b in texts(), c in texts()) {
            let set = |texts: &Texts| {
                let all: BTreeMap<&str, &str> = texts.iter().map(|(name, value)| (&**name, &**value)).collect();
                Labels::from_sorted(all)
            };
            let merged = Labels::merged(&set(&a), &set(&b), &set(&c));
            let expected: BTreeMap<String, String> = [a, b, c].into_iter().flatten().collect();
            prop_assert_eq!(pairs(&merged), expected.into_iter().collect::<Texts>());
        }
    }

    #[test]
    fn repeated_names_are_kept_to_be_named() {
        let labels = Labels::with_repeats([("b", "2"), ("a", "1"), ("b", "1"), ("c", "")]);
        assert_eq!(labels.repeated(), Some("b"));
        assert_eq!(labels.to_string(), r#"{a="1", b="2", b="1"}"#);
    }

    #[test]
    fn clones_share_their_storage() {
        let labels = Labels::from_pairs([("a", "1")]);
        assert_eq!(labels.address(), labels.clone().address());
        assert_ne!(labels.address(), Labels::from_pairs([("a", "1")]).address());
        assert!(Labels::default().is_empty());
    }
}
