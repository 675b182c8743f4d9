//! Benchmarks of `rank_filter.wasm`: what a line costs beside a module that does nothing, and how its memory behaves.
//!
//! ```text
//! rankline-filter-bench per-line FILTER IDENTITY FOLDER    for every *.jsonl of the folder
//! rankline-filter-bench memory FILTER [RECORDS]            linear memory over that many records
//! ```

mod engine;
mod lines;
mod memory;
mod per_line;

use std::path::Path;

use anyhow::{Context, Result, bail};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["per-line", filter, identity, folder] => {
            let modules = per_line::Modules {
                filter: module(filter)?,
                identity: module(identity)?,
            };
            per_line::start_up(&modules)?;
            per_line::run(&modules, Path::new(folder))
        }
        ["memory", filter] => memory::run(&module(filter)?, 50_000_000),
        ["memory", filter, records] => {
            memory::run(&module(filter)?, records.parse().context("RECORDS is a number")?)
        }
        _ => bail!("usage: per-line FILTER IDENTITY FOLDER, or memory FILTER [RECORDS]"),
    }
}

fn module(path: &str) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {path}; `make wasm` builds the filter"))
}
