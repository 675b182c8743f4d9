//! Patterns such as `<ip> - <_>`: as a parser that makes labels, and as a line filter.

use memchr::memmem;

/// One piece of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(String),
    /// `None`: `<_>`.
    Capture(Option<String>),
}

/// Cuts `text` into literals and captures.
fn pieces(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some((name, after)) = capture(rest) {
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            pieces.push(Piece::Capture((name != "_").then(|| name.to_owned())));
            rest = after;
            continue;
        }
        literal.push(c);
        rest = rest.get(c.len_utf8()..).unwrap_or("");
    }
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal));
    }
    pieces
}

/// `<name>` at the start, and what follows it.
fn capture(text: &str) -> Option<(&str, &str)> {
    let body = text.strip_prefix('<')?;
    let end = body.find('>')?;
    let name = body.get(..end)?;
    let mut bytes = name.bytes();
    let valid = bytes.next().is_some_and(|b| b == b'_' || b.is_ascii_alphabetic())
        && bytes.all(|b| b == b'_' || b.is_ascii_alphanumeric());
    valid.then(|| (name, body.get(end + 1..).unwrap_or("")))
}

fn check_neighbours(pieces: &[Piece]) -> Result<(), String> {
    for pair in pieces.windows(2) {
        if let [Piece::Capture(first), Piece::Capture(second)] = pair {
            let name = |capture: &Option<String>| capture.clone().unwrap_or_else(|| "_".to_owned());
            return Err(format!(
                "found consecutive capture '<{}><{}>': invalid expression",
                name(first),
                name(second)
            ));
        }
    }
    Ok(())
}

/// The pattern of `| pattern`.
#[derive(Clone, Debug)]
pub(crate) struct ParserPattern {
    pieces: Vec<Piece>,
}

impl ParserPattern {
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        let pieces = pieces(text);
        let names: Vec<&str> = names_of(&pieces).collect();
        if names.is_empty() {
            return Err("at least one capture is required".to_owned());
        }
        check_neighbours(&pieces)?;
        for (index, name) in names.iter().enumerate() {
            if names.iter().take(index).any(|other| other == name) {
                return Err(format!("duplicate capture name ({name}): invalid expression"));
            }
        }
        Ok(Self { pieces })
    }

    /// Names of the captures, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        names_of(&self.pieces)
    }

    /// The texts between the captures.
    pub(crate) fn literals(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Literal(text) => Some(text.as_str()),
            Piece::Capture(_) => None,
        })
    }

    /// Calls `found` for each named capture, in order, until it says stop (true).
    ///
    /// A literal at the start must be the line's start. Where a later literal is missing, the capture before it
    /// takes the rest of the line.
    pub(crate) fn captures<'l>(&self, line: &'l str, mut found: impl FnMut(&'l str) -> bool) {
        let mut rest = line;
        let mut pieces = self.pieces.as_slice();
        if let [Piece::Literal(literal), after @ ..] = pieces {
            let Some(stripped) = rest.strip_prefix(literal.as_str()) else {
                return;
            };
            rest = stripped;
            pieces = after;
        }
        if line.is_empty() {
            return;
        }
        while let [Piece::Capture(name), after @ ..] = pieces {
            let cut = match after {
                [Piece::Literal(literal), ..] => {
                    memmem::find(rest.as_bytes(), literal.as_bytes()).map(|at| (at, at + literal.len()))
                }
                _ => None,
            };
            let (value, tail) = match cut {
                Some((at, end)) => (rest.get(..at), rest.get(end..)),
                None => (Some(rest), None),
            };
            if name.is_some() && found(value.unwrap_or("")) {
                return;
            }
            let Some(tail) = tail else { return };
            rest = tail;
            pieces = after.get(1..).unwrap_or(&[]);
        }
    }
}

fn names_of(pieces: &[Piece]) -> impl Iterator<Item = &str> {
    pieces.iter().filter_map(|piece| match piece {
        Piece::Capture(name) => name.as_deref(),
        Piece::Literal(_) => None,
    })
}

/// The pattern of `|>` and `!>`.
#[derive(Clone, Debug)]
pub(crate) struct LinePattern {
    pieces: Vec<Piece>,
}

impl LinePattern {
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        let pieces = pieces(text);
        check_neighbours(&pieces)?;
        if let Some(name) = names_of(&pieces).next() {
            return Err(format!("named captures are not allowed: found '<{name}>'"));
        }
        Ok(Self { pieces })
    }

    pub(crate) fn longest_literal(&self) -> Option<&str> {
        let literals = self.pieces.iter().filter_map(|piece| match piece {
            Piece::Literal(text) => Some(text.as_str()),
            Piece::Capture(_) => None,
        });
        literals.max_by_key(|literal| literal.len())
    }

    /// Literals come in order, each but the first after at least one byte; the line's end is anchored.
    pub(crate) fn matches(&self, line: &str) -> bool {
        if line.is_empty() || self.pieces.is_empty() {
            return line.is_empty() && self.pieces.is_empty();
        }
        let mut rest = line.as_bytes();
        for (index, piece) in self.pieces.iter().enumerate() {
            let Piece::Literal(literal) = piece else { continue };
            match memmem::find(rest, literal.as_bytes()) {
                Some(0) if index > 0 => return false,
                Some(at) => rest = rest.get(at + literal.len()..).unwrap_or(&[]),
                None => return false,
            }
        }
        let ends_open = matches!(self.pieces.last(), Some(Piece::Capture(_)));
        ends_open != rest.is_empty()
    }
}
