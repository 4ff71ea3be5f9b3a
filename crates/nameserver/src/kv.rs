//! The KV configuration: small texts by namespace and key, kept in Apache's `kvConfig.json`.
//!
//! ```json
//! {"configTable":{"ORDER_TOPIC_CONFIG":{"orders":"broker-a:4;broker-b:4"}}}
//! ```
//!
//! Invariants: a change is on disk before it is answered, else it has not happened; the file is replaced as a whole and the one before stays as
//! `kvConfig.json.bak`. A file that is there but unreadable stops the start: it would be overwritten by the next change.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use parking_lot::{Mutex, RwLock};
use protocol::json;
use protocol::kv::KvTable;
use serde::{Deserialize, Serialize};

/// Longest namespace, key or value, in bytes.
const MAX_TEXT_BYTES: usize = 1 << 20;

/// The KV configuration cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KvError {
    /// The file system says no.
    #[error("{path}: {error}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file is not ours.
    #[error("{path} is no KV configuration: {error}")]
    Format {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: json::JsonError,
    },
    /// As many entries as allowed.
    #[error("the KV configuration has {0} entries already, see apogeeMaxKvEntries")]
    Full(usize),
    /// A text beyond [`MAX_TEXT_BYTES`].
    #[error("a text of {0} bytes is too long for the KV configuration")]
    TooLong(usize),
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Table {
    config_table: BTreeMap<String, BTreeMap<String, String>>,
}

impl Table {
    fn len(&self) -> usize {
        self.config_table.values().map(BTreeMap::len).sum()
    }
}

pub(crate) struct KvStore {
    path: PathBuf,
    max_entries: usize,
    table: RwLock<Table>,
    /// One change at a time, so that readers do not wait for the disk.
    changing: Mutex<()>,
}

impl KvStore {
    pub(crate) fn open(path: PathBuf, max_entries: usize) -> Result<Self, KvError> {
        let table = match std::fs::read(&path) {
            Ok(text) if text.iter().all(u8::is_ascii_whitespace) => Table::default(),
            Ok(text) => json::read(&text).map_err(|error| KvError::Format { path: path.clone(), error })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Table::default(),
            Err(error) => return Err(KvError::File { path, error }),
        };
        Ok(Self {
            path,
            max_entries,
            table: RwLock::new(table),
            changing: Mutex::new(()),
        })
    }

    pub(crate) fn value(&self, namespace: &str, key: &str) -> Option<String> {
        self.table.read().config_table.get(namespace)?.get(key).cloned()
    }

    pub(crate) fn namespace(&self, namespace: &str) -> Option<KvTable> {
        let table = self.table.read();
        let entries = table.config_table.get(namespace)?;
        Some(KvTable { table: entries.clone() })
    }

    pub(crate) fn put(&self, namespace: &str, key: &str, value: &str) -> Result<(), KvError> {
        if let Some(long) = [namespace, key, value].into_iter().find(|text| text.len() > MAX_TEXT_BYTES) {
            return Err(KvError::TooLong(long.len()));
        }
        self.change(|table| {
            let known = table.config_table.get(namespace).is_some_and(|entries| entries.contains_key(key));
            if !known && table.len() >= self.max_entries {
                return Err(KvError::Full(self.max_entries));
            }
            table
                .config_table
                .entry(namespace.to_owned())
                .or_default()
                .insert(key.to_owned(), value.to_owned());
            Ok(())
        })
    }

    pub(crate) fn delete(&self, namespace: &str, key: &str) -> Result<(), KvError> {
        self.change(|table| {
            if let Some(entries) = table.config_table.get_mut(namespace) {
                entries.remove(key);
            }
            Ok(())
        })
    }

    fn change(&self, change: impl FnOnce(&mut Table) -> Result<(), KvError>) -> Result<(), KvError> {
        let _one = self.changing.lock();
        let mut table = self.table.read().clone();
        change(&mut table)?;
        replace(&self.path, &json::write_standard(&table)).map_err(|error| KvError::File {
            path: self.path.clone(),
            error,
        })?;
        *self.table.write() = table;
        Ok(())
    }
}

/// Puts `content` in the file's place, or leaves the file as it is.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory)?;
    let beside = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let mut file = File::create(beside(".tmp"))?;
    file.write_all(content)?;
    file.sync_all()?;
    if path.exists() {
        std::fs::copy(path, beside(".bak"))?;
    }
    std::fs::rename(beside(".tmp"), path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_read_back_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("namesrv").join("kvConfig.json");
        let kv = KvStore::open(path.clone(), 10).unwrap();
        kv.put("ORDER_TOPIC_CONFIG", "orders", "broker-a:4").unwrap();
        kv.put("ORDER_TOPIC_CONFIG", "more", "x\"y").unwrap();
        kv.delete("ORDER_TOPIC_CONFIG", "more").unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            r#"{"configTable":{"ORDER_TOPIC_CONFIG":{"orders":"broker-a:4"}}}"#
        );
        let again = KvStore::open(path, 10).unwrap();
        assert_eq!(again.value("ORDER_TOPIC_CONFIG", "orders").as_deref(), Some("broker-a:4"));
        assert_eq!(again.value("ORDER_TOPIC_CONFIG", "more"), None);
        assert_eq!(again.namespace("ORDER_TOPIC_CONFIG").unwrap().table.len(), 1);
        assert!(again.namespace("other").is_none());
    }

    #[test]
    fn entries_are_bounded_and_a_refused_change_leaves_no_trace() {
        let directory = tempfile::tempdir().unwrap();
        let kv = KvStore::open(directory.path().join("kv.json"), 1).unwrap();
        kv.put("a", "b", "1").unwrap();
        assert!(matches!(kv.put("a", "c", "2"), Err(KvError::Full(1))));
        kv.put("a", "b", "3").unwrap();
        assert_eq!(kv.value("a", "b").as_deref(), Some("3"));
        assert_eq!(kv.value("a", "c"), None);
    }

    #[test]
    fn an_unreadable_file_stops_the_start_with_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kv.json");
        std::fs::write(&path, "{broken").unwrap();
        let error = KvStore::open(path.clone(), 1).map(drop).unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
}
