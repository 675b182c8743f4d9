//! The lines of a block as templates: what is stored, decoded when something asks for it, and lines put together of it.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering},
};

use memchr::memmem;

use super::{
    directory::{Column, Directory},
    needle::Needle,
    rows::RowIndex,
    values::{Values, decode},
    words::{SLOT, Vocabulary},
};
use crate::{
    BlockMeta, ColumnKind, Lines, Part, SegmentError,
    compress::expand,
    decode::{Payload, checked_text},
    wire::Reader,
};

/// Bytes reserved at once for lines to come.
const MAX_RESERVED: usize = 16 << 20;

/// Bytes of the columns beside the templates, as far as they were read.
#[derive(Debug, Default)]
struct Stored {
    lengths: OnceLock<Vec<u8>>,
    ids: OnceLock<Vec<u8>>,
    variables: OnceLock<Vec<u8>>,
    other: OnceLock<Vec<u8>>,
}

impl Stored {
    fn cell(&self, kind: &ColumnKind) -> Option<&OnceLock<Vec<u8>>> {
        Some(match kind {
            ColumnKind::LineLengths => &self.lengths,
            ColumnKind::TemplateIds => &self.ids,
            ColumnKind::Variables => &self.variables,
            ColumnKind::OtherText => &self.other,
            _ => return None,
        })
    }

    fn heap_bytes(&self) -> usize {
        let columns = [&self.lengths, &self.ids, &self.variables, &self.other];
        columns
            .iter()
            .map(|column| column.get().map_or(0, Vec::len))
            .sum()
    }
}

/// The lines of a block that is stored as templates. Columns are decompressed when something needs them, once; many
/// threads may ask at a time.
#[derive(Debug)]
pub struct TemplateLines {
    base: Arc<Base>,
    decoded: Decoded,
}

/// What every search looks at, and what all else is decoded from.
#[derive(Debug)]
struct Base {
    meta: BlockMeta,
    stored: Stored,
    directory: Directory,
    /// The templates' text in lower case, for needles that ignore case.
    folded: OnceLock<Vec<u8>>,
}

/// What was decoded so far.
#[derive(Debug)]
struct Decoded {
    /// The variables column where it is compressed as a whole, on top of its chunks.
    variables: OnceLock<Option<Vec<u8>>>,
    chunks: Vec<OnceLock<Vec<u8>>>,
    /// Boxed: most columns are never looked at.
    values: OnceLock<Vec<OnceLock<Box<Values>>>>,
    /// Bytes of chunks and values so far, about.
    held: AtomicUsize,
    rows: OnceLock<RowIndex>,
    lengths: OnceLock<Vec<u32>>,
    /// Where that column is compressed.
    other_text: OnceLock<Option<Vec<u8>>>,
    other: OnceLock<Lines>,
}

impl Decoded {
    fn none_of(directory: &Directory) -> Self {
        Decoded {
            variables: OnceLock::new(),
            chunks: directory.chunks.iter().map(|_| OnceLock::new()).collect(),
            values: OnceLock::new(),
            held: AtomicUsize::new(0),
            rows: OnceLock::new(),
            lengths: OnceLock::new(),
            other_text: OnceLock::new(),
            other: OnceLock::new(),
        }
    }

    fn heap_bytes(&self) -> usize {
        let optional =
            |cell: &OnceLock<Option<Vec<u8>>>| cell.get().and_then(Option::as_ref).map_or(0, Vec::len);
        let other = self.other.get();
        let other = other.map_or(0, |lines| lines.text().len() + lines.offsets().len() * 4);
        let cell = size_of::<OnceLock<Box<Values>>>();
        let cells = self.values.get().map_or(0, |values| values.len() * cell);
        self.held.load(Ordering::Relaxed)
            + self.rows.get().map_or(0, RowIndex::heap_bytes)
            + self.lengths.get().map_or(0, |lengths| lengths.len() * 4)
            + optional(&self.variables)
            + optional(&self.other_text)
            + other
            + cells
    }
}

impl TemplateLines {
    /// Lines of the templates in `templates`; what else they are made of is yet to be supplied.
    pub(crate) fn new(meta: &BlockMeta, templates: &[u8]) -> Result<Self, SegmentError> {
        let (part, payload) = meta.sole_layout(&ColumnKind::Templates, templates)?;
        let reader = Reader::new(payload.as_slice(), &part);
        let variables = meta.column(&ColumnKind::Variables).map_or(0, |column| column.len);
        let directory = Directory::read(reader, meta.rows, variables as usize, meta.line_bytes)?;
        Ok(TemplateLines {
            decoded: Decoded::none_of(&directory),
            base: Arc::new(Base {
                meta: meta.clone(),
                stored: Stored::default(),
                directory,
                folded: OnceLock::new(),
            }),
        })
    }

    /// Hands over the bytes of a column of the lines beside the templates; of one that is there already, and of columns
    /// of other kinds, nothing is kept.
    pub fn supply(&self, kind: &ColumnKind, bytes: &[u8]) {
        if let Some(cell) = self.base.stored.cell(kind) {
            cell.get_or_init(|| bytes.to_vec());
        }
    }

    /// Whether the column needs no supplying: it is there, or no part of the lines.
    #[must_use]
    pub fn has(&self, kind: &ColumnKind) -> bool {
        let cell = self.base.stored.cell(kind);
        cell.is_none_or(|cell| cell.get().is_some())
    }

    fn stored(&self, kind: &ColumnKind) -> Result<&[u8], SegmentError> {
        let bytes = self.base.stored.cell(kind).and_then(OnceLock::get);
        let missing = || SegmentError::corrupt(self.part(kind.clone()), "was not read");
        bytes.map(Vec::as_slice).ok_or_else(missing)
    }

    /// The same lines without what was decoded of them beyond templates.
    #[must_use]
    pub fn bare(&self) -> Self {
        TemplateLines {
            base: Arc::clone(&self.base),
            decoded: Decoded::none_of(&self.base.directory),
        }
    }

    /// Rows of the block.
    #[must_use]
    pub fn rows(&self) -> u32 {
        self.base.meta.rows
    }

    /// Bytes of each line.
    ///
    /// # Errors
    /// When the bytes are corrupt, here and in all that follow.
    pub fn lengths(&self) -> Result<&[u32], SegmentError> {
        let lengths = get_or_try(&self.decoded.lengths, || {
            let stored = self.stored(&ColumnKind::LineLengths)?;
            self.base.meta.decode_line_lengths(stored)
        })?;
        Ok(lengths)
    }

    /// The lines of `rows`, in their order; each must be a row of the block. Ascending rows are found fastest.
    pub fn lines(&self, rows: &[u32]) -> Result<Lines, SegmentError> {
        let mut text = Vec::new();
        let mut offsets = Vec::with_capacity(rows.len() + 1);
        offsets.push(0);
        let mut places = self.places()?;
        for (done, row) in rows.iter().enumerate() {
            let start = text.len();
            places.put_line(*row, &mut text)?;
            if (text.len() - start) as u64 > self.base.meta.line_bytes || text.len() > u32::MAX as usize {
                return Err(self.wrong(format!("row {row} has more bytes than all lines of the block")));
            }
            offsets.push(text.len() as u32);
            // Room for all once it is known what lines of this block are like.
            if done == 15 {
                text.reserve((text.len() / 16 * (rows.len() - 16)).min(MAX_RESERVED));
            }
        }
        let text = checked_text(text, &offsets, &Part::Block(self.base.meta.index))?;
        Ok(Lines::new(text, offsets))
    }

    /// All lines.
    pub fn all_lines(&self) -> Result<Lines, SegmentError> {
        let rows: Vec<u32> = (0..self.base.meta.rows).collect();
        let lines = self.lines(&rows)?;
        let ends = lines.offsets().windows(2).map(|pair| pair[1] - pair[0]);
        if !ends.eq(self.lengths()?.iter().copied()) {
            return Err(self.wrong("lines have other lengths than are declared".to_owned()));
        }
        Ok(lines)
    }

    /// Where lines are, for a reader that goes through rows.
    pub fn places(&self) -> Result<Places<'_>, SegmentError> {
        Ok(Places {
            index: self.index()?,
            lines: self,
            ordinals: vec![0; self.base.directory.templates.len() + 1],
        })
    }

    /// How many templates there are.
    #[must_use]
    pub fn templates(&self) -> usize {
        self.base.directory.templates.len()
    }

    /// Where a text stands in a template, which tells where it stands in all of its lines; `None` when its lines may
    /// have it elsewhere, too.
    #[must_use]
    pub fn find(&self, template: usize, needle: &Needle) -> Option<Vec<TemplatePlace>> {
        let of_numbers = template < self.base.directory.of_numbers;
        let vocabulary = if of_numbers {
            Vocabulary::Numbers
        } else {
            Vocabulary::Values
        };
        let text = needle.in_templates(vocabulary)?;
        let template = self.base.directory.templates.get(template)?;
        let hits = memmem::find_iter(&self.base.directory.text[template.text.clone()], text);
        let columns = &self.base.directory.columns[template.columns.clone()];
        let place = |hit| {
            let at = template.text.start + hit;
            let before = columns.partition_point(|column| (column.slot as usize) < at);
            TemplatePlace {
                end: template.text.end,
                columns: template.columns.end,
                rows: template.rows,
                at,
                column: template.columns.start + before,
            }
        };
        Some(hits.map(place).collect())
    }

    /// Gives the bytes of a line from a place of its template on, piece by piece, until `next` says false: those of
    /// the `ordinal`-th line, or those that all lines of the template share.
    ///
    /// # Errors
    /// When the bytes are corrupt.
    pub fn walk(
        &self,
        mut place: TemplatePlace,
        ordinal: Option<u32>,
        mut next: impl FnMut(&[u8]) -> bool,
    ) -> Result<Stop, SegmentError> {
        let text = &self.base.directory.text;
        while place.column < place.columns {
            let column = &self.base.directory.columns[place.column];
            let slot = column.slot as usize;
            if place.at < slot && !next(&text[place.at..slot]) {
                return Ok(Stop::Asked);
            }
            place.at = slot;
            let value = match (self.base.directory.constant(column), ordinal) {
                (Some(value), _) => value,
                (None, Some(ordinal)) => self.values(place.column, place.rows)?.get(ordinal as usize),
                (None, None) => return Ok(Stop::Variable(place)),
            };
            if !next(value) {
                return Ok(Stop::Asked);
            }
            place.column += 1;
            place.at = slot + 1;
        }
        if place.at < place.end && !next(&text[place.at..place.end]) {
            return Ok(Stop::Asked);
        }
        Ok(Stop::End)
    }

    pub(super) fn directory(&self) -> &Directory {
        &self.base.directory
    }

    /// The templates' text in lower case.
    pub(super) fn folded_text(&self) -> &[u8] {
        self.base
            .folded
            .get_or_init(|| self.base.directory.text.to_ascii_lowercase())
    }

    pub(super) fn index(&self) -> Result<&RowIndex, SegmentError> {
        get_or_try(&self.decoded.rows, || {
            let templates = &self.base.directory.templates;
            let ids = self
                .base
                .meta
                .decode_template_ids(self.stored(&ColumnKind::TemplateIds)?, templates.len())?;
            let index = RowIndex::new(&ids, templates.len());
            let declared = templates.iter().map(|template| template.rows);
            if !(1..=templates.len()).map(|id| index.count(id)).eq(declared) {
                return Err(self.wrong("templates have other rows than the directory says".to_owned()));
            }
            Ok(index)
        })
    }

    /// How many lines have no template.
    pub(super) fn other_rows(&self) -> u32 {
        let with: u32 = self
            .base
            .directory
            .templates
            .iter()
            .map(|template| template.rows)
            .sum();
        self.base.meta.rows.saturating_sub(with)
    }

    /// The lines without a template, one after another.
    pub(super) fn other_text(&self) -> Result<&[u8], SegmentError> {
        let stored = self.stored(&ColumnKind::OtherText)?;
        if stored.is_empty() {
            return Ok(&[]);
        }
        let text = get_or_try(&self.decoded.other_text, || {
            let (_, payload) = self.base.meta.sole_layout(&ColumnKind::OtherText, stored)?;
            Ok(match payload {
                Payload::Stored(_) => None,
                Payload::Expanded(text) => Some(text),
            })
        })?;
        Ok(text.as_deref().unwrap_or(stored))
    }

    /// The lines without a template.
    pub(super) fn other(&self) -> Result<&Lines, SegmentError> {
        get_or_try(&self.decoded.other, || {
            let (lengths, index) = (self.lengths()?, self.index()?);
            let mut offsets = vec![0u32];
            let mut end = 0u32;
            for ordinal in 0..index.count(0) {
                let row = index.row(0, ordinal).unwrap_or(0);
                end = end.saturating_add(lengths.get(row as usize).copied().unwrap_or(0));
                offsets.push(end);
            }
            let text = self.other_text()?.to_vec();
            let part = self.part(ColumnKind::OtherText);
            Ok(Lines::new(checked_text(text, &offsets, &part)?, offsets))
        })
    }

    /// The values of a column that is no constant, of a template with `rows` rows.
    pub(super) fn values(&self, number: usize, rows: u32) -> Result<&Values, SegmentError> {
        let values = self.decoded.values.get_or_init(|| {
            let columns = self.base.directory.columns.iter();
            columns.map(|_| OnceLock::new()).collect()
        });
        get_or_try(&values[number], || {
            let (column, stamp) = (
                &self.base.directory.columns[number],
                &self.base.directory.stamps[number],
            );
            let part = self.part(ColumnKind::Variables);
            let bytes = self.chunk(column)?.get(column.bytes()).unwrap_or_default();
            let reader = Reader::new(bytes, &part);
            let limit = self.base.meta.line_bytes;
            let values = decode(column.layout, stamp, rows as usize, limit, reader)?;
            self.hold(size_of::<Values>() + values.heap_bytes());
            Ok(Box::new(values))
        })
        .map(|values| &**values)
    }

    fn chunk(&self, column: &Column) -> Result<&Vec<u8>, SegmentError> {
        get_or_try(&self.decoded.chunks[column.chunk as usize], || {
            let part = self.part(ColumnKind::Variables);
            let stored = self.stored(&ColumnKind::Variables)?;
            let variables = get_or_try(&self.decoded.variables, || {
                let (_, payload) = self.base.meta.sole_layout(&ColumnKind::Variables, stored)?;
                Ok(match payload {
                    Payload::Stored(_) => None,
                    Payload::Expanded(bytes) => Some(bytes),
                })
            })?;
            let variables = variables.as_deref().unwrap_or(stored);
            let chunk = &self.base.directory.chunks[column.chunk as usize];
            let stored = variables.get(chunk.stored.clone()).unwrap_or_default();
            self.hold(chunk.plain_len);
            if stored.len() == chunk.plain_len {
                return Ok(stored.to_vec());
            }
            expand(stored, chunk.plain_len, &part)
        })
    }

    fn hold(&self, bytes: usize) {
        self.decoded.held.fetch_add(bytes, Ordering::Relaxed);
    }

    fn part(&self, kind: ColumnKind) -> Part {
        Part::Column {
            block: self.base.meta.index,
            kind,
        }
    }

    fn wrong(&self, reason: String) -> SegmentError {
        SegmentError::corrupt(self.part(ColumnKind::TemplateIds), reason)
    }

    /// Heap bytes of what [`TemplateLines::bare`] shares, for memory budgets.
    #[must_use]
    pub fn base_bytes(&self) -> usize {
        let base = &self.base;
        base.stored.heap_bytes() + base.directory.heap_bytes() + base.folded.get().map_or(0, Vec::len)
    }

    /// Heap bytes of what was decoded so far, for memory budgets.
    #[must_use]
    pub fn decoded_bytes(&self) -> usize {
        self.decoded.heap_bytes()
    }
}

/// A place in a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TemplatePlace {
    /// Where the template's text ends, or the part of it that is walked; the number after the last column there, and the
    /// template's rows.
    pub(super) end: usize,
    pub(super) columns: usize,
    pub(super) rows: u32,
    /// In the templates' text.
    pub(super) at: usize,
    /// The first column at or behind it.
    pub(super) column: usize,
}

/// Why [`TemplateLines::walk`] stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It was told to.
    Asked,
    /// At a variable that isn't the same in all lines.
    Variable(TemplatePlace),
    /// At the line's end.
    End,
}

/// Goes through rows of a block and says where their lines are.
#[derive(Debug)]
pub struct Places<'a> {
    lines: &'a TemplateLines,
    index: &'a RowIndex,
    /// Of each id: the ordinal found last.
    ordinals: Vec<u32>,
}

impl Places<'_> {
    /// The row's template.
    ///
    /// # Errors
    /// No such row.
    pub fn template(&self, row: u32) -> Result<Option<usize>, SegmentError> {
        Ok(self.id(row)?.checked_sub(1))
    }

    /// The id of the row's template, 0 where it has none.
    pub(super) fn id(&self, row: u32) -> Result<usize, SegmentError> {
        let id = self.index.id(row);
        let id = id.ok_or_else(|| self.lines.wrong(format!("has no row {row}")))?;
        Ok(id as usize)
    }

    /// The row's template, and how many rows before it have the same.
    ///
    /// # Errors
    /// No such row.
    pub fn locate(&mut self, row: u32) -> Result<(Option<usize>, u32), SegmentError> {
        let id = self.id(row)?;
        let ordinal = self.index.ordinal(id, row, self.ordinals[id]);
        self.ordinals[id] = ordinal;
        Ok((id.checked_sub(1), ordinal))
    }

    /// Puts the row's line into `out`.
    ///
    /// # Errors
    /// When the bytes are corrupt.
    pub fn line(&mut self, row: u32, out: &mut String) -> Result<(), SegmentError> {
        let mut bytes = std::mem::take(out).into_bytes();
        bytes.clear();
        self.put_line(row, &mut bytes)?;
        *out = String::from_utf8(bytes).map_err(|why| self.lines.wrong(why.to_string()))?;
        Ok(())
    }

    fn put_line(&mut self, row: u32, out: &mut Vec<u8>) -> Result<(), SegmentError> {
        let (template, ordinal) = self.locate(row)?;
        let Some(number) = template else {
            let other = self.lines.other()?;
            if ordinal as usize >= other.rows() {
                return Err(self.lines.wrong(format!("has no row {row}")));
            }
            out.extend_from_slice(other.get(ordinal as usize).as_bytes());
            return Ok(());
        };
        let template = &self.lines.base.directory.templates[number];
        let place = TemplatePlace {
            end: template.text.end,
            columns: template.columns.end,
            rows: template.rows,
            at: template.text.start,
            column: template.columns.start,
        };
        self.lines.walk(place, Some(ordinal), |bytes| {
            out.extend_from_slice(bytes);
            true
        })?;
        Ok(())
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

const _: () = assert!(SLOT.is_ascii_digit());
