//! The table of options: name, type, default and what to weigh when changing it. Everything else about an option
//! (its flag, environment variable, TOML key and help) follows from its row.

use std::net::SocketAddr;
use std::time::Duration;

use super::values::{ByteSize, Secret, StoreUrl, Value};
use super::{ConfigError, Setting, Sources};

/// Makes [`Config`], the flags and the resolution from the rows below.
macro_rules! options {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:expr;)+) => {
        /// Every option of `rankline serve`, resolved. Field names are the TOML keys.
        #[derive(Debug, Clone)]
        pub struct Config {
            $($(#[doc = $doc])+ pub $name: $type,)+
            pub(super) settings: Vec<Setting>,
        }

        /// The options as flags; each is also `RANKLINE_…` in the environment and a key of the configuration file.
        #[derive(Debug, Clone, Default, clap::Args)]
        pub struct ConfigFlags {
            $($(#[doc = $doc])+
            #[arg(long, value_name = "VALUE", num_args = 0..=1, require_equals = false, default_missing_value = "true", hide_short_help = false)]
            pub $name: Option<String>,)+
        }

        /// Names of all options, in the order of the table.
        pub(super) const NAMES: &[&str] = &[$(stringify!($name)),+];

        impl ConfigFlags {
            /// The flags that were given, by option name.
            pub(super) fn given(self) -> Vec<(&'static str, String)> {
                let mut given = Vec::new();
                $(if let Some(text) = self.$name {
                    given.push((stringify!($name), text));
                })+
                given
            }
        }

        impl Config {
            /// Takes every option from the source that counts most, or its default.
            pub(super) fn resolve(sources: &Sources) -> Result<Self, ConfigError> {
                let mut settings = Vec::new();
                $(let $name: $type = sources.take(stringify!($name), || $default, &mut settings)?;)+
                Ok(Self { $($name,)+ settings })
            }
        }
    };
}

options! {
    /// Address and port to listen on. `0.0.0.0:3100` serves the network: put a proxy with authentication before it.
    listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 3100));
    /// Where everything is kept: a folder (`/path` or `file:///path`), `s3://bucket/prefix`, or `memory://` for trials.
    store: StoreUrl = StoreUrl::read("./rankline-data").unwrap_or(StoreUrl::Memory);
    /// Path that stands before every route, for example `/logs` behind a shared proxy.
    path_prefix: String = String::new();
    /// Endpoint of an S3-compatible server, for example `http://127.0.0.1:8333`; unset means AWS (or AWS_ENDPOINT_URL).
    s3_endpoint: Option<String> = None;
    /// Region of the bucket; unset means AWS_REGION, then us-east-1.
    s3_region: Option<String> = None;
    /// Access key; unset means AWS_ACCESS_KEY_ID (with AWS_SESSION_TOKEN), then the machine's role.
    s3_access_key_id: Option<String> = None;
    /// Secret of the access key; prefer RANKLINE_S3_SECRET_ACCESS_KEY or AWS_SECRET_ACCESS_KEY to a flag others can see.
    s3_secret_access_key: Option<Secret> = None;
    /// Name the bucket in the path rather than in the host name. Most servers other than AWS need it; AWS takes both.
    s3_path_style: bool = true;
    /// Allow `http://` endpoints. Keys are never sent, but log lines travel in the clear: for tests and private networks.
    s3_allow_http: bool = false;
    /// Bound of one request to the bucket, retries together take at most twice as long. Shorter fails sooner when the
    /// bucket is slow; longer holds pushes and queries.
    storage_timeout: Duration = Duration::from_secs(30);
    /// Memory for recently read ranges of objects in a bucket. More saves S3 GETs on repeated queries; a folder doesn't need it.
    storage_cache_bytes: ByteSize = ByteSize(64 << 20);
    /// Folder on a local disk for more of these ranges; it survives restarts and may be lost at any time. One for each process;
    /// only for a store in a bucket.
    storage_disk_cache_folder: Option<String> = None;
    /// Most bytes the disk cache takes, at least 128MiB. More saves S3 GETs and their latency on older days.
    storage_disk_cache_bytes: ByteSize = ByteSize(10 << 30);
    /// Memory for the indexes (footers) of segments. Too little reads them again for every query: one GET a segment.
    catalog_cache_bytes: ByteSize = ByteSize(256 << 20);
    /// How old a listing of the store may be. Shorter shows other replicas' entries sooner, at some S3 LISTs an interval.
    catalog_refresh: Duration = Duration::from_secs(1);
    /// Shortest time between two flushes of a tenant, unless batch_bytes are reached. Shorter acknowledges pushes
    /// sooner; longer makes fewer, larger objects (one S3 PUT an interval).
    flush_interval: Duration = Duration::from_millis(200);
    /// Bytes of entries that make a batch full, so that it is flushed at once. Larger compresses better; smaller uses
    /// more cores at once and less memory.
    batch_bytes: ByteSize = ByteSize(2 << 20);
    /// Memory for pushes that are not acknowledged yet, of all tenants. When it is full, pushes get 429 and come again
    /// later; it must be larger than push_max_bytes.
    ingest_memory_bytes: ByteSize = ByteSize(384 << 20);
    /// How long a segment write is tried before its pushes get 503. Longer rides out a longer outage of the bucket.
    flush_deadline: Duration = Duration::from_secs(60);
    /// Largest body of one push as sent; larger ones get 413.
    push_max_bytes: ByteSize = ByteSize(100 << 20);
    /// Largest body of one push after decompression; larger ones get 413. Guards memory against tiny bodies that unpack to gigabytes.
    push_max_decoded_bytes: ByteSize = ByteSize(256 << 20);
    /// Demand the tenant's name in `X-Scope-OrgID` (401 without it). Off, the header is ignored and one tenant owns everything.
    tenants_required: bool = false;
    /// Longest line; longer ones are refused (400), as Loki does. Raise it for very long tracebacks, up to 32MiB.
    max_line_bytes: ByteSize = ByteSize(256 << 10);
    /// Most labels of a stream, `service_name` not counted. Every distinct set is a stream of its own: more of them, slower queries.
    max_label_names: usize = 15;
    /// Longest label value, in bytes.
    max_label_value_bytes: ByteSize = ByteSize(2048);
    /// Most bytes of structured metadata (names and values) of one entry.
    max_metadata_bytes: ByteSize = ByteSize(64 << 10);
    /// Most structured metadata fields of one entry.
    max_metadata_fields: usize = 128;
    /// Refuse entries older than this; 0 takes any age, so that old logs can be loaded.
    max_entry_age: Duration = Duration::ZERO;
    /// Refuse entries further in the future than this: a wrong clock would otherwise hide entries from "last hour" views.
    max_entry_future: Duration = Duration::from_secs(600);
    /// Add the label `service_name` from the first known label (app, job, …), as Loki does; Grafana's Logs Drilldown needs it.
    discover_service_name: bool = true;
    /// Add `detected_level` to every entry's structured metadata, as Loki does; Grafana colours lines by it.
    detect_level: bool = true;
    /// Most entries one log query may ask for (its `limit`). Grafana asks for 1000 unless told otherwise.
    query_max_entries: usize = 50_000;
    /// Most series one metric query may answer with.
    query_max_series: usize = 100_000;
    /// Most live tails of one tenant at a time on this server. Each takes up to 16 MB while its reader is behind.
    max_tails: usize = 100;
    /// How long a query may take before it gets 504.
    query_timeout: Duration = Duration::from_secs(300);
    /// Most bytes of lines and structured metadata that the streams of one query may have in its range; 0 means no
    /// bound. A query beyond it gets 400 before anything is read, and Grafana stops splitting it.
    query_max_bytes: ByteSize = ByteSize(0);
    /// Memory one query may keep until it answers: its rows, its series. Beyond it the query gets 400. The blocks that
    /// all queries are reading may take a quarter of it together; beyond that queries wait for each other.
    query_memory_bytes: ByteSize = ByteSize(512 << 20);
    /// Memory for decoded columns of blocks that queries looked at. More answers repeated questions, and questions about
    /// the same days, faster; 0 decodes anew each time.
    query_cache_bytes: ByteSize = ByteSize(128 << 20);
    /// Threads that scan blocks; 0 means one for each core.
    query_threads: usize = 0;
    /// Merge small segments into large ones in the background. Off, queries over long times get slower and slower;
    /// switch it off only on replicas beside others that have it on.
    compaction: bool = true;
    /// How long a delete request may be cancelled. Queries leave its entries out at once, and only after this time they
    /// are removed from the store: a shorter one frees space (and forgets) sooner, a longer one forgives mistakes.
    delete_cancel_period: Duration = Duration::from_secs(24 * 3600);
    /// How long a shutdown may take to flush and to answer what is in flight before the process ends with an error.
    shutdown_deadline: Duration = Duration::from_secs(30);
    /// What to log: error, warn, info, debug, trace, or directives such as `rankline=debug,warn`.
    log_level: String = "info".to_owned();
}
