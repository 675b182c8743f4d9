//! The cheapest filter that Fluent Bit can call: it hands every record back untouched.
//!
//! Benchmarks measure `rank_filter.wasm` against it, because what this module costs is what the calling convention costs. It is
//! built exactly as the filter is, with the same exports, so that the host's copying works the same way for both.

/// One record in, the same record out.
#[cfg(target_arch = "wasm32")]
#[unsafe(no_mangle)]
#[allow(unreachable_pub)] // exported by the linker, not by a path
pub extern "C" fn rank_filter(
    _tag: *const u8,
    _tag_len: u32,
    _sec: u32,
    _nsec: u32,
    record: *const u8,
    _record_len: u32,
) -> *const u8 {
    record
}
