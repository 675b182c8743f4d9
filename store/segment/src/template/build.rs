//! The lines of a block to templates, ids and variables.

use std::{
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState},
    ops::Range,
};

use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::{
    directory::{Chunk, Column, Directory, Template},
    values::{self, Layout, Stamp},
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
const MIN_SHARE: usize = 4;

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

/// `None` when too few of the lines have something in common.
pub(crate) fn encode(
    text: &[u8],
    lengths: &[u64],
    zstd: &mut Zstd,
    part: impl Fn() -> Part,
) -> Result<Option<TemplateColumns>, SegmentError> {
    let mut start = 0;
    let lines: Vec<Range<usize>> = lengths
        .iter()
        .map(|&length| {
            let end = start + length as usize;
            std::mem::replace(&mut start, end)..end
        })
        .collect();
    let mut ids = vec![0u32; lines.len()];
    let mut other: Vec<u32> = (0..lines.len() as u32).collect();
    let mut columns = Columns::new(zstd, &part)?;
    for vocabulary in Vocabulary::ALL {
        let mut groups = Groups::of(text, &lines, other, vocabulary);
        other = groups.take_small();
        for group in groups.large() {
            let line = group
                .rows
                .first()
                .map_or(0..0, |&row| lines[row as usize].clone());
            let (mut template, mut slots) = (Vec::new(), Vec::new());
            split(&text[line], vocabulary, &mut template, &mut slots);
            columns.add_template(text, &template, group)?;
            let id = columns.directory.templates.len() as u32;
            group.rows.iter().for_each(|&row| ids[row as usize] = id);
        }
        if vocabulary == Vocabulary::Numbers {
            columns.directory.of_numbers = columns.directory.templates.len();
        }
    }
    let mut other_text = Vec::new();
    other
        .iter()
        .for_each(|&row| other_text.extend_from_slice(&text[lines[row as usize].clone()]));
    if (text.len() - other_text.len()).saturating_mul(MIN_SHARE) <= text.len() {
        return Ok(None);
    }
    let (directory, variables) = columns.finish()?;
    Ok(Some(TemplateColumns {
        templates: directory.to_bytes(),
        ids,
        variables,
        other: other_text,
    }))
}

/// Rows of equal template.
#[derive(Default)]
struct Group {
    rows: Vec<u32>,
    /// Slots of all rows, in the block's text, as many for each row.
    slots: Vec<Range<u32>>,
}

/// Takes keys that are hashes under a secret seed already as they are.
#[derive(Default)]
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

/// Rows by template, in the order of each one's first row.
struct Groups {
    list: Vec<Group>,
    /// Rows that aren't looked at.
    odd: Vec<u32>,
}

impl Groups {
    /// Templates are told apart by 128-bit hashes under a seed of this process: whoever chooses lines can't choose two
    /// that collide, and by chance none do.
    fn of(text: &[u8], lines: &[Range<usize>], rows: Vec<u32>, vocabulary: Vocabulary) -> Self {
        let seed = RandomState::new().hash_one(0);
        let mut by_hash: HashMap<u128, usize, BuildHasherDefault<Hashed>> = HashMap::default();
        let mut groups = Groups {
            list: Vec::new(),
            odd: Vec::new(),
        };
        let (mut template, mut slots) = (Vec::new(), Vec::new());
        for row in rows {
            let line = lines[row as usize].clone();
            template.clear();
            slots.clear();
            if line.len() <= MAX_LINE_BYTES {
                split(&text[line.clone()], vocabulary, &mut template, &mut slots);
            }
            if line.len() > MAX_LINE_BYTES || slots.len() > MAX_SLOTS {
                groups.odd.push(row);
                continue;
            }
            let hash = xxh3_128_with_seed(&template, seed);
            let next = groups.list.len();
            let group = *by_hash.entry(hash).or_insert(next);
            if group == next {
                groups.list.push(Group::default());
            }
            let group = &mut groups.list[group];
            let base = line.start as u32;
            group.rows.push(row);
            group
                .slots
                .extend(slots.iter().map(|slot| slot.start + base..slot.end + base));
        }
        groups
    }

    /// Rows that are in no group worth a template, ascending.
    fn take_small(&mut self) -> Vec<u32> {
        let mut rows = std::mem::take(&mut self.odd);
        let small = self.list.iter().filter(|group| group.rows.len() < MIN_ROWS);
        rows.extend(small.flat_map(|group| &group.rows));
        rows.sort_unstable();
        rows
    }

    fn large(&self) -> impl Iterator<Item = &Group> {
        self.list.iter().filter(|group| group.rows.len() >= MIN_ROWS)
    }
}

/// Columns of variables on their way into chunks.
struct Columns<'a, P> {
    zstd: &'a mut Zstd,
    trial: Zstd,
    part: &'a P,
    directory: Directory,
    /// The open chunk.
    chunk: Vec<u8>,
    variables: Vec<u8>,
}

impl<'a, P: Fn() -> Part> Columns<'a, P> {
    fn new(zstd: &'a mut Zstd, part: &'a P) -> Result<Self, SegmentError> {
        Ok(Columns {
            zstd,
            trial: Zstd::new(TRIAL_LEVEL)?,
            part,
            directory: Directory::default(),
            chunk: Vec::new(),
            variables: Vec::new(),
        })
    }

    fn add_template(&mut self, text: &[u8], template: &[u8], group: &Group) -> Result<(), SegmentError> {
        let start = self.directory.text.len();
        self.directory.text.extend_from_slice(template);
        let first = self.directory.columns.len();
        let slots = group.slots.len() / group.rows.len();
        let places = template.iter().enumerate().filter(|(_, byte)| **byte == SLOT);
        for (number, (place, _)) in places.enumerate() {
            let of_slot = group.slots.iter().skip(number).step_by(slots);
            let values: Vec<&[u8]> = of_slot
                .map(|slot| &text[slot.start as usize..slot.end as usize])
                .collect();
            self.add_column(start + place, &values)?;
        }
        self.directory.templates.push(Template {
            text: start..self.directory.text.len(),
            columns: first..self.directory.columns.len(),
            rows: group.rows.len() as u32,
        });
        Ok(())
    }

    fn add_column(&mut self, slot: usize, values: &[&[u8]]) -> Result<(), SegmentError> {
        let stamp = Stamp::of(values);
        let start = self.chunk.len();
        let layout = values::encode(values, &stamp, &mut self.chunk, &mut self.trial)?;
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
