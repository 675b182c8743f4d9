//! One merge: reads its inputs block by block on a thread of low priority, gives the bytes of the output. Writes
//! nothing to the store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rankline_logql::{EntryRef, Labels};
use rankline_segment::{
    Cursor, Finished, MergeError, MergeStats, SegmentError, SegmentWriter, WriterOptions,
};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::catalog::Segment;
use crate::deletes::{Deletion, Sieve};
use crate::storage::{Storage, StorageError};

/// How much the kernel prefers other threads: merging takes what requests leave.
const NICE: i32 = 10;

/// What to merge and how.
pub(super) struct Merge {
    pub(super) inputs: Vec<Arc<Segment>>,
    pub(super) options: WriterOptions,
    /// Pause after each block, as a share of the time the block took.
    pub(super) pause: f32,
    /// Whether the thread has a low priority.
    pub(super) gives_way: bool,
    /// Delete requests whose entries are left out.
    pub(super) without: Vec<Arc<Deletion>>,
}

/// Why a merge gave nothing. Its inputs are untouched.
#[derive(Debug, thiserror::Error)]
pub(super) enum MergeFailure {
    #[error("input {input} is corrupt: {source}")]
    Unreadable { input: usize, source: SegmentError },
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("could not write the output: {0}")]
    Write(SegmentError),
    #[error("the service is shutting down")]
    Stopped,
    #[error("could not run the merging thread: {0}")]
    Thread(String),
}

/// What the merging thread's reads and pauses can end with.
enum Interrupt {
    Storage(StorageError),
    Stopped,
}

impl Merge {
    /// Runs on a thread of its own, so that the service's blocking threads stay free and keep their priority.
    pub(super) async fn run(
        self,
        storage: Storage,
        stop: CancellationToken,
    ) -> Result<(MergeStats, Finished), MergeFailure> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let handle = Handle::current();
        let work = move || {
            if self.gives_way {
                lower_priority();
            }
            let _ = sender.send(self.merge(&storage, &stop, &handle));
        };
        let thread = std::thread::Builder::new().name("compaction".to_owned());
        thread
            .spawn(work)
            .map_err(|error| MergeFailure::Thread(error.to_string()))?;
        receiver
            .await
            .map_err(|_| MergeFailure::Thread("it panicked".to_owned()))?
    }

    fn merge(
        self,
        storage: &Storage,
        stop: &CancellationToken,
        handle: &Handle,
    ) -> Result<(MergeStats, Finished), MergeFailure> {
        let cursor = |segment: &Arc<Segment>| {
            let path = segment.path.clone();
            let cursor = Cursor::new(Arc::clone(&segment.footer), move |range| {
                if stop.is_cancelled() {
                    return Err(Interrupt::Stopped);
                }
                let read = handle.block_on(storage.read_once(&path, range));
                read.map(Vec::from).map_err(Interrupt::Storage)
            });
            match self.without.is_empty() {
                true => cursor,
                false => cursor.keeping(keeping(Arc::clone(segment), &self.without)),
            }
        };
        let mut writer = SegmentWriter::new(self.options);
        let mut since = Instant::now();
        let merged = rankline_segment::merge(self.inputs.iter().map(cursor).collect(), &mut writer, |_| {
            if stop.is_cancelled() {
                return Err(Interrupt::Stopped);
            }
            let pause = since.elapsed().mul_f32(self.pause).min(Duration::from_secs(1));
            // A pause that a shutdown cuts short.
            let _ = handle.block_on(async { tokio::time::timeout(pause, stop.cancelled()).await });
            since = Instant::now();
            Ok(())
        });
        let stats = merged.map_err(|error| match error {
            MergeError::Input { input, source } => MergeFailure::Unreadable { input, source },
            MergeError::Write(source) => MergeFailure::Write(source),
            MergeError::Fetch {
                source: Interrupt::Storage(source),
                ..
            }
            | MergeError::Output(Interrupt::Storage(source)) => MergeFailure::Storage(source),
            MergeError::Fetch {
                source: Interrupt::Stopped,
                ..
            }
            | MergeError::Output(Interrupt::Stopped) => MergeFailure::Stopped,
        })?;
        Ok((stats, writer.finish().map_err(MergeFailure::Write)?))
    }
}

/// Refuses the rows of a segment that any of the requests names.
fn keeping(
    segment: Arc<Segment>,
    without: &[Arc<Deletion>],
) -> impl FnMut(u32, i64, &str, &[(&str, &str)]) -> bool + use<> {
    let without = without.to_vec();
    let mut current: Option<(u32, Vec<Sieve>)> = None;
    move |stream, ts, line, metadata| {
        if current.as_ref().is_none_or(|(of, _)| *of != stream) {
            let labels = segment.streams.get(stream as usize).map(|stream| &stream.labels);
            let sieves = |labels: &Labels| {
                let naming = without.iter().filter(|deletion| deletion.selects(labels));
                naming.map(|deletion| deletion.sieve(labels)).collect()
            };
            current = Some((stream, labels.map(sieves).unwrap_or_default()));
        }
        let entry = EntryRef { ts, line, metadata };
        let sieves = current.as_mut().map(|(_, sieves)| sieves);
        !sieves.is_some_and(|sieves| sieves.iter_mut().any(|sieve| sieve.takes(&entry)))
    }
}

fn lower_priority() {
    // Linux takes this for the calling thread alone. Elsewhere it could slow the whole process down.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "compaction keeps its priority");
    }
}
