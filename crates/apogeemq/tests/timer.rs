//! The program is killed while messages that wait for a time are sent, recalled and delivered. Each comes once, and none early.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use client::{Client, Message, Outcome, Producer, PullOptions, Puller};
use common::{DEADLINE, Home, block_on};
use message::properties;
use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const TOPIC: &str = "alarms";
const ROUNDS: usize = 4;
const WORKERS: usize = 4;
/// The last message of each round is due so long after it was sent.
const LONGEST_MS: i64 = 1_500;
/// A recall that is acknowledged later than this before its message is due may come too late.
const RECALL_MARGIN_MS: i64 = 300;
/// The index is small and saved often, and what waits is written again: the window is half a second.
const SETTINGS: &str = "recallMessageEnable=true\ntimerPrecisionMs=100\ntimerRollWindowSlot=5\ntimerFlushIntervalMs=200\n\
                        mappedFileSizeTimerLog=5200\n";

/// What a producer knows of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Acknowledged,
    /// Its send or its recall was not answered.
    Asked,
    Recalled,
}

#[derive(Clone, Debug)]
struct Timer {
    body: String,
    /// It is due at this time at the earliest, epoch ms.
    due_ms: i64,
    known: Known,
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// Sends until the connection breaks, and recalls every fifth.
async fn work(client: Client, broker: String, queue: client::Queue, name: String) -> Vec<Timer> {
    let producer = Producer::new(&client, "writers");
    let mut sent = Vec::new();
    for n in 0i64.. {
        let delay_ms = n * 37 % LONGEST_MS;
        let body = format!("{name}-{n}");
        let message = Message::new(TOPIC, body.clone()).property(properties::TIMER_DELAY_MS, &delay_ms.to_string());
        let due_ms = now_ms() + delay_ms;
        let known = match producer.send_to(&queue, message).await {
            Err(_) => Known::Asked,
            Ok(answer) => match answer.recall_handle.filter(|_| n % 5 == 0) {
                None => Known::Acknowledged,
                Some(handle) => match client.recall(&broker, TOPIC, &handle).await {
                    Ok(_) if now_ms() + RECALL_MARGIN_MS < due_ms => Known::Recalled,
                    _ => Known::Asked,
                },
            },
        };
        sent.push(Timer { body, due_ms, known });
        if known == Known::Asked && client.timer_counts(&broker).await.is_err() {
            break;
        }
    }
    sent
}

/// When each message was delivered, epoch ms, however often.
async fn delivered(home: &Home) -> HashMap<String, Vec<i64>> {
    let client = home.client();
    let (puller, queue) = (Puller::new(&client, "readers"), home.queue(TOPIC, 0));
    let (mut found, mut at): (HashMap<_, Vec<i64>>, _) = (HashMap::new(), 0);
    loop {
        let pulled = puller.pull(&queue, at, &PullOptions::default()).await.unwrap();
        if pulled.outcome != Outcome::Found {
            return found;
        }
        for record in pulled.records() {
            let record = record.unwrap();
            at = record.queue_offset.0 + 1;
            let body = String::from_utf8(record.body.to_vec()).unwrap();
            found.entry(body).or_default().push(record.store_timestamp);
        }
    }
}

/// Waits until nothing waits any more.
async fn until_all_are_delivered(home: &Home, sent: &[Timer]) -> HashMap<String, Vec<i64>> {
    let begun = Instant::now();
    loop {
        let found = delivered(home).await;
        let counts = home.client().timer_counts(&home.broker()).await.unwrap();
        let missing = sent
            .iter()
            .find(|one| one.known == Known::Acknowledged && !found.contains_key(&one.body));
        let waits = counts.timing_count.values().any(|topic| topic.count > 0);
        let latest_ms = sent.iter().map(|one| one.due_ms).max().unwrap_or_default();
        if missing.is_none() && !waits && now_ms() > latest_ms {
            return found;
        }
        assert!(begun.elapsed() < DEADLINE, "not delivered: {missing:?}; {counts:?} wait");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn killed_under_load_each_timer_is_delivered_once_and_none_early() {
    let home = Home::new();
    let mut all: Vec<Timer> = Vec::new();
    for round in 0..ROUNDS {
        let mode = ["ASYNC_FLUSH", "SYNC_FLUSH"][round % 2];
        let running = home.start_small(mode, SETTINGS);
        block_on(async {
            if round == 0 {
                home.create_topic(TOPIC, 1).await;
            }
            let working: Vec<_> = (0..WORKERS)
                .map(|worker| {
                    let name = format!("{round}-{worker}");
                    tokio::spawn(work(home.client(), home.broker(), home.queue(TOPIC, 0), name))
                })
                .collect();
            // Long enough that some are delivered, some wait, and some are written again.
            tokio::time::sleep(Duration::from_millis(800 + round as u64 * 300)).await;
            running.kill();
            for one in working {
                all.extend(one.await.unwrap());
            }
        });
    }
    let mut running = home.start_small("ASYNC_FLUSH", SETTINGS);
    let found = block_on(until_all_are_delivered(&home, &all));
    running.stop();
    let running = home.start_small("ASYNC_FLUSH", SETTINGS);
    let again = block_on(until_all_are_delivered(&home, &all));
    assert_eq!(found, again, "a clean stop delivers nothing again");
    running.kill();

    let none = Vec::new();
    for one in &all {
        let times = found.get(&one.body).unwrap_or(&none);
        let is_right = match one.known {
            Known::Acknowledged => times.len() == 1,
            Known::Asked => times.len() <= 1,
            Known::Recalled => times.is_empty(),
        };
        assert!(is_right, "{one:?} was delivered at {times:?}");
        assert!(times.iter().all(|time| *time >= one.due_ms), "{one:?} was early: {times:?}");
    }
    let count = |known| all.iter().filter(|one| one.known == known).count();
    let (acknowledged, recalled) = (count(Known::Acknowledged), count(Known::Recalled));
    assert!(
        acknowledged > 100 && recalled > 10,
        "only {acknowledged} were sent and {recalled} recalled"
    );
    println!("sent {acknowledged}, recalled {recalled}, not answered {}", count(Known::Asked));
}

#[test]
fn a_dump_shows_what_is_in_the_index_and_what_is_not_yet() {
    let home = Home::new();
    let sent = ["", "timerStopEnqueue=true\n"].map(|settings| {
        let mut running = home.start_small("ASYNC_FLUSH", settings);
        let sent = block_on(async {
            home.create_topic(TOPIC, 1).await;
            let message = Message::new(TOPIC, "later".to_owned()).property(properties::TIMER_DELAY_MS, "3600000");
            let (client, queue) = (home.client(), home.queue(TOPIC, 0));
            Producer::new(&client, "writers").send_to(&queue, message).await.unwrap()
        });
        running.stop();
        sent.transaction_id
    });
    let shown = common::apogeemq(&home.path("."))
        .args(["store", "dump", "timers", "data", "-o", "json", "-c", "broker.conf"])
        .output()
        .unwrap();
    let lines: Vec<serde_json::Value> = String::from_utf8(shown.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let told: Vec<_> = lines
        .iter()
        .map(|line| [line["what"].as_str(), line["uniq_key"].as_str()])
        .collect();
    assert_eq!(
        told,
        [[Some("message"), sent[0].as_deref()], [Some("not added yet"), sent[1].as_deref()]]
    );
    let due = |line: &serde_json::Value| line["due_ms"].as_i64().unwrap();
    assert!(
        due(&lines[0]) <= due(&lines[1]) && due(&lines[1]) > now_ms() + 3_000_000,
        "{lines:?}"
    );
}
