//! A shop takes orders while its logistics service is down. When the service is back, it continues where it stopped.

use client::{Message, Producer};
use protocol::topic::TopicConfig;

use super::reader::Reader;
use super::terminal::{Colour, bar, paint};
use super::{Stage, check};
use crate::failure::Failure;

/// The part's title.
pub(super) const TITLE: &str = "1. The logistics service is down. The shop is not.";

const TOPIC: &str = "orders";
/// Orders in the whole part; one is sent at each tick.
const ORDERS: u64 = 100;
/// One order at a time, so that the eye can follow.
const TICK: std::time::Duration = std::time::Duration::from_millis(40);
/// Messages that logistics takes at once.
const TAKE: i32 = 8;

/// Runs the part; returns what was shown to be true.
pub(super) async fn run(stage: &mut Stage) -> Result<String, Failure> {
    let queues = stage.server.topic(TopicConfig::new(TOPIC, 1)).await?;
    let orders = stage.scaled(ORDERS);
    let (down, up) = (orders / 4, orders * 3 / 4);
    let shop = Producer::new(&stage.server.client(), "shop");
    let mut logistics = Some(Reader::open(&stage.server.client(), "logistics", &queues, "*").await?);
    let (mut sent, mut shipped, mut missed) = (0, Vec::new(), 0);
    while sent < orders || shipped.len() < sent as usize {
        if sent < orders {
            // An order that is refused ends the demo: the shop must not notice the outage.
            let message = Message::new(TOPIC, sent.to_string()).keys(&format!("order-{sent}"));
            shop.send_to(&queues[0], message).await.map_err(Failure::new)?;
            sent += 1;
        }
        if sent == down
            && let Some(stopping) = logistics.take()
        {
            // It stops with its connection.
            stopping.commit().await?;
        }
        if sent == up && logistics.is_none() {
            missed = sent - shipped.len() as u64;
            logistics = Some(Reader::open(&stage.server.client(), "logistics", &queues, "*").await?);
        }
        if let Some(logistics) = &mut logistics {
            shipped.extend(logistics.next(TAKE).await?);
        }
        stage.terminal.draw(block(sent, shipped.len() as u64, orders, logistics.is_some()));
        tokio::time::sleep(TICK).await;
    }
    stage.sent += orders;
    let expected: Vec<_> = (0..orders).map(|order| order.to_string()).collect();
    check("every order is shipped once, in order", &expected, &shipped)?;
    check("orders that waited for logistics", &true, &(missed > 0))?;
    Ok(format!(
        "{orders} orders taken, {missed} of them while logistics was down; all shipped, each once, in order"
    ))
}

fn block(sent: u64, shipped: u64, orders: u64, is_up: bool) -> Vec<String> {
    let state = if is_up {
        paint(Colour::Green, "up")
    } else {
        paint(Colour::Red, "down")
    };
    vec![
        format!("  orders taken    {} {sent:>5}", bar(Colour::Green, sent, orders, 40)),
        format!(
            "  orders shipped  {} {shipped:>5}   logistics {state}",
            bar(Colour::Green, shipped, orders, 40)
        ),
        format!(
            "  waiting         {} {:>5}",
            bar(Colour::Yellow, sent - shipped, orders, 40),
            sent - shipped
        ),
    ]
}
