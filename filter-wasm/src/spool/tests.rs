//! The spool alone: what is kept, what is dropped, and bytes that were torn; then the filter on it, killed at any point.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{Config, Filter, Output};

/// A file that outlives its filter, and can stop taking bytes.
#[derive(Debug, Clone, Default)]
struct Disk(Arc<Mutex<Content>>);

#[derive(Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    /// Writes until the process is dead, and how many bytes of the last one arrive.
    dies_in: Option<(usize, usize)>,
    writes: usize,
    fails: bool,
}

impl Disk {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap()
    }

    fn calls(&self) -> Vec<(u64, Vec<u8>)> {
        let recovered = entry::decode(self.content().bytes.clone());
        let call = |entry| match entry {
            Entry::Call(call) => Some((call.number, call.record.to_vec())),
            Entry::Complete(_) => None,
        };
        recovered.entries().filter_map(call).collect()
    }
}

impl Content {
    /// How many of these bytes arrive.
    fn arriving(&mut self, length: usize) -> usize {
        self.writes += 1;
        match &mut self.dies_in {
            None => length,
            Some((0, _)) => 0,
            Some((1, part)) => {
                let arriving = (*part).min(length);
                self.dies_in = Some((0, 0));
                arriving
            }
            Some((left, _)) => {
                *left -= 1;
                length
            }
        }
    }
}

impl SpoolFile for Disk {
    fn read(&mut self, limit: usize) -> Result<Vec<u8>, SpoolError> {
        let content = self.content();
        Ok(content.bytes[..content.bytes.len().min(limit)].to_vec())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        let mut content = self.content();
        if content.fails {
            return Err(SpoolError {
                operation: "append",
                errno: 51,
            });
        }
        let arriving = content.arriving(bytes.len());
        content.bytes.extend_from_slice(&bytes[..arriving]);
        Ok(())
    }

    fn replace(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        let mut content = self.content();
        if content.arriving(bytes.len()) == bytes.len() {
            content.bytes = bytes.to_vec();
        }
        Ok(())
    }
}

fn call(number: u64, record: &[u8]) -> Call<'_> {
    Call {
        number,
        ts: 7,
        tag: b"tag",
        record,
    }
}

fn opened(disk: &Disk, limit: usize) -> Spool {
    let mut spool = Spool::default();
    spool.open(Box::new(disk.clone()), limit);
    spool
}

const ONE: Batch = Batch { tag: 1, tick_ns: 0 };
const OTHER: Batch = Batch { tag: 2, tick_ns: 0 };

proptest! {
    #[test]
    fn live_calls_are_those_inserted_and_not_removed(steps in prop::collection::vec((any::<bool>(), 0..40u64, 1..9usize), 0..120)) {
        let (mut live, mut expected) = (super::Live::default(), std::collections::BTreeMap::new());
        for (inserts, number, bytes) in steps {
            if inserts {
                live.insert(number, bytes);
                expected.insert(number, bytes);
            } else {
                prop_assert_eq!(live.remove(number), expected.remove(&number).is_some());
            }
            for number in 0..40 {
                prop_assert_eq!(live.contains(number), expected.contains_key(&number));
            }
            prop_assert_eq!(live.bytes, expected.values().sum::<usize>());
            prop_assert!(live.calls.len() <= 2 * expected.len());
        }
    }
}

#[test]
fn what_left_is_kept_until_another_batch_begins() {
    let disk = Disk::default();
    let mut spool = opened(&disk, 1 << 20);
    spool.begin_call(ONE);
    spool.keep(&call(1, b"{\"a\":1}"));
    spool.keep(&call(2, b"{\"a\":2}"));
    spool.release(&[1]);
    spool.begin_call(ONE);
    assert_eq!(disk.calls().len(), 2, "the batch may not be stored yet");
    spool.begin_call(OTHER);
    assert_eq!(disk.calls(), [(2, b"{\"a\":2}".to_vec())]);
    spool.release(&[2]);
    spool.begin_call(ONE);
    assert!(disk.content().bytes.is_empty());
}

#[test]
fn the_file_stays_within_its_limit_and_says_when_it_is_full() {
    let (disk, limit) = (Disk::default(), 10_000);
    let mut spool = opened(&disk, limit);
    let record = vec![b'x'; 900];
    for number in 0..200 {
        spool.begin_call(ONE);
        spool.keep(&call(number, &record));
        if number % 2 == 0 {
            spool.release(&[number]);
        }
        assert!(disk.content().bytes.len() <= limit);
    }
    let problem = spool.take_problem().unwrap();
    assert!(problem.contains("spool_bytes (10000) is reached"), "{problem}");
    assert!(!disk.calls().is_empty());
}

#[test]
fn done_calls_are_cleaned_out_of_a_growing_file() {
    let disk = Disk::default();
    let mut spool = opened(&disk, 16 << 20);
    let record = vec![b'x'; 4000];
    spool.keep(&call(0, b"{}"));
    for number in 1..1000 {
        spool.begin_call(ONE);
        spool.keep(&call(number, &record));
        spool.release(&[number]);
        spool.begin_call(OTHER);
    }
    assert_eq!(disk.calls(), [(0, b"{}".to_vec())]);
    assert!(disk.content().bytes.len() < 2 * MIN_REWRITE);
}

#[test]
fn a_file_that_fails_is_reported_and_left_alone() {
    let disk = Disk::default();
    let mut spool = opened(&disk, 1 << 20);
    disk.content().fails = true;
    spool.keep(&call(1, b"{}"));
    spool.keep(&call(2, b"{}"));
    let problem = spool.take_problem().unwrap();
    assert!(problem.contains("cannot append (errno 51)"), "{problem}");
    assert_eq!(spool.take_problem(), None);
}

#[test]
fn torn_bytes_are_skipped_and_whole_entries_found_behind_them() {
    let mut bytes = Vec::new();
    for number in 0..3 {
        entry::encode_entry(&Entry::Call(call(number, b"{\"log\":\"a\"}")), &mut bytes);
    }
    let length = bytes.len() / 3;
    let numbers = |bytes: &[u8]| {
        let recovered = entry::decode(bytes.to_vec());
        let numbers: Vec<u64> = recovered.entries().map(|entry| entry.number()).collect();
        (numbers, recovered.skipped)
    };
    assert_eq!(numbers(&bytes), (vec![0, 1, 2], 0));
    assert_eq!(numbers(&bytes[..bytes.len() - 1]), (vec![0, 1], length - 1));
    let mut broken = bytes.clone();
    broken[length + 20] ^= 1;
    assert_eq!(numbers(&broken), (vec![0, 2], length));
    assert_eq!(numbers(&bytes[3..]), (vec![1, 2], length - 3));
}

/// The agent around the filter, as Fluent Bit is: a batch of one file's lines is filtered, then stored, then noted as read.
struct Agent {
    disk: Disk,
    filter: Filter,
    /// Where each file is read on.
    read: Vec<usize>,
    stored: Vec<Value>,
    deaths: usize,
}

impl Agent {
    fn new(files: usize) -> Self {
        let disk = Disk::default();
        Agent {
            filter: Self::filter(&disk),
            disk,
            read: vec![0; files],
            stored: Vec::new(),
            deaths: 0,
        }
    }

    fn filter(disk: &Disk) -> Filter {
        let mut filter = Filter::new(Config::default());
        filter.recover(Box::new(disk.clone()));
        filter
    }

    fn restart(&mut self) {
        self.disk.content().dies_in = None;
        self.filter = Self::filter(&self.disk);
    }

    fn dead(&self) -> bool {
        matches!(self.disk.content().dies_in, Some((0, _)))
    }

    /// Filters a batch; stores it unless the process dies meanwhile.
    fn batch(&mut self, tag: &str, calls: &[(u64, String)]) -> bool {
        let mut out = Vec::new();
        for (ts, record) in calls {
            let (sec, nsec) = ((ts / 1_000_000_000) as u32, (ts % 1_000_000_000) as u32);
            match self.filter.record(tag.as_bytes(), sec, nsec, record.as_bytes()) {
                Output::Unchanged => out.push(serde_json::from_str(record).unwrap()),
                Output::Record(record) => out.push(serde_json::from_slice(record).unwrap()),
                Output::Nothing => {}
            }
            if self.dead() {
                return false;
            }
        }
        self.stored.extend(out);
        true
    }

    fn tick(&mut self, now: u64) -> bool {
        self.batch("rankline.tick", &[(now, "{\"tick\":true}".to_owned())])
    }

    /// Reads up to `lines` more of a file.
    fn read_on(&mut self, file: usize, content: &[(u64, String)], lines: usize) {
        let from = self.read[file];
        let mut to = (from + lines).min(content.len());
        // A line whose last part comes later than flush_ms would leave in pieces.
        while to > from && to < content.len() && content[to - 1].1.contains("\"_p\":\"P\"") {
            to += 1;
        }
        while !self.batch(["a", "b"][file], &content[from..to]) {
            // It begins with reading again what it had not noted as read.
            self.deaths += 1;
            self.restart();
        }
        self.read[file] = to;
    }
}

const LINES: [&str; 12] = [
    "[rank0]: Traceback (most recent call last):",
    "[rank1]: Traceback (most recent call last):",
    "[rank0]:   File \"/a/b.py\", line #, in f",
    "[rank1]:   File \"/a/b.py\", line #, in f",
    "[rank0]: ValueError: #",
    "[rank1]: ValueError: #",
    "Traceback (most recent call last):",
    "  File \"/a/b.py\", line #, in f",
    "ValueError: #",
    "",
    "step #",
    "/a/b.py:1: UserWarning: #",
];

#[derive(Debug, Clone)]
enum Event {
    Read { file: usize, lines: usize },
    Tick { gap_ms: u64 },
    Dies { writes: usize, part: usize },
    Killed,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..2usize, 1..8usize).prop_map(|(file, lines)| Event::Read { file, lines }),
        2 => (0..2500u64).prop_map(|gap_ms| Event::Tick { gap_ms }),
        1 => (1..6usize, 0..200usize).prop_map(|(writes, part)| Event::Dies { writes, part }),
        1 => Just(Event::Killed),
    ]
}

fn file_of(picks: &[(usize, bool)], start: u64) -> Vec<(u64, String)> {
    let mut content = Vec::new();
    for (number, &(pick, cut)) in picks.iter().enumerate() {
        let ts = start + number as u64 * 10_000_019;
        let text = LINES[pick].replace('#', &(90_000 + number).to_string());
        let at = text.len() / 2;
        let mut push = |ts: u64, text: &str, flag: &str| {
            let record =
                json!({"log": text, "stream": "stderr", "_p": flag, "n": format!("{start}-{number}")});
            content.push((ts, record.to_string()));
        };
        if cut {
            push(ts, &text[..at], "P");
            push(ts + 1, &text[at..], "F");
        } else {
            push(ts, &text, "F");
        }
    }
    content
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whenever the agent dies, also in the middle of a write: every line that it read is in what was stored in the end, and
    /// once only where equal records count as one.
    #[test]
    fn nothing_is_missing_however_often_it_is_killed(
        picks in prop::collection::vec((0..LINES.len(), prop::bool::weighted(0.1)), 1..60),
        events in prop::collection::vec(event(), 1..80),
    ) {
        let start = 1_764_000_000_000_000_123;
        let files = [file_of(&picks, start), file_of(&picks, start + 5_000_000)];
        let mut agent = Agent::new(2);
        let mut now = start;
        for event in events {
            match event {
                Event::Read { file, lines } => agent.read_on(file, &files[file], lines),
                Event::Tick { gap_ms } => {
                    now += gap_ms * 1_000_000;
                    agent.tick(now);
                }
                Event::Dies { writes, part } => agent.disk.content().dies_in = Some((writes, part)),
                Event::Killed => agent.restart(),
            }
            if agent.dead() {
                agent.deaths += 1;
                agent.restart();
            }
        }
        agent.disk.content().dies_in = None;
        for (file, content) in files.iter().enumerate() {
            agent.read_on(file, content, content.len());
        }
        for _ in 0..1000 {
            now += 3_000_000_000;
            agent.tick(now);
        }
        prop_assert_eq!(agent.filter.pending(), 0);
        prop_assert!(agent.disk.content().bytes.is_empty());
        // The store keeps one of equal entries.
        agent.stored.retain(|record| record.get("app").is_none());
        let mut seen: Vec<&Value> = Vec::new();
        for record in &agent.stored {
            if record.get("rankline_ts").is_none() || !seen.contains(&record) {
                seen.push(record);
            }
        }
        let mut lines: HashMap<String, i64> = HashMap::new();
        for file in &files {
            let mut cut = String::new();
            for (_, record) in file {
                let record: Value = serde_json::from_str(record).unwrap();
                cut.push_str(record["log"].as_str().unwrap());
                if record["_p"] == "F" {
                    *lines.entry(std::mem::take(&mut cut)).or_default() += 1;
                }
            }
        }
        for record in seen {
            for line in record["log"].as_str().unwrap().split('\n') {
                *lines.entry(line.to_owned()).or_default() -= 1;
            }
        }
        // Whether a blank line is a record's own hangs on lines that the spool doesn't have: a record that left just before the
        // agent died may come back with one more of them, and so be another one to the store.
        let blanks = picks.iter().any(|&(pick, _)| LINES[pick].is_empty());
        lines.retain(|_, left| *left > 0 || *left < 0 && !blanks);
        prop_assert!(lines.is_empty(), "{} deaths; lost (+) or doubled (-): {lines:?}", agent.deaths);
    }
}
