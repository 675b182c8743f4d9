//! `rankline query`: a LogQL question, its answer for people or for programs.
//!
//! This module owns the options and chooses the way: [`fetch`] asks, [`mod@print`] and [`table`] show, [`tail`] follows.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::client::{Client, ClientError, ServerArgs};
use crate::clock::now_ns;
use answer::Answer;
use fetch::{Direction, Fetcher, LogRange};
use print::{LogPrinter, Style};

pub mod answer;
pub mod explain;
pub mod fetch;
pub mod print;
pub mod seen;
pub mod table;
pub mod tail;
#[cfg(test)]
mod tests;
pub mod time;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(330);

const EXAMPLES: &str = "\
Examples:
  # The newest lines with a word, over all ranks
  rankline query '{job=\"llama\"} |= \"loss\"'

  # One rank from its beginning
  rankline query '{job=\"llama\", rank=\"3\"}' --since 7d --forward --limit 1000

  # A whole run into a file
  rankline query '{job=\"llama\"}' --from 2026-01-02 --to 2026-01-03 --limit 0 --forward --output raw > run.log

  # Watch errors as they come
  rankline query '{job=\"llama\"} | level=\"error\"' --tail

  # Lines a minute and rank
  rankline query 'sum by (rank) (count_over_time({job=\"llama\"}[1m]))' --step 1m

Times: `now`, `-2h` (before now), `2026-01-02`, `2026-01-02T03:04:05` (local), RFC 3339, or seconds, milliseconds,
microseconds or nanoseconds since the epoch, told apart by their size.

Output: `default` is for people, `raw` prints lines only, `jsonl` prints {\"ts\", \"labels\", \"line\"} (for metric queries
{\"ts\", \"labels\", \"value\"}) with `ts` in nanoseconds since the epoch, as a string.

Exit code: 0 also when nothing is found, 1 when there is no complete answer.";

/// How an answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people: local time, rank, level colours, tables
    Default,
    /// The lines, nothing else
    Raw,
    /// A JSON object a line
    Jsonl,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// Options of `rankline query`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct QueryArgs {
    /// The question, in LogQL
    #[arg(value_name = "LOGQL")]
    pub query: String,
    /// Where and as whom.
    #[command(flatten)]
    pub server: ServerArgs,
    /// How far back from --to the question goes: `90s`, `1h30m`, `7d`
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = time::parse_duration)]
    pub since: i64,
    /// Begin of the time asked about, instead of --since
    #[arg(
        long,
        value_name = "TIME",
        allow_hyphen_values = true,
        conflicts_with = "since"
    )]
    pub from: Option<String>,
    /// End of the time asked about (exclusive for lines)
    #[arg(long, value_name = "TIME", default_value = "now", allow_hyphen_values = true)]
    pub to: String,
    /// How many lines at most; 0 for all
    #[arg(long, short = 'n', value_name = "N", default_value_t = 100)]
    pub limit: usize,
    /// Distance between a metric query's points: `30s`, `1m`
    #[arg(long, value_name = "DURATION", value_parser = time::parse_duration)]
    pub step: Option<i64>,
    /// Evaluate a metric query once, at --to
    #[arg(long, conflicts_with_all = ["step", "tail", "forward"])]
    pub instant: bool,
    /// Oldest lines first, from the begin on, instead of newest first
    #[arg(long)]
    pub forward: bool,
    /// Print the newest lines, then new ones as they come, until Ctrl-C
    #[arg(long, short = 't', conflicts_with = "to")]
    pub tail: bool,
    /// How the answer is printed
    #[arg(long, short = 'o', value_enum, default_value_t = Output::Default)]
    pub output: Output,
    /// Labels and fields to show with each line in the default output
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub show: Vec<String>,
    /// Colours in the default output
    #[arg(long, value_enum, default_value_t = Color::Auto)]
    pub color: Color,
    /// Say what answering took, on stderr: segments, blocks, lines, requests to the store, time
    #[arg(long)]
    pub explain: bool,
}

/// Runs `rankline query`.
///
/// # Errors
/// What keeps the answer from being complete.
pub async fn run(args: QueryArgs) -> anyhow::Result<ExitCode> {
    let stdout: Box<dyn Write + Send> = Box::new(std::io::stdout());
    let tty = std::io::stdout().is_terminal();
    query(args, stdout, Notes::stderr(), tty).await?;
    Ok(ExitCode::SUCCESS)
}

/// What is said beside the answer: on stderr, or collected by a test.
#[derive(Clone)]
pub struct Notes(std::sync::Arc<dyn Fn(&str) + Send + Sync>);

impl Notes {
    #[expect(clippy::print_stderr, reason = "remarks to the person who typed the command")]
    fn stderr() -> Self {
        Self(std::sync::Arc::new(|note| eprintln!("{note}")))
    }

    /// Notes go to `sink`.
    pub fn to(sink: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(std::sync::Arc::new(sink))
    }

    /// Says something.
    pub fn say(&self, note: &str) {
        (self.0)(note);
    }
}

/// Asks and prints to `out`; `tty` says whether a person looks at it.
///
/// # Errors
/// What keeps the answer from being complete.
pub async fn query(
    args: QueryArgs,
    out: Box<dyn Write + Send>,
    notes: Notes,
    tty: bool,
) -> anyhow::Result<()> {
    let client = Client::new(&args.server, REQUEST_TIMEOUT)?;
    let (start, end) = time_range(&args)?;
    let fetcher = Fetcher::new(client, args.query.clone(), args.explain);
    let style = Style {
        output: args.output,
        color: use_color(args.color, tty),
        safe: tty,
        show: args.show.clone(),
        zone: jiff::tz::TimeZone::system(),
    };
    let outcome = if args.tail {
        let printer = LogPrinter::new(style, out, notes.clone());
        let limit = if args.limit == 0 { usize::MAX } else { args.limit };
        tail::follow(&fetcher, start, limit, printer, &notes).await
    } else {
        ask(&args, &fetcher, (start, end), style, out, &notes).await
    };
    outcome.map_err(|error| with_caret(error, &args.query))
}

async fn ask(
    args: &QueryArgs,
    fetcher: &Fetcher,
    (start, end): (i64, i64),
    style: Style,
    mut out: Box<dyn Write + Send>,
    notes: &Notes,
) -> anyhow::Result<()> {
    if args.instant {
        let answer = fetcher.instant(end).await?;
        answer
            .warnings
            .iter()
            .for_each(|warning| notes.say(&format!("warning: {warning}")));
        table::print(&answer, &style, &mut out, notes)?;
        explain(args, &[answer.stats], notes);
        return Ok(());
    }
    let direction = if args.forward {
        Direction::Forward
    } else {
        Direction::Backward
    };
    let limit = if args.limit == 0 { usize::MAX } else { args.limit };
    let mut pages = fetcher.pages(
        LogRange {
            start,
            end,
            direction,
            limit,
        },
        args.step,
    );
    let mut printer = None;
    let mut stats = Vec::new();
    let mut found = 0;
    while let Some(page) = pages.next().await? {
        page.warnings
            .iter()
            .for_each(|warning| notes.say(&format!("warning: {warning}")));
        stats.push(page.stats.clone());
        match page.answer {
            Answer::Lines(rows) => {
                found += rows.len();
                let printer = match &mut printer {
                    Some(printer) => printer,
                    None => {
                        let out = std::mem::replace(&mut out, Box::new(std::io::sink()));
                        printer.insert(LogPrinter::new(style.clone(), out, notes.clone()))
                    }
                };
                printer.print(&rows)?;
            }
            _ => {
                found += page.answer.len();
                table::print(&page, &style, &mut out, notes)?;
            }
        }
    }
    if found == 0 {
        let span = format!("{} and {}", style.full_time(start), style.full_time(end));
        notes.say(&format!("nothing found between {span}"));
    }
    explain(args, &stats, notes);
    Ok(())
}

fn time_range(args: &QueryArgs) -> anyhow::Result<(i64, i64)> {
    let now = now_ns();
    let end = time::parse_time(&args.to, now).map_err(|why| anyhow::anyhow!("--to {}: {why}", args.to))?;
    let start = match &args.from {
        Some(from) => time::parse_time(from, now).map_err(|why| anyhow::anyhow!("--from {from}: {why}"))?,
        None => end.saturating_sub(args.since),
    };
    if start > end {
        anyhow::bail!("--from is after --to");
    }
    Ok((start, end))
}

fn use_color(color: Color, tty: bool) -> bool {
    match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => tty && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
    }
}

fn explain(args: &QueryArgs, stats: &[Value], notes: &Notes) {
    if args.explain {
        explain::text(stats).iter().for_each(|line| notes.say(line));
    }
}

/// Shows the place in the query that the service's message names.
fn with_caret(error: anyhow::Error, query: &str) -> anyhow::Error {
    let Some(ClientError::Status { message, .. }) = error.downcast_ref() else {
        return error;
    };
    match caret(message, query) {
        Some(place) => anyhow::anyhow!("{message}\n{place}"),
        None => error,
    }
}

fn caret(message: &str, query: &str) -> Option<String> {
    let after = message.split_once("at line ")?.1;
    let (line, after) = after.split_once(", col ")?;
    let digits = after.bytes().take_while(u8::is_ascii_digit).count();
    let column: usize = after[..digits].parse().ok()?;
    let text = query.lines().nth(line.parse::<usize>().ok()?.checked_sub(1)?)?;
    let before: String = text
        .chars()
        .take(column.checked_sub(1)?)
        .map(|c| if c == '\t' { '\t' } else { ' ' })
        .collect();
    Some(format!("  {text}\n  {before}^"))
}
