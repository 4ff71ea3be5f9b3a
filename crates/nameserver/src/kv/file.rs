//! The file of the KV configuration, `kvConfig.json`: replaced as a whole ([`config::replace`]), with the version before it as `.bak`.
//!
//! The policy for a damaged file is that of the broker's tables (`docs/store.md`): the `.bak` takes its place, with a WARN. Where that is
//! missing or damaged, too, the start is refused, since the next change would overwrite what can still be repaired; `apogeeStartWithout`
//! starts without it. A damaged file is moved to `.bad`, never overwritten.
//!
//! Compat: a value that is not text, such as a number, counts as its JSON text, and a null value as missing, as Java reads them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use config::with_suffix;
use protocol::json;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{FILE_NAME, KvError, Namespaces, WITHOUT};

/// The content of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Content<T> {
    #[serde(default)]
    config_table: T,
}

/// Reads the configuration; it is empty if there is neither the file nor its `.bak`.
///
/// # Errors
/// [`KvError::File`] if a file cannot be read or renamed. [`KvError::Damaged`] if the file or its `.bak` exists, neither can be used, and
/// the name server may not start without them.
pub(super) fn read(path: &Path, may_start_without: bool) -> Result<Namespaces, KvError> {
    let in_file = |error| KvError::File {
        path: path.to_owned(),
        error,
    };
    let backup = with_suffix(path, ".bak");
    let main = content(path).map_err(in_file)?;
    let why = match main.as_deref().map(parse) {
        Some(Ok(namespaces)) => {
            if may_start_without {
                tracing::warn!(file = %path.display(), "can be read and is used, whatever apogeeStartWithout says");
            }
            return Ok(namespaces);
        }
        Some(Err(why)) => why,
        None => "it is missing".to_owned(),
    };
    let why = match content(&backup).map_err(in_file)?.as_deref().map(parse) {
        Some(Ok(namespaces)) => {
            if main.is_some() {
                set_aside(path).map_err(in_file)?;
            }
            tracing::warn!(file = %path.display(), why, "the .bak file is used in its place; the last change may be missing");
            return Ok(namespaces);
        }
        Some(Err(of_backup)) => format!("{why}; {} cannot take its place: {of_backup}", backup.display()),
        None if main.is_some() => format!("{why}; there is no .bak"),
        None => return Ok(Namespaces::default()),
    };
    if !may_start_without {
        let path = path.to_owned();
        return Err(KvError::Damaged { path, why });
    }
    for damaged in [path, &backup] {
        set_aside(damaged).map_err(in_file)?;
    }
    tracing::warn!(file = %path.display(), why, "starting without the KV configuration: {WITHOUT}. The damaged file is kept as {FILE_NAME}.bad");
    Ok(Namespaces::default())
}

/// Replaces the file, and keeps its old content as `.bak`. On return both are on the disk.
///
/// # Errors
/// The `io::Error` of [`config::replace`].
pub(super) fn save(path: &Path, namespaces: &Namespaces) -> io::Result<()> {
    if let Some(old) = content(path)?
        && parse(&old).is_ok()
    {
        config::replace(&with_suffix(path, ".bak"), &old)?;
    }
    config::replace(path, &json::write_standard(&Content { config_table: namespaces }))
}

fn content(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// Renames a file to `.bad`, if it exists.
fn set_aside(path: &Path) -> io::Result<()> {
    match fs::rename(path, with_suffix(path, ".bad")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        renamed => renamed,
    }
}

/// NUL bytes after the content do not count: some file systems leave them after a power loss.
fn parse(bytes: &[u8]) -> Result<Namespaces, String> {
    let len = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    match &bytes[..len] {
        [] if bytes.is_empty() => Err("it is empty".to_owned()),
        [] => Err("it has only NUL bytes".to_owned()),
        text if text.trim_ascii_start().first() != Some(&b'{') => Err("it does not begin with a brace".to_owned()),
        text => namespaces(text).map_err(|error| error.to_string()),
    }
}

fn namespaces(text: &[u8]) -> Result<Namespaces, json::JsonError> {
    let content: Content<BTreeMap<String, Option<BTreeMap<String, Value>>>> = json::read(text)?;
    let namespaces = content.config_table.into_iter().map(|(namespace, values)| {
        let texts = values.into_iter().flatten().filter_map(|(key, value)| Some((key, text_of(value)?)));
        (namespace, texts.collect())
    });
    Ok(namespaces.collect())
}

fn text_of(value: Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{KvLimits, KvStore};
    use super::*;

    const LIMITS: KvLimits = KvLimits {
        entries: 10,
        bytes: 1 << 20,
    };

    const DAMAGES: [&[u8]; 5] = [b"{broken", b"", b"\0\0\0\0", b"{\"configTable\":", b"[]"];

    fn open(path: &Path, may_start_without: bool) -> Result<KvStore, KvError> {
        KvStore::open(path.to_owned(), LIMITS, may_start_without)
    }

    fn value(kv: &KvStore) -> Option<String> {
        kv.value("a", "b")
    }

    #[test]
    fn values_that_are_not_text_are_read_as_java_reads_them() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kv.json");
        let text = r#"{"configTable":{"n":{"a":4,"b":true,"c":null,"d":{"x":[1]},"e":"t"},"m":null}}"#;
        fs::write(&path, format!("{text}\0\0")).unwrap();
        let kv = open(&path, false).unwrap();
        let values = ["a", "b", "c", "d", "e"].map(|key| kv.value("n", key));
        assert_eq!(
            values.each_ref().map(|value| value.as_deref()),
            [Some("4"), Some("true"), None, Some(r#"{"x":[1]}"#), Some("t")]
        );
    }

    #[test]
    fn the_backup_takes_the_place_of_a_damaged_or_missing_file() {
        for damage in DAMAGES.map(Some).into_iter().chain([None]) {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join(FILE_NAME);
            let kv = open(&path, false).unwrap();
            for text in ["1", "2"] {
                kv.put("a", "b", text).unwrap();
            }
            match damage {
                Some(damage) => fs::write(&path, damage).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            let kv = open(&path, false).unwrap();
            assert_eq!(value(&kv).as_deref(), Some("1"));
            assert_eq!(content(&with_suffix(&path, ".bad")).unwrap().as_deref(), damage);
            // A change that fails does not lose the good one of the two.
            let blocking = with_suffix(&path, ".tmp");
            fs::create_dir(&blocking).unwrap();
            assert!(matches!(kv.put("a", "b", "3"), Err(KvError::File { .. })));
            assert_eq!(value(&open(&path, false).unwrap()).as_deref(), Some("1"));
            fs::remove_dir(&blocking).unwrap();
            assert!(kv.put("a", "b", "3").unwrap());
            assert_eq!(value(&open(&path, false).unwrap()).as_deref(), Some("3"));
        }
    }

    #[test]
    fn with_both_files_damaged_the_start_is_refused_unless_the_operator_wants_it() {
        for damage in DAMAGES {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join(FILE_NAME);
            let backup = with_suffix(&path, ".bak");
            for with_backup in [false, true] {
                fs::write(&path, damage).unwrap();
                if with_backup {
                    fs::write(&backup, damage).unwrap();
                }
                let error = open(&path, false).map(drop).unwrap_err().to_string();
                for told in [path.to_str().unwrap(), "--start-without kvConfig.json", WITHOUT] {
                    assert!(error.contains(told), "{told} in {error}");
                }
                assert_eq!(fs::read(&path).unwrap(), damage, "a refused start changes nothing");
                assert_eq!(value(&open(&path, true).unwrap()), None);
                assert_eq!(fs::read(with_suffix(&path, ".bad")).unwrap(), damage);
                assert_eq!(content(&with_suffix(&backup, ".bad")).unwrap().is_some(), with_backup);
            }
            let kv = open(&path, false).unwrap();
            kv.put("a", "b", "1").unwrap();
            assert_eq!(value(&open(&path, true).unwrap()).as_deref(), Some("1"), "a good file is used");
        }
    }
}
