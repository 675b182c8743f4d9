#![allow(clippy::unwrap_used)]
use super::writer::FLUSHES_IN_FLIGHT;
use super::*;
use crate::catalog::{CatalogOptions, DAY_NS};
use crate::config::{ByteSize, StoreUrl};
use crate::live::LiveEvent;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use rankline_logql::Labels;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

/// A memory store whose writes can be slow or fail.
#[derive(Debug)]
struct Faulty {
    inner: InMemory,
    delay: Duration,
    /// Writes that still fail; negative: all.
    failures: AtomicI64,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
}

impl Faulty {
    fn new(delay: Duration, failures: i64) -> Arc<Self> {
        Arc::new(Self {
            inner: InMemory::new(),
            delay,
            failures: AtomicI64::new(failures),
            at_once: AtomicUsize::new(0),
            most_at_once: AtomicUsize::new(0),
        })
    }
}

impl std::fmt::Display for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("faulty")
    }
}

type Stream<T> = futures::stream::BoxStream<'static, object_store::Result<T>>;

#[async_trait::async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(
        &self,
        path: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(now, Ordering::SeqCst);
        tokio::time::sleep(self.delay).await;
        self.at_once.fetch_sub(1, Ordering::SeqCst);
        let left = self.failures.load(Ordering::SeqCst);
        if left != 0 {
            self.failures.fetch_sub(1, Ordering::SeqCst);
            return Err(object_store::Error::Generic {
                store: "faulty",
                source: "no space left".into(),
            });
        }
        self.inner.put_opts(path, payload, options).await
    }
    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }
    async fn get_opts(&self, path: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.inner.get_opts(path, options).await
    }
    fn delete_stream(&self, paths: Stream<Path>) -> Stream<Path> {
        self.inner.delete_stream(paths)
    }
    fn list(&self, prefix: Option<&Path>) -> Stream<ObjectMeta> {
        self.inner.list(prefix)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

struct Service {
    ingester: Ingester,
    catalog: Arc<Catalog>,
    live: Arc<LiveHub>,
}

fn service(store: Arc<dyn ObjectStore>, change: impl FnOnce(&mut Config)) -> Service {
    let mut config = Config::for_tests(StoreUrl::Memory);
    change(&mut config);
    let storage = Storage::from_store(store);
    let options = CatalogOptions {
        refresh: Duration::from_secs(1),
        cache_bytes: 1 << 20,
    };
    let catalog = Arc::new(Catalog::new(storage.clone(), options));
    let live = Arc::new(LiveHub::default());
    let ingester = Ingester::new(&config, storage, Arc::clone(&catalog), Arc::clone(&live));
    Service {
        ingester,
        catalog,
        live,
    }
}

fn push(stream: &str, entries: &[(i64, &str)]) -> Vec<StreamEntries> {
    let entry = |(ts, line): &(i64, &str)| Entry {
        ts: *ts,
        line: (*line).into(),
        metadata: Vec::new().into(),
    };
    vec![StreamEntries {
        labels: Labels::from_pairs([("s", stream)]),
        entries: entries.iter().map(entry).collect(),
    }]
}

async fn rows(catalog: &Catalog, tenant: &TenantId) -> u64 {
    let segments = catalog.segments(tenant, i64::MIN, i64::MAX).await.unwrap();
    segments.iter().map(|segment| segment.footer.rows).sum()
}

#[tokio::test]
async fn what_is_acknowledged_is_there_after_a_restart() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let tenant = TenantId::default();
    let first = service(Arc::clone(&store), |_| {});
    let entries = [(5, "a"), (DAY_NS, "b"), (3, "c"), (5, "a")];
    assert_eq!(
        first
            .ingester
            .push(&tenant, push("x", &entries))
            .await
            .unwrap()
            .entries,
        4
    );
    assert_eq!(rows(&first.catalog, &tenant).await, 3);
    // Not stopped, not flushed: as if killed.
    let second = service(store, |_| {});
    let segments = second
        .catalog
        .segments(&tenant, i64::MIN, i64::MAX)
        .await
        .unwrap();
    let seen: Vec<_> = segments
        .iter()
        .map(|s| (s.key.day.to_string(), s.key.min_ts, s.key.max_ts, s.footer.rows))
        .collect();
    assert_eq!(
        seen,
        [
            ("1970-01-01".to_owned(), 3, 5, 2),
            ("1970-01-02".to_owned(), DAY_NS, DAY_NS, 1)
        ]
    );
    assert_eq!(segments[0].streams[0].labels, Labels::from_pairs([("s", "x")]));
    assert!(Arc::ptr_eq(&segments[0].streams[0], &segments[1].streams[0]));
    assert_eq!(second.catalog.tenants().await.unwrap(), [tenant]);
}

#[tokio::test]
async fn an_idle_writer_flushes_at_once_and_a_busy_one_gathers() {
    let store = Faulty::new(Duration::from_millis(10), 0);
    let service = service(Arc::clone(&store) as _, |config| {
        config.flush_interval = Duration::from_millis(500)
    });
    let tenant = TenantId::default();
    let start = tokio::time::Instant::now();
    service
        .ingester
        .push(&tenant, push("x", &[(1, "a")]))
        .await
        .unwrap();
    assert!(
        start.elapsed() < Duration::from_millis(400),
        "{:?}",
        start.elapsed()
    );
    let many = (0..20).map(|n| {
        let (ingester, tenant) = (service.ingester.clone(), tenant.clone());
        async move { ingester.push(&tenant, push("x", &[(n + 2, "b")])).await }
    });
    futures::future::try_join_all(many).await.unwrap();
    let segments = service.catalog.segments(&tenant, 0, 100).await.unwrap();
    assert_eq!(
        segments.iter().map(|s| s.footer.rows).collect::<Vec<_>>(),
        [1, 20]
    );
}

#[tokio::test]
async fn full_batches_are_written_side_by_side() {
    let store = Faulty::new(Duration::from_millis(30), 0);
    let service = service(Arc::clone(&store) as _, |config| {
        config.batch_bytes = ByteSize(100);
        config.flush_interval = Duration::from_secs(60);
    });
    let tenant = TenantId::default();
    let line = "x".repeat(200);
    let many = (0..12).map(|n| {
        let (ingester, tenant, line) = (service.ingester.clone(), tenant.clone(), line.clone());
        async move { ingester.push(&tenant, push("x", &[(n, &line)])).await }
    });
    futures::future::try_join_all(many).await.unwrap();
    assert_eq!(store.most_at_once.load(Ordering::SeqCst), FLUSHES_IN_FLIGHT);
    assert_eq!(rows(&service.catalog, &tenant).await, 12);
}

#[tokio::test]
async fn a_failed_write_is_tried_again() {
    let service = service(Faulty::new(Duration::ZERO, 2) as _, |_| {});
    let tenant = TenantId::default();
    service
        .ingester
        .push(&tenant, push("x", &[(1, "a")]))
        .await
        .unwrap();
    assert_eq!(rows(&service.catalog, &tenant).await, 1);
}

#[tokio::test]
async fn what_cannot_be_stored_is_not_acknowledged() {
    let service = service(Faulty::new(Duration::ZERO, -1) as _, |config| {
        config.flush_deadline = Duration::from_millis(400);
    });
    let tenant = TenantId::default();
    let error = service
        .ingester
        .push(&tenant, push("x", &[(1, "a")]))
        .await
        .unwrap_err();
    assert!(
        matches!(error, PushError::Storage(_)) && error.to_string().contains("no space left"),
        "{error}"
    );
    assert_eq!(rows(&service.catalog, &tenant).await, 0);
}

#[tokio::test]
async fn a_full_memory_refuses_and_recovers() {
    let store = Faulty::new(Duration::from_millis(50), 0);
    let service = service(Arc::clone(&store) as _, |config| {
        config.ingest_memory_bytes = ByteSize(10_000)
    });
    let tenant = TenantId::default();
    let big = "x".repeat(6_000);
    let (one, two) = tokio::join!(
        service.ingester.push(&tenant, push("x", &[(1, &big)])),
        service.ingester.push(&tenant, push("x", &[(2, &big)])),
    );
    one.unwrap();
    assert!(matches!(two, Err(PushError::Overloaded { .. })), "{two:?}");
    service
        .ingester
        .push(&tenant, push("x", &[(2, &big)]))
        .await
        .unwrap();
    let huge = "x".repeat(11_000);
    let error = service
        .ingester
        .push(&tenant, push("x", &[(2, &huge)]))
        .await
        .unwrap_err();
    assert!(matches!(error, PushError::TooLarge { .. }));
}

#[tokio::test]
async fn a_client_that_hangs_up_changes_nothing() {
    let store = Faulty::new(Duration::from_millis(20), 0);
    let service = service(Arc::clone(&store) as _, |_| {});
    let tenant = TenantId::default();
    let gone = service.ingester.push(&tenant, push("x", &[(1, "a")]));
    assert!(
        tokio::time::timeout(Duration::from_millis(5), gone)
            .await
            .is_err()
    );
    service
        .ingester
        .push(&tenant, push("x", &[(2, "b")]))
        .await
        .unwrap();
    assert_eq!(rows(&service.catalog, &tenant).await, 2);
    service.ingester.stop().await;
    assert_eq!(
        service
            .ingester
            .0
            .budget
            .reserve()
            .grow(ByteSize(384 << 20).0)
            .map_err(|e| e.to_string()),
        Ok(())
    );
}

#[tokio::test]
async fn stopping_stores_what_is_open_and_refuses_the_rest() {
    let store = Faulty::new(Duration::from_millis(10), 0);
    let service = service(Arc::clone(&store) as _, |config| {
        config.flush_interval = Duration::from_secs(60)
    });
    let tenant = TenantId::default();
    service
        .ingester
        .push(&tenant, push("x", &[(1, "a")]))
        .await
        .unwrap();
    let waiting = {
        let (ingester, tenant) = (service.ingester.clone(), tenant.clone());
        tokio::spawn(async move { ingester.push(&tenant, push("x", &[(2, "b")])).await })
    };
    tokio::time::sleep(Duration::from_millis(5)).await;
    service.ingester.stop().await;
    waiting.await.unwrap().unwrap();
    let error = service
        .ingester
        .push(&tenant, push("x", &[(3, "c")]))
        .await
        .unwrap_err();
    assert!(matches!(error, PushError::Stopping));
    assert_eq!(rows(&service.catalog, &tenant).await, 2);
}

#[tokio::test]
async fn tails_see_entries_once_they_are_acknowledged() {
    let service = service(Arc::new(InMemory::new()), |_| {});
    let tenant = TenantId::default();
    let mut tail = service.live.subscribe(&tenant, 1, Box::new(|_| true)).unwrap();
    service
        .ingester
        .push(&tenant, push("x", &[(1, "a")]))
        .await
        .unwrap();
    let Some(LiveEvent::Batch(batch)) = tail.recv().await else {
        panic!("no batch")
    };
    assert_eq!(batch.to_vec(), push("x", &[(1, "a")]));
}
