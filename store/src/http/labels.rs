//! labels, label values and series.

use super::encode::{self, json_response};
use super::error::ApiError;
use super::params::{ParamError, Params, check_order};
use super::query::{QueryState, Tenants};
use crate::clock::now_ns;
use axum::extract::{Path, State};
use axum::response::Response;
use rankline_logql::Matcher;
use std::collections::BTreeSet;

/// `start` and `end` of a question about labels.
fn bounds(params: &Params) -> Result<(i64, i64), ParamError> {
    let (start, end) = params.bounds(now_ns())?;
    check_order(start, end)?;
    Ok((start, end))
}

/// The optional selector of a question about labels.
fn selector(params: &Params) -> Result<Vec<Matcher>, ApiError> {
    match params.get("query") {
        "" => Ok(Vec::new()),
        query => Ok(super::params::selector(query)?),
    }
}

fn list_of(head: &str, values: &BTreeSet<String>) -> Response {
    let mut out = head.as_bytes().to_vec();
    encode::list(&mut out, &values.iter().collect::<Vec<_>>(), |out, value| {
        encode::string(out, value)
    });
    out.push(b'}');
    json_response(out)
}

/// An empty list of labels has no `data` at all, as Loki answers.
fn data(values: &BTreeSet<String>) -> Response {
    if values.is_empty() {
        return json_response(b"{\"status\":\"success\"}".to_vec());
    }
    list_of("{\"status\":\"success\",\"data\":", values)
}

pub(super) async fn names(
    State(state): State<QueryState>,
    Tenants(tenants): Tenants,
    params: Params,
) -> Result<Response, ApiError> {
    let (start, end) = bounds(&params)?;
    Ok(data(
        &state
            .engine
            .label_names(&tenants, &selector(&params)?, start, end)
            .await?,
    ))
}

/// The old form of [`names`]. The old path for values gives names too, as Loki does.
pub(super) async fn legacy_names(
    State(state): State<QueryState>,
    Tenants(tenants): Tenants,
    params: Params,
) -> Result<Response, ApiError> {
    let (start, end) = bounds(&params)?;
    let names = state
        .engine
        .label_names(&tenants, &selector(&params)?, start, end)
        .await?;
    Ok(match names.is_empty() {
        true => json_response(b"{}".to_vec()),
        false => list_of("{\"values\":", &names),
    })
}

pub(super) async fn values(
    State(state): State<QueryState>,
    Tenants(tenants): Tenants,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    let (start, end) = bounds(&params)?;
    let matchers = selector(&params)?;
    Ok(data(
        &state
            .engine
            .label_values(&tenants, &name, &matchers, start, end)
            .await?,
    ))
}

pub(super) async fn series(
    State(state): State<QueryState>,
    Tenants(tenants): Tenants,
    params: Params,
) -> Result<Response, ApiError> {
    let (start, end) = bounds(&params)?;
    let groups = groups(&params)?;
    let series = state.engine.series(&tenants, &groups, start, end).await?;
    let mut out = b"{\"status\":\"success\",\"data\":".to_vec();
    encode::list(&mut out, &series, |out, labels| encode::pairs(out, labels.iter()));
    out.push(b'}');
    Ok(json_response(out))
}

/// Groups of matchers; none, or a single `{}`, mean all series.
fn groups(params: &Params) -> Result<Vec<Vec<Matcher>>, ApiError> {
    let texts: Vec<&str> = params.all(&["match[]", "match"]).collect();
    let everything = |text: &&str| text.split_whitespace().collect::<String>() == "{}";
    match texts.as_slice() {
        [] => Ok(vec![Vec::new()]),
        [one] if everything(one) => Ok(vec![Vec::new()]),
        several if several.iter().any(everything) => {
            Err(ParamError("0 matchers in group: {}".to_owned()).into())
        }
        several => several
            .iter()
            .map(|text| Ok(super::params::selector(text)?))
            .collect(),
    }
}
