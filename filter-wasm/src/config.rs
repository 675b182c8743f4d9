//! The configuration: keys, defaults, and a reader for the part of TOML that it uses.
//!
//! `rank_filter.toml` holds `key = value` lines: strings, whole numbers, booleans, and lists of strings on one line. A key
//! that isn't known, or a value that doesn't fit, is reported and its default applies; nothing makes the filter stop.

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
            job: String::new(),
            attempt: String::new(),
            role: String::new(),
            node_rank: String::new(),
            world_size: String::new(),
            max_held_records: 1_024,
            max_held_bytes: 16 << 20,
            max_record_bytes: 250_000,
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

/// A value as it is written.
#[derive(Debug)]
enum Value {
    Text(String),
    Number(u64),
    Switch(bool),
    List(Vec<String>),
}

impl Config {
    /// Reads a configuration; what can't be used is reported and keeps its default.
    pub fn parse(text: &str) -> (Self, Vec<ConfigProblem>) {
        let mut config = Self::default();
        let mut problems = Vec::new();
        for (number, written) in text.lines().enumerate() {
            let mut report = |message| {
                problems.push(ConfigProblem {
                    line: number + 1,
                    message,
                })
            };
            let written = written.trim();
            if written.is_empty() || written.starts_with('#') {
                continue;
            }
            let Some((key, value)) = written.split_once('=') else {
                report(format!("expected `key = value`, found `{}`", shortened(written)));
                continue;
            };
            match parse_value(value.trim()) {
                Ok(value) => {
                    if let Err(message) = config.set(key.trim(), value) {
                        report(message);
                    }
                }
                Err(message) => report(format!("{}: {message}", shortened(key.trim()))),
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
            _ => return Err(format!("unknown key `{}`", shortened(key))),
        }
        .map_err(|message| format!("{key}: {message}"))
    }
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

fn parse_value(written: &str) -> Result<Value, String> {
    let (value, rest) = parse_one(written)?;
    let rest = rest.trim();
    if rest.is_empty() || rest.starts_with('#') {
        Ok(value)
    } else {
        Err(format!("unexpected `{}`", shortened(rest)))
    }
}

fn parse_one(written: &str) -> Result<(Value, &str), String> {
    if written.starts_with(['"', '\'']) {
        let (text, rest) = parse_text(written)?;
        return Ok((Value::Text(text), rest));
    }
    if let Some(inside) = written.strip_prefix('[') {
        return parse_list(inside);
    }
    let end = written
        .find(|c: char| c.is_whitespace() || c == '#')
        .unwrap_or(written.len());
    let (word, rest) = written.split_at(end);
    let value = match word {
        "true" => Value::Switch(true),
        "false" => Value::Switch(false),
        _ => {
            let digits = word.replace('_', "");
            Value::Number(
                digits
                    .parse()
                    .map_err(|_| format!("`{}` is no value", shortened(word)))?,
            )
        }
    };
    Ok((value, rest))
}

fn parse_list(mut rest: &str) -> Result<(Value, &str), String> {
    let mut names = Vec::new();
    loop {
        rest = rest.trim_start();
        if let Some(behind) = rest.strip_prefix(']') {
            return Ok((Value::List(names), behind));
        }
        let (text, behind) = parse_text(rest)?;
        names.push(text);
        rest = behind.trim_start();
        rest = match rest.strip_prefix(',') {
            Some(more) => more,
            None if rest.starts_with(']') => rest,
            None => return Err("a list must end with `]` on its own line".into()),
        };
    }
}

fn parse_text(written: &str) -> Result<(String, &str), String> {
    let quote = written
        .chars()
        .next()
        .filter(|c| matches!(c, '"' | '\''))
        .ok_or("expected a string in quotes")?;
    let mut text = String::new();
    let mut characters = written[1..].char_indices();
    while let Some((at, character)) = characters.next() {
        if character == quote {
            return Ok((text, &written[at + 2..]));
        }
        if character != '\\' || quote == '\'' {
            text.push(character);
            continue;
        }
        match characters.next() {
            Some((_, 'n')) => text.push('\n'),
            Some((_, 't')) => text.push('\t'),
            Some((_, same @ ('"' | '\\'))) => text.push(same),
            _ => return Err("unknown escape in a string; use single quotes for literal text".into()),
        }
    }
    Err("a string must end on its own line".into())
}

/// At most the first 60 characters, for messages.
fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
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
        let (config, problems) =
            Config::parse("flush = 1\nburst_ms = \"x\"\nmerge\njob = 'a' b\nlog_keys = [\"a\"\n");
        assert_eq!(config, Config::default());
        let messages: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            messages,
            [
                "rank_filter.toml line 1: unknown key `flush`",
                "rank_filter.toml line 2: burst_ms: expected a whole number",
                "rank_filter.toml line 3: expected `key = value`, found `merge`",
                "rank_filter.toml line 4: job: unexpected `b`",
                "rank_filter.toml line 5: log_keys: a list must end with `]` on its own line",
            ]
        );
    }
}
