//! The filter as its callers see it: one record in, at most one out.
//!
//! This module puts the parts together. A call scans the record, reads the line's prefixes, finds the held record of its key
//! and asks its shape whether the line goes on; a line that belongs to nothing may start a record of its own, or leaves.

use crate::config::{Config, ConfigProblem};
use crate::fields::{self, Fields};
use crate::hold::{Held, Key, Waiting};
use crate::json::{self, Scan};
use crate::line;
use crate::prefix::{self, Prefix};
use crate::shape::{Shape, Start, Step, View};
use crate::tags::{self, Tags};

/// What a call gives back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output<'a> {
    /// The input record goes on as it came.
    Unchanged,
    /// This JSON object goes on instead of the input; it may be another record than the call's own.
    Record(&'a [u8]),
    /// Nothing leaves on this call.
    Nothing,
}

/// What [`Filter::handle`] decided; the record, if any, is in `out`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    Unchanged,
    Out,
    Nothing,
}

/// The filter and everything it holds.
#[derive(Debug)]
pub struct Filter {
    config: Config,
    tags: Tags,
    waiting: Waiting,
    /// The record given back last.
    out: Vec<u8>,
    /// The line without its escapes.
    plain: Vec<u8>,
    /// The line without its colours.
    clean: Vec<u8>,
}

/// One line with all that is known before its neighbours are asked.
#[derive(Debug)]
struct Line<'a> {
    tag: u64,
    ts: u64,
    record: &'a [u8],
    scan: &'a Scan,
    /// The line in the record, still escaped, without a newline at its end.
    escaped: &'a [u8],
    newline: bool,
    /// The line without escapes and colours.
    text: &'a [u8],
    prefix: Prefix,
    /// Behind the prefixes; of a redrawn bar the last state.
    body: &'a [u8],
    stream: Key,
    stderr: usize,
    key: Key,
    fields: Fields,
}

impl Filter {
    /// A filter that holds nothing yet.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            tags: Tags::default(),
            waiting: Waiting::default(),
            out: Vec::new(),
            plain: Vec::new(),
            clean: Vec::new(),
        }
    }

    /// Puts a record about each problem of the configuration in line, so that it shows among the logs. They leave with ticks.
    pub fn report(&mut self, problems: &[ConfigProblem]) {
        for problem in problems {
            let mut record = b"{\"log\":\"".to_vec();
            json::escape(problem.to_string().as_bytes(), &mut record);
            record.extend_from_slice(b"; its default applies\",\"level\":\"error\",\"app\":\"rank_filter\"}");
            self.waiting
                .queue(tags::hash(0, self.config.tick_tag.as_bytes()), record);
        }
    }

    /// Takes one record (a JSON object's text) of `tag` with its time, gives at most one back.
    ///
    /// A record that isn't understood goes on unchanged. A call with the configured tick tag is a tick at that time.
    pub fn record(&mut self, tag: &[u8], sec: u32, nsec: u32, record: &[u8]) -> Output<'_> {
        let ts = u64::from(sec) * 1_000_000_000 + u64::from(nsec);
        if tag == self.config.tick_tag.as_bytes() {
            return match self.tick(ts) {
                Some(due) => Output::Record(due),
                None => Output::Nothing,
            };
        }
        match self.handle(tag, ts, record) {
            Decision::Unchanged => Output::Unchanged,
            Decision::Out => Output::Record(&self.out),
            Decision::Nothing => Output::Nothing,
        }
    }

    /// One record that is complete and only waits for a free call.
    pub fn ready(&mut self) -> Option<&[u8]> {
        self.emit_queued(None).then_some(self.out.as_slice())
    }

    /// One record that is due at `now_ns` (nanoseconds since the epoch): complete, or held for `flush_ms` without a new line.
    ///
    /// The wait is measured from tick to tick, since the records' own times may be long past.
    pub fn tick(&mut self, now_ns: u64) -> Option<&[u8]> {
        let limit = self.config.flush_ms.saturating_mul(1_000_000);
        let mut due = Vec::new();
        for (index, held) in self.waiting.all().enumerate() {
            let since = *held.seen_by_tick.get_or_insert(now_ns);
            if now_ns.saturating_sub(since) >= limit {
                due.push(index - due.len());
            }
        }
        for index in due {
            self.close(index);
        }
        self.ready()
    }

    /// The next record that is still here, due or not: call at the end of input until it gives nothing.
    pub fn flush(&mut self) -> Option<&[u8]> {
        while !self.waiting.nothing_held() {
            self.close(0);
        }
        self.ready()
    }

    /// How many records are held or wait for a free call.
    pub fn pending(&self) -> usize {
        self.waiting.count()
    }

    fn handle(&mut self, tag: &[u8], ts: u64, record: &[u8]) -> Decision {
        let tag_hash = tags::hash(0, tag);
        let memory = self.tags.get(tag_hash, &self.config);
        let Some(scan) = json::scan(record, &self.config.log_keys, &memory.kubernetes) else {
            return Decision::Unchanged;
        };
        if let Some(kubernetes) = &scan.kubernetes {
            memory.see_kubernetes(record, kubernetes, &self.config);
        }
        let (mut plain, mut clean) = (std::mem::take(&mut self.plain), std::mem::take(&mut self.clean));
        let (escaped, newline) = without_newline(&record[scan.log.clone()]);
        let text = readable(escaped, &mut plain, &mut clean);
        let decision = if memchr::memchr(b'\n', text).is_some() {
            self.several_lines(tag_hash, ts, record, &scan)
        } else {
            let line = self.examine(tag_hash, ts, record, &scan, escaped, newline, text);
            self.place(line)
        };
        (self.plain, self.clean) = (plain, clean);
        decision
    }

    /// A record that holds several lines already: somebody else has merged it. It only keeps its place.
    fn several_lines(&mut self, tag: u64, ts: u64, record: &[u8], scan: &Scan) -> Decision {
        if !self.waiting.is_empty() {
            let of_tag = |held: &Held| held.tag == tag;
            while let Some(index) = self.waiting.held().iter().position(of_tag) {
                self.close(index);
            }
        }
        self.leave(tag, ts, record, scan, &Fields::default(), None)
    }

    /// Reads everything that the line says about itself.
    #[allow(clippy::too_many_arguments)] // the parts of one line, put together here and only here
    fn examine<'a>(
        &mut self,
        tag: u64,
        ts: u64,
        record: &'a [u8],
        scan: &'a Scan,
        escaped: &'a [u8],
        newline: bool,
        text: &'a [u8],
    ) -> Line<'a> {
        let memory = self.tags.get(tag, &self.config);
        let prefix = prefix::parse(text);
        let body = last_state(&text[prefix.len..]);
        let stream_name = scan.stream.clone().map_or(&b""[..], |span| &record[span]);
        let stream = tags::hash(tag ^ memory.pod, stream_name);
        let key = key_of(stream, &text[..prefix.len]);
        if let (Some(rank), Some(task)) = (prefix.rank, prefix.task)
            && rank != task
        {
            memory.task_is_no_rank = true;
        }
        let mut fields = Fields {
            local_rank: prefix.local_rank,
            level: line::level(body),
            ..Fields::default()
        };
        if let Some((from, to)) = prefix.role
            && &text[from..to] != b"default"
        {
            fields.role.extend_from_slice(&text[from..to]);
        }
        fields.rank = prefix.rank.or_else(|| line::inline_rank(body));
        if fields.rank.is_none()
            && let Some(pid) = prefix.pid
        {
            fields.rank = memory
                .worker_ranks
                .iter()
                .find(|(known, _)| *known == pid)
                .map(|(_, rank)| *rank);
        }
        if fields.rank.is_none()
            && self.config.task_is_rank
            && !memory.task_is_no_rank
            && prefix.local_rank.is_none()
        {
            fields.rank = prefix.task;
        }
        if fields.rank.is_none()
            && self.config.procs_per_node > 0
            && let (Some(local), Some(node)) = (prefix.local_rank, memory.node_rank)
        {
            fields.rank = node
                .checked_mul(self.config.procs_per_node)
                .and_then(|first| first.checked_add(local));
        }
        fields.step = fields::step(body);
        let stderr = usize::from(stream_name == b"stderr");
        Line {
            tag,
            ts,
            record,
            scan,
            escaped,
            newline,
            text,
            prefix,
            body,
            stream,
            stderr,
            key,
            fields,
        }
    }

    /// Finds the line's record: a held one, a new one, or none.
    fn place(&mut self, line: Line<'_>) -> Decision {
        if self.config.merge {
            if !self.waiting.nothing_held() {
                self.close_aged(line.tag, line.ts);
                if self.join(&line) {
                    return self.give_queued(line.tag);
                }
            }
            self.tags.get(line.tag, &self.config).last_key[line.stderr] = line.key;
            let view = View {
                text: line.body,
                burst: false,
                excepthook: line.prefix.excepthook,
                own_prefix: line.prefix.len > 0,
                logged: false,
            };
            if let Some(start) = Shape::start(&view, line.fields.level) {
                self.hold(&line, start);
                return self.give_queued(line.tag);
            }
        }
        let collapsed = self.collapsed(&line);
        let text = collapsed.as_deref().or_else(|| self.stripped(&line));
        self.leave(line.tag, line.ts, line.record, line.scan, &line.fields, text)
    }

    /// Gives the line to the held record that it continues. A held record of its key that it doesn't continue is closed.
    fn join(&mut self, line: &Line<'_>) -> bool {
        if let Some(index) = self.waiting.find(line.key) {
            if self.try_join(index, line, false) {
                return true;
            }
            self.close(index);
            // Another one may have taken lines of this key too.
            while let Some(index) = self.waiting.find(line.key) {
                self.close(index);
            }
        }
        // A line without its record's prefix: the youngest record that surely wants it.
        let candidates: Vec<usize> = (0..self.waiting.held_records())
            .rev()
            .filter(|&index| {
                let held = &self.waiting.held()[index];
                held.stream == line.stream && held.outer.contains(&line.key)
            })
            .collect();
        if candidates.is_empty() {
            return false;
        }
        if line::is_blank(line.body) {
            let last = self.tags.get(line.tag, &self.config).last_key[line.stderr];
            return candidates
                .into_iter()
                .any(|index| self.waiting.held()[index].key == last && self.try_join(index, line, true));
        }
        let mut by_age = candidates;
        by_age.sort_by_key(|&index| std::cmp::Reverse(self.waiting.held()[index].last_ts));
        by_age.into_iter().any(|index| self.try_join(index, line, true))
    }

    /// `foreign`: the line lacks the record's prefix, so only its own look counts.
    fn try_join(&mut self, index: usize, line: &Line<'_>, foreign: bool) -> bool {
        let burst_ns = self.config.burst_ms.saturating_mul(1_000_000);
        let held = self.waiting.at(index);
        let (text, logged, offset) = behind_head(held, line.body);
        if held.head_repeats && !logged && !line::is_blank(text) {
            return false;
        }
        let view = View {
            text,
            burst: line.ts.saturating_sub(held.last_ts) <= burst_ns,
            excepthook: line.prefix.excepthook && !foreign,
            own_prefix: line.prefix.len > 0 && !foreign,
            logged,
        };
        let mut shape = held.shape;
        let step = shape.step(&view);
        let blank = line::is_blank(text);
        let joins = match step {
            Step::Other => false,
            Step::Join { sure } => !foreign || sure || blank,
            Step::Exception(..) => !foreign,
            Step::Last => true,
        };
        if !joins {
            return false;
        }
        held.shape = shape;
        if logged {
            if !held.head_repeats && offset > 0 {
                held.head = line.body[..offset].to_vec();
            }
            held.head_repeats = true;
        }
        if foreign && !blank && !held.adopted.contains(&line.key) {
            held.adopted.push(line.key);
        }
        if let Step::Exception(from, to) = step {
            held.fields.exception = text[from..to].to_vec();
        }
        held.fields.add(&line.fields);
        let key = held.key;
        self.waiting.append(index, line.escaped, line.newline, line.ts);
        self.tags.get(line.tag, &self.config).last_key[line.stderr] = key;
        let held = self.waiting.at(index);
        let full =
            held.text.len() >= self.config.max_record_bytes || held.lines >= self.config.max_record_lines;
        if step == Step::Last || full {
            self.close(index);
        } else {
            self.keep_bounds();
        }
        true
    }

    fn hold(&mut self, line: &Line<'_>, start: Start) {
        let mut fields = line.fields.clone();
        if let Some((from, to)) = start.exception {
            fields.exception = line.body[from..to].to_vec();
        }
        let head = match start.shape {
            Shape::Announced(_) => line.body[..line.body.len().min(400)].to_vec(),
            _ => line.body[..start.head].to_vec(),
        };
        let mut record = self.waiting.buffer();
        record.extend_from_slice(line.record);
        let mut text = self.waiting.buffer();
        text.extend_from_slice(self.collapsed(line).as_deref().unwrap_or(line.escaped));
        self.waiting.hold(Held {
            tag: line.tag,
            stream: line.stream,
            key: line.key,
            outer: outer_keys(line),
            adopted: Vec::new(),
            shape: start.shape,
            record,
            log: line.scan.log.clone(),
            end: line.scan.end,
            present: line.scan.present,
            text,
            newline: line.newline,
            lines: 1,
            first_ts: line.ts,
            last_ts: line.ts,
            head,
            head_repeats: false,
            seen_by_tick: None,
            fields,
        });
        self.keep_bounds();
    }

    /// Lets the oldest records leave early while there are too many.
    fn keep_bounds(&mut self) {
        while self.waiting.held_records() > self.config.max_held_records.max(1)
            || (self.waiting.held_bytes() > self.config.max_held_bytes && self.waiting.held_records() > 1)
        {
            self.close(0);
        }
    }

    /// Closes records of the tag that wait since long before this line.
    fn close_aged(&mut self, tag: u64, ts: u64) {
        let limit = self.config.max_age_ms.saturating_mul(1_000_000);
        while let Some(index) = self
            .waiting
            .held()
            .iter()
            .position(|held| held.tag == tag && ts.saturating_sub(held.last_ts) > limit)
        {
            self.close(index);
        }
    }

    /// Completes a held record and puts it in line.
    fn close(&mut self, index: usize) {
        let held = self.waiting.release(index);
        let mut fields = held.fields.clone();
        fields.level = held.shape.level(held.lines).or(fields.level).max(fields.level);
        let mut out = self.waiting.buffer();
        out.extend_from_slice(&held.record[..held.log.start]);
        out.extend_from_slice(&held.text);
        if held.newline {
            out.extend_from_slice(b"\\n");
        }
        out.extend_from_slice(&held.record[held.log.end..held.end]);
        let common = &self.tags.get(held.tag, &self.config).common;
        fields.write(common, held.present, &mut out);
        push_time(&mut out, held.first_ts);
        out.extend_from_slice(&held.record[held.end..]);
        self.waiting.queue(held.tag, out);
        self.waiting.recycle(held.record);
        self.waiting.recycle(held.text);
    }

    /// Sends an ordinary line on its way: at once, or behind those that wait before it.
    fn leave(
        &mut self,
        tag: u64,
        ts: u64,
        record: &[u8],
        scan: &Scan,
        fields: &Fields,
        text: Option<&[u8]>,
    ) -> Decision {
        let behind = self.waiting.has_ready(tag);
        let common = &self.tags.get(tag, &self.config).common;
        if !behind && text.is_none() && fields.is_empty() && common.is_empty() {
            return Decision::Unchanged;
        }
        let mut out = if behind {
            self.waiting.buffer()
        } else {
            std::mem::take(&mut self.out)
        };
        out.clear();
        match text {
            Some(text) => {
                out.extend_from_slice(&record[..scan.log.start]);
                out.extend_from_slice(text);
                out.extend_from_slice(&record[scan.log.end..scan.end]);
            }
            None => out.extend_from_slice(&record[..scan.end]),
        }
        fields.write(common, scan.present, &mut out);
        if behind {
            push_time(&mut out, ts);
        }
        out.extend_from_slice(&record[scan.end..]);
        if !behind {
            self.out = out;
            return Decision::Out;
        }
        self.waiting.queue(tag, out);
        self.give_queued(tag)
    }

    fn give_queued(&mut self, tag: u64) -> Decision {
        if self.emit_queued(Some(tag)) {
            Decision::Out
        } else {
            Decision::Nothing
        }
    }

    fn emit_queued(&mut self, tag: Option<u64>) -> bool {
        let Some(record) = self.waiting.take(tag) else {
            return false;
        };
        let old = std::mem::replace(&mut self.out, record);
        self.waiting.recycle(old);
        true
    }

    /// The escaped line with only the last redraw of its bar, if it has more than one.
    fn collapsed(&self, line: &Line<'_>) -> Option<Vec<u8>> {
        if !self.config.collapse_bars || memchr::memchr(b'\r', line.text).is_none() {
            return None;
        }
        let kept = collapse(line.escaped)?;
        let mut text = Vec::new();
        if line.prefix.len > 0 {
            json::escape(&line.text[..line.prefix.len], &mut text);
            text.extend_from_slice(b"\\r");
        }
        text.extend_from_slice(kept);
        if line.newline {
            text.extend_from_slice(b"\\n");
        }
        Some(text)
    }

    /// The escaped line without its prefixes, when that is wanted.
    fn stripped<'a>(&self, line: &Line<'a>) -> Option<&'a [u8]> {
        if !self.config.strip_prefix || line.prefix.len == 0 {
            return None;
        }
        // Only where the line stands unescaped in the record, which lines with prefixes nearly always do.
        let plain = memchr::memchr(b'\\', &line.escaped[..line.prefix.len.min(line.escaped.len())]).is_none();
        let same = line.escaped.starts_with(&line.text[..line.prefix.len]);
        let raw = &line.record[line.scan.log.clone()];
        (plain && same).then(|| &raw[line.prefix.len..])
    }
}

/// The line's text behind the head that the record's lines repeat: the text, whether the head was there, its length.
fn behind_head<'a>(held: &Held, body: &'a [u8]) -> (&'a [u8], bool, usize) {
    if held.head.is_empty() {
        return (body, false, 0);
    }
    if let Shape::Announced(_) = held.shape {
        // The announcing line's own header may stand before the traceback's head.
        let bare = line::trim_end(body);
        if let Some(head) = bare.strip_suffix(line::TRACEBACK)
            && !line::is_blank(head)
            && held.head.starts_with(head)
        {
            return (&body[head.len()..], true, head.len());
        }
        return (body, false, 0);
    }
    if body.starts_with(&held.head) {
        return (&body[held.head.len()..], true, held.head.len());
    }
    if held.head_repeats && line::trim_end(&held.head) == line::trim_end(body) {
        return (b"", true, 0);
    }
    (body, false, 0)
}

fn push_time(out: &mut Vec<u8>, ts: u64) {
    out.extend_from_slice(b",\"rankline_ts\":\"");
    json::push_decimal(out, ts);
    out.push(b'"');
}

fn key_of(stream: Key, prefix: &[u8]) -> Key {
    let prefix = line::trim_end(line::trim_start(prefix));
    if prefix.is_empty() {
        stream
    } else {
        tags::hash(stream, prefix)
    }
}

/// The keys of the same stream with fewer prefixes.
fn outer_keys(line: &Line<'_>) -> Vec<Key> {
    let cuts = &line.prefix.cuts[..usize::from(line.prefix.count)];
    let mut keys = Vec::new();
    if let Some((_, outer)) = cuts.split_last() {
        keys.extend(
            outer
                .iter()
                .rev()
                .map(|&cut| key_of(line.stream, &line.text[..cut])),
        );
        keys.push(line.stream);
    }
    keys
}

/// The escaped text without one newline at its end, and whether there was one.
fn without_newline(escaped: &[u8]) -> (&[u8], bool) {
    let Some(rest) = escaped.strip_suffix(b"\\n") else {
        return (escaped, false);
    };
    let backslashes = rest.iter().rev().take_while(|&&b| b == b'\\').count();
    if backslashes % 2 == 1 {
        (escaped, false)
    } else {
        (rest, true)
    }
}

/// The line without escapes and colours, in whichever buffer it needed.
fn readable<'a>(escaped: &'a [u8], plain: &'a mut Vec<u8>, clean: &'a mut Vec<u8>) -> &'a [u8] {
    if memchr::memchr(b'\\', escaped).is_none() {
        return escaped;
    }
    plain.clear();
    json::unescape(escaped, plain);
    if memchr::memchr(0x1b, plain).is_none() {
        return plain;
    }
    clean.clear();
    without_colours(plain, clean);
    clean
}

/// Drops ANSI's control sequences.
fn without_colours(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = memchr::memchr(0x1b, rest) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        let Some(sequence) = rest.strip_prefix(b"[") else {
            continue;
        };
        let length = sequence.iter().take_while(|b| matches!(b, 0x20..=0x3f)).count();
        rest = sequence.get(length + 1..).unwrap_or(b"");
    }
    out.extend_from_slice(rest);
}

/// Of a redrawn bar the last state that isn't empty.
fn last_state(text: &[u8]) -> &[u8] {
    if memchr::memchr(b'\r', text).is_none() {
        return text;
    }
    text.rsplit(|&b| b == b'\r')
        .find(|part| !part.is_empty())
        .unwrap_or(b"")
}

/// The same on escaped text; nothing when there is but one state.
fn collapse(escaped: &[u8]) -> Option<&[u8]> {
    let mut parts = 0;
    let mut last = 0..0;
    let mut start = 0;
    let mut at = 0;
    loop {
        let next = memchr::memchr(b'\\', &escaped[at..]).map(|n| n + at);
        let (end, behind) = match next {
            Some(b) if escaped.get(b + 1) == Some(&b'r') => (b, b + 2),
            Some(b) if escaped[b..].starts_with(b"\\u000d") || escaped[b..].starts_with(b"\\u000D") => {
                (b, b + 6)
            }
            Some(b) => {
                at = (b + 2).min(escaped.len());
                continue;
            }
            None => (escaped.len(), escaped.len()),
        };
        if end > start {
            parts += 1;
            last = start..end;
        }
        if next.is_none() {
            break;
        }
        (start, at) = (behind, behind);
    }
    (parts > 1).then(|| &escaped[last])
}
