//! The live tail over a WebSocket: history first, then entries as they are acknowledged.
//!
//! Frames, pings and limits are Loki's; which entries pass is the query engine's business.

use super::encode::{self, EncodingFlags};
use super::error::ApiError;
use super::params::{ParamError, Params};
use super::query::QueryState;
use crate::catalog::DAY_NS;
use crate::clock::now_ns;
use crate::entry::StreamEntries;
use crate::live::{LiveEvent, LiveSubscription};
use crate::metrics as names;
use crate::query::{Direction, LogRequest, LogRow, Tail};
use crate::tenants::{self, TenantId};
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use rankline_logql::Expr;
use std::collections::VecDeque;
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
        dropped: dropped_labels(&request),
        state,
        tenant,
    };
    match upgrade {
        Ok(upgrade) => Ok(upgrade.on_upgrade(|socket| session.run(socket, request, tail))),
        Err(rejection) => Ok(rejection.into_response()),
    }
}

/// Labels that stand for entries a slow reader missed: what the query itself says about them.
fn dropped_labels(request: &LogRequest) -> Vec<(String, String)> {
    let matchers = request.expr.matchers.iter();
    let equal = matchers.filter(|matcher| matcher.op() == rankline_logql::MatchOp::Equal);
    equal
        .map(|matcher| (matcher.name().to_owned(), matcher.value().to_owned()))
        .collect()
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
    dropped: Vec<(String, String)>,
}

impl Session {
    async fn run(self, mut socket: WebSocket, request: LogRequest, tail: Tail) {
        let _open = OpenTail::new();
        if let End::Closed(reason) = self.follow(&mut socket, request, tail).await {
            let frame = CloseFrame {
                code: close_code::ERROR,
                reason: reason.into(),
            };
            let _ = tokio::time::timeout(SEND_TIMEOUT, socket.send(Message::Close(Some(frame)))).await;
        }
    }

    async fn follow(&self, socket: &mut WebSocket, request: LogRequest, mut tail: Tail) -> End {
        // Following begins before the history is read, so that nothing falls between the two.
        let mut live = self.state.live.subscribe(&self.tenant);
        let history = match self.state.engine.history(&self.tenant, request).await {
            Ok(rows) => rows,
            Err(why) => return End::Closed(why.to_string()),
        };
        if let Err(end) = self.send(socket, &history).await {
            return end;
        }
        tail.remember(&history);
        drop(history);
        let started = Instant::now();
        let mut seam = Some(started + SEAM);
        let mut held: VecDeque<(Instant, Arc<[StreamEntries]>)> = VecDeque::new();
        let mut ping = tokio::time::interval(PING_EVERY);
        loop {
            if seam.is_some_and(|seam| Instant::now() > seam) {
                tail.forget();
                seam = None;
            }
            if started.elapsed() > MAX_DURATION {
                return End::Closed("reached tail max duration limit".to_owned());
            }
            let due = held.front().map(|(due, _)| *due);
            match self.next(socket, &mut live, &mut ping, due).await {
                Ok(Some(LiveEvent::Batch(batch))) => held.push_back((Instant::now() + self.delay, batch)),
                Ok(Some(LiveEvent::Missed { entries })) => {
                    metrics::counter!(names::TAIL_DROPPED_ENTRIES, "reason" => "slow_reader")
                        .increment(entries);
                    if let Err(end) = self.send_dropped(socket).await {
                        return end;
                    }
                }
                Ok(None) => {}
                Err(end) => return end,
            }
            while let Some((_, batch)) = held.pop_front_if(|(due, _)| *due <= Instant::now()) {
                let rows;
                (tail, rows) = match self.state.engine.filter_batch(tail, batch).await {
                    Ok(filtered) => filtered,
                    Err(why) => return End::Closed(why.to_string()),
                };
                if let Err(end) = self.send(socket, &rows).await {
                    return end;
                }
            }
        }
    }

    /// Waits for new entries, for held ones to become due, or for the time to ping.
    async fn next(
        &self,
        socket: &mut WebSocket,
        live: &mut LiveSubscription,
        ping: &mut tokio::time::Interval,
        due: Option<Instant>,
    ) -> Result<Option<LiveEvent>, End> {
        let until = due.unwrap_or_else(|| Instant::now() + PING_EVERY);
        tokio::select! {
            event = live.recv() => event.map(Some).ok_or(End::Gone),
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

    /// Tells the client that entries were left out because it was too slow.
    async fn send_dropped(&self, socket: &mut WebSocket) -> Result<(), End> {
        let mut out = format!(
            "{{\"streams\":[],\"dropped_entries\":[{{\"timestamp\":\"{}\",\"labels\":",
            now_ns()
        );
        let mut labels = Vec::new();
        encode::pairs(
            &mut labels,
            self.dropped
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str())),
        );
        out.push_str(&String::from_utf8_lossy(&labels));
        out.push_str("}]}");
        send_text(socket, out.into_bytes()).await
    }
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
