//! One batch of pushes as sorted segments: entries of equal streams joined, exact duplicates dropped, UTC days apart.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use rankline_logql::Labels;
use rankline_segment::{SegmentError, SegmentFooter, SegmentWriter, WriterOptions};
use ulid::Ulid;

use crate::catalog::{Day, SegmentKey};
use crate::entry::{Entry, StreamEntries};

/// zstd level of flushed segments: they are rewritten within a minute or so. As templates they cost a fifth more CPU
/// than as plain lines, are two thirds the size, and searches of what has just come are as fast as of the rest.
const ZSTD_LEVEL: i32 = 1;

/// A segment ready to be written.
#[derive(Debug)]
pub(super) struct Encoded {
    pub(super) key: SegmentKey,
    pub(super) bytes: Vec<u8>,
    pub(super) footer: SegmentFooter,
}

/// A batch in stored order.
#[derive(Debug)]
pub(super) struct Sorted {
    /// Streams ascending by labels; entries ascending by time, equal times in order of arrival.
    pub(super) streams: Vec<StreamEntries>,
    /// Exact duplicates that were dropped.
    pub(super) duplicates: usize,
}

/// Joins streams with equal labels and sorts everything.
pub(super) fn sort(pushed: impl IntoIterator<Item = StreamEntries>) -> Sorted {
    let mut index: HashMap<Labels, usize> = HashMap::new();
    let mut streams: Vec<StreamEntries> = Vec::new();
    for mut stream in pushed {
        match index.get(&stream.labels).and_then(|&at| streams.get_mut(at)) {
            Some(first) => first.entries.append(&mut stream.entries),
            None => {
                index.insert(stream.labels.clone(), streams.len());
                streams.push(stream);
            }
        }
    }
    streams.retain(|stream| !stream.entries.is_empty());
    streams.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
    let mut duplicates = 0;
    for stream in &mut streams {
        let before = stream.entries.len();
        if !stream.entries.is_sorted_by_key(|entry| entry.ts) {
            stream.entries.sort_by_key(|entry| entry.ts);
        }
        drop_duplicates(&mut stream.entries);
        duplicates += before - stream.entries.len();
    }
    Sorted { streams, duplicates }
}

/// Drops entries that are equal in time, line and metadata to an earlier one. `entries` ascend by time.
fn drop_duplicates(entries: &mut Vec<Entry>) {
    let same_time = |pair: &[Entry]| matches!(pair, [a, b] if a.ts == b.ts);
    if !entries.windows(2).any(same_time) {
        return;
    }
    let mut keep = Vec::with_capacity(entries.len());
    for run in entries.chunk_by(|a, b| a.ts == b.ts) {
        if run.len() == 1 {
            keep.push(true);
            continue;
        }
        let mut seen = std::collections::HashSet::with_capacity(run.len());
        keep.extend(
            run.iter()
                .map(|entry| seen.insert((&entry.line, &entry.metadata))),
        );
    }
    let mut keep = keep.into_iter();
    entries.retain(|_| keep.next().unwrap_or(true));
}

/// Encodes sorted streams: one segment for each UTC day. `next_id` gives ascending ids.
pub(super) fn encode(
    streams: &[StreamEntries],
    mut next_id: impl FnMut() -> Ulid,
) -> Result<Vec<Encoded>, SegmentError> {
    let mut days: BTreeMap<Day, Vec<(&StreamEntries, Range<usize>)>> = BTreeMap::new();
    for stream in streams {
        let mut start = 0;
        for run in stream.entries.chunk_by(|a, b| Day::of(a.ts) == Day::of(b.ts)) {
            let range = start..start + run.len();
            start = range.end;
            if let Some(first) = run.first() {
                days.entry(Day::of(first.ts)).or_default().push((stream, range));
            }
        }
    }
    days.into_iter()
        .map(|(day, parts)| encode_day(day, &parts, next_id()))
        .collect()
}

fn encode_day(day: Day, parts: &[(&StreamEntries, Range<usize>)], id: Ulid) -> Result<Encoded, SegmentError> {
    let mut writer = SegmentWriter::new(WriterOptions {
        zstd_level: ZSTD_LEVEL,
        try_layouts: false,
        templates: true,
        ..WriterOptions::default()
    });
    let entries = || {
        parts
            .iter()
            .flat_map(|(stream, range)| stream.entries.get(range.clone()).unwrap_or_default())
    };
    writer.expect(entries().count(), entries().map(|entry| entry.line.len()).sum());
    let (mut labels, mut metadata) = (Vec::new(), Vec::new());
    for (stream, range) in parts {
        labels.clear();
        labels.extend(stream.labels.iter());
        writer.begin_stream(&labels)?;
        for entry in stream.entries.get(range.clone()).unwrap_or_default() {
            metadata.clear();
            metadata.extend(entry.metadata.iter().map(|(name, value)| (&**name, &**value)));
            writer.push(entry.ts, &entry.line, &metadata)?;
        }
    }
    let finished = writer.finish()?;
    let key = SegmentKey {
        level: 0,
        day,
        min_ts: finished.footer.min_ts,
        max_ts: finished.footer.max_ts,
        id,
    };
    Ok(Encoded {
        key,
        bytes: finished.bytes,
        footer: finished.footer,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::catalog::DAY_NS;

    fn stream(name: &str, entries: &[(i64, &'static str)]) -> StreamEntries {
        let entry = |(ts, line): &(i64, &'static str)| Entry {
            ts: *ts,
            line: (*line).into(),
            metadata: Vec::new().into(),
        };
        StreamEntries {
            labels: Labels::from_pairs([("s", name)]),
            entries: entries.iter().map(entry).collect(),
        }
    }

    #[test]
    fn streams_are_joined_sorted_and_freed_of_duplicates() {
        let sorted = sort([
            stream("b", &[(2, "x"), (1, "y")]),
            stream("a", &[(1, "q")]),
            stream("b", &[(1, "z"), (1, "y"), (2, "x")]),
        ]);
        assert_eq!(sorted.duplicates, 2);
        assert_eq!(
            sorted.streams,
            [
                stream("a", &[(1, "q")]),
                stream("b", &[(1, "y"), (1, "z"), (2, "x")])
            ]
        );
    }

    #[test]
    fn metadata_tells_entries_apart() {
        let mut one = stream("a", &[(1, "x"), (1, "x")]);
        one.entries[1].metadata = vec![("k".into(), "v".into())].into();
        assert_eq!(sort([one]).duplicates, 0);
    }

    #[test]
    fn a_batch_over_midnight_becomes_two_segments() {
        let sorted = sort([
            stream("a", &[(DAY_NS - 1, "x"), (DAY_NS, "y")]),
            stream("b", &[(DAY_NS + 5, "z")]),
        ]);
        let mut n = 0;
        let segments = encode(&sorted.streams, || {
            n += 1;
            Ulid::from_parts(n, 0)
        })
        .unwrap();
        let keys: Vec<_> = segments
            .iter()
            .map(|s| (s.key.day.to_string(), s.key.min_ts, s.key.max_ts, s.footer.rows))
            .collect();
        assert_eq!(
            keys,
            [
                ("1970-01-01".into(), DAY_NS - 1, DAY_NS - 1, 1),
                ("1970-01-02".into(), DAY_NS, DAY_NS + 5, 2)
            ]
        );
        assert!(segments[0].key.id < segments[1].key.id);
    }
}
