//! IP addresses in text: a single address, a range or a network, of either version.

use std::net::IpAddr;

use crate::text::quote_go;

/// What an address is compared with. An IPv4 address never equals an IPv6 one, mapped or not.
#[derive(Clone, Debug)]
pub(crate) enum IpMatcher {
    Single(IpAddr),
    Range(IpAddr, IpAddr),
    Network { address: IpAddr, bits: u32 },
}

impl IpMatcher {
    /// Reads `1.2.3.4`, `1.2.3.4-1.2.3.9` or `1.2.3.0/24`.
    pub(crate) fn new(pattern: &str) -> Result<Self, String> {
        Self::parse(pattern).ok_or_else(|| format!("ip: invalid pattern: {}", quote_go(pattern)))
    }

    fn parse(pattern: &str) -> Option<Self> {
        if let Ok(address) = pattern.parse() {
            return Some(Self::Single(address));
        }
        if let Some((first, last)) = pattern.split_once('-') {
            let (first, last): (IpAddr, IpAddr) = (first.parse().ok()?, last.parse().ok()?);
            return (first.is_ipv4() == last.is_ipv4() && first <= last).then_some(Self::Range(first, last));
        }
        let (address, bits) = pattern.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        if bits.is_empty() || !bits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let bits: u32 = bits.parse().ok()?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        (bits <= width).then_some(Self::Network { address, bits })
    }

    fn matches(&self, address: IpAddr) -> bool {
        match self {
            Self::Single(own) => *own == address,
            Self::Range(first, last) => {
                first.is_ipv4() == address.is_ipv4() && *first <= address && address <= *last
            }
            Self::Network { address: own, bits } => match (own, address) {
                (IpAddr::V4(own), IpAddr::V4(other)) => {
                    let shift = 32 - bits;
                    u64::from(own.to_bits()) >> shift == u64::from(other.to_bits()) >> shift
                }
                (IpAddr::V6(own), IpAddr::V6(other)) => {
                    *bits == 0 || own.to_bits() >> (128 - bits) == other.to_bits() >> (128 - bits)
                }
                _ => false,
            },
        }
    }

    /// Whether the text has a matching address anywhere.
    pub(crate) fn is_in(&self, text: &str) -> bool {
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            let rest = bytes.get(at..).unwrap_or(&[]);
            let allowed: fn(u8) -> bool = if starts_v4(rest) {
                |b| b.is_ascii_digit() || b == b'.'
            } else if starts_v6(rest) {
                |b| b.is_ascii_hexdigit() || b == b':' || b == b'.'
            } else {
                at += 1;
                continue;
            };
            let length = rest.iter().position(|b| !allowed(*b)).unwrap_or(rest.len());
            let candidate = rest
                .get(..length)
                .and_then(|bytes| std::str::from_utf8(bytes).ok());
            if candidate
                .and_then(|text| text.parse().ok())
                .is_some_and(|address| self.matches(address))
            {
                return true;
            }
            at += length + 1;
        }
        false
    }
}

/// One to three digits and a dot.
fn starts_v4(bytes: &[u8]) -> bool {
    let digits = bytes.iter().take(3).take_while(|b| b.is_ascii_digit()).count();
    digits > 0 && bytes.len() > 3 && bytes.get(digits) == Some(&b'.')
}

/// `::` and a hexadecimal digit, or up to four of those and a colon.
fn starts_v6(bytes: &[u8]) -> bool {
    if bytes.len() < 3 {
        return false;
    }
    if bytes.starts_with(b"::") {
        return bytes.get(2).is_some_and(u8::is_ascii_hexdigit);
    }
    let digits = bytes.iter().take(4).take_while(|b| b.is_ascii_hexdigit()).count();
    digits > 0 && bytes.get(digits) == Some(&b':')
}
