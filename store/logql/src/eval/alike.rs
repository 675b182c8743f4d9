//! Entries that are alike, taken together: runs of rows of which only times and lengths count, and classes of entries
//! of which one says what becomes of all.

use std::ops::Range;

use super::Accumulator;
use super::accumulator::push_value;
use super::leaf::{Fold, Groups};
use crate::error::EvalError;
use crate::pipeline::{EntryRef, Outline, OutlinedLine, Skeleton};

/// What becomes of the entries of a class.
#[derive(Clone, Copy)]
enum ClassOutcome {
    Dropped,
    Series(u32),
}

/// What became of entries alike, by class, as long as streams are alike.
#[derive(Default)]
pub(super) struct Classes {
    /// With the round in which it was found out.
    outcomes: Vec<(u32, ClassOutcome)>,
    round: u32,
}

impl Classes {
    fn begin(&mut self, count: usize) {
        self.outcomes.clear();
        self.outcomes.resize(count, (0, ClassOutcome::Dropped));
        self.round = 1;
    }

    /// Costs nothing: there may be many classes, and streams change often.
    pub(super) fn forget(&mut self) {
        match self.round.checked_add(1) {
            Some(round) => self.round = round,
            None => self.begin(self.outcomes.len()),
        }
    }

    fn get(&self, class: usize) -> Option<ClassOutcome> {
        let (round, outcome) = self.outcomes.get(class)?;
        (*round == self.round).then_some(*outcome)
    }

    fn set(&mut self, class: usize, outcome: ClassOutcome) {
        if let Some(place) = self.outcomes.get_mut(class) {
            *place = (self.round, outcome);
        }
    }
}

/// Timestamps looked at one by one before a search pays: windows mostly hold a few.
const FEW: usize = 16;

/// How many timestamps at the front are at most `last`; looks at few of them. They ascend.
fn count_until(ascending_ts: &[i64], last: i64) -> usize {
    let few = ascending_ts
        .iter()
        .take(FEW)
        .take_while(|ts| **ts <= last)
        .count();
    if few < FEW {
        return few;
    }
    let mut end = FEW * 2;
    while ascending_ts.get(end - 1).is_some_and(|ts| *ts <= last) {
        end *= 2;
    }
    let (known, end) = (end / 2, end.min(ascending_ts.len()));
    let rest = ascending_ts.get(known..end).unwrap_or_default();
    known + rest.partition_point(|ts| *ts <= last)
}

impl Accumulator {
    /// Takes entries of which only the timestamps matter ([`Leaf::rows_only`], [`Leaf::rows_suffice`]); ascending, ns.
    ///
    /// [`Leaf::rows_only`]: super::Leaf::rows_only
    /// [`Leaf::rows_suffice`]: super::Leaf::rows_suffice
    ///
    /// # Errors
    /// As [`Accumulator::add`].
    pub fn add_rows(&mut self, ascending_ts: &[i64]) -> Result<(), EvalError> {
        self.add_runs(ascending_ts, |rows| (rows.len(), 0))
    }

    /// As [`Accumulator::add_rows`] for those of the entries that passed the head filters: `passed` says how many of a
    /// range of them did; it is asked about ranges that follow each other.
    ///
    /// # Errors
    /// As [`Accumulator::add`].
    pub fn add_passed(
        &mut self,
        ascending_ts: &[i64],
        mut passed: impl FnMut(Range<usize>) -> usize,
    ) -> Result<(), EvalError> {
        self.add_runs(ascending_ts, |rows| (passed(rows), 0))
    }

    /// Takes entries of which only timestamps and line lengths (bytes) matter ([`Leaf::lengths_only`],
    /// [`Leaf::lengths_suffice`]).
    ///
    /// [`Leaf::lengths_only`]: super::Leaf::lengths_only
    /// [`Leaf::lengths_suffice`]: super::Leaf::lengths_suffice
    ///
    /// # Errors
    /// As [`Accumulator::add`].
    pub fn add_lengths(&mut self, ascending_ts: &[i64], lengths: &[u32]) -> Result<(), EvalError> {
        self.add_runs(ascending_ts, |rows| {
            let lengths = lengths.get(rows.clone()).unwrap_or_default();
            (rows.len(), lengths.iter().map(|length| i64::from(*length)).sum())
        })
    }

    /// Runs of rows in the same windows are added at once; `measure` gives how many count, and the bytes of their lines.
    fn add_runs(
        &mut self,
        ascending_ts: &[i64],
        mut measure: impl FnMut(Range<usize>) -> (usize, i64),
    ) -> Result<(), EvalError> {
        let windows = self.plan.windows;
        let (mut at, mut before) = (0, None);
        while let Some((ts, rest)) = ascending_ts.get(at..).and_then(<[i64]>::split_first) {
            let next = before.and_then(|(span, last)| windows.next(span?, last, *ts));
            let (span, last) = next.unwrap_or_else(|| windows.holding_until(*ts));
            before = Some((span, last));
            let rows = 1 + count_until(rest, last);
            if let Some(span) = span {
                let (count, bytes) = measure(at..at + rows);
                if count > 0 {
                    self.add_run(span, i64::try_from(count).unwrap_or(i64::MAX), bytes)?;
                }
            }
            at += rows;
        }
        Ok(())
    }

    fn add_run(&mut self, windows: (usize, usize), rows: i64, bytes: i64) -> Result<(), EvalError> {
        let series = match self.stream_series {
            Some(series) => series,
            None => self.series_of_stream()?,
        };
        self.add_to(series, windows, rows, bytes)
    }

    fn add_to(
        &mut self,
        series: u32,
        (first, end): (usize, usize),
        rows: i64,
        bytes: i64,
    ) -> Result<(), EvalError> {
        let count = self.plan.windows.count();
        let with_sizes = self.plan.fold == Fold::Bytes;
        let Some(data) = self.data.get_mut(series as usize) else {
            return Ok(());
        };
        let mut grown = data.counts.add(first, end, count, rows);
        if with_sizes {
            grown += data.sizes.add(first, end, count, bytes);
        }
        self.charge(grown)
    }

    /// The series of entries whose labels are those of the stream.
    fn series_of_stream(&mut self) -> Result<u32, EvalError> {
        let known = match &self.plan.groups {
            Groups::By(names) => {
                self.key.clear();
                for name in names {
                    let name = self.runner.scratch.names.get(*name);
                    push_value(self.stream.get(name), &mut self.key);
                }
                self.table.find(&self.key)
            }
            _ => None,
        };
        let series = match known {
            Some(series) => series,
            None => {
                self.ready();
                self.runner.scratch.begin(&[]);
                self.series(&[])?
            }
        };
        self.stream_series = Some(series);
        Ok(series)
    }

    /// As [`Accumulator::add`], for an entry that passed the head filters and whose line isn't at hand.
    ///
    /// # Errors
    /// As [`Accumulator::add`].
    pub fn add_excerpt(&mut self, entry: &EntryRef<'_>, excerpt: Excerpt<'_>) -> Result<(), EvalError> {
        let Some(windows) = self.windows_at(entry.ts) else {
            return Ok(());
        };
        self.ready();
        let (processed, length) = match excerpt {
            Excerpt::Captured(captured) => (self.runner.process_captured(entry, captured), 0),
            Excerpt::Outlined(line) => (self.runner.process_outlined(entry, line), 0),
            Excerpt::Length(bytes) => (self.runner.process(entry, true), bytes as usize),
        };
        match processed.map(|processed| processed.is_plain_stream()) {
            Some(is_plain) => self.take(entry, is_plain, length, windows),
            None => Ok(()),
        }
    }

    /// The outline of lines that share a skeleton, for [`Excerpt::Outlined`]; `None` when they have to be added one by one.
    pub fn outline(&mut self, skeleton: &Skeleton<'_>) -> Option<Outline> {
        self.runner.outline(skeleton)
    }

    /// Says that classes mean something else from now on, and how many there can be.
    pub fn begin_classes(&mut self, count: usize) {
        self.classes.begin(count);
    }

    /// Whether it is known what becomes of the entries of a class: then nobody asks for their structured metadata.
    #[must_use]
    pub fn knows_class(&self, class: usize) -> bool {
        self.classes.get(class).is_some()
    }

    /// Takes an entry that passed the head filters, of a class of which all entries have the same structured metadata
    /// and the same excerpt, but for the length. For leaves without [`Leaf::unwraps`].
    ///
    /// [`Leaf::unwraps`]: super::Leaf::unwraps
    ///
    /// # Errors
    /// As [`Accumulator::add`].
    pub fn add_of_class(
        &mut self,
        entry: &EntryRef<'_>,
        class: usize,
        excerpt: Excerpt<'_>,
    ) -> Result<(), EvalError> {
        let Some(windows) = self.windows_at(entry.ts) else {
            return Ok(());
        };
        let outcome = self.outcome_of_class(entry, class, excerpt)?;
        let length = match excerpt {
            Excerpt::Length(bytes) => i64::from(bytes),
            Excerpt::Captured(_) | Excerpt::Outlined(_) => 0,
        };
        match outcome {
            ClassOutcome::Dropped => Ok(()),
            ClassOutcome::Series(series) => self.fold(series, windows, entry.ts, length, 0.0),
        }
    }

    /// As [`Accumulator::add_of_class`] for neighbouring entries of one class; their timestamps ascend. `first` is the
    /// first of them, `lengths` are the bytes of their lines, none where these don't count.
    ///
    /// # Errors
    /// As [`Accumulator::add`].
    pub fn add_run_of_class(
        &mut self,
        first: &EntryRef<'_>,
        ascending_ts: &[i64],
        lengths: &[u32],
        class: usize,
    ) -> Result<(), EvalError> {
        let mut at = 0;
        while let Some((ts, rest)) = ascending_ts.get(at..).and_then(<[i64]>::split_first) {
            let windows = self.windows_at(*ts);
            let rows = at..at + 1 + count_until(rest, self.span.last);
            at = rows.end;
            let Some(windows) = windows else { continue };
            match self.outcome_of_class(first, class, Excerpt::Length(0))? {
                ClassOutcome::Dropped => {}
                ClassOutcome::Series(series) => {
                    let lengths = lengths.get(rows.clone()).unwrap_or_default();
                    let bytes = lengths.iter().map(|length| i64::from(*length)).sum();
                    self.add_to(series, windows, rows.len() as i64, bytes)?;
                }
            }
        }
        Ok(())
    }

    fn outcome_of_class(
        &mut self,
        entry: &EntryRef<'_>,
        class: usize,
        excerpt: Excerpt<'_>,
    ) -> Result<ClassOutcome, EvalError> {
        if let Some(outcome) = self.classes.get(class) {
            return Ok(outcome);
        }
        let outcome = self.outcome(entry, excerpt)?;
        // An error's series has all labels, those that streams alike differ in, too.
        if self.runner.scratch.error().is_none() {
            self.classes.set(class, outcome);
        }
        Ok(outcome)
    }

    fn outcome(&mut self, entry: &EntryRef<'_>, excerpt: Excerpt<'_>) -> Result<ClassOutcome, EvalError> {
        self.ready();
        let processed = match excerpt {
            Excerpt::Captured(captured) => self.runner.process_captured(entry, captured),
            Excerpt::Outlined(line) => self.runner.process_outlined(entry, line),
            Excerpt::Length(_) => self.runner.process(entry, true),
        };
        Ok(match processed.is_some() {
            true => ClassOutcome::Series(self.series(entry.metadata)?),
            false => ClassOutcome::Dropped,
        })
    }
}

/// What stands for a line that isn't at hand.
#[derive(Clone, Copy)]
pub enum Excerpt<'a> {
    /// What [`Leaf::sole_capture`] captures in it.
    ///
    /// [`Leaf::sole_capture`]: super::Leaf::sole_capture
    Captured(Option<&'a str>),
    /// Its outline and values ([`Leaf::has_outlines`]).
    ///
    /// [`Leaf::has_outlines`]: super::Leaf::has_outlines
    Outlined(OutlinedLine<'a>),
    /// Its bytes: nothing looks at the line itself ([`Leaf::labels_suffice`]).
    ///
    /// [`Leaf::labels_suffice`]: super::Leaf::labels_suffice
    Length(u32),
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::Excerpt;
    use crate::eval::{Accumulator, EvalLimits, EvalSpec, MetricPlan};
    use crate::pipeline::EntryRef;
    use crate::{Expr, Labels};

    const QUERIES: [&str; 9] = [
        r#"sum by (rank) (count_over_time({job="j"} |= "k" [7s]))"#,
        r#"sum(rate({job="j"} [20s]))"#,
        r#"sum by (key) (count_over_time({job="j"} | regexp `key=(?P<key>[^;]+);` [7s]))"#,
        r#"sum by (rank, key) (count_over_time({job="j"} | regexp `key=(?P<key>[^;]+);` | key != "a" [20s]))"#,
        r#"sum by (rank_extracted) (count_over_time({job="j"} | regexp `key=(?P<rank>[^;]+);` [7s]))"#,
        r#"count_over_time({job="j"} | regexp `key=(?P<key>[^;]+);` | drop key [7s])"#,
        r#"sum by (__error__) (count_over_time({job="j"} | regexp `key=(?P<key>[^;]+);` | key > 1 [7s]))"#,
        r#"max by (rank) (max_over_time({job="j"} | regexp `key=(?P<key>[^;]+);` | unwrap key [7s]))"#,
        r#"min(min_over_time({job="j"} | regexp `key=(?P<key>[^;]+);` | __error__="" | unwrap key [20s]))"#,
    ];
    const SECOND: i64 = 1_000_000_000;
    const LINES: [&str; 6] = ["key=a;", "x key=2; key=3;", "key=12;", "no k", "key=", ""];

    /// The value of the group, by the expression alone.
    fn captured(line: &str) -> Option<&str> {
        let after = line.split_once("key=")?.1;
        after.split_once(';').map(|(value, _)| value)
    }

    fn feed(
        sum: &mut Accumulator,
        rows: &[(usize, i64, usize)],
        mut add: impl FnMut(&mut Accumulator, i64, usize),
    ) {
        for stream in 0..4_usize {
            // Two streams have the rank of another one.
            let rank = if stream == 3 {
                String::new()
            } else {
                (stream % 2).to_string()
            };
            sum.set_stream(&Labels::from_pairs([
                ("job", "j".into()),
                ("n", stream.to_string()),
                ("rank", rank),
            ]));
            let mut own: Vec<_> = rows.iter().filter(|row| row.0 == stream).collect();
            own.sort();
            own.iter()
                .for_each(|(_, second, line)| add(sum, *second * SECOND, *line));
        }
    }

    proptest! {
        #[test]
        fn entries_taken_together_count_as_one_by_one(
            rows in prop::collection::vec((0..4_usize, 0..60_i64, 0..LINES.len()), 0..80),
            step in 1..12_i64,
        ) {
            let spec = EvalSpec { start: 10 * SECOND, end: 50 * SECOND, step: step * SECOND };
            for query in QUERIES {
                let Expr::Metric(expr) = crate::parse(query).unwrap() else { panic!("{query}") };
                let limits = EvalLimits { max_series: 1000, max_bytes: 1 << 30 };
                let plan = MetricPlan::new(&expr, spec, limits).unwrap();
                let leaf = &plan.leaves()[0];
                let (mut entries, mut together) = (leaf.accumulator(), leaf.accumulator());
                let mut failed = [false; 2];
                feed(&mut entries, &rows, |sum, ts, line| {
                    let entry = EntryRef { ts, line: LINES[line], metadata: &[] };
                    failed[0] |= sum.add(&entry, false).is_err();
                });
                together.begin_classes(LINES.len());
                let passes = |line: usize| leaf.head_filters().iter().all(|filter| filter.matches(LINES[line]));
                feed(&mut together, &rows, |sum, ts, line| {
                    let value = captured(LINES[line]);
                    let entry = EntryRef { ts, line: "", metadata: &[] };
                    let added = match (leaf.sole_capture(), leaf.unwraps()) {
                        (Some(_), true) => sum.add_excerpt(&entry, Excerpt::Captured(value)),
                        (Some(_), false) => sum.add_of_class(&entry, line, Excerpt::Captured(value)),
                        (None, _) => sum.add_passed(&[ts], |rows| rows.filter(|_| passes(line)).count()),
                    };
                    failed[1] |= added.is_err();
                });
                prop_assert_eq!(failed[0], failed[1], "{}", query);
                if !failed[0] {
                    let (one, other) = (plan.finish(vec![entries]), plan.finish(vec![together]));
                    prop_assert_eq!(one.unwrap(), other.unwrap(), "{}", query);
                }
            }
        }
    }

    #[test]
    fn an_extreme_by_group_is_that_of_its_series() {
        let value = |query: &str| {
            let Expr::Metric(expr) = crate::parse(query).unwrap() else {
                panic!("{query}")
            };
            let limits = EvalLimits {
                max_series: 1000,
                max_bytes: 1 << 30,
            };
            let plan = MetricPlan::new(
                &expr,
                EvalSpec {
                    start: 50 * SECOND,
                    end: 50 * SECOND,
                    step: 1,
                },
                limits,
            )
            .unwrap();
            let mut sum = plan.leaves()[0].accumulator();
            let rows: Vec<_> = (0..40).map(|n| (n as usize % 4, n, n as usize % 3)).collect();
            feed(&mut sum, &rows, |sum, ts, line| {
                let line = format!("v={}", line as i64 * 10 + ts / SECOND);
                sum.add(
                    &EntryRef {
                        ts,
                        line: &line,
                        metadata: &[],
                    },
                    false,
                )
                .unwrap();
            });
            plan.finish(vec![sum]).unwrap()
        };
        for op in ["max", "min"] {
            let inner = format!(r#"{op}_over_time({{job="j"}} | logfmt | unwrap v [50s])"#);
            // The same through an aggregation that stays where it is.
            let apart = format!("{op} by (rank) (sum without () ({inner}))");
            assert_eq!(value(&format!("{op} by (rank) ({inner})")), value(&apart));
        }
    }
}
