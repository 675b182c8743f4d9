//! Which lines of a block hold a text: asked of templates first, of variables where templates leave it open.
//!
//! Answers are kept by template, so that several can be put together before a row is looked at.

use std::ops::Range;

use memchr::memmem::Finder;

use super::{
    lines::TemplateLines,
    needle::{Needle, Reading, Readings},
    rows::RowSet,
    words::{SLOT, Vocabulary},
};
use crate::SegmentError;

/// Long s and the Kelvin sign, which are `s` and `k` when case is ignored.
const FOLDED: [&str; 2] = ["\u{17f}", "\u{212a}"];

/// The lines of a block that hold a text, or pass several such tests.
#[derive(Debug, Clone)]
pub struct Hits {
    /// Those without a template, then those of each template.
    found: Vec<Found>,
}

/// Lines of one template.
#[derive(Debug, Clone)]
enum Found {
    None,
    All,
    /// By ordinal.
    Some(RowSet),
}

impl Found {
    fn intersect(&mut self, other: &Found) {
        match (&mut *self, other) {
            (Found::None, _) | (_, Found::All) => {}
            (_, Found::None) => *self = Found::None,
            (Found::All, Found::Some(_)) => *self = other.clone(),
            (Found::Some(set), Found::Some(other)) => {
                set.intersect(other);
                if set.is_empty() {
                    *self = Found::None;
                }
            }
        }
    }

    fn unite(&mut self, other: &Found) {
        match (&mut *self, other) {
            (Found::All, _) | (_, Found::None) => {}
            (Found::Some(set), Found::Some(other)) => set.unite(other),
            _ => *self = other.clone(),
        }
    }

    fn subtract(&mut self, other: &Found) {
        match (&mut *self, other) {
            (Found::None, _) | (_, Found::None) => {}
            (_, Found::All) => *self = Found::None,
            (Found::All, Found::Some(other)) => {
                let mut rest = other.clone();
                rest.invert();
                *self = Found::Some(rest);
            }
            (Found::Some(set), Found::Some(other)) => {
                set.subtract(other);
                if set.is_empty() {
                    *self = Found::None;
                }
            }
        }
    }

    fn insert(&mut self, rows: u32, ordinal: u32) {
        match self {
            Found::None => {
                let mut set = RowSet::empty(rows);
                set.insert(ordinal);
                *self = Found::Some(set);
            }
            Found::All => {}
            Found::Some(set) => set.insert(ordinal),
        }
    }
}

impl Hits {
    /// Leaves out the lines that `other`, of the same block, doesn't have.
    pub fn intersect(&mut self, other: &Hits) {
        let pairs = self.found.iter_mut().zip(&other.found);
        pairs.for_each(|(found, other)| found.intersect(other));
    }

    /// Adds the lines that `other`, of the same block, has.
    pub fn unite(&mut self, other: &Hits) {
        let pairs = self.found.iter_mut().zip(&other.found);
        pairs.for_each(|(found, other)| found.unite(other));
    }

    /// Leaves out the lines that `other`, of the same block, has.
    pub fn subtract(&mut self, other: &Hits) {
        let pairs = self.found.iter_mut().zip(&other.found);
        pairs.for_each(|(found, other)| found.subtract(other));
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.iter().all(|found| matches!(found, Found::None))
    }

    /// Whether all lines of the block are there, as far as it can be told without counting.
    fn is_all(&self) -> bool {
        self.found.iter().all(|found| matches!(found, Found::All))
    }
}

impl TemplateLines {
    /// All lines.
    #[must_use]
    pub fn every_hit(&self) -> Hits {
        let mut found = vec![Found::All; self.directory().templates.len() + 1];
        if self.other_rows() == 0 {
            found[0] = Found::None;
        }
        Hits { found }
    }

    /// The lines that contain the needle: all of them and no other. When case is ignored, there may be too many:
    /// letters beyond ASCII can be equal to ASCII ones in a regular expression's eyes.
    ///
    /// # Errors
    /// When the bytes are corrupt, here and in all that follow.
    pub fn hits(&self, needle: &Needle) -> Result<Hits, SegmentError> {
        self.search(needle, false)
    }

    /// As [`TemplateLines::hits`], but there may be too many: variables are not looked at. Templates and the lines
    /// without one suffice for it.
    ///
    /// # Errors
    /// When the bytes are corrupt.
    pub fn hits_at_most(&self, needle: &Needle) -> Result<Hits, SegmentError> {
        self.search(needle, true)
    }

    fn search(&self, needle: &Needle, at_most: bool) -> Result<Hits, SegmentError> {
        let mut found: Vec<Found> = vec![Found::None; self.directory().templates.len() + 1];
        let text = if needle.ignores_case() {
            self.folded_text()
        } else {
            &self.directory().text
        };
        for vocabulary in Vocabulary::ALL {
            if !self.directory().of_vocabulary(vocabulary).is_empty() {
                let mut search = Search {
                    lines: self,
                    text,
                    ignore_case: needle.ignores_case(),
                    at_most,
                    found: &mut found[1..],
                };
                search.templates(vocabulary, needle.readings(vocabulary))?;
            }
        }
        self.search_other(needle, at_most, &mut found[0])?;
        if needle.is_folded_beyond_ascii() {
            self.add_folded(at_most, &mut found)?;
        }
        Ok(Hits { found })
    }

    /// The rows of the lines.
    ///
    /// # Errors
    /// When the bytes are corrupt.
    pub fn rows_of(&self, hits: &Hits) -> Result<RowSet, SegmentError> {
        if hits.is_empty() {
            return Ok(RowSet::empty(self.rows()));
        }
        if hits.is_all() {
            return Ok(RowSet::all(self.rows()));
        }
        let index = self.index()?;
        let mut rows = RowSet::empty(self.rows());
        for (id, found) in hits.found.iter().enumerate() {
            let count = index.count(id);
            let mut insert = |ordinal| {
                if let Some(row) = index.row(id, ordinal) {
                    rows.insert(row);
                }
            };
            match found {
                Found::None => {}
                Found::All => (0..count).for_each(&mut insert),
                Found::Some(ordinals) => ordinals.rows_in(0..count).for_each(&mut insert),
            }
        }
        Ok(rows)
    }

    /// Those of the rows in `ranges` (ascending, apart) whose lines are among the hits, ascending.
    ///
    /// # Errors
    /// When the bytes are corrupt.
    pub fn rows_in(&self, hits: &Hits, ranges: &[Range<u32>]) -> Result<Vec<u32>, SegmentError> {
        let asked: u64 = ranges
            .iter()
            .map(|range| u64::from(range.end - range.start))
            .sum();
        let index = self.index()?;
        let found = hits.found.iter().enumerate();
        let with_hits = found.filter(|(_, found)| !matches!(found, Found::None));
        let hit: u64 = with_hits.map(|(id, _)| u64::from(index.count(id))).sum();
        if hit <= asked {
            let rows = self.rows_of(hits)?;
            return Ok(ranges
                .iter()
                .flat_map(|range| rows.rows_in(range.clone()))
                .collect());
        }
        // Few rows of a block are asked about: those of an hour, or of a stream.
        let mut places = self.places()?;
        let mut rows = Vec::new();
        for row in ranges.iter().cloned().flatten() {
            let is_hit = match &hits.found[places.id(row)?] {
                Found::None => false,
                Found::All => true,
                Found::Some(ordinals) => ordinals.contains(places.locate(row)?.1),
            };
            rows.extend(is_hit.then_some(row));
        }
        Ok(rows)
    }

    /// [`TemplateLines::hits`] as rows.
    ///
    /// # Errors
    /// When the bytes are corrupt.
    pub fn rows_with(&self, needle: &Needle) -> Result<RowSet, SegmentError> {
        self.rows_of(&self.hits(needle)?)
    }

    fn search_other(&self, needle: &Needle, at_most: bool, found: &mut Found) -> Result<(), SegmentError> {
        let other = self.other_text()?;
        let folded;
        let text = if needle.ignores_case() {
            folded = other.to_ascii_lowercase();
            &folded
        } else {
            other
        };
        let finder = Finder::new(needle.text());
        let mut at = 0;
        while let Some(hit) = text.get(at..).and_then(|rest| finder.find(rest)) {
            let hit = at + hit;
            if at_most {
                *found = Found::All;
                return Ok(());
            }
            // Where the lines begin is only looked up when there is something to find.
            let lines = self.other()?;
            let ordinal = lines.row_of(hit);
            let end = lines.offsets().get(ordinal + 1).map_or(0, |&end| end as usize);
            if hit + needle.text().len() > end {
                at = hit + 1;
                continue;
            }
            found.insert(self.other_rows(), ordinal as u32);
            at = end;
        }
        Ok(())
    }

    /// Adds the lines with letters beyond ASCII that a regular expression takes for ASCII ones when case is ignored.
    fn add_folded(&self, at_most: bool, found: &mut [Found]) -> Result<(), SegmentError> {
        for letter in FOLDED {
            let finder = Finder::new(letter);
            let directory = self.directory();
            for hit in finder.find_iter(&directory.text) {
                found[directory.template_at(hit) + 1] = Found::All;
            }
            for hit in finder.find_iter(self.other_text()?) {
                if at_most {
                    found[0] = Found::All;
                    break;
                }
                let ordinal = self.other()?.row_of(hit) as u32;
                found[0].insert(self.other_rows(), ordinal);
            }
        }
        Ok(())
    }
}

/// A search of one block's templates.
struct Search<'a> {
    lines: &'a TemplateLines,
    /// The templates' text, in lower case when case is ignored.
    text: &'a [u8],
    ignore_case: bool,
    /// What variables would have to tell counts as found.
    at_most: bool,
    /// Of each template.
    found: &'a mut [Found],
}

impl Search<'_> {
    fn templates(&mut self, vocabulary: Vocabulary, readings: &Readings) -> Result<(), SegmentError> {
        let directory = self.lines.directory();
        let templates = &directory.templates[directory.of_vocabulary(vocabulary)];
        let (Some(first), Some(last)) = (templates.first(), templates.last()) else {
            return Ok(());
        };
        let within = first.text.start..last.text.end;
        if let Some(core) = &readings.core {
            return self.scan(core, within, |search, hit| {
                for reading in &readings.list {
                    if let Some(start) = hit.checked_sub(reading.core) {
                        search.check(start, reading)?;
                    }
                }
                Ok(())
            });
        }
        for reading in &readings.list {
            match (reading.template.as_slice(), reading.parts.as_slice()) {
                ([SLOT], [_]) => self.variables(vocabulary, reading)?,
                _ => {
                    let finder = Finder::new(&reading.template);
                    self.scan(&finder, within.clone(), |search, hit| search.check(hit, reading))?;
                }
            }
        }
        Ok(())
    }

    /// Calls `check` for each place in the text where the finder finds something.
    fn scan(
        &mut self,
        finder: &Finder<'_>,
        within: Range<usize>,
        check: impl Fn(&mut Self, usize) -> Result<(), SegmentError>,
    ) -> Result<(), SegmentError> {
        let mut at = within.start;
        while let Some(hit) = self.text.get(at..within.end).and_then(|rest| finder.find(rest)) {
            let hit = at + hit;
            check(self, hit)?;
            at = hit + 1;
            let template = self.lines.directory().template_at(hit);
            if matches!(self.found[template], Found::All) {
                at = self.lines.directory().templates[template].text.end;
            }
        }
        Ok(())
    }

    /// A reading that is one variable and nothing else: may be in any column whose stamp allows it.
    fn variables(&mut self, vocabulary: Vocabulary, reading: &Reading) -> Result<(), SegmentError> {
        let directory = self.lines.directory();
        let templates = &directory.templates[directory.of_vocabulary(vocabulary)];
        let (Some(first), Some(last)) = (templates.first(), templates.last()) else {
            return Ok(());
        };
        let columns = first.columns.start..last.columns.end;
        let [part] = reading.parts.as_slice() else {
            return Ok(());
        };
        for number in columns {
            if part.may_be_in(&directory.stamps[number], self.ignore_case) {
                self.check(directory.columns[number].slot as usize, reading)?;
            }
        }
        Ok(())
    }

    /// Adds the lines whose template meets the reading at `start` of the text, and whose variables do.
    fn check(&mut self, start: usize, reading: &Reading) -> Result<(), SegmentError> {
        let directory = self.lines.directory();
        let end = start + reading.template.len();
        if self.text.get(start..end) != Some(&reading.template) {
            return Ok(());
        }
        let template = directory.template_at(start);
        if end > directory.templates[template].text.end || matches!(self.found[template], Found::All) {
            return Ok(());
        }
        self.check_variables(template, start, reading)
    }

    fn check_variables(
        &mut self,
        number: usize,
        start: usize,
        reading: &Reading,
    ) -> Result<(), SegmentError> {
        let directory = self.lines.directory();
        let template = &directory.templates[number];
        let columns = template.columns.clone();
        let before =
            directory.columns[columns.clone()].partition_point(|column| (column.slot as usize) < start);
        let first = columns.start + before;
        let ignore_case = self.ignore_case;
        let pairs = || (first..).zip(&reading.parts);
        if !pairs().all(|(column, part)| part.may_be_in(&directory.stamps[column], ignore_case)) {
            return Ok(());
        }
        let constant = |column: usize| directory.constant(&directory.columns[column]);
        let met = |(column, part): (usize, &super::needle::VariablePart)| {
            constant(column).is_none_or(|value| part.is_met_by(value, ignore_case))
        };
        if !pairs().all(met) {
            return Ok(());
        }
        if self.at_most {
            self.found[number] = Found::All;
            return Ok(());
        }
        let mut passed: Option<Vec<u32>> = None;
        for (column, part) in pairs().filter(|(column, _)| constant(*column).is_none()) {
            let values = self.lines.values(column, template.rows)?;
            let now = values.matching(passed.as_deref(), |value| part.is_met_by(value, ignore_case));
            if now.is_empty() {
                return Ok(());
            }
            passed = Some(now);
        }
        match passed {
            None => self.found[number] = Found::All,
            Some(passed) => {
                let found = &mut self.found[number];
                passed
                    .into_iter()
                    .for_each(|ordinal| found.insert(template.rows, ordinal));
            }
        }
        Ok(())
    }
}
