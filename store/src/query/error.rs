//! Why a query failed. Texts are Loki's where it has one.

use crate::catalog::CatalogError;
use crate::storage::StorageError;
use rankline_logql::{EvalError, ParseError};
use rankline_segment::SegmentError;

/// A query that has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The query text is refused.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// A limit or a contradiction; the caller has to ask for something else.
    #[error("{0}")]
    Invalid(String),
    /// The evaluation of a metric query failed.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// The answer or what has to be kept for it is bigger than one query may use.
    #[error(
        "the query needs more than {limit} bytes of memory; narrow its time range, lower its limit or add more matchers"
    )]
    Memory {
        /// Bytes one query may use.
        limit: usize,
    },
    /// The streams of the query have more bytes in its range than it may read.
    #[error(
        "the query would read too many bytes (query: {bytes} B, limit: {limit} B); consider adding more specific stream selectors or reduce the time range of the query"
    )]
    TooManyBytes {
        /// Bytes of lines and structured metadata, about.
        bytes: u64,
        /// Most it may read.
        limit: u64,
    },
    /// Nobody waits for the answer any more.
    #[error("the request was cancelled by the client")]
    Cancelled,
    /// Longer than a query may take.
    #[error(
        "request timed out, decrease the duration of the request or add more label matchers (prefer exact match over regex match) to reduce the amount of data processed"
    )]
    Timeout,
    /// The catalog could not be read.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// An object could not be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A segment's bytes are not what its footer says.
    #[error("segment {path}: {source}")]
    Segment {
        /// The object.
        path: String,
        /// What is wrong.
        source: SegmentError,
    },
    /// A worker died while it scanned a block.
    #[error("scanning a block failed unexpectedly; the server's log says why")]
    Worker,
}

impl QueryError {
    /// The `outcome` under which the query is counted.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Parse(_) => "parse",
            Self::Invalid(_) => "invalid",
            Self::Eval(_) => "evaluation",
            Self::Memory { .. } => "memory",
            Self::TooManyBytes { .. } => "bytes",
            Self::Cancelled => "cancelled",
            Self::Timeout => "timeout",
            Self::Catalog(_) | Self::Storage(_) => "storage",
            Self::Segment { .. } => "corrupt",
            Self::Worker => "worker",
        }
    }

    /// Whether the object was gone, so that a fresh listing may know its successor.
    pub fn is_vanished(&self) -> bool {
        match self {
            Self::Storage(why) | Self::Catalog(CatalogError::Storage(why)) => why.is_not_found(),
            _ => false,
        }
    }
}
