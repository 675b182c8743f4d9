//! Status endpoints: ready, metrics, build information, flush, log level. None of them needs a tenant.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;

use super::encode::json_response;
use super::error::ApiError;
use super::params::Params;
use crate::config::Config;
use crate::ingest::Ingester;
use crate::metrics::LogLevel;

/// What the status endpoints look at.
#[derive(Clone)]
pub struct StatusState {
    /// The options, shown with secrets hidden.
    pub config: Arc<Config>,
    /// Flushed on request.
    pub ingester: Ingester,
    /// Set once the service is going down.
    pub stopping: Arc<AtomicBool>,
    /// Renders the metrics.
    pub metrics: PrometheusHandle,
    /// Reads and changes what is logged.
    pub log_level: LogLevel,
}

impl std::fmt::Debug for StatusState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StatusState")
            .field("stopping", &self.stopping)
            .finish_non_exhaustive()
    }
}

/// Routes of this module.
pub fn routes(state: StatusState) -> Router {
    Router::new()
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/loki/api/v1/status/buildinfo", get(build_info))
        .route("/flush", get(flush).post(flush))
        .route("/config", get(config))
        .route("/services", get(services))
        .route("/log_level", get(log_level).post(set_log_level))
        .route("/ring", get(no_ring))
        .route("/distributor/ring", get(no_ring))
        .route("/compactor/ring", get(no_ring))
        .route("/ruler/ring", get(no_ring))
        .route("/memberlist", get(no_memberlist))
        .route("/ingester/shutdown", get(no_shutdown).post(no_shutdown))
        .with_state(state)
        .merge(preparing())
}

/// What operators of Loki call before they take an ingester away. A shutdown always flushes here, so the answer is
/// kept and nothing depends on it.
fn preparing() -> Router {
    let prepare = get(is_prepared).post(prepare).delete(unprepare);
    Router::new()
        .route("/ingester/prepare_shutdown", prepare)
        .with_state(Arc::new(AtomicBool::new(false)))
}

async fn is_prepared(State(prepared): State<Arc<AtomicBool>>) -> &'static str {
    if prepared.load(Ordering::Acquire) {
        "set"
    } else {
        "unset"
    }
}

async fn prepare(State(prepared): State<Arc<AtomicBool>>) -> StatusCode {
    prepared.store(true, Ordering::Release);
    StatusCode::NO_CONTENT
}

async fn unprepare(State(prepared): State<Arc<AtomicBool>>) -> StatusCode {
    prepared.store(false, Ordering::Release);
    StatusCode::NO_CONTENT
}

/// Nobody may end the service over HTTP.
async fn no_shutdown() -> ApiError {
    ApiError::NotBuilt(
        "rankline does not shut down over HTTP: send the process SIGTERM; it answers what is in flight, flushes and ends. What is acknowledged is stored already"
            .to_owned(),
    )
}

async fn ready(State(state): State<StatusState>) -> Response {
    if state.stopping.load(Ordering::Acquire) {
        return (StatusCode::SERVICE_UNAVAILABLE, "the service is shutting down\n").into_response();
    }
    "ready\n".into_response()
}

async fn metrics(State(state): State<StatusState>) -> Response {
    state.metrics.run_upkeep();
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], state.metrics.render()).into_response()
}

/// Loki's shape; clients show the version and otherwise only want the keys.
async fn build_info() -> Response {
    let revision = option_env!("RANKLINE_BUILD_REVISION").unwrap_or("unknown");
    answer(&json!({
        "version": env!("CARGO_PKG_VERSION"),
        "revision": revision,
        "branch": "main",
        "buildUser": "rankline",
        "buildDate": option_env!("RANKLINE_BUILD_DATE").unwrap_or("unknown"),
        "goVersion": "",
    }))
}

/// Starts a flush of every open batch. There is no need to: what is acknowledged is stored.
async fn flush(State(state): State<StatusState>) -> StatusCode {
    state.ingester.flush("request");
    StatusCode::NO_CONTENT
}

async fn config(State(state): State<StatusState>) -> String {
    state.config.print()
}

async fn services(State(state): State<StatusState>) -> String {
    let now = if state.stopping.load(Ordering::Acquire) {
        "Stopping"
    } else {
        "Running"
    };
    let part = |name: &str| format!("{name} => {now}\n");
    ["server", "ingester", "querier", "compactor"].map(part).concat()
}

async fn log_level(State(state): State<StatusState>) -> Response {
    answer(&json!({"message": format!("Current log level is {}", state.log_level.current())}))
}

async fn set_log_level(State(state): State<StatusState>, params: Params) -> Response {
    let level = params.get("log_level");
    match state.log_level.set(level) {
        Ok(()) => {
            let message = format!("Log level set to {level}");
            answer(&json!({"status": "success", "message": message}))
        }
        Err(error) => {
            let mut response = answer(&json!({"status": "failed", "message": error}));
            *response.status_mut() = StatusCode::BAD_REQUEST;
            response
        }
    }
}

async fn no_ring() -> &'static str {
    "This instance has no ring: replicas share nothing but the bucket.\n"
}

async fn no_memberlist() -> &'static str {
    "This instance doesn't use memberlist.\n"
}

fn answer(body: &serde_json::Value) -> Response {
    json_response(body.to_string().into_bytes()).into_response()
}
