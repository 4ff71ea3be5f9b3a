//! A table on disk: one JSON file in `config/` of the store, see [`store::json_file`] for what happens at a crash.
//!
//! One policy for all of them, each of which has a [`Table`]: where a file and its `.bak` are damaged, what can be found otherwise is made again, with a
//! WARN; what cannot refuses the start, with the file, what it holds, what can be done and what that costs. `apogeeStartWithout` names
//! the files that the operator would rather start without. Damaged files are moved aside, never overwritten.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use store::disk::Disk;
use store::json_file::{self, ReadError};

mod pretty;

pub use pretty::pretty;

/// What the operator has to know about a table's file that cannot be read.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Name of the file.
    pub name: &'static str,
    /// What it holds.
    pub holds: &'static str,
    /// What a start without it costs.
    pub without: &'static str,
    /// Whether a start goes on without it: the rest of the store says what it held.
    pub is_made_again: bool,
}

/// A table of the broker together with its file: loaded by a start, saved by the upkeep. All of it may wait for the disk.
pub trait SavedTable: Send + Sync {
    /// Fills the empty table with what was saved.
    ///
    /// # Errors
    /// The file is there and cannot be read; the broker must not start then.
    fn load(&self) -> io::Result<()>;

    /// Saves those changes that answers wait for ([`crate::signal::Signal`]), if there are any.
    ///
    /// # Errors
    /// I/O errors; the next call tries again.
    fn save_changes(&self) -> io::Result<()>;

    /// Saves everything that changed.
    ///
    /// # Errors
    /// I/O errors; the next call tries again.
    fn save(&self) -> io::Result<()> {
        self.save_changes()
    }

    /// How often [`Self::save`] is called; `None` when every change has an answer that waits for it.
    fn period(&self) -> Option<Duration> {
        None
    }

    /// The file, for messages.
    fn name(&self) -> &'static str;
}

/// Names of all tables' files; a test of the upkeep, which has the tables, keeps the list.
pub const NAMES: [&str; 6] = [
    "topics.json",
    "subscriptionGroup.json",
    "messageRequestMode.json",
    "transactionMetrics.json",
    "consumerOffset.json",
    "delayOffset.json",
];

/// One table's file.
#[derive(Clone, Debug)]
pub struct StateFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    table: Table,
    /// The operator would rather start without it than not at all.
    may_be_left: bool,
}

impl StateFile {
    /// The file's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.table.name
    }

    /// The table's file in the directory `config` of a store; `without` names those that a start goes on without when they are damaged.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, store_root: &Path, table: Table, without: &[String]) -> Self {
        Self {
            disk,
            path: store_root.join("config").join(table.name),
            table,
            may_be_left: without.iter().any(|file| file == table.name),
        }
    }

    /// Reads the table; `None` when there is none yet, or when the start goes on without it.
    ///
    /// # Errors
    /// Neither the file nor its backup can be read though one is there: the broker must not start with an empty table and
    /// save it over what can still be repaired.
    pub fn load<T, E: Display>(&self, parse: impl Fn(&[u8]) -> Result<T, E>) -> io::Result<Option<T>> {
        match json_file::read(&*self.disk, &self.path, parse) {
            Ok((value, _)) => {
                if self.may_be_left && value.is_some() {
                    tracing::warn!(file = %self.path.display(), "can be read and is used, whatever apogeeStartWithout says");
                }
                Ok(value)
            }
            Err(ReadError::Damaged(why)) => self.without(&why).map(|()| None),
            Err(ReadError::Io(error)) => Err(error),
        }
    }

    /// Goes on without a damaged file, or says why not.
    fn without(&self, why: &str) -> io::Result<()> {
        let Table {
            name,
            holds,
            without: costs,
            is_made_again,
        } = self.table;
        if !self.may_be_left && !is_made_again {
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

    /// Replaces the table; when this returns it is on the disk.
    ///
    /// # Errors
    /// The disk's; the table before is still there.
    pub fn save(&self, content: &[u8]) -> io::Result<()> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", self.path.display()));
        json_file::write(&*self.disk, &self.path, content).map_err(named)
    }
}
