//! Times and durations as people type them → nanoseconds. The present comes in as an argument.

use jiff::civil;
use jiff::tz::TimeZone;

/// Units as Prometheus has them, and smaller ones.
const UNITS: [(&str, i64); 9] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
    ("w", 604_800_000_000_000),
    ("y", 31_536_000_000_000_000),
];

/// Reads `1h30m`, `90s`, `7d`, `1.5h`, or a number of seconds.
///
/// # Errors
/// Says what is expected.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    let wrong = || "expected a duration such as `90s`, `1h30m` or `7d`".to_owned();
    let mut rest = text;
    let mut total = 0i64;
    while !rest.is_empty() {
        let number_end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(number_end);
        let unit_end = after
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let unit = if unit.is_empty() && after.is_empty() && rest == text {
            "s"
        } else {
            unit
        };
        let &(_, scale) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let part = match number.parse::<i64>() {
            Ok(whole) => whole.checked_mul(scale),
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                reason = "bounded below"
            )]
            Err(_) => number
                .parse::<f64>()
                .ok()
                .map(|n| n * scale as f64)
                .filter(|ns| ns.is_finite() && *ns < i64::MAX as f64 / 2.0)
                .map(|ns| ns as i64),
        };
        total = part.and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
        rest = after;
    }
    if total > 0 { Ok(total) } else { Err(wrong()) }
}

/// Reads a point in time; `now` is the present.
///
/// # Errors
/// Says what is expected.
pub fn parse_time(text: &str, now: i64) -> Result<i64, String> {
    parse_time_in(text, now, &TimeZone::system())
}

fn parse_time_in(text: &str, now: i64, zone: &TimeZone) -> Result<i64, String> {
    let text = text.trim();
    if text == "now" {
        return Ok(now);
    }
    let relative = text.strip_prefix("now").unwrap_or(text);
    if let Some(duration) = relative.strip_prefix('-')
        && let Ok(back) = parse_duration(duration)
    {
        return Ok(now.saturating_sub(back));
    }
    if let Some(duration) = relative.strip_prefix('+') {
        return parse_duration(duration).map(|ahead| now.saturating_add(ahead));
    }
    epoch(text).or_else(|| calendar(text, zone)).ok_or_else(|| {
        "expected `now`, `-2h`, `2026-01-02`, `2026-01-02T03:04:05`, RFC 3339, or a number since the epoch".to_owned()
    })
}

/// Seconds (with a fraction), milliseconds, microseconds or nanoseconds: for times from 1973 on they differ in size.
fn epoch(text: &str) -> Option<i64> {
    if let Some((whole, fraction)) = text.split_once('.') {
        let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(fraction) {
            return None;
        }
        let nanos: i64 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
        return whole
            .parse::<i64>()
            .ok()?
            .checked_mul(1_000_000_000)?
            .checked_add(nanos);
    }
    let number: i64 = text.parse().ok()?;
    let scale = match text.len() {
        ..=10 => 1_000_000_000,
        11..=13 => 1_000_000,
        14..=16 => 1_000,
        _ => 1,
    };
    number.checked_mul(scale)
}

fn calendar(text: &str, zone: &TimeZone) -> Option<i64> {
    let with_zone = text.parse::<jiff::Timestamp>().ok();
    let local = || {
        let at = text.parse::<civil::DateTime>().ok().or_else(|| {
            Some(
                text.parse::<civil::Date>()
                    .ok()?
                    .to_datetime(civil::Time::midnight()),
            )
        })?;
        zone.to_timestamp(at).ok()
    };
    i64::try_from(with_zone.or_else(local)?.as_nanosecond()).ok()
}

/// A time as the API takes it: nanoseconds, or RFC 3339 where a short number would be read as seconds.
pub fn to_param(ns: i64) -> String {
    let digits = ns.to_string();
    if digits.len() > 10 {
        return digits;
    }
    jiff::Timestamp::from_nanosecond(i128::from(ns)).map_or(digits, |ts| ts.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NOW: i64 = 1_767_323_045_000_000_000; // 2026-01-02T03:04:05Z
    const HOUR: i64 = 3_600_000_000_000;

    #[test]
    fn durations() {
        for (text, ns) in [
            ("90s", 90_000_000_000),
            ("1h30m", HOUR * 3 / 2),
            ("1.5h", HOUR * 3 / 2),
            ("7d", 168 * HOUR),
            ("60", HOUR / 60),
        ] {
            assert_eq!(parse_duration(text), Ok(ns), "{text}");
        }
        for text in ["", "h", "1", "1x", "-1h", "0s", "1h30", "1..5h", "99999999999y"] {
            assert_eq!(parse_duration(text).is_ok(), text == "1", "{text}");
        }
    }

    #[test]
    fn times() {
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        for (text, ns) in [
            ("now", NOW),
            ("-2h", NOW - 2 * HOUR),
            ("now-1h30m", NOW - HOUR * 3 / 2),
            ("+1h", NOW + HOUR),
            ("2026-01-02T03:04:05Z", NOW),
            ("2026-01-02T04:04:05+01:00", NOW),
            ("2026-01-02T04:04:05", NOW),
            ("2026-01-02 04:04:05", NOW),
            ("1767323045", NOW),
            ("1767323045.5", NOW + 500_000_000),
            ("1767323045000", NOW),
            ("1767323045000000", NOW),
            ("1767323045000000000", NOW),
            ("2026-01-02", NOW - 4 * HOUR - 245_000_000_000),
        ] {
            assert_eq!(parse_time_in(text, NOW, &zone), Ok(ns), "{text}");
        }
        for text in ["", "yesterday", "2026-13-01", "-", "-h", "1.2.3", "now2"] {
            assert!(parse_time_in(text, NOW, &zone).is_err(), "{text}");
        }
    }

    #[test]
    fn parameters_are_never_read_as_seconds() {
        assert_eq!(to_param(NOW), "1767323045000000000");
        assert_eq!(to_param(5), "1970-01-01T00:00:00.000000005Z");
    }
}
