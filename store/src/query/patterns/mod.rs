//! Patterns of stored lines and how often they came: templates are mined when they are asked for, over all segments.
//!
//! Equal entries give equal patterns, however they lie in segments and blocks: lines are put into one order before
//! they are mined, and a sample of them is chosen by what they are, not by where they are.

mod miner;
mod tokens;

use super::block::{Body, Needs, Rows, Span};
use super::budget::Budget;
use super::dedupe::{Met, entry_hash};
use super::drive::Scan;
use super::index::expected;
use super::select::BlockTask;
use super::workers::Cancel;
use super::{Engine, QueryError, QueryStats};
use crate::ingest::level::DETECTED_LEVEL as LEVEL_NAME;
use crate::tenants::TenantId;
use miner::Miner;
use parking_lot::Mutex;
use rankline_logql::{EntryRef, Matcher, MetadataNeeds};
use rayon::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tokens::{Format, MAX_LINE_BYTES};
use xxhash_rust::xxh3::xxh3_64_with_seed;

const NS_PER_MS: i64 = 1_000_000;
/// Lines are counted by so many ns; finer steps are not answered.
const RESOLUTION: i64 = 10_000 * NS_PER_MS;
/// Counts without a line are written between two counts of one hour, as Loki's chunks of patterns have it.
const CHUNK: i64 = 3_600_000 * NS_PER_MS;
/// Rarer patterns are left out.
const MIN_LINES: u64 = 30;
/// Most patterns of an answer, the most frequent first.
const MAX_PATTERNS: usize = 300;
/// Lines that are mined for one answer; of more, a sample is.
const MAX_LINES: u64 = 400_000;
/// After so many lines of a stream the miner asks whether the query was given up.
const LINES_BETWEEN_CHECKS: usize = 256;
/// Bytes of lines that are mined for one answer.
const MAX_BYTES: u64 = 96 << 20;
/// Levels that are told apart; all others are the first.
const LEVELS: [&str; 8] = [
    "unknown", "debug", "info", "warn", "error", "fatal", "critical", "trace",
];

/// A question for patterns.
#[derive(Debug, Clone)]
pub struct PatternRequest {
    /// Which streams.
    pub matchers: Vec<Matcher>,
    /// First time, ns, inclusive. Lines are counted in tens of seconds, and those that begin before are left out.
    pub start: i64,
    /// Last time, ns, exclusive. Tens of seconds that begin before count whole.
    pub end: i64,
    /// Width of the counts, ns; at least ten seconds.
    pub step: i64,
}

/// Lines of one pattern and level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatternSeries {
    /// The template, `<_>` for what varies.
    pub pattern: String,
    /// Level of the lines.
    pub level: &'static str,
    /// (s since the epoch, lines from then on), ascending.
    pub samples: Vec<(i64, u64)>,
}

/// Patterns, the most frequent first.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PatternAnswer {
    /// Most frequent first.
    pub series: Vec<PatternSeries>,
    /// One in so many lines was looked at; counts are scaled up by it.
    pub sampled: u64,
}

/// A line that is mined.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Sampled {
    stream: u64,
    ts: i64,
    line: Box<str>,
    /// Index into [`LEVELS`].
    level: usize,
}

struct PatternScan {
    /// Range of the lines, ns, end exclusive.
    range: (i64, i64),
    /// One in so many lines is taken; a power of two.
    sampled: u64,
    met: Met,
    budget: Budget,
    lines: Mutex<Vec<Sampled>>,
}

impl Scan for PatternScan {
    fn range(&self) -> (i64, i64) {
        self.range
    }

    fn needs(&self, task: &BlockTask) -> Needs {
        if task.has_shared_rows() {
            return Needs::ALL;
        }
        Needs {
            lines: true,
            templates: true,
            lengths: false,
            metadata: MetadataNeeds::Names(vec![LEVEL_NAME.to_owned()]),
        }
    }

    fn scan(
        &self,
        task: &BlockTask,
        rows: &Rows,
        body: &Body,
        stats: &mut QueryStats,
    ) -> Result<(), QueryError> {
        let mut taken = Vec::new();
        for span in &rows.spans {
            let stream = task.part.stream_id(span.stream);
            let lines = task.lines(body, &span.rows)?;
            for (place, row) in span.rows.clone().enumerate() {
                let line = lines.get(place, row);
                taken.extend(self.take(stream, span, (row, line), rows, body, stats));
            }
        }
        let bytes = |line: &Sampled| size_of::<Sampled>() + line.line.len();
        self.budget.grow(taken.iter().map(bytes).sum())?;
        self.lines.lock().append(&mut taken);
        Ok(())
    }
}

impl PatternScan {
    fn take(
        &self,
        stream: u64,
        span: &Span,
        (row, line): (u32, &str),
        rows: &Rows,
        body: &Body,
        stats: &mut QueryStats,
    ) -> Option<Sampled> {
        let ts = rows.ts[row as usize];
        let chosen =
            self.sampled == 1 || xxh3_64_with_seed(line.as_bytes(), ts as u64).is_multiple_of(self.sampled);
        if !chosen || line.len() > MAX_LINE_BYTES {
            return None;
        }
        let mut metadata = Vec::new();
        body.metadata(row, &mut metadata);
        if span.shared {
            let entry = EntryRef {
                ts,
                line,
                metadata: &metadata,
            };
            if !self.met.insert(entry_hash(stream, &entry)) {
                stats.duplicates += 1;
                return None;
            }
        }
        let level = metadata.iter().find(|(name, _)| *name == LEVEL_NAME);
        let known = |name: &str| LEVELS.iter().position(|level| level.eq_ignore_ascii_case(name));
        Some(Sampled {
            stream,
            ts,
            line: line.into(),
            level: level.and_then(|(_, level)| known(level)).unwrap_or(0),
        })
    }
}

impl Engine {
    /// Patterns of the lines of some streams. The memory and time of a query bound it as any other; of very many lines
    /// a sample is mined, which the answer tells.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub async fn patterns(
        &self,
        tenants: &[TenantId],
        request: PatternRequest,
    ) -> Result<PatternAnswer, QueryError> {
        if request.end <= request.start {
            return Ok(PatternAnswer::default());
        }
        self.bounded("patterns", tenants, || self.patterns_once(tenants, &request))
            .await
    }

    async fn patterns_once(
        &self,
        tenants: &[TenantId],
        request: &PatternRequest,
    ) -> Result<PatternAnswer, QueryError> {
        let (start, end) = (round_up(request.start), round_up(request.end));
        let plan = self.plan(tenants, &request.matchers, start, end).await?;
        let (lines, bytes) = expected(&plan, start, end);
        let times = (lines / MAX_LINES).max(bytes / MAX_BYTES);
        let scan = Arc::new(PatternScan {
            range: (start, end),
            sampled: (times + 1).next_power_of_two(),
            met: Met::default(),
            budget: Budget::new(self.limits.query_memory),
            lines: Mutex::default(),
        });
        self.drive(Arc::clone(&scan), plan.blocks(start, end), self.parallel())
            .await?;
        let (lines, sampled) = (std::mem::take(&mut *scan.lines.lock()), scan.sampled);
        let step = request.step.max(RESOLUTION);
        let cancel = Cancel::default();
        let _guard = cancel.guard();
        let mine = move || Ok(answer(mined(lines, step, &cancel)?, sampled));
        self.workers.run(mine).await
    }
}

/// The next whole multiple of the resolution.
fn round_up(ns: i64) -> i64 {
    let below = ns.div_euclid(RESOLUTION).saturating_mul(RESOLUTION);
    if below == ns {
        ns
    } else {
        below.saturating_add(RESOLUTION)
    }
}

/// Counts by pattern and level, then by time (ns).
type Counts = HashMap<(String, usize), BTreeMap<i64, u64>>;

/// Mines each stream and level by itself, in the order of time, and sums up what looks the same.
fn mined(mut lines: Vec<Sampled>, step: i64, cancel: &Cancel) -> Result<Counts, QueryError> {
    lines.par_sort_unstable();
    let streams = lines.par_chunk_by(|a, b| a.stream == b.stream);
    let sum = |mut sums: Counts, more: Counts| {
        for (pattern, samples) in more {
            let own = sums.entry(pattern).or_default();
            for (time, lines) in samples {
                *own.entry(time).or_default() += lines;
            }
        }
        Ok(sums)
    };
    streams
        .map(|stream| mine_stream(stream, step, cancel))
        .try_reduce(Counts::new, sum)
}

fn mine_stream(lines: &[Sampled], step: i64, cancel: &Cancel) -> Result<Counts, QueryError> {
    let format = lines
        .first()
        .map_or(Format::Text, |first| Format::of(&first.line));
    let mut miners: BTreeMap<usize, Miner> = BTreeMap::new();
    for (place, line) in lines.iter().enumerate() {
        if place.is_multiple_of(LINES_BETWEEN_CHECKS) {
            cancel.check()?;
        }
        if let Some(tokens) = format.tokens(&line.line) {
            let time = line.ts.div_euclid(RESOLUTION).saturating_mul(RESOLUTION);
            miners.entry(line.level).or_default().add(&tokens, time);
        }
    }
    let mut counts = Counts::new();
    for (level, miner) in miners {
        for template in miner.finish() {
            let pattern = format.join(&template.tokens, &template.blanks);
            if !pattern.is_empty() {
                rescale(
                    &template.samples,
                    step,
                    counts.entry((pattern, level)).or_default(),
                );
            }
        }
    }
    Ok(counts)
}

/// Adds samples of the resolution to counts of `step`. Between two counts of one chunk every step has one.
fn rescale(samples: &[(i64, u64)], step: i64, counts: &mut BTreeMap<i64, u64>) {
    let (mut chunk, mut last) = (None, None);
    for (time, lines) in samples {
        let at = time.div_euclid(step).saturating_mul(step);
        if chunk.is_none_or(|chunk| time.saturating_sub(chunk) >= CHUNK) {
            (chunk, last) = (Some(*time), Some(at));
        }
        let mut between = last.unwrap_or(at);
        while step > RESOLUTION && between < at {
            counts.entry(between).or_default();
            between += step;
        }
        *counts.entry(at).or_default() += lines;
        last = Some(at);
    }
}

fn answer(counts: Counts, sampled: u64) -> PatternAnswer {
    let mut found: Vec<(u64, PatternSeries)> = Vec::new();
    for ((pattern, level), samples) in counts {
        let total = samples.values().sum::<u64>() * sampled;
        if total >= MIN_LINES {
            let seconds = |(time, lines): (i64, u64)| (time.div_euclid(1000 * NS_PER_MS), lines * sampled);
            let series = PatternSeries {
                pattern,
                level: LEVELS[level],
                samples: samples.into_iter().map(seconds).collect(),
            };
            found.push((total, series));
        }
    }
    found.sort_by(|(a, one), (b, other)| {
        let names = || (&one.pattern, one.level).cmp(&(&other.pattern, other.level));
        b.cmp(a).then_with(names)
    });
    found.truncate(MAX_PATTERNS);
    PatternAnswer {
        series: found.into_iter().map(|(_, series)| series).collect(),
        sampled,
    }
}

#[cfg(test)]
mod tests;
