//! Index of the messages that wait for a time: which ones are due in each slot of a wheel.
//!
//! The messages themselves are in the log, as messages of the timer topic. A [`Unit`] says when one of them is due and where its record
//! begins. Units are appended to `timerlog/`, each with the position of the one before it in the same slot; `timerwheel` has the last
//! unit of each slot. `config/timercheck` says how far both are on the device, and up to where the timer topic's queue is in them.
//! All are Apache's formats, so a directory moves between its brokers and ours.
//!
//! Pure bookkeeping, owned by one thread: the caller reads the queue, adds units, takes the units of slots that are due, removes those
//! slots, and saves what [`TimerIndex::snapshot`] returns, on any thread.
//!
//! Invariants
//! - A saved wheel names only units that are on the device: the timer log is synced first, then the wheel, then the check is written.
//! - A slot is removed when its messages are delivered, and the check that says so is written after the log with the deliveries is
//!   synced (by the caller).
//! - Everything can be built again from the timer topic's queue. That happens when the files do not agree.
//!
//! Not here: what is due now, records, deliveries.

mod check;
mod inspect;
mod log;
mod tail;
mod unit;
mod wheel;

#[cfg(test)]
mod tests;

pub use check::TimerCheck;
use inspect::{IN_SNAPSHOTS, NO_WHEEL};
pub(crate) use inspect::{TimerFiles, Trouble};
pub use unit::{DELETES, ROLLS, Unit};

use crate::disk::{Allocate, Disk, DiskFile, OpenMode, if_exists};
use crate::error::StoreError;
use log::{Scan, TimerLog};
use message::LogOffset;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BinaryHeap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tail::Tail;
use wheel::{Slot, Wheel};

/// Slots in the file `timerwheel`: Apache's, two weeks of seconds.
const SLOTS_IN_FILE: u32 = 2 * 7 * 24 * 3_600;
/// Apache writes no unit that is due later than so many slots from now: what is further away waits in rounds.
pub const MAX_SLOTS_AHEAD: i64 = SLOTS_IN_FILE as i64 / 2 - 60;

/// Options of the index.
#[derive(Clone, Debug)]
pub struct TimerOptions {
    /// Root directory of the store.
    pub root: PathBuf,
    /// Width of a slot in ms (`timerPrecisionMs`).
    pub precision_ms: i64,
    /// Bytes of a file of the timer log (`mappedFileSizeTimerLog`).
    pub log_file_bytes: u64,
    /// Slots in the file `timerwheel`. [`TimerOptions::new`] has Apache's number; tests have fewer.
    pub slots_in_file: u32,
}

impl TimerOptions {
    /// With Apache's number of slots.
    #[must_use]
    pub fn new(root: &Path, precision_ms: i64, log_file_bytes: u64) -> Self {
        Self {
            root: root.to_owned(),
            precision_ms,
            log_file_bytes,
            slots_in_file: SLOTS_IN_FILE,
        }
    }
}

/// No broker is older, epoch ms: the year 2004.
const SINCE_MS: i64 = 1 << 40;

/// What [`TimerIndex::open`] found.
#[derive(Debug, Default)]
pub struct Found {
    /// The last saved check.
    pub check: TimerCheck,
    /// Log offsets of messages behind the check's queue offset that have their unit already.
    pub known: FxHashSet<i64>,
    /// The files were missing or did not agree and are empty now: all messages of the queue have to be added again that are not
    /// delivered by [`TimerCheck::read_time_ms`].
    pub begins_anew: bool,
}

/// A unit that was read, in the order in which messages are delivered: by due time, then by position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Waiting {
    /// When it is due, epoch ms.
    pub due_ms: i64,
    /// Position in the timer log.
    pub at: i64,
    /// Log offset of the message.
    pub log_offset: i64,
    /// Bytes of its record.
    pub size: i32,
    /// [`ROLLS`] and [`DELETES`].
    pub flags: i32,
    /// When it was added, epoch ms.
    pub written_ms: i64,
    /// Java's hash of the topic it is for.
    pub topic_hash: i32,
}

impl Waiting {
    fn new(unit: &Unit, at: i64, precision_ms: i64) -> Self {
        Self {
            due_ms: due_ms(unit.value_ms, precision_ms),
            at,
            log_offset: unit.log_offset,
            size: unit.size,
            flags: unit.flags,
            written_ms: unit.written_ms,
            topic_hash: unit.topic_hash,
        }
    }

    /// The unit: that of a whole slot is written as one that is due at its end.
    fn unit(&self, precision_ms: i64) -> Unit {
        Unit {
            value_ms: value_of(self.due_ms, precision_ms),
            flags: self.flags,
            written_ms: self.written_ms,
            log_offset: self.log_offset,
            size: self.size,
            topic_hash: self.topic_hash,
        }
    }

    /// Whether its message is written again when it is due.
    #[must_use]
    pub fn rolls(&self) -> bool {
        self.flags & ROLLS != 0
    }

    /// Whether its message recalls another one of its slot.
    #[must_use]
    pub fn recalls(&self) -> bool {
        self.flags & DELETES != 0 && !self.rolls()
    }
}

/// See the module.
#[derive(Debug)]
pub struct TimerIndex {
    disk: Arc<dyn Disk>,
    options: TimerOptions,
    log: TimerLog,
    wheel: Wheel,
    /// Units below this position are done, although slots may name them.
    begin: i64,
    /// Changes of the last saved check.
    changes: i64,
}

impl TimerIndex {
    /// Opens the files of a store, which need not exist. `is_sound` says whether the message of a unit is there: it is asked for units
    /// behind the last check, which a power cut may have damaged.
    ///
    /// # Errors
    /// [`StoreError::Io`] if files cannot be read or removed.
    pub fn open(disk: Arc<dyn Disk>, options: TimerOptions, is_sound: &dyn Fn(&Unit) -> bool) -> Result<(Self, Found), StoreError> {
        let check_path = options.root.join("config/timercheck");
        let check = TimerCheck::read(&*disk, &check_path).map_err(|e| StoreError::io("read", &check_path, e))?;
        let wheel_path = options.root.join("timerwheel");
        let log_dir = options.root.join("timerlog");
        let log = TimerLog::open(disk.clone(), log_dir, options.log_file_bytes, OpenMode::Write)?;
        let wheel = Wheel::read(&*disk, &wheel_path, options.precision_ms, options.slots_in_file)
            .map_err(|e| StoreError::io("read", &wheel_path, e))?;
        let snapshots = snapshots(&*disk, &options.root)?;
        let has_no_wheel = wheel.is_none();
        let mut index = Self {
            begin: check.begin,
            changes: check.changes,
            wheel: wheel.unwrap_or_else(|| Wheel::new(options.precision_ms, options.slots_in_file)),
            log: log.unwrap_or_else(|| TimerLog::new(disk.clone(), options.root.join("timerlog"), options.log_file_bytes)),
            disk,
            options,
        };
        let mut found = Found { check, ..Found::default() };
        let why = if snapshots.is_empty() {
            index.recover(&mut found, is_sound)?
        } else {
            Some(IN_SNAPSHOTS)
        };
        let why = why.or_else(|| (has_no_wheel && check.log_flushed > 0).then_some(NO_WHEEL));
        if let Some(why) = why {
            let had_files = !index.log.is_empty() || index.wheel.len() > 0 || !snapshots.is_empty();
            if had_files {
                tracing::warn!(why, "the index of timer messages is built again from their queue");
            }
            index.clear(&snapshots)?;
            found.known.clear();
            found.begins_anew = true;
        }
        Ok((index, found))
    }

    /// Takes over what is in the files. `Some` says why they cannot be used.
    fn recover(&mut self, found: &mut Found, is_sound: &dyn Fn(&Unit) -> bool) -> Result<Option<&'static str>, StoreError> {
        let check = found.check;
        if self.log.is_empty() && self.wheel.len() == 0 {
            let was_used = check.queue_offset > 0 || check.log_flushed > 0;
            return Ok(was_used.then_some("timerlog and timerwheel are missing"));
        }
        if check.log_flushed < self.log.begin() || check.log_flushed > self.log.capacity_end() {
            return Ok(Some("timercheck names a place outside timerlog"));
        }
        // Slots are numbered by the precision: with another one they are decades away.
        let plausible = check.read_time_ms / 2..=check.read_time_ms.saturating_mul(2).max(1);
        let is_other = |(time, _): (i64, Slot)| !plausible.contains(&(time * self.options.precision_ms));
        if check.read_time_ms > SINCE_MS && self.wheel.slots().any(is_other) {
            return Ok(Some("timerwheel was written with another timerPrecisionMs"));
        }
        let slot_from = check.read_time_ms.div_euclid(self.options.precision_ms);
        self.wheel.drop_before(slot_from);
        found.known = tail::revise(&mut self.wheel, &self.log, &check)?;
        let tail = Tail::read(&mut self.wheel, &self.log, &check, is_sound)?;
        let end = tail.end;
        found.known.extend(tail.known);
        self.log.end_at(end, check.log_flushed)?;
        let range = self.log.begin().max(self.begin)..end;
        if self.wheel.slots().any(|(_, slot)| slot.last >= range.end) {
            return Ok(Some("timerwheel names units behind the end of timerlog"));
        }
        self.wheel.drop_below(self.begin);
        if self.wheel.slots().any(|(_, slot)| slot.first.max(self.begin) < range.start) {
            return Ok(Some("a file of timerlog is missing"));
        }
        Ok(None)
    }

    /// Removes everything: all messages of the queue have to be added again. For an index that turns out to be damaged.
    ///
    /// # Errors
    /// [`StoreError::Io`] if files cannot be removed.
    pub fn begin_anew(&mut self) -> Result<(), StoreError> {
        let snapshots = snapshots(&*self.disk, &self.options.root)?;
        self.clear(&snapshots)
    }

    fn clear(&mut self, snapshots: &[PathBuf]) -> Result<(), StoreError> {
        self.log.clear()?;
        let wheel = self.options.root.join("timerwheel");
        for path in snapshots.iter().chain([&wheel]) {
            if_exists(self.disk.remove_file(path)).map_err(|e| StoreError::io("remove", path, e))?;
        }
        let root = &self.options.root;
        self.disk.sync_dir(root).map_err(|e| StoreError::io("sync", root, e))?;
        self.wheel = Wheel::new(self.options.precision_ms, self.options.slots_in_file);
        self.begin = 0;
        Ok(())
    }

    /// Width of a slot in ms.
    #[must_use]
    pub fn precision_ms(&self) -> i64 {
        self.options.precision_ms
    }

    /// When a unit with this value is due, epoch ms. Compat: Apache's brokers write values of whole slots, and mean the end of the slot;
    /// any other value means the millisecond after it.
    #[must_use]
    pub fn due_ms(&self, value_ms: i64) -> i64 {
        due_ms(value_ms, self.options.precision_ms)
    }

    /// Beginning of the slot of a value, epoch ms.
    #[must_use]
    pub fn slot_of(&self, value_ms: i64) -> i64 {
        slot_of(value_ms, self.options.precision_ms)
    }

    /// The time of its slot on the wheel.
    fn time_of(&self, value_ms: i64) -> i64 {
        value_ms.div_euclid(self.options.precision_ms)
    }

    /// Units below this position are done.
    fn lowest(&self) -> i64 {
        self.begin.max(self.log.begin())
    }

    /// Adds units, and appends what they are now to `added`.
    ///
    /// # Errors
    /// [`StoreError::Io`] or [`StoreError::DiskFull`] if the timer log cannot be written; none of them is added then.
    pub fn add(&mut self, units: &[Unit], added: &mut Vec<Waiting>) -> Result<(), StoreError> {
        let mut changed: FxHashMap<i64, Slot> = FxHashMap::default();
        let before = added.len();
        let mut run = self.log.begin_append();
        for unit in units {
            let time = self.time_of(unit.value_ms);
            let slot = changed.entry(time).or_insert_with(|| self.wheel.get(time).unwrap_or(Slot::EMPTY));
            let at = run.push(unit, slot.last);
            slot.push(at, unit.deletes());
            added.push(Waiting::new(unit, at, self.options.precision_ms));
        }
        if let Err(error) = self.log.append(run) {
            added.truncate(before);
            return Err(error);
        }
        for (time, slot) in changed {
            self.wheel.set(time, slot);
        }
        Ok(())
    }

    /// Beginning of the first slot that has units, epoch ms.
    #[must_use]
    pub fn first_slot(&self) -> Option<i64> {
        self.next_slot(None)
    }

    /// Beginning of the first slot with units behind the slot that begins at `behind_ms`, epoch ms.
    #[must_use]
    pub fn next_slot(&self, behind_ms: Option<i64>) -> Option<i64> {
        let precision_ms = self.options.precision_ms;
        let time = self.wheel.next(behind_ms.map(|slot_ms| slot_ms.div_euclid(precision_ms)));
        time.map(|time| time * precision_ms)
    }

    /// How many messages wait in the slot that begins at `slot_ms`. Recalls count against them.
    #[must_use]
    pub fn count_in(&self, slot_ms: i64) -> i64 {
        let slot = self.wheel.get(self.time_of(slot_ms));
        slot.map_or(0, |slot| slot.count.into())
    }

    /// Number of slots with units.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.wheel.len()
    }

    /// How many messages wait, about.
    #[must_use]
    pub fn count(&self) -> i64 {
        self.wheel.count()
    }

    /// Reads the units of the slot that begins at `slot_ms`, behind `after` (due time and position), the first `most` of them in order of
    /// due time. True if these are all that are left.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the timer log cannot be read; [`StoreError::Corrupt`] if the slot's chain leads to something that is no unit.
    pub fn read_slot(&self, slot_ms: i64, after: (i64, i64), most: usize, out: &mut Vec<Waiting>) -> Result<bool, StoreError> {
        let Some(slot) = self.wheel.get(self.time_of(slot_ms)) else {
            return Ok(true);
        };
        let mut least: BinaryHeap<Waiting> = BinaryHeap::new();
        let mut is_all = true;
        let lowest = self.lowest();
        let mut is_damaged = false;
        self.log.walk(slot.last, lowest, &mut |at, unit| {
            is_damaged |= self.slot_of(unit.value_ms) != slot_ms;
            let one = Waiting::new(&unit, at, self.options.precision_ms);
            if (one.due_ms, at) <= after {
                return;
            }
            if least.len() < most {
                least.push(one);
            } else {
                is_all = false;
                if least.peek().is_some_and(|largest| one < *largest) {
                    least.pop();
                    least.push(one);
                }
            }
        })?;
        if is_damaged {
            return Err(StoreError::Corrupt(format!(
                "the chain of slot {slot_ms} leads to units of another slot"
            )));
        }
        out.extend(least.into_sorted_vec());
        Ok(is_all)
    }

    /// Reads the units of a slot that recall messages.
    ///
    /// # Errors
    /// As [`Self::read_slot`].
    pub fn recalls_of(&self, slot_ms: i64, out: &mut Vec<Waiting>) -> Result<(), StoreError> {
        let Some(slot) = self.wheel.get(self.time_of(slot_ms)) else {
            return Ok(());
        };
        let lowest = self.lowest();
        self.log.walk(slot.last, lowest, &mut |at, unit| {
            if unit.deletes() && !unit.rolls() {
                out.push(Waiting::new(&unit, at, self.options.precision_ms));
            }
        })
    }

    /// Forgets the slot that begins at `slot_ms`: its messages are delivered.
    pub fn remove_slot(&mut self, slot_ms: i64) {
        self.wheel.remove(self.time_of(slot_ms));
    }

    /// Leaves only the units behind `after` (due time and position) in a slot: those before are delivered. They are written again, `most`
    /// at once, and behind them a unit of the message that was added last, in a slot where nothing waits. Compat: a start of Apache's
    /// broker reads the queue from the message of the last unit on.
    ///
    /// # Errors
    /// As [`Self::read_slot`] and [`Self::add`]; the slot is unchanged then.
    pub fn keep_only(&mut self, slot_ms: i64, after: (i64, i64), most: usize) -> Result<(), StoreError> {
        let time = self.time_of(slot_ms);
        let Some(before) = self.wheel.get(time) else { return Ok(()) };
        let outcome = self.log.last().and_then(|last| {
            self.copy_behind(slot_ms, after, most)?;
            last.map_or(Ok(()), |last| self.end_with(last, slot_ms))
        });
        if outcome.is_err() {
            self.wheel.set(time, before);
        }
        outcome
    }

    fn copy_behind(&mut self, slot_ms: i64, mut after: (i64, i64), most: usize) -> Result<(), StoreError> {
        let time = self.time_of(slot_ms);
        let Some(old) = self.wheel.get(time) else { return Ok(()) };
        let mut copy = Slot::EMPTY;
        loop {
            self.wheel.set(time, old);
            let mut left = Vec::new();
            let is_all = self.read_slot(slot_ms, after, most, &mut left)?;
            after = left.last().map_or(after, |one| (one.due_ms, one.at));
            self.wheel.remove(time);
            if copy.count != 0 || copy.last >= 0 {
                self.wheel.set(time, copy);
            }
            let units: Vec<Unit> = left.iter().map(|one| one.unit(self.options.precision_ms)).collect();
            self.add(&units, &mut Vec::with_capacity(units.len()))?;
            copy = self.wheel.get(time).unwrap_or(Slot::EMPTY);
            if is_all {
                return Ok(());
            }
        }
    }

    /// Adds a unit in a slot that was done a long time ago, when that of `slot_ms` is due.
    fn end_with(&mut self, last: Unit, slot_ms: i64) -> Result<(), StoreError> {
        let long_ago = i64::from(self.options.slots_in_file) / 2 * self.options.precision_ms;
        let value_ms = (slot_ms - long_ago).max(0);
        let written_ms = value_ms;
        let mut run = self.log.begin_append();
        run.push(
            &Unit {
                value_ms,
                written_ms,
                ..last
            },
            -1,
        );
        self.log.append(run)
    }

    /// Position and log offset of the oldest unit that waits: messages from there on are still needed. `None` if none waits.
    ///
    /// # Errors
    /// As [`Self::read_slot`].
    pub fn oldest(&self) -> Result<Option<(i64, LogOffset)>, StoreError> {
        let lowest = self.lowest();
        let Some(at) = self.wheel.slots().map(|(_, slot)| slot.first.max(lowest)).min() else {
            return Ok(None);
        };
        let mut oldest = None;
        self.log.scan_whole(at, &mut |at, _, unit| {
            oldest = Some((at, LogOffset(unit.log_offset)));
            Scan::Stop
        })?;
        Ok(oldest)
    }

    /// Reads units from the position `from` on, those that still wait and whose messages are below `below`, at most `most`. Returns the
    /// position to go on from, and whether a unit was reached whose message is not below.
    ///
    /// # Errors
    /// As [`Self::read_slot`].
    pub fn read_below(&self, from: i64, below: LogOffset, most: usize, out: &mut Vec<(i64, Unit)>) -> Result<(i64, bool), StoreError> {
        let mut reached = false;
        let next = self.log.scan_whole(from.max(self.begin), &mut |at, _, unit| {
            if unit.log_offset >= below.0 {
                reached = true;
                return Scan::Stop;
            }
            if out.len() == most {
                return Scan::Stop;
            }
            if self.wheel.get(self.time_of(unit.value_ms)).is_some_and(|slot| slot.holds(at)) {
                out.push((at, unit));
            }
            Scan::Next
        })?;
        Ok((next, reached || next >= self.log.end()))
    }

    /// Units below this position are done: their messages were written again.
    pub fn begin_at(&mut self, at: i64) {
        self.begin = self.begin.max(at);
        self.wheel.drop_below(self.begin);
    }

    /// Removes files of the timer log in which nothing waits.
    ///
    /// # Errors
    /// [`StoreError::Io`] if one cannot be removed; the next call tries again.
    pub fn remove_done_files(&mut self) -> Result<(), StoreError> {
        let lowest = self.wheel.slots().map(|(_, slot)| slot.first).min();
        let lowest = lowest.unwrap_or_else(|| self.log.end()).max(self.begin);
        self.log.remove_files_below(lowest)
    }

    /// Whether anything changed since the last snapshot, which wrote this check.
    #[must_use]
    pub fn has_changed(&self, last: &TimerCheck) -> bool {
        self.wheel.has_changed() || self.log.has_changed() || self.begin != last.begin
    }

    /// What has to be written so that the next start continues here. The queue is in the index up to `queue_offset`; slots before
    /// `read_time_ms` are done; deliveries that this does not show are in the log from `scan_from` on.
    pub fn snapshot(&mut self, read_time_ms: i64, queue_offset: i64, scan_from: LogOffset, now_ms: i64) -> Snapshot {
        self.changes += 1;
        Snapshot {
            disk: self.disk.clone(),
            root: self.options.root.clone(),
            wheel_len: Wheel::file_len(self.options.slots_in_file),
            files: self.log.take_unsynced(),
            slots: self.wheel.take_changed(),
            check: TimerCheck {
                read_time_ms,
                log_flushed: self.log.end(),
                queue_offset,
                changed_ms: now_ms,
                changes: self.changes,
                begin: self.begin,
                scan_from: Some(scan_from),
            },
        }
    }

    /// A snapshot could not be written: the next one has its changes, too.
    pub fn take_back(&mut self, snapshot: Snapshot) {
        self.wheel.put_back(snapshot.slots);
        self.log.put_back(snapshot.files);
    }
}

/// Beginning of the slot of a value, epoch ms.
#[must_use]
pub fn slot_of(value_ms: i64, precision_ms: i64) -> i64 {
    value_ms.div_euclid(precision_ms) * precision_ms
}

/// The value of a message that is due at this time: the millisecond before. Compat: Apache's brokers write the beginning of a slot of
/// `timerPrecisionMs`, and deliver at its end. So that the two can be told apart, a time right behind the beginning of a slot is moved by
/// 1 ms.
#[must_use]
pub fn value_of(due_ms: i64, precision_ms: i64) -> i64 {
    let value_ms = due_ms - 1;
    if precision_ms > 1 && value_ms % precision_ms == 0 {
        value_ms + 1
    } else {
        value_ms
    }
}

/// The other way round; see [`TimerIndex::due_ms`].
pub(crate) fn due_ms(value_ms: i64, precision_ms: i64) -> i64 {
    let step = if value_ms % precision_ms == 0 { precision_ms } else { 1 };
    value_ms.saturating_add(step)
}

/// Snapshots of the wheel, by Apache's brokers with `timerWheelSnapshotFlush`.
/// A slave takes over how far the timers of its master are done. An index that it has is removed: when it delivers timers itself, it builds one
/// from the queue, without those. The log must have the deliveries that the check counts as done, and must be synced. May block.
///
/// # Errors
/// [`StoreError`] if files cannot be read, removed, written or synced.
pub fn take_over(disk: &Arc<dyn Disk>, options: TimerOptions, check: TimerCheck) -> Result<(), StoreError> {
    let root = options.root.clone();
    TimerIndex::open(disk.clone(), options, &|_| true)?.0.begin_anew()?;
    let snapshot = Snapshot {
        disk: disk.clone(),
        root,
        wheel_len: 0,
        files: Vec::new(),
        slots: Vec::new(),
        check,
    };
    snapshot.write()
}

fn snapshots(disk: &dyn Disk, root: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let names = disk.list(root).map_err(|e| StoreError::io("list", root, e))?;
    let is_snapshot = |name: &str| name.strip_prefix("timerwheel.").is_some_and(|rest| rest.parse::<i64>().is_ok());
    let snapshots = names.iter().filter(|entry| is_snapshot(&entry.name));
    Ok(snapshots.map(|entry| root.join(&entry.name)).collect())
}

/// Changes of a [`TimerIndex`] that are to be written.
#[derive(Debug)]
pub struct Snapshot {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    wheel_len: u64,
    files: Vec<(i64, Arc<dyn DiskFile>)>,
    /// By index in the file.
    slots: Vec<(u32, [u8; wheel::SLOT_LEN])>,
    check: TimerCheck,
}

impl Snapshot {
    /// The check that it writes.
    #[must_use]
    pub fn check(&self) -> &TimerCheck {
        &self.check
    }

    /// Writes and syncs it. The log must be synced first, as far as messages are delivered. May block.
    ///
    /// # Errors
    /// [`StoreError::Io`] if something cannot be written or synced. What is on the disk is good for a start then, which repeats more.
    /// After a failed sync nothing may be saved any more until a restart: [`StoreError::Failed`].
    pub fn write(&self) -> Result<(), StoreError> {
        for (start, file) in &self.files {
            file.sync_data()
                .map_err(|e| StoreError::Failed(format!("cannot sync timerlog/{start:020}: {e}")))?;
        }
        if !self.slots.is_empty() {
            let path = self.root.join("timerwheel");
            let file = self.file(&path, self.wheel_len)?;
            wheel::write(&*file, &self.slots).map_err(|e| StoreError::io("write", &path, e))?;
            file.sync_data()
                .map_err(|e| StoreError::Failed(format!("cannot sync timerwheel: {e}")))?;
        }
        let path = self.root.join("config/timercheck");
        self.disk
            .create_dir_all(&self.root.join("config"))
            .map_err(|e| StoreError::io("create", &path, e))?;
        let file = self.file(&path, check::FILE_LEN as u64)?;
        file.write_at(&self.check.encode(), 0)
            .map_err(|e| StoreError::io("write", &path, e))?;
        file.sync_data()
            .map_err(|e| StoreError::Failed(format!("cannot sync timercheck: {e}")))
    }

    fn file(&self, path: &Path, len: u64) -> Result<Arc<dyn DiskFile>, StoreError> {
        let open = || match if_exists(self.disk.open(path, OpenMode::Write))? {
            Some(file) => Ok(file),
            None => self.disk.create(path, len, Allocate::Sparse),
        };
        open().map_err(|e: io::Error| StoreError::io("open", path, e))
    }
}
