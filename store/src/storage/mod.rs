//! The object store: opening it, counted requests, coalesced and cached reads. Knows nothing of what objects hold.
//!
//! Three backends behind one type: an S3-compatible bucket, a local folder (every write is temporary file, fsync,
//! rename, fsync of the folder) and memory (for tests and trials).

mod cache;
mod meter;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    RetryConfig,
};

use crate::config::{Secret, StoreUrl};
use crate::metrics as names;
use crate::tenants::TenantId;
pub use cache::DiskCacheConfig;
pub(crate) use cache::MIN_DISK_CACHE_BYTES;
use cache::RangeCache;
pub use meter::{Usage, metered};

/// Gaps up to this many bytes between two wanted ranges are read along with them: cheaper than another request.
const COALESCE_GAP: u64 = 128 << 10;

/// How to reach the object store.
#[derive(Debug, Clone)]
pub struct StorageConfig {
    /// Which one.
    pub url: StoreUrl,
    /// Endpoint of an S3-compatible server; none for AWS itself.
    pub endpoint: Option<String>,
    /// Region, `us-east-1` when neither given nor in the environment.
    pub region: Option<String>,
    /// Access key; without one, credentials come from the environment or the machine's role.
    pub access_key_id: Option<String>,
    /// Its secret.
    pub secret_access_key: Option<Secret>,
    /// Bucket in the path instead of the host name.
    pub path_style: bool,
    /// Allow `http://` endpoints.
    pub allow_http: bool,
    /// Bound of one request; retries together take at most twice as long.
    pub timeout: Duration,
    /// Bytes of recently read ranges kept in memory (S3 only: a folder has the page cache).
    pub cache_bytes: u64,
    /// Where more of them are kept on a local disk (S3 only).
    pub disk_cache: Option<DiskCacheConfig>,
}

/// An open object store, cheap to clone.
#[derive(Debug, Clone)]
pub struct Storage(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    cache: Option<RangeCache>,
}

/// A request to the object store that failed.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The store could not be opened.
    #[error("could not open the store {store}: {reason}")]
    Open {
        /// Its URL.
        store: String,
        /// What is wrong.
        reason: String,
    },
    /// A request failed.
    #[error("could not {operation} {path}: {cause}", cause = one_line(error))]
    Request {
        /// `get`, `put`, `list` or `delete`.
        operation: &'static str,
        /// The object, or the folder listed.
        path: String,
        /// The store's own error. Its text holds that of all its causes, so it isn't told as a `source` again.
        error: object_store::Error,
    },
    /// The store answered with fewer or more bytes than asked for.
    #[error("could not get {path}: {got} bytes instead of {wanted}")]
    Length {
        /// The object.
        path: String,
        /// Bytes that were asked for.
        wanted: u64,
        /// Bytes that came.
        got: u64,
    },
}

impl StorageError {
    /// Whether the object is gone (a compaction may have deleted it: refresh the catalog and try again).
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(
            self,
            Self::Request {
                error: object_store::Error::NotFound { .. },
                ..
            }
        )
    }
}

impl Storage {
    /// Opens the store and the cache before it; creates the folder if it is one. Does not yet talk to a bucket, see
    /// [`Storage::check`].
    ///
    /// # Errors
    /// A folder that can't be created, S3 settings that don't make sense, or a cache folder that another process uses.
    pub async fn open(config: &StorageConfig) -> Result<Self, StorageError> {
        let failed = |reason: String| StorageError::Open {
            store: config.url.to_string(),
            reason,
        };
        let (store, prefix): (Arc<dyn ObjectStore>, Path) = match &config.url {
            StoreUrl::Memory => (Arc::new(InMemory::new()), Path::default()),
            StoreUrl::Folder(folder) => (open_folder(folder).map_err(failed)?, Path::default()),
            StoreUrl::S3 { bucket, prefix } => {
                let prefix = Path::parse(prefix).map_err(|e| failed(e.to_string()))?;
                (
                    open_s3(config, bucket).map_err(|e| failed(e.to_string()))?,
                    prefix,
                )
            }
        };
        let cache = match &config.url {
            StoreUrl::S3 { .. } if config.cache_bytes > 0 || config.disk_cache.is_some() => {
                let scope = format!(
                    "{} {}",
                    config.endpoint.as_deref().unwrap_or_default(),
                    config.url
                );
                let opened = RangeCache::open(&scope, config.cache_bytes, config.disk_cache.as_ref()).await;
                Some(opened.map_err(failed)?)
            }
            _ => None,
        };
        Ok(Self(Arc::new(Inner { store, prefix, cache })))
    }

    /// Wraps an object store that is already open; for tests that inject faults or restart over one memory store.
    #[must_use]
    pub fn from_store(store: Arc<dyn ObjectStore>) -> Self {
        Self(Arc::new(Inner {
            store,
            prefix: Path::default(),
            cache: None,
        }))
    }

    /// The folder of all of the service's objects.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.0.prefix
    }

    /// The folder of a tenant's objects.
    #[must_use]
    pub fn tenant_root(&self, tenant: &TenantId) -> Path {
        self.0.prefix.clone().join(tenant.as_str())
    }

    /// Asks the store a question, so that wrong credentials or a missing bucket show at the start.
    ///
    /// # Errors
    /// What the store answered.
    pub async fn check(&self) -> Result<(), StorageError> {
        self.list_folders(&self.0.prefix).await.map(drop)
    }

    /// Writes an object; when this returns it is durable. An existing one is replaced.
    ///
    /// # Errors
    /// After the backend's own retries.
    pub async fn put(&self, path: &Path, bytes: Bytes) -> Result<(), StorageError> {
        let size = bytes.len();
        let request = self.0.store.put(path, PutPayload::from_bytes(bytes));
        counted("put", path, request).await?;
        count_bytes("put", size);
        Ok(())
    }

    /// Writes an object unless one is there; whether it was written.
    ///
    /// # Errors
    /// As [`Storage::put`].
    pub async fn put_if_absent(&self, path: &Path, bytes: Bytes) -> Result<bool, StorageError> {
        let size = bytes.len();
        let options = PutOptions {
            mode: PutMode::Create,
            ..PutOptions::default()
        };
        let request = self
            .0
            .store
            .put_opts(path, PutPayload::from_bytes(bytes), options);
        match counted("put", path, request).await {
            Ok(_) => {
                count_bytes("put", size);
                Ok(true)
            }
            Err(StorageError::Request {
                error: object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. },
                ..
            }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads a whole object.
    ///
    /// # Errors
    /// The object isn't there, or the store failed.
    pub async fn get(&self, path: &Path) -> Result<Bytes, StorageError> {
        let request = async { self.0.store.get(path).await?.bytes().await };
        let bytes = counted("get", path, request).await?;
        count_bytes("get", bytes.len());
        Ok(bytes)
    }

    /// Reads one range.
    ///
    /// # Errors
    /// As [`Storage::read_ranges`].
    pub async fn read_range(&self, path: &Path, range: Range<u64>) -> Result<Bytes, StorageError> {
        let mut ranges = self.read_ranges(path, std::slice::from_ref(&range)).await?;
        ranges.pop().ok_or_else(|| length_error(path, &range, 0))
    }

    /// Reads one range past the cache: what is read once and never again must not push out what queries come back to.
    ///
    /// # Errors
    /// As [`Storage::read_ranges`].
    pub async fn read_once(&self, path: &Path, range: Range<u64>) -> Result<Bytes, StorageError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let mut fetched = self.fetch(path, std::slice::from_ref(&range)).await?;
        let bytes = fetched.pop().unwrap_or_default();
        if bytes.len() as u64 != range.end - range.start {
            return Err(length_error(path, &range, bytes.len() as u64));
        }
        Ok(bytes)
    }

    /// Reads ranges, near ones in one request, several requests at once. The answer has the order of `ranges`, and
    /// every element exactly its range's length.
    ///
    /// # Errors
    /// The object isn't there ([`StorageError::is_not_found`]), is shorter, or the store failed.
    pub async fn read_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, StorageError> {
        let mut out: Vec<Option<Bytes>> = ranges.iter().map(|_| None).collect();
        if let Some(cache) = &self.0.cache {
            let reads = ranges.iter().map(|range| cache.get(path, range));
            out = futures::future::join_all(reads).await;
        }
        let missing: Vec<(usize, Range<u64>)> = std::iter::zip(0.., ranges)
            .filter(|(index, range)| out.get(*index).is_some_and(Option::is_none) && !range.is_empty())
            .map(|(index, range)| (index, range.clone()))
            .collect();
        let wanted: Vec<Range<u64>> = missing.iter().map(|(_, range)| range.clone()).collect();
        let fetched = self.fetch(path, &wanted).await?;
        for ((index, range), bytes) in missing.into_iter().zip(fetched) {
            if bytes.len() as u64 != range.end - range.start {
                return Err(length_error(path, &range, bytes.len() as u64));
            }
            if let Some(cache) = &self.0.cache {
                cache.insert(path, &range, &bytes);
            }
            if let Some(slot) = out.get_mut(index) {
                *slot = Some(bytes);
            }
        }
        Ok(out.into_iter().map(Option::unwrap_or_default).collect())
    }

    async fn fetch(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, StorageError> {
        if ranges.is_empty() {
            return Ok(Vec::new());
        }
        let get = |range: Range<u64>| async move {
            let bytes = counted("get", path, self.0.store.get_range(path, range)).await?;
            count_bytes("get", bytes.len());
            Ok(bytes)
        };
        object_store::coalesce_ranges(ranges, get, COALESCE_GAP).await
    }

    /// All objects below a folder, in no particular order.
    ///
    /// # Errors
    /// What the store answered.
    pub async fn list(&self, folder: &Path) -> Result<Vec<ObjectMeta>, StorageError> {
        counted("list", folder, self.0.store.list(Some(folder)).try_collect()).await
    }

    /// The objects below a folder whose paths come after `after`, in no particular order: on a bucket the request
    /// starts there.
    ///
    /// # Errors
    /// What the store answered.
    pub async fn list_after(&self, folder: &Path, after: &Path) -> Result<Vec<ObjectMeta>, StorageError> {
        let listing = self.0.store.list_with_offset(Some(folder), after);
        counted("list", folder, listing.try_collect()).await
    }

    /// The folders right below a folder.
    ///
    /// # Errors
    /// What the store answered.
    pub async fn list_folders(&self, folder: &Path) -> Result<Vec<Path>, StorageError> {
        let listing = counted("list", folder, self.0.store.list_with_delimiter(Some(folder))).await?;
        Ok(listing.common_prefixes)
    }

    /// Deletes an object; one that is already gone is no error.
    ///
    /// # Errors
    /// What the store answered.
    pub async fn delete(&self, path: &Path) -> Result<(), StorageError> {
        match counted("delete", path, self.0.store.delete(path)).await {
            Err(error) if error.is_not_found() => Ok(()),
            other => other,
        }
    }
}

impl Storage {
    /// Writes what the disk cache still has in memory; part of an orderly end, and not needed for a correct restart.
    pub async fn close(&self) {
        if let Some(cache) = &self.0.cache {
            cache.close().await;
        }
    }
}

fn length_error(path: &Path, range: &Range<u64>, got: u64) -> StorageError {
    StorageError::Length {
        path: path.to_string(),
        wanted: range.end.saturating_sub(range.start),
        got,
    }
}

/// Runs a request, counts it and its outcome, and names operation and object in its error.
async fn counted<T>(
    operation: &'static str,
    path: &Path,
    request: impl Future<Output = object_store::Result<T>>,
) -> Result<T, StorageError> {
    let start = Instant::now();
    let result = request.await;
    let outcome = match &result {
        Ok(_) => "ok",
        Err(object_store::Error::NotFound { .. }) => "not_found",
        Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => "exists",
        Err(_) => "error",
    };
    metrics::counter!(names::STORAGE_REQUESTS, "operation" => operation, "outcome" => outcome).increment(1);
    meter::note(|usage| match operation {
        "get" => usage.gets += 1,
        "list" => usage.lists += 1,
        _ => {}
    });
    metrics::histogram!(names::STORAGE_SECONDS, "operation" => operation)
        .record(start.elapsed().as_secs_f64());
    result.map_err(|error| StorageError::Request {
        operation,
        path: path.to_string(),
        error,
    })
}

/// A store's answer may be a whole XML document: its end says little to people.
fn one_line(error: &object_store::Error) -> String {
    const ENOUGH: usize = 500;
    let mut text = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    if text.len() > ENOUGH {
        text.truncate(text.floor_char_boundary(ENOUGH));
        text.push('…');
    }
    text
}

fn count_bytes(operation: &'static str, bytes: usize) {
    if operation == "get" {
        meter::note(|usage| usage.bytes += bytes as u64);
    }
    metrics::counter!(names::STORAGE_BYTES, "operation" => operation).increment(bytes as u64);
}

fn open_folder(folder: &PathBuf) -> Result<Arc<dyn ObjectStore>, String> {
    std::fs::create_dir_all(folder).map_err(|e| format!("could not create the folder: {e}"))?;
    let store = LocalFileSystem::new_with_prefix(folder).map_err(|e| e.to_string())?;
    Ok(Arc::new(store.with_fsync(true)))
}

fn open_s3(config: &StorageConfig, bucket: &str) -> object_store::Result<Arc<dyn ObjectStore>> {
    let retry = RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(5),
            base: 2.0,
        },
        max_retries: 6,
        retry_timeout: config.timeout.saturating_mul(2),
    };
    let client = ClientOptions::new()
        .with_timeout(config.timeout)
        .with_connect_timeout(config.timeout.min(Duration::from_secs(5)));
    // The environment's AWS_* variables are the fallback for what the configuration leaves open.
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_client_options(client.with_allow_http(config.allow_http))
        .with_retry(retry)
        .with_virtual_hosted_style_request(!config.path_style)
        .with_conditional_put(S3ConditionalPut::ETagMatch);
    if let Some(endpoint) = &config.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(region) = &config.region {
        builder = builder.with_region(region);
    }
    if let Some(id) = &config.access_key_id {
        builder = builder.with_access_key_id(id);
    }
    if let Some(secret) = &config.secret_access_key {
        builder = builder.with_secret_access_key(secret.reveal());
    }
    Ok(Arc::new(builder.build()?))
}

#[cfg(test)]
mod tests;
