//! Patterns over a small store: the same whatever the layout, and complete.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::query::QueryLimits;
use crate::query::tests::{Row, START, engine};
use proptest::prelude::*;
use rankline_logql::Labels;

const NS: i64 = 1_000_000_000;

fn row(rank: usize, ts: i64, line: String, level: &str) -> Row {
    let labels = Labels::from_pairs([("app", "train".to_owned()), ("rank", rank.to_string())]);
    Row {
        labels,
        ts,
        line,
        metadata: vec![(LEVEL_NAME.to_owned(), level.to_owned())],
    }
}

/// Two hundred lines of two kinds over two ranks and 100 seconds.
fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for n in 0..200usize {
        let ts = START + n as i64 * NS / 2;
        let (line, level) = match n % 4 {
            3 => (
                format!("all reduce of bucket {n} failed after {}ms", n * 7),
                "ERROR",
            ),
            _ => (format!("step {n} loss={}.{n} lr=1e-3", n % 7), "info"),
        };
        rows.push(row(n % 2, ts, line, level));
    }
    rows
}

fn request(step_seconds: i64) -> PatternRequest {
    PatternRequest {
        matchers: rankline_logql::parse_selector("{app=\"train\"}").unwrap(),
        start: START,
        end: START + 1000 * NS,
        step: step_seconds * NS,
    }
}

async fn ask(
    batches: &[Vec<Row>],
    merge: usize,
    block_rows: usize,
    request: PatternRequest,
) -> PatternAnswer {
    let engine = engine(batches, merge, block_rows, QueryLimits::default()).await;
    engine.patterns(&[TenantId::default()], request).await.unwrap()
}

#[tokio::test]
async fn patterns_have_levels_and_counts_over_time() {
    let answer = ask(&[rows()], 1, 64, request(50)).await;
    let start = START / NS;
    let expected = [
        (
            "step <_> loss=<_> lr=1e-3",
            "info",
            vec![(start, 75), (start + 50, 75)],
        ),
        (
            "all reduce of bucket <_> failed after <_>",
            "error",
            vec![(start, 25), (start + 50, 25)],
        ),
    ];
    let found: Vec<_> = answer
        .series
        .iter()
        .map(|series| (series.pattern.as_str(), series.level, series.samples.clone()))
        .collect();
    assert_eq!(found, expected);
    assert_eq!(answer.sampled, 1);
}

#[tokio::test]
async fn the_layout_of_segments_changes_nothing() {
    let rows = rows();
    let one = ask(std::slice::from_ref(&rows), 1, 4096, request(10)).await;
    assert_eq!(one.series.len(), 2);
    // Batches in disorder, with rows that were sent twice.
    let mut batches: Vec<Vec<Row>> = rows.chunks(33).map(<[Row]>::to_vec).collect();
    batches.reverse();
    batches.push(rows[20..90].to_vec());
    assert_eq!(ask(&batches, 1, 16, request(10)).await, one);
    assert_eq!(ask(&batches, 3, 50, request(10)).await, one);
}

#[tokio::test]
async fn tens_of_seconds_count_whole_and_rare_patterns_are_left_out() {
    let mut part = request(10);
    part.start = START + 5 * NS;
    part.end = START + 35 * NS;
    // From 10 to 40 s: 60 lines, a quarter of them of the rarer kind.
    let answer = ask(&[rows()], 1, 64, part).await;
    let start = START / NS;
    assert_eq!(answer.series.len(), 1);
    assert_eq!(
        answer.series[0].samples,
        [(start + 10, 15), (start + 20, 15), (start + 30, 15)]
    );
    let mut empty = request(10);
    empty.end = empty.start - NS;
    assert_eq!(ask(&[rows()], 1, 64, empty).await.series, []);
}

#[test]
fn steps_without_a_line_are_written_within_an_hour() {
    let minute = 60 * NS;
    let samples = [
        (0, 2),
        (10 * NS, 1),
        (3 * minute, 1),
        (59 * minute, 1),
        (61 * minute, 4),
        (200 * minute, 1),
    ];
    let mut counts = BTreeMap::new();
    rescale(&samples, 30 * minute, &mut counts);
    let found: Vec<_> = counts
        .into_iter()
        .map(|(time, lines)| (time / minute, lines))
        .collect();
    assert_eq!(found, [(0, 4), (30, 1), (60, 4), (180, 1)]);
    let mut counts = BTreeMap::new();
    rescale(&samples, minute, &mut counts);
    assert_eq!(counts.get(&minute), Some(&0));
    assert_eq!(counts.get(&(60 * minute)), None, "a new chunk began");
    assert_eq!(counts.values().sum::<u64>(), 10);
}

#[test]
fn a_sample_is_scaled_up() {
    let counts = Counts::from([(("a <_>".to_owned(), 2), BTreeMap::from([(0, 5), (RESOLUTION, 3)]))]);
    assert_eq!(answer(counts.clone(), 2).series, []);
    let answer = answer(counts, 4);
    assert_eq!(answer.series[0].samples, [(0, 20), (10, 12)]);
    assert_eq!(answer.series[0].level, "info");
}

#[test]
fn a_mine_ends_when_its_query_is_given_up() {
    let line = |n: i64| Sampled {
        stream: 1,
        ts: START + n,
        line: format!("step {n}").into(),
        level: 0,
    };
    let lines = || (0..1000).map(line).collect::<Vec<_>>();
    let cancel = Cancel::default();
    assert!(mined(lines(), RESOLUTION, &cancel).is_ok());
    drop(cancel.guard());
    let given_up = mined(lines(), RESOLUTION, &cancel);
    assert!(matches!(given_up, Err(QueryError::Cancelled)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Each line of a stream is counted for at most one pattern, in its own bucket, and every order of arrival gives
    /// the same.
    #[test]
    fn counts_add_up(words in prop::collection::vec(("[a-d]{1,2}", 0..100u32, "[a-c]", 0..600i64), 1..120), seed in any::<u64>()) {
        let lines: Vec<Sampled> = words.iter().map(|(a, n, b, at)| Sampled {
            stream: u64::from(n % 3),
            ts: START + at * NS,
            line: format!("{a} took {n} of {b}").into(),
            level: (n % 2) as usize,
        }).collect();
        let total: u64 = lines.len() as u64;
        let mut shuffled: Vec<Sampled> = words.iter().map(|(a, n, b, at)| Sampled {
            stream: u64::from(n % 3),
            ts: START + at * NS,
            line: format!("{a} took {n} of {b}").into(),
            level: (n % 2) as usize,
        }).collect();
        shuffled.sort_by_key(|line| xxh3_64_with_seed(line.line.as_bytes(), seed ^ line.ts as u64));
        let cancel = Cancel::default();
        let counts = mined(lines, RESOLUTION, &cancel).unwrap();
        prop_assert_eq!(counts.values().flat_map(BTreeMap::values).sum::<u64>(), total);
        prop_assert_eq!(mined(shuffled, RESOLUTION, &cancel).unwrap(), counts);
    }
}
