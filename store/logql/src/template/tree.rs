//! Templates as trees.

/// One piece of a template.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Text(String),
    Action(Pipe),
    If {
        pipe: Pipe,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
    With {
        pipe: Pipe,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Range {
        pipe: Pipe,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Call {
        name: String,
        pipe: Option<Pipe>,
        at: usize,
    },
    Break,
    Continue,
}

/// Commands joined by `|`, and the variables they set.
#[derive(Clone, Debug)]
pub(super) struct Pipe {
    pub(super) variables: Vec<String>,
    pub(super) declares: bool,
    pub(super) commands: Vec<Command>,
    /// Where its first token stands.
    pub(super) at: usize,
    /// As Go prints it in errors, without parentheses.
    pub(super) text: String,
}

/// An operand and its arguments.
#[derive(Clone, Debug)]
pub(super) struct Command {
    pub(super) operands: Vec<Operand>,
    pub(super) at: usize,
    /// As Go prints it in errors.
    pub(super) text: String,
}

/// A value in a command.
#[derive(Clone, Debug)]
pub(super) struct Operand {
    pub(super) base: Base,
    /// Fields behind the base, with the position of the last one that changes it.
    pub(super) fields: Vec<String>,
    pub(super) at: usize,
    pub(super) text: String,
}

/// What an operand starts with.
#[derive(Clone, Debug)]
pub(super) enum Base {
    Dot,
    Variable(String),
    Function(String),
    Nil,
    Bool(bool),
    Number(Number),
    Str(String),
    Pipe(Box<Pipe>),
}

/// A number as it is written: what it becomes depends on what is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Number {
    /// When it is a whole number that fits.
    pub(super) int: Option<i64>,
    pub(super) float: f64,
    /// Where nothing special is wanted, it is a float.
    pub(super) is_float: bool,
}

/// Collects the labels that nodes read; false when they read the whole set.
pub(super) fn fields(nodes: &[Node], names: &mut Vec<String>) -> bool {
    nodes.iter().all(|node| match node {
        Node::Text(_) | Node::Break | Node::Continue => true,
        Node::Action(pipe) => pipe_fields(pipe, names),
        Node::If {
            pipe,
            then,
            otherwise,
        } => pipe_fields(pipe, names) && fields(then, names) && fields(otherwise, names),
        // The dot changes inside; what its fields are cannot be said without running.
        Node::With { .. } | Node::Range { .. } | Node::Call { .. } => false,
    })
}

fn pipe_fields(pipe: &Pipe, names: &mut Vec<String>) -> bool {
    pipe.commands
        .iter()
        .flat_map(|command| &command.operands)
        .all(|operand| match &operand.base {
            Base::Dot => match operand.fields.first() {
                Some(field) => {
                    names.push(field.clone());
                    true
                }
                None => false,
            },
            Base::Variable(name) if name == "$" => match operand.fields.first() {
                Some(field) => {
                    names.push(field.clone());
                    true
                }
                None => false,
            },
            Base::Pipe(inner) => pipe_fields(inner, names),
            _ => true,
        })
}

impl Pipe {
    /// The name, when the pipe is nothing but `.name`.
    pub(super) fn only_field(&self) -> Option<&str> {
        match (self.variables.as_slice(), self.commands.as_slice()) {
            ([], [command]) => match command.operands.as_slice() {
                [operand] => match (&operand.base, operand.fields.as_slice()) {
                    (Base::Dot, [name]) => Some(name),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        }
    }
}

/// Collects the names of fields in actions, conditions and parentheses.
pub(super) fn hinted_names(nodes: &[Node], names: &mut Vec<String>) {
    for node in nodes {
        match node {
            Node::Text(_) | Node::Break | Node::Continue | Node::Call { .. } => {}
            Node::Action(pipe) => hinted_pipe(pipe, names),
            Node::If {
                pipe,
                then: body,
                otherwise,
            }
            | Node::With {
                pipe,
                then: body,
                otherwise,
            }
            | Node::Range {
                pipe,
                body,
                otherwise,
            } => {
                hinted_pipe(pipe, names);
                hinted_names(body, names);
                hinted_names(otherwise, names);
            }
        }
    }
}

fn hinted_pipe(pipe: &Pipe, names: &mut Vec<String>) {
    for operand in pipe.commands.iter().flat_map(|command| &command.operands) {
        match &operand.base {
            Base::Dot => names.extend(operand.fields.iter().cloned()),
            Base::Pipe(inner) if operand.fields.is_empty() => hinted_pipe(inner, names),
            _ => {}
        }
    }
}
