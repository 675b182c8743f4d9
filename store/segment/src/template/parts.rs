//! Parts of lines by where they are in their template, for readers that know what they look for by the template alone.

use std::ops::Range;

use super::lines::{TemplateLines, TemplatePlace};
use crate::SegmentError;

impl TemplateLines {
    /// A template's text, in which one digit stands for each variable, and where the variables are; `None` when there is
    /// no such template.
    #[must_use]
    pub fn skeleton(&self, template: usize) -> Option<(&str, Vec<usize>)> {
        let directory = self.directory();
        let template = directory.templates.get(template)?;
        let text = std::str::from_utf8(&directory.text[template.text.clone()]).ok()?;
        let columns = &directory.columns[template.columns.clone()];
        let variables = columns
            .iter()
            .map(|column| column.slot as usize - template.text.start);
        Some((text, variables.collect()))
    }

    /// The part of a template's lines that is `part` of its text.
    #[must_use]
    pub fn part_of(&self, template: usize, part: Range<usize>) -> Option<TemplatePlace> {
        let directory = self.directory();
        let template = directory.templates.get(template)?;
        let end = (template.text.start + part.end).min(template.text.end);
        let at = (template.text.start + part.start).min(end);
        let columns = &directory.columns[template.columns.clone()];
        let before = |place: usize| {
            let columns = columns.partition_point(|column| (column.slot as usize) < place);
            template.columns.start + columns
        };
        Some(TemplatePlace {
            end,
            columns: before(end),
            rows: template.rows,
            at,
            column: before(at),
        })
    }

    /// Whether the part is the same in all lines.
    #[must_use]
    pub fn is_fixed(&self, part: TemplatePlace) -> bool {
        let directory = self.directory();
        let columns = directory.columns.get(part.column..part.columns).unwrap_or(&[]);
        columns.iter().all(|column| directory.constant(column).is_some())
    }

    /// Whether all values of the `variable`-th variable of a template meet something.
    ///
    /// # Errors
    /// When the bytes are corrupt.
    pub fn all_values(
        &self,
        template: usize,
        variable: usize,
        meets: impl Fn(&[u8]) -> bool,
    ) -> Result<bool, SegmentError> {
        let directory = self.directory();
        let Some(template) = directory.templates.get(template) else {
            return Ok(false);
        };
        let number = template.columns.start + variable;
        let Some(column) = directory
            .columns
            .get(number)
            .filter(|_| number < template.columns.end)
        else {
            return Ok(false);
        };
        Ok(match directory.constant(column) {
            Some(value) => meets(value),
            None => self.values(number, template.rows)?.all(meets),
        })
    }

    /// Whether all values of the `variable`-th variable of a template are digits, as far as that is known without a look
    /// at them.
    #[must_use]
    pub fn are_digits(&self, template: usize, variable: usize) -> bool {
        let directory = self.directory();
        let template = directory.templates.get(template);
        let number = template.map(|template| template.columns.start + variable);
        let stamp = number.and_then(|number| directory.stamps.get(number));
        stamp.is_some_and(|stamp| stamp.alphabet < 1 << 10)
    }
}
