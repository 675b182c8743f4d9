//! What people mistype, beside what a real Loki says to it: the same words at the same place, and what to do about it.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use rankline_logql::{EvalLimits, EvalSpec, Expr, MetricPlan, ParseError, Pipeline, parse};
/// Queries and Loki's answers to them (status 400).
fn mistakes() -> Vec<(String, String)> {
    serde_json::from_str(include_str!("mistakes.json")).unwrap()
}

/// The text of what is wrong and the hint, from parsing or from making the stages.
fn refused(query: &str) -> (String, Option<String>) {
    let of_parse = |error: ParseError| (error.to_string(), error.hint().map(str::to_owned));
    match parse(query) {
        Err(error) => of_parse(error),
        Ok(Expr::Log(log)) => match Pipeline::new(&log.stages).map(Arc::new) {
            Err(error) => of_parse(error),
            Ok(_) => (String::new(), None),
        },
        Ok(Expr::Metric(expr)) => {
            let spec = EvalSpec {
                start: 0,
                end: 0,
                step: 0,
            };
            let limits = EvalLimits {
                max_series: 10,
                max_bytes: 1 << 20,
            };
            match MetricPlan::new(&expr, spec, limits) {
                Err(error) => (error.to_string(), None),
                Ok(_) => (String::new(), None),
            }
        }
    }
}

#[test]
fn words_and_places_are_those_of_loki() {
    let all = mistakes();
    assert!(all.len() >= 100, "{} mistakes", all.len());
    for (query, loki) in all {
        let (ours, _) = refused(&query);
        // The reader should learn what is wrong with the name: docs/differences-from-loki.md.
        if query.contains('ä') {
            assert!(ours.ends_with("invalid label name ä"), "{query}: {ours}");
            continue;
        }
        assert_eq!(ours.trim_end(), loki, "{query}");
    }
}

#[test]
fn most_mistakes_come_with_a_cure() {
    let all = mistakes();
    let without: Vec<String> = all
        .iter()
        .filter(|(query, _)| refused(query).1.is_none())
        .map(|(query, loki)| format!("{query}\n    {loki}"))
        .collect();
    assert!(
        without.len() * 10 <= all.len(),
        "{} of {} say nothing:\n{}",
        without.len(),
        all.len(),
        without.join("\n")
    );
}
