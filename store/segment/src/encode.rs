//! Rows of one block to column bytes. Knows nothing of what the streams are.

use std::collections::HashMap;

use xxhash_rust::xxh3::xxh3_64;

use crate::{
    BlockMeta, ColumnKind, ColumnMeta, Part, SegmentError,
    compress::Zstd,
    ints::{put_frames, put_varints},
    template::{self, Split, SplitCursor, Splitter, TemplateColumns, Vocabulary},
    wire::{put_varint, ts_delta},
};

/// Top bit of an encoding byte: the payload is a zstd frame.
pub(crate) const COMPRESSED: u8 = 0x80;
/// Integers as varints; also the only layout of the streams column, and of the text.
pub(crate) const LAYOUT_VARINTS: u8 = 0;
/// Integers as frames of 128.
pub(crate) const LAYOUT_FRAMES: u8 = 1;
/// Metadata ids as (rows, id) runs.
pub(crate) const LAYOUT_RUNS: u8 = 0;
/// Metadata ids of fixed width.
pub(crate) const LAYOUT_DENSE: u8 = 1;

/// A line on its way into a block.
#[derive(Debug)]
pub(crate) enum Line<'a> {
    /// Its bytes.
    Whole(&'a [u8]),
    /// The next line of a block of templates, one of [`Vocabulary::Numbers`].
    Split(&'a mut SplitCursor),
}

impl Line<'_> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Line::Whole(line) => line.len(),
            Line::Split(lines) => lines.next_len(),
        }
    }
}

/// The rows of the block being filled.
#[derive(Debug, Default)]
pub(crate) struct BlockBuilder {
    index: u32,
    first_stream: u32,
    last_stream: u32,
    run_rows: Vec<u32>,
    timestamps: Vec<i64>,
    lengths: Vec<u64>,
    line_bytes: u64,
    /// The lines but for those that came split.
    text: Vec<u8>,
    /// Where each row ends in the text.
    ends: Vec<u32>,
    /// Where lines are to be stored as templates.
    splitter: Option<Splitter>,
    metadata: Vec<MetadataBuilder>,
    by_name: HashMap<Box<str>, usize>,
    /// Columns of the last row's metadata, in its order: the next row mostly has the same names.
    last_columns: Vec<usize>,
    metadata_weight: usize,
}

impl BlockBuilder {
    /// An empty block with the number `index`. With `templates` lines are split as they come.
    pub(crate) fn new(index: u32, templates: bool) -> Self {
        BlockBuilder {
            index,
            splitter: templates.then(Splitter::default),
            ..BlockBuilder::default()
        }
    }

    /// Makes room for so many rows with so many bytes of whole lines.
    pub(crate) fn reserve(&mut self, rows: usize, line_bytes: usize) {
        self.timestamps.reserve(rows);
        self.lengths.reserve(rows);
        self.ends.reserve(rows);
        self.text.reserve(line_bytes);
    }

    pub(crate) fn rows(&self) -> usize {
        self.timestamps.len()
    }

    /// Bytes of the lines.
    pub(crate) fn line_bytes(&self) -> u64 {
        self.line_bytes
    }

    /// Roughly the heap bytes of the metadata columns.
    pub(crate) fn metadata_weight(&self) -> usize {
        self.metadata_weight
    }

    /// Whether a row with these metadata names would bring the block beyond `limit` metadata columns.
    pub(crate) fn exceeds_columns(&self, metadata: &[(&str, &str)], limit: usize) -> bool {
        self.metadata.len() + metadata.len() > limit && {
            let new = metadata
                .iter()
                .filter(|(name, _)| !self.by_name.contains_key(*name))
                .count();
            self.metadata.len() + new > limit
        }
    }

    /// Adds a row. A line can be split only if the block is one of templates.
    pub(crate) fn push(&mut self, stream: u32, ts: i64, line: Line<'_>, metadata: &[(&str, &str)]) {
        let row = self.timestamps.len() as u32;
        match self.run_rows.last_mut() {
            Some(rows) if self.last_stream == stream => *rows += 1,
            Some(_) => self.run_rows.push(1),
            None => {
                self.first_stream = stream;
                self.run_rows.push(1);
            }
        }
        self.last_stream = stream;
        self.timestamps.push(ts);
        self.lengths.push(line.len() as u64);
        self.line_bytes += line.len() as u64;
        let start = self.text.len();
        match (line, &mut self.splitter) {
            (Line::Whole(line), splitter) => {
                self.text.extend_from_slice(line);
                if let Some(splitter) = splitter {
                    splitter.add(row, line, start, Vocabulary::Numbers);
                }
            }
            (Line::Split(lines), Some(splitter)) => lines.hand_on(row, self.index, splitter),
            (Line::Split(lines), None) => lines.put_next(&mut self.text),
        }
        self.ends.push(self.text.len() as u32);
        for (position, &(name, value)) in metadata.iter().enumerate() {
            let column = self.metadata_column(position, name);
            self.metadata_weight += self.metadata[column].push(row, value);
        }
    }

    fn metadata_column(&mut self, position: usize, name: &str) -> usize {
        if let Some(&column) = self.last_columns.get(position)
            && *self.metadata[column].name == *name
        {
            return column;
        }
        let column = match self.by_name.get(name) {
            Some(&column) => column,
            None => {
                self.metadata.push(MetadataBuilder::new(name));
                self.by_name.insert(name.into(), self.metadata.len() - 1);
                self.metadata_weight += 2 * name.len() + 256;
                self.metadata.len() - 1
            }
        };
        self.last_columns.truncate(position);
        self.last_columns.push(column);
        column
    }

    /// Appends the block's columns to `out`, whose first byte is at `base` in the object, and makes the builder one of
    /// the next block. `try_layouts`: see [`WriterOptions`](crate::WriterOptions).
    pub(crate) fn finish(
        &mut self,
        base: u64,
        out: &mut Vec<u8>,
        zstd: &mut Zstd,
        try_layouts: bool,
    ) -> Result<BlockMeta, SegmentError> {
        let mut next = BlockBuilder::new(self.index + 1, self.splitter.is_some());
        next.reserve(self.rows(), self.text.len());
        let block = std::mem::replace(self, next);
        let rows = block.rows() as u32;
        let bounds = block
            .timestamps
            .iter()
            .fold((i64::MAX, i64::MIN), |(a, b), &ts| (a.min(ts), b.max(ts)));
        let mut columns = Columns {
            index: block.index,
            base,
            out,
            zstd,
            try_layouts,
            list: Vec::new(),
        };
        let mut streams = Vec::new();
        block
            .run_rows
            .iter()
            .for_each(|&rows| put_varint(&mut streams, rows.into()));
        columns.put(ColumnKind::Streams, LAYOUT_VARINTS, streams)?;
        let (head, deltas) = timestamp_deltas(&block.timestamps, &block.run_rows, bounds.0);
        columns.put_ints(ColumnKind::Timestamps, &head, &deltas)?;
        columns.put_ints(ColumnKind::LineLengths, &[], &block.lengths)?;
        let mut metadata = block.metadata;
        metadata.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        for column in metadata {
            let (name, layout, payload) = column.finish(rows);
            columns.put(ColumnKind::Metadata(name), layout, payload)?;
        }
        let split = match block.splitter {
            Some(splitter) => columns.split(splitter, block.text, &block.ends, block.line_bytes)?,
            None => Split::Plain(block.text),
        };
        match split {
            Split::Templates(split) => columns.put_templates(split)?,
            Split::Plain(text) => columns.put(ColumnKind::LineText, LAYOUT_VARINTS, text)?,
        }
        Ok(BlockMeta {
            index: block.index,
            rows,
            first_stream: block.first_stream,
            last_stream: block.last_stream,
            min_ts: bounds.0,
            max_ts: bounds.1,
            line_bytes: block.line_bytes,
            columns: columns.list,
        })
    }
}

/// What a timestamps column holds: a head (unit; each run's length and start), and each row's distance from the
/// row before it in its run (0 for the first), in units.
fn timestamp_deltas(timestamps: &[i64], run_rows: &[u32], min_ts: i64) -> (Vec<u8>, Vec<u64>) {
    let mut starts = Vec::with_capacity(run_rows.len());
    let mut deltas = Vec::with_capacity(timestamps.len());
    let mut rest = timestamps;
    for &rows in run_rows {
        let (run, after) = rest.split_at(rows as usize);
        rest = after;
        starts.push(ts_delta(min_ts, run[0]));
        deltas.push(0);
        deltas.extend(run.windows(2).map(|pair| ts_delta(pair[0], pair[1])));
    }
    let unit = starts
        .iter()
        .chain(&deltas)
        .fold(0, |unit, &value| common_divisor(unit, value))
        .max(1);
    let mut head = Vec::new();
    put_varint(&mut head, unit);
    put_varint(&mut head, run_rows.len() as u64);
    for (&rows, start) in run_rows.iter().zip(starts) {
        put_varint(&mut head, rows.into());
        put_varint(&mut head, start / unit);
    }
    if unit > 1 {
        deltas.iter_mut().for_each(|delta| *delta /= unit);
    }
    (head, deltas)
}

fn common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

struct Columns<'a> {
    index: u32,
    base: u64,
    out: &'a mut Vec<u8>,
    zstd: &'a mut Zstd,
    try_layouts: bool,
    list: Vec<ColumnMeta>,
}

impl Columns<'_> {
    fn put(&mut self, kind: ColumnKind, layout: u8, mut payload: Vec<u8>) -> Result<(), SegmentError> {
        let plain_len = payload.len();
        let encoding = layout | self.shrink(&kind, &mut payload)?;
        self.store(kind, encoding, plain_len, &payload);
        Ok(())
    }

    fn split(
        &mut self,
        splitter: Splitter,
        text: Vec<u8>,
        ends: &[u32],
        line_bytes: u64,
    ) -> Result<Split, SegmentError> {
        let part = Part::Column {
            block: self.index,
            kind: ColumnKind::Variables,
        };
        let (zstd, try_layouts) = (&mut *self.zstd, self.try_layouts);
        template::encode(splitter, text, ends, line_bytes, zstd, try_layouts, || {
            part.clone()
        })
    }

    fn put_templates(&mut self, columns: TemplateColumns) -> Result<(), SegmentError> {
        self.put(ColumnKind::Templates, LAYOUT_VARINTS, columns.templates)?;
        let highest = columns.ids.iter().copied().max().unwrap_or(0);
        let mut ids = Vec::new();
        put_ids(&mut ids, highest as usize, columns.ids.into_iter());
        self.put(ColumnKind::TemplateIds, LAYOUT_VARINTS, ids)?;
        // Its chunks are compressed one by one.
        let variables = columns.variables;
        self.store(ColumnKind::Variables, LAYOUT_VARINTS, variables.len(), &variables);
        self.put(ColumnKind::OtherText, LAYOUT_VARINTS, columns.other)
    }

    /// Varints or frames, whichever is smaller: in the end if layouts are to be tried, before compression otherwise.
    fn put_ints(&mut self, kind: ColumnKind, head: &[u8], values: &[u64]) -> Result<(), SegmentError> {
        let mut frames = head.to_vec();
        put_frames(&mut frames, values);
        let mut varints = head.to_vec();
        put_varints(&mut varints, values);
        if !self.try_layouts {
            return match frames.len() <= varints.len() {
                true => self.put(kind, LAYOUT_FRAMES, frames),
                false => self.put(kind, LAYOUT_VARINTS, varints),
            };
        }
        let (frames_len, varints_len) = (frames.len(), varints.len());
        let frames_packed = self.shrink(&kind, &mut frames)?;
        let varints_packed = self.shrink(&kind, &mut varints)?;
        if frames.len() <= varints.len() {
            self.store(kind, LAYOUT_FRAMES | frames_packed, frames_len, &frames);
        } else {
            self.store(kind, LAYOUT_VARINTS | varints_packed, varints_len, &varints);
        }
        Ok(())
    }

    fn shrink(&mut self, kind: &ColumnKind, payload: &mut Vec<u8>) -> Result<u8, SegmentError> {
        let index = self.index;
        let shrunk = self.zstd.shrink(payload, || Part::Column {
            block: index,
            kind: kind.clone(),
        })?;
        Ok(if shrunk { COMPRESSED } else { 0 })
    }

    fn store(&mut self, kind: ColumnKind, encoding: u8, plain_len: usize, stored: &[u8]) {
        self.list.push(ColumnMeta {
            kind,
            encoding,
            offset: self.base + self.out.len() as u64,
            len: stored.len() as u32,
            plain_len: plain_len as u32,
            checksum: xxh3_64(stored),
        });
        self.out.extend_from_slice(stored);
    }
}

#[derive(Debug)]
struct MetadataBuilder {
    name: Box<str>,
    ids: HashMap<Box<str>, u32, foldhash::fast::RandomState>,
    lengths: Vec<u64>,
    text: Vec<u8>,
    /// (row after the run, id); what no run covers yet has id 0.
    runs: Vec<(u32, u32)>,
    last_value: String,
}

impl MetadataBuilder {
    fn new(name: &str) -> Self {
        MetadataBuilder {
            name: name.into(),
            ids: HashMap::default(),
            lengths: Vec::new(),
            text: Vec::new(),
            runs: Vec::new(),
            last_value: String::new(),
        }
    }

    /// Returns roughly how many heap bytes the value took.
    fn push(&mut self, row: u32, value: &str) -> usize {
        let (covered, last_id) = self.runs.last().copied().unwrap_or((0, 0));
        if covered == row && last_id != 0 && *self.last_value == *value {
            if let Some((end, _)) = self.runs.last_mut() {
                *end += 1;
            }
            return 0;
        }
        if covered < row {
            self.runs.push((row, 0));
        }
        let (id, weight) = self.id(value);
        self.runs.push((row + 1, id));
        self.last_value.clear();
        self.last_value.push_str(value);
        weight + 16
    }

    fn id(&mut self, value: &str) -> (u32, usize) {
        if let Some(&id) = self.ids.get(value) {
            return (id, 0);
        }
        let id = self.ids.len() as u32 + 1;
        self.ids.insert(value.into(), id);
        self.lengths.push(value.len() as u64);
        self.text.extend_from_slice(value.as_bytes());
        (id, 2 * value.len() + 48)
    }

    fn finish(mut self, rows: u32) -> (Box<str>, u8, Vec<u8>) {
        if self.runs.last().is_none_or(|&(end, _)| end < rows) {
            self.runs.push((rows, 0));
        }
        let mut payload = Vec::new();
        put_varint(&mut payload, self.lengths.len() as u64);
        put_varints(&mut payload, &self.lengths);
        payload.extend_from_slice(&self.text);
        // Runs stay runs in readers' memory, so they are for columns that rarely change.
        if self.runs.len() <= (rows as usize / 8).max(1) {
            put_varint(&mut payload, self.runs.len() as u64);
            let mut start = 0;
            for &(end, id) in &self.runs {
                put_varint(&mut payload, (end - start).into());
                put_varint(&mut payload, id.into());
                start = end;
            }
            return (self.name, LAYOUT_RUNS, payload);
        }
        let starts = std::iter::once(0).chain(self.runs.iter().map(|&(end, _)| end));
        let ids = starts
            .zip(&self.runs)
            .flat_map(|(start, &(end, id))| std::iter::repeat_n(id, (end - start) as usize));
        put_ids(&mut payload, self.lengths.len(), ids);
        (self.name, LAYOUT_DENSE, payload)
    }
}

/// A width of 1, 2 or 4 bytes, as `highest` needs it, and each id in so many.
fn put_ids(out: &mut Vec<u8>, highest: usize, ids: impl Iterator<Item = u32>) {
    let width: u8 = match highest {
        0..=0xff => 1,
        0x100..=0xffff => 2,
        _ => 4,
    };
    out.push(width);
    ids.for_each(|id| out.extend_from_slice(&id.to_le_bytes()[..width.into()]));
}
