//! State files: each table is one JSON file in `config/` of the store, see [`store::json_file`] for its behaviour in a crash. A large
//! one may have a file of [`changes`] beside it.
//!
//! If a file and its `.bak` are damaged, a table that can be rebuilt from the store is rebuilt with a WARN. For any other table the
//! start fails; the error names the file, its content, the ways to continue and what they lose. `apogeeStartWithout` names files
//! without which the operator wants to start. Damaged files are renamed, never overwritten.

use changes::Changes;
use protocol::JsonError;
use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use store::disk::{Disk, if_exists};
use store::json_file::{self, ReadError};

pub mod changes;
mod pretty;
mod versioned;

pub use changes::Unsaved;
pub use pretty::pretty;
pub use versioned::{Versioned, VersionedFile};

/// What is known of a table's file without the table: whether a content can be read, and texts for operators when it cannot.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Name of the file.
    pub name: &'static str,
    /// Its content, for messages.
    pub holds: &'static str,
    /// What is lost by starting without it, for messages.
    pub without: &'static str,
    /// Whether the broker starts without it, because the rest of the store has its content.
    pub is_made_again: bool,
    /// Parses a content as the start does, and says why it cannot be read.
    pub check: fn(&[u8]) -> Result<(), JsonError>,
}

/// A table and its file. The broker loads it at the start, the upkeep saves it. All methods may block on disk I/O.
pub trait SavedTable: Send + Sync {
    /// Fills the empty table from the file.
    ///
    /// # Errors
    /// `io::Error` if the file exists and cannot be read or parsed; the broker must not start then.
    fn load(&self) -> io::Result<()>;

    /// Saves the changes whose responses wait for it ([`crate::signal::Signal`]). By default there are none.
    ///
    /// # Errors
    /// `io::Error` if the file cannot be written; the next call tries again.
    fn save_changes(&self) -> io::Result<()> {
        Ok(())
    }

    /// Saves all changes.
    ///
    /// # Errors
    /// `io::Error` if the file cannot be written; the next call tries again.
    fn save(&self) -> io::Result<()>;

    /// Saves all changes, for the last time.
    ///
    /// # Errors
    /// As [`Self::save`].
    fn save_at_the_end(&self) -> io::Result<()> {
        self.save()
    }

    /// How often to call [`Self::save`], at most: a save that takes long is followed by a longer pause; `None` if every change is saved by [`Self::save_changes`].
    fn period(&self) -> Option<Duration> {
        None
    }

    /// Name of the file, for messages.
    fn name(&self) -> &'static str;
}

/// Names of the files of all tables. A test of the upkeep, which owns the tables, checks the list.
pub const NAMES: [&str; 10] = [
    "topics.json",
    "subscriptionGroup.json",
    "messageRequestMode.json",
    "transactionMetrics.json",
    "consumerOffset.json",
    "delayOffset.json",
    "consumerFilter.json",
    "timermetrics",
    "consumerOrderInfo.json",
    "topicQueueMapping.json",
];

/// The file of one table.
#[derive(Clone, Debug)]
pub struct StateFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    table: Table,
    /// `apogeeStartWithout` names the file.
    may_be_skipped: bool,
}

impl StateFile {
    /// Name of the file.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.table.name
    }

    /// The file of `table` in the directory `config` of a store; `without` lists the files without which the broker may start.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, store_root: &Path, table: Table, without: &[String]) -> Self {
        Self {
            disk,
            path: store_root.join("config").join(table.name),
            table,
            may_be_skipped: without.iter().any(|file| file == table.name),
        }
    }

    /// Reads the table; `None` if the file does not exist, or if the broker starts without it.
    ///
    /// # Errors
    /// `io::Error` if neither the file nor its backup can be read. The broker must not start with an empty table then, because
    /// saving it would overwrite a file that can be repaired.
    pub fn load<T, E: Display>(&self, parse: impl Fn(&[u8]) -> Result<T, E>) -> io::Result<Option<T>> {
        let changes = changes::read(&*self.disk, &self.path)?;
        let parse = |content: &[u8]| {
            let content = changes::applied(content, changes.as_deref())?;
            parse(&content).map_err(|error| error.to_string())
        };
        match json_file::read(&*self.disk, &self.path, parse) {
            Ok((value, _)) => {
                if self.may_be_skipped && value.is_some() {
                    tracing::warn!(file = %self.path.display(), "apogeeStartWithout is ignored for a file that can be read");
                }
                Ok(value)
            }
            Err(ReadError::Damaged(why)) => self.without(&why).map(|()| None),
            Err(ReadError::Io(error)) => Err(error),
        }
    }

    /// Renames the damaged file and continues without it, if that is allowed.
    fn without(&self, why: &str) -> io::Result<()> {
        let Table {
            name,
            holds,
            without: costs,
            is_made_again,
            ..
        } = self.table;
        if !self.may_be_skipped && !is_made_again {
            let text = format!(
                "{why}. The file holds {holds}. Restore it or its .bak from a copy, or start without it (--start-without {name}): {costs}. \
                 The damaged file is kept as {name}.bad"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        json_file::set_aside(&*self.disk, &self.path)?;
        tracing::warn!("{why}. The file holds {holds}; starting without it: {costs}. The damaged file is kept as {name}.bad");
        Ok(())
    }

    /// Replaces the file and flushes it. Its changes, if it had any, belong to the previous content.
    ///
    /// # Errors
    /// `io::Error` if the file cannot be written; the previous file is kept.
    pub fn save(&self, content: &[u8]) -> io::Result<()> {
        self.named(json_file::write(&*self.disk, &self.path, content))
    }

    /// Appends a change to those of the content that the file has, and flushes it.
    ///
    /// # Errors
    /// `io::Error` if it cannot be written; save the whole content then.
    fn append(&self, changes: &mut Changes, change: &[u8]) -> io::Result<()> {
        self.named(changes.append(&*self.disk, &self.path, change))
    }

    /// Removes the changes of an older content.
    fn forget_changes(&self) -> io::Result<()> {
        self.named(if_exists(self.disk.remove_file(&changes::path_of(&self.path))).map(drop))
    }

    fn named<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", self.path.display())))
    }
}
