//! The expression as a tree that is evaluated step by step. Every node numbers its series once and gives, for each step,
//! the numbers and values of those that have one; labels are worked out once for each series, not for each step.

use std::collections::HashMap;

use super::accumulator::{Accumulator, Differences};
use super::aggregate::Aggregate;
use super::binary::{Binary, ScalarSide};
use super::leaf::{Fold, LeafPlan};
use super::range_value::range_value;
use crate::Labels;
use crate::error::EvalError;
use crate::re2::{self, AnchoredRegex};
use crate::syntax::ast::{LabelReplace, MetricExpr, RangeOp};

/// Series of one step: number and value.
pub(super) type Vector = Vec<(u32, f64)>;

/// Numbers label sets.
#[derive(Default)]
pub(super) struct Numbering {
    labels: Vec<Labels>,
    ids: HashMap<Labels, u32>,
}

impl Numbering {
    pub(super) fn id(&mut self, labels: Labels) -> u32 {
        if let Some(id) = self.ids.get(&labels) {
            return *id;
        }
        let id = u32::try_from(self.labels.len()).unwrap_or(u32::MAX);
        self.labels.push(labels.clone());
        self.ids.insert(labels, id);
        id
    }

    pub(super) fn get(&self, id: u32) -> &Labels {
        static EMPTY: std::sync::LazyLock<Labels> = std::sync::LazyLock::new(Labels::empty);
        self.labels.get(id as usize).unwrap_or(&EMPTY)
    }
}

/// A cache from a child's series to something worked out of its labels.
#[derive(Default)]
pub(super) struct Memo(Vec<Option<u32>>);

impl Memo {
    pub(super) fn get(&mut self, id: u32, make: impl FnOnce() -> u32) -> u32 {
        let index = id as usize;
        if self.0.len() <= index {
            self.0.resize(index + 1, None);
        }
        match self.0.get_mut(index) {
            Some(place) => *place.get_or_insert_with(make),
            None => make(),
        }
    }
}

/// One node.
pub(super) enum Node {
    Constant { value: f64 },
    Leaf(Box<LeafNode>),
    Aggregate(Box<Aggregate>),
    Binary(Box<Binary>),
    Scalar(Box<ScalarSide>),
    Replace(Box<Replace>),
}

impl Node {
    pub(super) fn new(expr: &MetricExpr, leaves: &mut std::vec::IntoIter<Accumulator>) -> Self {
        match expr {
            MetricExpr::Literal(value) | MetricExpr::Vector(value) => Self::Constant { value: *value },
            MetricExpr::Range(_) => match leaves.next() {
                Some(accumulator) => Self::Leaf(Box::new(LeafNode::new(accumulator))),
                // `MetricPlan::tree` checked the number of accumulators.
                None => Self::Constant { value: f64::NAN },
            },
            MetricExpr::Aggregate(aggregation) => {
                let child = Self::new(&aggregation.expr, leaves);
                Self::Aggregate(Box::new(Aggregate::new(aggregation, child)))
            }
            MetricExpr::Binary(binary) => match (&binary.left, &binary.right) {
                (left, MetricExpr::Literal(value)) => {
                    let child = Self::new(left, leaves);
                    Self::Scalar(Box::new(ScalarSide::new(binary, child, *value, false)))
                }
                (MetricExpr::Literal(value), right) => {
                    let child = Self::new(right, leaves);
                    Self::Scalar(Box::new(ScalarSide::new(binary, child, *value, true)))
                }
                (left, right) => {
                    let left = Self::new(left, leaves);
                    let right = Self::new(right, leaves);
                    Self::Binary(Box::new(Binary::new(binary, left, right)))
                }
            },
            MetricExpr::LabelReplace(replace) => {
                let child = Self::new(&replace.expr, leaves);
                Self::Replace(Box::new(Replace::new(replace, child)))
            }
        }
    }

    /// Evaluates a step; steps come in order. `out` is empty.
    pub(super) fn step(&mut self, step: usize, out: &mut Vector) -> Result<(), EvalError> {
        match self {
            Self::Constant { value } => {
                out.push((0, *value));
                Ok(())
            }
            Self::Leaf(leaf) => {
                leaf.step(step, out);
                Ok(())
            }
            Self::Aggregate(aggregate) => aggregate.step(step, out),
            Self::Binary(binary) => binary.step(step, out),
            Self::Scalar(scalar) => scalar.step(step, out),
            Self::Replace(replace) => replace.step(step, out),
        }
    }

    /// The labels of a series.
    pub(super) fn labels(&self, id: u32) -> &Labels {
        static EMPTY: std::sync::LazyLock<Labels> = std::sync::LazyLock::new(Labels::empty);
        match self {
            Self::Constant { .. } => &EMPTY,
            Self::Leaf(leaf) => leaf
                .series
                .get(id as usize)
                .map_or(&EMPTY, |series| &series.labels),
            Self::Aggregate(aggregate) => aggregate.labels(id),
            Self::Binary(binary) => binary.labels(id),
            Self::Scalar(scalar) => scalar.child.labels(id),
            Self::Replace(replace) => replace.numbering.get(id),
        }
    }
}

/// A range aggregation over what was accumulated.
pub(super) struct LeafNode {
    plan: std::sync::Arc<LeafPlan>,
    series: Vec<LeafSeries>,
}

struct LeafSeries {
    labels: Labels,
    counts: Differences,
    sizes: Differences,
    extremes: Vec<Option<f64>>,
    samples: Vec<(i64, f64)>,
    count: i64,
    size: i64,
    /// The samples of the window at hand.
    from: usize,
    to: usize,
}

impl LeafNode {
    fn new(accumulator: Accumulator) -> Self {
        let Accumulator {
            plan, table, data, ..
        } = accumulator;
        let mut series: Vec<LeafSeries> = table.labels.into_iter().zip(data).map(LeafSeries::new).collect();
        // An order of their own makes the answer independent of the order of arrival.
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
        if plan.op == RangeOp::AbsentOverTime && series.is_empty() {
            series.push(LeafSeries::new((
                Labels::empty(),
                super::accumulator::SeriesData::default(),
            )));
        }
        if plan.op == RangeOp::AbsentOverTime {
            for series in &mut series {
                series.labels = plan.absent.clone();
            }
        }
        Self { plan, series }
    }

    fn step(&mut self, step: usize, out: &mut Vector) {
        let bounds = self.plan.windows.bounds(step);
        for (id, series) in (0_u32..).zip(&mut self.series) {
            if let Some(value) = series.value(&self.plan, step, bounds) {
                out.push((id, value));
            }
        }
    }
}

impl LeafSeries {
    fn new((labels, mut data): (Labels, super::accumulator::SeriesData)) -> Self {
        data.samples
            .sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        Self {
            labels,
            counts: data.counts,
            sizes: data.sizes,
            extremes: data.extremes,
            samples: data.samples,
            count: 0,
            size: 0,
            from: 0,
            to: 0,
        }
    }

    fn value(&mut self, plan: &LeafPlan, step: usize, (after, last): (i64, i64)) -> Option<f64> {
        #[allow(clippy::cast_precision_loss, reason = "samples are floats")]
        let seconds = plan.windows.range() as f64 / 1e9;
        match plan.fold {
            Fold::Count | Fold::Bytes => {
                self.count += self.counts.at(step);
                self.size += self.sizes.at(step);
                self.counted(plan.op, seconds)
            }
            Fold::Extreme => self.extremes.get(step).copied().flatten(),
            Fold::Samples => {
                while self.samples.get(self.to).is_some_and(|(ts, _)| *ts <= last) {
                    self.to += 1;
                }
                while self.samples.get(self.from).is_some_and(|(ts, _)| *ts <= after) {
                    self.from += 1;
                }
                let samples = self
                    .samples
                    .get(self.from..self.to)
                    .filter(|samples| !samples.is_empty())?;
                Some(range_value(plan.op, plan.parameter, (after, last), samples))
            }
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "samples are floats")]
    fn counted(&self, op: RangeOp, seconds: f64) -> Option<f64> {
        if op == RangeOp::AbsentOverTime {
            return (self.count == 0).then_some(1.0);
        }
        if self.count == 0 {
            return None;
        }
        Some(match op {
            RangeOp::Rate => self.count as f64 / seconds,
            RangeOp::BytesOverTime => self.size as f64,
            RangeOp::BytesRate => self.size as f64 / seconds,
            _ => self.count as f64,
        })
    }
}

/// `label_replace`.
pub(super) struct Replace {
    child: Node,
    regex: Option<AnchoredRegex>,
    names: Vec<Option<String>>,
    destination: String,
    replacement: String,
    source: String,
    numbering: Numbering,
    memo: Memo,
}

impl Replace {
    fn new(replace: &LabelReplace, child: Node) -> Self {
        // The parser compiled both already.
        let regex = re2::anchored(&replace.regex).ok();
        let names = re2::group_names(&replace.regex).unwrap_or_default();
        Self {
            child,
            regex,
            names,
            destination: replace.destination.clone(),
            replacement: replace.replacement.clone(),
            source: replace.source.clone(),
            numbering: Numbering::default(),
            memo: Memo::default(),
        }
    }

    fn step(&mut self, step: usize, out: &mut Vector) -> Result<(), EvalError> {
        self.child.step(step, out)?;
        let Self {
            child,
            regex,
            names,
            destination,
            replacement,
            source,
            numbering,
            memo,
        } = self;
        for (id, _) in out.iter_mut() {
            *id = memo.get(*id, || {
                let labels = child.labels(*id);
                let value = labels.get(source).unwrap_or("");
                let found = regex.as_ref().and_then(|regex| regex.regex().captures(value));
                let replaced = match found {
                    Some(captures) => {
                        let expanded = re2::expand(replacement, names, &captures);
                        let kept = labels.iter().filter(|(name, _)| *name != destination.as_str());
                        Labels::from_pairs(kept.chain([(destination.as_str(), expanded.as_str())]))
                    }
                    None => labels.clone(),
                };
                numbering.id(replaced)
            });
        }
        Ok(())
    }
}
