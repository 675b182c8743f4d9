//! Delete requests carried out: what they name goes, nothing else does, and it never comes back.

use super::*;
use crate::deletes::DeleteStatus;

/// Requests for entries of the bucket's one day, made so long ago that they are due.
async fn ask_to_delete(bucket: &Bucket, query: &str, (first, last): (i64, i64)) -> Arc<Deletes> {
    let deletes = Arc::new(Deletes::new(bucket.storage(), Duration::ZERO));
    let range = (first.div_euclid(1_000_000), last.div_euclid(1_000_000) + 1);
    deletes
        .create(&TenantId::default(), query, range, 0)
        .await
        .unwrap();
    deletes
}

async fn purge(bucket: &Bucket, deletes: &Arc<Deletes>, grace: Duration) -> CompactionSummary {
    let compactor = bucket
        .compactor(grace)
        .with_deletes(Arc::clone(deletes), Duration::ZERO);
    compactor.compact_all_once().await.unwrap()
}

#[tokio::test]
async fn named_entries_leave_the_store_and_only_they_do() {
    for merged_before in [false, true] {
        let mut bucket = Bucket::new();
        bucket.flush_many(5).await;
        if merged_before {
            bucket.compactor(Duration::ZERO).compact_all_once().await.unwrap();
        }
        let deletes = ask_to_delete(&bucket, "{rank=\"1\"} |= \"line 3\"", (NOON, NOON + 100)).await;
        bucket
            .expected
            .retain(|(labels, _, line)| labels[1].1 != "1" || !line.contains("line 3"));
        let summary = purge(&bucket, &deletes, Duration::ZERO).await;
        assert_eq!((summary.removed, summary.failures), (5, 0));
        bucket.assert_complete().await;
        // What was rewritten goes with the next round, and then nothing is left of the request.
        let summary = purge(&bucket, &deletes, Duration::ZERO).await;
        assert_eq!(summary.removed, 0);
        purge(&bucket, &deletes, Duration::ZERO).await;
        let all = deletes.all(&TenantId::default()).await.unwrap();
        assert_eq!(all[0].record.status(), DeleteStatus::Processed);
        bucket.assert_complete().await;
        assert_eq!(
            purge(&bucket, &deletes, Duration::ZERO).await,
            CompactionSummary::default()
        );
    }
}

#[tokio::test]
async fn a_request_is_not_finished_while_a_replaced_segment_is_there() {
    let mut bucket = Bucket::new();
    bucket.flush_many(3).await;
    let deletes = ask_to_delete(&bucket, "{rank=\"0\"}", (NOON, NOON + 100)).await;
    bucket.expected.retain(|(labels, ..)| labels[1].1 != "0");
    for _ in 0..3 {
        assert_eq!(purge(&bucket, &deletes, NEVER).await.purged, 0);
        bucket.assert_complete().await;
    }
    purge(&bucket, &deletes, Duration::ZERO).await;
    assert_eq!(
        purge(&bucket, &deletes, Duration::ZERO).await.purged,
        0,
        "finished a round before"
    );
    bucket.assert_complete().await;
}

#[tokio::test]
async fn a_segment_with_nothing_left_goes_with_what_it_replaces() {
    let mut bucket = Bucket::new();
    bucket.flush_many(6).await;
    // Merged, the inputs still there.
    bucket.compactor(NEVER).compact_all_once().await.unwrap();
    let deletes = ask_to_delete(&bucket, "{job=\"llama\"}", (NOON, NOON + 100)).await;
    bucket.expected.clear();
    let summary = purge(&bucket, &deletes, NEVER).await;
    assert_eq!(summary.removed, 60);
    bucket.assert_complete().await;
    assert!(bucket.levels().await.is_empty());
}

#[tokio::test]
async fn a_request_that_can_be_cancelled_removes_nothing() {
    let mut bucket = Bucket::new();
    bucket.flush_many(2).await;
    let deletes = Arc::new(Deletes::new(bucket.storage(), Duration::ZERO));
    let now_ms = ns_since_epoch(SystemTime::now()) / 1_000_000;
    let range = (NOON / 1_000_000, NOON / 1_000_000 + 1);
    let tenant = TenantId::default();
    deletes
        .create(&tenant, "{job=\"llama\"}", range, now_ms)
        .await
        .unwrap();
    let period = Duration::from_secs(24 * 3600);
    let compactor = bucket
        .compactor(Duration::ZERO)
        .with_deletes(Arc::clone(&deletes), period);
    let summary = compactor.compact_all_once().await.unwrap();
    assert_eq!((summary.removed, summary.purged), (0, 0));
    bucket.assert_complete().await;
}

#[tokio::test]
async fn a_crash_at_any_request_of_a_removal_loses_nothing_else() {
    for operation in ["put", "get", "list", "delete"] {
        for after in 0..12 {
            let mut bucket = Bucket::new();
            bucket.flush_many(3).await;
            let deletes = ask_to_delete(&bucket, "{rank=\"1\"} |= \"line 0\"", (NOON, NOON + 100)).await;
            bucket
                .expected
                .retain(|(labels, _, line)| labels[1].1 != "1" || !line.contains("line 0"));
            bucket.store.fail(operation, after);
            let crashed = bucket
                .compactor(Duration::ZERO)
                .with_deletes(Arc::clone(&deletes), Duration::ZERO);
            let _ = crashed.compact_all_once().await;
            bucket.store.heal();
            for _ in 0..3 {
                purge(&bucket, &deletes, Duration::ZERO).await;
            }
            bucket.assert_complete().await;
            let all = deletes.all(&TenantId::default()).await.unwrap();
            assert!(all[0].record.processed_ms.is_some(), "{operation} {after}");
        }
    }
}
