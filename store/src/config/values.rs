//! The kinds of values options have: how each is read from text and shown again.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A value of an option: text in flags, environment and TOML alike.
pub trait Value: Sized {
    /// Reads the value; the error says what was expected.
    ///
    /// # Errors
    /// Text that isn't such a value.
    fn read(text: &str) -> Result<Self, String>;
    /// The value as `--print-config` shows it; [`Value::read`] understands it unless it is a secret.
    fn show(&self) -> String;
}

/// A number of bytes: `4MiB`, `256KB` (1024, as Loki counts), `1048576`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// The number as a length in memory.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

const BYTE_UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl Value for ByteSize {
    fn read(text: &str) -> Result<Self, String> {
        let expected = || format!("{text:?} is no size such as 4MiB, 256KiB or 1048576");
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
        let unit = match text
            .get(digits.len()..)
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase()
            .as_str()
        {
            "" | "b" => 1,
            "k" | "kb" | "kib" => 1 << 10,
            "m" | "mb" | "mib" => 1 << 20,
            "g" | "gb" | "gib" => 1 << 30,
            _ => return Err(expected()),
        };
        let number: u64 = digits.trim().parse().map_err(|_| expected())?;
        number.checked_mul(unit).map(Self).ok_or_else(expected)
    }

    fn show(&self) -> String {
        let (name, unit) = BYTE_UNITS
            .into_iter()
            .find(|(_, unit)| self.0 >= *unit && self.0.is_multiple_of(*unit))
            .unwrap_or(("B", 1));
        format!("{}{name}", self.0 / unit)
    }
}

const TIME_UNITS: [(&str, u64); 7] = [
    ("w", 604_800_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("ms", 1),
    ("m", 60_000),
    ("s", 1_000),
    ("", 0),
];

impl Value for Duration {
    fn read(text: &str) -> Result<Self, String> {
        let expected = || format!("{text:?} is no duration such as 200ms, 30s, 10m, 1h30m or 7d");
        let mut rest = text.trim();
        let mut total: u64 = 0;
        if rest == "0" {
            return Ok(Duration::ZERO);
        }
        if rest.is_empty() {
            return Err(expected());
        }
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, tail) = rest.split_at(digits);
            let letters = tail.len() - tail.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
            let (unit, tail) = tail.split_at(letters);
            let found = TIME_UNITS
                .into_iter()
                .find(|(name, millis)| *name == unit && *millis > 0);
            let (_, millis) = found.ok_or_else(expected)?;
            let number: u64 = number.parse().map_err(|_| expected())?;
            let part = number.checked_mul(millis).ok_or_else(expected)?;
            total = total.checked_add(part).ok_or_else(expected)?;
            rest = tail;
        }
        Ok(Duration::from_millis(total))
    }

    fn show(&self) -> String {
        let millis = u64::try_from(self.as_millis()).unwrap_or(u64::MAX);
        if millis == 0 {
            return "0s".to_owned();
        }
        let (name, unit) = TIME_UNITS
            .into_iter()
            .find(|(name, unit)| *name != "w" && *unit > 0 && millis.is_multiple_of(*unit) && *name != "ms")
            .unwrap_or(("ms", 1));
        format!("{}{name}", millis / unit)
    }
}

impl Value for bool {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => Err(format!("{text:?} is neither true nor false")),
        }
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

macro_rules! number_value {
    ($($type:ty),+) => {$(
        impl Value for $type {
            fn read(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| format!("{text:?} is no whole number from {} to {}", <$type>::MIN, <$type>::MAX))
            }
            fn show(&self) -> String {
                self.to_string()
            }
        }
    )+};
}
number_value!(usize, u64, u32, i32);

impl Value for String {
    fn read(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
    fn show(&self) -> String {
        self.clone()
    }
}

impl<T: Value> Value for Option<T> {
    fn read(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            Ok(None)
        } else {
            T::read(text).map(Some)
        }
    }
    fn show(&self) -> String {
        self.as_ref().map(T::show).unwrap_or_default()
    }
}

impl Value for SocketAddr {
    fn read(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| format!("{text:?} is no address and port such as 127.0.0.1:3100 or 0.0.0.0:3100"))
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

/// Text that is never shown or logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself, for the one who must send it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl Value for Secret {
    fn read(text: &str) -> Result<Self, String> {
        Ok(Self(text.to_owned()))
    }
    fn show(&self) -> String {
        "(secret)".to_owned()
    }
}

/// Where objects are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// In the process's memory, gone when it ends.
    Memory,
    /// In a folder.
    Folder(PathBuf),
    /// In a bucket of S3 or of a server that speaks its API.
    S3 {
        /// The bucket.
        bucket: String,
        /// Folder in the bucket, without slashes at its ends; may be empty.
        prefix: String,
    },
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory://"),
            Self::Folder(path) => write!(f, "file://{}", path.display()),
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

impl Value for StoreUrl {
    fn read(text: &str) -> Result<Self, String> {
        let folder = |path: &str| match std::path::absolute(path) {
            Ok(path) => Ok(Self::Folder(path)),
            Err(_) => Err(format!("{text:?} names no folder")),
        };
        match text.split_once("://") {
            Some(("memory", "")) => Ok(Self::Memory),
            Some(("file", path)) => folder(path),
            Some(("s3", rest)) => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                if bucket.is_empty() {
                    return Err(format!("{text:?} names no bucket"));
                }
                Ok(Self::S3 {
                    bucket: bucket.to_owned(),
                    prefix: prefix.trim_matches('/').to_owned(),
                })
            }
            Some(_) => Err(format!(
                "{text:?} is none of file:///folder, s3://bucket/prefix, memory://"
            )),
            None => folder(text),
        }
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sizes_and_durations_round_trip() {
        for (text, bytes) in [
            ("4MiB", 4 << 20),
            ("256KB", 262_144),
            ("1048577", 1_048_577),
            ("2 GiB", 2 << 30),
            ("0", 0),
        ] {
            let size = ByteSize::read(text).unwrap();
            assert_eq!(size.0, bytes, "{text}");
            assert_eq!(ByteSize::read(&size.show()).unwrap(), size, "{text}");
        }
        for (text, millis) in [
            ("200ms", 200),
            ("1h30m", 5_400_000),
            ("7d", 604_800_000),
            ("0", 0),
            ("1500ms", 1500),
            ("1w", 604_800_000),
        ] {
            let duration = Duration::read(text).unwrap();
            assert_eq!(duration.as_millis(), millis, "{text}");
            assert_eq!(
                Duration::read(&duration.show()).unwrap(),
                duration,
                "{text} {}",
                duration.show()
            );
        }
        for bad in ["", "5", "ms", "1.5s", "-1s", "5 parsecs", "99999999999999999999s"] {
            assert!(Duration::read(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "MiB", "1.5MiB", "-1", "99999999999GiB", "4XB"] {
            assert!(ByteSize::read(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn stores_are_folders_buckets_or_memory() {
        let read = |text| StoreUrl::read(text).unwrap();
        assert_eq!(read("memory://"), StoreUrl::Memory);
        assert_eq!(read("file:///a/b"), StoreUrl::Folder("/a/b".into()));
        assert_eq!(read("/a/b"), StoreUrl::Folder("/a/b".into()));
        assert_eq!(read("s3://logs/a/b/").to_string(), "s3://logs/a/b");
        assert_eq!(read("s3://logs").to_string(), "s3://logs");
        for bad in ["s3://", "gs://x", "memory://x"] {
            assert!(StoreUrl::read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        let secret = Secret::read("hunter2").unwrap();
        assert!(!format!("{secret:?} {}", secret.show()).contains("hunter2"));
    }
}
