//! Entries and streams as they move from a push into a segment. Knows neither transport nor storage.

use std::borrow::Cow;

use bytestring::ByteString;
use rankline_logql::Labels;

/// A name and a value.
pub type Pair = (ByteString, ByteString);

/// The structured metadata of an entry. Most entries have none but for their level, which needs no memory of their own.
pub type Metadata = Cow<'static, [Pair]>;

/// One log entry. Strings are slices of the request they came in, so cloning copies no text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Nanoseconds since the epoch.
    pub ts: i64,
    /// The line, without a newline at its end unless the client sent one.
    pub line: ByteString,
    /// Structured metadata: names ascending and unique.
    pub metadata: Metadata,
}

impl Entry {
    /// Bytes of the line and of metadata names and values.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        let metadata: usize = self
            .metadata
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        self.line.len() + metadata
    }

    /// Approximate memory the entry holds, its share of the request's buffer included.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let metadata = match &self.metadata {
            Cow::Borrowed(_) => 0,
            Cow::Owned(pairs) => pairs.capacity() * size_of::<Pair>(),
        };
        size_of::<Self>() + metadata + self.text_bytes()
    }
}

/// Entries of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEntries {
    /// The stream.
    pub labels: Labels,
    /// Its entries, in order of arrival.
    pub entries: Vec<Entry>,
}

/// Sorts pairs by name and keeps the last value of a repeated name.
pub fn sort_pairs(pairs: &mut Vec<Pair>) {
    if pairs.is_sorted_by(|a, b| a.0 < b.0) {
        return;
    }
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    pairs.dedup_by(|later, earlier| {
        let same = later.0 == earlier.0;
        if same {
            std::mem::swap(later, earlier);
        }
        same
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_of_a_repeated_name_stays() {
        let pair =
            |n: &'static str, v: &'static str| (ByteString::from_static(n), ByteString::from_static(v));
        let mut pairs = vec![pair("b", "1"), pair("a", "1"), pair("b", "2"), pair("b", "3")];
        sort_pairs(&mut pairs);
        assert_eq!(pairs, vec![pair("a", "1"), pair("b", "3")]);
    }
}
