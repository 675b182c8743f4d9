//! The calls that are measured: records as the host has them before and after its own conversion.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// One record of the input.
pub struct Line {
    pub tag: Vec<u8>,
    pub sec: u32,
    /// As Fluent Bit keeps it.
    pub msgpack: Vec<u8>,
    /// As the filter gets it.
    pub json: Vec<u8>,
}

/// Reads JSON lines `{"tag":…,"sec":…,"nsec":…,"record":{…}}`.
pub fn read(path: &Path) -> Result<Vec<Line>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    text.lines()
        .map(|line| parse(line).with_context(|| path.display().to_string()))
        .collect()
}

fn parse(line: &str) -> Result<Line> {
    let input: Value = serde_json::from_str(line)?;
    Ok(Line {
        tag: input["tag"].as_str().context("no tag")?.as_bytes().to_vec(),
        sec: u32::try_from(input["sec"].as_u64().context("no time")?)?,
        msgpack: rmp_serde::to_vec(&input["record"])?,
        json: serde_json::to_vec(&input["record"])?,
    })
}

/// What Fluent Bit does before the call: msgpack to JSON text.
pub fn to_json(msgpack: &[u8], out: &mut Vec<u8>) -> Result<()> {
    out.clear();
    let mut reader = rmp_serde::Deserializer::new(msgpack);
    Ok(serde_transcode::transcode(
        &mut reader,
        &mut serde_json::Serializer::new(out),
    )?)
}

/// What Fluent Bit does behind the call: JSON text to msgpack.
pub fn to_msgpack(json: &[u8], out: &mut Vec<u8>) -> Result<()> {
    out.clear();
    // A map's size stands before its members, so they are read first, as Fluent Bit's parser does with its tokens.
    let value: Value = serde_json::from_slice(json)?;
    Ok(rmp_serde::encode::write(out, &value)?)
}
