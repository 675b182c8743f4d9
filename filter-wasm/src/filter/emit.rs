//! What leaves: complete records, and lines with their fields, one a call, in order.

use crate::find;
use std::borrow::Cow;

use crate::hold::{Blank, Ready};
use crate::json::{self, Escapes};
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
        self.waiting.queue(Ready {
            tag,
            record: out,
            calls: held.calls,
        });
        for Blank { record, calls, .. } in held.tail {
            self.waiting.queue(Ready { tag, record, calls });
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
        } = line.source;
        let text = self.shown(line);
        let behind = self.recovering || self.waiting.has_ready(tag);
        if text.is_none() && !late {
            self.remember(line);
        }
        let common = &self.tags.get(tag, &self.config).common;
        if !behind && !late && text.is_none() && line.fields.is_empty() && common.is_empty() {
            return Decision::Unchanged;
        }
        let mut out = if behind {
            self.waiting.buffer()
        } else {
            std::mem::take(&mut self.out)
        };
        out.clear();
        push_members(line, text.as_deref(), &mut out);
        line.fields.write(common, scan.present, &mut out);
        if behind || late {
            push_time(&mut out, ts);
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
        self.waiting.queue(Ready {
            tag,
            record: out,
            calls,
        });
        self.give_queued(tag)
    }

    /// Numbers of the calls that a line came with, which is not to leave now: its own call is one to be spooled.
    pub(super) fn calls_of(&mut self, source: Source<'_>) -> Vec<u64> {
        self.kept_back = true;
        let mut calls = source.earlier.to_vec();
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
        if self.emit_queued(Some(tag)) || (self.waiting.is_crowded(records, bytes) && self.emit_queued(None))
        {
            Decision::Out
        } else {
            Decision::Nothing
        }
    }

    pub(super) fn emit_queued(&mut self, tag: Option<u64>) -> bool {
        let Some(Ready { record, calls, .. }) = self.waiting.take(tag) else {
            return false;
        };
        self.spool.release(&calls);
        let old = std::mem::replace(&mut self.out, record);
        self.waiting.recycle(old);
        self.waiting.recycle_calls(calls);
        true
    }

    /// Puts the record of the call at hand in line, behind those of its tag, and lets the first of these leave.
    pub(super) fn leave_behind(&mut self, tag: u64, record: Vec<u8>) -> Decision {
        self.kept_back = true;
        let calls = self.waiting.call_alone(self.call);
        let Some(Ready { record, calls, .. }) = self.waiting.exchange(Ready { tag, record, calls }) else {
            return Decision::Nothing;
        };
        self.spool.release(&calls);
        let old = std::mem::replace(&mut self.out, record);
        self.waiting.recycle(old);
        self.waiting.recycle_calls(calls);
        Decision::Out
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

/// Appends the record's own time, for one that leaves on another call.
pub(super) fn push_time(out: &mut Vec<u8>, ts: u64) {
    out.extend_from_slice(b",\"rankline_ts\":\"");
    json::push_decimal(out, ts);
    out.push(b'"');
}
