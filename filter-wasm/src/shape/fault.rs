//! faulthandler's reports: from `Fatal Python error: …` over all threads to `Extension modules: …`.
//!
//! The lines are those of `Modules/faulthandler.c`, `Python/traceback.c` (threads, frames, the C stack of 3.14) and
//! `Python/pylifecycle.c` (the runtime's state, the exception at hand).

use super::{Shape, Start, Step, View};
use crate::line;

/// Where in the report we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    /// A thread was listed.
    threads: bool,
    /// The last line was blank, as between threads.
    blank: bool,
    /// The runtime's state was told, and no thread yet: the exception at hand may follow.
    exception: bool,
}

/// The first line of a report.
pub(super) fn start(text: &[u8]) -> Option<Start> {
    let threads = is_thread_head(text);
    let fault = threads
        || text.starts_with(b"Fatal Python error: ")
        || (text.starts_with(b"Timeout (") && text.ends_with(b")!"));
    if fault {
        Start::plain(Shape::Fault(Fault {
            threads,
            blank: false,
            exception: false,
        }))
    } else {
        None
    }
}

fn is_thread_head(text: &[u8]) -> bool {
    text.ends_with(b"(most recent call first):")
        && (text.starts_with(b"Thread 0x")
            || text.starts_with(b"Current thread 0x")
            || text.starts_with(b"Current thread's C stack")
            // One thread alone was asked for.
            || text.starts_with(b"Stack (most"))
}

/// What stands in the list of a thread.
fn is_entry(text: &[u8]) -> bool {
    // faulthandler's frames say ` in f`; one that doesn't begins a SyntaxError's report.
    (text.starts_with(b"  File \"") && !super::python::is_headless_frame(text))
        || text.starts_with(b"  <")
        || text.starts_with(b"<no Python frame>")
        || text.starts_with(b"  Binary file \"")
        || text.starts_with(b"  ...")
        || text.starts_with(b"  Garbage-collecting")
        || text == b"..."
}

impl Fault {
    pub(super) fn step(&mut self, view: &View<'_>) -> Step {
        let text = view.text;
        if text.starts_with(b"Extension modules: ") {
            return Step::Last;
        }
        let blank = std::mem::replace(&mut self.blank, line::is_blank(text));
        if self.blank {
            return Step::Join { sure: false };
        }
        if is_thread_head(text) {
            // The first thread of the next report.
            if self.threads && !blank && !view.burst {
                return Step::Other;
            }
            self.threads = true;
            self.exception = false;
            return Step::Join { sure: true };
        }
        let state = text.starts_with(b"Python runtime state: ");
        self.exception |= state && !self.threads;
        let known = is_entry(text)
            || state
            || (text.starts_with(b"Fatal Python error: ") && !self.threads && view.write);
        // The exception at hand stands between the runtime's state and the threads.
        if known || (self.exception && view.burst && !line::starts_own_record(text)) {
            Step::Join { sure: known }
        } else {
            Step::Other
        }
    }
}
