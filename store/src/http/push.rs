//! Push endpoints: Loki's and OTLP's. Reads bodies within their limits, has them decoded and checked off the async
//! threads, hands the good entries on and says which ones were refused.

use axum::Router;
use axum::body::Body as HttpBody;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use metrics::counter;
use prost::Message;

use super::AppState;
use super::error::ApiError;
use crate::clock::now_ns;
use crate::entry::{Entry, StreamEntries};
use crate::ingest::decode::{self, Body, DecodeError, JsonForm};
use crate::ingest::validate::Rules;
use crate::ingest::{PushError, Reservation};
use crate::metrics as names;
use crate::tenants;

/// Bodies larger than this are decoded on a blocking thread; smaller ones take less time than the way there.
const INLINE_DECODE_BYTES: usize = 16 * 1024;
/// Memory for unpacking is reserved at this multiple of the packed body.
const UNPACK_RATIO: u64 = 8;

/// Routes of this module.
pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/loki/api/v1/push", post(push_values))
        .route("/api/prom/push", post(push_entries))
        .route("/otlp/v1/logs", post(push_otlp))
}

async fn push_values(State(app): State<AppState>, headers: HeaderMap, body: HttpBody) -> Response {
    push(app, Format::Loki(JsonForm::Values), headers, body).await
}

async fn push_entries(State(app): State<AppState>, headers: HeaderMap, body: HttpBody) -> Response {
    push(app, Format::Loki(JsonForm::Entries), headers, body).await
}

async fn push_otlp(State(app): State<AppState>, headers: HeaderMap, body: HttpBody) -> Response {
    push(app, Format::Otlp, headers, body).await
}

/// What a path takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Loki(JsonForm),
    Otlp,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Self::Loki(JsonForm::Values) => "loki",
            Self::Loki(JsonForm::Entries) => "loki_legacy",
            Self::Otlp => "otlp",
        }
    }

    fn decode(self, body: &Body<'_>, now: i64) -> Result<Vec<StreamEntries>, DecodeError> {
        match self {
            Self::Loki(form) => decode::loki(body, form),
            Self::Otlp => decode::otlp(body, now),
        }
    }
}

async fn push(app: AppState, format: Format, headers: HeaderMap, body: HttpBody) -> Response {
    // A task of its own: a client that hangs up must not stop a push halfway.
    let work = tokio::spawn(async move { store(&app, format, &headers, body).await });
    let result = work
        .await
        .unwrap_or_else(|e| Err(ApiError::Internal(format!("push ended early: {e}"))));
    let status = result
        .as_ref()
        .err()
        .map_or(StatusCode::NO_CONTENT, ApiError::status);
    counter!(names::PUSH_REQUESTS, "format" => format.name(), "status" => status.as_u16().to_string())
        .increment(1);
    match (result, format) {
        (Ok(()), _) => StatusCode::NO_CONTENT.into_response(),
        (Err(error), Format::Loki(_)) => error.into_response(),
        (Err(error), Format::Otlp) => otlp_error(error),
    }
}

async fn store(app: &AppState, format: Format, headers: &HeaderMap, body: HttpBody) -> Result<(), ApiError> {
    let tenant = tenants::one(headers, app.config.tenants_required)?;
    let limit = app.config.push_max_bytes.0;
    let mut reservation = app.ingester.reserve().inspect_err(|e| refused(reason(e)))?;
    let bytes = read_body(body, headers, limit, &mut reservation).await?;
    counter!(names::PUSH_BYTES).increment(bytes.len() as u64);
    // What the body unpacks to is known only afterwards; logs shrink to an eighth or so.
    let packed = bytes.len() as u64;
    let unpacked = packed
        .saturating_mul(UNPACK_RATIO)
        .min(app.config.push_max_decoded_bytes.0);
    let reserved = match reservation.set(packed + unpacked) {
        // Alone it may still fit, once its true size is known.
        Err(PushError::TooLarge { .. }) => reservation.set(packed),
        other => other,
    };
    reserved.inspect_err(|e| refused(reason(e)))?;
    let decoded = decode_and_check(app, format, headers, bytes).await?;
    if !decoded.streams.is_empty() {
        let entries = decoded.streams.iter().flat_map(|stream| &stream.entries);
        let bytes = entries.map(Entry::memory_bytes).sum::<usize>() as u64;
        let stored = async {
            reservation.set(bytes)?;
            app.ingester
                .push_reserved(&tenant, decoded.streams, reservation)
                .await
        };
        stored.await.inspect_err(|e| refused(reason(e)))?;
    }
    match decoded.refusals.is_empty() {
        true => Ok(()),
        false => Err(ApiError::BadRequest(decoded.refusals.message())),
    }
}

/// The whole body, at most `limit` bytes of it; its memory is reserved as it comes.
async fn read_body(
    body: HttpBody,
    headers: &HeaderMap,
    limit: u64,
    reservation: &mut Reservation,
) -> Result<Bytes, ApiError> {
    let too_large = |bytes: u64| {
        refused("too_large");
        ApiError::TooLarge(format!(
            "request body too large: message size too large than max ({bytes} vs {limit})"
        ))
    };
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok());
    let announced: u64 = announced.and_then(|v| v.parse().ok()).unwrap_or_default();
    if announced > limit {
        return Err(too_large(announced));
    }
    reservation.set(announced).inspect_err(|e| refused(reason(e)))?;
    let mut whole = BytesMut::with_capacity(usize::try_from(announced).unwrap_or_default());
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| {
            refused("connection");
            ApiError::BadRequest(format!("request body ended early: {error}"))
        })?;
        let length = (whole.len() + chunk.len()) as u64;
        if length > limit {
            return Err(too_large(length));
        }
        reservation
            .set(length.max(announced))
            .inspect_err(|e| refused(reason(e)))?;
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}

/// A request whose entries may be stored, and what was refused of it.
struct Decoded {
    streams: Vec<StreamEntries>,
    refusals: crate::ingest::validate::Refusals,
}

async fn decode_and_check(
    app: &AppState,
    format: Format,
    headers: &HeaderMap,
    bytes: Bytes,
) -> Result<Decoded, ApiError> {
    let text = |name: header::HeaderName| headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let (content_type, content_encoding) = (text(header::CONTENT_TYPE), text(header::CONTENT_ENCODING));
    let (rules, max_decoded_bytes) = (
        Rules::from(&*app.config),
        app.config.push_max_decoded_bytes.as_usize(),
    );
    let inline = bytes.len() <= INLINE_DECODE_BYTES;
    let work = move || {
        let (content_type, content_encoding) = (content_type.as_deref(), content_encoding.as_deref());
        let now = now_ns();
        let body = Body {
            content_type,
            content_encoding,
            bytes,
            max_decoded_bytes,
        };
        let streams = format.decode(&body, now)?;
        if streams.is_empty() {
            return Err(Refused::Empty);
        }
        let (streams, refusals) = rules.apply(streams, now);
        Ok(Decoded { streams, refusals })
    };
    let result = match inline {
        true => work(),
        false => app.ingester.compute(work).await?,
    };
    let decoded = result?;
    for (reason, entries) in decoded.refusals.counts() {
        counter!(names::PUSH_REFUSED_ENTRIES, "reason" => *reason).increment(*entries);
    }
    Ok(decoded)
}

/// Why a request was refused before any entry of it was looked at.
enum Refused {
    Decode(DecodeError),
    Empty,
}

impl From<DecodeError> for Refused {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

impl From<Refused> for ApiError {
    fn from(why: Refused) -> Self {
        match why {
            Refused::Decode(error) => {
                refused(error.reason());
                match error {
                    DecodeError::TooLarge { .. } => Self::TooLarge(error.to_string()),
                    error => Self::BadRequest(error.to_string()),
                }
            }
            Refused::Empty => {
                refused(reason(&PushError::Empty));
                PushError::Empty.into()
            }
        }
    }
}

fn refused(reason: &'static str) {
    counter!(names::PUSH_REFUSED_REQUESTS, "reason" => reason).increment(1);
}

/// The `reason` under which a refused push is counted.
fn reason(error: &PushError) -> &'static str {
    match error {
        PushError::Empty => "empty",
        PushError::TooLarge { .. } => "too_large",
        PushError::Overloaded { .. } => "overloaded",
        PushError::Stopping => "stopping",
        PushError::Storage(_) => "storage",
        PushError::Refused(_) => "refused",
        PushError::Internal(_) => "internal",
    }
}

/// `google.rpc.Status`, which OTLP clients expect as the body of an error.
#[derive(Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

fn otlp_error(error: ApiError) -> Response {
    // OTLP clients give up on 500 and come again on 503.
    let error = match error {
        ApiError::Internal(text) => ApiError::Unavailable(text),
        other => other,
    };
    let body = RpcStatus {
        code: 0,
        message: error.to_string(),
    }
    .encode_to_vec();
    let mut response = error.into_response();
    *response.body_mut() = HttpBody::from(body);
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/x-protobuf"),
    );
    response.headers_mut().remove(header::CONTENT_LENGTH);
    response
}
