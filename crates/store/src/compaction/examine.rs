//! Reads the files of compaction without changing anything, for `inspect`.

use super::layout::{COMPACTING, CompactedEntry, INDEX_DIR, LOG_DIR, base_of};
use super::part::{Dirs, Part};
use super::{DIR, files::sorted_bases};
use crate::disk::{Disk, OpenMode, if_exists};
use crate::error::StoreError;
use bytes::Bytes;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Something in the files of a queue.
pub(crate) enum Examined<'a> {
    /// An entry with its record; `None` if the record is damaged.
    Message(&'a CompactedEntry, Option<&'a Bytes>),
    /// A file of records without entries.
    NoEntries(PathBuf),
    /// A file of entries without records.
    NoRecords(PathBuf),
    /// A pass that was not completed.
    Unfinished(PathBuf),
}

/// The queues that have files, by topic and queue id.
///
/// # Errors
/// `StoreError::Io` if directories cannot be read.
pub(crate) fn queues(disk: &dyn Disk, root: &Path) -> Result<Vec<(String, i32)>, StoreError> {
    let mut found = Vec::new();
    for dir in [LOG_DIR, INDEX_DIR].map(|dir| root.join(DIR).join(dir)) {
        for topic in dirs_in(disk, &dir)? {
            for queue in dirs_in(disk, &dir.join(&topic))? {
                found.extend(queue.parse().ok().filter(|id: &i32| *id >= 0).map(|id| (topic.clone(), id)));
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

fn dirs_in(disk: &dyn Disk, dir: &Path) -> Result<Vec<String>, StoreError> {
    let found = if_exists(disk.list(dir)).map_err(|e| StoreError::io("list", dir, e))?;
    Ok(found
        .unwrap_or_default()
        .into_iter()
        .filter(|entry| entry.is_dir)
        .map(|entry| entry.name)
        .collect())
}

/// Passes all that the files of a queue have to `visit`, in order.
///
/// # Errors
/// `StoreError::Io` if files cannot be read.
pub(crate) fn examine(
    disk: &dyn Disk,
    root: &Path,
    topic: &str,
    queue_id: i32,
    visit: &mut dyn FnMut(Examined<'_>) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    let of = |dir: &str| root.join(DIR).join(dir).join(topic).join(queue_id.to_string());
    let dirs = Dirs {
        log: of(LOG_DIR),
        index: of(INDEX_DIR),
    };
    for dir in [&dirs.log, &dirs.index] {
        let path = dir.join(COMPACTING);
        if disk.exists(&path).map_err(|e| StoreError::io("look for", &path, e))? && visit(Examined::Unfinished(path)).is_break() {
            return Ok(());
        }
    }
    let (logs, indexes) = (sorted_bases(disk, &dirs.log)?, sorted_bases(disk, &dirs.index)?);
    for name in &indexes {
        if !logs.contains(name) && visit(Examined::NoRecords(dirs.index.join(name))).is_break() {
            return Ok(());
        }
    }
    for (n, name) in logs.iter().enumerate() {
        let flow = match base_of(name) {
            Some(base) if indexes.contains(name) => {
                let part = Part::open(disk, &dirs, base, OpenMode::Read, n + 1 == logs.len())?;
                part.for_each(|entry, record| Ok(visit(Examined::Message(entry, record))))?
            }
            _ => visit(Examined::NoEntries(dirs.log.join(name))),
        };
        if flow.is_break() {
            break;
        }
    }
    Ok(())
}
