//! Follows one growing file by name, through rotation. Gives bytes; knows nothing of lines.
//!
//! Rename and create (logrotate's default, the kubelet): the old file is read to its end once the new one has
//! content, because a writer that has opened the new one has left the old one. Copy and truncate: seen by a
//! shorter file, or by other bytes before the position read to, when the file has already grown past it again.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Bytes before the position that must stay the same.
const FINGERPRINT_BYTES: usize = 64;

/// What a look at the file gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Poll {
    /// So many new bytes are in the buffer.
    Bytes(usize),
    /// The file begins anew; what was read before is whole.
    Rotated,
    /// Nothing new.
    Idle,
}

/// A file that is followed.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    identity: (u64, u64),
    offset: u64,
    /// The last bytes read.
    fingerprint: Vec<u8>,
}

/// How far a file was read; survives a restart in the checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Position {
    /// Device number.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Bytes read.
    pub offset: u64,
}

impl Tail {
    /// Follows `path`, which need not exist yet, from its beginning or from `position` if that is the same file.
    pub fn new(path: &Path, position: Option<Position>) -> Self {
        let mut tail = Self {
            path: path.to_owned(),
            open: None,
        };
        if let Some(position) = position
            && let Ok(Some(mut open)) = Open::at(path)
            && open.identity == (position.device, position.inode)
            && open
                .file
                .metadata()
                .is_ok_and(|meta| meta.len() >= position.offset)
        {
            open.offset = position.offset;
            tail.open = Some(open);
        }
        tail
    }

    /// The path as given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How far the file at hand was read.
    pub fn position(&self) -> Option<Position> {
        self.open.as_ref().map(|o| Position {
            device: o.identity.0,
            inode: o.identity.1,
            offset: o.offset,
        })
    }

    /// Looks for new bytes.
    ///
    /// # Errors
    /// The file is there but can't be read.
    pub fn poll(&mut self, buffer: &mut [u8]) -> io::Result<Poll> {
        let Some(open) = &mut self.open else {
            self.open = Open::at(&self.path)?;
            return if self.open.is_some() {
                self.poll(buffer)
            } else {
                Ok(Poll::Idle)
            };
        };
        // The order matters: once the new file has content, the old one is complete, so the read below sees its end.
        let successor = successor(&self.path, open.identity)?;
        if open.was_truncated()? {
            open.offset = 0;
            open.fingerprint.clear();
            return Ok(Poll::Rotated);
        }
        let read = open.read(buffer)?;
        if read > 0 {
            return Ok(Poll::Bytes(read));
        }
        if successor {
            self.open = None;
            return Ok(Poll::Rotated);
        }
        Ok(Poll::Idle)
    }
}

/// Whether another file with content stands at `path`.
fn successor(path: &Path, identity: (u64, u64)) -> io::Result<bool> {
    match std::fs::metadata(path) {
        Ok(meta) => Ok(identity_of(&meta) != identity && meta.len() > 0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn identity_of(meta: &Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

impl Open {
    fn at(path: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::other("not a regular file, so it can't be followed"));
        }
        Ok(Some(Self {
            identity: identity_of(&meta),
            file,
            offset: 0,
            fingerprint: Vec::new(),
        }))
    }

    fn was_truncated(&self) -> io::Result<bool> {
        let len = self.file.metadata()?.len();
        if len < self.offset {
            return Ok(true);
        }
        if len == self.offset || self.fingerprint.is_empty() {
            return Ok(false);
        }
        let mut now = vec![0; self.fingerprint.len()];
        let read = read_full(&self.file, &mut now, self.offset - self.fingerprint.len() as u64)?;
        Ok(now[..read] != self.fingerprint[..])
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        let bytes = &buffer[..read];
        self.fingerprint
            .extend_from_slice(&bytes[read.saturating_sub(FINGERPRINT_BYTES)..]);
        let surplus = self.fingerprint.len().saturating_sub(FINGERPRINT_BYTES);
        self.fingerprint.drain(..surplus);
        Ok(read)
    }
}

fn read_full(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64)? {
            0 => break,
            read => done += read,
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs::{OpenOptions, remove_file, rename, write};
    use std::io::Write;

    struct Bench {
        folder: tempfile::TempDir,
        tail: Tail,
    }

    impl Bench {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let tail = Tail::new(&folder.path().join("a.log"), None);
            Self { folder, tail }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn append(&self, name: &str, text: &str) {
            let mut file = OpenOptions::new()
                .append(true)
                .create(true)
                .open(self.path(name))
                .unwrap();
            file.write_all(text.as_bytes()).unwrap();
        }

        /// Everything there is to read; `|` marks a rotation.
        fn read(&mut self) -> String {
            let (mut text, mut buffer) = (String::new(), [0; 7]);
            loop {
                match self.tail.poll(&mut buffer).unwrap() {
                    Poll::Bytes(read) => text.push_str(std::str::from_utf8(&buffer[..read]).unwrap()),
                    Poll::Rotated => text.push('|'),
                    Poll::Idle => return text,
                }
            }
        }
    }

    #[test]
    fn waits_for_a_file_and_reads_what_is_added() {
        let mut bench = Bench::new();
        assert_eq!(bench.read(), "");
        bench.append("a.log", "one\ntw");
        assert_eq!(bench.read(), "one\ntw");
        bench.append("a.log", "o\n");
        assert_eq!((bench.read(), bench.read()), ("o\n".into(), String::new()));
    }

    #[test]
    fn reads_the_old_file_to_its_end_after_a_rename() {
        let mut bench = Bench::new();
        bench.append("a.log", "one\n");
        bench.read();
        rename(bench.path("a.log"), bench.path("a.log.1")).unwrap();
        bench.append("a.log.1", "late\n");
        assert_eq!(bench.read(), "late\n");
        write(bench.path("a.log"), "").unwrap();
        bench.append("a.log.1", "later\n");
        assert_eq!(bench.read(), "later\n");
        bench.append("a.log.1", "last\n");
        bench.append("a.log", "new\n");
        assert_eq!(bench.read(), "last\n|new\n");
    }

    #[test]
    fn a_deleted_file_is_still_read_and_its_successor_too() {
        let mut bench = Bench::new();
        bench.append("a.log", "one\n");
        bench.read();
        bench.append("a.log", "two\n");
        remove_file(bench.path("a.log")).unwrap();
        assert_eq!(bench.read(), "two\n");
        bench.append("a.log", "three\n");
        assert_eq!(bench.read(), "|three\n");
    }

    #[test]
    fn copy_and_truncate() {
        let mut bench = Bench::new();
        bench.append("a.log", "one\ntwo\n");
        bench.read();
        OpenOptions::new()
            .write(true)
            .open(bench.path("a.log"))
            .unwrap()
            .set_len(0)
            .unwrap();
        bench.append("a.log", "x\n");
        assert_eq!(bench.read(), "|x\n");
        OpenOptions::new()
            .write(true)
            .open(bench.path("a.log"))
            .unwrap()
            .set_len(0)
            .unwrap();
        bench.append("a.log", "grown past the old position\n");
        assert_eq!(bench.read(), "|grown past the old position\n");
    }

    #[test]
    fn goes_on_at_a_position_only_in_the_same_file() {
        let mut bench = Bench::new();
        bench.append("a.log", "one\n");
        bench.read();
        let position = bench.tail.position();
        bench.append("a.log", "two\n");
        bench.tail = Tail::new(&bench.path("a.log"), position);
        assert_eq!(bench.read(), "two\n");
        let other = position.map(|p| Position {
            inode: p.inode + 1,
            ..p
        });
        bench.tail = Tail::new(&bench.path("a.log"), other);
        assert_eq!(bench.read(), "one\ntwo\n");
    }

    #[test]
    fn a_folder_is_an_error() {
        let mut bench = Bench::new();
        bench.tail = Tail::new(bench.folder.path(), None);
        assert!(
            bench
                .tail
                .poll(&mut [0; 8])
                .unwrap_err()
                .to_string()
                .contains("regular file")
        );
    }
}
