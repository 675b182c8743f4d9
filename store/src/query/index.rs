//! What footers alone can tell: label names and values, series, counts and volumes of streams. Reads no block.

use super::select::{Part, Plan};
use super::{Engine, QueryError};
use crate::catalog::Segment;
use crate::tenants::TenantId;
use rankline_logql::{Labels, Matcher};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use ulid::Ulid;

const NS_PER_MS: i64 = 1_000_000;

/// Values of each label of a segment's streams.
pub(super) type LabelIndex = Arc<BTreeMap<Box<str>, BTreeSet<Box<str>>>>;
/// Indexes of segments that were asked for as a whole.
pub(super) type LabelIndexCache = moka::sync::Cache<Ulid, LabelIndex>;

/// A cache of at most `bytes`, about.
pub(super) fn label_index_cache(bytes: u64) -> LabelIndexCache {
    let weight = |_: &Ulid, index: &LabelIndex| {
        let values = index
            .values()
            .flatten()
            .map(|value| value.len() + 48)
            .sum::<usize>();
        u32::try_from(values + 128).unwrap_or(u32::MAX)
    };
    moka::sync::Cache::builder()
        .weigher(weight)
        .max_capacity(bytes)
        .build()
}

fn label_index(segment: &Segment) -> LabelIndex {
    let mut index: BTreeMap<Box<str>, BTreeSet<Box<str>>> = BTreeMap::new();
    for (name, value) in segment.streams.iter().flat_map(|stream| stream.labels.iter()) {
        match index.get_mut(name) {
            Some(values) if values.contains(value) => {}
            Some(values) => drop(values.insert(value.into())),
            None => drop(index.insert(name.into(), BTreeSet::from([value.into()]))),
        }
    }
    Arc::new(index)
}

/// Sizes of the streams of a selector. Entries and bytes of a stream whose rows lie only partly in the range are
/// counted by the part of its time that does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IndexStats {
    /// Distinct streams.
    pub streams: u64,
    /// Streams counted once for each segment that has rows of them.
    pub chunks: u64,
    /// Bytes of lines and structured metadata.
    pub bytes: u64,
    /// Entries.
    pub entries: u64,
}

/// What volumes are summed up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeBy {
    /// Label sets, of the labels that are asked for.
    Series,
    /// Label names.
    Labels,
}

/// A question for volumes.
#[derive(Debug, Clone)]
pub struct VolumeRequest {
    /// Empty: every stream.
    pub matchers: Vec<Matcher>,
    /// First time, ns, inclusive.
    pub start: i64,
    /// Last time, ns, inclusive.
    pub end: i64,
    /// Width of the buckets, ns; `None`: one bucket over all.
    pub step: Option<i64>,
    /// Labels to sum up by; empty: those of the matchers.
    pub target_labels: Vec<String>,
    /// Sets or names.
    pub by: VolumeBy,
    /// Most series, largest first.
    pub limit: usize,
}

/// The volume of one label set.
#[derive(Debug, Clone, PartialEq)]
pub struct VolumeSeries {
    /// Label set; with [`VolumeBy::Labels`] one name with an empty value.
    pub labels: Vec<(String, String)>,
    /// (ms since the epoch, bytes), ascending.
    pub points: Vec<(i64, u64)>,
}

/// Rounds a range (both ends inclusive, ns) outward to whole milliseconds, as a range with an exclusive end.
fn outward(start: i64, end: i64) -> (i64, i64) {
    let start = start.div_euclid(NS_PER_MS).saturating_mul(NS_PER_MS);
    let end = end
        .div_euclid(NS_PER_MS)
        .saturating_add(1)
        .saturating_mul(NS_PER_MS);
    (start, end.max(start.saturating_add(NS_PER_MS)))
}

/// One stream of one segment.
struct Slice<'a> {
    labels: Labels,
    id: u64,
    meta: &'a rankline_segment::StreamMeta,
}

fn slices(part: &Part) -> impl Iterator<Item = Slice<'_>> {
    part.streams.iter().map(move |stream| Slice {
        labels: part.labels(*stream),
        id: part.stream_id(*stream),
        meta: &part.segment.footer.streams[*stream as usize],
    })
}

impl Slice<'_> {
    fn bytes(&self) -> u64 {
        self.meta.line_bytes + self.meta.metadata_bytes
    }

    /// Part of the stream's time (both ends inclusive) that lies in `start..end`, between 0 and 1.
    fn part(&self, start: i64, end: i64) -> f64 {
        let (min, max) = (self.meta.min_ts, self.meta.max_ts.saturating_add(1));
        let common = i128::from(max.min(end)) - i128::from(min.max(start));
        let all = i128::from(max) - i128::from(min);
        if all <= 0 {
            1.0
        } else {
            common.max(0) as f64 / all as f64
        }
    }
}

fn scaled(count: u64, part: f64) -> u64 {
    if part >= 1.0 {
        count
    } else {
        (count as f64 * part).round() as u64
    }
}

/// Rows and bytes of lines that the streams of a plan have in `start..end` (ns), about.
pub(super) fn expected(plan: &Plan, start: i64, end: i64) -> (u64, u64) {
    let (mut rows, mut bytes) = (0u64, 0u64);
    for slice in plan.parts.iter().flat_map(|part| slices(part)) {
        let part = slice.part(start, end);
        rows += scaled(slice.meta.rows, part);
        bytes += scaled(slice.meta.line_bytes, part);
    }
    (rows, bytes)
}

impl Engine {
    async fn metadata_plan(
        &self,
        tenants: &[TenantId],
        matchers: &[Matcher],
        start: i64,
        end: i64,
    ) -> Result<Plan, QueryError> {
        let (start, end) = outward(start, end);
        self.bounded("metadata", tenants, || self.plan(tenants, matchers, start, end))
            .await
    }

    /// Label sets of the streams that any group of matchers selects and that have entries in the range.
    ///
    /// # Errors
    /// See [`QueryError`], here and below.
    pub async fn series(
        &self,
        tenants: &[TenantId],
        groups: &[Vec<Matcher>],
        start: i64,
        end: i64,
    ) -> Result<Vec<Labels>, QueryError> {
        let mut found = HashSet::new();
        for matchers in groups {
            let plan = self.metadata_plan(tenants, matchers, start, end).await?;
            found.extend(
                plan.parts
                    .iter()
                    .flat_map(|part| slices(part))
                    .map(|slice| slice.labels),
            );
        }
        let mut found: Vec<Labels> = found.into_iter().collect();
        found.sort_unstable();
        Ok(found)
    }

    /// Names of stream labels in the range, sorted. No matchers: of all streams.
    pub async fn label_names(
        &self,
        tenants: &[TenantId],
        matchers: &[Matcher],
        start: i64,
        end: i64,
    ) -> Result<BTreeSet<String>, QueryError> {
        let plan = self.metadata_plan(tenants, matchers, start, end).await?;
        let mut names = BTreeSet::new();
        let mut note = |name: &str| {
            if !names.contains(name) {
                names.insert(name.to_owned());
            }
        };
        for part in &plan.parts {
            if part.is_whole() {
                self.label_index(&part.segment).keys().for_each(|name| note(name));
            } else {
                for slice in slices(part) {
                    slice.labels.iter().for_each(|(name, _)| note(name));
                }
            }
        }
        Ok(names)
    }

    /// Values of a stream label in the range, sorted. No matchers: of all streams.
    pub async fn label_values(
        &self,
        tenants: &[TenantId],
        name: &str,
        matchers: &[Matcher],
        start: i64,
        end: i64,
    ) -> Result<BTreeSet<String>, QueryError> {
        let plan = self.metadata_plan(tenants, matchers, start, end).await?;
        let mut values = BTreeSet::new();
        let mut note = |value: &str| {
            if !values.contains(value) {
                values.insert(value.to_owned());
            }
        };
        for part in &plan.parts {
            if part.is_whole() {
                let index = self.label_index(&part.segment);
                index
                    .get(name)
                    .into_iter()
                    .flatten()
                    .for_each(|value| note(value));
            } else {
                slices(part).for_each(|slice| slice.labels.get(name).into_iter().for_each(&mut note));
            }
        }
        Ok(values)
    }

    fn label_index(&self, segment: &Segment) -> LabelIndex {
        self.label_indexes
            .get_with(segment.key.id, || label_index(segment))
    }

    /// How much a selector would read.
    pub async fn stats(
        &self,
        tenants: &[TenantId],
        matchers: &[Matcher],
        start: i64,
        end: i64,
    ) -> Result<IndexStats, QueryError> {
        let (from, to) = outward(start, end);
        let plan = self.metadata_plan(tenants, matchers, start, end).await?;
        let (mut stats, mut streams) = (IndexStats::default(), HashSet::new());
        for slice in plan.parts.iter().flat_map(|part| slices(part)) {
            let part = slice.part(from, to);
            stats.chunks += 1;
            stats.bytes += scaled(slice.bytes(), part);
            stats.entries += scaled(slice.meta.rows, part);
            streams.insert(slice.id);
        }
        stats.streams = streams.len() as u64;
        Ok(stats)
    }

    /// Refuses a query whose streams have more bytes in `start..end` (ns) than one may read.
    ///
    /// # Errors
    /// [`QueryError::TooManyBytes`].
    pub(super) fn check_bytes(&self, plan: &Plan, start: i64, end: i64) -> Result<(), QueryError> {
        let limit = self.limits.max_bytes;
        if limit == 0 {
            return Ok(());
        }
        let slices = plan.parts.iter().flat_map(|part| slices(part));
        let bytes = slices
            .map(|slice| scaled(slice.bytes(), slice.part(start, end)))
            .sum();
        if bytes > limit {
            return Err(QueryError::TooManyBytes { bytes, limit });
        }
        Ok(())
    }

    /// Bytes of streams, summed up by labels, largest first.
    pub async fn volume(
        &self,
        tenants: &[TenantId],
        request: &VolumeRequest,
    ) -> Result<Vec<VolumeSeries>, QueryError> {
        let plan = self
            .metadata_plan(tenants, &request.matchers, request.start, request.end)
            .await?;
        let mut sums: BTreeMap<Vec<(String, String)>, BTreeMap<i64, u64>> = BTreeMap::new();
        for slice in plan.parts.iter().flat_map(|part| slices(part)) {
            for labels in volume_labels(&slice.labels, request) {
                let points = sums.entry(labels).or_default();
                for (time_ms, from, to) in buckets(&slice, request) {
                    *points.entry(time_ms).or_default() += scaled(slice.bytes(), slice.part(from, to));
                }
            }
        }
        if request.step.is_some() {
            // Sizes are of the grain of a KiB: less in a bucket counts as nothing, as in Loki.
            for points in sums.values_mut() {
                points.retain(|_, bytes| *bytes >= 1024);
            }
            sums.retain(|_, points| !points.is_empty());
        }
        let mut series: Vec<VolumeSeries> = sums
            .into_iter()
            .map(|(labels, points)| VolumeSeries {
                labels,
                points: points.into_iter().collect(),
            })
            .collect();
        let total = |series: &VolumeSeries| series.points.iter().map(|(_, bytes)| *bytes).sum::<u64>();
        series.sort_by(|a, b| total(b).cmp(&total(a)).then_with(|| a.labels.cmp(&b.labels)));
        series.truncate(request.limit);
        Ok(series)
    }
}

/// The label sets a stream's bytes count for.
fn volume_labels(labels: &Labels, request: &VolumeRequest) -> Vec<Vec<(String, String)>> {
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let targets = &request.target_labels;
    // A stream that lacks one of the labels asked for does not count.
    if !targets.iter().all(|name| labels.get(name).is_some()) {
        return Vec::new();
    }
    let by_name = |name: &str| targets.is_empty() || targets.iter().any(|target| target == name);
    match request.by {
        VolumeBy::Labels => {
            let names = labels.iter().filter(|(name, _)| by_name(name));
            names
                .map(|(name, _)| vec![(name.to_owned(), String::new())])
                .collect()
        }
        VolumeBy::Series if targets.is_empty() && request.matchers.is_empty() => {
            vec![labels.iter().map(owned).collect()]
        }
        VolumeBy::Series => {
            let matched = |name: &str| request.matchers.iter().any(|matcher| matcher.name() == name);
            let wanted = |name: &str| {
                if targets.is_empty() {
                    matched(name)
                } else {
                    by_name(name)
                }
            };
            vec![
                labels
                    .iter()
                    .filter(|(name, _)| wanted(name))
                    .map(owned)
                    .collect(),
            ]
        }
    }
}

/// Buckets that a stream has rows in: the time of the sample (ms) and the bucket's range (ns, end exclusive).
fn buckets(slice: &Slice<'_>, request: &VolumeRequest) -> Vec<(i64, i64, i64)> {
    let (from, to) = outward(request.start, request.end);
    let Some(step) = request.step else {
        return vec![(request.end.div_euclid(NS_PER_MS), from, to)];
    };
    let step = step.max(NS_PER_MS);
    let (first, last) = (slice.meta.min_ts.max(from), slice.meta.max_ts.min(to - 1));
    let mut out = Vec::new();
    let mut start = first.div_euclid(step).saturating_mul(step);
    while start <= last {
        let end = start.saturating_add(step);
        // Loki stamps a bucket just before its end, and the last one at the end of the range.
        let stamp = if end >= request.end {
            request.end
        } else {
            end - NS_PER_MS
        };
        out.push((stamp.div_euclid(NS_PER_MS), start.max(from), end.min(to)));
        if end == i64::MAX {
            break;
        }
        start = end;
    }
    out
}
