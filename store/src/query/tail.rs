//! What a live tail makes of acknowledged entries: the same selection and pipeline as a log query, entry by entry.
//!
//! Knows neither sockets nor where the entries come from.

use super::block::{Body, Needs, Rows, Span};
use super::dedupe::{entry_hash, row_hash};
use super::result::Interner;
use super::select::Plan;
use super::{Engine, LogAnswer, LogRequest, LogRow, QueryError, QueryStats};
use crate::catalog::Segment;
use crate::entry::{Entry, StreamEntries};
use crate::tenants::TenantId;
use parking_lot::Mutex;
use rankline_logql::{EntryRef, Labels, LogExpr, Matcher, ParseError, Pipeline, Runner};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Streams whose selection is remembered.
const MAX_KNOWN_STREAMS: usize = 100_000;
/// An entry that comes again within this time (a retry, at whatever replica) is left out ...
const REMEMBERED: Duration = Duration::from_secs(30);
/// ... unless more entries than this have come between.
const MAX_REMEMBERED: usize = 50_000;
/// Batches up to this many entries are filtered where they are; larger ones on the workers.
const INLINE_ENTRIES: usize = 256;

/// Which streams a tail is about; remembers what it said about each.
pub struct StreamSelector {
    matchers: Vec<Matcher>,
    known: Mutex<HashMap<u64, bool>>,
}

impl StreamSelector {
    /// Whether the tail is about the stream.
    pub fn selects(&self, labels: &Labels) -> bool {
        let mut known = self.known.lock();
        if known.len() > MAX_KNOWN_STREAMS {
            known.clear();
        }
        let passes = || self.matchers.iter().all(|matcher| matcher.matches_labels(labels));
        *known.entry(labels.hash64()).or_insert_with(passes)
    }
}

/// Entries that came a short while ago.
struct Recent {
    newer: HashSet<u128>,
    older: HashSet<u128>,
    since: Instant,
}

impl Recent {
    fn new() -> Self {
        Self {
            newer: HashSet::new(),
            older: HashSet::new(),
            since: Instant::now(),
        }
    }

    /// Whether the entry has not come lately; it has now.
    fn is_new(&mut self, hash: u128) -> bool {
        if self.newer.len() >= MAX_REMEMBERED || self.since.elapsed() > REMEMBERED {
            self.older = std::mem::take(&mut self.newer);
            self.since = Instant::now();
        }
        !self.older.contains(&hash) && self.newer.insert(hash)
    }
}

/// One tail: filters batches of new entries, and leaves out those it has seen, in the history or just now.
pub struct Tail {
    selector: Arc<StreamSelector>,
    runner: Runner,
    /// Without stages Loki shows the stream's labels alone on new entries.
    bare: bool,
    history: HashSet<u128>,
    recent: Recent,
}

impl Tail {
    /// # Errors
    /// A stage that does not compile.
    pub fn new(expr: &LogExpr) -> Result<Self, ParseError> {
        let pipeline = Arc::new(Pipeline::new(&expr.stages)?);
        Ok(Self {
            selector: Arc::new(StreamSelector {
                matchers: expr.matchers.clone(),
                known: Mutex::default(),
            }),
            runner: pipeline.runner(),
            bare: expr.stages.is_empty(),
            history: HashSet::new(),
            recent: Recent::new(),
        })
    }

    /// Which streams it is about.
    pub fn selector(&self) -> Arc<StreamSelector> {
        Arc::clone(&self.selector)
    }

    /// Remembers rows that were sent as history, so that they are not sent again as new ones.
    pub fn remember(&mut self, history: &[LogRow]) {
        self.history
            .extend(history.iter().map(|row| row_hash(row, self.bare)));
    }

    /// Forgets the history: nothing of it can arrive as new any more.
    pub fn forget(&mut self) {
        self.history = HashSet::new();
    }

    /// Entries of a batch that pass, oldest first.
    pub fn filter(&mut self, batch: &[StreamEntries]) -> Vec<LogRow> {
        let mut rows = Vec::new();
        let mut interner = Interner::default();
        for stream in batch {
            if !self.selector.selects(&stream.labels) {
                continue;
            }
            self.runner.set_stream(&stream.labels);
            for entry in &stream.entries {
                rows.extend(self.row(stream.labels.hash64(), entry, &mut interner));
            }
        }
        rows.sort_by_key(|row| row.ts);
        rows
    }

    fn row(&mut self, stream: u64, entry: &Entry, interner: &mut Interner) -> Option<LogRow> {
        let metadata: Vec<(&str, &str)> = entry
            .metadata
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        let entry = EntryRef {
            ts: entry.ts,
            line: &entry.line,
            metadata: &metadata,
        };
        let processed = self.runner.process(&entry, false)?;
        let hash = entry_hash(stream, &entry);
        let bare = self.bare;
        let row = LogRow {
            ts: processed.ts(),
            line: processed.line().into(),
            stream: interner.intern(Labels::from_sorted(processed.stream())),
            metadata: if bare {
                Labels::default()
            } else {
                interner.intern(Labels::from_sorted(processed.metadata()))
            },
            parsed: interner.intern(Labels::from_sorted(processed.parsed())),
        };
        let new = self.history.is_empty() || !self.history.contains(&row_hash(&row, bare));
        (self.recent.is_new(hash) && new).then_some(row)
    }
}

impl Engine {
    /// The newest rows before a tail begins, oldest first.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub async fn history(&self, tenant: &TenantId, request: LogRequest) -> Result<Vec<LogRow>, QueryError> {
        let LogAnswer { mut rows, .. } = self.log(std::slice::from_ref(tenant), request).await?;
        rows.reverse();
        Ok(rows)
    }

    /// Filters a batch for a tail, on the workers when it is large.
    ///
    /// # Errors
    /// [`QueryError::Worker`].
    pub async fn filter_batch(
        &self,
        mut tail: Tail,
        batch: Arc<[StreamEntries]>,
    ) -> Result<(Tail, Vec<LogRow>), QueryError> {
        let entries: usize = batch.iter().map(|stream| stream.entries.len()).sum();
        if entries <= INLINE_ENTRIES {
            let rows = tail.filter(&batch);
            return Ok((tail, rows));
        }
        let work = move || {
            let rows = tail.filter(&batch);
            Ok((tail, rows))
        };
        self.workers.run(work).await
    }

    /// All entries of a segment, streams ascending, each stream's by time.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub async fn read_segment(&self, segment: Arc<Segment>) -> Result<Vec<StreamEntries>, QueryError> {
        let parts = self.parts_of(vec![segment], &[], None, i64::MIN, i64::MAX);
        let plan = Plan::of(parts);
        let mut streams = Vec::new();
        for task in plan.blocks(i64::MIN, i64::MAX) {
            let encoded = self
                .fetch_all(&task, &Needs::ALL, &mut QueryStats::default())
                .await?;
            let work = move || {
                let rows = task.rows(&encoded, i64::MIN, i64::MAX)?;
                let body = task.body(&encoded, &Needs::ALL)?;
                let span = |span: &Span| {
                    let lines = task.lines(&body, &span.rows)?;
                    let places = span.rows.clone().enumerate();
                    let entries = places.map(|(place, row)| entry(&rows, &body, row, lines.get(place, row)));
                    Ok(StreamEntries {
                        labels: task.part.labels(span.stream),
                        entries: entries.collect(),
                    })
                };
                rows.spans
                    .iter()
                    .map(span)
                    .collect::<Result<Vec<_>, QueryError>>()
            };
            streams.extend(self.workers.run(work).await?);
        }
        Ok(streams)
    }
}

fn entry(rows: &Rows, body: &Body, row: u32, line: &str) -> Entry {
    let mut metadata = Vec::new();
    body.metadata(row, &mut metadata);
    Entry {
        ts: rows.ts[row as usize],
        line: line.into(),
        metadata: metadata
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
    }
}
