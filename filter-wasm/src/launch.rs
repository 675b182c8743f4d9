//! What launchers print about the processes they start: attempts, group sizes, which worker has which rank.
//!
//! torchrun (`torch/distributed/elastic/agent/server/api.py`) prints a block after each rendezvous and a line before each
//! restart; Ray Train prints a table of its workers and its decisions after failures; Slurm leaves a count in the environment.
//! These lines speak for the whole stream that they stand in. Most lines are told apart by their first byte, so that ordinary
//! ones cost nothing. This module reads single lines; what follows from them is `rank`'s and `tags`' business.

use crate::find;
use crate::line;
use crate::prefix::{self, Prefix, number};
use crate::tags;

/// What a line says about its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    /// The number of the attempt that runs from here on, from 0.
    Attempt(u32),
    /// One more attempt begins; the number of failures that the launcher counts.
    Retry(u32),
    /// Number of processes of the job.
    WorldSize(u32),
    /// Rank of a Ray worker.
    Worker(WorkerRank),
    /// A worker's rank and the size of its group.
    WorkerOf(WorkerRank, u32),
}

/// A Ray worker, known by process id and address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WorkerRank {
    pub pid: u32,
    /// Hash of its address; 0 when it isn't printed.
    pub address: u64,
    pub rank: u32,
}

/// Most processes on one node that torchrun's lists are read of.
const MAX_LOCAL: usize = 256;

/// Lines of torchrun's block behind its first one.
const BLOCK_LINES: u8 = 14;

/// Other lines that may come between those of a block, as of other nodes in one stream.
const LINES_BETWEEN: u8 = 250;

/// What torchrun prints about the processes of its node.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// Lines of a block that may still come.
    expected: u8,
    /// Other lines that may come before them.
    between: u8,
    /// How many blocks there were.
    blocks: u32,
    local_ranks: Vec<u32>,
    global_ranks: Vec<u32>,
}

impl Group {
    /// Lines of a block may still come.
    pub(crate) fn is_open(&self) -> bool {
        self.expected > 0
    }

    /// How many blocks were begun.
    pub(crate) fn blocks(&self) -> u32 {
        self.blocks
    }

    /// Neither list was printed.
    pub(crate) fn is_empty(&self) -> bool {
        self.local_ranks.is_empty() && self.global_ranks.is_empty()
    }

    /// Bytes that are kept beside the structure itself.
    pub(crate) fn bytes(&self) -> usize {
        4 * (self.local_ranks.capacity() + self.global_ranks.capacity())
    }

    /// The global rank of a local one, when both lists were printed.
    pub(crate) fn rank_of(&self, local: u32) -> Option<u32> {
        if self.local_ranks.len() != self.global_ranks.len() {
            return None;
        }
        let at = self.local_ranks.iter().position(|&known| known == local)?;
        self.global_ranks.get(at).copied()
    }

    /// Reads a line of torchrun's block, or the line that announces one.
    pub(crate) fn read(&mut self, body: &[u8]) -> Option<Said> {
        if self.expected == 0 || !body.starts_with(b"  ") {
            if line::is_torchrun(body) && line::contains(body, b"Rendezvous complete for workers. Result:") {
                *self = Group {
                    expected: BLOCK_LINES,
                    between: LINES_BETWEEN,
                    blocks: self.blocks.wrapping_add(1),
                    ..Group::default()
                };
            } else if self.expected > 0 {
                self.between = self.between.saturating_sub(1);
                if self.between == 0 {
                    self.expected = 0;
                }
            }
            return None;
        }
        self.expected -= 1;
        let text = line::trim_start(body);
        let equals = find::byte(b'=', text)?;
        let (name, value) = (&text[..equals], &text[equals + 1..]);
        match name {
            b"restart_count" => return whole(value).map(Said::Attempt),
            b"local_ranks" => self.local_ranks = list(value)?,
            b"global_ranks" => self.global_ranks = list(value)?,
            b"global_world_sizes" => {
                let sizes = list(value)?;
                let first = *sizes.first()?;
                return sizes
                    .iter()
                    .all(|&size| size == first)
                    .then_some(Said::WorldSize(first));
            }
            _ => {}
        }
        None
    }
}

/// Reads what a line says about its stream. `line` has its prefixes, `body` stands behind them.
pub(crate) fn read(text: &[u8], prefix: &Prefix, body: &[u8]) -> Option<Said> {
    match body.first()? {
        b'S' if prefix.worker && body.starts_with(b"Setting up process group for: ") => {
            ray_worker(text, prefix, body)
        }
        b'-' if prefix.worker && body.starts_with(b"- (") => ray_table(body).map(Said::Worker),
        b'[' if body.starts_with(b"[FailurePolicy] Decision: FailureDecision.RETRY") => {
            let at = find::text(body, b"Error count")?;
            let digit = body[at..].iter().take(60).position(u8::is_ascii_digit)?;
            number(body, at + digit).map(|(count, _)| Said::Retry(count))
        }
        // DeepSpeed's launcher: `[2026-01-05 10:00:00,123] [INFO] [launch.py:164:main] dist_world_size=8`.
        b'[' if line::contains(&body[..body.len().min(60)], b"] [launch.py:") => {
            let at = find::text(body, b"dist_world_size=")? + 16;
            whole(&body[at..]).map(Said::WorldSize)
        }
        b'A' => lightning_world(body).map(Said::WorldSize),
        b'S' => variable(body, b"SLURM_RESTART_COUNT=").map(Said::Attempt),
        b'T' => variable(body, b"TORCHELASTIC_RESTART_COUNT=").map(Said::Attempt),
        b'u' => megatron_world(body).map(Said::WorldSize),
        b'I' | b'i'
            if body
                .get(1..)
                .is_some_and(|rest| rest.starts_with(b"nitializing distributed: GLOBAL_RANK: ")) =>
        {
            let slash = find::byte(b'/', body)?;
            number(body, slash + 1).map(|(size, _)| Said::WorldSize(size))
        }
        _ if line::is_torchrun(body) => restart(body),
        _ => None,
    }
}

/// `[default] Worker group FAILED. 2/3 attempts left; will restart worker group`: the attempt that begins then.
fn restart(body: &[u8]) -> Option<Said> {
    let end = find::text(body, b" attempts left; will restart worker group")?;
    let most = trailing_number(&body[..end])?;
    let slash = end - most.1 - 1;
    let left = trailing_number(body.get(..slash).filter(|_| body[slash] == b'/')?)?;
    most.0.checked_sub(left.0).map(|done| Said::Attempt(done + 1))
}

/// The number at the end of the text, and its length.
fn trailing_number(text: &[u8]) -> Option<(u32, usize)> {
    let digits = text.iter().rev().take_while(|b| b.is_ascii_digit()).count();
    number(text, text.len() - digits).map(|(number, _)| (number, digits))
}

/// `Setting up process group for: env:// [rank=2, world_size=4]`: Ray Train's workers about themselves.
fn ray_worker(text: &[u8], prefix: &Prefix, body: &[u8]) -> Option<Said> {
    let at = find::text(body, b"[rank=")? + 6;
    let (rank, end) = number(body, at)?;
    let (pid, address) = prefix::worker(&text[..prefix.cuts[0]])?;
    let worker = WorkerRank { pid, address, rank };
    let size = body[end..]
        .strip_prefix(b", world_size=")
        .and_then(|rest| number(rest, 0));
    Some(match size {
        Some((size, _)) => Said::WorkerOf(worker, size),
        None => Said::Worker(worker),
    })
}

/// `- (node_id=4c93…, ip=10.0.0.5, pid=4455) world_rank=3, local_rank=1, node_rank=1`: a line of Ray Train's table.
fn ray_table(body: &[u8]) -> Option<WorkerRank> {
    let close = find::byte(b')', body)?;
    let (pid, address) = prefix::worker(&body[..close + 1])?;
    let rank = body[close..]
        .strip_prefix(b") world_rank=")
        .and_then(|rest| number(rest, 0))?
        .0;
    Some(WorkerRank { pid, address, rank })
}

/// `using world size: 64, data-parallel size: 8, …`, as Megatron's rank 0 prints.
fn megatron_world(body: &[u8]) -> Option<u32> {
    let rest = body.strip_prefix(b"using world size: ")?;
    number(rest, 0).map(|(size, _)| size)
}

/// `All distributed processes registered. Starting with 8 processes`
fn lightning_world(body: &[u8]) -> Option<u32> {
    let rest = body.strip_prefix(b"All distributed processes registered. Starting with ")?;
    let (size, end) = number(rest, 0)?;
    rest[end..].starts_with(b" process").then_some(size)
}

/// A line of a printed environment: the whole line is the variable.
fn variable(body: &[u8], name: &[u8]) -> Option<u32> {
    whole(body.strip_prefix(name)?)
}

/// A number and nothing else.
fn whole(text: &[u8]) -> Option<u32> {
    let text = line::trim_end(text);
    number(text, 0)
        .filter(|&(_, end)| end == text.len())
        .map(|(number, _)| number)
}

/// `[0, 1, 2, 3]`
fn list(text: &[u8]) -> Option<Vec<u32>> {
    let inside = line::trim_end(text).strip_prefix(b"[")?.strip_suffix(b"]")?;
    let mut numbers = Vec::new();
    for item in inside.split(|&b| b == b',') {
        if numbers.len() == MAX_LOCAL {
            return None;
        }
        numbers.push(whole(line::trim_start(item))?);
    }
    Some(numbers)
}

/// A worker's address as it is remembered: a hash, 0 for none.
pub(crate) fn address(text: &[u8]) -> u64 {
    if text.is_empty() { 0 } else { tags::hash(1, text) }
}
