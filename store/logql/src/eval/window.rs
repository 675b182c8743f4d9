//! Evaluation times and the sliding windows before them.

use super::EvalSpec;

/// Windows `(t - range - offset, t - offset]` at every evaluation time `t`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    start: i64,
    step: i64,
    count: usize,
    range: i64,
    offset: i64,
}

impl Windows {
    pub(crate) fn new(spec: EvalSpec, range: i64, offset: i64) -> Self {
        let step = spec.step.max(1);
        let span = spec.end.saturating_sub(spec.start).max(0);
        let count = usize::try_from(span / step).unwrap_or(usize::MAX - 1) + 1;
        Self {
            start: spec.start,
            step,
            count,
            range,
            offset,
        }
    }

    /// How many evaluations there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The time of an evaluation.
    pub(crate) fn at(&self, step: usize) -> i64 {
        let step = i64::try_from(step).unwrap_or(i64::MAX);
        self.start.saturating_add(self.step.saturating_mul(step))
    }

    /// The range selector's width, ns.
    pub(crate) fn range(&self) -> i64 {
        self.range
    }

    /// Bounds of the window of an evaluation: exclusive, inclusive.
    pub(crate) fn bounds(&self, step: usize) -> (i64, i64) {
        let last = self.at(step).saturating_sub(self.offset);
        (last.saturating_sub(self.range), last)
    }

    /// Timestamps some window holds: from the first (inclusive) to the second (exclusive).
    pub(crate) fn time_range(&self) -> (i64, i64) {
        let (after, _) = self.bounds(0);
        let (_, last) = self.bounds(self.count - 1);
        (after.saturating_add(1), last.saturating_add(1))
    }

    /// The evaluations whose windows hold `ts`: from the first to the second, exclusive; `None` when there is none.
    pub(crate) fn holding(&self, ts: i64) -> Option<(usize, usize)> {
        let distance = ts.saturating_add(self.offset).saturating_sub(self.start);
        let first = ceil_div(distance, self.step).max(0);
        let end = ceil_div(distance.saturating_add(self.range), self.step);
        let first = usize::try_from(first).unwrap_or(usize::MAX);
        let end = usize::try_from(end.max(0)).unwrap_or(usize::MAX).min(self.count);
        (first < end).then_some((first, end))
    }

    /// As [`Windows::holding`], and the last timestamp up to which the answer stays the same.
    pub(crate) fn holding_until(&self, ts: i64) -> (Option<(usize, usize)>, i64) {
        // The next windows begin, and the ones at hand end, one step on from where they did before.
        let until_step = |distance: i64| match distance.rem_euclid(self.step) {
            0 => 0,
            over => self.step - over,
        };
        let begins = ts
            .checked_add(self.offset)
            .and_then(|ts| ts.checked_sub(self.start));
        let ends = begins.and_then(|begins| begins.checked_add(self.range));
        let last = match (begins, ends) {
            (Some(begins), Some(ends)) => ts.saturating_add(until_step(begins).min(until_step(ends))),
            _ => ts,
        };
        (self.holding(ts), last)
    }

    /// What [`Windows::holding_until`] gives for a timestamp right behind those for which it gave `span`; `None`: ask it.
    pub(crate) fn next(
        &self,
        span: (usize, usize),
        last: i64,
        ts: i64,
    ) -> Option<(Option<(usize, usize)>, i64)> {
        let next_last = last.checked_add(self.step)?;
        // Both borders move at once where the range is so many whole steps.
        let in_step = self.range % self.step == 0 && self.range / self.step == (span.1 - span.0) as i64;
        let is_next = in_step && ts > last && ts <= next_last && span.1 < self.count;
        is_next.then_some((Some((span.0 + 1, span.1 + 1)), next_last))
    }

    /// Whether every timestamp lies in at most one window.
    pub(crate) fn are_disjoint(&self) -> bool {
        self.count == 1 || self.range <= self.step
    }
}

/// Division rounded up; `divisor` is positive.
fn ceil_div(value: i64, divisor: i64) -> i64 {
    let quotient = value.div_euclid(divisor);
    if value.rem_euclid(divisor) == 0 {
        quotient
    } else {
        quotient + 1
    }
}
