//! The filter's rules: raw container output in, whole records labelled with their rank out.
//!
//! This crate owns what Fluent Bit's `rank_filter.wasm` and the native commands share: which lines are one record, which
//! rank a line is from, which fields are added. It does no I/O and reads no clock: time arrives with the calls.
//!
//! ```
//! use rank_filter::{Config, Filter, Output};
//!
//! let mut filter = Filter::new(Config::default());
//! let record = br#"{"log":"loading the data set","stream":"stdout"}"#;
//! assert_eq!(filter.record(b"train", 1764000000, 0, record), Output::Unchanged);
//! while let Some(held) = filter.flush() {
//!     assert!(held.starts_with(b"{"));
//! }
//! ```
//!
//! One call gives at most one record, because Fluent Bit can take no more. A caller without that limit asks
//! [`Filter::ready`] for the rest after each call, calls [`Filter::tick`] every second or so, and [`Filter::flush`] until
//! it is empty at the end. Records that leave on another call than their own carry `rankline_ts`, the time of their first
//! line in nanoseconds since the epoch as a decimal string.

#[cfg(target_arch = "wasm32")]
mod abi;
mod config;
mod fields;
mod filter;
mod find;
mod hold;
#[cfg(any(test, target_arch = "wasm32"))]
mod host_buffers;
mod json;
mod kubernetes;
mod launch;
mod layout;
mod line;
mod partial;
mod prefix;
mod queue;
mod rank;
mod rules;
mod seen;
mod shape;
mod spool;
mod tags;
mod task_label;
#[cfg(test)]
mod tests;
mod text;
#[cfg(target_arch = "wasm32")]
mod wasi;

pub use config::{Config, ConfigProblem, TaskIsRank};
pub use filter::{Filter, Output};
pub use spool::{SPOOL_FILE, SpoolError, SpoolFile};
