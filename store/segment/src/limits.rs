//! Hard limits of the format: a writer never goes beyond them, a reader refuses what does. They bound what a reader
//! allocates for bytes that lie; changing one downwards is a new format version.

/// Newest format version read, and the one written with templates.
pub const VERSION: u16 = 2;
/// Format version written without templates: what came with [`VERSION`] isn't used then.
pub const VERSION_WITHOUT_TEMPLATES: u16 = 1;
/// Rows of a block.
pub const MAX_BLOCK_ROWS: u32 = 1 << 20;
/// Bytes of one line, and of all lines of a block.
pub const MAX_LINE_BYTES: u64 = 64 << 20;
/// Bytes of a column before compression.
pub const MAX_COLUMN_BYTES: u64 = 128 << 20;
/// Structured-metadata names of a block, so also of an entry.
pub const MAX_METADATA_COLUMNS: usize = 1024;
/// Bytes of names and values of one entry's structured metadata.
pub const MAX_METADATA_BYTES: u64 = 32 << 20;
/// Bytes of the footer before compression.
pub const MAX_FOOTER_BYTES: u64 = 256 << 20;
/// Bytes of all label names and values of all streams, counted as often as they are used.
pub const MAX_LABEL_BYTES: u64 = 512 << 20;
/// Streams of a segment.
pub const MAX_STREAMS: u32 = 1 << 22;
/// Labels of a stream.
pub const MAX_LABELS: u32 = 1024;
/// Segments one segment may replace.
pub const MAX_REPLACES: u32 = 1 << 20;
