//! Reports of other runtimes: faulthandler, the JVM, Go, rich's boxes, Open MPI's signal handler.

use super::{MAYBE, SURE, Shape, Start, Step, View};
use crate::line::{self, TRACEBACK};

/// Where in the print we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runtime {
    /// `Fatal Python error: …` up to `Extension modules: …`
    Fault,
    /// `Exception in thread "main" …`, `Caused by: …`
    Java,
    /// A JVM trace after a blank line: only `Driver stacktrace:` and its like go on.
    JavaBlank,
    /// `panic: …`; nothing of the goroutines yet.
    GoPanic,
    /// Inside the goroutines.
    Go,
    /// Inside rich's box.
    RichBox,
    /// Behind rich's box: the exception's line.
    RichEnd,
    /// Behind rich's exception line: its wrapped message.
    RichMessage,
    /// The further lines of a fatal message of absl's logging.
    Fatal,
    /// `*** Check failure stack trace: ***` and its frames, `    @     0x7fef740f81b4  f()`.
    Frames,
    /// `*** Process received signal ***` … `*** End of error message ***`
    Signal,
}

pub(super) fn start(text: &[u8]) -> Option<Start> {
    match text.first().copied().unwrap_or_default() {
        b'F' | b'C' | b'T' => start_fault(text),
        b'E' => start_java(text),
        b'p' if text.starts_with(b"panic: ") => Start::plain(Shape::Runtime(Runtime::GoPanic)),
        b'f' if text.starts_with(b"fatal error: ") => Start::plain(Shape::Runtime(Runtime::GoPanic)),
        b'*' if text.starts_with(b"*** Process received signal ***") => {
            Start::plain(Shape::Runtime(Runtime::Signal))
        }
        b'*' if is_stack_head(text) => Start::plain(Shape::Runtime(Runtime::Frames)),
        0xe2 if is_box_top(text) => Start::plain(Shape::Runtime(Runtime::RichBox)),
        _ => None,
    }
}

/// glog's and absl's announcements of a stack.
fn is_stack_head(text: &[u8]) -> bool {
    text.starts_with(b"*** Check failure stack trace: ***")
        || (text.starts_with(b"*** SIG") && line::contains(text, b" received"))
        || text.starts_with(b"*** Aborted at ")
}

/// `    @     0x7fef740f81b4  absl::f()`, `PC: @     0x7fef740f81b4  f()`
fn is_address_line(text: &[u8]) -> bool {
    let bare = line::trim_start(text);
    let frame = bare.strip_prefix(b"PC: ").unwrap_or(bare).strip_prefix(b"@ ");
    frame.is_some_and(|rest| line::trim_start(rest).starts_with(b"0x"))
}

/// faulthandler's first line.
pub(super) fn start_fault(text: &[u8]) -> Option<Start> {
    let fault = text.starts_with(b"Fatal Python error: ")
        || is_thread_head(text)
        || (text.starts_with(b"Timeout (") && text.ends_with(b")!"));
    if fault {
        Start::plain(Shape::Runtime(Runtime::Fault))
    } else {
        None
    }
}

fn is_thread_head(text: &[u8]) -> bool {
    (text.starts_with(b"Thread 0x")
        || text.starts_with(b"Current thread 0x")
        || text.starts_with(b"Current thread's C stack"))
        && text.ends_with(b"(most recent call first):")
}

/// `Exception in thread "main" a.b.C: message`
fn start_java(text: &[u8]) -> Option<Start> {
    let rest = text.strip_prefix(b"Exception in thread \"")?;
    let quote = memchr::memchr(b'"', rest)?;
    let at = text.len() - rest.len() + quote + 2;
    let name = line::exception_name(text.get(at..)?)?;
    Some(Start {
        shape: Shape::Runtime(Runtime::Java),
        head: 0,
        exception: Some((at, at + name)),
    })
}

/// `\tat a.b.C.method(File.java:3)`
pub(super) fn is_java_frame(text: &[u8]) -> bool {
    let bare = line::trim_start(text);
    bare.len() < text.len() && bare.starts_with(b"at ") && bare.ends_with(b")") && bare.contains(&b'(')
}

/// `╭──── Traceback (most recent call last) ────╮`
fn is_box_top(text: &[u8]) -> bool {
    text.starts_with("╭─".as_bytes()) && line::contains(text, &TRACEBACK[..TRACEBACK.len() - 1])
}

impl Runtime {
    pub(super) fn step(&mut self, view: &View<'_>) -> Step {
        match self {
            Runtime::Fault => fault(view),
            Runtime::Java | Runtime::JavaBlank => self.java(view),
            Runtime::GoPanic | Runtime::Go => self.go(view),
            Runtime::RichBox | Runtime::RichEnd | Runtime::RichMessage => self.rich(view),
            Runtime::Fatal => self.fatal(view),
            Runtime::Frames => {
                if is_address_line(view.text) || (is_stack_head(view.text) && view.burst) {
                    SURE
                } else {
                    Step::Other
                }
            }
            Runtime::Signal => {
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
            *self = Runtime::Frames;
            return SURE;
        }
        if line::is_blank(text) {
            return if view.instant { MAYBE } else { Step::Other };
        }
        let own = line::starts_own_record(text) || Shape::start(view, None).is_some();
        if view.instant && !own { MAYBE } else { Step::Other }
    }

    fn java(&mut self, view: &View<'_>) -> Step {
        let text = view.text;
        if line::is_blank(text) {
            *self = Runtime::JavaBlank;
            return MAYBE;
        }
        if text.starts_with(b"Driver stacktrace:") {
            *self = Runtime::Java;
            return SURE;
        }
        if *self == Runtime::JavaBlank {
            return Step::Other;
        }
        let bare = line::trim_start(text);
        let known = is_java_frame(text)
            || text.starts_with(b"Caused by: ")
            || (bare.len() < text.len() && (bare.starts_with(b"... ") || bare.starts_with(b"Suppressed: ")));
        if known {
            return SURE;
        }
        if view.burst && !line::starts_own_record(text) && Shape::start(view, None).is_none() {
            MAYBE
        } else {
            Step::Other
        }
    }

    fn go(&mut self, view: &View<'_>) -> Step {
        let text = view.text;
        if text.starts_with(b"goroutine ") && text.ends_with(b":") {
            *self = Runtime::Go;
            return SURE;
        }
        if line::is_blank(text)
            || text.starts_with(b"[signal ")
            || text.starts_with(b"panic: ")
            || text.starts_with(b"\tpanic: ")
        {
            return MAYBE;
        }
        let frame = *self == Runtime::Go
            && (text.starts_with(b"\t")
                || text.starts_with(b"created by ")
                || text.ends_with(b")")
                || text.ends_with(b"..."));
        if frame { SURE } else { Step::Other }
    }

    fn rich(&mut self, view: &View<'_>) -> Step {
        let text = view.text;
        match self {
            Runtime::RichBox => {
                if text.starts_with("╰".as_bytes()) {
                    *self = Runtime::RichEnd;
                }
                let drawn = text.starts_with("│".as_bytes()) || text.starts_with("╰".as_bytes());
                if drawn { SURE } else { Step::Other }
            }
            Runtime::RichEnd => match line::exception_name(text) {
                Some(name) => {
                    *self = Runtime::RichMessage;
                    Step::Exception(0, name)
                }
                None => Step::Other,
            },
            _ => {
                if view.goes_on_freely() && !line::is_blank(text) {
                    MAYBE
                } else {
                    Step::Other
                }
            }
        }
    }
}

fn fault(view: &View<'_>) -> Step {
    let text = view.text;
    if text.starts_with(b"Extension modules: ") {
        return Step::Last;
    }
    let known = line::is_blank(text)
        || is_thread_head(text)
        || text.starts_with(b"  File \"")
        || text.starts_with(b"  <")
        || text.starts_with(b"  Binary file \"")
        || text.starts_with(b"  ...")
        || text.starts_with(b"Python runtime state: ")
        || text.starts_with(b"Fatal Python error: ");
    if known {
        Step::Join {
            sure: !line::is_blank(text),
        }
    } else {
        Step::Other
    }
}
