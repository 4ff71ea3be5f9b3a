//! Opens a store: locks the directory, recovers it and starts the threads.
//!
//! After a clean shutdown the queues end where the log ends, so there is nothing to read. After a crash queues and index are
//! truncated to the last checkpoint and derived again from the log; the log ends at its first record that is not whole. An
//! interrupted recovery changes nothing that the next one needs.

use crate::checkpoint::{Checkpoint, CheckpointFile};
use crate::cleanup::Cleanup;
use crate::compaction::Compaction;
use crate::derived::{self, DerivedList, Keys, LightRebuild, Restore, Shutdown, SyncFailureMark};
use crate::disk::{Disk, OpenMode, if_exists};
use crate::dispatch::Dispatch;
use crate::error::StoreError;
use crate::foreign::Foreign;
use crate::index::KeyIndex;
use crate::log::{self, CommitLog};
use crate::options::{FlushMode, StoreOptions};
use crate::queue::{QueueOptions, QueueTable};
use crate::store::Store;
use crate::sync::atomic::AtomicU32;
use crate::sync::{Instant, Mutex, RwLock};
use message::LogOffset;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Apache's margin: a checkpoint may not cover what was stored in the last seconds before its timestamp.
pub(crate) const CHECKPOINT_MARGIN_MS: i64 = 3_000;

/// Result of a recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// Whether the last process shut down cleanly.
    pub clean: bool,
    /// Log offset from which the log was read.
    pub from: LogOffset,
    /// End of the log.
    pub end: LogOffset,
    /// Messages that were read to derive queues and index.
    pub messages: u64,
}

impl Store {
    /// Opens the directory, creates it if it does not exist, and recovers it.
    ///
    /// # Errors
    /// `StoreError::Locked` if another process uses the directory. `StoreError::Layout` if log files do not have the configured
    /// size, the log has a gap, or there are queues in a format of Apache's that is not supported. `StoreError::Io` if files cannot
    /// be read or written.
    pub fn open(disk: Arc<dyn Disk>, options: StoreOptions) -> Result<(Arc<Self>, Recovery), StoreError> {
        let root = options.root.clone();
        disk.create_dir_all(&root).map_err(|e| StoreError::io("create", &root, e))?;
        for dir in [&root, &options.log_dir] {
            sync_parent_dir(&*disk, dir)?;
        }
        let lock = lock(&*disk, &options)?;
        Foreign::refuse(&*disk, &root)?;
        let abort = root.join("abort");
        let stop = LastStop::find(&*disk, &abort)?;
        let parts = Parts::open(&disk, &options)?;
        let compaction = options.compaction.clone();
        let compaction = compaction
            .map(|numbers| Compaction::open(disk.clone(), &root, numbers))
            .transpose()?;
        let (synced, recovery) = parts.recover(&options, stop)?;
        write_abort_file(&*disk, &abort)?;
        let dispatch = Arc::new(Dispatch::new(parts.derived, recovery.end));
        let log = Arc::new(CommitLog::new(
            options.log.clone(),
            parts.segments,
            recovery.end,
            LogOffset(synced),
            dispatch.clone(),
        ));
        let sync_failure = SyncFailureMark::new(disk.clone(), abort);
        log.set_on_failure(move || sync_failure.note());
        let store = Arc::new(Self {
            log: log.clone(),
            queues: parts.queues,
            keys: parts.keys,
            dispatch,
            checkpoint: Mutex::new((parts.checkpoint_file, parts.checkpoint)),
            retention: RwLock::new(options.retention.clone()),
            shortening: Mutex::new(()),
            manual_rounds: AtomicU32::new(0),
            refusing: RwLock::new(None),
            needs: OnceLock::new(),
            threads: Mutex::default(),
            compaction,
            cleanup: Cleanup::default(),
            options,
            disk,
            _lock: lock,
        });
        let mut threads = log.start_flushers()?;
        threads.push(store.start_keeper()?);
        *store.threads.lock() = threads;
        Ok((store, recovery))
    }

    /// Shuts down cleanly: refuses appends, then writes, syncs and checkpoints everything appended before. The next start has
    /// nothing to recover.
    ///
    /// # Errors
    /// `StoreError::Io` if the last syncs fail, `StoreError::Failed` if the log or index had failed before; the next start then
    /// recovers.
    pub fn close(&self) -> Result<(), StoreError> {
        // Nobody reads any more, and replicas acknowledge nothing more.
        self.log.raise_bound(LogOffset(i64::MAX));
        // Pending appends need the flushers.
        let written = self.log.refuse_appends();
        self.log.stop_flushers();
        self.dispatch.stop_keeper();
        for thread in self.threads.lock().drain(..) {
            let _ = thread.join();
        }
        self.stop_cleanup();
        written?;
        self.checkpoint_now()?;
        self.copy_at_close();
        if !self.dispatch.derived().iter().all(|derived| derived.is_written()) {
            return Err(StoreError::Failed(
                "queues or key index could not be written; the next start recovers them".to_owned(),
            ));
        }
        let abort = self.options.root.join("abort");
        if_exists(self.disk.remove_file(&abort)).map_err(|e| StoreError::io("remove", &abort, e))?;
        self.disk
            .sync_dir(&self.options.root)
            .map_err(|e| StoreError::io("sync", &self.options.root, e))
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

/// How the last process ended that used a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastStop {
    /// It shut down cleanly.
    Clean,
    /// The process was killed, the machine was not: all that was written can be read.
    Killed,
    /// Power may have failed: any writes that were not synced may be lost.
    Unknown,
}

impl LastStop {
    /// How the last process ended that used the store below `root`.
    ///
    /// # Errors
    /// `StoreError::Io` if the file that tells it cannot be read.
    pub fn of(disk: &dyn Disk, root: &std::path::Path) -> Result<Self, StoreError> {
        Self::find(disk, &root.join("abort"))
    }

    fn find(disk: &dyn Disk, abort: &std::path::Path) -> Result<Self, StoreError> {
        let mark = if_exists(disk.read(abort)).map_err(|e| StoreError::io("read", abort, e))?;
        let Some(mark) = mark else { return Ok(Self::Clean) };
        let is_same_boot = disk.boot().is_some_and(|boot| mark == abort_content(&boot).as_bytes());
        Ok(if is_same_boot { Self::Killed } else { Self::Unknown })
    }
}

/// Content of our `abort` file. Apache writes a process id and never reads it.
fn abort_content(boot: &str) -> String {
    format!("boot {boot}\n")
}

/// A process that was killed may have created the directory without syncing its name.
fn sync_parent_dir(disk: &dyn Disk, dir: &std::path::Path) -> Result<(), StoreError> {
    let above = crate::disk::parent(dir);
    match disk.sync_dir(above) {
        // Without the permission to open it, no process of this user created anything in it; or it does not exist yet.
        Err(e) if !matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound) => Err(StoreError::io("sync", above, e)),
        _ => Ok(()),
    }
}

/// Writes the `abort` file: until a clean shutdown the directory counts as crashed.
fn write_abort_file(disk: &dyn Disk, abort: &std::path::Path) -> Result<(), StoreError> {
    let failed = |e| StoreError::io("create", abort, e);
    let file = disk.open(abort, OpenMode::WriteOrCreate).map_err(failed)?;
    let mark = disk.boot().map(|boot| abort_content(&boot)).unwrap_or_default();
    file.set_len(0).map_err(failed)?;
    file.write_at(mark.as_bytes(), 0).map_err(failed)?;
    disk.sync_dir(crate::disk::parent(abort)).map_err(failed)
}

/// The opened files of a directory.
struct Parts {
    segments: log::segment::Segments,
    queues: Arc<QueueTable>,
    keys: Option<Arc<Keys>>,
    derived: DerivedList,
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
            synced_alone_max: options.max_queues_synced_alone,
            light_file_bytes: options.light_file_bytes,
        };
        let queues = QueueTable::open(disk.clone(), &queue_dir, queue_options, options.due.clone());
        let queues = Arc::new(queues.map_err(|e| StoreError::io("open", &queue_dir, e))?);
        let index_dir = root.join("index");
        let index = options.index.map(|numbers| KeyIndex::open(disk.clone(), &index_dir, numbers));
        let index = index.transpose().map_err(|e| StoreError::io("open", &index_dir, e))?;
        let sync_failure = SyncFailureMark::new(disk.clone(), root.join("abort"));
        let keys = index.map(|index| Arc::new(Keys::new(index, options.max_index_backlog, sync_failure)));
        let path = root.join("checkpoint");
        let (checkpoint_file, checkpoint) = CheckpointFile::open(&**disk, &path).map_err(|e| StoreError::io("open", &path, e))?;
        Ok(Self {
            segments: CommitLog::open_segments(disk.clone(), &options.log_dir, &options.log)?,
            derived: derived::of(&queues, keys.as_ref()),
            queues,
            keys,
            checkpoint_file,
            checkpoint,
        })
    }

    /// Log offset from which the log has to be read: where a record begins for sure, or the log's end.
    fn start(&self, clean: bool) -> Result<i64, StoreError> {
        let first = self.segments.first_offset().unwrap_or(0);
        let end = self.segments.last().map_or(first, |last| last.end());
        // A checkpoint behind all files belongs to a log that was removed.
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

    /// End of the last message in the queues; `None` if there is none, or if the log does not have it: a damaged entry must not set
    /// the log's end.
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

    /// Reads the part of the log before `from` that the light queues do not have: all of it when they are enabled, or after a Java
    /// broker used the directory.
    fn read_for_light_queues(&self, from: LogOffset) -> Result<(), StoreError> {
        let Some(behind) = self.queues.light_behind(from) else {
            return Ok(());
        };
        let first = self.segments.first_offset().unwrap_or(0);
        let behind = behind.0.max(first);
        if behind >= from.0 {
            return Ok(());
        }
        let started = Instant::now();
        let mut rebuild = LightRebuild::new(&self.queues);
        log::scan_part(&self.segments, behind, from.0, |record| rebuild.put(record))?;
        tracing::info!(
            from = behind,
            to = %from,
            took_ms = started.elapsed().as_millis() as u64,
            "read the log for the light queues"
        );
        Ok(())
    }

    /// Restores what is derived and finds the log's end. Also returns how much of the log is on the device for sure.
    fn recover(&self, options: &StoreOptions, last: LastStop) -> Result<(i64, Recovery), StoreError> {
        let started = Instant::now();
        let clean = last == LastStop::Clean;
        let from = self.start(clean)?;
        let stop = Shutdown {
            is_clean: clean,
            is_all_readable: last == LastStop::Killed,
            from: LogOffset(from),
            progress: self.checkpoint.progress,
        };
        let restores = self.derived.iter().map(|derived| derived.recover(&stop));
        let mut restores: Vec<Box<dyn Restore + '_>> = restores.collect::<Result<_, _>>()?;
        let mut messages = 0;
        let segments = &self.segments;
        self.read_for_light_queues(LogOffset(from))?;
        let end = log::scan(segments, from, options.check_crc_on_recovery, |record| {
            messages += 1;
            restores.iter_mut().try_for_each(|restore| restore.put(record))
        })?;
        restores.into_iter().for_each(|restore| restore.finish(LogOffset(end)));
        self.queues
            .finish_light()
            .map_err(|e| StoreError::io("move", Path::new("light queues"), e))?;
        let mut synced = end;
        match last {
            LastStop::Clean => segments.adopt_next(end),
            LastStop::Killed => {
                log::erase_after(segments, end)?;
                match options.log.flush_mode {
                    // A disk that fails all writes may also have refused the note that a sync failed.
                    FlushMode::Sync => log::write_again(segments, from, end)?,
                    // The flusher syncs it: a start need not wait for what was not promised to be on the device.
                    FlushMode::Async => synced = from,
                }
            }
            LastStop::Unknown => {
                log::erase_after(segments, end)?;
                log::write_again(segments, from, end)?;
            }
        }
        // Completes a retention round that was interrupted.
        let log_min = LogOffset(segments.first_offset().unwrap_or(0));
        self.derived.iter().try_for_each(|derived| derived.raise_min(log_min))?;
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
            synced,
            Recovery {
                clean,
                from: LogOffset(from),
                end: LogOffset(end),
                messages,
            },
        ))
    }
}
