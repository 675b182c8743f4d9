//! Decoded columns as readers use them: lines in one text, metadata as dictionary and ids. Knows no bytes on objects.

/// Consecutive rows of a block that belong to one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamRun {
    /// Index into `SegmentFooter::streams`.
    pub stream: u32,
    /// First row in the block.
    pub first_row: u32,
    /// Rows, at least one.
    pub rows: u32,
}

/// The lines of a block: one text without separators, and where each line starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lines {
    text: String,
    /// `rows + 1` offsets into `text`, ascending, each on a character boundary.
    offsets: Vec<u32>,
}

impl Lines {
    /// The caller has checked that `offsets` are ascending character boundaries from 0 to the text's length.
    pub(crate) fn new(text: String, offsets: Vec<u32>) -> Self {
        debug_assert_eq!(offsets.last().map(|&end| end as usize), Some(text.len()));
        Lines { text, offsets }
    }

    /// Number of lines.
    pub fn rows(&self) -> usize {
        self.offsets.len() - 1
    }

    /// The line of `row`.
    ///
    /// # Panics
    /// When `row` is not below [`Lines::rows`].
    pub fn get(&self, row: usize) -> &str {
        &self.text[self.offsets[row] as usize..self.offsets[row + 1] as usize]
    }

    /// All lines, one right after another. A match in it counts only if it lies in one row: see [`Lines::row_of`].
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where each line starts in the text, and the text's length at the end: `rows + 1` values.
    pub fn offsets(&self) -> &[u32] {
        &self.offsets
    }

    /// The row that holds the text's byte at `offset`; the last row when `offset` is at or beyond the end.
    /// Empty lines hold no byte, so no offset leads to them except to trailing ones.
    pub fn row_of(&self, offset: usize) -> usize {
        let after = self.offsets.partition_point(|&start| start as usize <= offset);
        after.saturating_sub(1).min(self.rows().saturating_sub(1))
    }

    /// Lines in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.offsets
            .windows(2)
            .map(|pair| &self.text[pair[0] as usize..pair[1] as usize])
    }
}

/// One structured-metadata name's values: a dictionary, and an id for each row (0 = the row has no such metadata).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataColumn {
    rows: usize,
    text: String,
    /// Offsets into `text`; value of id `n` is `offsets[n - 1]..offsets[n]`.
    offsets: Vec<u32>,
    ids: Ids,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ids {
    /// (row after the run, id), rows ascending; the last ends at the block's rows.
    Runs(Vec<(u32, u32)>),
    Dense(Vec<u32>),
}

impl MetadataColumn {
    /// The caller has checked ids against the dictionary, and offsets as for [`Lines`].
    pub(crate) fn new(rows: usize, text: String, offsets: Vec<u32>, ids: Ids) -> Self {
        MetadataColumn {
            rows,
            text,
            offsets,
            ids,
        }
    }

    /// Rows of the block.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Distinct values. Ids are `1..=values()`.
    pub fn values(&self) -> usize {
        self.offsets.len() - 1
    }

    /// The value of an id; `None` for 0 and for ids beyond [`MetadataColumn::values`].
    pub fn value(&self, id: u32) -> Option<&str> {
        let end = *self.offsets.get(id as usize)?;
        let start = *self.offsets.get((id as usize).checked_sub(1)?)?;
        self.text.get(start as usize..end as usize)
    }

    /// The id of a row: 0 when it has no such metadata or lies beyond the block.
    pub fn id(&self, row: usize) -> u32 {
        match &self.ids {
            Ids::Dense(ids) => ids.get(row).copied().unwrap_or(0),
            Ids::Runs(runs) => {
                let run = runs.partition_point(|&(end, _)| end as usize <= row);
                runs.get(run).map_or(0, |&(_, id)| id)
            }
        }
    }

    /// The id of a row, and the row up to which (exclusive) all that follow have it; there may be more behind.
    pub fn run(&self, row: usize) -> (u32, usize) {
        match &self.ids {
            Ids::Dense(ids) => {
                let rest = ids.get(row..).unwrap_or_default();
                let id = rest.first().copied().unwrap_or(0);
                let same = rest.iter().take_while(|other| **other == id).count();
                (id, row + same.max(1))
            }
            Ids::Runs(runs) => {
                let run = runs.partition_point(|&(end, _)| end as usize <= row);
                runs.get(run)
                    .map_or((0, row + 1), |&(end, id)| (id, end as usize))
            }
        }
    }

    /// The value of a row, for rows that are asked for in order: `run` is where the last one was found, 0 at first.
    pub(crate) fn next(&self, row: usize, run: &mut usize) -> Option<&str> {
        if let Ids::Runs(runs) = &self.ids {
            while runs.get(*run).is_some_and(|&(end, _)| end as usize <= row) {
                *run += 1;
            }
            return self.value(runs.get(*run).map_or(0, |&(_, id)| id));
        }
        self.get(row)
    }

    /// The value of a row.
    pub fn get(&self, row: usize) -> Option<&str> {
        self.value(self.id(row))
    }

    /// The one id all rows have, if so.
    pub fn constant(&self) -> Option<u32> {
        match &self.ids {
            Ids::Runs(runs) => match runs[..] {
                [(_, id)] => Some(id),
                _ => None,
            },
            Ids::Dense(_) => None,
        }
    }

    /// Calls `run(rows, id)` for consecutive rows of one id, in order. Neighbouring runs may have equal ids.
    pub fn for_each_run(&self, mut run: impl FnMut(std::ops::Range<usize>, u32)) {
        match &self.ids {
            Ids::Runs(runs) => {
                let mut start = 0;
                for &(end, id) in runs {
                    run(start..end as usize, id);
                    start = end as usize;
                }
            }
            Ids::Dense(ids) => {
                let mut start = 0;
                for same in ids.chunk_by(|a, b| a == b) {
                    run(start..start + same.len(), same[0]);
                    start += same.len();
                }
            }
        }
    }

    /// Heap bytes, for memory budgets.
    pub fn heap_bytes(&self) -> usize {
        let ids = match &self.ids {
            Ids::Runs(runs) => runs.len() * 8,
            Ids::Dense(ids) => ids.len() * 4,
        };
        self.text.len() + self.offsets.len() * 4 + ids
    }
}
