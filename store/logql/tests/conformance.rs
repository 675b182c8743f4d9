//! The recorded answers of `../shared/conformance`, evaluated without a server. Skips, and says so, when the folder is absent.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use rankline_logql::{Expr, MetricPlan, Pipeline};
use serde_json::Value;

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
#[ignore = "templates are not complete yet"]
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
#[ignore = "templates are not complete yet"]
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
