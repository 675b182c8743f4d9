//! Decoded columns of the blocks that queries looked at lately, in bounded memory.
//!
//! Segments never change, so nothing here can be out of date. A block's columns are decoded when a query needs them,
//! once, for all that come later; templates and variables even later, each when something looks at it.
//!
//! A block is kept in two parts: what nearly every query looks at (streams, timestamps, templates), and what was decoded
//! of its lines, which is more and seldom asked for. So the one is not thrown out for the other.

use super::block::{Encoded, Needs};
use parking_lot::RwLock;
use rankline_segment::{BlockMeta, BlockText, ColumnKind, MetadataColumn, SegmentError, StreamRun};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use ulid::Ulid;

/// What a block may grow by before it is weighed again: an eighth and so many bytes.
const UNWEIGHED: usize = 4 << 10;

/// Eighths of the memory that are for what nearly every query looks at.
const BASE_EIGHTHS: u64 = 5;

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
    head: OnceLock<Arc<Head>>,
    text: OnceLock<BlockText>,
    lengths: OnceLock<Vec<u32>>,
    metadata: RwLock<Vec<(Box<str>, Arc<MetadataColumn>)>>,
    /// Heap bytes of both parts when they were last put into the cache.
    weighed: [AtomicUsize; 2],
}

impl HotBlock {
    /// Whether the bytes of a column that `needs` asks for have to be read.
    pub(super) fn lacks(&self, kind: &ColumnKind, needs: &Needs) -> bool {
        match kind {
            ColumnKind::Streams | ColumnKind::Timestamps => self.head.get().is_none(),
            ColumnKind::LineLengths if !needs.lines => self.lengths.get().is_none(),
            ColumnKind::Metadata(name) => self.metadata(name).is_none(),
            kind => match self.text.get() {
                None => true,
                Some(BlockText::Plain(_)) => false,
                Some(BlockText::Templates(lines)) => !lines.has(kind),
            },
        }
    }

    /// Streams and timestamps.
    pub(super) fn head(&self, meta: &BlockMeta, encoded: &Encoded) -> Result<&Head, SegmentError> {
        let head = get_or_try(&self.head, || {
            Ok(Arc::new(Head {
                runs: meta.decode_streams(encoded.column(&ColumnKind::Streams))?,
                ts: Arc::new(meta.decode_timestamps(encoded.column(&ColumnKind::Timestamps))?),
            }))
        });
        head.map(|head| &**head)
    }

    /// Decodes what `needs` asks for and isn't here yet.
    pub(super) fn load(
        &self,
        meta: &BlockMeta,
        encoded: &Encoded,
        needs: &Needs,
    ) -> Result<(), SegmentError> {
        if needs.templates && meta.has_templates() {
            let text = get_or_try(&self.text, || {
                let templates = meta.decode_templates(encoded.column(&ColumnKind::Templates))?;
                Ok(BlockText::Templates(Box::new(templates)))
            })?;
            if let BlockText::Templates(lines) = text {
                let columns = encoded.columns().iter();
                columns.for_each(|(column, bytes)| lines.supply(&column.kind, bytes));
            }
        } else if needs.lines {
            get_or_try(&self.text, || meta.decode_text(|kind| encoded.column(kind)))?;
        }
        if needs.lengths && !needs.lines {
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

    /// The part that nearly every query looks at, shared with this one.
    fn base(&self) -> Self {
        let base = Self::default();
        if let Some(head) = self.head.get() {
            let _ = base.head.set(Arc::clone(head));
        }
        if let Some(BlockText::Templates(lines)) = self.text.get() {
            let _ = base.text.set(BlockText::Templates(Box::new(lines.bare())));
        }
        base.metadata.write().clone_from(&self.metadata.read());
        let [weighed, _] = &self.weighed;
        base.weighed[0].store(weighed.load(Ordering::Relaxed), Ordering::Relaxed);
        base
    }

    /// Heap bytes of both parts.
    fn heap_bytes(&self) -> [usize; 2] {
        let head = self.head.get().map_or(0, |head| {
            head.runs.len() * size_of::<StreamRun>() + head.ts.len() * 8
        });
        let [base, decoded] = match self.text.get() {
            None => [0, 0],
            Some(BlockText::Plain(lines)) => [0, lines.text().len() + lines.offsets().len() * 4],
            Some(BlockText::Templates(lines)) => [lines.base_bytes(), lines.decoded_bytes()],
        };
        let lengths = self.lengths.get().map_or(0, |lengths| lengths.len() * 4);
        let metadata = self.metadata.read();
        let metadata = metadata
            .iter()
            .map(|(name, values)| name.len() + values.heap_bytes());
        let base = size_of::<Self>() + head + base + metadata.sum::<usize>();
        [base, decoded + lengths]
    }
}

/// Names a block: its segment, and its place there.
pub(super) type BlockKey = (Ulid, usize);

/// A part of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    Base = 0,
    Decoded = 1,
}

type Parts = moka::sync::Cache<BlockKey, Arc<HotBlock>>;

/// The blocks that are kept.
#[derive(Debug, Clone)]
pub(super) struct HotBlocks {
    base: Parts,
    decoded: Parts,
}

impl HotBlocks {
    /// At most `bytes`, about; 0 keeps nothing.
    pub(super) fn new(bytes: u64) -> Self {
        let parts = |kept: Kept, bytes: u64| {
            let weight = move |_: &BlockKey, block: &Arc<HotBlock>| {
                u32::try_from(block.weighed[kept as usize].load(Ordering::Relaxed)).unwrap_or(u32::MAX)
            };
            Parts::builder().weigher(weight).max_capacity(bytes).build()
        };
        let base = bytes / 8 * BASE_EIGHTHS;
        Self {
            base: parts(Kept::Base, base),
            decoded: parts(Kept::Decoded, bytes - base),
        }
    }

    fn parts(&self, kept: Kept) -> &Parts {
        match kept {
            Kept::Base => &self.base,
            Kept::Decoded => &self.decoded,
        }
    }

    /// The block as far as it is decoded.
    pub(super) fn get(&self, key: &BlockKey) -> Arc<HotBlock> {
        // Both are asked, so that each knows which blocks are looked at most.
        let base = self.base.get(key);
        let decoded = self.decoded.get(key);
        decoded
            .or_else(|| Some(Arc::new(base?.base())))
            .unwrap_or_default()
    }

    /// Keeps a block that a query is done with; what was decoded of it meanwhile counts.
    pub(super) fn keep(&self, key: BlockKey, block: &Arc<HotBlock>) {
        let bytes = block.heap_bytes();
        for (kept, bytes) in [Kept::Base, Kept::Decoded].into_iter().zip(bytes) {
            let (parts, weighed) = (self.parts(kept), &block.weighed[kept as usize]);
            let before = weighed.load(Ordering::Relaxed);
            let known = before != 0 && bytes <= before + before / 8 + UNWEIGHED && parts.contains_key(&key);
            if known || bytes == 0 {
                continue;
            }
            weighed.store(bytes, Ordering::Relaxed);
            let part = match kept {
                Kept::Base => Arc::new(block.base()),
                Kept::Decoded => Arc::clone(block),
            };
            parts.insert(key, part);
            // At once: left to itself, the cache lets dozens of blocks in before it throws some out.
            parts.run_pending_tasks();
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
