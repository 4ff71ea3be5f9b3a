//! The program is killed while messages are popped and acknowledged. Each message that was sent is acknowledged by somebody in the end.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use client::{Client, Message, Producer};
use common::{DEADLINE, Home, block_on};
use message::record::Record;
use message::{names, properties};
use protocol::pop::handle::{Handle, Origin};
use protocol::pop::{AckHeader, ChangeInvisibleHeader, PopHeader};
use protocol::{Frame, RequestCode};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const TOPIC: &str = "orders";
const GROUP: &str = "workers";
const ROUNDS: usize = 4;
const SENDERS: usize = 2;
const POPPERS: usize = 3;
/// Check points are written while they are in flight, and offsets are saved often.
const SETTINGS: &str = "popCkStayBufferTime=100\nflushConsumerOffsetInterval=200\n";

/// A message that was popped.
struct Popped {
    body: String,
    topic: String,
    queue_id: i32,
    offset: i64,
    handle: String,
}

async fn pop(client: &Client, broker: &str, invisible_ms: i64, poll_ms: i64) -> Result<Vec<Popped>, client::Error> {
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

async fn ack(client: &Client, broker: &str, message: &Popped) -> Result<(), client::Error> {
    let mut frame = Frame::request(RequestCode::AckMessage);
    let header = AckHeader {
        consumer_group: GROUP,
        topic: &message.topic,
        queue_id: message.queue_id,
        extra_info: &message.handle,
        offset: message.offset,
        lite_topic: None,
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
        invisible_time: 400,
        lite_topic: None,
        suspend: true,
    };
    header.encode(&mut frame.ext);
    client.ask(broker, frame).await.map(drop)
}

/// Sends until the connection breaks; returns what was acknowledged.
async fn send(client: Client, queue: client::Queue, name: String) -> Vec<String> {
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
async fn consume(client: Client, broker: String) -> Vec<String> {
    let mut acked = Vec::new();
    loop {
        let Ok(found) = pop(&client, &broker, 500, 200).await else {
            return acked;
        };
        for (n, message) in found.into_iter().enumerate() {
            let done = match n % 5 {
                1 => continue,
                3 => more_time(&client, &broker, &message).await.map(|()| false),
                _ => ack(&client, &broker, &message).await.map(|()| true),
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

#[test]
fn killed_under_load_no_message_is_lost() {
    let home = Home::new();
    let (mut sent, mut acked) = (BTreeSet::new(), BTreeSet::new());
    for round in 0..ROUNDS {
        let mode = ["ASYNC_FLUSH", "SYNC_FLUSH"][round % 2];
        let mut running = home.start_small(mode, SETTINGS);
        block_on(async {
            if round == 0 {
                home.create_topic(TOPIC, 2).await;
            }
            let sending: Vec<_> = (0..SENDERS)
                .map(|n| tokio::spawn(send(home.client(), home.queue(TOPIC, n as i32), format!("{round}-{n}"))))
                .collect();
            let consuming: Vec<_> = (0..POPPERS).map(|_| tokio::spawn(consume(home.client(), home.broker()))).collect();
            tokio::time::sleep(Duration::from_millis(700 + round as u64 * 100)).await;
            if round == 1 {
                running.stop();
            } else {
                running.kill();
            }
            for one in sending {
                sent.extend(one.await.unwrap());
            }
            for one in consuming {
                acked.extend(one.await.unwrap());
            }
        });
    }
    assert!(
        sent.len() > 200 && acked.len() > 100,
        "only {} sent and {} acknowledged",
        sent.len(),
        acked.len()
    );
    let mut running = home.start_small("ASYNC_FLUSH", SETTINGS);
    let begun = Instant::now();
    block_on(async {
        let (client, broker) = (home.client(), home.broker());
        while sent.iter().any(|body| !acked.contains(body)) {
            let missing = sent.difference(&acked).count();
            assert!(begun.elapsed() < DEADLINE, "{missing} of {} messages are lost or stuck", sent.len());
            for message in pop(&client, &broker, 30_000, 300).await.unwrap() {
                ack(&client, &broker, &message).await.unwrap();
                acked.insert(message.body);
            }
        }
    });
    running.stop();
    println!("sent {}, acknowledged {}", sent.len(), acked.len());
}
