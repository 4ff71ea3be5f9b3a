//! The KV configuration: small texts by namespace and key, kept in Apache's `kvConfig.json`.
//!
//! ```json
//! {"configTable":{"ORDER_TOPIC_CONFIG":{"orders":"broker-a:4;broker-b:4"}}}
//! ```
//!
//! Invariants: a change is on the disk before it is answered. One that cannot be written is refused and has not happened; where that is
//! not known (the directory could not be synced after the file was renamed) the file is put back, and the refusal says what may be there
//! later. The file is replaced as a whole ([`config::replace`]) and the one before stays as `kvConfig.json.bak`. Neither entries nor bytes of the file exceed their bounds. Changes block: they are made by one thread that may
//! wait. A file that is there but damaged is replaced by the one before it, with a warning; where that is damaged too, the start is
//! refused: the next change would overwrite what can still be repaired.
//!
//! Compat: a value that is no text, such as a number, counts as the text of its JSON, and one that is null is not there, as Java reads it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use protocol::json;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::settings::NamesrvSettings;

/// Longest value, in bytes.
const MAX_VALUE_BYTES: usize = 1 << 20;
/// What an entry costs in the file beside its texts: colon, comma, and braces of its namespace.
const AROUND_ENTRY: usize = 8;

/// The KV configuration cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KvError {
    /// The file cannot be read or written. Of a change that was not written, the text says so where it may be there after the next start.
    #[error("{path}: {error}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file and the one before it are damaged.
    #[error(
        "{path} is no KV configuration: {error}. It holds the texts set with updateKvConfig, such as the order of ordered topics, and \
         {path}.bak cannot replace it. Restore one of them, or remove both to start without these texts"
    )]
    Format {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: json::JsonError,
    },
    /// As many entries as allowed.
    #[error("the KV configuration has {0} entries already and takes no more, see apogeeMaxKvEntries")]
    Full(usize),
    /// As many bytes as allowed.
    #[error("the KV configuration would have {bytes} bytes, {max} are allowed, see apogeeMaxKvBytes")]
    TooLarge {
        /// With the change.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// A value beyond [`MAX_VALUE_BYTES`].
    #[error("a value of {0} bytes is too long for the KV configuration, {MAX_VALUE_BYTES} are allowed")]
    TooLong(usize),
}

/// How much the configuration may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KvLimits {
    pub(crate) entries: usize,
    /// Of the file.
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

/// The file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Saved<T> {
    #[serde(default)]
    config_table: T,
}

/// One namespace: the answer of 219.
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

/// What an entry takes in the file, from above. Control characters take six bytes each.
fn cost(namespace: &str, key: &str, value: &str) -> usize {
    let text = |text: &str| json::write_standard(text).len();
    text(namespace) + text(key) + text(value) + AROUND_ENTRY
}

pub(crate) struct KvStore {
    path: PathBuf,
    limits: KvLimits,
    table: RwLock<Table>,
    /// Namespaces as they were listed since the last change. Locked while `table` is, never the other way round.
    lists: Mutex<FxHashMap<Box<str>, Bytes>>,
    /// One change at a time, so that readers do not wait for the disk.
    changing: Mutex<()>,
}

impl KvStore {
    pub(crate) fn open(path: PathBuf, limits: KvLimits) -> Result<Self, KvError> {
        let table = Table::of(read(&path)?);
        if table.entries > limits.entries || table.bytes > limits.bytes {
            tracing::warn!(
                path = %path.display(),
                entries = table.entries,
                bytes = table.bytes,
                "the KV configuration is larger than apogeeMaxKvEntries and apogeeMaxKvBytes allow: it is served, but takes no more"
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

    /// The keys and values of a namespace as JSON, see [`protocol::kv::KvTable`]; `None` if there never was a key in it.
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

    /// Sets a value. False: it had that value already, and nothing was written.
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
            // What makes it smaller is always taken.
            if bytes > self.limits.bytes.max(table.bytes) {
                let max = self.limits.bytes;
                return Err(KvError::TooLarge { bytes, max });
            }
            table.insert(namespace, key, value);
            Ok(true)
        })
    }

    /// Removes a key. False: it was not there, and nothing was written.
    pub(crate) fn delete(&self, namespace: &str, key: &str) -> Result<bool, KvError> {
        self.change(|table| {
            let known = table.get(namespace, key).is_some();
            table.remove(namespace, key);
            Ok(known)
        })
    }

    /// `change` says whether anything is different now.
    fn change(&self, change: impl FnOnce(&mut Table) -> Result<bool, KvError>) -> Result<bool, KvError> {
        let _one = self.changing.lock();
        let mut table = self.table.read().clone();
        if !change(&mut table)? {
            return Ok(false);
        }
        let saved = Saved {
            config_table: &table.namespaces,
        };
        save(&self.path, &json::write_standard(&saved)).map_err(|error| KvError::File {
            path: self.path.clone(),
            error,
        })?;
        let mut current = self.table.write();
        *current = table;
        self.lists.lock().clear();
        Ok(true)
    }
}

/// What was saved last; nothing if nothing was.
fn read(path: &Path) -> Result<Namespaces, KvError> {
    let named = |error| KvError::File {
        path: path.to_owned(),
        error,
    };
    let text = match std::fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Namespaces::default()),
        text => text.map_err(named)?,
    };
    let error = match parse(&text) {
        Ok(namespaces) => return Ok(namespaces),
        Err(error) => error,
    };
    let backup = config::with_suffix(path, ".bak");
    let saved_before = std::fs::read(&backup).ok().and_then(|text| parse(&text).ok());
    let Some(namespaces) = saved_before else {
        let path = path.to_owned();
        return Err(KvError::Format { path, error });
    };
    tracing::warn!(path = %path.display(), %error, backup = %backup.display(), "the KV configuration is damaged; the one before it is used, without the last change");
    Ok(namespaces)
}

fn parse(text: &[u8]) -> Result<Namespaces, json::JsonError> {
    let saved: Saved<BTreeMap<String, Option<BTreeMap<String, Value>>>> = json::read(text)?;
    let namespaces = saved.config_table.into_iter();
    Ok(namespaces
        .map(|(namespace, values)| {
            let texts = values.into_iter().flatten().filter_map(|(key, value)| Some((key, text_of(value)?)));
            (namespace, texts.collect())
        })
        .collect())
}

fn text_of(value: Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    }
}

/// Puts `content` in the file's place; what it had before becomes the backup, unless it is damaged.
fn save(path: &Path, content: &[u8]) -> io::Result<()> {
    if let Ok(old) = std::fs::read(path)
        && parse(&old).is_ok()
    {
        config::replace(&config::with_suffix(path, ".bak"), &old)?;
    }
    config::replace(path, content)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOMY: KvLimits = KvLimits {
        entries: 10,
        bytes: 1 << 20,
    };

    fn open(directory: &tempfile::TempDir, limits: KvLimits) -> KvStore {
        KvStore::open(directory.path().join("namesrv").join("kvConfig.json"), limits).unwrap()
    }

    fn listed(kv: &KvStore, namespace: &str) -> Option<String> {
        kv.list(namespace).map(|list| String::from_utf8(list.to_vec()).unwrap())
    }

    #[test]
    fn a_change_is_read_back_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let kv = open(&directory, ROOMY);
        assert!(kv.put("ORDER_TOPIC_CONFIG", "orders", "broker-a:4").unwrap());
        kv.put("ORDER_TOPIC_CONFIG", "more", "x\"y").unwrap();
        assert!(kv.delete("ORDER_TOPIC_CONFIG", "more").unwrap());
        assert_eq!(
            std::fs::read_to_string(&kv.path).unwrap(),
            r#"{"configTable":{"ORDER_TOPIC_CONFIG":{"orders":"broker-a:4"}}}"#
        );
        let again = open(&directory, ROOMY);
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
        let kv = open(&directory, ROOMY);
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
        let kv = open(&directory, ROOMY);
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
        open(&directory, ROOMY).put("a", "b", &"x".repeat(200)).unwrap();
        let kv = open(&directory, KvLimits { entries: 5, bytes: 100 });
        assert!(matches!(kv.put("a", "c", "1"), Err(KvError::TooLarge { .. })));
        assert!(kv.put("a", "b", &"x".repeat(150)).unwrap());
    }

    #[test]
    fn values_that_are_no_text_are_read_as_java_reads_them() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kv.json");
        std::fs::write(
            &path,
            r#"{"configTable":{"n":{"a":4,"b":true,"c":null,"d":{"x":[1]},"e":"t"},"m":null}}"#,
        )
        .unwrap();
        let kv = KvStore::open(path, ROOMY).unwrap();
        let values = ["a", "b", "c", "d", "e"].map(|key| kv.value("n", key));
        assert_eq!(
            values.each_ref().map(|value| value.as_deref()),
            [Some("4"), Some("true"), None, Some(r#"{"x":[1]}"#), Some("t")]
        );
    }

    #[test]
    fn a_damaged_file_is_replaced_by_the_one_before_it_or_stops_the_start() {
        for damage in ["{broken", "", "\0\0\0\0"] {
            let directory = tempfile::tempdir().unwrap();
            let kv = open(&directory, ROOMY);
            kv.put("a", "b", "1").unwrap();
            std::fs::write(&kv.path, damage).unwrap();
            let error = KvStore::open(kv.path.clone(), ROOMY).map(drop).unwrap_err().to_string();
            assert!(
                error.contains(kv.path.to_str().unwrap()) && error.contains("Restore one of them"),
                "{error}"
            );
            kv.put("a", "b", "2").unwrap();
            kv.put("a", "b", "3").unwrap();
            std::fs::write(&kv.path, damage).unwrap();
            let kv = open(&directory, ROOMY);
            assert_eq!(kv.value("a", "b").as_deref(), Some("2"));
            // A change that fails is no reason to lose the good one of the two.
            let in_the_way = config::with_suffix(&kv.path, ".tmp");
            std::fs::create_dir(&in_the_way).unwrap();
            assert!(matches!(kv.put("a", "b", "4"), Err(KvError::File { .. })));
            assert_eq!(kv.value("a", "b").as_deref(), Some("2"));
            assert_eq!(open(&directory, ROOMY).value("a", "b").as_deref(), Some("2"));
            std::fs::remove_dir(&in_the_way).unwrap();
            assert!(kv.put("a", "b", "4").unwrap());
            assert_eq!(open(&directory, ROOMY).value("a", "b").as_deref(), Some("4"));
        }
    }
}
