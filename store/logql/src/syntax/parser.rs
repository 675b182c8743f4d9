//! The parser's cursor, its entry points and stream selectors.

use super::ast::{Expr, LogExpr};
use super::lexer::tokenize;
use super::token::{Keyword, Symbol, Token, TokenKind};
use super::validate;
use crate::error::ParseError;
use crate::{MatchOp, Matcher};

/// Queries of this many bytes or more are refused.
const MAX_QUERY_BYTES: usize = 131_072;

/// How deep parentheses and function calls may nest: every walk over the tree is recursive.
const MAX_DEPTH: usize = 64;

/// Binary operators in one query, for the same reason.
const MAX_OPERATORS: usize = 256;

/// Parses a query.
///
/// # Errors
/// [`ParseError`] with Loki's text: syntax, an aggregation that does not fit its range, a selector without a matcher
/// that excludes the empty string, or 131,072 bytes and more.
pub fn parse(query: &str) -> Result<Expr, ParseError> {
    let expr = parse_unchecked(query)?;
    validate::selectors(&expr)?;
    Ok(expr)
}

/// Parses a stream selector `{…}` and refuses anything more.
///
/// # Errors
/// `only label matchers are supported` for any other query, else as [`parse`].
pub fn parse_selector(query: &str) -> Result<Vec<Matcher>, ParseError> {
    match parse_unchecked(query)? {
        Expr::Log(LogExpr { matchers, stages }) if stages.is_empty() => Ok(matchers),
        _ => Err(ParseError::bare("only label matchers are supported")),
    }
}

/// The query as Loki's `format_query` prints it: short ones on one line, longer ones indented.
///
/// # Errors
/// As [`parse`], but functions over bare numbers pass.
pub fn format_query(query: &str) -> Result<String, ParseError> {
    let expr = parse_unchecked(query)?;
    validate::printable(&expr)?;
    Ok(super::pretty::pretty(&expr))
}

/// As [`parse`], but selectors may match every stream: a delete may be for all of them.
///
/// # Errors
/// As [`parse`], except for what its selectors match.
pub fn parse_unchecked(query: &str) -> Result<Expr, ParseError> {
    if query.len() >= MAX_QUERY_BYTES {
        return Err(ParseError::semantic(format!(
            "input size too long ({} > {MAX_QUERY_BYTES})",
            query.len()
        )));
    }
    if query.is_empty() {
        return Err(ParseError::semantic("syntax error: unexpected $end")
            .with_hint("a query starts with a stream selector such as {app=\"web\"}"));
    }
    let mut parser = Parser {
        tokens: tokenize(query),
        next: 0,
        depth: 0,
        operators: 0,
    };
    let expr = parser.expression()?;
    match parser.peek() {
        TokenKind::End => Ok(expr),
        _ => Err(parser.unexpected(&[])),
    }
}

/// Whether `name` may be a label's name.
pub(crate) fn is_label_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b == b'_' || b.is_ascii_alphabetic())
        && bytes.all(|b| b == b'_' || b.is_ascii_alphanumeric())
}

/// Reads tokens from left to right; never looks further than one ahead, except for `NUMBER ,`.
pub(super) struct Parser {
    tokens: Vec<Token>,
    next: usize,
    depth: usize,
    operators: usize,
}

const END: Token = Token {
    kind: TokenKind::End,
    line: 0,
    column: 0,
};

impl Parser {
    fn token(&self) -> &Token {
        // The list ends with `End` or `Invalid`, which `advance` never leaves.
        self.tokens.get(self.next).unwrap_or(&END)
    }

    pub(super) fn peek(&self) -> &TokenKind {
        &self.token().kind
    }

    pub(super) fn peek_second(&self) -> &TokenKind {
        self.tokens
            .get(self.next + 1)
            .map_or(&END.kind, |token| &token.kind)
    }

    pub(super) fn advance(&mut self) -> TokenKind {
        let kind = self.token().kind.clone();
        if self.next + 1 < self.tokens.len() {
            self.next += 1;
        }
        kind
    }

    /// The error for the token at hand.
    pub(super) fn unexpected(&self, expected: &[&str]) -> ParseError {
        let token = self.token();
        if let TokenKind::Invalid(message) = &token.kind {
            return ParseError::at(token.line, token.column, message.as_str());
        }
        let mut text = format!("syntax error: unexpected {}", token.kind);
        for (index, name) in expected.iter().enumerate() {
            text.push_str(if index == 0 { ", expecting " } else { " or " });
            text.push_str(name);
        }
        let error = ParseError::at(token.line, token.column, text);
        match self.hint(expected) {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }

    /// What the writer most likely meant.
    fn hint(&self, expected: &[&str]) -> Option<String> {
        let previous = self
            .next
            .checked_sub(1)
            .and_then(|index| self.tokens.get(index))
            .map(|t| &t.kind);
        Some(match (self.peek(), previous) {
            (TokenKind::Identifier(text), _) if text == "'" => {
                "strings are written in double quotes or backquotes".to_owned()
            }
            (TokenKind::Symbol(Symbol::DoubleEqual), _) if expected.contains(&"=~") => {
                "stream selectors compare with a single =".to_owned()
            }
            (TokenKind::Symbol(Symbol::Minus), Some(TokenKind::Identifier(name)))
                if expected.contains(&"=~") =>
            {
                format!("label names consist of letters, digits and _; {name}-… is none")
            }
            (TokenKind::Range(_), _) => {
                "a range such as [5m] belongs inside a function: rate({…} [5m])".to_owned()
            }
            (TokenKind::Keyword(Keyword::Unwrap), _) => {
                "unwrap belongs inside a range aggregation: sum_over_time({…} | unwrap x [5m])".to_owned()
            }
            (TokenKind::Symbol(Symbol::CloseParen), _) if expected.is_empty() => {
                "aggregations need samples: count_over_time({…} [5m]) instead of {…}".to_owned()
            }
            (TokenKind::Identifier(name), None) => format!("there is no function {name}"),
            (TokenKind::End, _) if expected == [")"] => "a parenthesis is not closed".to_owned(),
            _ => return None,
        })
    }

    pub(super) fn take(&mut self, symbol: Symbol) -> bool {
        let found = *self.peek() == TokenKind::Symbol(symbol);
        if found {
            self.advance();
        }
        found
    }

    pub(super) fn take_keyword(&mut self, keyword: Keyword) -> bool {
        let found = *self.peek() == TokenKind::Keyword(keyword);
        if found {
            self.advance();
        }
        found
    }

    pub(super) fn expect(&mut self, symbol: Symbol) -> Result<(), ParseError> {
        if self.take(symbol) {
            Ok(())
        } else {
            Err(self.unexpected(&[symbol.as_str()]))
        }
    }

    /// As [`Parser::expect`], where the grammar has other ways to go on, which the message leaves out.
    pub(super) fn expect_silently(&mut self, symbol: Symbol) -> Result<(), ParseError> {
        if self.take(symbol) {
            Ok(())
        } else {
            Err(self.unexpected(&[]))
        }
    }

    pub(super) fn identifier(&mut self, expected: &[&str]) -> Result<String, ParseError> {
        match self.peek() {
            TokenKind::Identifier(name) if is_label_name(name) => {
                let name = name.clone();
                self.advance();
                Ok(name)
            }
            TokenKind::Identifier(name) if name.chars().all(|c| c == '_' || c.is_alphanumeric()) => {
                let token = self.token();
                Err(
                    ParseError::at(token.line, token.column, format!("invalid label name {name}"))
                        .with_hint("label names consist of ASCII letters, digits and _"),
                )
            }
            _ => Err(self.unexpected(expected)),
        }
    }

    pub(super) fn string(&mut self, expected: &[&str]) -> Result<String, ParseError> {
        match self.peek() {
            TokenKind::String(text) => {
                let text = text.clone();
                self.advance();
                Ok(text)
            }
            _ => Err(self.unexpected(expected)),
        }
    }

    /// Runs `body` one level deeper; too deep is an error instead of a stack overflow.
    pub(super) fn nested<T>(
        &mut self,
        body: impl FnOnce(&mut Self) -> Result<T, ParseError>,
    ) -> Result<T, ParseError> {
        if self.depth >= MAX_DEPTH {
            return Err(Self::too_deep());
        }
        self.depth += 1;
        let result = body(self);
        self.depth -= 1;
        result
    }

    /// Counts a binary operator.
    pub(super) fn count_operator(&mut self) -> Result<(), ParseError> {
        self.operators += 1;
        if self.operators > MAX_OPERATORS {
            return Err(ParseError::semantic(format!(
                "the query has more than {MAX_OPERATORS} binary operators"
            )));
        }
        Ok(())
    }

    fn too_deep() -> ParseError {
        ParseError::semantic(format!("the query nests deeper than {MAX_DEPTH} levels"))
    }

    /// `{a="b", c!~"d"}`
    pub(super) fn selector(&mut self) -> Result<Vec<Matcher>, ParseError> {
        self.expect(Symbol::OpenBrace)?;
        let mut matchers = Vec::new();
        if self.take(Symbol::CloseBrace) {
            return Ok(matchers);
        }
        let mut expected: &[&str] = &["IDENTIFIER", "}"];
        loop {
            let name = self.identifier(expected)?;
            let op = self
                .match_op()
                .ok_or_else(|| self.unexpected(&["=", "=~", "!~", "!="]))?;
            let value = self.string(&["STRING"])?;
            matchers.push(Matcher::new(&name, op, &value)?);
            if self.take(Symbol::CloseBrace) {
                return Ok(matchers);
            }
            if !self.take(Symbol::Comma) {
                return Err(self.unexpected(&["}", ","]));
            }
            expected = &["IDENTIFIER"];
        }
    }

    /// Takes `= != =~ !~`.
    pub(super) fn match_op(&mut self) -> Option<MatchOp> {
        let op = match self.peek() {
            TokenKind::Symbol(Symbol::Equal) => MatchOp::Equal,
            TokenKind::Symbol(Symbol::NotEqual) => MatchOp::NotEqual,
            TokenKind::Symbol(Symbol::RegexMatch) => MatchOp::Regex,
            TokenKind::Symbol(Symbol::NotRegexMatch) => MatchOp::NotRegex,
            _ => return None,
        };
        self.advance();
        Some(op)
    }

    /// `(a, b)`, possibly empty.
    pub(super) fn label_list(&mut self) -> Result<Vec<String>, ParseError> {
        self.expect(Symbol::OpenParen)?;
        let mut labels = Vec::new();
        if self.take(Symbol::CloseParen) {
            return Ok(labels);
        }
        let mut expected: &[&str] = &["IDENTIFIER", ")"];
        loop {
            labels.push(self.identifier(expected)?);
            if self.take(Symbol::CloseParen) {
                return Ok(labels);
            }
            if !self.take(Symbol::Comma) {
                return Err(self.unexpected(&[",", ")"]));
            }
            expected = &["IDENTIFIER"];
        }
    }
}
