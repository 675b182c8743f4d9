//! Why a push isn't acknowledged.

use crate::storage::StorageError;

/// Why a push isn't acknowledged, or only in part. `Display` is the body of the answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PushError {
    /// No stream at all.
    #[error("error at least one valid stream is required for ingestion")]
    Empty,
    /// The request alone is larger than what pushes may hold in memory.
    #[error("request body too large: message size too large than max ({bytes} vs {limit})")]
    TooLarge {
        /// Bytes it needs.
        bytes: u64,
        /// Bytes there are.
        limit: u64,
    },
    /// Pushes that are not acknowledged yet fill their memory.
    #[error(
        "too many unacknowledged bytes in memory ({held} of {limit}), the store is slower than the pushes: send again later"
    )]
    Overloaded {
        /// Bytes held.
        held: u64,
        /// Bytes there are.
        limit: u64,
    },
    /// The service is going down.
    #[error("the service is shutting down")]
    Stopping,
    /// Entries were refused: each one's reason. The good ones are stored.
    #[error("{0}")]
    Refused(String),
    /// The segment could not be written in time. Nothing is acknowledged; sending again doubles nothing.
    #[error("could not store the entries, send them again: {0}")]
    Storage(std::sync::Arc<StorageError>),
    /// A fault of ours.
    #[error("could not store the entries: {0}")]
    Internal(String),
}
