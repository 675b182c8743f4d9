//! The filter as its callers see it: one record in, at most one out.
//!
//! A call scans the record, joins a line that was cut, reads the line (`examine`), finds the record that it belongs to (`place`)
//! and writes what leaves (`emit`). This module holds the state and the calls.

mod emit;
mod examine;
mod place;
mod recall;
mod recover;

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use crate::config::{Config, ConfigProblem};
use crate::fields::Fields;
use crate::find;
use crate::hold::{Key, Waiting};
use crate::json::{self, Escapes, Scan};
use crate::partial::{Limits, Part, Partial, Partials};
use crate::queue::{Queue, Ready};
use crate::rules::Rules;
use crate::seen::SeenLines;
use crate::spool::{Batch, Call, Spool};
use crate::tags::{self, Identity, Tags};
use crate::text;

use emit::TimeMember;
use examine::Source;
use recall::Asked;

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
    /// `max_age_ms` in ns: multiplying at each call costs as much as a short way's look at the line.
    max_age_ns: u64,
    /// Configured patterns, where there are any.
    rules: Option<Box<Rules>>,
    tags: Tags,
    waiting: Waiting,
    queue: Queue,
    partials: Partials,
    spool: Spool,
    /// Number of the current call.
    call: u64,
    /// The memory of the numbers of one call, to be used again.
    spare_calls: Vec<u64>,
    /// The current call's line was kept back.
    kept_back: bool,
    /// First call of the record that the current call completed with its own line.
    completed: Option<u64>,
    /// Calls of an earlier process are being made again: nothing leaves.
    recovering: bool,
    /// The calls made again whose time tells them from all others: a hash of their record by their time. An agent that died
    /// before it noted how far it had read brings them once more.
    recovered: HashMap<u64, u64, BuildHasherDefault<Identity>>,
    /// What became of lines like those that may come.
    seen: SeenLines,
    /// The line at hand is none of them: the key to remember it by.
    asked: Option<Asked>,
    /// The record given back last.
    out: Vec<u8>,
    /// The time of the record that was put behind others last.
    time_member: TimeMember,
    /// The line without its escapes.
    plain: Vec<u8>,
    /// The line without its colours.
    clean: Vec<u8>,
}

impl Filter {
    /// A filter that holds nothing yet.
    pub fn new(config: Config) -> Self {
        Self {
            rules: Rules::new(&config),
            max_age_ns: config.max_age_ms.saturating_mul(1_000_000),
            config,
            tags: Tags::default(),
            waiting: Waiting::default(),
            queue: Queue::default(),
            partials: Partials::default(),
            spool: Spool::default(),
            call: 0,
            spare_calls: Vec::new(),
            kept_back: false,
            completed: None,
            recovering: false,
            recovered: HashMap::default(),
            seen: SeenLines::default(),
            asked: None,
            out: Vec::new(),
            time_member: TimeMember::default(),
            plain: Vec::new(),
            clean: Vec::new(),
        }
    }

    /// Puts a record about each problem of the configuration in line, so that it shows among the logs. They leave with ticks.
    pub fn report(&mut self, problems: &[ConfigProblem]) {
        for problem in problems {
            self.announce(&format!("{problem}; its default applies"));
        }
    }

    /// Puts a record of the filter's own in line; it leaves with a tick.
    fn announce(&mut self, message: &str) {
        let mut record = b"{\"log\":\"".to_vec();
        json::escape(message.as_bytes(), &mut record);
        record.extend_from_slice(b"\",\"level\":\"error\",\"app\":\"rank_filter\"}");
        self.queue.push(Ready {
            tag: tags::hash(0, self.config.tick_tag.as_bytes()),
            record,
            calls: Vec::new(),
        });
    }

    /// Takes one record (a JSON object's text) of `tag` with its time, gives at most one back.
    ///
    /// A record that isn't understood goes on unchanged. A call with the configured tick tag is a tick at that time.
    pub fn record(&mut self, tag: &[u8], sec: u32, nsec: u32, record: &[u8]) -> Output<'_> {
        let ts = u64::from(sec) * 1_000_000_000 + u64::from(nsec);
        let tag_hash = tags::hash(0, tag);
        let is_tick = tag == self.config.tick_tag.as_bytes();
        self.spool.begin_call(Batch {
            tag: tag_hash,
            tick_ns: if is_tick { ts } else { 0 },
        });
        if is_tick {
            if let Some(problem) = self.spool.take_problem() {
                self.announce(&problem);
            }
            let of = tag_of_tick(record);
            return match self.tick_of(of, ts) {
                Some(due) => Output::Record(due),
                None => Output::Nothing,
            };
        }
        match self.handle(tag, tag_hash, ts, record) {
            Decision::Unchanged => Output::Unchanged,
            Decision::Out => Output::Record(&self.out),
            Decision::Nothing => Output::Nothing,
        }
    }

    /// The record given back last, with a NUL behind it, until the next call.
    pub fn terminated(&mut self) -> &[u8] {
        self.out.push(0);
        &self.out
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
        self.kept_back = false;
        let limit = self.config.flush_ms.saturating_mul(1_000_000);
        while let Some(partial) = self.partials.take_due(tag, now_ns, limit) {
            self.give_up(partial);
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
        self.kept_back = false;
        while let Some(partial) = self.partials.take_any() {
            self.give_up(partial);
        }
        while !self.waiting.nothing_held() {
            self.close(0);
        }
        self.ready()
    }

    /// How many records are held or wait for a free call.
    pub fn pending(&self) -> usize {
        self.waiting.held_records() + self.queue.len() + self.partials.count()
    }

    /// One record, and its place in the spool if its line is kept back.
    fn handle(&mut self, tag: &[u8], tag_hash: u64, ts: u64, record: &[u8]) -> Decision {
        self.call = self.call.wrapping_add(1);
        self.kept_back = false;
        if !self.recovered.is_empty() && self.is_here_again(tag_hash, ts, record) {
            return self.give_queued(tag_hash);
        }
        let decision = self.handle_record(tag_hash, ts, record);
        if self.kept_back && !self.recovering {
            self.spool.keep(&Call {
                number: self.call,
                ts,
                tag,
                record,
            });
        }
        if let Some(first) = self.completed.take() {
            self.spool.complete(first);
        }
        decision
    }

    fn handle_record(&mut self, tag: u64, ts: u64, record: &[u8]) -> Decision {
        self.asked = None;
        match self.recall(tag, ts, record) {
            Some(decision) => decision,
            None => self.read_record(tag, ts, record),
        }
    }

    /// A record whose like was not seen.
    ///
    /// Not inlined: an interpreter prepares all of a function's variables at each call, and most calls don't come here.
    #[inline(never)]
    fn read_record(&mut self, tag: u64, ts: u64, record: &[u8]) -> Decision {
        let memory = self.tags.get(tag, &self.config);
        let known = memory.layouts.find(record);
        let known = known.and_then(|(place, line)| {
            let layout = memory.layouts.at(place);
            Some((layout.scan(record, line)?, layout.stream))
        });
        let (scan, stream) = match known {
            Some(known) => known,
            None => {
                self.asked = None;
                let Some(scan) = json::scan(record, &self.config.log_keys, &memory.kubernetes) else {
                    return Decision::Unchanged;
                };
                if let Some(kubernetes) = &scan.kubernetes
                    && !scan.known_kubernetes
                {
                    memory.see_kubernetes(record, kubernetes, &self.config);
                }
                let stream = examine::stream_key(tag ^ memory.pod, record, &scan);
                memory.layouts.learn(record, &scan, stream);
                (scan, stream)
            }
        };
        if scan.partial {
            return self.keep_part(Part {
                tag,
                stream,
                ts,
                record,
                scan: &scan,
                recovered: self.recovering,
            });
        }
        if scan.partial_flag.is_some()
            && let Some(partial) = self.partials.take(stream, ts)
        {
            return self.handle_joined(tag, stream, &partial, record, &scan);
        }
        self.handle_line(Source {
            tag,
            stream,
            ts,
            record,
            scan: &scan,
            late: self.recovering,
            earlier: &[],
        })
    }

    /// A part of a line that is not its last one.
    #[inline(never)]
    fn keep_part(&mut self, part: Part<'_>) -> Decision {
        self.kept_back = true;
        let tag = part.tag;
        self.partials.add(part, self.call);
        let limits = Limits {
            line_bytes: self.config.max_line_bytes,
            all_bytes: self.config.max_held_bytes,
        };
        while let Some(partial) = self.partials.take_excess(limits) {
            self.give_up(partial);
        }
        self.give_queued(tag)
    }

    /// The last part of a line has come.
    #[inline(never)]
    fn handle_joined(
        &mut self,
        tag: u64,
        stream: Key,
        partial: &Partial,
        record: &[u8],
        last: &Scan,
    ) -> Decision {
        let flag = last.partial_flag.clone().map_or(&b"F"[..], |span| &record[span]);
        let joined = partial.complete(&record[last.log.clone()], flag);
        let memory = self.tags.get(tag, &self.config);
        let Some(scan) = json::scan(&joined, &self.config.log_keys, &memory.kubernetes) else {
            return Decision::Unchanged; // both parts were understood, so this can't be
        };
        self.handle_line(Source {
            tag,
            stream,
            ts: partial.ts,
            record: &joined,
            scan: &scan,
            late: true,
            earlier: &partial.calls,
        })
    }

    /// Lets an incomplete line leave as it is.
    fn give_up(&mut self, partial: Partial) {
        self.note_complete(&partial.calls);
        let mut out = partial.complete(b"", b"P");
        let common = &self.tags.get(partial.tag, &self.config).common;
        if let Some(scan) = json::scan(&out, &self.config.log_keys, b"") {
            out.truncate(scan.end);
            Fields::default().write(common, scan.present, &mut out);
            emit::push_time(&mut out, partial.ts);
            out.push(b'}');
        }
        self.queue.push(Ready {
            tag: partial.tag,
            record: out,
            calls: partial.calls,
        });
    }

    /// One whole line, or several that somebody else has merged.
    #[inline(never)]
    fn handle_line(&mut self, source: Source<'_>) -> Decision {
        let (mut plain, mut clean) = (std::mem::take(&mut self.plain), std::mem::take(&mut self.clean));
        let (escaped, newline) = text::without_newline(&source.record[source.scan.log.clone()]);
        let whole = text::readable(escaped, source.scan.escapes, &mut plain, &mut clean);
        let first = match source.scan.escapes {
            Escapes::Any => find::byte(b'\n', whole).unwrap_or(whole.len()),
            Escapes::None | Escapes::Quotes => whole.len(),
        };
        let line = self.examine(source, escaped, newline, &whole[..first]);
        let decision = if first < whole.len() {
            self.asked = None;
            self.pass_merged(line, &whole[first + 1..])
        } else {
            self.place(line)
        };
        (self.plain, self.clean) = (plain, clean);
        decision
    }
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
