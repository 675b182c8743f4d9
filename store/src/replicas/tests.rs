//! Several replicas over one store, as a tail of one of them sees them.
#![allow(clippy::unwrap_used)]

use futures::FutureExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use rankline_logql::Labels;
use rankline_segment::{Finished, SegmentWriter, WriterOptions};

use super::*;
use crate::catalog::{Catalog, CatalogOptions, Day};
use crate::entry::Entry;
use crate::ingest::ids::SegmentIds;
use crate::live::{LiveEvent, LiveSubscription};
use crate::query::QueryLimits;
use crate::storage::Storage;

/// A replica that is tailed, and the store that it shares with others.
struct Tailed {
    storage: Storage,
    live: Arc<LiveHub>,
    ids: SegmentIds,
    replicas: Replicas,
}

fn tenant() -> TenantId {
    TenantId::default()
}

fn labels() -> Labels {
    Labels::from_pairs([("app", "a")])
}

fn segment(line: &str) -> Finished {
    let mut writer = SegmentWriter::new(WriterOptions::default());
    writer.begin_stream(&labels().iter().collect::<Vec<_>>()).unwrap();
    writer.push(now_ns(), line, &[]).unwrap();
    writer.finish().unwrap()
}

impl Tailed {
    fn new() -> Self {
        let storage = Storage::from_store(Arc::new(InMemory::new()));
        let options = CatalogOptions {
            refresh: Duration::ZERO,
            cache_bytes: 1 << 20,
        };
        let catalog = Arc::new(Catalog::new(storage.clone(), options));
        let engine = Arc::new(Engine::new(catalog, storage.clone(), QueryLimits::default()).unwrap());
        let (live, ids) = (Arc::new(LiveHub::default()), SegmentIds::new());
        let replicas = Replicas::new(ids.process(), engine, Arc::clone(&live));
        Self {
            storage,
            live,
            ids,
            replicas,
        }
    }

    fn tail(&self) -> LiveSubscription {
        self.live.subscribe(&tenant(), 9, Box::new(|_| true)).unwrap()
    }

    /// What a replica with these ids does when it flushes a line.
    async fn flush(&self, ids: &SegmentIds, line: &str) {
        let finished = segment(line);
        let path = self.path(ids, &finished);
        self.storage.put(&path, finished.bytes.into()).await.unwrap();
    }

    fn path(&self, ids: &SegmentIds, finished: &Finished) -> Path {
        let key = SegmentKey {
            level: 0,
            day: Day::of(finished.footer.min_ts),
            min_ts: finished.footer.min_ts,
            max_ts: finished.footer.max_ts,
            id: ids.next(),
        };
        key.path(&self.storage.tenant_root(&tenant()))
    }

    /// What this replica does once a line is stored.
    fn publish(&self, line: &str) {
        let entry = Entry {
            ts: now_ns(),
            line: line.into(),
            metadata: Vec::new().into(),
        };
        let streams = vec![StreamEntries {
            labels: labels(),
            entries: vec![entry],
        }];
        self.live.publish(&tenant(), streams.into());
    }
}

fn shown(event: Option<LiveEvent>) -> Vec<String> {
    match event {
        Some(LiveEvent::Batch(batch)) => {
            let entries = batch.iter().flat_map(|stream| &stream.entries);
            entries.map(|entry| entry.line.to_string()).collect()
        }
        other => panic!("no batch but {other:?}"),
    }
}

/// The lines of the next batch.
async fn next(tail: &mut LiveSubscription) -> Vec<String> {
    let event = tokio::time::timeout(TICK * 30, tail.recv()).await;
    shown(event.expect("a batch within some ticks"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_flush_from_now_on_comes_once_and_nothing_else() {
    let (tailed, other) = (Tailed::new(), SegmentIds::new());
    tailed.flush(&other, "before").await;
    let mut tail = tailed.tail();
    let _following = tailed.replicas.follow(&tenant()).await.unwrap();
    tailed.flush(&tailed.ids, "own").await;
    tailed.flush(&other, "news").await;
    assert_eq!(next(&mut tail).await, ["news"]);
    let again = tokio::time::timeout(TICK * 4, tail.recv()).await;
    assert!(again.is_err(), "came as well: {again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn own_batches_wait_for_a_tick_only_while_others_write() {
    let (tailed, other) = (Tailed::new(), SegmentIds::new());
    let mut tail = tailed.tail();
    let alone = tailed.replicas.follow(&tenant()).await.unwrap();
    tailed.publish("alone");
    assert_eq!(shown(tail.recv().now_or_never().expect("at once")), ["alone"]);
    drop(alone);

    tailed.flush(&other, "another is there").await;
    let following = tailed.replicas.follow(&tenant()).await.unwrap();
    tailed.publish("one");
    assert!(tail.recv().now_or_never().is_none(), "it did not wait");
    assert_eq!(next(&mut tail).await, ["one"]);
    tailed.publish("two");
    drop(following);
    assert_eq!(
        next(&mut tail).await,
        ["two"],
        "what is held when nobody follows any more"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_cannot_be_read_holds_up_no_other_and_is_tried_again() {
    let (tailed, other) = (Tailed::new(), SegmentIds::new());
    let mut tail = tailed.tail();
    let _following = tailed.replicas.follow(&tenant()).await.unwrap();
    let late = segment("late");
    let path = tailed.path(&other, &late);
    tailed
        .storage
        .put(&path, b"not yet".to_vec().into())
        .await
        .unwrap();
    tailed.flush(&other, "sound").await;
    assert_eq!(next(&mut tail).await, ["sound"]);
    tailed.storage.delete(&path).await.unwrap();
    tailed.storage.put(&path, late.bytes.into()).await.unwrap();
    loop {
        match next(&mut tail).await {
            lines if lines.is_empty() => {}
            lines => break assert_eq!(lines, ["late"]),
        }
    }
}

#[test]
fn segments_are_read_in_groups_of_bounded_size_in_their_order() {
    let ids = SegmentIds::new();
    let key = |_| SegmentKey {
        level: 0,
        day: Day::of(0),
        min_ts: 0,
        max_ts: 0,
        id: ids.next(),
    };
    let sizes = [1, 2, BATCH_OBJECT_BYTES, 1, 5 * BATCH_OBJECT_BYTES, 7];
    let news: Vec<(SegmentKey, u64)> = (0..sizes.len()).map(key).zip(sizes).collect();
    let found: Vec<&[(SegmentKey, u64)]> = groups(&news).collect();
    assert_eq!(
        found.iter().map(|group| group.len()).collect::<Vec<_>>(),
        [3, 2, 1]
    );
    assert_eq!(found.concat(), news);
    assert_eq!(groups(&[]).count(), 0);
}
