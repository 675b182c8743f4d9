//! Aggregations over the series of one step.

use super::node::{Memo, Node, Numbering, Vector};
use crate::Labels;
use crate::error::EvalError;
use crate::syntax::ast::{Grouping, VectorAggregation, VectorOp};

/// `sum by (…) (…)` and its kin.
pub(super) struct Aggregate {
    op: VectorOp,
    k: usize,
    grouping: Option<Grouping>,
    child: Node,
    groups: Numbering,
    memo: Memo,
    input: Vector,
    /// Members of each group of the step at hand.
    members: Vec<Vec<(u32, f64)>>,
    /// Groups of the step at hand in order of appearance.
    present: Vec<u32>,
}

impl Aggregate {
    pub(super) fn new(aggregation: &VectorAggregation, child: Node) -> Self {
        Self {
            op: aggregation.op,
            k: usize::try_from(aggregation.parameter.unwrap_or(0)).unwrap_or(usize::MAX),
            grouping: aggregation.grouping.clone(),
            child,
            groups: Numbering::default(),
            memo: Memo::default(),
            input: Vec::new(),
            members: Vec::new(),
            present: Vec::new(),
        }
    }

    /// Aggregations that choose series keep their numbers; the others number groups.
    fn chooses(&self) -> bool {
        matches!(
            self.op,
            VectorOp::Topk | VectorOp::Bottomk | VectorOp::ApproxTopk | VectorOp::Sort | VectorOp::SortDesc
        )
    }

    pub(super) fn labels(&self, id: u32) -> &Labels {
        if self.chooses() {
            self.child.labels(id)
        } else {
            self.groups.get(id)
        }
    }

    pub(super) fn step(&mut self, step: usize, out: &mut Vector) -> Result<(), EvalError> {
        if matches!(self.op, VectorOp::Sort | VectorOp::SortDesc) {
            self.child.step(step, out)?;
            let descending = self.op == VectorOp::SortDesc;
            out.sort_by(|a, b| rank(a.1, b.1, descending));
            return Ok(());
        }
        self.input.clear();
        self.child.step(step, &mut self.input)?;
        self.fill_groups();
        for group in self.present.drain(..) {
            let Some(members) = self.members.get_mut(group as usize) else {
                continue;
            };
            match self.op {
                VectorOp::Topk | VectorOp::ApproxTopk => choose(members, self.k, true, out),
                VectorOp::Bottomk => choose(members, self.k, false, out),
                op => out.push((group, aggregate(op, members))),
            }
            members.clear();
        }
        Ok(())
    }

    fn fill_groups(&mut self) {
        let Self {
            grouping,
            child,
            groups,
            memo,
            input,
            members,
            present,
            ..
        } = self;
        for (id, value) in input.iter() {
            let group = memo.get(*id, || {
                groups.id(group_labels(child.labels(*id), grouping.as_ref()))
            });
            let index = group as usize;
            if members.len() <= index {
                members.resize(index + 1, Vec::new());
            }
            if let Some(members) = members.get_mut(index) {
                if members.is_empty() {
                    present.push(group);
                }
                members.push((*id, *value));
            }
        }
    }
}

/// The labels of the group a series belongs to; `by` leaves out labels the series does not have.
fn group_labels(labels: &Labels, grouping: Option<&Grouping>) -> Labels {
    let Some(grouping) = grouping else {
        return Labels::empty();
    };
    let named = |name: &str| grouping.labels.iter().any(|label| label == name);
    let kept = labels.iter().filter(|(name, _)| named(name) != grouping.without);
    if grouping.without {
        // Labels without a value are lost on the way, as in Loki.
        return kept.collect();
    }
    Labels::keeping_empty(kept)
}

fn aggregate(op: VectorOp, members: &[(u32, f64)]) -> f64 {
    let values = || members.iter().map(|(_, value)| *value);
    #[allow(clippy::cast_precision_loss, reason = "a count of series")]
    let count = members.len() as f64;
    match op {
        VectorOp::Sum => values().sum(),
        VectorOp::Avg => average(values()),
        VectorOp::Min => values().fold(f64::NAN, |best, value| {
            if best.is_nan() || value < best {
                value
            } else {
                best
            }
        }),
        VectorOp::Max => values().fold(f64::NAN, |best, value| {
            if best.is_nan() || value > best {
                value
            } else {
                best
            }
        }),
        VectorOp::Count => count,
        VectorOp::Stddev => spread(values()).sqrt(),
        VectorOp::Stdvar => spread(values()),
        VectorOp::Topk | VectorOp::Bottomk | VectorOp::ApproxTopk | VectorOp::Sort | VectorOp::SortDesc => {
            f64::NAN
        }
    }
}

/// The variance. One value has none, even if it is no finite number.
fn spread(values: impl Iterator<Item = f64>) -> f64 {
    let (mut count, mut mean, mut sum) = (0.0, 0.0, 0.0);
    for value in values {
        count += 1.0;
        if count == 1.0 {
            mean = value;
            continue;
        }
        let delta = value - mean;
        mean += delta / count;
        sum += delta * (value - mean);
    }
    sum / count
}

/// A running mean: infinities stay, opposite ones give NaN.
fn average(values: impl Iterator<Item = f64>) -> f64 {
    let (mut mean, mut count) = (0.0_f64, 0.0);
    for value in values {
        count += 1.0;
        if mean.is_infinite() && (value.is_finite() || value == mean) {
            continue;
        }
        mean += value / count - mean / count;
    }
    mean
}

/// Best first; NaN last.
fn rank(a: f64, b: f64, descending: bool) -> std::cmp::Ordering {
    a.is_nan().cmp(&b.is_nan()).then(if descending {
        b.total_cmp(&a)
    } else {
        a.total_cmp(&b)
    })
}

/// The `k` best; among equals those that come first.
fn choose(members: &mut [(u32, f64)], k: usize, largest: bool, out: &mut Vector) {
    members.sort_by(|a, b| rank(a.1, b.1, largest));
    out.extend(members.iter().take(k));
}
