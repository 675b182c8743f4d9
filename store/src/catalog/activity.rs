//! What this replica does with segments right now: queries that read them, flushes that wait to be merged. Compaction
//! looks at it to know when to come and what to leave alone. Nothing here says which segments exist.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The reads that are under way.
#[derive(Debug, Default)]
pub(super) struct Reads(Mutex<Running>);

#[derive(Debug, Default)]
struct Running {
    next: u64,
    /// When each began. Numbers ascend with time, so the first is the oldest.
    since: BTreeMap<u64, Instant>,
}

/// A read that is under way until this is dropped.
#[derive(Debug)]
pub struct Reading<'a> {
    reads: &'a Reads,
    number: u64,
}

impl Reads {
    pub(super) fn begin(&self) -> Reading<'_> {
        let mut running = self.0.lock();
        let number = running.next;
        running.next += 1;
        running.since.insert(number, Instant::now());
        Reading { reads: self, number }
    }

    pub(super) fn longest(&self) -> Option<Duration> {
        let running = self.0.lock();
        let (_, since) = running.since.first_key_value()?;
        Some(since.elapsed())
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.reads.0.lock().since.remove(&self.number);
    }
}

/// Segments this replica flushed since compaction last looked.
#[derive(Debug, Default)]
pub struct Backlog {
    /// Segments and their object bytes.
    flushed: Mutex<(u64, u64)>,
    grown: Notify,
}

impl Backlog {
    /// Counts a flushed segment of so many object bytes.
    pub fn add(&self, bytes: u64) {
        let mut flushed = self.flushed.lock();
        flushed.0 += 1;
        flushed.1 = flushed.1.saturating_add(bytes);
        self.grown.notify_one();
    }

    /// Compaction looks now.
    pub fn clear(&self) {
        *self.flushed.lock() = (0, 0);
    }

    /// Returns once there are so many segments, or so many bytes of them. For one waiter at a time.
    pub async fn reaches(&self, segments: u64, bytes: u64) {
        loop {
            let flushed = *self.flushed.lock();
            if flushed.0 >= segments || flushed.1 >= bytes {
                return;
            }
            self.grown.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_read_counts_until_it_ends() {
        let reads = Reads::default();
        assert_eq!(reads.longest(), None);
        let first = reads.begin();
        let between = Instant::now();
        let second = reads.begin();
        let least = between.elapsed();
        assert!(reads.longest() >= Some(least), "the first began before");
        drop(first);
        let left = reads.longest();
        assert!(
            left.is_some() && left <= Some(between.elapsed()),
            "the second began after"
        );
        drop(second);
        assert_eq!(reads.longest(), None);
    }

    #[tokio::test]
    async fn a_backlog_is_reached_by_number_or_by_bytes_and_clearing_begins_anew() {
        let backlog = Backlog::default();
        let reached = async |segments, bytes| {
            let wait = tokio::time::timeout(Duration::from_millis(20), backlog.reaches(segments, bytes));
            wait.await.is_ok()
        };
        backlog.add(10);
        backlog.add(20);
        assert!(reached(2, 1000).await);
        assert!(reached(100, 30).await);
        assert!(!reached(3, 31).await);
        backlog.clear();
        assert!(!reached(1, 1).await);
        let (woken, ()) = tokio::join!(reached(1, 1000), async { backlog.add(1) });
        assert!(woken, "a flush wakes who waits");
    }
}
