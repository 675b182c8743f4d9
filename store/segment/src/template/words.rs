//! Splits a line into its template and its variables. Pure; knows neither columns nor bytes on objects.
//!
//! A *word* is a maximal run of ASCII letters and digits. What of it is a variable depends on the word alone, and in
//! [`Vocabulary::Values`] on what stands right before it, so a text that is searched for can be split the same way
//! as the lines that hold it: only its outermost words leave a doubt (see `needle`).
//!
//! - Digits alone, four or more hexadecimal digits alone (`d9f8`, `5e637e81aa36fa71`, a UUID's groups), and words with
//!   digits in two or more places (`H100x8`, `05T12`, `x2x4z`) are variables as a whole: such words are identifiers.
//! - In other words the digits are the variable: `rank12` and `rank3` share a template. So in `0625e` of `1.0625e-05`.
//! - The rest is template.
//!
//! So a template holds no digit but [`SLOT`], which stands where a variable was taken out.

use std::ops::Range;

use wide::u8x16;

/// Stands in a template for a variable.
pub(crate) const SLOT: u8 = b'0';

/// Least length at which a word of hexadecimal digits alone is an identifier: a UUID's shortest group.
const MIN_HEX_WORD: usize = 4;

/// What counts as a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vocabulary {
    /// Words with digits, as above.
    Numbers,
    /// Those, and every word that is assigned: `user=alice`, `"user": "alice"`. For lines that would each have a
    /// template of their own otherwise.
    Values,
}

impl Vocabulary {
    pub(crate) const ALL: [Self; 2] = [Vocabulary::Numbers, Vocabulary::Values];
}

const LETTER: u8 = 1;
const HEX_LETTER: u8 = 2;
const DIGIT: u8 = 4;

/// What a byte is to a word; 0 ends it.
static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let char = byte as u8;
        classes[byte] = if char.is_ascii_digit() {
            DIGIT
        } else if char.is_ascii_hexdigit() {
            HEX_LETTER
        } else if char.is_ascii_alphabetic() {
            LETTER
        } else {
            0
        };
        byte += 1;
    }
    classes
}

/// A word of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) range: Range<usize>,
    /// Places with digits.
    pub(crate) digit_runs: usize,
    /// The last of them.
    pub(crate) digits: Range<usize>,
    hex: bool,
    /// Digits and an `e`: what stands before the exponent's sign in `1.0625e-05`.
    is_mantissa: bool,
}

impl Word {
    /// The word that starts at `start`; empty when none does.
    #[inline]
    pub(crate) fn at(text: &[u8], start: usize) -> Self {
        let (mut kinds, mut before, mut digit_runs, mut digits) = (0, 0, 0, 0..0);
        let mut end = start;
        while let Some(&byte) = text.get(end) {
            let class = CLASS[usize::from(byte)];
            if class == 0 {
                break;
            }
            if class == DIGIT {
                if before != DIGIT {
                    digit_runs += 1;
                    digits.start = end;
                }
                digits.end = end + 1;
            }
            kinds |= class;
            before = class;
            end += 1;
        }
        Word {
            is_mantissa: digits.start == start && digits.end + 1 == end && text[end - 1] | 0x20 == b'e',
            hex: kinds & LETTER == 0,
            range: start..end,
            digit_runs,
            digits,
        }
    }

    /// Whether the word is a variable as a whole wherever it stands.
    #[inline]
    pub(crate) fn is_identifier(&self) -> bool {
        self.digit_runs > 1 || (self.hex && self.range.len() >= MIN_HEX_WORD && !self.is_mantissa)
    }
}

/// Whether `byte` can be part of a word.
#[inline]
pub(crate) fn is_word_byte(byte: u8) -> bool {
    CLASS[usize::from(byte)] != 0
}

/// Whether a word after `before` is what something is set to: after `=` or `:`, a space at most, a quote at most.
pub(crate) fn is_assigned(before: &[u8]) -> bool {
    let before = before
        .strip_suffix(b"\"")
        .or(before.strip_suffix(b"'"))
        .unwrap_or(before);
    let before = before.strip_suffix(b" ").unwrap_or(before);
    matches!(before.last(), Some(b'=' | b':'))
}

/// Appends the line's template to `template`, and where its variables are in the line to `slots`.
pub(crate) fn split(
    line: &[u8],
    vocabulary: Vocabulary,
    template: &mut Vec<u8>,
    slots: &mut Vec<Range<u32>>,
) {
    let mut copied = 0;
    let mut slot = |slot: Range<usize>| {
        template.extend_from_slice(&line[copied..slot.start]);
        template.push(SLOT);
        copied = slot.end;
        slots.push(slot.start as u32..slot.end as u32);
    };
    let mut at = 0;
    while at < line.len() {
        at = Window::new(line, at).variables(vocabulary, &mut slot);
    }
    template.extend_from_slice(&line[copied..]);
}

/// The part of a word, or all of it, that is a variable; empty if none is.
fn variable_of(word: &Word, line: &[u8], vocabulary: Vocabulary) -> Range<usize> {
    let assigned = || vocabulary == Vocabulary::Values && is_assigned(&line[..word.range.start]);
    if word.is_identifier() || assigned() {
        word.range.clone()
    } else {
        word.digits.clone()
    }
}

/// Bytes that are looked at together.
const WINDOW: usize = 64;

/// What the next bytes of a line are to words, a bit for each byte: so most words, which are all template, are passed
/// over without a look at their bytes.
struct Window<'a> {
    line: &'a [u8],
    start: usize,
    /// Letters and digits.
    words: u64,
    digits: u64,
    /// Letters that are no hexadecimal digits.
    letters: u64,
}

impl<'a> Window<'a> {
    #[inline]
    fn new(line: &'a [u8], start: usize) -> Self {
        let rest = &line[start..];
        let mut padded = [0; WINDOW];
        let bytes = match rest.first_chunk() {
            Some(bytes) => bytes,
            None => {
                padded[..rest.len()].copy_from_slice(rest);
                &padded
            }
        };
        let (mut digits, mut alphabetic, mut hex) = (0, 0, 0);
        for (number, lane) in bytes.as_chunks::<16>().0.iter().enumerate() {
            let lane = u8x16::new(*lane);
            let below = |bytes: u8x16, count: u8| {
                let flags = bytes.min(u8x16::splat(count - 1)).simd_eq(bytes);
                u64::from(flags.to_bitmask()) << (16 * number)
            };
            let letter = (lane | u8x16::splat(0x20)) - u8x16::splat(b'a');
            digits |= below(lane - u8x16::splat(b'0'), 10);
            alphabetic |= below(letter, 26);
            hex |= below(letter, 6);
        }
        Window {
            line,
            start,
            words: digits | alphabetic,
            digits,
            letters: alphabetic & !hex,
        }
    }

    /// Calls `slot` for each variable of the words that end in the window; where the next window has to start.
    #[inline]
    fn variables(&self, vocabulary: Vocabulary, slot: &mut impl FnMut(Range<usize>)) -> usize {
        let mut words = self.words;
        while words != 0 {
            let first = words.trailing_zeros();
            let end = first + (words >> first).trailing_ones();
            if end as usize == WINDOW && self.start + WINDOW < self.line.len() {
                return self.pass_open_word(first, vocabulary, slot);
            }
            let mask = u64::MAX >> (WINDOW as u32 - end) & u64::MAX << first;
            words &= !mask;
            let (digits, hex) = (self.digits & mask, self.letters & mask == 0);
            let whole = self.start + first as usize..self.start + end as usize;
            // Most variables are digits alone.
            if digits == mask {
                slot(whole);
                continue;
            }
            let plain = digits == 0 && !(hex && whole.len() >= MIN_HEX_WORD);
            if plain && vocabulary == Vocabulary::Numbers {
                continue;
            }
            let variable = variable_of(&self.word(whole, digits, hex), self.line, vocabulary);
            if !variable.is_empty() {
                slot(variable);
            }
        }
        (self.start + WINDOW).min(self.line.len())
    }

    /// The word at `range` in the line, of which `digits` are digits.
    #[inline]
    fn word(&self, range: Range<usize>, digits: u64, hex: bool) -> Word {
        if digits == 0 {
            return Word {
                range,
                digit_runs: 0,
                digits: 0..0,
                hex,
                is_mantissa: false,
            };
        }
        let (from, to) = (digits.trailing_zeros(), WINDOW as u32 - digits.leading_zeros());
        let at = |bit: u32| self.start + bit as usize;
        let is_mantissa =
            at(from) == range.start && at(to) + 1 == range.end && self.line[at(to)] | 0x20 == b'e';
        // More than one is all that counts.
        let digit_runs = if (digits >> from).trailing_ones() == to - from {
            1
        } else {
            2
        };
        Word {
            range,
            digit_runs,
            digits: at(from)..at(to),
            hex,
            is_mantissa,
        }
    }

    /// Deals with the word that starts at `first` and may go on beyond the window; where the next window has to start.
    #[cold]
    fn pass_open_word(
        &self,
        first: u32,
        vocabulary: Vocabulary,
        slot: &mut impl FnMut(Range<usize>),
    ) -> usize {
        if first > 0 {
            return self.start + first as usize;
        }
        let word = Word::at(self.line, self.start);
        let variable = variable_of(&word, self.line, vocabulary);
        if !variable.is_empty() {
            slot(variable);
        }
        word.range.end
    }
}

/// The template of a line, for tests of this module's users.
#[cfg(test)]
pub(crate) fn template_of(line: &str, vocabulary: Vocabulary) -> (String, Vec<&str>) {
    let (mut template, mut slots) = (Vec::new(), Vec::new());
    split(line.as_bytes(), vocabulary, &mut template, &mut slots);
    let values = slots
        .iter()
        .map(|slot| &line[slot.start as usize..slot.end as usize])
        .collect();
    (String::from_utf8_lossy(&template).into_owned(), values)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn numbers(line: &str) -> (String, Vec<&str>) {
        template_of(line, Vocabulary::Numbers)
    }

    #[test]
    fn digits_are_taken_out_of_words_and_identifiers_as_a_whole() {
        assert_eq!(
            numbers("[rank12]: step  40 loss 0.0625e-05"),
            (
                "[rank0]: step  0 loss 0.0e-0".into(),
                vec!["12", "40", "0", "0625", "05"]
            )
        );
        assert_eq!(
            numbers("H100x8 16GB d9f8-dead 0x7fff1234 2026-01-05T12:00:01Z"),
            (
                "0 0GB 0-0 0 0-0-0:0:0Z".into(),
                vec![
                    "H100x8",
                    "16",
                    "d9f8",
                    "dead",
                    "0x7fff1234",
                    "2026",
                    "01",
                    "05T12",
                    "00",
                    "01"
                ]
            )
        );
        assert_eq!(
            numbers("no word of it: Fée"),
            ("no word of it: Fée".into(), vec![])
        );
    }

    #[test]
    fn assigned_words_are_values() {
        let line = r#"{"user":"alice","level": "info", "by": 'bob'} a=b c= d not "quoted""#;
        let (template, values) = template_of(line, Vocabulary::Values);
        assert_eq!(
            template,
            r#"{"user":"0","level": "0", "by": '0'} a=0 c= 0 not "quoted""#
        );
        assert_eq!(values, ["alice", "info", "bob", "b", "d"]);
        assert_eq!(numbers(line).0, line);
    }

    /// The slots by a look at each word's bytes.
    fn slots_word_by_word(line: &[u8], vocabulary: Vocabulary) -> Vec<Range<u32>> {
        let mut slots = Vec::new();
        let mut at = 0;
        while at < line.len() {
            let word = Word::at(line, at);
            let slot = variable_of(&word, line, vocabulary);
            if !slot.is_empty() {
                slots.push(slot.start as u32..slot.end as u32);
            }
            at = word.range.end.max(at + 1);
        }
        slots
    }

    proptest! {
        #[test]
        fn windows_find_what_a_look_at_each_byte_finds(
            line in prop_oneof![
                any::<String>(),
                "[a-g0-3xX=:\"' .-]{0,200}",
                "([a-f0-9]{40,90}|[g-z0-9]{40,90}|[ =]{1,3}){0,5}",
            ],
            vocabulary in prop::sample::select(&Vocabulary::ALL[..]),
        ) {
            let (mut template, mut slots) = (Vec::new(), Vec::new());
            split(line.as_bytes(), vocabulary, &mut template, &mut slots);
            prop_assert_eq!(slots, slots_word_by_word(line.as_bytes(), vocabulary));
        }

        #[test]
        fn template_and_variables_are_the_line(
            line in prop_oneof![any::<String>(), "[a-g0-3xX=:\"' .-]{0,40}"],
            vocabulary in prop::sample::select(&Vocabulary::ALL[..]),
        ) {
            let (template, values) = template_of(&line, vocabulary);
            let mut values = values.into_iter();
            let mut rebuilt = String::new();
            for char in template.chars() {
                match char {
                    '0' => rebuilt.push_str(values.next().unwrap_or("?")),
                    char => rebuilt.push(char),
                }
            }
            prop_assert!(values.next().is_none());
            prop_assert_eq!(rebuilt, line);
            prop_assert!(!template.contains(['1', '2', '3', '4', '5', '6', '7', '8', '9']));
        }
    }
}
