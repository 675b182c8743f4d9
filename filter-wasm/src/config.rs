//! The configuration: its keys and their defaults.
//!
//! A key of `rank_filter.toml` that isn't known, or a value that doesn't fit, is reported and its default applies; nothing makes
//! the filter stop. `docs/filter.md` describes every key.

mod written;

use crate::rules;
use written::{Statement, Value, shortened};

/// What `rank_filter.toml` can set. All keys are optional; the fields' names are the keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How long a record that may go on waits for its next line, in milliseconds; measured by ticks. Default 2000.
    pub flush_ms: u64,
    /// Lines of one key whose times are at most this far apart count as one write, in milliseconds. Default 20.
    pub burst_ms: u64,
    /// A held record leaves when a line of its tag is this much younger than its last line, in milliseconds. Default 60000.
    pub max_age_ms: u64,
    /// Members that may hold the line, best first. Default `log`, `message`, `msg`.
    pub log_keys: Vec<String>,
    /// Calls with this tag are ticks: they carry out held records and are dropped themselves. Default `rankline.tick`.
    pub tick_tag: String,
    /// Merge the lines of one failure into one record. Default true.
    pub merge: bool,
    /// Reduce the redraws of a progress bar (`\r`) to the last one. Default true.
    pub collapse_bars: bool,
    /// Remove the prefixes that the rank was read from. Default false.
    pub strip_prefix: bool,
    /// Whether the number that srun and mpirun put before lines is the global rank (one task for each rank): `true` for every
    /// such number, `false` for none, `"auto"` for those that the stream shows to be a launcher's. Default `"auto"`.
    pub task_is_rank: TaskIsRank,
    /// Processes on each node; with it a local rank and a node rank give the global one. Default 0: unknown.
    pub procs_per_node: u32,
    /// Further prefixes: patterns that match at the head of a line, with groups named `rank`, `local_rank`, `node_rank`, `task` or
    /// `role`. They are asked where no built-in prefix stands. Default none.
    pub prefix_patterns: Vec<String>,
    /// Further records: a line whose text (behind its prefixes) begins with a match starts one. Default none.
    pub start_patterns: Vec<String>,
    /// A record that a start pattern began goes on with the lines whose text begins with a match. Default none.
    pub continue_patterns: Vec<String>,
    /// Name of the job, where nothing else says it. Default empty: unknown.
    pub job: String,
    /// Attempt of the job, where nothing else says it. Default empty: unknown.
    pub attempt: String,
    /// Role of the processes, where nothing else says it. Default empty: unknown.
    pub role: String,
    /// Rank of this node, where nothing else says it. Default empty: unknown.
    pub node_rank: String,
    /// Number of ranks of the job, where nothing else says it. Default empty: unknown.
    pub world_size: String,
    /// Most records held at once; the oldest leaves early. Default 1024.
    pub max_held_records: usize,
    /// Most bytes held at once; the oldest record leaves early. Default 16 MiB.
    pub max_held_bytes: usize,
    /// Most bytes of one merged record's text; it leaves early. Default 250000: stores refuse lines over 256 KiB by default.
    pub max_record_bytes: usize,
    /// Most bytes of one line that the container runtime cut into parts; a longer one leaves in several. Default 4 MiB.
    pub max_line_bytes: usize,
    /// Most bytes of the spool file, which keeps held lines through a restart; 0: no spool. Default 16 MiB.
    pub spool_bytes: usize,
    /// Most lines of one merged record; it leaves early. Default 10000.
    pub max_record_lines: u32,
    /// Most tags that something is remembered of; the one not seen for longest is forgotten. Default 4096.
    pub max_tags: usize,
}

/// When the number of a launcher's task is a rank.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TaskIsRank {
    /// Where mpirun's tag says it is a task's, or the stream shows it; unless a process says another number of itself.
    #[default]
    Auto,
    /// Wherever a line begins like that; unless a process says another number of itself.
    Always,
    /// Nowhere: a task is not one rank (it starts several, as torchrun does).
    Never,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            flush_ms: 2_000,
            burst_ms: 20,
            max_age_ms: 60_000,
            log_keys: ["log", "message", "msg"].map(String::from).to_vec(),
            tick_tag: "rankline.tick".into(),
            merge: true,
            collapse_bars: true,
            strip_prefix: false,
            task_is_rank: TaskIsRank::default(),
            procs_per_node: 0,
            prefix_patterns: Vec::new(),
            start_patterns: Vec::new(),
            continue_patterns: Vec::new(),
            job: String::new(),
            attempt: String::new(),
            role: String::new(),
            node_rank: String::new(),
            world_size: String::new(),
            max_held_records: 1_024,
            max_held_bytes: 16 << 20,
            max_record_bytes: 250_000,
            max_line_bytes: 4 << 20,
            spool_bytes: 16 << 20,
            max_record_lines: 10_000,
            max_tags: 4_096,
        }
    }
}

/// A key or value of the configuration that can't be used; its default applies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    /// Line number in the file, from 1.
    pub line: usize,
    /// What is wrong and what to do.
    pub message: String,
}

impl std::fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "rank_filter.toml line {}: {}", self.line, self.message)
    }
}

impl std::error::Error for ConfigProblem {}

impl Config {
    /// All keys.
    const KEYS: [&str; 25] = [
        "flush_ms",
        "burst_ms",
        "max_age_ms",
        "log_keys",
        "tick_tag",
        "merge",
        "collapse_bars",
        "strip_prefix",
        "task_is_rank",
        "procs_per_node",
        "prefix_patterns",
        "start_patterns",
        "continue_patterns",
        "job",
        "attempt",
        "role",
        "node_rank",
        "world_size",
        "max_held_records",
        "max_held_bytes",
        "max_record_bytes",
        "max_record_lines",
        "max_line_bytes",
        "max_tags",
        "spool_bytes",
    ];

    /// Reads a configuration; what can't be used is reported and keeps its default.
    pub fn parse(text: &str) -> (Self, Vec<ConfigProblem>) {
        let mut config = Self::default();
        let mut problems = Vec::new();
        let mut given: Vec<(&str, usize)> = Vec::new();
        for Statement { line, key, value } in written::statements(text) {
            let earlier = given.iter().find(|(known, _)| *known == key && !key.is_empty());
            let done = match (earlier, value) {
                (Some((_, first)), _) => Err(format!("{key}: given already on line {first}; remove one")),
                (None, Ok(value)) => config.set(key, value),
                (None, Err(message)) if key.is_empty() => Err(message),
                (None, Err(message)) => Err(format!("{}: {message}", shortened(key))),
            };
            given.push((key, line));
            if let Err(message) = done {
                problems.push(ConfigProblem { line, message });
            }
        }
        (config, problems)
    }

    fn set(&mut self, key: &str, value: Value) -> Result<(), String> {
        match key {
            "flush_ms" => set_number(&mut self.flush_ms, value),
            "burst_ms" => set_number(&mut self.burst_ms, value),
            "max_age_ms" => set_number(&mut self.max_age_ms, value),
            "procs_per_node" => set_number(&mut self.procs_per_node, value),
            "max_held_records" => set_number(&mut self.max_held_records, value),
            "max_held_bytes" => set_number(&mut self.max_held_bytes, value),
            "max_record_bytes" => set_number(&mut self.max_record_bytes, value),
            "max_line_bytes" => set_number(&mut self.max_line_bytes, value),
            "spool_bytes" => set_number(&mut self.spool_bytes, value),
            "max_record_lines" => set_number(&mut self.max_record_lines, value),
            "max_tags" => set_number(&mut self.max_tags, value),
            "merge" => set_switch(&mut self.merge, value),
            "collapse_bars" => set_switch(&mut self.collapse_bars, value),
            "strip_prefix" => set_switch(&mut self.strip_prefix, value),
            "task_is_rank" => {
                self.task_is_rank = match value {
                    Value::Switch(true) => TaskIsRank::Always,
                    Value::Switch(false) => TaskIsRank::Never,
                    Value::Text(word) if word == "auto" => TaskIsRank::Auto,
                    _ => return Err(format!("{key}: expected true, false or \"auto\"")),
                };
                Ok(())
            }
            "tick_tag" => set_text(&mut self.tick_tag, value),
            "job" => set_text(&mut self.job, value),
            "attempt" => set_text(&mut self.attempt, value),
            "role" => set_text(&mut self.role, value),
            "node_rank" => set_text(&mut self.node_rank, value),
            "world_size" => set_text(&mut self.world_size, value),
            "log_keys" => match value {
                Value::List(names) if !names.is_empty() => {
                    self.log_keys = names;
                    Ok(())
                }
                _ => Err("expected a list of names, such as [\"log\", \"message\"]".into()),
            },
            "prefix_patterns" => set_patterns(&mut self.prefix_patterns, value, rules::check_prefix),
            "start_patterns" => set_patterns(&mut self.start_patterns, value, rules::check),
            "continue_patterns" => set_patterns(&mut self.continue_patterns, value, rules::check),
            _ => return Err(unknown(key)),
        }
        .map_err(|message| format!("{key}: {message}"))
    }
}

/// Says that there is no such key, and which one may be meant.
fn unknown(key: &str) -> String {
    let nearest = Config::KEYS
        .iter()
        .map(|known| (distance(key.as_bytes(), known.as_bytes()), known))
        .min()
        .filter(|&(distance, known)| {
            distance <= 1 + known.len() / 4 || (key.len() > 3 && known.contains(key))
        });
    match nearest {
        Some((_, known)) => format!("unknown key `{}`; the nearest is `{known}`", shortened(key)),
        None => format!(
            "unknown key `{}`; the keys are {}",
            shortened(key),
            Config::KEYS.join(", ")
        ),
    }
}

/// Characters to insert, remove or change to come from one word to the other.
fn distance(one: &[u8], other: &[u8]) -> usize {
    const LONGEST: usize = 40;
    let (one, other) = (&one[..one.len().min(LONGEST)], &other[..other.len().min(LONGEST)]);
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

fn set_patterns(
    target: &mut Vec<String>,
    value: Value,
    check: fn(&str) -> Result<(), String>,
) -> Result<(), String> {
    let Value::List(patterns) = value else {
        return Err("expected a list of patterns, such as ['<(?P<rank>[0-9]+)> ']".into());
    };
    if patterns.len() > rules::MAX_PATTERNS {
        return Err(format!(
            "{} patterns are too many; at most {}",
            patterns.len(),
            rules::MAX_PATTERNS
        ));
    }
    for pattern in &patterns {
        check(pattern).map_err(|message| format!("`{}`: {message}", shortened(pattern)))?;
    }
    *target = patterns;
    Ok(())
}

fn set_number<T: TryFrom<u64>>(target: &mut T, value: Value) -> Result<(), String> {
    let Value::Number(number) = value else {
        return Err("expected a whole number".into());
    };
    *target = T::try_from(number).map_err(|_| format!("{number} is too large"))?;
    Ok(())
}

fn set_switch(target: &mut bool, value: Value) -> Result<(), String> {
    let Value::Switch(on) = value else {
        return Err("expected true or false".into());
    };
    *target = on;
    Ok(())
}

fn set_text(target: &mut String, value: Value) -> Result<(), String> {
    *target = match value {
        Value::Text(text) => text,
        Value::Number(number) => number.to_string(),
        _ => return Err("expected a string".into()),
    };
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn known_keys_are_read() {
        let (config, problems) = Config::parse(
            "# ours\nflush_ms = 1_500 # ms\njob = \"llama\"\nnode_rank = 3\nlog_keys = ['line', \"log\"]\nmerge = false\n",
        );
        assert_eq!(problems, []);
        assert_eq!(config.flush_ms, 1500);
        assert_eq!((config.job.as_str(), config.node_rank.as_str()), ("llama", "3"));
        assert_eq!(config.log_keys, ["line", "log"]);
        assert!(!config.merge);
    }

    #[test]
    fn mistakes_are_reported_and_defaults_stay() {
        let (config, problems) = Config::parse(
            "flush = 1\nburst_ms = \"x\"\nmerge\njob = 'a' b\nprocs_per_nodes = 8\ntask_is_rank = 1\nzzz = 1\nmax_tags = 1\nmax_tags = 2
prefix_patterns = ['(?P<rang>[0-9]+)']\nstart_patterns = ['(']\ncontinue_patterns = 'x'\nmax_record_lines = 5_000_000_000\n",
        );
        assert_eq!(
            config,
            Config {
                max_tags: 1,
                ..Config::default()
            }
        );
        let messages: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let starts = [
            "rank_filter.toml line 1: unknown key `flush`; the nearest is `flush_ms`",
            "rank_filter.toml line 2: burst_ms: expected a whole number",
            "rank_filter.toml line 3: expected `key = value`, found `merge`",
            "rank_filter.toml line 4: job: unexpected `b` behind the value",
            "rank_filter.toml line 5: unknown key `procs_per_nodes`; the nearest is `procs_per_node`",
            "rank_filter.toml line 6: task_is_rank: expected true, false or \"auto\"",
            "rank_filter.toml line 7: unknown key `zzz`; the keys are flush_ms, burst_ms",
            "rank_filter.toml line 9: max_tags: given already on line 8; remove one",
            "rank_filter.toml line 10: prefix_patterns: `(?P<rang>[0-9]+)`: unknown group `rang`",
            "rank_filter.toml line 11: start_patterns: `(`: ",
            "rank_filter.toml line 12: continue_patterns: expected a list of patterns",
            "rank_filter.toml line 13: max_record_lines: 5000000000 is too large",
        ];
        assert_eq!(messages.len(), starts.len(), "{messages:#?}");
        for (message, start) in messages.iter().zip(starts) {
            assert!(message.starts_with(start), "{message}\n{start}");
        }
    }

    /// The keys as the structure has them.
    fn fields() -> Vec<String> {
        format!("{:#?}", Config::default())
            .lines()
            .filter_map(|line| line.strip_prefix("    ")?.split_once(": "))
            .filter(|(name, _)| !name.starts_with(' '))
            .map(|(name, _)| name.to_owned())
            .collect()
    }

    #[test]
    fn every_field_is_a_key() {
        let mut fields = fields();
        let mut keys = Config::KEYS.map(String::from).to_vec();
        fields.sort();
        keys.sort();
        assert_eq!(fields, keys);
        for key in Config::KEYS {
            let (_, problems) = Config::parse(&format!("{key} = @"));
            assert!(!problems[0].message.contains("unknown key"), "{key}");
        }
    }

    /// The table of keys in docs/filter.md names every key, with its default as it would be written.
    #[test]
    fn the_documented_defaults_are_true() {
        let page = include_str!("../../docs/filter.md");
        let (_, page) = page.split_once("\n## Configuration\n").unwrap();
        let mut documented = Vec::new();
        for row in page.lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
            let (key, default) = (cells[0].trim_matches('`'), cells[1].trim_matches('`'));
            if Config::KEYS.contains(&key) {
                let (config, problems) = Config::parse(&format!("{key} = {default}"));
                assert_eq!(
                    (config, problems),
                    (Config::default(), vec![]),
                    "{key} = {default}"
                );
                documented.push(key);
            }
        }
        documented.sort_unstable();
        let mut keys = Config::KEYS;
        keys.sort_unstable();
        assert_eq!(documented, keys);
    }
}
