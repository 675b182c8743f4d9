//! One delete request made ready: which entries it is about.

use std::sync::Arc;

use rankline_logql::ast::{LineFilterOp, LineFilterValue};
use rankline_logql::{EntryRef, Expr, Labels, LogExpr, Matcher, Pipeline, Runner, Stage};
use ulid::Ulid;

use super::record::DeleteRecord;

const NS_PER_MS: i64 = 1_000_000;

/// A delete query that is none: not a log query, or one that does not compile. The text is Loki's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid query expression")]
pub struct InvalidQuery;

/// A delete request and what it matches.
pub struct Deletion {
    /// The request's id, also the name of its object.
    pub id: Ulid,
    /// The request as it is stored.
    pub record: DeleteRecord,
    matchers: Vec<Matcher>,
    /// `None`: every entry of the streams.
    filter: Option<Arc<Pipeline>>,
}

impl std::fmt::Debug for Deletion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deletion")
            .field("id", &self.id)
            .field("record", &self.record)
            .finish_non_exhaustive()
    }
}

impl Deletion {
    /// # Errors
    /// [`InvalidQuery`].
    pub fn new(id: Ulid, record: DeleteRecord) -> Result<Self, InvalidQuery> {
        let expr = parse(&record.query)?;
        let filter = match filters(&expr) {
            true => Some(Arc::new(Pipeline::new(&expr.stages).map_err(|_| InvalidQuery)?)),
            false => None,
        };
        Ok(Self {
            id,
            record,
            matchers: expr.matchers,
            filter,
        })
    }

    /// Times it is about: start inclusive, end exclusive, ns.
    #[must_use]
    pub fn range(&self) -> (i64, i64) {
        let ns = |ms: i64| ms.saturating_mul(NS_PER_MS);
        // The last millisecond is named inclusively and means its first ns, as in Loki.
        (ns(self.record.start_ms), ns(self.record.end_ms).saturating_add(1))
    }

    /// Whether it is about entries of a stream.
    #[must_use]
    pub fn selects(&self, labels: &Labels) -> bool {
        self.matchers.iter().all(|matcher| matcher.matches_labels(labels))
    }

    /// Whether entries can be told by stream and time alone.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.filter.is_none()
    }

    /// Tells the entries of one stream it is about.
    #[must_use]
    pub fn sieve(&self, labels: &Labels) -> Sieve {
        let runner = self.filter.as_ref().map(|filter| {
            let mut runner = filter.runner();
            runner.set_stream(labels);
            runner
        });
        Sieve {
            range: self.range(),
            runner,
        }
    }
}

/// Tells the entries of one stream that a [`Deletion`] is about.
pub struct Sieve {
    range: (i64, i64),
    runner: Option<Runner>,
}

impl Sieve {
    /// Whether the entry is to be deleted.
    pub fn takes(&mut self, entry: &EntryRef<'_>) -> bool {
        let (start, end) = self.range;
        if entry.ts < start || entry.ts >= end {
            return false;
        }
        match &mut self.runner {
            None => true,
            Some(runner) => runner.process(entry, false).is_some(),
        }
    }
}

/// Whether a delete query tells entries of one stream apart; needs the query's text alone.
///
/// # Errors
/// [`InvalidQuery`].
pub fn has_filter(query: &str) -> Result<bool, InvalidQuery> {
    Ok(filters(&parse(query)?))
}

fn parse(query: &str) -> Result<LogExpr, InvalidQuery> {
    match rankline_logql::parse_unchecked(query) {
        Ok(Expr::Log(expr)) => Ok(expr),
        _ => Err(InvalidQuery),
    }
}

/// Whether any stage drops entries; parsers alone do not.
fn filters(expr: &LogExpr) -> bool {
    expr.stages.iter().any(|stage| match stage {
        Stage::LabelFilter(_) => true,
        Stage::LineFilter(filter) => {
            let positive = matches!(filter.op, LineFilterOp::Contains | LineFilterOp::Regex);
            let empty =
                |value: &LineFilterValue| matches!(value, LineFilterValue::Text(text) if text.is_empty());
            !(positive && filter.values.iter().any(empty))
        }
        _ => false,
    })
}
