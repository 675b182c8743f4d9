//! Bytes in pieces → lines. Knows nothing of formats, files or time.

use memchr::{memchr, memrchr};

/// Cuts a byte stream at `\n`, keeps the unfinished rest, and bounds how long a line may get.
///
/// A line longer than the limit comes out in several pieces, cut between characters where the bytes are
/// UTF-8. One `\r` before the `\n` belongs to the line's end, others to the line.
#[derive(Debug)]
pub struct Splitter {
    partial: Vec<u8>,
    max_bytes: usize,
}

impl Splitter {
    /// Lines of at most `max_bytes` (at least 16).
    pub fn new(max_bytes: usize) -> Self {
        Self {
            partial: Vec::new(),
            max_bytes: max_bytes.max(16),
        }
    }

    /// Takes the next bytes; `line` gets each line that is complete with them, without its end.
    pub fn feed(&mut self, mut bytes: &[u8], line: &mut dyn FnMut(&[u8])) {
        while let Some(end) = memchr(b'\n', bytes) {
            let (head, rest) = (&bytes[..end], &bytes[end + 1..]);
            bytes = rest;
            if self.partial.is_empty() {
                self.emit(head, line);
            } else {
                self.partial.extend_from_slice(head);
                let whole = std::mem::take(&mut self.partial);
                self.emit(&whole, line);
                self.partial = whole;
                self.partial.clear();
            }
        }
        self.partial.extend_from_slice(bytes);
        while self.partial.len() > self.max_bytes {
            let cut = cut_before(&self.partial, self.max_bytes);
            line(&self.partial[..cut]);
            self.partial.drain(..cut);
        }
        // A long line should not keep its memory for the rest of the stream.
        if self.partial.is_empty() && self.partial.capacity() > 64 * 1024 {
            self.partial = Vec::new();
        }
    }

    /// Gives out what has no line end yet, at the end of the stream.
    pub fn finish(&mut self, line: &mut dyn FnMut(&[u8])) {
        let rest = std::mem::take(&mut self.partial);
        if !rest.is_empty() {
            self.emit(&rest, line);
        }
    }

    /// Gives out the unfinished line up to its last `\r`: a progress bar that redraws itself for hours
    /// ends no line, but its states are complete.
    pub fn flush_redraws(&mut self, line: &mut dyn FnMut(&[u8])) {
        // A `\r` at the very end may be half of a `\r\n`.
        let before_last = self.partial.len().saturating_sub(1);
        if let Some(end) = memrchr(b'\r', &self.partial[..before_last]) {
            line(&self.partial[..end]);
            self.partial.drain(..=end);
        }
    }

    /// Bytes of the unfinished line.
    pub fn partial_bytes(&self) -> usize {
        self.partial.len()
    }

    fn emit(&self, whole: &[u8], line: &mut dyn FnMut(&[u8])) {
        let mut rest = whole.strip_suffix(b"\r").unwrap_or(whole);
        while rest.len() > self.max_bytes {
            let cut = cut_before(rest, self.max_bytes);
            line(&rest[..cut]);
            rest = &rest[cut..];
        }
        line(rest);
    }
}

/// The last place at or before `at` where a UTF-8 character begins; `at` itself when the bytes are no UTF-8.
pub fn cut_before(bytes: &[u8], at: usize) -> usize {
    (at.saturating_sub(3)..=at)
        .rev()
        .find(|&i| i > 0 && bytes.get(i).is_none_or(|b| b & 0xC0 != 0x80))
        .unwrap_or(at)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn split(pieces: &[&[u8]], max: usize) -> Vec<Vec<u8>> {
        let (mut splitter, mut lines) = (Splitter::new(max), Vec::new());
        let mut take = |line: &[u8]| lines.push(line.to_vec());
        for piece in pieces {
            splitter.feed(piece, &mut take);
        }
        splitter.finish(&mut take);
        lines
    }

    #[test]
    fn joins_pieces_and_gives_out_the_last_line_without_an_end() {
        assert_eq!(
            split(&[b"a\nb", b"c\r", b"\n\nd"], 100),
            [&b"a"[..], b"bc", b"", b"d"]
        );
    }

    #[test]
    fn cuts_long_lines_between_characters() {
        let long = "é".repeat(20);
        let pieces = split(&[long.as_bytes(), b"\nx\n"], 17);
        assert_eq!(pieces.last().unwrap(), b"x");
        assert!(
            pieces
                .iter()
                .all(|p| p.len() <= 17 && std::str::from_utf8(p).is_ok())
        );
        assert_eq!(pieces[..pieces.len() - 1].concat(), long.as_bytes());
    }

    #[test]
    fn gives_out_redraws_of_a_bar_that_ends_no_line() {
        let (mut splitter, mut lines) = (Splitter::new(1000), Vec::new());
        let mut take = |line: &[u8]| lines.push(String::from_utf8(line.to_vec()).unwrap());
        splitter.feed(b"\r 1%\r 2%\r", &mut take);
        splitter.flush_redraws(&mut take);
        splitter.feed(b"\n", &mut take);
        assert_eq!(lines, ["\r 1%", " 2%"]);
    }

    proptest! {
        /// However the stream is cut into reads, the lines are those of the whole.
        #[test]
        fn reads_do_not_matter(text in "[ab\n\r]{0,80}", cuts in proptest::collection::vec(0usize..80, 0..6)) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
            prop_assert_eq!(split(&pieces, 1000), split(&[bytes], 1000));
        }
    }
}
