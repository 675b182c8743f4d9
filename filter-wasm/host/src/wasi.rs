//! The part of WASI preview 1 that the filter's module imports, over one [`Folder`].
//!
//! Descriptors 0 to 2 are the standard streams (written bytes are taken and forgotten, as nobody reads them in Fluent Bit), 3 is
//! the accessible folder, later ones are open files. Nothing else of the machine is reachable.

use wasmi::{Caller, Error, Extern, Linker, Memory};

use crate::folder::{File, Folder, How};

const SUCCESS: u32 = 0;
const BAD_DESCRIPTOR: u32 = 8;
const FAULT: u32 = 21;
const NOT_SUPPORTED: u32 = 58;

/// Descriptor of the accessible folder.
const FOLDER: u32 = 3;
/// Its name.
const FOLDER_NAME: &[u8] = b"/";

const OPEN_CREATE: u32 = 1;
const OPEN_TRUNCATE: u32 = 1 << 3;
const FLAG_APPEND: u32 = 1;
const RIGHT_FD_WRITE: u64 = 1 << 6;

/// What the guest can reach.
#[derive(Debug)]
pub(crate) struct Wasi {
    folder: Folder,
    open: Vec<Option<File>>,
}

impl Wasi {
    pub(crate) fn new(folder: Folder) -> Self {
        Wasi {
            folder,
            open: Vec::new(),
        }
    }

    fn slot(&mut self, fd: u32) -> Option<&mut Option<File>> {
        let index = fd.checked_sub(FOLDER + 1)? as usize;
        self.open.get_mut(index)
    }

    /// Puts the file under the lowest descriptor that is free.
    fn insert(&mut self, file: File) -> u32 {
        let free = self.open.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            self.open.push(None);
            self.open.len() - 1
        });
        self.open[index] = Some(file);
        u32::try_from(index).map_or(u32::MAX, |index| index.saturating_add(FOLDER + 1))
    }
}

type Guest<'a> = Caller<'a, Wasi>;

fn memory(guest: &Guest<'_>) -> Result<Memory, Error> {
    guest
        .get_export("memory")
        .and_then(Extern::into_memory)
        .ok_or_else(|| Error::new("no memory is exported"))
}

fn write(guest: &mut Guest<'_>, at: u32, bytes: &[u8]) -> Result<u32, Error> {
    let memory = memory(guest)?;
    Ok(if memory.write(guest, at as usize, bytes).is_ok() {
        SUCCESS
    } else {
        FAULT
    })
}

fn write_u32(guest: &mut Guest<'_>, at: u32, value: u32) -> Result<u32, Error> {
    write(guest, at, &value.to_le_bytes())
}

/// The parts of a scattered read or write: start and length.
fn parts(guest: &Guest<'_>, at: u32, count: u32) -> Result<Vec<(u32, u32)>, Error> {
    let memory = memory(guest)?;
    let mut found = Vec::new();
    for i in 0..count.min(1024) {
        let mut raw = [0u8; 8];
        memory.read(guest, at as usize + 8 * i as usize, &mut raw)?;
        let word = |from: usize| u32::from_le_bytes([raw[from], raw[from + 1], raw[from + 2], raw[from + 3]]);
        found.push((word(0), word(4)));
    }
    Ok(found)
}

/// Links every function that the standard library or the C library may import.
pub(crate) fn link(linker: &mut Linker<Wasi>) -> Result<(), Error> {
    const MODULE: &str = "wasi_snapshot_preview1";
    linker.func_wrap(MODULE, "environ_sizes_get", no_strings)?;
    linker.func_wrap(MODULE, "args_sizes_get", no_strings)?;
    linker.func_wrap(MODULE, "environ_get", |_: u32, _: u32| SUCCESS)?;
    linker.func_wrap(MODULE, "args_get", |_: u32, _: u32| SUCCESS)?;
    linker.func_wrap(MODULE, "clock_time_get", clock_time_get)?;
    linker.func_wrap(MODULE, "random_get", random_get)?;
    linker.func_wrap(MODULE, "sched_yield", || SUCCESS)?;
    linker.func_wrap(MODULE, "proc_exit", |code: u32| -> Result<(), Error> {
        Err(Error::new(format!("the guest exited with code {code}")))
    })?;
    linker.func_wrap(MODULE, "fd_write", fd_write)?;
    linker.func_wrap(MODULE, "fd_read", fd_read)?;
    linker.func_wrap(MODULE, "fd_close", fd_close)?;
    linker.func_wrap(MODULE, "fd_seek", |_: u32, _: u64, _: u32, _: u32| NOT_SUPPORTED)?;
    linker.func_wrap(
        MODULE,
        "fd_fdstat_get",
        |mut guest: Guest<'_>, _fd: u32, at: u32| write(&mut guest, at, &[0; 24]),
    )?;
    linker.func_wrap(MODULE, "fd_fdstat_set_flags", |_: u32, _: u32| NOT_SUPPORTED)?;
    linker.func_wrap(MODULE, "fd_filestat_get", |_: u32, _: u32| NOT_SUPPORTED)?;
    linker.func_wrap(MODULE, "fd_prestat_get", fd_prestat_get)?;
    linker.func_wrap(MODULE, "fd_prestat_dir_name", fd_prestat_dir_name)?;
    linker.func_wrap(MODULE, "path_open", path_open)?;
    linker.func_wrap(MODULE, "path_rename", path_rename)?;
    linker.func_wrap(MODULE, "fd_filestat_set_size", fd_filestat_set_size)?;
    linker.func_wrap(
        MODULE,
        "path_filestat_get",
        |_: u32, _: u32, _: u32, _: u32, _: u32| NOT_SUPPORTED,
    )?;
    Ok(())
}

fn no_strings(mut guest: Guest<'_>, count_at: u32, bytes_at: u32) -> Result<u32, Error> {
    write_u32(&mut guest, count_at, 0)?;
    write_u32(&mut guest, bytes_at, 0)
}

fn clock_time_get(mut guest: Guest<'_>, _clock: u32, _precision: u64, at: u32) -> Result<u32, Error> {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
    write(&mut guest, at, &now.to_le_bytes())
}

/// Equal bytes on every run: the filter must not depend on chance.
fn random_get(mut guest: Guest<'_>, at: u32, length: u32) -> Result<u32, Error> {
    write(&mut guest, at, &vec![0x5a; length as usize % (1 << 16)])
}

fn fd_write(mut guest: Guest<'_>, fd: u32, at: u32, count: u32, written_at: u32) -> Result<u32, Error> {
    let mut total = 0u32;
    for (from, length) in parts(&guest, at, count)? {
        if fd > 2 {
            let memory = memory(&guest)?;
            let (memory, wasi) = memory.data_and_store_mut(&mut guest);
            let end = (from as usize).saturating_add(length as usize);
            let Some(bytes) = memory.get(from as usize..end) else {
                return Ok(FAULT);
            };
            let Some(Some(file)) = wasi.slot(fd) else {
                return Ok(BAD_DESCRIPTOR);
            };
            if let Err(errno) = file.write(bytes) {
                return Ok(errno);
            }
        }
        total = total.saturating_add(length);
    }
    write_u32(&mut guest, written_at, total)
}

fn fd_read(mut guest: Guest<'_>, fd: u32, at: u32, count: u32, read_at: u32) -> Result<u32, Error> {
    let mut total = 0u32;
    for (to, room) in parts(&guest, at, count)? {
        let wasi = guest.data_mut();
        let Wasi { folder, open } = wasi;
        let index = fd.checked_sub(FOLDER + 1).map(|index| index as usize);
        let Some(Some(file)) = index.and_then(|index| open.get_mut(index)) else {
            return Ok(BAD_DESCRIPTOR);
        };
        let bytes = match folder.read(file, room as usize) {
            Ok(bytes) => bytes,
            Err(errno) => return Ok(errno),
        };
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        total = total.saturating_add(length);
        if write(&mut guest, to, &bytes)? != SUCCESS {
            return Ok(FAULT);
        }
        if length < room {
            break;
        }
    }
    write_u32(&mut guest, read_at, total)
}

fn fd_filestat_set_size(mut guest: Guest<'_>, fd: u32, bytes: u64) -> u32 {
    match guest.data_mut().slot(fd) {
        Some(Some(file)) => file.set_size(bytes).err().unwrap_or(SUCCESS),
        _ => BAD_DESCRIPTOR,
    }
}

fn fd_close(mut guest: Guest<'_>, fd: u32) -> u32 {
    match guest.data_mut().slot(fd) {
        Some(slot @ Some(_)) => {
            *slot = None;
            SUCCESS
        }
        _ => BAD_DESCRIPTOR,
    }
}

fn fd_prestat_get(mut guest: Guest<'_>, fd: u32, at: u32) -> Result<u32, Error> {
    if fd != FOLDER || !guest.data().folder.is_there() {
        return Ok(BAD_DESCRIPTOR);
    }
    write_u32(&mut guest, at, 0)?;
    write_u32(&mut guest, at.wrapping_add(4), FOLDER_NAME.len() as u32)
}

fn fd_prestat_dir_name(mut guest: Guest<'_>, fd: u32, at: u32, length: u32) -> Result<u32, Error> {
    if fd != FOLDER || !guest.data().folder.is_there() || (length as usize) < FOLDER_NAME.len() {
        return Ok(BAD_DESCRIPTOR);
    }
    write(&mut guest, at, FOLDER_NAME)
}

#[allow(clippy::too_many_arguments)] // WASI's signature
fn path_open(
    mut guest: Guest<'_>,
    folder: u32,
    _lookup_flags: u32,
    path: u32,
    path_length: u32,
    open_flags: u32,
    rights: u64,
    _rights_inheriting: u64,
    flags: u32,
    fd_at: u32,
) -> Result<u32, Error> {
    if folder != FOLDER || !guest.data().folder.is_there() {
        return Ok(BAD_DESCRIPTOR);
    }
    let name = read_name(&guest, path, path_length)?;
    let how = How {
        write: rights & RIGHT_FD_WRITE != 0,
        create: open_flags & OPEN_CREATE != 0,
        truncate: open_flags & OPEN_TRUNCATE != 0,
        append: flags & FLAG_APPEND != 0,
    };
    match guest.data().folder.open(&name, how) {
        Ok(file) => {
            let fd = guest.data_mut().insert(file);
            write_u32(&mut guest, fd_at, fd)
        }
        Err(errno) => Ok(errno),
    }
}

fn path_rename(
    guest: Guest<'_>,
    folder: u32,
    path: u32,
    path_length: u32,
    new_folder: u32,
    new_path: u32,
    new_path_length: u32,
) -> Result<u32, Error> {
    if (folder, new_folder) != (FOLDER, FOLDER) {
        return Ok(BAD_DESCRIPTOR);
    }
    let from = read_name(&guest, path, path_length)?;
    let to = read_name(&guest, new_path, new_path_length)?;
    Ok(guest.data().folder.rename(&from, &to).err().unwrap_or(SUCCESS))
}

fn read_name(guest: &Guest<'_>, at: u32, length: u32) -> Result<String, Error> {
    let mut name = vec![0u8; length.min(4096) as usize];
    memory(guest)?.read(guest, at as usize, &mut name)?;
    Ok(String::from_utf8_lossy(&name).into_owned())
}
