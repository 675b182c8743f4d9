//! Values of range aggregations over the samples of one window.

use crate::syntax::ast::RangeOp;

/// The value of `op` over the samples of a window (bounds in ns), ascending by time and at least one.
pub(super) fn range_value(op: RangeOp, parameter: f64, window: (i64, i64), samples: &[(i64, f64)]) -> f64 {
    let range = seconds(window.1.saturating_sub(window.0));
    let values = || samples.iter().map(|(_, value)| *value);
    match op {
        RangeOp::SumOverTime => values().sum(),
        RangeOp::Rate => values().sum::<f64>() / range,
        RangeOp::AvgOverTime => mean(samples),
        RangeOp::MinOverTime | RangeOp::MaxOverTime => {
            let fold = |best, value| Some(super::accumulator::extreme(op, best, value));
            values().fold(None, fold).unwrap_or(f64::NAN)
        }
        RangeOp::StddevOverTime => variance(values()).sqrt(),
        RangeOp::StdvarOverTime => variance(values()),
        RangeOp::QuantileOverTime => quantile(parameter, values().collect()),
        RangeOp::FirstOverTime => values().next().unwrap_or(f64::NAN),
        RangeOp::LastOverTime => values().next_back().unwrap_or(f64::NAN),
        RangeOp::RateCounter => rate_counter(window, samples),
        // These count entries and keep no samples.
        RangeOp::CountOverTime | RangeOp::BytesOverTime | RangeOp::BytesRate | RangeOp::AbsentOverTime => {
            f64::NAN
        }
    }
}

/// The mean, kept up as a running one so that big sums do not overflow; infinities stay.
fn mean(samples: &[(i64, f64)]) -> f64 {
    let mut mean = 0.0;
    let mut count = 0.0;
    for (_, value) in samples {
        count += 1.0;
        if f64::is_infinite(mean) {
            if value.is_infinite() && (mean > 0.0) == (*value > 0.0) {
                continue;
            }
            if !value.is_infinite() && !value.is_nan() {
                continue;
            }
        }
        mean += value / count - mean / count;
    }
    mean
}

/// Population variance by Welford's method.
pub(super) fn variance(values: impl Iterator<Item = f64>) -> f64 {
    let (mut count, mut mean, mut squares) = (0.0, 0.0, 0.0);
    for value in values {
        count += 1.0;
        let delta = value - mean;
        mean += delta / count;
        squares += delta * (value - mean);
    }
    squares / count
}

/// Quantile with linear interpolation between the closest ranks.
fn quantile(q: f64, mut values: Vec<f64>) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    // NaN sorts first.
    values.sort_by(|a, b| b.is_nan().cmp(&a.is_nan()).then(a.total_cmp(b)));
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank"
    )]
    let (lower, weight) = {
        let rank = q * (values.len() - 1) as f64;
        (rank.floor() as usize, rank - rank.floor())
    };
    let at = |index: usize| {
        values
            .get(index.min(values.len() - 1))
            .copied()
            .unwrap_or(f64::NAN)
    };
    at(lower) * (1.0 - weight) + at(lower + 1) * weight
}

#[allow(clippy::cast_precision_loss, reason = "samples are floats")]
fn seconds(nanos: i64) -> f64 {
    nanos as f64 / 1e9
}

/// Increase for each second of a counter that may restart, extrapolated to the window's ends where samples come close
/// to them, else by half a gap; fewer than two samples give 0.
fn rate_counter((after, last_ts): (i64, i64), samples: &[(i64, f64)]) -> f64 {
    let (Some((start, first)), Some((end, last)), true) =
        (samples.first(), samples.last(), samples.len() > 1)
    else {
        return 0.0;
    };
    let mut increase = last - first;
    let mut previous = 0.0;
    for (_, value) in samples {
        if *value < previous {
            increase += previous;
        }
        previous = *value;
    }
    let sampled = seconds(end.saturating_sub(*start));
    #[allow(clippy::cast_precision_loss, reason = "a count of samples")]
    let gap = sampled / (samples.len() - 1) as f64;
    let reached = |distance: f64| if distance < gap * 1.1 { distance } else { gap / 2.0 };
    let mut to_start = reached(seconds(start.saturating_sub(after)));
    if increase > 0.0 && *first >= 0.0 {
        // A counter does not begin below zero.
        to_start = to_start.min(sampled * (first / increase));
    }
    let to_end = reached(seconds(last_ts.saturating_sub(*end)));
    let extended = sampled + to_start + to_end;
    increase * (extended / sampled) / seconds(last_ts.saturating_sub(after))
}
