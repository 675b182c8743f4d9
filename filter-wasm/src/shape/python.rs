//! How CPython prints exceptions, and what torch and torchrun print as an exception's message.
//!
//! `Lib/traceback.py` and `Python/traceback.c` print: the head, frames indented by two, their source lines and underlines by
//! four, then `Name: message` at the head's own indentation, notes as further lines. Chained exceptions follow after a blank
//! line, a sentence and a blank line. Groups draw a box of `|` and `+`. The message is free text of any number of lines.

use super::{MAYBE, SURE, Shape, Start, Step, View};
use crate::find;
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
    /// The place in a script that can't be compiled, or frames behind a log line: without a head.
    Headless,
    /// Frames that end with no exception: `Stack (most recent call last):`, asyncio's `source_traceback`.
    Stack {
        /// The traceback comes behind them.
        traceback: bool,
    },
    /// Behind the exception's line: its message, its notes.
    Message,
    /// The message quotes a traceback of another process between lines of `"""`.
    Quoted,
    /// The message goes on with frames of another process (`Original Traceback`, Ray).
    InnerFrames,
    /// Behind a chain's sentence: the next head must come.
    Chained,
    /// Inside the box of an exception group.
    Group {
        /// The group's own name was seen.
        named: bool,
        /// The last line closed a box.
        closed: bool,
    },
    /// `ChildFailedError: ` was printed: the table must come.
    BeforeTable,
    /// Inside torchrun's table.
    Table {
        /// What its first ruler is made of, and its last.
        ruler: u8,
    },
}

pub(super) fn start(text: &[u8]) -> Option<Start> {
    if text.ends_with(b"last):") || text.ends_with(b"last): ") {
        if text == STACK {
            return Start::plain(Shape::Python(Python::behind_stack_head(false)));
        }
        return traceback_head(text);
    }
    if let Some(start) = headless_group(text) {
        return Some(start);
    }
    if is_headless_frame(text) {
        return Start::plain(Shape::Python(Python::in_state(State::Headless)));
    }
    if line::is_chain_sentence(text) {
        return Start::plain(Shape::Python(Python::behind_sentence()));
    }
    if is_quoting(text) {
        let name = line::exception_name(text)?;
        return Some(Start {
            shape: Shape::Python(Python::behind_exception()),
            head: 0,
            exception: Some((0, name)),
        });
    }
    None
}

/// What `logging` puts before the stack of the call (`stack_info=True`).
const STACK: &[u8] = b"Stack (most recent call last):";

/// The head of frames that are no traceback's.
pub(super) fn is_stack_head(text: &[u8]) -> bool {
    text == STACK
}

/// `  File "a.py", line 3`, as stands before what can't be compiled. A frame of a traceback goes on with `, in f`; one without
/// its traceback was torn from it, and is nobody's.
pub(super) fn is_headless_frame(text: &[u8]) -> bool {
    line::is_python_frame(text)
        && find::last_text(text, b"\", line ").is_some_and(|at| {
            let number = &text[at + 8..];
            !number.is_empty() && number.iter().all(u8::is_ascii_digit)
        })
}

/// `  | ExceptionGroup: left (2 sub-exceptions)`: a group that has no frames, as `except*` makes of what it did not take.
fn headless_group(text: &[u8]) -> Option<Start> {
    let inside = text.strip_prefix(b"  | ")?;
    if !inside.ends_with(b" sub-exceptions)") && !inside.ends_with(b" sub-exception)") {
        return None;
    }
    let name = line::exception_name(inside)?;
    let state = State::Group {
        named: true,
        closed: false,
    };
    Some(Start {
        shape: Shape::Python(Python {
            base: 2,
            ..Python::in_state(state)
        }),
        head: 0,
        exception: Some((4, 4 + name)),
    })
}

/// It looks like a part of a print, and is the first line of the next one when it comes later.
fn begins_anew(text: &[u8]) -> bool {
    is_headless_frame(text) || text.starts_with(b"  + Exception Group Traceback ")
}

/// `multiprocessing.pool.RemoteTraceback: `, `concurrent.futures.process._RemoteTraceback: `
fn is_quoting(text: &[u8]) -> bool {
    line::trim_end(text).ends_with(b"RemoteTraceback:")
}

pub(super) fn traceback_head(text: &[u8]) -> Option<Start> {
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
            base,
            ..Python::in_state(State::Group {
                named: false,
                closed: false,
            })
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
        base,
        ..Python::in_state(State::Frames)
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
    fn in_state(state: State) -> Self {
        Python {
            state,
            base: 0,
            blanks: 0,
            colon: false,
        }
    }

    /// Behind an exception's line.
    pub(super) fn behind_exception() -> Self {
        Self::in_state(State::Message)
    }

    /// In the frames that an exception's message tells.
    pub(super) fn in_message() -> Self {
        Self::in_state(State::InnerFrames)
    }

    /// In frames without a head, which end with an exception.
    pub(super) fn headless_frames() -> Self {
        Self::in_state(State::Headless)
    }

    /// Behind a chain's sentence.
    pub(super) fn behind_sentence() -> Self {
        Self::in_state(State::Chained)
    }

    /// Behind the head of a stack. `traceback`: a traceback follows it.
    pub(super) fn behind_stack_head(traceback: bool) -> Self {
        Self::in_state(State::Stack { traceback })
    }

    /// So far there is a stack and no exception.
    pub(super) fn is_stack(self) -> bool {
        matches!(self.state, State::Stack { traceback: false } | State::Headless)
    }

    pub(super) fn step(&mut self, view: &View<'_>) -> Step {
        let text = view.text;
        if line::is_blank(text) {
            return self.blank(view);
        }
        let inside = matches!(self.state, State::Frames | State::Chained);
        if !inside && !view.burst && !view.excepthook && begins_anew(text) {
            return Step::Other;
        }
        let step = match self.state {
            State::Frames => self.frames(view),
            State::Headless => self.headless(view),
            State::Stack { traceback } => self.stack_frames(view, traceback),
            State::Message => self.message(view),
            State::Quoted => self.quoted(view),
            State::InnerFrames => self.inner_frames(view),
            State::Chained => self.chained(view),
            State::Group { named, closed } => self.group(view, named, closed),
            State::BeforeTable | State::Table { .. } => self.table(view),
        };
        if step != Step::Other {
            self.blanks = 0;
            // Source lines end with colons too.
            self.colon = line::trim_end(text).ends_with(b":") && !text.starts_with(b"    ");
        }
        step
    }

    fn blank(&mut self, view: &View<'_>) -> Step {
        self.blanks = self.blanks.saturating_add(1);
        let inside = matches!(
            self.state,
            State::Table { .. } | State::Quoted | State::Frames | State::Group { .. }
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
        // The head alone was indented.
        if shift == 0 {
            self.base = 0;
        }
        self.state = if text[..name].ends_with(b"ChildFailedError") {
            State::BeforeTable
        } else {
            State::Message
        };
        Step::Exception(shift, shift + name)
    }

    fn headless(&mut self, view: &View<'_>) -> Step {
        let text = view.text;
        if !view.burst && !view.own_prefix {
            return Step::Other;
        }
        if text.starts_with(b"    ") || line::is_python_frame(text) {
            return SURE;
        }
        match line::exception_name(text) {
            Some(name) if line::is_exception_like(&text[..name]) => {
                self.state = State::Message;
                Step::Exception(0, name)
            }
            _ => Step::Other,
        }
    }

    fn stack_frames(&mut self, view: &View<'_>, traceback: bool) -> Step {
        let text = self.shifted(view.text);
        if line::is_python_frame(text) || text.starts_with(b"    ") || text.starts_with(b"  [Previous line ")
        {
            return SURE;
        }
        if traceback && let Some(start) = traceback_head(view.text).filter(|start| start.head == 0) {
            if let Shape::Python(next) = start.shape {
                *self = next;
            }
            return SURE;
        }
        // `logging` says which message it could not format.
        if text.starts_with(b"Message: ") && view.burst {
            return SURE;
        }
        if text.starts_with(b"Arguments: ") && view.burst {
            return Step::Last;
        }
        Step::Other
    }

    fn message(&mut self, view: &View<'_>) -> Step {
        let text = self.shifted(view.text);
        // What is written further to the left than the whole traceback is what it stands in.
        if text.len() == view.text.len() && self.base > 0 {
            return Step::Other;
        }
        if line::is_chain_sentence(text) || text == b"Original exception was:" {
            self.state = State::Chained;
            return SURE;
        }
        if (text == STACK || text == b"Call stack:") && (view.burst || view.own_prefix) {
            self.state = State::Stack { traceback: false };
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
        if super::begins_report(text) || is_quoting(text) {
            return Step::Other;
        }
        view.free_line()
    }

    /// A traceback's head inside a message: another process's traceback, quoted, or the next failure.
    fn inner_head(&mut self, view: &View<'_>, text: &[u8]) -> Step {
        let quoted = text.starts_with(b"Original Traceback")
            || text.starts_with(b"Remote Traceback")
            // Behind one logger's head, repeated at once: a note, or a message that quotes it.
            || (view.logged && view.write)
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
        let name = line::exception_name(text).map(|name| &text[..name]);
        if name.is_some_and(|name| view.burst || line::is_exception_like(name))
            && !line::starts_own_record(text)
        {
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
            // Of Ray's tasks a line with the task's name stands for the head.
            if super::announce::names_ray_task(view.text) && view.burst {
                self.state = State::InnerFrames;
                return SURE;
            }
            return Step::Other;
        };
        *self = next;
        SURE
    }

    fn group(&mut self, view: &View<'_>, named: bool, closed: bool) -> Step {
        let spaces = line::indent(view.text);
        let boxed = &view.text[spaces..];
        if line::is_chain_sentence(boxed) {
            self.state = State::Chained;
            return SURE;
        }
        if spaces < usize::from(self.base) || !(boxed.starts_with(b"|") || boxed.starts_with(b"+")) {
            // 3.11 and 3.12 leave the box for the further lines of a message inside it.
            let message = !closed && view.write && view.goes_on_freely();
            return if message { MAYBE } else { Step::Other };
        }
        let rule = line::trim_end(&boxed[1..]);
        self.state = State::Group {
            named,
            closed: boxed[0] == b'+' && rule.len() >= 20 && rule.iter().all(|&b| b == b'-'),
        };
        if !named
            && spaces == usize::from(self.base)
            && let Some(inside) = boxed.strip_prefix(b"| ")
            && let Some(name) = line::exception_name(inside)
        {
            self.state = State::Group {
                named: true,
                closed: false,
            };
            return Step::Exception(spaces + 2, spaces + 2 + name);
        }
        SURE
    }

    /// torchrun's table: a ruler, the failures, a ruler (`torch/distributed/elastic/multiprocessing/errors`; of `*` up to 1.9).
    fn table(&mut self, view: &View<'_>) -> Step {
        let text = line::trim_end(view.text);
        let first = text[0];
        let is_ruler = text.len() >= 20 && text.iter().all(|&b| b == first);
        match self.state {
            State::Table { ruler } if is_ruler && first == ruler => Step::Last,
            State::Table { .. } => MAYBE,
            _ if is_ruler && matches!(first, b'=' | b'*') => {
                self.state = State::Table { ruler: first };
                SURE
            }
            _ => {
                self.state = State::Message;
                self.message(view)
            }
        }
    }
}
