//! What a parser makes of lines that share a template: which labels, and where in the line their values are, worked out
//! once for all of them.
//!
//! A template's variables are words of ASCII letters and digits. None of them moves a quote, a brace, an equals sign or a
//! blank, so `json`, `logfmt` and most patterns find the same keys in the same places of all of the template's lines.
//! What is left to do for a line is to read the values that are wanted.
//!
//! Gives what the parser gives, or says that it can't. Knows nothing of how lines are stored.

use std::ops::Range;

use super::json::{self, Fields, PathLabels, Value, Walker};
use super::json_path::Path;
use super::logfmt::{Decoder, LogfmtStage, Raw, value_text};
use super::pattern::ParserPattern;
use super::scratch::{NameId, SUFFIX, Scratch};
use super::stage::Step;

/// What all values of a variable are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// They begin with a digit.
    Number,
    /// They begin with a digit, or are `true` or `false`.
    Scalar,
    /// Something else is among them.
    Any,
}

/// The text that lines share, with one digit in place of each variable.
pub struct Skeleton<'t> {
    /// The text.
    pub text: &'t str,
    /// Where in it the variables are, ascending.
    pub variables: &'t [usize],
    /// What the values of the variable of a number are.
    pub word: &'t dyn Fn(usize) -> Word,
}

impl Skeleton<'_> {
    fn numbers(&self, part: &Range<usize>) -> Range<usize> {
        let at = |place: usize| self.variables.partition_point(|variable| *variable < place);
        at(part.start)..at(part.end)
    }

    /// Whether a variable is in a part of the text.
    fn varies(&self, part: &str) -> bool {
        !self.numbers(&self.span(part)).is_empty()
    }

    /// Where a part of the text is in it.
    fn span(&self, part: &str) -> Range<usize> {
        let start = (part.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        start..start + part.len()
    }

    /// Whether variables may be parts of escapes, so that these are some in one line and others, or none, in another.
    fn has_open_escapes(&self) -> bool {
        let escapes = memchr::memchr_iter(b'\\', self.text.as_bytes());
        // `\u` and four digits.
        escapes
            .into_iter()
            .any(|at| !self.numbers(&(at..at + 6)).is_empty())
    }
}

/// How the value of a label is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Verbatim,
    /// With JSON's escapes.
    Json,
    Logfmt,
    /// In quotes, with escapes.
    LogfmtEscaped,
}

/// A label that the parser may make of the value of the same number.
#[derive(Debug)]
struct Field {
    label: Box<str>,
    name: NameId,
    form: Form,
}

/// What the walk of `| json a="x.y"` reports.
#[derive(Debug)]
struct PathReport {
    param: Option<usize>,
    found: Result<Found, &'static str>,
}

/// What a path leads to, with the number of its value.
#[derive(Debug, Clone, Copy)]
enum Found {
    Null,
    Object(usize),
    Text(usize),
}

/// How values become labels.
#[derive(Debug)]
enum Labels {
    /// One by one.
    InOrder {
        fields: Vec<Field>,
        /// Behind them the parser says that the line is faulty.
        fault: Option<&'static str>,
    },
    /// As paths lead to them.
    OfPaths {
        reports: Vec<PathReport>,
        /// Labels without a value become empty ones.
        fills: bool,
    },
}

/// The labels of lines that share a skeleton, in the order in which the parser finds them.
#[derive(Debug)]
pub struct Outline {
    /// Where in the skeleton's text they are.
    values: Vec<Range<usize>>,
    labels: Labels,
    /// The round of names that the fields' are of.
    round: u32,
}

impl Outline {
    /// Where in the skeleton's text the values are.
    #[must_use]
    pub fn values(&self) -> &[Range<usize>] {
        &self.values
    }
}

/// What stands for a line: its outline, and its values.
#[derive(Clone, Copy)]
pub struct OutlinedLine<'a> {
    /// The outline of its template.
    pub outline: &'a Outline,
    /// Appends the line's text at the place of [`Outline::values`] of this number.
    pub read: &'a dyn Fn(usize, &mut String),
}

/// Which labels an outline has to have.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wanted<'n> {
    /// Those that the stages and the rest of the query ask for.
    All,
    /// Of these the ones that are among the names.
    Only(&'n [NameId]),
}

impl Step {
    /// Whether the stage is a parser that can have outlines.
    pub(super) fn may_have_outline(&self) -> bool {
        match self {
            Step::Json => true,
            // Elements of arrays are counted by their values.
            Step::JsonPaths(params) => !params.iter().any(|(_, path)| path.has_positions()),
            Step::Logfmt(stage) => stage.params.is_empty(),
            Step::Pattern { pattern, .. } => pattern.literals().all(|literal| !has_words(literal)),
            _ => false,
        }
    }

    /// The outline of the lines of a skeleton; `None` when they differ in more than values.
    pub(super) fn outline(
        &self,
        skeleton: &Skeleton<'_>,
        wanted: Wanted<'_>,
        scratch: &mut Scratch,
    ) -> Option<Outline> {
        if !self.may_have_outline() {
            return None;
        }
        let mut collector = Collector {
            values: Vec::new(),
            fields: Vec::new(),
            skeleton,
            scratch,
            wanted,
            differs: false,
        };
        let mut fault = None;
        let mut of_paths = None;
        match self {
            Step::Json => {
                fault = Walker::default().walk(skeleton.text, &mut collector);
                // What is faulty may be an escape of a key, which is none in every line.
                collector.differs |= fault.is_some() && skeleton.has_open_escapes();
            }
            Step::JsonPaths(params) => of_paths = Some(collector.paths(params)),
            Step::Logfmt(stage) => collector.logfmt(stage),
            Step::Pattern { pattern, names } => collector.pattern(pattern, names),
            _ => return None,
        }
        let Collector {
            values,
            fields,
            scratch,
            differs,
            ..
        } = collector;
        (!differs).then(|| Outline {
            values,
            labels: of_paths.unwrap_or(Labels::InOrder { fields, fault }),
            round: scratch.round(),
        })
    }
}

/// Whether a variable may be a part of the text.
fn has_words(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_alphanumeric())
}

/// Collects the labels of a skeleton.
struct Collector<'c, 't> {
    values: Vec<Range<usize>>,
    fields: Vec<Field>,
    skeleton: &'c Skeleton<'t>,
    scratch: &'c mut Scratch,
    wanted: Wanted<'c>,
    /// The lines differ in more than the values of labels.
    differs: bool,
}

impl Collector<'_, '_> {
    fn add(&mut self, label: &str, value: &str, form: Form) {
        let name = self.scratch.names.intern(label);
        // Where the stream has a label of this name, it gets another one.
        let suffixed = self.scratch.names.find(&format!("{label}{SUFFIX}"));
        let is_wanted = |names: &[NameId]| {
            names.contains(&name) || suffixed.is_some_and(|suffixed| names.contains(&suffixed))
        };
        let needed = self.scratch.hints.required.as_deref();
        let only = match self.wanted {
            Wanted::All => None,
            Wanted::Only(names) => Some(names),
        };
        if needed.is_none_or(is_wanted) && only.is_none_or(is_wanted) {
            self.add_value(value);
            self.fields.push(Field {
                label: label.into(),
                name,
                form,
            });
        }
    }

    /// Gives its number.
    fn add_value(&mut self, value: &str) -> usize {
        self.values.push(self.skeleton.span(value));
        self.values.len() - 1
    }

    /// Whether a value without quotes is of the same kind in all lines.
    fn is_of_one_kind(&self, token: &str) -> bool {
        let span = self.skeleton.span(token);
        let numbers = self.skeleton.numbers(&span);
        if numbers.is_empty() || token.starts_with('-') {
            return true;
        }
        // Letters tell what it is: it is none of the words that JSON knows, or it would be one as it stands.
        if self.skeleton.variables.get(numbers.start) != Some(&span.start) {
            return token.starts_with(|c: char| c.is_ascii_digit());
        }
        match (self.skeleton.word)(numbers.start) {
            Word::Number => true,
            Word::Scalar => token.len() == 1,
            Word::Any => false,
        }
    }

    /// Whether some key of an object, or what looks like one, has variables.
    fn has_variable_keys(&self) -> bool {
        let text = self.skeleton.text;
        let mut at = 0;
        while let Some(quote) = text.get(at..).and_then(|rest| rest.find('"')) {
            let start = at + quote + 1;
            let Some(end) = json::string_end(text.as_bytes(), start) else {
                return false;
            };
            let is_key = json::blank(text, end).is_some_and(|next| text.as_bytes().get(next) == Some(&b':'));
            if is_key && !self.skeleton.numbers(&(start..end)).is_empty() {
                return true;
            }
            at = end;
        }
        false
    }

    fn paths(&mut self, params: &[(NameId, Path)]) -> Labels {
        self.differs = self.has_variable_keys();
        let mut reports = Vec::new();
        let skeleton = self.skeleton;
        let fills = json::search(params, skeleton.text, |param, value| {
            let found = value.map(|value| match value {
                Value::Null => Found::Null,
                Value::Object(raw) => Found::Object(self.add_value(raw)),
                Value::String(raw) | Value::Array(raw) => Found::Text(self.add_value(raw)),
                Value::Number(raw) | Value::Bool(raw) => {
                    self.differs |= !self.is_of_one_kind(raw);
                    Found::Text(self.add_value(raw))
                }
            });
            reports.push(PathReport { param, found });
        });
        Labels::OfPaths { reports, fills }
    }

    fn logfmt(&mut self, stage: &LogfmtStage) {
        self.differs = self.skeleton.has_open_escapes();
        let mut decoder = Decoder::new(self.skeleton.text);
        while !self.differs
            && let Some(pair) = decoder.next_pair()
        {
            let (key, raw) = match pair {
                Ok(pair) => pair,
                // The error says where in the line it is.
                Err(_) if stage.strict => {
                    self.differs = true;
                    break;
                }
                Err(_) => continue,
            };
            if raw == Raw::Plain("") && !stage.keep_empty {
                continue;
            }
            self.differs |= self.skeleton.varies(key);
            let mut label = String::new();
            json::push_sanitized(key, true, &mut label);
            if !label.is_empty() {
                match raw {
                    Raw::Plain(text) => self.add(&label, text, Form::Logfmt),
                    Raw::Escaped(text) => self.add(&label, text, Form::LogfmtEscaped),
                }
            }
        }
    }

    fn pattern(&mut self, pattern: &ParserPattern, names: &[NameId]) {
        let mut names = names.iter();
        pattern.captures(self.skeleton.text, |value| {
            let Some(name) = names.next() else { return true };
            let label = self.scratch.names.get(*name).to_owned();
            self.add(&label, value, Form::Verbatim);
            false
        });
    }
}

impl<'a> Fields<'a> for Collector<'_, '_> {
    fn see(&mut self, key: &'a str, value: Value<'a>) -> bool {
        let same_value = match value {
            Value::Number(token) | Value::Bool(token) => self.is_of_one_kind(token),
            Value::String(_) | Value::Null | Value::Object(_) | Value::Array(_) => true,
        };
        self.differs |= !same_value || self.skeleton.varies(key);
        !self.differs
    }

    fn wants_prefix(&self, prefix: &str) -> bool {
        self.scratch.wants_prefix(prefix)
    }

    fn take(&mut self, label: &str, value: Value<'a>) -> bool {
        match value {
            Value::String(raw) => self.add(label, raw, Form::Json),
            Value::Number(text) | Value::Bool(text) => self.add(label, text, Form::Verbatim),
            Value::Null | Value::Object(_) | Value::Array(_) => {}
        }
        false
    }
}

/// Buffers of a runner.
#[derive(Default)]
pub(super) struct OutlineBuffers {
    raw: String,
    text: String,
}

/// Does what the parser does with the line that `line` stands for.
pub(super) fn run(
    step: &Step,
    line: OutlinedLine<'_>,
    metadata: &[(&str, &str)],
    buffers: &mut OutlineBuffers,
    scratch: &mut Scratch,
) {
    if scratch.needs_no_parser() {
        return;
    }
    match (&line.outline.labels, step) {
        (Labels::InOrder { fields, fault }, _) => run_fields(line, fields, *fault, buffers, scratch),
        (Labels::OfPaths { reports, fills }, Step::JsonPaths(params)) => {
            let mut labels = PathLabels::new(params, &mut buffers.text, scratch);
            for report in reports {
                buffers.raw.clear();
                if let Ok(Found::Object(value) | Found::Text(value)) = report.found {
                    (line.read)(value, &mut buffers.raw);
                }
                let value = report.found.map(|found| match found {
                    Found::Null => Value::Null,
                    Found::Object(_) => Value::Object(&buffers.raw),
                    Found::Text(_) => Value::String(&buffers.raw),
                });
                labels.take(report.param, value);
            }
            if *fills {
                labels.fill(metadata);
            }
        }
        (Labels::OfPaths { .. }, _) => {}
    }
}

fn run_fields(
    line: OutlinedLine<'_>,
    fields: &[Field],
    fault: Option<&'static str>,
    buffers: &mut OutlineBuffers,
    scratch: &mut Scratch,
) {
    let is_current = line.outline.round == scratch.round();
    for (number, field) in fields.iter().enumerate() {
        let name = if is_current {
            field.name
        } else {
            scratch.names.intern(&field.label)
        };
        let target = scratch.target(name);
        if !scratch.wants(target) {
            continue;
        }
        buffers.raw.clear();
        (line.read)(number, &mut buffers.raw);
        let value = match field.form {
            Form::Verbatim => buffers.raw.as_str(),
            Form::Json => {
                buffers.text.clear();
                json::unescape(&buffers.raw, &mut buffers.text);
                &buffers.text
            }
            Form::Logfmt => value_text(&mut buffers.text, Raw::Plain(&buffers.raw)),
            Form::LogfmtEscaped => value_text(&mut buffers.text, Raw::Escaped(&buffers.raw)),
        };
        if scratch.extract(target, value) {
            return;
        }
    }
    if let Some(cause) = fault {
        scratch.set_parser_error("JSONParserErr", cause);
    }
}

#[cfg(test)]
mod tests;
