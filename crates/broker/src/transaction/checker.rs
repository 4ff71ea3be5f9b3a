//! The thread that asks producers how their transactions ended, and gives up those that nobody ends.
//!
//! A round looks at every open half message that was stored more than `transactionTimeOut` ago. Some at a time are written again, or
//! into the dead topic, in one append that ends with a removal mark for those before.

use super::half::{Half, shown_properties};
use super::mark::Mark;
use super::{Transactions, recovery};
use crate::clients::Channel;
use crate::clock::now_ms;
use crate::errors::Refusal;
use crate::topic::{PERM_READ, PERM_WRITE, Spec};
use bytes::{Bytes, BytesMut};
use message::record::{Draft, Placement, Record};
use message::{LogOffset, id, names, properties};
use protocol::RequestCode;
use protocol::frame::{FLAG_ONEWAY, Frame};
use protocol::transaction::CheckTransactionStateHeader;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};
use store::{ConsumeQueue, ReadSource};

/// Half messages of one append at most, and about so many bytes.
const TOGETHER: usize = 32;
const TOGETHER_BYTES: usize = 256 << 10;
/// Before something is tried again that failed.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// What becomes of a half message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Its producer is asked.
    Asked,
    /// It is put into the dead topic.
    GivenUp,
}

/// A half message that something becomes of.
struct Due<'a> {
    half: Half<'a>,
    fate: Fate,
    properties: Vec<u8>,
}

/// Until the end.
pub(super) fn run(transactions: &Transactions) {
    while let Err(error) = recovery::read_open(transactions) {
        tracing::error!(%error, "open transactions cannot be read, trying again; none ends and none is checked until then");
        if transactions.sleep(AFTER_FAILURE) {
            return;
        }
    }
    transactions.state.lock().is_recovered = true;
    transactions.end_waiting();
    loop {
        let interval = transactions.core.settings.current().transaction_check_interval;
        if transactions.sleep_until_open() || transactions.sleep(interval) {
            return;
        }
        if let Err(error) = transactions.round() {
            tracing::error!(%error, "transactions are not checked, trying again");
        }
    }
}

impl Transactions {
    /// Sleeps while nothing is open. True at the end.
    fn sleep_until_open(&self) -> bool {
        let mut state = self.state.lock();
        while !state.is_stopping && state.window.open() == 0 {
            self.wake.wait(&mut state);
        }
        state.is_stopping
    }

    /// Sleeps for so long. True at the end.
    pub(super) fn sleep(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut state = self.state.lock();
        while !state.is_stopping && !self.wake.wait_until(&mut state, until).timed_out() {}
        state.is_stopping
    }

    /// Looks once at all that is open.
    pub(crate) fn round(&self) -> Result<(), Refusal> {
        let end = self.core.store.max_offset(names::TRANS_HALF_TOPIC, 0).0;
        let (mut at, mut checked, begun) = (0, 0_u64, Instant::now());
        loop {
            let next = {
                let mut state = self.state.lock();
                state.window.advance();
                state.window.next_open(at, end)
            };
            let Some(from) = next else { break };
            let Some(looked) = self.look(from, end)? else { break };
            at = looked.next;
            checked += looked.count as u64;
            // Whoever asks must not be faster than those who are asked.
            let most = self.core.settings.current().max_transaction_checks_per_second;
            let least = Duration::from_micros(1_000_000 * checked / most.max(1));
            let is_over = match least.checked_sub(begun.elapsed()) {
                Some(rest) => self.sleep(rest),
                None => self.state.lock().is_stopping,
            };
            if is_over {
                break;
            }
        }
        self.state.lock().window.advance();
        Ok(())
    }

    /// Looks at some open half messages from an offset on. [`None`]: those from there on are too young.
    fn look(&self, from: i64, end: i64) -> Result<Option<Looked>, Refusal> {
        let read = self.read_from(names::TRANS_HALF_TOPIC, from, TOGETHER, ReadSource::Disk)?;
        if read.records.is_empty() {
            tracing::warn!(
                half = from,
                status = ?read.status,
                "an open half message is not in its queue any more: it is passed over"
            );
            self.pass_over(from);
            return Ok(Some(Looked { next: from + 1, count: 0 }));
        }
        let (now_ms, mark_queue) = (now_ms(), self.mark_queue());
        let (mut due, mut next, mut bytes) = (Vec::new(), from, 0);
        for record in &read.records {
            let half = match Half::parse(record) {
                Ok(half) => half,
                Err(why) => {
                    tracing::error!(half = next, why, "an open half message cannot be read: it is passed over");
                    self.pass_over(next);
                    next += 1;
                    continue;
                }
            };
            let offset = half.record.queue_offset.0;
            if offset >= end || bytes > TOGETHER_BYTES {
                break;
            }
            if self.is_young(&half, now_ms) {
                if due.is_empty() {
                    return Ok(None);
                }
                break;
            }
            next = offset + 1;
            if let Some(fate) = self.fate(&half, now_ms)
                && self.claim(&half, &mark_queue)
            {
                bytes += record.len();
                let properties = match fate {
                    Fate::Asked => half.checked_properties(),
                    Fate::GivenUp => half.given_up_properties(),
                };
                due.push(Due { half, fate, properties });
            }
        }
        let count = due.len();
        if count > 0 {
            let written = self.write_again(&due, mark_queue, now_ms).inspect_err(|_| {
                let mut state = self.state.lock();
                due.iter().for_each(|due| state.window.release(due.half.record.queue_offset.0));
            });
            self.end_waiting();
            written?;
        }
        Ok(Some(Looked { next, count }))
    }

    /// Ends the transactions whose ends waited for the start or the checker.
    fn end_waiting(&self) {
        let waiting = {
            let mut state = self.state.lock();
            state.is_checking = false;
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(|end| end());
    }

    /// Stored a moment ago, as all behind it are.
    fn is_young(&self, half: &Half<'_>, now_ms: i64) -> bool {
        let timeout = self.core.settings.current().transaction_timeout.as_millis() as i64;
        // A clock that was set back makes none young for ever.
        let age = now_ms - half.record.store_timestamp;
        (0..timeout).contains(&age)
    }

    /// [`None`]: it is to wait.
    fn fate(&self, half: &Half<'_>, now_ms: i64) -> Option<Fate> {
        let settings = self.core.settings.current();
        let age = now_ms.saturating_sub(half.record.born_timestamp);
        // Compat: as Apache, from the creation of the message; its log file may go soon.
        let is_leaving = age > settings.file_reserved_time.as_millis() as i64;
        if is_leaving || half.is_given_up(settings.transaction_check_max) {
            return Some(Fate::GivenUp);
        }
        let timeout = settings.transaction_timeout.as_millis() as i64;
        (!half.is_immune(timeout, now_ms)).then_some(Fate::Asked)
    }

    fn claim(&self, half: &Half<'_>, mark_queue: &ConsumeQueue) -> bool {
        let (offset, mark) = (half.record.queue_offset.0, mark_queue.assigned().0);
        let mut state = self.state.lock();
        // One that was done meanwhile may stand for its copy, which has its own turn.
        let is_claimed = !state.window.is_done(offset) && state.window.claim(offset, half.first, mark).is_ok();
        state.is_checking |= is_claimed;
        is_claimed
    }

    fn pass_over(&self, half: i64) {
        let mut state = self.state.lock();
        if state.window.claim(half, half, i64::MAX).is_ok() {
            state.window.finish(half, half);
        }
    }

    /// Writes them again, or into the dead topic; then producers are asked.
    fn write_again(&self, due: &[Due<'_>], mark_queue: Arc<ConsumeQueue>, now_ms: i64) -> Result<(), Refusal> {
        if due.iter().any(|due| due.fate == Fate::GivenUp) {
            let dead = Spec {
                perm: PERM_READ | PERM_WRITE,
                ..Spec::new(names::TRANS_CHECK_MAX_TIME_TOPIC, 1)
            };
            self.core.topics.create_for_group(dead, now_ms)?;
        }
        let mark = Mark::of(due.iter().map(|due| due.half.record.queue_offset.0));
        let topic = |due: &Due<'_>| match due.fate {
            Fate::Asked => names::TRANS_HALF_TOPIC,
            Fate::GivenUp => names::TRANS_CHECK_MAX_TIME_TOPIC,
        };
        let mut drafts: Vec<Draft<'_>> = due
            .iter()
            .map(|due| Draft {
                topic: topic(due),
                queue_id: 0,
                properties: &due.properties,
                ..Draft::of(&due.half.record)
            })
            .collect();
        let mut queues: Vec<Arc<ConsumeQueue>> = drafts
            .iter()
            .map(|draft| self.core.log.queue(draft.topic, draft.queue_id))
            .collect();
        drafts.push(mark.draft(due[0].half.record.store_host, now_ms));
        queues.push(mark_queue);
        let mut placements = Vec::with_capacity(drafts.len());
        let ticket = self.core.log.append(&drafts, &queues, now_ms, &mut placements)?;
        {
            let mut state = self.state.lock();
            state.window.marked(placements[due.len()].queue_offset.0, mark.highest());
            // What is done moves on, also when no transaction has ended.
            state.is_dirty = true;
            for (due, placed) in due.iter().zip(&placements) {
                let offset = due.half.record.queue_offset.0;
                match due.fate {
                    Fate::Asked => state.window.moved(offset, due.half.first, placed.queue_offset.0),
                    Fate::GivenUp => {
                        state.window.finish(offset, due.half.first);
                        state.count(&due.half.topic, -1, now_ms);
                    }
                }
            }
        }
        due.iter()
            .filter(|due| due.fate == Fate::GivenUp)
            .for_each(|due| self.forget_key(&due.half));
        // A producer finds the half message that it is asked for.
        self.finish_append(ticket, true)?;
        for (due, placed) in due.iter().zip(&placements) {
            match due.fate {
                Fate::Asked => self.ask(due, *placed),
                Fate::GivenUp => tracing::error!(
                    topic = &*due.half.topic,
                    group = &*due.half.producer_group,
                    uniq_key = &*due.half.uniq_key,
                    "nobody ended this transaction: its message is in {}; docs/operations.md says what to do",
                    names::TRANS_CHECK_MAX_TIME_TOPIC
                ),
            }
        }
        Ok(())
    }

    /// Asks a producer of the group, if one is there; another one the next time.
    fn ask(&self, due: &Due<'_>, placed: Placement) {
        static TURN: AtomicUsize = AtomicUsize::new(0);
        let group = &*due.half.producer_group;
        let Some(producer) = self.producers.any_of(group, TURN.fetch_add(1, Relaxed)) else {
            tracing::debug!(group, "no producer of the group is there to be asked how a transaction ended");
            return;
        };
        producer.send_oneway(&question(due, placed, &self.core.settings.current().broker_name));
    }
}

impl Transactions {
    /// A message that was given up is a half message again, whose producer is asked.
    ///
    /// # Errors
    /// The message is not there or was not given up, or nothing can be stored.
    pub fn resume(&self, log_offset: LogOffset, now_ms: i64) -> Result<(), Refusal> {
        let bytes = self.core.store.message_at(log_offset)?;
        let record = Record::parse(&bytes).map_err(|error| Refusal::system(error.to_string()))?;
        // Compat: Apache takes any message, and one that is no half message would be asked about, too.
        if record.topic != names::TRANS_CHECK_MAX_TIME_TOPIC {
            let text = format!(
                "the message is in topic {}, not in {}",
                record.topic,
                names::TRANS_CHECK_MAX_TIME_TOPIC
            );
            return Err(Refusal::invalid(text));
        }
        let topic = properties::text(record.properties, properties::REAL_TOPIC)
            .ok_or_else(|| Refusal::system("the message does not say which topic it is for"))?;
        let properties = Half::resumed_properties(&record);
        let draft = Draft {
            topic: names::TRANS_HALF_TOPIC,
            queue_id: 0,
            properties: &properties,
            ..Draft::of(&record)
        };
        let queue = self.core.log.queue(draft.topic, draft.queue_id);
        let ticket = self.core.log.append(&[draft], &[queue], now_ms, &mut Vec::with_capacity(1))?;
        self.opened(&topic, now_ms);
        self.finish_append(ticket, true)
    }
}

/// What a look came to.
struct Looked {
    /// The offset to go on from.
    next: i64,
    /// How many were written again.
    count: usize,
}

/// Request 39.
fn question(due: &Due<'_>, placed: Placement, broker: &str) -> Frame {
    let half = &due.half;
    let (mut body, properties) = (BytesMut::new(), shown_properties(&due.properties));
    let message = Draft {
        topic: &half.topic,
        queue_id: half.queue_id,
        properties: &properties,
        ..Draft::of(&half.record)
    };
    message.encode(placed, &mut body);
    let mut frame = Frame::request(RequestCode::CheckTransactionState);
    frame.flag |= FLAG_ONEWAY;
    let offset_id = id::offset_id(half.record.store_host, placed.log_offset);
    let header = CheckTransactionStateHeader {
        topic: Some(names::TRANS_HALF_TOPIC),
        tran_state_table_offset: placed.queue_offset.0,
        commit_log_offset: placed.log_offset.0,
        msg_id: Some(&half.uniq_key),
        transaction_id: Some(&half.uniq_key),
        offset_msg_id: Some(&offset_id),
        broker_name: Some(broker),
    };
    header.encode(&mut frame.ext);
    frame.body = Bytes::from(body);
    frame
}
