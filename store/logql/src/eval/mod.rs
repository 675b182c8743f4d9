//! Metric queries: leaves take entries, the plan turns what they accumulated into the answer. Knows no storage.

use crate::Labels;
use crate::Matcher;
use crate::error::{EvalError, ParseError};
use crate::pipeline::{EntryRef, LineFilter, MetadataNeeds};
use crate::syntax::ast::MetricExpr;

/// When to evaluate: at `start`, `start + step`, … up to and including `end`. All in ns since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvalSpec {
    /// The first evaluation.
    pub start: i64,
    /// The last possible evaluation; equal to `start` for an instant query.
    pub end: i64,
    /// Distance of evaluations; ignored when `start == end`.
    pub step: i64,
}

/// Bounds of one evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvalLimits {
    /// Distinct series in the answer, over all steps.
    pub max_series: usize,
    /// Heap bytes of one accumulator.
    pub max_bytes: usize,
}

/// A metric query made ready to run.
pub struct MetricPlan {
    leaves: Vec<Leaf>,
}

impl MetricPlan {
    /// Plans an expression: one [`Leaf`] for each range aggregation in it.
    ///
    /// # Errors
    /// A stage of a pipeline does not compile.
    pub fn new(_expr: &MetricExpr, _spec: EvalSpec, _limits: EvalLimits) -> Result<Self, ParseError> {
        Err(ParseError::bare("metric queries are not evaluated yet"))
    }

    /// One for each range aggregation, in the order of the text.
    #[must_use]
    pub fn leaves(&self) -> &[Leaf] {
        &self.leaves
    }

    /// The answer from one accumulator for each leaf, in the order of [`MetricPlan::leaves`].
    ///
    /// # Errors
    /// See [`EvalError`].
    pub fn finish(&self, _leaves: Vec<Accumulator>) -> Result<MetricValue, EvalError> {
        Ok(MetricValue::Scalar(0.0))
    }
}

/// One range aggregation: what to read, and how to fold it.
pub struct Leaf {
    matchers: Vec<Matcher>,
    head: Vec<LineFilter>,
}

impl Leaf {
    /// Which streams to read.
    #[must_use]
    pub fn matchers(&self) -> &[Matcher] {
        &self.matchers
    }

    /// Entries to feed: from the first (inclusive) to the second (exclusive), ns.
    #[must_use]
    pub fn time_range(&self) -> (i64, i64) {
        (0, 0)
    }

    /// Line filters that storage may apply to raw text first.
    #[must_use]
    pub fn head_filters(&self) -> &[LineFilter] {
        &self.head
    }

    /// Whether `add` looks at `EntryRef::line`.
    #[must_use]
    pub fn needs_line(&self) -> bool {
        true
    }

    /// Which structured metadata `add` looks at.
    #[must_use]
    pub fn metadata_needs(&self) -> MetadataNeeds {
        MetadataNeeds::All
    }

    /// Only timestamps count: `add_rows` may replace `add`.
    #[must_use]
    pub fn rows_only(&self) -> bool {
        false
    }

    /// Only timestamps and line lengths count: `add_lengths` may replace `add`.
    #[must_use]
    pub fn lengths_only(&self) -> bool {
        false
    }

    /// An empty accumulator: one for each worker.
    #[must_use]
    pub fn accumulator(&self) -> Accumulator {
        Accumulator {}
    }
}

/// What one worker has seen of one leaf.
pub struct Accumulator {}

impl Accumulator {
    /// Says which stream the following entries belong to.
    pub fn set_stream(&mut self, _labels: &Labels) {}

    /// Takes one entry. `head_passed`: the caller already applied [`Leaf::head_filters`].
    ///
    /// # Errors
    /// Series or memory limit; a sample with `__error__`.
    pub fn add(&mut self, _entry: &EntryRef<'_>, _head_passed: bool) -> Result<(), EvalError> {
        Ok(())
    }

    /// Takes entries of which only the timestamps matter ([`Leaf::rows_only`]); ascending, ns.
    ///
    /// # Errors
    /// As [`Accumulator::add`].
    pub fn add_rows(&mut self, _ascending_ts: &[i64]) -> Result<(), EvalError> {
        Ok(())
    }

    /// Takes entries of which only timestamps and line lengths (bytes) matter ([`Leaf::lengths_only`]).
    ///
    /// # Errors
    /// As [`Accumulator::add`].
    pub fn add_lengths(&mut self, _ascending_ts: &[i64], _lengths: &[u32]) -> Result<(), EvalError> {
        Ok(())
    }

    /// Takes over what another worker's accumulator of the same leaf has.
    ///
    /// # Errors
    /// As [`Accumulator::add`].
    pub fn merge(&mut self, _other: Accumulator) -> Result<(), EvalError> {
        Ok(())
    }

    /// Approximate heap use.
    #[must_use]
    pub fn bytes(&self) -> usize {
        0
    }
}

/// The answer of a metric query.
#[derive(Clone, Debug, PartialEq)]
pub enum MetricValue {
    /// An instant query made of literals alone.
    Scalar(f64),
    /// An instant query; sorted by labels, unless the query sorts by value.
    Vector(Vec<Sample>),
    /// A range query; sorted by labels.
    Matrix(Vec<Series>),
}

/// One series of an instant answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The series.
    pub labels: Labels,
    /// Its value.
    pub value: f64,
}

/// One series of a range answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// The series.
    pub labels: Labels,
    /// (ms since the epoch, value), ascending; steps without a sample are missing.
    pub points: Vec<(i64, f64)>,
}
