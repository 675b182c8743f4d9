//! Acknowledged entries, handed to live tails as they arrive. Knows nothing of queries or sockets.
//!
//! Every subscription has a queue bounded in bytes. A reader that falls behind misses batches and is told how many
//! entries it missed; a push never waits for a reader.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::entry::{Entry, StreamEntries};
use crate::tenants::TenantId;

/// Bytes a subscription holds before its reader misses batches.
const QUEUE_BYTES: usize = 16 << 20;

/// Hands every acknowledged batch to the tenant's subscribers.
#[derive(Debug, Default)]
pub struct LiveHub {
    tenants: Mutex<HashMap<TenantId, Vec<Weak<Queue>>>>,
}

/// One tail's view of a tenant's new entries. Dropping it ends the subscription.
#[derive(Debug)]
pub struct LiveSubscription {
    queue: Arc<Queue>,
}

/// What a subscription receives.
#[derive(Debug, Clone)]
pub enum LiveEvent {
    /// Acknowledged entries, in order of acknowledgement.
    Batch(Arc<[StreamEntries]>),
    /// The reader was too slow: so many entries were left out here.
    Missed {
        /// How many.
        entries: u64,
    },
}

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<QueueState>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct QueueState {
    batches: VecDeque<(usize, Arc<[StreamEntries]>)>,
    bytes: usize,
    missed: u64,
    closed: bool,
}

impl LiveHub {
    /// Follows the tenant's entries from now on.
    pub fn subscribe(&self, tenant: &TenantId) -> LiveSubscription {
        let queue = Arc::new(Queue::default());
        self.tenants
            .lock()
            .entry(tenant.clone())
            .or_default()
            .push(Arc::downgrade(&queue));
        LiveSubscription { queue }
    }

    /// Whether anyone follows the tenant; a writer needn't prepare a batch that nobody reads.
    pub fn has_subscribers(&self, tenant: &TenantId) -> bool {
        let mut tenants = self.tenants.lock();
        let Some(queues) = tenants.get_mut(tenant) else {
            return false;
        };
        queues.retain(|queue| queue.strong_count() > 0);
        if queues.is_empty() {
            tenants.remove(tenant);
            return false;
        }
        true
    }

    /// Hands a batch to everyone who follows the tenant; never waits.
    pub fn publish(&self, tenant: &TenantId, batch: Arc<[StreamEntries]>) {
        let queues: Vec<Arc<Queue>> = match self.tenants.lock().get(tenant) {
            Some(queues) => queues.iter().filter_map(Weak::upgrade).collect(),
            None => return,
        };
        let entries = || batch.iter().flat_map(|stream| &stream.entries);
        let bytes: usize = entries().map(Entry::memory_bytes).sum();
        for queue in queues {
            let mut state = queue.state.lock();
            if state.bytes > 0 && state.bytes + bytes > QUEUE_BYTES || state.missed > 0 {
                state.missed += entries().count() as u64;
            } else {
                state.bytes += bytes;
                state.batches.push_back((bytes, Arc::clone(&batch)));
            }
            drop(state);
            queue.wake.notify_one();
        }
    }

    /// Ends every subscription once its queue is read: the service is going down.
    pub fn close(&self) {
        let tenants = std::mem::take(&mut *self.tenants.lock());
        for queue in tenants
            .into_values()
            .flatten()
            .filter_map(|queue| queue.upgrade())
        {
            queue.state.lock().closed = true;
            queue.wake.notify_one();
        }
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
    use rankline_logql::Labels;

    fn batch(lines: usize, line_bytes: usize) -> Arc<[StreamEntries]> {
        let entry = |ts| Entry {
            ts,
            line: "x".repeat(line_bytes).into(),
            metadata: Vec::new(),
        };
        let entries = (0..lines as i64).map(entry).collect();
        vec![StreamEntries {
            labels: Labels::from_pairs([("a", "b")]),
            entries,
        }]
        .into()
    }

    #[tokio::test]
    async fn a_subscriber_gets_its_tenants_batches() {
        let hub = LiveHub::default();
        let (acme, globex) = (TenantId::new("acme").unwrap(), TenantId::new("globex").unwrap());
        let mut tail = hub.subscribe(&acme);
        hub.publish(&globex, batch(1, 1));
        hub.publish(&acme, batch(2, 1));
        let Some(LiveEvent::Batch(got)) = tail.recv().await else {
            panic!("no batch")
        };
        assert_eq!(got[0].entries.len(), 2);
        drop(tail);
        assert!(!hub.has_subscribers(&acme));
    }

    #[tokio::test]
    async fn a_slow_reader_misses_and_is_told() {
        let hub = LiveHub::default();
        let tenant = TenantId::default();
        let mut tail = hub.subscribe(&tenant);
        for _ in 0..3 {
            hub.publish(&tenant, batch(10, 1 << 20));
        }
        assert!(matches!(tail.recv().await, Some(LiveEvent::Batch(_))));
        assert!(matches!(
            tail.recv().await,
            Some(LiveEvent::Missed { entries: 20 })
        ));
        hub.publish(&tenant, batch(1, 1));
        assert!(matches!(tail.recv().await, Some(LiveEvent::Batch(_))));
        hub.close();
        assert!(tail.recv().await.is_none());
    }
}
