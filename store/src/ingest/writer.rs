//! One tenant's open batch: when it is flushed, written and acknowledged. Knows nothing of formats or limits.
//!
//! Rules: a push that finds the writer idle is flushed at once; else the batch waits for `flush_interval` since the
//! last flush, or until it is full. A full batch is closed and queued, so that a slow store makes many batches and
//! not a giant one. Several flushes run at once. Everything here runs in tasks of the service: a client that hangs
//! up changes nothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::batch::{self, Encoded};
use super::memory::Reservation;
use super::{PushError, Shared};
use crate::entry::{Entry, StreamEntries};
use crate::metrics as names;
use crate::storage::StorageError;
use crate::tenants::TenantId;

/// Segment writes at once for one tenant: enough to hide a bucket's latency, few enough to bound what they hold.
pub(super) const FLUSHES_IN_FLIGHT: usize = 4;

/// First wait before a failed segment write is tried again; doubles up to [`MAX_BACKOFF`].
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
/// Longest wait between two tries.
const MAX_BACKOFF: Duration = Duration::from_secs(5);

type Ack = oneshot::Sender<Result<(), PushError>>;

/// A tenant's writer.
#[derive(Debug)]
pub(super) struct TenantWriter {
    shared: Arc<Shared>,
    tenant: TenantId,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    open: Batch,
    /// Full batches that wait for their turn.
    full: VecDeque<Batch>,
    in_flight: usize,
    last_flush: Option<Instant>,
    timer: bool,
}

#[derive(Debug, Default)]
struct Batch {
    pushes: Vec<(Vec<StreamEntries>, Reservation)>,
    acks: Vec<Ack>,
    bytes: usize,
    began: Option<Instant>,
}

impl TenantWriter {
    pub(super) fn new(shared: Arc<Shared>, tenant: TenantId) -> Self {
        Self {
            shared,
            tenant,
            state: Mutex::default(),
        }
    }

    /// Nothing is open, queued or in flight.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.in_flight == 0 && state.full.is_empty() && state.open.acks.is_empty()
    }

    /// Adds a push to the open batch. The receiver resolves when its entries are stored, or can't be.
    pub(super) fn add(
        self: &Arc<Self>,
        streams: Vec<StreamEntries>,
        reservation: Reservation,
    ) -> oneshot::Receiver<Result<(), PushError>> {
        let (ack, acknowledged) = oneshot::channel();
        let bytes: usize = streams
            .iter()
            .flat_map(|s| &s.entries)
            .map(Entry::text_bytes)
            .sum();
        let mut state = self.state.lock();
        state.open.pushes.push((streams, reservation));
        state.open.acks.push(ack);
        state.open.bytes += bytes;
        state.open.began.get_or_insert_with(Instant::now);
        if state.open.bytes >= self.shared.batch_bytes {
            let batch = std::mem::take(&mut state.open);
            state.full.push_back(batch);
        }
        self.pump(&mut state, None);
        acknowledged
    }

    /// Flushes what is open without waiting for the interval.
    pub(super) fn flush(self: &Arc<Self>, cause: &'static str) {
        self.pump(&mut self.state.lock(), Some(cause));
    }

    /// Starts every flush that is due and sees to it that the open batch's time comes.
    fn pump(self: &Arc<Self>, state: &mut State, now: Option<&'static str>) {
        while state.in_flight < FLUSHES_IN_FLIGHT {
            let Some(batch) = state.full.pop_front() else {
                break;
            };
            self.start(state, batch, "size");
        }
        if state.open.acks.is_empty() {
            return;
        }
        let wait = match state.last_flush {
            Some(at) => self.shared.flush_interval.saturating_sub(at.elapsed()),
            None => Duration::ZERO,
        };
        if now.is_some() || wait.is_zero() {
            // Beyond the limit of flushes in flight the batch waits for one to end, which comes back here.
            if state.in_flight < FLUSHES_IN_FLIGHT {
                let cause = now.unwrap_or(if state.in_flight == 0 { "idle" } else { "interval" });
                let batch = std::mem::take(&mut state.open);
                self.start(state, batch, cause);
            } else if now.is_some() {
                let batch = std::mem::take(&mut state.open);
                state.full.push_back(batch);
            }
        } else if !state.timer {
            state.timer = true;
            let writer = Arc::clone(self);
            self.shared.tasks.spawn(async move {
                // A shutdown flushes at once, so it must not wait for the interval.
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = writer.shared.stopping.cancelled() => {}
                }
                let mut state = writer.state.lock();
                state.timer = false;
                writer.pump(&mut state, None);
            });
        }
    }

    fn start(self: &Arc<Self>, state: &mut State, batch: Batch, cause: &'static str) {
        state.in_flight += 1;
        state.last_flush = Some(Instant::now());
        metrics::counter!(names::INGEST_FLUSHES, "cause" => cause).increment(1);
        let writer = Arc::clone(self);
        self.shared.tasks.spawn(async move {
            let Batch { pushes, acks, began, .. } = batch;
            let result = writer.store(pushes).await;
            if let Some(began) = began {
                metrics::histogram!(names::INGEST_FLUSH_SECONDS).record(began.elapsed().as_secs_f64());
            }
            if let Err(error) = &result {
                metrics::counter!(names::INGEST_FAILED_BATCHES).increment(1);
                tracing::error!(tenant = %writer.tenant, pushes = acks.len(), %error, "could not store a batch; its pushes are not acknowledged");
            }
            for ack in acks {
                // A receiver that is gone is a client that hung up.
                let _ = ack.send(result.clone());
            }
            let mut state = writer.state.lock();
            state.in_flight -= 1;
            writer.pump(&mut state, None);
        });
    }

    /// Encodes a batch, writes its segments and makes them visible.
    async fn store(&self, pushes: Vec<(Vec<StreamEntries>, Reservation)>) -> Result<(), PushError> {
        let shared = Arc::clone(&self.shared);
        let permit = Arc::clone(&shared.cpu)
            .acquire_owned()
            .await
            .map_err(|_| PushError::Stopping)?;
        let encode = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            // Held until the entries are: they slice the requests' buffers.
            let (streams, reservations): (Vec<_>, Vec<_>) = pushes.into_iter().unzip();
            let sorted = batch::sort(streams.into_iter().flatten());
            let segments = batch::encode(&sorted.streams, || shared.ids.next());
            (sorted, segments, reservations)
        });
        let (sorted, segments, _reservations) = encode
            .await
            .map_err(|error| PushError::Internal(format!("the encoder stopped: {error}")))?;
        let segments = segments.map_err(|error| PushError::Internal(error.to_string()))?;
        metrics::counter!(names::INGEST_DUPLICATES).increment(sorted.duplicates as u64);
        let deadline = Instant::now() + self.shared.flush_deadline;
        let writes = segments.into_iter().map(|segment| self.write(segment, deadline));
        let written = futures::future::try_join_all(writes).await?;
        for segment in written {
            self.shared.catalog.backlog().add(segment.bytes);
            self.shared.catalog.insert(Arc::new(segment));
        }
        if self.shared.live.has_subscribers(&self.tenant) {
            self.shared.live.publish(&self.tenant, sorted.streams.into());
        }
        Ok(())
    }

    /// Writes a segment, again and again until it is stored or `deadline` has passed.
    async fn write(&self, segment: Encoded, deadline: Instant) -> Result<crate::catalog::Segment, PushError> {
        let size = segment.bytes.len() as u64;
        let segment_bytes = Bytes::from(segment.bytes);
        let ready = self
            .shared
            .catalog
            .segment(&self.tenant, segment.key, size, segment.footer);
        let mut backoff = FIRST_BACKOFF;
        loop {
            let error: StorageError = match self.shared.storage.put(&ready.path, segment_bytes.clone()).await
            {
                Ok(()) => break,
                Err(error) => error,
            };
            if Instant::now() + backoff >= deadline {
                return Err(PushError::Storage(Arc::new(error)));
            }
            metrics::counter!(names::INGEST_PUT_RETRIES).increment(1);
            tracing::warn!(%error, retry_in_ms = backoff.as_millis() as u64, "a segment write failed");
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(MAX_BACKOFF);
        }
        metrics::counter!(names::INGEST_SEGMENTS).increment(1);
        metrics::counter!(names::INGEST_SEGMENT_BYTES).increment(size);
        Ok(ready)
    }
}
