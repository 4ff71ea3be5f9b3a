//! Sends, and recalls of messages that wait.
//!
//! All messages of a request go to one queue and are appended together; each has an outcome of its own. The requests of a connection that
//! were read together are appended together, too: the first of them lets the others come, then stores them all.

use crate::caller::Caller;
use crate::codes::{self, Refused};
use crate::connection::Connection;
use crate::message::{Incoming, MessageRules, UNSPECIFIED, accepted, type_name};
use crate::outcome::outcome;
use crate::route::{check_topic, name_of, no_topic};
use crate::service::Messaging;
use crate::time::now_ms;
use crate::transaction::TransactionId;
use crate::v2::{
    Code, MessageType, RecallMessageRequest, RecallMessageResponse, SendMessageRequest, SendMessageResponse, SendResultEntry, Status,
};
use ::message::names;
use broker::attributes::{self, MESSAGE_TYPE};
use broker::errors::Refusal;
use broker::send::{Ending, MayBeLate, SendContext, SendRequest, SendSink, Sent};
use broker::timer::Recall;
use broker::topic::{CreateOnSend, Spec, Topic, TopicError};
use bytes::Bytes;
use parking_lot::Mutex;
use protocol::send::SendHeader;
use protocol::version;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Outcomes of the messages of a request.
#[derive(Debug)]
struct Outcomes {
    entries: Vec<Option<SendResultEntry>>,
    left: usize,
    done: Option<oneshot::Sender<()>>,
}

impl Outcomes {
    fn set(&mut self, at: usize, entry: SendResultEntry) {
        if let Some(empty @ None) = self.entries.get_mut(at) {
            *empty = Some(entry);
            self.left -= 1;
        }
        if self.left == 0
            && let Some(done) = self.done.take()
        {
            // The client may be gone.
            let _ = done.send(());
        }
    }
}

/// A request that passed its checks.
#[derive(Debug)]
pub(crate) struct Ready {
    topic: Box<str>,
    write_queues: i32,
    queue_id: i32,
    messages: Vec<(Incoming, Bytes)>,
    outcomes: Mutex<Outcomes>,
    /// Whether there are transactions among them, whose ids are told.
    have_transactions: bool,
}

/// Requests that are stored together.
#[derive(Clone)]
struct Sends(Arc<[Arc<Ready>]>);

/// The first of the requests that are read together. When it is dropped, all that came meanwhile are stored.
struct Turn<'a> {
    messaging: &'a Messaging,
    connection: &'a Connection,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let ready = self.connection.take_sends();
        self.messaging.store(ready, self.connection);
    }
}

impl Messaging {
    pub(crate) async fn send(&self, caller: &Caller, request: SendMessageRequest) -> SendMessageResponse {
        match self.sent(caller, &request).await {
            Ok(entries) => SendMessageResponse {
                status: Some(codes::of_all(entries.iter().map(|entry| entry.status.as_ref()))),
                entries,
            },
            Err(refused) => SendMessageResponse {
                status: Some(refused.into()),
                entries: Vec::new(),
            },
        }
    }

    async fn sent(&self, caller: &Caller, request: &SendMessageRequest) -> Result<Vec<SendResultEntry>, Refused> {
        let now_ms = now_ms();
        let first = request
            .messages
            .first()
            .ok_or_else(|| Refused::new(Code::MessageCorrupted, "no message to send"))?;
        let topic = name_of(first.topic.as_ref());
        check_topic(topic)?;
        if request.messages.iter().any(|message| name_of(message.topic.as_ref()) != topic) {
            return Err(Refused::new(
                Code::MessageCorrupted,
                "topic in message is not same: all messages of a request have one topic",
            ));
        }
        let incoming = self.incoming(caller, request, topic, now_ms)?;
        let found = self.typed_topic(topic, &incoming, now_ms)?;
        let queue_id = self.queue_for(&found, &incoming);
        let (done, wait) = oneshot::channel();
        let ready = Arc::new(Ready {
            topic: topic.into(),
            write_queues: found.write_queues,
            queue_id,
            outcomes: Mutex::new(Outcomes {
                entries: vec![None; incoming.len()],
                left: incoming.len(),
                done: Some(done),
            }),
            have_transactions: incoming.iter().any(|incoming| incoming.kind == MessageType::Transaction),
            messages: incoming
                .into_iter()
                .zip(request.messages.iter().map(|message| message.body.clone()))
                .collect(),
        });
        if caller.connection.add_send(Arc::clone(&ready)) {
            let turn = Turn {
                messaging: self,
                connection: &caller.connection,
            };
            tokio::task::yield_now().await;
            drop(turn);
        }
        outcome(wait).await?;
        let entries = std::mem::take(&mut ready.outcomes.lock().entries);
        Ok(entries.into_iter().flatten().collect())
    }

    /// Stores requests of one connection.
    fn store(&self, ready: Vec<Arc<Ready>>, connection: &Connection) {
        let context = SendContext {
            client: connection.peer,
            store_host: self.broker.core.store_host(connection.local),
            now_ms: now_ms(),
        };
        let most = ready.iter().map(|ready| ready.messages.len()).sum();
        let sends = Sends(ready.into());
        let requests = sends.0.iter().enumerate().flat_map(|(of, ready)| ready.requests(of));
        self.broker.sender.send(&sends, requests, most, context);
    }

    fn incoming(&self, caller: &Caller, request: &SendMessageRequest, topic: &str, now_ms: i64) -> Result<Vec<Incoming>, Refused> {
        let peer = caller.peer().to_string();
        let rules = MessageRules {
            settings: &self.settings,
            max_body_bytes: self.broker.core.settings.current().max_message_size as usize,
            peer: &peer,
            now_ms,
        };
        request.messages.iter().map(|message| Incoming::of(message, topic, rules)).collect()
    }

    /// The topic, created with the type of the first message if that is allowed.
    fn typed_topic(&self, name: &str, incoming: &[Incoming], now_ms: i64) -> Result<Arc<Topic>, Refused> {
        let kind = incoming.first().map_or(MessageType::Normal, |incoming| incoming.kind);
        let topic = self.topic_or_create(name, (kind != MessageType::Normal).then(|| type_name(kind)), now_ms)?;
        if !self.settings.enable_topic_message_type_check {
            return Ok(topic);
        }
        let attribute = topic.attributes.get(MESSAGE_TYPE).map(String::as_str);
        if attribute == Some(UNSPECIFIED) {
            self.set_type(&topic, kind, now_ms);
            return Ok(topic);
        }
        let allowed = accepted(attribute);
        let Some(wrong) = incoming.iter().find(|incoming| !allowed.contains(&incoming.kind)) else {
            return Ok(topic);
        };
        let kind = type_name(wrong.kind);
        let text = format!(
            "TopicMessageType validate failed, the expected type is {}, but actual type is {kind}: send to a topic with message.type={kind}, \
             or change this one (mqadmin updateTopic -t {name} -a +message.type={kind})",
            attribute.unwrap_or("NORMAL")
        );
        Err(Refused::new(Code::MessagePropertyConflictWithType, text))
    }

    /// The first message of a topic that a consumer created says its type.
    fn set_type(&self, topic: &Topic, kind: MessageType, now_ms: i64) {
        let changes = attributes::parse(&format!("+{MESSAGE_TYPE}={}", type_name(kind)));
        let changed = changes.map_err(TopicError::from).and_then(|changes| {
            let spec = Spec::clone(topic);
            self.broker.core.topics.update(vec![(spec, changes)], now_ms)
        });
        if let Err(error) = changed {
            tracing::warn!(topic = &*topic.name, %error, "the type of a topic's messages was not set");
        }
    }

    /// A topic, which is created if that is allowed.
    pub(crate) fn topic_or_create(&self, name: &str, message_type: Option<&str>, now_ms: i64) -> Result<Arc<Topic>, Refused> {
        let core = &self.broker.core;
        if let Some(topic) = core.topics.find(name) {
            return Ok(topic);
        }
        let settings = core.settings.current();
        let asked = CreateOnSend {
            topic: name,
            template: names::AUTO_CREATE_TOPIC,
            queues: i32::try_from(settings.default_topic_queue_nums).unwrap_or(i32::MAX),
            sys_flag: 0,
            message_type,
        };
        let created = core.topics.create_on_send(&asked, settings.auto_create_topic_enable, now_ms);
        created
            .map_err(|error| Refusal::from(error).into())
            .and_then(|topic| topic.ok_or_else(|| no_topic(name)))
    }

    /// One queue for all messages of a request; messages of one group always go to the same. Compat: Apache's proxy chooses the same queue.
    fn queue_for(&self, topic: &Topic, incoming: &[Incoming]) -> i32 {
        let queues = topic.write_queues.max(1);
        match incoming {
            [one] if one.group_hash.is_some() => bucket(i64::from(one.group_hash.unwrap_or(0)), queues),
            // The broker chooses.
            [_] => -1,
            _ => (self.next_queue.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % queues as u32) as i32,
        }
    }

    pub(crate) async fn recall(&self, caller: &Caller, request: RecallMessageRequest) -> RecallMessageResponse {
        match self.recalled(caller, &request).await {
            Ok(message_id) => RecallMessageResponse {
                status: Some(codes::ok()),
                message_id,
            },
            Err(refused) => RecallMessageResponse {
                status: Some(refused.into()),
                message_id: String::new(),
            },
        }
    }

    async fn recalled(&self, caller: &Caller, request: &RecallMessageRequest) -> Result<String, Refused> {
        let topic = name_of(request.topic.as_ref());
        check_topic(topic)?;
        let (done, recalled) = oneshot::channel();
        let recall = Recall {
            topic,
            handle: &request.recall_handle,
            producer_group: topic,
            client: caller.peer(),
            store_host: self.broker.core.store_host(caller.local()),
            now_ms: now_ms(),
        };
        self.broker.timers.recall(recall, move |outcome| {
            let _ = done.send(outcome);
        });
        Ok(outcome(recalled).await??)
    }
}

/// The bucket of a hash, as Guava's consistent hash with a linear congruential generator has it.
fn bucket(hash: i64, buckets: i32) -> i32 {
    const FACTOR: i64 = 2_862_933_555_777_941_757;
    let mut state = hash;
    let mut candidate = 0;
    loop {
        state = state.wrapping_mul(FACTOR).wrapping_add(1);
        let draw = f64::from((((state as u64) >> 33) as i32).wrapping_add(1)) / f64::from(1_u32 << 31);
        let next = (f64::from(candidate + 1) / draw) as i32;
        if !(0..buckets).contains(&next) {
            return candidate;
        }
        candidate = next;
    }
}

fn refused_entry(refused: Refused) -> SendResultEntry {
    SendResultEntry {
        status: Some(refused.into()),
        ..SendResultEntry::default()
    }
}

impl Ready {
    /// Its messages as the broker takes them; it is the request of this number.
    fn requests(&self, of: usize) -> impl Iterator<Item = SendRequest<'_, Place>> {
        self.messages.iter().enumerate().map(move |(at, (incoming, body))| SendRequest {
            header: SendHeader {
                producer_group: &self.topic,
                topic: &self.topic,
                default_topic: names::AUTO_CREATE_TOPIC,
                default_topic_queue_nums: self.write_queues,
                queue_id: self.queue_id,
                sys_flag: incoming.sys_flag,
                born_timestamp: incoming.born_ms,
                properties: &incoming.properties,
                reconsume_times: incoming.reconsume_times,
                ..SendHeader::default()
            },
            is_batch: false,
            body,
            client_version: version::V5_0_0,
            asker: Place { of, at },
        })
    }

    fn stored(&self, sent: &Sent<'_>) -> SendResultEntry {
        let place = sent.placements.first();
        let id = |place| TransactionId::of(place, sent.uniq_key).to_string();
        SendResultEntry {
            status: Some(codes::ok()),
            message_id: sent.uniq_key.to_owned(),
            transaction_id: place.filter(|_| self.have_transactions).map(id).unwrap_or_default(),
            offset: place.map_or(0, |place| place.queue_offset.0),
            recall_handle: sent.recall_handle.clone().unwrap_or_default(),
        }
    }
}

/// A message among requests that are stored together: the number of its request, and its own in it.
#[derive(Clone, Copy, Debug)]
struct Place {
    of: usize,
    at: usize,
}

impl Sends {
    fn set(&self, place: Place, entry: SendResultEntry) {
        self.0[place.of].outcomes.lock().set(place.at, entry);
    }
}

impl SendSink for Sends {
    type Asker = Place;

    fn wants_answer(_: Place) -> bool {
        true
    }

    fn refuse(&self, place: Place, refusal: Refusal) {
        self.set(place, refused_entry(refusal.into()));
    }

    fn answer<'s>(&self, sent: impl Iterator<Item = (Place, Sent<'s>)>) {
        sent.for_each(|(place, sent)| self.set(place, self.0[place.of].stored(&sent)));
    }

    fn answer_later<'s>(
        &self,
        sent: impl Iterator<Item = (Place, Sent<'s>)> + Clone,
        _: MayBeLate,
    ) -> impl FnOnce(Ending<'_>) + Send + 'static {
        let sends = self.clone();
        let stored: Vec<(Place, SendResultEntry)> = sent.map(|(place, sent)| (place, self.0[place.of].stored(&sent))).collect();
        move |ending| {
            let failure: Option<Status> = match ending {
                Ending::Done => None,
                Ending::TimedOut => {
                    let text = "the message is stored, but was not on the device within syncFlushTimeout";
                    Some(Refused::new(Code::MasterPersistenceTimeout, text).into())
                }
                Ending::NotCopied => {
                    let text = "the message is stored on the master, but slaves did not acknowledge it within slaveTimeout";
                    Some(Refused::new(Code::SlavePersistenceTimeout, text).into())
                }
                Ending::Failed(reason) => Some(Refused::new(Code::InternalServerError, reason.to_string()).into()),
            };
            for (place, entry) in stored {
                let entry = failure.clone().map_or(entry, |status| SendResultEntry {
                    status: Some(status),
                    ..SendResultEntry::default()
                });
                sends.set(place, entry);
            }
        }
    }

    fn fail(&self, askers: impl Iterator<Item = Place>, reason: &str) {
        askers.for_each(|place| self.set(place, refused_entry(Refused::new(Code::InternalServerError, reason))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_a_group_go_to_the_queue_that_apaches_proxy_chooses() {
        // Computed with Guava 32.
        let known = [
            (0, 1, 0),
            (0, 8, 0),
            (1, 8, 6),
            (98, 8, 5),
            (-5, 8, 5),
            (i64::from(i32::MAX), 16, 9),
            (i64::from(i32::MIN), 16, 2),
            (98_629_247, 4, 0),
        ];
        for (hash, buckets, expected) in known {
            assert_eq!(bucket(hash, buckets), expected, "{hash} {buckets}");
        }
        let moved = (0..1_000).filter(|hash| bucket(*hash, 8) != bucket(*hash, 9)).count();
        assert!((50..200).contains(&moved), "few of them move when a queue is added: {moved}");
    }
}
