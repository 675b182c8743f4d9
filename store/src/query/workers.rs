//! The CPU pool that scans blocks. Async code hands work over and waits; it never computes itself.

use super::QueryError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A fixed number of threads, shared by all queries, first come first served.
#[derive(Debug, Clone)]
pub(super) struct Workers {
    pool: Arc<rayon::ThreadPool>,
}

impl Workers {
    /// `threads`: 0 means one for each core.
    pub(super) fn new(threads: usize) -> Result<Self, rayon::ThreadPoolBuildError> {
        let builder = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|n| format!("query-{n}"));
        Ok(Self {
            pool: Arc::new(builder.build()?),
        })
    }

    pub(super) fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Runs `work` on the pool. Work whose caller has gone away before it starts is dropped.
    pub(super) async fn run<T, F>(&self, work: F) -> Result<T, QueryError>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, QueryError> + Send + 'static,
    {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.pool.spawn_fifo(move || {
            if !sender.is_closed() {
                let _ = sender.send(work());
            }
        });
        receiver.await.map_err(|_| QueryError::Worker)?
    }
}

/// Tells the scans of a query that nobody waits for them; set when the query's future is dropped.
#[derive(Clone, Default)]
pub(super) struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// # Errors
    /// [`QueryError::Cancelled`] once the query was given up.
    pub(super) fn check(&self) -> Result<(), QueryError> {
        if self.0.load(Ordering::Relaxed) {
            Err(QueryError::Cancelled)
        } else {
            Ok(())
        }
    }

    pub(super) fn guard(&self) -> CancelGuard {
        CancelGuard(self.clone())
    }
}

/// Sets its [`Cancel`] when it is dropped.
pub(super) struct CancelGuard(Cancel);

impl Drop for CancelGuard {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}
