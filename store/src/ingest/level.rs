//! `detected_level`: the level of an entry as Loki derives it, so that Grafana colours the same lines the same way.
//! Looks at labels, metadata and the line; changes nothing.

use std::fmt;

use rankline_logql::{Labels, logfmt_pairs_before_fault};
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use wide::u8x16;

use crate::entry::Pair;

/// The metadata field that holds the level.
pub const DETECTED_LEVEL: &str = "detected_level";

/// Names of labels, metadata fields, JSON keys and logfmt keys that hold a level, best first (Loki's default
/// `log_level_fields`).
pub const FIELDS: [&str; 14] = [
    "level",
    "LEVEL",
    "Level",
    "log.level",
    "severity",
    "SEVERITY",
    "Severity",
    "SeverityText",
    "lvl",
    "LVL",
    "Lvl",
    "severity_text",
    "Severity_Text",
    "SEVERITY_TEXT",
];

/// Words that mean a level when a field's value is one of them.
const VALUES: [(&str, &str); 14] = [
    ("trace", "trace"),
    ("trc", "trace"),
    ("debug", "debug"),
    ("dbg", "debug"),
    ("info", "info"),
    ("inf", "info"),
    ("information", "info"),
    ("warn", "warn"),
    ("wrn", "warn"),
    ("warning", "warn"),
    ("error", "error"),
    ("err", "error"),
    ("critical", "critical"),
    ("fatal", "fatal"),
];

/// Words that mean a level when they stand alone in a line.
const WORDS: [(&str, &str); 9] = [
    ("trace", "trace"),
    ("debug", "debug"),
    ("fatal", "fatal"),
    ("critical", "critical"),
    ("error", "error"),
    ("err", "error"),
    ("warning", "warn"),
    ("warn", "warn"),
    ("info", "info"),
];

/// How deep in a JSON line the key of a level may stand.
const JSON_DEPTH: usize = 2;

/// The standard name of a level's value; other values stay as they are.
#[must_use]
pub fn normalize(value: &str) -> &str {
    known(value).unwrap_or(value)
}

fn known(value: &str) -> Option<&'static str> {
    VALUES
        .iter()
        .find(|(word, _)| value.eq_ignore_ascii_case(word))
        .map(|(_, level)| *level)
}

/// The level that the stream's labels say for all its entries, if they do.
#[must_use]
pub fn of_labels(labels: &Labels) -> Option<&str> {
    FIELDS.iter().find_map(|field| labels.get(field)).map(normalize)
}

/// The level of an entry whose stream says none. `metadata` holds no `detected_level`.
#[must_use]
pub fn of_entry<'a>(line: &'a str, metadata: &'a [Pair]) -> &'a str {
    let field = |name: &str| {
        metadata
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| &**value)
    };
    if let Some(value) = FIELDS.iter().find_map(|name| field(name)) {
        return normalize(value);
    }
    match field("severity_number") {
        Some(number) => of_severity_number(number),
        None => of_line(line),
    }
}

/// OTLP's severity numbers (OpenTelemetry logs data model, SeverityNumber).
fn of_severity_number(number: &str) -> &'static str {
    match number.parse::<i64>() {
        Err(_) => "info",
        Ok(0) => "unknown",
        Ok(..=4) => "trace",
        Ok(5..=8) => "debug",
        Ok(9..=12) => "info",
        Ok(13..=16) => "warn",
        Ok(17..=20) => "error",
        Ok(21..=24) => "fatal",
        Ok(_) => "unknown",
    }
}

/// The level a line says itself: in a JSON field, in a logfmt field, or as the first word that names one.
#[must_use]
pub fn of_line(line: &str) -> &'static str {
    let trimmed = line.trim();
    let level = if trimmed.starts_with('{') && trimmed.ends_with('}') {
        of_json(trimmed)
    } else {
        of_logfmt(line)
    };
    level.unwrap_or_else(|| of_words(line))
}

/// Bytes that are looked at together.
const WINDOW: usize = 64;

/// The first word of a line that names a level and stands between the boundaries of a word.
fn of_words(line: &str) -> &'static str {
    let bytes = line.as_bytes();
    let mut letter_before = 0;
    for (number, window) in bytes.chunks(WINDOW).enumerate() {
        let (mut starts, letters) = level_starts(window);
        starts &= !(letters << 1 | letter_before);
        letter_before = letters >> (WINDOW - 1);
        while starts != 0 {
            let at = number * WINDOW + starts.trailing_zeros() as usize;
            starts &= starts - 1;
            let (before, rest) = bytes.split_at(at);
            if before.last().is_none_or(|byte| is_left_boundary(*byte))
                && let [first, after @ ..] = rest
                && may_name_level(*first, after.first().copied())
                && let Some(level) = word_at_start(rest)
            {
                return level;
            }
        }
    }
    "unknown"
}

/// Of up to 64 bytes, a bit each: where a level's name may start, by its first two letters (more than do); and where
/// letters are.
fn level_starts(bytes: &[u8]) -> (u64, u64) {
    let mut padded = [0; WINDOW];
    let window = bytes.first_chunk().unwrap_or_else(|| {
        padded[..bytes.len()].copy_from_slice(bytes);
        &padded
    });
    let (mut first, mut second, mut letters) = (0, 0, 0);
    for (number, lane) in window.as_chunks::<16>().0.iter().enumerate() {
        let lower = u8x16::new(*lane) | u8x16::splat(0x20);
        let any_of = |these: &[u8]| {
            let found = these.iter().map(|byte| lower.simd_eq(u8x16::splat(*byte)));
            found.fold(u8x16::ZERO, |all, one| all | one)
        };
        let put = |found: u8x16| u64::from(found.to_bitmask()) << (16 * number);
        first |= put(any_of(b"tcedfwi"));
        second |= put(any_of(b"rean"));
        let letter = lower - u8x16::splat(b'a');
        letters |= put(letter.min(u8x16::splat(25)).simd_eq(letter));
    }
    // The letter behind the last one isn't seen.
    (first & (second >> 1 | 1 << (WINDOW - 1)), letters)
}

/// Whether any of [`WORDS`] begins with these two bytes: few others do, so most words of a line are passed over.
fn may_name_level(first: u8, second: Option<u8>) -> bool {
    matches!(
        (first | 0x20, second.unwrap_or_default() | 0x20),
        (b't' | b'c' | b'e', b'r') | (b'd', b'e') | (b'f' | b'w', b'a') | (b'i', b'n')
    )
}

fn word_at_start(rest: &[u8]) -> Option<&'static str> {
    let fits = |word: &str| {
        rest.get(..word.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(word.as_bytes()))
            && rest.get(word.len()).is_none_or(|next| is_right_boundary(*next))
    };
    WORDS.iter().find(|(word, _)| fits(word)).map(|(_, level)| *level)
}

/// A colon before a word is none: in `misc:error` the word is part of a name.
fn is_left_boundary(byte: u8) -> bool {
    matches!(
        byte,
        b' ' | b'\t' | b'\n' | b'[' | b'(' | b'{' | b'"' | b'\'' | b'=' | b'|'
    )
}

fn is_right_boundary(byte: u8) -> bool {
    is_left_boundary(byte) || matches!(byte, b']' | b')' | b'}' | b':' | b',' | b'!')
}

/// The best of the level fields among a line's `key=value` pairs up to the first fault, if its value is a level.
fn of_logfmt(line: &str) -> Option<&'static str> {
    // Most lines with an equals sign have no such key at all: look before parsing.
    let bytes = line.as_bytes();
    let candidate = |at: usize| {
        let head = bytes.get(..at).unwrap_or_default();
        head.last().is_some_and(|last| ends_field(*last)) && {
            let start = head.iter().rposition(|byte| *byte <= b' ' || *byte == b'"');
            let key = head.get(start.map_or(0, |start| start + 1)..).unwrap_or_default();
            std::str::from_utf8(key).ok().and_then(field_rank).is_some()
        }
    };
    if !memchr::memchr_iter(b'=', bytes).any(candidate) {
        return None;
    }
    let (_, value) = logfmt_pairs_before_fault(line)
        .filter_map(|(key, value)| Some((field_rank(key)?, value)))
        .min_by_key(|p| p.0)?;
    known(&value)
}

/// Whether any of [`FIELDS`] ends with this letter in either case.
fn ends_field(byte: u8) -> bool {
    matches!(byte | 0x20, b'l' | b'y' | b't')
}

fn field_rank(key: &str) -> Option<usize> {
    FIELDS.iter().position(|field| key.eq_ignore_ascii_case(field))
}

/// The first level field with a string value in the outer two levels of a JSON object.
fn of_json(line: &str) -> Option<&'static str> {
    let mut found = None;
    let mut deserializer = serde_json::Deserializer::from_str(line);
    // The search ends as an error, at the field or at the first fault of the line; what was found before counts.
    let _ = LevelSeed {
        depth: 0,
        found: &mut found,
    }
    .deserialize(&mut deserializer);
    found.as_deref().and_then(known)
}

/// Walks an object and keeps the first level field's value.
struct LevelSeed<'f> {
    depth: usize,
    found: &'f mut Option<String>,
}

impl<'de> DeserializeSeed<'de> for LevelSeed<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for LevelSeed<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            if self.depth >= JSON_DEPTH {
                map.next_value::<IgnoredAny>()?;
            } else if FIELDS.contains(&key.as_ref()) {
                map.next_value_seed(ValueSeed { found: self.found })?;
            } else {
                map.next_value_seed(LevelSeed {
                    depth: self.depth + 1,
                    found: self.found,
                })?;
            }
            if self.found.is_some() {
                return Err(de::Error::custom("found"));
            }
        }
        Ok(())
    }
    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
    fn visit_str<E: de::Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_bool<E: de::Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E: de::Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E: de::Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E: de::Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }
}

/// Keeps the value of a level field when it is a string.
struct ValueSeed<'f> {
    found: &'f mut Option<String>,
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let value: serde_json::Value = de::Deserialize::deserialize(deserializer)?;
        if let serde_json::Value::String(text) = value {
            *self.found = Some(text);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_says_its_level() {
        for (line, level) in [
            ("level=info a", "info"),
            ("level=Information c", "info"),
            ("loglevel=debug s", "debug"),
            ("level=DBG m", "debug"),
            ("[debug] aa", "debug"),
            ("info: z", "info"),
            ("INFO ERROR both", "info"),
            ("misc:error in a name", "unknown"),
            ("errors are words too", "unknown"),
            ("an error!", "error"),
            (r#"{"lvl":"dbg"}"#, "debug"),
            (r#"  {"a":{"level":"WARNING"}} "#, "warn"),
            (r#"{"a":{"b":{"level":"error"}}}"#, "error"),
            (r#"{"level":5,"msg":"x"}"#, "unknown"),
            (r#"{"level":"#, "unknown"),
            ("msg=\"level=error inside\" level=warn", "warn"),
            ("lvl=debug level=fatal", "fatal"),
            ("level=\"\" then a warning", "warn"),
            // Behind a fault nothing is read any more, and the words count.
            ("app=info x=\"\\q\" level=error", "info"),
            ("\"err\"=x level=trace", "error"),
            ("level=debug x=y\"z error", "debug"),
            ("", "unknown"),
            ("W1123 18:38:14 run.py:982] nothing", "unknown"),
        ] {
            assert_eq!(of_line(line), level, "{line}");
        }
    }

    #[test]
    fn every_word_of_a_level_is_looked_at() {
        for (word, level) in WORDS {
            assert_eq!(of_line(&format!("a [{word}] line")), level);
            assert_eq!(of_line(&word.to_uppercase()), level);
            assert_eq!(of_line(&format!("{word}s")), "unknown", "{word}");
        }
    }

    #[test]
    fn fields_end_as_the_quick_look_thinks() {
        for field in FIELDS {
            assert!(field.bytes().last().is_some_and(ends_field), "{field}");
            assert_eq!(of_line(&format!("a={field} {field}=error")), "error", "{field}");
        }
    }

    /// A look at each byte in turn.
    fn of_words_byte_by_byte(line: &str) -> &'static str {
        let bytes = line.as_bytes();
        (0..bytes.len())
            .filter(|at| *at == 0 || is_left_boundary(bytes[at - 1]))
            .find_map(|at| word_at_start(&bytes[at..]))
            .unwrap_or("unknown")
    }

    proptest! {
        #[test]
        fn windows_find_what_a_look_at_each_byte_finds(
            line in prop_oneof![
                any::<String>(),
                "[ a-z]{0,70}[ =:][Ww]arn(ing)?[s: ]{0,2}",
                "[ a-z.]{50,130}[ \\[][eE]rr(or)?[!, ][a-z ]{0,70}",
                "( |err|info|trace|warn|[:= ]|debug){0,40}",
            ],
        ) {
            prop_assert_eq!(of_words(&line), of_words_byte_by_byte(&line));
        }
    }

    #[test]
    fn labels_and_metadata_count_before_the_line() {
        let labels = Labels::from_pairs([("severity", "Warn")]);
        assert_eq!(of_labels(&labels), Some("warn"));
        assert_eq!(of_labels(&Labels::from_pairs([("level", "mine")])), Some("mine"));
        let metadata = |n: &'static str, v: &'static str| vec![(n.into(), v.into())];
        assert_eq!(
            of_entry("level=error", &metadata("severity_text", "INFO")),
            "info"
        );
        assert_eq!(
            of_entry("level=error", &metadata("severity_number", "17")),
            "error"
        );
        assert_eq!(of_entry("level=error", &metadata("severity_number", "x")), "info");
        assert_eq!(of_entry("level=error", &metadata("other", "x")), "error");
    }
}
