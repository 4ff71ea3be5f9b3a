//! The thread that takes timer messages into the index and delivers those that are due.
//!
//! A round takes some messages of the timer topic's queue into the index, then some that are due out of it, and appends them in one
//! piece. It does not wait for the device: up to [`MAX_OPEN_BYTES`] of appends may be unconfirmed. When nothing is due it sleeps until the
//! earliest is.

use super::Shared;
use super::counts::Counts;
use super::early::Clearing;
use super::recovered::Recovered;
use super::saver::Saver;
use super::slot::{LoadedSlot, MOST, entry};
use super::stored::Stored;
use super::when::{Times, delivered_properties, rolled_properties};
use crate::clock::now_ms;
use crate::core::Core;
use crate::log_writer::WaitFor;
use crate::records;
use message::properties;
use message::record::{Draft, Placement};
use message::{LogOffset, QueueOffset, names};
use protocol::number::Integer;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::{Duration, Instant};
use store::queue::Entry;
use store::timer::{DELETES, MAX_SLOTS_AHEAD, ROLLS, TimerCheck, TimerIndex, TimerOptions, Unit, Waiting};
use store::{AppendError, ConsumeQueue, StoreError};

/// The longest sleep while messages wait: how soon a wall clock that was set is noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// A slot is read so long before it begins.
const READ_AHEAD_MS: i64 = 2_000;
/// Messages of one append at most, and about so many bytes: the log's append lock is held for no longer than for a send of as many bytes.
const BATCH_MESSAGES: usize = 512;
const BATCH_BYTES: usize = 256 << 10;
/// Messages that are taken into the index at once, and about so many bytes.
const ENQUEUE_MESSAGES: usize = 1_024;
const ENQUEUE_BYTES: i64 = 4 << 20;
/// Messages that arrive one by one are taken into the index this often.
const ENQUEUE_PAUSE: Duration = Duration::from_millis(5);
/// Bytes of appends that are not confirmed, above which the thread waits.
const MAX_OPEN_BYTES: i64 = 4 << 20;
/// How long to wait before something is tried again.
const AFTER_REFUSAL: Duration = Duration::from_millis(500);
/// The same when the log is busy.
const WHEN_BUSY: Duration = Duration::from_millis(20);
/// What was due so long ago is put into a slot of this age: the file has no room for older ones.
const OLDEST_SLOTS: i64 = MAX_SLOTS_AHEAD - 24 * 3_600;
/// A message was taken into the index so long after it was stored, at the latest. Only for an index that is built again: what was due later
/// than this before the last save is looked for in the log.
const LATE_MS: i64 = 10_000;
/// How far the log may grow until it is saved that timers have nothing to look for in it, and how often that is looked at.
const REFRESH_BYTES: i64 = 256 << 20;
const REFRESH_EVERY: Duration = Duration::from_secs(10);
/// What is due within this time is not delivered before the messages that wait on are in the index again.
const DUE_ABOUT_NOW_MS: i64 = 1_000;
/// How often files of the timer log are looked at that may be removed.
const REMOVE_EVERY: Duration = Duration::from_secs(30);
/// How often the same pause is logged.
const WARN_EVERY: Duration = Duration::from_secs(60);
/// How long appends may take at the end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a round was cut short; it is tried again after `pause`.
#[derive(Debug)]
pub(super) struct RetryLater {
    text: String,
    pause: Duration,
    /// The index is damaged.
    is_damaged: bool,
}

impl RetryLater {
    pub(super) fn reading(error: impl std::fmt::Display) -> Self {
        Self {
            text: format!("cannot read timer messages: {error}"),
            pause: AFTER_REFUSAL,
            is_damaged: false,
        }
    }

    /// The index says what cannot be.
    fn of_damage(what: &str) -> Self {
        Self {
            is_damaged: true,
            ..Self::reading(what)
        }
    }

    /// Reading the index failed.
    pub(super) fn of_index(error: &StoreError) -> Self {
        Self {
            is_damaged: matches!(error, StoreError::Corrupt(_)),
            ..Self::reading(error)
        }
    }

    fn writing(error: impl std::fmt::Display) -> Self {
        Self {
            text: format!("cannot write the index of timer messages: {error}"),
            pause: AFTER_REFUSAL,
            is_damaged: false,
        }
    }

    fn refused(error: &AppendError) -> Self {
        let is_busy = matches!(error, AppendError::Busy(_));
        Self {
            text: error.to_string(),
            pause: if is_busy { WHEN_BUSY } else { AFTER_REFUSAL },
            is_damaged: false,
        }
    }
}

/// Appends that ended, counted by the threads that confirm them.
#[derive(Debug, Default)]
struct Ended {
    confirmed: AtomicU64,
    /// One failed: neither its messages nor later ones are delivered.
    has_failed: AtomicBool,
    all: AtomicU64,
}

/// An append that is not confirmed.
#[derive(Clone, Copy, Debug)]
struct Open {
    bytes: i64,
    log_offset: i64,
}

/// A slot whose messages are all taken.
#[derive(Clone, Copy, Debug)]
struct Finishing {
    begin_ms: i64,
    last_append: u64,
    first_append: Option<i64>,
}

pub(super) struct Worker {
    pub(super) core: Core,
    pub(super) shared: Arc<Shared>,
    pub(super) index: TimerIndex,
    pub(super) recovered: Recovered,
    /// What is in `recovered` is in the log from here on, until it is not needed any more.
    recovered_from: Option<LogOffset>,
    started_ms: i64,
    pub(super) counts: Counts,
    saver: Saver,
    /// The next offset of the timer topic's queue.
    next: i64,
    /// Until the index has the queue up to here nothing is delivered.
    begin_at: i64,
    /// Log offsets of messages that are in the index already.
    known: FxHashSet<i64>,
    /// The index is built again: messages of slots before this were delivered.
    done_before_ms: Option<i64>,
    loaded: Option<LoadedSlot>,
    finishing: VecDeque<Finishing>,
    open: VecDeque<Open>,
    /// Number of appends, and how many are confirmed.
    pub(super) appended: u64,
    pub(super) confirmed: u64,
    ended: Arc<Ended>,
    pub(super) clearing: Option<Clearing>,
    /// What retention wants is done and not saved yet.
    pub(super) has_unsaved_need: bool,
    saved: TimerCheck,
    saved_at: Instant,
    refreshed_at: Instant,
    removed_at: Instant,
    /// The index is to be built again.
    is_damaged: bool,
    /// A sync failed: nothing is saved any more.
    cannot_save: bool,
    warned: Option<Instant>,
}

impl Worker {
    /// Opens the index of a store.
    ///
    /// # Errors
    /// Its files cannot be read.
    pub(super) fn open(core: &Core, shared: &Arc<Shared>) -> Result<Self, StoreError> {
        let settings = core.settings.current();
        let options = TimerOptions::new(
            &settings.store_path_root_dir,
            settings.timer_precision_ms,
            settings.mapped_file_size_timer_log,
        );
        let store = core.store.clone();
        let is_sound = |unit: &Unit| {
            let record = store.record_at(LogOffset(unit.log_offset));
            record.is_ok_and(|bytes| {
                let stored = Stored::parse(&bytes);
                stored.is_ok_and(|stored| stored.record.size as i64 == i64::from(unit.size) && stored.topic_hash() == unit.topic_hash)
            })
        };
        let (index, found) = TimerIndex::open(core.disk.clone(), options, &is_sound)?;
        let queue = core.store.find_queue(names::TIMER_TOPIC, 0);
        let (min, max) = queue.map_or((0, 0), |queue| (queue.min().0, queue.max().0));
        let saved = found.check.queue_offset;
        let next = if found.begins_anew { min } else { saved.clamp(min, max) };
        if next != saved && !found.begins_anew {
            tracing::warn!(
                saved,
                min,
                max,
                "the saved offset of timer messages is not in their queue: it is corrected"
            );
        }
        let mut counts = shared.counts.get();
        if index.slots() == 0 {
            counts.clear();
        }
        *shared.check.lock() = found.check;
        let saver = Saver::start(&core.store, shared).map_err(|error| StoreError::Failed(format!("cannot start a thread: {error}")))?;
        let now = Instant::now();
        Ok(Self {
            core: core.clone(),
            shared: shared.clone(),
            index,
            recovered: Recovered::default(),
            recovered_from: None,
            started_ms: now_ms(),
            counts,
            saver,
            next,
            begin_at: max,
            known: found.known,
            done_before_ms: found.begins_anew.then_some(found.check.read_time_ms),
            loaded: None,
            finishing: VecDeque::new(),
            open: VecDeque::new(),
            appended: 0,
            confirmed: 0,
            ended: Arc::default(),
            clearing: None,
            has_unsaved_need: false,
            saved: found.check,
            saved_at: now,
            refreshed_at: now,
            removed_at: now,
            is_damaged: false,
            cannot_save: false,
            warned: None,
        })
    }

    /// Until the end.
    pub(super) fn run(mut self) {
        while let Err(error) = self.find_delivered() {
            if matches!(error, StoreError::Corrupt(_)) {
                self.is_damaged = true;
                break;
            }
            self.warn_paused(&format!("cannot read the log: {error}"));
            self.shared.alarm.rest(AFTER_REFUSAL);
            if self.shared.alarm.is_stopped() {
                return;
            }
        }
        while !self.shared.alarm.is_stopped() {
            self.shared.alarm.begin_look();
            let now_ms = now_ms();
            match self.round(now_ms) {
                Ok(Round::Again) => {}
                Ok(Round::Rest(time)) => self.shared.alarm.rest(time),
                Ok(Round::Sleep(until_ms)) => {
                    let left = until_ms.map(|until_ms| Duration::from_millis((until_ms - now_ms).max(1) as u64).min(LONGEST_SLEEP));
                    self.shared.alarm.sleep(Some(1), left);
                }
                Err(retry) => {
                    self.warn_paused(&retry.text);
                    self.is_damaged |= retry.is_damaged;
                    self.shared.alarm.rest(retry.pause);
                }
            }
        }
        self.finish();
    }

    /// After a crash: what was delivered that the index does not know of. It stands behind the oldest message that may have been.
    fn find_delivered(&mut self) -> Result<(), StoreError> {
        if let Some(done_ms) = self.done_before_ms {
            return self.find_delivered_since(done_ms);
        }
        let store = &self.core.store;
        // Compat: Apache's brokers write no such place.
        let from = match self.saved.scan_from {
            Some(from) => from,
            None => store.log_file_at(self.saved.read_time_ms - LATE_MS)?,
        };
        let oldest = self.index.oldest()?.map(|(_, log_offset)| log_offset);
        let queued = store.log_offset_of(names::TIMER_TOPIC, 0, QueueOffset(self.next));
        let Some(first) = oldest.into_iter().chain(queued).min() else {
            return Ok(());
        };
        let from = from.max(first).max(store.log_range().0);
        self.recovered = Recovered::read(store, from)?;
        self.recovered_from = Some(from);
        Ok(())
    }

    /// The index is built again: of what is taken into it, nothing was delivered or written again before this time, epoch ms.
    fn find_delivered_since(&mut self, done_ms: i64) -> Result<(), StoreError> {
        let from = self.core.store.log_file_at(done_ms - 2 * LATE_MS)?;
        self.recovered = Recovered::read(&self.core.store, from)?;
        (self.recovered_from, self.started_ms) = (Some(from), now_ms());
        Ok(())
    }

    fn round(&mut self, now_ms: i64) -> Result<Round, RetryLater> {
        self.settle();
        if self.ended.has_failed.load(SeqCst) {
            return self.begin_again();
        }
        if self.is_damaged {
            return self.build_again();
        }
        let settings = self.core.settings.current();
        let enqueued = match settings.timer_stop_enqueue {
            true => Enqueued::Waits,
            false => self.enqueue(now_ms)?,
        };
        let is_ready = self.next >= self.begin_at || enqueued == Enqueued::Waits;
        let enqueued = enqueued == Enqueued::Some;
        let mut is_active = false;
        let mut until_ms = None;
        if is_ready {
            is_active |= self.clear_early(now_ms)?;
            if self.open.iter().map(|open| open.bytes).sum::<i64>() >= MAX_OPEN_BYTES {
                self.save_if_due(now_ms);
                return Ok(if enqueued { Round::Again } else { Round::Rest(LONGEST_SLEEP) });
            }
            if !settings.timer_stop_dequeue {
                match self.fire(now_ms)? {
                    Fired::Some => is_active = true,
                    Fired::None(next_ms) => until_ms = next_ms,
                }
            }
        }
        let saves_in = self.save_if_due(now_ms);
        if is_active || (enqueued && self.behind() > 0) {
            return Ok(Round::Again);
        }
        if let Some(time) = saves_in {
            let saves_ms = now_ms + time.as_millis() as i64;
            until_ms = Some(until_ms.map_or(saves_ms, |until_ms: i64| until_ms.min(saves_ms)));
        }
        if enqueued {
            let left = until_ms.map_or(ENQUEUE_PAUSE, |until_ms| Duration::from_millis((until_ms - now_ms).max(0) as u64));
            return Ok(Round::Rest(left.min(ENQUEUE_PAUSE)));
        }
        Ok(Round::Sleep(until_ms))
    }

    /// Takes note of appends that were confirmed.
    fn settle(&mut self) {
        let confirmed = self.ended.confirmed.load(SeqCst);
        while self.confirmed < confirmed {
            self.open.pop_front();
            self.confirmed += 1;
        }
        while let Some(slot) = self.finishing.front().filter(|slot| slot.last_append <= self.confirmed) {
            self.index.remove_slot(slot.begin_ms);
            self.shared.crowded.lock().remove(&slot.begin_ms);
            self.finishing.pop_front();
        }
        while let Some((snapshot, outcome)) = self.saver.saved() {
            match outcome {
                Ok(()) => self.note_saved(*snapshot.check()),
                Err(error) => {
                    self.cannot_save |= matches!(error, StoreError::Failed(_));
                    self.index.take_back(snapshot);
                    self.warn_paused(&format!("the index of timer messages cannot be saved: {error}"));
                }
            }
        }
        let first = self.index.first_slot().unwrap_or(i64::MAX);
        if self.next >= self.begin_at && first > self.started_ms {
            self.recovered_from = None;
        }
        self.shared.first_slot_ms.store(first, Relaxed);
        self.shared.behind.store(self.behind(), Relaxed);
        self.shared.waiting.store(self.index.count().max(0), Relaxed);
    }

    fn note_saved(&mut self, check: TimerCheck) {
        self.saved = check;
        *self.shared.check.lock() = check;
        if self.has_unsaved_need {
            self.has_unsaved_need = false;
            match self.needed_from() {
                Ok(needed) => {
                    self.shared.needed.fetch_max(needed.0, Relaxed);
                }
                Err(error) => tracing::warn!(%error, "it is not known which old messages timers need; log files are not deleted"),
            }
        }
        if self.removed_at.elapsed() >= REMOVE_EVERY {
            self.removed_at = Instant::now();
            if let Err(error) = self.index.remove_done_files() {
                tracing::warn!(%error, "a file of timer messages cannot be removed");
            }
        }
    }

    /// Messages from this log offset on are needed.
    fn needed_from(&self) -> Result<LogOffset, StoreError> {
        let store = &self.core.store;
        let oldest = self.index.oldest()?.map(|(_, log_offset)| log_offset);
        let queued = store.log_offset_of(names::TIMER_TOPIC, 0, QueueOffset(self.next));
        let wanted = LogOffset(self.shared.wanted.load(Relaxed));
        Ok(oldest.into_iter().chain(queued).fold(wanted, LogOffset::min))
    }

    fn behind(&self) -> i64 {
        self.core.store.max_offset(names::TIMER_TOPIC, 0).0 - self.next
    }

    /// An append failed. Every message whose delivery was not confirmed is delivered again.
    fn begin_again(&mut self) -> Result<Round, RetryLater> {
        if self.ended.all.load(SeqCst) < self.appended {
            return Ok(Round::Rest(LONGEST_SLEEP));
        }
        let loaded = self.loaded.as_ref().and_then(|slot| slot.first_append);
        let first = self.finishing.iter().filter_map(|slot| slot.first_append).chain(loaded).min();
        if let Some(first) = first {
            let from = LogOffset(first).max(self.core.store.log_range().0);
            self.recovered = Recovered::read(&self.core.store, from).map_err(RetryLater::reading)?;
            (self.recovered_from, self.started_ms) = (Some(from), now_ms());
        }
        self.forget_appends();
        Err(RetryLater {
            text: "an append of due messages failed".to_owned(),
            pause: AFTER_REFUSAL,
            is_damaged: false,
        })
    }

    fn forget_appends(&mut self) {
        self.open.clear();
        self.finishing.clear();
        (self.loaded, self.clearing) = (None, None);
        self.ended = Arc::default();
        (self.appended, self.confirmed) = (0, 0);
    }

    /// The index does not lead to its units: it is built again from the queue. What was delivered since the last save is found in the log.
    fn build_again(&mut self) -> Result<Round, RetryLater> {
        if self.ended.all.load(SeqCst) < self.appended || self.saver.is_busy() {
            return Ok(Round::Rest(LONGEST_SLEEP));
        }
        let done_ms = self.saved.read_time_ms;
        self.find_delivered_since(done_ms).map_err(RetryLater::reading)?;
        self.index.begin_anew().map_err(RetryLater::writing)?;
        self.forget_appends();
        let queue = self.core.store.find_queue(names::TIMER_TOPIC, 0);
        (self.next, self.begin_at) = queue.map_or((0, 0), |queue| (queue.min().0, queue.max().0));
        self.known = FxHashSet::default();
        self.done_before_ms = Some(done_ms);
        self.counts.clear();
        self.is_damaged = false;
        tracing::warn!("the index of timer messages was damaged: it is built again from their queue");
        Ok(Round::Again)
    }

    /// Takes messages of the queue into the index.
    fn enqueue(&mut self, now_ms: i64) -> Result<Enqueued, RetryLater> {
        let Some(queue) = self.core.store.find_queue(names::TIMER_TOPIC, 0) else {
            return Ok(Enqueued::None);
        };
        let (min, max) = (queue.min().0, queue.max().0);
        if self.next < min {
            tracing::error!(
                from = self.next,
                to = min,
                "timer messages were deleted from the log before they were read"
            );
        }
        self.next = self.next.clamp(min, max);
        let precision_ms = self.index.precision_ms();
        let now_slot_ms = self.index.slot_of(now_ms);
        // The wheel's file has no room for both, and a slot that is being finished takes no more.
        let waits = self
            .index
            .first_slot()
            .is_some_and(|first| first < now_ms - MAX_SLOTS_AHEAD * precision_ms)
            || self.finishing.iter().any(|slot| slot.begin_ms >= now_slot_ms);
        if self.next >= max || waits {
            return Ok(if waits { Enqueued::Waits } else { Enqueued::None });
        }
        let mut entries: Vec<Entry> = Vec::with_capacity(ENQUEUE_MESSAGES);
        queue
            .read(QueueOffset(self.next), ENQUEUE_MESSAGES, &mut entries)
            .map_err(RetryLater::reading)?;
        let mut bytes = 0;
        let fits = entries.iter().take_while(|entry| {
            let fits = bytes < ENQUEUE_BYTES;
            bytes += if entry.is_blank() { 0 } else { i64::from(entry.size) };
            fits
        });
        let count = fits.count();
        entries.truncate(count);
        let entries: Vec<((), Entry)> = entries.into_iter().map(|entry| ((), entry)).collect();
        let records = records::read(&self.core.store, &entries, "timer").map_err(RetryLater::reading)?;
        let mut messages: Vec<(Stored<'_>, Unit)> = Vec::with_capacity(records.len());
        for ((), bytes) in &records {
            match Stored::parse(bytes) {
                Ok(stored) => messages.extend(self.unit_of(&stored, now_ms).map(|unit| (stored, unit))),
                Err(why) => tracing::error!(why, "a timer message cannot be read: it is not delivered"),
            }
        }
        let units: Vec<Unit> = messages.iter().map(|(_, unit)| *unit).collect();
        let mut added = Vec::with_capacity(units.len());
        self.make_room_in_front(&units)?;
        self.index.add(&units, &mut added).map_err(RetryLater::writing)?;
        for (one, (stored, unit)) in added.iter().zip(&messages) {
            let slot_ms = self.index.slot_of(unit.value_ms);
            if let Some(loaded) = self.loaded.as_mut().filter(|loaded| loaded.begin_ms == slot_ms) {
                loaded.add(*one, stored);
            }
            if !unit.deletes() {
                self.counts.add(stored.topic, 1, now_ms);
            }
        }
        self.note_crowds(&units);
        self.next += count as i64;
        if self.next >= self.begin_at {
            self.known = FxHashSet::default();
            self.done_before_ms = None;
        }
        self.shared.enqueued.fetch_add(added.len() as i64, Relaxed);
        Ok(Enqueued::Some)
    }

    /// Where a message waits; `None` if it does not have to.
    fn unit_of(&mut self, stored: &Stored<'_>, now_ms: i64) -> Option<Unit> {
        let record = &stored.record;
        if self.known.contains(&record.log_offset.0) {
            return None;
        }
        if let Some(done_ms) = self.done_before_ms {
            // As it was when it was stored; it may have been taken into the index a little later.
            let (value_ms, _) = self.place(stored.value_ms, record.store_timestamp);
            let is_done = self.index.slot_of(value_ms.max(record.store_timestamp) + LATE_MS) < done_ms;
            let is_found = |found: &mut Recovered, rolls| found.take(stored, rolls).is_some();
            if is_done || is_found(&mut self.recovered, Some(stored.rolls)) || is_found(&mut self.recovered, None) {
                return None;
            }
        }
        let (mut value_ms, flags) = self.place(stored.value_ms, now_ms);
        let precision_ms = self.index.precision_ms();
        let is_late = value_ms < now_ms && flags & ROLLS == 0;
        if is_late && stored.recalls.is_some() && self.next >= self.begin_at {
            tracing::debug!(topic = stored.topic, "a recall comes too late");
            return None;
        }
        // At a start everything is sorted by its time; later what is overdue is due in the present slot.
        let lowest = match self.next < self.begin_at {
            true => self.index.slot_of(now_ms) - OLDEST_SLOTS * precision_ms,
            false => self.index.slot_of(now_ms),
        };
        value_ms = value_ms.max(lowest);
        // Within a slot messages are taken in order: one that comes late is due right after the last that was taken.
        let taken = self.loaded.as_ref().filter(|slot| slot.begin_ms == self.index.slot_of(value_ms));
        if let Some((taken_ms, _)) = taken.and_then(|slot| slot.taken) {
            value_ms = value_ms.max(taken_ms);
        }
        if value_ms > stored.value_ms && value_ms % precision_ms == 0 && flags & ROLLS == 0 {
            value_ms += 1;
        }
        Some(Unit {
            value_ms,
            flags: flags | if stored.recalls.is_some() { DELETES } else { 0 },
            written_ms: now_ms,
            log_offset: record.log_offset.0,
            size: record.size as i32,
            topic_hash: stored.topic_hash(),
        })
    }

    /// The value of the unit of a message that is stored with `value_ms`, and its flags. Compat: what is further away than the window waits
    /// for its end, or for half of it if little is left then.
    fn place(&self, value_ms: i64, now_ms: i64) -> (i64, i32) {
        let slots = self.core.settings.current().timer_roll_window_slots.min(MAX_SLOTS_AHEAD as u32);
        let window_ms = i64::from(slots) * self.index.precision_ms();
        let left_ms = value_ms - now_ms;
        if left_ms < window_ms {
            (value_ms, 0)
        } else if left_ms - window_ms < window_ms / 3 {
            (now_ms + window_ms / 2, ROLLS)
        } else {
            (now_ms + window_ms, ROLLS)
        }
    }

    /// Puts the slot that is being delivered back if one of these comes before it: the clock was set back, or it was read ahead.
    fn make_room_in_front(&mut self, units: &[Unit]) -> Result<(), RetryLater> {
        let first = units.iter().map(|unit| self.index.slot_of(unit.value_ms)).min();
        if let (Some(first), Some(loaded)) = (first, &self.loaded)
            && first < loaded.begin_ms
        {
            if self.confirmed < self.appended {
                return Err(RetryLater {
                    text: "the clock was set back while messages were delivered".to_owned(),
                    pause: WHEN_BUSY,
                    is_damaged: false,
                });
            }
            self.put_back_loaded()?;
        }
        Ok(())
    }

    /// Leaves of the slot that is being delivered what is not delivered. All appends must be confirmed.
    fn put_back_loaded(&mut self) -> Result<(), RetryLater> {
        let Some(loaded) = &self.loaded else { return Ok(()) };
        if let Some(taken) = loaded.taken {
            self.index.keep_only(loaded.begin_ms, taken, MOST).map_err(RetryLater::writing)?;
        }
        self.loaded = None;
        Ok(())
    }

    fn note_crowds(&self, units: &[Unit]) {
        let most = self.core.settings.current().timer_congest_num_each_slot;
        if most == i32::MAX as u32 {
            return;
        }
        let slots: FxHashSet<i64> = units.iter().map(|unit| self.index.slot_of(unit.value_ms)).collect();
        let crowded = slots.into_iter().filter(|slot| self.index.count_in(*slot) >= i64::from(most));
        self.shared.crowded.lock().extend(crowded);
    }

    pub(super) fn is_being_delivered(&self, slot_ms: i64) -> bool {
        self.loaded.as_ref().is_some_and(|slot| slot.begin_ms == slot_ms) || self.finishing.iter().any(|slot| slot.begin_ms == slot_ms)
    }

    /// Delivers some that are due.
    fn fire(&mut self, now_ms: i64) -> Result<Fired, RetryLater> {
        if self.loaded.is_none() {
            let behind = self.finishing.back().map(|slot| slot.begin_ms);
            let Some(begin_ms) = self.index.next_slot(behind) else {
                return Ok(Fired::None(None));
            };
            if begin_ms - READ_AHEAD_MS > now_ms {
                return Ok(Fired::None(Some(begin_ms - READ_AHEAD_MS)));
            }
            let slot = LoadedSlot::read(&self.index, &self.core.store, begin_ms).map_err(|error| RetryLater::of_index(&error))?;
            self.loaded = Some(slot);
        }
        let precision_ms = self.index.precision_ms();
        let Some(loaded) = self.loaded.as_mut() else {
            return Ok(Fired::None(None));
        };
        match loaded.next_due_ms(&self.index).map_err(|error| RetryLater::of_index(&error))? {
            Some(due_ms) if due_ms > now_ms => return Ok(Fired::None(Some(due_ms))),
            Some(_) => {}
            None if loaded.begin_ms + precision_ms > now_ms => return Ok(Fired::None(Some(loaded.begin_ms + precision_ms))),
            None => {
                self.finishing.push_back(Finishing {
                    begin_ms: loaded.begin_ms,
                    last_append: self.appended,
                    first_append: loaded.first_append,
                });
                self.loaded = None;
                return Ok(Fired::Some);
            }
        }
        // Half of what one append takes: the name of a message's own topic may be longer than that of the timer topic.
        let most_bytes = BATCH_BYTES.min(self.core.store.max_append_bytes() / 2);
        let taken = loaded.take_due(now_ms, BATCH_MESSAGES, most_bytes);
        let last = taken.last().map(|one| (one.due_ms, one.at));
        let count = taken.len() as i64;
        if let Err(retry) = self.deliver(&taken, now_ms) {
            if let Some(loaded) = &mut self.loaded {
                loaded.put_back(taken);
            }
            return Err(retry);
        }
        if let Some(loaded) = &mut self.loaded {
            loaded.taken = last;
        }
        self.shared.dequeued.fetch_add(count, Relaxed);
        Ok(Fired::Some)
    }

    fn deliver(&mut self, taken: &[Waiting], now_ms: i64) -> Result<(), RetryLater> {
        let messages = taken.iter().filter(|one| !one.recalls());
        let entries: Vec<(&Waiting, Entry)> = messages.map(|one| (one, entry(one.log_offset, one.size))).collect();
        let records = records::read(&self.core.store, &entries, "timer").map_err(RetryLater::reading)?;
        let begin = self.core.store.log_range().0.0;
        let is_there = entries.iter().filter(|(one, _)| one.log_offset >= begin).count();
        if records.len() < is_there {
            return Err(RetryLater::of_damage("units name messages that are not in the log"));
        }
        let mut due: Vec<Due<'_>> = Vec::with_capacity(records.len());
        let mut gone: FxHashMap<&str, i64> = FxHashMap::default();
        // What is found as delivered stays so if this append is refused.
        let mut found = Vec::new();
        for (one, bytes) in &records {
            let stored = match Stored::parse(bytes) {
                Ok(stored) => stored,
                // What cannot be read is left out when the index is built again.
                Err(why) => return Err(RetryLater::of_damage(&why)),
            };
            if !one.rolls() && self.index.due_ms(stored.value_ms) > now_ms {
                return Err(RetryLater::of_damage("a unit is due before its message"));
            }
            *gone.entry(stored.topic).or_default() += i64::from(stored.recalls.is_none());
            let is_recalled = !one.rolls() && self.loaded.as_ref().is_some_and(|slot| slot.is_recalled(&stored));
            let rolls = one.rolls().then_some(stored.rolls);
            if is_recalled {
                continue;
            }
            if let Some(delivered) = self.recovered.take(&stored, rolls) {
                found.push(delivered);
                continue;
            }
            due.push(Due::new(stored, one, now_ms));
        }
        let drafts: Vec<Draft<'_>> = due.iter().map(Due::draft).collect();
        if !drafts.is_empty() {
            let first = match self.append(&drafts, now_ms, false) {
                Ok(first) => first,
                Err(retry) => {
                    self.recovered.give_back(&found);
                    return Err(retry);
                }
            };
            if let Some(loaded) = &mut self.loaded {
                loaded.first_append.get_or_insert(first);
            }
            self.count_delivered(&due, &drafts);
        }
        for (topic, messages) in gone {
            self.counts.add(topic, -messages, now_ms);
        }
        Ok(())
    }

    fn count_delivered(&self, due: &[Due<'_>], drafts: &[Draft<'_>]) {
        for (due, draft) in due.iter().zip(drafts).filter(|(due, _)| !due.rolls) {
            let bytes = draft.encoded_len() as i64;
            match self.core.topics.find(due.stored.topic) {
                Some(topic) => topic.counters.stored(1, bytes, 1),
                None => self.core.stats.topic(due.stored.topic).stored(1, bytes, 1),
            }
        }
    }

    /// Appends messages; the log offset of the first. One that is too large is left out, alone.
    pub(super) fn append(&mut self, drafts: &[Draft<'_>], now_ms: i64, to_make_room: bool) -> Result<i64, RetryLater> {
        let log = &self.core.log;
        let queues: Vec<Arc<ConsumeQueue>> = drafts.iter().map(|draft| log.queue(draft.topic, draft.queue_id)).collect();
        let mut placements = Vec::with_capacity(drafts.len());
        let appended = match to_make_room {
            true => log.append_to_make_room(drafts, &queues, now_ms, &mut placements),
            false => log.append(drafts, &queues, now_ms, &mut placements),
        };
        let ticket = match appended {
            Ok(ticket) => ticket,
            Err(AppendError::TooLarge { size, max }) if drafts.len() == 1 => {
                tracing::error!(
                    topic = drafts[0].topic,
                    size,
                    max,
                    "a timer message with its topic's name is larger than an append may be: it is not delivered"
                );
                return Ok(self.core.store.log_range().1.0);
            }
            Err(error) => return Err(RetryLater::refused(&error)),
        };
        let log_offset = placements.first().map_or(0, |placed| placed.log_offset.0);
        self.appended += 1;
        self.open.push_back(Open {
            bytes: drafts.iter().map(|draft| draft.encoded_len() as i64).sum(),
            log_offset,
        });
        // A message's own topic was created when it was sent.
        let wait = WaitFor {
            flush: true,
            topics: false,
        };
        let (ended, shared) = (self.ended.clone(), self.shared.clone());
        log.complete_then(ticket, wait, move |outcome| {
            match outcome {
                Ok(()) => ended.confirmed.fetch_add(1, SeqCst),
                Err(_) => u64::from(ended.has_failed.swap(true, SeqCst)),
            };
            ended.all.fetch_add(1, SeqCst);
            shared.alarm.call();
        });
        self.hold_for_rolled(drafts, &placements, now_ms);
        Ok(log_offset)
    }

    /// Nothing more is delivered until a message that waits on, and is due about now, is in the index again: it may recall another one, and
    /// both were to be written again while the broker was down.
    fn hold_for_rolled(&mut self, drafts: &[Draft<'_>], placements: &[Placement], now_ms: i64) {
        let is_due = |draft: &Draft<'_>| {
            let value = properties::find(draft.properties, properties::TIMER_OUT_MS).and_then(i64::parse);
            draft.topic == names::TIMER_TOPIC && value.is_some_and(|value_ms| value_ms < now_ms + DUE_ABOUT_NOW_MS)
        };
        let mut due = drafts.iter().zip(placements).filter(|(draft, _)| is_due(draft));
        if let Some((_, last)) = due.next_back() {
            self.begin_at = self.begin_at.max(last.queue_offset.0 + 1);
        }
    }

    /// Saves what changed, if it is time. Returns when that is, if there is something to be saved.
    fn save_if_due(&mut self, now_ms: i64) -> Option<Duration> {
        if self.saver.is_busy() || self.cannot_save || self.next < self.begin_at {
            return None;
        }
        let mut is_changed = self.index.has_changed(&self.saved) || self.next != self.saved.queue_offset || self.has_unsaved_need;
        if !is_changed && self.refreshed_at.elapsed() >= REFRESH_EVERY {
            self.refreshed_at = Instant::now();
            let end = self.core.store.log_range().1.0;
            let is_used = self.index.slots() > 0 || self.next > 0;
            is_changed = is_used && end - self.saved.scan_from.unwrap_or_default().0 >= REFRESH_BYTES;
        }
        if !is_changed {
            return (self.index.slots() > 0).then_some(REFRESH_EVERY);
        }
        let interval = self.core.settings.current().timer_flush_interval;
        let left = interval.saturating_sub(self.saved_at.elapsed());
        if !left.is_zero() {
            return Some(left);
        }
        self.saved_at = Instant::now();
        let snapshot = self.snapshot(now_ms);
        self.saver.save(snapshot);
        None
    }

    fn snapshot(&mut self, now_ms: i64) -> store::timer::Snapshot {
        let now_slot_ms = self.index.slot_of(now_ms);
        let read_time_ms = self.index.first_slot().map_or(now_slot_ms, |first| first.min(now_slot_ms));
        let end = self.core.store.log_range().1;
        let scan_from = self.open.front().map_or(end, |open| LogOffset(open.log_offset).min(end));
        // Deliveries of a slot that is not done are not in what is saved.
        let loaded = self.loaded.as_ref().and_then(|slot| slot.first_append);
        let unsaved = self.recovered_from.map(|from| from.0).into_iter();
        let unsaved = unsaved
            .chain(self.finishing.iter().filter_map(|slot| slot.first_append))
            .chain(loaded)
            .min();
        let scan_from = unsaved.map_or(scan_from, |first| scan_from.min(LogOffset(first)));
        self.shared.counts.set(&self.counts);
        self.index.snapshot(read_time_ms, self.next, scan_from, now_ms)
    }

    /// At the end: what is delivered is saved, so that the next start delivers nothing twice.
    fn finish(mut self) {
        let begun = Instant::now();
        while self.ended.all.load(SeqCst) < self.appended && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.settle();
        if let Some((snapshot, outcome)) = self.saver.finish()
            && outcome.is_err()
        {
            self.cannot_save |= matches!(outcome, Err(StoreError::Failed(_)));
            self.index.take_back(snapshot);
        }
        if self.confirmed == self.appended
            && let Err(retry) = self.put_back_loaded()
        {
            tracing::error!(
                text = retry.text,
                "timer messages that are due now may be delivered twice after the next start"
            );
        }
        let is_changed = self.index.has_changed(&self.saved) || self.next != self.saved.queue_offset;
        // While the queue is read after a start, units that the last save does not know of would be added twice.
        let is_reading = self.next < self.begin_at;
        if self.cannot_save || is_reading || !(is_changed || self.index.slots() > 0) {
            return;
        }
        let snapshot = self.snapshot(now_ms());
        if let Err(error) = self.saver.save_now(&snapshot) {
            tracing::error!(%error, "the index of timer messages was not saved at the end: the next start looks for what was delivered");
        }
    }

    /// Logs that something waits, once a minute while the reason lasts.
    fn warn_paused(&mut self, text: &str) {
        if self.warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
            tracing::error!(text, "timer messages wait until it works again; none is lost");
            self.warned = Some(Instant::now());
        }
    }
}

/// What taking messages into the index came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Enqueued {
    /// There may be more.
    Some,
    /// There are none.
    None,
    /// What is due has to be delivered first.
    Waits,
}

/// What a round came to.
enum Round {
    /// There may be more to do.
    Again,
    /// Nothing can be done for so long, whatever arrives.
    Rest(Duration),
    /// Nothing is to be done until then, epoch ms, or until a message arrives.
    Sleep(Option<i64>),
}

/// What delivering came to.
enum Fired {
    /// There may be more to do.
    Some,
    /// Nothing is due until then, epoch ms; `None`: nothing waits.
    None(Option<i64>),
}

/// A message that is due.
struct Due<'r> {
    stored: Stored<'r>,
    rolls: bool,
    properties: Vec<u8>,
}

impl<'r> Due<'r> {
    fn new(stored: Stored<'r>, one: &Waiting, now_ms: i64) -> Self {
        let times = Times {
            enqueued_ms: one.written_ms,
            dequeued_ms: now_ms,
        };
        let own = stored.record.properties;
        let properties = match one.rolls() {
            true => rolled_properties(own, stored.rolls + 1, times),
            false => delivered_properties(own, times),
        };
        Self {
            rolls: one.rolls(),
            properties,
            stored,
        }
    }

    fn draft(&self) -> Draft<'_> {
        let (topic, queue_id) = match self.rolls {
            true => (names::TIMER_TOPIC, 0),
            false => (self.stored.topic, self.stored.queue_id),
        };
        Draft {
            topic,
            queue_id,
            properties: &self.properties,
            ..Draft::of(&self.stored.record)
        }
    }
}
