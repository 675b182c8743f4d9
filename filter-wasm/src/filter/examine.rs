//! Everything that one line says about itself: its key, and the fields that can be read from it alone.
//!
//! Trust order of ranks: what a process says of itself (`[rank3]:`, `[rank3]` in a log line's header) before what its launcher
//! puts before the line (`3: `, `[1,3]<stdout>:`), before what a worker said earlier, before local rank and node rank together. A
//! launcher's number that a process contradicts is no rank for that tag from then on.

use crate::fields::{self, Fields};
use crate::hold::Key;
use crate::json::Scan;
use crate::line;
use crate::prefix::{self, Prefix};
use crate::tags::{self, Tag};
use crate::text;

use super::Filter;

/// The record that a line stands in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    pub tag: u64,
    /// Time of the record, ns since the epoch.
    pub ts: u64,
    pub record: &'a [u8],
    pub scan: &'a Scan,
    /// Its own call was an earlier one.
    pub late: bool,
}

/// One line with all that is known before its neighbours are asked.
#[derive(Debug)]
pub(super) struct Line<'a> {
    pub source: Source<'a>,
    /// The line in the record, still escaped, without a newline at its end.
    pub escaped: &'a [u8],
    pub newline: bool,
    /// The line without escapes and colours.
    pub text: &'a [u8],
    pub prefix: Prefix,
    /// Behind the prefixes; of a redrawn bar the last state.
    pub body: &'a [u8],
    pub stream: Key,
    /// 1 for stderr, 0 for anything else.
    pub stderr: usize,
    pub key: Key,
    pub fields: Fields,
}

impl Filter {
    /// Reads the line; `text` is `escaped` made readable, or its first line.
    pub(super) fn examine<'a>(
        &mut self,
        source: Source<'a>,
        escaped: &'a [u8],
        newline: bool,
        text: &'a [u8],
    ) -> Line<'a> {
        let memory = self.tags.get(source.tag, &self.config);
        let prefix = prefix::parse(text);
        let body = text::without_repeats(text::last_state(&text[prefix.len..]));
        let stream = stream_key(source.tag ^ memory.pod, source.record, source.scan);
        let key = key_of(stream, &text[..prefix.len]);
        let mut fields = Fields {
            local_rank: prefix.local_rank,
            level: line::level(body),
            step: fields::step(body),
            ..Fields::default()
        };
        if let Some((from, to)) = prefix.role
            && &text[from..to] != b"default"
        {
            fields.role.extend_from_slice(&text[from..to]);
        }
        fields.rank = self.rank_of(source.tag, text, &prefix, body);
        let of_stderr = |span: &std::ops::Range<usize>| &source.record[span.clone()] == b"stderr";
        let stderr = usize::from(source.scan.stream.as_ref().is_some_and(of_stderr));
        Line {
            source,
            escaped,
            newline,
            text,
            prefix,
            body,
            stream,
            stderr,
            key,
            fields,
        }
    }

    fn rank_of(&mut self, tag: u64, text: &[u8], prefix: &Prefix, body: &[u8]) -> Option<u32> {
        let memory = self.tags.get(tag, &self.config);
        if let (Some(rank), Some(task)) = (prefix.rank, prefix.task)
            && rank != task
        {
            memory.task_is_no_rank = true;
        }
        if prefix.template && prefix::is_torn(body) {
            return None;
        }
        let own = prefix.rank.or_else(|| line::inline_rank(body));
        let task = prefix
            .task
            .filter(|_| self.config.task_is_rank && !memory.task_is_no_rank && prefix.local_rank.is_none());
        own.or(task)
            .or_else(|| worker_rank(memory, tag, text, prefix, body))
            .or_else(|| {
                let (local, node) = (prefix.local_rank?, memory.node_rank?);
                let each = Some(self.config.procs_per_node).filter(|&each| local < each)?;
                node.checked_mul(each)?.checked_add(local)
            })
    }
}

/// What Ray's worker, named in the prefix, said of itself now or earlier.
fn worker_rank(memory: &mut Tag, tag: u64, text: &[u8], prefix: &Prefix, body: &[u8]) -> Option<u32> {
    if !prefix.worker {
        return None;
    }
    let worker = tags::hash(tag, &text[..prefix.cuts[0]]);
    if let Some(rank) = ray_rank(body) {
        memory.learn_worker(worker, rank);
    }
    memory.worker_rank(worker)
}

/// `Setting up process group for: env:// [rank=2, world_size=4]`, as Ray Train's workers say.
fn ray_rank(body: &[u8]) -> Option<u32> {
    if !body.starts_with(b"Setting up process group for: ") {
        return None;
    }
    let at = memchr::memmem::find(body, b"[rank=")? + 6;
    prefix::number(body, at).map(|(rank, _)| rank)
}

/// Tag, pod and stream of a record.
pub(super) fn stream_key(seed: u64, record: &[u8], scan: &Scan) -> Key {
    tags::hash(seed, scan.stream.clone().map_or(&b""[..], |span| &record[span]))
}

/// The key of a line with these prefixes. Space around them is padding.
pub(super) fn key_of(stream: Key, prefix: &[u8]) -> Key {
    let prefix = line::trim_end(line::trim_start(prefix));
    if prefix.is_empty() {
        stream
    } else {
        tags::hash(stream, prefix)
    }
}

/// The keys of the same stream with fewer prefixes.
pub(super) fn outer_keys(line: &Line<'_>) -> Vec<Key> {
    let cuts = &line.prefix.cuts[..usize::from(line.prefix.count)];
    let mut keys = Vec::new();
    if let Some((_, outer)) = cuts.split_last() {
        keys.extend(
            outer
                .iter()
                .rev()
                .map(|&cut| key_of(line.stream, &line.text[..cut])),
        );
        keys.push(line.stream);
    }
    keys
}

/// Prefixes that stand at the end of the text before a traceback's head, behind a progress bar without a newline.
pub(super) struct Glued {
    pub key: Key,
    pub prefix: Prefix,
}

pub(super) fn glued_prefix(line: &Line<'_>, head: &[u8]) -> Option<Glued> {
    let mut from = 0;
    while let Some(at) = memchr::memchr(b'[', &head[from..]).map(|n| n + from) {
        let prefix = prefix::parse(&head[at..]);
        if prefix.len > 0 && at + prefix.len == head.len() {
            // A launcher's prefix behind the bar replaces that of the line; a process's own one follows it.
            let outer = if prefix.local_rank.is_some() {
                &b""[..]
            } else {
                &line.text[..line.prefix.len]
            };
            let text = [outer, &head[at..]].concat();
            return Some(Glued {
                key: key_of(line.stream, &text),
                prefix,
            });
        }
        from = at + 1;
    }
    None
}
