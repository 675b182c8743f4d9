#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn re2_meaning_survives() {
    let cases = [
        (r"\Qa.b*c+d?\E", "xa.b*c+d?y", true),
        (r"\Qa.b", "a.b", true),
        (r"\d", "٣", false),
        (r"\w+", "é", false),
        (r"[\d\-x]", "-", true),
        (r"[a&&b]", "&", true),
        (r"[[:upper:]]{4}", "DUMP", true),
        (r"x{,2}", "x{,2}", true),
        (r"\<a\>", "<a>", true),
        (r"a{b}", "a{b}", true),
        (r"(?i)loss", "LOSS", true),
        (r"[]a]", "]", true),
        (r"[^]a]", "b", true),
        (r"\x1b\[3[12]", "\u{1b}[31m", true),
        (r"\x{1F680}", "🚀", true),
        (r"\101", "A", true),
        (r"\p{Hangul}+", "한글", true),
        (r"\pN", "5", true),
        (r"(?P<1a>x)", "x", true),
        (r"(?<n>x)", "x", true),
        (r"\bem–dash\b", "an em–dash", true),
        (r"a\Bb", "ab", true),
        (r"[[]", "[", true),
        (r"[a-]", "-", true),
        (r"loss:\ \d", "loss: 3", true),
        ("a\\\tb", "a\tb", true),
        (r"[\ x]y", " y", true),
        ("", "anything", true),
    ];
    for (pattern, text, expected) in cases {
        let regex = unanchored(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        assert_eq!(regex.regex.is_match(text), expected, "{pattern} on {text}");
    }
}

#[test]
fn refused_with_the_words_of_go() {
    let cases = [
        ("(", "missing closing ): `(`"),
        ("a)", "unexpected ): `a)`"),
        ("*a", "missing argument to repetition operator: `*`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("[a", "missing closing ]: `[a`"),
        ("[z-a]", "invalid character class range: `z-a`"),
        (r"\1", r"invalid escape sequence: `\1`"),
        (r"\y", r"invalid escape sequence: `\y`"),
        ("(?x)a", "invalid or unsupported Perl syntax: `(?x`"),
        ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ("a\\", "trailing backslash at end of expression: ``"),
    ];
    for (pattern, expected) in cases {
        let error = unanchored(pattern).unwrap_err();
        assert_eq!(
            error.message(),
            format!("error parsing regexp: {expected}"),
            "{pattern}"
        );
    }
}

#[test]
fn programs_are_bounded() {
    assert!(unanchored(&"(a{500}){500}".repeat(8)).is_err());
    assert!(unanchored(&"(".repeat(5000)).is_err());
    assert!(unanchored(&format!("{}a{}", "(".repeat(5000), ")".repeat(5000))).is_err());
}

#[test]
fn literals_are_found() {
    let cases = [
        ("checkpoint", Some("checkpoint"), true),
        (".*한글.*", Some("한글"), true),
        ("(한글)", Some("한글"), true),
        ("rank[35] done", Some(" done"), false),
        ("a|b", None, false),
        ("(?i)loss", None, false),
        ("(ab)+", Some("ab"), false),
        ("^ab", Some("ab"), false),
        ("ab.*cde", Some("cde"), false),
    ];
    for (pattern, required, is_contains) in cases {
        let regex = unanchored(pattern).unwrap();
        assert_eq!(
            (regex.required.as_deref(), regex.is_contains),
            (required, is_contains),
            "{pattern}"
        );
    }
    let ignoring_case = [
        ("(?i)loss", Some("loss")),
        ("(?i)(error|failed)[: ].*Task timeout", Some("task timeout")),
        ("a(?i)bc1*", Some("abc")),
        ("(?i)é?x", Some("x")),
        ("(?i)[ab]|c", None),
    ];
    for (pattern, required) in ignoring_case {
        let regex = unanchored(pattern).unwrap();
        let found = regex.one_of.first().map(|one| one.text.to_ascii_lowercase());
        assert_eq!(found.as_deref(), required, "{pattern}");
    }
    assert_eq!(anchored_dotall("a|b").unwrap().literals(), Some(vec!["a", "b"]));
    assert_eq!(
        anchored_dotall("llama3-8b-worker-(1|2)").unwrap().literals(),
        Some(vec!["llama3-8b-worker-1", "llama3-8b-worker-2"])
    );
    assert_eq!(anchored_dotall("a.*").unwrap().literals(), None);
}

/// Text, whether case is ignored, whether it suffices.
type OneOf = &'static [(&'static str, bool, bool)];

#[test]
fn every_match_has_one_of_the_texts() {
    let cases: [(&str, OneOf); 9] = [
        (
            "error|failed.*",
            &[("error", false, true), ("failed", false, true)],
        ),
        ("(?i)error|fail", &[("error", true, false), ("fail", true, false)]),
        (
            "(warn|error): x",
            &[("warn", false, false), ("error", false, false)],
        ),
        ("(warn|error): something", &[(": something", false, false)]),
        ("a.c|de[0-9]", &[("c", false, false), ("de", false, false)]),
        ("error|[0-9]+", &[]),
        ("error|", &[("error", false, true)]),
        (
            "(foo|barbar)+",
            &[("foo", false, false), ("barbar", false, false)],
        ),
        (".*", &[]),
    ];
    for (pattern, expected) in cases {
        let found = line_filter(pattern).unwrap().one_of;
        let found: Vec<_> = found
            .iter()
            .map(|one| (one.text.as_str(), one.ignore_case, one.suffices))
            .collect();
        assert_eq!(found, expected, "{pattern}");
    }
}

proptest::proptest! {
    #[test]
    fn what_matches_has_one_of_the_texts(
        pattern in "(\\(\\?i\\))?[abs](b|\\.|\\.\\*|\\[ab\\])[ab](\\|[abc.]{1,3}){0,2}",
        line in "[abcsABS\u{17f}]{0,8}",
    ) {
        let regex = line_filter(&pattern).unwrap();
        let has = |one: &RequiredText| match one.ignore_case {
            true => line.replace('\u{17f}', "s").to_lowercase().contains(&one.text),
            false => line.contains(&one.text),
        };
        if !regex.one_of.is_empty() {
            let matches = regex.regex.is_match(&line);
            proptest::prop_assert!(!matches || regex.one_of.iter().any(has), "{pattern} {line}");
            let suffices = regex.one_of.iter().any(|one| one.suffices && has(one));
            proptest::prop_assert!(!suffices || matches, "{pattern} {line}");
        }
    }
}
