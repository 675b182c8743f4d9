//! Stages that write: `line_format`, `label_format`, `decolorize`.

use std::sync::LazyLock;

use super::scratch::{ERROR, ERROR_DETAILS, NameId, Names, Scratch};
use crate::syntax::ast::{LabelFormat, LabelFormatValue};
use crate::template::{Context, Template};

/// `| line_format "…"`
pub(crate) struct LineFormatStage {
    template: Template,
}

impl LineFormatStage {
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        let template =
            Template::parse("line", text).map_err(|cause| format!("invalid line template: {cause}"))?;
        Ok(Self { template })
    }

    /// Whether the template may read any label.
    pub(crate) fn reads_all_labels(&self) -> bool {
        self.template.fields().is_none()
    }

    /// The labels the template reads.
    pub(crate) fn intern_fields(&self, names: &mut Names) {
        intern_fields(&self.template, names);
    }

    /// Writes the new line into `out`; false, and `__error__`, when the template fails.
    pub(crate) fn run(
        &self,
        line: &str,
        ts: i64,
        metadata: &[(&str, &str)],
        scratch: &mut Scratch,
        out: &mut String,
    ) -> bool {
        out.clear();
        if let Some(name) = self.template.only_field() {
            // Read past the errors, which templates else see as labels.
            let id = scratch.names.find(name);
            out.push_str(id.and_then(|id| scratch.get(id, metadata)).unwrap_or(""));
            return true;
        }
        let result = self.template.execute(
            &LabelsOf {
                line,
                ts,
                metadata,
                scratch,
            },
            out,
        );
        match result {
            Ok(()) => true,
            Err(cause) => {
                scratch.set_error("TemplateFormatErr", &cause);
                false
            }
        }
    }
}

/// `| label_format a=b, c="…"`
pub(crate) struct LabelFormatStage {
    formats: Vec<(NameId, Source)>,
}

enum Source {
    Rename(NameId),
    Template(Template),
}

impl LabelFormatStage {
    pub(crate) fn new(formats: &[LabelFormat], names: &mut Names) -> Result<Self, String> {
        let mut compiled: Vec<(NameId, Source)> = Vec::with_capacity(formats.len());
        for (index, LabelFormat { name, .. }) in formats.iter().enumerate() {
            if names.intern(name) == ERROR {
                return Err(format!("{name} cannot be formatted"));
            }
            if formats.iter().take(index).any(|other| other.name == *name) {
                return Err(format!(
                    "multiple label name '{name}' not allowed in a single format operation"
                ));
            }
        }
        for format in formats {
            let name = names.intern(&format.name);
            let source = match &format.value {
                LabelFormatValue::Rename(source) => Source::Rename(names.intern(source)),
                LabelFormatValue::Template(text) => Source::Template(
                    Template::parse("label", text)
                        .map_err(|cause| format!("invalid template for label '{}': {cause}", format.name))?,
                ),
            };
            if let Source::Template(template) = &source {
                intern_fields(template, names);
            }
            compiled.push((name, source));
        }
        Ok(Self { formats: compiled })
    }

    /// Whether a template may read any label.
    pub(crate) fn reads_all_labels(&self) -> bool {
        self.formats
            .iter()
            .any(|(_, source)| matches!(source, Source::Template(t) if t.fields().is_none()))
    }

    /// Sets labels. All templates see the labels as they were before the first of them.
    pub(crate) fn run(&self, line: &str, ts: i64, metadata: &[(&str, &str)], scratch: &mut Scratch) {
        let mut rendered: Vec<Option<Result<String, String>>> = Vec::new();
        for (index, (name, source)) in self.formats.iter().enumerate() {
            match source {
                Source::Rename(from) => {
                    let value = scratch.get(*from, metadata).map(str::to_owned);
                    if let Some(value) = value {
                        scratch.set(*name, &value);
                        scratch.remove(*from);
                    }
                }
                Source::Template(_) => {
                    if rendered.is_empty() {
                        rendered = self.render(index, line, ts, metadata, scratch);
                    }
                    match rendered.get_mut(index).and_then(Option::take) {
                        Some(Ok(value)) => scratch.set(*name, &value),
                        Some(Err(cause)) => scratch.set_error("TemplateFormatErr", &cause),
                        None => {}
                    }
                }
            }
        }
    }

    fn render(
        &self,
        from: usize,
        line: &str,
        ts: i64,
        metadata: &[(&str, &str)],
        scratch: &Scratch,
    ) -> Vec<Option<Result<String, String>>> {
        let labels = LabelsOf {
            line,
            ts,
            metadata,
            scratch,
        };
        let render = |(index, (_, source)): (usize, &(NameId, Source))| match source {
            Source::Template(template) if index >= from => {
                let mut out = String::new();
                Some(template.execute(&labels, &mut out).map(|()| out))
            }
            _ => None,
        };
        self.formats.iter().enumerate().map(render).collect()
    }
}

fn intern_fields(template: &Template, names: &mut Names) {
    for field in template.fields().into_iter().flatten() {
        names.intern(&field);
    }
}

/// What a template sees of an entry.
struct LabelsOf<'a> {
    line: &'a str,
    ts: i64,
    metadata: &'a [(&'a str, &'a str)],
    scratch: &'a Scratch,
}

impl Context for LabelsOf<'_> {
    fn label(&self, name: &str) -> Option<&str> {
        let id = self.scratch.names.find(name)?;
        match id {
            ERROR if self.scratch.error().is_some() => self.scratch.error(),
            ERROR_DETAILS if self.scratch.error_details().is_some() => self.scratch.error_details(),
            _ => self.scratch.get(id, self.metadata),
        }
    }

    fn labels(&self) -> Vec<(&str, &str)> {
        let mut all: Vec<(&str, &str)> = self.scratch.visible_stream().collect();
        all.extend(self.scratch.visible_metadata(self.metadata));
        all.extend(self.scratch.visible_parsed());
        all.sort_unstable();
        all
    }

    fn line(&self) -> &str {
        self.line
    }

    fn timestamp(&self) -> i64 {
        self.ts
    }
}

/// Escape sequences of terminals: an escape or CSI character, parameters, and either a final character or, for operating
/// system commands, everything of them up to the bell.
static ANSI: LazyLock<Option<regex::Regex>> = LazyLock::new(|| {
    let text = "(?:[a-zA-Z0-9]*(?:;[a-zA-Z0-9]*)*)?\\x07";
    let final_character = "(?:[0-9]{1,4}(?:;[0-9]{0,4})*)?[0-9A-PRZcf-ntqry=><~]";
    regex::Regex::new(&format!(
        "[\\x1b\\u{{9b}}][\\[\\]()#;?]*(?:{text}|{final_character})"
    ))
    .ok()
});

/// Writes the line without escape sequences into `out`; false when there are none.
pub(crate) fn decolorize(line: &str, out: &mut String) -> bool {
    if memchr::memchr2(0x1b, 0xc2, line.as_bytes()).is_none() {
        return false;
    }
    let Some(regex) = ANSI.as_ref() else { return false };
    out.clear();
    out.push_str(&regex.replace_all(line, ""));
    true
}
