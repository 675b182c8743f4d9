//! The commands: what is typed becomes an `Args` value, and the command's `run` does the work.
//!
//! This module owns the top-level parser, the dispatch and the exit code. What a command's options mean is
//! the command's own affair.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub mod client;
pub mod filter;
pub mod push;
pub mod query;
pub mod serve;
#[cfg(test)]
mod testing;

/// Everything that can be typed after `rankline`.
#[derive(Debug, Parser)]
#[command(
    name = "rankline",
    version,
    about,
    max_term_width = 100,
    arg_required_else_help = true
)]
pub struct Cli {
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands of `rankline`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the service: Loki's push and query API over objects in S3 or a folder
    Serve(Box<serve::ServeArgs>),
    /// Merge and label records as the Fluent Bit filter does: JSON lines in, JSON lines out
    Filter(filter::FilterArgs),
    /// Send files, or what a pipe prints, to the service, merged and labelled by rank
    Push(Box<push::PushArgs>),
    /// Ask the service a LogQL question, or follow a query live
    Query(query::QueryArgs),
}

/// Parses the command line, runs the command and gives the process's exit code: 0, or 1 with the error on
/// stderr (2 for a wrong command line, by clap).
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(args) => serve::run(*args),
        Command::Filter(args) => filter::run(args).map(|()| ExitCode::SUCCESS),
        Command::Push(args) => on_runtime(push::run(*args)),
        Command::Query(args) => on_runtime(query::run(args)),
    }
}

/// Runs a client command on a small runtime of its own.
fn on_runtime(
    command: impl Future<Output = anyhow::Result<ExitCode>> + Send + 'static,
) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(async { tokio::spawn(command).await })?;
    // A thread that waits for stdin can't be cancelled; the process ends without it.
    runtime.shutdown_background();
    outcome
}

/// A reader that went away (`rankline query … | head`) has seen what it wanted.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

#[expect(
    clippy::print_stderr,
    reason = "the command's last word to the person who typed it"
)]
fn report(error: &anyhow::Error) {
    eprintln!("rankline: {error:#}");
}
