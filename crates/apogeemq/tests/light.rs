//! Light queues (`%LMQ%…`) of a server: messages sent with INNER_MULTI_DISPATCH or to lite topics are pulled from them, parked pulls
//! are woken, offsets are kept, and nothing acknowledged is missing in one after a kill.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use client::{Client, Message, Outcome, Producer, PullOptions, Puller};
use common::wire::Wire;
use common::{Home, block_on};
use message::properties;
use protocol::Encoding;
use std::collections::BTreeMap;
use std::time::Duration;

const TOPIC: &str = "devices";
const LIGHT: &str = "enableLmq=true\nenableMultiDispatch=true\n";
const ROUNDS: usize = 3;
const WORKERS: usize = 4;
const QUEUES: usize = 50;

fn name(queue: usize) -> String {
    format!("%LMQ%device-{queue}")
}

/// Bodies of a light queue, in order.
async fn pulled(home: &Home, queue: &str) -> Vec<String> {
    let client = home.client();
    let (puller, queue) = (Puller::new(&client, "%LMQ%reader"), home.queue(queue, 0));
    let (mut found, mut at) = (Vec::new(), 0);
    loop {
        let pulled = puller.pull(&queue, at, &PullOptions::default()).await.unwrap();
        if pulled.outcome != Outcome::Found {
            return found;
        }
        for record in pulled.records() {
            let record = record.unwrap();
            found.push(String::from_utf8(record.body.to_vec()).unwrap());
            at += 1;
        }
    }
}

/// Sends until the connection breaks. Returns the acknowledged bodies with their light queues.
async fn work(client: Client, queue: client::Queue, worker: usize, round: usize) -> Vec<(String, Vec<String>)> {
    let producer = Producer::new(&client, "writers");
    let mut sent = Vec::new();
    for n in 0.. {
        let body = format!("{round}-{worker}-{n}");
        let names = match n % 3 {
            0 => vec![name(n % QUEUES)],
            1 => vec![name(n % QUEUES), name((n + 1) % QUEUES)],
            _ => vec![name(worker), name(worker + WORKERS), name(n % 7)],
        };
        let message = Message::new(TOPIC, body.clone()).property(properties::INNER_MULTI_DISPATCH, &names.join(","));
        if producer.send_to(&queue, message).await.is_err() {
            return sent;
        }
        sent.push((body, names));
    }
    sent
}

#[test]
fn what_was_acknowledged_is_once_in_each_light_queue_after_kills() {
    for flush in ["SYNC_FLUSH", "ASYNC_FLUSH"] {
        let home = Home::new();
        let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for round in 0..ROUNDS {
            let running = home.start_small(flush, LIGHT);
            let sent = block_on(async {
                if round == 0 {
                    home.create_topic(TOPIC, 1).await;
                }
                let mut workers = tokio::task::JoinSet::new();
                for worker in 0..WORKERS {
                    workers.spawn(work(home.client(), home.queue(TOPIC, 0), worker, round));
                }
                tokio::time::sleep(Duration::from_millis(600)).await;
                running.kill();
                workers.join_all().await.into_iter().flatten().collect::<Vec<_>>()
            });
            assert!(!sent.is_empty(), "nothing was sent");
            for (body, mut names) in sent {
                names.sort();
                names.dedup();
                for name in names {
                    expected.entry(name).or_default().push(body.clone());
                }
            }
        }
        for clean in [false, true] {
            let mut running = home.start_small(flush, LIGHT);
            for (name, expected) in &expected {
                let found = block_on(pulled(&home, name));
                for body in expected {
                    let times = found.iter().filter(|found| *found == body).count();
                    assert_eq!(times, 1, "{flush}, clean: {clean}: {body} in {name}");
                }
            }
            running.stop();
            let mut check = common::apogeemq(&home.path("."));
            let checked = check.args(["store", "check", "data", "-c", "broker.conf", "-q"]).output().unwrap();
            assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
        }
        let mut export = common::apogeemq(&home.path("."));
        let exported = export
            .args(["store", "export-light", "data", "-c", "broker.conf"])
            .output()
            .unwrap();
        assert!(exported.status.success(), "{exported:?}");
        assert!(home.path(&format!("data/consumequeue/{}/0", name(0))).is_dir());
        let mut running = home.start_small(flush, LIGHT);
        let (name, bodies) = expected.first_key_value().unwrap();
        assert!(
            block_on(pulled(&home, name)).len() >= bodies.len(),
            "it came back from the files of a Java broker"
        );
        running.stop();
    }
}

#[test]
fn a_lite_topic_is_a_light_queue_and_wakes_a_parked_pull() {
    let home = Home::new();
    let mut running = home.start_small("ASYNC_FLUSH", LIGHT);
    block_on(async {
        home.create_topic(TOPIC, 1).await;
        let (client, other) = (home.client(), home.client());
        let queue = home.queue("%LMQ%$devices$sensor", 0);
        let waits = PullOptions {
            wait: Duration::from_secs(20),
            ..PullOptions::default()
        };
        let puller = Puller::new(&client, "%LMQ%reader");
        let producer = Producer::new(&other, "writers");
        let message = Message::new(TOPIC, "21.5").property(properties::LITE_TOPIC, "sensor");
        let devices = home.queue(TOPIC, 0);
        let send = async {
            // Whether the pull is parked before or not, it gets the message.
            tokio::time::sleep(Duration::from_millis(50)).await;
            producer.send_to(&devices, message).await.unwrap()
        };
        let (pulled, _) = tokio::join!(puller.pull(&queue, 0, &waits), send);
        let pulled = pulled.unwrap();
        assert_eq!(pulled.outcome, Outcome::Found);
        let record = pulled.records().next().unwrap().unwrap();
        let text = |name| properties::text(record.properties, name).unwrap().into_owned();
        assert_eq!((record.topic, record.body), (TOPIC, &b"21.5"[..]));
        assert_eq!(text(properties::INNER_MULTI_DISPATCH), "%LMQ%$devices$sensor");
        assert_eq!(text(properties::INNER_MULTI_QUEUE_OFFSET), "0");
    });
    running.stop();
}

#[test]
fn offsets_of_light_queues_are_kept_where_a_java_broker_keeps_them() {
    let home = Home::new();
    let commit = |wire: &mut Wire, group: &[u8], topic: &[u8], offset: &[u8]| {
        let fields: [(&[u8], &[u8]); 4] = [
            (b"consumerGroup", group),
            (b"topic", topic),
            (b"queueId", b"0"),
            (b"commitOffset", offset),
        ];
        assert_eq!(wire.ask(Encoding::Binary, 15, &fields, b"").code, 0);
    };
    let query = |wire: &mut Wire, group: &[u8], topic: &[u8]| {
        let fields: [(&[u8], &[u8]); 3] = [(b"consumerGroup", group), (b"topic", topic), (b"queueId", b"0")];
        let answer = wire.ask(Encoding::Binary, 14, &fields, b"");
        answer.ext.require_text("offset").unwrap().to_owned()
    };
    let mut running = home.start_small("ASYNC_FLUSH", LIGHT);
    block_on(home.create_topic(TOPIC, 1));
    let mut wire = Wire::to(&home.broker());
    commit(&mut wire, b"%LMQ%reader", b"%LMQ%a", b"7");
    commit(&mut wire, b"CID_ONSAPI_PULL", b"%LMQ%a", b"8");
    commit(&mut wire, b"CID_ONSAPI_PULL", TOPIC.as_bytes(), b"9");
    running.stop();
    let saved = |name: &str| std::fs::read_to_string(home.path(&format!("data/config/{name}"))).unwrap();
    let saved_light: String = saved("lmqConsumerOffset.json").split_whitespace().collect();
    assert!(
        saved_light.contains("\"lmqOffsetTable\":{\"%LMQ%a@%LMQ%reader\":7}"),
        "{saved_light}"
    );
    assert!(saved_light.contains("\"%LMQ%a@CID_ONSAPI_PULL\":{0:8}"), "{saved_light}");
    assert!(saved_light.contains("\"devices@CID_ONSAPI_PULL\":{0:9}"), "{saved_light}");
    assert!(!saved("consumerOffset.json").contains("%LMQ%"));
    let mut running = home.start_small("ASYNC_FLUSH", LIGHT);
    let mut wire = Wire::to(&home.broker());
    assert_eq!(query(&mut wire, b"%LMQ%reader", b"%LMQ%a"), "7");
    assert_eq!(query(&mut wire, b"CID_ONSAPI_PULL", b"%LMQ%a"), "8");
    assert_eq!(query(&mut wire, b"CID_ONSAPI_PULL", TOPIC.as_bytes()), "9");
    running.stop();
}

#[test]
fn a_message_that_would_create_too_many_light_queues_is_refused() {
    let home = Home::new();
    let quota = format!("{LIGHT}enableLmqQuota=true\nmaxLmqConsumeQueueNum=2\n");
    let mut running = home.start_small("ASYNC_FLUSH", &quota);
    block_on(async {
        home.create_topic(TOPIC, 1).await;
        let client = home.client();
        let (producer, queue) = (Producer::new(&client, "writers"), home.queue(TOPIC, 0));
        let send = |names: &str| producer.send_to(&queue, Message::new(TOPIC, "x").property(properties::INNER_MULTI_DISPATCH, names));
        send("%LMQ%a,%LMQ%b").await.unwrap();
        send("%LMQ%b").await.unwrap();
        let error = send("%LMQ%c").await.unwrap_err().to_string();
        assert!(error.contains("LMQ_CONSUME_QUEUE_NUM_EXCEEDED"), "{error}");
        for bad in ["orders", "%LMQ%a/b", "%LMQ%a,orders"] {
            let error = send(bad).await.unwrap_err().to_string();
            assert!(error.contains("cannot be a light queue"), "{bad}: {error}");
        }
    });
    running.stop();
}
