//! A message that is delivered only if the local transaction commits. A producer that crashed before it said how its transaction ended is
//! asked by the broker, over the connection of its heartbeat.
//!
//! Prints:
//!    delivered order 1, paid
//!    delivered order 3, crash after payment

use std::sync::Arc;
use std::time::Duration;

use client::{CheckService, Client, Error, LocalOutcome, Message, Options, Producer, PullOptions, Puller};
use protocol::heartbeat::{HeartbeatData, ProducerData};
use protocol::topic::TopicConfig;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let name_server = std::env::var("NAMESRV_ADDR").unwrap_or_else(|_| "127.0.0.1:9876".to_owned());
    let client = Client::new(Options {
        // In earnest: look whether the database has the order.
        service: Some(Arc::new(CheckService(|_: &message::Record<'_>| LocalOutcome::Commit))),
        ..Options::with_name_servers([name_server])
    });
    for broker in client.cluster().await?.broker_addr_table.values() {
        for address in broker.broker_addrs.values() {
            client.create_topic(address, &TopicConfig::new("RustPayments", 1)).await?;
        }
    }
    let queue = client.route("RustPayments").await?.read.remove(0);
    let group = ProducerData {
        group_name: "shop-with-database-rust".to_owned(),
    };
    let heartbeat = HeartbeatData {
        client_id: format!("rust-example@{}", std::process::id()),
        producers: vec![group.clone()],
        ..HeartbeatData::default()
    };
    client.heartbeat(&queue.address, &heartbeat).await?;

    let producer = Producer::new(&client, group.group_name);
    for (text, outcome) in [
        ("order 1, paid", Some(LocalOutcome::Commit)),
        ("order 2, card refused", Some(LocalOutcome::Rollback)),
        ("order 3, crash after payment", None),
    ] {
        let half = producer.prepare(Message::new("RustPayments", text)).await?;
        // In earnest: write to the database here.
        if let Some(outcome) = outcome {
            producer.end(&half, outcome).await?;
        }
    }

    let puller = Puller::new(&client, "logistics");
    let mut offset = 0;
    while offset < 2 {
        let wait = Duration::from_secs(5);
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
            println!("delivered {}", String::from_utf8_lossy(record?.body));
        }
        offset = pulled.next_offset;
    }
    Ok(())
}
