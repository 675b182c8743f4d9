//! Which functions templates have, their arguments, and those that Loki adds; the language's own are in `builtin`, what
//! Loki takes from sprig is in `sprig`.

use std::num::IntErrorKind;

use super::escape::{url_decode, url_encode};
use super::value::Value;
use super::{Context, builtin, sprig, time};
use crate::re2;
use crate::text::quote_go;
use crate::units;

/// Bytes one function may make.
pub(super) const MAX_RESULT: usize = 1 << 20;

/// Why a call failed.
pub(super) enum Failure {
    /// The arguments do not fit.
    Usage(String),
    /// The function said no.
    Call(String),
}

pub(super) type Outcome<'a> = Result<Value<'a>, Failure>;

const NAMES: &[&str] = &[
    "__line__",
    "__timestamp__",
    "and",
    "or",
    "not",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "len",
    "index",
    "slice",
    "print",
    "printf",
    "println",
    "html",
    "js",
    "urlquery",
    "call",
    "regexReplaceAll",
    "regexReplaceAllLiteral",
    "count",
    "urlencode",
    "urldecode",
    "bytes",
    "duration",
    "duration_seconds",
    "unixEpochMillis",
    "unixEpochNanos",
    "toDateInZone",
    "unixToTime",
    "alignLeft",
    "alignRight",
    "ToLower",
    "ToUpper",
    "Replace",
    "Trim",
    "TrimLeft",
    "TrimRight",
    "TrimPrefix",
    "TrimSuffix",
    "TrimSpace",
];

/// Whether templates may call `name`.
pub(super) fn exists(name: &str) -> bool {
    NAMES.contains(&name) || sprig::NAMES.contains(&name)
}

/// The arguments of one call.
pub(super) struct Args<'n, 'a> {
    name: &'n str,
    list: std::vec::IntoIter<Value<'a>>,
}

impl<'a> Args<'_, 'a> {
    /// Checks the number of arguments.
    pub(super) fn exactly(&self, want: usize) -> Result<(), Failure> {
        let got = self.list.len();
        if got == want {
            return Ok(());
        }
        Err(Failure::Usage(format!(
            "wrong number of args for {}: want {want} got {got}",
            self.name
        )))
    }

    pub(super) fn at_least(&self, want: usize) -> Result<(), Failure> {
        let got = self.list.len();
        if got >= want {
            return Ok(());
        }
        Err(Failure::Usage(format!(
            "wrong number of args for {}: want at least {want} got {got}",
            self.name
        )))
    }

    pub(super) fn any(&mut self) -> Value<'a> {
        self.list.next().unwrap_or(Value::Nil)
    }

    pub(super) fn rest(&mut self) -> Vec<Value<'a>> {
        self.list.by_ref().collect()
    }

    fn wrong(expected: &str, value: &Value<'_>) -> Failure {
        Failure::Usage(match value {
            Value::Nil => format!("invalid value; expected {expected}"),
            value => format!(
                "wrong type for value; expected {expected}; got {}",
                value.type_name()
            ),
        })
    }

    pub(super) fn bytes(&mut self) -> Result<Vec<u8>, Failure> {
        match self.any() {
            Value::Str(text) => Ok(text.into_owned()),
            other => Err(Self::wrong("string", &other)),
        }
    }

    pub(super) fn string(&mut self) -> Result<String, Failure> {
        let bytes = self.bytes()?;
        Ok(match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let mut text = String::new();
                super::push_text(error.as_bytes(), &mut text);
                text
            }
        })
    }

    pub(super) fn int(&mut self) -> Result<i64, Failure> {
        match self.any() {
            Value::Int(value) => Ok(value),
            other => Err(Self::wrong("int", &other)),
        }
    }

    pub(super) fn time(&mut self) -> Result<i64, Failure> {
        match self.any() {
            Value::Time(ts) => Ok(ts),
            other => Err(Self::wrong("time.Time", &other)),
        }
    }
}

/// Calls a function.
pub(super) fn call<'a>(name: &str, arguments: Vec<Value<'a>>, context: &'a dyn Context) -> Outcome<'a> {
    let mut args = Args {
        name,
        list: arguments.into_iter(),
    };
    match name {
        "not" | "eq" | "ne" | "lt" | "le" | "gt" | "ge" | "len" | "index" | "slice" | "print" | "printf"
        | "println" | "html" | "js" | "urlquery" | "call" => builtin::call(name, &mut args, context),
        "ToLower" | "ToUpper" | "Replace" | "Trim" | "TrimLeft" | "TrimRight" | "TrimPrefix"
        | "TrimSuffix" | "TrimSpace" => strings(name, &mut args),
        name if sprig::NAMES.contains(&name) => sprig::call(name, &mut args),
        _ => loki(name, &mut args),
    }
}

fn loki<'a>(name: &str, args: &mut Args<'_, 'a>) -> Outcome<'a> {
    match name {
        "regexReplaceAll" | "regexReplaceAllLiteral" => {
            args.exactly(3)?;
            let regex = re2::unanchored(&args.string()?)
                .map_err(|error| Failure::Call(error.message().to_owned()))?;
            let (subject, replacement) = (args.string()?, args.string()?);
            let replaced = if name == "regexReplaceAll" {
                let expand =
                    |captures: &regex::Captures<'_>| re2::expand(&replacement, &regex.names, captures);
                regex.regex.replace_all(&subject, expand)
            } else {
                regex.regex.replace_all(&subject, regex::NoExpand(&replacement))
            };
            bounded(replaced.into_owned().into_bytes())
        }
        "count" => {
            args.exactly(2)?;
            let regex = re2::unanchored(&args.string()?)
                .map_err(|error| Failure::Call(error.message().to_owned()))?;
            let count = regex.regex.find_iter(&args.string()?).count();
            Ok(Value::Int(i64::try_from(count).unwrap_or(i64::MAX)))
        }
        "urlencode" => {
            args.exactly(1)?;
            Ok(Value::bytes(url_encode(&args.bytes()?)))
        }
        "urldecode" => {
            args.exactly(1)?;
            url_decode(&args.bytes()?)
                .map(Value::bytes)
                .map_err(Failure::Call)
        }
        "bytes" => {
            args.exactly(1)?;
            #[allow(clippy::cast_precision_loss, reason = "as in Go")]
            let value = units::parse_bytes(&args.string()?).map(|bytes| bytes as f64);
            value.map(Value::Float).map_err(Failure::Call)
        }
        "duration" | "duration_seconds" => {
            args.exactly(1)?;
            #[allow(clippy::cast_precision_loss, reason = "as in Go")]
            let value = units::parse_go_duration(&args.string()?).map(|nanos| nanos as f64 / 1e9);
            value.map(Value::Float).map_err(Failure::Call)
        }
        "unixEpochMillis" | "unixEpochNanos" => {
            args.exactly(1)?;
            let ts = args.time()?;
            let number = match name {
                "unixEpochNanos" => time::nanos(ts),
                _ => time::millis(ts),
            };
            Ok(Value::text(number.to_string()))
        }
        "toDateInZone" => {
            args.exactly(3)?;
            let (layout, zone, text) = (args.string()?, args.string()?, args.string()?);
            Ok(Value::Time(
                time::parse_in_zone(&layout, &zone, &text).unwrap_or(time::ZERO),
            ))
        }
        "unixToTime" => {
            args.exactly(1)?;
            unix_to_time(&args.string()?)
                .map(Value::Time)
                .map_err(Failure::Call)
        }
        "alignLeft" | "alignRight" => {
            args.exactly(2)?;
            align(args.int()?, &args.string()?, name == "alignRight")
        }
        _ => Err(Failure::Usage(format!(
            "{} is not a function here",
            quote_go(name)
        ))),
    }
}

/// A result that is not too long.
pub(super) fn bounded<'a>(bytes: Vec<u8>) -> Outcome<'a> {
    if bytes.len() > MAX_RESULT {
        return Err(Failure::Call(format!(
            "the result is longer than {MAX_RESULT} bytes"
        )));
    }
    Ok(Value::bytes(bytes))
}

/// Pads with blanks or cuts, counted in characters.
fn align<'a>(width: i64, text: &str, right: bool) -> Outcome<'a> {
    let length = text.chars().count();
    let Ok(width) = usize::try_from(width) else {
        return Ok(Value::text(text));
    };
    if width <= length {
        let skip = if right { length - width } else { 0 };
        return Ok(Value::text(
            text.chars().skip(skip).take(width).collect::<String>(),
        ));
    }
    if width > MAX_RESULT {
        return bounded(vec![b' '; width.min(MAX_RESULT + 1)]);
    }
    let blanks = " ".repeat(width - length);
    Ok(Value::text(if right {
        blanks + text
    } else {
        format!("{text}{blanks}")
    }))
}

/// The unit follows from the number of digits.
fn unix_to_time(text: &str) -> Result<i64, String> {
    let fail = |cause: &str| format!("unable to parse time '{text}': {cause}");
    let range = || {
        fail(&format!(
            "strconv.ParseInt: parsing {}: value out of range",
            quote_go(text)
        ))
    };
    let value: i64 = text
        .parse()
        .map_err(|error: std::num::ParseIntError| match error.kind() {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => range(),
            _ => fail(&format!(
                "strconv.ParseInt: parsing {}: invalid syntax",
                quote_go(text)
            )),
        })?;
    let scale = match text.len() {
        5 => 86_400_000_000_000,
        10 => 1_000_000_000,
        13 => 1_000_000,
        16 => 1_000,
        19 => 1,
        // Loki's text has a hole here, which clients see as it is.
        _ => return Err(fail("%!w(<nil>)")),
    };
    value.checked_mul(scale).ok_or_else(range)
}

/// Go's string functions, subject first.
fn strings<'a>(name: &str, args: &mut Args<'_, 'a>) -> Outcome<'a> {
    if name == "Replace" {
        args.exactly(4)?;
        let (subject, old, new, count) = (args.string()?, args.string()?, args.string()?, args.int()?);
        if old.is_empty() && new.len().saturating_mul(subject.len()) > MAX_RESULT {
            return bounded(vec![0; MAX_RESULT + 1]);
        }
        return bounded(
            match usize::try_from(count) {
                Ok(count) => subject.replacen(&old, &new, count),
                Err(_) => subject.replace(&old, &new),
            }
            .into_bytes(),
        );
    }
    let single = matches!(name, "ToLower" | "ToUpper" | "TrimSpace");
    args.exactly(if single { 1 } else { 2 })?;
    let subject = args.string()?;
    let other = if single { String::new() } else { args.string()? };
    let cutset = |c: char| other.contains(c);
    Ok(Value::text(match name {
        "ToLower" => subject.to_lowercase(),
        "ToUpper" => subject.to_uppercase(),
        "TrimSpace" => subject.trim().to_owned(),
        "Trim" => subject.trim_matches(cutset).to_owned(),
        "TrimLeft" => subject.trim_start_matches(cutset).to_owned(),
        "TrimRight" => subject.trim_end_matches(cutset).to_owned(),
        "TrimPrefix" => subject.strip_prefix(&other).unwrap_or(&subject).to_owned(),
        _ => subject.strip_suffix(&other).unwrap_or(&subject).to_owned(),
    }))
}
