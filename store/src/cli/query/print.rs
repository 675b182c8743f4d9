//! Lines for people and for programs. Knows terminals and labels, asks nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::answer::{Labels, Row};
use super::{Notes, Output};
use crate::cli::push::record::render_labels;

const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";
const DIM: &str = "\x1b[2m";
const BOLD: &str = "\x1b[1m";
const RESET: &str = "\x1b[0m";
/// Colours that can be told apart on dark and light ground; a rank always has the same.
const RANK_COLORS: [&str; 6] = [
    "\x1b[36m", "\x1b[32m", "\x1b[35m", "\x1b[34m", "\x1b[96m", "\x1b[95m",
];
/// A pod's name is shown by its end, where it differs from its siblings.
const POD_CHARS: usize = 24;

/// How things are printed.
#[derive(Debug, Clone)]
pub struct Style {
    /// The format.
    pub output: Output,
    /// With colours.
    pub color: bool,
    /// Control characters are made visible, because a terminal would obey them.
    pub safe: bool,
    /// Labels and fields shown with each line.
    pub show: Vec<String>,
    /// The zone times are shown in.
    pub zone: TimeZone,
}

impl Style {
    /// Wraps `text` in a colour.
    pub fn paint(&self, color: &str, text: &str) -> String {
        if self.color && !text.is_empty() {
            format!("{color}{text}{RESET}")
        } else {
            text.to_owned()
        }
    }

    /// `2026-01-02 03:04:05.678`, in the reader's zone.
    pub fn full_time(&self, ns: i64) -> String {
        self.format_time(ns, "%Y-%m-%d %H:%M:%S%.3f")
    }

    fn format_time(&self, ns: i64, format: &str) -> String {
        let millis = ns.div_euclid(1_000_000);
        match Timestamp::from_millisecond(millis) {
            Ok(ts) => ts
                .to_zoned_datetime(self.zone.clone())
                .strftime(format)
                .to_string(),
            Err(_) => ns.to_string(),
        }
    }
}

/// Prints lines, page after page.
pub struct LogPrinter {
    style: Style,
    out: Box<dyn Write + Send>,
    notes: Notes,
    header: Option<Header>,
}

/// What is said once.
struct Header {
    common: Labels,
    day: String,
    has_rank: bool,
    has_pod: bool,
    level_column: bool,
}

impl LogPrinter {
    /// A printer to `out`; what is said once goes to `notes`.
    pub fn new(style: Style, out: Box<dyn Write + Send>, notes: Notes) -> Self {
        Self {
            style,
            out,
            notes,
            header: None,
        }
    }

    /// Prints a page.
    ///
    /// # Errors
    /// The output can't be written; a closed pipe among others.
    pub fn print(&mut self, rows: &[Row]) -> io::Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut text = String::new();
        match self.style.output {
            Output::Raw => rows.iter().for_each(|row| {
                text.push_str(&row.line);
                text.push('\n');
            }),
            Output::Jsonl => rows.iter().for_each(|row| {
                let object = serde_json::json!({
                    "ts": row.ts.to_string(), "labels": row.all(), "line": row.line,
                });
                let _ = writeln!(text, "{object}");
            }),
            Output::Default => {
                if self.header.is_none() {
                    self.header = Some(self.say_header(rows));
                }
                if let Some(header) = &self.header {
                    rows.iter()
                        .for_each(|row| person_line(&self.style, header, row, &mut text));
                }
            }
        }
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    fn say_header(&self, rows: &[Row]) -> Header {
        let mut common = rows.first().map(|row| (*row.stream).clone()).unwrap_or_default();
        for row in rows {
            common.retain(|name, value| row.stream.get(name) == Some(value));
        }
        // One line's labels say little about the next line's.
        if rows.len() == 1 {
            common.remove("rank");
            common.remove("pod");
        }
        let day = rows
            .first()
            .map(|row| self.style.format_time(row.ts, "%Y-%m-%d"))
            .unwrap_or_default();
        let labels = self.style.paint(BOLD, &render_labels(&common));
        let zone = rows
            .first()
            .map(|row| self.style.format_time(row.ts, "%:z"))
            .unwrap_or_default();
        self.notes.say(&format!(
            "{labels} {}",
            self.style.paint(DIM, &format!("{day} UTC{zone}"))
        ));
        let differs =
            |name: &str| !common.contains_key(name) && rows.iter().any(|row| row.get(name).is_some());
        Header {
            has_rank: differs("rank"),
            has_pod: differs("pod") && !differs("rank"),
            level_column: !self.style.color && rows.iter().any(|row| level(row).is_some()),
            day,
            common,
        }
    }
}

fn level(row: &Row) -> Option<&str> {
    row.get("level")
        .or_else(|| row.get("detected_level"))
        .filter(|level| *level != "unknown")
}

fn level_color(level: &str) -> &'static str {
    match level.to_ascii_lowercase().as_str() {
        "error" | "err" | "critical" | "fatal" | "panic" => RED,
        "warn" | "warning" => YELLOW,
        "debug" | "trace" => DIM,
        _ => "",
    }
}

/// `03:04:05.678 [3] {stream="stderr"} the line`, with further lines of a record under its first.
fn person_line(style: &Style, header: &Header, row: &Row, text: &mut String) {
    let mut width = 0;
    let mut column = |color: &str, cell: &str, text: &mut String| {
        if !cell.is_empty() {
            text.push_str(&style.paint(color, cell));
            text.push(' ');
            width += cell.chars().count() + 1;
        }
    };
    let today = style.format_time(row.ts, "%Y-%m-%d") == header.day;
    let format = if today {
        "%H:%M:%S%.3f"
    } else {
        "%Y-%m-%d %H:%M:%S%.3f"
    };
    column(DIM, &style.format_time(row.ts, format), text);
    if header.has_rank {
        let rank = row.get("rank").unwrap_or("-");
        column(rank_color(rank), &format!("{:>5}", format!("[{rank}]")), text);
    }
    if header.has_pod {
        let pod = row.get("pod").unwrap_or("-");
        let start = pod
            .char_indices()
            .rev()
            .nth(POD_CHARS - 1)
            .map_or(0, |(at, _)| at);
        column(rank_color(pod), &pod[start..], text);
    }
    let level = level(row).unwrap_or_default();
    if header.level_column {
        column(
            "",
            &format!("{:<5}", level.chars().take(5).collect::<String>()),
            text,
        );
    }
    let shown = shown_labels(style, header, row);
    if !shown.is_empty() {
        column(DIM, &render_labels(&shown), text);
    }
    let indent = " ".repeat(width.min(40));
    for (number, part) in row.line.split('\n').enumerate() {
        if number > 0 {
            text.push_str(&indent);
        }
        let part = if style.safe {
            visible(part)
        } else {
            part.to_owned()
        };
        let color = level_color(level);
        text.push_str(&if color.is_empty() {
            part
        } else {
            style.paint(color, &part)
        });
        text.push('\n');
    }
}

fn shown_labels(style: &Style, header: &Header, row: &Row) -> BTreeMap<String, String> {
    let mut shown: Labels = row
        .stream
        .iter()
        .filter(|(name, value)| {
            let in_column = (header.has_rank && *name == "rank")
                || (header.has_pod && *name == "pod")
                || *name == "service_name";
            !in_column && header.common.get(*name) != Some(value)
        })
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    for name in &style.show {
        if let Some(value) = row.get(name) {
            shown.insert(name.clone(), value.to_owned());
        }
    }
    shown
}

fn rank_color(rank: &str) -> &'static str {
    let number: usize = rank
        .parse()
        .unwrap_or_else(|_| rank.bytes().map(usize::from).sum());
    RANK_COLORS[number % RANK_COLORS.len()]
}

/// Shows control characters as pictures, so that a log line can't steer the terminal; tabs and colours stay.
fn visible(line: &str) -> String {
    if !line.chars().any(|c| c.is_control() && c != '\t') {
        return line.to_owned();
    }
    let mut shown = String::with_capacity(line.len() + 8);
    let mut rest = line;
    let mut colored = false;
    while let Some(c) = rest.chars().next() {
        if let Some(sequence) = color_sequence(rest) {
            shown.push_str(sequence);
            colored = true;
            rest = &rest[sequence.len()..];
            continue;
        }
        shown.push(match c {
            '\t' => c,
            '\u{7f}' => '␡',
            c if c < ' ' => char::from_u32(0x2400 + u32::from(c)).unwrap_or('␦'),
            c if c.is_control() => '␦',
            c => c,
        });
        rest = &rest[c.len_utf8()..];
    }
    if colored {
        shown.push_str(RESET);
    }
    shown
}

/// `ESC [ digits and semicolons m` at the front of `text`.
fn color_sequence(text: &str) -> Option<&str> {
    let body = text.strip_prefix("\x1b[")?;
    let end = body.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    (body.as_bytes()[end] == b'm').then(|| &text[..end + 3])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect()
    }

    fn row(ts: i64, line: &str, stream: &[(&str, &str)], fields: &[(&str, &str)]) -> Row {
        Row {
            ts,
            line: line.into(),
            stream: Arc::new(labels(stream)),
            fields: labels(fields),
        }
    }

    fn printed(color: bool, show: &[&str], rows: &[Row]) -> (String, String) {
        let (sink, said) = (Sink::default(), Arc::new(Mutex::new(String::new())));
        let notes = Arc::clone(&said);
        let style = Style {
            output: Output::Default,
            color,
            safe: true,
            show: show.iter().map(|s| (*s).to_owned()).collect(),
            zone: TimeZone::UTC,
        };
        let notes = Notes::to(move |note| notes.lock().push_str(note));
        LogPrinter::new(style, Box::new(sink.clone()), notes)
            .print(rows)
            .unwrap();
        let text = String::from_utf8(sink.0.lock().clone()).unwrap();
        let said = said.lock().clone();
        (text, said)
    }

    const T: i64 = 1_767_323_045_000_000_000;

    #[test]
    fn common_labels_once_ranks_in_a_column_records_indented() {
        let (text, said) = printed(
            false,
            &["step"],
            &[
                row(
                    T,
                    "a",
                    &[("job", "llama"), ("rank", "0"), ("stream", "stdout")],
                    &[("step", "7")],
                ),
                row(
                    T + 1_500_000,
                    "Trace\n  at x",
                    &[("job", "llama"), ("rank", "12"), ("stream", "stderr")],
                    &[],
                ),
                row(
                    T + 86_400_000_000_000,
                    "b",
                    &[("job", "llama"), ("rank", "1"), ("stream", "stdout")],
                    &[],
                ),
            ],
        );
        assert_eq!(said, r#"{job="llama"} 2026-01-02 UTC+00:00"#);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], r#"03:04:05.000   [0] {step="7", stream="stdout"} a"#);
        assert_eq!(lines[1], r#"03:04:05.001  [12] {stream="stderr"} Trace"#);
        assert_eq!(lines[2].trim_start(), "at x");
        assert_eq!(
            lines[2].find("at x").unwrap(),
            2 + 40.min(lines[1].find("Trace").unwrap())
        );
        assert!(
            lines[3].starts_with("2026-01-03 03:04:05.000   [1]"),
            "{}",
            lines[3]
        );
    }

    #[test]
    fn levels_are_colours_on_a_terminal_and_a_column_elsewhere() {
        let rows = [row(T, "boom", &[("job", "x")], &[("detected_level", "error")])];
        assert!(printed(true, &[], &rows).0.ends_with("\x1b[31mboom\x1b[0m\n"));
        assert_eq!(printed(false, &[], &rows).0, "03:04:05.000 error boom\n");
    }

    #[test]
    fn a_line_can_not_steer_the_terminal() {
        assert_eq!(visible("a\x1b[31mred\x1b[0m"), "a\x1b[31mred\x1b[0m\x1b[0m");
        assert_eq!(
            visible("\x1b]0;title\x07 10%\r 20%\t\u{9b}x"),
            "␛]0;title␇ 10%␍ 20%\t␦x"
        );
    }

    #[test]
    fn pods_stand_in_where_there_are_no_ranks() {
        let pods = ["a-very-long-job-name-with-worker-10", "b"];
        let rows = pods.map(|pod| row(T, "x", &[("pod", pod)], &[]));
        let text = printed(false, &[], &rows).0;
        assert!(
            text.starts_with("03:04:05.000 ob-name-with-worker-10 x\n") || text.contains("worker-10 x"),
            "{text}"
        );
        assert!(text.ends_with("03:04:05.000 b x\n"));
    }
}
