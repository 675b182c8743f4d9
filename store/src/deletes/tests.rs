//! Requests over a memory store: kept, shared between replicas, and told from what is none.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use object_store::memory::InMemory;
use rankline_logql::{EntryRef, Labels};

use super::*;

fn storage() -> Storage {
    Storage::from_store(Arc::new(InMemory::new()))
}

#[tokio::test]
async fn every_replica_knows_a_request_and_forgets_a_cancelled_one() {
    let storage = storage();
    let tenant = TenantId::default();
    let replicas = [
        Deletes::new(storage.clone(), Duration::ZERO),
        Deletes::new(storage.clone(), Duration::ZERO),
    ];
    let id = replicas[0].create(&tenant, "{a=\"b\"}", (1, 2), 3).await.unwrap();
    for replica in &replicas {
        let all = replica.all(&tenant).await.unwrap();
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].id, &*all[0].record.query), (id, "{a=\"b\"}"));
        let other = TenantId::new("other").unwrap();
        assert!(replica.all(&other).await.unwrap().is_empty());
    }
    let found = replicas[1].find(&tenant, id).await.unwrap().unwrap();
    replicas[1].finish(&tenant, &found, 9).await.unwrap();
    let all = replicas[0].all(&tenant).await.unwrap();
    assert_eq!(all[0].record.status(), DeleteStatus::Processed);
    replicas[0].cancel(&tenant, id).await.unwrap();
    assert!(replicas[1].find(&tenant, id).await.unwrap().is_none());
}

#[tokio::test]
async fn a_listing_is_kept_for_the_refresh_but_own_requests_are_known_at_once() {
    let storage = storage();
    let tenant = TenantId::default();
    let (slow, other) = (
        Deletes::new(storage.clone(), Duration::from_secs(3600)),
        Deletes::new(storage.clone(), Duration::ZERO),
    );
    assert!(slow.all(&tenant).await.unwrap().is_empty());
    other.create(&tenant, "{a=\"b\"}", (1, 2), 3).await.unwrap();
    assert!(slow.all(&tenant).await.unwrap().is_empty());
    slow.create(&tenant, "{a=\"c\"}", (1, 2), 4).await.unwrap();
    assert_eq!(slow.all(&tenant).await.unwrap().len(), 2);
}

#[tokio::test]
async fn objects_that_are_no_requests_are_left_out() {
    let storage = storage();
    let tenant = TenantId::default();
    let deletes = Deletes::new(storage.clone(), Duration::ZERO);
    deletes.create(&tenant, "{a=\"b\"}", (1, 2), 3).await.unwrap();
    let record = r#""query":"{a=\"b\"}","start_ms":1,"end_ms":2,"created_ms":3"#;
    for (name, text) in [
        ("notes.txt", "hello".to_owned()),
        ("01ARZ3NDEKTSV4RRFFQ69G5FAV.json", "{".to_owned()),
        (
            "01ARZ3NDEKTSV4RRFFQ69G5FAW.json",
            format!("{{\"version\":2,{record}}}"),
        ),
        (
            "01ARZ3NDEKTSV4RRFFQ69G5FAX.json",
            format!("{{\"version\":1,{record}}}").replace("{a=", "{="),
        ),
    ] {
        let path = storage.tenant_root(&tenant).join("deletes").join(name);
        storage.put(&path, text.into()).await.unwrap();
    }
    assert_eq!(deletes.all(&tenant).await.unwrap().len(), 1);
    let path = storage
        .tenant_root(&tenant)
        .join("deletes")
        .join("01ARZ3NDEKTSV4RRFFQ69G5FAX.json");
    storage
        .put(&path, format!("{{\"version\":1,{record}}}").into())
        .await
        .unwrap();
    assert_eq!(
        deletes.all(&tenant).await.unwrap().len(),
        2,
        "a repaired one counts"
    );
}

#[test]
fn a_deletion_is_about_streams_times_and_content() {
    let deletion = |query: &str| {
        let record = DeleteRecord {
            version: record::VERSION,
            query: query.to_owned(),
            start_ms: 1,
            end_ms: 2,
            created_ms: 3,
            processed_ms: None,
        };
        Deletion::new(Ulid::generate(), record)
    };
    let labels = Labels::from_pairs([("a", "b")]);
    let takes = |query: &str, ts: i64, line: &str| {
        let entry = EntryRef {
            ts,
            line,
            metadata: &[("level", "info")],
        };
        deletion(query).unwrap().sieve(&labels).takes(&entry)
    };
    assert!(takes("{a=\"b\"}", 1_000_000, ""));
    assert!(!takes("{a=\"b\"}", 999_999, ""));
    assert!(takes("{a=\"b\"}", 2_000_000, ""));
    assert!(!takes("{a=\"b\"}", 2_000_001, ""));
    assert!(takes("{a=\"b\"} |= \"x\" | level=\"info\"", 1_000_000, "axb"));
    assert!(!takes("{a=\"b\"} |= \"x\" | level=\"info\"", 1_000_000, "ab"));
    assert!(deletion("{a=\"b\"}").unwrap().selects(&labels));
    assert!(!deletion("{a=\"c\"}").unwrap().selects(&labels));
    assert!(deletion("{}").unwrap().selects(&labels));
    for whole in ["{a=\"b\"}", "{a=\"b\"} | json", "{a=\"b\"} |= \"\""] {
        assert!(deletion(whole).unwrap().is_whole(), "{whole}");
    }
    for filter in [
        "{a=\"b\"} |= \"x\"",
        "{a=\"b\"} != \"\"",
        "{a=\"b\"} | json | c=\"d\"",
    ] {
        assert!(!deletion(filter).unwrap().is_whole(), "{filter}");
    }
    for bad in ["", "{", "rate({a=\"b\"}[1m])", "{a=\"b\"} |~ \"(\""] {
        assert_eq!(deletion(bad).unwrap_err(), InvalidQuery, "{bad}");
    }
}
