//! `rankline push` against a service of the test.
