//! Query results as Loki's JSON, in the key order that Grafana's reader needs: `resultType`, `encodingFlags`,
//! `result`, `stats`.
//!
//! Knows the shapes of answers, not how they came to be.

use crate::query::{LogRow, QueryStats};
use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use rankline_logql::{Labels, MetricValue, labels_text};
use std::io::Write;
use std::time::Instant;

/// Header with the list of encodings that a client asks for.
pub const FLAGS_HEADER: &str = "X-Loki-Response-Encoding-Flags";
const CATEGORIZE: &str = "categorize-labels";

/// The encodings that a request asked for, as sent; unknown ones are only echoed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct EncodingFlags(Vec<String>);

impl EncodingFlags {
    /// From a request's headers.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let text = headers
            .get(FLAGS_HEADER)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("");
        Self(
            text.split(',')
                .map(str::trim)
                .filter(|flag| !flag.is_empty())
                .map(str::to_owned)
                .collect(),
        )
    }

    /// Whether structured metadata and parsed labels are kept apart from the stream's labels.
    pub fn categorize(&self) -> bool {
        self.0.iter().any(|flag| flag == CATEGORIZE)
    }

    fn write(&self, out: &mut Vec<u8>) {
        if self.0.is_empty() {
            return;
        }
        out.extend_from_slice(b"\"encodingFlags\":");
        list(out, &self.0, |out, flag| string(out, flag));
        out.push(b',');
    }

    /// As the last key of an object that already has others.
    pub fn write_last(&self, out: &mut Vec<u8>) {
        if self.0.is_empty() {
            return;
        }
        out.extend_from_slice(b",\"encodingFlags\":");
        list(out, &self.0, |out, flag| string(out, flag));
    }
}

/// A JSON answer with status 200.
pub fn json_response(body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::OK;
    let kind = HeaderValue::from_static("application/json; charset=UTF-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// Answer to a log query. Streams are sorted by their labels, entries keep their order.
pub fn log_answer(rows: &[LogRow], flags: &EncodingFlags, stats: &ShownStats) -> Vec<u8> {
    let begun = Instant::now();
    let bytes = rows.iter().map(|row| row.line.len() + 48).sum::<usize>();
    let mut out = Vec::with_capacity(bytes + bytes / 8 + 2048);
    out.extend_from_slice(b"{\"status\":\"success\",\"data\":{\"resultType\":\"streams\",");
    flags.write(&mut out);
    out.extend_from_slice(b"\"result\":");
    let streams = group(rows, flags.categorize());
    list(&mut out, &streams, |out, (labels, rows)| {
        out.extend_from_slice(b"{\"stream\":");
        pairs(out, labels.iter());
        out.extend_from_slice(b",\"values\":");
        list(out, rows, |out, row| entry(out, row, flags.categorize()));
        out.push(b'}');
    });
    finish(out, stats, begun)
}

/// Rows grouped by the label set they are shown under.
pub fn group(rows: &[LogRow], categorize: bool) -> Vec<(Labels, Vec<&LogRow>)> {
    let mut shown: foldhash::HashMap<(usize, usize, usize), usize> = foldhash::HashMap::default();
    let mut places: foldhash::HashMap<Labels, usize> = foldhash::HashMap::default();
    let mut groups: Vec<(Labels, Vec<&LogRow>)> = Vec::new();
    for row in rows {
        let key = match categorize {
            true => (row.stream.address(), 0, 0),
            false => (row.stream.address(), row.metadata.address(), row.parsed.address()),
        };
        let place = *shown.entry(key).or_insert_with(|| {
            let labels = shown_labels(row, categorize);
            *places.entry(labels).or_insert_with_key(|labels| {
                groups.push((labels.clone(), Vec::new()));
                groups.len() - 1
            })
        });
        groups[place].1.push(row);
    }
    groups.sort_by_cached_key(|(labels, _)| labels_text(labels.iter()));
    groups
}

/// The label set a row is shown under.
pub fn shown_labels(row: &LogRow, categorize: bool) -> Labels {
    match categorize {
        true => row.stream.clone(),
        false => Labels::merged(&row.stream, &row.metadata, &row.parsed),
    }
}

/// One value of a stream: `["ns","line"]`, with a third item when labels are categorised.
pub fn entry(out: &mut Vec<u8>, row: &LogRow, categorize: bool) {
    out.extend_from_slice(b"[\"");
    number(out, row.ts);
    out.extend_from_slice(b"\",");
    string(out, &row.line);
    if categorize {
        out.extend_from_slice(b",{");
        if !row.metadata.is_empty() {
            out.extend_from_slice(b"\"structuredMetadata\":");
            pairs(out, row.metadata.iter());
        }
        if !row.parsed.is_empty() {
            out.extend_from_slice(if row.metadata.is_empty() {
                b"\"parsed\":"
            } else {
                b",\"parsed\":"
            });
            pairs(out, row.parsed.iter());
        }
        out.push(b'}');
    }
    out.push(b']');
}

/// Answer to a metric query. `time` (ns) stamps the samples of an instant one.
/// Encoding flags say nothing about samples, so they are not echoed here.
pub fn metric_answer(value: &MetricValue, time: i64, stats: &ShownStats, warnings: &[String]) -> Vec<u8> {
    let begun = Instant::now();
    let mut out = Vec::with_capacity(4096);
    out.extend_from_slice(b"{\"status\":\"success\",");
    if !warnings.is_empty() {
        out.extend_from_slice(b"\"warnings\":");
        list(&mut out, warnings, |out, warning| string(out, warning));
        out.push(b',');
    }
    let kind = match value {
        MetricValue::Scalar(_) => "scalar",
        MetricValue::Vector(_) => "vector",
        MetricValue::Matrix(_) => "matrix",
    };
    let _ = write!(out, "\"data\":{{\"resultType\":\"{kind}\",");
    out.extend_from_slice(b"\"result\":");
    let time_ms = time.div_euclid(1_000_000);
    match value {
        MetricValue::Scalar(value) => sample(&mut out, time_ms, *value),
        MetricValue::Vector(samples) => list(&mut out, samples, |out, one| {
            metric(out, &one.labels);
            out.extend_from_slice(b",\"value\":");
            sample(out, time_ms, one.value);
            out.push(b'}');
        }),
        MetricValue::Matrix(series) => list(&mut out, series, |out, one| {
            metric(out, &one.labels);
            out.extend_from_slice(b",\"values\":");
            list(out, &one.points, |out, (time_ms, value)| {
                sample(out, *time_ms, *value)
            });
            out.push(b'}');
        }),
    }
    finish(out, stats, begun)
}

fn metric(out: &mut Vec<u8>, labels: &Labels) {
    out.extend_from_slice(b"{\"metric\":");
    pairs(out, labels.iter());
}

/// The work of a query, and how much of it the client wants to know.
#[derive(Debug, Default, Clone, Copy)]
pub struct ShownStats {
    /// The work.
    pub work: QueryStats,
    /// Whether a member `rankline` beside Loki's says what Loki has no words for.
    pub explain: bool,
}

fn finish(mut out: Vec<u8>, stats: &ShownStats, begun: Instant) -> Vec<u8> {
    let mut stats = *stats;
    stats.work.times.encode = begun.elapsed();
    stats_tail(&mut out, &stats);
    out.extend_from_slice(b"}}");
    out
}

/// `stats` as the last key of an object that already has others.
pub fn stats_tail(out: &mut Vec<u8>, stats: &ShownStats) {
    out.extend_from_slice(b",\"stats\":");
    let mut object = stats_object(&stats.work);
    if stats.explain {
        object["rankline"] = explained(&stats.work);
    }
    out.extend_from_slice(object.to_string().as_bytes());
}

/// What a query took, in Rankline's own words. Times are in seconds.
fn explained(work: &QueryStats) -> serde_json::Value {
    let (skipped, store, times) = (&work.skipped, &work.store, &work.times);
    serde_json::json!({
        "segments": {"considered": work.segments, "skippedByStreams": work.segments_skipped},
        "blocks": {
            "read": work.blocks, "inMemory": work.blocks_in_memory, "skippedByTime": skipped.by_time,
            "skippedByStreams": skipped.by_streams, "skippedByLimit": skipped.by_limit,
            "skippedByTemplates": skipped.by_templates, "skippedByRows": skipped.by_rows,
        },
        "lines": {
            "considered": work.lines, "bytesConsidered": work.line_bytes, "putTogether": work.lines_built,
            "passed": work.post_filter_lines, "duplicates": work.duplicates, "returned": work.entries_returned,
        },
        "store": {
            "lists": store.lists, "gets": store.gets, "bytes": store.bytes, "columnBytes": work.compressed_bytes,
            "rangesFromMemory": store.from_memory, "rangesFromDisk": store.from_disk,
        },
        "seconds": {
            "total": work.exec_time.as_secs_f64(), "plan": times.plan.as_secs_f64(), "fetch": times.fetch.as_secs_f64(),
            "scan": times.scan.as_secs_f64(), "merge": times.merge.as_secs_f64(), "encode": times.encode.as_secs_f64(),
        },
    })
}

/// `{"a":"b",…}`
pub fn pairs<'a>(out: &mut Vec<u8>, pairs: impl Iterator<Item = (&'a str, &'a str)>) {
    out.push(b'{');
    for (at, (name, value)) in pairs.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        string(out, name);
        out.push(b':');
        string(out, value);
    }
    out.push(b'}');
}

/// `[…]`
pub fn list<T>(out: &mut Vec<u8>, items: &[T], mut write: impl FnMut(&mut Vec<u8>, &T)) {
    out.push(b'[');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

/// A JSON string.
pub fn string(out: &mut Vec<u8>, text: &str) {
    // Writing to memory cannot fail.
    let _ = serde_json::to_writer(out, text);
}

fn number(out: &mut Vec<u8>, value: i64) {
    let _ = write!(out, "{value}");
}

/// `[seconds,"value"]`: seconds with up to three decimals, the value without an exponent.
pub fn sample(out: &mut Vec<u8>, time_ms: i64, value: f64) {
    out.push(b'[');
    seconds(out, time_ms);
    out.extend_from_slice(b",\"");
    let _ = match value {
        value if value == f64::INFINITY => out.write_all(b"+Inf"),
        value if value == f64::NEG_INFINITY => out.write_all(b"-Inf"),
        value => write!(out, "{value}"),
    };
    out.extend_from_slice(b"\"]");
}

fn seconds(out: &mut Vec<u8>, ms: i64) {
    let sign = if ms < 0 { "-" } else { "" };
    let (whole, fraction) = (ms.unsigned_abs() / 1000, ms.unsigned_abs() % 1000);
    let _ = write!(out, "{sign}{whole}");
    if fraction > 0 {
        let digits = format!("{fraction:03}");
        let _ = write!(out, ".{}", digits.trim_end_matches('0'));
    }
}

/// The `stats` object with all of Loki's keys. What has no counterpart here (chunks in an ingester's memory,
/// frontend caches) stays 0.
fn stats_object(stats: &QueryStats) -> serde_json::Value {
    use serde_json::json;
    let seconds = stats.exec_time.as_secs_f64();
    let referenced = stats.blocks + stats.skipped.referenced();
    let rate = |count: u64| {
        if seconds > 0.0 {
            (count as f64 / seconds) as u64
        } else {
            0
        }
    };
    let chunk = |bytes: u64, lines: u64, metadata: u64, compressed: u64, duplicates: u64, passed: u64| {
        json!({
            "headChunkBytes": 0, "headChunkLines": 0, "headChunkStructuredMetadataBytes": 0,
            "decompressedBytes": bytes, "decompressedLines": lines, "decompressedStructuredMetadataBytes": metadata,
            "compressedBytes": compressed, "totalDuplicates": duplicates, "postFilterLines": passed,
        })
    };
    let store = |references: u64, read: u64, chunk: serde_json::Value| {
        json!({
            "totalChunksRef": references, "totalChunksDownloaded": read, "chunksDownloadTime": 0,
            "queryReferencedStructuredMetadata": false, "queryUsedV2Engine": false, "chunkRefsFetchTime": 0,
            "congestionControlLatency": 0, "pipelineWrapperFilteredLines": 0, "chunk": chunk,
        })
    };
    let read = chunk(
        stats.line_bytes,
        stats.lines,
        stats.metadata_bytes,
        stats.compressed_bytes,
        stats.duplicates,
        stats.post_filter_lines,
    );
    let caches = [
        "chunk",
        "index",
        "result",
        "statsResult",
        "volumeResult",
        "seriesResult",
        "labelResult",
    ];
    let cache = json!({
        "entriesFound": 0, "entriesRequested": 0, "entriesStored": 0, "bytesReceived": 0, "bytesSent": 0,
        "requests": 0, "downloadTime": 0, "queryLengthServed": 0,
    });
    let caches = caches
        .iter()
        .chain(&["instantMetricResult", "logResult", "taskResult"]);
    let caches: serde_json::Map<_, _> = caches.map(|name| ((*name).to_owned(), cache.clone())).collect();
    json!({
        "summary": {
            "bytesProcessedPerSecond": rate(stats.line_bytes), "linesProcessedPerSecond": rate(stats.lines),
            "totalBytesProcessed": stats.line_bytes, "totalLinesProcessed": stats.lines,
            "execTime": seconds, "queueTime": stats.queue_time.as_secs_f64(), "subqueries": 0,
            "totalEntriesReturned": stats.entries_returned, "splits": 0, "shards": 0,
            "totalPostFilterLines": stats.post_filter_lines,
            "totalStructuredMetadataBytesProcessed": stats.metadata_bytes,
        },
        "querier": {
            "store": store(referenced, stats.blocks, read), "querierExecTime": seconds,
        },
        "ingester": {
            "totalReached": 0, "totalChunksMatched": 0, "totalBatches": 0, "totalLinesSent": 0,
            "store": store(0, 0, chunk(0, 0, 0, 0, 0, 0)),
        },
        "cache": caches,
        "index": {
            "totalChunks": referenced, "postFilterChunks": stats.blocks,
            "shardsDuration": 0, "usedBloomFilters": false, "totalStreams": 0, "chunkRefsLookupTime": 0,
            "bloomFilterTime": 0,
        },
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rankline_logql::{Sample, Series};

    fn set(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_sorted(pairs.iter().copied())
    }

    fn rows() -> Vec<LogRow> {
        let row = |ts, line: &str, metadata: Labels, parsed: Labels| LogRow {
            ts,
            line: line.into(),
            stream: set(&[("app", "web")]),
            metadata,
            parsed,
        };
        vec![
            row(
                1_700_000_000_000_000_002,
                "a=\"1\"\n<\u{2028}>",
                set(&[("level", "info")]),
                set(&[("a", "1")]),
            ),
            row(
                1_700_000_000_000_000_001,
                "plain",
                Labels::default(),
                Labels::default(),
            ),
        ]
    }

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn labels_are_merged_unless_they_are_categorised() {
        let body = text(log_answer(
            &rows(),
            &EncodingFlags::default(),
            &ShownStats::default(),
        ));
        let json: serde_json::Value = serde_json::from_str(&body).unwrap();
        let result = &json["data"]["result"];
        assert_eq!(
            result[0]["stream"],
            serde_json::json!({"a": "1", "app": "web", "level": "info"})
        );
        assert_eq!(
            result[0]["values"],
            serde_json::json!([["1700000000000000002", "a=\"1\"\n<\u{2028}>"]])
        );
        assert_eq!(result[1]["stream"], serde_json::json!({"app": "web"}));
        assert!(json["data"].get("encodingFlags").is_none());
    }

    #[test]
    fn categorised_values_have_a_third_item_and_flags_stand_before_the_result() {
        let mut headers = HeaderMap::new();
        headers.insert(FLAGS_HEADER, HeaderValue::from_static("categorize-labels, other"));
        let flags = EncodingFlags::from_headers(&headers);
        let body = text(log_answer(&rows(), &flags, &ShownStats::default()));
        let places: Vec<_> = ["resultType", "encodingFlags", "\"result\"", "\"stats\""]
            .map(|key| body.find(key).unwrap())
            .to_vec();
        assert!(places.is_sorted(), "{places:?}");
        let json: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            json["data"]["encodingFlags"],
            serde_json::json!(["categorize-labels", "other"])
        );
        let values = &json["data"]["result"][0]["values"];
        let third = serde_json::json!({"structuredMetadata": {"level": "info"}, "parsed": {"a": "1"}});
        assert_eq!((&values[0][2], &values[1][2]), (&third, &serde_json::json!({})));
    }

    #[test]
    fn stats_have_lokis_members_and_ours_only_when_asked() {
        let stats = |explain| {
            let mut work = QueryStats {
                blocks: 2,
                segments: 3,
                ..QueryStats::default()
            };
            work.skipped.by_time = 5;
            work.skipped.by_limit = 7;
            let body = text(log_answer(
                &rows(),
                &EncodingFlags::default(),
                &ShownStats { work, explain },
            ));
            let json: serde_json::Value = serde_json::from_str(&body).unwrap();
            json["data"]["stats"].clone()
        };
        let (plain, explained) = (stats(false), stats(true));
        let names: Vec<_> = plain.as_object().unwrap().keys().collect();
        assert_eq!(names, ["summary", "querier", "ingester", "cache", "index"]);
        // As Loki counts them: chunks of the time and streams.
        assert_eq!(plain["index"]["totalChunks"], 9);
        let ours = &explained["rankline"];
        assert_eq!(ours["segments"]["considered"], 3);
        assert_eq!(
            (
                &ours["blocks"]["skippedByTime"],
                &ours["blocks"]["skippedByLimit"]
            ),
            (&5.into(), &7.into())
        );
        assert!(ours["seconds"]["encode"].as_f64().unwrap() > 0.0);
        let mut without = explained.clone();
        without.as_object_mut().unwrap().remove("rankline");
        assert_eq!(without, plain);
    }

    #[test]
    fn numbers_are_spelled_as_prometheus_clients_read_them() {
        let spelled = |ms, value| {
            let mut out = Vec::new();
            sample(&mut out, ms, value);
            text(out)
        };
        assert_eq!(spelled(1_700_000_000_000, 3.0), "[1700000000,\"3\"]");
        assert_eq!(spelled(1_700_000_000_050, 2.5), "[1700000000.05,\"2.5\"]");
        assert_eq!(spelled(-1_500, 1e21), "[-1.5,\"1000000000000000000000\"]");
        assert_eq!(spelled(0, f64::NAN), "[0,\"NaN\"]");
        assert_eq!(spelled(0, f64::INFINITY), "[0,\"+Inf\"]");
        assert_eq!(spelled(0, f64::NEG_INFINITY), "[0,\"-Inf\"]");
    }

    #[test]
    fn every_kind_of_metric_answer_is_json() {
        let labels = Labels::from_pairs([("job", "a\"b")]);
        let values = [
            (MetricValue::Scalar(2.0), "scalar"),
            (
                MetricValue::Vector(vec![Sample {
                    labels: labels.clone(),
                    value: 1.0,
                }]),
                "vector",
            ),
            (
                MetricValue::Matrix(vec![Series {
                    labels,
                    points: vec![(1000, 1.0), (2000, 2.0)],
                }]),
                "matrix",
            ),
            (MetricValue::Vector(Vec::new()), "vector"),
        ];
        for (value, kind) in values {
            let warnings = ["partial".to_owned()];
            let body = metric_answer(&value, 5_000_000_000, &ShownStats::default(), &warnings);
            let json: serde_json::Value = serde_json::from_str(&text(body)).unwrap();
            assert_eq!(json["data"]["resultType"], kind);
            assert_eq!(json["warnings"][0], "partial");
            assert!(json["data"]["stats"]["summary"]["totalBytesProcessed"].is_number());
        }
    }
}
