//! Several lines for long queries: what fits in 100 characters stays on one line, the rest is indented by two.

use super::ast::{
    BinaryExpr, BinaryOp, Expr, LogExpr, LogRange, MetricExpr, RangeAggregation, Stage, VectorAggregation,
};
use super::metric::binding;
use super::print::{Conversion, Operator, Selector};
use crate::text::{format_float_g, quote_go};
use crate::units::{format_go_duration, format_prometheus_duration};

const MAX_LINE: usize = 100;

/// The whole query.
pub(super) fn pretty(expr: &Expr) -> String {
    match expr {
        Expr::Log(log) => log_expr(log, 0),
        Expr::Metric(metric) => metric_expr(metric, 0),
    }
}

fn indent(level: usize) -> String {
    "  ".repeat(level)
}

fn log_expr(log: &LogExpr, level: usize) -> String {
    let line = log.to_string();
    if line.len() <= MAX_LINE || log.stages.is_empty() {
        return indent(level) + &line;
    }
    let mut out = format!("{}{}", indent(level), Selector(log));
    let mut stages = log.stages.as_slice();
    while let [stage, rest @ ..] = stages {
        // Filters on the line that stand together share a line where they fit.
        let filters: Vec<String> = stages
            .iter()
            .take_while(|stage| matches!(stage, Stage::LineFilter(_)))
            .map(ToString::to_string)
            .collect();
        let together = filters.join(" ");
        if filters.len() > 1 && together.len() <= MAX_LINE {
            out.push_str(&format!("\n{}{together}", indent(level + 1)));
            stages = stages.get(filters.len()..).unwrap_or(&[]);
            continue;
        }
        stages = rest;
        // Loki forgets to indent `decolorize`.
        let level = if *stage == Stage::Decolorize { 0 } else { level + 1 };
        out.push_str(&format!("\n{}{stage}", indent(level)));
    }
    out
}

fn metric_expr(expr: &MetricExpr, level: usize) -> String {
    let line = expr.to_string();
    if line.len() <= MAX_LINE {
        return indent(level) + &line;
    }
    match expr {
        MetricExpr::Literal(_) | MetricExpr::Vector(_) => indent(level) + &line,
        MetricExpr::Range(aggregation) => range_aggregation(aggregation, level),
        MetricExpr::Aggregate(aggregation) => vector_aggregation(aggregation, level),
        MetricExpr::Binary(binary) => format!(
            "{}\n{}{:#}\n{}",
            side(binary, &binary.left, level + 1),
            indent(level),
            Operator(binary),
            side(binary, &binary.right, level + 1)
        ),
        MetricExpr::LabelReplace(replace) => {
            let mut arguments = vec![metric_expr(&replace.expr, level + 1)];
            for text in [
                &replace.destination,
                &replace.replacement,
                &replace.source,
                &replace.regex,
            ] {
                arguments.push(format!("{}{}", indent(level + 1), quote_go(text)));
            }
            format!(
                "{}label_replace(\n{}\n{})",
                indent(level),
                arguments.join(",\n"),
                indent(level)
            )
        }
    }
}

/// One side of a binary operator; an operator in it keeps its parentheses where the meaning would change without.
fn side(parent: &BinaryExpr, expr: &MetricExpr, level: usize) -> String {
    let needs = match expr {
        MetricExpr::Binary(child) => {
            let (inner, outer) = (binding(child.op), binding(parent.op));
            let is_left = std::ptr::eq(expr, &parent.left);
            let groups_to_its_side = is_left != (parent.op == BinaryOp::Pow);
            inner < outer || (inner == outer && !groups_to_its_side)
        }
        _ => false,
    };
    if !needs || expr.to_string().len() <= MAX_LINE {
        return metric_expr(expr, level);
    }
    format!(
        "{}(\n{}\n{})",
        indent(level),
        metric_expr(expr, level + 1),
        indent(level)
    )
}

fn range_aggregation(aggregation: &RangeAggregation, level: usize) -> String {
    let mut out = format!("{}{}(\n", indent(level), aggregation.op.as_str());
    if let Some(parameter) = aggregation.parameter {
        out.push_str(&format!("{}{},\n", indent(level + 1), format_float_g(parameter)));
    }
    out.push_str(&log_range(&aggregation.range, level + 1));
    out.push_str(&format!("\n{})", indent(level)));
    if let Some(grouping) = &aggregation.grouping {
        out.push_str(&format!("{grouping:#}"));
    }
    out
}

fn log_range(range: &LogRange, level: usize) -> String {
    let mut out = log_expr(&range.log, level);
    if let Some(unwrap) = &range.unwrap {
        let margin = indent(level + 1);
        out.push_str(&format!("\n{margin}{}", Conversion(unwrap)));
        for filter in &unwrap.filters {
            out.push_str(&format!("\n{margin}| {filter}"));
        }
    }
    out.push_str(&format!(" [{}]", format_prometheus_duration(range.range)));
    if range.offset != 0 {
        let exact = range.offset % 1_000_000 == 0;
        let print = if exact {
            format_prometheus_duration
        } else {
            format_go_duration
        };
        out.push_str(&format!(" offset {}", print(range.offset)));
    }
    out
}

fn vector_aggregation(aggregation: &VectorAggregation, level: usize) -> String {
    let mut out = format!("{}{}", indent(level), aggregation.op.as_str());
    if let Some(grouping) = aggregation
        .grouping
        .as_ref()
        .filter(|grouping| !grouping.is_single())
    {
        out.push_str(&format!("{grouping:#}"));
    }
    out.push_str("(\n");
    if let Some(k) = aggregation.parameter {
        out.push_str(&format!("{}{k},\n", indent(level + 1)));
    }
    out.push_str(&metric_expr(&aggregation.expr, level + 1));
    out.push_str(&format!("\n{})", indent(level)));
    out
}
