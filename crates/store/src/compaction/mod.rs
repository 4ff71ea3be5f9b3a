//! Compaction: of topics with `cleanup.policy=COMPACTION` the last message of each key is kept, although retention deletes the log
//! files that it was in.
//!
//! # Life of a message
//! A send stores it in the commit log like any other. The thread `cleanup` copies it, when it is synced, to the files of its queue
//! below `compaction/` ([`pass::copy`]): every `compactionScheduleInternal`, before retention deletes its log file, and when the
//! store is closed. From then on it is read from there. When a file is full, a pass writes all full files again without the messages
//! that a later one of their key supersedes ([`pass::compact`]); a message without a body deletes its key.
//!
//! # Invariants
//! - A log file is deleted only when its messages of compacted topics are copied, and the copy is synced.
//! - Only synced messages are copied, so after a crash the log has all that was copied and not deleted.
//! - The files of a pass replace others in one step ([`files`]).
//! - Sends and pulls of other topics notice nothing: a pull looks at one field of its queue.
//!
//! Formats are Apache's ([`layout`]), so that a directory moves both ways. Not here: which topics are compacted ([`crate::cleanup`]
//! asks the broker), and when.

pub(crate) mod examine;
mod files;
mod keys;
pub(crate) mod layout;
mod part;
mod pass;
mod positions;

pub(crate) use files::CompactedQueue;

use crate::disk::{Disk, if_exists};
use crate::error::StoreError;
use crate::log::CommitLog;
use crate::queue::ConsumeQueue;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Mutex, MutexGuard};
use layout::{FileSizes, INDEX_DIR, LOG_DIR};
use message::{LogOffset, QueueOffset};
use part::Dirs;
use positions::{POSITIONS_FILE, Positions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Directory below the store's root.
pub(crate) const DIR: &str = "compaction";

/// Compaction settings.
#[derive(Clone, Debug)]
pub struct CompactionOptions {
    /// Bytes of a file of records (`compactionMappedFileSize`); rounded as Apache does. Queues that have files keep their lengths.
    pub log_file_bytes: u64,
    /// Bytes of a file of entries, 46 a message (`compactionCqMappedFileSize`).
    pub index_file_bytes: u64,
    /// Time between two rounds over a queue (`compactionScheduleInternal`).
    pub interval: Duration,
    /// Maximum bytes of the table of keys of one pass (`maxOffsetMapSize`), 25 a key.
    pub key_map_bytes: usize,
}

/// Compaction of one store.
pub(crate) struct Compaction {
    options: CompactionOptions,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    positions: Positions,
    /// Held by whoever changes files. Taken after the store's `shortening`.
    work: Mutex<()>,
    /// Threads that want the work to end soon.
    interrupts: AtomicUsize,
}

/// While this exists, work that runs ends soon, and none begins.
pub(crate) struct Interrupt<'a>(&'a Compaction);

impl Drop for Interrupt<'_> {
    fn drop(&mut self) {
        self.0.interrupts.fetch_sub(1, Ordering::AcqRel);
    }
}

/// No compaction runs while this exists.
pub(crate) struct Pause<'a> {
    _interrupt: Interrupt<'a>,
    _work: MutexGuard<'a, ()>,
}

impl Compaction {
    /// Prepares compaction of the store at `root`. Opens no queue.
    ///
    /// # Errors
    /// `StoreError::Io` if the directory cannot be read.
    pub(crate) fn open(disk: Arc<dyn Disk>, root: &Path, options: CompactionOptions) -> Result<Self, StoreError> {
        let dir = root.join(DIR);
        Ok(Self {
            positions: Positions::open(disk.clone(), dir.join(POSITIONS_FILE))?,
            options,
            disk,
            dir,
            work: Mutex::new(()),
            interrupts: AtomicUsize::new(0),
        })
    }

    /// The settings.
    pub(crate) fn options(&self) -> &CompactionOptions {
        &self.options
    }

    fn dirs(&self, topic: &str, queue_id: i32) -> Dirs {
        let of = |dir| self.dir.join(dir).join(topic).join(queue_id.to_string());
        Dirs {
            log: of(LOG_DIR),
            index: of(INDEX_DIR),
        }
    }

    /// The ids of a topic's queues that have files.
    ///
    /// # Errors
    /// `StoreError::Io` if the directory cannot be read.
    pub(crate) fn queues_of(&self, topic: &str) -> Result<Vec<i32>, StoreError> {
        let dir = self.dir.join(LOG_DIR).join(topic);
        let found = if_exists(self.disk.list(&dir)).map_err(|e| StoreError::io("list", &dir, e))?;
        let ids = found.unwrap_or_default().into_iter().filter(|entry| entry.is_dir);
        Ok(ids.filter_map(|entry| entry.name.parse().ok().filter(|id| *id >= 0)).collect())
    }

    /// As [`Compaction::attach`], for who does not hold `work`: the keeper may already work on the queue.
    ///
    /// # Errors
    /// `StoreError::Io` if its files cannot be opened.
    pub(crate) fn attach_at_start<'q>(&self, queue: &'q ConsumeQueue) -> Result<&'q Arc<CompactedQueue>, StoreError> {
        let _work = self.work.lock();
        self.attach(queue)
    }

    /// The compacted part of a queue, opened now if it was not. Only by who holds `work`: opening repairs files.
    ///
    /// # Errors
    /// `StoreError::Io` if its files cannot be opened.
    pub(crate) fn attach<'q>(&self, queue: &'q ConsumeQueue) -> Result<&'q Arc<CompactedQueue>, StoreError> {
        if let Some(compacted) = queue.compacted() {
            return Ok(compacted);
        }
        let wanted = FileSizes::of(self.options.log_file_bytes, self.options.index_file_bytes);
        let dirs = self.dirs(queue.topic(), queue.queue_id());
        let opened = CompactedQueue::open(self.disk.clone(), dirs, wanted)?;
        Ok(queue.set_compacted(Arc::new(opened)))
    }

    /// Copies the synced messages of a queue, and compacts its full files if `and_compact`. Does nothing for a queue whose topic was
    /// deleted.
    ///
    /// # Errors
    /// `StoreError::Io` if files cannot be read or written; the next call goes on. `StoreError::Failed` if it was interrupted.
    pub(crate) fn work_on(&self, log: &CommitLog, queue: &ConsumeQueue, and_compact: bool) -> Result<(), StoreError> {
        let _work = self.work.lock();
        self.go_on()?;
        if queue.is_retired() {
            return Ok(());
        }
        let compacted = self.attach(queue)?;
        let go_on = || self.go_on();
        pass::copy(log, queue, compacted, &go_on)?;
        let name = (queue.topic(), queue.queue_id());
        while and_compact && pass::compact(compacted, name, &self.positions, self.options.key_map_bytes, &go_on)? {}
        Ok(())
    }

    fn go_on(&self) -> Result<(), StoreError> {
        if self.is_interrupted() {
            return Err(StoreError::Failed("compaction was interrupted and goes on later".to_owned()));
        }
        Ok(())
    }

    /// Whether a thread waits for the work to end.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.interrupts.load(Ordering::Acquire) > 0
    }

    /// Interrupts the work and keeps it from beginning again. Does not wait for its end.
    pub(crate) fn interrupt(&self) -> Interrupt<'_> {
        self.interrupts.fetch_add(1, Ordering::AcqRel);
        Interrupt(self)
    }

    /// As [`Compaction::interrupt`], and waits for the end.
    pub(crate) fn pause(&self) -> Pause<'_> {
        Pause {
            _interrupt: self.interrupt(),
            _work: self.work.lock(),
        }
    }

    /// Log offset of the first message of a queue that was not copied; `None` if all are.
    ///
    /// # Errors
    /// `StoreError::Io` if the queue cannot be read.
    pub(crate) fn uncopied_from(&self, queue: &ConsumeQueue) -> Result<Option<LogOffset>, StoreError> {
        // Not opened here: that is for the thread that does the work, which copies nothing twice.
        let copied = queue.compacted().map_or(QueueOffset(0), |compacted| compacted.copied());
        pass::uncopied_from(queue, copied)
    }

    /// Drops what a truncation of the log dropped from a queue.
    ///
    /// # Errors
    /// `StoreError::Io` if files cannot be changed.
    pub(crate) fn truncate(&self, queue: &ConsumeQueue, _: &Pause<'_>) -> Result<(), StoreError> {
        queue.compacted().map_or(Ok(()), |compacted| compacted.truncate(queue.max().0))
    }

    /// Removes the files of a deleted topic.
    ///
    /// # Errors
    /// `StoreError::Io` if files cannot be removed.
    pub(crate) fn delete(&self, topic: &str, _: &Pause<'_>) -> Result<(), StoreError> {
        for queue_id in self.queues_of(topic)? {
            self.positions.set(topic, queue_id, None)?;
        }
        remove_files_in(&*self.disk, &self.dir, topic)
    }
}

/// Removes the files of a topic below a store's root.
///
/// # Errors
/// `StoreError::Io` if files cannot be removed.
pub(crate) fn remove_files(disk: &dyn Disk, root: &Path, topic: &str) -> Result<(), StoreError> {
    remove_files_in(disk, &root.join(DIR), topic)
}

fn remove_files_in(disk: &dyn Disk, dir: &Path, topic: &str) -> Result<(), StoreError> {
    for dir in [LOG_DIR, INDEX_DIR].map(|name| dir.join(name)) {
        let path = dir.join(topic);
        if !disk.exists(&path).map_err(|e| StoreError::io("look for", &path, e))? {
            continue;
        }
        disk.remove_dir_all(&path)
            .and_then(|()| disk.sync_dir(&dir))
            .map_err(|e| StoreError::io("remove", &path, e))?;
    }
    Ok(())
}
