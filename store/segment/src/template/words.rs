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
    let (mut at, mut copied) = (0, 0);
    while let Some(&byte) = line.get(at) {
        if CLASS[usize::from(byte)] == 0 {
            at += 1;
            continue;
        }
        let word = Word::at(line, at);
        at = word.range.end;
        let whole = word.is_identifier()
            || (vocabulary == Vocabulary::Values && is_assigned(&line[..word.range.start]));
        let slot = if whole { word.range } else { word.digits };
        if !slot.is_empty() {
            template.extend_from_slice(&line[copied..slot.start]);
            template.push(SLOT);
            copied = slot.end;
            slots.push(slot.start as u32..slot.end as u32);
        }
    }
    template.extend_from_slice(&line[copied..]);
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

    proptest! {
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
