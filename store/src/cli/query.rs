//! `rankline query`: a LogQL question, its answer for people or for programs.

use std::process::ExitCode;

use clap::Args;

/// Options of `rankline query`.
#[derive(Debug, Args)]
pub struct QueryArgs {}

/// Runs `rankline query`.
///
/// # Errors
/// What keeps the answer from being complete.
pub async fn run(_args: QueryArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("the query command is not built yet")
}
