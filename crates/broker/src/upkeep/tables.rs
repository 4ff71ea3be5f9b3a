//! The tables that are saved to files. All methods may block on disk I/O.

use crate::assignment::table as mode_table;
use crate::delay::table as delay_table;
use crate::filter::table as filter_table;
use crate::group::table as group_table;
use crate::offset::table as offset_table;
use crate::pop::order_table;
use crate::state_file::{SavedTable, Table};
use crate::static_topic::table as mapping_table;
use crate::timer::counts as timer_counts;
use crate::topic::table as topic_table;
use crate::transaction::table as transaction_table;
use std::io;
use std::sync::Arc;

/// The files of a broker's tables.
pub const TABLES: [Table; 10] = [
    topic_table::TABLE,
    group_table::TABLE,
    mode_table::TABLE,
    transaction_table::TABLE,
    offset_table::TABLE,
    delay_table::TABLE,
    filter_table::TABLE,
    timer_counts::TABLE,
    order_table::TABLE,
    mapping_table::TABLE,
];

/// The table with this file name; `None` for other files.
#[must_use]
pub fn table_of(name: &str) -> Option<&'static Table> {
    TABLES.iter().find(|table| table.name == name)
}

/// The tables of a broker, in loading order.
#[derive(Clone)]
pub struct Tables(Vec<Arc<dyn SavedTable>>);

impl Tables {
    /// Creates the list from tables in their loading order.
    #[must_use]
    pub fn new(tables: Vec<Arc<dyn SavedTable>>) -> Self {
        Self(tables)
    }

    /// All tables.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn SavedTable>> {
        self.0.iter()
    }

    /// Loads all tables from their files.
    ///
    /// # Errors
    /// `io::Error` if a file exists and cannot be read; the broker must not start then.
    pub fn load(&self) -> io::Result<()> {
        self.iter().try_for_each(|table| table.load())
    }

    /// Saves the changes whose responses wait for it.
    ///
    /// # Errors
    /// The first `io::Error`. All tables were tried, and the next call tries again.
    pub fn save_changes(&self) -> io::Result<()> {
        self.try_each(|table| table.save_changes())
    }

    /// Saves all changes, for the last time.
    ///
    /// # Errors
    /// The first `io::Error`. All tables were tried.
    pub fn save_all(&self) -> io::Result<()> {
        self.try_each(|table| table.save_at_the_end())
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
