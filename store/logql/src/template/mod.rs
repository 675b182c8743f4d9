//! Go's `text/template`, as far as LogQL uses it: pipelines, variables, `if`, `with`, `range`, `define` and `template`,
//! the language's own functions and those Loki adds.
//!
//! An engine of its own, because the texts of Go's errors end up in `__error_details__`, strings are bytes that
//! functions may cut anywhere, and what a template costs must be bounded: none of the crates for Go templates does that.
//! Parsing and running are bounded in depth, output and work.

mod builtin;
mod decimal;
mod escape;
mod exec;
mod funcs;
mod parse;
mod printf;
mod signature;
mod sprig;
#[cfg(test)]
mod tests;
mod time;
mod tree;
mod value;

use std::collections::HashMap;

use tree::Node;

/// What a template sees of an entry.
pub(crate) trait Context {
    /// A label's value.
    fn label(&self, name: &str) -> Option<&str>;
    /// All labels, ascending by name.
    fn labels(&self) -> Vec<(&str, &str)>;
    /// The line as it is now.
    fn line(&self) -> &str;
    /// ns since the epoch.
    fn timestamp(&self) -> i64;
}

/// A parsed template.
#[derive(Debug)]
pub(crate) struct Template {
    name: &'static str,
    text: String,
    root: Vec<Node>,
    defined: HashMap<String, Vec<Node>>,
}

impl Template {
    /// Parses a template; the error is Go's.
    pub(crate) fn parse(name: &'static str, text: &str) -> Result<Self, String> {
        let (root, defined) = parse::parse(name, text)?;
        Ok(Self {
            name,
            text: text.to_owned(),
            root,
            defined,
        })
    }

    /// Appends the output to `out`; the error is Go's, and `out` is then of no use.
    pub(crate) fn execute(&self, context: &dyn Context, out: &mut String) -> Result<(), String> {
        let bytes = exec::execute(self, context)?;
        push_text(&bytes, out);
        Ok(())
    }

    /// The label's name, when the template is nothing but `{{.name}}`.
    pub(crate) fn only_field(&self) -> Option<&str> {
        match self.root.as_slice() {
            [Node::Action(pipe)] => pipe.only_field(),
            _ => None,
        }
    }

    /// The names that Loki finds in the template's fields, as hints for parsers; `$.name` and what other templates read
    /// are not among them.
    pub(crate) fn hinted_names(&self) -> Vec<String> {
        let mut names = Vec::new();
        tree::hinted_names(&self.root, &mut names);
        names
    }

    /// The labels the template reads, when that can be said.
    pub(crate) fn fields(&self) -> Option<Vec<String>> {
        let mut names = Vec::new();
        let lists = std::iter::once(&self.root).chain(self.defined.values());
        for list in lists {
            if !tree::fields(list, &mut names) {
                return None;
            }
        }
        Some(names)
    }
}

/// Appends bytes as text; each byte that is no part of a character becomes U+FFFD.
fn push_text(bytes: &[u8], out: &mut String) {
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        out.extend(std::iter::repeat_n('\u{fffd}', chunk.invalid().len()));
    }
}
