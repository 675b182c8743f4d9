//! The template miner: a tree of tokens with fixed depth (Drain; He, Zhu, Zheng and Lyu, ICWS 2017) that puts each
//! line to the most similar template so far and makes a placeholder of every token in which they differ.
//!
//! Its bounds are those of Loki's pattern ingester, so that the same lines give the same patterns. Memory: at most
//! [`MAX_TEMPLATES`] templates of a bounded number of tokens.

use std::collections::BTreeMap;

use super::tokens::{Token, Tokens};

/// Tokens of a line that lead through the tree: its number of tokens, then so many of them.
const MAX_DEPTH: usize = 28;
/// Share of tokens that a line must have in common with a template.
const MIN_SIMILARITY: f64 = 0.3;
/// Branches of one node; the last one is for whatever comes.
const MAX_BRANCHES: usize = 15;
/// Templates of one miner; beyond, the one that was not met for longest goes.
const MAX_TEMPLATES: usize = 300;

/// A template and when its lines were.
#[derive(Debug)]
pub(super) struct Template {
    /// `None` is a placeholder.
    pub(super) tokens: Vec<Option<Box<str>>>,
    /// Blanks of its first line, see [`Tokens`].
    pub(super) blanks: Vec<u16>,
    /// (time, lines at it), in the order they came.
    pub(super) samples: Vec<(i64, u64)>,
    met: u64,
}

impl Template {
    fn new(line: &Tokens<'_>) -> Self {
        let owned = |token: &Token<'_>| token.as_deref().map(Box::from);
        Self {
            tokens: line.tokens.iter().map(owned).collect(),
            blanks: line.blanks.clone(),
            samples: Vec::new(),
            met: 0,
        }
    }

    /// How many tokens are equal, and how many are placeholders.
    fn likeness(&self, line: &[Token<'_>]) -> (usize, usize) {
        let (mut equal, mut open) = (0, 0);
        for (own, token) in self.tokens.iter().zip(line) {
            match own {
                None => open += 1,
                own if own.as_deref() == token.as_deref() => equal += 1,
                Some(_) => {}
            }
        }
        (equal, open)
    }

    fn widen(&mut self, line: &[Token<'_>]) {
        for (own, token) in self.tokens.iter_mut().zip(line) {
            if own.as_deref() != token.as_deref() {
                *own = None;
            }
        }
    }

    fn count(&mut self, time: i64, now: u64) {
        self.met = now;
        match self.samples.last_mut() {
            Some((last, lines)) if *last == time => *lines += 1,
            _ => self.samples.push((time, 1)),
        }
    }
}

#[derive(Debug, Default)]
struct Node {
    branches: Vec<(Option<Box<str>>, Node)>,
    /// Templates that end here, by number.
    templates: Vec<u64>,
}

impl Node {
    fn place(&self, token: Option<&str>) -> Option<usize> {
        self.branches.iter().position(|(own, _)| own.as_deref() == token)
    }

    fn grow(&mut self, token: Option<&str>) -> &mut Self {
        let place = self.place(token).unwrap_or_else(|| {
            self.branches.push((token.map(Box::from), Self::default()));
            self.branches.len() - 1
        });
        &mut self.branches[place].1
    }

    /// The branch that a new template takes: what has digits varies, and so does what has no place of its own left.
    fn grow_for(&mut self, token: Option<&str>) -> &mut Self {
        let open = self.place(None).is_some();
        let reserved = usize::from(!open);
        let fits = self.branches.len() + reserved < MAX_BRANCHES;
        match token {
            _ if self.place(token).is_some() => self.grow(token),
            Some(text) if fits && !text.chars().any(char::is_numeric) => self.grow(token),
            _ => self.grow(None),
        }
    }
}

/// Finds the templates of one kind of lines.
#[derive(Debug, Default)]
pub(super) struct Miner {
    /// By number of tokens.
    roots: BTreeMap<usize, Node>,
    templates: BTreeMap<u64, Template>,
    /// Lines seen.
    lines: u64,
}

impl Miner {
    /// Counts a line at `time` for the template that fits it best, or for a new one.
    pub(super) fn add(&mut self, line: &Tokens<'_>, time: i64) {
        self.lines += 1;
        let known = self.best(&line.tokens);
        let template = match known.and_then(|number| self.templates.get_mut(&number)) {
            Some(template) => {
                template.widen(&line.tokens);
                template
            }
            None => {
                self.make_room();
                self.insert(&line.tokens);
                self.templates
                    .entry(self.lines)
                    .or_insert_with(|| Template::new(line))
            }
        };
        template.count(time, self.lines);
    }

    /// The templates, in the order they were found.
    pub(super) fn finish(self) -> impl Iterator<Item = Template> {
        self.templates.into_values()
    }

    fn best(&self, line: &[Token<'_>]) -> Option<u64> {
        let mut node = self.roots.get(&line.len())?;
        for token in path(line) {
            let place = node.place(token).or_else(|| node.place(None))?;
            node = &node.branches[place].1;
        }
        let mut best: Option<(u64, (usize, usize))> = None;
        for number in &node.templates {
            let likeness = self.templates.get(number).map(|known| known.likeness(line));
            if let Some(likeness) = likeness
                && best.is_none_or(|(_, so_far)| likeness > so_far)
            {
                best = Some((*number, likeness));
            }
        }
        let (number, (equal, _)) = best?;
        (equal as f64 >= MIN_SIMILARITY * line.len() as f64).then_some(number)
    }

    /// Puts a template that is made of the line at hand into the tree.
    fn insert(&mut self, line: &[Token<'_>]) {
        let mut node = self.roots.entry(line.len()).or_default();
        for token in path(line) {
            node = node.grow_for(token);
        }
        let templates = &self.templates;
        node.templates.retain(|number| templates.contains_key(number));
        node.templates.push(self.lines);
    }

    fn make_room(&mut self) {
        if self.templates.len() < MAX_TEMPLATES {
            return;
        }
        let oldest = self.templates.iter().min_by_key(|(_, template)| template.met);
        if let Some(number) = oldest.map(|(number, _)| *number) {
            self.templates.remove(&number);
        }
    }
}

/// The tokens that lead to a line's leaf: never the last one.
fn path<'a>(line: &'a [Token<'_>]) -> impl Iterator<Item = Option<&'a str>> {
    let depth = line.len().saturating_sub(1).min(MAX_DEPTH - 1);
    line.iter().take(depth).map(|token| token.as_deref())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::tokens::Format;
    use super::*;

    fn mine<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<(String, u64)> {
        let mut miner = Miner::default();
        for line in lines {
            miner.add(&Format::Text.tokens(line).unwrap(), 0);
        }
        let text = |found: &Template| Format::Text.join(&found.tokens, &found.blanks);
        let sum = |found: &Template| found.samples.iter().map(|(_, lines)| lines).sum();
        miner.finish().map(|found| (text(&found), sum(&found))).collect()
    }

    #[test]
    fn what_varies_becomes_a_placeholder() {
        let lines: Vec<String> = (0..40)
            .map(|n| format!("worker {n} finished batch {} in {}ms status ok", n * 17, n * 3))
            .collect();
        let found = mine(lines.iter().map(String::as_str));
        assert_eq!(
            found,
            [("worker <_> finished batch <_> in <_> status ok".to_owned(), 40)]
        );
    }

    #[test]
    fn lines_of_other_lengths_or_beginnings_are_apart() {
        let found = mine([
            "load data from disk",
            "load data from disk now",
            "save data to disk",
            "load data from net",
        ]);
        let texts: Vec<&str> = found.iter().map(|(text, _)| text.as_str()).collect();
        assert_eq!(
            texts,
            [
                "load data from <_>",
                "load data from disk now",
                "save data to disk"
            ]
        );
    }

    #[test]
    fn a_token_with_many_values_opens_up() {
        let names: Vec<String> = (0..60u8)
            .map(|n| {
                format!(
                    "job {}{} is done",
                    char::from(b'a' + n / 26),
                    char::from(b'a' + n % 26)
                )
            })
            .collect();
        let found = mine(names.iter().map(String::as_str));
        // Branches for the first values, then one for all others.
        assert_eq!(found.len(), MAX_BRANCHES);
        assert_eq!(
            found.last().unwrap(),
            &("job <_> is done".to_owned(), 60 - MAX_BRANCHES as u64 + 1)
        );
    }

    #[test]
    fn templates_are_bounded_and_the_stale_ones_go_first() {
        let mut lines = vec!["kept alive by use".to_owned()];
        for n in 0..2 * MAX_TEMPLATES {
            // Word counts and letters keep these apart.
            let word = |k: usize| char::from(b'a' + (k % 10) as u8).to_string();
            lines.push(format!(
                "{} {} {} {}",
                word(n),
                word(n / 10),
                word(n / 100),
                "z ".repeat(n % 60)
            ));
            lines.push("kept alive by use".to_owned());
        }
        let found = mine(
            lines
                .iter()
                .map(String::as_str)
                .filter(|line| Format::Text.tokens(line).is_some()),
        );
        assert!(found.len() <= MAX_TEMPLATES);
        assert_eq!(
            found[0],
            ("kept alive by use".to_owned(), 2 * MAX_TEMPLATES as u64 + 1)
        );
    }
}
