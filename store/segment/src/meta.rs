//! What a footer says: streams, blocks and their columns. Types alone; `footer` turns them into bytes and back,
//! `decode` reads the columns they point at.

use std::{fmt, ops::Range};

use ulid::Ulid;

use crate::LabelPairs;

/// A segment's index: everything needed to pick and read its blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentFooter {
    /// Format version of the object.
    pub version: u16,
    /// Compaction level: 0 as flushed, more for compacted.
    pub level: u8,
    /// What wrote the object, for people (`rankline 0.1.0`).
    pub created_by: Box<str>,
    /// Segments whose rows this one holds; readers that see both leave those out.
    pub replaces: Vec<Ulid>,
    /// Streams in ascending order of their label pairs; a stream's number is its index here.
    pub streams: Vec<StreamMeta>,
    /// Blocks in the order of their rows.
    pub blocks: Vec<BlockMeta>,
    /// Rows of all blocks.
    pub rows: u64,
    /// Earliest timestamp, ns since the epoch; 0 when there are no rows.
    pub min_ts: i64,
    /// Latest timestamp, ns since the epoch; 0 when there are no rows.
    pub max_ts: i64,
}

/// A stream of a segment and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamMeta {
    /// Label pairs, names ascending and unique.
    pub labels: LabelPairs,
    /// Rows in this segment.
    pub rows: u64,
    /// Bytes of its lines.
    pub line_bytes: u64,
    /// Bytes of names and values of its structured metadata.
    pub metadata_bytes: u64,
    /// Earliest timestamp, ns since the epoch.
    pub min_ts: i64,
    /// Latest timestamp, ns since the epoch.
    pub max_ts: i64,
}

/// A block: rows sorted by (stream, timestamp), so it holds the contiguous streams `first_stream..=last_stream`,
/// each with at least one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockMeta {
    /// Number of the block in its segment.
    pub index: u32,
    /// Rows.
    pub rows: u32,
    /// First stream that has rows here, an index into `SegmentFooter::streams`.
    pub first_stream: u32,
    /// Last stream that has rows here.
    pub last_stream: u32,
    /// Earliest timestamp, ns since the epoch.
    pub min_ts: i64,
    /// Latest timestamp, ns since the epoch.
    pub max_ts: i64,
    /// Bytes of the lines.
    pub line_bytes: u64,
    /// Column directory, in the order of the bytes.
    pub columns: Vec<ColumnMeta>,
}

/// Where a column is and how it is coded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnMeta {
    /// What it holds.
    pub kind: ColumnKind,
    /// Layout (low seven bits) and whether the payload is compressed (top bit); see FORMAT.md.
    pub encoding: u8,
    /// First byte in the object.
    pub offset: u64,
    /// Bytes in the object.
    pub len: u32,
    /// Bytes of the payload before compression.
    pub plain_len: u32,
    /// xxh3-64 of the bytes in the object.
    pub checksum: u64,
}

/// What a column holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ColumnKind {
    /// Rows for each stream of the block.
    Streams,
    /// Timestamps of the rows.
    Timestamps,
    /// Byte lengths of the lines.
    LineLengths,
    /// The lines, one after another.
    LineText,
    /// The templates of the lines, and the directory of their variables.
    Templates,
    /// Which template each row has.
    TemplateIds,
    /// The variables of all templates.
    Variables,
    /// The lines that have no template, one after another.
    OtherText,
    /// Values of one structured-metadata name.
    Metadata(Box<str>),
}

impl fmt::Display for ColumnKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ColumnKind::Streams => f.write_str("streams"),
            ColumnKind::Timestamps => f.write_str("timestamps"),
            ColumnKind::LineLengths => f.write_str("line lengths"),
            ColumnKind::LineText => f.write_str("line text"),
            ColumnKind::Templates => f.write_str("templates"),
            ColumnKind::TemplateIds => f.write_str("template ids"),
            ColumnKind::Variables => f.write_str("variables"),
            ColumnKind::OtherText => f.write_str("other text"),
            ColumnKind::Metadata(name) => write!(f, "metadata {name:?}"),
        }
    }
}

impl ColumnKind {
    /// Whether the column is part of what the lines say, however they are stored.
    pub fn is_text(&self) -> bool {
        use ColumnKind::{LineText, OtherText, TemplateIds, Templates, Variables};
        matches!(self, LineText | Templates | TemplateIds | Variables | OtherText)
    }
}

impl ColumnMeta {
    /// The column's bytes in the object.
    pub fn range(&self) -> Range<u64> {
        self.offset..self.offset.saturating_add(u64::from(self.len))
    }
}

impl BlockMeta {
    /// The column of `kind`; `None` for metadata names that no row of the block has.
    pub fn column(&self, kind: &ColumnKind) -> Option<&ColumnMeta> {
        self.columns.iter().find(|column| column.kind == *kind)
    }

    /// Whether the lines are stored as templates and variables rather than as one text.
    pub fn has_templates(&self) -> bool {
        self.column(&ColumnKind::Templates).is_some()
    }

    /// Structured-metadata columns, names ascending.
    pub fn metadata_columns(&self) -> impl Iterator<Item = (&str, &ColumnMeta)> {
        self.columns.iter().filter_map(|column| match &column.kind {
            ColumnKind::Metadata(name) => Some((&**name, column)),
            _ => None,
        })
    }

    /// The bytes of all columns in the object: they lie side by side, the text last.
    pub fn range(&self) -> Range<u64> {
        let start = self.columns.first().map_or(0, |column| column.offset);
        start..self.columns.last().map_or(start, |column| column.range().end)
    }

    /// Whether the block holds rows of `stream`.
    pub fn holds_stream(&self, stream: u32) -> bool {
        (self.first_stream..=self.last_stream).contains(&stream)
    }
}

impl SegmentFooter {
    /// Blocks that hold rows of `stream`, in the order of their rows.
    pub fn blocks_of(&self, stream: u32) -> &[BlockMeta] {
        let start = self.blocks.partition_point(|block| block.last_stream < stream);
        let rest = self.blocks.get(start..).unwrap_or_default();
        rest.get(..rest.partition_point(|block| block.first_stream <= stream))
            .unwrap_or_default()
    }

    /// Bytes of all lines.
    pub fn line_bytes(&self) -> u64 {
        self.blocks
            .iter()
            .map(|block| block.line_bytes)
            .fold(0, u64::saturating_add)
    }
}
