//! Any tree the parser can make is printed as a query that parses to the same tree, on one line and over several.
//!
//! Trees are generated, not texts: what a text generator forgets to write is covered as well.

#![allow(clippy::unwrap_used)]

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use rankline_logql::ast::*;
use rankline_logql::{MatchOp, Matcher, format_query, parse};

const MILLISECOND: i64 = 1_000_000;
const REGEXES: [&str; 6] = ["a.+|b", "", "(?i:ü)`", r"\d+\.\\", "a\"b\nc", ".*"];

/// Names that no keyword is like.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "x[a-z0-9_]{0,4}",
        Just("__error__".to_owned()),
        // Functions are words like others where no parenthesis follows.
        select(vec!["rate", "sum", "vector", "label_replace"]).prop_map(str::to_owned),
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[ -~]{0,6}", "\\PC{0,6}", "[\n\t\r`\"\\\\\u{1}한]{0,6}"]
}

fn regex() -> impl Strategy<Value = String> {
    select(&REGEXES[..]).prop_map(str::to_owned)
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        (-1000..1000_i32).prop_map(f64::from),
        any::<f64>().prop_filter("finite", |value| value.is_finite()),
    ]
}

fn matcher() -> impl Strategy<Value = Matcher> {
    let plain = (name(), select(vec![MatchOp::Equal, MatchOp::NotEqual]), text());
    let regex = (name(), select(vec![MatchOp::Regex, MatchOp::NotRegex]), regex());
    prop_oneof![plain.boxed(), regex.boxed()]
        .prop_map(|(name, op, value)| Matcher::new(&name, op, &value).unwrap())
}

fn compare() -> impl Strategy<Value = CompareOp> {
    select(vec![
        CompareOp::Equal,
        CompareOp::NotEqual,
        CompareOp::Greater,
        CompareOp::GreaterOrEqual,
        CompareOp::Less,
        CompareOp::LessOrEqual,
    ])
}

fn size(name: String, op: CompareOp, text: &str) -> LabelFilter {
    let query = format!("{{a=\"b\"}} | {name} {} {text}", op.as_str());
    let Expr::Log(LogExpr { mut stages, .. }) = parse(&query).unwrap() else {
        panic!("{query} is a log query")
    };
    match stages.pop() {
        Some(Stage::LabelFilter(filter)) => filter,
        other => panic!("{query} is not {other:?}"),
    }
}

fn label_filter() -> impl Strategy<Value = LabelFilter> {
    let leaf = prop_oneof![
        matcher().prop_map(LabelFilter::Text),
        (name(), compare(), number()).prop_map(|(name, op, value)| LabelFilter::Number { name, op, value }),
        (name(), compare(), any::<i64>()).prop_map(|(name, op, nanos)| LabelFilter::Duration {
            name,
            op,
            nanos
        }),
        (
            name(),
            compare(),
            select(vec!["0B", "1KB", "1KiB", "1.5GiB", "10240B", "999PB"])
        )
            .prop_map(|(name, op, text)| size(name, op, text)),
        (name(), any::<bool>(), text()).prop_map(|(name, equal, pattern)| LabelFilter::Ip {
            name,
            equal,
            pattern
        }),
    ];
    leaf.prop_recursive(4, 12, 2, |inner| {
        (any::<bool>(), inner.clone(), inner).prop_map(|(and, left, right)| {
            let join = if and { LabelFilter::And } else { LabelFilter::Or };
            join(Box::new(left), Box::new(right))
        })
    })
}

fn line_filter() -> impl Strategy<Value = LineFilterExpr> {
    let plain = (
        select(vec![LineFilterOp::Contains, LineFilterOp::NotContains]),
        vec(
            prop_oneof![
                text().prop_map(LineFilterValue::Text),
                text().prop_map(LineFilterValue::Ip)
            ],
            1..4,
        ),
    );
    let regexes = (
        select(vec![LineFilterOp::Regex, LineFilterOp::NotRegex]),
        vec(regex().prop_map(LineFilterValue::Text), 1..4),
    );
    let patterns = (
        select(vec![LineFilterOp::Pattern, LineFilterOp::NotPattern]),
        vec(
            select(vec!["<_>", "a <_> b", ""]).prop_map(|text| LineFilterValue::Text(text.to_owned())),
            1..4,
        ),
    );
    prop_oneof![plain.boxed(), regexes.boxed(), patterns.boxed()].prop_map(|(op, mut values)| {
        // The parser makes `!= "a" or "b"` two filters.
        if op.is_negative() {
            values.truncate(1);
        }
        LineFilterExpr { op, values }
    })
}

fn extractions(least: usize) -> impl Strategy<Value = Vec<Extraction>> {
    let one = (name(), text()).prop_map(|(name, expression)| Extraction { name, expression });
    vec(one, least..4)
}

fn label_formats() -> impl Strategy<Value = Vec<LabelFormat>> {
    let value = prop_oneof![
        name().prop_map(LabelFormatValue::Rename),
        text().prop_map(LabelFormatValue::Template)
    ];
    vec(value, 1..4).prop_map(|values| {
        let one = |(index, value)| LabelFormat {
            name: format!("x{index}"),
            value,
        };
        values.into_iter().enumerate().map(one).collect()
    })
}

fn choices() -> impl Strategy<Value = Vec<LabelChoice>> {
    vec(
        prop_oneof![
            name().prop_map(LabelChoice::Name),
            matcher().prop_map(LabelChoice::Matching)
        ],
        1..4,
    )
}

fn stage() -> impl Strategy<Value = Stage> {
    prop_oneof![
        3 => line_filter().prop_map(Stage::LineFilter),
        1 => extractions(0).prop_map(Stage::Json),
        1 => (any::<bool>(), any::<bool>(), extractions(0))
            .prop_map(|(strict, keep_empty, params)| Stage::Logfmt { strict, keep_empty, params }),
        1 => select(vec!["(?P<x>.)", "`(?P<x>\\d+)"]).prop_map(|text| Stage::Regexp(text.to_owned())),
        1 => select(vec!["<a> <_>", "<a>\"`\n<b>"]).prop_map(|text| Stage::Pattern(text.to_owned())),
        1 => select(vec![Stage::Unpack, Stage::Decolorize]),
        3 => label_filter().prop_map(Stage::LabelFilter),
        1 => text().prop_map(Stage::LineFormat),
        1 => label_formats().prop_map(Stage::LabelFormat),
        1 => choices().prop_map(Stage::Drop),
        1 => choices().prop_map(Stage::Keep),
    ]
}

/// Whether `!=` or `!~` behind the stage would belong to the last label it names.
fn takes_operator(stage: &Stage) -> bool {
    matches!(stage, Stage::Drop(list) | Stage::Keep(list) if matches!(list.last(), Some(LabelChoice::Name(_))))
}

fn log() -> impl Strategy<Value = LogExpr> {
    (vec(matcher(), 0..3), vec(stage(), 0..5)).prop_map(|(mut matchers, mut stages)| {
        matchers.push(Matcher::new("job", MatchOp::Equal, "x").unwrap());
        stages.dedup_by(|later, earlier| takes_operator(earlier) && matches!(later, Stage::LineFilter(_)));
        LogExpr { matchers, stages }
    })
}

fn unwrap() -> impl Strategy<Value = Unwrap> {
    let conversion = select(vec![
        Conversion::Number,
        Conversion::Bytes,
        Conversion::Duration,
        Conversion::DurationSeconds,
    ]);
    ("x[a-z]{0,3}", conversion, vec(label_filter(), 0..3)).prop_map(|(label, conversion, filters)| Unwrap {
        label,
        conversion,
        filters,
    })
}

fn grouping() -> impl Strategy<Value = Grouping> {
    (any::<bool>(), vec(name(), 0..3)).prop_map(|(without, labels)| Grouping { without, labels })
}

fn range_aggregation() -> impl Strategy<Value = RangeAggregation> {
    let lines = vec![
        RangeOp::Rate,
        RangeOp::CountOverTime,
        RangeOp::BytesOverTime,
        RangeOp::BytesRate,
        RangeOp::AbsentOverTime,
    ];
    let sums = vec![
        RangeOp::Rate,
        RangeOp::RateCounter,
        RangeOp::SumOverTime,
        RangeOp::AbsentOverTime,
    ];
    let grouped = vec![
        RangeOp::AvgOverTime,
        RangeOp::MinOverTime,
        RangeOp::MaxOverTime,
        RangeOp::StddevOverTime,
        RangeOp::StdvarOverTime,
        RangeOp::QuantileOverTime,
        RangeOp::FirstOverTime,
        RangeOp::LastOverTime,
    ];
    let op = prop_oneof![
        (select(lines), Just(None), Just(None)).boxed(),
        (select(sums), unwrap().prop_map(Some), Just(None)).boxed(),
        (select(grouped), unwrap().prop_map(Some), option::of(grouping())).boxed(),
    ];
    let offset = prop_oneof![Just(0), -100_000_000..100_000_000_i64];
    (op, log(), 1..100_000_000_000_i64, offset, number()).prop_map(
        |((op, unwrap, grouping), log, range, offset, parameter)| RangeAggregation {
            op,
            // The grammar has no sign there either.
            parameter: (op == RangeOp::QuantileOverTime).then_some(parameter.abs()),
            range: LogRange {
                log,
                unwrap,
                range: range * MILLISECOND,
                offset: offset * MILLISECOND,
            },
            grouping,
        },
    )
}

fn aggregated(expr: impl Strategy<Value = MetricExpr>) -> impl Strategy<Value = MetricExpr> {
    let plain = vec![
        VectorOp::Sum,
        VectorOp::Avg,
        VectorOp::Min,
        VectorOp::Max,
        VectorOp::Count,
        VectorOp::Stddev,
        VectorOp::Stdvar,
        VectorOp::Topk,
        VectorOp::Bottomk,
    ];
    // `by ()` says nothing in a vector aggregation, and is not kept.
    let grouping = grouping().prop_filter("says nothing", |grouping| !grouping.is_single());
    let op = prop_oneof![
        (select(plain), option::of(grouping)).boxed(),
        (
            select(vec![VectorOp::Sort, VectorOp::SortDesc, VectorOp::ApproxTopk]),
            Just(None)
        )
            .boxed(),
    ];
    (op, 1..1000_i64, expr).prop_map(|((op, grouping), k, expr)| {
        let takes_k = matches!(op, VectorOp::Topk | VectorOp::Bottomk | VectorOp::ApproxTopk);
        MetricExpr::Aggregate(VectorAggregation {
            op,
            parameter: takes_k.then_some(k),
            grouping,
            expr: Box::new(expr),
        })
    })
}

fn binary_op() -> impl Strategy<Value = BinaryOp> {
    prop_oneof![
        select(vec![
            BinaryOp::Add,
            BinaryOp::Sub,
            BinaryOp::Mul,
            BinaryOp::Div,
            BinaryOp::Mod,
            BinaryOp::Pow,
            BinaryOp::And,
            BinaryOp::Or,
            BinaryOp::Unless,
        ]),
        compare().prop_map(BinaryOp::Compare),
    ]
}

fn matching(op: BinaryOp) -> impl Strategy<Value = Option<Matching>> {
    let group = (any::<bool>(), vec(name(), 0..3)).prop_map(|(left, include)| GroupSide { left, include });
    let matching =
        (any::<bool>(), vec(name(), 0..3), option::of(group)).prop_map(move |(on, labels, group)| {
            let group = group.filter(|_| !op.is_set());
            Matching { on, labels, group }
        });
    // `ignoring ()` alone says nothing, and is not kept.
    let says_something =
        |matching: &Matching| matching.on || !matching.labels.is_empty() || matching.group.is_some();
    option::of(matching.prop_filter("says nothing", says_something))
}

/// Sides are no bare numbers together: the parser computes those.
fn binary(side: impl Strategy<Value = MetricExpr> + Clone + 'static) -> impl Strategy<Value = MetricExpr> {
    let literal = number().prop_map(MetricExpr::Literal);
    (
        binary_op(),
        side.clone(),
        prop_oneof![3 => side.boxed(), 1 => literal.boxed()],
        any::<(bool, bool)>(),
    )
        .prop_flat_map(|(op, one, other, (swapped, return_bool))| {
            let other = match other {
                MetricExpr::Literal(value) if op.is_set() => MetricExpr::Vector(value.abs()),
                other => other,
            };
            let (left, right) = if swapped { (other, one) } else { (one, other) };
            let has_literal = [&left, &right]
                .iter()
                .any(|side| matches!(side, MetricExpr::Literal(_)));
            matching(op).prop_map(move |matching| {
                MetricExpr::Binary(Box::new(BinaryExpr {
                    op,
                    return_bool: return_bool && op.is_comparison(),
                    matching: matching.filter(|_| !has_literal),
                    left: left.clone(),
                    right: right.clone(),
                }))
            })
        })
}

fn replaced(expr: impl Strategy<Value = MetricExpr>) -> impl Strategy<Value = MetricExpr> {
    (expr, text(), text(), text(), regex()).prop_map(|(expr, destination, replacement, source, regex)| {
        MetricExpr::LabelReplace(Box::new(LabelReplace {
            expr,
            destination,
            replacement,
            source,
            regex,
        }))
    })
}

fn metric() -> impl Strategy<Value = MetricExpr> {
    let leaf = prop_oneof![
        4 => range_aggregation().prop_map(MetricExpr::Range),
        // The grammar has no sign there.
        1 => number().prop_map(|value| MetricExpr::Vector(value.abs())),
    ];
    leaf.prop_recursive(4, 12, 2, |inner| {
        prop_oneof![
            2 => aggregated(inner.clone()),
            3 => binary(inner.clone()),
            1 => replaced(inner),
        ]
    })
}

fn query() -> impl Strategy<Value = Expr> {
    prop_oneof![
        log().prop_map(Expr::Log),
        metric().prop_map(Expr::Metric),
        number().prop_map(|value| Expr::Metric(MetricExpr::Literal(value))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500,
        max_shrink_iters: 60_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn trees_come_back(tree in query()) {
        let printed = tree.to_string();
        let again = parse(&printed).map_err(|error| TestCaseError::fail(format!("{printed}: {error}")))?;
        prop_assert_eq!(&tree, &again, "{}", printed);
        let pretty = format_query(&printed).map_err(|error| TestCaseError::fail(format!("{printed}: {error}")))?;
        let again = parse(&pretty).map_err(|error| TestCaseError::fail(format!("{pretty}: {error}")))?;
        prop_assert_eq!(&tree, &again, "{}", pretty);
        // What is formatted stays as it is.
        prop_assert_eq!(&pretty, &format_query(&pretty).unwrap());
    }
}

#[test]
fn numbers_that_only_operations_make_are_printed_as_operations() {
    for (query, printed) in [
        ("+2/+0", "(0 / 0)"),
        ("10 ^ 400", "(10 ^ 309)"),
        ("-10 ^ 401", "(-10 ^ 309)"),
    ] {
        let tree = parse(query).unwrap();
        assert_eq!(tree.to_string(), printed, "{query}");
        assert_eq!(
            format!("{:?}", parse(printed).unwrap()),
            format!("{tree:?}"),
            "{query}"
        );
    }
}
