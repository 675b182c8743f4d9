//! Pipeline stages.

use super::ast::{
    CompareOp, Extraction, LabelChoice, LabelFilter, LabelFormat, LabelFormatValue, LineFilterExpr,
    LineFilterOp, LineFilterValue, Stage,
};
use super::parser::Parser;
use super::token::{Function, Keyword, Symbol, TokenKind};
use crate::error::ParseError;
use crate::{MatchOp, Matcher, pipeline, units};

/// Terms of one label filter; they nest, and the tree is walked recursively.
const MAX_FILTER_TERMS: usize = 1_000;

impl Parser {
    /// Stages up to what is none. `unwrap` is left to the caller.
    pub(super) fn stages(&mut self, stages: &mut Vec<Stage>) -> Result<(), ParseError> {
        loop {
            if let Some(op) = self.line_filter_op() {
                self.advance();
                self.line_filter(op, stages)?;
            } else if *self.peek() == TokenKind::Symbol(Symbol::Pipe)
                && *self.peek_second() != TokenKind::Keyword(Keyword::Unwrap)
            {
                self.advance();
                stages.push(self.stage()?);
            } else {
                return Ok(());
            }
        }
    }

    fn line_filter_op(&self) -> Option<LineFilterOp> {
        Some(match self.peek() {
            TokenKind::Symbol(Symbol::PipeContains) => LineFilterOp::Contains,
            TokenKind::Symbol(Symbol::NotEqual) => LineFilterOp::NotContains,
            TokenKind::Symbol(Symbol::PipeRegex) => LineFilterOp::Regex,
            TokenKind::Symbol(Symbol::NotRegexMatch) => LineFilterOp::NotRegex,
            TokenKind::Symbol(Symbol::PipePattern) => LineFilterOp::Pattern,
            TokenKind::Symbol(Symbol::NotPattern) => LineFilterOp::NotPattern,
            _ => return None,
        })
    }

    /// A filter with its `or` chain. None of a negative chain may match, which is one filter for each value.
    fn line_filter(&mut self, op: LineFilterOp, stages: &mut Vec<Stage>) -> Result<(), ParseError> {
        let mut values = vec![self.line_filter_value()?];
        while self.take_keyword(Keyword::Or) {
            values.push(self.line_filter_value()?);
        }
        let mut add = |values| stages.push(Stage::LineFilter(LineFilterExpr { op, values }));
        if op.is_negative() {
            values.into_iter().for_each(|value| add(vec![value]));
        } else {
            add(values);
        }
        Ok(())
    }

    fn line_filter_value(&mut self) -> Result<LineFilterValue, ParseError> {
        if *self.peek() == TokenKind::Function(Function::Ip) {
            return Ok(LineFilterValue::Ip(self.ip_call()?));
        }
        Ok(LineFilterValue::Text(self.string(&["STRING", "ip"])?))
    }

    fn ip_call(&mut self) -> Result<String, ParseError> {
        self.advance();
        self.expect(Symbol::OpenParen)?;
        let pattern = self.string(&["STRING"])?;
        self.expect(Symbol::CloseParen)?;
        Ok(pattern)
    }

    /// What follows `|`.
    fn stage(&mut self) -> Result<Stage, ParseError> {
        let keyword = match self.peek() {
            TokenKind::Keyword(keyword) => *keyword,
            TokenKind::Identifier(_) | TokenKind::Symbol(Symbol::OpenParen) => {
                return Ok(Stage::LabelFilter(self.label_filter()?));
            }
            _ => return Err(self.unexpected(&[])),
        };
        let stage: fn(&mut Self) -> Result<Stage, ParseError> = match keyword {
            Keyword::Json => |parser| Ok(Stage::Json(parser.extractions(false)?)),
            Keyword::Logfmt => Self::logfmt,
            Keyword::Regexp => Self::regexp,
            Keyword::Pattern => Self::pattern,
            Keyword::Unpack => |_| Ok(Stage::Unpack),
            Keyword::LineFormat => |parser| Ok(Stage::LineFormat(parser.string(&["STRING"])?)),
            Keyword::LabelFormat => Self::label_format,
            Keyword::Decolorize => |_| Ok(Stage::Decolorize),
            Keyword::Drop => |parser| Ok(Stage::Drop(parser.label_choices()?)),
            Keyword::Keep => |parser| Ok(Stage::Keep(parser.label_choices()?)),
            _ => return Err(self.unexpected(&[])),
        };
        self.advance();
        stage(self)
    }

    fn regexp(&mut self) -> Result<Stage, ParseError> {
        let pattern = self.string(&["STRING"])?;
        pipeline::check_regexp_stage(&pattern)
            .map_err(|cause| ParseError::semantic(format!("invalid regexp parser: {cause}")))?;
        Ok(Stage::Regexp(pattern))
    }

    fn pattern(&mut self) -> Result<Stage, ParseError> {
        let pattern = self.string(&["STRING"])?;
        pipeline::check_pattern_stage(&pattern)
            .map_err(|cause| ParseError::semantic(format!("invalid pattern parser: {cause}")))?;
        Ok(Stage::Pattern(pattern))
    }

    fn logfmt(&mut self) -> Result<Stage, ParseError> {
        let (mut strict, mut keep_empty) = (false, false);
        while let TokenKind::Flag(flag) = self.peek() {
            strict |= flag == "strict";
            keep_empty |= flag == "keep-empty";
            self.advance();
        }
        Ok(Stage::Logfmt {
            strict,
            keep_empty,
            params: self.extractions(strict || keep_empty)?,
        })
    }

    /// `a="x", b`; nothing at all when no name follows.
    fn extractions(&mut self, _after_flags: bool) -> Result<Vec<Extraction>, ParseError> {
        let mut list = Vec::new();
        if !matches!(self.peek(), TokenKind::Identifier(_)) {
            return Ok(list);
        }
        loop {
            let name = self.identifier(&["IDENTIFIER"])?;
            let expression = if self.take(Symbol::Equal) {
                self.string(&["STRING"])?
            } else {
                name.clone()
            };
            list.push(Extraction { name, expression });
            if !self.take(Symbol::Comma) {
                return Ok(list);
            }
        }
    }

    fn label_format(&mut self) -> Result<Stage, ParseError> {
        let mut formats = Vec::new();
        loop {
            let name = self.identifier(&["IDENTIFIER"])?;
            self.expect(Symbol::Equal)?;
            let value = match self.peek() {
                TokenKind::String(_) => LabelFormatValue::Template(self.string(&[])?),
                _ => LabelFormatValue::Rename(self.identifier(&["IDENTIFIER", "STRING"])?),
            };
            formats.push(LabelFormat { name, value });
            if !self.take(Symbol::Comma) {
                return Ok(Stage::LabelFormat(formats));
            }
        }
    }

    /// `a, b="x", c=~"y"`
    fn label_choices(&mut self) -> Result<Vec<LabelChoice>, ParseError> {
        let mut choices = Vec::new();
        loop {
            let name = self.identifier(&["IDENTIFIER"])?;
            choices.push(match self.peek_match_op() {
                Some(op) => {
                    self.advance();
                    let value = self.string(&["STRING"])?;
                    LabelChoice::Matching(Matcher::new(&name, op, &value)?)
                }
                None => LabelChoice::Name(name),
            });
            if !self.take(Symbol::Comma) {
                return Ok(choices);
            }
        }
    }

    /// A match operator; `!=` and `!~` may also start a line filter, but never between a name and a string.
    fn peek_match_op(&self) -> Option<MatchOp> {
        Some(match self.peek() {
            TokenKind::Symbol(Symbol::Equal) => MatchOp::Equal,
            TokenKind::Symbol(Symbol::NotEqual) => MatchOp::NotEqual,
            TokenKind::Symbol(Symbol::RegexMatch) => MatchOp::Regex,
            TokenKind::Symbol(Symbol::NotRegexMatch) => MatchOp::NotRegex,
            _ => return None,
        })
    }

    /// A whole label filter.
    pub(super) fn label_filter(&mut self) -> Result<LabelFilter, ParseError> {
        let mut terms = 0;
        self.label_filter_at(0, &mut terms)
    }

    /// Precedence climbing: `or` 1, `and` 2; a comma or nothing at all takes everything that follows to its right.
    fn label_filter_at(&mut self, level: u8, terms: &mut usize) -> Result<LabelFilter, ParseError> {
        let mut left = self.label_filter_term(terms)?;
        loop {
            left = match self.peek() {
                TokenKind::Keyword(Keyword::Or) if level < 1 => {
                    self.advance();
                    let right = self.nested(|parser| parser.label_filter_at(1, terms))?;
                    LabelFilter::Or(Box::new(left), Box::new(right))
                }
                TokenKind::Keyword(Keyword::And) if level < 2 => {
                    self.advance();
                    let right = self.nested(|parser| parser.label_filter_at(2, terms))?;
                    LabelFilter::And(Box::new(left), Box::new(right))
                }
                TokenKind::Symbol(Symbol::Comma) => {
                    self.advance();
                    let right = self.nested(|parser| parser.label_filter_at(0, terms))?;
                    LabelFilter::And(Box::new(left), Box::new(right))
                }
                TokenKind::Identifier(_) | TokenKind::Symbol(Symbol::OpenParen) => {
                    let right = self.nested(|parser| parser.label_filter_at(0, terms))?;
                    LabelFilter::And(Box::new(left), Box::new(right))
                }
                _ => return Ok(left),
            };
        }
    }

    fn label_filter_term(&mut self, terms: &mut usize) -> Result<LabelFilter, ParseError> {
        if self.take(Symbol::OpenParen) {
            let inner = self.nested(|parser| parser.label_filter_at(0, terms))?;
            self.expect_silently(Symbol::CloseParen)?;
            return Ok(inner);
        }
        *terms += 1;
        if *terms > MAX_FILTER_TERMS {
            return Err(ParseError::semantic(format!(
                "a label filter has more than {MAX_FILTER_TERMS} terms"
            ))
            .with_hint("use a regular expression: rank=~\"0|1|2\""));
        }
        let name = self.identifier(&["IDENTIFIER", "("])?;
        let symbol = match self.peek() {
            TokenKind::Symbol(symbol) => *symbol,
            _ => return Err(self.unexpected(&[])),
        };
        let op = match symbol {
            Symbol::RegexMatch | Symbol::NotRegexMatch => {
                let op = self.match_op().ok_or_else(|| self.unexpected(&[]))?;
                return Ok(LabelFilter::Text(Matcher::new(
                    &name,
                    op,
                    &self.string(&["STRING"])?,
                )?));
            }
            Symbol::Equal | Symbol::DoubleEqual => CompareOp::Equal,
            Symbol::NotEqual => CompareOp::NotEqual,
            Symbol::Greater => CompareOp::Greater,
            Symbol::GreaterOrEqual => CompareOp::GreaterOrEqual,
            Symbol::Less => CompareOp::Less,
            Symbol::LessOrEqual => CompareOp::LessOrEqual,
            _ => return Err(self.unexpected(&[])),
        };
        self.advance();
        self.comparison(name, symbol, op)
    }

    /// What stands behind a label's comparison operator.
    fn comparison(&mut self, name: String, symbol: Symbol, op: CompareOp) -> Result<LabelFilter, ParseError> {
        let text_op = match symbol {
            Symbol::Equal => Some(MatchOp::Equal),
            Symbol::NotEqual => Some(MatchOp::NotEqual),
            _ => None,
        };
        let filter = match (self.peek().clone(), text_op) {
            (TokenKind::String(value), Some(op)) => LabelFilter::Text(Matcher::new(&name, op, &value)?),
            (TokenKind::Function(Function::Ip), Some(op)) => {
                let pattern = self.ip_call()?;
                return Ok(LabelFilter::Ip {
                    name,
                    equal: op == MatchOp::Equal,
                    pattern,
                });
            }
            (TokenKind::Duration(nanos), _) => LabelFilter::Duration { name, op, nanos },
            (TokenKind::Bytes(bytes, written), _) => LabelFilter::Bytes {
                name,
                op,
                bytes,
                text: bytes_literal(bytes, written),
            },
            (TokenKind::Number(_) | TokenKind::Symbol(Symbol::Plus | Symbol::Minus), _) => {
                let value = self.signed_number()?;
                return Ok(LabelFilter::Number { name, op, value });
            }
            _ => return Err(self.unexpected(&[])),
        };
        self.advance();
        Ok(filter)
    }

    /// `5`, `+5`, `-5`
    pub(super) fn signed_number(&mut self) -> Result<f64, ParseError> {
        let negative = self.take(Symbol::Minus);
        if !negative {
            self.take(Symbol::Plus);
        }
        let value = self.number(&["NUMBER"])?;
        Ok(if negative { -value } else { value })
    }

    /// A number without sign.
    pub(super) fn number(&mut self, expected: &[&str]) -> Result<f64, ParseError> {
        let TokenKind::Number(text) = self.peek().clone() else {
            return Err(self.unexpected(expected));
        };
        let value = units::parse_go_float(&text)
            .map_err(|cause| ParseError::semantic(format!("unable to parse literal as a float: {cause}")))?;
        self.advance();
        Ok(value)
    }
}

/// How a number of bytes is printed: Loki rounds to two digits. That is kept where it says the same number.
fn bytes_literal(bytes: u64, written: String) -> String {
    let rounded = units::humanize_bytes(bytes).replace(' ', "");
    match units::parse_bytes(&rounded) == Ok(bytes) {
        true => rounded,
        false => written,
    }
}
