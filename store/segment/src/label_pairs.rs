//! The label pairs of a stream, packed: an index holds tens of thousands of them.

use std::{cmp::Ordering, fmt, sync::Arc};

/// Label pairs: names ascending and unique. Cloning shares them.
#[derive(Clone, PartialEq, Eq)]
pub struct LabelPairs {
    /// Names and values, one after another.
    text: Arc<str>,
    /// Where each of them ends.
    ends: Arc<[u32]>,
}

impl LabelPairs {
    /// Packs pairs as they are; that names ascend is for the caller to see to.
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str), IntoIter: Clone>) -> Self {
        let parts = pairs.into_iter().flat_map(|(name, value)| [name, value]);
        let bytes = parts.clone().map(str::len).sum();
        let mut text = String::with_capacity(bytes);
        let ends = parts.map(|part| {
            text.push_str(part);
            // A footer's labels have 512 MiB at the most.
            text.len() as u32
        });
        LabelPairs {
            ends: ends.collect::<Vec<_>>().into(),
            text: text.into(),
        }
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        let mut start = 0;
        self.ends.as_chunks::<2>().0.iter().map(move |&[name, value]| {
            let from = std::mem::replace(&mut start, value) as usize;
            let (name, value) = (name as usize, value as usize);
            (&self.text[from..name], &self.text[name..value])
        })
    }

    /// Number of pairs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len() / 2
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Whether the two share one memory.
    #[must_use]
    pub fn is_shared_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.text, &other.text) && Arc::ptr_eq(&self.ends, &other.ends)
    }

    /// Bytes of all names and values.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        self.text.len()
    }

    /// Heap bytes, shared ones included.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        // Two reference counts each.
        self.text.len() + self.ends.len() * 4 + 32
    }
}

impl PartialOrd for LabelPairs {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Name, value, name, value, … as bytes; what begins another comes first.
impl Ord for LabelPairs {
    fn cmp(&self, other: &Self) -> Ordering {
        self.iter().cmp(other.iter())
    }
}

impl fmt::Debug for LabelPairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pairs_come_back_and_ascend_as_a_list_of_them(
            a in prop::collection::vec(("[ab]{0,2}", "[ab]{0,2}"), 0..4),
            b in prop::collection::vec(("[ab]{0,2}", "[ab]{0,2}"), 0..4),
        ) {
            fn packed(pairs: &[(String, String)]) -> LabelPairs {
                LabelPairs::new(pairs.iter().map(|(name, value)| (&**name, &**value)))
            }
            let owned = |pairs: &LabelPairs| -> Vec<(String, String)> {
                pairs.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
            };
            prop_assert_eq!(&owned(&packed(&a)), &a);
            prop_assert_eq!(packed(&a).len(), a.len());
            prop_assert_eq!(packed(&a).cmp(&packed(&b)), a.cmp(&b));
            prop_assert_eq!(packed(&a) == packed(&b), a == b);
            prop_assert_eq!(format!("{:?}", packed(&a)), format!("{a:?}"));
        }
    }
}
