//! Paths of `| json a="x.y[0]"`: fields, quoted fields in brackets, and array positions.

use super::json::{Stop, Value, each_pair, value_at};
use crate::text::unquote_escapes;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    Index(usize),
}

/// A compiled path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    steps: Vec<Step>,
}

impl Path {
    /// Reads a path; the error has Loki's words.
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        let fail = |found: &str, expecting: &str| {
            Err(format!(
                "cannot parse expression [{text}]: syntax error: unexpected {found}{expecting}"
            ))
        };
        let mut steps = Vec::new();
        let mut rest = text.trim_start();
        if rest.is_empty() {
            return fail("$end", ", expecting LSB or FIELD");
        }
        let mut first = true;
        while !rest.is_empty() {
            if let Some(inner) = rest.strip_prefix('[') {
                let (step, after) = match bracket(inner) {
                    Ok(found) => found,
                    Err(found) => return fail(found, ", expecting STRING or INDEX"),
                };
                steps.push(step);
                rest = after;
            } else {
                let dotted = rest.strip_prefix('.');
                if !first && dotted.is_none() {
                    return fail("FIELD", "");
                }
                let body = dotted.unwrap_or(rest);
                let length = field_length(body);
                if length == 0 {
                    let found = match body.chars().next() {
                        None => "$end",
                        Some('.') => "DOT",
                        Some('[') => "LSB",
                        Some(']') => "RSB",
                        Some(_) => "character",
                    };
                    return fail(found, ", expecting FIELD");
                }
                let (field, after) = body.split_at(length);
                steps.push(Step::Field(field.to_owned()));
                rest = after;
            }
            rest = rest.trim_start();
            first = false;
        }
        Ok(Self { steps })
    }

    /// The first value at the path. What lies before a fault in the line is found.
    pub(crate) fn find<'a>(&self, line: &'a str) -> Option<Value<'a>> {
        let mut value = match value_at(line, 0) {
            Ok((value, _)) => value,
            Err(_) if line.starts_with('{') => Value::Object(line),
            Err(_) => return None,
        };
        for step in &self.steps {
            value = match (step, value) {
                (Step::Field(name), Value::Object(text)) => field(text, name)?,
                (Step::Index(index), Value::Array(text)) => element(text, *index)?,
                _ => return None,
            };
        }
        Some(value)
    }
}

fn field<'a>(text: &'a str, name: &str) -> Option<Value<'a>> {
    let mut found = None;
    let mut unescaped = String::new();
    // Whether the scan ends with a fault or a stop says nothing more than `found`.
    let _ = each_pair(text, |key, value| {
        let equal = if key.contains('\\') {
            unescaped.clear();
            super::json::unescape(key, &mut unescaped);
            unescaped == name
        } else {
            key == name
        };
        if !equal {
            return Ok(());
        }
        found = Some(value);
        Err(Stop::Done)
    });
    found
}

fn element(text: &str, index: usize) -> Option<Value<'_>> {
    let mut at = 1;
    let mut position = 0;
    loop {
        let rest = text.get(at..)?;
        at += rest.len() - rest.trim_start_matches([' ', '\n', '\r', '\t']).len();
        let (value, end) = value_at(text, at).ok()?;
        if position == index {
            return Some(value);
        }
        position += 1;
        let rest = text.get(end..)?;
        let trimmed = rest.trim_start_matches([' ', '\n', '\r', '\t']);
        at = end + (rest.len() - trimmed.len()) + 1;
        if !trimmed.starts_with(',') {
            return None;
        }
    }
}

fn field_length(text: &str) -> usize {
    let starts = text.starts_with(|c: char| c == '_' || c.is_alphabetic());
    if !starts {
        return 0;
    }
    text.find(|c: char| !(c == '_' || c.is_alphanumeric()))
        .unwrap_or(text.len())
}

/// `"name"]` or `0]`; the error names the token found.
fn bracket(text: &str) -> Result<(Step, &str), &'static str> {
    if let Some(body) = text.strip_prefix('"') {
        let mut escaped = false;
        for (at, byte) in body.bytes().enumerate() {
            if byte == b'"' && !escaped {
                let name = unquote_escapes(body.get(..at).unwrap_or("")).map_err(|_| "STRING")?;
                let after = body
                    .get(at + 1..)
                    .and_then(|rest| rest.strip_prefix(']'))
                    .ok_or("$end")?;
                return Ok((Step::Field(name), after));
            }
            escaped = byte == b'\\' && !escaped;
        }
        return Err("$end");
    }
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, after) = text.split_at(digits);
    if number.is_empty() {
        return Err(if after.is_empty() { "$end" } else { "FIELD" });
    }
    let after = after.strip_prefix(']').ok_or("$end")?;
    Ok((Step::Index(number.parse().map_err(|_| "INDEX")?), after))
}
