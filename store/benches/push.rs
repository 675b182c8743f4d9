//! What a push costs before its entries are in a batch: reading the request, and Loki's changes to what is in it.
#![allow(clippy::unwrap_used, missing_docs)]

use bytes::Bytes;
use divan::{Bencher, counter::BytesCount};
use prost::Message;
use rankline::config::{Config, ConfigFlags};
use rankline::entry::StreamEntries;
use rankline::ingest::decode::{Body, JsonForm, loki};
use rankline::ingest::validate::Rules;

fn main() {
    divan::main();
}

const STREAMS: i64 = 512;
/// Lines of one stream in a request: of 27,000 streams that 354 requests of a day of training logs have, 13.
const LINES: i64 = 13;
const START: i64 = 1_763_900_000;

fn line(rank: i64, step: i64) -> String {
    let noise = (rank * 7919 + step * 104_729) % 1_000_003;
    match step % 3 {
        0 => format!(
            "[rank{rank}]: step {step:>6} | loss {}.{:04} | grad norm 1.{noise}",
            noise % 9,
            noise % 9973
        ),
        1 => format!(
            "node-{}:{}:{noise} [{}] NCCL INFO Channel {:02}/16 : {rank}[{}] -> {}[{}] via P2P/CUMEM/read",
            rank / 8,
            4000 + rank,
            rank % 8,
            step % 16,
            rank % 8,
            noise % 64,
            noise % 8
        ),
        _ => format!(
            ":::MLLOG {{\"namespace\": \"\", \"time_ms\": {START}{noise:06}, \"event_type\": \"POINT_IN_TIME\", \"key\": \
             \"tracked_stats\", \"value\": {{\"throughput\": {noise}.5}}, \"metadata\": {{\"file\": \"train.py\", \"lineno\": 213}}}}"
        ),
    }
}

fn lines() -> impl Iterator<Item = (i64, Vec<String>)> {
    (0..STREAMS).map(|rank| (rank, (0..LINES).map(|step| line(rank, step)).collect()))
}

fn line_bytes() -> BytesCount {
    BytesCount::new(
        lines()
            .flat_map(|(_, lines)| lines)
            .map(|line| line.len())
            .sum::<usize>(),
    )
}

#[derive(Message)]
struct PushRequest {
    #[prost(message, repeated, tag = "1")]
    streams: Vec<Stream>,
}

#[derive(Message)]
struct Stream {
    #[prost(string, tag = "1")]
    labels: String,
    #[prost(message, repeated, tag = "2")]
    entries: Vec<Entry>,
}

#[derive(Message)]
struct Entry {
    #[prost(message, optional, tag = "1")]
    timestamp: Option<Timestamp>,
    #[prost(string, tag = "2")]
    line: String,
}

#[derive(Message)]
struct Timestamp {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

fn protobuf() -> Bytes {
    let entry = |(number, line): (usize, String)| Entry {
        timestamp: Some(Timestamp {
            seconds: START,
            nanos: number as i32 * 1000,
        }),
        line,
    };
    let stream = |(rank, lines): (i64, Vec<String>)| Stream {
        labels: format!(
            r#"{{job="llama", namespace="training", node="node-{}", rank="{rank}"}}"#,
            rank / 8
        ),
        entries: lines.into_iter().enumerate().map(entry).collect(),
    };
    let request = PushRequest {
        streams: lines().map(stream).collect(),
    };
    snap::raw::Encoder::new()
        .compress_vec(&request.encode_to_vec())
        .unwrap()
        .into()
}

fn json() -> Bytes {
    let stream = |(rank, lines): (i64, Vec<String>)| {
        let values: Vec<_> = lines
            .into_iter()
            .enumerate()
            .map(|(number, line)| serde_json::json!([format!("{START}{:09}", number * 1000), line]))
            .collect();
        let labels = serde_json::json!({
            "job": "llama", "namespace": "training", "node": format!("node-{}", rank / 8), "rank": rank.to_string(),
        });
        serde_json::json!({"stream": labels, "values": values})
    };
    let streams: Vec<_> = lines().map(stream).collect();
    serde_json::json!({ "streams": streams }).to_string().into()
}

/// Content type, and what makes a body of it.
type Format = (&'static str, fn() -> Bytes);

const BODIES: [Format; 2] = [("application/x-protobuf", protobuf), ("application/json", json)];

fn body(content_type: &'static str, bytes: &Bytes) -> Body<'static> {
    Body {
        content_type: Some(content_type),
        content_encoding: None,
        bytes: bytes.clone(),
        max_decoded_bytes: 64 << 20,
    }
}

#[divan::bench(args = ["protobuf", "json"])]
fn decode(bencher: Bencher, format: &str) {
    let (content_type, bytes) = BODIES[usize::from(format == "json")];
    let bytes = bytes();
    bencher
        .counter(line_bytes())
        .bench(|| loki(&body(content_type, &bytes), JsonForm::Values).unwrap());
}

#[divan::bench]
fn apply_rules(bencher: Bencher) {
    let rules = Rules::from(&Config::load(ConfigFlags::default(), [], None).unwrap());
    let bytes = protobuf();
    let streams =
        || -> Vec<StreamEntries> { loki(&body("application/x-protobuf", &bytes), JsonForm::Values).unwrap() };
    bencher
        .counter(line_bytes())
        .with_inputs(streams)
        .bench_values(|streams| rules.apply(streams, START * 1_000_000_000));
}
