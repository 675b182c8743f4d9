//! What a query answers with: rows of logs, categorised label sets, and the work it took.
//!
//! Knows neither HTTP nor JSON.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// A label set as a query returns it: sorted by name, names unique; values may be empty. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pairs(Arc<[(Box<str>, Box<str>)]>);

impl Default for Pairs {
    fn default() -> Self {
        Self(Arc::from([]))
    }
}

impl Pairs {
    /// From pairs that are sorted by name and unique.
    pub fn from_sorted<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self(
            pairs
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }

    /// The pairs by ascending name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Value of one name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .binary_search_by(|(key, _)| (**key).cmp(name))
            .ok()
            .map(|at| &*self.0[at].1)
    }

    /// Whether the set holds exactly these pairs, in this order.
    pub fn equals<'a>(&self, mut pairs: impl Iterator<Item = (&'a str, &'a str)>) -> bool {
        let mut own = self.iter();
        let same = |pair: (&str, &str)| own.next().is_some_and(|own| own == pair);
        pairs.all(same) && own.next().is_none()
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Address of the shared storage: equal for clones, so that equal sets can be told apart cheaply.
    pub fn address(&self) -> usize {
        Arc::as_ptr(&self.0).cast::<u8>() as usize
    }

    /// All pairs of three sets; of one name, the value of the later set stays.
    pub fn merged(first: &Self, second: &Self, third: &Self) -> Self {
        let mut all = std::collections::BTreeMap::new();
        for set in [first, second, third] {
            all.extend(set.iter());
        }
        Self::from_sorted(all)
    }

    /// Heap bytes, about.
    pub fn bytes(&self) -> usize {
        self.iter()
            .map(|(name, value)| name.len() + value.len() + 32)
            .sum()
    }
}

/// Keeps one copy of equal label sets of a query.
#[derive(Debug, Default)]
pub(super) struct Interner {
    known: HashSet<Pairs>,
}

impl Interner {
    /// The shared copy of a set.
    pub(super) fn intern(&mut self, pairs: Pairs) -> Pairs {
        if let Some(known) = self.known.get(&pairs) {
            return known.clone();
        }
        self.known.insert(pairs.clone());
        pairs
    }
}

/// One entry of a log query's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRow {
    /// ns since the epoch.
    pub ts: i64,
    /// The line after the pipeline.
    pub line: Box<str>,
    /// What is left of the stream's labels.
    pub stream: Pairs,
    /// What is left of the structured metadata.
    pub metadata: Pairs,
    /// Labels that the pipeline made.
    pub parsed: Pairs,
}

/// Answer of a log query, in the query's direction.
#[derive(Debug, Default)]
pub struct LogAnswer {
    /// At most the limit that was asked for.
    pub rows: Vec<LogRow>,
    /// The work it took.
    pub stats: QueryStats,
}

/// Work of one query, counted where it is done.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct QueryStats {
    /// Line bytes of the rows that were looked at, about.
    pub line_bytes: u64,
    /// Rows that were looked at, after the choice by time and stream.
    pub lines: u64,
    /// Structured metadata bytes of the blocks that were read, about.
    pub metadata_bytes: u64,
    /// Rows that passed every filter.
    pub post_filter_lines: u64,
    /// Rows left out because an equal one was counted.
    pub duplicates: u64,
    /// Entries of the answer.
    pub entries_returned: u64,
    /// Segments the query had to consider.
    pub segments: u64,
    /// Blocks that were read.
    pub blocks: u64,
    /// Blocks that were left out by time, stream or limit.
    pub blocks_skipped: u64,
    /// Encoded column bytes that were read.
    pub compressed_bytes: u64,
    /// Column reads (coalesced ranges of one block count once).
    pub requests: u64,
    /// Wall time from the start of the query to its answer.
    pub exec_time: Duration,
    /// Time spent waiting for a place.
    pub queue_time: Duration,
}

impl QueryStats {
    /// Adds the counts (not the times) of a part.
    pub fn add(&mut self, part: &Self) {
        self.line_bytes += part.line_bytes;
        self.lines += part.lines;
        self.metadata_bytes += part.metadata_bytes;
        self.post_filter_lines += part.post_filter_lines;
        self.duplicates += part.duplicates;
        self.entries_returned += part.entries_returned;
        self.segments += part.segments;
        self.blocks += part.blocks;
        self.blocks_skipped += part.blocks_skipped;
        self.compressed_bytes += part.compressed_bytes;
        self.requests += part.requests;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_sets_win_and_equal_sets_share_storage() {
        let a = Pairs::from_sorted([("app", "x"), ("job", "y")]);
        let b = Pairs::from_sorted([("job", "z")]);
        let merged = Pairs::merged(&a, &b, &Pairs::default());
        assert_eq!(merged.iter().collect::<Vec<_>>(), [("app", "x"), ("job", "z")]);
        assert_eq!((merged.get("job"), merged.get("zone")), (Some("z"), None));
        let mut interner = Interner::default();
        let one = interner.intern(Pairs::from_sorted([("a", "")]));
        let two = interner.intern(Pairs::from_sorted([("a", "")]));
        assert_eq!(one.address(), two.address());
    }
}
