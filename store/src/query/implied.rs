//! Rows that conditions on parsed labels leave out by what is in the templates: `| json | level="error"` wants lines with
//! that text.

use super::block::{Body, Rows};
use super::head::HeadSearch;
use super::labels;
use super::select::BlockTask;
use rankline_logql::{Labels, LineFilter};
use rankline_segment::{BlockText, SegmentError};

/// Searches for texts that lines must have where the labels they are for aren't the entry's own.
pub(super) struct ImpliedSearch {
    by_label: Vec<(String, HeadSearch)>,
}

impl ImpliedSearch {
    pub(super) fn new<'f>(filters: impl Iterator<Item = (&'f str, &'f LineFilter)>) -> Self {
        let search = |filter| HeadSearch::new(std::slice::from_ref(filter));
        Self {
            by_label: filters
                .map(|(label, filter)| (label.to_owned(), search(filter)))
                .collect(),
        }
    }

    /// Leaves the rows (ascending) that may pass. In blocks without templates nothing is looked for.
    pub(super) fn retain(
        &self,
        task: &BlockTask,
        rows: &Rows,
        body: &Body,
        passed: &mut Vec<u32>,
    ) -> Result<(), SegmentError> {
        let Some(BlockText::Templates(text)) = body.text() else {
            return Ok(());
        };
        for (label, search) in &self.by_label {
            if body.metadata_column(label).is_some() || passed.is_empty() {
                continue;
            }
            let found = text.rows_of(&search.candidates(text)?)?;
            let of_stream = |labels: &Labels| labels.get(label).is_some();
            let keep = |row, is_of_stream| is_of_stream || found.contains(row);
            labels::retain_by_stream(task, rows, passed, of_stream, keep);
        }
        Ok(())
    }
}
