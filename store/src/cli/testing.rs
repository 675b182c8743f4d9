//! A service for the commands' tests: takes pushes, can be slow, busy or picky, and remembers what it stored.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::broadcast;

use super::push::batch::PushRequest;

/// One entry as it arrived.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stored {
    pub(crate) labels: String,
    pub(crate) ts: i64,
    pub(crate) line: String,
    pub(crate) metadata: Vec<(String, String)>,
}

/// How the service behaves, and what it has.
#[derive(Debug, Default)]
pub(crate) struct Behaviour {
    /// Answers for the next requests, instead of storing.
    pub(crate) refuse: VecDeque<(u16, Option<&'static str>)>,
    /// Answers every request so.
    pub(crate) always: Option<u16>,
    /// Lines with this text are refused with 400; the good ones of the request are stored.
    pub(crate) bad: Option<&'static str>,
    /// Waits so long before each answer.
    pub(crate) delay: Duration,
    pub(crate) stored: Vec<Stored>,
    pub(crate) requests: usize,
    pub(crate) tenants: Vec<String>,
}

/// A running service.
#[derive(Debug, Clone)]
pub(crate) struct PushService {
    pub(crate) address: SocketAddr,
    behaviour: Arc<Mutex<Behaviour>>,
}

impl PushService {
    pub(crate) async fn start(behaviour: Behaviour) -> Self {
        Self::start_at("127.0.0.1:0", behaviour).await
    }

    pub(crate) async fn start_at(address: &str, behaviour: Behaviour) -> Self {
        let behaviour = Arc::new(Mutex::new(behaviour));
        let app = axum::Router::new()
            .route("/loki/api/v1/push", post(take_push))
            .with_state(Arc::clone(&behaviour));
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, behaviour }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut Behaviour) -> T) -> T {
        look(&mut self.behaviour.lock())
    }

    /// What is stored, in order of time; exact duplicates once, as the store keeps them.
    pub(crate) fn stored(&self) -> Vec<Stored> {
        let mut stored = self.with(|b| b.stored.clone());
        stored.sort_by(|a, b| (a.ts, a).cmp(&(b.ts, b)));
        stored.dedup();
        stored
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.stored().into_iter().map(|entry| entry.line).collect()
    }

    /// Waits until `count` entries are stored.
    pub(crate) async fn wait_for(&self, count: usize) -> Vec<String> {
        for _ in 0..500 {
            if self.stored().len() >= count {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.lines()
    }
}

async fn take_push(
    State(behaviour): State<Arc<Mutex<Behaviour>>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let delay = behaviour.lock().delay;
    tokio::time::sleep(delay).await;
    let mut behaviour = behaviour.lock();
    behaviour.requests += 1;
    if let Some(tenant) = headers.get("x-scope-orgid") {
        behaviour.tenants.push(tenant.to_str().unwrap().to_owned());
    }
    let scripted = behaviour
        .refuse
        .pop_front()
        .or(behaviour.always.map(|status| (status, None)));
    if let Some((status, retry_after)) = scripted {
        let mut response = (StatusCode::from_u16(status).unwrap(), "not now").into_response();
        if let Some(seconds) = retry_after {
            response
                .headers_mut()
                .insert("retry-after", seconds.parse().unwrap());
        }
        return response;
    }
    assert_eq!(headers["content-type"], "application/x-protobuf");
    let plain = snap::raw::Decoder::new().decompress_vec(&body).unwrap();
    let request = PushRequest::decode(&plain[..]).unwrap();
    let mut refused = 0;
    for stream in request.streams {
        for entry in stream.entries {
            if behaviour.bad.is_some_and(|bad| entry.line.contains(bad)) {
                refused += 1;
                continue;
            }
            let time = entry.timestamp.unwrap();
            behaviour.stored.push(Stored {
                labels: stream.labels.clone(),
                ts: time.seconds * 1_000_000_000 + i64::from(time.nanos),
                line: entry.line,
                metadata: entry
                    .structured_metadata
                    .into_iter()
                    .map(|p| (p.name, p.value))
                    .collect(),
            });
        }
    }
    match refused {
        0 => StatusCode::NO_CONTENT.into_response(),
        n => (StatusCode::BAD_REQUEST, format!("{n} lines are bad\n")).into_response(),
    }
}

/// A service that answers queries from lines in memory, whatever the query says.
#[derive(Debug, Clone)]
pub(crate) struct QueryService {
    pub(crate) address: SocketAddr,
    pub(crate) lines: Arc<Mutex<Vec<(i64, Labels, String)>>>,
    pub(crate) requests: Arc<Mutex<Vec<HashMap<String, String>>>>,
    most_lines: usize,
    live: broadcast::Sender<Live>,
}

type Labels = BTreeMap<String, String>;

/// What the tails are told.
#[derive(Debug, Clone)]
enum Live {
    Line(i64, Labels, String),
    Missed,
    HangUp,
}

impl QueryService {
    /// Gives at most `most_lines` at once.
    pub(crate) async fn start(most_lines: usize) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let service = Self {
            address: listener.local_addr().unwrap(),
            lines: Arc::default(),
            requests: Arc::default(),
            most_lines,
            live: broadcast::channel(1000).0,
        };
        let app = axum::Router::new()
            .route("/loki/api/v1/query_range", get(answer_range))
            .route("/loki/api/v1/query", get(answer_instant))
            .route("/loki/api/v1/tail", get(answer_tail))
            .with_state(service.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        service
    }

    /// Stores a line and tells the tails.
    pub(crate) fn add(&self, ts: i64, labels: &[(&str, &str)], line: &str) {
        let labels = self.store(ts, labels, line);
        let _ = self.live.send(Live::Line(ts, labels, line.to_owned()));
    }

    /// Stores a line that the tails are not told of.
    pub(crate) fn add_silently(&self, ts: i64, labels: &[(&str, &str)], line: &str) {
        self.store(ts, labels, line);
    }

    fn store(&self, ts: i64, labels: &[(&str, &str)], line: &str) -> Labels {
        let labels: Labels = labels
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect();
        self.lines.lock().push((ts, labels.clone(), line.to_owned()));
        labels
    }

    /// Tells the tails that they missed something.
    pub(crate) fn say_missed(&self) {
        let _ = self.live.send(Live::Missed);
    }

    /// Drops all tails' connections.
    pub(crate) fn hang_up(&self) {
        let _ = self.live.send(Live::HangUp);
    }

    pub(crate) fn tails(&self) -> usize {
        self.live.receiver_count()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn answer_range(
    State(service): State<QueryService>,
    Query(params): Query<HashMap<String, String>>,
) -> Response {
    service.requests.lock().push(params.clone());
    if params["query"].starts_with("bad") {
        let text = "parse error at line 1, col 5: syntax error: unexpected IDENTIFIER";
        return (StatusCode::BAD_REQUEST, text).into_response();
    }
    if params["query"].starts_with("sum") {
        return axum::body::Body::from(
            serde_json::json!({"status": "success", "data": {"resultType": "matrix", "stats": {}, "result": [
                {"metric": {"rank": "0"}, "values": [[1_767_323_045, "1"], [1_767_323_105, "3"]]},
                {"metric": {"rank": "1"}, "values": [[1_767_323_045.5, "2"]]},
            ]}})
            .to_string(),
        )
        .into_response();
    }
    let number = |name: &str| params[name].parse::<i64>().unwrap();
    let limit = usize::try_from(number("limit")).unwrap();
    if limit > service.most_lines {
        let most = service.most_lines;
        let text = format!(
            "max entries limit per query exceeded, limit > max_entries_limit_per_query ({limit} > {most})"
        );
        return (StatusCode::BAD_REQUEST, text).into_response();
    }
    let (start, end) = (number("start"), number("end"));
    let mut lines = service.lines.lock().clone();
    lines.retain(|(ts, _, _)| (start..end).contains(ts));
    lines.sort();
    if params["direction"] == "backward" {
        lines.reverse();
    }
    lines.truncate(limit);
    let mut streams: BTreeMap<Labels, Vec<serde_json::Value>> = BTreeMap::new();
    for (ts, labels, line) in lines {
        let entry = serde_json::json!([ts.to_string(), line, {"structuredMetadata": {"level": "info"}}]);
        streams.entry(labels).or_default().push(entry);
    }
    let result: Vec<_> = streams
        .into_iter()
        .map(|(stream, values)| serde_json::json!({"stream": stream, "values": values}))
        .collect();
    let stats = serde_json::json!({"summary": {"totalLinesProcessed": 7, "totalBytesProcessed": 2048}});
    let data = serde_json::json!({"resultType": "streams", "result": result, "stats": stats});
    serde_json::json!({"status": "success", "data": data})
        .to_string()
        .into_response()
}

async fn answer_instant() -> String {
    serde_json::json!({"status": "success", "data": {"resultType": "vector", "stats": {}, "result": [
        {"metric": {}, "value": [1_767_323_045, "42"]},
    ]}})
    .to_string()
}

async fn answer_tail(
    State(service): State<QueryService>,
    Query(params): Query<HashMap<String, String>>,
    upgrade: WebSocketUpgrade,
) -> Response {
    if params["query"].starts_with("bad") {
        return (
            StatusCode::BAD_REQUEST,
            "parse error at line 1, col 5: syntax error",
        )
            .into_response();
    }
    upgrade.on_upgrade(move |mut socket| async move {
        let mut live = service.live.subscribe();
        let _ = socket.send(Message::Ping(Vec::new().into())).await;
        while let Ok(told) = live.recv().await {
            let text = match told {
                Live::Line(ts, labels, line) => {
                    // As Loki does for a plain selector: new entries come without their structured metadata.
                    let entry = serde_json::json!([ts.to_string(), line, {}]);
                    serde_json::json!({"streams": [{"stream": labels, "values": [entry]}]})
                }
                Live::Missed => {
                    serde_json::json!({"streams": [], "dropped_entries": [{"timestamp": "1", "labels": {}}]})
                }
                Live::HangUp => return,
            };
            if socket.send(Message::Text(text.to_string().into())).await.is_err() {
                return;
            }
        }
    })
}
