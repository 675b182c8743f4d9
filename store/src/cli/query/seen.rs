//! Remembers entries, so that those asked for twice are shown once. A multiset: equal entries count.

use std::collections::HashMap;

use xxhash_rust::xxh3::Xxh3;

use super::answer::Row;

/// A multiset of entries.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    counts: HashMap<(i64, u64), u32>,
}

impl Seen {
    /// Adds an entry.
    pub fn add(&mut self, row: &Row) {
        *self.counts.entry(key(row)).or_insert(0) += 1;
    }

    /// Takes an entry out; false when it isn't in.
    pub fn take(&mut self, row: &Row) -> bool {
        match self.counts.get_mut(&key(row)) {
            Some(count) if *count > 0 => {
                *count -= 1;
                true
            }
            _ => false,
        }
    }

    /// Forgets entries before `ts`.
    pub fn forget_before(&mut self, ts: i64) {
        self.counts.retain(|(at, _), count| *at >= ts && *count > 0);
    }

    /// How many different entries are remembered.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }
}

fn key(row: &Row) -> (i64, u64) {
    let mut hash = Xxh3::new();
    let mut text = |text: &str| {
        hash.update(&text.len().to_le_bytes());
        hash.update(text.as_bytes());
    };
    text(&row.line);
    for (name, value) in row.stream.iter().chain(&row.fields) {
        text(name);
        text(value);
    }
    (row.ts, hash.digest())
}
