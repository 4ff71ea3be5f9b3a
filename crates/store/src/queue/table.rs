//! All queues of the store by topic and queue id, and the background work on those that changed.
//!
//! A look-up takes one shared lock and two hash look-ups, without allocation; only a new queue takes the lock exclusively. Writing
//! and syncing visit only the queues that need it.
//!
//! Not here: whether a topic may exist, and the background thread.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard, RwLock};
use message::LogOffset;
use rustc_hash::{FxHashMap, FxHashSet};

use super::consume_queue::{ConsumeQueue, Left};
use super::due::DueTopic;
use super::entry::{ENTRY_LEN, Entry};
use super::extended;
use super::files::QueueFiles;
use super::light::{LightLog, LightOptions, LightQueues};
use super::open_files::OpenFiles;
use super::synced::{self, LastRun, SyncedQueues};
use crate::disk::{Disk, if_exists, parent, with_suffix};

/// Options of queue files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueOptions {
    /// Bytes of a queue file (`mappedFileSizeConsumeQueue`); rounded up to whole entries.
    pub file_len: u64,
    /// Maximum queue files kept open; each takes a descriptor.
    pub open_files_max: usize,
    /// Up to so many queues are synced file by file. For more the whole file system is synced once.
    pub synced_alone_max: usize,
    /// Bytes of a file of the light log; `None` if light queues are disabled.
    pub light_file_bytes: Option<u64>,
}

impl Default for QueueOptions {
    fn default() -> Self {
        Self {
            file_len: 300_000 * ENTRY_LEN as u64,
            open_files_max: 512,
            synced_alone_max: 256,
            light_file_bytes: None,
        }
    }
}

/// What the queues of a table share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) file_len: i64,
    /// Beside the directory: see `synced`.
    synced_path: PathBuf,
    /// End in the log of the messages in the queues at the last sync of the last run; -1 if unknown.
    pub(super) synced_log_end: i64,
    pub(super) files: OpenFiles,
    synced_alone_max: usize,
    /// Queues with entries to write, and those that had some in the last round.
    pub(super) dirty: Mutex<Vec<Arc<ConsumeQueue>>>,
    pub(super) unsynced: Mutex<Vec<Arc<ConsumeQueue>>>,
    /// Entries that are only in memory.
    pub(super) pending: AtomicI64,
    pub(super) serials: AtomicU64,
    /// A sync of queue files has failed: no later one may succeed.
    pub(super) sync_failed: AtomicBool,
    /// Bytes of the file at `synced_path`, as it was written last.
    synced_bytes: AtomicI64,
    /// The topic whose entries have delivery times.
    pub(super) due: DueTopic,
    /// Entries of light queues; `None` if they are disabled.
    pub(super) light: Option<LightLog>,
}

type Queues = FxHashMap<i32, Arc<ConsumeQueue>>;

#[derive(Debug, Default)]
struct Topics {
    queues: FxHashMap<Arc<str>, Queues>,
    /// Deleted topics of which files may be left. They are removed before a topic of the same name writes any.
    left: FxHashSet<Arc<str>>,
}

/// All queues.
#[derive(Debug)]
pub(crate) struct QueueTable {
    pub(super) shared: Arc<Shared>,
    topics: RwLock<Topics>,
    /// Empty if light queues are disabled.
    pub(super) light: LightQueues,
    /// Held during work on files of many queues; keeps the deletion of a topic apart from its re-creation.
    maintenance: Mutex<Maintenance>,
}

#[derive(Debug, Default)]
pub(super) struct Maintenance {
    buffer: Vec<u8>,
    visiting: Vec<Arc<ConsumeQueue>>,
}

/// Maximum scratch memory kept between rounds, in bytes.
const BUFFER_KEPT: usize = 64 * 1024;

impl QueueTable {
    /// Opens the queues in `dir` (`consumequeue`), which is created if it does not exist. The entries of topic `due` have delivery
    /// times.
    ///
    /// # Errors
    /// [`io::Error`] if files cannot be read; [`io::ErrorKind::InvalidData`] if they have another length than configured.
    pub(crate) fn open(disk: Arc<dyn Disk>, dir: &Path, options: QueueOptions, due: DueTopic) -> io::Result<Self> {
        disk.create_dir_all(dir)?;
        let entry = ENTRY_LEN as u64;
        let file_len = options.file_len.max(1).div_ceil(entry).saturating_mul(entry);
        let file_len = i64::try_from(file_len).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "queue file length over 2^63"))?;
        let synced_path = with_suffix(dir, ".synced");
        let last_run = synced::read(&*disk, &synced_path)?;
        let light = options.light_file_bytes.map(|bytes| {
            let light = LightOptions {
                file_bytes: i64::try_from(bytes).unwrap_or(i64::MAX),
                open_files_max: options.open_files_max,
            };
            LightLog::new(Arc::clone(&disk), parent(dir).join("lightqueue"), light)
        });
        let log_ends = last_run.iter().flat_map(|queues| queues.values().map(|synced| synced.log_end));
        let table = Self {
            shared: Arc::new(Shared {
                disk,
                dir: dir.to_owned(),
                file_len,
                synced_path,
                synced_log_end: log_ends.max().unwrap_or(-1),
                files: OpenFiles::new(options.open_files_max),
                synced_alone_max: options.synced_alone_max,
                dirty: Mutex::default(),
                unsynced: Mutex::default(),
                pending: AtomicI64::new(0),
                serials: AtomicU64::new(0),
                sync_failed: AtomicBool::new(false),
                synced_bytes: AtomicI64::new(0),
                due,
                light,
            }),
            topics: RwLock::default(),
            light: LightQueues::default(),
            maintenance: Mutex::default(),
        };
        table.load(last_run.as_ref())?;
        table.load_light()?;
        Ok(table)
    }

    fn load(&self, last_run: Option<&SyncedQueues>) -> io::Result<()> {
        let some_are_extended = self.shared.disk.exists(&extended::dir_beside(&self.shared.dir))?;
        let dirs = self.shared.disk.list(&self.shared.dir)?.into_iter().filter(|found| found.is_dir);
        let topics: Vec<Arc<str>> = dirs.map(|found| Arc::from(found.name)).collect();
        // What is not in the page cache is read for many topics at once.
        many_at_once(&topics, |topic| self.load_topic(topic, last_run, some_are_extended))
    }

    fn load_topic(&self, topic: &Arc<str>, last_run: Option<&SyncedQueues>, some_are_extended: bool) -> io::Result<()> {
        let mut queues = Queues::default();
        for queue in self.shared.disk.list(&self.shared.dir.join(&**topic))? {
            let Some(queue_id) = queue.name.parse::<i32>().ok().filter(|id| queue.is_dir && *id >= 0) else {
                continue;
            };
            let last_run = LastRun::of(last_run, topic, queue_id);
            let mut files = self.files_of(topic, queue_id);
            if some_are_extended {
                files = files.with_extended()?;
            }
            let queue = ConsumeQueue::open(files, last_run)?;
            if self.is_light(topic, queue_id) {
                self.light.foreign.lock().push((Arc::clone(topic), queue.max().0));
                continue;
            }
            queues.insert(queue_id, Arc::new(queue));
        }
        if !(self.is_light(topic, 0) && queues.is_empty()) {
            self.topics.write().queues.insert(Arc::clone(topic), queues);
        }
        Ok(())
    }

    fn files_of(&self, topic: &Arc<str>, queue_id: i32) -> QueueFiles {
        QueueFiles::new(Arc::clone(&self.shared), Arc::clone(topic), queue_id)
    }

    /// The queue, if it exists.
    #[must_use]
    pub(crate) fn find(&self, topic: &str, queue_id: i32) -> Option<Arc<ConsumeQueue>> {
        if self.is_light(topic, queue_id) {
            return self.light.by_name.read().get(topic).cloned();
        }
        self.topics.read().queues.get(topic)?.get(&queue_id).cloned()
    }

    /// The queue, created in memory if it does not exist; its directory is created with its first file. The caller has validated
    /// the topic's name.
    pub(crate) fn find_or_create(&self, topic: &str, queue_id: i32) -> Arc<ConsumeQueue> {
        if let Some(queue) = self.find(topic, queue_id) {
            return queue;
        }
        if self.is_light(topic, queue_id) {
            return self.create_light(topic);
        }
        let topics = &mut self.topics.write().queues;
        let name = topics
            .get_key_value(topic)
            .map_or_else(|| Arc::from(topic), |(name, _)| Arc::clone(name));
        let queues = topics.entry(Arc::clone(&name)).or_default();
        let queue = queues
            .entry(queue_id)
            .or_insert_with(|| Arc::new(ConsumeQueue::fresh(self.files_of(&name, queue_id))));
        Arc::clone(queue)
    }

    /// The topic's queues by queue id.
    #[must_use]
    pub(crate) fn of_topic(&self, topic: &str) -> Vec<Arc<ConsumeQueue>> {
        if self.is_light(topic, 0) {
            return self.find(topic, 0).into_iter().collect();
        }
        let mut queues: Vec<_> = self
            .topics
            .read()
            .queues
            .get(topic)
            .map(|queues| queues.values().cloned().collect())
            .unwrap_or_default();
        queues.sort_unstable_by_key(|queue| queue.queue_id());
        queues
    }

    /// The topics that have queues, or files left by a deletion that failed, in no particular order. Light queues are not topics.
    #[must_use]
    pub(crate) fn topics(&self) -> Vec<Arc<str>> {
        let topics = self.topics.read();
        let left = topics.left.iter().filter(|topic| !topics.queues.contains_key(*topic));
        topics.queues.keys().chain(left).cloned().collect()
    }

    /// Whether a topic has queues, or files left by a deletion that failed.
    #[must_use]
    pub(crate) fn has_topic(&self, topic: &str) -> bool {
        if self.is_light(topic, 0) {
            return self.find(topic, 0).is_some();
        }
        let topics = self.topics.read();
        topics.queues.contains_key(topic) || topics.left.contains(topic)
    }

    /// All queues but the light ones, in no particular order.
    #[must_use]
    pub(crate) fn all(&self) -> Vec<Arc<ConsumeQueue>> {
        self.topics
            .read()
            .queues
            .values()
            .flat_map(|queues| queues.values().cloned())
            .collect()
    }

    /// Entries that are only in memory. Grows without bound while the disk refuses writes: appends to the log have a bound of their
    /// own.
    #[must_use]
    pub(crate) fn pending_entries(&self) -> u64 {
        u64::try_from(self.shared.pending.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Whether no queue has, or had, a message.
    pub(crate) fn is_empty(&self) -> bool {
        self.all().iter().all(|queue| queue.max().0 == 0) && self.light.by_name.read().is_empty()
    }

    /// End of the last message of all queues in the log.
    #[cfg(test)]
    pub(crate) fn max_log_end(&self) -> LogOffset {
        self.all().iter().map(|queue| queue.max_log_end()).max().unwrap_or_default()
    }

    /// Whether a sync of queue files has failed.
    pub(crate) fn has_failed_sync(&self) -> bool {
        self.shared.sync_failed.load(Ordering::Acquire)
    }

    /// The entry of the message that ends last in the log; `None` if no queue has one.
    ///
    /// # Errors
    /// [`io::Error`] if the queue's files cannot be read.
    pub(crate) fn newest_entry(&self) -> io::Result<Option<Entry>> {
        let queues = self.all();
        let newest = queues.iter().max_by_key(|queue| queue.max_log_end());
        let Some(newest) = newest.filter(|queue| queue.min() < queue.max() && queue.max_log_end().0 > 0) else {
            return Ok(None);
        };
        let entry = newest.entry(newest.max().0 - 1)?;
        Ok((!entry.is_blank()).then_some(entry))
    }

    /// Writes published entries to files, and visits the queues that were active in the last round. Returns how many are to be
    /// visited again; at 0 nothing is left to do until something is published.
    ///
    /// # Errors
    /// The first [`io::Error`]. The other queues were written nevertheless, and entries that could not be written stay in memory
    /// for the next round.
    pub(crate) fn write_pending(&self) -> io::Result<usize> {
        let mut maintenance = self.maintenance.lock();
        let Maintenance { buffer, visiting } = &mut *maintenance;
        std::mem::swap(visiting, &mut *self.shared.dirty.lock());
        let (light_left, mut first_error) = self.write_light(visiting);
        visiting.retain(|queue| match self.write_pending_of(queue, buffer) {
            Ok(left) => left == Left::Active,
            Err(error) => {
                if first_error.is_ok() {
                    first_error = Err(error);
                }
                true
            }
        });
        let mut dirty = self.shared.dirty.lock();
        dirty.append(visiting);
        dirty.extend(light_left);
        let left = dirty.len();
        drop(dirty);
        buffer.clear();
        buffer.shrink_to(BUFFER_KEPT);
        first_error.map(|()| left)
    }

    fn write_pending_of(&self, queue: &Arc<ConsumeQueue>, buffer: &mut Vec<u8>) -> io::Result<Left> {
        if !queue.is_retired() {
            self.remove_left_files(queue.topic())?;
        }
        queue.write_pending(buffer)
    }

    /// Finishes a topic's deletion: removes the files that are left. True if there may have been any. Only with `maintenance` held.
    fn remove_left_files(&self, topic: &str) -> io::Result<bool> {
        if !self.topics.read().left.contains(topic) {
            return Ok(false);
        }
        let Shared { disk, dir, .. } = &*self.shared;
        disk.remove_dir_all(&dir.join(topic))?;
        disk.sync_dir(dir)?;
        self.topics.write().left.remove(topic);
        Ok(true)
    }

    /// Syncs what was written to files, and records the synced end of each queue. After an error no later call succeeds: the kernel
    /// has dropped what it could not write, so only recovery may trust these files again.
    ///
    /// # Errors
    /// [`io::Error`] if a file or directory cannot be synced.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let _maintenance = self.maintenance.lock();
        self.sync_all(one_by_one)
    }

    fn sync_all(&self, each: Each) -> io::Result<()> {
        if self.shared.sync_failed.load(Ordering::Acquire) {
            return Err(io::Error::other(
                "an earlier sync of queue files failed; the next start rebuilds them from the log",
            ));
        }
        if let Some(light) = &self.shared.light {
            let synced = light.sync(&|| self.all_light());
            synced.inspect_err(|_| self.shared.sync_failed.store(true, Ordering::Release))?;
        }
        let queues = std::mem::take(&mut *self.shared.unsynced.lock());
        if queues.is_empty() {
            return Ok(());
        }
        let synced = if queues.len() > self.shared.synced_alone_max {
            self.sync_together(&queues)
        } else {
            self.sync_alone(&queues, each)
        };
        synced.inspect_err(|_| self.shared.sync_failed.store(true, Ordering::Release))?;
        self.note_synced()
    }

    /// Bytes that the last checkpoint wrote of the ends of all queues.
    pub(crate) fn synced_bytes(&self) -> i64 {
        self.shared.synced_bytes.load(Ordering::Relaxed)
    }

    /// Syncs the files of each queue, and the names of new queues.
    fn sync_alone(&self, queues: &[Arc<ConsumeQueue>], each: Each) -> io::Result<()> {
        let Shared { disk, dir, .. } = &*self.shared;
        let new: FxHashSet<_> = queues.iter().filter(|queue| queue.is_new()).map(|queue| queue.name()).collect();
        each(queues, |queue| queue.sync())?;
        // A topic may have been deleted meanwhile.
        new.iter().try_for_each(|topic| sync_if_there(&**disk, &dir.join(&***topic)))?;
        if new.is_empty() { Ok(()) } else { disk.sync_dir(dir) }
    }

    /// Syncs everything at once: the sync of a file takes a millisecond, and a million queues would take half an hour. Files are written
    /// with `maintenance` held only, as it is now.
    fn sync_together(&self, queues: &[Arc<ConsumeQueue>]) -> io::Result<()> {
        let Shared { disk, dir, .. } = &*self.shared;
        disk.sync_file_system(dir)?;
        queues.iter().for_each(|queue| queue.note_synced());
        Ok(())
    }

    /// Writes the file `consumequeue.synced`. If that fails, as on a full disk, an older one must not stay: a new checkpoint would
    /// not match it.
    fn note_synced(&self) -> io::Result<()> {
        let mut writer = synced::Writer::new();
        for queue in self.all() {
            if let Some(synced) = queue.synced() {
                writer.add(queue.topic(), queue.queue_id(), synced);
            }
        }
        self.shared.synced_bytes.store(writer.bytes(), Ordering::Relaxed);
        let Shared { disk, synced_path, .. } = &*self.shared;
        let Err(error) = writer.write(&**disk, synced_path) else {
            return Ok(());
        };
        if_exists(disk.remove_file(synced_path))?;
        disk.sync_dir(parent(synced_path))?;
        tracing::warn!(%error, file = %synced_path.display(), "the synced ends of the queues could not be written; the next start searches them in the files");
        Ok(())
    }

    /// Recovery: see [`ConsumeQueue::truncate_to_log`], for all queues. To be called after an unclean stop, before anything is
    /// published, with the log offset up to which queues are synced for sure. The remaining files are synced, their names too: a
    /// killed process may not have synced names that it created or removed.
    ///
    /// # Errors
    /// [`io::Error`] if files cannot be read or changed.
    pub(crate) fn truncate_to_log(&self, log_end: LogOffset) -> io::Result<()> {
        let _maintenance = self.maintenance.lock();
        let Shared { disk, dir, .. } = &*self.shared;
        let queues = self.all();
        many_at_once(&queues, |queue| queue.truncate_to_log(log_end))?;
        if queues.len() > self.shared.synced_alone_max {
            disk.sync_file_system(dir)?;
        } else {
            many_at_once(&queues, |queue| {
                sync_if_there(&**disk, &dir.join(queue.topic()).join(queue.queue_id().to_string()))
            })?;
            many_at_once(&self.topics(), |topic| sync_if_there(&**disk, &dir.join(&**topic)))?;
            disk.sync_dir(dir)?;
        }
        self.truncate_light(log_end)?;
        self.sync_all(many_at_once)
    }

    /// Retention: see [`ConsumeQueue::raise_min`], for all queues. Returns how many files were removed.
    ///
    /// # Errors
    /// The first [`io::Error`]; the other queues were visited nevertheless.
    pub(crate) fn raise_min(&self, log_min: LogOffset) -> io::Result<usize> {
        let _maintenance = self.maintenance.lock();
        let mut first_error = Ok(());
        let mut removed = 0;
        for queue in self.all() {
            match queue.raise_min(log_min) {
                Ok(files) => removed += files,
                Err(error) if first_error.is_ok() => first_error = Err(error),
                Err(_) => {}
            }
        }
        first_error = first_error.and(self.raise_light_min(log_min).map(|files| removed += files));
        first_error.map(|()| removed)
    }

    /// Waits for other work on queues' files, and keeps it waiting.
    pub(super) fn lock_maintenance(&self) -> MutexGuard<'_, Maintenance> {
        self.maintenance.lock()
    }

    /// Begins to delete a topic, see [`TopicDeletion`]. Waits for other work on queues' files, and keeps it waiting.
    pub(crate) fn begin_deletion<'t>(&'t self, topic: &'t str) -> TopicDeletion<'t> {
        TopicDeletion {
            _maintenance: self.maintenance.lock(),
            table: self,
            topic,
            queues: Vec::new(),
        }
    }

    #[cfg(test)]
    pub(super) fn open_files(&self) -> usize {
        self.shared.files.count()
    }
}

/// The deletion of a topic's queues. No queue is written until it ends, so that a topic of the same name, which may be used as soon
/// as the queues are retired, does not meet the old files.
#[derive(Debug)]
pub(crate) struct TopicDeletion<'t> {
    _maintenance: MutexGuard<'t, Maintenance>,
    table: &'t QueueTable,
    topic: &'t str,
    queues: Vec<Arc<ConsumeQueue>>,
}

impl TopicDeletion<'_> {
    /// Removes the queues from the table; they assign no more offsets. Only under the log's append lock.
    pub(crate) fn retire(&mut self) {
        let mut topics = self.table.topics.write();
        if let Some((topic, queues)) = topics.queues.remove_entry(self.topic) {
            topics.left.insert(topic);
            self.queues = queues.into_values().collect();
        }
        drop(topics);
        self.queues.extend(self.table.light.by_name.write().remove(self.topic));
        self.queues.iter().for_each(|queue| queue.retire());
    }

    /// Removes the files, once all assigned entries are published, and those that an earlier deletion could not remove. Other
    /// holders of the queues find them empty. True if there were queues or files.
    ///
    /// # Errors
    /// [`io::Error`] if a file cannot be removed. The files that are left come back at the next start, unless another deletion, or
    /// the first write to a topic of the same name, has removed them by then.
    pub(crate) fn remove_files(self) -> io::Result<bool> {
        self.queues.iter().for_each(|queue| queue.abandon());
        self.table.note_light_deleted(&self.queues)?;
        self.table.remove_left_files(self.topic)
    }
}

/// How an operation is applied to queues.
type Each = fn(&[Arc<ConsumeQueue>], fn(&Arc<ConsumeQueue>) -> io::Result<()>) -> io::Result<()>;

fn one_by_one<T>(items: &[T], act: impl Fn(&T) -> io::Result<()>) -> io::Result<()> {
    items.iter().try_for_each(act)
}

/// In parallel, for a start: a device that is asked for many syncs at once does them together, so that thousands of queues take a
/// fraction of the time. Returns the first error.
fn many_at_once<T: Sync>(items: &[T], act: impl Fn(&T) -> io::Result<()> + Sync) -> io::Result<()> {
    const FEW: usize = 64;
    const THREADS: usize = 16;
    if items.len() <= FEW {
        return one_by_one(items, act);
    }
    std::thread::scope(|scope| {
        let part = |part| {
            let act = &act;
            scope.spawn(move || one_by_one(part, act))
        };
        let threads: Vec<_> = items.chunks(items.len().div_ceil(THREADS)).map(part).collect();
        let ended = threads.into_iter().map(|thread| match thread.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        ended.collect()
    })
}

/// A queue without files has no directory.
fn sync_if_there(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    if_exists(disk.sync_dir(dir)).map(drop)
}

impl Drop for QueueTable {
    fn drop(&mut self) {
        // Breaks the cycle: the lists hold queues, and queues hold the lists.
        self.shared.dirty.lock().clear();
        self.shared.unsynced.lock().clear();
    }
}
