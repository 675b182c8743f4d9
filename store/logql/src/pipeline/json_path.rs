//! Paths of `| json a="x.y[0]"`: fields, quoted fields in brackets, and array positions.

use super::json::{
    MALFORMED, Stop, Value, append_unescaped, blank, block_end, each_pair, string_end, value_at,
};

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

    /// Whether it leads through an array.
    pub(super) fn has_positions(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Index(_)))
    }

    /// Whether `names` lead to where the steps behind the first `names.len()` begin.
    fn begins_with(&self, names: &[String]) -> bool {
        let step_of = |(step, name): (&Step, &String)| matches!(step, Step::Field(field) if field == name);
        self.steps.len() >= names.len() && self.steps.iter().zip(names).all(step_of)
    }
}

/// Looks for the first value of each path in one walk over a line, as far as the line makes sense.
pub(crate) struct Search<'p, 'a, R> {
    line: &'a str,
    paths: Vec<&'p Path>,
    found: Vec<bool>,
    /// How many objects are open; below zero where a line closes more than it opens.
    level: isize,
    /// The keys that lead here, for as many levels as the longest path has.
    names: Vec<String>,
    /// Takes what was found, in the order of the line: the path and its value, or why there is none. A fault of the line
    /// itself has no path.
    report: R,
}

/// The walk is over.
struct Over;

impl<'p, 'a, R> Search<'p, 'a, R>
where
    R: FnMut(Option<usize>, Result<Value<'a>, &'static str>),
{
    pub(crate) fn new(line: &'a str, paths: Vec<&'p Path>, report: R) -> Self {
        let longest = paths.iter().map(|path| path.steps.len()).max().unwrap_or(0);
        Self {
            line,
            found: vec![false; paths.len()],
            paths,
            level: 0,
            names: vec![String::new(); longest],
            report,
        }
    }

    pub(crate) fn run(&mut self) {
        let bytes = self.line.as_bytes();
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            let next = match byte {
                b'"' => self.text(at),
                b'[' => self.array(at),
                b'{' => {
                    self.level += 1;
                    Ok(at + 1)
                }
                b'}' | b']' => {
                    self.level -= 1;
                    Ok(at + 1)
                }
                _ => Ok(at + 1),
            };
            match next {
                Ok(next) => at = next,
                Err(Over) => return,
            }
        }
    }

    fn all_found(&self) -> Result<(), Over> {
        if self.found.iter().all(|found| *found) {
            Err(Over)
        } else {
            Ok(())
        }
    }

    /// A string: a key where a colon follows. Gives where to go on.
    fn text(&mut self, at: usize) -> Result<usize, Over> {
        let end = string_end(self.line.as_bytes(), at + 1).ok_or(Over)?;
        let next = blank(self.line, end).ok_or(Over)?;
        if self.line.as_bytes().get(next) != Some(&b':') {
            return Ok(next);
        }
        let mut key = String::new();
        append_unescaped(self.line.get(at + 1..end - 1).unwrap_or(""), &mut key).ok_or(Over)?;
        self.key(key, next + 1)?;
        Ok(next + 1)
    }

    /// A key whose value begins at `at`, or behind blanks there.
    fn key(&mut self, key: String, at: usize) -> Result<(), Over> {
        let Some(depth) = usize::try_from(self.level).ok().filter(|level| *level > 0) else {
            (self.report)(None, Err(MALFORMED));
            return Err(Over);
        };
        let Some(name) = self.names.get_mut(depth - 1) else {
            return Ok(());
        };
        *name = key;
        let names = self.names.get(..depth).unwrap_or(&[]);
        for (index, path) in self.paths.iter().enumerate() {
            let Some(found) = self.found.get_mut(index) else {
                continue;
            };
            if *found || path.steps.len() != depth || !path.begins_with(names) {
                continue;
            }
            *found = true;
            let value = match blank(self.line, at) {
                Some(start) => value_at(self.line, start).map(|(value, _)| value),
                None => Err(MALFORMED),
            };
            (self.report)(Some(index), value);
        }
        self.all_found()
    }

    /// An array: its elements are looked at where a path names one of them, else it is passed over.
    fn array(&mut self, at: usize) -> Result<usize, Over> {
        let Ok(depth) = usize::try_from(self.level) else {
            (self.report)(None, Err(MALFORMED));
            return Err(Over);
        };
        let end = block_end(self.line.as_bytes(), at, b'[', b']').ok_or(Over)?;
        let text = self.line.get(at..end).unwrap_or("");
        let names = self.names.get(..depth).unwrap_or(&[]);
        for (index, path) in self.paths.iter().enumerate() {
            let Some(found) = self.found.get_mut(index).filter(|found| !**found) else {
                continue;
            };
            let Some((Step::Index(position), rest)) = path.steps.get(depth..).and_then(<[Step]>::split_first)
            else {
                continue;
            };
            if !path.begins_with(names) {
                continue;
            }
            if let Some(value) = element(text, *position) {
                *found = true;
                if let Some(value) = inside(value, rest) {
                    (self.report)(Some(index), Ok(value));
                }
            }
        }
        self.all_found()?;
        Ok(end)
    }
}

/// What `steps` lead to inside a value.
fn inside<'a>(value: Value<'a>, steps: &[Step]) -> Option<Value<'a>> {
    steps.iter().try_fold(value, |value, step| match (step, value) {
        (Step::Field(name), Value::Object(text)) => field(text, name),
        (Step::Index(index), Value::Array(text)) => element(text, *index),
        _ => None,
    })
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
