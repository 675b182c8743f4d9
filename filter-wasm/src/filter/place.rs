//! Which record a line belongs to: a held one, a new one, or none.
//!
//! The order of lines within each key is kept by one rule: before a line leaves or starts anything, all held records that own
//! lines of its key are closed, so that they stand before it in the queue.

use crate::hold::{Blank, Held};
use crate::line;
use crate::shape::{Shape, Start, Step, View};

use super::examine::{self, Line};
use super::{Decision, Filter, emit};

/// Most held records of deeper keys that are asked whether a line without their prefixes is theirs.
const MAX_ASKED: u32 = 8;

/// Most lines of a merged record's message before what fails.
const MAX_MESSAGE: usize = 50;

/// Most lines that wait behind a held record.
const MAX_TAIL: usize = 16;

/// A held record that a line may go on with.
struct Candidate {
    id: u64,
    /// The call that brought its last line.
    touched: u64,
    /// Lines of the line's key are its own.
    owns: bool,
}

impl Filter {
    /// Finds the line's record: a held one, a new one, or none.
    pub(super) fn place(&mut self, mut line: Line<'_>) -> Decision {
        if self.config.merge {
            if !self.waiting.nothing_held() {
                if line.prefix.is_doubtful() && self.is_text_of_a_record(&line) {
                    line.forget_prefix();
                }
                self.close_aged(line.source.tag, line.source.ts);
                if self.may_be_taken(&line) && self.join(&line) {
                    return self.give_queued(line.source.tag);
                }
            }
            self.tags.get(line.source.tag, &self.config).last_key[line.stderr] = line.key;
            let configured = self.rules.as_ref().is_some_and(|rules| rules.starts(line.body));
            let start = if configured {
                Start::plain(Shape::Configured)
            } else {
                start_of(&line)
            };
            if let Some(start) = start {
                self.hold(&line, start);
                return self.give_queued(line.source.tag);
            }
        }
        self.leave(&line)
    }

    /// A record of several lines, which somebody else has merged: it keeps its place and gets its fields. `rest`: all lines but
    /// the first.
    #[inline(never)]
    pub(super) fn pass_merged(&mut self, mut line: Line<'_>, rest: &[u8]) -> Decision {
        self.close_owners(&line, None);
        let said = line.fields.level;
        let (mut shape, mut lines) = (None::<Shape>, 0);
        for (number, text) in std::iter::once(line.body)
            .chain(rest.split(|&b| b == b'\n'))
            .enumerate()
        {
            let view = View {
                text,
                burst: true,
                instant: true,
                soon: true,
                write: true,
                ..View::default()
            };
            let step = shape.as_mut().map_or(Step::Other, |shape| shape.step(&view));
            if let Step::Exception(from, to) = step {
                line.fields.exception = text[from..to].to_vec();
            }
            lines += 1;
            if step != Step::Other {
                continue;
            }
            line.fields.level = shape
                .and_then(|shape| shape.level(lines - 1))
                .max(line.fields.level);
            if !line.fields.exception.is_empty() {
                shape = None;
                break;
            }
            // Further lines of a message come before what it tells of.
            let start = if number == 0 {
                Shape::start(&view, said)
            } else if number > MAX_MESSAGE {
                break;
            } else {
                Shape::start(&view, None).filter(|start| !start.shape.is_announcement())
            };
            if let Some((from, to)) = start.and_then(|start| start.exception) {
                line.fields.exception = text[from..to].to_vec();
            }
            (shape, lines) = (start.map(|start| start.shape), 1);
        }
        line.fields.level = shape.and_then(|shape| shape.level(lines)).max(line.fields.level);
        self.leave(&line)
    }

    /// Some held record may take the line. Of many that are held, mostly none is of its key.
    fn may_be_taken(&self, line: &Line<'_>) -> bool {
        let takers = self.waiting.takers(line.key);
        takers.is_some_and(|takers| takers.own() || takers.may_adopt(self.call)) || line::is_blank(line.body)
    }

    /// What may be a prefix is text of the record at hand, whose lines have none: the number of a frame, or a message's line
    /// that came with the same write.
    #[inline(never)]
    fn is_text_of_a_record(&self, line: &Line<'_>) -> bool {
        let of_stream = || {
            self.waiting
                .held()
                .iter()
                .filter(|held| held.stream == line.source.stream)
        };
        let write_ns = self.config.burst_ms.saturating_mul(10_000);
        let goes_on = |held: &Held| {
            let next =
                held.touched + 1 == self.call && line.source.ts.saturating_sub(held.last_ts) <= write_ns;
            held.key == line.source.stream && (held.shape.is_numbered() || (next && held.lines > 1))
        };
        // Another record that owns such lines stands before this one.
        of_stream().any(goes_on) && !of_stream().any(|held| held.owns(line.key) && !goes_on(held))
    }

    /// Gives the line to the held record that it continues. Records of its key that it doesn't continue are closed.
    ///
    /// The record touched last is asked first. One of a deeper key (`[rank3]:` for a line without it) is asked only while it
    /// may adopt lines, and not for what begins a record of its own: processes print their stacks without the prefix of the line
    /// that announces them.
    #[inline(never)]
    fn join(&mut self, line: &Line<'_>) -> bool {
        let mut asked = self.candidates(line);
        if asked.is_empty() {
            return false;
        }
        let blank = line::is_blank(line.body);
        let (mut adopters, mut own_record) = (0, None);
        let mut taker = None;
        while let Some(latest) = (0..asked.len()).max_by_key(|&at| asked[at].touched) {
            let Candidate { id, owns, .. } = asked.swap_remove(latest);
            let allowed = owns
                || blank
                || (adopters < MAX_ASKED
                    && !*own_record.get_or_insert_with(|| line::starts_log_record(line.body)));
            adopters += u32::from(allowed && !owns && !blank);
            if allowed
                && let Some(index) = self.waiting.place(id)
                && let Some(last) = self.try_join(index, line, !owns)
            {
                taker = Some((id, last));
                break;
            }
        }
        self.close_owners(line, taker.map(|(id, _)| id));
        let Some((id, last)) = taker else { return false };
        if last && let Some(index) = self.waiting.place(id) {
            self.close(index);
        }
        self.keep_bounds();
        true
    }

    /// The held records that own lines of the line's key, or may take this one without owning it: a blank line goes on only with
    /// the record that the line before it belonged to.
    fn candidates(&mut self, line: &Line<'_>) -> Vec<Candidate> {
        if self.waiting.nothing_held() {
            return Vec::new();
        }
        let candidate = |held: &Held, owns| Candidate {
            id: held.id,
            touched: held.touched,
            owns,
        };
        let own = self.waiting.owners(line.key).map(|held| candidate(held, true));
        let mut found: Vec<Candidate> = own.collect();
        if line::is_blank(line.body) {
            let last_key = self.tags.get(line.source.tag, &self.config).last_key[line.stderr];
            let last = self.waiting.owners(last_key).filter(|held| {
                held.key == last_key && held.outer.contains(&line.key) && !held.owns(line.key)
            });
            found.extend(last.map(|held| candidate(held, false)));
        } else {
            let adopters = self.waiting.adopters(line.key, self.call);
            found.extend(adopters.map(|held| candidate(held, false)));
        }
        found
    }

    /// Closes the records that own lines of the line's key, for these stand before it; all but the one that takes it.
    fn close_owners(&mut self, line: &Line<'_>, taker: Option<u64>) {
        let ends = |held: &&Held| taker != Some(held.id) && !is_anothers(held, line.body);
        loop {
            let next = self.waiting.owners(line.key).find(ends).map(|held| held.id);
            let Some(index) = next.and_then(|id| self.waiting.place(id)) else {
                return;
            };
            self.close(index);
        }
    }

    /// Appends the line if the record goes on with it; says whether it was its last one.
    ///
    /// `foreign`: the line lacks the record's prefix, so only its own look counts.
    #[inline(never)]
    fn try_join(&mut self, index: usize, line: &Line<'_>, foreign: bool) -> Option<bool> {
        let burst_ns = self.config.burst_ms.saturating_mul(1_000_000);
        let held = self.waiting.at(index);
        let (text, head, offset) = behind_head(held, line.body);
        let logged = head != Head::Missing;
        let blank = line::is_blank(text);
        if !logged && !blank && (held.head_repeats || is_anothers(held, text)) {
            return None;
        }
        let gap = line.source.ts.saturating_sub(held.last_ts);
        let view = View {
            text,
            burst: gap <= burst_ns,
            instant: gap <= burst_ns / 10,
            soon: gap <= burst_ns / 40,
            write: gap <= burst_ns / 100,
            adjacent: held.touched + 1 == self.call,
            excepthook: line.prefix.excepthook && !foreign,
            own_prefix: line.prefix.len > 0 && !foreign,
            configured: held.shape == Shape::Configured
                && self.rules.as_ref().is_some_and(|rules| rules.continues(text)),
            // A head without a time or a level is but somebody's name: it does not say that this is the same write.
            logged: head == Head::Same && line::starts_own_record(&held.head),
        };
        let mut shape = held.shape;
        let step = shape.step(&view);
        let joins = match step {
            Step::Other => false,
            Step::Join { sure } => !foreign || sure || blank,
            Step::Exception(..) => !foreign,
            Step::Perhaps => !foreign,
            Step::Last => true,
        };
        let waits = blank || step == Step::Perhaps;
        if !joins || (waits && held.tail.len() >= MAX_TAIL) {
            return None;
        }
        let before = std::mem::replace(&mut held.shape, shape);
        held.fields.add(&line.fields);
        let key = held.key;
        if logged {
            if !held.head_repeats && offset > 0 {
                held.head = line.body[..offset].to_vec();
            }
            held.head_repeats = true;
        } else if !held.head.is_empty() && !matches!(shape, Shape::Announced(_)) {
            // The announcing line is no head that the record's lines repeat: the same words announce the next record. Nor is a
            // logger's head that this line did not repeat.
            let passed = !(blank || foreign || held.head_repeats) && line::starts_own_record(&held.head);
            if matches!(before, Shape::Announced(_)) || passed {
                held.head.clear();
            }
        }
        if let Step::Exception(from, to) = step {
            held.fields.exception = text[from..to].to_vec();
        }
        self.waiting.touch(index, self.call);
        let stray = line.given_up.or((foreign && !blank).then_some(line.key));
        if let Some(key) = stray {
            self.waiting.adopt(index, key);
        }
        let calls = self.calls_of(line.source);
        if waits {
            let blank = self.blank(line, calls);
            self.waiting.append_blank(index, blank, line.source.ts);
        } else {
            let shown = self.shown(line);
            let text = shown.as_deref().unwrap_or(line.escaped);
            self.waiting
                .append(index, text, line.newline, line.source.ts, &calls);
        }
        self.tags.get(line.source.tag, &self.config).last_key[line.stderr] = key;
        let held = self.waiting.at(index);
        let full =
            held.text.len() >= self.config.max_record_bytes || held.lines >= self.config.max_record_lines;
        Some(step == Step::Last || full)
    }

    /// A line that waits, with its own record for the case that the held one ends before it.
    fn blank(&mut self, line: &Line<'_>, calls: Vec<u64>) -> Blank {
        let mut record = self.waiting.buffer();
        let shown = self.shown(line);
        emit::push_members(line, shown.as_deref(), &mut record);
        let common = &self.tags.get(line.source.tag, &self.config).common;
        line.fields.write(common, line.source.scan.present, &mut record);
        emit::push_time(&mut record, line.source.ts);
        record.extend_from_slice(&line.source.record[line.source.scan.end..]);
        Blank {
            escaped: shown.as_deref().unwrap_or(line.escaped).to_vec(),
            record,
            calls,
        }
    }

    #[inline(never)]
    fn hold(&mut self, line: &Line<'_>, start: Start) {
        let mut fields = line.fields.clone();
        let (mut key, mut outer, mut adopted) = (line.key, examine::outer_keys(line), Vec::new());
        if start.head > 0
            && let Some(glued) = examine::glued_prefix(line, &line.body[..start.head])
        {
            // The prefixes that the next lines will have stand behind a bar; this line still keeps its place in its own key.
            adopted.push(key);
            key = glued.key;
            outer = vec![line.source.stream];
            fields.rank = glued.prefix.rank.or(fields.rank);
            fields.local_rank = glued.prefix.local_rank.or(fields.local_rank);
        }
        if let Some((from, to)) = start.exception {
            fields.exception = line.body[from..to].to_vec();
        }
        let head = match start.shape {
            Shape::Announced(_) => {
                let head = &line.body[start.head..];
                head[..head.len().min(400)].to_vec()
            }
            _ if line::is_bar(&line.body[..start.head]) => Vec::new(),
            _ => line.body[..start.head].to_vec(),
        };
        let calls = self.calls_of(line.source);
        let mut record = self.waiting.buffer();
        record.extend_from_slice(line.source.record);
        let mut text = self.waiting.buffer();
        text.extend_from_slice(self.shown(line).as_deref().unwrap_or(line.escaped));
        self.waiting.hold(Held {
            tag: line.source.tag,
            stream: line.source.stream,
            id: self.call,
            key,
            outer,
            adopted,
            shape: start.shape,
            record,
            log: line.source.scan.log.clone(),
            end: line.source.scan.end,
            present: line.source.scan.present,
            text,
            newline: line.newline,
            lines: 1,
            first_ts: line.source.ts,
            last_ts: line.source.ts,
            head,
            head_repeats: false,
            tail: Vec::new(),
            touched: self.call,
            seen_by_tick: None,
            fields,
            calls,
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
        let limit = self.max_age_ns;
        if !self.waiting.has_aged(ts, limit) {
            return;
        }
        while let Some(index) = self
            .waiting
            .held()
            .iter()
            .position(|held| held.tag == tag && ts.saturating_sub(held.last_ts) > limit)
        {
            self.close(index);
        }
    }
}

/// The record that the line's text begins, or what was printed behind a bar in it.
fn start_of(line: &Line<'_>) -> Option<Start> {
    let at = line.glued;
    let view = View {
        text: &line.body[at..],
        ..View::default()
    };
    let start = Shape::start(&view, line.fields.level)?;
    Some(Start {
        head: start.head + at,
        exception: start.exception.map(|(from, to)| (from + at, to + at)),
        ..start
    })
}

/// The record's lines begin with somebody's name, and this one with another's of the same kind: `node2: ` for `node1: `.
///
/// Such names are no part of the key, since nothing but the head of a traceback behind one tells it from text.
fn is_anothers(held: &Held, text: &[u8]) -> bool {
    !held.head.is_empty()
        && !matches!(held.shape, Shape::Announced(_))
        && line::differs_in_numbers(&held.head, text)
        && !line::has_clock(&held.head)
        && !line::starts_own_record(&held.head)
}

/// How a line begins, compared with the head of the record's first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Head {
    Missing,
    Same,
    /// The same but for the time of day: the logger was called for each line.
    Later,
}

/// The line's text behind the head that the record's lines repeat: the text, whether the head was there, its length.
fn behind_head<'a>(held: &Held, body: &'a [u8]) -> (&'a [u8], Head, usize) {
    if held.head.is_empty() {
        return (body, Head::Missing, 0);
    }
    if let Shape::Announced(_) = held.shape {
        // The announcing line's own header may stand before the traceback's head.
        let bare = line::trim_end(body);
        if let Some(head) = bare.strip_suffix(line::TRACEBACK)
            && !line::is_blank(head)
            && held.head.starts_with(head)
        {
            return (&body[head.len()..], Head::Same, head.len());
        }
        return (body, Head::Missing, 0);
    }
    let length = held.head.len();
    if body.starts_with(&held.head) {
        return (&body[length..], Head::Same, length);
    }
    if held.lines == 1
        && let Some(length) = own_head(&held.head, body)
    {
        return (&body[length..], Head::Same, length);
    }
    if held.head_repeats && line::trim_end(&held.head) == line::trim_end(body) {
        return (b"", Head::Same, 0);
    }
    if body.len() >= length && line::differs_in_time(&held.head, &body[..length]) {
        return (&body[length..], Head::Later, length);
    }
    (body, Head::Missing, 0)
}

/// How much of the first line's head is the logger's own and stands before the next line's frame as well. What the logger said
/// before the traceback's head is not repeated.
#[inline(never)]
fn own_head(head: &[u8], body: &[u8]) -> Option<usize> {
    let length = head.iter().zip(body).take_while(|(a, b)| a == b).count();
    let repeats = length > 0 && line::is_python_frame(&body[length..]) && line::starts_own_record(head);
    repeats.then_some(length)
}
