//! The `rankline` service: Loki's push and query API over immutable segments in an object store.
//!
//! Dependencies point one way: `http → query → catalog → segment`, `query → logql`.

pub mod catalog;
pub mod cli;
pub mod clock;
pub mod compaction;
pub mod config;
pub mod deletes;
pub mod entry;
pub mod http;
pub mod ingest;
pub mod live;
pub mod metrics;
pub mod query;
pub mod replicas;
pub mod server;
pub mod storage;
pub mod tenants;
