//! Escaping of bytes for URLs, HTML and JavaScript, as Go does it.

use crate::text::quote_go;

/// Text for the query of a URL.
pub(super) fn url_encode(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(*byte),
            b' ' => out.push(b'+'),
            byte => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
    out
}

/// What the query of a URL says; the error is Go's.
pub(super) fn url_decode(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let digits = bytes.get(at..(at + 2).min(bytes.len())).unwrap_or(&[]);
                let text = std::str::from_utf8(digits).unwrap_or("");
                let valid = text.len() == 2 && text.bytes().all(|b| b.is_ascii_hexdigit());
                let Some(value) = valid.then(|| u8::from_str_radix(text, 16).ok()).flatten() else {
                    let shown = String::from_utf8_lossy(digits);
                    return Err(format!("invalid URL escape {}", quote_go(&format!("%{shown}"))));
                };
                out.push(value);
                at += 2;
            }
            byte => out.push(*byte),
        }
    }
    Ok(out)
}

/// Text for an HTML page.
pub(super) fn html(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for byte in bytes {
        match html_escape(*byte) {
            Some(text) => out.extend_from_slice(text.as_bytes()),
            None => out.push(*byte),
        }
    }
    out
}

fn html_escape(byte: u8) -> Option<&'static str> {
    Some(match byte {
        b'\0' => "\u{fffd}",
        b'"' => "&#34;",
        b'\'' => "&#39;",
        b'&' => "&amp;",
        b'<' => "&lt;",
        b'>' => "&gt;",
        _ => return None,
    })
}

/// Text for a string of JavaScript.
pub(super) fn js(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\'' => out.extend_from_slice(b"\\'"),
            b'"' => out.extend_from_slice(b"\\\""),
            b'<' => out.extend_from_slice(b"\\u003C"),
            b'>' => out.extend_from_slice(b"\\u003E"),
            b'&' => out.extend_from_slice(b"\\u0026"),
            b'=' => out.extend_from_slice(b"\\u003D"),
            byte if *byte < b' ' => out.extend_from_slice(format!("\\u{:04X}", byte).as_bytes()),
            byte => out.push(*byte),
        }
    }
    out
}
