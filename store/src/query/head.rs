//! The line filters at the head of a pipeline, answered before any row is looked at: on a block's whole text, or on
//! its templates and variables.
//!
//! Gives exactly the rows that pass; knows nothing of labels, time or order.

use super::block::Body;
use memchr::memmem::Finder;
use rankline_logql::{LineFilter, RequiredText};
use rankline_segment::{BlockText, Hits, Lines, Needle, SegmentError, TemplateLines};
use std::ops::Range;

/// Lines that are put together at once to be looked at.
pub(super) const LINES_AT_ONCE: usize = 4096;

/// Head filters made ready for many blocks.
pub(super) struct HeadSearch {
    templates: TemplateSearch,
    /// A literal that every passing line has.
    literal: Option<Finder<'static>>,
    /// The filters that the literal alone does not answer.
    rest: Vec<LineFilter>,
}

impl HeadSearch {
    pub(super) fn new(filters: &[LineFilter]) -> Self {
        let longest = filters
            .iter()
            .enumerate()
            .filter_map(|(place, filter)| Some((place, filter.required_literal()?)))
            .filter(|(_, literal)| !literal.is_empty())
            .max_by_key(|(_, literal)| literal.len());
        let answered = longest
            .filter(|(place, _)| filters[*place].is_exactly_contains())
            .map(|(place, _)| place);
        Self {
            templates: TemplateSearch::new(filters),
            literal: longest.map(|(_, literal)| Finder::new(literal).into_owned()),
            rest: filters
                .iter()
                .enumerate()
                .filter(|(place, _)| Some(*place) != answered)
                .map(|(_, filter)| filter.clone())
                .collect(),
        }
    }

    /// Whether every row passes.
    pub(super) fn is_empty(&self) -> bool {
        self.literal.is_none() && self.rest.is_empty()
    }

    /// Lines of a block that is stored as templates and that can pass; no other line does.
    pub(super) fn candidates(&self, text: &TemplateLines) -> Result<Hits, SegmentError> {
        self.templates.candidates(text)
    }

    /// Whether a look at templates alone may tell that no line passes.
    pub(super) fn asks_templates(&self) -> bool {
        !self.templates.with.is_empty()
    }

    /// Whether some row of a block that is stored as templates can pass, as far as templates tell.
    pub(super) fn may_pass(&self, text: &TemplateLines) -> Result<bool, SegmentError> {
        let hits = self.templates.hits(text, TemplateLines::hits_at_most)?;
        Ok(!hits.is_empty())
    }

    /// Rows of `ranges` (ascending, apart) that pass every filter, ascending. A body without lines passes.
    pub(super) fn passed(&self, body: &Body, ranges: &[Range<u32>]) -> Result<Vec<u32>, SegmentError> {
        let all = || ranges.iter().cloned().flatten().collect();
        match body.text() {
            Some(_) if self.is_empty() => Ok(all()),
            None => Ok(all()),
            Some(BlockText::Plain(lines)) => Ok(self.rows(lines, ranges)),
            Some(BlockText::Templates(text)) => {
                let lines = match &body.candidates {
                    Some(lines) => lines,
                    None => &self.candidates(text)?,
                };
                self.templates.passed(body, text, lines, ranges)
            }
        }
    }

    /// Rows of `ranges` (ascending, apart) whose line passes every filter, ascending.
    fn rows(&self, lines: &Lines, ranges: &[Range<u32>]) -> Vec<u32> {
        let mut passed = Vec::new();
        for range in ranges {
            match &self.literal {
                Some(literal) => self.search(lines, literal, range.clone(), &mut passed),
                None => passed.extend(
                    range
                        .clone()
                        .filter(|row| self.rest_pass(lines.get(*row as usize))),
                ),
            }
        }
        passed
    }

    fn rest_pass(&self, line: &str) -> bool {
        self.rest.iter().all(|filter| filter.matches(line))
    }

    /// Looks for the literal in the text of all rows at once and maps what it finds to rows.
    fn search(&self, lines: &Lines, literal: &Finder<'_>, rows: Range<u32>, passed: &mut Vec<u32>) {
        let text = lines.text().as_bytes();
        let length = literal.needle().len();
        let start_of = |row: usize| lines.offsets()[row] as usize;
        let (mut at, end) = (start_of(rows.start as usize), start_of(rows.end as usize));
        while let Some(found) = literal.find(&text[at..end]) {
            let hit = at + found;
            let row = lines.row_of(hit);
            let row_end = start_of(row + 1);
            if hit + length > row_end {
                // The literal straddles two lines; a later place in this one can still be a hit.
                at = hit + 1;
                continue;
            }
            if self.rest_pass(lines.get(row)) {
                passed.push(row as u32);
            }
            at = row_end;
        }
    }
}

/// Head filters as questions to templates and variables.
struct TemplateSearch {
    /// Of each of these at least one is in every line that passes.
    with: Vec<Vec<Needle>>,
    /// In no line that passes.
    without: Vec<Needle>,
    /// The filters that these do not answer.
    rest: Vec<LineFilter>,
}

impl TemplateSearch {
    fn new(filters: &[LineFilter]) -> Self {
        let (mut with, mut without, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        for filter in filters {
            let excluded = needles(filter.excluded());
            if !excluded.is_empty() {
                without.extend(excluded);
                continue;
            }
            let one_of = needles(filter.required_one_of());
            let answered = !one_of.is_empty() && filter.required_one_of().iter().all(|text| text.suffices);
            with.extend((!one_of.is_empty()).then_some(one_of));
            if !answered {
                rest.push(filter.clone());
            }
        }
        // What is longest is likely the rarest.
        with.sort_by_key(|one_of| std::cmp::Reverse(one_of.iter().map(Needle::len).min()));
        Self { with, without, rest }
    }

    pub(super) fn candidates(&self, text: &TemplateLines) -> Result<Hits, SegmentError> {
        let mut hits = self.hits(text, TemplateLines::hits)?;
        for needle in &self.without {
            if hits.is_empty() {
                break;
            }
            hits.subtract(&text.hits(needle)?);
        }
        Ok(hits)
    }

    /// Lines that have what is required, as far as `ask` tells.
    fn hits(
        &self,
        text: &TemplateLines,
        ask: impl Fn(&TemplateLines, &Needle) -> Result<Hits, SegmentError>,
    ) -> Result<Hits, SegmentError> {
        let mut hits = text.every_hit();
        for one_of in &self.with {
            let mut found: Option<Hits> = None;
            for needle in one_of {
                let of_needle = ask(text, needle)?;
                match &mut found {
                    None => found = Some(of_needle),
                    Some(found) => found.unite(&of_needle),
                }
            }
            found.iter().for_each(|found| hits.intersect(found));
            if hits.is_empty() {
                break;
            }
        }
        Ok(hits)
    }

    fn passed(
        &self,
        body: &Body,
        text: &TemplateLines,
        candidates: &Hits,
        ranges: &[Range<u32>],
    ) -> Result<Vec<u32>, SegmentError> {
        let rows = text.rows_in(candidates, ranges)?;
        if self.rest.is_empty() {
            return Ok(rows);
        }
        let mut passed = Vec::new();
        for rows in rows.chunks(LINES_AT_ONCE) {
            body.built(rows.len());
            let lines = text.lines(rows)?;
            let pairs = rows.iter().zip(lines.iter());
            let passing = pairs.filter(|(_, line)| self.rest.iter().all(|filter| filter.matches(line)));
            passed.extend(passing.map(|(row, _)| row));
        }
        Ok(passed)
    }
}

/// Needles for all texts; none when one of them can't be looked for.
fn needles(texts: &[RequiredText]) -> Vec<Needle> {
    let needle = |text: &RequiredText| match text.ignore_case {
        true => Needle::ignoring_case(&text.text),
        false => Needle::new(&text.text),
    };
    texts
        .iter()
        .map(needle)
        .collect::<Option<Vec<_>>>()
        .unwrap_or_default()
}

/// Joins neighbouring ranges.
pub(super) fn joined(ranges: impl Iterator<Item = Range<u32>>) -> Vec<Range<u32>> {
    let mut out: Vec<Range<u32>> = Vec::new();
    for range in ranges {
        match out.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => out.push(range),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::single_range_in_vec_init)]
    use super::*;
    use rankline_logql::{Expr, Pipeline};
    use rankline_segment::{ColumnKind, SegmentWriter, WriterOptions};

    /// The lines as they come back from a segment.
    fn lines(texts: &[&str]) -> Lines {
        let mut writer = SegmentWriter::new(WriterOptions::default());
        writer.begin_stream(&[("a", "b")]).unwrap();
        for (ts, line) in (0i64..).zip(texts) {
            writer.push(ts, line, &[]).unwrap();
        }
        let finished = writer.finish().unwrap();
        let block = &finished.footer.blocks[0];
        let bytes = |kind: ColumnKind| {
            let range = block.column(&kind).unwrap().range();
            &finished.bytes[range.start as usize..range.end as usize]
        };
        block
            .decode_lines(bytes(ColumnKind::LineLengths), bytes(ColumnKind::LineText))
            .unwrap()
    }

    fn rows(query: &str, texts: &[&str], ranges: &[Range<u32>]) -> Vec<u32> {
        let Expr::Log(expr) = rankline_logql::parse(query).unwrap() else {
            panic!("{query}")
        };
        HeadSearch::new(Pipeline::new(&expr.stages).unwrap().head_filters()).rows(&lines(texts), ranges)
    }

    #[test]
    fn a_literal_across_two_lines_is_no_hit() {
        let texts = ["xxab", "cd", "abcd", "", "aab", "cdabcd"];
        assert_eq!(rows(r#"{a="b"} |= "abcd""#, &texts, &[0..6]), [2, 5]);
        assert_eq!(rows(r#"{a="b"} |= "abcd""#, &texts, &[0..2, 3..6]), [5]);
        assert_eq!(rows(r#"{a="b"} |= "aa""#, &["a", "a", "aaa", "a"], &[0..4]), [2]);
    }

    #[test]
    fn every_filter_counts_whatever_its_order() {
        let texts = ["NCCL INFO a", "NCCL WARN b", "nccl info", "INFO NCCL", ""];
        assert_eq!(rows(r#"{a="b"} |= "NCCL" != "INFO""#, &texts, &[0..5]), [1]);
        assert_eq!(
            rows(r#"{a="b"} |~ "(?i)nccl" |= "INFO""#, &texts, &[0..5]),
            [0, 3]
        );
        assert_eq!(rows(r#"{a="b"} != "NCCL""#, &texts, &[0..5]), [2, 4]);
        assert_eq!(rows(r#"{a="b"} |= """#, &texts, &[0..5]), [0, 1, 2, 3, 4]);
        assert_eq!(rows(r#"{a="b"} |= "WARN" or "info""#, &texts, &[0..5]), [1, 2]);
    }

    #[test]
    fn neighbouring_ranges_are_joined() {
        assert_eq!(joined([0..2, 2..3, 4..5].into_iter()), [0..3, 4..5]);
    }
}
