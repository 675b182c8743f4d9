//! Leaves out what delete requests name: streams that lie in one altogether, rows by time, and rows by their content.
//!
//! Works on the choice of rows, so that no scan has to know of it.

use super::QueryError;
use super::block::{Body, Rows, Span};
use super::select::BlockTask;
use crate::catalog::SegmentKey;
use crate::deletes::{Deletion, Sieve};
use rankline_logql::EntryRef;
use std::ops::Range;
use std::sync::Arc;

/// How long entries are still left out after they were removed from the store: a replica may know the old segments.
const AFTERWARDS_MS: i64 = 3_600_000;

/// Whether a segment may hold entries that a request names.
pub(super) fn concerns(deletion: &Deletion, key: &SegmentKey, now_ms: i64) -> bool {
    let (start, end) = deletion.range();
    if !key.touches(start, end) {
        return false;
    }
    match deletion.record.processed_ms {
        None => true,
        // What arrived after the removal is new, whatever its time.
        Some(at) => now_ms.saturating_sub(at) < AFTERWARDS_MS && (key.id.timestamp_ms() as i64) < at,
    }
}

/// Whether rows of the block can only be told apart by their content.
pub(super) fn needs_content(task: &BlockTask) -> bool {
    let by_content = |stream: &u32| {
        let deletions = task.part.deletions(*stream);
        deletions.iter().any(|deletion| !deletion.is_whole())
    };
    task.part.has_deletions() && task.streams().iter().any(by_content)
}

/// Leaves out rows that are named by stream and time alone.
pub(super) fn cut(task: &BlockTask, rows: &mut Rows) {
    if !task.part.has_deletions() {
        return;
    }
    let spans = std::mem::take(&mut rows.spans);
    for span in spans {
        let mut left = vec![span.rows.clone()];
        for deletion in task.part.deletions(span.stream) {
            if deletion.is_whole() {
                let (start, end) = deletion.range();
                left = left
                    .into_iter()
                    .flat_map(|range| outside(range, &rows.ts, start, end))
                    .collect();
            }
        }
        let kept = left.into_iter().filter(|range| !range.is_empty());
        rows.spans.extend(kept.map(|range| Span {
            rows: range,
            ..span.clone()
        }));
    }
}

/// The parts of a range of rows (ascending in time) before `start` and from `end` on.
fn outside(rows: Range<u32>, ts: &[i64], start: i64, end: i64) -> [Range<u32>; 2] {
    let times = &ts[rows.start as usize..rows.end as usize];
    let first = rows.start + times.partition_point(|ts| *ts < start) as u32;
    let after = rows.start + times.partition_point(|ts| *ts < end) as u32;
    [rows.start..first, after.max(first)..rows.end]
}

/// Leaves out rows that are named by their content.
///
/// # Errors
/// When lines of the block are corrupt.
pub(super) fn sift(task: &BlockTask, rows: &mut Rows, body: &Body) -> Result<(), QueryError> {
    if !needs_content(task) {
        return Ok(());
    }
    let spans = std::mem::take(&mut rows.spans);
    let mut metadata = Vec::new();
    for span in spans {
        let mut sieves = sieves(task.part.deletions(span.stream), task, span.stream);
        if sieves.is_empty() {
            rows.spans.push(span);
            continue;
        }
        let mut open: Option<Range<u32>> = None;
        let mut kept = Vec::new();
        let lines = task.lines(body, &span.rows)?;
        for (place, row) in span.rows.clone().enumerate() {
            body.metadata(row, &mut metadata);
            let entry = EntryRef {
                ts: rows.ts[row as usize],
                line: lines.get(place, row),
                metadata: &metadata,
            };
            if sieves.iter_mut().any(|sieve| sieve.takes(&entry)) {
                kept.extend(open.take());
            } else {
                open.get_or_insert(row..row).end = row + 1;
            }
        }
        kept.extend(open);
        rows.spans.extend(kept.into_iter().map(|range| Span {
            rows: range,
            ..span.clone()
        }));
    }
    Ok(())
}

fn sieves(deletions: &[Arc<Deletion>], task: &BlockTask, stream: u32) -> Vec<Sieve> {
    let labels = &task.part.segment.streams[stream as usize].labels;
    let by_content = deletions.iter().filter(|deletion| !deletion.is_whole());
    by_content.map(|deletion| deletion.sieve(labels)).collect()
}

#[cfg(test)]
mod tests;
