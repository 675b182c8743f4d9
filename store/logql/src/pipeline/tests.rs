#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::Labels;
use crate::syntax::ast::Expr;

fn pipeline(stages: &str) -> Arc<Pipeline> {
    let query = format!("{{job=\"j\"}} {stages}");
    let Expr::Log(log) = crate::parse(&query).unwrap_or_else(|error| panic!("{query}: {error}")) else {
        panic!("{query} is no log query")
    };
    Arc::new(Pipeline::new(&log.stages).unwrap_or_else(|error| panic!("{query}: {error}")))
}

/// Line and labels that stages made, as text; `None` when dropped.
fn run(stages: &str, line: &str) -> Option<(String, String)> {
    let mut runner = pipeline(stages).runner();
    runner.set_stream(&Labels::from_pairs([("app", "web"), ("job", "j")]));
    let metadata = [("trace", "t1")];
    let entry = EntryRef {
        ts: 1_500_000_000,
        line,
        metadata: &metadata,
    };
    let processed = runner.process(&entry, false)?;
    let parsed: Vec<String> = processed
        .parsed()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    Some((processed.line().to_owned(), parsed.join(" ")))
}

fn parsed(stages: &str, line: &str) -> String {
    run(stages, line).map_or_else(|| "dropped".to_owned(), |(_, labels)| labels)
}

#[test]
fn line_filters() {
    let cases = [
        (r#"|= "b""#, "abc", true),
        (r#"|= """#, "abc", true),
        (r#"!= """#, "abc", false),
        (r#"!= "b" or "z""#, "abc", false),
        (r#"!= "y" or "z""#, "abc", true),
        (r#"|~ "B""#, "abc", false),
        (r#"|~ "(?i)B""#, "abc", true),
        (r#"|~ "a.c""#, "a\nc", false),
        (r#"|~ "a+b" |= "c""#, "aabc", true),
        (r#"|> "a<_>c""#, "abc", true),
        (r#"|> "a<_>""#, "a", false),
        (r#"|> "b<_>""#, "abc", true),
        (r#"|> "a<_>b""#, "abc", false),
        (r#"!> "a<_>c""#, "abc", false),
        (r#"|= ip("10.0.0.0/8")"#, "from 10.1.2.3:80", true),
        (r#"|= ip("10.0.0.0/8")"#, "from 11.1.2.3", false),
        (r#"|= ip("::1")"#, "[::1]:80", true),
        (r#"!= ip("1.1.1.1-1.1.1.9")"#, "1.1.1.5", false),
    ];
    for (stages, line, passes) in cases {
        assert_eq!(run(stages, line).is_some(), passes, "{stages} on {line:?}");
    }
}

#[test]
fn head_filters_tell_storage_what_they_need() {
    let pipeline = pipeline(r#"|= "a" | json |~ "xx(y|z)z+" | line_format "{{.a}}" |= "late""#);
    let found: Vec<(Option<&str>, bool)> = pipeline
        .head_filters()
        .iter()
        .map(|f| (f.required_literal(), f.is_exactly_contains()))
        .collect();
    assert_eq!(found, [(Some("a"), true), (Some("xx"), false)]);
}

#[test]
fn parsers() {
    let cases = [
        (
            "| json",
            r#"{"a":{"b c":1,"d":[1]},"n":null,"t":true,"9x":"y","app":"inner"}"#,
            "_9x=y a_b_c=1 app_extracted=inner t=true",
        ),
        ("| json", r#"{"a":1,"a":2}"#, "a=1"),
        ("| json", r#"{"x":"\u00e9\ud83d\ude00\n"}"#, "x=é😀\n"),
        (
            "| json",
            r#"{"a":1, "b"#,
            "__error__=JSONParserErr __error_details__=Malformed JSON error a=1",
        ),
        (
            "| json",
            "plain",
            "__error__=JSONParserErr __error_details__=Value looks like object, but can't find closing '}' symbol",
        ),
        ("| json", r#"{"trace":"inner"}"#, "trace_extracted=inner"),
        (
            r#"| json x="a.b[1]", y="[\"k k\"]", z"#,
            r#"{"a":{"b":[1,"two"]},"k k":{"o":1}}"#,
            "x=two y={\"o\":1} z=",
        ),
        (r#"| json x="a""#, " {\"a\":1}", "__error__=JSONParserErr"),
        (
            "| logfmt",
            r#"a=1 b="x \"y\"" c d= =e f=g=h i=j"#,
            "a=1 b=x \"y\" i=j",
        ),
        ("| logfmt --keep-empty", "a= b", "a= b="),
        (
            "| logfmt --strict",
            "a=1 =b c=2",
            "__error__=LogfmtParserErr __error_details__=logfmt syntax error at pos 5 : unexpected '=' a=1",
        ),
        (r#"| logfmt x="a", y"#, "a=1", "x=1 y="),
        (r#"| regexp "(?P<x>\\d+)(?P<y>z)?""#, "ab 12", "x=12 y="),
        (r#"| regexp "(?P<x>\\d+)""#, "none", ""),
        (r#"| pattern "<a> - <_> <b>.""#, "1 - 2 3. rest", "a=1 b=3"),
        (r#"| pattern "<a>|<b>""#, "no bar", "a=no bar"),
        (r#"| pattern "x<a>""#, "yx1", ""),
        ("| unpack", r#"{"_entry":"in","k":"v","n":5}"#, "k=v"),
        ("| unpack", r#"{"k":"v"}"#, ""),
    ];
    for (stages, line, expected) in cases {
        assert_eq!(parsed(stages, line), expected, "{stages} on {line}");
    }
    assert_eq!(run("| unpack", r#"{"_entry":"in"}"#).unwrap().0, "in");
}

#[test]
fn label_filters() {
    let line = "d=1m b=10KB n=5 s=text bad=x ip=10.0.0.7";
    let cases = [
        ("d > 59s", "kept"),
        ("d = 1m", "kept"),
        ("b >= 10KB and n < 6", "kept"),
        ("n == 5.0", "kept"),
        ("nosuch > 5", "dropped"),
        ("nosuch != 5", "dropped"),
        (r#"nosuch = """#, "kept"),
        (r#"nosuch != "x""#, "kept"),
        (r#"s =~ "te.t""#, "kept"),
        (r#"s =~ "te""#, "dropped"),
        (r#"s !~ "te.t""#, "dropped"),
        (r#"ip = ip("10.0.0.0/8")"#, "kept"),
        (r#"ip != ip("10.0.0.0/8")"#, "dropped"),
        ("n > 9 or d > 1s", "kept"),
        ("bad > 5", "__error__=LabelFilterErr"),
        (r#"trace = "t1""#, "kept"),
        (r#"app = "web""#, "kept"),
    ];
    for (filter, expected) in cases {
        let got = parsed(&format!("| logfmt | {filter}"), line);
        match expected {
            "kept" => assert!(
                got.contains("n=5") && !got.contains("__error__"),
                "{filter}: {got}"
            ),
            "dropped" => assert_eq!(got, "dropped", "{filter}"),
            error => assert!(got.starts_with(error), "{filter}: {got}"),
        }
    }
}

#[test]
fn formats_and_choices() {
    let cases = [
        (r#"| line_format "{{.app}} {{.a}} {{.no}}""#, "web 1 |a=1 b=2"),
        (r#"| label_format c=a, d="{{.b}}-{{.a}}""#, "a=1 b=2|b=2 c=1 d=2-"),
        (r#"| label_format app="x""#, "a=1 b=2|a=1 app=x b=2"),
        ("| drop a, b=\"3\"", "a=1 b=2|b=2"),
        ("| keep a, b=\"3\"", "a=1 b=2|a=1"),
        (
            r#"| line_format "{{div 1 0}}" | drop __error_details__"#,
            "a=1 b=2|__error__=TemplateFormatErr a=1 b=2",
        ),
        (
            r#"| line_format "{{div 1 0}}" | drop __error__, __error_details__"#,
            "a=1 b=2|a=1 b=2",
        ),
        (r#"| line_format "" "#, "|a=1 b=2"),
    ];
    for (stages, expected) in cases {
        let (line, labels) = run(&format!("| logfmt {stages}"), "a=1 b=2").unwrap();
        assert_eq!(format!("{line}|{labels}"), expected, "{stages}");
    }
    assert_eq!(run("| decolorize", "\u{1b}[31mred\u{1b}[0m").unwrap().0, "red");
}

#[test]
fn categories_and_precedence() {
    let mut runner = pipeline(r#"| logfmt | label_format job=x | drop trace"#).runner();
    runner.set_stream(&Labels::from_pairs([("app", "web"), ("job", "j")]));
    let metadata = [("app", "meta"), ("trace", "t1")];
    let processed = runner
        .process(
            &EntryRef {
                ts: 1,
                line: "x=1",
                metadata: &metadata,
            },
            false,
        )
        .unwrap();
    let list = |pairs: Vec<(&str, &str)>| {
        pairs
            .iter()
            .map(|(n, v)| format!("{n}={v}"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(list(processed.stream().collect()), "app=web");
    assert_eq!(list(processed.metadata().collect()), "app_extracted=meta");
    assert_eq!(processed.merged().get("job"), Some("1"));
}

const STAGES: &[&str] = &[
    "| json",
    r#"| json a="x.y[0]", b="[\"k\"]""#,
    "| logfmt",
    "| logfmt --strict --keep-empty",
    "| unpack",
    r#"| regexp "(?P<x>\\w+)\\W(?P<y>.*)""#,
    r#"| pattern "<a>=<b> <c>""#,
    "| decolorize",
    r#"|= ip("10.0.0.0/8") or ip("::/0")"#,
    r#"| logfmt | a > 5 or a > 1s or a > 1KB or a = ip("1.1.1.1")"#,
    r#"| line_format "{{ __line__ | trunc 3 }}{{ substr 1 2 __line__ }}{{ alignLeft 5 __line__ }}{{ __line__ | title }}""#,
    r#"| line_format "{{ range $k, $v := fromJson __line__ }}{{ $k }}{{ $v }}{{ end }}{{ __line__ | printf \"%5.2q|%x\" }}""#,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_line_breaks_a_stage(line in prop_oneof![".{0,60}", "[{}\\[\\]\":,\\\\a-z0-9=. \u{1b}é-]{0,60}"]) {
        for stages in STAGES {
            let _ = run(stages, &line);
        }
    }
}
