//! The names of segment objects: level, day, time range and id, readable from a listing alone.

use std::fmt;

use object_store::path::Path;
use ulid::Ulid;

/// Nanoseconds of a day.
pub const DAY_NS: i64 = 86_400_000_000_000;
/// Highest compaction level.
pub const MAX_LEVEL: u8 = 2;
/// Length of an id in a key.
const ULID_CHARS: usize = 26;
/// Digits of a timestamp in a key: enough for every i64.
const TS_DIGITS: usize = 19;

/// A UTC day, counted from the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(i32);

impl Day {
    /// The day of a timestamp (ns since the epoch).
    #[must_use]
    pub fn of(ts: i64) -> Self {
        // i64 nanoseconds are ±292 years, which is far from the bounds of i32.
        Self(ts.div_euclid(DAY_NS) as i32)
    }

    /// Its first nanosecond (the earliest that an i64 can hold, for the first such day).
    #[must_use]
    pub fn start_ns(self) -> i64 {
        i64::from(self.0).saturating_mul(DAY_NS)
    }

    /// Its last nanosecond.
    #[must_use]
    pub fn last_ns(self) -> i64 {
        self.start_ns().saturating_add(DAY_NS - 1)
    }

    /// The next day.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Days from `self` to `other`, zero when it is earlier.
    #[must_use]
    pub fn days_until(self, other: Self) -> usize {
        usize::try_from(i64::from(other.0) - i64::from(self.0)).unwrap_or(0)
    }

    /// The day a listed folder (as [`day_folder`] names it) stands for; `None` for other folders.
    #[must_use]
    pub fn of_folder(folder: &Path) -> Option<Self> {
        Self::parse(folder.filename()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let date: jiff::civil::Date = text.parse().ok()?;
        let days = date
            .since((jiff::Unit::Day, jiff::civil::date(1970, 1, 1)))
            .ok()?
            .get_days();
        // One spelling for one day, or keys could not be compared.
        (Self(days).to_string() == text).then_some(Self(days))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = jiff::Span::new().try_days(self.0);
        match span.and_then(|span| jiff::civil::date(1970, 1, 1).checked_add(span)) {
            Ok(date) => write!(f, "{date}"),
            Err(_) => write!(f, "day {}", self.0),
        }
    }
}

/// What a segment object's key says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SegmentKey {
    /// 0 as flushed, 1 and 2 compacted.
    pub level: u8,
    /// The one UTC day all its entries are of.
    pub day: Day,
    /// Earliest entry, ns since the epoch.
    pub min_ts: i64,
    /// Latest entry, ns since the epoch.
    pub max_ts: i64,
    /// Unique; ascending by time of writing on one replica.
    pub id: Ulid,
}

impl SegmentKey {
    /// The object's path below a tenant's folder.
    #[must_use]
    pub fn path(&self, tenant_root: &Path) -> Path {
        let name = format!(
            "{}-{}-{}.seg",
            ts_text(self.min_ts),
            ts_text(self.max_ts),
            self.id
        );
        day_folder(tenant_root, self.level, self.day).join(name)
    }

    /// Reads a key from an object's path; `None` when the path isn't a segment's.
    #[must_use]
    pub fn parse(path: &Path) -> Option<Self> {
        let mut parts = path.as_ref().rsplitn(4, '/');
        let (name, day, level) = (parts.next()?, parts.next()?, parts.next()?);
        let level: u8 = level.strip_prefix('L')?.parse().ok()?;
        let rest = name.strip_suffix(".seg")?;
        let (rest, id) = rest.split_at_checked(rest.len().checked_sub(ULID_CHARS)?)?;
        let (min_ts, rest) = take_ts(rest)?;
        let (max_ts, rest) = take_ts(rest.strip_prefix('-')?)?;
        let key = Self {
            level,
            day: Day::parse(day)?,
            min_ts,
            max_ts,
            id: Ulid::from_string(id).ok()?,
        };
        let sound = rest == "-"
            && level <= MAX_LEVEL
            && min_ts <= max_ts
            && Day::of(min_ts) == key.day
            && Day::of(max_ts) == key.day;
        sound.then_some(key)
    }

    /// Whether an entry in `[start, end)` could be in the segment.
    #[must_use]
    pub fn touches(&self, start: i64, end: i64) -> bool {
        self.min_ts < end && self.max_ts >= start
    }
}

/// A path between the segments of a level and day whose first entry is before `ts` and the rest. Only for times since
/// the epoch: keys of earlier ones don't sort by time.
#[must_use]
pub(super) fn from_time(tenant_root: &Path, level: u8, ts: i64) -> Path {
    day_folder(tenant_root, level, Day::of(ts)).join(ts_text(ts))
}

/// The folder of a level's segments.
#[must_use]
pub fn level_folder(tenant_root: &Path, level: u8) -> Path {
    tenant_root.clone().join("segments").join(format!("L{level}"))
}

/// The folder of a level's segments of one day.
#[must_use]
pub fn day_folder(tenant_root: &Path, level: u8, day: Day) -> Path {
    level_folder(tenant_root, level).join(day.to_string())
}

/// The day a listed folder stands for.
pub(super) fn day_of_folder(folder: &Path) -> Option<Day> {
    Day::parse(folder.filename()?)
}

fn ts_text(ts: i64) -> String {
    let sign = if ts < 0 { "-" } else { "" };
    format!("{sign}{:0TS_DIGITS$}", ts.unsigned_abs())
}

fn take_ts(text: &str) -> Option<(i64, &str)> {
    let sign = usize::from(text.starts_with('-'));
    let (number, rest) = text.split_at_checked(sign + TS_DIGITS)?;
    let digits = number.get(sign..)?;
    let plain = digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| number.parse().ok()).flatten().map(|ts| (ts, rest))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn key(min_ts: i64, max_ts: i64) -> SegmentKey {
        SegmentKey {
            level: 1,
            day: Day::of(min_ts),
            min_ts,
            max_ts,
            id: Ulid::from_parts(1, 2),
        }
    }

    #[test]
    fn a_key_has_one_spelling_and_comes_back() {
        let root = Path::from("p/tenant");
        for key in [
            key(0, 5),
            key(1_767_571_200_000_000_000, 1_767_571_200_000_000_001),
            key(-5, -1),
            key(i64::MAX, i64::MAX),
            key(i64::MIN, i64::MIN),
        ] {
            assert_eq!(SegmentKey::parse(&key.path(&root)), Some(key));
        }
        let path = key(1_767_571_200_000_000_000, 1_767_571_200_000_000_001).path(&root);
        assert_eq!(
            path.as_ref(),
            "p/tenant/segments/L1/2026-01-05/1767571200000000000-1767571200000000001-00000000010000000000000002.seg"
        );
    }

    #[test]
    fn other_objects_are_not_keys() {
        for path in [
            "t/segments/L9/2026-01-05/1767571200000000000-1767571200000000001-00000000010000000000000002.seg",
            "t/segments/L0/2026-01-06/1767571200000000000-1767571200000000001-00000000010000000000000002.seg",
            "t/segments/L0/2026-1-5/1767571200000000000-1767571200000000001-00000000010000000000000002.seg",
            "t/segments/L0/2026-01-05/1767571200000000001-1767571200000000000-00000000010000000000000002.seg",
            "t/segments/L0/2026-01-05/1767571200000000000-1767571200000000001-0000000001000000000000000.seg",
            "t/segments/L0/2026-01-05/1767571200000000000-00000000010000000000000002.seg",
            "t/segments/L0/2026-01-05/x.seg",
            "x",
        ] {
            assert_eq!(SegmentKey::parse(&Path::from(path)), None, "{path}");
        }
    }

    #[test]
    fn days_are_utc() {
        assert_eq!(Day::of(1_767_571_200_000_000_000).to_string(), "2026-01-05");
        assert_eq!(Day::of(1_767_571_199_999_999_999).to_string(), "2026-01-04");
        assert_eq!(Day::of(-1).to_string(), "1969-12-31");
        assert_eq!(Day::of(-1).last_ns(), -1);
    }
}
