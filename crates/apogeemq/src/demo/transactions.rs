//! An order and its message commit or roll back together, also if the shop crashes in between: the broker asks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use client::{CheckService, Client, LocalOutcome, Message, Options, Producer};
use message::Record;
use protocol::heartbeat::{HeartbeatData, ProducerData};
use protocol::topic::TopicConfig;

use super::reader::Reader;
use super::terminal::{Colour, paint};
use super::{Stage, check};
use crate::failure::Failure;

/// The part's title.
pub(super) const TITLE: &str = "4. A payment and its message: one commits, one rolls back, one crashes and is found by a check.";

const TOPIC: &str = "payments";
const GROUP: &str = "shop-with-database";
const TICK: Duration = Duration::from_millis(100);
/// How long the half messages are shown, in ticks: long enough to see that nothing is delivered.
const HELD: u32 = 10;
const PAID: &str = "order 1, paid";
const REFUSED: &str = "order 2, card refused";
const CRASHED: &str = "order 3, crash after payment";
/// Sent last: what comes before it is all that is delivered.
const LAST: &str = "the last message";

/// The shop's database: how local transactions ended, and which of them a broker has asked for.
#[derive(Default)]
struct Database {
    outcomes: BTreeMap<String, LocalOutcome>,
    asked: Vec<String>,
}

type Shared = Arc<Mutex<Database>>;

/// Runs the part; returns what was shown to be true.
pub(super) async fn run(stage: &mut Stage) -> Result<String, Failure> {
    let queues = stage.server.topic(TopicConfig::new(TOPIC, 1)).await?;
    let database = Shared::default();
    let client = registered(stage, &database).await?;
    let shop = Producer::new(&client, GROUP);
    let mut logistics = Reader::open(&stage.server.client(), "transport", &queues, "*").await?;

    let mut halves = BTreeMap::new();
    for text in [PAID, REFUSED, CRASHED] {
        halves.insert(text, shop.prepare(Message::new(TOPIC, text)).await.map_err(Failure::new)?);
    }
    let mut delivered = Vec::new();
    // The local transactions have not ended: nothing may be delivered. A check in the meantime learns that it is not known.
    for _ in 0..HELD {
        delivered.extend(logistics.next(8).await?);
        draw(stage, &database, &delivered);
        tokio::time::sleep(TICK).await;
    }
    check("delivered before its transaction ended", &Vec::<String>::new(), &delivered)?;

    for (text, outcome) in [
        (PAID, LocalOutcome::Commit),
        (REFUSED, LocalOutcome::Rollback),
        (CRASHED, LocalOutcome::Commit),
    ] {
        with(&database, |database| database.outcomes.insert(text.to_owned(), outcome));
        if text == CRASHED {
            // The payment is in the database, and the shop crashes before it tells the broker.
            continue;
        }
        shop.end(&halves[text], outcome).await.map_err(Failure::new)?;
    }
    while !delivered.iter().any(|text| text == CRASHED) {
        delivered.extend(logistics.next(8).await?);
        draw(stage, &database, &delivered);
        tokio::time::sleep(TICK).await;
    }
    shop.send_to(&queues[0], Message::new(TOPIC, LAST)).await.map_err(Failure::new)?;
    while !delivered.iter().any(|text| text == LAST) {
        delivered.extend(logistics.next(8).await?);
    }
    check(
        "delivered, in this order",
        &[PAID, CRASHED, LAST].map(str::to_owned).to_vec(),
        &delivered,
    )?;
    let asked = with(&database, |database| database.asked.iter().any(|text| text == CRASHED));
    check("the broker asked for the one that crashed", &true, &asked)?;
    stage.sent += delivered.len() as u64 + 1;
    Ok("delivered: the one that committed and the one that the check found; never the one that rolled back".to_owned())
}

/// A client whose heartbeat tells the broker whom to ask.
async fn registered(stage: &Stage, database: &Shared) -> Result<Client, Failure> {
    let looked_up = Arc::clone(database);
    let look_up = move |half: &Record<'_>| {
        let text = String::from_utf8_lossy(half.body).into_owned();
        with(&looked_up, |database| {
            let outcome = database.outcomes.get(&text).copied().unwrap_or(LocalOutcome::Unknown);
            database.asked.push(text);
            outcome
        })
    };
    let client = Client::new(Options {
        service: Some(Arc::new(CheckService(look_up))),
        ..stage.server.options()
    });
    let heartbeat = HeartbeatData {
        client_id: format!("demo@{}", std::process::id()),
        producers: vec![ProducerData {
            group_name: GROUP.to_owned(),
        }],
        ..HeartbeatData::default()
    };
    client.heartbeat(stage.server.broker(), &heartbeat).await.map_err(Failure::new)?;
    Ok(client)
}

fn with<T>(database: &Shared, look: impl FnOnce(&mut Database) -> T) -> T {
    look(&mut database.lock().unwrap_or_else(PoisonError::into_inner))
}

fn draw(stage: &mut Stage, database: &Shared, delivered: &[String]) {
    let block = [PAID, REFUSED, CRASHED].map(|text| {
        let (outcome, asked) = with(database, |database| {
            let asked = database.asked.iter().filter(|asked| *asked == text).count();
            (database.outcomes.get(text).copied(), asked)
        });
        let local = match outcome {
            None => paint(Colour::Yellow, "open       "),
            Some(LocalOutcome::Commit) => paint(Colour::Green, "committed  "),
            Some(_) => paint(Colour::Red, "rolled back"),
        };
        let seen = match delivered.iter().any(|seen| seen == text) {
            true => paint(Colour::Green, "delivered    "),
            false => paint(Colour::Grey, "not delivered"),
        };
        let checks = if asked == 0 {
            String::new()
        } else {
            format!("   asked {asked}x by the broker")
        };
        format!("  {text:<30}transaction {local}  message {seen}{checks}")
    });
    stage.terminal.draw(block.to_vec());
}
