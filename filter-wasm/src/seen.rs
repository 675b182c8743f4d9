//! Lines like one that was seen before: what became of it becomes of them, without reading them.
//!
//! Programs print few kinds of lines with changing numbers. No rule of the filter asks for the value of a digit where it only
//! decides what a line is, so lines that differ in their digits alone fare alike: they get the same fields, or none. One pass over
//! the line, which hashes it with its digits blanked, replaces all rules for it. The numbers that do count are looked at:
//! a rank and a step are read at their place, and where prefixes have more numbers than a rank, these are a part of the key. Lines
//! that say something of their stream, such as its number of ranks, are read each time. Of an address in hexadecimal digits
//! (`comm 0x7f3a…`) the letters count no more than the digits; for them a line is looked up a second time.
//!
//! Only what leaves with its own call, or would if no other record waited, is remembered, and only of streams whose memory reading
//! the line again would not change: the key changes with all that the rules know of the stream (see
//! [`crate::tags::Tag::state`]). Streams of which the same is known share what they remember. The table is small and forgets by
//! overwriting. Two lines whose hashes of 64 bits are equal would be taken for each other.

use std::cell::Cell;

use crate::fields::significant;
use crate::find;
use crate::json::{Span, Writer};
use crate::task_label::Label;

/// Entries of the table: kinds of lines of all streams at hand, a power of two.
const ENTRIES: usize = 16384;

/// Longest prefixes whose digits can be a part of the key.
pub(crate) const MAX_HEAD: usize = 48;

/// Longest fields that are remembered, in bytes.
pub(crate) const MAX_FIELDS: usize = 1 << 10;

/// Most digits of a number of ranks.
const WORLD_SIZE_DIGITS: usize = 10;

/// What became of a line.
#[derive(Debug, Clone)]
pub(crate) enum Seen {
    /// So many bytes at its head count with their digits: ask again with them.
    Head(usize),
    /// It left with these fields.
    Line(Left),
}

/// A line that left at once.
#[derive(Debug, Clone)]
pub(crate) struct Left {
    /// Length of its prefixes, and where in them what tells their writer stands, without the padding around it; empty where they
    /// don't.
    pub head: usize,
    pub writer: Span,
    /// Nothing stands behind them.
    pub blank: bool,
    /// What stands there begins a record of its own; nothing while nobody asked.
    pub own_record: Cell<Option<bool>>,
    /// The launcher's label before it, where the stream's are believed; its number is that of the line it was read of.
    pub label: Option<Label>,
    /// It has none, and launchers put theirs before such a line.
    pub unlabelled: bool,
    /// The fields that all lines like it get, as they are written in JSON, without the digits that stand in the line.
    pub fields: Vec<u8>,
    /// The rank, when the line itself says it.
    pub rank: Option<Number>,
    /// Where in the fields the number of ranks belongs that a launcher's line said last.
    pub world_size: Option<usize>,
    /// The step, when the line itself says it.
    pub step: Option<Number>,
}

impl Left {
    /// Most bytes that [`Self::write_fields`] writes.
    #[inline(always)]
    pub(crate) fn most_bytes(&self) -> usize {
        let digits = |number: &Option<Number>| number.as_ref().map_or(0, |number| number.place.len());
        self.fields.len() + digits(&self.rank) + digits(&self.step) + WORLD_SIZE_DIGITS
    }

    /// Writes the fields of a line like this one; `world_size`: the digits of the number of ranks, where one is known.
    #[inline(always)]
    pub(crate) fn write_fields(&self, escaped: &[u8], world_size: &[u8], out: &mut Writer<'_>) {
        let mut from = 0;
        if let Some(rank) = &self.rank {
            out.put(&self.fields[..rank.at]);
            out.put(significant(&escaped[rank.place.clone()]));
            from = rank.at;
        }
        if let Some(at) = self.world_size {
            out.put(&self.fields[from..at]);
            out.put(world_size);
            from = at;
        }
        if let Some(step) = &self.step {
            out.put(&self.fields[from..step.at]);
            out.put(significant(&escaped[step.place.clone()]));
            from = step.at;
        }
        out.put(&self.fields[from..]);
    }
}

/// Digits that stand in the line.
#[derive(Debug, Clone)]
pub(crate) struct Number {
    /// Where in the escaped line.
    pub place: Span,
    /// Where they belong in [`Left::fields`].
    pub at: usize,
}

/// The table. Its memory grows with what it remembers: few programs print so many kinds of lines as it has entries.
#[derive(Debug, Default)]
pub(crate) struct SeenLines {
    keys: Vec<u64>,
    seen: Vec<Option<Box<Seen>>>,
}

impl SeenLines {
    /// What became of a line with this key.
    pub(crate) fn get(&self, key: u64) -> Option<&Seen> {
        let mut at = place(key);
        if *self.keys.get(at)? != key {
            at ^= 1;
            if *self.keys.get(at)? != key {
                return None;
            }
        }
        self.seen.get(at)?.as_deref()
    }

    /// Remembers what became of a line. Of the two that may stand in its place the older one is forgotten.
    pub(crate) fn put(&mut self, key: u64, seen: Seen) {
        if self.keys.is_empty() {
            self.keys = vec![0; ENTRIES];
            self.seen = vec![None; ENTRIES];
        }
        let at = place(key);
        if self.keys[at] != key {
            self.keys.swap(at, at ^ 1);
            self.seen.swap(at, at ^ 1);
        }
        self.keys[at] = key;
        self.seen[at] = Some(Box::new(seen));
    }
}

fn place(key: u64) -> usize {
    (key >> 32) as usize & (ENTRIES - 1)
}

/// A hash of the text with its digits blanked. Inlined, since nearly every call of the filter makes one.
#[inline(always)]
pub(crate) fn blanked(seed: u64, text: &[u8]) -> u64 {
    const TOPS: u64 = find::lanes(0x80);
    const K: u64 = 0x9e37_79b9_7f4a_7c15;
    let add = |state: u64, word: u64| {
        // `0` to `9` become 0 to 9, everything else more, or has its top bit set.
        let from_zero = word ^ find::lanes(b'0');
        let others = (((from_zero & !TOPS) + find::lanes(0x80 - 10)) | from_zero) & TOPS;
        // Their low half is blanked, which leaves a `0`: no other byte looks like it, not even a NUL.
        let kept = ((others >> 7) * 0x0f) | find::lanes(0xf0);
        (state ^ (word & kept)).rotate_left(29).wrapping_mul(K)
    };
    // Two words a round: the round itself costs as much as a third of a word.
    let (pairs, rest) = text.as_chunks::<16>();
    let mut state = seed ^ (text.len() as u64).wrapping_mul(K);
    for pair in pairs {
        let pair = u128::from_le_bytes(*pair);
        state = add(add(state, pair as u64), (pair >> 64) as u64);
    }
    if let Some((chunk, _)) = rest.split_first_chunk::<8>() {
        state = add(state, u64::from_le_bytes(*chunk));
    }
    // The last bytes once more, or all of a short text.
    let last = match text.last_chunk::<8>() {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => text.iter().fold(0, |word, &byte| word << 8 | u64::from(byte)),
    };
    state = add(state, last);
    state ^ (state >> 32)
}

/// A hash of the text with the letters of its hexadecimal numbers blanked too; nothing when it has no such number.
///
/// Not inlined: few lines have one.
#[inline(never)]
pub(crate) fn blanked_hex(seed: u64, text: &[u8], copy: &mut Vec<u8>) -> Option<u64> {
    without_hex_letters(text, copy).then(|| blanked(!seed, copy))
}

/// Makes a copy of the text with the letters of its hexadecimal numbers blanked, when it has such a number.
///
/// That is `0x` and its digits in small letters, up to what can't belong to a word, a time or another number: so no rule that asks
/// for a digit finds one beside a letter that was blanked. No rule looks for such letters behind `0x`.
fn without_hex_letters(text: &[u8], copy: &mut Vec<u8>) -> bool {
    let (mut from, mut found) = (0, false);
    while let Some(x) = find::byte(b'x', &text[from..]).map(|at| at + from) {
        from = x + 1;
        if !text[..x].ends_with(b"0") {
            continue;
        }
        let digits = text[from..].iter();
        let digits = digits.take_while(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let end = from + digits.count();
        let ends = matches!(text.get(end), None | Some(b' ' | b',' | b')' | b']' | b'>'));
        if end == from || !ends {
            continue;
        }
        if !found {
            copy.clear();
            copy.extend_from_slice(text);
            found = true;
        }
        copy[from..end].fill(b'0');
        from = end;
    }
    found
}

/// Where the byte at `at` of the readable text stands in the escaped one. Without `\u`, an escape is two bytes for one.
pub(crate) fn place_in_escaped(escaped: &[u8], at: usize) -> Option<usize> {
    let (mut place, mut left) = (0, at);
    loop {
        let rest = escaped.get(place..)?;
        let Some(plain) = find::byte(b'\\', &rest[..left.min(rest.len())]) else {
            return (left <= rest.len()).then_some(place + left);
        };
        left -= plain + 1;
        place += plain + 2;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn digits_alone_do_not_count(text in "[ -~é]{0,40}", digits in "[0-9]{40}") {
            let other: String = text
                .chars()
                .zip(digits.chars())
                .map(|(c, digit)| if c.is_ascii_digit() { digit } else { c })
                .collect();
            prop_assert_eq!(blanked(1, text.as_bytes()), blanked(1, other.as_bytes()));
        }

        #[test]
        fn everything_else_counts(text in "[ -~é]{1,40}", at in any::<prop::sample::Index>(), with in any::<u8>()) {
            let mut other = text.clone().into_bytes();
            let at = at.index(other.len());
            prop_assume!(other[at] != with && !(other[at].is_ascii_digit() && with.is_ascii_digit()));
            other[at] = with;
            prop_assert_ne!(blanked(1, text.as_bytes()), blanked(1, &other));
        }
    }

    #[test]
    fn a_nul_is_no_digit() {
        assert_ne!(blanked(1, b"0"), blanked(1, b"\0"));
        assert_eq!(blanked(1, b"0"), blanked(1, b"9"));
    }

    #[test]
    fn letters_of_hexadecimal_numbers_are_blanked() {
        let mut copy = Vec::new();
        for (text, expected) in [
            ("comm 0x7f3a rank 3", Some("comm 0x0000 rank 3")),
            ("(0xab) 0xc, [0xd] <0xe> 0xf", Some("(0x00) 0x0, [0x0] <0x0> 0x0")),
            ("0xbad", Some("0x000")),
            ("fex 0x12", Some("fex 0x00")),
            // Where something else may be meant.
            ("0xab:34:56", None),
            ("0xAB 0xabg 0xab.5 0xab_c", None),
            ("0x x 0 xab 1xab", None),
            ("loss 0.5", None),
        ] {
            let found = without_hex_letters(text.as_bytes(), &mut copy);
            let blanked = found.then_some(copy.as_slice());
            assert_eq!(blanked, expected.map(str::as_bytes), "{text}");
        }
    }

    #[test]
    fn places_are_found_behind_escapes() {
        let escaped = br#"a\"b\\c\t12"#;
        for (at, place) in [(0, 0), (1, 1), (2, 3), (4, 6), (6, 9), (7, 10)] {
            assert_eq!(place_in_escaped(escaped, at), Some(place), "{at}");
        }
        assert_eq!(place_in_escaped(b"12", 0), Some(0));
    }

    #[test]
    fn the_table_keeps_its_size() {
        let mut table = SeenLines::default();
        for key in 0..100_000u64 {
            let key = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            table.put(key, Seen::Head(3));
            assert!(table.get(key).is_some());
        }
        assert_eq!((table.keys.len(), table.seen.len()), (ENTRIES, ENTRIES));
    }
}
