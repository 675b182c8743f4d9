//! Lines that wait, kept where they outlive the process.
//!
//! The spool is a log of calls: each call whose line was kept back is written down before it returns, and taken out once the
//! record it became part of is safe. After a restart the calls that are left are made again, so that a traceback which the
//! agent's death cut goes on with the lines that follow, and nothing that was held is missing.
//!
//! A record that left is not safe yet: Fluent Bit filters a whole batch before it stores it, and a batch whose storing was cut
//! short is read again without the lines of earlier batches. All calls of a batch have one tag, so a call with another tag, or
//! another tick, says that the batch before it is stored. A crash between storing and that call makes the same record leave
//! twice, with the same bytes and the same `rankline_ts`; the store keeps one.
//!
//! This module owns when what is written and dropped. It knows calls as numbers and records as bytes, and does no I/O itself.

mod entry;
#[cfg(test)]
mod tests;

pub(crate) use entry::{Call, Entry, Recovered};

/// File name of the spool in an accessible folder.
pub const SPOOL_FILE: &str = "rank_filter.spool";

/// Files below this size are not rewritten to get rid of what is done.
const MIN_REWRITE: usize = 256 << 10;

/// Why the spool's file can't be used: the operation, and the system's error number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolError {
    /// What was tried: `read`, `append`, `replace`.
    pub operation: &'static str,
    /// The system's number (of WASI in the module).
    pub errno: u16,
}

impl std::fmt::Display for SpoolError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{SPOOL_FILE}: cannot {} (errno {})",
            self.operation, self.errno
        )
    }
}

impl std::error::Error for SpoolError {}

/// The bytes that outlive the process: a file in the accessible folder, or a stand-in for tests.
pub trait SpoolFile: std::fmt::Debug + Send {
    /// The first `limit` bytes.
    ///
    /// # Errors
    /// When the file can't be read.
    fn read(&mut self, limit: usize) -> Result<Vec<u8>, SpoolError>;

    /// Writes behind what is there. What was written before this call stays whole when it fails or is cut short.
    ///
    /// # Errors
    /// When not all bytes could be written.
    fn append(&mut self, bytes: &[u8]) -> Result<(), SpoolError>;

    /// Makes these the only bytes; a crash leaves either the old ones or the new ones.
    ///
    /// # Errors
    /// When the new bytes could not be put in the old ones' place.
    fn replace(&mut self, bytes: &[u8]) -> Result<(), SpoolError>;
}

/// What tells one batch of calls from the next: the tag, and the time where it is a tick.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Batch {
    pub tag: u64,
    pub tick_ns: u64,
}

/// The calls that are still needed, with their bytes in the file, in the order of their numbers, which grow.
#[derive(Debug, Default)]
struct Live {
    /// Of one that is needed no more the bytes are 0.
    calls: Vec<(u64, usize)>,
    /// So many are needed no more: never more than half of them.
    gone: usize,
    /// The place behind the one that was removed last, where mostly the next one stands that is.
    next: usize,
    bytes: usize,
}

impl Live {
    fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    fn insert(&mut self, number: u64, bytes: usize) {
        self.bytes += bytes;
        if self.calls.last().is_none_or(|&(last, _)| last < number) {
            self.calls.push((number, bytes));
            return;
        }
        match self.search(number) {
            Ok(at) => {
                let before = std::mem::replace(&mut self.calls[at].1, bytes);
                self.bytes -= before;
                self.gone -= usize::from(before == 0);
            }
            Err(at) => self.calls.insert(at, (number, bytes)),
        }
    }

    fn search(&self, number: u64) -> Result<usize, usize> {
        self.calls.binary_search_by_key(&number, |&(number, _)| number)
    }

    fn place(&self, number: u64) -> Option<usize> {
        let at = match self.calls.get(self.next) {
            Some(&(next, _)) if next == number => self.next,
            _ => self.search(number).ok()?,
        };
        (self.calls[at].1 > 0).then_some(at)
    }

    fn contains(&self, number: u64) -> bool {
        self.place(number).is_some()
    }

    /// Says whether it was needed.
    fn remove(&mut self, number: u64) -> bool {
        let Some(at) = self.place(number) else {
            return false;
        };
        self.bytes -= std::mem::take(&mut self.calls[at].1);
        self.gone += 1;
        self.next = at + 1;
        if self.gone > self.calls.len() / 2 {
            self.calls.retain(|&(_, bytes)| bytes > 0);
            self.gone = 0;
            self.next = self.search(number).unwrap_or_else(|at| at);
        }
        true
    }
}

/// The spool's books. Without a file it does nothing.
#[derive(Debug, Default)]
pub(crate) struct Spool {
    file: Option<Box<dyn SpoolFile>>,
    /// Most bytes of the file.
    limit: usize,
    file_bytes: usize,
    live: Live,
    /// Calls whose records have left with the batch at hand.
    leaving: Vec<u64>,
    batch: Batch,
    scratch: Vec<u8>,
    /// What went wrong and has not been told yet.
    problem: Option<String>,
    full_was_told: bool,
}

impl Spool {
    /// Takes the file and reads what an earlier process left in it; that stays there until it is released.
    pub(crate) fn open(&mut self, mut file: Box<dyn SpoolFile>, limit: usize) -> Recovered {
        let recovered = match file.read(limit) {
            Ok(bytes) => {
                self.file_bytes = bytes.len();
                entry::decode(bytes)
            }
            Err(error) => {
                self.problem = Some(error.to_string());
                return Recovered::default();
            }
        };
        self.file = Some(file);
        self.limit = limit;
        for entry in recovered.entries() {
            if let Entry::Call(call) = entry {
                self.live.insert(call.number, entry::encoded_length(&call));
            }
        }
        if self.live.is_empty() && self.file_bytes > 0 {
            self.replace(b"");
        } else if recovered.skipped > 0 {
            self.keep_live(&recovered);
        }
        recovered
    }

    /// A call begins; of another batch than before, what left with that is safe.
    pub(crate) fn begin_call(&mut self, batch: Batch) {
        if !self.leaving.is_empty() && batch != self.batch {
            self.settle();
        }
        self.batch = batch;
    }

    /// Writes down a call whose line is kept back.
    pub(crate) fn keep(&mut self, call: &Call<'_>) {
        if self.file.is_none() {
            return;
        }
        if self.put(&Entry::Call(*call)) {
            self.live.insert(call.number, entry::encoded_length(call));
        }
    }

    /// Writes down that the record that began with this call is complete, so that it comes back with the same lines.
    pub(crate) fn complete(&mut self, first: u64) {
        if self.live.contains(first) {
            self.put(&Entry::Complete(first));
        }
    }

    fn put(&mut self, entry: &Entry<'_>) -> bool {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        entry::encode_entry(entry, &mut scratch);
        let written = self.has_room(scratch.len()) && self.write(&scratch);
        if scratch.capacity() <= 64 << 10 {
            self.scratch = scratch;
        }
        written
    }

    /// The record of these calls leaves with the batch at hand.
    pub(crate) fn release(&mut self, calls: &[u64]) {
        if self.file.is_some() {
            self.leaving.extend_from_slice(calls);
        }
    }

    /// What went wrong since it was asked last.
    pub(crate) fn take_problem(&mut self) -> Option<String> {
        self.problem.take()
    }

    /// Whether so many bytes more fit. At the limit what has left counts as safe, and if that is not enough, the line is held in
    /// memory alone.
    fn has_room(&mut self, bytes: usize) -> bool {
        if self.file_bytes + bytes <= self.limit {
            return true;
        }
        self.settle();
        if self.live.bytes + bytes <= self.limit {
            if self.file_bytes + bytes > self.limit {
                self.rewrite();
            }
            return self.file_bytes + bytes <= self.limit;
        }
        if !self.full_was_told {
            self.full_was_told = true;
            self.problem = Some(format!(
                "{SPOOL_FILE}: spool_bytes ({}) is reached; further held lines would be lost if the agent were killed",
                self.limit
            ));
        }
        false
    }

    /// What has left is safe: its calls are not needed any more.
    fn settle(&mut self) {
        if self.leaving.is_empty() {
            return;
        }
        let mut leaving = std::mem::take(&mut self.leaving);
        leaving.retain(|&call| self.live.remove(call));
        if leaving.is_empty() {
            return;
        }
        if self.live.is_empty() {
            self.replace(b"");
        } else if self.file_bytes > MIN_REWRITE && self.file_bytes > 2 * self.live.bytes {
            self.rewrite();
        } else {
            let mut done = Vec::new();
            entry::encode_done(&leaving, &mut done);
            self.write(&done);
        }
    }

    /// Leaves the live calls alone in the file.
    fn rewrite(&mut self) {
        let limit = self.file_bytes;
        let Some(file) = &mut self.file else { return };
        match file.read(limit) {
            Ok(bytes) => {
                let is_live = |number| self.live.contains(number);
                let mut kept = Vec::with_capacity(self.live.bytes);
                match entry::copy_live(&bytes, is_live, &mut kept) {
                    Some(()) => self.replace(&kept),
                    None => self.keep_live(&entry::decode(bytes)),
                }
            }
            Err(error) => self.give_up(error),
        }
    }

    /// Makes those of these entries the file that are about live calls.
    fn keep_live(&mut self, found: &Recovered) {
        let mut kept = Vec::with_capacity(self.live.bytes);
        for entry in found.entries() {
            if self.live.contains(entry.number()) {
                entry::encode_entry(&entry, &mut kept);
            }
        }
        self.replace(&kept);
    }

    fn write(&mut self, bytes: &[u8]) -> bool {
        let Some(file) = &mut self.file else { return false };
        match file.append(bytes) {
            Ok(()) => {
                self.file_bytes += bytes.len();
                true
            }
            Err(error) => {
                self.give_up(error);
                false
            }
        }
    }

    fn replace(&mut self, bytes: &[u8]) {
        self.file_bytes = bytes.len();
        if let Some(file) = &mut self.file
            && let Err(error) = file.replace(bytes)
        {
            self.give_up(error);
        }
    }

    /// A file that fails once is not trusted again: what is held stays in memory alone, as without a folder.
    fn give_up(&mut self, error: SpoolError) {
        self.problem = Some(format!(
            "{error}; held lines would be lost if the agent were killed"
        ));
        *self = Spool {
            problem: self.problem.take(),
            ..Spool::default()
        };
    }
}
