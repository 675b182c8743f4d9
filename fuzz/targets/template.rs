//! Go templates: the first line is the template of a `line_format` and of a `label_format`, the others are lines.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use rankline_fuzz::{bounded, head_and_lines};
use rankline_logql::{
    EntryRef, Labels, Pipeline,
    ast::{LabelFormat, LabelFormatValue, Stage},
};

/// What a template may write, and the most that a function adds to it: see `docs/differences-from-loki.md`.
const MOST_BYTES: usize = 5 << 20;

fuzz_target!(|text: &str| bounded(|| {
    let (template, lines) = head_and_lines(text);
    let label = LabelFormat {
        name: "made".to_owned(),
        value: LabelFormatValue::Template(template.to_owned()),
    };
    let logfmt = Stage::Logfmt {
        strict: false,
        keep_empty: false,
        params: Vec::new(),
    };
    let stages = [
        logfmt,
        Stage::LabelFormat(vec![label]),
        Stage::LineFormat(template.to_owned()),
    ];
    let Ok(pipeline) = Pipeline::new(&stages) else {
        return;
    };
    let mut runner = Arc::new(pipeline).runner();
    runner.set_stream(&Labels::from_pairs([
        ("app", "a"),
        ("rank", "3"),
        ("when", "2024-02-29T23:59:59.5Z"),
    ]));
    for line in lines.take(8) {
        let entry = EntryRef {
            ts: 1_700_000_000_123_456_789,
            line,
            metadata: &[("size", "1.5KB"), ("took", "1m3s")],
        };
        let done = runner.process(&entry, false).expect("formats drop nothing");
        assert!(done.line().len() <= MOST_BYTES, "{} bytes", done.line().len());
    }
}));
