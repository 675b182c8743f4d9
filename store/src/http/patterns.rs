//! patterns: what lines have in common and how often they come, for the Patterns tab of Logs Drilldown.

use super::encode::{self, json_response};
use super::error::ApiError;
use super::params::{ParamError, Params, check_resolution, check_selective};
use super::query::{QueryState, Tenants};
use crate::clock::now_ns;
use crate::query::{PatternAnswer, PatternRequest, PatternSeries};
use axum::extract::State;
use axum::response::Response;
use rankline_logql::{Expr, Matcher};

/// How far back Loki looks for patterns. Of older ranges it does not even read the query.
const LOKI_LOOKBACK_NS: i64 = 3 * 3_600 * 1_000_000_000;

pub(super) async fn patterns(
    State(state): State<QueryState>,
    tenants: Tenants,
    params: Params,
) -> Result<Response, ApiError> {
    let (start, end) = params.bounds(now_ns())?;
    let step = params.step(start, end)?;
    check_resolution(start, end, step)?;
    let Some(matchers) = selector(&params, end)? else {
        return Ok(written(&PatternAnswer::default()));
    };
    let request = PatternRequest {
        matchers,
        start,
        end,
        step,
    };
    Ok(written(&state.engine.patterns(&tenants.0, request).await?))
}

/// The selector; `None` where Loki answers other queries with nothing.
fn selector(params: &Params, end: i64) -> Result<Option<Vec<Matcher>>, ApiError> {
    let matchers = match rankline_logql::parse(params.query()?)? {
        Expr::Log(expr) if expr.stages.is_empty() => expr.matchers,
        _ if end < now_ns().saturating_sub(LOKI_LOOKBACK_NS) => return Ok(None),
        _ => return Err(ParamError("only label matchers are supported".to_owned()).into()),
    };
    check_selective(&matchers)?;
    Ok(Some(matchers))
}

fn written(answer: &PatternAnswer) -> Response {
    let mut out = b"{\"status\":\"success\",".to_vec();
    if answer.sampled > 1 {
        let warning = format!(
            "patterns were mined from one in {} lines, counts are estimates; narrow the time range or the selector for exact ones",
            answer.sampled
        );
        out.extend_from_slice(b"\"warnings\":");
        encode::list(&mut out, &[warning], |out, text| encode::string(out, text));
        out.push(b',');
    }
    out.extend_from_slice(b"\"data\":");
    encode::list(&mut out, &answer.series, one);
    out.extend_from_slice(b"}\n");
    json_response(out)
}

fn one(out: &mut Vec<u8>, series: &PatternSeries) {
    out.extend_from_slice(b"{\"pattern\":");
    encode::string(out, &series.pattern);
    out.extend_from_slice(b",\"level\":");
    encode::string(out, series.level);
    out.extend_from_slice(b",\"samples\":");
    encode::list(out, &series.samples, |out, (time, lines)| {
        out.extend_from_slice(format!("[{time},{lines}]").as_bytes());
    });
    out.push(b'}');
}
