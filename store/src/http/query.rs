//! query and query_range, their legacy form, and the routes of everything that reads.

use super::encode::{self, EncodingFlags, ShownStats, json_response};
use super::error::ApiError;
use super::params::{ParamError, Params, check_order, check_resolution};
use super::{detected, index, labels, limits, patterns, rules, tail};
use crate::clock::now_ns;
use crate::live::LiveHub;
use crate::query::{Direction, Engine, LogAnswer, LogRequest, MetricRequest};
use crate::replicas::Replicas;
use crate::tenants::{self, TenantId};
use axum::Router;
use axum::extract::{FromRequestParts, State};
use axum::handler::Handler;
use axum::response::Response;
use axum::routing::{MethodRouter, get};
use http::HeaderMap;
use http::request::Parts;
use rankline_logql::{EvalSpec, Expr, LogExpr, MetricExpr, MetricValue, Series};
use std::sync::Arc;

/// Answers with more rows are written elsewhere than on the async threads.
const ROWS_ENCODED_INLINE: usize = 500;

/// What the query endpoints share.
#[derive(Clone)]
pub struct QueryState {
    /// Answers queries.
    pub engine: Arc<Engine>,
    /// New entries, for tails.
    pub live: Arc<LiveHub>,
    /// Brings other replicas' new entries to `live`.
    pub replicas: Arc<Replicas>,
    /// Live tails a tenant may have at a time.
    pub max_tails: usize,
    /// Whether a request has to name its tenants.
    pub tenants_required: bool,
}

/// The tenants a query is over: at least one.
pub(super) struct Tenants(pub(super) Vec<TenantId>);

impl FromRequestParts<QueryState> for Tenants {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &QueryState) -> Result<Self, ApiError> {
        Ok(Self(tenants::several(&parts.headers, state.tenants_required)?))
    }
}

/// Both methods of Loki's query endpoints.
fn read<T: 'static, H: Handler<T, QueryState>>(handler: H) -> MethodRouter<QueryState> {
    get(handler.clone()).post(handler)
}

/// Routes of all endpoints that read.
pub fn routes(state: QueryState) -> Router {
    let v1 = Router::new()
        .route("/query_range", read(query_range))
        .route("/query", read(query))
        .route("/labels", read(labels::names))
        .route("/label", read(labels::names))
        .route("/label/{name}/values", read(labels::values))
        .route("/series", read(labels::series))
        .route("/index/stats", read(index::stats))
        .route("/index/volume", read(index::volume))
        .route("/index/volume_range", read(index::volume_range))
        .route("/index/shards", read(index::shards))
        .route("/format_query", read(format_query))
        .route("/detected_labels", read(detected::labels))
        .route("/detected_fields", read(detected::fields))
        .route("/detected_field/{name}/values", read(detected::values))
        .route("/patterns", read(patterns::patterns))
        .route("/tail", get(tail::tail));
    let legacy = Router::new()
        .route("/query", read(legacy_query))
        .route("/label", read(labels::legacy_names))
        .route("/label/{name}/values", read(labels::legacy_names))
        .route("/series", read(labels::series))
        .route("/tail", get(tail::tail));
    Router::new()
        .nest("/loki/api/v1", v1)
        .nest("/api/prom", legacy)
        .merge(limits::routes())
        .merge(rules::configuration("/loki/api/v1"))
        .merge(rules::configuration("/api/prom"))
        .merge(rules::prometheus())
        .with_state(state)
}

/// Parameters of a range query.
struct RangeParams {
    start: i64,
    end: i64,
    limit: usize,
    direction: Direction,
    step: i64,
    interval: i64,
}

impl RangeParams {
    fn read(params: &Params) -> Result<Self, ParamError> {
        let (start, end) = params.bounds(now_ns())?;
        check_order(start, end)?;
        Ok(Self {
            start,
            end,
            limit: params.limit("limit", 100)?,
            direction: params.direction()?,
            step: params.step(start, end)?,
            interval: params.interval()?,
        })
    }
}

async fn query_range(
    State(state): State<QueryState>,
    Tenants(tenants): Tenants,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    let range = RangeParams::read(&params)?;
    let flags = EncodingFlags::from_headers(&headers);
    match rankline_logql::parse(params.query()?)? {
        Expr::Log(expr) => {
            let answer = log(&state, &tenants, expr, &range).await?;
            Ok(json_response(encoded(answer, flags, explain(&params)).await?))
        }
        Expr::Metric(expr) => {
            check_resolution(range.start, range.end, range.step)?;
            let spec = EvalSpec {
                start: range.start,
                end: range.end,
                step: range.step,
            };
            let range = Asked {
                range: true,
                explain: explain(&params),
            };
            metric(&state, &tenants, &headers, expr, spec, range).await
        }
    }
}

/// How a metric query was asked.
#[derive(Clone, Copy)]
struct Asked {
    /// Over a range, not at one time.
    range: bool,
    /// With all that the answer took.
    explain: bool,
}

/// Whether the client wants to know all that the answer took: `explain=true`, which Loki does not know.
fn explain(params: &Params) -> bool {
    matches!(params.get("explain"), "true" | "1")
}

/// Long answers are written off the async threads.
async fn encoded(answer: LogAnswer, flags: EncodingFlags, explain: bool) -> Result<Vec<u8>, ApiError> {
    let stats = ShownStats {
        work: answer.stats,
        explain,
    };
    if answer.rows.len() <= ROWS_ENCODED_INLINE {
        return Ok(encode::log_answer(&answer.rows, &flags, &stats));
    }
    let task = tokio::task::spawn_blocking(move || encode::log_answer(&answer.rows, &flags, &stats));
    task.await
        .map_err(|why| ApiError::Internal(format!("writing the answer failed: {why}")))
}

async fn query(
    State(state): State<QueryState>,
    Tenants(tenants): Tenants,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    params.limit("limit", 100)?;
    let time = params.time(now_ns())?;
    params.direction()?;
    match rankline_logql::parse(params.query()?)? {
        Expr::Log(_) => Err(ParamError(
            "log queries are not supported as an instant query type, please change your query to a range query type"
                .to_owned(),
        )
        .into()),
        Expr::Metric(expr) => {
            let spec = EvalSpec { start: time, end: time, step: 0 };
            let instant = Asked { range: false, explain: explain(&params) };
            metric(&state, &tenants, &headers, expr, spec, instant).await
        }
    }
}

async fn log(
    state: &QueryState,
    tenants: &[TenantId],
    expr: LogExpr,
    range: &RangeParams,
) -> Result<LogAnswer, ApiError> {
    let most = state.engine.limits().max_entries;
    if range.limit > most {
        return Err(ParamError(format!(
            "max entries limit per query exceeded, limit > max_entries_limit_per_query ({} > {most})",
            range.limit
        ))
        .into());
    }
    let RangeParams {
        start,
        end,
        limit,
        direction,
        interval,
        ..
    } = *range;
    let request = LogRequest {
        expr,
        start,
        end,
        limit,
        direction,
        interval,
    };
    Ok(state.engine.log(tenants, request).await?)
}

async fn metric(
    state: &QueryState,
    tenants: &[TenantId],
    headers: &HeaderMap,
    expr: MetricExpr,
    spec: EvalSpec,
    asked: Asked,
) -> Result<Response, ApiError> {
    let request = MetricRequest {
        expr,
        spec,
        partial: is_drilldown(headers),
    };
    let answer = state.engine.metric(tenants, request).await?;
    let value = if asked.range {
        matrix(answer.value, spec.start)
    } else {
        answer.value
    };
    Ok(json_response(encode::metric_answer(
        &value,
        spec.start,
        &ShownStats {
            work: answer.stats,
            explain: asked.explain,
        },
        &answer.warnings,
    )))
}

/// Whether Grafana's Logs Drilldown asks: it shows part of an answer rather than none.
fn is_drilldown(headers: &HeaderMap) -> bool {
    let tags = headers.get("x-query-tags").and_then(|tags| tags.to_str().ok());
    tags.unwrap_or("").split(',').any(|tag| {
        tag.split_once('=').is_some_and(|(name, value)| {
            name.trim().eq_ignore_ascii_case("source")
                && value.trim().eq_ignore_ascii_case("grafana-lokiexplore-app")
        })
    })
}

/// A range query is always answered with a matrix, one of a single point too.
fn matrix(value: MetricValue, start: i64) -> MetricValue {
    let time_ms = start.div_euclid(1_000_000);
    let one = |labels, value| Series {
        labels,
        points: vec![(time_ms, value)],
    };
    match value {
        MetricValue::Scalar(value) => MetricValue::Matrix(vec![one(Default::default(), value)]),
        MetricValue::Vector(samples) => MetricValue::Matrix(
            samples
                .into_iter()
                .map(|sample| one(sample.labels, sample.value))
                .collect(),
        ),
        matrix @ MetricValue::Matrix(_) => matrix,
    }
}

/// `/api/prom/query`: a log query with the old shape of answer.
async fn legacy_query(
    State(state): State<QueryState>,
    Tenants(tenants): Tenants,
    params: Params,
) -> Result<Response, ApiError> {
    let range = RangeParams::read(&params)?;
    let mut text = params.query()?.to_owned();
    if !params.get("regexp").is_empty() {
        text.push_str(&format!(" |~ {}", serde_json::Value::from(params.get("regexp"))));
    }
    let Expr::Log(expr) = rankline_logql::parse(&text)? else {
        return Err(ParamError("legacy endpoints only support streams result type".to_owned()).into());
    };
    let answer = log(&state, &tenants, expr, &range).await?;
    let mut out = b"{\"streams\":".to_vec();
    encode::list(
        &mut out,
        &encode::group(&answer.rows, false),
        |out, (labels, rows)| {
            let labels = rankline_logql::Labels::from_pairs(labels.iter()).to_string();
            out.extend_from_slice(b"{\"labels\":");
            encode::string(out, &labels);
            out.extend_from_slice(b",\"entries\":");
            encode::list(out, rows, |out, row| {
                out.extend_from_slice(b"{\"ts\":");
                encode::string(out, &rfc3339(row.ts));
                out.extend_from_slice(b",\"line\":");
                encode::string(out, &row.line);
                out.push(b'}');
            });
            out.push(b'}');
        },
    );
    let stats = ShownStats {
        work: answer.stats,
        explain: false,
    };
    encode::stats_tail(&mut out, &stats);
    out.push(b'}');
    Ok(json_response(out))
}

fn rfc3339(ts: i64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(ts)).map_or_else(|_| ts.to_string(), |time| time.to_string())
}

async fn format_query(params: Params) -> Response {
    let (status, body) = match rankline_logql::format_query(params.get("query")) {
        Ok(text) => (
            http::StatusCode::OK,
            serde_json::json!({"status": "success", "data": text}),
        ),
        Err(why) => (
            http::StatusCode::BAD_REQUEST,
            serde_json::json!({"status": "invalid-query", "error": why.with_advice()}),
        ),
    };
    let mut response = json_response(body.to_string().into_bytes());
    *response.status_mut() = status;
    response
}
