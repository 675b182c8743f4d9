//! The recorded answers of `../shared/conformance`, evaluated without a server. Skips, and says so, when the folder is absent.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use rankline_logql::{EntryRef, EvalLimits, EvalSpec, Expr, Labels, MetricPlan, MetricValue, Pipeline};
use serde_json::{Value, json};

fn folder() -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance");
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("skipped: {} is absent", path.display());
    None
}

fn json_lines(path: &std::path::Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// All cases, by group.
fn cases() -> Option<BTreeMap<String, Vec<Value>>> {
    let folder = folder()?;
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder.join("cases")).unwrap() {
        let path = entry.unwrap().path();
        let group = path.file_stem().unwrap().to_string_lossy().into_owned();
        all.insert(group, json_lines(&path));
    }
    Some(all)
}

fn param<'a>(case: &'a Value, name: &str) -> Option<&'a str> {
    let list = case["params"].as_array()?;
    list.iter()
        .find(|pair| pair[0] == name)
        .and_then(|pair| pair[1].as_str())
}

fn is_query(case: &Value) -> bool {
    let path = case["path"].as_str().unwrap();
    (path.ends_with("/query_range") || path.ends_with("/query")) && !path.starts_with("/api/prom")
}

/// Parses and compiles, as far as one gets without data.
fn prepare(query: &str) -> Result<(), String> {
    match rankline_logql::parse(query).map_err(|error| error.to_string())? {
        Expr::Log(log) => Pipeline::new(&log.stages)
            .map(drop)
            .map_err(|error| error.to_string()),
        Expr::Metric(expr) => {
            let spec = rankline_logql::EvalSpec {
                start: 0,
                end: 0,
                step: 1,
            };
            let limits = rankline_logql::EvalLimits {
                max_series: 1000,
                max_bytes: 1 << 20,
            };
            MetricPlan::new(&expr, spec, limits)
                .map(drop)
                .map_err(|error| error.to_string())
        }
    }
}

#[test]
fn every_answered_query_parses() {
    let Some(cases) = cases() else { return };
    let mut count = 0;
    let mut failures = Vec::new();
    for case in cases.values().flatten().filter(|case| is_query(case)) {
        let Some(query) = param(case, "query") else {
            continue;
        };
        if case["expect"]["status"] != 200 {
            continue;
        }
        count += 1;
        if let Err(error) = prepare(query) {
            failures.push(format!("{query}\n    {error}"));
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {count} fail:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

#[test]
fn every_refused_query_is_refused() {
    let Some(cases) = cases() else { return };
    let mut failures = Vec::new();
    let mut texts = (0, 0);
    for case in &cases["errors-logql"] {
        let (Some(query), 400) = (param(case, "query"), case["expect"]["status"].as_i64().unwrap()) else {
            continue;
        };
        let expected = case["expect"]["body"].as_str().unwrap();
        if case["path"].as_str().unwrap().ends_with("format_query") {
            assert!(rankline_logql::format_query(query).is_err(), "{query}");
            continue;
        }
        texts.1 += 1;
        match prepare(query) {
            Ok(()) => failures.push(format!("{query}\n    {expected}")),
            Err(error) if error == expected => texts.0 += 1,
            Err(error) => eprintln!("{query}\n    expected {expected}\n    got      {error}"),
        }
    }
    eprintln!("{} of {} error texts are equal", texts.0, texts.1);
    assert!(failures.is_empty(), "accepted:\n{}", failures.join("\n"));
}

#[test]
fn queries_are_printed_as_recorded() {
    let Some(cases) = cases() else { return };
    for case in &cases["format-query"] {
        let query = param(case, "query").unwrap();
        let expected = case["expect"]["body"]["data"].as_str().unwrap();
        assert_eq!(rankline_logql::format_query(query).unwrap(), expected);
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Evaluation without a server: the datasets in memory, the cases of the LogQL groups against them.

/// One stored entry.
struct Stored {
    ts: i64,
    line: String,
    metadata: Vec<(String, String)>,
}

type Store = BTreeMap<Labels, Vec<Stored>>;

/// The first non-empty of these names a stream's service.
const SERVICE_NAMES: [&str; 13] = [
    "service",
    "app",
    "application",
    "app_name",
    "name",
    "app_kubernetes_io_name",
    "container",
    "container_name",
    "k8s_container_name",
    "component",
    "workload",
    "job",
    "k8s_job_name",
];

fn load() -> Option<Store> {
    let folder = folder()?;
    let mut store = Store::new();
    for file in ["a-training", "b-formats", "c-timing"] {
        for push in json_lines(&folder.join(format!("datasets/{file}.jsonl"))) {
            for stream in push["json"]["streams"].as_array().unwrap() {
                add_stream(&mut store, stream);
            }
        }
    }
    for entries in store.values_mut() {
        entries.sort_by_key(|entry| entry.ts);
    }
    Some(store)
}

fn add_stream(store: &mut Store, stream: &Value) {
    let mut labels: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in stream["stream"].as_object().unwrap() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if !value.is_empty() {
            labels.insert(name.clone(), value);
        }
    }
    if !labels.contains_key("service_name") {
        let service = SERVICE_NAMES.iter().find_map(|name| labels.get(*name)).cloned();
        labels.insert(
            "service_name".into(),
            service.unwrap_or_else(|| "unknown_service".into()),
        );
    }
    let labels: Labels = labels.into_iter().collect();
    for value in stream["values"].as_array().unwrap() {
        let ts: i64 = value[0].as_str().unwrap().parse().unwrap();
        let line = value[1].as_str().unwrap().to_owned();
        let mut metadata: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in value[2].as_object().into_iter().flatten() {
            metadata.insert(name.clone(), value.as_str().unwrap().to_owned());
        }
        let level = level(&labels, &metadata, &line);
        metadata.insert("detected_level".into(), level);
        let metadata: Vec<(String, String)> = metadata.into_iter().collect();
        let entries = store.entry(labels.clone()).or_default();
        let known = |entry: &Stored| entry.ts == ts && entry.line == line && entry.metadata == metadata;
        if !entries.iter().any(known) {
            entries.push(Stored { ts, line, metadata });
        }
    }
}

const LEVEL_FIELDS: [&str; 14] = [
    "level",
    "LEVEL",
    "Level",
    "log.level",
    "severity",
    "SEVERITY",
    "Severity",
    "SeverityText",
    "lvl",
    "LVL",
    "Lvl",
    "severity_text",
    "Severity_Text",
    "SEVERITY_TEXT",
];

fn level(labels: &Labels, metadata: &BTreeMap<String, String>, line: &str) -> String {
    let normal = |value: &str| known_level(value).map_or_else(|| value.to_owned(), str::to_owned);
    if let Some(value) = metadata.get("detected_level") {
        return normal(value);
    }
    if let Some(value) = LEVEL_FIELDS.iter().find_map(|field| labels.get(field)) {
        return normal(value);
    }
    if let Some(value) = LEVEL_FIELDS.iter().find_map(|field| metadata.get(*field)) {
        return normal(value);
    }
    level_of_line(line).unwrap_or("unknown").to_owned()
}

fn known_level(value: &str) -> Option<&'static str> {
    Some(match value.to_ascii_lowercase().as_str() {
        "trace" | "trc" => "trace",
        "debug" | "dbg" => "debug",
        "info" | "inf" | "information" => "info",
        "warn" | "wrn" | "warning" => "warn",
        "error" | "err" => "error",
        "critical" => "critical",
        "fatal" => "fatal",
        _ => return None,
    })
}

fn level_of_line(line: &str) -> Option<&'static str> {
    let trimmed = line.trim();
    let mut found = None;
    if trimmed.starts_with('{') && trimmed.ends_with('}') {
        if let Ok(Value::Object(object)) = serde_json::from_str::<Value>(trimmed) {
            found = LEVEL_FIELDS
                .iter()
                .find_map(|field| object.get(*field)?.as_str())
                .map(str::to_owned);
        }
    } else if line.contains('=') {
        found = LEVEL_FIELDS.iter().find_map(|field| {
            line.split_whitespace().find_map(|pair| {
                let (key, value) = pair.split_once('=')?;
                key.eq_ignore_ascii_case(field)
                    .then(|| value.trim_matches('"').to_owned())
            })
        });
    }
    if let Some(level) = found.as_deref().and_then(known_level) {
        return Some(level);
    }
    let lower = line.to_ascii_lowercase();
    let words = [
        "trace", "debug", "fatal", "critical", "error", "err", "warning", "warn", "info",
    ];
    let bounded = |at: usize, length: usize| {
        let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
        let bytes = lower.as_bytes();
        (at == 0 || !word(bytes[at - 1])) && bytes.get(at + length).is_none_or(|c| !word(*c))
    };
    let first = words
        .iter()
        .flat_map(|word| lower.match_indices(word))
        .filter(|(at, word)| bounded(*at, word.len()))
        .min_by_key(|(at, _)| *at);
    first.and_then(|(_, word)| known_level(word))
}

/// A timestamp parameter: ns, seconds up to ten digits, or a fraction of seconds.
fn timestamp(text: &str) -> Option<i64> {
    if text.contains('.') {
        let seconds: f64 = text.parse().ok()?;
        #[allow(clippy::cast_possible_truncation)]
        return Some((seconds * 1000.0).round() as i64 * 1_000_000);
    }
    let value: i64 = text.parse().ok()?;
    Some(if text.len() <= 10 {
        value * 1_000_000_000
    } else {
        value
    })
}

fn duration(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.parse::<f64>() {
        #[allow(clippy::cast_possible_truncation)]
        return Some((seconds * 1e9) as i64).filter(|step| *step > 0);
    }
    let query = format!("count_over_time({{a=\"b\"}}[{text}])");
    match rankline_logql::parse(&query).ok()? {
        Expr::Metric(rankline_logql::MetricExpr::Range(range)) => Some(range.range.range),
        _ => None,
    }
}

/// The answer's `data`, or the error's text.
fn answer(store: &Store, case: &Value) -> Result<Value, String> {
    let query = param(case, "query").unwrap();
    let instant = case["path"].as_str().unwrap().ends_with("/query");
    match rankline_logql::parse(query).map_err(|error| error.to_string())? {
        Expr::Log(_) if instant => Err("log queries are not supported as an instant query type".into()),
        Expr::Log(log) => log_answer(store, case, &log),
        Expr::Metric(expr) => metric_answer(store, case, &expr, instant),
    }
}

fn log_answer(store: &Store, case: &Value, log: &rankline_logql::LogExpr) -> Result<Value, String> {
    let categorized = case["headers"]["X-Loki-Response-Encoding-Flags"]
        .as_str()
        .is_some_and(|flags| flags.split(',').any(|flag| flag == "categorize-labels"));
    let pipeline = Arc::new(Pipeline::new(&log.stages).map_err(|error| error.to_string())?);
    let (start, end) = (
        timestamp(param(case, "start").unwrap()).unwrap(),
        timestamp(param(case, "end").unwrap()).unwrap(),
    );
    let forward = param(case, "direction").is_some_and(|text| text.eq_ignore_ascii_case("forward"));
    let limit: usize = param(case, "limit").map_or(100, |text| text.parse().unwrap());
    let mut runner = pipeline.runner();
    let mut found: Vec<(i64, Value, Value)> = Vec::new();
    for (labels, entries) in store
        .iter()
        .filter(|(labels, _)| log.matchers.iter().all(|m| m.matches_labels(labels)))
    {
        runner.set_stream(labels);
        let first_of_stream = found.len();
        for entry in entries.iter().filter(|entry| (start..end).contains(&entry.ts)) {
            let metadata: Vec<(&str, &str)> = entry
                .metadata
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            let entry = EntryRef {
                ts: entry.ts,
                line: &entry.line,
                metadata: &metadata,
            };
            let Some(processed) = runner.process(&entry, false) else {
                continue;
            };
            let object = |pairs: Vec<(&str, &str)>| -> Value {
                pairs
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), Value::from(value)))
                    .collect()
            };
            let mut row = vec![Value::from(entry.ts.to_string()), Value::from(processed.line())];
            let stream = if categorized {
                let mut extra = serde_json::Map::new();
                for (key, pairs) in [
                    ("structuredMetadata", processed.metadata().collect::<Vec<_>>()),
                    ("parsed", processed.parsed().collect()),
                ] {
                    if !pairs.is_empty() {
                        extra.insert(key.into(), object(pairs));
                    }
                }
                row.push(Value::Object(extra));
                object(processed.stream().collect())
            } else {
                object(processed.merged().iter().collect())
            };
            // Entries of one stream that the stages made equal are one.
            let row = (entry.ts, stream, Value::Array(row));
            if !found[first_of_stream..].contains(&row) {
                found.push(row);
            }
        }
    }
    if forward {
        found.sort_by_key(|(ts, ..)| *ts);
    } else {
        found.sort_by_key(|(ts, ..)| std::cmp::Reverse(*ts));
    }
    found.truncate(limit);
    let mut streams: BTreeMap<String, (Value, Vec<Value>)> = BTreeMap::new();
    for (_, stream, row) in found {
        streams
            .entry(stream.to_string())
            .or_insert_with(|| (stream, Vec::new()))
            .1
            .push(row);
    }
    let result: Vec<Value> = streams
        .into_values()
        .map(|(stream, values)| json!({"stream": stream, "values": values}))
        .collect();
    Ok(json!({"resultType": "streams", "result": result}))
}

fn metric_answer(
    store: &Store,
    case: &Value,
    expr: &rankline_logql::MetricExpr,
    instant: bool,
) -> Result<Value, String> {
    let spec = if instant {
        let time = timestamp(param(case, "time").unwrap()).unwrap();
        EvalSpec {
            start: time,
            end: time,
            step: 1,
        }
    } else {
        let start = timestamp(param(case, "start").unwrap()).unwrap();
        let end = timestamp(param(case, "end").unwrap()).unwrap();
        let default_step = ((end - start) / 250 / 1_000_000_000).max(1) * 1_000_000_000;
        let step = param(case, "step").map_or(default_step, |text| duration(text).unwrap_or(default_step));
        EvalSpec {
            start,
            end,
            step: step / 1_000_000 * 1_000_000,
        }
    };
    let limits = EvalLimits {
        max_series: 100_000,
        max_bytes: 1 << 30,
    };
    let plan = MetricPlan::new(expr, spec, limits).map_err(|error| error.to_string())?;
    let mut accumulators = Vec::new();
    for leaf in plan.leaves() {
        // Two workers, so that merging is part of every case.
        let mut workers = [leaf.accumulator(), leaf.accumulator()];
        let (from, to) = leaf.time_range();
        for (labels, entries) in store
            .iter()
            .filter(|(labels, _)| leaf.matchers().iter().all(|m| m.matches_labels(labels)))
        {
            for (index, worker) in workers.iter_mut().enumerate() {
                worker.set_stream(labels);
                let half = entries.len() / 2;
                let part = if index == 0 {
                    &entries[half..]
                } else {
                    &entries[..half]
                };
                for entry in part.iter().filter(|entry| (from..to).contains(&entry.ts)) {
                    let metadata: Vec<(&str, &str)> = entry
                        .metadata
                        .iter()
                        .map(|(name, value)| (name.as_str(), value.as_str()))
                        .collect();
                    let entry = EntryRef {
                        ts: entry.ts,
                        line: &entry.line,
                        metadata: &metadata,
                    };
                    worker.add(&entry, false).map_err(|error| error.to_string())?;
                }
            }
        }
        let [mut first, second] = workers;
        first.merge(second).map_err(|error| error.to_string())?;
        accumulators.push(first);
    }
    let value = if instant {
        plan.finish_instant(accumulators)
    } else {
        plan.finish_range(accumulators)
    };
    let labels = |labels: &Labels| -> Value {
        labels
            .iter()
            .map(|(name, value)| (name.to_owned(), Value::from(value)))
            .collect()
    };
    let number = |value: f64| match value {
        value if value == f64::INFINITY => "+Inf".to_owned(),
        value if value == f64::NEG_INFINITY => "-Inf".to_owned(),
        value => value.to_string(),
    };
    #[allow(clippy::cast_precision_loss)]
    let seconds = |ms: i64| ms as f64 / 1000.0;
    Ok(match value.map_err(|error| error.to_string())? {
        MetricValue::Scalar(value) => json!({"resultType": "scalar", "result": [0, number(value)]}),
        MetricValue::Vector(samples) => {
            let time = seconds(spec.start / 1_000_000);
            let sample = |sample: &rankline_logql::Sample| json!({"metric": labels(&sample.labels), "value": [time, number(sample.value)]});
            json!({"resultType": "vector", "result": samples.iter().map(sample).collect::<Vec<_>>()})
        }
        MetricValue::Matrix(list) => {
            let series = |series: &rankline_logql::Series| {
                let values: Vec<Value> = series
                    .points
                    .iter()
                    .map(|(ms, value)| json!([seconds(*ms), number(*value)]))
                    .collect();
                json!({"metric": labels(&series.labels), "values": values})
            };
            json!({"resultType": "matrix", "result": list.iter().map(series).collect::<Vec<_>>()})
        }
    })
}

// ---------------------------------------------------------------------------------------------------------------
// Comparison, by the rules of the suite's README.

fn same_number(a: &Value, b: &Value) -> bool {
    let (Some(a), Some(b)) = (a.as_str(), b.as_str()) else {
        return false;
    };
    let (a, b): (f64, f64) = (a.parse().unwrap(), b.parse().unwrap());
    a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

fn by_labels(list: &Value, field: &str) -> BTreeMap<String, Value> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|item| (item[field].to_string(), item.clone()))
        .collect()
}

fn same_points(a: &Value, b: &Value) -> bool {
    let (a, b) = (a.as_array().unwrap(), b.as_array().unwrap());
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .all(|(a, b)| a[0].as_f64() == b[0].as_f64() && same_number(&a[1], &b[1]))
}

/// `None` when equal, else where they differ.
fn difference(expected: &Value, got: &Value, ordered: bool) -> Option<String> {
    if expected["resultType"] != got["resultType"] {
        return Some(format!(
            "{} instead of {}",
            got["resultType"], expected["resultType"]
        ));
    }
    if expected["resultType"] == "scalar" {
        let same = same_number(&expected["result"][1], &got["result"][1]);
        return (!same).then(|| format!("{} instead of {}", got["result"], expected["result"]));
    }
    let field = if expected["resultType"] == "streams" {
        "stream"
    } else {
        "metric"
    };
    let (wanted, found) = (
        by_labels(&expected["result"], field),
        by_labels(&got["result"], field),
    );
    let missing: Vec<&String> = wanted.keys().filter(|key| !found.contains_key(*key)).collect();
    let extra: Vec<&String> = found.keys().filter(|key| !wanted.contains_key(*key)).collect();
    if let (Some(first), _) | (_, Some(first)) = (missing.first(), extra.first()) {
        let other = extra.first().map_or("nothing", |text| text.as_str());
        return Some(format!(
            "{} missing, {} extra, such as\n      {first}\n      {other}",
            missing.len(),
            extra.len()
        ));
    }
    for (key, wanted) in &wanted {
        let found = &found[key];
        let same = match field {
            "stream" => {
                // Entries of one timestamp may come in any order.
                let sorted = |list: &Value| {
                    let mut list: Vec<String> =
                        list.as_array().unwrap().iter().map(Value::to_string).collect();
                    list.sort();
                    list
                };
                sorted(&wanted["values"]) == sorted(&found["values"])
            }
            _ if wanted["value"].is_array() => {
                same_points(&json!([wanted["value"]]), &json!([found["value"]]))
            }
            _ => same_points(&wanted["values"], &found["values"]),
        };
        if !same {
            return Some(format!("{key}\n      expected {wanted}\n      got      {found}"));
        }
    }
    let order = |data: &Value| -> Vec<String> {
        data["result"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item[field].to_string())
            .collect()
    };
    (ordered && order(expected) != order(got)).then(|| "another order".to_owned())
}

/// Groups of cases that ask about LogQL alone.
const GROUPS: [&str; 19] = [
    "binary-operations",
    "drop-keep",
    "encoding-flags",
    "errors-logql",
    "errors-runtime",
    "functions",
    "label-filters",
    "label-format",
    "line-filters",
    "line-format",
    "log-content",
    "log-ranges",
    "parser-json",
    "parser-logfmt",
    "parser-pattern",
    "parser-regexp",
    "parser-unpack",
    "range-aggregations",
    "vector-aggregations",
];

#[test]
fn answers_are_as_recorded() {
    let (Some(cases), Some(store)) = (cases(), load()) else {
        return;
    };
    let (mut passed, mut failures) = (0, Vec::new());
    for group in GROUPS.iter().chain(&["selectors"]) {
        for case in cases[*group]
            .iter()
            .filter(|case| is_query(case) && case["phase"].as_i64().unwrap_or(1) == 1)
        {
            let range = case["path"].as_str().unwrap().ends_with("/query_range");
            let Some(query) = param(case, "query") else {
                continue;
            };
            // Defaults of parameters, tenants and intervals are the server's business.
            let has = |name: &str| param(case, name).and_then(timestamp).is_some();
            let timed = if range {
                has("start") && has("end")
            } else {
                has("time")
            };
            if !timed || param(case, "interval").is_some() || case["instance"] == "auth" {
                continue;
            }
            let got = answer(&store, case);
            let status = case["expect"]["status"].as_i64().unwrap();
            let problem = match (status, got) {
                (200, Ok(got)) => {
                    let ordered = case["expect"]["options"]["ordered"] == true;
                    difference(&case["expect"]["body"]["data"], &got, ordered)
                }
                (200, Err(error)) => Some(error),
                (_, Err(_)) => None,
                (status, Ok(_)) => Some(format!("answered instead of {status} {}", case["expect"]["body"])),
            };
            match problem {
                None => passed += 1,
                Some(problem) => failures.push(format!("{}: {query}\n    {problem}", case["id"])),
            }
        }
    }
    eprintln!("{passed} pass, {} fail", failures.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
