//! Entries that two segments may both hold: told apart by a 128-bit hash of everything an entry is.

use super::LogRow;
use parking_lot::Mutex;
use rankline_logql::{EntryRef, Labels};
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

/// Hash of what a row shows; `bare`: without its structured metadata.
pub(super) fn row_hash(row: &LogRow, bare: bool) -> u128 {
    let none = Labels::default();
    let metadata = if bare { &none } else { &row.metadata };
    let mut hasher = Xxh3Default::new();
    hasher.update(&row.ts.to_le_bytes());
    hasher.update(&(row.line.len() as u64).to_le_bytes());
    hasher.update(row.line.as_bytes());
    for set in [&row.stream, metadata, &row.parsed] {
        for (name, value) in set.iter() {
            for text in [name, value] {
                hasher.update(&(text.len() as u64).to_le_bytes());
                hasher.update(text.as_bytes());
            }
        }
        hasher.update(&u64::MAX.to_le_bytes());
    }
    hasher.digest128()
}

/// Entries of one stream and time that show the same after a pipeline are one row, as in Loki. Sees rows in order.
#[derive(Default)]
pub(super) struct ShownOnce {
    group: Option<(i64, Labels)>,
    /// Of the group's rows, from its second one on: most have no second one.
    hashes: foldhash::HashSet<u128>,
}

impl ShownOnce {
    /// Whether the row is the first of its stream (`labels`) and time that shows what it shows. `before`: the last row
    /// that was.
    pub(super) fn is_new(&mut self, labels: &Labels, row: &LogRow, before: Option<&LogRow>) -> bool {
        if !self
            .group
            .as_ref()
            .is_some_and(|(ts, group)| *ts == row.ts && group == labels)
        {
            self.group = Some((row.ts, labels.clone()));
            self.hashes.clear();
            return true;
        }
        if self.hashes.is_empty() {
            self.hashes.extend(before.map(|before| row_hash(before, false)));
        }
        self.hashes.insert(row_hash(row, false))
    }
}

/// The entries a query has met so far, of those that may be there twice.
#[derive(Default)]
pub(super) struct Met {
    shards: [Mutex<foldhash::HashSet<u128>>; 16],
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
