//! What Python's `warnings` prints: `path:line: Category: message`, then the source line, indented by two.
//!
//! The message may have several lines, and the source line may be missing.

use super::{MAYBE, SURE, Shape, Start, Step, View};
use crate::line;

/// Where in the print we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Warning {
    /// Behind the first line.
    Message,
    /// Behind an indented line, which may be the source line.
    Source,
}

/// `/a/b.py:92: UserWarning: text`, wherever the path begins.
pub(super) fn start(text: &[u8]) -> Option<Start> {
    let mut from = 0;
    while let Some(found) = memchr::memmem::find(&text[from..], b"Warning: ").map(|n| n + from) {
        let name = text[..found]
            .iter()
            .rev()
            .take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.'))
            .count();
        if text[..found - name].ends_with(b": ") && has_location(&text[..found - name - 2]) {
            return Start::plain(Shape::Warning(Warning::Message));
        }
        from = found + 1;
    }
    None
}

/// `….py:92` or `<string>:1` at the end.
fn has_location(before: &[u8]) -> bool {
    let digits = before.iter().rev().take_while(|b| b.is_ascii_digit()).count();
    let Some(path) = before[..before.len() - digits].strip_suffix(b":") else {
        return false;
    };
    digits > 0
        && (path.ends_with(b".py")
            || path.ends_with(b">")
            || path.ends_with(b".pyc")
            || path.ends_with(b"sys"))
}

impl Warning {
    pub(super) fn step(&mut self, view: &View<'_>) -> Step {
        let text = view.text;
        if line::is_blank(text) {
            return if view.burst && *self == Warning::Message {
                MAYBE
            } else {
                Step::Other
            };
        }
        if start(text).is_some() || super::python::is_traceback_head(text) || line::glog_level(text).is_some()
        {
            return Step::Other;
        }
        if text.starts_with(b"  ") {
            let call = line::contains(text, b"warn(") || line::contains(text, b"warn_");
            if *self == Warning::Source && !view.burst {
                return Step::Other;
            }
            if *self == Warning::Message && !view.burst && line::starts_own_record(text) {
                return Step::Other;
            }
            *self = Warning::Source;
            return if call { Step::Last } else { SURE };
        }
        match self {
            Warning::Message if view.goes_on_freely() => MAYBE,
            _ => Step::Other,
        }
    }
}
