//! Lines as templates and variables: what stays the same from line to line is stored once, what changes in columns,
//! and a text is looked for in both without a line being put together. Knows no streams, times or queries.
//!
//! `words` splits a line; `build` does it for the lines of a block; `values` lays out the variables of one place of
//! one template; `directory` is the list of templates and columns; `needle` splits what is searched for; `search`
//! asks; `lines` puts lines together; `rows` knows which rows have which template; `split_lines` hands lines on to another block
//! as they are split.
//!
//! Invariant: whatever the text, the lines come back to the byte, and a search gives exactly the lines that contain
//! the needle.

mod build;
mod directory;
mod lines;
mod needle;
mod parts;
mod rows;
mod search;
mod split_lines;
mod values;
mod words;

pub(crate) use build::{Split, Splitter, TemplateColumns, encode};
pub use lines::{Places, Stop, TemplateLines, TemplatePlace};
pub use needle::Needle;
pub use rows::RowSet;
pub use search::Hits;
pub(crate) use split_lines::{SplitCursor, SplitLines};
pub(crate) use words::Vocabulary;
