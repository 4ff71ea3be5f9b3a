//! The changes of a large table since its file was written.
//!
//! A change of a large table is a line in `NAME.changes`, synced, and not a new file of the whole table: it costs what it has, whatever the table has. The whole
//! table is written, and the lines end, when they have half of its size, seconds after a change, and when the broker stops. So Apache's broker, which
//! does not know this file, lacks the changes of some seconds at most when it takes over the directory of a broker that was killed.
//!
//! The first line has the length and the CRC of the content that the changes belong to: lines of an older content are none. Each further line has a CRC and a
//! JSON object of objects: a member of a member takes the place of the one with its name, `null` removes it. The first line that is
//! torn or damaged ends the changes, with a WARN.

use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use store::disk::{Disk, DiskFile, OpenMode, if_exists, parent, with_suffix};
use store::json_file::without_nul_tail;

/// Bytes from which on a table has a file of changes: writing less takes no longer than the sync.
pub const LARGE: usize = 256 << 10;
/// Names of changed entries that are remembered until they are saved; with more, the whole table is saved.
const MAX_NAMES: usize = 20_000;

/// The file of changes beside the file of a table.
#[must_use]
pub fn path_of(path: &Path) -> PathBuf {
    with_suffix(path, ".changes")
}

/// Changes that are appended to one content of a table.
#[derive(Debug)]
pub(super) struct Changes {
    head: String,
    /// Bytes that the file has, and may have.
    end: u64,
    room: u64,
    file: Option<Arc<dyn DiskFile>>,
}

impl Changes {
    /// No changes yet of this content, which has just been written; `None` if it is not large.
    pub(super) fn of(content: &[u8]) -> Option<Self> {
        (content.len() >= LARGE).then(|| Self {
            head: head(content),
            end: 0,
            room: content.len() as u64 / 2,
            file: None,
        })
    }

    /// Whether there are changes.
    pub(super) fn is_empty(&self) -> bool {
        self.end == 0
    }

    /// Whether this change may be appended, too.
    pub(super) fn have_room(&self, change: &[u8]) -> bool {
        self.end + change.len() as u64 <= self.room
    }

    /// Appends a change to the file of the table at `path`, and syncs it.
    ///
    /// # Errors
    /// [`io::Error`] if it cannot be written; part of it may have been, so nothing may be appended after it.
    pub(super) fn append(&mut self, disk: &dyn Disk, path: &Path, change: &[u8]) -> io::Result<()> {
        let mut line = format!("{:08x} ", crc32fast::hash(change)).into_bytes();
        line.extend_from_slice(change);
        line.push(b'\n');
        let path = path_of(path);
        let file = match &self.file {
            Some(file) => Arc::clone(file),
            None => {
                line.splice(..0, self.head.bytes());
                let file = disk.open(&path, OpenMode::WriteOrCreate)?;
                file.set_len(0)?;
                file
            }
        };
        file.write_at(&line, self.end)?;
        file.sync_data()?;
        if self.file.is_none() {
            disk.sync_dir(parent(&path))?;
        }
        self.end += line.len() as u64;
        self.file = Some(file);
        Ok(())
    }
}

fn head(content: &[u8]) -> String {
    format!("changes of {} bytes with CRC {:08x}\n", content.len(), crc32fast::hash(content))
}

/// The changes beside the file of a table; `None` if there are none.
///
/// # Errors
/// [`io::Error`] if they cannot be read.
pub fn read(disk: &dyn Disk, path: &Path) -> io::Result<Option<Vec<u8>>> {
    if_exists(disk.read(&path_of(path)))
}

/// The content of a table with its changes.
///
/// # Errors
/// A text if content or changes are not JSON objects of objects.
pub fn applied<'c>(content: &'c [u8], changes: Option<&[u8]>) -> Result<Cow<'c, [u8]>, String> {
    let content = without_nul_tail(content);
    let Some(mut lines) = changes.and_then(|changes| changes.strip_prefix(head(content).as_bytes())) else {
        return Ok(Cow::Borrowed(content));
    };
    let object = |bytes| serde_json::from_slice::<Map<String, Value>>(bytes).map_err(|error| error.to_string());
    let mut table = object(content)?;
    while let Some((change, rest)) = next(lines) {
        for (name, members) in object(change)? {
            let Value::Object(members) = members else {
                return Err(format!("the change of {name} is not an object"));
            };
            apply(&mut table, name, members)?;
        }
        lines = rest;
    }
    if !lines.is_empty() {
        tracing::warn!(
            bytes = lines.len(),
            "the last change of a table is not whole, and was not acknowledged"
        );
    }
    serde_json::to_vec(&table).map(Cow::Owned).map_err(|error| error.to_string())
}

/// The first change in these lines, and the lines behind it; `None` if it is not whole.
fn next(lines: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = lines.iter().position(|byte| *byte == b'\n')?;
    let (line, rest) = (&lines[..end], &lines[end + 1..]);
    let (crc, change) = (line.get(..8)?, line.get(9..)?);
    let crc = u32::from_str_radix(std::str::from_utf8(crc).ok()?, 16).ok()?;
    (crc32fast::hash(change) == crc).then_some((change, rest))
}

fn apply(table: &mut Map<String, Value>, name: String, members: Map<String, Value>) -> Result<(), String> {
    let entry = table.entry(name).or_insert_with(|| Value::Object(Map::new()));
    let Value::Object(known) = entry else {
        return Err("a change is of something that is not an object".to_owned());
    };
    for (key, value) in members {
        match value {
            Value::Null => known.remove(&key),
            value => known.insert(key, value),
        };
    }
    Ok(())
}

/// The content of a table's file with its changes, as a start reads it, for tools.
///
/// # Errors
/// [`io::ErrorKind::NotFound`] if the file does not exist, and any other [`io::Error`] if it cannot be read.
pub fn read_with_changes(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    let changes = read(disk, path)?;
    let content = disk.read(path)?;
    // What cannot be parsed is for the caller to report.
    let with = changes.and_then(|changes| applied(&content, Some(&changes)).map(Cow::into_owned).ok());
    Ok(with.unwrap_or(content))
}

/// Names of the entries of a table that changed since it was saved.
#[derive(Debug, Default)]
pub struct Unsaved(Option<BTreeSet<Box<str>>>);

impl Unsaved {
    /// This entry was changed, made or removed.
    pub fn add(&mut self, name: &str) {
        if let Some(names) = &mut self.0 {
            names.insert(name.into());
            if names.len() > MAX_NAMES {
                self.0 = None;
            }
        }
    }

    /// Any entry may have changed.
    pub fn add_all(&mut self) {
        self.0 = None;
    }

    /// All entries that changed so far, which are saved now; `None` if any may have.
    pub fn take(&mut self) -> Option<BTreeSet<Box<str>>> {
        self.0.replace(BTreeSet::new())
    }
}

#[cfg(test)]
mod tests;
