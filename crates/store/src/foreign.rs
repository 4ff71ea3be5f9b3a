//! Finds queues in formats of Apache's broker that are not supported here.
//!
//! A store that opened such a directory nevertheless would not see those messages, and would create queues beside them with which
//! Apache's broker does not start again.

use crate::disk::{Disk, if_exists};
use crate::error::StoreError;
use std::fmt;
use std::path::Path;

/// Maximum topics that a message names.
const NAMED: usize = 10;

/// What was found, with what the operator can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Foreign {
    /// All queues are in a RocksDB (`storeType=defaultRocksDB`).
    RocksDb,
    /// Topics, groups and offsets are in a RocksDB.
    RocksDbTables,
    /// These topics have batch queues (`queue.type=BatchCQ`).
    Batches(Vec<String>),
}

impl Foreign {
    /// Finds them in a directory.
    ///
    /// # Errors
    /// `StoreError::Io` if the directories cannot be listed.
    pub(crate) fn find(disk: &dyn Disk, root: &Path) -> Result<Vec<Self>, StoreError> {
        let mut found = Vec::new();
        let (files, rocksdb) = (root.join("consumequeue"), root.join("consumequeue_rocksdb"));
        // Compat: the directory depends on the version, and a broker may keep queues in both forms, of which files are enough.
        if exists(disk, &files.join("CURRENT"))? || (exists(disk, &rocksdb.join("CURRENT"))? && dirs(disk, &files)?.next().is_none()) {
            found.push(Self::RocksDb);
        }
        for name in ["rdb", "metadata", "topics"] {
            if exists(disk, &root.join("config").join(name).join("CURRENT"))? {
                found.push(Self::RocksDbTables);
                break;
            }
        }
        let batches = root.join("batchconsumequeue");
        let mut topics = Vec::new();
        for topic in dirs(disk, &batches)? {
            if has_queue_files(disk, &batches.join(&topic))? {
                topics.push(topic);
            }
        }
        topics.sort_unstable();
        if !topics.is_empty() {
            found.push(Self::Batches(topics));
        }
        Ok(found)
    }

    /// Refuses a directory in which something is found.
    ///
    /// # Errors
    /// `StoreError::Layout` with what to do. `StoreError::Io` if the directories cannot be listed.
    pub(crate) fn refuse(disk: &dyn Disk, root: &Path) -> Result<(), StoreError> {
        match Self::find(disk, root)?.first() {
            None => Ok(()),
            Some(found) => Err(StoreError::Layout(format!("{}: {found}", root.display()))),
        }
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RocksDb => f.write_str(
                "the queues are kept in RocksDB (storeType=defaultRocksDB), which this version cannot read. Continue with Apache's broker, or \
                 move topic by topic to a broker of its own (docs/moving.md)",
            ),
            Self::RocksDbTables => f.write_str(
                "topics, groups and offsets are kept in RocksDB, which this version cannot read. Have Apache's tools write them as JSON \
                 (mqadmin rocksDBConfigToJson), then move the directories rdb, metadata and topics out of config",
            ),
            Self::Batches(topics) => {
                let named = topics.iter().take(NAMED).map(|topic| topic.escape_debug().to_string());
                let named: Vec<String> = named.collect();
                let more = match topics.len() - named.len() {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                write!(
                    f,
                    "{} of the topics have batch queues (queue.type=BatchCQ), which this version cannot read: {}{more}. Continue with Apache's \
                     broker, or have it delete these topics first (mqadmin deleteTopic)",
                    topics.len(),
                    named.join(", ")
                )
            }
        }
    }
}

fn exists(disk: &dyn Disk, path: &Path) -> Result<bool, StoreError> {
    disk.exists(path).map_err(|e| StoreError::io("look for", path, e))
}

/// The directories in a directory; none if it does not exist.
fn dirs(disk: &dyn Disk, dir: &Path) -> Result<impl Iterator<Item = String> + use<>, StoreError> {
    let entries = if_exists(disk.list(dir)).map_err(|e| StoreError::io("list", dir, e))?;
    Ok(entries
        .unwrap_or_default()
        .into_iter()
        .filter(|entry| entry.is_dir)
        .map(|entry| entry.name))
}

fn has_queue_files(disk: &dyn Disk, topic: &Path) -> Result<bool, StoreError> {
    for queue in dirs(disk, topic)? {
        let dir = topic.join(queue);
        let files = disk.list(&dir).map_err(|e| StoreError::io("list", &dir, e))?;
        if files.iter().any(|file| !file.is_dir && file.len > 0) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::OpenMode;
    use crate::disk::simulated::SimulatedDisk;

    fn disk(files: &[&str]) -> SimulatedDisk {
        let disk = SimulatedDisk::new(1);
        for path in files {
            let path = Path::new("/s").join(path);
            disk.create_dir_all(path.parent().unwrap()).unwrap();
            disk.open(&path, OpenMode::WriteOrCreate).unwrap().write_at(b"x", 0).unwrap();
        }
        disk.create_dir_all(Path::new("/s/batchconsumequeue/deleted/0")).unwrap();
        disk
    }

    #[test]
    fn queues_in_other_forms_are_found() {
        let found = |files: &[&str]| Foreign::find(&disk(files), Path::new("/s")).unwrap();
        let queue = "consumequeue/t/0/00000000000000000000";
        assert_eq!(found(&[]), []);
        assert_eq!(found(&[queue, "consumequeue_rocksdb/CURRENT"]), [], "beside files");
        assert_eq!(found(&["consumequeue_rocksdb/CURRENT"]), [Foreign::RocksDb]);
        assert_eq!(found(&["consumequeue/CURRENT"]), [Foreign::RocksDb]);
        let batches = [
            "batchconsumequeue/b/0/00000000000000000000",
            "batchconsumequeue/a/3/00000000000000000000",
        ];
        assert_eq!(found(&batches), [Foreign::Batches(vec!["a".to_owned(), "b".to_owned()])]);
    }

    #[test]
    fn a_refusal_names_topics_and_what_to_do() {
        let error = Foreign::refuse(&disk(&["batchconsumequeue/or\nders/0/00000000000000000000"]), Path::new("/s")).unwrap_err();
        let StoreError::Layout(text) = error else { panic!("{error:?}") };
        assert!(
            text.starts_with("/s: 1 of the topics") && text.contains("or\\nders") && text.contains("deleteTopic"),
            "{text}"
        );
        let many = Foreign::Batches((0..14).map(|n| format!("t{n}")).collect()).to_string();
        assert!(many.contains("t9 and 4 more."), "{many}");
    }
}
