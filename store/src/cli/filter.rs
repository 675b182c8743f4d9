//! `rankline filter`: JSON lines through the filter, natively or in its `.wasm`.

use std::path::PathBuf;

/// Arguments of `rankline filter`.
#[derive(Debug, clap::Args)]
pub struct FilterArgs {
    /// Run this module in a WASM interpreter, the way Fluent Bit does, instead of the built-in filter.
    #[arg(long, value_name = "FILE")]
    pub wasm: Option<PathBuf>,
    /// The filter's configuration (rank_filter.toml).
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Reads `{"tag","sec","nsec","record"}` lines from stdin, prints the output records as JSON lines.
///
/// # Errors
/// When a file can't be read, the module can't be used, or an input line was not usable.
pub fn run(_args: FilterArgs) -> anyhow::Result<()> {
    anyhow::bail!("not here yet")
}
