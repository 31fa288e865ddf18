//! Where session files lie: links, locks, permissions, new files beside old ones, renaming. What is in them is not
//! looked at, but for the first bytes of one that is about to be replaced.
//!
//! Whoever changes a session holds an exclusive lock on its file. A file is locked before it is renamed into place, so
//! that the place is never free between the old file and the new one; and whoever gets a lock looks whether the file is
//! still the one at that place.

use super::Place;
use super::format::Preamble;
use super::log::Storage;
use crate::{Error, Result};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// How the names of unfinished files end.
const UNFINISHED: &str = ".session-tmp";
/// Times that a file may be replaced between finding and locking it.
const ATTEMPTS: usize = 8;

/// A session file's place.
#[derive(Debug)]
pub(super) struct Folder {
    /// As it was given, for messages.
    path: PathBuf,
    /// Absolute, all links followed.
    target: PathBuf,
    writable: bool,
    /// The file that is about to be replaced, for its lock.
    _held: Option<Locked>,
}

/// A file, locked unless it is only read.
#[derive(Debug)]
pub(super) struct Locked(pub(super) File);

impl Locked {
    fn new(path: &Path, file: File) -> Result<Self> {
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(Error::SessionInUse { path: path.to_path_buf() }),
            Err(TryLockError::Error(e)) => Err(Error::session_io(path, "cannot be locked", e)),
        }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // Closing would do, were it not for programs that are being started by another thread: they have all our files
        // for a moment, and the lock would be theirs.
        let _ = self.0.unlock();
    }
}

impl Storage for Locked {
    fn len(&mut self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&mut self, at: u64, into: &mut [u8]) -> io::Result<()> {
        self.0.seek(SeekFrom::Start(at))?;
        self.0.read_exact(into)
    }

    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.seek(SeekFrom::Start(at))?;
        self.0.write_all(bytes)
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }
}

/// A number that no other file has.
pub(super) fn fresh_id() -> u64 {
    // Every such state is seeded at random; the standard library offers no other randomness.
    let mut hasher = std::hash::RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.finish()
}

impl Folder {
    /// A place where nothing is yet.
    pub(super) fn new(path: &Path) -> Result<Self> {
        let target = resolve(path)?;
        if fs::symlink_metadata(&target).is_ok() {
            return Err(exists(path));
        }
        Ok(Self { path: path.to_path_buf(), target, writable: true, _held: None })
    }

    /// The place of a file, and the file, locked.
    pub(super) fn open(path: &Path) -> Result<(Self, Locked)> {
        for _ in 0..ATTEMPTS {
            let target = regular(path)?;
            let file = OpenOptions::new().read(true).write(true).open(&target);
            let file = file.map_err(|e| Error::session_io(path, "cannot be opened for writing", e))?;
            let file = Locked::new(path, file)?;
            if is_at(&file.0, &target) {
                return Ok((Self { path: path.to_path_buf(), target, writable: true, _held: None }, file));
            }
        }
        Err(Error::SessionInUse { path: path.to_path_buf() })
    }

    /// The place of a file, and the file, for reading.
    pub(super) fn open_to_read(path: &Path) -> Result<(Self, Locked)> {
        let target = regular(path)?;
        let file = File::open(&target).map_err(|e| Error::session_io(path, "cannot be opened", e))?;
        Ok((Self { path: path.to_path_buf(), target, writable: false, _held: None }, Locked(file)))
    }

    /// A place where nothing is yet, or a session that nobody has open.
    pub(super) fn to_replace(path: &Path) -> Result<Self> {
        let target = resolve(path)?;
        if fs::symlink_metadata(&target).is_err() {
            return Ok(Self { path: path.to_path_buf(), target, writable: true, _held: None });
        }
        let (place, file) = Self::open(path)?;
        let mut start = Vec::new();
        let read = (&file.0).take(8).read_to_end(&mut start);
        read.map_err(|e| Error::session_io(path, "cannot be read", e))?;
        if !start.is_empty() && !Preamble::begins(&start) {
            return Err(Error::session(path, "is there and is no session file; take another name, or delete it first"));
        }
        Ok(Self { _held: Some(file), ..place })
    }

    /// Removes what a process that was killed left of rewriting this session.
    pub(super) fn clean(&self) {
        let Some(folder) = self.target.parent() else { return };
        // Leftovers cost room and nothing else: where they cannot be listed or removed, they stay.
        let Ok(entries) = fs::read_dir(folder) else { return };
        for entry in entries.flatten() {
            let path = entry.path();
            if self.is_unfinished(&path) && entry.file_type().is_ok_and(|t| t.is_file()) && self.is_abandoned(&path) {
                let _ = fs::remove_file(&path);
            }
        }
    }

    /// Whether this is what `beside` would call a file for this session.
    fn is_unfinished(&self, path: &Path) -> bool {
        let name = |p: &Path| p.file_name().map(|n| n.as_encoded_bytes().to_vec()).unwrap_or_default();
        let (found, own) = (name(path), name(&self.target));
        let id = found
            .strip_prefix(b".")
            .and_then(|rest| rest.strip_prefix(own.as_slice()))
            .and_then(|rest| rest.strip_prefix(b"."))
            .and_then(|rest| rest.strip_suffix(UNFINISHED.as_bytes()));
        id.is_some_and(|id| id.len() == 16 && id.iter().all(u8::is_ascii_hexdigit))
    }

    /// Whether nobody is writing this file: it is not locked, or only by being another name of the session itself.
    fn is_abandoned(&self, path: &Path) -> bool {
        File::open(path).is_ok_and(|file| is_at(&file, &self.target) || Locked::new(path, file).is_ok())
    }

    fn unfinished(&self, id: u64) -> PathBuf {
        let mut name = OsString::from(".");
        name.push(self.target.file_name().unwrap_or_default());
        name.push(format!(".{id:016x}{UNFINISHED}"));
        self.target.with_file_name(name)
    }

    fn folder(&self) -> &Path {
        self.target.parent().unwrap_or(&self.target)
    }
}

impl Place for Folder {
    type File = Locked;

    fn path(&self) -> &Path {
        &self.path
    }

    fn writable(&self) -> Result<()> {
        if self.writable { Ok(()) } else { Err(Error::session(&self.path, "was opened for reading only")) }
    }

    fn beside(&mut self, id: u64) -> Result<Locked> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options
            .open(self.unfinished(id))
            .map_err(|e| Error::session_io(self.folder(), "no file can be made in this folder", e))?;
        Locked::new(&self.path, file).inspect_err(|_| self.discard(id))
    }

    fn publish(&mut self, id: u64, new: bool) -> Result<()> {
        let unfinished = self.unfinished(id);
        if new {
            // A link is never put in the place of a file that someone else made meanwhile. Some file systems have none.
            match fs::hard_link(&unfinished, &self.target) {
                Ok(()) => {
                    self.discard(id);
                    return Ok(());
                }
                Err(_) if fs::symlink_metadata(&self.target).is_ok() => return Err(exists(&self.path)),
                Err(_) => (),
            }
        }
        let renamed = fs::rename(&unfinished, &self.target);
        renamed.map_err(|e| Error::session_io(&self.path, "a new file cannot be put in its place", e))
    }

    fn settle(&mut self) -> Result<()> {
        match File::open(self.folder()).and_then(|folder| folder.sync_all()) {
            // Some file systems have no way to do this, and some folders may be written and not read.
            Err(e)
                if !matches!(
                    e.kind(),
                    ErrorKind::InvalidInput | ErrorKind::Unsupported | ErrorKind::PermissionDenied
                ) =>
            {
                Err(Error::session_io(self.folder(), "the folder cannot be written to the disk", e))
            }
            _ => Ok(()),
        }
    }

    fn discard(&mut self, id: u64) {
        // What stays is removed at the next opening.
        let _ = fs::remove_file(self.unfinished(id));
    }
}

/// The path with all links followed; its last part need not exist.
fn resolve(path: &Path) -> Result<PathBuf> {
    match fs::canonicalize(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => (),
        other => return other.map_err(|e| Error::session_io(path, "cannot be examined", e)),
    }
    if fs::symlink_metadata(path).is_ok() {
        return Err(Error::session(
            path,
            "is a link to a file that does not exist; delete the link, or take its target",
        ));
    }
    let Some(name) = path.file_name() else { return Err(Error::session(path, "names no file")) };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = fs::canonicalize(folder).map_err(|e| match e.kind() {
        ErrorKind::NotFound => Error::session(folder, "there is no such folder; make it, or name another one"),
        _ => Error::session_io(folder, "cannot be examined", e),
    })?;
    Ok(folder.join(name))
}

/// The path of a file that exists and is no folder, device or pipe, with all links followed.
fn regular(path: &Path) -> Result<PathBuf> {
    let target = resolve(path)?;
    let meta = fs::metadata(&target).map_err(|e| match e.kind() {
        ErrorKind::NotFound => Error::session(path, "there is no such session file"),
        _ => Error::session_io(path, "cannot be examined", e),
    })?;
    match meta {
        meta if meta.is_file() => Ok(target),
        meta if meta.is_dir() => Err(Error::session(path, "is a folder; name a file in it")),
        _ => Err(Error::session(path, "is no regular file")),
    }
}

/// Whether `file` is what lies at `target` now.
#[cfg(unix)]
fn is_at(file: &File, target: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |meta: &fs::Metadata| (meta.dev(), meta.ino());
    matches!((file.metadata(), fs::metadata(target)), (Ok(a), Ok(b)) if id(&a) == id(&b))
}

/// Whether `file` is what lies at `target` now. An open file cannot be replaced here.
#[cfg(not(unix))]
fn is_at(_file: &File, _target: &Path) -> bool {
    true
}

fn exists(path: &Path) -> Error {
    Error::session(path, "is there already; open it, or take another name")
}
