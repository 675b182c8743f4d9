//! The CPU pool that scans blocks. Async code hands work over and waits; it never computes itself.

use super::QueryError;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::sync::oneshot;

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
        let (sender, receiver) = oneshot::channel();
        self.pool.spawn_fifo(move || {
            if !sender.is_closed() {
                let _ = sender.send(work());
            }
        });
        receiver.await.map_err(|_| QueryError::Worker)?
    }

    /// Runs `work` on each of the items, started in their order, on as many threads as there are. A thread takes `at_once` of them,
    /// then work that others asked for meanwhile gets its turn. The first failure ends it, and a caller who has gone away does.
    ///
    /// One handover for each thread: passing every item from async code would cost more than looking at a small block.
    pub(super) async fn run_all<I, F>(&self, items: Vec<I>, at_once: usize, work: F) -> Result<(), QueryError>
    where
        I: Send + 'static,
        F: Fn(I) -> Result<(), QueryError> + Send + Sync + 'static,
    {
        if items.is_empty() {
            return Ok(());
        }
        let at_once = at_once.max(1);
        let threads = self.threads().min(items.len().div_ceil(at_once));
        let (sender, receiver) = oneshot::channel();
        let round = Arc::new(Round {
            items: Mutex::new(items.into_iter()),
            at_once,
            work,
            threads: AtomicUsize::new(threads),
            caller: Mutex::new(Some(sender)),
        });
        for _ in 0..threads {
            let round = Arc::clone(&round);
            self.pool.spawn_fifo(move || round.turn());
        }
        receiver.await.map_err(|_| QueryError::Worker)?
    }
}

/// Items that several threads work on.
struct Round<I, F> {
    items: Mutex<std::vec::IntoIter<I>>,
    at_once: usize,
    work: F,
    /// Those that are still at it.
    threads: AtomicUsize,
    /// Who waits for the last of them, or the first failure.
    caller: Mutex<Option<oneshot::Sender<Result<(), QueryError>>>>,
}

impl<I, F> Round<I, F>
where
    I: Send + 'static,
    F: Fn(I) -> Result<(), QueryError> + Send + Sync + 'static,
{
    /// Works on some items, then gets in line for more.
    fn turn(self: Arc<Self>) {
        for _ in 0..self.at_once {
            let Some(item) = self.items.lock().next().filter(|_| self.is_awaited()) else {
                return self.end();
            };
            if let Err(why) = (self.work)(item) {
                return self.tell(Err(why));
            }
        }
        rayon::spawn_fifo(move || self.turn());
    }

    fn is_awaited(&self) -> bool {
        let caller = self.caller.lock();
        caller.as_ref().is_some_and(|caller| !caller.is_closed())
    }

    /// A thread finds nothing left to do.
    fn end(&self) {
        if self.threads.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.tell(Ok(()));
        }
    }

    fn tell(&self, outcome: Result<(), QueryError>) {
        if let Some(caller) = self.caller.lock().take() {
            let _ = caller.send(outcome);
        }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn every_item_is_worked_on_whatever_their_number() {
        let workers = Workers::new(3).unwrap();
        for (count, at_once) in [(0, 1), (1, 8), (2, 1), (7, 3), (100, 0), (100, 8)] {
            let seen = Arc::new(Mutex::new(Vec::new()));
            let work = {
                let seen = Arc::clone(&seen);
                move |item: usize| {
                    seen.lock().push(item);
                    Ok(())
                }
            };
            workers
                .run_all((0..count).collect(), at_once, work)
                .await
                .unwrap();
            let mut seen = seen.lock().clone();
            seen.sort_unstable();
            assert_eq!(seen, (0..count).collect::<Vec<_>>(), "{count} {at_once}");
        }
    }

    #[tokio::test]
    async fn the_first_failure_ends_it() {
        let workers = Workers::new(1).unwrap();
        let seen = Arc::new(AtomicUsize::new(0));
        let work = {
            let seen = Arc::clone(&seen);
            move |item: usize| match seen.fetch_max(item, Ordering::Relaxed) {
                9 => Err(QueryError::Timeout),
                _ => Ok(()),
            }
        };
        let outcome = workers.run_all((0..100).collect(), 4, work).await;
        assert!(matches!(outcome, Err(QueryError::Timeout)), "{outcome:?}");
        assert_eq!(seen.load(Ordering::Relaxed), 10);
    }

    #[tokio::test]
    async fn nothing_is_begun_for_a_caller_who_has_gone() {
        let workers = Workers::new(1).unwrap();
        let (begun, started) = std::sync::mpsc::sync_channel(16);
        let (go, wait) = std::sync::mpsc::sync_channel::<()>(1);
        let wait = Mutex::new(wait);
        let seen = Arc::new(AtomicUsize::new(0));
        let work = {
            let seen = Arc::clone(&seen);
            move |_: usize| {
                seen.fetch_add(1, Ordering::Relaxed);
                begun.send(()).unwrap();
                let _ = wait.lock().recv();
                Ok(())
            }
        };
        let own = workers.clone();
        let asked = tokio::spawn(async move { own.run_all((0..10).collect(), 2, work).await });
        tokio::task::spawn_blocking(move || started.recv().unwrap())
            .await
            .unwrap();
        asked.abort();
        assert!(asked.await.unwrap_err().is_cancelled());
        drop(go);
        // Comes behind all that is still to be done.
        workers.run(|| Ok(())).await.unwrap();
        workers.run(|| Ok(())).await.unwrap();
        assert_eq!(seen.load(Ordering::Relaxed), 1);
    }
}
