//! Loki's protobuf push request (`logproto.PushRequest`). Lines are slices of the decompressed body.

use bytes::Bytes;
use prost::Message;
use rankline_logql::parse_labels;

use super::{DecodeError, text};
use crate::entry::{Entry, StreamEntries};

#[derive(Message)]
struct PushRequest {
    #[prost(message, repeated, tag = "1")]
    streams: Vec<Stream>,
}

#[derive(Message)]
struct Stream {
    #[prost(bytes = "bytes", tag = "1")]
    labels: Bytes,
    #[prost(message, repeated, tag = "2")]
    entries: Vec<ProtoEntry>,
}

#[derive(Message)]
struct ProtoEntry {
    #[prost(message, optional, tag = "1")]
    timestamp: Option<Timestamp>,
    #[prost(bytes = "bytes", tag = "2")]
    line: Bytes,
    #[prost(message, repeated, tag = "3")]
    metadata: Vec<ProtoPair>,
}

#[derive(Message)]
struct Timestamp {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[derive(Message)]
struct ProtoPair {
    #[prost(bytes = "bytes", tag = "1")]
    name: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

/// Decodes the message.
pub(super) fn push_request(body: Bytes) -> Result<Vec<StreamEntries>, DecodeError> {
    let request = PushRequest::decode(body).map_err(|e| DecodeError::Message(format!("proto: {e}")))?;
    request.streams.into_iter().map(stream).collect()
}

fn stream(stream: Stream) -> Result<StreamEntries, DecodeError> {
    let labels = text(stream.labels);
    let labels = parse_labels(&labels).map_err(|e| DecodeError::Labels(e.to_string()))?;
    let entries = stream.entries.into_iter().map(entry).collect::<Result<_, _>>()?;
    Ok(StreamEntries { labels, entries })
}

fn entry(entry: ProtoEntry) -> Result<Entry, DecodeError> {
    let Timestamp { seconds, nanos } = entry.timestamp.unwrap_or_default();
    let ts = seconds
        .checked_mul(1_000_000_000)
        .and_then(|ns| ns.checked_add(nanos.into()));
    let ts = ts.ok_or_else(|| {
        DecodeError::Message(format!(
            "timestamp of {seconds} s and {nanos} ns is outside of what nanoseconds can count"
        ))
    })?;
    let metadata = entry
        .metadata
        .into_iter()
        .map(|pair| (text(pair.name), text(pair.value)))
        .collect();
    Ok(Entry {
        ts,
        line: text(entry.line),
        metadata,
    })
}
