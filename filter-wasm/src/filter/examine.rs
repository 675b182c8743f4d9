//! Everything that one line says about itself: its key, and the fields that can be read from it and from what its stream taught.

use crate::fields::{self, Fields};
use crate::find;
use crate::hold::Key;
use crate::json::{Escapes, Scan, Span};
use crate::line;
use crate::prefix::{self, Prefix};
use crate::tags;
use crate::text;

use super::Filter;

/// The record that a line stands in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    pub tag: u64,
    /// Tag, pod and stream.
    pub stream: Key,
    /// Time of the record, ns since the epoch.
    pub ts: u64,
    pub record: &'a [u8],
    pub scan: &'a Scan,
    /// Its own call was an earlier one.
    pub late: bool,
    /// Numbers of the earlier calls that brought parts of the line.
    pub earlier: &'a [u64],
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
    /// Where in the body something begins that was printed behind a bar, and its own prefixes; or 0.
    pub glued: usize,
    /// 1 for stderr, 0 for anything else.
    pub stderr: usize,
    pub key: Key,
    /// The key it had while what begins it was taken for a prefix.
    pub given_up: Option<Key>,
    pub fields: Fields,
    /// Where in the text the digits stand of the rank that its body says, and of its step; of no redrawn bar.
    pub inline_rank: Option<Span>,
    pub step: Option<Span>,
}

impl Line<'_> {
    /// What was taken for a launcher's prefix is the line's own text.
    pub(super) fn forget_prefix(&mut self) {
        self.prefix = Prefix::default();
        self.given_up = Some(self.key);
        self.body = text::last_state(self.text);
        self.glued = 0;
        self.key = self.source.stream;
        self.fields.rank = None;
        self.fields.local_rank = None;
    }
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
        let of_stderr = |span: &std::ops::Range<usize>| &source.record[span.clone()] == b"stderr";
        let stderr = usize::from(source.scan.stream.as_ref().is_some_and(of_stderr));
        let mut prefix = prefix::parse(text);
        if let Some(rules) = &self.rules {
            rules.read_prefix(text, &mut prefix);
        }
        memory.ranks.judge_label(text, &mut prefix, stderr, &self.config);
        let behind = &text[prefix.len..];
        let body = text::without_repeats(match source.scan.escapes {
            Escapes::Any => text::last_state(behind),
            Escapes::None | Escapes::Quotes => behind,
        });
        let key = key_of(source.stream, &text[prefix.from..prefix.len]);
        let glued = line::behind_bar(body).map_or(0, |bar| bar + prefix::parse(&body[bar..]).len);
        memory.read_launcher(text, &prefix, body);
        let (ranks, inline_rank) = memory.ranks.ranks(text, &prefix, body, &self.config);
        let (step, step_at) = fields::step_at(body).unzip();
        let mut fields = Fields {
            rank: ranks.rank,
            local_rank: ranks.local_rank,
            node_rank: ranks.node_rank,
            attempt: memory.attempt,
            world_size: memory.world_size.number(),
            level: line::level(&body[glued..]),
            step,
            ..Fields::default()
        };
        let in_text = |span: Span| prefix.len + span.start..prefix.len + span.end;
        if let Some((from, to)) = prefix.role
            && ranks.local_rank.is_some()
            && &text[from..to] != b"default"
        {
            fields.role.extend_from_slice(&text[from..to]);
        }
        Line {
            source,
            escaped,
            newline,
            text,
            prefix,
            body,
            glued,
            stderr,
            key,
            given_up: None,
            fields,
            inline_rank: inline_rank.map(in_text),
            step: step_at.map(in_text),
        }
    }
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
                .map(|&cut| key_of(line.source.stream, &line.text[line.prefix.from..cut])),
        );
        keys.push(line.source.stream);
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
    while let Some(at) = find::byte(b'[', &head[from..]).map(|n| n + from) {
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
                key: key_of(line.source.stream, &text),
                prefix,
            });
        }
        from = at + 1;
    }
    None
}
