//! Remembers entries, so that those asked for twice are shown once. A multiset: equal entries count.

use std::collections::HashMap;

use xxhash_rust::xxh3::Xxh3;

use super::answer::Row;

/// What makes two entries equal, besides time and line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// All labels and fields.
    Whole,
    /// The stream alone: a plain selector's new entries come over a tail without their structured metadata.
    Stream,
}

/// A multiset of entries.
#[derive(Debug, Clone)]
pub struct Seen {
    identity: Identity,
    counts: HashMap<(i64, u64), u32>,
}

impl Seen {
    /// An empty set.
    pub fn new(identity: Identity) -> Self {
        Self {
            identity,
            counts: HashMap::new(),
        }
    }

    /// Adds an entry.
    pub fn add(&mut self, row: &Row) {
        let key = self.key(row);
        *self.counts.entry(key).or_insert(0) += 1;
    }

    /// Takes an entry out; false when it isn't in.
    pub fn take(&mut self, row: &Row) -> bool {
        let key = self.key(row);
        match self.counts.get_mut(&key) {
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

    fn key(&self, row: &Row) -> (i64, u64) {
        let mut hash = Xxh3::new();
        let mut text = |text: &str| {
            hash.update(&text.len().to_le_bytes());
            hash.update(text.as_bytes());
        };
        text(&row.line);
        let fields = (self.identity == Identity::Whole).then_some(&row.fields);
        for (name, value) in row.stream.iter().chain(fields.into_iter().flatten()) {
            text(name);
            text(value);
        }
        (row.ts, hash.digest())
    }
}
