//! The committed segments of `golden/`: reading them gives the committed rows, and writing the same rows gives the
//! same bytes. When a test here fails, the format changed: add a version (and keep these files readable); when
//! only zstd was upgraded, add a file beside the old ones. `RANKLINE_WRITE_GOLDEN=1` writes files that are missing.

use std::{fmt::Write as _, fs, path::PathBuf};

use rankline_segment::WriterOptions;
use ulid::Ulid;

use crate::model::{Row, Rows, footer, read, write};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("golden")
        .join(name)
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect()
}

/// Several blocks; both integer layouts; runs and dense ids; compressed and raw columns; times before the epoch.
fn training() -> (Rows, WriterOptions) {
    let mut rows = Rows::new();
    for rank in 0..8i64 {
        let of_rank = (0..100 + rank * 10).map(|step| Row {
            ts: 1_763_900_000_000_000_000 + step * 250_000_000 + rank,
            line: format!(
                "[rank{rank}]: step {step} loss {}.{:04}",
                step % 3,
                (step * 7919 + rank) % 10_000
            ),
            metadata: pairs(&[
                ("level", if step % 5 == 0 { "warn" } else { "info" }),
                ("node", "node-0"),
            ]),
        });
        rows.insert(
            pairs(&[("job", "llama"), ("rank", &rank.to_string())]),
            of_rank.collect(),
        );
    }
    let odd = [
        (i64::MIN, ""),
        (-1, "\0"),
        (0, "naïve 🦀\nTraceback"),
        (0, "naïve 🦀\nTraceback"),
        (i64::MAX, "z"),
    ];
    let odd = odd.map(|(ts, line)| Row {
        ts,
        line: line.into(),
        metadata: pairs(&[("trace", line)]),
    });
    rows.insert(vec![], odd.to_vec());
    let options = WriterOptions {
        block_rows: 500,
        zstd_level: 3,
        level: 1,
        replaces: vec![Ulid(0x0123_4567_89ab_cdef), Ulid(1)],
        created_by: "golden".into(),
        ..WriterOptions::default()
    };
    (rows, options)
}

/// The same lines and others, long enough for templates: every layout of variables, both vocabularies, lines of none.
fn templates() -> (Rows, WriterOptions) {
    let (mut rows, options) = training();
    let line = |n: i64| match n % 6 {
        0 => format!("at {} {}", 1_763_900_000_000 + n * 250, (n * 7919) % 100_003),
        1 => format!(
            "id {:016x} padded {:06}",
            (n + 1).wrapping_mul(0x1e37_79b9_7f4a_7c15),
            n * 31 % 99_991
        ),
        2 => format!("on {} x{}y", ["H100x8", "A100x4"][n as usize / 6 % 2], n % 1000),
        3 => format!(
            r#"{{"user":"{}","ok": "yes"}}"#,
            ["alice", "bob", "carol"][n as usize / 6 % 3]
        ),
        4 => format!("jitter {}", 10_000 + n + n * n % 7),
        _ => format!("one of a kind: {}", "z".repeat(n as usize % 50)),
    };
    let row = |n: i64| Row {
        ts: n,
        line: line(n),
        metadata: vec![],
    };
    rows.insert(pairs(&[("job", "mixed")]), (0..1500).map(row).collect());
    let options = WriterOptions {
        templates: true,
        block_rows: 1000,
        ..options
    };
    (rows, options)
}

fn empty() -> (Rows, WriterOptions) {
    (
        Rows::new(),
        WriterOptions {
            created_by: "golden".into(),
            ..WriterOptions::default()
        },
    )
}

/// Footer and rows as text, one thing a line.
fn describe(bytes: &[u8]) -> String {
    let footer = footer(bytes).unwrap();
    let mut text = String::new();
    let (version, level, by) = (footer.version, footer.level, &footer.created_by);
    writeln!(
        text,
        "version {version} level {level} by {by:?} replaces {:?}",
        footer.replaces
    )
    .unwrap();
    writeln!(
        text,
        "rows {} from {} to {}",
        footer.rows, footer.min_ts, footer.max_ts
    )
    .unwrap();
    for stream in &footer.streams {
        writeln!(text, "{stream:?}").unwrap();
    }
    for block in &footer.blocks {
        writeln!(text, "{block:?}").unwrap();
    }
    for (labels, rows) in read(bytes).unwrap() {
        writeln!(text, "{labels:?}").unwrap();
        for row in rows {
            writeln!(text, "  {} {:?} {:?}", row.ts, row.line, row.metadata).unwrap();
        }
    }
    text
}

fn check(name: &str, (rows, options): (Rows, WriterOptions)) {
    let (object, expected) = (
        path(&format!("{name}.seg")),
        path(&format!("{name}.expected.txt")),
    );
    let written = write(&rows, options).bytes;
    if !object.try_exists().unwrap() && std::env::var_os("RANKLINE_WRITE_GOLDEN").is_some() {
        fs::write(&object, &written).unwrap();
        fs::write(&expected, describe(&written)).unwrap();
    }
    let golden = fs::read(&object).unwrap();
    assert_eq!(
        describe(&golden),
        fs::read_to_string(&expected).unwrap(),
        "{name} reads differently"
    );
    assert_eq!(read(&golden).unwrap(), rows, "{name} holds other rows");
    assert!(
        written == golden,
        "{name} is written differently: a change of bytes needs a new format version"
    );
}

#[test]
fn v1_training() {
    check("v1-training", training());
}

#[test]
fn v2_templates() {
    check("v2-templates", templates());
}

#[test]
fn v1_empty() {
    check("v1-empty", empty());
}
