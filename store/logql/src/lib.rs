//! LogQL: text to syntax tree to evaluation of pipelines and samples. No I/O, no async; knows no storage.
