//! The module on a real folder, its host killed with -9 again and again: every line is there in the end, and there once.
//!
//! The test starts itself as the agent: batches of calls are filtered, then stored together with how far the input was read.
//! Needs `dist/rank_filter.wasm` (`make wasm`); without it the test says so and passes.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rankline_filter_host::Host;
use serde_json::{Value, json};

/// Tells the test that it is the agent, and in which folder.
const AGENT: &str = "RANKLINE_TEST_AGENT_FOLDER";
const LINES: usize = 4_000;
const START: u64 = 1_764_000_000;

/// Eight ranks that fail again and again, between lines that are nobody's failure.
fn input() -> Vec<(u64, String)> {
    let shapes = [
        "[rank#]: Traceback (most recent call last):",
        "[rank#]:   File \"/w/train.py\", line @, in main",
        "[rank#]: ValueError: @",
        "[rank#]: step @",
    ];
    let line = |number: usize| {
        let shape = shapes[number / 8 % 4];
        let text = shape.replace('#', &(number % 8).to_string());
        let ts = number as u64 * 10_000_019;
        (ts, text.replace('@', &number.to_string()))
    };
    (0..LINES).map(line).collect()
}

fn module() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dist/rank_filter.wasm")
}

/// Whole batches that were stored, and how far the input had been read by then.
fn stored(folder: &Path) -> (Vec<Value>, usize) {
    let text = std::fs::read_to_string(folder.join("stored.jsonl")).unwrap_or_default();
    let (mut records, mut batch, mut read) = (Vec::new(), Vec::new(), 0);
    for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let value: Value = serde_json::from_str(line).unwrap_or_default();
        match value.get("read").and_then(Value::as_u64) {
            Some(to) => {
                read = usize::try_from(to).unwrap();
                records.append(&mut batch);
            }
            None if value.is_object() => batch.push(value),
            None => batch.clear(), // torn by a death
        }
    }
    (records, read)
}

/// Reads on where an earlier agent got to, until the end of the input and of what is held.
fn be_the_agent(folder: &Path) {
    let mut host = Host::with_folder(&std::fs::read(module()).unwrap(), &folder.join("spool")).unwrap();
    let mut out = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("stored.jsonl"))
        .unwrap();
    out.write_all(b"\n").unwrap(); // ends a line that a death tore
    let (_, mut read) = stored(folder);
    let input = input();
    let mut quiet = 0;
    for round in 0.. {
        let mut batch = String::new();
        let mut call = |tag: &str, ts: u64, record: &str| {
            let (sec, nsec) = (START + ts / 1_000_000_000, ts % 1_000_000_000);
            let (sec, nsec) = (u32::try_from(sec).unwrap(), u32::try_from(nsec).unwrap());
            let answer = host.call(tag.as_bytes(), sec, nsec, record.as_bytes()).unwrap();
            if let Some(record) = answer {
                writeln!(batch, "{}", String::from_utf8_lossy(record)).unwrap();
            }
            answer.is_some()
        };
        if round % 5 == 4 || read == LINES {
            let left = call("rankline.tick", round * 1_000_000_000, "{\"tick\":true}");
            quiet = if left || read < LINES { 0 } else { quiet + 1 };
        } else {
            let to = (read + 7).min(LINES);
            for (ts, text) in &input[read..to] {
                call(
                    "train",
                    *ts,
                    &json!({"log": text, "stream": "stderr"}).to_string(),
                );
            }
            read = to;
        }
        writeln!(batch, "{{\"read\":{read}}}").unwrap();
        out.write_all(batch.as_bytes()).unwrap();
        if quiet > 5 {
            return;
        }
    }
}

#[test]
#[allow(clippy::disallowed_methods)] // the agent is to be killed at no particular point, so there is nothing to wait for
fn a_host_killed_at_any_time_loses_nothing() {
    if let Some(folder) = std::env::var_os(AGENT) {
        be_the_agent(Path::new(&folder));
        return;
    }
    if !module().is_file() {
        eprintln!("skipped: no dist/rank_filter.wasm; build it with `make wasm`");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("spool")).unwrap();
    let start = || {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_host_killed_at_any_time_loses_nothing"])
            .env(AGENT, folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    };
    let mut kills = 0;
    let mut held_at_a_kill = 0;
    while kills < 25 {
        let before = stored(folder.path()).1;
        let mut agent = start();
        // Not before it has read something, and then at no particular point.
        while stored(folder.path()).1 == before && agent.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(2));
        }
        std::thread::sleep(Duration::from_micros(kills * 977 % 5_000));
        agent.kill().unwrap();
        let ended = agent.wait().unwrap();
        kills += 1;
        held_at_a_kill += u64::from(
            std::fs::metadata(folder.path().join("spool/rank_filter.spool")).is_ok_and(|file| file.len() > 0),
        );
        if ended.success() {
            break;
        }
    }
    assert!(start().wait().unwrap().success());
    assert!(
        held_at_a_kill > 3,
        "only {held_at_a_kill} of {kills} kills found anything held"
    );

    let (mut records, read) = stored(folder.path());
    assert_eq!(read, LINES);
    // The store keeps one of equal entries.
    let mut seen = std::collections::HashSet::new();
    records.retain(|record| record.get("rankline_ts").is_none() || seen.insert(record.to_string()));
    let mut left: HashMap<&str, i64> = HashMap::new();
    let input = input();
    for (_, text) in &input {
        *left.entry(text).or_default() += 1;
    }
    for line in records
        .iter()
        .flat_map(|record| record["log"].as_str().unwrap().split('\n'))
    {
        *left.get_mut(line).unwrap() -= 1;
    }
    left.retain(|_, count| *count != 0);
    assert!(
        left.is_empty(),
        "after {kills} kills lost (+) or doubled (-): {left:?}"
    );
    eprintln!(
        "{kills} kills, {held_at_a_kill} of them while lines were held; {} records",
        records.len()
    );
}
