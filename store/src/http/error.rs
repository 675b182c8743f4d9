//! The one place that turns typed errors into a status and Loki's plain-text body.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use crate::catalog::CatalogError;
use crate::ingest::PushError;
use crate::query::QueryError;
use crate::storage::StorageError;
use crate::tenants::TenantError;

/// Seconds a client is asked to wait before it sends a refused push again.
const RETRY_AFTER_SECS: &str = "1";

/// What a handler answers when it can't do what was asked. The text is the body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The request is wrong: 400.
    #[error("{0}")]
    BadRequest(String),
    /// No tenant: 401.
    #[error("{0}")]
    Unauthorized(String),
    /// No such thing: 404.
    #[error("{0}")]
    NotFound(String),
    /// The body is too large: 413.
    #[error("{0}")]
    TooLarge(String),
    /// Well-formed but empty: 422.
    #[error("{0}")]
    Unprocessable(String),
    /// Too much at once, with `Retry-After`: 429.
    #[error("{0}")]
    TooMany(String),
    /// The client went away: 499.
    #[error("the request was cancelled by the client")]
    Cancelled,
    /// Something broke on our side: 500.
    #[error("{0}")]
    Internal(String),
    /// Part of the API that isn't built: 501.
    #[error("{0}")]
    NotBuilt(String),
    /// Not now (shutting down, or the object store doesn't answer), with `Retry-After`: 503.
    #[error("{0}")]
    Unavailable(String),
    /// It took too long: 504.
    #[error("{0}")]
    Timeout(String),
}

impl ApiError {
    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unprocessable(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NotBuilt(_) => StatusCode::NOT_IMPLEMENTED,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Timeout(_) => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// An endpoint that isn't built, with the reason.
    #[must_use]
    pub fn not_built(what: &str) -> Self {
        Self::NotBuilt(format!("{what} is not implemented by rankline"))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status();
        if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED {
            tracing::warn!(status = status.as_u16(), error = %self, "request failed");
        }
        let retry = matches!(self, Self::TooMany(_) | Self::Unavailable(_));
        let mut response = (status, self.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        headers.insert(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        if retry {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECS));
        }
        response
    }
}

impl From<TenantError> for ApiError {
    fn from(error: TenantError) -> Self {
        match error {
            TenantError::Missing => Self::Unauthorized(error.to_string()),
            _ => Self::BadRequest(error.to_string()),
        }
    }
}

impl From<StorageError> for ApiError {
    fn from(error: StorageError) -> Self {
        Self::Internal(error.to_string())
    }
}

impl From<CatalogError> for ApiError {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::Stopped => Self::Unavailable(error.to_string()),
            _ => Self::Internal(error.to_string()),
        }
    }
}

impl From<PushError> for ApiError {
    fn from(error: PushError) -> Self {
        let text = error.to_string();
        match error {
            PushError::Empty => Self::Unprocessable(text),
            PushError::TooLarge { .. } => Self::TooLarge(text),
            PushError::Overloaded { .. } => Self::TooMany(text),
            PushError::Stopping | PushError::Storage(_) => Self::Unavailable(text),
            PushError::Refused(_) => Self::BadRequest(text),
            PushError::Internal(_) => Self::Internal(text),
        }
    }
}

impl From<rankline_logql::ParseError> for ApiError {
    fn from(error: rankline_logql::ParseError) -> Self {
        Self::BadRequest(error.with_advice())
    }
}

impl From<rankline_logql::EvalError> for ApiError {
    fn from(error: rankline_logql::EvalError) -> Self {
        match error.kind() {
            rankline_logql::ErrorKind::Invalid => Self::BadRequest(error.to_string()),
            rankline_logql::ErrorKind::Internal => Self::Internal(error.to_string()),
        }
    }
}

impl From<super::params::ParamError> for ApiError {
    fn from(error: super::params::ParamError) -> Self {
        Self::BadRequest(error.0)
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        let text = error.to_string();
        match error {
            QueryError::Parse(why) => why.into(),
            QueryError::Invalid(_) | QueryError::Memory { .. } | QueryError::TooManyBytes { .. } => {
                Self::BadRequest(text)
            }
            QueryError::Eval(why) => why.into(),
            QueryError::Cancelled => Self::Cancelled,
            QueryError::Timeout => Self::Timeout(text),
            QueryError::Catalog(why) => why.into(),
            QueryError::Storage(why) => why.into(),
            QueryError::Segment { .. } | QueryError::Worker => Self::Internal(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overload_says_when_to_come_back() {
        let response = ApiError::TooMany("full".into()).into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        assert_eq!(
            response.headers()[header::CONTENT_TYPE],
            "text/plain; charset=utf-8"
        );
    }

    #[test]
    fn tenants_missing_is_401_all_else_400() {
        assert_eq!(
            ApiError::from(TenantError::Missing).status(),
            StatusCode::UNAUTHORIZED
        );
        assert_eq!(
            ApiError::from(TenantError::Multiple).status(),
            StatusCode::BAD_REQUEST
        );
    }
}
