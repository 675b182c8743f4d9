//! Tenant names and how a request names its tenant. Knows nothing of what a tenant owns.

use std::fmt;
use std::sync::Arc;

use http::HeaderMap;

/// The header that names the tenant.
pub const TENANT_HEADER: &str = "x-scope-orgid";
/// The tenant of every request when tenants are not required; Loki uses the same name.
pub const DEFAULT_TENANT: &str = "fake";
/// Longest tenant name, in bytes.
const MAX_TENANT_BYTES: usize = 150;

/// A tenant's name. Only characters that are safe in an object key and in a URL, never `.` or `..`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(Arc<str>);

impl TenantId {
    /// Checks a name by Loki's rules: letters, digits and `!-_.*'()`, at most 150 bytes.
    ///
    /// # Errors
    /// [`TenantError`] with Loki's text.
    pub fn new(name: &str) -> Result<Self, TenantError> {
        if name.is_empty() {
            return Err(TenantError::Missing);
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || "!-_.*'()".contains(c);
        if let Some(character) = name.chars().find(|c| !allowed(*c)) {
            return Err(TenantError::Character {
                name: name.to_owned(),
                character,
            });
        }
        if name.len() > MAX_TENANT_BYTES {
            return Err(TenantError::TooLong);
        }
        if matches!(name, "." | "..") {
            return Err(TenantError::Unsafe);
        }
        Ok(Self(name.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TenantId {
    /// The tenant of a service that doesn't ask for one.
    fn default() -> Self {
        Self(DEFAULT_TENANT.into())
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Why a request's tenant was refused. `Display` is Loki's text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TenantError {
    /// Tenants are required and the request names none: status 401, all others 400.
    #[error("no org id")]
    Missing,
    /// Several tenants where only one is allowed.
    #[error("multiple org IDs present")]
    Multiple,
    /// A character that isn't allowed.
    #[error("tenant ID '{name}' contains unsupported character '{character}'")]
    Character {
        /// The name as sent.
        name: String,
        /// The first character that isn't allowed.
        character: char,
    },
    /// Longer than 150 bytes.
    #[error("tenant ID is too long: max 150 characters")]
    TooLong,
    /// `.` or `..`.
    #[error("tenant ID is '.' or '..'")]
    Unsafe,
}

/// The one tenant of a push, a tail or a delete. Without `required` the header is ignored.
///
/// # Errors
/// [`TenantError`]: none, several, or a bad name.
pub fn one(headers: &HeaderMap, required: bool) -> Result<TenantId, TenantError> {
    let mut tenants = several(headers, required)?;
    match (tenants.pop(), tenants.is_empty()) {
        (Some(tenant), true) => Ok(tenant),
        (None, _) => Err(TenantError::Missing),
        _ => Err(TenantError::Multiple),
    }
}

/// The tenants of a query (`a|b`): at least one, ascending, each once. Without `required` the header is ignored.
///
/// # Errors
/// [`TenantError`]: none, or a bad name.
pub fn several(headers: &HeaderMap, required: bool) -> Result<Vec<TenantId>, TenantError> {
    if !required {
        return Ok(vec![TenantId::default()]);
    }
    let header = headers.get(TENANT_HEADER).ok_or(TenantError::Missing)?;
    let text = String::from_utf8_lossy(header.as_bytes());
    let mut tenants = text
        .split('|')
        .map(|name| TenantId::new(name.trim()))
        .collect::<Result<Vec<_>, _>>()?;
    tenants.sort();
    tenants.dedup();
    Ok(tenants)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn headers(value: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(TENANT_HEADER, http::HeaderValue::from_static(value));
        headers
    }

    #[test]
    fn names_are_checked() {
        assert!(TenantId::new("team-a_1.x*'()!").is_ok());
        for bad in [".", "..", "a/b", "a b", "ä", "", "\0"] {
            assert!(TenantId::new(bad).is_err(), "{bad:?}");
        }
        assert_eq!(TenantId::new(&"x".repeat(151)), Err(TenantError::TooLong));
        let text = TenantId::new("../bad").unwrap_err().to_string();
        assert_eq!(text, "tenant ID '../bad' contains unsupported character '/'");
    }

    #[test]
    fn a_header_names_one_or_several() {
        assert_eq!(one(&headers("acme"), true).unwrap().as_str(), "acme");
        assert_eq!(one(&headers("b|a"), true), Err(TenantError::Multiple));
        assert_eq!(one(&HeaderMap::new(), true), Err(TenantError::Missing));
        assert_eq!(one(&headers("b|a"), false).unwrap().as_str(), "fake");
        let names: Vec<_> = several(&headers("b|a|b"), true).unwrap();
        assert_eq!(names.iter().map(TenantId::as_str).collect::<Vec<_>>(), ["a", "b"]);
    }
}
