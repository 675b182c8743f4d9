//! Results of metric queries for people and for programs.

use std::fmt::Write as _;
use std::io::{self, Write};

use super::answer::{Answer, Labels, Page, Series};
use super::print::Style;
use super::{Notes, Output};
use crate::cli::push::record::render_labels;

const BAR_CHARS: usize = 30;
const SPARK_CHARS: usize = 40;
const SPARKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Prints a metric result.
///
/// # Errors
/// The output can't be written.
pub fn print(page: &Page, style: &Style, out: &mut impl Write, notes: &Notes) -> io::Result<()> {
    let (Answer::Matrix(series) | Answer::Vector(series)) = &page.answer else {
        return Ok(());
    };
    let mut text = String::new();
    match style.output {
        Output::Raw => each_point(series, |labels, ts, value| {
            let _ = writeln!(
                text,
                "{}\t{value}\t{}",
                style.full_time(ts),
                render_labels(labels)
            );
        }),
        Output::Jsonl => each_point(series, |labels, ts, value| {
            let object = serde_json::json!({ "ts": ts.to_string(), "labels": labels, "value": value });
            let _ = writeln!(text, "{object}");
        }),
        Output::Default => for_people(&page.answer, series, style, notes, &mut text),
    }
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn each_point(series: &[Series], mut take: impl FnMut(&Labels, i64, &str)) {
    for one in series {
        one.points
            .iter()
            .for_each(|(ts, value)| take(&one.labels, *ts, value));
    }
}

fn for_people(answer: &Answer, series: &[Series], style: &Style, notes: &Notes, text: &mut String) {
    if series.is_empty() {
        return;
    }
    let (common, differing) = split_labels(series);
    if !common.is_empty() && series.len() > 1 {
        notes.say(&render_labels(&common));
    }
    match (answer, series) {
        (Answer::Matrix(_), [only]) => {
            notes.say(&render_labels(&only.labels));
            over_time(only, style, text);
        }
        (Answer::Matrix(_), _) => side_by_side(series, &differing, text),
        _ => values(series, &differing, text),
    }
}

/// Labels all series have, and each one's others.
fn split_labels(series: &[Series]) -> (Labels, Vec<String>) {
    let mut common = series.first().map(|s| s.labels.clone()).unwrap_or_default();
    if series.len() > 1 {
        common.retain(|name, value| series.iter().all(|s| s.labels.get(name) == Some(value)));
    } else {
        common.clear();
    }
    let differing = series
        .iter()
        .map(|s| {
            let own = s.labels.iter().filter(|(name, _)| !common.contains_key(*name));
            let own: Vec<String> = own.map(|(name, value)| format!("{name}={value}")).collect();
            if own.is_empty() {
                "{}".to_owned()
            } else {
                own.join(" ")
            }
        })
        .collect();
    (common, differing)
}

/// One series: a row for each time, with a bar.
fn over_time(series: &Series, style: &Style, text: &mut String) {
    let numbers: Vec<f64> = series.points.iter().map(|(_, value)| number(value)).collect();
    let highest = numbers
        .iter()
        .copied()
        .filter(|n| n.is_finite())
        .fold(0.0, f64::max);
    let width = series
        .points
        .iter()
        .map(|(_, value)| value.len())
        .max()
        .unwrap_or(0);
    for ((ts, value), number) in series.points.iter().zip(&numbers) {
        let bar = bar(*number, highest);
        let _ = writeln!(
            text,
            "{}",
            format!("{}  {value:>width$}  {bar}", style.full_time(*ts)).trim_end()
        );
    }
}

fn bar(number: f64, highest: f64) -> String {
    if !number.is_finite() || number <= 0.0 || highest <= 0.0 {
        return String::new();
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "0 to 30"
    )]
    let chars = (number / highest * BAR_CHARS as f64).ceil() as usize;
    "█".repeat(chars.min(BAR_CHARS))
}

/// Several series: a row for each, with its course in small.
fn side_by_side(series: &[Series], names: &[String], text: &mut String) {
    let rows: Vec<[String; 6]> = series
        .iter()
        .zip(names)
        .map(|(one, name)| {
            let numbers: Vec<f64> = one.points.iter().map(|(_, value)| number(value)).collect();
            let finite: Vec<f64> = numbers.iter().copied().filter(|n| n.is_finite()).collect();
            #[expect(clippy::cast_precision_loss, reason = "a mean for people")]
            let mean = finite.iter().sum::<f64>() / finite.len() as f64;
            let least = finite.iter().copied().reduce(f64::min);
            let most = finite.iter().copied().reduce(f64::max);
            let last = one
                .points
                .last()
                .map(|(_, value)| value.clone())
                .unwrap_or_default();
            let shown = |n: Option<f64>| n.map_or_else(|| "-".to_owned(), short);
            let mean = (!finite.is_empty()).then_some(mean);
            [
                name.clone(),
                shown(least),
                shown(mean),
                shown(most),
                short(number(&last)),
                spark(&numbers),
            ]
        })
        .collect();
    let head = ["series", "min", "mean", "max", "last", "over time"].map(str::to_owned);
    columns(&[&[head][..], &rows].concat(), text);
}

/// Values at one time, with bars.
fn values(series: &[Series], names: &[String], text: &mut String) {
    let value = |s: &Series| {
        s.points
            .first()
            .map(|(_, value)| value.clone())
            .unwrap_or_default()
    };
    if let [only] = series
        && only.labels.is_empty()
    {
        let _ = writeln!(text, "{}", value(only));
        return;
    }
    let highest = series
        .iter()
        .map(|s| number(&value(s)))
        .filter(|n| n.is_finite())
        .fold(0.0, f64::max);
    let rows: Vec<[String; 3]> = series
        .iter()
        .zip(names)
        .map(|(s, name)| [name.clone(), value(s), bar(number(&value(s)), highest)])
        .collect();
    columns(&rows, text);
}

/// The first and the last column to the left, numbers to the right.
fn columns<const N: usize>(rows: &[[String; N]], text: &mut String) {
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    for row in rows {
        let cells = row.iter().enumerate().map(|(i, cell)| {
            if i == 0 || i == N - 1 {
                format!("{cell:<0$}", widths[i])
            } else {
                format!("{cell:>0$}", widths[i])
            }
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        let _ = writeln!(text, "{}", line.trim_end());
    }
}

fn number(value: &str) -> f64 {
    value.parse().unwrap_or(f64::NAN)
}

fn short(number: f64) -> String {
    if number.fract() == 0.0 || !number.is_finite() {
        number.to_string()
    } else {
        format!("{number:.3}")
    }
}

/// A course in at most 40 characters; neighbours are joined by their mean.
fn spark(numbers: &[f64]) -> String {
    let finite = || numbers.iter().copied().filter(|n| n.is_finite());
    let (low, high) = (
        finite().fold(f64::INFINITY, f64::min).min(0.0),
        finite().fold(f64::NEG_INFINITY, f64::max),
    );
    let size = numbers.len().div_ceil(SPARK_CHARS).max(1);
    let character = |chunk: &[f64]| {
        let known: Vec<f64> = chunk.iter().copied().filter(|n| n.is_finite()).collect();
        if known.is_empty() || high <= low {
            return if known.is_empty() { ' ' } else { SPARKS[0] };
        }
        #[expect(clippy::cast_precision_loss, reason = "a picture")]
        let mean = known.iter().sum::<f64>() / known.len() as f64;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 7")]
        let step = ((mean - low) / (high - low) * 7.0).round() as usize;
        SPARKS[step.min(7)]
    };
    numbers.chunks(size).map(character).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(labels: &[(&str, &str)], values: &[&str]) -> Series {
        let labels = labels
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect();
        let points = values
            .iter()
            .zip(0..)
            .map(|(v, i)| (i * 60_000_000_000, (*v).to_owned()))
            .collect();
        Series { labels, points }
    }

    fn text(answer: Answer) -> String {
        let (Answer::Matrix(inner) | Answer::Vector(inner)) = answer.clone() else {
            return String::new();
        };
        let style = Style {
            output: Output::Default,
            color: false,
            safe: true,
            show: Vec::new(),
            zone: jiff::tz::TimeZone::UTC,
        };
        let mut text = String::new();
        for_people(&answer, &inner, &style, &Notes::to(|_| ()), &mut text);
        text
    }

    #[test]
    fn one_series_is_a_table_over_time() {
        let table = text(Answer::Matrix(vec![series(&[], &["1", "10", "NaN"])]));
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[0], "1970-01-01 00:00:00.000    1  ███");
        assert!(lines[1].ends_with(&"█".repeat(30)));
        assert_eq!(lines[2], "1970-01-01 00:02:00.000  NaN");
    }

    #[test]
    fn several_series_are_rows() {
        let table = text(Answer::Matrix(vec![
            series(&[("job", "x"), ("rank", "0")], &["1", "2", "4.5"]),
            series(&[("job", "x"), ("rank", "10")], &["7"]),
        ]));
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(
            lines[0].split_whitespace().collect::<Vec<_>>(),
            ["series", "min", "mean", "max", "last", "over", "time"]
        );
        assert_eq!(
            lines[1].split_whitespace().take(5).collect::<Vec<_>>(),
            ["rank=0", "1", "2.500", "4.500", "4.500"]
        );
        assert!(lines[2].starts_with("rank=10 "), "{table}");
    }

    #[test]
    fn values_at_one_time() {
        assert_eq!(text(Answer::Vector(vec![series(&[], &["42"])])), "42\n");
        let table = text(Answer::Vector(vec![
            series(&[("rank", "0")], &["1"]),
            series(&[("rank", "1")], &["30"]),
        ]));
        assert!(table.starts_with("rank=0   1  █\nrank=1  30  ██"), "{table}");
    }

    #[test]
    fn courses_are_short() {
        let numbers: Vec<f64> = (0..1000).map(f64::from).collect();
        let course = spark(&numbers);
        assert!(
            course.chars().count() <= SPARK_CHARS && course.starts_with('▁') && course.ends_with('█'),
            "{course}"
        );
        assert_eq!(spark(&[]), "");
        assert_eq!(spark(&[f64::NAN, 1.0]), " █");
    }
}
