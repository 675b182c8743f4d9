//! Entries that are alike, taken together: runs of rows of which only times and lengths count, and classes of entries
//! of which one says what becomes of all.

use std::ops::Range;

use super::Accumulator;
use super::accumulator::{ClassOutcome, push_value};
use super::leaf::{Fold, Groups};
use crate::error::EvalError;
use crate::pipeline::EntryRef;

/// How many timestamps at the front are at most `last`; looks at few of them. They ascend.
fn count_until(ascending_ts: &[i64], last: i64) -> usize {
    let mut end = 1;
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
    /// range of them did.
    ///
    /// # Errors
    /// As [`Accumulator::add`].
    pub fn add_passed(
        &mut self,
        ascending_ts: &[i64],
        passed: impl Fn(Range<usize>) -> usize,
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
        measure: impl Fn(Range<usize>) -> (usize, i64),
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

    fn add_run(&mut self, (first, end): (usize, usize), rows: i64, bytes: i64) -> Result<(), EvalError> {
        let series = match self.stream_series {
            Some(series) => series,
            None => self.series_of_stream()?,
        };
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

    /// Says that classes mean something else from now on, and how many there can be.
    pub fn begin_classes(&mut self, count: usize) {
        self.classes.clear();
        self.classes.resize(count, None);
    }

    /// As [`Accumulator::add_captured`] for an entry without structured metadata, of a class of which all entries
    /// capture the same. For leaves without [`Leaf::unwraps`].
    ///
    /// [`Leaf::unwraps`]: super::Leaf::unwraps
    ///
    /// # Errors
    /// As [`Accumulator::add`].
    pub fn add_of_class(&mut self, ts: i64, class: usize, captured: Option<&str>) -> Result<(), EvalError> {
        let Some(windows) = self.windows_at(ts) else {
            return Ok(());
        };
        let outcome = match self.classes.get(class).copied().flatten() {
            Some(outcome) => outcome,
            None => {
                let outcome = self.outcome(ts, captured)?;
                // An error's series has all labels, those that streams alike differ in, too.
                if self.runner.scratch.error().is_none()
                    && let Some(place) = self.classes.get_mut(class)
                {
                    *place = Some(outcome);
                }
                outcome
            }
        };
        match outcome {
            ClassOutcome::Dropped => Ok(()),
            ClassOutcome::Series(series) => self.fold(series, windows, ts, 0, 0.0),
        }
    }

    fn outcome(&mut self, ts: i64, captured: Option<&str>) -> Result<ClassOutcome, EvalError> {
        self.ready();
        let entry = EntryRef {
            ts,
            line: "",
            metadata: &[],
        };
        let passes = self.runner.process_captured(&entry, captured).is_some();
        Ok(match passes {
            true => ClassOutcome::Series(self.series(&[])?),
            false => ClassOutcome::Dropped,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

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
                        (Some(_), true) => sum.add_captured(&entry, value),
                        (Some(_), false) => sum.add_of_class(ts, line, value),
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
