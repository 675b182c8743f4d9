//! Decoded columns of the blocks that queries looked at lately, in bounded memory.
//!
//! Segments never change, so nothing here can be out of date. A block's columns are decoded when a query needs them,
//! once, for all that come later; templates and variables even later, each when something looks at it.

use super::block::{Encoded, Needs};
use parking_lot::RwLock;
use rankline_segment::{BlockMeta, BlockText, ColumnKind, MetadataColumn, SegmentError, StreamRun};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use ulid::Ulid;

/// What a block may grow by before it is weighed again, bytes.
const UNWEIGHED: usize = 64 << 10;

/// Streams and timestamps of a block.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) runs: Vec<StreamRun>,
    /// ns since the epoch, of each row.
    pub(super) ts: Arc<Vec<i64>>,
}

/// The columns of one block that have been decoded.
#[derive(Debug, Default)]
pub(super) struct HotBlock {
    head: OnceLock<Head>,
    text: OnceLock<BlockText>,
    lengths: OnceLock<Vec<u32>>,
    metadata: RwLock<Vec<(Box<str>, Arc<MetadataColumn>)>>,
    /// Heap bytes when it was last put into the cache.
    weighed: AtomicUsize,
}

impl HotBlock {
    /// Whether the bytes of a column that `needs` asks for have to be read.
    pub(super) fn lacks(&self, kind: &ColumnKind, needs: &Needs) -> bool {
        match kind {
            ColumnKind::Streams | ColumnKind::Timestamps => self.head.get().is_none(),
            ColumnKind::LineLengths if !needs.lines => self.lengths.get().is_none(),
            ColumnKind::Metadata(name) => self.metadata(name).is_none(),
            _ => self.text.get().is_none(),
        }
    }

    /// Streams and timestamps.
    pub(super) fn head(&self, meta: &BlockMeta, encoded: &Encoded) -> Result<&Head, SegmentError> {
        get_or_try(&self.head, || {
            Ok(Head {
                runs: meta.decode_streams(encoded.column(&ColumnKind::Streams))?,
                ts: Arc::new(meta.decode_timestamps(encoded.column(&ColumnKind::Timestamps))?),
            })
        })
    }

    /// Decodes what `needs` asks for and isn't here yet.
    pub(super) fn load(
        &self,
        meta: &BlockMeta,
        encoded: &Encoded,
        needs: &Needs,
    ) -> Result<(), SegmentError> {
        if needs.lines {
            get_or_try(&self.text, || meta.decode_text(|kind| encoded.column(kind)))?;
        } else if needs.lengths {
            let lengths = encoded.column(&ColumnKind::LineLengths);
            get_or_try(&self.lengths, || meta.decode_line_lengths(lengths))?;
        }
        for (column, bytes) in encoded.columns() {
            if let ColumnKind::Metadata(name) = &column.kind
                && self.metadata(name).is_none()
            {
                let values = Arc::new(meta.decode_metadata(column, bytes)?);
                self.metadata.write().push((name.clone(), values));
            }
        }
        Ok(())
    }

    pub(super) fn text(&self) -> Option<&BlockText> {
        self.text.get()
    }

    pub(super) fn lengths(&self) -> Option<&[u32]> {
        self.lengths.get().map(Vec::as_slice)
    }

    pub(super) fn metadata(&self, name: &str) -> Option<Arc<MetadataColumn>> {
        let columns = self.metadata.read();
        let column = columns.iter().find(|(known, _)| **known == *name);
        column.map(|(_, values)| Arc::clone(values))
    }

    fn heap_bytes(&self) -> usize {
        let head = self.head.get().map_or(0, |head| {
            head.runs.len() * size_of::<StreamRun>() + head.ts.len() * 8
        });
        let text = self.text.get().map_or(0, BlockText::heap_bytes);
        let lengths = self.lengths.get().map_or(0, |lengths| lengths.len() * 4);
        let metadata = self.metadata.read();
        let metadata = metadata
            .iter()
            .map(|(name, values)| name.len() + values.heap_bytes());
        size_of::<Self>() + head + text + lengths + metadata.sum::<usize>()
    }
}

/// Names a block: its segment, and its place there.
pub(super) type BlockKey = (Ulid, usize);

/// The blocks that are kept.
#[derive(Debug, Clone)]
pub(super) struct HotBlocks(moka::sync::Cache<BlockKey, Arc<HotBlock>>);

impl HotBlocks {
    /// At most `bytes`, about; 0 keeps nothing.
    pub(super) fn new(bytes: u64) -> Self {
        let weight = |_: &BlockKey, block: &Arc<HotBlock>| {
            u32::try_from(block.weighed.load(Ordering::Relaxed)).unwrap_or(u32::MAX)
        };
        let cache = moka::sync::Cache::builder().weigher(weight).max_capacity(bytes);
        Self(cache.build())
    }

    /// The block as far as it is decoded.
    pub(super) fn get(&self, key: &BlockKey) -> Arc<HotBlock> {
        self.0.get(key).unwrap_or_default()
    }

    /// Keeps a block that a query is done with; what was decoded of it meanwhile counts.
    pub(super) fn keep(&self, key: BlockKey, block: &Arc<HotBlock>) {
        let bytes = block.heap_bytes();
        let before = block.weighed.load(Ordering::Relaxed);
        if before == 0 || bytes > before + UNWEIGHED || !self.0.contains_key(&key) {
            block.weighed.store(bytes, Ordering::Relaxed);
            self.0.insert(key, Arc::clone(block));
            // At once: left to itself, the cache lets dozens of blocks in before it throws some out.
            self.0.run_pending_tasks();
        }
    }
}

/// `OnceLock::get_or_try_init`, which isn't stable.
fn get_or_try<T>(
    cell: &OnceLock<T>,
    make: impl FnOnce() -> Result<T, SegmentError>,
) -> Result<&T, SegmentError> {
    if let Some(value) = cell.get() {
        return Ok(value);
    }
    let value = make()?;
    Ok(cell.get_or_init(|| value))
}
