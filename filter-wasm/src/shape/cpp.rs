//! C++ failures: `terminate called …`, and c10's `Exception raised from …` with its `frame #N` lines.

use super::{MAYBE, SURE, Shape, Start, Step, View};
use crate::find;
use crate::line;

/// Where in the print we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cpp {
    state: State,
    /// It began with `terminate called`: a nested exception may follow after a blank line.
    terminate: bool,
    blanks: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// `terminate called …` was printed; `what()` may follow.
    Terminate,
    /// Inside the text of `what()`.
    What,
    /// Inside the stack.
    Stack,
}

/// `terminate called after throwing an instance of 'T'`, `terminate called without an active exception`, libc++'s form.
pub(super) fn is_terminate(text: &[u8]) -> bool {
    text.starts_with(b"terminate called after throwing an instance of ")
        || text.starts_with(b"terminate called without an active exception")
        || text.starts_with(b"terminate called recursively")
        || text.starts_with(b"libc++abi: terminating")
}

pub(super) fn start(text: &[u8]) -> Option<Start> {
    if !matches!(text.first(), Some(b't' | b'l')) || !is_terminate(text) {
        return None;
    }
    let exception = find::byte(b'\'', text).and_then(|open| {
        let length = find::byte(b'\'', &text[open + 1..])?;
        Some((open + 1, open + 1 + length))
    });
    let shape = Shape::Cpp(Cpp {
        state: State::Terminate,
        terminate: true,
        blanks: 0,
    });
    Some(Start {
        shape,
        head: 0,
        exception,
    })
}

/// `Exception raised from f at file:3 (most recent call first):`, `frame #3: … + 0x14d (0x7b5f in lib.so)`
pub(super) fn is_stack_line(text: &[u8]) -> bool {
    if text.starts_with(b"Exception raised from ") {
        return line::contains(text, b" at ");
    }
    is_frame(text)
        || is_captured_frame(text)
        || text.starts_with(b"<omitting python frames>")
        || text.starts_with(b"C++ CapturedTraceback:")
}

/// `#3 all_reduce from /a/b.py:7`, `#3 c10::f() from ??:0`, as torch's flight recorder and its symbolizer print.
fn is_captured_frame(text: &[u8]) -> bool {
    let Some(rest) = text.strip_prefix(b"#") else {
        return false;
    };
    let digits = text.iter().rev().take_while(|b| b.is_ascii_digit()).count();
    crate::prefix::number(rest, 0).is_some_and(|(_, end)| rest[end..].starts_with(b" "))
        && digits > 0
        && text[..text.len() - digits].ends_with(b":")
        && line::contains(rest, b" from ")
}

fn is_frame(text: &[u8]) -> bool {
    let Some(rest) = text.strip_prefix(b"frame #") else {
        return false;
    };
    crate::prefix::number(rest, 0).is_some_and(|(_, end)| rest[end..].starts_with(b": "))
}

impl Cpp {
    /// A stack has begun behind a log line.
    pub(super) fn stack() -> Self {
        Cpp {
            state: State::Stack,
            terminate: false,
            blanks: 0,
        }
    }

    pub(super) fn is_terminate(self) -> bool {
        self.terminate
    }

    pub(super) fn step(&mut self, view: &View<'_>) -> Step {
        let text = view.text;
        if line::is_blank(text) {
            self.blanks = self.blanks.saturating_add(1);
            return if self.blanks <= 2 { MAYBE } else { Step::Other };
        }
        let after_blank = std::mem::take(&mut self.blanks) > 0;
        if is_stack_line(text) {
            if after_blank && !self.terminate {
                return Step::Other;
            }
            self.state = State::Stack;
            return SURE;
        }
        match self.state {
            State::Terminate if line::trim_start(text).starts_with(b"what():") => {
                self.state = State::What;
                SURE
            }
            State::Stack => Step::Other,
            State::What | State::Terminate => self.what(view, after_blank),
        }
    }

    /// Further lines of `what()`'s text.
    fn what(&mut self, view: &View<'_>, after_blank: bool) -> Step {
        let text = view.text;
        // A blank line in the message was written with what follows it.
        if after_blank && !view.write {
            return Step::Other;
        }
        let other = super::python::is_traceback_head(text) || super::begins_report(text);
        if text.starts_with(b"Aborted") || other {
            return Step::Other;
        }
        view.free_line()
    }
}
