//! Rows to a segment's bytes.

use ulid::Ulid;

use crate::{SegmentError, SegmentFooter};

/// How a segment is written.
#[derive(Debug, Clone)]
pub struct WriterOptions {
    /// Rows after which a block is full. More compresses better and makes reading a few rows dearer.
    pub block_rows: usize,
    /// Line bytes after which a block is full; one longer line makes a block of its own.
    pub block_line_bytes: usize,
    /// zstd level of lines, metadata and footer.
    pub zstd_level: i32,
    /// Compaction level, kept in the footer.
    pub level: u8,
    /// Segments whose rows this one holds, kept in the footer.
    pub replaces: Vec<Ulid>,
    /// What writes, kept in the footer for people.
    pub created_by: String,
}

impl Default for WriterOptions {
    fn default() -> Self {
        WriterOptions {
            block_rows: 65_536,
            block_line_bytes: 4 << 20,
            zstd_level: 3,
            level: 0,
            replaces: Vec::new(),
            created_by: concat!("rankline ", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// Turns rows into a segment, block by block.
#[derive(Debug)]
pub struct SegmentWriter {
    _options: WriterOptions,
}

/// A finished segment.
#[derive(Debug)]
pub struct Finished {
    /// Bytes not yet drained; the whole object when [`SegmentWriter::drain`] was never called.
    pub bytes: Vec<u8>,
    /// What [`SegmentFooter::parse`] would read back.
    pub footer: SegmentFooter,
    /// Size of the whole object.
    pub total_bytes: u64,
}

impl SegmentWriter {
    /// A writer with no rows. Options beyond the format's limits are brought down to them.
    pub fn new(options: WriterOptions) -> Self {
        SegmentWriter { _options: options }
    }

    /// Starts the next stream. Streams come in ascending order of their label pairs (names ascending and unique),
    /// each once. A stream without rows is left out.
    ///
    /// # Errors
    /// When the order is broken or a limit of the format passed.
    pub fn begin_stream(&mut self, labels: &[(&str, &str)]) -> Result<(), SegmentError> {
        let _ = labels;
        Err(SegmentError::Input("not built yet".into()))
    }

    /// Adds a row to the current stream: ascending `ts` (ns since the epoch; equal allowed, order kept), any line,
    /// metadata with names ascending and unique.
    ///
    /// # Errors
    /// When the order is broken or a limit of the format passed; the row is then not in the segment.
    pub fn push(&mut self, ts: i64, line: &str, metadata: &[(&str, &str)]) -> Result<(), SegmentError> {
        let _ = (ts, line, metadata);
        Err(SegmentError::Input("not built yet".into()))
    }

    /// Bytes finished so far, for callers that upload in parts; `finish` gives the rest.
    pub fn drain(&mut self) -> Vec<u8> {
        Vec::new()
    }

    /// Bytes that [`SegmentWriter::drain`] would give.
    pub fn drainable(&self) -> usize {
        0
    }

    /// Writes what is left, footer and trailer.
    ///
    /// # Errors
    /// When the footer passes a limit of the format.
    pub fn finish(self) -> Result<Finished, SegmentError> {
        Err(SegmentError::Input("not built yet".into()))
    }
}
