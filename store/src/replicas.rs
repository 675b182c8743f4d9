//! Entries that other replicas acknowledged, brought to this replica's live tails. Knows nothing of sockets.
//!
//! Replicas know only the store, so that is where they meet: while a tenant is tailed here, the store is asked every
//! `TICK` which segments were flushed since, and those of other processes are read and handed to the tails.
//! Segments that were there before, and those that compaction wrote, are no news.
//!
//! Order: a client whose pushes go to several replicas in turn sends a line after the one before was acknowledged. So
//! that its tail shows them in that order, this replica's own batches wait for the next tick while others write too:
//! all that was acknowledged before a tick is handed on together, sorted by time by whoever reads it. Alone, a replica
//! hands its batches on at once; the first lines of one that has just joined may come out of turn.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use futures::StreamExt;
use parking_lot::Mutex;
use ulid::Ulid;

use crate::catalog::{CatalogError, SegmentKey};
use crate::clock::now_ns;
use crate::entry::StreamEntries;
use crate::ingest::ids::Process;
use crate::live::{LiveBatch, LiveHub};
use crate::metrics as names;
use crate::query::{Engine, QueryError};
use crate::tenants::TenantId;

/// Time between two looks into the store.
const TICK: Duration = Duration::from_millis(300);
/// Every look goes over entries of this age or younger...
const RECENT_NS: i64 = 120_000_000_000;
/// ... up to those that are so far in the future.
const AHEAD_NS: i64 = 600_000_000_000;
/// Looks over all times are so much rarer than they take, so that a store with very many segments isn't always listed.
const REST_FACTOR: u32 = 10;
/// How long after the last news from another replica own batches still wait for a tick.
const SHARED_FOR: Duration = Duration::from_secs(600);
/// Segments read at once.
const READS_AT_ONCE: usize = 8;
/// Bytes of segments that are read for one batch.
const BATCH_OBJECT_BYTES: u64 = 4 << 20;
/// Ticks at which a segment that can't be read is tried before it is given up.
const MAX_TRIES: u32 = 100;
/// Longest wait for the store in one tick: own batches may be waiting, too.
const PATIENCE: Duration = Duration::from_secs(5);

/// Follows other replicas for tenants that are tailed.
#[derive(Debug)]
pub struct Replicas {
    parts: Parts,
    tenants: Mutex<HashMap<TenantId, Weak<Following>>>,
}

#[derive(Debug, Clone)]
struct Parts {
    process: Process,
    engine: Arc<Engine>,
    live: Arc<LiveHub>,
}

/// Keeps a tenant followed for as long as it lives.
#[derive(Debug)]
pub struct Following {
    ready: tokio::sync::OnceCell<()>,
}

impl Parts {
    /// Whether another process wrote one of the segments lately.
    fn others_wrote(&self, segments: &[(SegmentKey, u64)]) -> bool {
        let now = SystemTime::now();
        let lately = |id: Ulid| now.duration_since(id.datetime()).unwrap_or_default() < SHARED_FOR;
        let mut ids = segments.iter().map(|(key, _)| key.id);
        ids.any(|id| Process::of(id) != self.process && lately(id))
    }
}

impl Replicas {
    /// Follows nobody yet. `process` marks the segments of this replica.
    #[must_use]
    pub fn new(process: Process, engine: Arc<Engine>, live: Arc<LiveHub>) -> Self {
        Self {
            parts: Parts {
                process,
                engine,
                live,
            },
            tenants: Mutex::default(),
        }
    }

    /// From its return on, entries that other replicas acknowledge reach the tenant's subscribers, while the guard
    /// lives. Whoever subscribed before and reads the store afterwards misses nothing.
    ///
    /// # Errors
    /// The store can't be listed.
    pub async fn follow(&self, tenant: &TenantId) -> Result<Arc<Following>, CatalogError> {
        let following = {
            let mut tenants = self.tenants.lock();
            tenants.retain(|_, following| following.strong_count() > 0);
            let running = tenants.get(tenant).and_then(Weak::upgrade);
            running.unwrap_or_else(|| {
                let new = Arc::new(Following {
                    ready: tokio::sync::OnceCell::new(),
                });
                tenants.insert(tenant.clone(), Arc::downgrade(&new));
                new
            })
        };
        let start = || async {
            let known = self.parts.engine.catalog().flushed(tenant).await?;
            let shared = self.parts.others_wrote(&known);
            self.parts.live.hold(tenant, shared);
            let follower = Follower {
                parts: self.parts.clone(),
                tenant: tenant.clone(),
                seen: known.iter().map(|(key, _)| key.id).collect(),
                deferred: HashSet::new(),
                failures: HashMap::new(),
                looked: Instant::now(),
                rest: TICK,
                last_news: shared.then(Instant::now),
            };
            tokio::spawn(follower.run(Arc::downgrade(&following)));
            Ok::<(), CatalogError>(())
        };
        following.ready.get_or_try_init(start).await?;
        // What another tail's follower handed on before this subscription has to be in the listing it reads next.
        self.parts.engine.catalog().refresh(tenant);
        Ok(following)
    }
}

/// Looks for one tenant's news.
struct Follower {
    parts: Parts,
    tenant: TenantId,
    /// Flushed segments that are handed on, or were there before.
    seen: HashSet<Ulid>,
    /// Segments that were too young for the tick that saw them first.
    deferred: HashSet<Ulid>,
    failures: HashMap<Ulid, u32>,
    /// When the last look over all times began, and how long to wait for the next.
    looked: Instant,
    rest: Duration,
    last_news: Option<Instant>,
}

impl Follower {
    async fn run(mut self, guard: Weak<Following>) {
        loop {
            tokio::time::sleep(TICK).await;
            // Whoever follows next begins with a listing of its own: news would come twice.
            if guard.strong_count() == 0 {
                break;
            }
            self.tick().await;
        }
        for batch in self.parts.live.hold(&self.tenant, false) {
            self.parts.live.deliver(&self.tenant, &batch);
        }
    }

    async fn tick(&mut self) {
        let shared = self.last_news.is_some_and(|at| at.elapsed() < SHARED_FOR);
        let now = now_ns();
        let mut own = self.parts.live.hold(&self.tenant, shared);
        let news = match tokio::time::timeout(PATIENCE, self.news(now)).await {
            Ok(Ok(news)) => news,
            Ok(Err(error)) => self.late(&error),
            Err(_) => self.late(&"the store does not answer"),
        };
        if !news.is_empty() {
            self.last_news = Some(Instant::now());
        }
        for group in groups(&news) {
            let read: Vec<_> = futures::stream::iter(group.to_vec())
                .map(|(key, bytes)| self.read(key, bytes))
                .buffered(READS_AT_ONCE)
                .collect()
                .await;
            let mut streams: Vec<StreamEntries> = own.drain(..).flat_map(|batch| batch.to_vec()).collect();
            for (entries, (key, _)) in read.into_iter().zip(group) {
                streams.extend(self.taken(key.id, entries));
            }
            let batch: LiveBatch = streams.into();
            self.parts.live.deliver(&self.tenant, &batch);
        }
        for batch in own {
            self.parts.live.deliver(&self.tenant, &batch);
        }
    }

    /// Notes that the store could not be listed.
    fn late(&self, error: &dyn std::fmt::Display) -> Vec<(SegmentKey, u64)> {
        metrics::counter!(names::TAIL_REPLICA_FAILURES, "reason" => "list").increment(1);
        tracing::warn!(tenant = %self.tenant, %error, "could not look for entries of other replicas; tails get them late");
        Vec::new()
    }

    /// Flushed segments of other processes that weren't there before, in the order they were written.
    async fn news(&mut self, now: i64) -> Result<Vec<(SegmentKey, u64)>, CatalogError> {
        let (catalog, tenant) = (self.parts.engine.catalog(), &self.tenant);
        let mut found = if self.looked.elapsed() >= self.rest {
            self.looked = Instant::now();
            let found = catalog.flushed(tenant).await?;
            self.rest = TICK.max(self.looked.elapsed() * REST_FACTOR);
            let there: HashSet<Ulid> = found.iter().map(|(key, _)| key.id).collect();
            self.seen.retain(|id| there.contains(id));
            self.failures.retain(|id, _| there.contains(id));
            found
        } else {
            let since = now.saturating_sub(RECENT_NS).max(0);
            catalog
                .flushed_since(tenant, since, now.saturating_add(AHEAD_NS))
                .await?
        };
        found.retain(|(key, _)| Process::of(key.id) != self.parts.process && !self.seen.contains(&key.id));
        found.sort_by_key(|(key, _)| key.id);
        // What was written after this tick began waits for the next, once: own batches of that time do, too.
        let now_ms = u64::try_from(now / 1_000_000).unwrap_or(0);
        let deferred = std::mem::take(&mut self.deferred);
        found.retain(|(key, _)| {
            let young = key.id.timestamp_ms() > now_ms && !deferred.contains(&key.id);
            if young {
                self.deferred.insert(key.id);
            }
            !young
        });
        Ok(found)
    }

    /// The entries of a segment that anyone here wants.
    async fn read(&self, key: SegmentKey, bytes: u64) -> Result<Vec<StreamEntries>, QueryError> {
        let segment = self.parts.engine.catalog().open(&self.tenant, key, bytes).await?;
        let wanted = |labels: &_| self.parts.live.wants(&self.tenant, labels);
        if !segment.footer.replaces.is_empty() || !segment.streams.iter().any(|s| wanted(&s.labels)) {
            return Ok(Vec::new());
        }
        let reading = self.parts.engine.read_segment(segment);
        tokio::time::timeout(PATIENCE, reading)
            .await
            .unwrap_or(Err(QueryError::Timeout))
    }

    /// Notes what became of a segment. One that can't be read is tried again at the next ticks.
    fn taken(&mut self, id: Ulid, entries: Result<Vec<StreamEntries>, QueryError>) -> Vec<StreamEntries> {
        let error = match entries {
            Ok(entries) => {
                self.seen.insert(id);
                return entries;
            }
            Err(error) => error,
        };
        let tries = self.failures.entry(id).or_default();
        *tries += 1;
        if *tries >= MAX_TRIES {
            self.seen.insert(id);
        }
        metrics::counter!(names::TAIL_REPLICA_FAILURES, "reason" => "read").increment(1);
        tracing::warn!(tenant = %self.tenant, segment = %id, %error, tries = *tries, "could not read another replica's entries for tails");
        Vec::new()
    }
}

/// Cuts segments into runs whose objects together are not much larger than [`BATCH_OBJECT_BYTES`].
fn groups(news: &[(SegmentKey, u64)]) -> impl Iterator<Item = &[(SegmentKey, u64)]> {
    let mut rest = news;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |(_, size): &(SegmentKey, u64)| {
            let fits = bytes < BATCH_OBJECT_BYTES;
            bytes += size;
            fits
        };
        let (group, later) = rest.split_at(rest.iter().copied().take_while(fits).count());
        rest = later;
        (!group.is_empty()).then_some(group)
    })
}

#[cfg(test)]
mod tests;
