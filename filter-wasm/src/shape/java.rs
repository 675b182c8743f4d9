//! The JVM's traces: `Throwable.printStackTrace`, and what prints like it (Node's frames look the same).

use super::{MAYBE, SURE, Shape, Start, Step, View};
use crate::find;
use crate::line;

/// Where in the print we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Java {
    /// `Exception in thread "main" …`, `Caused by: …` and the further lines of their messages.
    Message,
    /// Inside the frames.
    Frames,
    /// Inside what Node prints of the error's members, `{` … `}` behind the frames.
    Members,
    /// After a blank line: only `Driver stacktrace:` and its like go on.
    Blank,
    /// After a blank line in a message.
    MessageBlank,
}

/// `Exception in thread "main" a.b.C: message`
pub(super) fn start(text: &[u8]) -> Option<Start> {
    let rest = text.strip_prefix(b"Exception in thread \"")?;
    let quote = find::byte(b'"', rest)?;
    let at = text.len() - rest.len() + quote + 2;
    let Some(name) = line::exception_name(text.get(at..)?) else {
        // The exception may tell of itself in any words.
        return Start::plain(Shape::Announced(super::announce::Announced::Exception));
    };
    Some(Start {
        shape: Shape::Java(Java::Message),
        head: 0,
        exception: Some((at, at + name)),
    })
}

/// `\tat a.b.C.method(File.java:3)`, `    at f (/a/b.js:1:2)`, `    at node:internal/main:28:49`
pub(super) fn is_frame(text: &[u8]) -> bool {
    let bare = line::trim_start(text);
    if bare.len() == text.len() || !bare.starts_with(b"at ") {
        return false;
    }
    let end = line::trim_end(bare.strip_suffix(b" {").unwrap_or(bare));
    let called = end.ends_with(b")") && end.contains(&b'(');
    // With the jar behind it: `at a.B.c(B.java:3) ~[a.jar:1.0]`.
    let packed = end.ends_with(b"]") && line::contains(end, b") ");
    let placed =
        end.last().is_some_and(u8::is_ascii_digit) && end.iter().filter(|&&b| b == b':').count() >= 2;
    called || packed || placed
}

impl Java {
    pub(super) fn step(&mut self, view: &View<'_>) -> Step {
        let text = view.text;
        if line::is_blank(text) {
            *self = match self {
                Java::Message | Java::MessageBlank if view.write => Java::MessageBlank,
                _ => Java::Blank,
            };
            return MAYBE;
        }
        if *self == Java::MessageBlank {
            *self = if text.starts_with(b"Node.js v") || !view.write {
                Java::Blank
            } else {
                Java::Message
            };
        }
        if text.starts_with(b"Driver stacktrace:") || text.starts_with(b"Emitted 'error' event ") {
            *self = Java::Frames;
            return SURE;
        }
        if *self == Java::Members && (text.starts_with(b"  ") || text == b"}") {
            return MAYBE;
        }
        if *self == Java::Blank && text.starts_with(b"Node.js v") && view.burst {
            return Step::Last;
        }
        if *self == Java::Blank {
            return Step::Other;
        }
        let bare = line::trim_start(text);
        let indented = bare.len() < text.len();
        if is_frame(text) || (indented && (bare.starts_with(b"... ") || bare.starts_with(b"[... "))) {
            *self = if text.ends_with(b" {") {
                Java::Members
            } else {
                Java::Frames
            };
            return SURE;
        }
        if bare.starts_with(b"Caused by: ") || (indented && bare.starts_with(b"Suppressed: ")) {
            *self = Java::Message;
            return SURE;
        }
        if *self == Java::Message && view.goes_on_freely() && !super::begins_record(view) {
            return MAYBE;
        }
        Step::Other
    }
}
