//! What is remembered of each tag between calls: the pod's description, and what its lines taught about their prefixes.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::config::Config;
use crate::fields::Common;
use crate::hold::Key;
use crate::json::{self, Span};
use crate::kubernetes;
use crate::launch::{self, Said};
use crate::layout::Layouts;
use crate::prefix::{self, Prefix};
use crate::rank::RankMemory;

/// Keys are hashes already.
#[derive(Debug, Default)]
pub(crate) struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = hash(self.0, bytes);
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// A stable hash of `bytes` on top of `seed`: eight bytes at a time, since an interpreter pays by the instruction.
pub(crate) fn hash(seed: u64, bytes: &[u8]) -> u64 {
    const K: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut state = (seed ^ bytes.len() as u64).wrapping_mul(K);
    let add = |state: u64, word: u64| (state.rotate_left(23) ^ word).wrapping_mul(K);
    // Two words a round: the round itself costs as much as a word.
    let (pairs, rest) = bytes.as_chunks::<16>();
    for pair in pairs {
        let pair = u128::from_le_bytes(*pair);
        state = add(add(state, pair as u64), (pair >> 64) as u64);
    }
    let (words, rest) = rest.as_chunks::<8>();
    for word in words {
        state = add(state, u64::from_le_bytes(*word));
    }
    let last = rest.iter().fold(0, |word, &byte| word << 8 | u64::from(byte));
    state = add(state, last);
    state ^ (state >> 29)
}

/// What is remembered of one tag.
#[derive(Debug, Default)]
pub(crate) struct Tag {
    /// The last `kubernetes` value, as it stood in the record.
    pub kubernetes: Vec<u8>,
    /// Hash of the pod and container.
    pub pod: u64,
    pub common: Common,
    /// What the lines taught about their ranks.
    pub ranks: RankMemory,
    /// What launchers' lines said: the attempt, and the number of ranks.
    pub attempt: Option<u32>,
    pub world_size: WorldSize,
    /// The key that the last line of stdout and of stderr belonged to.
    pub last_key: [Key; 2],
    /// What stands around the lines in the tag's records.
    pub layouts: Layouts,
    /// How often the pod's description or what launchers' lines said has changed.
    changes: u32,
    /// What is known of the tag as one number, and how often it had changed by then.
    known: u64,
    known_at: Option<(u32, u32)>,
    hash: u64,
    /// Bytes it had when it was last counted.
    counted: usize,
    /// Places of the tags used right before and right behind this one.
    older: usize,
    newer: usize,
}

/// A number of ranks, if one was said, and its digits, which nearly every line gets.
#[derive(Debug, Default)]
pub(crate) struct WorldSize {
    number: Option<u32>,
    digits: Vec<u8>,
}

impl WorldSize {
    fn is(&mut self, number: u32) {
        self.number = Some(number);
        self.digits.clear();
        json::push_decimal(&mut self.digits, u64::from(number));
    }

    pub(crate) fn number(&self) -> Option<u32> {
        self.number
    }

    /// Nothing where no number is known.
    pub(crate) fn digits(&self) -> &[u8] {
        &self.digits
    }
}

/// Most bytes that are remembered of all tags, their descriptions above all; then the ones not used for longest are forgotten.
const MAX_BYTES: usize = 64 << 20;

/// All tags.
#[derive(Debug, Default)]
pub(crate) struct Tags {
    places: HashMap<u64, usize, BuildHasherDefault<Identity>>,
    tags: Vec<Tag>,
    /// Places of forgotten tags, to be used again.
    free: Vec<usize>,
    /// The tags' order of use is a ring: behind the one used last, which is the tag asked for last, comes the one not used for
    /// longest. A line asks several times, and the next line mostly has the same tag.
    last: Option<(u64, usize)>,
    /// Bytes of all tags, as counted when the next one was asked for.
    bytes: usize,
}

impl Tags {
    /// The tag's memory; a new one when it wasn't seen before. Forgets the one not used for longest at the limits.
    pub(crate) fn get(&mut self, tag: u64, config: &Config) -> &mut Tag {
        let place = match self.last {
            Some((last, place)) if last == tag => place,
            _ => self.find(tag, config),
        };
        &mut self.tags[place]
    }

    #[cold]
    fn find(&mut self, tag: u64, config: &Config) -> usize {
        if let Some((_, last)) = self.last {
            self.count(last);
        }
        let place = match self.places.get(&tag) {
            Some(&place) => {
                self.take_out(place);
                place
            }
            None => self.make(tag, config),
        };
        self.put_newest(place);
        self.last = Some((tag, place));
        place
    }

    #[cold]
    fn make(&mut self, tag: u64, config: &Config) -> usize {
        while self.places.len() >= config.max_tags.max(1) || self.bytes > MAX_BYTES {
            let Some((_, newest)) = self.last else { break };
            self.forget(self.tags[newest].newer);
        }
        let fresh = Tag {
            hash: tag,
            ..Tag::new(config)
        };
        let place = match self.free.pop() {
            Some(place) => {
                self.tags[place] = fresh;
                place
            }
            None => {
                self.tags.push(fresh);
                self.tags.len() - 1
            }
        };
        self.places.insert(tag, place);
        place
    }

    fn forget(&mut self, place: usize) {
        self.take_out(place);
        let old = std::mem::take(&mut self.tags[place]);
        self.bytes = self.bytes.saturating_sub(old.counted);
        self.places.remove(&old.hash);
        self.free.push(place);
    }

    /// What a tag takes changes with every line; it is looked at when another tag's turn comes.
    fn count(&mut self, place: usize) {
        let tag = &mut self.tags[place];
        let bytes = tag.bytes();
        self.bytes = (self.bytes + bytes).saturating_sub(tag.counted);
        tag.counted = bytes;
    }

    fn take_out(&mut self, place: usize) {
        let Tag { older, newer, .. } = self.tags[place];
        self.tags[older].newer = newer;
        self.tags[newer].older = older;
        if let Some((_, last)) = &mut self.last
            && *last == place
        {
            *last = older;
        }
        if older == place {
            self.last = None;
        }
    }

    fn put_newest(&mut self, place: usize) {
        let (older, newer) = match self.last {
            Some((_, newest)) => (newest, self.tags[newest].newer),
            None => (place, place),
        };
        self.tags[place].older = older;
        self.tags[place].newer = newer;
        self.tags[older].newer = place;
        self.tags[newer].older = place;
    }
}

impl Tag {
    fn new(config: &Config) -> Self {
        let mut tag = Tag::default();
        tag.describe(&kubernetes::Pod::default(), config);
        tag
    }

    /// A number for everything that is known of the tag and that a line's fields depend on: where it is the same, be it of
    /// another tag, lines fare alike in records of one kind of layouts.
    pub(crate) fn state(&mut self) -> u64 {
        let changes = self.changes();
        if self.known_at != Some(changes) {
            self.known_at = Some(changes);
            self.known = self.hash_of_known();
        }
        self.known
    }

    /// How often what is known of the tag has changed, or was said again.
    pub(crate) fn changes(&self) -> (u32, u32) {
        (self.changes, self.ranks.changes())
    }

    #[cold]
    fn hash_of_known(&self) -> u64 {
        // The number of ranks is written anew each time (see `seen::Left::world_size`).
        let attempt = self.attempt.map_or(0, |attempt| u64::from(attempt) + 1);
        let said = [attempt, u64::from(self.world_size.number.is_some())];
        let said = hash(said[0], &said[1].to_le_bytes());
        self.ranks.hash_of_known(self.hash, self.common.hash(said))
    }

    /// About the bytes that it takes.
    fn bytes(&self) -> usize {
        size_of::<Tag>()
            + self.kubernetes.capacity()
            + self.common.bytes()
            + self.layouts.bytes()
            + self.ranks.bytes()
    }

    /// Reads a line that a launcher may have printed about its processes.
    pub(crate) fn read_launcher(&mut self, line: &[u8], prefix: &Prefix, body: &[u8]) {
        let said = self
            .ranks
            .group
            .read(body)
            .or_else(|| launch::read(line, prefix, body));
        if let Some(said) = said {
            self.changes = self.changes.wrapping_add(1);
            self.learn(said);
        }
    }

    /// Takes what a launcher's line says.
    fn learn(&mut self, said: Said) {
        match said {
            Said::Attempt(attempt) => self.attempt = Some(attempt),
            Said::Retry(failures) => {
                let next = self.attempt.unwrap_or(0).saturating_add(1);
                self.attempt = Some(next.max(failures));
            }
            Said::WorldSize(size) => self.world_size.is(size),
            Said::Worker(worker) => self.ranks.learn_worker(worker),
            Said::WorkerOf(worker, size) => {
                self.ranks.learn_worker(worker);
                self.world_size.is(size);
            }
        }
    }

    /// Reads the record's `kubernetes` value; the scan has told that it is not the one read last.
    #[inline(never)]
    pub(crate) fn see_kubernetes(&mut self, record: &[u8], value: &Span, config: &Config) {
        let raw = &record[value.clone()];
        let pod = kubernetes::read(record, value);
        self.kubernetes.clear();
        self.kubernetes.extend_from_slice(raw);
        self.pod = hash(hash(1, &pod.pod), &pod.container);
        self.describe(&pod, config);
    }

    fn describe(&mut self, pod: &kubernetes::Pod, config: &Config) {
        self.changes = self.changes.wrapping_add(1);
        self.layouts.forget();
        let or = |found: &[u8], configured: &str| {
            let value = if found.is_empty() {
                configured.as_bytes()
            } else {
                found
            };
            let mut escaped = Vec::new();
            json::escape(value, &mut escaped);
            escaped
        };
        self.common = Common {
            node_rank: or(&pod.node_rank, &config.node_rank),
            world_size: or(&pod.world_size, &config.world_size),
            job: or(&pod.job, &config.job),
            attempt: or(&pod.attempt, &config.attempt),
            role: or(&pod.role, &config.role),
        };
        self.ranks.node_rank = prefix::number(&self.common.node_rank, 0).map(|(node, _)| node);
        self.ranks.pod_rank = kubernetes::rank_in_name(&pod.pod);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    /// Spools that were written before are checked with it.
    #[test]
    fn the_hash_stays_what_it_is() {
        let text: Vec<u8> = (0..41).collect();
        let hashes = [0, 1, 8, 9, 16, 23, 24, 41].map(|length| hash(7, &text[..length]));
        let expected = [
            0x77dfeb0e85e21d1b,
            0x8a2eb5c618fbdce3,
            0x1e207ee1e8d48f7c,
            0xb19fadb2188ccc94,
            0xee7c11416d979bcb,
            0x5f88c5fd36435740,
            0x1b9228da2459528e,
            0x33616681ae1afde7,
        ];
        assert_eq!(hashes, expected);
    }

    fn config(max_tags: usize) -> Config {
        Config {
            max_tags,
            ..Config::default()
        }
    }

    proptest! {
        /// The tags that are remembered are those used last, whatever the order of their uses.
        #[test]
        fn the_tag_not_used_for_longest_is_forgotten(uses in prop::collection::vec(0..12u64, 1..200), most in 1..8usize) {
            let (mut tags, config) = (Tags::default(), config(most));
            let mut expected: Vec<u64> = Vec::new();
            for &tag in &uses {
                expected.retain(|&other| other != tag);
                expected.push(tag);
                if expected.len() > most {
                    expected.remove(0);
                }
                let memory = tags.get(tag, &config);
                prop_assert_eq!(memory.hash, tag);
                memory.attempt = Some(tag as u32);
                let mut known: Vec<u64> = tags.places.keys().copied().collect();
                known.sort_unstable();
                let mut sorted = expected.clone();
                sorted.sort_unstable();
                prop_assert_eq!(known, sorted);
                prop_assert!(tags.tags.len() <= most);
            }
            for &tag in &expected {
                prop_assert_eq!(tags.get(tag, &config).attempt, Some(tag as u32));
            }
        }
    }

    #[test]
    fn large_descriptions_are_bounded_together() {
        let (mut tags, config) = (Tags::default(), config(1_000));
        for tag in 0..200u64 {
            tags.get(tag, &config).kubernetes = vec![b'x'; 1 << 20];
        }
        let bytes: usize = tags.tags.iter().map(Tag::bytes).sum();
        assert!(tags.places.len() > 60 && bytes < MAX_BYTES + (2 << 20), "{bytes}");
        assert_eq!(tags.get(199, &config).kubernetes.len(), 1 << 20);
        assert_eq!(tags.get(0, &config).kubernetes.len(), 0);
    }
}
