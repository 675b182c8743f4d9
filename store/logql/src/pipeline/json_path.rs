//! Paths of `| json a="x.y[0]"`: fields, quoted fields in brackets, and array positions.

use super::json::{Stop, Value, each_pair, value_at};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    Index(usize),
}

/// A compiled path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    steps: Vec<Step>,
}

impl Path {
    /// Reads a path; the error has Loki's words.
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        let mut scanner = Scanner {
            rest: text,
            fault: None,
        };
        let path = scanner.path().map_err(|(found, expecting)| {
            let found = found.map_or("$end", |token| token.name());
            format!("cannot parse expression [{text}]: syntax error: unexpected {found}{expecting}")
        })?;
        match scanner.fault {
            // What no token can start with ends the path; where it may end, the character itself is the error.
            Some(c) => Err(format!("cannot parse expression [{text}]: unexpected char {c}")),
            None => Ok(path),
        }
    }

    /// The first value at the path. What lies before a fault in the line is found.
    pub(crate) fn find<'a>(&self, line: &'a str) -> Option<Value<'a>> {
        let mut value = match value_at(line, 0) {
            Ok((value, _)) => value,
            Err(_) if line.starts_with('{') => Value::Object(line),
            Err(_) => return None,
        };
        for step in &self.steps {
            value = match (step, value) {
                (Step::Field(name), Value::Object(text)) => field(text, name)?,
                (Step::Index(index), Value::Array(text)) => element(text, *index)?,
                _ => return None,
            };
        }
        Some(value)
    }
}

fn field<'a>(text: &'a str, name: &str) -> Option<Value<'a>> {
    let mut found = None;
    let mut unescaped = String::new();
    // Whether the scan ends with a fault or a stop says nothing more than `found`.
    let _ = each_pair(text, |key, value| {
        let equal = if key.contains('\\') {
            unescaped.clear();
            super::json::unescape(key, &mut unescaped);
            unescaped == name
        } else {
            key == name
        };
        if !equal {
            return Ok(());
        }
        found = Some(value);
        Err(Stop::Done)
    });
    found
}

fn element(text: &str, index: usize) -> Option<Value<'_>> {
    let mut at = 1;
    let mut position = 0;
    loop {
        let rest = text.get(at..)?;
        at += rest.len() - rest.trim_start_matches([' ', '\n', '\r', '\t']).len();
        let (value, end) = value_at(text, at).ok()?;
        if position == index {
            return Some(value);
        }
        position += 1;
        let rest = text.get(end..)?;
        let trimmed = rest.trim_start_matches([' ', '\n', '\r', '\t']);
        at = end + (rest.len() - trimmed.len()) + 1;
        if !trimmed.starts_with(',') {
            return None;
        }
    }
}

enum Token {
    Dot,
    Open,
    Close,
    Text(String),
    Field(String),
    Index(usize),
}

impl Token {
    fn name(&self) -> &'static str {
        match self {
            Self::Dot => "DOT",
            Self::Open => "LSB",
            Self::Close => "RSB",
            Self::Text(_) => "STRING",
            Self::Field(_) => "FIELD",
            Self::Index(_) => "INDEX",
        }
    }
}

/// The token found where it does not belong (none: the end), and what would belong there.
type Unexpected = (Option<Token>, &'static str);

/// Cuts a path into tokens.
struct Scanner<'a> {
    rest: &'a str,
    /// The character that no token starts with.
    fault: Option<char>,
}

impl<'a> Scanner<'a> {
    fn path(&mut self) -> Result<Path, Unexpected> {
        let mut steps = vec![match self.next() {
            Some(Token::Field(name)) => Step::Field(name),
            Some(Token::Open) => self.bracket()?,
            other => return Err((other, ", expecting LSB or FIELD")),
        }];
        loop {
            steps.push(match self.next() {
                None => return Ok(Path { steps }),
                Some(Token::Open) => self.bracket()?,
                Some(Token::Dot) => match self.next() {
                    Some(Token::Field(name)) => Step::Field(name),
                    other => return Err((other, ", expecting FIELD")),
                },
                other => return Err((other, "")),
            });
        }
    }

    /// `"name"]` or `0]`
    fn bracket(&mut self) -> Result<Step, Unexpected> {
        let step = match self.next() {
            Some(Token::Text(name)) => Step::Field(name),
            Some(Token::Index(index)) => Step::Index(index),
            other => return Err((other, ", expecting STRING or INDEX")),
        };
        match self.next() {
            Some(Token::Close) => Ok(step),
            other => Err((other, ", expecting RSB")),
        }
    }

    /// Takes the first `length` bytes.
    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, ""));
        self.rest = rest;
        taken
    }

    /// The next token; none at the end and at what is no token.
    fn next(&mut self) -> Option<Token> {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n']);
        let first = self.rest.chars().next()?;
        match first {
            '[' | ']' | '.' => {
                self.take(1);
                Some(match first {
                    '[' => Token::Open,
                    ']' => Token::Close,
                    _ => Token::Dot,
                })
            }
            '"' => {
                self.take(1);
                // A bracket ends the text, too.
                let end = self.rest.find(['"', ']']).unwrap_or(self.rest.len());
                let text = self.take(end).to_owned();
                self.take(1);
                Some(Token::Text(text))
            }
            '0'..='9' => {
                let end = self
                    .rest
                    .find(|c: char| !c.is_ascii_digit())
                    .unwrap_or(self.rest.len());
                let digits = self.take(end);
                // A position ends at a blank or a bracket; at anything else the path is cut off.
                let ends = self.rest.starts_with([' ', '\t', '\n', ']']);
                digits.parse().ok().filter(|_| ends).map(Token::Index)
            }
            'a'..='z' | 'A'..='Z' | '_' => {
                let end = self.rest.find(|c: char| !(c == '_' || c.is_ascii_alphanumeric()));
                Some(Token::Field(self.take(end.unwrap_or(self.rest.len())).to_owned()))
            }
            other => {
                self.fault = Some(other);
                None
            }
        }
    }
}
