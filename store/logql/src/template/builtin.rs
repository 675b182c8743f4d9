//! The functions every Go template has: comparisons, `len`, `index`, `slice`, printing and escaping. `and` and `or`,
//! which don't always look at all their arguments, are part of running a template.

use super::escape::{html, js, url_encode};
use super::funcs::{Args, Failure, Outcome, bounded};
use super::value::{IntType, Value};
use super::{Context, printf};

/// Calls a function.
pub(super) fn call<'a>(name: &str, args: &mut Args<'_, 'a>, context: &'a dyn Context) -> Outcome<'a> {
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
                "html" => html(&bytes),
                "js" => js(&bytes),
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
