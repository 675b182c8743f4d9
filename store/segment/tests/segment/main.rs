//! The segment format from outside: what is written is read back, wrong bytes are errors, merging is sorting and
//! dropping duplicates, and the bytes of each version stay what they are.
#![allow(clippy::unwrap_used, missing_docs)]

mod corruption;
mod golden;
mod merging;
mod model;
mod round_trip;
mod templates;
