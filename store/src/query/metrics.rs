//! Metric queries: each leaf of the plan folds its blocks into one accumulator for each worker.

use super::block::{Body, Needs, PickedLines, Rows, Span};
use super::budget::Budget;
use super::captures::{Captured, Captures};
use super::dedupe::{Met, entry_hash};
use super::drive::Scan;
use super::head::{HeadSearch, LINES_AT_ONCE, joined};
use super::select::BlockTask;
use super::{Engine, QueryError, QueryStats};
use crate::tenants::TenantId;
use parking_lot::Mutex;
use rankline_logql::{
    Accumulator, EntryRef, EvalLimits, EvalSpec, MetricExpr, MetricPlan, MetricValue, SoleCapture,
};
use rankline_segment::{BlockText, TemplateLines};
use std::sync::Arc;

/// A metric query.
#[derive(Debug, Clone)]
pub struct MetricRequest {
    /// What to compute.
    pub expr: MetricExpr,
    /// When to compute it.
    pub spec: EvalSpec,
    /// Cut an answer of too many series, with a warning, rather than refuse it.
    pub partial: bool,
}

/// Answer of a metric query.
#[derive(Debug)]
pub struct MetricAnswer {
    /// Scalar, vector or matrix.
    pub value: MetricValue,
    /// What the reader has to know about it.
    pub warnings: Vec<String>,
    /// The work it took.
    pub stats: QueryStats,
}

/// What a leaf has to look at in a block.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cost {
    /// Timestamps alone.
    Rows,
    /// Timestamps, and which rows pass the head filters.
    Passed,
    /// Timestamps and the lengths of lines.
    Lengths,
    /// Each entry.
    Entries,
}

struct LeafScan {
    plan: Arc<MetricPlan>,
    leaf: usize,
    head: HeadSearch,
    needs: Needs,
    idle: Mutex<Vec<Accumulator>>,
    met: Met,
    budget: Budget,
}

impl Scan for LeafScan {
    fn range(&self) -> (i64, i64) {
        self.plan.leaves()[self.leaf].time_range()
    }

    fn head(&self) -> Option<&HeadSearch> {
        Some(&self.head)
    }

    fn needs(&self, task: &BlockTask) -> Needs {
        // Entries that may be there twice are told apart by all they are.
        if task.has_shared_rows() {
            return Needs::ALL;
        }
        match self.cost(task) {
            Cost::Rows => Needs::HEAD,
            Cost::Lengths => Needs {
                lengths: true,
                ..Needs::HEAD
            },
            Cost::Passed | Cost::Entries => self.needs.clone(),
        }
    }

    fn scan(
        &self,
        task: &BlockTask,
        rows: &Rows,
        body: &Body,
        stats: &mut QueryStats,
    ) -> Result<(), QueryError> {
        let leaf = &self.plan.leaves()[self.leaf];
        let mut sum = self.idle.lock().pop().unwrap_or_else(|| leaf.accumulator());
        let before = sum.bytes();
        let mut fold = Fold {
            scan: self,
            task,
            rows,
            body,
            sum: &mut sum,
            stats,
            stream: None,
        };
        match self.cost(task) {
            Cost::Rows => fold.runs(true)?,
            Cost::Lengths => fold.runs(false)?,
            Cost::Passed => fold.passed()?,
            Cost::Entries => fold.entries()?,
        }
        let after = sum.bytes();
        self.idle.lock().push(sum);
        self.budget.grow(after.saturating_sub(before))
    }
}

impl LeafScan {
    /// Rows without the structured metadata that the leaf looks at can be folded without their text.
    fn cost(&self, task: &BlockTask) -> Cost {
        let leaf = &self.plan.leaves()[self.leaf];
        let bare = || !task.has_metadata(&self.needs);
        if leaf.rows_suffice() && bare() {
            Cost::Rows
        } else if leaf.lengths_suffice() && bare() {
            Cost::Lengths
        } else if leaf.passed_rows_suffice() && bare() && !task.has_shared_rows() {
            Cost::Passed
        } else {
            Cost::Entries
        }
    }
}

/// One block on its way into an accumulator.
struct Fold<'a> {
    scan: &'a LeafScan,
    task: &'a BlockTask,
    rows: &'a Rows,
    body: &'a Body,
    sum: &'a mut Accumulator,
    stats: &'a mut QueryStats,
    /// The stream the accumulator is set to.
    stream: Option<u32>,
}

impl<'a> Fold<'a> {
    /// Folds entries of which one group of an expression is wanted.
    fn captured(
        &mut self,
        capture: &SoleCapture,
        text: &TemplateLines,
        passed: &[u32],
    ) -> Result<(), QueryError> {
        let (rows, body): (&'a Rows, &'a Body) = (self.rows, self.body);
        let alike =
            !self.scan.plan.leaves()[self.scan.leaf].unwraps() && !self.task.has_metadata(&self.scan.needs);
        let wrong = |why| self.task.wrong(why);
        let mut captures = Captures::new(capture, text).map_err(wrong)?;
        if alike {
            self.sum.begin_classes(text.templates());
        }
        let mut metadata = Vec::new();
        let mut spans = rows.spans.iter().peekable();
        for &row in passed {
            while spans.next_if(|span| span.rows.end <= row).is_some() {}
            let Some(span) = spans.peek() else { break };
            self.set_stream(span.stream);
            let ts = rows.ts[row as usize];
            body.metadata(row, &mut metadata);
            let entry = |line| EntryRef {
                ts,
                line,
                metadata: &metadata,
            };
            match captures.of(row).map_err(|why| self.task.wrong(why))? {
                Captured::OfTemplate(template, value) if alike => {
                    self.sum.add_of_class(ts, template, value)?
                }
                Captured::OfTemplate(_, value) | Captured::OfRow(value) => {
                    self.sum.add_captured(&entry(""), value)?;
                }
                Captured::Unknown(line) => self.sum.add(&entry(line), true)?,
            }
        }
        self.stats.post_filter_lines += passed.len() as u64;
        Ok(())
    }

    fn set_stream(&mut self, stream: u32) {
        if self.stream != Some(stream) {
            self.sum.set_stream(&self.task.part.labels(stream));
            self.stream = Some(stream);
        }
    }

    /// Folds whole runs of rows whose text does not count.
    fn runs(&mut self, rows_only: bool) -> Result<(), QueryError> {
        let rows: &'a Rows = self.rows;
        for span in &rows.spans {
            self.set_stream(span.stream);
            let ts = rows.ts_of(&span.rows);
            match self.body.lengths() {
                _ if span.shared => self.shared_run(span, rows_only)?,
                _ if rows_only => self.sum.add_rows(ts)?,
                Some(lengths) => {
                    let lengths = &lengths[span.rows.start as usize..span.rows.end as usize];
                    self.sum.add_lengths(ts, lengths)?;
                }
                None => {
                    let lengths = self.body.lengths_of(&span.rows);
                    let lengths = lengths.map_err(|why| self.task.wrong(why))?;
                    self.sum.add_lengths(ts, &lengths)?;
                }
            }
        }
        self.stats.post_filter_lines += self.rows.count();
        Ok(())
    }

    fn shared_run(&mut self, span: &Span, rows_only: bool) -> Result<(), QueryError> {
        let (rows, body): (&'a Rows, &'a Body) = (self.rows, self.body);
        let mut metadata = Vec::new();
        let picked: Vec<u32> = span.rows.clone().collect();
        let lines = body.pick(&picked).map_err(|why| self.task.wrong(why))?;
        for (place, row) in picked.iter().copied().enumerate() {
            let ts = &rows.ts[row as usize..=row as usize];
            body.metadata(row, &mut metadata);
            let entry = EntryRef {
                ts: ts[0],
                line: lines.get(place, row),
                metadata: &metadata,
            };
            if !self.is_new(span, &entry) {
                continue;
            }
            if rows_only {
                self.sum.add_rows(ts)?;
            } else {
                self.sum
                    .add_lengths(ts, &[u32::try_from(entry.line.len()).unwrap_or(u32::MAX)])?;
            }
        }
        Ok(())
    }

    /// Counts the rows that pass the head filters, run by run.
    fn passed(&mut self) -> Result<(), QueryError> {
        let rows: &'a Rows = self.rows;
        let passed = self.passed_rows()?;
        let mut at = 0;
        for span in &rows.spans {
            let from = at;
            at += passed[from..].partition_point(|row| *row < span.rows.end);
            let of_span = &passed[from..at];
            if of_span.is_empty() {
                continue;
            }
            self.set_stream(span.stream);
            let first = span.rows.start as usize;
            let before = |row: usize| of_span.partition_point(|passed| (*passed as usize) < first + row);
            let ts = rows.ts_of(&span.rows);
            self.sum
                .add_passed(ts, |rows| before(rows.end) - before(rows.start))?;
        }
        self.stats.post_filter_lines += passed.len() as u64;
        Ok(())
    }

    /// The rows that pass the head filters, ascending.
    fn passed_rows(&self) -> Result<Vec<u32>, QueryError> {
        let ranges = joined(self.rows.spans.iter().map(|span| span.rows.clone()));
        let passed = self.scan.head.passed(self.body, &ranges);
        passed.map_err(|why| self.task.wrong(why))
    }

    /// Folds entries one by one, those that pass the head filters.
    fn entries(&mut self) -> Result<(), QueryError> {
        let rows: &'a Rows = self.rows;
        let passed = self.passed_rows()?;
        if let Some(capture) = self.scan.plan.leaves()[self.scan.leaf].sole_capture()
            && let Some(BlockText::Templates(text)) = self.body.text()
            && !self.task.has_shared_rows()
        {
            return self.captured(capture, text, &passed);
        }
        let needs_line = self.scan.plan.leaves()[self.scan.leaf].needs_line();
        if needs_line || !self.task.has_shared_rows() {
            return self.fold_rows(&passed, needs_line);
        }
        // What the head filters answered needs no lines but where entries may be there twice.
        let (shared, own): (Vec<u32>, Vec<u32>) = passed.iter().partition(|row| rows.span_of(**row).shared);
        self.fold_rows(&shared, true)?;
        self.fold_rows(&own, false)
    }

    /// Folds entries one by one; `picked` ascending.
    fn fold_rows(&mut self, picked: &[u32], reads_lines: bool) -> Result<(), QueryError> {
        let (rows, body): (&'a Rows, &'a Body) = (self.rows, self.body);
        let mut metadata = Vec::new();
        let mut spans = rows.spans.iter().peekable();
        for batch in picked.chunks(LINES_AT_ONCE) {
            let lines = match reads_lines {
                true => body.pick(batch).map_err(|why| self.task.wrong(why))?,
                false => PickedLines::None,
            };
            for (place, row) in batch.iter().copied().enumerate() {
                while spans.next_if(|span| span.rows.end <= row).is_some() {}
                if let Some(span) = spans.peek() {
                    body.metadata(row, &mut metadata);
                    let entry = EntryRef {
                        ts: rows.ts[row as usize],
                        line: lines.get(place, row),
                        metadata: &metadata,
                    };
                    self.entry(span, &entry)?;
                }
            }
        }
        Ok(())
    }

    fn entry(&mut self, span: &Span, entry: &EntryRef<'_>) -> Result<(), QueryError> {
        if span.shared && !self.is_new(span, entry) {
            return Ok(());
        }
        self.set_stream(span.stream);
        self.sum.add(entry, true)?;
        self.stats.post_filter_lines += 1;
        Ok(())
    }

    /// Whether an entry that may be there twice is met for the first time.
    fn is_new(&mut self, span: &Span, entry: &EntryRef<'_>) -> bool {
        let new = self
            .scan
            .met
            .insert(entry_hash(self.task.part.stream_id(span.stream), entry));
        self.stats.duplicates += u64::from(!new);
        new
    }
}

/// Leaves the first `most` series; whether there were more.
fn cut(value: &mut MetricValue, most: usize) -> bool {
    let series = match value {
        MetricValue::Scalar(_) => return false,
        MetricValue::Vector(samples) => {
            let series = samples.len();
            samples.truncate(most);
            series
        }
        MetricValue::Matrix(series) => {
            let found = series.len();
            series.truncate(most);
            found
        }
    };
    series > most
}

impl Engine {
    /// Answers a metric query.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub async fn metric(
        &self,
        tenants: &[TenantId],
        request: MetricRequest,
    ) -> Result<MetricAnswer, QueryError> {
        let started = std::time::Instant::now();
        let limits = EvalLimits {
            max_series: match request.partial {
                true => usize::MAX,
                false => self.limits.max_series,
            },
            max_bytes: self.limits.query_memory,
        };
        let plan = Arc::new(MetricPlan::new(&request.expr, request.spec, limits)?);
        let mut answer = self
            .bounded("metric", tenants, || self.metric_once(tenants, Arc::clone(&plan)))
            .await?;
        if cut(&mut answer.value, self.limits.max_series) {
            answer.warnings.push(format!(
                "maximum number of series ({}) reached for a single query; returning partial results",
                self.limits.max_series
            ));
        }
        answer.stats.exec_time = started.elapsed();
        Ok(answer)
    }

    async fn metric_once(
        &self,
        tenants: &[TenantId],
        plan: Arc<MetricPlan>,
    ) -> Result<MetricAnswer, QueryError> {
        let mut stats = QueryStats::default();
        let mut sums = Vec::new();
        for leaf in 0..plan.leaves().len() {
            let (sum, part) = self.leaf(tenants, Arc::clone(&plan), leaf).await?;
            stats.add(&part);
            sums.push(sum);
        }
        let value = self.workers.run(move || Ok(plan.finish(sums)?)).await?;
        stats.entries_returned = match &value {
            MetricValue::Scalar(_) => 1,
            MetricValue::Vector(samples) => samples.len() as u64,
            MetricValue::Matrix(series) => series.len() as u64,
        };
        Ok(MetricAnswer {
            value,
            warnings: Vec::new(),
            stats,
        })
    }

    async fn leaf(
        &self,
        tenants: &[TenantId],
        plan: Arc<MetricPlan>,
        place: usize,
    ) -> Result<(Accumulator, QueryStats), QueryError> {
        let leaf = &plan.leaves()[place];
        let (start, end) = leaf.time_range();
        let mut read = self.plan(tenants, leaf.matchers(), start, end).await?;
        self.check_bytes(&read, start, end)?;
        self.narrow_shared_times(&mut read).await?;
        let tasks = read.blocks(start, end);
        let looks_at_lines = leaf.needs_line() || !leaf.head_filters().is_empty();
        let needs = Needs {
            lines: looks_at_lines,
            templates: looks_at_lines,
            lengths: false,
            metadata: leaf.metadata_needs(),
        };
        let scan = Arc::new(LeafScan {
            head: HeadSearch::new(leaf.head_filters()),
            plan: Arc::clone(&plan),
            leaf: place,
            needs,
            idle: Mutex::default(),
            met: Met::default(),
            budget: Budget::new(self.limits.query_memory),
        });
        let mut stats = self.drive(Arc::clone(&scan), tasks, self.parallel()).await?;
        stats.segments = read.parts.len() as u64;
        let sums = std::mem::take(&mut *scan.idle.lock());
        let fold = move || {
            let mut sums = sums.into_iter();
            let mut first = sums
                .next()
                .unwrap_or_else(|| scan.plan.leaves()[place].accumulator());
            for sum in sums {
                first.merge(sum)?;
            }
            Ok(first)
        };
        Ok((self.workers.run(fold).await?, stats))
    }
}
