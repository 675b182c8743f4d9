//! One shared [`Stream`] for equal label sets, as long as anyone uses it.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rankline_logql::Labels;
use rankline_segment::{LabelPairs, StreamMeta};

/// A stream: its label set and the set's hash.
#[derive(Debug)]
pub struct Stream {
    /// The labels.
    pub labels: Labels,
    /// `labels.hash64()`.
    pub id: u64,
    /// The labels as footers have them: shared by all of them.
    pairs: LabelPairs,
}

/// The table of streams in use.
#[derive(Debug, Default)]
pub(super) struct Interner {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// By hash; more than one only when hashes collide.
    streams: HashMap<u64, Vec<Weak<Stream>>>,
    /// Size at which unused streams are swept out.
    sweep_at: usize,
}

impl Interner {
    /// The one stream of each of a footer's streams, in their order. The footer shares its labels from then on.
    pub(super) fn intern(&self, metas: &mut [StreamMeta]) -> Vec<Arc<Stream>> {
        // Hashed before anyone has to wait.
        let hashed: Vec<_> = metas
            .iter_mut()
            .map(|meta| (Labels::hash_of(meta.labels.iter()), meta))
            .collect();
        let mut table = self.table.lock();
        let streams = hashed
            .into_iter()
            .map(|(hash, meta)| {
                let stream = table.get(hash, &meta.labels);
                meta.labels = stream.pairs.clone();
                stream
            })
            .collect();
        table.sweep();
        streams
    }
}

impl Table {
    fn get(&mut self, hash: u64, pairs: &LabelPairs) -> Arc<Stream> {
        let same = self.streams.entry(hash).or_default();
        if let Some(stream) = same
            .iter()
            .filter_map(Weak::upgrade)
            .find(|stream| stream.pairs == *pairs)
        {
            return stream;
        }
        same.retain(|stream| stream.strong_count() > 0);
        let labels = Labels::from_pairs(pairs.iter());
        let stream = Arc::new(Stream {
            id: labels.hash64(),
            labels,
            pairs: pairs.clone(),
        });
        same.push(Arc::downgrade(&stream));
        stream
    }

    fn sweep(&mut self) {
        if self.streams.len() <= self.sweep_at {
            return;
        }
        self.streams
            .retain(|_, same| same.iter().any(|stream| stream.strong_count() > 0));
        self.sweep_at = (self.streams.len() * 2).max(4096);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_sets_share_a_stream_and_unused_ones_leave() {
        let interner = Interner::default();
        let meta = |n: usize| StreamMeta {
            labels: LabelPairs::new([("n", &*n.to_string())]),
            rows: 1,
            line_bytes: 0,
            metadata_bytes: 0,
            min_ts: 0,
            max_ts: 0,
        };
        let mut metas = [meta(1), meta(2), meta(1)];
        let kept = interner.intern(&mut metas);
        assert!(Arc::ptr_eq(&kept[0], &kept[2]));
        assert!(!Arc::ptr_eq(&kept[0], &kept[1]));
        assert!(metas[0].labels.is_shared_with(&metas[2].labels));
        assert_eq!(kept[1].labels, Labels::from_pairs([("n", "2")]));
        assert_eq!(kept[1].id, kept[1].labels.hash64());
        for n in 0..20_000 {
            interner.intern(&mut [meta(n)]);
        }
        assert!(interner.table.lock().streams.len() <= 8192);
        assert!(Arc::ptr_eq(&kept[0], &interner.intern(&mut [meta(1)])[0]));
    }
}
