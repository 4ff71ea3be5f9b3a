//! Options of the store. Names and defaults of the configuration keys belong to the broker.

use crate::compaction::CompactionOptions;
use crate::index::IndexOptions;
use crate::queue::DueTopic;
use crate::retention::RetentionOptions;
use std::path::PathBuf;
use std::time::Duration;

/// When a message counts as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushMode {
    /// When it is in the page cache. It is synced within the flush interval.
    Async,
    /// When it is synced.
    Sync,
}

/// Commit log options.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Bytes of each log file. Must be the length of existing files.
    pub segment_bytes: u64,
    /// When a message counts as stored.
    pub flush_mode: FlushMode,
    /// Under [`FlushMode::Async`]: time from the first unsynced write to its sync.
    pub flush_interval: Duration,
    /// Maximum bytes of the newest messages kept in memory for readers.
    pub tail_bytes: usize,
    /// Maximum bytes of older parts of the log that are kept in memory for readers near each other.
    pub block_bytes: usize,
    /// Maximum bytes encoded and not confirmed. Over it, messages are refused with [`AppendError::Busy`](crate::AppendError::Busy).
    pub max_unconfirmed_bytes: i64,
    /// Whether readers see only what is below a bound that [`Store::raise_bound`](crate::Store::raise_bound) raises, for brokers whose log may
    /// be cut back. What a start finds is below it.
    pub is_bounded: bool,
}

/// Options of the whole store.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Root directory, Apache's `storePathRootDir`.
    pub root: PathBuf,
    /// Commit log directory, Apache's `storePathCommitLog`; usually `commitlog` below the root.
    pub log_dir: PathBuf,
    /// Commit log options.
    pub log: LogOptions,
    /// The topic whose queue entries have delivery times instead of tag hashes.
    pub due: DueTopic,
    /// Bytes of a consume queue file, a multiple of 20.
    pub queue_file_bytes: u64,
    /// Maximum consume queue files open at once.
    pub max_open_queue_files: usize,
    /// Up to so many changed consume queues are synced file by file; for more the whole file system is synced once.
    pub max_queues_synced_alone: usize,
    /// Bytes of a file of the light queues, which share their files; `None` disables light queues.
    pub light_file_bytes: Option<u64>,
    /// Slot and item counts of index files; `None` disables the index.
    pub index: Option<IndexOptions>,
    /// Maximum keys that wait in memory to be indexed. Over it they are dropped and indexed later from the log.
    pub max_index_backlog: usize,
    /// Maximum bytes of log between two checkpoints, which recovery has to read; more if a checkpoint itself writes 3 % of that.
    pub checkpoint_bytes: i64,
    /// Maximum time between two checkpoints while messages arrive.
    pub checkpoint_interval: Duration,
    /// Whether recovery checks the CRC of each body.
    pub check_crc_on_recovery: bool,
    /// Retention settings.
    pub retention: RetentionOptions,
    /// Compaction settings; `None` if topics are not compacted. With them, call [`crate::Store::set_topic_rules`]: no log file is
    /// deleted before.
    pub compaction: Option<CompactionOptions>,
}

impl StoreOptions {
    /// Small files, little memory and no periodic work, for tests: a few messages fill several files. A broker makes its options
    /// from its settings.
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
                block_bytes: 1 << 20,
                max_unconfirmed_bytes: 1 << 20,
                is_bounded: false,
            },
            due: DueTopic::default(),
            queue_file_bytes: 400,
            max_open_queue_files: 16,
            max_queues_synced_alone: 2,
            light_file_bytes: Some(1_024),
            index: Some(IndexOptions { slots: 16, items: 64 }),
            max_index_backlog: 10_000,
            checkpoint_bytes: i64::MAX,
            checkpoint_interval: never,
            check_crc_on_recovery: true,
            retention: RetentionOptions {
                interval: never,
                // Retention runs on request or on a full disk only.
                delete_hours: Vec::new(),
                ..RetentionOptions::default()
            },
            compaction: None,
        }
    }
}
