//! The short way for lines like one that was seen before (see [`crate::seen`]).

use std::cell::Cell;

use crate::fields::{self, Fields};
use crate::find;
use crate::hold::{Key, Waiting};
use crate::json::{Escapes, Span};
use crate::line;
use crate::prefix::Prefix;
use crate::rank;
use crate::seen::{self, Left, MAX_FIELDS, MAX_HEAD, Seen};
use crate::shape::Shape;
use crate::tags;

use super::examine::{self, Line};
use super::{Decision, Filter, emit};

/// A line whose like was not seen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    /// What was known of its stream before it was read.
    state: u64,
    /// The key that it was not found by.
    key: u64,
}

impl Filter {
    /// What becomes of the record, when it became of a line like it before and nothing stands in between. `layout`: the place
    /// of its layout, `line`: where its line stands.
    pub(super) fn recall(
        &mut self,
        tag: u64,
        ts: u64,
        record: &[u8],
        layout: usize,
        line: Span,
    ) -> Option<Decision> {
        // Configured patterns may ask for digits.
        if self.rules.is_some() || self.recovering {
            return None;
        }
        let memory = self.tags.get(tag, &self.config);
        if memory.ranks.is_reading_block() {
            return None;
        }
        let state = memory.state();
        let layout = memory.layouts.at(layout);
        if layout.has_partial_flag() && self.partials.count() > 0 {
            return None;
        }
        let escaped = &record[line.clone()];
        let key = seen::blanked(state ^ layout.kind, escaped);
        let found = match self.seen.get(key) {
            Some(Seen::Head(length)) => self.seen.get(tags::hash(key, &escaped[..*length])),
            found => found,
        };
        let Some(Seen::Line(left)) = found else {
            self.asked = Some(Asked { state, key });
            return None;
        };
        let line_key = examine::key_of(layout.stream, &escaped[..left.head]);
        let limit = self.config.max_age_ms.saturating_mul(1_000_000);
        if self.waiting.has_aged(ts, limit) || self.waiting.has_numbered() {
            return None;
        }
        if self.waiting.is_owned(line_key) {
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
            self.waiting.is_adopted(line_key, self.call)
                && !own_record()
                && may_be_adopted(&self.waiting, self.call, line_key, &escaped[left.head..])
        };
        if may_be_anothers {
            return None;
        }
        let (end, stderr) = (layout.end(&line), layout.stderr);
        let label = left.label.and_then(|label| label.of_line(escaped));
        memory.ranks.see_again(label, left.unlabelled, stderr);
        memory.last_key[stderr] = line_key;
        let behind = self.waiting.has_ready(tag);
        if !behind && left.rank.is_none() && left.fields.is_empty() && left.step.is_none() {
            return Some(Decision::Unchanged);
        }
        let mut out = if behind {
            self.waiting.buffer()
        } else {
            std::mem::take(&mut self.out)
        };
        out.clear();
        out.reserve(record.len() + left.fields.len() + 96);
        out.extend_from_slice(&record[..end]);
        if let Some(span) = &left.rank {
            fields::push_number(&mut out, fields::RANK, &escaped[span.clone()]);
        }
        out.extend_from_slice(&left.fields);
        if let Some(span) = &left.step {
            fields::push_number(&mut out, fields::STEP, &escaped[span.clone()]);
        }
        if behind {
            emit::push_time(&mut out, ts);
        }
        out.extend_from_slice(&record[end..]);
        if behind {
            return Some(self.leave_behind(tag, out));
        }
        self.out = out;
        Some(Decision::Out)
    }

    /// Remembers what becomes of a line that leaves at once, as it came or with fields.
    #[inline(never)]
    pub(super) fn remember(&mut self, line: &Line<'_>) {
        let Some(Asked { state, key }) = self.asked.take() else {
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
            || memory.state() != state
            || !has_known_escapes(line)
            || !line.escaped.starts_with(&line.text[..head])
        {
            return;
        }
        let lone = lone_rank(line).filter(|_| memory.ranks.pod_rank.is_none());
        let Some(numbers) = Numbers::find(line, lone.clone()) else {
            return;
        };
        let present = line.source.scan.present;
        let mut written = Vec::new();
        let mut fields: Fields = line.fields.clone();
        if numbers.rank.is_some() {
            fields.rank = None;
        }
        fields.step = None;
        if !fields.is_empty() || !memory.common.is_empty() {
            fields.write(&memory.common, present, &mut written);
        }
        if written.len() > MAX_FIELDS {
            return;
        }
        let left = Left {
            head,
            blank: line::is_blank(line.body),
            own_record: Cell::new(None),
            label: prefix.label,
            unlabelled: prefix.label.is_none() && rank::may_have_label(line.text),
            rank: numbers.rank.filter(|_| present & (1 << fields::RANK) == 0),
            fields: written,
            step: numbers.step.filter(|_| present & (1 << fields::STEP) == 0),
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
            let start = seen::place_in_escaped(line.escaped, line.prefix.len + span.start)?;
            Some(start..start + span.len())
        };
        let mut numbers = Numbers {
            rank: None,
            step: None,
        };
        if line.prefix.rank.is_none()
            && line.fields.rank.is_some()
            && let Some((said, span)) = line::inline_rank_at(line.body)
            && line.fields.rank == Some(said)
        {
            numbers.rank = Some(place(span)?);
        } else if let Some(span) = lone {
            numbers.rank = Some(span);
        }
        if line.fields.step.is_some() {
            numbers.step = Some(place(fields::step_at(line.body)?.1)?);
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
