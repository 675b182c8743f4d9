//! Which rank a line is from: all evidence about the line and its stream, in order of trust.
//!
//! 1. What a process says of itself: `[rank3]:`, `[Rank 3]`, `[rank3]` in a log line's header. Two that differ are none.
//! 2. A launcher's number: mpirun's tag, or a label that the stream has shown to be one (`task_label`). A number that a process
//!    contradicts, or behind which a launcher of several processes speaks, is no rank for that stream from then on.
//! 3. What a Ray worker, or the table of its group, said earlier.
//! 4. The local rank, by torchrun's printed list of its group, or by the node's rank and a configured group size.
//! 5. The rank in the pod's name, as long as one process without any number of its own writes the stream.
//!
//! A wrong rank is worse than none. This module remembers; what lines look like is read by `prefix`, `line` and `launch`.

use crate::config::{Config, TaskIsRank};
use crate::json::Span;
use crate::launch::{Group, WorkerRank};
use crate::line;
use crate::prefix::{self, Prefix};
use crate::tags;
use crate::task_label::{Label, TaskLabels};

/// The numbers of one line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ranks {
    pub rank: Option<u32>,
    pub local_rank: Option<u32>,
    pub node_rank: Option<u32>,
}

/// What one stream's lines taught about the ranks in it.
#[derive(Debug, Default)]
pub(crate) struct RankMemory {
    labels: TaskLabels,
    /// The launcher's number is not the rank here.
    task_is_no_rank: bool,
    /// `[rank3]:` with nothing behind its colon is torchrun's `--role rank --tee 3` here, which says the local rank.
    tee_says_local: bool,
    /// Lines of this stream have numbers of their own: the pod's name says no more than the node.
    numbered: bool,
    workers: Workers,
    /// Names of roles that torchrun's tee surely wrote, as hashes.
    roles: Vec<u64>,
    /// What torchrun printed about its processes.
    pub group: Group,
    /// Rank that the pod's name says.
    pub pod_rank: Option<u32>,
    /// Rank of the node, as labels or the configuration say.
    pub node_rank: Option<u32>,
    /// How often any of this has changed.
    changes: u32,
}

impl RankMemory {
    /// How often anything has changed that the rank of a line may depend on.
    pub(crate) fn changes(&self) -> u32 {
        self.changes
            .wrapping_add(self.labels.changes())
            .wrapping_add(self.group.blocks())
    }

    /// Bytes that are kept beside the structure itself.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<WorkerRank>() * self.workers.known.capacity()
            + 8 * self.roles.capacity()
            + self.group.bytes()
    }

    /// A hash on top of `seed` of all that the ranks of lines depend on whose labels are judged. `tag`: a hash that no other stream
    /// has, for where they depend on what this one alone said.
    pub(crate) fn hash_of_known(&self, tag: u64, seed: u64) -> u64 {
        let flags = [self.task_is_no_rank, self.tee_says_local, self.numbered];
        let mut flags = flags
            .iter()
            .fold(self.labels.believed(), |bits, &flag| bits << 1 | u64::from(flag));
        for number in [self.pod_rank, self.node_rank] {
            flags = flags << 24 ^ number.map_or(0, |number| u64::from(number) + 1);
        }
        let mut state = tags::hash(seed, &flags.to_le_bytes());
        state = self
            .roles
            .iter()
            .fold(state, |state, role| tags::hash(state, &role.to_le_bytes()));
        if self.workers.known.is_empty() && self.group.is_empty() {
            return state;
        }
        tags::hash(state ^ tag, &self.changes().to_le_bytes())
    }

    /// Lines are not all alike now: the next ones belong to a launcher's block.
    pub(crate) fn is_reading_block(&self) -> bool {
        self.group.is_open()
    }

    /// A line like one that was judged before: the label of that one, or that it has none.
    #[inline(always)]
    pub(crate) fn see_again(&mut self, line: &[u8], label: Option<Label>, unlabelled: bool, stderr: usize) {
        match label {
            Some(label) => self.labels.see_again(line, label, stderr),
            None if unlabelled => self.labels.see_unlabelled(stderr),
            None => {}
        }
    }

    /// Decides whether the number before the line is a launcher's label. One that isn't stays a part of the line's key only.
    pub(crate) fn judge_label(&mut self, line: &[u8], prefix: &mut Prefix, stderr: usize, config: &Config) {
        let Some(label) = prefix.label else {
            if may_have_label(line) {
                self.labels.see_unlabelled(stderr);
            }
            return;
        };
        if prefix.rank == Some(label.number) {
            self.labels.confirm(label);
        }
        let believed = self.labels.see(label, &line[label.len..], stderr);
        if believed || config.task_is_rank == TaskIsRank::Always {
            prefix::take_label(line, prefix);
            prefix.task = Some(label.number);
        }
    }

    /// The ranks of a line whose label has been judged, and where in its body it says its own. `body` stands behind its prefixes.
    pub(crate) fn ranks(
        &mut self,
        line: &[u8],
        prefix: &Prefix,
        body: &[u8],
        config: &Config,
    ) -> (Ranks, Option<Span>) {
        let mut ranks = Ranks {
            node_rank: prefix.node_rank,
            local_rank: prefix.local_rank.filter(|_| self.knows_role(line, prefix)),
            ..Ranks::default()
        };
        self.contradict(prefix, body);
        if prefix.template && prefix::is_torn(body) {
            return (ranks, None);
        }
        let mut own = prefix.rank;
        if let Some(number) = prefix.teed
            && own == Some(number)
            && (self.tee_says_local || self.node_rank.is_some_and(|node| node > 0))
        {
            own = None;
            ranks.local_rank = Some(number);
        }
        if prefix.contradictory {
            return (ranks, None);
        }
        let mut inline = None;
        if own.is_none() {
            (own, inline) = line::inline_rank(body).unzip();
        }
        let local = ranks.local_rank;
        if self.task_is_no_rank {
            ranks.node_rank = ranks.node_rank.or(prefix.task);
        }
        let task = prefix
            .task
            .filter(|_| config.task_is_rank != TaskIsRank::Never && !self.task_is_no_rank && local.is_none());
        let node = ranks.node_rank.or(self.node_rank);
        ranks.rank = own
            .or(task)
            .or_else(|| self.workers.rank(line, prefix))
            .or_else(|| self.group.rank_of(local?))
            .or_else(|| global(local?, node?, config.procs_per_node));
        if ranks.rank.is_some() || local.is_some() || prefix.task.is_some() || prefix.worker {
            self.change(|memory| &mut memory.numbered, true);
        }
        if !self.numbered {
            ranks.rank = self.pod_rank;
        }
        (ranks, inline)
    }

    /// `[trainer3]:` is torchrun's once a line of it had its text right behind the colon; others write `[epoch3]: text`.
    pub(crate) fn knows_role(&mut self, line: &[u8], prefix: &Prefix) -> bool {
        const MOST: usize = 16;
        let Some((from, to)) = prefix.role else {
            return true;
        };
        if prefix.template || prefix.configured || &line[from..to] == b"default" {
            return true;
        }
        let role = tags::hash(2, &line[from..to]);
        let known = self.roles.contains(&role);
        if !known && prefix.role_direct && self.roles.len() < MOST {
            self.roles.push(role);
            self.changes = self.changes.wrapping_add(1);
        }
        known || prefix.role_direct
    }

    /// A launcher's line says which rank a worker has.
    pub(crate) fn learn_worker(&mut self, worker: WorkerRank) {
        self.changes = self.changes.wrapping_add(1);
        self.workers.learn(worker);
    }

    /// Takes back what this line contradicts.
    fn contradict(&mut self, prefix: &Prefix, body: &[u8]) {
        let Prefix { rank, task, .. } = *prefix;
        if let (Some(rank), Some(task)) = (rank, task)
            && rank != task
        {
            self.change(|memory| &mut memory.task_is_no_rank, true);
        }
        if task.is_some() && (prefix.local_rank.is_some() || line::is_torchrun(body)) {
            self.change(|memory| &mut memory.task_is_no_rank, true);
        }
        if prefix.teed.is_some() && prefix.teed != rank {
            self.change(|memory| &mut memory.tee_says_local, true);
        }
        if let (Some(pod), Some(rank)) = (self.pod_rank, rank)
            && pod != rank
        {
            self.change(|memory| &mut memory.pod_rank, None);
        }
        // A launcher shares the pod with the processes it starts.
        if self.pod_rank.is_some() && line::is_torchrun(body) {
            self.change(|memory| &mut memory.numbered, true);
        }
    }

    /// Sets what a line taught, and counts it when it is new.
    fn change<T: PartialEq>(&mut self, of: impl Fn(&mut Self) -> &mut T, value: T) {
        if *of(self) != value {
            *of(self) = value;
            self.changes = self.changes.wrapping_add(1);
        }
    }
}

/// A launcher that labels lines would have put its label before this one too.
pub(crate) fn may_have_label(line: &[u8]) -> bool {
    !line::is_blank(line) && !line::is_launchers(line)
}

/// The global rank of local rank `local` on node `node` where each node has `each` processes (0: unknown).
fn global(local: u32, node: u32, each: u32) -> Option<u32> {
    (local < each).then(|| node.checked_mul(each)?.checked_add(local))?
}

/// Ranks of Ray's workers.
#[derive(Debug, Default)]
struct Workers {
    /// By process id and address; the address is empty for workers on the driver's own node.
    known: Vec<WorkerRank>,
}

impl Workers {
    /// Most workers that are remembered of a stream; the oldest is forgotten.
    const MOST: usize = 4096;

    /// A restarted worker may have another rank than before.
    fn learn(&mut self, worker: WorkerRank) {
        self.known
            .retain(|known| (known.pid, known.address) != (worker.pid, worker.address));
        if self.known.len() >= Self::MOST {
            self.known.remove(0);
        }
        self.known.push(worker);
    }

    /// Ray leaves out the address of workers on the driver's node, so a process id alone counts when one worker has it.
    fn rank(&self, line: &[u8], prefix: &Prefix) -> Option<u32> {
        if !prefix.worker || self.known.is_empty() {
            return None;
        }
        let (pid, address) = prefix::worker(&line[..prefix.cuts[0]])?;
        let of_pid = || self.known.iter().filter(|known| known.pid == pid);
        if let Some(known) = of_pid().find(|known| known.address == address) {
            return Some(known.rank);
        }
        let mut ranks = of_pid()
            .filter(|known| known.address == 0 || address == 0)
            .map(|known| known.rank);
        let rank = ranks.next()?;
        ranks.all(|other| other == rank).then_some(rank)
    }
}

#[cfg(test)]
mod tests;
