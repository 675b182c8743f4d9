//! Assembles the service and takes it down in order.
//!
//! Down: refuse new pushes and stop background work; flush what is open; end tails; answer what is in flight; give
//! up at the deadline.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use axum::serve::ListenerExt;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::catalog::{Catalog, CatalogOptions};
use crate::compaction::{CompactionOptions, Compactor};
use crate::config::{Config, StoreUrl};
use crate::http::{self, AppState, status::StatusState};
use crate::ingest::Ingester;
use crate::live::LiveHub;
use crate::metrics::LogLevel;
use crate::query::{Engine, QueryLimits};
use crate::storage::Storage;

/// A service that listens and is ready to be run.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    state: AppState,
    stopping: Arc<AtomicBool>,
}

/// The process-wide parts a server shows to its operators.
#[derive(Clone)]
pub struct Telemetry {
    /// Renders the metrics.
    pub metrics: PrometheusHandle,
    /// Reads and changes what is logged.
    pub log_level: LogLevel,
}

impl Server {
    /// Opens the store, asks it a first question, and listens.
    ///
    /// # Errors
    /// A store that can't be reached, or an address that is taken.
    pub async fn bind(config: Config) -> anyhow::Result<Self> {
        let storage = Storage::open(&config.storage()).await?;
        storage
            .check()
            .await
            .with_context(|| format!("the store {} does not answer", config.store))?;
        Self::bind_to(config, storage).await
    }

    /// As [`Server::bind`], over a store that is open already.
    ///
    /// # Errors
    /// As [`Server::bind`].
    pub async fn bind_to(config: Config, storage: Storage) -> anyhow::Result<Self> {
        let options = CatalogOptions {
            refresh: config.catalog_refresh,
            cache_bytes: config.catalog_cache_bytes.0,
        };
        let catalog = Arc::new(Catalog::new(storage.clone(), options));
        let live = Arc::new(LiveHub::default());
        let ingester = Ingester::new(&config, storage.clone(), Arc::clone(&catalog), Arc::clone(&live));
        let limits = QueryLimits::from(&config);
        let engine = Engine::new(Arc::clone(&catalog), storage.clone(), limits)
            .context("could not start the query threads")?;
        let listener = TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("could not listen on {}", config.listen))?;
        let state = AppState {
            config: Arc::new(config),
            ingester,
            catalog,
            storage,
            live,
            queries: Arc::new(engine),
        };
        Ok(Self {
            listener,
            state,
            stopping: Arc::default(),
        })
    }

    /// The address it listens on.
    ///
    /// # Errors
    /// When the operating system doesn't say.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// What its handlers share.
    #[must_use]
    pub fn state(&self) -> &AppState {
        &self.state
    }

    /// Serves until `stop`, then goes down in order.
    ///
    /// # Errors
    /// When not everything was stored or answered by the shutdown deadline.
    pub async fn run(self, telemetry: Telemetry, stop: CancellationToken) -> anyhow::Result<()> {
        let address = self.address()?;
        let Self {
            listener,
            state,
            stopping,
        } = self;
        let status = StatusState {
            config: Arc::clone(&state.config),
            ingester: state.ingester.clone(),
            stopping: Arc::clone(&stopping),
            metrics: telemetry.metrics,
            log_level: telemetry.log_level,
        };
        let background = TaskTracker::new();
        let ending = stop.clone();
        spawn_background(&state, &background, &ending);
        let routes = http::service(state.clone(), status);
        let listener = listener.tap_io(|stream| {
            // Answers are written whole; waiting to fill packets only delays them. Without it they still arrive.
            let _ = stream.set_nodelay(true);
        });
        let serving = axum::serve(listener, routes).with_graceful_shutdown(ending.clone().cancelled_owned());
        let serving = tokio::spawn(async move { serving.await });
        tracing::info!(%address, store = %state.config.store, version = env!("CARGO_PKG_VERSION"), "rankline is ready");
        stop.cancelled().await;
        stopping.store(true, Ordering::Release);
        tracing::info!("rankline is shutting down");
        let deadline = state.config.shutdown_deadline;
        let down = async {
            state.ingester.stop().await;
            state.live.close();
            background.close();
            background.wait().await;
            let served = serving.await;
            state.storage.close().await;
            served
        };
        match tokio::time::timeout(deadline, down).await {
            Ok(served) => {
                served
                    .context("the server stopped")?
                    .context("the server stopped")?;
                tracing::info!("everything acknowledged is stored, goodbye");
                Ok(())
            }
            Err(_) => anyhow::bail!(late(deadline)),
        }
    }
}

fn late(deadline: Duration) -> String {
    format!(
        "not everything was stored or answered within the shutdown deadline of {deadline:?}; what was acknowledged is stored"
    )
}

/// Starts what runs beside the requests; it ends when `stop` does.
fn spawn_background(state: &AppState, tasks: &TaskTracker, stop: &CancellationToken) {
    if state.config.compaction {
        let (storage, catalog) = (state.storage.clone(), Arc::clone(&state.catalog));
        let deletes = Arc::clone(state.queries.deletes());
        let options = match state.config.store {
            StoreUrl::Folder(_) | StoreUrl::Memory => CompactionOptions::for_folder(),
            StoreUrl::S3 { .. } => CompactionOptions::default(),
        };
        let compactor = Compactor::new(storage, catalog, options, stop.clone())
            .with_deletes(deletes, state.config.delete_cancel_period);
        tasks.spawn(async move { compactor.run().await });
    }
}
