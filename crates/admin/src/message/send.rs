//! Sending: one message, or many for measuring round trips.

use std::time::{Duration, Instant};

use client::{Message, Producer, Queue, Sent, Stored};
use message::sys_flag;
use serde::Serialize;

use crate::message::{query, trace};
use crate::{Cluster, Error, Steps, time};

/// Content of bodies of a given size.
const FILLER: u8 = b'a';
/// Producer group for sending stored messages again.
const RESEND_GROUP: &str = "ReSendMsgById";

/// A message to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draft<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The body.
    pub body: &'a str,
    /// Keys, separated by blanks.
    pub keys: Option<&'a str>,
    /// The tag.
    pub tags: Option<&'a str>,
    /// Broker name and queue; without it, all queues in turn.
    pub queue: Option<(&'a str, i32)>,
    /// Whether to write a trace to the trace topic.
    pub traced: bool,
}

/// A message that was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SentMessage {
    /// The broker's name.
    pub broker: String,
    /// The queue.
    pub queue_id: i32,
    /// Its queue offset.
    pub queue_offset: i64,
    /// Its durability, as Apache's send status.
    pub status: &'static str,
    /// The id that its producer knows.
    pub msg_id: String,
    /// The id that says where it is stored.
    pub offset_msg_id: String,
}

/// Round trips of sends.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RoundTrips {
    /// One per send.
    pub sends: Vec<RoundTrip>,
    /// Number of successful sends.
    pub succeeded: usize,
    /// Number of failed sends.
    pub failed: usize,
    /// The mean over all but the first, which opens the connection, ms.
    pub average_ms: f64,
}

/// A step is a send.
impl Steps for RoundTrips {
    fn failed_of(&self) -> (usize, usize) {
        (self.failed, self.sends.len())
    }
}

/// Round trip of a send.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RoundTrip {
    /// The broker's name.
    pub broker: String,
    /// The queue.
    pub queue_id: i32,
    /// From the request to its answer, ms.
    pub ms: f64,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Sends a message.
///
/// # Errors
/// [`Error`] if the topic or the broker is unknown, or the broker refuses.
pub async fn send(cluster: &Cluster, draft: &Draft<'_>) -> Result<SentMessage, Error> {
    let mut message = Message::new(draft.topic, draft.body.to_owned());
    message = draft.keys.into_iter().fold(message, |message, keys| message.keys(keys));
    message = draft.tags.into_iter().fold(message, |message, tags| message.tags(tags));
    let msg_id = message.unique_key().to_owned();
    let group = time::now_ms().to_string();
    let producer = Producer::new(cluster.client(), &group);
    let begun = Instant::now();
    let sent = match draft.queue {
        Some((broker, id)) => {
            let queue = cluster.queue(draft.topic, broker, id).await?;
            producer.send_to(&queue, message).await?
        }
        None => producer.send(message).await?,
    };
    let (took, queue) = (begun.elapsed(), sent.queue.clone());
    let sent = sent_message(&sent, msg_id);
    if draft.traced {
        trace::publish(cluster, draft, &group, took, &sent, &queue).await?;
    }
    Ok(sent)
}

/// Sends a copy of a stored message.
///
/// # Errors
/// [`Error`] if it is not found, or the broker refuses.
pub async fn resend(cluster: &Cluster, topic: &str, msg_id: &str, via: Option<&str>) -> Result<SentMessage, Error> {
    let stored = query::stored_by_id(cluster, topic, msg_id, via).await?;
    let record = query::first(&stored)?;
    let message = Message {
        topic: record.topic.to_owned(),
        body: record.body.to_vec().into(),
        flag: record.flag,
        // The body is sent as stored, compressed or not.
        sys_flag: record.sys_flag & (sys_flag::COMPRESSED | sys_flag::COMPRESSION_TYPE_MASK),
        properties: record.properties.to_vec(),
    };
    let key = message.unique_key().to_owned();
    let sent = Producer::new(cluster.client(), RESEND_GROUP).send(message).await?;
    let msg_id = if key.is_empty() { msg_id.to_owned() } else { key };
    Ok(sent_message(&sent, msg_id))
}

fn sent_message(sent: &Sent, msg_id: String) -> SentMessage {
    SentMessage {
        broker: sent.queue.broker.to_string(),
        queue_id: sent.queue.id,
        queue_offset: sent.offset,
        status: status(sent.stored),
        msg_id,
        offset_msg_id: sent.ids.first().cloned().unwrap_or_default(),
    }
}

fn status(stored: Stored) -> &'static str {
    match stored {
        Stored::Confirmed => "SEND_OK",
        Stored::NotFlushed => "FLUSH_DISK_TIMEOUT",
        Stored::NotReplicated => "SLAVE_NOT_AVAILABLE",
    }
}

/// Sends `amount` messages of `size` bytes one after the other to the topic's queues in turn, and measures each.
///
/// # Errors
/// [`Error`] if the topic is unknown or has no writable queue. Failures at brokers are in the result.
pub async fn round_trips(cluster: &Cluster, topic: &str, amount: usize, size: usize) -> Result<RoundTrips, Error> {
    let producer = Producer::new(cluster.client(), time::now_ms().to_string());
    let queues = producer.queues(topic).await?;
    if queues.is_empty() {
        return Err(Error::NotFound(format!("topic {topic} has no writable queue")));
    }
    let body = vec![FILLER; size];
    let mut sends = Vec::new();
    for queue in queues.iter().cycle().take(amount) {
        sends.push(round_trip(&producer, queue, Message::new(topic, body.clone())).await);
    }
    Ok(summed(sends))
}

async fn round_trip(producer: &Producer, queue: &Queue, message: Message) -> RoundTrip {
    let begun = Instant::now();
    let outcome = producer.send_to(queue, message).await;
    RoundTrip {
        broker: queue.broker.to_string(),
        queue_id: queue.id,
        ms: ms(begun.elapsed()),
        error: outcome.err().map(|error| error.to_string()),
    }
}

fn summed(sends: Vec<RoundTrip>) -> RoundTrips {
    let failed = sends.iter().filter(|send| send.error.is_some()).count();
    let counted = sends.get(1..).unwrap_or_default();
    let total: f64 = counted.iter().map(|send| send.ms).sum();
    RoundTrips {
        succeeded: sends.len() - failed,
        failed,
        average_ms: if counted.is_empty() { 0.0 } else { total / counted.len() as f64 },
        sends,
    }
}

fn ms(elapsed: Duration) -> f64 {
    elapsed.as_micros() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_send_does_not_count_for_the_average() {
        let send = |ms| RoundTrip {
            broker: "b".to_owned(),
            queue_id: 0,
            ms,
            error: None,
        };
        let trips = summed(vec![send(100.0), send(1.0), send(3.0)]);
        assert_eq!((trips.succeeded, trips.failed, trips.average_ms), (3, 0, 2.0));
        assert_eq!(summed(vec![send(5.0)]).average_ms, 0.0);
    }
}
