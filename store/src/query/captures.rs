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
    /// A line's own variables come into it.
    Tries {
        /// The first that matches counts.
        tries: Vec<Try>,
        /// Where none does, the whole line must be looked at.
        or_whole: bool,
    },
    /// Nothing.
    Whole,
}

/// A match that may begin where the literal stands, followed as far as all lines of the template are the same.
struct Try {
    scan: CaptureScan,
    /// Where to go on; `None`: it is decided.
    place: Option<TemplatePlace>,
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
            Some(Known::Tries { tries, or_whole }) => {
                let (_, ordinal) = self.places.locate(row)?;
                follow(self.capture, self.text, tries, ordinal, &mut self.scan)?;
                if *or_whole && self.capture.value(&self.scan).is_none() {
                    return self.whole(row);
                }
                return Ok(Captured::OfRow(self.capture.value(&self.scan)));
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
        let capture = self.capture;
        // A match may begin at a place that overlaps one that was found.
        let or_whole = capture.may_overlap() && places.len() > 1;
        let mut tries = Vec::new();
        for place in places.iter().take(if or_whole { 1 } else { usize::MAX }) {
            let mut scan = capture.begin();
            let stop = self
                .text
                .walk(*place, None, |bytes| !capture.feed(&mut scan, bytes))?;
            let place = match stop {
                Stop::Variable(place) => Some(place),
                Stop::Asked => None,
                Stop::End => {
                    capture.finish(&mut scan);
                    None
                }
            };
            let matches = place.is_none() && capture.value(&scan).is_some();
            if matches && tries.is_empty() {
                return Ok(Known::Fixed(capture.value(&scan).map(Into::into)));
            }
            if matches || place.is_some() {
                tries.push(Try { scan, place });
            }
            if matches {
                break;
            }
        }
        Ok(match (tries.is_empty(), or_whole) {
            (true, true) => Known::Whole,
            (true, false) => Known::Fixed(None),
            (false, _) => Known::Tries { tries, or_whole },
        })
    }
}

/// Follows the tries in a line until one matches: `scan` holds what it captured, or that the last one doesn't match.
fn follow(
    capture: &SoleCapture,
    text: &TemplateLines,
    tries: &[Try],
    ordinal: u32,
    scan: &mut CaptureScan,
) -> Result<(), SegmentError> {
    for (before, one) in tries.iter().enumerate() {
        if before > 0 && capture.value(scan).is_some() {
            break;
        }
        scan.copy_from(&one.scan);
        if let Some(place) = one.place {
            let stop = text.walk(place, Some(ordinal), |bytes| !capture.feed(scan, bytes))?;
            if stop == Stop::End {
                capture.finish(scan);
            }
        }
    }
    Ok(())
}
