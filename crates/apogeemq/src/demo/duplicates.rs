//! Answers get lost, and senders repeat what may already be stored. A topic that recognises repeated sends has each order once.

use std::time::Duration;

use client::{Message, Producer};
use protocol::topic::TopicConfig;

use super::reader::Reader;
use super::terminal::{Colour, bar};
use super::{Stage, check};
use crate::failure::Failure;

/// The part's title.
pub(super) const TITLE: &str = "5. Every second answer is lost, and the order is sent again. The topic has it once.";

const TOPIC: &str = "deduplicated";
/// Turns the recognition on, for so many seconds after a send.
const ATTRIBUTE: (&str, &str) = ("+dedup.window.seconds", "600");
const ORDERS: u64 = 60;
const TICK: Duration = Duration::from_millis(40);

/// Runs the part; returns what was shown to be true.
pub(super) async fn run(stage: &mut Stage) -> Result<String, Failure> {
    let mut config = TopicConfig::new(TOPIC, 1);
    config.attributes.insert(ATTRIBUTE.0.to_owned(), ATTRIBUTE.1.to_owned());
    let queues = stage.server.topic(config).await?;
    let orders = stage.scaled(ORDERS);
    let shop = Producer::new(&stage.server.client(), "shop");
    let mut warehouse = Reader::open(&stage.server.client(), "warehouse", &queues, "*").await?;
    let (mut sends, mut stored) = (0, Vec::new());
    for order in 0..orders {
        let message = Message::new(TOPIC, order.to_string());
        let first = shop.send_to(&queues[0], message.clone()).await.map_err(Failure::new)?;
        sends += 1;
        if order % 2 == 1 {
            // As if the first answer had been lost. A client that repeats a send keeps the message's unique key.
            let again = shop.send_to(&queues[0], message).await.map_err(Failure::new)?;
            sends += 1;
            check("the answer to a repeated send", &first, &again)?;
        }
        stored.extend(warehouse.next(8).await?);
        stage.terminal.draw(block(sends, stored.len() as u64, orders));
        tokio::time::sleep(TICK).await;
    }
    while (stored.len() as u64) < orders {
        stored.extend(warehouse.next(8).await?);
    }
    // What was stored twice would come now.
    stored.extend(warehouse.next(8).await?);
    stage.terminal.draw(block(sends, stored.len() as u64, orders));
    let expected: Vec<_> = (0..orders).map(|order| order.to_string()).collect();
    check("every order is stored once", &expected, &stored)?;
    stage.sent += orders;
    Ok(format!(
        "{sends} sends of {orders} orders, each stored once; a repeated send gets the answer of the first"
    ))
}

fn block(sends: u64, stored: u64, orders: u64) -> Vec<String> {
    let most = orders * 3 / 2;
    vec![
        format!("  sends           {} {sends:>5}", bar(Colour::Yellow, sends, most, 40)),
        format!("  orders stored   {} {stored:>5}", bar(Colour::Green, stored, most, 40)),
    ]
}
