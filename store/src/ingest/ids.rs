//! Ids of segments: ascending within a process, and each says which process gave it. Knows nothing of what they name.
//!
//! An id is a ULID. Of its 80 random bits the upper half is drawn once for the process and the lower half counts, so
//! that a replica can tell its own segments from those of others by their keys alone.

use parking_lot::Mutex;
use std::time::SystemTime;
use ulid::Ulid;

/// Bits of an id that count; as many more say whose it is.
const COUNT_BITS: u32 = 40;

/// Gives ids, each greater than all before.
#[derive(Debug)]
pub struct SegmentIds {
    process: Process,
    last: Mutex<(u64, u64)>,
}

/// The process that gave an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process(u64);

impl Process {
    /// The process that an id says it is from.
    #[must_use]
    pub fn of(id: Ulid) -> Self {
        Self((id.random() >> COUNT_BITS) as u64)
    }
}

impl SegmentIds {
    /// Ids of a process that no other shares its mark with, as far as 40 random bits can tell.
    #[must_use]
    pub fn new() -> Self {
        Self {
            process: Process::of(Ulid::generate()),
            last: Mutex::new((0, 0)),
        }
    }

    /// Whose ids these are.
    #[must_use]
    pub fn process(&self) -> Process {
        self.process
    }

    /// The next id, of the present millisecond, or of the latest one seen when the clock went back.
    pub fn next(&self) -> Ulid {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let ms = now.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
        self.at(ms)
    }

    fn at(&self, ms: u64) -> Ulid {
        let mut last = self.last.lock();
        let count = (last.1 + 1) % (1 << COUNT_BITS);
        // The count starts anew after 10^12 ids, in a later millisecond.
        let ms = ms.max(last.0 + u64::from(count == 0));
        *last = (ms, count);
        Ulid::from_parts(ms, u128::from(self.process.0) << COUNT_BITS | u128::from(count))
    }
}

impl Default for SegmentIds {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_ascend_whatever_the_clock_does_and_say_whose_they_are() {
        let (one, two) = (SegmentIds::new(), SegmentIds::new());
        let clock = [5, 5, 7, 6, 0, 7, 8];
        let ids: Vec<Ulid> = clock.iter().map(|ms| one.at(*ms)).collect();
        assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
        assert!(ids.iter().all(|id| Process::of(*id) == one.process()));
        assert_ne!(Process::of(two.next()), one.process());
    }

    #[test]
    fn the_count_starts_anew_in_a_later_millisecond() {
        let ids = SegmentIds::new();
        *ids.last.lock() = (9, (1 << COUNT_BITS) - 1);
        let before = Ulid::from_parts(
            9,
            ids.process.0 as u128 * (1 << COUNT_BITS) + (1 << COUNT_BITS) - 1,
        );
        assert!(ids.at(9) > before);
    }
}
