//! A query (the first line) over entries (the other lines): every stage and every aggregation ends with an answer or an error.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use rankline_fuzz::{bounded, head_and_lines};
use rankline_logql::{EntryRef, EvalLimits, EvalSpec, Expr, Labels, MetricPlan, Pipeline, ast, parse};

const SECOND: i64 = 1_000_000_000;

fuzz_target!(|text: &str| bounded(|| {
    let (query, lines) = head_and_lines(text);
    let entries: Vec<(i64, &str)> = (0..).step_by(SECOND as usize).zip(lines).take(64).collect();
    match parse(query) {
        Ok(Expr::Log(log)) => run_log(&log, &entries),
        Ok(Expr::Metric(metric)) => {
            // Instants, and steps that do and do not meet the entries' times.
            for (start, end, step) in [(5, 5, 1), (0, 10, 1), (-3, 60, 7)] {
                let spec = EvalSpec {
                    start: start * SECOND,
                    end: end * SECOND,
                    step: step * SECOND,
                };
                run_metric(&metric, spec, &entries);
            }
        }
        Err(_) => {}
    }
}));

fn streams() -> [Labels; 2] {
    [
        Labels::from_pairs([("app", "a"), ("job", "train"), ("rank", "0")]),
        Labels::from_pairs([("app", "b"), ("level", "info"), ("service_name", "b")]),
    ]
}

const METADATA: [&[(&str, &str)]; 2] = [
    &[("detected_level", "info"), ("rank", "7"), ("trace", "1.5KB")],
    &[],
];

fn run_log(log: &ast::LogExpr, entries: &[(i64, &str)]) {
    let Ok(pipeline) = Pipeline::new(&log.stages) else {
        return;
    };
    let mut runner = Arc::new(pipeline).runner();
    for stream in &streams() {
        runner.set_stream(stream);
        for (&(ts, line), metadata) in entries.iter().zip(METADATA.iter().cycle()) {
            let Some(done) = runner.process(&EntryRef { ts, line, metadata }, false) else {
                continue;
            };
            assert_eq!(done.ts(), ts);
            let labels = done.merged();
            assert!(labels.iter().is_sorted_by(|a, b| a.0 < b.0), "{labels:?}");
            let _ = done.line();
        }
    }
}

/// The answer must not depend on how the entries were split among workers.
fn run_metric(metric: &ast::MetricExpr, spec: EvalSpec, entries: &[(i64, &str)]) {
    let limits = EvalLimits {
        max_series: 1000,
        max_bytes: 16 << 20,
    };
    let Ok(plan) = MetricPlan::new(metric, spec, limits) else {
        return;
    };
    let mut whole = Vec::new();
    let mut split = Vec::new();
    for leaf in plan.leaves() {
        let (mut one, mut left, mut right) = (leaf.accumulator(), leaf.accumulator(), leaf.accumulator());
        for stream in &streams() {
            one.set_stream(stream);
            left.set_stream(stream);
            right.set_stream(stream);
            for (n, (&(ts, line), metadata)) in entries.iter().zip(METADATA.iter().cycle()).enumerate() {
                let entry = EntryRef { ts, line, metadata };
                if one.add(&entry, false).is_err() {
                    return;
                }
                let part = if n % 3 == 0 { &mut left } else { &mut right };
                if part.add(&entry, false).is_err() {
                    return;
                }
            }
        }
        if left.merge(right).is_err() {
            return;
        }
        whole.push(one);
        split.push(left);
    }
    let (whole, split) = (plan.finish(whole), plan.finish(split));
    assert_eq!(whole.is_ok(), split.is_ok(), "{whole:?} is not {split:?}");
}
