//! Parsers, filters and `decolorize` on any line: the first byte picks the stage, the rest of the first line is its argument.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use rankline_fuzz::{bounded, head_and_lines};
use rankline_logql::ast::{Extraction, LabelFilter, LineFilterExpr, LineFilterOp, LineFilterValue, Stage};
use rankline_logql::{EntryRef, Labels, Pipeline};

fuzz_target!(|text: &str| bounded(|| {
    let (head, lines) = head_and_lines(text);
    let mut rest = head.chars();
    let Some(stage) = rest.next().and_then(|kind| stage(kind, rest.as_str())) else {
        return;
    };
    let Ok(pipeline) = Pipeline::new(&[stage]) else {
        return;
    };
    let mut runner = Arc::new(pipeline).runner();
    runner.set_stream(&Labels::from_pairs([("app", "a"), ("rank", "3")]));
    for line in lines.take(64) {
        let entry = EntryRef {
            ts: 1,
            line,
            metadata: &[("addr", "10.0.0.1"), ("rank", "4")],
        };
        let Some(done) = runner.process(&entry, false) else {
            continue;
        };
        let labels = done.merged();
        assert!(labels.iter().is_sorted_by(|a, b| a.0 < b.0), "{labels:?}");
        assert!(labels.iter().all(|(name, _)| !name.is_empty()), "{labels:?}");
    }
}));

fn stage(kind: char, argument: &str) -> Option<Stage> {
    let params = || {
        let pair = |pair: &str| {
            let (name, expression) = pair.split_once('=')?;
            // The parser gives no other names.
            let named = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            named.then(|| Extraction {
                name: name.to_owned(),
                expression: expression.to_owned(),
            })
        };
        argument.split(',').filter_map(pair).collect::<Vec<_>>()
    };
    let filter = |op, ip| {
        let value = if ip {
            LineFilterValue::Ip
        } else {
            LineFilterValue::Text
        };
        Stage::LineFilter(LineFilterExpr {
            op,
            values: argument.split(',').map(|text| value(text.to_owned())).collect(),
        })
    };
    Some(match kind {
        'j' => Stage::Json(params()),
        'l' => Stage::Logfmt {
            strict: false,
            keep_empty: false,
            params: params(),
        },
        's' => Stage::Logfmt {
            strict: true,
            keep_empty: true,
            params: params(),
        },
        'r' => Stage::Regexp(argument.to_owned()),
        'p' => Stage::Pattern(argument.to_owned()),
        'u' => Stage::Unpack,
        'd' => Stage::Decolorize,
        '=' => filter(LineFilterOp::Contains, false),
        '~' => filter(LineFilterOp::Regex, false),
        '!' => filter(LineFilterOp::NotRegex, false),
        '>' => filter(LineFilterOp::Pattern, false),
        'i' => filter(LineFilterOp::Contains, true),
        'a' => Stage::LabelFilter(LabelFilter::Ip {
            name: "addr".to_owned(),
            equal: true,
            pattern: argument.to_owned(),
        }),
        _ => return None,
    })
}
