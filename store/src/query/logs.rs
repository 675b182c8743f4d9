//! Log queries: the first or last rows of a range that pass a pipeline, in a total order.
//!
//! Order of rows: time, then the stream's labels, then arrival (segment, row); backward is its exact reverse. So
//! answers are the same from call to call, and rows at one timestamp stay in the order they arrived in.

use super::Direction;
use super::block::{Body, Needs, Rows};
use super::budget::Budget;
use super::dedupe::{ShownOnce, entry_hash};
use super::drive::Scan;
use super::head::{HeadSearch, joined};
use super::implied::ImpliedSearch;
use super::labels::{self, Classes};
use super::outlines::{Outlined, Outlines};
use super::select::BlockTask;
use super::{Engine, LogAnswer, LogRow, QueryError, QueryStats, result::Interner};
use crate::storage::metered;
use crate::tenants::TenantId;
use parking_lot::Mutex;
use rankline_logql::{EntryRef, Labels, LogExpr, MetadataNeeds, Pipeline, Runner};
use rankline_segment::BlockText;
use std::cmp::{Ordering as Order, Reverse};
use std::collections::{BinaryHeap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

/// A log query.
#[derive(Debug, Clone)]
pub struct LogRequest {
    /// Selector and stages.
    pub expr: LogExpr,
    /// First time, inclusive, ns since the epoch.
    pub start: i64,
    /// Last time, exclusive, ns since the epoch.
    pub end: i64,
    /// Rows wanted, counted from the end that `direction` starts at.
    pub limit: usize,
    /// Order of the answer.
    pub direction: Direction,
    /// Least distance of two rows, ns; 0 keeps every row.
    pub interval: i64,
}

/// A row with its place in the total order.
struct Candidate {
    ts: i64,
    labels: Labels,
    /// (segment, block, row)
    arrival: (u32, u32, u32),
    /// Set when another segment may have the same entry.
    hash: Option<u128>,
    row: LogRow,
}

impl Candidate {
    fn cmp(&self, other: &Self, direction: Direction) -> Order {
        let forward = || {
            let same = self
                .ts
                .cmp(&other.ts)
                .then_with(|| self.labels.cmp(&other.labels));
            same.then(self.arrival.cmp(&other.arrival))
        };
        match direction {
            Direction::Forward => forward(),
            Direction::Backward => forward().reverse(),
        }
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.row.line.len()
    }
}

/// The best rows so far.
struct Collector {
    rows: Vec<Candidate>,
    direction: Direction,
    limit: usize,
    /// Rows at which it is time to sort and cut.
    full_at: usize,
}

impl Collector {
    fn new(direction: Direction, limit: usize) -> Self {
        Self {
            rows: Vec::new(),
            direction,
            limit,
            full_at: limit,
        }
    }

    /// Takes rows of one block; gives the time of the worst row that can still be part of the answer, once that is
    /// known.
    fn add(&mut self, rows: Vec<Candidate>, budget: &Budget) -> Result<Option<i64>, QueryError> {
        budget.grow(rows.iter().map(Candidate::bytes).sum())?;
        self.rows.extend(rows);
        if self.rows.len() < self.full_at {
            return Ok(None);
        }
        self.compact(budget);
        self.full_at = self
            .limit
            .saturating_add(self.limit / 4 + 64)
            .max(self.rows.len() + 1);
        Ok(self.rows.get(self.limit - 1).map(|worst| worst.ts))
    }

    /// Sorts, drops entries that are there twice, cuts at the limit.
    fn compact(&mut self, budget: &Budget) {
        let direction = self.direction;
        let before: usize = self.rows.iter().map(Candidate::bytes).sum();
        self.rows.sort_by(|a, b| a.cmp(b, direction));
        let mut seen = HashSet::new();
        let mut shown = ShownOnce::default();
        let rows = std::mem::take(&mut self.rows);
        for row in rows {
            let before = self.rows.last().map(|before| &before.row);
            if row.hash.is_none_or(|hash| seen.insert(hash)) && shown.is_new(&row.labels, &row.row, before) {
                self.rows.push(row);
            }
            if self.rows.len() >= self.limit {
                break;
            }
        }
        budget.shrink(before - self.rows.iter().map(Candidate::bytes).sum::<usize>());
    }
}

struct LogScan {
    request: LogRequest,
    limit: usize,
    pipeline: Arc<Pipeline>,
    head: HeadSearch,
    implied: ImpliedSearch,
    runners: Mutex<Vec<Runner>>,
    collector: Mutex<Collector>,
    /// Times of the best rows met so far, where it is known that each of them is a row of the answer's kind: where no
    /// stage leaves rows out behind the head filters.
    nearest: Option<Mutex<BinaryHeap<Reverse<i64>>>>,
    /// Rows beyond this time cannot be part of the answer any more.
    threshold: AtomicI64,
    budget: Budget,
}

impl Scan for LogScan {
    fn range(&self) -> (i64, i64) {
        let threshold = self.threshold.load(Ordering::Relaxed);
        match self.request.direction {
            Direction::Backward => (self.request.start.max(threshold), self.request.end),
            Direction::Forward => (
                self.request.start,
                self.request.end.min(threshold.saturating_add(1)),
            ),
        }
    }

    fn probes(&self) -> bool {
        let open = match self.request.direction {
            Direction::Backward => i64::MIN,
            Direction::Forward => i64::MAX,
        };
        self.threshold.load(Ordering::Relaxed) != open
    }

    fn head(&self) -> Option<&HeadSearch> {
        Some(&self.head)
    }

    fn needs(&self, _task: &BlockTask) -> Needs {
        Needs {
            lines: true,
            templates: true,
            lengths: false,
            metadata: MetadataNeeds::All,
        }
    }

    fn scan(
        &self,
        task: &BlockTask,
        rows: &Rows,
        body: &Body,
        stats: &mut QueryStats,
    ) -> Result<(), QueryError> {
        let spans = joined(rows.spans.iter().map(|span| span.rows.clone()));
        let mut passed = self.head.passed(body, &spans).map_err(|why| task.wrong(why))?;
        labels::retain(&self.pipeline.label_tests().0, task, rows, body, &mut passed);
        let implied = self.implied.retain(task, rows, body, &mut passed);
        implied.map_err(|why| task.wrong(why))?;
        if let Some(nearest) = self.nearest.as_ref().filter(|_| !task.has_shared_rows()) {
            self.offer(nearest, &mut passed, &rows.ts);
        }
        let mut runner = self
            .runners
            .lock()
            .pop()
            .unwrap_or_else(|| self.pipeline.runner());
        let mut found = Found {
            interner: Interner::default(),
            rows: Vec::new(),
            stream: None,
            shown: ShownOnce::default(),
            last: [const { None }; 3],
        };
        let collected = self.collect(task, rows, body, &mut passed, (&mut found, &mut runner), stats);
        self.runners.lock().push(runner);
        collected?;
        stats.post_filter_lines += found.rows.len() as u64;
        self.keep(found.rows)
    }
}

impl LogScan {
    /// Runs rows through the pipeline, those first that come first in the answer, until there are enough.
    fn collect(
        &self,
        task: &BlockTask,
        rows: &Rows,
        body: &Body,
        passed: &mut [u32],
        (found, runner): (&mut Found, &mut Runner),
        stats: &mut QueryStats,
    ) -> Result<(), QueryError> {
        let mut fields = match body.text() {
            Some(BlockText::Templates(text)) if self.pipeline.tests_fields() => {
                Some(Outlines::new(text).map_err(|why| task.wrong(why))?)
            }
            _ => None,
        };
        let (mut rest, mut size) = (passed, self.limit.saturating_mul(2).max(256));
        'batches: while !rest.is_empty() && found.rows.len() < self.limit {
            let (batch, later) = self.best(rest, size, &rows.ts);
            let batch = match &mut fields {
                Some(fields) => {
                    let left = found.test(task, rows, body, batch, fields, runner)?;
                    self.best(left, usize::MAX, &rows.ts).0
                }
                None => batch,
            };
            let lines = body.pick(batch).map_err(|why| task.wrong(why))?;
            for (place, row) in batch.iter().enumerate() {
                let (start, end) = self.range();
                let ts = rows.ts[*row as usize];
                // Those that follow are even farther.
                if found.rows.len() == self.limit || ts < start || ts >= end {
                    break 'batches;
                }
                let line = lines.get(place, *row);
                found.take(task, rows, body, (*row, line), runner, stats);
            }
            (rest, size) = (later, size.saturating_mul(4));
            // Where the first rows are not enough, most are left out: all others are tested before any is put in order.
            if let Some(mut fields) = fields.take()
                && found.rows.len() < self.limit
            {
                rest = found.test(task, rows, body, rest, &mut fields, runner)?;
            }
        }
        Ok(())
    }

    /// Splits off the `size` rows that come first in the query's order, sorted.
    fn best<'a>(&self, rows: &'a mut [u32], size: usize, ts: &[i64]) -> (&'a mut [u32], &'a mut [u32]) {
        let key = |row: &u32| (ts[*row as usize], *row);
        let direction = self.request.direction;
        let order = |a: &u32, b: &u32| match direction {
            Direction::Forward => key(a).cmp(&key(b)),
            Direction::Backward => key(b).cmp(&key(a)),
        };
        if size < rows.len() {
            rows.select_nth_unstable_by(size, order);
        }
        let (batch, later) = rows.split_at_mut(size.min(rows.len()));
        batch.sort_unstable_by(order);
        (batch, later)
    }

    /// Lets other blocks know how near rows have to be before this one's are put together; leaves those that are.
    fn offer(&self, nearest: &Mutex<BinaryHeap<Reverse<i64>>>, passed: &mut Vec<u32>, ts: &[i64]) {
        let (start, end) = self.range();
        passed.retain(|row| (start..end).contains(&ts[*row as usize]));
        let mut nearest = nearest.lock();
        for row in passed.iter() {
            let ts = ts[*row as usize];
            // Larger is nearer.
            let near = match self.request.direction {
                Direction::Backward => ts,
                Direction::Forward => !ts,
            };
            if nearest.len() < self.limit {
                nearest.push(Reverse(near));
            } else if let Some(mut farthest) = nearest.peek_mut()
                && farthest.0 < near
            {
                farthest.0 = near;
            }
        }
        if let Some(Reverse(farthest)) = nearest.peek().filter(|_| nearest.len() == self.limit) {
            match self.request.direction {
                Direction::Backward => self.threshold.fetch_max(*farthest, Ordering::Relaxed),
                Direction::Forward => self.threshold.fetch_min(!*farthest, Ordering::Relaxed),
            };
            let (start, end) = self.range();
            passed.retain(|row| (start..end).contains(&ts[*row as usize]));
        }
    }

    fn keep(&self, rows: Vec<Candidate>) -> Result<(), QueryError> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut collector = self.collector.lock();
        if let Some(worst) = collector.add(rows, &self.budget)? {
            match self.request.direction {
                Direction::Backward => self.threshold.fetch_max(worst, Ordering::Relaxed),
                Direction::Forward => self.threshold.fetch_min(worst, Ordering::Relaxed),
            };
        }
        Ok(())
    }
}

/// Rows of one block that passed.
struct Found {
    interner: Interner,
    rows: Vec<Candidate>,
    /// The stream the runner is set to.
    stream: Option<(u32, Labels)>,
    shown: ShownOnce,
    /// The label sets of the row before: they seldom change.
    last: [Option<Labels>; 3],
}

impl Found {
    /// Sets the runner to a stream and gives its labels.
    fn set_stream(&mut self, task: &BlockTask, stream: u32, runner: &mut Runner) -> Labels {
        match &self.stream {
            Some((at_hand, labels)) if *at_hand == stream => labels.clone(),
            _ => {
                let labels = task.part.labels(stream);
                runner.set_stream(&labels);
                self.stream = Some((stream, labels.clone()));
                labels
            }
        }
    }

    /// Gives those of `picked` that conditions on what the first parser finds may let pass, ascending; no lines are put
    /// together where templates say where the fields are.
    fn test<'p>(
        &mut self,
        task: &BlockTask,
        rows: &Rows,
        body: &Body,
        picked: &'p mut [u32],
        fields: &mut Outlines<'_>,
        runner: &mut Runner,
    ) -> Result<&'p mut [u32], QueryError> {
        // By stream, and where rows of a template follow each other.
        picked.sort_unstable();
        let mut classes = Classes::of(body, 1);
        let mut metadata = Vec::new();
        let wrong = |why| task.wrong(why);
        let mut left = 0;
        let mut spans = rows.spans.iter().peekable();
        for at in 0..picked.len() {
            let row = picked[at];
            while spans.next_if(|span| span.rows.end <= row).is_some() {}
            let Some(span) = spans.peek() else { break };
            self.set_stream(task, span.stream, runner);
            let class = classes.as_mut().map(|classes| classes.class(row, 0));
            let found = fields.of(row, |skeleton| runner.outline_of_test(skeleton));
            let may_pass = match found.map_err(wrong)? {
                Outlined::Line => Ok(true),
                Outlined::Fields(values) => values.verdict(span.stream, class, |line| {
                    body.metadata(row, &mut metadata);
                    let entry = EntryRef {
                        ts: rows.ts[row as usize],
                        line: "",
                        metadata: &metadata,
                    };
                    runner.may_pass(&entry, line)
                }),
            };
            if may_pass.map_err(wrong)? {
                picked[left] = row;
                left += 1;
            }
        }
        Ok(&mut picked[..left])
    }

    fn take(
        &mut self,
        task: &BlockTask,
        rows: &Rows,
        body: &Body,
        (row, line): (u32, &str),
        runner: &mut Runner,
        stats: &mut QueryStats,
    ) {
        let span = rows.span_of(row);
        let labels = self.set_stream(task, span.stream, runner);
        let mut metadata = Vec::new();
        body.metadata(row, &mut metadata);
        stats.metadata_bytes += metadata
            .iter()
            .map(|(name, value)| (name.len() + value.len()) as u64)
            .sum::<u64>();
        let entry = EntryRef {
            ts: rows.ts[row as usize],
            line,
            metadata: &metadata,
        };
        let Some(processed) = runner.process(&entry, true) else {
            return;
        };
        let [stream, metadata, parsed] = &mut self.last;
        let row_out = LogRow {
            ts: processed.ts(),
            line: processed.line().into(),
            stream: shared(&mut self.interner, stream, || processed.stream()),
            metadata: shared(&mut self.interner, metadata, || processed.metadata()),
            parsed: shared(&mut self.interner, parsed, || processed.parsed()),
        };
        let before = self.rows.last().map(|before| &before.row);
        if !self.shown.is_new(&labels, &row_out, before) {
            stats.duplicates += 1;
            return;
        }
        let hash = span
            .shared
            .then(|| entry_hash(task.part.stream_id(span.stream), &entry));
        let arrival = (task.part.order, task.block as u32, row);
        self.rows.push(Candidate {
            ts: entry.ts,
            labels,
            arrival,
            hash,
            row: row_out,
        });
    }
}

/// The shared copy of a label set; the set of the row before is tried first.
fn shared<'a, I: Iterator<Item = (&'a str, &'a str)>>(
    interner: &mut Interner,
    last: &mut Option<Labels>,
    pairs: impl Fn() -> I,
) -> Labels {
    let same = last.take().filter(|last| last.equals(pairs()));
    let set = same.unwrap_or_else(|| interner.intern(Labels::from_sorted(pairs())));
    *last = Some(set.clone());
    set
}

impl Engine {
    /// Answers a log query. See [`LogRequest`].
    ///
    /// # Errors
    /// See [`QueryError`].
    pub async fn log(&self, tenants: &[TenantId], request: LogRequest) -> Result<LogAnswer, QueryError> {
        let started = Instant::now();
        let pipeline = Arc::new(Pipeline::new(&request.expr.stages)?);
        let run = || self.log_once(tenants, request.clone(), Arc::clone(&pipeline));
        let (answer, store) = metered(self.bounded("log", tenants, run)).await;
        let mut answer = answer?;
        answer.stats.store = store;
        answer.stats.exec_time = started.elapsed();
        Ok(answer)
    }

    async fn log_once(
        &self,
        tenants: &[TenantId],
        request: LogRequest,
        pipeline: Arc<Pipeline>,
    ) -> Result<LogAnswer, QueryError> {
        let planning = Instant::now();
        let plan = self
            .plan(tenants, &request.expr.matchers, request.start, request.end)
            .await?;
        self.check_bytes(&plan, request.start, request.end)?;
        let (mut tasks, mut stats) = plan.select(request.start, request.end);
        match request.direction {
            Direction::Backward => tasks.sort_by_key(|task| std::cmp::Reverse(task.meta().max_ts)),
            Direction::Forward => tasks.sort_by_key(|task| task.meta().min_ts),
        }
        stats.times.plan = planning.elapsed();
        // Which rows an interval keeps is only known once all before them are.
        let limit = if request.interval > 0 {
            usize::MAX
        } else {
            request.limit
        };
        let threshold = match request.direction {
            Direction::Backward => i64::MIN,
            Direction::Forward => i64::MAX,
        };
        let scan = Arc::new(LogScan {
            limit,
            head: HeadSearch::new(pipeline.head_filters()),
            implied: ImpliedSearch::new(pipeline.implied_filters()),
            nearest: (pipeline.label_tests().1 && limit < usize::MAX).then(Mutex::default),
            pipeline,
            runners: Mutex::default(),
            collector: Mutex::new(Collector::new(request.direction, limit)),
            threshold: AtomicI64::new(threshold),
            budget: Budget::new(self.limits.query_memory),
            request,
        });
        stats.add(&self.drive(Arc::clone(&scan), tasks, self.parallel()).await?);
        let merging = Instant::now();
        let mut collector = scan.collector.lock();
        collector.compact(&scan.budget);
        let rows = std::mem::take(&mut collector.rows)
            .into_iter()
            .map(|candidate| candidate.row)
            .collect();
        let rows = thinned(rows, scan.request.interval, scan.request.limit);
        stats.times.merge = merging.elapsed();
        stats.entries_returned = rows.len() as u64;
        Ok(LogAnswer { rows, stats })
    }
}

/// Keeps rows that are at least `interval` ns from the last one kept, up to `limit`.
fn thinned(rows: Vec<LogRow>, interval: i64, limit: usize) -> Vec<LogRow> {
    let mut last: Option<i64> = None;
    let mut kept: Vec<LogRow> = rows;
    kept.retain(|row| {
        let far = last.is_none_or(|last| row.ts.abs_diff(last) >= interval.unsigned_abs());
        if far {
            last = Some(row.ts);
        }
        far
    });
    kept.truncate(limit);
    kept
}
