//! Go's `print`, `println` and `printf`.

use super::value::{IntType, Value};
use crate::text::{format_float_f, format_float_g, quote_go};

/// Widths and precisions beyond this are ignored.
const MAX_WIDTH: usize = 10_000;

/// Blanks only between operands neither of which is a string.
pub(super) fn print(arguments: &[Value<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut after_text = true;
    for (index, value) in arguments.iter().enumerate() {
        let is_text = matches!(value, Value::Str(_));
        if index > 0 && !is_text && !after_text {
            out.push(b' ');
        }
        value.print(&mut out);
        after_text = is_text;
    }
    out
}

/// Blanks between all operands, a newline at the end.
pub(super) fn println(arguments: &[Value<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for (index, value) in arguments.iter().enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        value.print(&mut out);
    }
    out.push(b'\n');
    out
}

#[derive(Default)]
struct Spec {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// Formats `%` verbs; what does not fit is shown as Go shows it.
pub(super) fn printf(format: &[u8], arguments: &[Value<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut values = arguments.iter();
    let mut at = 0;
    while let Some(byte) = format.get(at) {
        at += 1;
        if *byte != b'%' {
            out.push(*byte);
            continue;
        }
        let spec = spec(format, &mut at, &mut values, &mut out);
        let rest = format.get(at..).unwrap_or(&[]);
        let Some(verb) = rest
            .utf8_chunks()
            .next()
            .and_then(|chunk| chunk.valid().chars().next())
        else {
            out.extend_from_slice(b"%!(NOVERB)");
            break;
        };
        at += verb.len_utf8();
        if verb == '%' {
            out.push(b'%');
            continue;
        }
        match values.next() {
            Some(value) => pad(&mut out, &spec, verb, value),
            None => out.extend_from_slice(format!("%!{verb}(MISSING)").as_bytes()),
        }
    }
    extra(&mut out, values.as_slice());
    out
}

fn extra(out: &mut Vec<u8>, rest: &[Value<'_>]) {
    if rest.is_empty() {
        return;
    }
    out.extend_from_slice(b"%!(EXTRA ");
    for (index, value) in rest.iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(b", ");
        }
        typed(out, value, &Spec::default());
    }
    out.push(b')');
}

/// The type and the value, which is padded and cut as was asked for.
fn typed(out: &mut Vec<u8>, value: &Value<'_>, spec: &Spec) {
    out.extend_from_slice(value.type_name().as_bytes());
    if *value != Value::Nil {
        out.push(b'=');
        pad(out, spec, 'v', value);
    }
}

/// Flags, width and precision. What is no number for a `*` is told in `out`.
fn spec<'v, 'a: 'v>(
    format: &[u8],
    at: &mut usize,
    values: &mut std::slice::Iter<'v, Value<'a>>,
    out: &mut Vec<u8>,
) -> Spec {
    let mut spec = Spec::default();
    while let Some(flag) = format.get(*at) {
        match flag {
            b'-' => spec.minus = true,
            b'+' => spec.plus = true,
            b'#' => spec.sharp = true,
            b' ' => spec.space = true,
            b'0' => spec.zero = true,
            _ => break,
        }
        *at += 1;
    }
    if let Some(width) = starred(format, at, values) {
        match width {
            None => out.extend_from_slice(b"%!(BADWIDTH)"),
            Some(width) => {
                // A negative width is the flag `-`.
                spec.minus |= width < 0;
                spec.width = usize::try_from(width.unsigned_abs())
                    .ok()
                    .map(|width| width.min(MAX_WIDTH));
            }
        }
    } else {
        spec.width = number(format, at);
    }
    if format.get(*at) == Some(&b'.') {
        *at += 1;
        spec.precision = match starred(format, at, values) {
            None => Some(number(format, at).unwrap_or(0)),
            Some(precision) => {
                if precision.is_none() {
                    out.extend_from_slice(b"%!(BADPREC)");
                }
                let precision = precision.and_then(|precision| usize::try_from(precision).ok());
                precision.map(|precision| precision.min(MAX_WIDTH))
            }
        };
    }
    spec
}

/// The argument of a `*`, if one stands there: an integer that is not too large.
fn starred<'v, 'a: 'v>(
    format: &[u8],
    at: &mut usize,
    values: &mut std::slice::Iter<'v, Value<'a>>,
) -> Option<Option<i64>> {
    if format.get(*at) != Some(&b'*') {
        return None;
    }
    *at += 1;
    let number = values.next().and_then(Value::integer);
    Some(number.filter(|number| number.unsigned_abs() <= 1_000_000))
}

fn number(format: &[u8], at: &mut usize) -> Option<usize> {
    let mut value = None;
    while let Some(digit) = format.get(*at).filter(|b| b.is_ascii_digit()) {
        value = Some((value.unwrap_or(0) * 10 + usize::from(digit - b'0')).min(MAX_WIDTH));
        *at += 1;
    }
    value
}

fn pad(out: &mut Vec<u8>, spec: &Spec, verb: char, value: &Value<'_>) {
    let Some(body) = body(spec, verb, value) else {
        out.extend_from_slice(format!("%!{verb}(").as_bytes());
        typed(out, value, spec);
        out.push(b')');
        return;
    };
    let length = body
        .utf8_chunks()
        .map(|c| c.valid().chars().count() + c.invalid().len())
        .sum::<usize>();
    let missing = spec.width.unwrap_or(0).saturating_sub(length);
    let signs = matches!(value, Value::Float(_)) || value.integer().is_some();
    let zero = match value {
        Value::Float(number) => spec.zero && number.is_finite(),
        Value::Nil | Value::List(_) | Value::Map(_) | Value::Labels => false,
        _ => spec.zero,
    };
    if spec.minus {
        out.extend_from_slice(&body);
        out.extend(std::iter::repeat_n(b' ', missing));
    } else if zero {
        let signed = signs && body.first().is_some_and(|b| matches!(b, b'-' | b'+' | b' '));
        let (sign, digits) = body.split_at(usize::from(signed));
        out.extend_from_slice(sign);
        out.extend(std::iter::repeat_n(b'0', missing));
        out.extend_from_slice(digits);
    } else {
        out.extend(std::iter::repeat_n(b' ', missing));
        out.extend_from_slice(&body);
    }
}

/// The value as the verb shows it; `None` for a verb that doesn't fit.
fn body(spec: &Spec, verb: char, value: &Value<'_>) -> Option<Vec<u8>> {
    let sign = |negative: bool| {
        if negative {
            "-"
        } else if spec.plus {
            "+"
        } else if spec.space {
            " "
        } else {
            ""
        }
    };
    let named = matches!(
        value,
        Value::Time(_) | Value::Typed(_, IntType::Month | IntType::Weekday)
    );
    if named && matches!(verb, 's' | 'q' | 'x' | 'X' | 'v') {
        return body(spec, verb, &Value::bytes(value.to_bytes()));
    }
    Some(match (verb, value) {
        ('v', Value::Int(number) | Value::Typed(number, IntType::Int64 | IntType::Uint8)) if spec.plus => {
            format!("{}{}", sign(*number < 0), number.unsigned_abs()).into_bytes()
        }
        ('v' | 's', Value::Str(text)) => truncated(text, spec.precision),
        ('v', Value::Float(_)) if spec.precision.is_some() => return body(spec, 'g', value),
        ('v', value) => value.to_bytes(),
        ('T', value) => value.type_name().as_bytes().to_vec(),
        ('t', Value::Bool(value)) => value.to_string().into_bytes(),
        ('q', Value::Str(text)) => {
            let text = String::from_utf8_lossy(text);
            if spec.sharp && !text.contains('`') {
                format!("`{text}`")
            } else {
                quote_go(&text).to_string()
            }
            .into_bytes()
        }
        ('x', Value::Str(text)) => text
            .iter()
            .flat_map(|b| format!("{b:02x}").into_bytes())
            .collect(),
        ('X', Value::Str(text)) => text
            .iter()
            .flat_map(|b| format!("{b:02X}").into_bytes())
            .collect(),
        ('d' | 'x' | 'X' | 'o' | 'b' | 'c' | 'U' | 'q', Value::Int(number) | Value::Typed(number, _)) => {
            let magnitude = number.unsigned_abs();
            let digits = match verb {
                'x' if spec.sharp => format!("0x{magnitude:x}"),
                'x' => format!("{magnitude:x}"),
                'X' => format!("{magnitude:X}"),
                'o' => format!("{magnitude:o}"),
                'b' => format!("{magnitude:b}"),
                'c' | 'q' | 'U' => {
                    let c = u32::try_from(*number)
                        .ok()
                        .and_then(char::from_u32)
                        .unwrap_or('\u{fffd}');
                    let text = match verb {
                        'c' => c.to_string(),
                        'q' => format!("'{c}'"),
                        _ => format!("U+{:04X}", c as u32),
                    };
                    return Some(text.into_bytes());
                }
                _ => format!("{magnitude:0width$}", width = spec.precision.unwrap_or(0)),
            };
            format!("{}{digits}", sign(*number < 0)).into_bytes()
        }
        ('f' | 'F' | 'e' | 'E' | 'g' | 'G', Value::Float(number)) => {
            let text = float(verb, number.abs(), spec.precision);
            let text = text.trim_start_matches('+');
            let negative = number.is_sign_negative() && !number.is_nan();
            format!("{}{text}", sign(negative)).into_bytes()
        }
        _ => return None,
    })
}

fn truncated(text: &[u8], precision: Option<usize>) -> Vec<u8> {
    match precision {
        Some(count) => {
            let text = String::from_utf8_lossy(text);
            text.chars().take(count).collect::<String>().into_bytes()
        }
        None => text.to_vec(),
    }
}

fn float(verb: char, value: f64, precision: Option<usize>) -> String {
    if !value.is_finite() {
        return format_float_f(value);
    }
    match verb {
        'f' | 'F' => format!("{value:.*}", precision.unwrap_or(6)),
        'e' | 'E' => {
            let text = format!("{value:.*e}", precision.unwrap_or(6));
            let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let exponent: i32 = exponent.parse().unwrap_or(0);
            let sign = if exponent < 0 { '-' } else { '+' };
            let letter = if verb == 'E' { 'E' } else { 'e' };
            format!("{mantissa}{letter}{sign}{:02}", exponent.abs())
        }
        _ => match precision {
            None => format_float_g(value),
            Some(digits) => {
                let rounded: f64 = format!("{value:.*e}", digits.max(1) - 1).parse().unwrap_or(value);
                format_float_g(rounded)
            }
        },
    }
}
