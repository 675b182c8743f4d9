//! The lines of a block of templates on their way into another block, in order: handed on as they are split, so that
//! no line is put together and split again. Knows nothing of streams and times.
//!
//! Every byte may be wrong here as well: what is handed on is checked to be a template and variables of the format.

use std::sync::Arc;

use super::{
    build::Splitter,
    directory::{Column, Directory},
    values::{Stamp, Values, decode},
};
use crate::{
    BlockMeta, ColumnKind, Lines, Part, SegmentError, compress::expand, decode::checked_text, wire::Reader,
};

/// A block's lines.
#[derive(Debug)]
pub(crate) struct SplitLines {
    directory: Directory,
    /// Of each row: template + 1, 0 for none.
    ids: Vec<u32>,
    /// Bytes of each line.
    lengths: Vec<u32>,
    /// Of each column; `None` for constants.
    values: Vec<Option<Values>>,
    /// The lines without a template.
    other: Lines,
}

/// A row that has a template.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) template: u32,
    /// Its number among the rows of the template.
    pub(crate) ordinal: u32,
}

/// Goes through a block's lines in order.
#[derive(Debug)]
pub(crate) struct SplitCursor {
    lines: Arc<SplitLines>,
    /// The row that comes next.
    row: usize,
    /// Of each id, how many rows of it have been read.
    read: Vec<u32>,
    /// Number of the output's block that the next two are about.
    of_block: u32,
    /// The number of this block among those that rows of the output's block come from.
    number: Option<u32>,
    /// Of each template its group in the output's block; `NO_GROUP` where it isn't known yet.
    groups: Vec<u32>,
}

const NO_GROUP: u32 = u32::MAX;

impl SplitCursor {
    pub(crate) fn new(lines: SplitLines) -> Self {
        let templates = lines.directory.templates.len();
        SplitCursor {
            lines: Arc::new(lines),
            row: 0,
            read: vec![0; templates + 1],
            of_block: 0,
            number: None,
            groups: vec![NO_GROUP; templates],
        }
    }

    /// Bytes of the next line; 0 beyond the last one.
    pub(crate) fn next_len(&self) -> usize {
        let length = self.lines.lengths.get(self.row);
        length.map_or(0, |&length| length as usize)
    }

    /// Whether the next line has a template of the first vocabulary, which holds in any block.
    pub(crate) fn next_is_split(&self) -> bool {
        self.next_place()
            .is_some_and(|place| (place.template as usize) < self.lines.directory.of_numbers)
    }

    fn next_place(&self) -> Option<Place> {
        let id = *self.lines.ids.get(self.row)?;
        Some(Place {
            template: id.checked_sub(1)?,
            ordinal: self.read[id as usize],
        })
    }

    /// Appends the next line.
    pub(crate) fn put_next(&self, out: &mut Vec<u8>) {
        if let Some(place) = self.next_place() {
            return self.lines.put_line(place, out);
        }
        let read = self.read[0] as usize;
        if read < self.lines.other.rows() {
            out.extend_from_slice(self.lines.other.get(read).as_bytes());
        }
    }

    /// Adds the next line, one of [`SplitCursor::next_is_split`], as `row` to the output's block number `block`.
    pub(crate) fn hand_on(&mut self, row: u32, block: u32, splitter: &mut Splitter) {
        let Some(place) = self.next_place() else {
            return;
        };
        if self.of_block != block {
            self.of_block = block;
            self.number = None;
            self.groups.fill(NO_GROUP);
        }
        let number = *self
            .number
            .get_or_insert_with(|| splitter.add_source(Arc::clone(&self.lines)));
        let group = &mut self.groups[place.template as usize];
        if *group == NO_GROUP {
            *group = splitter.group(self.lines.template(place.template));
        }
        splitter.add_split(row, *group, number, place);
    }

    /// Goes on to the line after the next.
    pub(crate) fn advance(&mut self) {
        if let Some(&id) = self.lines.ids.get(self.row) {
            self.read[id as usize] += 1;
        }
        self.row += 1;
    }
}

impl SplitLines {
    /// `bytes` gives those of the line lengths and of each column that [`ColumnKind::is_text`].
    pub(crate) fn decode<'a>(
        meta: &BlockMeta,
        bytes: impl Fn(&ColumnKind) -> Result<&'a [u8], SegmentError>,
    ) -> Result<Self, SegmentError> {
        let (part, payload) = meta.sole_layout(&ColumnKind::Templates, bytes(&ColumnKind::Templates)?)?;
        let (_, variables) = meta.sole_layout(&ColumnKind::Variables, bytes(&ColumnKind::Variables)?)?;
        let reader = Reader::new(payload.as_slice(), &part);
        let variables = variables.as_slice();
        let directory = Directory::read(reader, meta.rows, variables.len(), meta.line_bytes)?;
        let lengths = meta.decode_line_lengths(bytes(&ColumnKind::LineLengths)?)?;
        let ids = meta.decode_template_ids(bytes(&ColumnKind::TemplateIds)?, directory.templates.len())?;
        check_rows(meta, &directory, &ids)?;
        let values = decode_values(meta, &directory, variables)?;
        let other = other_lines(meta, bytes(&ColumnKind::OtherText)?, &ids, &lengths)?;
        let lines = SplitLines {
            directory,
            ids,
            lengths,
            values,
            other,
        };
        lines.check_lengths(meta)?;
        Ok(lines)
    }

    /// The text of a template.
    pub(crate) fn template(&self, number: u32) -> &[u8] {
        &self.directory.text[self.directory.templates[number as usize].text.clone()]
    }

    /// Appends a line.
    pub(crate) fn put_line(&self, place: Place, out: &mut Vec<u8>) {
        let template = &self.directory.templates[place.template as usize];
        let mut at = template.text.start;
        for column in template.columns.clone() {
            let slot = self.directory.columns[column].slot as usize;
            out.extend_from_slice(&self.directory.text[at..slot]);
            out.extend_from_slice(self.variable(column, place.ordinal as usize));
            at = slot + 1;
        }
        out.extend_from_slice(&self.directory.text[at..template.text.end]);
    }

    /// The variable in the slot of that number.
    pub(crate) fn value(&self, place: Place, slot: usize) -> &[u8] {
        let column = self.directory.templates[place.template as usize].columns.start + slot;
        self.variable(column, place.ordinal as usize)
    }

    fn variable(&self, column: usize, ordinal: usize) -> &[u8] {
        match &self.values[column] {
            Some(values) => values.get(ordinal),
            None => self
                .directory
                .constant(&self.directory.columns[column])
                .unwrap_or_default(),
        }
    }

    /// Every line is as long as the block says.
    fn check_lengths(&self, meta: &BlockMeta) -> Result<(), SegmentError> {
        let of_template = |number: usize| {
            let template = &self.directory.templates[number];
            let columns = template.columns.clone();
            // What is the same in all rows, and the columns that aren't.
            let mut same = template.text.len() - columns.len();
            let mut other = Vec::new();
            for column in columns {
                match (&self.values[column], self.directory.stamps[column]) {
                    (Some(values), stamp) if stamp.min_len != stamp.max_len => other.push(values),
                    (_, stamp) => same += stamp.min_len as usize,
                }
            }
            (same, other)
        };
        let templates: Vec<_> = (0..self.directory.templates.len()).map(of_template).collect();
        let mut read = vec![0usize; templates.len()];
        for (row, (&id, &length)) in self.ids.iter().zip(&self.lengths).enumerate() {
            let Some(number) = (id as usize).checked_sub(1) else {
                continue;
            };
            let (same, other) = &templates[number];
            let varying: usize = other.iter().map(|values| values.get(read[number]).len()).sum();
            read[number] += 1;
            if same + varying != length as usize {
                let reason = format!("row {row} has {} bytes, {length} are declared", same + varying);
                return Err(wrong(meta, ColumnKind::TemplateIds, reason));
            }
        }
        Ok(())
    }
}

fn wrong(meta: &BlockMeta, kind: ColumnKind, reason: impl Into<String>) -> SegmentError {
    let block = meta.index;
    SegmentError::corrupt(Part::Column { block, kind }, reason)
}

/// The templates have as many rows as the directory says.
fn check_rows(meta: &BlockMeta, directory: &Directory, ids: &[u32]) -> Result<(), SegmentError> {
    let mut rows = vec![0u32; directory.templates.len() + 1];
    ids.iter().for_each(|&id| rows[id as usize] += 1);
    let declared = directory.templates.iter().map(|template| template.rows);
    if rows[1..].iter().copied().eq(declared) {
        return Ok(());
    }
    let reason = "templates have other rows than the directory says";
    Err(wrong(meta, ColumnKind::TemplateIds, reason))
}

/// The values of all columns, one chunk after another.
fn decode_values(
    meta: &BlockMeta,
    directory: &Directory,
    variables: &[u8],
) -> Result<Vec<Option<Values>>, SegmentError> {
    let part = Part::Column {
        block: meta.index,
        kind: ColumnKind::Variables,
    };
    let mut chunk: Option<(u32, Vec<u8>)> = None;
    let mut decode_column = |column: &Column, stamp: &Stamp, rows: u32| {
        if chunk.as_ref().is_none_or(|(number, _)| *number != column.chunk) {
            chunk = None;
            chunk = Some((
                column.chunk,
                expand_chunk(directory, column.chunk, variables, &part)?,
            ));
        }
        let bytes = chunk.as_ref().and_then(|(_, bytes)| bytes.get(column.bytes()));
        let reader = Reader::new(bytes.unwrap_or_default(), &part);
        let (rows, limit) = (rows as usize, meta.line_bytes);
        let values = decode(column.layout, stamp, rows, limit, reader)?;
        if stamp.min_len == 0 || !values.are_words() {
            return Err(wrong(meta, ColumnKind::Variables, "a variable is no word"));
        }
        Ok(values)
    };
    let mut values = Vec::with_capacity(directory.columns.len());
    for template in &directory.templates {
        let stamps = &directory.stamps[template.columns.clone()];
        for (column, stamp) in directory.columns[template.columns.clone()].iter().zip(stamps) {
            values.push(match directory.constant(column) {
                Some(value) if !value.is_empty() && value.iter().all(u8::is_ascii_alphanumeric) => None,
                Some(_) => return Err(wrong(meta, ColumnKind::Templates, "a constant is no word")),
                None => Some(decode_column(column, stamp, template.rows)?),
            });
        }
    }
    Ok(values)
}

fn expand_chunk(
    directory: &Directory,
    number: u32,
    variables: &[u8],
    part: &Part,
) -> Result<Vec<u8>, SegmentError> {
    let Some(chunk) = directory.chunks.get(number as usize) else {
        return Err(SegmentError::corrupt(
            part.clone(),
            format!("has no chunk {number}"),
        ));
    };
    let stored = variables.get(chunk.stored.clone()).unwrap_or_default();
    if stored.len() == chunk.plain_len {
        return Ok(stored.to_vec());
    }
    expand(stored, chunk.plain_len, part)
}

/// The lines without a template.
fn other_lines(meta: &BlockMeta, bytes: &[u8], ids: &[u32], lengths: &[u32]) -> Result<Lines, SegmentError> {
    let mut offsets = vec![0u32];
    let mut end = 0u32;
    for (_, &length) in ids.iter().zip(lengths).filter(|(id, _)| **id == 0) {
        end = end.saturating_add(length);
        offsets.push(end);
    }
    let (part, payload) = meta.sole_layout(&ColumnKind::OtherText, bytes)?;
    Ok(Lines::new(
        checked_text(payload.into_vec(), &offsets, &part)?,
        offsets,
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use crate::{Finished, SegmentWriter, WriterOptions};

    use super::*;

    fn write(lines: &[String]) -> Finished {
        let mut writer = SegmentWriter::new(WriterOptions {
            templates: true,
            ..WriterOptions::default()
        });
        writer.begin_stream(&[("a", "b")]).unwrap();
        lines.iter().for_each(|line| writer.push(0, line, &[]).unwrap());
        writer.finish().unwrap()
    }

    proptest! {
        #[test]
        fn lines_come_in_order_and_whole(
            lines in prop::collection::vec(
                prop_oneof![
                    "step [0-9]{1,3} of [0-9a-f]{4}",
                    "user=[a-z]{3}",
                    Just("always the same".to_owned()),
                    any::<String>(),
                ],
                1..200,
            ),
        ) {
            let finished = write(&lines);
            for meta in finished.footer.blocks.iter().filter(|block| block.has_templates()) {
                let bytes = |kind: &ColumnKind| {
                    let range = meta.column(kind).unwrap().range();
                    Ok(&finished.bytes[range.start as usize..range.end as usize])
                };
                let mut split = SplitCursor::new(SplitLines::decode(meta, bytes).unwrap());
                for line in &lines {
                    let mut whole = Vec::new();
                    split.put_next(&mut whole);
                    prop_assert_eq!(split.next_len(), line.len());
                    prop_assert_eq!(String::from_utf8(whole).unwrap(), line.as_str());
                    split.advance();
                }
            }
        }
    }
}
