//! What the store is told when it is opened. Names and defaults of the keys users set are the broker's.

use crate::index::IndexOptions;
use crate::queue::DueTopic;
use crate::retention::RetentionOptions;
use std::path::PathBuf;
use std::time::Duration;

/// When a message counts as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushMode {
    /// When it is in the page cache; synced within the flush interval.
    Async,
    /// When it is on the disk.
    Sync,
}

/// Of the commit log.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Bytes of each file; that of the directory's files.
    pub segment_bytes: u64,
    /// When a message counts as stored.
    pub flush_mode: FlushMode,
    /// Under [`FlushMode::Async`]: how long writes may gather before they are synced.
    pub flush_interval: Duration,
    /// Most bytes of new messages kept in memory for readers who keep up.
    pub tail_bytes: usize,
    /// Most bytes encoded and not yet confirmed; more sends are refused as busy.
    pub max_unconfirmed_bytes: i64,
}

/// Of the whole store.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Root directory, Apache's `storePathRootDir`.
    pub root: PathBuf,
    /// Commit log directory, Apache's `storePathCommitLog`; usually `commitlog` below the root.
    pub log_dir: PathBuf,
    /// Of the commit log.
    pub log: LogOptions,
    /// The topic whose queue entries say when their messages are due.
    pub due: DueTopic,
    /// Bytes of a consume queue file, a multiple of 20.
    pub queue_file_bytes: u64,
    /// Most consume queue files open at once.
    pub max_open_queue_files: usize,
    /// Numbers of the index files; `None` when keys are not indexed.
    pub index: Option<IndexOptions>,
    /// Most keys that wait in memory to be indexed; over it they are dropped and read from the log again, later.
    pub max_index_backlog: usize,
    /// Most bytes of new log between two checkpoints: what a recovery has to read.
    pub checkpoint_bytes: i64,
    /// Longest time between two checkpoints while messages arrive.
    pub checkpoint_interval: Duration,
    /// Whether recovery compares each body with its CRC.
    pub check_crc_on_recovery: bool,
    /// What retention keeps.
    pub retention: RetentionOptions,
}

impl StoreOptions {
    /// Files of a few KiB, little memory, and nothing that the clock begins: what tests open, each with its own changes, so that
    /// a few messages fill files. A broker's options are made of its settings, which have the defaults.
    #[must_use]
    pub fn small(root: impl Into<PathBuf>, flush_mode: FlushMode) -> Self {
        let never = Duration::from_secs(3600);
        let root = root.into();
        Self {
            log_dir: root.join("commitlog"),
            root,
            log: LogOptions {
                segment_bytes: 4096,
                flush_mode,
                flush_interval: Duration::from_millis(1),
                tail_bytes: 16 << 10,
                max_unconfirmed_bytes: 1 << 20,
            },
            due: DueTopic::default(),
            queue_file_bytes: 400,
            max_open_queue_files: 16,
            index: Some(IndexOptions { slots: 16, items: 64 }),
            max_index_backlog: 10_000,
            checkpoint_bytes: i64::MAX,
            checkpoint_interval: never,
            check_crc_on_recovery: true,
            retention: RetentionOptions {
                interval: never,
                // By a request or by a full disk only, not at four in the morning.
                delete_hours: Vec::new(),
                ..RetentionOptions::default()
            },
        }
    }
}
