//! The read endpoints over a small store, asked through the router.

#![allow(clippy::unwrap_used)]

use super::query::{QueryState, routes};
use crate::ingest::ids::Process;
use crate::live::LiveHub;
use crate::query::tests::{START, batches, engine, model};
use crate::query::{Engine, QueryLimits};
use crate::replicas::Replicas;
use axum::Router;
use axum::body::{Body, to_bytes};
use http::{Request, StatusCode};
use serde_json::Value;
use std::sync::Arc;
use tower::ServiceExt;

async fn router() -> Router {
    over(engine(&batches(3, 50, 21), 1, 64, QueryLimits::default()).await)
}

fn over(engine: Engine) -> Router {
    let engine = Arc::new(engine);
    let live = Arc::new(LiveHub::default());
    let process = Process::of(ulid::Ulid::generate());
    routes(QueryState {
        replicas: Arc::new(Replicas::new(process, Arc::clone(&engine), Arc::clone(&live))),
        engine,
        live,
        max_tails: 1,
        tenants_required: false,
    })
}

async fn send(router: &Router, request: Request<Body>) -> (StatusCode, String) {
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

async fn get(router: &Router, path: &str) -> (StatusCode, String) {
    send(
        router,
        Request::get(format!("/loki/api/v1/{path}"))
            .body(Body::empty())
            .unwrap(),
    )
    .await
}

async fn json(router: &Router, path: &str) -> Value {
    let (status, body) = get(router, path).await;
    assert_eq!(status, StatusCode::OK, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

fn range() -> String {
    format!("start={START}&end={}", START + 400_000_000_000)
}

#[tokio::test]
async fn a_form_asks_the_same_as_a_url() {
    let router = router().await;
    let query = format!("query=%7Bapp%3D~%22.%2B%22%7D&limit=5000&{}", range());
    let (status, by_url) = get(&router, &format!("query_range?{query}")).await;
    assert_eq!(status, StatusCode::OK, "{by_url}");
    let form = Request::post("/loki/api/v1/query_range")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from(query))
        .unwrap();
    let (_, by_form) = send(&router, form).await;
    let result = |body: &str| serde_json::from_str::<Value>(body).unwrap()["data"]["result"].clone();
    assert_eq!(result(&by_url), result(&by_form));
    let rows: usize = result(&by_url)
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["values"].as_array().unwrap().len())
        .sum();
    assert_eq!(rows, model(&batches(3, 50, 21)).len());
}

#[tokio::test]
async fn adjacent_ranges_give_every_row_once() {
    let router = router().await;
    let count = async |start: i64, end: i64| {
        let path = format!("query_range?query=%7Bapp%3D~%22.%2B%22%7D&limit=5000&start={start}&end={end}");
        let body = json(&router, &path).await;
        let streams = body["data"]["result"].as_array().unwrap().clone();
        streams
            .iter()
            .map(|stream| stream["values"].as_array().unwrap().len())
            .sum::<usize>()
    };
    let (mid, end) = (START + 40_000_000_000, START + 400_000_000_000);
    assert_eq!(
        count(START, mid).await + count(mid, end).await,
        count(START, end).await
    );
}

#[tokio::test]
async fn refusals_are_plain_text() {
    let router = router().await;
    for (path, text) in [
        ("query_range?query=%7Bapp%3D", "parse error"),
        ("query_range", "parse error : syntax error: unexpected $end"),
        (
            "query_range?query=%7Bapp%3D%22x%22%7D&start=bogus",
            "could not parse 'start' parameter",
        ),
        (
            "query_range?query=%7Bapp%3D%22x%22%7D&limit=50001",
            "max entries limit per query exceeded",
        ),
        (
            "query_range?query=%7Bapp%3D%22x%22%7D&direction=up",
            "invalid direction 'up'",
        ),
        (
            "query?query=%7Bapp%3D%22x%22%7D",
            "log queries are not supported as an instant query type",
        ),
        ("query_range?query=%ff", "parse error : invalid UTF-8 encoding"),
        (
            "query_range?query=%7Bapp%3D%22x%22%7D&since=1.5h",
            "could not parse 'since' parameter: unknown unit \".\" in duration \"1.5h\"",
        ),
        (
            "series?match=%7Bapp%3D%22%22%7D",
            "parse error : queries require at least one regexp or equality matcher",
        ),
        (
            "index/shards?query=%7Bapp%3D%22x%22%7D&targetBytesPerShard=x",
            "targetBytesPerShard must be a positive value",
        ),
        (
            "patterns?query=%7Bapp%3D%22x%22%7D+%7C%3D+%22y%22",
            "only label matchers are supported",
        ),
        (
            "labels?query=%7Bapp%3D%22x%22%7D+%7C%3D+%22y%22",
            "only label matchers are supported",
        ),
        (
            "index/volume?query=%7Bapp%3D%22x%22%7D&aggregateBy=x",
            "invalid aggregation option",
        ),
        (
            "series?match%5B%5D=%7B%7D&match%5B%5D=%7Bapp%3D%22x%22%7D",
            "0 matchers in group",
        ),
        (
            "tail?query=count_over_time(%7Bapp%3D%22x%22%7D%5B1m%5D)",
            "only log selector is supported",
        ),
    ] {
        let (status, body) = get(&router, path).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path}: {body}");
        assert!(body.starts_with(text), "{path}: {body}");
    }
    let (status, _) = send(
        &router,
        Request::delete("/loki/api/v1/query").body(Body::empty()).unwrap(),
    )
    .await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn metadata_has_lokis_shapes() {
    let router = router().await;
    let range = range();
    assert_eq!(
        json(&router, &format!("labels?{range}")).await["data"],
        serde_json::json!(["app", "rank"])
    );
    let values = json(&router, &format!("label/app/values?{range}")).await;
    assert_eq!(values["data"], serde_json::json!(["eval", "train"]));
    let none = json(&router, &format!("label/nosuch/values?{range}")).await;
    assert_eq!(none, serde_json::json!({"status": "success"}));
    let series = json(&router, &format!("series?match[]=%7Brank%3D%221%22%7D&{range}")).await;
    assert!(
        series["data"]
            .as_array()
            .unwrap()
            .iter()
            .all(|labels| labels["rank"] == "1")
    );
    let stats = json(
        &router,
        &format!("index/stats?query=%7Bapp%3D%22train%22%7D&{range}"),
    )
    .await;
    assert_eq!(stats["streams"], 5);
    let volume = json(
        &router,
        &format!("index/volume?query=%7Bapp%3D~%22.%2B%22%7D&{range}"),
    )
    .await;
    assert_eq!(volume["data"]["resultType"], "vector");
    let limits = json(&router, "drilldown-limits").await;
    assert!(limits["limits"]["max_entries_limit_per_query"].is_number());
}

#[tokio::test]
async fn drilldown_gets_part_of_too_many_series_with_a_warning() {
    let limits = QueryLimits {
        max_series: 2,
        ..QueryLimits::default()
    };
    let router = over(engine(&batches(3, 50, 21), 1, 64, limits).await);
    let path = format!(
        "/loki/api/v1/query?query=count_over_time(%7Bapp%3D~%22.%2B%22%7D%5B1h%5D)&time={}",
        START + 400_000_000_000
    );
    let (status, body) = send(&router, Request::get(&path).body(Body::empty()).unwrap()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body.starts_with("maximum number of series (2) reached"), "{body}");
    let asked = Request::get(&path).header("X-Query-Tags", "Source=Grafana-LokiExplore-App,a=b");
    let (status, body) = send(&router, asked.body(Body::empty()).unwrap()).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["data"]["result"].as_array().unwrap().len(), 2);
    let warning = "maximum number of series (2) reached for a single query; returning partial results";
    assert_eq!(body["warnings"], serde_json::json!([warning]));
}

#[tokio::test]
async fn a_thousand_matchers_are_enough() {
    let router = router().await;
    let matchers: String = (0..1000).map(|n| format!("l{n}!%3D%22x%22,")).collect();
    let (status, body) = get(
        &router,
        &format!("query_range?query=%7B{matchers}a%3D%22b%22%7D&{}", range()),
    )
    .await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(
        body,
        "max streams matchers per query exceeded, matchers-count > limit (1001 > 1000)"
    );
}
