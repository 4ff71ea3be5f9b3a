//! Against name servers that write down what they are told.

use super::*;
use crate::stats::BrokerStats;
use crate::topic::{CreateOnSend, PERM_INHERIT, Spec, TopicLimits};
use net::{Connection, Limits, Options, Server, Service};
use protocol::kv::KvTable;
use protocol::register::{RegisterBrokerBody, RegisterBrokerHeader};
use protocol::{DataVersion, Frame, RequestCode, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// What a name server is in a test.
#[derive(Default)]
struct Kind {
    /// Topics it has an order for.
    ordered: &'static [&'static str],
    /// It never answers.
    silent: bool,
    /// What it answers to 319.
    settings: &'static str,
}

/// A name server that takes topics as Apache's does: those of a request with another version, and those it lacks.
struct Told {
    kind: Kind,
    frames: Mutex<Vec<Frame>>,
    /// Version of the last registration, and queues of topics.
    table: Mutex<(Option<DataVersion>, BTreeMap<String, i32>)>,
    connections: Mutex<BTreeSet<u64>>,
    /// It answers registrations with code 1.
    refuses: AtomicBool,
}

impl Told {
    fn answer(&self, frame: &Frame) -> Frame {
        let mut answer = Frame::response_to(frame);
        match frame.code {
            REGISTER if self.refuses.load(Ordering::SeqCst) => answer = answer.with_code(1).with_remark("no room"),
            REGISTER => {
                self.take(frame);
                let table = self.kind.ordered.iter().map(|topic| ((*topic).to_owned(), "b:4".to_owned()));
                answer.body = json::write(&KvTable { table: table.collect() }).into();
            }
            ASK => {
                let asked: DataVersion = json::read(&frame.body).unwrap();
                answer.ext.push("changed", self.table.lock().0 != Some(asked));
            }
            SETTINGS => answer.body = self.kind.settings.into(),
            _ => {}
        }
        answer
    }

    fn take(&self, frame: &Frame) {
        let body = body(frame);
        let mut table = self.table.lock();
        let (version, topics) = &mut *table;
        let changed = *version != Some(body.topics.data_version);
        *version = Some(body.topics.data_version);
        for (name, topic) in body.topics.topic_config_table {
            if changed || !topics.contains_key(&name) {
                topics.insert(name, topic.write_queue_nums);
            }
        }
    }
}

impl Service for Told {
    fn serve(&self, conn: &Arc<Connection>, frames: &mut Vec<Frame>) {
        self.connections.lock().insert(conn.id());
        for frame in frames.drain(..) {
            let answer = self.answer(&frame);
            self.frames.lock().push(frame);
            if !self.kind.silent {
                conn.send_frame(&answer);
            }
        }
    }
}

struct NameServer {
    told: Arc<Told>,
    server: Server,
}

impl NameServer {
    fn start(kind: Kind) -> Self {
        Self::listen(kind, "127.0.0.1:0".parse().unwrap(), Limits::default())
    }

    fn listen(kind: Kind, at: std::net::SocketAddr, limits: Limits) -> Self {
        let told = Arc::new(Told {
            kind,
            frames: Mutex::default(),
            table: Mutex::default(),
            connections: Mutex::default(),
            refuses: AtomicBool::new(false),
        });
        let options = Options {
            name: "ns".to_owned(),
            listen: vec![at],
            workers: 1,
            limits,
            acceptor: None,
        };
        let server = Server::start(options, Arc::clone(&told) as Arc<dyn Service>).unwrap();
        Self { told, server }
    }

    fn address(&self) -> String {
        self.server.local_addrs()[0].to_string()
    }

    fn take(&self) -> Vec<Frame> {
        std::mem::take(&mut *self.told.frames.lock())
    }

    fn codes(&self) -> Vec<i32> {
        self.take().iter().map(|frame| frame.code).collect()
    }

    fn queues(&self, topic: &str) -> Option<i32> {
        self.told.table.lock().1.get(topic).copied()
    }
}

const REGISTER: i32 = RequestCode::RegisterBroker as i32;
const ASK: i32 = RequestCode::QueryDataVersion as i32;
const SETTINGS: i32 = RequestCode::GetNamesrvConfig as i32;
const SINGLE: i32 = RequestCode::RegisterTopicInNamesrv as i32;
const GOODBYE: i32 = RequestCode::UnregisterBroker as i32;

fn body(frame: &Frame) -> RegisterBrokerBody {
    let header = RegisterBrokerHeader::decode(&frame.ext).unwrap();
    RegisterBrokerBody::decode(&frame.body, header.compressed, frame.version).unwrap()
}

/// Topics in the registrations among these frames.
fn told_topics(frames: &[Frame]) -> Vec<Vec<String>> {
    let registrations = frames.iter().filter(|frame| frame.code == REGISTER);
    registrations
        .map(|frame| body(frame).topics.topic_config_table.into_keys().collect())
        .collect()
}

/// A round after which the name server was heard from, however slow the machine is.
async fn round(registration: &Registration, server: &NameServer, topics: &Topics, changed: bool) {
    let before = server.told.frames.lock().len();
    registration.round(changed).await;
    wait_for("it has the version", || {
        server.told.frames.lock().len() > before && server.told.table.lock().0 == Some(topics.version())
    })
    .await;
}

async fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "timed out: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn topics() -> Arc<Topics> {
    let template = Spec {
        perm: 6 | PERM_INHERIT,
        ..Spec::new("TBW102", 8)
    };
    let limits = TopicLimits {
        topics: 10_000,
        queues: 64,
    };
    Arc::new(Topics::new(
        vec![template],
        limits,
        Arc::new(BrokerStats::new("c", 100)),
        Arc::default(),
        1,
    ))
}

fn identity(host: Option<&str>) -> Identity {
    Identity {
        cluster: "c".to_owned(),
        broker: "b".to_owned(),
        broker_id: 0,
        host: host.map(str::to_owned),
        replica_host: None,
        port: 10_911,
        replica_port: 10_912,
    }
}

fn start_with(settings: BrokerSettings, servers: &[String], topics: &Arc<Topics>) -> (Registration, Standings) {
    let standings = Standings::default();
    let settings = Arc::new(Live::new(settings));
    let registration = Registration::start(servers, identity(None), topics, &settings, &standings);
    (registration, standings)
}

fn start(servers: &[String], topics: &Arc<Topics>) -> Registration {
    start_with(BrokerSettings::default(), servers, topics).0
}

fn make(topics: &Topics, names: impl IntoIterator<Item = String>, queues: i32) {
    let specs = names.into_iter().map(|name| (Spec::new(&name, queues), Default::default()));
    topics.update(specs.collect(), 7).unwrap();
}

fn many(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|n| format!("topic-{n:0>42}"))
}

#[tokio::test]
async fn every_name_server_hears_of_the_broker_and_of_its_end() {
    let servers = [NameServer::start(Kind::default()), NameServer::start(Kind::default())];
    let topics = topics();
    let registration = start(&[servers[0].address(), servers[1].address()], &topics);
    for server in &servers {
        round(&registration, server, &topics, false).await;
    }
    for server in &servers {
        let frames = server.take();
        assert_eq!(frames[0].code, REGISTER);
        let header = RegisterBrokerHeader::decode(&frames[0].ext).unwrap();
        assert_eq!((header.broker_addr, header.ha_server_addr), ("127.0.0.1:10911", "127.0.0.1:10912"));
        assert_eq!(header.body_crc32, i32::try_from(message::record::body_crc(&frames[0].body)).ok());
        assert!(body(&frames[0]).topics.topic_config_table.contains_key("TBW102"));
    }
    assert_eq!(registration.address().as_deref(), Some("127.0.0.1:10911"));
    registration.stop().await;
    assert!(servers.iter().all(|server| server.codes() == [GOODBYE]));
}

#[tokio::test]
async fn one_that_is_down_or_silent_delays_no_other() {
    let well = NameServer::start(Kind::default());
    let silent = NameServer::start(Kind {
        silent: true,
        ..Kind::default()
    });
    let down = "127.0.0.1:1".to_owned();
    let topics = topics();
    let (settings, standings) = (Arc::new(Live::new(BrokerSettings::default())), Standings::default());
    let servers = [down.clone(), silent.address(), well.address()];
    let host = identity(Some("broker.example"));
    let registration = Registration::start(&servers, host, &topics, &settings, &standings);
    let begin = Instant::now();
    registration.round(false).await;
    make(&topics, ["fresh".to_owned()], 3);
    registration.round(true).await;
    assert!(begin.elapsed() < 10 * ROUND_WAIT);
    wait_for("the topic is told", || well.queues("fresh").is_some()).await;
    assert_eq!(well.queues("fresh"), Some(3));
    let frames = well.take();
    let header = RegisterBrokerHeader::decode(&frames[0].ext).unwrap();
    assert_eq!(header.broker_addr, "broker.example:10911");
    assert!(standings.all()[&down].to_string().contains("cannot connect"));
    assert_eq!(standings.all()[&well.address()], Standing::Registered);
    registration.stop().await;
}

#[tokio::test]
async fn nobody_waits_for_a_name_server_that_failed_before() {
    let topics = topics();
    let registration = start(&["127.0.0.1:1".to_owned()], &topics);
    registration.round(false).await;
    let begin = Instant::now();
    for _ in 0..20 {
        registration.round(true).await;
    }
    assert!(begin.elapsed() < 10 * ROUND_WAIT);
    registration.stop().await;
}

#[tokio::test]
async fn a_name_server_is_asked_before_it_is_told_anything_again() {
    let server = NameServer::start(Kind::default());
    let topics = topics();
    let registration = start(&[server.address()], &topics);
    round(&registration, &server, &topics, false).await;
    round(&registration, &server, &topics, false).await;
    assert_eq!(server.codes(), [REGISTER, ASK]);
    // It has another version: it lost us, or another broker took our place.
    server.told.table.lock().0 = None;
    round(&registration, &server, &topics, false).await;
    assert_eq!(server.codes(), [ASK, REGISTER]);
    make(&topics, ["fresh".to_owned()], 3);
    server.told.table.lock().0 = None;
    round(&registration, &server, &topics, true).await;
    let frames = server.take();
    assert_eq!(told_topics(&frames), [["TBW102", "fresh"]], "all, not only what changed");
    registration.stop().await;
}

#[tokio::test]
async fn only_what_changed_is_told() {
    let server = NameServer::start(Kind::default());
    let topics = topics();
    make(&topics, many(500), 8);
    let registration = start(&[server.address()], &topics);
    round(&registration, &server, &topics, false).await;
    server.take();
    make(&topics, ["fresh".to_owned()], 3);
    round(&registration, &server, &topics, true).await;
    let frames = server.take();
    assert_eq!(told_topics(&frames), [["fresh"]]);
    assert!(frames.iter().all(|frame| frame.body.len() < 1_000));
    make(&topics, many(1), 9);
    round(&registration, &server, &topics, true).await;
    assert_eq!(server.queues(&many(1).next().unwrap()), Some(9));
    // A deletion is not told, but the name server has the version that follows it.
    drop(topics.begin_deletion("fresh", 8));
    round(&registration, &server, &topics, true).await;
    assert_eq!(told_topics(&server.take()).last().unwrap(), &[] as &[String]);
    assert_eq!(server.told.table.lock().0, Some(topics.version()));
    round(&registration, &server, &topics, false).await;
    assert_eq!(server.codes(), [ASK]);
    registration.stop().await;
}

#[tokio::test]
async fn many_topics_are_told_in_parts_and_the_last_has_the_version() {
    let limits = Limits {
        max_frame_bytes: 300 << 10,
        ..Limits::default()
    };
    let server = NameServer::listen(Kind::default(), "127.0.0.1:0".parse().unwrap(), limits);
    let topics = topics();
    make(&topics, many(3_000), 8);
    // Before a restart of the name server some topics had other queues there.
    server.told.table.lock().1.extend(many(3_000).map(|name| (name, 1)));
    let registration = start(&[server.address()], &topics);
    round(&registration, &server, &topics, false).await;
    let frames = server.take();
    let parts = told_topics(&frames);
    assert!(parts.len() > 2, "{} parts", parts.len());
    assert_eq!(parts.iter().map(Vec::len).sum::<usize>(), 3_001);
    assert!(server.told.table.lock().1.values().all(|queues| *queues == 8));
    let registrations = frames.iter().filter(|frame| frame.code == REGISTER);
    let versions: Vec<_> = registrations.map(|frame| body(frame).topics.data_version).collect();
    let (last, before) = versions.split_last().unwrap();
    assert_eq!(*last, topics.version());
    let different: BTreeSet<_> = before.iter().map(|version| version.counter).collect();
    assert!(different.len() == before.len() && different.iter().all(|counter| *counter < 0));
    registration.stop().await;
}

#[tokio::test]
async fn parts_are_as_large_as_settings_and_name_server_allow() {
    for (kind, split, max_topics) in [
        (Kind::default(), true, 50),
        (
            Kind {
                settings: "a=b\ncom.rocketmq.remoting.frameMaxLength=65536\n",
                ..Kind::default()
            },
            false,
            150,
        ),
    ] {
        let server = NameServer::start(kind);
        let topics = topics();
        make(&topics, many(1_000), 8);
        let settings = BrokerSettings {
            split_registration: split,
            split_registration_size: 50,
            compressed_register: split,
            ..BrokerSettings::default()
        };
        let (registration, _) = start_with(settings, &[server.address()], &topics);
        round(&registration, &server, &topics, false).await;
        let parts = told_topics(&server.take());
        assert!(parts.iter().all(|part| part.len() <= max_topics) && parts.len() > 6);
        assert_eq!(server.told.table.lock().1.len(), 1_001);
        registration.stop().await;
    }
}

#[tokio::test]
async fn single_topics_have_requests_of_their_own_if_so_set() {
    let server = NameServer::start(Kind::default());
    let topics = topics();
    let settings = BrokerSettings {
        single_topic_register: true,
        ..BrokerSettings::default()
    };
    let (registration, _) = start_with(settings, &[server.address()], &topics);
    round(&registration, &server, &topics, false).await;
    server.take();
    make(&topics, ["fresh".to_owned()], 3);
    round(&registration, &server, &topics, true).await;
    let frames = server.take();
    let single = frames.iter().find(|frame| frame.code == SINGLE).unwrap();
    assert_eq!(single.ext.text("topic"), Some("fresh"));
    assert!(String::from_utf8_lossy(&single.body).contains(r#""writeQueueNums":3"#));
    assert_eq!(told_topics(&frames), [[] as [String; 0]]);
    round(&registration, &server, &topics, false).await;
    assert_eq!(server.codes(), [ASK], "it has the version");
    registration.stop().await;
}

#[tokio::test]
async fn a_name_server_that_deletes_what_is_not_named_is_told_all_at_once() {
    for single in [false, true] {
        let server = NameServer::start(Kind {
            settings: "deleteTopicWithBrokerRegistration=true\n",
            ..Kind::default()
        });
        let topics = topics();
        make(&topics, many(3_000), 8);
        let settings = BrokerSettings {
            single_topic_register: single,
            ..BrokerSettings::default()
        };
        let (registration, _) = start_with(settings, &[server.address()], &topics);
        round(&registration, &server, &topics, false).await;
        let frames = server.take();
        assert_eq!(told_topics(&frames).len(), 1);
        assert!(frames.last().unwrap().body.len() < 300 << 10, "it is deflated");
        make(&topics, ["fresh".to_owned()], 3);
        registration.round(true).await;
        if single {
            wait_for("the topic is told", || {
                server.told.frames.lock().iter().any(|frame| frame.code == SINGLE)
            })
            .await;
            registration.round(false).await;
        }
        wait_for("it has all again", || server.told.table.lock().0 == Some(topics.version())).await;
        let told = told_topics(&server.take());
        assert_eq!(told.iter().map(Vec::len).collect::<Vec<_>>(), [3_002]);
        registration.stop().await;
    }
}

#[tokio::test]
async fn what_the_broker_permits_is_told_for_all_topics_when_it_changes() {
    let server = NameServer::start(Kind::default());
    let topics = topics();
    let settings = Arc::new(Live::new(BrokerSettings::default()));
    let registration = Registration::start(&[server.address()], identity(None), &topics, &settings, &Standings::default());
    round(&registration, &server, &topics, false).await;
    server.take();
    settings.update(b"brokerPermission=4").unwrap();
    topics.touch(9);
    round(&registration, &server, &topics, true).await;
    let frames = server.take();
    let told = body(frames.last().unwrap()).topics.topic_config_table;
    assert!(told.values().all(|topic| topic.perm & 2 == 0) && !told.is_empty());
    registration.stop().await;
}

#[tokio::test]
async fn a_refusal_is_told_to_operators_and_keeps_the_connection() {
    let server = NameServer::start(Kind::default());
    let topics = topics();
    let (registration, standings) = start_with(BrokerSettings::default(), &[server.address()], &topics);
    round(&registration, &server, &topics, false).await;
    server.told.refuses.store(true, Ordering::SeqCst);
    make(&topics, ["fresh".to_owned()], 3);
    registration.round(true).await;
    wait_for("the refusal is known", || {
        standings.all()[&server.address()] != Standing::Registered
    })
    .await;
    let standing = standings.all()[&server.address()].to_string();
    assert!(standing.contains("not registered") && standing.contains("no room"), "{standing}");
    assert_eq!(server.queues("TBW102"), Some(8), "what it had it has");
    server.told.refuses.store(false, Ordering::SeqCst);
    wait_for("it has all", || server.told.table.lock().0 == Some(topics.version())).await;
    wait_for("that is known", || standings.all()[&server.address()] == Standing::Registered).await;
    assert_eq!(server.told.connections.lock().len(), 1);
    registration.stop().await;
}

#[tokio::test]
async fn topics_ordered_at_the_name_server_are_ordered_here() {
    let server = NameServer::start(Kind {
        ordered: &["orders", "absent"],
        ..Kind::default()
    });
    let topics = topics();
    let asked = CreateOnSend {
        topic: "orders",
        template: "TBW102",
        queues: 4,
        sys_flag: 0,
    };
    topics.create_on_send(&asked, true, 5).unwrap();
    let registration = start(&[server.address()], &topics);
    round(&registration, &server, &topics, true).await;
    assert!(topics.is_ordered("orders"));
    registration.stop().await;
}

#[tokio::test]
async fn a_name_server_that_comes_late_or_again_is_found() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let topics = topics();
    let registration = start(&[port.to_string()], &topics);
    registration.round(false).await;
    for _ in 0..2 {
        let server = NameServer::listen(Kind::default(), port, Limits::default());
        wait_for("found without a new round", || server.queues("TBW102") == Some(8)).await;
        server.take();
        // And asked again: one of Apache's may have taken us for gone with our old connection.
        wait_for("asked again", || server.codes().contains(&ASK)).await;
    }
    registration.stop().await;
}
