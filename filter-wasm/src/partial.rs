//! Lines that the container runtime cut into parts (`_p` or `logtag` is `P`): joined before anything else looks at them.
//!
//! CRI writes at most 16 KiB of a line into one entry; all parts but the last are flagged. Parts of one stream follow each other.
//! The joined record is the first part's, with the flag of the last one.

use crate::hold::Key;
use crate::json::Scan;

/// The parts so far of one line.
#[derive(Debug)]
pub(crate) struct Partial {
    pub tag: u64,
    pub stream: Key,
    /// Time of the first part, ns since the epoch.
    pub ts: u64,
    /// Time of the first tick after the last part.
    pub seen_by_tick: Option<u64>,
    record: Vec<u8>,
    scan: Scan,
    /// The parts' text, escaped as it came.
    text: Vec<u8>,
}

/// All lines that are not complete yet.
#[derive(Debug, Default)]
pub(crate) struct Partials {
    list: Vec<Partial>,
}

/// Most lines that are joined at once; beyond it the oldest leaves as it is.
const MAX_PARTIALS: usize = 256;

impl Partials {
    pub(crate) fn count(&self) -> usize {
        self.list.len()
    }

    /// Takes a part that is not the last. Gives back a line that must leave as it is, for want of room.
    pub(crate) fn add(
        &mut self,
        tag: u64,
        stream: Key,
        ts: u64,
        record: &[u8],
        scan: &Scan,
        limit: usize,
    ) -> Option<Partial> {
        let part = &record[scan.log.clone()];
        if let Some(at) = self.list.iter().position(|partial| partial.stream == stream) {
            let partial = &mut self.list[at];
            partial.text.extend_from_slice(part);
            partial.seen_by_tick = None;
            return (partial.text.len() > limit).then(|| self.list.remove(at));
        }
        let (record, scan, text) = (record.to_vec(), scan.clone(), part.to_vec());
        self.list.push(Partial {
            tag,
            stream,
            ts,
            seen_by_tick: None,
            record,
            scan,
            text,
        });
        (self.list.len() > MAX_PARTIALS).then(|| self.list.remove(0))
    }

    /// The parts that stand before the last part of a line.
    pub(crate) fn take(&mut self, stream: Key) -> Option<Partial> {
        let at = self.list.iter().position(|partial| partial.stream == stream)?;
        Some(self.list.remove(at))
    }

    /// A line whose next part didn't come within `limit` ns of ticks; only of one tag, if given.
    pub(crate) fn take_due(&mut self, tag: Option<u64>, now: u64, limit: u64) -> Option<Partial> {
        let due = |partial: &mut Partial| {
            tag.is_none_or(|tag| tag == partial.tag)
                && now.saturating_sub(*partial.seen_by_tick.get_or_insert(now)) >= limit
        };
        let at = self.list.iter_mut().position(due)?;
        Some(self.list.remove(at))
    }

    pub(crate) fn take_any(&mut self) -> Option<Partial> {
        (!self.list.is_empty()).then(|| self.list.remove(0))
    }
}

impl Partial {
    /// The record with all of the text, and the flag of its last part. `last`: that part, still escaped.
    pub(crate) fn complete(&self, last: &[u8], flag: &[u8]) -> Vec<u8> {
        let mut edits = vec![(self.scan.log.clone(), [&self.text, last].concat())];
        if let Some(span) = &self.scan.partial_flag {
            edits.push((span.clone(), flag.to_vec()));
        }
        edits.sort_by_key(|(span, _)| span.start);
        let mut out = Vec::with_capacity(self.record.len() + self.text.len() + last.len());
        let mut from = 0;
        for (span, text) in edits {
            out.extend_from_slice(&self.record[from..span.start]);
            out.extend_from_slice(&text);
            from = span.end;
        }
        out.extend_from_slice(&self.record[from..]);
        out
    }
}
