//! Ranges of objects that were read before: the latest in memory, many more on a local disk, where a restart finds
//! them again. Knows nothing of what the ranges hold.
//!
//! Objects never change and their names never come back, so nothing here can be out of date; what is deleted in the
//! bucket is asked for no more and ages out. The disk is only ever a copy: a range whose checksum doesn't hold, and any
//! error of the disk, is a read from the bucket instead.

use std::fs::{File, TryLockError};
use std::ops::Range;
use std::path::PathBuf;

use bytes::Bytes;
use foyer::{
    BlockEngineConfig, DeviceBuilder, FsDeviceBuilder, HybridCache, HybridCacheBuilder, HybridCachePolicy,
    PsyncIoEngineConfig, RecoverMode, Source,
};
use object_store::path::Path;

use super::meter;
use crate::metrics as names;

/// Largest range that is kept; larger ones would push out too much.
const MAX_CACHED_RANGE: usize = 4 << 20;
/// The disk is used in files of this size: a multiple of the largest range, and small against the smallest cache.
const FILE_BYTES: usize = 16 << 20;
/// Least size of a cache on disk.
pub(crate) const MIN_DISK_CACHE_BYTES: u64 = 8 * FILE_BYTES as u64;

/// A cache on a local disk.
#[derive(Debug, Clone)]
pub struct DiskCacheConfig {
    /// Its folder; one for each process.
    pub folder: PathBuf,
    /// Most bytes it takes.
    pub bytes: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct RangeCache {
    ranges: HybridCache<String, Bytes>,
    /// Which bucket this is: a folder may have served another one before.
    scope: String,
    /// Held while the process lives, so that two don't write the same files.
    _lock: Option<File>,
}

impl RangeCache {
    /// Opens a cache of `memory` bytes, and of a folder behind it.
    ///
    /// # Errors
    /// The folder can't be made or written, or another process uses it; said in words.
    pub(super) async fn open(
        scope: &str,
        memory: u64,
        disk: Option<&DiskCacheConfig>,
    ) -> Result<Self, String> {
        let weight = |key: &String, bytes: &Bytes| key.len() + bytes.len() + 64;
        let builder = HybridCacheBuilder::new()
            // At once, not when memory is full: a killed process finds everything again too.
            .with_policy(HybridCachePolicy::WriteOnInsertion)
            .memory(usize::try_from(memory).unwrap_or(usize::MAX))
            .with_weighter(weight)
            .storage()
            .with_recover_mode(RecoverMode::Quiet);
        let Some(disk) = disk else {
            let ranges = builder.build().await.map_err(|error| error.to_string())?;
            return Ok(Self::new(scope, ranges, None));
        };
        let named = |reason: String| format!("disk cache {}: {reason}", disk.folder.display());
        std::fs::create_dir_all(&disk.folder)
            .map_err(|e| named(format!("could not create the folder: {e}")))?;
        let lock = lock(disk).map_err(named)?;
        let device = FsDeviceBuilder::new(disk.folder.join("ranges"))
            .with_capacity(usize::try_from(disk.bytes).unwrap_or(usize::MAX))
            .build()
            .map_err(|e| named(e.to_string()))?;
        let ranges = builder
            .with_io_engine_config(PsyncIoEngineConfig::new())
            .with_engine_config(BlockEngineConfig::new(device).with_block_size(FILE_BYTES))
            .build()
            .await
            .map_err(|e| named(e.to_string()))?;
        Ok(Self::new(scope, ranges, Some(lock)))
    }

    fn new(scope: &str, ranges: HybridCache<String, Bytes>, lock: Option<File>) -> Self {
        Self {
            ranges,
            scope: scope.to_owned(),
            _lock: lock,
        }
    }

    /// A range, if it is here.
    pub(super) async fn get(&self, path: &Path, range: &Range<u64>) -> Option<Bytes> {
        if range.is_empty() {
            return None;
        }
        let key = self.key(path, range);
        if let Some(entry) = self.ranges.memory().get(&key) {
            return counted("memory", Some(entry.value().clone()));
        }
        if !self.ranges.is_hybrid() {
            return counted("miss", None);
        }
        match self.ranges.get(&key).await {
            Ok(Some(entry)) if entry.value().len() as u64 == range.end - range.start => {
                let place = if entry.source() == Source::Disk {
                    "disk"
                } else {
                    "memory"
                };
                counted(place, Some(entry.value().clone()))
            }
            Ok(_) => counted("miss", None),
            Err(error) => {
                tracing::debug!(%error, key, "the disk cache could not be read; reading from the bucket");
                counted("error", None)
            }
        }
    }

    /// Keeps a range, unless it is too large.
    pub(super) fn insert(&self, path: &Path, range: &Range<u64>, bytes: &Bytes) {
        if bytes.len() <= MAX_CACHED_RANGE {
            // A copy of its own, so that a small range doesn't keep a large coalesced read alive.
            self.ranges
                .insert(self.key(path, range), Bytes::copy_from_slice(bytes));
        }
    }

    /// Waits until everything that was inserted is on disk.
    pub(super) async fn close(&self) {
        if let Err(error) = self.ranges.close().await {
            tracing::debug!(%error, "the disk cache did not close; it is filled again from the bucket");
        }
    }

    fn key(&self, path: &Path, range: &Range<u64>) -> String {
        format!("{} {path} {}-{}", self.scope, range.start, range.end)
    }
}

fn counted(outcome: &'static str, bytes: Option<Bytes>) -> Option<Bytes> {
    meter::note(|usage| match outcome {
        "memory" => usage.from_memory += 1,
        "disk" => usage.from_disk += 1,
        _ => {}
    });
    metrics::counter!(names::STORAGE_CACHE_READS, "outcome" => outcome).increment(1);
    bytes
}

fn lock(disk: &DiskCacheConfig) -> Result<File, String> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(disk.folder.join("lock"))
        .map_err(|e| format!("could not write into the folder: {e}"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err("another process uses it: give every process a folder of its own".to_owned())
        }
        Err(TryLockError::Error(error)) => Err(format!("could not lock the folder: {error}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn disk(folder: &std::path::Path) -> DiskCacheConfig {
        DiskCacheConfig {
            folder: folder.to_owned(),
            bytes: MIN_DISK_CACHE_BYTES,
        }
    }

    fn bytes_of(number: u64, len: usize) -> Bytes {
        (0..len as u64)
            .map(|i| (number.wrapping_mul(31) + i) as u8)
            .collect()
    }

    async fn found(cache: &RangeCache, numbers: Range<u64>, len: usize) -> usize {
        let mut found = 0;
        for number in numbers {
            let path = Path::from(format!("t/{number}.seg"));
            if let Some(bytes) = cache.get(&path, &(5..5 + len as u64)).await {
                assert_eq!(bytes, bytes_of(number, len), "range of object {number}");
                found += 1;
            }
        }
        found
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_restart_finds_the_ranges_of_its_own_bucket_only() {
        let temp = tempfile::tempdir().unwrap();
        let len = 10_000;
        let cache = RangeCache::open("one", 1 << 20, Some(&disk(temp.path())))
            .await
            .unwrap();
        for number in 0..500 {
            let path = Path::from(format!("t/{number}.seg"));
            cache.insert(&path, &(5..5 + len as u64), &bytes_of(number, len));
        }
        let busy = RangeCache::open("one", 1 << 20, Some(&disk(temp.path())))
            .await
            .unwrap_err();
        assert!(busy.contains("another process"), "{busy}");
        cache.close().await;
        drop(cache);
        let other = RangeCache::open("two", 1 << 20, Some(&disk(temp.path())))
            .await
            .unwrap();
        assert_eq!(found(&other, 0..500, len).await, 0);
        other.close().await;
        drop(other);
        let again = RangeCache::open("one", 0, Some(&disk(temp.path())))
            .await
            .unwrap();
        assert_eq!(found(&again, 0..500, len).await, 500);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn damaged_files_give_misses_and_never_wrong_bytes() {
        let temp = tempfile::tempdir().unwrap();
        let len = 50_000;
        let cache = RangeCache::open("one", 0, Some(&disk(temp.path())))
            .await
            .unwrap();
        for number in 0..200 {
            let path = Path::from(format!("t/{number}.seg"));
            cache.insert(&path, &(5..5 + len as u64), &bytes_of(number, len));
        }
        cache.close().await;
        drop(cache);
        for file in std::fs::read_dir(temp.path().join("ranges")).unwrap() {
            let path = file.unwrap().path();
            let mut bytes = std::fs::read(&path).unwrap();
            bytes.iter_mut().step_by(70_001).for_each(|byte| *byte ^= 0x55);
            std::fs::write(path, bytes).unwrap();
        }
        let damaged = RangeCache::open("one", 0, Some(&disk(temp.path())))
            .await
            .unwrap();
        let left = found(&damaged, 0..200, len).await;
        assert!(left < 200, "the damage must show");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn it_stays_inside_its_bound() {
        let temp = tempfile::tempdir().unwrap();
        let len = 1 << 20;
        let cache = RangeCache::open("one", 4 << 20, Some(&disk(temp.path())))
            .await
            .unwrap();
        for number in 0..400 {
            let path = Path::from(format!("t/{number}.seg"));
            cache.insert(&path, &(5..5 + len as u64), &bytes_of(number, len));
            if number % 8 == 0 {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        }
        cache.close().await;
        let files = std::fs::read_dir(temp.path().join("ranges")).unwrap();
        let size: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
        assert!(size <= MIN_DISK_CACHE_BYTES, "{size}");
        assert!(cache.ranges.memory().usage() <= 4 << 20);
    }
}
