//! What a person sees of a push: warnings, progress, the summary. Counts; decides nothing.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;

const PLAIN_PROGRESS_EVERY: Duration = Duration::from_secs(5);
const REFUSALS_SHOWN: u64 = 20;

type Sink = Box<dyn Fn(&str) + Send + Sync>;

/// Counters and messages of one push, shared by all its threads.
pub struct Report {
    /// Bytes read from the inputs.
    pub bytes: AtomicU64,
    /// Lines read.
    pub lines: AtomicU64,
    /// Entries the service has acknowledged.
    pub stored: AtomicU64,
    /// Entries the service has refused.
    pub refused: AtomicU64,
    /// Entries that were read but given up.
    pub unsent: AtomicU64,
    /// Inputs that could not be read.
    pub unreadable: AtomicU64,
    /// Requests that were sent again.
    pub retries: AtomicU64,
    refusals: AtomicU64,
    started: Instant,
    last_progress: Mutex<Instant>,
    bar: Option<ProgressBar>,
    sink: Sink,
}

impl std::fmt::Debug for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Report")
            .field("lines", &self.lines)
            .field("stored", &self.stored)
            .finish_non_exhaustive()
    }
}

#[expect(clippy::print_stderr, reason = "messages to the person who typed the command")]
fn to_stderr(message: &str) {
    eprintln!("rankline push: {message}");
}

impl Report {
    /// Messages on stderr; with `total_bytes` also a progress bar there, when it is a terminal.
    pub fn on_stderr(total_bytes: Option<u64>) -> Self {
        let bar = total_bytes
            .filter(|_| std::io::stderr().is_terminal())
            .map(|total| {
                let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
                let template = "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {msg} {eta} left";
                bar.set_style(
                    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
                );
                bar
            });
        Self::new(bar, Box::new(to_stderr))
    }

    /// Messages go to `sink`.
    pub fn to(sink: Sink) -> Self {
        Self::new(None, sink)
    }

    fn new(bar: Option<ProgressBar>, sink: Sink) -> Self {
        Self {
            bytes: AtomicU64::new(0),
            lines: AtomicU64::new(0),
            stored: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            unsent: AtomicU64::new(0),
            unreadable: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            refusals: AtomicU64::new(0),
            started: Instant::now(),
            last_progress: Mutex::new(Instant::now()),
            bar,
            sink,
        }
    }

    /// Says something at once, above the progress bar if there is one.
    pub fn warn(&self, message: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| (self.sink)(message)),
            None => (self.sink)(message),
        }
    }

    /// Shows how far reading has come: the bar, or a line every few seconds.
    pub fn progress(&self, total_bytes: Option<u64>) {
        let stored = self.stored.load(Relaxed);
        if let Some(bar) = &self.bar {
            bar.set_position(self.bytes.load(Relaxed));
            bar.set_message(format!("{} records stored,", HumanCount(stored)));
            return;
        }
        let Some(total) = total_bytes else { return };
        let mut last = self.last_progress.lock();
        if last.elapsed() >= PLAIN_PROGRESS_EVERY {
            *last = Instant::now();
            let bytes = self.bytes.load(Relaxed);
            let share = bytes
                .saturating_mul(100)
                .checked_div(total)
                .unwrap_or(100)
                .min(100);
            (self.sink)(&format!(
                "{share}% of {} read, {} records stored",
                HumanBytes(total),
                HumanCount(stored)
            ));
        }
    }

    /// Names lines the service has refused; only the first refusals, all are counted.
    pub fn refused(&self, place: &str, count: u64, message: &str) {
        self.refused.fetch_add(count, Relaxed);
        let number = self.refusals.fetch_add(1, Relaxed);
        if number < REFUSALS_SHOWN {
            self.warn(&format!("{place}: refused: {message}"));
        } else if number == REFUSALS_SHOWN {
            self.warn("further refusals are counted, not shown");
        }
    }

    /// Whether every line read has been acknowledged.
    pub fn is_complete(&self) -> bool {
        [&self.refused, &self.unsent, &self.unreadable]
            .iter()
            .all(|counter| counter.load(Relaxed) == 0)
    }

    /// The last line: what became of everything.
    pub fn summary(&self) -> String {
        let count = |counter: &AtomicU64| HumanCount(counter.load(Relaxed)).to_string();
        let mut text = format!(
            "{} lines ({}) stored as {} records in {:.1} s",
            count(&self.lines),
            HumanBytes(self.bytes.load(Relaxed)),
            count(&self.stored),
            self.started.elapsed().as_secs_f64(),
        );
        for (counter, what) in [
            (&self.refused, "records refused"),
            (&self.unsent, "records not sent"),
            (&self.unreadable, "inputs not readable"),
            (&self.retries, "requests sent again"),
        ] {
            if counter.load(Relaxed) > 0 {
                text.push_str(&format!(", {} {what}", count(counter)));
            }
        }
        text
    }

    /// Takes the bar away and says the summary.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        (self.sink)(&self.summary());
    }
}
