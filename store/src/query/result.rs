//! What a query answers with: rows of logs, categorised label sets, and the work it took.
//!
//! Knows neither HTTP nor JSON.

use crate::storage::Usage;
use rankline_logql::Labels;
use std::time::Duration;

/// Keeps one copy of equal label sets of a query.
#[derive(Debug, Default)]
pub(super) struct Interner {
    known: foldhash::HashSet<Labels>,
}

impl Interner {
    /// The shared copy of a set.
    pub(super) fn intern(&mut self, labels: Labels) -> Labels {
        if let Some(known) = self.known.get(&labels) {
            return known.clone();
        }
        self.known.insert(labels.clone());
        labels
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
    pub stream: Labels,
    /// What is left of the structured metadata.
    pub metadata: Labels,
    /// Labels that the pipeline made.
    pub parsed: Labels,
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
    /// Segments of the query's time range.
    pub segments: u64,
    /// Those that have none of the streams.
    pub segments_skipped: u64,
    /// Blocks whose rows were looked at.
    pub blocks: u64,
    /// Blocks that were left out, and why.
    pub skipped: Skipped,
    /// Blocks of which everything needed was decoded in memory already.
    pub blocks_in_memory: u64,
    /// Lines that were put together from templates and variables.
    pub lines_built: u64,
    /// Encoded column bytes that were read.
    pub compressed_bytes: u64,
    /// What was asked of the object store, planning included.
    pub store: Usage,
    /// Time of the stages.
    pub times: Times,
    /// Wall time from the start of the query to its answer.
    pub exec_time: Duration,
    /// Time spent waiting for a place.
    pub queue_time: Duration,
}

/// Blocks of the segments considered that were left out, each for the first reason that was found.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Skipped {
    /// None of their rows is in the query's time range. Found in footers.
    pub by_time: u64,
    /// They have none of the streams. Found in footers.
    pub by_streams: u64,
    /// Nearer rows filled the limit before their turn came.
    pub by_limit: u64,
    /// No template or variable can have what a line filter looks for.
    pub by_templates: u64,
    /// The streams have no row in what was left of the time range.
    pub by_rows: u64,
}

impl Skipped {
    /// Those that footers did not rule out.
    pub fn referenced(&self) -> u64 {
        self.by_limit + self.by_templates + self.by_rows
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.by_time + self.by_streams + self.referenced()
    }

    fn add(&mut self, part: &Self) {
        self.by_time += part.by_time;
        self.by_streams += part.by_streams;
        self.by_limit += part.by_limit;
        self.by_templates += part.by_templates;
        self.by_rows += part.by_rows;
    }
}

/// Time of a query's stages. Blocks are read and scanned side by side, so `fetch` and `scan` are sums over blocks, and
/// together may be more than the query's wall time.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Wall time until it was known which blocks to read: listings, footers, streams.
    pub plan: Duration,
    /// Waiting for columns, summed over reads.
    pub fetch: Duration,
    /// Decoding and looking at blocks, summed over threads.
    pub scan: Duration,
    /// Wall time of making one answer of what the blocks gave.
    pub merge: Duration,
    /// Wall time of writing the answer down.
    pub encode: Duration,
}

impl Times {
    fn add(&mut self, part: &Self) {
        self.plan += part.plan;
        self.fetch += part.fetch;
        self.scan += part.scan;
        self.merge += part.merge;
        self.encode += part.encode;
    }
}

impl QueryStats {
    /// Adds the counts and the stages' times (not the wall times) of a part.
    pub fn add(&mut self, part: &Self) {
        self.line_bytes += part.line_bytes;
        self.lines += part.lines;
        self.metadata_bytes += part.metadata_bytes;
        self.post_filter_lines += part.post_filter_lines;
        self.duplicates += part.duplicates;
        self.entries_returned += part.entries_returned;
        self.segments += part.segments;
        self.blocks += part.blocks;
        self.segments_skipped += part.segments_skipped;
        self.skipped.add(&part.skipped);
        self.blocks_in_memory += part.blocks_in_memory;
        self.lines_built += part.lines_built;
        self.compressed_bytes += part.compressed_bytes;
        self.times.add(&part.times);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_sets_share_storage() {
        let mut interner = Interner::default();
        let one = interner.intern(Labels::from_sorted([("a", "")]));
        let two = interner.intern(Labels::from_sorted([("a", "")]));
        assert_eq!(one.address(), two.address());
    }
}
