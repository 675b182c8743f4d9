//! What Python's `warnings` prints: `path:line: Category: message`, then the source line, indented by two.
//!
//! The message may have several lines, and the source line may be missing.

use super::{MAYBE, SURE, Shape, Start, Step, View};
use crate::find;
use crate::line;

/// How far a warning's place and category are looked for where the category's name doesn't tell.
const MAX_PLACE: usize = 300;

/// Where in the print we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Warning {
    /// Behind the first line.
    Message,
    /// Behind an indented line, which may be the source line.
    Source,
    /// Behind `Object allocated at …`: frames.
    Origin,
    /// Behind a warning of no file (`sys:1: …`), which has no source line.
    Sourceless,
}

/// `/a/b.py:92: UserWarning: text`, wherever the path begins.
pub(super) fn start(text: &[u8]) -> Option<Start> {
    let mut from = 0;
    while let Some(found) = find::text(&text[from..], b"Warning: ").map(|n| n + from) {
        let name = text[..found]
            .iter()
            .rev()
            .take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.'))
            .count();
        if text[..found - name].ends_with(b": ") && has_location(&text[..found - name - 2]) {
            let state = if text[..found - name].starts_with(b"sys:") {
                Warning::Sourceless
            } else {
                Warning::Message
            };
            return Start::plain(Shape::Warning(state));
        }
        from = found + 1;
    }
    None
}

/// `/a/b.py:92: LossScaleNotice: text`: a category may have any name, so only the source line below shows that it is one.
pub(super) fn may_start(text: &[u8]) -> bool {
    let head = &text[..text.len().min(MAX_PLACE)];
    let Some(number) = find::text(head, b".py:").map(|at| at + 4) else {
        return false;
    };
    let digits = head[number..].iter().take_while(|b| b.is_ascii_digit()).count();
    let Some(category) = head[number + digits..].strip_prefix(b": ") else {
        return false;
    };
    digits > 0
        && category.first().is_some_and(u8::is_ascii_uppercase)
        && line::exception_name(category).is_some_and(|name| category.len() > name)
}

/// The source line below such a line.
pub(super) fn source_line(view: &View<'_>) -> Option<(Shape, Step)> {
    let source = view.write && view.text.starts_with(b"  ") && is_code(view.text);
    source.then_some((Shape::Warning(Warning::Source), Step::Last))
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

/// `return torch.sum(x)`: a line of code and not of prose.
fn is_code(text: &[u8]) -> bool {
    text.iter().any(|b| matches!(b, b'(' | b'=' | b'[' | b'@'))
        || [&b"raise "[..], b"import ", b"from ", b"return"]
            .iter()
            .any(|word| line::trim_start(text).starts_with(word))
}

/// What `tracemalloc` knows of where the object came from, or that it could know: printed behind the source line.
fn is_origin(text: &[u8]) -> bool {
    text.starts_with(b"Object allocated at (most recent call last):")
        || text.starts_with(b"Coroutine created at (most recent call last)")
        || (text.ends_with(b"Warning: Enable tracemalloc to get the object allocation traceback"))
}

impl Warning {
    pub(super) fn step(&mut self, view: &View<'_>) -> Step {
        let text = view.text;
        if is_origin(text) {
            *self = Warning::Origin;
            return SURE;
        }
        if *self == Warning::Origin {
            let frame = text.starts_with(b"  ");
            return if frame && view.burst { SURE } else { Step::Other };
        }
        if *self == Warning::Sourceless {
            return Step::Other;
        }
        if line::is_blank(text) {
            let inside = *self == Warning::Message && view.burst;
            return if inside { MAYBE } else { Step::Other };
        }
        let other = super::begins_report(text) || (may_start(text) && !text.starts_with(b" "));
        if other || super::python::is_traceback_head(text) || line::glog_level(text).is_some() {
            return Step::Other;
        }
        if text.starts_with(b"  ") {
            return self.indented(view);
        }
        // torch says behind a message where in C++ it arose; code may be all that stands before it.
        if *self == Warning::Source
            && view.burst
            && line::trim_start(text).starts_with(b"(Triggered internally at ")
        {
            *self = Warning::Message;
            return SURE;
        }
        match self {
            Warning::Message if view.goes_on_freely() => MAYBE,
            _ => Step::Other,
        }
    }

    /// The source line, or one of the message's.
    fn indented(&mut self, view: &View<'_>) -> Step {
        let text = view.text;
        let call = line::contains(text, b"warn(") || line::contains(text, b"warn_");
        if *self == Warning::Source && !view.burst {
            return Step::Other;
        }
        let next = line::starts_own_record(text) || super::python::is_headless_frame(text);
        if *self == Warning::Message && !view.burst && next {
            return Step::Other;
        }
        if is_code(text) {
            *self = Warning::Source;
        }
        if call { Step::Last } else { SURE }
    }
}
