//! The filter's rules: lines in, records out. No I/O; the Fluent Bit ABI is a thin layer around it.
