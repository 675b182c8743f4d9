//! The lines of a block to templates, ids and variables. Lines come one by one and are grouped as they come; one that is
//! split already, because it comes from a block of templates, stays there until its variables are laid out.

use std::{
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState},
    ops::Range,
    sync::Arc,
};

use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::{
    directory::{Chunk, Column, Directory, Template},
    split_lines::{Place, SplitLines},
    values::{Encoder, Layout},
    words::{SLOT, Vocabulary, split},
};
use crate::{Part, SegmentError, compress::Zstd};

/// Rows below which a template costs more than it saves: 8 gives the same size as 1 on training logs, with half the
/// templates and columns.
const MIN_ROWS: usize = 8;
/// Lines longer than this, or with more variables than the next, stay as they are: they are dumps, not messages.
const MAX_LINE_BYTES: usize = 64 << 10;
const MAX_SLOTS: usize = 1 << 10;
/// Bytes of columns after which a chunk is closed. Smaller chunks skip more, larger ones compress better: 64 KiB are
/// 1.2% larger than 256 KiB on training logs, 1 MiB 3% smaller.
const CHUNK_BYTES: usize = 256 << 10;
/// zstd level that layouts are compared at.
const TRIAL_LEVEL: i32 = 1;
/// A block is stored as templates when these keep at least 1/4 of its bytes out of the other lines.
const MIN_SHARE: u64 = 4;

/// Columns of one block before compression of their own.
#[derive(Debug)]
pub(crate) struct TemplateColumns {
    /// See [`Directory::to_bytes`].
    pub(crate) templates: Vec<u8>,
    /// For each row its template + 1; 0 for a line without.
    pub(crate) ids: Vec<u32>,
    /// Chunks of variables, each compressed where that is worth it.
    pub(crate) variables: Vec<u8>,
    /// The lines without a template.
    pub(crate) other: Vec<u8>,
}

/// The group of rows that aren't looked at.
const ODD: u32 = u32::MAX;

/// How a block's lines are to be stored.
#[derive(Debug)]
pub(crate) enum Split {
    Templates(TemplateColumns),
    /// The lines one after another: too few of them have something in common.
    Plain(Vec<u8>),
}

/// The text of a block's rows: a line each, nothing of rows that came split until they are put together.
struct Rows {
    text: Vec<u8>,
    places: Vec<Range<usize>>,
}

impl Rows {
    fn get(&self, row: u32) -> &[u8] {
        &self.text[self.places[row as usize].clone()]
    }

    /// Puts a line that came split together.
    fn put_together(&mut self, row: u32, lines: &SplitLines, place: Place) {
        let start = self.text.len();
        lines.put_line(place, &mut self.text);
        self.places[row as usize] = start..self.text.len();
    }

    fn joined(&self, rows: impl Iterator<Item = u32>) -> Vec<u8> {
        let mut joined = Vec::new();
        rows.for_each(|row| joined.extend_from_slice(self.get(row)));
        joined
    }
}

/// Lays out the rows of a block. `ends` says where each row ends in `text`, `line_bytes` how many bytes the lines have.
/// `try_layouts`: see [`WriterOptions`](crate::WriterOptions).
pub(crate) fn encode(
    splitter: Splitter,
    text: Vec<u8>,
    ends: &[u32],
    line_bytes: u64,
    zstd: &mut Zstd,
    try_layouts: bool,
    part: impl Fn() -> Part,
) -> Result<Split, SegmentError> {
    let starts = std::iter::once(0).chain(ends.iter().copied());
    let places = starts.zip(ends).map(|(start, &end)| start as usize..end as usize);
    let mut rows = Rows {
        text,
        places: places.collect(),
    };
    let mut ids = vec![0u32; ends.len()];
    let mut columns = Columns::new(zstd, try_layouts, &part)?;
    let (groups, other) = splitter.groups(&mut rows);
    columns.add_groups(&rows, &splitter, &groups, Vocabulary::Numbers, &mut ids)?;
    columns.directory.of_numbers = columns.directory.templates.len();
    let mut assigned = Splitter::default();
    for row in other {
        let place = rows.places[row as usize].clone();
        assigned.add(row, &rows.text[place.clone()], place.start, Vocabulary::Values);
    }
    let (assigned_groups, other) = assigned.groups(&mut rows);
    columns.add_groups(&rows, &assigned, &assigned_groups, Vocabulary::Values, &mut ids)?;
    let other_bytes: u64 = other.iter().map(|&row| rows.get(row).len() as u64).sum();
    if line_bytes.saturating_sub(other_bytes).saturating_mul(MIN_SHARE) <= line_bytes {
        return Ok(Split::Plain(splitter.into_plain(&groups, rows)));
    }
    let (directory, variables) = columns.finish()?;
    Ok(Split::Templates(TemplateColumns {
        templates: directory.to_bytes(),
        ids,
        variables,
        other: rows.joined(other.into_iter()),
    }))
}

/// A row, and where its variables are.
#[derive(Debug, Clone, Copy)]
struct Member {
    row: u32,
    origin: Origin,
}

/// Where a row's variables are.
#[derive(Debug, Clone, Copy)]
enum Origin {
    /// In the block's text: its slots begin with this one.
    Text(u32),
    /// In a block that it comes from: the number of that, and its place there.
    Source(u32, Place),
}

/// The rows of templates that are worth it: those of each template in order, template after template.
struct Groups {
    members: Vec<Member>,
    /// Where each group ends.
    ends: Vec<usize>,
}

impl Groups {
    fn iter(&self) -> impl Iterator<Item = &[Member]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .map(|(start, &end)| &self.members[start..end])
    }
}

/// Takes keys that are hashes under a secret seed already as they are.
#[derive(Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn write_u128(&mut self, hash: u128) {
        self.0 = hash as u64;
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Groups rows by template, in the order of each one's first row.
///
/// Templates are told apart by 128-bit hashes under a seed of this splitter: whoever chooses lines can't choose two
/// that collide, and by chance none do.
#[derive(Debug)]
pub(crate) struct Splitter {
    seed: u64,
    by_hash: HashMap<u128, u32, BuildHasherDefault<Hashed>>,
    /// How many rows each group has.
    counts: Vec<u32>,
    /// All rows as they came, with their groups; [`ODD`] for those that aren't looked at. One list for all groups: a block has
    /// thousands of them, and lists that grow are copied.
    members: Vec<(u32, Member)>,
    /// Slots of the rows that came whole, in the block's text.
    all_slots: Vec<Range<u32>>,
    /// Blocks that rows come from which came split.
    sources: Vec<Arc<SplitLines>>,
    /// Of the line at hand.
    template: Vec<u8>,
    slots: Vec<Range<u32>>,
}

impl Default for Splitter {
    fn default() -> Self {
        Splitter {
            seed: RandomState::new().hash_one(0),
            by_hash: HashMap::default(),
            counts: Vec::new(),
            members: Vec::new(),
            all_slots: Vec::new(),
            sources: Vec::new(),
            template: Vec::new(),
            slots: Vec::new(),
        }
    }
}

impl Splitter {
    /// Adds a line that is at `start` in the block's text. Rows come in ascending order.
    pub(crate) fn add(&mut self, row: u32, line: &[u8], start: usize, vocabulary: Vocabulary) {
        self.template.clear();
        self.slots.clear();
        if line.len() <= MAX_LINE_BYTES {
            split(line, vocabulary, &mut self.template, &mut self.slots);
        }
        let origin = Origin::Text(self.all_slots.len() as u32);
        if line.len() > MAX_LINE_BYTES || self.slots.len() > MAX_SLOTS {
            self.members.push((ODD, Member { row, origin }));
            return;
        }
        let group = group_of(self.seed, &self.template, &mut self.by_hash, &mut self.counts);
        self.push(group, Member { row, origin });
        let start = start as u32;
        let slots = self.slots.iter();
        self.all_slots
            .extend(slots.map(|slot| slot.start + start..slot.end + start));
    }

    fn push(&mut self, group: u32, member: Member) {
        self.counts[group as usize] += 1;
        self.members.push((group, member));
    }

    /// The group of a template of [`Vocabulary::Numbers`], for rows that are split already.
    pub(crate) fn group(&mut self, template: &[u8]) -> u32 {
        group_of(self.seed, template, &mut self.by_hash, &mut self.counts)
    }

    /// Makes a block known that rows come from; its number.
    pub(crate) fn add_source(&mut self, lines: Arc<SplitLines>) -> u32 {
        self.sources.push(lines);
        self.sources.len() as u32 - 1
    }

    /// Adds a row of [`Splitter::group`] that is at `place` in the block [`Splitter::add_source`] gave a number.
    pub(crate) fn add_split(&mut self, row: u32, group: u32, source: u32, place: Place) {
        let origin = Origin::Source(source, place);
        self.push(group, Member { row, origin });
    }

    /// The groups that are worth a template, and the rows of no such group, ascending. Of these, those that came split are put
    /// together.
    fn groups(&self, rows: &mut Rows) -> (Groups, Vec<u32>) {
        let mut ends = Vec::new();
        // Where the next member of each group belongs; nothing for small groups.
        let mut next = Vec::with_capacity(self.counts.len());
        let mut end = 0;
        for &count in &self.counts {
            let is_large = count as usize >= MIN_ROWS;
            next.push(is_large.then_some(end));
            if is_large {
                end += count as usize;
                ends.push(end);
            }
        }
        let origin = Origin::Text(0);
        let mut members = vec![Member { row: 0, origin }; end];
        let mut small = Vec::new();
        for (group, member) in &self.members {
            if let Some(Some(place)) = next.get_mut(*group as usize) {
                members[*place] = *member;
                *place += 1;
            } else {
                small.push(member.row);
                self.put_together(member, rows);
            }
        }
        (Groups { members, ends }, small)
    }

    /// Puts the row's line together if it came split.
    fn put_together(&self, member: &Member, rows: &mut Rows) {
        if let Origin::Source(source, place) = member.origin {
            rows.put_together(member.row, &self.sources[source as usize], place);
        }
    }

    /// All lines one after another; those in no group are together.
    fn into_plain(self, groups: &Groups, mut rows: Rows) -> Vec<u8> {
        if self.sources.is_empty() {
            return rows.text;
        }
        for member in &groups.members {
            self.put_together(member, &mut rows);
        }
        rows.joined(0..rows.places.len() as u32)
    }

    /// Appends the template of a group.
    fn put_template(&self, group: &[Member], rows: &Rows, vocabulary: Vocabulary, out: &mut Vec<u8>) {
        match group.first() {
            Some(Member {
                origin: Origin::Source(source, place),
                ..
            }) => {
                out.extend_from_slice(self.sources[*source as usize].template(place.template));
            }
            Some(member) => split(rows.get(member.row), vocabulary, out, &mut Vec::new()),
            None => {}
        }
    }

    /// The variables of a group's rows in the slot `number`.
    fn values<'t>(&'t self, group: &[Member], number: usize, text: &'t [u8], values: &mut Vec<&'t [u8]>) {
        values.clear();
        values.extend(group.iter().map(|member| match member.origin {
            Origin::Text(first) => {
                let slot = &self.all_slots[first as usize + number];
                &text[slot.start as usize..slot.end as usize]
            }
            Origin::Source(source, place) => self.sources[source as usize].value(place, number),
        }));
    }
}

/// The group of a template, a new one if there is none yet.
fn group_of(
    seed: u64,
    template: &[u8],
    by_hash: &mut HashMap<u128, u32, BuildHasherDefault<Hashed>>,
    counts: &mut Vec<u32>,
) -> u32 {
    let next = counts.len() as u32;
    let group = *by_hash.entry(xxh3_128_with_seed(template, seed)).or_insert(next);
    if group == next {
        counts.push(0);
    }
    group
}

/// Columns of variables on their way into chunks.
struct Columns<'a, P> {
    zstd: &'a mut Zstd,
    encoder: Encoder,
    part: &'a P,
    directory: Directory,
    /// The open chunk.
    chunk: Vec<u8>,
    variables: Vec<u8>,
}

impl<'a, P: Fn() -> Part> Columns<'a, P> {
    fn new(zstd: &'a mut Zstd, try_layouts: bool, part: &'a P) -> Result<Self, SegmentError> {
        let trial = try_layouts.then(|| Zstd::new(TRIAL_LEVEL)).transpose()?;
        Ok(Columns {
            zstd,
            encoder: Encoder::new(trial),
            part,
            directory: Directory::default(),
            chunk: Vec::new(),
            variables: Vec::new(),
        })
    }

    /// Adds the groups of one vocabulary, and to `ids` their rows' templates.
    fn add_groups(
        &mut self,
        rows: &Rows,
        splitter: &Splitter,
        groups: &Groups,
        vocabulary: Vocabulary,
        ids: &mut [u32],
    ) -> Result<(), SegmentError> {
        let mut template = Vec::new();
        let mut values = Vec::new();
        for group in groups.iter() {
            template.clear();
            splitter.put_template(group, rows, vocabulary, &mut template);
            self.add_template(rows, splitter, &template, group, &mut values)?;
            let id = self.directory.templates.len() as u32;
            group.iter().for_each(|member| ids[member.row as usize] = id);
        }
        Ok(())
    }

    fn add_template<'t>(
        &mut self,
        rows: &'t Rows,
        splitter: &'t Splitter,
        template: &[u8],
        group: &[Member],
        values: &mut Vec<&'t [u8]>,
    ) -> Result<(), SegmentError> {
        let start = self.directory.text.len();
        self.directory.text.extend_from_slice(template);
        let first = self.directory.columns.len();
        let places = template.iter().enumerate().filter(|(_, byte)| **byte == SLOT);
        for (number, (place, _)) in places.enumerate() {
            splitter.values(group, number, &rows.text, values);
            self.add_column(start + place, values)?;
        }
        self.directory.templates.push(Template {
            text: start..self.directory.text.len(),
            columns: first..self.directory.columns.len(),
            rows: group.len() as u32,
        });
        Ok(())
    }

    fn add_column(&mut self, slot: usize, values: &[&[u8]]) -> Result<(), SegmentError> {
        let start = self.chunk.len();
        let (layout, stamp) = self.encoder.encode(values, &mut self.chunk)?;
        let (mut start, len) = (start, self.chunk.len() - start);
        if layout == Layout::Constant {
            let constants = &mut self.directory.constants;
            let value = self.chunk.drain(start..);
            start = constants.len();
            constants.extend(value);
        }
        self.directory.stamps.push(stamp);
        self.directory.columns.push(Column {
            slot: slot as u32,
            chunk: self.directory.chunks.len() as u32,
            start: start as u32,
            len: len as u32,
            layout,
        });
        if self.chunk.len() >= CHUNK_BYTES {
            self.close_chunk()?;
        }
        Ok(())
    }

    fn close_chunk(&mut self) -> Result<(), SegmentError> {
        let plain_len = self.chunk.len();
        if plain_len == 0 {
            return Ok(());
        }
        self.zstd.shrink(&mut self.chunk, self.part)?;
        let start = self.variables.len();
        self.variables.append(&mut self.chunk);
        self.directory.chunks.push(Chunk {
            stored: start..self.variables.len(),
            plain_len,
        });
        Ok(())
    }

    fn finish(mut self) -> Result<(Directory, Vec<u8>), SegmentError> {
        self.close_chunk()?;
        Ok((self.directory, self.variables))
    }
}
