//! Segments as plain lists of rows, and a reader that goes through the public API only.

use std::{collections::BTreeMap, ops::Range};

use proptest::prelude::*;
use rankline_segment::{
    BlockMeta, ColumnKind, ColumnMeta, Finished, SegmentError, SegmentFooter, SegmentWriter, WriterOptions,
    locate_footer,
};

pub(crate) type Labels = Vec<(String, String)>;
pub(crate) type Pairs = Vec<(String, String)>;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Row {
    pub(crate) ts: i64,
    pub(crate) line: String,
    pub(crate) metadata: Pairs,
}

/// Streams in order, rows by time.
pub(crate) type Rows = BTreeMap<Labels, Vec<Row>>;

pub(crate) fn borrowed(pairs: &[(String, String)]) -> Vec<(&str, &str)> {
    pairs
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

pub(crate) fn write(rows: &Rows, options: WriterOptions) -> Finished {
    let mut writer = SegmentWriter::new(options);
    for (labels, rows) in rows {
        writer.begin_stream(&borrowed(labels)).unwrap();
        for row in rows {
            writer.push(row.ts, &row.line, &borrowed(&row.metadata)).unwrap();
        }
    }
    writer.finish().unwrap()
}

pub(crate) fn footer(object: &[u8]) -> Result<SegmentFooter, SegmentError> {
    let range = locate_footer(object, object.len() as u64)?;
    SegmentFooter::parse(slice(object, range))
}

pub(crate) fn slice(object: &[u8], range: Range<u64>) -> &[u8] {
    &object[range.start as usize..range.end as usize]
}

pub(crate) fn column<'a>(object: &'a [u8], block: &BlockMeta, kind: &ColumnKind) -> &'a [u8] {
    slice(object, block.column(kind).unwrap().range())
}

pub(crate) fn read(object: &[u8]) -> Result<Rows, SegmentError> {
    let footer = footer(object)?;
    let mut rows = Rows::new();
    for block in &footer.blocks {
        read_block(object, &footer, block, &mut rows)?;
    }
    Ok(rows)
}

fn read_block(
    object: &[u8],
    footer: &SegmentFooter,
    block: &BlockMeta,
    out: &mut Rows,
) -> Result<(), SegmentError> {
    let timestamps = block.decode_timestamps(column(object, block, &ColumnKind::Timestamps))?;
    let lines = block
        .decode_text(|kind| column(object, block, kind))?
        .into_lines()?;
    let decode = |(name, meta): (&str, &ColumnMeta)| {
        Ok((
            name.to_owned(),
            block.decode_metadata(meta, slice(object, meta.range()))?,
        ))
    };
    let metadata = block
        .metadata_columns()
        .map(decode)
        .collect::<Result<Vec<_>, SegmentError>>()?;
    for run in block.decode_streams(column(object, block, &ColumnKind::Streams))? {
        let labels = &footer.streams[run.stream as usize].labels;
        let labels = labels
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        let rows = out.entry(labels).or_default();
        for row in (run.first_row..run.first_row + run.rows).map(|row| row as usize) {
            let present = metadata
                .iter()
                .filter_map(|(name, column)| Some((name, column.get(row)?)));
            let metadata = present
                .map(|(name, value)| (name.clone(), value.to_owned()))
                .collect();
            rows.push(Row {
                ts: timestamps[row],
                line: lines.get(row).to_owned(),
                metadata,
            });
        }
    }
    Ok(())
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-c ]{0,12}",
        2 => any::<String>(),
        1 => Just("\0\n\r\0é🦀".to_owned()),
        1 => "(step=[0-9]{1,4} loss=[0-9]\\.[0-9]{3} ){0,30}",
        6 => log_line(),
    ]
}

/// Lines like those of programs: few templates, variables of many kinds.
pub(crate) fn log_line() -> impl Strategy<Value = String> {
    prop_oneof![
        (0u32..9, any::<u32>(), 0u32..9999)
            .prop_map(|(rank, step, loss)| format!("[rank{rank}]: step {step} loss 0.{loss:04}")),
        (1_700_000_000_000u64..1_700_000_000_090, "[a-z]{4,6}")
            .prop_map(|(ms, user)| format!(r#"{{"ms": {ms}, "user":"{user}"}}"#)),
        "id [0-9a-f]{4}-[0-9a-f]{4} (H100x8|A100x4|B[0-9]{1,3})",
        Just("é constant 17".to_owned()),
    ]
}

fn pairs(max: usize) -> impl Strategy<Value = Pairs> {
    prop::collection::btree_map("[a-d]{1,2}", prop_oneof!["[x-z]{0,1}", any::<String>()], 0..max)
        .prop_map(|pairs| pairs.into_iter().collect())
}

fn timestamp() -> impl Strategy<Value = i64> {
    prop_oneof![
        4 => (0i64..5).prop_map(|n| 1_700_000_000_000_000_000 + n * 1_000_000),
        2 => any::<i64>(),
        1 => prop_oneof![Just(i64::MIN), Just(i64::MAX), Just(0), Just(-1)],
    ]
}

fn row() -> impl Strategy<Value = Row> {
    (timestamp(), text(), pairs(4)).prop_map(|(ts, line, metadata)| Row { ts, line, metadata })
}

pub(crate) fn any_rows() -> impl Strategy<Value = Rows> {
    let stream = prop::collection::vec(row(), 1..40).prop_map(|mut rows| {
        rows.sort_by_key(|row| row.ts);
        rows
    });
    prop::collection::btree_map(pairs(3), stream, 0..6)
}

pub(crate) fn any_options() -> impl Strategy<Value = WriterOptions> {
    let sizes = (1usize..100, prop_oneof![1usize..400, Just(4 << 20)]);
    let ways = (1i32..4, any::<bool>(), any::<bool>());
    (sizes, ways).prop_map(|((rows, bytes), (level, templates, try_layouts))| WriterOptions {
        block_rows: rows,
        block_line_bytes: bytes,
        zstd_level: level,
        try_layouts,
        templates,
        created_by: "test".into(),
        ..WriterOptions::default()
    })
}
