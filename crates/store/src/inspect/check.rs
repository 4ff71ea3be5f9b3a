//! The check: one pass through the log, with queues and index beside it.

use super::index::Index;
use super::light::Light;
use super::log::{Hole, LogFile, LogFiles, Seen};
use super::queues::{Queues, list};
use super::report::{CompactionSummary, Findings, LogSummary, Part, Report, Severity};
use super::{InspectOptions, Judge, compaction, dump, timers};
use crate::checkpoint::Checkpoint;
use crate::disk::Disk;
use crate::error::StoreError;
use crate::foreign::Foreign;
use crate::log::begins_before;
use crate::open::CHECKPOINT_MARGIN_MS;
use message::record::Record;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Records between two reports of progress.
const RECORDS_A_REPORT: u64 = 65_536;

const IN_USE: &str = "a process has the directory open; what it is writing now is not checked";
const ABORTED: &str = "the last process did not shut down cleanly; the next start recovers";
const LENGTHS: &str = "log files of different lengths";
const UNFINISHED: &str = "empty log files whose creation was interrupted";
const GONE: &str = "log files missing between others";
const HOLE: &str = "parts of the log without a whole record, with whole records behind them";
const CUT: &str = "parts of the log without a whole record after an unclean stop: the next start truncates the log there, and the whole \
                   records behind are lost";
const TAIL: &str = "a torn end of the log";
const AHEAD: &str = "the checkpoint is ahead of the log's end";
const NO_CHECKPOINT: &str = "there is no checkpoint";
const FOREIGN: &str = "queues in a format that is not supported; a broker refuses to start";
const LEFT_OVER: &str = "files left by a write that was interrupted";

/// Progress of a check, in bytes of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes examined.
    pub done: u64,
    /// Bytes of all files.
    pub total: u64,
}

/// Checks a directory. `progress` is called now and then.
///
/// # Errors
/// `StoreError::Layout` if the directory is not a store. `StoreError::Io` if it cannot be read: then nothing can be said about it.
pub fn check(disk: &Arc<dyn Disk>, options: &InspectOptions, progress: &mut dyn FnMut(Progress)) -> Result<Report, StoreError> {
    let state = Directory::of(&**disk, options)?;
    let mut findings = Findings::default();
    state.tell(&**disk, options, &mut findings)?;
    let files = LogFiles::list(disk, &options.log_dir)?;
    tell_of_files(&files, &mut findings);
    let log_first = files.first();
    let queue_dir = options.root.join("consumequeue");
    let foreign = Foreign::find(&**disk, &options.root)?;
    for found in &foreign {
        findings.add(Severity::Damage, Part::Queues, FOREIGN, || found.to_string());
    }
    let in_rocksdb = foreign.contains(&Foreign::RocksDb);
    let mut queues = Queues::open(disk, &queue_dir, options.queue_file_bytes, log_first, &mut findings)?;
    let index_dir = options.root.join("index");
    let index = options
        .index
        .map(|numbers| Index::open(disk, &index_dir, numbers, log_first, state.in_use, &mut findings));
    let trusted = state.trusted(&files, &mut queues)?;
    let light = Light::open(&**disk, options, log_first, trusted, &mut findings)?;
    let mut walk = Walk {
        judge: Judge {
            trusted,
            index_trusted: state
                .checkpoint
                .and_then(|known| known.progress)
                .map_or(trusted, |derived| derived.indexed.0),
            holes: Vec::new(),
        },
        findings,
        queues: (!in_rocksdb).then_some(queues),
        index: index.transpose()?,
        light,
        pending: None,
        was_in_order: state.stopped_in_order,
        log: LogSummary {
            files: files.files.len(),
            bytes: files.bytes(),
            first_offset: log_first,
            end_offset: log_first,
            ..LogSummary::default()
        },
    };
    // Behind what queues and checkpoint know there may be remains of earlier stops, which nothing reads.
    let patience = (state.stopped_in_order || state.in_use).then_some(trusted);
    files.walk(log_first, options.check_crc, patience, &mut |seen| {
        walk.see(seen, progress)?;
        Ok(ControlFlow::Continue(()))
    })?;
    let compacted = compaction::check(&**disk, options, &mut walk.findings)?;
    walk.finish(disk, state, options, &files, compacted)
}

/// State of the directory.
#[derive(Debug)]
struct Directory {
    in_use: bool,
    stopped_in_order: bool,
    checkpoint: Option<Checkpoint>,
}

impl Directory {
    fn of(disk: &dyn Disk, options: &InspectOptions) -> Result<Self, StoreError> {
        let exists = |path: &std::path::Path| disk.exists(path).map_err(|e| StoreError::io("look for", path, e));
        if !exists(&options.log_dir)? {
            return Err(StoreError::Layout(format!(
                "{} is no store: there is no {}",
                options.root.display(),
                options.log_dir.display()
            )));
        }
        let lock = options.root.join("lock");
        let checkpoint = options.root.join("checkpoint");
        Ok(Self {
            in_use: disk.is_locked(&lock).map_err(|e| StoreError::io("look at", &lock, e))?,
            stopped_in_order: !exists(&options.root.join("abort"))?,
            checkpoint: Checkpoint::read(disk, &checkpoint).map_err(|e| StoreError::io("read", &checkpoint, e))?,
        })
    }

    fn tell(&self, disk: &dyn Disk, options: &InspectOptions, findings: &mut Findings) -> Result<(), StoreError> {
        let root = || options.root.display().to_string();
        match (self.in_use, self.stopped_in_order) {
            (true, _) => findings.add(Severity::Note, Part::Directory, IN_USE, root),
            (false, false) => findings.add(Severity::Note, Part::Directory, ABORTED, root),
            (false, true) => {}
        }
        if self.checkpoint.is_none() {
            findings.add(Severity::Note, Part::Checkpoint, NO_CHECKPOINT, root);
        }
        for dir in [
            &options.root,
            &options.log_dir,
            &options.root.join("index"),
            &options.root.join("config"),
        ] {
            for entry in list(disk, dir)?.iter().filter(|entry| entry.name.ends_with(".tmp")) {
                findings.add(Severity::Note, Part::Directory, LEFT_OVER, || {
                    dir.join(&entry.name).display().to_string()
                });
            }
        }
        Ok(())
    }

    /// Our checkpoint.
    fn exact(&self) -> Option<i64> {
        self.checkpoint.and_then(|known| known.dispatched()).map(|at| at.0)
    }

    /// Where the next start would begin to read the log.
    fn trusted(&self, files: &LogFiles, queues: &mut Queues) -> Result<i64, StoreError> {
        let exact = self.exact();
        if self.stopped_in_order && !self.in_use {
            return Ok(queues.log_end()?.max(exact.unwrap_or(0)));
        }
        if let Some(exact) = exact {
            return Ok(exact);
        }
        let safe = self.checkpoint.map_or(0, |known| known.safe_timestamp()) - CHECKPOINT_MARGIN_MS;
        for file in files.files.iter().rev() {
            if begins_before(&files.open(file)?, safe)? {
                return Ok(file.base);
            }
        }
        Ok(files.first())
    }
}

fn tell_of_files(files: &LogFiles, findings: &mut Findings) {
    let named = |file: &LogFile| format!("{} has {} bytes", file.path.display(), file.len);
    if let Some(first) = files.files.first() {
        for odd in files.files.iter().filter(|file| file.len != first.len) {
            findings.add(Severity::Damage, Part::Log, LENGTHS, || format!("{}, {}", named(first), named(odd)));
        }
    }
    for name in &files.unfinished {
        findings.add(Severity::Recovery, Part::Log, UNFINISHED, || name.clone());
    }
}

struct Walk {
    judge: Judge,
    findings: Findings,
    queues: Option<Queues>,
    index: Option<Index>,
    light: Light,
    /// A part without a record; it is not known yet whether records follow.
    pending: Option<Hole>,
    was_in_order: bool,
    log: LogSummary,
}

impl Walk {
    fn see(&mut self, seen: Seen<'_>, progress: &mut dyn FnMut(Progress)) -> Result<(), StoreError> {
        match seen {
            Seen::Record(record) => {
                self.record(record)?;
                if self.log.records.is_multiple_of(RECORDS_A_REPORT) {
                    progress(self.progress(self.log.end_offset));
                }
            }
            Seen::Hole(hole) => {
                self.pending.get_or_insert(hole);
            }
            Seen::Missing { from, to } => {
                self.findings
                    .add(Severity::Damage, Part::Log, GONE, || format!("nothing from {from:020} to {to:020}"));
                self.judge.add_hole(from, to);
            }
            Seen::FileDone(file) => progress(self.progress(file.end())),
        }
        Ok(())
    }

    fn progress(&self, at: i64) -> Progress {
        Progress {
            done: (at - self.log.first_offset).unsigned_abs().min(self.log.bytes),
            total: self.log.bytes,
        }
    }

    fn record(&mut self, record: &Record<'_>) -> Result<(), StoreError> {
        let at = record.log_offset.0;
        if let Some(hole) = self.pending.take() {
            let is_cut = !self.was_in_order && hole.from >= self.judge.trusted;
            let what = if is_cut { CUT } else { HOLE };
            self.findings.add(Severity::Damage, Part::Log, what, || told(&hole, at));
            self.judge.add_hole(hole.from, at);
        }
        if self.log.records == 0 {
            self.log.first_stored_ms = record.store_timestamp;
        }
        self.log.records += 1;
        self.log.last_stored_ms = record.store_timestamp;
        self.log.end_offset = at + record.size as i64;
        if let Some(queues) = &mut self.queues {
            queues.meet(record, &self.judge, &mut self.findings)?;
        }
        if let Some(index) = &mut self.index {
            index.meet(record, &self.judge, &mut self.findings)?;
        }
        self.light.meet(record);
        Ok(())
    }

    fn finish(
        mut self,
        disk: &Arc<dyn Disk>,
        state: Directory,
        options: &InspectOptions,
        files: &LogFiles,
        compaction: CompactionSummary,
    ) -> Result<Report, StoreError> {
        let end = self.log.end_offset;
        if let Some(hole) = self.pending.take().filter(|hole| hole.to > hole.from) {
            self.findings
                .add(self.judge.severity(hole.from), Part::Log, TAIL, || told(&hole, hole.to));
            self.judge.add_hole(hole.from, hole.to);
        }
        // The filler of its file may follow the last record.
        let begins_file = |at: i64| files.files.iter().any(|file| file.base == at || file.end() == at);
        let ahead = state.exact().unwrap_or(0);
        if ahead > end && !begins_file(ahead) {
            self.findings.add(Severity::Damage, Part::Checkpoint, AHEAD, || {
                format!("it names {ahead}, the log ends at {end}")
            });
        }
        let (queues, queue_ends) = match &mut self.queues {
            Some(queues) => queues.finish(end, &self.judge, &mut self.findings)?,
            None => Default::default(),
        };
        let index = match &mut self.index {
            Some(index) => index.finish(&self.judge, &mut self.findings)?,
            None => Default::default(),
        };
        let light = self.light.finish(&self.judge, &mut self.findings);
        let timers = timers::examine(disk, options, files, &self.judge, state.in_use, &mut self.findings)?;
        Ok(Report {
            root: options.root.clone(),
            in_use: state.in_use,
            stopped_in_order: state.stopped_in_order,
            trusted_offset: self.judge.trusted,
            log: self.log,
            queues,
            index,
            compaction,
            light,
            timers,
            checkpoint: state.checkpoint.map(|known| dump::told(&known)),
            findings: self.findings.finish(),
            queue_ends,
        })
    }
}

fn told(hole: &Hole, to: i64) -> String {
    format!("{} to {to} ({} bytes): {}", hole.from, to - hole.from, hole.reason())
}
