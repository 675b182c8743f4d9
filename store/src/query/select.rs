//! Which streams, segments and blocks a query has to look at, and where rows of two segments may be the same entry.
//!
//! Works on footers alone; reads no block.

use super::{Engine, QueryError, QueryStats, deleted};
use crate::catalog::Segment;
use crate::clock::now_ns;
use crate::deletes::Deletion;
use crate::tenants::TenantId;
use rankline_logql::{Labels, Matcher};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use ulid::Ulid;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// Label that tells tenants apart in an answer over several of them.
pub(super) const TENANT_LABEL: &str = "__tenant_id__";

/// Matchers one selector may have.
const MAX_MATCHERS: usize = 1000;

/// Selected streams of a segment, ascending indexes into its footer.
pub(super) type Selection = Arc<[u32]>;
/// Selections of segments by matchers. Both never change, so neither does the selection.
pub(super) type SelectionCache = moka::sync::Cache<(Ulid, Arc<str>), Selection>;

/// Times, ns: from the first to the second, inclusive; ascending, apart.
type Times = Arc<[(i64, i64)]>;
/// Streams of a segment, ascending, and when another segment has rows of them too.
type SharedTimes = Vec<(u32, Times)>;
/// Those of all streams of several segments, by the hash of the segments' ids. Footers never change, so neither do they.
pub(super) type SharedTimesCache = moka::sync::Cache<u128, Arc<Vec<SharedTimes>>>;

/// A cache of at most `bytes`, about.
pub(super) fn shared_times_cache(bytes: u64) -> SharedTimesCache {
    let weight = |_: &u128, segments: &Arc<Vec<SharedTimes>>| {
        let streams =
            |shared: &SharedTimes| -> usize { shared.iter().map(|(_, times)| 40 + times.len() * 16).sum() };
        let bytes: usize = segments.iter().map(|shared| 24 + streams(shared)).sum();
        u32::try_from(64 + bytes).unwrap_or(u32::MAX)
    };
    moka::sync::Cache::builder()
        .weigher(weight)
        .max_capacity(bytes)
        .build()
}

/// What a query reads of one segment.
pub(super) struct Part {
    pub(super) segment: Arc<Segment>,
    /// Place of the segment in the order of arrival.
    pub(super) order: u32,
    /// The tenant to show as a label, when the query is over several.
    tenant: Option<TenantId>,
    pub(super) streams: Selection,
    shared: SharedTimes,
    /// Delete requests that name some entries of a stream.
    deletions: HashMap<u32, Vec<Arc<Deletion>>>,
}

impl Part {
    /// Labels of a stream as the answer shows them.
    pub(super) fn labels(&self, stream: u32) -> Labels {
        let labels = &self.segment.streams[stream as usize].labels;
        match &self.tenant {
            None => labels.clone(),
            Some(tenant) => labels.iter().chain([(TENANT_LABEL, tenant.as_str())]).collect(),
        }
    }

    /// Times at which entries of the stream may also be in another segment.
    pub(super) fn shared_times(&self, stream: u32) -> &[(i64, i64)] {
        let found = self.shared.binary_search_by_key(&stream, |(stream, _)| *stream);
        found.map_or(&[], |place| &self.shared[place].1)
    }

    /// Delete requests that name some entries of the stream.
    pub(super) fn deletions(&self, stream: u32) -> &[Arc<Deletion>] {
        self.deletions.get(&stream).map_or(&[], Vec::as_slice)
    }

    pub(super) fn has_deletions(&self) -> bool {
        !self.deletions.is_empty()
    }

    /// Takes in the requests that concern the segment; streams that lie in one altogether are left out.
    fn delete(&mut self, deletions: &[Arc<Deletion>], now_ms: i64) {
        let key = self.segment.key;
        let of_segment = |deletion: &&Arc<Deletion>| deleted::concerns(deletion, &key, now_ms);
        let concerned: Vec<_> = deletions.iter().filter(of_segment).collect();
        if concerned.is_empty() {
            return;
        }
        let mut left = Vec::with_capacity(self.streams.len());
        for stream in self.streams.iter().copied() {
            let meta = &self.segment.footer.streams[stream as usize];
            let labels = &self.segment.streams[stream as usize].labels;
            let named = concerned.iter().filter(|deletion| {
                let (start, end) = deletion.range();
                meta.min_ts < end && meta.max_ts >= start && deletion.selects(labels)
            });
            let named: Vec<_> = named.map(|deletion| Arc::clone(deletion)).collect();
            let all_of_it = |deletion: &Arc<Deletion>| {
                let (start, end) = deletion.range();
                deletion.is_whole() && start <= meta.min_ts && meta.max_ts < end
            };
            if named.iter().any(all_of_it) {
                continue;
            }
            if !named.is_empty() {
                self.deletions.insert(stream, named);
            }
            left.push(stream);
        }
        if left.len() < self.streams.len() {
            self.streams = left.into();
        }
    }

    /// Whether the query looks at all streams of the segment, under their own labels.
    pub(super) fn is_whole(&self) -> bool {
        self.tenant.is_none() && self.streams.len() == self.segment.streams.len()
    }

    /// Streams of which another segment may have the same entries.
    pub(super) fn shared_streams(&self) -> impl Iterator<Item = u32> + '_ {
        self.shared.iter().map(|(stream, _)| *stream)
    }

    /// Says at which times alone that may be.
    pub(super) fn narrow_shared(&mut self, times: HashMap<u32, Vec<i64>>) {
        let points = |mut times: Vec<i64>| {
            times.sort_unstable();
            times.dedup();
            times.into_iter().map(|ts| (ts, ts)).collect()
        };
        let narrowed = times.into_iter().map(|(stream, times)| (stream, points(times)));
        self.shared = narrowed.collect();
        self.shared.sort_unstable_by_key(|(stream, _)| *stream);
    }

    pub(super) fn has_shared_times(&self) -> bool {
        !self.shared.is_empty()
    }

    /// Stable number of a stream over all segments; in a query over several tenants each has streams of its own.
    pub(super) fn stream_id(&self, stream: u32) -> u64 {
        let of_tenant = self
            .tenant
            .as_ref()
            .map_or(0, |tenant| xxh3_64(tenant.as_str().as_bytes()));
        self.segment.streams[stream as usize].id ^ of_tenant
    }
}

/// One block that may hold rows of the answer.
#[derive(Clone)]
pub(super) struct BlockTask {
    pub(super) part: Arc<Part>,
    pub(super) block: usize,
    /// The part's selected streams that lie in the block.
    streams: Range<usize>,
}

impl BlockTask {
    pub(super) fn meta(&self) -> &rankline_segment::BlockMeta {
        &self.part.segment.footer.blocks[self.block]
    }

    /// Selected streams of the block.
    pub(super) fn streams(&self) -> &[u32] {
        &self.part.streams[self.streams.clone()]
    }

    /// Whether rows of the block may be in another segment too.
    pub(super) fn has_shared_rows(&self) -> bool {
        self.part.has_shared_times()
            && self
                .streams()
                .iter()
                .any(|stream| !self.part.shared_times(*stream).is_empty())
    }
}

/// What a query reads.
pub(super) struct Plan {
    pub(super) parts: Vec<Arc<Part>>,
    /// Segments of the time range without any of the streams.
    unselected: u64,
    /// Their blocks.
    unselected_blocks: u64,
}

impl Plan {
    /// A plan that leaves out no segment of its time range.
    pub(super) fn of(parts: Vec<Part>) -> Self {
        Self {
            parts: parts.into_iter().map(Arc::new).collect(),
            unselected: 0,
            unselected_blocks: 0,
        }
    }

    /// Blocks with selected streams that touch `start..end` (ns).
    pub(super) fn blocks(&self, start: i64, end: i64) -> Vec<BlockTask> {
        self.select(start, end).0
    }

    /// As [`Plan::blocks`], with the segments considered and the blocks left out.
    pub(super) fn select(&self, start: i64, end: i64) -> (Vec<BlockTask>, QueryStats) {
        let mut tasks = Vec::new();
        let mut stats = QueryStats {
            segments: self.parts.len() as u64 + self.unselected,
            segments_skipped: self.unselected,
            ..QueryStats::default()
        };
        stats.skipped.by_streams = self.unselected_blocks;
        for part in &self.parts {
            for (place, block) in part.segment.footer.blocks.iter().enumerate() {
                if block.max_ts < start || block.min_ts >= end {
                    stats.skipped.by_time += 1;
                    continue;
                }
                let from = part
                    .streams
                    .partition_point(|stream| *stream < block.first_stream);
                let to = part
                    .streams
                    .partition_point(|stream| *stream <= block.last_stream);
                if from < to {
                    tasks.push(BlockTask {
                        part: Arc::clone(part),
                        block: place,
                        streams: from..to,
                    });
                } else {
                    stats.skipped.by_streams += 1;
                }
            }
        }
        (tasks, stats)
    }
}

impl Engine {
    /// Picks segments and streams with rows in `start..end` (ns) of all tenants.
    pub(super) async fn plan(
        &self,
        tenants: &[TenantId],
        matchers: &[Matcher],
        start: i64,
        end: i64,
    ) -> Result<Plan, QueryError> {
        if matchers.len() > MAX_MATCHERS {
            return Err(QueryError::Invalid(format!(
                "max streams matchers per query exceeded, matchers-count > limit ({} > {MAX_MATCHERS})",
                matchers.len()
            )));
        }
        let several = tenants.len() > 1;
        let mut parts = Vec::new();
        let (mut segments_found, mut blocks_found) = (0, 0);
        for tenant in tenants {
            let (own, of_streams): (Vec<_>, Vec<_>) = matchers
                .iter()
                .partition(|matcher| several && matcher.name() == TENANT_LABEL);
            if !own.iter().all(|matcher| matcher.matches(tenant.as_str())) {
                continue;
            }
            let deletions = self.deletes.all(tenant).await?;
            let mut segments = self.catalog.segments(tenant, start, end).await?;
            segments.retain(|segment| segment.key.min_ts < end && segment.key.max_ts >= start);
            segments_found += segments.len() as u64;
            blocks_found += blocks_of(segments.iter().map(|segment| &**segment));
            // What was compacted first arrived first.
            segments.sort_by_key(|segment| (std::cmp::Reverse(segment.key.level), segment.key.id));
            let named = several.then(|| tenant.clone());
            let mut of_tenant = self.parts_of(segments, &of_streams, named, start, end);
            if !deletions.is_empty() {
                let now_ms = now_ns() / 1_000_000;
                of_tenant
                    .iter_mut()
                    .for_each(|part| part.delete(&deletions, now_ms));
                of_tenant.retain(|part| !part.streams.is_empty());
            }
            parts.extend(of_tenant);
        }
        let read = blocks_of(parts.iter().map(|part| &*part.segment));
        Ok(Plan {
            unselected: segments_found - parts.len() as u64,
            unselected_blocks: blocks_found - read,
            ..Plan::of(parts)
        })
    }

    pub(super) fn parts_of(
        &self,
        segments: Vec<Arc<Segment>>,
        matchers: &[&Matcher],
        tenant: Option<TenantId>,
        start: i64,
        end: i64,
    ) -> Vec<Part> {
        let text: Arc<str> = matchers
            .iter()
            .map(|matcher| format!("{matcher},"))
            .collect::<String>()
            .into();
        // Segments share label sets, so a stream is matched once for all of them.
        let mut known: HashMap<u64, bool> = HashMap::new();
        let mut parts = Vec::new();
        for (order, segment) in segments.into_iter().enumerate() {
            let selected = self.selections.get_with((segment.key.id, Arc::clone(&text)), || {
                select(&segment, matchers, &mut known).into()
            });
            let streams = within(&segment, selected, start, end);
            if !streams.is_empty() {
                let order = u32::try_from(order).unwrap_or(u32::MAX);
                parts.push(Part {
                    segment,
                    order,
                    tenant: tenant.clone(),
                    streams,
                    shared: Vec::new(),
                    deletions: HashMap::new(),
                });
            }
        }
        self.mark_shared_times(&mut parts);
        parts
    }
}

impl Engine {
    /// Finds the times at which two segments have rows of the same stream. What was found for all streams of the same
    /// segments serves every query that looks at many of them.
    fn mark_shared_times(&self, parts: &mut [Part]) {
        let selected: usize = parts.iter().map(|part| part.streams.len()).sum();
        let all: usize = parts.iter().map(|part| part.segment.streams.len()).sum();
        if selected * FEW_STREAMS < all {
            let own: Vec<_> = parts
                .iter()
                .map(|part| (&*part.segment, Arc::clone(&part.streams)))
                .collect();
            let found = shared_times(&own);
            parts
                .iter_mut()
                .zip(found)
                .for_each(|(part, shared)| part.shared = shared);
            return;
        }
        let ids: Vec<u8> = parts
            .iter()
            .flat_map(|part| part.segment.key.id.to_bytes())
            .collect();
        let of_all = self.shared_times.get_with(xxh3_128(&ids), || {
            let streams = |part: &Part| (0u32..).take(part.segment.streams.len()).collect();
            let whole: Vec<_> = parts.iter().map(|part| (&*part.segment, streams(part))).collect();
            Arc::new(shared_times(&whole))
        });
        for (part, shared) in parts.iter_mut().zip(of_all.iter()) {
            let is_selected = |stream: &u32| part.is_whole() || part.streams.binary_search(stream).is_ok();
            let own = shared.iter().filter(|(stream, _)| is_selected(stream));
            part.shared = own.cloned().collect();
        }
    }
}

fn blocks_of<'a>(segments: impl Iterator<Item = &'a Segment>) -> u64 {
    segments.map(|segment| segment.footer.blocks.len() as u64).sum()
}

/// Of so many streams one is selected: fewer are looked at one by one.
const FEW_STREAMS: usize = 4;

/// Streams of a segment that pass all matchers.
fn select(segment: &Segment, matchers: &[&Matcher], known: &mut HashMap<u64, bool>) -> Vec<u32> {
    if matchers.is_empty() {
        return (0u32..).zip(&segment.streams).map(|(index, _)| index).collect();
    }
    let passes = |labels: &Labels| matchers.iter().all(|matcher| matcher.matches_labels(labels));
    let mut selected = Vec::new();
    for (index, stream) in (0u32..).zip(&segment.streams) {
        if *known.entry(stream.id).or_insert_with(|| passes(&stream.labels)) {
            selected.push(index);
        }
    }
    selected
}

/// The selected streams that have rows between `start` (inclusive) and `end` (exclusive) as far as the footer knows.
fn within(segment: &Segment, selected: Selection, start: i64, end: i64) -> Selection {
    if segment.key.min_ts >= start && segment.key.max_ts < end {
        return selected;
    }
    let meta = &segment.footer.streams;
    let touches = |stream: &u32| {
        let stream = &meta[*stream as usize];
        stream.min_ts < end && stream.max_ts >= start
    };
    if selected.iter().all(touches) {
        return selected;
    }
    selected.iter().copied().filter(touches).collect()
}

/// The times at which two segments have rows of the same one of their given streams. Segments that do not touch cost
/// nothing.
fn shared_times(parts: &[(&Segment, Selection)]) -> Vec<SharedTimes> {
    let span = |place: usize| (parts[place].0.key.min_ts, parts[place].0.key.max_ts);
    let meta_of = |place: usize, stream: u32| &parts[place].0.footer.streams[stream as usize];
    let mut by_time: Vec<usize> = (0..parts.len()).collect();
    by_time.sort_by_key(|place| span(*place));
    // Each stream (its number, part, place there) of segments whose time ranges touch another segment's. Sorted rather
    // than hashed: there can be many, and labels are what clients make them.
    let mut places: Vec<(u64, usize, u32)> = Vec::new();
    let mut latest = i64::MIN;
    for (rank, place) in by_time.iter().enumerate() {
        let (min, max) = span(*place);
        let after = by_time.get(rank + 1).map_or(i64::MAX, |next| span(*next).0);
        // Rows of this segment that can meet another segment's: up to `latest`, and from `after` on.
        if min <= latest || max >= after {
            let (segment, streams) = &parts[*place];
            for stream in streams.iter() {
                let meta = meta_of(*place, *stream);
                if meta.min_ts <= latest || meta.max_ts >= after {
                    places.push((segment.streams[*stream as usize].id, *place, *stream));
                }
            }
        }
        latest = latest.max(max);
    }
    places.sort_unstable();
    let mut shared: Vec<SharedTimes> = vec![Vec::new(); parts.len()];
    for same in places.chunk_by(|a, b| a.0 == b.0).filter(|same| same.len() > 1) {
        let spans: Vec<(i64, i64)> = same
            .iter()
            .map(|(_, place, stream)| {
                let meta = meta_of(*place, *stream);
                (meta.min_ts, meta.max_ts)
            })
            .collect();
        for (one, (_, place, stream)) in same.iter().enumerate() {
            let times = common_times(&spans, one);
            if !times.is_empty() {
                shared[*place].push((*stream, times.into()));
            }
        }
    }
    for of_part in &mut shared {
        of_part.sort_unstable_by_key(|(stream, _)| *stream);
    }
    shared
}

/// Where `spans[one]` (inclusive) meets any other span, ascending and joined.
fn common_times(spans: &[(i64, i64)], one: usize) -> Vec<(i64, i64)> {
    let (min, max) = spans[one];
    let mut shared: Vec<(i64, i64)> = spans
        .iter()
        .enumerate()
        .filter(|(other, _)| *other != one)
        .map(|(_, (from, to))| (min.max(*from), max.min(*to)))
        .filter(|(from, to)| from <= to)
        .collect();
    shared.sort_unstable();
    let mut joined: Vec<(i64, i64)> = Vec::new();
    for (from, to) in shared {
        match joined.last_mut() {
            Some(last) if from <= last.1.saturating_add(1) => last.1 = last.1.max(to),
            _ => joined.push((from, to)),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::common_times;

    #[test]
    fn common_times_are_joined_and_inclusive() {
        let spans = [(0, 100), (10, 20), (15, 30), (31, 40), (100, 120), (200, 300)];
        assert_eq!(common_times(&spans, 0), [(10, 40), (100, 100)]);
        assert_eq!(common_times(&spans, 5), []);
        assert_eq!(common_times(&spans, 4), [(100, 100)]);
    }
}
