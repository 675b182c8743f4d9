//! Which lines are one record: texts as real programs print them, in `cases/*.txt`, one case after the other.
//!
//! ```text
//! # title of a case
//! > first line of a record
//! | a further line of it
//! ! exception that the record must name
//! - 2            blank lines behind the record: whose they are doesn't matter
//! ~ 5            milliseconds until the next record (default 50)
//! ```
//!
//! Lines of a record come 50 µs apart, as those of one write do. Every case is also run behind the prefixes of launchers, and
//! all of them at once, interleaved line by line.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::RngSeed;
use rank_filter::{Config, Filter, Output};
use serde_json::{Value, json};

/// Lines that belong together, and what the filter must say of them.
#[derive(Debug, Clone, Default)]
struct Record {
    lines: Vec<String>,
    exception: Option<String>,
    blanks: usize,
    pause_ms: u64,
}

#[derive(Debug, Clone)]
struct Case {
    title: String,
    records: Vec<Record>,
}

fn read_cases(file: &str, text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let (mark, rest) = line.split_at(line.len().min(1));
        let rest = rest.strip_prefix(' ').unwrap_or(rest);
        if mark == "#" {
            let title = format!("{file}: {rest}");
            cases.push(Case {
                title,
                records: Vec::new(),
            });
            continue;
        }
        let Some(case) = cases.last_mut() else { continue };
        let last = case.records.last_mut();
        match (mark, last) {
            (">", _) => case.records.push(Record {
                lines: vec![rest.replace("\\e", "\x1b")],
                pause_ms: 50,
                ..Record::default()
            }),
            ("|", Some(record)) => record.lines.push(rest.replace("\\e", "\x1b")),
            ("!", Some(record)) => record.exception = Some(rest.to_owned()),
            ("~", Some(record)) => record.pause_ms = rest.trim().parse().unwrap(),
            ("", _) => {}
            ("-", Some(record)) => record.blanks = rest.trim().parse().unwrap(),
            _ => panic!("{file} line {number}: unknown mark {mark:?}"),
        }
    }
    cases
}

fn cases() -> Vec<Case> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    paths.sort();
    let read = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        read_cases(name, &std::fs::read_to_string(path).unwrap())
    };
    paths.iter().flat_map(read).collect()
}

/// A filter, its clock, and what came out.
struct Run {
    filter: Filter,
    ts: u64,
    out: Vec<Value>,
}

impl Run {
    fn new() -> Self {
        Run {
            filter: Filter::new(Config::default()),
            ts: 1_764_000_000_000_000_000,
            out: Vec::new(),
        }
    }

    fn line(&mut self, text: &str) {
        let record = json!({"log": text, "stream": "stderr"}).to_string();
        let (sec, nsec) = (self.ts / 1_000_000_000, self.ts % 1_000_000_000);
        match self
            .filter
            .record(b"t", sec as u32, nsec as u32, record.as_bytes())
        {
            Output::Unchanged => self.out.push(serde_json::from_str(&record).unwrap()),
            Output::Record(record) => self.out.push(serde_json::from_slice(record).unwrap()),
            Output::Nothing => {}
        }
        self.ts += 50_000;
    }

    fn record(&mut self, record: &Record, prefix: &str) {
        for line in &record.lines {
            self.line(&format!("{prefix}{line}"));
        }
        for _ in 0..record.blanks {
            self.line(prefix);
        }
        self.ts += record.pause_ms * 1_000_000;
    }

    fn finish(mut self) -> Vec<Value> {
        while let Some(record) = self.filter.flush() {
            self.out.push(serde_json::from_slice(record).unwrap());
        }
        self.out
    }
}

/// The text up to its last line that has more than the prefix.
fn without_blanks<'a>(text: &'a str, prefix: &str) -> &'a str {
    let mut text = text;
    loop {
        let last = text.rsplit('\n').next().unwrap_or(text);
        let blank = last.trim().is_empty() || last.trim() == prefix.trim();
        if !blank || text.is_empty() {
            return text;
        }
        text = text[..text.len() - last.len()].trim_end_matches('\n');
    }
}

/// What is wrong with what came out of a case, if anything.
fn difference(case: &Case, prefix: &str, out: &[Value]) -> Option<String> {
    let out: Vec<(&str, &Value)> = out
        .iter()
        .map(|record| (without_blanks(record["log"].as_str().unwrap(), prefix), record))
        .filter(|(text, _)| !text.is_empty())
        .collect();
    let got: Vec<&str> = out.iter().map(|(text, _)| *text).collect();
    let want: Vec<String> = case
        .records
        .iter()
        .map(|record| {
            let lines: Vec<String> = record
                .lines
                .iter()
                .map(|line| format!("{prefix}{line}"))
                .collect();
            lines.join("\n")
        })
        .collect();
    // Records of different keys may overtake each other.
    let missing = want.iter().position(|text| !got.contains(&text.as_str()));
    let besides = got.iter().find(|text| !want.iter().any(|want| want == *text));
    if missing.is_some() || besides.is_some() || want.len() != got.len() {
        return Some(format!(
            "== {} behind {prefix:?}, record {missing:?}\n-- expected\n{}\n-- came\n{}",
            case.title,
            missing
                .and_then(|at| want.get(at))
                .map_or("(as many as came)", |text| text),
            besides.unwrap_or(&"(nothing besides)")
        ));
    }
    case.records.iter().zip(want).find_map(|(record, want)| {
        let (_, value) = out.iter().find(|(text, _)| *text == want)?;
        let wrong = record.exception.is_some() && value["exception"].as_str() != record.exception.as_deref();
        wrong.then(|| {
            format!(
                "== {}: exception {:?}, not {}",
                case.title, record.exception, value["exception"]
            )
        })
    })
}

#[test]
fn each_case_comes_out_as_its_records() {
    let cases = cases();
    assert!(cases.len() > 100, "the cases are gone: {}", cases.len());
    let mut wrong = Vec::new();
    for prefix in [
        "",
        "[1,3]<stderr>:",
        "[default3]:",
        "(TrainWorker pid=77, ip=10.0.0.7) ",
    ] {
        for case in &cases {
            let mut run = Run::new();
            for record in &case.records {
                run.record(record, prefix);
            }
            wrong.extend(difference(case, prefix, &run.finish()));
        }
    }
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong.join("\n\n"));
}

/// The case's text reads as one rank's own output: nothing else tells its blank and its free lines from another's. What begins
/// with a chain's sentence would go on with any traceback before it.
fn stands_alone(record: &Record) -> bool {
    let first = record.lines[0].trim();
    !first.is_empty() && !first.ends_with("following exception:") && !first.ends_with("exception occurred:")
}

/// The records that have the first or the last of the lines.
fn near(got: &BTreeMap<String, usize>, lines: &[String]) -> String {
    let has = |text: &&String| {
        [lines.first(), lines.last()]
            .into_iter()
            .flatten()
            .any(|line| text.contains(line))
    };
    got.keys()
        .filter(has)
        .map(|text| format!("{text}\n--\n"))
        .collect()
}

proptest! {
    // The seed is fixed: what other seeds find becomes a rule and a case, not a red run of somebody else's change. Known are reports
    // that begin as the one before them goes on (`Fatal Python error` behind libc++'s `terminating`).
    #![proptest_config(ProptestConfig {
        cases: 60,
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Ranks print whole records, and their lines meet in one stream in any order: exactly these records come back.
    #[test]
    fn interleaved_ranks_come_out_whole(
        picks in prop::collection::vec(prop::collection::vec(any::<Index>(), 1..5), 2..9),
        order in prop::collection::vec(any::<Index>(), 400),
        style in 0..4usize,
    ) {
        let fits = |record: &Record| {
            record.lines.len() < 60 && stands_alone(record) && (style < 3 || record.lines[0].starts_with("Traceback "))
        };
        let pool: Vec<Record> = cases().into_iter().flat_map(|case| case.records).filter(fits).collect();
        let prefix = |rank: usize| match style {
            0 => format!("[1,{rank}]<stderr>:"),
            1 => format!("[default{rank}]:"),
            2 => format!("{rank}: "),
            // What torch puts before every line of an uncaught exception, behind a launcher's own.
            _ => format!("{rank}: [rank{rank}]: "),
        };
        let chosen: Vec<Vec<&Record>> = picks.iter().map(|rank| rank.iter().map(|pick| pick.get(&pool)).collect()).collect();
        let mut left: Vec<Vec<(usize, String)>> = chosen
            .iter()
            .enumerate()
            .map(|(rank, records)| {
                let lines = |(number, record): (usize, &&Record)| {
                    record.lines.iter().map(|line| (number, format!("{}{line}", prefix(rank)))).collect::<Vec<_>>()
                };
                let mut lines: Vec<_> = records.iter().enumerate().flat_map(lines).collect();
                lines.reverse();
                lines
            })
            .collect();
        let mut run = Run::new();
        let mut last = vec![(0, 0u64); left.len()];
        let mut step = 0;
        while left.iter().any(|lines| !lines.is_empty()) {
            // A rank's next record comes later than its last line; lines of one record follow each other at once.
            let pauses = |rank: usize| {
                let next = left[rank].last().map(|(number, _)| *number);
                next.is_some_and(|number| number != last[rank].0) && run.ts < last[rank].1 + 50_000_000
            };
            let ready: Vec<usize> =
                (0..left.len()).filter(|&rank| !left[rank].is_empty() && !pauses(rank)).collect();
            if ready.is_empty() {
                run.ts += 50_000_000;
                continue;
            }
            let rank = ready[order[step % order.len()].index(ready.len())];
            step += 1;
            let (number, line) = left[rank].pop().unwrap();
            run.line(&line);
            // Eight ranks' lines in the time of one's: the lines of one write stay as near as they do alone.
            run.ts -= 45_000;
            last[rank] = (number, run.ts);
        }
        let mut got: BTreeMap<String, usize> = BTreeMap::new();
        for value in run.finish() {
            *got.entry(value["log"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        for (rank, records) in chosen.iter().enumerate() {
            for record in records {
                let lines: Vec<String> = record.lines.iter().map(|line| format!("{}{line}", prefix(rank))).collect();
                let text = lines.join("\n");
                let count = got.get_mut(&text);
                prop_assert!(count.as_ref().is_some_and(|count| **count > 0), "did not come whole:\n{text}\n-- came\n{}", near(&got, &lines));
                *count.unwrap() -= 1;
            }
        }
        prop_assert!(got.values().all(|count| *count == 0), "came besides: {:?}", got.iter().find(|(_, count)| **count > 0));
    }
}
