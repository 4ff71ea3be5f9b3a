//! Tables whose every change has an answer that waits until it is saved.

use super::{SavedTable, StateFile};
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;

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

    /// Writes the file, and returns the state that was written.
    ///
    /// # Errors
    /// [`io::Error`] if the file cannot be written.
    fn save(&self, file: &StateFile) -> io::Result<Self::Version>;
}

/// Such a table and its file.
pub struct VersionedFile<T: Versioned> {
    table: Arc<T>,
    file: StateFile,
    /// What is on the disk. Locked while the file is written, so that no older state replaces a newer one.
    on_disk: Mutex<T::Version>,
}

impl<T: Versioned> VersionedFile<T> {
    /// Saves `table` in `file`.
    #[must_use]
    pub fn new(table: Arc<T>, file: StateFile) -> Self {
        Self {
            table,
            file,
            on_disk: Mutex::default(),
        }
    }
}

impl<T: Versioned> SavedTable for VersionedFile<T> {
    fn load(&self) -> io::Result<()> {
        self.table.load(&self.file)
    }

    fn save_changes(&self) -> io::Result<()> {
        self.save()
    }

    fn save(&self) -> io::Result<()> {
        let mut on_disk = self.on_disk.lock();
        if *on_disk != self.table.version() {
            *on_disk = self.table.save(&self.file)?;
        }
        Ok(())
    }

    fn name(&self) -> &'static str {
        self.file.name()
    }
}
