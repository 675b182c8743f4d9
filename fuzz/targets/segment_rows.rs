//! What is written is read back, found by what its lines contain, and merged into what sorting would give.
#![no_main]

use std::collections::{BTreeMap, HashSet};
use std::convert::Infallible;
use std::sync::Arc;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use rankline_fuzz::bounded;
use rankline_segment::{
    BlockMeta, BlockText, ColumnKind, Cursor, Needle, SegmentFooter, SegmentWriter, WriterOptions,
    locate_footer, merge,
};

#[derive(Debug, Arbitrary)]
struct Input {
    block_rows: u8,
    block_line_bytes: Option<u8>,
    templates: bool,
    rows: Vec<RowInput>,
    needle: Pick,
}

#[derive(Debug, Arbitrary)]
struct RowInput {
    stream: u8,
    other_segment: bool,
    ts: Ts,
    line: LineInput,
    /// So many more rows like it, with other numbers: templates need company.
    more: u8,
    metadata: Vec<(u8, String)>,
}

#[derive(Debug, Arbitrary)]
enum Ts {
    Near(u16),
    Any(i64),
}

#[derive(Debug, Arbitrary)]
enum LineInput {
    Text(String),
    Step(u32, u16),
    Id(u64, String),
}

/// A piece of some line, with something behind it.
#[derive(Debug, Arbitrary)]
struct Pick {
    row: u8,
    start: u8,
    len: u8,
    tail: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Row {
    ts: i64,
    line: String,
    metadata: Vec<(String, String)>,
}

type Rows = BTreeMap<Vec<(String, String)>, Vec<Row>>;

fuzz_target!(|input: Input| bounded(|| {
    let options = WriterOptions {
        block_rows: usize::from(input.block_rows) + 1,
        block_line_bytes: input
            .block_line_bytes
            .map_or(4 << 20, |bytes| usize::from(bytes) + 1),
        zstd_level: 1,
        templates: input.templates,
        created_by: "fuzz".into(),
        ..WriterOptions::default()
    };
    let parts = [false, true].map(|other| rows(&input.rows, other));
    let objects = parts.each_ref().map(|part| write(part, &options));
    for (part, object) in parts.iter().zip(&objects) {
        assert_eq!(read(object), *part);
        search(object, &input.needle);
    }
    assert_eq!(read(&merged(&objects, &options)), model(parts));
}));

fn rows(inputs: &[RowInput], other: bool) -> Rows {
    let mut rows = Rows::new();
    for input in inputs.iter().filter(|row| row.other_segment == other).take(32) {
        let labels = (0..input.stream % 4)
            .map(|n| (format!("l{n}"), format!("{}", input.stream / 4)))
            .collect();
        let metadata: BTreeMap<String, String> = input
            .metadata
            .iter()
            .take(4)
            .map(|(name, value)| (format!("m{}", name % 6), value.clone()))
            .collect();
        let metadata: Vec<_> = metadata.into_iter().collect();
        let stream: &mut Vec<Row> = rows.entry(labels).or_default();
        for n in 0..=u64::from(input.more % 24) {
            let ts = match input.ts {
                Ts::Near(ms) => 1_700_000_000_000_000_000 + i64::from(ms) * 1_000_000,
                Ts::Any(ts) => ts,
            };
            stream.push(Row {
                ts,
                line: line(&input.line, n),
                metadata: metadata.clone(),
            });
        }
    }
    rows.values_mut().for_each(|rows| rows.sort_by_key(|row| row.ts));
    rows
}

fn line(input: &LineInput, n: u64) -> String {
    match input {
        LineInput::Text(text) if n == 0 => text.clone(),
        LineInput::Text(text) => format!("{text}{n}"),
        LineInput::Step(step, loss) => {
            format!("[rank{}]: step={} loss 0.{loss:04}", n % 8, u64::from(*step) + n)
        }
        LineInput::Id(id, text) => format!("{{\"id\":\"{:x}\",\"{text}\":\"{n}é\"}}", id.wrapping_mul(n + 1)),
    }
}

fn borrowed(pairs: &[(String, String)]) -> Vec<(&str, &str)> {
    pairs.iter().map(|(name, value)| (&**name, &**value)).collect()
}

fn write(rows: &Rows, options: &WriterOptions) -> Vec<u8> {
    let mut writer = SegmentWriter::new(options.clone());
    for (labels, rows) in rows {
        writer
            .begin_stream(&borrowed(labels))
            .expect("streams are in order");
        for row in rows {
            writer
                .push(row.ts, &row.line, &borrowed(&row.metadata))
                .expect("rows are in order");
        }
    }
    writer.finish().expect("no limit is near").bytes
}

fn footer(object: &[u8]) -> SegmentFooter {
    let range = locate_footer(object, object.len() as u64).expect("it was written so");
    SegmentFooter::parse(&object[range.start as usize..]).expect("it was written so")
}

fn column<'a>(object: &'a [u8], block: &BlockMeta, kind: &ColumnKind) -> &'a [u8] {
    let range = block.column(kind).expect("the block has it").range();
    &object[range.start as usize..range.end as usize]
}

fn text(object: &[u8], block: &BlockMeta) -> BlockText {
    // Clones of the block live long enough here alone, so the bytes are looked up by kind.
    block
        .decode_text(|kind| column(object, block, kind))
        .expect("it was written so")
}

fn read(object: &[u8]) -> Rows {
    let footer = footer(object);
    let mut rows = Rows::new();
    for block in &footer.blocks {
        let lines = text(object, block).into_lines().expect("it was written so");
        let timestamps = block
            .decode_timestamps(column(object, block, &ColumnKind::Timestamps))
            .expect("so");
        let metadata: Vec<_> = block
            .metadata_columns()
            .map(|(name, meta)| {
                let bytes = column(object, block, &ColumnKind::Metadata(name.into()));
                (
                    name.to_owned(),
                    block.decode_metadata(meta, bytes).expect("it was written so"),
                )
            })
            .collect();
        for run in block
            .decode_streams(column(object, block, &ColumnKind::Streams))
            .expect("so")
        {
            let labels = footer.streams[run.stream as usize].labels.iter();
            let labels = labels
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect();
            let stream = rows.entry(labels).or_default();
            for row in (run.first_row..run.first_row + run.rows).map(|row| row as usize) {
                let values = metadata
                    .iter()
                    .filter_map(|(name, values)| Some((name.clone(), values.get(row)?.to_owned())));
                stream.push(Row {
                    ts: timestamps[row],
                    line: lines.get(row).to_owned(),
                    metadata: values.collect(),
                });
            }
        }
    }
    rows
}

/// A search finds exactly the lines that contain the text.
fn search(object: &[u8], pick: &Pick) {
    for block in &footer(object).blocks {
        let BlockText::Templates(lines) = text(object, block) else {
            continue;
        };
        let all = lines.all_lines().expect("it was written so");
        let from = all.get(usize::from(pick.row) % all.rows());
        let piece = from
            .chars()
            .skip(usize::from(pick.start) % 40)
            .take(usize::from(pick.len) % 24);
        let needle: String = piece.chain(pick.tail.chars().take(3)).collect();
        let (Some(exact), folded) = (Needle::new(&needle), Needle::ignoring_case(&needle)) else {
            continue;
        };
        let found = lines.rows_with(&exact).expect("it was written so");
        for (row, line) in (0..).zip(all.iter()) {
            assert_eq!(
                found.contains(row),
                line.contains(&needle),
                "{needle:?} in {line:?}"
            );
        }
        let Some(folded) = folded else { continue };
        let found = lines.rows_with(&folded).expect("it was written so");
        let lower = needle.to_ascii_lowercase();
        for (row, line) in (0..).zip(all.iter()).filter(|(_, line)| line.is_ascii()) {
            assert_eq!(
                found.contains(row),
                line.to_ascii_lowercase().contains(&lower),
                "(?i){needle:?} in {line:?}"
            );
        }
    }
}

fn merged(objects: &[Vec<u8>], options: &WriterOptions) -> Vec<u8> {
    let inputs = objects
        .iter()
        .map(|object| {
            Cursor::new(Arc::new(footer(object)), |range| {
                Ok::<_, Infallible>(object[range.start as usize..range.end as usize].to_vec())
            })
        })
        .collect();
    let mut writer = SegmentWriter::new(options.clone());
    merge(inputs, &mut writer, |_| Ok::<_, Infallible>(())).expect("both can be read");
    writer.finish().expect("no limit is near").bytes
}

fn model(parts: [Rows; 2]) -> Rows {
    let mut all = Rows::new();
    for (labels, rows) in parts.into_iter().flatten() {
        all.entry(labels).or_default().extend(rows);
    }
    for rows in all.values_mut() {
        let mut seen = HashSet::new();
        rows.retain(|row| seen.insert(row.clone()));
        rows.sort_by_key(|row| row.ts);
    }
    all
}
