//! The fields that a record gets: collected over its lines, written once.

use crate::find;
use crate::json::{self, OWN_FIELDS, Span};
use crate::line::Level;
use crate::tags;

// Places in `OWN_FIELDS`.
pub(crate) const RANK: usize = 0;
const LOCAL_RANK: usize = 1;
const NODE_RANK: usize = 2;
pub(crate) const WORLD_SIZE: usize = 3;
const JOB: usize = 4;
const ATTEMPT: usize = 5;
const ROLE: usize = 6;
const LEVEL: usize = 7;
const EXCEPTION: usize = 8;
pub(crate) const STEP: usize = 9;

/// What stands before the value of a rank.
pub(crate) const RANK_MEMBER: &[u8] = b",\"rank\":\"";

/// What stands before the number of ranks.
pub(crate) const WORLD_SIZE_MEMBER: &[u8] = b",\"world_size\":\"";

/// What is known about one record.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fields {
    pub rank: Option<u32>,
    pub local_rank: Option<u32>,
    /// Rank of the node, as the line's prefixes say it.
    pub node_rank: Option<u32>,
    /// Attempt and number of ranks, as launchers' lines say them.
    pub attempt: Option<u32>,
    pub world_size: Option<u32>,
    pub level: Option<Level>,
    pub exception: Vec<u8>,
    pub step: Option<u64>,
    /// Role that a prefix says.
    pub role: Vec<u8>,
}

/// What is known about everything of one pod or tag: values as they are written in JSON, empty where nothing is known.
#[derive(Debug, Clone, Default)]
pub(crate) struct Common {
    pub node_rank: Vec<u8>,
    pub world_size: Vec<u8>,
    pub job: Vec<u8>,
    pub attempt: Vec<u8>,
    pub role: Vec<u8>,
}

impl Fields {
    /// Takes what another line of the same record says where nothing is known yet.
    pub(crate) fn add(&mut self, other: &Fields) {
        self.rank = self.rank.or(other.rank);
        self.local_rank = self.local_rank.or(other.local_rank);
        self.node_rank = self.node_rank.or(other.node_rank);
        if self.role.is_empty() {
            self.role.extend_from_slice(&other.role);
        }
    }

    /// Appends the members that the record doesn't have (`present`: bits of `OWN_FIELDS`). Answers where in `out` the number of ranks
    /// belongs.
    pub(crate) fn write(&self, common: &Common, present: u16, out: &mut Vec<u8>) -> usize {
        let absent = |field: usize| present & (1 << field) == 0;
        for (field, said, known) in [
            (RANK, self.rank, &[][..]),
            (LOCAL_RANK, self.local_rank, &[]),
            (NODE_RANK, self.node_rank, &common.node_rank),
        ] {
            if absent(field) {
                push(out, field, said.map(u64::from), known);
            }
        }
        let place_of_size = out.len();
        if absent(WORLD_SIZE) {
            push(
                out,
                WORLD_SIZE,
                self.world_size.map(u64::from),
                &common.world_size,
            );
        }
        if absent(JOB) {
            push(out, JOB, None, &common.job);
        }
        if absent(ATTEMPT) {
            push(out, ATTEMPT, self.attempt.map(u64::from), &common.attempt);
        }
        if absent(ROLE) {
            if self.role.is_empty() {
                push(out, ROLE, None, &common.role);
            } else {
                json::push_field(out, OWN_FIELDS[ROLE], &self.role);
            }
        }
        if let Some(level) = self.level
            && absent(LEVEL)
        {
            push(out, LEVEL, None, level.name().as_bytes());
        }
        if !self.exception.is_empty() && absent(EXCEPTION) {
            json::push_field(out, OWN_FIELDS[EXCEPTION], &self.exception);
        }
        if absent(STEP) {
            push(out, STEP, self.step, &[]);
        }
        place_of_size
    }

    /// Nothing to add to a record.
    pub(crate) fn is_empty(&self) -> bool {
        self.rank.is_none()
            && self.local_rank.is_none()
            && self.node_rank.is_none()
            && self.attempt.is_none()
            && self.world_size.is_none()
            && self.level.is_none()
            && self.step.is_none()
            && self.exception.is_empty()
            && self.role.is_empty()
    }
}

impl Common {
    fn values(&self) -> [&Vec<u8>; 5] {
        [
            &self.node_rank,
            &self.world_size,
            &self.job,
            &self.attempt,
            &self.role,
        ]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.values().iter().all(|value| value.is_empty())
    }

    /// A hash of all values on top of `seed`.
    pub(crate) fn hash(&self, seed: u64) -> u64 {
        self.values()
            .iter()
            .fold(seed, |state, value| tags::hash(state, value))
    }

    /// Bytes that are kept beside the structure itself.
    pub(crate) fn bytes(&self) -> usize {
        self.values().iter().map(|value| value.capacity()).sum()
    }
}

/// Appends a member with what the lines say, or else with what is known of the pod; none when neither is, as of most members.
#[inline(always)]
fn push(out: &mut Vec<u8>, field: usize, said: Option<u64>, known: &[u8]) {
    match said {
        Some(said) => push_number(out, field, said),
        None if known.is_empty() => {}
        None => json::push_escaped(out, OWN_FIELDS[field], known),
    }
}

#[inline(never)]
fn push_number(out: &mut Vec<u8>, field: usize, number: u64) {
    json::push_escaped(out, OWN_FIELDS[field], json::decimal(number, &mut [0; 24]));
}

/// A number's digits as they stand in a line, without zeros before them.
pub(crate) fn significant(digits: &[u8]) -> &[u8] {
    let most = digits.len().saturating_sub(1);
    let zeros = digits[..most].iter().take_while(|&&b| b == b'0').count();
    &digits[zeros..]
}

/// The step that a training loop prints: `step 19/40`, `step: 10`, `global_step=3`, `iteration        7/  500000`, `iter 10: …`,
/// `Iter [50/9000]`, and with the loss `steps: 10 loss: …` of DeepSpeed, or `[batch=10/4800]:` of Composer. With the span of its
/// digits.
pub(crate) fn step_at(text: &[u8]) -> Option<(u64, Span)> {
    let mut from = 0;
    while let Some(t) = find::text(&text[from..], b"te").map(|n| n + from) {
        from = t + 1;
        if let Some(start) = behind_word(text, t).and_then(|end| behind_gap(text, end)) {
            return digits_at(text, start);
        }
    }
    let start = if text.starts_with(b"steps: ") && find::text(text, b" loss: ").is_some() {
        7
    } else if text.starts_with(b"[") {
        find::text(&text[..text.len().min(24)], b"[batch=")? + 7
    } else {
        return None;
    };
    digits_at(text, start)
}

/// Words before `_step` of those that count the training's steps; others name settings (`warmup_step`) or values (`loss_step`).
const COUNTED: [&[u8]; 6] = [
    b"global",
    b"train",
    b"training",
    b"current",
    b"update",
    b"optimizer",
];

/// The end of the word for a step whose `te` stands at `t`.
fn behind_word(text: &[u8], t: usize) -> Option<usize> {
    let rest = &text[t..];
    let (first, letters) = if rest.starts_with(b"tep") {
        (b's', 3)
    } else if rest.starts_with(b"teration") {
        (b'i', 8)
    } else if rest.starts_with(b"ter") {
        (b'i', 3)
    } else {
        return None;
    };
    let word = t
        .checked_sub(1)
        .filter(|&at| text[at].eq_ignore_ascii_case(&first))?;
    let before = &text[..word];
    let counts = match before.last() {
        Some(b'_') => COUNTED
            .iter()
            .any(|name| before[..before.len() - 1].ends_with(name)),
        Some(byte) => !byte.is_ascii_alphanumeric(),
        None => true,
    };
    counts.then_some(t + letters)
}

/// Where the number begins behind what may stand between it and its word.
fn behind_gap(text: &[u8], end: usize) -> Option<usize> {
    let gap = text[end..]
        .iter()
        .take(16)
        .take_while(|b| matches!(b, b' ' | b':' | b'=' | b'"' | b'\'' | b'[' | b'#'))
        .count();
    let start = end + gap;
    let digits = text[start..]
        .iter()
        .take(18)
        .take_while(|b| b.is_ascii_digit())
        .count();
    let after = text.get(start + digits);
    let whole = !after.is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_'));
    (gap > 0 && digits > 0 && whole).then_some(start)
}

/// The number at `start`, with its span.
fn digits_at(text: &[u8], start: usize) -> Option<(u64, Span)> {
    let digits = text[start..]
        .iter()
        .take(18)
        .take_while(|b| b.is_ascii_digit())
        .count();
    let span = start..start + digits;
    let written = std::str::from_utf8(&text[span.clone()]).ok()?;
    Some((written.parse().ok()?, span))
}
