//! Opening a directory: the lock, what its last writer left, recovery, and the threads.
//!
//! After a clean stop the queues end where the log ends, so there is nothing to read. After a crash everything above the
//! last checkpoint is cut from queues and index and derived again from the log; the log itself ends at its first record that
//! is not whole. Both may be repeated: an interrupted recovery changes nothing that the next one needs.

use crate::checkpoint::{Checkpoint, CheckpointFile};
use crate::disk::{Disk, OpenMode};
use crate::dispatch::Dispatch;
use crate::error::StoreError;
use crate::foreign::Foreign;
use crate::index::{KeyIndex, key_hashes};
use crate::log::{self, CommitLog};
use crate::options::{FlushMode, StoreOptions};
use crate::queue::{Code, ConsumeQueue, DueTopic, Entry, QueueOptions, QueueTable};
use crate::store::Store;
use crate::sync::atomic::{AtomicBool, AtomicU32};
use crate::sync::{Mutex, RwLock};
use message::properties::Indexed;
use message::record::Record;
use message::{LogOffset, sys_flag};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// Apache's margin: what was stored in the last seconds before a checkpoint's time may have missed it.
pub(crate) const CHECKPOINT_MARGIN_MS: i64 = 3_000;

/// What opening found and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The last writer stopped in order.
    pub clean: bool,
    /// Where reading the log began.
    pub from: LogOffset,
    /// Where the log ends.
    pub end: LogOffset,
    /// Messages read to derive queues and index again.
    pub messages: u64,
}

impl Store {
    /// Opens the directory, made if absent, and recovers it.
    ///
    /// # Errors
    /// In use by another process; the machine's; files of other sizes than configured; queues in a form of Apache's that is not
    /// read here; a gap in the log.
    pub fn open(disk: Arc<dyn Disk>, options: StoreOptions) -> Result<(Arc<Self>, Recovery), StoreError> {
        let root = options.root.clone();
        disk.create_dir_all(&root).map_err(|e| StoreError::io("create", &root, e))?;
        for dir in [&root, &options.log_dir] {
            sync_name(&*disk, dir)?;
        }
        let lock = lock(&*disk, &options)?;
        Foreign::refuse(&*disk, &root)?;
        let abort = root.join("abort");
        let stop = LastStop::find(&*disk, &abort)?;
        let parts = Parts::open(&disk, &options)?;
        let (parts, derived, recovery) = parts.recover(&options, stop)?;
        leave_mark(&*disk, &abort)?;
        let dispatch = Arc::new(Dispatch::new(
            options.index.is_some(),
            options.max_index_backlog,
            recovery.end.0,
            derived.not_indexed_from,
        ));
        let log = Arc::new(CommitLog::new(
            options.log.clone(),
            parts.segments,
            (recovery.end.0, derived.synced),
            dispatch.clone(),
        ));
        let (on, mark) = (disk.clone(), abort.clone());
        log.set_on_failure(move || distrust_page_cache(&*on, &mark));
        let store = Arc::new(Self {
            log: log.clone(),
            queues: Arc::new(parts.queues),
            index: parts.index,
            indexing: Mutex::new(()),
            dispatch,
            checkpoint: Mutex::new((parts.checkpoint_file, parts.checkpoint)),
            retention: RwLock::new(options.retention.clone()),
            manual_rounds: AtomicU32::new(0),
            refusing: RwLock::new(None),
            threads: Mutex::default(),
            derived_failed: AtomicBool::new(false),
            options,
            disk,
            _lock: lock,
        });
        let mut threads = log.start_flushers()?;
        threads.push(store.start_keeper()?);
        *store.threads.lock() = threads;
        Ok((store, recovery))
    }

    /// Shuts down cleanly: appends are refused from now on, everything taken before is written, synced and checkpointed, and the
    /// next start has nothing to recover.
    ///
    /// # Errors
    /// `StoreError::Io` if the last syncs fail, `StoreError::Failed` if the log or index had failed before; the next start then
    /// recovers.
    pub fn close(&self) -> Result<(), StoreError> {
        // What appends still wait for needs the flushers.
        let written = self.log.take_no_more();
        self.log.stop_flushers();
        self.dispatch.stop_keeper();
        for thread in self.threads.lock().drain(..) {
            let _ = thread.join();
        }
        written?;
        self.checkpoint_now()?;
        if !self.index.as_ref().is_none_or(KeyIndex::is_written) {
            return Err(StoreError::Failed(
                "the key index could not be written; the next start recovers it".to_owned(),
            ));
        }
        let abort = self.options.root.join("abort");
        match self.disk.remove_file(&abort) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(StoreError::io("remove", &abort, e)),
            _ => {}
        }
        self.disk
            .sync_dir(&self.options.root)
            .map_err(|e| StoreError::io("sync", &self.options.root, e))
    }
}

impl Store {
    /// A sync failed: what the page cache shows of the file is not on the disk and never will be. The next start must not
    /// take it for whole because the machine went on.
    pub(crate) fn distrust_page_cache(&self) {
        distrust_page_cache(&*self.disk, &self.options.root.join("abort"));
    }
}

fn distrust_page_cache(disk: &dyn Disk, abort: &std::path::Path) {
    let marked = disk.open(abort, OpenMode::WriteOrCreate).and_then(|file| file.set_len(0));
    if let Err(error) = marked {
        tracing::error!(%error, "the next start may trust what was not synced; empty the file abort before it");
    }
}

fn lock(disk: &dyn Disk, options: &StoreOptions) -> Result<Box<dyn crate::disk::Lock>, StoreError> {
    let path = options.root.join("lock");
    disk.lock(&path).map_err(|e| match e.kind() {
        io::ErrorKind::WouldBlock => StoreError::Locked(format!(
            "{} is in use by another process (it holds {}); stop that one, or choose another directory with --data",
            options.root.display(),
            path.display()
        )),
        _ => StoreError::io("lock", &path, e),
    })
}

/// How the last writer of a directory ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastStop {
    /// In order.
    Clean,
    /// The process died, the machine went on: all it wrote reads as it was written.
    Killed,
    /// Power may have been lost: what was not synced may be gone, in any order.
    Unknown,
}

impl LastStop {
    fn find(disk: &dyn Disk, abort: &std::path::Path) -> Result<Self, StoreError> {
        match disk.read(abort) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Self::Clean),
            Err(e) => Err(StoreError::io("read", abort, e)),
            Ok(mark) if disk.boot().is_some_and(|boot| mark == mark_of(&boot).as_bytes()) => Ok(Self::Killed),
            Ok(_) => Ok(Self::Unknown),
        }
    }
}

/// What our `abort` file says. Apache writes a process id there and reads nothing.
fn mark_of(boot: &str) -> String {
    format!("boot {boot}\n")
}

/// A process that was killed may have made the directory and not synced its name.
fn sync_name(disk: &dyn Disk, dir: &std::path::Path) -> Result<(), StoreError> {
    let above = crate::disk::parent(dir);
    match disk.sync_dir(above) {
        // Whoever may not look into it did not make anything in it; or there is nothing yet.
        Err(e) if !matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound) => Err(StoreError::io("sync", above, e)),
        _ => Ok(()),
    }
}

/// From now on, until a clean stop, the directory counts as crashed.
fn leave_mark(disk: &dyn Disk, abort: &std::path::Path) -> Result<(), StoreError> {
    let failed = |e| StoreError::io("create", abort, e);
    let file = disk.open(abort, OpenMode::WriteOrCreate).map_err(failed)?;
    let mark = disk.boot().map(|boot| mark_of(&boot)).unwrap_or_default();
    file.set_len(0).map_err(failed)?;
    file.write_at(mark.as_bytes(), 0).map_err(failed)?;
    disk.sync_dir(crate::disk::parent(abort)).map_err(failed)
}

/// What recovery knows of the log beside its end.
struct Derived {
    /// All before it is on the disk for sure.
    synced: i64,
    /// Keys from there on are not in the index.
    not_indexed_from: Option<i64>,
}

/// The files of a directory, opened.
struct Parts {
    segments: log::segment::Segments,
    queues: QueueTable,
    index: Option<KeyIndex>,
    checkpoint_file: CheckpointFile,
    checkpoint: Checkpoint,
}

impl Parts {
    fn open(disk: &Arc<dyn Disk>, options: &StoreOptions) -> Result<Self, StoreError> {
        let root = &options.root;
        let queue_dir = root.join("consumequeue");
        let queue_options = QueueOptions {
            file_len: options.queue_file_bytes,
            open_files_max: options.max_open_queue_files,
        };
        let queues = QueueTable::open(disk.clone(), &queue_dir, queue_options).map_err(|e| StoreError::io("open", &queue_dir, e))?;
        let index_dir = root.join("index");
        let index = options.index.map(|numbers| KeyIndex::open(disk.clone(), &index_dir, numbers));
        let index = index.transpose().map_err(|e| StoreError::io("open", &index_dir, e))?;
        let path = root.join("checkpoint");
        let (checkpoint_file, checkpoint) = CheckpointFile::open(&**disk, &path).map_err(|e| StoreError::io("open", &path, e))?;
        Ok(Self {
            segments: CommitLog::open_segments(disk.clone(), &options.log_dir, &options.log)?,
            queues,
            index,
            checkpoint_file,
            checkpoint,
        })
    }

    /// Where the log has to be read from: a place that is known to be a record's beginning, or the log's end.
    fn start(&self, clean: bool) -> Result<i64, StoreError> {
        let first = self.segments.first_offset().unwrap_or(0);
        let end = self.segments.last().map_or(first, |last| last.end());
        // One that names a place behind all files is of a log that was removed.
        let exact = self.checkpoint.dispatched().map(|at| at.0).filter(|at| *at <= end);
        let queued = if clean { self.end_of_newest()? } else { None };
        let from = match exact.max(queued) {
            Some(known) => known,
            None => {
                let safe = self.checkpoint.safe_timestamp() - CHECKPOINT_MARGIN_MS;
                log::start_by_time(&self.segments, safe)?.unwrap_or(first)
            }
        };
        Ok(from.max(first))
    }

    /// Where the last message ends that a queue names; `None` when there is none, or the log does not have it: a damaged entry must
    /// not say where the log ends.
    fn end_of_newest(&self) -> Result<Option<i64>, StoreError> {
        let newest = self.queues.newest_entry();
        let newest = newest.map_err(|e| StoreError::io("read", &PathBuf::from("consume queues"), e))?;
        let Some(newest) = newest else { return Ok(None) };
        let is_there = log::is_record(&self.segments, newest.log_offset, newest.size)?;
        if !is_there {
            tracing::error!(
                ?newest,
                "the newest entry of the queues names no record; the log is read from the last checkpoint"
            );
        }
        Ok(is_there.then(|| newest.log_end()))
    }

    /// The index may have been behind the queues: where it goes on. Keys are put in log order, so what the index has already
    /// it has without a gap.
    fn not_indexed_from(&self, from: i64) -> Option<i64> {
        let index = self.index.as_ref()?;
        let indexed = self.checkpoint.derived?.indexed;
        Some(indexed.max(index.last().0).0).filter(|at| *at < from)
    }

    fn recover(self, options: &StoreOptions, stop: LastStop) -> Result<(Self, Derived, Recovery), StoreError> {
        let started = Instant::now();
        let clean = stop == LastStop::Clean;
        let from = self.start(clean)?;
        let mut rebuild = Rebuild {
            queues: &self.queues,
            due: &options.log.due,
            strict: !clean && self.checkpoint.derived.is_some(),
            computed: BTreeMap::new(),
        };
        if !clean {
            self.forget_above(from, stop)?;
        }
        let mut messages = 0;
        let mut not_indexed_from = self.not_indexed_from(from);
        let Self { segments, index, .. } = &self;
        let end = log::scan(segments, from, options.check_crc_on_recovery, |record| {
            messages += 1;
            rebuild.put(record)?;
            if let Some(index) = index.as_ref().filter(|_| not_indexed_from.is_none())
                && let Err(error) = put_keys(index, record)
            {
                tracing::warn!(%error, from = %record.log_offset, "keys are indexed later, from the log; until then they are not found");
                not_indexed_from = Some(record.log_offset.0);
            }
            Ok(())
        })?;
        rebuild.report();
        let mut synced = end;
        match stop {
            LastStop::Clean => segments.adopt_next(end),
            LastStop::Killed => {
                log::erase_after(segments, end)?;
                match options.log.flush_mode {
                    // A disk that refused everything may have refused the note that a sync failed, too.
                    FlushMode::Sync => log::write_again(segments, from, end)?,
                    // The flusher will: a start need not wait for what was not promised to be on the disk yet.
                    FlushMode::Async => synced = from,
                }
            }
            LastStop::Unknown => {
                log::erase_after(segments, end)?;
                log::write_again(segments, from, end)?;
            }
        }
        self.shorten(segments.first_offset().unwrap_or(0))?;
        if !clean || messages > 0 {
            tracing::info!(
                from,
                end,
                messages,
                clean,
                took_ms = started.elapsed().as_millis() as u64,
                "recovered"
            );
        }
        Ok((
            self,
            Derived { synced, not_indexed_from },
            Recovery {
                clean,
                from: LogOffset(from),
                end: LogOffset(end),
                messages,
            },
        ))
    }

    /// Finishes what retention began: queues and index start where the log does.
    fn shorten(&self, log_min: i64) -> Result<(), StoreError> {
        let failed = |path: &str, e| StoreError::Io {
            action: "shorten",
            path: path.to_owned(),
            source: e,
        };
        let log_min = LogOffset(log_min);
        self.queues.raise_min(log_min).map_err(|e| failed("consume queues", e))?;
        if let Some(index) = &self.index {
            index.remove_below(log_min).map_err(|e| failed("key index", e))?;
        }
        Ok(())
    }

    fn forget_above(&self, from: i64, stop: LastStop) -> Result<(), StoreError> {
        let failed = |e| StoreError::Io {
            action: "cut",
            path: "consume queues".to_owned(),
            source: e,
        };
        self.queues.truncate_to_log(LogOffset(from)).map_err(failed)?;
        let Some(index) = &self.index else { return Ok(()) };
        let from = self.checkpoint.derived.map_or(from, |derived| derived.indexed.0.min(from));
        index.cut(LogOffset(from), stop == LastStop::Killed).map_err(|e| StoreError::Io {
            action: "cut",
            path: "key index".to_owned(),
            source: e,
        })
    }
}

/// Rebuilds queues from the log.
struct Rebuild<'a> {
    queues: &'a QueueTable,
    due: &'a DueTopic,
    /// Only we wrote since the checkpoint, so that each queue's offsets follow each other; one that goes back is of a topic
    /// that was deleted and made again, and what the queue had from there on is not its own.
    strict: bool,
    /// Messages whose due time was computed from today's levels, by level.
    computed: BTreeMap<i32, u64>,
}

impl Rebuild<'_> {
    /// Puts a message of the log into its queue again.
    fn put(&mut self, record: &Record<'_>) -> Result<(), StoreError> {
        if !sys_flag::is_in_queue(record.sys_flag) {
            return Ok(());
        }
        let queue = self.queues.find_or_create(record.topic, record.queue_id);
        let failed = |e| StoreError::Io {
            action: "move",
            path: format!("consume queue {}/{}", record.topic, record.queue_id),
            source: e,
        };
        if record.queue_offset < queue.max() {
            if !self.strict || is_known(&queue, record) {
                return Ok(());
            }
            tracing::warn!(
                topic = record.topic,
                queue = record.queue_id,
                from = %queue.max(),
                to = %record.queue_offset,
                at = %record.log_offset,
                "a queue of a topic that was deleted and made again starts anew"
            );
            queue.rewind(record.queue_offset).map_err(failed)?;
        }
        if record.queue_offset > queue.max() {
            queue.skip_to(record.queue_offset).map_err(failed)?;
        }
        queue.publish(self.entry(record));
        queue.reset_assigned_to_published();
        Ok(())
    }

    fn entry(&mut self, record: &Record<'_>) -> Entry {
        let tags = Indexed::of(record.properties).tags;
        let code = self.due.code(record.topic, record.properties, &tags, record.store_timestamp);
        if let Code::Computed { level, .. } = code {
            *self.computed.entry(level).or_default() += 1;
        }
        Entry {
            log_offset: record.log_offset.0,
            size: record.size as i32,
            tags_code: code.value(),
        }
    }

    /// Warns of times that could only be guessed.
    fn report(&self) {
        for (level, messages) in &self.computed {
            tracing::warn!(
                level,
                messages,
                "delayed messages do not say when they are due (another broker stored them): their time follows from messageDelayLevel as it is now"
            );
        }
    }
}

/// Puts a message of the log into the index; one that is there already stays as it is.
///
/// # Errors
/// The machine's; nothing of the message was put then.
pub(crate) fn put_keys(index: &KeyIndex, record: &Record<'_>) -> io::Result<()> {
    if !sys_flag::is_in_queue(record.sys_flag) {
        return Ok(());
    }
    let indexed = Indexed::of(record.properties);
    let mut hashes = smallvec::SmallVec::<[i32; 4]>::new();
    key_hashes(record.topic, &indexed.uniq_key, &indexed.keys, &indexed.tags, |hash| {
        hashes.push(hash)
    });
    index.put_record(&hashes, record.log_offset, record.store_timestamp)
}

/// Whether the queue has this very record at its offset already.
fn is_known(queue: &ConsumeQueue, record: &Record<'_>) -> bool {
    let mut entry = Vec::with_capacity(1);
    queue.read(record.queue_offset, 1, &mut entry).is_ok() && entry.first().is_some_and(|e| e.log_offset == record.log_offset.0)
}
