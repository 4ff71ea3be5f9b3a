//! Against name servers that only write down what they are told.

use super::*;
use crate::stats::BrokerStats;
use crate::topic::{CreateOnSend, PERM_INHERIT, Spec, TopicLimits};
use net::{Connection, Limits, Options, Server, Service};
use protocol::kv::KvTable;
use protocol::register::{RegisterBrokerBody, RegisterBrokerHeader};
use protocol::{Frame, RequestCode, json};
use std::time::Instant;

/// A name server: its answers carry this table of ordered topics, and `changed` for 322.
struct Told {
    frames: Mutex<Vec<Frame>>,
    ordered: KvTable,
    changed: bool,
    silent: bool,
}

impl Service for Told {
    fn serve(&self, conn: &Arc<Connection>, frames: &mut Vec<Frame>) {
        for frame in frames.drain(..) {
            if !self.silent {
                let mut answer = Frame::response_to(&frame);
                answer.body = json::write(&self.ordered).into();
                answer.ext.push("changed", self.changed);
                conn.send_frame(&answer);
            }
            self.frames.lock().push(frame);
        }
    }
}

struct NameServer {
    told: Arc<Told>,
    server: Server,
}

impl NameServer {
    fn start(ordered: &[&str], changed: bool, silent: bool) -> Self {
        let table = ordered.iter().map(|topic| ((*topic).to_owned(), "b:4".to_owned())).collect();
        let told = Arc::new(Told {
            frames: Mutex::default(),
            ordered: KvTable { table },
            changed,
            silent,
        });
        let options = Options {
            name: "ns".to_owned(),
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            workers: 1,
            limits: Limits::default(),
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
}

const REGISTER: i32 = RequestCode::RegisterBroker as i32;
const ASK: i32 = RequestCode::QueryDataVersion as i32;
const GOODBYE: i32 = RequestCode::UnregisterBroker as i32;

fn topics() -> Arc<Topics> {
    let template = Spec {
        perm: 6 | PERM_INHERIT,
        ..Spec::new("TBW102", 8)
    };
    let limits = TopicLimits { topics: 10, queues: 64 };
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

fn start(servers: &[String], host: Option<&str>, topics: &Arc<Topics>, force: bool) -> Registration {
    let settings = BrokerSettings {
        force_register: force,
        ..BrokerSettings::default()
    };
    Registration::start(servers, identity(host), topics, &Arc::new(Live::new(settings)))
}

#[tokio::test]
async fn every_name_server_hears_of_the_broker_and_of_its_end() {
    let servers = [NameServer::start(&[], false, false), NameServer::start(&[], false, false)];
    let topics = topics();
    let registration = start(&[servers[0].address(), servers[1].address()], None, &topics, true);
    registration.round(false).await;
    for server in &servers {
        let frames = server.take();
        assert_eq!(frames.len(), 1);
        let header = RegisterBrokerHeader::decode(&frames[0].ext).unwrap();
        assert_eq!((header.broker_addr, header.ha_server_addr), ("127.0.0.1:10911", "127.0.0.1:10912"));
        assert_eq!(header.body_crc32, i32::try_from(message::record::body_crc(&frames[0].body)).ok());
        let body = RegisterBrokerBody::decode(&frames[0].body, header.compressed, frames[0].version).unwrap();
        assert!(body.topics.topic_config_table.contains_key("TBW102"));
    }
    assert_eq!(registration.address().as_deref(), Some("127.0.0.1:10911"));
    registration.stop().await;
    assert!(servers.iter().all(|server| server.codes() == [GOODBYE]));
}

#[tokio::test]
async fn one_that_is_down_or_silent_delays_no_other() {
    let well = NameServer::start(&[], false, false);
    let silent = NameServer::start(&[], false, true);
    let down = "127.0.0.1:1".to_owned();
    let registration = start(&[down, silent.address(), well.address()], Some("broker.example"), &topics(), true);
    let begin = Instant::now();
    registration.round(false).await;
    registration.round(true).await;
    assert!(begin.elapsed() < 3 * ROUND_WAIT);
    let frames = well.take();
    assert_eq!(frames.len(), 2);
    let header = RegisterBrokerHeader::decode(&frames[0].ext).unwrap();
    assert_eq!(header.broker_addr, "broker.example:10911");
    registration.stop().await;
}

#[tokio::test]
async fn a_name_server_that_has_our_topics_is_only_asked() {
    let has = NameServer::start(&[], false, false);
    let has_not = NameServer::start(&[], true, false);
    let registration = start(&[has.address(), has_not.address()], None, &topics(), false);
    registration.round(false).await;
    assert_eq!((has.codes(), has_not.codes()), (vec![ASK], vec![ASK, REGISTER]));
    registration.round(true).await;
    assert_eq!((has.codes(), has_not.codes()), (vec![REGISTER], vec![REGISTER]));
    registration.stop().await;
}

#[tokio::test]
async fn topics_ordered_at_the_name_server_are_ordered_here() {
    let server = NameServer::start(&["orders", "absent"], false, false);
    let topics = topics();
    let asked = CreateOnSend {
        topic: "orders",
        template: "TBW102",
        queues: 4,
        sys_flag: 0,
    };
    topics.create_on_send(&asked, true, 5).unwrap();
    let registration = start(&[server.address()], None, &topics, true);
    registration.round(true).await;
    assert!(topics.is_ordered("orders"));
    registration.stop().await;
}

#[tokio::test]
async fn a_name_server_that_comes_late_is_found() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let registration = start(&[port.to_string()], None, &topics(), true);
    registration.round(false).await;
    let told = Arc::new(Told {
        frames: Mutex::default(),
        ordered: KvTable::default(),
        changed: false,
        silent: false,
    });
    let options = Options {
        name: "ns".to_owned(),
        listen: vec![port],
        workers: 1,
        limits: Limits::default(),
    };
    let _server = Server::start(options, Arc::clone(&told) as Arc<dyn Service>).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while told.frames.lock().is_empty() {
        assert!(Instant::now() < deadline, "not found without a new round");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    registration.stop().await;
}
