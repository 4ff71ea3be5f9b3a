//! How tests of a whole broker pop, acknowledge and look at what they got.

use super::*;
use message::record::Record;
use message::{names, properties};
use protocol::pop::handle::Handle;

/// A popped message.
#[derive(Clone, Debug)]
pub(super) struct Popped {
    pub(super) body: String,
    pub(super) reconsume_times: i32,
    pub(super) offset: i64,
    /// The topic and queue that acknowledgements name.
    pub(super) topic: String,
    pub(super) queue_id: i32,
    pub(super) handle: String,
}

pub(super) fn pop_frame(topic: &str, fields: &[(&str, &str)]) -> Frame {
    let mut frame = testing::frame(
        RequestCode::PopMessage,
        &[
            ("consumerGroup", "g"),
            ("topic", topic),
            ("queueId", "-1"),
            ("maxMsgNums", "32"),
            ("invisibleTime", "60000"),
            ("pollTime", "0"),
            ("bornTime", "0"),
            ("initMode", "0"),
        ],
    );
    for (name, value) in fields {
        frame.ext.remove(name);
        frame.ext.push(name, *value);
    }
    frame
}

/// The messages of an answer, with the handles that a client makes.
pub(super) fn popped(answer: &Frame) -> (ResponseCode, Vec<Popped>) {
    let code = ResponseCode::try_from(answer.code).unwrap();
    let text = |name: &str| answer.ext.text(name).unwrap_or_default().to_owned();
    // "origin queue value", by origin and queue.
    let entries = |name: &str| -> Vec<(String, String)> {
        let text = text(name);
        let entries = text.split(';').filter(|entry| !entry.is_empty());
        entries
            .map(|entry| {
                let (key, value) = entry.rsplit_once(' ').unwrap();
                (key.to_owned(), value.to_owned())
            })
            .collect()
    };
    let (starts, offsets) = (entries("startOffsetInfo"), entries("msgOffsetInfo"));
    let mut handles: Vec<(String, i64, String, i32)> = Vec::new();
    for (key, listed) in offsets {
        let start = &starts.iter().find(|(of, _)| *of == key).unwrap().1;
        let (origin, queue) = key.split_once(' ').unwrap();
        for offset in listed.split(',') {
            let handle = format!(
                "{start} {} {} {} {origin} b {queue} {offset}",
                text("popTime"),
                text("invisibleTime"),
                text("reviveQid")
            );
            handles.push((handle, offset.parse().unwrap(), origin.to_owned(), queue.parse().unwrap()));
        }
    }
    let (mut rest, mut found) = (&answer.body[..], Vec::new());
    for (handle, offset, origin, queue_id) in handles {
        let record = Record::parse(rest).unwrap();
        assert_eq!(record.queue_offset.0, offset);
        assert!(!record.topic.starts_with(names::RETRY_PREFIX));
        let own = properties::text(record.properties, properties::POP_CK);
        if origin != "0" {
            let own = own.unwrap();
            assert_eq!(Handle::parse(&own).unwrap().start, Handle::parse(&handle).unwrap().start);
        }
        found.push(Popped {
            body: String::from_utf8(record.body.to_vec()).unwrap(),
            reconsume_times: record.reconsume_times,
            offset,
            topic: match &*origin {
                "0" => record.topic.to_owned(),
                "1" => names::pop_retry_topic(record.topic, "g"),
                _ => names::pop_retry_topic_v2(record.topic, "g"),
            },
            queue_id,
            handle,
        });
        rest = &rest[record.size..];
    }
    assert!(rest.is_empty());
    (code, found)
}

pub(super) async fn pop(peer: &Peer, topic: &str, fields: &[(&str, &str)]) -> (ResponseCode, Vec<Popped>) {
    popped(&peer.request(pop_frame(topic, fields), SOON).await.unwrap())
}

/// Pops until there is a message, or too many attempts.
pub(super) async fn pop_later(peer: &Peer, topic: &str, fields: &[(&str, &str)]) -> Vec<Popped> {
    let with_poll: Vec<(&str, &str)> = fields.iter().copied().chain([("pollTime", "20000")]).collect();
    let (code, found) = pop(peer, topic, &with_poll).await;
    assert_eq!(code, ResponseCode::Success);
    found
}

pub(super) fn of_message(code: RequestCode, message: &Popped, fields: &[(&str, &str)]) -> Frame {
    let (queue_id, offset) = (message.queue_id.to_string(), message.offset.to_string());
    let all: Vec<(&str, &str)> = [
        ("consumerGroup", "g"),
        ("topic", &message.topic),
        ("queueId", &queue_id),
        ("offset", &offset),
        ("extraInfo", &message.handle),
    ]
    .into_iter()
    .chain(fields.iter().copied())
    .collect();
    testing::frame(code, &all)
}

pub(super) async fn ack(peer: &Peer, message: &Popped) -> ResponseCode {
    ask(peer, of_message(RequestCode::AckMessage, message, &[])).await
}

pub(super) async fn send_bodies(peer: &Peer, topic: &str, bodies: &[&str]) {
    for body in bodies {
        let mut frame = send(topic, true);
        frame.body = body.as_bytes().to_vec().into();
        assert_eq!(ask(peer, frame).await, ResponseCode::Success);
    }
}

pub(super) fn bodies(messages: &[Popped]) -> Vec<&str> {
    messages.iter().map(|message| &*message.body).collect()
}

pub(super) fn committed(broker: &Broker, topic: &str) -> Option<i64> {
    broker.routes.core.offsets.committed(topic, "g", 0)
}

pub(super) fn named(settings: &mut BrokerSettings) {
    settings.broker_name = "b".to_owned();
}
