//! Which segments of a day to merge next. Pure: listings in, groups out; knows no storage.

use std::time::{Duration, SystemTime};

use crate::catalog::{MAX_LEVEL, SegmentKey};

/// A segment object as a listing shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) key: SegmentKey,
    /// Size of the object.
    pub(super) bytes: u64,
    /// When it was written, by the store's clock.
    pub(super) modified: SystemTime,
}

/// Segments to merge into one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// Level of the output.
    pub(super) level: u8,
    /// By id ascending.
    pub(super) inputs: Vec<Object>,
}

/// When segments of one level are merged, and how far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LevelOptions {
    /// So many neighbours are merged at once. Fewer keeps the number of segments (so a query's requests) smaller, but
    /// writes every byte more often.
    pub min_segments: usize,
    /// Most inputs of one merge: each holds one decoded block in memory.
    pub max_segments: usize,
    /// Object bytes an output should have; segments of at least half of it are not merged any more.
    pub target_bytes: u64,
    /// An output covers at most so long, or as long as one of its inputs does: a query about an hour looks at every block of a segment
    /// that has the hour's streams, and one for the newest entries can't leave blocks out that all end late.
    pub max_span: Duration,
    /// Outputs of at most so many bytes may cover any time: they are a few blocks.
    pub any_span_bytes: u64,
    /// Whether a segment that has no neighbour to be merged with goes up alone once it has settled, to be compressed harder.
    pub alone: bool,
    /// Two neighbours are enough when nothing was written beside them for so long; the more there are, the less they
    /// wait: four for half of it, eight for a quarter.
    pub settle: Duration,
}

/// Whether thresholds count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// What is worth merging by now.
    Due,
    /// Whatever can be merged.
    All,
}

/// The next group of a day's live segments, lowest level first; `None` when nothing is due.
///
/// Inputs are neighbours by id, so that entries of equal time keep their order of arrival.
pub(super) fn next(
    live: &[Object],
    levels: &[LevelOptions; MAX_LEVEL as usize + 1],
    now: SystemTime,
    urgency: Urgency,
) -> Option<Group> {
    let mut objects = live.to_vec();
    objects.sort_by_key(|object| object.key.id);
    (0..).zip(levels).find_map(|(level, options)| {
        let of_level: Vec<_> = objects
            .iter()
            .copied()
            .filter(|object| object.key.level == level)
            .collect();
        let inputs = next_of_level(&of_level, options, now, urgency)?;
        Some(Group {
            level: (level + 1).min(MAX_LEVEL),
            inputs,
        })
    })
}

fn next_of_level(
    objects: &[Object],
    options: &LevelOptions,
    now: SystemTime,
    urgency: Urgency,
) -> Option<Vec<Object>> {
    let least = if options.alone { 1 } else { 2 };
    let due = |group: &[Object]| match urgency {
        Urgency::All if group.len() > 1 => true,
        Urgency::All | Urgency::Due => group.len() >= least && is_due(group, options, now),
    };
    let mut group: Vec<Object> = Vec::new();
    let mut bytes = 0u64;
    for &object in objects {
        let full = object.bytes >= options.target_bytes / 2;
        let together = bytes.saturating_add(object.bytes);
        let too_long = together > options.any_span_bytes && spans_too_long(&group, &object, options);
        if full || too_long || together > options.target_bytes || group.len() >= options.max_segments {
            // What would cover too long with the next one is as complete as it gets.
            if due(&group) || (too_long && group.len() > 1) {
                return Some(group);
            }
            group.clear();
            bytes = 0;
        }
        if !full {
            bytes += object.bytes;
            group.push(object);
        }
    }
    due(&group).then_some(group)
}

/// Whether the group with one more object covers longer than it may.
fn spans_too_long(group: &[Object], object: &Object, options: &LevelOptions) -> bool {
    let span = |min: i64, max: i64| max.saturating_sub(min);
    let of = |object: &Object| (object.key.min_ts, object.key.max_ts);
    let (mut min, mut max) = of(object);
    let mut longest = span(min, max);
    for (other_min, other_max) in group.iter().map(of) {
        (min, max) = (min.min(other_min), max.max(other_max));
        longest = longest.max(span(other_min, other_max));
    }
    let allowed = i64::try_from(options.max_span.as_nanos()).unwrap_or(i64::MAX);
    span(min, max) > longest.max(allowed)
}

fn is_due(group: &[Object], options: &LevelOptions, now: SystemTime) -> bool {
    let bytes: u64 = group.iter().map(|object| object.bytes).sum();
    let newest = group.iter().map(|object| object.modified).max().unwrap_or(now);
    group.len() >= options.min_segments
        || bytes >= options.target_bytes / 2
        || now
            .duration_since(newest)
            .is_ok_and(|quiet| quiet >= settle(group.len(), options))
}

/// How long a group of so many waits for more.
fn settle(segments: usize, options: &LevelOptions) -> Duration {
    let pairs = u32::try_from(segments / 2).unwrap_or(u32::MAX).max(1);
    options.settle / pairs
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use ulid::Ulid;

    use super::*;
    use crate::catalog::Day;

    const LEVEL: LevelOptions = LevelOptions {
        min_segments: 4,
        max_segments: 8,
        target_bytes: 1000,
        max_span: Duration::from_secs(60),
        any_span_bytes: 50,
        alone: false,
        settle: Duration::from_secs(60),
    };

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000)
    }

    fn object(level: u8, id: u128, bytes: u64) -> Object {
        let key = SegmentKey {
            level,
            day: Day::of(0),
            min_ts: 0,
            max_ts: 1,
            id: Ulid(id),
        };
        Object {
            key,
            bytes,
            modified: now(),
        }
    }

    fn ids(group: Option<Group>) -> Vec<u128> {
        group
            .map(|group| group.inputs.iter().map(|object| object.key.id.0).collect())
            .unwrap_or_default()
    }

    fn due(live: &[Object]) -> Option<Group> {
        next(live, &[LEVEL; 3], now(), Urgency::Due)
    }

    #[test]
    fn few_small_segments_wait_until_they_are_many_large_or_old() {
        let small: Vec<_> = (1..4).map(|id| object(0, id, 10)).collect();
        assert_eq!(due(&small), None);
        assert_eq!(ids(next(&small, &[LEVEL; 3], now(), Urgency::All)), [1, 2, 3]);
        assert_eq!(
            ids(next(&small, &[LEVEL; 3], now() + LEVEL.settle, Urgency::Due)),
            [1, 2, 3]
        );
        // Three are one pair and wait as two do; of more, each pair counts.
        let mut roomy = LEVEL;
        roomy.min_segments = 8;
        let waits = |count: u128, quiet: Duration| {
            let live: Vec<_> = (1..=count).map(|id| object(0, id, 10)).collect();
            next(&live, &[roomy; 3], now() + quiet, Urgency::Due).is_none()
        };
        let just_under = |pairs: u32| LEVEL.settle / pairs - Duration::from_millis(1);
        for (count, pairs) in [(2, 1), (3, 1), (4, 2), (6, 3)] {
            assert!(waits(count, just_under(pairs)), "{count} segments");
            assert!(!waits(count, LEVEL.settle / pairs), "{count} segments");
        }
        let many: Vec<_> = (1..5).rev().map(|id| object(0, id, 10)).collect();
        assert_eq!(ids(due(&many)), [1, 2, 3, 4]);
        assert_eq!(ids(due(&[object(0, 1, 300), object(0, 2, 300)])), [1, 2]);
    }

    #[test]
    fn one_segment_is_never_a_group() {
        for urgency in [Urgency::Due, Urgency::All] {
            assert_eq!(
                next(&[object(0, 1, 400)], &[LEVEL; 3], now() + LEVEL.settle, urgency),
                None
            );
        }
    }

    #[test]
    fn where_it_pays_one_goes_up_alone_once_it_has_settled() {
        let mut levels = [LEVEL; 3];
        levels[1].alone = true;
        let live = [object(1, 1, 400)];
        assert_eq!(next(&live, &levels, now(), Urgency::Due), None);
        let group = next(&live, &levels, now() + LEVEL.settle, Urgency::Due).unwrap();
        assert_eq!((group.level, ids(Some(group))), (2, vec![1]));
        assert_eq!(next(&live, &levels, now(), Urgency::All), None);
        assert_eq!(
            next(&[object(2, 1, 400)], &levels, now() + LEVEL.settle, Urgency::All),
            None
        );
    }

    #[test]
    fn outputs_cover_no_longer_than_they_may() {
        let at = |id: u128, bytes, from: i64, to: i64| {
            let mut object = object(0, id, bytes);
            (object.key.min_ts, object.key.max_ts) = (from * 1_000_000_000, to * 1_000_000_000);
            object
        };
        let all = |live: &[Object]| ids(next(live, &[LEVEL; 3], now(), Urgency::All));
        // Nothing can be added any more: it does not wait.
        let complete = [at(1, 40, 0, 30), at(2, 40, 30, 60), at(3, 40, 60, 61)];
        assert_eq!(ids(due(&complete)), [1, 2]);
        assert_eq!(
            all(&[at(1, 40, 0, 30), at(2, 40, 30, 60), at(3, 40, 60, 61)]),
            [1, 2]
        );
        // Small ones may.
        assert_eq!(
            all(&[at(1, 20, 0, 1), at(2, 20, 900, 901), at(3, 20, 999, 1000)]),
            [1, 2]
        );
        // One that is longer itself does not keep those from merging that lie within it.
        assert_eq!(
            all(&[at(1, 40, 0, 500), at(2, 40, 300, 500), at(3, 40, 490, 501)]),
            [1, 2]
        );
    }

    #[test]
    fn outputs_stay_within_the_target_and_full_segments_stay() {
        let live = [
            object(0, 1, 400),
            object(0, 2, 400),
            object(0, 3, 400),
            object(0, 4, 400),
        ];
        assert_eq!(ids(due(&live)), [1, 2]);
        let live = [
            object(2, 1, 10),
            object(2, 2, 900),
            object(2, 3, 10),
            object(2, 4, 10),
        ];
        assert_eq!(ids(next(&live, &[LEVEL; 3], now(), Urgency::All)), [3, 4]);
        let many: Vec<_> = (1..20).map(|id| object(0, id, 1)).collect();
        assert_eq!(ids(due(&many)).len(), LEVEL.max_segments);
    }

    #[test]
    fn levels_rise_to_the_highest() {
        for (level, output) in [(0, 1), (1, 2), (2, 2)] {
            let live: Vec<_> = (1..5).map(|id| object(level, id, 10)).collect();
            assert_eq!(due(&live).unwrap().level, output);
        }
        let mixed = [object(0, 1, 10), object(1, 2, 10), object(2, 3, 10)];
        assert_eq!(next(&mixed, &[LEVEL; 3], now(), Urgency::All), None);
    }
}
