//! What one group of an expression captures in the lines of a block that is stored as templates. Most of it is decided
//! by the template: where the match begins, and often all of it; of the rest only the variables that the match reaches
//! are looked at.

use rankline_logql::{CaptureScan, SoleCapture};
use rankline_segment::{Needle, Places, SegmentError, Stop, TemplateLines, TemplatePlace};

/// What the group captures in a line.
pub(super) enum Captured<'c> {
    /// The same in all lines of the template of this number; `None`: the expression doesn't match.
    OfTemplate(usize, Option<&'c str>),
    /// In this line; `None`: the expression doesn't match.
    OfRow(Option<&'c str>),
    /// The line has to be asked itself.
    Unknown(&'c str),
}

/// What is known of a template.
enum Known {
    /// All lines capture this.
    Fixed(Option<Box<str>>),
    /// A line's own variables come into it from this place on.
    From {
        scan: CaptureScan,
        place: TemplatePlace,
        /// The literal comes again: where nothing matches at the first place, the whole line must be looked at.
        again: bool,
    },
    /// Nothing.
    Whole,
}

/// Reads captures row by row, in any order; ascending rows fastest.
pub(super) struct Captures<'a> {
    capture: &'a SoleCapture,
    text: &'a TemplateLines,
    places: Places<'a>,
    prefix: Option<Needle>,
    /// By template.
    known: Vec<Option<Known>>,
    scan: CaptureScan,
    line: String,
}

impl<'a> Captures<'a> {
    pub(super) fn new(capture: &'a SoleCapture, text: &'a TemplateLines) -> Result<Self, SegmentError> {
        Ok(Self {
            places: text.places()?,
            prefix: Needle::new(capture.prefix()),
            known: (0..text.templates()).map(|_| None).collect(),
            scan: capture.begin(),
            line: String::new(),
            capture,
            text,
        })
    }

    /// What is captured in the line of a row.
    pub(super) fn of(&mut self, row: u32) -> Result<Captured<'_>, SegmentError> {
        let Some(template) = self.places.template(row)? else {
            return self.whole(row);
        };
        if self.known[template].is_none() {
            self.known[template] = Some(self.learn(template)?);
        }
        match &self.known[template] {
            Some(Known::From { scan, place, again }) => {
                let (place, again, capture) = (*place, *again, self.capture);
                let (_, ordinal) = self.places.locate(row)?;
                self.scan.copy_from(scan);
                let scan = &mut self.scan;
                let stop = self
                    .text
                    .walk(place, Some(ordinal), |bytes| !capture.feed(scan, bytes))?;
                if stop == Stop::End {
                    capture.finish(scan);
                }
                if again && capture.value(scan).is_none() {
                    return self.whole(row);
                }
                return Ok(Captured::OfRow(capture.value(&self.scan)));
            }
            Some(Known::Whole) => return self.whole(row),
            _ => {}
        }
        let value = match &self.known[template] {
            Some(Known::Fixed(value)) => value.as_deref(),
            _ => None,
        };
        Ok(Captured::OfTemplate(template, value))
    }

    fn whole(&mut self, row: u32) -> Result<Captured<'_>, SegmentError> {
        self.places.line(row, &mut self.line)?;
        Ok(Captured::Unknown(&self.line))
    }

    /// Follows the match as far as all lines of the template are the same.
    fn learn(&self, template: usize) -> Result<Known, SegmentError> {
        let found = self
            .prefix
            .as_ref()
            .and_then(|prefix| self.text.find(template, prefix));
        let Some(places) = found else {
            return Ok(Known::Whole);
        };
        let Some(first) = places.first() else {
            return Ok(Known::Fixed(None));
        };
        let (capture, mut scan, again) = (self.capture, self.capture.begin(), places.len() > 1);
        let stop = self
            .text
            .walk(*first, None, |bytes| !capture.feed(&mut scan, bytes))?;
        match stop {
            Stop::Variable(place) => return Ok(Known::From { scan, place, again }),
            Stop::End => capture.finish(&mut scan),
            Stop::Asked => {}
        }
        Ok(match capture.value(&scan) {
            None if again => Known::Whole,
            value => Known::Fixed(value.map(Into::into)),
        })
    }
}
