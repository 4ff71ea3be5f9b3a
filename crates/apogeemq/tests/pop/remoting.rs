//! Clients of the remoting protocol.

use super::{Fate, GROUP, INVISIBLE_MS, MORE_TIME_MS, TOPIC, fate};
use client::{Client, Message, Producer};
use message::record::Record;
use message::{names, properties};
use protocol::pop::handle::{Handle, Origin};
use protocol::pop::{AckHeader, ChangeInvisibleHeader, PopHeader};
use protocol::{Frame, RequestCode};
use std::time::Duration;

/// A message that was popped.
pub(crate) struct Popped {
    pub(crate) body: String,
    topic: String,
    queue_id: i32,
    offset: i64,
    handle: String,
}

pub(crate) async fn pop(client: &Client, broker: &str, invisible_ms: i64, poll_ms: i64) -> Result<Vec<Popped>, client::Error> {
    let mut frame = Frame::request(RequestCode::PopMessage);
    let header = PopHeader {
        consumer_group: GROUP,
        topic: TOPIC,
        queue_id: -1,
        max_msg_nums: 8,
        invisible_time: invisible_ms,
        poll_time: poll_ms,
        born_time: 0,
        init_mode: 0,
        exp_type: None,
        exp: None,
        order: false,
        attempt_id: None,
        hold_for: None,
        hold_time: None,
    };
    header.encode(&mut frame.ext);
    let answer = match client.ask(broker, frame).await {
        Ok(answer) => answer,
        Err(error) if error.code().is_some() => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let text = |name| answer.ext.text(name).unwrap_or_default().to_owned();
    let number = |name| text(name).parse::<i64>().unwrap();
    let starts = text("startOffsetInfo");
    let (mut rest, mut found) = (&answer.body[..], Vec::new());
    for entry in text("msgOffsetInfo").split(';') {
        let (key, offsets) = entry.rsplit_once(' ').unwrap();
        let (origin, queue_id) = key.split_once(' ').unwrap();
        let start = starts.split(';').find_map(|start| start.strip_prefix(&format!("{key} "))).unwrap();
        for offset in offsets.split(',') {
            let record = Record::parse(rest).unwrap();
            let (offset, queue_id) = (offset.parse::<i64>().unwrap(), queue_id.parse().unwrap());
            assert_eq!((record.queue_offset.0, record.topic), (offset, TOPIC));
            let handle = Handle {
                start: start.parse().unwrap(),
                pop_time: number("popTime"),
                invisible_time: number("invisibleTime"),
                revive_queue: number("reviveQid") as i32,
                origin,
                broker: "b",
                queue_id,
                offset: Some(offset),
            };
            if let Some(own) = properties::text(record.properties, properties::POP_CK) {
                assert_eq!(Handle::parse(&own).unwrap().start, handle.start);
            }
            found.push(Popped {
                body: String::from_utf8(record.body.to_vec()).unwrap(),
                topic: match Origin::parse(origin).unwrap() {
                    Origin::Topic => TOPIC.to_owned(),
                    Origin::RetryV1 => names::pop_retry_topic(TOPIC, GROUP),
                    Origin::RetryV2 => names::pop_retry_topic_v2(TOPIC, GROUP),
                },
                queue_id,
                offset,
                handle: handle.to_string(),
            });
            rest = &rest[record.size..];
        }
    }
    Ok(found)
}

pub(crate) async fn ack(client: &Client, broker: &str, message: &Popped) -> Result<(), client::Error> {
    let mut frame = Frame::request(RequestCode::AckMessage);
    let header = AckHeader {
        consumer_group: GROUP,
        topic: &message.topic,
        queue_id: message.queue_id,
        extra_info: &message.handle,
        offset: message.offset,
        lite_topic: None,
        in_flight: None,
    };
    header.encode(&mut frame.ext);
    client.ask(broker, frame).await.map(drop)
}

async fn more_time(client: &Client, broker: &str, message: &Popped) -> Result<(), client::Error> {
    let mut frame = Frame::request(RequestCode::ChangeMessageInvisibletime);
    let header = ChangeInvisibleHeader {
        consumer_group: GROUP,
        topic: &message.topic,
        queue_id: message.queue_id,
        extra_info: &message.handle,
        offset: message.offset,
        invisible_time: MORE_TIME_MS,
        lite_topic: None,
        in_flight: None,
        suspend: true,
    };
    header.encode(&mut frame.ext);
    client.ask(broker, frame).await.map(drop)
}

/// Sends until the connection breaks; returns what was acknowledged.
pub(crate) async fn send(client: Client, queue: client::Queue, name: String) -> Vec<String> {
    let (producer, mut sent) = (Producer::new(&client, "p"), Vec::new());
    for n in 0.. {
        let body = format!("{name}-{n}");
        if producer.send_to(&queue, Message::new(TOPIC, body.clone())).await.is_err() {
            break;
        }
        sent.push(body);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    sent
}

/// Pops until the connection breaks; forgets some messages, and asks for more time for others. Returns what was acknowledged in time.
pub(crate) async fn consume(client: Client, broker: String) -> Vec<String> {
    let mut acked = Vec::new();
    loop {
        let Ok(found) = pop(&client, &broker, INVISIBLE_MS, 200).await else {
            return acked;
        };
        for (n, message) in found.into_iter().enumerate() {
            let done = match fate(n) {
                Fate::Forgotten => continue,
                Fate::Renewed => more_time(&client, &broker, &message).await.map(|()| false),
                Fate::Acknowledged => ack(&client, &broker, &message).await.map(|()| true),
            };
            match done {
                Ok(true) => acked.push(message.body),
                Ok(false) => {}
                Err(error) if error.code().is_some() => {}
                Err(_) => return acked,
            }
        }
    }
}
