//! The part of WASI preview 1 that the filter's module imports, over files in memory.
//!
//! Descriptors 0 to 2 are the standard streams (written bytes are taken and forgotten, as nobody reads them in Fluent Bit), 3 is
//! the accessible folder, later ones are open files. Nothing of the machine is reachable.

use wasmi::{Caller, Error, Extern, Linker, Memory};

const SUCCESS: u32 = 0;
const BAD_DESCRIPTOR: u32 = 8;
const FAULT: u32 = 21;
const NO_ENTRY: u32 = 44;
const NOT_SUPPORTED: u32 = 58;

/// Descriptor of the accessible folder.
const FOLDER: u32 = 3;
/// Its name.
const FOLDER_NAME: &[u8] = b"/";

/// What the guest can reach.
#[derive(Debug)]
pub(crate) struct Wasi {
    files: Vec<(String, Vec<u8>)>,
    /// Open files: index into `files` and position.
    open: Vec<Option<(usize, usize)>>,
}

impl Wasi {
    pub(crate) fn new(files: Vec<(String, Vec<u8>)>) -> Self {
        Wasi {
            files,
            open: Vec::new(),
        }
    }

    fn has_folder(&self) -> bool {
        !self.files.is_empty()
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
    if fd > 2 {
        return Ok(BAD_DESCRIPTOR);
    }
    let total = parts(&guest, at, count)?
        .iter()
        .fold(0u32, |sum, part| sum.saturating_add(part.1));
    write_u32(&mut guest, written_at, total)
}

fn fd_read(mut guest: Guest<'_>, fd: u32, at: u32, count: u32, read_at: u32) -> Result<u32, Error> {
    let Some(Some((file, mut position))) = open_slot(&mut guest, fd).map(|slot| *slot) else {
        return Ok(BAD_DESCRIPTOR);
    };
    let start = position;
    for (to, room) in parts(&guest, at, count)? {
        let content = &guest.data().files[file].1;
        let end = content.len().min(position.saturating_add(room as usize));
        let bytes = content[position..end].to_vec();
        write(&mut guest, to, &bytes)?;
        position = end;
    }
    if let Some(slot) = open_slot(&mut guest, fd) {
        *slot = Some((file, position));
    }
    write_u32(
        &mut guest,
        read_at,
        u32::try_from(position - start).unwrap_or(u32::MAX),
    )
}

fn open_slot<'a>(guest: &'a mut Guest<'_>, fd: u32) -> Option<&'a mut Option<(usize, usize)>> {
    let index = fd.checked_sub(FOLDER + 1)? as usize;
    guest.data_mut().open.get_mut(index)
}

fn fd_close(mut guest: Guest<'_>, fd: u32) -> u32 {
    match open_slot(&mut guest, fd) {
        Some(slot) => {
            *slot = None;
            SUCCESS
        }
        None => BAD_DESCRIPTOR,
    }
}

fn fd_prestat_get(mut guest: Guest<'_>, fd: u32, at: u32) -> Result<u32, Error> {
    if fd != FOLDER || !guest.data().has_folder() {
        return Ok(BAD_DESCRIPTOR);
    }
    write_u32(&mut guest, at, 0)?;
    write_u32(&mut guest, at.wrapping_add(4), FOLDER_NAME.len() as u32)
}

fn fd_prestat_dir_name(mut guest: Guest<'_>, fd: u32, at: u32, length: u32) -> Result<u32, Error> {
    if fd != FOLDER || !guest.data().has_folder() || (length as usize) < FOLDER_NAME.len() {
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
    _open_flags: u32,
    _rights: u64,
    _rights_inheriting: u64,
    _flags: u32,
    fd_at: u32,
) -> Result<u32, Error> {
    if folder != FOLDER || !guest.data().has_folder() {
        return Ok(BAD_DESCRIPTOR);
    }
    let mut name = vec![0u8; path_length.min(4096) as usize];
    memory(&guest)?.read(&guest, path as usize, &mut name)?;
    let Some(file) = guest
        .data()
        .files
        .iter()
        .position(|(known, _)| known.as_bytes() == name)
    else {
        return Ok(NO_ENTRY);
    };
    let open = &mut guest.data_mut().open;
    open.push(Some((file, 0)));
    let fd = FOLDER + u32::try_from(open.len()).unwrap_or(u32::MAX - FOLDER);
    write_u32(&mut guest, fd_at, fd)
}
