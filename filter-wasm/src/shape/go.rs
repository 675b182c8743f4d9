//! What Go's runtime prints when a program dies: `panic: …` or `fatal error: …`, then its goroutines.

use super::{MAYBE, SURE, Shape, Start, Step, View};
use crate::line;

/// Where in the print we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Go {
    /// `panic: …`; nothing of the goroutines yet.
    Panic {
        /// Its text has words: it may go on in further lines. Settings have one value (`panic: true`).
        words: bool,
    },
    /// Inside the goroutines.
    Frames,
    /// Inside the stack that a logger prints behind its line: names and places, without goroutines.
    Logged,
}

pub(super) fn start(text: &[u8]) -> Option<Start> {
    let known = text.starts_with(b"panic: ")
        || text.starts_with(b"fatal error: ")
        || text.starts_with(b"runtime: goroutine stack exceeds ");
    if known {
        let words = text.iter().filter(|&&b| b == b' ').count() > 2;
        Start::plain(Shape::Go(Go::Panic { words }))
    } else {
        None
    }
}

impl Go {
    pub(super) fn step(&mut self, view: &View<'_>) -> Step {
        let text = view.text;
        let head = text.ends_with(b":") && (text.starts_with(b"goroutine ") || text == b"runtime stack:");
        if head {
            *self = Go::Frames;
            return SURE;
        }
        if line::is_blank(text) {
            return if *self == Go::Logged { Step::Other } else { MAYBE };
        }
        match self {
            Go::Panic { words } => {
                let known = text.starts_with(b"[signal ")
                    || text.starts_with(b"\t")
                    || text.starts_with(b"panic: ")
                    || text.starts_with(b"runtime: ")
                    || text.starts_with(b"fatal error: ");
                if known || (*words && view.goes_on_freely()) {
                    MAYBE
                } else {
                    Step::Other
                }
            }
            Go::Frames if is_stack_line(text) => SURE,
            Go::Frames => Step::Other,
            Go::Logged if place(text) => SURE,
            Go::Logged if view.burst && is_name(text) => MAYBE,
            Go::Logged => Step::Other,
        }
    }
}

/// `main.(*T).f({0x1, 0x2})`: nothing but the function stands before its arguments.
fn is_call(text: &[u8]) -> bool {
    text.iter().find(|b| matches!(b, b'(' | b' ')) == Some(&b'(')
}

/// `main.main`, `a.io/b/c.(*T).f.func2`: a function's name alone.
pub(super) fn is_name(text: &[u8]) -> bool {
    let known = |b: &u8| b.is_ascii_alphanumeric() || b"_-./()*[]~@".contains(b);
    text.first().is_some_and(u8::is_ascii_alphabetic)
        && text.iter().all(known)
        && text.contains(&b'.')
        && !text.ends_with(b".")
}

/// `\t/go/pkg/mod/a/b.go:329`
pub(super) fn place(text: &[u8]) -> bool {
    text.starts_with(b"\t") && line::contains(text, b".go:")
}

/// A function's line, its place, what is left out, and the registers behind the goroutines of a signal.
fn is_stack_line(text: &[u8]) -> bool {
    let register = text[0] == b'r' && text.len() < 40 && line::contains(text, b" 0x");
    register
        || text[0] == b'\t'
        || text.starts_with(b"created by ")
        || text.starts_with(b"...")
        || (text.ends_with(b")") && is_call(text))
}
