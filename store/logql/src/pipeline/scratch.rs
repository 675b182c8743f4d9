//! The labels of the entry at hand while it passes the stages: stream labels, structured metadata, parsed labels.
//!
//! One `Scratch` belongs to one runner and is reused, so that an entry costs no allocation once its buffers have grown.
//! Names are interned as [`NameId`]s; those the stages mention keep the id they got when the pipeline was compiled.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::Condition;
use crate::Labels;

/// An interned label name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NameId(u32);

impl NameId {
    fn index(self) -> usize {
        self.0 as usize
    }
}

/// `__error__`
pub(crate) const ERROR: NameId = NameId(0);
/// `__error_details__`
pub(crate) const ERROR_DETAILS: NameId = NameId(1);
/// `__preserve_error__`
pub(crate) const PRESERVE_ERROR: NameId = NameId(2);

/// Behind the name of a label that a stage or an entry has beside the stream's.
pub(crate) const SUFFIX: &str = "_extracted";
/// Names with the first ids.
pub(crate) const BUILT_IN: [&str; 3] = ["__error__", "__error_details__", "__preserve_error__"];

/// More names than this are forgotten between entries: lines can make up any number of them.
const MAX_NAMES: usize = 50_000;

/// Hashes names with xxh3.
#[derive(Default)]
pub(crate) struct NameHasher(u64);

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxhash_rust::xxh3::xxh3_64_with_seed(bytes, self.0);
    }

    fn write_u8(&mut self, _: u8) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Names and their ids.
#[derive(Clone)]
pub(crate) struct Names {
    list: Vec<Box<str>>,
    ids: HashMap<Box<str>, NameId, BuildHasherDefault<NameHasher>>,
}

impl Names {
    pub(crate) fn new() -> Self {
        let mut names = Self {
            list: Vec::new(),
            ids: HashMap::default(),
        };
        for name in BUILT_IN {
            names.intern(name);
        }
        names
    }

    pub(crate) fn intern(&mut self, name: &str) -> NameId {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let id = NameId(u32::try_from(self.list.len()).unwrap_or(u32::MAX));
        self.list.push(name.into());
        self.ids.insert(name.into(), id);
        id
    }

    /// The id of a name that was interned before.
    pub(crate) fn find(&self, name: &str) -> Option<NameId> {
        self.ids.get(name).copied()
    }

    /// All names but the built-in ones, and for `x_extracted` also `x`.
    pub(crate) fn mentioned(&self) -> Vec<String> {
        let own = self.list.iter().skip(3).map(|name| name.to_string());
        let plain = self
            .list
            .iter()
            .filter_map(|name| name.strip_suffix(SUFFIX))
            .map(str::to_owned);
        let mut all: Vec<String> = own.chain(plain).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    pub(crate) fn get(&self, id: NameId) -> &str {
        self.list.get(id.index()).map_or("", |name| name)
    }
}

/// What the rest of a metric query needs of the labels, so that parsers can skip the others.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hints {
    /// No label is needed at all: parsers do nothing.
    pub(crate) no_labels: bool,
    /// Only these are needed; parsing a line stops when all are there.
    pub(crate) required: Option<Vec<NameId>>,
    /// The query looks at `__error__`: errors of parsers do not fail it.
    pub(crate) preserve_error: bool,
    /// Checked when a parser finds the label; the entry is dropped when one fails.
    pub(crate) early: Vec<(NameId, Condition)>,
}

/// One label made by a stage; the value lies in the arena.
#[derive(Clone, Copy, Debug)]
struct Parsed {
    name: NameId,
    start: u32,
    end: u32,
}

/// What is known about a name within the entry at hand.
#[derive(Clone, Copy, Default)]
struct Slot {
    /// The entry in which a stage made the label.
    extracted: u32,
    /// The name with `_extracted` behind it, plus one; 0: not made yet.
    suffixed: u32,
}

#[derive(Clone, Copy)]
struct Meta {
    name: NameId,
    /// Position in the entry's metadata.
    index: u32,
    hidden: bool,
}

/// See the module's text.
pub(crate) struct Scratch {
    pub(crate) names: Names,
    fixed: Names,
    /// How often names were forgotten.
    round: u32,
    pub(crate) hints: Hints,
    stream: Labels,
    stream_names: Vec<NameId>,
    stream_hidden: Vec<bool>,
    meta: Vec<Meta>,
    parsed: Vec<Parsed>,
    arena: String,
    slots: Vec<Slot>,
    epoch: u32,
    error: Option<&'static str>,
    error_details: Option<(u32, u32)>,
    required_left: usize,
    dropped: bool,
}

impl Scratch {
    pub(crate) fn new(fixed: &Names, hints: Hints) -> Self {
        Self {
            names: fixed.clone(),
            fixed: fixed.clone(),
            round: 0,
            hints,
            stream: Labels::empty(),
            stream_names: Vec::new(),
            stream_hidden: Vec::new(),
            meta: Vec::new(),
            parsed: Vec::new(),
            arena: String::new(),
            slots: Vec::new(),
            epoch: 0,
            error: None,
            error_details: None,
            required_left: 0,
            dropped: false,
        }
    }

    pub(crate) fn set_stream(&mut self, labels: &Labels) {
        self.stream = labels.clone();
        self.stream_names.clear();
        for (name, _) in labels.iter() {
            let id = self.names.intern(name);
            self.stream_names.push(id);
        }
        self.meta.clear();
    }

    /// Ids of names that no stage mentions mean something else in another round.
    pub(crate) fn round(&self) -> u32 {
        self.round
    }

    pub(crate) fn stream_labels(&self) -> &Labels {
        &self.stream
    }

    /// Starts an entry.
    pub(crate) fn begin(&mut self, metadata: &[(&str, &str)]) {
        if self.names.list.len() > MAX_NAMES {
            self.names = self.fixed.clone();
            self.round = self.round.wrapping_add(1);
            self.slots.clear();
            let stream = self.stream.clone();
            self.set_stream(&stream);
        }
        self.stream_hidden.clear();
        self.stream_hidden.resize(self.stream_names.len(), false);
        self.parsed.clear();
        self.arena.clear();
        self.error = None;
        self.error_details = None;
        self.dropped = false;
        self.required_left = self.hints.required.as_ref().map_or(usize::MAX, Vec::len);
        self.epoch = self.epoch.wrapping_add(1);
        if self.epoch == 0 {
            self.slots.iter_mut().for_each(|slot| slot.extracted = 0);
            self.epoch = 1;
        }
        self.begin_metadata(metadata);
    }

    /// Names of metadata are mostly those of the entry before, so they are compared before they are looked up.
    fn begin_metadata(&mut self, metadata: &[(&str, &str)]) {
        for (index, (name, _)) in metadata.iter().enumerate() {
            let position = u32::try_from(index).unwrap_or(u32::MAX);
            if let Some(meta) = self.meta.get_mut(index)
                && (self.names.get(meta.name) == *name
                    || self.names.get(meta.name).strip_suffix(SUFFIX) == Some(name)
                        && self.stream.get(name).is_some())
            {
                meta.hidden = false;
                meta.index = position;
                continue;
            }
            let mut id = self.names.intern(name);
            if self.stream_names.contains(&id) {
                id = self.suffixed(id);
            }
            let meta = Meta {
                name: id,
                index: position,
                hidden: false,
            };
            match self.meta.get_mut(index) {
                Some(place) => *place = meta,
                None => self.meta.push(meta),
            }
        }
        self.meta.truncate(metadata.len());
    }

    fn slot(&mut self, id: NameId) -> &mut Slot {
        if self.slots.len() <= id.index() {
            let names = self.names.list.len().max(id.index() + 1);
            self.slots.resize(names, Slot::default());
        }
        let index = id.index();
        &mut self.slots[index]
    }

    fn suffixed(&mut self, id: NameId) -> NameId {
        let known = self.slot(id).suffixed;
        if known != 0 {
            return NameId(known - 1);
        }
        let name = format!("{}{SUFFIX}", self.names.get(id));
        let suffixed = self.names.intern(&name);
        self.slot(id).suffixed = suffixed.0 + 1;
        suffixed
    }

    /// Whether the stream has the label, whatever stages did to it since, or the entry's metadata has it still.
    pub(crate) fn base_has(&self, id: NameId) -> bool {
        self.stream_names.contains(&id) || self.meta.iter().any(|meta| meta.name == id && !meta.hidden)
    }

    /// The name under which a parser stores what it found as `id`.
    pub(crate) fn target(&mut self, id: NameId) -> NameId {
        if self.base_has(id) { self.suffixed(id) } else { id }
    }

    /// Whether a parser should store this label: it is needed, and no stage made it before.
    pub(crate) fn wants(&mut self, target: NameId) -> bool {
        let needed = self
            .hints
            .required
            .as_ref()
            .is_none_or(|required| required.contains(&target));
        let epoch = self.epoch;
        needed && self.slot(target).extracted != epoch
    }

    /// Whether some needed label starts with `prefix`.
    pub(crate) fn wants_prefix(&self, prefix: &str) -> bool {
        let Some(required) = &self.hints.required else {
            return true;
        };
        required.iter().any(|id| self.names.get(*id).starts_with(prefix))
    }

    /// Stores what a parser found; true when nothing more is wanted of the line: all is there, or the entry is dropped
    /// ([`Scratch::is_dropped`]).
    pub(crate) fn extract(&mut self, target: NameId, value: &str) -> bool {
        self.set(target, value);
        if !self.passes_early(target) {
            self.dropped = true;
            return true;
        }
        self.has_all()
    }

    /// Whether every label that the query needs was made.
    fn has_all(&self) -> bool {
        self.hints.required.is_some() && self.required_left == 0
    }

    /// Whether parsers have nothing to do.
    pub(crate) fn needs_no_parser(&self) -> bool {
        self.hints.no_labels || self.has_all()
    }

    /// Notes that a stage made the label: parsers leave it alone from now on.
    fn note_made(&mut self, id: NameId) {
        let epoch = self.epoch;
        if self.slot(id).extracted == epoch {
            return;
        }
        self.slot(id).extracted = epoch;
        let is_needed = self
            .hints
            .required
            .as_ref()
            .is_some_and(|required| required.contains(&id));
        self.required_left = self.required_left.saturating_sub(usize::from(is_needed));
    }

    fn passes_early(&mut self, target: NameId) -> bool {
        let Some(index) = self.hints.early.iter().position(|(name, _)| *name == target) else {
            return true;
        };
        // Conditions set errors, so they need the scratch space to themselves.
        let early = std::mem::take(&mut self.hints.early);
        let passes = early
            .get(index)
            .is_none_or(|(_, condition)| condition.passes(self, &[]));
        self.hints.early = early;
        passes
    }

    /// Whether a label just extracted fails a condition that comes later.
    pub(crate) fn is_dropped(&self) -> bool {
        self.dropped
    }

    fn position(&self, id: NameId) -> Option<usize> {
        self.parsed.iter().position(|label| label.name == id)
    }

    /// Sets a parsed label; it hides metadata and stream labels of that name.
    pub(crate) fn set(&mut self, id: NameId, value: &str) {
        self.note_made(id);
        for meta in &mut self.meta {
            meta.hidden |= meta.name == id;
        }
        let start = offset(self.arena.len());
        self.arena.push_str(value);
        let label = Parsed {
            name: id,
            start,
            end: offset(self.arena.len()),
        };
        match self.position(id).and_then(|index| self.parsed.get_mut(index)) {
            Some(place) => *place = label,
            None => self.parsed.push(label),
        }
    }

    /// Removes a label in every category.
    pub(crate) fn remove(&mut self, id: NameId) {
        if let Some(index) = self.position(id) {
            self.parsed.swap_remove(index);
        }
        for meta in &mut self.meta {
            meta.hidden |= meta.name == id;
        }
        for (name, hidden) in self.stream_names.iter().zip(&mut self.stream_hidden) {
            *hidden |= *name == id;
        }
    }

    /// The label's value: parsed before metadata before stream. Of errors see [`Scratch::error`].
    pub(crate) fn get<'a>(&'a self, id: NameId, metadata: &[(&'a str, &'a str)]) -> Option<&'a str> {
        if let Some(label) = self.position(id).and_then(|index| self.parsed.get(index)) {
            return Some(self.text(label.start, label.end));
        }
        if let Some(meta) = self.meta.iter().find(|meta| meta.name == id && !meta.hidden) {
            return metadata.get(meta.index as usize).map(|(_, value)| *value);
        }
        let index = self.stream_names.iter().position(|name| *name == id)?;
        if self.stream_hidden.get(index).copied().unwrap_or(true) {
            return None;
        }
        self.stream.iter().nth(index).map(|(_, value)| value)
    }

    fn text(&self, start: u32, end: u32) -> &str {
        self.arena.get(start as usize..end as usize).unwrap_or("")
    }

    pub(crate) fn error(&self) -> Option<&'static str> {
        self.error
    }

    pub(crate) fn error_details(&self) -> Option<&str> {
        self.error_details.map(|(start, end)| self.text(start, end))
    }

    /// Sets `__error__`; a later error replaces an earlier one, whose details stay when the later one has none.
    pub(crate) fn set_error(&mut self, error: &'static str, details: &str) {
        self.error = Some(error);
        if !details.is_empty() {
            let start = offset(self.arena.len());
            self.arena.push_str(details);
            self.error_details = Some((start, offset(self.arena.len())));
        }
    }

    /// As [`Scratch::set_error`] for parsers. Their errors do not fail a query that looks at `__error__`.
    pub(crate) fn set_parser_error(&mut self, error: &'static str, details: &str) {
        self.set_error(error, details);
        if self.hints.preserve_error {
            self.set(PRESERVE_ERROR, "true");
        }
    }

    pub(crate) fn clear_error(&mut self) {
        self.error = None;
    }

    pub(crate) fn clear_error_details(&mut self) {
        self.error_details = None;
    }

    /// Stream labels that are still visible.
    pub(crate) fn visible_stream(&self) -> impl Iterator<Item = (&str, &str)> {
        self.stream
            .iter()
            .zip(&self.stream_names)
            .zip(&self.stream_hidden)
            .filter_map(|((pair, name), hidden)| {
                let shadowed = *hidden
                    || self.position(*name).is_some()
                    || self.meta.iter().any(|meta| meta.name == *name && !meta.hidden);
                (!shadowed).then_some(pair)
            })
    }

    /// Metadata that is still visible.
    pub(crate) fn visible_metadata<'a>(
        &'a self,
        metadata: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.meta
            .iter()
            .filter(|meta| !meta.hidden && self.position(meta.name).is_none())
            .filter_map(|meta| {
                let (_, value) = metadata.get(meta.index as usize)?;
                Some((self.names.get(meta.name), *value))
            })
    }

    /// Parsed labels in no particular order; the errors are among them.
    pub(crate) fn visible_parsed(&self) -> impl Iterator<Item = (&str, &str)> {
        let details = self.error_details();
        let has_details = details.is_some();
        // An error is shown instead of a field of the line that has its name.
        let hidden = move |name: NameId| {
            (name == ERROR && self.error.is_some()) || (name == ERROR_DETAILS && has_details)
        };
        let labels = self
            .parsed
            .iter()
            .filter(move |label| !hidden(label.name))
            .map(|label| (self.names.get(label.name), self.text(label.start, label.end)));
        let error = self.error.map(|error| ("__error__", error));
        let details = details.map(|details| ("__error_details__", details));
        labels.chain(error).chain(details)
    }

    /// Appends what tells this entry's labels from those of other entries of the same stream.
    pub(crate) fn write_key(&self, metadata: &[(&str, &str)], without: &[NameId], key: &mut Vec<u8>) {
        let mut push = |id: NameId, value: &str| {
            if without.contains(&id) {
                return;
            }
            key.extend_from_slice(&id.0.to_le_bytes());
            key.extend_from_slice(&offset(value.len()).to_le_bytes());
            key.extend_from_slice(value.as_bytes());
        };
        for (index, hidden) in (0_u32..).zip(&self.stream_hidden) {
            if *hidden {
                push(NameId(u32::MAX - index), "");
            }
        }
        for meta in self.meta.iter().filter(|meta| !meta.hidden) {
            push(
                meta.name,
                metadata.get(meta.index as usize).map_or("", |(_, value)| value),
            );
        }
        for label in &self.parsed {
            push(label.name, self.text(label.start, label.end));
        }
    }

    /// Whether stages neither made nor hid a label.
    pub(crate) fn is_untouched(&self) -> bool {
        self.parsed.is_empty() && self.error.is_none() && !self.stream_hidden.contains(&true)
    }

    /// Every visible label with its id, in no particular order; errors included.
    pub(crate) fn visible_ids(&self) -> impl Iterator<Item = NameId> {
        let stream = self
            .stream_names
            .iter()
            .zip(&self.stream_hidden)
            .filter(|(_, hidden)| !**hidden);
        let meta = self.meta.iter().filter(|meta| !meta.hidden);
        stream
            .map(|(name, _)| *name)
            .chain(meta.map(|meta| meta.name))
            .chain(self.parsed.iter().map(|label| label.name))
    }
}

fn offset(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
