//! One block on its way into an accumulator: as much of it at once as the leaf allows.
//!
//! Knows what a leaf asks for, not what it computes.

use super::block::{Body, Needs, PickedLines, Rows, Span};
use super::budget::Budget;
use super::captures::{Captured, Captures};
use super::dedupe::{Met, entry_hash};
use super::drive::Scan;
use super::head::{HeadSearch, LINES_AT_ONCE, joined};
use super::implied::ImpliedSearch;
use super::labels::{self, Classes};
use super::outlines::{Outlined, Outlines};
use super::select::BlockTask;
use super::{QueryError, QueryStats};
use parking_lot::Mutex;
use rankline_logql::{Accumulator, EntryRef, Excerpt, Leaf, MetricPlan};
use rankline_segment::{BlockText, SegmentError};
use std::borrow::Cow;
use std::sync::Arc;

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

/// Folds the blocks that one leaf of a plan reads.
pub(super) struct LeafScan {
    pub(super) plan: Arc<MetricPlan>,
    pub(super) leaf: usize,
    pub(super) head: HeadSearch,
    pub(super) implied: ImpliedSearch,
    pub(super) needs: Needs,
    pub(super) idle: Mutex<Vec<Accumulator>>,
    pub(super) met: Met,
    pub(super) budget: Budget,
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

/// What was read of a row.
enum Read<'r> {
    /// The same for all rows of the template of this number.
    OfTemplate(usize, Excerpt<'r>),
    /// Of the row itself.
    OfRow(Excerpt<'r>),
    /// The line has to be asked itself.
    Line(&'r str),
}

/// Reads what an accumulator wants of rows, most often without their lines.
trait ExcerptReader {
    /// Gives what there is of a row to `take`; ascending rows fastest.
    fn read<T>(
        &mut self,
        row: u32,
        sum: &mut Accumulator,
        take: impl FnOnce(&mut Accumulator, Read<'_>) -> T,
    ) -> Result<T, SegmentError>;
}

impl ExcerptReader for Captures<'_> {
    fn read<T>(
        &mut self,
        row: u32,
        sum: &mut Accumulator,
        take: impl FnOnce(&mut Accumulator, Read<'_>) -> T,
    ) -> Result<T, SegmentError> {
        let read = match self.of(row)? {
            Captured::OfTemplate(template, value) => Read::OfTemplate(template, Excerpt::Captured(value)),
            Captured::OfRow(value) => Read::OfRow(Excerpt::Captured(value)),
            Captured::Unknown(line) => Read::Line(line),
        };
        Ok(take(sum, read))
    }
}

impl ExcerptReader for Outlines<'_> {
    fn read<T>(
        &mut self,
        row: u32,
        sum: &mut Accumulator,
        take: impl FnOnce(&mut Accumulator, Read<'_>) -> T,
    ) -> Result<T, SegmentError> {
        let fields = match self.of(row, |skeleton| sum.outline(skeleton))? {
            Outlined::Fields(fields) => fields,
            Outlined::Line => return Ok(take(sum, Read::Line(self.line(row)?))),
        };
        let template = fields.is_fixed().then_some(fields.template);
        fields.give(|line| {
            let excerpt = Excerpt::Outlined(line);
            let read = match template {
                Some(template) => Read::OfTemplate(template, excerpt),
                None => Read::OfRow(excerpt),
            };
            take(sum, read)
        })
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
    fn leaf(&self) -> &'a Leaf {
        &self.scan.plan.leaves()[self.scan.leaf]
    }

    /// Folds entries of which `reader` reads what is wanted without their lines, in a block of so many templates; `passed`
    /// ascending.
    fn excerpts(
        &mut self,
        mut reader: impl ExcerptReader,
        templates: usize,
        passed: &[u32],
    ) -> Result<(), QueryError> {
        let (rows, body): (&'a Rows, &'a Body) = (self.rows, self.body);
        let mut classes = Classes::of(body, templates).filter(|_| !self.leaf().unwraps());
        if let Some(classes) = &classes {
            self.sum.begin_classes(classes.count());
        }
        let mut metadata = Vec::new();
        let mut spans = rows.spans.iter().peekable();
        for &row in passed {
            while spans.next_if(|span| span.rows.end <= row).is_some() {}
            let Some(span) = spans.peek() else { break };
            self.set_stream(span.stream);
            body.metadata(row, &mut metadata);
            let bare = EntryRef {
                ts: rows.ts[row as usize],
                line: "",
                metadata: &metadata,
            };
            let folded = reader.read(row, self.sum, |sum, read| match (read, &mut classes) {
                (Read::OfTemplate(template, excerpt), Some(classes)) => {
                    sum.add_of_class(&bare, classes.class(row, template), excerpt)
                }
                (Read::OfTemplate(_, excerpt) | Read::OfRow(excerpt), _) => sum.add_excerpt(&bare, excerpt),
                (Read::Line(line), _) => {
                    body.built(1);
                    sum.add(&EntryRef { line, ..bare }, true)
                }
            });
            folded.map_err(|why| self.task.wrong(why))??;
        }
        self.stats.post_filter_lines += passed.len() as u64;
        Ok(())
    }

    /// Folds entries whose labels alone count; `passed` ascending.
    fn labelled(&mut self, passed: &[u32]) -> Result<(), QueryError> {
        let (rows, body): (&'a Rows, &'a Body) = (self.rows, self.body);
        let lengths = match self.leaf().counts_bytes() {
            true => body.lengths_of(&(0..self.task.meta().rows)),
            false => Ok(Cow::Borrowed(&[][..])),
        };
        let lengths = lengths.map_err(|why| self.task.wrong(why))?;
        let mut classes = Classes::of(body, 1);
        if let Some(classes) = &mut classes {
            self.sum.begin_classes(classes.count());
            if passed.len() as u64 == rows.count() && self.leaf().folds_runs() {
                return self.labelled_runs(classes, &lengths);
            }
        }
        let mut metadata = Vec::new();
        let mut spans = rows.spans.iter().peekable();
        for &row in passed {
            while spans.next_if(|span| span.rows.end <= row).is_some() {}
            let Some(span) = spans.peek() else { break };
            self.set_stream(span.stream);
            let class = classes.as_mut().map(|classes| classes.class(row, 0));
            if !class.is_some_and(|class| self.sum.knows_class(class)) {
                body.metadata(row, &mut metadata);
            }
            let entry = EntryRef {
                ts: rows.ts[row as usize],
                line: "",
                metadata: &metadata,
            };
            let length = Excerpt::Length(lengths.get(row as usize).copied().unwrap_or(0));
            match class {
                Some(class) => self.sum.add_of_class(&entry, class, length)?,
                None => self.sum.add_excerpt(&entry, length)?,
            }
        }
        self.stats.post_filter_lines += passed.len() as u64;
        Ok(())
    }

    /// As [`Fold::labelled`] where every row passed: neighbours of one class are taken together.
    fn labelled_runs(&mut self, classes: &mut Classes, lengths: &[u32]) -> Result<(), QueryError> {
        let (rows, body): (&'a Rows, &'a Body) = (self.rows, self.body);
        let mut metadata = Vec::new();
        for span in &rows.spans {
            self.set_stream(span.stream);
            let mut row = span.rows.start;
            while row < span.rows.end {
                let (class, end) = classes.run(row);
                let run = row..end.min(span.rows.end);
                if !self.sum.knows_class(class) {
                    body.metadata(row, &mut metadata);
                }
                let ts = rows.ts_of(&run);
                let first = EntryRef {
                    ts: ts[0],
                    line: "",
                    metadata: &metadata,
                };
                let lengths = lengths.get(run.start as usize..run.end as usize);
                self.sum
                    .add_run_of_class(&first, ts, lengths.unwrap_or_default(), class)?;
                row = run.end;
            }
        }
        self.stats.post_filter_lines += rows.count();
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
            let mut rest = of_span;
            let ts = rows.ts_of(&span.rows);
            self.sum.add_passed(ts, |rows| {
                take_below(&mut rest, first + rows.start);
                take_below(&mut rest, first + rows.end)
            })?;
        }
        self.stats.post_filter_lines += passed.len() as u64;
        Ok(())
    }

    /// The rows that pass the head filters and the conditions on labels behind them, ascending.
    fn passed_rows(&self) -> Result<Vec<u32>, QueryError> {
        let ranges = joined(self.rows.spans.iter().map(|span| span.rows.clone()));
        let passed = self.scan.head.passed(self.body, &ranges);
        let mut passed = passed.map_err(|why| self.task.wrong(why))?;
        labels::retain(
            &self.leaf().label_tests(),
            self.task,
            self.rows,
            self.body,
            &mut passed,
        );
        let implied = self
            .scan
            .implied
            .retain(self.task, self.rows, self.body, &mut passed);
        implied.map_err(|why| self.task.wrong(why))?;
        Ok(passed)
    }

    /// Folds entries one by one, those that pass the head filters.
    fn entries(&mut self) -> Result<(), QueryError> {
        let rows: &'a Rows = self.rows;
        let passed = self.passed_rows()?;
        if !self.task.has_shared_rows() {
            if let Some(capture) = self.leaf().sole_capture()
                && let Some(BlockText::Templates(text)) = self.body.text()
            {
                let captures = Captures::new(capture, text).map_err(|why| self.task.wrong(why))?;
                return self.excerpts(captures, text.templates(), &passed);
            }
            if self.leaf().has_outlines()
                && let Some(BlockText::Templates(text)) = self.body.text()
            {
                let outlines = Outlines::new(text).map_err(|why| self.task.wrong(why))?;
                return self.excerpts(outlines, text.templates(), &passed);
            }
            if self.leaf().labels_suffice() {
                return self.labelled(&passed);
            }
        }
        let needs_line = self.leaf().needs_line();
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

/// Takes the rows below `end` off the front of ascending ones, and says how many they were.
fn take_below(rows: &mut &[u32], end: usize) -> usize {
    // Windows mostly hold a few.
    const FEW: usize = 16;
    let is_below = |row: &u32| (*row as usize) < end;
    let few = rows.iter().take(FEW).take_while(|row| is_below(row)).count();
    let count = if few < FEW {
        few
    } else {
        rows.partition_point(is_below)
    };
    *rows = &rows[count..];
    count
}
