//! Text as Go writes and reads it: quoting, escapes, float formats.

use std::fmt;

/// `Display` of a string as a Go double-quoted literal.
pub(crate) fn quote_go(text: &str) -> impl fmt::Display + '_ {
    QuoteGo(text)
}

struct QuoteGo<'a>(&'a str);

impl fmt::Display for QuoteGo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        f.write_char('"')?;
        if self
            .0
            .bytes()
            .all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\'))
        {
            f.write_str(self.0)?;
            return f.write_char('"');
        }
        for c in self.0.chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\x07' => f.write_str("\\a")?,
                '\x08' => f.write_str("\\b")?,
                '\x0c' => f.write_str("\\f")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                '\x0b' => f.write_str("\\v")?,
                c if is_print(c) => f.write_char(c)?,
                c if (c as u32) < 0x80 => write!(f, "\\x{:02x}", c as u32)?,
                c if (c as u32) < 0x1_0000 => write!(f, "\\u{:04x}", c as u32)?,
                c => write!(f, "\\U{:08x}", c as u32)?,
            }
        }
        f.write_char('"')
    }
}

/// Go's `strconv.IsPrint`, up to rarely used unassigned code points: graphic characters and the ASCII space.
fn is_print(c: char) -> bool {
    match c {
        ' ' => true,
        '\u{ad}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => false,
        '\u{2028}'..='\u{202e}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{206f}' => false,
        '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..='\u{10ffff}' | '\u{e0000}'..='\u{e007f}' => false,
        c => !c.is_control() && !c.is_whitespace(),
    }
}

/// Why a quoted string is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnquoteError {
    /// An escape Go does not know.
    Syntax,
    /// `\x` escapes that give invalid UTF-8.
    Utf8,
}

/// Replaces Go's escapes in the inside of a double-quoted string.
pub(crate) fn unquote_escapes(body: &str) -> Result<String, UnquoteError> {
    if !body.contains('\\') {
        return Ok(body.to_owned());
    }
    let mut out = Vec::with_capacity(body.len());
    let mut chars = body.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            push_char(&mut out, c);
            continue;
        }
        match chars.next().ok_or(UnquoteError::Syntax)? {
            'a' => out.push(0x07),
            'b' => out.push(0x08),
            'f' => out.push(0x0c),
            'n' => out.push(b'\n'),
            'r' => out.push(b'\r'),
            't' => out.push(b'\t'),
            'v' => out.push(0x0b),
            '\\' => out.push(b'\\'),
            '"' => out.push(b'"'),
            '\'' => out.push(b'\''),
            'x' => {
                let byte = take_digits(&mut chars, 2, 16, 0)?;
                out.push(u8::try_from(byte).map_err(|_| UnquoteError::Syntax)?);
            }
            'u' => push_scalar(&mut out, take_digits(&mut chars, 4, 16, 0)?)?,
            'U' => push_scalar(&mut out, take_digits(&mut chars, 8, 16, 0)?)?,
            digit @ '0'..='7' => {
                let first = digit.to_digit(8).unwrap_or(0);
                let byte = take_digits(&mut chars, 2, 8, first)?;
                out.push(u8::try_from(byte).map_err(|_| UnquoteError::Syntax)?);
            }
            _ => return Err(UnquoteError::Syntax),
        }
    }
    String::from_utf8(out).map_err(|_| UnquoteError::Utf8)
}

fn push_char(out: &mut Vec<u8>, c: char) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

fn push_scalar(out: &mut Vec<u8>, value: u32) -> Result<(), UnquoteError> {
    push_char(out, char::from_u32(value).ok_or(UnquoteError::Syntax)?);
    Ok(())
}

fn take_digits(
    chars: &mut std::str::Chars<'_>,
    count: usize,
    radix: u32,
    mut value: u32,
) -> Result<u32, UnquoteError> {
    for _ in 0..count {
        let digit = chars
            .next()
            .and_then(|c| c.to_digit(radix))
            .ok_or(UnquoteError::Syntax)?;
        value = value.wrapping_mul(radix).wrapping_add(digit);
    }
    Ok(value)
}

/// A float as Go's `%v` prints it: shortest digits, with an exponent below 1e-4 and from 1e6 on.
pub(crate) fn format_float_g(value: f64) -> String {
    let scientific = format!("{value:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e').filter(|_| value.is_finite()) else {
        return format_float_f(value);
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value != 0.0 && !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs());
    }
    format_float_f(value)
}

/// A float in plain decimals with the fewest digits that read back the same (Go's `'f', -1`).
pub(crate) fn format_float_f(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 {
            "+Inf".to_owned()
        } else {
            "-Inf".to_owned()
        }
    } else {
        format!("{value}")
    }
}
