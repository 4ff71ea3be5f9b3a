//! The thread that takes timer messages into the index and delivers those that are due.
//!
//! A round takes some messages of the timer topic's queue into the index, then some that are due out of it, and appends them in one
//! piece. It does not wait for the device: up to [`MAX_OPEN_BYTES`] of appends may be unconfirmed. When nothing is due it sleeps until the
//! earliest is.

mod delivery;
mod intake;
mod saving;

use super::counts::Counts;
use super::early::Clearing;
use super::recovered::Recovered;
use super::saver::Saver;
use super::slot::LoadedSlot;
use super::stored::Stored;
use super::{DoneElsewhere, Shared};
use crate::clock::now_ms;
use crate::core::Core;
use crate::store_options::timer_options;
use message::{LogOffset, QueueOffset, names};
use rustc_hash::FxHashSet;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::{Duration, Instant};
use store::timer::{TimerCheck, TimerIndex, Unit};
use store::{AppendError, StoreError};

/// The longest sleep while messages wait: how soon a wall clock that was set is noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// Messages that arrive one by one are taken into the index this often.
const ENQUEUE_PAUSE: Duration = Duration::from_millis(5);
/// Bytes of appends that are not confirmed, above which the thread waits.
const MAX_OPEN_BYTES: i64 = 4 << 20;
/// How long to wait before something is tried again.
const AFTER_REFUSAL: Duration = Duration::from_millis(500);
/// The same when the log is busy.
const WHEN_BUSY: Duration = Duration::from_millis(20);
/// A message was taken into the index so long after it was stored, at the latest. Only for an index that is built again: what was due later
/// than this before the last save is looked for in the log.
const LATE_MS: i64 = 10_000;
/// How long the slot that was begun may take at the end.
const COMPLETE_SLOT: Duration = Duration::from_secs(2);
/// How often the same pause is logged.
const WARN_EVERY: Duration = Duration::from_secs(60);

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
    /// The same, if their offset in the queue is below this: later ones were not in the index.
    done_below: i64,
    /// What a slave delivered while it acted for this master.
    pub(super) done_elsewhere: Option<DoneElsewhere>,
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
        let options = timer_options(&core.settings.current());
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
        if !core.role.is_slave() || found.check.scan_from.is_some() {
            // A slave tells its master only what it has delivered itself, not what it copied from it.
            *shared.check.lock() = found.check;
        }
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
            done_below: saved,
            done_elsewhere: *shared.done_elsewhere.lock(),
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
        if self.core.role.delivers() {
            self.complete_slot();
        }
        self.finish();
    }

    /// A slave that ends to act for its master tells it which slots are done, so the one that it has begun is completed: at most a slot's time,
    /// and what the other brokers take.
    fn complete_slot(&mut self) {
        let begun = Instant::now();
        let is_begun = |this: &Self| this.loaded.as_ref().is_some_and(|slot| slot.taken.is_some());
        while is_begun(self) && self.core.role.delivers() && begun.elapsed() < COMPLETE_SLOT {
            if let Err(retry) = self.round(now_ms()) {
                self.warn_paused(&retry.text);
            }
            std::thread::sleep(ENQUEUE_PAUSE);
        }
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
        if self.next >= self.begin_at {
            self.shared.taken.store(self.next, SeqCst);
        }
        self.shared.behind.store(self.behind(), Relaxed);
        self.shared.waiting.store(self.index.count().max(0), Relaxed);
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
        (self.done_before_ms, self.done_below) = (Some(done_ms), self.saved.queue_offset);
        self.counts.clear();
        self.is_damaged = false;
        tracing::warn!("the index of timer messages was damaged: it is built again from their queue");
        Ok(Round::Again)
    }

    pub(super) fn is_being_delivered(&self, slot_ms: i64) -> bool {
        self.loaded.as_ref().is_some_and(|slot| slot.begin_ms == slot_ms) || self.finishing.iter().any(|slot| slot.begin_ms == slot_ms)
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
