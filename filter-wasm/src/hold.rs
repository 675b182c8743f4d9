//! Records that may go on. Complete ones, which wait for a free call, are in [`crate::queue`].
//!
//! This module knows keys as numbers and shapes as values; what a line looks like is none of its business.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use crate::fields::Fields;
use crate::json::Span;
use crate::shape::Shape;
use crate::tags::Identity;

/// A stream of lines that only one writer writes: tag, pod, stdout or stderr, prefixes.
pub(crate) type Key = u64;

/// For so many calls behind its last line a record may take lines that lost their prefixes.
const ADOPTING_CALLS: u64 = 250;

/// A record that may go on.
#[derive(Debug)]
pub(crate) struct Held {
    /// Tag it came with.
    pub tag: u64,
    /// Tag, pod and stream, without prefixes.
    pub stream: Key,
    /// Number of the call that began it.
    pub id: u64,
    /// Its own key.
    pub key: Key,
    /// The keys of the same stream with fewer prefixes: lines of these may have lost theirs.
    pub outer: Vec<Key>,
    /// Those of them that lines of this record had. Their order must be kept too.
    pub adopted: Vec<Key>,
    /// State of its shape.
    pub shape: Shape,
    /// The first line's record, and where in it the line stands.
    pub record: Vec<u8>,
    pub log: Span,
    pub end: usize,
    pub present: u16,
    /// All lines so far, escaped as they came, joined by `\n`.
    pub text: Vec<u8>,
    /// The last line ended with a newline of its own.
    pub newline: bool,
    pub lines: u32,
    /// Time of the first and of the last line, ns since the epoch.
    pub first_ts: u64,
    pub last_ts: u64,
    /// Text before the shape's first words, which further lines may repeat.
    pub head: Vec<u8>,
    /// A further line did repeat it.
    pub head_repeats: bool,
    /// Blank lines since the last other one, and further lines of a log message before its trace: they are the record's only when
    /// it goes on behind them.
    pub tail: Vec<Blank>,
    /// Number of the call that brought the last line.
    pub touched: u64,
    /// Time of the first tick after the last line, ns since the epoch.
    pub seen_by_tick: Option<u64>,
    pub fields: Fields,
    /// Numbers of the calls that its lines came with, for the spool.
    pub calls: Vec<u64>,
}

/// A line behind a held record that waits for what comes next.
#[derive(Debug)]
pub(crate) struct Blank {
    /// The line as it stands in its record.
    pub escaped: Vec<u8>,
    /// Its own record, complete, for when the held one ends here.
    pub record: Vec<u8>,
    /// Numbers of the calls that it came with.
    pub calls: Vec<u64>,
}

impl Held {
    /// Lines of `key` are this record's own.
    pub(crate) fn owns(&self, key: Key) -> bool {
        self.key == key || self.adopted.contains(&key)
    }

    /// Its lines may have lost their prefixes: it has just begun, or lines without them came already, and not long before the
    /// call at hand.
    fn may_adopt(&self, call: u64) -> bool {
        (self.lines == 1 || !self.adopted.is_empty()) && call.saturating_sub(self.touched) <= ADOPTING_CALLS
    }

    fn bytes(&self) -> usize {
        let tail: usize = self
            .tail
            .iter()
            .map(|blank| blank.record.len() + blank.escaped.len() + 64)
            .sum();
        self.record.len() + self.text.len() + self.head.len() + 8 * self.calls.len() + tail + 256
    }
}

/// The held records that take lines of one key.
#[derive(Debug, Default)]
pub(crate) struct Takers {
    /// Ids of those that own lines of it, oldest first.
    owners: Vec<u64>,
    /// How many may take some without owning them.
    adopters: usize,
    /// The last call that brought one of these a line.
    touched: u64,
}

impl Takers {
    /// Some held record owns lines of the key.
    pub(crate) fn own(&self) -> bool {
        !self.owners.is_empty()
    }

    /// Some held record may take lines of the key without owning it, and had a line lately.
    pub(crate) fn may_adopt(&self, call: u64) -> bool {
        self.adopters > 0 && call.saturating_sub(self.touched) <= ADOPTING_CALLS
    }
}

/// The held records.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// Oldest first, so that their ids grow.
    held: Vec<Held>,
    held_bytes: usize,
    /// By key; no entry for none.
    takers: HashMap<Key, Takers, BuildHasherDefault<Identity>>,
    /// How many held records have lines that may begin with numbers.
    numbered: usize,
    /// No held record's last line is older, ns since the epoch.
    oldest: u64,
    spare: Vec<Vec<u8>>,
}

impl Waiting {
    pub(crate) fn nothing_held(&self) -> bool {
        self.held.is_empty()
    }

    /// Bytes of the held records.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    pub(crate) fn held_records(&self) -> usize {
        self.held.len()
    }

    /// Held records, oldest first.
    pub(crate) fn held(&self) -> &[Held] {
        &self.held
    }

    pub(crate) fn at(&mut self, index: usize) -> &mut Held {
        &mut self.held[index]
    }

    pub(crate) fn all(&mut self) -> impl Iterator<Item = &mut Held> {
        self.held.iter_mut()
    }

    pub(crate) fn hold(&mut self, held: Held) {
        self.held_bytes += held.bytes();
        for &key in held.adopted.iter().chain([&held.key]) {
            self.note_owner(key, held.id);
        }
        for &key in &held.outer {
            let takers = self.takers.entry(key).or_default();
            takers.adopters += 1;
            takers.touched = held.touched;
        }
        self.numbered += usize::from(held.shape.is_numbered());
        self.oldest = if self.held.is_empty() {
            held.last_ts
        } else {
            self.oldest.min(held.last_ts)
        };
        let newer = self
            .held
            .iter()
            .rev()
            .take_while(|other| other.id > held.id)
            .count();
        self.held.insert(self.held.len() - newer, held);
    }

    fn note_owner(&mut self, key: Key, id: u64) {
        let owners = &mut self.takers.entry(key).or_default().owners;
        let older = owners.partition_point(|&other| other <= id);
        owners.insert(older, id);
    }

    /// The call at hand brought the held record a line.
    pub(crate) fn touch(&mut self, index: usize, call: u64) {
        let held = &mut self.held[index];
        held.touched = call;
        for key in &held.outer {
            if let Some(takers) = self.takers.get_mut(key) {
                takers.touched = call;
            }
        }
    }

    /// A line of this key that the held record took lacks its prefix.
    pub(crate) fn adopt(&mut self, index: usize, key: Key) {
        let held = &mut self.held[index];
        if !held.adopted.contains(&key) {
            held.adopted.push(key);
            let id = held.id;
            self.note_owner(key, id);
        }
    }

    /// Who takes lines of this key. Mostly nobody does, and many records may be held.
    pub(crate) fn takers(&self, key: Key) -> Option<&Takers> {
        if self.held.is_empty() {
            return None;
        }
        self.takers.get(&key)
    }

    /// The held records that own lines of this key, oldest first.
    pub(crate) fn owners(&self, key: Key) -> impl Iterator<Item = &Held> {
        let owners = self.takers(key).into_iter().flat_map(|takers| &takers.owners);
        owners.filter_map(|&id| self.held.get(self.place(id)?))
    }

    /// The held records that may take a line of this key now without owning it.
    pub(crate) fn adopters(&self, key: Key, call: u64) -> impl Iterator<Item = &Held> {
        let may = self.takers(key).is_some_and(|takers| takers.may_adopt(call));
        let held = if may { self.held() } else { &[] };
        held.iter()
            .filter(move |held| held.may_adopt(call) && held.outer.contains(&key) && !held.owns(key))
    }

    /// Where the record with this id is held.
    pub(crate) fn place(&self, id: u64) -> Option<usize> {
        self.held.binary_search_by_key(&id, |held| held.id).ok()
    }

    /// Lines of a held record may begin with numbers.
    pub(crate) fn has_numbered(&self) -> bool {
        self.numbered > 0
    }

    /// Some held record's last line is older than that at `ts`.
    #[inline(always)]
    pub(crate) fn has_aged(&mut self, ts: u64, limit: u64) -> bool {
        !self.held.is_empty() && ts.saturating_sub(self.oldest) > limit && self.still_aged(ts, limit)
    }

    #[inline(never)]
    fn still_aged(&mut self, ts: u64, limit: u64) -> bool {
        self.oldest = self.held.iter().map(|held| held.last_ts).min().unwrap_or(ts);
        ts.saturating_sub(self.oldest) > limit
    }

    /// Appends a line to a held record.
    pub(crate) fn append(&mut self, index: usize, escaped: &[u8], newline: bool, ts: u64, calls: &[u64]) {
        let held = &mut self.held[index];
        let before = held.bytes();
        for blank in held.tail.drain(..) {
            held.text.extend_from_slice(b"\\n");
            held.text.extend_from_slice(&blank.escaped);
            held.calls.extend_from_slice(&blank.calls);
            held.lines += 1;
        }
        held.text.extend_from_slice(b"\\n");
        held.text.extend_from_slice(escaped);
        held.calls.extend_from_slice(calls);
        held.newline = newline;
        held.lines += 1;
        held.last_ts = held.last_ts.max(ts);
        held.seen_by_tick = None;
        let after = held.bytes();
        self.held_bytes = (self.held_bytes + after).saturating_sub(before);
    }

    /// Keeps a blank line behind a held record.
    pub(crate) fn append_blank(&mut self, index: usize, blank: Blank, ts: u64) {
        let held = &mut self.held[index];
        let before = held.bytes();
        held.tail.push(blank);
        held.last_ts = held.last_ts.max(ts);
        held.seen_by_tick = None;
        let after = held.bytes();
        self.held_bytes = (self.held_bytes + after).saturating_sub(before);
    }

    pub(crate) fn release(&mut self, index: usize) -> Held {
        let held = self.held.remove(index);
        self.held_bytes = self.held_bytes.saturating_sub(held.bytes());
        if self.numbered > 0 {
            self.numbered = self.held.iter().filter(|held| held.shape.is_numbered()).count();
        }
        for &key in held.adopted.iter().chain([&held.key]) {
            self.change_takers(key, |takers| takers.owners.retain(|&id| id != held.id));
        }
        for &key in &held.outer {
            self.change_takers(key, |takers| takers.adopters -= 1);
        }
        held
    }

    fn change_takers(&mut self, key: Key, change: impl FnOnce(&mut Takers)) {
        if let Some(takers) = self.takers.get_mut(&key) {
            change(takers);
            if takers.owners.is_empty() && takers.adopters == 0 {
                self.takers.remove(&key);
            }
        }
    }

    /// An empty buffer, used before where there is one.
    pub(crate) fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// Takes a buffer back.
    pub(crate) fn recycle(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < 16 && buffer.capacity() <= 64 << 10 {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}
