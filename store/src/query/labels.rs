//! Labels of rows without a look at each: conditions on the text of one label are asked once for each stream, or once
//! for each distinct value of structured metadata; rows that have the same values are one class.

use super::block::{Body, Rows};
use super::select::BlockTask;
use rankline_logql::{LabelTest, Labels};
use rankline_segment::MetadataColumn;
use std::sync::Arc;

/// Most classes of rows that are told apart in a block.
const MAX_CLASSES: usize = 1 << 14;

/// Leaves the rows (ascending) that pass all tests.
pub(super) fn retain(
    tests: &[LabelTest<'_>],
    task: &BlockTask,
    rows: &Rows,
    body: &Body,
    passed: &mut Vec<u32>,
) {
    for test in tests {
        let column = body.metadata_column(test.name());
        let met = column.map(|column| met_ids(test, column));
        let without = test.passes("");
        let mut reader = column.map(|column| IdReader::new(Arc::clone(column)));
        let of_stream = |labels: &Labels| labels.get(test.name()).map(|value| test.passes(value));
        // A label of the stream hides metadata of its name.
        let keep = |row, of_stream| match (of_stream, &mut reader, &met) {
            (Some(passes), _, _) => passes,
            (None, Some(reader), Some(met)) => met[reader.id(row) as usize],
            _ => without,
        };
        retain_by_stream(task, rows, passed, of_stream, keep);
    }
}

/// Leaves the rows (ascending) that are to be kept. `keep` gets each row with what `of_stream` says of its stream's labels.
pub(super) fn retain_by_stream<T: Copy>(
    task: &BlockTask,
    rows: &Rows,
    passed: &mut Vec<u32>,
    of_stream: impl Fn(&Labels) -> T,
    mut keep: impl FnMut(u32, T) -> bool,
) {
    let mut known = None;
    let mut spans = rows.spans.iter().peekable();
    passed.retain(|row| {
        while spans.next_if(|span| span.rows.end <= *row).is_some() {}
        let Some(span) = spans.peek() else { return false };
        let said = match known {
            Some((stream, said)) if stream == span.stream => said,
            _ => {
                let said = of_stream(&task.part.labels(span.stream));
                known = Some((span.stream, said));
                said
            }
        };
        keep(*row, said)
    });
}

/// Which ids of a column pass, 0 for none among them.
fn met_ids(test: &LabelTest<'_>, column: &MetadataColumn) -> Vec<bool> {
    (0..=column.values() as u32)
        .map(|id| test.passes(column.value(id).unwrap_or("")))
        .collect()
}

/// The ids of a column, for rows that mostly ascend.
struct IdReader {
    column: Arc<MetadataColumn>,
    id: u32,
    rows: std::ops::Range<usize>,
}

impl IdReader {
    fn new(column: Arc<MetadataColumn>) -> Self {
        Self {
            column,
            id: 0,
            rows: 0..0,
        }
    }

    #[inline]
    fn id(&mut self, row: u32) -> u32 {
        let row = row as usize;
        if !self.rows.contains(&row) {
            let end;
            (self.id, end) = self.column.run(row);
            self.rows = row..end;
        }
        self.id
    }
}

/// Tells rows apart by the structured metadata that was asked for, and by something else of which there is a number.
pub(super) struct Classes {
    columns: Vec<IdReader>,
    others: usize,
    count: usize,
}

impl Classes {
    /// `None` when there would be too many.
    pub(super) fn of(body: &Body, others: usize) -> Option<Self> {
        let mut count = others.max(1);
        let mut columns = Vec::new();
        for column in body.metadata_columns() {
            count = count.checked_mul(column.values() + 1)?;
            columns.push(IdReader::new(Arc::clone(column)));
        }
        (count <= MAX_CLASSES).then_some(Self {
            columns,
            others: others.max(1),
            count,
        })
    }

    /// How many classes there can be.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The class of a row, and the row up to which (exclusive) all that follow have it; there may be more behind.
    pub(super) fn run(&mut self, row: u32) -> (usize, u32) {
        let class = self.class(row, 0);
        let ends = self.columns.iter().map(|column| column.rows.end);
        (class, ends.min().map_or(u32::MAX, |end| end as u32))
    }

    /// The class of a row whose other number is `other`.
    #[inline]
    pub(super) fn class(&mut self, row: u32, other: usize) -> usize {
        let columns = self.columns.iter_mut();
        let of_metadata = columns.fold(0, |class, column| {
            class * (column.column.values() + 1) + column.id(row) as usize
        });
        of_metadata * self.others + other
    }
}
