//! A WebAssembly host that calls `rank_filter.wasm` exactly as Fluent Bit does.
