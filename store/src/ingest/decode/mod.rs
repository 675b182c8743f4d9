//! Bodies of push requests to streams and entries: Loki's JSON and protobuf, OTLP. Knows the formats, not the rules
//! that entries must keep (those are in [`super::validate`]), and nothing of HTTP beyond two header values.
//!
//! Formats: Loki's `pkg/loghttp/push` and `pkg/push/push.proto`; OTLP's `ExportLogsServiceRequest`.

mod compression;
mod json;
mod otlp;
mod proto;

use bytes::Bytes;
use bytestring::ByteString;

use crate::entry::StreamEntries;

/// A request body with the headers that say how to read it.
#[derive(Debug, Clone)]
pub struct Body<'a> {
    /// `Content-Type`, as sent.
    pub content_type: Option<&'a str>,
    /// `Content-Encoding`, as sent.
    pub content_encoding: Option<&'a str>,
    /// The body as it came over the network.
    pub bytes: Bytes,
    /// Most bytes the body may have after decompression.
    pub max_decoded_bytes: usize,
}

/// Which of Loki's JSON forms a path takes; protobuf is the same on both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonForm {
    /// `/loki/api/v1/push`: `{"streams":[{"stream":{…},"values":[[ts, line, {metadata}]]}]}`.
    Values,
    /// `/api/prom/push`: `{"streams":[{"labels":"{…}","entries":[{"ts":…,"line":…}]}]}`.
    Entries,
}

/// Why a body could not be read. `Display` is what the client is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// `Content-Type` is missing or is no media type.
    #[error("mime: no media type")]
    NoMediaType,
    /// OTLP takes two media types only.
    #[error("content type: {0} is not supported")]
    MediaType(String),
    /// Not one of the encodings Loki's push takes.
    #[error("Content-Encoding {0:?} not supported")]
    Encoding(String),
    /// Not one of the encodings OTLP takes.
    #[error("unsupported content encoding {0}: only gzip, lz4 and zstd are supported")]
    OtlpEncoding(String),
    /// More bytes than allowed after decompression: status 413.
    #[error("request body too large: decompressed message size too large than max ({limit})")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The compressed bytes are broken.
    #[error("{format}: {reason}")]
    Compression {
        /// Name of the compression.
        format: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Not the JSON or protobuf message that was announced.
    #[error("{0}")]
    Message(String),
    /// A label set that can't be parsed.
    #[error("couldn't parse labels: {0}")]
    Labels(String),
}

impl DecodeError {
    /// The `reason` under which the refused request is counted.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoMediaType | Self::MediaType(_) => "content_type",
            Self::Encoding(_) | Self::OtlpEncoding(_) => "content_encoding",
            Self::TooLarge { .. } => "too_large",
            Self::Compression { .. } => "compression",
            Self::Message(_) => "message",
            Self::Labels(_) => "labels",
        }
    }
}

/// Reads the body of a push in Loki's formats.
///
/// # Errors
/// [`DecodeError`]; nothing of a body that can't be read as a whole is kept.
pub fn loki(body: &Body<'_>, form: JsonForm) -> Result<Vec<StreamEntries>, DecodeError> {
    let media_type = media_type(body.content_type.unwrap_or_default()).ok_or(DecodeError::NoMediaType)?;
    let limit = body.max_decoded_bytes;
    let bytes = match body.content_encoding.unwrap_or_default() {
        // Snappy is the protobuf form's own compression, so the header adds nothing.
        "" | "identity" | "snappy" => body.bytes.clone(),
        "gzip" => compression::gzip(&body.bytes, limit)?,
        "deflate" => compression::deflate(&body.bytes, limit)?,
        other => return Err(DecodeError::Encoding(other.to_owned())),
    };
    match (media_type.as_str(), form) {
        ("application/json", JsonForm::Values) => json::values(bytes),
        ("application/json", JsonForm::Entries) => json::entries(bytes),
        _ => proto::push_request(compression::snappy_block(&bytes, limit)?),
    }
}

/// Reads the body of an OTLP logs export.
///
/// # Errors
/// [`DecodeError`]; nothing of a body that can't be read as a whole is kept.
pub fn otlp(body: &Body<'_>, now: i64) -> Result<Vec<StreamEntries>, DecodeError> {
    let limit = body.max_decoded_bytes;
    let bytes = match body.content_encoding.unwrap_or_default() {
        "" | "identity" => body.bytes.clone(),
        "gzip" => compression::gzip(&body.bytes, limit)?,
        "zstd" => compression::zstd(&body.bytes, limit)?,
        "lz4" => compression::lz4(&body.bytes, limit)?,
        other => return Err(DecodeError::OtlpEncoding(other.to_owned())),
    };
    let content_type = body.content_type.unwrap_or_default();
    match media_type(content_type).as_deref() {
        Some("application/x-protobuf") => otlp::protobuf(bytes, now),
        Some("application/json") => otlp::json(&bytes, now),
        _ => Err(DecodeError::MediaType(content_type.to_owned())),
    }
}

/// The media type without parameters, lower case; `None` when there is none.
fn media_type(header: &str) -> Option<String> {
    let name = header.split(';').next().unwrap_or_default().trim();
    (!name.is_empty()).then(|| name.to_ascii_lowercase())
}

/// Bytes as text; what isn't UTF-8 becomes U+FFFD, because a line is worth more than its broken bytes.
fn text(bytes: Bytes) -> ByteString {
    ByteString::try_from(bytes.clone())
        .unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into_owned().into())
}

#[cfg(test)]
mod tests;
