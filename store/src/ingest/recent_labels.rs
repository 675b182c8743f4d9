//! Label sets that pushes had a short while ago: a stream's labels come with each of its pushes, and parsing them costs
//! as much as a dozen lines. Knows nothing of requests.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::LazyLock;

use parking_lot::Mutex;
use rankline_logql::{Labels, ParseError, parse_labels};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::names;

/// Heap bytes of label sets after which the older half is forgotten, for each of the two tables.
const MAX_BYTES: usize = 4 << 20;

/// By the text of a protobuf push, as a hash under a seed of this process: whoever chooses texts can't choose two that
/// collide, and by chance none do.
static PARSED: LazyLock<Mutex<Recent<u128>>> = LazyLock::new(Mutex::default);
/// By the labels as pushed, those with `service_name`.
static NAMED: LazyLock<Mutex<Recent<Labels>>> = LazyLock::new(Mutex::default);
static SEED: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0));

/// As [`parse_labels`].
pub(super) fn parse(text: &str) -> Result<Labels, ParseError> {
    let key = xxh3_128_with_seed(text.as_bytes(), *SEED);
    if let Some(labels) = PARSED.lock().get(&key) {
        return Ok(labels);
    }
    let labels = parse_labels(text)?;
    PARSED.lock().insert(key, labels.clone());
    Ok(labels)
}

/// As [`names::with_service_name`].
pub(super) fn with_service_name(labels: Labels) -> Labels {
    if let Some(named) = NAMED.lock().get(&labels) {
        return named;
    }
    let named = names::with_service_name(&labels);
    NAMED.lock().insert(labels, named.clone());
    named
}

/// What was asked for lately, in two halves: when the younger is full, the older is forgotten.
#[derive(Debug)]
struct Recent<K> {
    young: HashMap<K, Labels>,
    old: HashMap<K, Labels>,
    young_bytes: usize,
}

impl<K> Default for Recent<K> {
    fn default() -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            young_bytes: 0,
        }
    }
}

impl<K: Hash + Eq> Recent<K> {
    fn get(&mut self, key: &K) -> Option<Labels> {
        if let Some(labels) = self.young.get(key) {
            return Some(labels.clone());
        }
        let (key, labels) = self.old.remove_entry(key)?;
        self.insert(key, labels.clone());
        Some(labels)
    }

    fn insert(&mut self, key: K, labels: Labels) {
        let bytes = labels.heap_bytes();
        if self.young_bytes + bytes > MAX_BYTES / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += bytes;
        self.young.insert(key, labels);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn answers_are_those_of_what_is_remembered() {
        for _ in 0..2 {
            assert_eq!(parse(r#"{job="a"}"#).unwrap(), Labels::from_pairs([("job", "a")]));
            assert!(parse("{job=").is_err());
            assert_eq!(
                with_service_name(Labels::from_pairs([("job", "a")])),
                Labels::from_pairs([("job", "a"), ("service_name", "a")])
            );
        }
    }

    #[test]
    fn what_is_used_stays_and_the_rest_leaves() {
        let mut recent = Recent::default();
        let labels = |n: usize| Labels::from_pairs([("n", n.to_string())]);
        let each = labels(0).heap_bytes();
        recent.insert(0, labels(0));
        for n in 1..4 * MAX_BYTES / each {
            recent.insert(n, labels(n));
            assert_eq!(recent.get(&0), Some(labels(0)));
            assert!((recent.young.len() + recent.old.len()) * each <= MAX_BYTES + 2 * each);
        }
        assert_eq!(recent.get(&1), None);
    }
}
