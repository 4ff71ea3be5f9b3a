//! The server of the demo: name server and broker in this process, on free ports, in a temporary directory.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use broker::settings::BrokerSettings;
use client::{Client, Error, Options, Queue};
use nameserver::settings::NamesrvSettings;
use net::session::Transport;
use protocol::topic::TopicConfig;
use tempfile::TempDir;

use crate::failure::Failure;
use crate::roles::{RunningBroker, RunningNameServer};

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// A file of the log: small, because the directory may be in memory.
const LOG_FILE_BYTES: u64 = 64 << 20;
/// How soon the broker asks how a transaction ended. The default of 6 s suits databases, not viewers.
const CHECK: Duration = Duration::from_millis(1_000);
/// Attempts to find the route of a new topic, [`PAUSE`] apart.
const ATTEMPTS: u32 = 500;
const PAUSE: Duration = Duration::from_millis(20);

/// Name server and broker.
pub(super) struct Server {
    /// `host:port` of the name server.
    pub(super) name_server: String,
    broker_address: String,
    broker: RunningBroker,
    names: RunningNameServer,
    directory: TempDir,
}

impl Server {
    /// Starts both.
    pub(super) fn start() -> Result<Self, Failure> {
        let directory = tempfile::Builder::new().prefix("apogeemq-demo-").tempdir().map_err(Failure::new)?;
        let names_port = free_port(&[])?;
        let settings = NamesrvSettings {
            listen_port: names_port,
            bind_address: LOCALHOST,
            data_dir: directory.path().join("namesrv"),
            ..NamesrvSettings::default()
        };
        let names = RunningNameServer::start(settings, Transport::default(), None)?;
        // The VIP port is two below.
        let broker_port = free_port(&[2])?;
        let settings = broker_settings(broker_port, directory.path());
        let broker = RunningBroker::start(settings, Transport::default(), Some(SocketAddr::new(LOCALHOST, names_port)))?;
        Ok(Self {
            name_server: format!("127.0.0.1:{names_port}"),
            broker_address: format!("127.0.0.1:{broker_port}"),
            broker,
            names,
            directory,
        })
    }

    /// Stops both and removes the directory.
    pub(super) fn stop(self) -> Result<(), Failure> {
        let stopped = self.broker.stop();
        self.names.stop();
        stopped.and_then(|()| self.directory.close().map_err(Failure::new))
    }

    /// Where both keep their files.
    pub(super) fn directory(&self) -> PathBuf {
        self.directory.path().to_owned()
    }

    /// The broker's address.
    pub(super) fn broker(&self) -> &str {
        &self.broker_address
    }

    /// Options of a client of this server.
    pub(super) fn options(&self) -> Options {
        Options::with_name_servers([self.name_server.clone()])
    }

    /// A client with connections of its own.
    pub(super) fn client(&self) -> Client {
        Client::new(self.options())
    }

    /// Creates a topic, and returns its queues when the name server has them.
    pub(super) async fn topic(&self, config: TopicConfig) -> Result<Vec<Queue>, Failure> {
        let client = self.client();
        client.create_topic(self.broker(), &config).await.map_err(Failure::new)?;
        for _ in 0..ATTEMPTS {
            match client.route(&config.topic_name).await {
                Ok(route) => return Ok(route.write),
                Err(Error::NoRoute { .. }) => tokio::time::sleep(PAUSE).await,
                Err(error) => return Err(Failure::new(error)),
            }
        }
        Err(Failure::new(format!(
            "topic {} was created, but the name server has no route",
            config.topic_name
        )))
    }
}

fn broker_settings(port: u16, directory: &Path) -> BrokerSettings {
    BrokerSettings {
        broker_name: "demo".to_owned(),
        broker_ip1: Some(Ipv4Addr::LOCALHOST.to_string()),
        bind_address: LOCALHOST,
        listen_port: port,
        store_path_root_dir: directory.join("store"),
        mapped_file_size_commit_log: LOG_FILE_BYTES,
        max_hash_slot_num: 100_000,
        max_index_num: 400_000,
        transaction_timeout: CHECK,
        transaction_check_interval: CHECK,
        ..BrokerSettings::default()
    }
}

/// A port that is free now, as are those so many below it.
fn free_port(below: &[u16]) -> Result<u16, Failure> {
    /// Attempts to find one with free neighbours.
    const ATTEMPTS: u32 = 100;
    for _ in 0..ATTEMPTS {
        let taken = TcpListener::bind((LOCALHOST, 0)).map_err(Failure::new)?;
        let port = taken.local_addr().map_err(Failure::new)?.port();
        if below.iter().all(|distance| TcpListener::bind((LOCALHOST, port - distance)).is_ok()) {
            return Ok(port);
        }
    }
    Err(Failure::new("no free ports were found on 127.0.0.1"))
}
