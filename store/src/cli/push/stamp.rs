//! Finds the time a line begins with. Pure: the present comes in as an argument.
//!
//! Understood, after rank prefixes, brackets and colours: ISO 8601 with or without a zone (`2026-01-02T03:04:05Z`,
//! `2026-01-02 03:04:05,678`, `2026/01/02 03:04:05`), glog and its relatives (`I0102 03:04:05.678901`, PyTorch's
//! `[W102 …` and `INFO 01-02 03:04:05`), and MLPerf's `:::MLLOG {… "time_ms": …}`. A time without a zone is in the
//! zone given; one without a year is in the latest year that doesn't put it into the future.

use jiff::civil;
use jiff::tz::{Offset, TimeZone};

const DAY_NS: i64 = 86_400_000_000_000;

/// The time `line` begins with, in nanoseconds since the epoch.
pub fn find(line: &str, zone: &TimeZone, now: i64) -> Option<i64> {
    let bytes = skip_prefixes(line.as_bytes());
    if let Some(rest) = bytes.strip_prefix(b":::MLLOG") {
        return mllog(rest);
    }
    let bytes = bytes.strip_prefix(b"[").unwrap_or(bytes);
    let mut text = Scanner { bytes };
    match *bytes.first()? {
        b'0'..=b'9' => text.iso(zone),
        b'A'..=b'Z' => text.without_year(zone, now),
        _ => None,
    }
}

/// Drops what launchers put before a line: colours, `[rank3]:`, `[default3]:`, `[1,3]<stdout>:`, `(worker pid=1)`, `3: `.
fn skip_prefixes(mut bytes: &[u8]) -> &[u8] {
    for _ in 0..4 {
        let rest = skip_prefix(bytes);
        if rest.len() == bytes.len() {
            break;
        }
        bytes = rest;
    }
    bytes
}

fn skip_prefix(bytes: &[u8]) -> &[u8] {
    let end = match bytes.first() {
        Some(b' ' | b'\r') => Some(1),
        Some(0x1b) => bytes.iter().take(16).position(|&b| b == b'm').map(|i| i + 1),
        // A bracketed time is no prefix but what is looked for.
        Some(b'[') if bytes.iter().skip(1).take(4).all(u8::is_ascii_digit) => None,
        Some(b'[') => bytes.iter().take(40).position(|&b| b == b']').and_then(|close| {
            let after = &bytes[close + 1..];
            let tag = [&b"<stdout>:"[..], b"<stderr>:", b":"]
                .into_iter()
                .find(|t| after.starts_with(t))?;
            Some(close + 1 + tag.len())
        }),
        Some(b'(') => bytes.iter().take(80).position(|&b| b == b')').map(|i| i + 1),
        Some(b'0'..=b'9') => {
            let digits = bytes.iter().take(7).take_while(|b| b.is_ascii_digit()).count();
            bytes[digits..].starts_with(b": ").then_some(digits + 2)
        }
        _ => None,
    };
    &bytes[end.unwrap_or(0)..]
}

fn mllog(rest: &[u8]) -> Option<i64> {
    const KEY: &[u8] = b"\"time_ms\":";
    let at = memchr::memmem::find(rest.get(..rest.len().min(300))?, KEY)? + KEY.len();
    let mut text = Scanner {
        bytes: rest[at..].trim_ascii_start(),
    };
    let digits = text.bytes.iter().take_while(|b| b.is_ascii_digit()).count();
    (digits == 13)
        .then(|| text.number(13))
        .flatten()?
        .checked_mul(1_000_000)
}

/// Reads fixed-width numbers from the front of a line.
struct Scanner<'a> {
    bytes: &'a [u8],
}

impl Scanner<'_> {
    fn number(&mut self, digits: usize) -> Option<i64> {
        let (head, rest) = self.bytes.split_at_checked(digits)?;
        let value = head.iter().try_fold(0i64, |sum, b| {
            b.is_ascii_digit().then(|| sum * 10 + i64::from(b - b'0'))
        })?;
        self.bytes = rest;
        Some(value)
    }

    fn any_of(&mut self, accepted: &[u8]) -> Option<u8> {
        let (&first, rest) = self.bytes.split_first()?;
        accepted.contains(&first).then(|| {
            self.bytes = rest;
            first
        })
    }

    /// `2026-01-02T03:04:05[.678][Z|+01:00]`, with `/` or ` ` where people use them.
    fn iso(&mut self, zone: &TimeZone) -> Option<i64> {
        let year = self.number(4)?;
        let separator = self.any_of(b"-/")?;
        let month = self.number(2)?;
        self.any_of(&[separator])?;
        let day = self.number(2)?;
        self.any_of(b"T _")?;
        let time = self.time_of_day()?;
        let zone = self.zone().unwrap_or_else(|| zone.clone());
        nanoseconds(year, month, day, time, &zone)
    }

    /// `I0102 03:04:05.678901`, `W102 …` (c10 leaves the month's zero out), `INFO 01-02 03:04:05`.
    fn without_year(&mut self, zone: &TimeZone, now: i64) -> Option<i64> {
        let letters = self.bytes.iter().take_while(|b| b.is_ascii_uppercase()).count();
        let glog = letters == 1 && b"IWEFCD".contains(&self.bytes[0]);
        self.bytes = &self.bytes[letters..];
        let (month, day) = if glog {
            let digits = self.bytes.iter().take_while(|b| b.is_ascii_digit()).count();
            (self.number(if digits == 3 { 1 } else { 2 })?, self.number(2)?)
        } else {
            self.any_of(b" ")?;
            let month = self.number(2)?;
            self.any_of(b"-")?;
            (month, self.number(2)?)
        };
        self.any_of(b" ")?;
        let time = self.time_of_day()?;
        let present = jiff::Timestamp::from_nanosecond(i128::from(now)).ok()?;
        let year = i64::from(zone.to_datetime(present).year());
        [year, year - 1]
            .into_iter()
            .filter_map(|year| nanoseconds(year, month, day, time, zone))
            .find(|&ts| ts <= now.saturating_add(DAY_NS))
    }

    fn time_of_day(&mut self) -> Option<civil::Time> {
        let hour = self.number(2)?;
        self.any_of(b":")?;
        let minute = self.number(2)?;
        self.any_of(b":")?;
        let second = self.number(2)?;
        let narrow = |value: i64| i8::try_from(value).ok();
        let fraction = i32::try_from(self.fraction()).ok()?;
        // A leap second is the last instant that clocks know of.
        civil::Time::new(narrow(hour)?, narrow(minute)?, narrow(second.min(59))?, fraction).ok()
    }

    fn fraction(&mut self) -> i64 {
        let digits = self
            .bytes
            .iter()
            .skip(1)
            .take_while(|b| b.is_ascii_digit())
            .count();
        if digits == 0 || self.any_of(b".,").is_none() {
            return 0;
        }
        let kept = digits.min(9);
        let value = self.number(kept).unwrap_or(0);
        self.bytes = &self.bytes[digits - kept..];
        (kept..9).fold(value, |v, _| v * 10)
    }

    fn zone(&mut self) -> Option<TimeZone> {
        if self.any_of(b"Z").is_some() {
            return Some(TimeZone::UTC);
        }
        let start = self.bytes;
        let space = usize::from(self.any_of(b" ").is_some());
        let found = (|| {
            let sign = if self.any_of(b"+-")? == b'-' { -1 } else { 1 };
            let hours = self.number(2)?;
            let colon = self.any_of(b":").is_some();
            let minutes = self.number(2)?;
            // After a space only the unmistakable `+0100` counts, not a dash and a number.
            let clear = space == 0 || (!colon && !self.bytes.first().is_some_and(u8::is_ascii_digit));
            let seconds = i32::try_from(sign * (hours * 3600 + minutes * 60)).ok()?;
            clear
                .then(|| Offset::from_seconds(seconds).ok())
                .flatten()
                .map(TimeZone::fixed)
        })();
        if found.is_none() {
            self.bytes = start;
        }
        found
    }
}

fn nanoseconds(year: i64, month: i64, day: i64, time: civil::Time, zone: &TimeZone) -> Option<i64> {
    let narrow = |value: i64| i8::try_from(value).ok();
    let date = civil::Date::new(i16::try_from(year).ok()?, narrow(month)?, narrow(day)?).ok()?;
    let ts = zone.to_timestamp(date.to_datetime(time)).ok()?.as_nanosecond();
    // Before 1980 it is a counter or a clock that was never set.
    i64::try_from(ts).ok().filter(|_| year >= 1980)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(text: &str) -> i64 {
        i64::try_from(text.parse::<jiff::Timestamp>().unwrap().as_nanosecond()).unwrap()
    }

    fn in_utc(line: &str) -> Option<i64> {
        find(line, &TimeZone::UTC, at("2026-03-01T00:00:00Z"))
    }

    #[test]
    fn iso_times() {
        let plain = at("2026-01-02T03:04:05Z");
        for (line, ns) in [
            ("2026-01-02T03:04:05Z x", 0),
            ("2026-01-02 03:04:05,678 - root - INFO - x", 678_000_000),
            ("[2026-01-02 03:04:05,678][root][INFO] - x", 678_000_000),
            ("2026/01/02 03:04:05 x", 0),
            ("2026-01-02T04:04:05.1234567891+01:00 x", 123_456_789),
            ("2026-01-02 04:04:05 +0100 x", 0),
            ("2026-01-02 03:04:05 - 12 x", 0),
            ("[rank0]: 2026-01-02 03:04:05.5 x", 500_000_000),
            ("[default3]:[rank3]: 2026-01-02 03:04:05 x", 0),
            ("3: 2026-01-02 03:04:05 x", 0),
            ("[1,3]<stderr>:2026-01-02 03:04:05 x", 0),
            ("\u{1b}[32m2026-01-02 03:04:05\u{1b}[0m x", 0),
            ("(RayTrainWorker pid=7, ip=10.0.0.1) 2026-01-02 03:04:05", 0),
        ] {
            assert_eq!(in_utc(line), Some(plain + ns), "{line}");
        }
    }

    #[test]
    fn times_without_a_year() {
        let plain = at("2026-01-02T03:04:05Z");
        for line in [
            "I0102 03:04:05.000000 7 run.py:766] x",
            "[W102 03:04:05.000000000 PG.cpp:1] x",
            "INFO 01-02 03:04:05 x",
        ] {
            assert_eq!(in_utc(line), Some(plain), "{line}");
        }
        assert_eq!(in_utc("E1231 23:59:59.0 x"), Some(at("2025-12-31T23:59:59Z")));
    }

    #[test]
    fn mlperf_times() {
        let line = r#"0: :::MLLOG {"namespace": "", "time_ms": 1745066769306, "event_type": "x"}"#;
        assert_eq!(in_utc(line), Some(1_745_066_769_306_000_000));
    }

    #[test]
    fn local_times_are_in_the_zone_given() {
        let zone = TimeZone::fixed(Offset::from_seconds(7200).unwrap());
        let found = find("2026-01-02 03:04:05 x", &zone, at("2026-03-01T00:00:00Z"));
        assert_eq!(found, Some(at("2026-01-02T01:04:05Z")));
    }

    #[test]
    fn other_lines_have_no_time() {
        for line in [
            "",
            " ",
            "[",
            "3: ",
            "step 10 loss 2.3",
            "2026-01-02",
            "2026-13-02 03:04:05",
            "2026-01-02 25:04:05",
            "1234567890",
            "I0102",
            "INFO x",
            "In 01-02",
            "[rank0]: loss",
            "1970-01-01 00:00:00 x",
            ":::MLLOG {}",
            "2026-01-02 03:04",
            "é2026",
        ] {
            assert_eq!(in_utc(line), None, "{line}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_line_is_safe(line in "\\PC{0,40}", digits in "[0-9:TZ+,. \\[\\]/-]{0,40}") {
            let _ = (in_utc(&line), in_utc(&digits));
        }
    }
}
