//! Which lines are one record: a small state machine for each shape of multi-line output.
//!
//! A [`Shape`] is the state of one held record. [`Shape::start`] looks at a line that belongs to nothing yet; [`Shape::step`]
//! asks whether the next line of the same key goes on. Shapes are small `Copy` values without text: what they need of earlier
//! lines is in their states. They know nothing about JSON, keys, time or other records.

mod announce;
mod cpp;
mod crash;
mod fault;
mod go;
mod java;
mod node;
mod python;
mod rich;
mod rust;
mod warning;

use crate::find;
use crate::line;
use announce::Announced;

/// One line as the shapes see it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct View<'a> {
    /// The line without its prefixes and colours; of a redrawn bar only the last state.
    pub text: &'a [u8],
    /// It follows the record's last line at once (within [`crate::config::Config::burst_ms`]): probably the same write.
    pub burst: bool,
    /// It follows at the same instant (a tenth of that).
    pub instant: bool,
    /// It follows soon (a fortieth of that): lines of one write are no further apart, even where their reader is busy.
    pub soon: bool,
    /// It follows as fast as lines of one write do (a hundredth of that).
    pub write: bool,
    /// Nothing came between it and the record's last line: only its time can tell the same write from the next one.
    pub adjacent: bool,
    /// It carries the prefix that torch puts before every line of an uncaught exception.
    pub excepthook: bool,
    /// It carries the record's own repeated prefix, so that nobody else wrote it (`burst` is no longer needed as evidence).
    pub own_prefix: bool,
    /// A configured pattern says that the record goes on with it.
    pub configured: bool,
    /// A logger's header that every line of the record repeats stood before `text`.
    pub logged: bool,
}

impl<'a> View<'a> {
    /// The line goes on without looking like anything of its own: a further line of a free text, such as a message.
    pub(crate) fn goes_on_freely(&self) -> bool {
        if self.logged {
            return line::glog_level(self.text).is_none();
        }
        if line::starts_log_record(self.text) {
            return false;
        }
        // What only looks like a bar, a counter or a shell's trace is a message's line when it was written with it. Behind the
        // excepthook's prefix other ranks' lines may have come between.
        if self.write || (self.excepthook && self.burst) {
            return true;
        }
        let near = if self.adjacent { self.soon } else { self.burst };
        (near || self.excepthook) && !line::starts_own_record(self.text)
    }

    /// What the line is to a record whose message it may belong to. One that comes a little late is what a program printed next,
    /// unless more of the record follows.
    fn free_line(&self) -> Step {
        if self.goes_on_freely() {
            MAYBE
        } else if self.instant && !self.logged && !line::starts_own_record(self.text) {
            Step::Perhaps
        } else {
            Step::Other
        }
    }
}

/// What a line is to a held record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// It belongs to the record. `sure`: by its own look, also when its prefix is missing.
    Join {
        /// The line's look alone says that it continues such a record.
        sure: bool,
    },
    /// It belongs to the record if the record goes on behind it, as a blank line does; else it stands alone.
    Perhaps,
    /// It belongs to the record and is its last line.
    Last,
    /// It is the exception's line; the name's span of the line's text. It belongs to the record.
    Exception(usize, usize),
    /// It is something else: the record ended before it.
    Other,
}

/// A line by its own look.
pub(crate) const SURE: Step = Step::Join { sure: true };
/// A line that nothing speaks against.
pub(crate) const MAYBE: Step = Step::Join { sure: false };

/// The state of a held record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A line that a traceback or a stack may follow: a log line of some severity, an announcement.
    Announced(announce::Announced),
    /// CPython's tracebacks, also chained, grouped, and torchrun's table behind them.
    Python(python::Python),
    /// Python's `warnings`.
    Warning(warning::Warning),
    /// `terminate called …`, c10's stacks.
    Cpp(cpp::Cpp),
    /// faulthandler's reports.
    Fault(fault::Fault),
    /// Reports of native signal and check handlers.
    Crash(crash::Crash),
    /// The JVM's traces.
    Java(java::Java),
    /// What Node prints before a stack.
    Node(node::Node),
    /// Go's panics.
    Go(go::Go),
    /// Rust's panics.
    Rust(rust::Rust),
    /// rich's boxes.
    Rich(rich::Rich),
    /// A record that a configured pattern began.
    Configured,
}

/// How a new record begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Start {
    /// The state to hold it in.
    pub shape: Shape,
    /// Length of the text that stands before the record's own first words, and may be repeated on its further lines.
    pub head: usize,
    /// Span of the exception's name in the line's text, when the first line says it.
    pub exception: Option<(usize, usize)>,
}

impl Start {
    pub(crate) fn plain(shape: Shape) -> Option<Start> {
        Some(Start {
            shape,
            head: 0,
            exception: None,
        })
    }
}

/// The line begins a record by more than its words.
fn begins_record(view: &View<'_>) -> bool {
    Shape::start(view, None).is_some_and(|start| start.shape != Shape::Announced(Announced::Told))
}

/// The line begins a report of its own, whatever is written before it: no message goes on with it.
fn begins_report(text: &[u8]) -> bool {
    warning::start(text).is_some()
        || cpp::is_terminate(text)
        || announce::start_python(text).is_some()
        || fault::start(text).is_some()
        || crash::start(text).is_some()
        || rust::start(text).is_some()
        || java::start(text).is_some()
}

/// A process that dies by itself writes behind whatever stands in the line: `epoch 3: Fatal Python error: Aborted`.
fn start_behind_text(text: &[u8]) -> Option<Start> {
    let first: &[u8] = match text {
        [.., b't' | b'd' | b'r']
            if [&b" fault"[..], b" error", b" Aborted"]
                .iter()
                .any(|end| text.ends_with(end)) =>
        {
            b"Fatal Python error: "
        }
        [.., b'\''] => b"terminate called after ",
        _ => return None,
    };
    let at = find::last_text(text, first)?;
    let start = fault::start(&text[at..]).or_else(|| cpp::start(&text[at..]))?;
    Some(Start {
        head: at,
        exception: start.exception.map(|(from, to)| (from + at, to + at)),
        ..start
    })
}

impl Shape {
    /// Does this line begin something that may go on? Cheap for lines that don't: each test looks for few bytes.
    pub(crate) fn start(view: &View<'_>, level: Option<line::Level>) -> Option<Start> {
        let text = view.text;
        if text.len() < 6 {
            return None;
        }
        if text.ends_with(b"last):") || text.ends_with(b"last): ") {
            return python::start(text).or_else(|| announce::start(text, level));
        }
        // What each kind of report begins with; all others begin with what their line says.
        let known = match text[0] {
            b'T' if line::is_chain_sentence(text) => python::start(text),
            b'C' | b'E' | b'F' | b'P' | b'T' | b'U' => fault::start(text)
                .or_else(|| java::start(text))
                .or_else(|| announce::start_python(text)),
            b'D' | b'c' | b'm' | b'\'' => python::start(text),
            b' ' => python::start(text).or_else(|| rich::start(text)),
            b't' => cpp::start(text).or_else(|| rust::start(text)),
            b'l' => cpp::start(text),
            b'S' => fault::start(text),
            b'-' | b'e' | b's' | b'u' => announce::start_python(text),
            b'f' => go::start(text).or_else(|| node::start(text)),
            b'p' | b'r' => go::start(text),
            b'/' | b'n' => node::start(text),
            b'*' | b'[' | b'=' => crash::start(text),
            b'+' | 0xe2 => rich::start(text),
            _ => None,
        };
        known
            .or_else(|| start_behind_text(text))
            .or_else(|| announce::start_java(text))
            .or_else(|| warning::start(text))
            .or_else(|| announce::start(text, level))
    }

    /// The level that the shape itself says: failures are errors, warnings warn.
    pub(crate) fn level(self, lines: u32) -> Option<line::Level> {
        match self {
            Shape::Announced(
                Announced::Log
                | Announced::Open
                | Announced::Told
                | Announced::GoName
                | Announced::Glog
                | Announced::GlogPython
                | Announced::Fatal
                | Announced::Java
                | Announced::JavaMessage
                | Announced::Exception
                | Announced::Ray
                | Announced::Place,
            ) => None,
            Shape::Configured | Shape::Node(_) => None,
            Shape::Announced(Announced::Python) if lines == 1 => None,
            Shape::Python(state) if state.is_stack() => None,
            Shape::Warning(_) => Some(line::Level::Warn),
            _ => Some(line::Level::Error),
        }
    }

    /// Is this line of the same key a part of the record?
    pub(crate) fn step(&mut self, view: &View<'_>) -> Step {
        match self {
            Shape::Announced(kind) => {
                let Some(next) = kind.follow(view) else {
                    return Step::Other;
                };
                *self = next.0;
                next.1
            }
            Shape::Configured if view.configured => MAYBE,
            Shape::Configured => Step::Other,
            Shape::Python(state) => state.step(view),
            Shape::Warning(state) => state.step(view),
            Shape::Cpp(state) => {
                let step = state.step(view);
                if step == Step::Other
                    && state.is_terminate()
                    && (view.burst || view.text == b"Fatal Python error: Aborted")
                    && let Some(start) = fault::start(view.text)
                {
                    // The abort that `terminate` ends in is reported by the same process: one failure.
                    *self = start.shape;
                    return SURE;
                }
                step
            }
            Shape::Fault(state) => state.step(view),
            Shape::Crash(state) => state.step(view),
            Shape::Java(state) => state.step(view),
            Shape::Node(state) => {
                let (next, step) = state.follow(view);
                *self = next;
                step
            }
            Shape::Go(state) => state.step(view),
            Shape::Rust(state) => state.step(view),
            Shape::Rich(state) => state.step(view),
        }
    }

    /// One line so far, which something may follow.
    pub(crate) fn is_announcement(self) -> bool {
        matches!(self, Shape::Announced(_))
    }

    /// A line of this text, which may have escapes, could be what follows an announcement by its own look alone: a traceback's
    /// head, a frame, a source line, a member that asyncio prints. Sure only where it says no.
    pub(crate) fn may_follow_announcement(text: &[u8]) -> bool {
        match text {
            [b':' | b'0'..=b'9' | b'[' | b'(' | b'{', ..] => false,
            [b'D', second, ..] => *second == b'u',
            [b'N', second, ..] => *second == b'o',
            [b'L' | b'M' | b'R', ..] => false,
            [b'a'..=b'e' | b'g'..=b'z', ..] => {
                let key = text
                    .iter()
                    .take_while(|b| b.is_ascii_lowercase() || **b == b'_')
                    .count();
                text[key..].starts_with(b": ")
            }
            _ => true,
        }
    }

    /// Its lines may begin with a number and a colon, as those of `srun --label` do.
    pub(crate) fn is_numbered(self) -> bool {
        matches!(self, Shape::Rust(_))
    }

    /// The exception that the first line names is one only when the record went on.
    pub(crate) fn is_unconfirmed(self) -> bool {
        self == Shape::Announced(Announced::Exception)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever an announcement surely takes, however soon it comes, may follow it.
    #[test]
    fn what_follows_an_announcement_looks_like_it() {
        use announce::Announced as A;
        let kinds = [
            A::Log,
            A::Open,
            A::Told,
            A::GoName,
            A::Glog,
            A::GlogPython,
            A::Fatal,
            A::Python,
            A::Java,
            A::JavaMessage,
            A::Task,
            A::Exception,
            A::Place,
        ];
        for text in [
            "Traceback (most recent call last):",
            "Stack (most recent call last):",
            "  File \"a.py\", line 1, in f",
            "  + Exception Group Traceback (most recent call last):",
            "frame #0: f() + 0x14d (0x7b5f in lib.so)",
            "Exception raised from f at file:3 (most recent call first):",
            "\tat a.B.c(B.java:3)",
            "    at f (/a/b.js:1:2)",
            "future: <Task finished>",
            "source_traceback: Object created at (most recent call last):",
            "#3 f from /a.py:7",
            "╭──── Traceback (most recent call last) ────╮",
            "  return torch.sum(x)",
            "SEVERE: lost",
            "WARNING: lost",
            "During handling of the above exception, another exception occurred:",
            "loading shard 3",
            "12: x",
            "DLL 1",
            "[x] y",
            ":::MLLOG {}",
            "Running 3",
            "Loading 3",
            "Memory 3",
            "NCCL INFO x",
            "(x) y",
            "{x}",
            "<omitting python frames>",
            "The above exception was the direct cause of the following exception:",
            "C++ CapturedTraceback:",
            "epoch: 3",
            "NoneType: None",
            "Caused by:",
            "Stack (most recent call first):",
            "main.f",
            "\t/w/main.go:3",
        ] {
            let view = View {
                text: text.as_bytes(),
                burst: true,
                instant: true,
                write: true,
                logged: true,
                ..View::default()
            };
            let sure = kinds.iter().any(|kind| {
                matches!(
                    kind.follow(&view),
                    Some((_, Step::Last | Step::Join { sure: true }))
                )
            });
            assert!(!sure || Shape::may_follow_announcement(text.as_bytes()), "{text}");
        }
    }
}
