//! What a parser makes of lines that share a template: which labels, and where in the line their values are, worked out
//! once for all of them.
//!
//! A template's variables are words of ASCII letters and digits. None of them moves a quote, a brace, an equals sign or a
//! blank, so `json`, `logfmt` and most patterns find the same keys in the same places of all of the template's lines.
//! What is left to do for a line is to read the values that are wanted.
//!
//! Gives what the parser gives, or says that it can't. Knows nothing of how lines are stored.

use std::ops::Range;

use super::json::{self, Fields, Value, Walker};
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

/// A label that the parser may make.
#[derive(Debug)]
struct Field {
    label: Box<str>,
    name: NameId,
    value: Range<usize>,
    form: Form,
}

/// The labels of lines that share a skeleton, in the order in which the parser finds them.
#[derive(Debug)]
pub struct Outline {
    fields: Vec<Field>,
    /// Behind them the parser says that the line is faulty.
    fault: Option<&'static str>,
    /// The round of names that the fields' are of.
    round: u32,
}

impl Outline {
    /// Where in the skeleton's text the values are.
    pub fn values(&self) -> impl Iterator<Item = Range<usize>> {
        self.fields.iter().map(|field| field.value.clone())
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
        let mut collector = Collector {
            fields: Vec::new(),
            skeleton,
            scratch,
            wanted,
            differs: false,
        };
        let fault = match self {
            Step::Json => Walker::default().walk(skeleton.text, &mut collector),
            Step::Logfmt(stage) if stage.params.is_empty() => {
                collector.logfmt(stage);
                None
            }
            Step::Pattern { pattern, names } => {
                collector.pattern(pattern, names);
                None
            }
            _ => return None,
        };
        let round = collector.scratch.round();
        (!collector.differs).then_some(Outline {
            fields: collector.fields,
            fault,
            round,
        })
    }
}

/// Whether a variable may be a part of the text.
fn has_words(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_alphanumeric())
}

/// Collects the labels of a skeleton.
struct Collector<'c, 't> {
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
            self.fields.push(Field {
                label: label.into(),
                name,
                value: self.skeleton.span(value),
                form,
            });
        }
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
                    return;
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
pub(super) fn run(line: OutlinedLine<'_>, buffers: &mut OutlineBuffers, scratch: &mut Scratch) {
    if scratch.needs_no_parser() {
        return;
    }
    let is_current = line.outline.round == scratch.round();
    for (number, field) in line.outline.fields.iter().enumerate() {
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
    if let Some(cause) = line.outline.fault {
        scratch.set_parser_error("JSONParserErr", cause);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::pipeline::{EntryRef, Pipeline, Processed};
    use crate::{Expr, Labels};

    const QUERIES: [&str; 14] = [
        "| json",
        r#"| json | a="1""#,
        "| json | b > 5",
        r#"| json | a="true" or b_c=~"1.*" | drop a"#,
        r#"| json | __error__="""#,
        r#"| json | job_extracted="1" | b != 12"#,
        "| logfmt",
        "| logfmt --keep-empty | a > 5",
        "| logfmt --strict",
        r#"| logfmt | b="12" | job="j""#,
        r#"| logfmt | a!="ab3f" | label_format z=a"#,
        "| pattern `{<a>:<b>,<_>`",
        r#"| pattern `<a>=<b> <c>` | b="x""#,
        "| pattern `a=<b> <_>`",
    ];

    /// Stands for a variable.
    const VARIABLE: char = '\u{1}';
    /// What lines of any kind are made of.
    const PIECES: [&str; 27] = [
        "\u{1}", "\u{1}", "\u{1}", r#"{"a":"#, r#","b":"#, r#","b":{"c":"#, r#"{"a":""#, r#"","job":""#, r#"":"#,
        r#",""#, "\"", "}", "}}", "{", "[", "]", ",", "-", ".", "true", "a=", " b=", " b=\"", "\" ", "\\", "\\u\u{1}",
        "\u{fffd}é",
    ];
    const KEYS: [&str; 6] = ["a", "b", "job", "k\u{1}", "b_c", "a b"];
    const VALUES: [&str; 9] = [
        "\u{1}", "\"\u{1}\"", "-\u{1}.\u{1}", "true", "\"x \\\\n\u{1} \\u\u{1}\"", "{\"c\":\u{1}}", "[\u{1}]", "null", "\"\"",
    ];
    const WORDS: [&str; 7] = ["1", "12", "007", "ab3f", "true", "n4", "null"];

    fn labels(processed: Option<Processed<'_>>) -> Option<Labels> {
        processed.map(|processed| processed.merged())
    }

    fn starts_with_digit(word: &str) -> bool {
        word.starts_with(|c: char| c.is_ascii_digit())
    }

    /// A template as the store would make it, and the values of each of its variables in three lines.
    fn template() -> impl Strategy<Value = (String, Vec<usize>, Vec<Vec<&'static str>>)> {
        let any = prop::collection::vec(prop::sample::select(&PIECES[..]), 1..14);
        let pair = (prop::sample::select(&KEYS[..]), prop::sample::select(&VALUES[..]));
        let pairs = || prop::collection::vec(pair.clone(), 1..6);
        let json = pairs().prop_map(|pairs| {
            let pairs = pairs.iter().map(|(key, value)| format!("{key:?}:{value}"));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(",").replace("\\u{1}", "\u{1}"))
        });
        let logfmt = pairs().prop_map(|pairs| {
            let pairs = pairs.iter().map(|(key, value)| format!("{key}={value}"));
            pairs.collect::<Vec<_>>().join(" ")
        });
        let text = prop_oneof![any.prop_map(|pieces| pieces.concat()), json, logfmt];
        let values = prop::collection::vec(prop::collection::vec(prop::sample::select(&WORDS[..]), 3), 30);
        (text, values).prop_map(|(text, mut values)| {
            let (mut template, mut places) = (String::new(), Vec::new());
            for c in text.chars() {
                // Words are as long as can be: no variable follows another.
                if c == VARIABLE && !template.ends_with('0') {
                    places.push(template.len());
                    template.push('0');
                } else if c != VARIABLE {
                    template.push(c);
                }
            }
            values.truncate(places.len());
            (template, places, values)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn an_outline_gives_what_the_line_gives((text, places, values) in template(), required in any::<bool>()) {
            let word = |number: usize| {
                let words = &values[number];
                if words.iter().all(|word| starts_with_digit(word)) {
                    Word::Number
                } else if words.iter().all(|word| starts_with_digit(word) || *word == "true") {
                    Word::Scalar
                } else {
                    Word::Any
                }
            };
            let skeleton = Skeleton { text: &text, variables: &places, word: &word };
            for query in QUERIES {
                let Expr::Log(expr) = crate::parse(&format!(r#"{{job="j"}} {query}"#)).unwrap() else { panic!() };
                let mut pipeline = Pipeline::new(&expr.stages).unwrap();
                prop_assert!(pipeline.has_outlines() || query.contains("label_format") || query.contains("`a=<b>"));
                if required {
                    let names = ["a", "b_c"].map(|name| pipeline.names.intern(name));
                    pipeline.hints.required = Some(names.to_vec());
                }
                let pipeline = Arc::new(pipeline);
                let (mut runner, mut other) = (pipeline.runner(), pipeline.runner());
                for runner in [&mut runner, &mut other] {
                    runner.set_stream(&Labels::from_pairs([("job", "j")]));
                }
                let outline = runner.outline(&skeleton).filter(|_| pipeline.has_outlines());
                let test = runner.outline_of_test(&skeleton);
                for line in 0..3 {
                    let filled = |range: Range<usize>, out: &mut String| {
                        let mut from = range.start;
                        for (number, &at) in places.iter().enumerate().filter(|(_, at)| range.contains(at)) {
                            out.push_str(&text[from..at]);
                            out.push_str(values[number][line]);
                            from = at + 1;
                        }
                        out.push_str(&text[from..range.end]);
                    };
                    let mut whole = String::new();
                    filled(0..text.len(), &mut whole);
                    let entry = EntryRef { ts: 0, line: &whole, metadata: &[] };
                    let wanted = labels(other.process(&entry, true));
                    let read = |outline: &Outline, value: usize, out: &mut String| {
                        filled(outline.values().nth(value).unwrap(), out);
                    };
                    if let Some(outline) = &outline {
                        let line = OutlinedLine { outline, read: &|value, out| read(outline, value, out) };
                        let bare = EntryRef { line: "", ..entry };
                        prop_assert_eq!(labels(runner.process_outlined(&bare, line)), wanted.clone(), "{} {:?}", query, whole);
                    }
                    if let Some(outline) = &test {
                        let line = OutlinedLine { outline, read: &|value, out| read(outline, value, out) };
                        let passes = runner.may_pass(&entry, line);
                        prop_assert!(passes || wanted.is_none(), "{} {:?}", query, whole);
                    }
                }
            }
        }
    }

    #[test]
    fn lines_with_fields_have_outlines() {
        let text = r#"{"a":"x0","b":{"c":0,"d":0},"e":[0],"f":-0.0}"#;
        let variables: Vec<usize> = text.match_indices('0').map(|(at, _)| at).collect();
        let outlined = |query: &str, text: &str, variables: &[usize], word: Word| {
            let Expr::Log(expr) = crate::parse(&format!(r#"{{job="j"}} {query}"#)).unwrap() else {
                panic!()
            };
            let pipeline = Arc::new(Pipeline::new(&expr.stages).unwrap());
            let skeleton = Skeleton {
                text,
                variables,
                word: &|_| word,
            };
            let outline = pipeline.runner().outline(&skeleton)?;
            Some(
                outline
                    .values()
                    .map(|value| text[value].to_owned())
                    .collect::<Vec<_>>(),
            )
        };
        let found = outlined("| json", text, &variables, Word::Scalar).unwrap();
        assert_eq!(found, ["x0", "0", "0", "-0.0"]);
        assert_eq!(outlined("| json", text, &variables, Word::Any), None);
        let found = outlined("| logfmt", "a=0 b=\"0 0\" 0", &[2, 7, 9, 12], Word::Any).unwrap();
        assert_eq!(found, ["0", "0 0"]);
        let found = outlined(
            "| pattern `<a> - [<b>] <_>`",
            "0.0 - [0] 0",
            &[0, 2, 7, 10],
            Word::Any,
        );
        assert_eq!(found.unwrap(), ["0.0", "0"]);
    }
}
