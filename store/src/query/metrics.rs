//! Metric queries: each leaf of the plan folds its blocks into one accumulator for each worker (see `fold`).

use super::block::Needs;
use super::budget::Budget;
use super::dedupe::Met;
use super::fold::LeafScan;
use super::head::HeadSearch;
use super::implied::ImpliedSearch;
use super::{Engine, QueryError, QueryStats};
use crate::storage::metered;
use crate::tenants::TenantId;
use parking_lot::Mutex;
use rankline_logql::{Accumulator, EvalLimits, EvalSpec, MetricExpr, MetricPlan, MetricValue};
use std::sync::Arc;
use std::time::Instant;

/// A metric query.
#[derive(Debug, Clone)]
pub struct MetricRequest {
    /// What to compute.
    pub expr: MetricExpr,
    /// When to compute it.
    pub spec: EvalSpec,
    /// Cut an answer of too many series, with a warning, rather than refuse it.
    pub partial: bool,
}

/// Answer of a metric query.
#[derive(Debug)]
pub struct MetricAnswer {
    /// Scalar, vector or matrix.
    pub value: MetricValue,
    /// What the reader has to know about it.
    pub warnings: Vec<String>,
    /// The work it took.
    pub stats: QueryStats,
}

/// Leaves the first `most` series; whether there were more.
fn cut(value: &mut MetricValue, most: usize) -> bool {
    let series = match value {
        MetricValue::Scalar(_) => return false,
        MetricValue::Vector(samples) => {
            let series = samples.len();
            samples.truncate(most);
            series
        }
        MetricValue::Matrix(series) => {
            let found = series.len();
            series.truncate(most);
            found
        }
    };
    series > most
}

impl Engine {
    /// Answers a metric query.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub async fn metric(
        &self,
        tenants: &[TenantId],
        request: MetricRequest,
    ) -> Result<MetricAnswer, QueryError> {
        let started = Instant::now();
        let limits = EvalLimits {
            max_series: match request.partial {
                true => usize::MAX,
                false => self.limits.max_series,
            },
            max_bytes: self.limits.query_memory,
        };
        let plan = Arc::new(MetricPlan::new(&request.expr, request.spec, limits)?);
        let once = || self.metric_once(tenants, Arc::clone(&plan));
        let (answer, store) = metered(self.bounded("metric", tenants, once)).await;
        let mut answer = answer?;
        answer.stats.store = store;
        if cut(&mut answer.value, self.limits.max_series) {
            answer.warnings.push(format!(
                "maximum number of series ({}) reached for a single query; returning partial results",
                self.limits.max_series
            ));
        }
        answer.stats.exec_time = started.elapsed();
        Ok(answer)
    }

    async fn metric_once(
        &self,
        tenants: &[TenantId],
        plan: Arc<MetricPlan>,
    ) -> Result<MetricAnswer, QueryError> {
        let mut stats = QueryStats::default();
        let mut sums = Vec::new();
        for leaf in 0..plan.leaves().len() {
            let (sum, part) = self.leaf(tenants, Arc::clone(&plan), leaf).await?;
            stats.add(&part);
            sums.push(sum);
        }
        let merging = Instant::now();
        let value = self.workers.run(move || Ok(plan.finish(sums)?)).await?;
        stats.times.merge += merging.elapsed();
        stats.entries_returned = match &value {
            MetricValue::Scalar(_) => 1,
            MetricValue::Vector(samples) => samples.len() as u64,
            MetricValue::Matrix(series) => series.len() as u64,
        };
        Ok(MetricAnswer {
            value,
            warnings: Vec::new(),
            stats,
        })
    }

    async fn leaf(
        &self,
        tenants: &[TenantId],
        plan: Arc<MetricPlan>,
        place: usize,
    ) -> Result<(Accumulator, QueryStats), QueryError> {
        let leaf = &plan.leaves()[place];
        let (start, end) = leaf.time_range();
        let planning = Instant::now();
        let mut read = self.plan(tenants, leaf.matchers(), start, end).await?;
        self.check_bytes(&read, start, end)?;
        self.narrow_shared_times(&mut read).await?;
        let (tasks, mut stats) = read.select(start, end);
        stats.times.plan = planning.elapsed();
        let reads_lines = leaf.needs_line() && !leaf.labels_suffice();
        let looks_at_lines = reads_lines || !leaf.head_filters().is_empty();
        let needs = Needs {
            lines: looks_at_lines,
            templates: looks_at_lines,
            lengths: leaf.counts_bytes(),
            metadata: leaf.metadata_needs(),
        };
        let scan = Arc::new(LeafScan {
            head: HeadSearch::new(leaf.head_filters()),
            implied: ImpliedSearch::new(leaf.implied_filters()),
            plan: Arc::clone(&plan),
            leaf: place,
            needs,
            idle: Mutex::default(),
            met: Met::default(),
            budget: Budget::new(self.limits.query_memory),
        });
        stats.add(&self.drive(Arc::clone(&scan), tasks, self.parallel()).await?);
        let merging = Instant::now();
        let sums = std::mem::take(&mut *scan.idle.lock());
        let fold = move || {
            let mut sums = sums.into_iter();
            let mut first = sums
                .next()
                .unwrap_or_else(|| scan.plan.leaves()[place].accumulator());
            for sum in sums {
                first.merge(sum)?;
            }
            Ok(first)
        };
        let sum = self.workers.run(fold).await?;
        stats.times.merge = merging.elapsed();
        Ok((sum, stats))
    }
}
