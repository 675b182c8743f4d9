//! Column bytes to rows.

use crate::{BlockMeta, ColumnMeta, Lines, MetadataColumn, Part, SegmentError, StreamRun};

impl BlockMeta {
    /// Which rows belong to which stream. `bytes` are those of the [`crate::ColumnKind::Streams`] column.
    ///
    /// # Errors
    /// When the bytes are corrupt, here and in all `decode_*`.
    pub fn decode_streams(&self, bytes: &[u8]) -> Result<Vec<StreamRun>, SegmentError> {
        let _ = bytes;
        Err(self.unbuilt())
    }

    /// Timestamps of all rows, ns since the epoch; ascending within each run of one stream.
    pub fn decode_timestamps(&self, bytes: &[u8]) -> Result<Vec<i64>, SegmentError> {
        let _ = bytes;
        Err(self.unbuilt())
    }

    /// Byte lengths of all lines.
    pub fn decode_line_lengths(&self, bytes: &[u8]) -> Result<Vec<u32>, SegmentError> {
        let _ = bytes;
        Err(self.unbuilt())
    }

    /// The lines. `lengths` and `text` are the bytes of those two columns.
    pub fn decode_lines(&self, lengths: &[u8], text: &[u8]) -> Result<Lines, SegmentError> {
        let _ = (lengths, text);
        Err(self.unbuilt())
    }

    /// One structured-metadata column; `column` is one of [`BlockMeta::metadata_columns`].
    pub fn decode_metadata(&self, column: &ColumnMeta, bytes: &[u8]) -> Result<MetadataColumn, SegmentError> {
        let _ = (column, bytes);
        Err(self.unbuilt())
    }

    fn unbuilt(&self) -> SegmentError {
        SegmentError::corrupt(Part::Block(self.index), "not built yet")
    }
}
