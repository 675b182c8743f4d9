//! The variables at one place of one template, in the order of the rows: choosing a layout, writing and reading it.
//! Knows nothing of templates.
//!
//! Every variable is a word: ASCII letters and digits, at least one. FORMAT.md has the layouts.

use std::collections::HashMap;

use crate::{
    Part, SegmentError,
    compress::{Zstd, compress_error},
    wire::{Reader, put_varint},
};

/// From this many values on, layouts are compared by what zstd makes of a sample rather than by their bytes.
const COMPARE_COMPRESSED_FROM: usize = 128;
/// Neighbouring values in the sample: enough to see steps and repetition.
const SAMPLE: usize = 512;
/// The same where bytes are compared as they are: enough to see how wide numbers and their steps are.
const QUICK_SAMPLE: usize = 64;
/// Digits that surely fit 63 bits.
const MAX_DIGITS: usize = 18;
/// Ends a variable where its length isn't known; no word holds it.
const END: u8 = b'\n';
/// Most values of a dictionary: ids have two bytes.
const MAX_DICTIONARY: usize = 1 << 16;

/// How a column of variables is laid out; the numbers are the format's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Layout {
    /// One value in all rows, kept in the directory.
    Constant = 0,
    /// Each value, then a line feed.
    Words = 1,
    /// Values of one length, one after another.
    Fixed = 2,
    /// Values of one length, byte column by byte column.
    Transposed = 3,
    /// Numbers: the smallest, then each one's distance from it in whole bytes.
    Offsets = 4,
    /// Numbers: each one's distance from the one before.
    Deltas = 5,
    /// Numbers: each distance's distance from the one before.
    DeltaDeltas = 6,
    /// Distinct values, then ids of one or two bytes.
    Dictionary = 7,
}

impl Layout {
    pub(crate) const fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Layout::Constant,
            1 => Layout::Words,
            2 => Layout::Fixed,
            3 => Layout::Transposed,
            4 => Layout::Offsets,
            5 => Layout::Deltas,
            6 => Layout::DeltaDeltas,
            7 => Layout::Dictionary,
            _ => return None,
        })
    }
}

/// What all values of a column have in common: says of a searched word that it isn't here without a look at them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Bytes of the shortest value.
    pub(crate) min_len: u32,
    /// Bytes of the longest value.
    pub(crate) max_len: u32,
    /// Which characters occur: bits 0 to 9 digits, 10 to 35 upper case, 36 to 61 lower case.
    pub(crate) alphabet: u64,
}

impl Stamp {
    pub(crate) fn of(values: &[&[u8]]) -> Self {
        let mut stamp = Stamp {
            min_len: u32::MAX,
            max_len: 0,
            alphabet: 0,
        };
        for value in values {
            stamp.min_len = stamp.min_len.min(value.len() as u32);
            stamp.max_len = stamp.max_len.max(value.len() as u32);
            stamp.alphabet |= alphabet(value);
        }
        stamp
    }

    fn fixed_len(&self) -> Option<usize> {
        (self.min_len == self.max_len).then_some(self.min_len as usize)
    }
}

/// The characters of a word as bits, see [`Stamp::alphabet`].
pub(crate) fn alphabet(word: &[u8]) -> u64 {
    word.iter()
        .fold(0, |bits, &byte| bits | CHARACTERS[usize::from(byte)])
}

static CHARACTERS: [u64; 256] = characters();

const fn characters() -> [u64; 256] {
    let mut bits = [1 << 63; 256];
    let mut byte = 0;
    while byte < 256 {
        let char = byte as u8;
        bits[byte] = match char {
            b'0'..=b'9' => 1 << (char - b'0'),
            b'A'..=b'Z' => 1 << (char - b'A' + 10),
            b'a'..=b'z' => 1 << (char - b'a' + 36),
            _ => 1 << 63,
        };
        byte += 1;
    }
    bits
}

/// Chooses layouts and writes columns; keeps its buffers from one to the next.
#[derive(Debug)]
pub(crate) struct Encoder {
    /// What samples are compressed with to compare layouts; without it their bytes are compared as they are.
    trial: Option<Zstd>,
    numbers: Vec<i64>,
    scratch: Vec<u8>,
}

impl Encoder {
    pub(crate) fn new(trial: Option<Zstd>) -> Self {
        Encoder {
            trial,
            numbers: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Appends the values in the layout that is likely the smallest after compression. There is at least one value.
    pub(crate) fn encode(
        &mut self,
        values: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> Result<(Layout, Stamp), SegmentError> {
        if let Some(first) = values.first()
            && values.iter().all(|value| value == first)
        {
            out.extend_from_slice(first);
            return Ok((Layout::Constant, Stamp::of(&values[..1])));
        }
        let stamp = Stamp::of(values);
        let are_numbers = read_numbers(values, &stamp, &mut self.numbers);
        let best = self.best_layout(values, &stamp, are_numbers)?;
        let numbers = are_numbers.then_some(&*self.numbers);
        let start = out.len();
        let words: usize = values.iter().map(|value| value.len() + 1).sum();
        // What the sample didn't show may not fit the layout, or make it dear.
        if put(best, values, numbers, out) && out.len() - start <= words {
            return Ok((best, stamp));
        }
        out.truncate(start);
        put(Layout::Words, values, None, out);
        Ok((Layout::Words, stamp))
    }

    fn best_layout(
        &mut self,
        values: &[&[u8]],
        stamp: &Stamp,
        are_numbers: bool,
    ) -> Result<Layout, SegmentError> {
        let layouts: &[Layout] = match (stamp.fixed_len().is_some(), are_numbers) {
            (true, true) => &[
                Layout::Fixed,
                Layout::Transposed,
                Layout::Offsets,
                Layout::Deltas,
                Layout::DeltaDeltas,
                Layout::Dictionary,
            ],
            (true, false) => &[Layout::Fixed, Layout::Transposed, Layout::Dictionary],
            (false, true) => &[
                Layout::Words,
                Layout::Offsets,
                Layout::Deltas,
                Layout::DeltaDeltas,
                Layout::Dictionary,
            ],
            (false, false) => &[Layout::Words, Layout::Dictionary],
        };
        let (all_below, most) = match self.trial {
            Some(_) => (COMPARE_COMPRESSED_FROM, SAMPLE),
            None => (QUICK_SAMPLE, QUICK_SAMPLE),
        };
        let sample = if values.len() < all_below {
            0..values.len()
        } else {
            let from = (values.len() / 2).saturating_sub(most / 2);
            from..values.len().min(from + most)
        };
        let numbers = are_numbers.then(|| &self.numbers[sample.clone()]);
        let mut trial = self
            .trial
            .as_mut()
            .filter(|_| values.len() >= COMPARE_COMPRESSED_FROM);
        let (mut best, mut best_cost) = (Layout::Words, usize::MAX);
        for &layout in layouts {
            let sample = &values[sample.clone()];
            let cost = match &mut trial {
                Some(trial) => compressed_cost(layout, sample, numbers, trial, &mut self.scratch)?,
                None => plain_cost(layout, sample, numbers, best_cost),
            };
            if let Some(cost) = cost.filter(|cost| *cost < best_cost) {
                (best, best_cost) = (layout, cost);
            }
        }
        Ok(best)
    }
}

/// Bytes of the values in the layout after compression; nothing where it can't hold them.
fn compressed_cost(
    layout: Layout,
    values: &[&[u8]],
    numbers: Option<&[i64]>,
    trial: &mut Zstd,
    scratch: &mut Vec<u8>,
) -> Result<Option<usize>, SegmentError> {
    scratch.clear();
    if !put(layout, values, numbers, scratch) {
        return Ok(None);
    }
    let len = trial.compressed_len(scratch);
    len.map(Some).map_err(|error| compress_error(Part::Header, error))
}

/// Bytes of the values in the layout before compression, without writing them; nothing where it can't hold them, or surely takes no
/// less than `best`.
fn plain_cost(layout: Layout, values: &[&[u8]], numbers: Option<&[i64]>, best: usize) -> Option<usize> {
    let rows = values.len();
    match (layout, numbers) {
        (Layout::Words, _) => Some(values.iter().map(|value| value.len() + 1).sum()),
        (Layout::Fixed | Layout::Transposed, _) => Some(rows * values[0].len()),
        (Layout::Offsets, Some(numbers)) => {
            let (min, width) = offsets_of(numbers);
            Some(varint_len(min as u64) + 1 + rows * width)
        }
        (Layout::Deltas, Some(numbers)) => Some(deltas(numbers).map(varint_len).sum()),
        (Layout::DeltaDeltas, Some(numbers)) => Some(delta_deltas(numbers).map(varint_len).sum()),
        // An id for each row, and a value.
        (Layout::Dictionary, _) if rows + 2 < best => {
            let mut dictionary = Vec::new();
            put_dictionary(values, &mut dictionary).then_some(dictionary.len())
        }
        (
            Layout::Constant | Layout::Offsets | Layout::Deltas | Layout::DeltaDeltas | Layout::Dictionary,
            _,
        ) => None,
    }
}

fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Reads the values as numbers, if their length gives the digits back: one length for all, or no leading zeros. Says
/// whether it does.
fn read_numbers(values: &[&[u8]], stamp: &Stamp, numbers: &mut Vec<i64>) -> bool {
    numbers.clear();
    if stamp.max_len as usize > MAX_DIGITS || stamp.alphabet >= 1 << 10 {
        return false;
    }
    let fixed = stamp.fixed_len().is_some();
    for value in values {
        if !fixed && value.len() > 1 && value[0] == b'0' {
            return false;
        }
        let number = value
            .iter()
            .fold(0i64, |number, byte| number * 10 + i64::from(byte - b'0'));
        numbers.push(number);
    }
    true
}

/// Whether the layout can hold the values; then they are appended.
fn put(layout: Layout, values: &[&[u8]], numbers: Option<&[i64]>, out: &mut Vec<u8>) -> bool {
    match (layout, numbers) {
        (Layout::Words, _) => put_words(values.iter().copied(), out),
        (Layout::Fixed, _) => values.iter().for_each(|value| out.extend_from_slice(value)),
        (Layout::Transposed, _) => {
            for column in 0..values[0].len() {
                out.extend(values.iter().map(|value| value[column]));
            }
        }
        (Layout::Offsets, Some(numbers)) => put_offsets(numbers, out),
        (Layout::Deltas, Some(numbers)) => deltas(numbers).for_each(|delta| put_varint(out, delta)),
        (Layout::DeltaDeltas, Some(numbers)) => {
            delta_deltas(numbers).for_each(|delta| put_varint(out, delta));
        }
        (Layout::Dictionary, _) => return put_dictionary(values, out),
        (Layout::Constant | Layout::Offsets | Layout::Deltas | Layout::DeltaDeltas, _) => return false,
    }
    true
}

fn put_words<'a>(values: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    for value in values {
        out.extend_from_slice(value);
        out.push(END);
    }
}

/// Each number's distance from the one before.
fn deltas(numbers: &[i64]) -> impl Iterator<Item = u64> {
    let mut last = 0;
    numbers.iter().map(move |&number| {
        let delta = zigzag(number - last);
        last = number;
        delta
    })
}

/// Each distance's distance from the one before.
fn delta_deltas(numbers: &[i64]) -> impl Iterator<Item = u64> {
    let (mut last, mut step) = (0, 0);
    numbers.iter().map(move |&number| {
        let delta = zigzag(number - last - step);
        (last, step) = (number, number - last);
        delta
    })
}

/// The smallest number, and how many bytes the largest distance from it takes.
fn offsets_of(numbers: &[i64]) -> (i64, usize) {
    let (min, max) = numbers.iter().fold((i64::MAX, 0), |(min, max), &number| {
        (min.min(number), max.max(number))
    });
    (min, ((64 - (max - min).leading_zeros()) as usize).div_ceil(8))
}

fn put_offsets(numbers: &[i64], out: &mut Vec<u8>) {
    let (min, width) = offsets_of(numbers);
    put_varint(out, min as u64);
    out.push(width as u8);
    for number in numbers {
        out.extend_from_slice(&(number - min).to_le_bytes()[..width]);
    }
}

/// Only where values come twice on average.
fn put_dictionary(values: &[&[u8]], out: &mut Vec<u8>) -> bool {
    let limit = (values.len() / 2).min(MAX_DICTIONARY);
    let mut ids: HashMap<&[u8], u16, foldhash::fast::RandomState> = HashMap::default();
    let (mut distinct, mut rows) = (Vec::new(), Vec::with_capacity(values.len()));
    for &value in values {
        let next = ids.len();
        let id = *ids.entry(value).or_insert_with(|| {
            distinct.push(value);
            next as u16
        });
        if distinct.len() > limit {
            return false;
        }
        rows.push(id);
    }
    put_varint(out, distinct.len() as u64);
    put_words(distinct.iter().copied(), out);
    if distinct.len() <= 1 << 8 {
        out.extend(rows.iter().map(|&id| id as u8));
    } else {
        rows.iter()
            .for_each(|id| out.extend_from_slice(&id.to_le_bytes()));
    }
    true
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// A column's values.
#[derive(Debug)]
pub(crate) struct Values {
    /// The values, of a dictionary the distinct ones, one after another.
    text: Vec<u8>,
    places: Places,
    /// Of a dictionary: the value of each row.
    ids: Option<Ids>,
}

/// Where in a text each value is.
#[derive(Debug)]
enum Places {
    /// All have so many bytes.
    Fixed(usize),
    /// Where each starts and the last ends.
    Offsets(Vec<u32>),
}

/// Ids of one or two bytes.
#[derive(Debug)]
enum Ids {
    Narrow(Vec<u8>),
    Wide(Vec<u16>),
}

impl Ids {
    #[inline]
    fn get(&self, row: usize) -> Option<usize> {
        match self {
            Ids::Narrow(ids) => ids.get(row).map(|&id| usize::from(id)),
            Ids::Wide(ids) => ids.get(row).map(|&id| usize::from(id)),
        }
    }

    fn len(&self) -> usize {
        match self {
            Ids::Narrow(ids) => ids.len(),
            Ids::Wide(ids) => ids.len(),
        }
    }
}

impl Values {
    /// The value of a row; nothing for rows beyond the column.
    #[inline]
    pub(crate) fn get(&self, row: usize) -> &[u8] {
        match &self.ids {
            None => self.value(row),
            Some(ids) => ids.get(row).map_or(&[], |id| self.value(id)),
        }
    }

    #[inline]
    fn value(&self, number: usize) -> &[u8] {
        let (start, end) = match &self.places {
            Places::Fixed(width) => (number * width, (number + 1) * width),
            Places::Offsets(offsets) => match (offsets.get(number), offsets.get(number + 1)) {
                (Some(&start), Some(&end)) => (start as usize, end as usize),
                _ => return &[],
            },
        };
        self.text.get(start..end).unwrap_or_default()
    }

    /// Whether all values meet something; asked once for each value of a dictionary.
    pub(crate) fn all(&self, meets: impl Fn(&[u8]) -> bool) -> bool {
        (0..self.count()).all(|number| meets(self.value(number)))
    }

    /// Distinct values of a dictionary, all values otherwise.
    fn count(&self) -> usize {
        match &self.places {
            Places::Fixed(width) => self.text.len() / (*width).max(1),
            Places::Offsets(offsets) => offsets.len().saturating_sub(1),
        }
    }

    fn rows(&self) -> usize {
        self.ids.as_ref().map_or_else(|| self.count(), Ids::len)
    }

    /// Those of `rows` (all if `None`) whose value `meets`; asked once for each value of a dictionary.
    pub(crate) fn matching(&self, rows: Option<&[u32]>, meets: impl Fn(&[u8]) -> bool) -> Vec<u32> {
        let Some(ids) = &self.ids else {
            return chosen(rows, self.rows(), |row| meets(self.value(row)));
        };
        let met: Vec<bool> = (0..self.count()).map(|id| meets(self.value(id))).collect();
        if !met.contains(&true) {
            return Vec::new();
        }
        let is_met = |row| ids.get(row).and_then(|id| met.get(id)).is_some_and(|met| *met);
        chosen(rows, self.rows(), is_met)
    }

    /// Whether the values are ASCII letters and digits.
    pub(crate) fn are_words(&self) -> bool {
        self.text.iter().all(u8::is_ascii_alphanumeric)
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let places = match &self.places {
            Places::Fixed(_) => 0,
            Places::Offsets(offsets) => offsets.len() * 4,
        };
        let ids = match &self.ids {
            None => 0,
            Some(Ids::Narrow(ids)) => ids.len(),
            Some(Ids::Wide(ids)) => ids.len() * 2,
        };
        self.text.len() + places + ids
    }

    fn with_capacity(stamp: &Stamp, rows: usize, bytes: usize) -> Self {
        let places = match stamp.fixed_len() {
            Some(width) => Places::Fixed(width),
            None => {
                let mut offsets = Vec::with_capacity(rows + 1);
                offsets.push(0);
                Places::Offsets(offsets)
            }
        };
        Values {
            text: Vec::with_capacity(bytes),
            places,
            ids: None,
        }
    }

    /// Appends a value; one that isn't as long as the stamp says is corrupt.
    fn push(&mut self, value: &[u8], reader: &Reader<'_>) -> Result<(), SegmentError> {
        self.text.extend_from_slice(value);
        match &mut self.places {
            Places::Fixed(width) if *width != value.len() => {
                let reason = format!("a variable has {} bytes, {width} are declared", value.len());
                Err(reader.corrupt(reason))
            }
            Places::Fixed(_) => Ok(()),
            Places::Offsets(offsets) => {
                offsets.push(self.text.len() as u32);
                Ok(())
            }
        }
    }
}

fn chosen(rows: Option<&[u32]>, count: usize, keep: impl Fn(usize) -> bool) -> Vec<u32> {
    let keep = |row: &u32| keep(*row as usize);
    match rows {
        Some(rows) => rows.iter().copied().filter(keep).collect(),
        None => (0..count as u32).filter(keep).collect(),
    }
}

/// Reads `rows` values of a column that is no constant. `limit` bounds their bytes: those of the block's lines.
pub(crate) fn decode(
    layout: Layout,
    stamp: &Stamp,
    rows: usize,
    limit: u64,
    mut reader: Reader<'_>,
) -> Result<Values, SegmentError> {
    // All layouts have at least one byte a value, but for offsets of width 0, which no writer chooses.
    if rows > reader.remaining() {
        return Err(reader.corrupt(format!("holds {rows} variables in {} bytes", reader.remaining())));
    }
    let most = match layout {
        Layout::Dictionary => 0,
        _ => (u64::from(stamp.max_len) * rows as u64).min(limit) as usize,
    };
    let mut values = Values::with_capacity(stamp, rows, most);
    match layout {
        Layout::Constant => return Err(reader.corrupt("a constant has no column")),
        Layout::Words => {
            for _ in 0..rows {
                let value = reader.until(END)?;
                values.push(value, &reader)?;
            }
        }
        Layout::Fixed | Layout::Transposed => read_fixed(layout, stamp, rows, &mut reader, &mut values)?,
        Layout::Offsets => read_offsets(stamp, rows, limit, &mut reader, &mut values)?,
        Layout::Deltas | Layout::DeltaDeltas => {
            let (mut last, mut step) = (0i64, 0i64);
            for _ in 0..rows {
                let mut delta = reader.zigzag()?;
                if layout == Layout::DeltaDeltas {
                    delta = delta.wrapping_add(step);
                    step = delta;
                }
                last = last.wrapping_add(delta);
                values.put_number(last, stamp, limit, &reader)?;
            }
        }
        Layout::Dictionary => read_dictionary(rows, &mut reader, &mut values)?,
    }
    reader.finish()?;
    // Most values are shorter than the longest one, and they may be kept for long.
    values.text.shrink_to_fit();
    Ok(values)
}

impl Values {
    fn put_number(
        &mut self,
        number: i64,
        stamp: &Stamp,
        limit: u64,
        reader: &Reader<'_>,
    ) -> Result<(), SegmentError> {
        if !(0..1_000_000_000_000_000_000).contains(&number) || self.text.len() as u64 > limit {
            return Err(reader.corrupt(format!("{number} is no variable of the block")));
        }
        let mut digits = [b'0'; MAX_DIGITS];
        let (mut rest, mut at) = (number as u64, MAX_DIGITS);
        while rest > 0 || at == MAX_DIGITS {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        // Of one length: zeros in front make it up.
        if let Some(len) = stamp.fixed_len() {
            at = at.min(MAX_DIGITS.saturating_sub(len));
        }
        self.push(&digits[at..], reader)
    }
}

fn read_fixed(
    layout: Layout,
    stamp: &Stamp,
    rows: usize,
    reader: &mut Reader<'_>,
    values: &mut Values,
) -> Result<(), SegmentError> {
    let Some(width) = stamp.fixed_len().filter(|width| *width > 0) else {
        return Err(reader.corrupt("variables of a fixed length have none"));
    };
    let bytes = reader.take(width.saturating_mul(rows))?;
    if layout == Layout::Fixed {
        values.text.extend_from_slice(bytes);
    } else {
        values.text.resize(bytes.len(), 0);
        for (place, column) in bytes.chunks_exact(rows.max(1)).enumerate() {
            for (row, &byte) in column.iter().enumerate() {
                values.text[row * width + place] = byte;
            }
        }
    }
    Ok(())
}

fn read_offsets(
    stamp: &Stamp,
    rows: usize,
    limit: u64,
    reader: &mut Reader<'_>,
    values: &mut Values,
) -> Result<(), SegmentError> {
    let min = reader.varint()? as i64;
    let width = usize::from(reader.u8()?);
    if !(1..=8).contains(&width) {
        return Err(reader.corrupt(format!("distances are {width} bytes wide")));
    }
    for bytes in reader.take(rows * width)?.chunks_exact(width) {
        let mut wide = [0; 8];
        wide[..width].copy_from_slice(bytes);
        values.put_number(min.wrapping_add(i64::from_le_bytes(wide)), stamp, limit, reader)?;
    }
    Ok(())
}

fn read_dictionary(rows: usize, reader: &mut Reader<'_>, values: &mut Values) -> Result<(), SegmentError> {
    let count = reader.count("distinct variables", MAX_DICTIONARY as u64)?;
    for _ in 0..count {
        let value = reader.until(END)?;
        values.push(value, reader)?;
    }
    let ids = if count <= 1 << 8 {
        Ids::Narrow(reader.take(rows)?.to_vec())
    } else {
        let pairs = reader.take(rows.saturating_mul(2))?.as_chunks::<2>().0;
        Ids::Wide(pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect())
    };
    let highest = match &ids {
        Ids::Narrow(ids) => ids.iter().max().map_or(0, |id| usize::from(*id)),
        Ids::Wide(ids) => ids.iter().max().map_or(0, |id| usize::from(*id)),
    };
    if highest >= count {
        return Err(reader.corrupt(format!("variable {highest} of {count}")));
    }
    values.ids = Some(ids);
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_a_layout_costs_is_what_it_writes(
            words in prop_oneof![
                prop::collection::vec("[0-9]{3}", 1..40),
                prop::collection::vec("[1-9][0-9]{0,17}", 1..40),
                prop::collection::vec("[ab]{1,3}", 1..40),
            ],
        ) {
            let values: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
            let stamp = Stamp::of(&values);
            let mut numbers = Vec::new();
            let numbers = read_numbers(&values, &stamp, &mut numbers).then_some(&*numbers);
            for layout in (0..).map_while(Layout::of) {
                if stamp.fixed_len().is_none() && matches!(layout, Layout::Fixed | Layout::Transposed) {
                    continue;
                }
                let mut written = Vec::new();
                let cost = put(layout, &values, numbers, &mut written).then_some(written.len());
                prop_assert_eq!(plain_cost(layout, &values, numbers, usize::MAX), cost, "{:?}", layout);
                // What is left out unwritten would not have been the smallest.
                let best = values.len() + 2;
                if plain_cost(layout, &values, numbers, best).is_none() {
                    prop_assert!(cost.is_none_or(|cost| cost >= best), "{:?}", layout);
                }
            }
        }
    }
}
