//! Pipelines: compiled stages that keep, drop and shape entries one at a time. Knows no storage and no windows.

use std::sync::Arc;

use crate::Labels;
use crate::error::ParseError;
use crate::syntax::ast::Stage;

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
}

impl Pipeline {
    /// Compiles stages.
    ///
    /// # Errors
    /// A regular expression, template, pattern or address that is not valid; the error names the stage.
    pub fn new(_stages: &[Stage]) -> Result<Self, ParseError> {
        Ok(Self { head: Vec::new() })
    }

    /// Line filters that stand before anything that changes the line; storage may apply them to raw text first.
    #[must_use]
    pub fn head_filters(&self) -> &[LineFilter] {
        &self.head
    }

    /// Whether any stage looks at the line beyond returning it.
    #[must_use]
    pub fn needs_line(&self) -> bool {
        true
    }

    /// Which structured metadata can change the answer. Log queries return all of it.
    #[must_use]
    pub fn metadata_needs(&self) -> MetadataNeeds {
        MetadataNeeds::All
    }

    /// A runner with its own scratch space: one for each thread.
    #[must_use]
    pub fn runner(self: &Arc<Self>) -> Runner {
        Runner {
            pipeline: Arc::clone(self),
            stream: Labels::empty(),
        }
    }
}

/// Runs a pipeline over entries, one stream after the other.
pub struct Runner {
    pipeline: Arc<Pipeline>,
    stream: Labels,
}

impl Runner {
    /// Says which stream the following entries belong to.
    pub fn set_stream(&mut self, labels: &Labels) {
        self.stream = labels.clone();
    }

    /// Runs the stages on one entry; `None`: the entry is dropped.
    ///
    /// `head_passed`: the caller already applied [`Pipeline::head_filters`] to the line.
    pub fn process<'r>(&'r mut self, entry: &EntryRef<'r>, head_passed: bool) -> Option<Processed<'r>> {
        let _ = (&self.pipeline, head_passed);
        Some(Processed {
            entry: *entry,
            stream: &self.stream,
        })
    }
}

/// What a pipeline made of an entry.
pub struct Processed<'r> {
    entry: EntryRef<'r>,
    stream: &'r Labels,
}

impl<'r> Processed<'r> {
    /// ns since the epoch.
    #[must_use]
    pub fn ts(&self) -> i64 {
        self.entry.ts
    }

    /// The line after all stages.
    #[must_use]
    pub fn line(&self) -> &'r str {
        self.entry.line
    }

    /// What is left of the stream's labels, ascending by name.
    pub fn stream(&self) -> impl Iterator<Item = (&'r str, &'r str)> + '_ {
        self.stream.iter()
    }

    /// Structured metadata, ascending by name.
    pub fn metadata(&self) -> impl Iterator<Item = (&'r str, &'r str)> + '_ {
        self.entry.metadata.iter().copied()
    }

    /// Labels that stages made, with `__error__` and `__error_details__`, ascending by name.
    pub fn parsed(&self) -> impl Iterator<Item = (&'r str, &'r str)> + '_ {
        std::iter::empty()
    }

    /// All labels together: parsed before metadata before stream.
    #[must_use]
    pub fn merged(&self) -> Labels {
        Labels::from_pairs(self.stream().chain(self.metadata()).chain(self.parsed()))
    }
}

/// A compiled line filter.
#[derive(Clone, Debug)]
pub struct LineFilter {
    literal: Option<String>,
}

impl LineFilter {
    /// Whether the line passes.
    #[must_use]
    pub fn matches(&self, line: &str) -> bool {
        self.literal
            .as_deref()
            .is_none_or(|literal| line.contains(literal))
    }

    /// A text that every line that passes contains, upper and lower case told apart.
    #[must_use]
    pub fn required_literal(&self) -> Option<&str> {
        self.literal.as_deref()
    }

    /// Whether the filter is exactly: the line contains [`LineFilter::required_literal`].
    #[must_use]
    pub fn is_exactly_contains(&self) -> bool {
        self.literal.is_some()
    }
}

pub(crate) fn check_regexp_stage(pattern: &str) -> Result<(), String> {
    let regex = crate::re2::unanchored(pattern).map_err(|error| error.message().to_owned())?;
    if regex.names.iter().flatten().next().is_none() {
        return Err("at least one named capture must be supplied".to_owned());
    }
    Ok(())
}

pub(crate) fn check_pattern_stage(_pattern: &str) -> Result<(), String> {
    Ok(())
}
