//! The engine against a model: all entries in one list, each question answered by looking at every one of them.

#![allow(clippy::unwrap_used)]

mod cost;
mod settings;

use super::*;
use crate::catalog::{CatalogOptions, Day, SegmentKey};
use rankline_logql::{EntryRef, Expr, Labels, LogExpr, Pipeline};
use rankline_segment::{SegmentWriter, WriterOptions};
use std::collections::{BTreeMap, HashSet};
use ulid::Ulid;

const NS: i64 = 1_000_000_000;
pub(crate) const START: i64 = 1_767_571_200 * NS;

/// A small generator, so that tests are the same on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) labels: Labels,
    pub(crate) ts: i64,
    pub(crate) line: String,
    pub(crate) metadata: Vec<(String, String)>,
}

/// Rows in several batches; some rows are sent twice, in different batches.
pub(crate) fn batches(count: usize, rows: usize, seed: u64) -> Vec<Vec<Row>> {
    let mut random = Random(seed);
    let mut all: Vec<Vec<Row>> = Vec::new();
    for batch in 0..count as i64 {
        let mut out = Vec::new();
        for _ in 0..rows {
            let rank = random.below(5).to_string();
            let app = if random.below(3) == 0 { "eval" } else { "train" };
            // Batches overlap in time, and many rows share a timestamp.
            let ts = START + batch * 20 * NS + random.below(60) as i64 * NS;
            let number = random.below(50);
            let word =
                ["loss", "NCCL INFO", "error: timeout", "résumé\nsecond line", ""][random.below(5) as usize];
            let line = if word.is_empty() {
                String::new()
            } else {
                format!("step={number} {word}")
            };
            let mut metadata = vec![("detected_level".to_owned(), "info".to_owned())];
            if random.below(4) == 0 {
                metadata.push(("trace".to_owned(), random.below(3).to_string()));
            }
            let labels = Labels::from_pairs([("app", app.to_owned()), ("rank", rank)]);
            out.push(Row {
                labels,
                ts,
                line,
                metadata,
            });
        }
        if let Some(before) = all.last() {
            out.extend(before.iter().take(rows / 10).cloned());
        }
        all.push(out);
    }
    all
}

/// An engine over segments made of `batches`, merged in groups of `merge` batches each.
pub(crate) async fn engine(
    batches: &[Vec<Row>],
    merge: usize,
    block_rows: usize,
    limits: QueryLimits,
) -> Engine {
    let storage = Storage::from_store(Arc::new(object_store::memory::InMemory::new()));
    let options = CatalogOptions {
        refresh: Duration::from_secs(1),
        cache_bytes: 64 << 20,
    };
    let catalog = Arc::new(Catalog::new(storage.clone(), options));
    for (number, group) in batches.chunks(merge).enumerate() {
        let level = u8::from(merge > 1);
        let mut writer = SegmentWriter::new(WriterOptions {
            block_rows,
            level,
            // Merged segments are stored as compaction stores them.
            templates: level > 0,
            ..WriterOptions::default()
        });
        let mut streams: BTreeMap<&Labels, Vec<&Row>> = BTreeMap::new();
        for row in group.iter().flatten() {
            streams.entry(&row.labels).or_default().push(row);
        }
        for (labels, mut rows) in streams {
            writer.begin_stream(&labels.iter().collect::<Vec<_>>()).unwrap();
            rows.sort_by_key(|row| row.ts);
            let mut written = Vec::new();
            for row in rows {
                if written.contains(&row) {
                    continue;
                }
                let metadata: Vec<_> = row
                    .metadata
                    .iter()
                    .map(|(name, value)| (&**name, &**value))
                    .collect();
                writer.push(row.ts, &row.line, &metadata).unwrap();
                written.push(row);
            }
        }
        let finished = writer.finish().unwrap();
        let key = SegmentKey {
            level,
            day: Day::of(START),
            min_ts: finished.footer.min_ts,
            max_ts: finished.footer.max_ts,
            id: Ulid::from_parts(number as u64, 1),
        };
        let segment = catalog.segment(&TenantId::default(), key, finished.total_bytes, finished.footer);
        storage.put(&segment.path, finished.bytes.into()).await.unwrap();
        catalog.insert(Arc::new(segment));
    }
    Engine::new(catalog, storage, limits).unwrap()
}

fn one_thread() -> QueryLimits {
    QueryLimits {
        threads: 1,
        read_ahead: 1,
        ..QueryLimits::default()
    }
}

/// All entries once, in the order answers have: time, labels, arrival.
pub(crate) fn model(batches: &[Vec<Row>]) -> Vec<Row> {
    let mut seen = HashSet::new();
    let mut rows = Vec::new();
    for row in batches.iter().flatten() {
        if seen.insert((row.labels.clone(), row.ts, row.line.clone(), row.metadata.clone())) {
            rows.push(row.clone());
        }
    }
    rows.sort_by(|a, b| (a.ts, &a.labels).cmp(&(b.ts, &b.labels)));
    rows
}

fn log_expr(query: &str) -> LogExpr {
    match rankline_logql::parse(query).unwrap() {
        Expr::Log(expr) => expr,
        Expr::Metric(_) => panic!("{query} is no log query"),
    }
}

/// What a row shows: time, line, labels.
type Shown = (i64, String, Vec<(String, String)>);

fn expected(rows: &[Row], request: &LogRequest) -> Vec<Shown> {
    let pipeline = Arc::new(Pipeline::new(&request.expr.stages).unwrap());
    let mut runner = pipeline.runner();
    let (mut out, mut seen) = (Vec::new(), HashSet::new());
    let ordered: Vec<&Row> = match request.direction {
        Direction::Forward => rows.iter().collect(),
        Direction::Backward => rows.iter().rev().collect(),
    };
    for row in ordered {
        let inside = row.ts >= request.start && row.ts < request.end;
        if !inside
            || !request
                .expr
                .matchers
                .iter()
                .all(|matcher| matcher.matches_labels(&row.labels))
        {
            continue;
        }
        let metadata: Vec<_> = row
            .metadata
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        runner.set_stream(&row.labels);
        let entry = EntryRef {
            ts: row.ts,
            line: &row.line,
            metadata: &metadata,
        };
        if let Some(processed) = runner.process(&entry, false) {
            let labels = processed.merged();
            let labels = labels
                .iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            let shown = (row.ts, processed.line().to_owned(), labels);
            // Entries of one stream and time that show the same are one row.
            if seen.insert((row.labels.clone(), shown.clone())) {
                out.push(shown);
            }
        }
    }
    out.truncate(request.limit);
    out
}

fn shown(answer: &LogAnswer) -> Vec<Shown> {
    let labels = |row: &LogRow| Labels::merged(&row.stream, &row.metadata, &row.parsed);
    let owned = |set: Labels| {
        set.iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    };
    answer
        .rows
        .iter()
        .map(|row| (row.ts, row.line.to_string(), owned(labels(row))))
        .collect()
}

/// Rows of one timestamp and stream may come from copies in either of two segments, whose order is only fixed by one
/// of them; so rows of equal time are compared as a set, except at the cut of the limit, where the number has to fit.
fn assert_same(got: &[Shown], want: &[Shown], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let times = |rows: &[Shown]| rows.iter().map(|row| row.0).collect::<Vec<_>>();
    assert_eq!(times(got), times(want), "{what}");
    let cut = want.last().map(|row| row.0);
    let before = |rows: &[Shown]| {
        let mut rows: Vec<_> = rows.iter().filter(|row| Some(row.0) != cut).cloned().collect();
        rows.sort();
        rows
    };
    assert_eq!(before(got), before(want), "{what}");
}

#[tokio::test]
async fn log_queries_agree_with_the_model_under_every_setting() {
    let batches = batches(6, 120, 7);
    let all = model(&batches);
    let settings = [
        (1, 65_536, QueryLimits::default()),
        (1, 16, one_thread()),
        (6, 32, QueryLimits::default()),
        (2, 50, one_thread()),
    ];
    for (merge, block_rows, limits) in settings {
        let engine = engine(&batches, merge, block_rows, limits).await;
        for query in [
            r#"{app="train"}"#,
            r#"{app=~".+", rank!="3"} |= "NCCL""#,
            r#"{rank="1"} |~ "error|loss" != "step=7 ""#,
            r#"{app=~"train|eval"} | logfmt | step > 20 | line_format "{{.step}}""#,
            r#"{app="eval"} | trace="1" |= "e""#,
        ] {
            for direction in [Direction::Forward, Direction::Backward] {
                for limit in [1, 7, 100, 5000] {
                    for (start, end) in [
                        (START, START + 400 * NS),
                        (START + 33 * NS, START + 60 * NS),
                        (START, START),
                    ] {
                        let expr = log_expr(query);
                        let request = LogRequest {
                            expr,
                            start,
                            end,
                            limit,
                            direction,
                            interval: 0,
                        };
                        let want = expected(&all, &request);
                        let answer = engine.log(&[TenantId::default()], request).await.unwrap();
                        let what = format!(
                            "{query} {direction:?} {limit} {start}..{end} merge {merge} rows {block_rows}"
                        );
                        assert_same(&shown(&answer), &want, &what);
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn answers_are_the_same_from_call_to_call() {
    let batches = batches(4, 200, 11);
    let engine = engine(&batches, 1, 64, QueryLimits::default()).await;
    let request = LogRequest {
        expr: log_expr(r#"{app=~".+"}"#),
        start: START,
        end: START + 400 * NS,
        limit: 137,
        direction: Direction::Backward,
        interval: 0,
    };
    let first = shown(&engine.log(&[TenantId::default()], request.clone()).await.unwrap());
    for _ in 0..20 {
        assert_eq!(
            shown(&engine.log(&[TenantId::default()], request.clone()).await.unwrap()),
            first
        );
    }
}

#[tokio::test]
async fn a_query_whose_segments_another_replica_merged_and_deleted_plans_again() {
    use crate::compaction::{CompactionOptions, Compactor};
    let batches = batches(4, 100, 5);
    let engine = engine(&batches, 1, 64, QueryLimits::default()).await;
    let request = LogRequest {
        expr: log_expr(r#"{app=~".+"}"#),
        start: START,
        end: START + 400 * NS,
        limit: 5000,
        direction: Direction::Forward,
        interval: 0,
    };
    let want = expected(&model(&batches), &request);
    let ask = async || {
        let answer = engine.log(&[TenantId::default()], request.clone()).await.unwrap();
        shown(&answer)
    };
    assert_same(&ask().await, &want, "before");
    let options = CatalogOptions {
        refresh: Duration::ZERO,
        cache_bytes: 1 << 20,
    };
    let other = Arc::new(Catalog::new(engine.storage.clone(), options));
    let now = CompactionOptions {
        grace: Duration::ZERO,
        ..CompactionOptions::default()
    };
    let stop = tokio_util::sync::CancellationToken::new();
    let compactor = Compactor::new(engine.storage.clone(), other, now, stop);
    assert_eq!(compactor.compact_all_once().await.unwrap().deleted, 4);
    // The engine's listing is a second old at most and still names the four; their footers are in memory.
    assert_same(&ask().await, &want, "after");
}

/// What a row adds to a count.
type Count = &'static dyn Fn(&Row) -> f64;

#[tokio::test]
async fn counts_agree_with_the_model_before_and_after_merging() {
    let batches = batches(5, 150, 3);
    let all = model(&batches);
    for (merge, block_rows) in [(1, 65_536), (1, 20), (5, 40)] {
        let engine = engine(&batches, merge, block_rows, QueryLimits::default()).await;
        let time = START + 300 * NS;
        let spec = rankline_logql::EvalSpec {
            start: time,
            end: time,
            step: 0,
        };
        let queries: [(&str, Count); 4] = [
            (r#"sum(count_over_time({app=~".+"}[10m]))"#, &|_| 1.0),
            (r#"sum(bytes_over_time({rank=~"[123]"}[10m]))"#, &|row| {
                if ["1", "2", "3"].contains(&row.labels.get("rank").unwrap()) {
                    row.line.len() as f64
                } else {
                    0.0
                }
            }),
            (r#"sum(count_over_time({app="train"} |= "NCCL" [10m]))"#, &|row| {
                f64::from(row.labels.get("app") == Some("train") && row.line.contains("NCCL"))
            }),
            (r#"sum(count_over_time({app=~".+"} | trace!="" [10m]))"#, &|row| {
                f64::from(row.metadata.len() > 1)
            }),
        ];
        for (query, count) in queries {
            let Expr::Metric(expr) = rankline_logql::parse(query).unwrap() else {
                panic!("{query}")
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
                .await
                .unwrap();
            let rankline_logql::MetricValue::Vector(samples) = answer.value else {
                panic!("no vector")
            };
            let want: f64 = all.iter().filter(|row| row.ts <= time).map(count).sum();
            assert_eq!(samples[0].value, want, "{query} merge {merge} rows {block_rows}");
        }
    }
}

#[tokio::test]
async fn footers_answer_for_labels_and_series() {
    let batches = batches(3, 100, 5);
    let engine = engine(&batches, 1, 64, QueryLimits::default()).await;
    let tenants = [TenantId::default()];
    let (start, end) = (START, START + 400 * NS);
    let names = engine.label_names(&tenants, &[], start, end).await.unwrap();
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["app", "rank"]);
    let ranks = engine
        .label_values(&tenants, "rank", &[], start, end)
        .await
        .unwrap();
    assert_eq!(ranks.len(), 5);
    assert!(
        engine
            .label_values(&tenants, "rank", &[], start - 10 * NS, start - NS)
            .await
            .unwrap()
            .is_empty()
    );
    // A range of no width still finds what lies in its millisecond.
    let at = model(&batches)[0].ts;
    assert!(
        !engine
            .series(&tenants, &[Vec::new()], at + 999_999, at + 999_999)
            .await
            .unwrap()
            .is_empty()
    );
    let stats = engine.stats(&tenants, &[], start, end).await.unwrap();
    assert_eq!(stats.streams, 10);
    assert_eq!(
        stats.entries as usize,
        batches.iter().map(|batch| unique(batch)).sum::<usize>()
    );
    let request = VolumeRequest {
        matchers: Vec::new(),
        start,
        end,
        step: None,
        target_labels: vec!["app".to_owned()],
        by: VolumeBy::Series,
        limit: 10,
    };
    let volume = engine.volume(&tenants, &request).await.unwrap();
    assert_eq!(volume.len(), 2);
    assert!(volume[0].points[0].1 >= volume[1].points[0].1);
    // Each step is stamped just before its end, the last one at the end of the range.
    let step = 1_i64 << 60;
    let in_steps = VolumeRequest {
        start: 0,
        end: 2 * step,
        step: Some(step),
        ..request
    };
    let volume = engine.volume(&tenants, &in_steps).await.unwrap();
    let times: HashSet<i64> = volume
        .iter()
        .flat_map(|series| series.points.iter().map(|(at, _)| *at))
        .collect();
    assert_eq!(times, HashSet::from([2 * step / 1_000_000]));
}

fn unique(rows: &[Row]) -> usize {
    let key = |row: &Row| {
        (
            row.labels.to_string(),
            row.ts,
            row.line.clone(),
            row.metadata.clone(),
        )
    };
    rows.iter().map(key).collect::<HashSet<_>>().len()
}

#[tokio::test]
async fn a_query_that_keeps_too_much_is_refused() {
    let batches = batches(3, 300, 9);
    let limits = QueryLimits {
        query_memory: 10_000,
        ..QueryLimits::default()
    };
    let engine = engine(&batches, 1, 64, limits).await;
    let request = LogRequest {
        expr: log_expr(r#"{app=~".+"}"#),
        start: START,
        end: START + 400 * NS,
        limit: 5000,
        direction: Direction::Forward,
        interval: 0,
    };
    let why = engine.log(&[TenantId::default()], request).await.unwrap_err();
    assert!(why.to_string().contains("needs more than 10000 bytes"), "{why}");
}

#[tokio::test]
async fn several_tenants_are_told_apart() {
    let batches = batches(1, 20, 1);
    let engine = engine(&batches, 1, 64, QueryLimits::default()).await;
    let tenants = [TenantId::new("acme").unwrap(), TenantId::default()];
    let request = |query: &str| LogRequest {
        expr: log_expr(query),
        start: START,
        end: START + 400 * NS,
        limit: 5000,
        direction: Direction::Forward,
        interval: 0,
    };
    let answer = engine.log(&tenants, request(r#"{app=~".+"}"#)).await.unwrap();
    assert!(!answer.rows.is_empty());
    assert!(
        answer
            .rows
            .iter()
            .all(|row| row.stream.get("__tenant_id__") == Some("fake"))
    );
    let none = engine
        .log(&tenants, request(r#"{app=~".+", __tenant_id__="acme"}"#))
        .await
        .unwrap();
    assert!(none.rows.is_empty());
}
