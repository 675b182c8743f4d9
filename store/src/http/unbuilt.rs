//! Endpoints of Loki that Rankline answers without having what is behind them: limits for Grafana's Logs Drilldown,
//! empty rule lists, and a plain 501 with the reason for the rest.

use super::encode::json_response;
use super::query::QueryState;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use http::StatusCode;

/// Below `/loki/api/v1`.
pub(super) fn v1() -> Router<QueryState> {
    Router::new()
        .route("/drilldown-limits", get(drilldown_limits))
        .route("/delete", any(async || not_built("deletion of entries")))
        .route(
            "/rules",
            get(async || (StatusCode::NOT_FOUND, "no rule groups found")),
        )
}

/// The rules a Prometheus-shaped client asks for: there is no ruler, so there are none.
pub(super) fn rules() -> Router<QueryState> {
    let none = |what: &'static str| {
        get(async move || {
            let body =
                serde_json::json!({"status": "success", "data": {what: []}, "errorType": "", "error": ""});
            json_response(body.to_string().into_bytes())
        })
    };
    Router::new()
        .route("/prometheus/api/v1/rules", none("groups"))
        .route("/prometheus/api/v1/alerts", none("alerts"))
}

fn not_built(what: &str) -> Response {
    (
        StatusCode::NOT_IMPLEMENTED,
        format!("rankline does not answer questions for {what} yet"),
    )
        .into_response()
}

/// What Logs Drilldown asks before anything else.
async fn drilldown_limits(State(state): State<QueryState>) -> Response {
    let limits = state.engine.limits();
    let body = serde_json::json!({
        "limits": {
            "discover_log_levels": true,
            "discover_service_name": [],
            "log_level_fields": ["level"],
            "max_entries_limit_per_query": limits.max_entries,
            "max_query_series": limits.max_series,
            "max_query_length": "0s",
            "max_query_lookback": "0s",
            "max_query_range": "0s",
            "metric_aggregation_enabled": false,
            "pattern_persistence_enabled": false,
            "query_timeout": format!("{}s", limits.timeout.as_secs()),
            "retention_period": "0s",
            "volume_enabled": true,
            "volume_max_series": limits.max_series,
        },
        "pattern_ingester_enabled": true,
        "version": env!("CARGO_PKG_VERSION"),
    });
    json_response(body.to_string().into_bytes())
}
