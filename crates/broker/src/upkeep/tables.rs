//! The tables that are saved. All of it may wait for the disk.

use crate::assignment::table as mode_table;
use crate::delay::table as delay_table;
use crate::group::table as group_table;
use crate::offset::table as offset_table;
use crate::state_file::{SavedTable, Table};
use crate::topic::table as topic_table;
use crate::transaction::table as transaction_table;
use std::io;
use std::sync::Arc;

/// The files of a broker's tables.
pub const TABLES: [Table; 6] = [
    topic_table::TABLE,
    group_table::TABLE,
    mode_table::TABLE,
    transaction_table::TABLE,
    offset_table::TABLE,
    delay_table::TABLE,
];

/// The table of this file name; `None` for files that are not a broker's table.
#[must_use]
pub fn table_of(name: &str) -> Option<&'static Table> {
    TABLES.iter().find(|table| table.name == name)
}

/// The tables of a broker, in the order in which they are loaded.
#[derive(Clone)]
pub struct Tables(Vec<Arc<dyn SavedTable>>);

impl Tables {
    /// These, in the order in which they are loaded.
    #[must_use]
    pub fn new(tables: Vec<Arc<dyn SavedTable>>) -> Self {
        Self(tables)
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn SavedTable>> {
        self.0.iter()
    }

    /// Fills them with what was saved.
    ///
    /// # Errors
    /// A file is there and cannot be read; the broker must not start then.
    pub fn load(&self) -> io::Result<()> {
        self.iter().try_for_each(|table| table.load())
    }

    /// Saves what clients wait for.
    ///
    /// # Errors
    /// The first I/O error; all that changed was tried, and is tried again by the next call.
    pub fn save_changes(&self) -> io::Result<()> {
        self.try_each(|table| table.save_changes())
    }

    /// Saves everything that changed.
    ///
    /// # Errors
    /// The first I/O error; all was tried.
    pub fn save_all(&self) -> io::Result<()> {
        self.try_each(|table| table.save())
    }

    fn try_each(&self, save: impl Fn(&dyn SavedTable) -> io::Result<()>) -> io::Result<()> {
        let mut outcome = Ok(());
        for table in self.iter() {
            outcome = outcome.and(save(&**table));
        }
        outcome
    }
}

#[cfg(test)]
mod tests;
