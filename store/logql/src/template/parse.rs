//! Template text to nodes.

mod operand;

use std::collections::HashMap;

use super::tree::{Base, Command, Node, Pipe};
use crate::text::quote_go;

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
}

/// Whether nodes are nothing but blanks.
fn is_empty(nodes: &[Node]) -> bool {
    let blank = |node: &Node| matches!(node, Node::Text(text) if text.trim().is_empty());
    nodes.iter().all(blank)
}
