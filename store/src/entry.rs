//! Entries and streams as they move from a push into a segment.
