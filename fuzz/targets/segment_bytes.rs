//! Segments that somebody else has written, or nobody: whatever the bytes, an answer or an error, in bounded memory.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use rankline_fuzz::bounded;
use rankline_segment::{
    BlockMeta, BlockText, ColumnKind, ColumnMeta, Needle, SegmentError, SegmentFooter, locate_footer,
};
use xxhash_rust::xxh3::xxh3_64;

const HEADER_BYTES: usize = 16;

#[derive(Debug, Arbitrary)]
enum Input<'a> {
    /// An object as it stands.
    Object(&'a [u8]),
    /// A footer that passes its checksum.
    Footer { version: bool, plain: &'a [u8] },
    /// A block whose columns pass their checksums.
    Block(Block<'a>),
}

#[derive(Debug, Arbitrary)]
struct Block<'a> {
    rows: u16,
    more_streams: u8,
    line_bytes: u16,
    span: u32,
    templates: bool,
    columns: [Column<'a>; 8],
}

#[derive(Debug, Arbitrary)]
struct Column<'a> {
    layout: u8,
    compressed: bool,
    wrong_length: Option<u16>,
    payload: &'a [u8],
}

fuzz_target!(|input: Input<'_>| bounded(|| match input {
    Input::Object(bytes) => {
        let _ = read(bytes);
    }
    Input::Footer { version, plain } => {
        let _ = read(&with_footer(plain, u16::from(version) + 1));
    }
    Input::Block(block) => block.read(),
}));

/// An object of a header and this footer, which is not compressed.
fn with_footer(plain: &[u8], version: u16) -> Vec<u8> {
    let mut trailer = Vec::new();
    trailer.extend((HEADER_BYTES as u64).to_le_bytes());
    trailer.extend((plain.len() as u32).to_le_bytes());
    trailer.extend((plain.len() as u32).to_le_bytes());
    trailer.extend(xxh3_64(plain).to_le_bytes());
    trailer.extend(version.to_le_bytes());
    trailer.extend([0, 0]);
    trailer.extend((xxh3_64(&trailer) as u32).to_le_bytes());
    trailer.extend(b"rklnsegm");
    [&[0; HEADER_BYTES], plain, &trailer].concat()
}

fn read(object: &[u8]) -> Result<(), SegmentError> {
    let range = locate_footer(object, object.len() as u64)?;
    let footer = SegmentFooter::parse(&object[range.start as usize..])?;
    for block in &footer.blocks {
        let column = |kind: &ColumnKind| {
            let range = block.column(kind).map_or(0..0, ColumnMeta::range);
            object
                .get(range.start as usize..range.end as usize)
                .unwrap_or_default()
        };
        read_block(block, column);
    }
    Ok(())
}

/// Reads all of a block, each part whether or not the ones before could be read.
fn read_block<'a>(block: &'a BlockMeta, column: impl Fn(&ColumnKind) -> &'a [u8]) {
    if let Ok(runs) = block.decode_streams(column(&ColumnKind::Streams)) {
        assert_eq!(runs.iter().map(|run| run.rows).sum::<u32>(), block.rows);
    }
    if let Ok(timestamps) = block.decode_timestamps(column(&ColumnKind::Timestamps)) {
        assert_eq!(timestamps.len(), block.rows as usize);
    }
    for (name, meta) in block.metadata_columns() {
        if let Ok(values) = block.decode_metadata(meta, column(&ColumnKind::Metadata(name.into()))) {
            (0..=values.rows()).for_each(|row| {
                let _ = values.get(row);
            });
        }
    }
    let Ok(text) = block.decode_text(&column) else {
        return;
    };
    if let BlockText::Templates(lines) = &text {
        for needle in ["1", "rank", "a 1", "e: \"x", "0f3a"] {
            let _ = Needle::new(needle).map(|needle| lines.rows_with(&needle));
            let _ = Needle::ignoring_case(needle).map(|needle| lines.rows_with(&needle));
        }
        let _ = lines.lines(&[0, block.rows / 2, block.rows - 1]);
    }
    if let Ok(lines) = text.into_lines() {
        assert_eq!(lines.rows(), block.rows as usize);
        assert_eq!(lines.iter().map(str::len).sum::<usize>() as u64, block.line_bytes);
    }
}

impl Block<'_> {
    fn read(&self) {
        let rows = u32::from(self.rows) + 1;
        let kinds: &[ColumnKind] = if self.templates {
            &[
                ColumnKind::Templates,
                ColumnKind::TemplateIds,
                ColumnKind::Variables,
                ColumnKind::OtherText,
            ]
        } else {
            &[ColumnKind::LineText]
        };
        let first = [
            ColumnKind::Streams,
            ColumnKind::Timestamps,
            ColumnKind::LineLengths,
            ColumnKind::Metadata("level".into()),
        ];
        let (mut columns, mut stored) = (Vec::new(), Vec::new());
        for (kind, column) in first.iter().chain(kinds).zip(&self.columns) {
            let bytes = column.stored();
            columns.push(ColumnMeta {
                kind: kind.clone(),
                encoding: column.layout % 4 | u8::from(column.compressed) << 7,
                offset: 0,
                len: bytes.len() as u32,
                plain_len: column.wrong_length.map_or(column.payload.len() as u32, u32::from),
                checksum: xxh3_64(&bytes),
            });
            stored.push(bytes);
        }
        let block = BlockMeta {
            index: 0,
            rows,
            first_stream: 0,
            last_stream: u32::from(self.more_streams).min(rows - 1),
            min_ts: 0,
            max_ts: self.span.into(),
            line_bytes: self.line_bytes.into(),
            columns,
        };
        let empty: &[u8] = &[];
        read_block(&block, |kind| {
            let at = block.columns.iter().position(|column| column.kind == *kind);
            at.map_or(empty, |at| &stored[at])
        });
    }
}

impl Column<'_> {
    fn stored(&self) -> Vec<u8> {
        if self.compressed {
            zstd::bulk::compress(self.payload, 1).expect("it is small")
        } else {
            self.payload.to_vec()
        }
    }
}
