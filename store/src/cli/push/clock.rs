//! Gives every line of a source its timestamp, in the source's order and never twice the same for equal lines.
//!
//! The store keeps exact duplicates (stream, time, line, metadata) once. So lines that share a coarse time are
//! set apart by single nanoseconds, which also keeps their order.

use std::collections::{BTreeSet, HashMap, VecDeque};

use clap::ValueEnum;
use jiff::tz::TimeZone;

use super::stamp;

const SECOND_NS: i64 = 1_000_000_000;
/// The service refuses entries further ahead than ten minutes; a clock or zone is wrong long before.
const MAX_AHEAD_NS: i64 = 5 * 60 * SECOND_NS;
/// Ranks that share a file are less out of step than this; a jump further back is no clock.
const MAX_BACK_NS: i64 = 3600 * SECOND_NS;
/// So many times in a row that look wrong, but agree with each other, are right.
const AGREEING_TIMES: u32 = 3;
/// Times remembered to tell equal lines apart.
const REMEMBERED: usize = 8192;

/// Where timestamps come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Timestamps {
    /// The time the line begins with when it does, else that of the lines around it, else the time of reading
    Line,
    /// Always the time of reading (container logs and JSON records keep their own)
    Read,
}

/// The clock of one source.
#[derive(Debug)]
pub struct Clock {
    mode: Timestamps,
    zone: TimeZone,
    /// The last time found in a line, and when that line was read.
    anchor: Option<(i64, i64)>,
    /// A time that looked wrong, and how many agreed with it.
    doubted: Option<(i64, u32)>,
    last: i64,
    taken: Taken,
}

impl Clock {
    /// A clock that has seen nothing; lines' times without a zone are in `zone`.
    pub fn new(mode: Timestamps, zone: TimeZone) -> Self {
        Self {
            mode,
            zone,
            anchor: None,
            doubted: None,
            last: i64::MIN,
            taken: Taken::default(),
        }
    }

    /// Lets lines before the first one with a time have that time, instead of the time of reading.
    pub fn seed<'a>(&mut self, mut lines: impl Iterator<Item = &'a str>, now: i64) {
        if self.mode == Timestamps::Line && self.anchor.is_none() {
            let found = lines.find_map(|line| stamp::find(line, &self.zone, now).filter(|&ts| ts <= now));
            self.anchor = found.map(|ts| (ts, now));
        }
    }

    /// The timestamp of a text line read at `now`. In a `live` source the time since the last line with a time counts.
    pub fn text(&mut self, line: &str, now: i64, live: bool) -> i64 {
        let found = match self.mode {
            Timestamps::Line => stamp::find(line, &self.zone, now).filter(|&ts| self.believes(ts, now)),
            Timestamps::Read => None,
        };
        let ts = if let Some(ts) = found {
            self.anchor = Some((ts, now));
            // A hair before the last line is the same instant, written less exactly.
            let hair = 1_000_000;
            let follows = ts <= self.last && ts > self.last.saturating_sub(hair);
            self.taken
                .next_free(if follows { self.last.saturating_add(1) } else { ts })
        } else {
            let base = match self.anchor {
                Some((ts, read)) if live => ts.saturating_add(now.saturating_sub(read).max(0)),
                Some((ts, _)) => ts,
                None => now,
            };
            // The line belongs after the one before it, unless that one had a time of its own far ahead.
            let next = self.last.saturating_add(1);
            base.max(if next.saturating_sub(base) < MAX_BACK_NS {
                next
            } else {
                base
            })
        };
        self.last = ts;
        ts
    }

    /// The timestamp of a line that brings its own; only an exact repetition is moved on.
    pub fn exact(&mut self, ts: i64, line: &str) -> i64 {
        self.taken
            .unless_repeated(ts, xxhash_rust::xxh3::xxh3_64(line.as_bytes()))
    }

    fn believes(&mut self, ts: i64, now: i64) -> bool {
        if ts > now.saturating_add(MAX_AHEAD_NS) {
            return false;
        }
        let Some((anchor, _)) = self.anchor else {
            return true;
        };
        if ts >= anchor.saturating_sub(MAX_BACK_NS) {
            self.doubted = None;
            return true;
        }
        let agreeing = match self.doubted {
            Some((doubted, count)) if (ts - doubted).abs() <= MAX_BACK_NS => count + 1,
            _ => 1,
        };
        self.doubted = (agreeing < AGREEING_TIMES).then_some((ts, agreeing));
        agreeing >= AGREEING_TIMES
    }
}

/// What was given out lately.
#[derive(Debug, Default)]
struct Taken {
    /// For each coarse time, the next free nanosecond.
    next: HashMap<i64, i64>,
    next_order: VecDeque<i64>,
    lines: BTreeSet<(i64, u64)>,
}

impl Taken {
    fn next_free(&mut self, ts: i64) -> i64 {
        let order = &mut self.next_order;
        let next = self.next.entry(ts).or_insert_with(|| {
            order.push_back(ts);
            ts
        });
        let free = *next;
        *next = free.saturating_add(1);
        if self.next_order.len() > REMEMBERED
            && let Some(oldest) = self.next_order.pop_front()
        {
            self.next.remove(&oldest);
        }
        free
    }

    fn unless_repeated(&mut self, mut ts: i64, hash: u64) -> i64 {
        while !self.lines.insert((ts, hash)) {
            ts = ts.saturating_add(1);
            if ts == i64::MAX {
                break;
            }
        }
        if self.lines.len() > REMEMBERED {
            self.lines.pop_first();
        }
        ts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_767_323_100 * SECOND_NS; // 2026-01-02T03:05:00Z
    const AT_3_04_05: i64 = NOW - 55 * SECOND_NS;

    fn clock() -> Clock {
        Clock::new(Timestamps::Line, TimeZone::UTC)
    }

    #[test]
    fn lines_of_one_second_are_set_apart_in_order() {
        let mut clock = clock();
        let lines = [
            "2026-01-02 03:04:05 a",
            "2026-01-02 03:04:05 a",
            "no time",
            "2026-01-02 03:04:05 a",
            "2026-01-02 03:04:06 b",
        ];
        let times: Vec<i64> = lines
            .iter()
            .map(|l| clock.text(l, NOW, false) - AT_3_04_05)
            .collect();
        assert_eq!(times, [0, 1, 2, 3, SECOND_NS]);
    }

    #[test]
    fn a_line_without_a_time_takes_the_reading_time_until_one_is_found() {
        let mut clock = clock();
        assert_eq!(clock.text("a", NOW, true), NOW);
        assert_eq!(clock.text("b", NOW, true), NOW + 1);
        clock.text("2026-01-02 03:05:00 c", NOW + 10, true);
        assert_eq!(
            clock.text("d", NOW + 5 * SECOND_NS, true),
            NOW + 5 * SECOND_NS - 10
        );
    }

    #[test]
    fn a_replayed_file_keeps_its_own_time_from_the_first_line_on() {
        let mut clock = clock();
        clock.seed(["header", "2026-01-02 03:04:05 a"].into_iter(), NOW);
        assert_eq!(clock.text("header", NOW, false), AT_3_04_05);
        assert_eq!(clock.text("2026-01-02 03:04:05 a", NOW, false), AT_3_04_05 + 1);
    }

    #[test]
    fn a_date_in_the_text_is_no_clock() {
        let mut clock = clock();
        clock.text("2026-01-02 03:04:05 start", NOW, false);
        let doubtful = clock.text("2019-05-05 00:00:00 is the first sample", NOW, false);
        assert_eq!(doubtful, AT_3_04_05 + 1);
        assert_eq!(
            clock.text("2030-01-01 00:00:00 is the deadline", NOW, false),
            AT_3_04_05 + 2
        );
    }

    #[test]
    fn a_clock_that_was_set_back_is_believed_after_a_few_lines() {
        let mut clock = clock();
        clock.text("2026-01-02 03:04:05 a", NOW, false);
        let times: Vec<i64> = (0..4)
            .map(|i| clock.text(&format!("2025-12-01 00:00:0{i} b"), NOW, false))
            .collect();
        assert!(
            times[1] > AT_3_04_05 && times[2] < AT_3_04_05 && times[3] < AT_3_04_05,
            "{times:?}"
        );
    }

    #[test]
    fn ranks_slightly_out_of_step_keep_their_times() {
        let mut clock = clock();
        clock.text("2026-01-02 03:04:05 a", NOW, false);
        assert_eq!(
            clock.text("2026-01-02 03:04:04 b", NOW, false),
            AT_3_04_05 - SECOND_NS
        );
    }

    #[test]
    fn only_exact_repetitions_of_given_times_are_moved() {
        let mut clock = clock();
        assert_eq!(
            [clock.exact(5, "a"), clock.exact(5, "b"), clock.exact(5, "a")],
            [5, 5, 6]
        );
    }
}
