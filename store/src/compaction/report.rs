//! What compaction tells the metrics and the log.

use std::time::Duration;

use super::plan::Group;
use super::{CompactionError, CompactionSummary};
use crate::catalog::{Day, Segment};
use crate::metrics as names;
use crate::tenants::TenantId;

/// Counts and logs a merge that was done.
pub(super) fn record_merge(group: &Group, output: &Segment, duplicates: u64, took: Duration) {
    let level = group.level.to_string();
    let read: u64 = group.inputs.iter().map(|object| object.bytes).sum();
    metrics::counter!(names::COMPACTION_MERGES, "level" => level.clone()).increment(1);
    metrics::counter!(names::COMPACTION_BYTES, "direction" => "read").increment(read);
    metrics::counter!(names::COMPACTION_BYTES, "direction" => "written").increment(output.bytes);
    metrics::counter!(names::COMPACTION_DUPLICATES).increment(duplicates);
    metrics::histogram!(names::COMPACTION_SECONDS).record(took.as_secs_f64());
    tracing::debug!(
        path = %output.path,
        inputs = group.inputs.len(),
        read,
        written = output.bytes,
        rows = output.footer.rows,
        duplicates,
        seconds = took.as_secs_f64(),
        "merged segments"
    );
}

/// Counts what could not be done, by its reason.
pub(super) fn count_failure(error: &CompactionError) {
    metrics::counter!(names::COMPACTION_FAILURES, "reason" => error.reason()).increment(1);
}

/// Counts and logs what stopped a day; nothing is lost by it.
pub(super) fn report(
    error: &CompactionError,
    tenant: &TenantId,
    day: Option<Day>,
    summary: &mut CompactionSummary,
) {
    summary.failures += 1;
    count_failure(error);
    let day = day.map(|day| day.to_string());
    tracing::warn!(%error, %tenant, day, "compaction stopped, it will try again");
}
