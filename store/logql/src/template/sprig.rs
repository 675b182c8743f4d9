//! The functions Loki takes from the sprig library; the subject comes last.

use super::decimal::Decimal;
use super::funcs::{Args, Failure, MAX_RESULT, Outcome, bounded};
use super::time;
use super::value::{IntType, Value};

pub(super) const NAMES: &[&str] = &[
    "b64enc",
    "b64dec",
    "lower",
    "upper",
    "title",
    "trunc",
    "substr",
    "contains",
    "hasPrefix",
    "hasSuffix",
    "indent",
    "nindent",
    "replace",
    "repeat",
    "trim",
    "trimAll",
    "trimSuffix",
    "trimPrefix",
    "int",
    "float64",
    "add",
    "sub",
    "mul",
    "div",
    "mod",
    "addf",
    "subf",
    "mulf",
    "divf",
    "max",
    "min",
    "maxf",
    "minf",
    "ceil",
    "floor",
    "round",
    "fromJson",
    "date",
    "toDate",
    "now",
    "unixEpoch",
    "default",
];

/// Calls a function.
pub(super) fn call<'a>(name: &str, args: &mut Args<'_, 'a>) -> Outcome<'a> {
    match name {
        "add" | "sub" | "mul" | "div" | "mod" | "max" | "min" | "int" => integers(name, args),
        "addf" | "subf" | "mulf" | "divf" => decimals(name, args),
        "maxf" | "minf" | "ceil" | "floor" | "round" | "float64" => floats(name, args),
        "fromJson" | "date" | "toDate" | "now" | "unixEpoch" | "default" => values(name, args),
        _ => texts(name, args),
    }
}

fn integers<'a>(name: &str, args: &mut Args<'_, 'a>) -> Outcome<'a> {
    let want = if name == "add" { 0 } else { 1 };
    args.at_least(want)?;
    let list: Vec<i64> = args.rest().iter().map(Value::cast_int).collect();
    let mut numbers = list.into_iter();
    let first = numbers.next().unwrap_or(0);
    let zero = || Failure::Call("runtime error: integer divide by zero".to_owned());
    let mut result = first;
    for next in numbers {
        result = match name {
            "add" => result.wrapping_add(next),
            "sub" => result.wrapping_sub(next),
            "mul" => result.wrapping_mul(next),
            "div" if next == 0 => return Err(zero()),
            "div" => result.wrapping_div(next),
            "mod" if next == 0 => return Err(zero()),
            "mod" => result.wrapping_rem(next),
            "max" => result.max(next),
            "min" => result.min(next),
            _ => result,
        };
    }
    Ok(match name {
        "int" => Value::Int(result),
        _ => Value::Typed(result, IntType::Int64),
    })
}

fn floats<'a>(name: &str, args: &mut Args<'_, 'a>) -> Outcome<'a> {
    args.at_least(1)?;
    if name == "round" {
        let (value, places) = (args.any().cast_float(), args.any().cast_int());
        let at = args.rest().first().map_or(0.5, Value::cast_float);
        return Ok(Value::Float(round(value, places, at)));
    }
    let list: Vec<f64> = args.rest().iter().map(Value::cast_float).collect();
    let mut numbers = list.into_iter();
    let mut result = numbers.next().unwrap_or(0.0);
    match name {
        "ceil" => return Ok(Value::Float(result.ceil())),
        "floor" => return Ok(Value::Float(result.floor())),
        _ => {}
    }
    for next in numbers {
        result = match name {
            _ if result.is_nan() || next.is_nan() => f64::NAN,
            "maxf" => result.max(next),
            _ => result.min(next),
        };
    }
    Ok(Value::Float(result))
}

fn decimals<'a>(name: &str, args: &mut Args<'_, 'a>) -> Outcome<'a> {
    args.at_least(usize::from(name != "addf"))?;
    let mut numbers = args
        .rest()
        .into_iter()
        .map(|value| decimal(Value::cast_float(&value)));
    let mut result = numbers.next().unwrap_or_else(|| decimal(0.0))?;
    for next in numbers {
        let next = next?;
        result = match name {
            "addf" => result.plus(next),
            "subf" => result.minus(next),
            "mulf" => result.times(next),
            _ if next.is_zero() => return Err(Failure::Call("decimal division by 0".to_owned())),
            _ => result.over(next),
        };
    }
    Ok(Value::Float(result.to_float()))
}

/// A number that decimal arithmetic can take.
fn decimal(value: f64) -> Result<Decimal, Failure> {
    Decimal::from_float(value).ok_or_else(|| {
        let shown = crate::text::format_float_g(value);
        Failure::Call(format!("Cannot create a Decimal from {shown}"))
    })
}

/// Up where the fraction reaches `at`, else down: below zero that is away from it.
fn round(value: f64, places: i64, at: f64) -> f64 {
    let limit = |places: i64| i32::try_from(places.clamp(-400, 400)).unwrap_or(0);
    let scale = 10_f64.powi(limit(places));
    let scaled = value * scale;
    let rounded = if scaled.fract() >= at {
        scaled.ceil()
    } else {
        scaled.floor()
    };
    rounded / scale
}

fn values<'a>(name: &str, args: &mut Args<'_, 'a>) -> Outcome<'a> {
    match name {
        "fromJson" => {
            args.exactly(1)?;
            let parsed = serde_json::from_slice::<serde_json::Value>(&args.bytes()?);
            Ok(parsed.map_or(Value::Nil, Value::from_json))
        }
        "date" => {
            args.exactly(2)?;
            let layout = args.string()?;
            let ts = match args.any() {
                Value::Time(ts) => ts,
                Value::Int(seconds) | Value::Typed(seconds, IntType::Int64) => {
                    seconds.saturating_mul(1_000_000_000)
                }
                _ => now(),
            };
            Ok(Value::text(time::format(ts, &layout)))
        }
        "toDate" => {
            args.exactly(2)?;
            let (layout, text) = (args.string()?, args.string()?);
            Ok(Value::Time(time::parse(&layout, &text).unwrap_or(time::ZERO)))
        }
        "now" => {
            args.exactly(0)?;
            Ok(Value::Time(now()))
        }
        "unixEpoch" => {
            args.exactly(1)?;
            Ok(Value::text(time::seconds(args.time()?).to_string()))
        }
        _ => {
            args.at_least(1)?;
            let fallback = args.any();
            let given = args.rest().into_iter().next();
            Ok(given.filter(Value::is_true).unwrap_or(fallback))
        }
    }
}

fn now() -> i64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

fn texts<'a>(name: &str, args: &mut Args<'_, 'a>) -> Outcome<'a> {
    match name {
        "lower" | "upper" | "title" | "trim" | "b64enc" | "b64dec" => {
            args.exactly(1)?;
            let text = args.string()?;
            Ok(Value::text(match name {
                "lower" => text.to_lowercase(),
                "upper" => text.to_uppercase(),
                "title" => title(&text),
                "trim" => text.trim().to_owned(),
                "b64enc" => base64_encode(text.as_bytes()),
                _ => match base64_decode(padded(text).as_bytes()) {
                    Ok(bytes) => return Ok(Value::bytes(bytes)),
                    // The error's text is the value.
                    Err(error) => error,
                },
            }))
        }
        "trunc" => {
            args.exactly(2)?;
            let (count, text) = (args.int()?, args.bytes()?);
            let length = i64::try_from(text.len()).unwrap_or(i64::MAX);
            let (from, to) = if count < 0 {
                ((length + count).max(0), length)
            } else {
                (0, count.min(length))
            };
            Ok(Value::bytes(cut(&text, from, to)))
        }
        "substr" => {
            args.exactly(3)?;
            let (start, end, text) = (args.int()?, args.int()?, args.bytes()?);
            substr(start, end, &text)
        }
        "contains" | "hasPrefix" | "hasSuffix" => {
            args.exactly(2)?;
            let (needle, text) = (args.bytes()?, args.bytes()?);
            Ok(Value::Bool(match name {
                "contains" => memchr::memmem::find(&text, &needle).is_some(),
                "hasPrefix" => text.starts_with(&needle),
                _ => text.ends_with(&needle),
            }))
        }
        "indent" | "nindent" | "repeat" => {
            args.exactly(2)?;
            let (count, text) = (args.int()?, args.string()?);
            let count = usize::try_from(count)
                .map_err(|_| Failure::Call("strings: negative Repeat count".to_owned()))?;
            let pieces = if name == "repeat" {
                text.len()
            } else {
                text.matches('\n').count() + 1
            };
            if count.saturating_mul(pieces) > MAX_RESULT {
                return Err(Failure::Call(format!(
                    "the result is longer than {MAX_RESULT} bytes"
                )));
            }
            if name == "repeat" {
                return Ok(Value::text(text.repeat(count)));
            }
            let blanks = " ".repeat(count);
            let lead = if name == "nindent" { "\n" } else { "" };
            Ok(Value::text(format!(
                "{lead}{blanks}{}",
                text.replace('\n', &format!("\n{blanks}"))
            )))
        }
        "replace" => {
            args.exactly(3)?;
            let (old, new, text) = (args.string()?, args.string()?, args.string()?);
            if new.len().saturating_mul(text.len() + 1) > 64 * MAX_RESULT {
                return Err(Failure::Call(format!(
                    "the result is longer than {MAX_RESULT} bytes"
                )));
            }
            bounded(text.replace(&old, &new).into_bytes())
        }
        _ => {
            args.exactly(2)?;
            let (other, text) = (args.string()?, args.string()?);
            Ok(Value::text(match name {
                "trimAll" => text.trim_matches(|c| other.contains(c)),
                "trimSuffix" => text.strip_suffix(&other).unwrap_or(&text),
                _ => text.strip_prefix(&other).unwrap_or(&text),
            }))
        }
    }
}

fn cut(text: &[u8], from: i64, to: i64) -> Vec<u8> {
    let index = |at: i64| usize::try_from(at).unwrap_or(0);
    text.get(index(from)..index(to)).unwrap_or(&[]).to_vec()
}

fn substr<'a>(start: i64, end: i64, text: &[u8]) -> Outcome<'a> {
    let length = i64::try_from(text.len()).unwrap_or(i64::MAX);
    let out_of_range = |bounds: String| {
        Err(Failure::Call(format!(
            "runtime error: slice bounds out of range [{bounds}]"
        )))
    };
    if start < 0 {
        return if end < 0 || end > length {
            Err(Failure::Call(if end < 0 {
                format!("runtime error: slice bounds out of range [:{end}]")
            } else {
                format!("runtime error: slice bounds out of range [:{end}] with length {length}")
            }))
        } else {
            Ok(Value::bytes(cut(text, 0, end)))
        };
    }
    let end = if end < 0 || end > length { length } else { end };
    if start > end {
        return out_of_range(format!("{start}:{end}"));
    }
    Ok(Value::bytes(cut(text, start, end)))
}

/// The first letter of each word in upper case.
fn title(text: &str) -> String {
    let mut previous = ' ';
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let separated = match previous {
            p if p.is_ascii() => !(p == '_' || p.is_ascii_alphanumeric()),
            p => !p.is_alphanumeric() && p.is_whitespace(),
        };
        if separated {
            out.extend(c.to_uppercase())
        } else {
            out.push(c)
        }
        previous = c;
    }
    out
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64_encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk
            .iter()
            .enumerate()
            .fold(0_u32, |acc, (i, byte)| acc | u32::from(*byte) << (16 - 8 * i));
        for place in 0..4 {
            let digit = (group >> (18 - 6 * place)) & 63;
            let known = place <= chunk.len();
            out.push(if known {
                BASE64.get(digit as usize).map_or('=', |b| char::from(*b))
            } else {
                '='
            });
        }
    }
    out
}

/// Text whose padding was left out gets it.
fn padded(mut text: String) -> String {
    if matches!(text.len() % 4, 2 | 3) {
        text.extend(std::iter::repeat_n('=', 4 - text.len() % 4));
    }
    text
}

/// Newlines are skipped; positions in errors count them.
fn base64_decode(text: &[u8]) -> Result<Vec<u8>, String> {
    let fail = |at: usize| Err(format!("illegal base64 data at input byte {at}"));
    let newline = |b: &u8| matches!(b, b'\n' | b'\r');
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut group, mut digits, mut at) = (0_u32, 0_u32, 0);
    while let Some(byte) = text.get(at) {
        at += 1;
        if newline(byte) {
            continue;
        }
        if let Some(digit) = BASE64.iter().position(|b| b == byte) {
            group = group << 6 | u32::try_from(digit).unwrap_or(0);
            digits += 1;
            if digits == 4 {
                out.extend(group.to_be_bytes().iter().skip(1));
                (group, digits) = (0, 0);
            }
            continue;
        }
        if *byte != b'=' || digits < 2 {
            return fail(at - 1);
        }
        let skip = |from: usize| from + text.iter().skip(from).take_while(|b| newline(b)).count();
        if digits == 2 {
            at = skip(at);
            match text.get(at) {
                None => return fail(text.len()),
                Some(b'=') => at += 1,
                Some(_) => return fail(at - 1),
            }
        }
        at = skip(at);
        if at < text.len() {
            return fail(at);
        }
        let bytes = (group << (6 * (4 - digits))).to_be_bytes();
        out.extend(bytes.iter().skip(1).take(digits as usize - 1));
        return Ok(out);
    }
    match digits {
        0 => Ok(out),
        digits => fail(at - digits as usize),
    }
}
