//! index/stats, index/volume, index/volume_range and index/shards: sizes that footers alone can tell.

use super::encode::{self, json_response};
use super::error::ApiError;
use super::params::{ParamError, Params, check_order, check_resolution};
use super::query::{QueryState, Tenants};
use crate::clock::now_ns;
use crate::query::{IndexStats, VolumeBy, VolumeRequest, VolumeSeries};
use axum::extract::State;
use axum::response::Response;
use rankline_logql::Matcher;

fn bounds(params: &Params) -> Result<(i64, i64), ParamError> {
    let (start, end) = params.bounds(now_ns())?;
    check_order(start, end)?;
    Ok((start, end))
}

fn sizes(stats: &IndexStats) -> serde_json::Value {
    serde_json::json!({
        "streams": stats.streams, "chunks": stats.chunks, "bytes": stats.bytes, "entries": stats.entries,
    })
}

async fn measure(state: &QueryState, tenants: &Tenants, params: &Params) -> Result<IndexStats, ApiError> {
    let (start, end) = bounds(params)?;
    params.step(start, end)?;
    let matchers = super::params::selector(params.query()?)?;
    Ok(state.engine.stats(&tenants.0, &matchers, start, end).await?)
}

pub(super) async fn stats(
    State(state): State<QueryState>,
    tenants: Tenants,
    params: Params,
) -> Result<Response, ApiError> {
    let stats = measure(&state, &tenants, &params).await?;
    Ok(json_response(sizes(&stats).to_string().into_bytes()))
}

/// One shard that holds everything: queries are split inside the store, not by its clients.
pub(super) async fn shards(
    State(state): State<QueryState>,
    tenants: Tenants,
    params: Params,
) -> Result<Response, ApiError> {
    if !is_size(params.get("targetBytesPerShard")) {
        return Err(ParamError("targetBytesPerShard must be a positive value".to_owned()).into());
    }
    let stats = measure(&state, &tenants, &params).await?;
    let body = serde_json::json!({
        "shards": [{"bounds": {"min": 0, "max": u64::MAX}, "stats": sizes(&stats)}],
        "statistics": {}, "chunkGroups": null,
    });
    Ok(json_response(body.to_string().into_bytes()))
}

/// Whether a text is a positive number of bytes, with or without a unit such as `MB`.
fn is_size(text: &str) -> bool {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text[digits.len()..].to_ascii_lowercase();
    let known = [
        "", "b", "k", "kb", "m", "mb", "g", "gb", "t", "tb", "p", "pb", "e", "eb",
    ];
    known.contains(&&*unit) && digits.parse::<u64>().is_ok_and(|bytes| bytes > 0)
}

pub(super) async fn volume(
    State(state): State<QueryState>,
    tenants: Tenants,
    params: Params,
) -> Result<Response, ApiError> {
    answer(&state, &tenants, volume_request(&params, false)?).await
}

pub(super) async fn volume_range(
    State(state): State<QueryState>,
    tenants: Tenants,
    params: Params,
) -> Result<Response, ApiError> {
    answer(&state, &tenants, volume_request(&params, true)?).await
}

fn volume_request(params: &Params, range: bool) -> Result<VolumeRequest, ApiError> {
    let limit = match params.get("limit") {
        "0" => 100,
        _ => params.limit("limit", 100)?,
    };
    let (start, end) = bounds(params)?;
    let step = params.step(start, end)?;
    if range {
        check_resolution(start, end, step)?;
    }
    let by = match params.get("aggregateBy") {
        "" | "series" => VolumeBy::Series,
        "labels" => VolumeBy::Labels,
        _ => return Err(ParamError("invalid aggregation option".to_owned()).into()),
    };
    let targets = params
        .get("targetLabels")
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty());
    Ok(VolumeRequest {
        matchers: selector(params)?,
        start,
        end,
        step: range.then_some(step),
        target_labels: targets.map(str::to_owned).collect(),
        by,
        limit,
    })
}

/// Unlike elsewhere, `{}` is allowed: all streams.
fn selector(params: &Params) -> Result<Vec<Matcher>, ApiError> {
    let query = params.query()?;
    if query.split_whitespace().collect::<String>() == "{}" {
        return Ok(Vec::new());
    }
    Ok(super::params::selector(query)?)
}

async fn answer(state: &QueryState, tenants: &Tenants, request: VolumeRequest) -> Result<Response, ApiError> {
    let series = state.engine.volume(&tenants.0, &request).await?;
    // A matrix only where some series has more than one sample.
    let vector = series.iter().all(|series| series.points.len() <= 1);
    let mut out = b"{\"status\":\"success\",\"data\":{\"resultType\":".to_vec();
    encode::string(&mut out, if vector { "vector" } else { "matrix" });
    out.extend_from_slice(b",\"result\":");
    encode::list(&mut out, &series, |out, series| one(out, series, vector));
    encode::stats_tail(&mut out, &encode::ShownStats::default());
    out.extend_from_slice(b"}}");
    Ok(json_response(out))
}

fn one(out: &mut Vec<u8>, series: &VolumeSeries, vector: bool) {
    out.extend_from_slice(b"{\"metric\":");
    encode::pairs(
        out,
        series
            .labels
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str())),
    );
    let sample =
        |out: &mut Vec<u8>, (time_ms, bytes): &(i64, u64)| encode::sample(out, *time_ms, *bytes as f64);
    if vector {
        out.extend_from_slice(b",\"value\":");
        sample(out, series.points.first().unwrap_or(&(0, 0)));
    } else {
        out.extend_from_slice(b",\"values\":");
        encode::list(out, &series.points, sample);
    }
    out.push(b'}');
}
