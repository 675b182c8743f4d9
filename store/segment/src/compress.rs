//! zstd around column payloads and the footer. The one place that compresses and decompresses: every decompression
//! is capped by a size that was checked before.

use std::cell::RefCell;

use zstd::bulk::{Compressor, Decompressor};

use crate::{Part, SegmentError};

/// Below this many bytes zstd's frame costs more than it saves.
const MIN_BYTES: usize = 32;

pub(crate) struct Zstd {
    compressor: Compressor<'static>,
    /// What was compressed only to be measured.
    scratch: Vec<u8>,
}

impl std::fmt::Debug for Zstd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Zstd")
    }
}

impl Zstd {
    pub(crate) fn new(level: i32) -> Result<Self, SegmentError> {
        let compressor = Compressor::new(level).map_err(|error| compress_error(Part::Header, error))?;
        Ok(Zstd {
            compressor,
            scratch: Vec::new(),
        })
    }

    /// Replaces `plain` by its compressed form if that is worth decompressing it again: at least 1/16 smaller.
    /// Says whether it did.
    pub(crate) fn shrink(
        &mut self,
        plain: &mut Vec<u8>,
        part: impl FnOnce() -> Part,
    ) -> Result<bool, SegmentError> {
        if plain.len() < MIN_BYTES {
            return Ok(false);
        }
        let small = self
            .compressor
            .compress(plain)
            .map_err(|error| compress_error(part(), error))?;
        let worth = small.len() < plain.len() - plain.len() / 16;
        if worth {
            *plain = small;
        }
        Ok(worth)
    }
}

impl Zstd {
    /// Bytes of `plain` compressed.
    pub(crate) fn compressed_len(&mut self, plain: &[u8]) -> Result<usize, SegmentError> {
        self.scratch.clear();
        self.scratch.reserve(zstd::zstd_safe::compress_bound(plain.len()));
        self.compressor
            .compress_to_buffer(plain, &mut self.scratch)
            .map_err(|error| compress_error(Part::Header, error))
    }
}

fn compress_error(part: Part, error: std::io::Error) -> SegmentError {
    SegmentError::Compress {
        part,
        reason: error.to_string(),
    }
}

thread_local! {
    // A context is some 150 KiB to allocate; a query decompresses thousands of columns.
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Decompresses to exactly `plain_len` bytes, which the caller has checked against the format's limits.
pub(crate) fn expand(bytes: &[u8], plain_len: usize, part: &Part) -> Result<Vec<u8>, SegmentError> {
    let corrupt = |error: std::io::Error| SegmentError::corrupt(part.clone(), format!("zstd: {error}"));
    let plain = DECOMPRESSOR.with_borrow_mut(|slot| {
        let decompressor = match slot {
            Some(decompressor) => decompressor,
            None => slot.insert(Decompressor::new().map_err(corrupt)?),
        };
        decompressor.decompress(bytes, plain_len).map_err(corrupt)
    })?;
    if plain.len() != plain_len {
        return Err(SegmentError::corrupt(
            part.clone(),
            format!("decompresses to {} bytes, {plain_len} are declared", plain.len()),
        ));
    }
    Ok(plain)
}
