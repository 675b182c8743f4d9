//! `rankline query`.
