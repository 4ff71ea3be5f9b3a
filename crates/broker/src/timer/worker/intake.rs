//! Takes messages of the timer topic's queue into the index.

use super::{Enqueued, LATE_MS, RetryLater, WHEN_BUSY, Worker};
use crate::records;
use crate::timer::recovered::Recovered;
use crate::timer::slot::MOST;
use crate::timer::stored::Stored;
use message::{QueueOffset, names};
use rustc_hash::FxHashSet;
use std::sync::atomic::Ordering::Relaxed;
use store::queue::Entry;
use store::timer::{DELETES, MAX_SLOTS_AHEAD, ROLLS, Unit, value_of};

/// Messages that are taken into the index at once, and about so many bytes.
const ENQUEUE_MESSAGES: usize = 1_024;
const ENQUEUE_BYTES: i64 = 4 << 20;
/// What was due so long ago is put into a slot of this age: the file has no room for older ones.
const OLDEST_SLOTS: i64 = MAX_SLOTS_AHEAD - 24 * 3_600;

impl Worker {
    /// Takes messages of the queue into the index.
    pub(super) fn enqueue(&mut self, now_ms: i64) -> Result<Enqueued, RetryLater> {
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
            let is_known = record.queue_offset.0 < self.done_below;
            let is_done = is_known && self.index.slot_of(value_ms.max(record.store_timestamp) + LATE_MS) < done_ms;
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
        if value_ms > stored.value_ms && flags & ROLLS == 0 {
            value_ms = value_of(value_ms + 1, precision_ms);
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
        let slots = match self.core.role.is_slave() {
            // One that acts for its master cannot write again what waits for long: that is left to the master.
            true => MAX_SLOTS_AHEAD as u32,
            false => self.core.settings.current().timer_roll_window_slots.min(MAX_SLOTS_AHEAD as u32),
        };
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
    pub(super) fn put_back_loaded(&mut self) -> Result<(), RetryLater> {
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
}
