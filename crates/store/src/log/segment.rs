//! The commit log's files, and the next file, which is prepared ahead.
//!
//! A file's name is the offset of its first byte, in 20 digits. It has its full length from the start, with its blocks reserved, so
//! that an append neither grows a file nor finds the disk full. Unwritten space reads as zeros.
//!
//! Not here: records. This module knows bytes only.

use crate::disk::{Allocate, Disk, DiskFile, OpenMode};
use crate::error::StoreError;
use crate::sync::{Broken, Condvar, Mutex, RwLock, is_broken};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One log file.
#[derive(Debug)]
pub(crate) struct Segment {
    /// Offset of its first byte.
    pub(crate) base: i64,
    /// Bytes of the file.
    pub(crate) len: i64,
    /// The open file.
    pub(crate) file: Arc<dyn DiskFile>,
}

impl Segment {
    /// Offset after its last byte.
    pub(crate) fn end(&self) -> i64 {
        self.base + self.len
    }

    /// Position of a log offset in the file.
    pub(crate) fn position(&self, offset: i64) -> u64 {
        (offset - self.base) as u64
    }
}

/// All log files, oldest first, without gaps.
#[derive(Debug)]
pub(crate) struct Segments {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    len: i64,
    list: RwLock<Vec<Arc<Segment>>>,
    /// The file after the last one. Never locked over I/O, since a roll takes it under the append lock.
    next: Mutex<Next>,
    /// Notified when `next` is no longer [`Next::Busy`].
    next_changed: Condvar,
    /// Held while old files are removed.
    removing: Mutex<()>,
}

/// The file after the last one.
#[derive(Debug)]
enum Next {
    Absent,
    /// A thread creates or removes it.
    Busy,
    Ready(Arc<Segment>),
}

/// The right to create or remove the next file. Other threads that want it wait until this is dropped.
struct NextWork<'a> {
    segments: &'a Segments,
    /// What was prepared before; what is prepared when this is dropped.
    prepared: Option<Arc<Segment>>,
}

impl Drop for NextWork<'_> {
    fn drop(&mut self) {
        *self.segments.next.lock() = self.prepared.take().map_or(Next::Absent, Next::Ready);
        self.segments.next_changed.notify_all();
    }
}

impl Segments {
    /// Opens the files of a directory, which need not exist.
    ///
    /// # Errors
    /// `StoreError::Io` if the files cannot be listed or opened. `StoreError::Layout` if a file does not have the configured
    /// length, or one is missing.
    pub(crate) fn open(disk: Arc<dyn Disk>, dir: &Path, len: u64) -> Result<Self, StoreError> {
        disk.create_dir_all(dir).map_err(|e| StoreError::io("create", dir, e))?;
        // The last process may not have synced names that it created.
        disk.sync_dir(dir).map_err(|e| StoreError::io("sync", dir, e))?;
        let mut found: Vec<(i64, u64, String)> = disk
            .list(dir)
            .map_err(|e| StoreError::io("list", dir, e))?
            .into_iter()
            .filter(|entry| !entry.is_dir)
            .filter_map(|entry| Some((parse_name(&entry.name)?, entry.len, entry.name)))
            .collect();
        found.sort_unstable();
        drop_unfinished_last(&*disk, dir, len, &mut found)?;
        let mut list: Vec<Arc<Segment>> = Vec::with_capacity(found.len());
        for (base, file_len, name) in found {
            let path = dir.join(name);
            if file_len != len {
                return Err(StoreError::Layout(format!(
                    "{} has {file_len} bytes, but mappedFileSizeCommitLog is {len}: set it to the size this directory was written with",
                    path.display()
                )));
            }
            if let Some(last) = list.last().filter(|last| last.end() != base) {
                return Err(StoreError::Layout(format!(
                    "{} is missing: the log has a gap before {}",
                    name_of(last.end()),
                    path.display()
                )));
            }
            let file = disk.open(&path, OpenMode::Write).map_err(|e| StoreError::io("open", &path, e))?;
            list.push(Arc::new(Segment {
                base,
                len: len as i64,
                file,
            }));
        }
        Ok(Self {
            disk,
            dir: dir.to_owned(),
            len: len as i64,
            list: RwLock::new(list),
            next: Mutex::new(Next::Absent),
            next_changed: Condvar::default(),
            removing: Mutex::new(()),
        })
    }

    /// Bytes of each file.
    pub(crate) fn segment_len(&self) -> i64 {
        self.len
    }

    /// Offset of the first byte kept.
    pub(crate) fn first_offset(&self) -> Option<i64> {
        self.list.read().first().map(|s| s.base)
    }

    /// The newest file.
    pub(crate) fn last(&self) -> Option<Arc<Segment>> {
        self.list.read().last().cloned()
    }

    /// All files, oldest first.
    pub(crate) fn all(&self) -> Vec<Arc<Segment>> {
        self.list.read().clone()
    }

    /// The file that has an offset.
    pub(crate) fn holding(&self, offset: i64) -> Option<Arc<Segment>> {
        let list = self.list.read();
        let first = list.first()?.base;
        let at = usize::try_from((offset - first).checked_div(self.len)?)
            .ok()
            .filter(|_| offset >= first)?;
        list.get(at).cloned()
    }

    /// The name of the file that has an offset, whether it exists or not.
    pub(crate) fn file_of(&self, offset: i64) -> String {
        let first = self.first_offset().unwrap_or(0);
        name_of(offset - (offset - first).rem_euclid(self.len))
    }

    /// Creates the file after the last one, unless it exists. The keeper calls this ahead of need; an append calls it only when the
    /// last file has no room for its records. While another thread creates the file, this waits for it.
    ///
    /// # Errors
    /// `StoreError::DiskFull` if the disk has no room for the file, `StoreError::Io` if it cannot be created.
    pub(crate) fn prepare_next(&self) -> Result<(), StoreError> {
        if self.is_next_ready() {
            return Ok(());
        }
        let mut work = self.work_on_next();
        if work.prepared.is_none() {
            // Nothing becomes the last file meanwhile: a roll needs a prepared file.
            let base = self.last().map_or(0, |last| last.end());
            work.prepared = Some(self.create(base)?);
        }
        Ok(())
    }

    fn work_on_next(&self) -> NextWork<'_> {
        let mut next = self.next.lock();
        let prepared = loop {
            match std::mem::replace(&mut *next, Next::Busy) {
                Next::Absent => break None,
                Next::Ready(segment) => break Some(segment),
                Next::Busy => self.next_changed.wait(&mut next),
            }
        };
        NextWork { segments: self, prepared }
    }

    /// Whether the next file is there.
    pub(crate) fn is_next_ready(&self) -> bool {
        matches!(*self.next.lock(), Next::Ready(_))
    }

    /// Makes the prepared file the last one and returns it; `None` if none is prepared. Never waits for I/O.
    pub(crate) fn roll(&self) -> Option<Arc<Segment>> {
        if is_broken(Broken::WaitedForFileInAppend) {
            drop(self.work_on_next());
        }
        // Locked until the file is in the list, from which the place of the one after it is computed.
        let mut next = self.next.lock();
        match std::mem::replace(&mut *next, Next::Absent) {
            Next::Ready(segment) => {
                self.list.write().push(segment.clone());
                Some(segment)
            }
            other => {
                *next = other;
                None
            }
        }
    }

    /// Uses the empty file after the one that has `end` as the prepared one. Only after a clean shutdown: otherwise it may have
    /// stale bytes.
    pub(crate) fn adopt_next(&self, end: i64) {
        let mut list = self.list.write();
        if list.len() >= 2 && list[list.len() - 2].end() > end && list[list.len() - 1].base > end {
            *self.next.lock() = list.pop().map_or(Next::Absent, Next::Ready);
        }
    }

    fn create(&self, base: i64) -> Result<Arc<Segment>, StoreError> {
        let path = self.dir.join(name_of(base));
        let file = match self.disk.create(&path, self.len as u64, Allocate::Reserved) {
            // Left by an attempt that failed after the file had its name.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                self.disk.sync_dir(&self.dir).and_then(|()| self.disk.open(&path, OpenMode::Write))
            }
            made => made,
        };
        let file = file.map_err(|e| match e.kind() {
            io::ErrorKind::StorageFull => StoreError::DiskFull(format!(
                "no room for the next commit log file of {} bytes at {}",
                self.len,
                path.display()
            )),
            _ => StoreError::io("create", &path, e),
        })?;
        Ok(Arc::new(Segment { base, len: self.len, file }))
    }

    /// Removes the files that begin at or after `offset`, the prepared one too. Only recovery and truncation call this. Each
    /// removal is synced before the next one, so there is never a gap between files.
    ///
    /// # Errors
    /// `StoreError::Io` if a file cannot be removed or the directory cannot be synced.
    pub(crate) fn remove_from(&self, offset: i64) -> Result<(), StoreError> {
        // To the end: no next file is created while its name may be removed.
        self.remove_files_from(offset, &mut self.work_on_next())
    }

    fn remove_files_from(&self, offset: i64, work: &mut NextWork<'_>) -> Result<(), StoreError> {
        let prepared = work.prepared.take_if(|next| next.base >= offset);
        let mut removed: Vec<_> = {
            let mut list = self.list.write();
            let keep = list.iter().take_while(|s| s.base < offset).count();
            list.split_off(keep)
        };
        removed.extend(prepared);
        for segment in removed.iter().rev() {
            self.remove_file(segment.base)?;
            self.sync_names()?;
        }
        self.sync_names()
    }

    /// Replaces all files, which have no records, by one that begins at `base`.
    ///
    /// # Errors
    /// `StoreError::DiskFull` or `StoreError::Io` if files cannot be removed or created; some may be gone then.
    pub(crate) fn begin_at(&self, base: i64) -> Result<(), StoreError> {
        let mut work = self.work_on_next();
        self.remove_files_from(i64::MIN, &mut work)?;
        let first = self.create(base)?;
        self.list.write().push(first);
        Ok(())
    }

    /// Removes the oldest file, unless it is the last one. As in [`Segments::remove_from`] there is never a gap, even after an
    /// error.
    ///
    /// # Errors
    /// `StoreError::Io` if the file cannot be removed or the directory cannot be synced.
    pub(crate) fn remove_oldest(&self) -> Result<(), StoreError> {
        let _alone = self.removing.lock();
        let oldest = match &self.list.read()[..] {
            [oldest, _, ..] => Some(oldest.base),
            _ => None,
        };
        let Some(base) = oldest else { return Ok(()) };
        self.remove_file(base)?;
        // Closed after the lock is released: the file system frees the file's blocks when its last descriptor is closed, which
        // takes time.
        let removed = self.list.write().remove(0);
        drop(removed);
        self.sync_names()
    }

    fn sync_names(&self) -> Result<(), StoreError> {
        self.disk.sync_dir(&self.dir).map_err(|e| StoreError::io("sync", &self.dir, e))
    }

    fn remove_file(&self, base: i64) -> Result<(), StoreError> {
        let path = self.dir.join(name_of(base));
        match self.disk.remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", &path, e)),
            _ => Ok(()),
        }
    }

    /// First offset and time of the last change (epoch ms) of each file, for retention.
    ///
    /// # Errors
    /// `StoreError::Io` if the directory cannot be listed.
    pub(crate) fn ages(&self) -> Result<Vec<(i64, i64)>, StoreError> {
        let entries = self.disk.list(&self.dir).map_err(|e| StoreError::io("list", &self.dir, e))?;
        let mut ages: Vec<_> = entries
            .into_iter()
            .filter_map(|e| Some((parse_name(&e.name)?, e.modified_ms)))
            .collect();
        let known = self.list.read();
        ages.retain(|(base, _)| known.iter().any(|s| s.base == *base));
        ages.sort_unstable();
        Ok(ages)
    }
}

/// Removes an empty last file: a crash interrupted its creation (Java creates files in place), and it has no records.
fn drop_unfinished_last(disk: &dyn Disk, dir: &Path, len: u64, found: &mut Vec<(i64, u64, String)>) -> Result<(), StoreError> {
    if let Some((_, file_len, name)) = found.last()
        && *file_len == 0
        && *file_len != len
    {
        let path = dir.join(name);
        disk.remove_file(&path).map_err(|e| StoreError::io("remove", &path, e))?;
        found.pop();
    }
    Ok(())
}

/// The offset in a log file's name; `None` if it is not the name of a log file.
pub(crate) fn parse_name(name: &str) -> Option<i64> {
    (name.len() == 20).then(|| name.parse().ok()).flatten()
}

fn name_of(base: i64) -> String {
    format!("{base:020}")
}
