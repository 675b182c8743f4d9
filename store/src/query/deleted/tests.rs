//! Queries over a store with delete requests, against a model that drops the named entries first.

#![allow(clippy::unwrap_used)]

use crate::query::tests::{Row, START, batches, engine, model};
use crate::query::*;
use crate::tenants::TenantId;
use proptest::prelude::*;
use rankline_logql::{EntryRef, EvalSpec, Expr, MetricValue, Pipeline};
use std::collections::BTreeSet;
use std::sync::Arc;

const NS: i64 = 1_000_000_000;
const END: i64 = START + 400 * NS;

/// Query, start and end (s after [`START`], inclusive) of a delete request.
type Delete<'a> = (&'a str, i64, i64);

async fn with_deletes(engine: &Engine, deletes: &[Delete<'_>]) {
    let ms = |seconds: i64| (START / NS + seconds) * 1000;
    for (query, start, end) in deletes {
        let range = (ms(*start), ms(*end));
        engine
            .deletes()
            .create(&TenantId::default(), query, range, ms(500))
            .await
            .unwrap();
    }
}

/// Whether a delete names a row, by its definition.
fn names((query, start, end): &Delete<'_>, row: &Row) -> bool {
    let Expr::Log(expr) = rankline_logql::parse_unchecked(query).unwrap() else {
        panic!("{query}");
    };
    let matched = expr
        .matchers
        .iter()
        .all(|matcher| matcher.matches_labels(&row.labels));
    let timely = row.ts >= START + start * NS && row.ts <= START + end * NS;
    let metadata: Vec<_> = row
        .metadata
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect();
    let mut runner = Arc::new(Pipeline::new(&expr.stages).unwrap()).runner();
    runner.set_stream(&row.labels);
    let entry = EntryRef {
        ts: row.ts,
        line: &row.line,
        metadata: &metadata,
    };
    matched && timely && runner.process(&entry, false).is_some()
}

fn left(batches: &[Vec<Row>], deletes: &[Delete<'_>]) -> Vec<Row> {
    let mut rows = model(batches);
    rows.retain(|row| !deletes.iter().any(|delete| names(delete, row)));
    rows
}

async fn lines(engine: &Engine) -> Vec<(i64, String)> {
    let Expr::Log(expr) = rankline_logql::parse("{app=~\".+\"}").unwrap() else {
        panic!()
    };
    let request = LogRequest {
        expr,
        start: START,
        end: END,
        limit: 50_000,
        direction: Direction::Forward,
        interval: 0,
    };
    let answer = engine.log(&[TenantId::default()], request).await.unwrap();
    let mut lines: Vec<_> = answer
        .rows
        .iter()
        .map(|row| (row.ts, row.line.to_string()))
        .collect();
    lines.sort();
    lines
}

async fn number(engine: &Engine, query: &str) -> f64 {
    let Expr::Metric(expr) = rankline_logql::parse(query).unwrap() else {
        panic!()
    };
    let spec = EvalSpec {
        start: END,
        end: END,
        step: 0,
    };
    let answer = engine
        .metric(
            &[TenantId::default()],
            MetricRequest {
                expr,
                spec,
                partial: false,
            },
        )
        .await;
    match answer.unwrap().value {
        MetricValue::Vector(samples) => samples.first().map_or(0.0, |sample| sample.value),
        other => panic!("{other:?}"),
    }
}

/// Log and metric queries, those that look at no line too, see exactly what is left.
async fn assert_left(batches: &[Vec<Row>], deletes: &[Delete<'_>], merge: usize, block_rows: usize) {
    let engine = engine(batches, merge, block_rows, QueryLimits::default()).await;
    with_deletes(&engine, deletes).await;
    let rows = left(batches, deletes);
    let mut want: Vec<_> = rows.iter().map(|row| (row.ts, row.line.clone())).collect();
    want.sort();
    let what = format!("{deletes:?} merge {merge} rows {block_rows}");
    assert_eq!(lines(&engine).await, want, "{what}");
    let count = number(&engine, "sum(count_over_time({app=~\".+\"}[401s]))").await;
    assert_eq!(count, rows.len() as f64, "{what}");
    let bytes: usize = rows.iter().map(|row| row.line.len()).sum();
    let counted = number(&engine, "sum(bytes_over_time({app=~\".+\"}[401s]))").await;
    assert_eq!(counted, bytes as f64, "{what}");
    let loss = rows.iter().filter(|row| row.line.contains("loss")).count();
    let counted = number(&engine, "sum(count_over_time({app=~\".+\"} |= \"loss\" [401s]))").await;
    assert_eq!(counted, loss as f64, "{what}");
}

#[tokio::test]
async fn named_entries_are_left_out_under_every_setting() {
    let batches = batches(4, 80, 5);
    for deletes in [
        &[("{app=\"train\"}", 0, 400)][..],
        &[("{rank=\"1\"}", 30, 50), ("{rank=\"1\"}", 45, 60)],
        &[("{app=~\".+\"} |= \"NCCL\"", 0, 70)],
        &[("{app=\"eval\"} | trace=\"1\"", 10, 400), ("{rank=\"2\"}", 0, 20)],
        &[("{app=~\".+\"} | logfmt | step > 20", 0, 400)],
        &[("{}", 0, 400)],
        &[("{app=\"nosuch\"}", 0, 400)],
    ] {
        for (merge, block_rows) in [(1, 65_536), (1, 16), (4, 32)] {
            assert_left(&batches, deletes, merge, block_rows).await;
        }
    }
}

#[tokio::test]
async fn streams_that_are_named_altogether_have_no_labels() {
    let engine = engine(&batches(2, 60, 3), 1, 64, QueryLimits::default()).await;
    let tenant = [TenantId::default()];
    with_deletes(
        &engine,
        &[("{app=\"train\"}", 0, 400), ("{rank=\"3\"} |= \"x\"", 0, 400)],
    )
    .await;
    let apps = engine
        .label_values(&tenant, "app", &[], START, END)
        .await
        .unwrap();
    assert_eq!(apps, BTreeSet::from(["eval".to_owned()]));
    let series = engine.series(&tenant, &[Vec::new()], START, END).await.unwrap();
    assert!(series.iter().all(|labels| labels.get("app") == Some("eval")));
    let train = rankline_logql::parse_selector("{app=\"train\"}").unwrap();
    let stats = engine.stats(&tenant, &train, START, END).await.unwrap();
    assert_eq!(stats, IndexStats::default());
}

#[tokio::test]
async fn a_cancelled_request_gives_its_entries_back() {
    let batches = batches(2, 60, 9);
    let engine = engine(&batches, 1, 64, QueryLimits::default()).await;
    let all = lines(&engine).await;
    with_deletes(&engine, &[("{app=\"train\"}", 0, 400)]).await;
    assert!(lines(&engine).await.len() < all.len());
    let tenant = TenantId::default();
    let id = engine.deletes().all(&tenant).await.unwrap()[0].id;
    engine.deletes().cancel(&tenant, id).await.unwrap();
    assert_eq!(lines(&engine).await, all);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn any_requests_leave_what_the_model_leaves(
        picks in prop::collection::vec((0..5usize, 0..90i64, 0..60i64), 1..5),
        seed in any::<u64>(),
        merge in 1..4usize,
        block_rows in 8..80usize,
    ) {
        let queries = ["{app=\"train\"}", "{rank=~\"[01]\"}", "{app=~\".+\"} |~ \"(?i)nccl|loss\"",
            "{rank!=\"4\"} | trace!=\"\"", "{app=\"eval\"} !~ \"step=[1-3]\""];
        let deletes: Vec<Delete<'_>> = picks.iter().map(|(query, start, more)| (queries[*query], *start, start + more)).collect();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(assert_left(&batches(3, 40, seed), &deletes, merge, block_rows));
    }
}
