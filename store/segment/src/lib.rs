//! The segment format: rows to columns to bytes and back. No I/O, no async; knows neither tenants nor queries.
//!
//! [`SegmentWriter`] takes rows sorted by (stream, timestamp) and gives bytes; [`locate_footer`] and
//! [`SegmentFooter::parse`] read the index from an object's tail; [`BlockMeta`]'s `decode_*` turn column bytes into
//! rows; [`merge`] makes one segment of many. Every byte is written down in `FORMAT.md`.
//!
//! Invariant: no bytes, however wrong, make a decoder panic or allocate beyond the limits in [`limits`].

mod compress;
mod decode;
mod encode;
mod error;
mod footer;
mod ints;
mod label_pairs;
pub mod limits;
mod merge;
mod meta;
mod rows;
mod template;
mod wire;
mod writer;

pub use decode::BlockText;
pub use error::{Part, SegmentError};
pub use footer::{TAIL_READ_BYTES, TRAILER_BYTES, locate_footer};
pub use label_pairs::LabelPairs;
pub use merge::{Cursor, MergeError, MergeStats, merge};
pub use meta::{BlockMeta, ColumnKind, ColumnMeta, SegmentFooter, StreamMeta};
pub use rows::{Lines, MetadataColumn, StreamRun};
pub use template::{Hits, Needle, Places, RowSet, Stop, TemplateLines, TemplatePlace};
pub use writer::{Finished, SegmentWriter, WriterOptions};
