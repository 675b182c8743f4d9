//! Which fields a sample of lines has: structured metadata, and what `json` or else `logfmt` finds in each line.
//!
//! Works on rows that a log query gave; reads nothing itself.

use super::LogRow;
use rankline_logql::{EntryRef, Expr, Labels, ParseError, Pipeline, Runner, units};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// JSON nested deeper than this is not looked into.
const MAX_JSON_DEPTH: usize = 32;

/// What a field's values look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldType {
    /// Whole numbers.
    Int,
    /// Numbers with a fraction.
    Float,
    /// `true`, `false` and their short forms.
    Boolean,
    /// Such as `1.5s`.
    Duration,
    /// Such as `10kB`.
    Bytes,
    /// Anything else.
    Text,
}

impl FieldType {
    /// As Loki spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Int => "int",
            Self::Float => "float",
            Self::Boolean => "boolean",
            Self::Duration => "duration",
            Self::Bytes => "bytes",
            Self::Text => "string",
        }
    }

    /// The narrowest type the value fits, in Loki's order.
    pub fn of(value: &str) -> Self {
        if value.parse::<i64>().is_ok() {
            Self::Int
        } else if units::parse_go_float(value).is_ok() {
            Self::Float
        } else if matches!(
            value,
            "t" | "T" | "true" | "TRUE" | "True" | "f" | "F" | "false" | "FALSE" | "False"
        ) {
            Self::Boolean
        } else if units::parse_go_duration(value).is_ok() {
            Self::Duration
        } else if units::parse_bytes(value).is_ok() {
            Self::Bytes
        } else {
            Self::Text
        }
    }
}

/// A field's value as it can be put into a query: sizes get one spelling, `1.5 MiB` is `1.6MB`, as in Loki.
pub fn query_value(value: &str) -> String {
    match units::parse_bytes(value) {
        Ok(bytes) if value.ends_with(['b', 'B']) => units::humanize_bytes(bytes).replace(' ', ""),
        _ => value.to_owned(),
    }
}

/// One field of a sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its type in the last entry that has it.
    pub kind: FieldType,
    /// Stages that find it in a line; empty for structured metadata.
    pub parsers: BTreeSet<&'static str>,
    /// Keys that lead to it in a JSON line.
    pub json_path: Vec<String>,
    /// Distinct values of the sample.
    pub values: BTreeSet<String>,
}

/// A parser that is tried on every line.
struct Parser {
    name: &'static str,
    runner: Runner,
}

impl Parser {
    fn new(name: &'static str) -> Result<Self, ParseError> {
        let stages = match rankline_logql::parse(&format!("{{a=\"b\"}} | {name}"))? {
            Expr::Log(expr) => expr.stages,
            Expr::Metric(_) => Vec::new(),
        };
        Ok(Self {
            name,
            runner: Arc::new(Pipeline::new(&stages)?).runner(),
        })
    }

    /// Labels that the parser makes of a line; none when it does not fit.
    fn labels(&mut self, row: &LogRow) -> Option<Vec<(String, String)>> {
        let stream: Labels = row.stream.iter().collect();
        let metadata: Vec<(&str, &str)> = row.metadata.iter().collect();
        self.runner.set_stream(&stream);
        let entry = EntryRef {
            ts: row.ts,
            line: &row.line,
            metadata: &metadata,
        };
        let processed = self.runner.process(&entry, false)?;
        let parsed: Vec<_> = processed
            .parsed()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let failed = parsed.iter().any(|(name, _)| name == "__error__");
        (!failed && !parsed.is_empty()).then_some(parsed)
    }
}

/// The fields of a sample, by name.
///
/// # Errors
/// Never for a sound build: the parsers' own query would have to be refused.
pub fn detect_fields(rows: &[LogRow]) -> Result<BTreeMap<String, Field>, ParseError> {
    let (mut json, mut logfmt) = (Parser::new("json")?, Parser::new("logfmt")?);
    let mut fields: BTreeMap<String, Field> = BTreeMap::new();
    for row in rows {
        for (name, value) in row.metadata.iter() {
            note(&mut fields, name, value);
        }
        let mut known: HashMap<String, Vec<String>> = HashMap::new();
        let parser = if row.line.trim_start().starts_with('{') {
            json_paths(&row.line, &mut known)
        } else {
            false
        };
        let parser = if parser { &mut json } else { &mut logfmt };
        for (name, value) in parser.labels(row).unwrap_or_default() {
            let field = note(&mut fields, &name, &value);
            field.parsers.insert(parser.name);
            if let Some(path) = known.get(name.strip_suffix("_extracted").unwrap_or(&name)) {
                field.json_path.clone_from(path);
            }
        }
        for (name, value) in row.parsed.iter().filter(|(name, _)| !name.starts_with("__error")) {
            note(&mut fields, name, value);
        }
    }
    Ok(fields)
}

fn note<'a>(fields: &'a mut BTreeMap<String, Field>, name: &str, value: &str) -> &'a mut Field {
    let kind = FieldType::of(value);
    let new = || Field {
        kind,
        parsers: BTreeSet::new(),
        json_path: Vec::new(),
        values: BTreeSet::new(),
    };
    let field = fields.entry(name.to_owned()).or_insert_with(new);
    field.kind = kind;
    field.values.insert(value.to_owned());
    field
}

/// Fills `paths` with the keys that lead to each label of a JSON line; whether the line is a JSON object.
fn json_paths(line: &str, paths: &mut HashMap<String, Vec<String>>) -> bool {
    match serde_json::from_str::<serde_json::Value>(line) {
        Ok(serde_json::Value::Object(object)) => {
            walk(&object, &mut Vec::new(), paths);
            true
        }
        _ => false,
    }
}

fn walk(
    object: &serde_json::Map<String, serde_json::Value>,
    path: &mut Vec<String>,
    paths: &mut HashMap<String, Vec<String>>,
) {
    for (key, value) in object {
        path.push(key.clone());
        match value {
            serde_json::Value::Object(inner) if path.len() < MAX_JSON_DEPTH => walk(inner, path, paths),
            _ => {
                let name = path
                    .iter()
                    .map(|key| sanitised(key))
                    .collect::<Vec<_>>()
                    .join("_");
                paths.insert(name, path.clone());
            }
        }
        path.pop();
    }
}

/// A JSON key as part of a label name.
fn sanitised(key: &str) -> String {
    key.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '_' {
                c
            } else {
                '_'
            }
        })
        .collect()
}

/// Whether the values of a label look like numbers that name things: such labels make poor filters.
pub fn only_ids<'a>(values: impl Iterator<Item = &'a str> + Clone) -> bool {
    let uuid = |value: &str| {
        let groups: Vec<&str> = value.split('-').collect();
        let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
        lengths == [8, 4, 4, 4, 12] && value.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
    };
    // A label with the values 0 and 1 alone is a switch.
    let switch = values.clone().all(|value| value == "0" || value == "1");
    !switch
        && values
            .clone()
            .all(|value| value.parse::<f64>().is_ok() || uuid(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_one_spelling_in_queries() {
        for (value, shown) in [
            ("0KB", "0B"),
            ("3KB", "3.0kB"),
            ("102KB", "102kB"),
            ("1.5 MiB", "1.6MB"),
            ("12 b", "12B"),
            ("1,500 kb", "1.5MB"),
            ("5m", "5m"),
            ("5", "5"),
            ("hub", "hub"),
        ] {
            assert_eq!(query_value(value), shown, "{value}");
        }
    }

    #[test]
    fn types_are_the_narrowest_that_fit() {
        let cases = [
            ("12", FieldType::Int),
            ("-1.5", FieldType::Float),
            ("true", FieldType::Boolean),
            ("252ms", FieldType::Duration),
            ("1h2m3.5s", FieldType::Duration),
            ("49KB", FieldType::Bytes),
            ("1.5 MiB", FieldType::Bytes),
            ("1,024", FieldType::Bytes),
            ("5d", FieldType::Text),
            ("5ib", FieldType::Text),
            ("kb", FieldType::Text),
            ("1_000", FieldType::Float),
            ("3 apples", FieldType::Text),
            ("", FieldType::Text),
            ("s", FieldType::Text),
        ];
        for (value, kind) in cases {
            assert_eq!(FieldType::of(value), kind, "{value}");
        }
    }

    #[test]
    fn ids_are_numbers_and_uuids() {
        let ids = |values: &[&'static str]| only_ids(values.iter().copied());
        assert!(ids(&["200", "500"]));
        assert!(ids(&["6f1ed002-ab5d-4b5e-9c3f-000000000000"]));
        assert!(!ids(&["0", "1"]));
        assert!(!ids(&["200", "ok"]));
    }

    #[test]
    fn json_paths_lead_to_nested_labels() {
        let mut paths = HashMap::new();
        assert!(json_paths(
            r#"{"user":{"id":1,"full name":"x"},"ok":true}"#,
            &mut paths
        ));
        assert_eq!(paths["user_id"], ["user", "id"]);
        assert_eq!(paths["user_full_name"], ["user", "full name"]);
        assert!(!json_paths("[1]", &mut paths));
    }
}
