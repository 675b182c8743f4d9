//! The filter on records of any form: foreign members leave with the bytes they came with, and what isn't understood goes on.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use rank_filter::{Config, Filter, Output};
use rankline_fuzz::bounded;
use serde_json::Value;

#[derive(Debug, Arbitrary)]
enum Input<'a> {
    /// Records as they stand, and a configuration.
    Raw { config: &'a str, records: Vec<&'a [u8]> },
    /// Valid records.
    Records { config: u8, records: Vec<Record> },
}

#[derive(Debug, Arbitrary)]
struct Record {
    space: u8,
    log: Option<(u8, String)>,
    members: Vec<(Name, Json)>,
    tick: bool,
}

#[derive(Debug, Arbitrary)]
enum Name {
    Own(u8),
    Any(String),
}

#[derive(Debug, Arbitrary)]
enum Json {
    Null,
    Bool(bool),
    Number(i64, Option<u16>, Option<i8>),
    Text(String, u8),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

const NAMES: [&str; 10] = [
    "stream",
    "kubernetes",
    "_p",
    "logtag",
    "rank",
    "level",
    "rankline_ts",
    "message",
    "time",
    "log",
];
const CONFIGS: [&str; 5] = [
    "",
    "strip_prefix = true",
    "merge = false\ncollapse_bars = false",
    "task_is_rank = true\nprocs_per_node = 8\nnode_rank = 1\njob = \"j\"",
    "prefix_patterns = ['w(?P<rank>[0-9]+)> ']\nstart_patterns = ['BEGIN']\ncontinue_patterns = [' ']\nmax_record_bytes = 200",
];
const LINES: [&str; 10] = [
    "Traceback (most recent call last):",
    "  File \"a.py\", line 1, in f",
    "ValueError: x",
    "[rank3]: Traceback (most recent call last):",
    "[rank3]: KeyError: 'a'",
    "BEGIN here",
    " goes on",
    "w7> hello",
    "\r 10%|#| 1/2\r 50%|##| 2/2",
    "3: step 7 loss 2.5",
];

fuzz_target!(|input: Input<'_>| bounded(|| match input {
    Input::Raw { config, records } => {
        let mut filter = Filter::new(Config::parse(config).0);
        for (sec, record) in (1..).zip(records) {
            let _ = filter.record(b"t", sec, 0, record);
        }
        while filter.flush().is_some() {}
    }
    Input::Records { config, records } => valid(CONFIGS[usize::from(config) % CONFIGS.len()], &records),
}));

fn valid(config: &str, records: &[Record]) {
    let mut filter = Filter::new(Config::parse(config).0);
    let written: Vec<(String, Vec<String>)> =
        (0..).zip(records).map(|(id, record)| record.write(id)).collect();
    for ((sec, record), (text, _)) in (1..).zip(records).zip(&written) {
        if record.tick {
            if let Some(out) = filter.tick(u64::from(sec) * 1_000_000_000) {
                check(out, &written);
            }
            continue;
        }
        match filter.record(b"t", sec, 0, text.as_bytes()) {
            Output::Unchanged | Output::Nothing => {}
            Output::Record(out) => check(out, &written),
        }
    }
    while let Some(out) = filter.flush() {
        check(out, &written);
    }
}

/// One object, with all foreign members of the record that it was, byte by byte and in their order.
fn check(out: &[u8], written: &[(String, Vec<String>)]) {
    let text = std::str::from_utf8(out).expect("UTF-8 came in");
    let value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let id = value["id"].as_u64().expect("it is a record that came in") as usize;
    let mut rest = text;
    for member in &written[id].1 {
        let at = rest
            .find(member.as_str())
            .unwrap_or_else(|| panic!("{member} is missing: {text} was {}", written[id].0));
        rest = &rest[at + member.len()..];
    }
}

impl Record {
    /// The record, and its members beside the line and what says that it goes on.
    fn write(&self, id: usize) -> (String, Vec<String>) {
        let space = ["", " ", "\n", "\t "][usize::from(self.space) % 4];
        let mut members = Vec::new();
        for (name, json) in self.members.iter().take(8) {
            let name = match name {
                Name::Own(n) => NAMES[usize::from(*n) % NAMES.len()].to_owned(),
                Name::Any(text) => format!("x{text}"),
            };
            let mut value = String::new();
            json.write(&mut value, 0);
            members.push(format!("{}{space}:{space}{value}", Value::from(name)));
        }
        let mut all = vec![format!("\"id\":{id}")];
        all.extend(members.iter().cloned());
        if let Some((n, text)) = &self.log {
            let log = if text.is_empty() {
                LINES[usize::from(*n) % LINES.len()]
            } else {
                text
            };
            let at = usize::from(*n) % all.len();
            all.insert(at + 1, format!("\"log\":{}", Value::from(log)));
        }
        let foreign = |member: &String| {
            !["\"log\"", "\"message\"", "\"_p\"", "\"logtag\""]
                .iter()
                .any(|name| member.starts_with(name))
        };
        let text = format!(
            "{space}{{{space}{}{space}}}{space}",
            all.join(&format!("{space},{space}"))
        );
        (text, members.into_iter().filter(foreign).collect())
    }
}

impl Json {
    fn write(&self, out: &mut String, depth: usize) {
        match self {
            _ if depth > 20 => out.push('0'),
            Json::Null => out.push_str("null"),
            Json::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Json::Number(whole, part, exponent) => {
                out.push_str(&whole.to_string());
                part.iter().for_each(|part| out.push_str(&format!(".{part}0")));
                exponent
                    .iter()
                    .for_each(|exponent| out.push_str(&format!("E{exponent:+}")));
            }
            Json::Text(text, n) => {
                let escape = ["", "\\u00e9", "\\/", "\\ud83d\\ude00", "\\\\", "\\\""][usize::from(*n) % 6];
                let quoted = Value::from(text.as_str()).to_string();
                out.push_str(&format!("{}{escape}\"", &quoted[..quoted.len() - 1]));
            }
            Json::List(items) => {
                out.push('[');
                for (n, item) in items.iter().take(6).enumerate() {
                    out.push_str(if n > 0 { ", " } else { "" });
                    item.write(out, depth + 1);
                }
                out.push(']');
            }
            Json::Object(members) => {
                out.push('{');
                for (n, (name, value)) in members.iter().take(6).enumerate() {
                    out.push_str(if n > 0 { " ," } else { "" });
                    out.push_str(&format!("{}: ", Value::from(name.as_str())));
                    value.write(out, depth + 1);
                }
                out.push('}');
            }
        }
    }
}
