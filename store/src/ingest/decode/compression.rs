//! Decompression with a bound: the one place where the raw decoders may be used, so that no small body becomes
//! gigabytes of memory.

use std::io::Read;

use bytes::Bytes;

use super::DecodeError;

/// A gzip file.
pub(super) fn gzip(bytes: &[u8], limit: usize) -> Result<Bytes, DecodeError> {
    if !bytes.is_empty() && !bytes.starts_with(&[0x1f, 0x8b]) {
        return Err(broken("gzip", "invalid header"));
    }
    read("gzip", flate2::read::MultiGzDecoder::new(bytes), limit)
}

/// Raw DEFLATE (RFC 1951), as Loki reads `Content-Encoding: deflate`; a zlib wrapper (RFC 1950) is taken too, because
/// that is what the header means by the book.
pub(super) fn deflate(bytes: &[u8], limit: usize) -> Result<Bytes, DecodeError> {
    if is_zlib(bytes)
        && let Ok(text) = read("deflate", flate2::read::ZlibDecoder::new(bytes), limit)
    {
        return Ok(text);
    }
    read("deflate", flate2::read::DeflateDecoder::new(bytes), limit)
}

/// A zlib header: method 8, and a checksum that makes it a multiple of 31.
fn is_zlib(bytes: &[u8]) -> bool {
    matches!(bytes, [cmf, flg, ..] if cmf & 0x0f == 8 && (u16::from(*cmf) << 8 | u16::from(*flg)) % 31 == 0)
}

/// A zstd frame.
pub(super) fn zstd(bytes: &[u8], limit: usize) -> Result<Bytes, DecodeError> {
    let decoder = zstd::stream::read::Decoder::new(bytes).map_err(|e| broken("zstd", e))?;
    read("zstd", decoder, limit)
}

/// An LZ4 frame.
pub(super) fn lz4(bytes: &[u8], limit: usize) -> Result<Bytes, DecodeError> {
    read("lz4", lz4_flex::frame::FrameDecoder::new(bytes), limit)
}

/// A snappy block, whose first bytes say its length.
pub(super) fn snappy_block(bytes: &[u8], limit: usize) -> Result<Bytes, DecodeError> {
    let corrupt = || broken("snappy", "corrupt input");
    if bytes.is_empty() {
        return Err(corrupt());
    }
    let length = snap::raw::decompress_len(bytes).map_err(|_| corrupt())?;
    if length > limit {
        return Err(DecodeError::TooLarge { limit });
    }
    // No element of a block makes more than 64 bytes out of three, so a block that promises more is a lie.
    if length / 24 > bytes.len() {
        return Err(corrupt());
    }
    let text = snap::raw::Decoder::new()
        .decompress_vec(bytes)
        .map_err(|_| corrupt())?;
    Ok(text.into())
}

fn read(format: &'static str, decoder: impl Read, limit: usize) -> Result<Bytes, DecodeError> {
    let mut text = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    decoder
        .take(most)
        .read_to_end(&mut text)
        .map_err(|e| broken(format, e))?;
    if text.len() > limit {
        return Err(DecodeError::TooLarge { limit });
    }
    Ok(text.into())
}

fn broken(format: &'static str, reason: impl ToString) -> DecodeError {
    DecodeError::Compression {
        format,
        reason: reason.to_string(),
    }
}
