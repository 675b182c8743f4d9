//! The values of commands: fields, variables, functions, parentheses and constants.

use super::Parser;
use crate::template::funcs;
use crate::template::tree::{Base, Number, Operand};
use crate::text::{quote_go, unquote_escapes};

impl<'a> Parser<'a> {
    /// An operand is followed by a blank, a pipe or the end of the command.
    pub(super) fn check_operand_end(&self) -> Result<(), String> {
        let rest = self.rest();
        let ends =
            rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n', '|', ')']) || rest.starts_with("}}");
        if ends {
            return Ok(());
        }
        let found: String = rest.chars().take(1).collect();
        Err(self.error(format!("unexpected {} in operand", quote_go(&found))))
    }

    pub(super) fn operand(&mut self) -> Result<Option<Operand>, String> {
        let mut at = self.at;
        let Some((base, mut text)) = self.base()? else {
            return Ok(None);
        };
        let mut fields = Vec::new();
        if matches!(base, Base::Dot) && text != "." {
            fields.push(text.get(1..).unwrap_or("").to_owned());
        }
        let mut chained = false;
        while self.rest().starts_with('.') {
            let body = self.rest().get(1..).unwrap_or("");
            let length = body
                .find(|c: char| !(c == '_' || c.is_alphanumeric()))
                .unwrap_or(body.len());
            if length == 0 {
                return Err(self.error("unexpected <.> in operand"));
            }
            if !chained {
                at = if matches!(base, Base::Variable(_)) {
                    at
                } else {
                    self.at
                };
                chained = true;
            }
            let field = body.get(..length).unwrap_or("");
            text.push('.');
            text.push_str(field);
            fields.push(field.to_owned());
            self.at += length + 1;
        }
        if chained && matches!(base, Base::Nil | Base::Bool(_) | Base::Number(_) | Base::Str(_)) {
            return Err(self.error(format!("unexpected . after term {}", quote_go(&text))));
        }
        Ok(Some(Operand {
            base,
            fields,
            at,
            text,
        }))
    }

    /// The base and its text. A leading field comes as `Dot` with its text.
    fn base(&mut self) -> Result<Option<(Base, String)>, String> {
        let start = self.at;
        let Some(c) = self.rest().chars().next() else {
            return Ok(None);
        };
        if c == '.'
            && !self
                .rest()
                .get(1..)
                .unwrap_or("")
                .starts_with(|c: char| c.is_ascii_digit())
        {
            self.at += 1;
            let name = self.peek_word();
            self.at += name.len();
            return Ok(Some((Base::Dot, format!(".{name}"))));
        }
        if c == '$' {
            self.at += 1;
            let word = self.peek_word();
            self.at += word.len();
            let name = format!("${word}");
            if !self.variables.contains(&name) {
                return Err(self.error(format!("undefined variable {}", quote_go(&name))));
            }
            return Ok(Some((Base::Variable(name.clone()), name)));
        }
        if c == '(' {
            self.at += 1;
            let pipe = self.nested(|parser| parser.pipe_until("parenthesized pipeline", true))?;
            self.skip_blank();
            if !self.rest().starts_with(')') {
                return Err(self.error("unclosed left paren"));
            }
            self.at += 1;
            let text = format!("({})", pipe.text);
            return Ok(Some((Base::Pipe(Box::new(pipe)), text)));
        }
        if let Some(value) = self.string_literal()? {
            let text = self.text.get(start..self.at).unwrap_or("").to_owned();
            return Ok(Some((Base::Str(value), text)));
        }
        if c == '_' || c.is_alphabetic() {
            let word = self.peek_word();
            self.at += word.len();
            let base = match word {
                "true" => Base::Bool(true),
                "false" => Base::Bool(false),
                "nil" => Base::Nil,
                word if funcs::exists(word) => Base::Function(word.to_owned()),
                word => return Err(self.error(format!("function {} not defined", quote_go(word)))),
            };
            return Ok(Some((base, word.to_owned())));
        }
        if c == '\'' {
            return self.character();
        }
        self.number()
    }

    fn number(&mut self) -> Result<Option<(Base, String)>, String> {
        let rest = self.rest();
        let unsigned = rest.strip_prefix(['+', '-']).unwrap_or(rest);
        if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            return Ok(None);
        }
        let sign = rest.len() - unsigned.len();
        let mut previous = ' ';
        let length = unsigned
            .find(|c: char| {
                let part = c.is_ascii_alphanumeric()
                    || c == '.'
                    || c == '_'
                    || (matches!(c, '+' | '-') && matches!(previous, 'e' | 'E' | 'p' | 'P'));
                previous = c;
                !part
            })
            .unwrap_or(unsigned.len());
        let text = rest.get(..sign + length).unwrap_or("");
        self.at += text.len();
        match number_of(text) {
            Some(number) => Ok(Some((Base::Number(number), text.to_owned()))),
            None => Err(self.error(format!("bad number syntax: {}", quote_go(read_as_number(text))))),
        }
    }

    /// `'a'`: the character's number.
    fn character(&mut self) -> Result<Option<(Base, String)>, String> {
        let body = self.rest().get(1..).unwrap_or("");
        let mut escaped = false;
        let end = body
            .char_indices()
            .take_while(|(_, c)| *c != '\n')
            .find(|(_, c)| {
                let ends = *c == '\'' && !escaped;
                escaped = *c == '\\' && !escaped;
                ends
            });
        let Some((end, _)) = end else {
            return Err(self.error("unterminated character constant"));
        };
        let text = self.rest().get(..end + 2).unwrap_or("");
        let inner = body.get(..end).unwrap_or("").replace("\\'", "'");
        let one = unquote_escapes(&inner)
            .ok()
            .filter(|inner| inner.chars().count() == 1);
        let Some(c) = one.and_then(|inner| inner.chars().next()) else {
            return Err(self.error(format!("malformed character constant: {text}")));
        };
        self.at += text.len();
        let number = Number {
            int: Some(i64::from(u32::from(c))),
            float: f64::from(u32::from(c)),
            is_float: false,
        };
        Ok(Some((Base::Number(number), text.to_owned())))
    }

    pub(super) fn string_literal(&mut self) -> Result<Option<String>, String> {
        let rest = self.rest();
        if let Some(body) = rest.strip_prefix('`') {
            let end = body
                .find('`')
                .ok_or_else(|| self.error("unterminated raw quoted string"))?;
            self.at += end + 2;
            return Ok(Some(body.get(..end).unwrap_or("").to_owned()));
        }
        let Some(body) = rest.strip_prefix('"') else {
            return Ok(None);
        };
        let mut escaped = false;
        for (index, c) in body.char_indices() {
            match c {
                '"' if !escaped => {
                    let inner = body.get(..index).unwrap_or("");
                    self.at += index + 2;
                    return unquote_escapes(inner)
                        .map(Some)
                        .map_err(|_| self.error("invalid syntax"));
                }
                '\n' => break,
                _ => escaped = c == '\\' && !escaped,
            }
        }
        Err(self.error("unterminated quoted string"))
    }
}

/// Reads a number in any of Go's notations.
fn number_of(text: &str) -> Option<Number> {
    let (negative, magnitude) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let digits = magnitude.replace('_', "").to_ascii_lowercase();
    let radix = match digits.get(..2) {
        Some("0x") => 16,
        Some("0o") => 8,
        Some("0b") => 2,
        _ if digits.starts_with('0') && digits.as_bytes().get(1).is_some_and(|b| b.is_ascii_digit()) => 8,
        _ => 10,
    };
    let has_prefix = digits
        .as_bytes()
        .get(1)
        .is_some_and(|b| b.is_ascii_alphabetic() && radix != 10);
    let body = digits.get(if has_prefix { 2 } else { 0 }..);
    let whole = body.and_then(|body| i128::from_str_radix(body, radix).ok());
    let signed = |value: i128| i64::try_from(if negative { -value } else { value }).ok();
    let is_hex = radix == 16 && !digits.contains('p');
    let is_float = !is_hex && digits.contains(['.', 'e', 'p']);
    if let Some(whole) = whole {
        #[allow(clippy::cast_precision_loss, reason = "as in Go")]
        let float = if negative { -(whole as f64) } else { whole as f64 };
        let int = signed(whole);
        return u64::try_from(whole)
            .is_ok()
            .then_some(Number { int, float, is_float });
    }
    let float = crate::units::parse_go_float(text)
        .ok()
        .filter(|float| float.is_finite())?;
    if !is_float && !digits.starts_with('0') {
        return None;
    }
    #[allow(clippy::cast_possible_truncation, reason = "checked by the way back")]
    let int = float as i64;
    #[allow(clippy::cast_precision_loss, reason = "the way back")]
    let is_whole = int as f64 == float;
    Some(Number {
        int: is_whole.then_some(int),
        float,
        is_float,
    })
}

/// How far Go reads a word that it takes for a number: up to the first character that does not belong there, with it.
fn read_as_number(word: &str) -> &str {
    let mut at = word.len() - word.trim_start_matches(['+', '-']).len();
    let rest = word.get(at..).unwrap_or("");
    let (skip, digits, exponent) = match rest.get(..2) {
        Some("0x" | "0X") => (2, "0123456789abcdefABCDEF_", "pP"),
        Some("0o" | "0O") => (2, "01234567_", ""),
        Some("0b" | "0B") => (2, "01_", ""),
        _ => (0, "0123456789_", "eE"),
    };
    at += skip;
    let run = |at: &mut usize, set: &str, most: usize| {
        let behind = word.get(*at..).unwrap_or("");
        let taken = behind.chars().take(most).take_while(|c| set.contains(*c));
        let taken = taken.count();
        *at += taken;
        taken > 0
    };
    run(&mut at, digits, usize::MAX);
    if run(&mut at, ".", 1) {
        run(&mut at, digits, usize::MAX);
    }
    if run(&mut at, exponent, 1) {
        run(&mut at, "+-", 1);
        run(&mut at, "0123456789_", usize::MAX);
    }
    run(&mut at, "i", 1);
    word.get(..at + 1).unwrap_or(word)
}
