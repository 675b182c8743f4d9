//! The HTTP API: routes, and the state they share.

pub mod delete;
pub mod detected;
pub mod encode;
pub mod error;
pub mod index;
pub mod labels;
mod limits;
pub mod params;
pub mod patterns;
pub mod push;
pub mod query;
mod rules;
pub mod status;
pub mod tail;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode};
use tower::util::MapRequest;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;

use crate::catalog::Catalog;
use crate::config::Config;
use crate::ingest::Ingester;
use crate::live::LiveHub;
use crate::query::Engine;
use crate::replicas::Replicas;
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

/// The routes for entries, below the configured prefix: pushes and queries.
pub fn router(state: AppState) -> Router {
    let prefix = state.config.path_prefix.clone();
    below(&prefix, entry_routes(state))
}

/// All routes, below the configured prefix, with answers compressed for clients that ask for it.
pub fn service(state: AppState, status: status::StatusState) -> Router {
    let prefix = state.config.path_prefix.clone();
    let routes = entry_routes(state).merge(status::routes(status));
    let compression = CompressionLayer::new().quality(CompressionLevel::Fastest);
    let routes = routes.layer(compression).layer(from_fn(no_head));
    tidied(below(&prefix, routes.fallback(not_found)))
}

fn entry_routes(state: AppState) -> Router {
    let reading = query::QueryState {
        engine: Arc::clone(&state.queries),
        live: Arc::clone(&state.live),
        replicas: Arc::new(Replicas::new(
            state.ingester.process(),
            Arc::clone(&state.queries),
            Arc::clone(&state.live),
        )),
        max_tails: state.config.max_tails,
        tenants_required: state.config.tenants_required,
    };
    let deleting = delete::DeleteState {
        deletes: Arc::clone(state.queries.deletes()),
        cancel_period: state.config.delete_cancel_period,
        tenants_required: state.config.tenants_required,
    };
    Router::new()
        .merge(push::routes())
        .with_state(state)
        .merge(query::routes(reading))
        .merge(delete::routes(deleting))
}

/// What Loki says to a path it doesn't know.
async fn not_found() -> (StatusCode, &'static str) {
    (StatusCode::NOT_FOUND, "404 page not found\n")
}

/// The API knows no `HEAD`, as Loki's doesn't; what probes look at does.
async fn no_head(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let is_api = path.contains("/api/");
    if request.method() == Method::HEAD && is_api {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    next.run(request).await
}

/// Takes `//loki/api/v1/push`, which a base URL with a slash at its end makes, for what is meant.
fn tidied(routes: Router) -> Router {
    let one_slash = |mut request: Request| {
        let rest = request.uri().path_and_query().map(|rest| rest.as_str());
        let tidy = rest
            .filter(|rest| rest.starts_with("//"))
            .map(|rest| format!("/{}", rest.trim_start_matches('/')));
        if let Some(uri) = tidy.and_then(|tidy| tidy.parse().ok()) {
            *request.uri_mut() = uri;
        }
        request
    };
    Router::new().fallback_service(MapRequest::new(routes, one_slash))
}

fn below(prefix: &str, routes: Router) -> Router {
    if prefix.is_empty() {
        routes
    } else {
        Router::new().nest(prefix, routes)
    }
}

#[cfg(test)]
mod tests;
