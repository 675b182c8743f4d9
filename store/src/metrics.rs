//! Names of all metrics the service exposes: `rankline_<area>_<name>_<unit>[_total]`. Whoever counts something uses
//! a name from here; a drop or a refusal always has a `reason` from a closed set.

use std::io::IsTerminal;
use std::sync::Arc;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use parking_lot::Mutex;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Requests to the object store, by `operation` and `outcome`.
pub const STORAGE_REQUESTS: &str = "rankline_storage_requests_total";
/// Bytes written to and read from the object store, by `operation`.
pub const STORAGE_BYTES: &str = "rankline_storage_bytes_total";
/// Time of a request to the object store, by `operation`.
pub const STORAGE_SECONDS: &str = "rankline_storage_request_seconds";
/// Ranges looked for in the cache before the bucket is asked, by `outcome` (memory, disk, miss, error).
pub const STORAGE_CACHE_READS: &str = "rankline_storage_cache_reads_total";
/// Push requests, by `format` and `status`.
pub const PUSH_REQUESTS: &str = "rankline_push_requests_total";
/// Bytes of push request bodies as they came over the network.
pub const PUSH_BYTES: &str = "rankline_push_bytes_total";
/// Entries acknowledged.
pub const PUSH_ENTRIES: &str = "rankline_push_entries_total";
/// Bytes of the lines of acknowledged entries.
pub const PUSH_LINE_BYTES: &str = "rankline_push_line_bytes_total";
/// Entries refused, by `reason`.
pub const PUSH_REFUSED_ENTRIES: &str = "rankline_push_refused_entries_total";
/// Push requests refused as a whole, by `reason`.
pub const PUSH_REFUSED_REQUESTS: &str = "rankline_push_refused_requests_total";
/// Exact duplicates of an entry in the same batch, stored once.
pub const INGEST_DUPLICATES: &str = "rankline_ingest_duplicate_entries_total";
/// Bytes of memory held by pushes that are not acknowledged yet.
pub const INGEST_MEMORY: &str = "rankline_ingest_memory_bytes";
/// Batches flushed, by `cause` (idle, interval, size, shutdown, request).
pub const INGEST_FLUSHES: &str = "rankline_ingest_flushes_total";
/// Time from the first entry of a batch to its acknowledgement.
pub const INGEST_FLUSH_SECONDS: &str = "rankline_ingest_flush_seconds";
/// Segments written.
pub const INGEST_SEGMENTS: &str = "rankline_ingest_segments_total";
/// Bytes of segments written.
pub const INGEST_SEGMENT_BYTES: &str = "rankline_ingest_segment_bytes_total";
/// Segment writes that failed and were tried again.
pub const INGEST_PUT_RETRIES: &str = "rankline_ingest_put_retries_total";
/// Batches that could not be stored; none of their pushes was acknowledged.
pub const INGEST_FAILED_BATCHES: &str = "rankline_ingest_failed_batches_total";
/// Footers read from the object store.
pub const CATALOG_FOOTER_READS: &str = "rankline_catalog_footer_reads_total";
/// Objects the catalog could not use, by `reason` (key, footer).
pub const CATALOG_UNUSABLE: &str = "rankline_catalog_unusable_objects_total";
/// Queries answered or failed, by `kind` (log, metric, metadata) and `outcome` (ok, or the reason of the failure).
pub const QUERY_REQUESTS: &str = "rankline_query_requests_total";
/// Time of a query, by `kind`.
pub const QUERY_SECONDS: &str = "rankline_query_seconds";
/// Bytes of the lines that queries looked at.
pub const QUERY_LINE_BYTES: &str = "rankline_query_line_bytes_total";
/// Encoded bytes of the columns that queries read.
pub const QUERY_COLUMN_BYTES: &str = "rankline_query_column_bytes_total";
/// Blocks that queries read or left out, by `outcome` (read, skipped).
pub const QUERY_BLOCKS: &str = "rankline_query_blocks_total";
/// Objects below `deletes/` that are no delete request, by `reason` (object).
pub const DELETES_UNUSABLE: &str = "rankline_deletes_unusable_objects_total";
/// Entries removed from the store because a delete request names them.
pub const DELETES_REMOVED_ENTRIES: &str = "rankline_deletes_removed_entries_total";
/// Live tails that are open.
pub const TAIL_SESSIONS: &str = "rankline_tail_sessions";
/// Looks for entries of other replicas that failed, by `reason` (list, read): their entries reach tails late.
pub const TAIL_REPLICA_FAILURES: &str = "rankline_tail_replica_failures_total";
/// Entries a tail left out, by `reason` (slow_reader).
pub const TAIL_DROPPED_ENTRIES: &str = "rankline_tail_dropped_entries_total";

/// Merges done, by `level` of the output.
pub const COMPACTION_MERGES: &str = "rankline_compaction_merges_total";
/// Object bytes of merges, by `direction` (read, written).
pub const COMPACTION_BYTES: &str = "rankline_compaction_bytes_total";
/// Exact duplicates of an entry that merges dropped.
pub const COMPACTION_DUPLICATES: &str = "rankline_compaction_duplicate_entries_total";
/// Time of a merge, pauses included.
pub const COMPACTION_SECONDS: &str = "rankline_compaction_merge_seconds";
/// Replaced segments deleted.
pub const COMPACTION_DELETED: &str = "rankline_compaction_deleted_segments_total";
/// What compaction could not do, by `reason` (unreadable, gone, storage, catalog, merge, stopped). No entry is lost
/// by any of these; `unreadable` needs a person.
pub const COMPACTION_FAILURES: &str = "rankline_compaction_failures_total";

/// Makes the recorder of all metrics the process's own and gives the handle that renders them.
///
/// # Errors
/// When the process has a recorder already.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let seconds = [0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0];
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &seconds)?
        .install_recorder()
}

/// What is logged, changeable while the service runs.
#[derive(Clone)]
pub struct LogLevel(Arc<LogLevelInner>);

struct LogLevelInner {
    directives: Mutex<String>,
    apply: Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>,
}

impl LogLevel {
    /// The level, or the directives, in force.
    #[must_use]
    pub fn current(&self) -> String {
        self.0.directives.lock().clone()
    }

    /// Changes what is logged: a level, or directives such as `rankline=debug,warn`.
    ///
    /// # Errors
    /// Text that is neither.
    pub fn set(&self, directives: &str) -> Result<(), String> {
        (self.0.apply)(parse_directives(directives)?)?;
        directives.clone_into(&mut self.0.directives.lock());
        Ok(())
    }
}

fn parse_directives(directives: &str) -> Result<EnvFilter, String> {
    let words = |text: &str| text.chars().all(|c| c.is_ascii_alphabetic());
    let known = ["error", "warn", "info", "debug", "trace", "off"];
    // A lone word would be taken for a module's name.
    if directives.is_empty()
        || (words(directives) && !known.contains(&directives.to_ascii_lowercase().as_str()))
    {
        return Err(format!("unrecognized log level {directives:?}"));
    }
    EnvFilter::builder()
        .parse(directives)
        .map_err(|error| format!("unrecognized log level {directives:?}: {error}"))
}

/// Logs to stderr from now on.
///
/// # Errors
/// Directives that can't be parsed, or a process that logs already.
pub fn install_log(directives: &str) -> Result<LogLevel, String> {
    let (filter, handle) = tracing_subscriber::reload::Layer::new(parse_directives(directives)?);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false);
    let lines = lines.with_ansi(std::io::stderr().is_terminal());
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .map_err(|error| error.to_string())?;
    let apply = move |filter| handle.reload(filter).map_err(|error| error.to_string());
    let inner = LogLevelInner {
        directives: Mutex::new(directives.to_owned()),
        apply: Box::new(apply),
    };
    Ok(LogLevel(Arc::new(inner)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_directives_are_told_from_mistakes() {
        for good in ["info", "DEBUG", "rankline=debug,warn", "off"] {
            assert!(parse_directives(good).is_ok(), "{good}");
        }
        for bad in ["", "loud", "rankline=loud"] {
            assert!(parse_directives(bad).is_err(), "{bad}");
        }
    }
}
