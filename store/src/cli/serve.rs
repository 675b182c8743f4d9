//! `rankline serve`.
