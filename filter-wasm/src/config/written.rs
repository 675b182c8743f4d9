//! How a configuration is written: the part of TOML that `rank_filter.toml` uses.
//!
//! `key = value`, one a line: strings, whole numbers, booleans, and lists of strings, which may take several lines. Which keys
//! there are is `config`'s business.

/// A value as it is written.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Number(u64),
    Switch(bool),
    List(Vec<String>),
}

/// A key with its value, or what is wrong with it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Statement<'a> {
    /// Line number in the file, from 1.
    pub line: usize,
    /// Empty where there is no key.
    pub key: &'a str,
    pub value: Result<Value, String>,
}

/// Takes the text apart; a mistake costs its own statement only.
pub(super) fn statements(text: &str) -> Vec<Statement<'_>> {
    let mut found = Vec::new();
    let mut rest = text;
    let mut line = 1;
    while !rest.is_empty() {
        let end = rest.find('\n').map_or(rest.len(), |at| at + 1);
        let (written, mut behind) = (rest[..end].trim(), &rest[end..]);
        if !written.is_empty() && !written.starts_with('#') {
            let (statement, left) = statement(line, written, rest, behind);
            found.push(statement);
            behind = left;
        }
        line += rest[..rest.len() - behind.len()].matches('\n').count();
        rest = behind;
    }
    found
}

/// The statement on the line `written`, with which `rest` begins; and what is left behind it.
fn statement<'a>(line: usize, written: &'a str, rest: &'a str, behind: &'a str) -> (Statement<'a>, &'a str) {
    let of = |key, value| Statement { line, key, value };
    if written.starts_with('[') {
        let message = format!(
            "`{}`: sections have no meaning here; keys stand by themselves",
            shortened(written)
        );
        return (of("", Err(message)), behind);
    }
    let Some((key, value)) = written.split_once('=') else {
        let message = format!("expected `key = value`, found `{}`", shortened(written));
        return (of("", Err(message)), behind);
    };
    let key = key.trim();
    if !value.trim_start().starts_with('[') {
        return (of(key, parse_value(value)), behind);
    }
    let inside = rest.find('[').map_or("", |at| &rest[at + 1..]);
    match parse_list(inside) {
        Ok((names, left)) => {
            let end = left.find('\n').map_or(left.len(), |at| at + 1);
            let value = at_end(&left[..end]).map(|()| Value::List(names));
            (of(key, value), &left[end..])
        }
        Err(message) => (of(key, Err(message)), next_key(behind)),
    }
}

/// From the first line on that has a key: what stands before it belongs to a list that can't be read.
fn next_key(mut rest: &str) -> &str {
    while let Some(first) = rest.lines().next() {
        let key = first.split_once('=').map_or("", |(key, _)| key.trim());
        if !key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
            break;
        }
        rest = rest.find('\n').map_or("", |at| &rest[at + 1..]);
    }
    rest
}

fn parse_value(written: &str) -> Result<Value, String> {
    let written = written.trim();
    if written.starts_with(['"', '\'']) {
        let (text, rest) = parse_text(written)?;
        return at_end(rest).map(|()| Value::Text(text));
    }
    let end = written
        .find(|c: char| c.is_whitespace() || c == '#')
        .unwrap_or(written.len());
    let (word, rest) = written.split_at(end);
    at_end(rest)?;
    Ok(match word {
        "true" => Value::Switch(true),
        "false" => Value::Switch(false),
        "" => return Err("the value is missing".into()),
        _ => Value::Number(word.replace('_', "").parse().map_err(|_| {
            format!(
                "`{}` is no value; expected a number, true, false, a string in quotes or a list of strings",
                shortened(word)
            )
        })?),
    })
}

/// Nothing but a comment may follow a value.
fn at_end(rest: &str) -> Result<(), String> {
    let rest = rest.trim();
    if rest.is_empty() || rest.starts_with('#') {
        Ok(())
    } else {
        Err(format!("unexpected `{}` behind the value", shortened(rest)))
    }
}

/// The strings of a list, from behind its `[`; and what stands behind its `]`.
fn parse_list(mut rest: &str) -> Result<(Vec<String>, &str), String> {
    let mut names = Vec::new();
    loop {
        rest = skip_comments(rest);
        if let Some(behind) = rest.strip_prefix(']') {
            return Ok((names, behind));
        }
        if rest.is_empty() {
            return Err("the list has no end; close it with `]`".into());
        }
        let (text, behind) = parse_text(rest)?;
        names.push(text);
        rest = skip_comments(behind);
        rest = match rest.strip_prefix(',') {
            Some(more) => more,
            None if rest.starts_with(']') => rest,
            None => return Err("expected `,` or `]` behind a string of the list".into()),
        };
    }
}

fn skip_comments(mut rest: &str) -> &str {
    loop {
        rest = rest.trim_start();
        if !rest.starts_with('#') {
            return rest;
        }
        rest = rest.find('\n').map_or("", |at| &rest[at..]);
    }
}

fn parse_text(written: &str) -> Result<(String, &str), String> {
    let quote = written
        .chars()
        .next()
        .filter(|c| matches!(c, '"' | '\''))
        .ok_or("expected a string in quotes")?;
    let mut text = String::new();
    let mut characters = written[1..].char_indices();
    while let Some((at, character)) = characters.next() {
        if character == quote {
            return Ok((text, &written[at + 2..]));
        }
        if character == '\n' {
            break;
        }
        if character != '\\' || quote == '\'' {
            text.push(character);
            continue;
        }
        match characters.next() {
            Some((_, 'n')) => text.push('\n'),
            Some((_, 't')) => text.push('\t'),
            Some((_, same @ ('"' | '\\'))) => text.push(same),
            _ => return Err("unknown escape in a string; use single quotes for literal text".into()),
        }
    }
    Err("a string must end on its own line".into())
}

/// At most the first 60 characters, for messages.
pub(super) fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_may_take_several_lines() {
        let text = "a = [ # first\n  'x#', # one\n\n  \"y\\n\",\n] # end\nb = 1_000\n";
        let found = statements(text);
        let list = Value::List(vec!["x#".into(), "y\n".into()]);
        assert_eq!(
            found,
            [
                Statement {
                    line: 1,
                    key: "a",
                    value: Ok(list)
                },
                Statement {
                    line: 6,
                    key: "b",
                    value: Ok(Value::Number(1000))
                },
            ]
        );
    }

    #[test]
    fn a_mistake_costs_its_own_statement() {
        let text = "a = ['x'\n 'y'\n]\nb = 'é\n[c]\nd\ne =\nf = [\n'x',\n";
        let found: Vec<_> = statements(text)
            .into_iter()
            .map(|found| (found.line, found.key.to_owned(), found.value.unwrap_err()))
            .collect();
        let said: Vec<_> = found
            .iter()
            .map(|(line, key, message)| (*line, key.as_str(), message.as_str()))
            .collect();
        assert_eq!(
            said,
            [
                (1, "a", "expected `,` or `]` behind a string of the list"),
                (4, "b", "a string must end on its own line"),
                (
                    5,
                    "",
                    "`[c]`: sections have no meaning here; keys stand by themselves"
                ),
                (6, "", "expected `key = value`, found `d`"),
                (7, "e", "the value is missing"),
                (8, "f", "the list has no end; close it with `]`"),
            ]
        );
    }
}
