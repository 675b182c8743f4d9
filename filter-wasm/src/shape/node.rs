//! What Node prints of an uncaught error before its stack: the place, the source line, carets, a blank line.

use super::{MAYBE, SURE, Shape, Start, Step, View, java};
use crate::line;

/// Where in the preamble we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Node {
    /// Behind the place: the source line comes with the same write.
    Place,
    /// Behind the source line: carets mark it.
    Source,
    /// Behind the carets: the error.
    Marked,
}

/// `/app/main.js:7`, `node:internal/modules/cjs/loader:1143`, `file:///app/main.mjs:7` and nothing else.
pub(super) fn start(text: &[u8]) -> Option<Start> {
    let digits = text.iter().rev().take_while(|b| b.is_ascii_digit()).count();
    let place = text[..text.len() - digits].strip_suffix(b":")?;
    let known = place.starts_with(b"node:")
        || [&b".js"[..], b".cjs", b".mjs", b".ts"]
            .iter()
            .any(|ending| place.ends_with(ending));
    if digits > 0 && known && !place.contains(&b' ') {
        Start::plain(Shape::Node(Node::Place))
    } else {
        None
    }
}

impl Node {
    /// The record's state behind the line, and what the line is to it.
    pub(super) fn follow(self, view: &View<'_>) -> (Shape, Step) {
        let text = view.text;
        match self {
            Node::Place if view.write && !line::is_blank(text) => (Shape::Node(Node::Source), MAYBE),
            Node::Source if line::is_caret_line(text) => (Shape::Node(Node::Marked), SURE),
            Node::Marked if line::is_blank(text) => (Shape::Node(Node::Marked), MAYBE),
            Node::Marked if view.burst => {
                let name = line::qualified_name(text);
                // Errors of Node's own have a code: `TypeError [ERR_INVALID_ARG_TYPE]: …`.
                let named = matches!(text.get(name), None | Some(b':')) || text[name..].starts_with(b" [");
                let step = if name > 0 && named {
                    Step::Exception(0, name)
                } else {
                    MAYBE
                };
                (Shape::Java(java::Java::Message), step)
            }
            _ => (Shape::Node(self), Step::Other),
        }
    }
}
