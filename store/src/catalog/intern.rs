//! One shared [`Stream`] for equal label sets, as long as anyone uses it.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rankline_logql::Labels;

/// A stream: its label set and the set's hash.
#[derive(Debug)]
pub struct Stream {
    /// The labels.
    pub labels: Labels,
    /// `labels.hash64()`.
    pub id: u64,
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
    /// The one stream of each label set, in the given order.
    pub(super) fn intern(&self, sets: impl IntoIterator<Item = Labels>) -> Vec<Arc<Stream>> {
        let mut table = self.table.lock();
        let streams = sets.into_iter().map(|labels| table.get(labels)).collect();
        table.sweep();
        streams
    }
}

impl Table {
    fn get(&mut self, labels: Labels) -> Arc<Stream> {
        let id = labels.hash64();
        let same = self.streams.entry(id).or_default();
        if let Some(stream) = same
            .iter()
            .filter_map(Weak::upgrade)
            .find(|stream| stream.labels == labels)
        {
            return stream;
        }
        same.retain(|stream| stream.strong_count() > 0);
        let stream = Arc::new(Stream { labels, id });
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
        let set = |n: usize| Labels::from_pairs([("n", n.to_string())]);
        let kept = interner.intern([set(1), set(2), set(1)]);
        assert!(Arc::ptr_eq(&kept[0], &kept[2]));
        assert!(!Arc::ptr_eq(&kept[0], &kept[1]));
        for n in 0..20_000 {
            interner.intern([set(n)]);
        }
        assert!(interner.table.lock().streams.len() <= 8192);
        assert!(Arc::ptr_eq(&kept[0], &interner.intern([set(1)])[0]));
    }
}
