//! Push requests to streams and entries, as collectors send them: JSON plain and gzipped, protobuf under snappy.
//! `cargo bench -p rankline`.
#![allow(missing_docs, clippy::unwrap_used)]

use bytes::Bytes;
use divan::Bencher;
use divan::counter::BytesCount;
use rankline::ingest::decode::{Body, JsonForm, loki};
use std::io::Write;

fn main() {
    divan::main();
}

const STREAMS: usize = 64;
const LINES: usize = 150;

fn line(stream: usize, n: usize) -> String {
    let noise = (stream * 7919 + n * 104_729) % 1_000_003;
    format!(
        "[rank{stream}]: step {n:>6} | loss {}.{noise:04} | \"lr\" 1.0e-04",
        noise % 9
    )
}

fn ns(stream: usize, n: usize) -> i64 {
    1_763_900_000_000_000_000 + (n as i64) * 250_000_000 + stream as i64 * 977
}

/// Bytes of all lines: what throughput is told in.
fn line_bytes() -> BytesCount {
    let lines = (0..STREAMS).flat_map(|stream| (0..LINES).map(move |n| line(stream, n).len()));
    BytesCount::new(lines.sum::<usize>())
}

fn json() -> Vec<u8> {
    let stream = |stream: usize| {
        let value = |n| serde_json::json!([ns(stream, n).to_string(), line(stream, n)]);
        let values: Vec<_> = (0..LINES).map(value).collect();
        serde_json::json!({"stream": {"job": "llama", "rank": stream.to_string()}, "values": values})
    };
    let streams: Vec<_> = (0..STREAMS).map(stream).collect();
    serde_json::json!({ "streams": streams }).to_string().into_bytes()
}

/// A length-delimited field.
fn field(number: u8, content: &[u8], out: &mut Vec<u8>) {
    out.push(number << 3 | 2);
    varint(content.len() as u64, out);
    out.extend_from_slice(content);
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn protobuf() -> Vec<u8> {
    let mut request = Vec::new();
    for rank in 0..STREAMS {
        let mut stream = Vec::new();
        field(
            1,
            format!(r#"{{job="llama", rank="{rank}"}}"#).as_bytes(),
            &mut stream,
        );
        for n in 0..LINES {
            let (mut time, mut entry, at) = (vec![1 << 3], Vec::new(), ns(rank, n) as u64);
            varint(at / 1_000_000_000, &mut time);
            time.push(2 << 3);
            varint(at % 1_000_000_000, &mut time);
            field(1, &time, &mut entry);
            field(2, line(rank, n).as_bytes(), &mut entry);
            field(2, &entry, &mut stream);
        }
        field(1, &stream, &mut request);
    }
    request
}

fn decode(bencher: Bencher<'_, '_>, content_type: &str, content_encoding: Option<&str>, bytes: Vec<u8>) {
    let body = Body {
        content_type: Some(content_type),
        content_encoding,
        bytes: Bytes::from(bytes),
        max_decoded_bytes: 64 << 20,
    };
    let entries = |body: &Body<'_>| -> usize {
        let streams = loki(body, JsonForm::Values).unwrap();
        streams.iter().map(|stream| stream.entries.len()).sum()
    };
    assert_eq!(entries(&body), STREAMS * LINES);
    bencher.counter(line_bytes()).bench_local(|| entries(&body));
}

#[divan::bench]
fn decode_json(bencher: Bencher<'_, '_>) {
    decode(bencher, "application/json", None, json());
}

#[divan::bench]
fn decode_json_gzip(bencher: Bencher<'_, '_>) {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&json()).unwrap();
    decode(
        bencher,
        "application/json",
        Some("gzip"),
        packed.finish().unwrap(),
    );
}

#[divan::bench]
fn decode_snappy_protobuf(bencher: Bencher<'_, '_>) {
    let packed = snap::raw::Encoder::new().compress_vec(&protobuf()).unwrap();
    decode(bencher, "application/x-protobuf", None, packed);
}
