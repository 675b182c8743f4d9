//! The index at an object's end: finding it, parsing it, writing it.

use std::ops::Range;

use crate::{Part, SegmentError, SegmentFooter};

/// Bytes of the fixed-size end of every segment object.
pub const TRAILER_BYTES: usize = 40;
/// How much of an object's end to ask for first: trailer and footer of most segments in one read.
pub const TAIL_READ_BYTES: usize = 64 << 10;

/// Where the footer of an object of `object_bytes` is, given its last bytes (at least [`TRAILER_BYTES`]).
/// The range reaches to the object's end: [`SegmentFooter::parse`] takes exactly these bytes.
///
/// # Errors
/// When the trailer is cut short, isn't one, or is of another version.
pub fn locate_footer(tail: &[u8], object_bytes: u64) -> Result<Range<u64>, SegmentError> {
    let _ = (tail, object_bytes);
    Err(SegmentError::corrupt(Part::Trailer, "not built yet"))
}

impl SegmentFooter {
    /// Parses the bytes of the range that [`locate_footer`] gives: footer and trailer.
    ///
    /// # Errors
    /// When the bytes are corrupt or beyond the format's limits.
    pub fn parse(bytes: &[u8]) -> Result<Self, SegmentError> {
        let _ = bytes;
        Err(SegmentError::corrupt(Part::Footer, "not built yet"))
    }
}
