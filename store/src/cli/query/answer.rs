//! The service's answers as values. Knows the JSON of Loki's query API, asks nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

/// Label names and values.
pub type Labels = BTreeMap<String, String>;

/// One line of a log query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Nanoseconds since the epoch.
    pub ts: i64,
    /// The text.
    pub line: String,
    /// The stream's labels.
    pub stream: Arc<Labels>,
    /// Structured metadata and what the query parsed out of the line.
    pub fields: Labels,
}

impl Row {
    /// A label or field by its name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.stream
            .get(name)
            .or_else(|| self.fields.get(name))
            .map(String::as_str)
    }

    /// Stream labels and fields together.
    pub fn all(&self) -> Labels {
        let mut all = (*self.stream).clone();
        all.extend(
            self.fields
                .iter()
                .map(|(name, value)| (name.clone(), value.clone())),
        );
        all
    }
}

/// One line of a metric query's result.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// What tells it from the others.
    pub labels: Labels,
    /// Nanoseconds since the epoch, and the value as the service wrote it.
    pub points: Vec<(i64, String)>,
}

/// The result of a query.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Of a log query.
    Lines(Vec<Row>),
    /// Of a metric query over a range.
    Matrix(Vec<Series>),
    /// Of a metric query at one time; one point each.
    Vector(Vec<Series>),
}

impl Answer {
    /// Lines or series.
    pub fn len(&self) -> usize {
        match self {
            Self::Lines(rows) => rows.len(),
            Self::Matrix(series) | Self::Vector(series) => series.len(),
        }
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Page {
    /// The result.
    pub answer: Answer,
    /// What makes it less than complete.
    pub warnings: Vec<String>,
    /// What it took.
    pub stats: Value,
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    warnings: Vec<String>,
    data: Data,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: Value,
    #[serde(default)]
    stats: Value,
}

#[derive(Deserialize)]
struct Stream {
    stream: Labels,
    values: Vec<Entry>,
}

/// `[ts, line]`, or `[ts, line, {…}]` when categories were asked for.
#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Plain(String, String),
    Categorized(String, String, Categories),
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Categories {
    structured_metadata: Labels,
    parsed: Labels,
}

#[derive(Deserialize)]
struct MatrixSeries {
    metric: Labels,
    values: Vec<(Value, String)>,
}

#[derive(Deserialize)]
struct VectorSample {
    metric: Labels,
    value: (Value, String),
}

/// A message of the tail WebSocket.
#[derive(Deserialize)]
struct TailMessage {
    #[serde(default)]
    streams: Option<Vec<Stream>>,
    #[serde(default)]
    dropped_entries: Option<Vec<Value>>,
}

/// Reads the body of `query` and `query_range`.
///
/// # Errors
/// Says where the body isn't what the API promises.
pub fn parse(body: &[u8]) -> Result<Page, String> {
    let body: Body = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let result = body.data.result;
    let answer = match body.data.result_type.as_str() {
        "streams" => Answer::Lines(rows(serde_json::from_value(result).map_err(|e| e.to_string())?)?),
        "matrix" => {
            let series: Vec<MatrixSeries> = serde_json::from_value(result).map_err(|e| e.to_string())?;
            let series = series.into_iter().map(|s| {
                Ok(Series {
                    labels: s.metric,
                    points: points(s.values)?,
                })
            });
            Answer::Matrix(series.collect::<Result<_, String>>()?)
        }
        "vector" => {
            let samples: Vec<VectorSample> = serde_json::from_value(result).map_err(|e| e.to_string())?;
            let series = samples.into_iter().map(|s| {
                Ok(Series {
                    labels: s.metric,
                    points: points(vec![s.value])?,
                })
            });
            Answer::Vector(series.collect::<Result<_, String>>()?)
        }
        "scalar" => {
            let value: (Value, String) = serde_json::from_value(result).map_err(|e| e.to_string())?;
            Answer::Vector(vec![Series {
                labels: Labels::new(),
                points: points(vec![value])?,
            }])
        }
        other => return Err(format!("unknown result type `{other}`")),
    };
    Ok(Page {
        answer,
        warnings: body.warnings,
        stats: body.data.stats,
    })
}

/// Reads a message of the tail: its lines, and how many the service says it left out.
///
/// # Errors
/// Says where the message isn't what the API promises.
pub fn parse_tail(text: &str) -> Result<(Vec<Row>, usize), String> {
    let message: TailMessage = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let dropped = message.dropped_entries.map_or(0, |entries| entries.len());
    Ok((rows(message.streams.unwrap_or_default())?, dropped))
}

fn rows(streams: Vec<Stream>) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    for stream in streams {
        let labels = Arc::new(stream.stream);
        for entry in stream.values {
            let (ts, line, categories) = match entry {
                Entry::Plain(ts, line) => (ts, line, Categories::default()),
                Entry::Categorized(ts, line, categories) => (ts, line, categories),
            };
            let ts = ts.parse().map_err(|_| format!("`{ts}` is no timestamp"))?;
            let mut fields = categories.structured_metadata;
            fields.extend(categories.parsed);
            rows.push(Row {
                ts,
                line,
                stream: Arc::clone(&labels),
                fields,
            });
        }
    }
    Ok(rows)
}

fn points(values: Vec<(Value, String)>) -> Result<Vec<(i64, String)>, String> {
    values
        .into_iter()
        .map(|(seconds, value)| {
            let seconds = seconds
                .as_f64()
                .ok_or_else(|| format!("`{seconds}` is no time"))?;
            #[expect(clippy::cast_possible_truncation, reason = "milliseconds of a plausible time")]
            let millis = (seconds * 1000.0).round() as i64;
            Ok((millis.saturating_mul(1_000_000), value))
        })
        .collect()
}
