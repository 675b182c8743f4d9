//! delete: asks for entries to be removed, lists such requests and cancels them, as Loki's compactor answers.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, StatusCode, header};
use rankline_logql::units::{format_go_duration, parse_go_duration};
use serde_json::json;
use ulid::Ulid;

use super::error::ApiError;
use super::params::{ParamError, Params, rfc3339};
use crate::clock::now_ns;
use crate::deletes::{DeleteError, DeleteStatus, Deletes, Deletion, has_filter};
use crate::tenants::{self, TenantId};

const NS: i64 = 1_000_000_000;
/// Header of the answer with the id of a new request.
pub const ID_HEADER: &str = "X-Delete-Request-ID";
/// Longest interval by which Loki would split a request up. Here none is split, but the parameter is checked.
const MAX_INTERVAL_NS: i64 = 24 * 3600 * NS;
const BAD_START: &str = "invalid start time: require unix seconds or RFC3339 format";
const BAD_END: &str = "invalid end time: require unix seconds or RFC3339 format";

/// What the delete endpoints share.
#[derive(Debug, Clone)]
pub struct DeleteState {
    /// Where requests are kept.
    pub deletes: Arc<Deletes>,
    /// How long a request may be cancelled; entries are removed only after it.
    pub cancel_period: Duration,
    /// Whether a request has to name its tenant.
    pub tenants_required: bool,
}

impl DeleteState {
    fn tenant(&self, headers: &HeaderMap) -> Result<TenantId, ApiError> {
        Ok(tenants::one(headers, self.tenants_required)?)
    }
}

/// Routes of this module.
pub fn routes(state: DeleteState) -> Router {
    let delete = get(list).post(create).put(create).delete(cancel);
    Router::new()
        .route("/loki/api/v1/delete", delete)
        .route("/loki/api/v1/cache/generation_numbers", get(generation))
        .with_state(state)
}

/// Parameters count in the URL alone, as in Loki.
fn params(query: Option<&str>) -> Result<Params, ApiError> {
    Ok(Params::parse(&[query.unwrap_or("")])?)
}

fn refused(text: impl Into<String>) -> ApiError {
    ParamError(text.into()).into()
}

impl From<DeleteError> for ApiError {
    fn from(error: DeleteError) -> Self {
        match error {
            DeleteError::Query(why) => Self::BadRequest(why.to_string()),
            DeleteError::Storage(why) => why.into(),
        }
    }
}

async fn create(
    State(state): State<DeleteState>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let tenant = state.tenant(&headers)?;
    let params = params(query.as_deref())?;
    let now_ms = now_ns() / 1_000_000;
    let query = match params.get("query") {
        "" => return Err(refused("query not set")),
        query => query,
    };
    let filtered = has_filter(query).map_err(|why| refused(why.to_string()))?;
    let range = range(&params, now_ms)?;
    if filtered {
        check_interval(params.get("max_interval"), range)?;
    }
    let id = state.deletes.create(&tenant, query, range, now_ms).await?;
    tracing::info!(%tenant, %id, query, start_ms = range.0, end_ms = range.1, "delete request taken");
    Ok((StatusCode::NO_CONTENT, [(ID_HEADER, id.to_string())]).into_response())
}

/// `start` and `end`, both inclusive, ms.
fn range(params: &Params, now_ms: i64) -> Result<(i64, i64), ApiError> {
    let start = match params.get("start") {
        "" => return Err(refused("start time not set")),
        text => time(text, now_ms).ok_or_else(|| refused(BAD_START))?,
    };
    let end = time(params.get("end"), now_ms).ok_or_else(|| refused(BAD_END))?;
    if end > now_ms {
        return Err(refused("deletes in the future are not allowed"));
    }
    if start >= end {
        return Err(refused("start time can't be greater than or equal to end time"));
    }
    Ok((start, end))
}

/// RFC 3339, or seconds in exactly ten characters; nothing means now. In ms.
fn time(text: &str, now_ms: i64) -> Option<i64> {
    if text.is_empty() {
        return Some(now_ms);
    }
    if let Some(ns) = rfc3339(text) {
        return Some(ns.div_euclid(1_000_000));
    }
    let seconds = (text.len() == 10).then(|| text.parse::<f64>().ok())??;
    seconds.is_finite().then_some((seconds * 1000.0).round() as i64)
}

fn check_interval(text: &str, (start, end): (i64, i64)) -> Result<(), ApiError> {
    if text.is_empty() {
        return Ok(());
    }
    let interval = parse_go_duration(text).unwrap_or_default();
    if interval < NS {
        return Err(refused(
            "invalid max_interval: valid time units are 's', 'm', 'h'",
        ));
    }
    if interval > MAX_INTERVAL_NS {
        let most = format_go_duration(MAX_INTERVAL_NS);
        return Err(refused(format!("max_interval can't be greater than {most}")));
    }
    let all = end.saturating_sub(start).saturating_mul(1_000_000);
    if interval > all {
        return Err(refused(format!(
            "max_interval can't be greater than the interval to be deleted ({})",
            format_go_duration(all)
        )));
    }
    Ok(())
}

async fn list(
    State(state): State<DeleteState>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let tenant = state.tenant(&headers)?;
    let params = params(query.as_deref())?;
    let all = state.deletes.all(&tenant).await?;
    let mut found: Vec<&Deletion> = all.iter().map(|deletion| &**deletion).collect();
    if !params.get("start").is_empty() && !params.get("end").is_empty() {
        let start = time(params.get("start"), 0).ok_or_else(|| refused(BAD_START))?;
        let end = time(params.get("end"), 0).ok_or_else(|| refused(BAD_END))?;
        found.retain(|deletion| deletion.record.start_ms <= end && start <= deletion.record.end_ms);
    }
    let shown: Vec<String> = found.into_iter().map(one).collect();
    let body = format!("[{}]\n", shown.join(","));
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// Keys in Loki's order, times in seconds.
fn one(deletion: &Deletion) -> String {
    let record = &deletion.record;
    let seconds = |ms: i64| ms as f64 / 1000.0;
    format!(
        "{{\"request_id\":\"{}\",\"start_time\":{},\"end_time\":{},\"query\":{},\"status\":\"{}\",\"created_at\":{},\"user_id\":\"\"}}",
        deletion.id,
        seconds(record.start_ms),
        seconds(record.end_ms),
        json!(record.query),
        record.status().as_str(),
        seconds(record.created_ms),
    )
}

async fn cancel(
    State(state): State<DeleteState>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<StatusCode, ApiError> {
    let tenant = state.tenant(&headers)?;
    let params = params(query.as_deref())?;
    let found = match Ulid::from_string(params.get("request_id")) {
        Ok(id) => state.deletes.find(&tenant, id).await?,
        Err(_) => None,
    };
    let Some(deletion) = found else {
        let text = "could not find delete request with given id";
        return Err(ApiError::NotFound(text.to_owned()));
    };
    if deletion.record.status() == DeleteStatus::Processed {
        return Err(refused(
            "deletion of request which is in process or already processed is not allowed",
        ));
    }
    let age_ms = (now_ns() / 1_000_000).saturating_sub(deletion.record.created_ms);
    let late = u128::from(age_ms.unsigned_abs()) > state.cancel_period.as_millis() && age_ms > 0;
    if late && params.get("force") != "true" {
        return Err(refused(format!(
            "Cancellation of partially completed delete request or delete request past the deadline of {} since its creation is not allowed. To force, use the ?force query parameter",
            format_go_duration(i64::try_from(state.cancel_period.as_nanos()).unwrap_or(i64::MAX))
        )));
    }
    state.deletes.cancel(&tenant, deletion.id).await?;
    tracing::info!(%tenant, id = %deletion.id, "delete request cancelled");
    Ok(StatusCode::NO_CONTENT)
}

/// A number that changes whenever the answers to old queries may: for caches before the service.
async fn generation(State(state): State<DeleteState>, headers: HeaderMap) -> Result<String, ApiError> {
    let all = state.deletes.all(&state.tenant(&headers)?).await?;
    let changed = |deletion: &Arc<Deletion>| {
        let record = &deletion.record;
        record.processed_ms.unwrap_or(record.created_ms)
    };
    let newest = all.iter().map(changed).max();
    let number = newest.map_or(String::new(), |ms| format!("{ms}{:06}", all.len()));
    Ok(format!("\"{number}\"\n"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NOW: i64 = 1_767_571_200_500;

    #[test]
    fn times_are_seconds_of_ten_characters_or_rfc_3339() {
        assert_eq!(time("", NOW), Some(NOW));
        assert_eq!(time("1767571200", NOW), Some(1_767_571_200_000));
        assert_eq!(time("2026-01-05T00:00:00.25Z", NOW), Some(1_767_571_200_250));
        assert_eq!(time("2026-01-05T01:00:00+01:00", NOW), Some(1_767_571_200_000));
        for bad in [
            "176757120",
            "1767571200000",
            "2026-01-05",
            "yesterday!",
            "nanananana",
        ] {
            assert_eq!(time(bad, NOW), None, "{bad}");
        }
    }

    #[test]
    fn intervals_are_durations_of_go_from_a_second_to_what_is_deleted() {
        let hour = (0, 3_600_000);
        for good in ["", "1s", "90s", "1h", "0.5h", "59m59.5s"] {
            assert_eq!(check_interval(good, hour), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("1d", "invalid max_interval: valid time units are 's', 'm', 'h'"),
            ("-1h", "invalid max_interval: valid time units are 's', 'm', 'h'"),
            (
                "100ms",
                "invalid max_interval: valid time units are 's', 'm', 'h'",
            ),
            ("25h", "max_interval can't be greater than 24h0m0s"),
            (
                "61m",
                "max_interval can't be greater than the interval to be deleted (1h0m0s)",
            ),
        ] {
            assert_eq!(check_interval(bad, hour), Err(refused(why)), "{bad}");
        }
    }
}
