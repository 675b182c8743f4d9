//! How much memory queries may use: all blocks on their way together, and what one query keeps.

use super::QueryError;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

const UNIT: u64 = 1024;

/// Bytes that blocks of all queries may take while they are fetched and scanned. A block waits for its share.
#[derive(Debug, Clone)]
pub(super) struct BlockMemory {
    free: Arc<Semaphore>,
    units: u32,
}

impl BlockMemory {
    pub(super) fn new(bytes: usize) -> Self {
        let units = u32::try_from(bytes as u64 / UNIT).unwrap_or(u32::MAX >> 4).max(1);
        Self {
            free: Arc::new(Semaphore::new(units as usize)),
            units,
        }
    }

    /// Waits until `bytes` are free; more than there are at all counts as all. Given back when the answer is dropped.
    pub(super) async fn take(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes / UNIT + 1)
            .unwrap_or(u32::MAX)
            .min(self.units);
        Arc::clone(&self.free).acquire_many_owned(units).await.ok()
    }
}

/// What one query keeps until it answers.
pub(super) struct Budget {
    used: AtomicUsize,
    limit: usize,
}

impl Budget {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            used: AtomicUsize::new(0),
            limit,
        }
    }

    /// # Errors
    /// [`QueryError::Memory`] when the query now keeps more than it may.
    pub(super) fn grow(&self, bytes: usize) -> Result<(), QueryError> {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.limit {
            Err(QueryError::Memory { limit: self.limit })
        } else {
            Ok(())
        }
    }

    pub(super) fn shrink(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}
