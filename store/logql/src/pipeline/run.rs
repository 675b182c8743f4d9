//! Running a pipeline over entries.

use std::sync::Arc;

use super::json::{self, JsonParser};
use super::logfmt::LogfmtBuffers;
use super::outline::{self, Outline, OutlineBuffers, OutlinedLine, Skeleton, Wanted};
use super::pattern::ParserPattern;
use super::scratch::{ERROR, ERROR_DETAILS, NameId, PRESERVE_ERROR, Scratch};
use super::stage::{Choice, Step};
use super::{EntryRef, Pipeline, format};
use crate::Labels;

/// Runs a pipeline over entries, one stream after the other.
pub struct Runner {
    pipeline: Arc<Pipeline>,
    pub(crate) scratch: Scratch,
    buffers: Buffers,
}

/// Scratch texts of the stages.
#[derive(Default)]
struct Buffers {
    /// The line once a stage changed it.
    line: String,
    next_line: String,
    text: String,
    json: JsonParser,
    logfmt: LogfmtBuffers,
    captures: Option<regex::CaptureLocations>,
    outline: OutlineBuffers,
}

/// What stages get to read.
#[derive(Clone, Copy)]
enum Given<'a> {
    /// The line itself.
    Line,
    /// What the one `regexp` stage captures in it.
    Captured(Option<&'a str>),
    /// What stands for it with the one parser.
    Outlined(OutlinedLine<'a>),
}

impl Runner {
    pub(crate) fn new(pipeline: Arc<Pipeline>) -> Self {
        let scratch = Scratch::new(&pipeline.names, pipeline.hints.clone());
        Self {
            pipeline,
            scratch,
            buffers: Buffers::default(),
        }
    }

    /// Says which stream the following entries belong to.
    pub fn set_stream(&mut self, labels: &Labels) {
        self.scratch.set_stream(labels);
    }

    /// Runs the stages on one entry; `None`: the entry is dropped.
    ///
    /// `head_passed`: the caller already applied [`Pipeline::head_filters`] to the line.
    pub fn process<'r>(&'r mut self, entry: &EntryRef<'r>, head_passed: bool) -> Option<Processed<'r>> {
        if !head_passed
            && !self
                .pipeline
                .head_filters()
                .iter()
                .all(|filter| filter.matches(entry.line))
        {
            return None;
        }
        self.run(entry, Given::Line, usize::MAX)
    }

    /// As [`Runner::process`] for an entry that passed the head filters and whose line is not at hand, but what
    /// [`Pipeline::sole_capture`] captures in it: `None` when it doesn't match.
    pub fn process_captured<'r>(
        &'r mut self,
        entry: &EntryRef<'r>,
        captured: Option<&str>,
    ) -> Option<Processed<'r>> {
        self.run(entry, Given::Captured(captured), usize::MAX)
    }

    /// The outline of lines that share a skeleton, for the parser of [`Pipeline::has_outlines`]; `None` when lines have
    /// to be looked at one by one.
    pub fn outline(&mut self, skeleton: &Skeleton<'_>) -> Option<Outline> {
        let mut steps = self.pipeline.steps.iter();
        let parser = steps.find(|step| step.reads_line())?;
        parser.outline(skeleton, Wanted::All, &mut self.scratch)
    }

    /// As [`Runner::process`] for an entry that passed the head filters and whose line is not at hand, but an outline that
    /// [`Runner::outline`] gave, and the values.
    pub fn process_outlined<'r>(
        &'r mut self,
        entry: &EntryRef<'r>,
        line: OutlinedLine<'_>,
    ) -> Option<Processed<'r>> {
        self.run(entry, Given::Outlined(line), usize::MAX)
    }

    /// As [`Runner::outline`], for [`Runner::may_pass`].
    pub fn outline_of_test(&mut self, skeleton: &Skeleton<'_>) -> Option<Outline> {
        let test = self.pipeline.field_test()?;
        let parser = self.pipeline.steps.get(test.parser)?;
        parser.outline(skeleton, Wanted::Only(&test.names), &mut self.scratch)
    }

    /// False when the conditions of [`Pipeline::tests_fields`] drop the entry. The outline is one of
    /// [`Runner::outline_of_test`].
    pub fn may_pass(&mut self, entry: &EntryRef<'_>, line: OutlinedLine<'_>) -> bool {
        let end = self.pipeline.field_test().map_or(0, |test| test.end);
        self.run(entry, Given::Outlined(line), end).is_some()
    }

    /// Runs the first `count` stages.
    fn run<'r>(&'r mut self, entry: &EntryRef<'r>, given: Given<'_>, count: usize) -> Option<Processed<'r>> {
        let entry = *entry;
        self.scratch.begin(entry.metadata);
        let mut changed = false;
        for step in self.pipeline.steps().iter().take(count) {
            let keeps = match (step, given) {
                (Step::Regexp { groups, .. }, Given::Captured(captured)) => {
                    if let (Some(value), Some((_, name))) = (captured, groups.first()) {
                        capture(*name, value, &mut self.scratch);
                    }
                    true
                }
                // Only the parser looks at the line.
                (step, Given::Outlined(line)) if step.reads_line() => {
                    let buffers = &mut self.buffers.outline;
                    outline::run(step, line, entry.metadata, buffers, &mut self.scratch);
                    true
                }
                _ => run_step(step, &entry, &mut changed, &mut self.scratch, &mut self.buffers),
            };
            if !keeps || self.scratch.is_dropped() {
                return None;
            }
        }
        let line = if changed {
            self.buffers.line.as_str()
        } else {
            entry.line
        };
        Some(Processed {
            ts: entry.ts,
            line,
            metadata: entry.metadata,
            scratch: &self.scratch,
        })
    }
}

/// Runs one stage; false drops the entry.
fn run_step(
    step: &Step,
    entry: &EntryRef<'_>,
    changed: &mut bool,
    scratch: &mut Scratch,
    buffers: &mut Buffers,
) -> bool {
    let metadata = entry.metadata;
    let line = if *changed {
        buffers.line.as_str()
    } else {
        entry.line
    };
    match step {
        Step::Filter(filter) => return filter.matches(line),
        Step::Condition(condition) => return condition.passes(scratch, metadata),
        Step::Json => buffers.json.run(line, scratch),
        Step::JsonPaths(params) => json::run_paths(params, line, &mut buffers.text, metadata, scratch),
        Step::Logfmt(stage) => stage.run(line, &mut buffers.logfmt, scratch),
        Step::Regexp {
            regex,
            required,
            groups,
            ..
        } => {
            let misses = required
                .as_ref()
                .is_some_and(|literal| !line.contains(literal.as_str()));
            if !misses {
                regexp(regex, groups, line, &mut buffers.captures, scratch);
            }
        }
        Step::Pattern { pattern, names } => captures(pattern, names, line, scratch),
        Step::Unpack => {
            if json::unpack(line, &mut buffers.text, &mut buffers.next_line, scratch) {
                std::mem::swap(&mut buffers.line, &mut buffers.next_line);
                *changed = true;
            }
        }
        Step::LineFormat(stage) => {
            if stage.run(line, entry.ts, metadata, scratch, &mut buffers.next_line) {
                std::mem::swap(&mut buffers.line, &mut buffers.next_line);
                *changed = true;
            }
        }
        Step::LabelFormat(stage) => stage.run(line, entry.ts, metadata, scratch),
        Step::Decolorize => {
            if format::decolorize(line, &mut buffers.next_line) {
                std::mem::swap(&mut buffers.line, &mut buffers.next_line);
                *changed = true;
            }
        }
        Step::Drop(choices) => drop_labels(choices, metadata, scratch),
        Step::Keep(choices) => keep_labels(choices, metadata, scratch),
    }
    true
}

fn regexp(
    regex: &regex::Regex,
    groups: &[(usize, NameId)],
    line: &str,
    locations: &mut Option<regex::CaptureLocations>,
    scratch: &mut Scratch,
) {
    // Locations of another regex have another number of groups.
    if locations
        .as_ref()
        .is_none_or(|found| found.len() != regex.captures_len())
    {
        *locations = Some(regex.capture_locations());
    }
    let Some(found) = locations.as_mut() else { return };
    if regex.captures_read(found, line).is_none() {
        return;
    }
    for (group, name) in groups {
        let value = found
            .get(*group)
            .and_then(|(start, end)| line.get(start..end))
            .unwrap_or("");
        if capture(*name, value, scratch) {
            return;
        }
    }
}

/// Stores what a group captured; true when nothing more is wanted of the line.
fn capture(name: NameId, value: &str, scratch: &mut Scratch) -> bool {
    let target = scratch.target(name);
    scratch.wants(target) && scratch.extract(target, value)
}

fn captures(pattern: &ParserPattern, names: &[NameId], line: &str, scratch: &mut Scratch) {
    if scratch.needs_no_parser() {
        return;
    }
    let mut names = names.iter();
    pattern.captures(line, |value| {
        names.next().is_none_or(|name| capture(*name, value, scratch))
    });
}

fn drop_labels(choices: &[Choice], metadata: &[(&str, &str)], scratch: &mut Scratch) {
    for choice in choices {
        let drops = choice.matcher.as_ref().is_none_or(|matcher| {
            matcher.matches(match choice.name {
                ERROR => scratch.error().unwrap_or(""),
                ERROR_DETAILS => scratch.error_details().unwrap_or(""),
                name => scratch.get(name, metadata).unwrap_or(""),
            })
        });
        match choice.name {
            _ if !drops => {}
            ERROR => scratch.clear_error(),
            ERROR_DETAILS => scratch.clear_error_details(),
            name => scratch.remove(name),
        }
    }
}

fn keep_labels(choices: &[Choice], metadata: &[(&str, &str)], scratch: &mut Scratch) {
    let kept = |name: NameId| {
        matches!(name, ERROR | ERROR_DETAILS | PRESERVE_ERROR)
            || choices.iter().any(|choice| {
                choice.name == name
                    && choice
                        .matcher
                        .as_ref()
                        .is_none_or(|matcher| matcher.matches(scratch.get(name, metadata).unwrap_or("")))
            })
    };
    let dropped: Vec<NameId> = scratch.visible_ids().filter(|name| !kept(*name)).collect();
    for name in dropped {
        scratch.remove(name);
    }
}

/// What a pipeline made of an entry.
pub struct Processed<'r> {
    ts: i64,
    line: &'r str,
    metadata: &'r [(&'r str, &'r str)],
    scratch: &'r Scratch,
}

impl<'r> Processed<'r> {
    /// ns since the epoch.
    #[must_use]
    pub fn ts(&self) -> i64 {
        self.ts
    }

    /// The line after all stages.
    #[must_use]
    pub fn line(&self) -> &'r str {
        self.line
    }

    /// What is left of the stream's labels, ascending by name.
    pub fn stream(&self) -> impl Iterator<Item = (&'r str, &'r str)> + use<'r> {
        self.scratch.visible_stream()
    }

    /// What is left of the structured metadata, ascending by name.
    pub fn metadata(&self) -> impl Iterator<Item = (&'r str, &'r str)> + use<'r> {
        sorted(self.scratch.visible_metadata(self.metadata).collect())
    }

    /// Labels that stages made, with `__error__` and `__error_details__`, ascending by name. Values may be empty.
    pub fn parsed(&self) -> impl Iterator<Item = (&'r str, &'r str)> + use<'r> {
        sorted(self.scratch.visible_parsed().collect())
    }

    /// Whether the labels are exactly those of the stream.
    #[must_use]
    pub fn is_plain_stream(&self) -> bool {
        self.metadata.is_empty() && self.scratch.is_untouched()
    }

    /// All labels together: parsed before metadata before stream. Parsed labels may have empty values.
    #[must_use]
    pub fn merged(&self) -> Labels {
        if self.is_plain_stream() {
            return self.scratch.stream_labels().clone();
        }
        let base = self
            .scratch
            .visible_stream()
            .chain(self.scratch.visible_metadata(self.metadata));
        Labels::keeping_empty(base.chain(self.scratch.visible_parsed()))
    }
}

fn sorted<'r>(mut pairs: Vec<(&'r str, &'r str)>) -> impl Iterator<Item = (&'r str, &'r str)> {
    pairs.sort_unstable();
    pairs.into_iter()
}
