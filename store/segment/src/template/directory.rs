//! The templates of a block and the directory of their variables' columns: types, bytes, and back.

use std::ops::Range;

use super::{
    values::{Layout, Stamp, alphabet},
    words::{SLOT, Vocabulary},
};
use crate::{
    SegmentError,
    wire::{Reader, put_varint},
};

/// All templates of a block, those of [`Vocabulary::Numbers`] first.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    /// The templates one after another.
    pub(crate) text: Vec<u8>,
    pub(crate) templates: Vec<Template>,
    /// How many of them are of [`Vocabulary::Numbers`].
    pub(crate) of_numbers: usize,
    /// One for each [`SLOT`] of the text, in order.
    pub(crate) columns: Vec<Column>,
    /// Of each column; apart from these, since a search looks at many of them and at little else.
    pub(crate) stamps: Vec<Stamp>,
    /// Values of constant columns, one after another.
    pub(crate) constants: Vec<u8>,
    pub(crate) chunks: Vec<Chunk>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    /// Its text.
    pub(crate) text: Range<usize>,
    /// Its columns.
    pub(crate) columns: Range<usize>,
    /// Its rows in the block.
    pub(crate) rows: u32,
}

/// The variables of one slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    /// Where the slot is in the templates' text.
    pub(crate) slot: u32,
    /// The chunk that holds the column; of no meaning for a constant.
    pub(crate) chunk: u32,
    /// Where the column is in its chunk, a constant's value in the constants.
    pub(crate) start: u32,
    /// Bytes of the column there.
    pub(crate) len: u32,
    pub(crate) layout: Layout,
}

impl Column {
    /// Where the column is in its chunk, a constant's value in the constants.
    pub(crate) fn bytes(&self) -> Range<usize> {
        self.start as usize..self.start as usize + self.len as usize
    }
}

/// Columns that are compressed together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Where it is in the variables column.
    pub(crate) stored: Range<usize>,
    /// Bytes of its columns.
    pub(crate) plain_len: usize,
}

impl Directory {
    /// The templates of one vocabulary.
    pub(crate) fn of_vocabulary(&self, vocabulary: Vocabulary) -> Range<usize> {
        match vocabulary {
            Vocabulary::Numbers => 0..self.of_numbers,
            Vocabulary::Values => self.of_numbers..self.templates.len(),
        }
    }

    /// The template that holds the text's byte at `offset`.
    pub(crate) fn template_at(&self, offset: usize) -> usize {
        self.templates
            .partition_point(|template| template.text.end <= offset)
    }

    /// Heap bytes, for memory budgets.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.text.len()
            + self.constants.len()
            + self.templates.len() * size_of::<Template>()
            + self.columns.len() * (size_of::<Column>() + size_of::<Stamp>())
            + self.chunks.len() * size_of::<Chunk>()
    }

    pub(crate) fn constant(&self, column: &Column) -> Option<&[u8]> {
        if column.layout != Layout::Constant {
            return None;
        }
        self.constants.get(column.bytes())
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.text.len() + self.constants.len() + self.columns.len() * 8);
        put_varint(&mut out, self.templates.len() as u64);
        put_varint(&mut out, self.of_numbers as u64);
        let varints = |out: &mut Vec<u8>, values: &mut dyn Iterator<Item = u64>| {
            values.for_each(|v| put_varint(out, v))
        };
        varints(
            &mut out,
            &mut self.templates.iter().map(|template| template.text.len() as u64),
        );
        out.extend_from_slice(&self.text);
        varints(
            &mut out,
            &mut self.templates.iter().map(|template| template.rows.into()),
        );
        out.extend(self.columns.iter().map(|column| column.layout as u8));
        varints(&mut out, &mut self.columns.iter().map(|column| column.len.into()));
        let stamps = || {
            let both = self.columns.iter().zip(&self.stamps);
            let varying = both.filter(|(column, _)| column.layout != Layout::Constant);
            varying.map(|(_, stamp)| stamp)
        };
        varints(&mut out, &mut stamps().map(|stamp| stamp.min_len.into()));
        varints(
            &mut out,
            &mut stamps().map(|stamp| (stamp.max_len - stamp.min_len).into()),
        );
        varints(&mut out, &mut stamps().map(|stamp| stamp.alphabet));
        out.extend_from_slice(&self.constants);
        put_varint(&mut out, self.chunks.len() as u64);
        varints(
            &mut out,
            &mut self.chunks.iter().map(|chunk| chunk.plain_len as u64),
        );
        varints(
            &mut out,
            &mut self.chunks.iter().map(|chunk| chunk.stored.len() as u64),
        );
        out
    }

    /// Reads what [`Directory::to_bytes`] wrote for a block of `rows` whose variables column has `stored` bytes.
    pub(crate) fn read(
        mut reader: Reader<'_>,
        rows: u32,
        stored: usize,
        limit: u64,
    ) -> Result<Self, SegmentError> {
        let count = reader.count("templates", rows.into())?;
        let of_numbers = reader.count("templates", count as u64)?;
        let mut directory = Directory {
            of_numbers,
            ..Directory::default()
        };
        directory.read_templates(&mut reader, count, rows)?;
        directory.read_columns(&mut reader, limit)?;
        directory.read_chunks(&mut reader, stored, limit)?;
        reader.finish()?;
        Ok(directory)
    }

    fn read_templates(
        &mut self,
        reader: &mut Reader<'_>,
        count: usize,
        rows: u32,
    ) -> Result<(), SegmentError> {
        let mut end = 0usize;
        for _ in 0..count {
            let len = reader.count("bytes of a template", u32::MAX.into())?;
            self.templates.push(Template {
                text: end..end + len,
                columns: 0..0,
                rows: 0,
            });
            end += len;
        }
        self.text = reader.take(end)?.to_vec();
        let mut left = rows;
        for template in &mut self.templates {
            template.rows = reader.u32("rows of templates", left)?;
            left -= template.rows;
            let Some(text) = self.text.get(template.text.clone()) else {
                return Err(reader.corrupt("a template lies beyond the text"));
            };
            if template.rows == 0 {
                return Err(reader.corrupt("a template has no rows"));
            }
            if let Err(error) = std::str::from_utf8(text) {
                return Err(reader.corrupt(error.to_string()));
            }
        }
        Ok(())
    }

    fn read_columns(&mut self, reader: &mut Reader<'_>, limit: u64) -> Result<(), SegmentError> {
        let slots: Vec<usize> = self
            .text
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == SLOT)
            .map(|(at, _)| at)
            .collect();
        let layouts = reader.take(slots.len())?;
        let varints = |reader: &mut Reader<'_>, limit, what, count| {
            (0..count)
                .map(|_| Ok(reader.u32(what, limit)? as usize))
                .collect::<Result<Vec<_>, SegmentError>>()
        };
        let lens = varints(reader, u32::MAX, "bytes of a column", slots.len())?;
        let varying = layouts
            .iter()
            .filter(|layout| **layout != Layout::Constant as u8)
            .count();
        let longest = u32::try_from(limit).unwrap_or(u32::MAX);
        let shortest = varints(reader, longest, "bytes of a variable", varying)?;
        let longer = varints(reader, longest, "bytes of a variable", varying)?;
        let mut stamps = Vec::with_capacity(varying);
        for (min_len, more) in shortest.into_iter().zip(longer) {
            let (min_len, max_len) = (min_len as u32, (min_len + more) as u32);
            stamps.push(Stamp {
                min_len,
                max_len,
                alphabet: reader.varint()?,
            });
        }
        let mut stamps = stamps.into_iter();
        for ((&slot, &layout), len) in slots.iter().zip(layouts).zip(lens) {
            let Some(layout) = Layout::of(layout) else {
                return Err(reader.corrupt(format!("unknown layout {layout} of variables")));
            };
            let (start, stamp) = match layout {
                Layout::Constant => {
                    let start = self.constants.len();
                    let value = reader.take(len)?;
                    self.constants.extend_from_slice(value);
                    let (min_len, max_len) = (len as u32, len as u32);
                    let alphabet = alphabet(value);
                    (
                        start,
                        Some(Stamp {
                            min_len,
                            max_len,
                            alphabet,
                        }),
                    )
                }
                // The chunks tell where.
                _ => (0, stamps.next()),
            };
            let stamp = stamp.ok_or_else(|| reader.corrupt("a column has no stamp"))?;
            self.stamps.push(stamp);
            self.columns.push(Column {
                slot: slot as u32,
                chunk: 0,
                start: start as u32,
                len: len as u32,
                layout,
            });
        }
        if !self.constants.is_ascii() {
            return Err(reader.corrupt("a variable isn't ASCII"));
        }
        let mut column = 0;
        for template in &mut self.templates {
            let start = column;
            while self
                .columns
                .get(column)
                .is_some_and(|column| (column.slot as usize) < template.text.end)
            {
                column += 1;
            }
            template.columns = start..column;
        }
        Ok(())
    }

    /// Columns follow each other through the chunks; no column lies in two.
    fn read_chunks(
        &mut self,
        reader: &mut Reader<'_>,
        stored: usize,
        limit: u64,
    ) -> Result<(), SegmentError> {
        let count = reader.count("chunks", u32::MAX.into())?;
        let limit = limit
            .saturating_mul(2)
            .saturating_add(1 << 20)
            .min(u32::MAX.into()) as u32;
        let plain = (0..count)
            .map(|_| reader.u32("bytes of a chunk", limit))
            .collect::<Result<Vec<_>, _>>()?;
        let mut end = 0usize;
        for plain_len in plain {
            let len = reader.u32("stored bytes of a chunk", u32::MAX)? as usize;
            self.chunks.push(Chunk {
                stored: end..end + len,
                plain_len: plain_len as usize,
            });
            end += len;
        }
        let (mut chunk, mut filled) = (0, 0);
        for column in self
            .columns
            .iter_mut()
            .filter(|column| column.layout != Layout::Constant)
        {
            while self
                .chunks
                .get(chunk)
                .is_some_and(|chunk| filled >= chunk.plain_len)
            {
                (chunk, filled) = (chunk + 1, 0);
            }
            let len = column.len as usize;
            if self
                .chunks
                .get(chunk)
                .is_none_or(|chunk| filled + len > chunk.plain_len)
            {
                return Err(reader.corrupt("a column lies beyond its chunk"));
            }
            (column.chunk, column.start) = (chunk as u32, filled as u32);
            filled += len;
        }
        if end != stored {
            return Err(reader.corrupt(format!("chunks have {end} bytes, the variables {stored}")));
        }
        Ok(())
    }
}
