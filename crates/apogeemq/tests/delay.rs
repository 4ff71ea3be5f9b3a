//! The program is killed while delayed messages arrive and become due. Each is delivered, none early, none twice.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use client::{Client, Message, Outcome, Producer, PullOptions, Puller};
use common::{DEADLINE, Home, block_on};
use message::properties;
use std::collections::HashMap;
use std::time::{Duration, Instant};

const TOPIC: &str = "later";
const ROUNDS: usize = 8;
/// As configured below.
const DELAYS_MS: [i64; 3] = [1_000, 2_000, 3_000];

/// A delivered message.
struct Arrived {
    body: String,
    level: i32,
    born_ms: i64,
    stored_ms: i64,
}

const SETTINGS: &str = "messageDelayLevel=1s 2s 3s\nflushDelayOffsetInterval=1500\n";

fn delayed(body: &str, level: i32) -> Message {
    Message::new(TOPIC, body.to_owned()).property(properties::DELAY, &level.to_string())
}

/// Sends at all levels until the connection breaks; the bodies that were acknowledged, with their levels.
async fn produce(client: Client, queue: client::Queue, round: usize) -> Vec<(String, i32)> {
    let producer = Producer::new(&client, "writers");
    let mut acknowledged = Vec::new();
    for serial in 0.. {
        let (body, level) = (format!("{round}-{serial}"), serial % 3 + 1);
        if producer.send_to(&queue, delayed(&body, level)).await.is_err() {
            break;
        }
        acknowledged.push((body, level));
    }
    acknowledged
}

async fn arrived(home: &Home) -> Vec<Arrived> {
    let client = home.client();
    let (puller, queue) = (Puller::new(&client, "readers"), home.queue(TOPIC, 0));
    let (mut all, mut at) = (Vec::new(), 0);
    loop {
        let pulled = puller.pull(&queue, at, &PullOptions::default()).await.unwrap();
        if pulled.outcome != Outcome::Found {
            return all;
        }
        for record in pulled.records() {
            let record = record.unwrap();
            assert!(record.crc_matches());
            at = record.queue_offset.0 + 1;
            all.push(Arrived {
                body: String::from_utf8(record.body.to_vec()).unwrap(),
                level: properties::text(record.properties, properties::DELAY).unwrap().parse().unwrap(),
                born_ms: record.born_timestamp,
                stored_ms: record.store_timestamp,
            });
        }
    }
}

/// Waits until all these have been delivered.
async fn all_arrive(home: &Home, wanted: &HashMap<String, i32>) -> Vec<Arrived> {
    let begun = Instant::now();
    loop {
        let found = arrived(home).await;
        let missing: Vec<&String> = wanted.keys().filter(|body| !found.iter().any(|one| one.body == **body)).collect();
        if missing.is_empty() {
            return found;
        }
        assert!(
            begun.elapsed() < DEADLINE,
            "{} of {} are missing: {missing:?}",
            missing.len(),
            wanted.len()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn none_is_early_or_twice(found: &[Arrived]) {
    let mut seen = HashMap::new();
    for one in found {
        let waited = one.stored_ms - one.born_ms;
        assert!(waited >= DELAYS_MS[one.level as usize - 1], "{} came after {waited} ms", one.body);
        *seen.entry(one.body.as_str()).or_insert(0) += 1;
    }
    let twice: Vec<_> = seen.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "delivered more than once: {twice:?}");
}

#[test]
fn killed_under_delay_load_it_delivers_each_message_once_and_none_early() {
    let home = Home::new();
    let mut wanted: HashMap<String, i32> = HashMap::new();
    for round in 0..ROUNDS {
        let running = home.start_small(["ASYNC_FLUSH", "SYNC_FLUSH"][round % 2], SETTINGS);
        block_on(async {
            if round == 0 {
                home.create_topic(TOPIC, 1).await;
            }
            let sending = tokio::spawn(produce(home.client(), home.queue(TOPIC, 0), round));
            // Long enough that earlier messages become due around the kill, with and without a save in between.
            tokio::time::sleep(Duration::from_millis(300 + round as u64 * 211)).await;
            running.kill();
            wanted.extend(sending.await.unwrap());
        });
    }
    let _running = home.start_small("ASYNC_FLUSH", SETTINGS);
    block_on(async {
        let found = all_arrive(&home, &wanted).await;
        none_is_early_or_twice(&found);
        assert!(wanted.len() > ROUNDS * 10, "only {} messages", wanted.len());
    });
}

#[test]
fn messages_that_become_due_while_it_is_stopped_are_delivered_after_the_start() {
    let home = Home::new();
    let mut running = home.start_small("ASYNC_FLUSH", SETTINGS);
    block_on(async {
        home.create_topic(TOPIC, 1).await;
        let client = home.client();
        let producer = Producer::new(&client, "writers");
        for level in 1..=3 {
            producer
                .send_to(&home.queue(TOPIC, 0), delayed(&format!("{level}"), level))
                .await
                .unwrap();
        }
    });
    running.stop();
    let saved = std::fs::read_to_string(home.path("data/config/delayOffset.json")).unwrap();
    assert!(saved.contains("offsetTable"), "{saved}");
    std::thread::sleep(Duration::from_millis(2_000));
    let _running = home.start_small("ASYNC_FLUSH", SETTINGS);
    block_on(async {
        let wanted = (1..=3).map(|level| (level.to_string(), level)).collect();
        let found = all_arrive(&home, &wanted).await;
        none_is_early_or_twice(&found);
    });
}
