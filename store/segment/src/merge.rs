//! Many segments to one: k-way merge in bounded memory, exact duplicates dropped. Knows nothing of where inputs are
//! kept: a cursor asks its caller for byte ranges.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashSet},
    hash::{BuildHasher, RandomState},
    ops::Range,
    sync::Arc,
};

use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::{
    BlockMeta, ColumnKind, ColumnMeta, Lines, MetadataColumn, Part, SegmentError, SegmentFooter,
    SegmentWriter, StreamRun,
    encode::Line,
    template::{SplitCursor, SplitLines},
};

/// Structured metadata of a row that needs no allocation.
const FEW_PAIRS: usize = 8;

/// Reads a byte range of one segment object.
type Fetch<'a, E> = Box<dyn FnMut(Range<u64>) -> Result<Vec<u8>, E> + 'a>;

/// Whether to keep a row: the number of its stream in the footer, its time, line and structured metadata.
type Keep<'a> = Box<dyn FnMut(u32, i64, &str, &[(&str, &str)]) -> bool + 'a>;

/// One segment as an input of [`merge`]: its rows in order, fetched block by block.
pub struct Cursor<'a, E> {
    footer: Arc<SegmentFooter>,
    fetch: Fetch<'a, E>,
    keep: Option<Keep<'a>>,
    next_block: usize,
    block: Option<Rows>,
}

/// A decoded block and how far it is read.
struct Rows {
    runs: Vec<StreamRun>,
    timestamps: Vec<i64>,
    /// The lines of a block that has them as one text.
    plain: Lines,
    /// Those of a block of templates.
    split: Option<SplitCursor>,
    metadata: Vec<Metadata>,
    run: usize,
    row: usize,
}

/// A block's values of one name, and where the last one was found.
struct Metadata {
    name: Box<str>,
    column: MetadataColumn,
    run: usize,
}

/// Why a cursor can't go on.
enum CursorError<E> {
    Segment(SegmentError),
    Fetch(E),
}

impl<E> From<SegmentError> for CursorError<E> {
    fn from(error: SegmentError) -> Self {
        CursorError::Segment(error)
    }
}

impl<'a, E> Cursor<'a, E> {
    /// `fetch` gives a byte range of the object; it is asked once for each block, in order.
    pub fn new(footer: Arc<SegmentFooter>, fetch: impl FnMut(Range<u64>) -> Result<Vec<u8>, E> + 'a) -> Self {
        Cursor {
            footer,
            fetch: Box::new(fetch),
            keep: None,
            next_block: 0,
            block: None,
        }
    }

    /// Leaves out the rows that `keep` refuses. It gets the number of the row's stream in the footer, the row's
    /// timestamp, line and structured metadata.
    #[must_use]
    pub fn keeping(mut self, keep: impl FnMut(u32, i64, &str, &[(&str, &str)]) -> bool + 'a) -> Self {
        self.keep = Some(Box::new(keep));
        self
    }

    /// The timestamp of the next row if it is one of `stream`; reads the next block when needed. Streams must be
    /// asked for in order, each until there is no more.
    fn next_ts(&mut self, stream: u32) -> Result<Option<i64>, CursorError<E>> {
        loop {
            if let Some(rows) = &self.block {
                match rows.runs.get(rows.run) {
                    Some(run) if run.stream == stream => return Ok(rows.timestamps.get(rows.row).copied()),
                    Some(_) => return Ok(None),
                    None => self.block = None,
                }
            }
            let Some(meta) = self.footer.blocks.get(self.next_block) else {
                return Ok(None);
            };
            if meta.first_stream > stream {
                return Ok(None);
            }
            let bytes = (self.fetch)(meta.range()).map_err(CursorError::Fetch)?;
            self.block = Some(Rows::decode(meta, &bytes)?);
            self.next_block += 1;
        }
    }
}

impl Rows {
    fn decode(meta: &BlockMeta, bytes: &[u8]) -> Result<Self, SegmentError> {
        let start = meta.range().start;
        let slice = |column: &ColumnMeta| {
            let from = usize::try_from(column.offset - start).unwrap_or(usize::MAX);
            bytes
                .get(from..)
                .and_then(|rest| rest.get(..column.len as usize))
                .ok_or_else(|| {
                    let part = Part::Column {
                        block: meta.index,
                        kind: column.kind.clone(),
                    };
                    SegmentError::corrupt(part, format!("lies beyond the {} bytes at hand", bytes.len()))
                })
        };
        let of_kind = |kind| {
            let column = meta.column(&kind).ok_or_else(|| {
                SegmentError::corrupt(Part::Block(meta.index), format!("has no {kind} column"))
            })?;
            slice(column)
        };
        let runs = meta.decode_streams(of_kind(ColumnKind::Streams)?)?;
        let timestamps = meta.decode_timestamps(of_kind(ColumnKind::Timestamps)?)?;
        let (plain, split) = if meta.has_templates() {
            let lines = SplitLines::decode(meta, |kind| of_kind(kind.clone()))?;
            (Lines::new(String::new(), vec![0]), Some(SplitCursor::new(lines)))
        } else {
            let lengths = of_kind(ColumnKind::LineLengths)?;
            (meta.decode_lines(lengths, of_kind(ColumnKind::LineText)?)?, None)
        };
        let metadata = meta
            .metadata_columns()
            .map(|(name, column)| {
                Ok(Metadata {
                    name: name.into(),
                    column: meta.decode_metadata(column, slice(column)?)?,
                    run: 0,
                })
            })
            .collect::<Result<_, SegmentError>>()?;
        let ordered = runs.iter().all(|run| {
            let rows = run.first_row as usize..(run.first_row + run.rows) as usize;
            timestamps.get(rows).is_some_and(<[i64]>::is_sorted)
        });
        if !ordered {
            let reason = "timestamps of a stream aren't ascending";
            return Err(SegmentError::corrupt(Part::Block(meta.index), reason));
        }
        Ok(Rows {
            runs,
            timestamps,
            plain,
            split,
            metadata,
            run: 0,
            row: 0,
        })
    }

    /// Whether the row after the next can be one of the same stream and of this time, as far as the block shows.
    fn may_go_on_at(&self, ts: i64) -> bool {
        let Some(run) = self.runs.get(self.run) else {
            return true;
        };
        let after = self.row + 1;
        match after < (run.first_row + run.rows) as usize {
            true => self.timestamps.get(after) == Some(&ts),
            // The last stream of a block may go on in the next one.
            false => self.run + 1 == self.runs.len(),
        }
    }

    fn advance(&mut self) {
        self.row += 1;
        if let Some(lines) = &mut self.split {
            lines.advance();
        }
        if let Some(run) = self.runs.get(self.run)
            && self.row >= (run.first_row + run.rows) as usize
        {
            self.run += 1;
        }
    }
}

/// What a merge did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MergeStats {
    /// Rows written.
    pub rows: u64,
    /// Exact duplicates left out.
    pub duplicates: u64,
    /// Rows that a cursor's own condition left out.
    pub removed: u64,
}

/// Why a merge stopped.
#[derive(Debug, thiserror::Error)]
pub enum MergeError<E> {
    /// An input's bytes are corrupt.
    #[error("input {input}: {source}")]
    Input {
        /// Index of the cursor.
        input: usize,
        /// What is wrong with it.
        source: SegmentError,
    },
    /// An input couldn't be fetched.
    #[error("input {input}: {source}")]
    Fetch {
        /// Index of the cursor.
        input: usize,
        /// The fetcher's own error.
        source: E,
    },
    /// The output passed a limit of the format.
    #[error("output: {0}")]
    Write(SegmentError),
    /// `on_block` failed.
    #[error("output: {0}")]
    Output(E),
}

/// Writes the rows of all `inputs` to `writer`: by stream, then timestamp, then order of the inputs, then row. Rows
/// equal in stream, timestamp, line and metadata are written once. `on_block` is called whenever the writer has
/// finished at least one more block, so that its bytes can be drained. Memory: one decoded block an input.
///
/// # Errors
/// On the first input or output that fails; the writer is then of no further use.
pub fn merge<E>(
    inputs: Vec<Cursor<'_, E>>,
    writer: &mut SegmentWriter,
    on_block: impl FnMut(&mut SegmentWriter) -> Result<(), E>,
) -> Result<MergeStats, MergeError<E>> {
    let footers: Vec<_> = inputs.iter().map(|input| Arc::clone(&input.footer)).collect();
    let mut merge = Merge {
        blocks: writer.blocks(),
        inputs,
        writer,
        on_block,
        seen: Seen::new(),
        line: Vec::new(),
        stats: MergeStats::default(),
    };
    // (labels, input, stream): all inputs' next streams. What pops in a row with equal labels is one stream.
    let mut heads: BinaryHeap<_> = footers
        .iter()
        .enumerate()
        .filter_map(|(input, footer)| Some(Reverse((&footer.streams.first()?.labels, input, 0u32))))
        .collect();
    let mut parts: Vec<(usize, u32)> = Vec::new();
    while let Some(Reverse((labels, input, stream))) = heads.pop() {
        parts.push((input, stream));
        if let Some(next) = footers[input].streams.get(stream as usize + 1) {
            heads.push(Reverse((&next.labels, input, stream + 1)));
        }
        if heads.peek().is_none_or(|Reverse((next, ..))| *next != labels) {
            let pairs: Vec<(&str, &str)> = labels.iter().collect();
            merge.writer.begin_stream(&pairs).map_err(MergeError::Write)?;
            // A stream that keeps no row leaves no trace in the output.
            merge.stream(&parts)?;
            parts.clear();
        }
    }
    Ok(merge.stats)
}

struct Merge<'w, 'a, E, F> {
    inputs: Vec<Cursor<'a, E>>,
    writer: &'w mut SegmentWriter,
    on_block: F,
    /// Blocks of the writer that `on_block` knows of.
    blocks: usize,
    seen: Seen,
    /// The line at hand, where it had to be put together.
    line: Vec<u8>,
    stats: MergeStats,
}

impl<E, F: FnMut(&mut SegmentWriter) -> Result<(), E>> Merge<'_, '_, E, F> {
    /// Writes one stream; `parts` are the inputs that have it, in order, and its number there.
    fn stream(&mut self, parts: &[(usize, u32)]) -> Result<(), MergeError<E>> {
        self.seen.clear();
        let mut read = vec![0u64; parts.len()];
        let mut heads = BinaryHeap::with_capacity(parts.len());
        for (part, &(input, stream)) in parts.iter().enumerate() {
            if let Some(ts) = self.next_ts(input, stream)? {
                heads.push(Reverse((ts, part)));
            }
        }
        while let Some(Reverse((mut ts, part))) = heads.pop() {
            let (input, stream) = parts[part];
            // Rows of one input mostly follow each other: stay with it while it is ahead of the others.
            loop {
                let others = heads.peek().map(|Reverse((ts, _))| *ts);
                self.row(input, stream, ts, others)?;
                read[part] += 1;
                let Some(next) = self.next_ts(input, stream)? else {
                    break;
                };
                ts = next;
                if heads.peek().is_some_and(|Reverse(other)| *other < (ts, part)) {
                    heads.push(Reverse((ts, part)));
                    break;
                }
            }
        }
        for (&(input, stream), rows) in parts.iter().zip(read) {
            self.check_rows(input, stream, rows)?;
        }
        Ok(())
    }

    /// A footer that disagrees with its blocks must not lose rows silently.
    fn check_rows(&self, input: usize, stream: u32, rows: u64) -> Result<(), MergeError<E>> {
        let declared = self.inputs[input]
            .footer
            .streams
            .get(stream as usize)
            .map_or(0, |stream| stream.rows);
        if declared == rows {
            return Ok(());
        }
        let reason = format!("stream {stream} has {rows} rows, {declared} are declared");
        Err(MergeError::Input {
            input,
            source: SegmentError::corrupt(Part::Footer, reason),
        })
    }

    fn next_ts(&mut self, input: usize, stream: u32) -> Result<Option<i64>, MergeError<E>> {
        self.inputs[input].next_ts(stream).map_err(|error| match error {
            CursorError::Segment(source) => MergeError::Input { input, source },
            CursorError::Fetch(source) => MergeError::Fetch { input, source },
        })
    }

    /// Writes the row that `next_ts` found, unless it was written before. `others` is the earliest timestamp of the
    /// stream's rows of other inputs.
    fn row(&mut self, input: usize, stream: u32, ts: i64, others: Option<i64>) -> Result<(), MergeError<E>> {
        let Cursor { block, keep, .. } = &mut self.inputs[input];
        let Some(rows) = block else {
            return Ok(());
        };
        // Only rows of one time can be equal, and few lines have to be put together to be compared.
        let may_repeat = self.seen.is_at(ts) || others == Some(ts) || rows.may_go_on_at(ts);
        let goes_split = rows
            .split
            .as_ref()
            .is_some_and(|lines| self.writer.splits() && lines.next_is_split());
        self.line.clear();
        let line = match &rows.split {
            None => rows.plain.get(rows.row),
            Some(_) if goes_split && !may_repeat && keep.is_none() => "",
            Some(lines) => {
                lines.put_next(&mut self.line);
                std::str::from_utf8(&self.line).map_err(|error| MergeError::Input {
                    input,
                    source: SegmentError::corrupt(Part::Footer, format!("row {}: {error}", rows.row)),
                })?
            }
        };
        let row = rows.row;
        let mut pairs = rows
            .metadata
            .iter_mut()
            .filter_map(|of| Some((&*of.name, of.column.next(row, &mut of.run)?)));
        // An allocation for each row would cost more than the rest of this function.
        let (mut few, mut many) = ([("", ""); FEW_PAIRS], Vec::new());
        let mut count = 0;
        for (slot, pair) in few.iter_mut().zip(&mut pairs) {
            *slot = pair;
            count += 1;
        }
        let mut metadata = few.get(..count).unwrap_or_default();
        if let Some(next) = (count == FEW_PAIRS).then(|| pairs.next()).flatten() {
            many.extend(metadata.iter().copied().chain([next]).chain(pairs));
            metadata = &many;
        }
        if keep
            .as_mut()
            .is_some_and(|keep| !keep(stream, ts, line, metadata))
        {
            self.stats.removed += 1;
        } else if !may_repeat || self.seen.insert(ts, line, metadata) {
            let line = match &mut rows.split {
                Some(lines) if goes_split => Line::Split(lines),
                _ => Line::Whole(line.as_bytes()),
            };
            let written = self.writer.push_line(ts, line, metadata);
            written.map_err(MergeError::Write)?;
            self.stats.rows += 1;
        } else {
            self.stats.duplicates += 1;
        }
        rows.advance();
        if self.writer.blocks() > self.blocks {
            self.blocks = self.writer.blocks();
            (self.on_block)(self.writer).map_err(MergeError::Output)?;
        }
        Ok(())
    }
}

/// The rows of one stream and timestamp that were written, as 128-bit hashes under a seed of this process: whoever
/// chooses lines can't choose two that collide, and by chance none do. Sixteen bytes a row of equal time.
struct Seen {
    seed: u64,
    ts: i64,
    first: Option<u128>,
    more: HashSet<u128>,
    scratch: Vec<u8>,
}

impl Seen {
    fn new() -> Self {
        Seen {
            seed: RandomState::new().hash_one(0),
            ts: 0,
            first: None,
            more: HashSet::new(),
            scratch: Vec::new(),
        }
    }

    fn clear(&mut self) {
        self.first = None;
        if !self.more.is_empty() {
            self.more = HashSet::new();
        }
    }

    /// Whether a row of this time was written.
    fn is_at(&self, ts: i64) -> bool {
        self.first.is_some() && self.ts == ts
    }

    /// Whether the row is new.
    fn insert(&mut self, ts: i64, line: &str, metadata: &[(&str, &str)]) -> bool {
        let hash = self.hash(line, metadata);
        if self.first.is_none() || self.ts != ts {
            self.clear();
            self.ts = ts;
            self.first = Some(hash);
            return true;
        }
        self.first != Some(hash) && self.more.insert(hash)
    }

    fn hash(&mut self, line: &str, metadata: &[(&str, &str)]) -> u128 {
        if metadata.is_empty() {
            return xxh3_128_with_seed(line.as_bytes(), self.seed);
        }
        self.scratch.clear();
        self.scratch.extend_from_slice(line.as_bytes());
        for text in metadata.iter().flat_map(|&(name, value)| [name, value]) {
            self.scratch.extend_from_slice(text.as_bytes());
            // Lengths keep apart what would read the same one after another.
            self.scratch.extend_from_slice(&(text.len() as u64).to_le_bytes());
        }
        xxh3_128_with_seed(&self.scratch, self.seed)
    }
}
