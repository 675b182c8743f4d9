//! Turns many small segments into few large ones in the background, and deletes what a larger one replaces. Knows
//! nothing of pushes or queries: it changes how entries are stored, never which.
//!
//! A merge writes its output, whose footer names what it replaces, and only later deletes the inputs:
//!
//! 1. crash before the output is written: nothing happened;
//! 2. crash after it: readers leave the replaced ones out, and the next [`Compactor`] to look deletes them;
//! 3. two replicas merge the same: both outputs hold the same entries, which readers and the next merge fold into one.
//!
//! **Invariant:** a segment is deleted only when a sound segment that names it has been in the store for the grace
//! period, and no query of this replica began before that one was there. So nothing but its own replacement ever takes
//! an entry's place. A query of another replica that finds a segment gone plans again. A segment that can't be read is
//! never deleted.

mod lease;
mod merge;
mod plan;
mod purge;
mod report;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use rankline_segment::WriterOptions;
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use crate::catalog::{Catalog, CatalogError, Day, MAX_LEVEL, Segment, SegmentKey, day_folder, level_folder};
use crate::deletes::Deletes;
use crate::metrics as names;
use crate::storage::{Storage, StorageError};
use crate::tenants::TenantId;
use lease::Leases;
use merge::{Merge, MergeFailure};
pub use plan::LevelOptions;
use plan::{Group, Object, Urgency};
use purge::Purges;
use report::{count_failure, record_merge, report};

/// Footers read at once.
const FOOTER_READS_AT_ONCE: usize = 8;
/// Line bytes of a block of an output. Measured on 371 MB of training logs, zstd 3: 4 MiB give 12.84 MB, 8 MiB 12.07 MB, 16 MiB 11.80 MB.
const BLOCK_LINE_BYTES: usize = 8 << 20;
/// Line bytes that the largest blocks of a merge's inputs may have together; what is beyond waits for the next merge. Each
/// input has one block in memory, decoded, which takes about so much. While 371 MB of training logs are pushed at full
/// speed the process peaks at 214 to 270 MB with 64 MiB, at 172 to 185 MB with 40.
const MERGE_LINE_BYTES: u64 = 40 << 20;
/// Merges' worth of flushed segments from which on the background task is behind: it no longer gives way to requests
/// then, as questions get slower with each segment.
const BEHIND: usize = 2;
/// How long an output covers. On 371 MB of one day's training logs an hour with a filter takes 6.4 ms where one segment has the day
/// and 0.9 ms where six have it.
const MAX_SPAN: Duration = Duration::from_secs(4 * 3600);
/// How long a day without work is left alone, when it is over.
const REST: Duration = Duration::from_secs(600);

/// How compaction works. All byte sizes are of objects, so compressed.
#[derive(Debug, Clone)]
pub struct CompactionOptions {
    /// Time between two looks at the store. Shorter keeps fewer small segments, at five LISTs a tenant each time.
    pub interval: Duration,
    /// How long replaced segments stay at least: time for other replicas to see their replacement. Queries of this
    /// replica that began before keep them longer; what another replica's query misses, it plans again.
    pub grace: Duration,
    /// Merging of levels 0, 1 and 2.
    pub levels: [LevelOptions; MAX_LEVEL as usize + 1],
    /// zstd levels of outputs of levels 1 and 2: what is read more often and longer is compressed harder.
    pub zstd_levels: [i32; MAX_LEVEL as usize],
    /// Pause after each block written by the background task, as a share of the time it took. Its thread has a low
    /// priority already; this leaves room where CPU is rationed by quota.
    pub pause: f32,
}

impl Default for CompactionOptions {
    fn default() -> Self {
        let level = |min_segments, max_segments, target_mib: u64, settle_minutes: u64| LevelOptions {
            min_segments,
            max_segments,
            target_bytes: target_mib << 20,
            max_span: MAX_SPAN,
            any_span_bytes: 2 << 20,
            alone: false,
            settle: Duration::from_secs(settle_minutes * 60),
        };
        let mut levels = [level(32, 32, 8, 1), level(16, 16, 32, 120), level(8, 16, 32, 360)];
        levels[1].alone = true;
        Self {
            interval: Duration::from_secs(15),
            grace: Duration::from_secs(10),
            // 32 MiB are some 400 MB of a training run's lines.
            levels,
            // Measured on 371 MB of training logs as templates, 8 MiB blocks: level 3 gives 12.07 MB, level 7 gives
            // 11.62 MB and takes nearly twice the time.
            zstd_levels: [3, 7],
            pause: 0.1,
        }
    }
}

impl CompactionOptions {
    /// For a folder, which as a rule one process alone reads: it knows its own queries, and a folder that holds
    /// everything twice for longer is all that patience would give. Another process's listing is as old as this at most.
    #[must_use]
    pub fn for_folder() -> Self {
        Self {
            grace: Duration::from_secs(1),
            ..Self::default()
        }
    }
}

/// Why a round of compaction could not do everything.
#[derive(Debug, thiserror::Error)]
pub enum CompactionError {
    /// The object store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The catalog could not answer.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A merge's output could not be made.
    #[error("could not merge segments of {tenant}, {day}: {reason}")]
    Merge {
        /// Whose.
        tenant: TenantId,
        /// Which day's.
        day: Day,
        /// Why.
        reason: String,
    },
    /// The service is going down.
    #[error("the service is shutting down")]
    Stopped,
}

impl CompactionError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Storage(error) if error.is_not_found() => "gone",
            Self::Storage(_) => "storage",
            Self::Catalog(_) => "catalog",
            Self::Merge { .. } => "merge",
            Self::Stopped => "stopped",
        }
    }
}

/// What a round did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CompactionSummary {
    /// Outputs written.
    pub merges: u64,
    /// Segments they replace.
    pub replaced: u64,
    /// Replaced segments deleted.
    pub deleted: u64,
    /// Object bytes of the inputs.
    pub bytes_read: u64,
    /// Object bytes of the outputs.
    pub bytes_written: u64,
    /// Exact duplicates dropped.
    pub duplicates: u64,
    /// Entries removed because a delete request names them.
    pub removed: u64,
    /// Delete requests of which nothing is left.
    pub purged: u64,
    /// Segments that can't be read.
    pub unreadable: u64,
    /// Days that could not be finished; the reason is in the log.
    pub failures: u64,
}

/// Compacts every tenant's segments, one merge at a time.
#[derive(Debug)]
pub struct Compactor {
    storage: Storage,
    catalog: Arc<Catalog>,
    options: CompactionOptions,
    stop: CancellationToken,
    leases: Leases,
    /// Segments that can't be read, so that each is reported once and then left alone.
    unreadable: Mutex<HashSet<Ulid>>,
    /// Days that are over and had nothing to do, and when to look again.
    resting: Mutex<HashMap<(TenantId, Day), Instant>>,
    /// Delete requests to carry out.
    deletes: Option<Purges>,
    /// One round at a time.
    turn: tokio::sync::Mutex<()>,
}

/// A day's segments, sorted out.
struct DaySegments {
    live: Vec<Object>,
    /// Replaced ones that are still there, and when the last of their replacements was written.
    replaced: HashMap<Ulid, (Object, SystemTime)>,
    /// Sound segments of levels above 0, by id: what they replace matters when they are replaced themselves.
    merged: HashMap<Ulid, Arc<Segment>>,
}

impl Compactor {
    /// A compactor over a store; does nothing until it is asked to. `stop` ends merges at their next block.
    #[must_use]
    pub fn new(
        storage: Storage,
        catalog: Arc<Catalog>,
        options: CompactionOptions,
        stop: CancellationToken,
    ) -> Self {
        Self {
            storage,
            catalog,
            options,
            stop,
            leases: Leases::default(),
            unreadable: Mutex::default(),
            resting: Mutex::default(),
            deletes: None,
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// Also removes the entries of delete requests, each when it is older than `cancel_period`.
    #[must_use]
    pub fn with_deletes(mut self, deletes: Arc<Deletes>, cancel_period: Duration) -> Self {
        self.deletes = Some(Purges::new(deletes, cancel_period));
        self
    }

    /// Compacts what is due, at once and then again and again, until `stop`: after each interval, or sooner when the
    /// backlog of this replica's flushes is worth a merge.
    pub async fn run(&self) {
        while !self.stop.is_cancelled() {
            self.catalog.backlog().clear();
            let mut wait = self.options.interval;
            match self.round(Urgency::Due).await {
                Ok(summary) if summary != CompactionSummary::default() => {
                    tracing::debug!(?summary, "compaction round done");
                    // What was replaced can go then, and the outputs may be worth a merge.
                    wait = wait.min(self.options.grace);
                }
                Ok(_) | Err(CompactionError::Stopped) => {}
                Err(error) => {
                    count_failure(&error);
                    tracing::warn!(%error, "compaction could not look for work, it will try again");
                }
            }
            let [flushed, ..] = &self.options.levels;
            let backlog = self.catalog.backlog();
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = tokio::time::sleep(wait) => {}
                () = backlog.reaches(flushed.min_segments as u64, flushed.target_bytes / 2) => {}
            }
        }
        if let Err(error) = self.leases.release(&self.storage, SystemTime::now()).await {
            tracing::warn!(%error, "compaction's lease could not be given back, the next process waits up to a minute for it");
        }
    }

    /// Compacts everything that is due by now, as the background task does: for tests.
    ///
    /// # Errors
    /// The tenants can't be listed. What fails for one day alone is logged and counted in the summary.
    pub async fn compact_due_once(&self) -> Result<CompactionSummary, CompactionError> {
        self.round(Urgency::Due).await
    }

    /// Merges all that can be merged up to the target sizes, whether due or not, without pauses and leases, and
    /// deletes what was replaced longer ago than the grace period: for tests, benchmarks and maintenance.
    ///
    /// # Errors
    /// As [`Compactor::compact_due_once`].
    pub async fn compact_all_once(&self) -> Result<CompactionSummary, CompactionError> {
        self.round(Urgency::All).await
    }

    async fn round(&self, urgency: Urgency) -> Result<CompactionSummary, CompactionError> {
        let _turn = self.turn.lock().await;
        let mut summary = CompactionSummary::default();
        for tenant in self.catalog.tenants().await? {
            let days = match self.days(&tenant).await {
                Ok(days) => days,
                Err(error) => {
                    report(&error.into(), &tenant, None, &mut summary);
                    continue;
                }
            };
            for day in days {
                if self.stop.is_cancelled() {
                    return Err(CompactionError::Stopped);
                }
                if urgency == Urgency::Due && self.is_resting(&tenant, day) {
                    continue;
                }
                match self.day(&tenant, day, urgency, &mut summary).await {
                    Ok(()) => {}
                    Err(CompactionError::Stopped) => return Err(CompactionError::Stopped),
                    Err(error) => report(&error, &tenant, Some(day), &mut summary),
                }
            }
            match self.purge(&tenant, urgency, &mut summary).await {
                Ok(()) => {}
                Err(CompactionError::Stopped) => return Err(CompactionError::Stopped),
                Err(error) => report(&error, &tenant, None, &mut summary),
            }
        }
        Ok(summary)
    }

    /// Days the tenant has segments of, ascending.
    async fn days(&self, tenant: &TenantId) -> Result<BTreeSet<Day>, StorageError> {
        let root = self.storage.tenant_root(tenant);
        let mut days = BTreeSet::new();
        for level in 0..=MAX_LEVEL {
            let folders = self.storage.list_folders(&level_folder(&root, level)).await?;
            days.extend(folders.iter().filter_map(Day::of_folder));
        }
        Ok(days)
    }

    fn is_resting(&self, tenant: &TenantId, day: Day) -> bool {
        let now = Instant::now();
        let mut resting = self.resting.lock();
        resting.retain(|_, until| *until > now);
        resting.contains_key(&(tenant.clone(), day))
    }

    async fn day(
        &self,
        tenant: &TenantId,
        day: Day,
        urgency: Urgency,
        summary: &mut CompactionSummary,
    ) -> Result<(), CompactionError> {
        let objects = self.list(tenant, day).await?;
        let mut segments = self.sort_out(tenant, objects, summary).await?;
        let now = SystemTime::now();
        let has_work = !segments.replaced.is_empty()
            || plan::next(&segments.live, &self.options.levels, now, urgency).is_some();
        if !has_work {
            let over = Day::of(ns_since_epoch(now)) > day;
            // Old entries that are loaded now wait only to settle.
            let loading = segments.flushed() > 1;
            if over && !loading {
                self.resting
                    .lock()
                    .insert((tenant.clone(), day), Instant::now() + REST);
            }
            return Ok(());
        }
        if urgency == Urgency::Due && !self.leases.holds(&self.storage, tenant, now).await? {
            return Ok(());
        }
        while let Some(group) = plan::next(&segments.live, &self.options.levels, SystemTime::now(), urgency) {
            self.merge_group(tenant, group, &mut segments, urgency, summary)
                .await?;
        }
        self.delete_replaced(tenant, segments.replaced, summary).await
    }

    /// What the store has of a day, all levels.
    async fn list(&self, tenant: &TenantId, day: Day) -> Result<Vec<Object>, StorageError> {
        let root = self.storage.tenant_root(tenant);
        let mut objects = Vec::new();
        // Lowest level first: what moves up meanwhile is seen twice rather than never.
        for level in 0..=MAX_LEVEL {
            for meta in self.storage.list(&day_folder(&root, level, day)).await? {
                if let Some(key) = SegmentKey::parse(&meta.location) {
                    objects.push(Object {
                        key,
                        bytes: meta.size,
                        modified: meta.last_modified.into(),
                    });
                }
            }
        }
        Ok(objects)
    }

    /// Reads the footers of merged segments and tells live from replaced ones.
    async fn sort_out(
        &self,
        tenant: &TenantId,
        mut objects: Vec<Object>,
        summary: &mut CompactionSummary,
    ) -> Result<DaySegments, CompactionError> {
        objects.retain(|object| !self.unreadable.lock().contains(&object.key.id));
        let merged = objects.iter().copied().filter(|object| object.key.level > 0);
        let footers: Vec<_> = futures::stream::iter(merged)
            .map(
                |object| async move { Ok::<_, CompactionError>((object, self.open(tenant, &object).await?)) },
            )
            .buffered(FOOTER_READS_AT_ONCE)
            .try_collect()
            .await?;
        let mut segments = DaySegments {
            live: Vec::new(),
            replaced: HashMap::new(),
            merged: HashMap::new(),
        };
        let mut since: HashMap<Ulid, SystemTime> = HashMap::new();
        for (object, segment) in footers {
            let Some(segment) = segment else {
                summary.unreadable += 1;
                continue;
            };
            for id in &segment.footer.replaces {
                let at = since.entry(*id).or_insert(object.modified);
                *at = object.modified.max(*at);
            }
            segments.merged.insert(object.key.id, segment);
        }
        for object in objects {
            let id = object.key.id;
            if let Some(at) = since.get(&id) {
                segments.replaced.insert(id, (object, *at));
            } else if object.key.level == 0 || segments.merged.contains_key(&id) {
                segments.live.push(object);
            }
        }
        Ok(segments)
    }

    /// A segment's footer; `None` when it is corrupt, which is reported here.
    async fn open(
        &self,
        tenant: &TenantId,
        object: &Object,
    ) -> Result<Option<Arc<Segment>>, CompactionError> {
        match self.catalog.open(tenant, object.key, object.bytes).await {
            Ok(segment) => {
                let day = object.key.day;
                let (min_ts, max_ts) = (segment.footer.min_ts, segment.footer.max_ts);
                if segment.footer.rows > 0 && (Day::of(min_ts) != day || Day::of(max_ts) != day) {
                    self.report_unreadable(segment.path.as_ref(), object.key.id, &"rows of another day");
                    return Ok(None);
                }
                Ok(Some(segment))
            }
            Err(CatalogError::Corrupt { path, source }) => {
                self.report_unreadable(&path, object.key.id, &source);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn report_unreadable(&self, path: &str, id: Ulid, reason: &dyn std::fmt::Display) {
        if self.unreadable.lock().insert(id) {
            metrics::counter!(names::COMPACTION_FAILURES, "reason" => "unreadable").increment(1);
            tracing::error!(
                path,
                %reason,
                "segment can't be read: it is left as it is and not compacted; restore it from a copy"
            );
        }
    }

    /// Merges one group and puts the output in the inputs' place. A corrupt input is taken out of `segments`, so
    /// that the next plan does without it.
    async fn merge_group(
        &self,
        tenant: &TenantId,
        mut group: Group,
        segments: &mut DaySegments,
        urgency: Urgency,
        summary: &mut CompactionSummary,
    ) -> Result<(), CompactionError> {
        let mut inputs = Vec::with_capacity(group.inputs.len());
        for object in &group.inputs {
            let Some(segment) = self.open(tenant, object).await? else {
                summary.unreadable += 1;
                segments.live.retain(|live| live.key.id != object.key.id);
                return Ok(());
            };
            inputs.push(segment);
        }
        inputs.truncate(fitting(&inputs));
        group.inputs.truncate(inputs.len());
        let is_behind = segments.flushed() >= BEHIND * self.options.levels[0].min_segments;
        let started = Instant::now();
        let merge = Merge {
            options: self.writer_options(group.level, &inputs, segments),
            inputs: inputs.clone(),
            pause: if is_behind { 0.0 } else { self.pause(urgency) },
            gives_way: !is_behind,
            without: Vec::new(),
        };
        let failed = |reason: String| CompactionError::Merge {
            tenant: tenant.clone(),
            day: inputs.first().map_or(Day::of(0), |input| input.key.day),
            reason,
        };
        let (stats, finished) = match merge.run(self.storage.clone(), self.stop.clone()).await {
            Ok(done) => done,
            Err(MergeFailure::Unreadable { input, source }) => {
                if let Some(input) = inputs.get(input) {
                    summary.unreadable += 1;
                    self.report_unreadable(input.path.as_ref(), input.key.id, &source);
                    segments.live.retain(|live| live.key.id != input.key.id);
                    return Ok(());
                }
                return Err(failed(source.to_string()));
            }
            Err(MergeFailure::Storage(error)) => return Err(error.into()),
            Err(MergeFailure::Stopped) => return Err(CompactionError::Stopped),
            Err(error @ (MergeFailure::Write(_) | MergeFailure::Thread(_))) => {
                return Err(failed(error.to_string()));
            }
        };
        let output = self.store(tenant, &inputs, finished).await?;
        summary.merges += 1;
        summary.replaced += inputs.len() as u64;
        summary.duplicates += stats.duplicates;
        summary.bytes_read += group.inputs.iter().map(|object| object.bytes).sum::<u64>();
        summary.bytes_written += output.bytes;
        record_merge(&group, &output, stats.duplicates, started.elapsed());
        segments.replace(&group, output);
        Ok(())
    }

    fn writer_options(&self, level: u8, inputs: &[Arc<Segment>], segments: &DaySegments) -> WriterOptions {
        WriterOptions {
            level,
            zstd_level: self.zstd_level(level),
            // What is merged again within hours isn't worth the time; what stays is.
            try_layouts: level == MAX_LEVEL,
            templates: true,
            block_line_bytes: BLOCK_LINE_BYTES,
            replaces: replaced_ids(inputs, segments),
            ..WriterOptions::default()
        }
    }

    fn pause(&self, urgency: Urgency) -> f32 {
        match urgency {
            Urgency::Due => self.options.pause,
            Urgency::All => 0.0,
        }
    }

    fn zstd_level(&self, level: u8) -> i32 {
        let of_level = usize::from(level)
            .checked_sub(1)
            .and_then(|index| self.options.zstd_levels.get(index));
        of_level.copied().unwrap_or(3)
    }

    /// Writes the output and makes it known to this replica.
    async fn store(
        &self,
        tenant: &TenantId,
        inputs: &[Arc<Segment>],
        finished: rankline_segment::Finished,
    ) -> Result<Arc<Segment>, CompactionError> {
        let newest = inputs.iter().map(|input| input.key.id).max().unwrap_or_default();
        let key = SegmentKey {
            level: finished.footer.level,
            day: Day::of(finished.footer.min_ts),
            min_ts: finished.footer.min_ts,
            max_ts: finished.footer.max_ts,
            id: id_after(newest),
        };
        let segment = self
            .catalog
            .segment(tenant, key, finished.total_bytes, finished.footer);
        let segment = Arc::new(segment);
        self.storage.put(&segment.path, finished.bytes.into()).await?;
        self.catalog.insert(Arc::clone(&segment));
        Ok(segment)
    }

    /// Deletes replaced segments whose replacement is old enough, lowest level first: should one fail, whatever
    /// names it is still there.
    async fn delete_replaced(
        &self,
        tenant: &TenantId,
        replaced: HashMap<Ulid, (Object, SystemTime)>,
        summary: &mut CompactionSummary,
    ) -> Result<(), CompactionError> {
        let now = SystemTime::now();
        let longest_read = self.catalog.longest_read();
        let old_enough = |at: SystemTime| {
            let age = now.duration_since(at).unwrap_or_default();
            age >= self.options.grace && longest_read.is_none_or(|read| read < age)
        };
        let mut objects: Vec<_> = replaced
            .into_values()
            .filter(|(_, at)| old_enough(*at))
            .map(|(object, _)| object)
            .collect();
        objects.sort_by_key(|object| (object.key.level, object.key.id));
        for object in objects {
            let path = object.key.path(&self.storage.tenant_root(tenant));
            self.storage.delete(&path).await?;
            self.catalog.remove(tenant, &object.key);
            summary.deleted += 1;
            metrics::counter!(names::COMPACTION_DELETED).increment(1);
        }
        Ok(())
    }
}

impl DaySegments {
    /// Live segments as flushed.
    fn flushed(&self) -> usize {
        let flushed = self.live.iter().filter(|object| object.key.level == 0);
        flushed.count()
    }

    fn replace(&mut self, group: &Group, output: Arc<Segment>) {
        let now = SystemTime::now();
        self.live
            .retain(|live| !group.inputs.iter().any(|input| input.key.id == live.key.id));
        for input in &group.inputs {
            self.replaced.insert(input.key.id, (*input, now));
        }
        self.live.push(Object {
            key: output.key,
            bytes: output.bytes,
            modified: now,
        });
        self.merged.insert(output.key.id, output);
    }
}

/// How many of the inputs, at least two, are within [`MERGE_LINE_BYTES`].
fn fitting(inputs: &[Arc<Segment>]) -> usize {
    let largest = |segment: &Arc<Segment>| {
        let blocks = segment.footer.blocks.iter();
        blocks.map(|block| block.line_bytes).max().unwrap_or_default()
    };
    let mut bytes = 0u64;
    let within = inputs.iter().take_while(|input| {
        bytes = bytes.saturating_add(largest(input));
        bytes <= MERGE_LINE_BYTES
    });
    within.count().max(2).min(inputs.len())
}

/// The inputs, and what they replace themselves as far as it is still in the store: were it left out, it would be
/// live again once the input that names it is deleted.
fn replaced_ids(inputs: &[Arc<Segment>], segments: &DaySegments) -> Vec<Ulid> {
    let of_inputs = inputs.iter().flat_map(|input| &input.footer.replaces).copied();
    let still_there = of_inputs.filter(|id| segments.replaced.contains_key(id));
    let mut ids: Vec<_> = inputs
        .iter()
        .map(|input| input.key.id)
        .chain(still_there)
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// An id right behind the newest input's, so that entries of equal time keep their order among segments; random
/// enough that no two replicas choose the same one.
fn id_after(newest: Ulid) -> Ulid {
    const STEP_BITS: u32 = 40;
    let step = Ulid::generate().random() & ((1 << STEP_BITS) - 1);
    Ulid(newest.0.saturating_add(step + 1))
}

fn ns_since_epoch(time: SystemTime) -> i64 {
    let ns = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_nanos();
    i64::try_from(ns).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
