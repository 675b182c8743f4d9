//! What every push goes through between decoding and storing: the changes Loki makes (`service_name`,
//! `detected_level`, sayable metadata names), the filter's own timestamp, and the limits. A bad entry is refused
//! alone; the good ones of the same request are kept.

use std::fmt::Write as _;

use bytestring::ByteString;
use rankline_logql::Labels;

use super::level::{self, DETECTED_LEVEL};
use super::names::{SERVICE_NAME, sanitize};
use super::recent_labels;
use crate::config::Config;
use crate::entry::{Entry, Metadata, Pair, StreamEntries, sort_pairs};

/// The metadata field in which the filter says when a record was printed that it had to hold: nanoseconds since the
/// epoch, decimal. It becomes the entry's timestamp.
pub const FILTER_TIMESTAMP: &str = "rankline_ts";

/// Most messages a client is shown about one request; all refusals are counted.
const MAX_MESSAGES: usize = 20;

/// Longest label name: Loki's default.
const MAX_LABEL_NAME_BYTES: usize = 1024;

/// The limits of [`Config`] that concern single entries and streams.
#[derive(Debug, Clone)]
pub struct Rules {
    max_line_bytes: usize,
    max_label_names: usize,
    max_label_name_bytes: usize,
    max_label_value_bytes: usize,
    max_metadata_bytes: usize,
    max_metadata_fields: usize,
    max_entry_age_ns: i64,
    max_entry_future_ns: i64,
    discover_service_name: bool,
    detect_level: bool,
}

impl From<&Config> for Rules {
    fn from(config: &Config) -> Self {
        let ns = |duration: std::time::Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        Self {
            max_line_bytes: config.max_line_bytes.as_usize(),
            max_label_names: config.max_label_names,
            max_label_name_bytes: MAX_LABEL_NAME_BYTES,
            max_label_value_bytes: config.max_label_value_bytes.as_usize(),
            max_metadata_bytes: config.max_metadata_bytes.as_usize(),
            max_metadata_fields: config.max_metadata_fields,
            max_entry_age_ns: ns(config.max_entry_age),
            max_entry_future_ns: ns(config.max_entry_future),
            discover_service_name: config.discover_service_name,
            detect_level: config.detect_level,
        }
    }
}

/// Entries of one request that were refused.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Refusals {
    messages: Vec<String>,
    /// How many messages there would be without a limit: one for each entry, or for a stream that is refused with all of its.
    reasons: usize,
    counts: Vec<(&'static str, u64)>,
}

impl Refusals {
    fn add(&mut self, reason: &'static str, entries: usize, message: impl FnOnce() -> String) {
        self.reasons += 1;
        if self.messages.len() < MAX_MESSAGES {
            self.messages.push(message());
        }
        let entries = entries as u64;
        match self.counts.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += entries,
            None => self.counts.push((reason, entries)),
        }
    }

    /// Whether nothing was refused.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Refused entries by reason.
    #[must_use]
    pub fn counts(&self) -> &[(&'static str, u64)] {
        &self.counts
    }

    /// What the client is told: a line for each refusal, Loki's texts.
    #[must_use]
    pub fn message(&self) -> String {
        let mut text = self.messages.join("\n");
        let total: u64 = self.counts.iter().map(|(_, count)| count).sum();
        let shown = self.messages.len();
        if self.reasons > shown {
            let _ = write!(
                text,
                "\ntotal ignored: {total} entries, the first {shown} reasons are shown"
            );
        }
        text
    }
}

impl Rules {
    /// Applies the rules to the streams of one request. `now`: ns since the epoch. Streams that end up without
    /// entries are left out.
    #[must_use]
    pub fn apply(&self, streams: Vec<StreamEntries>, now: i64) -> (Vec<StreamEntries>, Refusals) {
        let mut refusals = Refusals::default();
        let mut kept = Vec::with_capacity(streams.len());
        for mut stream in streams {
            if stream.entries.is_empty() {
                continue;
            }
            if self.discover_service_name {
                stream.labels = recent_labels::with_service_name(stream.labels);
            }
            if let Err((reason, message)) = self.check_labels(&stream.labels) {
                refusals.add(reason, stream.entries.len(), || message);
                continue;
            }
            self.apply_to_entries(&mut stream, now, &mut refusals);
            if !stream.entries.is_empty() {
                kept.push(stream);
            }
        }
        (kept, refusals)
    }

    fn check_labels(&self, labels: &Labels) -> Result<(), (&'static str, String)> {
        if labels.is_empty() {
            return Err((
                "no_labels",
                "error at least one label pair is required per stream".to_owned(),
            ));
        }
        let count = labels.iter().filter(|(name, _)| *name != SERVICE_NAME).count();
        if count > self.max_label_names {
            let limit = self.max_label_names;
            let message = format!("entry for stream '{labels}' has {count} label names; limit {limit}");
            return Err(("label_names", message));
        }
        for (name, value) in labels.iter() {
            if name.len() > self.max_label_name_bytes {
                return Err((
                    "label_name_bytes",
                    format!("stream '{labels}' has label name too long: '{name}'"),
                ));
            }
            if value.len() > self.max_label_value_bytes {
                return Err((
                    "label_value_bytes",
                    format!("stream '{labels}' has label value too long: '{value}'"),
                ));
            }
        }
        if let Some(name) = labels.repeated() {
            let message = format!("stream '{labels}' has duplicate label name: '{name}'");
            return Err(("duplicate_label", message));
        }
        Ok(())
    }

    fn apply_to_entries(&self, stream: &mut StreamEntries, now: i64, refusals: &mut Refusals) {
        let stream_level = level::of_labels(&stream.labels).map(ByteString::from);
        let labels = &stream.labels;
        stream.entries.retain_mut(|entry| {
            take_filter_timestamp(entry);
            if !entry.metadata.is_empty() {
                mend_metadata(entry.metadata.to_mut());
            }
            if let Err((reason, message)) = self.check_entry(labels, entry, now) {
                refusals.add(reason, 1, || message);
                return false;
            }
            if self.detect_level {
                add_level(entry, stream_level.as_ref());
            }
            true
        });
    }

    fn check_entry(&self, labels: &Labels, entry: &Entry, now: i64) -> Result<(), (&'static str, String)> {
        if self.max_entry_age_ns > 0 && entry.ts < now.saturating_sub(self.max_entry_age_ns) {
            let oldest = seconds(now.saturating_sub(self.max_entry_age_ns));
            let message = format!(
                "entry for stream '{labels}' has timestamp too old: {}, oldest acceptable timestamp is: {oldest}",
                seconds(entry.ts)
            );
            return Err(("too_old", message));
        }
        if entry.ts > now.saturating_add(self.max_entry_future_ns) {
            let message = format!(
                "entry for stream '{labels}' has timestamp too new: {}",
                seconds(entry.ts)
            );
            return Err(("too_new", message));
        }
        if entry.line.len() > self.max_line_bytes {
            let message = format!(
                "max entry size '{}' bytes exceeded for stream '{labels}' while adding an entry with length '{}' bytes",
                self.max_line_bytes,
                entry.line.len()
            );
            return Err(("line_bytes", message));
        }
        let bytes: usize = entry
            .metadata
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        if bytes > self.max_metadata_bytes {
            let message = format!(
                "stream '{labels}' has structured metadata too large: '{bytes}' bytes, limit: '{}' bytes. Please raise `max_metadata_bytes` or send less",
                self.max_metadata_bytes
            );
            return Err(("metadata_bytes", message));
        }
        if entry.metadata.len() > self.max_metadata_fields {
            let message = format!(
                "stream '{labels}' has too many structured metadata labels: '{}', limit: '{}'. Please raise `max_metadata_fields` or send less",
                entry.metadata.len(),
                self.max_metadata_fields
            );
            return Err(("metadata_fields", message));
        }
        Ok(())
    }
}

/// RFC 3339 with whole seconds.
fn seconds(ns: i64) -> String {
    match jiff::Timestamp::from_second(ns.div_euclid(1_000_000_000)) {
        Ok(time) => time.to_string(),
        Err(_) => format!("{ns} ns since the epoch"),
    }
}

/// Moves the filter's timestamp into the entry's; a value that is none stays metadata.
fn take_filter_timestamp(entry: &mut Entry) {
    let Some(at) = entry
        .metadata
        .iter()
        .position(|(name, _)| name == FILTER_TIMESTAMP)
    else {
        return;
    };
    if let Some(ts) = entry.metadata.get(at).and_then(|(_, value)| value.parse().ok()) {
        entry.ts = ts;
        entry.metadata.to_mut().remove(at);
    }
}

/// Sayable names, no empty values, sorted, each name once.
fn mend_metadata(metadata: &mut Vec<Pair>) {
    metadata.retain(|(_, value)| !value.is_empty());
    for (name, value) in metadata.iter_mut() {
        *name = match sanitize(name) {
            clean if clean == *name => continue,
            clean => clean,
        };
        if value.contains('\u{fffd}') {
            *value = value.replace('\u{fffd}', " ").into();
        }
    }
    sort_pairs(metadata);
}

fn add_level(entry: &mut Entry, stream_level: Option<&ByteString>) {
    if let Some(at) = entry.metadata.iter().position(|(name, _)| name == DETECTED_LEVEL) {
        let value = &entry.metadata[at].1;
        let normal = level::normalize(value);
        if normal != &**value {
            let normal = ByteString::from(normal);
            entry.metadata.to_mut()[at].1 = normal;
        }
        return;
    }
    let level = match stream_level {
        Some(level) => &**level,
        None => level::of_entry(&entry.line, &entry.metadata),
    };
    let pair = USUAL.iter().find(|pair| *pair.1 == *level);
    if let (Some(pair), true) = (pair, entry.metadata.is_empty()) {
        entry.metadata = Metadata::Borrowed(std::slice::from_ref(pair));
        return;
    }
    let pair = pair.cloned().unwrap_or_else(|| level_pair(level.into()));
    let metadata = entry.metadata.to_mut();
    let at = metadata.partition_point(|(name, _)| &**name < DETECTED_LEVEL);
    metadata.insert(at, pair);
}

const fn level_pair(level: ByteString) -> Pair {
    (ByteString::from_static(DETECTED_LEVEL), level)
}

/// The metadata of an entry that has its level alone, for the usual levels.
static USUAL: [Pair; 8] = [
    level_pair(ByteString::from_static("unknown")),
    level_pair(ByteString::from_static("info")),
    level_pair(ByteString::from_static("warn")),
    level_pair(ByteString::from_static("error")),
    level_pair(ByteString::from_static("debug")),
    level_pair(ByteString::from_static("trace")),
    level_pair(ByteString::from_static("fatal")),
    level_pair(ByteString::from_static("critical")),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NOW: i64 = 1_767_571_200_000_000_000;

    fn rules() -> Rules {
        Rules {
            max_line_bytes: 10,
            max_label_names: 2,
            max_label_name_bytes: 8,
            max_label_value_bytes: 8,
            max_metadata_bytes: 40,
            max_metadata_fields: 2,
            max_entry_age_ns: 0,
            max_entry_future_ns: 600_000_000_000,
            discover_service_name: false,
            detect_level: false,
        }
    }

    fn stream(labels: &[(&str, &str)], entries: Vec<Entry>) -> StreamEntries {
        StreamEntries {
            labels: Labels::from_pairs(labels.iter().copied()),
            entries,
        }
    }

    fn entry(ts: i64, line: &'static str, metadata: &[(&'static str, &'static str)]) -> Entry {
        let pair =
            |(n, v): &(&'static str, &'static str)| (ByteString::from_static(n), ByteString::from_static(v));
        Entry {
            ts,
            line: ByteString::from_static(line),
            metadata: metadata.iter().map(pair).collect(),
        }
    }

    #[test]
    fn a_bad_entry_is_refused_alone() {
        let entries = vec![
            entry(NOW, "good", &[]),
            entry(NOW, "much too long", &[]),
            entry(NOW + 601_000_000_000, "future", &[]),
            entry(NOW, "meta", &[("a", "1"), ("b", "2"), ("c", "3")]),
            entry(NOW, "meta", &[("a", "a very long value of forty bytes or more")]),
            entry(0, "old", &[]),
        ];
        let (kept, refusals) = rules().apply(vec![stream(&[("app", "x")], entries)], NOW);
        let lines: Vec<_> = kept[0].entries.iter().map(|e| e.line.to_string()).collect();
        assert_eq!(lines, ["good", "old"]);
        let reasons: Vec<_> = refusals.counts().iter().map(|(reason, _)| *reason).collect();
        assert_eq!(
            reasons,
            ["line_bytes", "too_new", "metadata_fields", "metadata_bytes"]
        );
        assert!(
            refusals
                .message()
                .contains("max entry size '10' bytes exceeded for stream '{app=\"x\"}'")
        );
        assert!(
            refusals
                .message()
                .contains("has timestamp too new: 2026-01-05T00:10:01Z")
        );
    }

    #[test]
    fn a_bad_stream_is_refused_alone() {
        let one = || vec![entry(NOW, "x", &[])];
        let streams = vec![
            stream(&[], one()),
            stream(&[("a", "1"), ("b", "2"), ("c", "3")], one()),
            stream(&[("a", "123456789")], one()),
            stream(&[("abcdefghi", "1")], one()),
            stream(&[("a", "1")], one()),
            stream(&[("a", "2")], Vec::new()),
            StreamEntries {
                labels: Labels::with_repeats([("a", "1"), ("a", "2")]),
                entries: vec![entry(NOW, "x", &[]), entry(NOW, "y", &[])],
            },
        ];
        let (kept, refusals) = rules().apply(streams, NOW);
        assert_eq!(kept.len(), 1);
        let reasons: Vec<_> = refusals.counts().iter().map(|(reason, _)| *reason).collect();
        assert_eq!(
            reasons,
            [
                "no_labels",
                "label_names",
                "label_value_bytes",
                "label_name_bytes",
                "duplicate_label"
            ]
        );
        let message = refusals.message();
        assert!(message.ends_with("has duplicate label name: 'a'"), "{message}");
    }

    #[test]
    fn old_entries_are_refused_only_when_asked() {
        let rules = Rules {
            max_entry_age_ns: 3_600_000_000_000,
            ..rules()
        };
        let (kept, refusals) = rules.apply(vec![stream(&[("a", "1")], vec![entry(0, "old", &[])])], NOW);
        assert!(kept.is_empty());
        assert_eq!(
            refusals.message(),
            "entry for stream '{a=\"1\"}' has timestamp too old: 1970-01-01T00:00:00Z, oldest acceptable timestamp is: 2026-01-04T23:00:00Z"
        );
    }

    #[test]
    fn the_filters_timestamp_becomes_the_entrys() {
        let entries = vec![
            entry(NOW, "a", &[("rankline_ts", "1767571100000000007"), ("rank", "3")]),
            entry(NOW, "b", &[("rankline_ts", "soon")]),
        ];
        let (kept, _) = rules().apply(vec![stream(&[("a", "1")], entries)], NOW);
        assert_eq!(
            kept[0].entries[0],
            entry(1_767_571_100_000_000_007, "a", &[("rank", "3")])
        );
        assert_eq!(kept[0].entries[1], entry(NOW, "b", &[("rankline_ts", "soon")]));
    }

    #[test]
    fn level_and_service_are_added() {
        let rules = Rules {
            detect_level: true,
            discover_service_name: true,
            max_metadata_fields: 9,
            max_label_name_bytes: 20,
            ..rules()
        };
        let entries = vec![
            entry(NOW, "error x", &[("zz", "1"), ("a.b", "2"), ("e", "")]),
            entry(NOW, "x", &[("detected_level", "WARNING")]),
        ];
        let (kept, _) = rules.apply(vec![stream(&[("app", "x")], entries)], NOW);
        assert_eq!(kept[0].labels.to_string(), r#"{app="x", service_name="x"}"#);
        assert_eq!(
            kept[0].entries[0].metadata,
            entry(0, "", &[("a_b", "2"), ("detected_level", "error"), ("zz", "1")]).metadata
        );
        assert_eq!(
            kept[0].entries[1].metadata,
            entry(0, "", &[("detected_level", "warn")]).metadata
        );
    }

    #[test]
    fn messages_are_bounded_and_counts_are_not() {
        let entries = (0..100).map(|_| entry(NOW, "much too long", &[])).collect();
        let (_, refusals) = rules().apply(vec![stream(&[("a", "1")], entries)], NOW);
        assert_eq!(refusals.counts(), [("line_bytes", 100)]);
        assert_eq!(refusals.message().lines().count(), MAX_MESSAGES + 1);
    }
}
