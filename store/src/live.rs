//! Acknowledged entries, handed to live tails as they arrive. Knows nothing of queries, sockets or other replicas.
//!
//! Every subscription has a queue bounded in bytes. A reader that falls behind misses batches and is told which
//! entries it missed; a push never waits for a reader.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rankline_logql::Labels;
use tokio::sync::Notify;

use crate::entry::{Entry, StreamEntries};
use crate::tenants::TenantId;

/// Bytes a subscription holds before its reader misses batches.
const QUEUE_BYTES: usize = 16 << 20;
/// Bytes of batches that wait to be put in order with those of other replicas.
const HELD_BYTES: usize = 8 << 20;
/// Entries of one gap that are named; beyond it they are only counted.
const MAX_NAMED: usize = 1000;

/// Entries that became visible together.
pub type LiveBatch = Arc<[StreamEntries]>;
/// Which streams a subscription is about.
pub type StreamFilter = Box<dyn Fn(&Labels) -> bool + Send + Sync>;

/// Hands acknowledged batches to the tenant's subscribers.
#[derive(Debug, Default)]
pub struct LiveHub {
    tenants: Mutex<HashMap<TenantId, Followed>>,
}

/// A tenant that someone follows.
#[derive(Debug, Default)]
struct Followed {
    queues: Vec<Weak<Queue>>,
    /// Batches of this replica that wait for those of others; `None`: nothing waits.
    held: Option<Vec<LiveBatch>>,
    held_bytes: usize,
}

/// One tail's view of a tenant's new entries. Dropping it ends the subscription.
#[derive(Debug)]
pub struct LiveSubscription {
    queue: Arc<Queue>,
}

/// What a subscription receives.
#[derive(Debug, Clone)]
pub enum LiveEvent {
    /// Acknowledged entries, in order of acknowledgement. Other streams than the subscription's may be among them.
    Batch(LiveBatch),
    /// The reader was too slow: entries of its streams were left out here.
    Missed {
        /// How many.
        entries: u64,
        /// The first of them: time (ns since the epoch) and stream.
        named: Vec<(i64, Labels)>,
    },
}

/// A tenant has as many subscriptions as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("max concurrent tail requests limit exceeded, count > limit ({} > {limit})", .limit + 1)]
pub struct TooManyTails {
    /// How many there may be.
    pub limit: usize,
}

struct Queue {
    filter: StreamFilter,
    state: Mutex<QueueState>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct QueueState {
    batches: VecDeque<(usize, LiveBatch)>,
    bytes: usize,
    missed: u64,
    named: Vec<(i64, Labels)>,
    closed: bool,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl Queue {
    /// Queues a batch if any of its streams is wanted; a full queue notes what it leaves out.
    fn offer(&self, batch: &LiveBatch, bytes: usize) {
        let mut wanted = batch
            .iter()
            .filter(|stream| (self.filter)(&stream.labels))
            .peekable();
        if wanted.peek().is_none() {
            return;
        }
        let mut state = self.state.lock();
        if state.bytes > 0 && state.bytes + bytes > QUEUE_BYTES || state.missed > 0 {
            for stream in wanted {
                state.missed += stream.entries.len() as u64;
                let room = MAX_NAMED.saturating_sub(state.named.len());
                let entries = stream.entries.iter().take(room);
                state
                    .named
                    .extend(entries.map(|entry| (entry.ts, stream.labels.clone())));
            }
        } else {
            state.bytes += bytes;
            state.batches.push_back((bytes, Arc::clone(batch)));
        }
        drop(state);
        self.wake.notify_one();
    }
}

impl Followed {
    fn live(&mut self) -> Vec<Arc<Queue>> {
        self.queues.retain(|queue| queue.strong_count() > 0);
        self.queues.iter().filter_map(Weak::upgrade).collect()
    }
}

fn memory_bytes(batch: &[StreamEntries]) -> usize {
    let entries = batch.iter().flat_map(|stream| &stream.entries);
    entries.map(Entry::memory_bytes).sum()
}

fn deliver(queues: &[Arc<Queue>], batch: &LiveBatch) {
    let bytes = memory_bytes(batch);
    queues.iter().for_each(|queue| queue.offer(batch, bytes));
}

impl LiveHub {
    /// Follows the tenant's entries of some streams from now on.
    ///
    /// # Errors
    /// The tenant has `limit` subscriptions already.
    pub fn subscribe(
        &self,
        tenant: &TenantId,
        limit: usize,
        filter: StreamFilter,
    ) -> Result<LiveSubscription, TooManyTails> {
        let mut tenants = self.tenants.lock();
        let followed = tenants.entry(tenant.clone()).or_default();
        if followed.live().len() >= limit {
            return Err(TooManyTails { limit });
        }
        let queue = Arc::new(Queue {
            filter,
            state: Mutex::default(),
            wake: Notify::new(),
        });
        followed.queues.push(Arc::downgrade(&queue));
        Ok(LiveSubscription { queue })
    }

    /// Whether anyone follows the tenant; a writer needn't prepare a batch that nobody reads.
    pub fn has_subscribers(&self, tenant: &TenantId) -> bool {
        !self.queues(tenant).is_empty()
    }

    /// Whether anyone follows a stream of the tenant.
    pub fn wants(&self, tenant: &TenantId, labels: &Labels) -> bool {
        self.queues(tenant).iter().any(|queue| (queue.filter)(labels))
    }

    /// Takes a batch that this replica has just acknowledged; never waits.
    pub fn publish(&self, tenant: &TenantId, batch: LiveBatch) {
        let (queues, batches) = {
            let mut tenants = self.tenants.lock();
            let Some(followed) = tenants.get_mut(tenant) else {
                return;
            };
            let batches = match &mut followed.held {
                None => vec![batch],
                Some(held) => {
                    held.push(Arc::clone(&batch));
                    followed.held_bytes += memory_bytes(&batch);
                    if followed.held_bytes <= HELD_BYTES {
                        return;
                    }
                    followed.held_bytes = 0;
                    std::mem::take(held)
                }
            };
            (followed.live(), batches)
        };
        batches.iter().for_each(|batch| deliver(&queues, batch));
    }

    /// Hands a batch to everyone who follows the tenant, before what is held.
    pub fn deliver(&self, tenant: &TenantId, batch: &LiveBatch) {
        deliver(&self.queues(tenant), batch);
    }

    /// From now on batches of this replica wait for the next call of this, or are handed on at once. Gives what has
    /// waited so far.
    pub fn hold(&self, tenant: &TenantId, hold: bool) -> Vec<LiveBatch> {
        let mut tenants = self.tenants.lock();
        let Some(followed) = tenants.get_mut(tenant) else {
            return Vec::new();
        };
        followed.held_bytes = 0;
        let next = hold.then(Vec::new);
        std::mem::replace(&mut followed.held, next).unwrap_or_default()
    }

    /// Ends every subscription once its queue is read: the service is going down.
    pub fn close(&self) {
        let tenants = std::mem::take(&mut *self.tenants.lock());
        for mut followed in tenants.into_values() {
            let queues = followed.live();
            for batch in followed.held.iter().flatten() {
                deliver(&queues, batch);
            }
            for queue in queues {
                queue.state.lock().closed = true;
                queue.wake.notify_one();
            }
        }
    }

    fn queues(&self, tenant: &TenantId) -> Vec<Arc<Queue>> {
        let mut tenants = self.tenants.lock();
        let Some(followed) = tenants.get_mut(tenant) else {
            return Vec::new();
        };
        let queues = followed.live();
        if queues.is_empty() {
            tenants.remove(tenant);
        }
        queues
    }
}

impl LiveSubscription {
    /// The next event; `None` when the service is going down. Cancel-safe.
    pub async fn recv(&mut self) -> Option<LiveEvent> {
        loop {
            {
                let mut state = self.queue.state.lock();
                if let Some((bytes, batch)) = state.batches.pop_front() {
                    state.bytes -= bytes;
                    return Some(LiveEvent::Batch(batch));
                }
                if state.missed > 0 {
                    return Some(LiveEvent::Missed {
                        entries: std::mem::take(&mut state.missed),
                        named: std::mem::take(&mut state.named),
                    });
                }
                if state.closed {
                    return None;
                }
            }
            self.queue.wake.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn batch(app: &str, lines: usize, line_bytes: usize) -> LiveBatch {
        let entry = |ts| Entry {
            ts,
            line: "x".repeat(line_bytes).into(),
            metadata: Vec::new().into(),
        };
        let entries = (0..lines as i64).map(entry).collect();
        vec![StreamEntries {
            labels: Labels::from_pairs([("app", app)]),
            entries,
        }]
        .into()
    }

    fn all() -> StreamFilter {
        Box::new(|_| true)
    }

    async fn lines(tail: &mut LiveSubscription) -> usize {
        match tail.recv().await {
            Some(LiveEvent::Batch(got)) => got.iter().map(|stream| stream.entries.len()).sum(),
            other => panic!("no batch but {other:?}"),
        }
    }

    #[tokio::test]
    async fn a_subscriber_gets_its_tenants_batches_of_its_streams() {
        let hub = LiveHub::default();
        let (acme, globex) = (TenantId::new("acme").unwrap(), TenantId::new("globex").unwrap());
        let only_a: StreamFilter = Box::new(|labels| labels.get("app") == Some("a"));
        let mut tail = hub.subscribe(&acme, 1, only_a).unwrap();
        hub.publish(&globex, batch("a", 1, 1));
        hub.publish(&acme, batch("b", 3, 1));
        hub.publish(&acme, batch("a", 2, 1));
        assert_eq!(lines(&mut tail).await, 2);
        assert!(hub.wants(&acme, &Labels::from_pairs([("app", "a")])));
        assert!(!hub.wants(&acme, &Labels::from_pairs([("app", "b")])));
        drop(tail);
        assert!(!hub.has_subscribers(&acme));
    }

    #[tokio::test]
    async fn a_slow_reader_misses_and_is_told_what_and_others_are_not_touched() {
        let hub = LiveHub::default();
        let tenant = TenantId::default();
        let mut slow = hub.subscribe(&tenant, 9, all()).unwrap();
        let mut quick = hub.subscribe(&tenant, 9, all()).unwrap();
        for _ in 0..3 {
            hub.publish(&tenant, batch("a", 10, 1 << 20));
            assert_eq!(lines(&mut quick).await, 10);
        }
        assert_eq!(lines(&mut slow).await, 10);
        let Some(LiveEvent::Missed { entries: 20, named }) = slow.recv().await else {
            panic!("not told")
        };
        assert_eq!(named.len(), 20);
        assert_eq!(named[1], (1, Labels::from_pairs([("app", "a")])));
        hub.publish(&tenant, batch("a", 1, 1));
        assert_eq!(lines(&mut slow).await, 1);
        hub.close();
        assert!(slow.recv().await.is_none());
    }

    #[test]
    fn a_tenant_has_so_many_tails_and_no_more() {
        let hub = LiveHub::default();
        let tenant = TenantId::default();
        let one = hub.subscribe(&tenant, 2, all()).unwrap();
        let _two = hub.subscribe(&tenant, 2, all()).unwrap();
        let refused = hub.subscribe(&tenant, 2, all()).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "max concurrent tail requests limit exceeded, count > limit (3 > 2)"
        );
        drop(one);
        assert!(hub.subscribe(&tenant, 2, all()).is_ok());
    }

    #[tokio::test]
    async fn held_batches_wait_and_nothing_is_lost_when_they_are_too_many() {
        let hub = LiveHub::default();
        let tenant = TenantId::default();
        let mut tail = hub.subscribe(&tenant, 1, all()).unwrap();
        assert!(hub.hold(&tenant, true).is_empty());
        hub.publish(&tenant, batch("a", 1, 1));
        hub.deliver(&tenant, &batch("b", 7, 1));
        assert_eq!(lines(&mut tail).await, 7, "what is held comes later");
        let held = hub.hold(&tenant, true);
        assert_eq!(held.len(), 1);
        hub.publish(&tenant, batch("a", 2, 1));
        hub.publish(&tenant, batch("a", 3, HELD_BYTES / 3));
        assert_eq!((lines(&mut tail).await, lines(&mut tail).await), (2, 3));
        hub.publish(&tenant, batch("a", 4, 1));
        hub.close();
        assert_eq!(lines(&mut tail).await, 4);
        assert!(tail.recv().await.is_none());
    }
}
