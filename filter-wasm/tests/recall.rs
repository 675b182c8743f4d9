//! Lines like earlier ones take a short way through the filter: it must give what the long one gives.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use rank_filter::{Config, Filter, Output};
use serde_json::json;

/// A pattern that fits no line: with configured patterns every line is read.
const NO_SHORT_WAY: &str = "prefix_patterns = ['never(?P<rank>[0-9])never']";

/// Kinds of lines; `N` stands for numbers, `H` for digits of hexadecimal ones.
const KINDS: [&str; 45] = [
    "loss N.NNN at N",
    "Epoch: [N]  [ N/4571]  eta: 0:02:08    time: 0.N",
    "\tmodule.decoder.layers.N.weight",
    "step N loss N.N",
    "iteration        N/  500000 | consumed samples:            N",
    "2026-11-2N 18:5N:0N,123 - megatron.training - INFO - consumed N",
    "[2026-11-23 18:55:0N,123] [INFO] [logging.py:96:log_dist] [Rank N] time (ms) | fwd: N.N",
    "INFO:trainer:saved shard N",
    "WARNING:trainer:slow step N",
    "{\"level\": \"info\", \"step\": N, \"loss\": N.N}",
    ":::MLLOG {\"key\": \"tracked_stats\", \"value\": N.N, \"metadata\": {\"step\": N}}",
    "[rankN]: hello N",
    "[rankN]: Traceback (most recent call last):",
    "[rankN]:   File \"/w/train.py\", line N, in main",
    "[rankN]: ValueError: N is bad",
    "[defaultN]:loss N",
    "[defaultN]:[rankN]: loss N",
    "N: loss N.N",
    "N: 2026-11-23 18:55:0N INFO loss N",
    " N: Traceback (most recent call last):",
    "[1,N]<stdout>:loss N",
    "[N] loss",
    "(RayTrainWorker pid=N, ip=10.0.0.N) loss N",
    "(RayTrainWorker pid=N) Setting up process group for: env:// [rank=N, world_size=8]",
    "xe9680-sxm-6:33000N:33700N [N] NCCL INFO Channel N/0 : 9[1] -> 1[1]",
    "I1123 18:55:57.02400N 12345 torch/distributed/elastic/agent/server/api.py:N] [default] Rendezvous complete for workers. Result:",
    "  restart_count=N",
    "  global_ranks=[N]",
    "TORCHELASTIC_RESTART_COUNT=N",
    "All distributed processes registered. Starting with N processes",
    "/w/data.pyN: UserWarning: N is odd",
    "/w/data.py:N: UserWarning: N is odd",
    "\u{1b}[3Nmcolours N\u{1b}[0m",
    " 1N%|#N| N/10 [00:0N<00:0N, 1.0it/s]\r 2N%|##N| N/10",
    "xe9680-sxm-6:33000N:33700N [N] NCCL INFO comm 0xHHHH rank N nranks N - Init COMPLETE",
    "N: node:N [N] NCCL INFO connection 0x7fHHHH",
    "[rankN]: step N of 0xHHHH",
    "[rank0xH]: step 0xH",
    "0xHH:1N:0N INFO loss N",
    "0xHH:1N:0N N of N failed for now",
    "iteration 0xHH/ 0xHH",
    "frame #N: <unknown function> + 0xHH (0xHHHH in /lib/libc.so.6)",
    "*** SIGSEGV (@0xHH) received by PID N ***",
    "<Error at 0xHHHH> step: N",
    "",
];

#[derive(Debug, Clone)]
struct Call {
    kind: usize,
    numbers: Vec<u32>,
    stderr: bool,
    tag: usize,
    pod: Option<usize>,
    pause: bool,
    tick: bool,
}

fn call() -> impl Strategy<Value = Call> {
    let numbers = prop::collection::vec(prop_oneof![0..3u32, 0..10u32, 10..100u32], 8);
    (
        0..KINDS.len(),
        numbers,
        prop::bool::weighted(0.2),
        prop_oneof![4 => Just(0usize), 1 => Just(1)],
        prop_oneof![6 => Just(None), 1 => (0..2usize).prop_map(Some)],
        prop::bool::weighted(0.05),
        prop::bool::weighted(0.02),
    )
        .prop_map(|(kind, numbers, stderr, tag, pod, pause, tick)| Call {
            kind,
            numbers,
            stderr,
            tag,
            pod,
            pause,
            tick,
        })
}

fn text(call: &Call) -> String {
    let mut numbers = call.numbers.iter().cycle();
    let mut text = String::new();
    for c in KINDS[call.kind].chars() {
        match c {
            'N' => text += &numbers.next().unwrap().to_string(),
            'H' => text += &format!("{:x}", numbers.next().unwrap() % 16),
            c => text.push(c),
        }
    }
    text
}

/// What each call gives, and what is left at the end.
fn run(config: &str, calls: &[Call]) -> Vec<Option<String>> {
    let (config, problems) = Config::parse(config);
    assert!(problems.is_empty(), "{problems:?}");
    let mut filter = Filter::new(config);
    let mut ts = 1_764_000_000_000_000_000u64;
    let mut out = Vec::new();
    for call in calls {
        ts += if call.pause { 3_000_000_000 } else { 70_000 };
        let (sec, nsec) = ((ts / 1_000_000_000) as u32, (ts % 1_000_000_000) as u32);
        let mut record = json!({"log": text(call), "stream": if call.stderr { "stderr" } else { "stdout" }});
        if let Some(pod) = call.pod {
            let labels = json!({"training.kubeflow.org/job-name": "llama", "training.kubeflow.org/replica-index": pod.to_string()});
            record["kubernetes"] = json!({"pod_name": format!("llama-worker-{pod}"), "labels": labels});
        }
        let record = record.to_string();
        let tag = [&b"kube.a"[..], b"kube.b"][call.tag];
        out.push(match filter.record(tag, sec, nsec, record.as_bytes()) {
            Output::Unchanged => Some(record),
            Output::Record(record) => Some(String::from_utf8(record.to_vec()).unwrap()),
            Output::Nothing => None,
        });
        if call.tick {
            out.push(
                filter
                    .tick(ts)
                    .map(|record| String::from_utf8(record.to_vec()).unwrap()),
            );
        }
    }
    while let Some(record) = filter.flush() {
        out.push(Some(String::from_utf8(record.to_vec()).unwrap()));
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_short_way_gives_what_the_long_one_gives(calls in prop::collection::vec(call(), 1..160)) {
        prop_assert_eq!(run("", &calls), run(NO_SHORT_WAY, &calls));
    }

    /// The same with few kinds of lines, which come again and again.
    #[test]
    fn the_short_way_is_taken_often(calls in prop::collection::vec(call(), 1..160), kinds in prop::collection::vec(0..KINDS.len(), 3)) {
        let calls: Vec<Call> = calls.into_iter().map(|call| Call { kind: kinds[call.kind % 3], ..call }).collect();
        prop_assert_eq!(run("", &calls), run(NO_SHORT_WAY, &calls));
    }
}

/// A launcher's line that says what was known already is no less a launcher's line when it comes with another number.
#[test]
fn what_a_launcher_says_again_is_read_again() {
    let mut filter = Filter::new(Config::default());
    for size in [16, 16, 16, 64, 64, 16] {
        let line = format!("All distributed processes registered. Starting with {size} processes");
        for line in [line.as_str(), "loss 1"] {
            let record = json!({ "log": line }).to_string();
            let Output::Record(out) = filter.record(b"kube.a", 1, 0, record.as_bytes()) else {
                panic!("{line} left without fields");
            };
            let out: serde_json::Value = serde_json::from_slice(out).unwrap();
            assert_eq!(out["world_size"], size.to_string());
        }
    }
}
