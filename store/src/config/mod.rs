//! Every option of the service: flags, environment, TOML file, defaults, and the checks across options.
//!
//! Resolution: flag, then environment (`RANKLINE_…`), then file, then default. Unknown keys are errors, so that a
//! misspelt option can't be ignored silently.

mod options;
mod values;

use std::collections::BTreeMap;
use std::fmt;

pub use options::{Config, ConfigFlags};
pub use values::{ByteSize, Secret, StoreUrl, Value};

use crate::storage::{DiskCacheConfig, MIN_DISK_CACHE_BYTES, StorageConfig};

/// Prefix of every option's environment variable.
const ENV_PREFIX: &str = "RANKLINE_";
/// Variables with the prefix that are not options of the service: other commands read them.
const OTHER_ENV: [&str; 6] = ["CONFIG", "URL", "TENANT", "WASM", "BENCH_DIR", "BIN"];
/// What the segment format allows a line to be, and a push to hold.
const HARD_MAX_LINE_BYTES: u64 = 32 << 20;

/// A configuration that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("could not read {path}: {reason}")]
    File {
        /// Its path.
        path: String,
        /// Why.
        reason: String,
    },
    /// The file isn't TOML.
    #[error("{path} is not valid TOML: {reason}")]
    Syntax {
        /// Its path.
        path: String,
        /// The parser's message, with line and column.
        reason: String,
    },
    /// A key that is no option.
    #[error("unknown option {key} in {origin}{hint}")]
    UnknownKey {
        /// As written.
        key: String,
        /// Where.
        origin: String,
        /// ` (did you mean …?)`, or empty.
        hint: String,
    },
    /// A value of the wrong kind.
    #[error("{key} ({origin}): {reason}")]
    Value {
        /// The option.
        key: String,
        /// Where the value comes from.
        origin: Origin,
        /// What is wrong with it.
        reason: String,
    },
    /// Options that contradict each other or make no sense.
    #[error("{0}")]
    Contradiction(String),
}

/// Where an option's value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A flag.
    Flag(String),
    /// An environment variable.
    Env(String),
    /// The configuration file.
    File(String),
    /// Nothing set it.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "flag {flag}"),
            Self::Env(variable) => write!(f, "environment {variable}"),
            Self::File(path) => write!(f, "file {path}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// An option's value as text, for `--print-config`.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    name: &'static str,
    value: String,
    origin: Origin,
}

/// The texts of all sources, by option name.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    given: BTreeMap<String, (String, Origin)>,
}

impl Sources {
    fn set(&mut self, name: &str, text: String, origin: Origin) {
        self.given.insert(name.to_owned(), (text, origin));
    }

    /// The option's value from the source that was set last (sources are set by rising precedence).
    fn take<T: Value>(
        &self,
        name: &'static str,
        default: impl FnOnce() -> T,
        settings: &mut Vec<Setting>,
    ) -> Result<T, ConfigError> {
        let (value, origin) = match self.given.get(name) {
            None => (default(), Origin::Default),
            Some((text, origin)) => {
                let failed = |reason| ConfigError::Value {
                    key: name.to_owned(),
                    origin: origin.clone(),
                    reason,
                };
                (T::read(text.trim()).map_err(failed)?, origin.clone())
            }
        };
        settings.push(Setting {
            name,
            value: value.show(),
            origin,
        });
        Ok(value)
    }
}

impl Config {
    /// Resolves flags, environment and file (its path and text) into a checked configuration.
    ///
    /// # Errors
    /// [`ConfigError`]: the first thing that is wrong, named.
    pub fn load(
        flags: ConfigFlags,
        env: impl IntoIterator<Item = (String, String)>,
        file: Option<(&str, &str)>,
    ) -> Result<Self, ConfigError> {
        let mut sources = Sources::default();
        if let Some((path, text)) = file {
            read_file(path, text, &mut sources)?;
        }
        for (variable, text) in env {
            let Some(rest) = variable.strip_prefix(ENV_PREFIX) else {
                continue;
            };
            let name = rest.to_ascii_lowercase();
            if options::NAMES.contains(&name.as_str()) {
                sources.set(&name, text, Origin::Env(variable));
            } else if !OTHER_ENV.contains(&rest) {
                return Err(unknown(&variable, &name, "the environment", |near| {
                    format!("{ENV_PREFIX}{}", near.to_ascii_uppercase())
                }));
            }
        }
        for (name, text) in flags.given() {
            sources.set(name, text, Origin::Flag(format!("--{}", name.replace('_', "-"))));
        }
        let config = Self::resolve(&sources)?;
        config.validate()?;
        Ok(config)
    }

    /// The defaults over a given store; for tests.
    ///
    /// # Panics
    /// Never: the defaults are valid.
    #[must_use]
    pub fn for_tests(store: StoreUrl) -> Self {
        let mut config = Self::resolve(&Sources::default()).expect("defaults need no parsing");
        config.store = store;
        config
    }

    /// Checks what no single value shows; every message has both values.
    fn validate(&self) -> Result<(), ConfigError> {
        let no = |message: String| Err(ConfigError::Contradiction(message));
        let needs_more = |small: &str, a: ByteSize, large: &str, b: ByteSize| {
            format!(
                "{small} ({}) must not be larger than {large} ({})",
                a.show(),
                b.show()
            )
        };
        if self.push_max_bytes > self.ingest_memory_bytes {
            let (a, b) = (self.push_max_bytes, self.ingest_memory_bytes);
            return no(needs_more("push_max_bytes", a, "ingest_memory_bytes", b));
        }
        if self.push_max_decoded_bytes > self.ingest_memory_bytes {
            let (a, b) = (self.push_max_decoded_bytes, self.ingest_memory_bytes);
            return no(needs_more("push_max_decoded_bytes", a, "ingest_memory_bytes", b));
        }
        if self.batch_bytes > self.ingest_memory_bytes {
            return no(needs_more(
                "batch_bytes",
                self.batch_bytes,
                "ingest_memory_bytes",
                self.ingest_memory_bytes,
            ));
        }
        if self.max_line_bytes.0 > HARD_MAX_LINE_BYTES || self.max_line_bytes.0 == 0 {
            return no(format!(
                "max_line_bytes ({}) must be from 1B to {}",
                self.max_line_bytes.show(),
                ByteSize(HARD_MAX_LINE_BYTES).show()
            ));
        }
        if self.batch_bytes.0 == 0 {
            return no("batch_bytes (0B) must be larger than 0".to_owned());
        }
        if self.max_label_names == 0 || self.max_label_names > 1000 {
            return no(format!(
                "max_label_names ({}) must be from 1 to 1000",
                self.max_label_names
            ));
        }
        if self.max_metadata_fields > 1000 {
            return no(format!(
                "max_metadata_fields ({}) must be at most 1000",
                self.max_metadata_fields
            ));
        }
        if self.storage_timeout.is_zero() {
            return no("storage_timeout (0s) must be larger than 0s".to_owned());
        }
        self.validate_s3()?;
        let prefix = &self.path_prefix;
        if !prefix.is_empty()
            && (!prefix.starts_with('/') || prefix.ends_with('/') || prefix.contains(['{', '}', '*', '?']))
        {
            return no(format!(
                "path_prefix ({prefix}) must start with a slash, not end with one and hold no wildcard"
            ));
        }
        Ok(())
    }

    fn validate_s3(&self) -> Result<(), ConfigError> {
        let no = |message: String| Err(ConfigError::Contradiction(message));
        if self.s3_access_key_id.is_some() != self.s3_secret_access_key.is_some() {
            let (have, lack) = match self.s3_access_key_id {
                Some(_) => ("s3_access_key_id", "s3_secret_access_key"),
                None => ("s3_secret_access_key", "s3_access_key_id"),
            };
            return no(format!("{have} is set and {lack} is not: set both or neither"));
        }
        if let Some(folder) = &self.storage_disk_cache_folder {
            if !matches!(self.store, StoreUrl::S3 { .. }) {
                return no(format!(
                    "storage_disk_cache_folder ({folder}) is set, but store ({}) is no bucket: it needs no cache",
                    self.store
                ));
            }
            if self.storage_disk_cache_bytes.0 < MIN_DISK_CACHE_BYTES {
                return no(format!(
                    "storage_disk_cache_bytes ({}) must be at least {}",
                    self.storage_disk_cache_bytes.show(),
                    ByteSize(MIN_DISK_CACHE_BYTES).show()
                ));
            }
        }
        if let Some(endpoint) = &self.s3_endpoint {
            if !matches!(self.store, StoreUrl::S3 { .. }) {
                return no(format!(
                    "s3_endpoint ({endpoint}) is set, but store ({}) is no bucket",
                    self.store
                ));
            }
            if endpoint.starts_with("http://") && !self.s3_allow_http {
                return no(format!(
                    "s3_endpoint ({endpoint}) is plain HTTP, but s3_allow_http is false"
                ));
            }
            if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
                return no(format!(
                    "s3_endpoint ({endpoint}) must start with http:// or https://"
                ));
            }
        }
        Ok(())
    }

    /// How to reach the object store.
    #[must_use]
    pub fn storage(&self) -> StorageConfig {
        StorageConfig {
            url: self.store.clone(),
            endpoint: self.s3_endpoint.clone(),
            region: self.s3_region.clone(),
            access_key_id: self.s3_access_key_id.clone(),
            secret_access_key: self.s3_secret_access_key.clone(),
            path_style: self.s3_path_style,
            allow_http: self.s3_allow_http,
            timeout: self.storage_timeout,
            cache_bytes: self.storage_cache_bytes.0,
            disk_cache: self
                .storage_disk_cache_folder
                .as_ref()
                .map(|folder| DiskCacheConfig {
                    folder: folder.into(),
                    bytes: self.storage_disk_cache_bytes.0,
                }),
        }
    }

    /// Every option as a TOML line with its origin behind it; secrets are hidden.
    #[must_use]
    pub fn print(&self) -> String {
        let line = |s: &Setting| match s.origin {
            Origin::Default if s.value.is_empty() => format!("# {} is not set\n", s.name),
            _ => format!("{} = {:?}  # {}\n", s.name, s.value, s.origin),
        };
        self.settings.iter().map(line).collect()
    }
}

/// Reads a TOML file; keys of a section `[s3]` are `s3_…`.
fn read_file(path: &str, text: &str, sources: &mut Sources) -> Result<(), ConfigError> {
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| ConfigError::Syntax {
        path: path.to_owned(),
        reason: e.to_string(),
    })?;
    let mut flat = Vec::new();
    flatten("", "", table, &mut flat);
    for (key, name, value) in flat {
        if !options::NAMES.contains(&name.as_str()) {
            return Err(unknown(&key, &name, path, str::to_owned));
        }
        let origin = Origin::File(path.to_owned());
        let text = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Boolean(flag) => flag.to_string(),
            other => {
                let reason = format!("a {} is no value for an option", other.type_str());
                return Err(ConfigError::Value { key, origin, reason });
            }
        };
        if sources.given.contains_key(&name) {
            let reason = format!("set twice, as {name} and as {key}");
            return Err(ConfigError::Value { key, origin, reason });
        }
        sources.set(&name, text, origin);
    }
    Ok(())
}

/// Turns sections into prefixes: `(key as written, option name, value)`.
fn flatten(dotted: &str, prefix: &str, table: toml::Table, out: &mut Vec<(String, String, toml::Value)>) {
    for (key, value) in table {
        let (dotted, name) = (format!("{dotted}{key}"), format!("{prefix}{key}"));
        match value {
            toml::Value::Table(inner) => flatten(&format!("{dotted}."), &format!("{name}_"), inner, out),
            value => out.push((dotted, name, value)),
        }
    }
}

fn unknown(key: &str, name: &str, origin: &str, spell: impl Fn(&str) -> String) -> ConfigError {
    let near = options::NAMES
        .iter()
        .map(|known| (distance(name, known), known))
        .min();
    let hint = match near {
        Some((distance, known)) if distance <= 3 && distance * 3 <= name.len() => {
            format!(" (did you mean {}?)", spell(known))
        }
        _ => String::new(),
    };
    ConfigError::UnknownKey {
        key: key.to_owned(),
        origin: origin.to_owned(),
        hint,
    }
}

/// Edits (insert, delete, replace) between two names.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (y, above) in b.bytes().zip(row.iter_mut().skip(1)) {
            let best = (diagonal + usize::from(x != y)).min(left + 1).min(*above + 1);
            diagonal = *above;
            *above = best;
            left = best;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests;
