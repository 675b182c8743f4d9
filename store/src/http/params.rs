//! Request parameters of the query endpoints: how they are read from a URL or a form, and Loki's rules for times,
//! durations, limits and directions.
//!
//! Knows nothing of queries or storage; the texts of its errors are Loki's.

use crate::query::Direction;
use axum::body::Body;
use axum::extract::{FromRequest, Request};
use http::{Method, header};
use rankline_logql::Matcher;

/// Largest form body that is read, bytes.
pub const MAX_FORM_BYTES: usize = 10 << 20;

/// Points a range query may ask for in each series.
pub const MAX_POINTS: i64 = 11_000;

const NS_PER_SEC: i64 = 1_000_000_000;
const NS_PER_MS: i64 = 1_000_000;
/// Range that is read when the request names none.
const DEFAULT_SINCE_NS: i64 = 3_600 * NS_PER_SEC;

/// A parameter that is missing, malformed or contradicts another one. Always the caller's fault (400).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParamError(pub String);

impl ParamError {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// The parameters of one request: the form's, then the URL's, in the order they were sent.
#[derive(Debug, Default, Clone)]
pub struct Params {
    pairs: Vec<(String, String)>,
    /// Whether a `query` was not UTF-8.
    bad_query: bool,
}

impl Params {
    /// Reads `a=1&b=2` texts, `+` meaning a space.
    ///
    /// # Errors
    /// A broken percent escape, or a `;` between parameters.
    pub fn parse(texts: &[&str]) -> Result<Self, ParamError> {
        let (mut pairs, mut bad_query) = (Vec::new(), false);
        for text in texts {
            for part in text.split('&').filter(|part| !part.is_empty()) {
                if part.contains(';') {
                    return Err(ParamError::new("invalid semicolon separator in query"));
                }
                let (name, value) = part.split_once('=').unwrap_or((part, ""));
                let (name, (value, is_utf8)) = (unescape(name)?.0, unescape(value)?);
                bad_query |= name == "query" && !is_utf8;
                pairs.push((name, value));
            }
        }
        Ok(Self { pairs, bad_query })
    }

    /// First value of `name`; an absent parameter reads as the empty text.
    pub fn get(&self, name: &str) -> &str {
        self.pairs
            .iter()
            .find(|(key, _)| key == name)
            .map_or("", |(_, value)| value)
    }

    /// All values of a repeatable parameter that goes by any of `names`.
    pub fn all<'a>(&'a self, names: &'a [&str]) -> impl Iterator<Item = &'a str> {
        self.pairs
            .iter()
            .filter(|(key, _)| names.contains(&key.as_str()))
            .map(|(_, value)| value.as_str())
    }

    /// The `query` parameter.
    ///
    /// # Errors
    /// Absent or empty: the text is what Loki's parser says to an empty query.
    pub fn query(&self) -> Result<&str, ParamError> {
        match self.get("query") {
            _ if self.bad_query => Err(ParamError::new("parse error : invalid UTF-8 encoding")),
            "" => Err(ParamError::new("parse error : syntax error: unexpected $end")),
            query => Ok(query),
        }
    }

    /// `start` and `end` in ns since the epoch, from `start`, `end` and `since`; `now` bounds what is left out.
    pub fn bounds(&self, now: i64) -> Result<(i64, i64), ParamError> {
        let named = |name: &str, why: ParamError| {
            ParamError(format!("could not parse '{name}' parameter: {}", why.0))
        };
        let since = match self.get("since") {
            "" => DEFAULT_SINCE_NS,
            text => parse_prometheus_duration(text).map_err(|why| named("since", why))?,
        };
        let end = parse_timestamp(self.get("end"))
            .map_err(|why| named("end", why))?
            .unwrap_or(now);
        let start = parse_timestamp(self.get("start")).map_err(|why| named("start", why))?;
        Ok((start.unwrap_or_else(|| end.min(now).saturating_sub(since)), end))
    }

    /// `time` of an instant query, ns since the epoch.
    pub fn time(&self, now: i64) -> Result<i64, ParamError> {
        Ok(parse_timestamp(self.get("time"))?.unwrap_or(now))
    }

    /// `limit`, or `default` when it is not sent.
    pub fn limit(&self, name: &str, default: usize) -> Result<usize, ParamError> {
        let text = self.get(name);
        if text.is_empty() {
            return Ok(default);
        }
        let value = parse_int(text, "Atoi")?;
        usize::try_from(value)
            .ok()
            .filter(|value| *value > 0)
            .ok_or_else(|| ParamError::new("limit must be a positive value"))
    }

    /// `direction`; backward when it is not sent.
    pub fn direction(&self) -> Result<Direction, ParamError> {
        let text = self.get("direction");
        if text.is_empty() || text.eq_ignore_ascii_case("backward") {
            Ok(Direction::Backward)
        } else if text.eq_ignore_ascii_case("forward") {
            Ok(Direction::Forward)
        } else {
            Err(ParamError(format!("invalid direction '{text}'")))
        }
    }

    /// `step` in ns, at least 1 ms; derived from the range when it is not sent.
    pub fn step(&self, start: i64, end: i64) -> Result<i64, ParamError> {
        let step = match self.get("step") {
            "" => default_step(start, end),
            text => parse_duration(text)?,
        };
        if step <= 0 {
            return Err(ParamError::new(
                "zero or negative query resolution step widths are not accepted. Try a positive integer",
            ));
        }
        Ok((step - step % NS_PER_MS).max(NS_PER_MS))
    }

    /// `interval` of a log query in ns; 0 when it is not sent.
    pub fn interval(&self) -> Result<i64, ParamError> {
        match self.get("interval") {
            "" => Ok(0),
            text => match parse_duration(text)? {
                interval if interval < 0 => Err(ParamError::new("interval must be >= 0")),
                interval => Ok(interval),
            },
        }
    }
}

/// A selector that has to name something: one matcher at least must not match an absent label.
///
/// # Errors
/// Not a plain selector, or one that every stream could pass.
pub fn selector(query: &str) -> Result<Vec<Matcher>, ParamError> {
    let matchers = rankline_logql::parse_selector(query).map_err(|why| ParamError(why.to_string()))?;
    check_selective(&matchers)?;
    Ok(matchers)
}

/// Refuses matchers that every stream could pass.
///
/// # Errors
/// All of them match an absent label.
pub fn check_selective(matchers: &[Matcher]) -> Result<(), ParamError> {
    if matchers.iter().all(|matcher| matcher.matches("")) {
        return Err(ParamError::new(
            "parse error : queries require at least one regexp or equality matcher that does not have an empty-compatible value. For instance, app=~\".*\" does not meet this requirement, but app=~\".+\" will",
        ));
    }
    Ok(())
}

/// Refuses a range that ends before it starts.
pub fn check_order(start: i64, end: i64) -> Result<(), ParamError> {
    if end < start {
        return Err(ParamError::new(
            "end timestamp must not be before or equal to start time",
        ));
    }
    Ok(())
}

/// Refuses a range query of more than [`MAX_POINTS`] points a series.
pub fn check_resolution(start: i64, end: i64, step: i64) -> Result<(), ParamError> {
    if end.saturating_sub(start) / step.max(1) > MAX_POINTS {
        return Err(ParamError::new(
            "exceeded maximum resolution of 11,000 points per time series. Try increasing the value of the step parameter",
        ));
    }
    Ok(())
}

fn default_step(start: i64, end: i64) -> i64 {
    let seconds = end.saturating_sub(start) / NS_PER_SEC / 250;
    seconds.max(1) * NS_PER_SEC
}

/// A time as Loki reads it; `None` for an empty text.
///
/// With a fraction: seconds, to the millisecond. Up to ten characters: seconds. Longer: nanoseconds. Else RFC 3339.
pub fn parse_timestamp(text: &str) -> Result<Option<i64>, ParamError> {
    if text.is_empty() {
        return Ok(None);
    }
    if text.contains('.')
        && let Ok(seconds) = text.parse::<f64>()
    {
        let whole = seconds.trunc();
        let millis = ((seconds - whole) * 1000.0).round();
        // `as` saturates, which is what a time beyond the representable range should do.
        let ns = (whole as i64)
            .saturating_mul(NS_PER_SEC)
            .saturating_add(millis as i64 * NS_PER_MS);
        return Ok(Some(ns));
    }
    match parse_int(text, "ParseInt") {
        Ok(value) if text.len() <= 10 => Ok(Some(value.saturating_mul(NS_PER_SEC))),
        Ok(value) => Ok(Some(value)),
        Err(why) => rfc3339(text).map(Some).ok_or(why),
    }
}

/// An RFC 3339 time in ns, written as strictly as Go wants it: capital `T` and `Z`, seconds, a colon in the offset.
pub(super) fn rfc3339(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let is = |at: usize, wanted: &[u8]| bytes.get(at).is_some_and(|byte| wanted.contains(byte));
    let offset_at = bytes.len().checked_sub(6);
    let zone = text.ends_with('Z') || offset_at.is_some_and(|at| is(at, b"+-") && is(at + 3, b":"));
    if !(is(10, b"T") && is(13, b":") && is(16, b":") && zone) {
        return None;
    }
    let time = text.parse::<jiff::Timestamp>().ok()?;
    Some(saturate(time.as_nanosecond()))
}

fn saturate(ns: i128) -> i64 {
    i64::try_from(ns).unwrap_or(if ns < 0 { i64::MIN } else { i64::MAX })
}

/// An integer, or the error text of Go's `strconv` that Loki answers with.
fn parse_int(text: &str, function: &str) -> Result<i64, ParamError> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    text.parse::<i64>().map_err(|why| {
        let cause = match why.kind() {
            PosOverflow | NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        ParamError(format!("strconv.{function}: parsing {text:?}: {cause}"))
    })
}

/// A `step` or `interval` in ns: seconds as a number, or a Prometheus duration.
pub fn parse_duration(text: &str) -> Result<i64, ParamError> {
    if let Ok(seconds) = text.parse::<f64>() {
        if seconds.is_nan() {
            // Go's conversion makes the smallest integer of it, which the callers refuse.
            return Ok(i64::MIN);
        }
        let ns = seconds * NS_PER_SEC as f64;
        if !ns.is_finite() || ns.abs() >= i64::MAX as f64 {
            return Err(ParamError(format!(
                "cannot parse {text:?} to a valid duration. It overflows int64"
            )));
        }
        return Ok(ns as i64);
    }
    parse_prometheus_duration(text)
        .map_err(|_| ParamError(format!("cannot parse {text:?} to a valid duration")))
}

const UNITS: [(&str, i64); 7] = [
    ("y", 365 * 24 * 3_600_000),
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// A Prometheus duration in ns: integers with units from years to milliseconds, large ones first, each once.
pub fn parse_prometheus_duration(text: &str) -> Result<i64, ParamError> {
    if text.is_empty() {
        return Err(ParamError::new("empty duration string"));
    }
    if text == "0" {
        return Ok(0);
    }
    let invalid = || ParamError(format!("not a valid duration string: {text:?}"));
    let overflow = || ParamError::new("duration out of range");
    let (mut rest, mut total_ms, mut next_unit) = (text, 0i64, 0);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(|byte| !byte.is_ascii_digit()).count();
        let (unit, tail) = tail.split_at(letters);
        if number.is_empty() || unit.is_empty() {
            return Err(invalid());
        }
        let Some(place) = UNITS.iter().position(|(name, _)| *name == unit) else {
            return Err(ParamError(format!("unknown unit {unit:?} in duration {text:?}")));
        };
        if place < next_unit {
            return Err(invalid());
        }
        let count = number.parse::<i64>().map_err(|_| overflow())?;
        let ms = count.checked_mul(UNITS[place].1).ok_or_else(overflow)?;
        total_ms = total_ms.checked_add(ms).ok_or_else(overflow)?;
        (next_unit, rest) = (place + 1, tail);
    }
    total_ms.checked_mul(NS_PER_MS).ok_or_else(overflow)
}

/// Undoes form encoding; whether it was UTF-8. Bytes that are not become replacement characters.
fn unescape(text: &str) -> Result<(String, bool), ParamError> {
    if !text.bytes().any(|byte| byte == b'%' || byte == b'+') {
        return Ok((text.to_owned(), true));
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let hex = bytes
                    .get(at + 1..at + 3)
                    .and_then(|two| Some((hex_digit(two[0])? << 4) | hex_digit(two[1])?));
                let Some(value) = hex else {
                    let shown = String::from_utf8_lossy(&bytes[at..bytes.len().min(at + 3)]).into_owned();
                    return Err(ParamError(format!("invalid URL escape {shown:?}")));
                };
                out.push(value);
                at += 2;
            }
            _ => out.push(byte),
        }
        at += 1;
    }
    Ok(match String::from_utf8(out) {
        Ok(text) => (text, true),
        Err(why) => (String::from_utf8_lossy(why.as_bytes()).into_owned(), false),
    })
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

impl<S: Send + Sync> FromRequest<S> for Params {
    type Rejection = super::error::ApiError;

    async fn from_request(request: Request<Body>, _state: &S) -> Result<Self, Self::Rejection> {
        let (parts, body) = request.into_parts();
        let content_type = parts
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("");
        let is_form = content_type.split(';').next().is_some_and(|kind| {
            kind.trim()
                .eq_ignore_ascii_case("application/x-www-form-urlencoded")
        });
        let mut form = String::new();
        if is_form && [Method::POST, Method::PUT, Method::PATCH].contains(&parts.method) {
            let bytes = axum::body::to_bytes(body, MAX_FORM_BYTES).await.map_err(|_| {
                ParamError(format!(
                    "form body could not be read or is above {MAX_FORM_BYTES} bytes"
                ))
            })?;
            form = String::from_utf8_lossy(&bytes).into_owned();
        }
        Ok(Self::parse(&[&form, parts.uri.query().unwrap_or("")])?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn params(text: &str) -> Params {
        Params::parse(&[text]).unwrap()
    }

    fn fails<T: std::fmt::Debug>(result: Result<T, ParamError>) -> String {
        result.unwrap_err().0
    }

    #[test]
    fn form_values_come_before_those_of_the_url_and_plus_is_a_space() {
        let both = Params::parse(&["query=a+b%2B", "query=c&match%5B%5D=1&match=2"]).unwrap();
        assert_eq!(both.get("query"), "a b+");
        assert_eq!(both.all(&["match[]", "match"]).collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(both.get("absent"), "");
    }

    #[test]
    fn broken_escapes_are_named() {
        assert_eq!(fails(Params::parse(&["a=%zz"])), "invalid URL escape \"%zz\"");
        assert_eq!(fails(Params::parse(&["a=%4"])), "invalid URL escape \"%4\"");
        assert_eq!(
            fails(Params::parse(&["a=1;b=2"])),
            "invalid semicolon separator in query"
        );
        assert_eq!(params("a=%ff").get("a"), "\u{fffd}");
    }

    #[test]
    fn times_are_seconds_nanoseconds_or_rfc_3339() {
        let time = |text| parse_timestamp(text).unwrap().unwrap();
        assert_eq!(time("1767571200"), 1_767_571_200_000_000_000);
        assert_eq!(time("1767571200000000001"), 1_767_571_200_000_000_001);
        assert_eq!(time("1767571200.0016"), 1_767_571_200_002_000_000);
        assert_eq!(time("1767571200123"), 1_767_571_200_123);
        assert_eq!(time("2026-01-05T00:00:00.5Z"), 1_767_571_200_500_000_000);
        assert_eq!(time("2026-01-05T02:00:00+02:00"), 1_767_571_200_000_000_000);
        for strict in [
            "2026-01-05 00:00:00Z",
            "2026-01-05t00:00:00z",
            "2026-01-05T00:00Z",
            "2026-01-05T00:00:00+0200",
            "2026-01-05T00:00:00",
        ] {
            assert!(parse_timestamp(strict).is_err(), "{strict}");
        }
        assert_eq!(time("2026-01-05T01:00:00+01:00"), 1_767_571_200_000_000_000);
        assert_eq!(time("4"), 4_000_000_000);
        assert_eq!(time("9999999999"), i64::MAX);
        assert_eq!(parse_timestamp("").unwrap(), None);
        assert_eq!(
            fails(parse_timestamp("2026-01-05")),
            "strconv.ParseInt: parsing \"2026-01-05\": invalid syntax"
        );
        assert!(fails(parse_timestamp("99999999999999999999")).ends_with("value out of range"));
    }

    #[test]
    fn durations_follow_prometheus() {
        let ms = |text| parse_prometheus_duration(text).unwrap() / NS_PER_MS;
        assert_eq!(ms("1h30m"), 5_400_000);
        assert_eq!(ms("500ms"), 500);
        assert_eq!(
            ms("1y2w3d4h5m6s7ms"),
            31_536_000_000 + 1_209_600_000 + 259_200_000 + 14_706_007
        );
        assert_eq!(ms("0"), 0);
        for bad in [
            "1.5s",
            "5",
            "s",
            "1s1h",
            "1s1s",
            "1x",
            "-1s",
            "",
            "9999999999999999999y",
        ] {
            assert!(parse_prometheus_duration(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_duration("1e3").unwrap(), 1_000 * NS_PER_SEC);
        assert_eq!(parse_duration("0.5").unwrap(), NS_PER_SEC / 2);
        assert_eq!(
            fails(parse_duration("bogus")),
            "cannot parse \"bogus\" to a valid duration"
        );
        assert!(fails(parse_duration("1e300")).contains("overflows"));
        assert_eq!(parse_duration("nan"), Ok(i64::MIN));
    }

    #[test]
    fn bounds_default_to_the_last_hour() {
        let now = 1_767_571_200_000_000_000;
        assert_eq!(params("").bounds(now).unwrap(), (now - DEFAULT_SINCE_NS, now));
        assert_eq!(
            params("since=5m").bounds(now).unwrap(),
            (now - 300 * NS_PER_SEC, now)
        );
        assert_eq!(
            params("end=9999999999&since=1m").bounds(now).unwrap().0,
            now - 60 * NS_PER_SEC
        );
        assert_eq!(
            fails(params("since=5").bounds(now)),
            "could not parse 'since' parameter: not a valid duration string: \"5\""
        );
        assert_eq!(
            fails(params("start=bogus").bounds(now)),
            "could not parse 'start' parameter: strconv.ParseInt: parsing \"bogus\": invalid syntax"
        );
    }

    #[test]
    fn limits_and_directions() {
        assert_eq!(params("").limit("limit", 100).unwrap(), 100);
        assert_eq!(params("limit=7").limit("limit", 100).unwrap(), 7);
        assert_eq!(
            fails(params("limit=0").limit("limit", 100)),
            "limit must be a positive value"
        );
        assert_eq!(
            fails(params("limit=-1").limit("limit", 100)),
            "limit must be a positive value"
        );
        assert_eq!(
            fails(params("limit=1.5").limit("limit", 1)),
            "strconv.Atoi: parsing \"1.5\": invalid syntax"
        );
        assert_eq!(
            params("direction=FORWARD").direction().unwrap(),
            Direction::Forward
        );
        assert_eq!(params("").direction().unwrap(), Direction::Backward);
        assert_eq!(
            fails(params("direction=up").direction()),
            "invalid direction 'up'"
        );
    }

    #[test]
    fn steps_are_positive_and_bounded() {
        let hour = 3_600 * NS_PER_SEC;
        assert_eq!(params("").step(0, hour).unwrap(), 14 * NS_PER_SEC);
        assert_eq!(params("").step(0, 0).unwrap(), NS_PER_SEC);
        assert_eq!(params("step=90000ms").step(0, hour).unwrap(), 90 * NS_PER_SEC);
        assert!(fails(params("step=0").step(0, hour)).starts_with("zero or negative"));
        assert!(fails(params("step=-1").step(0, hour)).starts_with("zero or negative"));
        assert!(check_resolution(0, 11_000 * NS_PER_SEC, NS_PER_SEC).is_ok());
        assert!(check_resolution(0, 20_000 * NS_PER_SEC, NS_PER_SEC).is_err());
        assert_eq!(params("interval=5s").interval().unwrap(), 5 * NS_PER_SEC);
        assert_eq!(fails(params("interval=-5").interval()), "interval must be >= 0");
        assert!(check_order(2, 1).is_err() && check_order(1, 1).is_ok());
    }
}
