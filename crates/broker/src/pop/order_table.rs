//! `consumerOrderInfo.json` in Apache's format.

use super::order::Orders;
use crate::clock::now_ms;
use crate::state_file::{SavedTable, StateFile, Table};
use parking_lot::Mutex;
use protocol::json;
use protocol::pop::order::OrderInfos;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// The file of this table.
pub const TABLE: Table = Table {
    name: "consumerOrderInfo.json",
    holds: "the messages that were popped in order and not acknowledged",
    without: "such messages are handed out again before their invisible time has passed, in order",
    is_made_again: true,
    check: |content| json::read_large::<OrderInfos>(content).map(drop),
};

/// The orders of a broker and their file. A crash loses the changes since the last save: their messages are handed out again.
pub struct OrdersFile {
    pub(super) orders: Arc<Mutex<Orders>>,
    file: StateFile,
    period: Duration,
}

impl OrdersFile {
    /// Saved every `period`.
    #[must_use]
    pub fn new(file: StateFile, period: Duration) -> Self {
        Self {
            orders: Arc::default(),
            file,
            period,
        }
    }

    /// Number of queues in the table.
    #[must_use]
    pub fn queues(&self) -> usize {
        self.orders.lock().queues()
    }
}

impl SavedTable for OrdersFile {
    fn load(&self) -> io::Result<()> {
        if let Some(saved) = self.file.load(json::read_large::<OrderInfos>)? {
            self.orders.lock().restore(saved, now_ms());
        }
        Ok(())
    }

    fn save(&self) -> io::Result<()> {
        let Some(changed) = self.orders.lock().take_changed(now_ms()) else {
            return Ok(());
        };
        let saved = self.file.save(&crate::state_file::pretty(&changed));
        saved.inspect_err(|_| self.orders.lock().mark_changed())
    }

    fn period(&self) -> Option<Duration> {
        Some(self.period)
    }

    fn name(&self) -> &'static str {
        self.file.name()
    }
}
