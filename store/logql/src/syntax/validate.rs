//! Rules of meaning that need no position: parameters, groupings, unwrap, selectors that select.

use super::ast::{Expr, Grouping, MetricExpr, RangeAggregation, RangeOp, VectorOp};
use crate::Matcher;
use crate::error::ParseError;

const SELECTS_ALL: &str = "queries require at least one regexp or equality matcher that does not have an empty-compatible value. For instance, app=~\".*\" does not meet this requirement, but app=~\".+\" will";

/// Every selector must have a matcher that an absent label does not pass.
pub(super) fn selectors(expr: &Expr) -> Result<(), ParseError> {
    match expr {
        Expr::Log(log) => matchers(&log.matchers),
        Expr::Metric(metric) => metric_selectors(metric),
    }
}

fn matchers(list: &[Matcher]) -> Result<(), ParseError> {
    if list.iter().any(|matcher| !matcher.matches("")) {
        return Ok(());
    }
    Err(ParseError::semantic(SELECTS_ALL).with_hint("add a matcher such as app=~\".+\""))
}

fn metric_selectors(expr: &MetricExpr) -> Result<(), ParseError> {
    match expr {
        MetricExpr::Literal(_) | MetricExpr::Vector(_) => Ok(()),
        MetricExpr::Range(range) => matchers(&range.range.log.matchers),
        MetricExpr::Aggregate(aggregation) => argument(&aggregation.expr),
        MetricExpr::LabelReplace(replace) => argument(&replace.expr),
        MetricExpr::Binary(binary) => {
            metric_selectors(&binary.left)?;
            metric_selectors(&binary.right)
        }
    }
}

/// As [`selectors`], for a query that is only printed: Loki prints functions over bare numbers, which it does not run.
pub(super) fn printable(expr: &Expr) -> Result<(), ParseError> {
    match selectors(expr) {
        Err(_) if matches!(expr, Expr::Metric(metric) if is_over_number(metric)) => Ok(()),
        other => other,
    }
}

fn is_over_number(expr: &MetricExpr) -> bool {
    match expr {
        MetricExpr::Literal(_) => true,
        MetricExpr::Aggregate(aggregation) => is_over_number(&aggregation.expr),
        MetricExpr::LabelReplace(replace) => is_over_number(&replace.expr),
        MetricExpr::Vector(_) | MetricExpr::Range(_) | MetricExpr::Binary(_) => false,
    }
}

/// Functions over a bare number have no selector at all.
fn argument(expr: &MetricExpr) -> Result<(), ParseError> {
    match expr {
        MetricExpr::Literal(_) => {
            Err(ParseError::semantic(SELECTS_ALL).with_hint("use vector(1) instead of 1"))
        }
        _ => metric_selectors(expr),
    }
}

/// `k` of the aggregations that need one.
pub(super) fn vector_parameter(op: VectorOp, text: Option<&str>) -> Result<Option<i64>, ParseError> {
    let name = op.as_str();
    match (op, text) {
        (VectorOp::Topk | VectorOp::Bottomk | VectorOp::ApproxTopk, None) => Err(ParseError::semantic(
            format!("parameter required for operation {name}"),
        )),
        (VectorOp::Topk | VectorOp::Bottomk | VectorOp::ApproxTopk, Some(text)) => {
            let Ok(k) = text.parse::<i64>() else {
                return Err(ParseError::semantic(format!("invalid parameter {name}({text},")));
            };
            if k <= 0 {
                return Err(ParseError::semantic(format!(
                    "invalid parameter (must be greater than 0) {name}({text}"
                )));
            }
            Ok(Some(k))
        }
        (_, Some(text)) => Err(ParseError::semantic(format!(
            "unsupported parameter for operation {name}({text},"
        ))),
        (_, None) => Ok(None),
    }
}

pub(super) fn vector_grouping(op: VectorOp, grouping: Option<&Grouping>) -> Result<(), ParseError> {
    match op {
        _ if grouping.is_none() => Ok(()),
        VectorOp::Sort | VectorOp::SortDesc => Err(ParseError::semantic(
            "sort and sort_desc doesn't allow grouping by ",
        )),
        VectorOp::ApproxTopk => Err(ParseError::semantic(
            "grouping not allowed for approx_topk aggregation",
        )),
        _ => Ok(()),
    }
}

pub(super) fn range_aggregation(aggregation: &RangeAggregation) -> Result<(), ParseError> {
    use RangeOp as Op;
    let op = aggregation.op;
    let name = op.as_str();
    match (op, aggregation.parameter) {
        (Op::QuantileOverTime, None) => {
            return Err(ParseError::semantic(format!(
                "parameter required for operation {name}"
            )));
        }
        (Op::QuantileOverTime, Some(_)) | (_, None) => {}
        (_, Some(value)) => {
            return Err(ParseError::semantic(format!(
                "parameter {value} not supported for operation {name}"
            )));
        }
    }
    let takes_grouping = matches!(
        op,
        Op::AvgOverTime
            | Op::StddevOverTime
            | Op::StdvarOverTime
            | Op::QuantileOverTime
            | Op::MaxOverTime
            | Op::MinOverTime
            | Op::FirstOverTime
            | Op::LastOverTime
    );
    if aggregation.grouping.is_some() && !takes_grouping {
        return Err(ParseError::semantic(format!(
            "grouping not allowed for {name} aggregation"
        )));
    }
    let unwrapped = aggregation.range.unwrap.is_some();
    let fits = match op {
        Op::Rate | Op::AbsentOverTime => true,
        Op::CountOverTime | Op::BytesOverTime | Op::BytesRate => !unwrapped,
        _ => unwrapped,
    };
    if fits {
        return Ok(());
    }
    let with = if unwrapped { "with" } else { "without" };
    Err(ParseError::semantic(format!(
        "invalid aggregation {name} {with} unwrap"
    )))
}
