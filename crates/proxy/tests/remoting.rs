//! Clients of the remoting protocol behind the proxy: real brokers, and brokers of the test that do what real ones seldom do.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use broker::Broker;
use client::{Client, Message, Options, Producer, PullOptions, Puller, Queue};
use net::client::{Peer, PeerOptions};
use net::session::Transport;
use net::{Connection, RequestError, Service};
use protocol::frame::{self, Encoding};
use protocol::heartbeat::{ConsumerData, ConsumerIds, HeartbeatData, Subscription};
use protocol::register::RegisterBrokerHeader;
use protocol::route::TopicRoute;
use protocol::{Frame, RequestCode, ResponseCode, json};
use proxy::Remoting;
use proxy::remoting_settings::RemotingSettings;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use store::disk::simulated::SimulatedDisk;
use support::SOON;

/// Brokers of a cluster with remoting proxies.
struct Cluster {
    brokers: Vec<Broker>,
    proxies: Vec<Remoting>,
    name_server: net::Server,
}

impl Cluster {
    fn start(brokers: &[&str], proxies: usize, change: impl Fn(&mut RemotingSettings)) -> Self {
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

    fn run(mut self, test: impl AsyncFnOnce(&mut Self)) {
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

    fn address(&self, proxy: usize) -> String {
        self.proxies[proxy].address().unwrap().to_string()
    }

    /// Registers a broker that a test plays.
    async fn register(&self, name: &str, address: &str) {
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
fn stop(stop: impl FnOnce() + Send) {
    std::thread::scope(|scope| scope.spawn(stop).join().unwrap());
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < SOON, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn client(address: &str) -> Client {
    Client::new(Options {
        request_timeout: SOON,
        ..Options::with_name_servers([address.to_owned()])
    })
}

/// A send to a broker by its name.
fn send(broker: &str, topic: &str, body: impl Into<bytes::Bytes>) -> Frame {
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

fn pull(broker: &str, topic: &str, offset: i64, wait_ms: i64) -> Frame {
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

fn heartbeat(id: &str, group: &str, topic: &str) -> HeartbeatData {
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

async fn members(client: &Client, address: &str, group: &str) -> Vec<String> {
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

fn stored(broker: &Broker, topic: &str) -> i64 {
    let store = broker.operations().core.store;
    (0..8).map(|queue| store.max_offset(topic, queue).0).sum()
}

#[test]
fn a_client_that_knows_the_proxy_only_sends_and_pulls_at_all_brokers() {
    Cluster::start(&["a", "b"], 1, |_| {}).run(async |cluster| {
        let proxy = cluster.address(0);
        let client = client(&proxy);
        for broker in ["a", "b"] {
            let answer = client.call(&proxy, send(broker, "t", broker)).await.unwrap();
            assert_eq!(answer.code, 0, "{:?}", answer.remark);
        }
        let route: TopicRoute = loop {
            let route = client.topic_route("t").await;
            match route {
                Ok(route) if route.broker_datas.len() == 2 => break route,
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        for broker in &route.broker_datas {
            assert_eq!(broker.broker_addrs, [(0, proxy.clone())].into());
        }
        assert!(cluster.brokers.iter().all(|broker| stored(broker, "t") == 1));
        for broker in ["a", "b"] {
            let answer = client.call(&proxy, pull(broker, "t", 0, 0)).await.unwrap();
            assert_eq!(answer.code, 0, "{:?}", answer.remark);
            let bodies: Vec<_> = client::records(&answer.body).map(|record| record.unwrap().body.to_vec()).collect();
            assert_eq!(bodies, [broker.as_bytes()]);
        }
        let unknown = client
            .call(&proxy, Frame::request(105).with_field("topic", "no-such-topic"))
            .await
            .unwrap();
        assert_eq!(unknown.code, i32::from(ResponseCode::TopicNotExist));
    });
}

#[test]
fn a_binary_request_has_a_binary_answer_under_its_own_opaque() {
    Cluster::start(&["a"], 1, |_| {}).run(async |cluster| {
        let mut stream = TcpStream::connect(cluster.address(0)).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut buffer = bytes::BytesMut::new();
        for (opaque, request) in [
            (77, send("a", "t", "x")),
            (-5, Frame::request(105).with_field("topic", "TBW102")),
            (i32::MAX, pull("a", "t", 0, 0)),
        ] {
            let request = Frame {
                encoding: Encoding::Binary,
                opaque,
                ..request
            };
            stream.write_all(&request.to_bytes()).unwrap();
            let answer = next(&mut stream, &mut buffer);
            assert_eq!(
                (answer.code, answer.opaque, answer.encoding),
                (0, opaque, Encoding::Binary),
                "{answer:?}"
            );
        }
    });
}

/// The next frame of a stream.
fn next(stream: &mut TcpStream, buffer: &mut bytes::BytesMut) -> Frame {
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

#[test]
fn a_request_without_a_broker_is_clear_with_one_and_refused_with_two() {
    for (brokers, code) in [
        (&["a"][..], ResponseCode::Success),
        (&["a", "b"], ResponseCode::VersionNotSupported),
    ] {
        Cluster::start(brokers, 1, |_| {}).run(async |cluster| {
            let (proxy, mut nameless) = (cluster.address(0), send("a", "t", "x"));
            nameless.ext.remove("n");
            let answer = client(&proxy).call(&proxy, nameless).await.unwrap();
            assert_eq!(answer.code, i32::from(code), "{:?}", answer.remark);
            assert!(code == ResponseCode::Success || answer.remark.unwrap().contains("names no broker"));
        });
    }
}

#[test]
fn what_is_not_for_clients_is_refused_and_so_are_unknown_brokers_and_codes() {
    Cluster::start(&["a"], 1, |settings| settings.max_brokers_per_client = 2).run(async |cluster| {
        let proxy = cluster.address(0);
        let client = client(&proxy);
        let refused = async |request: Frame| {
            let answer = client.call(&proxy, request).await.unwrap();
            (ResponseCode::try_from(answer.code).unwrap(), answer.remark.unwrap_or_default())
        };
        for code in [17, 25, 26, 106, 215, 3_001] {
            let (code, text) = refused(Frame::request(code).with_field("bname", "a")).await;
            assert_eq!(code, ResponseCode::RequestCodeNotSupported);
            assert!(text.contains("ask the port of a broker"), "{text}");
        }
        assert_eq!(refused(Frame::request(123_456)).await.0, ResponseCode::RequestCodeNotSupported);
        // Names that do not exist take no place.
        for name in ["x", "y", "z", "\u{1}\u{2}"] {
            let (code, text) = refused(send(name, "t", "x")).await;
            assert_eq!(code, ResponseCode::ServiceNotAvailable);
            assert!(text.contains("no name server of the proxy knows"), "{text}");
        }
        assert_eq!(client.call(&proxy, send("a", "t", "x")).await.unwrap().code, 0);
        // A one-way request that is refused has no answer, and harms nothing.
        client.one_way(&proxy, Frame::request(17)).await.unwrap();
        client.one_way(&proxy, send("x", "t", "x")).await.unwrap();
        client.one_way(&proxy, send("a", "t", "x")).await.unwrap();
        until("the one-way message is stored", || stored(&cluster.brokers[0], "t") == 2).await;
    });
}

/// Collects what brokers ask, and answers with the name of the client.
struct Consumer {
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

fn consumer(address: &str) -> (Client, mpsc::Receiver<Frame>) {
    let (asked, questions) = mpsc::channel();
    let client = Client::new(Options {
        request_timeout: SOON,
        service: Some(Arc::new(Consumer { asked })),
        ..Options::with_name_servers([address.to_owned()])
    });
    (client, questions)
}

#[test]
fn members_of_a_group_come_through_two_proxies_and_directly_and_know_each_other() {
    Cluster::start(&["a", "b"], 2, |_| {}).run(async |cluster| {
        let [one, other] = [cluster.address(0), cluster.address(1)];
        let direct = cluster.brokers[0].addresses()[0].to_string();
        let (first, notified) = consumer(&one);
        first.call(&one, send("a", "t", "x")).await.unwrap();
        let acknowledged = first.heartbeat(&one, &heartbeat("first", "g", "t")).await.unwrap();
        assert!(acknowledged.supports_v2, "the answer is a broker's own");
        let (second, _second) = consumer(&other);
        second.heartbeat(&other, &heartbeat("second", "g", "t")).await.unwrap();
        let (third, _third) = consumer(&direct);
        third.heartbeat(&direct, &heartbeat("third", "g", "t")).await.unwrap();
        for (client, address) in [(&first, &one), (&second, &other), (&third, &direct)] {
            assert_eq!(members(client, address, "g").await, ["first", "second", "third"]);
        }
        let both = cluster.brokers[1].addresses()[0].to_string();
        assert_eq!(
            members(&third, &both, "g").await,
            ["first", "second"],
            "a heartbeat goes to all masters"
        );
        let change = notified.recv_timeout(SOON).unwrap();
        assert_eq!((change.code, change.ext.text("consumerGroup")), (40, Some("g")));

        second.leave(&other, "second", None, Some("g")).await.unwrap();
        assert_eq!(members(&first, &one, "g").await, ["first", "third"]);
        // A client that is gone is gone at the brokers, with its connections.
        drop(first);
        until("the brokers know that the client is gone", || {
            cluster.proxies[0].broker_connections() == 0
        })
        .await;
        let begun = Instant::now();
        while members(&third, &direct, "g").await != ["third"] {
            assert!(begun.elapsed() < SOON, "it left the group");
        }
    });
}

/// A broker that a test plays: it gives each connection to the test.
fn played() -> (String, mpsc::Receiver<TcpStream>) {
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

#[test]
fn when_a_broker_ends_what_it_has_not_answered_ends_at_once_and_others_go_on() {
    Cluster::start(&["a", "b"], 1, |_| {}).run(async |cluster| {
        let (address, streams) = played();
        cluster.register("played", &address).await;
        let proxy = cluster.address(0);
        let client = client(&proxy);
        let asked = async { client.call(&proxy, send("played", "t", "x")).await.unwrap() };
        let polled = async { client.call(&proxy, pull("played", "t", 0, 20_000)).await.unwrap() };
        let broken = async {
            let (read, streams) = tokio::task::spawn_blocking(move || {
                let (mut stream, mut buffer) = (streams.recv_timeout(SOON).unwrap(), bytes::BytesMut::new());
                stream.set_read_timeout(Some(SOON)).unwrap();
                let read = [next(&mut stream, &mut buffer).code, next(&mut stream, &mut buffer).code];
                (read, streams)
            })
            .await
            .unwrap();
            assert_eq!(read, [310, 11], "in the order in which they were sent");
            streams
        };
        let begun = Instant::now();
        let (sent, pulled, streams) = tokio::join!(asked, polled, broken);
        assert!(begun.elapsed() < Duration::from_secs(20));
        for answer in [sent, pulled] {
            assert_eq!(answer.code, i32::from(ResponseCode::ServiceNotAvailable));
            assert!(answer.remark.unwrap().contains("closed before it answered"));
        }
        assert_eq!(client.call(&proxy, send("a", "t", "x")).await.unwrap().code, 0);
        // The next request connects again.
        let again = async { client.call(&proxy, send("played", "t", "x")).await.unwrap() };
        let answered = tokio::task::spawn_blocking(move || {
            let (mut stream, mut buffer) = (streams.recv_timeout(SOON).unwrap(), bytes::BytesMut::new());
            let request = next(&mut stream, &mut buffer);
            stream
                .write_all(&Frame::response_to(&request).with_field("queueOffset", 7).to_bytes())
                .unwrap();
        });
        let (answer, done) = tokio::join!(again, answered);
        done.unwrap();
        assert_eq!((answer.code, answer.ext.int::<i64>("queueOffset")), (0, Some(7)));

        // A real one that is gone: its port is closed.
        assert_eq!(client.call(&proxy, send("b", "t", "x")).await.unwrap().code, 0);
        let left = cluster.brokers.pop().unwrap();
        stop(move || left.stop().unwrap());
        until("the broker is gone", || cluster.proxies[0].broker_connections() <= 2).await;
        let answer = client.call(&proxy, send("b", "t", "x")).await.unwrap();
        assert_eq!(answer.code, i32::from(ResponseCode::ServiceNotAvailable), "{:?}", answer.remark);
        assert_eq!(client.call(&proxy, send("a", "t", "x")).await.unwrap().code, 0);
    });
}

#[test]
fn a_broker_that_comes_back_hears_of_its_clients_first() {
    Cluster::start(&[], 1, |_| {}).run(async |cluster| {
        let (address, streams) = played();
        cluster.register("played", &address).await;
        let proxy = cluster.address(0);
        let client = Arc::new(client(&proxy));
        let broker = tokio::task::spawn_blocking(move || {
            let codes = |count: usize| {
                let (mut stream, mut buffer) = (streams.recv_timeout(SOON).unwrap(), bytes::BytesMut::new());
                stream.set_read_timeout(Some(SOON)).unwrap();
                let answered = (0..count).map(|_| {
                    let request = next(&mut stream, &mut buffer);
                    if !request.is_oneway() {
                        stream.write_all(&Frame::response_to(&request).to_bytes()).unwrap();
                    }
                    (request.code, request.is_oneway())
                });
                answered.collect::<Vec<_>>()
            };
            [codes(1), codes(2), codes(1), codes(1)]
        });
        let beat = heartbeat("c", "g", "t");
        client.heartbeat(&proxy, &beat).await.unwrap();
        let closed = async || until("it is gone", || cluster.proxies[0].broker_connections() == 0).await;
        closed().await;
        assert_eq!(client.call(&proxy, send("played", "t", "x")).await.unwrap().code, 0);
        closed().await;
        // The same heartbeat again is passed on, because a broker has to hear it.
        client.heartbeat(&proxy, &beat).await.unwrap();
        closed().await;
        // A client that has left does not come back.
        client.leave(&proxy, "c", None, Some("g")).await.unwrap();
        assert_eq!(client.call(&proxy, send("played", "t", "x")).await.unwrap().code, 0);
        assert_eq!(
            broker.await.unwrap(),
            [
                vec![(34, false)],
                vec![(34, true), (310, false)],
                vec![(34, false)],
                vec![(310, false)]
            ]
        );
    });
}

#[test]
fn questions_of_two_brokers_under_one_opaque_are_told_apart() {
    Cluster::start(&["a"], 1, |_| {}).run(async |cluster| {
        let proxy = cluster.address(0);
        let (client, questions) = consumer(&proxy);
        let mut streams = Vec::new();
        for name in ["one", "other"] {
            let (address, accepted) = played();
            cluster.register(name, &address).await;
            client.one_way(&proxy, send(name, "t", "x")).await.unwrap();
            let stream = tokio::task::spawn_blocking(move || accepted.recv_timeout(SOON).unwrap())
                .await
                .unwrap();
            streams.push((name, stream));
        }
        tokio::task::spawn_blocking(move || {
            for (name, stream) in &mut streams {
                stream.set_read_timeout(Some(SOON)).unwrap();
                let question = Frame {
                    opaque: 5,
                    ..Frame::request(307).with_field("who", *name)
                };
                let check = Frame::request(39).with_field("msgId", "m").oneway();
                stream.write_all(&[question.to_bytes(), check.to_bytes()].concat()).unwrap();
            }
            for (name, stream) in &mut streams {
                let mut buffer = bytes::BytesMut::new();
                let mut frame = next(stream, &mut buffer);
                while !frame.is_response() {
                    frame = next(stream, &mut buffer);
                }
                assert_eq!((frame.opaque, &frame.body[..]), (5, name.as_bytes()));
            }
        })
        .await
        .unwrap();
        let asked: Vec<Frame> = (0..4).map(|_| questions.recv_timeout(SOON).unwrap()).collect();
        let opaques: Vec<i32> = asked.iter().filter(|frame| frame.code == 307).map(|frame| frame.opaque).collect();
        assert!(opaques.len() == 2 && opaques[0] != opaques[1], "{opaques:?}");
        // A check says which broker asks, also if the broker does not.
        let mut checks: Vec<_> = asked
            .iter()
            .filter(|frame| frame.code == 39)
            .filter_map(|frame| frame.ext.text("bname"))
            .collect();
        checks.sort_unstable();
        assert_eq!(checks, ["one", "other"]);
    });
}

#[test]
fn a_client_that_does_not_read_stops_its_brokers_and_nobody_else() {
    const MESSAGE: usize = 100_000;
    const PULLS: usize = 400;
    const UNREAD: usize = 64 << 10;
    Cluster::start(&["a", "b"], 1, |settings| settings.unread_bytes = UNREAD).run(async |cluster| {
        let proxy = cluster.address(0);
        let other = client(&proxy);
        for broker in ["a", "b"] {
            assert_eq!(other.call(&proxy, send(broker, "t", vec![b'x'; MESSAGE])).await.unwrap().code, 0);
        }
        let mut stream = TcpStream::connect(&proxy).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        for broker in ["a", "b"] {
            // Little may wait for a connection that is being opened.
            stream.write_all(&pull(broker, "t", 0, 0).to_bytes()).unwrap();
            assert_eq!(next(&mut stream, &mut bytes::BytesMut::new()).code, 0);
        }
        let requests: Vec<u8> = (0..PULLS)
            .flat_map(|at| {
                let request = Frame {
                    opaque: at as i32,
                    ..pull(["a", "b"][at % 2], "t", 0, 0)
                };
                request.to_bytes()
            })
            .collect();
        stream.write_all(&requests).unwrap();
        until("answers wait", || cluster.proxies[0].unread_bytes().0 > UNREAD).await;
        // Others are served meanwhile. A broker's answers are as many as one read brings, and one more.
        let most = UNREAD + 2 * (2 * MESSAGE + (256 << 10));
        for _ in 0..50 {
            assert_eq!(other.call(&proxy, send("a", "u", "x")).await.unwrap().code, 0);
            let unread = cluster.proxies[0].unread_bytes().0;
            assert!(unread < most, "{unread}");
        }
        // When it reads, it gets everything.
        let answers = tokio::task::spawn_blocking(move || {
            let mut buffer = bytes::BytesMut::new();
            (0..PULLS)
                .map(|_| next(&mut stream, &mut buffer))
                .map(|answer| (answer.opaque, answer.code, answer.body.len()))
                .collect::<Vec<_>>()
        });
        let mut answers = answers.await.unwrap();
        answers.sort_unstable();
        for (at, (opaque, code, size)) in answers.iter().enumerate() {
            assert!(
                at as i32 == *opaque && *code == 0 && *size > MESSAGE,
                "{at}: {opaque} {code} {size}"
            );
        }
        until("nothing waits", || cluster.proxies[0].unread_bytes().0 == 0).await;
    });
}

#[test]
fn a_broker_that_does_not_read_holds_its_client_up_for_a_while_only() {
    const BODY: usize = 1 << 20;
    const UNREAD: usize = 256 << 10;
    let change = |settings: &mut RemotingSettings| {
        settings.unread_bytes = UNREAD;
        settings.stall_time = Duration::from_millis(50);
    };
    Cluster::start(&["a"], 1, change).run(async |cluster| {
        let (address, streams) = played();
        cluster.register("stuck", &address).await;
        let proxy = cluster.address(0);
        let client = client(&proxy);
        let refused = async {
            loop {
                let sent = client
                    .call_within(&proxy, send("stuck", "t", vec![b'x'; BODY]), Duration::from_millis(200))
                    .await;
                if let Ok(answer) = sent {
                    return answer;
                }
                let unread = cluster.proxies[0].unread_bytes().1;
                assert!(unread < UNREAD + 4 * BODY, "{unread}");
            }
        };
        let answer = refused.await;
        assert_eq!(answer.code, i32::from(ResponseCode::SystemBusy), "{:?}", answer.remark);
        assert!(answer.remark.unwrap().contains("does not read"));
        assert_eq!(client.call(&proxy, send("a", "t", "x")).await.unwrap().code, 0);
        // When it reads, it gets requests again.
        let served = std::thread::spawn(move || {
            let mut stream = streams.recv_timeout(SOON).unwrap();
            stream.set_read_timeout(Some(SOON)).unwrap();
            let mut buffer = bytes::BytesMut::new();
            loop {
                let request = next(&mut stream, &mut buffer);
                if request.body.len() < BODY {
                    return stream.write_all(&Frame::response_to(&request).to_bytes()).unwrap();
                }
            }
        });
        let answer = loop {
            let answer = client.call(&proxy, send("stuck", "t", "small")).await.unwrap();
            if answer.code == 0 {
                break answer;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        assert_eq!(answer.code, 0);
        served.join().unwrap();
    });
}

#[test]
fn garbage_and_frames_that_are_too_large_end_their_own_connection() {
    Cluster::start(&["a"], 1, |settings| settings.max_frame_bytes = 64 << 10).run(async |cluster| {
        let proxy = cluster.address(0);
        let client = client(&proxy);
        assert_eq!(client.call(&proxy, send("a", "t", "x")).await.unwrap().code, 0);
        let too_large = send("a", "t", vec![b'x'; 64 << 10]).to_bytes();
        for bytes in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            &[0xff; 100],
            &[0, 0, 0, 8, 7, 0, 0, 4, 0, 0, 0, 0],
            &too_large,
        ] {
            let mut stream = TcpStream::connect(&proxy).unwrap();
            stream.set_read_timeout(Some(SOON)).unwrap();
            // The proxy may close it while it is written.
            let _ = stream.write_all(bytes);
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest);
            assert!(rest.is_empty());
        }
        // Valid frames with a body or a header of nonsense are refused.
        for code in [34, 41, 400, 200_151, 105, 38, 46] {
            let request = Frame::request(code).with_field("x", "\u{0}").with_body(&b"\xff{"[..]);
            let answer = client.call(&proxy, request).await.unwrap();
            assert_ne!(answer.code, 0, "{code}");
        }
        assert_eq!(client.call(&proxy, send("a", "t", "x")).await.unwrap().code, 0);
    });
}

#[test]
fn requests_and_connections_over_a_limit_are_refused() {
    let change = |settings: &mut RemotingSettings| {
        settings.max_pending_requests = 2;
        settings.max_connections = 2;
        settings.max_broker_connections = 1;
    };
    Cluster::start(&["a", "b"], 1, change).run(async |cluster| {
        let proxy = cluster.address(0);
        let client = Arc::new(client(&proxy));
        assert_eq!(client.call(&proxy, send("a", "t", "x")).await.unwrap().code, 0);
        let answer = client.call(&proxy, send("b", "t", "x")).await.unwrap();
        assert_eq!(answer.code, i32::from(ResponseCode::SystemBusy));
        assert!(answer.remark.unwrap().contains("apogeeProxyRemotingMaxBrokerConnections"));

        let parked: Vec<_> = (0..2)
            .map(|_| {
                let (client, proxy) = (Arc::clone(&client), proxy.clone());
                tokio::spawn(async move {
                    loop {
                        // Until a place of a send below is free.
                        let answer = client.call(&proxy, pull("a", "t", 1, 60_000)).await.unwrap();
                        if answer.code != i32::from(ResponseCode::SystemBusy) {
                            return answer;
                        }
                    }
                })
            })
            .collect();
        // Both wait when three sends in a row are refused.
        let (mut answer, mut refused) = (None, 0);
        while refused < 3 {
            let sent = client.call(&proxy, send("a", "u", "x")).await.unwrap();
            refused = if sent.code == 0 { 0 } else { refused + 1 };
            answer = Some(sent);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let answer = answer.unwrap();
        assert_eq!(answer.code, i32::from(ResponseCode::SystemBusy));
        assert!(answer.remark.unwrap().contains("apogeeProxyRemotingMaxPendingRequests"));
        // A message ends the pulls; another client brings it.
        let other = self::client(&cluster.brokers[0].addresses()[0].to_string());
        let direct = cluster.brokers[0].addresses()[0].to_string();
        assert_eq!(other.call(&direct, send("a", "t", "y")).await.unwrap().code, 0);
        for pulled in parked {
            assert_eq!(pulled.await.unwrap().code, 0);
        }
        assert_eq!(client.call(&proxy, send("a", "t", "x")).await.unwrap().code, 0);

        let _second = Peer::connect(&proxy, PeerOptions::default()).await.unwrap();
        until("it is open", || cluster.proxies[0].connections() == 2).await;
        let third = Peer::connect(&proxy, PeerOptions::default()).await.unwrap();
        assert_eq!(third.request(Frame::request(105), SOON).await, Err(RequestError::Closed));
    });
}

#[test]
fn a_request_that_is_never_answered_ends_with_the_next_heartbeat() {
    Cluster::start(&["a"], 1, |settings| settings.request_timeout = Duration::from_millis(100)).run(async |cluster| {
        let (address, streams) = played();
        cluster.register("silent", &address).await;
        let proxy = cluster.address(0);
        let client = Arc::new(client(&proxy));
        let asked = tokio::spawn({
            let (client, proxy) = (Arc::clone(&client), proxy.clone());
            async move { client.call(&proxy, send("silent", "t", "x")).await.unwrap() }
        });
        let _stream = tokio::task::spawn_blocking(move || streams.recv_timeout(SOON).unwrap())
            .await
            .unwrap();
        while !asked.is_finished() {
            // All brokers have to be told, so it waits a while for the silent one.
            client.heartbeat(&proxy, &heartbeat("c", "g", "t")).await.unwrap();
        }
        let answer = asked.await.unwrap();
        assert_eq!(answer.code, i32::from(ResponseCode::SystemError));
        assert!(answer.remark.unwrap().contains("did not answer in time"));
    });
}

#[test]
fn locks_go_to_the_broker_of_their_queues() {
    Cluster::start(&["a", "b"], 1, |_| {}).run(async |cluster| {
        let proxy = cluster.address(0);
        let client = client(&proxy);
        let lock = |brokers: &[&str]| {
            let queues: Vec<_> = brokers
                .iter()
                .map(|name| format!(r#"{{"topic":"t","brokerName":"{name}","queueId":0}}"#))
                .collect();
            let body = format!(r#"{{"clientId":"c","consumerGroup":"g","mqSet":[{}]}}"#, queues.join(","));
            Frame::request(RequestCode::LockBatchMq).with_body(body)
        };
        for name in ["a", "b"] {
            let answer = client.call(&proxy, lock(&[name])).await.unwrap();
            assert_eq!(answer.code, 0, "{:?}", answer.remark);
            assert!(
                String::from_utf8(answer.body.to_vec())
                    .unwrap()
                    .contains(&format!(r#""brokerName":"{name}""#))
            );
        }
        let answer = client.call(&proxy, lock(&["a", "b"])).await.unwrap();
        assert_eq!(answer.code, i32::from(ResponseCode::InvalidParameter));
    });
}

#[test]
fn a_proxy_that_stops_answers_what_was_asked_and_does_not_wait_for_messages() {
    Cluster::start(&["a"], 1, |_| {}).run(async |cluster| {
        let (address, streams) = played();
        cluster.register("slow", &address).await;
        let proxy = cluster.address(0);
        let client = Arc::new(client(&proxy));
        assert_eq!(client.call(&proxy, send("a", "t", "x")).await.unwrap().code, 0);
        let call = |request: Frame| {
            let (client, proxy) = (Arc::clone(&client), proxy.clone());
            tokio::spawn(async move { client.call(&proxy, request).await })
        };
        let (sent, parked) = (call(send("slow", "t", "x")), call(pull("a", "t", 1, 60_000)));
        let (mut stream, request) = tokio::task::spawn_blocking(move || {
            let (mut stream, mut buffer) = (streams.recv_timeout(SOON).unwrap(), bytes::BytesMut::new());
            let request = next(&mut stream, &mut buffer);
            (stream, request)
        })
        .await
        .unwrap();
        let remoting = cluster.proxies.pop().unwrap();
        let begun = Instant::now();
        let stopping = std::thread::spawn(move || remoting.stop());
        until("it accepts nothing more", || TcpStream::connect(&proxy).is_err()).await;
        stream.write_all(&Frame::response_to(&request).to_bytes()).unwrap();
        assert_eq!(sent.await.unwrap().unwrap().code, 0, "what was asked is answered");
        stopping.join().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        assert!(
            parked.await.unwrap().is_err(),
            "a client of a proxy that is gone asks again elsewhere"
        );
    });
}

#[test]
fn a_producer_and_a_consumer_need_nothing_but_the_proxy() {
    Cluster::start(&["a"], 1, |_| {}).run(async |cluster| {
        let proxy = cluster.address(0);
        let client = client(&proxy);
        let producer = Producer::new(&client, "pg");
        // The topic is created by its first message, through the template's route.
        let queue = Queue::at(&proxy, "t", 0);
        let sent = producer.send_to(&queue, Message::new("t", "one")).await.unwrap();
        let puller = Puller::new(&client, "g");
        let pulled = puller.pull(&queue, sent.offset, &PullOptions::default()).await.unwrap();
        assert_eq!(pulled.records().next().unwrap().unwrap().body, b"one");
    });
}
