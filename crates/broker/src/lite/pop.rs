//! Pops of lite topics (200070): which lite topics of the client are read, from where, and the answer.
//!
//! Each is read from the log's tail in memory first, on the thread of the connection or of the event that woke the pop. What needs the page
//! cache or the disk continues on the threads for that.

use super::Lites;
use super::flight::{Handout, MAX_MESSAGES};
use super::result::{LitePopResult, LiteTaken};
use super::rules::{self, LiteGroup};
use super::state::{Name, Reading};
use super::wake::key;
use crate::asker::Asker;
use crate::clients::Lease;
use crate::clock::now_ms;
use crate::errors::Refusal;
use crate::hold::{ANY_QUEUE, Waiter};
use crate::pop::check_hold;
use crate::readers::Continued;
use crate::records;
use crate::settings::BrokerSettings;
use crate::store_options::read_limits;
use crate::topic::is_readable;
use bytes::Bytes;
use message::QueueOffset;
use message::names;
use message::properties::Indexed;
use message::record::Record;
use protocol::codes::ResponseCode;
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::Instant;
use store::{Limits, ReadResult, ReadSource, ReadStatus};

/// Compat: a request that is later than its own deadline by more is not served, in ms.
const TOO_LATE_MS: i64 = 500;
/// Longest time a pop is parked, whatever the client requests, in ms.
const MAX_POLL_MS: i64 = 120_000;
/// Reads without a message after which a pop continues on a catch-up thread.
const MAX_LAPS_INLINE: u32 = 16;
/// Reads of one lite topic without a message after which its offset is left where it is.
const MAX_LAPS_OF_ONE: u32 = 64;
/// Memory of a pop that waits for a thread, in bytes.
const POP_BYTES: usize = 1_024;

/// Asks for messages of the lite topics of a client.
#[derive(Clone, Copy, Debug)]
pub struct LitePop<'a> {
    /// The client.
    pub client: &'a str,
    /// Its group.
    pub group: &'a str,
    /// The parent topic.
    pub topic: &'a str,
    /// Maximum number of messages, at most 32.
    pub most: i32,
    /// How long they are invisible to the group, ms.
    pub invisible_ms: i64,
    /// How long the request may be parked, ms; counts from `born_ms`.
    pub poll_ms: i64,
    /// When the client made the request, epoch ms; 0: now.
    pub born_ms: i64,
    /// A request repeated with the same id gets the same messages again.
    pub attempt: Option<&'a str>,
    /// The messages are held for the client for so long at most, ms.
    pub hold_ms: Option<i64>,
}

/// A pop that passed the checks.
pub(super) struct Pop {
    pub(super) asker: Asker<LitePopResult>,
    pub(super) group: Name,
    pub(super) client: Name,
    pub(super) topic: Name,
    rule: LiteGroup,
    key: Box<str>,
    most: usize,
    pub(super) invisible_ms: i64,
    /// Deadline of parking, epoch ms.
    pub(super) until: Option<i64>,
    attempt: Option<Box<str>>,
    hold_ms: Option<i64>,
}

impl Waiter for Pop {
    fn queue(&self) -> (&str, i32) {
        (&self.key, ANY_QUEUE)
    }

    fn owner(&self) -> u64 {
        self.asker.client()
    }

    fn is_disconnected(&self) -> bool {
        self.asker.is_disconnected()
    }

    fn tags(&self) -> Option<&[i32]> {
        None
    }
}

/// A lite topic that is being read; the reading ends when this is dropped.
struct Open {
    lites: Arc<Lites>,
    reading: Option<Reading>,
}

impl Open {
    /// The caller ends the reading.
    fn take(mut self) -> Option<Reading> {
        self.reading.take()
    }

    fn reading(&self) -> Option<&Reading> {
        self.reading.as_ref()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(reading) = self.reading.take() {
            self.lites.ended_without(&reading);
        }
    }
}

/// A pop that is being served.
struct Round {
    pop: Pop,
    /// Lite topics whose messages are handed out again, because the request is a repeated one.
    again: SmallVec<[Name; 1]>,
    /// The lite topic of the current step, and where to read it.
    open: Option<(Open, i64)>,
    /// Lite topics whose messages it has.
    done: SmallVec<[Name; 4]>,
    laps: u32,
    laps_of_one: u32,
    pop_time: i64,
    taken: Vec<LiteTaken>,
    records: Vec<Bytes>,
    bytes: usize,
    begun: Instant,
}

/// The offset of a record in a light queue.
pub(super) fn offset_in(record: &[u8], queue: &str) -> Option<i64> {
    let record = Record::parse(record).ok()?;
    let indexed = Indexed::of(record.properties);
    let at = indexed.light_queues.split(',').position(|name| name == queue)?;
    indexed.light_offsets.split(',').nth(at)?.parse().ok()
}

impl Lites {
    /// Handles a pop request.
    pub fn pop(self: &Arc<Self>, asker: Asker<LitePopResult>, request: &LitePop<'_>, now_ms: i64) {
        match self.check(request, now_ms) {
            Ok((rule, topic)) => {
                let born = if request.born_ms == 0 { now_ms } else { request.born_ms };
                let until = born.saturating_add(request.poll_ms).min(now_ms + MAX_POLL_MS);
                let own = (!rule.is_wildcard).then_some(request.client);
                self.run_pop(Pop {
                    asker,
                    group: request.group.into(),
                    client: request.client.into(),
                    topic,
                    key: key(request.group, own),
                    rule,
                    most: usize::try_from(request.most).unwrap_or(0).clamp(1, MAX_MESSAGES),
                    invisible_ms: request.invisible_ms.max(0),
                    until: (request.poll_ms > 0 && until > now_ms).then_some(until),
                    attempt: request.attempt.map(Into::into),
                    hold_ms: request.hold_ms,
                });
            }
            Err(refusal) => asker.refuse(refusal),
        }
    }

    fn check(&self, request: &LitePop<'_>, now_ms: i64) -> Result<(LiteGroup, Name), Refusal> {
        let settings = self.core.settings.current();
        let broker = &settings.broker_name;
        let born = if request.born_ms == 0 { now_ms } else { request.born_ms };
        if now_ms.saturating_sub(born).saturating_sub(request.poll_ms) > TOO_LATE_MS {
            let text = format!("the broker[{broker}] pop message is timeout too much");
            return Err(Refusal::new(ResponseCode::PollingTimeout, text));
        }
        check_hold(Some(request.client), request.hold_ms)?;
        if !is_readable(settings.broker_permission) {
            let text = format!("the broker[{broker}] pop message is forbidden");
            return Err(Refusal::new(ResponseCode::NoPermission, text));
        }
        if request.most > MAX_MESSAGES as i32 {
            let text = format!("the broker[{broker}] pop message's num is greater than {MAX_MESSAGES}");
            return Err(Refusal::invalid(text));
        }
        let topic = rules::parent(&self.core, request.topic)?;
        if !is_readable(topic.perm) {
            let text = format!("the topic [{}] peeking message is forbidden", topic.name);
            return Err(Refusal::new(ResponseCode::NoPermission, text));
        }
        let rule = rules::group(&self.core, request.group, request.topic)?;
        Ok((rule, (*topic.name).into()))
    }

    /// Serves a pop: it is answered, parked, or continues on another thread.
    pub(super) fn run_pop(self: &Arc<Self>, pop: Pop) {
        let again = {
            let mut state = self.state.lock();
            state.begin(&pop.group, &pop.client, pop.attempt.as_deref(), self.now())
        };
        let round = Round {
            again,
            open: None,
            done: SmallVec::new(),
            laps: 0,
            laps_of_one: 0,
            pop_time: now_ms(),
            taken: Vec::new(),
            records: Vec::new(),
            bytes: 0,
            begun: Instant::now(),
            pop,
        };
        self.advance(round, ReadSource::Memory);
    }

    fn advance(self: &Arc<Self>, mut round: Round, mut source: ReadSource) {
        let settings = self.core.settings.current();
        while round.records.len() < round.pop.most {
            let (open, from) = match round.open.take() {
                Some(open) => open,
                None => match self.open_next(&mut round) {
                    Ok(Some(open)) => open,
                    Ok(None) => break,
                    Err(refusal) if round.records.is_empty() => return round.pop.asker.refuse(refusal),
                    Err(_) => break,
                },
            };
            let Some(queue) = open.reading().map(|reading| Arc::clone(&reading.queue)) else {
                continue;
            };
            let limits = read_limits(&settings, source, round.pop.most - round.records.len());
            let limits = Limits {
                bytes: limits.bytes.saturating_sub(round.bytes),
                ..limits
            };
            let read = match self.core.store.read(&queue, 0, QueueOffset(from), limits, &|_| true, source) {
                Ok(read) => read,
                Err(error) if round.records.is_empty() => {
                    drop(open);
                    return round.pop.asker.refuse(error.into());
                }
                Err(_) => break,
            };
            if read.cold || round.laps >= MAX_LAPS_INLINE && source == ReadSource::Memory {
                let next_source = match source {
                    ReadSource::Memory => ReadSource::PageCache,
                    ReadSource::PageCache | ReadSource::Disk => ReadSource::Disk,
                };
                round.open = Some((open, from));
                return self.hand_over(round, next_source, &settings);
            }
            if source == ReadSource::Disk {
                // The next lite topic may be in memory; its read says so.
                source = ReadSource::PageCache;
            }
            match self.take(&mut round, open, from, &read, &settings) {
                Ok(()) => {}
                Err(refusal) if round.records.is_empty() => return round.pop.asker.refuse(refusal),
                Err(_) => break,
            }
        }
        self.finish(round);
    }

    /// The next lite topic to read, and where.
    fn open_next(self: &Arc<Self>, round: &mut Round) -> Result<Option<(Open, i64)>, Refusal> {
        let pop = &round.pop;
        loop {
            let reading = {
                let mut state = self.state.lock();
                match round.again.pop() {
                    Some(queue) => match state.again(&pop.group, &queue, pop.attempt.as_deref()) {
                        Some(reading) => Some(reading),
                        None => continue,
                    },
                    None => state.next(&pop.group, &pop.client, self.now()),
                }
            };
            let Some(reading) = reading else { return Ok(None) };
            round.laps_of_one = 0;
            let open = Open {
                lites: Arc::clone(self),
                reading: Some(reading.clone()),
            };
            if round.done.contains(&reading.queue) {
                // Its messages are visible again already: for the next pop.
                return Ok(None);
            }
            let (queue, offsets) = (&*reading.queue, &self.core.offsets);
            let max = self.core.store.max_offset(queue, 0).0;
            if offsets.take_reset(queue, &pop.group, 0).is_some() {
                self.state.lock().clear_flight(&reading);
            }
            let from = match offsets.committed(queue, &pop.group, 0) {
                Some(committed) => committed.min(max),
                // A lite topic that was made since the group subscribed to all of them.
                None => self.core.store.min_offset(queue, 0).0,
            };
            if offsets.committed(queue, &pop.group, 0) != Some(from) {
                let committed = offsets.commit(queue, &pop.group, 0, from);
                committed.map_err(|error| Refusal::new(ResponseCode::SystemBusy, error.to_string()))?;
            }
            if from < max {
                return Ok(Some((open, from)));
            }
            round.laps += 1;
        }
    }

    /// Continues on a thread that may use slower storage.
    fn hand_over(self: &Arc<Self>, mut round: Round, source: ReadSource, settings: &BrokerSettings) {
        round.laps = 0;
        let continued = Continued {
            source,
            reply: round.pop.asker.reply(),
            waiting_bytes: POP_BYTES,
            read_bytes: settings.max_transfer_bytes_on_message_in_memory as usize,
        };
        let lites = Arc::clone(self);
        self.core.threads.continue_read(continued, move || lites.advance(round, source));
    }

    /// Takes what was read of a lite topic, or passes what cannot be read.
    fn take(&self, round: &mut Round, open: Open, from: i64, read: &ReadResult, settings: &BrokerSettings) -> Result<(), Refusal> {
        let Some(reading) = open.reading().cloned() else { return Ok(()) };
        if !read.records.is_empty() {
            return self.hand_out(round, open, from, read, settings);
        }
        if let Some(damaged) = &read.damaged {
            let text = records::damage(&self.core.store, &reading.queue, 0, damaged);
            if !settings.skip_damaged_messages {
                return Err(Refusal::system(format!(
                    "{text}; apogeeSkipDamagedMessages=true has groups skip it"
                )));
            }
            tracing::error!(group = &*reading.group, "{text}; the group skips it");
        }
        let passes = read.damaged.is_some()
            || matches!(
                read.status,
                ReadStatus::NoMatchedMessage | ReadStatus::MessageWasRemoving | ReadStatus::OffsetTooSmall | ReadStatus::OffsetFoundNull
            );
        round.laps += 1;
        round.laps_of_one += 1;
        if !passes || read.next.0 <= from || round.laps_of_one > MAX_LAPS_OF_ONE {
            // Not `ready` again: it would be read in a loop. The next event is the next occasion.
            if let Some(reading) = open.take() {
                self.state.lock().nothing(&reading);
            }
            return Ok(());
        }
        // A reset that came meanwhile stays.
        let _ = self.core.offsets.commit(&reading.queue, &reading.group, 0, read.next.0);
        if read.next < read.max {
            round.open = Some((open, read.next.0));
        }
        Ok(())
    }

    /// Puts messages in flight and into the answer; nothing if the offset was reset meanwhile.
    fn hand_out(&self, round: &mut Round, open: Open, from: i64, read: &ReadResult, settings: &BrokerSettings) -> Result<(), Refusal> {
        let Some(reading) = open.take() else { return Ok(()) };
        let pop = &round.pop;
        let at = |(n, record): (usize, &Bytes)| offset_in(record, &reading.queue).unwrap_or(from + n as i64);
        let offsets: SmallVec<[i64; 8]> = read.records.iter().enumerate().map(at).collect();
        let now = self.now();
        let handout = Handout {
            offsets: &offsets,
            attempt: pop.attempt.as_deref(),
            pop_time: round.pop_time,
            visible_at: now.saturating_add(pop.invisible_ms),
            invisible_ms: pop.invisible_ms,
            lease: pop.hold_ms.map(|most_ms| Lease {
                holder: self.consumers.holder(&pop.group, &pop.client),
                until: now.saturating_add(most_ms),
            }),
        };
        let (outcome, before, after) = {
            let mut state = self.state.lock();
            let before = state.next_wake();
            let limits = rules::limits(settings, &pop.rule);
            let outcome = state.found(&reading, &pop.client, &handout, limits, now);
            (outcome, before, state.next_wake())
        };
        self.plan(before, after);
        let counts = outcome.map_err(|full| {
            // Nothing is lost: it is ready again when something of the group is acknowledged or visible.
            Refusal::new(ResponseCode::SystemBusy, full.to_string())
        });
        let counts = match counts {
            Ok(Some(counts)) => counts,
            Ok(None) => return Ok(()),
            Err(refusal) => {
                self.state.lock().ready(&reading.group, &reading.queue, now);
                return Err(refusal);
            }
        };
        round.done.push(Arc::clone(&reading.queue));
        let lite = names::lite_topic_of(&reading.queue).map_or(&*reading.queue, |(_, lite)| lite);
        for ((record, offset), count) in read.records.iter().zip(offsets).zip(counts) {
            let Some(count) = count else { continue };
            round.taken.push(LiteTaken {
                lite_topic: lite.into(),
                offset,
                count,
            });
            round.bytes += record.len();
            round.records.push(record.clone());
        }
        Ok(())
    }

    /// Answers or parks.
    fn finish(self: &Arc<Self>, round: Round) {
        let counters = self.core.stats.group(&round.pop.topic, &round.pop.group);
        if round.records.is_empty() {
            counters.missed();
            return self.park(round.pop);
        }
        counters.took(0, round.begun.elapsed().as_millis() as i64);
        counters.pulled(round.records.len() as i64, round.bytes as i64);
        let (group, client) = (Arc::clone(&round.pop.group), Arc::clone(&round.pop.client));
        let is_full = round.records.len() >= round.pop.most;
        round.pop.asker.answer(LitePopResult {
            code: ResponseCode::Success,
            pop_time: round.pop_time,
            invisible_ms: round.pop.invisible_ms,
            taken: round.taken,
            records: round.records,
            bytes: round.bytes,
            is_held: round.pop.hold_ms.is_some(),
        });
        if is_full && !self.hold.is_empty() {
            // What it left ready is for another pop.
            let left = self.state.lock().peek(&group, &client);
            if let Some(queue) = left {
                self.ready_later(&group, &queue);
            }
        }
    }

    /// A reading ended without a message: more may have arrived meanwhile.
    pub(super) fn ended_without(self: &Arc<Self>, reading: &Reading) {
        let was_open = self.state.lock().nothing(reading);
        let committed = self.core.offsets.committed(&reading.queue, &reading.group, 0);
        if was_open && committed.is_none_or(|committed| committed < self.core.store.max_offset(&reading.queue, 0).0) {
            self.ready_later(&reading.group, &reading.queue);
        }
    }
}
