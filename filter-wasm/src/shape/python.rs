//! How CPython prints exceptions, and what torch and torchrun print as an exception's message.
//!
//! `Lib/traceback.py` and `Python/traceback.c` print: the head, frames indented by two, their source lines and underlines by
//! four, then `Name: message` at the head's own indentation, notes as further lines. Chained exceptions follow after a blank
//! line, a sentence and a blank line. Groups draw a box of `|` and `+`. The message is free text of any number of lines.

use super::{Announced, MAYBE, SURE, Shape, Start, Step, View};
use crate::line::{self, TRACEBACK};

/// Where in the print we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Python {
    state: State,
    /// Spaces before the head; all of the traceback is shifted by them.
    base: u8,
    /// Blank lines since the last other one.
    blanks: u8,
    /// The message's last line ended with a colon: what comes is quoted.
    colon: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Frames; the exception's line ends them.
    Frames,
    /// Behind the exception's line: its message, its notes.
    Message,
    /// The message quotes a traceback of another process between lines of `"""`.
    Quoted,
    /// The message goes on with frames of another process (`Original Traceback`, Ray).
    InnerFrames,
    /// Behind a chain's sentence: the next head must come.
    Chained,
    /// Inside the box of an exception group; the group's own name was seen or not.
    Group { named: bool },
    /// `ChildFailedError: ` was printed: the table must come.
    BeforeTable,
    /// Inside torchrun's table.
    Table,
}

/// Lines that CPython prints before a traceback.
const ANNOUNCEMENTS: [&[u8]; 11] = [
    b"Exception in thread ",
    b"Exception ignored in",
    b"Exception ignored while ",
    b"Exception in callback ",
    b"Exception in default exception handler",
    b"Task exception was never retrieved",
    b"Future exception was never retrieved",
    b"Unhandled exception in ",
    b"Error in sys.excepthook:",
    b"Error in atexit._run_exitfuncs:",
    b"Error executing job with overrides",
];

pub(super) fn start(text: &[u8]) -> Option<Start> {
    if text.ends_with(b"last):") || text.ends_with(b"last): ") {
        return traceback_head(text);
    }
    match text.first().copied().unwrap_or_default() {
        b'E' | b'T' | b'F' | b'U' if ANNOUNCEMENTS.iter().any(|known| text.starts_with(known)) => {
            // The JVM also says `Exception in thread "main" …`.
            if text.starts_with(b"Exception in thread \"") {
                return None;
            }
            Start::plain(Shape::Announced(Announced::Python))
        }
        b'P' if is_process_line(text) => Start::plain(Shape::Announced(Announced::Python)),
        b'c' | b'm' if is_quoting(text) => {
            let name = line::exception_name(text)?;
            let state = Python {
                state: State::Message,
                base: 0,
                blanks: 0,
                colon: false,
            };
            Some(Start {
                shape: Shape::Python(state),
                head: 0,
                exception: Some((0, name)),
            })
        }
        _ => None,
    }
}

/// `Process SpawnProcess-1:`
fn is_process_line(text: &[u8]) -> bool {
    text.strip_prefix(b"Process ").is_some_and(|rest| {
        rest.ends_with(b":")
            && rest.len() < 60
            && !rest[..rest.len() - 1].contains(&b':')
            && !rest.contains(&b' ')
    })
}

/// `multiprocessing.pool.RemoteTraceback: `, `concurrent.futures.process._RemoteTraceback: `
fn is_quoting(text: &[u8]) -> bool {
    line::trim_end(text).ends_with(b"RemoteTraceback:")
}

fn traceback_head(text: &[u8]) -> Option<Start> {
    let bare = line::trim_end(text);
    let head = bare.strip_suffix(TRACEBACK)?;
    let spaces = line::indent(text);
    // Written in code or told in a sentence: the words are quoted there.
    if matches!(head.last(), Some(b'"' | b'\'' | b'`')) {
        return None;
    }
    if let Some(before) = head.strip_suffix(b"+ Exception Group ") {
        // Behind a prefix that glued to a bar, one space is the prefix's own.
        let bare = line::trim_end(before);
        let own_space = usize::from(!bare.is_empty() && before.len() > bare.len());
        let head = bare.len() + own_space;
        let base = (before.len() - head).min(200) as u8;
        let state = Python {
            state: State::Group { named: false },
            base,
            blanks: 0,
            colon: false,
        };
        return Some(Start {
            shape: Shape::Python(state),
            head,
            exception: None,
        });
    }
    let blank = head.len() == spaces;
    let base = if blank { spaces.min(200) as u8 } else { 0 };
    let state = Python {
        state: State::Frames,
        base,
        blanks: 0,
        colon: false,
    };
    Some(Start {
        shape: Shape::Python(state),
        head: if blank { 0 } else { head.len() },
        exception: None,
    })
}

/// The line is a traceback's head, with nothing before it.
pub(super) fn is_traceback_head(text: &[u8]) -> bool {
    let bare = line::trim_end(line::trim_start(text));
    bare == TRACEBACK || bare == b"+ Exception Group Traceback (most recent call last):"
}

impl Python {
    pub(super) fn step(&mut self, view: &View<'_>) -> Step {
        let text = view.text;
        if line::is_blank(text) {
            return self.blank(view);
        }
        let step = match self.state {
            State::Frames => self.frames(view),
            State::Message => self.message(view),
            State::Quoted => self.quoted(view),
            State::InnerFrames => self.inner_frames(view),
            State::Chained => self.chained(view),
            State::Group { named } => self.group(view, named),
            State::BeforeTable | State::Table => self.table(view),
        };
        if step != Step::Other {
            self.blanks = 0;
            self.colon = line::trim_end(text).ends_with(b":");
        }
        step
    }

    fn blank(&mut self, view: &View<'_>) -> Step {
        self.blanks = self.blanks.saturating_add(1);
        let inside = matches!(
            self.state,
            State::Table | State::Quoted | State::Frames | State::Group { .. }
        );
        if inside || view.excepthook || view.logged || self.blanks <= 3 {
            MAYBE
        } else {
            Step::Other
        }
    }

    /// The line without the traceback's own indentation.
    fn shifted<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        let base = usize::from(self.base);
        if line::indent(text) >= base {
            &text[base..]
        } else {
            text
        }
    }

    fn frames(&mut self, view: &View<'_>) -> Step {
        let text = self.shifted(view.text);
        let shift = view.text.len() - text.len();
        if line::is_python_frame(text) {
            return SURE;
        }
        if text.starts_with(b"    ")
            || text.starts_with(b"  [Previous line repeated ")
            || text.starts_with(b"\t")
        {
            // Source lines and underlines; loguru draws values there.
            return Step::Join {
                sure: line::is_caret_line(text) || text.starts_with(b"    "),
            };
        }
        if text.starts_with(b"> File \"") || text.starts_with(b"  ...<") || text.starts_with(b"  ") {
            return MAYBE;
        }
        let Some(name) = line::exception_name(text) else {
            // A source line that is a string's continuation has no indentation of its own.
            return if view.excepthook || view.logged {
                MAYBE
            } else {
                Step::Other
            };
        };
        if !line::is_exception_like(&text[..name]) && line::starts_own_record(text) {
            return Step::Other;
        }
        self.state = if text[..name].ends_with(b"ChildFailedError") {
            State::BeforeTable
        } else {
            State::Message
        };
        Step::Exception(shift, shift + name)
    }

    fn message(&mut self, view: &View<'_>) -> Step {
        let text = self.shifted(view.text);
        if line::is_chain_sentence(text) {
            self.state = State::Chained;
            return SURE;
        }
        if text == b"\"\"\"" || text == b"'''" {
            self.state = State::Quoted;
            return SURE;
        }
        if text.ends_with(TRACEBACK) {
            return self.inner_head(view, text);
        }
        if super::cpp::is_stack_line(text) {
            return SURE;
        }
        if line::is_python_frame(text) && (view.burst || view.own_prefix) {
            self.state = State::InnerFrames;
            return MAYBE;
        }
        if super::warning::start(text).is_some() || super::cpp::is_terminate(text) {
            return Step::Other;
        }
        if start(text).is_some_and(|start| start.head == 0) {
            return Step::Other;
        }
        if view.goes_on_freely() { MAYBE } else { Step::Other }
    }

    /// A traceback's head inside a message: another process's traceback, quoted, or the next failure.
    fn inner_head(&mut self, view: &View<'_>, text: &[u8]) -> Step {
        let quoted = text.starts_with(b"Original Traceback")
            || text.starts_with(b"Remote Traceback")
            || ((text != TRACEBACK || self.colon)
                && (view.excepthook || view.logged || view.burst)
                && !line::starts_own_record(text));
        if quoted {
            self.state = State::InnerFrames;
            return SURE;
        }
        Step::Other
    }

    fn inner_frames(&mut self, view: &View<'_>) -> Step {
        let text = view.text;
        if text.starts_with(b"  ") || text.starts_with(b"\t") {
            return MAYBE;
        }
        self.state = State::Message;
        if line::exception_name(text).is_some() && !line::starts_own_record(text) {
            return MAYBE;
        }
        self.message(view)
    }

    fn quoted(&mut self, view: &View<'_>) -> Step {
        if view.text == b"\"\"\"" || view.text == b"'''" {
            self.state = State::Message;
            return SURE;
        }
        if line::glog_level(view.text).is_some() {
            Step::Other
        } else {
            MAYBE
        }
    }

    fn chained(&mut self, view: &View<'_>) -> Step {
        let Some(Start {
            shape: Shape::Python(next),
            head: 0,
            ..
        }) = traceback_head(view.text)
        else {
            // A chained exception without a traceback is its name and message alone.
            if let Some(name) = line::exception_name(view.text) {
                self.state = State::Message;
                return Step::Exception(0, name);
            }
            return Step::Other;
        };
        *self = next;
        SURE
    }

    fn group(&mut self, view: &View<'_>, named: bool) -> Step {
        let spaces = line::indent(view.text);
        let boxed = &view.text[spaces..];
        if line::is_chain_sentence(boxed) {
            self.state = State::Chained;
            return SURE;
        }
        if !boxed.starts_with(b"|") && !boxed.starts_with(b"+") {
            return Step::Other;
        }
        if !named
            && spaces == usize::from(self.base)
            && let Some(inside) = boxed.strip_prefix(b"| ")
            && let Some(name) = line::exception_name(inside)
        {
            self.state = State::Group { named: true };
            return Step::Exception(spaces + 2, spaces + 2 + name);
        }
        SURE
    }

    /// torchrun's table: a ruler, the failures, a ruler (`torch/distributed/elastic/multiprocessing/errors`).
    fn table(&mut self, view: &View<'_>) -> Step {
        let text = line::trim_end(view.text);
        let ruler = text.len() >= 20 && text.iter().all(|&b| b == b'=');
        match (self.state, ruler) {
            (State::BeforeTable, true) => {
                self.state = State::Table;
                SURE
            }
            (State::BeforeTable, false) => {
                self.state = State::Message;
                self.message(view)
            }
            (_, true) => Step::Last,
            _ => MAYBE,
        }
    }
}
