//! Takes a scan over the blocks of a query: fetches ahead, hands blocks to the workers, bounds memory, stops when the
//! query is given up.

use super::block::{Body, Encoded, Needs, Rows};
use super::head::HeadSearch;
use super::select::BlockTask;
use super::workers::Cancel;
use super::{Engine, QueryError, QueryStats, Skipped, deleted};
use crate::metrics as names;
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use rankline_segment::BlockText;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Blocks in memory that a thread takes on at once: other queries get their turn in between.
const MAX_HOT_AT_ONCE: usize = 8;

/// What a query does with each block. Called from many threads.
pub(super) trait Scan: Send + Sync + 'static {
    /// Time range to pick rows from: start inclusive, end exclusive, ns. May become narrower while the query runs.
    fn range(&self) -> (i64, i64);

    /// Whether it pays to look at the rows' times before anything else of a block is read.
    fn probes(&self) -> bool {
        false
    }

    /// Columns to read of a block.
    fn needs(&self, task: &BlockTask) -> Needs;

    /// The filters that lines must pass first.
    fn head(&self) -> Option<&HeadSearch> {
        None
    }

    /// Looks at the picked rows.
    fn scan(
        &self,
        task: &BlockTask,
        rows: &Rows,
        body: &Body,
        stats: &mut QueryStats,
    ) -> Result<(), QueryError>;
}

struct Driver<S> {
    scan: Arc<S>,
    cancel: Cancel,
    stats: Arc<Mutex<QueryStats>>,
    first_looks: Arc<FirstLooks>,
    /// Time that threads spent on blocks, ns.
    scanned_ns: Arc<AtomicU64>,
}

/// Why a block is left out: the count to raise.
type Reason = fn(&mut Skipped) -> &mut u64;
const BY_LIMIT: Reason = |skipped| &mut skipped.by_limit;
const BY_TEMPLATES: Reason = |skipped| &mut skipped.by_templates;
const BY_ROWS: Reason = |skipped| &mut skipped.by_rows;

/// How often a look at a block's templates alone ruled it out. Where it seldom does, all is read at once: on a bucket a
/// request costs more than the bytes.
#[derive(Default)]
struct FirstLooks {
    taken: AtomicU32,
    in_vain: AtomicU32,
}

impl FirstLooks {
    fn pay(&self) -> bool {
        let (taken, in_vain) = (
            self.taken.load(Ordering::Relaxed),
            self.in_vain.load(Ordering::Relaxed),
        );
        taken < 4 || in_vain <= taken / 2
    }

    fn note(&self, may_pass: bool) {
        self.taken.fetch_add(1, Ordering::Relaxed);
        self.in_vain.fetch_add(u32::from(may_pass), Ordering::Relaxed);
    }
}

impl<S> Clone for Driver<S> {
    fn clone(&self) -> Self {
        Self {
            scan: Arc::clone(&self.scan),
            cancel: self.cancel.clone(),
            stats: Arc::clone(&self.stats),
            first_looks: Arc::clone(&self.first_looks),
            scanned_ns: Arc::clone(&self.scanned_ns),
        }
    }
}

impl<S: Scan> Driver<S> {
    /// Picks rows; `None` when the block has none.
    fn rows(&self, task: &BlockTask, head: &Encoded) -> Result<Option<Rows>, QueryError> {
        self.cancel.check()?;
        let (start, end) = self.scan.range();
        let mut rows = task.rows(head, start, end)?;
        deleted::cut(task, &mut rows);
        Ok(Some(rows).filter(|rows| !rows.spans.is_empty()))
    }

    /// Decodes the body; `None` when no row of the block can pass the head filters, as far as that can be told
    /// without putting lines together.
    fn body(&self, task: &BlockTask, encoded: &Encoded, needs: &Needs) -> Result<Option<Body>, QueryError> {
        self.cancel.check()?;
        let mut body = task.body(encoded, needs)?;
        if let Some(BlockText::Templates(text)) = body.text()
            && let Some(head) = self.scan.head()
            && !head.is_empty()
        {
            let candidates = head.candidates(text).map_err(|why| task.wrong(why))?;
            if candidates.is_empty() {
                return Ok(None);
            }
            body.candidates = Some(candidates);
        }
        Ok(Some(body))
    }

    fn scan(&self, task: &BlockTask, mut rows: Rows, body: &Body) -> Result<(), QueryError> {
        deleted::sift(task, &mut rows, body)?;
        let mut stats = QueryStats {
            lines: rows.count(),
            blocks: 1,
            ..QueryStats::default()
        };
        let (of_block, rows_of_block) = (task.meta().line_bytes, u64::from(task.meta().rows));
        stats.line_bytes = match body.text() {
            Some(_) if stats.lines == rows_of_block => of_block,
            // About: the lengths themselves may not be needed for anything else.
            Some(BlockText::Templates(_)) => of_block * stats.lines / rows_of_block.max(1),
            _ => {
                let bytes = rows.spans.iter().map(|span| body.line_bytes(&span.rows));
                bytes.sum::<Result<u64, _>>().map_err(|why| task.wrong(why))?
            }
        };
        self.scan.scan(task, &rows, body, &mut stats)?;
        stats.lines_built = body.built.get();
        self.stats.lock().add(&stats);
        Ok(())
    }

    /// Whether it pays to look at a block's templates before all of it is read.
    fn looks_first(&self, task: &BlockTask, needs: &Needs) -> bool {
        let asks = self.scan.head().is_some_and(HeadSearch::asks_templates);
        needs.lines && asks && task.meta().has_templates() && self.first_looks.pay()
    }

    /// Whether some row of the block can pass the head filters, as far as its templates tell.
    fn may_pass(&self, task: &BlockTask, encoded: &Encoded) -> Result<bool, QueryError> {
        self.cancel.check()?;
        let body = task.body(encoded, &Needs::TEMPLATES)?;
        let may_pass = match (body.templates(), self.scan.head()) {
            (Some(text), Some(head)) => head.may_pass(text).map_err(|why| task.wrong(why))?,
            _ => true,
        };
        self.first_looks.note(may_pass);
        Ok(may_pass)
    }

    /// Does all there is to do with a block that is in memory.
    fn scan_now(&self, task: &BlockTask, encoded: &Encoded, needs: &Needs) -> Result<(), QueryError> {
        let (start, end) = self.scan.range();
        let (min, max) = (task.meta().min_ts, task.meta().max_ts);
        // What is cheaper to rule the block out by comes first.
        if min >= start && max < end {
            let Some(body) = self.body(task, encoded, needs)? else {
                return self.skip(BY_TEMPLATES);
            };
            match self.rows(task, encoded)? {
                None => self.skip(BY_ROWS),
                Some(rows) => self.scan(task, rows, &body),
            }
        } else if max < start || min >= end {
            self.skip(BY_LIMIT)
        } else {
            match self.rows(task, encoded)? {
                None => self.skip(BY_ROWS),
                Some(rows) => match self.body(task, encoded, needs)? {
                    None => self.skip(BY_TEMPLATES),
                    Some(body) => self.scan(task, rows, &body),
                },
            }
        }
    }

    /// Counts a block of which nothing can be part of the answer.
    fn skip(&self, reason: Reason) -> Result<(), QueryError> {
        *reason(&mut self.stats.lock().skipped) += 1;
        Ok(())
    }

    /// Does a thread's work on blocks and counts the time.
    fn timed<T>(&self, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let done = work();
        let ns = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.scanned_ns.fetch_add(ns, Ordering::Relaxed);
        done
    }
}

impl Engine {
    /// Runs `scan` over all `tasks`, started in their order; `parallel` blocks are on their way at a time.
    pub(super) async fn drive<S: Scan>(
        &self,
        scan: Arc<S>,
        tasks: Vec<BlockTask>,
        parallel: usize,
    ) -> Result<QueryStats, QueryError> {
        let cancel = Cancel::default();
        let _guard = cancel.guard();
        let driver = Driver {
            scan,
            cancel,
            stats: Arc::new(Mutex::new(QueryStats::default())),
            first_looks: Arc::default(),
            scanned_ns: Arc::default(),
        };
        let (mut hot, mut cold) = (Vec::new(), Vec::new());
        for task in tasks {
            let needs = needs_of(&*driver.scan, &task);
            match self.in_memory(&task, &needs) {
                Some(encoded) => hot.push((task, encoded, needs)),
                None => cold.push((task, needs)),
            }
        }
        let fetched = futures::stream::iter(cold)
            .map(|(task, needs)| Ok(self.drive_block(driver.clone(), task, needs)))
            .try_buffer_unordered(parallel.max(1))
            .try_for_each(|()| std::future::ready(Ok(())));
        let blocks_in_memory = hot.len() as u64;
        futures::try_join!(self.drive_hot(driver.clone(), hot), fetched)?;
        let mut stats = *driver.stats.lock();
        stats.blocks_in_memory = blocks_in_memory;
        stats.times.scan = Duration::from_nanos(driver.scanned_ns.load(Ordering::Relaxed));
        count(&stats);
        Ok(stats)
    }

    /// Scans blocks that are in memory: several at a time for each thread, as a block may take less than handing it
    /// over does.
    async fn drive_hot<S: Scan>(
        &self,
        driver: Driver<S>,
        tasks: Vec<(BlockTask, Encoded, Needs)>,
    ) -> Result<(), QueryError> {
        let threads = self.workers.threads();
        let at_once = (tasks.len() / (threads * 4)).clamp(1, MAX_HOT_AT_ONCE);
        let blocks = self.blocks.clone();
        let scan = move |(task, encoded, needs): (BlockTask, Encoded, Needs)| {
            driver.timed(|| driver.scan_now(&task, &encoded, &needs))?;
            blocks.keep(task.key(), &encoded.hot);
            Ok(())
        };
        self.workers.run_all(tasks, at_once, scan).await
    }

    async fn drive_block<S: Scan>(
        &self,
        driver: Driver<S>,
        task: BlockTask,
        needs: Needs,
    ) -> Result<(), QueryError> {
        let (start, end) = driver.scan.range();
        let mut stats = QueryStats::default();
        if task.meta().max_ts < start || task.meta().min_ts >= end {
            return driver.skip(BY_LIMIT);
        }
        let _memory = self.memory.take(task.memory(&needs)).await;
        if driver.looks_first(&task, &needs) {
            let encoded = self.fetch_templates(&task, &mut stats).await?;
            let (own, of, hot) = (driver.clone(), task.clone(), Arc::clone(&encoded.hot));
            let looked = move || own.timed(|| own.may_pass(&of, &encoded));
            let may_pass = self.workers.run(looked).await?;
            self.blocks.keep(task.key(), &hot);
            if !may_pass {
                driver.stats.lock().add(&stats);
                return driver.skip(BY_TEMPLATES);
            }
        }
        if driver.scan.probes() {
            let head = self.fetch_head(&task, &mut stats).await?;
            let (own, of, hot) = (driver.clone(), task.clone(), Arc::clone(&head.hot));
            let picked = move || own.timed(|| own.rows(&of, &head));
            let rows = self.workers.run(picked).await?;
            self.blocks.keep(task.key(), &hot);
            match rows {
                None => driver.skip(BY_ROWS)?,
                Some(rows) => {
                    let encoded = self.fetch_body(&task, &needs, &mut stats).await?;
                    let (own, key, hot) = (driver.clone(), task.key(), Arc::clone(&encoded.hot));
                    let scanned = move || {
                        own.timed(|| match own.body(&task, &encoded, &needs)? {
                            None => own.skip(BY_TEMPLATES),
                            Some(body) => own.scan(&task, rows, &body),
                        })
                    };
                    self.workers.run(scanned).await?;
                    self.blocks.keep(key, &hot);
                }
            }
        } else {
            let all = self.fetch_all(&task, &needs, &mut stats).await?;
            let (own, key, hot) = (driver.clone(), task.key(), Arc::clone(&all.hot));
            let scanned = move || {
                own.timed(|| {
                    let Some(body) = own.body(&task, &all, &needs)? else {
                        return own.skip(BY_TEMPLATES);
                    };
                    match own.rows(&task, &all)? {
                        None => own.skip(BY_ROWS),
                        Some(rows) => own.scan(&task, rows, &body),
                    }
                })
            };
            self.workers.run(scanned).await?;
            self.blocks.keep(key, &hot);
        }
        driver.stats.lock().add(&stats);
        Ok(())
    }
}

fn needs_of(scan: &impl Scan, task: &BlockTask) -> Needs {
    match deleted::needs_content(task) {
        true => Needs::ALL,
        false => scan.needs(task),
    }
}

fn count(stats: &QueryStats) {
    metrics::counter!(names::QUERY_LINE_BYTES).increment(stats.line_bytes);
    metrics::counter!(names::QUERY_COLUMN_BYTES).increment(stats.compressed_bytes);
    metrics::counter!(names::QUERY_BLOCKS, "outcome" => "read").increment(stats.blocks);
    metrics::counter!(names::QUERY_BLOCKS, "outcome" => "skipped").increment(stats.skipped.referenced());
}
