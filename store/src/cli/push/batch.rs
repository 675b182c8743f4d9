//! Entries → batches of bounded size and age → the bytes of a push request.
//!
//! The memory of everything not yet acknowledged is bounded here: a batch takes its share of the buffer when it
//! closes and gives it back when it is delivered or given up.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prost::Message;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::record::Entry;
use super::report::Report;

const PERMIT_BYTES: usize = 1024;
const SLOW_AFTER: Duration = Duration::from_secs(1);

/// When a batch is full, and how much may wait.
#[derive(Debug, Clone, Copy)]
pub struct BatchLimits {
    /// A batch closes at this size.
    pub bytes: usize,
    /// A batch closes this long after its first entry.
    pub wait: Duration,
    /// Entries not acknowledged yet take at most this much memory.
    pub buffer_bytes: usize,
}

/// Entries that are sent together.
#[derive(Debug)]
pub struct Batch {
    /// Counted from 0, in the order of reading.
    pub number: u64,
    /// The entries in the order of reading.
    pub entries: Vec<Entry>,
    /// Its share of the buffer.
    _share: OwnedSemaphorePermit,
}

/// Nobody takes batches any more.
#[derive(Debug, thiserror::Error)]
#[error("sending has stopped")]
pub struct Stopped;

/// Collects entries on the reading thread.
#[derive(Debug)]
pub struct Batcher {
    limits: BatchLimits,
    entries: Vec<Entry>,
    bytes: usize,
    opened: Option<Instant>,
    next_number: u64,
    buffer: Arc<Semaphore>,
    permits: usize,
    sender: mpsc::Sender<Batch>,
    handle: Handle,
    report: Arc<Report>,
}

impl Batcher {
    /// A batcher that hands its batches to `sender`; its methods may block, so they need a thread of their own.
    pub fn new(
        limits: BatchLimits,
        sender: mpsc::Sender<Batch>,
        handle: Handle,
        report: Arc<Report>,
    ) -> Self {
        let permits = (limits.buffer_bytes / PERMIT_BYTES).clamp(1, Semaphore::MAX_PERMITS);
        Self {
            limits,
            entries: Vec::new(),
            bytes: 0,
            opened: None,
            next_number: 0,
            buffer: Arc::new(Semaphore::new(permits)),
            permits,
            sender,
            handle,
            report,
        }
    }

    /// Takes entries; blocks while the buffer is full.
    ///
    /// # Errors
    /// Sending has stopped.
    pub fn extend(&mut self, entries: impl Iterator<Item = Entry>) -> Result<(), Stopped> {
        for entry in entries {
            let bytes = entry.bytes();
            if self.bytes + bytes > self.limits.bytes {
                self.close()?;
            }
            self.opened.get_or_insert_with(Instant::now);
            self.bytes += bytes;
            self.entries.push(entry);
        }
        Ok(())
    }

    /// Closes the open batch when it has waited long enough.
    ///
    /// # Errors
    /// Sending has stopped.
    pub fn tick(&mut self) -> Result<(), Stopped> {
        match self.opened {
            Some(opened) if opened.elapsed() >= self.limits.wait => self.close(),
            _ => Ok(()),
        }
    }

    /// Whether no entry waits for the batch to be full.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The number the open batch will get.
    pub fn next_number(&self) -> u64 {
        self.next_number
    }

    /// Closes the open batch and hands it over.
    ///
    /// # Errors
    /// Sending has stopped.
    pub fn close(&mut self) -> Result<(), Stopped> {
        if self.entries.is_empty() {
            return Ok(());
        }
        let wanted = u32::try_from((self.bytes / PERMIT_BYTES + 1).min(self.permits)).unwrap_or(u32::MAX);
        let share = self
            .handle
            .block_on(take_share(Arc::clone(&self.buffer), wanted, &self.report))?;
        let batch = Batch {
            number: self.next_number,
            entries: std::mem::take(&mut self.entries),
            _share: share,
        };
        self.next_number += 1;
        self.bytes = 0;
        self.opened = None;
        self.sender.blocking_send(batch).map_err(|_| Stopped)
    }
}

async fn take_share(
    buffer: Arc<Semaphore>,
    permits: u32,
    report: &Report,
) -> Result<OwnedSemaphorePermit, Stopped> {
    let wait = buffer.acquire_many_owned(permits);
    tokio::pin!(wait);
    if let Ok(share) = tokio::time::timeout(SLOW_AFTER, &mut wait).await {
        return share.map_err(|_| Stopped);
    }
    report.warn("the buffer is full: reading waits until the service has taken some of it");
    let started = Instant::now();
    let share = wait.await.map_err(|_| Stopped)?;
    let waited = SLOW_AFTER + started.elapsed();
    report.warn(&format!("reading goes on after {:.1} s", waited.as_secs_f64()));
    Ok(share)
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PushRequest {
    #[prost(message, repeated, tag = "1")]
    pub(crate) streams: Vec<PushStream>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PushStream {
    #[prost(string, tag = "1")]
    pub(crate) labels: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) entries: Vec<PushEntry>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PushEntry {
    #[prost(message, optional, tag = "1")]
    pub(crate) timestamp: Option<PushTime>,
    #[prost(string, tag = "2")]
    pub(crate) line: String,
    #[prost(message, repeated, tag = "3")]
    pub(crate) structured_metadata: Vec<PushPair>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct PushTime {
    #[prost(int64, tag = "1")]
    pub(crate) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(crate) nanos: i32,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct PushPair {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) value: String,
}

/// The body of a push request with `entries`: Loki's `PushRequest` in a snappy block.
///
/// # Errors
/// The request is larger than snappy can take (4 GiB).
pub fn encode(entries: &[Entry]) -> Result<Vec<u8>, snap::Error> {
    let mut at: HashMap<&str, usize> = HashMap::new();
    let mut request = PushRequest { streams: Vec::new() };
    for entry in entries {
        let index = *at.entry(&entry.labels).or_insert_with(|| {
            request.streams.push(PushStream {
                labels: entry.labels.to_string(),
                entries: Vec::new(),
            });
            request.streams.len() - 1
        });
        let pairs = entry.metadata.iter();
        request.streams[index].entries.push(PushEntry {
            timestamp: Some(PushTime {
                seconds: entry.ts.div_euclid(1_000_000_000),
                nanos: i32::try_from(entry.ts.rem_euclid(1_000_000_000)).expect("a remainder below 10^9"),
            }),
            line: entry.line.clone(),
            structured_metadata: pairs
                .map(|(name, value)| PushPair {
                    name: name.clone(),
                    value: value.clone(),
                })
                .collect(),
        });
    }
    snap::raw::Encoder::new().compress_vec(&request.encode_to_vec())
}
