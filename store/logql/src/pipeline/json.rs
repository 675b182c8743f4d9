//! The `json` and `unpack` parsers on a forgiving scanner: a line is read as far as it makes sense, and what was found
//! before a fault stays. Error texts and what counts as a fault follow Loki's scanner, because both are visible in labels.

use super::json_path::{Path, Search};
use super::scratch::{NameId, Scratch};

/// Objects nest at most this deep; deeper ones are a fault.
const MAX_DEPTH: usize = 128;

const OBJECT: &str = "Value looks like object, but can't find closing '}' symbol";
const ARRAY: &str = "Value is array, but can't find closing ']' symbol";
const STRING: &str = "Value is string, but can't find closing '\"' symbol";
pub(super) const MALFORMED: &str = "Malformed JSON error";
const ESCAPE: &str = "Encountered an invalid escape sequence in a string";
const UNKNOWN: &str = "Unknown value type";
const DEPTH: &str = "objects nest too deep";

/// What stopped the scan of an object.
pub(crate) enum Stop {
    Fault(&'static str),
    /// The visitor has all it wants.
    Done,
}

/// A value and its raw text (of a string: without quotes, escapes in place).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    String(&'a str),
    Number(&'a str),
    Bool(&'a str),
    Null,
    Object(&'a str),
    Array(&'a str),
}

pub(super) fn blank(text: &str, at: usize) -> Option<usize> {
    let rest = text.as_bytes().get(at..)?;
    rest.iter()
        .position(|b| !matches!(b, b' ' | b'\n' | b'\r' | b'\t'))
        .map(|skip| at + skip)
}

/// The offset behind the closing quote of a string whose inside starts at `at`.
pub(super) fn string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let mut at = at;
    loop {
        let rest = bytes.get(at..)?;
        let hit = memchr::memchr2(b'"', b'\\', rest)?;
        at += hit + 1;
        if rest.get(hit) == Some(&b'"') {
            return Some(at);
        }
        at += 1;
    }
}

/// The offset behind the block that opens at `at`.
pub(super) fn block_end(bytes: &[u8], at: usize, open: u8, close: u8) -> Option<usize> {
    let mut level = 0_usize;
    let mut at = at;
    while let Some(byte) = bytes.get(at) {
        at += 1;
        if *byte == b'"' {
            at = string_end(bytes, at)?;
        } else if *byte == open {
            level += 1;
        } else if *byte == close {
            level -= 1;
            if level == 0 {
                return Some(at);
            }
        }
    }
    None
}

/// The value at `at` (not a blank) and the offset behind it.
pub(crate) fn value_at(text: &str, at: usize) -> Result<(Value<'_>, usize), &'static str> {
    let bytes = text.as_bytes();
    let slice = |from: usize, to: usize| text.get(from..to).unwrap_or("");
    match bytes.get(at) {
        None => Err(MALFORMED),
        Some(b'"') => {
            let end = string_end(bytes, at + 1).ok_or(STRING)?;
            Ok((Value::String(slice(at + 1, end - 1)), end))
        }
        Some(b'[') => {
            let end = block_end(bytes, at, b'[', b']').ok_or(ARRAY)?;
            Ok((Value::Array(slice(at, end)), end))
        }
        Some(b'{') => {
            let end = block_end(bytes, at, b'{', b'}').ok_or(OBJECT)?;
            Ok((Value::Object(slice(at, end)), end))
        }
        Some(first) => {
            let rest = bytes.get(at..).unwrap_or(&[]);
            let length = rest
                .iter()
                .position(|b| matches!(b, b' ' | b'\n' | b'\r' | b'\t' | b',' | b'}' | b']'))
                .unwrap_or(rest.len());
            let token = slice(at, at + length);
            let value = match (first, token) {
                (_, "true" | "false") => Value::Bool(token),
                (_, "null") => Value::Null,
                (b'0'..=b'9' | b'-', _) => Value::Number(token),
                _ => return Err(UNKNOWN),
            };
            Ok((value, at + length))
        }
    }
}

/// Visits the pairs of the object that `text` starts with; keys come raw. The visitor says stop with an error.
pub(crate) fn each_pair<'a>(
    text: &'a str,
    mut visit: impl FnMut(&'a str, Value<'a>) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let bytes = text.as_bytes();
    let fault = |cause| Err(Stop::Fault(cause));
    let Some(mut at) = blank(text, 0).filter(|at| bytes.get(*at) == Some(&b'{')) else {
        return fault(OBJECT);
    };
    at = match blank(text, at + 1) {
        None => return fault(MALFORMED),
        Some(next) if bytes.get(next) == Some(&b'}') => return Ok(()),
        Some(next) => next,
    };
    loop {
        match bytes.get(at) {
            Some(b'"') => {}
            Some(b'}') => return Ok(()),
            _ => return fault(OBJECT),
        }
        let Some(end) = string_end(bytes, at + 1) else {
            return fault(MALFORMED);
        };
        let key = text.get(at + 1..end - 1).unwrap_or("");
        if key.contains('\\') && append_unescaped(key, &mut String::new()).is_none() {
            return fault(ESCAPE);
        }
        let Some(colon) = blank(text, end).filter(|at| bytes.get(*at) == Some(&b':')) else {
            return fault(MALFORMED);
        };
        let Some(start) = blank(text, colon + 1) else {
            return fault(MALFORMED);
        };
        let (value, end) = value_at(text, start).map_err(Stop::Fault)?;
        visit(key, value)?;
        at = match blank(text, end) {
            None => return fault(ARRAY),
            Some(next) => match bytes.get(next) {
                Some(b'}') => return Ok(()),
                Some(b',') => match blank(text, next + 1) {
                    Some(next) => next,
                    None => return fault(ARRAY),
                },
                _ => return fault(OBJECT),
            },
        };
    }
}

/// Replaces JSON escapes. Lone surrogates become a blank, as does U+FFFD; an unknown escape empties the text.
pub(crate) fn unescape(raw: &str, out: &mut String) {
    let start = out.len();
    if !raw.contains('\\') {
        out.push_str(raw);
    } else if append_unescaped(raw, out).is_none() {
        out.truncate(start);
    }
    if out.get(start..).is_some_and(|text| text.contains('\u{fffd}')) {
        let clean = out.get(start..).unwrap_or("").replace('\u{fffd}', " ");
        out.truncate(start);
        out.push_str(&clean);
    }
}

pub(super) fn append_unescaped(raw: &str, out: &mut String) -> Option<()> {
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        out.push_str(rest.get(..at)?);
        let escape = *rest.as_bytes().get(at + 1)?;
        rest = rest.get(at + 2..)?;
        out.push(match escape {
            b'"' | b'\\' | b'/' => char::from(escape),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = hex4(rest)?;
                rest = rest.get(4..)?;
                let second = rest
                    .strip_prefix("\\u")
                    .and_then(hex4)
                    .filter(|low| (0xdc00..0xe000).contains(low));
                match (first, second) {
                    (0xd800..0xdc00, Some(low)) => {
                        rest = rest.get(6..)?;
                        char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (low - 0xdc00))?
                    }
                    _ => char::from_u32(first).unwrap_or('\u{fffd}'),
                }
            }
            _ => return None,
        });
    }
    out.push_str(rest);
    Some(())
}

fn hex4(text: &str) -> Option<u32> {
    let digits = text.get(..4)?;
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u32::from_str_radix(digits, 16).ok()
}

/// Appends a key as a label name: blanks trimmed, other characters replaced by `_`.
pub(crate) fn push_sanitized(key: &str, leading: bool, out: &mut String) {
    let key = key.trim();
    if leading && key.starts_with(|c: char| c.is_ascii_digit()) {
        out.push('_');
    }
    out.extend(key.chars().map(|c| {
        if c.is_ascii_alphanumeric() || c == '_' {
            c
        } else {
            '_'
        }
    }));
}

/// What becomes of the labels of an object, in the order of the line.
pub(super) trait Fields<'a> {
    /// A pair, whatever is made of it; false ends the walk.
    fn see(&mut self, _key: &'a str, _value: Value<'a>) -> bool {
        true
    }

    /// Whether some label that begins like this may be wanted.
    fn wants_prefix(&self, prefix: &str) -> bool;

    /// Takes a string, number or boolean; true when nothing more is wanted of the line.
    fn take(&mut self, label: &str, value: Value<'a>) -> bool;
}

/// `| json`: every string, number and boolean of an object becomes a label, nested names joined with `_`.
#[derive(Default)]
pub(crate) struct JsonParser {
    walker: Walker,
    value: String,
}

impl JsonParser {
    /// Sets labels, and `__error__` at a fault.
    pub(crate) fn run(&mut self, line: &str, scratch: &mut Scratch) {
        if scratch.needs_no_parser() {
            return;
        }
        let mut fields = ToScratch {
            scratch,
            value: &mut self.value,
        };
        if let Some(cause) = self.walker.walk(line, &mut fields) {
            scratch.set_parser_error("JSONParserErr", cause);
        }
    }
}

/// Walks over the pairs of an object and of those in it.
#[derive(Default)]
pub(super) struct Walker {
    name: String,
    key: String,
}

impl Walker {
    /// Gives the labels of a line; says what is wrong with the line, if the walk gets there.
    pub(super) fn walk<'a>(&mut self, line: &'a str, fields: &mut impl Fields<'a>) -> Option<&'static str> {
        self.name.clear();
        match self.object(line, fields, 0) {
            Err(Stop::Fault(cause)) => Some(cause),
            Ok(()) | Err(Stop::Done) => None,
        }
    }

    fn object<'a>(&mut self, text: &'a str, fields: &mut impl Fields<'a>, depth: usize) -> Result<(), Stop> {
        if depth > MAX_DEPTH {
            return Err(Stop::Fault(DEPTH));
        }
        let prefix = self.name.len();
        each_pair(text, |key, value| {
            if !fields.see(key, value) {
                return Err(Stop::Done);
            }
            self.name.truncate(prefix);
            if matches!(value, Value::Null | Value::Array(_)) {
                return Ok(());
            }
            self.key.clear();
            unescape(key, &mut self.key);
            if self.key.trim().is_empty() {
                return Ok(());
            }
            if prefix > 0 {
                self.name.push('_');
            }
            push_sanitized(&self.key, prefix == 0, &mut self.name);
            if let Value::Object(inner) = value {
                return if fields.wants_prefix(&self.name) {
                    self.object(inner, fields, depth + 1)
                } else {
                    Ok(())
                };
            }
            if fields.take(&self.name, value) {
                Err(Stop::Done)
            } else {
                Ok(())
            }
        })
    }
}

/// Makes labels of the entry at hand.
struct ToScratch<'s> {
    scratch: &'s mut Scratch,
    value: &'s mut String,
}

impl<'a> Fields<'a> for ToScratch<'_> {
    fn wants_prefix(&self, prefix: &str) -> bool {
        self.scratch.wants_prefix(prefix)
    }

    fn take(&mut self, label: &str, value: Value<'a>) -> bool {
        let name = self.scratch.names.intern(label);
        let target = self.scratch.target(name);
        if !self.scratch.wants(target) {
            return false;
        }
        match value {
            Value::String(raw) => {
                self.value.clear();
                unescape(raw, self.value);
                self.scratch.extract(target, self.value)
            }
            Value::Number(text) | Value::Bool(text) => self.scratch.extract(target, text),
            Value::Null | Value::Object(_) | Value::Array(_) => false,
        }
    }
}

/// The labels that `| json` makes of a line, each with the keys that lead to its value; up to the first fault.
#[must_use]
pub fn json_paths(line: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    // What stands before a fault counts, and this visitor never stops.
    let _ = add_paths(line, &mut String::new(), &mut Vec::new(), &mut found);
    found
}

fn add_paths(
    text: &str,
    name: &mut String,
    keys: &mut Vec<String>,
    found: &mut Vec<(String, Vec<String>)>,
) -> Result<(), Stop> {
    if keys.len() > MAX_DEPTH {
        return Err(Stop::Fault(DEPTH));
    }
    let prefix = name.len();
    each_pair(text, |raw, value| {
        name.truncate(prefix);
        let mut key = String::new();
        unescape(raw, &mut key);
        if key.trim().is_empty() || matches!(value, Value::Null | Value::Array(_)) {
            return Ok(());
        }
        if prefix > 0 {
            name.push('_');
        }
        push_sanitized(&key, prefix == 0, name);
        keys.push(key);
        let within = match value {
            Value::Object(inner) => add_paths(inner, name, keys, found),
            _ => {
                found.push((name.clone(), keys.clone()));
                Ok(())
            }
        };
        keys.pop();
        within
    })
}

/// `| json a="x.y"`: only what paths point at.
pub(crate) fn run_paths(
    params: &[(NameId, Path)],
    line: &str,
    text: &mut String,
    metadata: &[(&str, &str)],
    scratch: &mut Scratch,
) {
    if scratch.needs_no_parser() {
        return;
    }
    let mut labels = PathLabels::new(params, text, scratch);
    if search(params, line, |param, value| labels.take(param, value)) {
        labels.fill(metadata);
    }
}

/// Looks for the values of paths: gives a path's number and its value, or why there is none; a fault of the line itself has
/// no path. False where the line doesn't begin like JSON.
pub(super) fn search<'a>(
    params: &[(NameId, Path)],
    line: &'a str,
    mut report: impl FnMut(Option<usize>, Result<Value<'a>, &'static str>),
) -> bool {
    let is_json = line.starts_with(['{', '[', '"']);
    if is_json {
        let paths = params.iter().map(|(_, path)| path).collect();
        Search::new(line, paths, report).run();
    } else if !line.is_empty() {
        report(None, Err(""));
    }
    is_json
}

/// Makes labels of what paths lead to.
pub(super) struct PathLabels<'s> {
    params: &'s [(NameId, Path)],
    text: &'s mut String,
    scratch: &'s mut Scratch,
    values: usize,
}

impl<'s> PathLabels<'s> {
    pub(super) fn new(params: &'s [(NameId, Path)], text: &'s mut String, scratch: &'s mut Scratch) -> Self {
        Self {
            params,
            text,
            scratch,
            values: 0,
        }
    }

    /// Takes what [`search`] reports.
    pub(super) fn take(&mut self, param: Option<usize>, value: Result<Value<'_>, &'static str>) {
        let value = match value {
            Ok(value) => value,
            Err(cause) => return self.scratch.set_parser_error("JSONParserErr", cause),
        };
        let Some((name, _)) = param.and_then(|param| self.params.get(param)) else {
            return;
        };
        self.values += 1;
        let target = self.scratch.target(*name);
        match value {
            Value::Null => self.scratch.set(target, ""),
            Value::Object(raw) => self.scratch.set(target, raw),
            Value::String(raw) | Value::Number(raw) | Value::Bool(raw) | Value::Array(raw) => {
                self.text.clear();
                unescape(raw, self.text);
                self.scratch.set(target, self.text);
            }
        }
    }

    /// Labels without a value become empty ones.
    pub(super) fn fill(self, metadata: &[(&str, &str)]) {
        if self.values < self.params.len() {
            for (name, _) in self.params {
                if self.scratch.get(*name, metadata).is_none() {
                    self.scratch.set(*name, "");
                }
            }
        }
    }
}

/// `| unpack`: true when the line was packed and `entry` holds the new one.
pub(crate) fn unpack(line: &str, text: &mut String, entry: &mut String, scratch: &mut Scratch) -> bool {
    if line.is_empty() || scratch.needs_no_parser() {
        return false;
    }
    if !line.starts_with('{') {
        scratch.set_parser_error("JSONParserErr", "expecting json object(6), but it is not");
        return false;
    }
    let mut packed = false;
    let scan = each_pair(line, |key, value| {
        if let (Value::String(raw), "_entry") = (value, key) {
            entry.clear();
            unescape(raw, entry);
            packed = true;
        }
        Ok(())
    });
    if let Err(Stop::Fault(cause)) = scan {
        scratch.set_parser_error("JSONParserErr", cause);
        return false;
    }
    if !packed {
        return false;
    }
    let mut name = String::new();
    // The scan above found no fault, and this visitor never stops.
    let _ = each_pair(line, |key, value| {
        let Value::String(raw) = value else { return Ok(()) };
        if key == "_entry" {
            return Ok(());
        }
        text.clear();
        unescape(key, text);
        name.clear();
        push_sanitized(text, true, &mut name);
        if name.is_empty() {
            return Ok(());
        }
        let id = scratch.names.intern(&name);
        if name == *text {
            let target = scratch.target(id);
            if scratch.wants(target) {
                text.clear();
                unescape(raw, text);
                scratch.extract(target, text);
            }
            return Ok(());
        }
        // Loki asks by the key as it is written, so labels that exist are replaced.
        let written = scratch.names.intern(text);
        if scratch.wants(written) {
            text.clear();
            unescape(raw, text);
            scratch.extract(id, text);
        }
        Ok(())
    });
    true
}
