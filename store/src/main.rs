//! The `rankline` binary.
fn main() {}
