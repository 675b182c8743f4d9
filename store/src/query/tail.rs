//! What a live tail makes of acknowledged entries: the same selection and pipeline as a log query, entry by entry.
//!
//! Knows neither sockets nor where the entries come from.

use super::dedupe::row_hash;
use super::result::Interner;
use super::{Engine, LogAnswer, LogRequest, LogRow, Pairs, QueryError};
use crate::entry::{Entry, StreamEntries};
use crate::tenants::TenantId;
use rankline_logql::{EntryRef, LogExpr, Matcher, ParseError, Pipeline, Runner};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Streams whose selection is remembered.
const MAX_KNOWN_STREAMS: usize = 100_000;
/// Batches up to this many entries are filtered where they are; larger ones on the workers.
const INLINE_ENTRIES: usize = 256;

/// One tail: filters batches of new entries, and leaves out those it has seen in the history.
pub struct Tail {
    matchers: Vec<Matcher>,
    runner: Runner,
    /// Without stages Loki shows the stream's labels alone on new entries.
    bare: bool,
    known: HashMap<u64, bool>,
    history: HashSet<u128>,
}

impl Tail {
    /// # Errors
    /// A stage that does not compile.
    pub fn new(expr: &LogExpr) -> Result<Self, ParseError> {
        let pipeline = Arc::new(Pipeline::new(&expr.stages)?);
        Ok(Self {
            matchers: expr.matchers.clone(),
            runner: pipeline.runner(),
            bare: expr.stages.is_empty(),
            known: HashMap::new(),
            history: HashSet::new(),
        })
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
        if self.known.len() > MAX_KNOWN_STREAMS {
            self.known.clear();
        }
        for stream in batch {
            let matchers = &self.matchers;
            let passes = || {
                matchers
                    .iter()
                    .all(|matcher| matcher.matches_labels(&stream.labels))
            };
            if !*self.known.entry(stream.labels.hash64()).or_insert_with(passes) {
                continue;
            }
            self.runner.set_stream(&stream.labels);
            for entry in &stream.entries {
                rows.extend(self.row(entry, &mut interner));
            }
        }
        rows.sort_by_key(|row| row.ts);
        rows
    }

    fn row(&mut self, entry: &Entry, interner: &mut Interner) -> Option<LogRow> {
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
        let bare = self.bare;
        let row = LogRow {
            ts: processed.ts(),
            line: processed.line().into(),
            stream: interner.intern(Pairs::from_sorted(processed.stream())),
            metadata: if bare {
                Pairs::default()
            } else {
                interner.intern(Pairs::from_sorted(processed.metadata()))
            },
            parsed: interner.intern(Pairs::from_sorted(processed.parsed())),
        };
        let new = self.history.is_empty() || !self.history.contains(&row_hash(&row, bare));
        new.then_some(row)
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
}
