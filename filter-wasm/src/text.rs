//! From the text in the record to the text that is looked at: escapes, colours, redrawn bars.
//!
//! What leaves the filter is always made of the bytes that came in; these functions only cut pieces out of them, or make the
//! readable copy that the rules look at.

use crate::find;
use crate::json::{self, Escapes};
use crate::line;

/// The escaped text without one newline at its end, and whether there was one.
pub(crate) fn without_newline(escaped: &[u8]) -> (&[u8], bool) {
    let Some(rest) = escaped.strip_suffix(b"\\n") else {
        return (escaped, false);
    };
    let backslashes = rest.iter().rev().take_while(|&&b| b == b'\\').count();
    if backslashes % 2 == 1 {
        (escaped, false)
    } else {
        (rest, true)
    }
}

/// The line without escapes and colours, in whichever buffer it needed.
pub(crate) fn readable<'a>(
    escaped: &'a [u8],
    escapes: Escapes,
    plain: &'a mut Vec<u8>,
    clean: &'a mut Vec<u8>,
) -> &'a [u8] {
    if escapes == Escapes::None || find::byte(b'\\', escaped).is_none() {
        return escaped;
    }
    if escapes == Escapes::Quotes {
        json::unescape_quotes(escaped, plain);
        return plain;
    }
    plain.clear();
    json::unescape(escaped, plain);
    if find::byte(0x1b, plain).is_none() {
        return plain;
    }
    clean.clear();
    without_colours(plain, clean);
    clean
}

/// Drops ANSI's control sequences: colours, links, character sets.
pub(crate) fn without_colours(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = find::byte(0x1b, rest) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        rest = match rest.first() {
            Some(b'[') => {
                let length = rest[1..].iter().take_while(|b| matches!(b, 0x20..=0x3f)).count();
                rest.get(length + 2..).unwrap_or(b"")
            }
            // A link's address goes up to a bell or to `ESC \`, whose own escape is dropped in the next round.
            Some(b']') => match rest.iter().position(|&b| b == 0x07 || b == 0x1b) {
                Some(end) if rest[end] == 0x07 => &rest[end + 1..],
                Some(end) => &rest[end..],
                None => rest,
            },
            Some(b'(') => rest.get(2..).unwrap_or(b""),
            Some(b'\\') => &rest[1..],
            _ => rest,
        };
    }
    out.extend_from_slice(rest);
}

/// Of a redrawn bar the last state that isn't empty.
pub(crate) fn last_state(text: &[u8]) -> &[u8] {
    if find::byte(b'\r', text).is_none() {
        return text;
    }
    text.rsplit(|&b| b == b'\r')
        .find(|part| !part.is_empty())
        .unwrap_or(b"")
}

/// Without Ray's remark that it left out equal lines of other workers.
pub(crate) fn without_repeats(text: &[u8]) -> &[u8] {
    if !text.ends_with(b" across cluster]") && !text.ends_with(b")") {
        return text;
    }
    find::last_text(text, b" [repeated ")
        .filter(|&at| line::contains(&text[at..], b"x across cluster]"))
        .map_or(text, |at| &text[..at])
}

/// The same on escaped text; nothing when there is but one state.
pub(crate) fn collapse(escaped: &[u8]) -> Option<&[u8]> {
    let mut parts = 0;
    let mut last = 0..0;
    let mut start = 0;
    let mut at = 0;
    loop {
        let next = find::byte(b'\\', &escaped[at..]).map(|n| n + at);
        let (end, behind) = match next {
            Some(b) if escaped.get(b + 1) == Some(&b'r') => (b, b + 2),
            Some(b) if escaped[b..].starts_with(b"\\u000d") || escaped[b..].starts_with(b"\\u000D") => {
                (b, b + 6)
            }
            Some(b) => {
                at = (b + 2).min(escaped.len());
                continue;
            }
            None => (escaped.len(), escaped.len()),
        };
        if end > start {
            parts += 1;
            last = start..end;
        }
        if next.is_none() {
            break;
        }
        (start, at) = (behind, behind);
    }
    (parts > 1).then(|| &escaped[last])
}
