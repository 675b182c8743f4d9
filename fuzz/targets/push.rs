//! Loki's push formats: the first byte picks form, media type and encoding; the body is what a client sent, or is compressed here.
#![no_main]

use std::io::Write as _;

use flate2::Compression;
use libfuzzer_sys::fuzz_target;
use rankline::config::Config;
use rankline::ingest::decode::{Body, JsonForm, loki};
use rankline::ingest::validate::Rules;
use rankline_fuzz::bounded;

const LIMIT: usize = 1 << 20;
const NOW: i64 = 1_700_000_000_000_000_000;

fuzz_target!(|data: &[u8]| bounded(|| {
    let Some((&mode, body)) = data.split_first() else {
        return;
    };
    let form = if mode & 1 == 0 {
        JsonForm::Values
    } else {
        JsonForm::Entries
    };
    let content_type = if mode & 2 == 0 {
        "application/json; charset=utf-8"
    } else {
        "application/x-protobuf"
    };
    let (encoding, mut bytes) = match mode >> 2 & 7 {
        0 => (None, body.to_vec()),
        1 => (Some("gzip"), body.to_vec()),
        2 => (Some("deflate"), body.to_vec()),
        3 => (Some("gzip"), gzip(body)),
        4 => (Some("deflate"), deflate(body)),
        // Bombs: a body that is small as sent and beyond the limit as meant.
        5 => (Some("gzip"), gzip(&body.repeat(2 * LIMIT / body.len().max(1)))),
        6 => (
            Some("deflate"),
            deflate(&body.repeat(2 * LIMIT / body.len().max(1))),
        ),
        _ => (Some("snappy"), body.to_vec()),
    };
    if mode & 2 != 0 && mode & 32 != 0 {
        bytes = snap::raw::Encoder::new()
            .compress_vec(&bytes)
            .expect("it is small");
    }
    let body = Body {
        content_type: Some(content_type),
        content_encoding: encoding,
        bytes: bytes.into(),
        max_decoded_bytes: LIMIT,
    };
    let Ok(streams) = loki(&body, form) else {
        return;
    };
    let entries: usize = streams.iter().map(|stream| stream.entries.len()).sum();
    let rules = Rules::from(&Config::for_tests(rankline::config::StoreUrl::Memory));
    let (kept, refusals) = rules.apply(streams, NOW);
    let stored: usize = kept.iter().map(|stream| stream.entries.len()).sum();
    let refused: u64 = refusals.counts().iter().map(|(_, count)| count).sum();
    assert!(
        stored as u64 + refused >= entries as u64,
        "{stored} stored and {refused} refused of {entries}"
    );
    for entry in kept.iter().flat_map(|stream| &stream.entries) {
        assert!(
            entry.metadata.is_sorted_by(|a, b| a.0 < b.0),
            "{:?}",
            entry.metadata
        );
    }
}));

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}
