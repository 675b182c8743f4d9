//! `rankline push`.
