//! Acknowledged entries, handed to live tails.
