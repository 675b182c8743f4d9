//! Series of one accumulator: labels to index, with a cheap key in front.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use crate::Labels;
use crate::pipeline::scratch::NameHasher;

/// Distinct series and a cache from what tells entries apart to their index.
#[derive(Default)]
pub(super) struct SeriesTable {
    pub(super) labels: Vec<Labels>,
    by_labels: HashMap<Labels, u32>,
    by_key: HashMap<Box<[u8]>, u32, BuildHasherDefault<NameHasher>>,
    last: Option<(Vec<u8>, u32)>,
    /// Approximate heap bytes.
    pub(super) bytes: usize,
}

/// Keys are forgotten beyond this many: they are a cache.
const MAX_KEYS: usize = 65_536;

impl SeriesTable {
    /// The index cached for a key.
    pub(super) fn find(&mut self, key: &[u8]) -> Option<u32> {
        if let Some((last, index)) = &self.last
            && last.as_slice() == key
        {
            return Some(*index);
        }
        let index = *self.by_key.get(key)?;
        self.remember_last(key, index);
        Some(index)
    }

    fn remember_last(&mut self, key: &[u8], index: u32) {
        match &mut self.last {
            Some((last, place)) => {
                last.clear();
                last.extend_from_slice(key);
                *place = index;
            }
            None => self.last = Some((key.to_vec(), index)),
        }
    }

    /// Caches a key for a series.
    pub(super) fn insert(&mut self, key: &[u8], labels: Labels) -> u32 {
        let index = self.index_of(labels);
        if self.by_key.len() >= MAX_KEYS {
            self.by_key.clear();
        }
        self.by_key.insert(key.into(), index);
        self.remember_last(key, index);
        index
    }

    /// The index of a series, new or known.
    pub(super) fn index_of(&mut self, labels: Labels) -> u32 {
        if let Some(index) = self.by_labels.get(&labels) {
            return *index;
        }
        let index = u32::try_from(self.labels.len()).unwrap_or(u32::MAX);
        self.bytes += labels.heap_bytes() + 160;
        self.labels.push(labels.clone());
        self.by_labels.insert(labels, index);
        index
    }

    /// Forgets keys, where they mean something else from now on.
    pub(super) fn forget_keys(&mut self) {
        self.by_key.clear();
        self.last = None;
    }
}
