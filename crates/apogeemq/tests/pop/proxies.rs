//! A proxy in a process of its own is killed while a push consumer processes a message: another proxy goes on.

use super::common::{self, Home, block_on};
use super::grpc::Client;
use super::remoting::pop;
use super::{GROUP, TOPIC};
use client::{Message, Producer, Puller};
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// For so long a message is invisible that nobody holds or renews, in ms.
const INVISIBLE_MS: u64 = 1_000;

/// A proxy in front of the broker, and its address.
struct Proxy {
    child: Child,
    address: String,
    _dir: tempfile::TempDir,
}

impl Proxy {
    fn start(home: &Home) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings =
            format!("grpcServerPort=0\ndefaultInvisibleTimeMills={INVISIBLE_MS}\ngrpcClientConsumerMinLongPollingTimeoutMillis=100\n");
        std::fs::write(dir.path().join("proxy.conf"), settings).unwrap();
        let mut command = common::apogeemq(dir.path());
        let mut child = command
            .args(["proxy", "-n", &home.namesrv(), "--bind", "127.0.0.1", "-c", "proxy.conf"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let line = lines.find(|line| line.contains("gRPC")).unwrap();
        Self {
            child,
            address: line.split_whitespace().last().unwrap().to_owned(),
            _dir: dir,
        }
    }
}

impl Drop for Proxy {
    /// Kills it.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_message_stays_with_its_consumer_when_its_proxy_is_killed() {
    let home = Home::new();
    let _broker = home.start_small("ASYNC_FLUSH", "");
    let (first, second) = (Proxy::start(&home), Proxy::start(&home));
    block_on(async {
        home.create_topic(TOPIC, 1).await;
        let client = home.client();
        // It makes the group, which would begin at the end without an offset.
        pop(&client, &home.broker(), 1, 0).await.unwrap();
        Puller::new(&client, GROUP).commit(&home.queue(TOPIC, 0), 0).await.unwrap();
        Producer::new(&client, "writers").send(Message::new(TOPIC, "x")).await.unwrap();
        let mut consumer = Client::connect(&first.address, "consumer".to_owned()).await;
        let joined = consumer.join().await;
        let handle = loop {
            if let Some((_, handle)) = consumer.receive_held().await.pop() {
                break handle;
            }
        };
        drop((first, joined, consumer));

        let mut consumer = Client::connect(&second.address, "consumer".to_owned()).await;
        let _joined = consumer.join().await;
        let mut other = Client::connect(&second.address, "other".to_owned()).await;
        let _other = other.join().await;
        let nobody_gets_it = async |other: &mut Client, time| {
            let begun = Instant::now();
            while begun.elapsed() < time {
                assert_eq!(other.receive_held().await, []);
            }
        };
        nobody_gets_it(&mut other, Duration::from_millis(4 * INVISIBLE_MS)).await;
        assert!(consumer.ack(handle).await.unwrap(), "with its first handle");
        nobody_gets_it(&mut other, Duration::from_millis(2 * INVISIBLE_MS)).await;
    });
}
