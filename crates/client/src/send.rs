//! Sending: one message (310), several in one request (320), pipelined, one-way.
//!
//! Order: messages for one queue whose sends were begun one after the other are sent in that order on one connection.
//! Not here: retries and choosing another broker after a failure; the error says what the caller can do.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use message::{batch, names, properties};
use net::RequestError;
use parking_lot::Mutex;
use protocol::send::{SendHeader, SendReply};
use protocol::{Frame, RequestCode, ResponseCode};

use crate::error::OrMalformed;
use crate::{Client, Error, Queue, unique_key};

/// How long a producer caches a route.
const ROUTE_AGE: Duration = Duration::from_secs(30);
/// Maximum number of cached routes. When it is exceeded, all are dropped.
const MAX_ROUTES: usize = 10_000;
/// Number of queues if the broker creates the topic.
const DEFAULT_QUEUES: i32 = 4;

/// A message to be sent.
#[derive(Debug, Clone)]
pub struct Message {
    /// The topic.
    pub topic: String,
    /// The body.
    pub body: Bytes,
    /// The user's flag.
    pub flag: i32,
    /// Bits of [`message::sys_flag`].
    pub sys_flag: i32,
    /// Encoded properties, see [`message::properties`].
    pub properties: Vec<u8>,
}

impl Message {
    /// A message with a fresh unique key.
    pub fn new(topic: impl Into<String>, body: impl Into<Bytes>) -> Self {
        let bare = Self {
            topic: topic.into(),
            body: body.into(),
            flag: 0,
            sys_flag: 0,
            properties: Vec::new(),
        };
        bare.property(properties::UNIQ_KEY, &unique_key())
            .property(properties::WAIT, "true")
    }

    /// With a tag.
    #[must_use]
    pub fn tags(self, tags: &str) -> Self {
        self.property(properties::TAGS, tags)
    }

    /// With keys, separated by blanks, by which it can be found.
    #[must_use]
    pub fn keys(self, keys: &str) -> Self {
        self.property(properties::KEYS, keys)
    }

    /// With a property; one of that name is replaced.
    #[must_use]
    pub fn property(mut self, name: &str, value: &str) -> Self {
        let others = properties::Builder::from_bytes_without(&self.properties, &[name]);
        self.properties = others.with(name, value).build();
        self
    }

    /// The unique key, which stays the same if the message is sent again.
    pub fn unique_key(&self) -> &str {
        let key = properties::find(&self.properties, properties::UNIQ_KEY).unwrap_or_default();
        std::str::from_utf8(key).unwrap_or_default()
    }

    fn check(&self) -> Result<(), Error> {
        names::check_topic(&self.topic).map_err(|error| Error::Invalid(error.to_string()))?;
        if self.properties.len() > properties::MAX_BYTES {
            return Err(Error::Invalid(format!(
                "the properties have {} bytes, at most {} are allowed",
                self.properties.len(),
                properties::MAX_BYTES
            )));
        }
        Ok(())
    }
}

/// Durability of a stored message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// Confirmed: as durable as the broker's flush mode promises (0).
    Confirmed,
    /// Stored, but not flushed in time (10).
    NotFlushed,
    /// Stored, but not replicated in time, or there is no replica (11, 12).
    NotReplicated,
}

/// Result of a successful send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Its durability.
    pub stored: Stored,
    /// The queue it is in.
    pub queue: Queue,
    /// Its queue offset; for a batch that of the first message.
    pub offset: i64,
    /// The offset message ids, one per message.
    pub ids: Vec<String>,
    /// The unique key in the broker's answer.
    pub transaction_id: Option<String>,
    /// What [`Client::recall`](crate::Client::recall) takes; only of a message that waits for a time.
    pub recall_handle: Option<String>,
}

/// A send in flight. It resolves with the answer. Dropping it drops the answer, not the message.
pub struct Pending {
    queue: Queue,
    request: i32,
    answer: Pin<Box<dyn Future<Output = Result<Frame, RequestError>> + Send>>,
}

impl Future for Pending {
    type Output = Result<Sent, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.answer.as_mut().poll(context).map(|answer| self.sent(answer))
    }
}

impl Pending {
    fn sent(&self, answer: Result<Frame, RequestError>) -> Result<Sent, Error> {
        let address = &self.queue.address;
        let answer = answer.map_err(|reason| Error::unanswered(address, self.request, reason))?;
        let stored = match ResponseCode::try_from(answer.code) {
            Ok(ResponseCode::Success) => Stored::Confirmed,
            Ok(ResponseCode::FlushDiskTimeout) => Stored::NotFlushed,
            Ok(ResponseCode::FlushSlaveTimeout | ResponseCode::SlaveNotAvailable) => Stored::NotReplicated,
            _ => return Err(Error::of(address, self.request, &answer)),
        };
        let reply = SendReply::decode(&answer.ext).or_malformed(address)?;
        Ok(Sent {
            stored,
            queue: self.queue.with_id(reply.queue_id),
            offset: reply.queue_offset,
            ids: reply.msg_id.split(',').map(str::to_owned).collect(),
            transaction_id: reply.transaction_id.map(str::to_owned),
            recall_handle: reply.recall_handle.map(str::to_owned),
        })
    }
}

struct CachedRoute {
    queues: Vec<Queue>,
    asked: Instant,
}

/// Sends messages for a producer group.
pub struct Producer {
    pub(crate) client: Client,
    pub(crate) group: String,
    routes: Mutex<HashMap<String, CachedRoute>>,
    turn: AtomicUsize,
}

impl Producer {
    /// A producer of this group. It does not register at the broker, see [`Client::heartbeat`].
    pub fn new(client: &Client, group: impl Into<String>) -> Self {
        Self {
            client: client.clone(),
            group: group.into(),
            routes: Mutex::default(),
            turn: AtomicUsize::new(0),
        }
    }

    /// Sends to the topic's queues in turn.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn send(&self, message: Message) -> Result<Sent, Error> {
        let queue = self.next_queue(&message.topic).await?;
        self.send_to(&queue, message).await
    }

    /// Sends to a queue.
    ///
    /// # Errors
    /// Any [`Error`] except [`Error::NoRoute`].
    pub async fn send_to(&self, queue: &Queue, message: Message) -> Result<Sent, Error> {
        self.begin(queue, message).await?.await
    }

    /// Sends several messages of one topic in one request, to the topic's queues in turn.
    ///
    /// # Errors
    /// Any [`Error`]; either all messages are stored or none.
    pub async fn send_batch(&self, messages: &[Message]) -> Result<Sent, Error> {
        let topic = messages.first().map(|message| message.topic.as_str()).unwrap_or_default();
        let queue = self.next_queue(topic).await?;
        self.send_batch_to(&queue, messages).await
    }

    /// Sends several messages of one topic to a queue in one request.
    ///
    /// # Errors
    /// [`Error`] as in [`Producer::send_batch`].
    pub async fn send_batch_to(&self, queue: &Queue, messages: &[Message]) -> Result<Sent, Error> {
        let request = self.batch_request(queue, messages)?;
        self.begin_request(queue, request).await?.await
    }

    /// Sends a message without waiting for the answer, so that many can be in flight. Consecutive calls for one queue
    /// keep their order.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::Busy`], [`Error::Invalid`]; nothing was sent then.
    pub async fn begin(&self, queue: &Queue, message: Message) -> Result<Pending, Error> {
        let request = self.request(queue, &message)?;
        self.begin_request(queue, request).await
    }

    /// The writable queues of a topic, from a cache of at most 30 s.
    ///
    /// # Errors
    /// [`Error::NoRoute`], or as in [`Client::ask`].
    pub async fn queues(&self, topic: &str) -> Result<Vec<Queue>, Error> {
        if let Some(queues) = self.known(topic, <[Queue]>::to_vec) {
            return Ok(queues);
        }
        let queues = self.client.route(topic).await?.write;
        self.remember(topic, &queues);
        Ok(queues)
    }

    async fn next_queue(&self, topic: &str) -> Result<Queue, Error> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let pick = |queues: &[Queue]| (!queues.is_empty()).then(|| queues[turn % queues.len()].clone());
        let queue = match self.known(topic, pick) {
            Some(queue) => queue,
            None => pick(&self.queues(topic).await?),
        };
        queue.ok_or_else(|| Error::NoRoute {
            topic: topic.to_owned(),
            reason: "no broker has a writable queue".to_owned(),
        })
    }

    fn known<T>(&self, topic: &str, take: impl FnOnce(&[Queue]) -> T) -> Option<T> {
        let routes = self.routes.lock();
        let known = routes.get(topic).filter(|known| known.asked.elapsed() < ROUTE_AGE)?;
        Some(take(&known.queues))
    }

    fn remember(&self, topic: &str, queues: &[Queue]) {
        let mut routes = self.routes.lock();
        if routes.len() >= MAX_ROUTES {
            routes.clear();
        }
        let (queues, asked) = (queues.to_vec(), Instant::now());
        routes.insert(topic.to_owned(), CachedRoute { queues, asked });
    }

    async fn begin_request(&self, queue: &Queue, request: Frame) -> Result<Pending, Error> {
        let peer = self.client.peer(&queue.address).await.inspect_err(|_| self.forget(&queue.topic))?;
        let timeout = self.client.options().request_timeout;
        let mut pending = Pending {
            queue: queue.clone(),
            request: request.code,
            answer: Box::pin(async move { peer.request(request, timeout).await }),
        };
        // The first poll writes the request, so that later sends come after it.
        match poll_fn(|context| Poll::Ready(pending.answer.as_mut().poll(context))).await {
            Poll::Pending => Ok(pending),
            Poll::Ready(result) => {
                pending.answer = Box::pin(std::future::ready(result));
                Ok(pending)
            }
        }
    }

    /// Drops a cached route after a failure: the broker may have moved.
    fn forget(&self, topic: &str) {
        self.routes.lock().remove(topic);
    }

    fn request(&self, queue: &Queue, message: &Message) -> Result<Frame, Error> {
        message.check()?;
        let mut request = Frame::request(RequestCode::SendMessageV2).with_body(message.body.clone());
        let header = SendHeader {
            sys_flag: message.sys_flag,
            flag: message.flag,
            properties: &message.properties,
            ..self.header(queue)
        };
        header.encode_v2(&mut request.ext);
        Ok(request)
    }

    fn batch_request(&self, queue: &Queue, messages: &[Message]) -> Result<Frame, Error> {
        let mut body = Vec::new();
        for message in messages {
            message.check()?;
            if message.topic != *queue.topic {
                return Err(Error::Invalid("all messages of a batch must have the same topic".to_owned()));
            }
            let item = batch::Item {
                flag: message.flag,
                body: &message.body,
                properties: &message.properties,
            };
            batch::push(&mut body, item);
        }
        let mut request = Frame::request(RequestCode::SendBatchMessage).with_body(body);
        let wait = properties::Builder::new().with(properties::WAIT, "true").build();
        let header = SendHeader {
            properties: &wait,
            batch: true,
            ..self.header(queue)
        };
        header.encode_v2(&mut request.ext);
        Ok(request)
    }

    fn header<'a>(&'a self, queue: &'a Queue) -> SendHeader<'a> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        SendHeader {
            producer_group: &self.group,
            topic: &queue.topic,
            default_topic: names::AUTO_CREATE_TOPIC,
            default_topic_queue_nums: DEFAULT_QUEUES,
            queue_id: queue.id,
            born_timestamp: now.as_millis() as i64,
            broker_name: (!queue.broker.is_empty()).then_some(&queue.broker),
            ..SendHeader::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_keeps_one_value_for_each_property() {
        let message = Message::new("t", "x").tags("A").tags("B").keys("k1 k2");
        assert_eq!(properties::find(&message.properties, "TAGS"), Some(&b"B"[..]));
        assert_eq!(properties::iter(&message.properties).count(), 4);
        assert_eq!(message.unique_key().len(), 32);
    }

    #[test]
    fn a_message_that_every_broker_refuses_is_not_sent() {
        assert!(matches!(Message::new("no good", "x").check(), Err(Error::Invalid(_))));
        let fat = Message::new("t", "x").property("p", &"v".repeat(40_000));
        assert!(matches!(fat.check(), Err(Error::Invalid(_))));
    }
}
