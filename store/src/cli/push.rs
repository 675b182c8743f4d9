//! `rankline push`: files or a pipe → filter → batches → the service.

use std::process::ExitCode;

use clap::Args;

/// Options of `rankline push`.
#[derive(Debug, Args)]
pub struct PushArgs {}

/// Runs `rankline push`.
///
/// # Errors
/// What keeps lines from being sent.
pub async fn run(_args: PushArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("the push command is not built yet")
}
