//! What Grafana and other clients ask for rules and alerts: there is no ruler, so there are none. In Loki's shapes.

use super::encode::json_response;
use super::error::ApiError;
use super::query::QueryState;
use crate::tenants;
use axum::Router;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::params::Params;

/// Loki's configuration API of rules, below a folder such as `/loki/api/v1` or `/api/prom`.
pub(super) fn configuration(folder: &str) -> Router<QueryState> {
    let all = format!("{folder}/rules");
    Router::new()
        .route(&all, get(no_groups))
        .route(
            &format!("{all}/{{namespace}}"),
            get(no_groups).post(read_only).delete(no_groups),
        )
        .route(
            &format!("{all}/{{namespace}}/{{group}}"),
            get(no_group).delete(no_group),
        )
}

/// Prometheus' API of rules and alerts.
pub(super) fn prometheus() -> Router<QueryState> {
    Router::new()
        .route("/prometheus/api/v1/rules", get(rules))
        .route("/prometheus/api/v1/alerts", get(alerts))
        .route("/ruler/delete_tenant_config", post(read_only))
}

fn tenant(state: &QueryState, headers: &HeaderMap) -> Result<(), ApiError> {
    Ok(tenants::several(headers, state.tenants_required).map(drop)?)
}

fn answer(status: StatusCode, body: &Value) -> Response {
    let mut response = json_response(body.to_string().into_bytes());
    *response.status_mut() = status;
    response
}

fn none(what: &str) -> Response {
    let body = json!({"status": "success", "data": {what: []}, "errorType": "", "error": ""});
    answer(StatusCode::OK, &body)
}

/// Groups of rules. A mistake in the parameters is told as Loki tells it.
async fn rules(
    State(state): State<QueryState>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    tenant(&state, &headers)?;
    let params = Params::parse(&[query.as_deref().unwrap_or("")])?;
    let kind = params.get("type").to_ascii_lowercase();
    if !matches!(&*kind, "" | "alert" | "record") {
        let error = format!("not supported value {kind:?}");
        let body = json!({"status": "error", "data": null, "errorType": "bad_data", "error": error});
        return Ok(answer(StatusCode::BAD_REQUEST, &body));
    }
    Ok(none("groups"))
}

async fn alerts(State(state): State<QueryState>, headers: HeaderMap) -> Result<Response, ApiError> {
    tenant(&state, &headers)?;
    Ok(none("alerts"))
}

async fn no_groups(State(state): State<QueryState>, headers: HeaderMap) -> Result<Response, ApiError> {
    tenant(&state, &headers)?;
    Ok((StatusCode::NOT_FOUND, "no rule groups found\n").into_response())
}

async fn no_group(State(state): State<QueryState>, headers: HeaderMap) -> Result<Response, ApiError> {
    tenant(&state, &headers)?;
    Ok((StatusCode::NOT_FOUND, "group does not exist\n").into_response())
}

async fn read_only() -> ApiError {
    ApiError::NotBuilt(
        "rankline has no ruler and keeps no rules: let Grafana evaluate alerts on this data source"
            .to_owned(),
    )
}
