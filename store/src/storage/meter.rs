//! What one caller asks of the object store, beside the metrics that count for the whole process.
//!
//! Counts what happens inside the caller's own task: its requests are futures that it polls itself. What is spawned is
//! not counted.

use std::cell::Cell;

/// Requests that a caller made, and reads that it was spared.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Listings.
    pub lists: u64,
    /// Reads of an object or a range, whatever came of them.
    pub gets: u64,
    /// Bytes that the reads gave, gaps between wanted ranges included.
    pub bytes: u64,
    /// Ranges found in the memory cache.
    pub from_memory: u64,
    /// Ranges found in the disk cache.
    pub from_disk: u64,
}

tokio::task_local! {
    static USAGE: Cell<Usage>;
}

/// Runs `work` and gives what it asked of the store beside its answer.
pub async fn metered<T>(work: impl Future<Output = T>) -> (T, Usage) {
    let counted = async {
        let answer = work.await;
        (answer, USAGE.with(Cell::get))
    };
    USAGE.scope(Cell::default(), counted).await
}

/// Counts for the caller, if it wants to know.
pub(super) fn note(change: impl FnOnce(&mut Usage)) {
    let _ = USAGE.try_with(|cell| {
        let mut usage = cell.get();
        change(&mut usage);
        cell.set(usage);
    });
}
