#![allow(clippy::unwrap_used)]

use super::*;

struct Entry;

impl Context for Entry {
    fn label(&self, name: &str) -> Option<&str> {
        self.labels()
            .into_iter()
            .find(|(label, _)| *label == name)
            .map(|(_, value)| value)
    }

    fn labels(&self) -> Vec<(&str, &str)> {
        vec![("level", "info"), ("msg", "the message"), ("n", "42")]
    }

    fn line(&self) -> &str {
        r#"{"a":{"b":[1,2.5,"x"]}}"#
    }

    fn timestamp(&self) -> i64 {
        1_767_574_803_000_000_001
    }
}

fn run(text: &str) -> Result<String, String> {
    let mut out = String::new();
    Template::parse("line", text)?.execute(&Entry, &mut out)?;
    Ok(out)
}

#[test]
fn output() {
    let cases = [
        ("a {{ .level }} {{- .nosuch -}} b", "a infob"),
        ("{{/* nothing */}}x", "x"),
        (
            "{{ if eq .level \"info\" }}i{{ else if .n }}n{{ else }}e{{ end }}",
            "i",
        ),
        ("{{ with .nosuch }}x{{ else }}none{{ end }}", "none"),
        (
            "{{ range $i, $x := (fromJson __line__).a.b }}{{ $i }}={{ $x }} {{ end }}",
            "0=1 1=2.5 2=x ",
        ),
        (
            "{{ range $k, $v := . }}{{ $k }}:{{ $v }};{{ end }}",
            "level:info;msg:the message;n:42;",
        ),
        (
            "{{ define \"t\" }}[{{ . }}]{{ end }}{{ template \"t\" .n }}",
            "[42]",
        ),
        ("{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ end }}{{ $x }}", "2"),
        (
            "{{ range 5 }}{{ if eq . 3 }}{{ break }}{{ end }}{{ . }}{{ end }}",
            "012",
        ),
        ("{{ and 1 0 }}{{ or 0 \"x\" }}{{ not 0 }}", "0xtrue"),
        (
            "{{ eq 1 2 3 1 }} {{ lt \"a\" \"b\" }} {{ ge 2.5 2.5 }}",
            "true true true",
        ),
        (
            "{{ printf \"%05d|%-4s|%6.2f|%q|%x|%v|%T\" 42 \"ab\" 3.14159 \"q\" 255 true 1 }}",
            "00042|ab  |  3.14|\"q\"|ff|true|int",
        ),
        (
            "{{ printf \"%08s|%08q|%08v|%08x|%08d|%-08s|%08t\" \"abc\" \"abc\" \"abc\" \"abc\" \"abc\" \"abc\" true }}",
            "00000abc|000\"abc\"|00000abc|00616263|%!d(string=00000abc)|abc     |0000true",
        ),
        (
            "{{ printf \"%*d|%*d|%*s|%.*f\" -0.25 1 -3 7 \"x\" \"abc\" \"y\" 1.5 }}",
            "%!(BADWIDTH)1|7  |%!(BADWIDTH)abc|%!(BADPREC)1.500000",
        ),
        (
            "{{ printf \"%d\" \"x\" }} {{ printf \"%s\" }} {{ printf \"x\" 1 }}",
            "%!d(string=x) %!s(MISSING) x%!(EXTRA int=1)",
        ),
        (
            "{{ printf \"%8.3f|%-4d|%.1d|%.2v\" \"ab\" \"c\" \"de\" 3.14159 }}",
            "%!f(string=      ab)|%!d(string=c   )|%!d(string=d)|3.1",
        ),
        (
            "{{ addf 0.1 0.2 }} {{ divf 1 30000 }} {{ addf 9007199254740992 0.5 }}",
            "0.3 3.33333333333e-05 9.007199254740992e+15",
        ),
        (
            "{{ 1e6 }} {{ 0x1F }} {{ 100000.0 }} {{ 1.5e-7 }}",
            "1e+06 31 100000 1.5e-07",
        ),
        ("{{ .msg | replace \"e\" \"E\" | upper | trunc 5 }}", "THE M"),
        (
            "{{ substr 0 3 \"한글\" }}|{{ trunc 4 \"한글\" }}",
            "한|한\u{fffd}",
        ),
        (
            "{{ b64enc \"hi!\" }} {{ b64dec \"aGkh\" }} {{ b64enc \"a\" }}",
            "aGkh hi! YQ==",
        ),
        (
            "{{ urldecode \"a+b%20c\" }} {{ urlencode \"a&b\" }}",
            "a b c a%26b",
        ),
        (
            "{{ round 2.345 2 }} {{ ceil 1.2 }} {{ floor \"1.8\" }} {{ addf 0.1 0.2 }} {{ max 1 5 3 }}",
            "2.35 2 1 0.3 5",
        ),
        (
            "{{ __timestamp__.Format \"2006-01-02 15:04:05.000\" }}",
            "2026-01-05 01:00:03.000",
        ),
        (
            "{{ __timestamp__ | date \"Mon Jan _2 3:04PM\" }} {{ __timestamp__.Weekday }}",
            "Mon Jan  5 1:00AM Monday",
        ),
        (
            "{{ unixToTime \"1767574803\" | unixEpochNanos }}",
            "1767574803000000000",
        ),
        (
            "{{ toDate \"2006-01-02T15:04:05.000Z07:00\" \"2026-01-05T02:00:03.5+01:00\" | unixEpochMillis }}",
            "1767574803500",
        ),
        (
            "{{ index . \"level\" }} {{ len . }} {{ slice \"abcdef\" 1 3 }}",
            "info 3 bc",
        ),
        ("{{ (fromJson __line__).none }}", "<no value>"),
        (
            "{{ indent 2 \"a\\nb\" }}{{ repeat 3 \"x\" }}{{ title \"a b-c d_e\" }}",
            "  a\n  bxxxA B-C D_e",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(
            run(text).unwrap_or_else(|error| panic!("{text}: {error}")),
            expected,
            "{text}"
        );
    }
}

#[test]
fn errors() {
    let cases = [
        (
            "{{ nosuch .a }}",
            "template: line:1: function \"nosuch\" not defined",
        ),
        ("x\n{{ .a.b", "template: line:2: unclosed action"),
        ("{{ 10ns }}", "template: line:1: bad number syntax: \"10n\""),
        ("{{ 1h30m }}", "template: line:1: bad number syntax: \"1h\""),
        ("{{ end }}", "template: line:1: unexpected {{end}}"),
        ("{{ if .a }}", "template: line:1: unexpected EOF"),
        ("{{ $x }}", "template: line:1: undefined variable \"$x\""),
        ("{{ }}", "template: line:1: missing value for command"),
        ("{{ break }}", "template: line:1: {{break}} outside {{range}}"),
        (
            "a\n {{ .level.x }}",
            "template: line:2:10: executing \"line\" at <.level.x>: can't evaluate field x in type string",
        ),
        (
            "{{ alignLeft \"a\" .n }}",
            "template: line:1:13: executing \"line\" at <\"a\">: expected integer; found \"a\"",
        ),
        (
            "{{ mod 1 0 }}",
            "template: line:1:3: executing \"line\" at <mod 1 0>: error calling mod: runtime error: integer divide by zero",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(run(text).expect_err(text), expected, "{text}");
    }
}

#[test]
fn cost_is_bounded() {
    let nested = format!("{}x{}", "{{ range 1000000 }}".repeat(3), "{{ end }}".repeat(3));
    for text in [
        nested.as_str(),
        "{{ repeat 1000000000 \"x\" }}",
        "{{ indent 1000000000 \"x\" }}",
        "{{ alignLeft 1000000000 \"x\" }}",
        "{{ define \"a\" }}{{ template \"a\" }}{{ end }}{{ template \"a\" }}",
        "{{ range 100000 }}{{ repeat 1000 \"x\" }}{{ end }}",
    ] {
        assert!(run(text).is_err(), "{text}");
    }
    assert!(run(&"{{ if 1 }}".repeat(10_000)).is_err());
    assert!(run(&format!("{{{{ {} }}}}", "(".repeat(10_000))).is_err());
    assert!(run("{{ printf \"%1000000000d\" 1 }}").unwrap().len() <= 10_000);
}

#[test]
fn fields_are_known_where_the_dot_is() {
    let fields = |text: &str| Template::parse("line", text).unwrap().fields();
    assert_eq!(
        fields("{{ .a }}{{ if .b }}{{ $.c | upper }}{{ end }}"),
        Some(vec!["a".into(), "b".into(), "c".into()])
    );
    assert_eq!(fields("{{ range . }}{{ end }}"), None);
}
