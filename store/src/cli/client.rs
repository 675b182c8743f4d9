//! The HTTP client the commands share: where the server is, as which tenant, and how its errors are told.
//!
//! It knows no endpoint's meaning; `push` and `query` bring paths and bodies.

use std::time::Duration;

use anyhow::Context;
use clap::Args;
use http::header::{HeaderMap, HeaderValue};
use url::{Host, Url};

/// Header that names the tenant.
pub const TENANT_HEADER: &str = "x-scope-orgid";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Which server, as whom.
#[derive(Debug, Clone, Args)]
pub struct ServerArgs {
    /// Address of the service
    #[arg(
        long,
        env = "RANKLINE_URL",
        default_value = "http://127.0.0.1:3100",
        value_name = "URL"
    )]
    pub url: Url,
    /// Tenant to act as (sent as X-Scope-OrgID)
    #[arg(long, env = "RANKLINE_TENANT", value_name = "NAME")]
    pub tenant: Option<String>,
}

/// What an HTTP request to the service ended with when it did not end well.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No complete answer: not reachable, timed out, connection lost.
    #[error("no answer from {url}: {}", root_cause(.source))]
    NoAnswer {
        /// The server's address.
        url: String,
        /// What the HTTP client said.
        source: reqwest::Error,
    },
    /// The server answered with an error.
    #[error("{message} (HTTP {status})")]
    Status {
        /// HTTP status.
        status: u16,
        /// The body's text, or the status's name when it is empty.
        message: String,
        /// The server's `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// The WebSocket could not be opened.
    #[error("no answer from {url}: {reason}")]
    Socket {
        /// The server's address.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// The answer isn't what the API promises.
    #[error("the answer of {url} is not understood: {reason}")]
    Malformed {
        /// The server's address.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// The innermost cause says what happened (`connection refused`); the layers above only that something did.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// A client of one server and tenant. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    tenant: Option<HeaderValue>,
}

impl Client {
    /// A client for `server`; `timeout` bounds each request as a whole.
    ///
    /// # Errors
    /// An address that is not `http(s)://host…`, or a tenant that can't be a header's value.
    pub fn new(server: &ServerArgs, timeout: Duration) -> anyhow::Result<Self> {
        install_tls();
        let base = server.url.clone();
        if !matches!(base.scheme(), "http" | "https") || base.host().is_none() {
            anyhow::bail!("--url {base}: expected http://host:port or https://host:port");
        }
        let tenant = server
            .tenant
            .as_deref()
            .map(HeaderValue::from_str)
            .transpose()
            .context("--tenant: not usable as a header value")?;
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("rankline/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(timeout);
        if is_loopback(&base) {
            builder = builder.no_proxy();
        }
        Ok(Self {
            http: builder.build().context("cannot set up the HTTP client")?,
            base,
            tenant,
        })
    }

    /// The server's address, for messages.
    pub fn base(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// The address of `path` (which starts with `/`) on this server.
    pub fn address(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        let joined = format!("{}{path}", url.path().trim_end_matches('/'));
        url.set_path(&joined);
        url.set_query(None);
        url
    }

    /// Headers every request carries.
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(tenant) = &self.tenant {
            headers.insert(TENANT_HEADER, tenant.clone());
        }
        headers
    }

    /// `GET path?query`, giving the body of a 2xx answer.
    ///
    /// # Errors
    /// No answer, or one with another status.
    pub async fn get(
        &self,
        path: &str,
        query: &[(&str, String)],
        headers: HeaderMap,
    ) -> Result<bytes::Bytes, ClientError> {
        self.finish(self.http.get(self.address(path)).query(query).headers(headers))
            .await
    }

    /// `POST path` with `body`, giving the body of a 2xx answer.
    ///
    /// # Errors
    /// No answer, or one with another status.
    pub async fn post(
        &self,
        path: &str,
        headers: HeaderMap,
        body: bytes::Bytes,
    ) -> Result<bytes::Bytes, ClientError> {
        self.finish(self.http.post(self.address(path)).headers(headers).body(body))
            .await
    }

    async fn finish(&self, request: reqwest::RequestBuilder) -> Result<bytes::Bytes, ClientError> {
        let no_answer = |source| ClientError::NoAnswer {
            url: self.base().to_owned(),
            source,
        };
        let response = request.headers(self.headers()).send().await.map_err(no_answer)?;
        let status = response.status();
        if status.is_success() {
            return response.bytes().await.map_err(no_answer);
        }
        let retry_after = response
            .headers()
            .get(http::header::RETRY_AFTER)
            .and_then(parse_retry_after);
        let body = response.bytes().await.map_err(no_answer)?;
        let text = String::from_utf8_lossy(&body).trim().to_owned();
        let message = if text.is_empty() {
            status.canonical_reason().unwrap_or("error").to_lowercase()
        } else {
            text
        };
        Err(ClientError::Status {
            status: status.as_u16(),
            message,
            retry_after,
        })
    }
}

/// `Retry-After` is a number of seconds or an HTTP date (RFC 9110 §10.2.3).
fn parse_retry_after(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Duration::try_from(at.duration_since(jiff::Timestamp::now())).ok()
}

/// A proxy from the environment is for the network, not for this machine.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Makes *ring* the TLS library of the process; needed before a client is built.
pub fn install_tls() {
    // An error means that another one was installed before, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn client(url: &str) -> anyhow::Result<Client> {
        Client::new(
            &ServerArgs {
                url: url.parse().unwrap(),
                tenant: None,
            },
            Duration::from_secs(1),
        )
    }

    #[test]
    fn keeps_a_path_prefix() {
        let address = |url, path| client(url).unwrap().address(path).to_string();
        assert_eq!(address("http://h:1", "/ready"), "http://h:1/ready");
        assert_eq!(address("http://h:1/logs/", "/ready"), "http://h:1/logs/ready");
    }

    #[test]
    fn refuses_other_schemes() {
        let error = client("file:///tmp").unwrap_err().to_string();
        assert!(error.contains("expected http://"), "{error}");
    }

    #[test]
    fn reads_retry_after_as_seconds_or_date() {
        assert_eq!(
            parse_retry_after(&HeaderValue::from_static("7")),
            Some(Duration::from_secs(7))
        );
        assert_eq!(parse_retry_after(&HeaderValue::from_static("soon")), None);
        let ahead = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(100);
        let date = ahead.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let wait = parse_retry_after(&HeaderValue::from_str(&date).unwrap()).unwrap();
        assert!(
            wait <= Duration::from_secs(100) && wait > Duration::from_secs(95),
            "{wait:?}"
        );
    }
}
