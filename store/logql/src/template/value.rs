//! Values of templates.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::text::format_float_g;

/// A value. Strings are bytes: functions may cut them within a character.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Nil,
    Str(Cow<'a, [u8]>),
    Int(i64),
    /// An integer of another type.
    Typed(i64, IntType),
    Float(f64),
    Bool(bool),
    /// ns since the epoch.
    Time(i64),
    List(Vec<Value<'a>>),
    Map(BTreeMap<String, Value<'a>>),
    /// The dot at the top: all labels.
    Labels,
}

/// Integer types beside `int`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IntType {
    Int64,
    /// A byte of a string.
    Uint8,
    Month,
    Weekday,
}

impl<'a> Value<'a> {
    /// The number, of any integer type.
    pub(super) fn integer(&self) -> Option<i64> {
        match self {
            Self::Int(value) | Self::Typed(value, _) => Some(*value),
            _ => None,
        }
    }

    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Str(Cow::Owned(text.into().into_bytes()))
    }

    pub(super) fn bytes(bytes: Vec<u8>) -> Self {
        Self::Str(Cow::Owned(bytes))
    }

    pub(super) fn borrowed(text: &'a str) -> Self {
        Self::Str(Cow::Borrowed(text.as_bytes()))
    }

    /// Go's type name, for errors.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Nil => "<nil>",
            Self::Str(_) => "string",
            Self::Int(_) => "int",
            Self::Typed(_, IntType::Int64) => "int64",
            Self::Typed(_, IntType::Uint8) => "uint8",
            Self::Typed(_, IntType::Month) => "time.Month",
            Self::Typed(_, IntType::Weekday) => "time.Weekday",
            Self::Float(_) => "float64",
            Self::Bool(_) => "bool",
            Self::Time(_) => "time.Time",
            Self::List(_) => "[]interface {}",
            Self::Map(_) => "map[string]interface {}",
            Self::Labels => "map[string]string",
        }
    }

    /// Go's truth: not zero, not empty.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Str(text) => !text.is_empty(),
            Self::Int(value) | Self::Typed(value, _) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Bool(value) => *value,
            Self::Time(_) | Self::Labels => true,
            Self::List(list) => !list.is_empty(),
            Self::Map(map) => !map.is_empty(),
        }
    }

    /// Appends the value as Go's `%v` prints it.
    pub(super) fn print(&self, out: &mut Vec<u8>) {
        match self {
            Self::Nil => out.extend_from_slice(b"<nil>"),
            Self::Str(text) => out.extend_from_slice(text),
            Self::Typed(value, IntType::Month) => {
                out.extend_from_slice(super::time::month(*value).as_bytes());
            }
            Self::Typed(value, IntType::Weekday) => {
                out.extend_from_slice(super::time::weekday(*value).as_bytes());
            }
            Self::Int(value) | Self::Typed(value, _) => out.extend_from_slice(value.to_string().as_bytes()),
            Self::Float(value) => out.extend_from_slice(format_float_g(*value).as_bytes()),
            Self::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
            Self::Time(ts) => {
                out.extend_from_slice(
                    super::time::format(*ts, "2006-01-02 15:04:05.999999999 -0700 MST").as_bytes(),
                );
            }
            Self::List(list) => {
                out.push(b'[');
                for (index, item) in list.iter().enumerate() {
                    if index > 0 {
                        out.push(b' ');
                    }
                    item.print(out);
                }
                out.push(b']');
            }
            Self::Map(map) => {
                out.extend_from_slice(b"map[");
                for (index, (key, item)) in map.iter().enumerate() {
                    if index > 0 {
                        out.push(b' ');
                    }
                    out.extend_from_slice(key.as_bytes());
                    out.push(b':');
                    item.print(out);
                }
                out.push(b']');
            }
            Self::Labels => out.extend_from_slice(b"map[]"),
        }
    }

    /// The value as text, for functions that take anything.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.print(&mut out);
        out
    }

    /// From JSON.
    pub(super) fn from_json(value: serde_json::Value) -> Value<'static> {
        match value {
            serde_json::Value::Null => Value::Nil,
            serde_json::Value::Bool(value) => Value::Bool(value),
            serde_json::Value::Number(number) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
            serde_json::Value::String(text) => Value::text(text),
            serde_json::Value::Array(list) => Value::List(list.into_iter().map(Value::from_json).collect()),
            serde_json::Value::Object(map) => Value::Map(
                map.into_iter()
                    .map(|(key, value)| (key, Value::from_json(value)))
                    .collect(),
            ),
        }
    }

    /// Length as Go's `len` gives it.
    pub(super) fn length(&self) -> Option<usize> {
        match self {
            Self::Str(text) => Some(text.len()),
            Self::List(list) => Some(list.len()),
            Self::Map(map) => Some(map.len()),
            _ => None,
        }
    }

    /// As an integer, as sprig casts anything: what is no number is 0.
    pub(super) fn cast_int(&self) -> i64 {
        match self {
            // Numbers with a name of their own are none to sprig.
            Self::Typed(_, IntType::Month | IntType::Weekday) => 0,
            Self::Int(value) | Self::Typed(value, _) => *value,
            // What does not fit becomes the smallest number, as Go has it on the usual processors.
            #[allow(clippy::cast_possible_truncation, reason = "checked")]
            Self::Float(value) if value.abs() < 9_223_372_036_854_775_808.0 => *value as i64,
            Self::Float(_) => i64::MIN,
            Self::Bool(value) => i64::from(*value),
            Self::Str(text) => std::str::from_utf8(text).ok().map_or(0, parse_int),
            _ => 0,
        }
    }

    /// As a float, as sprig casts anything: what is no number is 0.
    pub(super) fn cast_float(&self) -> f64 {
        match self {
            #[allow(clippy::cast_precision_loss, reason = "as in Go")]
            Self::Int(value) | Self::Typed(value, IntType::Int64 | IntType::Uint8) => *value as f64,
            Self::Float(value) => *value,
            Self::Bool(value) => f64::from(u8::from(*value)),
            Self::Str(text) => std::str::from_utf8(text)
                .ok()
                .and_then(|text| crate::units::parse_go_float(text).ok())
                .unwrap_or(0.0),
            _ => 0.0,
        }
    }
}

/// An integer with an optional base prefix; the decimals of a plain number are cut.
fn parse_int(text: &str) -> i64 {
    let text = match text.split_once('.') {
        Some((whole, fraction)) => {
            let digits = whole.strip_prefix(['-', '+']).unwrap_or(whole);
            if !digits.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
                return 0;
            }
            if digits.is_empty() { "0" } else { whole }
        }
        _ => text,
    };
    let bytes = text.as_bytes();
    let misplaced = |at: usize| {
        let digit = |at: Option<usize>| {
            at.and_then(|at| bytes.get(at))
                .is_some_and(u8::is_ascii_alphanumeric)
        };
        bytes.get(at) == Some(&b'_') && !(digit(at.checked_sub(1)) && digit(Some(at + 1)))
    };
    if (0..bytes.len()).any(misplaced) {
        return 0;
    }
    let text = &text.replace('_', "");
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let parsed = match lower.get(..2) {
        Some("0x") => i64::from_str_radix(lower.get(2..).unwrap_or(""), 16),
        Some("0b") => i64::from_str_radix(lower.get(2..).unwrap_or(""), 2),
        Some("0o") => i64::from_str_radix(lower.get(2..).unwrap_or(""), 8),
        _ if lower.len() > 1 && lower.starts_with('0') => i64::from_str_radix(&lower, 8),
        _ => lower.parse(),
    };
    let value = parsed.unwrap_or(0);
    if negative { -value } else { value }
}
