//! A name server on a free port, and requests of brokers and clients.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use nameserver::{NameServer, NamesrvSettings, Options};
use net::client::{Peer, PeerOptions};
use net::{Server, Service};
use protocol::register::RegisterBrokerBody;
use protocol::topic::TopicConfig;
use protocol::{DataVersion, Frame, RequestCode};

pub(crate) const SOON: Duration = Duration::from_secs(10);

pub(crate) struct Fixture {
    pub(crate) server: Server,
    pub(crate) names: Arc<NameServer>,
    pub(crate) now_ms: Arc<AtomicI64>,
    pub(crate) directory: tempfile::TempDir,
}

pub(crate) fn start(mut settings: NamesrvSettings, local_broker: Option<nameserver::LocalBroker>) -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    settings.data_dir = directory.path().to_owned();
    let mut network = NameServer::network(&settings);
    network.listen = vec!["[::]:0".parse().unwrap()];
    let now_ms = Arc::new(AtomicI64::new(1_000_000));
    let time = Arc::clone(&now_ms);
    let names = NameServer::new(Options {
        settings,
        clock: Arc::new(move || time.load(Ordering::Relaxed)),
        local_broker,
        connector: None,
    })
    .unwrap();
    let server = Server::start(network, Arc::clone(&names) as Arc<dyn Service>).unwrap();
    Fixture {
        server,
        names,
        now_ms,
        directory,
    }
}

/// Runs a test against a name server with default settings.
pub(crate) fn with_server<F: Future<Output = ()>>(test: impl FnOnce(Fixture) -> F) {
    run(start(NamesrvSettings::default(), None), test);
}

pub(crate) fn run<F: Future<Output = ()>>(fixture: Fixture, test: impl FnOnce(Fixture) -> F) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(test(fixture));
}

impl Fixture {
    pub(crate) async fn dial(&self, host: &str) -> Peer {
        let address = format!("{host}:{}", self.server.local_addrs()[0].port());
        Peer::connect(&address, PeerOptions::default()).await.unwrap()
    }
}

pub(crate) async fn ask(peer: &Peer, frame: Frame) -> Frame {
    peer.request(frame, SOON).await.unwrap()
}

pub(crate) async fn succeed(peer: &Peer, frame: Frame) -> Frame {
    let answer = ask(peer, frame).await;
    assert_eq!(answer.code, 0, "{answer:?}");
    answer
}

pub(crate) async fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < end, "timed out: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub(crate) fn topics(names: &[&str], counter: i64) -> RegisterBrokerBody {
    let mut body = RegisterBrokerBody::default();
    for name in names {
        body.topics
            .topic_config_table
            .insert((*name).to_owned(), TopicConfig::new(*name, 4));
    }
    body.topics.data_version = DataVersion {
        counter,
        state_version: 0,
        timestamp: 7,
    };
    body
}

pub(crate) fn register(id: i64, address: &str, body: &RegisterBrokerBody, compressed: bool) -> Frame {
    let body = body.encode(compressed);
    identity(RequestCode::RegisterBroker, id, address)
        .with_field("haServerAddr", "10.0.0.1:10912")
        .with_field("compressed", compressed)
        .with_field("bodyCrc32", i64::from(crc32fast::hash(&body) & 0x7fff_ffff))
        .with_body(body)
}

pub(crate) fn identity(code: RequestCode, id: i64, address: &str) -> Frame {
    let frame = Frame::request(code)
        .with_field("brokerName", "broker-a")
        .with_field("brokerAddr", address);
    frame.with_field("clusterName", "DefaultCluster").with_field("brokerId", id)
}

pub(crate) fn route(topic: &str) -> Frame {
    Frame::request(RequestCode::GetRouteinfoByTopic).with_field("topic", topic)
}

pub(crate) fn text(frame: &Frame) -> &str {
    std::str::from_utf8(&frame.body).unwrap()
}
