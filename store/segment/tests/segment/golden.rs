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
fn v1_empty() {
    check("v1-empty", empty());
}
