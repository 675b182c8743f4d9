//! `rankline push`: files or a pipe → filter → batches → the service.
//!
//! This module owns the options and puts the parts together: [`pump`] reads, [`source`] makes entries of bytes,
//! [`batch`] bounds memory, [`send`] delivers.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use jiff::tz::TimeZone;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::client::{Client, ServerArgs};
use batch::{BatchLimits, Batcher};
use checkpoint::{Checkpoint, Delivered};
use clock::Timestamps;
use pump::{Pump, Stop, Tee};
use report::Report;
use send::Sender;
use source::{Input, SourceOptions};

pub mod batch;
pub mod checkpoint;
pub mod clock;
pub mod cri;
pub mod follow;
pub mod lines;
pub mod pump;
pub mod record;
pub mod report;
pub mod send;
pub mod source;
pub mod stamp;
#[cfg(test)]
mod tests;

/// Their bytes are bounded by the buffer; this bounds how many tiny ones there are.
const QUEUED_BATCHES: usize = 256;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// After a signal the service gets this long to take what was read.
const FINISH_WITHIN: Duration = Duration::from_secs(30);
const HURRY_WITHIN: Duration = Duration::from_secs(5);

const EXAMPLES: &str = "\
Examples:
  # Watch a run and keep its log, labelled by rank
  srun --label python train.py 2>&1 | rankline push - --tee --label job=llama

  # Files of a run that is over; times come from the lines
  rankline push slurm-1234.out logs/rank_*.log --label job=llama

  # All containers of this node, through rotation, going on where it stopped
  rankline push --follow --checkpoint /var/lib/rankline/push.json /var/log/containers/*.log

  # Records of the filter
  rankline filter --wasm rank_filter.wasm < records.jsonl | rankline push - --label job=llama

Labels: `app`, `job`, `namespace`, `pod`, `container`, `node`, `rank` and `stream` are stream labels when they are
known, other fields the filter finds (`level`, `exception`, `step` …) are structured metadata, as is `filename`.
Without --label the job is named after the file.

Signals: on Ctrl-C or SIGTERM files are left, a pipe is read to its end (10 s at most), and everything read is sent.
A second signal hurries, a third ends at once.

Exit code: 0 when the service has acknowledged every line, 1 when it hasn't.";

/// Options of `rankline push`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct PushArgs {
    /// Files, folders, *.gz, or `-` for stdin
    #[arg(required = true, value_name = "FILE", value_hint = clap::ValueHint::AnyPath)]
    pub files: Vec<PathBuf>,
    /// A stream label for everything that is sent; may be repeated
    #[arg(long = "label", short = 'l', value_name = "NAME=VALUE", value_parser = parse_label)]
    pub labels: Vec<(String, String)>,
    /// Keep reading as the files grow, through rotation
    #[arg(long, short = 'f')]
    pub follow: bool,
    /// Send the lines as they are: merge nothing, label nothing
    #[arg(long)]
    pub raw: bool,
    /// Echo stdin to stdout
    #[arg(long)]
    pub tee: bool,
    /// Where and as whom.
    #[command(flatten)]
    pub server: ServerArgs,
    /// Configuration of the filter
    #[arg(long, value_name = "rank_filter.toml", value_hint = clap::ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// What the lines are
    #[arg(long, value_enum, default_value_t = Input::Auto)]
    pub input: Input,
    /// Where the timestamps of text lines come from
    #[arg(long, value_enum, default_value_t = Timestamps::Line)]
    pub timestamps: Timestamps,
    /// Zone of times in lines that name none: `local`, `UTC`, `Europe/Paris`
    #[arg(long, value_name = "ZONE", default_value = "local", value_parser = parse_zone)]
    pub timezone: TimeZone,
    /// With --follow: remember in this file how far everything was read
    #[arg(long, value_name = "FILE", requires = "follow", value_hint = clap::ValueHint::FilePath)]
    pub checkpoint: Option<PathBuf>,
    /// A request is sent at this size, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 1024 * 1024, value_parser = parse_bytes_at_least_1)]
    pub batch_bytes: usize,
    /// A request is sent this long after its first line, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 300)]
    pub batch_wait_ms: u64,
    /// Requests under way at once
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub parallel: usize,
    /// Lines read but not acknowledged take at most this much memory; then reading waits
    #[arg(long, value_name = "BYTES", default_value_t = 64 * 1024 * 1024, value_parser = parse_bytes_at_least_1)]
    pub buffer_bytes: usize,
    /// Longer lines are cut into pieces of this size (the service refuses longer ones)
    #[arg(long, value_name = "BYTES", default_value_t = 256 * 1024, value_parser = parse_bytes_at_least_1)]
    pub max_line_bytes: usize,
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    let mut chars = name.chars();
    let starts_well = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if !starts_well || !chars.all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(format!(
            "`{name}` is no label name: letters, digits and `_`, no digit first"
        ));
    }
    if value.is_empty() {
        return Err(format!("label `{name}` has no value"));
    }
    Ok((name.to_owned(), value.to_owned()))
}

fn parse_zone(text: &str) -> Result<TimeZone, String> {
    match text {
        "local" => Ok(TimeZone::system()),
        name => TimeZone::get(name).map_err(|_| format!("unknown time zone `{name}`")),
    }
}

fn parse_bytes_at_least_1(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a number of bytes above 0".to_owned()),
        Ok(bytes) => Ok(bytes),
    }
}

/// What the command's surroundings are: the process's own, or a test's.
pub struct Surroundings {
    /// What `-` reads.
    pub stdin: Box<dyn Read + Send>,
    /// What `--tee` writes.
    pub stdout: Tee,
    /// How urgently to end.
    pub stop: watch::Receiver<Stop>,
    /// Messages and counters.
    pub report: Arc<Report>,
}

/// Runs `rankline push`.
///
/// # Errors
/// What keeps the command from starting; refused and unreadable lines are reported and make the exit code 1.
pub async fn run(args: PushArgs) -> anyhow::Result<ExitCode> {
    let files = files_to_read(&args)?;
    let report = Arc::new(Report::on_stderr(total_bytes(&args, &files)));
    let (stopper, stop) = watch::channel(Stop::No);
    tokio::spawn(listen_for_signals(stopper));
    let surroundings = Surroundings {
        stdin: Box::new(std::io::stdin()),
        stdout: Box::new(std::io::stdout()),
        stop,
        report: Arc::clone(&report),
    };
    let complete = push(args, files, surroundings).await?;
    report.finish();
    Ok(if complete {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Reads, sends, and waits until everything is acknowledged; true when it is.
///
/// # Errors
/// What keeps the command from starting.
pub async fn push(args: PushArgs, files: Vec<PathBuf>, around: Surroundings) -> anyhow::Result<bool> {
    let report = around.report;
    let options = source_options(&args, &report)?;
    let client = Client::new(&args.server, REQUEST_TIMEOUT)?;
    let abort = CancellationToken::new();
    let names = Arc::new(Mutex::new(Vec::new()));
    let sender = Sender::new(client, Arc::clone(&report), abort.clone(), Arc::clone(&names));
    let delivered = Arc::new(Mutex::new(Delivered::default()));
    let checkpoint = args
        .checkpoint
        .as_deref()
        .map(|file| Checkpoint::load(file, Arc::clone(&delivered)))
        .transpose()?;
    let (batches, queue) = mpsc::channel(QUEUED_BATCHES);
    let limits = BatchLimits {
        bytes: args.batch_bytes,
        wait: Duration::from_millis(args.batch_wait_ms),
        buffer_bytes: args.buffer_bytes,
    };
    let handle = tokio::runtime::Handle::current();
    let mut pump = Pump {
        options,
        batcher: Batcher::new(limits, batches, handle, Arc::clone(&report)),
        report: Arc::clone(&report),
        sender: Arc::clone(&sender),
        names,
        stop: around.stop.clone(),
        total_bytes: total_bytes(&args, &files),
        checkpoint,
    };
    let (stdin, tee) = (around.stdin, args.tee.then_some(around.stdout));
    let (from_stdin, follow) = (is_stdin(&files), args.follow);
    let reading = tokio::task::spawn_blocking(move || {
        // An error means that sending was given up, which the counters say.
        let _ = match (from_stdin, follow) {
            (true, _) => pump.run_stdin(stdin, tee),
            (false, true) => pump.run_follow(&files),
            (false, false) => pump.run_files(&files),
        };
        pump.checkpoint
    });
    let sending = sender.run(queue, args.parallel, move |number| delivered.lock().add(number));
    let guard = tokio::spawn(abort_when_late(around.stop, abort));
    let ((), checkpoint) = tokio::join!(sending, reading);
    guard.abort();
    if let Some(mut checkpoint) = checkpoint.context("the reading thread failed")? {
        checkpoint.save(&report);
    }
    Ok(report.is_complete())
}

fn is_stdin(files: &[PathBuf]) -> bool {
    files.len() == 1 && files[0] == Path::new("-")
}

fn files_to_read(args: &PushArgs) -> anyhow::Result<Vec<PathBuf>> {
    if is_stdin(&args.files) {
        return Ok(args.files.clone());
    }
    if args.files.iter().any(|file| file == Path::new("-")) {
        anyhow::bail!("`-` can't stand beside files");
    }
    if args.tee {
        anyhow::bail!("--tee echoes stdin, so it needs `-`");
    }
    let files = pump::expand(&args.files).context("cannot list a folder")?;
    if files.is_empty() {
        anyhow::bail!("no files in {}", args.files[0].display());
    }
    Ok(files)
}

/// Known only where the end of the input is known.
fn total_bytes(args: &PushArgs, files: &[PathBuf]) -> Option<u64> {
    if args.follow || is_stdin(files) {
        return None;
    }
    files
        .iter()
        .map(|file| {
            std::fs::metadata(file)
                .ok()
                .filter(std::fs::Metadata::is_file)
                .map(|m| m.len())
        })
        .sum()
}

fn source_options(args: &PushArgs, report: &Report) -> anyhow::Result<SourceOptions> {
    let filter = match (&args.config, args.raw) {
        (_, true) => None,
        (None, false) => Some(rank_filter::Config::default()),
        (Some(path), false) => {
            let text =
                std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            let (config, problems) = rank_filter::Config::parse(&text);
            problems
                .iter()
                .for_each(|problem| report.warn(&problem.to_string()));
            Some(config)
        }
    };
    Ok(SourceOptions {
        input: args.input,
        labels: args.labels.clone(),
        filter,
        max_line_bytes: args.max_line_bytes,
        timestamps: args.timestamps,
        zone: args.timezone.clone(),
    })
}

async fn listen_for_signals(stopper: watch::Sender<Stop>) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        // Without signals nothing ever ends early; dropping the channel would look like news all the time.
        return std::future::pending().await;
    };
    for stop in [Stop::Finish, Stop::Hurry, Stop::Now] {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stopper.send_replace(stop);
    }
    std::future::pending::<()>().await;
}

/// After a signal the service has only so long.
async fn abort_when_late(mut stop: watch::Receiver<Stop>, abort: CancellationToken) {
    loop {
        let patience = match *stop.borrow_and_update() {
            Stop::No => Duration::MAX,
            Stop::Finish => FINISH_WITHIN,
            Stop::Hurry => HURRY_WITHIN,
            Stop::Now => Duration::ZERO,
        };
        match tokio::time::timeout(patience, stop.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) if patience == Duration::MAX => std::future::pending().await,
            Ok(Err(_)) => tokio::time::sleep(patience).await,
            Err(_) => return abort.cancel(),
        }
    }
}
