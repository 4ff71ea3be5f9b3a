//! Looking at a store's directory without opening it: what `apogeemq store check` and `apogeemq store dump` do.
//!
//! Nothing here takes a lock, makes a file or writes a byte, so a directory that a broker uses may be looked at too, and one
//! of a Java broker as well as ours. A check is one pass over the log with a cursor in each queue and one in the key index:
//! all three are in the log's order, so memory does not grow with the log.
//!
//! What a stop that was not in order leaves above the last checkpoint is no damage: the next start cuts it off and derives it
//! again. So each finding says whether it is [`Severity::Damage`], work for the next start, or only worth knowing.
//!
//! Not here: mending (opening the store is that), the JSON files in `config` (the broker knows their shapes), files of
//! RocksDB.

mod check;
mod dump;
mod index;
mod log;
mod queues;
mod report;

pub use check::{Progress, check};
pub use dump::{IndexItem, LogItem, checkpoint, index_items, indexed_under, queue_entries, records};
pub use report::{
    CheckpointSummary, EndsByQueue, Finding, Findings, IndexSummary, LogSummary, Part, QueueEnds, QueueSummary, Report, Severity,
};

use crate::index::IndexOptions;
use crate::options::StoreOptions;
use std::path::PathBuf;

/// Which directory, and the numbers its files were made with.
#[derive(Clone, Debug)]
pub struct InspectOptions {
    /// Root directory, Apache's `storePathRootDir`.
    pub root: PathBuf,
    /// Commit log directory, Apache's `storePathCommitLog`; usually `commitlog` below the root.
    pub log_dir: PathBuf,
    /// Bytes of a consume queue file.
    pub queue_file_bytes: u64,
    /// Numbers of the index files; `None` when messages are not indexed.
    pub index: Option<IndexOptions>,
    /// Whether each body is compared with its CRC.
    pub check_crc: bool,
}

impl InspectOptions {
    /// For the directory of a store that is opened with these; each body is compared with its CRC.
    #[must_use]
    pub fn of(options: &StoreOptions) -> Self {
        Self {
            root: options.root.clone(),
            log_dir: options.log_dir.clone(),
            queue_file_bytes: options.queue_file_bytes,
            index: options.index,
            check_crc: true,
        }
    }
}

/// What a finding at a place of the log means.
#[derive(Debug)]
struct Judge {
    /// Below it queues have to be whole.
    trusted: i64,
    /// Below it the index has to be whole: it may be behind the queues, also after a stop in order.
    index_trusted: i64,
    /// Parts of the log without a whole record, in order.
    holes: Vec<(i64, i64)>,
}

/// Holes remembered at most; of more only the log's own finding tells.
const HOLES_MAX: usize = 65_536;

impl Judge {
    /// Of something in the log or a queue.
    fn severity(&self, log_offset: i64) -> Severity {
        severity(log_offset, self.trusted)
    }

    /// Of something in the index.
    fn index_severity(&self, log_offset: i64) -> Severity {
        severity(log_offset, self.index_trusted)
    }

    fn add_hole(&mut self, from: i64, to: i64) {
        if self.holes.len() < HOLES_MAX {
            self.holes.push((from, to));
        }
    }

    fn is_in_hole(&self, log_offset: i64) -> bool {
        let after = self.holes.partition_point(|(from, _)| *from <= log_offset);
        after.checked_sub(1).is_some_and(|at| log_offset < self.holes[at].1)
    }
}

fn severity(log_offset: i64, trusted: i64) -> Severity {
    if log_offset < trusted {
        Severity::Damage
    } else {
        Severity::Recovery
    }
}
