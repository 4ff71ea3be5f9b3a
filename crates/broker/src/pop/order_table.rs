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

/// How far the file says what is in flight at a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Valid {
    /// The broker was stopped cleanly: all of it.
    Whole,
    /// It crashed: later pops and acknowledgements are missing. Nothing is held by it.
    BeforeCrash,
    /// It is a slave: another broker hands messages out, so the file is of the time when this one was the master, if it ever was.
    Never,
}

/// The orders of a broker and their file. A crash loses the changes since the last save: their messages are handed out again.
pub struct OrdersFile {
    pub(super) orders: Arc<Mutex<Orders>>,
    file: StateFile,
    period: Duration,
    valid: Valid,
}

impl OrdersFile {
    /// Saved every `period`.
    #[must_use]
    pub fn new(file: StateFile, period: Duration, valid: Valid) -> Self {
        Self {
            orders: Arc::default(),
            file,
            period,
            valid,
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
            let mut orders = self.orders.lock();
            match self.valid {
                // Saved as it is now, so that no later start as the master finds the old one.
                Valid::Never if !saved.table.is_empty() => orders.mark_changed(),
                Valid::Never => {}
                valid => orders.restore(saved, valid == Valid::Whole, now_ms()),
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use store::disk::Disk;
    use store::disk::simulated::SimulatedDisk;

    const SAVED: &[u8] = br#"{"table":{"t@g":{0:{"cm":0,"i":9,"l":4,"o":[4],"popTime":1}}}}"#;

    fn loaded(disk: &Arc<dyn Disk>, valid: Valid) -> OrdersFile {
        let file = StateFile::new(Arc::clone(disk), Path::new("root"), TABLE, &[]);
        let orders = OrdersFile::new(file, Duration::MAX, valid);
        orders.load().unwrap();
        orders
    }

    #[test]
    fn a_slave_forgets_what_it_handed_out_when_it_was_the_master() {
        let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::new(1));
        StateFile::new(Arc::clone(&disk), Path::new("root"), TABLE, &[])
            .save(SAVED)
            .unwrap();
        assert_eq!(loaded(&disk, Valid::Whole).queues(), 1);
        let slave = loaded(&disk, Valid::Never);
        assert_eq!(slave.queues(), 0);
        slave.save().unwrap();
        assert_eq!(loaded(&disk, Valid::Whole).queues(), 0, "not even when it is the master again");
    }
}
