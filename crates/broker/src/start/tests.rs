//! A whole broker on a simulated disk, asked over the network.

use super::*;
use crate::asker::{Asker, Sink};
use crate::clients::heartbeat::{Client, Clients, heartbeat};
use crate::clients::table::{Channel, ClientCallError, OnResponse};
use crate::clients::{ClientChannel, ProtocolClient};
use crate::errors::Refusal;
use crate::pull::Pulled;
use crate::send::{Ending, MayBeLate, SendContext, SendRequest, SendSink, Sent};
use crate::testing;
use net::client::{Peer, PeerOptions};
use protocol::frame::FLAG_ONEWAY;
use protocol::{Frame, RequestCode, ResponseCode};
use std::time::Instant;
use store::disk::simulated::SimulatedDisk;

mod acting;
mod compaction;
mod dedup;
mod lites;
mod pop_priority;
mod pop_reports;
mod popping;
mod pops;
mod replicas;
mod sql_filters;
mod support;
mod timers;
mod transactions;

const SOON: Duration = Duration::from_secs(30);

fn small_settings() -> BrokerSettings {
    BrokerSettings {
        bind_address: std::net::Ipv4Addr::LOCALHOST.into(),
        listen_port: 0,
        store_path_root_dir: "/store".into(),
        mapped_file_size_commit_log: 1 << 20,
        mapped_file_size_consume_queue: 20_000,
        max_hash_slot_num: 1_000,
        max_index_num: 4_000,
        clean_file_forcibly_enable: false,
        ..BrokerSettings::default()
    }
}

fn send_context() -> SendContext {
    SendContext {
        client: SocketAddr::from(([127, 0, 0, 1], 1)),
        store_host: SocketAddr::from(([127, 0, 0, 1], 2)),
        now_ms: now_ms(),
    }
}

fn start(disk: &SimulatedDisk, change: impl FnOnce(&mut BrokerSettings)) -> Broker {
    let mut settings = small_settings();
    change(&mut settings);
    Broker::start(settings, Transport::default(), &[], Arc::new(disk.clone())).unwrap()
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(4 * SOON, work).await.expect("it hangs") })
}

async fn connect(broker: &Broker) -> Peer {
    let address = broker.addresses()[0].to_string();
    Peer::connect(&address, PeerOptions::default()).await.unwrap()
}

fn request(code: RequestCode, fields: &[(&str, &str)], body: &str) -> Frame {
    let mut frame = testing::frame(code, fields);
    frame.body = body.as_bytes().to_vec().into();
    frame
}

async fn ask(peer: &Peer, frame: Frame) -> ResponseCode {
    let answer = peer.request(frame, SOON).await.unwrap();
    ResponseCode::try_from(answer.code).unwrap()
}

fn send(topic: &str, wait: bool) -> Frame {
    let properties = format!("WAIT\u{1}{wait}\u{2}");
    let fields = [
        ("producerGroup", "p"),
        ("topic", topic),
        ("defaultTopic", "TBW102"),
        ("defaultTopicQueueNums", "1"),
        ("queueId", "0"),
        ("sysFlag", "0"),
        ("bornTimestamp", "1"),
        ("flag", "0"),
        ("properties", properties.as_str()),
    ];
    request(RequestCode::SendMessage, &fields, "body")
}

fn pull(group: &str, sys_flag: &str) -> Frame {
    let fields = [
        ("consumerGroup", group),
        ("topic", "t"),
        ("queueId", "0"),
        ("queueOffset", "1"),
        ("maxMsgNums", "1"),
        ("sysFlag", sys_flag),
        ("commitOffset", "0"),
        ("suspendTimeoutMillis", "30000"),
        ("subscription", "a || b"),
        ("subVersion", "1"),
        ("expressionType", "TAG"),
    ];
    request(RequestCode::PullMessage, &fields, "")
}

fn until(what: &str, reached: impl Fn() -> bool) {
    let begun = Instant::now();
    while !reached() {
        assert!(begun.elapsed() < SOON, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_start_that_fails_leaves_nothing_running() {
    let disk = SimulatedDisk::new(1);
    let taken = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).unwrap();
    let settings = BrokerSettings {
        listen_port: taken.local_addr().unwrap().port(),
        ..small_settings()
    };
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let watched = Arc::downgrade(&shared);
    let refused = Broker::start(settings, Transport::default(), &[], shared);
    assert!(matches!(refused.map(drop), Err(StartError::Listen(_))));
    until("no thread has the store any more", || watched.strong_count() == 0);
    start(&disk, |_| ()).stop().unwrap();
}

/// What clients leave in tables goes with them: filled, disconnected and expired, every table is empty again.
#[test]
fn clients_that_are_gone_leave_nothing_behind() {
    const SUSPEND_AND_SUBSCRIBE: &str = "6";
    let broker = start(&SimulatedDisk::new(1), |_| ());
    let routes = &broker.routes;
    block_on(async {
        let peers = [connect(&broker).await, connect(&broker).await, connect(&broker).await];
        assert_eq!(ask(&peers[0], send("t", true)).await, ResponseCode::Success);
        for (number, peer) in peers.iter().enumerate() {
            for beat in 0..3 {
                // A client id of its own each time, and groups that others are in, too.
                let subscriptions = format!(r#"[{{"topic":"t","subString":"{number}","subVersion":{beat},"tagsSet":["{number}"]}}]"#);
                let body = format!(
                    r#"{{"clientID":"c{number}-{beat}","producerDataSet":[{{"groupName":"p"}},{{"groupName":"p{number}"}}],
                    "consumerDataSet":[{{"groupName":"g","subscriptionDataSet":{subscriptions}}},
                    {{"groupName":"g{number}","subscriptionDataSet":{subscriptions}}}]}}"#
                );
                assert_eq!(ask(peer, request(RequestCode::HeartBeat, &[], &body)).await, ResponseCode::Success);
            }
            let queue = format!(r#"{{"topic":"t","brokerName":"b","queueId":{number}}}"#);
            let body = format!(r#"{{"consumerGroup":"g","clientId":"c{number}","mqSet":[{queue}]}}"#);
            assert_eq!(
                ask(peer, request(RequestCode::LockBatchMq, &[], &body)).await,
                ResponseCode::Success
            );
            for group in ["g", "only-pulls"] {
                let mut parked = pull(group, SUSPEND_AND_SUBSCRIBE);
                parked.opaque = Frame::request(RequestCode::PullMessage).opaque;
                peer.one_way(&parked).unwrap();
            }
            // The client never answers what is asked of it here.
            let asked = [("consumerGroup", "g"), ("clientId", "c1-2"), ("jstackEnable", "false")];
            let mut asked = request(RequestCode::GetConsumerRunningInfo, &asked, "");
            asked.flag |= FLAG_ONEWAY;
            peer.one_way(&asked).unwrap();
        }
        until("six pulls are parked", || routes.puller.parked() == 6);
        assert!(!routes.online.consumers.is_clean() && !routes.online.producers.is_clean() && !routes.locks.is_empty());
        assert!(routes.online.consumers.hazards().differing_subscriptions() > 0);
    });
    // The runtime is gone, and the connections with it.
    until("pulls are forgotten", || routes.puller.is_clean());
    until("producers are forgotten", || routes.online.producers.is_clean());
    until("consumers are forgotten", || routes.online.consumers.count("g") == 0);
    let later = now_ms() + 3_600_000;
    routes.online.notices.expire(&routes.online.producers, true, later);
    routes.locks.expire(later);
    assert!(routes.online.consumers.is_clean() && routes.online.notices.settle() && routes.locks.is_clean());
    broker.stop().unwrap();
}

/// The answer of SYNC_FLUSH comes in time whatever the disk does, and what was stored is there when the disk is back.
#[test]
fn a_sync_that_hangs_is_answered_with_the_time_out_and_others_go_on() {
    const TIME_OUT: Duration = Duration::from_millis(500);
    let disk = SimulatedDisk::new(1);
    let broker = start(&disk, |settings| {
        settings.flush_disk_type = crate::settings::FlushDiskType::Sync;
        settings.sync_flush_timeout = TIME_OUT;
    });
    block_on(async {
        let peer = connect(&broker).await;
        assert_eq!(ask(&peer, send("t", true)).await, ResponseCode::Success);
        disk.hold_syncs();
        let begun = Instant::now();
        assert_eq!(ask(&peer, send("t", true)).await, ResponseCode::FlushDiskTimeout);
        assert!(begun.elapsed() >= TIME_OUT, "{:?}", begun.elapsed());
        assert!(begun.elapsed() < TIME_OUT + SOON / 2, "{:?}", begun.elapsed());
        assert_eq!(ask(&peer, send("t", false)).await, ResponseCode::Success, "it asks for no sync");
        // A pull that is to be parked for a second and a half comes back in time.
        let begun = Instant::now();
        let mut parked = pull("g", "6");
        parked.ext.push("suspendTimeoutMillis", "1500");
        let code = ask(&peer, parked).await;
        assert_eq!(code, ResponseCode::PullNotFound, "{:?}", begun.elapsed());
        disk.let_syncs_go();
        assert_eq!(ask(&peer, send("t", true)).await, ResponseCode::Success);
        assert_eq!(broker.store.max_offset("t", 0).0, 4);
    });
    broker.stop().unwrap();
    let after = start(&disk.power_cut(7), |_| ());
    assert_eq!(after.store.max_offset("t", 0).0, 4);
    after.stop().unwrap();
}

/// A protocol without connections and frames: the results of its requests, by number.
#[derive(Clone, Default)]
struct InProcess(Arc<parking_lot::Mutex<Vec<(u32, String)>>>);

impl SendSink for InProcess {
    type Asker = u32;

    fn wants_answer(_: u32) -> bool {
        true
    }

    fn refuse(&self, asker: u32, refusal: Refusal) {
        self.0.lock().push((asker, format!("{:?}", refusal.code)));
    }

    fn answer<'s>(&self, sent: impl Iterator<Item = (u32, Sent<'s>)>) {
        let told = sent.map(|(asker, sent)| (asker, format!("{}@{}", sent.queue_id, sent.placements[0].queue_offset.0)));
        self.0.lock().extend(told);
    }

    fn answer_later<'s>(
        &self,
        sent: impl Iterator<Item = (u32, Sent<'s>)> + Clone,
        _: MayBeLate,
    ) -> impl FnOnce(Ending<'_>) + Send + 'static {
        let (told, askers) = (self.clone(), sent.map(|(asker, _)| asker).collect::<Vec<_>>());
        move |ending| {
            told.0
                .lock()
                .extend(askers.into_iter().map(|asker| (asker, format!("later {ending:?}"))))
        }
    }

    fn fail(&self, askers: impl Iterator<Item = u32>, reason: &str) {
        self.0.lock().extend(askers.map(|asker| (asker, reason.to_owned())));
    }
}

/// One pull of it.
struct PullOf(u64, std::sync::mpsc::Sender<String>);

impl Sink<Pulled> for PullOf {
    fn client(&self) -> u64 {
        self.0
    }

    fn peer(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 1))
    }

    fn is_disconnected(&self) -> bool {
        false
    }

    fn answer(self: Box<Self>, pulled: Pulled) {
        let told = format!("{} {} {}", pulled.status, pulled.next.0, pulled.records.len());
        self.1.send(told).unwrap_or_default();
    }

    fn refuse(self: Box<Self>, refusal: Refusal) {
        self.1.send(refusal.text).unwrap_or_default();
    }
}

#[test]
fn another_face_pulls_without_frames_and_is_woken_by_a_message() {
    let broker = start(&SimulatedDisk::new(1), |_| ());
    let client = net::Connection::next_id();
    let pull = |queue_offset| {
        let header = protocol::pull::PullHeader {
            consumer_group: "g",
            topic: "t",
            queue_offset,
            max_msg_nums: 32,
            sys_flag: 2 | 4,
            suspend_timeout_ms: 60_000,
            subscription: Some("*"),
            ..Default::default()
        };
        let (told, outcome) = std::sync::mpsc::channel();
        let asker = Asker::Protocol(Box::new(PullOf(client, told)));
        broker.routes.puller.pull(asker, &header, now_ms());
        outcome
    };
    assert!(pull(0).recv_timeout(SOON).unwrap().starts_with("topic[t] not exist"));
    block_on(async {
        let peer = connect(&broker).await;
        assert_eq!(ask(&peer, send("t", true)).await, ResponseCode::Success);
        assert_eq!(pull(0).recv_timeout(SOON).unwrap(), "FOUND 1 1");
        let parked = pull(1);
        assert_eq!(broker.routes.puller.parked(), 1);
        assert_eq!(ask(&peer, send("t", true)).await, ResponseCode::Success);
        assert_eq!(parked.recv_timeout(SOON).unwrap(), "FOUND 2 1");
    });
    let parked = pull(2);
    broker.stop().unwrap();
    assert_eq!(parked.recv_timeout(SOON).unwrap(), "OFFSET_OVERFLOW_ONE 2 0");
}

/// A client of another protocol, with the notifications it got.
struct FaceMember(u64, std::sync::mpsc::Sender<i32>);

impl ProtocolClient for FaceMember {
    fn id(&self) -> u64 {
        self.0
    }

    fn peer(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 1))
    }

    fn send_oneway(&self, request: &Frame) {
        self.1.send(request.code).unwrap_or_default();
    }

    fn call(&self, _: Frame, _: Duration, done: OnResponse) {
        done(Err(ClientCallError::Congested));
    }

    fn close(&self) {}

    fn is_closed(&self) -> bool {
        false
    }
}

#[test]
fn clients_of_two_faces_are_in_one_group() {
    let broker = start(&SimulatedDisk::new(1), |_| ());
    let online = &broker.routes.online;
    let settings = broker.routes.core.settings.current();
    let (told, hears) = std::sync::mpsc::channel();
    let channel = ClientChannel::Protocol(Arc::new(FaceMember(net::Connection::next_id(), told)));
    let clients = Clients {
        notices: &online.notices,
        producers: &online.producers,
        groups: &broker.routes.core.groups,
        topics: &broker.routes.core.topics,
        settings: &settings,
    };
    let body = r#"{"clientID":"face","consumerDataSet":[{"groupName":"g","subscriptionDataSet":[{"topic":"t","subString":"*"}]}]}"#;
    let client = Client {
        channel: &channel,
        language: protocol::Language::Rust,
        version: 1,
    };
    let told = protocol::json::read(body.as_bytes()).unwrap();
    let beat = heartbeat(told, client, &clients, now_ms()).unwrap();
    beat.join(&online.notices, &online.producers, &broker.routes.core.stats).unwrap();
    assert_eq!(hears.recv_timeout(SOON).unwrap(), i32::from(RequestCode::NotifyConsumerIdsChanged));
    block_on(async {
        let peer = connect(&broker).await;
        let body = body.replace("face", "remoting");
        assert_eq!(ask(&peer, request(RequestCode::HeartBeat, &[], &body)).await, ResponseCode::Success);
        assert_eq!(online.consumers.count("g"), 2);
    });
    assert_eq!(hears.recv_timeout(SOON).unwrap(), i32::from(RequestCode::NotifyConsumerIdsChanged));
    online.connection_closed(channel.id(), crate::clients::Departure::Lost);
    until("the connection is noticed to be closed", || online.consumers.count("g") == 0);
    broker.stop().unwrap();
}

#[test]
fn another_face_sends_without_frames() {
    let broker = start(&SimulatedDisk::new(1), |_| ());
    let told = InProcess::default();
    let context = send_context();
    let send = |bodies: &[&'static str]| {
        let requests = bodies.iter().zip(0..).map(|(body, asker)| SendRequest {
            header: protocol::send::SendHeader {
                topic: "t",
                default_topic: "TBW102",
                default_topic_queue_nums: 1,
                ..Default::default()
            },
            is_batch: false,
            body: body.as_bytes(),
            client_version: 0,
            asker,
        });
        broker.routes.sender.send(&told, requests, bodies.len(), context);
    };
    send(&["the topic is made with it"]);
    until("it is answered when the topic is saved", || !told.0.lock().is_empty());
    send(&["second", "", "third"]);
    let told = told.0.lock();
    // The new topic may be saved before its send is completed.
    assert!(["later Done", "0@0"].contains(&&*told[0].1), "{told:?}");
    let expected = [(1, "MessageIllegal"), (0, "0@1"), (2, "0@2")];
    assert_eq!(told[1..], expected.map(|(asker, text)| (asker, text.to_owned())));
    drop(told);
    broker.stop().unwrap();
}

/// A panic of one of the store's threads is a bug: the process is told to stop, and the stop says that it was not a clean one.
#[test]
fn a_violated_invariant_stops_the_broker() {
    let disk = SimulatedDisk::new(1);
    let broker = start(&disk, |settings| settings.flush_disk_type = crate::settings::FlushDiskType::Sync);
    let (told, stopped) = std::sync::mpsc::channel();
    broker.call_when_broken(move || told.send(()).unwrap_or_default());
    disk.hold_syncs();
    let draft = message::record::Draft::new("t", 0, b"body");
    let queue = broker.store.queue("t", 0);
    let ticket = broker.store.append(&[draft], &[queue], 1, &mut Vec::new()).unwrap();
    broker.store.complete_then(ticket, true, |_| panic!("on purpose"));
    assert!(stopped.try_recv().is_err());
    disk.let_syncs_go();
    stopped.recv_timeout(SOON).unwrap();
    assert!(broker.stop().is_err());
    let after = start(&disk, |_| ());
    assert_eq!(after.store.max_offset("t", 0).0, 1);
    after.stop().unwrap();
}

#[test]
fn a_priority_names_the_queue() {
    let broker = start(&SimulatedDisk::new(1), |_| ());
    let told = InProcess::default();
    let context = send_context();
    let spec = crate::topic::Spec::new("t", 4);
    broker.routes.core.topics.update(vec![(spec, Default::default())], 1).unwrap();
    for (priority, nth) in ["0", "2", "3", "9"].iter().zip(0..) {
        let properties = format!("_SYS_MSG_PRIORITY_\u{1}{priority}\u{2}");
        let request = SendRequest {
            header: protocol::send::SendHeader {
                topic: "t",
                queue_id: 1,
                properties: properties.as_bytes(),
                ..Default::default()
            },
            is_batch: false,
            body: b"body",
            client_version: 0,
            asker: nth,
        };
        broker.routes.sender.send(&told, std::iter::once(request), 1, context);
    }
    until("all are stored", || broker.store.max_offset("t", 3).0 == 2);
    let stored: Vec<i64> = (0..4).map(|queue| broker.store.max_offset("t", queue).0).collect();
    assert_eq!(stored, [1, 0, 1, 2]);
    broker.stop().unwrap();
}

/// A topic is not made while queues of its name are deleted, however long that takes: they are not its own.
#[test]
fn a_send_to_a_topic_that_is_being_deleted_is_refused_until_that_is_done() {
    let disk = SimulatedDisk::new(1);
    let broker = start(&disk, |_| ());
    block_on(async {
        let (peer, operator) = (connect(&broker).await, connect(&broker).await);
        assert_eq!(ask(&peer, send("t", true)).await, ResponseCode::Success);
        assert_eq!(ask(&peer, send("t", true)).await, ResponseCode::Success);
        disk.hold_syncs();
        let delete = request(RequestCode::DeleteTopicInBroker, &[("topic", "t")], "");
        let (outcome, deleted) = std::sync::mpsc::channel();
        let done = move |answer: Result<Frame, _>| outcome.send(answer.unwrap().code).unwrap();
        operator.connection().request(delete, SOON, done).unwrap();
        until("the topic leaves the table", || !broker.routes.core.topics.contains("t"));
        assert_eq!(ask(&peer, send("t", true)).await, ResponseCode::ServiceNotAvailable);
        disk.let_syncs_go();
        let deleted = tokio::task::spawn_blocking(move || deleted.recv_timeout(SOON).unwrap());
        assert_eq!(deleted.await.unwrap(), i32::from(ResponseCode::Success));
        assert_eq!(ask(&peer, send("t", true)).await, ResponseCode::Success);
        assert_eq!(broker.store.max_offset("t", 0).0, 1, "the message is the first of a new topic");
    });
    let killed = disk.process_killed();
    broker.stop().unwrap();
    let after = start(&killed, |_| ());
    assert!(after.routes.core.topics.contains("t"));
    assert_eq!(after.store.max_offset("t", 0).0, 1);
    after.stop().unwrap();
}
