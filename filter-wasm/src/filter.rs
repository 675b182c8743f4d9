//! The filter as its callers see it: one record in, at most one out.
//!
//! This module puts the parts together. A call scans the record, reads the line's prefixes, finds the held record of its key
//! and asks its shape whether the line goes on; a line that belongs to nothing may start a record of its own, or leaves.

use crate::config::{Config, ConfigProblem};
use crate::fields::{self, Fields};
use crate::hold::{Blank, Held, Key, Waiting};
use crate::json::{self, Scan};
use crate::line;
use crate::partial::{Partial, Partials};
use crate::prefix::{self, Prefix};
use crate::shape::{Shape, Start, Step, View};
use crate::tags::{self, Tags};

/// Most blank lines that wait behind a held record.
const MAX_TAIL: usize = 16;

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
    partials: Partials,
    /// Number of the current call.
    call: u64,
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
    /// Its own call was an earlier one.
    late: bool,
}

impl Filter {
    /// A filter that holds nothing yet.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            tags: Tags::default(),
            waiting: Waiting::default(),
            partials: Partials::default(),
            call: 0,
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
            let of = tag_of_tick(record);
            return match self.tick_of(of, ts) {
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
        self.tick_of(None, now_ns)
    }

    fn tick_of(&mut self, tag: Option<u64>, now_ns: u64) -> Option<&[u8]> {
        let limit = self.config.flush_ms.saturating_mul(1_000_000);
        while let Some(partial) = self.partials.take_due(tag, now_ns, limit) {
            self.give_up(&partial);
        }
        let mut due = Vec::new();
        for (index, held) in self.waiting.all().enumerate() {
            if tag.is_none_or(|tag| tag == held.tag) {
                let since = *held.seen_by_tick.get_or_insert(now_ns);
                if now_ns.saturating_sub(since) >= limit {
                    due.push(index - due.len());
                }
            }
        }
        for index in due {
            self.close(index);
        }
        self.emit_queued(tag).then_some(self.out.as_slice())
    }

    /// The next record that is still here, due or not: call at the end of input until it gives nothing.
    pub fn flush(&mut self) -> Option<&[u8]> {
        while let Some(partial) = self.partials.take_any() {
            self.give_up(&partial);
        }
        while !self.waiting.nothing_held() {
            self.close(0);
        }
        self.ready()
    }

    /// How many records are held or wait for a free call.
    pub fn pending(&self) -> usize {
        self.waiting.count() + self.partials.count()
    }

    fn handle(&mut self, tag: &[u8], ts: u64, record: &[u8]) -> Decision {
        self.call += 1;
        let tag_hash = tags::hash(0, tag);
        let memory = self.tags.get(tag_hash, &self.config);
        let Some(scan) = json::scan(record, &self.config.log_keys, &memory.kubernetes) else {
            return Decision::Unchanged;
        };
        if let Some(kubernetes) = &scan.kubernetes {
            memory.see_kubernetes(record, kubernetes, &self.config);
        }
        let stream = stream_key(tag_hash ^ memory.pod, record, &scan);
        if scan.partial {
            let limit = self.config.max_record_bytes;
            if let Some(partial) = self.partials.add(tag_hash, stream, ts, record, &scan, limit) {
                self.give_up(&partial);
            }
            return self.give_queued(tag_hash);
        }
        if scan.partial_flag.is_some()
            && let Some(partial) = self.partials.take(stream)
        {
            return self.handle_joined(tag_hash, &partial, record, &scan);
        }
        self.handle_line(tag_hash, ts, record, &scan, false)
    }

    /// The last part of a line has come.
    fn handle_joined(&mut self, tag: u64, partial: &Partial, record: &[u8], last: &Scan) -> Decision {
        let flag = last.partial_flag.clone().map_or(&b"F"[..], |span| &record[span]);
        let joined = partial.complete(&record[last.log.clone()], flag);
        let memory = self.tags.get(tag, &self.config);
        let Some(scan) = json::scan(&joined, &self.config.log_keys, &memory.kubernetes) else {
            return Decision::Unchanged; // both parts were understood, so this can't be
        };
        self.handle_line(tag, partial.ts, &joined, &scan, true)
    }

    /// Lets an incomplete line leave as it is.
    fn give_up(&mut self, partial: &Partial) {
        let mut out = partial.complete(b"", b"P");
        let common = &self.tags.get(partial.tag, &self.config).common;
        if let Some(scan) = json::scan(&out, &self.config.log_keys, b"") {
            out.truncate(scan.end);
            Fields::default().write(common, scan.present, &mut out);
            push_time(&mut out, partial.ts);
            out.push(b'}');
        }
        self.waiting.queue(partial.tag, out);
    }

    /// One whole line. `late`: its own call was an earlier one.
    fn handle_line(&mut self, tag: u64, ts: u64, record: &[u8], scan: &Scan, late: bool) -> Decision {
        let (mut plain, mut clean) = (std::mem::take(&mut self.plain), std::mem::take(&mut self.clean));
        let (escaped, newline) = without_newline(&record[scan.log.clone()]);
        let text = readable(escaped, &mut plain, &mut clean);
        let decision = if memchr::memchr(b'\n', text).is_some() {
            self.several_lines(tag, ts, record, scan, late)
        } else {
            let line = self.examine(tag, ts, record, scan, escaped, newline, text, late);
            self.place(line)
        };
        (self.plain, self.clean) = (plain, clean);
        decision
    }

    /// A record that holds several lines already: somebody else has merged it. It only keeps its place.
    fn several_lines(&mut self, tag: u64, ts: u64, record: &[u8], scan: &Scan, late: bool) -> Decision {
        if !self.waiting.is_empty() {
            let of_tag = |held: &Held| held.tag == tag;
            while let Some(index) = self.waiting.held().iter().position(of_tag) {
                self.close(index);
            }
        }
        self.leave(tag, ts, record, scan, &Fields::default(), None, late)
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
        late: bool,
    ) -> Line<'a> {
        let memory = self.tags.get(tag, &self.config);
        let prefix = prefix::parse(text);
        let body = without_repeats(last_state(&text[prefix.len..]));
        let stream = stream_key(tag ^ memory.pod, record, scan);
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
        let torn = prefix.template && prefix::is_torn(body);
        fields.rank = if torn {
            None
        } else {
            prefix.rank.or_else(|| line::inline_rank(body))
        };
        if prefix.worker {
            let worker = tags::hash(tag, &text[..prefix.cuts[0]]);
            if let Some(rank) = ray_rank(body) {
                memory.learn_worker(worker, rank);
            }
            fields.rank = fields.rank.or_else(|| memory.worker_rank(worker));
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
        let stderr = usize::from(
            scan.stream
                .as_ref()
                .is_some_and(|span| &record[span.clone()] == b"stderr"),
        );
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
            late,
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
                instant: false,
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
        self.leave(
            line.tag,
            line.ts,
            line.record,
            line.scan,
            &line.fields,
            text,
            line.late,
        )
    }

    /// Gives the line to the held record that it continues. Records of its key that it doesn't continue are closed.
    ///
    /// The record touched last is asked first. One of a deeper key (`[rank3]:` for a line without it) is asked only while it
    /// may adopt lines: processes print their stacks without the prefix of the line that announces them.
    fn join(&mut self, line: &Line<'_>) -> bool {
        let mut candidates: Vec<(u64, usize)> = Vec::new();
        for (index, held) in self.waiting.held().iter().enumerate() {
            if held.stream == line.stream && (held.owns(line.key) || held.outer.contains(&line.key)) {
                candidates.push((held.touched, index));
            }
        }
        if candidates.is_empty() {
            return false;
        }
        candidates.sort_unstable_by_key(|&(touched, _)| std::cmp::Reverse(touched));
        let last_key = self.tags.get(line.tag, &self.config).last_key[line.stderr];
        let blank = line::is_blank(line.body);
        let taker = candidates.iter().find_map(|&(_, index)| {
            let held = &self.waiting.held()[index];
            let (id, own) = (held.id, held.owns(line.key));
            let allowed = own
                || if blank {
                    held.key == last_key
                } else {
                    held.may_adopt()
                };
            if allowed {
                self.try_join(index, line, !own).map(|last| (id, last))
            } else {
                None
            }
        });
        // Their lines of this key stand before this one.
        let taken_by = taker.map(|(id, _)| id);
        while let Some(index) =
            self.waiting.held().iter().position(|held| {
                held.stream == line.stream && held.owns(line.key) && taken_by != Some(held.id)
            })
        {
            self.close(index);
        }
        let Some((id, last)) = taker else { return false };
        if last && let Some(index) = self.waiting.held().iter().position(|held| held.id == id) {
            self.close(index);
        }
        self.keep_bounds();
        true
    }

    /// Appends the line if the record goes on with it; says whether it was its last one.
    ///
    /// `foreign`: the line lacks the record's prefix, so only its own look counts.
    fn try_join(&mut self, index: usize, line: &Line<'_>, foreign: bool) -> Option<bool> {
        let burst_ns = self.config.burst_ms.saturating_mul(1_000_000);
        let held = self.waiting.at(index);
        let (text, logged, offset) = behind_head(held, line.body);
        let blank = line::is_blank(text);
        if held.head_repeats && !logged && !blank {
            return None;
        }
        let gap = line.ts.saturating_sub(held.last_ts);
        let view = View {
            text,
            burst: gap <= burst_ns,
            instant: gap <= burst_ns / 10,
            excepthook: line.prefix.excepthook && !foreign,
            own_prefix: line.prefix.len > 0 && !foreign,
            logged,
        };
        let mut shape = held.shape;
        let step = shape.step(&view);
        let joins = match step {
            Step::Other => false,
            Step::Join { sure } => !foreign || sure || blank,
            Step::Exception(..) => !foreign,
            Step::Last => true,
        };
        if !joins || (blank && held.tail.len() >= MAX_TAIL) {
            return None;
        }
        held.shape = shape;
        held.touched = self.call;
        held.fields.add(&line.fields);
        let key = held.key;
        if logged {
            if !held.head_repeats && offset > 0 {
                held.head = line.body[..offset].to_vec();
            }
            held.head_repeats = true;
        }
        if let Step::Exception(from, to) = step {
            held.fields.exception = text[from..to].to_vec();
        }
        if foreign && !blank && !held.adopted.contains(&line.key) {
            held.adopted.push(line.key);
        }
        if blank {
            let blank = self.blank(line);
            self.waiting.append_blank(index, blank, line.ts);
        } else {
            self.waiting.append(index, line.escaped, line.newline, line.ts);
        }
        self.tags.get(line.tag, &self.config).last_key[line.stderr] = key;
        let held = self.waiting.at(index);
        let full =
            held.text.len() >= self.config.max_record_bytes || held.lines >= self.config.max_record_lines;
        Some(step == Step::Last || full)
    }

    /// A blank line with its own record, for the case that the held one ends before it.
    fn blank(&mut self, line: &Line<'_>) -> Blank {
        let mut record = self.waiting.buffer();
        record.extend_from_slice(&line.record[..line.scan.end]);
        let common = &self.tags.get(line.tag, &self.config).common;
        line.fields.write(common, line.scan.present, &mut record);
        push_time(&mut record, line.ts);
        record.extend_from_slice(&line.record[line.scan.end..]);
        Blank {
            escaped: line.escaped.to_vec(),
            record,
        }
    }

    fn hold(&mut self, line: &Line<'_>, start: Start) {
        let mut fields = line.fields.clone();
        let (mut key, mut outer, mut adopted) = (line.key, outer_keys(line), Vec::new());
        if start.head > 0
            && let Some(glued) = glued_prefix(line, &line.body[..start.head])
        {
            // The prefixes that the next lines will have stand behind a bar; this line still keeps its place in its own key.
            adopted.push(key);
            key = glued.key;
            outer = vec![line.stream];
            fields.rank = glued.prefix.rank.or(fields.rank);
            fields.local_rank = glued.prefix.local_rank.or(fields.local_rank);
        }
        if let Some((from, to)) = start.exception {
            fields.exception = line.body[from..to].to_vec();
        }
        let head = match start.shape {
            Shape::Announced(_) => line.body[..line.body.len().min(400)].to_vec(),
            _ if line::is_bar(&line.body[..start.head]) => Vec::new(),
            _ => line.body[..start.head].to_vec(),
        };
        let mut record = self.waiting.buffer();
        record.extend_from_slice(line.record);
        let mut text = self.waiting.buffer();
        text.extend_from_slice(self.collapsed(line).as_deref().unwrap_or(line.escaped));
        self.waiting.hold(Held {
            tag: line.tag,
            stream: line.stream,
            id: self.call,
            key,
            outer,
            adopted,
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
            tail: Vec::new(),
            touched: self.call,
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
        for blank in held.tail {
            self.waiting.queue(held.tag, blank.record);
        }
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
        late: bool,
    ) -> Decision {
        let behind = self.waiting.has_ready(tag);
        let common = &self.tags.get(tag, &self.config).common;
        if !behind && !late && text.is_none() && fields.is_empty() && common.is_empty() {
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
        if behind || late {
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

/// Prefixes that stand at the end of the text before a traceback's head, behind a progress bar without a newline.
struct Glued {
    key: Key,
    prefix: Prefix,
}

fn glued_prefix(line: &Line<'_>, head: &[u8]) -> Option<Glued> {
    let mut from = 0;
    while let Some(at) = memchr::memchr(b'[', &head[from..]).map(|n| n + from) {
        let prefix = prefix::parse(&head[at..]);
        if prefix.len > 0 && at + prefix.len == head.len() {
            // A launcher's prefix behind the bar replaces that of the line; a process's own one follows it.
            let outer = if prefix.local_rank.is_some() {
                &b""[..]
            } else {
                &line.text[..line.prefix.len]
            };
            let text = [outer, &head[at..]].concat();
            return Some(Glued {
                key: key_of(line.stream, &text),
                prefix,
            });
        }
        from = at + 1;
    }
    None
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

/// `Setting up process group for: env:// [rank=2, world_size=4]`, as Ray Train's workers say.
fn ray_rank(body: &[u8]) -> Option<u32> {
    if !body.starts_with(b"Setting up process group for: ") {
        return None;
    }
    let at = memchr::memmem::find(body, b"[rank=")? + 6;
    prefix::number(body, at).map(|(rank, _)| rank)
}

/// Tag, pod and stream of a record.
fn stream_key(seed: u64, record: &[u8], scan: &Scan) -> Key {
    tags::hash(seed, scan.stream.clone().map_or(&b""[..], |span| &record[span]))
}

/// A tick may be for one tag alone: `{"tag":"kube.x"}`.
fn tag_of_tick(record: &[u8]) -> Option<u64> {
    let mut found = None;
    json::members(record, 0, |name, value| {
        if name == b"tag" && record[value.start] == b'"' {
            let mut tag = Vec::new();
            json::unescape(&record[value.start + 1..value.end - 1], &mut tag);
            found = Some(tags::hash(0, &tag));
        }
    })?;
    found
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

/// Without Ray's remark that it left out equal lines of other workers.
fn without_repeats(text: &[u8]) -> &[u8] {
    if !text.ends_with(b" across cluster]") && !text.ends_with(b")") {
        return text;
    }
    memchr::memmem::rfind(text, b" [repeated ")
        .filter(|&at| line::contains(&text[at..], b"x across cluster]"))
        .map_or(text, |at| &text[..at])
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
