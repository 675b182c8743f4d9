//! The HTTP API: routes, and the state they share.
pub mod encode;
pub mod error;
pub mod index;
pub mod labels;
pub mod params;
pub mod push;
pub mod query;
pub mod status;
pub mod tail;
