//! Which times two segments really have in common. Footers tell only from when to when a stream goes in each; where
//! these overlap, every row would have to be compared with all it is. Mostly the rows of two segments just lie between
//! each other, and their timestamps alone say so.
//!
//! Reads streams and timestamps of blocks, nothing else.

use super::block::Needs;
use super::select::{BlockTask, Part, Plan};
use super::{Engine, QueryError, QueryStats};
use futures::{StreamExt, TryStreamExt};
use std::collections::HashMap;
use std::sync::Arc;
use ulid::Ulid;

/// Pairs of segments a query compares; with more, it compares entries instead.
const MAX_PAIRS: usize = 512;

/// Timestamps (ascending) that both of two segments have of a stream, by its number; streams without any are left out.
type CommonTimes = Arc<HashMap<u64, Box<[i64]>>>;
/// By the two segments. They never change, so neither does what they have in common.
pub(super) type CommonTimesCache = moka::sync::Cache<(Ulid, Ulid), CommonTimes>;

/// A cache of at most `bytes`, about.
pub(super) fn common_times_cache(bytes: u64) -> CommonTimesCache {
    let weight = |_: &(Ulid, Ulid), common: &CommonTimes| {
        let times: usize = common.values().map(|times| 48 + times.len() * 8).sum();
        u32::try_from(128 + times).unwrap_or(u32::MAX)
    };
    moka::sync::Cache::builder()
        .weigher(weight)
        .max_capacity(bytes)
        .build()
}

/// All timestamps of one block by stream.
type BlockTimes = Vec<(u32, Vec<i64>)>;

impl Engine {
    /// Leaves of the plan's shared times those at which two segments have rows indeed.
    pub(super) async fn narrow_shared_times(&self, plan: &mut Plan) -> Result<(), QueryError> {
        let pairs = overlapping(&plan.parts);
        if pairs.is_empty() || pairs.len() > MAX_PAIRS {
            return Ok(());
        }
        let mut exact: Vec<HashMap<u32, Vec<i64>>> = plan.parts.iter().map(|_| HashMap::new()).collect();
        for (one, other) in pairs {
            let common = self.common_times(&plan.parts[one], &plan.parts[other]).await?;
            for place in [one, other] {
                let part = &plan.parts[place];
                for stream in part.shared_streams() {
                    if let Some(times) = common.get(&part.segment.streams[stream as usize].id) {
                        exact[place].entry(stream).or_default().extend_from_slice(times);
                    }
                }
            }
        }
        for (part, times) in plan.parts.iter_mut().zip(exact) {
            // Nothing else holds the parts of a plan that was just made.
            if let Some(part) = Arc::get_mut(part) {
                part.narrow_shared(times);
            }
        }
        Ok(())
    }

    async fn common_times(&self, one: &Arc<Part>, other: &Arc<Part>) -> Result<CommonTimes, QueryError> {
        let key = (one.segment.key.id, other.segment.key.id);
        if let Some(known) = self.common_times.get(&key) {
            return Ok(known);
        }
        let (one, other) = (self.times(one, other).await?, self.times(other, one).await?);
        let compared = move || {
            let mut common = HashMap::new();
            for (stream, times) in one {
                if let Some(others) = other.get(&stream) {
                    let both = in_both(&times, others);
                    if !both.is_empty() {
                        common.insert(stream, both.into_boxed_slice());
                    }
                }
            }
            Ok(Arc::new(common))
        };
        let common = self.workers.run(compared).await?;
        self.common_times.insert(key, Arc::clone(&common));
        Ok(common)
    }

    /// Timestamps, ascending, of the streams of a segment that overlap with the other segment.
    async fn times(&self, part: &Part, other: &Part) -> Result<HashMap<u64, Vec<i64>>, QueryError> {
        let (min, max) = (other.segment.key.min_ts, other.segment.key.max_ts);
        let whole = self.whole(part);
        let tasks = whole.blocks(min, max.saturating_add(1));
        let blocks: Vec<BlockTimes> = futures::stream::iter(tasks)
            .map(|task| Ok(self.block_times(task, min, max)))
            .try_buffered(self.parallel())
            .try_collect()
            .await?;
        let mut times: HashMap<u64, Vec<i64>> = HashMap::new();
        for (stream, of_block) in blocks.into_iter().flatten() {
            let id = part.segment.streams[stream as usize].id;
            times.entry(id).or_default().extend(of_block);
        }
        Ok(times)
    }

    async fn block_times(&self, task: BlockTask, min: i64, max: i64) -> Result<BlockTimes, QueryError> {
        let _memory = self.memory.take(task.memory(&Needs::HEAD)).await;
        let head = self.fetch_head(&task, &mut QueryStats::default()).await?;
        let (key, hot) = (task.key(), Arc::clone(&head.hot));
        let picked = move || {
            let rows = task.rows(&head, min, max.saturating_add(1))?;
            let times = rows
                .spans
                .iter()
                .map(|span| (span.stream, rows.ts_of(&span.rows).to_vec()));
            Ok(times.collect())
        };
        let times = self.workers.run(picked).await?;
        self.blocks.keep(key, &hot);
        Ok(times)
    }

    /// A plan for all of a part's segment.
    fn whole(&self, part: &Part) -> Plan {
        Plan::of(self.parts_of(vec![Arc::clone(&part.segment)], &[], None, i64::MIN, i64::MAX))
    }
}

/// Pairs of parts that share times of a stream, as far as footers tell.
fn overlapping(parts: &[Arc<Part>]) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    for (one, part) in parts
        .iter()
        .enumerate()
        .filter(|(_, part)| part.has_shared_times())
    {
        let numbers: HashMap<u64, u32> = part
            .shared_streams()
            .map(|stream| (part.stream_id(stream), stream))
            .collect();
        for (other, with) in parts.iter().enumerate().skip(one + 1) {
            let (key, of) = (&part.segment.key, &with.segment.key);
            if key.min_ts > of.max_ts || of.min_ts > key.max_ts {
                continue;
            }
            let meets = |stream: u32| {
                let meta = &with.segment.footer.streams[stream as usize];
                numbers.get(&with.stream_id(stream)).is_some_and(|own| {
                    let own = &part.segment.footer.streams[*own as usize];
                    own.min_ts <= meta.max_ts && meta.min_ts <= own.max_ts
                })
            };
            if with.shared_streams().any(meets) {
                pairs.push((one, other));
            }
        }
        if pairs.len() > MAX_PAIRS {
            break;
        }
    }
    pairs
}

/// What two ascending lists have in common, once each.
fn in_both(one: &[i64], other: &[i64]) -> Vec<i64> {
    let (mut one, mut other, mut both) = (one, other, Vec::new());
    while let (Some(a), Some(b)) = (one.first(), other.first()) {
        match a.cmp(b) {
            std::cmp::Ordering::Less => one = &one[one.partition_point(|ts| ts < b)..],
            std::cmp::Ordering::Greater => other = &other[other.partition_point(|ts| ts < a)..],
            std::cmp::Ordering::Equal => {
                both.push(*a);
                let ts = *a;
                one = &one[one.partition_point(|other| *other <= ts)..];
                other = &other[other.partition_point(|other| *other <= ts)..];
            }
        }
    }
    both
}

#[cfg(test)]
mod tests {
    use super::in_both;

    #[test]
    fn equal_times_are_found_once() {
        assert_eq!(in_both(&[1, 2, 2, 5, 9], &[0, 2, 2, 2, 5, 8, 9]), [2, 5, 9]);
        assert!(in_both(&[], &[1]).is_empty());
        assert!(in_both(&[1, 3], &[2, 4]).is_empty());
    }
}
