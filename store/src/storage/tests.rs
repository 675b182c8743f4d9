#![allow(clippy::unwrap_used)]
use super::*;

async fn folder(path: &std::path::Path) -> Storage {
    Storage::open(&crate::config::Config::for_tests(StoreUrl::Folder(path.to_owned())).storage())
        .await
        .unwrap()
}

async fn behaves(storage: &Storage) {
    let path = storage
        .tenant_root(&TenantId::new("a*b").unwrap())
        .join("x")
        .join("one");
    storage
        .put(&path, Bytes::from_static(b"0123456789"))
        .await
        .unwrap();
    assert_eq!(storage.get(&path).await.unwrap(), "0123456789");
    let got = storage
        .read_ranges(&path, &[8..10, 0..1, 3..3, 2..4])
        .await
        .unwrap();
    assert_eq!(got, ["89", "0", "", "23"]);
    assert!(storage.read_range(&path, 5..50).await.is_err());
    assert!(
        !storage
            .put_if_absent(&path, Bytes::from_static(b"z"))
            .await
            .unwrap()
    );
    let other = storage.root().clone().join("other");
    assert!(
        storage
            .put_if_absent(&other, Bytes::from_static(b"z"))
            .await
            .unwrap()
    );
    let listed = storage
        .list(&storage.tenant_root(&TenantId::new("a*b").unwrap()))
        .await
        .unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].location.clone(), listed[0].size), (path.clone(), 10));
    assert!(storage.list(&Path::from("absent")).await.unwrap().is_empty());
    assert_eq!(storage.list_folders(storage.root()).await.unwrap().len(), 1);
    storage.delete(&path).await.unwrap();
    storage.delete(&path).await.unwrap();
    assert!(storage.get(&path).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn memory_and_folder_behave_alike() {
    behaves(&Storage::from_store(Arc::new(InMemory::new()))).await;
    let temp = tempfile::tempdir().unwrap();
    behaves(&folder(temp.path()).await).await;
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_named() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::write(temp.path().join("file"), "").unwrap();
    let config = crate::config::Config::for_tests(StoreUrl::Folder(temp.path().join("file/sub")));
    let error = Storage::open(&config.storage()).await.unwrap_err().to_string();
    assert!(error.contains("file/sub"), "{error}");
}
