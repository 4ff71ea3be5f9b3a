//! The client against a scripted server: requests, their order, the number of connections, and errors.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use client::{Client, Error, Lookup, Message, Options, Outcome, Producer, PullOptions, Puller, Queue, Stored};
use net::{Connection, Limits, Server, Service};
use parking_lot::Mutex;
use protocol::{Frame, RequestCode, ResponseCode};

type Script = Box<dyn Fn(&Frame) -> Option<Frame> + Send + Sync>;

/// Answers as its script says and records the requests.
struct Scripted {
    script: Script,
    asked: Mutex<Vec<Frame>>,
    connections: AtomicUsize,
    conns: Mutex<Vec<Arc<Connection>>>,
}

impl Service for Scripted {
    fn serve(&self, conn: &Arc<Connection>, frames: &mut Vec<Frame>) {
        for frame in frames.drain(..) {
            if let Some(mut answer) = (self.script)(&frame) {
                (answer.opaque, answer.flag) = (frame.opaque, 1);
                conn.send_frame(&answer);
            }
            self.asked.lock().push(frame);
        }
    }

    fn opened(&self, conn: &Arc<Connection>) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.conns.lock().push(Arc::clone(conn));
    }
}

fn serve(script: impl Fn(&Frame) -> Option<Frame> + Send + Sync + 'static) -> (Server, Arc<Scripted>, String) {
    let scripted = Arc::new(Scripted {
        script: Box::new(script),
        asked: Mutex::default(),
        connections: AtomicUsize::new(0),
        conns: Mutex::default(),
    });
    let options = net::Options {
        name: "scripted".into(),
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        workers: 1,
        limits: Limits::default(),
        encryption: net::session::Encryption::Disabled,
    };
    let server = Server::start(options, Arc::clone(&scripted) as Arc<dyn Service>).unwrap();
    let address = server.local_addrs()[0].to_string();
    (server, scripted, address)
}

fn ok() -> Frame {
    Frame::request(ResponseCode::Success)
}

fn sent(queue_offset: i64) -> Frame {
    ok().with_field("msgId", "A,B")
        .with_field("queueId", 3)
        .with_field("queueOffset", queue_offset)
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let limited = async {
        tokio::time::timeout(Duration::from_secs(20), test)
            .await
            .expect("the test ends in time")
    };
    runtime.block_on(limited)
}

#[test]
fn callers_of_one_address_share_a_connection_and_a_closed_one_is_replaced() {
    let (_server, scripted, address) = serve(|_| Some(ok()));
    run(async {
        let client = Client::new(Options::with_broker(&address));
        let ask = || client.ask(&address, Frame::request(RequestCode::HeartBeat));
        let (a, b, c) = tokio::join!(ask(), ask(), ask());
        for answer in [a, b, c] {
            answer.unwrap();
        }
        assert_eq!(scripted.connections.load(Ordering::Relaxed), 1);
        let peer = client.peer(&address).await.unwrap();
        scripted.conns.lock()[0].close();
        while !peer.is_closed() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        ask().await.unwrap();
        assert_eq!(scripted.connections.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn sends_begun_in_order_leave_in_order_before_any_answer() {
    let (_server, scripted, address) = serve(|frame| {
        let body: i64 = std::str::from_utf8(&frame.body).unwrap().parse().unwrap();
        Some(sent(body))
    });
    run(async {
        let client = Client::new(Options::with_broker(&address));
        let producer = Producer::new(&client, "g");
        let queue = Queue::at(&address, "t", -1);
        let mut pending = Vec::new();
        for n in 0..100 {
            pending.push(producer.begin(&queue, Message::new("t", n.to_string())).await.unwrap());
        }
        for (n, pending) in pending.into_iter().enumerate().rev() {
            let sent = pending.await.unwrap();
            assert_eq!((sent.offset, sent.queue.id, sent.stored), (n as i64, 3, Stored::Confirmed));
            assert_eq!(sent.ids, ["A", "B"]);
        }
        let bodies: Vec<_> = scripted.asked.lock().iter().map(|frame| frame.body.clone()).collect();
        assert_eq!(bodies, (0..100).map(|n| Bytes::from(n.to_string())).collect::<Vec<_>>());
    });
}

#[test]
fn a_send_that_is_stored_but_not_flushed_is_no_failure() {
    let (_server, _, address) = serve(|_| Some(sent(7).with_code(ResponseCode::FlushDiskTimeout)));
    run(async {
        let client = Client::new(Options::with_broker(&address));
        let (producer, queue) = (Producer::new(&client, "g"), Queue::at(&address, "t", 0));
        let sent = producer.send_to(&queue, Message::new("t", "x")).await.unwrap();
        assert_eq!(sent.stored, Stored::NotFlushed);
    });
}

#[test]
fn one_way_sends_have_the_one_way_flag() {
    let (_server, scripted, address) = serve(|frame| match RequestCode::try_from(frame.code) {
        Ok(RequestCode::GetRouteinfoByTopic) => Some(route_answer("10.0.0.1:1")),
        _ => None,
    });
    run(async {
        let mut options = Options::with_name_servers([&address]);
        options.connect_timeout = Duration::from_millis(300);
        let client = Client::new(options);
        client
            .one_way(&address, Frame::request(RequestCode::UpdateConsumerOffset))
            .await
            .unwrap();
        while scripted.asked.lock().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(scripted.asked.lock()[0].is_oneway());
    });
}

fn route_answer(broker: &str) -> Frame {
    let route = format!(
        "{{\"brokerDatas\":[{{\"brokerAddrs\":{{0:\"{broker}\"}},\"brokerName\":\"b\",\"cluster\":\"c\"}}],\"filterServerTable\":{{}},\
         \"queueDatas\":[{{\"brokerName\":\"b\",\"perm\":6,\"readQueueNums\":2,\"topicSysFlag\":0,\"writeQueueNums\":2}}]}}"
    );
    ok().with_body(route)
}

#[test]
fn a_name_server_that_is_down_is_skipped_and_queues_are_used_in_turn() {
    let (_broker_server, broker, broker_address) = serve(|_| Some(sent(0)));
    let (_server, names, names_address) = serve(move |_| Some(route_answer(&broker_address)));
    run(async {
        let client = Client::new(Options::with_name_servers(["127.0.0.1:1", &names_address]));
        let producer = Producer::new(&client, "g");
        for _ in 0..4 {
            producer.send(Message::new("t", "x")).await.unwrap();
        }
        let mut queues: Vec<i32> = broker.asked.lock().iter().map(|frame| frame.ext.int("e").unwrap()).collect();
        queues.sort_unstable();
        assert_eq!(queues, [0, 0, 1, 1]);
        assert_eq!(names.asked.lock().len(), 1, "a route is looked up once");
    });
}

#[test]
fn errors_say_what_the_caller_can_do() {
    let (_server, _, address) = serve(|frame| match RequestCode::try_from(frame.code) {
        Ok(RequestCode::GetRouteinfoByTopic) => Some(ok().with_code(ResponseCode::TopicNotExist).with_remark("none")),
        Ok(RequestCode::SendMessageV2) => Some(ok().with_code(ResponseCode::SystemBusy)),
        Ok(RequestCode::PullMessage) => Some(ok().with_code(ResponseCode::PullNotFound)),
        Ok(RequestCode::GetMaxOffset) => Some(ok().with_code(ResponseCode::SystemError).with_remark("why")),
        _ => None,
    });
    run(async {
        let mut options = Options::new(Lookup::NameServers(vec![address.clone()]));
        options.request_timeout = Duration::from_millis(100);
        let client = Client::new(options);
        let queue = Queue::at(&address, "t", 0);
        assert!(matches!(client.route("t").await, Err(Error::NoRoute { .. })));
        let busy = Producer::new(&client, "g").send_to(&queue, Message::new("t", "x")).await;
        assert!(matches!(busy, Err(Error::Busy { .. })));
        assert_eq!(client.max_offset(&queue).await.unwrap_err().code(), Some(1));
        assert!(matches!(client.min_offset(&queue).await, Err(Error::Unanswered { .. })));
        assert!(matches!(
            client.max_offset(&Queue::at("127.0.0.1:1", "t", 0)).await,
            Err(Error::Unreachable(_))
        ));
        let garbled = Puller::new(&client, "g").pull(&queue, 0, &PullOptions::default()).await;
        assert!(
            matches!(garbled, Err(Error::Malformed { .. })),
            "a pull's answer has offsets, whatever its code"
        );
    });
}

#[test]
fn a_parked_pull_may_exceed_the_request_timeout_and_reports_its_result() {
    let answer = |code| {
        ok().with_code(code)
            .with_field("suggestWhichBrokerId", 0)
            .with_field("nextBeginOffset", 9)
            .with_field("minOffset", 1)
            .with_field("maxOffset", 9)
    };
    let (_server, scripted, address) = serve(move |frame| {
        std::thread::sleep(Duration::from_millis(150));
        let held = frame.ext.int::<i64>("suspendTimeoutMillis") == Some(5_000);
        Some(answer(if held {
            ResponseCode::PullNotFound
        } else {
            ResponseCode::PullOffsetMoved
        }))
    });
    run(async {
        let mut options = Options::with_broker(&address);
        options.request_timeout = Duration::from_millis(100);
        let client = Client::new(options);
        let (puller, queue) = (Puller::new(&client, "g"), Queue::at(&address, "t", 0));
        let options = PullOptions {
            wait: Duration::from_secs(5),
            commit: Some(4),
            ..PullOptions::default()
        };
        let pulled = puller.pull(&queue, 9, &options).await.unwrap();
        assert_eq!((pulled.outcome, pulled.next_offset, pulled.min_offset), (Outcome::NothingNew, 9, 1));
        assert_eq!(scripted.asked.lock()[0].ext.int::<i32>("sysFlag"), Some(7));
        assert!(matches!(
            puller.pull(&queue, 9, &PullOptions::default()).await,
            Err(Error::Unanswered { .. })
        ));
    });
}
