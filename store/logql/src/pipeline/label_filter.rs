//! Label filters.

use super::ip::IpMatcher;
use super::scratch::{BUILT_IN, ERROR, NameId, Names, SUFFIX, Scratch};
use crate::MatchOp;
use crate::error::ParseError;
use crate::re2;
use crate::syntax::ast::{CompareOp, LabelFilter};
use crate::units;

/// A condition on the text of one label.
#[derive(Clone, Copy, Debug)]
pub struct LabelTest<'c> {
    name: &'c str,
    condition: &'c Condition,
}

impl<'c> LabelTest<'c> {
    /// The label: of the stream, or of structured metadata where the stream has none of that name.
    #[must_use]
    pub fn name(&self) -> &'c str {
        self.name
    }

    /// Whether a value passes; an entry without the label has the empty one.
    #[must_use]
    pub fn passes(&self, value: &str) -> bool {
        match self.condition {
            Condition::Equal {
                value: wanted,
                negated,
                ..
            } => (value == &**wanted) != *negated,
            Condition::Regex { regex, negated, .. } => regex.is_match(value) != *negated,
            _ => true,
        }
    }
}

/// A compiled label filter.
#[derive(Clone, Debug)]
pub(crate) enum Condition {
    Always,
    Equal {
        name: NameId,
        value: Box<str>,
        negated: bool,
    },
    Regex {
        name: NameId,
        regex: re2::LabelRegex,
        negated: bool,
    },
    Number {
        name: NameId,
        op: CompareOp,
        value: f64,
    },
    Duration {
        name: NameId,
        op: CompareOp,
        nanos: i64,
    },
    Bytes {
        name: NameId,
        op: CompareOp,
        bytes: u64,
    },
    Ip {
        name: NameId,
        matcher: IpMatcher,
        negated: bool,
    },
    All(Vec<Condition>),
    Any(Vec<Condition>),
}

impl Condition {
    pub(crate) fn new(filter: &LabelFilter, names: &mut Names) -> Result<Self, ParseError> {
        Ok(match filter {
            LabelFilter::Text(matcher) => {
                let name = names.intern(matcher.name());
                let negated = matches!(matcher.op(), MatchOp::NotEqual | MatchOp::NotRegex);
                match matcher.op() {
                    MatchOp::Equal | MatchOp::NotEqual => Self::Equal {
                        name,
                        value: matcher.value().into(),
                        negated,
                    },
                    MatchOp::Regex if matcher.value() == ".*" => Self::Always,
                    MatchOp::Regex | MatchOp::NotRegex => Self::Regex {
                        name,
                        regex: re2::label_filter(matcher.value())?,
                        negated,
                    },
                }
            }
            LabelFilter::Number { name, op, value } => Self::Number {
                name: names.intern(name),
                op: *op,
                value: *value,
            },
            LabelFilter::Duration { name, op, nanos } => Self::Duration {
                name: names.intern(name),
                op: *op,
                nanos: *nanos,
            },
            LabelFilter::Bytes { name, op, bytes, .. } => {
                // Loki passes queries on as text, with sizes of two digits; 1KiB is 1000 bytes after that.
                let shown = units::humanize_bytes(*bytes);
                let bytes = units::parse_bytes(&shown).unwrap_or(*bytes);
                Self::Bytes {
                    name: names.intern(name),
                    op: *op,
                    bytes,
                }
            }
            LabelFilter::Ip { name, equal, pattern } => {
                let matcher = IpMatcher::new(pattern)
                    .map_err(|cause| ParseError::in_stage(format!("| {filter}"), cause))?;
                Self::Ip {
                    name: names.intern(name),
                    matcher,
                    negated: !equal,
                }
            }
            LabelFilter::And(..) => Self::All(chain(filter, names)?),
            LabelFilter::Or(..) => Self::Any(chain(filter, names)?),
        })
    }

    /// Adds the conditions on the text of one label that must all be met, as far as this one consists of such; whether
    /// it does altogether.
    pub(crate) fn tests<'c>(&'c self, names: &'c Names, tests: &mut Vec<LabelTest<'c>>) -> bool {
        match self {
            Self::Always => true,
            Self::All(conditions) => {
                let mut only = true;
                for condition in conditions {
                    only &= condition.tests(names, tests);
                }
                only
            }
            Self::Equal { name, .. } | Self::Regex { name, .. } => {
                let name = names.get(*name);
                // What these are depends on other labels and other stages.
                let is_plain = !name.ends_with(SUFFIX) && !BUILT_IN.contains(&name);
                if is_plain {
                    tests.push(LabelTest {
                        name,
                        condition: self,
                    });
                }
                is_plain
            }
            _ => false,
        }
    }

    /// The one label a simple condition looks at.
    pub(crate) fn single_name(&self) -> Option<NameId> {
        match self {
            Self::Equal { name, .. }
            | Self::Regex { name, .. }
            | Self::Number { name, .. }
            | Self::Duration { name, .. }
            | Self::Bytes { name, .. }
            | Self::Ip { name, .. } => Some(*name),
            Self::Always | Self::All(_) | Self::Any(_) => None,
        }
    }

    /// Adds the labels that must have a value, and the values.
    pub(crate) fn add_values<'c>(&'c self, values: &mut Vec<(NameId, &'c str)>) {
        match self {
            Self::All(conditions) => {
                conditions
                    .iter()
                    .for_each(|condition| condition.add_values(values));
            }
            Self::Equal {
                name,
                value,
                negated: false,
            } => values.push((*name, value)),
            _ => {}
        }
    }

    /// Adds all labels it looks at.
    pub(crate) fn add_names(&self, names: &mut Vec<NameId>) {
        match self {
            Self::All(conditions) | Self::Any(conditions) => {
                conditions.iter().for_each(|condition| condition.add_names(names));
            }
            simple => names.extend(simple.single_name()),
        }
    }

    /// Whether the entry passes; a value that cannot be compared sets `__error__` and passes.
    pub(crate) fn passes(&self, scratch: &mut Scratch, metadata: &[(&str, &str)]) -> bool {
        match self {
            Self::Always => true,
            Self::Equal { name, value, negated } => (text(*name, scratch, metadata) == &**value) != *negated,
            Self::Regex { name, regex, negated } => {
                regex.is_match(text(*name, scratch, metadata)) != *negated
            }
            Self::Number { name, op, value } => {
                compare(*name, *op, value, scratch, metadata, units::parse_go_float)
            }
            Self::Duration { name, op, nanos } => {
                compare(*name, *op, nanos, scratch, metadata, units::parse_go_duration)
            }
            Self::Bytes { name, op, bytes } => {
                compare(*name, *op, bytes, scratch, metadata, units::parse_bytes)
            }
            Self::Ip {
                name,
                matcher,
                negated,
            } => {
                if scratch.error().is_some() {
                    return true;
                }
                scratch
                    .get(*name, metadata)
                    .is_some_and(|value| matcher.is_in(value) != *negated)
            }
            Self::All(terms) => {
                let mut all = true;
                for term in terms {
                    // Each term runs: one may set an error that a later one looks at.
                    all &= term.passes(scratch, metadata);
                }
                all
            }
            Self::Any(terms) => terms.iter().any(|term| term.passes(scratch, metadata)),
        }
    }
}

/// The sides of nested `or`s or nested `and`s, in order: chains may be longer than the stack is deep.
fn chain(filter: &LabelFilter, names: &mut Names) -> Result<Vec<Condition>, ParseError> {
    let is_or = matches!(filter, LabelFilter::Or(..));
    let mut terms = Vec::new();
    let mut pending = vec![filter];
    while let Some(next) = pending.pop() {
        match next {
            LabelFilter::Or(left, right) if is_or => pending.extend([&**right, &**left]),
            LabelFilter::And(left, right) if !is_or => pending.extend([&**right, &**left]),
            other => terms.push(Condition::new(other, names)?),
        }
    }
    Ok(terms)
}

fn text<'a>(name: NameId, scratch: &'a Scratch, metadata: &[(&'a str, &'a str)]) -> &'a str {
    match name {
        ERROR => scratch.error().unwrap_or(""),
        _ => scratch.get(name, metadata).unwrap_or(""),
    }
}

fn compare<T: PartialOrd>(
    name: NameId,
    op: CompareOp,
    literal: &T,
    scratch: &mut Scratch,
    metadata: &[(&str, &str)],
    parse: impl Fn(&str) -> Result<T, String>,
) -> bool {
    let Some(value) = scratch.get(name, metadata) else {
        return false;
    };
    match parse(value) {
        Ok(value) => op.holds(&value, literal),
        Err(cause) => {
            // The first error stays.
            if scratch.error().is_none() {
                scratch.set_error("LabelFilterErr", &cause);
            }
            true
        }
    }
}
