//! A text to look for, split as lines are: what of it must stand in a template, and what in which variables.
//!
//! The words inside the needle are whole words of any line that holds it, so they are split as the line's are. The
//! first and the last word may be parts of longer ones, and in [`Vocabulary::Values`] what stands before the first one
//! may be missing; these are read in every way that the line can have been split. Readings too many do no harm:
//! what a reading finds is there.

use std::ops::Range;

use memchr::memmem::Finder;

use super::{
    values::{Stamp, alphabet},
    words::{SLOT, Vocabulary, Word, is_assigned, is_word_byte},
};

/// A text to look for in many blocks.
#[derive(Debug, Clone)]
pub struct Needle {
    /// In lower case when case is ignored.
    text: Vec<u8>,
    ignore_case: bool,
    /// By vocabulary.
    readings: [Readings; 2],
}

/// All ways in which lines that hold the needle can have been split.
#[derive(Debug, Clone)]
pub(crate) struct Readings {
    pub(crate) list: Vec<Reading>,
    /// What the templates of all readings have in common, where that is worth looking for.
    pub(crate) core: Option<Finder<'static>>,
}

/// One way in which lines that hold the needle can have been split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reading {
    /// What the template contains.
    pub(crate) template: Vec<u8>,
    /// Where in it the readings' common core begins.
    pub(crate) core: usize,
    /// What the variables at its slots are.
    pub(crate) parts: Vec<VariablePart>,
}

/// What a needle says of one variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VariablePart {
    text: Vec<u8>,
    /// The variable begins, or ends, with the text: the needle has what comes before or after.
    begins: bool,
    ends: bool,
    alphabet: u64,
}

impl Needle {
    /// A needle for lines that contain `text`; `None` when it is empty, so in every line.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        Self::with_case(text, false)
    }

    /// A needle for lines that contain `text` in any case of its ASCII letters. `None` when it is empty or holds
    /// letters beyond ASCII.
    #[must_use]
    pub fn ignoring_case(text: &str) -> Option<Self> {
        if !text.is_ascii() {
            return None;
        }
        Self::with_case(text, true)
    }

    fn with_case(text: &str, ignore_case: bool) -> Option<Self> {
        let text = if ignore_case {
            text.to_ascii_lowercase()
        } else {
            text.to_owned()
        }
        .into_bytes();
        if text.is_empty() {
            return None;
        }
        let readings = Vocabulary::ALL.map(|vocabulary| readings(&text, vocabulary));
        Some(Needle {
            text,
            ignore_case,
            readings,
        })
    }

    /// Bytes of the text.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a needle is never empty")]
    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// The bytes to look for; in lower case when case is ignored.
    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }

    pub(crate) fn ignores_case(&self) -> bool {
        self.ignore_case
    }

    /// Whether letters beyond ASCII may stand for some of the needle's.
    pub(crate) fn is_folded_beyond_ascii(&self) -> bool {
        self.ignore_case && self.text.iter().any(|byte| matches!(byte, b's' | b'k'))
    }

    pub(crate) fn readings(&self, vocabulary: Vocabulary) -> &Readings {
        &self.readings[vocabulary as usize]
    }

    /// The needle as it stands in every template of the vocabulary whose lines hold it, and in no other: when it can be
    /// read in one way alone, without variables.
    pub(crate) fn in_templates(&self, vocabulary: Vocabulary) -> Option<&[u8]> {
        match self.readings(vocabulary).list.as_slice() {
            [reading] if reading.parts.is_empty() && !self.ignore_case => Some(&reading.template),
            _ => None,
        }
    }
}

/// A word of the needle and how it may have been split.
struct Place {
    word: Range<usize>,
    choices: Vec<Option<Range<usize>>>,
}

/// Bytes that a core must have to be looked for: what is shorter is everywhere.
const MIN_CORE: usize = 3;

fn readings(text: &[u8], vocabulary: Vocabulary) -> Readings {
    let places = places(text, vocabulary);
    let (core, core_len) = core(text, &places);
    let mut readings = vec![Reading {
        template: Vec::new(),
        core: 0,
        parts: Vec::new(),
    }];
    let mut copied = 0;
    for (number, place) in places.iter().enumerate() {
        let before = &text[copied..place.word.start];
        copied = place.word.end;
        let mut more = Vec::with_capacity(readings.len() * place.choices.len());
        for reading in readings {
            for choice in &place.choices {
                let mut reading = reading.clone();
                reading.template.extend_from_slice(before);
                reading.extend(text, &place.word, choice.clone());
                if number + 1 == core {
                    reading.core = reading.template.len();
                }
                if !more.contains(&reading) {
                    more.push(reading);
                }
            }
        }
        readings = more;
    }
    readings
        .iter_mut()
        .for_each(|reading| reading.template.extend_from_slice(&text[copied..]));
    let common = readings
        .first()
        .and_then(|first| first.template.get(first.core..first.core + core_len));
    let core = common.filter(|common| common.len() >= MIN_CORE);
    Readings {
        core: core.map(|core| Finder::new(core).into_owned()),
        list: readings,
    }
}

/// The words of the needle that may hold a variable.
fn places(text: &[u8], vocabulary: Vocabulary) -> Vec<Place> {
    let mut places = Vec::new();
    let mut at = 0;
    while at < text.len() {
        if !is_word_byte(text[at]) {
            at += 1;
            continue;
        }
        let word = Word::at(text, at);
        at = word.range.end;
        let choices = choices(text, &word, vocabulary, places.is_empty());
        places.push(Place {
            word: word.range,
            choices,
        });
    }
    places
}

/// The longest stretch that all readings have in common: the number of places before it, and its bytes in a template.
fn core(text: &[u8], places: &[Place]) -> (usize, usize) {
    let (mut best, mut start, mut len, mut copied) = ((0, 0), 0, 0, 0);
    for (number, place) in places.iter().enumerate() {
        len += place.word.start - copied;
        copied = place.word.end;
        match place.choices.as_slice() {
            [None] => len += place.word.len(),
            [Some(variable)] => len += place.word.len() - variable.len() + 1,
            _ => {
                if len > best.1 {
                    best = (start, len);
                }
                (start, len) = (number + 1, 0);
            }
        }
    }
    len += text.len() - copied;
    if len > best.1 { (start, len) } else { best }
}

/// The parts of a needle's word that may be a variable; `None` for none.
fn choices(text: &[u8], word: &Word, vocabulary: Vocabulary, is_first: bool) -> Vec<Option<Range<usize>>> {
    let whole = || Some(word.range.clone());
    let digits = || Some(word.digits.clone()).filter(|digits| !digits.is_empty());
    let open = word.range.start == 0 || word.range.end == text.len();
    let values = vocabulary == Vocabulary::Values;
    if !open && word.is_identifier() {
        return vec![whole()];
    }
    if open || (values && is_first) {
        return if word.digit_runs > 1 {
            vec![whole()]
        } else {
            vec![digits(), whole()]
        };
    }
    if values && is_assigned(&text[..word.range.start]) {
        vec![whole()]
    } else {
        vec![digits()]
    }
}

impl Reading {
    fn extend(&mut self, text: &[u8], word: &Range<usize>, variable: Option<Range<usize>>) {
        let Some(variable) = variable else {
            self.template.extend_from_slice(&text[word.clone()]);
            return;
        };
        self.template.extend_from_slice(&text[word.start..variable.start]);
        self.template.push(SLOT);
        self.template.extend_from_slice(&text[variable.end..word.end]);
        let (begins, ends) = (variable.start > 0, variable.end < text.len());
        let text = text[variable].to_vec();
        self.parts.push(VariablePart {
            alphabet: alphabet(&text),
            text,
            begins,
            ends,
        });
    }
}

impl VariablePart {
    /// Whether a variable of a column can meet it, by the column's stamp.
    pub(crate) fn may_be_in(&self, stamp: &Stamp, ignore_case: bool) -> bool {
        let len = self.text.len() as u64;
        let fits = if self.begins && self.ends {
            (u64::from(stamp.min_len)..=u64::from(stamp.max_len)).contains(&len)
        } else {
            len <= u64::from(stamp.max_len)
        };
        let letters = if ignore_case {
            in_lower_case(stamp.alphabet)
        } else {
            stamp.alphabet
        };
        fits && self.alphabet & !letters == 0
    }

    /// Whether a variable meets it.
    #[inline]
    pub(crate) fn is_met_by(&self, variable: &[u8], ignore_case: bool) -> bool {
        let len = self.text.len();
        if variable.len() < len || (self.begins && self.ends && variable.len() != len) {
            return false;
        }
        let same = |part: &[u8]| {
            if ignore_case {
                part.eq_ignore_ascii_case(&self.text)
            } else {
                part == self.text
            }
        };
        match (self.begins, self.ends) {
            (true, _) => same(&variable[..len]),
            (false, true) => same(&variable[variable.len() - len..]),
            (false, false) => variable.windows(len).any(same),
        }
    }
}

/// The alphabet with lower case letters for upper case ones.
fn in_lower_case(alphabet: u64) -> u64 {
    const UPPER: u64 = ((1 << 26) - 1) << 10;
    alphabet & !UPPER | (alphabet & UPPER) << 26
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn templates(text: &str, vocabulary: Vocabulary) -> Vec<String> {
        let needle = Needle::new(text).unwrap();
        let mut templates: Vec<_> = needle
            .readings(vocabulary)
            .list
            .iter()
            .map(|reading| String::from_utf8(reading.template.clone()).unwrap())
            .collect();
        templates.sort();
        templates
    }

    #[test]
    fn only_outermost_words_are_in_doubt() {
        let of = |text| templates(text, Vocabulary::Numbers);
        assert_eq!(of(" step 12 of d9f8 "), [" step 0 of 0 "]);
        assert_eq!(of("step 12"), ["0 0", "step 0"]);
        assert_eq!(of("rank3 lost"), ["0 0", "0 lost", "rank0 0", "rank0 lost"]);
        assert_eq!(of("12"), ["0"]);
        assert_eq!(of("[é]"), ["[é]"]);
        assert!(Needle::new("").is_none());
    }

    #[test]
    fn readings_have_a_core_in_common() {
        let core = |text: &str| {
            let needle = Needle::new(text).unwrap();
            let readings = needle.readings(Vocabulary::Numbers);
            let core = readings.core.as_ref().map(|core| core.needle().to_vec())?;
            for reading in &readings.list {
                assert_eq!(reading.template[reading.core..][..core.len()], core);
            }
            Some(String::from_utf8(core).unwrap())
        };
        assert_eq!(core("xid 79 fallen off").as_deref(), Some(" 0 fallen "));
        assert_eq!(core(" step 12 of ").as_deref(), Some(" step 0 of "));
        assert_eq!(core("loss: ").as_deref(), None);
        assert_eq!(core("\"loss\": 0.5").as_deref(), Some("\"loss\": 0."));
        assert_eq!(core("é loss").as_deref(), Some("é "));
        assert_eq!(core("word").as_deref(), None);
    }

    #[test]
    fn what_is_assigned_is_a_variable_where_words_are() {
        let of = |text| templates(text, Vocabulary::Values);
        assert_eq!(of(r#"{"level":"error","#), [r#"{"0":"0","#, r#"{"level":"0","#]);
        assert_eq!(of(r#""error""#), [r#""0""#, r#""error""#]);
    }

    #[test]
    fn stamps_rule_out_what_cannot_be() {
        let needle = Needle::new("x12").unwrap();
        let part = &needle.readings(Vocabulary::Numbers).list[1].parts[0];
        let stamp =
            |values: &[&str]| Stamp::of(&values.iter().map(|value| value.as_bytes()).collect::<Vec<_>>());
        assert!(part.may_be_in(&stamp(&["ax12b"]), false));
        assert!(!part.may_be_in(&stamp(&["12", "1234"]), false));
        assert!(!part.may_be_in(&stamp(&["x1", "x2"]), false));
        assert!(!part.may_be_in(&stamp(&["X12"]), false));
        assert!(part.may_be_in(&stamp(&["X12"]), true));
        assert!(part.is_met_by(b"aX12b", true) && !part.is_met_by(b"aX12b", false));
    }
}
