//! What the fuzz targets share: a bound on memory that names the input at fault, and ways to cut an input into parts.
//!
//! Each target in `targets/` hands bytes to one part of the product and holds what must be true whatever the bytes are.
//! `scripts/fuzz.sh` builds and runs them; what was found is a test beside the code it was found in.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Most heap bytes that one input may have alive at a time, on top of what was there before.
const LIMIT_BYTES: usize = 256 << 20;

/// The system's allocator, which counts what is alive and ends the process beyond a bound.
///
/// libFuzzer's own bound on memory is looked at once a second and does not know which allocation it was.
struct Bounded {
    alive: AtomicUsize,
    limit: AtomicUsize,
}

#[global_allocator]
static ALLOCATOR: Bounded = Bounded {
    alive: AtomicUsize::new(0),
    limit: AtomicUsize::new(usize::MAX),
};

impl Bounded {
    fn grow(&self, bytes: usize) {
        let alive = self
            .alive
            .fetch_add(bytes, Ordering::Relaxed)
            .saturating_add(bytes);
        let limit = self.limit.load(Ordering::Relaxed);
        if alive > limit {
            // Once: to say so takes memory.
            self.limit.store(usize::MAX, Ordering::Relaxed);
            panic!(
                "an input takes more than {LIMIT_BYTES} bytes of memory: {bytes} are asked for, {alive} would be alive"
            );
        }
    }
}

// SAFETY: every call goes to the system's allocator with the layout it came with; counting touches no memory of callers.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.grow(layout.size());
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        self.alive.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: `pointer` came from `System` with this layout, as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.grow(size);
        self.alive.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: `pointer` came from `System` with this layout, as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Bounds what `run` allocates; beyond it the process ends and libFuzzer writes the input down.
pub fn bounded<T>(run: impl FnOnce() -> T) -> T {
    let limit = ALLOCATOR
        .alive
        .load(Ordering::Relaxed)
        .saturating_add(LIMIT_BYTES);
    ALLOCATOR.limit.store(limit, Ordering::Relaxed);
    let result = run();
    ALLOCATOR.limit.store(usize::MAX, Ordering::Relaxed);
    result
}

/// The first line of a text and the lines behind it.
#[must_use]
pub fn head_and_lines(text: &str) -> (&str, impl Iterator<Item = &str> + Clone) {
    let (head, rest) = text.split_once('\n').unwrap_or((text, ""));
    (head, rest.split('\n'))
}
