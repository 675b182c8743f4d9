//! The commands.
pub mod client;
pub mod filter;
pub mod push;
pub mod query;
pub mod serve;
