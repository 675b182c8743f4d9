//! The `logfmt` parser: `key=value key="quoted value" bare`.

use std::borrow::Cow;

use super::json::push_sanitized;
use super::scratch::{NameId, Scratch};

/// Walks the pairs of a line.
pub(crate) struct Decoder<'a> {
    line: &'a str,
    at: usize,
}

/// A fault and its position.
pub(crate) struct Fault {
    at: usize,
    cause: String,
}

impl Fault {
    fn text(&self) -> String {
        format!("logfmt syntax error at pos {} : {}", self.at + 1, self.cause)
    }
}

/// A value as it stands in the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Raw<'a> {
    Plain(&'a str),
    /// Quotes taken off, escapes in place.
    Escaped(&'a str),
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(line: &'a str) -> Self {
        Self { line, at: 0 }
    }

    fn find(&self, from: usize, stop: impl Fn(u8) -> bool) -> usize {
        let bytes = self.line.as_bytes();
        bytes
            .get(from..)
            .and_then(|rest| rest.iter().position(|b| stop(*b)))
            .map_or(bytes.len(), |skip| from + skip)
    }

    fn slice(&self, from: usize, to: usize) -> &'a str {
        self.line.get(from..to).unwrap_or("")
    }

    fn unexpected(&mut self, byte: u8) -> Fault {
        let fault = Fault {
            at: self.at,
            cause: format!("unexpected '{}'", char::from(byte)),
        };
        self.at = self.find(self.at, |b| b <= b' ');
        fault
    }

    /// The next pair; after an unexpected character the rest of the word is skipped.
    pub(crate) fn next_pair(&mut self) -> Option<Result<(&'a str, Raw<'a>), Fault>> {
        self.at = self.find(self.at, |b| b > b' ');
        if self.at >= self.line.len() {
            return None;
        }
        Some(self.pair())
    }

    fn pair(&mut self) -> Result<(&'a str, Raw<'a>), Fault> {
        let bytes = self.line.as_bytes();
        let start = self.at;
        self.at = self.find(start, |b| b == b'=' || b == b'"' || b <= b' ');
        let key = self.slice(start, self.at);
        match bytes.get(self.at) {
            Some(b'=') if !key.is_empty() => {}
            Some(byte @ (b'=' | b'"')) => return Err(self.unexpected(*byte)),
            _ => return Ok((key, Raw::Plain(""))),
        }
        self.at += 1;
        match bytes.get(self.at) {
            Some(b'"') => self.quoted().map(|value| (key, value)),
            _ => {
                let start = self.at;
                self.at = self.find(start, |b| b == b'=' || b == b'"' || b <= b' ');
                match bytes.get(self.at) {
                    Some(byte @ (b'=' | b'"')) => Err(self.unexpected(*byte)),
                    _ => Ok((key, Raw::Plain(self.slice(start, self.at)))),
                }
            }
        }
    }

    fn quoted(&mut self) -> Result<Raw<'a>, Fault> {
        let bytes = self.line.as_bytes();
        let start = self.at + 1;
        let mut at = start;
        let mut has_escapes = false;
        loop {
            let hit = bytes
                .get(at..)
                .and_then(|rest| memchr::memchr2(b'"', b'\\', rest));
            let Some(hit) = hit else {
                self.at = bytes.len();
                return Err(Fault {
                    at: self.at,
                    cause: "unterminated quoted value".to_owned(),
                });
            };
            at += hit;
            if bytes.get(at) == Some(&b'"') {
                break;
            }
            has_escapes = true;
            at += 2;
        }
        self.at = at + 1;
        let inner = self.slice(start, at);
        if !has_escapes {
            return Ok(Raw::Plain(inner));
        }
        if valid_escapes(inner) {
            return Ok(Raw::Escaped(inner));
        }
        Err(Fault {
            at: self.at,
            cause: "invalid quoted value".to_owned(),
        })
    }
}

/// The key that an expression of `| logfmt a="key"` names: a word or a text in quotes, and texts in quotes behind it.
pub(super) fn key_of_expression(text: &str) -> Result<String, String> {
    let fail = |cause: String| Err(format!("cannot parse expression [{text}]: {cause}"));
    let blank = |c: char| matches!(c, ' ' | '\t' | '\n');
    let word = |c: char| c == '_' || c.is_ascii_alphanumeric();
    let mut rest = text.trim_start_matches(blank);
    let mut parts: Vec<&str> = Vec::new();
    while let Some(first) = rest.chars().next() {
        if first == '"' {
            let body = rest.get(1..).unwrap_or("");
            let end = body.find(['"', ']']);
            parts.push(body.get(..end.unwrap_or(body.len())).unwrap_or(""));
            rest = end.and_then(|end| body.get(end + 1..)).unwrap_or("");
        } else if word(first) && !first.is_ascii_digit() {
            if !parts.is_empty() {
                return fail("syntax error: unexpected KEY".to_owned());
            }
            let (key, after) = rest.split_at(rest.find(|c| !word(c)).unwrap_or(rest.len()));
            parts.push(key);
            rest = after;
        } else if parts.is_empty() {
            break;
        } else {
            return fail(format!("unexpected char {first}"));
        }
        rest = rest.trim_start_matches(blank);
    }
    match parts.as_slice() {
        [] => fail("syntax error: unexpected $end, expecting STRING or KEY".to_owned()),
        [key] => Ok((*key).to_owned()),
        // Loki formats the list with the first part as the format: the others are noted as too much.
        [key, more @ ..] => {
            let more: Vec<String> = more.iter().map(|part| format!("string={part}")).collect();
            Ok(format!("{key}%!(EXTRA {})", more.join(", ")))
        }
    }
}

/// The pairs of a line, values without quotes and escapes; a key alone has an empty value. `None` at the first fault.
#[must_use]
pub fn logfmt_pairs(line: &str) -> Option<Vec<(&str, Cow<'_, str>)>> {
    decoded_pairs(line).map(Result::ok).collect()
}

/// As [`logfmt_pairs`], but of a faulty line the pairs before the fault.
pub fn logfmt_pairs_before_fault(line: &str) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
    decoded_pairs(line).map_while(Result::ok)
}

fn decoded_pairs(line: &str) -> impl Iterator<Item = Result<(&str, Cow<'_, str>), Fault>> {
    let mut decoder = Decoder::new(line);
    let value = |raw| match raw {
        Raw::Plain(text) => Cow::Borrowed(text),
        Raw::Escaped(text) => {
            let mut buffer = String::new();
            super::json::unescape(&text.replace("\\'", "'"), &mut buffer);
            Cow::Owned(buffer)
        }
    };
    std::iter::from_fn(move || decoder.next_pair()).map(move |pair| pair.map(|(key, raw)| (key, value(raw))))
}

/// Whether every escape is one of JSON's or `\'`, and no control character is bare.
fn valid_escapes(inner: &str) -> bool {
    let mut bytes = inner.bytes();
    while let Some(byte) = bytes.next() {
        if byte < b' ' {
            return false;
        }
        if byte != b'\\' {
            continue;
        }
        match bytes.next() {
            Some(b'"' | b'\\' | b'/' | b'\'' | b'b' | b'f' | b'n' | b'r' | b't') => {}
            Some(b'u') => {
                let digits = (0..4).all(|_| bytes.next().is_some_and(|b| b.is_ascii_hexdigit()));
                if !digits {
                    return false;
                }
            }
            _ => return false,
        }
    }
    true
}

/// Settings of one `logfmt` stage.
#[derive(Clone, Debug)]
pub(crate) struct LogfmtStage {
    pub(crate) strict: bool,
    pub(crate) keep_empty: bool,
    /// Labels and the sanitised keys they take their value from.
    pub(crate) params: Vec<(NameId, String)>,
}

/// Buffers of a runner.
#[derive(Default)]
pub(crate) struct LogfmtBuffers {
    key: String,
    value: String,
}

/// The value without escapes; what is not a character becomes a blank.
pub(super) fn value_text<'v>(buffer: &'v mut String, raw: Raw<'v>) -> &'v str {
    buffer.clear();
    match raw {
        Raw::Plain(text) if !text.contains('\u{fffd}') => return text,
        Raw::Plain(text) => buffer.push_str(&text.replace('\u{fffd}', " ")),
        Raw::Escaped(text) => super::json::unescape(&text.replace("\\'", "'"), buffer),
    }
    buffer
}

impl LogfmtStage {
    /// Sets labels, and `__error__` at a fault when strict.
    pub(crate) fn run(&self, line: &str, buffers: &mut LogfmtBuffers, scratch: &mut Scratch) {
        if scratch.needs_no_parser() {
            return;
        }
        for (name, _) in &self.params {
            if !scratch.base_has(*name) {
                scratch.set(*name, "");
            }
        }
        let mut decoder = Decoder::new(line);
        while let Some(pair) = decoder.next_pair() {
            let (key, raw) = match pair {
                Ok(pair) => pair,
                Err(fault) if self.strict => {
                    scratch.set_parser_error("LogfmtParserErr", &fault.text());
                    break;
                }
                Err(_) => continue,
            };
            if raw == Raw::Plain("") && !self.keep_empty && self.params.is_empty() {
                continue;
            }
            buffers.key.clear();
            push_sanitized(key, true, &mut buffers.key);
            if buffers.key.is_empty() {
                continue;
            }
            let done = if self.params.is_empty() {
                self.take(raw, buffers, scratch)
            } else {
                self.take_param(raw, buffers, scratch)
            };
            if done {
                break;
            }
        }
    }

    /// Stores the pair whose key lies in the buffers; true when nothing more is needed.
    fn take(&self, raw: Raw<'_>, buffers: &mut LogfmtBuffers, scratch: &mut Scratch) -> bool {
        let name = scratch.names.intern(&buffers.key);
        let target = scratch.target(name);
        scratch.wants(target) && scratch.extract(target, value_text(&mut buffers.value, raw))
    }

    /// As [`LogfmtStage::take`] where expressions say what to take. The last value wins; a key that is called as one of
    /// the labels counts for that label, too.
    fn take_param(&self, raw: Raw<'_>, buffers: &mut LogfmtBuffers, scratch: &mut Scratch) -> bool {
        let key = scratch.names.intern(&buffers.key);
        let is_label = self.params.iter().any(|(name, _)| *name == key);
        if !is_label && !scratch.wants(key) {
            return false;
        }
        let renamed = self.params.iter().find(|(_, source)| *source == buffers.key);
        let Some(name) = renamed.map(|(name, _)| *name).or(is_label.then_some(key)) else {
            return false;
        };
        let target = scratch.target(name);
        if target != name && !scratch.wants(target) {
            return true;
        }
        let value = match raw {
            // Loki drops a value with broken characters here, where elsewhere it replaces them.
            Raw::Plain(text) if text.contains('\u{fffd}') => "",
            raw => value_text(&mut buffers.value, raw),
        };
        scratch.set(target, value);
        scratch.needs_no_parser()
    }
}
