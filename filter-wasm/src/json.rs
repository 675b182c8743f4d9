//! The record's JSON text: where its members lie, and how a changed record is written.
//!
//! Nothing is built from the text. [`scan`] walks over the members of the top object once and notes the spans that the filter
//! needs; everything else stays bytes, so that foreign fields leave exactly as they came. It is no validator: where it is in
//! doubt it gives up, and the caller hands the record on untouched. This module knows nothing about lines or ranks.

use crate::find;
use std::ops::Range;

/// A span of the record's text.
pub(crate) type Span = Range<usize>;

/// The members that the filter may add. One that is there already is never added a second time.
pub(crate) const OWN_FIELDS: [&str; 11] = [
    "rank",
    "local_rank",
    "node_rank",
    "world_size",
    "job",
    "attempt",
    "role",
    "level",
    "exception",
    "step",
    "rankline_ts",
];

/// Which escapes a string has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Escapes {
    /// None: the string is what it means.
    None,
    /// Nothing but `\"`: no newline, no colour, no redrawn bar.
    Quotes,
    /// Any.
    #[default]
    Any,
}

/// Where the members lie that the filter reads.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scan {
    /// The line: the text between the quotes, still escaped.
    pub log: Span,
    /// `stdout` or `stderr`, between the quotes.
    pub stream: Option<Span>,
    /// The whole value of `kubernetes`.
    pub kubernetes: Option<Span>,
    /// It is the one that was known before.
    pub known_kubernetes: bool,
    /// The record is a part of a line that the container runtime cut (`_p` or `logtag` is `P`).
    pub partial: bool,
    /// The value (between the quotes) of the member that says so.
    pub partial_flag: Option<Span>,
    /// Bit `i` is set when `OWN_FIELDS[i]` is there already.
    pub present: u16,
    /// Position of the closing brace.
    pub end: usize,
    /// What the line may have.
    pub escapes: Escapes,
}

/// The escapes of a string's inside; nothing when it has a bare quote, or ends within an escape.
pub(crate) fn escapes(inside: &[u8]) -> Option<Escapes> {
    const QUOTES: u64 = find::lanes(b'"');
    const SLASHES: u64 = find::lanes(b'\\');
    let (chunks, rest) = inside.as_chunks::<8>();
    let mut last = [0u8; 8];
    last[..rest.len()].copy_from_slice(rest);
    let mut any = 0;
    // The lowest lane's top bit, when the word before ended with a backslash.
    let mut escaped = 0;
    for chunk in chunks.iter().chain([&last]) {
        let word = u64::from_le_bytes(*chunk);
        let (slashes, quotes) = (find::zeros(word ^ SLASHES), find::zeros(word ^ QUOTES));
        if slashes | quotes | escaped == 0 {
            continue;
        }
        // Every quote stands behind a backslash, and every backslash before a quote.
        if quotes != (slashes << 8 | escaped) {
            return any_escapes(inside);
        }
        escaped = slashes >> 56;
        any |= slashes;
    }
    Some(if any == 0 { Escapes::None } else { Escapes::Quotes })
}

#[cold]
fn any_escapes(inside: &[u8]) -> Option<Escapes> {
    let mut at = 0;
    while let Some(found) = find::either(b'"', b'\\', inside.get(at..)?) {
        if inside[at + found] == b'"' {
            return None;
        }
        at += found + 2;
    }
    Some(Escapes::Any)
}

/// Walks over the members of the record's top object.
///
/// `log_keys`: names of the member that holds the line, best first. `known_kubernetes`: a `kubernetes` value seen before with
/// the same tag; when it stands here again it is skipped by one comparison.
pub(crate) fn scan(text: &[u8], log_keys: &[String], known_kubernetes: &[u8]) -> Option<Scan> {
    let mut at = skip_space(text, 0);
    if text.get(at) != Some(&b'{') {
        return None;
    }
    at = skip_space(text, at + 1);
    let mut found = Scan::default();
    let mut log_preference = usize::MAX;
    loop {
        if text.get(at) != Some(&b'"') {
            return None;
        }
        let name_end = skip_string(text, at)?;
        let name = &text[at + 1..name_end - 1];
        at = skip_space(text, name_end);
        if text.get(at) != Some(&b':') {
            return None;
        }
        at = skip_space(text, at + 1);
        let value = if name == b"kubernetes"
            && !known_kubernetes.is_empty()
            && let Some(value) = text.get(at..at + known_kubernetes.len())
            && find::equal(value, known_kubernetes)
        {
            found.known_kubernetes = true;
            at..at + known_kubernetes.len()
        } else {
            at..skip_value(text, at)?
        };
        note_member(
            text,
            name,
            value.clone(),
            log_keys,
            &mut log_preference,
            &mut found,
        )?;
        at = skip_space(text, value.end);
        match text.get(at)? {
            b',' => at = skip_space(text, at + 1),
            b'}' => break,
            _ => return None,
        }
    }
    found.end = at;
    if skip_space(text, at + 1) != text.len() || log_preference == usize::MAX {
        return None;
    }
    Some(found)
}

fn note_member(
    text: &[u8],
    name: &[u8],
    value: Span,
    log_keys: &[String],
    log_preference: &mut usize,
    found: &mut Scan,
) -> Option<()> {
    let string = text[value.start] == b'"';
    let inner = value.start + 1..value.end.saturating_sub(1);
    if string && let Some(preference) = log_keys.iter().position(|key| key.as_bytes() == name) {
        if preference == *log_preference {
            return None; // twice the same name: which of them counts is anybody's guess
        }
        if preference < *log_preference {
            *log_preference = preference;
            found.log = inner.clone();
        }
    }
    match name {
        b"stream" if string => found.stream = Some(inner),
        b"kubernetes" => found.kubernetes = Some(value),
        b"_p" | b"logtag" if string => {
            found.partial = &text[inner.clone()] == b"P";
            found.partial_flag = Some(inner);
        }
        _ => {
            if let Some(i) = OWN_FIELDS.iter().position(|own| own.as_bytes() == name) {
                found.present |= 1 << i;
            }
        }
    }
    Some(())
}

pub(crate) fn skip_space(text: &[u8], mut at: usize) -> usize {
    while matches!(text.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

/// From an opening quote to behind the closing one.
pub(crate) fn skip_string(text: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        at += find::either(b'"', b'\\', text.get(at..)?)?;
        if text[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// From a value's first byte to behind its last one.
pub(crate) fn skip_value(text: &[u8], start: usize) -> Option<usize> {
    match text.get(start)? {
        b'"' => skip_string(text, start),
        b'{' | b'[' => skip_nested(text, start),
        _ => {
            let mut at = start;
            while !matches!(text.get(at)?, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r') {
                at += 1;
            }
            (at > start).then_some(at)
        }
    }
}

fn skip_nested(text: &[u8], start: usize) -> Option<usize> {
    let mut depth = 0usize;
    let mut at = start;
    loop {
        match text.get(at)? {
            b'"' => {
                at = skip_string(text, at)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
}

/// Calls `each` with the name and the value's span of every member of the object at `start`.
pub(crate) fn members(text: &[u8], start: usize, mut each: impl FnMut(&[u8], Span)) -> Option<()> {
    let mut at = skip_space(text, start + 1);
    if text.get(start) != Some(&b'{') || text.get(at) == Some(&b'}') {
        return None;
    }
    loop {
        if text.get(at) != Some(&b'"') {
            return None;
        }
        let name_end = skip_string(text, at)?;
        let name = at + 1..name_end - 1;
        at = skip_space(text, name_end);
        if text.get(at) != Some(&b':') {
            return None;
        }
        at = skip_space(text, at + 1);
        let end = skip_value(text, at)?;
        each(&text[name], at..end);
        at = skip_space(text, end);
        match text.get(at)? {
            b',' => at = skip_space(text, at + 1),
            _ => return Some(()),
        }
    }
}

/// Appends what the escaped text means. A broken escape is kept as it stands.
pub(crate) fn unescape(escaped: &[u8], out: &mut Vec<u8>) {
    let mut rest = escaped;
    while let Some(at) = find::byte(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        let Some(&kind) = rest.get(at + 1) else {
            rest = &rest[at..];
            break;
        };
        let mut used = 2;
        match kind {
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'r' => out.push(b'\r'),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'"' | b'\\' | b'/' => out.push(kind),
            b'u' => {
                let (character, length) = unescape_unicode(&rest[at..]);
                used = length;
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ => out.extend_from_slice(&rest[at..at + 2]),
        }
        rest = &rest[at + used..];
    }
    out.extend_from_slice(rest);
}

/// [`unescape`] for text with no escapes but [`Escapes::Quotes`]; `out` is overwritten.
pub(crate) fn unescape_quotes(escaped: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.resize(escaped.len() + 8, 0);
    let (chunks, rest) = escaped.as_chunks::<8>();
    let mut end = 0;
    for chunk in chunks {
        let mut word = u64::from_le_bytes(*chunk);
        // Exact: what stands behind a backslash is a quote.
        let mut slashes = find::zeros(word ^ find::lanes(b'\\'));
        let mut width = 8;
        while slashes != 0 {
            let below = (1u64 << (8 * find::lowest(slashes))) - 1;
            word = word & below | word >> 8 & !below;
            width -= 1;
            slashes = (slashes & (slashes - 1)) >> 8;
        }
        out[end..end + 8].copy_from_slice(&word.to_le_bytes());
        end += width;
    }
    for &byte in rest {
        out[end] = byte;
        end += usize::from(byte != b'\\');
    }
    out.truncate(end);
}

/// One `\uXXXX`, or two of them that are a surrogate pair: the character and how many bytes it took.
fn unescape_unicode(text: &[u8]) -> (char, usize) {
    let unit = |at: usize| -> Option<u32> {
        let digits = text.get(at..at + 6)?;
        if &digits[..2] != b"\\u" {
            return None;
        }
        u32::from_str_radix(std::str::from_utf8(&digits[2..]).ok()?, 16).ok()
    };
    let Some(first) = unit(0) else {
        return (char::REPLACEMENT_CHARACTER, 2.min(text.len()));
    };
    if (0xd800..0xdc00).contains(&first)
        && let Some(second) = unit(6)
        && (0xdc00..0xe000).contains(&second)
    {
        let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        return (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 12);
    }
    (char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), 6)
}

/// Appends `text` as the inside of a JSON string.
pub(crate) fn escape(text: &[u8], out: &mut Vec<u8>) {
    for &byte in text {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..0x20 => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 15)]);
            }
            _ => out.push(byte),
        }
    }
}

/// Appends `,"name":"value"`.
pub(crate) fn push_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    push_escaped(out, name, b"");
    out.pop();
    escape(value, out);
    out.push(b'"');
}

/// The same with a value that needs no escapes, or has them.
pub(crate) fn push_escaped(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    let mut out = Writer::behind(out, name.len() + value.len() + 6);
    out.put(b",\"");
    out.put(name.as_bytes());
    out.put(b"\":\"");
    out.put(value);
    out.put(b"\"");
    out.finish();
}

/// Appends a number in decimal.
pub(crate) fn push_decimal(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(decimal(number, &mut [0; 24]));
}

/// A number in decimal.
pub(crate) fn decimal(mut number: u64, digits: &mut [u8; 24]) -> &[u8] {
    let mut at = 24;
    // A rank, mostly.
    if number < 10 {
        digits[23] = b'0' + number as u8;
        return &digits[23..];
    }
    loop {
        let (higher, eight) = last_eight_digits(number);
        at -= 8;
        digits[at..at + 8].copy_from_slice(&eight);
        if higher == 0 {
            // The first digit that is none of the zeros before the number, or the last zero.
            let zeros = find::lowest((u64::from_le_bytes(eight) & find::lanes(0x0f)) | 1 << 56);
            return &digits[at + zeros..];
        }
        number = higher;
    }
}

/// What stands before the number's last eight digits, and these.
pub(crate) const fn last_eight_digits(number: u64) -> (u64, [u8; 8]) {
    const EIGHT: u64 = 100_000_000;
    let higher = number / EIGHT;
    (higher, eight_digits(number - higher * EIGHT).to_le_bytes())
}

/// The eight digits of a number below 100,000,000, the first one in the lowest byte: all of them at once, by halves.
const fn eight_digits(number: u64) -> u64 {
    let fours = (number / 10_000) | ((number % 10_000) << 32);
    // Dividing a lane is multiplying it by 2^n / divisor, exact for numbers this small.
    let hundreds = (fours * 10_486) >> 20 & 0x0000_007f_0000_007f;
    let twos = hundreds | (fours - 100 * hundreds) << 16;
    let tens = (twos * 103) >> 10 & 0x000f_000f_000f_000f;
    (tens | (twos - 10 * tens) << 8) | find::lanes(b'0')
}

/// Writes texts behind each other into a buffer that has room for them: cheaper than appending each to a vector, which asks for
/// room every time.
pub(crate) struct Writer<'a> {
    buffer: &'a mut Vec<u8>,
    at: usize,
}

impl<'a> Writer<'a> {
    /// Writes over the buffer, `most` bytes at most.
    pub(crate) fn new(buffer: &'a mut Vec<u8>, most: usize) -> Self {
        buffer.resize(most, 0);
        Writer { buffer, at: 0 }
    }

    /// Writes behind what is there, `most` bytes at most.
    pub(crate) fn behind(buffer: &'a mut Vec<u8>, most: usize) -> Self {
        let at = buffer.len();
        buffer.resize(at + most, 0);
        Writer { buffer, at }
    }

    /// Writes a text, if there is room for it.
    #[inline(always)]
    pub(crate) fn put(&mut self, text: &[u8]) {
        if let Some(room) = self.buffer.get_mut(self.at..self.at + text.len()) {
            // SAFETY: both are `text.len()` bytes, and nothing else points into the buffer, which is borrowed mutably. The slice's
            // own `copy_from_slice` does the same by a call, which costs an interpreter twice as much.
            unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), room.as_mut_ptr(), text.len()) };
            self.at += text.len();
        }
    }

    /// Cuts the buffer behind what was written.
    pub(crate) fn finish(self) {
        self.buffer.truncate(self.at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_decimal() {
        for number in (0..1200).chain([9_999, 10_000, 1_764_000_000_000_000_000, u64::MAX - 1, u64::MAX]) {
            assert_eq!(decimal(number, &mut [0; 24]), number.to_string().as_bytes());
        }
        for number in (0..100_000_000)
            .step_by(997)
            .chain((0..10_000).map(|n| n * 10_001 % 100_000_000))
        {
            let digits = format!("{number:08}");
            assert_eq!(eight_digits(number).to_le_bytes(), digits.as_bytes());
        }
    }

    #[test]
    fn texts_are_written_behind_each_other_while_there_is_room() {
        let mut buffer = b"what was there before".to_vec();
        let mut out = Writer::new(&mut buffer, 6);
        for text in [&b"ab"[..], b"", b"cde", b"fg", b"h"] {
            out.put(text);
        }
        out.finish();
        assert_eq!(buffer, b"abcdeh");
    }
}
