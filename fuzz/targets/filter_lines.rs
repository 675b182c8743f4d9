//! The filter on lines of several writers, cut, mixed and timed in any way: nothing is lost, nothing comes from nowhere,
//! each writer's lines stay in their order, and every record that leaves is one JSON object.
#![no_main]

use std::collections::HashMap;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use rank_filter::{Config, Filter, Output};
use rankline_fuzz::bounded;
use serde_json::{Value, json};

#[derive(Debug, Arbitrary)]
struct Input {
    held_records: u8,
    record_lines: u8,
    small_bytes: bool,
    few_tags: bool,
    events: Vec<Event>,
}

#[derive(Debug, Arbitrary)]
enum Event {
    Line {
        writer: Writer,
        gap_us: u16,
        text: Text,
    },
    /// A part of a line that the container runtime cut.
    Part {
        writer: Writer,
        text: String,
    },
    Tick {
        ms: u16,
    },
}

#[derive(Debug, Arbitrary)]
struct Writer {
    other_tag: bool,
    stdout: bool,
    prefix: u8,
}

#[derive(Debug, Arbitrary)]
enum Text {
    Known(u8),
    Any(String),
    Merged(u8, String),
}

const PREFIXES: [&str; 8] = [
    "",
    "",
    "[rank0]: ",
    "[rank1]: ",
    "0: ",
    "1: [rank1]: ",
    "[default0]:",
    "(W pid=3) ",
];

/// Lines as failures and programs print them; `#` becomes the line's number.
const KNOWN: [&str; 32] = [
    "Traceback (most recent call last):",
    "  File \"/a/b.py\", line #, in f",
    "    x = #",
    "    ^^^^",
    "ValueError: #",
    "KeyboardInterrupt",
    "a.b.CustomError: #:",
    "============================================================",
    "",
    "   ",
    "During handling of the above exception, another exception occurred:",
    "Exception in thread Thread-#:",
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
    "Fatal Python error: Aborted #",
    "thread 'main' panicked at src/main.rs:#:5:",
    "panic: runtime error #",
    "goroutine # [running]:",
    "java.lang.IllegalStateException: #",
    "\tat a.B.c(B.java:#)",
    "Caused by: a.B: #",
    "step # loss 1.0",
    "plain text #",
];

struct Run {
    filter: Filter,
    out: Vec<Value>,
    now: u64,
}

impl Run {
    fn keep(out: &mut Vec<Value>, record: &[u8]) {
        assert!(!record.contains(&0), "a NUL ends what Fluent Bit reads");
        let value: Value = serde_json::from_slice(record).expect("what leaves is JSON");
        assert!(value["log"].is_string(), "{value}");
        out.push(value);
    }

    fn record(&mut self, tag: &[u8], record: &Value) {
        let text = record.to_string();
        let (sec, nsec) = (
            (self.now / 1_000_000_000) as u32,
            (self.now % 1_000_000_000) as u32,
        );
        match self.filter.record(tag, sec, nsec, text.as_bytes()) {
            Output::Unchanged => self.out.push(record.clone()),
            Output::Record(record) => Self::keep(&mut self.out, record),
            Output::Nothing => {}
        }
    }

    fn finish(&mut self) {
        while let Some(record) = self.filter.flush() {
            Self::keep(&mut self.out, record);
        }
        assert_eq!(self.filter.pending(), 0);
    }
}

fuzz_target!(|input: Input| bounded(|| {
    let defaults = Config::default();
    let config = Config {
        max_held_records: usize::from(input.held_records % 16),
        max_record_lines: u32::from(input.record_lines) + 1,
        max_held_bytes: if input.small_bytes {
            900
        } else {
            defaults.max_held_bytes
        },
        max_line_bytes: if input.small_bytes {
            40
        } else {
            defaults.max_line_bytes
        },
        max_tags: if input.few_tags { 1 } else { defaults.max_tags },
        ..defaults
    };
    let mut run = Run {
        filter: Filter::new(config),
        out: Vec::new(),
        now: 1_764_000_000_000_000_000,
    };
    let (mut sent, mut keys) = (Vec::new(), HashMap::new());
    for (number, event) in (70_000u32..).zip(&input.events) {
        match event {
            Event::Tick { ms } => {
                run.now += u64::from(*ms) * 1_000_000;
                if let Some(record) = run.filter.tick(run.now) {
                    Run::keep(&mut run.out, record);
                }
            }
            Event::Line { writer, gap_us, text } => {
                run.now += u64::from(*gap_us) * 1000;
                let prefix = PREFIXES[usize::from(writer.prefix) % PREFIXES.len()];
                let log = format!("{prefix}{}", text.of(number));
                if matches!(text, Text::Known(_)) && log.contains(&number.to_string()) {
                    keys.insert(log.clone(), (number, (writer.other_tag, writer.stdout, prefix)));
                }
                run.record(writer.tag(), &json!({"log": log, "stream": writer.stream()}));
                sent.push(log);
            }
            Event::Part { writer, text } => {
                let log = text.replace('\r', "");
                run.record(
                    writer.tag(),
                    &json!({"log": log, "stream": writer.stream(), "_p": "P"}),
                );
                sent.push(log);
            }
        }
    }
    run.finish();
    check(
        &run.out,
        &sent,
        &keys,
        input
            .events
            .iter()
            .any(|event| matches!(event, Event::Part { .. })),
    );
}));

/// What left is what came. Where lines came in parts it depends on the bounds how they are joined, so then only their letters count.
fn check<'a>(
    out: &'a [Value],
    sent: &'a [String],
    keys: &HashMap<String, (u32, (bool, bool, &str))>,
    parts: bool,
) {
    let logs = || out.iter().filter_map(|record| record["log"].as_str());
    let letters = |text: &str, counts: &mut HashMap<char, i64>, one: i64| {
        text.chars()
            .filter(|c| *c != '\n')
            .for_each(|c| *counts.entry(c).or_default() += one);
    };
    let mut counts = HashMap::new();
    sent.iter().for_each(|log| letters(log, &mut counts, 1));
    logs().for_each(|log| letters(log, &mut counts, -1));
    assert!(
        counts.values().all(|count| *count == 0),
        "lost, or from nowhere: {counts:?}"
    );
    if parts {
        return;
    }
    let mut lines: HashMap<&str, i64> = HashMap::new();
    let mut count = |log: &'a str, one: i64| {
        let log = log.strip_suffix('\n').unwrap_or(log);
        log.split('\n')
            .for_each(|line| *lines.entry(line).or_default() += one);
    };
    sent.iter().for_each(|log| count(log, 1));
    logs().for_each(|log| count(log, -1));
    let wrong: Vec<_> = lines.iter().filter(|(_, count)| **count != 0).collect();
    assert!(wrong.is_empty(), "lost, or from nowhere: {wrong:?}");
    let mut last = HashMap::new();
    for (number, key) in logs()
        .flat_map(|log| log.split('\n'))
        .filter_map(|line| keys.get(line))
    {
        if let Some(before) = last.insert(*key, *number) {
            assert!(before < *number, "line {number} of {key:?} came behind {before}");
        }
    }
}

impl Writer {
    fn tag(&self) -> &'static [u8] {
        if self.other_tag { b"b" } else { b"a" }
    }

    fn stream(&self) -> &'static str {
        if self.stdout { "stdout" } else { "stderr" }
    }
}

impl Text {
    /// Without carriage returns: redraws of a bar are reduced to their last.
    fn of(&self, number: u32) -> String {
        let known = |n: u8| KNOWN[usize::from(n) % KNOWN.len()].replace('#', &number.to_string());
        match self {
            Text::Known(n) => known(*n),
            Text::Any(text) => text.replace('\r', ""),
            Text::Merged(n, text) => format!("{}\n{}", known(*n), text.replace('\r', "")),
        }
    }
}
