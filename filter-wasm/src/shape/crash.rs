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
    /// UCX's `[host:pid:0:tid] Caught signal 11 (…)`.
    UcxSignal,
    /// Its frames between rulers of `=`.
    Ucx,
    /// `==4711==ERROR: AddressSanitizer: …` … `==4711==ABORTING`
    Sanitizer,
}

pub(super) fn start(text: &[u8]) -> Option<Start> {
    if text.starts_with(b"*** Process received signal ***") {
        return Start::plain(Shape::Crash(Crash::Signal));
    }
    if is_stack_head(text) {
        return Start::plain(Shape::Crash(Crash::Frames));
    }
    if text.starts_with(b"[") && line::contains(&text[..text.len().min(80)], b"] Caught signal ") {
        return Start::plain(Shape::Crash(Crash::UcxSignal));
    }
    if is_ucx_head(text) {
        return Start::plain(Shape::Crash(Crash::Ucx));
    }
    if of_sanitizer(text).is_some_and(|rest| rest.starts_with(b"ERROR: ")) {
        return Start::plain(Shape::Crash(Crash::Sanitizer));
    }
    None
}

/// `==== backtrace (tid:   4711) ====`
fn is_ucx_head(text: &[u8]) -> bool {
    text.starts_with(b"==== backtrace")
}

/// ` 1 0x00000000000a2b3c ncclProxyProgress()  /nccl/src/proxy.cc:812`, `    0  /usr/lib/libucs.so.0(+0x1) [0x7f01]`
fn is_ucx_frame(text: &[u8]) -> bool {
    let bare = line::trim_start(text);
    let place = crate::prefix::number(bare, 0).map(|(_, end)| line::trim_start(&bare[end..]));
    bare.len() < text.len() && place.is_some_and(|place| place.starts_with(b"0x") || place.starts_with(b"/"))
}

/// The text behind `==4711==`.
fn of_sanitizer(text: &[u8]) -> Option<&[u8]> {
    let rest = text.strip_prefix(b"==")?;
    let (_, end) = crate::prefix::number(rest, 0)?;
    rest[end..].strip_prefix(b"==")
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
        address.starts_with(b"0x")
            || address.starts_with(b"(nil)")
            || address.starts_with(b"(unknown)")
            || address.starts_with(b"... and at least ")
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
            Crash::UcxSignal if is_ucx_head(view.text) && view.burst => {
                *self = Crash::Ucx;
                SURE
            }
            Crash::UcxSignal => Step::Other,
            Crash::Ucx if view.text.starts_with(b"=====") => Step::Last,
            Crash::Ucx if is_ucx_frame(view.text) => SURE,
            Crash::Ucx if !view.write => Step::Other,
            Crash::Sanitizer if of_sanitizer(view.text) == Some(b"ABORTING") => Step::Last,
            Crash::Ucx | Crash::Sanitizer if view.burst && !line::starts_log_record(view.text) => MAYBE,
            Crash::Ucx | Crash::Sanitizer => Step::Other,
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
        let own = line::starts_own_record(text) || super::begins_record(view);
        if view.instant && !own { MAYBE } else { Step::Other }
    }
}
