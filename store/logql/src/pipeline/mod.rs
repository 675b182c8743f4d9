//! Pipelines: compiled stages that keep, drop and shape entries one at a time. Knows no storage and no windows.

mod format;
mod ip;
mod json;
mod json_path;
mod label_filter;
mod line_filter;
mod logfmt;
mod outline;
mod pattern;
mod run;
pub(crate) mod scratch;
mod sole_capture;
mod stage;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

pub use json::json_paths;
pub(crate) use label_filter::Condition;
pub use label_filter::LabelTest;
pub use line_filter::LineFilter;
pub use logfmt::{logfmt_pairs, logfmt_pairs_before_fault};
pub use outline::{Outline, OutlinedLine, Skeleton, Word};
pub use run::{Processed, Runner};
use scratch::{BUILT_IN, Hints, NameId, Names, SUFFIX};
pub use sole_capture::{CaptureScan, SoleCapture};
use stage::Step;

use crate::error::ParseError;
use crate::syntax::ast::{LineFilterExpr, LineFilterOp, LineFilterValue, Stage};

/// Bytes that a text must have to be looked for before a parser runs.
const MIN_IMPLIED: usize = 2;

/// One entry as storage hands it over.
#[derive(Clone, Copy, Debug)]
pub struct EntryRef<'a> {
    /// ns since the epoch.
    pub ts: i64,
    /// The line's text.
    pub line: &'a str,
    /// Structured metadata, ascending by name, names unique.
    pub metadata: &'a [(&'a str, &'a str)],
}

/// Which structured metadata a pipeline or a leaf looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetadataNeeds {
    /// Every name.
    All,
    /// Only these names; what else an entry has cannot change the answer.
    Names(Vec<String>),
}

/// Compiled stages.
pub struct Pipeline {
    head: Vec<LineFilter>,
    steps: Vec<Step>,
    pub(crate) names: Names,
    pub(crate) hints: Hints,
    field_test: Option<FieldTest>,
    implied: Vec<(NameId, LineFilter)>,
}

/// The stages up to the last of the conditions right behind the first parser.
pub(crate) struct FieldTest {
    /// The parser's place.
    pub(crate) parser: usize,
    /// The place behind the conditions.
    pub(crate) end: usize,
    /// All labels they look at.
    pub(crate) names: Vec<NameId>,
}

impl Pipeline {
    /// Compiles stages.
    ///
    /// # Errors
    /// A regular expression, template, pattern or address that is not valid; the error names the stage.
    pub fn new(stages: &[Stage]) -> Result<Self, ParseError> {
        Self::with_names(stages, Names::new())
    }

    /// As [`Pipeline::new`]; `names` become the first ids.
    pub(crate) fn with_names(stages: &[Stage], mut names: Names) -> Result<Self, ParseError> {
        let mut head = Vec::new();
        let mut steps: Vec<Step> = Vec::new();
        // Where the filters of the part at hand go, and whether the line is still the stored one there.
        let (mut place, mut raw_line) = (0, true);
        for (index, stage) in stages.iter().enumerate() {
            let step = Step::new(stage, &mut names).map_err(|error| name_filters(stages, index, error))?;
            match step {
                Step::Filter(filter) if filter.is_trivial() => {}
                Step::Filter(filter) if raw_line => head.push(filter),
                step @ Step::Filter(_) => {
                    steps.insert(place, step);
                    place += 1;
                }
                step => {
                    let holds = step.holds_filters();
                    steps.push(step);
                    if holds {
                        raw_line &= !steps.iter().skip(place).any(Step::changes_line);
                        place = steps.len();
                    }
                }
            }
        }
        let hints = Hints {
            early: early_conditions(&steps),
            ..Hints::default()
        };
        Ok(Self {
            head,
            field_test: field_test(&steps),
            implied: implied(&steps, &names)?,
            steps,
            names,
            hints,
        })
    }

    /// Line filters on the line as it was stored; storage may apply them to raw text first.
    #[must_use]
    pub fn head_filters(&self) -> &[LineFilter] {
        &self.head
    }

    /// Whether any stage looks at the line beyond returning it.
    #[must_use]
    pub fn needs_line(&self) -> bool {
        !self.head.is_empty() || self.steps.iter().any(Step::reads_line)
    }

    /// Conditions on labels that every entry that passes meets as it is stored: those before any other stage. The second
    /// is whether no other stage is left beside head filters.
    #[must_use]
    pub fn label_tests(&self) -> (Vec<LabelTest<'_>>, bool) {
        let mut tests = Vec::new();
        let mut only = true;
        for step in &self.steps {
            let Step::Condition(condition) = step else {
                return (tests, false);
            };
            only &= condition.tests(&self.names, &mut tests);
        }
        (tests, only)
    }

    /// Whether stages look at labels alone, behind the head filters.
    pub(crate) fn labels_suffice(&self) -> bool {
        !self.steps.iter().any(Step::reads_line)
    }

    /// The one group of the one stage that looks at the line behind the head filters: an entry can be given with that
    /// group's value instead of its line. `None` when there are others, or when stages shape the line.
    #[must_use]
    pub fn sole_capture(&self) -> Option<&SoleCapture> {
        let mut readers = self.steps.iter().filter(|step| step.reads_line());
        match (readers.next(), readers.next()) {
            (Some(Step::Regexp { sole, .. }), None) => sole.as_deref(),
            _ => None,
        }
    }

    /// Whether the one stage that looks at the line behind the head filters is a parser that can have outlines: an entry
    /// can be given with an outline and values instead of its line ([`Runner::process_outlined`]).
    #[must_use]
    pub fn has_outlines(&self) -> bool {
        let mut readers = self.steps.iter().filter(|step| step.reads_line());
        matches!((readers.next(), readers.next()), (Some(parser), None) if parser.may_have_outline())
    }

    /// Whether conditions on what the first parser finds can be tested without the line ([`Runner::may_pass`]).
    #[must_use]
    pub fn tests_fields(&self) -> bool {
        self.field_test.is_some()
    }

    /// What conditions on labels that a parser makes of the stored line imply of that line, by label: an entry without such a
    /// label of its own, in its stream or structured metadata, passes only if its line passes the filter.
    pub fn implied_filters(&self) -> impl Iterator<Item = (&str, &LineFilter)> {
        self.implied
            .iter()
            .map(|(name, filter)| (self.names.get(*name), filter))
    }

    pub(crate) fn field_test(&self) -> Option<&FieldTest> {
        self.field_test.as_ref()
    }

    /// Which structured metadata can change the answer. Log queries return all of it.
    #[must_use]
    pub fn metadata_needs(&self) -> MetadataNeeds {
        MetadataNeeds::All
    }

    /// A runner with its own scratch space: one for each thread.
    #[must_use]
    pub fn runner(self: &Arc<Self>) -> Runner {
        Runner::new(Arc::clone(self))
    }

    pub(crate) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Whether no stage is left beside head filters.
    #[must_use]
    pub fn only_filters(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether some stage may read any label (templates do).
    pub(crate) fn reads_all_labels(&self) -> bool {
        self.steps.iter().any(Step::reads_all_labels)
    }
}

/// The error of a line filter names all filters that stand together with it: to Loki they are one stage.
fn name_filters(stages: &[Stage], index: usize, error: ParseError) -> ParseError {
    let is_filter = |stage: &&Stage| matches!(stage, Stage::LineFilter(_));
    let around = |at: usize| stages.get(at);
    if !around(index).is_some_and(|stage| is_filter(&stage)) {
        return error;
    }
    let before = stages.iter().take(index).rev().take_while(is_filter).count();
    let behind = stages.iter().skip(index).take_while(is_filter).count();
    let together = stages.iter().skip(index - before).take(before + behind);
    let texts: Vec<String> = together.map(ToString::to_string).collect();
    match error.message().split_once("' : ") {
        Some((_, cause)) => ParseError::in_stage(texts.join(" "), cause),
        None => error,
    }
}

/// The first stage beside conditions, and the conditions right behind it.
fn first_parser(steps: &[Step]) -> Range<usize> {
    let conditions = |from: usize| {
        let steps = steps.iter().skip(from);
        steps
            .take_while(|step| matches!(step, Step::Condition(_)))
            .count()
    };
    let parser = conditions(0);
    let end = (parser + 1).min(steps.len());
    parser..end + conditions(end)
}

/// A parser takes a value from the line as it stands there, if it has no escapes: so the line has the text that a condition
/// right behind the first parser wants, or a backslash.
fn implied(steps: &[Step], names: &Names) -> Result<Vec<(NameId, LineFilter)>, ParseError> {
    let Some(
        [
            Step::Json | Step::JsonPaths(_) | Step::Logfmt(_) | Step::Pattern { .. } | Step::Regexp { .. },
            conditions @ ..,
        ],
    ) = steps.get(first_parser(steps))
    else {
        return Ok(Vec::new());
    };
    let mut values = Vec::new();
    for step in conditions {
        if let Step::Condition(condition) = step {
            condition.add_values(&mut values);
        }
    }
    // What these labels are depends on others.
    let is_plain = |name: &str| !name.ends_with(SUFFIX) && !BUILT_IN.contains(&name);
    // Parsers put blanks in the place of broken characters. Short texts are in too many lines.
    let is_sought = |value: &str| value.len() >= MIN_IMPLIED && !value.contains(' ');
    values.retain(|(name, value)| is_plain(names.get(*name)) && is_sought(value));
    let filter = |(name, value): (NameId, &str)| {
        let expr = LineFilterExpr {
            op: LineFilterOp::Contains,
            values: [value, "\\"]
                .map(|text| LineFilterValue::Text(text.to_owned()))
                .into(),
        };
        Ok((name, LineFilter::new(&expr)?))
    };
    values.into_iter().map(filter).collect()
}

/// `None` when the first stage beside conditions is no parser that can have outlines, or no condition follows it.
fn field_test(steps: &[Step]) -> Option<FieldTest> {
    let Range { start: parser, end } = first_parser(steps);
    steps.get(parser).filter(|step| step.may_have_outline())?;
    let mut names = Vec::new();
    for step in steps.iter().take(end) {
        if let Step::Condition(condition) = step {
            condition.add_names(&mut names);
        }
    }
    (end > parser + 1).then_some(FieldTest { parser, end, names })
}

/// Conditions that parsers check as soon as they find the label: the first one on each label, wherever it stands.
fn early_conditions(steps: &[Step]) -> Vec<(NameId, Condition)> {
    let mut early: Vec<(NameId, Condition)> = Vec::new();
    for step in steps {
        let Step::Condition(condition) = step else {
            continue;
        };
        if let Some(name) = condition.single_name()
            && !early.iter().any(|(other, _)| *other == name)
        {
            early.push((name, condition.clone()));
        }
    }
    early
}

/// Whether the expression of `| regexp` can be used.
pub(crate) fn check_regexp_stage(pattern: &str) -> Result<(), String> {
    let regex = crate::re2::unanchored(pattern).map_err(|error| error.message().to_owned())?;
    let names: Vec<&String> = regex.names.iter().flatten().collect();
    for (index, name) in names.iter().enumerate() {
        if names.iter().take(index).any(|other| other == name) {
            return Err(format!("duplicate extracted label name '{name}'"));
        }
    }
    if names.is_empty() {
        return Err("at least one named capture must be supplied".to_owned());
    }
    Ok(())
}

/// Whether the pattern of `| pattern` can be used.
pub(crate) fn check_pattern_stage(text: &str) -> Result<(), String> {
    pattern::ParserPattern::new(text).map(drop)
}
