//! `rankline serve`: configuration, log and metrics of the process, signals; then the server.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ConfigFlags};
use crate::metrics;
use crate::server::{Server, Telemetry};

/// Options of `rankline serve`. Each is also `RANKLINE_…` in the environment and a key of the configuration file;
/// a flag beats the environment, which beats the file.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ServeArgs {
    /// The configuration file (TOML).
    #[arg(long, value_name = "FILE", env = "RANKLINE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Print every option with its value and where it comes from, and end.
    #[arg(long)]
    pub print_config: bool,
    /// The options themselves.
    #[command(flatten)]
    pub options: ConfigFlags,
}

/// Runs the service until SIGTERM or SIGINT; a second signal ends it at once.
///
/// # Errors
/// A configuration that can't be used, a store that doesn't answer, an address that is taken, or a shutdown that
/// missed its deadline.
pub fn run(args: ServeArgs) -> anyhow::Result<ExitCode> {
    let config = load(args.config.as_deref(), args.options)?;
    if args.print_config {
        return print(&config);
    }
    super::client::install_tls();
    let log_level = metrics::install_log(&config.log_level).map_err(anyhow::Error::msg)?;
    let telemetry = Telemetry {
        metrics: metrics::install().context("could not set up metrics")?,
        log_level,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let stop = CancellationToken::new();
        stop_on_signal(stop.clone())?;
        let server = Server::bind(config).await?;
        server.run(telemetry, stop).await
    });
    // What still runs after the deadline is given up.
    runtime.shutdown_background();
    result.map(|()| ExitCode::SUCCESS)
}

fn load(file: Option<&std::path::Path>, flags: ConfigFlags) -> anyhow::Result<Config> {
    let path = file.map(|path| path.display().to_string());
    let text = match file {
        Some(file) => Some(
            std::fs::read_to_string(file).with_context(|| format!("could not read {}", file.display()))?,
        ),
        None => None,
    };
    let env = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Ok(Config::load(flags, env, path.as_deref().zip(text.as_deref()))?)
}

#[expect(clippy::print_stdout, reason = "printing is what was asked for")]
fn print(config: &Config) -> anyhow::Result<ExitCode> {
    print!("{}", config.print());
    Ok(ExitCode::SUCCESS)
}

fn stop_on_signal(stop: CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        next().await;
        stop.cancel();
        next().await;
        tracing::warn!("second signal: ending without waiting");
        #[expect(clippy::disallowed_methods, reason = "a second signal asks for exactly this")]
        std::process::exit(1);
    });
    Ok(())
}
