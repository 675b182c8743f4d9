#![allow(clippy::unwrap_used)]

use std::io::Write as _;

use super::*;
use crate::entry::Entry;

const JSON: Option<&str> = Some("application/json");
const PROTO: Option<&str> = Some("application/x-protobuf");

fn body(
    content_type: Option<&'static str>,
    content_encoding: Option<&'static str>,
    bytes: impl Into<Bytes>,
) -> Body<'static> {
    Body {
        content_type,
        content_encoding,
        bytes: bytes.into(),
        max_decoded_bytes: 1 << 20,
    }
}

fn read(body: &Body<'_>) -> Result<Vec<StreamEntries>, DecodeError> {
    loki(body, JsonForm::Values)
}

fn lines(streams: &[StreamEntries]) -> Vec<(i64, String)> {
    streams
        .iter()
        .flat_map(|s| &s.entries)
        .map(|e: &Entry| (e.ts, e.line.to_string()))
        .collect()
}

const PUSH: &str = r#"{"streams":[{"values":[["1","one"],null,["2","tw\u006f\n",{"k":"v"},"more"]],"stream":{"app":"x","n":7,"b":true},"other":[{}]}],"x":1} trailing"#;

#[test]
fn values_are_read() {
    let streams = read(&body(Some("application/json; charset=utf-8"), None, PUSH)).unwrap();
    assert_eq!(streams[0].labels.to_string(), r#"{app="x", b="true", n="7"}"#);
    assert_eq!(lines(&streams), [(1, "one".to_owned()), (2, "two\n".to_owned())]);
    assert_eq!(*streams[0].entries[1].metadata, [("k".into(), "v".into())]);
}

#[test]
fn legacy_entries_are_read() {
    let text = r#"{"streams":[{"labels":"{job=\"a\"}","entries":[{"ts":"2026-01-05T05:01:20.5Z","line":"x","structuredMetadata":[{"name":"k","value":"v"}]}]}]}"#;
    let streams = loki(&body(JSON, None, text), JsonForm::Entries).unwrap();
    assert_eq!(lines(&streams), [(1_767_589_280_500_000_000, "x".to_owned())]);
    assert_eq!(*streams[0].entries[0].metadata, [("k".into(), "v".into())]);
}

#[test]
fn every_compression_gives_the_same() {
    let plain = read(&body(JSON, None, PUSH)).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(PUSH.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    let mut raw = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    raw.write_all(PUSH.as_bytes()).unwrap();
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    zlib.write_all(PUSH.as_bytes()).unwrap();
    assert_eq!(read(&body(JSON, Some("gzip"), gzip.clone())).unwrap(), plain);
    assert_eq!(
        read(&body(JSON, Some("deflate"), raw.finish().unwrap())).unwrap(),
        plain
    );
    assert_eq!(
        read(&body(JSON, Some("deflate"), zlib.finish().unwrap())).unwrap(),
        plain
    );
    assert!(read(&body(JSON, Some("gzip"), gzip[..gzip.len() / 2].to_vec())).is_err());
    assert_eq!(
        read(&body(JSON, Some("br"), PUSH)).unwrap_err().to_string(),
        r#"Content-Encoding "br" not supported"#
    );
}

#[test]
fn protobuf_is_read() {
    // {app="x"}: one entry at 1 s and 5 ns, "hi", metadata k=v; then bytes that are not UTF-8.
    let mut message = vec![10, 44, 10, 9];
    message.extend(br#"{app="x"}"#);
    message.extend([
        18, 18, 10, 4, 8, 1, 16, 5, 18, 2, b'h', b'i', 26, 6, 10, 1, b'k', 18, 1, b'v',
    ]);
    message.extend([18, 9, 10, 2, 8, 2, 18, 3, b'a', 0xff, b'b']);
    message[1] = u8::try_from(message.len() - 2).unwrap();
    let snappy = snap::raw::Encoder::new().compress_vec(&message).unwrap();
    for encoding in [None, Some("snappy")] {
        let streams = read(&body(PROTO, encoding, snappy.clone())).unwrap();
        assert_eq!(
            lines(&streams),
            [
                (1_000_000_005, "hi".to_owned()),
                (2_000_000_000, "a\u{fffd}b".to_owned())
            ]
        );
        assert_eq!(*streams[0].entries[0].metadata, [("k".into(), "v".into())]);
    }
    assert_eq!(
        read(&body(PROTO, None, message)).unwrap_err().to_string(),
        "snappy: corrupt input"
    );
}

#[test]
fn bad_bodies_name_what_is_wrong() {
    let message = |b: Body<'static>| read(&b).unwrap_err().to_string();
    assert_eq!(message(body(None, None, PUSH)), "mime: no media type");
    assert_eq!(message(body(JSON, None, "")), "EOF");
    assert_eq!(
        message(body(Some("text/plain"), None, "{}")),
        "snappy: corrupt input"
    );
    assert_eq!(message(body(PROTO, None, "")), "snappy: corrupt input");
    assert_eq!(message(body(JSON, Some("gzip"), "{}")), "gzip: invalid header");
    let wrong = message(body(
        JSON,
        None,
        r#"{"streams":[{"stream":{},"values":[["1.5","x"]]}]}"#,
    ));
    assert!(
        wrong.contains(r#"timestamp "1.5" is not a string of nanoseconds"#),
        "{wrong}"
    );
    for bad in [
        "[]",
        "zzz",
        r#"{"streams":[{"stream":{"a":"b"},"values":[["1",null]]}]}"#,
        r#"{"streams":[{"stream":{"a":"b"},"values":[[1,"x"]]}]}"#,
        r#"{"streams":[{"stream":{"a":"b"},"values":[["1","x",["a"]]]}]}"#,
        r#"{"streams":[{"stream":{"a":"b"},"values":[["1","x",{"a":{"b":"c"}}]]}]}"#,
        r#"{"streams":[{"stream":{"bad-name":"b"},"values":[]}]}"#,
    ] {
        assert!(read(&body(JSON, None, bad)).is_err(), "{bad}");
    }
    for empty in ["null", "{}", r#"{"streams":null}"#, r#"{"streams":[]}"#] {
        assert_eq!(read(&body(JSON, None, empty)).unwrap(), Vec::new(), "{empty}");
    }
}

#[test]
fn a_broken_character_costs_no_batch() {
    let half = r#"{"streams":[{"stream":{"a":"b"},"values":[["1","x\ud800y \ud83d\ude00 \\ud800"]]}]}"#;
    assert_eq!(
        lines(&read(&body(JSON, None, half)).unwrap()),
        [(1, "x\u{fffd}y 😀 \\ud800".to_owned())]
    );
    let mut bytes = br#"{"streams":[{"stream":{"a":"b"},"values":[["1","x?y"]]}]}"#.to_vec();
    let at = bytes.iter().position(|b| *b == b'?').unwrap();
    bytes[at] = 0xfe;
    assert_eq!(
        lines(&read(&body(JSON, None, bytes)).unwrap()),
        [(1, "x\u{fffd}y".to_owned())]
    );
}

#[test]
fn a_bomb_is_refused_before_it_takes_memory() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&vec![b' '; 2 << 20]).unwrap();
    let bomb = read(&body(JSON, Some("gzip"), gzip.finish().unwrap())).unwrap_err();
    assert_eq!(bomb, DecodeError::TooLarge { limit: 1 << 20 });
    assert_eq!(
        read(&body(PROTO, None, vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0])).unwrap_err(),
        DecodeError::TooLarge { limit: 1 << 20 }
    );
    assert_eq!(
        read(&body(PROTO, None, vec![0xff, 0xff, 0x3f, 0]))
            .unwrap_err()
            .to_string(),
        "snappy: corrupt input"
    );
}

const EXPORT: &str = r#"{"resourceLogs":[{"resource":{"attributes":[
    {"key":"service.name","value":{"stringValue":"shop"}},{"key":"host.cpu","value":{"intValue":"8"}}]},
  "scopeLogs":[{"scope":{"name":"my.scope","version":"1","attributes":[{"key":"scope.key","value":{"stringValue":"sv"}}]},"logRecords":[
    {"timeUnixNano":"1000","observedTimeUnixNano":"1001","severityNumber":17,"severityText":"ERR","body":{"stringValue":"plain"},
     "attributes":[{"key":"nested","value":{"kvlistValue":{"values":[{"key":"a","value":{"kvlistValue":{"values":[{"key":"b","value":{"boolValue":true}}]}}}]}}},
                   {"key":"list","value":{"arrayValue":{"values":[{"stringValue":"x"},{"intValue":"3"}]}}}, {"key":"9.z","value":{"doubleValue":0.25}}],
     "traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708","flags":1},
    {"observedTimeUnixNano":"2000","body":{"kvlistValue":{"values":[{"key":"n","value":{"intValue":"1"}},{"key":"k","value":{"stringValue":"v"}}]}}},
    {}]}]}]}"#;

#[test]
fn otlp_is_mapped_to_labels_metadata_and_lines() {
    let streams = otlp(&body(JSON, None, EXPORT), 77).unwrap();
    assert_eq!(streams[0].labels.to_string(), r#"{service_name="shop"}"#);
    assert_eq!(
        lines(&streams),
        [
            (1000, "plain".to_owned()),
            (2000, r#"{"k":"v","n":1}"#.to_owned()),
            (77, String::new())
        ]
    );
    let metadata: Vec<String> = streams[0].entries[0]
        .metadata
        .iter()
        .map(|(n, v)| format!("{n}={v}"))
        .collect();
    assert_eq!(
        metadata,
        [
            "flags=1",
            "host_cpu=8",
            "key_9_z=0.25",
            "list=[\"x\",3]",
            "nested_a_b=true",
            "observed_timestamp=1001",
            "scope_key=sv",
            "scope_name=my.scope",
            "scope_version=1",
            "severity_number=17",
            "severity_text=ERR",
            "span_id=0102030405060708",
            "trace_id=0102030405060708090a0b0c0d0e0f10"
        ]
    );
}

#[test]
fn otlp_refuses_what_it_does_not_know() {
    let message = |t, e| otlp(&body(Some(t), e, "{}"), 0).unwrap_err().to_string();
    assert_eq!(
        message("text/plain", None),
        "content type: text/plain is not supported"
    );
    assert_eq!(
        message("application/json", Some("zz")),
        "unsupported content encoding zz: only gzip, lz4 and zstd are supported"
    );
    assert!(otlp(&body(JSON, None, r#"{"resourceLogs":"x"}"#), 0).is_err());
    assert!(otlp(&body(PROTO, None, vec![10, 255, 255, 255]), 0).is_err());
    assert_eq!(otlp(&body(PROTO, None, Vec::new()), 0).unwrap(), Vec::new());
}
