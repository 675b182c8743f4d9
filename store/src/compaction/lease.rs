//! Who may compact a tenant: one replica for each window of time. Knows nothing of segments.
//!
//! A lease is an object that only one replica can create. It needs no renewal: the next window has another name. A
//! replica that stops gives its own back, so that whoever starts in its place need not wait for the next window; one
//! that dies can't. Two replicas at work at once (a merge that outlasts its window, clocks apart) waste work, nothing
//! else.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use object_store::path::Path;
use parking_lot::Mutex;

use crate::storage::{Storage, StorageError};
use crate::tenants::TenantId;

const WINDOW: Duration = Duration::from_secs(60);
/// Windows after which a lease object is deleted: long after any clock could still mean it.
const KEEP_WINDOWS: u64 = 10;

/// The leases this replica tried to take.
#[derive(Debug, Default)]
pub(super) struct Leases {
    /// The last window tried, and whether it is ours.
    tried: Mutex<HashMap<TenantId, (u64, bool)>>,
}

impl Leases {
    /// Whether this replica may compact the tenant now; asks the store once a window.
    pub(super) async fn holds(
        &self,
        storage: &Storage,
        tenant: &TenantId,
        now: SystemTime,
    ) -> Result<bool, StorageError> {
        let window = window_of(now);
        if let Some(&(tried, ours)) = self.tried.lock().get(tenant)
            && tried == window
        {
            return Ok(ours);
        }
        let folder = folder(storage, tenant);
        let ours = storage
            .put_if_absent(&folder.clone().join(window.to_string()), Bytes::new())
            .await?;
        self.tried.lock().insert(tenant.clone(), (window, ours));
        if ours {
            delete_old(storage, &folder, window).await?;
        }
        Ok(ours)
    }

    /// Gives back what this replica holds: it compacts nothing more.
    pub(super) async fn release(&self, storage: &Storage, now: SystemTime) -> Result<(), StorageError> {
        let held: Vec<_> = self.tried.lock().drain().collect();
        for (tenant, (window, ours)) in held {
            // Older ones mean nothing any more.
            if ours && window >= window_of(now) {
                storage
                    .delete(&folder(storage, &tenant).join(window.to_string()))
                    .await?;
            }
        }
        Ok(())
    }
}

/// The window a time is in, counted from the epoch.
fn window_of(now: SystemTime) -> u64 {
    now.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
        / WINDOW.as_secs()
}

/// Where a tenant's leases are.
fn folder(storage: &Storage, tenant: &TenantId) -> Path {
    storage
        .root()
        .clone()
        .join("leases")
        .join("compaction")
        .join(tenant.as_str())
}

async fn delete_old(storage: &Storage, folder: &Path, window: u64) -> Result<(), StorageError> {
    for object in storage.list(folder).await? {
        let of = object
            .location
            .filename()
            .and_then(|name| name.parse::<u64>().ok());
        if of.is_some_and(|of| of.saturating_add(KEEP_WINDOWS) < window) {
            storage.delete(&object.location).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use object_store::memory::InMemory;

    use super::*;

    #[tokio::test]
    async fn one_replica_holds_a_window() {
        let storage = Storage::from_store(Arc::new(InMemory::new()));
        let (a, b) = (Leases::default(), Leases::default());
        let (one, other) = (TenantId::default(), TenantId::new("other").unwrap());
        let now = SystemTime::UNIX_EPOCH + WINDOW * 1000;
        assert!(a.holds(&storage, &one, now).await.unwrap());
        assert!(a.holds(&storage, &one, now + WINDOW / 2).await.unwrap());
        assert!(!b.holds(&storage, &one, now).await.unwrap());
        assert!(b.holds(&storage, &other, now).await.unwrap());
        assert!(b.holds(&storage, &one, now + WINDOW).await.unwrap());
        assert!(!a.holds(&storage, &one, now + WINDOW).await.unwrap());
        assert!(a.holds(&storage, &one, now + WINDOW * 20).await.unwrap());
        let left = storage.list(&Path::from("leases/compaction/fake")).await.unwrap();
        assert_eq!(left.len(), 1, "old leases are deleted");
    }
    #[tokio::test]
    async fn a_replica_that_stops_gives_its_leases_back() {
        let storage = Storage::from_store(Arc::new(InMemory::new()));
        let (a, b, c) = (Leases::default(), Leases::default(), Leases::default());
        let tenant = TenantId::default();
        let now = SystemTime::UNIX_EPOCH + WINDOW * 1000;
        assert!(a.holds(&storage, &tenant, now).await.unwrap());
        assert!(!b.holds(&storage, &tenant, now).await.unwrap());
        // Not its own to give.
        b.release(&storage, now).await.unwrap();
        assert!(!c.holds(&storage, &tenant, now).await.unwrap());
        a.release(&storage, now).await.unwrap();
        assert!(b.holds(&storage, &tenant, now).await.unwrap());
    }
}
