//! Rows that a tail holds back for `delay_for`, so that they leave in order of time although their pushes came in
//! another order. Knows nothing of sockets; the caller has the clock.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::query::LogRow;

/// Bytes of rows that are held back; beyond it no more are taken, and the reader counts as slow.
const MAX_HELD_BYTES: usize = 16 << 20;

/// Rows on their way to a client.
///
/// Rows leave when the first of them has waited for the delay, and with them go all rows that are no younger: a row that
/// was pushed at most the delay after a younger one comes before it.
pub(super) struct Held {
    delay: Duration,
    /// In order of arrival.
    rows: Vec<LogRow>,
    bytes: usize,
    /// When each batch has waited long enough, and the time (ns since the epoch) of its latest row.
    batches: VecDeque<(Instant, i64)>,
}

impl Held {
    pub(super) fn new(delay: Duration) -> Self {
        Self {
            delay,
            rows: Vec::new(),
            bytes: 0,
            batches: VecDeque::new(),
        }
    }

    /// Whether another batch may be added.
    pub(super) fn has_room(&self) -> bool {
        self.bytes < MAX_HELD_BYTES
    }

    /// When there is next something to take.
    pub(super) fn due(&self) -> Option<Instant> {
        self.batches.front().map(|(due, _)| *due)
    }

    /// Takes in rows that were acknowledged together.
    pub(super) fn add(&mut self, rows: Vec<LogRow>, now: Instant) {
        let Some(latest) = rows.iter().map(|row| row.ts).max() else {
            return;
        };
        self.bytes += bytes(&rows);
        self.rows.extend(rows);
        self.batches.push_back((now + self.delay, latest));
    }

    /// The rows that leave now, oldest first; at one time in order of arrival.
    pub(super) fn take(&mut self, now: Instant) -> Vec<LogRow> {
        let mut until = None;
        while let Some((_, latest)) = self.batches.pop_front_if(|(due, _)| *due <= now) {
            until = until.max(Some(latest));
        }
        let Some(until) = until else {
            return Vec::new();
        };
        let mut out: Vec<LogRow> = self.rows.extract_if(.., |row| row.ts <= until).collect();
        out.sort_by_key(|row| row.ts);
        self.bytes -= bytes(&out);
        out
    }
}

fn bytes(rows: &[LogRow]) -> usize {
    rows.iter().map(|row| size_of::<LogRow>() + row.line.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rankline_logql::Labels;

    fn rows(times: &[i64]) -> Vec<LogRow> {
        let row = |ts: &i64| LogRow {
            ts: *ts,
            line: format!("line {ts}").into(),
            stream: Labels::default(),
            metadata: Labels::default(),
            parsed: Labels::default(),
        };
        times.iter().map(row).collect()
    }

    fn times(rows: &[LogRow]) -> Vec<i64> {
        rows.iter().map(|row| row.ts).collect()
    }

    #[test]
    fn without_a_delay_rows_leave_at_once_oldest_first() {
        let (mut held, now) = (Held::new(Duration::ZERO), Instant::now());
        held.add(rows(&[3, 1, 2]), now);
        assert_eq!(times(&held.take(now)), [1, 2, 3]);
        held.add(rows(&[]), now);
        assert_eq!(held.due(), None);
        assert!(held.take(now).is_empty() && held.bytes == 0);
    }

    #[test]
    fn a_row_that_is_pushed_within_the_delay_comes_before_younger_ones() {
        let second = Duration::from_secs(1);
        let (mut held, now) = (Held::new(2 * second), Instant::now());
        held.add(rows(&[20, 40]), now);
        held.add(rows(&[10, 30, 50]), now + second);
        assert_eq!(held.due(), Some(now + 2 * second));
        assert!(
            held.take(now + second).is_empty(),
            "nothing has waited for long enough"
        );
        assert_eq!(times(&held.take(now + 2 * second)), [10, 20, 30, 40]);
        assert_eq!(held.due(), Some(now + 3 * second));
        // Too late to be in its place.
        held.add(rows(&[25]), now + 2 * second);
        assert_eq!(times(&held.take(now + 3 * second)), [25, 50]);
        assert_eq!(held.bytes, 0);
    }

    #[test]
    fn what_is_held_is_bounded() {
        let (mut held, now) = (Held::new(Duration::from_secs(5)), Instant::now());
        let mut large = rows(&[1]);
        large[0].line = "x".repeat(MAX_HELD_BYTES).into();
        held.add(large, now);
        assert!(!held.has_room());
        held.take(now + Duration::from_secs(5));
        assert!(held.has_room());
    }
}
