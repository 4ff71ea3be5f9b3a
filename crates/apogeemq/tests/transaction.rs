//! The program is killed while transactions are opened and ended. Each ends once, as its producer said.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use client::{Client, Message, Outcome, Producer, PullOptions, Puller};
use common::{DEADLINE, Home, block_on};
use message::{id, properties};
use protocol::transaction::{COMMIT, EndTransactionHeader, ROLLBACK};
use protocol::{Frame, RequestCode, ResponseCode};
use std::collections::HashMap;
use std::time::{Duration, Instant};

const TOPIC: &str = "orders";
const GROUP: &str = "writers";
const ROUNDS: usize = 4;
const WORKERS: usize = 4;
/// Half messages are written again all the time, and none is given up.
const SETTINGS: &str =
    "transactionTimeOut=100\ntransactionCheckInterval=100\ntransactionCheckMax=1000000\ntransactionMetricFlushInterval=300\n";

/// What a producer knows of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Committed,
    RolledBack,
    /// Its end was asked for, and not answered with success.
    Asked,
    Open,
}

/// A transaction whose half message was acknowledged.
#[derive(Clone, Debug)]
struct Transaction {
    body: String,
    half: i64,
    log_offset: i64,
    known: Known,
}

impl Transaction {
    async fn open(producer: &Producer, home_queue: &client::Queue, body: String) -> Result<Self, client::Error> {
        let message = Message::new(TOPIC, body.clone())
            .property(properties::TRANSACTION_PREPARED, "true")
            .property(properties::PRODUCER_GROUP, GROUP);
        let sent = producer.send_to(home_queue, message).await?;
        let (_, log_offset) = id::parse_offset_id(&sent.ids[0]).unwrap();
        Ok(Self {
            body,
            half: sent.offset,
            log_offset: log_offset.0,
            known: Known::Open,
        })
    }

    async fn end(&self, client: &Client, broker: &str, outcome: i32) -> Result<(), client::Error> {
        let header = EndTransactionHeader {
            topic: None,
            producer_group: GROUP,
            tran_state_table_offset: self.half,
            commit_log_offset: self.log_offset,
            commit_or_rollback: outcome,
            from_transaction_check: false,
            msg_id: None,
            transaction_id: None,
        };
        let mut frame = Frame::request(RequestCode::EndTransaction);
        header.encode(&mut frame.ext);
        client.ask(broker, frame).await.map(drop)
    }
}

/// Opens transactions until the connection breaks, and ends two of three.
async fn work(client: Client, broker: String, queue: client::Queue, name: String) -> Vec<Transaction> {
    let producer = Producer::new(&client, GROUP);
    let mut opened = Vec::new();
    for n in 0.. {
        let Ok(mut one) = Transaction::open(&producer, &queue, format!("{name}-{n}")).await else {
            break;
        };
        let (outcome, meant) = [(COMMIT, Known::Committed), (ROLLBACK, Known::RolledBack)][n / 3 % 2];
        if n % 3 > 0 {
            one.known = match one.end(&client, &broker, outcome).await {
                Ok(()) => meant,
                Err(_) => Known::Asked,
            };
        }
        opened.push(one);
    }
    opened
}

async fn delivered(home: &Home) -> HashMap<String, usize> {
    let client = home.client();
    let (puller, queue) = (Puller::new(&client, "readers"), home.queue(TOPIC, 0));
    let (mut found, mut at) = (HashMap::new(), 0);
    loop {
        let pulled = puller.pull(&queue, at, &PullOptions::default()).await.unwrap();
        if pulled.outcome != Outcome::Found {
            return found;
        }
        for record in pulled.records() {
            let record = record.unwrap();
            at = record.queue_offset.0 + 1;
            *found.entry(String::from_utf8(record.body.to_vec()).unwrap()).or_insert(0) += 1;
        }
    }
}

async fn all_is_as_said(home: &Home, transactions: &[Transaction]) {
    let found = delivered(home).await;
    for one in transactions {
        let count = found.get(&one.body).copied().unwrap_or(0);
        let is_right = match one.known {
            Known::Committed => count == 1,
            Known::RolledBack | Known::Open => count == 0,
            Known::Asked => count <= 1,
        };
        assert!(is_right, "{one:?} was delivered {count} times");
    }
}

/// Ends what a kill left open, by the name of its first half message, and tries to end again what has ended.
async fn end_the_rest(home: &Home, transactions: &mut [Transaction]) {
    let (client, broker) = (home.client(), home.broker());
    for (n, one) in transactions.iter_mut().filter(|one| one.known == Known::Open).enumerate() {
        let (outcome, meant) = [(COMMIT, Known::Committed), (ROLLBACK, Known::RolledBack)][n % 2];
        let begun = Instant::now();
        while let Err(error) = one.end(&client, &broker, outcome).await {
            // It is being written again, or the broker does not know yet what is open.
            assert_eq!(error.code(), Some(ResponseCode::SystemBusy.into()), "{one:?}: {error}");
            assert!(begun.elapsed() < DEADLINE, "{one:?}: {error}");
            tokio::task::yield_now().await;
        }
        one.known = meant;
    }
    for one in transactions.iter().filter(|one| one.known != Known::Asked).step_by(7) {
        let again = one.end(&client, &broker, COMMIT).await;
        let code = again.as_ref().err().and_then(client::Error::code);
        assert_eq!(code, Some(ResponseCode::IllegalOperation.into()), "{one:?}: {again:?}");
    }
}

#[test]
fn killed_under_load_each_transaction_ends_once_as_its_producer_said() {
    let home = Home::new();
    let mut all: Vec<Transaction> = Vec::new();
    for round in 0..ROUNDS {
        let mode = ["ASYNC_FLUSH", "SYNC_FLUSH"][round % 2];
        let running = home.start_small(mode, SETTINGS);
        block_on(async {
            if round == 0 {
                home.create_topic(TOPIC, 1).await;
            }
            let working: Vec<_> = (0..WORKERS)
                .map(|worker| {
                    tokio::spawn(work(
                        home.client(),
                        home.broker(),
                        home.queue(TOPIC, 0),
                        format!("{round}-{worker}"),
                    ))
                })
                .collect();
            tokio::time::sleep(Duration::from_millis(300 + round as u64 * 150)).await;
            running.kill();
            for one in working {
                all.extend(one.await.unwrap());
            }
        });
        let mut running = home.start_small(mode, SETTINGS);
        block_on(async {
            all_is_as_said(&home, &all).await;
            end_the_rest(&home, &mut all).await;
            all_is_as_said(&home, &all).await;
        });
        running.stop();
    }
    let count = |known| all.iter().filter(|one| one.known == known).count();
    let (committed, rolled_back) = (count(Known::Committed), count(Known::RolledBack));
    assert!(committed > 50 && rolled_back > 50, "only {committed} and {rolled_back} have ended");
    println!(
        "committed {committed}, rolled back {rolled_back}, not answered {}",
        count(Known::Asked)
    );
}
