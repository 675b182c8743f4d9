//! Plans and runs queries over segments: which blocks to read, in what order, on which threads, in how much memory.
//!
//! Uses the catalog and the object store; knows LogQL only as pipelines and accumulators, and nothing of HTTP.

mod block;
mod budget;
mod captures;
mod dedupe;
mod deleted;
mod drive;
mod error;
mod fields;
mod fold;
mod head;
mod hot;
mod implied;
mod index;
mod labels;
mod logs;
mod metrics;
mod outlines;
mod patterns;
mod result;
mod select;
mod shared;
mod tail;
mod workers;

pub use error::QueryError;
pub use fields::{Field, FieldType, detect_fields, only_ids};
pub use index::{IndexStats, VolumeBy, VolumeRequest, VolumeSeries};
pub use logs::LogRequest;
pub use metrics::{MetricAnswer, MetricRequest};
pub use patterns::{PatternAnswer, PatternRequest, PatternSeries};
pub use result::{LogAnswer, LogRow, QueryStats, Skipped, Times};
pub use tail::{StreamSelector, Tail};

use crate::catalog::Catalog;
use crate::config::{ByteSize, Config};
use crate::deletes::Deletes;
use crate::metrics as names;
use crate::storage::Storage;
use crate::tenants::TenantId;
use std::sync::Arc;
use std::time::Duration;

/// Times a query is planned again because an object was gone.
const MAX_REPLANS: usize = 3;

/// Order of the entries of an answer, and the end of the range a limit is taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Oldest first.
    Forward,
    /// Newest first.
    Backward,
}

/// Bounds of queries.
#[derive(Debug, Clone)]
pub struct QueryLimits {
    /// Entries one log query may ask for.
    pub max_entries: usize,
    /// Series one metric query may answer with.
    pub max_series: usize,
    /// Bytes that the streams of one query may have in its range; 0: any.
    pub max_bytes: u64,
    /// How long a query may take.
    pub timeout: Duration,
    /// Bytes one query may keep until it answers (rows, accumulators).
    pub query_memory: usize,
    /// Bytes of blocks that all queries together may have on their way.
    pub block_memory: usize,
    /// Bytes of decoded columns that are kept for queries to come; 0: none.
    pub cache: usize,
    /// Threads that scan blocks; 0: one for each core.
    pub threads: usize,
    /// Blocks a query fetches ahead; 0: four for each thread.
    pub read_ahead: usize,
}

impl From<&Config> for QueryLimits {
    fn from(config: &Config) -> Self {
        let bytes = |size: ByteSize| usize::try_from(size.0).unwrap_or(usize::MAX);
        Self {
            max_entries: config.query_max_entries,
            max_series: config.query_max_series,
            max_bytes: config.query_max_bytes.0,
            timeout: config.query_timeout,
            query_memory: bytes(config.query_memory_bytes),
            block_memory: bytes(config.query_memory_bytes) / 4,
            cache: bytes(config.query_cache_bytes),
            threads: config.query_threads,
            read_ahead: 0,
        }
    }
}

impl Default for QueryLimits {
    fn default() -> Self {
        Self {
            max_entries: 50_000,
            max_series: 100_000,
            max_bytes: 0,
            timeout: Duration::from_secs(300),
            query_memory: 512 << 20,
            block_memory: 128 << 20,
            cache: 128 << 20,
            threads: 0,
            read_ahead: 0,
        }
    }
}

/// Answers queries. One for a process, shared by all its requests.
#[derive(Debug)]
pub struct Engine {
    catalog: Arc<Catalog>,
    storage: Storage,
    deletes: Arc<Deletes>,
    limits: QueryLimits,
    workers: workers::Workers,
    memory: budget::BlockMemory,
    blocks: hot::HotBlocks,
    selections: select::SelectionCache,
    label_indexes: index::LabelIndexCache,
    shared_times: select::SharedTimesCache,
    common_times: shared::CommonTimesCache,
}

impl Engine {
    /// # Errors
    /// The threads could not be started.
    pub fn new(catalog: Arc<Catalog>, storage: Storage, limits: QueryLimits) -> Result<Self, std::io::Error> {
        let workers = workers::Workers::new(limits.threads).map_err(std::io::Error::other)?;
        let weight = |(_, text): &(ulid::Ulid, Arc<str>), streams: &select::Selection| {
            u32::try_from(128 + text.len() + streams.len() * 4).unwrap_or(u32::MAX)
        };
        let refresh = catalog.refresh_interval();
        Ok(Self {
            deletes: Arc::new(Deletes::new(storage.clone(), refresh)),
            catalog,
            storage,
            memory: budget::BlockMemory::new(limits.block_memory),
            blocks: hot::HotBlocks::new(limits.cache as u64),
            workers,
            selections: moka::sync::Cache::builder()
                .weigher(weight)
                .max_capacity(16 << 20)
                .build(),
            label_indexes: index::label_index_cache(16 << 20),
            shared_times: select::shared_times_cache(8 << 20),
            common_times: shared::common_times_cache(8 << 20),
            limits,
        })
    }

    /// The delete requests whose entries it leaves out.
    pub fn deletes(&self) -> &Arc<Deletes> {
        &self.deletes
    }

    /// The bounds it works under.
    pub fn limits(&self) -> &QueryLimits {
        &self.limits
    }

    /// What it knows the segments from.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// Blocks of one query that may be on their way.
    fn parallel(&self) -> usize {
        match self.limits.read_ahead {
            0 => self.workers.threads() * 4,
            blocks => blocks,
        }
    }

    /// Runs a query under the time limit, again with a fresh listing if an object has gone: another replica's
    /// compaction may have replaced it meanwhile.
    async fn bounded<T, F: Future<Output = Result<T, QueryError>>>(
        &self,
        kind: &'static str,
        tenants: &[TenantId],
        run: impl Fn() -> F,
    ) -> Result<T, QueryError> {
        let started = std::time::Instant::now();
        let _reading = self.catalog.reading();
        let again = async {
            for _ in 0..MAX_REPLANS {
                match run().await {
                    Err(why) if why.is_vanished() => {
                        tenants.iter().for_each(|tenant| self.catalog.refresh(tenant));
                    }
                    other => return other,
                }
            }
            run().await
        };
        let answer = tokio::time::timeout(self.limits.timeout, again)
            .await
            .unwrap_or(Err(QueryError::Timeout));
        let outcome = answer.as_ref().map_or_else(QueryError::reason, |_| "ok");
        ::metrics::counter!(names::QUERY_REQUESTS, "kind" => kind, "outcome" => outcome).increment(1);
        ::metrics::histogram!(names::QUERY_SECONDS, "kind" => kind).record(started.elapsed());
        answer
    }
}

#[cfg(test)]
pub(crate) mod tests;
