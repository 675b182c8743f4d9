//! Text to tokens. Errors become [`TokenKind::Invalid`] tokens, so that the parser reports whatever comes first.

use super::token::{Function, Keyword, Symbol, Token, TokenKind};
use crate::text::{UnquoteError, unquote_escapes};
use crate::units;

/// Splits a query into tokens; the last one is `End` or `Invalid`.
pub(super) fn tokenize(input: &str) -> Vec<Token> {
    let mut lexer = Lexer {
        input,
        offset: 0,
        line: 1,
        column: 1,
    };
    let mut tokens = Vec::new();
    loop {
        let token = lexer.next_token();
        let last = matches!(token.kind, TokenKind::End | TokenKind::Invalid(_));
        tokens.push(token);
        if last {
            return tokens;
        }
    }
}

#[derive(Clone)]
struct Lexer<'a> {
    input: &'a str,
    offset: usize,
    line: u32,
    column: u32,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.input.get(self.offset..).unwrap_or("")
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn peek_second(&self) -> Option<char> {
        self.rest().chars().nth(1)
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.offset += c.len_utf8();
        if c == '\n' {
            self.line += 1;
            self.column = 1;
        } else {
            self.column += 1;
        }
        Some(c)
    }

    fn bump_bytes(&mut self, bytes: usize) {
        let end = self.offset + bytes;
        while self.offset < end && self.bump().is_some() {}
    }

    fn take_while(&mut self, mut keep: impl FnMut(char) -> bool) -> &'a str {
        let start = self.offset;
        while self.peek().is_some_and(&mut keep) {
            self.bump();
        }
        self.input.get(start..self.offset).unwrap_or("")
    }

    /// Skips blanks and the three kinds of comments; an unclosed `/*` is an error.
    fn skip_blank(&mut self) -> Result<(), &'static str> {
        loop {
            self.take_while(|c| matches!(c, ' ' | '\t' | '\n' | '\r'));
            let rest = self.rest();
            if rest.starts_with('#') || rest.starts_with("//") {
                self.take_while(|c| c != '\n');
            } else if rest.starts_with("/*") {
                let close = rest
                    .get(2..)
                    .and_then(|body| body.find("*/"))
                    .ok_or("comment not terminated")?;
                self.bump_bytes(close + 4);
            } else {
                return Ok(());
            }
        }
    }

    fn next_token(&mut self) -> Token {
        let blank = self.skip_blank();
        let (line, column) = (self.line, self.column);
        let token = |kind, line| Token { kind, line, column };
        if let Err(message) = blank {
            return token(TokenKind::Invalid(message.to_owned()), line);
        }
        let Some(c) = self.peek() else {
            return token(TokenKind::End, line);
        };
        match c {
            '\0' => token(TokenKind::Invalid("invalid character NUL".to_owned()), line),
            '"' => token(self.quoted_string(), line),
            '`' => token(self.raw_string(), line),
            '[' => token(self.range(), 0),
            '0'..='9' => self.number(line, column),
            '.' if self.peek_second().is_some_and(|c| c.is_ascii_digit()) => self.number(line, column),
            '-' => self.minus(line, column),
            c if c == '_' || c.is_alphabetic() => token(self.word(), line),
            _ => self.symbol(line, column),
        }
    }

    fn quoted_string(&mut self) -> TokenKind {
        self.bump();
        let start = self.offset;
        let mut escaped = false;
        while let Some(c) = self.peek() {
            match c {
                '\n' => break,
                '"' if !escaped => {
                    let body = self.input.get(start..self.offset).unwrap_or("");
                    self.bump();
                    return match unquote_escapes(body) {
                        Ok(text) => TokenKind::String(text),
                        Err(UnquoteError::Syntax) => TokenKind::Invalid("invalid char escape".to_owned()),
                        Err(UnquoteError::Utf8) => TokenKind::Invalid("invalid UTF-8 rune".to_owned()),
                    };
                }
                _ => escaped = c == '\\' && !escaped,
            }
            self.bump();
        }
        TokenKind::Invalid("literal not terminated".to_owned())
    }

    fn raw_string(&mut self) -> TokenKind {
        self.bump();
        let text = self.take_while(|c| c != '`');
        match self.bump() {
            Some(_) => TokenKind::String(text.replace('\r', "")),
            None => TokenKind::Invalid("literal not terminated".to_owned()),
        }
    }

    fn range(&mut self) -> TokenKind {
        self.bump();
        let text = self.take_while(|c| c != ']');
        if self.bump().is_none() {
            return TokenKind::Invalid("missing closing ']' in duration".to_owned());
        }
        match units::parse_prometheus_duration(text) {
            Ok(nanos) => TokenKind::Range(nanos),
            Err(message) => TokenKind::Invalid(message),
        }
    }

    /// A number with an optional unit that makes it a duration or a size.
    fn number(&mut self, line: u32, column: u32) -> Token {
        let start = self.offset;
        self.take_number();
        let text = self.input.get(start..self.offset).unwrap_or("").to_owned();
        let is_decimal = !text.starts_with("0x") && !text.starts_with("0X");
        if is_decimal && text.ends_with(['e', 'E', '+', '-']) {
            let kind = TokenKind::Invalid("exponent has no digits".to_owned());
            return Token { kind, line, column };
        }
        if let Some(kind) = self.duration_after(&text).or_else(|| self.bytes_after(&text)) {
            return Token {
                kind,
                line: 0,
                column,
            };
        }
        Token {
            kind: TokenKind::Number(text),
            line,
            column,
        }
    }

    /// Go's number syntax, roughly: what is not a float is refused where the value is read.
    fn take_number(&mut self) {
        let digits = |c: char| c.is_ascii_digit() || c == '_';
        let rest = self.rest();
        if rest.starts_with("0x") || rest.starts_with("0X") {
            self.bump_bytes(2);
            self.take_while(|c| c.is_ascii_hexdigit() || c == '_' || c == '.');
            return;
        }
        self.take_while(digits);
        if self.peek() == Some('.') {
            self.bump();
            self.take_while(digits);
        }
        if matches!(self.peek(), Some('e' | 'E')) {
            let mut ahead = self.clone();
            ahead.bump();
            if matches!(ahead.peek(), Some('+' | '-')) {
                ahead.bump();
            }
            *self = ahead;
            self.take_while(digits);
        }
    }

    fn duration_after(&mut self, number: &str) -> Option<TokenKind> {
        let mut ahead = self.clone();
        let unit = ahead.take_while(|c| {
            c.is_numeric() || matches!(c, 'n' | 'u' | 'µ' | 'μ' | 'm' | 's' | 'h' | 'd' | 'w' | 'y' | '.')
        });
        if unit.is_empty() {
            return None;
        }
        let text = format!("{number}{unit}");
        let nanos = units::parse_prometheus_duration(&text)
            .or_else(|_| units::parse_go_duration(&text))
            .ok()?;
        *self = ahead;
        Some(TokenKind::Duration(nanos))
    }

    fn bytes_after(&mut self, number: &str) -> Option<TokenKind> {
        let mut ahead = self.clone();
        let unit = ahead.take_while(|c| {
            c.is_numeric() || matches!(c, 'B' | 'i' | 'k' | 'K' | 'M' | 'G' | 'T' | 'P' | '.')
        });
        if unit.is_empty() {
            return None;
        }
        let text = format!("{number}{unit}");
        let bytes = units::parse_bytes(&text).ok()?;
        *self = ahead;
        Some(TokenKind::Bytes(bytes, text))
    }

    /// `-`, `--flag` or a negative duration.
    fn minus(&mut self, line: u32, column: u32) -> Token {
        if self.peek_second().is_some_and(|c| c.is_ascii_digit()) {
            let mut ahead = self.clone();
            ahead.bump();
            if let Some(kind) = ahead.duration_after("-") {
                *self = ahead;
                return Token {
                    kind,
                    line: 0,
                    column,
                };
            }
        }
        let rest = self.rest();
        for flag in ["strict", "keep-empty"] {
            let found = rest.strip_prefix("--").and_then(|text| text.strip_prefix(flag));
            if found.is_some_and(|after| !after.starts_with(|c: char| c == '_' || c.is_alphanumeric())) {
                self.bump_bytes(2 + flag.len());
                return Token {
                    kind: TokenKind::Flag(flag.to_owned()),
                    line: 0,
                    column,
                };
            }
        }
        self.bump();
        Token {
            kind: TokenKind::Symbol(Symbol::Minus),
            line,
            column,
        }
    }

    fn word(&mut self) -> TokenKind {
        let text = self.take_while(|c| c == '_' || c.is_alphanumeric());
        let lower = text.to_lowercase();
        if let Some(keyword) = Keyword::from_text(&lower) {
            return TokenKind::Keyword(keyword);
        }
        match Function::from_text(&lower) {
            Some(function) if self.is_called() => TokenKind::Function(function),
            _ => TokenKind::Identifier(text.to_owned()),
        }
    }

    /// Whether `(`, `by (` or `without (` follows.
    fn is_called(&self) -> bool {
        let trimmed = self.rest().trim_start();
        if trimmed.starts_with('(') {
            return true;
        }
        ["by", "without"].iter().any(|word| {
            let head = trimmed.get(..word.len());
            let tail = trimmed.get(word.len()..);
            head.is_some_and(|head| head.eq_ignore_ascii_case(word))
                && tail.is_some_and(|tail| tail.trim_start().starts_with('('))
        })
    }

    fn symbol(&mut self, line: u32, column: u32) -> Token {
        let rest = self.rest();
        if let Some(symbol) = rest.get(..2).and_then(Symbol::from_text) {
            self.bump_bytes(2);
            return Token {
                kind: TokenKind::Symbol(symbol),
                line: 0,
                column,
            };
        }
        let c = self.bump().unwrap_or_default();
        let kind = match Symbol::from_text(c.encode_utf8(&mut [0; 4])) {
            Some(symbol) => TokenKind::Symbol(symbol),
            None => TokenKind::Identifier(c.to_string()),
        };
        Token { kind, line, column }
    }
}
