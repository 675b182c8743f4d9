//! The HTTP client the commands share.
