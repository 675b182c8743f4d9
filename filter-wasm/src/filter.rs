//! The filter as its callers see it.

use crate::Config;

/// What a call gives back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output<'a> {
    /// The input record goes on as it came.
    Unchanged,
    /// This JSON object goes on instead of the input; it may be another record than the call's own.
    Record(&'a [u8]),
    /// Nothing leaves on this call.
    Nothing,
}

/// The filter and everything it holds.
#[derive(Debug)]
pub struct Filter {
    _config: Config,
}

impl Filter {
    /// A filter that holds nothing yet.
    pub fn new(config: Config) -> Self {
        Self { _config: config }
    }

    /// Takes one record (a JSON object's text) of `tag` with its time, gives at most one back.
    pub fn record(&mut self, _tag: &[u8], _sec: u32, _nsec: u32, _record: &[u8]) -> Output<'_> {
        Output::Unchanged
    }

    /// One record that is complete and only waits for a free call.
    pub fn ready(&mut self) -> Option<&[u8]> {
        None
    }

    /// One record that is due at `now_ns` (nanoseconds since the epoch): complete, or held for `flush_ms`.
    pub fn tick(&mut self, _now_ns: u64) -> Option<&[u8]> {
        None
    }

    /// The next record that is still here, due or not: call at the end of input until it gives nothing.
    pub fn flush(&mut self) -> Option<&[u8]> {
        None
    }

    /// How many records are held or wait for a free call.
    pub fn pending(&self) -> usize {
        0
    }
}
