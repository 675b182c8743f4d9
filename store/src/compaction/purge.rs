//! Carries delete requests out: rewrites the segments that hold their entries, once they can't be cancelled any more.
//!
//! A rewritten segment takes its original's place as the output of a merge does, so readers never see both. Queries go
//! on leaving the entries out until nothing of them is left: a request is finished when no live segment has an entry
//! it names and no replaced one is there any more. Another replica that merged the original meanwhile brings the
//! entries back for a moment, hidden from queries; the next round removes them again.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use ulid::Ulid;

use super::merge::{Merge, MergeFailure};
use super::plan::{Group, Object, Urgency};
use super::{CompactionError, CompactionSummary, Compactor, DaySegments, ns_since_epoch};
use crate::catalog::{Day, Segment};
use crate::deletes::{Deletes, Deletion};
use crate::metrics as names;
use crate::storage::StorageError;
use crate::tenants::TenantId;

/// Pairs of request and segment that are known to have nothing in common; beyond, they are looked at again.
const MAX_CLEAN: usize = 200_000;

/// The requests and what is known about them.
#[derive(Debug)]
pub(super) struct Purges {
    deletes: Arc<Deletes>,
    cancel_period: Duration,
    /// (request, segment): no entry of the segment is named. Neither ever changes.
    clean: Mutex<HashSet<(Ulid, Ulid)>>,
}

impl Purges {
    pub(super) fn new(deletes: Arc<Deletes>, cancel_period: Duration) -> Self {
        Self {
            deletes,
            cancel_period,
            clean: Mutex::default(),
        }
    }

    /// Requests that can't be cancelled any more and aren't finished.
    async fn due(&self, tenant: &TenantId, now_ms: i64) -> Result<Vec<Arc<Deletion>>, StorageError> {
        let period = i64::try_from(self.cancel_period.as_millis()).unwrap_or(i64::MAX);
        let all = self.deletes.all(tenant).await?;
        let due = all.iter().filter(|deletion| {
            let record = &deletion.record;
            record.processed_ms.is_none() && record.created_ms.saturating_add(period) <= now_ms
        });
        Ok(due.cloned().collect())
    }

    fn is_clean(&self, deletion: &Deletion, segment: &Segment) -> bool {
        self.clean.lock().contains(&(deletion.id, segment.key.id))
    }

    fn note_clean(&self, deletions: &[Arc<Deletion>], id: Ulid) {
        let mut clean = self.clean.lock();
        if clean.len() > MAX_CLEAN {
            clean.clear();
        }
        clean.extend(deletions.iter().map(|deletion| (deletion.id, id)));
    }
}

impl Compactor {
    /// Removes what due requests name from all days of a tenant.
    pub(super) async fn purge(
        &self,
        tenant: &TenantId,
        urgency: Urgency,
        summary: &mut CompactionSummary,
    ) -> Result<(), CompactionError> {
        let Some(purges) = &self.deletes else {
            return Ok(());
        };
        let now = SystemTime::now();
        let now_ms = ns_since_epoch(now) / 1_000_000;
        let due = purges.due(tenant, now_ms).await?;
        if due.is_empty()
            || (urgency == Urgency::Due && !self.leases.holds(&self.storage, tenant, now).await?)
        {
            return Ok(());
        }
        let mut unfinished: HashSet<Ulid> = HashSet::new();
        for day in self.days(tenant).await? {
            let of_day: Vec<_> = due
                .iter()
                .filter(|deletion| touches(deletion, day))
                .cloned()
                .collect();
            if !of_day.is_empty() {
                let left = self
                    .purge_day(tenant, day, purges, &of_day, urgency, summary)
                    .await?;
                unfinished.extend(left);
            }
        }
        for deletion in due.iter().filter(|deletion| !unfinished.contains(&deletion.id)) {
            purges.deletes.finish(tenant, deletion, now_ms).await?;
            summary.purged += 1;
            tracing::info!(%tenant, id = %deletion.id, query = deletion.record.query, "delete request carried out");
        }
        Ok(())
    }

    /// Rewrites the segments of a day; gives the requests of which something may be left.
    async fn purge_day(
        &self,
        tenant: &TenantId,
        day: Day,
        purges: &Purges,
        due: &[Arc<Deletion>],
        urgency: Urgency,
        summary: &mut CompactionSummary,
    ) -> Result<HashSet<Ulid>, CompactionError> {
        let objects = self.list(tenant, day).await?;
        let mut segments = self.sort_out(tenant, objects, summary).await?;
        let mut unfinished = HashSet::new();
        for (object, _) in segments.replaced.values() {
            let named = due.iter().filter(|deletion| concerns(deletion, object));
            unfinished.extend(named.map(|deletion| deletion.id));
        }
        for object in segments.live.clone() {
            if self.stop.is_cancelled() {
                return Err(CompactionError::Stopped);
            }
            let touching: Vec<_> = due
                .iter()
                .filter(|deletion| concerns(deletion, &object))
                .cloned()
                .collect();
            if touching.is_empty() {
                continue;
            }
            let Some(segment) = self.open(tenant, &object).await? else {
                // Of a segment that can't be read nobody knows what it holds.
                unfinished.extend(touching.iter().map(|deletion| deletion.id));
                continue;
            };
            let named: Vec<_> = touching
                .into_iter()
                .filter(|deletion| !purges.is_clean(deletion, &segment) && names_streams(deletion, &segment))
                .collect();
            if named.is_empty() {
                continue;
            }
            let removed = self
                .rewrite(tenant, object, segment, &named, &mut segments, urgency, summary)
                .await?;
            match removed {
                Some(0) => purges.note_clean(&named, object.key.id),
                _ => unfinished.extend(named.iter().map(|deletion| deletion.id)),
            }
        }
        Ok(unfinished)
    }

    /// Writes a segment again without the named entries; how many those were, `None` for a corrupt segment.
    #[expect(
        clippy::too_many_arguments,
        reason = "what a merge needs, and what it changes"
    )]
    async fn rewrite(
        &self,
        tenant: &TenantId,
        object: Object,
        segment: Arc<Segment>,
        without: &[Arc<Deletion>],
        segments: &mut DaySegments,
        urgency: Urgency,
        summary: &mut CompactionSummary,
    ) -> Result<Option<u64>, CompactionError> {
        // Level 0 is for what pushes write; what replaces something is above it.
        let level = object.key.level.max(1);
        let inputs = vec![Arc::clone(&segment)];
        let merge = Merge {
            options: self.writer_options(level, &inputs, segments),
            inputs: inputs.clone(),
            pause: self.pause(urgency),
            gives_way: true,
            without: without.to_vec(),
        };
        let (stats, finished) = match merge.run(self.storage.clone(), self.stop.clone()).await {
            Ok(done) => done,
            Err(MergeFailure::Unreadable { source, .. }) => {
                summary.unreadable += 1;
                self.report_unreadable(segment.path.as_ref(), segment.key.id, &source);
                return Ok(None);
            }
            Err(MergeFailure::Storage(error)) => return Err(error.into()),
            Err(MergeFailure::Stopped) => return Err(CompactionError::Stopped),
            Err(error @ (MergeFailure::Write(_) | MergeFailure::Thread(_))) => {
                return Err(CompactionError::Merge {
                    tenant: tenant.clone(),
                    day: object.key.day,
                    reason: error.to_string(),
                });
            }
        };
        if stats.removed == 0 {
            return Ok(Some(0));
        }
        if stats.rows == 0 {
            self.delete_outright(tenant, &object, &segment, segments).await?;
        } else {
            let output = self.store(tenant, &inputs, finished).await?;
            let inputs = vec![object];
            segments.replace(&Group { level, inputs }, output);
        }
        summary.removed += stats.removed;
        metrics::counter!(names::DELETES_REMOVED_ENTRIES).increment(stats.removed);
        Ok(Some(stats.removed))
    }

    /// Deletes a segment with nothing left in it, after whatever it replaces: that would be live again otherwise. A
    /// query that reads it meanwhile begins anew.
    async fn delete_outright(
        &self,
        tenant: &TenantId,
        object: &Object,
        segment: &Segment,
        segments: &mut DaySegments,
    ) -> Result<(), CompactionError> {
        let mut doomed: Vec<Object> = segment
            .footer
            .replaces
            .iter()
            .filter_map(|id| segments.replaced.remove(id))
            .map(|(object, _)| object)
            .collect();
        doomed.sort_by_key(|object| (object.key.level, object.key.id));
        doomed.push(*object);
        for object in doomed {
            let path = object.key.path(&self.storage.tenant_root(tenant));
            self.storage.delete(&path).await?;
            self.catalog.remove(tenant, &object.key);
            metrics::counter!(names::COMPACTION_DELETED).increment(1);
        }
        segments.live.retain(|live| live.key.id != object.key.id);
        Ok(())
    }
}

fn touches(deletion: &Deletion, day: Day) -> bool {
    let (start, end) = deletion.range();
    start <= day.last_ns() && end > day.start_ns()
}

fn concerns(deletion: &Deletion, object: &Object) -> bool {
    let (start, end) = deletion.range();
    object.key.touches(start, end)
}

/// Whether the segment has streams that a request selects, with entries in its time.
fn names_streams(deletion: &Deletion, segment: &Segment) -> bool {
    let (start, end) = deletion.range();
    let mut streams = segment.streams.iter().zip(&segment.footer.streams);
    streams
        .any(|(stream, meta)| meta.min_ts < end && meta.max_ts >= start && deletion.selects(&stream.labels))
}
