//! The directory of a controller: the log's file and the snapshot.
//!
//! | File | |
//! |---|---|
//! | `log-NNNNNNNNNN` | vote and entries, see [`super::frame`]; the highest number is in use |
//! | `snapshot` | the state, see [`super::snapshot`] |
//! | `lock` | held while a process uses the directory |
//!
//! A log that has grown is written again under the next number: as `.tmp`, synced, renamed, the directory synced; then the old one is
//! removed. Before that, its end may be torn, which was never acknowledged.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openraft::{Entry, LogId, Vote};
use store::disk::{Disk, DiskFile, Lock, OpenMode, if_exists};

use super::frame::{self, Item};
use super::snapshot::{self, Kept};
use super::{Identity, Types};

/// A log of at least this many bytes is written again when it has twice the bytes that it had after the last time.
const REWRITE_BYTES: u64 = 1 << 20;

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// A file cannot be read or written.
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
    /// Another process uses the directory.
    #[error("{0} is in use by another controller")]
    InUse(PathBuf),
    /// A file is damaged. A controller without its vote and its log could vote twice.
    #[error(
        "{0} is damaged at byte {1}. Restore the directory from a copy. If all other controllers of the group run and agree, it can be removed instead: this one copies the state"
    )]
    Damaged(PathBuf, usize),
    /// The log is gone and the snapshot is not.
    #[error("{0} has a snapshot and no log: restore the directory from a copy")]
    NoLog(PathBuf),
    /// Files of another controller.
    #[error(
        "{path} belongs to controller {} of group {} with {}, and the configuration says {} of {} with {}: members cannot be changed yet",
        was.own, was.group, was.all.join(" "), is.own, is.group, is.all.join(" ")
    )]
    OtherIdentity {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        was: Box<Identity>,
        /// Who opens it.
        is: Box<Identity>,
    },
}

/// What the log has in memory.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    pub(super) vote: Option<Vote<u64>>,
    pub(super) entries: BTreeMap<u64, Entry<Types>>,
    pub(super) purged: Option<LogId<u64>>,
}

impl Content {
    /// Applies what a frame says.
    pub(super) fn take(&mut self, item: &Item) {
        match item {
            Item::Identity(_) => {}
            Item::Vote(vote) => self.vote = Some(*vote),
            Item::Entries(entries) => self.entries.extend(entries.iter().map(|entry| (entry.log_id.index, entry.clone()))),
            Item::Truncated(from) => drop(self.entries.split_off(from)),
            Item::Purged(to) => {
                let kept = |first| self.entries.split_off(&first);
                self.entries = to.index.checked_add(1).map_or_else(BTreeMap::new, kept);
                self.purged = Some(*to);
            }
        }
    }
}

/// The files of a controller, opened.
pub(super) struct Opened {
    pub(super) log: LogFile,
    pub(super) content: Content,
    pub(super) snapshot: Option<Kept>,
}

/// Opens the directory, or creates it.
///
/// # Errors
/// [`FileError`] if it is in use, damaged, of another controller, or cannot be read or written.
pub(super) fn open(disk: Arc<dyn Disk>, dir: &Path, identity: &Identity) -> Result<Opened, FileError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| FileError::Io(path, error)
    };
    disk.create_dir_all(dir).map_err(failed(dir))?;
    let lock = disk.lock(&dir.join("lock")).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => FileError::InUse(dir.to_owned()),
        _ => FileError::Io(dir.join("lock"), error),
    })?;
    let names = disk.list(dir).map_err(failed(dir))?;
    let last = names.iter().filter_map(|entry| generation(&entry.name)).max();
    for entry in &names {
        let is_old = generation(&entry.name).is_some_and(|number| Some(number) < last);
        if is_old || entry.name.ends_with(".tmp") {
            disk.remove_file(&dir.join(&entry.name)).map_err(failed(dir))?;
        }
    }
    let snapshot_path = dir.join(snapshot::NAME);
    let snapshot = if_exists(disk.read(&snapshot_path)).map_err(failed(&snapshot_path))?;
    let snapshot = snapshot
        .map(|bytes| snapshot::decode(bytes).map_err(|at| FileError::Damaged(snapshot_path, at)))
        .transpose()?;
    let mut log = LogFile {
        disk,
        dir: dir.to_owned(),
        identity: identity.clone(),
        content: Content::default(),
        file: None,
        generation: last.unwrap_or(0),
        end: 0,
        frames: 0,
        rewrite_at: REWRITE_BYTES,
        failed: false,
        _lock: lock,
    };
    match last {
        None if snapshot.is_some() => return Err(FileError::NoLog(dir.to_owned())),
        None => log.rewrite().map_err(failed(dir))?,
        Some(_) => log.recover()?,
    }
    Ok(Opened {
        content: log.content.clone(),
        log,
        snapshot,
    })
}

fn generation(name: &str) -> Option<u64> {
    name.strip_prefix("log-")?.parse().ok()
}

/// The log's file. Used by one thread.
pub(super) struct LogFile {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    identity: Identity,
    content: Content,
    file: Option<Arc<dyn DiskFile>>,
    generation: u64,
    end: u64,
    frames: u64,
    rewrite_at: u64,
    failed: bool,
    _lock: Box<dyn Lock>,
}

impl LogFile {
    fn path(&self) -> PathBuf {
        self.dir.join(format!("log-{:010}", self.generation))
    }

    fn recover(&mut self) -> Result<(), FileError> {
        let path = self.path();
        let failed = |error| FileError::Io(path.clone(), error);
        let bytes = self.disk.read(&path).map_err(failed)?;
        let frames = frame::decode(&bytes).map_err(|at| FileError::Damaged(path.clone(), at))?;
        match frames.items.first() {
            Some(Item::Identity(was)) if *was == self.identity => {}
            Some(Item::Identity(was)) => {
                return Err(FileError::OtherIdentity {
                    path: self.dir.clone(),
                    was: Box::new(was.clone()),
                    is: Box::new(self.identity.clone()),
                });
            }
            _ => return Err(FileError::Damaged(path, 0)),
        }
        frames.items.iter().for_each(|item| self.content.take(item));
        let file = self.disk.open(&path, OpenMode::Write).map_err(failed)?;
        if frames.end < bytes.len() {
            // Otherwise its bytes could be taken for frames behind new ones.
            file.set_len(frames.end as u64).map_err(failed)?;
        }
        // What was in the page cache only must not be lost after it was read.
        file.sync_data().map_err(failed)?;
        self.disk.sync_dir(&self.dir).map_err(failed)?;
        (self.file, self.end, self.frames) = (Some(file), frames.end as u64, frames.items.len() as u64);
        self.rewrite_at = REWRITE_BYTES.max(self.end * 2);
        Ok(())
    }

    /// Writes a frame; it is on the device when this returns. After an error nothing is written any more.
    pub(super) fn write(&mut self, item: &Item) -> io::Result<()> {
        if self.failed {
            return Err(io::Error::other(
                "an earlier write to the controller's log failed: restart the controller",
            ));
        }
        let written = self.append(item);
        self.failed = written.is_err();
        written
    }

    fn append(&mut self, item: &Item) -> io::Result<()> {
        let file = self.file.as_ref().ok_or_else(|| io::Error::other("the log is closed"))?;
        let bytes = frame::encode(self.frames, item)?;
        file.write_at(&bytes, self.end)?;
        file.sync_data()?;
        self.end += bytes.len() as u64;
        self.frames += 1;
        self.content.take(item);
        if self.end >= self.rewrite_at {
            self.rewrite()?;
        }
        Ok(())
    }

    /// Writes the content into a new file and removes the old one.
    fn rewrite(&mut self) -> io::Result<()> {
        let old = self.file.take().map(|_| self.path());
        let content = &self.content;
        let mut items = vec![Item::Identity(self.identity.clone())];
        items.extend(content.vote.map(Item::Vote));
        items.extend(content.purged.map(Item::Purged));
        if !content.entries.is_empty() {
            items.push(Item::Entries(content.entries.values().cloned().collect()));
        }
        let mut bytes = Vec::new();
        for (number, item) in items.iter().enumerate() {
            bytes.extend(frame::encode(number as u64, item)?);
        }
        self.generation += 1;
        let path = self.path();
        write_whole(&*self.disk, &self.dir, &path, &bytes)?;
        if let Some(old) = old {
            self.disk.remove_file(&old)?;
        }
        self.file = Some(self.disk.open(&path, OpenMode::Write)?);
        (self.end, self.frames) = (bytes.len() as u64, items.len() as u64);
        self.rewrite_at = REWRITE_BYTES.max(self.end * 2);
        Ok(())
    }

    /// Replaces the snapshot; it is on the device when this returns.
    pub(super) fn write_snapshot(&mut self, kept: &Kept) -> io::Result<()> {
        write_whole(&*self.disk, &self.dir, &self.dir.join(snapshot::NAME), &snapshot::encode(kept)?)
    }
}

/// Writes a file as `.tmp`, syncs it, gives it its name, and syncs that.
fn write_whole(disk: &dyn Disk, dir: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = store::disk::with_suffix(path, ".tmp");
    let file = disk.open(&fresh, OpenMode::WriteOrCreate)?;
    file.set_len(0)?;
    file.write_at(bytes, 0)?;
    file.sync_data()?;
    disk.rename(&fresh, path)?;
    disk.sync_dir(dir)
}
