//! Plans and runs queries over segments.
