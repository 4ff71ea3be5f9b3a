//! Delivers messages that are due, or writes them again.

use super::{Finishing, Fired, Open, RetryLater, Worker};
use crate::escape::Source;
use crate::log_writer::{Delivery, WaitFor};
use crate::records;
use crate::timer::slot::{LoadedSlot, entry};
use crate::timer::stored::Stored;
use crate::timer::when::{Times, delivered_properties, rolled_properties};
use message::record::{Draft, Placement};
use message::{names, properties};
use protocol::number::Integer;
use rustc_hash::FxHashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use store::queue::Entry;
use store::timer::Waiting;
use store::{AppendError, ConsumeQueue};

/// A slot is read so long before it begins.
const READ_AHEAD_MS: i64 = 2_000;
/// Messages of one append at most, and about so many bytes: the log's append lock is held for no longer than for a send of as many bytes.
const BATCH_MESSAGES: usize = 512;
const BATCH_BYTES: usize = 256 << 10;
/// What is due within this time is not delivered before the messages that wait on are in the index again.
const DUE_ABOUT_NOW_MS: i64 = 1_000;

impl Worker {
    /// Delivers some that are due.
    pub(super) fn fire(&mut self, now_ms: i64) -> Result<Fired, RetryLater> {
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
        let last = loaded.passed();
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
            if is_recalled || (!one.rolls() && self.is_done_elsewhere(&stored)) {
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

    /// Whether a slave delivered it while it acted for this master.
    fn is_done_elsewhere(&self, stored: &Stored<'_>) -> bool {
        let record = &stored.record;
        self.done_elsewhere.is_some_and(|done| {
            record.queue_offset.0 < done.below && self.index.slot_of(stored.value_ms.max(record.store_timestamp)) < done.before_ms
        })
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
    pub(in crate::timer) fn append(&mut self, drafts: &[Draft<'_>], now_ms: i64, to_make_room: bool) -> Result<i64, RetryLater> {
        let log = &self.core.log;
        let queues: Vec<Arc<ConsumeQueue>> = drafts.iter().map(|draft| log.queue(draft.topic, draft.queue_id)).collect();
        let mut placements = Vec::with_capacity(drafts.len());
        let appended = match to_make_room {
            true => log
                .append_to_make_room(drafts, &queues, now_ms, &mut placements)
                .map(Delivery::Here),
            false => log.deliver(Source::Timers, drafts, &queues, now_ms, &mut placements),
        };
        let delivery = match appended {
            Ok(delivery) => delivery,
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
        // What another broker stores is not in this log, whose end says as much.
        let end = self.core.store.log_range().1.0;
        let log_offset = placements.first().map_or(end, |placed| placed.log_offset.0);
        self.appended += 1;
        self.open.push_back(Open {
            bytes: drafts.iter().map(|draft| draft.encoded_len() as i64).sum(),
            log_offset,
        });
        // A message's own topic was created when it was sent.
        let wait = WaitFor {
            flush: true,
            topics: false,
            slaves: false,
        };
        let (ended, shared) = (self.ended.clone(), self.shared.clone());
        let done = move |outcome: Result<(), _>| {
            match outcome {
                Ok(()) => ended.confirmed.fetch_add(1, SeqCst),
                Err(_) => u64::from(ended.has_failed.swap(true, SeqCst)),
            };
            ended.all.fetch_add(1, SeqCst);
            shared.alarm.call();
        };
        log.finish(delivery, drafts, wait, done);
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
