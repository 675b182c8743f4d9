//! Rows to a segment's bytes.

use ulid::Ulid;

use crate::{
    BlockMeta, LabelPairs, Part, SegmentError, SegmentFooter, StreamMeta,
    compress::Zstd,
    encode::{BlockBuilder, Line},
    footer::header,
    limits::{
        MAX_BLOCK_ROWS, MAX_LABEL_BYTES, MAX_LABELS, MAX_LINE_BYTES, MAX_METADATA_BYTES,
        MAX_METADATA_COLUMNS, MAX_REPLACES, MAX_STREAMS, VERSION, VERSION_WITHOUT_TEMPLATES,
    },
};

/// How a segment is written.
#[derive(Debug, Clone)]
pub struct WriterOptions {
    /// Rows after which a block is full. More compresses better and makes reading a few rows dearer.
    pub block_rows: usize,
    /// Line bytes after which a block is full; one longer line makes a block of its own.
    pub block_line_bytes: usize,
    /// zstd level of lines, metadata and footer.
    pub zstd_level: i32,
    /// Whether the layouts of columns are chosen by what compression makes of samples of them, and not by their bytes
    /// before it: 3 to 6% smaller on training logs, at half again the time.
    pub try_layouts: bool,
    /// Whether lines are stored as templates and variables, where that is smaller: reading and searching them is
    /// faster, writing is slower.
    pub templates: bool,
    /// Compaction level, kept in the footer.
    pub level: u8,
    /// Segments whose rows this one holds, kept in the footer.
    pub replaces: Vec<Ulid>,
    /// What writes, kept in the footer for people.
    pub created_by: String,
}

impl Default for WriterOptions {
    fn default() -> Self {
        WriterOptions {
            block_rows: 65_536,
            block_line_bytes: 4 << 20,
            zstd_level: 3,
            try_layouts: true,
            templates: false,
            level: 0,
            replaces: Vec::new(),
            created_by: concat!("rankline ", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// Turns rows into a segment, block by block.
#[derive(Debug)]
pub struct SegmentWriter {
    options: WriterOptions,
    /// Made with the first block: `new` can't fail.
    zstd: Option<Zstd>,
    block: BlockBuilder,
    streams: Vec<StreamMeta>,
    blocks: Vec<BlockMeta>,
    label_bytes: u64,
    /// Bytes not yet drained, and how many were.
    out: Vec<u8>,
    drained: u64,
}

/// A finished segment.
#[derive(Debug)]
pub struct Finished {
    /// Bytes not yet drained; the whole object when [`SegmentWriter::drain`] was never called.
    pub bytes: Vec<u8>,
    /// What [`SegmentFooter::parse`] would read back.
    pub footer: SegmentFooter,
    /// Size of the whole object.
    pub total_bytes: u64,
}

impl SegmentWriter {
    /// A writer with no rows. Options beyond the format's limits are brought down to them.
    pub fn new(options: WriterOptions) -> Self {
        let options = WriterOptions {
            block_rows: options.block_rows.clamp(1, MAX_BLOCK_ROWS as usize),
            block_line_bytes: options.block_line_bytes.clamp(1, MAX_LINE_BYTES as usize),
            ..options
        };
        SegmentWriter {
            zstd: None,
            block: BlockBuilder::new(0, options.templates),
            streams: Vec::new(),
            blocks: Vec::new(),
            label_bytes: 0,
            out: header(version(&options)).to_vec(),
            drained: 0,
            options,
        }
    }

    /// Makes room for the rows of the first block, of so many rows with so many bytes of lines that are to come in all.
    pub fn expect(&mut self, rows: usize, line_bytes: usize) {
        let rows = rows.min(self.options.block_rows);
        self.block
            .reserve(rows, line_bytes.min(self.options.block_line_bytes));
    }

    /// Starts the next stream. Streams come in ascending order of their label pairs (names ascending and unique),
    /// each once. A stream without rows is left out.
    ///
    /// # Errors
    /// When the order is broken or a limit of the format passed.
    pub fn begin_stream(&mut self, labels: &[(&str, &str)]) -> Result<(), SegmentError> {
        self.drop_empty_stream();
        if !labels.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(SegmentError::Input(format!(
                "label names of stream {labels:?} aren't ascending"
            )));
        }
        if let Some(last) = self.streams.last()
            && !last.labels.iter().lt(labels.iter().copied())
        {
            return Err(SegmentError::Input(format!(
                "stream {labels:?} comes after {:?}",
                last.labels
            )));
        }
        let bytes = labels
            .iter()
            .map(|(name, value)| name.len() as u64 + value.len() as u64)
            .sum::<u64>();
        SegmentError::limit(
            Part::Footer,
            "streams",
            self.streams.len() as u64 + 1,
            MAX_STREAMS.into(),
        )?;
        SegmentError::limit(
            Part::Footer,
            "labels of a stream",
            labels.len() as u64,
            MAX_LABELS.into(),
        )?;
        SegmentError::limit(
            Part::Footer,
            "label bytes",
            self.label_bytes + bytes,
            MAX_LABEL_BYTES,
        )?;
        self.label_bytes += bytes;
        let labels = LabelPairs::new(labels.iter().copied());
        let (min_ts, max_ts) = (i64::MAX, i64::MIN);
        self.streams.push(StreamMeta {
            labels,
            rows: 0,
            line_bytes: 0,
            metadata_bytes: 0,
            min_ts,
            max_ts,
        });
        Ok(())
    }

    /// Adds a row to the current stream: ascending `ts` (ns since the epoch; equal allowed, order kept), any line,
    /// metadata with names ascending and unique.
    ///
    /// # Errors
    /// When the order is broken or a limit of the format passed; the row is then not in the segment.
    pub fn push(&mut self, ts: i64, line: &str, metadata: &[(&str, &str)]) -> Result<(), SegmentError> {
        self.push_line(ts, Line::Whole(line.as_bytes()), metadata)
    }

    /// As [`SegmentWriter::push`], for a line that may be split already; a whole one is UTF-8.
    pub(crate) fn push_line(
        &mut self,
        ts: i64,
        line: Line<'_>,
        metadata: &[(&str, &str)],
    ) -> Result<(), SegmentError> {
        let metadata_bytes = check_row(self.streams.last(), ts, line.len(), metadata)?;
        if self.is_full(line.len(), metadata) {
            self.finish_block()?;
        }
        let number = self.streams.len() as u32 - 1;
        if let Some(stream) = self.streams.last_mut() {
            stream.rows += 1;
            stream.line_bytes += line.len() as u64;
            stream.metadata_bytes += metadata_bytes;
            stream.min_ts = stream.min_ts.min(ts);
            stream.max_ts = ts;
        }
        self.block.push(number, ts, line, metadata);
        Ok(())
    }

    /// Whether lines may come split.
    pub(crate) fn splits(&self) -> bool {
        self.options.templates
    }

    fn is_full(&self, more_bytes: usize, metadata: &[(&str, &str)]) -> bool {
        let limit = self.options.block_line_bytes;
        self.block.rows() > 0
            && (self.block.rows() >= self.options.block_rows
                || self.block.line_bytes() + more_bytes as u64 > limit as u64
                || self.block.metadata_weight() > limit
                || self.block.exceeds_columns(metadata, MAX_METADATA_COLUMNS))
    }

    fn finish_block(&mut self) -> Result<(), SegmentError> {
        let zstd = match &mut self.zstd {
            Some(zstd) => zstd,
            slot => slot.insert(Zstd::new(self.options.zstd_level)?),
        };
        let try_layouts = self.options.try_layouts;
        let block = self
            .block
            .finish(self.drained, &mut self.out, zstd, try_layouts)?;
        self.blocks.push(block);
        Ok(())
    }

    fn drop_empty_stream(&mut self) {
        if let Some(last) = self.streams.pop_if(|stream| stream.rows == 0) {
            self.label_bytes -= last.labels.text_bytes() as u64;
        }
    }

    /// Blocks finished so far.
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Bytes finished so far, for callers that upload in parts; `finish` gives the rest.
    pub fn drain(&mut self) -> Vec<u8> {
        self.drained += self.out.len() as u64;
        std::mem::take(&mut self.out)
    }

    /// Bytes that [`SegmentWriter::drain`] would give.
    pub fn drainable(&self) -> usize {
        self.out.len()
    }

    /// Writes what is left, footer and trailer.
    ///
    /// # Errors
    /// When the footer passes a limit of the format.
    pub fn finish(mut self) -> Result<Finished, SegmentError> {
        self.drop_empty_stream();
        if self.block.rows() > 0 {
            self.finish_block()?;
        }
        let replaced = self.options.replaces.len() as u64;
        SegmentError::limit(Part::Footer, "replaced segments", replaced, MAX_REPLACES.into())?;
        let footer = SegmentFooter {
            version: version(&self.options),
            level: self.options.level,
            created_by: self.options.created_by.into(),
            replaces: self.options.replaces,
            rows: self.streams.iter().map(|stream| stream.rows).sum(),
            min_ts: self.streams.iter().map(|stream| stream.min_ts).min().unwrap_or(0),
            max_ts: self.streams.iter().map(|stream| stream.max_ts).max().unwrap_or(0),
            streams: self.streams,
            blocks: self.blocks,
        };
        let mut zstd = match self.zstd {
            Some(zstd) => zstd,
            None => Zstd::new(self.options.zstd_level)?,
        };
        let tail = footer.to_bytes(self.drained + self.out.len() as u64, &mut zstd)?;
        self.out.extend_from_slice(&tail);
        let total_bytes = self.drained + self.out.len() as u64;
        Ok(Finished {
            bytes: self.out,
            footer,
            total_bytes,
        })
    }
}

/// The oldest format version that has what the options ask for.
fn version(options: &WriterOptions) -> u16 {
    if options.templates {
        VERSION
    } else {
        VERSION_WITHOUT_TEMPLATES
    }
}

/// Checks a row before anything is changed; the bytes of its metadata.
fn check_row(
    stream: Option<&StreamMeta>,
    ts: i64,
    line_bytes: usize,
    metadata: &[(&str, &str)],
) -> Result<u64, SegmentError> {
    let Some(stream) = stream else {
        return Err(SegmentError::Input("a row comes before its stream".into()));
    };
    if stream.rows > 0 && ts < stream.max_ts {
        return Err(SegmentError::Input(format!(
            "timestamp {ts} comes after {}",
            stream.max_ts
        )));
    }
    if !metadata.is_sorted_by(|a, b| a.0 < b.0) {
        let names: Vec<_> = metadata.iter().map(|(name, _)| name).collect();
        return Err(SegmentError::Input(format!(
            "metadata names {names:?} aren't ascending"
        )));
    }
    let bytes = metadata
        .iter()
        .map(|(name, value)| name.len() as u64 + value.len() as u64)
        .sum();
    for (what, value, limit) in [
        ("bytes of a line", line_bytes as u64, MAX_LINE_BYTES),
        (
            "metadata names of an entry",
            metadata.len() as u64,
            MAX_METADATA_COLUMNS as u64,
        ),
        ("metadata bytes of an entry", bytes, MAX_METADATA_BYTES),
    ] {
        if value > limit {
            return Err(SegmentError::Input(format!(
                "{what} are {value}, the limit is {limit}"
            )));
        }
    }
    Ok(bytes)
}
