//! OTLP logs, protobuf and JSON: the first byte picks media type and encoding.
#![no_main]

use std::io::Write as _;

use libfuzzer_sys::fuzz_target;
use rankline::ingest::decode::{Body, otlp};
use rankline_fuzz::bounded;

const LIMIT: usize = 1 << 20;
const NOW: i64 = 1_700_000_000_000_000_000;

fuzz_target!(|data: &[u8]| bounded(|| {
    let Some((&mode, body)) = data.split_first() else {
        return;
    };
    let content_type = if mode & 1 == 0 {
        "application/json"
    } else {
        "application/x-protobuf"
    };
    let (encoding, bytes) = match mode >> 1 & 7 {
        0..=3 => (None, body.to_vec()),
        4 => (Some("gzip"), body.to_vec()),
        5 => (Some("zstd"), body.to_vec()),
        6 => (Some("lz4"), body.to_vec()),
        // A bomb.
        _ => (Some("gzip"), gzip(&body.repeat(2 * LIMIT / body.len().max(1)))),
    };
    let body = Body {
        content_type: Some(content_type),
        content_encoding: encoding,
        bytes: bytes.into(),
        max_decoded_bytes: LIMIT,
    };
    let Ok(streams) = otlp(&body, NOW) else {
        return;
    };
    for stream in &streams {
        assert!(
            stream.labels.iter().is_sorted_by(|a, b| a.0 < b.0),
            "{}",
            stream.labels
        );
    }
}));

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}
