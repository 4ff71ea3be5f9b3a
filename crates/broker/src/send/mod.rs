//! Sending: requests 10, 310 and 320.
//!
//! All sends that one read of a connection brought are checked, then appended together and answered with one write. Between
//! the network and the log a message's body is copied once, into the record.
//!
//! Order: sends pipelined on one connection to one queue get ascending offsets. Java's broker does not promise that; here it
//! follows from appending them in the order they were read.
//!
//! A message may go elsewhere than it was sent: to the schedule topic when it is to be delayed ([`crate::delay`]), to the dead
//! letter queue when a client sends it for one retry too many ([`crate::retry`]). The answer names the queue it was sent to.
//!
//! Not here: transactions and exact times. A message that needs them is refused.

mod added;
pub(crate) mod check;
mod late;

pub use late::LateFlushes;

use crate::delay;
use crate::errors::Refusal;
use crate::group::Groups;
use crate::lock::OrderLocks;
use crate::reply::Reply;
use crate::retry::handler::{dead_letters, rule};
use crate::retry::rules;
use crate::settings::BrokerSettings;
use crate::stats::{BrokerStats, TopicCounters};
use crate::topic::{Topic, Topics};
use crate::upkeep::Signal;
use added::Added;
use bytes::BytesMut;
use check::{Checked, Goal, Messages};
use message::record::{Draft, Placement, body_crc};
use message::{batch, id, names, sys_flag};
use net::Connection;
use protocol::codes::{RequestCode, ResponseCode};
use protocol::ext::Value;
use protocol::frame::{Encoding, Frame, encode_response_head};
use protocol::send::SendHeader;
use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;
use store::{AppendError, ConsumeQueue, Store};

/// How often sends are checked again because one of their topics was deleted between the check and the append.
const RETIRED_MAX: usize = 3;

/// What sending needs.
pub struct Sender {
    store: Arc<Store>,
    topics: Arc<Topics>,
    groups: Arc<Groups>,
    locks: Arc<OrderLocks>,
    settings: Arc<config::Live<BrokerSettings>>,
    added: Added,
    late: Arc<LateFlushes>,
    /// Raised by new topics.
    changed: Arc<Signal>,
    stats: Arc<BrokerStats>,
    /// Those of the schedule topic.
    delayed: Arc<TopicCounters>,
    /// Picks a queue for those who do not.
    next_queue: AtomicU32,
}

/// A request that passed its checks.
struct Accepted<'a> {
    frame: &'a Frame,
    header: SendHeader<'a>,
    topic: Arc<Topic>,
    /// The topic, or that of dead letters, was made just now: the request is answered when that is saved.
    is_new_topic: bool,
    queue: Arc<ConsumeQueue>,
    queue_id: i32,
    /// Where it is stored, if not where it was sent.
    elsewhere: Option<Elsewhere>,
    checked: Checked<'a>,
    /// Messages of the request: their drafts and placements.
    messages: std::ops::Range<usize>,
}

/// Another place than the one a message was sent to.
struct Elsewhere {
    topic: Cow<'static, str>,
    queue_id: i32,
    counters: Arc<TopicCounters>,
    /// The dead letter topic was made just now.
    is_new_topic: bool,
}

impl Sender {
    /// Sends over `store` to topics of `topics`; `groups` and `locks` say what becomes of messages sent for a retry.
    pub fn new(
        store: Arc<Store>,
        topics: Arc<Topics>,
        (groups, locks): (Arc<Groups>, Arc<OrderLocks>),
        settings: Arc<config::Live<BrokerSettings>>,
        late: Arc<LateFlushes>,
        changed: Arc<Signal>,
        stats: Arc<BrokerStats>,
    ) -> Self {
        let now = settings.current();
        let added = Added::new(&now.region_id, now.trace_on, &now.broker_cluster_name);
        Self {
            store,
            topics,
            groups,
            locks,
            settings,
            added,
            late,
            changed,
            delayed: Arc::new(stats.topic(names::SCHEDULE_TOPIC)),
            stats,
            next_queue: AtomicU32::new(0),
        }
    }

    /// Whether a request is for here.
    #[must_use]
    pub fn serves(code: i32) -> bool {
        const CODES: [i32; 3] = [
            RequestCode::SendMessage as i32,
            RequestCode::SendMessageV2 as i32,
            RequestCode::SendBatchMessage as i32,
        ];
        CODES.contains(&code)
    }

    /// Serves send requests that came over one connection, in their order.
    pub fn serve(&self, conn: &Arc<Connection>, frames: &[Frame], store_host: SocketAddr, now_ms: i64) {
        let mut rest = self.accept_all(conn, frames.iter(), now_ms);
        while !rest.is_empty() {
            let count = self.fitting(&rest);
            let later = rest.split_off(count);
            self.store_together(conn, rest, store_host, now_ms, RETIRED_MAX);
            rest = later;
        }
    }

    /// The requests that pass their checks; the others are answered.
    fn accept_all<'a>(
        &'a self,
        conn: &Arc<Connection>,
        frames: impl ExactSizeIterator<Item = &'a Frame>,
        now_ms: i64,
    ) -> Vec<Accepted<'a>> {
        let settings = self.settings.current();
        let mut accepted = Vec::with_capacity(frames.len());
        for frame in frames {
            match self.accept(conn, frame, &settings, now_ms) {
                Ok(one) => accepted.push(one),
                Err(refusal) => Reply::to(conn, frame).send(Err(refusal)),
            }
        }
        accepted
    }

    /// How many of the requests fit into one append; at least one.
    fn fitting(&self, accepted: &[Accepted<'_>]) -> usize {
        let mut room = self.store.max_append_bytes();
        let fits = accepted.iter().take_while(|one| {
            let bytes = one.checked.most_bytes;
            let fits = bytes <= room;
            room = room.saturating_sub(bytes);
            fits
        });
        fits.count().max(1)
    }

    fn accept<'a>(&'a self, conn: &Connection, frame: &'a Frame, settings: &BrokerSettings, now_ms: i64) -> Result<Accepted<'a>, Refusal> {
        let code = RequestCode::try_from(frame.code).map_err(|_| Refusal::system("not a send request"))?;
        let header = SendHeader::decode(code, &frame.ext)?;
        let told = |refusal: Refusal| {
            refusal
                .with("MSG_REGION", self.added.region())
                .with("TRACE_ON", self.added.trace_on())
        };
        let is_batch = code == RequestCode::SendBatchMessage;
        self.check(conn, frame, header, is_batch, settings, now_ms).map_err(told)
    }

    fn check<'a>(
        &'a self,
        conn: &Connection,
        frame: &'a Frame,
        header: SendHeader<'a>,
        is_batch: bool,
        settings: &BrokerSettings,
        now_ms: i64,
    ) -> Result<Accepted<'a>, Refusal> {
        check::time(settings, now_ms)?;
        let topic = check::topic(&self.topics, settings, &header, now_ms)?;
        check::queue(&topic, &header, conn.peer())?;
        let queue_id = if header.queue_id < 0 {
            self.any_queue(&topic)
        } else {
            header.queue_id
        };
        let (checked, elsewhere) = if is_batch {
            (check::batch(settings, &header, &frame.body)?, None)
        } else {
            let dead = self.dead(&header, frame.version, settings, now_ms)?;
            let dies = dead.is_some();
            let checked = check::single(settings, &header, &frame.body, &self.added, Goal { queue_id, dies, now_ms })?;
            let elsewhere = dead.or_else(|| self.waiting(checked.delay_level));
            (checked, elsewhere)
        };
        let queue = match &elsewhere {
            None => self.store.queue(header.topic, queue_id),
            Some(place) => self.store.queue(&place.topic, place.queue_id),
        };
        Ok(Accepted {
            frame,
            header,
            is_new_topic: !topic.is_settled(&self.changed) || elsewhere.as_ref().is_some_and(|place| place.is_new_topic),
            topic,
            queue,
            queue_id,
            elsewhere,
            checked,
            messages: 0..0,
        })
    }

    /// The dead letter queue, when this is a message that its client sends for one retry too many.
    fn dead(
        &self,
        header: &SendHeader<'_>,
        client_version: i32,
        settings: &BrokerSettings,
        now_ms: i64,
    ) -> Result<Option<Elsewhere>, Refusal> {
        if !names::is_retry(header.topic) {
            return Ok(None);
        }
        let group = rules::group_of(header.topic);
        let rule = rule(&self.groups, settings, group, now_ms)?;
        let max = rules::max_times(&rule, client_version, header.max_reconsume_times);
        if !rules::dies_on_send(header.reconsume_times, max, self.locks.holds_any(group, now_ms)) {
            return Ok(None);
        }
        let topic = dead_letters(&self.topics, group, now_ms)?;
        Ok(Some(Elsewhere {
            topic: Cow::Owned(topic.name.to_string()),
            queue_id: 0,
            counters: Arc::clone(&topic.counters),
            is_new_topic: !topic.is_settled(&self.changed),
        }))
    }

    /// The queue in which messages of a delay level wait, if this is one.
    fn waiting(&self, level: i32) -> Option<Elsewhere> {
        (level > 0).then(|| Elsewhere {
            topic: Cow::Borrowed(names::SCHEDULE_TOPIC),
            queue_id: delay::queue_of(level),
            counters: Arc::clone(&self.delayed),
            is_new_topic: false,
        })
    }

    fn any_queue(&self, topic: &Topic) -> i32 {
        let queues = topic.write_queues.max(1) as u32;
        (self.next_queue.fetch_add(1, Ordering::Relaxed) % queues) as i32
    }

    /// Stores requests with one append. `tries_left`: how often they may be checked again because a topic was deleted meanwhile.
    fn store_together(
        &self,
        conn: &Arc<Connection>,
        mut accepted: Vec<Accepted<'_>>,
        store_host: SocketAddr,
        now_ms: i64,
        tries_left: usize,
    ) {
        let begun = Instant::now();
        let mut count = 0;
        for one in &mut accepted {
            one.messages = count..count + one.checked.count;
            count += one.checked.count;
        }
        let mut drafts: Vec<Draft<'_>> = Vec::with_capacity(count);
        let mut queues: Vec<Arc<ConsumeQueue>> = Vec::with_capacity(count);
        for one in &accepted {
            one.draft(conn.peer(), store_host, &mut drafts);
            queues.extend(std::iter::repeat_n(&one.queue, one.checked.count).cloned());
        }
        let mut placements = Vec::with_capacity(drafts.len());
        let ticket = match self.store.append(&drafts, &queues, now_ms, &mut placements) {
            Ok(ticket) => ticket,
            Err(AppendError::QueueRetired { .. }) if tries_left > 0 => {
                let again = self.accept_all(conn, accepted.iter().map(|one| one.frame), now_ms);
                if !again.is_empty() {
                    self.store_together(conn, again, store_host, now_ms, tries_left - 1);
                }
                return;
            }
            Err(error) => {
                self.stats.totals().put_failed(count as i64);
                return accepted
                    .iter()
                    .for_each(|one| Reply::to(conn, one.frame).send(Err(error.clone().into())));
            }
        };
        let sizes: Vec<usize> = drafts.iter().map(Draft::encoded_len).collect();
        drop(drafts);
        let waits = self.store.flush_mode() == store::FlushMode::Sync;
        let (waiting, quick): (Vec<_>, Vec<_>) = accepted.into_iter().partition(|one| waits && one.checked.waits);
        for (group, for_flush) in [(quick, false), (waiting, true)] {
            if group.is_empty() {
                continue;
            }
            self.tally(&group, &sizes);
            self.answer(conn, ticket, &group, &placements, store_host, for_flush);
            let took_ms = begun.elapsed().as_millis() as i64;
            group.iter().for_each(|one| one.counters().took(one.queue_id, took_ms));
        }
        // What waits for the device is answered later than this.
        self.stats.totals().put_took(count as i64, begun.elapsed().as_micros() as i64);
    }

    fn tally(&self, group: &[Accepted<'_>], sizes: &[usize]) {
        for one in group {
            let bytes: usize = sizes[one.messages.clone()].iter().sum();
            one.counters().stored(one.messages.len() as i64, bytes as i64, 1);
            if let Some(place) = one.elsewhere.as_ref().filter(|_| one.checked.delay_level > 0) {
                self.stats.waits(place.queue_id, bytes as i64);
            }
        }
    }

    fn answer(
        &self,
        conn: &Arc<Connection>,
        ticket: store::Ticket,
        group: &[Accepted<'_>],
        placements: &[Placement],
        store_host: SocketAddr,
        for_flush: bool,
    ) {
        let encode = |out: &mut BytesMut, code: i32, remark: Option<&str>| {
            group
                .iter()
                .filter(|one| !one.frame.is_oneway())
                .for_each(|one| self.encode_reply(out, one, placements, store_host, code, remark));
        };
        let askers = || -> Vec<(i32, Encoding)> {
            let asking = group.iter().filter(|one| !one.frame.is_oneway());
            asking.map(|one| (one.frame.opaque, one.frame.encoding)).collect()
        };
        let when_settled = group.iter().any(|one| one.is_new_topic).then(|| self.changed.clone());
        let later = when_settled.clone();
        let outcome = self.store.complete(ticket, for_flush, || {
            let mut stored = BytesMut::new();
            encode(&mut stored, 0, None);
            let timed_out = for_flush.then(|| {
                let mut out = BytesMut::new();
                encode(&mut out, ResponseCode::FlushDiskTimeout.into(), None);
                out
            });
            self.late.answer_later(conn, stored, timed_out, askers(), later)
        });
        match outcome {
            None => {}
            Some(Ok(())) if let Some(changed) = when_settled => {
                let mut frames = BytesMut::new();
                encode(&mut frames, 0, None);
                late::send_settled(&changed, conn, frames, askers());
            }
            Some(Ok(())) => {
                conn.send(|out| encode(out.head(), 0, None));
            }
            Some(Err(reason)) => late::refuse(conn, &reason, askers().into_iter()),
        }
    }

    fn encode_reply(
        &self,
        out: &mut BytesMut,
        one: &Accepted<'_>,
        placements: &[Placement],
        store_host: SocketAddr,
        code: i32,
        remark: Option<&str>,
    ) {
        let placed = &placements[one.messages.clone()];
        let mut ids = smallvec::SmallVec::<[u8; 64]>::new();
        for (n, placement) in placed.iter().enumerate() {
            if n > 0 {
                ids.push(b',');
            }
            ids.extend_from_slice(id::write_offset_id(&mut [0; id::MAX_LEN], store_host, placement.log_offset));
        }
        let first = placed.first().map_or(0, |p| p.queue_offset.0);
        let fields = [
            ("msgId", Value::Text(std::str::from_utf8(&ids).unwrap_or(""))),
            ("queueId", Value::Int(one.queue_id.into())),
            ("queueOffset", Value::Int(first)),
            ("MSG_REGION", Value::Text(self.added.region())),
            ("TRACE_ON", Value::Text(self.added.trace_on())),
            ("transactionId", Value::Text(&one.checked.uniq_key)),
        ];
        let known = if one.checked.uniq_key.is_empty() {
            &fields[..5]
        } else {
            &fields[..]
        };
        encode_response_head(out, one.frame.encoding, one.frame.opaque, code, remark, known, 0);
    }
}

impl<'a> Accepted<'a> {
    /// Those of the topic it is stored in.
    fn counters(&self) -> &Arc<TopicCounters> {
        self.elsewhere.as_ref().map_or(&self.topic.counters, |place| &place.counters)
    }

    /// Appends the request's messages to the drafts.
    fn draft<'d>(&'d self, born_host: SocketAddr, store_host: SocketAddr, drafts: &mut Vec<Draft<'d>>)
    where
        'a: 'd,
    {
        let (topic, queue_id) = match &self.elsewhere {
            None => (self.header.topic, self.queue_id),
            Some(place) => (&*place.topic, place.queue_id),
        };
        let base = Draft {
            topic,
            queue_id,
            flag: self.header.flag,
            sys_flag: self.header.sys_flag | if self.topic.multi_tag { sys_flag::MULTI_TAGS } else { 0 },
            born_timestamp: self.header.born_timestamp,
            born_host,
            store_host,
            reconsume_times: self.header.reconsume_times,
            prepared_offset: 0,
            body: &[],
            properties: &[],
            added_properties: &[],
            body_crc: 0,
        };
        match &self.checked.messages {
            Messages::One { body, properties, added } => {
                drafts.push(Draft {
                    body,
                    properties,
                    added_properties: added,
                    body_crc: body_crc(body),
                    ..base
                });
            }
            Messages::Batch(body) => {
                for item in batch::items(body).flatten() {
                    drafts.push(Draft {
                        flag: item.flag,
                        body: item.body,
                        properties: item.properties,
                        body_crc: body_crc(item.body),
                        ..base
                    });
                }
            }
        }
    }
}
