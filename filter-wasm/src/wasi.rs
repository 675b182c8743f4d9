//! The module's files: the configuration and the spool, in the folders that `accessible_paths` names.
//!
//! The few calls of WASI preview 1 that are needed, without the standard library's file system on top of them. A folder that
//! can't be used is passed over; nothing here stops the filter.

use crate::{SPOOL_FILE, SpoolError, SpoolFile};

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
    fn path_rename(
        folder: u32,
        path: *const u8,
        path_len: usize,
        new_folder: u32,
        new_path: *const u8,
        new_path_len: usize,
    ) -> u16;
    fn fd_read(fd: u32, parts: *const Part, count: usize, read: *mut usize) -> u16;
    fn fd_write(fd: u32, parts: *const Part, count: usize, written: *mut usize) -> u16;
    fn fd_filestat_set_size(fd: u32, size: u64) -> u16;
    fn fd_close(fd: u32) -> u16;
}

/// One buffer of a read or a write, which only a read changes.
#[repr(C)]
struct Part {
    start: *mut u8,
    len: usize,
}

/// The first folder's descriptor; 0 to 2 are the standard streams.
const FIRST_FOLDER: u32 = 3;
const MAX_FOLDERS: u32 = 32;

const FOLLOW_LINKS: u32 = 1;
const CREATE: u16 = 1;
const TRUNCATE: u16 = 1 << 3;
const APPEND: u16 = 1;
const RIGHT_FD_READ: u64 = 1 << 1;
const RIGHT_FD_WRITE: u64 = 1 << 6;
const RIGHT_FD_SET_SIZE: u64 = 1 << 22;

/// WASI's number for "input/output error".
const ERRNO_IO: u16 = 29;

/// Where a new spool is written before it takes the old one's place.
const NEW_SPOOL_FILE: &str = "rank_filter.spool.new";

/// The file of that name in the first accessible folder that has one.
pub(crate) fn read_accessible(name: &str, limit: usize) -> Option<Vec<u8>> {
    folders().find_map(|folder| {
        let file = Descriptor::open(folder, name, 0, RIGHT_FD_READ, 0).ok()?;
        file.read_all(limit).ok()
    })
}

/// The accessible folders' descriptors.
fn folders() -> impl Iterator<Item = u32> {
    (FIRST_FOLDER..FIRST_FOLDER + MAX_FOLDERS).take_while(|&folder| {
        let mut prestat = [0u32; 2];
        // SAFETY: `prestat` is as large as the structure (8 bytes) and outlives the call.
        unsafe { fd_prestat_get(folder, &mut prestat) == 0 }
    })
}

/// An open file, closed when it goes.
#[derive(Debug)]
struct Descriptor(u32);

impl Descriptor {
    fn open(folder: u32, name: &str, open_flags: u16, rights: u64, fd_flags: u16) -> Result<Self, u16> {
        let mut fd = 0;
        // SAFETY: the path is passed with its length; `fd` outlives the call.
        let errno = unsafe {
            path_open(
                folder,
                FOLLOW_LINKS,
                name.as_ptr(),
                name.len(),
                open_flags,
                rights,
                0,
                fd_flags,
                &mut fd,
            )
        };
        if errno == 0 {
            Ok(Descriptor(fd))
        } else {
            Err(errno)
        }
    }

    fn read_all(&self, limit: usize) -> Result<Vec<u8>, u16> {
        let mut text = Vec::new();
        let mut buffer = [0u8; 4096];
        while text.len() < limit {
            let part = Part {
                start: buffer.as_mut_ptr(),
                len: buffer.len().min(limit - text.len()),
            };
            let mut read = 0;
            // SAFETY: the buffer and `read` outlive the call, and the part is not longer than the buffer.
            let errno = unsafe { fd_read(self.0, &part, 1, &mut read) };
            if errno != 0 {
                return Err(errno);
            }
            if read == 0 {
                break;
            }
            text.extend_from_slice(&buffer[..read.min(buffer.len())]);
        }
        Ok(text)
    }

    fn write_all(&self, mut bytes: &[u8]) -> Result<(), u16> {
        while !bytes.is_empty() {
            let part = Part {
                start: bytes.as_ptr().cast_mut(),
                len: bytes.len(),
            };
            let mut written = 0;
            // SAFETY: the bytes and `written` outlive the call; a write only reads the part.
            let errno = unsafe { fd_write(self.0, &part, 1, &mut written) };
            if errno != 0 {
                return Err(errno);
            }
            if written == 0 {
                return Err(ERRNO_IO); // it would never end
            }
            bytes = bytes.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    fn set_size(&self, bytes: u64) -> Result<(), u16> {
        // SAFETY: no memory is passed.
        match unsafe { fd_filestat_set_size(self.0, bytes) } {
            0 => Ok(()),
            errno => Err(errno),
        }
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: the descriptor was opened by `Descriptor::open` and nobody uses it afterwards.
        unsafe { fd_close(self.0) };
    }
}

/// The spool in the last accessible folder that can be written to: configuration comes first, state last.
#[derive(Debug)]
pub(crate) struct FolderFile {
    folder: u32,
    file: Descriptor,
}

impl FolderFile {
    /// Nothing when no folder can be written to.
    pub(crate) fn open() -> Option<Self> {
        let folders: Vec<u32> = folders().collect();
        folders.into_iter().rev().find_map(|folder| {
            let file = open_to_append(folder, SPOOL_FILE, CREATE).ok()?;
            Some(FolderFile { folder, file })
        })
    }

    fn put_in_place(&mut self, bytes: &[u8]) -> Result<(), u16> {
        if bytes.is_empty() {
            return self.file.set_size(0);
        }
        let new = open_to_append(self.folder, NEW_SPOOL_FILE, CREATE | TRUNCATE)?;
        new.write_all(bytes)?;
        // SAFETY: both paths are passed with their lengths.
        let errno = unsafe {
            path_rename(
                self.folder,
                NEW_SPOOL_FILE.as_ptr(),
                NEW_SPOOL_FILE.len(),
                self.folder,
                SPOOL_FILE.as_ptr(),
                SPOOL_FILE.len(),
            )
        };
        if errno != 0 {
            return Err(errno);
        }
        self.file = new;
        Ok(())
    }
}

fn open_to_append(folder: u32, name: &str, open_flags: u16) -> Result<Descriptor, u16> {
    let rights = RIGHT_FD_READ | RIGHT_FD_WRITE | RIGHT_FD_SET_SIZE;
    Descriptor::open(folder, name, open_flags, rights, APPEND)
}

impl SpoolFile for FolderFile {
    fn read(&mut self, limit: usize) -> Result<Vec<u8>, SpoolError> {
        // A descriptor of its own begins at the file's start.
        Descriptor::open(self.folder, SPOOL_FILE, 0, RIGHT_FD_READ, 0)
            .and_then(|file| file.read_all(limit))
            .map_err(|errno| SpoolError {
                operation: "read",
                errno,
            })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        self.file.write_all(bytes).map_err(|errno| SpoolError {
            operation: "append",
            errno,
        })
    }

    fn replace(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        self.put_in_place(bytes).map_err(|errno| SpoolError {
            operation: "replace",
            errno,
        })
    }
}
