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
