//! Lines that a traceback or a stack may follow: log lines of some severity, CPython's and asyncio's announcements.
//!
//! Such a line is a record of its own unless its neighbour completes it, so it waits for one line.

use super::{MAYBE, SURE, Shape, Start, Step, View, cpp, crash, go, java, python, rich, rust, warning};
use crate::find;
use crate::line;

/// What may follow an announcing line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Announced {
    /// A log line: a traceback, a C++ stack or a JVM trace.
    Log,
    /// The same of a message that goes on in further lines: it ends with a colon, or opens a bracket.
    Open,
    /// A line of lower severity, or of none, whose words tell of a failure: a traceback with the same write.
    Told,
    /// A function's name behind a log line, as Go's loggers print stacks: its place must follow.
    GoName,
    /// A line of glog, absl or c10: a C++ stack.
    Glog,
    /// The same, written from Python: also a traceback, with the same write.
    GlogPython,
    /// The same of absl at a severity that kills: its message may have further lines.
    Fatal,
    /// A line of Python that announces a traceback (`Exception in thread …`).
    Python,
    /// The first line of a record of `java.util.logging`: its level and message are in the next one.
    Java,
    /// Behind that second line: a JVM trace.
    JavaMessage,
    /// asyncio's line about a task, which it describes in the next one; what announces a traceback only when it comes at once.
    Task,
    /// An exception's name and message: a JVM trace or a chain's sentence may follow.
    Exception,
    /// Ray's name of a task that failed (`ray::Worker.f() (pid=47, ip=10.0.0.7)`): its frames follow without a head.
    Ray,
    /// A place in a script and a name, as `warnings` prints of a category of one's own: the source line may follow.
    Place,
}

/// Lines that CPython's own modules print before a traceback or an exception (`threading`, `asyncio`, `concurrent.futures`,
/// `atexit`, `logging`, `sys.excepthook`, `sys.unraisablehook`), and hydra's.
const ANNOUNCEMENTS: [&[u8]; 20] = [
    b"Exception in thread ",
    b"Exception in threading.excepthook:",
    b"Exception ignored ",
    b"Exception in callback ",
    b"Exception in default exception handler",
    b"Error in sys.excepthook:",
    b"Error in atexit._run_exitfuncs:",
    b"Error executing job with overrides",
    b"Fatal error on ",
    b"Fatal read error on ",
    b"Fatal write error on ",
    b"Task exception was never retrieved",
    PENDING_TASK,
    b"Future exception was never retrieved",
    b"Unhandled exception in ",
    b"Unhandled exception during ",
    b"unhandled exception during ",
    b"sys.excepthook is missing",
    b"exception calling callback ",
    b"--- Logging error ---",
];

/// asyncio says this of a task; which one it was follows, and no exception.
const PENDING_TASK: &[u8] = b"Task was destroyed but it is pending!";

/// A line that announces a traceback by what it says.
pub(super) fn start_python(text: &[u8]) -> Option<Start> {
    let known = match text.first()? {
        b'E' | b'F' | b'T' | b'U' | b's' | b'e' | b'u' | b'-' => {
            ANNOUNCEMENTS.iter().any(|known| text.starts_with(known))
                // The JVM also says `Exception in thread "main" …`.
                && !text.starts_with(b"Exception in thread \"")
                // What was being done stands behind a colon, or before one.
                && (text.contains(&b':') || !text.starts_with(b"Exception ignored "))
        }
        b'P' => is_process_line(text),
        _ => false,
    };
    if !known {
        return None;
    }
    // `Process rank 0 of 8:` may be anybody's sentence.
    let kind = if text == PENDING_TASK || (text[0] == b'P' && text[8..].contains(&b' ')) {
        Announced::Task
    } else {
        Announced::Python
    };
    Start::plain(Shape::Announced(kind))
}

/// `Process SpawnProcess-1:`, as `multiprocessing` says; the name is free.
fn is_process_line(text: &[u8]) -> bool {
    text.strip_prefix(b"Process ")
        .and_then(|rest| rest.strip_suffix(b":"))
        .is_some_and(|name| name.len() < 80 && !name.is_empty() && !name.contains(&b':'))
}

/// `Nov 24, 2026 4:41:45 PM a.b.C run`, as the default format of `java.util.logging` begins. Since JDK 23 a narrow space of three
/// bytes stands before `PM`.
pub(super) fn start_java(text: &[u8]) -> Option<Start> {
    if text[3] != b' ' || !text[0].is_ascii_uppercase() {
        return None;
    }
    let head = &text[..text.len().min(30)];
    let known = b"JanFebMarAprMayJunJulAugSepOctNovDec"
        .chunks(3)
        .any(|month| head.starts_with(month))
        && find::text(head, b", 2").is_some_and(|at| at <= 6)
        && (line::contains(head, b"AM ") || line::contains(head, b"PM "));
    if known {
        Start::plain(Shape::Announced(Announced::Java))
    } else {
        None
    }
}

/// Lines that promise nothing but after which a trace may come.
pub(super) fn start(text: &[u8], level: Option<line::Level>) -> Option<Start> {
    if let Some(level) = line::glog_level(text) {
        let kind = if line::is_absl_failure(text) {
            Announced::Fatal
        } else if is_absl_python(text) {
            Announced::GlogPython
        } else {
            Announced::Glog
        };
        return if level >= line::Level::Warn {
            Start::plain(Shape::Announced(kind))
        } else {
            None
        };
    }
    if level == Some(line::Level::Critical) && line::contains(&text[..text.len().min(40)], b": F ") {
        return Start::plain(Shape::Announced(Announced::Fatal));
    }
    if level.is_some_and(|level| level >= line::Level::Warn) && !stands_alone(text) {
        let open = matches!(line::trim_end(text).last(), Some(b':' | b'{' | b'[' | b'('));
        let kind = if open { Announced::Open } else { Announced::Log };
        return Start::plain(Shape::Announced(kind));
    }
    if warning::may_start(text) {
        return Start::plain(Shape::Announced(Announced::Place));
    }
    // JAX makes `SimplifiedTraceback` the cause of what it raises; it has no frames, so that its sentence is all of its print.
    let announces = |name: &usize| {
        line::is_exception_like(&text[..*name]) || text[..*name].ends_with(b".SimplifiedTraceback")
    };
    match line::exception_name(text).filter(announces) {
        Some(name) => Some(Start {
            shape: Shape::Announced(Announced::Exception),
            head: 0,
            exception: Some((0, name)),
        }),
        None => start_told(text, level),
    }
}

/// Lines that are no log lines of a failure, and speak of one.
fn start_told(text: &[u8], level: Option<line::Level>) -> Option<Start> {
    if text.ends_with(b")") && names_ray_task(text) {
        return Start::plain(Shape::Announced(Announced::Ray));
    }
    // What Node's `process.emitWarning` prints, which has a stack where the process asked for it.
    if text.starts_with(b"(node:") {
        return Start::plain(Shape::Announced(Announced::Exception));
    }
    if tells_of_failure(text, level) {
        return Start::plain(Shape::Announced(Announced::Told));
    }
    None
}

/// How far words of a failure are looked for.
const WORDS: usize = 128;

/// Its words are those that people write above a traceback: `INFO … failed, trying again`, `Error while reading:`.
fn tells_of_failure(text: &[u8], level: Option<line::Level>) -> bool {
    // Structured lines tell their traces themselves.
    if matches!(text[0], b'{' | b':') {
        return false;
    }
    let head = &text[..text.len().min(WORDS)];
    if line::contains(head, b"xception") {
        return true;
    }
    if level.is_some() || line::has_time_head(text) || text.ends_with(b":") {
        return [&b"rror "[..], b"ailed", b"ailure", b"ould not "]
            .iter()
            .any(|word| line::contains(head, word));
    }
    line::contains(head, b"Error: ") || text.ends_with(b" failed")
}

/// `E1128 04:25:36.034182 140056794733440 train.py:8] …`: absl names the file alone. torch's loggers, which look like it but for
/// the file's path, put their head before all lines of a trace.
fn is_absl_python(text: &[u8]) -> bool {
    let head = &text[..text.len().min(160)];
    find::byte(b']', head).is_some_and(|close| {
        let place = head[..close].rsplit(|&b| b == b' ').next().unwrap_or_default();
        line::contains(place, b".py:") && !place.contains(&b'/')
    })
}

/// JSON tells its traces itself, and NCCL has none.
fn stands_alone(text: &[u8]) -> bool {
    text[0] == b'{' || line::contains(&text[..text.len().min(120)], b" NCCL WARN ")
}

impl Announced {
    /// The record's state with this line, and what the line is to it.
    pub(super) fn follow(self, view: &View<'_>) -> Option<(Shape, Step)> {
        match self {
            Announced::Python | Announced::Task => after_python(self, view),
            Announced::Log | Announced::Open => after_log(self, view),
            Announced::Told => told(view),
            Announced::GoName => go::place(view.text).then_some((Shape::Go(go::Go::Logged), SURE)),
            Announced::Glog | Announced::GlogPython | Announced::Fatal => after_glog(self, view),
            Announced::Java => after_java(view),
            Announced::JavaMessage => java_trace(view),
            Announced::Exception => after_exception(view),
            Announced::Ray => ray_frames(view),
            Announced::Place => warning::source_line(view),
        }
    }
}

fn traceback(view: &View<'_>) -> Option<(Shape, Step)> {
    if !python::is_traceback_head(view.text) {
        return None;
    }
    python::traceback_head(view.text).map(|start| (start.shape, SURE))
}

fn after_python(kind: Announced, view: &View<'_>) -> Option<(Shape, Step)> {
    let text = view.text;
    if let Some(found) = traceback(view).filter(|_| kind == Announced::Python || view.burst) {
        return Some(found);
    }
    if is_context(text) {
        let shape = if text.ends_with(b"(most recent call last):") {
            Shape::Python(python::Python::behind_stack_head(true))
        } else {
            Shape::Announced(kind)
        };
        return Some((shape, SURE));
    }
    let name = line::exception_name(text).filter(|&name| line::is_exception_like(&text[..name]))?;
    (view.burst || view.own_prefix).then_some((
        Shape::Python(python::Python::behind_exception()),
        Step::Exception(0, name),
    ))
}

/// A member of what asyncio's `call_exception_handler` was told: `future: <Task …>`, `source_traceback: Object created at …`.
fn is_context(text: &[u8]) -> bool {
    let key = text
        .iter()
        .take_while(|b| b.is_ascii_lowercase() || **b == b'_')
        .count();
    (3..=20).contains(&key)
        && text[key..].starts_with(b": ")
        && (text[key + 2..].starts_with(b"<") || text.ends_with(b"created at (most recent call last):"))
}

/// What Python's loggers put behind a message.
fn trace(view: &View<'_>) -> Option<(Shape, Step)> {
    if let Some(found) = traceback(view) {
        return Some(found);
    }
    if python::is_stack_head(view.text) {
        return Some((Shape::Python(python::Python::behind_stack_head(false)), SURE));
    }
    rich::start(view.text).map(|start| (start.shape, SURE))
}

fn told(view: &View<'_>) -> Option<(Shape, Step)> {
    if !view.write || view.excepthook {
        return None;
    }
    if java::is_frame(view.text) {
        return Some((Shape::Java(java::Java::Frames), SURE));
    }
    trace(view).or_else(|| more_of_message(Announced::Exception, view))
}

fn after_log(kind: Announced, view: &View<'_>) -> Option<(Shape, Step)> {
    let text = view.text;
    if (view.burst || view.logged) && (view.write || !view.excepthook) {
        if let Some(found) = trace(view).or_else(|| ray_frames(view)) {
            return Some(found);
        }
        if is_context(text) {
            return after_python(Announced::Python, view);
        }
        // `logging` had an exception to print, and there was none.
        if text == b"NoneType: None" {
            return Some((Shape::Announced(kind), Step::Last));
        }
    }
    if let Some(found) = native_stack(text) {
        return Some(found);
    }
    java_trace(view).or_else(|| {
        let next = further_line(kind, view)?;
        Some((Shape::Announced(next), Step::Perhaps))
    })
}

/// What may follow behind a line that may belong to a log line's message, if that is what it looks like.
fn further_line(kind: Announced, view: &View<'_>) -> Option<Announced> {
    let text = view.text;
    if !view.write || view.excepthook || line::starts_log_record(text) {
        return None;
    }
    if line::is_blank(text) {
        return Some(Announced::JavaMessage);
    }
    if kind == Announced::Log && go::is_name(text) {
        return Some(Announced::GoName);
    }
    // A message of several lines stands below its first one, or that one says that it goes on.
    let open = kind == Announced::Open && !super::begins_report(text);
    let below = text.starts_with(b"  ") && !line::starts_own_record(text);
    (open || below).then_some(kind)
}

/// `… ray::Worker.f() (pid=47, ip=10.0.0.7, …)`
pub(super) fn names_ray_task(text: &[u8]) -> bool {
    find::text(text, b"ray::").is_some_and(|at| line::contains(&text[at..], b"(pid="))
}

/// Frames without a head; of Ray's own ones only the marks are left.
fn ray_frames(view: &View<'_>) -> Option<(Shape, Step)> {
    let frame = line::is_python_frame(view.text)
        || (line::is_caret_line(view.text) && view.text.starts_with(b"    "));
    (frame && view.write).then_some((Shape::Python(python::Python::headless_frames()), SURE))
}

fn java_trace(view: &View<'_>) -> Option<(Shape, Step)> {
    let text = view.text;
    if java::is_frame(text) {
        return Some((Shape::Java(java::Java::Frames), SURE));
    }
    let name = line::exception_name(text)?;
    let qualified = find::byte(b'.', &text[..name]).is_some() && line::is_exception_like(&text[..name]);
    (qualified && view.burst).then_some((Shape::Announced(Announced::Exception), Step::Exception(0, name)))
}

fn after_java(view: &View<'_>) -> Option<(Shape, Step)> {
    let colon = find::byte(b':', &view.text[..view.text.len().min(8)])?;
    let level = matches!(
        &view.text[..colon],
        b"SEVERE" | b"WARNING" | b"INFO" | b"CONFIG" | b"FINE" | b"FINER" | b"FINEST"
    );
    (level && view.instant).then_some((Shape::Announced(Announced::JavaMessage), SURE))
}

fn native_stack(text: &[u8]) -> Option<(Shape, Step)> {
    cpp::is_stack_line(text).then_some((Shape::Cpp(cpp::Cpp::stack()), SURE))
}

fn after_glog(kind: Announced, view: &View<'_>) -> Option<(Shape, Step)> {
    let text = view.text;
    if (view.logged || (kind == Announced::GlogPython && view.write))
        && let Some(found) = traceback(view)
    {
        return Some(found);
    }
    if let Some(found) = native_stack(text) {
        return Some(found);
    }
    if kind == Announced::Fatal && view.instant && line::is_blank(text) {
        return Some((Shape::Announced(kind), Step::Perhaps));
    }
    if kind == Announced::Fatal && view.instant && !line::is_blank(text) && !line::starts_own_record(text) {
        return Some((Shape::Crash(crash::Crash::Fatal), MAYBE));
    }
    None
}

fn after_exception(view: &View<'_>) -> Option<(Shape, Step)> {
    let text = view.text;
    if java::is_frame(text) {
        return Some((Shape::Java(java::Java::Frames), SURE));
    }
    // Ray tells a task's frames in the message of the error it raises in the caller.
    if ray_frames(view).is_some() {
        return Some((Shape::Python(python::Python::in_message()), SURE));
    }
    if is_nodes_remark(text) {
        return Some((Shape::Announced(Announced::Exception), Step::Last));
    }
    if line::is_blank(text) {
        return view
            .instant
            .then_some((Shape::Announced(Announced::Exception), MAYBE));
    }
    // `anyhow` prints an error's causes so.
    if text == b"Caused by:" && view.burst {
        return Some((Shape::Rust(rust::Rust::Causes), SURE));
    }
    if line::is_chain_sentence(text) && view.burst {
        return Some((Shape::Python(python::Python::behind_sentence()), SURE));
    }
    more_of_message(Announced::Exception, view)
}

/// A line that may be a message's next one, if a stack follows it.
fn more_of_message(kind: Announced, view: &View<'_>) -> Option<(Shape, Step)> {
    let other = line::starts_log_record(view.text) || super::begins_report(view.text);
    (view.write && !view.excepthook && !other).then_some((Shape::Announced(kind), Step::Perhaps))
}

/// Node says how to find out more: ``(Use `node --trace-warnings ...` to show where the warning was created)``.
pub(super) fn is_nodes_remark(text: &[u8]) -> bool {
    text.starts_with(b"(Use `node --trace-")
}
