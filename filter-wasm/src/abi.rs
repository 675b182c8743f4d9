//! Fluent Bit's calling convention around the filter: pointers in, a pointer out.
//!
//! The host copies the tag and the record into this instance's memory (with our [`host_malloc`], NUL-terminated) and calls
//! [`rank_filter`]; it copies the answer, up to its NUL, before it frees the inputs. A trap or a null pointer drops the record, so
//! in any doubt the answer is the input's own pointer. Everything that decides anything is in [`crate::filter`].

use std::cell::{RefCell, UnsafeCell};

use crate::host_buffers::HostBuffers;
use crate::wasi::{self, FolderFile};
use crate::{Config, Filter, Output};

/// Name of the configuration in one of the folders of `accessible_paths`.
const CONFIG_FILE: &str = "rank_filter.toml";

/// Largest configuration that is read, in bytes.
const MAX_CONFIG: usize = 1 << 20;

thread_local! {
    static INSTANCE: RefCell<Option<Filter>> = const { RefCell::new(None) };
}

/// A filter as the folders configure it, with the spool.
#[cold]
fn new_filter() -> Filter {
    let text = wasi::read_accessible(CONFIG_FILE, MAX_CONFIG).unwrap_or_default();
    let (config, problems) = Config::parse(&String::from_utf8_lossy(&text));
    let mut filter = Filter::new(config);
    filter.report(&problems);
    if let Some(file) = FolderFile::open() {
        filter.recover(Box::new(file));
    }
    filter
}

unsafe extern "C" {
    fn malloc(bytes: usize) -> *mut u8;
    fn free(start: *mut u8);
}

/// The buffers, in a module that has one thread.
struct Buffers(UnsafeCell<HostBuffers>);

// SAFETY: the module has no threads, and the functions below don't call each other while they hold the reference.
unsafe impl Sync for Buffers {}

static BUFFERS: Buffers = Buffers(UnsafeCell::new(HostBuffers::new()));

/// What the host calls before it copies a tag or a record in; the build exports it as `malloc`.
#[unsafe(no_mangle)]
#[allow(unreachable_pub)] // exported by the linker, not by a path
pub extern "C" fn host_malloc(bytes: usize) -> *mut u8 {
    // SAFETY: see `Buffers`; the allocator does not come back here.
    let lent = unsafe { &mut *BUFFERS.0.get() }.lend(bytes);
    // SAFETY: the C library's function takes any size.
    lent.unwrap_or_else(|| unsafe { malloc(bytes) })
}

/// What the host calls behind a call; the build exports it as `free`.
///
/// # Safety
/// `start` is null, or came from [`host_malloc`] and was not given back yet.
#[unsafe(no_mangle)]
#[allow(unreachable_pub)] // exported by the linker, not by a path
pub unsafe extern "C" fn host_free(start: *mut u8) {
    // SAFETY: see `Buffers`.
    if !unsafe { &mut *BUFFERS.0.get() }.take_back(start) {
        // SAFETY: what is no lent buffer came from `malloc`, as the caller promises.
        unsafe { free(start) };
    }
}

/// The exported function: one record in, the pointer to at most one record out.
///
/// # Safety
/// `tag` and `record` point to `tag_len` and `record_len` readable bytes that don't change during the call, or are null.
#[unsafe(no_mangle)]
#[allow(unreachable_pub)] // exported by the linker, not by a path
pub unsafe extern "C" fn rank_filter(
    tag: *const u8,
    tag_len: u32,
    sec: u32,
    nsec: u32,
    record: *const u8,
    record_len: u32,
) -> *const u8 {
    if record.is_null() {
        return c"".as_ptr().cast();
    }
    // SAFETY: the host passes buffers of these lengths; a null tag (its allocation failed) is taken as empty.
    let (tag, text) = unsafe {
        let tag = if tag.is_null() {
            &[]
        } else {
            std::slice::from_raw_parts(tag, tag_len as usize)
        };
        (tag, std::slice::from_raw_parts(record, record_len as usize))
    };
    INSTANCE.with(|instance| {
        // Calls don't nest; if they ever did, the inner record would pass as it is.
        let Ok(mut instance) = instance.try_borrow_mut() else {
            return record;
        };
        let filter = instance.get_or_insert_with(new_filter);
        match filter.record(tag, sec, nsec, text) {
            Output::Unchanged => record,
            Output::Nothing => c"".as_ptr().cast(),
            Output::Record(_) => filter.terminated().as_ptr(),
        }
    })
}
