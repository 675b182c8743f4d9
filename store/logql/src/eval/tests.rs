#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::window::Windows;
use super::*;
use crate::pipeline::EntryRef;
use crate::syntax::ast::Expr;

const SECOND: i64 = 1_000_000_000;

fn plan(query: &str, spec: EvalSpec) -> MetricPlan {
    let Expr::Metric(expr) = crate::parse(query).unwrap() else {
        panic!("{query} gives no samples")
    };
    MetricPlan::new(
        &expr,
        spec,
        EvalLimits {
            max_series: 1000,
            max_bytes: 1 << 30,
        },
    )
    .unwrap()
}

#[derive(Clone, Debug)]
struct Row {
    stream: usize,
    ts: i64,
    line: String,
    level: &'static str,
}

fn stream_labels(index: usize) -> Labels {
    Labels::from_pairs([("job", "j".to_owned()), ("rank", index.to_string())])
}

fn feed(accumulator: &mut Accumulator, rows: &[Row]) -> Result<(), EvalError> {
    for stream in 0..3 {
        accumulator.set_stream(&stream_labels(stream));
        for row in rows.iter().filter(|row| row.stream == stream) {
            let metadata = [("level", row.level)];
            accumulator.add(
                &EntryRef {
                    ts: row.ts,
                    line: &row.line,
                    metadata: &metadata,
                },
                false,
            )?;
        }
    }
    Ok(())
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let row = (
        0..3_usize,
        0..120_i64,
        0..50_i64,
        prop::sample::select(vec!["info", "error"]),
    );
    let row = row.prop_map(|(stream, second, value, level)| Row {
        stream,
        ts: second * SECOND,
        line: format!("v={value} word{}", value % 3),
        level,
    });
    prop::collection::vec(row, 0..60)
}

const QUERIES: &[&str] = &[
    r#"count_over_time({job="j"}[30s])"#,
    r#"sum(count_over_time({job="j"}[30s]))"#,
    r#"sum by (rank) (rate({job="j"} |= "word1" [45s]))"#,
    r#"sum by (level) (bytes_over_time({job="j"}[10s]))"#,
    r#"max by (rank) (bytes_rate({job="j"} | level="error" [30s]))"#,
    r#"max_over_time({job="j"} | logfmt | unwrap v [10s]) by (rank)"#,
    r#"max_over_time({job="j"} | logfmt | unwrap v [40s]) by (rank)"#,
    r#"sum_over_time({job="j"} | logfmt | unwrap v [40s]) by (level)"#,
];

/// Queries whose answer may be compared exactly between splits.
fn queries() -> impl Iterator<Item = &'static str> {
    QUERIES
        .iter()
        .copied()
        .filter(|query| crate::parse(query).is_ok())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn answers_do_not_depend_on_the_split(rows in rows(), cut in 0..60_usize, step in 1..40_i64) {
        let spec = EvalSpec { start: 20 * SECOND, end: 100 * SECOND, step: step * SECOND };
        for query in queries() {
            let plan = plan(query, spec);
            let leaf = &plan.leaves()[0];
            let mut whole = leaf.accumulator();
            feed(&mut whole, &rows).unwrap();
            let cut = cut.min(rows.len());
            let (mut first, mut second) = (leaf.accumulator(), leaf.accumulator());
            feed(&mut first, &rows[cut..]).unwrap();
            feed(&mut second, &rows[..cut]).unwrap();
            first.merge(second).unwrap();
            prop_assert_eq!(plan.finish(vec![whole]).unwrap(), plan.finish(vec![first]).unwrap(), "{}", query);
        }
    }

    #[test]
    fn rows_and_lengths_count_as_entries_do(rows in rows(), step in 1..40_i64) {
        let spec = EvalSpec { start: 20 * SECOND, end: 100 * SECOND, step: step * SECOND };
        for query in [r#"sum(count_over_time({job="j"}[30s]))"#, r#"sum(bytes_over_time({job="j"}[30s]))"#] {
            let plan = plan(query, spec);
            let leaf = &plan.leaves()[0];
            prop_assert!(leaf.rows_only() || leaf.lengths_only());
            let (mut entries, mut bare) = (leaf.accumulator(), leaf.accumulator());
            feed(&mut entries, &rows).unwrap();
            for stream in 0..3 {
                bare.set_stream(&stream_labels(stream));
                let mut own: Vec<&Row> = rows.iter().filter(|row| row.stream == stream).collect();
                own.sort_by_key(|row| row.ts);
                let times: Vec<i64> = own.iter().map(|row| row.ts).collect();
                if leaf.rows_only() {
                    bare.add_rows(&times).unwrap();
                } else {
                    let lengths: Vec<u32> = own.iter().map(|row| u32::try_from(row.line.len()).unwrap()).collect();
                    bare.add_lengths(&times, &lengths).unwrap();
                }
            }
            prop_assert_eq!(plan.finish(vec![entries]).unwrap(), plan.finish(vec![bare]).unwrap(), "{}", query);
        }
    }

    #[test]
    fn windows_hold_what_their_bounds_say(
        ts in -200..400_i64, start in -50..50_i64, steps in 0..20_i64, step in 1..30_i64,
        range in 0..60_i64, offset in -40..40_i64,
    ) {
        let windows = Windows::new(EvalSpec { start, end: start + steps * step, step }, range, offset);
        let held: Vec<usize> = (0..windows.count())
            .filter(|index| {
                let (after, last) = windows.bounds(*index);
                after < ts && ts <= last
            })
            .collect();
        let expected = held.first().map(|first| (*first, held.last().unwrap() + 1));
        prop_assert_eq!(windows.holding(ts), expected);
        if expected.is_some() {
            let (from, to) = windows.time_range();
            prop_assert!((from..to).contains(&ts));
        }
        prop_assert!(!windows.are_disjoint() || held.len() <= 1);
        let (held, last) = windows.holding_until(ts);
        prop_assert_eq!(held, expected);
        prop_assert!(last >= ts);
        prop_assert_eq!(windows.holding((ts + last) / 2), expected);
        prop_assert_eq!(windows.holding(last), expected);
        for later in last..last + 40 {
            if let Some(next) = held.and_then(|held| windows.next(held, last, later)) {
                prop_assert_eq!(next, windows.holding_until(later));
            }
        }
    }
}

#[test]
fn windows_survive_extreme_times() {
    for (start, end, step, range, offset) in [
        (i64::MIN, i64::MAX, 1_000_000_000, i64::MAX, i64::MIN),
        (i64::MAX - 1, i64::MAX, 1, i64::MAX, i64::MAX),
        (0, 0, 0, 0, 0),
    ] {
        let windows = Windows::new(EvalSpec { start, end, step }, range, offset);
        for ts in [i64::MIN, 0, i64::MAX] {
            let _ = windows.holding(ts);
            assert!(windows.holding_until(ts).1 >= ts);
        }
        let _ = windows.time_range();
    }
}

fn instant(query: &str, rows: &[Row]) -> Result<Vec<(String, f64)>, EvalError> {
    let plan = plan(
        query,
        EvalSpec {
            start: 100 * SECOND,
            end: 100 * SECOND,
            step: 0,
        },
    );
    let mut accumulators = Vec::new();
    for leaf in plan.leaves() {
        let mut accumulator = leaf.accumulator();
        feed(&mut accumulator, rows)?;
        accumulators.push(accumulator);
    }
    Ok(match plan.finish(accumulators)? {
        MetricValue::Vector(samples) => samples
            .into_iter()
            .map(|s| (s.labels.to_string(), s.value))
            .collect(),
        MetricValue::Scalar(value) => vec![("scalar".to_owned(), value)],
        MetricValue::Matrix(_) => panic!("an instant query gives no matrix"),
    })
}

fn row(stream: usize, second: i64, line: &str) -> Row {
    Row {
        stream,
        ts: second * SECOND,
        line: line.to_owned(),
        level: "info",
    }
}

#[test]
fn semantics_by_row() {
    // Window (70 s, 100 s]: the row at 70 s is out, the one at 100 s is in.
    let rows = [
        row(0, 70, "v=1"),
        row(0, 80, "v=4"),
        row(0, 100, "v=2"),
        row(1, 90, "v=-3"),
        row(2, 10, "v=9"),
    ];
    let cases: &[(&str, &[(&str, f64)])] = &[
        (r#"sum(count_over_time({job="j"}[30s]))"#, &[("{}", 3.0)]),
        (
            r#"count_over_time({job="j"}[30s])"#,
            &[
                (r#"{job="j", level="info", rank="0"}"#, 2.0),
                (r#"{job="j", level="info", rank="1"}"#, 1.0),
            ],
        ),
        (
            r#"sum by (rank) (rate({job="j"}[30s]))"#,
            &[(r#"{rank="0"}"#, 2.0 / 30.0), (r#"{rank="1"}"#, 1.0 / 30.0)],
        ),
        (
            r#"sum by (nosuch) (bytes_over_time({job="j"}[30s]))"#,
            &[("{}", 10.0)],
        ),
        (
            r#"sum(sum_over_time({job="j"} | logfmt | unwrap v [30s]))"#,
            &[("{}", 3.0)],
        ),
        (
            r#"max(max_over_time({job="j"} | logfmt | unwrap v [30s]))"#,
            &[("{}", 4.0)],
        ),
        (
            r#"first_over_time({job="j"} | logfmt | unwrap v [30s]) by (job)"#,
            &[(r#"{job="j"}"#, 4.0)],
        ),
        (
            r#"last_over_time({job="j"} | logfmt | unwrap v [30s]) by (job)"#,
            &[(r#"{job="j"}"#, 2.0)],
        ),
        (
            r#"quantile_over_time(0.5, {job="j"} | logfmt | unwrap v [30s]) by (job)"#,
            &[(r#"{job="j"}"#, 2.0)],
        ),
        (
            r#"quantile_over_time(2, {job="j"} | logfmt | unwrap v [30s]) by (job)"#,
            &[(r#"{job="j"}"#, f64::INFINITY)],
        ),
        (
            r#"stdvar_over_time({job="j"} | logfmt | unwrap v [30s]) by (job)"#,
            &[(r#"{job="j"}"#, 26.0 / 3.0)],
        ),
        (
            r#"absent_over_time({job="j", x="y"}[1s] offset 1h)"#,
            &[(r#"{job="j", x="y"}"#, 1.0)],
        ),
        (r#"absent_over_time({job="j"}[30s])"#, &[]),
        (
            r#"topk(1, sum by (rank) (count_over_time({job="j"}[30s])))"#,
            &[(r#"{rank="0"}"#, 2.0)],
        ),
        (
            r#"sort_desc(sum by (rank) (count_over_time({job="j"}[100s])))"#,
            &[
                (r#"{rank="0"}"#, 3.0),
                (r#"{rank="1"}"#, 1.0),
                (r#"{rank="2"}"#, 1.0),
            ],
        ),
        (r#"sum(count_over_time({job="j"}[30s])) / 0"#, &[("{}", f64::NAN)]),
        (
            r#"5 < sum by (rank) (count_over_time({job="j"}[30s]) * 3)"#,
            &[(r#"{rank="0"}"#, 6.0)],
        ),
        (
            r#"sum by (rank) (count_over_time({job="j"}[30s])) > bool 1"#,
            &[(r#"{rank="0"}"#, 1.0), (r#"{rank="1"}"#, 0.0)],
        ),
        (
            r#"sum(count_over_time({job="none"}[30s])) or vector(0)"#,
            &[("{}", 3.0)],
        ),
        ("7 % 3", &[("scalar", 1.0)]),
    ];
    for (query, expected) in cases {
        let got = instant(query, &rows).unwrap_or_else(|error| panic!("{query}: {error}"));
        assert_eq!(got.len(), expected.len(), "{query}: {got:?}");
        for ((labels, value), (wanted_labels, wanted)) in got.iter().zip(*expected) {
            assert_eq!(labels, wanted_labels, "{query}");
            let close =
                (value - wanted).abs() < 1e-12 || value == wanted || value.is_nan() && wanted.is_nan();
            assert!(close, "{query}: {value} instead of {wanted}");
        }
    }
}

#[test]
fn errors_fail_the_query_unless_it_asks_for_them() {
    let rows = [row(0, 90, "v=bad"), row(1, 90, "v=2")];
    let failed = instant(r#"sum_over_time({job="j"} | logfmt | unwrap v [30s])"#, &rows).unwrap_err();
    assert_eq!(failed.kind(), crate::ErrorKind::Invalid);
    assert!(
        failed
            .to_string()
            .starts_with("pipeline error: 'SampleExtractionErr' for series: '{"),
        "{failed}"
    );
    let kept = instant(
        r#"sum(sum_over_time({job="j"} | logfmt | unwrap v | __error__="" [30s]))"#,
        &rows,
    )
    .unwrap();
    assert_eq!(kept, [("{}".to_owned(), 2.0)]);
    let asked = instant(
        r#"sum by (__error__) (count_over_time({job="j"} | json [30s]))"#,
        &rows,
    )
    .unwrap();
    assert_eq!(
        asked,
        [(r#"{__error__="JSONParserErr"}"#.to_owned(), 2.0)],
        "errors of parsers are kept for who asks"
    );
    let failed = instant(
        r#"sum by (__error__) (sum_over_time({job="j"} | logfmt | unwrap v [30s]))"#,
        &rows,
    );
    assert!(failed.is_err(), "those of unwrap are not: {failed:?}");
}

#[test]
fn limits_are_enforced() {
    let rows: Vec<Row> = (0..3).map(|stream| row(stream, 90, "x")).collect();
    let spec = EvalSpec {
        start: 100 * SECOND,
        end: 100 * SECOND,
        step: 0,
    };
    let Expr::Metric(expr) = crate::parse(r#"count_over_time({job="j"}[30s])"#).unwrap() else {
        panic!("metric")
    };
    let few = MetricPlan::new(
        &expr,
        spec,
        EvalLimits {
            max_series: 2,
            max_bytes: 1 << 20,
        },
    )
    .unwrap();
    let mut accumulator = few.leaves()[0].accumulator();
    feed(&mut accumulator, &rows).unwrap();
    let error = few.finish(vec![accumulator]).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("maximum number of series (2) reached for a single query"),
        "{error}"
    );
    let small = MetricPlan::new(
        &expr,
        spec,
        EvalLimits {
            max_series: 9,
            max_bytes: 100,
        },
    )
    .unwrap();
    let mut accumulator = small.leaves()[0].accumulator();
    assert!(matches!(
        feed(&mut accumulator, &rows),
        Err(EvalError::OutOfMemory { limit: 100 })
    ));
    let other = few.leaves()[0].accumulator();
    assert!(matches!(
        small.finish(vec![other]),
        Err(EvalError::ForeignAccumulator { index: 0 })
    ));
}

#[test]
fn the_deepest_queries_are_evaluated() {
    let chain = format!("{}vector(1)", "vector(1) + ".repeat(256));
    assert_eq!(instant(&chain, &[]).unwrap(), [("{}".to_owned(), 257.0)]);
    let nested = format!("{}vector(1){}", "sum(".repeat(60), ")".repeat(60));
    assert_eq!(instant(&nested, &[]).unwrap(), [("{}".to_owned(), 1.0)]);
}
