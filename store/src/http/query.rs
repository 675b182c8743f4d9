//! query and query_range.
