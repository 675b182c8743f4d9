#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::MatchOp;

fn error_of(query: &str) -> String {
    parse(query).expect_err(query).to_string()
}

#[test]
fn precedence_of_operators() {
    let cases = [
        (
            "vector(1) + vector(2) * vector(3)",
            "(vector(1.000000) + (vector(2.000000) * vector(3.000000)))",
        ),
        (
            "vector(1) - vector(2) - vector(3)",
            "((vector(1.000000) - vector(2.000000)) - vector(3.000000))",
        ),
        (
            "vector(1) ^ vector(2) ^ vector(3)",
            "(vector(1.000000) ^ (vector(2.000000) ^ vector(3.000000)))",
        ),
        (
            "vector(1) or vector(2) and vector(3)",
            "(vector(1.000000) or (vector(2.000000) and vector(3.000000)))",
        ),
        (
            "vector(1) > vector(2) + 1",
            "(vector(1.000000) > (vector(2.000000) + 1))",
        ),
        ("-2 ^ 2", "4"),
        ("1 - +1", "0"),
        ("1_000 + 1", "1001"),
        ("2 + 3 == 5", "1"),
        ("1 > bool 2", "0"),
    ];
    for (query, expected) in cases {
        assert_eq!(parse(query).unwrap().to_string(), expected, "{query}");
    }
}

#[test]
fn commas_of_label_filters_take_everything_to_their_right() {
    let cases = [
        (
            r#"{a="b"} | x="1" or y="2", z="3""#,
            r#"{a="b"} | ( x="1" or ( y="2" , z="3" ) )"#,
        ),
        (
            r#"{a="b"} | x="1", y="2" or z="3""#,
            r#"{a="b"} | ( x="1" , ( y="2" or z="3" ) )"#,
        ),
        (
            r#"{a="b"} | x="1" and y="2" or z="3""#,
            r#"{a="b"} | ( ( x="1" , y="2" ) or z="3" )"#,
        ),
        (r#"{a="b"} | x="1" y="2""#, r#"{a="b"} | ( x="1" , y="2" )"#),
    ];
    for (query, expected) in cases {
        assert_eq!(parse(query).unwrap().to_string(), expected, "{query}");
    }
}

#[test]
fn words_are_functions_only_before_parentheses() {
    for query in [
        r#"{rate="1", sum="2", ip="3"} | bytes > 5KB | duration="x""#,
        r#"SUM BY (count) (Rate({a="b"}[5m]))"#,
        "sum by (a) (rate({a=\"b\"} # comment\n [5m])) // end",
        r#"count_over_time({a="b"}[5m] | json /* all */ | x="1")"#,
        r#"count_over_time(({a="b"} |= "x")[5m] offset -5m)"#,
        r#"sum_over_time({a="b"} | unwrap bytes [5m])"#,
        "{a=`raw \\d`} |~ `\\d+`",
    ] {
        parse(query).unwrap_or_else(|error| panic!("{query}: {error}"));
    }
}

#[test]
fn errors_say_where_and_what() {
    let cases = [
        (
            "{",
            "parse error at line 1, col 2: syntax error: unexpected $end, expecting IDENTIFIER or }",
        ),
        (
            "{a=\"b\"}\n  | x",
            "parse error at line 2, col 6: syntax error: unexpected $end",
        ),
        (
            "{by=\"b\"}",
            "parse error at line 1, col 2: syntax error: unexpected by, expecting IDENTIFIER or }",
        ),
        (
            "{a=\"b\"} | @json",
            "parse error at line 1, col 11: syntax error: unexpected IDENTIFIER, expecting IDENTIFIER or (",
        ),
        (
            "rate({a=\"b\"}[1.5m])",
            "parse error at line 0, col 13: unknown unit \".\" in duration \"1.5m\"",
        ),
        ("{a=\"\\q\"}", "parse error at line 1, col 4: invalid char escape"),
        ("{a=\"b", "parse error at line 1, col 4: literal not terminated"),
        (
            "{a=\"b\"} /* x",
            "parse error at line 1, col 9: comment not terminated",
        ),
        (
            "sum by (a) (rate({a=\"b\"}[5m])) by (a)",
            "parse error at line 1, col 32: syntax error: unexpected by",
        ),
        ("", "parse error : syntax error: unexpected $end"),
    ];
    for (query, expected) in cases {
        assert_eq!(error_of(query), expected, "{query}");
    }
    let hint = parse("{a=='b'}").unwrap_err();
    assert_eq!(hint.position(), Some((0, 3)));
    assert_eq!(hint.hint(), Some("stream selectors compare with a single ="));
}

#[test]
fn size_and_depth_are_bounded() {
    let long = format!("{{a=\"{}\"}}", "x".repeat(131_072));
    assert!(
        error_of(&long).contains("input size too long"),
        "{}",
        error_of(&long)
    );
    for deep in [
        "(".repeat(100_000),
        format!("{}1{}", "(".repeat(5_000), ")".repeat(5_000)),
        format!("{}vector(1){}", "sum(".repeat(5_000), ")".repeat(5_000)),
        format!("{{a=\"b\"}} | {}x=\"1\"{}", "(".repeat(5_000), ")".repeat(5_000)),
        format!("{{a=\"b\"}} | {}x=\"1\"", "x=\"1\", ".repeat(5_000)),
        format!("{{a=\"b\"}} | {}x=\"1\"", "x=\"1\" or ".repeat(5_000)),
        format!("{}vector(1)", "vector(1) + ".repeat(5_000)),
        format!("{}vector(1)", "vector(1) ^ ".repeat(5_000)),
        format!(
            "count_over_time({}{{a=\"b\"}}[5m]{})",
            "(".repeat(5_000),
            ")".repeat(5_000)
        ),
    ] {
        assert!(parse(&deep).is_err());
    }
    parse(&format!("{{a=\"b\"}} | {}x=\"1\"", "x=\"1\" or ".repeat(900))).unwrap();
}

#[test]
fn selectors_must_select() {
    for query in [
        r#"{a=""}"#,
        r#"{a!="x"}"#,
        r#"{a=~".*"}"#,
        r#"{a!~".+"}"#,
        "{}",
        "sum(1)",
    ] {
        assert!(
            error_of(query).contains("queries require at least one"),
            "{query}"
        );
    }
    for query in [
        r#"{a!=""}"#,
        r#"{a=~".+", b=""}"#,
        "1",
        "vector(1)",
        "max(vector(1))",
    ] {
        parse(query).unwrap();
    }
}

#[test]
fn only_selectors_where_only_selectors_are_allowed() {
    let matchers = parse_selector(r#"{a="b", c!~"d"}"#).unwrap();
    let found: Vec<(&str, MatchOp, &str)> = matchers.iter().map(|m| (m.name(), m.op(), m.value())).collect();
    assert_eq!(found, [("a", MatchOp::Equal, "b"), ("c", MatchOp::NotRegex, "d")]);
    assert!(parse_selector("{}").unwrap().is_empty());
    for query in [r#"{a="b"} |= "x""#, r#"rate({a="b"}[5m])"#] {
        assert_eq!(
            parse_selector(query).unwrap_err().to_string(),
            "only label matchers are supported"
        );
    }
}

#[test]
fn label_sets_of_pushes() {
    let labels = parse_labels(r#"{ b = "2\n", a="1", empty="" }"#).unwrap();
    assert_eq!(labels.to_string(), r#"{a="1", b="2\n"}"#);
    assert_eq!(parse_labels("{}").unwrap().len(), 0);
    assert_eq!(parse_labels(r#"{a="1", a=""}"#).unwrap().repeated(), None);
    let twice = parse_labels(r#"{b="0", a="2", a="1"}"#).unwrap();
    assert_eq!(
        (twice.repeated(), twice.to_string()),
        (Some("a"), r#"{a="2", a="1", b="0"}"#.to_owned())
    );
    for bad in [
        "",
        "{",
        "{a}",
        "{a=}",
        "{a=b}",
        r#"{a="b"#,
        r#"{a="b"} x"#,
        r#"{1a="b"}"#,
        r#"{a="\q"}"#,
    ] {
        assert!(parse_labels(bad).is_err(), "{bad}");
    }
}

/// Pieces of queries, combined by grammar.
fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "app",
        "rank",
        "level",
        "bytes",
        "sum",
        "x_1",
        "_y",
        "__error__",
    ])
    .prop_map(str::to_owned)
}

fn text() -> impl Strategy<Value = String> {
    "[ -~한\n\t]{0,8}".prop_map(|text| crate::text::quote_go(&text).to_string())
}

fn selector() -> impl Strategy<Value = String> {
    prop::collection::vec((name(), prop::sample::select(vec!["=", "!="]), text()), 0..3).prop_map(|list| {
        let list: Vec<String> = list
            .into_iter()
            .map(|(name, op, value)| format!("{name}{op}{value}"))
            .collect();
        let comma = if list.is_empty() { "" } else { ", " };
        format!("{{job=~\"a.+|b\"{comma}{}}}", list.join(", "))
    })
}

fn condition() -> impl Strategy<Value = String> {
    let compare = prop::sample::select(vec!["==", "!=", ">", ">=", "<", "<="]);
    let literal = prop::sample::select(vec![
        "5", "-0.5", "1e3", "1h30m", "-5m", "900µs", "10KB", "1.5GiB",
    ]);
    let leaf = prop_oneof![
        (name(), prop::sample::select(vec!["=", "!="]), text()).prop_map(|(n, op, v)| format!("{n}{op}{v}")),
        (name(), compare, literal).prop_map(|(n, op, v)| format!("{n} {op} {v}")),
        name().prop_map(|n| format!("{n}=~\"a|b.*\"")),
        name().prop_map(|n| format!("{n} != ip(\"10.0.0.0/8\")")),
    ];
    leaf.prop_recursive(3, 8, 2, |inner| {
        (
            inner.clone(),
            prop::sample::select(vec![" and ", " or ", ", ", " "]),
            inner,
        )
            .prop_map(|(left, op, right)| format!("({left}{op}{right})"))
    })
}

fn stage() -> impl Strategy<Value = String> {
    prop_oneof![
        (prop::sample::select(vec!["|=", "!="]), text(), text())
            .prop_map(|(op, a, b)| format!("{op} {a} or {b}")),
        text().prop_map(|value| format!("|= ip(\"1.2.3.4\") != {value}")),
        Just("|~ `a\\d+` !~ \"b\" |> \"<_>x\"".to_owned()),
        Just("| json".to_owned()),
        (name(), text()).prop_map(|(n, v)| format!("| json a={v}, {n}")),
        (
            name(),
            prop::sample::select(vec!["", "--strict", "--keep-empty", "--strict --keep-empty"])
        )
            .prop_map(|(n, flags)| format!("| logfmt {flags} {n}")),
        Just("| regexp \"(?P<x>.)\" | pattern \"<a> <_>\" | unpack | decolorize".to_owned()),
        condition().prop_map(|filter| format!("| {filter}")),
        text().prop_map(|template| format!("| line_format {template}")),
        (name(), name(), text()).prop_map(|(a, b, v)| format!("| label_format {a}={b}, z={v}")),
        (name(), name(), text()).prop_map(|(a, b, v)| format!("| drop {a}, {b}={v} | keep {b} |= {v}")),
    ]
}

fn log() -> impl Strategy<Value = String> {
    (selector(), prop::collection::vec(stage(), 0..4))
        .prop_map(|(s, stages)| format!("{s} {}", stages.join(" ")))
}

fn grouping() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        name().prop_map(|n| format!(" by ({n}, app)")),
        Just(" without ()".to_owned())
    ]
}

fn metric() -> impl Strategy<Value = String> {
    let range = prop::sample::select(vec!["[5m]", "[1h30m]", "[1d] offset 1h", "[90s] offset -5m"]);
    let leaf = prop_oneof![
        (log(), range.clone()).prop_map(|(log, range)| format!("rate({log} {range})")),
        (log(), condition(), range.clone(), grouping()).prop_map(|(log, filter, range, grouping)| {
            format!("quantile_over_time(0.5, {log} | unwrap duration(x) | {filter} {range}){grouping}")
        }),
        Just("vector(2.5)".to_owned()),
    ];
    leaf.prop_recursive(3, 12, 2, |inner| {
        let op = prop::sample::select(vec![
            "+",
            "/ on (app) group_left (rank)",
            "> bool",
            "^",
            "== ignoring ()",
            "and on (app)",
            "unless",
        ]);
        prop_oneof![
            (inner.clone(), grouping()).prop_map(|(expr, grouping)| format!("sum{grouping} ({expr})")),
            inner
                .clone()
                .prop_map(|expr| format!("topk by (app) (3, {expr})")),
            inner
                .clone()
                .prop_map(|expr| format!("label_replace({expr}, \"a\", \"$1\", \"b\", \"(.*)\")")),
            (inner.clone(), op, inner).prop_map(|(left, op, right)| format!("({left} {op} {right})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_printed_parses_to_the_same(query in prop_oneof![log(), metric()]) {
        let first = parse(&query).map_err(|error| TestCaseError::fail(format!("{query}: {error}")))?;
        let printed = first.to_string();
        let second = parse(&printed).map_err(|error| TestCaseError::fail(format!("{printed}: {error}")))?;
        prop_assert_eq!(&first, &second, "{}", printed);
        let pretty = format_query(&query).unwrap();
        prop_assert_eq!(first, parse(&pretty).unwrap(), "{}", pretty);
    }

    #[test]
    fn any_text_gives_an_answer(query in "[{}()\\[\\]|=!~<>\"`a-z0-9 ,.#/*-]{0,40}") {
        let _ = parse(&query);
        let _ = parse_labels(&query);
    }
}

#[test]
fn functions_over_bare_numbers_are_printed_but_not_run() {
    for query in ["sum(1)", "sum by (app) (1)"] {
        assert!(super::format_query(query).is_ok(), "{query}");
        assert!(super::parse(query).is_err(), "{query}");
    }
    assert!(super::format_query("{}").is_err());
}
