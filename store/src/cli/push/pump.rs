//! Reads the inputs and feeds them to their sources: files one after another, a pipe as it flows, files that are
//! followed. Runs on a thread of its own, where it may block.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::batch::{Batcher, Stopped};
use super::checkpoint::Checkpoint;
use super::follow::{Poll, Tail};
use super::record::Entry;
use super::report::Report;
use super::send::Sender;
use super::source::{Source, SourceOptions, display_name};
use crate::clock::now_ns;

const CHUNK_BYTES: usize = 256 * 1024;
/// A followed file is looked at this often; with the batch's wait it bounds how late a line is.
const POLL_EVERY: Duration = Duration::from_millis(100);
const TICK_EVERY: Duration = Duration::from_millis(100);
/// Chunks of a pipe that wait for the filter.
const PIPE_CHUNKS: usize = 16;
/// How long a pipe is read on after the first signal: its writer got the signal too, and its last words count.
const PIPE_GRACE: Duration = Duration::from_secs(10);

/// How urgently the command should end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Not at all.
    No,
    /// Stop reading files, read a pipe to its end if that comes soon, send everything.
    Finish,
    /// Stop reading, send what is there if that goes quickly.
    Hurry,
    /// Now.
    Now,
}

/// Where a pipe's bytes go as well.
pub type Tee = Box<dyn Write + Send>;

/// Everything the reading thread needs.
pub struct Pump {
    /// How sources are read.
    pub options: SourceOptions,
    /// Takes the entries.
    pub batcher: Batcher,
    /// Counters and messages.
    pub report: Arc<Report>,
    /// Told when the service will never take anything.
    pub sender: Arc<Sender>,
    /// Names of the sources by number.
    pub names: Arc<Mutex<Vec<Arc<str>>>>,
    /// How urgently to end.
    pub stop: watch::Receiver<Stop>,
    /// All inputs' size, for progress.
    pub total_bytes: Option<u64>,
    /// Positions of followed files that survive a restart.
    pub checkpoint: Option<Checkpoint>,
}

impl Pump {
    fn stopping(&self) -> Stop {
        *self.stop.borrow()
    }

    /// Waits, but not once the command should end.
    fn rest(&mut self, time: Duration) {
        let waiting = tokio::time::timeout(time, self.stop.changed());
        // A change and a closed channel end the wait too; the caller looks at the state next.
        let _ = tokio::runtime::Handle::current().block_on(waiting);
    }

    fn new_source(&self, path: Option<&Path>, live: bool) -> Source {
        let mut names = self.names.lock();
        let id = u32::try_from(names.len()).unwrap_or(u32::MAX);
        names.push(display_name(path));
        Source::new(id, path, live, &self.options)
    }

    fn hand_over(&mut self, entries: &mut Vec<Entry>) -> Result<(), Stopped> {
        if self.sender.is_hopeless() {
            self.report.unsent.fetch_add(entries.len() as u64, Relaxed);
            entries.clear();
            return Ok(());
        }
        self.batcher.extend(entries.drain(..))
    }

    fn feed(&mut self, source: &mut Source, bytes: &[u8], entries: &mut Vec<Entry>) -> Result<(), Stopped> {
        let before = source.lines();
        source.feed(bytes, now_ns(), entries);
        self.count(source, before, bytes.len());
        self.hand_over(entries)
    }

    fn finish(&mut self, source: &mut Source, entries: &mut Vec<Entry>) -> Result<(), Stopped> {
        let before = source.lines();
        source.finish(now_ns(), entries);
        self.count(source, before, 0);
        self.hand_over(entries)
    }

    fn count(&self, source: &Source, lines_before: u64, bytes: usize) {
        self.report
            .lines
            .fetch_add(source.lines() - lines_before, Relaxed);
        self.report.bytes.fetch_add(bytes as u64, Relaxed);
        self.report.progress(self.total_bytes);
    }

    fn unreadable(&self, path: &Path, error: &io::Error) {
        self.report.unreadable.fetch_add(1, Relaxed);
        self.report.warn(&format!("{}: {error}", path.display()));
    }

    /// Reads files to their ends, one after another.
    ///
    /// # Errors
    /// Sending has stopped.
    pub fn run_files(&mut self, paths: &[PathBuf]) -> Result<(), Stopped> {
        for path in paths {
            if self.stopping() > Stop::No || self.sender.is_hopeless() {
                let left = format!("{} and what follows are not read", path.display());
                self.report.unreadable.fetch_add(1, Relaxed);
                self.report.warn(&left);
                break;
            }
            match open(path) {
                Ok(Opened::File(mut file)) => self.run_file(path, &mut file)?,
                Ok(Opened::Pipe(file)) => {
                    let source = self.new_source(Some(path), true);
                    self.run_pipe(source, Box::new(file), None)?;
                }
                Err(error) => self.unreadable(path, &error),
            }
        }
        self.batcher.close()
    }

    fn run_file(&mut self, path: &Path, file: &mut dyn Read) -> Result<(), Stopped> {
        let mut source = self.new_source(Some(path), false);
        let (mut buffer, mut entries) = (vec![0; CHUNK_BYTES], Vec::new());
        let mut first = true;
        while self.stopping() < Stop::Hurry && !self.sender.is_hopeless() {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => {
                    if std::mem::take(&mut first) {
                        source.seed_clock(&buffer[..read], now_ns());
                    }
                    self.feed(&mut source, &buffer[..read], &mut entries)?;
                    self.batcher.tick()?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.unreadable(path, &error);
                    break;
                }
            }
        }
        self.finish(&mut source, &mut entries)
    }

    /// Reads a pipe until its end, with `tee` echoing it; lines leave as they come.
    ///
    /// # Errors
    /// Sending has stopped.
    pub fn run_stdin(&mut self, input: Box<dyn Read + Send>, tee: Option<Tee>) -> Result<(), Stopped> {
        let source = self.new_source(None, true);
        self.run_pipe(source, input, tee)
    }

    fn run_pipe(
        &mut self,
        mut source: Source,
        input: Box<dyn Read + Send>,
        tee: Option<Tee>,
    ) -> Result<(), Stopped> {
        let (sender, chunks) = sync_channel(PIPE_CHUNKS);
        let report = Arc::clone(&self.report);
        // Detached on purpose: a blocked read can't be interrupted, the end of the process ends it.
        std::thread::spawn(move || read_pipe(input, tee, &sender, &report));
        let (mut entries, mut deadline, mut ticked) = (Vec::new(), None, Instant::now());
        loop {
            match self.stopping() {
                Stop::No => {}
                Stop::Finish => {
                    let deadline = *deadline.get_or_insert_with(|| {
                        self.report
                            .warn("finishing: reading goes on until the pipe ends, 10 s at most");
                        Instant::now() + PIPE_GRACE
                    });
                    if Instant::now() > deadline {
                        break;
                    }
                }
                Stop::Hurry | Stop::Now => break,
            }
            match chunks.recv_timeout(TICK_EVERY) {
                Ok(bytes) => self.feed(&mut source, &bytes, &mut entries)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if ticked.elapsed() >= TICK_EVERY {
                ticked = Instant::now();
                source.tick(now_ns(), &mut entries);
                self.hand_over(&mut entries)?;
            }
            self.batcher.tick()?;
        }
        self.finish(&mut source, &mut entries)?;
        self.batcher.close()
    }

    /// Follows files until the command is stopped.
    ///
    /// # Errors
    /// Sending has stopped.
    pub fn run_follow(&mut self, paths: &[PathBuf]) -> Result<(), Stopped> {
        let mut followed: Vec<(Tail, Source, bool)> = paths
            .iter()
            .map(|path| {
                let position = self.checkpoint.as_ref().and_then(|c| c.position(path));
                (
                    Tail::new(path, position),
                    self.new_source(Some(path), false),
                    false,
                )
            })
            .collect();
        let (mut buffer, mut entries) = (vec![0; CHUNK_BYTES], Vec::new());
        while self.stopping() == Stop::No && !self.sender.is_hopeless() {
            let started = Instant::now();
            let mut idle = true;
            for (tail, source, failed) in &mut followed {
                idle &= !self.follow_one(tail, source, failed, &mut buffer, &mut entries)?;
                source.tick(now_ns(), &mut entries);
                self.hand_over(&mut entries)?;
                if let Some(checkpoint) = &mut self.checkpoint
                    && source.is_settled()
                    && let Some(position) = tail.position()
                {
                    let complete = if self.batcher.is_empty() { 0 } else { 1 };
                    checkpoint.read_to(tail.path(), position, self.batcher.next_number() + complete);
                }
            }
            self.batcher.tick()?;
            if let Some(checkpoint) = &mut self.checkpoint {
                checkpoint.save_if_due(&self.report);
            }
            if idle {
                self.rest(POLL_EVERY.saturating_sub(started.elapsed()));
            }
        }
        for (_, source, _) in &mut followed {
            self.finish(source, &mut entries)?;
        }
        self.batcher.close()
    }

    /// One look at one file; true when there was something.
    fn follow_one(
        &mut self,
        tail: &mut Tail,
        source: &mut Source,
        failed: &mut bool,
        buffer: &mut [u8],
        entries: &mut Vec<Entry>,
    ) -> Result<bool, Stopped> {
        let at_start = tail.position().is_none_or(|p| p.offset == 0);
        match tail.poll(buffer) {
            Ok(Poll::Bytes(read)) => {
                if at_start && source.lines() == 0 {
                    source.seed_clock(&buffer[..read], now_ns());
                }
                self.feed(source, &buffer[..read], entries)?;
                *failed = false;
                // Less than asked for: the end is reached, from here on lines are read as they are written.
                source.set_live(read < buffer.len());
                Ok(true)
            }
            Ok(Poll::Rotated) => self.finish(source, entries).map(|()| true),
            Ok(Poll::Idle) => Ok(false),
            Err(error) => {
                if !std::mem::replace(failed, true) {
                    self.report
                        .warn(&format!("{}: {error}; still trying", tail.path().display()));
                }
                Ok(false)
            }
        }
    }
}

fn read_pipe(
    mut input: Box<dyn Read + Send>,
    mut tee: Option<Tee>,
    chunks: &SyncSender<Vec<u8>>,
    report: &Report,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = match input.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                report.unreadable.fetch_add(1, Relaxed);
                return report.warn(&format!("reading the pipe: {error}"));
            }
        };
        let bytes = &buffer[..read];
        if let Some(writer) = &mut tee
            && writer.write_all(bytes).and_then(|()| writer.flush()).is_err()
        {
            // Whoever looked has gone; the records still count.
            tee = None;
        }
        if chunks.send(bytes.to_vec()).is_err() {
            return;
        }
    }
}

enum Opened {
    File(Box<dyn Read>),
    Pipe(File),
}

fn open(path: &Path) -> io::Result<Opened> {
    let mut file = File::open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Err(io::Error::other("is a folder"));
    }
    if kind.is_fifo() || kind.is_char_device() || kind.is_socket() {
        return Ok(Opened::Pipe(file));
    }
    let mut magic = [0; 2];
    let read = file.read(&mut magic)?;
    io::Seek::rewind(&mut file)?;
    if magic[..read] == [0x1f, 0x8b] {
        return Ok(Opened::File(Box::new(flate2::read::MultiGzDecoder::new(
            BufReader::new(file),
        ))));
    }
    Ok(Opened::File(Box::new(file)))
}

/// The files `paths` stand for: themselves, and for folders the files in them, in order of their names.
///
/// # Errors
/// A folder that can't be listed.
pub fn expand(paths: &[PathBuf]) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let mut inside: Vec<PathBuf> = std::fs::read_dir(path)?
                .map(|entry| entry.map(|e| e.path()))
                .collect::<io::Result<Vec<_>>>()?
                .into_iter()
                .filter(|p| {
                    !p.file_name()
                        .is_some_and(|n| n.to_string_lossy().starts_with('.'))
                })
                .filter(|p| !p.is_symlink() || !p.is_dir())
                .collect();
            inside.sort();
            files.extend(expand(&inside)?);
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}
