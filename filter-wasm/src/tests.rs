//! The filter as a whole: nothing is lost, order holds, bounds hold, and failures come out in one piece.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{Config, Filter, Output};

mod bounds;

/// Everything that comes out, in order.
struct Run {
    filter: Filter,
    out: Vec<Value>,
    ts: u64,
}

impl Run {
    fn new(config: Config) -> Self {
        Run {
            filter: Filter::new(config),
            out: Vec::new(),
            ts: 1_764_000_000_000_000_000,
        }
    }

    fn record(&mut self, tag: &str, record: &Value) {
        let text = record.to_string();
        let (sec, nsec) = ((self.ts / 1_000_000_000) as u32, (self.ts % 1_000_000_000) as u32);
        match self.filter.record(tag.as_bytes(), sec, nsec, text.as_bytes()) {
            Output::Unchanged => self.out.push(record.clone()),
            Output::Record(record) => self.out.push(serde_json::from_slice(record).unwrap()),
            Output::Nothing => {}
        }
    }

    fn line(&mut self, log: &str) {
        self.ts += 100_000;
        self.record("t", &json!({"log": log, "stream": "stderr"}));
    }

    fn lines(&mut self, text: &str) {
        for line in text.lines() {
            self.line(line);
        }
    }

    fn tick(&mut self) {
        let ts = self.ts;
        if let Some(record) = self.filter.tick(ts) {
            self.out.push(serde_json::from_slice(record).unwrap());
        }
    }

    fn finish(mut self) -> Vec<Value> {
        while let Some(record) = self.filter.flush() {
            self.out.push(serde_json::from_slice(record).unwrap());
        }
        assert_eq!(self.filter.pending(), 0);
        self.out
    }
}

fn logs(out: &[Value]) -> Vec<&str> {
    out.iter().map(|record| record["log"].as_str().unwrap()).collect()
}

const TRACEBACK: &str = "Traceback (most recent call last):
  File \"/w/train.py\", line 7, in <module>
    main()
    ^^^^^^
ValueError: no tokens";

#[test]
fn a_record_that_somebody_else_merged_says_what_failed() {
    let trace = "Traceback (most recent call last):\n  File \"/w/a.py\", line 3, in f\n    g()\nKeyError: 3";
    for (text, exception, level) in [
        (trace.to_owned(), Some("KeyError"), Some("error")),
        (format!("ERROR lost\n{trace}"), Some("KeyError"), Some("error")),
        (
            format!("INFO trying again\n{trace}\n"),
            Some("KeyError"),
            Some("error"),
        ),
        (
            format!("WARNING bad config:\n  a: 3\nb\n\n{trace}"),
            Some("KeyError"),
            Some("error"),
        ),
        ("INFO settings:\nError: none\nx".to_owned(), None, Some("info")),
        ("a\nb".to_owned(), None, None),
    ] {
        let mut run = Run::new(Config::default());
        run.line(&text);
        let out = run.finish();
        assert_eq!(out.len(), 1);
        assert_eq!(out[0]["log"], text.as_str());
        assert_eq!(out[0]["exception"].as_str(), exception, "{text}");
        assert_eq!(out[0]["level"].as_str(), level, "{text}");
    }
}

#[test]
fn a_traceback_is_one_record_with_its_name_and_time() {
    let mut run = Run::new(Config::default());
    run.line("starting");
    run.lines(TRACEBACK);
    run.line("2026-01-01 10:00:00 INFO next");
    let out = run.finish();
    assert_eq!(
        logs(&out),
        ["starting", TRACEBACK, "2026-01-01 10:00:00 INFO next"]
    );
    assert_eq!(out[1]["exception"], "ValueError");
    assert_eq!(out[1]["level"], "error");
    assert_eq!(out[1]["rankline_ts"], "1764000000000200000");
    assert_eq!(out[1].get("rank"), None);
}

#[test]
fn ranks_that_interleave_come_out_whole() {
    let mut run = Run::new(Config::default());
    for line in TRACEBACK.lines() {
        for rank in 0..8 {
            run.line(&format!("[rank{rank}]: {line}"));
        }
    }
    let out = run.finish();
    assert_eq!(out.len(), 8);
    for (rank, record) in out.iter().enumerate() {
        let want: Vec<String> = TRACEBACK
            .lines()
            .map(|line| format!("[rank{rank}]: {line}"))
            .collect();
        assert_eq!(record["log"], want.join("\n"));
        assert_eq!(record["rank"], rank.to_string());
    }
}

#[test]
fn chained_parts_and_blank_lines_without_prefix_stay_together() {
    let mut run = Run::new(Config::default());
    run.lines("[rank1]: Traceback (most recent call last):\n[rank1]:   File \"a.py\", line 1, in f\n[rank1]: KeyError: 'a'");
    run.lines("\n[rank1]: During handling of the above exception, another exception occurred:\n");
    run.line("");
    run.lines("[rank1]: Traceback (most recent call last):\n[rank1]:   File \"a.py\", line 3, in f\n[rank1]: a.B: c");
    let out = run.finish();
    assert_eq!(out.len(), 1);
    assert_eq!(out[0]["exception"], "a.B");
}

#[test]
fn a_hosts_name_before_every_line_is_no_evidence_of_one_write() {
    let mut run = Run::new(Config::default());
    for line in TRACEBACK.lines() {
        run.line(&format!("worker-1: {line}"));
    }
    run.ts += 1_000_000_000;
    run.line("worker-1: saving");
    let out = run.finish();
    assert_eq!(out.len(), 2);
    assert_eq!(
        (&out[0]["exception"], &out[1]["log"]),
        (&json!("ValueError"), &json!("worker-1: saving"))
    );
}

#[test]
fn names_before_every_line_tell_writers_apart() {
    for [one, other] in [
        ["node1: ", "node2: "],
        ["worker-0  | ", "worker-1  | "],
        ["[pod/llama-worker-0/pytorch] ", "[pod/llama-worker-1/pytorch] "],
        ["<0> ", "<1> "],
    ] {
        let mut run = Run::new(Config::default());
        let traceback = |name: &str, message| {
            [
                format!("{name}Traceback (most recent call last):"),
                format!("{name}  File \"train.py\", line 3, in <module>"),
                format!("{name}ValueError: {message}"),
            ]
        };
        let (ours, theirs) = (traceback(one, "a"), traceback(other, "b"));
        for (line, their) in ours.iter().zip(&theirs) {
            run.line(line);
            run.line(their);
        }
        assert_eq!(
            logs(&run.finish()),
            [ours.join("\n"), theirs.join("\n")],
            "{one:?}"
        );
    }
}

#[test]
fn asyncios_announcement_and_its_traceback_are_one_record() {
    let mut run = Run::new(Config::default());
    run.line("ERROR:asyncio:Task exception was never retrieved");
    run.line("future: <Task finished name='Task-1' coro=<f() done> exception=ValueError('x')>");
    run.lines(TRACEBACK);
    assert_eq!(run.finish().len(), 1);
}

#[test]
fn a_blank_line_behind_a_record_stays_a_line() {
    let mut run = Run::new(Config::default());
    run.lines(TRACEBACK);
    run.line("");
    run.ts += 1_000_000_000;
    run.line("saving the model");
    assert_eq!(logs(&run.finish()), [TRACEBACK, "", "saving the model"]);
}

#[test]
fn the_launchers_number_is_no_rank_where_a_process_says_another() {
    let mut run = Run::new(Config::parse("task_is_rank = true").0);
    run.line("1: hello");
    run.line("1: [rank9]: hello");
    run.line("1: hello again");
    let out = run.finish();
    assert_eq!(out[0]["rank"], "1");
    assert_eq!(out[1]["rank"], "9");
    assert_eq!(out[2].get("rank"), None);
}

#[test]
fn a_local_rank_becomes_a_rank_when_the_group_is_known() {
    let (config, problems) = Config::parse("procs_per_node = 8\nnode_rank = 2");
    assert!(problems.is_empty());
    let mut run = Run::new(config);
    run.line("[default3]:loading");
    let out = run.finish();
    assert_eq!(
        (&out[0]["rank"], &out[0]["local_rank"]),
        (&json!("19"), &json!("3"))
    );
}

#[test]
fn ticks_carry_out_what_waits_longer_than_flush_ms() {
    let mut run = Run::new(Config::default());
    run.lines(TRACEBACK);
    run.tick();
    assert!(run.out.is_empty());
    run.ts += 1_999_000_000;
    run.tick();
    assert!(run.out.is_empty());
    run.ts += 1_000_000;
    run.tick();
    assert_eq!(logs(&run.out), [TRACEBACK]);
}

#[test]
fn cut_lines_are_joined_first() {
    let mut run = Run::new(Config::default());
    run.record(
        "t",
        &json!({"log": "[rank3]: Trace", "stream": "stderr", "_p": "P"}),
    );
    run.record(
        "t",
        &json!({"log": "back (most recent ", "stream": "stderr", "_p": "P"}),
    );
    run.record("t", &json!({"log": "call last):", "stream": "stderr", "_p": "F"}));
    run.line("[rank3]:   File \"a.py\", line 1, in f");
    run.line("[rank3]: KeyError");
    let out = run.finish();
    assert_eq!(out.len(), 1);
    assert_eq!(
        (&out[0]["rank"], &out[0]["exception"]),
        (&json!("3"), &json!("KeyError"))
    );
    assert_eq!(out[0]["_p"], "F");
}

#[test]
fn bars_keep_their_last_state() {
    let mut run = Run::new(Config::default());
    run.line("\r  0%|   | 0/12 [00:00<?, ?it/s]\r  8%|   | 1/12 [00:01<00:11,  1.01s/it]");
    run.line("3: \r1it\r2it");
    run.line("windows\r");
    assert_eq!(
        logs(&run.finish()),
        ["  8%|   | 1/12 [00:01<00:11,  1.01s/it]", "3: \r2it", "windows\r"]
    );
}

#[test]
fn prefixes_are_stripped_when_wanted() {
    let (config, _) = Config::parse("strip_prefix = true");
    let mut run = Run::new(config);
    for line in TRACEBACK.lines() {
        run.line(&format!("[rank1]: {line}"));
    }
    run.line("[1,3]<stdout>:  indented");
    let out = run.finish();
    assert_eq!(logs(&out), ["  indented", TRACEBACK]);
    assert_eq!((&out[0]["rank"], &out[1]["rank"]), (&json!("3"), &json!("1")));
}

#[test]
fn foreign_bytes_stay_as_they_are() {
    let mut filter = Filter::new(Config::default());
    let record = br#"{ "n":1.50e+3,"log":"[rank2]: a \u00e9\/b" , "x":{"a":[1,"}"]} }"#;
    let Output::Record(out) = filter.record(b"t", 1, 0, record) else {
        panic!("no record")
    };
    let want = br#"{ "n":1.50e+3,"log":"[rank2]: a \u00e9\/b" , "x":{"a":[1,"}"]} ,"rank":"2"}"#;
    assert_eq!(String::from_utf8_lossy(out), String::from_utf8_lossy(want));
}

#[test]
fn what_is_not_understood_goes_on_unchanged() {
    let mut filter = Filter::new(Config::default());
    for record in [
        "",
        "{",
        "{}",
        "[]",
        "{\"log\":3}",
        "{\"log\":\"a\",\"log\":\"b\"}",
        "{\"log\":\"a\"",
        "{\"log\":\"a\"}x",
    ] {
        assert_eq!(
            filter.record(b"t", 1, 0, record.as_bytes()),
            Output::Unchanged,
            "{record}"
        );
    }
}

#[test]
fn bounds_hold_and_lose_nothing() {
    let (config, problems) =
        Config::parse("max_held_records = 4\nmax_held_bytes = 4000\nmax_record_lines = 6\nmax_tags = 3");
    assert!(problems.is_empty());
    let mut run = Run::new(config);
    let mut sent = 0;
    for round in 0..50 {
        for rank in 0..20 {
            run.ts += 1000;
            let log = match round % 10 {
                0 => format!("[rank{rank}]: Traceback (most recent call last):"),
                _ => format!("[rank{rank}]:   File \"a.py\", line {round}, in f"),
            };
            run.record(&format!("t{}", rank % 5), &json!({"log": log}));
            sent += 1;
            assert!(run.filter.pending() <= 4 + 4, "{}", run.filter.pending());
        }
    }
    let lines: usize = run
        .finish()
        .iter()
        .map(|record| record["log"].as_str().unwrap().lines().count())
        .sum();
    assert_eq!(lines, sent);
}

/// Lines as failures and ordinary programs print them; `#` becomes the line's number, so that each is known again.
const POOL: [&str; 44] = [
    "Traceback (most recent call last):",
    "  File \"/a/b.py\", line #, in f",
    "    x = #",
    "    ^^^^",
    "ValueError: #",
    "KeyboardInterrupt",
    "a.b.CustomError: #:",
    "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: ",
    "============================================================",
    "",
    "   ",
    "During handling of the above exception, another exception occurred:",
    "The above exception was the direct cause of the following exception:",
    "Exception in thread Thread-#:",
    "Process SpawnProcess-#:",
    "2026-01-01 10:00:00,# ERROR a.b: failed #",
    "/a/b.py:#: UserWarning: careful #",
    "  warnings.warn(#",
    "  + Exception Group Traceback (most recent call last):",
    "    | ValueError: #",
    "    +------------------------------------",
    "terminate called after throwing an instance of 'std::runtime_error'",
    "  what():  bad #",
    "Exception raised from f at a.cpp:# (most recent call first):",
    "frame ##: f() + 0x1 (0x2 in a.so)",
    "[E626 06:24:44.905881913 A.cpp:#] b",
    "F1123 18:59:25.797212      41 client.h:#] bad",
    "Fatal Python error: Aborted #",
    "Extension modules: a (total: #)",
    "step # loss 1.0",
    "plain text #",
    "ERROR 04-14 13:53:52 a.py:1] Traceback (most recent call last):",
    "ERROR 04-14 13:53:52 a.py:1]   File \"a.py\", line #",
    "50%|x| 1/2 [00:01<00:01, 1s/it][rank1]: Traceback (most recent call last):",
    "50%|x| 1/2 [00:01<00:01, 1s/it]2026-01-01 10:00:00,# ERROR a.b: failed #",
    "50%|x| 1/2 [00:01<00:01, 1s/it][rank1]:[E626 06:24:44.905881913 A.cpp:#] b",
    "epoch #: Fatal Python error: Aborted",
    "  - further #",
    "[node:47:0:#] Caught signal 11 (Segmentation fault)",
    "==== backtrace (tid: #) ====",
    " 0 0x000# f()",
    "=======================",
    "==#==ERROR: AddressSanitizer: heap-use-after-free",
    "ray::f() (pid=#)",
];

const PREFIXES: [&str; 15] = [
    "",
    "",
    "[rank0]: ",
    "[rank1]: ",
    "0: ",
    "1: [rank1]: ",
    "[default0]:",
    "[1,3]<stderr>:",
    "(W pid=3) ",
    "stderr: ",
    "<3> ",
    "[1,3]<stderr>: ",
    "Sat Nov 28 04:28:34 2026[1,3]<stderr>:",
    "node1: ",
    "node2: ",
];

#[derive(Debug, Clone)]
enum Event {
    Line {
        tag: usize,
        stderr: bool,
        prefix: usize,
        text: usize,
        gap_us: u64,
    },
    Tick {
        gap_ms: u64,
    },
}

fn event() -> impl Strategy<Value = Event> {
    let line = (
        0..2usize,
        any::<bool>(),
        0..PREFIXES.len(),
        0..POOL.len(),
        prop_oneof![Just(50u64), 0..30_000u64],
    )
        .prop_map(|(tag, stderr, prefix, text, gap_us)| Event::Line {
            tag,
            stderr,
            prefix,
            text,
            gap_us,
        });
    prop_oneof![9 => line, 1 => (0..3000u64).prop_map(|gap_ms| Event::Tick { gap_ms })]
}

fn is_blank(line: &str) -> bool {
    line.trim_matches(|c: char| c.is_whitespace()).is_empty()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// The lines of all output records are the input's, and the lines of each key are in their order. (A line of nothing
    /// but its prefix may move: where it belongs can't be known.)
    #[test]
    fn nothing_is_lost_and_order_holds(events in prop::collection::vec(event(), 1..120), held in 1..12usize) {
        let config = Config { max_held_records: held, ..Config::default() };
        let mut run = Run::new(config);
        let mut sent: HashMap<String, usize> = HashMap::new();
        let mut keys: HashMap<String, (usize, (usize, bool, &str))> = HashMap::new();
        for (number, event) in (70_000usize..).zip(&events) {
            match *event {
                Event::Tick { gap_ms } => {
                    run.ts += gap_ms * 1_000_000;
                    run.tick();
                }
                Event::Line { tag, stderr, prefix, text, gap_us } => {
                    run.ts += gap_us * 1000;
                    let prefix = PREFIXES[prefix];
                    let body = POOL[text].replace('#', &number.to_string());
                    let log = format!("{prefix}{body}");
                    if body.contains(&number.to_string()) {
                        keys.insert(log.clone(), (number, (tag, stderr, prefix)));
                    }
                    *sent.entry(log.clone()).or_default() += 1;
                    let stream = if stderr { "stderr" } else { "stdout" };
                    run.record(["a", "b"][tag], &json!({"log": log, "stream": stream}));
                }
            }
        }
        let mut last: BTreeMap<(usize, bool, &str), usize> = BTreeMap::new();
        for record in run.finish() {
            for line in record["log"].as_str().unwrap().split('\n') {
                let left = sent.get_mut(line);
                prop_assert!(left.as_ref().is_some_and(|left| **left > 0), "came from nowhere: {line:?}");
                *left.unwrap() -= 1;
                if let Some((number, key)) = keys.get(line)
                    && !is_blank(line)
                    && let Some(before) = last.insert(*key, *number)
                {
                        prop_assert!(before < *number, "line {number} of {key:?} came behind {before}");
                }
            }
        }
        prop_assert!(sent.values().all(|left| *left == 0), "lost: {:?}", sent.iter().find(|(_, left)| **left > 0));
    }

    /// Whatever comes in, nothing panics, and what comes out is an object where the input was one.
    #[test]
    fn any_bytes_are_survived(records in prop::collection::vec((any::<Vec<u8>>(), any::<u32>()), 1..20)) {
        let mut filter = Filter::new(Config::default());
        for (record, sec) in &records {
            let _ = filter.record(b"t", *sec, 0, record);
        }
        while filter.flush().is_some() {}
    }

    #[test]
    fn any_text_is_survived(
        texts in prop::collection::vec((prop_oneof![
            "\\PC*",
            "(\\[rank[0-9]*\\]:? ?|[0-9 ]*: ?|\\(a pid=[0-9]*\\) )?(Traceback \\(most recent call last\\):|  File \"a\", line 1|[A-Za-z.]*: ?.*)?",
            "[\\[\\]():|0-9a-zA-Z\\\\ \r\n\t\u{1b}%#@=+.-]*",
        ], any::<bool>()), 1..40)
    ) {
        let mut filter = Filter::new(Config::default());
        for (text, partial) in &texts {
            let flag = if *partial { "P" } else { "F" };
            let record = json!({"log": text, "_p": flag, "kubernetes": {"labels": {"job-name": text}}}).to_string();
            if let Output::Record(out) = filter.record(b"t", 1, 0, record.as_bytes()) {
                prop_assert!(serde_json::from_slice::<Value>(out).unwrap().is_object());
            }
        }
        while let Some(out) = filter.flush() {
            prop_assert!(serde_json::from_slice::<Value>(out).unwrap().is_object());
        }
    }
}
