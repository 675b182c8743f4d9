//! Lines and records → entries with labels and structured metadata. Knows the names of fields, nothing of their origin.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::clock::Clock;
use super::cri::Container;
use super::lines::cut_before;

/// Fields that become stream labels; all others are structured metadata.
const LABEL_FIELDS: [&str; 8] = [
    "app",
    "job",
    "namespace",
    "pod",
    "container",
    "node",
    "rank",
    "stream",
];
/// Where Fluent Bit's kubernetes filter keeps what is a label here.
const KUBERNETES_FIELDS: [(&str, &str); 4] = [
    ("namespace_name", "namespace"),
    ("pod_name", "pod"),
    ("container_name", "container"),
    ("host", "node"),
];
/// Label sets remembered as text; one of a training job has one a rank and stream.
const REMEMBERED_LABELS: usize = 10_000;

/// One line or record on its way to the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The stream's labels as text: `{job="llama", rank="3"}`.
    pub labels: Arc<str>,
    /// Nanoseconds since the epoch.
    pub ts: i64,
    /// The text, several lines when merged.
    pub line: String,
    /// Structured metadata, sorted by name.
    pub metadata: Vec<(String, String)>,
    /// Where it was read.
    pub origin: Origin,
}

impl Entry {
    /// About how much memory and request it takes.
    pub fn bytes(&self) -> usize {
        self.metadata
            .iter()
            .map(|(name, value)| name.len() + value.len() + 56)
            .sum::<usize>()
            + self.line.len()
            + 96
    }
}

/// A place in the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Number of the source.
    pub source: u32,
    /// Line number in it, from 1, as far as it was read when the entry left.
    pub line: u64,
}

/// Makes the entries of one source.
#[derive(Debug)]
pub struct EntryMaker {
    source: u32,
    /// From the command line: nothing overrides them.
    given: BTreeMap<String, String>,
    /// From the file's name: a record's own fields override them.
    known: BTreeMap<String, String>,
    filename: Option<String>,
    max_line_bytes: usize,
    rendered: HashMap<BTreeMap<String, String>, Arc<str>>,
    /// The labels of plain lines: without a stream, on stdout, on stderr.
    plain: [Option<Arc<str>>; 3],
}

impl EntryMaker {
    /// For source number `source`; `path` is `None` for stdin.
    pub fn new(
        source: u32,
        path: Option<&Path>,
        container: Option<&Container>,
        labels: &[(String, String)],
        max_line_bytes: usize,
    ) -> Self {
        let given: BTreeMap<String, String> = labels.iter().cloned().collect();
        let mut known = BTreeMap::new();
        if let Some(container) = container {
            known.insert("namespace".to_owned(), container.namespace.clone());
            known.insert("pod".to_owned(), container.pod.clone());
            known.insert("container".to_owned(), container.container.clone());
        } else if given.is_empty() {
            let stem = path
                .and_then(Path::file_stem)
                .map(|stem| stem.to_string_lossy().into_owned());
            known.insert("job".to_owned(), stem.unwrap_or_else(|| "stdin".to_owned()));
        }
        let filename = path.map(|p| p.to_string_lossy().into_owned());
        Self {
            source,
            given,
            known,
            filename,
            max_line_bytes,
            rendered: HashMap::new(),
            plain: [None, None, None],
        }
    }

    /// A plain line.
    pub fn take_text(
        &mut self,
        text: &str,
        stream: Option<&'static str>,
        ts: i64,
        at: u64,
        out: &mut Vec<Entry>,
    ) {
        let slot = match stream {
            None => 0,
            Some("stdout") => 1,
            Some(_) => 2,
        };
        let labels = match &self.plain[slot] {
            Some(labels) => Arc::clone(labels),
            None => {
                let own = stream.map(|s| ("stream".to_owned(), s.to_owned()));
                let labels = self.labels(own.into_iter().collect());
                Arc::clone(self.plain[slot].insert(labels))
            }
        };
        let metadata = self.filename_pair().into_iter().collect();
        self.emit(labels, ts, text.to_owned(), metadata, at, out);
    }

    /// A record of the filter; `ts` is its call's time, which a `rankline_ts` overrides.
    pub fn take_record(&mut self, record: &[u8], ts: i64, at: u64, out: &mut Vec<Entry>) {
        match serde_json::from_slice::<Map<String, Value>>(record) {
            Ok(mut fields) => {
                let ts = take_own_time(&mut fields).unwrap_or(ts);
                // It is what the file's name says, which the labels have already.
                fields.remove("kubernetes");
                self.take_fields(fields, ts, at, out);
            }
            Err(_) => self.take_text(&String::from_utf8_lossy(record), None, ts, at, out),
        }
    }

    /// A record as `rankline filter` prints it; false when `line` is no JSON object.
    pub fn take_json_line(
        &mut self,
        line: &str,
        at: u64,
        clock: &mut Clock,
        now: i64,
        out: &mut Vec<Entry>,
    ) -> bool {
        let Ok(mut fields) = serde_json::from_str::<Map<String, Value>>(line) else {
            return false;
        };
        let sec = fields.remove("sec").and_then(|v| v.as_i64());
        let nsec = fields.remove("nsec").and_then(|v| v.as_i64()).unwrap_or(0);
        let called = sec.and_then(|sec| sec.checked_mul(1_000_000_000)?.checked_add(nsec));
        let ts = match take_own_time(&mut fields).or(called) {
            Some(ts) => clock.exact(ts, line),
            None => clock.text("", now, true),
        };
        if let Some(Value::Object(kubernetes)) = fields.remove("kubernetes") {
            for (from, to) in KUBERNETES_FIELDS {
                if let Some(value) = kubernetes.get(from)
                    && !fields.contains_key(to)
                {
                    fields.insert(to.to_owned(), value.clone());
                }
            }
        }
        if !fields.contains_key("log") {
            fields.insert("log".to_owned(), Value::String(line.to_owned()));
        }
        self.take_fields(fields, ts, at, out);
        true
    }

    fn take_fields(&mut self, mut fields: Map<String, Value>, ts: i64, at: u64, out: &mut Vec<Entry>) {
        let line = fields.remove("log").map(into_text).unwrap_or_default();
        let mut own = BTreeMap::new();
        for name in LABEL_FIELDS {
            if let Some(value) = fields.remove(name).map(into_text).filter(|v| !v.is_empty()) {
                own.insert(name.to_owned(), value);
            }
        }
        let labels = self.labels(own);
        let mut metadata: Vec<(String, String)> = fields
            .into_iter()
            .filter(|(_, v)| !v.is_null())
            .map(|(name, v)| (name, into_text(v)))
            .collect();
        metadata.extend(self.filename_pair());
        metadata.sort_unstable();
        metadata.dedup_by(|next, kept| next.0 == kept.0);
        self.emit(labels, ts, line, metadata, at, out);
    }

    fn filename_pair(&self) -> Option<(String, String)> {
        self.filename
            .as_ref()
            .map(|name| ("filename".to_owned(), name.clone()))
    }

    fn labels(&mut self, own: BTreeMap<String, String>) -> Arc<str> {
        let mut all = own;
        for (name, value) in &self.known {
            all.entry(name.clone()).or_insert_with(|| value.clone());
        }
        for (name, value) in &self.given {
            all.insert(name.clone(), value.clone());
        }
        if let Some(text) = self.rendered.get(&all) {
            return Arc::clone(text);
        }
        if self.rendered.len() >= REMEMBERED_LABELS {
            self.rendered.clear();
        }
        let text: Arc<str> = render_labels(&all).into();
        self.rendered.insert(all, Arc::clone(&text));
        text
    }

    /// Cuts what the service would refuse as too long, at line ends where there are some.
    fn emit(
        &mut self,
        labels: Arc<str>,
        ts: i64,
        line: String,
        metadata: Vec<(String, String)>,
        at: u64,
        out: &mut Vec<Entry>,
    ) {
        let origin = Origin {
            source: self.source,
            line: at,
        };
        if line.len() <= self.max_line_bytes {
            return out.push(Entry {
                labels,
                ts,
                line,
                metadata,
                origin,
            });
        }
        let (mut rest, mut part) = (line.as_str(), 0);
        while !rest.is_empty() {
            let (piece, after) = cut_record(rest, self.max_line_bytes);
            let mut metadata = metadata.clone();
            metadata.push(("line_part".to_owned(), part.to_string()));
            metadata.sort_unstable();
            let entry = Entry {
                labels: Arc::clone(&labels),
                ts: ts.saturating_add(part),
                line: piece.to_owned(),
                metadata,
                origin,
            };
            out.push(entry);
            rest = after;
            part += 1;
        }
    }
}

fn cut_record(text: &str, max_bytes: usize) -> (&str, &str) {
    if text.len() <= max_bytes {
        return (text, "");
    }
    let bytes = text.as_bytes();
    if let Some(end) = memchr::memrchr(b'\n', &bytes[..max_bytes]).filter(|&end| end > 0) {
        return (&text[..end], &text[end + 1..]);
    }
    text.split_at(cut_before(bytes, max_bytes))
}

fn take_own_time(fields: &mut Map<String, Value>) -> Option<i64> {
    match fields.remove("rankline_ts")? {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.as_i64(),
        _ => None,
    }
}

fn into_text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// Labels as a push request carries them: `{a="b", c="d"}`, values quoted as Go does.
pub fn render_labels(labels: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = labels
        .iter()
        .map(|(name, value)| format!("{name}={}", quote(value)))
        .collect();
    format!("{{{}}}", pairs.join(", "))
}

fn quote(value: &str) -> String {
    let mut quoted = String::with_capacity(value.len() + 2);
    quoted.push('"');
    for c in value.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
