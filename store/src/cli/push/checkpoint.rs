//! Remembers how far followed files were read *and acknowledged*, so that a restart goes on there.
//!
//! A position counts once every batch up to the one that holds its last entry is delivered. After a crash a few
//! lines may be sent again, none is left out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use parking_lot::Mutex;

use super::follow::Position;
use super::report::Report;

const SAVE_EVERY: Duration = Duration::from_secs(1);

/// Which batches are delivered; told by the sender.
#[derive(Debug, Default)]
pub struct Delivered {
    /// All batches below this one.
    below: u64,
    /// And these.
    ahead: BTreeSet<u64>,
}

impl Delivered {
    /// Batch `number` is delivered.
    pub fn add(&mut self, number: u64) {
        self.ahead.insert(number);
        while self.ahead.remove(&self.below) {
            self.below += 1;
        }
    }
}

/// The positions, and the file they are kept in.
#[derive(Debug)]
pub struct Checkpoint {
    file: PathBuf,
    saved: BTreeMap<PathBuf, Position>,
    /// Positions that count when all batches below the number are delivered.
    waiting: VecDeque<(u64, PathBuf, Position)>,
    delivered: Arc<Mutex<Delivered>>,
    changed: bool,
    last_save: Instant,
    warned: bool,
}

impl Checkpoint {
    /// Reads `file` if it is there.
    ///
    /// # Errors
    /// The file can't be read or holds something else.
    pub fn load(file: &Path, delivered: Arc<Mutex<Delivered>>) -> anyhow::Result<Self> {
        let saved = match std::fs::read(file) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| {
                format!(
                    "{} is no checkpoint; delete it to read from the start",
                    file.display()
                )
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
        };
        Ok(Self {
            file: file.to_owned(),
            saved,
            waiting: VecDeque::new(),
            delivered,
            changed: false,
            last_save: Instant::now(),
            warned: false,
        })
    }

    /// Where reading `path` goes on.
    pub fn position(&self, path: &Path) -> Option<Position> {
        self.saved.get(path).copied()
    }

    /// Everything of `path` before `position` is in batches below `batches`.
    pub fn read_to(&mut self, path: &Path, position: Position, batches: u64) {
        if self.saved.get(path) == Some(&position)
            || self
                .waiting
                .iter()
                .rev()
                .find(|w| w.1 == path)
                .is_some_and(|w| w.2 == position)
        {
            return;
        }
        self.waiting.push_back((batches, path.to_owned(), position));
    }

    /// Saves what counts by now, about once a second.
    pub fn save_if_due(&mut self, report: &Report) {
        if self.last_save.elapsed() >= SAVE_EVERY {
            self.save(report);
        }
    }

    /// Saves what counts by now.
    pub fn save(&mut self, report: &Report) {
        self.last_save = Instant::now();
        let below = self.delivered.lock().below;
        while let Some((batches, path, position)) = self.waiting.pop_front() {
            if batches > below {
                self.waiting.push_front((batches, path, position));
                break;
            }
            self.saved.insert(path, position);
            self.changed = true;
        }
        if self.changed
            && let Err(error) = self.write()
            && !std::mem::replace(&mut self.warned, true)
        {
            report.warn(&format!(
                "cannot write the checkpoint {}: {error}",
                self.file.display()
            ));
        }
    }

    fn write(&mut self) -> std::io::Result<()> {
        let mut draft = self.file.clone().into_os_string();
        draft.push(".tmp");
        std::fs::write(&draft, serde_json::to_vec(&self.saved)?)?;
        std::fs::rename(&draft, &self.file)?;
        self.changed = false;
        Ok(())
    }
}
