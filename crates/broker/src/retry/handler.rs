//! Code 36: a consumer gives a message back.
//!
//! The message is read from the log, so this is for a thread that may wait for the disk. The answer leaves when the message is
//! as durable as a send would be (Compat: Apache does not wait for the device here), and the topic it made is known.

use super::rules::{self, DLQ_QUEUES, Fate};
use crate::destination::Destination;
use crate::errors::Refusal;
use crate::group::{Groups, Rule};
use crate::log_writer::{Incomplete, LogWriter, WaitFor};
use crate::reply::{Answer, Reply};
use crate::schedule;
use crate::settings::BrokerSettings;
use crate::stats::BrokerStats;
use crate::topic::{PERM_READ, PERM_WRITE, Spec, Topic, TopicError, Topics, is_writable};
use bytes::Bytes;
use message::record::{Draft, Record};
use message::{LogOffset, names, properties};
use protocol::codes::ResponseCode;
use protocol::frame::Frame;
use protocol::retry::SendBackHeader;
use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use store::{AppendError, Store};

/// Bit of a topic's system flag: its subscribers are units.
const UNIT_SUBSCRIPTION: i32 = 2;
/// About how large an answer is.
const ANSWER_BYTES: usize = 512;

/// What giving back needs.
pub struct GivingBack<'a> {
    /// Has the message.
    pub store: &'a Store,
    /// Takes it again.
    pub log: &'a LogWriter,
    /// Has the group's retry and dead letter topics, or gets them.
    pub topics: &'a Topics,
    /// Says how often the group may fail.
    pub groups: &'a Groups,
    /// Who may send at all.
    pub settings: &'a BrokerSettings,
    /// Counts.
    pub stats: &'a Arc<BrokerStats>,
    /// The address written into the record.
    pub store_host: SocketAddr,
    /// Epoch milliseconds.
    pub now_ms: i64,
}

/// Where a message that was given back goes.
struct Back {
    /// Its group's retry topic.
    retry: Arc<Topic>,
    queue_id: i32,
    destination: Destination,
}

/// Code 36. The answer is sent from whatever thread completes it.
pub fn give_back(request: &Frame, with: &GivingBack<'_>, reply: &Reply) {
    if let Err(refusal) = try_give_back(request, with, reply) {
        reply.send(Err(refusal));
    }
}

fn try_give_back(request: &Frame, with: &GivingBack<'_>, reply: &Reply) -> Result<(), Refusal> {
    let header = SendBackHeader::decode(&request.ext)?;
    let rule = rule(with.groups, with.settings, header.group, with.now_ms)?;
    if !is_writable(with.settings.broker_permission) {
        let text = format!("the broker[{}] sending message is forbidden", with.settings.broker_name);
        return Err(Refusal::new(ResponseCode::NoPermission, text));
    }
    if rule.retry_queue_nums <= 0 {
        reply.send(Ok(Answer::ok()));
        return Ok(());
    }
    let retry = retry_topic(with, &header, &rule)?;
    let bytes = found(with.store, header.offset)?;
    let record =
        Record::parse(&bytes).map_err(|error| Refusal::system(format!("look message by offset failed, {}: {error}", header.offset)))?;
    let max = rules::max_times(&rule, request.version, header.max_reconsume_times);
    let destination = match rules::fate(record.reconsume_times, max, header.delay_level) {
        Fate::Again { level } => Destination::at_level(level, &with.settings.message_delay_level, with.now_ms),
        Fate::Dead => Destination::DeadLetter(dead_letters(with.topics, header.group, with.now_ms)?),
    };
    let back = Back {
        retry,
        queue_id: any_queue(rule.retry_queue_nums),
        destination,
    };
    store_again(&record, &back, &header, with, reply)
}

/// The rule of a group whose messages are given back, made if that is allowed.
///
/// # Errors
/// There is no such group.
pub(crate) fn rule(groups: &Groups, settings: &BrokerSettings, group: &str, now_ms: i64) -> Result<Arc<Rule>, Refusal> {
    let auto_create = settings.auto_create_subscription_group;
    let rule = groups.find_or_create(group, auto_create, now_ms);
    rule.map_err(|error| error.into_refusal(|missing| format!("subscription group not exist, {group}: {missing}")))
}

fn retry_topic(with: &GivingBack<'_>, header: &SendBackHeader<'_>, rule: &Rule) -> Result<Arc<Topic>, Refusal> {
    let spec = Spec {
        sys_flag: if header.unit_mode { UNIT_SUBSCRIPTION } else { 0 },
        ..Spec::new(&names::retry_topic(header.group), rule.retry_queue_nums)
    };
    let topic = with.topics.create_for_group(spec, with.now_ms)?;
    if !is_writable(topic.perm) {
        let text = format!("the topic[{}] sending message is forbidden", topic.name);
        return Err(Refusal::new(ResponseCode::NoPermission, text));
    }
    Ok(topic)
}

/// A group's dead letter topic, made if it is not there.
pub(crate) fn dead_letters(topics: &Topics, group: &str, now_ms: i64) -> Result<Arc<Topic>, TopicError> {
    let spec = Spec {
        perm: PERM_READ | PERM_WRITE,
        ..Spec::new(&names::dlq_topic(group), DLQ_QUEUES)
    };
    topics.create_for_group(spec, now_ms)
}

fn found(store: &Store, offset: i64) -> Result<Bytes, Refusal> {
    let record = store.message_at(LogOffset(offset));
    record.map_err(|error| Refusal::system(format!("look message by offset failed, {offset}: {error}")))
}

fn any_queue(queues: i32) -> i32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    (NEXT.fetch_add(1, Relaxed) % queues.max(1) as u32) as i32
}

fn store_again(record: &Record<'_>, back: &Back, header: &SendBackHeader<'_>, with: &GivingBack<'_>, reply: &Reply) -> Result<(), Refusal> {
    let (topic, queue_id) = back.destination.place(&back.retry.name, back.queue_id);
    let properties = match back.destination {
        Destination::Schedule { level, due_ms } => {
            let given_back = rules::given_back(record, level);
            schedule::waiting_properties(&given_back, level, due_ms, &back.retry.name, back.queue_id)
        }
        Destination::Topic | Destination::DeadLetter(_) => rules::given_back(record, 0),
    };
    if properties.len() > properties::MAX_BYTES {
        return Err(Refusal::system(format!("PROPERTIES_SIZE_EXCEEDED: {} bytes", properties.len())));
    }
    let draft = Draft {
        topic,
        queue_id,
        store_host: with.store_host,
        reconsume_times: record.reconsume_times.saturating_add(1),
        properties: &properties,
        ..Draft::of(record)
    };
    let queue = with.log.queue(topic, queue_id);
    // Asked after the queue was taken: see `Topic::is_deleted`.
    let appended = if back.destination.is_deleted(&back.retry) {
        let topic = topic.to_owned();
        Err(AppendError::QueueRetired { topic, queue_id })
    } else {
        with.log.append(&[draft], &[queue], with.now_ms, &mut Vec::with_capacity(1))
    };
    // Compat: whatever the store says, Apache answers with its catch-all code.
    let ticket = appended.map_err(|error| Refusal::system(error.to_string()))?;
    let count = Count {
        stats: Arc::clone(with.stats),
        group: header.group.to_owned(),
        topic: properties::text(&properties, properties::RETRY_TOPIC).map_or_else(|| record.topic.to_owned(), Cow::into_owned),
        origin: header.origin_topic.unwrap_or("null").to_owned(),
        bytes: draft.encoded_len() as i64,
        waits_in: matches!(back.destination, Destination::Schedule { .. }).then_some(queue_id),
    };
    let changed = with.log.changed();
    let wait = WaitFor {
        flush: true,
        topics: !(back.retry.is_settled(changed) && back.destination.is_settled(changed)),
    };
    let (answer, owed) = (reply.clone(), reply.connection().owe(ANSWER_BYTES));
    with.log.complete_then(ticket, wait, move |outcome| {
        if !matches!(outcome, Err(Incomplete::NotStored(_))) {
            count.count();
        }
        answer.send(outcome.map(|()| Answer::ok()).map_err(|reason| Refusal::system(reason.to_string())));
        drop(owed);
    });
    Ok(())
}

/// What is counted when the message is stored.
struct Count {
    stats: Arc<BrokerStats>,
    group: String,
    /// Where the message was first.
    topic: String,
    /// Where the client says it came from.
    origin: String,
    /// Bytes of the record.
    bytes: i64,
    /// The queue of the schedule topic; `None` when it went to the dead letter queue.
    waits_in: Option<i32>,
}

impl Count {
    fn count(&self) {
        self.stats.given_back(&self.topic, &self.group, self.bytes, self.waits_in);
        if self.waits_in.is_none() {
            self.stats.died(&self.origin, &self.group);
            tracing::info!(group = self.group, topic = self.topic, "message put into the dead letter queue");
        }
    }
}
