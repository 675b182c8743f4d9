//! What leaves: complete records, and lines with their fields, one a call, in order.

use std::borrow::Cow;

use crate::json;
use crate::text;

use super::examine::{Line, Source};
use super::{Decision, Filter};

impl Filter {
    /// Completes a held record and puts it in line.
    pub(super) fn close(&mut self, index: usize) {
        let held = self.waiting.release(index);
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
        self.waiting.queue(held.tag, out);
        for blank in held.tail {
            self.waiting.queue(held.tag, blank.record);
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
        } = line.source;
        let text = self.shown(line);
        let behind = self.waiting.has_ready(tag);
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
        match text {
            Some(text) => {
                out.extend_from_slice(&record[..scan.log.start]);
                out.extend_from_slice(&text);
                let newline = scan.log.end - if line.newline { 2 } else { 0 };
                out.extend_from_slice(&record[newline..scan.end]);
            }
            None => out.extend_from_slice(&record[..scan.end]),
        }
        line.fields.write(common, scan.present, &mut out);
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

    pub(super) fn give_queued(&mut self, tag: u64) -> Decision {
        if self.emit_queued(Some(tag)) {
            Decision::Out
        } else {
            Decision::Nothing
        }
    }

    pub(super) fn emit_queued(&mut self, tag: Option<u64>) -> bool {
        let Some(record) = self.waiting.take(tag) else {
            return false;
        };
        let old = std::mem::replace(&mut self.out, record);
        self.waiting.recycle(old);
        true
    }

    /// The escaped text to show instead of the line's own: without redraws of its bar, or without its prefixes.
    pub(super) fn shown<'a>(&self, line: &Line<'a>) -> Option<Cow<'a, [u8]>> {
        let strip = self.config.strip_prefix && line.prefix.len > 0 && !line.prefix.is_doubtful();
        if self.config.collapse_bars
            && memchr::memchr(b'\r', line.text).is_some()
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

/// Appends the record's own time, for one that leaves on another call.
pub(super) fn push_time(out: &mut Vec<u8>, ts: u64) {
    out.extend_from_slice(b",\"rankline_ts\":\"");
    json::push_decimal(out, ts);
    out.push(b'"');
}
