//! What stands around the line in a record: records of one file have the same members in the same order.
//!
//! Where the bytes before and behind the line are those of a record that was scanned, and the line has no bare quote, the members
//! are those of that record, so that nothing but the line has to be looked at. Knows nothing about lines.

use crate::find;
use crate::hold::Key;
use crate::json::{self, Scan, Span};

/// Longest text around the line that is remembered, in bytes.
const MOST: usize = 8 << 10;

/// The texts around a line.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    /// The same for all layouts, of any tag, whose records' lines fare alike.
    pub kind: u64,
    /// The stream that its records belong to.
    pub stream: Key,
    /// 1 for a line of stderr, 0 for any other.
    pub stderr: usize,
    /// Up to the line's opening quote, and from its closing one on.
    before: Vec<u8>,
    behind: Vec<u8>,
    scan: Scan,
}

impl Layout {
    /// Where the line stands, when the record has this layout; a bare quote in it must still be ruled out.
    pub(crate) fn line(&self, record: &[u8]) -> Option<Span> {
        let end = record.len().checked_sub(self.behind.len())?;
        let line = self.before.len()..end;
        let fits = !self.before.is_empty()
            && line.start <= line.end
            && find::equal(&record[..line.start], &self.before)
            && find::equal(&record[line.end..], &self.behind);
        fits.then_some(line)
    }

    /// Where the record's closing brace stands; `line`: where its line stands.
    pub(crate) fn end(&self, line: &Span) -> usize {
        self.scan.end - self.scan.log.end + line.end
    }

    /// The record has a member that tells parts of a line from whole ones.
    pub(crate) fn has_partial_flag(&self) -> bool {
        self.scan.partial_flag.is_some()
    }

    /// The members of a record, given where its line stands.
    pub(crate) fn scan(&self, record: &[u8], line: Span) -> Option<Scan> {
        let escapes = json::escapes(&record[line.clone()])?;
        // Members behind the line moved with its end.
        let (was, is) = (self.scan.log.end, line.end);
        let moved = |span: &Span| {
            let by = |at: usize| if at >= was { at - was + is } else { at };
            by(span.start)..by(span.end)
        };
        Some(Scan {
            stream: self.scan.stream.as_ref().map(moved),
            kubernetes: self.scan.kubernetes.as_ref().map(moved),
            partial_flag: self.scan.partial_flag.as_ref().map(moved),
            end: self.end(&line),
            log: line,
            escapes,
            ..self.scan
        })
    }
}

/// The layouts of a tag: one for its stdout and one for its stderr.
#[derive(Debug, Default)]
pub(crate) struct Layouts {
    layouts: [Layout; 2],
}

impl Layouts {
    /// The place of the record's layout and where its line stands; see [`Layout::line`].
    pub(crate) fn find(&self, record: &[u8]) -> Option<(usize, Span)> {
        let mut layouts = self.layouts.iter().enumerate();
        layouts.find_map(|(place, layout)| Some((place, layout.line(record)?)))
    }

    /// The layout at a place.
    pub(crate) fn at(&self, place: usize) -> &Layout {
        &self.layouts[place % 2]
    }

    /// Remembers a record that was scanned, instead of the one learned longest ago. `stream`: the record's.
    pub(crate) fn learn(&mut self, record: &[u8], scan: &Scan, stream: Key) {
        let (before, behind) = (&record[..scan.log.start], &record[scan.log.end..]);
        if scan.partial || before.len() + behind.len() > MOST {
            return;
        }
        // The one learned last comes first: most tags have one.
        self.layouts.swap(0, 1);
        let layout = &mut self.layouts[0];
        layout.stream = stream;
        layout.stderr = usize::from(scan.stream.clone().is_some_and(|span| &record[span] == b"stderr"));
        layout.before.clear();
        layout.before.extend_from_slice(before);
        layout.behind.clear();
        layout.behind.extend_from_slice(behind);
        layout.scan = scan.clone();
        layout.scan.known_kubernetes = scan.kubernetes.is_some();
        layout.kind = u64::from(scan.present) << 1 | layout.stderr as u64;
    }

    /// Bytes that are kept beside the structure itself.
    pub(crate) fn bytes(&self) -> usize {
        let of = |layout: &Layout| layout.before.capacity() + layout.behind.capacity();
        self.layouts.iter().map(of).sum()
    }

    /// Forgets all: what the tag's records say of their pod has changed.
    pub(crate) fn forget(&mut self) {
        self.layouts.iter_mut().for_each(|layout| layout.before.clear());
    }
}
