//! After a restart: the calls that the spool holds are made again, so that what was held is held again.

use crate::queue::Ready;
use crate::spool::{Call, Entry, Recovered, SpoolFile};
use crate::tags;

use super::{Decision, Filter};

/// Times are taken to name one record alone when they are finer than this, in ns: the runtime stamped the record, and reading it
/// again gives the same time.
const COARSE_NS: u64 = 1_000_000;

impl Filter {
    /// Keeps held lines in `file` from now on, at most `spool_bytes` of them, and takes back those that an earlier process left
    /// there. They leave with the first calls of their tags and the first ticks, each with its own `rankline_ts`; a record
    /// that was cut goes on with the lines that come now.
    ///
    /// To be called before the first record. A file that can't be used, and bytes in it that are no whole entries, are reported
    /// among the logs.
    pub fn recover(&mut self, file: Box<dyn SpoolFile>) {
        if self.config.spool_bytes == 0 {
            return;
        }
        let recovered = self.spool.open(file, self.config.spool_bytes);
        self.recovering = true;
        for entry in recovered.entries() {
            match entry {
                Entry::Call(call) => self.make_again(&call),
                Entry::Complete(first) => self.complete_again(first),
            }
        }
        self.recovering = false;
        self.call = recovered.last_number;
        self.tell_skipped(&recovered);
    }

    fn make_again(&mut self, call: &Call<'_>) {
        let tag = tags::hash(0, call.tag);
        self.call = call.number.saturating_sub(1);
        if self.handle(call.tag, tag, call.ts, call.record) == Decision::Unchanged {
            // Another configuration than before doesn't find the line in it.
            self.queue.push(Ready {
                tag,
                record: call.record.to_vec(),
                calls: vec![call.number],
            });
        }
        if !call.ts.is_multiple_of(COARSE_NS) {
            self.recovered.insert(call.ts, tags::hash(tag, call.record));
        }
    }

    fn complete_again(&mut self, first: u64) {
        let began = |calls: &[u64]| calls.first() == Some(&first);
        if let Some(index) = self.waiting.held().iter().position(|held| began(&held.calls)) {
            self.close(index);
        } else if let Some(partial) = self.partials.take_that(|partial| began(&partial.calls)) {
            self.give_up(partial);
        }
    }

    fn tell_skipped(&mut self, recovered: &Recovered) {
        if recovered.skipped > 0 {
            self.announce(&format!(
                "{}: {} bytes are no whole entries and were skipped; held lines may be missing",
                crate::SPOOL_FILE,
                recovered.skipped
            ));
        }
    }

    /// Whether this very record was recovered already: the agent died after the filter held it and before it noted that the
    /// line was read.
    pub(super) fn is_here_again(&mut self, tag: u64, ts: u64, record: &[u8]) -> bool {
        if self.recovering || self.recovered.get(&ts) != Some(&tags::hash(tag, record)) {
            return false;
        }
        self.recovered.remove(&ts);
        true
    }
}
