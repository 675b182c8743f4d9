//! Which lines are one record: a small state machine for each shape of multi-line output.
//!
//! A [`Shape`] is the state of one held record. [`Shape::start`] looks at a line that belongs to nothing yet; [`Shape::step`]
//! asks whether the next line of the same key goes on. Shapes are small `Copy` values without text: what they need of earlier
//! lines is in their states. They know nothing about JSON, keys, time or other records.

mod cpp;
mod python;
mod runtime;
mod warning;

use crate::line;

/// One line as the shapes see it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct View<'a> {
    /// The line without its prefixes and colours; of a redrawn bar only the last state.
    pub text: &'a [u8],
    /// It follows the record's last line at once (within [`crate::config::Config::burst_ms`]): probably the same write.
    pub burst: bool,
    /// It follows at the same instant (a tenth of that).
    pub instant: bool,
    /// It carries the prefix that torch puts before every line of an uncaught exception.
    pub excepthook: bool,
    /// It carries the record's own repeated prefix, so that nobody else wrote it (`burst` is no longer needed as evidence).
    pub own_prefix: bool,
    /// A logger's header that every line of the record repeats stood before `text`.
    pub logged: bool,
}

impl<'a> View<'a> {
    /// The line goes on without looking like anything of its own: a further line of a free text, such as a message.
    pub(crate) fn goes_on_freely(&self) -> bool {
        if self.logged || self.excepthook {
            return line::glog_level(self.text).is_none();
        }
        self.burst && !line::starts_own_record(self.text)
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
    Announced(Announced),
    /// CPython's tracebacks, also chained, grouped, and torchrun's table behind them.
    Python(python::Python),
    /// Python's `warnings`.
    Warning(warning::Warning),
    /// `terminate called …`, c10's stacks.
    Cpp(cpp::Cpp),
    /// faulthandler, the JVM, Go, rich, Open MPI's signal handler.
    Runtime(runtime::Runtime),
}

/// What may follow an announcing line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Announced {
    /// A log line: a traceback, a C++ stack or a JVM trace.
    Log,
    /// A line of glog, absl or c10: a C++ stack.
    Glog,
    /// The same of absl at a severity that kills: its message may have further lines.
    Fatal,
    /// A line of Python that announces a traceback (`Exception in thread …`).
    Python,
    /// A bare exception name: a JVM trace may follow.
    Exception,
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
    fn plain(shape: Shape) -> Option<Start> {
        Some(Start {
            shape,
            head: 0,
            exception: None,
        })
    }
}

impl Shape {
    /// Does this line begin something that may go on? Cheap for lines that don't: each test looks for few bytes.
    pub(crate) fn start(view: &View<'_>, level: Option<line::Level>) -> Option<Start> {
        let text = view.text;
        if text.len() < 6 {
            return None;
        }
        python::start(text)
            .or_else(|| cpp::start(text))
            .or_else(|| runtime::start(text))
            .or_else(|| warning::start(text))
            .or_else(|| announcement(text, level))
    }

    /// The level that the shape itself says: failures are errors, warnings warn.
    pub(crate) fn level(self, lines: u32) -> Option<line::Level> {
        match self {
            Shape::Announced(Announced::Log | Announced::Glog | Announced::Fatal | Announced::Exception) => {
                None
            }
            Shape::Announced(Announced::Python) if lines == 1 => None,
            Shape::Warning(_) => Some(line::Level::Warn),
            _ => Some(line::Level::Error),
        }
    }

    /// Is this line of the same key a part of the record?
    pub(crate) fn step(&mut self, view: &View<'_>) -> Step {
        match self {
            Shape::Announced(kind) => {
                let Some(next) = follows_announcement(*kind, view) else {
                    return Step::Other;
                };
                *self = next.0;
                next.1
            }
            Shape::Python(state) => state.step(view),
            Shape::Warning(state) => state.step(view),
            Shape::Cpp(state) => {
                let step = state.step(view);
                if step == Step::Other
                    && state.is_terminate()
                    && let Some(Start {
                        shape: shape @ Shape::Runtime(_),
                        ..
                    }) = runtime::start_fault(view.text)
                {
                    // The abort that `terminate` ends in is reported by the same process: one failure.
                    *self = shape;
                    return SURE;
                }
                step
            }
            Shape::Runtime(state) => state.step(view),
        }
    }
}

/// Lines that promise nothing but after which a trace may come.
fn announcement(text: &[u8], level: Option<line::Level>) -> Option<Start> {
    if let Some(level) = line::glog_level(text) {
        let kind = if line::is_absl_failure(text) {
            Announced::Fatal
        } else {
            Announced::Glog
        };
        return if level >= line::Level::Warn {
            Start::plain(Shape::Announced(kind))
        } else {
            None
        };
    }
    if level.is_some_and(|level| level >= line::Level::Warn) {
        return Start::plain(Shape::Announced(Announced::Log));
    }
    let name = line::exception_name(text)?;
    if memchr::memchr(b'.', &text[..name]).is_some() && line::is_exception_like(&text[..name]) {
        return Some(Start {
            shape: Shape::Announced(Announced::Exception),
            head: 0,
            exception: None,
        });
    }
    None
}

fn follows_announcement(kind: Announced, view: &View<'_>) -> Option<(Shape, Step)> {
    let text = view.text;
    let same_write = view.burst || view.own_prefix || view.logged;
    let expects = match kind {
        Announced::Python => true,
        Announced::Log => same_write && !view.excepthook,
        Announced::Glog | Announced::Fatal => view.logged,
        Announced::Exception => false,
    };
    if expects
        && let Some(start) = python::start(text)
        && start.head == 0
        && python::is_traceback_head(text)
    {
        return Some((start.shape, SURE));
    }
    if kind != Announced::Python && kind != Announced::Exception && cpp::is_stack_line(text) {
        return Some((Shape::Cpp(cpp::Cpp::stack()), SURE));
    }
    if matches!(kind, Announced::Log | Announced::Exception) && runtime::is_java_frame(text) {
        return Some((Shape::Runtime(runtime::Runtime::Java), SURE));
    }
    if kind == Announced::Log
        && let Some(name) = line::exception_name(text)
        && memchr::memchr(b'.', &text[..name]).is_some()
        && line::is_exception_like(&text[..name])
        && view.burst
    {
        return Some((Shape::Announced(Announced::Exception), Step::Exception(0, name)));
    }
    if kind == Announced::Fatal && view.instant && !line::is_blank(text) && !line::starts_own_record(text) {
        return Some((Shape::Runtime(runtime::Runtime::Fatal), MAYBE));
    }
    if matches!(kind, Announced::Python | Announced::Log) && text.starts_with(b"future: <") {
        return Some((Shape::Announced(Announced::Python), SURE));
    }
    None
}
