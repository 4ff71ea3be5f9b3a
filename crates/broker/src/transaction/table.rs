//! `transactionMetrics.json`: how many transactions of each topic are open, as Apache writes it, and how far the log is complete.
//!
//! ```text
//! {"apogeeMarkedUntil":123456,
//!  "dataVersion":{"counter":0,"stateVersion":0,"timestamp":1700000000000},
//!  "transactionCount":{"topic":{"count":1,"timeStamp":1700000000000}}}
//! ```
//!
//! Counts are computed anew at each start. `apogeeMarkedUntil` is ours: below that offset of the log every commit has its removal mark, so
//! a start looks for commits without one only from there on. Apache's broker passes over it and writes the file without it.

use super::{GROUP, Transactions};
use crate::offset::Offsets;
use crate::state_file::{SavedTable, StateFile, Table, pretty};
use message::{LogOffset, names};
use parking_lot::Mutex;
use protocol::{DataVersion, json};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use store::Store;

/// What the table's file is and holds.
pub const TABLE: Table = Table {
    name: "transactionMetrics.json",
    holds: "how many transactions of each topic are open",
    without: "they are counted again",
    is_made_again: true,
    check: |content| json::read::<Saved>(content).map(drop),
};

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Saved {
    #[serde(skip_serializing_if = "Option::is_none")]
    apogee_marked_until: Option<i64>,
    data_version: DataVersion,
    transaction_count: BTreeMap<String, SavedCount>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SavedCount {
    count: i64,
    time_stamp: i64,
}

/// The counts and their file, and the offsets up to which transactions are done: never ahead of what is on the device.
pub struct TransactionsFile {
    file: StateFile,
    store: Arc<Store>,
    offsets: Arc<Offsets>,
    period: Duration,
    marked_until: Mutex<Option<LogOffset>>,
    transactions: OnceLock<Weak<Transactions>>,
    /// Held while the file is written, so that it is not replaced by an older one.
    alone: Mutex<()>,
}

impl TransactionsFile {
    /// Saved in `file` every `period`; the offsets go into `offsets`.
    #[must_use]
    pub fn new(file: StateFile, store: Arc<Store>, offsets: Arc<Offsets>, period: Duration) -> Self {
        Self {
            file,
            store,
            offsets,
            period,
            marked_until: Mutex::default(),
            transactions: OnceLock::new(),
            alone: Mutex::default(),
        }
    }

    /// What a start found in the file: below this offset of the log every commit has its removal mark.
    #[must_use]
    pub fn marked_until(&self) -> Option<LogOffset> {
        *self.marked_until.lock()
    }

    /// From now on these are saved.
    pub fn save_those_of(&self, transactions: &Arc<Transactions>) {
        let _ = self.transactions.set(Arc::downgrade(transactions));
    }
}

/// What is saved together.
struct Snapshot {
    base: i64,
    mark_base: i64,
    saved: Saved,
}

impl Transactions {
    /// [`None`]: nothing changed, or it is not known yet what is open.
    fn snapshot(&self, end: LogOffset) -> Option<Snapshot> {
        let mut state = self.state.lock();
        if !state.is_recovered || !std::mem::take(&mut state.is_dirty) {
            return None;
        }
        state.window.advance();
        state.version.counter += 1;
        let counts = state.counts.iter().map(|(topic, count)| {
            let count = SavedCount {
                count: count.open,
                time_stamp: count.changed_ms,
            };
            (topic.to_string(), count)
        });
        Some(Snapshot {
            base: state.window.base(),
            mark_base: state.window.mark_base(),
            saved: Saved {
                apogee_marked_until: Some(end.0),
                data_version: state.version,
                transaction_count: counts.collect(),
            },
        })
    }
}

impl SavedTable for TransactionsFile {
    fn load(&self) -> io::Result<()> {
        let saved = self.file.load(json::read::<Saved>)?;
        *self.marked_until.lock() = saved.and_then(|saved| saved.apogee_marked_until).map(LogOffset);
        Ok(())
    }

    fn save(&self) -> io::Result<()> {
        let _alone = self.alone.lock();
        let Some(transactions) = self.transactions.get().and_then(Weak::upgrade) else {
            return Ok(());
        };
        // Before the snapshot: what it says is done stands below this.
        let end = self.store.log_range().1;
        let Some(snapshot) = transactions.snapshot(end) else {
            return Ok(());
        };
        let saved = self.store.sync().map_err(io::Error::other).and_then(|()| {
            let commit = |topic, offset| self.offsets.commit(topic, GROUP, 0, offset).map(drop).map_err(io::Error::other);
            commit(names::TRANS_HALF_TOPIC, snapshot.base)?;
            commit(names::TRANS_OP_HALF_TOPIC, snapshot.mark_base)?;
            self.file.save(&pretty(&snapshot.saved))
        });
        saved.inspect_err(|_| transactions.state.lock().is_dirty = true)
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

    #[test]
    fn a_file_of_the_java_broker_is_read() {
        let text = br#"{"dataVersion":{"counter":2,"stateVersion":0,"timestamp":5},"transactionCount":{"t":{"count":1,"timeStamp":9}}}"#;
        let saved: Saved = json::read(text).unwrap();
        assert_eq!((saved.apogee_marked_until, saved.transaction_count["t"].count), (None, 1));
        let written = String::from_utf8(pretty(&saved)).unwrap();
        assert!(!written.contains("apogee") && written.contains("\"timeStamp\":9"), "{written}");
    }
}
