//! What launchers and libraries print, line by line, and the numbers that each line gets.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use crate::{Config, Filter, Output};

/// Runs one stream's records; each comes out as one record, in order.
fn run(config: &str, records: &[Value]) -> Vec<Value> {
    let (config, problems) = Config::parse(config);
    assert_eq!(problems, []);
    let mut filter = Filter::new(config);
    let mut out: Vec<Value> = Vec::new();
    for (i, record) in records.iter().enumerate() {
        let text = record.to_string();
        let sec = 1_764_000_000 + u32::try_from(i).unwrap();
        match filter.record(b"t", sec, 0, text.as_bytes()) {
            Output::Unchanged => out.push(record.clone()),
            Output::Record(record) => out.push(serde_json::from_slice(record).unwrap()),
            Output::Nothing => {}
        }
    }
    while let Some(record) = filter.flush() {
        out.push(serde_json::from_slice(record).unwrap());
    }
    out
}

/// The field of each line of a stream; empty where there is none.
fn fields(name: &str, config: &str, pod: &Value, lines: &[&str]) -> Vec<String> {
    let records: Vec<Value> = lines
        .iter()
        .map(|log| match pod {
            Value::Null => json!({"log": log, "stream": "stdout"}),
            pod => json!({"log": log, "stream": "stdout", "kubernetes": pod}),
        })
        .collect();
    let out = run(config, &records);
    assert_eq!(out.len(), lines.len(), "{out:#?}");
    out.iter()
        .map(|record| record[name].as_str().unwrap_or_default().to_owned())
        .collect()
}

/// Lines with the rank that each must get.
fn check(config: &str, pod: &Value, lines: &[(&str, &str)]) {
    let texts: Vec<&str> = lines.iter().map(|line| line.0).collect();
    let ranks = fields("rank", config, pod, &texts);
    for ((text, want), got) in lines.iter().zip(&ranks) {
        assert_eq!(got, want, "rank of {text:?} with {config:?} in {lines:#?}");
    }
}

#[test]
fn processes_that_say_their_rank() {
    for (line, rank) in [
        ("[rank3]: stopped by a peer", "3"),
        ("[rank3]:[W1016 00:45:42.231728820 File.cpp:12] x", "3"),
        ("[rank3]:[E ProcessGroupNCCL.cpp:828] x", "3"),
        ("[Rank 3] loading", "3"),
        (
            "2026-02-01 10:00:00,123: rank3[4711][MainThread]: INFO: composer.trainer: x",
            "3",
        ),
        ("stderr: [rank3]: stopped by a peer", "3"),
        ("2026-11-28T04:28:34.123456789Z [rank3]: stopped by a peer", "3"),
        ("[rank3]:W1128 04:45:34.749000 24868 torch/_dynamo/a.py:1] x", "3"),
        ("composer: rank3[4711] says", ""),
        ("[RANK 3] loading", "3"),
        ("[rank: 3] Seed set to 42", "3"),
        ("[rank=3] loading", "3"),
        ("2026-01-02 10:00:00,123 [rank3] INFO a: b", "3"),
        (
            "[2026-01-02 10:00:00,123] [INFO] [logging.py:96:log_dist] [Rank 0] step=10",
            "0",
        ),
        ("INFO [rank 3] ready", "3"),
        ("R3/default1| loading", "3"),
        // Not what a process says of itself.
        ("waiting for [rank 3] to answer", ""),
        ("ranks: [0, 1, 2]", ""),
        ("[rank3/8] x", ""),
        ("(Worker_TP3 pid=77) loading", ""),
        ("(EngineCore_0 pid=12) loading", ""),
        ("gpu-7:4711:4712 [3] NCCL INFO Channel 00/16", ""),
        ("[3/8] building", ""),
        ("[3] J. Doe, On Ranks, 2019", ""),
        ("[epoch3]: loss 2.1", ""),
        ("1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536", ""),
        ("12: foo", ""),
        ("3: error", ""),
    ] {
        check("", &Value::Null, &[(line, rank)]);
    }
}

#[test]
fn launchers_that_tag_each_line() {
    for (line, rank) in [
        ("[1,3]<stdout>:loading", "3"),
        ("[1,3]<stderr>:  File", "3"),
        ("[1,3]:loading", "3"),
        ("[prterun-node-7-4711@1,3]<stdout>: loading", "3"),
        ("[prterun-node-7-4711@1,3][node-7:4712]<stderr>: loading", "3"),
        ("[1,3][node-7:4712]<stderr>: loading", "3"),
        ("Sat Nov 28 04:28:34 2026[1,3]<stdout>:loading", "3"),
        ("[Sat Nov 28 04:28:34 2026][1,3]<stdout>: loading", "3"),
        ("Mon Oct 19 20:44:09 2020[3]<stderr>:loading", "3"),
        ("2026-11-28T04:28:34.123456Z [1,3]<stdout>:loading", "3"),
        ("2026-11-28 04:28:34,123 [1,3]<stdout>:loading", "3"),
        ("Sat Nov 28 04:28:34 2026<stdout>:loading", ""),
        ("2026-11-28 04:28:34,123 [1,3] loading", ""),
        ("<3> loading", ""),
        ("stderr: loading", ""),
        ("[3]<stdout>:loading", "3"),
        ("[3]<stderr>:loading", "3"),
        ("[1,3] loading", ""),
        ("[3]: loading", ""),
        ("[user@1,3] loading", ""),
    ] {
        check("", &Value::Null, &[(line, rank)]);
        check("task_is_rank = false", &Value::Null, &[(line, "")]);
    }
}

#[test]
fn a_number_that_is_contradicted_is_no_rank() {
    // The process is right, and the launcher's number counts nodes from then on.
    check(
        "",
        &Value::Null,
        &[
            ("[1,1]<stdout>:a", "1"),
            ("[1,1]<stdout>:[rank9]: b", "9"),
            ("[1,1]<stdout>:c", ""),
        ],
    );
    // torchrun speaks behind it: the task is a node.
    check(
        "",
        &Value::Null,
        &[
            (
                "1: W1123 18:52:59.002503 17 torch/distributed/run.py:774] Setting OMP_NUM_THREADS",
                "",
            ),
            ("1: loading", ""),
            ("1: [rank9]: stopped by a peer", "9"),
        ],
    );
    // Two that processes say of themselves.
    check("", &Value::Null, &[("[rank3]: [Rank 5] timed out", "")]);
    check("", &Value::Null, &[("[rank3]: [Rank 3] timed out", "3")]);
}

#[test]
fn a_label_before_a_tee_numbers_the_node() {
    let lines = [
        "1: [default3]:2026-01-02 10:00:00 INFO a",
        "1: [default3]:b",
        "0: [default3]:c",
        "1: [default9]:d",
    ];
    check("", &Value::Null, &lines.map(|line| (line, "")));
    let ranks = fields("rank", "procs_per_node = 8", &Value::Null, &lines);
    assert_eq!(ranks, ["11", "11", "3", ""]);
    let nodes = fields("node_rank", "", &Value::Null, &lines);
    assert_eq!(nodes, ["1", "1", "0", "1"]);
}

#[test]
fn torchruns_tee_for_a_role_named_rank_says_the_local_rank() {
    let second = json!({"labels": {"job-name": "llama", "batch.kubernetes.io/job-completion-index": "1"}});
    check(
        "",
        &second,
        &[
            ("[rank3]:[titan] loading", ""),
            ("[rank3]: stopped by a peer", "3"),
        ],
    );
    check(
        "procs_per_node = 8",
        &second,
        &[("[rank3]:[titan] loading", "11")],
    );
    // Without a node's rank until the process says another one.
    check(
        "",
        &Value::Null,
        &[
            ("[rank3]:[titan] loading", "3"),
            ("[rank3]:[rank11]: stopped by a peer", "11"),
            ("[rank3]:[titan] stopping", ""),
        ],
    );
}

const RENDEZVOUS: [&str; 11] = [
    "I1123 18:55:57.024000 1 torch/distributed/elastic/agent/server/api.py:525] [default] Rendezvous complete for workers. Result:",
    "  restart_count=1",
    "  master_addr=node-0",
    "  master_port=29500",
    "  group_rank=1",
    "  group_world_size=2",
    "  local_ranks=[0, 1]",
    "  role_ranks=[2, 3]",
    "  global_ranks=[2, 3]",
    "  role_world_sizes=[4, 4]",
    "  global_world_sizes=[4, 4]",
];

#[test]
fn torchruns_block_ties_local_ranks_to_global_ones() {
    let mut lines = RENDEZVOUS.to_vec();
    lines.extend(["", "[default1]:loading", "[default7]:loading"]);
    assert_eq!(fields("rank", "", &Value::Null, &lines)[11..], ["", "3", ""]);
    assert_eq!(
        fields("world_size", "", &Value::Null, &lines)[11..],
        ["4", "4", "4"]
    );
    assert_eq!(fields("attempt", "", &Value::Null, &lines)[..3], ["", "1", "1"]);
    // The same words in an ordinary text are none of torchrun's.
    lines[0] = "Rendezvous complete for workers. Result:";
    assert_eq!(fields("rank", "", &Value::Null, &lines)[11..], ["", "", ""]);
}

#[test]
fn launchers_say_how_many_processes_there_are() {
    for (line, size) in [
        (
            "[2026-11-28 10:00:00,123] [INFO] [launch.py:164:main] dist_world_size=8",
            "8",
        ),
        (
            "All distributed processes registered. Starting with 8 processes",
            "8",
        ),
        ("Initializing distributed: GLOBAL_RANK: 1, MEMBER: 2/8", "8"),
        ("using world size: 8, data-parallel size: 2", "8"),
        ("dist_world_size=8", ""),
        ("All distributed processes registered. Starting with care", ""),
    ] {
        assert_eq!(
            fields("world_size", "", &Value::Null, &[line, "b"])[1],
            size,
            "{line}"
        );
    }
}

#[test]
fn loggers_print_their_level() {
    for (line, level) in [
        ("2026-01-05 10:00:00 [error    ] x  rank=3", "error"),
        ("2026-01-05T10:00:00.630238Z [info     ] x", "info"),
        ("[warning  ] x", "warn"),
        (
            "[2026-01-05 10:00:00,123 E 47 47] (raylet) node_manager.cc:3071: x",
            "error",
        ),
        ("(raylet) [2026-01-05 10:00:00,123 W 47 47] x", "warn"),
        (
            "2026-01-05 10:00:00.123456: F external/xla/a.cc:12] x",
            "critical",
        ),
        ("[NeMo W 2026-01-05 10:00:00 nemo_logging:405] x", "warn"),
        (r#"{"ts": 1, "level": "error", "msg": "x"}"#, "error"),
        (r#"{"severity":"WARNING","message":"x"}"#, "warn"),
        (r#"{"levelname": "Info", "msg": "x"}"#, "info"),
        ("ts=2026-01-05T10:00:00Z level=warn msg=x", "warn"),
        ("level=ERR msg=x", "error"),
        ("n01:12:34 [0] NCCL INFO x", "info"),
        ("n01:12:34 [0] net.cc:12 NCCL WARN x", "warn"),
        ("2026-01-05 10:00:00.123 | SUCCESS  | a:b:3 - x", "info"),
        (
            " 50%|#  | 1/2 [00:01<00:01, 1.00s/it]2026-01-05 10:00:00,123 ERROR x",
            "error",
        ),
        ("level=3 x", ""),
        (r#"{"noise_level": "error"}"#, ""),
        ("[one] x", ""),
        ("2026-01-05 10:00:00 E x", "error"),
        ("2026-01-05 10:00:00 A x", ""),
        ("a level=error in a sentence", ""),
    ] {
        assert_eq!(fields("level", "", &Value::Null, &[line])[0], level, "{line}");
    }
}

#[test]
fn training_loops_print_their_step() {
    for (line, step) in [
        ("step 19/40 loss 0.3", "19"),
        ("step: 10  loss:  8.1", "10"),
        (" iteration        7/  500000 | consumed samples: 1", "7"),
        ("iter 10: loss 4.2, time 12ms, mfu 3%", "10"),
        ("Iter [50/90000]  lr: 1e-3", "50"),
        ("steps: 10 loss: 2.3145 iter time (s): 0.5", "10"),
        ("[batch=10/4800]:", "10"),
        ("[epoch=1][batch=10/4800]:", "10"),
        ("loss = 2.3, step = 100 (0.5 sec)", "100"),
        ("global_step=17", "17"),
        (
            r#":::MLLOG {"key": "train_loss", "metadata": {"lineno": 1, "step": 100}}"#,
            "100",
        ),
        ("steps: 1000", ""),
        ("warmup_step: 100", ""),
        ("loss_step=2", ""),
        ("step_time: 1.2", ""),
        ("step 1.5", ""),
        ("after the batch=10", ""),
    ] {
        assert_eq!(fields("step", "", &Value::Null, &[line])[0], step, "{line}");
    }
}

#[test]
fn restarts_count_attempts() {
    let restart = |left| {
        format!(
            "I1123 18:55:57.024000 1 torch/distributed/elastic/agent/server/api.py:906] [default] Worker group FAILED. {left}/3 attempts left; will restart worker group"
        )
    };
    let (first, second) = (restart(3), restart(2));
    let lines = ["a", first.as_str(), "b", second.as_str(), "c"];
    assert_eq!(
        fields("attempt", "", &Value::Null, &lines),
        ["", "1", "1", "2", "2"]
    );
    let retry = "(TrainController pid=9) [FailurePolicy] Decision: FailureDecision.RETRY, Error source: worker group, Error count / maximum errors allowed: 1/3, Error: x";
    assert_eq!(
        fields("attempt", "", &Value::Null, &["a", retry, "b"]),
        ["", "1", "1"]
    );
    let requeued = ["SLURM_RESTART_COUNT=2", "b"];
    assert_eq!(fields("attempt", "", &Value::Null, &requeued), ["2", "2"]);
    let named = ["export SLURM_RESTART_COUNT=2", "SLURM_RESTART_COUNT=2 sbatch x"];
    assert_eq!(fields("attempt", "", &Value::Null, &named), ["", ""]);
}

#[test]
fn ray_says_which_worker_has_which_rank() {
    check(
        "",
        &Value::Null,
        &[
            ("(RayTrainWorker pid=4455) loading", ""),
            (
                "(RayTrainWorker pid=4455) Setting up process group for: env:// [rank=0, world_size=4]",
                "0",
            ),
            ("(RayTrainWorker pid=4455) loading", "0"),
            (
                "(TorchTrainer pid=4400) Started distributed worker processes: ",
                "",
            ),
            (
                "(TorchTrainer pid=4400) - (node_id=4c93, ip=10.0.0.4, pid=4455) world_rank=0, local_rank=0, node_rank=0",
                "",
            ),
            (
                "(TorchTrainer pid=4400) - (node_id=4c93, ip=10.0.0.5, pid=4455) world_rank=2, local_rank=0, node_rank=1",
                "",
            ),
            (
                "(TorchTrainer pid=4400) - (ip=10.0.0.5, pid=4456) world_rank=3, local_rank=1, node_rank=1",
                "",
            ),
            ("(RayTrainWorker pid=4455, ip=10.0.0.5) loading", "2"),
            (
                "(RayTrainWorker pid=4456, ip=10.0.0.5) loading [repeated 7x across cluster]",
                "3",
            ),
            ("(RayTrainWorker pid=4456) loading", "3"),
            ("(RayTrainWorker pid=4455) loading", "0"),
            ("(RayTrainWorker pid=9999) loading", ""),
        ],
    );
}

#[test]
fn a_pods_name_says_the_rank_of_its_only_process() {
    let pod = json!({"pod_name": "llama-rank-3"});
    check(
        "",
        &pod,
        &[("loading", "3"), ("[rank3]: x", "3"), ("loading", "")],
    );
    check("", &pod, &[("[default0]:loading", ""), ("loading", "")]);
    check(
        "",
        &json!({"pod_name": "llama-rank12-x7k2p"}),
        &[("loading", "12")],
    );
    for name in ["llama-ranker-3", "rank", "llama-rank-a", "prank-3"] {
        check("", &json!({ "pod_name": name }), &[("loading", "")]);
    }
}

#[test]
fn configured_prefixes_speak_for_their_lines() {
    let config = r"prefix_patterns = ['rank (?P<rank>\d+) \| ', '<(?P<role>[a-z]+)/(?P<node_rank>\d+)\.(?P<local_rank>\d+)> ']
procs_per_node = 4";
    let lines = ["rank 3 | a", "<actor/2.1> b", "<actor/2.4> c", "d"];
    assert_eq!(fields("rank", config, &Value::Null, &lines), ["3", "9", "", ""]);
    assert_eq!(
        fields("role", config, &Value::Null, &lines),
        ["", "actor", "actor", ""]
    );
    assert_eq!(
        fields("node_rank", config, &Value::Null, &lines),
        ["", "2", "2", ""]
    );
}

#[test]
fn configured_records_are_whole_for_each_prefix() {
    let config = r"start_patterns = ['=== memory of step \d+']
continue_patterns = ['\s+cuda:\d']";
    let lines = [
        "[rank0]: === memory of step 12",
        "[rank1]: === memory of step 12",
        "[rank0]:   cuda:0 71 GiB",
        "[rank1]:   cuda:0 70 GiB",
        "[rank0]:   cuda:1 71 GiB",
        "[rank0]: saving",
        "[rank0]:   cuda:1 is no part of anything",
    ];
    let records: Vec<Value> = lines.iter().map(|log| json!({"log": log})).collect();
    let mut out = run(config, &records);
    out.sort_by_key(|record| record["log"].as_str().unwrap().to_owned());
    let logs: Vec<&str> = out.iter().map(|record| record["log"].as_str().unwrap()).collect();
    let first = [lines[0], lines[2], lines[4]].join("\n");
    let second = [lines[1], lines[3]].join("\n");
    assert_eq!(logs, [lines[6], &first, lines[5], &second]);
    assert_eq!((&out[1]["rank"], &out[3]["rank"]), (&json!("0"), &json!("1")));
}
