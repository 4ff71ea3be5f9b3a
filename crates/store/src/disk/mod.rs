//! File access of the store, as a trait that tests can implement.
//!
//! All file access of the store goes through [`Disk`] and [`DiskFile`]: [`real::RealDisk`] is the operating system,
//! [`simulated::SimulatedDisk`] is a disk in memory that loses power, tears pages and is full at a call that a test chooses.
//!
//! Guarantees of both:
//! - A write is in the page cache when it returns, and on the device after [`DiskFile::sync_data`], not before.
//! - A name created by [`Disk::create`], [`Disk::create_dir_all`] or [`Disk::replace`] is on the device when the call returns.
//!   Names created, moved or removed by [`Disk::open`], [`Disk::make_dirs`], [`Disk::rename`] and the `remove_*` calls are there after
//!   [`Disk::sync_dir`] of their directory.
//! - All of these are there after [`Disk::sync_file_system`].
//! - [`Disk::create`] leaves either the whole file under its name or nothing (at most a `.tmp`).
//!
//! Not here: file formats, names of files, retries. Paths are UTF-8 as the store makes them itself.

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub mod real;
pub mod simulated;
mod sys;

pub use sys::local_day;
pub(crate) use sys::local_hour;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// For reading. A missing file is [`io::ErrorKind::NotFound`].
    Read,
    /// For reading and writing. A missing file is [`io::ErrorKind::NotFound`].
    Write,
    /// For reading and writing. A missing file is created empty; its name is durable after [`Disk::sync_dir`].
    WriteOrCreate,
}

/// Whether a new file's blocks are reserved when it is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocate {
    /// Writes allocate blocks, and may find the disk full.
    Sparse,
    /// All blocks are reserved now, or the call fails with [`io::ErrorKind::StorageFull`].
    Reserved,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The name, without the directory.
    pub name: String,
    /// Bytes of the file; 0 for a directory.
    pub len: u64,
    /// Whether the name is a directory.
    pub is_dir: bool,
    /// Time of the last change of its content, epoch ms.
    pub modified_ms: i64,
}

/// Space of the file system of a path, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Size of the file system.
    pub total: u64,
    /// Unused bytes, including those reserved for the administrator.
    pub free: u64,
    /// Unused bytes that this process may use.
    pub available: u64,
}

impl Space {
    /// Used part of the space that this process could ever use, 0.0 to 1.0, as `df` and Apache compute it: space reserved for the
    /// administrator does not count.
    #[must_use]
    pub fn used_ratio(&self) -> f64 {
        let used = self.total.saturating_sub(self.free);
        let reachable = used.saturating_add(self.available);
        if reachable == 0 {
            return 0.0;
        }
        used as f64 / reachable as f64
    }
}

/// Holds a lock on a file until dropped.
pub trait Lock: Send + Sync + Debug {}

/// A tree of files.
pub trait Disk: Send + Sync + Debug {
    /// Opens a file.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if the file does not exist (unless the mode creates it), and any other [`io::Error`] if it
    /// cannot be opened.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;

    /// Creates a file of `len` zero bytes. When this returns, file, length and name are on the device; if it fails, the name does
    /// not exist.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if the name exists; [`io::ErrorKind::StorageFull`] if blocks are to be reserved and there
    /// are not enough.
    fn create(&self, path: &Path, len: u64, allocate: Allocate) -> io::Result<Arc<dyn DiskFile>>;

    /// The names in a directory, in no particular order. Names that are not UTF-8 are skipped: the store creates none.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if the directory does not exist.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;

    /// Creates a directory and its parents, and syncs the names that it created. No error if it exists.
    ///
    /// # Errors
    /// [`io::Error`] if a directory cannot be created or synced.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Creates a directory and its parents without syncing their names: each is on the device after [`Disk::sync_dir`] of the
    /// directory that it is in. No error if it exists.
    ///
    /// # Errors
    /// [`io::Error`] if a directory cannot be created.
    fn make_dirs(&self, dir: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if it does not exist.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory with its content. No error if it does not exist.
    ///
    /// # Errors
    /// [`io::Error`] if something cannot be removed; part of the tree may be gone then.
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Renames a file and replaces the file with the new name, atomically for readers.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if `from` does not exist.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Syncs the names in this directory (created, moved and removed ones; not those in subdirectories).
    ///
    /// # Errors
    /// [`io::Error`] if the directory cannot be synced.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Syncs all files and names of the file system of `path`, which must exist. Other programs' files are among them: for thousands of
    /// files, each of which would be a commit of the file system's journal.
    ///
    /// # Errors
    /// [`io::Error`] if something could not be written. Nobody knows what: none of the files must be trusted then.
    fn sync_file_system(&self, path: &Path) -> io::Result<()>;

    /// Whether the path exists.
    ///
    /// # Errors
    /// [`io::Error`] if the path cannot be examined.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Space of the file system of `path`, which must exist.
    ///
    /// # Errors
    /// [`io::Error`] if the file system cannot be asked.
    fn space(&self, path: &Path) -> io::Result<Space>;

    /// The current time, epoch ms, by the clock that stamps changed files ([`DirEntry::modified_ms`]). The store has no other wall
    /// clock.
    fn now_ms(&self) -> i64;

    /// Identifies the machine's boot. The writes of a process that died are in the page cache: while this stays the same, files
    /// read as they were written. `None` if it is unknown.
    fn boot(&self) -> Option<String>;

    /// Locks a file, which is created if it does not exist, until the guard is dropped. Also excludes a Java broker, which locks
    /// the first byte of the store's `lock` file.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if another process holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>>;

    /// Whether another process holds that lock. Changes nothing; a missing file is not locked.
    ///
    /// # Errors
    /// [`io::Error`] if the lock cannot be examined.
    fn is_locked(&self, path: &Path) -> io::Result<bool>;

    /// The whole content of a file.
    ///
    /// # Errors
    /// As [`Disk::open`]; [`io::ErrorKind::FileTooLarge`] over [`READ_WHOLE_MAX`].
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path, OpenMode::Read)?;
        let len = file.len()?;
        if len > READ_WHOLE_MAX {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("{} has {len} bytes, over {READ_WHOLE_MAX}", path.display()),
            ));
        }
        let mut content = vec![0; usize::try_from(len).unwrap_or(0)];
        let read = file.read_at(&mut content, 0)?;
        content.truncate(read);
        Ok(content)
    }

    /// Replaces a file by `content`, so that after a crash either the old or the new content is there, whole; the old content stays
    /// under the name with `.bak` added. Between two renames only the `.bak` exists: readers fall back to it (see `json_file`).
    ///
    /// # Errors
    /// [`io::Error`] if the file cannot be written, renamed or synced; the old content is still under its name or under `.bak`.
    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let fresh = with_suffix(path, ".tmp");
        let file = self.open(&fresh, OpenMode::WriteOrCreate)?;
        file.set_len(0)?;
        file.write_at(content, 0)?;
        file.sync_data()?;
        drop(file);
        // An empty or missing file must not replace the good content that `.bak` may have.
        if self.open(path, OpenMode::Read).and_then(|old| old.len()).is_ok_and(|len| len > 0) {
            self.rename(path, &with_suffix(path, ".bak"))?;
        }
        self.rename(&fresh, path)?;
        self.sync_dir(parent(path))
    }
}

/// Maximum size of a file that [`Disk::read`] reads into memory.
pub(crate) const READ_WHOLE_MAX: u64 = 1 << 30;

/// An open file. All calls are positioned, and may come from many threads at once.
#[allow(clippy::len_without_is_empty)]
pub trait DiskFile: Send + Sync + Debug {
    /// Bytes of the file.
    ///
    /// # Errors
    /// [`io::Error`] if the file cannot be examined.
    fn len(&self) -> io::Result<u64>;

    /// Reads from `offset` on; fewer bytes than `out` has only at the end of the file.
    ///
    /// # Errors
    /// [`io::Error`] if the file cannot be read.
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize>;

    /// As [`DiskFile::read_at`], from the page cache only.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if part of it is not in the page cache (or this cannot be known); `out` may be partly
    /// overwritten then.
    fn read_cached_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize>;

    /// The next bytes from `offset` on that may not be zero, up to the next unwritten space; `None` if only such space is left. May
    /// name too much, never too little: on some file systems what was read lately counts as data.
    ///
    /// # Errors
    /// [`io::Error`] if the file cannot be examined.
    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>>;

    /// Writes all of `bytes`; the file grows if they go beyond its end.
    ///
    /// # Errors
    /// [`io::Error`] if the file cannot be written; any part may have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Writes all the slices, one after the other, from `offset` on.
    ///
    /// # Errors
    /// As [`DiskFile::write_at`].
    fn write_vectored_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<()>;

    /// Waits until all writes to the file, and its length, are on the device. After an error nothing may be treated as synced, and
    /// the call must not be repeated: the kernel drops the pages that it could not write.
    ///
    /// # Errors
    /// [`io::Error`] if the sync fails.
    fn sync_data(&self) -> io::Result<()>;

    /// Truncates the file, or extends it by zeros (sparse).
    ///
    /// # Errors
    /// [`io::Error`] if the length cannot be changed.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Erases a range within the file: it reads as zeros then. The file's length never changes. May free the blocks of the range:
    /// not for a file created with [`Allocate::Reserved`], where the next write could find the disk full.
    ///
    /// # Errors
    /// [`io::Error`] if the file cannot be written; any part may be zeros.
    fn make_zeros(&self, range: Range<u64>) -> io::Result<()> {
        let (mut at, end) = (range.start, range.end);
        while let Some(data) = self.next_data(at)?.filter(|data| data.start < end) {
            at = data.end.min(end);
            write_zeros(self, data.start.max(range.start)..at)?;
        }
        Ok(())
    }
}

fn write_zeros(file: &(impl DiskFile + ?Sized), range: Range<u64>) -> io::Result<()> {
    const ZEROS: [u8; 16 << 10] = [0; 16 << 10];
    let mut at = range.start;
    while at < range.end {
        let part = (range.end - at).min(ZEROS.len() as u64);
        file.write_at(&ZEROS[..part as usize], at)?;
        at += part;
    }
    Ok(())
}

/// `None` for an error that says that the file or directory does not exist; other errors are passed on.
///
/// # Errors
/// Any error in `result` but [`io::ErrorKind::NotFound`].
pub fn if_exists<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The path with a suffix added to its last name.
#[must_use]
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The directory of a path; `.` for a bare name.
#[must_use]
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}
