//! What a parser makes of the lines of a block that is stored as templates: its labels are found in the template, once,
//! and their values are read for each row, without the rest of the line.

use rankline_logql::{Outline, OutlinedLine, Skeleton, Word};
use rankline_segment::{Places, SegmentError, TemplateLines, TemplatePlace};
use std::cell::{Cell, RefCell};

/// An outline, and where in the template's lines its values are.
struct Known {
    outline: Outline,
    parts: Vec<TemplatePlace>,
    /// All values are the same in all lines.
    is_fixed: bool,
    /// What was said last of rows with these values: their stream, their class, and whether they passed.
    verdict: Cell<Option<(u32, usize, bool)>>,
}

/// Reads rows of a block by outlines, in any order; ascending rows fastest.
pub(super) struct Outlines<'a> {
    text: &'a TemplateLines,
    places: Places<'a>,
    /// By template; `None` inside: its lines have to be looked at one by one.
    known: Vec<Option<Option<Known>>>,
    line: String,
}

/// What there is of a row.
pub(super) enum Outlined<'o> {
    /// Values at known places.
    Fields(RowFields<'o>),
    /// The line has to be asked itself.
    Line,
}

/// The values of one row.
pub(super) struct RowFields<'o> {
    text: &'o TemplateLines,
    known: &'o Known,
    pub(super) template: usize,
    ordinal: u32,
    /// Why a value could not be read.
    wrong: RefCell<Option<SegmentError>>,
}

impl RowFields<'_> {
    /// Whether all lines of the template have these values.
    pub(super) fn is_fixed(&self) -> bool {
        self.known.is_fixed
    }

    /// What `decide` says of the row, where it was not asked just before of a row of the same stream and class that has the
    /// same values.
    pub(super) fn verdict(
        &self,
        stream: u32,
        class: Option<usize>,
        decide: impl FnOnce(OutlinedLine<'_>) -> bool,
    ) -> Result<bool, SegmentError> {
        let Some(class) = class.filter(|_| self.known.is_fixed) else {
            return self.give(decide);
        };
        match self.known.verdict.get() {
            Some((of_stream, of_class, passes)) if (of_stream, of_class) == (stream, class) => Ok(passes),
            _ => {
                let passes = self.give(decide)?;
                self.known.verdict.set(Some((stream, class, passes)));
                Ok(passes)
            }
        }
    }

    /// Gives the row to `take`.
    pub(super) fn give<T>(&self, take: impl FnOnce(OutlinedLine<'_>) -> T) -> Result<T, SegmentError> {
        let taken = take(OutlinedLine {
            outline: &self.known.outline,
            read: &|value, out| self.read(value, out),
        });
        self.wrong.take().map_or(Ok(taken), Err)
    }

    fn read(&self, value: usize, out: &mut String) {
        let Some(part) = self.known.parts.get(value) else {
            return;
        };
        let walked = self.text.walk(*part, Some(self.ordinal), |bytes| {
            // Texts of templates and variables are checked when they are decoded.
            out.push_str(std::str::from_utf8(bytes).unwrap_or_default());
            true
        });
        if let Err(error) = walked {
            self.wrong.replace(Some(error));
        }
    }
}

impl<'a> Outlines<'a> {
    pub(super) fn new(text: &'a TemplateLines) -> Result<Self, SegmentError> {
        Ok(Self {
            places: text.places()?,
            known: (0..text.templates()).map(|_| None).collect(),
            line: String::new(),
            text,
        })
    }

    /// What there is of a row. `outline` is asked once for each template.
    pub(super) fn of(
        &mut self,
        row: u32,
        outline: impl FnOnce(&Skeleton<'_>) -> Option<Outline>,
    ) -> Result<Outlined<'_>, SegmentError> {
        let (template, ordinal) = self.places.locate(row)?;
        if let Some(template) = template {
            if self.known[template].is_none() {
                self.known[template] = Some(learn(self.text, template, outline));
            }
            if let Some(Some(known)) = &self.known[template] {
                return Ok(Outlined::Fields(RowFields {
                    text: self.text,
                    known,
                    template,
                    ordinal,
                    wrong: RefCell::default(),
                }));
            }
        }
        Ok(Outlined::Line)
    }

    /// The line of a row.
    pub(super) fn line(&mut self, row: u32) -> Result<&str, SegmentError> {
        self.places.line(row, &mut self.line)?;
        Ok(&self.line)
    }
}

fn learn(
    text: &TemplateLines,
    template: usize,
    outline: impl FnOnce(&Skeleton<'_>) -> Option<Outline>,
) -> Option<Known> {
    let (skeleton, variables) = text.skeleton(template)?;
    let outline = outline(&Skeleton {
        text: skeleton,
        variables: &variables,
        word: &|variable| word(text, template, variable),
    })?;
    let parts = outline
        .values()
        .iter()
        .map(|part| text.part_of(template, part.clone()));
    let parts = parts.collect::<Option<Vec<_>>>()?;
    Some(Known {
        is_fixed: parts.iter().all(|part| text.is_fixed(*part)),
        outline,
        parts,
        verdict: Cell::default(),
    })
}

/// What the values of a variable are. Of one that can't be read nothing is known; its lines say why.
fn word(text: &TemplateLines, template: usize, variable: usize) -> Word {
    let all = |meets: fn(&[u8]) -> bool| text.all_values(template, variable, meets).unwrap_or(false);
    if text.are_digits(template, variable) || all(is_number) {
        Word::Number
    } else if all(|value| is_number(value) || matches!(value, b"true" | b"false")) {
        Word::Scalar
    } else {
        Word::Any
    }
}

fn is_number(value: &[u8]) -> bool {
    value.first().is_some_and(u8::is_ascii_digit)
}
