//! Each bound at its limit: what was below it still waits, what goes beyond it leaves early, and nothing is lost.

use serde_json::{Value, json};

use super::{Run, TRACEBACK, logs};
use crate::{Config, Filter, Output};

/// A filter with these lines of configuration.
fn run(config: &str) -> Run {
    let (config, problems) = Config::parse(config);
    assert!(problems.is_empty(), "{problems:?}");
    Run::new(config)
}

/// The lines of all records, in order.
fn lines(out: &[Value]) -> Vec<String> {
    logs(out)
        .iter()
        .flat_map(|log| log.split('\n').map(String::from).collect::<Vec<_>>())
        .collect()
}

/// Begins a traceback of this rank.
fn begin(run: &mut Run, rank: usize) {
    run.line(&format!("[rank{rank}]: Traceback (most recent call last):"));
}

#[test]
fn one_record_more_than_may_be_held_sends_the_oldest_off() {
    let mut run = run("max_held_records = 3");
    for rank in 0..3 {
        begin(&mut run, rank);
    }
    assert_eq!(run.out.len(), 0);
    begin(&mut run, 3);
    assert_eq!(logs(&run.out), ["[rank0]: Traceback (most recent call last):"]);
    assert_eq!(run.filter.pending(), 3);
}

#[test]
fn one_byte_more_than_may_be_held_sends_the_oldest_off() {
    let begun = json!({"log": "[rank0]: Traceback (most recent call last):", "stream": "stderr"});
    // A held record counts as its record, its text, 8 bytes a call and 256 for what is noted of it.
    let one = begun.to_string().len() + begun["log"].as_str().unwrap().len() + 8 + 256;
    for (limit, left) in [(2 * one, 0), (2 * one - 1, 1)] {
        let mut run = run(&format!("max_held_bytes = {limit}"));
        begin(&mut run, 0);
        begin(&mut run, 1);
        assert_eq!(run.out.len(), left, "{limit}");
        assert_eq!(lines(&run.finish()).len(), 2);
    }
}

#[test]
fn a_record_over_the_bytes_of_a_record_leaves_in_two() {
    let mut run = run("max_record_bytes = 1000");
    begin(&mut run, 0);
    let frame = |n: usize| format!("[rank0]:   File \"/w/layer_{n}.py\", line {n}, in forward");
    for n in 10..60 {
        run.line(&frame(n));
    }
    let out = run.finish();
    assert!(out.len() > 1);
    assert_eq!(lines(&out).len(), 51);
    // One line may go beyond the limit: it is looked at behind the line.
    assert!(
        logs(&out)
            .iter()
            .all(|log| log.len() < 1000 + frame(10).len() + 100)
    );
    assert!(logs(&out)[0].len() >= 1000 - 51);
}

#[test]
fn a_record_over_the_lines_of_a_record_leaves_in_two() {
    for (limit, records) in [(5, 1), (4, 2)] {
        let mut run = run(&format!("max_record_lines = {limit}"));
        run.lines(TRACEBACK);
        let out = run.finish();
        assert_eq!(out.len(), records, "{limit}");
        assert_eq!(lines(&out), TRACEBACK.lines().collect::<Vec<_>>());
    }
}

#[test]
fn a_held_record_leaves_when_a_line_of_its_tag_is_more_than_its_age_younger() {
    for (gap_ms, left) in [(60_000, false), (60_001, true)] {
        let mut run = run("");
        begin(&mut run, 0);
        run.ts += gap_ms * 1_000_000 - 100_000;
        begin(&mut run, 1);
        assert_eq!(!run.out.is_empty(), left, "{gap_ms}");
    }
}

#[test]
fn an_age_is_seen_by_lines_like_earlier_ones_too() {
    let mut run = run("");
    for _ in 0..3 {
        run.line("step 1");
    }
    begin(&mut run, 0);
    run.ts += 60_001_000_000;
    run.line("step 1");
    assert!(logs(&run.out).contains(&"[rank0]: Traceback (most recent call last):"));
}

#[test]
fn the_tag_beyond_the_limit_makes_the_oldest_forgotten() {
    let say = |run: &mut Run, tag: &str, log: &str| run.record(tag, &json!({"log": log}));
    for (limit, remembered) in [(2, true), (1, false)] {
        let mut run = run(&format!("max_tags = {limit}"));
        say(&mut run, "a", "using world size: 64");
        say(&mut run, "b", "hello");
        say(&mut run, "a", "hello");
        let out = run.finish();
        assert_eq!(out[2].get("world_size").is_some(), remembered, "{limit}");
    }
}

/// Pods that die in the middle of a traceback leave their records to the ticks. Without any, further lines carry them out.
#[test]
fn records_of_tags_that_fell_silent_are_bounded_too() {
    let mut run = run("max_held_records = 10");
    let mut most = 0;
    for pod in 0..1_000 {
        for line in [
            "Traceback (most recent call last):",
            "  File \"a.py\", line 1, in f",
            "    f()",
        ] {
            run.ts += 1_000;
            run.record(&format!("pod-{pod}"), &json!({"log": line}));
        }
        most = most.max(run.filter.pending());
    }
    // Held, complete, and one more while a call is made.
    assert!((20..=22).contains(&most), "{most}");
    assert_eq!(lines(&run.finish()).len(), 3_000);
}

#[test]
fn complete_records_are_bounded_in_bytes_too() {
    let mut run = run("max_held_bytes = 100000");
    for pod in 0..50 {
        for number in 0..20 {
            run.ts += 1_000;
            let line = if number == 0 {
                "Traceback (most recent call last):".into()
            } else {
                format!("  File \"{}.py\", line {number}, in f", "x".repeat(1_000))
            };
            run.record(&format!("pod-{pod}"), &json!({"log": line}));
        }
    }
    // 20 kB a record: five that are held, five that are complete.
    assert!(run.filter.pending() <= 12, "{}", run.filter.pending());
    assert_eq!(lines(&run.finish()).len(), 1_000);
}

/// The longest line that a runtime's parts are joined to, 4 MiB.
const LONGEST: usize = 4 << 20;

#[test]
fn lines_of_four_mebibytes_pass_whole() {
    let long = "x".repeat(LONGEST);
    let mut run = run("");
    run.line(&long);
    run.line(&format!("[rank3]: {long}"));
    run.record("t", &json!({"deep": {"more": [long]}, "log": "[rank3]: short"}));
    run.line("[rank3]: Traceback (most recent call last):");
    run.line(&format!("[rank3]:   File \"{long}\", line 1, in f"));
    run.line("[rank3]: ValueError: 1");
    let out = run.finish();
    let found: Vec<usize> = lines(&out).iter().map(String::len).collect();
    assert_eq!(
        found,
        [LONGEST, LONGEST + 9, 14, 43, LONGEST + 32, 22],
        "{} records",
        out.len()
    );
    assert_eq!(out[2]["deep"]["more"][0].as_str().unwrap().len(), LONGEST);
    assert!(out[1..].iter().all(|record| record["rank"] == "3"));
}

/// A part of a line as a container runtime writes it.
fn part(run: &mut Run, stream: &str, text: &str, flag: &str) {
    run.ts += 1_000;
    run.record("t", &json!({"log": text, "stream": stream, "logtag": flag}));
}

#[test]
fn parts_are_joined_up_to_the_longest_line() {
    let piece = "y".repeat(16 << 10);
    for (pieces, records) in [(256, 1), (257, 2)] {
        let mut run = run("");
        for _ in 0..pieces {
            part(&mut run, "stdout", &piece, "P");
        }
        part(&mut run, "stdout", "end", "F");
        let out = run.finish();
        assert_eq!(out.len(), records, "{pieces}");
        let joined = logs(&out).concat();
        assert_eq!(joined, piece.repeat(pieces) + "end");
    }
}

#[test]
fn parts_of_both_streams_interleave() {
    let mut run = run("");
    part(&mut run, "stdout", "[rank1]: first ", "P");
    part(&mut run, "stderr", "[rank2]: Trace", "P");
    part(&mut run, "stdout", "half, ", "P");
    part(&mut run, "stderr", "back (most recent call last):", "F");
    part(&mut run, "stdout", "last", "F");
    part(&mut run, "stderr", "[rank2]:   File \"a.py\", ", "P");
    part(&mut run, "stderr", "line 1, in f", "F");
    part(&mut run, "stderr", "[rank2]: KeyError: 1", "F");
    let out = run.finish();
    assert_eq!(
        logs(&out),
        [
            "[rank1]: first half, last",
            "[rank2]: Traceback (most recent call last):\n[rank2]:   File \"a.py\", line 1, in f\n[rank2]: KeyError: 1"
        ]
    );
    assert_eq!((&out[0]["rank"], &out[1]["rank"]), (&json!("1"), &json!("2")));
    assert_eq!(out[1]["exception"], "KeyError");
}

#[test]
fn lines_that_never_end_are_bounded() {
    let mut run = run("");
    for pod in 0..2_000 {
        run.record(
            &format!("pod-{pod}"),
            &json!({"log": "half a line", "logtag": "P"}),
        );
    }
    // 256 parts, and as many complete ones as may be held.
    assert!(
        run.filter.pending() <= 256 + 1_024 + 1,
        "{}",
        run.filter.pending()
    );
    assert_eq!(run.finish().len(), 2_000);
}

#[test]
fn a_line_that_is_no_text_goes_on_unchanged() {
    let mut filter = Filter::new(Config::default());
    for value in [
        "3",
        "null",
        "true",
        "{\"a\":[1]}",
        "[\"Traceback (most recent call last):\"]",
        "-1e400",
    ] {
        let record = format!("{{\"log\":{value},\"rank\":\"7\"}}");
        assert_eq!(
            filter.record(b"t", 1, 0, record.as_bytes()),
            Output::Unchanged,
            "{value}"
        );
    }
}

#[test]
fn the_line_is_found_under_its_other_names() {
    for (config, record, rank) in [
        ("", json!({"message": "[rank3]: a"}), Some("3")),
        ("", json!({"msg": "[rank3]: a"}), Some("3")),
        (
            "",
            json!({"log": "[rank1]: a", "message": "[rank3]: b"}),
            Some("1"),
        ),
        // A line that is no text does not stand in the way of one that is.
        ("", json!({"log": 3, "message": "[rank3]: b"}), Some("3")),
        ("", json!({"text": "[rank3]: a"}), None),
        ("log_keys = [\"text\"]", json!({"text": "[rank3]: a"}), Some("3")),
        ("log_keys = [\"text\"]", json!({"log": "[rank3]: a"}), None),
    ] {
        let mut run = run(config);
        run.record("t", &record);
        assert_eq!(
            run.finish()[0].get("rank").and_then(Value::as_str),
            rank,
            "{record}"
        );
    }
}
