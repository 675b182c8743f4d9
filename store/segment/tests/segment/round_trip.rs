//! What is written is read back, whatever it is; what can't be written is refused.

use proptest::prelude::*;
use rankline_segment::{ColumnKind, SegmentWriter, WriterOptions, limits};
use ulid::Ulid;

use crate::model::{Row, Rows, any_options, any_rows, borrowed, column, footer, read, slice, write};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_rows_come_back(rows in any_rows(), options in any_options()) {
        let finished = write(&rows, options.clone());
        prop_assert_eq!(finished.total_bytes, finished.bytes.len() as u64);
        prop_assert_eq!(&footer(&finished.bytes).unwrap(), &finished.footer);
        prop_assert_eq!(&read(&finished.bytes).unwrap(), &rows);
        let all: Vec<_> = rows.values().flatten().collect();
        prop_assert_eq!(finished.footer.rows, all.len() as u64);
        prop_assert_eq!(finished.footer.min_ts, all.iter().map(|row| row.ts).min().unwrap_or(0));
        prop_assert_eq!(finished.footer.max_ts, all.iter().map(|row| row.ts).max().unwrap_or(0));
        for (stream, rows) in finished.footer.streams.iter().zip(rows.values()) {
            let metadata = rows.iter().flat_map(|row| &row.metadata);
            prop_assert_eq!(stream.rows, rows.len() as u64);
            prop_assert_eq!(stream.line_bytes, rows.iter().map(|row| row.line.len() as u64).sum::<u64>());
            prop_assert_eq!(stream.metadata_bytes, metadata.map(|(n, v)| (n.len() + v.len()) as u64).sum::<u64>());
            prop_assert_eq!((stream.min_ts, stream.max_ts), (rows[0].ts, rows[rows.len() - 1].ts));
        }
        for block in &finished.footer.blocks {
            prop_assert!(block.rows as usize <= options.block_rows);
            prop_assert!(block.rows == 1 || block.line_bytes <= options.block_line_bytes as u64);
        }
    }

    #[test]
    fn drained_parts_are_the_whole(rows in any_rows(), options in any_options()) {
        let mut writer = SegmentWriter::new(options.clone());
        let mut bytes = Vec::new();
        for (labels, rows) in &rows {
            writer.begin_stream(&borrowed(labels)).unwrap();
            for row in rows {
                writer.push(row.ts, &row.line, &borrowed(&row.metadata)).unwrap();
                bytes.extend(writer.drain());
                prop_assert_eq!(writer.drainable(), 0);
            }
        }
        let finished = writer.finish().unwrap();
        bytes.extend(finished.bytes);
        let whole = write(&rows, options);
        prop_assert_eq!(finished.total_bytes, bytes.len() as u64);
        prop_assert_eq!(bytes, whole.bytes);
    }

    #[test]
    fn decoded_columns_agree_with_themselves(rows in any_rows(), options in any_options()) {
        let finished = write(&rows, options);
        for block in &finished.footer.blocks {
            let lengths = column(&finished.bytes, block, &ColumnKind::LineLengths);
            let lines = block.decode_text(|kind| column(&finished.bytes, block, kind)).unwrap().into_lines().unwrap();
            let widths: Vec<_> = lines.iter().map(|line| line.len() as u32).collect();
            prop_assert_eq!(block.decode_line_lengths(lengths).unwrap(), widths);
            prop_assert_eq!(lines.iter().collect::<String>(), lines.text());
            for row in (0..lines.rows()).filter(|&row| !lines.get(row).is_empty()) {
                let start = lines.offsets()[row] as usize;
                prop_assert_eq!(lines.row_of(start), row);
                prop_assert_eq!(lines.row_of(start + lines.get(row).len() - 1), row);
            }
            for (_, meta) in block.metadata_columns() {
                let bytes = slice(&finished.bytes, meta.range());
                let column = block.decode_metadata(meta, bytes).unwrap();
                let mut covered = 0;
                column.for_each_run(|rows, id| {
                    assert_eq!(rows.start, covered);
                    assert!(rows.clone().all(|row| column.id(row) == id));
                    covered = rows.end;
                });
                prop_assert_eq!(covered, block.rows as usize);
                prop_assert!(column.constant().is_none_or(|id| (0..column.rows()).all(|row| column.id(row) == id)));
            }
        }
    }
}

#[test]
fn very_long_lines_make_their_own_blocks() {
    let long = "é".repeat(2 << 20);
    let lines = ["", "short", &long, "", &long, "end"];
    let rows: Vec<_> = lines
        .iter()
        .map(|line| Row {
            ts: 5,
            line: line.to_string(),
            metadata: vec![],
        })
        .collect();
    let rows = Rows::from([(vec![], rows)]);
    let finished = write(&rows, WriterOptions::default());
    assert_eq!(read(&finished.bytes).unwrap(), rows);
    assert!(finished.footer.blocks.len() > 2);
}

#[test]
fn blocks_of_a_stream_are_found() {
    let labels = |n: u32| vec![("rank".to_owned(), format!("{n:02}"))];
    let row = |ts| Row {
        ts,
        line: "x".into(),
        metadata: vec![],
    };
    let rows: Rows = (0..20)
        .map(|n| (labels(n), (0..i64::from(n) + 1).map(row).collect()))
        .collect();
    let footer = write(
        &rows,
        WriterOptions {
            block_rows: 16,
            ..WriterOptions::default()
        },
    )
    .footer;
    for stream in 0..20 {
        let holding: Vec<_> = footer
            .blocks
            .iter()
            .filter(|block| block.holds_stream(stream))
            .collect();
        assert_eq!(footer.blocks_of(stream).iter().collect::<Vec<_>>(), holding);
        assert!(!holding.is_empty());
    }
    assert!(footer.blocks_of(20).is_empty());
}

#[test]
fn footer_keeps_level_and_replaces() {
    let replaces = vec![Ulid(7), Ulid(u128::MAX)];
    let options = WriterOptions {
        level: 2,
        replaces: replaces.clone(),
        ..WriterOptions::default()
    };
    let finished = write(&Rows::new(), options);
    let read = footer(&finished.bytes).unwrap();
    assert_eq!((read.level, read.replaces, read.rows), (2, replaces, 0));
    assert!(read.created_by.starts_with("rankline "));
}

#[test]
fn many_metadata_names_split_blocks() {
    let names = limits::MAX_METADATA_COLUMNS;
    let row = |n: usize| Row {
        ts: 0,
        line: String::new(),
        metadata: vec![(format!("k{n}"), "v".into())],
    };
    let rows = Rows::from([(vec![], (0..3 * names).map(row).collect())]);
    let finished = write(&rows, WriterOptions::default());
    assert!(
        finished
            .footer
            .blocks
            .iter()
            .all(|block| block.metadata_columns().count() <= names)
    );
    assert_eq!(read(&finished.bytes).unwrap(), rows);
}

#[test]
fn rows_out_of_order_are_refused_and_change_nothing() {
    let mut writer = SegmentWriter::new(WriterOptions::default());
    assert!(
        writer
            .push(0, "", &[])
            .unwrap_err()
            .to_string()
            .contains("before its stream")
    );
    assert!(writer.begin_stream(&[("b", ""), ("a", "")]).is_err());
    writer.begin_stream(&[("a", "2")]).unwrap();
    writer.push(5, "kept", &[]).unwrap();
    assert!(
        writer
            .push(4, "", &[])
            .unwrap_err()
            .to_string()
            .contains("timestamp 4 comes after 5")
    );
    assert!(writer.push(5, "", &[("b", ""), ("b", "")]).is_err());
    let many: Vec<_> = (0..=limits::MAX_METADATA_COLUMNS)
        .map(|n| format!("{n:05}"))
        .collect();
    assert!(
        writer
            .push(
                5,
                "",
                &many.iter().map(|name| (name.as_str(), "")).collect::<Vec<_>>()
            )
            .is_err()
    );
    assert!(
        writer
            .push(5, &"x".repeat(limits::MAX_LINE_BYTES as usize + 1), &[])
            .is_err()
    );
    assert!(writer.begin_stream(&[("a", "1")]).is_err());
    assert!(writer.begin_stream(&[("a", "2")]).is_err());
    let finished = writer.finish().unwrap();
    let kept = Row {
        ts: 5,
        line: "kept".into(),
        metadata: vec![],
    };
    let labels = vec![("a".to_owned(), "2".to_owned())];
    assert_eq!(read(&finished.bytes).unwrap(), Rows::from([(labels, vec![kept])]));
}

#[test]
fn streams_without_rows_are_left_out() {
    let mut writer = SegmentWriter::new(WriterOptions::default());
    for value in ["1", "2", "3", "4"] {
        writer.begin_stream(&[("a", value)]).unwrap();
        if value == "2" {
            writer.push(1, "x", &[]).unwrap();
        }
    }
    let footer = writer.finish().unwrap().footer;
    assert_eq!(footer.streams.len(), 1);
    assert_eq!(footer.streams[0].labels.iter().next(), Some(("a", "2")));
}
