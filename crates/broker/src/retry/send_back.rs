//! Sending back: a consumer returns a message that it could not process.
//!
//! The message is read from the log, so this is for a thread that may wait for the disk. It is done when the message is
//! as durable as a send would be (Compat: Apache does not wait for the device here), and the topic it made is known.

use super::rules::{self, DLQ_QUEUES, Fate};
use crate::core::Core;
use crate::destination::Destination;
use crate::errors::Refusal;
use crate::group::{Groups, Rule};
use crate::log_writer::{Incomplete, WaitFor};
use crate::schedule;
use crate::settings::BrokerSettings;
use crate::stats::BrokerStats;
use crate::topic::{PERM_READ, PERM_WRITE, Spec, Topic, TopicError, Topics, is_writable};
use bytes::Bytes;
use message::record::{Draft, Record};
use message::{LogOffset, names, properties};
use protocol::codes::ResponseCode;
use protocol::retry::SendBackHeader;
use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use store::{AppendError, Store, Ticket};

/// Bit of a topic's system flag: unit subscription.
const UNIT_SUBSCRIPTION: i32 = 2;

/// A message that is sent back.
#[derive(Clone, Debug)]
pub struct SendBack<'a> {
    /// The header.
    pub header: SendBackHeader<'a>,
    /// Version number of the client; clients before 3.4.9 do not send a maximum number of retries.
    pub client_version: i32,
    /// The address written into the record.
    pub store_host: SocketAddr,
    /// Epoch milliseconds.
    pub now_ms: i64,
}

/// The destination of a message that was sent back.
struct Back {
    /// Retry topic of its group.
    retry: Arc<Topic>,
    queue_id: i32,
    destination: Destination,
}

/// A message that was stored again.
struct Stored {
    ticket: Ticket,
    wait: WaitFor,
    count: Count,
}

/// Stores a message for another attempt, or in the dead letter topic. `done` is called once, here or from the thread that completes it;
/// it must not block. May block.
pub fn send_back(core: &Core, request: &SendBack<'_>, done: impl FnOnce(Result<(), Refusal>) + Send + 'static) {
    let Stored { ticket, wait, count } = match store_again(core, request) {
        Ok(Some(stored)) => stored,
        Ok(None) => return done(Ok(())),
        Err(refusal) => return done(Err(refusal)),
    };
    core.log.complete_then(ticket, wait, move |outcome| {
        if !matches!(outcome, Err(Incomplete::NotStored(_))) {
            count.count();
        }
        done(outcome.map_err(|reason| Refusal::system(reason.to_string())));
    });
}

/// [`None`] if the group has no retry queues: the message is dropped, as by Apache's broker.
fn store_again(core: &Core, request: &SendBack<'_>) -> Result<Option<Stored>, Refusal> {
    let SendBack { header, now_ms, .. } = request;
    let settings = core.settings.current();
    let rule = rule(&core.groups, &settings, header.group, *now_ms)?;
    if !is_writable(settings.broker_permission) {
        let text = format!("the broker[{}] sending message is forbidden", settings.broker_name);
        return Err(Refusal::new(ResponseCode::NoPermission, text));
    }
    if rule.retry_queue_nums <= 0 {
        return Ok(None);
    }
    let retry = retry_topic(core, header, &rule, *now_ms)?;
    let bytes = found(&core.store, header.offset)?;
    let record =
        Record::parse(&bytes).map_err(|error| Refusal::system(format!("look message by offset failed, {}: {error}", header.offset)))?;
    let max = rules::max_times(&rule, request.client_version, header.max_reconsume_times);
    let destination = match rules::fate(record.reconsume_times, max, header.delay_level) {
        Fate::Again { level } => Destination::at_level(level, &settings.message_delay_level, *now_ms),
        Fate::Dead => Destination::DeadLetter(dead_letters(&core.topics, header.group, *now_ms)?),
    };
    let back = Back {
        retry,
        queue_id: any_queue(rule.retry_queue_nums),
        destination,
    };
    append(core, request, &record, &back).map(Some)
}

/// The configuration of a group that sends messages back, created if that is allowed.
///
/// # Errors
/// `SubscriptionGroupNotExist`: there is no such group and it may not be created.
pub(crate) fn rule(groups: &Groups, settings: &BrokerSettings, group: &str, now_ms: i64) -> Result<Arc<Rule>, Refusal> {
    let auto_create = settings.auto_create_subscription_group;
    let rule = groups.find_or_create(group, auto_create, now_ms);
    rule.map_err(|error| error.into_refusal(|missing| format!("subscription group not exist, {group}: {missing}")))
}

fn retry_topic(core: &Core, header: &SendBackHeader<'_>, rule: &Rule, now_ms: i64) -> Result<Arc<Topic>, Refusal> {
    let spec = Spec {
        sys_flag: if header.unit_mode { UNIT_SUBSCRIPTION } else { 0 },
        ..Spec::new(&names::retry_topic(header.group), rule.retry_queue_nums)
    };
    let topic = core.topics.create_for_group(spec, now_ms)?;
    if !is_writable(topic.perm) {
        let text = format!("the topic[{}] sending message is forbidden", topic.name);
        return Err(Refusal::new(ResponseCode::NoPermission, text));
    }
    Ok(topic)
}

/// A group's dead letter topic, created if necessary.
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

fn append(core: &Core, request: &SendBack<'_>, record: &Record<'_>, back: &Back) -> Result<Stored, Refusal> {
    let (topic, queue_id) = back.destination.place(&back.retry.name, back.queue_id);
    let properties = match back.destination {
        Destination::Schedule { level, due_ms } => {
            let sent_back = rules::sent_back(record, level);
            schedule::waiting_properties(&sent_back, level, due_ms, &back.retry.name, back.queue_id)
        }
        _ => rules::sent_back(record, 0),
    };
    if properties.len() > properties::MAX_BYTES {
        return Err(Refusal::system(format!("PROPERTIES_SIZE_EXCEEDED: {} bytes", properties.len())));
    }
    let draft = Draft {
        topic,
        queue_id,
        store_host: request.store_host,
        reconsume_times: record.reconsume_times.saturating_add(1),
        properties: &properties,
        ..Draft::of(record)
    };
    let queue = core.log.queue(topic, queue_id);
    // After the queue was looked up, see `Topic::is_deleted`.
    let appended = if back.destination.is_deleted(&back.retry) {
        let topic = topic.to_owned();
        Err(AppendError::QueueRetired { topic, queue_id })
    } else {
        core.log.append(&[draft], &[queue], request.now_ms, &mut Vec::with_capacity(1))
    };
    // Compat: Apache's broker answers all errors of the store with SystemError.
    let ticket = appended.map_err(|error| Refusal::system(error.to_string()))?;
    let changed = core.log.changed();
    Ok(Stored {
        ticket,
        wait: WaitFor {
            flush: true,
            topics: !(back.retry.is_settled(changed) && back.destination.is_settled(changed)),
            slaves: true,
        },
        count: Count {
            stats: core.stats.clone(),
            group: request.header.group.to_owned(),
            topic: properties::text(&properties, properties::RETRY_TOPIC).map_or_else(|| record.topic.to_owned(), Cow::into_owned),
            origin: request.header.origin_topic.unwrap_or("null").to_owned(),
            bytes: draft.encoded_len() as i64,
            waits_in: matches!(back.destination, Destination::Schedule { .. }).then_some(queue_id),
        },
    })
}

/// What to count when the message is stored.
struct Count {
    stats: Arc<BrokerStats>,
    group: String,
    /// Topic of the first send.
    topic: String,
    /// Origin topic named by the client.
    origin: String,
    /// Bytes of the record.
    bytes: i64,
    /// Queue of the schedule topic; `None` for a dead letter.
    waits_in: Option<i32>,
}

impl Count {
    fn count(&self) {
        self.stats.sent_back(&self.topic, &self.group, self.bytes, self.waits_in);
        if self.waits_in.is_none() {
            self.stats.died(&self.origin, &self.group);
            tracing::info!(group = self.group, topic = self.topic, "message put into the dead letter queue");
        }
    }
}
