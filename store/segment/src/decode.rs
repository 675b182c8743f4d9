//! Column bytes to rows. Every byte may be wrong: checksums first, then each number against the block's directory.

use xxhash_rust::xxh3::xxh3_64;

use crate::{
    BlockMeta, ColumnKind, ColumnMeta, Lines, MetadataColumn, Part, SegmentError, StreamRun,
    compress::expand,
    encode::{COMPRESSED, LAYOUT_DENSE, LAYOUT_FRAMES, LAYOUT_RUNS, LAYOUT_VARINTS},
    ints::{read_frames, read_varints},
    limits::{MAX_COLUMN_BYTES, MAX_LINE_BYTES},
    rows::Ids,
    template::TemplateLines,
    wire::Reader,
};

/// A column's payload: as it is in the object, or decompressed.
#[derive(Debug)]
pub(crate) enum Payload<'a> {
    Stored(&'a [u8]),
    Expanded(Vec<u8>),
}

impl Payload<'_> {
    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Payload::Stored(bytes) => bytes,
            Payload::Expanded(bytes) => bytes,
        }
    }

    pub(crate) fn into_vec(self) -> Vec<u8> {
        match self {
            Payload::Stored(bytes) => bytes.to_vec(),
            Payload::Expanded(bytes) => bytes,
        }
    }
}

/// The lines of a block, as they are stored.
#[derive(Debug)]
pub enum BlockText {
    /// As one text.
    Plain(Lines),
    /// As templates and variables.
    Templates(Box<TemplateLines>),
}

impl BlockText {
    /// All lines, put together.
    ///
    /// # Errors
    /// When the bytes are corrupt.
    pub fn into_lines(self) -> Result<Lines, SegmentError> {
        match self {
            BlockText::Plain(lines) => Ok(lines),
            BlockText::Templates(lines) => lines.all_lines(),
        }
    }
}

impl BlockMeta {
    /// The lines, however the block stores them. `bytes` gives those of [`ColumnKind::LineLengths`] and of each
    /// column that [`ColumnKind::is_text`] and that the block has.
    ///
    /// # Errors
    /// When the bytes are corrupt.
    pub fn decode_text<'a>(
        &'a self,
        bytes: impl Fn(&ColumnKind) -> &'a [u8],
    ) -> Result<BlockText, SegmentError> {
        let lengths = bytes(&ColumnKind::LineLengths);
        if !self.has_templates() {
            let lines = self.decode_lines(lengths, bytes(&ColumnKind::LineText))?;
            return Ok(BlockText::Plain(lines));
        }
        let templates = self.decode_templates(bytes(&ColumnKind::Templates))?;
        let text = self.columns.iter().filter(|column| column.kind.is_text());
        text.for_each(|column| templates.supply(&column.kind, bytes(&column.kind)));
        templates.supply(&ColumnKind::LineLengths, lengths);
        Ok(BlockText::Templates(Box::new(templates)))
    }

    /// The templates of a block that has some: enough to rule out that its lines hold a text
    /// ([`TemplateLines::hits_at_most`]). What lines are made of beside them is [supplied](TemplateLines::supply).
    ///
    /// # Errors
    /// When the bytes are corrupt.
    pub fn decode_templates(&self, templates: &[u8]) -> Result<TemplateLines, SegmentError> {
        TemplateLines::new(self, templates)
    }

    /// For each row its template + 1, 0 for a line without one.
    pub(crate) fn decode_template_ids(
        &self,
        bytes: &[u8],
        templates: usize,
    ) -> Result<Vec<u32>, SegmentError> {
        let (part, payload) = self.sole_layout(&ColumnKind::TemplateIds, bytes)?;
        let mut reader = Reader::new(payload.as_slice(), &part);
        let ids = self.dense_ids(&mut reader, templates)?;
        reader.finish()?;
        Ok(ids)
    }

    /// Payload of a column that has one layout only.
    pub(crate) fn sole_layout<'a>(
        &self,
        kind: &ColumnKind,
        bytes: &'a [u8],
    ) -> Result<(Part, Payload<'a>), SegmentError> {
        let (part, layout, payload) = self.payload(kind, bytes)?;
        expect_layout(&part, layout, &[LAYOUT_VARINTS])?;
        Ok((part, payload))
    }

    /// Which rows belong to which stream. `bytes` are those of the [`ColumnKind::Streams`] column.
    ///
    /// # Errors
    /// When the bytes are corrupt, here and in all `decode_*`.
    pub fn decode_streams(&self, bytes: &[u8]) -> Result<Vec<StreamRun>, SegmentError> {
        let (part, layout, payload) = self.payload(&ColumnKind::Streams, bytes)?;
        expect_layout(&part, layout, &[LAYOUT_VARINTS])?;
        let mut reader = Reader::new(payload.as_slice(), &part);
        let streams = (self.last_stream - self.first_stream) as usize + 1;
        let mut runs = Vec::with_capacity(streams.min(reader.remaining()));
        let mut first_row = 0;
        for stream in self.first_stream..=self.last_stream {
            let rows = reader.u32("rows of a stream", self.rows - first_row)?;
            if rows == 0 {
                return Err(reader.corrupt(format!("stream {stream} has no rows")));
            }
            runs.push(StreamRun {
                stream,
                first_row,
                rows,
            });
            first_row += rows;
        }
        if first_row != self.rows {
            return Err(reader.corrupt(format!("streams have {first_row} rows, the block {}", self.rows)));
        }
        reader.finish()?;
        Ok(runs)
    }

    /// Timestamps of all rows, ns since the epoch; ascending within each run of one stream.
    pub fn decode_timestamps(&self, bytes: &[u8]) -> Result<Vec<i64>, SegmentError> {
        let (part, layout, payload) = self.payload(&ColumnKind::Timestamps, bytes)?;
        expect_layout(&part, layout, &[LAYOUT_VARINTS, LAYOUT_FRAMES])?;
        let mut reader = Reader::new(payload.as_slice(), &part);
        let unit = reader.varint()?;
        let runs = (0..reader.count("runs", self.rows.into())?)
            .map(|_| Ok((reader.u32("rows of a run", self.rows)?, reader.varint()?)))
            .collect::<Result<Vec<_>, SegmentError>>()?;
        let deltas = self.integers(layout, &mut reader)?;
        reader.finish()?;
        let wrong = || SegmentError::corrupt(part.clone(), "a timestamp is outside the block's time range");
        let scaled = |ts: i64, units: u64| {
            let ts = units.checked_mul(unit).and_then(|ns| ts.checked_add_unsigned(ns));
            ts.filter(|&ts| ts <= self.max_ts).ok_or_else(wrong)
        };
        let mut timestamps = Vec::with_capacity(self.rows as usize);
        let mut deltas = deltas.into_iter();
        for (rows, start) in runs {
            let mut ts = scaled(self.min_ts, start)?;
            for delta in deltas.by_ref().take(rows as usize) {
                if delta != 0 {
                    ts = scaled(ts, delta)?;
                }
                timestamps.push(ts);
            }
        }
        if timestamps.len() != self.rows as usize {
            let reason = format!("runs have {} rows, the block {}", timestamps.len(), self.rows);
            return Err(SegmentError::corrupt(part, reason));
        }
        Ok(timestamps)
    }

    /// Byte lengths of all lines.
    pub fn decode_line_lengths(&self, bytes: &[u8]) -> Result<Vec<u32>, SegmentError> {
        let (part, layout, payload) = self.payload(&ColumnKind::LineLengths, bytes)?;
        expect_layout(&part, layout, &[LAYOUT_VARINTS, LAYOUT_FRAMES])?;
        let mut reader = Reader::new(payload.as_slice(), &part);
        let lengths = self.integers(layout, &mut reader)?;
        reader.finish()?;
        let mut total = 0u64;
        let mut out = Vec::with_capacity(lengths.len());
        for length in lengths {
            SegmentError::limit(part.clone(), "bytes of a line", length, MAX_LINE_BYTES)?;
            total += length;
            out.push(length as u32);
        }
        if total != self.line_bytes {
            let reason = format!("lines have {total} bytes, the block {}", self.line_bytes);
            return Err(SegmentError::corrupt(part, reason));
        }
        Ok(out)
    }

    /// The lines. `lengths` and `text` are the bytes of those two columns.
    pub fn decode_lines(&self, lengths: &[u8], text: &[u8]) -> Result<Lines, SegmentError> {
        let lengths = self.decode_line_lengths(lengths)?;
        let (part, layout, payload) = self.payload(&ColumnKind::LineText, text)?;
        expect_layout(&part, layout, &[LAYOUT_VARINTS])?;
        let offsets = offsets(lengths.iter().map(|&length| u64::from(length)), lengths.len());
        checked_text(payload.into_vec(), &offsets, &part).map(|text| Lines::new(text, offsets))
    }

    /// One structured-metadata column; `column` is one of [`BlockMeta::metadata_columns`].
    pub fn decode_metadata(&self, column: &ColumnMeta, bytes: &[u8]) -> Result<MetadataColumn, SegmentError> {
        let (part, layout, payload) = self.column_payload(column, bytes)?;
        expect_layout(&part, layout, &[LAYOUT_RUNS, LAYOUT_DENSE])?;
        let mut reader = Reader::new(payload.as_slice(), &part);
        let values = reader.count("values", self.rows.into())?;
        let lengths = read_varints(&mut reader, values)?;
        let total = lengths
            .iter()
            .try_fold(0u64, |sum, &length| sum.checked_add(length));
        let total = total
            .and_then(|total| usize::try_from(total).ok())
            .unwrap_or(usize::MAX);
        let text = reader.take(total)?.to_vec();
        let offsets = offsets(lengths.into_iter(), values);
        let text = checked_text(text, &offsets, &part)?;
        let ids = if layout == LAYOUT_RUNS {
            Ids::Runs(self.id_runs(&mut reader, values)?)
        } else {
            Ids::Dense(self.dense_ids(&mut reader, values)?)
        };
        reader.finish()?;
        Ok(MetadataColumn::new(self.rows as usize, text, offsets, ids))
    }

    fn id_runs(&self, reader: &mut Reader<'_>, values: usize) -> Result<Vec<(u32, u32)>, SegmentError> {
        let count = reader.count("runs", self.rows.into())?;
        let mut runs = Vec::with_capacity(count);
        let mut end = 0;
        for _ in 0..count {
            let rows = reader.u32("rows of a run", self.rows - end)?;
            let id = reader.u32("id of a value", values as u32)?;
            end += rows;
            runs.push((end, id));
        }
        if end != self.rows {
            return Err(reader.corrupt(format!("runs have {end} rows, the block {}", self.rows)));
        }
        Ok(runs)
    }

    fn dense_ids(&self, reader: &mut Reader<'_>, values: usize) -> Result<Vec<u32>, SegmentError> {
        let width = usize::from(reader.u8()?);
        if !matches!(width, 1 | 2 | 4) {
            return Err(reader.corrupt(format!("ids are {width} bytes wide")));
        }
        let bytes = reader.take(self.rows as usize * width)?;
        let ids: Vec<u32> = match width {
            1 => bytes.iter().map(|&id| u32::from(id)).collect(),
            2 => bytes
                .as_chunks::<2>()
                .0
                .iter()
                .map(|&id| u32::from(u16::from_le_bytes(id)))
                .collect(),
            _ => bytes
                .as_chunks::<4>()
                .0
                .iter()
                .map(|&id| u32::from_le_bytes(id))
                .collect(),
        };
        match ids.iter().find(|&&id| id as usize > values) {
            Some(id) => Err(reader.corrupt(format!("value {id} of {values}"))),
            None => Ok(ids),
        }
    }

    fn integers(&self, layout: u8, reader: &mut Reader<'_>) -> Result<Vec<u64>, SegmentError> {
        let rows = self.rows as usize;
        if layout == LAYOUT_FRAMES {
            read_frames(reader, rows)
        } else {
            read_varints(reader, rows)
        }
    }

    fn payload<'a>(
        &self,
        kind: &ColumnKind,
        bytes: &'a [u8],
    ) -> Result<(Part, u8, Payload<'a>), SegmentError> {
        match self.column(kind) {
            Some(column) => self.column_payload(column, bytes),
            None => Err(SegmentError::corrupt(
                Part::Block(self.index),
                format!("has no {kind} column"),
            )),
        }
    }

    /// Checks the stored bytes and takes the compression off: the column's name, layout and payload.
    fn column_payload<'a>(
        &self,
        column: &ColumnMeta,
        bytes: &'a [u8],
    ) -> Result<(Part, u8, Payload<'a>), SegmentError> {
        let part = Part::Column {
            block: self.index,
            kind: column.kind.clone(),
        };
        if bytes.len() as u64 != u64::from(column.len) {
            let reason = format!("{} bytes at hand, {} are declared", bytes.len(), column.len);
            return Err(SegmentError::corrupt(part, reason));
        }
        let found = xxh3_64(bytes);
        if found != column.checksum {
            return Err(SegmentError::Checksum {
                part,
                found,
                expected: column.checksum,
            });
        }
        let plain_len = u64::from(column.plain_len);
        let limit = if matches!(column.kind, ColumnKind::LineText | ColumnKind::OtherText) {
            self.line_bytes
        } else {
            MAX_COLUMN_BYTES
        };
        SegmentError::limit(part.clone(), "size before compression", plain_len, limit)?;
        let payload = if column.encoding & COMPRESSED != 0 {
            Payload::Expanded(expand(bytes, column.plain_len as usize, &part)?)
        } else {
            Payload::Stored(bytes)
        };
        Ok((part, column.encoding & !COMPRESSED, payload))
    }
}

fn expect_layout(part: &Part, layout: u8, known: &[u8]) -> Result<(), SegmentError> {
    if known.contains(&layout) {
        return Ok(());
    }
    Err(SegmentError::corrupt(
        part.clone(),
        format!("unknown layout {layout}"),
    ))
}

/// Where each of the texts starts, and the end; the sum is checked to be within the payload, so fits 32 bits.
fn offsets(lengths: impl Iterator<Item = u64>, count: usize) -> Vec<u32> {
    let mut offsets = Vec::with_capacity(count + 1);
    let mut end = 0u32;
    offsets.push(end);
    for length in lengths {
        end = end.saturating_add(u32::try_from(length).unwrap_or(u32::MAX));
        offsets.push(end);
    }
    offsets
}

pub(crate) fn checked_text(bytes: Vec<u8>, offsets: &[u32], part: &Part) -> Result<String, SegmentError> {
    let text =
        String::from_utf8(bytes).map_err(|error| SegmentError::corrupt(part.clone(), error.to_string()))?;
    if offsets.last().map(|&end| end as usize) != Some(text.len()) {
        let reason = format!(
            "{} bytes of text, lengths add up to {:?}",
            text.len(),
            offsets.last()
        );
        return Err(SegmentError::corrupt(part.clone(), reason));
    }
    if !offsets
        .iter()
        .all(|&offset| text.is_char_boundary(offset as usize))
    {
        return Err(SegmentError::corrupt(
            part.clone(),
            "a text starts inside a character",
        ));
    }
    Ok(text)
}
