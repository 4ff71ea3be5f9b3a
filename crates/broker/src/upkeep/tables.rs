//! The tables that are saved, and their files. All of it may wait for the disk.

use crate::assignment::{Modes, table as mode_table};
use crate::clock::now_ms;
use crate::delay::{DelayOffsets, table as delay_table};
use crate::group::{Groups, table as group_table};
use crate::offset::{Offsets, table as offset_table};
use crate::state_file::{StateFile, Table};
use crate::topic::{Topics, table as topic_table};
use parking_lot::Mutex;
use protocol::DataVersion;
use std::io;
use std::path::Path;
use std::sync::Arc;
use store::disk::Disk;

/// The tables of a broker.
pub const TABLES: [Table; 5] = [
    topic_table::TABLE,
    group_table::TABLE,
    offset_table::TABLE,
    mode_table::TABLE,
    delay_table::TABLE,
];

/// The table of this file name; `None` for files that are not a broker's table.
#[must_use]
pub fn table_of(name: &str) -> Option<&'static Table> {
    TABLES.iter().find(|table| table.name == name)
}

/// The files of the tables.
#[derive(Clone, Debug)]
pub struct Files {
    topics: StateFile,
    groups: StateFile,
    offsets: StateFile,
    modes: StateFile,
    delays: StateFile,
}

impl Files {
    /// In the directory of a store; `without` names those that a start goes on without when they are damaged.
    #[must_use]
    pub fn new(disk: &Arc<dyn Disk>, store_root: &Path, without: &[String]) -> Self {
        let file = |table| StateFile::new(Arc::clone(disk), store_root, table, without);
        Self {
            topics: file(topic_table::TABLE),
            groups: file(group_table::TABLE),
            offsets: file(offset_table::TABLE),
            modes: file(mode_table::TABLE),
            delays: file(delay_table::TABLE),
        }
    }

    /// Fills the tables with what was saved.
    ///
    /// # Errors
    /// A file is there and cannot be read; the broker must not start then.
    pub fn load(&self, topics: &Topics, groups: &Groups, (offsets, delays): (&Offsets, &DelayOffsets), modes: &Modes) -> io::Result<()> {
        topic_table::load(topics, &self.topics)?;
        group_table::load(groups, &self.groups)?;
        mode_table::load(modes, &self.modes)?;
        offset_table::load(offsets, &self.offsets)?;
        delay_table::load(delays, &self.delays)
    }

    /// Where the progress of delayed messages is saved.
    #[must_use]
    pub fn delays(&self) -> StateFile {
        self.delays.clone()
    }
}

/// What of the tables is on the disk.
#[derive(Debug, Default)]
struct OnDisk {
    topics: Option<DataVersion>,
    groups: Option<DataVersion>,
    /// Changes of the request modes; without one there is no file.
    modes: u64,
}

/// The tables and their files.
#[derive(Debug)]
pub struct Tables {
    files: Files,
    topics: Arc<Topics>,
    groups: Arc<Groups>,
    offsets: Arc<Offsets>,
    modes: Arc<Modes>,
    /// `None` if there is no store to deliver delayed messages in.
    delays: Option<delay_table::OffsetsFile>,
    /// Held while tables are saved, so that a file is not replaced by an older one.
    on_disk: Mutex<OnDisk>,
}

impl Tables {
    /// Tables that are saved in `files`.
    #[must_use]
    pub fn new(
        files: Files,
        topics: Arc<Topics>,
        groups: Arc<Groups>,
        offsets: Arc<Offsets>,
        modes: Arc<Modes>,
        delays: Option<delay_table::OffsetsFile>,
    ) -> Self {
        Self {
            files,
            topics,
            groups,
            offsets,
            modes,
            delays,
            on_disk: Mutex::default(),
        }
    }

    /// Saves what clients wait for: topics, groups, request modes, and offsets if an operator moved some.
    ///
    /// # Errors
    /// The first I/O error; all that changed was tried, and is tried again by the next call.
    pub fn save_changes(&self) -> io::Result<()> {
        let mut on_disk = self.on_disk.lock();
        let mut outcome = Ok(());
        if on_disk.topics != Some(self.topics.version()) {
            let saved = topic_table::save(&self.topics, &self.files.topics);
            outcome = outcome.and(saved.map(|version| on_disk.topics = Some(version)));
        }
        if on_disk.groups != Some(self.groups.version()) {
            let saved = group_table::save(&self.groups, &self.files.groups);
            outcome = outcome.and(saved.map(|version| on_disk.groups = Some(version)));
        }
        if on_disk.modes != self.modes.changes() {
            let saved = mode_table::save(&self.modes, &self.files.modes);
            outcome = outcome.and(saved.map(|changes| on_disk.modes = changes));
        }
        if self.offsets.take_moved() {
            let saved = offset_table::save_if_dirty(&self.offsets, &self.files.offsets, now_ms());
            outcome = outcome.and(saved.inspect_err(|_| self.offsets.mark_moved()));
        }
        outcome
    }

    /// Saves committed offsets, if they changed.
    ///
    /// # Errors
    /// I/O errors; the offsets are saved by the next call then.
    pub fn save_offsets(&self) -> io::Result<()> {
        let _alone = self.on_disk.lock();
        offset_table::save_if_dirty(&self.offsets, &self.files.offsets, now_ms())
    }

    /// Saves how far delayed messages were delivered, if that changed.
    ///
    /// # Errors
    /// I/O errors; it is saved by the next call then.
    pub fn save_delays(&self) -> io::Result<()> {
        let _alone = self.on_disk.lock();
        self.delays.as_ref().map_or(Ok(()), delay_table::OffsetsFile::save_if_changed)
    }

    /// Saves everything that changed.
    ///
    /// # Errors
    /// The first I/O error; all was tried.
    pub fn save_all(&self) -> io::Result<()> {
        [self.save_changes(), self.save_offsets(), self.save_delays()].into_iter().collect()
    }
}

#[cfg(test)]
mod tests;
