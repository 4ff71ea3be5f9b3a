//! The program is killed repeatedly under load, and stopped with SIGTERM: everything that it acknowledged is there.
//!
//! Each queue has one producer on its own connection, which records every answer. A reader of the whole broker then
//! looks for the recorded messages at their offsets, in the order in which they were sent.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use client::{Client, Error, Message, Outcome, Pending, Producer, PullOptions, Puller, Queue, Stored};
use common::{Home, Running, block_on};
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

const TOPIC: &str = "orders";
const GROUP: &str = "readers";
const QUEUES: i32 = 4;
/// How often it is killed, unless `KILL_ROUNDS` is set: `KILL_ROUNDS=500 cargo test -p apogeemq --test kill under_load`.
const ROUNDS: usize = 50;
/// Sends of one producer that are not answered yet.
const IN_FLIGHT: usize = 16;
/// As configured below, and how late a busy machine may be.
const OFFSETS_SAVED_EVERY: Duration = Duration::from_millis(100);
const LATE: Duration = Duration::from_secs(1);

/// What the producer of a queue recorded. Its messages are numbered, and the number determines the body.
#[derive(Default)]
struct Recorded {
    /// The number of the last one sent.
    serial: usize,
    /// Offset and number of acknowledged messages.
    acknowledged: Vec<(i64, usize)>,
    /// Up to which offset the queue was read and compared, and the number it had there.
    compared: (i64, usize),
}

fn body(queue: i32, serial: usize) -> String {
    format!("{queue}-{serial:08}-{}", "x".repeat(serial * 37 % 900))
}

/// Sends until the connection breaks; also records the answers that came before.
async fn produce(client: Client, queue: Queue, mut recorded: Recorded) -> Recorded {
    let producer = Producer::new(&client, "writers");
    let mut flying: VecDeque<(usize, Pending)> = VecDeque::new();
    let mut broken = false;
    loop {
        while !broken && flying.len() < IN_FLIGHT {
            recorded.serial += 1;
            match producer.begin(&queue, Message::new(TOPIC, body(queue.id, recorded.serial))).await {
                Ok(pending) => flying.push_back((recorded.serial, pending)),
                Err(_) => broken = true,
            }
        }
        let Some((serial, pending)) = flying.pop_front() else {
            return recorded;
        };
        match pending.await {
            Ok(sent) => {
                assert_eq!((sent.stored, sent.queue.id), (Stored::Confirmed, queue.id));
                let last = recorded.acknowledged.last().map_or(-1, |(offset, _)| *offset);
                assert!(sent.offset > last, "queue {}: answer {} after {last}", queue.id, sent.offset);
                recorded.acknowledged.push((sent.offset, serial));
            }
            Err(Error::Busy { .. }) => {}
            Err(_) => broken = true,
        }
    }
}

/// Commits increasing offsets until the connection breaks, with the time at which the broker acknowledged each.
async fn commit(client: Client, queue: Queue, mut offset: i64) -> Vec<(Instant, i64)> {
    let puller = Puller::new(&client, GROUP);
    let mut taken = Vec::new();
    while puller.commit(&queue, offset + 1).await.is_ok() {
        offset += 1;
        taken.push((Instant::now(), offset));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    taken
}

/// Reads a queue from an offset to its end, which is returned; messages have consecutive offsets.
async fn read(client: &Client, queue: &Queue, from: i64, mut each: impl FnMut(i64, &[u8])) -> i64 {
    let puller = Puller::new(client, GROUP);
    let mut next = from;
    loop {
        let pulled = puller.pull(queue, next, &PullOptions::default()).await.unwrap();
        if pulled.outcome != Outcome::Found {
            assert_eq!((pulled.max_offset, pulled.outcome), (next, Outcome::NothingNew));
            return next;
        }
        for record in pulled.records() {
            let record = record.unwrap();
            assert!(record.crc_matches());
            assert_eq!(record.queue_offset.0, next, "offsets follow each other");
            each(next, record.body);
            next += 1;
        }
    }
}

/// Reads a queue from `from` on (offset and number of the last message before it): acknowledged messages are at the offsets that their
/// producer was told, and everything is complete and in the order in which it was sent. Returns the end of the queue.
async fn compare(home: &Home, id: i32, recorded: &Recorded, from: (i64, usize)) -> (i64, usize) {
    let begin = recorded.acknowledged.partition_point(|(offset, _)| *offset < from.0);
    let mut told = recorded.acknowledged[begin..].iter().peekable();
    let mut last = from.1;
    let end = read(&home.client(), &home.queue(TOPIC, id), from.0, |offset, found| {
        let text = std::str::from_utf8(found).unwrap();
        let serial: usize = text[2..10].parse().unwrap();
        assert_eq!(text, body(id, serial), "queue {id}: not what was sent, at {offset}");
        assert!(
            last < serial && serial <= recorded.serial,
            "queue {id}: {serial} after {last}, at {offset}"
        );
        if let Some((_, acknowledged)) = told.next_if(|(at, _)| *at == offset) {
            assert_eq!(serial, *acknowledged, "queue {id}: acknowledged at {offset}");
        }
        last = serial;
    })
    .await;
    assert_eq!(told.next(), None, "queue {id}: acknowledged, and not in it; it ends at {end}");
    (end, last)
}

/// Compares what was written since the last time, or everything.
async fn compare_all(home: &Home, recorded: &mut HashMap<i32, Recorded>, everything: bool) {
    for (id, recorded) in recorded {
        let from = if everything { (0, 0) } else { recorded.compared };
        recorded.compared = compare(home, *id, recorded, from).await;
    }
}

/// Load on all queues until the process is killed. Returns the acknowledged commits.
async fn load(home: &Home, running: Running, recorded: &mut HashMap<i32, Recorded>, committed: i64, time: Duration) -> Vec<(Instant, i64)> {
    let producers: Vec<_> = (0..QUEUES)
        .map(|id| {
            tokio::spawn(produce(
                home.client(),
                home.queue(TOPIC, id),
                recorded.remove(&id).unwrap_or_default(),
            ))
        })
        .collect();
    let committer = tokio::spawn(commit(home.client(), home.queue(TOPIC, 0), committed));
    tokio::time::sleep(time).await;
    running.kill();
    for (id, producer) in (0..QUEUES).zip(producers) {
        recorded.insert(id, producer.await.unwrap());
    }
    committer.await.unwrap()
}

fn rounds() -> usize {
    std::env::var("KILL_ROUNDS").map_or(ROUNDS, |text| text.parse().expect("KILL_ROUNDS is a number"))
}

#[test]
fn killed_again_and_again_under_load_it_has_all_it_acknowledged() {
    let (home, rounds) = (Home::new(), rounds());
    let mut recorded: HashMap<i32, Recorded> = HashMap::new();
    let (mut committed, mut must_be_committed) = (0, 0);
    for round in 0..rounds {
        let mode = ["ASYNC_FLUSH", "SYNC_FLUSH"][round % 2];
        let running = home.start_small(mode, "");
        block_on(async {
            if round == 0 {
                home.create_topic(TOPIC, QUEUES).await;
            }
            let client = home.client();
            let found = Puller::new(&client, GROUP)
                .committed(&home.queue(TOPIC, 0))
                .await
                .unwrap()
                .unwrap_or(0);
            assert!(
                found >= must_be_committed,
                "round {round}: committed offset {found}, {must_be_committed} was saved"
            );
            committed = found;
            for (id, recorded) in &recorded {
                let max = client.max_offset(&home.queue(TOPIC, *id)).await.unwrap();
                let told = recorded.acknowledged.last().map_or(0, |(offset, _)| offset + 1);
                assert!(
                    max >= told,
                    "round {round} {mode}, queue {id}: ends at {max}, {told} were acknowledged"
                );
            }
            if round % 10 == 9 {
                compare_all(&home, &mut recorded, false).await;
            }
            let long = round % 10 == 5;
            let time = if long {
                2 * LATE
            } else {
                Duration::from_millis(100 + round as u64 * 7 % 200)
            };
            let taken = load(&home, running, &mut recorded, committed, time).await;
            let killed = Instant::now();
            let saved = taken
                .iter()
                .rfind(|(at, _)| killed.duration_since(*at) > OFFSETS_SAVED_EVERY + LATE);
            must_be_committed = saved.map_or(committed, |(_, offset)| *offset);
        });
    }
    let _running = home.start_small("SYNC_FLUSH", "");
    block_on(compare_all(&home, &mut recorded, true));
    assert!(must_be_committed > 0, "offsets were committed");
    let acknowledged: usize = recorded.values().map(|recorded| recorded.acknowledged.len()).sum();
    assert!(acknowledged > rounds * 20, "only {acknowledged} messages in all");
    let files = std::fs::read_dir(home.path("data/commitlog")).unwrap().count();
    assert!(files > 2, "the log has rolled");
    println!("killed {rounds} times: {acknowledged} acknowledged messages are there, in {files} files");
}

#[test]
fn on_sigterm_it_answers_accepted_requests_and_ends_with_0() {
    for mode in ["ASYNC_FLUSH", "SYNC_FLUSH"] {
        let home = Home::new();
        let mut running = home.start_small(mode, "");
        let recorded = block_on(async {
            home.create_topic(TOPIC, QUEUES).await;
            let producers: Vec<_> = (0..QUEUES)
                .map(|id| tokio::spawn(produce(home.client(), home.queue(TOPIC, id), Recorded::default())))
                .collect();
            home.create_topic("quiet", QUEUES).await;
            let client = home.client();
            let parked = Puller::new(&client, GROUP);
            let wish = PullOptions {
                wait: Duration::from_secs(20),
                ..PullOptions::default()
            };
            let quiet = Queue::at(&home.broker(), "quiet", 0);
            let (pulled, ()) = tokio::join!(parked.pull(&quiet, 0, &wish), async {
                for id in 0..QUEUES {
                    while client.max_offset(&home.queue(TOPIC, id)).await.unwrap() < 20 {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
                running.signal("-TERM");
            });
            assert_eq!(pulled.unwrap().outcome, Outcome::NothingNew, "the parked pull is answered");
            let mut recorded = HashMap::new();
            for (id, producer) in (0..QUEUES).zip(producers) {
                recorded.insert(id, producer.await.unwrap());
            }
            recorded
        });
        assert_eq!(running.ended().code(), Some(0), "{}", home.logged());
        assert!(!home.path("data/abort").exists());
        let _running = home.start_small(mode, "");
        block_on(async {
            for (id, recorded) in &recorded {
                let (end, _) = compare(&home, *id, recorded, (0, 0)).await;
                assert_eq!(
                    end as usize,
                    recorded.acknowledged.len(),
                    "queue {id}, {mode}: stored and not answered"
                );
                assert!(end > 0);
            }
        });
    }
}

#[test]
fn after_a_clean_shutdown_nothing_is_recovered_and_after_a_kill_what_is_not_in_the_checkpoint() {
    let home = Home::new();
    let send = |count: usize| {
        block_on(async {
            home.create_topic(TOPIC, QUEUES).await;
            let client = home.client();
            let producer = Producer::new(&client, "writers");
            for _ in 0..count {
                producer.send_to(&home.queue(TOPIC, 0), Message::new(TOPIC, "hello")).await.unwrap();
            }
        });
    };
    let mut running = home.start_small("ASYNC_FLUSH", "");
    send(20);
    running.stop();
    let mut running = home.start_small("ASYNC_FLUSH", "");
    running.stop();
    assert!(!home.logged().contains("recovered"), "{}", home.logged());
    let running = home.start_small("ASYNC_FLUSH", "");
    send(7);
    running.kill();
    let _running = home.start_small("ASYNC_FLUSH", "");
    home.logs(&["recovered", "messages=7"]);
    let end = block_on(read(&home.client(), &home.queue(TOPIC, 0), 0, |_, body| assert_eq!(body, b"hello")));
    assert_eq!(end, 27);
}

#[test]
fn a_second_process_on_the_same_directory_is_refused_and_the_first_continues() {
    let home = Home::new();
    let mut running = home.start_small("ASYNC_FLUSH", "");
    let second = home.command_on_other_ports().output().unwrap();
    let text = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{text}");
    assert!(text.contains("in use by another process") && text.contains("--data"), "{text}");
    block_on(async {
        home.create_topic(TOPIC, QUEUES).await;
        let sent = Producer::new(&home.client(), "writers")
            .send_to(&home.queue(TOPIC, 0), Message::new(TOPIC, "a"))
            .await;
        assert_eq!(sent.unwrap().offset, 0);
    });
    running.stop();
}
