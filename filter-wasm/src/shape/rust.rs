//! What Rust's standard library prints for a panic: `thread 'main' panicked at …`, the message, and the stack if asked for.

use super::{MAYBE, SURE, Shape, Start, Step, View};
use crate::line;

/// Where in the print we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rust {
    /// Behind the first line: the message.
    Message,
    /// Behind `Caused by:`.
    Causes,
    /// Behind `stack backtrace:`.
    Frames,
}

/// `thread 'main' panicked at a.rs:1:2:`, with the thread's number before `panicked` since 1.92.
pub(super) fn start(text: &[u8]) -> Option<Start> {
    let rest = text.strip_prefix(b"thread ")?;
    let named = rest.starts_with(b"'") || rest.starts_with(b"<unnamed>");
    if named && line::contains(rest, b" panicked at ") {
        Start::plain(Shape::Rust(Rust::Message))
    } else {
        None
    }
}

/// `   3: core::option::unwrap`
fn is_frame(text: &[u8]) -> bool {
    let bare = line::trim_start(text);
    let digits = bare.iter().take_while(|b| b.is_ascii_digit()).count();
    let numbered = digits > 0 && bare[digits..].starts_with(b": ");
    bare.len() < text.len() && (numbered || bare.starts_with(b"at ") || bare.starts_with(b"[... omitted "))
}

impl Rust {
    pub(super) fn step(&mut self, view: &View<'_>) -> Step {
        let text = view.text;
        if text.starts_with(b"note: run with `RUST_BACKTRACE=")
            || text.starts_with(b"note: Some details are omitted,")
        {
            return Step::Last;
        }
        if text == b"stack backtrace:" || text == b"Stack backtrace:" {
            *self = Rust::Frames;
            return SURE;
        }
        match self {
            Rust::Frames if is_frame(text) => SURE,
            Rust::Frames => Step::Other,
            Rust::Causes if line::is_blank(text) || (text.starts_with(b"    ") && view.burst) => MAYBE,
            Rust::Causes => Step::Other,
            Rust::Message if start(text).is_some() => Step::Other,
            Rust::Message if view.goes_on_freely() && (view.instant || !line::is_blank(text)) => MAYBE,
            Rust::Message => Step::Other,
        }
    }
}
