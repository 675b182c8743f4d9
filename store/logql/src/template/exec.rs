//! Running templates.

use std::borrow::Cow;

use super::tree::{Base, Command, Node, Operand, Pipe};
use super::value::Value;
use super::{Context, Template, funcs, time};

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
        context,
        out: Vec::new(),
        variables: Vec::new(),
        steps: 0,
        depth: 0,
    };
    run.variables.push(("$".to_owned(), Value::Labels));
    run.nodes(&template.root, &Value::Labels)?;
    Ok(run.out)
}

struct Run<'a> {
    template: &'a Template,
    context: &'a dyn Context,
    out: Vec<u8>,
    variables: Vec<(String, Value<'a>)>,
    steps: usize,
    depth: usize,
}

/// How a list of nodes ended.
#[derive(PartialEq, Eq)]
enum Flow {
    On,
    Break,
    Continue,
}

impl<'a> Run<'a> {
    /// An error at a node, in Go's words.
    fn error(&self, at: usize, text: &str, message: impl AsRef<str>) -> String {
        let name = self.template.name;
        let before = self.template.text.get(..at).unwrap_or("");
        let line = before.matches('\n').count() + 1;
        let column = before.rfind('\n').map_or(at, |newline| at - newline - 1);
        let message = message.as_ref();
        format!("template: {name}:{line}:{column}: executing \"{name}\" at <{text}>: {message}")
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
                let flow = if value.is_true() {
                    let inner = if matches!(node, Node::With { .. }) {
                        &value
                    } else {
                        dot
                    };
                    self.nodes(then, inner)?
                } else {
                    self.nodes(otherwise, dot)?
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

    fn print(&mut self, value: &Value<'_>) {
        match value {
            Value::Nil => self.out.extend_from_slice(b"<no value>"),
            Value::Labels => {
                let labels = self.context.labels().into_iter();
                let map = labels
                    .map(|(name, value)| (name.to_owned(), Value::borrowed(value)))
                    .collect();
                Value::Map(map).print(&mut self.out);
            }
            value => value.print(&mut self.out),
        }
    }

    fn call(&mut self, name: &str, pipe: Option<&'a Pipe>, at: usize, dot: &Value<'a>) -> Result<(), String> {
        let Some(body) = self.template.defined.get(name) else {
            let text = format!("{{{{template {name:?}}}}}");
            return Err(self.error(at, &text, format!("template {name:?} not defined")));
        };
        let inner = match pipe {
            Some(pipe) => self.pipe(pipe, dot)?,
            None => Value::Nil,
        };
        let outer = std::mem::replace(&mut self.variables, vec![("$".to_owned(), inner.clone())]);
        let result = self.nodes(body, &inner);
        self.variables = outer;
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
        let items: Vec<(Value<'a>, Value<'a>)> = match value {
            Value::List(list) => (0_i64..).map(Value::Int).zip(list).collect(),
            Value::Map(map) => map
                .into_iter()
                .map(|(key, value)| (Value::text(key), value))
                .collect(),
            Value::Labels => {
                let own = |(name, value)| (Value::borrowed(name), Value::borrowed(value));
                self.context.labels().into_iter().map(own).collect()
            }
            Value::Int(count) => (0..count.clamp(0, 1_000_000))
                .map(|index| (Value::Int(index), Value::Int(index)))
                .collect(),
            Value::Nil => Vec::new(),
            other => {
                let (at, text) = pipe
                    .commands
                    .first()
                    .map_or((0, ""), |command| (command.at, &command.text));
                let mut shown = Vec::new();
                other.print(&mut shown);
                let shown = String::from_utf8_lossy(&shown).into_owned();
                return Err(self.error(at, text, format!("range can't iterate over {shown}")));
            }
        };
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
        if let (Base::Function(name), true) = (&first.base, first.fields.is_empty()) {
            return self.function(name, command, rest, dot, last);
        }
        let time_method = matches!(first.fields.last().map(String::as_str), Some("Format"));
        if time_method {
            return self.time_format(first, command, rest, dot, last);
        }
        if !rest.is_empty() || last.is_some() {
            let kind = if first.fields.is_empty() {
                "can't give argument to non-function"
            } else {
                "is not a method but has arguments"
            };
            let message = if first.fields.is_empty() {
                format!("{kind} {}", first.text)
            } else {
                format!("{} {kind}", first.fields.last().map_or("", |field| field))
            };
            return Err(self.error(first.at, &first.text, message));
        }
        self.operand(first, dot)
    }

    fn time_format(
        &mut self,
        first: &'a Operand,
        command: &'a Command,
        rest: &'a [Operand],
        dot: &Value<'a>,
        last: Option<Value<'a>>,
    ) -> Result<Value<'a>, String> {
        let base = self.base(first, dot)?;
        let inner = first
            .fields
            .get(..first.fields.len().saturating_sub(1))
            .unwrap_or(&[]);
        let value = self.fields(first, base, inner)?;
        let Value::Time(ts) = value else {
            let message = format!("can't evaluate field Format in type {}", value.type_name());
            return Err(self.error(first.at, &first.text, message));
        };
        let layout = match (rest.first(), last) {
            (Some(operand), _) => self.operand(operand, dot)?,
            (None, Some(value)) => value,
            (None, None) => {
                let message = "wrong number of args for Format: want 1 got 0";
                return Err(self.error(command.at, &command.text, message));
            }
        };
        let layout = String::from_utf8_lossy(&layout.to_bytes()).into_owned();
        Ok(Value::text(time::format(ts, &layout)))
    }

    fn function(
        &mut self,
        name: &str,
        command: &'a Command,
        rest: &'a [Operand],
        dot: &Value<'a>,
        last: Option<Value<'a>>,
    ) -> Result<Value<'a>, String> {
        if name == "and" || name == "or" {
            return self.shortcut(name == "or", command, rest, dot, last);
        }
        let mut arguments = Vec::with_capacity(rest.len() + 1);
        for operand in rest {
            arguments.push(self.operand(operand, dot)?);
        }
        arguments.extend(last);
        let result = match name {
            "__line__" if arguments.is_empty() => return Ok(Value::borrowed(self.context.line())),
            "__timestamp__" if arguments.is_empty() => return Ok(Value::Time(self.context.timestamp())),
            _ => funcs::call(name, arguments, self.context),
        };
        result.map_err(|failure| {
            let message = match failure {
                funcs::Failure::Usage(message) => message,
                funcs::Failure::Call(message) => format!("error calling {name}: {message}"),
            };
            self.error(command.at, &command.text, message)
        })
    }

    /// `and` and `or` stop at the first argument that decides.
    fn shortcut(
        &mut self,
        stops_at: bool,
        command: &'a Command,
        rest: &'a [Operand],
        dot: &Value<'a>,
        last: Option<Value<'a>>,
    ) -> Result<Value<'a>, String> {
        let mut value = None;
        for operand in rest {
            let next = self.operand(operand, dot)?;
            if next.is_true() == stops_at {
                return Ok(next);
            }
            value = Some(next);
        }
        last.or(value).ok_or_else(|| {
            let name = if stops_at { "or" } else { "and" };
            self.error(
                command.at,
                &command.text,
                format!("wrong number of args for {name}: want at least 1 got 0"),
            )
        })
    }

    fn operand(&mut self, operand: &'a Operand, dot: &Value<'a>) -> Result<Value<'a>, String> {
        let base = self.base(operand, dot)?;
        self.fields(operand, base, &operand.fields)
    }

    fn base(&mut self, operand: &'a Operand, dot: &Value<'a>) -> Result<Value<'a>, String> {
        Ok(match &operand.base {
            Base::Dot => dot.clone(),
            Base::Variable(name) => {
                let found = self.variables.iter().rev().find(|(other, _)| other == name);
                found.map_or(Value::Nil, |(_, value)| value.clone())
            }
            Base::Function(name) if name == "__line__" => Value::borrowed(self.context.line()),
            Base::Function(name) if name == "__timestamp__" => Value::Time(self.context.timestamp()),
            Base::Function(name) => funcs::call(name, Vec::new(), self.context).map_err(|failure| {
                let (funcs::Failure::Usage(message) | funcs::Failure::Call(message)) = failure;
                self.error(operand.at, &operand.text, message)
            })?,
            Base::Nil => Value::Nil,
            Base::Bool(value) => Value::Bool(*value),
            Base::Int(value) => Value::Int(*value),
            Base::Float(value) => Value::Float(*value),
            Base::Str(text) => Value::Str(Cow::Borrowed(text.as_bytes())),
            Base::Pipe(pipe) => self.pipe(pipe, dot)?,
        })
    }

    fn fields(&self, operand: &Operand, base: Value<'a>, fields: &[String]) -> Result<Value<'a>, String> {
        let mut value = base;
        for field in fields {
            value = match value {
                // The zero value stands for a label that is not there.
                Value::Labels => Value::borrowed(self.context.label(field).unwrap_or("")),
                Value::Map(mut map) => map.remove(field).unwrap_or(Value::Nil),
                Value::Time(ts) => match time::method(ts, field) {
                    Some(value) => value,
                    None => {
                        let message = format!("can't evaluate field {field} in type time.Time");
                        return Err(self.error(operand.at, &operand.text, message));
                    }
                },
                Value::Nil => {
                    let message = format!("nil pointer evaluating interface {{}}.{field}");
                    return Err(self.error(operand.at, &operand.text, message));
                }
                other => {
                    let message = format!("can't evaluate field {field} in type {}", other.type_name());
                    return Err(self.error(operand.at, &operand.text, message));
                }
            };
        }
        Ok(value)
    }
}
