//! Brokers behind remoting proxies, clients of frames, and brokers that a test plays.

use crate::support::{self, SOON};
use broker::Broker;
use client::{Client, Options};
use net::session::Transport;
use net::{Connection, Service};
use protocol::frame;
use protocol::heartbeat::{ConsumerData, ConsumerIds, HeartbeatData, Subscription};
use protocol::register::RegisterBrokerHeader;
use protocol::{Frame, RequestCode, json};
use proxy::Remoting;
use proxy::remoting_settings::RemotingSettings;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use store::disk::simulated::SimulatedDisk;

/// Brokers of a cluster with remoting proxies.
pub(crate) struct Cluster {
    pub(crate) brokers: Vec<Broker>,
    pub(crate) proxies: Vec<Remoting>,
    pub(crate) name_server: net::Server,
}

impl Cluster {
    pub(crate) fn start(brokers: &[&str], proxies: usize, change: impl Fn(&mut RemotingSettings)) -> Self {
        let name_server = support::name_server();
        let start = |name: &&str| support::registered(support::broker_settings(name), &name_server, &SimulatedDisk::new(1));
        let brokers = brokers.iter().map(start).collect();
        let mut settings = RemotingSettings {
            bind_address: Ipv4Addr::LOCALHOST.into(),
            port: 0,
            threads: 1,
            ..RemotingSettings::default()
        };
        change(&mut settings);
        let start = |_| Remoting::start(settings.clone(), &support::cluster(&name_server), Transport::default()).unwrap();
        let proxies = (0..proxies).map(start).collect();
        Self {
            brokers,
            proxies,
            name_server,
        }
    }

    pub(crate) fn run(mut self, test: impl AsyncFnOnce(&mut Self)) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async { tokio::time::timeout(4 * SOON, test(&mut self)).await.expect("it hangs") });
        drop(runtime);
        self.proxies.into_iter().for_each(Remoting::stop);
        for broker in self.brokers {
            broker.stop().unwrap();
        }
        self.name_server.stop(SOON);
    }

    pub(crate) fn address(&self, proxy: usize) -> String {
        self.proxies[proxy].address().unwrap().to_string()
    }

    /// Registers a broker that a test plays.
    pub(crate) async fn register(&self, name: &str, address: &str) {
        let mut request = Frame::request(RequestCode::RegisterBroker);
        let header = RegisterBrokerHeader {
            broker_name: name,
            broker_addr: address,
            cluster_name: "DefaultCluster",
            ha_server_addr: address,
            broker_id: 0,
            heartbeat_timeout_ms: Some(600_000),
            enable_acting_master: None,
            compressed: false,
            body_crc32: None,
        };
        header.encode(&mut request.ext);
        let name_server = self.name_server.local_addrs()[0].to_string();
        let client = Client::new(Options::with_name_servers([name_server.clone()]));
        client.ask(&name_server, request).await.unwrap();
        // The connection that registered it has to stay.
        std::mem::forget(client);
    }
}

/// Stops something that may not be stopped on a thread of a runtime.
pub(crate) fn stop(stop: impl FnOnce() + Send) {
    std::thread::scope(|scope| scope.spawn(stop).join().unwrap());
}

pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < SOON, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn client(address: &str) -> Client {
    Client::new(Options {
        request_timeout: SOON,
        ..Options::with_name_servers([address.to_owned()])
    })
}

/// A send to a broker by its name.
pub(crate) fn send(broker: &str, topic: &str, body: impl Into<bytes::Bytes>) -> Frame {
    Frame::request(RequestCode::SendMessageV2)
        .with_field("a", "pg")
        .with_field("b", topic)
        .with_field("c", "TBW102")
        .with_field("d", 4)
        .with_field("e", 0)
        .with_field("f", 0)
        .with_field("g", 1)
        .with_field("h", 0)
        .with_field("n", broker)
        .with_body(body)
}

pub(crate) fn pull(broker: &str, topic: &str, offset: i64, wait_ms: i64) -> Frame {
    Frame::request(RequestCode::PullMessage)
        .with_field("consumerGroup", "g")
        .with_field("topic", topic)
        .with_field("queueId", 0)
        .with_field("queueOffset", offset)
        .with_field("maxMsgNums", 32)
        .with_field("sysFlag", if wait_ms > 0 { 6 } else { 4 })
        .with_field("commitOffset", 0)
        .with_field("suspendTimeoutMillis", wait_ms)
        .with_field("subscription", "*")
        .with_field("subVersion", 0)
        .with_field("expressionType", "TAG")
        .with_field("bname", broker)
}

pub(crate) fn heartbeat(id: &str, group: &str, topic: &str) -> HeartbeatData {
    HeartbeatData {
        client_id: id.to_owned(),
        consumers: vec![ConsumerData {
            group_name: group.to_owned(),
            subscriptions: vec![Subscription {
                topic: topic.to_owned(),
                sub_string: "*".to_owned(),
                ..Subscription::default()
            }],
            ..ConsumerData::default()
        }],
        ..HeartbeatData::default()
    }
}

pub(crate) async fn members(client: &Client, address: &str, group: &str) -> Vec<String> {
    let mut request = Frame::request(RequestCode::GetConsumerListByGroup);
    request.ext.push("consumerGroup", group);
    match client.ask(address, request).await {
        Ok(answer) => {
            let mut ids = json::read::<ConsumerIds>(&answer.body).unwrap().consumer_id_list;
            ids.sort();
            ids
        }
        Err(_) => Vec::new(),
    }
}

pub(crate) fn stored(broker: &Broker, topic: &str) -> i64 {
    let store = broker.operations().core.store;
    (0..8).map(|queue| store.max_offset(topic, queue).0).sum()
}

/// The next frame of a stream.
pub(crate) fn next(stream: &mut TcpStream, buffer: &mut bytes::BytesMut) -> Frame {
    loop {
        if let Some(frame) = frame::decode(buffer, 64 << 20).unwrap() {
            return frame;
        }
        let mut piece = [0; 64 << 10];
        let read = stream.read(&mut piece).unwrap();
        assert!(read > 0, "the connection ended");
        buffer.extend_from_slice(&piece[..read]);
    }
}

/// Collects what brokers ask, and answers with the name of the client.
pub(crate) struct Consumer {
    asked: mpsc::Sender<Frame>,
}

impl Service for Consumer {
    fn serve(&self, conn: &Arc<Connection>, frames: &mut Vec<Frame>) {
        for frame in frames.drain(..) {
            if !frame.is_oneway() {
                let body = frame.ext.text("who").unwrap_or_default().to_owned();
                conn.send_frame(&Frame::response_to(&frame).with_body(body));
            }
            // The test may have seen enough.
            let _ = self.asked.send(frame);
        }
    }
}

pub(crate) fn consumer(address: &str) -> (Client, mpsc::Receiver<Frame>) {
    let (asked, questions) = mpsc::channel();
    let client = Client::new(Options {
        request_timeout: SOON,
        service: Some(Arc::new(Consumer { asked })),
        ..Options::with_name_servers([address.to_owned()])
    });
    (client, questions)
}

/// A broker that a test plays: it gives each connection to the test.
pub(crate) fn played() -> (String, mpsc::Receiver<TcpStream>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (send, streams) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if send.send(stream).is_err() {
                return;
            }
        }
    });
    (address, streams)
}
