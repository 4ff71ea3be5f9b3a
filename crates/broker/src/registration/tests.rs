//! Registration tests against name servers that record the requests.

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

/// Behaviour of a test name server.
#[derive(Default)]
struct Behaviour {
    /// Topics whose order it has configured.
    ordered: &'static [&'static str],
    /// It never responds.
    silent: bool,
    /// Its response to 319.
    settings: &'static str,
}

/// A name server that stores topics like Apache's: those of a request with another version, and missing ones.
struct FakeNameServer {
    behaviour: Behaviour,
    frames: Mutex<Vec<Frame>>,
    /// Data version of the last registration, and queues by topic.
    table: Mutex<(Option<DataVersion>, BTreeMap<String, i32>)>,
    connections: Mutex<BTreeSet<u64>>,
    /// It answers registrations with code 1.
    refuses: AtomicBool,
}

impl FakeNameServer {
    fn answer(&self, frame: &Frame) -> Frame {
        let mut answer = Frame::response_to(frame);
        match frame.code {
            REGISTER if self.refuses.load(Ordering::SeqCst) => answer = answer.with_code(1).with_remark("no room"),
            REGISTER => {
                self.take(frame);
                let table = self.behaviour.ordered.iter().map(|topic| ((*topic).to_owned(), "b:4".to_owned()));
                answer.body = json::write(&KvTable { table: table.collect() }).into();
            }
            QUERY_VERSION => {
                let request: DataVersion = json::read(&frame.body).unwrap();
                answer.ext.push("changed", self.table.lock().0 != Some(request));
            }
            SETTINGS => answer.body = self.behaviour.settings.into(),
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

impl Service for FakeNameServer {
    fn serve(&self, conn: &Arc<Connection>, frames: &mut Vec<Frame>) {
        self.connections.lock().insert(conn.id());
        for frame in frames.drain(..) {
            let answer = self.answer(&frame);
            self.frames.lock().push(frame);
            if !self.behaviour.silent {
                conn.send_frame(&answer);
            }
        }
    }
}

struct NameServer {
    state: Arc<FakeNameServer>,
    server: Server,
}

impl NameServer {
    fn start(behaviour: Behaviour) -> Self {
        Self::listen(behaviour, "127.0.0.1:0".parse().unwrap(), Limits::default())
    }

    fn listen(behaviour: Behaviour, at: std::net::SocketAddr, limits: Limits) -> Self {
        let state = Arc::new(FakeNameServer {
            behaviour,
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
            encryption: net::session::Encryption::Disabled,
        };
        let server = Server::start(options, Arc::clone(&state) as Arc<dyn Service>).unwrap();
        Self { state, server }
    }

    fn address(&self) -> String {
        self.server.local_addrs()[0].to_string()
    }

    fn take(&self) -> Vec<Frame> {
        std::mem::take(&mut *self.state.frames.lock())
    }

    fn codes(&self) -> Vec<i32> {
        self.take().iter().map(|frame| frame.code).collect()
    }

    fn queues(&self, topic: &str) -> Option<i32> {
        self.state.table.lock().1.get(topic).copied()
    }
}

const REGISTER: i32 = RequestCode::RegisterBroker as i32;
const QUERY_VERSION: i32 = RequestCode::QueryDataVersion as i32;
const SETTINGS: i32 = RequestCode::GetNamesrvConfig as i32;
const SINGLE: i32 = RequestCode::RegisterTopicInNamesrv as i32;
const UNREGISTER: i32 = RequestCode::UnregisterBroker as i32;

fn body(frame: &Frame) -> RegisterBrokerBody {
    let header = RegisterBrokerHeader::decode(&frame.ext).unwrap();
    RegisterBrokerBody::decode(&frame.body, header.compressed, frame.version).unwrap()
}

/// Topics of the registrations among these frames.
fn registered_topics(frames: &[Frame]) -> Vec<Vec<String>> {
    let registrations = frames.iter().filter(|frame| frame.code == REGISTER);
    registrations
        .map(|frame| body(frame).topics.topic_config_table.into_keys().collect())
        .collect()
}

/// Runs a round and waits until the name server received a request.
async fn round(registration: &Registration, server: &NameServer, topics: &Topics, changed: bool) {
    let before = server.state.frames.lock().len();
    registration.round(changed).await;
    wait_for("the name server has the version", || {
        server.state.frames.lock().len() > before && server.state.table.lock().0 == Some(topics.version())
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
    let registration = Registration::start(servers, None, identity(None), topics, &settings, &standings);
    (registration, standings)
}

fn start(servers: &[String], topics: &Arc<Topics>) -> Registration {
    start_with(BrokerSettings::default(), servers, topics).0
}

fn create_topics(topics: &Topics, names: impl IntoIterator<Item = String>, queues: i32) {
    let specs = names.into_iter().map(|name| (Spec::new(&name, queues), Default::default()));
    topics.update(specs.collect(), 7).unwrap();
}

fn many(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|n| format!("topic-{n:0>42}"))
}

#[tokio::test]
async fn the_broker_registers_and_unregisters_at_every_name_server() {
    let servers = [NameServer::start(Behaviour::default()), NameServer::start(Behaviour::default())];
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
    assert!(servers.iter().all(|server| server.codes() == [UNREGISTER]));
}

#[tokio::test]
async fn a_name_server_that_is_down_or_silent_does_not_delay_others() {
    let well = NameServer::start(Behaviour::default());
    let silent = NameServer::start(Behaviour {
        silent: true,
        ..Behaviour::default()
    });
    let down = "127.0.0.1:1".to_owned();
    let topics = topics();
    let (settings, standings) = (Arc::new(Live::new(BrokerSettings::default())), Standings::default());
    let servers = [down.clone(), silent.address(), well.address()];
    let host = identity(Some("broker.example"));
    let registration = Registration::start(&servers, None, host, &topics, &settings, &standings);
    let begin = Instant::now();
    registration.round(false).await;
    create_topics(&topics, ["fresh".to_owned()], 3);
    registration.round(true).await;
    assert!(begin.elapsed() < 10 * ROUND_WAIT);
    wait_for("the topic is registered", || well.queues("fresh").is_some()).await;
    assert_eq!(well.queues("fresh"), Some(3));
    let frames = well.take();
    let header = RegisterBrokerHeader::decode(&frames[0].ext).unwrap();
    assert_eq!(header.broker_addr, "broker.example:10911");
    assert!(standings.all()[&down].to_string().contains("cannot connect"));
    assert_eq!(standings.all()[&well.address()], Standing::Registered);
    registration.stop().await;
}

#[tokio::test]
async fn a_round_does_not_wait_for_a_name_server_that_failed_before() {
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
async fn the_version_is_queried_before_topics_are_registered_again() {
    let server = NameServer::start(Behaviour::default());
    let topics = topics();
    let registration = start(&[server.address()], &topics);
    round(&registration, &server, &topics, false).await;
    round(&registration, &server, &topics, false).await;
    assert_eq!(server.codes(), [REGISTER, QUERY_VERSION]);
    // It has another version: it restarted, or another broker registered under this name.
    server.state.table.lock().0 = None;
    round(&registration, &server, &topics, false).await;
    assert_eq!(server.codes(), [QUERY_VERSION, REGISTER]);
    create_topics(&topics, ["fresh".to_owned()], 3);
    server.state.table.lock().0 = None;
    round(&registration, &server, &topics, true).await;
    let frames = server.take();
    assert_eq!(
        registered_topics(&frames),
        [["TBW102", "fresh"]],
        "all topics, not only the changed one"
    );
    registration.stop().await;
}

#[tokio::test]
async fn only_changed_topics_are_registered() {
    let server = NameServer::start(Behaviour::default());
    let topics = topics();
    create_topics(&topics, many(500), 8);
    let registration = start(&[server.address()], &topics);
    round(&registration, &server, &topics, false).await;
    server.take();
    create_topics(&topics, ["fresh".to_owned()], 3);
    round(&registration, &server, &topics, true).await;
    let frames = server.take();
    assert_eq!(registered_topics(&frames), [["fresh"]]);
    assert!(frames.iter().all(|frame| frame.body.len() < 1_000));
    create_topics(&topics, many(1), 9);
    round(&registration, &server, &topics, true).await;
    assert_eq!(server.queues(&many(1).next().unwrap()), Some(9));
    // A deletion is not reported, but the name server gets the version after it.
    drop(topics.begin_deletion("fresh", 8));
    round(&registration, &server, &topics, true).await;
    assert_eq!(registered_topics(&server.take()).last().unwrap(), &[] as &[String]);
    assert_eq!(server.state.table.lock().0, Some(topics.version()));
    round(&registration, &server, &topics, false).await;
    assert_eq!(server.codes(), [QUERY_VERSION]);
    registration.stop().await;
}

#[tokio::test]
async fn many_topics_are_registered_in_parts_and_the_last_has_the_version() {
    let limits = Limits {
        max_frame_bytes: 300 << 10,
        ..Limits::default()
    };
    let server = NameServer::listen(Behaviour::default(), "127.0.0.1:0".parse().unwrap(), limits);
    let topics = topics();
    create_topics(&topics, many(3_000), 8);
    // Before its restart the name server had other queue counts for some topics.
    server.state.table.lock().1.extend(many(3_000).map(|name| (name, 1)));
    let registration = start(&[server.address()], &topics);
    round(&registration, &server, &topics, false).await;
    let frames = server.take();
    let parts = registered_topics(&frames);
    assert!(parts.len() > 2, "{} parts", parts.len());
    assert_eq!(parts.iter().map(Vec::len).sum::<usize>(), 3_001);
    assert!(server.state.table.lock().1.values().all(|queues| *queues == 8));
    let registrations = frames.iter().filter(|frame| frame.code == REGISTER);
    let versions: Vec<_> = registrations.map(|frame| body(frame).topics.data_version).collect();
    let (last, before) = versions.split_last().unwrap();
    assert_eq!(*last, topics.version());
    let different: BTreeSet<_> = before.iter().map(|version| version.counter).collect();
    assert!(different.len() == before.len() && different.iter().all(|counter| *counter < 0));
    registration.stop().await;
}

#[tokio::test]
async fn parts_fit_the_settings_and_the_name_servers_frame_limit() {
    for (behaviour, split, max_topics) in [
        (Behaviour::default(), true, 50),
        (
            Behaviour {
                settings: "a=b\ncom.rocketmq.remoting.frameMaxLength=65536\n",
                ..Behaviour::default()
            },
            false,
            150,
        ),
    ] {
        let server = NameServer::start(behaviour);
        let topics = topics();
        create_topics(&topics, many(1_000), 8);
        let settings = BrokerSettings {
            split_registration: split,
            split_registration_size: 50,
            compressed_register: split,
            ..BrokerSettings::default()
        };
        let (registration, _) = start_with(settings, &[server.address()], &topics);
        round(&registration, &server, &topics, false).await;
        let parts = registered_topics(&server.take());
        assert!(parts.iter().all(|part| part.len() <= max_topics) && parts.len() > 6);
        assert_eq!(server.state.table.lock().1.len(), 1_001);
        registration.stop().await;
    }
}

#[tokio::test]
async fn single_topic_register_sends_one_request_per_topic() {
    let server = NameServer::start(Behaviour::default());
    let topics = topics();
    let settings = BrokerSettings {
        single_topic_register: true,
        ..BrokerSettings::default()
    };
    let (registration, _) = start_with(settings, &[server.address()], &topics);
    round(&registration, &server, &topics, false).await;
    server.take();
    create_topics(&topics, ["fresh".to_owned()], 3);
    round(&registration, &server, &topics, true).await;
    let frames = server.take();
    let single = frames.iter().find(|frame| frame.code == SINGLE).unwrap();
    assert_eq!(single.ext.text("topic"), Some("fresh"));
    assert!(String::from_utf8_lossy(&single.body).contains(r#""writeQueueNums":3"#));
    assert_eq!(registered_topics(&frames), [[] as [String; 0]]);
    round(&registration, &server, &topics, false).await;
    assert_eq!(server.codes(), [QUERY_VERSION], "the name server has the version");
    registration.stop().await;
}

#[tokio::test]
async fn a_name_server_that_deletes_unlisted_topics_gets_all_in_one_request() {
    for single in [false, true] {
        let server = NameServer::start(Behaviour {
            settings: "deleteTopicWithBrokerRegistration=true\n",
            ..Behaviour::default()
        });
        let topics = topics();
        create_topics(&topics, many(3_000), 8);
        let settings = BrokerSettings {
            single_topic_register: single,
            ..BrokerSettings::default()
        };
        let (registration, _) = start_with(settings, &[server.address()], &topics);
        round(&registration, &server, &topics, false).await;
        let frames = server.take();
        assert_eq!(registered_topics(&frames).len(), 1);
        assert!(frames.last().unwrap().body.len() < 300 << 10, "it is compressed");
        create_topics(&topics, ["fresh".to_owned()], 3);
        registration.round(true).await;
        if single {
            wait_for("the topic is registered", || {
                server.state.frames.lock().iter().any(|frame| frame.code == SINGLE)
            })
            .await;
            registration.round(false).await;
        }
        wait_for("all topics are registered again", || {
            server.state.table.lock().0 == Some(topics.version())
        })
        .await;
        let state = registered_topics(&server.take());
        assert_eq!(state.iter().map(Vec::len).collect::<Vec<_>>(), [3_002]);
        registration.stop().await;
    }
}

#[tokio::test]
async fn a_change_of_broker_permission_registers_all_topics() {
    let server = NameServer::start(Behaviour::default());
    let topics = topics();
    let settings = Arc::new(Live::new(BrokerSettings::default()));
    let registration = Registration::start(&[server.address()], None, identity(None), &topics, &settings, &Standings::default());
    round(&registration, &server, &topics, false).await;
    server.take();
    settings.update(b"brokerPermission=4").unwrap();
    topics.touch(9);
    round(&registration, &server, &topics, true).await;
    let frames = server.take();
    let state = body(frames.last().unwrap()).topics.topic_config_table;
    assert!(state.values().all(|topic| topic.perm & 2 == 0) && !state.is_empty());
    registration.stop().await;
}

#[tokio::test]
async fn a_refusal_is_reported_and_keeps_the_connection() {
    let server = NameServer::start(Behaviour::default());
    let topics = topics();
    let (registration, standings) = start_with(BrokerSettings::default(), &[server.address()], &topics);
    round(&registration, &server, &topics, false).await;
    server.state.refuses.store(true, Ordering::SeqCst);
    create_topics(&topics, ["fresh".to_owned()], 3);
    registration.round(true).await;
    wait_for("the refusal is reported", || {
        standings.all()[&server.address()] != Standing::Registered
    })
    .await;
    let standing = standings.all()[&server.address()].to_string();
    assert!(standing.contains("not registered") && standing.contains("no room"), "{standing}");
    assert_eq!(server.queues("TBW102"), Some(8), "its topics are kept");
    server.state.refuses.store(false, Ordering::SeqCst);
    wait_for("all topics are registered", || {
        server.state.table.lock().0 == Some(topics.version())
    })
    .await;
    wait_for("the state is reported", || {
        standings.all()[&server.address()] == Standing::Registered
    })
    .await;
    assert_eq!(server.state.connections.lock().len(), 1);
    registration.stop().await;
}

#[tokio::test]
async fn topics_ordered_at_the_name_server_are_marked_as_ordered() {
    let server = NameServer::start(Behaviour {
        ordered: &["orders", "absent"],
        ..Behaviour::default()
    });
    let topics = topics();
    let request = CreateOnSend {
        topic: "orders",
        template: "TBW102",
        queues: 4,
        sys_flag: 0,
        message_type: None,
    };
    topics.create_on_send(&request, true, 5).unwrap();
    let registration = start(&[server.address()], &topics);
    round(&registration, &server, &topics, true).await;
    assert!(topics.is_ordered("orders"));
    registration.stop().await;
}

#[tokio::test]
async fn a_name_server_that_starts_late_or_restarts_is_registered_with() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let topics = topics();
    let registration = start(&[port.to_string()], &topics);
    registration.round(false).await;
    for _ in 0..2 {
        let server = NameServer::listen(Behaviour::default(), port, Limits::default());
        wait_for("registered without a new round", || server.queues("TBW102") == Some(8)).await;
        server.take();
        // And queried again: Apache's may remove the broker when it notices the close of the old connection.
        wait_for("queried again", || server.codes().contains(&QUERY_VERSION)).await;
    }
    registration.stop().await;
}
