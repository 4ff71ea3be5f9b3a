//! The log for openraft: read from memory, written by the disk thread.

use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::sync::Arc;

use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{Entry, LogId, LogState, OptionalSend, RaftLogReader, StorageError, StorageIOError, Vote};
use parking_lot::Mutex;

use super::Types;
use super::disk_thread::{Job, Jobs};
use super::file::Content;
use super::frame::Item;

/// The log. Clones are the same log.
#[derive(Clone)]
pub(super) struct LogStore {
    /// Ahead of the file by what waits for the disk.
    content: Arc<Mutex<Content>>,
    jobs: Jobs,
}

impl LogStore {
    pub(super) fn new(content: Content, jobs: Jobs) -> Self {
        Self {
            content: Arc::new(Mutex::new(content)),
            jobs,
        }
    }

    async fn change(&self, item: Item) -> io::Result<()> {
        self.content.lock().take(&item);
        self.jobs.done(|report| Job::Log(item, report)).await
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry<Types>>, StorageError<u64>> {
        let content = self.content.lock();
        Ok(content.entries.range(range).map(|(_, entry)| entry.clone()).collect())
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError<u64>> {
        let content = self.content.lock();
        let last = content.entries.values().next_back().map(|entry| entry.log_id);
        Ok(LogState {
            last_purged_log_id: content.purged,
            last_log_id: last.or(content.purged),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Result<(), StorageError<u64>> {
        let saved = self.change(Item::Vote(*vote)).await;
        saved.map_err(|error| StorageIOError::write_vote(&error).into())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<u64>>, StorageError<u64>> {
        Ok(self.content.lock().vote)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Result<(), StorageError<u64>>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let item = Item::Entries(entries.into_iter().collect());
        self.content.lock().take(&item);
        let queued = self.jobs.send(Job::Append(item, callback)).await;
        queued.map_err(|error| StorageIOError::write_logs(&error).into())
    }

    async fn truncate(&mut self, log_id: LogId<u64>) -> Result<(), StorageError<u64>> {
        let done = self.change(Item::Truncated(log_id.index)).await;
        done.map_err(|error| StorageIOError::write_logs(&error).into())
    }

    async fn purge(&mut self, log_id: LogId<u64>) -> Result<(), StorageError<u64>> {
        let done = self.change(Item::Purged(log_id)).await;
        done.map_err(|error| StorageIOError::write_logs(&error).into())
    }
}
