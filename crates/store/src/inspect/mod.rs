//! Examines a store's directory without opening the store: `apogeemq store check` and `apogeemq store dump`.
//!
//! Nothing here takes a lock, creates a file or writes a byte, so a directory that a broker uses may be examined, too, and a Java
//! broker's as well as ours. A check is one pass over the log with a cursor in each queue and one in the key index: all are in log
//! order, so memory does not grow with the log.
//!
//! What an unclean stop leaves above the last checkpoint is not damage: the next start truncates it and derives it again. So each
//! finding is [`Severity::Damage`], work for the next start, or a note.
//!
//! Not here: repair (opening the store does that), the JSON files in `config` (the broker knows their formats), files of RocksDB.

mod check;
mod compaction;
mod dump;
mod index;
mod light;
mod log;
mod queues;
mod report;
mod timers;

pub use check::{Progress, check};
pub use compaction::compacted;
pub use dump::{
    IndexItem, LogItem, checkpoint, index_items, indexed_under, queue_entries, records, timers as waiting_timers, timers_to_come,
};
pub use report::{
    CheckpointSummary, CompactionSummary, EndsByQueue, Finding, Findings, IndexSummary, LightSummary, LogSummary, Part, QueueEnds,
    QueueSummary, Report, Severity, TimerSummary,
};

use crate::index::IndexOptions;
use crate::options::StoreOptions;
use crate::timer::TimerOptions;
use std::path::PathBuf;

/// Apache's `timerPrecisionMs` and `mappedFileSizeTimerLog`.
const TIMER_PRECISION_MS: i64 = 1_000;
const TIMER_LOG_FILE_BYTES: u64 = 100 << 20;

/// The directory, and the sizes of its files.
#[derive(Clone, Debug)]
pub struct InspectOptions {
    /// Root directory, Apache's `storePathRootDir`.
    pub root: PathBuf,
    /// Commit log directory, Apache's `storePathCommitLog`; usually `commitlog` below the root.
    pub log_dir: PathBuf,
    /// Bytes of a consume queue file.
    pub queue_file_bytes: u64,
    /// Slot and item counts of index files; `None` if keys are not indexed.
    pub index: Option<IndexOptions>,
    /// Width of a slot of timers, and the bytes of a file of their log.
    pub timer: TimerOptions,
    /// Whether the CRC of each body is checked.
    pub check_crc: bool,
}

impl InspectOptions {
    /// For the directory of a store that is opened with these options, and timers with Apache's; CRCs are checked.
    #[must_use]
    pub fn of(options: &StoreOptions) -> Self {
        Self {
            root: options.root.clone(),
            log_dir: options.log_dir.clone(),
            queue_file_bytes: options.queue_file_bytes,
            index: options.index,
            timer: TimerOptions::new(&options.root, TIMER_PRECISION_MS, TIMER_LOG_FILE_BYTES),
            check_crc: true,
        }
    }
}

/// Decides what a finding at a log offset means.
#[derive(Debug)]
struct Judge {
    /// Below this offset queues must be complete.
    trusted: i64,
    /// Below this offset the index must be complete: it may be behind the queues, also after a clean shutdown.
    index_trusted: i64,
    /// Parts of the log without a whole record, in log order.
    holes: Vec<(i64, i64)>,
}

/// Maximum parts that are remembered; further ones are only reported for the log.
const HOLES_MAX: usize = 65_536;

impl Judge {
    /// Severity of a finding in the log or a queue.
    fn severity(&self, log_offset: i64) -> Severity {
        severity(log_offset, self.trusted)
    }

    /// Severity of a finding in the index.
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
