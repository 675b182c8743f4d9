//! Compaction over a store in memory that fails when told to: whatever happens, every entry is there once.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt;
use std::ops::Range;

use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use rankline_segment::{ColumnKind, Cursor, SegmentWriter, merge as merge_segments};

use super::*;
use crate::catalog::{CatalogOptions, DAY_NS};

/// A memory store whose requests fail while `fails` says so.
#[derive(Debug, Default)]
struct Faulty {
    inner: InMemory,
    faults: Mutex<Faults>,
}

#[derive(Debug, Default)]
struct Faults {
    /// Requests of this kind fail…
    operation: Option<&'static str>,
    /// …after so many that don't.
    after: usize,
}

impl Faulty {
    fn fail(&self, operation: &'static str, after: usize) {
        *self.faults.lock() = Faults {
            operation: Some(operation),
            after,
        };
    }

    fn heal(&self) {
        *self.faults.lock() = Faults::default();
    }

    fn check(&self, operation: &'static str) -> object_store::Result<()> {
        let mut faults = self.faults.lock();
        if faults.operation != Some(operation) {
            return Ok(());
        }
        if faults.after > 0 {
            faults.after -= 1;
            return Ok(());
        }
        Err(object_store::Error::Generic {
            store: "faulty",
            source: "made to fail".into(),
        })
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(
        &self,
        path: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.check("put")?;
        self.inner.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.check("put")?;
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.check("get")?;
        self.inner.get_opts(path, options).await
    }

    async fn get_ranges(
        &self,
        path: &Path,
        ranges: &[Range<u64>],
    ) -> object_store::Result<Vec<bytes::Bytes>> {
        self.check("get")?;
        self.inner.get_ranges(path, ranges).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        match self.check("delete") {
            Ok(()) => self.inner.delete_stream(paths),
            Err(error) => futures::stream::iter([Err(error)]).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        match self.check("list") {
            Ok(()) => self.inner.list(prefix),
            Err(error) => futures::stream::iter([Err(error)]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.check("list")?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// An entry as tests compare it.
type Row = (Vec<(String, String)>, i64, String);

/// The bucket, what is in it by the test's own account, and what makes ids.
struct Bucket {
    store: Arc<Faulty>,
    expected: BTreeSet<Row>,
    ids: u64,
}

/// Noon of a day long over, so that all of it can settle.
const NOON: i64 = 20_000 * DAY_NS + DAY_NS / 2;
const NEVER: Duration = Duration::from_secs(3600);

fn options(grace: Duration) -> CompactionOptions {
    let mut options = CompactionOptions {
        grace,
        ..CompactionOptions::default()
    };
    for level in &mut options.levels {
        (level.min_segments, level.max_segments) = (4, 6);
    }
    options
}

impl Bucket {
    fn new() -> Self {
        Self {
            store: Arc::default(),
            expected: BTreeSet::new(),
            ids: 0,
        }
    }

    fn storage(&self) -> Storage {
        Storage::from_store(Arc::clone(&self.store) as _)
    }

    /// A catalog as a process has it that has just started.
    fn catalog(&self) -> Arc<Catalog> {
        let options = CatalogOptions {
            refresh: Duration::ZERO,
            cache_bytes: 64 << 20,
        };
        Arc::new(Catalog::new(self.storage(), options))
    }

    fn compactor(&self, grace: Duration) -> Compactor {
        Compactor::new(
            self.storage(),
            self.catalog(),
            options(grace),
            CancellationToken::new(),
        )
    }

    /// Writes a flushed segment of two streams, a few entries each.
    async fn flush(&mut self, tenant: &TenantId, base: i64) -> SegmentKey {
        self.ids += 1;
        let mut writer = SegmentWriter::new(WriterOptions::default());
        for rank in ["0", "1"] {
            writer.begin_stream(&[("job", "llama"), ("rank", rank)]).unwrap();
            for n in 0..5 {
                let (ts, line) = (
                    base + n / 2,
                    format!("flush {} line {n} of rank {rank}", self.ids),
                );
                writer.push(ts, &line, &[("level", "info")]).unwrap();
                let labels = vec![("job".into(), "llama".into()), ("rank".into(), rank.into())];
                self.expected.insert((labels, ts, line));
            }
        }
        let finished = writer.finish().unwrap();
        let (min_ts, max_ts) = (finished.footer.min_ts, finished.footer.max_ts);
        let id = Ulid::from_parts(1_700_000_000_000 + self.ids, 7);
        let key = SegmentKey {
            level: 0,
            day: Day::of(base),
            min_ts,
            max_ts,
            id,
        };
        let path = key.path(&self.storage().tenant_root(tenant));
        self.storage().put(&path, finished.bytes.into()).await.unwrap();
        key
    }

    async fn flush_many(&mut self, count: i64) -> Vec<SegmentKey> {
        let mut keys = Vec::new();
        for n in 0..count {
            keys.push(self.flush(&TenantId::default(), NOON + n).await);
        }
        keys
    }

    /// Every entry a restarted reader sees, and how many of them it sees twice.
    async fn entries(&self, tenant: &TenantId) -> (BTreeSet<Row>, u64) {
        let segments = self.catalog().segments(tenant, i64::MIN, i64::MAX).await.unwrap();
        let mut cursors = Vec::new();
        for segment in &segments {
            let bytes = self.storage().get(&segment.path).await.unwrap();
            cursors.push(Cursor::new(
                Arc::clone(&segment.footer),
                move |range: Range<u64>| {
                    Ok::<_, Infallible>(bytes[range.start as usize..range.end as usize].to_vec())
                },
            ));
        }
        let mut writer = SegmentWriter::new(WriterOptions::default());
        let stats = merge_segments(cursors, &mut writer, |_| Ok(())).unwrap();
        (rows(&writer.finish().unwrap()), stats.duplicates)
    }

    async fn assert_complete(&self) {
        let (entries, duplicates) = self.entries(&TenantId::default()).await;
        assert!(
            entries == self.expected,
            "{} entries instead of {}",
            entries.len(),
            self.expected.len()
        );
        assert_eq!(duplicates, 0);
    }

    /// Levels of all segment objects there are, ascending.
    async fn levels(&self) -> Vec<u8> {
        let objects = self.storage().list(&Path::from("fake/segments")).await.unwrap();
        let mut levels: Vec<_> = objects
            .iter()
            .map(|object| SegmentKey::parse(&object.location).unwrap().level)
            .collect();
        levels.sort_unstable();
        levels
    }
}

fn rows(segment: &rankline_segment::Finished) -> BTreeSet<Row> {
    let mut rows = BTreeSet::new();
    for block in &segment.footer.blocks {
        let bytes = |kind: &ColumnKind| {
            let range = block.column(kind).unwrap().range();
            &segment.bytes[range.start as usize..range.end as usize]
        };
        let timestamps = block.decode_timestamps(bytes(&ColumnKind::Timestamps)).unwrap();
        let lines = block.decode_text(bytes).unwrap().into_lines().unwrap();
        for run in block.decode_streams(bytes(&ColumnKind::Streams)).unwrap() {
            let labels = &segment.footer.streams[run.stream as usize].labels;
            let labels: Vec<_> = labels
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect();
            for row in (run.first_row..run.first_row + run.rows).map(|row| row as usize) {
                rows.insert((labels.clone(), timestamps[row], lines.get(row).to_owned()));
            }
        }
    }
    rows
}

#[tokio::test]
async fn small_segments_become_large_ones_and_are_deleted_after_the_grace_period() {
    let mut bucket = Bucket::new();
    bucket.flush_many(30).await;
    let summary = bucket.compactor(NEVER).compact_due_once().await.unwrap();
    // 30 = 5 × 6; then 5 of level 1 are one of level 2.
    assert_eq!((summary.merges, summary.replaced, summary.deleted), (6, 35, 0));
    assert_eq!(bucket.levels().await, [&[0; 30][..], &[1; 5], &[2]].concat());
    bucket.assert_complete().await;
    // Another process, which the lease of this minute would keep out of the background's work.
    let summary = bucket.compactor(Duration::ZERO).compact_all_once().await.unwrap();
    assert_eq!((summary.merges, summary.deleted), (0, 35));
    assert_eq!(bucket.levels().await, [2]);
    bucket.assert_complete().await;
    let idle = bucket.compactor(Duration::ZERO).compact_all_once().await.unwrap();
    assert_eq!(idle, CompactionSummary::default());
}

#[tokio::test]
async fn what_a_query_may_still_read_outlives_the_grace_period() {
    let mut bucket = Bucket::new();
    bucket.flush_many(4).await;
    let catalog = bucket.catalog();
    let stop = CancellationToken::new();
    let compactor = Compactor::new(
        bucket.storage(),
        Arc::clone(&catalog),
        options(Duration::ZERO),
        stop,
    );
    let reading = catalog.reading();
    let summary = compactor.compact_all_once().await.unwrap();
    assert_eq!((summary.merges, summary.deleted), (1, 0));
    assert_eq!(compactor.compact_all_once().await.unwrap().deleted, 0);
    drop(reading);
    assert_eq!(compactor.compact_all_once().await.unwrap().deleted, 4);
    assert_eq!(bucket.levels().await, [1]);
    bucket.assert_complete().await;
}

#[tokio::test]
async fn a_backlog_of_flushes_wakes_the_compactor_before_its_interval() {
    let mut bucket = Bucket::new();
    let catalog = bucket.catalog();
    let stop = CancellationToken::new();
    let mut options = options(NEVER);
    (options.interval, options.pause) = (NEVER, 0.0);
    let storage = bucket.storage();
    let compactor = Compactor::new(storage, Arc::clone(&catalog), options, stop.clone());
    let running = tokio::spawn(async move { compactor.run().await });
    bucket.flush_many(4).await;
    for _ in 0..4 {
        catalog.backlog().add(1);
    }
    let merged = async {
        while !bucket.levels().await.contains(&1) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), merged)
        .await
        .unwrap();
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn a_query_of_the_same_replica_sees_the_output_at_once() {
    let mut bucket = Bucket::new();
    bucket.flush_many(4).await;
    let catalog = bucket.catalog();
    let tenant = TenantId::default();
    assert_eq!(
        catalog.segments(&tenant, NOON, NOON + 100).await.unwrap().len(),
        4
    );
    let stop = CancellationToken::new();
    let compactor = Compactor::new(bucket.storage(), Arc::clone(&catalog), options(NEVER), stop);
    compactor.compact_all_once().await.unwrap();
    let segments = catalog.segments(&tenant, NOON, NOON + 100).await.unwrap();
    assert_eq!(
        segments
            .iter()
            .map(|segment| segment.key.level)
            .collect::<Vec<_>>(),
        [1]
    );
}

#[tokio::test]
async fn days_and_tenants_are_kept_apart() {
    let mut bucket = Bucket::new();
    let (one, other) = (TenantId::default(), TenantId::new("other").unwrap());
    for n in 0..4 {
        bucket.flush(&one, NOON + n).await;
        bucket.flush(&one, NOON + DAY_NS + n).await;
        bucket.flush(&other, NOON + n).await;
    }
    let summary = bucket.compactor(Duration::ZERO).compact_all_once().await.unwrap();
    assert_eq!((summary.merges, summary.replaced), (3, 12));
    let mut days = BTreeSet::new();
    for object in bucket.storage().list(&Path::from("fake")).await.unwrap() {
        days.insert(SegmentKey::parse(&object.location).unwrap().day);
    }
    assert_eq!(days, BTreeSet::from([Day::of(NOON), Day::of(NOON + DAY_NS)]));
    let (mine, _) = bucket.entries(&one).await;
    let (theirs, _) = bucket.entries(&other).await;
    assert_eq!((mine.len(), theirs.len()), (80, 40));
}

#[tokio::test]
async fn a_day_long_over_does_not_rest_while_it_is_loaded() {
    let mut bucket = Bucket::new();
    let tenant = TenantId::default();
    let compactor = bucket.compactor(NEVER);
    for (flushes, merges) in [(2, 0), (2, 1)] {
        for _ in 0..flushes {
            bucket.flush(&tenant, NOON).await;
        }
        let summary = compactor.compact_due_once().await.unwrap();
        assert_eq!(summary.merges, merges);
    }
}

#[tokio::test]
async fn failing_requests_lose_and_double_nothing() {
    for operation in ["put", "get", "delete", "list"] {
        for after in 0..12 {
            let mut bucket = Bucket::new();
            bucket.flush_many(10).await;
            bucket.store.fail(operation, after);
            // Whatever this gives, the process then dies.
            let _ = bucket.compactor(Duration::ZERO).compact_all_once().await;
            bucket.store.heal();
            bucket.assert_complete().await;
            let summary = bucket.compactor(Duration::ZERO).compact_all_once().await.unwrap();
            assert_eq!(summary.failures, 0);
            bucket.assert_complete().await;
            assert_eq!(bucket.levels().await, [2], "{operation} fails after {after}");
        }
    }
}

#[tokio::test]
async fn a_deleted_intermediate_segment_does_not_bring_back_what_it_replaced() {
    let mut bucket = Bucket::new();
    bucket.flush_many(8).await;
    // Levels 0 and 1 are both still there when level 2 is written.
    bucket.compactor(NEVER).compact_all_once().await.unwrap();
    assert_eq!(bucket.levels().await, [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2]);
    for object in bucket
        .storage()
        .list(&Path::from("fake/segments/L1"))
        .await
        .unwrap()
    {
        bucket.storage().delete(&object.location).await.unwrap();
    }
    bucket.assert_complete().await;
    bucket.compactor(Duration::ZERO).compact_due_once().await.unwrap();
    assert_eq!(bucket.levels().await, [2]);
    bucket.assert_complete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_compactors_at_once_do_no_harm() {
    let mut bucket = Bucket::new();
    bucket.flush_many(24).await;
    let (a, b) = (bucket.compactor(NEVER), bucket.compactor(NEVER));
    let (a, b) = tokio::join!(a.compact_all_once(), b.compact_all_once());
    assert!(a.unwrap().merges + b.unwrap().merges >= 5);
    let (entries, _) = bucket.entries(&TenantId::default()).await;
    assert_eq!(entries, bucket.expected);
    // The next to look folds what was written twice, and deletes all but one.
    for _ in 0..3 {
        bucket.compactor(Duration::ZERO).compact_all_once().await.unwrap();
    }
    assert_eq!(bucket.levels().await, [2]);
    bucket.assert_complete().await;
}

#[tokio::test]
async fn two_replicas_share_the_work_by_leases() {
    let mut bucket = Bucket::new();
    bucket.flush_many(4).await;
    let (a, b) = (bucket.compactor(NEVER), bucket.compactor(NEVER));
    assert_eq!(a.compact_due_once().await.unwrap().merges, 1);
    bucket.flush_many(4).await;
    // The same window, unless a minute has just passed.
    let (b, a) = (
        b.compact_due_once().await.unwrap().merges,
        a.compact_due_once().await.unwrap().merges,
    );
    assert_eq!(a + b, 1, "the one that holds the lease merges");
}

#[tokio::test]
async fn corrupt_segments_are_left_alone_and_stop_nothing_else() {
    let mut bucket = Bucket::new();
    let keys = bucket.flush_many(8).await;
    let root = bucket.storage().tenant_root(&TenantId::default());
    let (block, footer) = (keys[2].path(&root), keys[5].path(&root));
    for (path, from_end) in [(&block, None), (&footer, Some(10))] {
        let mut bytes = bucket.storage().get(path).await.unwrap().to_vec();
        let at = from_end.map_or(20, |from_end| bytes.len() - from_end);
        bytes[at] ^= 0xff;
        bucket.storage().put(path, bytes.into()).await.unwrap();
    }
    let compactor = bucket.compactor(Duration::ZERO);
    let summary = compactor.compact_all_once().await.unwrap();
    assert_eq!((summary.unreadable, summary.failures), (2, 0));
    assert!(summary.replaced >= 6);
    // Reported once; the rest is compacted; what can't be read is still there.
    assert_eq!(compactor.compact_all_once().await.unwrap().unreadable, 0);
    let root = Path::from("fake/segments/L0");
    let left: BTreeSet<_> = bucket
        .storage()
        .list(&root)
        .await
        .unwrap()
        .into_iter()
        .map(|object| object.location)
        .collect();
    assert_eq!(left, BTreeSet::from([block, footer.clone()]));
    // Restored, it is compacted with the others by a process that starts anew.
    bucket.storage().delete(&footer).await.unwrap();
    let gone = |row: &Row| row.2.starts_with("flush 6 ");
    bucket.expected.retain(|row| !gone(row));
    let summary = bucket.compactor(Duration::ZERO).compact_all_once().await.unwrap();
    assert_eq!(summary.failures, 0);
}

#[tokio::test]
async fn a_segment_replaced_by_a_corrupt_one_is_merged_again() {
    let mut bucket = Bucket::new();
    bucket.flush_many(4).await;
    bucket.compactor(NEVER).compact_all_once().await.unwrap();
    let merged = bucket
        .storage()
        .list(&Path::from("fake/segments/L1"))
        .await
        .unwrap();
    let path = &merged[0].location;
    let mut bytes = bucket.storage().get(path).await.unwrap().to_vec();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    bucket.storage().put(path, bytes.into()).await.unwrap();
    let summary = bucket.compactor(Duration::ZERO).compact_all_once().await.unwrap();
    assert_eq!((summary.unreadable, summary.merges), (1, 1));
    bucket.storage().delete(path).await.unwrap();
    bucket.assert_complete().await;
}

#[tokio::test]
async fn stopping_ends_a_merge_without_a_trace() {
    let mut bucket = Bucket::new();
    bucket.flush_many(8).await;
    let stop = CancellationToken::new();
    let compactor = Compactor::new(bucket.storage(), bucket.catalog(), options(NEVER), stop.clone());
    stop.cancel();
    assert!(matches!(
        compactor.compact_all_once().await,
        Err(CompactionError::Stopped)
    ));
    compactor.run().await;
    assert_eq!(bucket.levels().await, [0; 8]);
}

#[tokio::test]
async fn order_of_arrival_at_equal_times_survives() {
    let mut bucket = Bucket::new();
    let tenant = TenantId::default();
    for _ in 0..7 {
        bucket.flush(&tenant, NOON).await;
    }
    let order = async |bucket: &Bucket| {
        let mut lines = Vec::new();
        for segment in bucket.catalog().segments(&tenant, NOON, NOON + 1).await.unwrap() {
            let bytes = bucket.storage().get(&segment.path).await.unwrap();
            let finished = rankline_segment::Finished {
                total_bytes: bytes.len() as u64,
                bytes: bytes.to_vec(),
                footer: (*segment.footer).clone(),
            };
            for block in &finished.footer.blocks {
                let column = |kind: &ColumnKind| {
                    let range = block.column(kind).unwrap().range();
                    &finished.bytes[range.start as usize..range.end as usize]
                };
                let decoded = block.decode_text(column).unwrap().into_lines().unwrap();
                let times = block.decode_timestamps(column(&ColumnKind::Timestamps)).unwrap();
                let of_rank = decoded
                    .iter()
                    .zip(times)
                    .filter(|(line, ts)| line.ends_with("rank 0") && *ts == NOON);
                lines.extend(of_rank.map(|(line, _)| line.to_owned()));
            }
        }
        lines
    };
    let before = order(&bucket).await;
    assert_eq!(before.len(), 14);
    // Six are merged; the seventh, and what comes later, stays behind them.
    bucket.compactor(Duration::ZERO).compact_due_once().await.unwrap();
    assert_eq!(bucket.levels().await, [0, 1]);
    assert_eq!(order(&bucket).await, before);
}

/// A number that looks random and is the same in every run.
fn dice(state: &mut u64, sides: u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % sides
}

#[tokio::test]
async fn random_flushes_merges_faults_and_restarts() {
    for seed in 0..12 {
        let mut state = seed;
        let mut bucket = Bucket::new();
        let mut compactors = [bucket.compactor(NEVER), bucket.compactor(Duration::ZERO)];
        for step in 0..60 {
            let which = dice(&mut state, 2) as usize;
            match dice(&mut state, 6) {
                0..=2 => {
                    let at = NOON + dice(&mut state, 10) as i64;
                    bucket.flush(&TenantId::default(), at).await;
                }
                3 => {
                    let operation = ["put", "get", "delete", "list"][dice(&mut state, 4) as usize];
                    bucket.store.fail(operation, dice(&mut state, 10) as usize);
                    let _ = compactors[which].compact_all_once().await;
                    bucket.store.heal();
                }
                4 => drop(compactors[which].compact_all_once().await.unwrap()),
                _ => compactors[which] = bucket.compactor([NEVER, Duration::ZERO][which]),
            }
            let (entries, duplicates) = bucket.entries(&TenantId::default()).await;
            assert!(
                entries == bucket.expected && duplicates == 0,
                "seed {seed}, step {step}"
            );
        }
        compactors[1].compact_all_once().await.unwrap();
        assert!(bucket.levels().await.len() <= 3, "seed {seed}");
    }
}

mod purge;
