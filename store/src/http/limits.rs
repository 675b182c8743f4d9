//! The limits a client asks for before anything else: Grafana's Logs Drilldown as JSON, people as YAML.

use super::encode::json_response;
use super::error::ApiError;
use super::query::QueryState;
use crate::tenants;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, header};
use serde_json::{Map, Value, json};

/// Routes of this module.
pub(super) fn routes() -> Router<QueryState> {
    Router::new()
        .route("/loki/api/v1/drilldown-limits", get(drilldown_limits))
        .route("/config/tenant/v1/limits", get(tenant_limits))
}

/// What is limited, by Loki's names. What is not limited here reads as Loki writes "no limit".
fn limits(state: &QueryState) -> Map<String, Value> {
    let limits = state.engine.limits();
    let all = json!({
        "allow_structured_metadata": true,
        "deletion_mode": "filter-and-delete",
        "discover_log_levels": true,
        "discover_service_name": crate::ingest::names::SERVICE_LABELS,
        "log_level_fields": crate::ingest::level::FIELDS,
        "max_entries_limit_per_query": limits.max_entries,
        "max_line_size_truncate": false,
        "max_query_bytes_read": "0B",
        "max_query_length": "0s",
        "max_query_lookback": "0s",
        "max_query_range": "0s",
        "max_query_series": limits.max_series,
        "metric_aggregation_enabled": false,
        "pattern_persistence_enabled": false,
        "query_timeout": format!("{}s", limits.timeout.as_secs()),
        "retention_period": "0s",
        "volume_enabled": true,
        "volume_max_series": limits.max_series,
    });
    match all {
        Value::Object(all) => all,
        _ => Map::new(),
    }
}

async fn drilldown_limits(State(state): State<QueryState>, headers: HeaderMap) -> Result<Response, ApiError> {
    tenants::several(&headers, state.tenants_required)?;
    let body = json!({
        "limits": limits(&state),
        "pattern_ingester_enabled": true,
        "version": env!("CARGO_PKG_VERSION"),
    });
    Ok(json_response(body.to_string().into_bytes()))
}

/// A line a limit; JSON values are YAML, too.
async fn tenant_limits(State(state): State<QueryState>, headers: HeaderMap) -> Result<Response, ApiError> {
    tenants::several(&headers, state.tenants_required)?;
    let lines: String = limits(&state)
        .iter()
        .map(|(name, value)| format!("{name}: {value}\n"))
        .collect();
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], lines).into_response())
}
