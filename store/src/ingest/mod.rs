//! From pushed bytes to acknowledged segments. Knows nothing of HTTP.
//!
//! Invariant: a push is acknowledged only when all its good entries are in the object store and in the catalog.

mod batch;
pub mod decode;
mod error;
pub mod ids;
pub mod level;
mod memory;
pub mod names;
mod recent_labels;
pub mod validate;
mod writer;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use error::PushError;
pub use memory::Reservation;

use crate::catalog::Catalog;
use crate::config::Config;
use crate::entry::{Entry, StreamEntries};
use crate::live::LiveHub;
use crate::metrics as metric_names;
use crate::storage::Storage;
use crate::tenants::TenantId;
use ids::{Process, SegmentIds};
use memory::Budget;
use writer::TenantWriter;

/// Writers kept without work; beyond it idle ones are dropped.
const MAX_IDLE_WRITERS: usize = 1024;

/// What became of a push.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PushOutcome {
    /// Entries stored.
    pub entries: u64,
}

/// Takes pushes, writes segments, acknowledges. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Ingester(Arc<Shared>);

/// What all writers share.
#[derive(Debug)]
struct Shared {
    batch_bytes: usize,
    flush_interval: Duration,
    flush_deadline: Duration,
    storage: Storage,
    catalog: Arc<Catalog>,
    live: Arc<LiveHub>,
    budget: Arc<Budget>,
    /// Decoding and encoding at once: as many as there are cores.
    cpu: Arc<Semaphore>,
    tasks: TaskTracker,
    ids: SegmentIds,
    stopping: CancellationToken,
    writers: Mutex<HashMap<TenantId, Arc<TenantWriter>>>,
}

impl Ingester {
    /// Starts taking pushes.
    #[must_use]
    pub fn new(config: &Config, storage: Storage, catalog: Arc<Catalog>, live: Arc<LiveHub>) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self(Arc::new(Shared {
            batch_bytes: config.batch_bytes.as_usize(),
            flush_interval: config.flush_interval,
            flush_deadline: config.flush_deadline,
            storage,
            catalog,
            live,
            budget: Budget::new(config.ingest_memory_bytes.0),
            cpu: Arc::new(Semaphore::new(cores)),
            tasks: TaskTracker::new(),
            ids: SegmentIds::new(),
            stopping: CancellationToken::new(),
            writers: Mutex::default(),
        }))
    }

    /// What marks the segments this replica writes.
    #[must_use]
    pub fn process(&self) -> Process {
        self.0.ids.process()
    }

    /// An empty share of the memory for unacknowledged pushes, to be grown while a request is read and decoded.
    ///
    /// # Errors
    /// [`PushError::Stopping`].
    pub fn reserve(&self) -> Result<Reservation, PushError> {
        if self.0.stopping.is_cancelled() {
            return Err(PushError::Stopping);
        }
        Ok(self.0.budget.reserve())
    }

    /// Runs CPU-bound work of a push on a thread of its own, as many at once as there are cores.
    ///
    /// # Errors
    /// [`PushError::Internal`] when the work panicked.
    pub async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PushError> {
        let permit = Arc::clone(&self.0.cpu)
            .acquire_owned()
            .await
            .map_err(|_| PushError::Stopping)?;
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        task.await
            .map_err(|error| PushError::Internal(format!("the decoder stopped: {error}")))
    }

    /// Stores validated entries; returns when they are in the object store and in the catalog.
    ///
    /// # Errors
    /// [`PushError`]; nothing is acknowledged then.
    pub async fn push(
        &self,
        tenant: &TenantId,
        streams: Vec<StreamEntries>,
    ) -> Result<PushOutcome, PushError> {
        let mut reservation = self.reserve()?;
        let entries = || streams.iter().flat_map(|stream| &stream.entries);
        reservation.grow(entries().map(Entry::memory_bytes).sum::<usize>() as u64)?;
        self.push_reserved(tenant, streams, reservation).await
    }

    /// As [`Ingester::push`], for entries whose memory is reserved already.
    ///
    /// # Errors
    /// As [`Ingester::push`].
    pub async fn push_reserved(
        &self,
        tenant: &TenantId,
        streams: Vec<StreamEntries>,
        reservation: Reservation,
    ) -> Result<PushOutcome, PushError> {
        let entries: usize = streams.iter().map(|stream| stream.entries.len()).sum();
        if entries == 0 {
            return Ok(PushOutcome::default());
        }
        let line_bytes: usize = streams
            .iter()
            .flat_map(|stream| &stream.entries)
            .map(|entry| entry.line.len())
            .sum();
        let acknowledged = {
            let mut writers = self.0.writers.lock();
            // Under the lock that `stop` takes as well: what is added here is flushed there.
            if self.0.stopping.is_cancelled() {
                return Err(PushError::Stopping);
            }
            if writers.len() >= MAX_IDLE_WRITERS && !writers.contains_key(tenant) {
                writers.retain(|_, writer| !writer.is_idle());
            }
            let new = || Arc::new(TenantWriter::new(Arc::clone(&self.0), tenant.clone()));
            let writer = Arc::clone(writers.entry(tenant.clone()).or_insert_with(new));
            writer.add(streams, reservation)
        };
        acknowledged
            .await
            .map_err(|_| PushError::Internal("the writer stopped".to_owned()))??;
        metrics::counter!(metric_names::PUSH_ENTRIES).increment(entries as u64);
        metrics::counter!(metric_names::PUSH_LINE_BYTES).increment(line_bytes as u64);
        Ok(PushOutcome {
            entries: entries as u64,
        })
    }

    /// Starts flushing every open batch at once, without waiting for intervals.
    pub fn flush(&self, cause: &'static str) {
        for writer in self.0.writers.lock().values() {
            writer.flush(cause);
        }
    }

    /// Refuses new pushes, flushes what is open and waits until everything is stored or given up.
    pub async fn stop(&self) {
        {
            let _writers = self.0.writers.lock();
            self.0.stopping.cancel();
        }
        self.flush("shutdown");
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }
}

#[cfg(test)]
mod tests;
