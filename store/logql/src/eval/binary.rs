//! Binary operators.

use std::collections::HashMap;

use super::node::{Memo, Node, Numbering, Vector};
use crate::Labels;
use crate::arithmetic;
use crate::error::EvalError;
use crate::syntax::ast::{BinaryExpr, BinaryOp, Matching};

/// Series on one side, a number on the other: labels stay as they are.
pub(super) struct ScalarSide {
    op: BinaryOp,
    return_bool: bool,
    pub(super) child: Node,
    scalar: f64,
    scalar_left: bool,
}

impl ScalarSide {
    pub(super) fn new(binary: &BinaryExpr, child: Node, scalar: f64, scalar_left: bool) -> Self {
        Self {
            op: binary.op,
            return_bool: binary.return_bool,
            child,
            scalar,
            scalar_left,
        }
    }

    pub(super) fn step(&mut self, step: usize, out: &mut Vector) -> Result<(), EvalError> {
        self.child.step(step, out)?;
        let filters = self.op.is_comparison() && !self.return_bool;
        out.retain_mut(|(_, value)| {
            let (left, right) = if self.scalar_left {
                (self.scalar, *value)
            } else {
                (*value, self.scalar)
            };
            let result = arithmetic::fold(self.op, left, right);
            if filters {
                return result == 1.0;
            }
            *value = result;
            true
        });
        Ok(())
    }
}

/// Series on both sides.
pub(super) struct Binary {
    op: BinaryOp,
    return_bool: bool,
    matching: Option<Matching>,
    left: Node,
    right: Node,
    signatures: Numbering,
    left_memo: Memo,
    right_memo: Memo,
    results: Numbering,
    pairs: HashMap<(u32, u32), u32>,
    left_input: Vector,
    right_input: Vector,
}

const MANY_RIGHT: &str = "found duplicate series on the right hand-side;many-to-many matching not allowed: matching labels must be unique on one side";
const MANY_LEFT: &str = "found duplicate series on the left hand-side;many-to-many matching not allowed: matching labels must be unique on one side";
const IMPLICIT: &str =
    "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)";
const GROUPING: &str = "multiple matches for labels: grouping labels must ensure unique matches";

impl Binary {
    pub(super) fn new(binary: &BinaryExpr, left: Node, right: Node) -> Self {
        Self {
            op: binary.op,
            return_bool: binary.return_bool,
            matching: binary.matching.clone(),
            left,
            right,
            signatures: Numbering::default(),
            left_memo: Memo::default(),
            right_memo: Memo::default(),
            results: Numbering::default(),
            pairs: HashMap::new(),
            left_input: Vec::new(),
            right_input: Vec::new(),
        }
    }

    pub(super) fn labels(&self, id: u32) -> &Labels {
        self.results.get(id)
    }

    pub(super) fn step(&mut self, step: usize, out: &mut Vector) -> Result<(), EvalError> {
        self.left_input.clear();
        self.right_input.clear();
        self.left.step(step, &mut self.left_input)?;
        self.right.step(step, &mut self.right_input)?;
        if self.op.is_set() {
            self.combine_sets(out);
            return Ok(());
        }
        self.combine(out)
    }

    /// Signatures of both sides' series: what must be equal for them to meet.
    fn sign(&mut self) -> (Vec<u32>, Vec<u32>) {
        let Self {
            left,
            right,
            signatures,
            left_memo,
            right_memo,
            matching,
            ..
        } = self;
        let mut sign = |node: &Node, memo: &mut Memo, input: &Vector| {
            let signature = |(id, _): &(u32, f64)| {
                memo.get(*id, || {
                    signatures.id(signature(node.labels(*id), matching.as_ref()))
                })
            };
            input.iter().map(signature).collect::<Vec<u32>>()
        };
        (
            sign(left, left_memo, &self.left_input),
            sign(right, right_memo, &self.right_input),
        )
    }

    fn combine_sets(&mut self, out: &mut Vector) {
        let (left_signs, right_signs) = self.sign();
        let (own, other): (&[u32], &[u32]) = (&left_signs, &right_signs);
        let right_set: std::collections::HashSet<u32> = other.iter().copied().collect();
        let left_set: std::collections::HashSet<u32> = own.iter().copied().collect();
        let Self {
            op,
            left,
            right,
            results,
            left_input,
            right_input,
            ..
        } = self;
        for ((id, value), sign) in left_input.iter().zip(own) {
            let keeps = match op {
                BinaryOp::And => right_set.contains(sign),
                BinaryOp::Unless => !right_set.contains(sign),
                _ => true,
            };
            if keeps {
                out.push((results.id(left.labels(*id).clone()), *value));
            }
        }
        if *op == BinaryOp::Or {
            for ((id, value), sign) in right_input.iter().zip(other) {
                if !left_set.contains(sign) {
                    out.push((results.id(right.labels(*id).clone()), *value));
                }
            }
        }
    }

    fn combine(&mut self, out: &mut Vector) -> Result<(), EvalError> {
        let (left_signs, right_signs) = self.sign();
        let group = self
            .matching
            .as_ref()
            .and_then(|matching| matching.group.as_ref());
        // The "one" side is the right one, unless group_right says otherwise.
        let swapped = group.is_some_and(|group| !group.left);
        let one_to_one = group.is_none();
        let (many, many_signs, one, one_signs) = if swapped {
            (&self.right_input, &right_signs, &self.left_input, &left_signs)
        } else {
            (&self.left_input, &left_signs, &self.right_input, &right_signs)
        };
        let mut ones: HashMap<u32, (u32, f64)> = HashMap::with_capacity(one.len());
        for (sample, sign) in one.iter().zip(one_signs) {
            if ones.insert(*sign, *sample).is_some() {
                return Err(EvalError::Matching(if swapped { MANY_LEFT } else { MANY_RIGHT }));
            }
        }
        let mut seen_signs = std::collections::HashSet::new();
        let mut seen_results = std::collections::HashSet::new();
        let filters = self.op.is_comparison() && !self.return_bool;
        for ((many_id, many_value), sign) in many.iter().zip(many_signs) {
            let Some((one_id, one_value)) = ones.get(sign) else {
                continue;
            };
            let (many_node, one_node) = if swapped {
                (&self.right, &self.left)
            } else {
                (&self.left, &self.right)
            };
            let results = &mut self.results;
            let matching = self.matching.as_ref();
            let result = *self.pairs.entry((*many_id, *one_id)).or_insert_with(|| {
                results.id(result_labels(
                    many_node.labels(*many_id),
                    one_node.labels(*one_id),
                    matching,
                ))
            });
            if one_to_one && !seen_signs.insert(*sign) {
                return Err(EvalError::Matching(IMPLICIT));
            }
            if !one_to_one && !seen_results.insert((*sign, result)) {
                return Err(EvalError::Matching(GROUPING));
            }
            let (left, right) = if swapped {
                (*one_value, *many_value)
            } else {
                (*many_value, *one_value)
            };
            let value = arithmetic::fold(self.op, left, right);
            match (filters, value) {
                (true, 1.0) => out.push((result, left)),
                (true, _) => {}
                (false, value) => out.push((result, value)),
            }
        }
        Ok(())
    }
}

fn signature(labels: &Labels, matching: Option<&Matching>) -> Labels {
    let counts = |name: &str| {
        matching.is_none_or(|matching| matching.labels.iter().any(|label| label == name) == matching.on)
    };
    labels.iter().filter(|(name, _)| counts(name)).collect()
}

/// The labels of a result: those matched on, or those of the "many" side with what the "one" side adds.
fn result_labels(many: &Labels, one: &Labels, matching: Option<&Matching>) -> Labels {
    let Some(matching) = matching else {
        return many.clone();
    };
    let Some(group) = &matching.group else {
        return signature(many, Some(matching));
    };
    let included = |name: &str| group.include.iter().any(|label| label == name);
    let kept = many.iter().filter(|(name, _)| !included(name));
    let added = group
        .include
        .iter()
        .filter_map(|name| Some((name.as_str(), one.get(name)?)));
    kept.chain(added).collect()
}
