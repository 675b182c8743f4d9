//! The lines of a block as templates: searched without being put together, put together where asked for.

use std::sync::{
    OnceLock,
    atomic::{AtomicUsize, Ordering},
};

use memchr::memmem::Finder;

use super::{
    directory::{Column, Directory},
    needle::{Needle, Reading},
    values::{Values, decode},
    words::{SLOT, Vocabulary},
};
use crate::{
    BlockMeta, ColumnKind, Lines, Part, SegmentError,
    compress::expand,
    decode::{Payload, checked_text},
    wire::Reader,
};

/// Bytes of the columns that hold a block's lines as templates.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) lengths: Vec<u8>,
    pub(crate) templates: Vec<u8>,
    pub(crate) ids: Vec<u8>,
    pub(crate) variables: Vec<u8>,
    pub(crate) other: Vec<u8>,
}

impl Stored {
    fn heap_bytes(&self) -> usize {
        let columns = [
            &self.lengths,
            &self.templates,
            &self.ids,
            &self.variables,
            &self.other,
        ];
        columns.iter().map(|bytes| bytes.len()).sum()
    }
}

/// The lines of a block that is stored as templates. Columns are decompressed when something needs them, once; many
/// threads may ask at a time.
#[derive(Debug)]
pub struct TemplateLines {
    meta: BlockMeta,
    stored: Stored,
    directory: Directory,
    /// The templates' text in lower case, for needles that ignore case.
    folded: OnceLock<Vec<u8>>,
    /// The variables column where it is compressed as a whole, on top of its chunks.
    variables: OnceLock<Option<Vec<u8>>>,
    chunks: Vec<OnceLock<Vec<u8>>>,
    /// Boxed: most columns are never looked at.
    values: Vec<OnceLock<Box<Values>>>,
    /// Bytes of chunks and values so far, about.
    held: AtomicUsize,
    rows: OnceLock<RowIndex>,
    lengths: OnceLock<Vec<u32>>,
    other: OnceLock<Lines>,
}

/// Which rows have which template.
#[derive(Debug)]
struct RowIndex {
    /// Of each row: template + 1, 0 for none.
    ids: Vec<u32>,
    /// Of each row: how many rows before it have the same id.
    ordinals: Vec<u32>,
    /// Rows by id, ascending within one.
    rows: Vec<u32>,
    /// Where the rows of each id start in `rows`, and the end.
    starts: Vec<u32>,
}

impl RowIndex {
    fn rows_of(&self, id: usize) -> &[u32] {
        let (Some(&start), Some(&end)) = (self.starts.get(id), self.starts.get(id + 1)) else {
            return &[];
        };
        &self.rows[start as usize..end as usize]
    }
}

/// Long s and the Kelvin sign, which are `s` and `k` when case is ignored.
const FOLDED: [&str; 2] = ["\u{17f}", "\u{212a}"];

/// Rows of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowSet {
    rows: u32,
    bits: Vec<u64>,
}

impl RowSet {
    /// No row of a block of `rows`.
    #[must_use]
    pub fn empty(rows: u32) -> Self {
        RowSet {
            rows,
            bits: vec![0; rows.div_ceil(64) as usize],
        }
    }

    /// All rows of a block of `rows`.
    #[must_use]
    pub fn all(rows: u32) -> Self {
        let mut set = Self::empty(rows);
        set.bits.fill(u64::MAX);
        if let Some(last) = set.bits.last_mut()
            && !rows.is_multiple_of(64)
        {
            *last = (1 << (rows % 64)) - 1;
        }
        set
    }

    /// Leaves out the rows that `other` doesn't have.
    pub fn intersect(&mut self, other: &RowSet) {
        self.bits
            .iter_mut()
            .zip(&other.bits)
            .for_each(|(bits, other)| *bits &= other);
    }

    /// Leaves out the rows that `other` has.
    pub fn subtract(&mut self, other: &RowSet) {
        self.bits
            .iter_mut()
            .zip(&other.bits)
            .for_each(|(bits, other)| *bits &= !other);
    }

    /// Adds a row; one beyond the block is left out.
    pub fn insert(&mut self, row: u32) {
        if row < self.rows {
            self.bits[row as usize / 64] |= 1 << (row % 64);
        }
    }

    /// Whether the row is one of them.
    #[must_use]
    pub fn contains(&self, row: u32) -> bool {
        self.bits
            .get(row as usize / 64)
            .is_some_and(|bits| bits >> (row % 64) & 1 == 1)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bits.iter().all(|&bits| bits == 0)
    }

    /// The rows in `range`, ascending.
    pub fn rows_in(&self, range: std::ops::Range<u32>) -> impl Iterator<Item = u32> + '_ {
        let (start, end) = (range.start, range.end.min(self.rows));
        (start / 64..end.div_ceil(64)).flat_map(move |word| {
            let mut bits = self.bits.get(word as usize).copied().unwrap_or(0);
            std::iter::from_fn(move || {
                if bits == 0 {
                    return None;
                }
                let row = word * 64 + bits.trailing_zeros();
                bits &= bits - 1;
                Some(row)
            })
            .filter(move |row| (start..end).contains(row))
        })
    }
}

/// The rows of one template that were found.
enum Found {
    None,
    All,
    /// By ordinal.
    Some(RowSet),
}

impl TemplateLines {
    pub(crate) fn new(meta: &BlockMeta, mut stored: Stored) -> Result<Self, SegmentError> {
        let templates = std::mem::take(&mut stored.templates);
        let (part, payload) = meta.sole_layout(&ColumnKind::Templates, &templates)?;
        let reader = Reader::new(payload.as_slice(), &part);
        let directory = Directory::read(reader, meta.rows, stored.variables.len(), meta.line_bytes)?;
        Ok(TemplateLines {
            meta: meta.clone(),
            stored,
            folded: OnceLock::new(),
            variables: OnceLock::new(),
            chunks: directory.chunks.iter().map(|_| OnceLock::new()).collect(),
            values: directory.columns.iter().map(|_| OnceLock::new()).collect(),
            directory,
            held: AtomicUsize::new(0),
            rows: OnceLock::new(),
            lengths: OnceLock::new(),
            other: OnceLock::new(),
        })
    }

    /// Rows of the block.
    #[must_use]
    pub fn rows(&self) -> u32 {
        self.meta.rows
    }

    /// Bytes of each line.
    ///
    /// # Errors
    /// When the bytes are corrupt, here and in all that follow.
    pub fn lengths(&self) -> Result<&[u32], SegmentError> {
        let lengths = get_or_try(&self.lengths, || {
            self.meta.decode_line_lengths(&self.stored.lengths)
        })?;
        Ok(lengths)
    }

    /// The rows whose line contains the needle: all of them and no other. When case is ignored, rows may be too many:
    /// letters beyond ASCII can be equal to ASCII ones in a regular expression's eyes.
    pub fn rows_with(&self, needle: &Needle) -> Result<RowSet, SegmentError> {
        let mut found: Vec<Found> = self.directory.templates.iter().map(|_| Found::None).collect();
        let text = if needle.ignores_case() {
            self.folded
                .get_or_init(|| self.directory.text.to_ascii_lowercase())
        } else {
            &self.directory.text
        };
        for vocabulary in Vocabulary::ALL {
            for reading in needle.readings(vocabulary) {
                self.search_templates(text, vocabulary, reading, needle.ignores_case(), &mut found)?;
            }
        }
        let mut rows = RowSet::empty(self.meta.rows);
        if found.iter().any(|found| !matches!(found, Found::None)) {
            let index = self.index()?;
            for (template, found) in found.iter().enumerate() {
                let of_template = index.rows_of(template + 1);
                match found {
                    Found::None => {}
                    Found::All => of_template.iter().for_each(|&row| rows.insert(row)),
                    Found::Some(ordinals) => {
                        let found = ordinals.rows_in(0..of_template.len() as u32);
                        found.for_each(|ordinal| rows.insert(of_template[ordinal as usize]));
                    }
                }
            }
        }
        self.search_other(needle, &mut rows)?;
        if needle.is_folded_beyond_ascii() {
            self.add_folded(&mut rows)?;
        }
        Ok(rows)
    }

    fn search_templates(
        &self,
        text: &[u8],
        vocabulary: Vocabulary,
        reading: &Reading,
        ignore_case: bool,
        found: &mut [Found],
    ) -> Result<(), SegmentError> {
        let templates = &self.directory.templates[self.directory.of_vocabulary(vocabulary)];
        let (Some(first), Some(last)) = (templates.first(), templates.last()) else {
            return Ok(());
        };
        let finder = Finder::new(&reading.template);
        let (mut at, end) = (first.text.start, last.text.end);
        while let Some(hit) = finder.find(&text[at..end]) {
            let hit = at + hit;
            at = hit + 1;
            let template = self.directory.template_at(hit);
            let range = self.directory.templates[template].text.clone();
            if hit + reading.template.len() > range.end {
                continue;
            }
            if !matches!(found[template], Found::All) {
                self.check_variables(template, hit, reading, ignore_case, &mut found[template])?;
            }
            if matches!(found[template], Found::All) {
                at = range.end;
            }
        }
        Ok(())
    }

    /// Adds the template's rows whose variables meet the reading, which the template meets at `hit`.
    fn check_variables(
        &self,
        template: usize,
        hit: usize,
        reading: &Reading,
        ignore_case: bool,
        found: &mut Found,
    ) -> Result<(), SegmentError> {
        let template = &self.directory.templates[template];
        let columns = template.columns.clone();
        let first =
            columns.start + self.directory.columns[columns].partition_point(|column| column.slot < hit);
        let columns = first..first + reading.parts.len();
        let pairs = || columns.clone().zip(&reading.parts);
        let column = |number: usize| &self.directory.columns[number];
        if !pairs().all(|(number, part)| part.may_be_in(&column(number).stamp, ignore_case)) {
            return Ok(());
        }
        let constants =
            || pairs().filter_map(|(number, part)| Some((self.directory.constant(column(number))?, part)));
        if !constants().all(|(value, part)| part.is_met_by(value, ignore_case)) {
            return Ok(());
        }
        let mut passed: Option<Vec<u32>> = None;
        for (number, part) in pairs().filter(|(number, _)| self.directory.constant(column(*number)).is_none())
        {
            let values = self.values(number, template.rows)?;
            let now = values.matching(passed.as_deref(), |value| part.is_met_by(value, ignore_case));
            if now.is_empty() {
                return Ok(());
            }
            passed = Some(now);
        }
        match (passed, found) {
            (None, found) => *found = Found::All,
            (Some(passed), Found::Some(set)) => passed.into_iter().for_each(|ordinal| set.insert(ordinal)),
            (Some(passed), found) if !passed.is_empty() => {
                let mut set = RowSet::empty(template.rows);
                passed.into_iter().for_each(|ordinal| set.insert(ordinal));
                *found = Found::Some(set);
            }
            (Some(_), _) => {}
        }
        Ok(())
    }

    fn search_other(&self, needle: &Needle, rows: &mut RowSet) -> Result<(), SegmentError> {
        if self.stored.other.is_empty() {
            return Ok(());
        }
        let other = self.other()?;
        let folded;
        let text = if needle.ignores_case() {
            folded = other.text().to_ascii_lowercase();
            &folded
        } else {
            other.text()
        };
        let finder = Finder::new(needle.text());
        let mut at = 0;
        let mut ordinals = Vec::new();
        while let Some(hit) = text.as_bytes().get(at..).and_then(|rest| finder.find(rest)) {
            let hit = at + hit;
            let ordinal = other.row_of(hit);
            let end = other.offsets().get(ordinal + 1).map_or(0, |&end| end as usize);
            if hit + needle.text().len() > end {
                at = hit + 1;
                continue;
            }
            ordinals.push(ordinal);
            at = end;
        }
        if !ordinals.is_empty() {
            let of_other = self.index()?.rows_of(0);
            ordinals
                .iter()
                .filter_map(|&ordinal| of_other.get(ordinal))
                .for_each(|&row| rows.insert(row));
        }
        Ok(())
    }

    /// Adds the rows with letters beyond ASCII that a regular expression takes for ASCII ones when case is ignored.
    fn add_folded(&self, rows: &mut RowSet) -> Result<(), SegmentError> {
        for letter in FOLDED {
            let finder = Finder::new(letter);
            for (number, template) in self.directory.templates.iter().enumerate() {
                if finder.find(&self.directory.text[template.text.clone()]).is_some() {
                    self.index()?
                        .rows_of(number + 1)
                        .iter()
                        .for_each(|&row| rows.insert(row));
                }
            }
            if !self.stored.other.is_empty() {
                let hits = finder.find_iter(self.other()?.text().as_bytes());
                let of_other = self.index()?.rows_of(0);
                let ordinals = hits.map(|hit| self.other().map_or(0, |other| other.row_of(hit)));
                ordinals
                    .filter_map(|ordinal| of_other.get(ordinal))
                    .for_each(|&row| rows.insert(row));
            }
        }
        Ok(())
    }

    /// The lines of `rows`, in their order; each must be a row of the block.
    pub fn lines(&self, rows: &[u32]) -> Result<Lines, SegmentError> {
        let lengths = self.lengths()?;
        let length = |row: &u32| lengths.get(*row as usize).copied().unwrap_or(0);
        let bytes: u64 = rows.iter().map(|row| u64::from(length(row))).sum();
        let mut text = Vec::with_capacity(usize::try_from(bytes).unwrap_or(0));
        let mut offsets = Vec::with_capacity(rows.len() + 1);
        offsets.push(0);
        for row in rows {
            let start = text.len();
            self.put_line(*row, &mut text)?;
            if text.len() - start != length(row) as usize || text.len() > u32::MAX as usize {
                let reason = format!(
                    "row {row} has {} bytes, {} are declared",
                    text.len() - start,
                    length(row)
                );
                return Err(self.wrong(reason));
            }
            offsets.push(text.len() as u32);
        }
        let text = checked_text(text, &offsets, &Part::Block(self.meta.index))?;
        Ok(Lines::new(text, offsets))
    }

    /// All lines.
    pub fn all_lines(&self) -> Result<Lines, SegmentError> {
        let rows: Vec<u32> = (0..self.meta.rows).collect();
        self.lines(&rows)
    }

    fn put_line(&self, row: u32, out: &mut Vec<u8>) -> Result<(), SegmentError> {
        let index = self.index()?;
        let wrong = || self.wrong(format!("has no row {row}"));
        let id = *index.ids.get(row as usize).ok_or_else(wrong)? as usize;
        let ordinal = index.ordinals[row as usize] as usize;
        let Some(number) = id.checked_sub(1) else {
            let other = self.other()?;
            if ordinal >= other.rows() {
                return Err(wrong());
            }
            out.extend_from_slice(other.get(ordinal).as_bytes());
            return Ok(());
        };
        let template = &self.directory.templates[number];
        let mut at = template.text.start;
        for number in template.columns.clone() {
            let column = &self.directory.columns[number];
            out.extend_from_slice(&self.directory.text[at..column.slot]);
            match self.directory.constant(column) {
                Some(value) => out.extend_from_slice(value),
                None => out.extend_from_slice(self.values(number, template.rows)?.get(ordinal)),
            }
            at = column.slot + 1;
        }
        out.extend_from_slice(&self.directory.text[at..template.text.end]);
        Ok(())
    }

    fn index(&self) -> Result<&RowIndex, SegmentError> {
        get_or_try(&self.rows, || {
            let count = self.directory.templates.len();
            let ids = self.meta.decode_template_ids(&self.stored.ids, count)?;
            let mut starts = vec![0u32; count + 2];
            ids.iter().for_each(|&id| starts[id as usize + 1] += 1);
            let declared = self.directory.templates.iter().map(|template| template.rows);
            if !starts[2..].iter().copied().eq(declared) {
                return Err(self.wrong("templates have other rows than the directory says".to_owned()));
            }
            for id in 0..=count {
                starts[id + 1] += starts[id];
            }
            let mut next = starts.clone();
            let (mut ordinals, mut rows) = (Vec::with_capacity(ids.len()), vec![0; ids.len()]);
            for (row, &id) in (0u32..).zip(&ids) {
                let place = &mut next[id as usize];
                rows[*place as usize] = row;
                ordinals.push(*place - starts[id as usize]);
                *place += 1;
            }
            Ok(RowIndex {
                ids,
                ordinals,
                rows,
                starts,
            })
        })
    }

    /// The lines without a template.
    fn other(&self) -> Result<&Lines, SegmentError> {
        get_or_try(&self.other, || {
            let lengths = self.lengths()?;
            let mut offsets = vec![0u32];
            let mut end = 0u32;
            for &row in self.index()?.rows_of(0) {
                end = end.saturating_add(lengths.get(row as usize).copied().unwrap_or(0));
                offsets.push(end);
            }
            let (part, payload) = self
                .meta
                .sole_layout(&ColumnKind::OtherText, &self.stored.other)?;
            Ok(Lines::new(
                checked_text(payload.into_vec(), &offsets, &part)?,
                offsets,
            ))
        })
    }

    fn values(&self, number: usize, rows: u32) -> Result<&Values, SegmentError> {
        get_or_try(&self.values[number], || {
            let column = &self.directory.columns[number];
            let part = self.part(ColumnKind::Variables);
            let bytes = self.chunk(column)?.get(column.bytes.clone()).unwrap_or_default();
            let reader = Reader::new(bytes, &part);
            let limit = self.meta.line_bytes;
            let values = decode(column.layout, &column.stamp, rows as usize, limit, reader)?;
            self.hold(size_of::<Values>() + values.heap_bytes());
            Ok(Box::new(values))
        })
        .map(|values| &**values)
    }

    fn chunk(&self, column: &Column) -> Result<&Vec<u8>, SegmentError> {
        get_or_try(&self.chunks[column.chunk], || {
            let part = self.part(ColumnKind::Variables);
            let variables = get_or_try(&self.variables, || {
                let stored = &self.stored.variables;
                let (_, payload) = self.meta.sole_layout(&ColumnKind::Variables, stored)?;
                Ok(match payload {
                    Payload::Stored(_) => None,
                    Payload::Expanded(bytes) => Some(bytes),
                })
            })?;
            let variables = variables.as_ref().unwrap_or(&self.stored.variables);
            let chunk = &self.directory.chunks[column.chunk];
            let stored = variables.get(chunk.stored.clone()).unwrap_or_default();
            self.hold(chunk.plain_len);
            if stored.len() == chunk.plain_len {
                return Ok(stored.to_vec());
            }
            expand(stored, chunk.plain_len, &part)
        })
    }

    fn hold(&self, bytes: usize) {
        self.held.fetch_add(bytes, Ordering::Relaxed);
    }

    fn part(&self, kind: ColumnKind) -> Part {
        Part::Column {
            block: self.meta.index,
            kind,
        }
    }

    fn wrong(&self, reason: String) -> SegmentError {
        SegmentError::corrupt(self.part(ColumnKind::TemplateIds), reason)
    }

    /// Heap bytes of what is held so far, for memory budgets.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let words = |cell: &OnceLock<Vec<u32>>| cell.get().map_or(0, |words| words.len() * 4);
        let rows = self.rows.get().map_or(0, |index| index.ids.len() * 12);
        let other = self
            .other
            .get()
            .map_or(0, |lines| lines.text().len() + lines.offsets().len() * 4);
        let folded = self.folded.get().map_or(0, Vec::len);
        let variables = self.variables.get().and_then(Option::as_ref).map_or(0, Vec::len);
        let stored = self.stored.heap_bytes() + self.directory.heap_bytes() + words(&self.lengths);
        let cells = self.values.len() * size_of::<OnceLock<Box<Values>>>();
        stored + rows + other + folded + variables + cells + self.held.load(Ordering::Relaxed)
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
