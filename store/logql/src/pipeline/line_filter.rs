//! Line filters: literals, regular expressions, patterns and addresses.

use memchr::memmem::Finder;

use super::ip::IpMatcher;
use super::pattern::LinePattern;
use crate::error::ParseError;
use crate::re2::{self, RequiredText, Unanchored};
use crate::syntax::ast::{LineFilterExpr, LineFilterOp, LineFilterValue};

/// A compiled line filter.
#[derive(Clone, Debug)]
pub struct LineFilter {
    alternatives: Vec<Test>,
    negative: bool,
    required: Option<String>,
    one_of: Vec<RequiredText>,
}

/// Texts that one of several must be in a line for are looked for one by one: not more than so many.
const MAX_ONE_OF: usize = 64;

#[derive(Clone, Debug)]
enum Test {
    Always,
    Contains(Box<Finder<'static>>),
    Regex {
        regex: regex::Regex,
        prefilter: Option<Box<Finder<'static>>>,
    },
    Pattern(LinePattern),
    Ip(IpMatcher),
}

impl Test {
    fn matches(&self, line: &str) -> bool {
        match self {
            Self::Always => true,
            Self::Contains(finder) => finder.find(line.as_bytes()).is_some(),
            Self::Regex { regex, prefilter } => {
                prefilter
                    .as_ref()
                    .is_none_or(|finder| finder.find(line.as_bytes()).is_some())
                    && regex.is_match(line)
            }
            Self::Pattern(pattern) => pattern.matches(line),
            Self::Ip(matcher) => matcher.is_in(line),
        }
    }
}

impl LineFilter {
    /// Compiles a filter.
    ///
    /// # Errors
    /// A regular expression, pattern or address that is not valid; the text names the filter.
    pub(crate) fn new(expr: &LineFilterExpr) -> Result<Self, ParseError> {
        let mut alternatives = Vec::with_capacity(expr.values.len());
        let mut literals = Required::default();
        let mut one_of: Option<Vec<RequiredText>> = Some(Vec::new());
        for value in &expr.values {
            let compiled = compile(expr.op, value).map_err(|cause| ParseError::in_stage(expr, cause))?;
            literals = compiled.required;
            let is_always = matches!(compiled.test, Test::Always);
            alternatives.push(compiled.test);
            match literals.one_of.as_slice() {
                [] if is_always => {}
                [] => one_of = None,
                texts => one_of.iter_mut().for_each(|all| all.extend_from_slice(texts)),
            }
        }
        // As in Loki, what matches every line counts only when it stands alone.
        if alternatives.iter().any(|test| !matches!(test, Test::Always)) {
            alternatives.retain(|test| !matches!(test, Test::Always));
        }
        let negative = expr.op.is_negative();
        let known = !negative && expr.values.len() == 1;
        let exact = literals.exact.filter(|_| known);
        Ok(Self {
            alternatives,
            negative,
            required: exact,
            one_of: one_of.filter(|all| all.len() <= MAX_ONE_OF).unwrap_or_default(),
        })
    }

    /// Whether the line passes.
    #[must_use]
    pub fn matches(&self, line: &str) -> bool {
        self.alternatives.iter().any(|test| test.matches(line)) != self.negative
    }

    /// A text that every line that passes contains, upper and lower case told apart.
    #[must_use]
    pub fn required_literal(&self) -> Option<&str> {
        self.required.as_deref()
    }

    /// Whether the filter is exactly: the line contains [`LineFilter::required_literal`].
    #[must_use]
    pub fn is_exactly_contains(&self) -> bool {
        self.required.is_some() && matches!(self.alternatives.as_slice(), [Test::Contains(_)])
    }

    /// Texts of which every line that passes has at least one; empty: nothing is known of what these have.
    #[must_use]
    pub fn required_one_of(&self) -> &[RequiredText] {
        if self.negative { &[] } else { &self.one_of }
    }

    /// Texts of which no line that passes has any, while every line that has none passes; empty: it isn't that simple.
    #[must_use]
    pub fn excluded(&self) -> &[RequiredText] {
        let simple = self.negative && self.one_of.iter().all(|text| text.suffices);
        if simple { &self.one_of } else { &[] }
    }

    /// Whether every line passes.
    pub(crate) fn is_trivial(&self) -> bool {
        !self.negative && self.alternatives.iter().any(|test| matches!(test, Test::Always))
    }
}

/// Texts in every line that meets a test, where known.
#[derive(Default)]
struct Required {
    exact: Option<String>,
    /// Of these at least one.
    one_of: Vec<RequiredText>,
}

struct Compiled {
    test: Test,
    required: Required,
}

impl Compiled {
    fn new(test: Test, exact: Option<String>) -> Self {
        let suffices = matches!(test, Test::Contains(_));
        let text = exact.iter().map(|text| RequiredText {
            text: text.clone(),
            ignore_case: false,
            suffices,
        });
        let required = Required {
            one_of: text.collect(),
            exact,
        };
        Self { test, required }
    }
}

fn compile(op: LineFilterOp, value: &LineFilterValue) -> Result<Compiled, String> {
    let text = match value {
        LineFilterValue::Ip(pattern) => {
            if !matches!(op, LineFilterOp::Contains | LineFilterOp::NotContains) {
                return Err("ip: invalid operation".to_owned());
            }
            return Ok(Compiled::new(Test::Ip(IpMatcher::new(pattern)?), None));
        }
        LineFilterValue::Text(text) => text,
    };
    match op {
        LineFilterOp::Contains | LineFilterOp::NotContains => Ok(contains(text)),
        LineFilterOp::Regex | LineFilterOp::NotRegex => {
            let Unanchored {
                regex,
                required,
                one_of,
                is_contains,
                always,
                ..
            } = re2::line_filter(text).map_err(|error| error.message().to_owned())?;
            if always {
                return Ok(Compiled::new(Test::Always, None));
            }
            match required {
                Some(literal) if is_contains => Ok(contains(&literal)),
                required => {
                    // The crate has a prefilter of its own where the literal is a prefix; a short one gains nothing.
                    let prefilter = required
                        .as_deref()
                        .filter(|literal| literal.len() >= 3)
                        .map(finder);
                    let required = Required {
                        exact: required,
                        one_of,
                    };
                    let test = Test::Regex { regex, prefilter };
                    Ok(Compiled { test, required })
                }
            }
        }
        LineFilterOp::Pattern | LineFilterOp::NotPattern => {
            let pattern = LinePattern::new(text)?;
            let required = pattern.longest_literal().map(str::to_owned);
            Ok(Compiled::new(Test::Pattern(pattern), required))
        }
    }
}

fn contains(text: &str) -> Compiled {
    if text.is_empty() {
        return Compiled::new(Test::Always, None);
    }
    Compiled::new(Test::Contains(finder(text)), Some(text.to_owned()))
}

fn finder(text: &str) -> Box<Finder<'static>> {
    Box::new(Finder::new(text.as_bytes()).into_owned())
}
