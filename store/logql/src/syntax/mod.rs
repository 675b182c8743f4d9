//! Text to syntax tree and back. Knows the grammar and what a query must have to be run; compiles nothing.

pub mod ast;
mod labels;
mod lexer;
mod metric;
mod parser;
mod pretty;
mod print;
mod stages;
#[cfg(test)]
mod tests;
mod token;
mod validate;

pub use labels::parse_labels;

pub use parser::{format_query, parse, parse_selector, parse_unchecked};
