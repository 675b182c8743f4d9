//! The index at an object's end: finding it, parsing it, writing it. FORMAT.md has the layout.

use std::{collections::HashMap, ops::Range};

use ulid::Ulid;
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    BlockMeta, ColumnKind, ColumnMeta, LabelPairs, Part, SegmentError, SegmentFooter, StreamMeta,
    compress::{Zstd, expand},
    limits::{
        MAX_BLOCK_ROWS, MAX_COLUMN_BYTES, MAX_FOOTER_BYTES, MAX_LABEL_BYTES, MAX_LABELS, MAX_LINE_BYTES,
        MAX_METADATA_COLUMNS, MAX_REPLACES, MAX_STREAMS, VERSION, VERSION_WITHOUT_TEMPLATES,
    },
    wire::{Reader, put_str, put_varint, put_zigzag, ts_delta},
};

/// Bytes of the fixed-size end of every segment object.
pub const TRAILER_BYTES: usize = 40;
/// How much of an object's end to ask for first: trailer and footer of most segments in one read.
pub const TAIL_READ_BYTES: usize = 64 << 10;

pub(crate) const HEADER_BYTES: usize = 16;
pub(crate) const HEADER_MAGIC: &[u8; 8] = b"RKLNSEGM";
const TRAILER_MAGIC: &[u8; 8] = b"rklnsegm";

const KIND_STREAMS: u8 = 1;
const KIND_TIMESTAMPS: u8 = 2;
const KIND_LINE_LENGTHS: u8 = 3;
const KIND_LINE_TEXT: u8 = 4;
const KIND_METADATA: u8 = 5;
const KIND_TEMPLATES: u8 = 6;
const KIND_TEMPLATE_IDS: u8 = 7;
const KIND_VARIABLES: u8 = 8;
const KIND_OTHER_TEXT: u8 = 9;

pub(crate) fn header(version: u16) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(HEADER_MAGIC);
    header[8..10].copy_from_slice(&version.to_le_bytes());
    header
}

/// Most columns of a block beside its metadata.
const FIXED_COLUMNS: u64 = 7;

struct Trailer {
    footer_offset: u64,
    footer_len: u32,
    plain_len: u32,
    checksum: u64,
    version: u16,
}

impl Trailer {
    fn to_bytes(&self) -> [u8; TRAILER_BYTES] {
        let mut bytes = [0; TRAILER_BYTES];
        bytes[..8].copy_from_slice(&self.footer_offset.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.footer_len.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.plain_len.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.checksum.to_le_bytes());
        bytes[24..26].copy_from_slice(&self.version.to_le_bytes());
        let check = xxh3_64(&bytes[..28]) as u32;
        bytes[28..32].copy_from_slice(&check.to_le_bytes());
        bytes[32..].copy_from_slice(TRAILER_MAGIC);
        bytes
    }

    fn parse(tail: &[u8]) -> Result<Self, SegmentError> {
        let part = Part::Trailer;
        let bytes = tail.last_chunk::<TRAILER_BYTES>().ok_or_else(|| {
            let reason = format!("only {} bytes, a segment ends with {TRAILER_BYTES}", tail.len());
            SegmentError::corrupt(part.clone(), reason)
        })?;
        if bytes[32..] != TRAILER_MAGIC[..] {
            return Err(SegmentError::corrupt(
                part,
                "magic missing: not a segment, or cut short",
            ));
        }
        let mut reader = Reader::new(bytes, &part);
        let (footer_offset, footer_len) = (reader.u64()?, u32::from_le_bytes(reader.array()?));
        let (plain_len, checksum) = (u32::from_le_bytes(reader.array()?), reader.u64()?);
        let version = u16::from_le_bytes(reader.array()?);
        if !(VERSION_WITHOUT_TEMPLATES..=VERSION).contains(&version) {
            return Err(SegmentError::Version {
                found: version,
                supported: VERSION,
            });
        }
        reader.take(2)?;
        let (found, expected) = (xxh3_64(&bytes[..28]) as u32, u32::from_le_bytes(reader.array()?));
        if found != expected {
            return Err(SegmentError::Checksum {
                part,
                found: found.into(),
                expected: expected.into(),
            });
        }
        SegmentError::limit(
            Part::Footer,
            "size before compression",
            plain_len.into(),
            MAX_FOOTER_BYTES,
        )?;
        Ok(Trailer {
            footer_offset,
            footer_len,
            plain_len,
            checksum,
            version,
        })
    }
}

/// Where the footer of an object of `object_bytes` is, given its last bytes (at least [`TRAILER_BYTES`]).
/// The range reaches to the object's end: [`SegmentFooter::parse`] takes exactly these bytes.
///
/// # Errors
/// When the trailer is cut short, isn't one, or is of another version.
pub fn locate_footer(tail: &[u8], object_bytes: u64) -> Result<Range<u64>, SegmentError> {
    let trailer = Trailer::parse(tail)?;
    let end = trailer
        .footer_offset
        .checked_add(u64::from(trailer.footer_len) + TRAILER_BYTES as u64);
    if end != Some(object_bytes) || trailer.footer_offset < HEADER_BYTES as u64 {
        let reason = format!(
            "footer of {} bytes at {} doesn't fit an object of {object_bytes} bytes",
            trailer.footer_len, trailer.footer_offset
        );
        return Err(SegmentError::corrupt(Part::Trailer, reason));
    }
    Ok(trailer.footer_offset..object_bytes)
}

impl SegmentFooter {
    /// Parses the bytes of the range that [`locate_footer`] gives: footer and trailer.
    ///
    /// # Errors
    /// When the bytes are corrupt or beyond the format's limits.
    pub fn parse(bytes: &[u8]) -> Result<Self, SegmentError> {
        let part = Part::Footer;
        let trailer = Trailer::parse(bytes)?;
        let stored = &bytes[..bytes.len() - TRAILER_BYTES];
        if stored.len() as u64 != u64::from(trailer.footer_len) {
            let reason = format!(
                "{} bytes at hand, {} are declared",
                stored.len(),
                trailer.footer_len
            );
            return Err(SegmentError::corrupt(part, reason));
        }
        let found = xxh3_64(stored);
        if found != trailer.checksum {
            return Err(SegmentError::Checksum {
                part,
                found,
                expected: trailer.checksum,
            });
        }
        if trailer.footer_len == trailer.plain_len {
            return parse_plain(stored, &trailer);
        }
        parse_plain(&expand(stored, trailer.plain_len as usize, &part)?, &trailer)
    }

    /// Footer and trailer as they end an object whose columns end at `footer_offset`.
    pub(crate) fn to_bytes(&self, footer_offset: u64, zstd: &mut Zstd) -> Result<Vec<u8>, SegmentError> {
        let mut bytes = self.to_plain();
        let plain_len = bytes.len();
        SegmentError::limit(
            Part::Footer,
            "size before compression",
            plain_len as u64,
            MAX_FOOTER_BYTES,
        )?;
        zstd.shrink(&mut bytes, || Part::Footer)?;
        let trailer = Trailer {
            footer_offset,
            footer_len: bytes.len() as u32,
            plain_len: plain_len as u32,
            checksum: xxh3_64(&bytes),
            version: self.version,
        };
        bytes.extend_from_slice(&trailer.to_bytes());
        Ok(bytes)
    }

    fn to_plain(&self) -> Vec<u8> {
        let mut out = vec![self.level];
        put_str(&mut out, &self.created_by);
        put_varint(&mut out, self.replaces.len() as u64);
        for id in &self.replaces {
            out.extend_from_slice(&id.0.to_le_bytes());
        }
        put_varint(&mut out, self.rows);
        put_zigzag(&mut out, self.min_ts);
        put_varint(&mut out, ts_delta(self.min_ts, self.max_ts));
        let mut strings = Strings::default();
        let mut index = Vec::new();
        self.put_streams(&mut index, &mut strings);
        self.put_blocks(&mut index, &mut strings);
        strings.put(&mut out);
        out.extend_from_slice(&index);
        out
    }

    fn put_streams<'a>(&'a self, out: &mut Vec<u8>, strings: &mut Strings<'a>) {
        let labels = || self.streams.iter().flat_map(|stream| stream.labels.iter());
        put_varint(out, self.streams.len() as u64);
        for stream in &self.streams {
            put_varint(out, stream.labels.len() as u64);
        }
        labels().for_each(|(name, _)| put_varint(out, strings.index(name)));
        labels().for_each(|(_, value)| put_varint(out, strings.index(value)));
        let columns: [fn(&Self, &StreamMeta) -> u64; 5] = [
            |_, stream| stream.rows,
            |_, stream| stream.line_bytes,
            |_, stream| stream.metadata_bytes,
            |footer, stream| ts_delta(footer.min_ts, stream.min_ts),
            |_, stream| ts_delta(stream.min_ts, stream.max_ts),
        ];
        for column in columns {
            self.streams
                .iter()
                .for_each(|stream| put_varint(out, column(self, stream)));
        }
    }

    fn put_blocks<'a>(&'a self, out: &mut Vec<u8>, strings: &mut Strings<'a>) {
        put_varint(out, self.blocks.len() as u64);
        let mut end = HEADER_BYTES as u64;
        for block in &self.blocks {
            put_varint(out, block.rows.into());
            put_varint(out, block.first_stream.into());
            put_varint(out, (block.last_stream - block.first_stream).into());
            put_varint(out, ts_delta(self.min_ts, block.min_ts));
            put_varint(out, ts_delta(block.min_ts, block.max_ts));
            put_varint(out, block.line_bytes);
            put_varint(out, block.columns.len() as u64);
            for column in &block.columns {
                match &column.kind {
                    ColumnKind::Streams => out.push(KIND_STREAMS),
                    ColumnKind::Timestamps => out.push(KIND_TIMESTAMPS),
                    ColumnKind::LineLengths => out.push(KIND_LINE_LENGTHS),
                    ColumnKind::LineText => out.push(KIND_LINE_TEXT),
                    ColumnKind::Templates => out.push(KIND_TEMPLATES),
                    ColumnKind::TemplateIds => out.push(KIND_TEMPLATE_IDS),
                    ColumnKind::Variables => out.push(KIND_VARIABLES),
                    ColumnKind::OtherText => out.push(KIND_OTHER_TEXT),
                    ColumnKind::Metadata(name) => {
                        out.push(KIND_METADATA);
                        put_varint(out, strings.index(name));
                    }
                }
                out.push(column.encoding);
                put_varint(out, column.offset - end);
                put_varint(out, column.len.into());
                put_varint(out, column.plain_len.into());
                out.extend_from_slice(&column.checksum.to_le_bytes());
                end = column.range().end;
            }
        }
    }
}

/// Every text of the footer once, in the order of first use.
#[derive(Default)]
struct Strings<'a> {
    index: HashMap<&'a str, u64, foldhash::fast::RandomState>,
    list: Vec<&'a str>,
}

impl<'a> Strings<'a> {
    fn index(&mut self, text: &'a str) -> u64 {
        *self.index.entry(text).or_insert_with(|| {
            self.list.push(text);
            self.list.len() as u64 - 1
        })
    }

    fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.list.len() as u64);
        self.list
            .iter()
            .for_each(|text| put_varint(out, text.len() as u64));
        self.list
            .iter()
            .for_each(|text| out.extend_from_slice(text.as_bytes()));
    }
}

fn parse_plain(plain: &[u8], trailer: &Trailer) -> Result<SegmentFooter, SegmentError> {
    let part = Part::Footer;
    let mut reader = Reader::new(plain, &part);
    let level = reader.u8()?;
    let created_by = reader.str()?.into();
    let replaces = (0..reader.count("replaced segments", MAX_REPLACES.into())?)
        .map(|_| Ok(Ulid(u128::from_le_bytes(reader.array()?))))
        .collect::<Result<_, SegmentError>>()?;
    let rows = reader.varint()?;
    let min_ts = reader.zigzag()?;
    let max_ts = reader.ts_after(min_ts)?;
    let strings = read_strings(&mut reader)?;
    let streams = read_streams(&mut reader, &strings, min_ts)?;
    let blocks = read_blocks(&mut reader, &strings, min_ts, &streams, trailer)?;
    reader.finish()?;
    let held = blocks.iter().map(|block| u64::from(block.rows)).sum::<u64>();
    let owned = streams
        .iter()
        .try_fold(0u64, |sum, stream| sum.checked_add(stream.rows));
    if held != rows || owned != Some(rows) {
        let reason = format!("declares {rows} rows, blocks have {held}, streams {owned:?}");
        return Err(SegmentError::corrupt(part, reason));
    }
    Ok(SegmentFooter {
        version: trailer.version,
        level,
        created_by,
        replaces,
        streams,
        blocks,
        rows,
        min_ts,
        max_ts,
    })
}

fn read_strings<'a>(reader: &mut Reader<'a>) -> Result<Vec<&'a str>, SegmentError> {
    let count = reader.count("strings", u64::from(u32::MAX))?;
    let lens = (0..count)
        .map(|_| reader.varint())
        .collect::<Result<Vec<_>, _>>()?;
    lens.into_iter()
        .map(|len| {
            let len = usize::try_from(len).unwrap_or(usize::MAX);
            let bytes = reader.take(len)?;
            std::str::from_utf8(bytes).map_err(|error| reader.corrupt(error.to_string()))
        })
        .collect()
}

fn string<'a>(reader: &mut Reader<'_>, strings: &[&'a str]) -> Result<&'a str, SegmentError> {
    let index = reader.varint()?;
    let found = usize::try_from(index).ok().and_then(|index| strings.get(index));
    found
        .copied()
        .ok_or_else(|| reader.corrupt(format!("string {index} of {}", strings.len())))
}

fn read_streams(
    reader: &mut Reader<'_>,
    strings: &[&str],
    base: i64,
) -> Result<Vec<StreamMeta>, SegmentError> {
    let count = reader.count("streams", MAX_STREAMS.into())?;
    let counts = (0..count)
        .map(|_| reader.u32("labels", MAX_LABELS))
        .collect::<Result<Vec<_>, _>>()?;
    let total = counts.iter().map(|&count| count as usize).sum::<usize>();
    if total > reader.remaining() {
        return Err(reader.corrupt(format!("declares {total} labels in {} bytes", reader.remaining())));
    }
    let names = (0..total)
        .map(|_| string(reader, strings))
        .collect::<Result<Vec<_>, _>>()?;
    let values = (0..total)
        .map(|_| string(reader, strings))
        .collect::<Result<Vec<_>, _>>()?;
    let bytes = names.iter().chain(&values).map(|text| text.len() as u64).sum();
    SegmentError::limit(Part::Footer, "label bytes", bytes, MAX_LABEL_BYTES)?;
    let mut pairs = names.iter().copied().zip(values.iter().copied());
    let mut streams: Vec<StreamMeta> = Vec::with_capacity(count);
    for count in counts {
        let labels = LabelPairs::new(pairs.clone().take(count as usize));
        pairs.by_ref().take(count as usize).for_each(drop);
        if !labels.iter().is_sorted_by(|a, b| a.0 < b.0) {
            return Err(reader.corrupt(format!("labels of stream {} aren't in order", streams.len())));
        }
        if streams.last().is_some_and(|last| last.labels >= labels) {
            return Err(reader.corrupt(format!("stream {} isn't in order", streams.len())));
        }
        streams.push(StreamMeta {
            labels,
            rows: 0,
            line_bytes: 0,
            metadata_bytes: 0,
            min_ts: 0,
            max_ts: 0,
        });
    }
    for stream in &mut streams {
        stream.rows = reader.varint()?;
    }
    for stream in &mut streams {
        stream.line_bytes = reader.varint()?;
    }
    for stream in &mut streams {
        stream.metadata_bytes = reader.varint()?;
    }
    for stream in &mut streams {
        stream.min_ts = reader.ts_after(base)?;
    }
    for stream in &mut streams {
        stream.max_ts = reader.ts_after(stream.min_ts)?;
    }
    Ok(streams)
}

fn read_blocks(
    reader: &mut Reader<'_>,
    strings: &[&str],
    base: i64,
    streams: &[StreamMeta],
    trailer: &Trailer,
) -> Result<Vec<BlockMeta>, SegmentError> {
    let count = reader.count("blocks", u64::from(u32::MAX))?;
    let mut end = HEADER_BYTES as u64;
    let mut blocks: Vec<BlockMeta> = Vec::new();
    for index in 0..count as u32 {
        let mut block = read_block(reader, index, base)?;
        let after = blocks.last().map_or(0, |last| last.last_stream);
        let follows = block.first_stream == after || (index > 0 && block.first_stream == after + 1);
        if !follows || block.last_stream as usize >= streams.len() {
            return Err(reader.corrupt(format!("block {index} is out of order or names unknown streams")));
        }
        let columns = reader.count("columns", MAX_METADATA_COLUMNS as u64 + FIXED_COLUMNS)?;
        for _ in 0..columns {
            let column = read_column(reader, strings, end, trailer.version)?;
            end = column.range().end;
            if end > trailer.footer_offset {
                return Err(reader.corrupt(format!(
                    "block {index}: {} column reaches into the footer",
                    column.kind
                )));
            }
            block.columns.push(column);
        }
        check_columns(reader, &block)?;
        blocks.push(block);
    }
    Ok(blocks)
}

fn read_block(reader: &mut Reader<'_>, index: u32, base: i64) -> Result<BlockMeta, SegmentError> {
    let rows = reader.u32("rows of a block", MAX_BLOCK_ROWS)?;
    let first_stream = reader.u32("stream", MAX_STREAMS)?;
    let more_streams = reader.u32("streams of a block", MAX_STREAMS)?;
    let min_ts = reader.ts_after(base)?;
    let max_ts = reader.ts_after(min_ts)?;
    let line_bytes = reader.varint()?;
    SegmentError::limit(
        reader.part().clone(),
        "line bytes of a block",
        line_bytes,
        MAX_LINE_BYTES,
    )?;
    if rows <= more_streams {
        return Err(reader.corrupt(format!(
            "block {index} has {rows} rows of {more_streams} + 1 streams"
        )));
    }
    let last_stream = first_stream + more_streams;
    Ok(BlockMeta {
        index,
        rows,
        first_stream,
        last_stream,
        min_ts,
        max_ts,
        line_bytes,
        columns: Vec::new(),
    })
}

fn read_column(
    reader: &mut Reader<'_>,
    strings: &[&str],
    end: u64,
    version: u16,
) -> Result<ColumnMeta, SegmentError> {
    let kind = match reader.u8()? {
        KIND_STREAMS => ColumnKind::Streams,
        KIND_TIMESTAMPS => ColumnKind::Timestamps,
        KIND_LINE_LENGTHS => ColumnKind::LineLengths,
        KIND_LINE_TEXT => ColumnKind::LineText,
        KIND_METADATA => ColumnKind::Metadata(string(reader, strings)?.into()),
        KIND_TEMPLATES if version > VERSION_WITHOUT_TEMPLATES => ColumnKind::Templates,
        KIND_TEMPLATE_IDS if version > VERSION_WITHOUT_TEMPLATES => ColumnKind::TemplateIds,
        KIND_VARIABLES if version > VERSION_WITHOUT_TEMPLATES => ColumnKind::Variables,
        KIND_OTHER_TEXT if version > VERSION_WITHOUT_TEMPLATES => ColumnKind::OtherText,
        kind => return Err(reader.corrupt(format!("unknown column kind {kind}"))),
    };
    let encoding = reader.u8()?;
    let gap = reader.varint()?;
    let offset = end
        .checked_add(gap)
        .ok_or_else(|| reader.corrupt("a column's offset is beyond 64 bits"))?;
    let len = reader.u32("bytes of a column", MAX_COLUMN_BYTES as u32)?;
    let plain_len = reader.u32("bytes of a column before compression", MAX_COLUMN_BYTES as u32)?;
    let checksum = reader.u64()?;
    Ok(ColumnMeta {
        kind,
        encoding,
        offset,
        len,
        plain_len,
        checksum,
    })
}

/// The columns every block has, once each and in order, those of the text last; metadata names ascending.
fn check_columns(reader: &Reader<'_>, block: &BlockMeta) -> Result<(), SegmentError> {
    let kinds: Vec<_> = block.columns.iter().map(|column| &column.kind).collect();
    let names = match &kinds[..] {
        [
            ColumnKind::Streams,
            ColumnKind::Timestamps,
            ColumnKind::LineLengths,
            names @ ..,
            ColumnKind::LineText,
        ]
        | [
            ColumnKind::Streams,
            ColumnKind::Timestamps,
            ColumnKind::LineLengths,
            names @ ..,
            ColumnKind::Templates,
            ColumnKind::TemplateIds,
            ColumnKind::Variables,
            ColumnKind::OtherText,
        ] => Some(names),
        _ => None,
    };
    let all_names = |kinds: &[&ColumnKind]| kinds.iter().all(|kind| matches!(kind, ColumnKind::Metadata(_)));
    let ascending = || {
        block
            .metadata_columns()
            .map(|(name, _)| name)
            .is_sorted_by(|a, b| a < b)
    };
    if names.is_some_and(all_names) && ascending() {
        Ok(())
    } else {
        Err(reader.corrupt(format!("block {} has wrong columns", block.index)))
    }
}
