//! Label sets as text, as push requests carry them.

use super::parser::is_label_name;
use crate::Labels;
use crate::error::ParseError;
use crate::text::unquote_escapes;

/// Parses the label set of a push request: `{app="web", env="prod"}`. Pairs with an empty value are dropped; a name that
/// comes twice is there twice, for [`Labels::repeated`] to tell.
///
/// # Errors
/// Anything but names with `=` and a quoted value; the position is that of the fault.
pub fn parse_labels(text: &str) -> Result<Labels, ParseError> {
    let mut scanner = Scanner { text, offset: 0 };
    let mut pairs: Vec<(Box<str>, Box<str>)> = Vec::new();
    scanner.expect('{')?;
    if scanner.take('}') {
        scanner.end()?;
        return Ok(Labels::empty());
    }
    loop {
        let name = scanner.name()?;
        scanner.expect('=')?;
        let value = scanner.value()?;
        pairs.push((name.into(), value.into_boxed_str()));
        if scanner.take('}') {
            break;
        }
        scanner.expect(',')?;
        if scanner.take('}') {
            break;
        }
    }
    scanner.end()?;
    Ok(Labels::with_repeats(pairs))
}

struct Scanner<'a> {
    text: &'a str,
    offset: usize,
}

impl<'a> Scanner<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.offset..).unwrap_or("")
    }

    fn skip_blank(&mut self) {
        let rest = self.rest();
        self.offset += rest.len() - rest.trim_start().len();
    }

    fn error(&self, message: String) -> ParseError {
        let before = self.text.get(..self.offset).unwrap_or("");
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        let clamp = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        ParseError::at(clamp(line), clamp(column), message)
    }

    fn take(&mut self, c: char) -> bool {
        self.skip_blank();
        let found = self.rest().starts_with(c);
        if found {
            self.offset += c.len_utf8();
        }
        found
    }

    fn expect(&mut self, c: char) -> Result<(), ParseError> {
        if self.take(c) {
            Ok(())
        } else {
            Err(self.error(format!("expected '{c}'{}", self.found())))
        }
    }

    fn found(&self) -> String {
        match self.rest().chars().next() {
            Some(c) => format!(", found '{c}'"),
            None => ", found the end".to_owned(),
        }
    }

    fn name(&mut self) -> Result<&'a str, ParseError> {
        self.skip_blank();
        let rest = self.rest();
        let end = rest
            .find(|c: char| !(c == '_' || c.is_alphanumeric()))
            .unwrap_or(rest.len());
        let name = rest.get(..end).unwrap_or("");
        if !is_label_name(name) {
            return Err(self.error(format!("expected a label name{}", self.found())));
        }
        self.offset += end;
        Ok(name)
    }

    fn value(&mut self) -> Result<String, ParseError> {
        self.skip_blank();
        let rest = self.rest();
        if let Some(body) = rest.strip_prefix('`') {
            let end = body
                .find('`')
                .ok_or_else(|| self.error("string not closed".to_owned()))?;
            self.offset += end + 2;
            return Ok(body.get(..end).unwrap_or("").to_owned());
        }
        let Some(body) = rest.strip_prefix('"') else {
            return Err(self.error(format!("expected a quoted value{}", self.found())));
        };
        let mut escaped = false;
        for (index, byte) in body.bytes().enumerate() {
            if byte == b'"' && !escaped {
                let inner = body.get(..index).unwrap_or("");
                let value = unquote_escapes(inner)
                    .map_err(|_| self.error("a quoted value has an invalid escape".to_owned()))?;
                self.offset += index + 2;
                return Ok(value);
            }
            escaped = byte == b'\\' && !escaped;
        }
        Err(self.error("string not closed".to_owned()))
    }

    fn end(&mut self) -> Result<(), ParseError> {
        self.skip_blank();
        if self.rest().is_empty() {
            Ok(())
        } else {
            Err(self.error(format!("expected the end{}", self.found())))
        }
    }
}
