//! The object store: opening it, counted and coalesced reads.
