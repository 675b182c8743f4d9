//! The HTTP API: routes, and the state they share.

pub mod detected;
pub mod encode;
pub mod error;
pub mod index;
pub mod labels;
pub mod params;
pub mod push;
pub mod query;
pub mod status;
pub mod tail;
pub mod unbuilt;

use std::sync::Arc;

use axum::Router;

use crate::catalog::Catalog;
use crate::config::Config;
use crate::ingest::Ingester;
use crate::live::LiveHub;
use crate::query::Engine;
use crate::storage::Storage;

/// What handlers share; cheap to clone.
#[derive(Debug, Clone)]
pub struct AppState {
    /// The options.
    pub config: Arc<Config>,
    /// Takes pushes.
    pub ingester: Ingester,
    /// Knows the segments.
    pub catalog: Arc<Catalog>,
    /// Reads and writes objects.
    pub storage: Storage,
    /// Hands new entries to tails.
    pub live: Arc<LiveHub>,
    /// Answers queries.
    pub queries: Arc<Engine>,
}

/// All routes, below the configured prefix.
pub fn router(state: AppState) -> Router {
    let prefix = state.config.path_prefix.clone();
    let reading = query::QueryState {
        engine: Arc::clone(&state.queries),
        live: Arc::clone(&state.live),
        tenants_required: state.config.tenants_required,
    };
    let routes = Router::new()
        .merge(push::routes())
        .with_state(state)
        .merge(query::routes(reading));
    if prefix.is_empty() {
        routes
    } else {
        Router::new().nest(&prefix, routes)
    }
}

#[cfg(test)]
mod tests;
