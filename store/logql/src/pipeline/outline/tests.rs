//! Outlines against the parsers themselves.

#![allow(clippy::unwrap_used)]
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::pipeline::{EntryRef, Pipeline, Processed};
use crate::{Expr, Labels};

const QUERIES: [&str; 20] = [
    r#"| json | a="ab3f""#,
    r#"| json x="b.c", y="a" | x="true" | y!="12""#,
    r#"| logfmt | b="true" | job="j""#,
    r#"| json x="a", y="b.c""#,
    r#"| json job="a", y="b", z="none" | y > 5 or job_extracted="12""#,
    r#"| json a="job" | __error__="""#,
    "| json",
    r#"| json | a="1""#,
    "| json | b > 5",
    r#"| json | a="true" or b_c=~"1.*" | drop a"#,
    r#"| json | __error__="""#,
    r#"| json | job_extracted="1" | b != 12"#,
    "| logfmt",
    "| logfmt --keep-empty | a > 5",
    "| logfmt --strict",
    r#"| logfmt | b="12" | job="j""#,
    r#"| logfmt | a!="ab3f" | label_format z=a"#,
    "| pattern `{<a>:<b>,<_>`",
    r#"| pattern `<a>=<b> <c>` | b="x""#,
    "| pattern `a=<b> <_>`",
];

/// Stands for a variable.
const VARIABLE: char = '\u{1}';
/// What lines of any kind are made of.
const PIECES: [&str; 27] = [
    "\u{1}",
    "\u{1}",
    "\u{1}",
    r#"{"a":"#,
    r#","b":"#,
    r#","b":{"c":"#,
    r#"{"a":""#,
    r#"","job":""#,
    r#"":"#,
    r#",""#,
    "\"",
    "}",
    "}}",
    "{",
    "[",
    "]",
    ",",
    "-",
    ".",
    "true",
    "a=",
    " b=",
    " b=\"",
    "\" ",
    "\\",
    "\\u\u{1}",
    "\u{fffd}é",
];
const KEYS: [&str; 6] = ["a", "b", "job", "k\u{1}", "b_c", "a b"];
const VALUES: [&str; 9] = [
    "\u{1}",
    "\"\u{1}\"",
    "-\u{1}.\u{1}",
    "true",
    "\"x \\\\n\u{1} \\u\u{1}\"",
    "{\"c\":\u{1}}",
    "[\u{1}]",
    "null",
    "\"\"",
];
const WORDS: [&str; 7] = ["1", "12", "007", "ab3f", "true", "n4", "null"];

fn labels(processed: Option<Processed<'_>>) -> Option<Labels> {
    processed.map(|processed| processed.merged())
}

fn starts_with_digit(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit())
}

/// A template as the store would make it, and the values of each of its variables in three lines.
fn template() -> impl Strategy<Value = (String, Vec<usize>, Vec<Vec<&'static str>>)> {
    let any = prop::collection::vec(prop::sample::select(&PIECES[..]), 1..14);
    let pair = (prop::sample::select(&KEYS[..]), prop::sample::select(&VALUES[..]));
    let pairs = || prop::collection::vec(pair.clone(), 1..6);
    let json = pairs().prop_map(|pairs| {
        let pairs = pairs.iter().map(|(key, value)| format!("{key:?}:{value}"));
        format!(
            "{{{}}}",
            pairs.collect::<Vec<_>>().join(",").replace("\\u{1}", "\u{1}")
        )
    });
    let logfmt = pairs().prop_map(|pairs| {
        let pairs = pairs.iter().map(|(key, value)| format!("{key}={value}"));
        pairs.collect::<Vec<_>>().join(" ")
    });
    let text = prop_oneof![any.prop_map(|pieces| pieces.concat()), json, logfmt];
    let values = prop::collection::vec(prop::collection::vec(prop::sample::select(&WORDS[..]), 3), 30);
    (text, values).prop_map(|(text, mut values)| {
        let (mut template, mut places) = (String::new(), Vec::new());
        for c in text.chars() {
            // Words are as long as can be: no variable follows another.
            if c == VARIABLE && !template.ends_with('0') {
                places.push(template.len());
                template.push('0');
            } else if c != VARIABLE {
                template.push(c);
            }
        }
        values.truncate(places.len());
        (template, places, values)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn an_outline_gives_what_the_line_gives((text, places, values) in template(), required in any::<bool>()) {
        let word = |number: usize| {
            let words = &values[number];
            if words.iter().all(|word| starts_with_digit(word)) {
                Word::Number
            } else if words.iter().all(|word| starts_with_digit(word) || *word == "true") {
                Word::Scalar
            } else {
                Word::Any
            }
        };
        let skeleton = Skeleton { text: &text, variables: &places, word: &word };
        for query in QUERIES {
            let Expr::Log(expr) = crate::parse(&format!(r#"{{job="j"}} {query}"#)).unwrap() else { panic!() };
            let mut pipeline = Pipeline::new(&expr.stages).unwrap();
            prop_assert!(pipeline.has_outlines() || query.contains("label_format") || query.contains("`a=<b>"));
            if required {
                let names = ["a", "b_c"].map(|name| pipeline.names.intern(name));
                pipeline.hints.required = Some(names.to_vec());
            }
            let pipeline = Arc::new(pipeline);
            let (mut runner, mut other) = (pipeline.runner(), pipeline.runner());
            for runner in [&mut runner, &mut other] {
                runner.set_stream(&Labels::from_pairs([("job", "j")]));
            }
            let outline = runner.outline(&skeleton).filter(|_| pipeline.has_outlines());
            let test = runner.outline_of_test(&skeleton);
            for line in [0, 1, 2] {
                let filled = |range: Range<usize>, out: &mut String| {
                    let mut from = range.start;
                    for (number, &at) in places.iter().enumerate().filter(|(_, at)| range.contains(at)) {
                        out.push_str(&text[from..at]);
                        out.push_str(values[number][line]);
                        from = at + 1;
                    }
                    out.push_str(&text[from..range.end]);
                };
                let mut whole = String::new();
                filled(0..text.len(), &mut whole);
                let entry = EntryRef { ts: 0, line: &whole, metadata: &[] };
                let wanted = labels(other.process(&entry, true));
                for (label, filter) in pipeline.implied_filters() {
                    let may_pass = label == "job" || filter.matches(&whole);
                    prop_assert!(may_pass || wanted.is_none(), "{} {:?}", query, whole);
                }
                let read = |outline: &Outline, value: usize, out: &mut String| {
                    filled(outline.values()[value].clone(), out);
                };
                if let Some(outline) = &outline {
                    let line = OutlinedLine { outline, read: &|value, out| read(outline, value, out) };
                    let bare = EntryRef { line: "", ..entry };
                    prop_assert_eq!(labels(runner.process_outlined(&bare, line)), wanted.clone(), "{} {:?}", query, whole);
                }
                if let Some(outline) = &test {
                    let line = OutlinedLine { outline, read: &|value, out| read(outline, value, out) };
                    let passes = runner.may_pass(&entry, line);
                    prop_assert!(passes || wanted.is_none(), "{} {:?}", query, whole);
                }
            }
        }
    }
}

#[test]
fn lines_with_fields_have_outlines() {
    let text = r#"{"a":"x0","b":{"c":0,"d":0},"e":[0],"f":-0.0}"#;
    let variables: Vec<usize> = text.match_indices('0').map(|(at, _)| at).collect();
    let outlined = |query: &str, text: &str, variables: &[usize], word: Word| {
        let Expr::Log(expr) = crate::parse(&format!(r#"{{job="j"}} {query}"#)).unwrap() else {
            panic!()
        };
        let pipeline = Arc::new(Pipeline::new(&expr.stages).unwrap());
        let skeleton = Skeleton {
            text,
            variables,
            word: &|_| word,
        };
        let outline = pipeline.runner().outline(&skeleton)?;
        Some(
            outline
                .values()
                .iter()
                .map(|value| text[value.clone()].to_owned())
                .collect::<Vec<_>>(),
        )
    };
    let found = outlined("| json", text, &variables, Word::Scalar).unwrap();
    assert_eq!(found, ["x0", "0", "0", "-0.0"]);
    assert_eq!(outlined("| json", text, &variables, Word::Any), None);
    // Whether the escape is one depends on the variable.
    assert_eq!(outlined("| json", r#"{":\u0{"a":"#, &[5], Word::Number), None);
    let paths = r#"| json x="b.d", y="a", z="e""#;
    let found = outlined(paths, text, &variables, Word::Number).unwrap();
    assert_eq!(found, ["x0", "0", "[0]"]);
    assert_eq!(
        outlined(r#"| json x="e[0]""#, text, &variables, Word::Number),
        None
    );
    let found = outlined("| logfmt", "a=0 b=\"0 0\" 0", &[2, 7, 9, 12], Word::Any).unwrap();
    assert_eq!(found, ["0", "0 0"]);
    let found = outlined(
        "| pattern `<a> - [<b>] <_>`",
        "0.0 - [0] 0",
        &[0, 2, 7, 10],
        Word::Any,
    );
    assert_eq!(found.unwrap(), ["0.0", "0"]);
}
