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
    /// Numbers of the calls that the parts came with, for the spool.
    pub calls: Vec<u64>,
    /// It began in an earlier process, so lines of before it may be read again.
    recovered: bool,
}

/// A part that is not the last, with its record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part<'a> {
    pub tag: u64,
    pub stream: Key,
    /// Time of the record, ns since the epoch.
    pub ts: u64,
    pub record: &'a [u8],
    pub scan: &'a Scan,
    /// An earlier process took it.
    pub recovered: bool,
}

/// How much is joined at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Most bytes of one line; beyond it the line leaves as far as it goes.
    pub line_bytes: usize,
    /// Most bytes of all lines; beyond it the oldest leave as far as they go.
    pub all_bytes: usize,
}

/// All lines that are not complete yet, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Partials {
    list: Vec<Partial>,
    bytes: usize,
}

/// Most lines that are joined at once; beyond it the oldest leaves as it is.
const MAX_PARTIALS: usize = 256;

impl Partials {
    pub(crate) fn count(&self) -> usize {
        self.list.len()
    }

    /// Takes a part that is not the last; `call` is the number of its call.
    pub(crate) fn add(&mut self, part: Part<'_>, call: u64) {
        let text = &part.record[part.scan.log.clone()];
        let begun = |partial: &&mut Partial| partial.goes_on(part.stream, part.ts);
        if let Some(partial) = self.list.iter_mut().find(begun) {
            partial.text.extend_from_slice(text);
            partial.calls.push(call);
            partial.seen_by_tick = None;
            self.bytes += text.len();
            return;
        }
        let partial = Partial {
            tag: part.tag,
            stream: part.stream,
            ts: part.ts,
            seen_by_tick: None,
            record: part.record.to_vec(),
            scan: part.scan.clone(),
            text: text.to_vec(),
            calls: vec![call],
            recovered: part.recovered,
        };
        self.bytes += partial.bytes();
        self.list.push(partial);
    }

    /// A line that must leave as far as it goes, for want of room.
    pub(crate) fn take_excess(&mut self, limits: Limits) -> Option<Partial> {
        let too_long = |partial: &Partial| partial.text.len() > limits.line_bytes;
        let at = match self.list.iter().position(too_long) {
            Some(at) => at,
            None if self.list.len() > MAX_PARTIALS => 0,
            None if self.bytes > limits.all_bytes && self.list.len() > 1 => 0,
            None => return None,
        };
        Some(self.remove(at))
    }

    fn remove(&mut self, at: usize) -> Partial {
        let partial = self.list.remove(at);
        self.bytes = self.bytes.saturating_sub(partial.bytes());
        partial
    }

    /// The parts that stand before the last part of a line.
    pub(crate) fn take(&mut self, stream: Key, ts: u64) -> Option<Partial> {
        self.take_that(|partial| partial.goes_on(stream, ts))
    }

    /// A line whose next part didn't come within `limit` ns of ticks; only of one tag, if given.
    pub(crate) fn take_due(&mut self, tag: Option<u64>, now: u64, limit: u64) -> Option<Partial> {
        let due = |partial: &mut Partial| {
            tag.is_none_or(|tag| tag == partial.tag)
                && now.saturating_sub(*partial.seen_by_tick.get_or_insert(now)) >= limit
        };
        let at = self.list.iter_mut().position(due)?;
        Some(self.remove(at))
    }

    pub(crate) fn take_that(&mut self, wanted: impl FnMut(&Partial) -> bool) -> Option<Partial> {
        let at = self.list.iter().position(wanted)?;
        Some(self.remove(at))
    }

    pub(crate) fn take_any(&mut self) -> Option<Partial> {
        (!self.list.is_empty()).then(|| self.remove(0))
    }
}

impl Partial {
    /// Whether a part of that stream and time is of this line.
    fn goes_on(&self, stream: Key, ts: u64) -> bool {
        self.stream == stream && !(self.recovered && ts < self.ts)
    }

    fn bytes(&self) -> usize {
        self.record.len() + self.text.len() + 256
    }

    /// The record with all of the text, and the flag of its last part. `last`: that part, still escaped.
    pub(crate) fn complete(&self, last: &[u8], flag: &[u8]) -> Vec<u8> {
        let mut edits = vec![(self.scan.log.clone(), [&self.text, last].concat())];
        if let Some(span) = &self.scan.partial_flag {
            let behind = usize::from(span.start > self.scan.log.start);
            edits.insert(behind, (span.clone(), flag.to_vec()));
        }
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
