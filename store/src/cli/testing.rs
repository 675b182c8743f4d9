//! A service for the commands' tests: takes pushes, can be slow, busy or picky, and remembers what it stored.
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use parking_lot::Mutex;
use prost::Message;

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
        super::client::install_tls();
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
