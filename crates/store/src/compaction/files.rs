//! The compacted part of one queue: its files, and what is read from them.
//!
//! The list of files is replaced as a whole, so a reader that has it reads on while a pass replaces files: it holds them open.
//! Only the thread that does the work changes the list ([`super::Compaction`] has the lock for that).
//!
//! Replacing files is one step, also for a crash: the files of a pass are complete and synced in `compacting/` before the list
//! `compacting/replace` is written. From then on the pass counts; a start that finds the list does the rest.

use super::layout::{CompactedEntry, FileSizes, base_of, file_name};
use super::part::{Dirs, Part, rebuild_index};
use crate::disk::{Disk, OpenMode, if_exists};
use crate::error::StoreError;
use crate::read::{Damaged, Limits, ReadResult, ReadStatus};
use crate::sync::RwLock;
use crate::sync::atomic::{AtomicI64, Ordering};
use message::properties::Indexed;
use message::{LogOffset, QueueOffset, hash, record};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Name of the list that completes a pass.
const REPLACE_FILE: &str = "replace";
/// First line of the list.
const REPLACE_HEAD: &str = "apogeemq compaction 1";

/// The compacted part of a queue: the messages below [`CompactedQueue::copied`].
#[derive(Debug)]
pub(crate) struct CompactedQueue {
    disk: Arc<dyn Disk>,
    dirs: Dirs,
    sizes: FileSizes,
    parts: RwLock<Arc<Vec<Arc<Part>>>>,
    /// The first queue offset that was not copied.
    copied: AtomicI64,
}

impl CompactedQueue {
    /// Opens the files of a queue, completes or discards a pass that was interrupted, and drops what a crash has torn.
    ///
    /// # Errors
    /// `StoreError::Io` if files cannot be read or changed.
    pub(super) fn open(disk: Arc<dyn Disk>, dirs: Dirs, wanted: FileSizes) -> Result<Self, StoreError> {
        finish_replacement(&*disk, &dirs)?;
        let (bases, sizes) = files_of(&*disk, &dirs, wanted)?;
        let mut parts = Vec::with_capacity(bases.len());
        for (n, base) in bases.iter().enumerate() {
            let part = Part::open(&*disk, &dirs, *base, OpenMode::Write, n + 1 == bases.len())?;
            parts.push(Arc::new(part));
        }
        let copied = parts.iter().map(|part: &Arc<Part>| part.last() + 1).max().unwrap_or(0);
        Ok(Self {
            disk,
            dirs,
            sizes,
            parts: RwLock::new(Arc::new(parts)),
            copied: AtomicI64::new(copied),
        })
    }

    pub(super) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    pub(super) fn dirs(&self) -> &Dirs {
        &self.dirs
    }

    pub(super) fn sizes(&self) -> FileSizes {
        self.sizes
    }

    pub(super) fn parts(&self) -> Arc<Vec<Arc<Part>>> {
        Arc::clone(&self.parts.read())
    }

    pub(super) fn set_parts(&self, parts: Vec<Arc<Part>>) {
        *self.parts.write() = Arc::new(parts);
    }

    /// The first queue offset that was not copied: from there on messages are read from the commit log.
    pub(crate) fn copied(&self) -> QueueOffset {
        QueueOffset(self.copied.load(Ordering::Acquire))
    }

    pub(super) fn set_copied(&self, to: i64) {
        self.copied.store(to, Ordering::Release);
    }

    /// The first queue offset that has a message here; `None` if there is no message.
    pub(crate) fn first(&self) -> Option<QueueOffset> {
        let parts = self.parts();
        parts.iter().find(|part| part.count() > 0).map(|part| QueueOffset(part.first()))
    }

    /// Reads messages below [`CompactedQueue::copied`]; the first is the one at `from` or the next that is left. None found means
    /// that there is none before `next`, which may be behind `limits.scan` entries. May block.
    ///
    /// # Errors
    /// `StoreError::Io` if the files cannot be read.
    pub(crate) fn read(&self, from: QueueOffset, limits: Limits, takes: &dyn Fn(i64) -> bool) -> Result<ReadResult, StoreError> {
        let parts = self.parts();
        let nothing = QueueOffset(0);
        let mut result = ReadResult::empty(ReadStatus::NoMatchedMessage, from, nothing, nothing);
        let mut left = limits.scan.max(limits.messages).max(1);
        for part in parts.iter().filter(|part| part.last() >= from.0) {
            let mut at = part.search(|entry| entry.queue_offset < result.next.0)?;
            loop {
                let entries = part.entries(at)?;
                if entries.is_empty() {
                    break;
                }
                at += entries.len() as i64;
                let (selected, next, is_end) = select(&entries, &result, limits, &mut left, takes);
                let records = part.records(&selected)?;
                for (entry, record) in selected.iter().zip(records) {
                    let Some(record) = record else {
                        return Ok(stop_at(entry, result));
                    };
                    result.bytes += record.len();
                    result.records.push(record);
                    result.status = ReadStatus::Found;
                    result.next = QueueOffset(entry.queue_offset + 1);
                }
                result.next = result.next.max(next);
                if is_end {
                    return Ok(result);
                }
            }
            // Compat: an answer of Apache's broker ends with the file.
            if !result.records.is_empty() {
                return Ok(result);
            }
        }
        result.next = result.next.max(self.copied());
        Ok(result)
    }

    /// Store timestamp (epoch ms) of the message at an offset; `None` if it is not here. May block.
    ///
    /// # Errors
    /// `StoreError::Io` if the files cannot be read.
    pub(crate) fn stored_at(&self, offset: QueueOffset) -> Result<Option<i64>, StoreError> {
        let parts = self.parts();
        let Some(part) = parts.iter().find(|part| part.last() >= offset.0) else {
            return Ok(None);
        };
        let at = part.search(|entry| entry.queue_offset < offset.0)?;
        let entry = part.entries(at)?.first().copied();
        Ok(entry.filter(|entry| entry.queue_offset == offset.0).map(|entry| entry.stored_ms))
    }

    /// The first message here that was stored at or after `timestamp` (epoch ms); `None` if there is none. May block.
    ///
    /// # Errors
    /// `StoreError::Io` if the files cannot be read.
    pub(crate) fn first_from(&self, timestamp: i64) -> Result<Option<QueueOffset>, StoreError> {
        for part in self.parts().iter() {
            let at = part.search(|entry| entry.stored_ms < timestamp)?;
            if let Some(entry) = part.entries(at)?.first() {
                return Ok(Some(QueueOffset(entry.queue_offset)));
            }
        }
        Ok(None)
    }

    /// Drops the messages from `to` on, after a truncation of the log.
    ///
    /// # Errors
    /// `StoreError::Io` if files cannot be changed.
    pub(super) fn truncate(&self, to: i64) -> Result<(), StoreError> {
        if to >= self.copied().0 {
            return Ok(());
        }
        let mut parts = self.parts().to_vec();
        while let Some(last) = parts.last().filter(|last| last.last() >= to).cloned() {
            let count = last.search(|entry| entry.queue_offset < to)?;
            last.truncate(count)?;
            if count > 0 {
                break;
            }
            parts.pop();
            for dir in [&self.dirs.log, &self.dirs.index] {
                remove(&*self.disk, &dir.join(file_name(last.base)))?;
                sync(&*self.disk, dir)?;
            }
        }
        self.set_parts(parts);
        self.set_copied(to);
        Ok(())
    }

    /// Replaces the files `old` by those of a pass, which are in `compacting/`. `fresh` are all of the pass; `kept` are those that
    /// stay behind them.
    ///
    /// # Errors
    /// `StoreError::Io` if files cannot be changed: nothing is replaced then, or the rest is done by the next call of
    /// [`finish_replacement`].
    pub(super) fn replace(&self, old: &[Arc<Part>], fresh: Vec<Arc<Part>>, kept: &[Arc<Part>]) -> Result<(), StoreError> {
        let names = |parts: &[Arc<Part>]| parts.iter().map(|part| part.base).collect::<Vec<i64>>();
        let list = Replacement {
            old: names(old),
            fresh: names(&fresh),
        };
        let path = self.dirs.compacting().log.join(REPLACE_FILE);
        let write = || {
            let file = self.disk.open(&path, OpenMode::WriteOrCreate)?;
            file.set_len(0)?;
            file.write_at(list.to_text().as_bytes(), 0)?;
            file.sync_data()?;
            self.disk.sync_dir(&self.dirs.compacting().log)
        };
        write().map_err(|e| StoreError::io("write", &path, e))?;
        self.set_parts(fresh.into_iter().chain(kept.iter().cloned()).collect());
        finish_replacement(&*self.disk, &self.dirs)
    }
}

/// The entries that a read takes, the offset behind the last one examined, and whether the read ends there.
fn select(
    entries: &[CompactedEntry],
    so_far: &ReadResult,
    limits: Limits,
    left: &mut usize,
    takes: &dyn Fn(i64) -> bool,
) -> (Vec<CompactedEntry>, QueueOffset, bool) {
    let mut selected: Vec<CompactedEntry> = Vec::new();
    let (mut bytes, mut next) = (so_far.bytes, so_far.next.0);
    for entry in entries {
        if entry.queue_offset < next {
            continue;
        }
        let count = so_far.records.len() + selected.len();
        let is_full = count > 0 && (count >= limits.messages || bytes + entry.size as usize > limits.bytes);
        if is_full || *left == 0 {
            return (selected, QueueOffset(next), true);
        }
        *left -= 1;
        if takes(entry.tags_code) {
            selected.push(*entry);
            bytes += entry.size as usize;
        }
        next = entry.queue_offset + 1;
    }
    (selected, QueueOffset(next), false)
}

/// The read ends before a damaged record, or reports it if it is the first.
fn stop_at(entry: &CompactedEntry, mut result: ReadResult) -> ReadResult {
    if result.records.is_empty() {
        result.status = ReadStatus::MessageWasRemoving;
        result.next = QueueOffset(entry.queue_offset + 1);
        result.damaged = Some(Damaged {
            queue_offset: QueueOffset(entry.queue_offset),
            log_offset: LogOffset(entry.position),
            size: entry.size,
        });
    } else {
        result.next = QueueOffset(entry.queue_offset);
    }
    result
}

/// The files of a queue in order, and their lengths. Removes names that a crash has left, and makes missing entries again.
fn files_of(disk: &dyn Disk, dirs: &Dirs, wanted: FileSizes) -> Result<(Vec<i64>, FileSizes), StoreError> {
    let mut logs = list(disk, &dirs.log)?;
    let indexes = list(disk, &dirs.index)?;
    logs.sort_unstable();
    let sizes = FileSizes {
        log: logs.iter().map(|(_, len)| *len).filter(|len| *len > 0).min().unwrap_or(wanted.log),
        index: indexes
            .iter()
            .map(|(_, len)| *len)
            .max()
            .filter(|len| *len > 0)
            .unwrap_or(wanted.index),
    };
    for (base, _) in &indexes {
        if !logs.iter().any(|(log, _)| log == base) {
            let path = dirs.index.join(file_name(*base));
            tracing::warn!(file = %path.display(), "entries of a compacted file that does not exist; they are removed");
            remove(disk, &path)?;
        }
    }
    for (base, _) in &logs {
        if !indexes.iter().any(|(index, _)| index == base) {
            let tag_of = |properties: &[u8]| hash::tags_code(&Indexed::of(properties).tags);
            rebuild_index(disk, dirs, *base, sizes.index, tag_of)?;
        }
    }
    Ok((logs.into_iter().map(|(base, _)| base).collect(), sizes))
}

/// The names of the data files of a directory, in order.
///
/// # Errors
/// `StoreError::Io` if the directory cannot be read.
pub(super) fn sorted_bases(disk: &dyn Disk, dir: &Path) -> Result<Vec<String>, StoreError> {
    let found = if_exists(disk.list(dir)).map_err(|e| StoreError::io("list", dir, e))?;
    let files = found.unwrap_or_default().into_iter().filter(|entry| !entry.is_dir);
    let mut names: Vec<String> = files.map(|entry| entry.name).filter(|name| base_of(name).is_some()).collect();
    names.sort_unstable();
    Ok(names)
}

/// The data files of a directory with their lengths; removes unfinished ones.
fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<(i64, i64)>, StoreError> {
    let names = if_exists(disk.list(dir))
        .map_err(|e| StoreError::io("list", dir, e))?
        .unwrap_or_default();
    let mut found = Vec::new();
    for entry in names.into_iter().filter(|entry| !entry.is_dir) {
        match base_of(&entry.name) {
            Some(base) => found.push((base, i64::try_from(entry.len).unwrap_or(i64::MAX))),
            None if entry.name.ends_with(".tmp") => remove(disk, &dir.join(&entry.name))?,
            None => {}
        }
    }
    Ok(found)
}

fn remove(disk: &dyn Disk, path: &Path) -> Result<(), StoreError> {
    if_exists(disk.remove_file(path))
        .map(drop)
        .map_err(|e| StoreError::io("remove", path, e))
}

fn sync(disk: &dyn Disk, dir: &Path) -> Result<(), StoreError> {
    if_exists(disk.sync_dir(dir)).map(drop).map_err(|e| StoreError::io("sync", dir, e))
}

/// What a complete pass replaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Replacement {
    /// The files that are replaced.
    pub(crate) old: Vec<i64>,
    /// The files of the pass.
    pub(crate) fresh: Vec<i64>,
}

impl Replacement {
    fn to_text(&self) -> String {
        let mut text = format!("{REPLACE_HEAD}\n");
        for (word, bases) in [("old", &self.old), ("new", &self.fresh)] {
            for base in bases {
                text.push_str(&format!("{word} {}\n", file_name(*base)));
            }
        }
        let crc = record::body_crc(text.as_bytes());
        text.push_str(&format!("crc {crc:08x}\n"));
        text
    }

    /// Parses a list; `None` if it was not written completely.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (content, crc) = text.strip_suffix('\n')?.rsplit_once("crc ")?;
        let crc = u32::from_str_radix(crc, 16).ok()?;
        let lines = content.strip_prefix(REPLACE_HEAD)?.strip_prefix('\n')?;
        if record::body_crc(content.as_bytes()) != crc {
            return None;
        }
        let mut list = Self {
            old: Vec::new(),
            fresh: Vec::new(),
        };
        for line in lines.lines() {
            let (word, name) = line.split_once(' ')?;
            let of = if word == "old" { &mut list.old } else { &mut list.fresh };
            of.push(base_of(name)?);
        }
        Some(list)
    }
}

/// Completes the replacement of files by a pass, if one is complete, and removes what is left of one that is not.
///
/// # Errors
/// `StoreError::Io` if files cannot be changed; the next call goes on.
pub(super) fn finish_replacement(disk: &dyn Disk, dirs: &Dirs) -> Result<(), StoreError> {
    let from = dirs.compacting();
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |e: io::Error| StoreError::io("replace files of", &path, e)
    };
    let path = from.log.join(REPLACE_FILE);
    let list = if_exists(disk.read(&path)).map_err(failed(&path))?;
    if let Some(list) = list.and_then(|bytes| Replacement::parse(&bytes)) {
        for (from, to) in [(&from.log, &dirs.log), (&from.index, &dirs.index)] {
            for base in &list.fresh {
                let name = file_name(*base);
                if disk.exists(&from.join(&name)).map_err(failed(from))? {
                    disk.rename(&from.join(&name), &to.join(&name)).map_err(failed(to))?;
                }
            }
            for base in list.old.iter().filter(|base| !list.fresh.contains(base)) {
                remove(disk, &to.join(file_name(*base)))?;
            }
            sync(disk, to)?;
            sync(disk, from)?;
        }
        remove(disk, &path)?;
        sync(disk, &from.log)?;
    }
    for (from, to) in [(&from.log, &dirs.log), (&from.index, &dirs.index)] {
        if disk.exists(from).map_err(failed(from))? {
            disk.remove_dir_all(from).map_err(failed(from))?;
            sync(disk, to)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_that_was_not_written_completely_is_none() {
        let list = Replacement {
            old: vec![0, 460, 920],
            fresh: vec![0],
        };
        let text = list.to_text();
        assert_eq!(Replacement::parse(text.as_bytes()), Some(list));
        for cut in 0..text.len() {
            assert_eq!(Replacement::parse(&text.as_bytes()[..cut]), None, "cut after {cut}");
        }
        assert_eq!(Replacement::parse(text.replace("new", "old").as_bytes()), None);
    }
}
