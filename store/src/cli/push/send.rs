//! Batches → the service, several at once. Retries what can be retried, for as long as it takes; finds out which
//! entries of a refused batch are the bad ones.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::batch::{Batch, encode};
use super::record::Entry;
use super::report::Report;
use crate::cli::client::{Client, ClientError};

const PUSH_PATH: &str = "/loki/api/v1/push";
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(300);
const WARN_EVERY: Duration = Duration::from_secs(10);
/// Requests spent on finding the bad entries of refused batches, in one run of the command.
const SEARCH_REQUESTS: usize = 2000;

/// Sends batches; shared by the tasks that do.
#[derive(Debug)]
pub struct Sender {
    client: Client,
    report: Arc<Report>,
    /// When it fires, what is not delivered yet is given up.
    abort: CancellationToken,
    /// Set when the service will never take anything (wrong tenant, wrong address).
    hopeless: AtomicBool,
    names: Arc<Mutex<Vec<Arc<str>>>>,
    last_warning: Mutex<Option<Instant>>,
    search_requests: Semaphore,
}

enum Delivery {
    Stored,
    /// The entries are the reason.
    Refused(String),
    /// Given up: aborted, or hopeless.
    GivenUp,
}

impl Sender {
    /// A sender; `names` are the sources' names by number, for messages.
    pub fn new(
        client: Client,
        report: Arc<Report>,
        abort: CancellationToken,
        names: Arc<Mutex<Vec<Arc<str>>>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            client,
            report,
            abort,
            hopeless: AtomicBool::new(false),
            names,
            last_warning: Mutex::new(None),
            search_requests: Semaphore::new(SEARCH_REQUESTS),
        })
    }

    /// Whether the service will never take anything.
    pub fn is_hopeless(&self) -> bool {
        self.hopeless.load(Relaxed)
    }

    /// Delivers batches, `parallel` at once, until `batches` ends; `delivered` gets the number of each that is done.
    pub async fn run(
        self: Arc<Self>,
        mut batches: mpsc::Receiver<Batch>,
        parallel: usize,
        delivered: impl Fn(u64) + Send + Sync + 'static,
    ) {
        let slots = Arc::new(Semaphore::new(parallel.max(1)));
        let delivered = Arc::new(delivered);
        let mut tasks = JoinSet::new();
        while let Some(batch) = batches.recv().await {
            let slot = Arc::clone(&slots)
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            let (sender, delivered) = (Arc::clone(&self), Arc::clone(&delivered));
            tasks.spawn(async move {
                if sender.send(&batch.entries).await {
                    delivered(batch.number);
                }
                drop((batch, slot));
            });
            while tasks.try_join_next().is_some() {}
        }
        while tasks.join_next().await.is_some() {}
    }

    /// Sends entries; true when each is stored or refused for good.
    async fn send(&self, entries: &[Entry]) -> bool {
        let mut open: Vec<Range<usize>> = Vec::from([Range {
            start: 0,
            end: entries.len(),
        }]);
        let mut settled = 0;
        while let Some(range) = open.pop() {
            match self.deliver(&entries[range.clone()]).await {
                Delivery::Stored => {
                    self.report.stored.fetch_add(range.len() as u64, Relaxed);
                }
                Delivery::Refused(message) => {
                    // The service may have stored the good ones; sending them again changes nothing, because
                    // exact duplicates are one entry.
                    if range.len() > 1 && self.may_search() {
                        let middle = range.start + range.len() / 2;
                        open.extend([middle..range.end, range.start..middle]);
                        continue;
                    }
                    let place = self.place(&entries[range.clone()]);
                    self.report.refused(&place, range.len() as u64, &message);
                }
                Delivery::GivenUp => {
                    self.report
                        .unsent
                        .fetch_add((entries.len() - settled) as u64, Relaxed);
                    return false;
                }
            }
            settled += range.len();
        }
        true
    }

    fn may_search(&self) -> bool {
        self.search_requests
            .try_acquire()
            .map(tokio::sync::SemaphorePermit::forget)
            .is_ok()
    }

    async fn deliver(&self, entries: &[Entry]) -> Delivery {
        let body = match encode(entries) {
            Ok(body) => bytes::Bytes::from(body),
            Err(error) => return Delivery::Refused(error.to_string()),
        };
        let mut wait = FIRST_WAIT;
        let mut attempt = 0u64;
        loop {
            if self.is_hopeless() || self.abort.is_cancelled() {
                return Delivery::GivenUp;
            }
            let answer = tokio::select! {
                answer = self.client.post(PUSH_PATH, push_headers(), body.clone()) => answer,
                () = self.abort.cancelled() => return Delivery::GivenUp,
            };
            let error = match answer {
                Ok(_) => {
                    self.went_through(attempt);
                    return Delivery::Stored;
                }
                Err(error) => error,
            };
            let pause = match &error {
                ClientError::Status {
                    status: 400 | 413 | 422,
                    message,
                    ..
                } => {
                    return Delivery::Refused(message.clone());
                }
                ClientError::Status {
                    status: 408 | 429 | 500 | 502..=599,
                    retry_after,
                    ..
                } => retry_after.map(|asked| asked.min(LONGEST_RETRY_AFTER)),
                ClientError::NoAnswer { .. } => None,
                _ => {
                    self.give_up(&error);
                    return Delivery::GivenUp;
                }
            };
            let pause = pause.unwrap_or(wait) + jitter(wait);
            self.will_retry(&error, pause);
            attempt += 1;
            wait = (wait * 2).min(LONGEST_WAIT);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.abort.cancelled() => {}
            }
        }
    }

    fn will_retry(&self, error: &ClientError, pause: Duration) {
        self.report.retries.fetch_add(1, Relaxed);
        let mut last = self.last_warning.lock();
        if last.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
            *last = Some(Instant::now());
            self.report
                .warn(&format!("{error}; trying again in {:.1} s", pause.as_secs_f64()));
        }
    }

    fn went_through(&self, attempt: u64) {
        if attempt > 0 && self.last_warning.lock().take().is_some() {
            self.report.warn("the service takes records again");
        }
    }

    fn give_up(&self, error: &ClientError) {
        if !self.hopeless.swap(true, Relaxed) {
            self.report
                .warn(&format!("{} refuses everything: {error}", self.client.base()));
        }
    }

    /// Where entries were read: `train.log:17`, `train.log:17-20`.
    fn place(&self, entries: &[Entry]) -> String {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return String::new();
        };
        let names = self.names.lock();
        let name = |source: u32| {
            names
                .get(source as usize)
                .cloned()
                .unwrap_or_else(|| "input".into())
        };
        let (from, to) = (first.origin, last.origin);
        match (from.source == to.source, from.line == to.line) {
            (true, true) => format!("{}:{}", name(from.source), from.line),
            (true, false) => format!("{}:{}-{}", name(from.source), from.line, to.line),
            (false, _) => format!(
                "{}:{} to {}:{}",
                name(from.source),
                from.line,
                name(to.source),
                to.line
            ),
        }
    }
}

fn push_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("snappy"));
    headers
}

/// Up to a quarter of `wait`, so that many clients don't come back in step.
fn jitter(wait: Duration) -> Duration {
    let nanos = jiff::Timestamp::now().subsec_nanosecond().unsigned_abs();
    wait / 4 * (nanos % 1000) / 1000
}
