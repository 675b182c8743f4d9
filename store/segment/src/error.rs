//! What can be wrong with a segment's bytes or with the rows given to a writer. Knows the names of a segment's
//! parts; must not know where segments are kept.

use std::fmt;

use crate::ColumnKind;

/// The part of a segment object an error speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The first bytes: magic and version.
    Header,
    /// The fixed-size end of the object.
    Trailer,
    /// The index before the trailer.
    Footer,
    /// A whole block, by its number in the footer.
    Block(u32),
    /// One column of a block.
    Column {
        /// The block's number in the footer.
        block: u32,
        /// Which of its columns.
        kind: ColumnKind,
    },
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Header => f.write_str("header"),
            Part::Trailer => f.write_str("trailer"),
            Part::Footer => f.write_str("footer"),
            Part::Block(block) => write!(f, "block {block}"),
            Part::Column { block, kind } => write!(f, "block {block}, {kind} column"),
        }
    }
}

/// Why a segment can't be read or written. Reading errors name the part and the reason; the caller knows the object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SegmentError {
    /// The bytes contradict the format.
    #[error("corrupt segment: {part}: {reason}")]
    Corrupt {
        /// Where.
        part: Part,
        /// What is wrong.
        reason: String,
    },
    /// The bytes are not the ones that were written.
    #[error("corrupt segment: {part}: checksum is {found:016x}, expected {expected:016x}")]
    Checksum {
        /// Where.
        part: Part,
        /// xxh3 of the bytes at hand.
        found: u64,
        /// xxh3 that the directory or trailer gives.
        expected: u64,
    },
    /// Written by a format this build doesn't know.
    #[error("segment has format version {found}, this build reads version {supported}: upgrade rankline")]
    Version {
        /// Version in the object.
        found: u16,
        /// Newest version this build reads.
        supported: u16,
    },
    /// A declared or given size is beyond the format's hard limits (see FORMAT.md).
    #[error("{part}: {what} is {value}, the limit is {limit}")]
    TooLarge {
        /// Where.
        part: Part,
        /// Which size.
        what: &'static str,
        /// The size.
        value: u64,
        /// What the format allows.
        limit: u64,
    },
    /// Rows were given to a writer that break its contract.
    #[error("cannot write segment: {0}")]
    Input(String),
    /// zstd refused to compress, which only a wrong level or a lack of memory explains.
    #[error("cannot write segment: zstd failed on {part}: {reason}")]
    Compress {
        /// What was being written.
        part: Part,
        /// zstd's own words.
        reason: String,
    },
}

impl SegmentError {
    pub(crate) fn corrupt(part: Part, reason: impl Into<String>) -> Self {
        SegmentError::Corrupt {
            part,
            reason: reason.into(),
        }
    }

    pub(crate) fn limit(part: Part, what: &'static str, value: u64, limit: u64) -> Result<(), Self> {
        if value > limit {
            Err(SegmentError::TooLarge {
                part,
                what,
                value,
                limit,
            })
        } else {
            Ok(())
        }
    }

    /// Whether the object's bytes are at fault (rather than the rows given to a writer).
    pub fn is_corrupt(&self) -> bool {
        !matches!(self, SegmentError::Input(_) | SegmentError::Compress { .. })
    }
}
