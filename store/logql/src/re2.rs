//! RE2 syntax on the `regex` crate.
//!
//! [`translate`] reads an expression as RE2 does and writes it in the `regex` crate's dialect: Perl classes are ASCII,
//! `\Q…\E`, octal escapes and odd braces keep their RE2 meaning, set operations and `x` mode lose their special one.
//! What RE2 refuses is refused here with its words; compiled programs are bounded in size.

use regex_syntax::hir::{Hir, HirKind};

use crate::error::ParseError;

mod translate;

pub(crate) use translate::Translated;

const MAX_PROGRAM_BYTES: usize = 8 << 20;

/// A regular expression that must match the whole value.
#[derive(Clone, Debug)]
pub(crate) struct AnchoredRegex {
    regex: regex::Regex,
    /// The values that match, when the expression is a plain alternation of literals.
    literals: Option<Vec<Box<str>>>,
}

impl AnchoredRegex {
    pub(crate) fn is_match(&self, value: &str) -> bool {
        match &self.literals {
            Some(literals) => literals.iter().any(|literal| **literal == *value),
            None => self.regex.is_match(value),
        }
    }

    pub(crate) fn literals(&self) -> Option<Vec<&str>> {
        self.literals
            .as_ref()
            .map(|literals| literals.iter().map(|literal| &**literal).collect())
    }

    /// The compiled expression; capture groups are numbered as written.
    pub(crate) fn regex(&self) -> &regex::Regex {
        &self.regex
    }
}

/// Anchored at both ends, `.` matches newline: stream matchers, `drop`, `keep`.
pub(crate) fn anchored_dotall(pattern: &str) -> Result<AnchoredRegex, ParseError> {
    anchored_with(pattern, "s")
}

/// Anchored at both ends, `.` excludes newline: label filters, `label_replace`.
pub(crate) fn anchored(pattern: &str) -> Result<AnchoredRegex, ParseError> {
    anchored_with(pattern, "")
}

/// The regular expression of a label filter.
///
/// It is anchored, but for one shape: a literal with `.*` around it, or with alternatives behind it, is looked for
/// anywhere. Loki simplifies these without the anchors, and queries have come to rely on it.
#[derive(Clone, Debug)]
pub(crate) enum LabelRegex {
    Anchored(AnchoredRegex),
    Contains(Vec<String>),
}

impl LabelRegex {
    pub(crate) fn is_match(&self, value: &str) -> bool {
        match self {
            Self::Anchored(regex) => regex.is_match(value),
            Self::Contains(literals) => literals.iter().any(|literal| value.contains(literal.as_str())),
        }
    }
}

/// Compiles the regular expression of a label filter.
pub(crate) fn label_filter(pattern: &str) -> Result<LabelRegex, ParseError> {
    let translated = translate::translate(pattern)?;
    if let Some(rest) = hir(&translated.pattern).and_then(|hir| without_empty_legs(&hir, true)) {
        return Ok(LabelRegex::Anchored(anchored_with(&rest, "s")?));
    }
    let regex = anchored(pattern)?;
    let contains = hir(&translated.pattern).and_then(|hir| loose_literals(&hir));
    Ok(contains.map_or(LabelRegex::Anchored(regex), LabelRegex::Contains))
}

/// An alternation without the legs that match everything, as a new expression: Loki looks only for the others.
///
/// None where there are no such legs, or nothing but them, or legs that Loki does not take apart. In label filters
/// `.*` on either side of a literal has to be spelled out, because the whole is anchored there.
fn without_empty_legs(hir: &Hir, is_label: bool) -> Option<String> {
    let parts = match hir.kind() {
        HirKind::Capture(capture) => return without_empty_legs(&capture.sub, is_label),
        HirKind::Alternation(parts) => parts,
        _ => return None,
    };
    let mut legs = Vec::new();
    for part in parts {
        if is_always(part) {
            continue;
        }
        let is_run = |part: &Hir| match part.kind() {
            HirKind::Repetition(repetition) => repetition.min == 1 && is_any_dot(&repetition.sub),
            _ => false,
        };
        let leg = match (part.kind(), whole_literal(part)) {
            (HirKind::Literal(_), Some(literal)) => regex_syntax::escape(&literal),
            (_, Some(literal)) if is_label => format!(".*{}.*", regex_syntax::escape(&literal)),
            (_, Some(literal)) => regex_syntax::escape(&literal),
            (_, None) if is_run(part) => ".+".to_owned(),
            (_, None) => return None,
        };
        legs.push(leg);
    }
    let has_both = !legs.is_empty() && legs.len() < parts.len();
    has_both.then(|| legs.join("|"))
}

/// Whether Loki replaces the expression of a label filter by comparisons of texts.
pub(crate) fn is_taken_apart(pattern: &str) -> bool {
    // Letters that match in either case are literals still.
    let group = || pattern.strip_prefix("(?i:")?.strip_suffix(')');
    let pattern = pattern.strip_prefix("(?i)").or_else(group).unwrap_or(pattern);
    let translated = translate::translate(pattern).ok();
    let hir = translated.and_then(|translated| hir(&translated.pattern));
    hir.is_some_and(|hir| is_simple(&hir))
}

fn is_simple(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Empty | HirKind::Literal(_) => true,
        HirKind::Capture(capture) => is_simple(&capture.sub),
        HirKind::Alternation(parts) => parts.iter().all(is_simple),
        HirKind::Repetition(repetition) => {
            repetition.min <= 1 && repetition.max.is_none() && is_any_dot(&repetition.sub)
        }
        HirKind::Concat(parts) => {
            let literals = parts
                .iter()
                .filter(|part| matches!(part.kind(), HirKind::Literal(_)));
            parts.len() <= 3
                && literals.count() == 1
                && parts.iter().all(|part| match part.kind() {
                    HirKind::Literal(_) | HirKind::Capture(_) | HirKind::Alternation(_) => is_simple(part),
                    _ => is_any_run(part),
                })
        }
        HirKind::Class(_) | HirKind::Look(_) => false,
    }
}

/// Compiles the regular expression of a line filter: it matches anywhere, `.` excludes newline.
pub(crate) fn line_filter(pattern: &str) -> Result<Unanchored, ParseError> {
    let translated = translate::translate(pattern)?;
    match hir(&translated.pattern).and_then(|hir| without_empty_legs(&hir, false)) {
        Some(rest) => unanchored(&rest),
        None => unanchored(pattern),
    }
}

/// The literals of a concatenation of at most three parts: one literal, runs of any character, alternatives behind.
fn loose_literals(hir: &Hir) -> Option<Vec<String>> {
    let parts = match hir.kind() {
        HirKind::Capture(capture) => return loose_literals(&capture.sub),
        HirKind::Concat(parts) if parts.len() <= 3 => parts,
        _ => return None,
    };
    let mut base: Option<String> = None;
    let mut found: Vec<String> = Vec::new();
    for part in parts {
        match part.kind() {
            HirKind::Literal(literal) if base.is_none() => base = text(&literal.0),
            _ if is_any_run(part) => {}
            HirKind::Alternation(_) | HirKind::Capture(_) => {
                let base = base.as_ref()?;
                found.extend(alternatives(part)?.iter().map(|tail| format!("{base}{tail}")));
            }
            _ => return None,
        }
    }
    if found.is_empty() {
        base.map(|base| vec![base])
    } else {
        Some(found)
    }
}

fn anchored_with(pattern: &str, flags: &str) -> Result<AnchoredRegex, ParseError> {
    let translated = translate::translate(pattern)?;
    let regex = compile(&format!("^(?{flags}:{})$", translated.pattern))?;
    let literals = hir(&translated.pattern).and_then(|hir| alternatives(&hir));
    Ok(AnchoredRegex { regex, literals })
}

/// An unanchored expression with what is known about every match.
#[derive(Clone, Debug)]
pub(crate) struct Unanchored {
    pub(crate) regex: regex::Regex,
    /// Group names by index; index 0 is the whole match.
    pub(crate) names: Vec<Option<String>>,
    /// A text in every match.
    pub(crate) required: Option<String>,
    /// Texts of which every match has at least one; empty: nothing is known.
    pub(crate) one_of: Vec<RequiredText>,
    /// A match is exactly: the text contains `required`.
    pub(crate) is_contains: bool,
    /// Every text matches.
    pub(crate) always: bool,
}

/// One of several texts that a line must have to pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequiredText {
    /// The text; ASCII in lower case when case is ignored.
    pub text: String,
    /// Letters count in either case; letters beyond ASCII that fold to ASCII ones (`\u{17f}`, `\u{212a}`) as these.
    pub ignore_case: bool,
    /// Every line that has the text passes.
    pub suffices: bool,
}

/// Texts that one of several must be in a line for are looked for one by one: not more than so many.
const MAX_ONE_OF: usize = 32;

/// Matches anywhere, `.` excludes newline: line filters, `regexp`, template functions.
pub(crate) fn unanchored(pattern: &str) -> Result<Unanchored, ParseError> {
    let Translated { pattern, names } = translate::translate(pattern)?;
    let regex = compile(&pattern)?;
    let hir = hir(&pattern);
    let literal = hir.as_ref().and_then(whole_literal);
    let always = pattern.is_empty() || hir.as_ref().is_some_and(is_always);
    let is_contains = literal.is_some();
    let required = literal.or_else(|| hir.as_ref().and_then(required_literal));
    Ok(Unanchored {
        regex,
        names,
        required,
        one_of: hir.as_ref().and_then(one_of).unwrap_or_default(),
        is_contains,
        always,
    })
}

/// The syntax of an expression that is valid.
pub(crate) fn syntax_of(pattern: &str) -> Option<Hir> {
    hir(&translate::translate(pattern).ok()?.pattern)
}

/// Names of the groups of an expression; index 0 is the whole match.
pub(crate) fn group_names(pattern: &str) -> Result<Vec<Option<String>>, ParseError> {
    Ok(translate::translate(pattern)?.names)
}

/// Replaces `$1`, `$name`, `${1}`, `${name}` and `$$` in a template; groups that do not exist become empty.
pub(crate) fn expand(template: &str, names: &[Option<String>], captures: &regex::Captures<'_>) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        out.push_str(rest.get(..at).unwrap_or(""));
        rest = rest.get(at + 1..).unwrap_or("");
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let Some((name, after)) = group_reference(rest) else {
            out.push('$');
            continue;
        };
        let group = match name.parse::<usize>() {
            Ok(index) => captures.get(index),
            // Of several groups with one name, the first that matched.
            Err(_) => (names.iter().enumerate())
                .filter(|(_, known)| known.as_deref() == Some(name))
                .find_map(|(index, _)| captures.get(index)),
        };
        out.push_str(group.map_or("", |group| group.as_str()));
        rest = after;
    }
    out.push_str(rest);
    out
}

/// `name` or `{name}` at the start, and what follows.
fn group_reference(text: &str) -> Option<(&str, &str)> {
    let is_word = |c: char| c == '_' || c.is_alphanumeric();
    if let Some(body) = text.strip_prefix('{') {
        let (name, after) = body.split_once('}')?;
        return (!name.is_empty() && name.chars().all(is_word)).then_some((name, after));
    }
    let end = text.find(|c: char| !is_word(c)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

fn compile(pattern: &str) -> Result<regex::Regex, ParseError> {
    regex::RegexBuilder::new(pattern)
        .size_limit(MAX_PROGRAM_BYTES)
        .nest_limit(200)
        .build()
        .map_err(|error| {
            let cause = match error {
                regex::Error::CompiledTooBig(limit) => {
                    format!("expression too large: its program needs more than {limit} bytes")
                }
                other => other
                    .to_string()
                    .lines()
                    .last()
                    .unwrap_or("invalid")
                    .trim()
                    .to_owned(),
            };
            ParseError::semantic(format!("error parsing regexp: {cause}"))
        })
}

fn hir(pattern: &str) -> Option<Hir> {
    regex_syntax::ParserBuilder::new()
        .nest_limit(200)
        .build()
        .parse(pattern)
        .ok()
}

/// The literal an expression consists of, leading and trailing `.*` aside.
fn whole_literal(hir: &Hir) -> Option<String> {
    match hir.kind() {
        HirKind::Literal(literal) => text(&literal.0),
        HirKind::Capture(capture) => whole_literal(&capture.sub),
        HirKind::Concat(parts) => {
            let rest: Vec<&Hir> = parts.iter().filter(|part| !is_any_run(part)).collect();
            // `.*` inside would join two literals; only at the ends it means nothing.
            let inner = parts
                .iter()
                .skip_while(|part| is_any_run(part))
                .take_while(|part| !is_any_run(part));
            match rest.as_slice() {
                [only] if inner.count() == 1 => whole_literal(only),
                _ => None,
            }
        }
        _ => None,
    }
}

/// `.*` in either greediness.
fn is_any_run(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Repetition(repetition) => {
            repetition.min == 0 && repetition.max.is_none() && is_any_dot(&repetition.sub)
        }
        HirKind::Capture(capture) => is_any_run(&capture.sub),
        _ => false,
    }
}

/// `.`, with or without newlines.
fn is_any_dot(hir: &Hir) -> bool {
    *hir == Hir::dot(regex_syntax::hir::Dot::AnyCharExceptLF)
        || *hir == Hir::dot(regex_syntax::hir::Dot::AnyChar)
}

fn is_always(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Empty => true,
        HirKind::Capture(capture) => is_always(&capture.sub),
        HirKind::Concat(parts) => parts.iter().all(is_always),
        _ => is_any_run(hir),
    }
}

/// The longest literal that every match contains.
fn required_literal(hir: &Hir) -> Option<String> {
    match hir.kind() {
        HirKind::Literal(literal) => text(&literal.0),
        HirKind::Capture(capture) => required_literal(&capture.sub),
        HirKind::Repetition(repetition) if repetition.min >= 1 => required_literal(&repetition.sub),
        HirKind::Concat(parts) => parts.iter().filter_map(required_literal).max_by_key(String::len),
        _ => None,
    }
}

/// Texts of which every match has at least one, the longest of several that are known.
fn one_of(hir: &Hir) -> Option<Vec<RequiredText>> {
    let single = |text, ignore_case, suffices| {
        vec![RequiredText {
            text,
            ignore_case,
            suffices,
        }]
    };
    if let Some(text) = whole_literal(hir) {
        return Some(single(text, false, true));
    }
    match hir.kind() {
        HirKind::Capture(capture) => one_of(&capture.sub),
        HirKind::Repetition(repetition) if repetition.min >= 1 => {
            let mut texts = one_of(&repetition.sub)?;
            texts.iter_mut().for_each(|text| text.suffices = false);
            Some(texts)
        }
        HirKind::Alternation(parts) => {
            let mut all = Vec::new();
            for part in parts {
                all.extend(one_of(part)?);
            }
            (all.len() <= MAX_ONE_OF).then_some(all)
        }
        _ => {
            let literal = required_literal(hir).map(|text| single(text, false, false));
            let folded = required_ignoring_case(hir).map(|text| single(text, true, false));
            let parts = match hir.kind() {
                HirKind::Concat(parts) => parts.as_slice(),
                _ => &[],
            };
            let inner = parts.iter().filter_map(|part| {
                let mut texts = one_of(part)?;
                texts.iter_mut().for_each(|text| text.suffices = false);
                Some(texts)
            });
            let shortest = |texts: &Vec<RequiredText>| texts.iter().map(|text| text.text.len()).min();
            // Of equal ones the first: what tells case apart rules out more.
            let mut best: Option<Vec<RequiredText>> = None;
            for texts in literal.into_iter().chain(folded).chain(inner) {
                if best.as_ref().is_none_or(|best| shortest(best) < shortest(&texts)) {
                    best = Some(texts);
                }
            }
            best
        }
    }
}

/// The longest ASCII text that every match contains when case is ignored, in lower case.
fn required_ignoring_case(hir: &Hir) -> Option<String> {
    let (mut longest, mut run) = (None::<String>, String::new());
    let mut keep = |text: String| {
        if !text.is_empty() && longest.as_ref().is_none_or(|longest| longest.len() < text.len()) {
            longest = Some(text);
        }
    };
    match hir.kind() {
        HirKind::Capture(capture) => return required_ignoring_case(&capture.sub),
        HirKind::Repetition(repetition) if repetition.min >= 1 => {
            return required_ignoring_case(&repetition.sub);
        }
        HirKind::Concat(parts) => {
            for part in parts {
                match folded(part) {
                    Some(text) => run.push_str(&text),
                    None => {
                        keep(std::mem::take(&mut run));
                        required_ignoring_case(part).into_iter().for_each(&mut keep);
                    }
                }
            }
            keep(run);
        }
        _ => folded(hir).into_iter().for_each(keep),
    }
    longest
}

/// What an expression always matches when case is ignored: an ASCII literal, or a letter in its cases.
fn folded(hir: &Hir) -> Option<String> {
    let lower = |char: char| match char {
        '\u{17f}' => Some('s'),
        '\u{212a}' => Some('k'),
        char => char.is_ascii().then(|| char.to_ascii_lowercase()),
    };
    match hir.kind() {
        HirKind::Literal(literal) => text(&literal.0)?.chars().map(lower).collect(),
        HirKind::Class(regex_syntax::hir::Class::Unicode(class)) => {
            let first = lower(class.ranges().first()?.start())?;
            let same = class.ranges().iter().all(|range| {
                range.len() <= 2 && (range.start()..=range.end()).all(|char| lower(char) == Some(first))
            });
            same.then(|| first.to_string())
        }
        _ => None,
    }
}

/// Literals joined by `|`, at most a thousand.
fn alternatives(hir: &Hir) -> Option<Vec<Box<str>>> {
    match hir.kind() {
        HirKind::Empty => Some(vec![Box::from("")]),
        HirKind::Literal(literal) => Some(vec![text(&literal.0)?.into_boxed_str()]),
        HirKind::Capture(capture) => alternatives(&capture.sub),
        HirKind::Class(class) => {
            let regex_syntax::hir::Class::Unicode(class) = class else {
                return None;
            };
            let count: u32 = class
                .ranges()
                .iter()
                .map(|range| range.end() as u32 - range.start() as u32 + 1)
                .sum();
            if count > 16 {
                return None;
            }
            let chars = class
                .ranges()
                .iter()
                .flat_map(|range| range.start()..=range.end());
            Some(chars.map(|c| c.to_string().into_boxed_str()).collect())
        }
        HirKind::Alternation(parts) if parts.len() <= 1000 => {
            let mut all = Vec::new();
            for part in parts {
                all.extend(alternatives(part)?);
            }
            Some(all)
        }
        HirKind::Concat(parts) => product(parts),
        _ => None,
    }
}

/// Every way to choose one alternative of each part.
fn product(parts: &[Hir]) -> Option<Vec<Box<str>>> {
    let mut all: Vec<Box<str>> = vec![Box::from("")];
    for part in parts {
        let next = alternatives(part)?;
        if all.len().checked_mul(next.len())? > 256 {
            return None;
        }
        all = all
            .iter()
            .flat_map(|head| {
                next.iter()
                    .map(move |tail| format!("{head}{tail}").into_boxed_str())
            })
            .collect();
    }
    Some(all)
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec())
        .ok()
        .filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests;
