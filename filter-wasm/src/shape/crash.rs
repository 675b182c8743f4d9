//! Reports of native code's signal and check handlers: glog's and absl's stacks and fatal messages, Open MPI's blocks.

use super::{MAYBE, SURE, Shape, Start, Step, View};
use crate::line;

/// Where in the report we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crash {
    /// The further lines of a fatal message of absl's logging.
    Fatal,
    /// `*** Check failure stack trace: ***` and its frames, `    @     0x7fef740f81b4  f()`.
    Frames,
    /// `*** Process received signal ***` … `*** End of error message ***`
    Signal,
}

pub(super) fn start(text: &[u8]) -> Option<Start> {
    if text.starts_with(b"*** Process received signal ***") {
        return Start::plain(Shape::Crash(Crash::Signal));
    }
    if is_stack_head(text) {
        return Start::plain(Shape::Crash(Crash::Frames));
    }
    None
}

/// glog's and absl's announcements of a stack.
fn is_stack_head(text: &[u8]) -> bool {
    text.starts_with(b"*** Check failure stack trace: ***")
        || (text.starts_with(b"*** SIG") && line::contains(text, b" received"))
        || text.starts_with(b"*** Aborted at ")
        || text.starts_with(b"*** Signal ")
}

/// `    @     0x7fef740f81b4  absl::f()`, `PC: @     0x7fef740f81b4  f()`
fn is_address_line(text: &[u8]) -> bool {
    let bare = line::trim_start(text);
    let frame = bare.strip_prefix(b"PC: ").unwrap_or(bare).strip_prefix(b"@ ");
    frame.is_some_and(|rest| {
        let address = line::trim_start(rest);
        address.starts_with(b"0x") || address.starts_with(b"(nil)") || address.starts_with(b"(unknown)")
    })
}

impl Crash {
    pub(super) fn step(&mut self, view: &View<'_>) -> Step {
        match self {
            Crash::Fatal => self.fatal(view),
            Crash::Frames => {
                if is_address_line(view.text) || (is_stack_head(view.text) && view.burst) {
                    SURE
                } else {
                    Step::Other
                }
            }
            Crash::Signal => {
                if view.text.starts_with(b"*** End of error message ***") {
                    Step::Last
                } else {
                    MAYBE
                }
            }
        }
    }

    fn fatal(&mut self, view: &View<'_>) -> Step {
        let text = view.text;
        if is_stack_head(text) && view.instant {
            *self = Crash::Frames;
            return SURE;
        }
        if line::is_blank(text) {
            return if view.instant { MAYBE } else { Step::Other };
        }
        let own = line::starts_own_record(text) || Shape::start(view, None).is_some();
        if view.instant && !own { MAYBE } else { Step::Other }
    }
}
