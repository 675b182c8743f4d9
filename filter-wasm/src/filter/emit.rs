//! What leaves: complete records, and lines with their fields, one a call, in order.

use crate::find;
use std::borrow::Cow;

use crate::hold::Blank;
use crate::json::{self, Escapes};
use crate::queue::Ready;
use crate::text;

use super::examine::{Line, Source};
use super::{Decision, Filter};

impl Filter {
    /// Completes a held record and puts it in line.
    pub(super) fn close(&mut self, index: usize) {
        let held = self.waiting.release(index);
        self.note_complete(&held.calls);
        let mut fields = held.fields.clone();
        if held.shape.is_unconfirmed() && held.lines == 1 {
            fields.exception.clear();
        }
        fields.level = held.shape.level(held.lines).max(fields.level);
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
        let tag = held.tag;
        self.queue.push(Ready {
            tag,
            record: out,
            calls: held.calls,
        });
        for Blank { record, calls, .. } in held.tail {
            self.queue.push(Ready { tag, record, calls });
        }
        self.waiting.recycle(held.record);
        self.waiting.recycle(held.text);
    }

    /// Sends an ordinary line on its way: at once, or behind those that wait before it.
    pub(super) fn leave(&mut self, line: &Line<'_>) -> Decision {
        let Source {
            tag,
            ts,
            record,
            scan,
            late,
            earlier,
            ..
        } = line.source;
        let text = self.shown(line);
        let behind = self.recovering || self.queue.has(tag);
        let unchanged = text.is_none() && !late;
        let common = &self.tags.get(tag, &self.config).common;
        if unchanged && !behind && line.fields.is_empty() && common.is_empty() {
            self.remember(line, b"", 0);
            return Decision::Unchanged;
        }
        let mut out = if behind {
            self.waiting.buffer()
        } else {
            std::mem::take(&mut self.out)
        };
        out.clear();
        push_members(line, text.as_deref(), &mut out);
        out.reserve(MOST_FIELDS);
        let members = out.len();
        let place_of_size = line.fields.write(common, scan.present, &mut out) - members;
        if unchanged {
            self.remember(line, &out[members..], place_of_size);
        }
        if behind || late {
            out.extend_from_slice(self.time_member.of(ts));
        }
        out.extend_from_slice(&record[scan.end..]);
        if !behind {
            self.out = out;
            if !earlier.is_empty() {
                // Its earlier parts are in the spool: without the last one they would come back as half a line.
                let calls = self.calls_of(line.source);
                self.spool.release(&calls);
            }
            return Decision::Out;
        }
        let calls = self.calls_of(line.source);
        self.queue.push(Ready {
            tag,
            record: out,
            calls,
        });
        self.give_queued(tag)
    }

    /// Numbers of the calls that a line came with, which is not to leave now: its own call is one to be spooled.
    pub(super) fn calls_of(&mut self, source: Source<'_>) -> Vec<u64> {
        self.kept_back = true;
        let mut calls = std::mem::take(&mut self.spare_calls);
        calls.clear();
        calls.extend_from_slice(source.earlier);
        calls.push(self.call);
        calls
    }

    /// The record of these calls is complete. Where the call at hand is one of them, the spool hears it behind the call.
    pub(super) fn note_complete(&mut self, calls: &[u64]) {
        let Some(&first) = calls.first().filter(|_| !self.recovering) else {
            return;
        };
        if self.kept_back && calls.contains(&self.call) {
            self.completed = Some(first);
        } else {
            self.spool.complete(first);
        }
    }

    /// Gives a complete record of the tag, on a call whose own line stays here. Where too many wait it may be another tag's: its
    /// tag has fallen silent, and ticks come too seldom.
    pub(super) fn give_queued(&mut self, tag: u64) -> Decision {
        if self.recovering {
            return Decision::Nothing;
        }
        let (records, bytes) = (self.config.max_held_records, self.config.max_held_bytes);
        if self.emit_queued(Some(tag)) || (self.queue.is_crowded(records, bytes) && self.emit_queued(None)) {
            Decision::Out
        } else {
            Decision::Nothing
        }
    }

    pub(super) fn emit_queued(&mut self, tag: Option<u64>) -> bool {
        let Some(Ready { record, calls, .. }) = self.queue.take(tag) else {
            return false;
        };
        self.spool.release(&calls);
        if calls.len() == 1 {
            self.spare_calls = calls;
        }
        let old = std::mem::replace(&mut self.out, record);
        self.waiting.recycle(old);
        true
    }

    /// The escaped text to show instead of the line's own: without redraws of its bar, or without its prefixes.
    pub(super) fn shown<'a>(&self, line: &Line<'a>) -> Option<Cow<'a, [u8]>> {
        let strip = self.config.strip_prefix && line.prefix.len > 0 && !line.prefix.is_doubtful();
        if self.config.collapse_bars
            && line.source.scan.escapes == Escapes::Any
            && find::byte(b'\r', line.text).is_some()
            && let Some(kept) = text::collapse(line.escaped)
        {
            if strip || line.prefix.len == 0 {
                return Some(Cow::Borrowed(kept));
            }
            let mut text = Vec::new();
            json::escape(&line.text[..line.prefix.len], &mut text);
            text.extend_from_slice(b"\\r");
            text.extend_from_slice(kept);
            return Some(Cow::Owned(text));
        }
        // Only where the prefix stands in the record as it is read, without escapes and colours, as it nearly always does.
        let prefix = &line.text[..line.prefix.len];
        (strip && line.escaped.starts_with(prefix)).then(|| Cow::Borrowed(&line.escaped[line.prefix.len..]))
    }
}

/// Appends the line's record up to its closing brace, with another text of the line.
pub(super) fn push_members(line: &Line<'_>, text: Option<&[u8]>, out: &mut Vec<u8>) {
    let (record, scan) = (line.source.record, line.source.scan);
    let Some(text) = text else {
        out.extend_from_slice(&record[..scan.end]);
        return;
    };
    out.extend_from_slice(&record[..scan.log.start]);
    out.extend_from_slice(text);
    let newline = scan.log.end - if line.newline { 2 } else { 0 };
    out.extend_from_slice(&record[newline..scan.end]);
}

/// Room for the fields that a line mostly gets, made once.
const MOST_FIELDS: usize = 256;

/// What stands before a record's own time.
pub(super) const TIME_MEMBER: &[u8] = b",\"rankline_ts\":\"";

/// Appends the record's own time, for one that leaves on another call.
pub(super) fn push_time(out: &mut Vec<u8>, ts: u64) {
    out.extend_from_slice(TIME_MEMBER);
    json::push_decimal(out, ts);
    out.push(b'"');
}

/// The member that [`push_time`] appends. Times that follow each other mostly differ in their last digits alone.
#[derive(Debug, Default)]
pub(super) struct TimeMember {
    text: Vec<u8>,
    /// The time without its last eight digits.
    higher: u64,
}

impl TimeMember {
    pub(super) fn of(&mut self, ts: u64) -> &[u8] {
        let (higher, eight) = json::last_eight_digits(ts);
        if higher == 0 || higher != self.higher {
            self.text.clear();
            push_time(&mut self.text, ts);
            self.higher = higher;
        } else if let Some((_, [digits @ .., _quote])) = self.text.split_last_chunk_mut::<9>() {
            *digits = eight;
        }
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_member_says_the_time_whatever_it_was_before() {
        let mut member = TimeMember::default();
        for ts in [
            0,
            7,
            99_999_999,
            100_000_000,
            1_764_000_000_000_000_000,
            1_764_000_000_012_345_678,
            3,
            1_764_000_000_099_999_999,
            u64::MAX,
            u64::MAX - 1,
            100_000_001,
        ] {
            assert_eq!(member.of(ts), format!(",\"rankline_ts\":\"{ts}\"").as_bytes());
        }
    }
}
