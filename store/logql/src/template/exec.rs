//! Running templates. The rules are those of Go's `text/template`, down to the node an error names: the last one that
//! was looked at.

use std::borrow::Cow;

use super::signature::{Kind, Signature, signature};
use super::tree::{Base, Command, Node, Operand, Pipe};
use super::value::Value;
use super::{Context, Template, funcs, time};
use crate::text::quote_go;

/// Bytes a template may write.
const MAX_OUTPUT: usize = 4 << 20;
/// Nodes a template may run.
const MAX_STEPS: usize = 200_000;
/// Blocks and templates within each other.
const MAX_DEPTH: usize = 100;

/// Runs a template and gives its output.
pub(super) fn execute(template: &Template, context: &dyn Context) -> Result<Vec<u8>, String> {
    let mut run = Run {
        template,
        name: template.name,
        context,
        out: Vec::new(),
        variables: vec![("$".to_owned(), Value::Labels)],
        steps: 0,
        depth: 0,
        node: (0, Cow::Borrowed("")),
    };
    run.nodes(&template.root, &Value::Labels)?;
    Ok(run.out)
}

struct Run<'a> {
    template: &'a Template,
    /// Of the template that runs: the whole, or a defined one.
    name: &'a str,
    context: &'a dyn Context,
    out: Vec<u8>,
    variables: Vec<(String, Value<'a>)>,
    steps: usize,
    depth: usize,
    /// Position and text of the node that errors name.
    node: (usize, Cow<'a, str>),
}

/// How a list of nodes ended.
#[derive(PartialEq, Eq)]
enum Flow {
    On,
    Break,
    Continue,
}

impl<'a> Run<'a> {
    /// An error at the current node, in Go's words.
    fn error(&self, message: impl AsRef<str>) -> String {
        let (at, text) = &self.node;
        let before = self.template.text.get(..*at).unwrap_or("");
        let line = before.matches('\n').count() + 1;
        let column = before.rfind('\n').map_or(*at, |newline| at - newline - 1);
        format!(
            "template: {}:{line}:{column}: executing {} at <{text}>: {}",
            self.template.name,
            quote_go(self.name),
            message.as_ref()
        )
    }

    fn at(&mut self, at: usize, text: &'a str) {
        self.node = (at, Cow::Borrowed(text));
    }

    fn nodes(&mut self, nodes: &'a [Node], dot: &Value<'a>) -> Result<Flow, String> {
        if self.depth >= MAX_DEPTH {
            return Err(format!(
                "template: {}: exceeded maximum template depth ({MAX_DEPTH})",
                self.template.name
            ));
        }
        self.depth += 1;
        let flow = self.each(nodes, dot);
        self.depth -= 1;
        flow
    }

    fn each(&mut self, nodes: &'a [Node], dot: &Value<'a>) -> Result<Flow, String> {
        for node in nodes {
            self.steps += 1;
            if self.steps > MAX_STEPS || self.out.len() > MAX_OUTPUT {
                return Err(format!(
                    "template: {}: the template does too much",
                    self.template.name
                ));
            }
            let flow = self.node(node, dot)?;
            if flow != Flow::On {
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    fn node(&mut self, node: &'a Node, dot: &Value<'a>) -> Result<Flow, String> {
        match node {
            Node::Text(text) => self.out.extend_from_slice(text.as_bytes()),
            Node::Action(pipe) => {
                let value = self.pipe(pipe, dot)?;
                if pipe.variables.is_empty() {
                    self.print(&value);
                }
            }
            Node::If {
                pipe,
                then,
                otherwise,
            }
            | Node::With {
                pipe,
                then,
                otherwise,
            } => {
                let scope = self.variables.len();
                let value = self.pipe(pipe, dot)?;
                let changes_dot = matches!(node, Node::With { .. });
                let flow = match (self.is_true(&value), changes_dot) {
                    (true, true) => self.nodes(then, &value)?,
                    (true, false) => self.nodes(then, dot)?,
                    (false, _) => self.nodes(otherwise, dot)?,
                };
                self.variables.truncate(scope);
                return Ok(flow);
            }
            Node::Range {
                pipe,
                body,
                otherwise,
            } => return self.range(pipe, body, otherwise, dot),
            Node::Call { name, pipe, at } => self.call(name, pipe.as_ref(), *at, dot)?,
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    fn is_true(&self, value: &Value<'_>) -> bool {
        match value {
            Value::Labels => !self.context.labels().is_empty(),
            value => value.is_true(),
        }
    }

    fn print(&mut self, value: &Value<'_>) {
        match value {
            Value::Nil => self.out.extend_from_slice(b"<no value>"),
            Value::Labels => self.context_map().print(&mut self.out),
            value => value.print(&mut self.out),
        }
    }

    /// All labels as a map, for functions that take the dot.
    fn context_map(&self) -> Value<'a> {
        let labels = self.context.labels().into_iter();
        Value::Map(
            labels
                .map(|(name, value)| (name.to_owned(), Value::borrowed(value)))
                .collect(),
        )
    }

    fn call(
        &mut self,
        name: &'a str,
        pipe: Option<&'a Pipe>,
        at: usize,
        dot: &Value<'a>,
    ) -> Result<(), String> {
        let argument = pipe.map(|pipe| format!(" {}", pipe.text)).unwrap_or_default();
        self.node = (
            at,
            Cow::Owned(format!("{{{{template {}{argument}}}}}", quote_go(name))),
        );
        let Some(body) = self.template.defined.get(name) else {
            return Err(self.error(format!("template {} not defined", quote_go(name))));
        };
        let inner = match pipe {
            Some(pipe) => self.pipe(pipe, dot)?,
            None => Value::Nil,
        };
        let variables = std::mem::replace(&mut self.variables, vec![("$".to_owned(), inner.clone())]);
        let outer = std::mem::replace(&mut self.name, name);
        let result = self.nodes(body, &inner);
        self.variables = variables;
        self.name = outer;
        result.map(|_| ())
    }

    fn range(
        &mut self,
        pipe: &'a Pipe,
        body: &'a [Node],
        otherwise: &'a [Node],
        dot: &Value<'a>,
    ) -> Result<Flow, String> {
        let scope = self.variables.len();
        let value = self.commands(pipe, dot)?;
        let items = self.items(value, pipe.variables.len())?;
        if items.is_empty() {
            let flow = self.nodes(otherwise, dot)?;
            self.variables.truncate(scope);
            return Ok(flow);
        }
        for (key, item) in items {
            self.variables.truncate(scope);
            match pipe.variables.as_slice() {
                [one] => self.set(one, item.clone(), pipe.declares),
                [first, second, ..] => {
                    self.set(first, key, pipe.declares);
                    self.set(second, item.clone(), pipe.declares);
                }
                [] => {}
            }
            if self.nodes(body, &item)? == Flow::Break {
                break;
            }
        }
        self.variables.truncate(scope);
        Ok(Flow::On)
    }

    /// What `range` goes over: keys and values.
    fn items(&self, value: Value<'a>, variables: usize) -> Result<Vec<(Value<'a>, Value<'a>)>, String> {
        if let Some(count) = value.integer() {
            if variables > 1 {
                return Err(self.error(format!(
                    "can't use {count} to iterate over more than one variable"
                )));
            }
            // More than the steps that are left could not be run.
            let count = count.clamp(0, i64::try_from(MAX_STEPS).unwrap_or(i64::MAX));
            return Ok((0..count).map(|i| (Value::Nil, Value::Int(i))).collect());
        }
        Ok(match value {
            Value::List(list) => (0_i64..).map(Value::Int).zip(list).collect(),
            Value::Map(map) => {
                let pairs = map.into_iter();
                pairs.map(|(key, value)| (Value::text(key), value)).collect()
            }
            Value::Labels => {
                let own = |(name, value)| (Value::borrowed(name), Value::borrowed(value));
                self.context.labels().into_iter().map(own).collect()
            }
            Value::Nil => Vec::new(),
            other => {
                let shown = other.to_bytes();
                let shown = String::from_utf8_lossy(&shown);
                return Err(self.error(format!("range can't iterate over {shown}")));
            }
        })
    }

    fn set(&mut self, name: &str, value: Value<'a>, declares: bool) {
        if !declares
            && let Some((_, place)) = self.variables.iter_mut().rev().find(|(other, _)| other == name)
        {
            *place = value;
            return;
        }
        self.variables.push((name.to_owned(), value));
    }

    fn pipe(&mut self, pipe: &'a Pipe, dot: &Value<'a>) -> Result<Value<'a>, String> {
        let value = self.commands(pipe, dot)?;
        for name in &pipe.variables {
            self.set(name, value.clone(), pipe.declares);
        }
        Ok(value)
    }

    fn commands(&mut self, pipe: &'a Pipe, dot: &Value<'a>) -> Result<Value<'a>, String> {
        self.at(pipe.at, &pipe.text);
        let mut last = None;
        for command in &pipe.commands {
            last = Some(self.command(command, dot, last)?);
        }
        Ok(last.unwrap_or(Value::Nil))
    }

    fn command(
        &mut self,
        command: &'a Command,
        dot: &Value<'a>,
        last: Option<Value<'a>>,
    ) -> Result<Value<'a>, String> {
        let Some(first) = command.operands.first() else {
            return Ok(Value::Nil);
        };
        let rest = command.operands.get(1..).unwrap_or(&[]);
        let gives_arguments = !rest.is_empty() || last.is_some();
        match (&first.base, first.fields.is_empty()) {
            (Base::Function(name), true) => {
                self.at(first.at, &first.text);
                self.function(name, (command.at, &command.text), rest, dot, last)
            }
            (Base::Dot, false) | (_, false) => {
                let base = self.base(first, dot)?;
                self.chain(first, base, rest, dot, last)
            }
            (base, true) => {
                if !matches!(base, Base::Pipe(_)) {
                    self.at(first.at, &first.text);
                }
                if gives_arguments {
                    return Err(self.error(format!("can't give argument to non-function {}", first.text)));
                }
                match base {
                    Base::Nil => Err(self.error("nil is not a command")),
                    _ => self.base(first, dot),
                }
            }
        }
    }

    /// A call. `place` is what an error of the function itself names.
    fn function(
        &mut self,
        name: &'a str,
        place: (usize, &'a str),
        rest: &'a [Operand],
        dot: &Value<'a>,
        last: Option<Value<'a>>,
    ) -> Result<Value<'a>, String> {
        let signature = signature(name);
        self.count(name, &signature, rest.len(), last.is_some())?;
        if name == "and" || name == "or" {
            return self.shortcut(name == "or", rest, dot, last);
        }
        let mut arguments = Vec::with_capacity(rest.len() + 1);
        for (index, operand) in rest.iter().enumerate() {
            arguments.push(self.argument(operand, signature.kind(index), dot)?);
        }
        if let Some(last) = last {
            let kind = signature.kind(arguments.len());
            arguments.push(self.fit(last, kind)?);
        }
        match name {
            "__line__" => return Ok(Value::borrowed(self.context.line())),
            "__timestamp__" => return Ok(Value::Time(self.context.timestamp())),
            "call" => {
                let shown = rest.first().map_or("", |operand| operand.text.as_str());
                let message = match arguments.first() {
                    None | Some(Value::Nil) => "call of nil".to_owned(),
                    Some(value) => format!("non-function {shown} of type {}", value.type_name()),
                };
                self.at(place.0, place.1);
                return Err(self.error(format!("error calling call: {message}")));
            }
            _ => {}
        }
        funcs::call(name, arguments, self.context).map_err(|failure| {
            let (funcs::Failure::Usage(message) | funcs::Failure::Call(message)) = failure;
            self.at(place.0, place.1);
            self.error(format!("error calling {name}: {message}"))
        })
    }

    /// Checks the number of arguments.
    fn count(&self, name: &str, signature: &Signature, given: usize, piped: bool) -> Result<(), String> {
        let got = given + usize::from(piped);
        let want = signature.fixed.len();
        if signature.variadic.is_some() {
            if got < want {
                return Err(self.error(format!(
                    "wrong number of args for {name}: want at least {want} got {given}"
                )));
            }
        } else if got != want {
            return Err(self.error(format!("wrong number of args for {name}: want {want} got {got}")));
        }
        Ok(())
    }

    /// `and` and `or` stop at the first argument that decides.
    fn shortcut(
        &mut self,
        stops_at: bool,
        rest: &'a [Operand],
        dot: &Value<'a>,
        last: Option<Value<'a>>,
    ) -> Result<Value<'a>, String> {
        let mut value = Value::Nil;
        for operand in rest {
            value = self.argument(operand, Kind::Value, dot)?;
            if self.is_true(&value) == stops_at {
                return Ok(value);
            }
        }
        Ok(last.unwrap_or(value))
    }

    /// An argument where a function wants `kind`.
    fn argument(&mut self, operand: &'a Operand, kind: Kind, dot: &Value<'a>) -> Result<Value<'a>, String> {
        match &operand.base {
            Base::Pipe(pipe) if operand.fields.is_empty() => self.at(pipe.at, &pipe.text),
            _ => self.at(operand.at, &operand.text),
        }
        if operand.fields.is_empty() {
            let found = &operand.text;
            return match (&operand.base, kind) {
                (Base::Nil, Kind::Any | Kind::Value) => Ok(Value::Nil),
                (Base::Nil, kind) => Err(self.error(format!("cannot assign nil to {}", kind.name()))),
                (Base::Str(_) | Base::Number(_) | Base::Bool(_), Kind::Time) => {
                    Err(self.error(format!("can't handle {found} for arg of type time.Time")))
                }
                (Base::Str(text), Kind::Str) => Ok(Value::Str(Cow::Borrowed(text.as_bytes()))),
                (Base::Number(number), Kind::Int) if number.int.is_some() => {
                    Ok(Value::Int(number.int.unwrap_or(0)))
                }
                (Base::Number(number), Kind::Float) => Ok(Value::Float(number.float)),
                (Base::Number(_) | Base::Bool(_), Kind::Str) => {
                    Err(self.error(format!("expected string; found {found}")))
                }
                (Base::Str(_) | Base::Number(_) | Base::Bool(_), Kind::Int) => {
                    Err(self.error(format!("expected integer; found {found}")))
                }
                (Base::Str(_) | Base::Bool(_), Kind::Float) => {
                    Err(self.error(format!("expected float; found {found}")))
                }
                (Base::Function(name), kind) => {
                    let value = self.function(name, (operand.at, found), &[], dot, None)?;
                    self.fit(value, kind)
                }
                (_, kind) => {
                    let value = self.base(operand, dot)?;
                    self.fit(value, kind)
                }
            };
        }
        let base = self.base(operand, dot)?;
        let value = self.chain(operand, base, &[], dot, None)?;
        self.fit(value, kind)
    }

    /// The value as an argument of `kind`.
    fn fit(&self, value: Value<'a>, kind: Kind) -> Result<Value<'a>, String> {
        let fits = match kind {
            Kind::Any | Kind::Value => true,
            Kind::Str => matches!(value, Value::Str(_)),
            Kind::Int => matches!(value, Value::Int(_)),
            Kind::Float => matches!(value, Value::Float(_)),
            Kind::Time => matches!(value, Value::Time(_)),
        };
        if kind == Kind::Any && value == Value::Labels {
            return Ok(self.context_map());
        }
        if fits {
            return Ok(value);
        }
        let expected = kind.name();
        Err(self.error(match value {
            Value::Nil => format!("invalid value; expected {expected}"),
            value => format!(
                "wrong type for value; expected {expected}; got {}",
                value.type_name()
            ),
        }))
    }

    /// The value an operand starts with, before its fields.
    fn base(&mut self, operand: &'a Operand, dot: &Value<'a>) -> Result<Value<'a>, String> {
        let chained = !operand.fields.is_empty();
        if chained {
            self.at(operand.at, &operand.text);
        }
        Ok(match &operand.base {
            Base::Dot => dot.clone(),
            Base::Variable(name) => {
                let found = self.variables.iter().rev().find(|(other, _)| other == name);
                found.map_or(Value::Nil, |(_, value)| value.clone())
            }
            Base::Function(name) => {
                // In front of a field the function stands alone, and is named alone.
                let start = operand.at.saturating_sub(name.len());
                self.at(if chained { start } else { operand.at }, name);
                self.function(
                    name,
                    (if chained { start } else { operand.at }, name),
                    &[],
                    dot,
                    None,
                )?
            }
            Base::Nil if chained => {
                return Err(self.error(format!("indirection through explicit nil in {}", operand.text)));
            }
            Base::Nil => Value::Nil,
            Base::Bool(value) => Value::Bool(*value),
            Base::Number(number) => match number.int {
                _ if number.is_float => Value::Float(number.float),
                Some(value) => Value::Int(value),
                None => return Err(self.error(format!("{} overflows int", operand.text))),
            },
            Base::Str(text) => Value::Str(Cow::Borrowed(text.as_bytes())),
            Base::Pipe(pipe) => self.pipe(pipe, dot)?,
        })
    }

    /// The fields behind a base; the last one may be a method that takes arguments.
    fn chain(
        &mut self,
        operand: &'a Operand,
        base: Value<'a>,
        rest: &'a [Operand],
        dot: &Value<'a>,
        last: Option<Value<'a>>,
    ) -> Result<Value<'a>, String> {
        let mut value = base;
        // What is nothing at all has no fields, and that is no error; a null inside a value is one.
        if value == Value::Nil {
            return Ok(Value::Nil);
        }
        let (Some(final_field), inner) = (operand.fields.last(), operand.fields.len().saturating_sub(1))
        else {
            return Ok(value);
        };
        for field in operand.fields.iter().take(inner) {
            value = self.field(value, field, false)?;
        }
        if let (Value::Time(ts), "Format") = (&value, final_field.as_str()) {
            let ts = *ts;
            let signature = Signature::of(&[Kind::Str], None);
            self.count(final_field, &signature, rest.len(), last.is_some())?;
            let layout = match (rest.first(), last) {
                (Some(operand), _) => self.argument(operand, Kind::Str, dot)?,
                (None, last) => self.fit(last.unwrap_or(Value::Nil), Kind::Str)?,
            };
            let layout = String::from_utf8_lossy(&layout.to_bytes()).into_owned();
            return Ok(Value::text(time::format(ts, &layout)));
        }
        self.field(value, final_field, !rest.is_empty() || last.is_some())
    }

    fn field(&self, value: Value<'a>, field: &str, has_arguments: bool) -> Result<Value<'a>, String> {
        match value {
            Value::Labels | Value::Map(_) if has_arguments => {
                Err(self.error(format!("{field} is not a method but has arguments")))
            }
            // The zero value stands for a label that is not there.
            Value::Labels => Ok(Value::borrowed(self.context.label(field).unwrap_or(""))),
            Value::Map(mut map) => Ok(map.remove(field).unwrap_or(Value::Nil)),
            Value::Time(ts) => time::method(ts, field)
                .ok_or_else(|| self.error(format!("can't evaluate field {field} in type time.Time"))),
            Value::Nil => Err(self.error(format!("nil pointer evaluating interface {{}}.{field}"))),
            other => Err(self.error(format!(
                "can't evaluate field {field} in type {}",
                other.type_name()
            ))),
        }
    }
}
