//! Tables whose every change has an answer that waits until it is saved.

use super::changes::Changes;
use super::{SavedTable, StateFile};
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// How long the whole table lacks changes that are saved beside it.
const WHOLE_PERIOD: Duration = Duration::from_secs(5);

/// A table that counts its changes.
pub trait Versioned: Send + Sync {
    /// Tells states of the table apart. The default stands for what needs no file.
    type Version: PartialEq + Default + Send;

    /// Fills the empty table from the file.
    ///
    /// # Errors
    /// [`io::Error`] if the file exists and cannot be read.
    fn load(&self, file: &StateFile) -> io::Result<()>;

    /// The state of the table.
    fn version(&self) -> Self::Version;

    /// The whole table in the format of its file, and its state. Counts as saved: [`Self::take_changes`] has only what changes after it.
    fn content(&self) -> (Self::Version, Vec<u8>);

    /// What has changed since the last call, or since [`Self::content`], as [`super::changes`] has it, and the state of the table with it; `None` if only the
    /// whole table can be saved.
    fn take_changes(&self) -> Option<(Self::Version, Vec<u8>)> {
        None
    }
}

/// Such a table and its file.
pub struct VersionedFile<T: Versioned> {
    table: Arc<T>,
    file: StateFile,
    /// Locked while it is written, so that no older state replaces a newer one.
    on_disk: Mutex<OnDisk<T::Version>>,
}

/// What the disk has of a table.
struct OnDisk<V> {
    version: V,
    /// To which a change may be appended; `None` if the whole table has to be written.
    changes: Option<Changes>,
}

impl<T: Versioned> VersionedFile<T> {
    /// Saves `table` in `file`.
    #[must_use]
    pub fn new(table: Arc<T>, file: StateFile) -> Self {
        let on_disk = OnDisk {
            version: T::Version::default(),
            changes: None,
        };
        Self {
            table,
            file,
            on_disk: Mutex::new(on_disk),
        }
    }

    fn save_whole(&self, on_disk: &mut OnDisk<T::Version>) -> io::Result<()> {
        on_disk.changes = None;
        let (version, content) = self.table.content();
        self.file.save(&content)?;
        self.file.forget_changes()?;
        *on_disk = OnDisk {
            version,
            changes: Changes::of(&content),
        };
        Ok(())
    }
}

impl<T: Versioned> SavedTable for VersionedFile<T> {
    fn load(&self) -> io::Result<()> {
        self.table.load(&self.file)
    }

    fn save_changes(&self) -> io::Result<()> {
        let mut on_disk = self.on_disk.lock();
        if on_disk.version == self.table.version() {
            return Ok(());
        }
        // Not put back after an error: nothing may follow a torn line.
        let Some(mut changes) = on_disk.changes.take() else {
            return self.save_whole(&mut on_disk);
        };
        match self.table.take_changes() {
            Some((version, change)) if changes.have_room(&change) => {
                self.file.append(&mut changes, &change)?;
                *on_disk = OnDisk {
                    version,
                    changes: Some(changes),
                };
                Ok(())
            }
            _ => self.save_whole(&mut on_disk),
        }
    }

    fn save(&self) -> io::Result<()> {
        let mut on_disk = self.on_disk.lock();
        let is_whole = on_disk.changes.as_ref().is_none_or(Changes::is_empty);
        if is_whole && on_disk.version == self.table.version() {
            return Ok(());
        }
        self.save_whole(&mut on_disk)
    }

    fn period(&self) -> Option<Duration> {
        Some(WHOLE_PERIOD)
    }

    fn name(&self) -> &'static str {
        self.file.name()
    }
}
