//! `Display` of the syntax tree: one line, as Loki prints queries. What is printed parses to the same tree.

use std::fmt::{self, Display, Formatter};

use super::ast::{
    self, BinaryExpr, CompareOp, Expr, Extraction, Grouping, LabelChoice, LabelFilter, LabelFormat,
    LabelFormatValue, LabelReplace, LineFilterExpr, LineFilterValue, LogExpr, LogRange, MetricExpr,
    RangeAggregation, Stage, Unwrap, VectorAggregation,
};
use crate::text::{format_float_f, format_float_g, quote_go};
use crate::units::{format_go_duration, format_prometheus_duration};
use crate::{MatchOp, re2};

/// Items with `,` between them.
fn list<T: Display>(f: &mut Formatter<'_>, items: impl IntoIterator<Item = T>) -> fmt::Result {
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            f.write_str(",")?;
        }
        write!(f, "{item}")?;
    }
    Ok(())
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log(log) => log.fmt(f),
            Self::Metric(metric) => metric.fmt(f),
        }
    }
}

impl Display for LogExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Selector(self).fmt(f)?;
        for stage in &self.stages {
            write!(f, " {stage}")?;
        }
        Ok(())
    }
}

/// Prints only the matchers.
pub(super) struct Selector<'a>(pub(super) &'a LogExpr);

impl Display for Selector<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (index, matcher) in self.0.matchers.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            matcher.fmt(f)?;
        }
        f.write_str("}")
    }
}

impl Display for Stage {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::LineFilter(filter) => filter.fmt(f),
            Self::Json(params) => {
                f.write_str("| json")?;
                extractions(f, params)
            }
            Self::Logfmt {
                strict,
                keep_empty,
                params,
            } => {
                f.write_str("| logfmt")?;
                if *strict {
                    f.write_str(" --strict")?;
                }
                if *keep_empty {
                    f.write_str(" --keep-empty")?;
                }
                extractions(f, params)
            }
            Self::Regexp(pattern) => write!(f, "| regexp {}", quote_go(pattern)),
            Self::Pattern(pattern) => write!(f, "| pattern {}", quote_go(pattern)),
            Self::Unpack => f.write_str("| unpack"),
            Self::LabelFilter(filter) => write!(f, "| {filter}"),
            Self::LineFormat(template) => write!(f, "| line_format {}", quote_go(template)),
            Self::LabelFormat(formats) => {
                f.write_str("| label_format ")?;
                list(f, formats)
            }
            Self::Decolorize => f.write_str("| decolorize"),
            Self::Drop(choices) => {
                f.write_str("| drop ")?;
                list(f, choices)
            }
            Self::Keep(choices) => {
                f.write_str("| keep ")?;
                list(f, choices)
            }
        }
    }
}

fn extractions(f: &mut Formatter<'_>, params: &[Extraction]) -> fmt::Result {
    if params.is_empty() {
        return Ok(());
    }
    f.write_str(" ")?;
    list(f, params)
}

impl Display for Extraction {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, quote_go(&self.expression))
    }
}

impl Display for LineFilterExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.op.as_str())?;
        for (index, value) in self.values.iter().enumerate() {
            if index > 0 {
                f.write_str(" or")?;
            }
            match value {
                LineFilterValue::Text(text) => write!(f, " {}", quote_go(text))?,
                LineFilterValue::Ip(pattern) => write!(f, " ip({})", quote_go(pattern))?,
            }
        }
        Ok(())
    }
}

impl Display for LabelFilter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            // As Loki prints what it does not take apart.
            Self::Text(matcher)
                if matcher.op() == MatchOp::Regex
                    && !matcher.value().contains('`')
                    && !re2::is_taken_apart(matcher.value()) =>
            {
                write!(f, "{}=~`{}`", matcher.name(), matcher.value())
            }
            Self::Text(matcher) => matcher.fmt(f),
            Self::Number { name, op, value } => {
                // `-0` would be read as a duration.
                let value = if *value == 0.0 { 0.0 } else { *value };
                write!(f, "{name}{}{}", op.as_str(), format_float_f(value))
            }
            Self::Duration { name, op, nanos } => {
                write!(f, "{name}{}{}", op.as_str(), format_go_duration(*nanos))
            }
            Self::Bytes { name, op, text, .. } => write!(f, "{name}{}{text}", op.as_str()),
            Self::Ip { name, equal, pattern } => {
                let op = if *equal { "=" } else { CompareOp::NotEqual.as_str() };
                write!(f, "{name}{op}ip({})", quote_go(pattern))
            }
            Self::And(..) | Self::Or(..) => chain(self, f),
        }
    }
}

/// A chain of `and` and `or`; its left side may be long, so that is walked in a loop.
fn chain(filter: &LabelFilter, f: &mut Formatter<'_>) -> fmt::Result {
    let mut rights = Vec::new();
    let mut left = filter;
    loop {
        let (next, word, right) = match left {
            LabelFilter::And(next, right) => (next, ",", right),
            LabelFilter::Or(next, right) => (next, "or", right),
            _ => break,
        };
        rights.push((word, right));
        f.write_str("( ")?;
        left = next;
    }
    left.fmt(f)?;
    for (word, right) in rights.into_iter().rev() {
        write!(f, " {word} {right} )")?;
    }
    Ok(())
}

impl Display for LabelFormat {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.value {
            LabelFormatValue::Rename(source) => write!(f, "{}={source}", self.name),
            LabelFormatValue::Template(template) => write!(f, "{}={}", self.name, quote_go(template)),
        }
    }
}

impl Display for LabelChoice {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Matching(matcher) => matcher.fmt(f),
        }
    }
}

impl Display for MetricExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            // `-0` would be read as a duration, `NaN` and `+Inf` as names: only an operation makes them.
            Self::Literal(value) if *value == 0.0 && value.is_sign_negative() => f.write_str("-0.0"),
            Self::Literal(value) if value.is_nan() => f.write_str("(0 / 0)"),
            Self::Literal(f64::INFINITY) => f.write_str("(10 ^ 309)"),
            Self::Literal(f64::NEG_INFINITY) => f.write_str("(-10 ^ 309)"),
            Self::Literal(value) => f.write_str(&format_float_g(*value)),
            Self::Vector(value) => write!(f, "vector({})", six_decimals(*value)),
            Self::Range(aggregation) => aggregation.fmt(f),
            Self::Aggregate(aggregation) => aggregation.fmt(f),
            Self::Binary(binary) => write!(f, "({} {} {})", binary.left, Operator(binary), binary.right),
            Self::LabelReplace(replace) => replace.fmt(f),
        }
    }
}

/// The operator with its modifiers; `{:#}` as on a line of its own.
pub(super) struct Operator<'a>(pub(super) &'a BinaryExpr);

impl Display for Operator<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.op.as_str())?;
        if self.0.return_bool {
            f.write_str(" bool")?;
        }
        let Some(matching) = &self.0.matching else {
            return Ok(());
        };
        f.write_str(if matching.on { " on (" } else { " ignoring (" })?;
        // On several lines there are blanks between the labels; on one line there are none.
        let comma = if f.alternate() { ", " } else { "," };
        f.write_str(&matching.labels.join(comma))?;
        f.write_str(") ")?;
        let Some(group) = &matching.group else {
            return Ok(());
        };
        f.write_str(if group.left { "group_left" } else { "group_right" })?;
        match group.include.as_slice() {
            // A parenthesis behind it would be read as the labels to include.
            [] if matches!(self.0.right, MetricExpr::Binary(_)) => f.write_str(" ()"),
            [] => Ok(()),
            labels => write!(f, " ({})", labels.join(comma)),
        }
    }
}

impl Display for Grouping {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let comma = if f.alternate() { ", " } else { "," };
        let word = if self.without { "without" } else { "by" };
        write!(f, " {word} ({})", self.labels.join(comma))
    }
}

impl Display for VectorAggregation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.op.as_str())?;
        if let Some(grouping) = self.grouping.as_ref().filter(|grouping| !grouping.is_single()) {
            grouping.fmt(f)?;
        }
        f.write_str("(")?;
        if let Some(k) = self.parameter {
            write!(f, "{k},")?;
        }
        write!(f, "{})", self.expr)
    }
}

impl Display for RangeAggregation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.op.as_str())?;
        if let Some(parameter) = self.parameter {
            write!(f, "{},", format_float_g(parameter))?;
        }
        write!(f, "{})", self.range)?;
        match &self.grouping {
            Some(grouping) => grouping.fmt(f),
            None => Ok(()),
        }
    }
}

impl Display for LogRange {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.log.fmt(f)?;
        if let Some(unwrap) = &self.unwrap {
            write!(f, " {unwrap}")?;
        }
        write!(f, "[{}]", format_prometheus_duration(self.range))?;
        if self.offset != 0 {
            write!(f, " offset {}", format_go_duration(self.offset))?;
        }
        Ok(())
    }
}

/// As Loki prints the number of `vector`, or in full where six decimals are another number.
fn six_decimals(value: f64) -> String {
    let short = format!("{value:.6}");
    match short.parse::<f64>() {
        Ok(again) if value == again => short,
        _ => format_float_g(value),
    }
}

/// Prints only `| unwrap …`, without the filters behind it.
pub(super) struct Conversion<'a>(pub(super) &'a Unwrap);

impl Display for Conversion<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let label = &self.0.label;
        match self.0.conversion {
            ast::Conversion::Number => write!(f, "| unwrap {label}"),
            ast::Conversion::Bytes => write!(f, "| unwrap bytes({label})"),
            ast::Conversion::Duration => write!(f, "| unwrap duration({label})"),
            ast::Conversion::DurationSeconds => write!(f, "| unwrap duration_seconds({label})"),
        }
    }
}

impl Display for Unwrap {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Conversion(self).fmt(f)?;
        for filter in &self.filters {
            write!(f, " | {filter}")?;
        }
        Ok(())
    }
}

impl Display for LabelReplace {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "label_replace({},{},{},{},{})",
            self.expr,
            quote_go(&self.destination),
            quote_go(&self.replacement),
            quote_go(&self.source),
            quote_go(&self.regex)
        )
    }
}
