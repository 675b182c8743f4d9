//! `rankline filter`.
