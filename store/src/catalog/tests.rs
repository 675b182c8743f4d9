#![allow(clippy::unwrap_used)]
use super::*;
use bytes::Bytes;
use rankline_segment::{SegmentWriter, WriterOptions};

fn storage() -> Storage {
    Storage::from_store(Arc::new(object_store::memory::InMemory::new()))
}

fn catalog(storage: &Storage, refresh: Duration) -> Catalog {
    Catalog::new(
        storage.clone(),
        CatalogOptions {
            refresh,
            cache_bytes: 1 << 20,
        },
    )
}

/// Writes a segment with one entry each at `times`, all of one stream.
async fn write(
    storage: &Storage,
    tenant: &TenantId,
    level: u8,
    id: u64,
    replaces: &[u64],
    times: &[i64],
) -> SegmentKey {
    let ulid = |n: u64| Ulid::from_parts(n, 0);
    let replaces = replaces.iter().copied().map(ulid).collect();
    let mut writer = SegmentWriter::new(WriterOptions {
        level,
        replaces,
        ..WriterOptions::default()
    });
    writer.begin_stream(&[("a", "b")]).unwrap();
    for ts in times {
        writer.push(*ts, "line", &[]).unwrap();
    }
    let finished = writer.finish().unwrap();
    let (min_ts, max_ts) = (finished.footer.min_ts, finished.footer.max_ts);
    let key = SegmentKey {
        level,
        day: Day::of(min_ts),
        min_ts,
        max_ts,
        id: ulid(id),
    };
    storage
        .put(
            &key.path(&storage.tenant_root(tenant)),
            Bytes::from(finished.bytes),
        )
        .await
        .unwrap();
    key
}

async fn ids(catalog: &Catalog, tenant: &TenantId, start: i64, end: i64) -> Vec<u64> {
    let segments = catalog.segments(tenant, start, end).await.unwrap();
    segments
        .iter()
        .map(|segment| segment.key.id.timestamp_ms())
        .collect()
}

#[tokio::test]
async fn segments_are_picked_by_day_and_time() {
    let (storage, tenant) = (storage(), TenantId::default());
    for (id, times) in [
        (3, vec![10, 20]),
        (1, vec![30]),
        (2, vec![DAY_NS + 5]),
        (4, vec![100 * DAY_NS]),
        (5, vec![-7]),
    ] {
        write(&storage, &tenant, 0, id, &[], &times).await;
    }
    let catalog = catalog(&storage, Duration::ZERO);
    assert_eq!(ids(&catalog, &tenant, 0, 31).await, [1, 3]);
    assert_eq!(ids(&catalog, &tenant, 20, 30).await, [3]);
    assert_eq!(ids(&catalog, &tenant, 21, 30).await, [] as [u64; 0]);
    assert_eq!(ids(&catalog, &tenant, 30, DAY_NS + 6).await, [1, 2]);
    assert_eq!(ids(&catalog, &tenant, i64::MIN, i64::MAX).await, [1, 2, 3, 4, 5]);
    assert_eq!(ids(&catalog, &tenant, 5, 5).await, [] as [u64; 0]);
    let other = TenantId::new("other").unwrap();
    assert_eq!(ids(&catalog, &other, i64::MIN, i64::MAX).await, [] as [u64; 0]);
    assert_eq!(catalog.tenants().await.unwrap(), [tenant]);
}

#[tokio::test]
async fn replaced_segments_are_left_out() {
    let (storage, tenant) = (storage(), TenantId::default());
    write(&storage, &tenant, 0, 1, &[], &[1]).await;
    write(&storage, &tenant, 0, 2, &[], &[2]).await;
    write(&storage, &tenant, 0, 3, &[], &[3]).await;
    write(&storage, &tenant, 1, 4, &[1, 2], &[1, 2]).await;
    write(&storage, &tenant, 1, 5, &[], &[9]).await;
    write(&storage, &tenant, 2, 6, &[4], &[1, 2]).await;
    let catalog = catalog(&storage, Duration::ZERO);
    assert_eq!(ids(&catalog, &tenant, 0, 10).await, [3, 5, 6]);
}

#[tokio::test]
async fn listings_are_kept_for_a_moment_but_own_writes_show_at_once() {
    let (storage, tenant) = (storage(), TenantId::default());
    let catalog = catalog(&storage, Duration::from_secs(3600));
    assert!(ids(&catalog, &tenant, 0, 10).await.is_empty());
    let key = write(&storage, &tenant, 0, 1, &[], &[1]).await;
    assert!(ids(&catalog, &tenant, 0, 10).await.is_empty());
    let other = write(&storage, &tenant, 0, 2, &[], &[2]).await;
    let bytes = storage
        .get(&other.path(&storage.tenant_root(&tenant)))
        .await
        .unwrap();
    let footer = SegmentFooter::parse(&bytes.slice({
        let range = locate_footer(&bytes, bytes.len() as u64).unwrap();
        range.start as usize..range.end as usize
    }));
    catalog.insert(Arc::new(catalog.segment(
        &tenant,
        other,
        bytes.len() as u64,
        footer.unwrap(),
    )));
    assert_eq!(ids(&catalog, &tenant, 0, 10).await, [2]);
    catalog.refresh(&tenant);
    assert_eq!(ids(&catalog, &tenant, 0, 10).await, [1, 2]);
    catalog.remove(&tenant, &key);
    assert_eq!(ids(&catalog, &tenant, 0, 10).await, [2]);
}

#[tokio::test]
async fn a_deleted_segment_is_no_error() {
    let (storage, tenant) = (storage(), TenantId::default());
    let key = write(&storage, &tenant, 0, 1, &[], &[1]).await;
    write(&storage, &tenant, 0, 2, &[], &[2]).await;
    let catalog = catalog(&storage, Duration::from_secs(3600));
    // Listed, but the footers not yet read.
    catalog
        .listing(&tenant)
        .known(&storage, Duration::ZERO, 0, 10)
        .await
        .unwrap();
    storage
        .delete(&key.path(&storage.tenant_root(&tenant)))
        .await
        .unwrap();
    assert_eq!(ids(&catalog, &tenant, 0, 10).await, [2]);
}

#[tokio::test]
async fn strays_are_passed_over_and_broken_segments_named() {
    let (storage, tenant) = (storage(), TenantId::default());
    let key = write(&storage, &tenant, 0, 1, &[], &[1]).await;
    let folder = day_folder(&storage.tenant_root(&tenant), 0, key.day);
    storage
        .put(&folder.clone().join("notes.txt"), Bytes::from_static(b"hi"))
        .await
        .unwrap();
    let broken = SegmentKey {
        id: Ulid::from_parts(2, 0),
        min_ts: 5,
        max_ts: 6,
        ..key
    };
    let path = broken.path(&storage.tenant_root(&tenant));
    storage
        .put(
            &path,
            Bytes::from_static(b"this is no segment at all, whatever its name says"),
        )
        .await
        .unwrap();
    let catalog = catalog(&storage, Duration::ZERO);
    assert_eq!(ids(&catalog, &tenant, 0, 5).await, [1]);
    let error = catalog.segments(&tenant, 0, 6).await.unwrap_err();
    assert!(
        matches!(error, CatalogError::Corrupt { .. }) && error.to_string().contains(path.as_ref()),
        "{error}"
    );
    // An empty object, as a crash of some stores leaves it.
    storage.put(&path, Bytes::new()).await.unwrap();
    assert!(catalog.segments(&tenant, 0, 6).await.is_err());
}

#[tokio::test]
async fn tenants_with_odd_names_are_found() {
    let storage = storage();
    let names = ["a*b", "leases", "x'(y)!"];
    for name in names {
        write(&storage, &TenantId::new(name).unwrap(), 0, 1, &[], &[1]).await;
    }
    storage
        .put(&Path::from("leases/compaction/t/1"), Bytes::new())
        .await
        .unwrap();
    let found = catalog(&storage, Duration::ZERO).tenants().await.unwrap();
    assert_eq!(found.iter().map(TenantId::as_str).collect::<Vec<_>>(), names);
    let empty = self::storage();
    empty
        .put(&Path::from("leases/compaction/t/1"), Bytes::new())
        .await
        .unwrap();
    assert!(
        catalog(&empty, Duration::ZERO)
            .tenants()
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn thousands_of_segments_are_listed_and_read() {
    let (storage, tenant) = (storage(), TenantId::default());
    for id in 1..=3000 {
        write(&storage, &tenant, 0, id, &[], &[id.cast_signed()]).await;
    }
    let catalog = catalog(&storage, Duration::from_secs(1));
    assert_eq!(ids(&catalog, &tenant, 0, 5000).await.len(), 3000);
    assert_eq!(ids(&catalog, &tenant, 100, 200).await.len(), 100);
}
