//! Which fields a sample of lines has: structured metadata, and what `json` or else `logfmt` finds in each line.
//!
//! Works on rows that a log query gave; reads nothing itself.

use super::LogRow;
use rankline_logql::{EntryRef, Expr, Labels, ParseError, Pipeline, Runner, json_paths, labels_text, units};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

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

/// Units that stand behind a size in Loki's list: a value with one of them is spelled as queries take it.
const SIZE_UNITS: [&str; 13] = [
    "b", "ki", "k", "mi", "m", "gi", "g", "ti", "t", "pi", "p", "ei", "e",
];

/// A field's value as it can be put into a query: sizes get one spelling, `1.5 MiB` is `1.6MB` and `5m` is `5.0MB`, as in Loki.
fn query_value(value: &str) -> String {
    let lower = value.to_lowercase();
    match units::parse_bytes(value) {
        Ok(bytes) if SIZE_UNITS.iter().any(|unit| lower.ends_with(unit)) => {
            units::humanize_bytes(bytes).replace(' ', "")
        }
        _ => value.to_owned(),
    }
}

/// One field of a sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its type in the last entry that has it, where streams come one after another in the order of their labels.
    pub kind: FieldType,
    /// Parsers that fit the lines which have it, or that stand beside it; empty for structured metadata alone.
    pub parsers: BTreeSet<&'static str>,
    /// Keys that lead to it in the last JSON line that has it.
    pub json_path: Vec<String>,
    /// Distinct values of the sample.
    pub values: BTreeSet<String>,
    /// The same as they can be put into a query.
    pub query_values: BTreeSet<String>,
}

impl Field {
    fn note(&mut self, value: &str, query_value: String) {
        self.kind = FieldType::of(value);
        self.values.insert(value.to_owned());
        self.query_values.insert(query_value);
    }
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

    /// Labels that the parser makes of a line; none when it does not fit. Structured metadata is not in its way.
    fn labels(&mut self, stream: &Labels, row: &LogRow) -> Option<Vec<(String, String)>> {
        self.runner.set_stream(stream);
        let entry = EntryRef {
            ts: row.ts,
            line: &row.line,
            metadata: &[],
        };
        let processed = self.runner.process(&entry, false)?;
        let parsed: Vec<_> = processed
            .parsed()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let failed = parsed.iter().any(|(name, _)| name == "__error__");
        (!failed).then_some(parsed)
    }
}

/// The fields of a sample, by name. The rows come in the order of a log query's answer.
///
/// # Errors
/// Never for a sound build: the parsers' own query would have to be refused.
pub fn detect_fields(rows: &[LogRow]) -> Result<BTreeMap<String, Field>, ParseError> {
    let (mut json, mut logfmt) = (Parser::new("json")?, Parser::new("logfmt")?);
    let mut streams: BTreeMap<String, Vec<&LogRow>> = BTreeMap::new();
    for row in rows {
        streams
            .entry(labels_text(row.stream.iter()))
            .or_default()
            .push(row);
    }
    let mut fields = BTreeMap::new();
    for row in streams.into_values().flatten() {
        for (name, value) in row.metadata.iter() {
            field(&mut fields, name).note(value, value.to_owned());
        }
        note_line(row, &mut json, &mut logfmt, &mut fields)?;
    }
    Ok(fields)
}

/// What the query's own stages made of a row, and what the parser that fits makes of its line.
fn note_line(
    row: &LogRow,
    json: &mut Parser,
    logfmt: &mut Parser,
    fields: &mut BTreeMap<String, Field>,
) -> Result<(), ParseError> {
    let made = row.parsed.iter().filter(|(name, _)| !name.starts_with("__error"));
    let is_other = |(name, _): &(&str, &str)| row.parsed.get(name).is_none();
    let stream: Labels = row.stream.iter().filter(is_other).collect();
    let found = json.labels(&stream, row).map(|labels| (json.name, labels));
    let found = found.or_else(|| Some((logfmt.name, logfmt.labels(&stream, row)?)));
    let parser = found.as_ref().map(|(parser, _)| *parser);
    let paths: HashMap<String, Vec<String>> = match parser {
        Some("json") => {
            let target = |name: String| match stream.get(&name) {
                Some(_) => name + "_extracted",
                None => name,
            };
            let paths = json_paths(&row.line).into_iter();
            paths.map(|(name, path)| (target(name), path)).collect()
        }
        _ => HashMap::new(),
    };
    let parsed = found.map(|(_, labels)| labels).unwrap_or_default();
    let made = made.map(|(name, value)| (name.to_owned(), value.to_owned()));
    for (name, value) in made.chain(parsed) {
        let field = field(fields, &name);
        field.note(&value, query_value(&value));
        field.parsers.extend(parser);
        if parser == Some("json") {
            field.json_path = paths.get(&name).cloned().unwrap_or_default();
        }
    }
    Ok(())
}

fn field<'a>(fields: &'a mut BTreeMap<String, Field>, name: &str) -> &'a mut Field {
    fields.entry(name.to_owned()).or_insert_with(|| Field {
        kind: FieldType::Text,
        parsers: BTreeSet::new(),
        json_path: Vec::new(),
        values: BTreeSet::new(),
        query_values: BTreeSet::new(),
    })
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
    use rankline_logql::Labels;

    #[test]
    fn sizes_have_one_spelling_in_queries() {
        for (value, shown) in [
            ("0KB", "0B"),
            ("3KB", "3.0kB"),
            ("102KB", "102kB"),
            ("1.5 MiB", "1.6MB"),
            ("12 b", "12B"),
            ("1,500 kb", "1.5MB"),
            ("5m", "5.0MB"),
            ("2e", "2.0EB"),
            ("1.5 KiB", "1.5kB"),
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

    fn row(ts: i64, line: &str, metadata: &[(&str, &str)], parsed: &[(&str, &str)]) -> LogRow {
        LogRow {
            ts,
            line: line.into(),
            stream: Labels::from_sorted([("job", "x")]),
            metadata: Labels::from_sorted(metadata.iter().copied()),
            parsed: Labels::from_sorted(parsed.iter().copied()),
        }
    }

    #[test]
    fn metadata_and_lines_have_fields_of_one_name() {
        let rows = [
            row(
                2,
                r#"{"d":1.5,"a":{"b.c":"k"},"1st":3,"job":"y"}"#,
                &[("d", "9")],
                &[],
            ),
            row(1, "v=5m d=7", &[("d", "8"), ("m", "5k")], &[]),
        ];
        let fields = detect_fields(&rows).unwrap();
        let d = &fields["d"];
        assert_eq!(d.kind, FieldType::Int);
        assert_eq!(d.values.iter().collect::<Vec<_>>(), ["1.5", "7", "8", "9"]);
        assert_eq!(d.parsers.iter().collect::<Vec<_>>(), [&"json", &"logfmt"]);
        assert_eq!(d.json_path, ["d"]);
        assert_eq!(fields["a_b_c"].json_path, ["a", "b.c"]);
        assert_eq!(fields["_1st"].json_path, ["1st"]);
        assert_eq!(fields["job_extracted"].json_path, ["job"]);
        assert_eq!(fields["v"].query_values.iter().collect::<Vec<_>>(), ["5.0MB"]);
        // Structured metadata is compared as it is.
        assert_eq!(fields["m"].query_values.iter().collect::<Vec<_>>(), ["5k"]);
        assert!(fields["m"].parsers.is_empty());
    }

    #[test]
    fn labels_that_the_query_made_stand_beside_the_parser_that_fits() {
        let rows = [row(1, "n=3", &[], &[("made", "1"), ("__error__", "x")])];
        let fields = detect_fields(&rows).unwrap();
        assert_eq!(fields.keys().collect::<Vec<_>>(), ["made", "n"]);
        assert!(fields["made"].parsers.contains("logfmt"));
    }
}
