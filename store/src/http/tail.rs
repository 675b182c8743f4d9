//! The live tail over a WebSocket: history first, then entries as they are acknowledged.
//!
//! Frames, pings and limits are Loki's; which entries pass is the query engine's business, and where they come from
//! that of [`crate::live`].

mod held;

use super::encode::{self, EncodingFlags};
use super::error::ApiError;
use super::params::{ParamError, Params};
use super::query::QueryState;
use crate::catalog::DAY_NS;
use crate::clock::now_ns;
use crate::live::{LiveEvent, LiveSubscription};
use crate::metrics as names;
use crate::query::{Direction, LogRequest, LogRow, Tail};
use crate::replicas::Following;
use crate::tenants::{self, TenantId};
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::{IntoResponse, Response};
use held::Held;
use http::HeaderMap;
use rankline_logql::{Expr, Labels};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Entries of one frame.
const FRAME_ENTRIES: usize = 100;
/// Loki pings every second; proxies cut idle connections after 30 s at the soonest, and a client that waits for a quiet
/// second never sees one with a ping in each.
const PING_EVERY: Duration = Duration::from_secs(15);
/// How long a tail may last.
const MAX_DURATION: Duration = Duration::from_secs(3600);
/// A client that takes nothing for so long is gone.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// How long after the history an entry of it may still be announced as new.
const SEAM: Duration = Duration::from_secs(30);
/// Bytes of the reason in a close frame, by the protocol.
const MAX_CLOSE_REASON: usize = 123;
/// Most seconds a client may ask entries to be held back.
const MAX_DELAY_SECS: usize = 5;

/// `GET /loki/api/v1/tail`
pub(super) async fn tail(
    State(state): State<QueryState>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    params: Params,
) -> Result<Response, ApiError> {
    let tenant = tenants::one(&headers, state.tenants_required)?;
    let now = now_ns();
    let limit = params.limit("limit", 100)?;
    let (start, _) = params.bounds(now)?;
    let delay = match params.get("delay_for") {
        "" | "0" => 0,
        _ => params.limit("delay_for", 0)?,
    };
    if delay > MAX_DELAY_SECS {
        return Err(ParamError(format!("delay_for can't be greater than {MAX_DELAY_SECS}")).into());
    }
    let Expr::Log(expr) = rankline_logql::parse(params.query()?)? else {
        return Err(ParamError("only log selector is supported".to_owned()).into());
    };
    let request = LogRequest {
        expr,
        start,
        end: now.saturating_add(DAY_NS),
        limit,
        direction: Direction::Backward,
        interval: 0,
    };
    let tail = Tail::new(&request.expr)?;
    let session = Session {
        flags: EncodingFlags::from_headers(&headers),
        delay: Duration::from_secs(delay as u64),
        state,
        tenant,
    };
    match upgrade {
        Ok(upgrade) => Ok(upgrade.on_upgrade(|socket| session.run(socket, request, tail))),
        Err(rejection) => Ok(rejection.into_response()),
    }
}

/// Counts a tail while it is open.
struct OpenTail;

impl OpenTail {
    fn new() -> Self {
        metrics::gauge!(names::TAIL_SESSIONS).increment(1.0);
        Self
    }
}

impl Drop for OpenTail {
    fn drop(&mut self) {
        metrics::gauge!(names::TAIL_SESSIONS).decrement(1.0);
    }
}

/// Why a tail ends.
enum End {
    /// The client has gone, or the service goes down: no close frame, so that clients come back.
    Gone,
    /// Told to the client.
    Closed(String),
}

struct Session {
    state: QueryState,
    tenant: TenantId,
    flags: EncodingFlags,
    delay: Duration,
}

impl Session {
    async fn run(self, mut socket: WebSocket, request: LogRequest, tail: Tail) {
        let _open = OpenTail::new();
        if let End::Closed(reason) = self.follow(&mut socket, request, tail).await {
            let frame = CloseFrame {
                code: close_code::ERROR,
                reason: cut(&reason).into(),
            };
            let _ = tokio::time::timeout(SEND_TIMEOUT, socket.send(Message::Close(Some(frame)))).await;
        }
    }

    async fn follow(&self, socket: &mut WebSocket, request: LogRequest, mut tail: Tail) -> End {
        let (mut live, _following) = match self.begin(socket, request, &mut tail).await {
            Ok(begun) => begun,
            Err(end) => return end,
        };
        let started = Instant::now();
        let mut seam = Some(started + SEAM);
        let mut held = Held::new(self.delay);
        let mut ping = tokio::time::interval(PING_EVERY);
        loop {
            if seam.is_some_and(|seam| Instant::now() > seam) {
                tail.forget();
                seam = None;
            }
            if started.elapsed() > MAX_DURATION {
                return End::Closed("reached tail max duration limit".to_owned());
            }
            let queue = held.has_room().then_some(&mut live);
            match self.next(socket, queue, &mut ping, held.due()).await {
                Ok(Some(LiveEvent::Batch(batch))) => {
                    let passed;
                    (tail, passed) = match self.state.engine.filter_batch(tail, batch).await {
                        Ok(filtered) => filtered,
                        Err(why) => return End::Closed(why.to_string()),
                    };
                    held.add(passed, Instant::now());
                }
                Ok(Some(LiveEvent::Missed { entries, named })) => {
                    metrics::counter!(names::TAIL_DROPPED_ENTRIES, "reason" => "slow_reader")
                        .increment(entries);
                    if let Err(end) = self.send_dropped(socket, &named).await {
                        return end;
                    }
                }
                Ok(None) => {}
                Err(end) => return end,
            }
            let rows = held.take(Instant::now());
            if let Err(end) = self.send(socket, &rows).await {
                return end;
            }
        }
    }

    /// Sends the history. Following begins before it is read, so that nothing falls between the two.
    async fn begin(
        &self,
        socket: &mut WebSocket,
        request: LogRequest,
        tail: &mut Tail,
    ) -> Result<(LiveSubscription, Arc<Following>), End> {
        let closed = |why: &dyn std::fmt::Display| End::Closed(why.to_string());
        let (state, tenant) = (&self.state, &self.tenant);
        let selector = tail.selector();
        let filter = Box::new(move |labels: &Labels| selector.selects(labels));
        let live = state.live.subscribe(tenant, state.max_tails, filter);
        let live = live.map_err(|why| closed(&why))?;
        let following = state.replicas.follow(tenant).await.map_err(|why| closed(&why))?;
        let history = state.engine.history(tenant, request).await;
        let history = history.map_err(|why| closed(&why))?;
        self.send(socket, &history).await?;
        tail.remember(&history);
        Ok((live, following))
    }

    /// Waits for new entries, for held ones to become due, or for the time to ping.
    async fn next(
        &self,
        socket: &mut WebSocket,
        live: Option<&mut LiveSubscription>,
        ping: &mut tokio::time::Interval,
        due: Option<Instant>,
    ) -> Result<Option<LiveEvent>, End> {
        let until = due.unwrap_or_else(|| Instant::now() + PING_EVERY);
        let event = async {
            match live {
                Some(live) => live.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = event => event.map(Some).ok_or(End::Gone),
            () = tokio::time::sleep_until(until) => Ok(None),
            _ = ping.tick() => {
                send_message(socket, Message::Ping(Vec::new().into())).await?;
                Ok(None)
            }
            message = socket.recv() => match message {
                Some(Ok(Message::Close(_))) | Some(Err(_)) | None => Err(End::Gone),
                Some(Ok(_)) => Ok(None),
            },
        }
    }

    /// Sends rows, each as a stream of its own, so that their order stays.
    async fn send(&self, socket: &mut WebSocket, rows: &[LogRow]) -> Result<(), End> {
        for rows in rows.chunks(FRAME_ENTRIES) {
            let mut out = Vec::with_capacity(rows.iter().map(|row| row.line.len() + 128).sum());
            out.extend_from_slice(b"{\"streams\":");
            encode::list(&mut out, rows, |out, row| {
                out.extend_from_slice(b"{\"stream\":");
                encode::pairs(out, encode::shown_labels(row, self.flags.categorize()).iter());
                out.extend_from_slice(b",\"values\":[");
                encode::entry(out, row, self.flags.categorize());
                out.extend_from_slice(b"]}");
            });
            self.flags.write_last(&mut out);
            out.push(b'}');
            send_text(socket, out).await?;
        }
        Ok(())
    }

    /// Tells the client which entries were left out because it was too slow.
    async fn send_dropped(&self, socket: &mut WebSocket, named: &[(i64, Labels)]) -> Result<(), End> {
        let mut out = b"{\"streams\":[],\"dropped_entries\":".to_vec();
        encode::list(&mut out, named, |out, (ts, labels)| {
            out.extend_from_slice(format!("{{\"timestamp\":\"{ts}\",\"labels\":").as_bytes());
            encode::pairs(out, labels.iter());
            out.push(b'}');
        });
        out.push(b'}');
        send_text(socket, out).await
    }
}

/// The beginning of a reason that a close frame has room for.
fn cut(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(MAX_CLOSE_REASON)]
}

async fn send_text(socket: &mut WebSocket, text: Vec<u8>) -> Result<(), End> {
    let text = String::from_utf8_lossy(&text).into_owned();
    send_message(socket, Message::Text(text.into())).await
}

async fn send_message(socket: &mut WebSocket, message: Message) -> Result<(), End> {
    match tokio::time::timeout(SEND_TIMEOUT, socket.send(message)).await {
        Ok(Ok(())) => Ok(()),
        _ => Err(End::Gone),
    }
}
