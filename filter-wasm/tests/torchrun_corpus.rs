//! Every captured run of the corpus through the filter: each failure is one record, each rank the right one, no line is lost.
//!
//! The corpus stands beside the repository (`../shared/corpus/torchrun`); where it isn't, the test says that it was skipped. Its
//! `truth.json` gives the lines of each traceback-like block and who wrote it, `<pod>.ranks.tsv` who wrote each line.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rank_filter::{Config, Filter, Output};
use serde_json::{Value, json};

/// Blocks that are not compared, by scenario and first line.
const NOT_COMPARED: [(&str, u64); 6] = [
    // Torn: a piece of another rank's traceback, without any prefix, comes within the same instant.
    ("all-ranks-before-init-8r", 42),
    // The truth counts a log line of c10d to the traceback that Python writes 16 ms later: these are two writes.
    ("elastic-restart-2n-4r", 87),
    ("elastic-restart-2n-4r", 96),
    ("elastic-restart-2n-4r", 114),
    // The truth cuts one message in two where it quotes the worker's traceback, and counts another process's line to it.
    ("ray-train-2r", 82),
    ("ray-train-2r", 91),
];

/// One line of a container's log.
struct Line {
    ts: u64,
    stream: String,
    text: String,
    partial: bool,
}

/// A container's log, as containerd writes it.
fn cri_lines(path: &Path) -> Vec<Line> {
    let text = String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
    text.split_terminator('\n')
        .map(|line| {
            let mut parts = line.splitn(4, ' ');
            let mut next = || parts.next().unwrap_or_default().to_owned();
            let (time, stream, flag, text) = (next(), next(), next(), next());
            Line {
                ts: nanoseconds(&time),
                stream,
                text,
                partial: flag == "P",
            }
        })
        .collect()
}

/// `2026-11-23T18:38:14.821102257Z` as ns since that month's beginning: enough for distances.
fn nanoseconds(time: &str) -> u64 {
    let number = |from: usize, to: usize| time[from..to].parse::<u64>().unwrap();
    let (days, hours, minutes, seconds) = (number(8, 10), number(11, 13), number(14, 16), number(17, 19));
    let fraction = time[20..].trim_end_matches('Z');
    let ns = format!("{fraction:0<9}").parse::<u64>().unwrap();
    (((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1_000_000_000 + ns
}

/// A record that came out, and the 1-based numbers of its lines.
struct Record {
    value: Value,
    lines: Vec<u64>,
}

/// Runs a log through the filter.
fn filtered(lines: &[Line]) -> Vec<Value> {
    let mut filter = Filter::new(Config::default());
    let mut out: Vec<Value> = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let flag = if line.partial { "P" } else { "F" };
        let record =
            json!({"log": line.text, "stream": line.stream, "logtag": flag, "n": index + 1}).to_string();
        let (sec, nsec) = (line.ts / 1_000_000_000, line.ts % 1_000_000_000);
        match filter.record(b"kube.pod", sec as u32, nsec as u32, record.as_bytes()) {
            Output::Unchanged => out.push(serde_json::from_str(&record).unwrap()),
            Output::Record(record) => out.push(serde_json::from_slice(record).unwrap()),
            Output::Nothing => {}
        }
        while let Some(record) = filter.ready() {
            out.push(serde_json::from_slice(record).unwrap());
        }
    }
    while let Some(record) = filter.flush() {
        out.push(serde_json::from_slice(record).unwrap());
    }
    out
}

/// Of a redrawn bar the last state.
fn last_redraw(text: &str) -> &str {
    text.rsplit('\r').find(|part| !part.is_empty()).unwrap_or("")
}

/// Finds each output line among the input's: the first of equal ones behind the line before it. Fails when one is left over.
fn traced(lines: &[Line], out: Vec<Value>) -> Vec<Record> {
    let mut places: HashMap<(&str, String), Vec<u64>> = HashMap::new();
    let mut cut: HashMap<&str, (u64, String)> = HashMap::new();
    for (number, line) in (1u64..).zip(lines) {
        let (_, part) = cut.entry(&line.stream).or_insert((number, String::new()));
        part.push_str(&line.text);
        if !line.partial {
            let (begin, whole) = cut.remove(line.stream.as_str()).unwrap();
            let place = (line.stream.as_str(), last_redraw(&whole).to_owned());
            places.entry(place).or_default().push(begin);
        }
    }
    // What a process wrote last need not end with a newline.
    for (stream, (begin, part)) in cut {
        let place = (stream, last_redraw(&part).to_owned());
        places.entry(place).or_default().push(begin);
    }
    let mut records: Vec<Record> = Vec::new();
    for value in out {
        let stream = value["stream"].as_str().unwrap();
        let mut before = value["n"].as_u64().unwrap() - 1;
        let mut found = Vec::new();
        for text in value["log"].as_str().unwrap().split('\n') {
            let free = lines
                .iter()
                .find(|line| line.stream == stream)
                .and_then(|line| places.get_mut(&(line.stream.as_str(), last_redraw(text).to_owned())))
                .unwrap_or_else(|| panic!("{text:?} is no input line"));
            let at = free
                .iter()
                .position(|&place| place > before)
                .unwrap_or_else(|| panic!("{text:?} came twice, or out of order"));
            before = free.remove(at);
            found.push(before);
        }
        records.push(Record { value, lines: found });
    }
    let left: Vec<_> = places.iter().filter(|(_, free)| !free.is_empty()).collect();
    assert!(left.is_empty(), "lost: {left:?}");
    records
}

/// Who wrote each line, where one process alone did and it has a rank; `L` is the launcher.
fn writers(path: &Path) -> HashMap<u64, String> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut writers = HashMap::new();
    for row in text.lines().skip(1) {
        let mut cells = row.split('\t');
        let mut number = || cells.next().unwrap().parse::<u64>().unwrap();
        let (first, last) = (number(), number());
        let who = cells.next().unwrap();
        if who.parse::<u32>().is_ok() || who == "L" {
            writers.extend((first..=last).map(|line| (line, who.to_owned())));
        }
    }
    writers
}

/// What is wrong with the records of one file.
fn problems(scenario: &str, file: &Value, folder: &Path) -> (usize, Vec<String>) {
    let lines = cri_lines(&folder.join(file["path"].as_str().unwrap()));
    let records = traced(&lines, filtered(&lines));
    let writers = writers(&folder.join(file["ranks_tsv"].as_str().unwrap()));
    let record_of: HashMap<u64, usize> = (0..)
        .zip(&records)
        .flat_map(|(index, record)| record.lines.iter().map(move |&line| (line, index)))
        .collect();
    let mut wrong = Vec::new();
    let mut checked = 0;
    for block in file["blocks"].as_array().unwrap() {
        let ranges: Vec<(u64, u64)> = serde_json::from_value(block["lines"].clone()).unwrap();
        let first = ranges[0].0;
        if block["shares_a_line_with_others"] == true || NOT_COMPARED.contains(&(scenario, first)) {
            continue;
        }
        checked += 1;
        let want: Vec<u64> = ranges
            .iter()
            .flat_map(|&(from, to)| from..=to)
            .filter(|line| record_of.contains_key(line))
            .collect();
        let record = &records[record_of[&first]];
        let missing: Vec<_> = want.iter().filter(|line| !record.lines.contains(line)).collect();
        let extra: Vec<_> = record
            .lines
            .iter()
            .filter(|line| !want.contains(line) && !lines[**line as usize - 1].text.trim().is_empty())
            .collect();
        if !missing.is_empty() || !extra.is_empty() {
            wrong.push(format!(
                "{scenario}: {} of lines {first}..={} ({}): missing {missing:?}, extra {extra:?}",
                block["kind"],
                ranges[ranges.len() - 1].1,
                block["rank"]
            ));
        }
    }
    for record in &records {
        let Some(rank) = record.value["rank"].as_str() else {
            continue;
        };
        for line in &record.lines {
            if writers.get(line).is_some_and(|writer| writer != rank) {
                wrong.push(format!(
                    "{scenario}: line {line} is of {}, not of rank {rank}",
                    writers[line]
                ));
            }
        }
    }
    (checked, wrong)
}

#[test]
fn each_failure_of_the_captured_runs_is_one_record_of_the_right_rank() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus/torchrun");
    if !folder.is_dir() {
        eprintln!("skipped: the captured runs are not at {}", folder.display());
        return;
    }
    let mut scenarios: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("truth.json").is_file())
        .collect();
    scenarios.sort();
    let (mut blocks, mut wrong) = (0, Vec::new());
    for scenario in &scenarios {
        let name = scenario.file_name().unwrap().to_str().unwrap();
        let truth: Value =
            serde_json::from_slice(&std::fs::read(scenario.join("truth.json")).unwrap()).unwrap();
        for file in truth["files"].as_array().unwrap() {
            let (checked, found) = problems(name, file, scenario);
            blocks += checked;
            wrong.extend(found);
        }
    }
    eprintln!(
        "{} scenarios, {blocks} blocks, {} problems",
        scenarios.len(),
        wrong.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
