//! Functions of Go's templates and those Loki adds; what it takes from sprig is in `sprig`.

use std::num::IntErrorKind;

use super::value::{IntType, Value};
use super::{Context, printf, sprig, time};
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
        | "println" | "html" | "js" | "urlquery" | "call" => builtin(name, &mut args, context),
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

fn url_encode(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(*byte),
            b' ' => out.push(b'+'),
            byte => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
    out
}

fn url_decode(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let digits = bytes.get(at..(at + 2).min(bytes.len())).unwrap_or(&[]);
                let text = std::str::from_utf8(digits).unwrap_or("");
                let valid = text.len() == 2 && text.bytes().all(|b| b.is_ascii_hexdigit());
                let Some(value) = valid.then(|| u8::from_str_radix(text, 16).ok()).flatten() else {
                    let shown = String::from_utf8_lossy(digits);
                    return Err(format!("invalid URL escape {}", quote_go(&format!("%{shown}"))));
                };
                out.push(value);
                at += 2;
            }
            byte => out.push(*byte),
        }
    }
    Ok(out)
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

fn builtin<'a>(name: &str, args: &mut Args<'_, 'a>, context: &'a dyn Context) -> Outcome<'a> {
    match name {
        "not" => {
            args.exactly(1)?;
            Ok(Value::Bool(!args.any().is_true()))
        }
        "eq" => {
            args.at_least(1)?;
            let (first, rest) = (args.any(), args.rest());
            if rest.is_empty() {
                return Err(Failure::Call("missing argument for comparison".to_owned()));
            }
            for other in &rest {
                if equal(&first, other)? {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        "ne" => {
            args.exactly(2)?;
            Ok(Value::Bool(!equal(&args.any(), &args.any())?))
        }
        "lt" | "le" | "gt" | "ge" => {
            args.exactly(2)?;
            let (left, right) = (args.any(), args.any());
            let (less, same) = (less(&left, &right)?, equal(&left, &right)?);
            Ok(Value::Bool(match name {
                "lt" => less,
                "le" => less || same,
                "gt" => !less && !same,
                _ => !less,
            }))
        }
        "len" => {
            args.exactly(1)?;
            let value = args.any();
            let length = match &value {
                Value::Labels => Some(context.labels().len()),
                value => value.length(),
            };
            let length = length.ok_or_else(|| Failure::Call(format!("len of type {}", value.type_name())))?;
            Ok(Value::Int(i64::try_from(length).unwrap_or(i64::MAX)))
        }
        "index" => {
            args.at_least(1)?;
            let mut value = args.any();
            for (place, index) in args.rest().into_iter().enumerate() {
                if place > 0 && value == Value::Nil {
                    return Err(Failure::Call("index of nil pointer".to_owned()));
                }
                value = element(value, &index, context)?;
            }
            Ok(value)
        }
        "slice" => slice(args),
        "print" => Ok(Value::bytes(printf::print(&args.rest()))),
        "println" => Ok(Value::bytes(printf::println(&args.rest()))),
        "printf" => {
            args.at_least(1)?;
            let format = args.bytes()?;
            bounded(printf::printf(&format, &args.rest()))
        }
        "html" | "js" | "urlquery" => {
            let rest = args.rest();
            let bytes = match rest.as_slice() {
                [one] => one.to_bytes(),
                _ => printf::print(&rest),
            };
            let escaped = match name {
                "html" => escape(&bytes, html_escape),
                "js" => escape_js(&bytes),
                _ => url_encode(&bytes),
            };
            bounded(escaped)
        }
        _ => Err(Failure::Call("call of nil".to_owned())),
    }
}

fn equal(left: &Value<'_>, right: &Value<'_>) -> Result<bool, Failure> {
    Ok(match (left, right) {
        (Value::Str(a), Value::Str(b)) => a == b,
        (a, b) if a.integer().is_some() && b.integer().is_some() => a.integer() == b.integer(),
        (Value::Float(a), Value::Float(b)) => a == b,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Time(a), Value::Time(b)) => a == b,
        (Value::Nil, Value::Nil) => true,
        (Value::Nil, _) | (_, Value::Nil) => false,
        (a, b) if is_basic(a) || is_basic(b) => return Err(incompatible(a, b)),
        (Value::Time(_), _) | (_, Value::Time(_)) => false,
        (_, b) => {
            let shown = String::from_utf8_lossy(&b.to_bytes()).into_owned();
            let kind = b.type_name();
            return Err(Failure::Call(format!("non-comparable type {shown}: {kind}")));
        }
    })
}

fn less(left: &Value<'_>, right: &Value<'_>) -> Result<bool, Failure> {
    match (left, right) {
        (Value::Str(a), Value::Str(b)) => Ok(a < b),
        (a, b) if a.integer().is_some() && b.integer().is_some() => Ok(a.integer() < b.integer()),
        (Value::Float(a), Value::Float(b)) => Ok(a < b),
        (a, b) if is_basic(a) && is_basic(b) && !matches!((a, b), (Value::Bool(_), Value::Bool(_))) => {
            Err(incompatible(a, b))
        }
        _ => Err(Failure::Call("invalid type for comparison".to_owned())),
    }
}

/// Whether the value is a number, a string or a bool.
fn is_basic(value: &Value<'_>) -> bool {
    matches!(value, Value::Str(_) | Value::Float(_) | Value::Bool(_)) || value.integer().is_some()
}

fn incompatible(left: &Value<'_>, right: &Value<'_>) -> Failure {
    let (left, right) = (left.type_name(), right.type_name());
    Failure::Call(format!("incompatible types for comparison: {left} and {right}"))
}

fn element<'a>(value: Value<'a>, index: &Value<'a>, context: &'a dyn Context) -> Outcome<'a> {
    let fail = |message: String| Err(Failure::Call(message));
    match (value, index) {
        (Value::List(mut list), index) => {
            let at = position(index, list.len())?;
            match at < list.len() {
                true => Ok(list.swap_remove(at)),
                false => fail("reflect: slice index out of range".to_owned()),
            }
        }
        (Value::Str(text), index) => match text.get(position(index, text.len())?) {
            Some(byte) => Ok(Value::Typed(i64::from(*byte), IntType::Uint8)),
            None => fail("reflect: string index out of range".to_owned()),
        },
        (Value::Map(mut map), Value::Str(key)) => Ok(map
            .remove(String::from_utf8_lossy(key).as_ref())
            .unwrap_or(Value::Nil)),
        (Value::Labels, Value::Str(key)) => {
            let value = context.label(String::from_utf8_lossy(key).as_ref());
            Ok(Value::borrowed(value.unwrap_or("")))
        }
        (Value::Map(_) | Value::Labels, Value::Nil) => {
            fail("value is nil; should be of type string".to_owned())
        }
        (Value::Map(_) | Value::Labels, other) => {
            fail(format!("value has type {}; should be string", other.type_name()))
        }
        (Value::Nil, _) => fail("index of untyped nil".to_owned()),
        (other, _) => fail(format!("can't index item of type {}", other.type_name())),
    }
}

/// An index into something of `length`; one behind the end passes here.
fn position(index: &Value<'_>, length: usize) -> Result<usize, Failure> {
    let Some(number) = index.integer() else {
        return Err(Failure::Call(match index {
            Value::Nil => "cannot index slice/array with nil".to_owned(),
            other => format!("cannot index slice/array with type {}", other.type_name()),
        }));
    };
    let position = usize::try_from(number)
        .ok()
        .filter(|position| *position <= length);
    position.ok_or_else(|| Failure::Call(format!("index out of range: {number}")))
}

fn slice<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    let value = args.any();
    let indexes = args.rest();
    let fail = |message: String| Err(Failure::Call(message));
    if indexes.len() > 3 && value != Value::Nil {
        return fail(format!("too many slice indexes: {}", indexes.len()));
    }
    let length = match &value {
        Value::Str(_) if indexes.len() == 3 => return fail("cannot 3-index slice a string".to_owned()),
        Value::Str(text) => text.len(),
        Value::List(list) => list.len(),
        Value::Nil => return fail("slice of untyped nil".to_owned()),
        other => return fail(format!("can't slice item of type {}", other.type_name())),
    };
    let mut bounds = [0, length, length];
    for (place, index) in bounds.iter_mut().zip(&indexes) {
        *place = position(index, length)?;
    }
    let [from, to, capacity] = bounds;
    for (low, high) in [(from, to), (to, capacity)] {
        if low > high {
            return fail(format!("invalid slice index: {low} > {high}"));
        }
    }
    Ok(match value {
        Value::Str(text) => Value::bytes(text.get(from..to).unwrap_or(&[]).to_vec()),
        Value::List(list) => Value::List(list.into_iter().skip(from).take(to - from).collect()),
        other => other,
    })
}

fn escape(bytes: &[u8], replacement: impl Fn(u8) -> Option<&'static str>) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for byte in bytes {
        match replacement(*byte) {
            Some(text) => out.extend_from_slice(text.as_bytes()),
            None => out.push(*byte),
        }
    }
    out
}

fn html_escape(byte: u8) -> Option<&'static str> {
    Some(match byte {
        b'\0' => "\u{fffd}",
        b'"' => "&#34;",
        b'\'' => "&#39;",
        b'&' => "&amp;",
        b'<' => "&lt;",
        b'>' => "&gt;",
        _ => return None,
    })
}

fn escape_js(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\'' => out.extend_from_slice(b"\\'"),
            b'"' => out.extend_from_slice(b"\\\""),
            b'<' => out.extend_from_slice(b"\\u003C"),
            b'>' => out.extend_from_slice(b"\\u003E"),
            b'&' => out.extend_from_slice(b"\\u0026"),
            b'=' => out.extend_from_slice(b"\\u003D"),
            byte if *byte < b' ' => out.extend_from_slice(format!("\\u{:04X}", byte).as_bytes()),
            byte => out.push(*byte),
        }
    }
    out
}
