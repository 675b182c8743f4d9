//! zstd around column payloads and the footer. The one place that compresses and decompresses: every decompression
//! is capped by a size that was checked before.

use std::cell::RefCell;

use zstd::bulk::{Compressor, Decompressor};

use crate::{Part, SegmentError};

/// Below this many bytes zstd's frame costs more than it saves.
const MIN_BYTES: usize = 32;

/// Compressors a thread keeps for the next writer: one is a megabyte or so to allocate and to fill.
const KEPT_COMPRESSORS: usize = 2;

pub(crate) struct Zstd {
    level: i32,
    /// Taken out only by `drop`.
    compressor: Option<Compressor<'static>>,
    scratch: Vec<u8>,
}

impl std::fmt::Debug for Zstd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Zstd")
    }
}

thread_local! {
    static COMPRESSORS: RefCell<Vec<(i32, Compressor<'static>)>> = const { RefCell::new(Vec::new()) };
}

impl Zstd {
    pub(crate) fn new(level: i32) -> Result<Self, SegmentError> {
        let kept = COMPRESSORS.with_borrow_mut(|kept| {
            let of_level = kept.iter().position(|(of, _)| *of == level)?;
            Some(kept.swap_remove(of_level).1)
        });
        let compressor = match kept {
            Some(compressor) => compressor,
            None => Compressor::new(level).map_err(|error| compress_error(Part::Header, error))?,
        };
        Ok(Zstd {
            level,
            compressor: Some(compressor),
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
            .compressed_len(plain)
            .map_err(|error| compress_error(part(), error))?;
        let worth = small < plain.len() - plain.len() / 16;
        if worth {
            plain.clear();
            plain.extend_from_slice(&self.scratch);
        }
        Ok(worth)
    }

    /// Bytes of `plain` compressed, which are in `scratch` then.
    pub(crate) fn compressed_len(&mut self, plain: &[u8]) -> Result<usize, std::io::Error> {
        self.scratch.clear();
        self.scratch.reserve(zstd::zstd_safe::compress_bound(plain.len()));
        match &mut self.compressor {
            Some(compressor) => compressor.compress_to_buffer(plain, &mut self.scratch),
            None => Err(std::io::Error::other("the compressor is gone")),
        }
    }
}

impl Drop for Zstd {
    fn drop(&mut self) {
        let Some(compressor) = self.compressor.take() else {
            return;
        };
        // At the end of a thread there is nowhere to keep it.
        let _ = COMPRESSORS.try_with(|kept| {
            let mut kept = kept.borrow_mut();
            if kept.len() < KEPT_COMPRESSORS {
                kept.push((self.level, compressor));
            }
        });
    }
}

pub(crate) fn compress_error(part: Part, error: std::io::Error) -> SegmentError {
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
