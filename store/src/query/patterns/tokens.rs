//! Cuts lines into tokens and puts templates together again. What a token is depends on the format of the stream:
//! words and punctuation, logfmt keys and values, or the words of a JSON line's message.
//!
//! The rules are Loki's, so that its users see the patterns they know. Knows nothing of templates.

use std::borrow::Cow;
use std::sync::LazyLock;

use rankline_logql::logfmt_pairs;
use regex::Regex;

/// How a placeholder is printed.
pub(super) const PLACEHOLDER: &str = "<_>";
/// Longer lines (or JSON messages), in bytes, have no pattern.
pub(super) const MAX_LINE_BYTES: usize = 3000;
/// Lines with fewer tokens say too little to have a pattern.
const MIN_TOKENS: usize = 4;
/// Lines with more tokens have no pattern.
const MAX_TOKENS: usize = 80;

/// Fields of a JSON line that may hold its message; the first of these that is there counts.
const MESSAGE_FIELDS: [&str; 6] = ["log", "message", "msg", "msg_", "_msg", "content"];

/// `None` stands for whatever is there.
pub(super) type Token<'a> = Option<Cow<'a, str>>;

/// What the lines of a stream look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// JSON objects with a message in one of [`MESSAGE_FIELDS`].
    Json,
    /// `key=value` pairs.
    Logfmt,
    /// Anything else.
    Text,
}

static LOGFMT: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let pair = r#"[0-9A-Za-z_]+=(?:[^"][^\t\n\f\r ]*|".+")"#;
    Regex::new(&format!("^(?:{pair} )*(?:{pair})+$")).ok()
});

impl Format {
    /// The format of a stream, by its first line.
    pub(super) fn of(line: &str) -> Self {
        if line.len() < 2 {
            Self::Text
        } else if line.starts_with('{') && line.ends_with('}') {
            Self::Json
        } else if LOGFMT.as_ref().is_some_and(|logfmt| logfmt.is_match(line)) {
            Self::Logfmt
        } else {
            Self::Text
        }
    }

    /// Cuts a line; `None` for one that has no pattern.
    pub(super) fn tokens(self, line: &str) -> Option<Tokens<'_>> {
        let tokens = match self {
            Self::Text => Tokens::of_text(line)?,
            Self::Json => Tokens::of_text(message(line)?)?,
            Self::Logfmt => Tokens::of_pairs(line)?,
        };
        (MIN_TOKENS..=MAX_TOKENS)
            .contains(&tokens.tokens.len())
            .then_some(tokens)
    }

    /// A template as text; empty when it can't be written. `blanks` are those of [`Tokens`].
    pub(super) fn join<T: AsRef<str>>(self, template: &[Option<T>], blanks: &[u16]) -> String {
        let text = match self {
            Self::Text => join_text(template, blanks),
            Self::Json => format!("{PLACEHOLDER}{}{PLACEHOLDER}", join_text(template, blanks)),
            Self::Logfmt => join_pairs(template).unwrap_or_default(),
        };
        dedupe(&text)
    }
}

/// A line in pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tokens<'a> {
    pub(super) tokens: Vec<Token<'a>>,
    /// For each blank of the line how many tokens stand before it.
    pub(super) blanks: Vec<u16>,
}

impl<'a> Tokens<'a> {
    fn of_text(line: &'a str) -> Option<Self> {
        if line.len() > MAX_LINE_BYTES {
            return None;
        }
        let (mut tokens, mut blanks): (Vec<Token<'a>>, Vec<u16>) = (Vec::new(), Vec::new());
        let mut start = 0;
        for (at, c) in line.char_indices() {
            if !is_delimiter(c) {
                continue;
            }
            if at > start {
                tokens.push(Some(Cow::Borrowed(&line[start..at])));
            }
            start = at + c.len_utf8();
            if c == ' ' {
                blanks.push(u16::try_from(tokens.len()).ok()?);
            } else {
                tokens.push(Some(Cow::Borrowed(&line[at..start])));
            }
            if tokens.len() > MAX_TOKENS {
                return None;
            }
        }
        if start < line.len() {
            tokens.push(Some(Cow::Borrowed(&line[start..])));
        }
        Some(Self { tokens, blanks })
    }

    /// Keys and values in turn; the values of times and trace ids are no part of a pattern.
    fn of_pairs(line: &'a str) -> Option<Self> {
        if line.len() > MAX_LINE_BYTES {
            return None;
        }
        let pairs = logfmt_pairs(line)?;
        let mut tokens = Vec::with_capacity(pairs.len() * 2);
        for (key, value) in pairs {
            tokens.push(Some(Cow::Borrowed(key)));
            tokens.push((!is_variable(key)).then_some(value));
        }
        Some(Self {
            tokens,
            blanks: Vec::new(),
        })
    }
}

/// Blanks, `=` and punctuation stand alone, except what holds names, numbers, times and paths together.
fn is_delimiter(c: char) -> bool {
    match c {
        '_' | '-' | '.' | ':' | '/' => false,
        // What ASCII calls punctuation and Unicode calls symbols.
        '$' | '+' | '<' | '>' | '^' | '`' | '|' | '~' => false,
        ' ' | '=' => true,
        _ if c.is_ascii() => c.is_ascii_punctuation(),
        _ => !c.is_alphanumeric() && is_punctuation(c),
    }
}

fn is_punctuation(c: char) -> bool {
    static PUNCTUATION: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\p{P}").ok());
    let punctuation = PUNCTUATION.as_ref();
    punctuation.is_some_and(|class| class.is_match(c.encode_utf8(&mut [0; 4])))
}

fn is_variable(key: &str) -> bool {
    let names = ["ts", "traceid", "time", "timestamp"];
    key == "t" || names.iter().any(|name| key.eq_ignore_ascii_case(name))
}

fn join_text<T: AsRef<str>>(template: &[Option<T>], blanks: &[u16]) -> String {
    let mut out = String::new();
    let mut blanks = blanks.iter().peekable();
    for place in 0..=template.len() {
        while blanks.next_if(|before| usize::from(**before) == place).is_some() {
            out.push(' ');
        }
        if let Some(token) = template.get(place) {
            out.push_str(token.as_ref().map_or(PLACEHOLDER, AsRef::as_ref));
        }
    }
    out
}

fn join_pairs<T: AsRef<str>>(template: &[Option<T>]) -> Option<String> {
    let mut out = String::new();
    for pair in template.chunks(2) {
        let [key, value] = pair else { return None };
        let text = |token: &'_ Option<T>| token.as_ref().map_or(PLACEHOLDER, AsRef::as_ref).to_owned();
        let (key, value) = (text(key), text(value));
        if !out.is_empty() {
            out.push(' ');
        }
        let before = out.len();
        out.extend(key.chars().filter(|c| !needs_quotes(*c)));
        if out.len() == before {
            return None;
        }
        out.push('=');
        if value == "null" || value.chars().any(needs_quotes) {
            out.push_str(&serde_json::Value::from(value).to_string());
        } else {
            out.push_str(&value);
        }
    }
    Some(out)
}

fn needs_quotes(c: char) -> bool {
    c <= ' ' || matches!(c, '=' | '"' | char::REPLACEMENT_CHARACTER)
}

/// Placeholders side by side are one.
fn dedupe(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(PLACEHOLDER) {
        out.push_str(&rest[..at + PLACEHOLDER.len()]);
        rest = &rest[at + PLACEHOLDER.len()..];
        while let Some(more) = rest.strip_prefix(PLACEHOLDER) {
            rest = more;
        }
    }
    out.push_str(rest);
    out
}

/// The message of a JSON object, escapes in place so that the pattern finds the line again.
fn message(line: &str) -> Option<&str> {
    let mut found: [Option<&str>; MESSAGE_FIELDS.len()] = Default::default();
    let mut rest = line.trim_start().strip_prefix('{')?.trim_start();
    while let Some((key, tail)) = json_string(rest) {
        let tail = tail.trim_start().strip_prefix(':')?.trim_start();
        rest = match json_string(tail) {
            Some((value, tail)) => {
                if let Some(place) = MESSAGE_FIELDS.iter().position(|name| *name == key) {
                    found[place].get_or_insert(value);
                }
                tail.trim_start()
            }
            None => skip_value(tail)?,
        };
        rest = rest.strip_prefix(',').unwrap_or("").trim_start();
    }
    found.into_iter().flatten().next()
}

/// A string at the head of `text`, quotes taken off, and what follows it.
fn json_string(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('"')?;
    let mut escaped = false;
    for (at, byte) in inner.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some((&inner[..at], &inner[at + 1..])),
            _ => {}
        }
    }
    None
}

/// What follows a number, a word, an array or an object: a comma or the end of the object around it.
fn skip_value(text: &str) -> Option<&str> {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => depth += 1,
            b'}' | b',' if depth == 0 => return Some(&text[at..]),
            b'}' | b']' => depth = depth.checked_sub(1)?,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn words(line: &str) -> Vec<String> {
        let tokens = Tokens::of_text(line).unwrap().tokens;
        tokens
            .into_iter()
            .map(|token| token.unwrap().into_owned())
            .collect()
    }

    #[test]
    fn punctuation_stands_alone_but_names_and_times_stay_whole() {
        assert_eq!(
            words("10:01:02.5 [rank-3] loss=0.5, lr<1e-3"),
            [
                "10:01:02.5",
                "[",
                "rank-3",
                "]",
                "loss",
                "=",
                "0.5",
                ",",
                "lr<1e-3"
            ]
        );
        assert_eq!(words("a“b” é"), ["a", "“", "b", "”", "é"]);
    }

    #[test]
    fn formats_are_guessed_by_one_line() {
        for (line, format) in [
            (r#"{"a":1}"#, Format::Json),
            (r#"level=info msg="hello world" n=1"#, Format::Logfmt),
            ("epoch 1 loss=0.5", Format::Text),
            ("a=1 b", Format::Text),
            ("x", Format::Text),
            ("", Format::Text),
        ] {
            assert_eq!(Format::of(line), format, "{line}");
        }
    }

    #[test]
    fn a_json_line_is_its_message() {
        let line = r#"{"level":"info","n":[1,{"msg":"no"}],"msg":"a \"b\" {c} d","content":"e"}"#;
        assert_eq!(message(line), Some(r#"a \"b\" {c} d"#));
        assert_eq!(message(r#"{"content":"x","log":"y"}"#), Some("y"));
        for none in [
            r#"{"a":1}"#,
            r#"{"msg":1}"#,
            "{",
            "{}",
            r#"{"msg":"#,
            r#"{"msg"}"#,
            r#"{"a":}"#,
        ] {
            assert_eq!(message(none), None, "{none}");
        }
        let tokens = Format::Json.tokens(r#"{"msg":"step 1 of 2"}"#).unwrap();
        assert_eq!(
            Format::Json.join(&tokens.tokens, &tokens.blanks),
            "<_>step 1 of 2<_>"
        );
    }

    #[test]
    fn logfmt_keeps_quotes_where_they_are_needed() {
        let line = r#"ts=2026 msg="a b" empty= n=null x=1"#;
        let tokens = Format::Logfmt.tokens(line).unwrap();
        let text = Format::Logfmt.join(&tokens.tokens, &tokens.blanks);
        assert_eq!(text, r#"ts=<_> msg="a b" empty= n="null" x=1"#);
        assert_eq!(Format::Logfmt.tokens(r#"a=1 b="2"#), None);
    }

    #[test]
    fn lines_that_say_too_little_or_too_much_have_no_pattern() {
        assert!(Format::Text.tokens("one two three").is_none());
        assert!(Format::Text.tokens("one two three four").is_some());
        assert!(Format::Text.tokens(&"a ".repeat(81)).is_none());
        assert!(Format::Text.tokens(&"a".repeat(MAX_LINE_BYTES + 1)).is_none());
    }

    #[test]
    fn placeholders_side_by_side_are_one() {
        assert_eq!(dedupe("<_><_> a <_><_><_>"), "<_> a <_>");
        assert_eq!(dedupe("<_> <_>"), "<_> <_>");
        assert_eq!(dedupe("a<_"), "a<_");
    }

    proptest! {
        #[test]
        fn text_comes_back_from_its_tokens(line in "[ a-z0-9=.,:\\[\\]é“→\t]{0,80}") {
            if let Some(tokens) = Tokens::of_text(&line) {
                prop_assert_eq!(join_text(&tokens.tokens, &tokens.blanks), line);
            }
        }

        #[test]
        fn no_line_makes_it_panic(line in ".{0,200}") {
            for format in [Format::Text, Format::Json, Format::Logfmt] {
                if let Some(tokens) = format.tokens(&line) {
                    let _ = format.join(&tokens.tokens, &tokens.blanks);
                }
            }
            let _ = message(&format!("{{{line}}}"));
            let _ = Format::of(&line);
        }
    }
}
