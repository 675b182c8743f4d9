//! Merging against its model: sort by time and input, keep the first of equal rows.

use std::{collections::HashSet, convert::Infallible, sync::Arc};

use proptest::prelude::*;
use rankline_segment::{
    Cursor, Finished, MergeError, MergeStats, SegmentFooter, SegmentWriter, WriterOptions, merge,
};

use crate::model::{Row, Rows, any_options, any_rows, footer, read, slice, write};

fn cursor<'a, E>(object: &'a [u8], footer: SegmentFooter) -> Cursor<'a, E> {
    Cursor::new(Arc::new(footer), move |range| Ok(slice(object, range).to_vec()))
}

fn merged(objects: &[Vec<u8>], options: WriterOptions) -> (MergeStats, Vec<u8>, Finished) {
    let inputs = objects
        .iter()
        .map(|object| cursor(object, footer(object).unwrap()))
        .collect();
    let mut writer = SegmentWriter::new(options);
    let mut bytes = Vec::new();
    let stats = merge(inputs, &mut writer, |writer| {
        bytes.extend(writer.drain());
        Ok::<_, Infallible>(())
    });
    let finished = writer.finish().unwrap();
    bytes.extend(&finished.bytes);
    (stats.unwrap(), bytes, finished)
}

fn model(inputs: &[Rows]) -> Rows {
    let mut all = Rows::new();
    for input in inputs {
        for (labels, rows) in input {
            all.entry(labels.clone())
                .or_default()
                .extend(rows.iter().cloned());
        }
    }
    for rows in all.values_mut() {
        let mut seen = HashSet::new();
        rows.retain(|row| seen.insert(row.clone()));
        rows.sort_by_key(|row| row.ts);
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn is_sorting_and_dropping_duplicates(
        mut inputs in prop::collection::vec(any_rows(), 0..5),
        again in any::<bool>(),
        written in any_options(),
        options in any_options(),
    ) {
        if again && let Some(first) = inputs.first().cloned() {
            inputs.push(first);
        }
        let objects: Vec<_> = inputs.iter().map(|rows| write(rows, written.clone()).bytes).collect();
        let (stats, bytes, finished) = merged(&objects, options);
        let expected = model(&inputs);
        let given: usize = inputs.iter().flat_map(Rows::values).map(Vec::len).sum();
        prop_assert_eq!(stats.rows + stats.duplicates, given as u64);
        prop_assert_eq!(stats.rows, finished.footer.rows);
        prop_assert_eq!(read(&bytes).unwrap(), expected);
    }
}

/// A line of one of a few templates of either vocabulary, or of none.
fn any_line() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => (0..5000u32, 0..8u32).prop_map(|(step, rank)| format!("[rank{rank}]: step {step} loss 0.{step:04}")),
        3 => (0..40u64).prop_map(|n| format!("id {:016x} of node-{}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15), n % 3)),
        2 => "(alice|bob|carol)".prop_map(|user| format!("user={user} ok=yes")),
        1 => Just("always the same".to_owned()),
        1 => any::<String>(),
    ]
}

fn any_templates() -> impl Strategy<Value = Rows> {
    let row = (0..40i64, any_line(), prop::option::of("[ab]")).prop_map(|(ts, line, metadata)| Row {
        ts,
        line,
        metadata: metadata
            .map(|value| ("k".to_owned(), value))
            .into_iter()
            .collect(),
    });
    prop::collection::btree_map(
        "[ab]".prop_map(|name| vec![("job".to_owned(), name)]),
        prop::collection::vec(row, 1..150),
        1..3,
    )
    .prop_map(|mut rows| {
        rows.values_mut().for_each(|rows| rows.sort_by_key(|row| row.ts));
        rows
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn templates_go_from_block_to_block(
        inputs in prop::collection::vec((any_templates(), any::<bool>()), 1..4),
        templates in any::<bool>(),
        block_rows in prop_oneof![Just(7usize), Just(40), Just(10_000)],
        removed in prop::option::of(0..40i64),
    ) {
        let options = |templates, block_rows| WriterOptions {
            templates,
            block_rows,
            ..WriterOptions::default()
        };
        let objects: Vec<_> = inputs
            .iter()
            .map(|(rows, templates)| write(rows, options(*templates, 100)).bytes)
            .collect();
        let cursors = objects.iter().map(|object| {
            let cursor = cursor::<Infallible>(object, footer(object).unwrap());
            match removed {
                Some(at) => cursor.keeping(move |_, ts, line, _| ts != at || line.contains("step")),
                None => cursor,
            }
        });
        let mut writer = SegmentWriter::new(options(templates, block_rows));
        let stats = merge(cursors.collect(), &mut writer, |_| Ok(())).unwrap();
        let finished = writer.finish().unwrap();
        let mut inputs: Vec<Rows> = inputs.into_iter().map(|(rows, _)| rows).collect();
        for rows in inputs.iter_mut().flat_map(Rows::values_mut) {
            rows.retain(|row| Some(row.ts) != removed || row.line.contains("step"));
        }
        let mut expected = model(&inputs);
        expected.retain(|_, rows| !rows.is_empty());
        prop_assert_eq!(stats.rows, finished.footer.rows);
        prop_assert_eq!(read(&finished.bytes).unwrap(), expected);
    }
}

fn rows(lines: &[(i64, &str)]) -> Rows {
    let row = |&(ts, line): &(i64, &str)| Row {
        ts,
        line: line.into(),
        metadata: vec![],
    };
    Rows::from([(vec![("job".into(), "a".into())], lines.iter().map(row).collect())])
}

#[test]
fn duplicates_of_equal_time_need_not_be_neighbours() {
    let a = write(
        &rows(&[(1, "x"), (1, "y"), (2, "z"), (2, "x")]),
        WriterOptions::default(),
    )
    .bytes;
    let b = write(
        &rows(&[(1, "w"), (1, "x"), (2, "x"), (3, "x")]),
        WriterOptions::default(),
    )
    .bytes;
    let (stats, bytes, _) = merged(&[a, b], WriterOptions::default());
    assert_eq!(
        stats,
        MergeStats {
            rows: 6,
            duplicates: 2,
            removed: 0
        }
    );
    assert_eq!(
        read(&bytes).unwrap(),
        rows(&[(1, "x"), (1, "y"), (1, "w"), (2, "z"), (2, "x"), (3, "x")])
    );
}

#[test]
fn rows_keep_all_their_metadata_however_much_it_is() {
    let row = |ts: i64| Row {
        ts,
        line: "line".into(),
        metadata: (0..ts)
            .map(|n| (format!("name_{n:02}"), format!("{n} of {ts}")))
            .collect(),
    };
    let of = |times: std::ops::Range<i64>| {
        Rows::from([(vec![("job".into(), "a".into())], times.map(row).collect())])
    };
    let objects: Vec<_> = [0..7, 7..11, 11..20]
        .map(|times| write(&of(times), WriterOptions::default()).bytes)
        .into();
    let (stats, bytes, _) = merged(&objects, WriterOptions::default());
    assert_eq!((stats.rows, stats.duplicates), (20, 0));
    assert_eq!(read(&bytes).unwrap(), of(0..20));
}

#[test]
fn metadata_is_part_of_what_is_equal() {
    let with = |pairs: &[(&str, &str)]| {
        let metadata = pairs
            .iter()
            .map(|(n, v)| (n.to_string(), v.to_string()))
            .collect();
        Rows::from([(
            vec![],
            vec![Row {
                ts: 1,
                line: "x".into(),
                metadata,
            }],
        )])
    };
    let variants = [
        with(&[]),
        with(&[("a", "bc")]),
        with(&[("ab", "c")]),
        with(&[("a", ""), ("bc", "")]),
    ];
    let objects: Vec<_> = variants
        .iter()
        .map(|rows| write(rows, WriterOptions::default()).bytes)
        .collect();
    let (stats, ..) = merged(&objects, WriterOptions::default());
    assert_eq!(
        stats,
        MergeStats {
            rows: 4,
            duplicates: 0,
            removed: 0
        }
    );
}

#[test]
fn failures_name_the_input() {
    let good = write(&rows(&[(1, "x")]), WriterOptions::default()).bytes;
    let parsed = footer(&good).unwrap();
    let mut bad = good.clone();
    bad[parsed.blocks[0].range().start as usize] ^= 1;
    let mut writer = SegmentWriter::new(WriterOptions::default());
    let inputs = vec![
        cursor(&good, parsed.clone()),
        cursor::<Infallible>(&bad, parsed.clone()),
    ];
    match merge(inputs, &mut writer, |_| Ok(())).unwrap_err() {
        MergeError::Input { input, source } => assert!(input == 1 && source.is_corrupt()),
        other => panic!("{other}"),
    }
    let mut writer = SegmentWriter::new(WriterOptions::default());
    let failing = Cursor::new(Arc::new(parsed.clone()), |_| Err("gone"));
    match merge(vec![failing], &mut writer, |_| Ok(())).unwrap_err() {
        MergeError::Fetch { input, source } => assert_eq!((input, source), (0, "gone")),
        other => panic!("{other}"),
    }
    // A footer that promises more rows than its blocks hold.
    let mut more = parsed;
    more.streams[0].rows = 2;
    let mut writer = SegmentWriter::new(WriterOptions::default());
    let error = merge(vec![cursor::<Infallible>(&good, more)], &mut writer, |_| Ok(())).unwrap_err();
    assert!(
        error.to_string().contains("stream 0 has 1 rows, 2 are declared"),
        "{error}"
    );
}

#[test]
fn a_cursor_leaves_out_what_it_is_told_to() {
    let stream = |name: &str| {
        (
            vec![("job".into(), name.into())],
            rows(&[(1, "x"), (2, "y"), (3, "x")])
                .into_values()
                .next()
                .unwrap(),
        )
    };
    let object = write(&Rows::from([stream("a"), stream("b")]), WriterOptions::default()).bytes;
    let cursor = || cursor::<Infallible>(&object, footer(&object).unwrap());
    let mut writer = SegmentWriter::new(WriterOptions::default());
    let keep = |stream, ts, line: &str, _: &[(&str, &str)]| stream == 1 && (ts == 1 || line == "y");
    let stats = merge(vec![cursor().keeping(keep)], &mut writer, |_| Ok(())).unwrap();
    assert_eq!((stats.rows, stats.removed, stats.duplicates), (2, 4, 0));
    let mut expected = Rows::from([stream("b")]);
    expected.values_mut().for_each(|rows| rows.truncate(2));
    assert_eq!(read(&writer.finish().unwrap().bytes).unwrap(), expected);
    // What one cursor leaves out another may still have.
    let mut writer = SegmentWriter::new(WriterOptions::default());
    let stats = merge(
        vec![cursor(), cursor().keeping(|_, _, _, _| false)],
        &mut writer,
        |_| Ok(()),
    )
    .unwrap();
    assert_eq!((stats.rows, stats.removed), (6, 6));
}
