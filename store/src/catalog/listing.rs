//! What listings of one tenant's folders say, kept for a moment and joined with what this replica wrote since.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use parking_lot::Mutex;
use ulid::Ulid;

use super::key::{self, Day, MAX_LEVEL, SegmentKey};
use crate::metrics as names;
use crate::storage::{Storage, StorageError};

/// Days a question may touch before the store is first asked which days there are at all.
const DAYS_WITHOUT_ASKING: usize = 2;
/// Days listed at once.
const LISTS_AT_ONCE: usize = 8;
/// Keys that aren't segments are named in the log this many times for each tenant, then only counted.
const MAX_STRAY_WARNINGS: usize = 100;

/// A segment as a listing shows it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) key: SegmentKey,
    pub(super) bytes: u64,
}

/// A tenant's segments by day.
#[derive(Debug)]
pub(super) struct TenantListing {
    root: Path,
    days: Mutex<HashMap<Day, Arc<DayListing>>>,
    /// When the folders of days were listed last; also the turn to do so.
    day_folders: tokio::sync::Mutex<Option<Instant>>,
    strays: Mutex<BTreeSet<Path>>,
}

#[derive(Debug, Default)]
struct DayListing {
    state: Mutex<DayState>,
    /// The turn to list: one request answers everyone who waits.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct DayState {
    listed: Option<Instant>,
    /// Counts insertions, so that a listing that began before one doesn't undo it.
    clock: u64,
    segments: BTreeMap<Ulid, (Known, u64)>,
}

impl TenantListing {
    pub(super) fn new(root: Path) -> Self {
        Self {
            root,
            days: Mutex::default(),
            day_folders: tokio::sync::Mutex::default(),
            strays: Mutex::default(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.days
            .lock()
            .values()
            .all(|day| day.state.lock().segments.is_empty())
    }

    pub(super) fn insert(&self, known: Known) {
        let day = self.day(known.key.day);
        let mut state = day.state.lock();
        state.clock += 1;
        let clock = state.clock;
        state.segments.insert(known.key.id, (known, clock));
    }

    pub(super) fn remove(&self, key: &SegmentKey) {
        self.day(key.day).state.lock().segments.remove(&key.id);
    }

    pub(super) fn expire(&self) {
        for day in self.days.lock().values() {
            day.state.lock().listed = None;
        }
        if let Ok(mut listed) = self.day_folders.try_lock() {
            *listed = None;
        }
    }

    /// Segments that touch `[start, end)`, replaced ones included.
    pub(super) async fn known(
        &self,
        storage: &Storage,
        refresh: Duration,
        start: i64,
        end: i64,
    ) -> Result<Vec<Known>, StorageError> {
        let days = self
            .days_in(storage, refresh, Day::of(start), Day::of(end - 1))
            .await?;
        let lists = futures::stream::iter(days).map(|day| async move {
            let listing = self.day(day);
            self.list_day(storage, refresh, day, &listing).await?;
            let state = listing.state.lock();
            let touching = state
                .segments
                .values()
                .map(|(known, _)| *known)
                .filter(|known| known.key.touches(start, end));
            Ok::<_, StorageError>(touching.collect::<Vec<_>>())
        });
        lists.buffer_unordered(LISTS_AT_ONCE).try_concat().await
    }

    fn day(&self, day: Day) -> Arc<DayListing> {
        Arc::clone(self.days.lock().entry(day).or_default())
    }

    /// The days from `first` to `last` that can have segments.
    async fn days_in(
        &self,
        storage: &Storage,
        refresh: Duration,
        first: Day,
        last: Day,
    ) -> Result<Vec<Day>, StorageError> {
        if first.days_until(last) < DAYS_WITHOUT_ASKING {
            let mut days = vec![first];
            days.extend((first != last).then_some(last));
            return Ok(days);
        }
        let mut listed = self.day_folders.lock().await;
        if listed.is_none_or(|at| at.elapsed() >= refresh) {
            let began = Instant::now();
            let folders = (0..=MAX_LEVEL).map(|level| key::level_folder(&self.root, level));
            let lists = futures::future::try_join_all(
                folders.map(|folder| async move { storage.list_folders(&folder).await }),
            );
            let found: BTreeSet<Day> = lists
                .await?
                .iter()
                .flatten()
                .filter_map(key::day_of_folder)
                .collect();
            self.days
                .lock()
                .retain(|day, listing| found.contains(day) || !listing.state.lock().segments.is_empty());
            found.into_iter().for_each(|day| drop(self.day(day)));
            *listed = Some(began);
        }
        Ok(self
            .days
            .lock()
            .keys()
            .copied()
            .filter(|day| (first..=last).contains(day))
            .collect())
    }

    /// Lists a day's folders unless that was done within `refresh`.
    async fn list_day(
        &self,
        storage: &Storage,
        refresh: Duration,
        day: Day,
        listing: &DayListing,
    ) -> Result<(), StorageError> {
        let fresh = || {
            listing
                .state
                .lock()
                .listed
                .is_some_and(|at| at.elapsed() < refresh)
        };
        if fresh() {
            return Ok(());
        }
        let _turn = listing.turn.lock().await;
        if fresh() {
            return Ok(());
        }
        let (began, clock) = (Instant::now(), listing.state.lock().clock);
        let folders = (0..=MAX_LEVEL).map(|level| key::day_folder(&self.root, level, day));
        let lists =
            futures::future::try_join_all(folders.map(|folder| async move { storage.list(&folder).await }));
        let objects = lists.await?.into_iter().flatten();
        let found: Vec<Known> = objects
            .filter_map(|object| match SegmentKey::parse(&object.location) {
                Some(key) => Some(Known {
                    key,
                    bytes: object.size,
                }),
                None => {
                    self.warn_stray(object.location);
                    None
                }
            })
            .collect();
        let mut state = listing.state.lock();
        // Only what was there before the listing began, and isn't in it, has been deleted.
        state.segments.retain(|_, (_, inserted)| *inserted > clock);
        for known in found {
            state.segments.entry(known.key.id).or_insert((known, 0));
        }
        state.listed = Some(began);
        Ok(())
    }

    fn warn_stray(&self, path: Path) {
        let mut strays = self.strays.lock();
        if strays.contains(&path) || strays.len() >= MAX_STRAY_WARNINGS {
            return;
        }
        metrics::counter!(names::CATALOG_UNUSABLE, "reason" => "key").increment(1);
        tracing::warn!(%path, "ignored an object that is no segment; remove it from the segments folder");
        strays.insert(path);
    }
}
