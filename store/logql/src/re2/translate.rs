//! RE2 text to the `regex` crate's text.

use std::fmt::Write as _;

use crate::error::ParseError;

/// The largest count in `{n,m}`, as in RE2.
const MAX_REPEAT: u32 = 1000;

/// An expression in the `regex` crate's dialect.
#[derive(Debug)]
pub(crate) struct Translated {
    pub(crate) pattern: String,
    /// Names of capture groups by index; index 0 is the whole match.
    pub(crate) names: Vec<Option<String>>,
}

/// Translates an RE2 expression.
///
/// # Errors
/// `error parsing regexp: …` in Go's words.
pub(crate) fn translate(pattern: &str) -> Result<Translated, ParseError> {
    let mut translator = Translator {
        pattern,
        offset: 0,
        out: String::with_capacity(pattern.len() + 8),
        names: vec![None],
        open: 0,
        repeatable: Repeatable::Nothing,
        last_repeat: 0,
    };
    translator.run()?;
    Ok(Translated {
        pattern: translator.out,
        names: translator.names,
    })
}

/// What stands before a repetition operator.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeatable {
    Nothing,
    Atom,
    Repetition,
}

struct Translator<'a> {
    pattern: &'a str,
    offset: usize,
    out: String,
    names: Vec<Option<String>>,
    open: usize,
    repeatable: Repeatable,
    last_repeat: usize,
}

fn error(message: &str, fragment: &str) -> ParseError {
    ParseError::semantic(format!("error parsing regexp: {message}: `{fragment}`"))
}

impl<'a> Translator<'a> {
    fn rest(&self) -> &'a str {
        self.pattern.get(self.offset..).unwrap_or("")
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.rest().chars().next()?;
        self.offset += c.len_utf8();
        Some(c)
    }

    fn take(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            self.offset += text.len();
        }
        found
    }

    fn since(&self, start: usize) -> &'a str {
        self.pattern.get(start..self.offset).unwrap_or("")
    }

    fn literal(&mut self, c: char) {
        push_literal(&mut self.out, c);
        self.repeatable = Repeatable::Atom;
    }

    fn run(&mut self) -> Result<(), ParseError> {
        while let Some(c) = self.rest().chars().next() {
            let start = self.offset;
            match c {
                '(' => self.open_group()?,
                ')' => {
                    if self.open == 0 {
                        return Err(error("unexpected )", self.pattern));
                    }
                    self.bump();
                    self.open -= 1;
                    self.out.push(')');
                    self.repeatable = Repeatable::Atom;
                }
                '|' => {
                    self.bump();
                    self.out.push('|');
                    self.repeatable = Repeatable::Nothing;
                }
                '*' | '+' | '?' => {
                    self.bump();
                    self.repeat(start, &c.to_string())?;
                }
                '{' => self.braces()?,
                '[' => self.class()?,
                '\\' => self.escape()?,
                '^' | '$' | '.' => {
                    self.bump();
                    self.out.push(c);
                    self.repeatable = Repeatable::Atom;
                }
                _ => {
                    self.bump();
                    self.literal(c);
                }
            }
        }
        if self.open > 0 {
            return Err(error("missing closing )", self.pattern));
        }
        Ok(())
    }

    /// Writes a repetition operator with an optional `?` behind it.
    fn repeat(&mut self, start: usize, operator: &str) -> Result<(), ParseError> {
        match self.repeatable {
            Repeatable::Nothing => {
                return Err(error(
                    "missing argument to repetition operator",
                    self.since(start),
                ));
            }
            Repeatable::Repetition => {
                let fragment = self.pattern.get(self.last_repeat..self.offset).unwrap_or("");
                return Err(error("invalid nested repetition operator", fragment));
            }
            Repeatable::Atom => {}
        }
        self.out.push_str(operator);
        if self.take("?") {
            self.out.push('?');
        }
        self.repeatable = Repeatable::Repetition;
        self.last_repeat = start;
        Ok(())
    }

    /// `{n}`, `{n,}`, `{n,m}`; any other brace is a literal.
    fn braces(&mut self) -> Result<(), ParseError> {
        let start = self.offset;
        let Some((min, max, length)) = counts(self.rest()) else {
            self.bump();
            self.literal('{');
            return Ok(());
        };
        self.offset += length;
        let too_many = |count: Option<u32>| count.is_some_and(|count| count > MAX_REPEAT);
        if too_many(Some(min)) || too_many(max.flatten()) || max.flatten().is_some_and(|max| max < min) {
            return Err(error("invalid repeat count", self.since(start)));
        }
        let operator = match max {
            None => format!("{{{min}}}"),
            Some(None) => format!("{{{min},}}"),
            Some(Some(max)) => format!("{{{min},{max}}}"),
        };
        self.repeat(start, &operator)
    }

    fn open_group(&mut self) -> Result<(), ParseError> {
        let start = self.offset;
        self.bump();
        self.open += 1;
        self.repeatable = Repeatable::Nothing;
        if !self.rest().starts_with('?') {
            self.names.push(None);
            self.out.push('(');
            return Ok(());
        }
        if self.take("?P<") || self.take("?<") {
            let Some(end) = self.rest().find('>') else {
                return Err(error(
                    "invalid named capture",
                    self.pattern.get(start..).unwrap_or(""),
                ));
            };
            let name = self.rest().get(..end).unwrap_or("").to_owned();
            self.offset += end + 1;
            let valid = !name.is_empty() && name.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric());
            if !valid {
                return Err(error("invalid named capture", self.since(start)));
            }
            self.names.push(Some(name));
            // Names are kept beside the expression: RE2 allows some that the crate does not.
            self.out.push('(');
            return Ok(());
        }
        self.flags(start)
    }

    /// `(?i)`, `(?i-s:…)`.
    fn flags(&mut self, start: usize) -> Result<(), ParseError> {
        self.take("?");
        let from = self.offset;
        let mut negated = false;
        let mut any = false;
        loop {
            match self.bump() {
                Some('i' | 'm' | 's' | 'U') => any = true,
                Some('-') if !negated => {
                    negated = true;
                    any = false;
                }
                Some(end @ (':' | ')')) if any || !negated => {
                    let flags = self.pattern.get(from..self.offset - 1).unwrap_or("");
                    if end == ')' {
                        self.open -= 1;
                    }
                    // The crate wants at least one flag before a lone `)`.
                    if !(end == ')' && flags.is_empty()) {
                        let _ = write!(self.out, "(?{flags}{end}");
                    }
                    return Ok(());
                }
                Some(_) => {
                    return Err(error("invalid or unsupported Perl syntax", self.since(start)));
                }
                None => return Err(error("missing closing )", self.pattern)),
            }
        }
    }

    fn escape(&mut self) -> Result<(), ParseError> {
        let start = self.offset;
        self.bump();
        let Some(c) = self.rest().chars().next() else {
            return Err(ParseError::semantic(
                "error parsing regexp: trailing backslash at end of expression: ``",
            ));
        };
        if c == 'Q' {
            self.bump();
            let end = self.rest().find("\\E");
            let text = self.rest().get(..end.unwrap_or(self.rest().len())).unwrap_or("");
            self.offset += text.len() + if end.is_some() { 2 } else { 0 };
            for c in text.chars() {
                self.literal(c);
            }
            return Ok(());
        }
        let assertion = match c {
            'A' => Some("\\A"),
            'z' => Some("\\z"),
            'b' => Some("(?-u:\\b)"),
            'B' => Some("(?-u:\\B)"),
            _ => None,
        };
        if let Some(assertion) = assertion {
            self.bump();
            self.out.push_str(assertion);
            self.repeatable = Repeatable::Atom;
            return Ok(());
        }
        if c == 'C' {
            self.bump();
            return Err(error("invalid escape sequence", self.since(start)));
        }
        if let Some(class) = perl_class(c) {
            self.bump();
            self.out.push_str(class);
        } else if matches!(c, 'p' | 'P') {
            let class = self.unicode_class()?;
            self.out.push_str(&class);
        } else {
            let c = self.escaped_char(start)?;
            push_literal(&mut self.out, c);
        }
        self.repeatable = Repeatable::Atom;
        Ok(())
    }

    /// `\pN`, `\p{Greek}`, `\P…`, `\p{^…}`; the backslash is read already.
    fn unicode_class(&mut self) -> Result<String, ParseError> {
        let start = self.offset - 1;
        let mut negated = self.bump() == Some('P');
        let mut name = match self.bump() {
            Some('{') => {
                let Some(end) = self.rest().find('}') else {
                    return Err(error(
                        "invalid character class range",
                        self.pattern.get(start..).unwrap_or(""),
                    ));
                };
                let name = self.rest().get(..end).unwrap_or("").to_owned();
                self.offset += end + 1;
                name
            }
            Some(c) => c.to_string(),
            None => return Err(error("invalid character class range", self.since(start))),
        };
        if let Some(inner) = name.strip_prefix('^') {
            negated = !negated;
            name = inner.to_owned();
        }
        let class = format!("\\{}{{{name}}}", if negated { 'P' } else { 'p' });
        if regex_syntax::parse(&class).is_err() {
            return Err(error("invalid character class range", self.since(start)));
        }
        Ok(class)
    }

    /// An escape that stands for one character; the backslash is read already.
    fn escaped_char(&mut self, start: usize) -> Result<char, ParseError> {
        let Some(c) = self.bump() else {
            return Err(ParseError::semantic(
                "error parsing regexp: trailing backslash at end of expression: ``",
            ));
        };
        Ok(match c {
            'a' => '\x07',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            '0' => self.octal(0, 2),
            '1'..='7' if self.rest().starts_with(|c: char| c.is_digit(8)) => {
                self.octal(c.to_digit(8).unwrap_or(0), 2)
            }
            'x' => return self.hex(start),
            // Blanks and control characters stand for themselves, too.
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => c,
            _ => return Err(error("invalid escape sequence", self.since(start))),
        })
    }

    fn octal(&mut self, mut value: u32, digits: usize) -> char {
        for _ in 0..digits {
            let Some(digit) = self.rest().chars().next().and_then(|c| c.to_digit(8)) else {
                break;
            };
            self.bump();
            value = value * 8 + digit;
        }
        char::from_u32(value).unwrap_or('\u{fffd}')
    }

    fn hex(&mut self, start: usize) -> Result<char, ParseError> {
        let digits = if self.take("{") {
            let end = self.rest().find('}').unwrap_or(0);
            let digits = self.rest().get(..end).unwrap_or("");
            self.offset += (end + 1).min(self.rest().len());
            digits
        } else {
            let digits = self.rest().get(..2).unwrap_or("");
            self.offset += digits.len();
            digits
        };
        let value = if digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            u32::from_str_radix(digits, 16).ok().and_then(char::from_u32)
        } else {
            None
        };
        value.ok_or_else(|| error("invalid escape sequence", self.since(start)))
    }

    fn class(&mut self) -> Result<(), ParseError> {
        let start = self.offset;
        self.bump();
        let mut out = String::from(if self.take("^") { "[^" } else { "[" });
        let missing = |pattern: &str| error("missing closing ]", pattern.get(start..).unwrap_or(""));
        let mut first = true;
        loop {
            let item = self.offset;
            let Some(c) = self.rest().chars().next() else {
                return Err(missing(self.pattern));
            };
            if c == ']' && !first {
                self.bump();
                break;
            }
            first = false;
            if let Some(class) = self.class_in_class()? {
                out.push_str(&class);
                continue;
            }
            let low = self.class_char()?.ok_or_else(|| missing(self.pattern))?;
            let mut high = low;
            let mut ahead = self.rest().chars();
            if ahead.next() == Some('-') && ahead.next().is_some_and(|c| c != ']') {
                self.bump();
                high = self.class_char()?.ok_or_else(|| missing(self.pattern))?;
                if high < low {
                    return Err(error("invalid character class range", self.since(item)));
                }
            }
            push_literal(&mut out, low);
            if high != low {
                out.push('-');
                push_literal(&mut out, high);
            }
        }
        out.push(']');
        self.out.push_str(&out);
        self.repeatable = Repeatable::Atom;
        Ok(())
    }

    /// `[:alpha:]`, `\d`, `\p{…}` inside brackets.
    fn class_in_class(&mut self) -> Result<Option<String>, ParseError> {
        let rest = self.rest();
        if rest.starts_with("[:")
            && let Some(end) = rest.find(":]")
        {
            let name = rest.get(..end + 2).unwrap_or("");
            if regex_syntax::parse(&format!("[{name}]")).is_err() {
                return Err(error("invalid character class range", name));
            }
            self.offset += end + 2;
            return Ok(Some(name.to_owned()));
        }
        let mut chars = rest.chars();
        if chars.next() != Some('\\') {
            return Ok(None);
        }
        match chars.next() {
            Some('p' | 'P') => {
                self.bump();
                self.unicode_class().map(Some)
            }
            Some(c) => Ok(perl_class(c).map(|class| {
                self.offset += 2;
                class.to_owned()
            })),
            None => Ok(None),
        }
    }

    fn class_char(&mut self) -> Result<Option<char>, ParseError> {
        let start = self.offset;
        match self.bump() {
            Some('\\') => self.escaped_char(start).map(Some),
            other => Ok(other),
        }
    }
}

/// ASCII classes, as RE2 has them.
fn perl_class(c: char) -> Option<&'static str> {
    Some(match c {
        'd' => "[0-9]",
        'D' => "[^0-9]",
        's' => "[\\t\\n\\x0c\\r ]",
        'S' => "[^\\t\\n\\x0c\\r ]",
        'w' => "[0-9A-Za-z_]",
        'W' => "[^0-9A-Za-z_]",
        _ => return None,
    })
}

fn push_literal(out: &mut String, c: char) {
    match c {
        c if c.is_ascii_alphanumeric() || c == '_' || c == ' ' || !c.is_ascii() => out.push(c),
        c if c.is_ascii_punctuation() => {
            // `\<` and `\>` would be word boundaries.
            if c == '<' || c == '>' {
                out.push(c);
            } else {
                out.push('\\');
                out.push(c);
            }
        }
        c => {
            let _ = write!(out, "\\x{:02x}", c as u32);
        }
    }
}

/// Reads `{n}`, `{n,}` or `{n,m}` at the start: minimum, maximum (outer `None`: no comma; inner: no bound), length.
fn counts(text: &str) -> Option<(u32, Option<Option<u32>>, usize)> {
    let body = text.strip_prefix('{')?;
    let end = body.find('}')?;
    let inner = body.get(..end)?;
    // A count too long to read is too big, not a literal.
    let number = |digits: &str| -> Option<u32> {
        let valid = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        let leading_zero = digits.len() > 1 && digits.starts_with('0');
        if !valid || leading_zero {
            None
        } else {
            Some(digits.parse().unwrap_or(u32::MAX))
        }
    };
    let length = end + 2;
    match inner.split_once(',') {
        None => Some((number(inner)?, None, length)),
        Some((min, "")) => Some((number(min)?, Some(None), length)),
        Some((min, max)) => Some((number(min)?, Some(Some(number(max)?)), length)),
    }
}
