//! Accumulators: entries to what each window of each series needs.

use std::sync::Arc;

use super::alike::Classes;
use super::leaf::{Fold, Groups, Leaf, LeafPlan};
use super::table::SeriesTable;
use crate::Labels;
use crate::error::EvalError;
use crate::pipeline::scratch::{ERROR, PRESERVE_ERROR, Scratch};
use crate::pipeline::{EntryRef, Runner};
use crate::syntax::ast::{Conversion, RangeOp};
use crate::units;

/// What one worker has seen of one leaf.
pub struct Accumulator {
    pub(super) plan: Arc<LeafPlan>,
    pub(super) runner: Runner,
    pub(super) table: SeriesTable,
    pub(super) data: Vec<SeriesData>,
    pub(super) stream: Labels,
    /// Whether the runner has yet to be told of the stream.
    stream_is_new: bool,
    /// What of the stream's labels can change the outcome, where that is known.
    relevant: Vec<u8>,
    /// The series of entries whose labels are those of the stream.
    pub(super) stream_series: Option<u32>,
    /// What became of entries alike, by class, for streams that are alike.
    pub(super) classes: Classes,
    pub(super) span: Span,
    pub(super) key: Vec<u8>,
    bytes: usize,
}

/// Timestamps, ns, from the first to the last, that the same windows hold.
#[derive(Clone, Copy)]
pub(super) struct Span {
    first: i64,
    pub(super) last: i64,
    windows: Option<(usize, usize)>,
}

/// What is kept of one series.
#[derive(Default)]
pub(super) struct SeriesData {
    /// Differences of the number of entries between one window and the next.
    pub(super) counts: Differences,
    /// Differences of bytes.
    pub(super) sizes: Differences,
    /// The extreme value of each window.
    pub(super) extremes: Vec<Option<f64>>,
    /// Timestamps and values, in no particular order.
    pub(super) samples: Vec<(i64, f64)>,
}

/// A difference array that covers only the windows touched so far.
#[derive(Default)]
pub(super) struct Differences {
    base: usize,
    cells: Vec<i64>,
}

impl Differences {
    /// The difference at a window.
    pub(super) fn at(&self, step: usize) -> i64 {
        step.checked_sub(self.base)
            .and_then(|index| self.cells.get(index))
            .copied()
            .unwrap_or(0)
    }

    /// Adds `amount` to the windows from `first` to `end` (exclusive) out of `count`; returns the heap bytes it took.
    pub(super) fn add(&mut self, first: usize, end: usize, count: usize, amount: i64) -> usize {
        // Mostly the cells are there.
        let (from, to) = (first.wrapping_sub(self.base), end.wrapping_sub(self.base));
        if from < to && to < self.cells.len() && end < count {
            self.change(first, amount);
            self.change(end, -amount);
            return 0;
        }
        let mut grown = self.touch(first, count);
        self.change(first, amount);
        // Nothing reads a difference behind the last window.
        if end < count {
            grown += self.touch(end, count);
            self.change(end, -amount);
        }
        grown
    }

    fn touch(&mut self, step: usize, count: usize) -> usize {
        let before = self.cells.capacity();
        if self.cells.is_empty() {
            self.base = step;
        }
        if step < self.base {
            // Room in front for as much again, so that descending blocks do not move the cells each time.
            let base = step.saturating_sub(self.cells.len());
            self.cells.splice(0..0, std::iter::repeat_n(0, self.base - base));
            self.base = base;
        }
        let needed = step - self.base + 1;
        if self.cells.len() < needed {
            self.cells
                .reserve_exact(needed.max((2 * self.cells.len()).min(count - self.base)) - self.cells.len());
            self.cells.resize(needed, 0);
        }
        (self.cells.capacity() - before) * size_of::<i64>()
    }

    fn change(&mut self, step: usize, amount: i64) {
        if let Some(cell) = step
            .checked_sub(self.base)
            .and_then(|index| self.cells.get_mut(index))
        {
            *cell = cell.saturating_add(amount);
        }
    }

    fn merge(&mut self, other: &Self, count: usize) -> usize {
        let mut grown = 0;
        for (index, amount) in other.cells.iter().enumerate().filter(|(_, amount)| **amount != 0) {
            grown += self.touch(other.base + index, count);
            self.change(other.base + index, *amount);
        }
        grown
    }
}

impl Accumulator {
    pub(super) fn new(plan: Arc<LeafPlan>) -> Self {
        let runner = plan.pipeline.runner();
        Self {
            plan,
            runner,
            table: SeriesTable::default(),
            data: Vec::new(),
            stream: Labels::empty(),
            stream_is_new: false,
            relevant: Vec::new(),
            stream_series: None,
            classes: Classes::default(),
            span: Span {
                first: 1,
                last: 0,
                windows: None,
            },
            key: Vec::new(),
            bytes: 0,
        }
    }

    pub(super) fn belongs_to(&self, leaf: &Leaf) -> bool {
        Arc::ptr_eq(&self.plan, &leaf.0)
    }

    /// Says which stream the following entries belong to.
    pub fn set_stream(&mut self, labels: &Labels) {
        self.stream = labels.clone();
        self.stream_is_new = true;
        match &self.plan.relevant {
            None => {
                self.stream_series = None;
                self.classes.forget();
                self.table.forget_keys();
            }
            Some(names) => {
                self.key.clear();
                for name in names {
                    push_value(labels.get(name), &mut self.key);
                }
                if self.key != self.relevant {
                    std::mem::swap(&mut self.key, &mut self.relevant);
                    self.stream_series = None;
                    self.classes.forget();
                }
            }
        }
    }

    /// Tells the runner of the stream, before it is needed.
    pub(super) fn ready(&mut self) {
        if self.stream_is_new {
            self.runner.set_stream(&self.stream);
            self.stream_is_new = false;
        }
    }

    /// The windows that hold a timestamp; asked fastest for timestamps close to each other.
    pub(super) fn windows_at(&mut self, ts: i64) -> Option<(usize, usize)> {
        if ts < self.span.first || ts > self.span.last {
            let (windows, last) = self.plan.windows.holding_until(ts);
            self.span = Span {
                first: ts,
                last,
                windows,
            };
        }
        self.span.windows
    }

    /// Takes one entry. `head_passed`: the caller already applied [`Leaf::head_filters`].
    ///
    /// # Errors
    /// Memory limit; a sample with `__error__`.
    pub fn add(&mut self, entry: &EntryRef<'_>, head_passed: bool) -> Result<(), EvalError> {
        let Some(windows) = self.windows_at(entry.ts) else {
            return Ok(());
        };
        self.ready();
        let processed = self.runner.process(entry, head_passed);
        let outcome = processed.map(|processed| (processed.is_plain_stream(), processed.line().len()));
        match outcome {
            Some((is_plain, length)) => self.take(entry, is_plain, length, windows),
            None => Ok(()),
        }
    }

    /// Takes an entry that the runner has just let pass.
    pub(super) fn take(
        &mut self,
        entry: &EntryRef<'_>,
        is_plain: bool,
        length: usize,
        windows: (usize, usize),
    ) -> Result<(), EvalError> {
        let plan = Arc::clone(&self.plan);
        let length = i64::try_from(length).unwrap_or(i64::MAX);
        let mut value = 0.0;
        if let Some(unwrap) = &plan.unwrap {
            let scratch = &mut self.runner.scratch;
            let text = scratch.get(unwrap.label, entry.metadata).unwrap_or("");
            if text.is_empty() {
                return Ok(());
            }
            match convert(text, unwrap.conversion) {
                Ok(converted) => value = converted,
                Err(cause) => scratch.set_error("SampleExtractionErr", &cause),
            }
            if !unwrap
                .filters
                .iter()
                .all(|filter| filter.passes(scratch, entry.metadata))
            {
                return Ok(());
            }
        }
        let series = match self.stream_series {
            Some(series) if is_plain && plan.unwrap.is_none() => series,
            _ => {
                let series = self.series(entry.metadata)?;
                if is_plain && plan.unwrap.is_none() {
                    self.stream_series = Some(series);
                }
                series
            }
        };
        self.fold(series, windows, entry.ts, length, value)
    }

    pub(super) fn fold(
        &mut self,
        series: u32,
        (first, end): (usize, usize),
        ts: i64,
        length: i64,
        value: f64,
    ) -> Result<(), EvalError> {
        let count = self.plan.windows.count();
        let (fold, op) = (self.plan.fold, self.plan.op);
        let Some(data) = self.data.get_mut(series as usize) else {
            return Ok(());
        };
        let grown = match fold {
            Fold::Count => data.counts.add(first, end, count, 1),
            Fold::Bytes => data.counts.add(first, end, count, 1) + data.sizes.add(first, end, count, length),
            Fold::Extreme => {
                let before = data.extremes.capacity();
                if data.extremes.len() < end {
                    data.extremes.resize(end, None);
                }
                if let Some(cell) = data.extremes.get_mut(first) {
                    *cell = Some(extreme(op, *cell, value));
                }
                (data.extremes.capacity() - before) * size_of::<Option<f64>>()
            }
            Fold::Samples => {
                let before = data.samples.capacity();
                data.samples.push((ts, value));
                (data.samples.capacity() - before) * size_of::<(i64, f64)>()
            }
        };
        self.charge(grown)
    }

    pub(super) fn charge(&mut self, grown: usize) -> Result<(), EvalError> {
        if grown == 0 {
            return Ok(());
        }
        self.bytes += grown;
        let limit = self.plan.limits.max_bytes;
        if self.bytes() > limit {
            Err(EvalError::OutOfMemory { limit })
        } else {
            Ok(())
        }
    }

    /// The index of the series that the labels at hand belong to.
    pub(super) fn series(&mut self, metadata: &[(&str, &str)]) -> Result<u32, EvalError> {
        let scratch = &self.runner.scratch;
        let failed = scratch.error().is_some();
        self.key.clear();
        if failed {
            // Errors are shown with all labels; they end the query unless it asks for them.
            let labels = all_labels(scratch, metadata);
            if labels.get("__preserve_error__") != Some("true") {
                return Err(pipeline_error(&labels));
            }
            return self.new_series(None, labels);
        }
        match &self.plan.groups {
            Groups::One => {}
            Groups::By(names) => {
                for name in names {
                    push_value(scratch.get(*name, metadata), &mut self.key);
                }
            }
            Groups::All => scratch.write_key(metadata, &[], &mut self.key),
            // An unwrapped label is among the names: a key with its value would be another one for each row.
            Groups::Without(names) => scratch.write_key(metadata, names, &mut self.key),
        }
        if let Some(index) = self.table.find(&self.key) {
            return Ok(index);
        }
        let labels = match &self.plan.groups {
            Groups::One => Labels::empty(),
            Groups::By(names) => {
                let pairs = names
                    .iter()
                    .filter_map(|name| Some((scratch.names.get(*name), scratch.get(*name, metadata)?)));
                Labels::keeping_empty(pairs)
            }
            Groups::All => all_labels(scratch, metadata),
            Groups::Without(names) => {
                let without: Vec<&str> = names.iter().map(|name| scratch.names.get(*name)).collect();
                let all = all_labels(scratch, metadata);
                Labels::keeping_empty(all.iter().filter(|(name, _)| !without.contains(name)))
            }
        };
        if labels.get(scratch.names.get(ERROR)).is_some()
            && labels.get(scratch.names.get(PRESERVE_ERROR)) != Some("true")
        {
            return Err(pipeline_error(&labels));
        }
        let key = std::mem::take(&mut self.key);
        let index = self.new_series(Some(&key), labels);
        self.key = key;
        index
    }

    fn new_series(&mut self, key: Option<&[u8]>, labels: Labels) -> Result<u32, EvalError> {
        let index = match key {
            Some(key) => self.table.insert(key, labels),
            None => self.table.index_of(labels),
        };
        self.data
            .resize_with(self.table.labels.len().max(self.data.len()), SeriesData::default);
        self.charge(1)?;
        Ok(index)
    }

    /// Takes over what another worker's accumulator of the same leaf has.
    ///
    /// # Errors
    /// As [`Accumulator::add`]; the other belongs to another leaf.
    pub fn merge(&mut self, other: Accumulator) -> Result<(), EvalError> {
        if !Arc::ptr_eq(&self.plan, &other.plan) {
            return Err(EvalError::ForeignAccumulator { index: 0 });
        }
        let count = self.plan.windows.count();
        let op = self.plan.op;
        for (labels, theirs) in other.table.labels.into_iter().zip(other.data) {
            let index = self.new_series(None, labels)?;
            let Some(ours) = self.data.get_mut(index as usize) else {
                continue;
            };
            let mut grown = ours.counts.merge(&theirs.counts, count) + ours.sizes.merge(&theirs.sizes, count);
            if ours.extremes.len() < theirs.extremes.len() {
                grown += (theirs.extremes.len() - ours.extremes.len()) * size_of::<Option<f64>>();
                ours.extremes.resize(theirs.extremes.len(), None);
            }
            for (ours, theirs) in ours.extremes.iter_mut().zip(theirs.extremes) {
                if let Some(value) = theirs {
                    *ours = Some(extreme(op, *ours, value));
                }
            }
            let before = ours.samples.capacity();
            if ours.samples.is_empty() {
                ours.samples = theirs.samples;
            } else {
                ours.samples.extend(theirs.samples);
            }
            grown += ours.samples.capacity().saturating_sub(before) * size_of::<(i64, f64)>();
            self.charge(grown)?;
        }
        Ok(())
    }

    /// Approximate heap use.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes + self.table.bytes
    }
}

/// Appends a label's value, or that there is none, so that what follows can't be taken for a part of it.
pub(super) fn push_value(value: Option<&str>, key: &mut Vec<u8>) {
    key.push(u8::from(value.is_some()));
    key.extend_from_slice(value.unwrap_or("").as_bytes());
    key.push(0xff);
}

/// The smaller or larger value; NaN gives way to anything.
pub(super) fn extreme(op: RangeOp, current: Option<f64>, value: f64) -> f64 {
    match current {
        Some(current) if current.is_nan() => value,
        Some(current) => {
            let better = if op == RangeOp::MaxOverTime {
                value > current
            } else {
                value < current
            };
            if better { value } else { current }
        }
        None => value,
    }
}

fn all_labels(scratch: &Scratch, metadata: &[(&str, &str)]) -> Labels {
    let pairs = scratch
        .visible_stream()
        .chain(scratch.visible_metadata(metadata))
        .chain(scratch.visible_parsed());
    Labels::keeping_empty(pairs)
}

fn pipeline_error(labels: &Labels) -> EvalError {
    EvalError::Pipeline {
        error: labels.get("__error__").unwrap_or("").to_owned(),
        series: labels.to_string(),
    }
}

fn convert(text: &str, conversion: Conversion) -> Result<f64, String> {
    #[allow(clippy::cast_precision_loss, reason = "samples are floats")]
    match conversion {
        Conversion::Number => units::parse_go_float(text),
        Conversion::Bytes => units::parse_bytes(text).map(|bytes| bytes as f64),
        Conversion::Duration | Conversion::DurationSeconds => {
            units::parse_go_duration(text).map(|nanos| nanos as f64 / 1e9)
        }
    }
}
