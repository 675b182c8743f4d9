//! detected_labels, detected_fields and detected_field/{name}/values: what Logs Drilldown builds its pages from.

use super::encode::json_response;
use super::error::ApiError;
use super::params::{ParamError, Params, check_order};
use super::query::{QueryState, Tenants};
use crate::clock::now_ns;
use crate::query::{Direction, Field, LogRequest, detect_fields, only_ids};
use axum::extract::{Path, State};
use axum::response::Response;
use rankline_logql::Expr;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Labels that are shown whatever their values look like.
const KEPT_LABELS: [&str; 4] = ["cluster", "namespace", "instance", "pod"];

fn object(body: &Value) -> Response {
    json_response(body.to_string().into_bytes())
}

pub(super) async fn labels(
    State(state): State<QueryState>,
    Tenants(tenants): Tenants,
    params: Params,
) -> Result<Response, ApiError> {
    let (start, end) = params.bounds(now_ns())?;
    check_order(start, end)?;
    let matchers = match params.get("query") {
        "" => Vec::new(),
        query => super::params::selector(query)?,
    };
    let series = state.engine.series(&tenants, &[matchers], start, end).await?;
    let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, value) in series.iter().flat_map(|labels| labels.iter()) {
        values.entry(name).or_default().insert(value);
    }
    let shown = values
        .iter()
        .filter(|(name, values)| KEPT_LABELS.contains(name) || !only_ids(values.iter().copied()));
    let list: Vec<Value> = shown
        .map(|(name, values)| json!({"label": name, "cardinality": values.len()}))
        .collect();
    Ok(object(&if list.is_empty() {
        json!({})
    } else {
        json!({"detectedLabels": list})
    }))
}

/// The sampled fields, and how many the client wants.
async fn sample(
    state: &QueryState,
    tenants: &Tenants,
    params: &Params,
) -> Result<(BTreeMap<String, Field>, usize), ApiError> {
    let (start, end) = params.bounds(now_ns())?;
    check_order(start, end)?;
    params.step(start, end)?;
    let lines = params.limit("line_limit", 100)?;
    let most = state.engine.limits().max_entries;
    if lines > most {
        return Err(ParamError(format!(
            "max entries limit per query exceeded, limit > max_entries_limit_per_query ({lines} > {most})"
        ))
        .into());
    }
    let limit = params.limit("limit", params.limit("field_limit", 1000)?)?;
    let Expr::Log(expr) = rankline_logql::parse(params.query()?)? else {
        return Err(ParamError("only log selector is supported".to_owned()).into());
    };
    let request = LogRequest {
        expr,
        start,
        end,
        limit: lines,
        direction: Direction::Backward,
        interval: 0,
    };
    let answer = state.engine.log(&tenants.0, request).await?;
    let task = tokio::task::spawn_blocking(move || detect_fields(&answer.rows));
    let fields = task
        .await
        .map_err(|why| ApiError::Internal(format!("sampling fields failed: {why}")))??;
    Ok((fields, limit))
}

pub(super) async fn fields(
    State(state): State<QueryState>,
    tenants: Tenants,
    params: Params,
) -> Result<Response, ApiError> {
    let (fields, limit) = sample(&state, &tenants, &params).await?;
    if fields.is_empty() {
        return Ok(object(&json!({})));
    }
    let list: Vec<Value> = fields
        .iter()
        .take(limit)
        .map(|(name, field)| shown(name, field))
        .collect();
    Ok(object(&json!({"fields": list, "limit": limit})))
}

fn shown(name: &str, field: &Field) -> Value {
    let mut shown = json!({
        "label": name,
        "type": field.kind.as_str(),
        "cardinality": field.values.len(),
        "parsers": if field.parsers.is_empty() { Value::Null } else { json!(field.parsers) },
    });
    if !field.json_path.is_empty() {
        shown["jsonPath"] = json!(field.json_path);
    }
    shown
}

pub(super) async fn values(
    State(state): State<QueryState>,
    tenants: Tenants,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    let (fields, limit) = sample(&state, &tenants, &params).await?;
    Ok(object(&match fields.get(&name) {
        None => json!({}),
        Some(field) => {
            json!({"values": field.query_values.iter().take(limit).collect::<Vec<_>>(), "limit": limit})
        }
    }))
}
