//! Template text to nodes.

use std::collections::HashMap;

use super::funcs;
use super::tree::{Base, Command, Node, Number, Operand, Pipe};
use crate::text::{quote_go, unquote_escapes};

/// How deep blocks and parentheses may nest.
const MAX_DEPTH: usize = 64;

type Parsed = (Vec<Node>, HashMap<String, Vec<Node>>);

/// Parses a whole template.
pub(super) fn parse(name: &'static str, text: &str) -> Result<Parsed, String> {
    let mut parser = Parser {
        name,
        text,
        at: 0,
        trim_next: false,
        depth: 0,
        variables: vec!["$".to_owned()],
        defined: HashMap::new(),
        in_range: 0,
        inside: false,
    };
    let (root, end) = parser.list()?;
    match end {
        Stop::Eof => Ok((root, parser.defined)),
        Stop::Closed => Err(parser.error("unexpected {{end}}")),
        Stop::Else(_) => Err(parser.error("unexpected {{else}}")),
    }
}

enum Stop {
    Eof,
    Closed,
    /// `{{else}}`, or the pipe of `{{else if …}}`.
    Else(Option<(&'static str, Pipe)>),
}

struct Parser<'a> {
    name: &'static str,
    text: &'a str,
    at: usize,
    /// The action before ended with `-}}`.
    trim_next: bool,
    depth: usize,
    variables: Vec<String>,
    defined: HashMap<String, Vec<Node>>,
    in_range: usize,
    /// Inside a block: templates can't be defined there.
    inside: bool,
}

impl<'a> Parser<'a> {
    fn error(&self, message: impl AsRef<str>) -> String {
        let line = self.text.get(..self.at).unwrap_or("").matches('\n').count() + 1;
        format!("template: {}:{line}: {}", self.name, message.as_ref())
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn nested<T>(&mut self, body: impl FnOnce(&mut Self) -> Result<T, String>) -> Result<T, String> {
        if self.depth >= MAX_DEPTH {
            return Err(self.error("the template nests too deep"));
        }
        self.depth += 1;
        let result = body(self);
        self.depth -= 1;
        result
    }

    /// Nodes up to `end`, `else` or the end of the text.
    fn list(&mut self) -> Result<(Vec<Node>, Stop), String> {
        let mut nodes = Vec::new();
        loop {
            let rest = self.rest();
            let open = rest.find("{{");
            let mut text = rest.get(..open.unwrap_or(rest.len())).unwrap_or("");
            if self.trim_next {
                text = text.trim_start();
                self.trim_next = false;
            }
            let Some(open) = open else {
                if !text.is_empty() {
                    nodes.push(Node::Text(text.to_owned()));
                }
                self.at = self.text.len();
                return Ok((nodes, Stop::Eof));
            };
            self.at += open + 2;
            let trims = self
                .rest()
                .strip_prefix('-')
                .is_some_and(|rest| rest.starts_with(char::is_whitespace));
            if trims {
                self.at += 1;
                text = text.trim_end();
            }
            if !text.is_empty() {
                nodes.push(Node::Text(text.to_owned()));
            }
            self.skip_blank();
            if self.rest().starts_with("/*") {
                self.comment()?;
                continue;
            }
            if let Some(end) = self.action(&mut nodes)? {
                return Ok((nodes, end));
            }
        }
    }

    fn comment(&mut self) -> Result<(), String> {
        let end = self
            .rest()
            .find("*/")
            .ok_or_else(|| self.error("unclosed comment"))?;
        self.at += end + 2;
        self.close("comment ends before closing delimiter")
    }

    fn skip_blank(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    /// Takes `}}` or ` -}}`.
    fn take_close(&mut self) -> bool {
        self.skip_blank();
        if self.rest().starts_with("-}}") {
            self.at += 3;
            self.trim_next = true;
            return true;
        }
        let found = self.rest().starts_with("}}");
        if found {
            self.at += 2;
        }
        found
    }

    fn close(&mut self, message: &str) -> Result<(), String> {
        if self.take_close() {
            Ok(())
        } else {
            Err(self.error(message))
        }
    }

    fn close_action(&mut self, what: &str) -> Result<(), String> {
        if self.take_close() {
            return Ok(());
        }
        if self.rest().is_empty() {
            return Err(self.error("unclosed action"));
        }
        let found: String = self.rest().chars().take(1).collect();
        Err(self.error(format!("unexpected {} in {what}", quote_go(&found))))
    }

    fn peek_word(&self) -> &'a str {
        let rest = self.rest();
        let end = rest
            .find(|c: char| !(c == '_' || c.is_alphanumeric()))
            .unwrap_or(rest.len());
        rest.get(..end).unwrap_or("")
    }

    fn action(&mut self, nodes: &mut Vec<Node>) -> Result<Option<Stop>, String> {
        let word = self.peek_word();
        let keyword = matches!(
            word,
            "if" | "with" | "range" | "end" | "else" | "define" | "block" | "template" | "break" | "continue"
        );
        if keyword {
            self.at += word.len();
        }
        match word {
            "if" | "with" | "range" => nodes.push(self.nested(|parser| parser.control(word))?),
            "end" => {
                self.close_action("end")?;
                return Ok(Some(Stop::Closed));
            }
            "else" => {
                self.skip_blank();
                let next = self.peek_word();
                if next == "if" || next == "with" {
                    self.at += next.len();
                    let pipe = self.pipe(next)?;
                    return Ok(Some(Stop::Else(Some((
                        if next == "if" { "if" } else { "with" },
                        pipe,
                    )))));
                }
                self.close_action("else")?;
                return Ok(Some(Stop::Else(None)));
            }
            "define" if self.inside => return Err(self.error("unexpected <define> in command")),
            "define" | "block" => {
                let call = self.nested(|parser| parser.define(word == "block"))?;
                nodes.extend(call);
            }
            "template" => {
                self.skip_blank();
                let at = self.at;
                let name = self.quoted_name("template clause")?;
                let pipe = if self.take_close() {
                    None
                } else {
                    Some(self.pipe("template clause")?)
                };
                nodes.push(Node::Call { name, pipe, at });
            }
            "break" | "continue" => {
                if self.in_range == 0 {
                    return Err(self.error(format!("{{{{{word}}}}} outside {{{{range}}}}")));
                }
                self.close_action(word)?;
                nodes.push(if word == "break" {
                    Node::Break
                } else {
                    Node::Continue
                });
            }
            _ => nodes.push(Node::Action(self.pipe("command")?)),
        }
        Ok(None)
    }

    fn quoted_name(&mut self, what: &str) -> Result<String, String> {
        self.skip_blank();
        match self.string_literal()? {
            Some(name) => Ok(name),
            None => Err(self.error(format!("unexpected token in {what}"))),
        }
    }

    fn define(&mut self, is_block: bool) -> Result<Option<Node>, String> {
        let at = self.at;
        let what = if is_block { "block clause" } else { "define clause" };
        let name = self.quoted_name(what)?;
        let pipe = if is_block {
            Some(self.pipe(what)?)
        } else {
            self.close_action(what)?;
            None
        };
        let variables = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let outer = std::mem::replace(&mut self.inside, true);
        let (body, end) = self.list()?;
        self.inside = outer;
        self.variables = variables;
        if !matches!(end, Stop::Closed) {
            return Err(self.error(format!("unexpected EOF in {what}")));
        }
        if !is_empty(&body) {
            if self.defined.get(&name).is_some_and(|known| !is_empty(known)) {
                let name = quote_go(&name);
                return Err(self.error(format!("template: multiple definition of template {name}")));
            }
            self.defined.insert(name.clone(), body);
        } else {
            self.defined.entry(name.clone()).or_insert(body);
        }
        Ok(is_block.then_some(Node::Call { name, pipe, at }))
    }

    fn control(&mut self, word: &str) -> Result<Node, String> {
        let scope = self.variables.len();
        let pipe = self.pipe(word)?;
        let node = self.control_body(word, pipe)?;
        self.variables.truncate(scope);
        Ok(node)
    }

    fn control_body(&mut self, word: &str, pipe: Pipe) -> Result<Node, String> {
        let outer = std::mem::replace(&mut self.inside, true);
        let node = self.branches(word, pipe);
        self.inside = outer;
        node
    }

    fn branches(&mut self, word: &str, pipe: Pipe) -> Result<Node, String> {
        let loops = usize::from(word == "range");
        self.in_range += loops;
        let (then, end) = self.list()?;
        self.in_range -= loops;
        let otherwise = match end {
            Stop::Closed => Vec::new(),
            Stop::Eof => return Err(self.error("unexpected EOF")),
            Stop::Else(Some((word, pipe))) => {
                vec![self.nested(|parser| parser.control_body(word, pipe))?]
            }
            Stop::Else(None) => {
                let (otherwise, end) = self.list()?;
                match end {
                    Stop::Closed => otherwise,
                    Stop::Eof => return Err(self.error("unexpected EOF")),
                    Stop::Else(_) => return Err(self.error("expected end; found {{else}}")),
                }
            }
        };
        Ok(match word {
            "if" => Node::If {
                pipe,
                then,
                otherwise,
            },
            "with" => Node::With {
                pipe,
                then,
                otherwise,
            },
            _ => Node::Range {
                pipe,
                body: then,
                otherwise,
            },
        })
    }

    /// A pipeline and the closing delimiter.
    fn pipe(&mut self, what: &str) -> Result<Pipe, String> {
        let pipe = self.pipe_until(what, false)?;
        self.close_action(what)?;
        Ok(pipe)
    }

    fn at_end(&self, in_parentheses: bool) -> bool {
        let rest = self.rest();
        if in_parentheses {
            rest.starts_with(')')
        } else {
            rest.starts_with("}}") || rest.starts_with("-}}")
        }
    }

    fn pipe_until(&mut self, what: &str, in_parentheses: bool) -> Result<Pipe, String> {
        self.skip_blank();
        let mut pipe = Pipe {
            variables: Vec::new(),
            declares: false,
            commands: Vec::new(),
            at: self.at,
            text: String::new(),
        };
        self.declarations(&mut pipe, what)?;
        loop {
            self.skip_blank();
            if self.at_end(in_parentheses) {
                if pipe.commands.is_empty() {
                    return Err(self.error(format!("missing value for {what}")));
                }
                break;
            }
            if self.rest().is_empty() {
                return Err(self.error("unclosed action"));
            }
            let command = self.command(what, in_parentheses)?;
            if !pipe.commands.is_empty() {
                let first = command.operands.first();
                let executes = first.is_some_and(|operand| {
                    matches!(
                        operand.base,
                        Base::Function(_) | Base::Pipe(_) | Base::Variable(_)
                    ) || !operand.fields.is_empty()
                });
                if !executes {
                    let stage = pipe.commands.len() + 1;
                    return Err(self.error(format!("non executable command in pipeline stage {stage}")));
                }
            }
            pipe.commands.push(command);
        }
        self.variables
            .extend(pipe.variables.iter().filter(|_| pipe.declares).cloned());
        let commands: Vec<&str> = pipe
            .commands
            .iter()
            .map(|command| command.text.as_str())
            .collect();
        let sets = match pipe.variables.join(", ") {
            names if names.is_empty() => names,
            names if pipe.declares => format!("{names} := "),
            names => format!("{names} = "),
        };
        pipe.text = format!("{sets}{}", commands.join(" | "));
        Ok(pipe)
    }

    /// `$x :=`, `$x =`, `$i, $v :=`.
    fn declarations(&mut self, pipe: &mut Pipe, what: &str) -> Result<(), String> {
        self.skip_blank();
        let start = self.at;
        let mut names = Vec::new();
        loop {
            self.skip_blank();
            let Some(body) = self.rest().strip_prefix('$') else {
                break;
            };
            let length = body
                .find(|c: char| !(c == '_' || c.is_alphanumeric()))
                .unwrap_or(body.len());
            names.push(self.rest().get(..=length).unwrap_or("$").to_owned());
            self.at += length + 1;
            self.skip_blank();
            if what == "range" && names.len() == 1 && self.rest().starts_with(',') {
                self.at += 1;
                continue;
            }
            let declares = self.rest().starts_with(":=");
            if declares || self.rest().starts_with('=') {
                self.at += if declares { 2 } else { 1 };
                if !declares && names.iter().any(|name| !self.variables.contains(name)) {
                    return Err(self.error(format!(
                        "undefined variable {}",
                        quote_go(names.first().map_or("", |n| n))
                    )));
                }
                pipe.variables = names;
                pipe.declares = declares;
                return Ok(());
            }
            break;
        }
        self.at = start;
        Ok(())
    }

    fn command(&mut self, what: &str, in_parentheses: bool) -> Result<Command, String> {
        let at = self.at;
        let mut operands = Vec::new();
        loop {
            self.skip_blank();
            if self.at_end(in_parentheses) {
                break;
            }
            if self.rest().starts_with('|') {
                self.at += 1;
                break;
            }
            match self.operand()? {
                Some(operand) => {
                    operands.push(operand);
                    self.check_operand_end()?;
                }
                None => {
                    let found: String = self.rest().chars().take(1).collect();
                    if found.is_empty() {
                        return Err(self.error("unclosed action"));
                    }
                    return Err(self.error(format!("unexpected {} in {what}", quote_go(&found))));
                }
            }
        }
        if operands.is_empty() {
            return Err(self.error("empty command"));
        }
        let text = operands
            .iter()
            .map(|operand| operand.text.as_str())
            .collect::<Vec<_>>()
            .join(" ");
        Ok(Command { operands, at, text })
    }

    /// An operand is followed by a blank, a pipe or the end of the command.
    fn check_operand_end(&self) -> Result<(), String> {
        let rest = self.rest();
        let ends =
            rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n', '|', ')']) || rest.starts_with("}}");
        if ends {
            return Ok(());
        }
        let found: String = rest.chars().take(1).collect();
        Err(self.error(format!("unexpected {} in operand", quote_go(&found))))
    }

    fn operand(&mut self) -> Result<Option<Operand>, String> {
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
            None => Err(self.error(format!("bad number syntax: {}", quote_go(text)))),
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

    fn string_literal(&mut self) -> Result<Option<String>, String> {
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

/// Whether nodes are nothing but blanks.
fn is_empty(nodes: &[Node]) -> bool {
    let blank = |node: &Node| matches!(node, Node::Text(text) if text.trim().is_empty());
    nodes.iter().all(blank)
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
