//! A delete request as it lies in the store: one JSON object, `<prefix>/<tenant>/deletes/<ulid>.json`.

use serde::{Deserialize, Serialize};

/// Version of the object's form; a reader refuses a later one rather than guess.
pub(super) const VERSION: u32 = 1;

/// A delete request. Times are ms since the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteRecord {
    /// Form of the object.
    pub version: u32,
    /// LogQL: a selector and optional filters.
    pub query: String,
    /// First time of the entries.
    pub start_ms: i64,
    /// Last time of the entries, inclusive.
    pub end_ms: i64,
    /// When it was asked for.
    pub created_ms: i64,
    /// When nothing of what it names was left in the store; `None` until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processed_ms: Option<i64>,
}

/// How far a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteStatus {
    /// Queries leave its entries out; the store still has them.
    Received,
    /// Its entries are gone.
    Processed,
}

impl DeleteStatus {
    /// As Loki spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Processed => "processed",
        }
    }
}

impl DeleteRecord {
    /// How far it has come.
    #[must_use]
    pub fn status(&self) -> DeleteStatus {
        match self.processed_ms {
            None => DeleteStatus::Received,
            Some(_) => DeleteStatus::Processed,
        }
    }
}
