//! Messages that wait in log files which retention wants to delete: they are written again before.

use super::slot::entry;
use super::stored::Stored;
use super::when::{Times, rolled_properties};
use super::worker::{RetryLater, Worker};
use crate::records;
use message::record::Draft;
use message::{LogOffset, names};
use std::sync::atomic::Ordering::Relaxed;
use store::timer::Unit;

/// Messages of one append.
const TOGETHER: usize = 256;

/// How far the log is cleared.
#[derive(Debug)]
pub(super) struct Clearing {
    /// Messages below this log offset are written again.
    below: LogOffset,
    /// Position in the timer log to go on from.
    at: i64,
    /// The append that has to be confirmed, and the position behind its units.
    waits_for: Option<(u64, i64)>,
    is_at_end: bool,
}

impl Worker {
    /// Does a part of what retention wants. True if it did something.
    ///
    /// # Errors
    /// The log cannot be read or written now.
    pub(super) fn clear_early(&mut self, now_ms: i64) -> Result<bool, RetryLater> {
        let wanted = LogOffset(self.shared.wanted.load(Relaxed));
        if self.clearing.is_none() {
            if wanted.0 <= self.shared.needed.load(Relaxed) || self.has_unsaved_need {
                return Ok(false);
            }
            let oldest = self.index.oldest().map_err(|error| RetryLater::of_index(&error))?;
            match oldest {
                Some((at, log_offset)) if log_offset < wanted => {
                    self.clearing = Some(Clearing {
                        below: wanted,
                        at,
                        waits_for: None,
                        is_at_end: false,
                    });
                }
                // It is told when this is saved.
                _ => {
                    self.has_unsaved_need = true;
                    return Ok(true);
                }
            }
        }
        let Some(mut clearing) = self.clearing.take() else {
            return Ok(false);
        };
        let outcome = self.clear_some(&mut clearing, now_ms);
        if clearing.is_at_end && clearing.waits_for.is_none() {
            self.has_unsaved_need = true;
            return outcome;
        }
        self.clearing = Some(clearing);
        outcome
    }

    fn clear_some(&mut self, clearing: &mut Clearing, now_ms: i64) -> Result<bool, RetryLater> {
        if let Some((append, behind)) = clearing.waits_for {
            if self.confirmed < append {
                return Ok(false);
            }
            self.index.begin_at(behind);
            (clearing.at, clearing.waits_for) = (behind, None);
            if clearing.is_at_end {
                return Ok(true);
            }
        }
        let mut units = Vec::new();
        let read = self.index.read_below(clearing.at, clearing.below, TOGETHER, &mut units);
        let (behind, is_at_end) = read.map_err(|error| RetryLater::of_index(&error))?;
        // What is being delivered right now need not be written again: the rest waits for it.
        let is_busy = |unit: &Unit| self.is_being_delivered(self.index.slot_of(unit.value_ms));
        if units.iter().any(|(_, unit)| is_busy(unit)) {
            return Ok(false);
        }
        let append = self.write_again(&units, now_ms)?;
        clearing.is_at_end = is_at_end;
        clearing.waits_for = Some((append, behind));
        Ok(true)
    }

    /// Appends the messages of these units to the timer topic. Returns the number of the append that has to be confirmed.
    fn write_again(&mut self, units: &[(i64, Unit)], now_ms: i64) -> Result<u64, RetryLater> {
        let entries: Vec<(i64, _)> = units
            .iter()
            .map(|(_, unit)| (unit.written_ms, entry(unit.log_offset, unit.size)))
            .collect();
        let records = records::read(&self.core.store, &entries, "timer").map_err(RetryLater::reading)?;
        let mut messages = Vec::with_capacity(records.len());
        for (enqueued_ms, bytes) in &records {
            match Stored::parse(bytes) {
                Ok(stored) if self.recovered.take(&stored, Some(stored.rolls)).is_some() => {}
                Ok(stored) => {
                    let times = Times {
                        enqueued_ms: *enqueued_ms,
                        dequeued_ms: now_ms,
                    };
                    let properties = rolled_properties(stored.record.properties, stored.rolls + 1, times);
                    messages.push((stored, properties));
                }
                Err(why) => tracing::error!(why, "a timer message is damaged: it is not delivered"),
            }
        }
        let mut bytes = 0;
        let most = self.core.log.max_append_bytes();
        let mut rest = &messages[..];
        while !rest.is_empty() {
            let fits = rest.iter().take_while(|(stored, properties)| {
                let size = stored.record.body.len() + properties.len() + 1_024;
                let fits = bytes == 0 || bytes + size <= most;
                bytes += size;
                fits
            });
            let count = fits.count();
            let (now, later) = rest.split_at(count);
            let drafts: Vec<Draft<'_>> = now
                .iter()
                .map(|(stored, properties)| Draft {
                    topic: names::TIMER_TOPIC,
                    queue_id: 0,
                    properties,
                    ..Draft::of(&stored.record)
                })
                .collect();
            self.append(&drafts, now_ms, true)?;
            for (stored, _) in now {
                self.counts.add(stored.topic, -1, now_ms);
            }
            (rest, bytes) = (later, 0);
        }
        Ok(self.appended)
    }
}
