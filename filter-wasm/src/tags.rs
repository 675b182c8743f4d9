//! What is remembered of each tag between calls: the pod's description, and what its lines taught about their prefixes.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::config::Config;
use crate::fields::Common;
use crate::hold::Key;
use crate::json::{self, Span};
use crate::kubernetes;
use crate::launch::{self, Said};
use crate::layout::{Layout, Layouts};
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
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let word = u64::from_le_bytes(chunk.try_into().unwrap_or_default());
        state = (state.rotate_left(23) ^ word).wrapping_mul(K);
    }
    let mut word = 0u64;
    for &byte in chunks.remainder() {
        word = word << 8 | u64::from(byte);
    }
    state = (state.rotate_left(23) ^ word).wrapping_mul(K);
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
    pub world_size: Option<u32>,
    /// The key that the last line of stdout and of stderr belonged to.
    pub last_key: [Key; 2],
    /// What stands around the lines in the tag's records.
    pub layouts: Layouts,
    /// How often the pod's description or what launchers' lines said has changed.
    changes: u32,
    hash: u64,
    used: u64,
}

/// All tags.
#[derive(Debug, Default)]
pub(crate) struct Tags {
    places: HashMap<u64, usize, BuildHasherDefault<Identity>>,
    tags: Vec<Tag>,
    /// The tag asked for last, and its place: a line asks several times, and the next line mostly has the same tag.
    last: Option<(u64, usize)>,
    clock: u64,
}

impl Tags {
    /// The tag's memory; a new one when it wasn't seen before. Forgets the one not used for longest at the limit.
    pub(crate) fn get(&mut self, tag: u64, config: &Config) -> &mut Tag {
        let place = match self.last {
            Some((last, place)) if last == tag => place,
            _ => self.find(tag, config),
        };
        &mut self.tags[place]
    }

    fn find(&mut self, tag: u64, config: &Config) -> usize {
        self.clock += 1;
        let place = match self.places.get(&tag) {
            Some(&place) => place,
            None => self.make(tag, config),
        };
        self.tags[place].used = self.clock;
        self.last = Some((tag, place));
        place
    }

    #[cold]
    fn make(&mut self, tag: u64, config: &Config) -> usize {
        let fresh = Tag {
            hash: tag,
            ..Tag::new(config)
        };
        let oldest = (0..self.tags.len()).min_by_key(|&place| self.tags[place].used);
        let place = match oldest {
            Some(oldest) if self.tags.len() >= config.max_tags.max(1) => {
                self.places.remove(&self.tags[oldest].hash);
                self.tags[oldest] = fresh;
                oldest
            }
            _ => {
                self.tags.push(fresh);
                self.tags.len() - 1
            }
        };
        self.places.insert(tag, place);
        place
    }
}

impl Tag {
    fn new(config: &Config) -> Self {
        let mut tag = Tag::default();
        tag.describe(&kubernetes::Pod::default(), config);
        tag
    }

    /// A number that changes with everything that is known of the tag and that a line's fields depend on, for records of one
    /// layout.
    pub(crate) fn state(&self, layout: &Layout) -> u64 {
        let changes = u64::from(self.changes) << 32 | u64::from(self.ranks.changes());
        hash(self.hash ^ u64::from(layout.id), &changes.to_le_bytes())
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
            Said::WorldSize(size) => self.world_size = Some(size),
            Said::Worker(worker) => self.ranks.learn_worker(worker),
            Said::WorkerOf(worker, size) => {
                self.ranks.learn_worker(worker);
                self.world_size = Some(size);
            }
        }
    }

    /// Reads the record's `kubernetes` value; the scan has told that it is not the one read last.
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
