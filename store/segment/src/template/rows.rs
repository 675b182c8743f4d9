//! Rows of a block: sets of them, and which rows have which template. Knows no texts.

use std::ops::Range;

/// Rows of a block, or of one template by their ordinals.
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
        set.cut();
        set
    }

    /// Takes away the bits beyond the last row.
    fn cut(&mut self) {
        if let Some(last) = self.bits.last_mut()
            && !self.rows.is_multiple_of(64)
        {
            *last &= (1 << (self.rows % 64)) - 1;
        }
    }

    /// Leaves out the rows that `other` doesn't have.
    pub fn intersect(&mut self, other: &RowSet) {
        self.bits
            .iter_mut()
            .zip(&other.bits)
            .for_each(|(bits, other)| *bits &= other);
    }

    /// Adds the rows that `other` has.
    pub fn unite(&mut self, other: &RowSet) {
        self.bits
            .iter_mut()
            .zip(&other.bits)
            .for_each(|(bits, other)| *bits |= other);
    }

    /// Leaves out the rows that `other` has.
    pub fn subtract(&mut self, other: &RowSet) {
        self.bits
            .iter_mut()
            .zip(&other.bits)
            .for_each(|(bits, other)| *bits &= !other);
    }

    /// Has exactly the rows that it had not.
    pub fn invert(&mut self) {
        self.bits.iter_mut().for_each(|bits| *bits = !*bits);
        self.cut();
    }

    /// Adds a row; one beyond the block is left out.
    #[inline]
    pub fn insert(&mut self, row: u32) {
        if row < self.rows {
            self.bits[row as usize / 64] |= 1 << (row % 64);
        }
    }

    /// Whether the row is one of them.
    #[inline]
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

    /// How many rows of `range` there are.
    #[must_use]
    pub fn count_in(&self, range: Range<u32>) -> u32 {
        let (start, end) = (range.start, range.end.min(self.rows));
        if start >= end {
            return 0;
        }
        let (first, last) = ((start / 64) as usize, ((end - 1) / 64) as usize);
        let from = u64::MAX << (start % 64);
        let to = u64::MAX >> (63 - (end - 1) % 64);
        if first == last {
            return (self.bits[first] & from & to).count_ones();
        }
        let between: u32 = self.bits[first + 1..last]
            .iter()
            .map(|bits| bits.count_ones())
            .sum();
        (self.bits[first] & from).count_ones() + between + (self.bits[last] & to).count_ones()
    }

    /// The rows in `range`, ascending.
    pub fn rows_in(&self, range: Range<u32>) -> impl Iterator<Item = u32> + '_ {
        let (start, end) = (range.start, range.end.min(self.rows));
        (start / 64..end.div_ceil(64)).flat_map(move |word| {
            let mut bits = self.bits.get(word as usize).copied().unwrap_or(0);
            if word == start / 64 {
                bits &= u64::MAX << (start % 64);
            }
            if word == end / 64 {
                bits &= (1 << (end % 64)) - 1;
            }
            std::iter::from_fn(move || {
                if bits == 0 {
                    return None;
                }
                let row = word * 64 + bits.trailing_zeros();
                bits &= bits - 1;
                Some(row)
            })
        })
    }
}

/// Unsigned numbers in two bytes each where all fit, as most blocks' do.
#[derive(Debug)]
pub(super) enum Numbers {
    Short(Vec<u16>),
    Long(Vec<u32>),
}

impl Numbers {
    /// Zeros, for numbers up to `largest`.
    fn zeros(count: usize, largest: usize) -> Self {
        if largest <= usize::from(u16::MAX) {
            Numbers::Short(vec![0; count])
        } else {
            Numbers::Long(vec![0; count])
        }
    }

    #[inline]
    fn set(&mut self, place: usize, number: u32) {
        match self {
            Numbers::Short(numbers) => numbers[place] = number as u16,
            Numbers::Long(numbers) => numbers[place] = number,
        }
    }

    #[inline]
    pub(super) fn get(&self, place: usize) -> Option<u32> {
        match self {
            Numbers::Short(numbers) => numbers.get(place).map(|&number| u32::from(number)),
            Numbers::Long(numbers) => numbers.get(place).copied(),
        }
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Numbers::Short(numbers) => numbers.len() * 2,
            Numbers::Long(numbers) => numbers.len() * 4,
        }
    }
}

/// Which rows have which template. Ids are template + 1, 0 for the lines without one.
#[derive(Debug)]
pub(super) struct RowIndex {
    /// Of each row.
    ids: Numbers,
    /// Rows by id, ascending within one.
    rows: Numbers,
    /// Where the rows of each id start in `rows`, and the end.
    starts: Vec<u32>,
}

impl RowIndex {
    /// The index of rows with these ids, each at most `templates`; fewer than 2^32 rows.
    pub(super) fn new(ids: &[u32], templates: usize) -> Self {
        let mut starts = vec![0u32; templates + 2];
        ids.iter().for_each(|&id| starts[id as usize + 1] += 1);
        for id in 0..=templates {
            starts[id + 1] += starts[id];
        }
        let mut next = starts.clone();
        let mut rows = Numbers::zeros(ids.len(), ids.len().saturating_sub(1));
        let mut narrow = Numbers::zeros(ids.len(), templates);
        for (row, &id) in ids.iter().enumerate() {
            let place = &mut next[id as usize];
            rows.set(*place as usize, row as u32);
            narrow.set(row, id);
            *place += 1;
        }
        RowIndex {
            ids: narrow,
            rows,
            starts,
        }
    }

    /// The id of a row of the block.
    #[inline]
    pub(super) fn id(&self, row: u32) -> Option<u32> {
        self.ids.get(row as usize)
    }

    /// How many rows have the id.
    pub(super) fn count(&self, id: usize) -> u32 {
        match (self.starts.get(id), self.starts.get(id + 1)) {
            (Some(&start), Some(&end)) => end - start,
            _ => 0,
        }
    }

    /// The row that has the id as the `ordinal`-th.
    #[inline]
    pub(super) fn row(&self, id: usize, ordinal: u32) -> Option<u32> {
        let start = self.starts.get(id)?;
        self.rows.get((start + ordinal) as usize)
    }

    /// How many rows before this one have its id. What lies close behind the ordinal `known` is found fastest.
    #[inline]
    pub(super) fn ordinal(&self, id: usize, row: u32, known: u32) -> u32 {
        let (start, end) = (self.starts[id], self.starts[id + 1]);
        let is_before = |place: u32| self.rows.get(place as usize).is_some_and(|at| at < row);
        let from = end.min(start + known);
        let (mut from, mut step) = if from == start || is_before(from - 1) {
            (from, 1)
        } else {
            (start, 1)
        };
        while from + step <= end && is_before(from + step - 1) {
            from += step;
            step *= 2;
        }
        let mut to = end.min(from + step);
        while from < to {
            let middle = from + (to - from) / 2;
            if is_before(middle) {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        from - start
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.ids.heap_bytes() + self.rows.heap_bytes() + self.starts.len() * 4
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn sets_count_and_list_what_was_put_in(
            rows in 0u32..300,
            put in prop::collection::vec(0u32..310, 0..80),
            (from, to) in (0u32..310, 0u32..310),
        ) {
            let mut set = RowSet::empty(rows);
            put.iter().for_each(|&row| set.insert(row));
            let listed: Vec<u32> = (from..to).filter(|row| *row < rows && put.contains(row)).collect();
            prop_assert_eq!(set.rows_in(from..to).collect::<Vec<_>>(), listed.clone());
            prop_assert_eq!(set.count_in(from..to) as usize, listed.len());
            let mut rest = set.clone();
            rest.invert();
            prop_assert_eq!(rest.count_in(0..rows) + set.count_in(0..rows), rows);
            rest.intersect(&set);
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn rows_are_found_by_template_and_back(ids in prop::collection::vec(0u32..5, 0..200)) {
            let index = RowIndex::new(&ids, 5);
            let mut seen = [0u32; 6];
            for (row, &id) in (0u32..).zip(&ids) {
                let ordinal = seen[id as usize];
                prop_assert_eq!(index.id(row), Some(id));
                for known in [0, ordinal / 2, ordinal, ordinal + 3] {
                    prop_assert_eq!(index.ordinal(id as usize, row, known), ordinal);
                }
                prop_assert_eq!(index.row(id as usize, ordinal), Some(row));
                seen[id as usize] += 1;
            }
            for (id, rows) in seen.into_iter().enumerate() {
                prop_assert_eq!(index.count(id), rows);
            }
        }
    }
}
