//! Parsing, running a pipeline over lines, accumulating samples. `cargo bench -p rankline-logql`.
#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;

use divan::Bencher;
use divan::counter::ItemsCount;
use rankline_logql::{EntryRef, EvalLimits, EvalSpec, Expr, Labels, MetricPlan, Pipeline};

fn main() {
    divan::main();
}

const LINES: usize = 10_000;
const SECOND: i64 = 1_000_000_000;

fn lines() -> Vec<String> {
    (0..LINES)
        .map(|n| match n % 4 {
            0 => format!(
                "Epoch {} | step {n} | loss {}.{} | lr 1.0e-04 | {} ms/it",
                n / 500,
                n % 9,
                n,
                900 + n % 300
            ),
            1 => format!(
                "level=info step={n} loss=1.{n} took={}ms msg=\"all reduce done\"",
                n % 500
            ),
            2 => format!(
                "{{\"level\":\"info\",\"step\":{n},\"loss\":1.{n},\"gpu\":{{\"mem\":{n},\"util\":0.97}}}}"
            ),
            _ => format!(
                "NCCL INFO Channel {:02}/16 : {n}[0] -> {}[1] via P2P/IPC",
                n % 16,
                n + 1
            ),
        })
        .collect()
}

#[divan::bench(args = [
    r#"{job="a"} |= "b""#,
    r#"sum by (rank) (rate({job="llama", rank=~"[0-7]"} |= "loss" | logfmt | step > 100 [5m])) / on (rank) group_left sum by (rank) (count_over_time({job="llama"}[5m]))"#,
    r#"topk(5, sum by (rank, level) (count_over_time({job="llama"} | json | line_format "{{.msg}}" | level=~"warn|error" [1h])))"#,
])]
fn parse(query: &str) -> bool {
    rankline_logql::parse(divan::black_box(query)).is_ok()
}

#[divan::bench(args = [
    r#"|= "step 77""#,
    r#"|~ "loss [0-9.]+ ""#,
    r#"|~ "(?i)nccl.*p2p""#,
    "| json",
    "| logfmt",
    "| logfmt | step > 5000",
    r#"| regexp "step (?P<step>\\d+).*loss (?P<loss>[0-9.]+)""#,
    r#"| pattern "Epoch <epoch> | step <step> | loss <loss> | <_>""#,
    r#"| logfmt | line_format "{{.level}} {{.step}}""#,
])]
fn pipeline(bencher: Bencher, stages: &str) {
    let Ok(Expr::Log(log)) = rankline_logql::parse(&format!("{{job=\"a\"}} {stages}")) else {
        return;
    };
    let mut runner = Arc::new(Pipeline::new(&log.stages).unwrap()).runner();
    runner.set_stream(&Labels::from_pairs([
        ("job", "llama"),
        ("rank", "3"),
        ("pod", "worker-3"),
    ]));
    let lines = lines();
    let metadata = [("detected_level", "info")];
    bencher.counter(ItemsCount::new(LINES)).bench_local(|| {
        let mut kept = 0;
        for line in &lines {
            kept += usize::from(
                runner
                    .process(
                        &EntryRef {
                            ts: 1,
                            line,
                            metadata: &metadata,
                        },
                        false,
                    )
                    .is_some(),
            );
        }
        kept
    });
}

#[divan::bench(args = [
    r#"sum(count_over_time({job="a"}[1m]))"#,
    r#"sum by (rank) (count_over_time({job="a"}[1m]))"#,
    r#"count_over_time({job="a"}[1m])"#,
    r#"sum by (rank) (rate({job="a"} |= "loss" [5m]))"#,
    r#"max by (rank) (max_over_time({job="a"} | regexp "loss (?P<loss>[0-9.]+)" | unwrap loss [1m]))"#,
    r#"sum by (level) (count_over_time({job="a"} | json | __error__="" [1m]))"#,
])]
fn accumulate(bencher: Bencher, query: &str) {
    let Ok(Expr::Metric(expr)) = rankline_logql::parse(query) else {
        return;
    };
    let spec = EvalSpec {
        start: 0,
        end: 3_600 * SECOND,
        step: 60 * SECOND,
    };
    let limits = EvalLimits {
        max_series: 10_000,
        max_bytes: 1 << 30,
    };
    let plan = MetricPlan::new(&expr, spec, limits).unwrap();
    let leaf = plan.leaves().first().unwrap();
    let lines = lines();
    let metadata = [("detected_level", "info")];
    let streams: Vec<Labels> = (0..8)
        .map(|rank| Labels::from_pairs([("job", "llama".to_owned()), ("rank", rank.to_string())]))
        .collect();
    bencher.counter(ItemsCount::new(LINES)).bench_local(|| {
        let mut accumulator = leaf.accumulator();
        for (stream, lines) in streams.iter().zip(lines.chunks(LINES / 8)) {
            accumulator.set_stream(stream);
            for (ts, line) in (0_i64..).step_by(2_900_000_000).zip(lines) {
                accumulator
                    .add(
                        &EntryRef {
                            ts,
                            line,
                            metadata: &metadata,
                        },
                        false,
                    )
                    .unwrap();
            }
        }
        accumulator
    });
}
