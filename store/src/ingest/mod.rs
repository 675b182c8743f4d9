//! From decoded pushes to acknowledged segments. Knows nothing of HTTP.

pub mod decode;
mod error;
pub mod level;
pub mod names;
pub mod validate;

use std::sync::Arc;

pub use error::PushError;

use crate::catalog::Catalog;
use crate::config::Config;
use crate::entry::StreamEntries;
use crate::live::LiveHub;
use crate::storage::Storage;
use crate::tenants::TenantId;

/// What became of a push.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PushOutcome {
    /// Entries stored.
    pub entries: u64,
}

/// Takes pushes, writes segments, acknowledges.
#[derive(Debug, Clone)]
pub struct Ingester {
    _catalog: Arc<Catalog>,
    _live: Arc<LiveHub>,
}

impl Ingester {
    /// Starts taking pushes.
    #[must_use]
    pub fn new(_config: &Config, _storage: Storage, catalog: Arc<Catalog>, live: Arc<LiveHub>) -> Self {
        Self {
            _catalog: catalog,
            _live: live,
        }
    }

    /// Returns when the entries are in the object store and in the catalog.
    ///
    /// # Errors
    /// [`PushError`]; nothing is acknowledged then.
    pub async fn push(
        &self,
        _tenant: &TenantId,
        _streams: Vec<StreamEntries>,
    ) -> Result<PushOutcome, PushError> {
        Err(PushError::Stopping)
    }
}
