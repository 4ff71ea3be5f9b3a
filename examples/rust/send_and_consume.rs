//! Sends messages and consumes them with ApogeeMQ's own client, which decides nothing by itself: this program chooses queues and offsets.
//!
//! Prints:
//!    sent 3 orders
//!    consumed order 1, order 2, order 3

use std::time::Duration;

use client::{Client, Error, Message, Options, Producer, PullOptions, Puller};
use protocol::topic::TopicConfig;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let name_server = std::env::var("NAMESRV_ADDR").unwrap_or_else(|_| "127.0.0.1:9876".to_owned());
    let client = Client::new(Options::with_name_servers([name_server]));
    for broker in client.cluster().await?.broker_addr_table.values() {
        for address in broker.broker_addrs.values() {
            client.create_topic(address, &TopicConfig::new("RustOrders", 1)).await?;
        }
    }

    let producer = Producer::new(&client, "shop");
    for number in 1..=3 {
        let message = Message::new("RustOrders", format!("order {number}")).tags("new");
        producer.send(message).await?;
    }
    println!("sent 3 orders");

    let puller = Puller::new(&client, "warehouse");
    let queue = client.route("RustOrders").await?.read.remove(0);
    let mut offset = puller.committed(&queue).await?.unwrap_or(0);
    let mut consumed = Vec::new();
    while consumed.len() < 3 {
        let wait = Duration::from_secs(5); // the broker answers as soon as there is a message
        let pulled = puller
            .pull(
                &queue,
                offset,
                &PullOptions {
                    wait,
                    ..PullOptions::default()
                },
            )
            .await?;
        for record in pulled.records() {
            consumed.push(String::from_utf8_lossy(record?.body).into_owned());
        }
        offset = pulled.next_offset;
        puller.commit(&queue, offset).await?;
    }
    println!("consumed {}", consumed.join(", "));
    Ok(())
}
