//! Error types of the store, by what the caller can do.

use std::io;
use std::path::Path;

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// An I/O error. After one of a write or sync the store takes no messages until a restart.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// The operation, as a verb.
        action: &'static str,
        /// The file or directory.
        path: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// No space for a new file. Messages are refused until there is; reads continue.
    #[error("disk full: {0}")]
    DiskFull(String),
    /// An earlier I/O error ended writing; the text names it. A restart recovers.
    #[error("{0}")]
    Failed(String),
    /// The directory does not match the configuration, or is not a store.
    #[error("{0}")]
    Layout(String),
    /// Another process uses the directory.
    #[error("{0}")]
    Locked(String),
    /// Bytes on disk are damaged.
    #[error("corrupt: {0}")]
    Corrupt(String),
}

impl StoreError {
    /// An I/O error with the operation and the path.
    #[must_use]
    pub fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            action,
            path: path.display().to_string(),
            source,
        }
    }
}

/// Why messages were not appended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The record is larger than a log file can hold.
    #[error("message of {size} bytes is larger than a commit log file can hold ({max} bytes)")]
    TooLarge {
        /// Bytes of the record.
        size: usize,
        /// Maximum bytes of a record.
        max: usize,
    },
    /// The store takes no messages now; the text says why.
    #[error("{0}")]
    NotWritable(String),
    /// The topic of one of the queues was deleted after the queue was looked up. Look up topic and queue again.
    #[error("topic {topic} was deleted while a message was sent to its queue {queue_id}; send it again")]
    QueueRetired {
        /// The topic's name.
        topic: String,
        /// The queue's number.
        queue_id: i32,
    },
    /// Too many bytes are not confirmed yet. Try again later.
    #[error("store busy: {0}")]
    Busy(String),
}
