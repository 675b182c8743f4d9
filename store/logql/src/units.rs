//! Numbers with units: durations as Prometheus and as Go read them, humanised sizes, and Go's float syntax.
//!
//! Error texts are those of Go's standard library, because they end up in `__error_details__`.

use crate::text::quote_go;

const MILLISECOND: i64 = 1_000_000;
const SECOND: i64 = 1_000_000_000;

/// Units from large to small, ns.
const PROMETHEUS_UNITS: [(&str, i64); 7] = [
    ("y", 365 * 24 * 3600 * SECOND),
    ("w", 7 * 24 * 3600 * SECOND),
    ("d", 24 * 3600 * SECOND),
    ("h", 3600 * SECOND),
    ("m", 60 * SECOND),
    ("s", SECOND),
    ("ms", MILLISECOND),
];

/// Parses `1h30m` and the like: whole numbers, units `y w d h m s ms` in descending order, each once. ns.
pub(crate) fn parse_prometheus_duration(text: &str) -> Result<i64, String> {
    if text == "0" {
        return Ok(0);
    }
    if text.is_empty() {
        return Err("empty duration string".to_owned());
    }
    let mut rest = text;
    let mut next_unit = 0;
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = rest.split_at(digits);
        if number.is_empty() {
            return Err(format!("not a valid duration string: {}", quote_go(text)));
        }
        let unit_length = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_length);
        if unit.is_empty() {
            return Err(format!("not a valid duration string: {}", quote_go(text)));
        }
        let Some(position) = PROMETHEUS_UNITS.iter().position(|(name, _)| *name == unit) else {
            return Err(format!(
                "unknown unit {} in duration {}",
                quote_go(unit),
                quote_go(text)
            ));
        };
        if position < next_unit {
            return Err(format!("not a valid duration string: {}", quote_go(text)));
        }
        next_unit = position + 1;
        let scale = PROMETHEUS_UNITS.get(position).map_or(0, |(_, nanos)| *nanos);
        let value: Option<i64> = number.parse().ok();
        total = value
            .and_then(|value| value.checked_mul(scale))
            .and_then(|nanos| total.checked_add(nanos))
            .ok_or("duration out of range")?;
        rest = after;
    }
    Ok(total)
}

/// Parses Go's durations: `1.5h`, `-3s`, `2µs`, `1h30m`. ns.
///
/// # Errors
/// Go's text of what is wrong.
pub fn parse_go_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {}", quote_time(text));
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, text.get(1..).unwrap_or("")),
        Some(b'+') => (false, text.get(1..).unwrap_or("")),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let mut number_length = digits(rest);
        if rest.as_bytes().get(number_length) == Some(&b'.') {
            number_length += 1 + digits(rest.get(number_length + 1..).unwrap_or(""));
        }
        let (number, after) = rest.split_at(number_length);
        if number.is_empty() || number == "." {
            return Err(invalid());
        }
        let unit_length = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_length);
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {}", quote_time(text)));
        }
        let Some(scale) = go_unit(unit) else {
            return Err(format!(
                "time: unknown unit {} in duration {}",
                quote_time(unit),
                quote_time(text)
            ));
        };
        let nanos = scaled(number, scale).ok_or_else(invalid)?;
        total = total
            .checked_add(nanos)
            .filter(|total| *total <= 1 << 63)
            .ok_or_else(invalid)?;
        rest = after;
    }
    if negative {
        return Ok(0_i64.wrapping_sub_unsigned(total));
    }
    i64::try_from(total).map_err(|_| invalid())
}

/// A text in quotes as Go's errors about durations have it: what is not plain ASCII byte by byte.
fn quote_time(text: &str) -> String {
    let mut out = String::from("\"");
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend(['\\', char::from(byte)]),
            b' '..=0x7f => out.push(char::from(byte)),
            byte => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out.push('"');
    out
}

fn go_unit(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// `number` (digits with at most one dot) times `scale`, the fraction cut.
fn scaled(number: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let whole = whole.checked_mul(scale).filter(|nanos| *nanos <= 1 << 63)?;
    if fraction.is_empty() {
        return Some(whole);
    }
    let mut digits: u64 = 0;
    let mut divisor: f64 = 1.0;
    for digit in fraction.bytes().take(18) {
        digits = digits * 10 + u64::from(digit - b'0');
        divisor *= 10.0;
    }
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "Go rounds the same way"
    )]
    let part = (digits as f64 * (scale as f64 / divisor)) as u64;
    whole.checked_add(part)
}

/// Parses a humanised size: `10KB`, `1.5 MiB`, `1,024`. Units of any case; k, M … are powers of 1000, Ki, Mi … of 1024.
///
/// # Errors
/// What is wrong with the number or the unit, as the library Loki uses says it.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let number_length = text
        .find(|c: char| !(c.is_numeric() || c == '.' || c == ','))
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(number_length);
    let value = parse_go_float(&number.replace(',', ""))?;
    let unit = unit.trim().to_lowercase();
    let scale: f64 = match unit.as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "t" | "tb" => 1e12,
        "p" | "pb" => 1e15,
        "e" | "eb" => 1e18,
        "ki" | "kib" => 1024.0,
        "mi" | "mib" => 1_048_576.0,
        "gi" | "gib" => 1_073_741_824.0,
        "ti" | "tib" => 1_099_511_627_776.0,
        "pi" | "pib" => 1_125_899_906_842_624.0,
        "ei" | "eib" => 1_152_921_504_606_846_976.0,
        _ => return Err(format!("unhandled size name: {unit}")),
    };
    let bytes = value * scale;
    if bytes >= 18_446_744_073_709_551_615.0 {
        return Err(format!("too large: {text}"));
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked against the range above"
    )]
    Ok(bytes as u64)
}

/// A size in powers of 1000 with at most two digits behind which zeros follow: `82854982` gives `83 MB`.
#[must_use]
pub fn humanize_bytes(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let exponent = (bytes.ilog10() / 3).min(6);
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_wrap,
        reason = "two digits are wanted"
    )]
    let value = (bytes as f64 / 1000_f64.powi(exponent as i32) * 10.0 + 0.5).floor() / 10.0;
    let unit = UNITS.get(exponent as usize).copied().unwrap_or("EB");
    if value < 10.0 {
        format!("{value:.1} {unit}")
    } else {
        format!("{value:.0} {unit}")
    }
}

/// Go's `strconv.ParseFloat`: decimal and hexadecimal floats with `_` between digits, `inf`, `infinity`, `nan` in any case.
///
/// # Errors
/// Go's text: invalid syntax, or out of range.
pub fn parse_go_float(text: &str) -> Result<f64, String> {
    let invalid = || format!("strconv.ParseFloat: parsing {}: invalid syntax", quote_go(text));
    if text.contains('_') {
        let bytes = text.as_bytes();
        let digit = |index: Option<usize>| index.and_then(|i| bytes.get(i)).is_some_and(u8::is_ascii_digit);
        let separates = |(index, byte): (usize, &u8)| {
            *byte != b'_' || digit(index.checked_sub(1)) && digit(Some(index + 1))
        };
        if !bytes.iter().enumerate().all(separates) {
            return Err(invalid());
        }
        return parse_go_float(&text.replace('_', "")).map_err(|_| invalid());
    }
    let body = text.strip_prefix(['+', '-']).unwrap_or(text);
    if body.starts_with("0x") || body.starts_with("0X") {
        let value = parse_hex_float(body.get(2..).unwrap_or("")).ok_or_else(invalid)?;
        return Ok(if text.starts_with('-') { -value } else { value });
    }
    let plain = body
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    let named = ["inf", "infinity", "nan"]
        .iter()
        .any(|name| body.eq_ignore_ascii_case(name));
    // Go refuses a sign before NaN.
    if !(plain || named) || (body.eq_ignore_ascii_case("nan") && body.len() != text.len()) {
        return Err(invalid());
    }
    let value: f64 = text.parse().map_err(|_| invalid())?;
    if plain && value.is_infinite() {
        return Err(format!(
            "strconv.ParseFloat: parsing {}: value out of range",
            quote_go(text)
        ));
    }
    Ok(value)
}

/// `hex[.hex]p[±]decimal`; the exponent is mandatory, as in Go.
fn parse_hex_float(body: &str) -> Option<f64> {
    let (mantissa, exponent) = body.split_once(['p', 'P'])?;
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut value = 0.0;
    for digit in whole.chars() {
        value = value * 16.0 + f64::from(digit.to_digit(16)?);
    }
    let mut weight = 1.0 / 16.0;
    for digit in fraction.chars() {
        value += f64::from(digit.to_digit(16)?) * weight;
        weight /= 16.0;
    }
    Some(value * 2f64.powi(exponent))
}

/// A duration in ns as Go's `time.Duration` prints it: `1h0m0s`, `1.5s`, `300µs`.
#[must_use]
pub fn format_go_duration(nanos: i64) -> String {
    let magnitude = nanos.unsigned_abs();
    let sign = if nanos < 0 { "-" } else { "" };
    if magnitude == 0 {
        return "0s".to_owned();
    }
    for (limit, unit, scale) in [
        (1_000, "ns", 1),
        (1_000_000, "µs", 1_000),
        (1_000_000_000, "ms", 1_000_000),
    ] {
        if magnitude < limit {
            return format!("{sign}{}{unit}", decimal(magnitude, scale));
        }
    }
    let seconds = decimal(magnitude % 60_000_000_000, 1_000_000_000);
    let minutes = magnitude / 60_000_000_000;
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

/// `value / scale` with as many decimals as it has.
fn decimal(value: u64, scale: u64) -> String {
    let (whole, fraction) = (value / scale, value % scale);
    if fraction == 0 {
        return whole.to_string();
    }
    let width = scale.ilog10() as usize;
    let digits = format!("{fraction:0width$}");
    format!("{whole}.{}", digits.trim_end_matches('0'))
}

/// A duration as Prometheus prints it: `1m30s`, `1d`, `0s`.
pub(crate) fn format_prometheus_duration(nanos: i64) -> String {
    let mut rest = nanos / MILLISECOND;
    if rest == 0 {
        return "0s".to_owned();
    }
    let sign = if rest < 0 { "-" } else { "" };
    rest = rest.saturating_abs();
    let mut out = sign.to_owned();
    for (unit, scale) in PROMETHEUS_UNITS {
        let scale = scale / MILLISECOND;
        // Years, weeks and days only when nothing smaller is left.
        if matches!(unit, "y" | "w" | "d") && rest % scale != 0 {
            continue;
        }
        if rest >= scale {
            out.push_str(&(rest / scale).to_string());
            out.push_str(unit);
            rest %= scale;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn durations() {
        for (text, nanos) in [
            ("1h30m", 5_400 * SECOND),
            ("1d", 86_400 * SECOND),
            ("500ms", SECOND / 2),
            ("0", 0),
        ] {
            assert_eq!(parse_prometheus_duration(text), Ok(nanos), "{text}");
        }
        for text in ["", "5", "1.5h", "30m1h", "1h1h", "-5m", "5x", "99999999999y"] {
            assert!(parse_prometheus_duration(text).is_err(), "{text}");
        }
        for (text, nanos) in [
            ("1.5h", 5_400 * SECOND),
            ("-3s", -3 * SECOND),
            ("900µs", 900_000),
            ("1h0.5s", 3_600 * SECOND + SECOND / 2),
            (".5s", SECOND / 2),
        ] {
            assert_eq!(parse_go_duration(text), Ok(nanos), "{text}");
        }
        for text in ["", "5", "1d", "bad", "1..5s", ".s", "-", "9999999999h"] {
            assert!(parse_go_duration(text).is_err(), "{text}");
        }
        assert_eq!(format_go_duration(5_400 * SECOND), "1h30m0s");
        assert_eq!(format_go_duration(-1_500_000), "-1.5ms");
        assert_eq!(format_prometheus_duration(90 * SECOND), "1m30s");
        assert_eq!(format_prometheus_duration(14 * 86_400 * SECOND), "2w");
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("10KB", 10_000),
            ("10kib", 10_240),
            ("1,024 B", 1_024),
            ("1.5MiB", 1_572_864),
            ("7", 7),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "KB", "5x", "1_000", "99999999EB"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
        for (bytes, text) in [
            (9, "9 B"),
            (1_024, "1.0 kB"),
            (82_854_982, "83 MB"),
            (1_500_000_000, "1.5 GB"),
        ] {
            assert_eq!(humanize_bytes(bytes), text);
        }
    }

    #[test]
    fn floats() {
        for (text, value) in [
            ("1_000", 1000.0),
            ("+5", 5.0),
            (".5", 0.5),
            ("1e3", 1000.0),
            ("0x1p4", 16.0),
            ("-Inf", f64::NEG_INFINITY),
        ] {
            assert_eq!(parse_go_float(text), Ok(value), "{text}");
        }
        assert!(parse_go_float("NaN").unwrap().is_nan());
        for text in ["", "0x1F", "1_", "_1", "1__0", "+nan", "1e999", "5 ", "abc"] {
            assert!(parse_go_float(text).is_err(), "{text}");
        }
    }
}
