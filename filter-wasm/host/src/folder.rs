//! The one folder that the guest can reach: files in memory, which can only be read, or a folder of the machine.
//!
//! Names are single path components; nothing outside the folder is reachable. Errors are WASI's numbers.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

const EXISTS_NOT: u32 = 44;
const IO: u32 = 29;
const READ_ONLY: u32 = 69;
const NOT_PERMITTED: u32 = 63;

/// The folder.
#[derive(Debug)]
pub(crate) enum Folder {
    /// Names and contents; with none there is no folder.
    Memory(Vec<(String, Vec<u8>)>),
    /// A folder of this machine.
    Real(PathBuf),
}

/// How a file is opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct How {
    pub write: bool,
    pub create: bool,
    pub truncate: bool,
    pub append: bool,
}

/// An open file.
#[derive(Debug)]
pub(crate) enum File {
    Memory { index: usize, position: usize },
    Real(std::fs::File),
}

impl Folder {
    pub(crate) fn is_there(&self) -> bool {
        !matches!(self, Folder::Memory(files) if files.is_empty())
    }

    pub(crate) fn open(&self, name: &str, how: How) -> Result<File, u32> {
        match self {
            Folder::Memory(_) if how.write => Err(READ_ONLY),
            Folder::Memory(files) => {
                let index = files.iter().position(|(known, _)| known == name);
                let index = index.ok_or(EXISTS_NOT)?;
                Ok(File::Memory { index, position: 0 })
            }
            Folder::Real(folder) => {
                let file = std::fs::OpenOptions::new()
                    .read(true)
                    .write(how.write)
                    .create(how.create && how.write)
                    .truncate(how.truncate && how.write && !how.append)
                    .append(how.append)
                    .open(inside(folder, name)?)
                    .map_err(errno)?;
                if how.truncate && how.append {
                    file.set_len(0).map_err(errno)?;
                }
                Ok(File::Real(file))
            }
        }
    }

    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<(), u32> {
        match self {
            Folder::Memory(_) => Err(READ_ONLY),
            Folder::Real(folder) => {
                std::fs::rename(inside(folder, from)?, inside(folder, to)?).map_err(errno)
            }
        }
    }

    /// Reads up to `room` bytes from where the last read ended.
    pub(crate) fn read(&self, file: &mut File, room: usize) -> Result<Vec<u8>, u32> {
        match (self, file) {
            (Folder::Memory(files), File::Memory { index, position }) => {
                let content = &files.get(*index).ok_or(EXISTS_NOT)?.1;
                let rest = content.get(*position..).unwrap_or_default();
                let bytes = rest[..room.min(rest.len())].to_vec();
                *position += bytes.len();
                Ok(bytes)
            }
            (_, File::Real(file)) => {
                let mut bytes = vec![0; room.min(1 << 20)];
                let read = file.read(&mut bytes).map_err(errno)?;
                bytes.truncate(read);
                Ok(bytes)
            }
            (Folder::Real(_), File::Memory { .. }) => Err(IO),
        }
    }
}

impl File {
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), u32> {
        match self {
            File::Memory { .. } => Err(READ_ONLY),
            File::Real(file) => file.write_all(bytes).map_err(errno),
        }
    }

    pub(crate) fn set_size(&mut self, bytes: u64) -> Result<(), u32> {
        match self {
            File::Memory { .. } => Err(READ_ONLY),
            File::Real(file) => file.set_len(bytes).map_err(errno),
        }
    }
}

fn inside(folder: &Path, name: &str) -> Result<PathBuf, u32> {
    let plain = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0']);
    plain.then(|| folder.join(name)).ok_or(NOT_PERMITTED)
}

fn errno(error: std::io::Error) -> u32 {
    match error.kind() {
        std::io::ErrorKind::NotFound => EXISTS_NOT,
        std::io::ErrorKind::PermissionDenied => NOT_PERMITTED,
        std::io::ErrorKind::ReadOnlyFilesystem => READ_ONLY,
        _ => IO,
    }
}
