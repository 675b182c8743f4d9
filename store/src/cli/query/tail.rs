//! Follows a log query over the WebSocket, through reconnects, without loss and without showing anything twice.
//!
//! On every connect the socket is opened first and only listened to; then what came before is asked for by range,
//! from a while before the last line shown, because lines arrive late. What both ways bring is shown once.

use std::time::Duration;

use anyhow::Context;
use futures::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};
use tokio_util::task::AbortOnDropHandle;

use super::Notes;
use super::answer::{self, Answer, Row};
use super::fetch::{Direction, Fetcher, LogRange, categorize};
use super::print::LogPrinter;
use super::seen::{Identity, Seen};
use super::time::to_param;
use crate::cli::client::ClientError;
use crate::clock::now_ns;

const SECOND_NS: i64 = 1_000_000_000;
/// A line that arrives this late after its own time is still found after a reconnect.
const OVERLAP_NS: i64 = 60 * SECOND_NS;
/// Clocks of senders may be ahead; the service takes entries up to ten minutes ahead.
const AHEAD_NS: i64 = 600 * SECOND_NS;
/// The service pings every second; a connection that is silent for so long is dead.
const SILENT_AFTER: Duration = Duration::from_secs(30);
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Messages that wait while the past is asked for.
const WAITING_MESSAGES: usize = 10_000;
/// How long the service may take from the handshake to its first message.
const FOLLOWING_WITHIN: Duration = Duration::from_secs(2);
const REMEMBERED_LINES: usize = 100_000;

/// What came over the socket.
enum Event {
    Rows(Vec<Row>),
    /// A sign of life.
    Heard,
    /// The service left lines out.
    Missed,
    Closed(String),
}

/// What is known of the recent past.
struct Shown {
    /// Lines that were shown.
    seen: Seen,
    /// Lines of the last range asked for: the socket may bring them as well.
    doubled: Seen,
    latest: Option<i64>,
    /// Lines before this were left out at the start, because no more were asked for.
    floor: i64,
}

impl Shown {
    fn add(&mut self, row: &Row) {
        self.seen.add(row);
        self.latest = self.latest.max(Some(row.ts));
    }

    /// Keeps the memory to what a reconnect looks at again.
    fn forget_old(&mut self) {
        if let Some(latest) = self.latest
            && self.seen.len() + self.doubled.len() > REMEMBERED_LINES
        {
            self.seen.forget_before(latest.saturating_sub(OVERLAP_NS));
            self.doubled.forget_before(latest.saturating_sub(OVERLAP_NS));
        }
    }
}

/// Prints the newest `limit` lines since `start`, then what comes, until Ctrl-C.
///
/// # Errors
/// The service refuses the query, or the output can't be written. A lost connection is no error.
pub async fn follow(
    fetcher: &Fetcher,
    start: i64,
    limit: usize,
    mut printer: LogPrinter,
    notes: &Notes,
) -> anyhow::Result<()> {
    tokio::select! {
        outcome = follow_forever(fetcher, start, limit, &mut printer, notes) => outcome,
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

/// The past to show at the start.
struct Beginning {
    start: i64,
    limit: usize,
}

async fn follow_forever(
    fetcher: &Fetcher,
    start: i64,
    limit: usize,
    printer: &mut LogPrinter,
    notes: &Notes,
) -> anyhow::Result<()> {
    let mut shown = Shown {
        seen: Seen::new(Identity::Stream),
        doubled: Seen::new(Identity::Stream),
        latest: None,
        floor: i64::MIN,
    };
    let mut beginning = Some(Beginning { start, limit });
    let mut wait = FIRST_WAIT;
    let mut lost = false;
    loop {
        let why = match attempt(fetcher, &mut beginning, &mut shown, &mut lost, printer, notes).await {
            Ok(why) => {
                wait = FIRST_WAIT;
                why
            }
            // Who has never been connected has typed something wrong; later it is the network's fault.
            Err(error) if lost && is_passing(&error) => error.to_string(),
            Err(error) => return Err(error),
        };
        if !std::mem::replace(&mut lost, true) || wait == FIRST_WAIT {
            notes.say(&format!("connection lost: {why}; connecting again"));
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// One connection from its begin to its end; gives the reason of the end.
async fn attempt(
    fetcher: &Fetcher,
    beginning: &mut Option<Beginning>,
    shown: &mut Shown,
    lost: &mut bool,
    printer: &mut LogPrinter,
    notes: &Notes,
) -> anyhow::Result<String> {
    let (mut events, _reader) = connect(fetcher).await?;
    let range = past(shown, beginning.as_ref());
    let (lines, oldest) = catch_up(fetcher, range, shown, printer).await?;
    if beginning.take().is_some() {
        shown.floor = if lines < range.limit {
            range.start
        } else {
            oldest.unwrap_or(range.start)
        };
    }
    if *lost {
        notes.say("connected again");
    }
    *lost = true;
    loop {
        let event = match tokio::time::timeout(SILENT_AFTER, events.recv()).await {
            Ok(Some(event)) => event,
            Ok(None) => return Ok("the connection ended".to_owned()),
            Err(_) => return Ok(format!("nothing was heard for {} s", SILENT_AFTER.as_secs())),
        };
        match event {
            Event::Heard => {}
            Event::Rows(mut rows) => {
                rows.sort_by_key(|row| row.ts);
                rows.retain(|row| !shown.doubled.take(row));
                rows.iter().for_each(|row| shown.add(row));
                shown.forget_old();
                printer.print(&rows)?;
            }
            Event::Missed => {
                catch_up(fetcher, past(shown, None), shown, printer).await?;
            }
            Event::Closed(why) => return Ok(why),
        }
    }
}

/// The first time the newest lines, later everything since a while before the last line shown.
fn past(shown: &Shown, beginning: Option<&Beginning>) -> LogRange {
    let now = now_ns();
    let end = now.saturating_add(AHEAD_NS);
    match beginning {
        Some(Beginning { start, limit }) => LogRange {
            start: *start,
            end,
            direction: Direction::Backward,
            limit: *limit,
        },
        None => {
            let latest = shown.latest.unwrap_or(now).min(now);
            let start = latest.saturating_sub(OVERLAP_NS).max(shown.floor);
            LogRange {
                start,
                end,
                direction: Direction::Forward,
                limit: usize::MAX,
            }
        }
    }
}

/// Shows what the range has and was not shown yet, oldest first; gives the number of its lines and the oldest's time.
async fn catch_up(
    fetcher: &Fetcher,
    range: LogRange,
    shown: &mut Shown,
    printer: &mut LogPrinter,
) -> anyhow::Result<(usize, Option<i64>)> {
    let mut before = shown.seen.clone();
    let (mut lines, mut oldest) = (0, None);
    shown.doubled = Seen::new(Identity::Stream);
    let mut pages = fetcher.pages(range, None);
    let mut newest_first = Vec::new();
    while let Some(page) = pages.next().await? {
        let Answer::Lines(mut rows) = page.answer else {
            anyhow::bail!("only lines can be followed, and this is a metric query");
        };
        lines += rows.len();
        oldest = rows.iter().map(|row| row.ts).chain(oldest).min();
        rows.iter().for_each(|row| shown.doubled.add(row));
        rows.retain(|row| !before.take(row));
        rows.iter().for_each(|row| shown.add(row));
        match range.direction {
            Direction::Backward => newest_first.extend(rows),
            Direction::Forward => printer.print(&rows)?,
        }
    }
    newest_first.reverse();
    printer.print(&newest_first)?;
    Ok((lines, oldest))
}

/// Errors that may be gone at the next attempt.
fn is_passing(error: &anyhow::Error) -> bool {
    match error.downcast_ref() {
        Some(ClientError::Status { status, .. }) => matches!(status, 408 | 429 | 500..=599),
        Some(ClientError::NoAnswer { .. } | ClientError::Socket { .. }) => true,
        Some(ClientError::Malformed { .. }) | None => false,
    }
}

/// Opens the socket and waits until the service has begun to follow.
async fn connect(fetcher: &Fetcher) -> anyhow::Result<(mpsc::Receiver<Event>, AbortOnDropHandle<()>)> {
    let client = &fetcher.client;
    let mut url = client.address("/loki/api/v1/tail");
    let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
    url.set_scheme(scheme)
        .map_err(|()| anyhow::anyhow!("{url} has no WebSocket address"))?;
    // The past is asked for by range; the least the socket can bring of it is one line from now on.
    url.query_pairs_mut()
        .append_pair("query", &fetcher.query)
        .append_pair("start", &to_param(now_ns()))
        .append_pair("limit", "1");
    let mut request = url
        .as_str()
        .into_client_request()
        .context("cannot make the WebSocket request")?;
    request.headers_mut().extend(client.headers());
    request.headers_mut().extend(categorize());
    let connecting = tokio_tungstenite::connect_async(request);
    let socket = match tokio::time::timeout(SILENT_AFTER, connecting).await {
        Ok(Ok((socket, _))) => socket,
        Ok(Err(SocketError::Http(response))) => return Err(refusal(&response).into()),
        Ok(Err(error)) => {
            return Err(ClientError::Socket {
                url: client.base().to_owned(),
                reason: error.to_string(),
            }
            .into());
        }
        Err(_) => anyhow::bail!(ClientError::Socket {
            url: client.base().to_owned(),
            reason: "timed out".into()
        }),
    };
    let (sender, events) = mpsc::channel(WAITING_MESSAGES);
    let reader = AbortOnDropHandle::new(tokio::spawn(read(socket, sender)));
    // The first sign of life comes after the service has begun to follow.
    let _ = tokio::time::timeout(FOLLOWING_WITHIN, async {
        while events.is_empty() && !events.is_closed() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    Ok((events, reader))
}

fn refusal(response: &http::Response<Option<Vec<u8>>>) -> ClientError {
    let body = response.body().as_deref().unwrap_or_default();
    let text = String::from_utf8_lossy(body).trim().to_owned();
    let status = response.status();
    let name = || status.canonical_reason().unwrap_or("error").to_lowercase();
    let message = if text.is_empty() { name() } else { text };
    ClientError::Status {
        status: status.as_u16(),
        message,
        retry_after: None,
    }
}

async fn read<S>(mut socket: WebSocketStream<S>, events: mpsc::Sender<Event>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let event = match socket.next().await {
            Some(Ok(Message::Text(text))) => match answer::parse_tail(&text) {
                Ok((rows, 0)) => Event::Rows(rows),
                Ok((rows, _)) => {
                    if events.send(Event::Rows(rows)).await.is_err() {
                        return;
                    }
                    Event::Missed
                }
                Err(why) => Event::Closed(format!("a message is not understood: {why}")),
            },
            Some(Ok(Message::Close(frame))) => {
                let why = frame
                    .map(|frame| frame.reason.to_string())
                    .filter(|reason| !reason.is_empty());
                Event::Closed(why.unwrap_or_else(|| "closed by the service".to_owned()))
            }
            Some(Ok(_)) => Event::Heard,
            Some(Err(error)) => Event::Closed(error.to_string()),
            None => Event::Closed("closed by the service".to_owned()),
        };
        let last = matches!(event, Event::Closed(_));
        if events.send(event).await.is_err() || last {
            return;
        }
    }
}
