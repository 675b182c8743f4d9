//! RE2 syntax on the `regex` crate: what differs is mapped or refused, programs are bounded in size.

use crate::error::ParseError;

/// A regular expression that must match the whole value.
#[derive(Clone, Debug)]
pub(crate) struct AnchoredRegex {
    regex: regex::Regex,
}

impl AnchoredRegex {
    pub(crate) fn is_match(&self, value: &str) -> bool {
        self.regex.is_match(value)
    }

    pub(crate) fn literals(&self) -> Option<Vec<&str>> {
        None
    }
}

const MAX_PROGRAM_BYTES: usize = 4 << 20;

/// Anchored at both ends, `.` matches newline: stream matchers.
pub(crate) fn anchored_dotall(pattern: &str) -> Result<AnchoredRegex, ParseError> {
    let regex = regex::RegexBuilder::new(&format!("^(?s:{pattern})$"))
        .size_limit(MAX_PROGRAM_BYTES)
        .build()
        .map_err(|error| ParseError::semantic(format!("error parsing regexp: {error}")))?;
    Ok(AnchoredRegex { regex })
}
