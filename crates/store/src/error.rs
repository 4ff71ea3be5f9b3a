//! What can go wrong in the store, by what the caller will do about it.

use std::io;
use std::path::Path;

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The machine refused a call on a file. The store stops writing until it is restarted.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: String,
        /// What the machine said.
        source: io::Error,
    },
    /// No room for a new file. Sends are refused until there is; reads go on.
    #[error("disk full: {0}")]
    DiskFull(String),
    /// An earlier error of the machine ended writing; the text says which. A restart recovers.
    #[error("{0}")]
    Failed(String),
    /// The directory does not fit the configuration, or is no store.
    #[error("{0}")]
    Layout(String),
    /// Another process uses the directory.
    #[error("{0}")]
    Locked(String),
    /// Bytes on disk are not what they must be.
    #[error("corrupt: {0}")]
    Corrupt(String),
}

impl StoreError {
    /// An error of the machine, with what was tried on which path.
    #[must_use]
    pub fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            action,
            path: path.display().to_string(),
            source,
        }
    }
}

/// Why messages were not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The record is larger than the log can hold: the message is at fault.
    #[error("message of {size} bytes is larger than a commit log file can hold ({max} bytes)")]
    TooLarge {
        /// Bytes of the record.
        size: usize,
        /// Most bytes a record may have.
        max: usize,
    },
    /// The store takes no messages now; the text says why, with numbers.
    #[error("{0}")]
    NotWritable(String),
    /// The topic of one of the queues was deleted since the queue was looked up: look up topic and queue again.
    #[error("topic {topic} was deleted while the message was on its way to queue {queue_id}")]
    QueueRetired {
        /// The topic's name.
        topic: String,
        /// Number of the queue.
        queue_id: i32,
    },
    /// Too much is waiting to be written: try again.
    #[error("store busy: {0}")]
    Busy(String),
}
