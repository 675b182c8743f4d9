//! Metric queries: leaves take entries, the plan turns what they accumulated into the answer. Knows no storage.
//!
//! A [`MetricPlan`] holds one [`Leaf`] for each range aggregation. Workers feed [`Accumulator`]s in any split of the
//! entries; merged, they give the same answer. [`MetricPlan::finish`] then walks the expression step by step.

mod accumulator;
mod aggregate;
mod alike;
mod binary;
mod leaf;
mod node;
mod range_value;
mod table;
#[cfg(test)]
mod tests;
mod window;

pub use accumulator::Accumulator;
pub use alike::Excerpt;
pub use leaf::Leaf;
use leaf::Pushed;
use node::Node;
use window::Windows;

use crate::Labels;
use crate::error::{EvalError, ParseError};
use crate::syntax::ast::{Grouping, MetricExpr, RangeAggregation, RangeOp, VectorOp};

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
    expr: MetricExpr,
    spec: EvalSpec,
    limits: EvalLimits,
    leaves: Vec<Leaf>,
}

impl MetricPlan {
    /// Plans an expression: one [`Leaf`] for each range aggregation in it.
    ///
    /// An instant query is one with `start == end`; a range query over a single point gives a matrix only through
    /// [`MetricPlan::finish_range`].
    ///
    /// # Errors
    /// A stage of a pipeline does not compile.
    pub fn new(expr: &MetricExpr, spec: EvalSpec, limits: EvalLimits) -> Result<Self, ParseError> {
        let mut leaves = Vec::new();
        collect_leaves(expr, Pushed::None, spec, limits, &mut leaves)?;
        Ok(Self {
            expr: expr.clone(),
            spec,
            limits,
            leaves,
        })
    }

    /// One for each range aggregation, in the order of the text.
    #[must_use]
    pub fn leaves(&self) -> &[Leaf] {
        &self.leaves
    }

    /// The answer from one accumulator for each leaf, in the order of [`MetricPlan::leaves`]: a scalar or vector when
    /// `start == end`, else a matrix.
    ///
    /// # Errors
    /// See [`EvalError`].
    pub fn finish(&self, leaves: Vec<Accumulator>) -> Result<MetricValue, EvalError> {
        if self.spec.start == self.spec.end {
            self.finish_instant(leaves)
        } else {
            self.finish_range(leaves)
        }
    }

    /// The answer of an instant query.
    ///
    /// # Errors
    /// See [`EvalError`].
    pub fn finish_instant(&self, leaves: Vec<Accumulator>) -> Result<MetricValue, EvalError> {
        if let MetricExpr::Literal(value) = self.expr {
            return Ok(MetricValue::Scalar(value));
        }
        let mut root = self.tree(leaves)?;
        let mut vector = Vec::new();
        root.step(0, &mut vector)?;
        self.check_series(vector.len())?;
        let sample = |(id, value)| Sample {
            labels: root.labels(id).clone(),
            value,
        };
        let mut samples: Vec<Sample> = vector.into_iter().map(sample).collect();
        if !sorts(&self.expr) {
            samples.sort_by(|a, b| a.labels.cmp(&b.labels));
        }
        Ok(MetricValue::Vector(samples))
    }

    /// The answer of a range query.
    ///
    /// # Errors
    /// See [`EvalError`].
    pub fn finish_range(&self, leaves: Vec<Accumulator>) -> Result<MetricValue, EvalError> {
        let windows = Windows::new(self.spec, 0, 0);
        let mut root = self.tree(leaves)?;
        let mut points: Vec<Vec<(i64, f64)>> = Vec::new();
        let mut vector = Vec::new();
        for step in 0..windows.count() {
            vector.clear();
            root.step(step, &mut vector)?;
            let ms = windows.at(step).div_euclid(1_000_000);
            for (id, value) in &vector {
                let index = *id as usize;
                if points.len() <= index {
                    points.resize(index + 1, Vec::new());
                }
                if let Some(series) = points.get_mut(index) {
                    series.push((ms, *value));
                }
            }
        }
        let found = points.iter().filter(|series| !series.is_empty()).count();
        self.check_series(found)?;
        let ids = 0_u32..;
        let mut matrix: Vec<Series> = ids
            .zip(points)
            .filter(|(_, points)| !points.is_empty())
            .map(|(id, points)| Series {
                labels: root.labels(id).clone(),
                points,
            })
            .collect();
        matrix.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(MetricValue::Matrix(matrix))
    }

    fn tree(&self, leaves: Vec<Accumulator>) -> Result<Node, EvalError> {
        for (index, (accumulator, leaf)) in leaves.iter().zip(&self.leaves).enumerate() {
            if !accumulator.belongs_to(leaf) {
                return Err(EvalError::ForeignAccumulator { index });
            }
        }
        if leaves.len() != self.leaves.len() {
            return Err(EvalError::ForeignAccumulator {
                index: leaves.len().min(self.leaves.len()),
            });
        }
        let mut leaves = leaves.into_iter();
        Ok(Node::new(&self.expr, &mut leaves))
    }

    fn check_series(&self, count: usize) -> Result<(), EvalError> {
        if count > self.limits.max_series {
            return Err(EvalError::TooManySeries {
                limit: self.limits.max_series,
            });
        }
        Ok(())
    }
}

/// Makes the leaves of an expression. `pushed`: the grouping of an enclosing `sum`, which the leaf may fold by itself.
fn collect_leaves(
    expr: &MetricExpr,
    pushed: Pushed<'_>,
    spec: EvalSpec,
    limits: EvalLimits,
    leaves: &mut Vec<Leaf>,
) -> Result<(), ParseError> {
    match expr {
        MetricExpr::Literal(_) | MetricExpr::Vector(_) => {}
        MetricExpr::Range(range) => leaves.push(Leaf::new(range, pushed, spec, limits)?),
        MetricExpr::Aggregate(aggregation) => {
            let one_group = Grouping {
                without: false,
                labels: Vec::new(),
            };
            let grouping = aggregation.grouping.as_ref().unwrap_or(&one_group);
            let pushed = match (&aggregation.op, &*aggregation.expr) {
                (VectorOp::Sum, MetricExpr::Range(range)) if sums_like(range.op) => Pushed::Seen(grouping),
                (op, MetricExpr::Range(range)) if picks_like(op, range, grouping) => Pushed::Unseen(grouping),
                _ => Pushed::None,
            };
            collect_leaves(&aggregation.expr, pushed, spec, limits, leaves)?;
        }
        MetricExpr::LabelReplace(replace) => {
            collect_leaves(&replace.expr, Pushed::None, spec, limits, leaves)?
        }
        MetricExpr::Binary(binary) => {
            collect_leaves(&binary.left, Pushed::None, spec, limits, leaves)?;
            collect_leaves(&binary.right, Pushed::None, spec, limits, leaves)?;
        }
    }
    Ok(())
}

/// Functions whose sum over series equals the function over the series' entries together.
fn sums_like(op: RangeOp) -> bool {
    matches!(
        op,
        RangeOp::CountOverTime
            | RangeOp::Rate
            | RangeOp::BytesOverTime
            | RangeOp::BytesRate
            | RangeOp::SumOverTime
    )
}

/// The extreme of series' extremes is the extreme of their entries together. What is unwrapped is no label of the
/// series, so a grouping by it stays where it is.
fn picks_like(op: &VectorOp, range: &RangeAggregation, grouping: &Grouping) -> bool {
    let same = matches!(
        (op, range.op),
        (VectorOp::Max, RangeOp::MaxOverTime) | (VectorOp::Min, RangeOp::MinOverTime)
    );
    let unwrapped = range.range.unwrap.as_ref().map(|unwrap| &unwrap.label);
    let is_free = unwrapped.is_some_and(|label| !grouping.labels.contains(label));
    same && is_free && range.grouping.is_none() && !grouping.without
}

/// Whether the answer keeps the order of values.
fn sorts(expr: &MetricExpr) -> bool {
    match expr {
        MetricExpr::Literal(_) | MetricExpr::Vector(_) | MetricExpr::Range(_) => false,
        MetricExpr::Aggregate(aggregation) => {
            matches!(aggregation.op, VectorOp::Sort | VectorOp::SortDesc) || sorts(&aggregation.expr)
        }
        MetricExpr::LabelReplace(replace) => sorts(&replace.expr),
        MetricExpr::Binary(binary) => sorts(&binary.left) || sorts(&binary.right),
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
