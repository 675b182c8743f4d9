//! What to change in a query, told by what its error says: errors keep Loki's words, which name the fault and rarely the
//! cure.

/// Parts of errors, and what to do where all parts of a row are found in one. The first row that fits counts.
const ADVICE: &[(&[&str], &str)] = &[
    (
        &["unexpected $end, expecting STRING"],
        "a text in double quotes or backquotes belongs here",
    ),
    (
        &["unexpected $end, expecting } or ,"],
        "close the stream selector with }",
    ),
    (
        &["unexpected $end, expecting IDENTIFIER"],
        "the name of a label belongs here",
    ),
    (
        &["unexpected STRING, expecting IDENTIFIER or }"],
        "label names are written without quotes",
    ),
    (
        &["unexpected }, expecting IDENTIFIER"],
        "no comma stands before the closing brace",
    ),
    (&["expecting } or ,"], "matchers are separated by commas"),
    (
        &["unexpected NUMBER, expecting IDENTIFIER"],
        "label names begin with a letter or _",
    ),
    (
        &["unexpected ., expecting = or =~"],
        "label names consist of letters, digits and _: dots have become _",
    ),
    (
        &["expecting = or =~ or !~ or !="],
        "a matcher is name=\"value\", or with != =~ !~",
    ),
    (
        &["expecting STRING"],
        "write the text in double quotes or backquotes",
    ),
    (
        &["unexpected $end, expecting ="],
        "write label_format new=old, or new=\"{{.template}}\"",
    ),
    (
        &["unexpected $end"],
        "the query ends too early: something is not closed, or belongs behind the last word",
    ),
    (
        &["invalid or unsupported Perl syntax"],
        "the regular expressions are RE2's: they have no look-ahead, look-behind or back-references",
    ),
    (
        &["error parsing regexp: missing closing"],
        "close it, or write a backslash before it where the character itself is meant",
    ),
    (&["invalid repeat count"], "repeat at most 1000 times"),
    (
        &["at least one named capture must be supplied"],
        "name a group: (?P<name>…)",
    ),
    (
        &["at least one capture is required"],
        "name a part of the line: <name>",
    ),
    (
        &["named captures are not allowed"],
        "<_> stands for any text; use | pattern to make labels",
    ),
    (
        &["found consecutive capture"],
        "text has to stand between two captures",
    ),
    (
        &["duplicate capture name"],
        "give each capture a name of its own, or <_>",
    ),
    (
        &["cannot parse expression"],
        "a path is such as a.b[0] or [\"a b\"].c",
    ),
    (&["empty duration string"], "write a duration, such as [5m]"),
    (
        &["duration string"],
        "durations are whole numbers with units: 500ms, 5m, 1h30m, 1d",
    ),
    (
        &["in duration \"", ":"],
        "LogQL has no subqueries: aggregate over time with a range, such as [5m]",
    ),
    (
        &["in duration \""],
        "durations are whole numbers with units: 500ms, 5m, 1h30m, 1d",
    ),
    (&["missing closing ']'"], "close the range with ]"),
    (
        &["invalid aggregation", "without unwrap"],
        "say which label is the number: | unwrap label, before the range",
    ),
    (
        &["invalid aggregation", "with unwrap"],
        "leave | unwrap out, or use sum_over_time or another function of numbers",
    ),
    (
        &["parameter required for operation quantile_over_time"],
        "quantile_over_time(0.99, {…} | unwrap label [5m])",
    ),
    (
        &["parameter required for operation"],
        "say how many, such as topk(10, …)",
    ),
    (&["invalid parameter"], "how many is a whole number above 0"),
    (
        &["unsupported parameter for operation"],
        "only topk, bottomk and approx_topk take a number",
    ),
    (
        &["not supported for operation"],
        "only quantile_over_time takes a number",
    ),
    (
        &["grouping not allowed for approx_topk"],
        "group inside it: approx_topk(10, sum by (label) (…))",
    ),
    (
        &["grouping not allowed for"],
        "group around it: sum by (label) (…)",
    ),
    (
        &["doesn't allow grouping"],
        "group inside it: sort(sum by (label) (…))",
    ),
    (
        &["unexpected literal for"],
        "and, or and unless join series: use vector(1) for a number",
    ),
    (
        &["unexpected offset"],
        "offset stands once, behind the range: rate({…}[5m] offset 1h)",
    ),
    (&["expecting DURATION"], "write how far, such as offset 1h"),
    (
        &["unexpected group_"],
        "group_left and group_right stand behind on (…) or ignoring (…)",
    ),
    (&["unexpected bool"], "bool stands once, behind a comparison"),
    (&["unexpected by"], "by (…) stands once, beside an aggregation"),
    (&["unexpected VECTOR, expecting NUMBER"], "a number belongs here"),
    (
        &["unexpected ), expecting NUMBER or { or ("],
        "a stream selector belongs here: {app=\"web\"}[5m]",
    ),
    (&["expecting NUMBER"], "a number belongs here"),
    (&["unexpected |"], "a stage is missing between the two |"),
    (&["unexpected ip"], "ip() goes with = and !="),
    (&["ip: invalid operation"], "ip() goes with |= and !="),
    (
        &["ip: invalid pattern"],
        "write an address, a range such as 10.0.0.1-10.0.0.9, or a network such as 10.0.0.0/8",
    ),
    (&["multiple label name"], "use a second label_format"),
    (
        &["cannot be formatted"],
        "__error__ can be filtered on and dropped",
    ),
    (&["unclosed action"], "close it with }}"),
    (
        &["function \"", "\" not defined"],
        "a label is written with a dot: {{.name}}",
    ),
    (
        &["literal not terminated"],
        "close the text with the quote it begins with",
    ),
    (&["comment not terminated"], "close the comment with */"),
    (
        &["invalid char escape"],
        "write \\\\ for a backslash, or put the text in backquotes",
    ),
    (
        &["unexpected DURATION"],
        "a query begins with a stream selector or a function",
    ),
    (
        &["unexpected BYTES"],
        "a query begins with a stream selector or a function",
    ),
    (
        &["unexpected STRING"],
        "a text stands only behind an operator that takes one",
    ),
    (&["unexpected =="], "stream selectors compare with a single ="),
    (&["expecting RANGE"], "a range such as [5m] belongs here"),
    (&["expecting )"], "a parenthesis is not closed"),
    (
        &["invalid named capture"],
        "a named group is (?P<name>…); the name has letters, digits and _",
    ),
    (
        &["unexpected ), expecting IDENTIFIER"],
        "no comma stands before the closing parenthesis",
    ),
    (
        &["unexpected ), expecting ,"],
        "label_replace takes five arguments: samples, \"to\", \"$1\", \"from\", \"regex\"",
    ),
    (
        &["unexpected ,"],
        "before the comma belong samples, such as rate({…}[5m]), or how many, a whole number above 0",
    ),
    (
        &["expecting IDENTIFIER or ("],
        "a condition on a label belongs here, such as level=\"error\"",
    ),
    (&["expecting ("], "the labels stand in parentheses"),
    (
        &["unable to parse literal"],
        "numbers are decimal, such as 1.5 or 1e3",
    ),
    (
        &["exponent has no digits"],
        "numbers are decimal, such as 1.5 or 1e3",
    ),
    (&["unexpected }"], "nothing is open that it could close"),
    (&["unexpected NUMBER"], "an operator is missing before the number"),
    (
        &["unexpected IDENTIFIER"],
        "an operator or a | is missing before the word, or quotes around it",
    ),
];

/// What to do about an error, where that is known.
pub(crate) fn advice(message: &str) -> Option<&'static str> {
    let fits = |parts: &[&str]| parts.iter().all(|part| message.contains(part));
    ADVICE
        .iter()
        .find(|(parts, _)| fits(parts))
        .map(|(_, advice)| *advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_row_that_fits_counts() {
        assert_eq!(
            advice("empty duration string"),
            Some("write a duration, such as [5m]")
        );
        assert_eq!(advice("something new"), None);
    }
}
