//! A `regexp` stage that has one group between two literals, as most have: `"loss": (?P<loss>[0-9.]+)`. Where the first
//! literal is in a line tells where the match begins, so the group is read from there on, piece by piece, without the
//! rest of the line.
//!
//! Gives what the regular expression gives, or says that it can't. Knows nothing of how lines are stored.

use regex_automata::dfa::{Automaton, StartError, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::primitives::StateID;
use regex_automata::{Anchored, Input, MatchKind};
use regex_syntax::hir::{Hir, HirKind, Look};

/// Bytes a first literal must have: a shorter one is in too many places.
const MIN_PREFIX: usize = 2;
/// Bytes the automaton may take, and its construction: a larger expression is left to the general way.
const MAX_AUTOMATON_BYTES: usize = 256 << 10;

/// An expression of that shape.
#[derive(Clone)]
pub struct SoleCapture {
    prefix: String,
    /// Bytes of the literal behind the group.
    after: usize,
    automaton: dense::DFA<Vec<u32>>,
    start: StateID,
}

/// How far a match has been followed.
#[derive(Clone, Debug)]
pub struct CaptureScan {
    state: StateID,
    /// What was read so far, from the first literal on.
    text: Vec<u8>,
    /// Bytes of the text up to the end of the longest match known.
    end: Option<usize>,
    decided: bool,
}

impl SoleCapture {
    /// `None` when the expression has another shape.
    pub(crate) fn new(pattern: &str) -> Option<Self> {
        let hir = crate::re2::syntax_of(pattern)?;
        let properties = hir.properties();
        if properties.explicit_captures_len() != 1 {
            return None;
        }
        let HirKind::Concat(parts) = hir.kind() else {
            return None;
        };
        let (prefix, after) = match parts.as_slice() {
            [first, group] if is_group(group) => (literal(first)?, ""),
            [first, group, last] if is_group(group) && is_end(last) => (literal(first)?, ""),
            [first, group, last] if is_group(group) => (literal(first)?, literal(last)?),
            _ => return None,
        };
        if prefix.len() < MIN_PREFIX {
            return None;
        }
        let automaton = automaton(&hir)?;
        let start = start(&automaton).ok()?;
        Some(Self {
            prefix: prefix.to_owned(),
            after: after.len(),
            automaton,
            start,
        })
    }

    /// The text every match begins with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Whether places where [`SoleCapture::prefix`] stands may overlap.
    #[must_use]
    pub fn may_overlap(&self) -> bool {
        let prefix = self.prefix.as_bytes();
        (1..prefix.len()).any(|shift| prefix.ends_with(&prefix[..prefix.len() - shift]))
    }

    /// Begins at a place of a line where [`SoleCapture::prefix`] stands.
    #[must_use]
    pub fn begin(&self) -> CaptureScan {
        CaptureScan {
            state: self.start,
            text: Vec::new(),
            end: None,
            decided: false,
        }
    }

    /// Reads on; true when nothing that follows can change the outcome.
    pub fn feed(&self, scan: &mut CaptureScan, bytes: &[u8]) -> bool {
        if scan.decided {
            return true;
        }
        let before = scan.text.len();
        scan.text.extend_from_slice(bytes);
        for (read, &byte) in bytes.iter().enumerate() {
            scan.state = self.automaton.next_state(scan.state, byte);
            if self.automaton.is_special_state(scan.state) {
                // A match state says that there was a match before this byte.
                if self.automaton.is_match_state(scan.state) {
                    scan.end = Some(before + read);
                } else if self.automaton.is_dead_state(scan.state) || self.automaton.is_quit_state(scan.state)
                {
                    scan.decided = true;
                    return true;
                }
            }
        }
        false
    }

    /// Says that the line ends here.
    pub fn finish(&self, scan: &mut CaptureScan) {
        if !scan.decided {
            scan.state = self.automaton.next_eoi_state(scan.state);
            if self.automaton.is_match_state(scan.state) {
                scan.end = Some(scan.text.len());
            }
            scan.decided = true;
        }
    }

    /// What the group captured; `None` when nothing matches here, though a later place of the line may.
    #[must_use]
    pub fn value<'s>(&self, scan: &'s CaptureScan) -> Option<&'s str> {
        let end = scan.end?.checked_sub(self.after)?;
        std::str::from_utf8(scan.text.get(self.prefix.len()..end)?).ok()
    }
}

impl CaptureScan {
    /// Becomes a copy of `other`, in its own memory.
    pub fn copy_from(&mut self, other: &CaptureScan) {
        self.state = other.state;
        self.text.clear();
        self.text.extend_from_slice(&other.text);
        self.end = other.end;
        self.decided = other.decided;
    }
}

/// A group that what stands around it doesn't matter to.
fn is_group(hir: &Hir) -> bool {
    matches!(hir.kind(), HirKind::Capture(_)) && hir.properties().look_set().is_empty()
}

fn is_end(hir: &Hir) -> bool {
    matches!(hir.kind(), HirKind::Look(Look::End))
}

fn literal(hir: &Hir) -> Option<&str> {
    match hir.kind() {
        HirKind::Literal(literal) => std::str::from_utf8(&literal.0).ok(),
        _ => None,
    }
}

fn automaton(hir: &Hir) -> Option<dense::DFA<Vec<u32>>> {
    let nfa = thompson::Compiler::new()
        .configure(thompson::Config::new().nfa_size_limit(Some(MAX_AUTOMATON_BYTES)))
        .build_from_hir(hir)
        .ok()?;
    dense::Builder::new()
        .configure(
            dense::Config::new()
                .match_kind(MatchKind::LeftmostFirst)
                .start_kind(regex_automata::dfa::StartKind::Anchored)
                .dfa_size_limit(Some(MAX_AUTOMATON_BYTES))
                .determinize_size_limit(Some(MAX_AUTOMATON_BYTES)),
        )
        .build_from_nfa(&nfa)
        .ok()
}

fn start(automaton: &dense::DFA<Vec<u32>>) -> Result<StateID, StartError> {
    automaton.start_state(&regex_automata::util::start::Config::from_input_forward(
        &Input::new("").anchored(Anchored::Yes),
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const PATTERNS: [&str; 10] = [
        r#"key=(?P<key>[0x.]+)$"#,
        "e=(?P<key>.*)\\z",
        r#""key": "(?P<key>[^"]+)""#,
        r#""key": (?P<key>[0-9.]+)"#,
        "key=(?P<key>.*)",
        "key=(?P<key>.*?);",
        "key=(?P<key>a|ab)",
        "key=(?P<key>(?:a|ab)+)b",
        "key=(?P<key>)x",
        "kéy=(?P<key>[^é]*)é",
    ];

    #[test]
    fn only_a_group_between_literals_will_do() {
        for pattern in PATTERNS {
            assert!(SoleCapture::new(pattern).is_some(), "{pattern}");
        }
        for pattern in [
            "(?P<key>a+)",
            "k(?P<key>a+)",
            "key=(?P<a>x)(?P<b>y)",
            "^key=(?P<key>a)",
            r"key=(?P<key>a)\b",
            r"key=(?P<key>a|b$)",
            r"(?m)key=(?P<key>a)$",
            "=(?P<key>a)",
            "key=(?P<key>a)b?",
            "(?i)key=(?P<key>a)",
            "key=a|key=(?P<key>b)",
        ] {
            assert!(SoleCapture::new(pattern).is_none(), "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn the_group_is_that_of_the_expression(
            pattern in prop::sample::select(&PATTERNS[..]),
            pieces in prop::collection::vec("[ab;é\"0.x]{0,4}", 0..5),
        ) {
            let capture = SoleCapture::new(pattern).unwrap();
            let line = format!("{}{}", capture.prefix(), pieces.concat());
            let mut scan = capture.begin();
            let mut decided = capture.feed(&mut scan, capture.prefix().as_bytes());
            for piece in &pieces {
                // Pieces may end inside of a character.
                for byte in piece.as_bytes() {
                    decided |= capture.feed(&mut scan, &[*byte]);
                }
            }
            if !decided {
                capture.finish(&mut scan);
            }
            let regex = crate::re2::unanchored(pattern).unwrap().regex;
            let expected = regex.captures(&line).filter(|found| found.get(0).unwrap().start() == 0);
            prop_assert_eq!(capture.value(&scan), expected.map(|found| found.get(1).unwrap().as_str()));
        }
    }
}
