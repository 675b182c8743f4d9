//! Errors of parsing and evaluation, with Loki's texts.

use std::fmt;

use crate::advice;

/// A query that is refused before anything is read.
///
/// `Display` is the text Loki gives: `parse error at line L, col C: …` when the position is known, else `parse error : …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    message: String,
    position: Option<(u32, u32)>,
    hint: Option<String>,
    prefixed: bool,
}

impl ParseError {
    /// An error at a 1-based line and column (in characters; Loki gives line 0 for what its lexer rewrites).
    pub(crate) fn at(line: u32, column: u32, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            position: Some((line, column)),
            hint: None,
            prefixed: true,
        }
    }

    /// An error of meaning, without a position.
    pub(crate) fn semantic(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            position: None,
            hint: None,
            prefixed: true,
        }
    }

    /// An error whose text stands alone, without `parse error`.
    pub(crate) fn bare(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            position: None,
            hint: None,
            prefixed: false,
        }
    }

    /// An error inside one pipeline stage, named by its text.
    pub(crate) fn in_stage(stage: impl fmt::Display, cause: impl fmt::Display) -> Self {
        Self::semantic(format!("stage '{stage}' : {cause}"))
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Line and column, when known.
    #[must_use]
    pub fn position(&self) -> Option<(u32, u32)> {
        self.position
    }

    /// What to change in the query, when that is known.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref().or_else(|| advice::advice(&self.message))
    }

    /// Loki's text, and the hint on a line of its own.
    #[must_use]
    pub fn with_advice(&self) -> String {
        match self.hint() {
            Some(hint) => format!("{self}\nhint: {hint}"),
            None => self.to_string(),
        }
    }

    /// The text without the `parse error` prefix.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            _ if !self.prefixed => f.write_str(&self.message),
            Some((line, column)) => write!(f, "parse error at line {line}, col {column}: {}", self.message),
            None => write!(f, "parse error : {}", self.message),
        }
    }
}

impl std::error::Error for ParseError {}

/// Which side an evaluation error is to blame on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The query or its data: status 400.
    Invalid,
    /// What Loki answers with status 500 (binary operations that do not match one to one).
    Internal,
}

/// A metric query that failed while it was evaluated. `Display` is Loki's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// A sample carries `__error__`.
    #[error(
        "pipeline error: '{error}' for series: '{series}'.\nUse a label filter to intentionally skip this error. (e.g | __error__!=\"{error}\").\nTo skip all potential errors you can match empty errors.(e.g __error__=\"\")\nThe label filter can also be specified after unwrap. (e.g | unwrap latency | __error__=\"\" )\n"
    )]
    Pipeline {
        /// The value of `__error__`.
        error: String,
        /// The series' labels as text.
        series: String,
    },
    /// More distinct series than allowed.
    #[error(
        "maximum number of series ({limit}) reached for a single query; consider reducing query cardinality by adding more specific stream selectors, reducing the time range, or aggregating results with functions like sum(), count() or topk()"
    )]
    TooManySeries {
        /// The limit.
        limit: usize,
    },
    /// The query's samples need more memory than allowed.
    #[error(
        "the query needs more than {limit} bytes of memory; narrow the time range, filter more lines or aggregate with sum by (…)"
    )]
    OutOfMemory {
        /// The limit in bytes.
        limit: usize,
    },
    /// A vector matching that is not unique, or another failure of a binary operation.
    #[error("{0}")]
    Matching(&'static str),
    /// The caller fed accumulators that do not belong to the plan.
    #[error("accumulator {index} does not belong to this query's plan")]
    ForeignAccumulator {
        /// Which of the accumulators.
        index: usize,
    },
}

impl EvalError {
    /// Who is to blame.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Pipeline { .. } | Self::TooManySeries { .. } | Self::OutOfMemory { .. } => {
                ErrorKind::Invalid
            }
            Self::Matching(_) | Self::ForeignAccumulator { .. } => ErrorKind::Internal,
        }
    }
}
