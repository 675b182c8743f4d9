//! Loki's two JSON forms of a push. Read straight into entries: no tree of the document is built, and a string
//! without escapes stays a slice of the body.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use bytestring::ByteString;
use rankline_logql::Labels;
use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::DecodeError;
use crate::entry::{Entry, Pair, StreamEntries};
use crate::ingest::recent_labels;

/// `/loki/api/v1/push`.
pub(super) fn values(body: Bytes) -> Result<Vec<StreamEntries>, DecodeError> {
    with_text(body, |text, body| {
        let request: Request<ValuesStream<'_>> = read(text)?;
        request
            .streams()
            .map(|stream| stream.into_entries(body))
            .collect()
    })
}

/// `/api/prom/push`.
pub(super) fn entries(body: Bytes) -> Result<Vec<StreamEntries>, DecodeError> {
    with_text(body, |text, body| {
        let request: Request<EntriesStream<'_>> = read(text)?;
        request
            .streams()
            .map(|stream| stream.into_entries(body))
            .collect()
    })
}

/// Runs `decode` on the body as text. Bytes that aren't UTF-8 and escapes that name half a character become U+FFFD:
/// one broken character must not cost a batch.
fn with_text<T>(
    body: Bytes,
    decode: impl Fn(&str, &Bytes) -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    let body = match std::str::from_utf8(&body) {
        Ok(_) => body,
        Err(_) => Bytes::from(String::from_utf8_lossy(&body).into_owned()),
    };
    let text = std::str::from_utf8(&body).map_err(|e| DecodeError::Message(e.to_string()))?;
    match decode(text, &body) {
        Err(DecodeError::Message(_)) if text.contains("\\ud") || text.contains("\\uD") => {
            let mended = Bytes::from(mend_surrogates(text));
            let text = std::str::from_utf8(&mended).map_err(|e| DecodeError::Message(e.to_string()))?;
            decode(text, &mended)
        }
        result => result,
    }
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, DecodeError> {
    if text.trim_ascii().is_empty() {
        return Err(DecodeError::Message("EOF".to_owned()));
    }
    // serde takes a list for a struct, in the order of its fields; Loki doesn't.
    if !text.trim_ascii_start().starts_with(['{', 'n']) {
        return Err(DecodeError::Message("push request is no JSON object".to_owned()));
    }
    // What follows the document is ignored, as Loki does.
    T::deserialize(&mut serde_json::Deserializer::from_str(text))
        .map_err(|e| DecodeError::Message(format!("push request is no JSON of Loki's form: {e}")))
}

/// Replaces `\uD800`–`\uDFFF` escapes that are not one half of a pair by `\ufffd`, byte for byte as long.
fn mend_surrogates(text: &str) -> String {
    let mut out = text.as_bytes().to_vec();
    let mut at = 0;
    while let Some(found) = out
        .get(at..)
        .and_then(|rest| rest.iter().position(|b| *b == b'\\'))
    {
        let start = at + found;
        let high = surrogate(&out, start);
        at = start + 2;
        match high {
            Some(code) if code < 0xDC00 && surrogate(&out, start + 6).is_some_and(|low| low >= 0xDC00) => {
                at = start + 12
            }
            Some(_) => {
                if let Some(escape) = out.get_mut(start..start + 6) {
                    escape.copy_from_slice(b"\\ufffd");
                }
                at = start + 6;
            }
            None => {}
        }
    }
    String::from_utf8(out).unwrap_or_default()
}

/// The code of a surrogate's escape that starts at `at`.
fn surrogate(bytes: &[u8], at: usize) -> Option<u32> {
    let escape = bytes.get(at..at.checked_add(6)?)?;
    let digits = escape.strip_prefix(b"\\u")?;
    let code = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    (0xD800..=0xDFFF).contains(&code).then_some(code)
}

/// `{"streams": […]}`; `null`, a missing list and `null` streams count as none.
struct Request<S>(Option<Streams<S>>);

#[derive(Deserialize)]
struct Streams<S> {
    #[serde(default = "Option::default")]
    streams: Option<Vec<Option<S>>>,
}

impl<'de, S: Deserialize<'de>> Deserialize<'de> for Request<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::deserialize(deserializer).map(Self)
    }
}

impl<S> Request<S> {
    fn streams(self) -> impl Iterator<Item = S> {
        self.0
            .and_then(|request| request.streams)
            .into_iter()
            .flatten()
            .flatten()
    }
}

#[derive(Deserialize)]
struct ValuesStream<'a> {
    #[serde(borrow, default)]
    stream: LabelMap<'a>,
    #[serde(borrow, default)]
    values: Option<Vec<Option<Value<'a>>>>,
}

impl ValuesStream<'_> {
    fn into_entries(self, body: &Bytes) -> Result<StreamEntries, DecodeError> {
        let entries = self
            .values
            .into_iter()
            .flatten()
            .flatten()
            .map(|value| value.into_entry(body))
            .collect();
        Ok(StreamEntries {
            labels: self.stream.into_labels()?,
            entries,
        })
    }
}

/// Label names and values; numbers and booleans are taken as their text.
#[derive(Default)]
struct LabelMap<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl LabelMap<'_> {
    fn into_labels(self) -> Result<Labels, DecodeError> {
        for (at, (name, _)) in self.0.iter().enumerate() {
            let valid =
                |(i, c): (usize, char)| c == '_' || c.is_ascii_alphabetic() || (i > 0 && c.is_ascii_digit());
            if let Some((_, bad)) = name.char_indices().find(|c| !valid(*c)) {
                let reason = format!(
                    "1:2: parse error: unexpected character inside braces: '{bad}' (label {} {name:?})",
                    at + 1
                );
                return Err(DecodeError::Labels(reason));
            }
            if name.is_empty() {
                return Err(DecodeError::Labels(format!(
                    "1:2: parse error: label {} has no name",
                    at + 1
                )));
            }
        }
        Ok(Labels::from_pairs(self.0))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for LabelMap<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = LabelMap<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of label names and values")
            }
            fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
                Ok(LabelMap::default())
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some((Text(name), Scalar(value))) = map.next_entry()? {
                    pairs.push((name, value));
                }
                Ok(LabelMap(pairs))
            }
        }
        deserializer.deserialize_any(Pairs)
    }
}

/// `[ts, line, {metadata}?, …ignored]`.
struct Value<'a> {
    ts: i64,
    line: Cow<'a, str>,
    metadata: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl Value<'_> {
    fn into_entry(self, body: &Bytes) -> Entry {
        let own = |text: Cow<'_, str>| slice_of(body, text);
        let pairs = self.metadata.into_iter();
        let metadata: Vec<Pair> = pairs.map(|(name, value)| (own(name), own(value))).collect();
        Entry {
            ts: self.ts,
            line: own(self.line),
            metadata: metadata.into(),
        }
    }
}

/// Text as a slice of the body where it is one.
fn slice_of(body: &Bytes, text: Cow<'_, str>) -> ByteString {
    match text {
        Cow::Borrowed(text) => super::text(body.slice_ref(text.as_bytes())),
        Cow::Owned(text) => text.into(),
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Value<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tuple;
        impl<'de> Visitor<'de> for Tuple {
            type Value = Value<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("[\"<nanoseconds>\", \"<line>\", {metadata}]")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let Timestamp(ts) = seq
                    .next_element()?
                    .ok_or_else(|| de::Error::invalid_length(0, &self))?;
                let Text(line) = seq
                    .next_element()?
                    .ok_or_else(|| de::Error::invalid_length(1, &self))?;
                let metadata = seq
                    .next_element::<Option<MetadataMap<'de>>>()?
                    .flatten()
                    .unwrap_or_default()
                    .0;
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Value { ts, line, metadata })
            }
        }
        deserializer.deserialize_seq(Tuple)
    }
}

/// ns since the epoch, as a string.
struct Timestamp(i64);

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Digits;
        impl Visitor<'_> for Digits {
            type Value = Timestamp;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a timestamp: a string of nanoseconds since the epoch")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Timestamp, E> {
                let wrong = |_| {
                    E::custom(format!(
                        "timestamp {text:?} is not a string of nanoseconds since the epoch"
                    ))
                };
                text.parse().map(Timestamp).map_err(wrong)
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Timestamp, E> {
                Err(E::custom(format!(
                    "timestamp {number} is a number, expected a string: write \"{number}\""
                )))
            }
        }
        deserializer.deserialize_any(Digits)
    }
}

/// Structured metadata: strings only, unlike labels.
#[derive(Default)]
struct MetadataMap<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'de: 'a, 'a> Deserialize<'de> for MetadataMap<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = MetadataMap<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of structured metadata, such as {\"trace_id\": \"7f\"}")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some((Text(name), Text(value))) = map.next_entry()? {
                    pairs.push((name, value));
                }
                Ok(MetadataMap(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

#[derive(Deserialize)]
struct EntriesStream<'a> {
    #[serde(borrow, default)]
    labels: Cow<'a, str>,
    #[serde(borrow, default)]
    entries: Option<Vec<LegacyEntry<'a>>>,
}

#[derive(Deserialize)]
struct LegacyEntry<'a> {
    #[serde(borrow, alias = "timestamp")]
    ts: Cow<'a, str>,
    #[serde(borrow, default)]
    line: Cow<'a, str>,
    #[serde(borrow, default, rename = "structuredMetadata")]
    metadata: Vec<LegacyPair<'a>>,
}

#[derive(Deserialize)]
struct LegacyPair<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    value: Cow<'a, str>,
}

impl EntriesStream<'_> {
    fn into_entries(self, body: &Bytes) -> Result<StreamEntries, DecodeError> {
        let labels = recent_labels::parse(&self.labels).map_err(|e| DecodeError::Labels(e.to_string()))?;
        let own = |text: Cow<'_, str>| ByteString::from(text.into_owned());
        let pair = |pair: LegacyPair<'_>| -> Pair { (own(pair.name), own(pair.value)) };
        let mut entries = Vec::new();
        for entry in self.entries.into_iter().flatten() {
            let ts = entry
                .ts
                .parse::<jiff::Timestamp>()
                .ok()
                .and_then(|ts| i64::try_from(ts.as_nanosecond()).ok());
            let ts =
                ts.ok_or_else(|| DecodeError::Message(format!("timestamp {:?} is not RFC 3339", entry.ts)))?;
            let metadata: Vec<Pair> = entry.metadata.into_iter().map(pair).collect();
            entries.push(Entry {
                ts,
                line: slice_of(body, Cow::Owned(entry.line.into_owned())),
                metadata: metadata.into(),
            });
        }
        Ok(StreamEntries { labels, entries })
    }
}

/// A string, borrowed where it has no escapes. (`Cow` alone always copies inside maps and tuples.)
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(StringVisitor).map(Self)
    }
}

struct StringVisitor;

impl<'de> Visitor<'de> for StringVisitor {
    type Value = Cow<'de, str>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }
    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

fn json_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Scalar<'de>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(Scalar(Cow::Owned(value.to_string())))
}

/// A label's value: a string, or the JSON text of anything else, as Loki takes it.
struct Scalar<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Scalar<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Scalar(Cow::Borrowed(text)))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Scalar(Cow::Owned(text.to_owned())))
            }
            fn visit_bool<E: de::Error>(self, flag: bool) -> Result<Self::Value, E> {
                Ok(Scalar(Cow::Owned(flag.to_string())))
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
                Ok(Scalar(Cow::Owned(number.to_string())))
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
                Ok(Scalar(Cow::Owned(number.to_string())))
            }
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self::Value, E> {
                Ok(Scalar(Cow::Owned(number.to_string())))
            }
            fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
                Ok(Scalar(Cow::Borrowed("null")))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                json_text(SeqAccessDeserializer::new(seq))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                json_text(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_any(Any)
    }
}
