//! From decoded pushes to acknowledged segments.
