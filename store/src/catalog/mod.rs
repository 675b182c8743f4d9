//! Which segments exist: listings of the object store, parsed footers, interned streams. Knows nothing of queries
//! or pushes.
//!
//! The object store is the only truth: a listing at most [`CatalogOptions::refresh`] old, plus what this replica
//! wrote since. Nothing here is ever written anywhere.

mod activity;
mod intern;
mod key;
mod listing;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use parking_lot::Mutex;
use rankline_segment::{SegmentError, SegmentFooter, TAIL_READ_BYTES, locate_footer};
use ulid::Ulid;

pub use activity::{Backlog, Reading};
pub use intern::Stream;
pub use key::{DAY_NS, Day, MAX_LEVEL, SegmentKey, day_folder, level_folder};

use crate::metrics as names;
use crate::storage::{Storage, StorageError};
use crate::tenants::TenantId;
use activity::Reads;
use intern::Interner;
use listing::{Known, TenantListing};

/// Footers read at once for one question.
const FOOTER_READS_AT_ONCE: usize = 32;
/// Footers larger than this are parsed off the async threads.
const PARSE_ELSEWHERE_BYTES: usize = 256 << 10;
/// Tenants whose listings are kept; beyond it, tenants without segments are forgotten.
const MAX_IDLE_TENANTS: usize = 1024;

/// What the catalog may use.
#[derive(Debug, Clone)]
pub struct CatalogOptions {
    /// How old a listing may be.
    pub refresh: Duration,
    /// Approximate memory for footers.
    pub cache_bytes: u64,
}

/// A segment object with its parsed footer.
#[derive(Debug)]
pub struct Segment {
    /// Whose it is.
    pub tenant: TenantId,
    /// What its key says.
    pub key: SegmentKey,
    /// The object.
    pub path: Path,
    /// The object's size.
    pub bytes: u64,
    /// Streams, blocks and columns.
    pub footer: Arc<SegmentFooter>,
    /// The streams, with the same index as `footer.streams`.
    pub streams: Vec<Arc<Stream>>,
}

impl Segment {
    /// Approximate memory of the footer and its tables.
    fn memory_bytes(&self) -> u32 {
        // Labels are shared by the segments that have the stream; a quarter of them is on the safe side.
        let stream = |s: &rankline_segment::StreamMeta| {
            size_of::<rankline_segment::StreamMeta>() + s.labels.heap_bytes() / 4
        };
        let streams: usize = self.footer.streams.iter().map(stream).sum();
        let blocks: usize = self
            .footer
            .blocks
            .iter()
            .map(|block| 96 + block.columns.len() * 72)
            .sum();
        u32::try_from(512 + streams + blocks + self.streams.len() * 8).unwrap_or(u32::MAX)
    }
}

/// Why the catalog can't answer.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The object store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// An object that should be a segment isn't a sound one.
    #[error(
        "segment {path} can't be read: {source}; restore it from a copy, or move it away to go on without it"
    )]
    Corrupt {
        /// The object.
        path: String,
        /// What is wrong with it.
        source: SegmentError,
    },
    /// A worker was stopped: the service is going down.
    #[error("the service is shutting down")]
    Stopped,
}

/// Knows every tenant's segments.
#[derive(Debug)]
pub struct Catalog {
    storage: Storage,
    options: CatalogOptions,
    interner: Interner,
    tenants: Mutex<HashMap<TenantId, Arc<TenantListing>>>,
    /// Parsed segments by id; ids are unique over all tenants and levels.
    segments: moka::sync::Cache<Ulid, Arc<Segment>>,
    reads: Reads,
    backlog: Backlog,
}

impl Catalog {
    /// A catalog over a store; reads nothing yet.
    #[must_use]
    pub fn new(storage: Storage, options: CatalogOptions) -> Self {
        let segments = moka::sync::Cache::builder()
            .max_capacity(options.cache_bytes)
            .weigher(|_: &Ulid, segment: &Arc<Segment>| segment.memory_bytes())
            .build();
        Self {
            storage,
            options,
            interner: Interner::default(),
            tenants: Mutex::default(),
            segments,
            reads: Reads::default(),
            backlog: Backlog::default(),
        }
    }

    /// Marks a read of segments as under way: while it is, this replica deletes none that was live when it began.
    #[must_use]
    pub fn reading(&self) -> Reading<'_> {
        self.reads.begin()
    }

    /// How long the oldest read has been under way.
    #[must_use]
    pub fn longest_read(&self) -> Option<Duration> {
        self.reads.longest()
    }

    /// What this replica flushed since compaction last looked.
    #[must_use]
    pub fn backlog(&self) -> &Backlog {
        &self.backlog
    }

    /// How old a listing may be.
    #[must_use]
    pub fn refresh_interval(&self) -> Duration {
        self.options.refresh
    }

    /// Live segments (replaced ones left out) of the days that touch `[start, end)` and whose own time range does,
    /// footers loaded, by id ascending. The listing is at most [`CatalogOptions::refresh`] old.
    ///
    /// A segment may be deleted by a compaction while a query reads it: on
    /// [`StorageError::is_not_found`] call [`Catalog::refresh`] and ask again.
    ///
    /// # Errors
    /// The store failed, or a segment that is needed isn't sound.
    pub async fn segments(
        &self,
        tenant: &TenantId,
        start: i64,
        end: i64,
    ) -> Result<Vec<Arc<Segment>>, CatalogError> {
        if start >= end {
            return Ok(Vec::new());
        }
        // A compaction may delete a segment between listing and reading its footer; the next listing knows better.
        for _ in 0..3 {
            match self.try_segments(tenant, start, end).await {
                Err(CatalogError::Storage(error)) if error.is_not_found() => self.refresh(tenant),
                other => return other,
            }
        }
        self.try_segments(tenant, start, end).await
    }

    async fn try_segments(
        &self,
        tenant: &TenantId,
        start: i64,
        end: i64,
    ) -> Result<Vec<Arc<Segment>>, CatalogError> {
        let listing = self.listing(tenant);
        let known = listing
            .known(&self.storage, self.options.refresh, start, end)
            .await?;
        let (merged, flushed): (Vec<Known>, Vec<Known>) =
            known.into_iter().partition(|known| known.key.level > 0);
        let mut segments = self.load(tenant, merged).await?;
        let replaced: HashSet<Ulid> = segments
            .iter()
            .flat_map(|s| s.footer.replaces.iter().copied())
            .collect();
        let wanted = flushed
            .into_iter()
            .filter(|known| !replaced.contains(&known.key.id))
            .collect();
        segments.extend(self.load(tenant, wanted).await?);
        segments.retain(|segment| !replaced.contains(&segment.key.id));
        segments.sort_by_key(|segment| segment.key.id);
        Ok(segments)
    }

    /// Segments as flushed (level 0) that are in the store at this moment, of all days.
    ///
    /// # Errors
    /// The store failed.
    pub async fn flushed(&self, tenant: &TenantId) -> Result<Vec<(SegmentKey, u64)>, CatalogError> {
        let folder = key::level_folder(&self.storage.tenant_root(tenant), 0);
        Ok(keys_of(self.storage.list(&folder).await?))
    }

    /// As [`Catalog::flushed`], of those alone whose first entry is in the UTC days `since..=until` (ns since the
    /// epoch, not before it) and not before `since`: on a bucket as good as free, however many segments there are.
    ///
    /// # Errors
    /// The store failed.
    pub async fn flushed_since(
        &self,
        tenant: &TenantId,
        since: i64,
        until: i64,
    ) -> Result<Vec<(SegmentKey, u64)>, CatalogError> {
        let root = self.storage.tenant_root(tenant);
        let (mut day, last) = (Day::of(since), Day::of(until));
        let mut found = Vec::new();
        while day <= last {
            let after = key::from_time(&root, 0, since.max(day.start_ns()));
            let folder = key::day_folder(&root, 0, day);
            found.extend(keys_of(self.storage.list_after(&folder, &after).await?));
            day = day.next();
        }
        Ok(found)
    }

    /// One segment of a listing, from memory or the store. Live or replaced: the caller knows.
    ///
    /// # Errors
    /// The store failed, or the segment isn't sound.
    pub async fn open(
        &self,
        tenant: &TenantId,
        key: SegmentKey,
        bytes: u64,
    ) -> Result<Arc<Segment>, CatalogError> {
        match self.segments.get(&key.id) {
            Some(segment) => Ok(segment),
            None => self.read(tenant, Known { key, bytes }).await,
        }
    }

    /// What this replica wrote itself is visible at once.
    pub fn insert(&self, segment: Arc<Segment>) {
        self.listing(&segment.tenant).insert(Known {
            key: segment.key,
            bytes: segment.bytes,
        });
        self.segments.insert(segment.key.id, segment);
    }

    /// Makes a [`Segment`] of what was just written, ready for [`Catalog::insert`].
    #[must_use]
    pub fn segment(
        &self,
        tenant: &TenantId,
        key: SegmentKey,
        bytes: u64,
        mut footer: SegmentFooter,
    ) -> Segment {
        let streams = self.interner.intern(&mut footer.streams);
        let path = key.path(&self.storage.tenant_root(tenant));
        Segment {
            tenant: tenant.clone(),
            key,
            path,
            bytes,
            footer: Arc::new(footer),
            streams,
        }
    }

    /// Forgets a segment that was deleted.
    pub fn remove(&self, tenant: &TenantId, key: &SegmentKey) {
        self.listing(tenant).remove(key);
        self.segments.invalidate(&key.id);
    }

    /// Makes the next question list the store again.
    pub fn refresh(&self, tenant: &TenantId) {
        self.listing(tenant).expire();
    }

    /// Tenants that have segments, ascending.
    ///
    /// # Errors
    /// The store failed.
    pub async fn tenants(&self) -> Result<Vec<TenantId>, CatalogError> {
        let mut tenants = Vec::new();
        for folder in self.storage.list_folders(self.storage.root()).await? {
            let Some(name) = folder.filename().map(percent_decode) else {
                continue;
            };
            let Ok(tenant) = TenantId::new(&name) else {
                continue;
            };
            // Leases stand beside the tenants, and a tenant may have that name, too.
            if name == "leases" {
                let inner = self.storage.list_folders(&folder).await?;
                if !inner.iter().any(|path| path.filename() == Some("segments")) {
                    continue;
                }
            }
            tenants.push(tenant);
        }
        tenants.sort();
        Ok(tenants)
    }

    fn listing(&self, tenant: &TenantId) -> Arc<TenantListing> {
        let mut tenants = self.tenants.lock();
        if let Some(listing) = tenants.get(tenant) {
            return Arc::clone(listing);
        }
        if tenants.len() >= MAX_IDLE_TENANTS {
            tenants.retain(|_, listing| !listing.is_empty());
        }
        let listing = Arc::new(TenantListing::new(self.storage.tenant_root(tenant)));
        tenants.insert(tenant.clone(), Arc::clone(&listing));
        listing
    }

    async fn load(&self, tenant: &TenantId, known: Vec<Known>) -> Result<Vec<Arc<Segment>>, CatalogError> {
        futures::stream::iter(known)
            .map(|known| async move {
                match self.segments.get(&known.key.id) {
                    Some(segment) => Ok(segment),
                    None => self.read(tenant, known).await,
                }
            })
            .buffer_unordered(FOOTER_READS_AT_ONCE)
            .try_collect()
            .await
    }

    /// Reads a segment's footer: one request for the tail, a second one when the footer is larger.
    async fn read(&self, tenant: &TenantId, known: Known) -> Result<Arc<Segment>, CatalogError> {
        let path = known.key.path(&self.storage.tenant_root(tenant));
        let corrupt = |source| {
            metrics::counter!(names::CATALOG_UNUSABLE, "reason" => "footer").increment(1);
            CatalogError::Corrupt {
                path: path.to_string(),
                source,
            }
        };
        let tail_start = known.bytes.saturating_sub(TAIL_READ_BYTES as u64);
        let tail = self.storage.read_range(&path, tail_start..known.bytes).await?;
        let range = locate_footer(&tail, known.bytes).map_err(&corrupt)?;
        metrics::counter!(names::CATALOG_FOOTER_READS).increment(1);
        let inside = range
            .start
            .checked_sub(tail_start)
            .zip(range.end.checked_sub(tail_start));
        let within = |(start, end): (u64, u64)| {
            let bounds = usize::try_from(start).ok()?..usize::try_from(end).ok()?;
            tail.get(bounds.clone()).map(|_| tail.slice(bounds))
        };
        let bytes = match inside.and_then(within) {
            Some(bytes) => bytes,
            None => self.storage.read_range(&path, range).await?,
        };
        let parsed = if bytes.len() > PARSE_ELSEWHERE_BYTES {
            let task = tokio::task::spawn_blocking(move || SegmentFooter::parse(&bytes));
            task.await.map_err(|_| CatalogError::Stopped)?
        } else {
            SegmentFooter::parse(&bytes)
        };
        let footer = parsed.map_err(&corrupt)?;
        let segment = Arc::new(self.segment(tenant, known.key, known.bytes, footer));
        self.segments.insert(known.key.id, Arc::clone(&segment));
        Ok(segment)
    }
}

/// Keys and sizes of the objects that are segments.
fn keys_of(objects: Vec<object_store::ObjectMeta>) -> Vec<(SegmentKey, u64)> {
    let key = |object: object_store::ObjectMeta| Some((SegmentKey::parse(&object.location)?, object.size));
    objects.into_iter().filter_map(key).collect()
}

/// Undoes the escapes with which the object store spells characters such as `*` in keys.
fn percent_decode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let code = after
            .get(..2)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok())
            .filter(u8::is_ascii);
        match code {
            Some(code) => {
                out.push(char::from(code));
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                out.push('%');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests;
