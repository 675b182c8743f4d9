//! LogQL's text: parsing ends, what is parsed prints as a query with the same meaning, and compiling it is bounded.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use rankline_fuzz::bounded;
use rankline_logql::{
    EvalLimits, EvalSpec, Expr, MetricPlan, Pipeline, format_query, parse, parse_labels, parse_selector,
    parse_unchecked,
};

fuzz_target!(|text: &str| bounded(|| {
    let _ = parse_labels(text);
    let _ = parse_selector(text);
    let _ = parse_unchecked(text);
    let Ok(expr) = parse(text) else {
        return;
    };
    // Numbers may be NaN, which no comparison of trees calls equal.
    let tree = shown(&expr);
    let printed = expr.to_string();
    let again = parse(&printed).unwrap_or_else(|error| panic!("{printed:?} came from {text:?}: {error}"));
    assert_eq!(shown(&again), tree, "{printed:?} came from {text:?}");
    let pretty = format_query(text).unwrap_or_else(|error| panic!("{text:?} is not formatted: {error}"));
    let again = parse(&pretty).unwrap_or_else(|error| panic!("{pretty:?} came from {text:?}: {error}"));
    assert_eq!(shown(&again), tree, "{pretty:?} came from {text:?}");
    compile(&expr);
}));

/// The tree as text; a zero without its sign, which no comparison sees and the printer of label filters leaves out.
fn shown(expr: &Expr) -> String {
    format!("{expr:?}").replace("value: -0.0", "value: 0.0")
}

fn compile(expr: &Expr) {
    match expr {
        Expr::Log(log) => {
            let _ = Pipeline::new(&log.stages).map(Arc::new);
        }
        Expr::Metric(metric) => {
            let spec = EvalSpec {
                start: 0,
                end: 60_000_000_000,
                step: 10_000_000_000,
            };
            let limits = EvalLimits {
                max_series: 100,
                max_bytes: 1 << 20,
            };
            let _ = MetricPlan::new(metric, spec, limits);
        }
    }
}
