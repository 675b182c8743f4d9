//! One file or pipe: bytes in, entries out. No I/O: bytes, time and the end of the input arrive by calls.
//!
//! Each source has a filter of its own, so that a record that leaves late still belongs to its file.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use clap::ValueEnum;
use jiff::tz::TimeZone;
use rank_filter::{Filter, Output};

use super::clock::{Clock, Timestamps};
use super::cri::{self, Container};
use super::lines::Splitter;
use super::record::{Entry, EntryMaker};

const REDRAW_FLUSH_NS: i64 = 5_000_000_000;

/// What the lines of an input are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Input {
    /// Found out from the first line
    Auto,
    /// Lines as a program prints them
    Text,
    /// Lines as a container runtime stores them (/var/log/containers, /var/log/pods)
    Cri,
    /// Records as `rankline filter` prints them
    Jsonl,
}

/// How sources are read; the same for all sources of a command.
#[derive(Debug, Clone)]
pub struct SourceOptions {
    /// What the lines are.
    pub input: Input,
    /// Labels given on the command line.
    pub labels: Vec<(String, String)>,
    /// The filter's configuration; `None` leaves the filter out.
    pub filter: Option<rank_filter::Config>,
    /// Longer lines are cut into pieces.
    pub max_line_bytes: usize,
    /// Where the times of text lines come from.
    pub timestamps: Timestamps,
    /// The zone of times without one.
    pub zone: TimeZone,
}

/// One input with all that is remembered about it.
#[derive(Debug)]
pub struct Source {
    input: Input,
    live: bool,
    tag: Vec<u8>,
    record: Vec<u8>,
    record_tail: Vec<u8>,
    splitter: Splitter,
    partial_since: Option<i64>,
    joiner: cri::Joiner,
    clock: Clock,
    filter: Option<Filter>,
    maker: EntryMaker,
    lines: u64,
}

impl Source {
    /// Number `id`; `path` is `None` for stdin. A `live` source is written while it is read.
    pub fn new(id: u32, path: Option<&Path>, live: bool, options: &SourceOptions) -> Self {
        let container = path.and_then(Container::from_path);
        let tag = match (&container, path) {
            (Some(_), Some(path)) => format!("kube{}", path.to_string_lossy().replace('/', ".")),
            (_, path) => path.map_or_else(|| "stdin".to_owned(), |p| p.to_string_lossy().into_owned()),
        };
        let record_tail = container.as_ref().map_or_else(Vec::new, |c| {
            let names = serde_json::json!({
                "namespace_name": c.namespace, "pod_name": c.pod, "container_name": c.container,
            });
            format!(",\"kubernetes\":{names}").into_bytes()
        });
        Self {
            input: options.input,
            live,
            tag: tag.into_bytes(),
            record: Vec::new(),
            record_tail,
            splitter: Splitter::new(options.max_line_bytes),
            partial_since: None,
            joiner: cri::Joiner::new(options.max_line_bytes),
            clock: Clock::new(options.timestamps, options.zone.clone()),
            filter: options.filter.clone().map(Filter::new),
            maker: EntryMaker::new(
                id,
                path,
                container.as_ref(),
                &options.labels,
                options.max_line_bytes,
            ),
            lines: 0,
        }
    }

    /// Says whether the source is written while it is read.
    pub fn set_live(&mut self, live: bool) {
        self.live = live;
    }

    /// Lines seen so far.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// Whether everything fed so far has left as entries.
    pub fn is_settled(&self) -> bool {
        self.splitter.partial_bytes() == 0
            && self.joiner.is_empty()
            && self.filter.as_ref().is_none_or(|f| f.pending() == 0)
    }

    /// Bytes of a last line that has no end yet.
    pub fn partial_bytes(&self) -> usize {
        self.splitter.partial_bytes()
    }

    /// Looks at the beginning of a file for the first time in it.
    pub fn seed_clock(&mut self, beginning: &[u8], now: i64) {
        if matches!(self.input, Input::Auto | Input::Text) {
            let text = String::from_utf8_lossy(beginning);
            self.clock.seed(text.lines(), now);
        }
    }

    /// Takes bytes read at `now` (nanoseconds since the epoch).
    pub fn feed(&mut self, bytes: &[u8], now: i64, out: &mut Vec<Entry>) {
        self.with_lines(now, out, |splitter, line| splitter.feed(bytes, line));
        if self.splitter.partial_bytes() == 0 {
            self.partial_since = None;
        } else {
            self.partial_since.get_or_insert(now);
        }
    }

    /// Lets out what is due at `now`; call it every fraction of a second.
    pub fn tick(&mut self, now: i64, out: &mut Vec<Entry>) {
        if self
            .partial_since
            .is_some_and(|since| now.saturating_sub(since) >= REDRAW_FLUSH_NS)
        {
            self.with_lines(now, out, |splitter, line| splitter.flush_redraws(line));
            self.partial_since = Some(now);
        }
        let (Some(filter), maker) = (&mut self.filter, &mut self.maker) else {
            return;
        };
        while let Some(record) = filter.tick(u64::try_from(now).unwrap_or(0)) {
            maker.take_record(record, now, self.lines, out);
        }
    }

    /// The input ends here, or begins anew (a rotated file): lets everything out.
    pub fn finish(&mut self, now: i64, out: &mut Vec<Entry>) {
        self.with_lines(now, out, |splitter, line| splitter.finish(line));
        self.partial_since = None;
        while let Some(joined) = self.joiner.flush() {
            self.take_text(&joined.text, Some(joined.stream), joined.ts, out);
        }
        let (Some(filter), maker) = (&mut self.filter, &mut self.maker) else {
            return;
        };
        while let Some(record) = filter.flush() {
            maker.take_record(record, now, self.lines, out);
        }
    }

    fn with_lines(
        &mut self,
        now: i64,
        out: &mut Vec<Entry>,
        run: impl FnOnce(&mut Splitter, &mut dyn FnMut(&[u8])),
    ) {
        let max = usize::MAX;
        let mut splitter = std::mem::replace(&mut self.splitter, Splitter::new(max));
        run(&mut splitter, &mut |line: &[u8]| self.take_line(line, now, out));
        self.splitter = splitter;
    }

    fn take_line(&mut self, bytes: &[u8], now: i64, out: &mut Vec<Entry>) {
        // A file truncated under its writer's feet begins with a hole that reads as zeros.
        let start = bytes.iter().position(|&b| b != 0).unwrap_or(bytes.len());
        if start > 0 && start == bytes.len() {
            return;
        }
        self.lines += 1;
        let line: Cow<'_, str> = String::from_utf8_lossy(&bytes[start..]);
        if self.input == Input::Auto && !line.is_empty() {
            self.input = detect(&line);
        }
        match self.input {
            Input::Cri => {
                if let Some(parsed) = cri::parse_line(&line) {
                    if let Some(joined) = self.joiner.push(&parsed) {
                        let ts = self.clock.exact(joined.ts, &line);
                        self.take_text(&joined.text, Some(joined.stream), ts, out);
                    }
                    return;
                }
                let ts = self.clock.text(&line, now, self.live);
                self.take_text(&line, None, ts, out);
            }
            Input::Jsonl => {
                if !self
                    .maker
                    .take_json_line(&line, self.lines, &mut self.clock, now, out)
                {
                    let ts = self.clock.text(&line, now, self.live);
                    self.maker.take_text(&line, None, ts, self.lines, out);
                }
            }
            Input::Auto | Input::Text => {
                let ts = self.clock.text(&line, now, self.live);
                self.take_text(&line, None, ts, out);
            }
        }
    }

    /// A whole line with its time: through the filter, if there is one.
    fn take_text(&mut self, text: &str, stream: Option<&'static str>, ts: i64, out: &mut Vec<Entry>) {
        let Self {
            filter: Some(filter),
            maker,
            record,
            record_tail,
            tag,
            lines,
            ..
        } = self
        else {
            return self.maker.take_text(text, stream, ts, self.lines, out);
        };
        let (Ok(sec), Ok(nsec)) = (
            u32::try_from(ts.div_euclid(1_000_000_000)),
            u32::try_from(ts.rem_euclid(1_000_000_000)),
        ) else {
            return maker.take_text(text, stream, ts, *lines, out);
        };
        record.clear();
        record.extend_from_slice(b"{\"log\":");
        if serde_json::to_writer(&mut *record, text).is_err() {
            return maker.take_text(text, stream, ts, *lines, out);
        }
        if let Some(stream) = stream {
            record.extend_from_slice(format!(",\"stream\":\"{stream}\"").as_bytes());
        }
        record.extend_from_slice(record_tail);
        record.push(b'}');
        match filter.record(tag, sec, nsec, record) {
            Output::Unchanged => maker.take_text(text, stream, ts, *lines, out),
            Output::Record(record) => maker.take_record(record, ts, *lines, out),
            Output::Nothing => {}
        }
        while let Some(record) = filter.ready() {
            maker.take_record(record, ts, *lines, out);
        }
    }
}

fn detect(line: &str) -> Input {
    if cri::parse_line(line).is_some() {
        return Input::Cri;
    }
    let is_record = line.starts_with('{')
        && serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(line)
            .is_ok_and(|record| ["log", "tag", "sec"].iter().all(|key| record.contains_key(*key)));
    if is_record { Input::Jsonl } else { Input::Text }
}

/// The name messages use for a source.
pub fn display_name(path: Option<&Path>) -> Arc<str> {
    path.map_or_else(|| "stdin".into(), |p| p.to_string_lossy().into())
}
