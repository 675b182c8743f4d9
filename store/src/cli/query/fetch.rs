//! Asks the service, page by page where an answer is longer than the service gives at once.

use std::cmp::Reverse;

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::answer::{self, Answer, Page, Row};
use super::seen::{Identity, Seen};
use super::time::to_param;
use crate::cli::client::{Client, ClientError};

/// Loki's default for the most lines it gives at once; a service with a lower one says so.
const PAGE_LINES: usize = 5000;

/// Which end of the time range lines come from first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Oldest first.
    Forward,
    /// Newest first.
    Backward,
}

/// Which lines are asked for.
#[derive(Debug, Clone, Copy)]
pub struct LogRange {
    /// First nanosecond.
    pub start: i64,
    /// The nanosecond after the last.
    pub end: i64,
    /// Order.
    pub direction: Direction,
    /// How many lines at most.
    pub limit: usize,
}

/// Asks one query of one service.
#[derive(Debug, Clone)]
pub struct Fetcher {
    /// The service.
    pub client: Client,
    /// The query's text.
    pub query: String,
    /// Whether the answer is to say all that it took.
    pub explain: bool,
}

impl Fetcher {
    /// Asks `client` for `query`; with `explain`, also what answering took.
    pub fn new(client: Client, query: String, explain: bool) -> Self {
        Self {
            client,
            query,
            explain,
        }
    }

    /// Evaluates a metric query at `at`.
    ///
    /// # Errors
    /// No answer, or the service's error.
    pub async fn instant(&self, at: i64) -> Result<Page, ClientError> {
        self.get(
            "/loki/api/v1/query",
            &[("query", self.query.clone()), ("time", to_param(at))],
        )
        .await
    }

    /// The answer over a range. A metric query has one page.
    pub fn pages(&self, range: LogRange, step: Option<i64>) -> Pages<'_> {
        let page_lines = PAGE_LINES;
        Pages {
            fetcher: self,
            left: range.limit,
            range,
            step,
            page_lines,
            boundary: Boundary::default(),
            done: false,
        }
    }

    async fn range(&self, range: &LogRange, limit: usize, step: Option<i64>) -> Result<Page, ClientError> {
        let direction = match range.direction {
            Direction::Forward => "forward",
            Direction::Backward => "backward",
        };
        let mut params = vec![
            ("query", self.query.clone()),
            ("start", to_param(range.start)),
            ("end", to_param(range.end)),
            ("limit", limit.to_string()),
            ("direction", direction.to_owned()),
        ];
        #[expect(
            clippy::cast_precision_loss,
            reason = "the service takes a step in milliseconds"
        )]
        params.extend(step.map(|ns| ("step", (ns as f64 / 1e9).to_string())));
        self.get("/loki/api/v1/query_range", &params).await
    }

    async fn get(&self, path: &str, params: &[(&str, String)]) -> Result<Page, ClientError> {
        let mut params = params.to_vec();
        if self.explain {
            params.push(("explain", "true".to_owned()));
        }
        let body = self.client.get(path, &params, categorize()).await?;
        answer::parse(&body).map_err(|reason| ClientError::Malformed {
            url: self.client.base().to_owned(),
            reason,
        })
    }
}

/// Asks for stream labels apart from the other fields.
pub fn categorize() -> HeaderMap {
    let name = HeaderName::from_static("x-loki-response-encoding-flags");
    HeaderMap::from_iter([(name, HeaderValue::from_static("categorize-labels"))])
}

/// The pages of an answer. The next page begins *at* the last line's time, because more lines may have it; those
/// already given are left out.
#[derive(Debug)]
pub struct Pages<'a> {
    fetcher: &'a Fetcher,
    range: LogRange,
    step: Option<i64>,
    left: usize,
    page_lines: usize,
    boundary: Boundary,
    done: bool,
}

/// The lines already given that have the time where the next page begins.
#[derive(Debug, Default)]
struct Boundary {
    rows: Vec<Row>,
}

impl Pages<'_> {
    /// The next page; `None` after the last.
    ///
    /// # Errors
    /// No answer, the service's error, or more lines with one timestamp than the service gives at once.
    pub async fn next(&mut self) -> anyhow::Result<Option<Page>> {
        if self.done {
            return Ok(None);
        }
        let (mut page, asked) = self.ask().await?;
        let Answer::Lines(rows) = &mut page.answer else {
            self.done = true;
            return Ok(Some(page));
        };
        match self.range.direction {
            Direction::Forward => rows.sort_by_key(|row| row.ts),
            Direction::Backward => rows.sort_by_key(|row| Reverse(row.ts)),
        }
        let complete = rows.len() < asked;
        let last = rows.last().map(|row| row.ts);
        let mut given = Seen::new(Identity::Whole);
        self.boundary.rows.iter().for_each(|row| given.add(row));
        rows.retain(|row| !given.take(row));
        if rows.is_empty() && !complete {
            anyhow::bail!(
                "more than {asked} lines have the timestamp {}: the service can't give them all; narrow the query down",
                last.unwrap_or_default()
            );
        }
        rows.truncate(self.left);
        self.left -= rows.len();
        self.done = complete || self.left == 0;
        if let Some(last) = last {
            self.begin_at(last, rows);
        }
        Ok(Some(page))
    }

    /// Asks for as many lines as are left, and those at the boundary again.
    async fn ask(&mut self) -> Result<(Page, usize), ClientError> {
        loop {
            let asked = self
                .left
                .saturating_add(self.boundary.rows.len())
                .min(self.page_lines);
            match self.fetcher.range(&self.range, asked, self.step).await {
                Ok(page) => return Ok((page, asked)),
                Err(error) => match allowed_lines(&error) {
                    Some(allowed) if allowed > 0 && allowed < asked => self.page_lines = allowed,
                    _ => return Err(error),
                },
            }
        }
    }

    fn begin_at(&mut self, last: i64, rows: &[Row]) {
        match self.range.direction {
            Direction::Forward => self.range.start = last,
            Direction::Backward => self.range.end = last.saturating_add(1),
        }
        self.boundary.rows.retain(|row| row.ts == last);
        self.boundary
            .rows
            .extend(rows.iter().filter(|row| row.ts == last).cloned());
    }
}

/// The most lines the service gives at once, from its error: `… limit > max_entries_limit_per_query (9000 > 5000)`.
fn allowed_lines(error: &ClientError) -> Option<usize> {
    let ClientError::Status {
        status: 400, message, ..
    } = error
    else {
        return None;
    };
    let (_, after) = message.split_once("max_entries_limit_per_query (")?;
    let (_, allowed) = after.split_once(')')?.0.split_once(" > ")?;
    allowed.parse().ok()
}
