//! Delete requests: where they are kept, who knows them, and which entries they are about.
//!
//! A request is an object of its own beside the tenant's segments, so every replica sees it within a refresh, and a
//! restart forgets none. Queries leave its entries out from then on; compaction removes them from segments once the
//! time to cancel is over. Knows nothing of queries, segments or HTTP.

mod deletion;
mod record;

pub use deletion::{Deletion, InvalidQuery, Sieve, has_filter};
pub use record::{DeleteRecord, DeleteStatus};

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use object_store::ObjectMeta;
use object_store::path::Path;
use parking_lot::Mutex;
use ulid::Ulid;

use crate::metrics as names;
use crate::storage::{Storage, StorageError};
use crate::tenants::TenantId;

/// Objects read at once.
const READS_AT_ONCE: usize = 8;

/// A request could not be stored or found.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    /// The query is none that deletes.
    #[error(transparent)]
    Query(#[from] InvalidQuery),
    /// The object store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// All requests of all tenants, each tenant's listed anew when older than `refresh`.
#[derive(Debug)]
pub struct Deletes {
    storage: Storage,
    refresh: Duration,
    tenants: Mutex<HashMap<TenantId, Arc<TenantDeletes>>>,
}

#[derive(Debug, Default)]
struct TenantDeletes {
    /// The turn to list: one request answers everyone who waits.
    state: tokio::sync::Mutex<Listed>,
}

#[derive(Debug, Default)]
struct Listed {
    at: Option<Instant>,
    /// By object, with what tells whether it has changed; `None` for one that can't be read.
    objects: HashMap<Path, (Stamp, Option<Arc<Deletion>>)>,
    all: Arc<[Arc<Deletion>]>,
}

/// Changes whenever an object does.
type Stamp = (Option<String>, i64, u64);

fn stamp(meta: &ObjectMeta) -> Stamp {
    let modified = meta.last_modified.timestamp_micros();
    (meta.e_tag.clone(), modified, meta.size)
}

impl Deletes {
    /// Reads nothing yet.
    #[must_use]
    pub fn new(storage: Storage, refresh: Duration) -> Self {
        Self {
            storage,
            refresh,
            tenants: Mutex::default(),
        }
    }

    /// A tenant's requests, the oldest first.
    ///
    /// # Errors
    /// The store failed. An object that is no request is reported once and left out.
    pub async fn all(&self, tenant: &TenantId) -> Result<Arc<[Arc<Deletion>]>, StorageError> {
        let known = self.tenant(tenant);
        let mut listed = known.state.lock().await;
        if listed.at.is_none_or(|at| at.elapsed() >= self.refresh) {
            // The answer is as old as the question.
            let asked = Instant::now();
            let metas = self.storage.list(&self.folder(tenant)).await?;
            self.take_listing(&mut listed, metas).await?;
            listed.at = Some(asked);
        }
        Ok(Arc::clone(&listed.all))
    }

    /// One request.
    ///
    /// # Errors
    /// The store failed.
    pub async fn find(&self, tenant: &TenantId, id: Ulid) -> Result<Option<Arc<Deletion>>, StorageError> {
        self.expire(tenant).await;
        let all = self.all(tenant).await?;
        Ok(all.iter().find(|deletion| deletion.id == id).cloned())
    }

    /// Stores a new request; from the answer on, this replica's queries leave its entries out.
    ///
    /// # Errors
    /// See [`DeleteError`].
    pub async fn create(
        &self,
        tenant: &TenantId,
        query: &str,
        (start_ms, end_ms): (i64, i64),
        created_ms: i64,
    ) -> Result<Ulid, DeleteError> {
        let record = DeleteRecord {
            version: record::VERSION,
            query: query.to_owned(),
            start_ms,
            end_ms,
            created_ms,
            processed_ms: None,
        };
        let deletion = Deletion::new(Ulid::generate(), record)?;
        self.write(tenant, deletion.id, &deletion.record).await?;
        Ok(deletion.id)
    }

    /// Forgets a request: entries that are still stored are seen again.
    ///
    /// # Errors
    /// The store failed.
    pub async fn cancel(&self, tenant: &TenantId, id: Ulid) -> Result<(), StorageError> {
        let deleted = self.storage.delete(&self.path(tenant, id)).await;
        self.expire(tenant).await;
        deleted
    }

    /// Notes that nothing of what a request names is left.
    ///
    /// # Errors
    /// The store failed.
    pub async fn finish(
        &self,
        tenant: &TenantId,
        deletion: &Deletion,
        now_ms: i64,
    ) -> Result<(), StorageError> {
        let record = DeleteRecord {
            processed_ms: Some(now_ms),
            ..deletion.record.clone()
        };
        self.write(tenant, deletion.id, &record).await
    }

    async fn write(&self, tenant: &TenantId, id: Ulid, record: &DeleteRecord) -> Result<(), StorageError> {
        // A struct of texts and numbers always becomes JSON.
        let bytes = serde_json::to_vec(record).unwrap_or_default();
        let written = self.storage.put(&self.path(tenant, id), bytes.into()).await;
        self.expire(tenant).await;
        written
    }

    async fn expire(&self, tenant: &TenantId) {
        self.tenant(tenant).state.lock().await.at = None;
    }

    fn tenant(&self, tenant: &TenantId) -> Arc<TenantDeletes> {
        Arc::clone(self.tenants.lock().entry(tenant.clone()).or_default())
    }

    fn folder(&self, tenant: &TenantId) -> Path {
        self.storage.tenant_root(tenant).join("deletes")
    }

    fn path(&self, tenant: &TenantId, id: Ulid) -> Path {
        self.folder(tenant).join(format!("{id}.json"))
    }

    /// Reads the objects that are new or have changed.
    async fn take_listing(&self, listed: &mut Listed, metas: Vec<ObjectMeta>) -> Result<(), StorageError> {
        let before = std::mem::take(&mut listed.objects);
        let read = futures::stream::iter(metas).map(|meta| {
            let same = before.get(&meta.location).filter(|(was, _)| *was == stamp(&meta));
            let known = same.map(|(_, deletion)| deletion.clone());
            async move {
                let deletion = match known {
                    Some(known) => known,
                    None => match self.storage.get(&meta.location).await {
                        Ok(bytes) => parsed(&meta.location, &bytes),
                        // Cancelled between the listing and now.
                        Err(error) if error.is_not_found() => return Ok(None),
                        Err(error) => return Err(error),
                    },
                };
                Ok(Some((meta.location.clone(), (stamp(&meta), deletion))))
            }
        });
        let read: Result<Vec<_>, StorageError> = read.buffered(READS_AT_ONCE).try_collect().await;
        match read {
            Ok(objects) => listed.objects = objects.into_iter().flatten().collect(),
            Err(error) => {
                listed.objects = before;
                return Err(error);
            }
        }
        let mut all: Vec<Arc<Deletion>> = listed
            .objects
            .values()
            .filter_map(|(_, deletion)| deletion.clone())
            .collect();
        all.sort_by_key(|deletion| (deletion.record.created_ms, deletion.id));
        listed.all = all.into();
        Ok(())
    }
}

/// A request from its object; `None`, reported, for anything else.
fn parsed(path: &Path, bytes: &[u8]) -> Option<Arc<Deletion>> {
    let unusable = |reason: String| {
        metrics::counter!(names::DELETES_UNUSABLE, "reason" => "object").increment(1);
        tracing::error!(%path, reason, "delete request can't be read: its entries are not left out; remove or repair it");
    };
    let name = path.filename().and_then(|name| name.strip_suffix(".json"));
    let Some(id) = name.and_then(|name| Ulid::from_string(name).ok()) else {
        unusable("its name is no id".to_owned());
        return None;
    };
    let record: DeleteRecord = match serde_json::from_slice(bytes) {
        Ok(record) => record,
        Err(error) => {
            unusable(error.to_string());
            return None;
        }
    };
    if record.version > record::VERSION {
        unusable(format!("version {} is newer than this server", record.version));
        return None;
    }
    match Deletion::new(id, record) {
        Ok(deletion) => Some(Arc::new(deletion)),
        Err(error) => {
            unusable(error.to_string());
            None
        }
    }
}

#[cfg(test)]
mod tests;
