//! The KV configuration: texts by namespace and key, stored in Apache's `kvConfig.json`.
//!
//! ```json
//! {"configTable":{"ORDER_TOPIC_CONFIG":{"orders":"broker-a:4;broker-b:4"}}}
//! ```
//!
//! Invariants: a change is on the disk before it is answered. A change that cannot be written is refused and has not happened
//! ([`config::replace`] says what is known after a failed sync). Entries and bytes of the file are limited. Changes block on the disk, so
//! one thread makes them.
//!
//! Not here: reading, writing and repairing the file (`file.rs`).

mod file;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use protocol::json;
use rustc_hash::FxHashMap;
use serde::Serialize;

use crate::settings::NamesrvSettings;

/// Name of the file, for `apogeeStartWithout`.
pub(crate) const FILE_NAME: &str = "kvConfig.json";
/// What a start without the file costs.
const WITHOUT: &str = "the keys have to be set again";
/// Maximum length of a value in bytes.
const MAX_VALUE_BYTES: usize = 1 << 20;
/// Bytes of an entry in the file beside its texts: colon, comma, and the braces of its namespace.
const AROUND_ENTRY: usize = 8;

/// Why the KV configuration cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum KvError {
    /// The file cannot be read or written. If a refused change may be there after the next start, the text says so.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        error: io::Error,
    },
    /// The file and its `.bak` are damaged.
    #[error(
        "{path}: {why}. The file holds the KV configuration (updateKvConfig), such as the order of ordered topics. Restore it or its .bak \
         from a copy, or start without it (--start-without {FILE_NAME}): {WITHOUT}. The damaged file is kept as {FILE_NAME}.bad"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with the file and its `.bak`.
        why: String,
    },
    /// `apogeeMaxKvEntries` is reached.
    #[error("the KV configuration has {0} entries and takes no more (apogeeMaxKvEntries); delete some, or raise the limit")]
    Full(usize),
    /// `apogeeMaxKvBytes` would be exceeded.
    #[error("the KV configuration would have {bytes} bytes, {max} are allowed (apogeeMaxKvBytes); delete keys, or raise the limit")]
    TooLarge {
        /// Size with the change.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// A value longer than `MAX_VALUE_BYTES`.
    #[error("a value of {0} bytes is too long for the KV configuration, {MAX_VALUE_BYTES} are allowed")]
    TooLong(usize),
}

/// Limits of the configuration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KvLimits {
    pub(crate) entries: usize,
    /// Size of the file.
    pub(crate) bytes: usize,
}

impl From<&NamesrvSettings> for KvLimits {
    fn from(settings: &NamesrvSettings) -> Self {
        Self {
            entries: settings.max_kv_entries,
            bytes: settings.max_kv_bytes,
        }
    }
}

type Namespaces = BTreeMap<String, BTreeMap<String, String>>;

/// A namespace as the answer of 219.
#[derive(Serialize)]
struct List<'a> {
    table: &'a BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default)]
struct Table {
    namespaces: Namespaces,
    entries: usize,
    bytes: usize,
}

impl Table {
    fn of(namespaces: Namespaces) -> Self {
        let all = || {
            namespaces
                .iter()
                .flat_map(|(namespace, texts)| texts.iter().map(move |text| (namespace, text)))
        };
        Self {
            entries: all().count(),
            bytes: all().map(|(namespace, (key, value))| cost(namespace, key, value)).sum(),
            namespaces,
        }
    }

    fn get(&self, namespace: &str, key: &str) -> Option<&String> {
        self.namespaces.get(namespace)?.get(key)
    }

    fn remove(&mut self, namespace: &str, key: &str) {
        let Some(texts) = self.namespaces.get_mut(namespace) else { return };
        if let Some(value) = texts.remove(key) {
            self.entries -= 1;
            self.bytes -= cost(namespace, key, &value);
        }
    }

    fn insert(&mut self, namespace: &str, key: &str, value: &str) {
        self.remove(namespace, key);
        self.entries += 1;
        self.bytes += cost(namespace, key, value);
        let texts = self.namespaces.entry(namespace.to_owned()).or_default();
        texts.insert(key.to_owned(), value.to_owned());
    }
}

/// Maximum bytes of an entry in the file. A control character takes six.
fn cost(namespace: &str, key: &str, value: &str) -> usize {
    let text = |text: &str| json::write_standard(text).len();
    text(namespace) + text(key) + text(value) + AROUND_ENTRY
}

pub(crate) struct KvStore {
    path: PathBuf,
    limits: KvLimits,
    table: RwLock<Table>,
    /// Encoded namespaces since the last change. Lock order: `table` before `lists`.
    lists: Mutex<FxHashMap<Box<str>, Bytes>>,
    /// Held by a change while it writes the file, so that readers do not wait for the disk.
    changing: Mutex<()>,
}

impl KvStore {
    /// Reads the file. With `may_start_without`, a damaged one is moved to `.bad` and the configuration is empty.
    ///
    /// # Errors
    /// [`KvError::File`] if the file cannot be read, [`KvError::Damaged`] if it and its `.bak` are damaged.
    pub(crate) fn open(path: PathBuf, limits: KvLimits, may_start_without: bool) -> Result<Self, KvError> {
        let table = Table::of(file::read(&path, may_start_without)?);
        if table.entries > limits.entries || table.bytes > limits.bytes {
            tracing::warn!(
                path = %path.display(),
                entries = table.entries,
                bytes = table.bytes,
                "the KV configuration is larger than apogeeMaxKvEntries and apogeeMaxKvBytes allow: it is served, but only changes that make it smaller are accepted"
            );
        }
        Ok(Self {
            path,
            limits,
            table: RwLock::new(table),
            lists: Mutex::default(),
            changing: Mutex::new(()),
        })
    }

    pub(crate) fn value(&self, namespace: &str, key: &str) -> Option<String> {
        self.table.read().get(namespace, key).cloned()
    }

    /// The keys and values of a namespace as JSON, see [`protocol::kv::KvTable`]; `None` if it never had a key.
    pub(crate) fn list(&self, namespace: &str) -> Option<Bytes> {
        let table = self.table.read();
        let texts = table.namespaces.get(namespace)?;
        let mut lists = self.lists.lock();
        if let Some(list) = lists.get(namespace) {
            return Some(list.clone());
        }
        let list = Bytes::from(json::write(&List { table: texts }));
        lists.insert(namespace.into(), list.clone());
        Some(list)
    }

    /// Sets a value. Returns `false` and writes nothing if the key has it already.
    ///
    /// # Errors
    /// [`KvError::TooLong`], [`KvError::Full`] or [`KvError::TooLarge`] over a limit; [`KvError::File`] if the file cannot be written.
    pub(crate) fn put(&self, namespace: &str, key: &str, value: &str) -> Result<bool, KvError> {
        if value.len() > MAX_VALUE_BYTES {
            return Err(KvError::TooLong(value.len()));
        }
        self.change(|table| {
            let before = table.get(namespace, key);
            if before.is_some_and(|before| before == value) {
                return Ok(false);
            }
            let (known, held) = (before.is_some(), before.map_or(0, |before| cost(namespace, key, before)));
            if !known && table.entries >= self.limits.entries {
                return Err(KvError::Full(self.limits.entries));
            }
            let bytes = table.bytes - held + cost(namespace, key, value);
            // A change that makes the file smaller is always accepted.
            if bytes > self.limits.bytes.max(table.bytes) {
                let max = self.limits.bytes;
                return Err(KvError::TooLarge { bytes, max });
            }
            table.insert(namespace, key, value);
            Ok(true)
        })
    }

    /// Removes a key. Returns `false` and writes nothing if it does not exist.
    ///
    /// # Errors
    /// [`KvError::File`] if the file cannot be written.
    pub(crate) fn delete(&self, namespace: &str, key: &str) -> Result<bool, KvError> {
        self.change(|table| {
            let known = table.get(namespace, key).is_some();
            table.remove(namespace, key);
            Ok(known)
        })
    }

    /// Applies a change, which returns whether anything differs, and writes the file.
    fn change(&self, change: impl FnOnce(&mut Table) -> Result<bool, KvError>) -> Result<bool, KvError> {
        let _one = self.changing.lock();
        let mut table = self.table.read().clone();
        if !change(&mut table)? {
            return Ok(false);
        }
        file::save(&self.path, &table.namespaces).map_err(|error| KvError::File {
            path: self.path.clone(),
            error,
        })?;
        let mut current = self.table.write();
        *current = table;
        self.lists.lock().clear();
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: KvLimits = KvLimits {
        entries: 10,
        bytes: 1 << 20,
    };

    fn open(directory: &tempfile::TempDir, limits: KvLimits) -> KvStore {
        KvStore::open(directory.path().join("namesrv").join(FILE_NAME), limits, false).unwrap()
    }

    fn listed(kv: &KvStore, namespace: &str) -> Option<String> {
        kv.list(namespace).map(|list| String::from_utf8(list.to_vec()).unwrap())
    }

    #[test]
    fn a_change_is_read_back_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let kv = open(&directory, LIMITS);
        assert!(kv.put("ORDER_TOPIC_CONFIG", "orders", "broker-a:4").unwrap());
        kv.put("ORDER_TOPIC_CONFIG", "more", "x\"y").unwrap();
        assert!(kv.delete("ORDER_TOPIC_CONFIG", "more").unwrap());
        assert_eq!(
            std::fs::read_to_string(&kv.path).unwrap(),
            r#"{"configTable":{"ORDER_TOPIC_CONFIG":{"orders":"broker-a:4"}}}"#
        );
        let again = open(&directory, LIMITS);
        assert_eq!(again.value("ORDER_TOPIC_CONFIG", "orders").as_deref(), Some("broker-a:4"));
        assert_eq!(again.value("ORDER_TOPIC_CONFIG", "more"), None);
        assert_eq!(
            listed(&again, "ORDER_TOPIC_CONFIG").unwrap(),
            r#"{"table":{"orders":"broker-a:4"}}"#
        );
        assert_eq!(listed(&again, "other"), None);
    }

    #[test]
    fn a_list_is_never_older_than_the_last_change() {
        let directory = tempfile::tempdir().unwrap();
        let kv = open(&directory, LIMITS);
        for value in ["1", "2"] {
            kv.put("a", "b", value).unwrap();
            assert_eq!(listed(&kv, "a").unwrap(), format!(r#"{{"table":{{"b":"{value}"}}}}"#));
        }
        kv.delete("a", "b").unwrap();
        assert_eq!(listed(&kv, "a").unwrap(), r#"{"table":{}}"#);
    }

    #[test]
    fn what_changes_nothing_writes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let kv = open(&directory, LIMITS);
        kv.put("a", "b", "1").unwrap();
        std::fs::remove_file(&kv.path).unwrap();
        assert!(!kv.put("a", "b", "1").unwrap());
        assert!(!kv.delete("a", "c").unwrap());
        assert!(!kv.delete("none", "none").unwrap());
        assert!(!kv.path.exists());
    }

    #[test]
    fn entries_and_bytes_are_bounded_and_a_refused_change_leaves_no_trace() {
        let directory = tempfile::tempdir().unwrap();
        let kv = open(&directory, KvLimits { entries: 1, bytes: 100 });
        kv.put("a", "b", "1").unwrap();
        assert!(matches!(kv.put("a", "c", "2"), Err(KvError::Full(1))));
        kv.put("a", "b", &"x".repeat(84)).unwrap();
        // As it is written: a control character takes six bytes.
        assert!(matches!(
            kv.put("a", "b", &"\u{1}".repeat(15)),
            Err(KvError::TooLarge { bytes: 106, max: 100 })
        ));
        assert!(kv.value("a", "b").unwrap().starts_with('x'));
        assert_eq!(kv.value("a", "c"), None);
        let written = std::fs::metadata(&kv.path).unwrap().len() as usize;
        assert!(written < kv.table.read().bytes + r#"{"configTable":{}}"#.len(), "{written}");
        assert!(matches!(
            kv.put("a", "b", &"x".repeat(MAX_VALUE_BYTES + 1)),
            Err(KvError::TooLong(_))
        ));
        kv.delete("a", "b").unwrap();
        assert_eq!((kv.table.read().entries, kv.table.read().bytes), (0, 0));
    }

    #[test]
    fn a_file_beyond_the_bounds_is_served_and_only_made_smaller() {
        let directory = tempfile::tempdir().unwrap();
        open(&directory, LIMITS).put("a", "b", &"x".repeat(200)).unwrap();
        let kv = open(&directory, KvLimits { entries: 5, bytes: 100 });
        assert!(matches!(kv.put("a", "c", "1"), Err(KvError::TooLarge { .. })));
        assert!(kv.put("a", "b", &"x".repeat(150)).unwrap());
    }
}
