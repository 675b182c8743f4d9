//! The short way for lines like one that was seen before (see [`crate::seen`]).

use std::cell::Cell;

use crate::fields;
use crate::find;
use crate::hold::{Key, Takers, Waiting};
use crate::json::{Escapes, Span, Writer};
use crate::line;
use crate::prefix::Prefix;
use crate::rank;
use crate::seen::{self, Left, MAX_FIELDS, MAX_HEAD, Number, Seen, SeenLines};
use crate::shape::Shape;
use crate::tags;

use super::examine::Line;
use super::{Decision, Filter};

/// Most bytes that a record gets beside its fields: its time, a NUL.
const MOST_BESIDE: usize = 48;

/// A line whose like was not seen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    /// How often what is known of its stream had changed before it was read.
    changes: (u32, u32),
    /// The key that it was not found by.
    key: u64,
}

impl Filter {
    /// What becomes of the record, when it became of a line like it before and nothing stands in between.
    pub(super) fn recall(&mut self, tag: u64, ts: u64, record: &[u8]) -> Option<Decision> {
        // Configured patterns may ask for digits.
        if self.rules.is_some() || self.recovering {
            return None;
        }
        let memory = self.tags.get(tag, &self.config);
        let (layout, line) = memory.layouts.find(record)?;
        if memory.ranks.is_reading_block() {
            return None;
        }
        let state = memory.state();
        let layout = memory.layouts.at(layout);
        if layout.has_partial_flag() && self.partials.count() > 0 {
            return None;
        }
        let escaped = &record[line.clone()];
        let seed = state ^ layout.kind;
        let mut key = seen::blanked(seed, escaped);
        let mut found = find_seen(&self.seen, key, escaped);
        if found.is_none()
            && let Some(hex_key) = seen::blanked_hex(seed, escaped, &mut self.plain)
        {
            key = hex_key;
            found = find_seen(&self.seen, key, escaped);
        }
        let Some(left) = found else {
            let changes = memory.changes();
            self.asked = Some(Asked { changes, key });
            return None;
        };
        let line_key = match &escaped[left.writer.clone()] {
            [] => layout.stream,
            writer => tags::hash(layout.stream, writer),
        };
        if self.waiting.has_aged(ts, self.max_age_ns) || self.waiting.has_numbered() {
            return None;
        }
        let takers = self.waiting.takers(line_key);
        if takers.is_some_and(Takers::own) {
            return None;
        }
        // Read with its escapes a line may look less, but never more like the beginning of a record.
        let own_record = || match left.own_record.get() {
            Some(known) => known,
            None => {
                let own = line::starts_log_record(&escaped[left.head..]);
                left.own_record.set(Some(own));
                own
            }
        };
        let may_be_anothers = if left.blank {
            let last_key = memory.last_key[layout.stderr];
            let mut last = self.waiting.owners(last_key);
            last.any(|held| held.key == last_key && held.outer.contains(&line_key))
        } else {
            takers.is_some_and(|takers| takers.may_adopt(self.call))
                && !own_record()
                && may_be_adopted(&self.waiting, self.call, line_key, &escaped[left.head..])
        };
        if may_be_anothers {
            return None;
        }
        let (end, stderr) = (layout.end(&line), layout.stderr);
        memory
            .ranks
            .see_again(escaped, left.label, left.unlabelled, stderr);
        memory.last_key[stderr] = line_key;
        let behind = self.queue.of(tag);
        if behind.is_none() && left.fields.is_empty() {
            return Some(Decision::Unchanged);
        }
        let mut out = Writer::new(&mut self.out, record.len() + left.most_bytes() + MOST_BESIDE);
        out.put(&record[..end]);
        left.write_fields(escaped, memory.world_size.digits(), &mut out);
        if behind.is_some() {
            out.put(self.time_member.of(ts));
        }
        out.put(&record[end..]);
        out.finish();
        if let Some(behind) = behind {
            self.kept_back = true;
            behind.exchange(self.call, &mut self.out, |calls| self.spool.release(calls));
        }
        Some(Decision::Out)
    }

    /// Remembers what becomes of a line that leaves at once, as it came or with fields, `written` in JSON; `place_of_size`: where in
    /// them the number of ranks belongs.
    #[inline(never)]
    pub(super) fn remember(&mut self, line: &Line<'_>, written: &[u8], place_of_size: usize) {
        let Some(Asked { changes, key }) = self.asked.take() else {
            return;
        };
        let memory = self.tags.get(line.source.tag, &self.config);
        let prefix = &line.prefix;
        let head = prefix.len;
        // A number whose meaning is open says something of its stream each time.
        if memory.ranks.is_reading_block()
            || prefix.is_doubtful()
            // A time before the prefixes is no part of the line's key.
            || prefix.from > 0
            || head > MAX_HEAD
            // What it says of its stream, others like it say with other numbers.
            || memory.changes() != changes
            || !has_known_escapes(line)
            || !line.escaped.starts_with(&line.text[..head])
        {
            return;
        }
        let lone = lone_rank(line).filter(|_| memory.ranks.pod_rank.is_none());
        let Some(numbers) = Numbers::find(line, lone.clone()) else {
            return;
        };
        let Some(left) = left_of(line, numbers, written, place_of_size) else {
            return;
        };
        if head > 0 && lone.is_none() {
            self.seen.put(key, Seen::Head(head));
            let whole = &line.source.record[line.source.scan.log.clone()];
            self.seen.put(tags::hash(key, &whole[..head]), Seen::Line(left));
        } else {
            self.seen.put(key, Seen::Line(left));
        }
    }
}

/// What became of a line with this key.
#[inline(always)]
fn find_seen<'a>(seen: &'a SeenLines, key: u64, escaped: &[u8]) -> Option<&'a Left> {
    let found = match seen.get(key) {
        Some(Seen::Head(length)) => seen.get(tags::hash(key, &escaped[..*length])),
        found => found,
    };
    match found? {
        Seen::Line(left) => Some(left),
        Seen::Head(_) => None,
    }
}

/// What is to be remembered of a line with the fields `written`; nothing where it would be too much.
fn left_of(line: &Line<'_>, numbers: Numbers, written: &[u8], place_of_size: usize) -> Option<Left> {
    if written.len() > MAX_FIELDS {
        return None;
    }
    let absent = |field: usize| line.source.scan.present & (1 << field) == 0;
    let mut fields = written.to_vec();
    // In their order, so that the places found are those without the digits before them: the rank is the first of the fields, and
    // the step the last one.
    let rank = numbers.rank.filter(|_| absent(fields::RANK));
    let rank = rank.map(|place| {
        let at = fields::RANK_MEMBER.len();
        cut_digits(&mut fields, at);
        Number { place, at }
    });
    let sized = line.fields.world_size.is_some() && absent(fields::WORLD_SIZE);
    let cut_before = written.len() - fields.len();
    let world_size = sized.then(|| place_of_size - cut_before + fields::WORLD_SIZE_MEMBER.len());
    if let Some(at) = world_size {
        cut_digits(&mut fields, at);
    }
    let step = numbers.step.filter(|_| absent(fields::STEP));
    let step = step.map(|place| {
        let value = fields.iter().rev().skip(1).take_while(|b| b.is_ascii_digit());
        let at = fields.len() - 1 - value.count();
        cut_digits(&mut fields, at);
        Number { place, at }
    });
    let head = &line.text[..line.prefix.len];
    let padding = head.len() - line::trim_start(head).len();
    Some(Left {
        head: head.len(),
        writer: padding..line::trim_end(head).len().max(padding),
        blank: line::is_blank(line.body),
        own_record: Cell::new(None),
        label: line.prefix.label,
        unlabelled: line.prefix.label.is_none() && rank::may_have_label(line.text),
        fields,
        rank,
        world_size,
        step,
    })
}

/// Removes the digits at `at`.
fn cut_digits(fields: &mut Vec<u8>, at: usize) {
    let digits = fields[at..].iter().take_while(|b| b.is_ascii_digit()).count();
    fields.drain(at..at + digits);
}

/// Some held record may take this line without owning its key. Not inlined: see [`Filter::read_record`].
#[inline(never)]
fn may_be_adopted(waiting: &Waiting, call: u64, key: Key, text: &[u8]) -> bool {
    let may_follow = Shape::may_follow_announcement(text);
    waiting
        .adopters(key, call)
        .any(|held| may_follow || !held.shape.is_announcement())
}

/// Where in the escaped line the numbers stand that its fields say.
struct Numbers {
    rank: Option<Span>,
    step: Option<Span>,
}

impl Numbers {
    /// Nothing where one of them can't be found. `lone`: see [`lone_rank`].
    fn find(line: &Line<'_>, lone: Option<Span>) -> Option<Self> {
        let place = |span: Span| {
            let start = seen::place_in_escaped(line.escaped, span.start)?;
            Some(start..start + span.len())
        };
        let mut numbers = Numbers {
            rank: None,
            step: None,
        };
        if line.fields.rank.is_some()
            && let Some(span) = &line.inline_rank
        {
            numbers.rank = Some(place(span.clone())?);
        } else if let Some(span) = lone {
            numbers.rank = Some(span);
        }
        if let Some(span) = &line.step {
            numbers.step = Some(place(span.clone())?);
        }
        Some(numbers)
    }
}

/// The digits of a prefix that says nothing but the line's rank, so that it says it with any other digits too.
fn lone_rank(line: &Line<'_>) -> Option<Span> {
    let Prefix { rank, task, .. } = line.prefix;
    let prefix = Prefix {
        // What any prefix may have.
        len: line.prefix.len,
        cuts: line.prefix.cuts,
        count: line.prefix.count,
        excepthook: line.prefix.excepthook,
        rank: line.prefix.rank,
        task: line.prefix.task,
        label: line.prefix.label,
        ..Prefix::default()
    };
    let number = rank.xor(task)?;
    let fields = &line.fields;
    let says_more = fields.node_rank.is_some() || fields.local_rank.is_some();
    if prefix != line.prefix || prefix.count != 1 || fields.rank.is_none() || says_more {
        return None;
    }
    let head = &line.escaped[..prefix.len];
    let digits = |from: usize| {
        let start = from + head[from..].iter().position(u8::is_ascii_digit)?;
        let length = head[start..].iter().take_while(|b| b.is_ascii_digit()).count();
        Some(start..start + length)
    };
    let mut span = digits(0)?;
    // Before the rank mpirun prints the number of the job.
    if head.starts_with(b"[") && head[span.end] == b',' && prefix.label.is_none() {
        span = digits(span.end)?;
    }
    let written = crate::prefix::number(head, span.start)?.0;
    // Up to so many digits, any of them are a rank.
    (written == number && span.len() <= 6 && digits(span.end).is_none()).then_some(span)
}

/// The digits of the escaped line are those of the line, and nothing but the line's end is cut off.
fn has_known_escapes(line: &Line<'_>) -> bool {
    line.source.scan.escapes != Escapes::Any
        || (find::text(line.escaped, b"\\u").is_none() && find::byte(b'\r', line.text).is_none())
}
