//! Entries that two segments may both hold: told apart by a 128-bit hash of everything an entry is.

use parking_lot::Mutex;
use rankline_logql::EntryRef;
use std::collections::HashSet;
use xxhash_rust::xxh3::Xxh3Default;

/// Hash of an entry: stream, time, line and structured metadata.
pub(super) fn entry_hash(stream: u64, entry: &EntryRef<'_>) -> u128 {
    let mut hasher = Xxh3Default::new();
    hasher.update(&stream.to_le_bytes());
    hasher.update(&entry.ts.to_le_bytes());
    let mut text = |text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    text(entry.line);
    for (name, value) in entry.metadata {
        text(name);
        text(value);
    }
    hasher.digest128()
}

/// The entries a query has met so far, of those that may be there twice.
#[derive(Default)]
pub(super) struct Met {
    shards: [Mutex<HashSet<u128>>; 16],
}

impl Met {
    /// Whether the entry is new.
    pub(super) fn insert(&self, hash: u128) -> bool {
        self.shards[(hash >> 124) as usize].lock().insert(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_an_entry_counts() {
        let entry = EntryRef {
            ts: 1,
            line: "ab",
            metadata: &[("k", "v")],
        };
        let base = entry_hash(7, &entry);
        assert_eq!(base, entry_hash(7, &entry));
        assert_ne!(base, entry_hash(8, &entry));
        assert_ne!(base, entry_hash(7, &EntryRef { ts: 2, ..entry }));
        assert_ne!(
            base,
            entry_hash(
                7,
                &EntryRef {
                    line: "abk",
                    metadata: &[("", "v")],
                    ..entry
                }
            )
        );
        assert_ne!(
            base,
            entry_hash(
                7,
                &EntryRef {
                    metadata: &[],
                    ..entry
                }
            )
        );
        let met = Met::default();
        assert!(met.insert(base) && !met.insert(base));
    }
}
