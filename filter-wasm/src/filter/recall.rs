//! The short way for lines like one that was seen before (see [`crate::seen`]).

use crate::fields::{self, Fields};
use crate::find;
use crate::hold::Held;
use crate::json::{Escapes, Span};
use crate::line;
use crate::rank;
use crate::seen::{self, Left, MAX_FIELDS, MAX_HEAD, Seen};
use crate::tags;

use super::examine::Line;
use super::{Decision, Filter};

/// A line whose like was not seen: what was known of its stream before it was read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    state: u64,
}

impl Filter {
    /// What becomes of the record, when it became of a line like it before and nothing stands in between.
    pub(super) fn recall(&mut self, tag: u64, ts: u64, record: &[u8]) -> Option<Decision> {
        self.asked = None;
        // Configured patterns may ask for digits; what is complete leaves before the line.
        if self.rules.is_some() || self.recovering || self.waiting.has_ready(tag) {
            return None;
        }
        let memory = self.tags.get(tag, &self.config);
        let (layout, line) = memory.layouts.find(record)?;
        if memory.ranks.is_reading_block() || (layout.has_partial_flag() && self.partials.count() > 0) {
            return None;
        }
        let escaped = &record[line.clone()];
        let state = memory.state(layout);
        let key = seen::blanked(state, escaped);
        let found = match self.seen.get(key) {
            Some(Seen::Head(length)) => self.seen.get(tags::hash(key, &escaped[..*length])),
            found => found,
        };
        let Some(Seen::Line(left)) = found else {
            self.asked = Some(Asked { state });
            return None;
        };
        let limit = self.config.max_age_ms.saturating_mul(1_000_000);
        let concerned = |held: &Held| {
            let joins = held.owns(left.key) || held.outer.contains(&left.key) || held.shape.is_numbered();
            held.tag == tag && (joins || ts.saturating_sub(held.last_ts) > limit)
        };
        if self.waiting.held().iter().any(concerned) {
            return None;
        }
        let (end, stderr) = (layout.end(&line), layout.stderr);
        memory.ranks.see_again(left.label, left.unlabelled, stderr);
        memory.last_key[stderr] = left.key;
        if left.rank.is_none() && left.fields.is_empty() && left.step.is_none() {
            return Some(Decision::Unchanged);
        }
        self.out.clear();
        self.out.extend_from_slice(&record[..end]);
        if let Some(span) = &left.rank {
            fields::push_number(&mut self.out, fields::RANK, &escaped[span.clone()]);
        }
        self.out.extend_from_slice(&left.fields);
        if let Some(span) = &left.step {
            fields::push_number(&mut self.out, fields::STEP, &escaped[span.clone()]);
        }
        self.out.extend_from_slice(&record[end..]);
        Some(Decision::Out)
    }

    /// Remembers what becomes of a line that leaves at once, as it came or with fields.
    pub(super) fn remember(&mut self, line: &Line<'_>) {
        let Some(Asked { state }) = self.asked.take() else {
            return;
        };
        let memory = self.tags.get(line.source.tag, &self.config);
        let Some((layout, _)) = memory.layouts.find(line.source.record) else {
            return;
        };
        let prefix = &line.prefix;
        // A number whose meaning is open says something of its stream each time.
        let open_label = prefix.is_doubtful();
        let head = prefix.len;
        if memory.state(layout) != state
            || memory.ranks.is_reading_block()
            || open_label
            // A time before the prefixes is no part of the line's key.
            || prefix.from > 0
            || head > MAX_HEAD
            || !has_known_escapes(line)
            || !line.escaped.starts_with(&line.text[..head])
        {
            return;
        }
        let place = |span: Span| {
            let start = seen::place_in_escaped(line.escaped, head + span.start)?;
            Some(start..start + span.len())
        };
        let (mut rank, mut step) = (None, None);
        let mut fields: Fields = line.fields.clone();
        if prefix.rank.is_none()
            && let Some((said, span)) = line::inline_rank_at(line.body)
            && fields.rank == Some(said)
        {
            fields.rank = None;
            rank = place(span);
            if rank.is_none() {
                return;
            }
        }
        if fields.step.take().is_some() {
            step = fields::step_at(line.body).and_then(|(_, span)| place(span));
            if step.is_none() {
                return;
            }
        }
        let present = layout.present();
        let mut written = Vec::new();
        fields.write(&memory.common, present, &mut written);
        if written.len() > MAX_FIELDS {
            return;
        }
        let left = Left {
            label: prefix.label,
            unlabelled: prefix.label.is_none() && rank::may_have_label(line.text),
            key: line.key,
            rank: rank.filter(|_| present & (1 << fields::RANK) == 0),
            fields: written,
            step: step.filter(|_| present & (1 << fields::STEP) == 0),
        };
        let whole = &line.source.record[line.source.scan.log.clone()];
        let mut key = seen::blanked(state, whole);
        if head > 0 {
            self.seen.put(key, Seen::Head(head));
            key = tags::hash(key, &whole[..head]);
        }
        self.seen.put(key, Seen::Line(left));
    }
}

/// The digits of the escaped line are those of the line, and nothing but the line's end is cut off.
fn has_known_escapes(line: &Line<'_>) -> bool {
    line.source.scan.escapes != Escapes::Any
        || (find::text(line.escaped, b"\\u").is_none() && find::byte(b'\r', line.text).is_none())
}
