//! Go's time layouts (`2006-01-02 15:04:05`), in UTC unless a zone is named.

use jiff::Timestamp;
use jiff::civil::{DateTime, date};
use jiff::tz::TimeZone;

use super::value::{IntType, Value};

/// Go's zero time cannot be held in ns since the epoch; the earliest time stands for it.
pub(super) const ZERO: i64 = i64::MIN;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

/// Pieces of layouts; longer ones before those they start with.
const PIECES: &[&str] = &[
    "January",
    "Jan",
    "Monday",
    "Mon",
    "MST",
    "2006",
    "002",
    "01",
    "02",
    "03",
    "04",
    "05",
    "06",
    "15",
    "__2",
    "_2",
    "-070000",
    "-07:00:00",
    "-0700",
    "-07:00",
    "-07",
    "Z070000",
    "Z07:00:00",
    "Z0700",
    "Z07:00",
    "Z07",
    "PM",
    "pm",
    "1",
    "2",
    "3",
    "4",
    "5",
];

/// The layout's next piece: `Ok` a piece, `Err` literal text up to the next piece.
fn next_piece(layout: &str) -> (Result<&str, &str>, &str) {
    for (at, c) in layout.char_indices() {
        let rest = layout.get(at..).unwrap_or("");
        let fraction = fraction_length(rest);
        let piece = PIECES
            .iter()
            .find(|piece| rest.starts_with(**piece))
            .map(|piece| piece.len());
        let length = if fraction > 0 { Some(fraction) } else { piece };
        let Some(length) = length else { continue };
        // "Jan" within a longer word is no month.
        let followed_by_lower = rest
            .get(length..)
            .unwrap_or("")
            .starts_with(|c: char| c.is_ascii_lowercase());
        if matches!(rest.get(..length), Some("Jan" | "Mon")) && followed_by_lower {
            continue;
        }
        if at > 0 {
            return (Err(layout.get(..at).unwrap_or("")), rest);
        }
        let _ = c;
        return (
            Ok(rest.get(..length).unwrap_or("")),
            rest.get(length..).unwrap_or(""),
        );
    }
    (Err(layout), "")
}

/// `.000`, `,999` and the like, not followed by a digit.
fn fraction_length(text: &str) -> usize {
    let Some(body) = text.strip_prefix(['.', ',']) else {
        return 0;
    };
    let Some(digit) = body.chars().next().filter(|c| matches!(c, '0' | '9')) else {
        return 0;
    };
    let digits = body.len() - body.trim_start_matches(digit).len();
    let followed = body
        .get(digits..)
        .unwrap_or("")
        .starts_with(|c: char| c.is_ascii_digit());
    if followed { 0 } else { digits + 1 }
}

fn civil(ts: i64) -> DateTime {
    if ts == ZERO {
        return date(1, 1, 1).at(0, 0, 0, 0);
    }
    let timestamp = Timestamp::from_nanosecond(i128::from(ts)).unwrap_or(Timestamp::UNIX_EPOCH);
    TimeZone::UTC.to_datetime(timestamp)
}

/// The time in a layout, in UTC.
pub(super) fn format(ts: i64, layout: &str) -> String {
    let at = civil(ts);
    let mut out = String::new();
    let mut rest = layout;
    while !rest.is_empty() {
        let (piece, after) = next_piece(rest);
        rest = after;
        match piece {
            Ok(piece) => out.push_str(&format_piece(piece, at)),
            Err(text) => out.push_str(text),
        }
    }
    out
}

fn format_piece(piece: &str, at: DateTime) -> String {
    let month = MONTHS
        .get(usize::try_from(at.month() - 1).unwrap_or(0))
        .copied()
        .unwrap_or("");
    let weekday = usize::try_from(at.weekday().to_sunday_zero_offset()).unwrap_or(0);
    let weekday = DAYS.get(weekday).copied().unwrap_or("");
    let twelve = match at.hour() % 12 {
        0 => 12,
        hour => hour,
    };
    match piece {
        "January" => month.to_owned(),
        "Jan" => month.get(..3).unwrap_or("").to_owned(),
        "Monday" => weekday.to_owned(),
        "Mon" => weekday.get(..3).unwrap_or("").to_owned(),
        "MST" => "UTC".to_owned(),
        "2006" => format!("{:04}", at.year()),
        "06" => format!("{:02}", at.year().rem_euclid(100)),
        "002" => format!("{:03}", at.date().day_of_year()),
        "__2" => format!("{:3}", at.date().day_of_year()),
        "01" => format!("{:02}", at.month()),
        "1" => at.month().to_string(),
        "02" => format!("{:02}", at.day()),
        "_2" => format!("{:2}", at.day()),
        "2" => at.day().to_string(),
        "15" => format!("{:02}", at.hour()),
        "03" => format!("{twelve:02}"),
        "3" => twelve.to_string(),
        "04" => format!("{:02}", at.minute()),
        "4" => at.minute().to_string(),
        "05" => format!("{:02}", at.second()),
        "5" => at.second().to_string(),
        "PM" => if at.hour() < 12 { "AM" } else { "PM" }.to_owned(),
        "pm" => if at.hour() < 12 { "am" } else { "pm" }.to_owned(),
        "-0700" => "+0000".to_owned(),
        "-07:00" => "+00:00".to_owned(),
        "-07" => "+00".to_owned(),
        "-070000" => "+000000".to_owned(),
        "-07:00:00" => "+00:00:00".to_owned(),
        piece if piece.starts_with('Z') => "Z".to_owned(),
        piece => fraction(piece, at.subsec_nanosecond()),
    }
}

/// The name of a month, from 1.
pub(super) fn month(number: i64) -> &'static str {
    let index = usize::try_from(number - 1).ok();
    index.and_then(|index| MONTHS.get(index)).copied().unwrap_or("")
}

/// The name of a day, Sunday is 0.
pub(super) fn weekday(number: i64) -> &'static str {
    let index = usize::try_from(number).ok();
    index.and_then(|index| DAYS.get(index)).copied().unwrap_or("")
}

fn fraction(piece: &str, nanos: i32) -> String {
    let digits = piece.len() - 1;
    let text = format!("{nanos:09}");
    let mut text = text.get(..digits.min(9)).unwrap_or("").to_owned();
    if piece.contains('9') {
        text.truncate(text.trim_end_matches('0').len());
        if text.is_empty() {
            return String::new();
        }
    }
    format!("{}{text}", piece.get(..1).unwrap_or("."))
}

/// Seconds since the epoch.
pub(super) fn seconds(ts: i64) -> i64 {
    match ts {
        ZERO => -62_135_596_800,
        ts => ts.div_euclid(1_000_000_000),
    }
}

/// Milliseconds since the epoch.
pub(super) fn millis(ts: i64) -> i64 {
    match ts {
        ZERO => seconds(ts) * 1_000,
        ts => ts.div_euclid(1_000_000),
    }
}

/// Nanoseconds since the epoch; for the zero time what Go's arithmetic leaves of them.
pub(super) fn nanos(ts: i64) -> i64 {
    match ts {
        ZERO => seconds(ts).wrapping_mul(1_000_000_000),
        ts => ts,
    }
}

/// What a method or accessor of a time gives.
pub(super) fn method(ts: i64, name: &str) -> Option<Value<'static>> {
    let at = civil(ts);
    let seconds = seconds(ts);
    Some(match name {
        "Unix" => Value::Typed(seconds, IntType::Int64),
        "UnixMilli" => Value::Typed(millis(ts), IntType::Int64),
        "UnixMicro" if ts == ZERO => Value::Typed(seconds * 1_000_000, IntType::Int64),
        "UnixMicro" => Value::Typed(ts.div_euclid(1_000), IntType::Int64),
        "UnixNano" => Value::Typed(nanos(ts), IntType::Int64),
        "Nanosecond" => Value::Int(ts.rem_euclid(1_000_000_000)),
        "Second" => Value::Int(i64::from(at.second())),
        "Minute" => Value::Int(i64::from(at.minute())),
        "Hour" => Value::Int(i64::from(at.hour())),
        "Day" => Value::Int(i64::from(at.day())),
        "YearDay" => Value::Int(i64::from(at.date().day_of_year())),
        "Year" => Value::Int(i64::from(at.year())),
        "Month" => Value::Typed(i64::from(at.month()), IntType::Month),
        "Weekday" => {
            let day = at.weekday().to_sunday_zero_offset();
            Value::Typed(i64::from(day), IntType::Weekday)
        }
        "UTC" | "Local" => Value::Time(ts),
        "IsZero" => Value::Bool(ts == ZERO),
        "String" => Value::text(format(ts, "2006-01-02 15:04:05.999999999 -0700 MST")),
        _ => return None,
    })
}

/// Reads a time in a layout, in UTC unless it says otherwise; ns since the epoch.
pub(super) fn parse(layout: &str, text: &str) -> Option<i64> {
    parse_with(layout, text, &TimeZone::UTC)
}

/// As [`parse`], in a named zone.
pub(super) fn parse_in_zone(layout: &str, zone: &str, text: &str) -> Option<i64> {
    let zone = match zone {
        "" | "UTC" | "Local" => TimeZone::UTC,
        name => TimeZone::get(name).ok()?,
    };
    parse_with(layout, text, &zone)
}

#[derive(Default)]
struct Fields {
    year: i16,
    month: i8,
    day: i8,
    year_day: i16,
    hour: i8,
    afternoon: Option<bool>,
    minute: i8,
    second: i8,
    nanos: i32,
    offset: Option<i32>,
}

fn parse_with(layout: &str, text: &str, zone: &TimeZone) -> Option<i64> {
    let mut fields = Fields {
        month: 1,
        day: 1,
        ..Fields::default()
    };
    let (mut layout, mut text) = (layout, text);
    while !layout.is_empty() {
        let (piece, after) = next_piece(layout);
        layout = after;
        text = match piece {
            Err(literal) => text.strip_prefix(literal)?,
            Ok(piece) => fields.read(piece, text)?,
        };
        // A fraction may follow the seconds without standing in the layout.
        if matches!(piece, Ok("05" | "5")) && text.starts_with(['.', ',']) && fraction_length(layout) == 0 {
            text = fields.read(".999999999", text)?;
        }
    }
    if !text.is_empty() {
        return None;
    }
    fields.finish(zone)
}

impl Fields {
    /// Reads one piece and gives what follows.
    fn read<'t>(&mut self, piece: &str, text: &'t str) -> Option<&'t str> {
        match piece {
            "January" | "Jan" => {
                let long = piece == "January";
                let matches = |name: &&str| {
                    let name = if long { *name } else { name.get(..3).unwrap_or("") };
                    text.get(..name.len())
                        .is_some_and(|head| head.eq_ignore_ascii_case(name))
                };
                let index = MONTHS.iter().position(matches)?;
                self.month = i8::try_from(index + 1).ok()?;
                text.get(if long { MONTHS.get(index)?.len() } else { 3 }..)
            }
            "Monday" | "Mon" => {
                let length = if piece == "Mon" {
                    3
                } else {
                    DAYS.iter()
                        .find(|name| {
                            text.get(..name.len())
                                .is_some_and(|h| h.eq_ignore_ascii_case(name))
                        })?
                        .len()
                };
                text.get(length..)
            }
            "MST" => {
                let length = text.find(|c: char| !c.is_ascii_uppercase()).unwrap_or(text.len());
                if matches!(text.get(..length)?, "UTC" | "GMT" | "Z") {
                    self.offset = Some(0);
                }
                (length > 0).then(|| text.get(length..)).flatten()
            }
            "PM" | "pm" => {
                let head = text.get(..2)?.to_ascii_uppercase();
                self.afternoon = Some(match head.as_str() {
                    "AM" => false,
                    "PM" => true,
                    _ => return None,
                });
                text.get(2..)
            }
            "2006" => {
                let (year, rest) = digits(text, 4, 4)?;
                self.year = i16::try_from(year).ok()?;
                Some(rest)
            }
            "06" => {
                let (year, rest) = digits(text, 2, 2)?;
                self.year = i16::try_from(if year >= 69 { year + 1900 } else { year + 2000 }).ok()?;
                Some(rest)
            }
            "002" | "__2" => {
                let (day, rest) = digits(text.trim_start(), 1, 3)?;
                self.year_day = i16::try_from(day).ok()?;
                Some(rest)
            }
            piece if piece.starts_with(['-', 'Z']) => self.read_offset(piece, text),
            piece if piece.starts_with(['.', ',']) => self.read_fraction(piece, text),
            piece => {
                let two = piece.len() == 2 && !piece.starts_with('_') && piece != "15";
                let (value, rest) = digits(text.trim_start(), if two { 2 } else { 1 }, 2)?;
                let value = i8::try_from(value).ok()?;
                match piece {
                    "01" | "1" => self.month = value,
                    "02" | "_2" | "2" => self.day = value,
                    "15" | "03" | "3" => self.hour = value,
                    "04" | "4" => self.minute = value,
                    _ => self.second = value,
                }
                Some(rest)
            }
        }
    }

    fn read_offset<'t>(&mut self, piece: &str, text: &'t str) -> Option<&'t str> {
        if piece.starts_with('Z')
            && let Some(rest) = text.strip_prefix('Z')
        {
            self.offset = Some(0);
            return Some(rest);
        }
        let negative = text.starts_with('-');
        let mut rest = text.strip_prefix(['+', '-'])?;
        let mut parts = [0; 3];
        let count = piece.bytes().filter(u8::is_ascii_digit).count() / 2;
        for (index, part) in parts.iter_mut().take(count).enumerate() {
            if index > 0 && piece.contains(':') {
                rest = rest.strip_prefix(':')?;
            }
            let (value, after) = digits(rest, 2, 2)?;
            *part = i32::try_from(value).ok()?;
            rest = after;
        }
        let [hours, minutes, seconds] = parts;
        let offset = hours * 3600 + minutes * 60 + seconds;
        self.offset = Some(if negative { -offset } else { offset });
        Some(rest)
    }

    fn read_fraction<'t>(&mut self, piece: &str, text: &'t str) -> Option<&'t str> {
        let Some(body) = text.strip_prefix(['.', ',']) else {
            return piece.contains('9').then_some(text);
        };
        let length = body.find(|c: char| !c.is_ascii_digit()).unwrap_or(body.len());
        let shown: String = body
            .get(..length)?
            .chars()
            .chain("000000000".chars())
            .take(9)
            .collect();
        self.nanos = shown.parse().ok()?;
        body.get(length..)
    }

    fn finish(self, zone: &TimeZone) -> Option<i64> {
        let hour = match self.afternoon {
            Some(true) if self.hour < 12 => self.hour + 12,
            Some(false) if self.hour == 12 => 0,
            _ => self.hour,
        };
        jiff::civil::Date::new(self.year, self.month, self.day).ok()?;
        let mut day = date(self.year, self.month, self.day);
        if self.year_day > 0 {
            day = jiff::civil::Date::new(self.year, 1, 1)
                .ok()?
                .checked_add(jiff::Span::new().try_days(i64::from(self.year_day) - 1).ok()?)
                .ok()?;
        }
        let time = jiff::civil::Time::new(hour, self.minute, self.second, self.nanos).ok()?;
        let at = DateTime::from_parts(day, time);
        let timestamp = match self.offset {
            Some(seconds) => {
                let offset = jiff::tz::Offset::from_seconds(seconds).ok()?;
                offset.to_timestamp(at).ok()?
            }
            None => zone.to_timestamp(at).ok()?,
        };
        i64::try_from(timestamp.as_nanosecond()).ok()
    }
}

/// A number of `min` to `max` digits, and what follows.
fn digits(text: &str, min: usize, max: usize) -> Option<(i64, &str)> {
    let length = text.bytes().take(max).take_while(u8::is_ascii_digit).count();
    if length < min {
        return None;
    }
    Some((text.get(..length)?.parse().ok()?, text.get(length..)?))
}
