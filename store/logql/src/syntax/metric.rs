//! Metric expressions: binary operators by precedence, aggregations, ranges.

use super::ast::{
    BinaryExpr, BinaryOp, CompareOp, Conversion, Expr, GroupSide, Grouping, LabelReplace, LogExpr, LogRange,
    Matching, MetricExpr, RangeAggregation, RangeOp, Stage, Unwrap, VectorAggregation, VectorOp,
};
use super::parser::Parser;
use super::token::{Function, Keyword, Symbol, TokenKind};
use super::validate;
use crate::Matcher;
use crate::arithmetic;
use crate::error::ParseError;
use crate::re2;

/// A range while it is read: its parts come in several orders.
#[derive(Default)]
struct RangeParts {
    matchers: Vec<Matcher>,
    stages: Vec<Stage>,
    unwrap: Option<Unwrap>,
    range: Option<i64>,
    offset: Option<i64>,
}

impl Parser {
    /// A whole log or metric expression.
    pub(super) fn expression(&mut self) -> Result<Expr, ParseError> {
        self.nested(|parser| parser.expression_at(0))
    }

    /// Precedence climbing over [`binding`].
    fn expression_at(&mut self, level: u8) -> Result<Expr, ParseError> {
        let mut left = self.operand()?;
        while let Some((op, binds)) = self.binary_op() {
            if binds < level {
                break;
            }
            self.count_operator()?;
            self.advance();
            let return_bool = self.take_keyword(Keyword::Bool);
            let matching = self.matching()?;
            // `^` groups to the right, everything else to the left.
            let next_level = if op == BinaryOp::Pow { binds } else { binds + 1 };
            let right = self.nested(|parser| parser.expression_at(next_level))?;
            left = Expr::Metric(combine(op, return_bool, matching, left, right)?);
        }
        Ok(left)
    }

    fn binary_op(&self) -> Option<(BinaryOp, u8)> {
        let op = match self.peek() {
            TokenKind::Keyword(Keyword::Or) => BinaryOp::Or,
            TokenKind::Keyword(Keyword::And) => BinaryOp::And,
            TokenKind::Keyword(Keyword::Unless) => BinaryOp::Unless,
            TokenKind::Symbol(symbol) => match symbol {
                Symbol::Plus => BinaryOp::Add,
                Symbol::Minus => BinaryOp::Sub,
                Symbol::Star => BinaryOp::Mul,
                Symbol::Slash => BinaryOp::Div,
                Symbol::Percent => BinaryOp::Mod,
                Symbol::Caret => BinaryOp::Pow,
                Symbol::DoubleEqual => BinaryOp::Compare(CompareOp::Equal),
                Symbol::NotEqual => BinaryOp::Compare(CompareOp::NotEqual),
                Symbol::Greater => BinaryOp::Compare(CompareOp::Greater),
                Symbol::GreaterOrEqual => BinaryOp::Compare(CompareOp::GreaterOrEqual),
                Symbol::Less => BinaryOp::Compare(CompareOp::Less),
                Symbol::LessOrEqual => BinaryOp::Compare(CompareOp::LessOrEqual),
                _ => return None,
            },
            _ => return None,
        };
        Some((op, binding(op)))
    }

    fn matching(&mut self) -> Result<Option<Matching>, ParseError> {
        let on = match self.peek() {
            TokenKind::Keyword(Keyword::On) => true,
            TokenKind::Keyword(Keyword::Ignoring) => false,
            _ => return Ok(None),
        };
        self.advance();
        let labels = self.label_list()?;
        let left = match self.peek() {
            TokenKind::Keyword(Keyword::GroupLeft) => true,
            TokenKind::Keyword(Keyword::GroupRight) => false,
            _ => {
                // `ignoring ()` alone says nothing.
                let says_something = on || !labels.is_empty();
                return Ok(says_something.then_some(Matching {
                    on,
                    labels,
                    group: None,
                }));
            }
        };
        self.advance();
        // `group_left (a) …` names labels; `group_left (rate(…))` is the right side in parentheses.
        let names_labels = *self.peek() == TokenKind::Symbol(Symbol::OpenParen)
            && matches!(
                self.peek_second(),
                TokenKind::Identifier(_) | TokenKind::Symbol(Symbol::CloseParen)
            );
        let include = if names_labels {
            self.label_list()?
        } else {
            Vec::new()
        };
        Ok(Some(Matching {
            on,
            labels,
            group: Some(GroupSide { left, include }),
        }))
    }

    fn operand(&mut self) -> Result<Expr, ParseError> {
        match self.peek() {
            TokenKind::Symbol(Symbol::OpenBrace) => {
                let matchers = self.selector()?;
                let mut stages = Vec::new();
                self.stages(&mut stages)?;
                if *self.peek() == TokenKind::Symbol(Symbol::Pipe) {
                    self.advance();
                    return Err(self.unexpected(&[]));
                }
                Ok(Expr::Log(LogExpr { matchers, stages }))
            }
            TokenKind::Symbol(Symbol::OpenParen) => {
                self.advance();
                let inner = self.nested(|parser| parser.expression_at(0))?;
                self.expect_silently(Symbol::CloseParen)?;
                Ok(inner)
            }
            TokenKind::Number(_) => Ok(Expr::Metric(MetricExpr::Literal(self.signed_number()?))),
            TokenKind::Symbol(Symbol::Plus | Symbol::Minus) => {
                Ok(Expr::Metric(MetricExpr::Literal(self.signed_number()?)))
            }
            TokenKind::Function(function) => {
                let function = *function;
                self.call(function).map(Expr::Metric)
            }
            _ => Err(self.unexpected(&[])),
        }
    }

    /// A metric expression as an argument.
    fn samples(&mut self) -> Result<MetricExpr, ParseError> {
        match self.expression()? {
            Expr::Metric(expr) => Ok(expr),
            Expr::Log(_) => Err(self.unexpected(&[])),
        }
    }

    fn call(&mut self, function: Function) -> Result<MetricExpr, ParseError> {
        if let Some(op) = range_op(function) {
            self.advance();
            return self.range_aggregation(op);
        }
        if let Some(op) = vector_op(function) {
            self.advance();
            return self.vector_aggregation(op);
        }
        match function {
            Function::Vector => {
                self.advance();
                self.expect(Symbol::OpenParen)?;
                let value = self.number(&["NUMBER"])?;
                self.expect(Symbol::CloseParen)?;
                Ok(MetricExpr::Vector(value))
            }
            Function::LabelReplace => {
                self.advance();
                self.label_replace()
            }
            _ => Err(self.unexpected(&[])),
        }
    }

    fn label_replace(&mut self) -> Result<MetricExpr, ParseError> {
        self.expect(Symbol::OpenParen)?;
        let expr = self.samples()?;
        let mut texts = [const { String::new() }; 4];
        for (index, text) in texts.iter_mut().enumerate() {
            if index == 0 {
                self.expect_silently(Symbol::Comma)?;
            } else {
                self.expect(Symbol::Comma)?;
            }
            *text = self.string(&["STRING"])?;
        }
        self.expect(Symbol::CloseParen)?;
        let [destination, replacement, source, regex] = texts;
        // Anchored before it is compiled, which is what errors show.
        re2::unanchored(&format!("^(?:{regex})$")).map_err(|error| {
            ParseError::semantic(format!("invalid regex in label_replace: {}", error.message()))
        })?;
        Ok(MetricExpr::LabelReplace(Box::new(LabelReplace {
            expr,
            destination,
            replacement,
            source,
            regex,
        })))
    }

    fn grouping(&mut self) -> Result<Option<Grouping>, ParseError> {
        let without = match self.peek() {
            TokenKind::Keyword(Keyword::By) => false,
            TokenKind::Keyword(Keyword::Without) => true,
            _ => return Ok(None),
        };
        self.advance();
        Ok(Some(Grouping {
            without,
            labels: self.label_list()?,
        }))
    }

    fn vector_aggregation(&mut self, op: VectorOp) -> Result<MetricExpr, ParseError> {
        let mut grouping = self.grouping()?;
        self.expect(Symbol::OpenParen)?;
        let mut parameter = None;
        if let TokenKind::Number(text) = self.peek().clone()
            && *self.peek_second() == TokenKind::Symbol(Symbol::Comma)
        {
            self.advance();
            self.advance();
            parameter = Some(text);
        }
        let expr = self.samples()?;
        self.expect_silently(Symbol::CloseParen)?;
        if grouping.is_none() {
            grouping = self.grouping()?;
        }
        let parameter = validate::vector_parameter(op, parameter.as_deref())?;
        validate::vector_grouping(op, grouping.as_ref())?;
        // `sum by () (…)` says no more than `sum(…)`.
        let grouping = grouping.filter(|grouping| !grouping.is_single());
        Ok(MetricExpr::Aggregate(VectorAggregation {
            op,
            parameter,
            grouping,
            expr: Box::new(expr),
        }))
    }

    fn range_aggregation(&mut self, op: RangeOp) -> Result<MetricExpr, ParseError> {
        self.expect(Symbol::OpenParen)?;
        let mut parameter = None;
        if matches!(self.peek(), TokenKind::Number(_)) {
            parameter = Some(self.number(&[])?);
            self.expect(Symbol::Comma)?;
        }
        let mut parts = RangeParts::default();
        self.range_parts(&mut parts, parameter.is_some())?;
        if parts.range.is_none() || *self.peek() != TokenKind::Symbol(Symbol::CloseParen) {
            return Err(self.unexpected(match (parts.range, &parts.unwrap) {
                (Some(_), _) => &[")"],
                (None, Some(_)) => &["RANGE", "|"],
                (None, None) => &[],
            }));
        }
        self.advance();
        let grouping = self.grouping()?;
        let RangeParts {
            matchers,
            stages,
            unwrap,
            range,
            offset,
        } = parts;
        let Some(range) = range else {
            return Err(self.unexpected(&[]));
        };
        let range = LogRange {
            log: LogExpr { matchers, stages },
            unwrap,
            range,
            offset: offset.unwrap_or(0),
        };
        let aggregation = RangeAggregation {
            op,
            parameter,
            range,
            grouping,
        };
        validate::range_aggregation(&aggregation)?;
        Ok(MetricExpr::Range(aggregation))
    }

    /// `sel pipe [5m]`, `sel [5m] pipe`, either in parentheses, with `unwrap` and `offset` where Loki takes them.
    fn range_parts(&mut self, parts: &mut RangeParts, after_parameter: bool) -> Result<(), ParseError> {
        match self.peek() {
            TokenKind::Symbol(Symbol::OpenParen) => {
                self.advance();
                self.nested(|parser| parser.range_parts(parts, true))?;
                self.expect_silently(Symbol::CloseParen)?;
                if parts.range.is_none()
                    && !matches!(self.peek(), TokenKind::Range(_) | TokenKind::Invalid(_))
                {
                    return Err(self.unexpected(&["RANGE"]));
                }
            }
            TokenKind::Symbol(Symbol::OpenBrace) => {
                parts.matchers = self.selector()?;
                self.range_tail(parts)?;
                return Ok(());
            }
            _ if after_parameter => return Err(self.unexpected(&["{", "("])),
            _ => return Err(self.unexpected(&["NUMBER", "{", "("])),
        }
        self.range_and_offset(parts)
    }

    fn range_tail(&mut self, parts: &mut RangeParts) -> Result<(), ParseError> {
        self.range_and_offset(parts)?;
        self.stages(&mut parts.stages)?;
        if *self.peek() == TokenKind::Symbol(Symbol::Pipe) {
            self.advance();
            parts.unwrap = Some(self.unwrap()?);
        }
        self.range_and_offset(parts)
    }

    /// `[5m]` and `offset 1h`, each when it follows and was not there before.
    fn range_and_offset(&mut self, parts: &mut RangeParts) -> Result<(), ParseError> {
        if let TokenKind::Range(nanos) = self.peek() {
            if parts.range.is_some() {
                return Err(self.unexpected(&[")"]));
            }
            parts.range = Some(*nanos);
            self.advance();
        }
        if *self.peek() == TokenKind::Keyword(Keyword::Offset) && parts.range.is_some() {
            if parts.offset.is_some() {
                return Err(self.unexpected(&[")"]));
            }
            self.advance();
            let TokenKind::Duration(nanos) = *self.peek() else {
                return Err(self.unexpected(&["DURATION"]));
            };
            parts.offset = Some(nanos);
            self.advance();
        }
        Ok(())
    }

    /// What follows `|` and starts with `unwrap`.
    fn unwrap(&mut self) -> Result<Unwrap, ParseError> {
        self.advance();
        const EXPECTED: &[&str] = &[
            "IDENTIFIER",
            "BYTES_CONV",
            "DURATION_CONV",
            "DURATION_SECONDS_CONV",
        ];
        let conversion = match self.peek() {
            TokenKind::Function(Function::BytesConversion) => Conversion::Bytes,
            TokenKind::Function(Function::DurationConversion) => Conversion::Duration,
            TokenKind::Function(Function::DurationSecondsConversion) => Conversion::DurationSeconds,
            _ => Conversion::Number,
        };
        let label = if conversion == Conversion::Number {
            self.identifier(EXPECTED)?
        } else {
            self.advance();
            self.expect(Symbol::OpenParen)?;
            let label = self.identifier(&["IDENTIFIER"])?;
            self.expect(Symbol::CloseParen)?;
            label
        };
        let mut filters = Vec::new();
        while self.take(Symbol::Pipe) {
            filters.push(self.label_filter()?);
        }
        Ok(Unwrap {
            label,
            conversion,
            filters,
        })
    }
}

/// How tightly an operator binds.
pub(super) fn binding(op: BinaryOp) -> u8 {
    match op {
        BinaryOp::Or => 1,
        BinaryOp::And | BinaryOp::Unless => 2,
        BinaryOp::Compare(_) => 3,
        BinaryOp::Add | BinaryOp::Sub => 4,
        BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod => 5,
        BinaryOp::Pow => 6,
    }
}

/// Joins two sides, folds literals and refuses what cannot be joined.
fn combine(
    op: BinaryOp,
    return_bool: bool,
    matching: Option<Matching>,
    left: Expr,
    right: Expr,
) -> Result<MetricExpr, ParseError> {
    let left = leg(op, "left", left)?;
    let right = leg(op, "right", right)?;
    if op.is_set() {
        for (side, expr) in [("left", &left), ("right", &right)] {
            if let MetricExpr::Literal(value) = expr {
                return Err(ParseError::semantic(format!(
                    "unexpected literal for {side} leg of logical/set binary operation ({}): {value:.6}",
                    op.as_str()
                )));
            }
        }
    }
    if let (MetricExpr::Literal(a), MetricExpr::Literal(b)) = (&left, &right) {
        return Ok(MetricExpr::Literal(arithmetic::fold(op, *a, *b)));
    }
    Ok(MetricExpr::Binary(Box::new(BinaryExpr {
        op,
        return_bool,
        matching,
        left,
        right,
    })))
}

fn leg(op: BinaryOp, side: &str, expr: Expr) -> Result<MetricExpr, ParseError> {
    let kind = match expr {
        Expr::Metric(expr) => return Ok(expr),
        Expr::Log(log) if log.stages.is_empty() => "*syntax.MatchersExpr",
        Expr::Log(_) => "*syntax.PipelineExpr",
    };
    let op = op.as_str();
    Err(ParseError::semantic(format!(
        "unexpected type for {side} leg of binary operation ({op}): {kind}"
    ))
    .with_hint("binary operators join samples, not log lines"))
}

fn range_op(function: Function) -> Option<RangeOp> {
    Some(match function {
        Function::Rate => RangeOp::Rate,
        Function::RateCounter => RangeOp::RateCounter,
        Function::CountOverTime => RangeOp::CountOverTime,
        Function::BytesOverTime => RangeOp::BytesOverTime,
        Function::BytesRate => RangeOp::BytesRate,
        Function::SumOverTime => RangeOp::SumOverTime,
        Function::AvgOverTime => RangeOp::AvgOverTime,
        Function::MinOverTime => RangeOp::MinOverTime,
        Function::MaxOverTime => RangeOp::MaxOverTime,
        Function::StddevOverTime => RangeOp::StddevOverTime,
        Function::StdvarOverTime => RangeOp::StdvarOverTime,
        Function::QuantileOverTime => RangeOp::QuantileOverTime,
        Function::FirstOverTime => RangeOp::FirstOverTime,
        Function::LastOverTime => RangeOp::LastOverTime,
        Function::AbsentOverTime => RangeOp::AbsentOverTime,
        _ => return None,
    })
}

fn vector_op(function: Function) -> Option<VectorOp> {
    Some(match function {
        Function::Sum => VectorOp::Sum,
        Function::Avg => VectorOp::Avg,
        Function::Max => VectorOp::Max,
        Function::Min => VectorOp::Min,
        Function::Count => VectorOp::Count,
        Function::Stddev => VectorOp::Stddev,
        Function::Stdvar => VectorOp::Stdvar,
        Function::Topk => VectorOp::Topk,
        Function::Bottomk => VectorOp::Bottomk,
        Function::ApproxTopk => VectorOp::ApproxTopk,
        Function::Sort => VectorOp::Sort,
        Function::SortDesc => VectorOp::SortDesc,
        _ => return None,
    })
}
