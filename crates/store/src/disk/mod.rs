//! The seam between the store and the machine's files.
//!
//! Everything the store does to a disk goes through [`Disk`] and [`DiskFile`], so that a test can own it:
//! [`real::RealDisk`] is the operating system, [`simulated::SimulatedDisk`] is a disk in memory that loses power, tears
//! pages and runs full at a call a test chooses.
//!
//! What the callers may rely on, on both:
//! - A write is in the page cache when it returns and on the disk after [`DiskFile::sync_data`], not before.
//! - A name made by [`Disk::create`], [`Disk::create_dir_all`] or [`Disk::replace`] is on the disk when the call returns.
//!   Names made, moved or removed by [`Disk::open`], [`Disk::rename`] and the `remove_*` calls are there after
//!   [`Disk::sync_dir`] of their directory.
//! - [`Disk::create`] leaves either the whole file under its name or nothing (a `.tmp` at most).
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
    /// For reading; an absent file is [`io::ErrorKind::NotFound`].
    Read,
    /// For reading and writing; an absent file is [`io::ErrorKind::NotFound`].
    Write,
    /// For reading and writing; an absent file is made empty, its name is durable after [`Disk::sync_dir`].
    WriteOrCreate,
}

/// Whether a new file's blocks are taken from the disk when it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocate {
    /// Blocks are taken by the writes, which may then find the disk full.
    Sparse,
    /// All blocks are taken now, or the call fails with [`io::ErrorKind::StorageFull`].
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
    /// Time of the last change of content, in ms since 1970.
    pub modified_ms: i64,
}

/// Room on the file system a path is on, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Size of the file system.
    pub total: u64,
    /// Unused bytes, those kept for the administrator included.
    pub free: u64,
    /// Unused bytes that this process may take.
    pub available: u64,
}

impl Space {
    /// The used part of what this process could ever use, 0.0 to 1.0, as `df` and Apache compute it: what is kept for the
    /// administrator does not count as room.
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
    /// [`io::ErrorKind::NotFound`] when absent (unless the mode makes it), and whatever the machine says.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;

    /// Makes a file of `len` zero bytes. When this returns, file, length and name are on the disk; when it fails, the name
    /// is not there.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`]; [`io::ErrorKind::StorageFull`] when blocks are to be reserved and there are none.
    fn create(&self, path: &Path, len: u64, allocate: Allocate) -> io::Result<Arc<dyn DiskFile>>;

    /// The names in a directory, in no particular order. Names that are not UTF-8 are left out: the store made none.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] when the directory is absent.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;

    /// Makes a directory and those above it, and syncs the names it made. No error when it is there already.
    ///
    /// # Errors
    /// [`io::Error`] if a directory cannot be created or synced.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] when absent.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory with all in it. No error when it is absent.
    ///
    /// # Errors
    /// [`io::Error`] if something cannot be removed; part of the tree may be gone then.
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Moves a file, replacing the one that has the new name, at once for whoever looks.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] when `from` is absent.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Makes the names in this directory durable (made, moved and removed ones; not those in directories below).
    ///
    /// # Errors
    /// [`io::Error`] if the directory cannot be synced.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Whether the path is there.
    ///
    /// # Errors
    /// [`io::Error`] if the path cannot be examined.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Room on the file system that `path` (which must be there) is on.
    ///
    /// # Errors
    /// [`io::Error`] if the file system cannot be asked.
    fn space(&self, path: &Path) -> io::Result<Space>;

    /// The time, in ms since 1970, by the clock that stamps changed files ([`DirEntry::modified_ms`]). The store has no other wall clock.
    fn now_ms(&self) -> i64;

    /// Names the time since which nothing that was written was lost: the machine's boot. A process that died leaves all it
    /// wrote in the page cache; while this name stays the same, files read as they were written. `None` when the machine
    /// cannot tell.
    fn boot(&self) -> Option<String>;

    /// Takes the lock on a file, made when absent, until the guard is dropped. Excludes a Java broker too, which locks the
    /// first byte of the store's `lock` file.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when another process holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>>;

    /// Whether another process holds that lock. Takes nothing and makes nothing; an absent file is not locked.
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

    /// Puts `content` under the name, so that after a crash either the old or the new content is there, whole, and keeps
    /// the old content under the name with `.bak` added. In the short time between two renames only the `.bak` is there:
    /// whoever reads falls back to it (see `json_file`).
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
        // An empty or absent main file is not worth the good content that `.bak` may still hold.
        if self.open(path, OpenMode::Read).and_then(|old| old.len()).is_ok_and(|len| len > 0) {
            self.rename(path, &with_suffix(path, ".bak"))?;
        }
        self.rename(&fresh, path)?;
        self.sync_dir(parent(path))
    }
}

/// The largest file that [`Disk::read`] takes into memory.
pub(crate) const READ_WHOLE_MAX: u64 = 1 << 30;

/// An open file. All calls are positioned and may come from many threads at once.
#[allow(clippy::len_without_is_empty)]
pub trait DiskFile: Send + Sync + Debug {
    /// Bytes of the file.
    ///
    /// # Errors
    /// [`io::Error`] if the file cannot be examined.
    fn len(&self) -> io::Result<u64>;

    /// Fills `out` from `offset` on; fewer bytes only at the end of the file.
    ///
    /// # Errors
    /// [`io::Error`] if the file cannot be read.
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize>;

    /// As [`DiskFile::read_at`], from the page cache only.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when part of it is not in the page cache (or the machine cannot tell); `out` may be
    /// partly overwritten then.
    fn read_cached_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize>;

    /// The next bytes from `offset` on that may not be zero, up to where space never written follows; `None` when only such
    /// space is left. May name too much, never too little: what was read lately counts as data on some file systems.
    ///
    /// # Errors
    /// [`io::Error`] if the file cannot be examined.
    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>>;

    /// Writes all of `bytes`; the file grows when they reach over its end.
    ///
    /// # Errors
    /// [`io::Error`] if the file cannot be written; any part may have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Writes all the slices one after the other from `offset` on.
    ///
    /// # Errors
    /// As [`DiskFile::write_at`].
    fn write_vectored_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<()>;

    /// Waits until all that was written to the file, and its length, is on the disk. After an error nothing may be taken as
    /// synced and the call must not be repeated in the hope of success: the kernel drops the pages it could not write.
    ///
    /// # Errors
    /// [`io::Error`] if the sync fails.
    fn sync_data(&self) -> io::Result<()>;

    /// Cuts the file or lengthens it by zeros (sparse).
    ///
    /// # Errors
    /// [`io::Error`] if the length cannot be changed.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes the bytes of a range within the file zeros. Its length does not change, not even for a moment that a crash
    /// could keep. May give the blocks of the range back to the file system: not for a file made with
    /// [`Allocate::Reserved`], to which the next write could find the disk full.
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

/// The path with something added to its last name.
#[must_use]
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The directory a path is in; `.` for a bare name.
#[must_use]
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}
