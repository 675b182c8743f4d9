//! OTLP log exports to streams: which attributes become labels and which structured metadata, as Loki maps them by
//! default (`pkg/loghttp/push/otlp.go`).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use bytestring::ByteString;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs};
use prost::Message;
use rankline_logql::Labels;

use super::DecodeError;
use crate::entry::{Entry, Pair, StreamEntries};
use crate::ingest::names::sanitize;

/// Resource attributes that become stream labels; all others are structured metadata.
const LABEL_ATTRIBUTES: [&str; 18] = [
    "service.name",
    "service.namespace",
    "service.instance.id",
    "deployment.environment",
    "deployment.environment.name",
    "cloud.region",
    "cloud.availability_zone",
    "k8s.cluster.name",
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.container.name",
    "container.name",
    "k8s.replicaset.name",
    "k8s.deployment.name",
    "k8s.statefulset.name",
    "k8s.daemonset.name",
    "k8s.cronjob.name",
    "k8s.job.name",
];

/// Deepest nesting of attribute values that is flattened; deeper ones stay JSON text.
const MAX_DEPTH: usize = 16;

/// The protobuf form.
pub(super) fn protobuf(body: Bytes, now: i64) -> Result<Vec<StreamEntries>, DecodeError> {
    let request =
        ExportLogsServiceRequest::decode(body).map_err(|e| DecodeError::Message(format!("proto: {e}")))?;
    Ok(streams(request, now))
}

/// The JSON form.
pub(super) fn json(body: &[u8], now: i64) -> Result<Vec<StreamEntries>, DecodeError> {
    let request = serde_json::from_slice(body)
        .map_err(|e| DecodeError::Message(format!("logs export is no OTLP JSON: {e}")))?;
    Ok(streams(request, now))
}

fn streams(request: ExportLogsServiceRequest, now: i64) -> Vec<StreamEntries> {
    request
        .resource_logs
        .into_iter()
        .map(|logs| stream(logs, now))
        .filter(|s| !s.entries.is_empty())
        .collect()
}

fn stream(logs: ResourceLogs, now: i64) -> StreamEntries {
    let mut labels: Vec<Pair> = Vec::new();
    let mut resource_metadata: Vec<Pair> = Vec::new();
    for attribute in logs.resource.into_iter().flat_map(|resource| resource.attributes) {
        let is_label = LABEL_ATTRIBUTES.contains(&attribute.key.as_str());
        flatten(
            "",
            attribute,
            0,
            if is_label {
                &mut labels
            } else {
                &mut resource_metadata
            },
        );
    }
    let mut entries = Vec::new();
    for scope_logs in logs.scope_logs {
        let scope_metadata = scope(scope_logs.scope.unwrap_or_default());
        for record in scope_logs.log_records {
            let mut entry = entry(record, now);
            let metadata = entry.metadata.to_mut();
            metadata.extend(resource_metadata.iter().chain(&scope_metadata).cloned());
            one_of_each_name(metadata);
            entries.push(entry);
        }
    }
    StreamEntries {
        labels: Labels::from_pairs(labels.iter().map(|(name, value)| (&**name, &**value))),
        entries,
    }
}

/// Of several pairs with one name Loki shows the last, and none if one of them has no value.
fn one_of_each_name(pairs: &mut Vec<Pair>) {
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    pairs.dedup_by(|later, earlier| {
        let same = later.0 == earlier.0;
        if same && !earlier.1.is_empty() {
            std::mem::swap(later, earlier);
        }
        same
    });
}

fn scope(scope: InstrumentationScope) -> Vec<Pair> {
    let mut metadata = Vec::new();
    for attribute in scope.attributes {
        flatten("", attribute, 0, &mut metadata);
    }
    add(&mut metadata, "scope_name", scope.name);
    add(&mut metadata, "scope_version", scope.version);
    add_count(
        &mut metadata,
        "scope_dropped_attributes_count",
        scope.dropped_attributes_count,
    );
    metadata
}

fn entry(record: LogRecord, now: i64) -> Entry {
    let own = i64::try_from(record.time_unix_nano).ok().filter(|ts| *ts != 0);
    let observed = i64::try_from(record.observed_time_unix_nano)
        .ok()
        .filter(|ts| *ts != 0);
    let mut metadata = Vec::new();
    for attribute in record.attributes {
        flatten("", attribute, 0, &mut metadata);
    }
    if own.is_some() && observed.is_some() {
        add(
            &mut metadata,
            "observed_timestamp",
            record.observed_time_unix_nano.to_string(),
        );
    }
    if record.severity_number != 0 {
        add(
            &mut metadata,
            "severity_number",
            record.severity_number.to_string(),
        );
    }
    add(&mut metadata, "severity_text", record.severity_text);
    add_count(
        &mut metadata,
        "dropped_attributes_count",
        record.dropped_attributes_count,
    );
    add_count(&mut metadata, "flags", record.flags);
    add(&mut metadata, "trace_id", hex(&record.trace_id));
    add(&mut metadata, "span_id", hex(&record.span_id));
    if !record.event_name.is_empty() {
        metadata.retain(|(name, _)| name != "event_name");
        add(&mut metadata, "event_name", record.event_name);
    }
    let line = record.body.map(|body| as_text(&body)).unwrap_or_default();
    Entry {
        ts: own.or(observed).unwrap_or(now),
        line: line.into(),
        metadata: metadata.into(),
    }
}

fn add(metadata: &mut Vec<Pair>, name: &'static str, value: String) {
    if !value.is_empty() {
        metadata.push((ByteString::from_static(name), value.into()));
    }
}

fn add_count(metadata: &mut Vec<Pair>, name: &'static str, count: u32) {
    if count != 0 {
        add(metadata, name, count.to_string());
    }
}

/// An attribute as pairs; the members of a map are named `outer_inner`.
fn flatten(prefix: &str, attribute: KeyValue, depth: usize, out: &mut Vec<Pair>) {
    let name = if prefix.is_empty() {
        attribute.key
    } else {
        format!("{prefix}_{}", attribute.key)
    };
    // One without a value has the name all the same: others of that name don't count.
    match attribute.value.and_then(|value| value.value) {
        Some(Value::KvlistValue(map)) if depth < MAX_DEPTH => {
            for member in map.values {
                flatten(&name, member, depth + 1, out);
            }
        }
        value => out.push((sanitize(&name), as_text(&AnyValue { value }).into())),
    }
}

/// A value as text: strings as they are, maps and lists as JSON.
fn as_text(value: &AnyValue) -> String {
    match &value.value {
        None => String::new(),
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::BytesValue(bytes)) => BASE64.encode(bytes),
        Some(Value::DoubleValue(number)) if *number == 0.0 && number.is_sign_negative() => "-0".to_owned(),
        Some(_) => as_json(value, 0).to_string(),
    }
}

fn as_json(value: &AnyValue, depth: usize) -> serde_json::Value {
    if depth > MAX_DEPTH {
        return serde_json::Value::Null;
    }
    match &value.value {
        Some(Value::StringValue(text)) => text.clone().into(),
        Some(Value::BoolValue(flag)) => (*flag).into(),
        Some(Value::IntValue(number)) => (*number).into(),
        Some(Value::DoubleValue(number)) => json_number(*number),
        Some(Value::BytesValue(bytes)) if bytes.is_empty() => serde_json::Value::Null,
        Some(Value::BytesValue(bytes)) => BASE64.encode(bytes).into(),
        Some(Value::ArrayValue(list)) => list
            .values
            .iter()
            .map(|value| as_json(value, depth + 1))
            .collect(),
        Some(Value::KvlistValue(map)) => {
            // By name, as Go prints maps, whatever order another crate asks serde_json to keep.
            let sorted: BTreeMap<_, _> = map
                .values
                .iter()
                .map(|member| (&member.key, member.value.as_ref()))
                .collect();
            sorted
                .into_iter()
                .map(|(key, value)| {
                    (
                        key.clone(),
                        value.map_or(serde_json::Value::Null, |v| as_json(v, depth + 1)),
                    )
                })
                .collect()
        }
        _ => serde_json::Value::Null,
    }
}

/// A number as Go writes it in JSON: `3` for 3.0.
fn json_number(number: f64) -> serde_json::Value {
    /// Whole numbers below it are written with all their digits.
    const ALL_DIGITS_BELOW: f64 = 1e15;
    if number.fract() == 0.0 && number.abs() < ALL_DIGITS_BELOW {
        return (number as i64).into();
    }
    number.into()
}

fn hex(bytes: &[u8]) -> String {
    if bytes.iter().all(|b| *b == 0) {
        return String::new();
    }
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
