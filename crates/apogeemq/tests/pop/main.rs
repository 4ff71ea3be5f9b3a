//! The program is killed while messages are sent, popped and acknowledged, by clients of both protocols. Each message that was sent is
//! acknowledged by somebody in the end.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;
mod grpc;
mod proxies;
mod remoting;

use client::Puller;
use common::{DEADLINE, Home, block_on};
use remoting::{ack, pop};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const TOPIC: &str = "orders";
const GROUP: &str = "workers";
const QUEUES: i32 = 2;
/// How often it ends, unless `KILL_ROUNDS` is set: `KILL_ROUNDS=200 cargo test -p apogeemq --test pop`.
const ROUNDS: usize = 4;
/// Of each protocol.
const POPPERS: usize = 2;
/// For so long others do not see a message that was popped, and one whose consumer asks for more time.
const INVISIBLE_MS: i64 = 500;
const MORE_TIME_MS: i64 = 400;
/// Check points are written while they are in flight, and offsets are saved often.
const SETTINGS: &str = "popCkStayBufferTime=100\nflushConsumerOffsetInterval=200\nminInvisibleTimeMillsForRecv=100\n\
                        grpcClientConsumerMinLongPollingTimeoutMillis=100\n";

/// What becomes of a message that was popped.
enum Fate {
    Acknowledged,
    Renewed,
    Forgotten,
}

/// Of the nth message of a pop.
fn fate(n: usize) -> Fate {
    match n % 5 {
        1 => Fate::Forgotten,
        3 => Fate::Renewed,
        _ => Fate::Acknowledged,
    }
}

#[test]
fn killed_under_load_no_message_is_lost() {
    let home = Home::new();
    let (mut sent, mut acked) = (BTreeSet::new(), BTreeSet::new());
    let rounds = std::env::var("KILL_ROUNDS").map_or(ROUNDS, |text| text.parse().expect("KILL_ROUNDS is a number"));
    for round in 0..rounds {
        let mode = ["ASYNC_FLUSH", "SYNC_FLUSH"][round % 2];
        let mut running = home.start_small(mode, SETTINGS);
        block_on(async {
            if round == 0 {
                home.create_topic(TOPIC, QUEUES).await;
                // A pop makes the group, which would begin at the end without an offset.
                let client = home.client();
                pop(&client, &home.broker(), INVISIBLE_MS, 0).await.unwrap();
                for queue in 0..QUEUES {
                    Puller::new(&client, GROUP).commit(&home.queue(TOPIC, queue), 0).await.unwrap();
                }
            }
            let (broker, proxy) = (home.broker(), home.proxy());
            let sending = [
                tokio::spawn(remoting::send(home.client(), home.queue(TOPIC, 0), format!("{round}-remoting"))),
                tokio::spawn(grpc::send(proxy.clone(), format!("{round}-grpc"))),
            ];
            let mut consuming = Vec::new();
            for n in 0..POPPERS {
                consuming.push(tokio::spawn(remoting::consume(home.client(), broker.clone())));
                consuming.push(tokio::spawn(grpc::consume(proxy.clone(), format!("consumer-{n}"))));
            }
            tokio::time::sleep(Duration::from_millis(700 + round as u64 % 4 * 100)).await;
            if round % 8 == 1 {
                running.stop();
            } else {
                running.kill();
            }
            let mut all = [0, 0];
            for (sent_by, one) in all.iter_mut().zip(sending) {
                let now = one.await.unwrap();
                *sent_by = now.len();
                sent.extend(now);
            }
            assert!(
                all.iter().all(|count| *count > 0),
                "round {round}: {all:?} sent by remoting and gRPC"
            );
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
    let under_load = acked.len();
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
    println!(
        "ended {rounds} times: {} sent, all acknowledged, {} under load",
        sent.len(),
        under_load
    );
}
