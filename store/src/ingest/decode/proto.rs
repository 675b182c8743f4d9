//! Loki's protobuf push request (`logproto.PushRequest`), read straight into entries: lines are slices of the
//! decompressed body, and no message is built on the way.
//!
//! ```text
//! PushRequest { repeated Stream streams = 1; }
//! Stream      { string labels = 1; repeated Entry entries = 2; }
//! Entry       { Timestamp timestamp = 1; string line = 2; repeated Pair structuredMetadata = 3; }
//! Timestamp   { int64 seconds = 1; int32 nanos = 2; }
//! Pair        { string name = 1; string value = 2; }
//! ```

use bytes::Bytes;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::{DecodeError, text};
use crate::entry::{Entry, Pair, StreamEntries};
use crate::ingest::recent_labels;

/// Decodes the message.
pub(super) fn push_request(body: Bytes) -> Result<Vec<StreamEntries>, DecodeError> {
    let mut streams = Vec::new();
    fields(&body, |tag, value| {
        if tag == 1 {
            streams.push(stream(&body, value.bytes()?)?);
        }
        Ok(())
    })?;
    Ok(streams)
}

fn stream(body: &Bytes, message: &[u8]) -> Result<StreamEntries, DecodeError> {
    let mut labels: &[u8] = &[];
    // Counted first: a list that grows is copied again and again.
    let mut count = 0;
    fields(message, |tag, _| {
        count += usize::from(tag == 2);
        Ok(())
    })?;
    let mut entries = Vec::with_capacity(count);
    fields(message, |tag, value| {
        match tag {
            1 => labels = value.bytes()?,
            2 => entries.push(entry(body, value.bytes()?)?),
            _ => {}
        }
        Ok(())
    })?;
    let labels = recent_labels::parse(&String::from_utf8_lossy(labels))
        .map_err(|e| DecodeError::Labels(e.to_string()))?;
    Ok(StreamEntries { labels, entries })
}

fn entry(body: &Bytes, message: &[u8]) -> Result<Entry, DecodeError> {
    let (mut seconds, mut nanos) = (0, 0);
    let mut line: &[u8] = &[];
    let mut metadata: Vec<Pair> = Vec::new();
    fields(message, |tag, value| {
        match tag {
            1 => fields(value.bytes()?, |tag, value| {
                match tag {
                    1 => seconds = value.number()? as i64,
                    // Numbers of 32 bits are those bits of the number on the wire.
                    2 => nanos = value.number()? as i32,
                    _ => {}
                }
                Ok(())
            })?,
            2 => line = value.bytes()?,
            3 => metadata.push(pair(body, value.bytes()?)?),
            _ => {}
        }
        Ok(())
    })?;
    let ts = i64::checked_mul(seconds, 1_000_000_000).and_then(|ns| ns.checked_add(nanos.into()));
    let ts = ts.ok_or_else(|| {
        DecodeError::Message(format!(
            "timestamp of {seconds} s and {nanos} ns is outside of what nanoseconds can count"
        ))
    })?;
    Ok(Entry {
        ts,
        line: text(body.slice_ref(line)),
        metadata: metadata.into(),
    })
}

fn pair(body: &Bytes, message: &[u8]) -> Result<Pair, DecodeError> {
    let (mut name, mut of_name): (&[u8], &[u8]) = (&[], &[]);
    fields(message, |tag, value| {
        match tag {
            1 => name = value.bytes()?,
            2 => of_name = value.bytes()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok((text(body.slice_ref(name)), text(body.slice_ref(of_name))))
}

/// What a field holds.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Of a kind that no field of these messages has.
    Other,
}

impl<'a> Value<'a> {
    fn bytes(self) -> Result<&'a [u8], DecodeError> {
        match self {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(wrong("a field has another type than it should")),
        }
    }

    fn number(self) -> Result<u64, DecodeError> {
        match self {
            Value::Number(number) => Ok(number),
            _ => Err(wrong("a field has another type than it should")),
        }
    }
}

/// Calls `field` for each field of a message; of a field that should come once, the last counts.
fn fields<'a>(
    mut message: &'a [u8],
    mut field: impl FnMut(u32, Value<'a>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    while !message.is_empty() {
        let (tag, kind) = decode_key(&mut message).map_err(wrong)?;
        let value = match kind {
            WireType::Varint => Value::Number(decode_varint(&mut message).map_err(wrong)?),
            WireType::LengthDelimited => {
                let len = decode_varint(&mut message).map_err(wrong)?;
                let len = usize::try_from(len).unwrap_or(usize::MAX);
                let (bytes, rest) = message
                    .split_at_checked(len)
                    .ok_or_else(|| wrong("a field is longer than its message"))?;
                message = rest;
                Value::Bytes(bytes)
            }
            kind => {
                skip_field(kind, tag, &mut message, DecodeContext::default()).map_err(wrong)?;
                Value::Other
            }
        };
        field(tag, value)?;
    }
    Ok(())
}

fn wrong(reason: impl std::fmt::Display) -> DecodeError {
    DecodeError::Message(format!("proto: {reason}"))
}
