//! The fields that a record gets: collected over its lines, written once.

use crate::find;
use crate::json::{self, OWN_FIELDS};
use crate::line::Level;

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

/// What is known about everything of one pod or tag: already written as `,"name":"value"` members, one for each field.
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

    /// Appends the members that the record doesn't have (`present`: bits of `OWN_FIELDS`).
    pub(crate) fn write(&self, common: &Common, present: u16, out: &mut Vec<u8>) {
        let mut number = [0u8; 20];
        for (i, name) in OWN_FIELDS.iter().enumerate() {
            if present & (1 << i) != 0 {
                continue;
            }
            let value: &[u8] = match *name {
                "rank" => decimal(self.rank.map(u64::from), &mut number),
                "local_rank" => decimal(self.local_rank.map(u64::from), &mut number),
                "step" => decimal(self.step, &mut number),
                "node_rank" => or(self.node_rank, &common.node_rank, &mut number),
                "world_size" => or(self.world_size, &common.world_size, &mut number),
                "job" => &common.job,
                "attempt" => or(self.attempt, &common.attempt, &mut number),
                "role" if self.role.is_empty() => &common.role,
                "role" => &self.role,
                "level" => self.level.map_or("", Level::name).as_bytes(),
                "exception" => &self.exception,
                _ => b"",
            };
            if !value.is_empty() {
                json::push_field(out, name, value);
            }
        }
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
    pub(crate) fn is_empty(&self) -> bool {
        [
            &self.node_rank,
            &self.world_size,
            &self.job,
            &self.attempt,
            &self.role,
        ]
        .iter()
        .all(|value| value.is_empty())
    }
}

/// What the lines say, or else what is known of the pod.
fn or<'a>(said: Option<u32>, common: &'a [u8], buffer: &'a mut [u8; 20]) -> &'a [u8] {
    match said {
        Some(said) => decimal(Some(said.into()), buffer),
        None => common,
    }
}

fn decimal(value: Option<u64>, buffer: &mut [u8; 20]) -> &[u8] {
    value.map_or(&[], |value| json::decimal(value, buffer))
}

/// The step that a training loop prints: `step 19/40`, `step: 10`, `step=3`, `iteration        7/  500000`.
pub(crate) fn step(text: &[u8]) -> Option<u64> {
    let mut from = 0;
    while let Some(t) = find::byte(b't', &text[from..]).map(|n| n + from) {
        from = t + 1;
        let end = if text[t..].starts_with(b"tep") && t > 0 && text[t - 1].eq_ignore_ascii_case(&b's') {
            t + 3
        } else if text[t..].starts_with(b"teration") && t > 0 && text[t - 1].eq_ignore_ascii_case(&b'i') {
            t + 8
        } else {
            continue;
        };
        let word = end - if text[t..].starts_with(b"tep") { 4 } else { 9 };
        if word > 0 && text[word - 1].is_ascii_alphanumeric() {
            continue;
        }
        let gap = text[end..]
            .iter()
            .take(16)
            .take_while(|b| matches!(b, b' ' | b':' | b'=' | b'"' | b'\'' | b'[' | b'#'))
            .count();
        let digits = text[end + gap..]
            .iter()
            .take(18)
            .take_while(|b| b.is_ascii_digit())
            .count();
        let after = text.get(end + gap + digits);
        if gap == 0
            || digits == 0
            || after.is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_'))
        {
            continue;
        }
        let written = std::str::from_utf8(&text[end + gap..end + gap + digits]).ok()?;
        return written.parse().ok();
    }
    None
}
