//! Random questions to random entries: the answer is the same before and after compaction, in blocks of any size, with
//! one thread or many, and with decoded columns kept from the question before, thrown away, or some of both.

use super::*;
use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

/// Longer than all batches together, ns.
const ALL: i64 = 600 * NS;

/// Batches whose lines have more to tell apart: hex, floats, quoted values.
fn varied(seed: u64) -> Vec<Vec<Row>> {
    let mut all = batches(4, 60, seed);
    for row in all.iter_mut().flatten().filter(|row| !row.line.is_empty()) {
        let hash = xxh3_64(format!("{}{}", row.line, row.ts).as_bytes());
        if hash % 5 == 4 {
            row.line = json_line(&row.line, hash);
            continue;
        }
        let tail = match hash % 4 {
            0 => format!(" id=0x{:08x} took={}ms", hash >> 32, hash % 300),
            1 => format!(" t={}.{:02}", hash % 7, hash % 97),
            2 => format!(r#" {{"key": "k{}", "rank": {}}}"#, hash % 5, hash % 3),
            _ => String::new(),
        };
        row.line.push_str(&tail);
    }
    all
}

/// A line of a service that logs JSON, now and then a faulty one.
fn json_line(message: &str, hash: u64) -> String {
    let message = message.replace('\n', "\\n");
    let (took, key) = (hash % 977, hash % 5);
    match hash % 7 {
        0 => format!(
            r#"{{"msg":"{message}","took":{took},"ok":{},"key":"k{key}"}}"#,
            hash.is_multiple_of(2)
        ),
        1 => {
            format!(r#"{{"msg":"{message}","req":{{"took":{took}.{key},"key":"{hash:x}"}},"rank":"{key}"}}"#)
        }
        2 => format!(r#"{{"took":{took},"msg":"{message}","key":"k{key}" "#),
        3 => format!(r#"{{"key":"k{key}","k{key}":{took},"took":-{took}}}"#),
        4 => format!(
            r#"{{"took":{},"key":"\n{took}\u00e{key}"}}"#,
            ["null", "true", "oops", "17"][took as usize % 4]
        ),
        _ => format!(r#"key=k{key} took={took} ok=true msg="{message}\t{took}""#),
    }
}

fn filter() -> impl Strategy<Value = String> {
    let operator = prop::sample::select(vec!["|=", "!="]);
    let text = prop::sample::select(vec![
        "NCCL",
        "CL IN",
        "step=1",
        "step=",
        "=7 ",
        "7",
        "0x",
        "k3",
        "\"key\": \"k",
        "é",
        "t=3.",
        "absent",
        "",
        "3",
    ]);
    let pattern = prop::sample::select(vec![
        "(?i)nccl",
        "err.r|loss",
        "step=[0-9]+ l",
        "(?i)STEP=1.*K",
        "^step",
        "ms$",
        "k[12]\"",
        ".*",
        "0x[0-9a-f]{8} ",
        "(?i)s",
        "z|y",
        "loss|NCCL",
        "(?i)nccl|LOSS",
        "(step=1|step=2)[0-9] ",
        "took|k[13]",
    ]);
    let matches = prop::sample::select(vec!["|~", "!~"]);
    prop_oneof![
        (operator.clone(), text.clone()).prop_map(|(operator, text)| format!("{operator} {text:?}")),
        (operator, text.clone(), text)
            .prop_map(|(operator, one, two)| format!("{operator} {one:?} or {two:?}")),
        (matches, pattern).prop_map(|(matches, pattern)| format!("{matches} `{pattern}`")),
    ]
}

fn stage() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => filter(),
        1 => prop::sample::select(vec![
            "| logfmt", "| json", "| trace=\"1\"", "| regexp `\"key\": \"(?P<key>[^\"]+)\"`",
            "| regexp `step=(?P<key>[0-9]+) l`", "| regexp `tep=(?P<app>.)`", "| regexp `took=(?P<key>[0-9]*)ms` | key > 100",
            "| regexp `ey\":\"(?P<key>[^\"]*)\"` | key=\"k1\"", "| regexp `=(?P<key>[0-9]+)$`", "| regexp `s=(?P<key>[0-9a-z ]+)$`",
            "| logfmt | trace=\"1\"", "| json | detected_level=\"info\" | key=\"k2\"", "| json | rank=\"2\"", "| regexp `(?P<key>N.*)` | key=\"NCCL\"",
            "| json took=\"took\", key=\"req.key\" | took < 500", "| json key=\"key\" | key=\"k3\"",
            "| logfmt | step > 20", "| json | took > 500", "| json | key=\"k1\" | ok=\"true\"", "| json | req_took < 300",
            "| json | rank_extracted=\"2\" or took > 900", "| json | __error__=\"\" | key!~\"k[12]\"", "| logfmt | took < 100 | ok=\"true\"",
            "| pattern `key=<key> took=<took> <_>` | took > 700", "| json | app=\"train\" | line_format \"{{.took}}\"",
            "| pattern `step=<n> <rest>`", "| detected_level=\"info\"", "| trace=~\"0|\" | app!=\"eval\"",
            "| trace=\"1\" or rank=\"2\"", "| trace > 0", "| drop trace", "| line_format \"{{.rank}}\"",
        ]).prop_map(str::to_owned),
    ]
}

/// Selector, line filters, other stages.
fn pipeline() -> impl Strategy<Value = String> {
    let selector = prop::sample::select(vec![
        r#"{app=~".+"}"#,
        r#"{app="train"}"#,
        r#"{rank="1"}"#,
        r#"{app="eval", rank!="3"}"#,
        r#"{app="none"}"#,
    ]);
    (selector, prop::collection::vec(stage(), 0..4))
        .prop_map(|(selector, stages)| format!("{selector} {}", stages.join(" ")))
        // `drop x` takes a `!= "a"` behind it for its own, and then an `or` is too much.
        .prop_filter("is no query", |query| rankline_logql::parse(query).is_ok())
}

/// Sums are left out where they are of fractions: their order may differ.
fn metric() -> impl Strategy<Value = String> {
    let by = prop::sample::select(vec![
        "sum",
        "sum by (app)",
        "max by (rank)",
        "count",
        "sum by (key)",
        "sum by (trace, detected_level)",
        "sum without (trace)",
    ]);
    let range = prop::sample::select(vec!["5s", "30s", "1m", "20m"]);
    let counted = prop::sample::select(vec!["count_over_time", "bytes_over_time", "rate"]);
    let counted = counted.prop_map(|fold| (fold, "| __error__=\"\""));
    let unwrapped = prop::sample::select(vec![
        "| logfmt | unwrap step | __error__=\"\"",
        "| regexp `tep=(?P<v>[0-9]+)` | unwrap v",
        "| regexp `t=(?P<v>[0-9.]+)` | unwrap v | v < 5",
        "| json | unwrap took | __error__=\"\"",
        "| json | key=\"k1\" | unwrap req_took | __error__=\"\"",
    ]);
    let unwrapped = (
        prop::sample::select(vec!["max_over_time", "min_over_time"]),
        unwrapped,
    );
    let fold = prop_oneof![3 => counted, 2 => unwrapped];
    (by, fold, pipeline(), range)
        .prop_map(|(by, (fold, end), pipeline, range)| format!("{by} ({fold}({pipeline} {end} [{range}]))"))
}

struct Setting {
    name: &'static str,
    engine: Engine,
}

async fn settings(batches: &[Vec<Row>]) -> Vec<Setting> {
    let bare = QueryLimits {
        cache: 0,
        ..one_thread()
    };
    // Holds a block or two, so that some are thrown away and decoded anew.
    let tight = QueryLimits {
        cache: 20 << 10,
        threads: 3,
        ..QueryLimits::default()
    };
    let mut all = Vec::new();
    for (name, merge, block_rows, limits) in [
        ("flushed, no cache, one thread", 1, 65_536, bare.clone()),
        ("flushed, small blocks", 1, 13, QueryLimits::default()),
        ("compacted, no cache, one thread", 4, 65_536, bare),
        ("compacted, small blocks", 4, 50, QueryLimits::default()),
        ("half compacted, tight cache", 2, 40, tight),
    ] {
        let engine = engine(batches, merge, block_rows, limits).await;
        all.push(Setting { name, engine });
    }
    all
}

async fn same_rows(settings: &[Setting], request: &LogRequest, query: &str) {
    let mut first: Option<Vec<Shown>> = None;
    for setting in settings {
        for time in ["cold", "warm"] {
            let answer = setting
                .engine
                .log(&[TenantId::default()], request.clone())
                .await
                .unwrap();
            let rows = shown(&answer);
            let what = format!(
                "{query} {:?} {}: {}, {time}",
                request.direction, request.limit, setting.name
            );
            assert_same(&rows, first.get_or_insert_with(|| rows.clone()), &what);
        }
    }
}

async fn same_numbers(settings: &[Setting], query: &str, step: i64) {
    let Expr::Metric(expr) = rankline_logql::parse(query).unwrap() else {
        panic!("{query}")
    };
    let spec = rankline_logql::EvalSpec {
        start: START,
        end: START + 150 * NS,
        step,
    };
    let mut first: Option<String> = None;
    for setting in settings {
        for time in ["cold", "warm"] {
            let request = MetricRequest {
                expr: expr.clone(),
                spec,
                partial: false,
            };
            let answer = setting.engine.metric(&[TenantId::default()], request).await;
            let shown = match answer {
                Ok(answer) => format!("{:?}", answer.value),
                // Which entry is met first may differ, so the error's text may.
                Err(_) => "an error".to_owned(),
            };
            let want = first.get_or_insert_with(|| shown.clone());
            assert_eq!(&shown, want, "{query} step {step}: {}, {time}", setting.name);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn answers_are_equal_under_every_setting(
        seed in any::<u64>(),
        logs in prop::collection::vec((pipeline(), 1usize..300, any::<bool>()), 12),
        metrics in prop::collection::vec((metric(), 1i64..40), 12),
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let settings = settings(&varied(seed)).await;
            for (query, limit, forward) in logs {
                let request = LogRequest {
                    expr: log_expr(&query),
                    start: START,
                    end: START + ALL,
                    limit,
                    direction: if forward { Direction::Forward } else { Direction::Backward },
                    interval: 0,
                };
                same_rows(&settings, &request, &query).await;
            }
            for (query, step) in metrics {
                same_numbers(&settings, &query, step * NS).await;
            }
        });
    }
}
