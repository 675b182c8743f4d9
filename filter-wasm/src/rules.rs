//! Configured patterns: further prefixes, and which further lines are one record.
//!
//! Patterns match at the head of a text, which is looked at up to a limit; they have a bounded size and take time in
//! proportion to size and text. A pattern that begins with literal text is asked only where the line begins with it. This module
//! knows regular expressions; who is asked when is the filter's business.

use regex_lite::{Regex, RegexBuilder};

use crate::config::Config;
use crate::prefix::{self, Prefix, number};

/// Most patterns of one key.
pub(crate) const MAX_PATTERNS: usize = 32;

/// Longest pattern, in bytes.
const MAX_PATTERN: usize = 1000;

/// Largest compiled pattern, in bytes.
const MAX_COMPILED: usize = 64 << 10;

/// How much of a line a prefix may take, in bytes.
const PREFIX_WINDOW: usize = 200;

/// How much of a text start and continue patterns see, in bytes.
const TEXT_WINDOW: usize = 1000;

/// Groups of a prefix pattern.
const GROUPS: [&str; 5] = ["rank", "local_rank", "node_rank", "task", "role"];

/// All configured patterns.
#[derive(Debug)]
pub(crate) struct Rules {
    prefixes: Vec<Pattern>,
    starts: Vec<Pattern>,
    continues: Vec<Pattern>,
}

#[derive(Debug)]
struct Pattern {
    regex: Regex,
    /// What every match begins with.
    literal: Vec<u8>,
}

impl Rules {
    /// The configuration's patterns; nothing when there are none, so that no line pays for them.
    ///
    /// A pattern that can't be compiled is left out: [`Config::parse`] has reported it.
    pub(crate) fn new(config: &Config) -> Option<Box<Self>> {
        let all = |patterns: &[String]| {
            patterns
                .iter()
                .filter_map(|text| Pattern::new(text).ok())
                .collect()
        };
        let rules = Rules {
            prefixes: all(&config.prefix_patterns),
            starts: all(&config.start_patterns),
            continues: all(&config.continue_patterns),
        };
        (!rules.prefixes.is_empty() || !rules.starts.is_empty()).then(|| Box::new(rules))
    }

    /// Reads a configured prefix where no built-in one surely stands.
    pub(crate) fn read_prefix(&self, line: &[u8], prefix: &mut Prefix) {
        if (prefix.len > 0 && !prefix.is_doubtful()) || self.prefixes.is_empty() {
            return;
        }
        let head = window(line, PREFIX_WINDOW);
        for pattern in self.prefixes.iter().filter(|pattern| pattern.may_match(head)) {
            let Some(captures) = pattern.regex.captures(head) else {
                continue;
            };
            let len = captures.get(0).map_or(0, |whole| whole.end());
            let of = |group| captures.name(group);
            let numeral = |group| {
                let written = of(group)?.as_str().as_bytes();
                number(written, 0)
                    .filter(|&(_, end)| end == written.len())
                    .map(|(value, _)| value)
            };
            if len > 0 {
                *prefix = Prefix {
                    len,
                    rank: numeral("rank"),
                    local_rank: numeral("local_rank"),
                    node_rank: numeral("node_rank"),
                    task: numeral("task"),
                    role: of("role").map(|role| (role.start(), role.end())),
                    configured: true,
                    ..Prefix::default()
                };
                prefix::read_behind(line, prefix);
                return;
            }
        }
    }

    /// A line with this text begins a record.
    pub(crate) fn starts(&self, text: &[u8]) -> bool {
        any(&self.starts, text)
    }

    /// A record that a start pattern began goes on with a line of this text.
    pub(crate) fn continues(&self, text: &[u8]) -> bool {
        any(&self.continues, text)
    }
}

fn any(patterns: &[Pattern], text: &[u8]) -> bool {
    if patterns.is_empty() {
        return false;
    }
    let head = window(text, TEXT_WINDOW);
    patterns
        .iter()
        .any(|pattern| pattern.may_match(head) && pattern.regex.is_match(head))
}

/// The head of a text as far as it is valid UTF-8.
fn window(text: &[u8], most: usize) -> &str {
    let head = &text[..text.len().min(most)];
    std::str::from_utf8(head)
        .unwrap_or_else(|error| std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default())
}

impl Pattern {
    fn new(text: &str) -> Result<Self, String> {
        if text.len() > MAX_PATTERN {
            return Err(format!("it is longer than {MAX_PATTERN} bytes; shorten it"));
        }
        let build = |text: &str| {
            RegexBuilder::new(text)
                .size_limit(MAX_COMPILED)
                .nest_limit(50)
                .build()
                .map_err(|error| format!("{error}; see docs/filter.md for what patterns may hold"))
        };
        // By itself first: a pattern must not close the group around it.
        build(text)?;
        Ok(Pattern {
            regex: build(&format!("^(?:{text})"))?,
            literal: literal(text),
        })
    }

    fn may_match(&self, head: &str) -> bool {
        head.as_bytes().starts_with(&self.literal)
    }
}

/// The plain text that every match of the pattern begins with, as far as that is easily seen.
fn literal(pattern: &str) -> Vec<u8> {
    let mut found = Vec::new();
    if pattern.contains('|') {
        return found;
    }
    let mut characters = pattern.strip_prefix('^').unwrap_or(pattern).chars().peekable();
    while let Some(character) = characters.next() {
        let plain = match character {
            '\\' => match characters.next() {
                Some(escaped) if escaped.is_ascii_punctuation() => escaped,
                _ => break,
            },
            '.' | '+' | '*' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '^' | '$' | '#' => break,
            _ => character,
        };
        if matches!(characters.peek(), Some('*' | '?' | '{')) {
            break;
        }
        found.extend_from_slice(plain.encode_utf8(&mut [0; 4]).as_bytes());
    }
    found
}

/// Checks a start or continue pattern.
pub(crate) fn check(pattern: &str) -> Result<(), String> {
    Pattern::new(pattern).map(|_| ())
}

/// Checks a prefix pattern: it compiles, and says at least one thing that is known.
pub(crate) fn check_prefix(pattern: &str) -> Result<(), String> {
    let compiled = Pattern::new(pattern)?;
    let mut named = 0;
    for name in compiled.regex.capture_names().flatten() {
        if !GROUPS.contains(&name) {
            return Err(format!(
                "unknown group `{name}`; the groups are {}",
                GROUPS.join(", ")
            ));
        }
        named += 1;
    }
    if named == 0 {
        return Err(format!(
            "it names nothing; add a group such as (?P<rank>[0-9]+); the groups are {}",
            GROUPS.join(", ")
        ));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn rules(toml: &str) -> Box<Rules> {
        let (config, problems) = Config::parse(toml);
        assert_eq!(problems, []);
        Rules::new(&config).unwrap()
    }

    fn read(rules: &Rules, line: &str) -> Prefix {
        let mut prefix = prefix::parse(line.as_bytes());
        rules.read_prefix(line.as_bytes(), &mut prefix);
        prefix
    }

    #[test]
    fn a_prefix_pattern_says_what_its_groups_name() {
        let rules = rules(
            r"prefix_patterns = [
                '<(?P<role>[a-z]+)/(?P<node_rank>\d+)\.(?P<local_rank>\d+)> ?',
                'rank (?P<rank>\d+): ',
            ]",
        );
        let prefix = read(&rules, "<actor/2.3> loading");
        assert_eq!((prefix.len, prefix.role), (12, Some((1, 6))));
        assert_eq!(
            (prefix.node_rank, prefix.local_rank, prefix.rank),
            (Some(2), Some(3), None)
        );
        assert_eq!(read(&rules, "rank 7: up").rank, Some(7));
        // A built-in prefix behind it is read as well; before it, it leaves no room for it.
        assert_eq!(read(&rules, "rank 7: [rank7]: up").len, 17);
        assert_eq!(read(&rules, "[rank7]: rank 1: up").rank, Some(7));
        // Only at the head; not a number that is too large.
        assert_eq!(read(&rules, "a rank 7: up").len, 0);
        assert_eq!(read(&rules, "rank 99999999999: up").rank, None);
    }

    #[test]
    fn a_configured_prefix_replaces_a_doubtful_label() {
        let rules = rules(r"prefix_patterns = [' *(?P<local_rank>\d+): ']");
        let prefix = read(&rules, " 3: up");
        assert_eq!((prefix.local_rank, prefix.label, prefix.len), (Some(3), None, 4));
    }

    #[test]
    fn literal_heads_guard_patterns() {
        for (pattern, head) in [
            (r"BEGIN \d", "BEGIN "),
            (r"\[x\] ", "[x] "),
            (r"^ab*", "a"),
            (r"ab|c", ""),
            (r"(?i)ab", ""),
            (r"\d", ""),
            (r"é+", "é"),
        ] {
            assert_eq!(String::from_utf8(literal(pattern)).unwrap(), head, "{pattern}");
        }
    }

    #[test]
    fn patterns_that_are_too_much_are_refused() {
        for pattern in [
            &"x".repeat(1001)[..],
            "(?:(?:a{100}){100}){100}",
            "a)(b",
            "[",
            "(?P<rank>",
        ] {
            assert!(check(pattern).is_err(), "{pattern}");
        }
        assert!(check_prefix("abc").unwrap_err().starts_with("it names nothing"));
    }

    #[test]
    fn text_behind_the_window_or_not_utf8_is_not_seen() {
        let rules = rules("start_patterns = ['.*END']\ncontinue_patterns = ['x']");
        assert!(rules.starts(b"the END"));
        assert!(!rules.starts(&[&b"-".repeat(1000)[..], b"END"].concat()));
        assert!(!rules.starts(b"\xff END"));
    }
}
