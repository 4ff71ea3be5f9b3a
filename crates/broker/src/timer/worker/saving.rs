//! Saves the index, and knows which old messages are needed.

use super::Worker;
use crate::clock::now_ms;
use message::{LogOffset, QueueOffset, names};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::{Duration, Instant};
use store::StoreError;
use store::timer::TimerCheck;

/// How far the log may grow until it is saved that timers have nothing to look for in it, and how often that is looked at.
const REFRESH_BYTES: i64 = 256 << 20;
const REFRESH_EVERY: Duration = Duration::from_secs(10);
/// How often files of the timer log are looked at that may be removed.
const REMOVE_EVERY: Duration = Duration::from_secs(30);
/// How long appends may take at the end.
const PATIENCE: Duration = Duration::from_secs(10);

impl Worker {
    pub(super) fn note_saved(&mut self, check: TimerCheck) {
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

    /// Saves what changed, if it is time. Returns when that is, if there is something to be saved.
    pub(super) fn save_if_due(&mut self, now_ms: i64) -> Option<Duration> {
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
    pub(super) fn finish(mut self) {
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
        match self.saver.save_now(&snapshot) {
            // A slave that ends to act for its master tells it this.
            Ok(()) => *self.shared.check.lock() = *snapshot.check(),
            Err(error) => {
                tracing::error!(%error, "the index of timer messages was not saved at the end: the next start looks for what was delivered");
            }
        }
    }
}
