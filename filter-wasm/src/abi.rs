//! Fluent Bit's calling convention around the filter: pointers in, a pointer out.
//!
//! The host copies the tag and the record into this instance's memory (with our `malloc`, NUL-terminated) and calls
//! [`rank_filter`]; it copies the answer, up to its NUL, before it frees the inputs. A trap or a null pointer drops the record, so
//! in any doubt the answer is the input's own pointer. Everything that decides anything is in [`crate::filter`].

use std::cell::RefCell;

use crate::{Config, Filter, Output};

/// Name of the configuration in one of the folders of `accessible_paths`.
const CONFIG_FILE: &[u8] = b"rank_filter.toml";

/// Largest configuration that is read, in bytes.
const MAX_CONFIG: usize = 1 << 20;

thread_local! {
    static INSTANCE: RefCell<Option<Instance>> = const { RefCell::new(None) };
}

struct Instance {
    filter: Filter,
    /// The answer with its NUL; lives until the next call.
    answer: Vec<u8>,
}

impl Instance {
    fn new() -> Self {
        let text = wasi::read_accessible(CONFIG_FILE, MAX_CONFIG).unwrap_or_default();
        let (config, problems) = Config::parse(&String::from_utf8_lossy(&text));
        let mut filter = Filter::new(config);
        filter.report(&problems);
        Instance {
            filter,
            answer: Vec::new(),
        }
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
        let Instance { filter, answer } = instance.get_or_insert_with(Instance::new);
        match filter.record(tag, sec, nsec, text) {
            Output::Unchanged => record,
            Output::Nothing => c"".as_ptr().cast(),
            Output::Record(out) => {
                answer.clear();
                answer.extend_from_slice(out);
                answer.push(0);
                answer.as_ptr()
            }
        }
    })
}

/// The few calls of WASI that are needed, without the standard library's file system on top of them.
mod wasi {
    #[link(wasm_import_module = "wasi_snapshot_preview1")]
    unsafe extern "C" {
        fn fd_prestat_get(fd: u32, prestat: *mut [u32; 2]) -> u16;
        #[allow(clippy::too_many_arguments)]
        fn path_open(
            folder: u32,
            lookup_flags: u32,
            path: *const u8,
            path_len: usize,
            open_flags: u16,
            rights: u64,
            rights_inheriting: u64,
            fd_flags: u16,
            fd: *mut u32,
        ) -> u16;
        fn fd_read(fd: u32, parts: *const Part, count: usize, read: *mut usize) -> u16;
        fn fd_close(fd: u32) -> u16;
    }

    #[repr(C)]
    struct Part {
        start: *mut u8,
        len: usize,
    }

    /// The first folder's descriptor; 0 to 2 are the standard streams.
    const FIRST_FOLDER: u32 = 3;
    const MAX_FOLDERS: u32 = 32;
    const RIGHT_FD_READ: u64 = 1 << 1;

    /// The file of that name in the first accessible folder that has one.
    pub(super) fn read_accessible(name: &[u8], limit: usize) -> Option<Vec<u8>> {
        for folder in FIRST_FOLDER..FIRST_FOLDER + MAX_FOLDERS {
            let mut prestat = [0u32; 2];
            // SAFETY: `prestat` is as large as the structure (8 bytes) and outlives the call.
            if unsafe { fd_prestat_get(folder, &mut prestat) } != 0 {
                return None;
            }
            let mut fd = 0;
            // SAFETY: the path is passed with its length; `fd` outlives the call.
            let opened = unsafe {
                path_open(
                    folder,
                    1,
                    name.as_ptr(),
                    name.len(),
                    0,
                    RIGHT_FD_READ,
                    0,
                    0,
                    &mut fd,
                )
            };
            if opened == 0 {
                let text = read_all(fd, limit);
                // SAFETY: `fd` was opened here and is not used afterwards.
                unsafe { fd_close(fd) };
                return text;
            }
        }
        None
    }

    fn read_all(fd: u32, limit: usize) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        let mut buffer = [0u8; 4096];
        while text.len() < limit {
            let part = Part {
                start: buffer.as_mut_ptr(),
                len: buffer.len(),
            };
            let mut read = 0;
            // SAFETY: the buffer and `read` outlive the call, and the part's length is the buffer's.
            if unsafe { fd_read(fd, &part, 1, &mut read) } != 0 {
                return None;
            }
            if read == 0 {
                break;
            }
            text.extend_from_slice(&buffer[..read.min(buffer.len())]);
        }
        Some(text)
    }
}
