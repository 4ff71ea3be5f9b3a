//! Builds the requests that a broker sends to a name server.

use crate::settings::BrokerSettings;
use crate::topic::{Topic, Topics, table};
use bytes::Bytes;
use config::Live;
use protocol::register::{BrokerIdentityHeader, RegisterBrokerBody, RegisterBrokerHeader};
use protocol::route::{QueueData, TopicRoute};
use protocol::topic::{TopicConfigs, TopicHeader};
use protocol::{DataVersion, Frame, RequestCode, json};
use std::net::SocketAddr;
use std::sync::Arc;

/// Names and addresses of this broker.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Cluster name.
    pub cluster: String,
    /// Broker name.
    pub broker: String,
    /// Broker id; 0 is the master.
    pub broker_id: i64,
    /// Host for clients (`brokerIP1`); `None`: the local address of the connection to the name server.
    pub host: Option<String>,
    /// Host for replicas (`brokerIP2`); `None`: the same as `host`.
    pub replica_host: Option<String>,
    /// Port for clients.
    pub port: u16,
    /// Port for replicas.
    pub replica_port: u16,
}

impl Identity {
    /// The identity of a broker with these settings.
    #[must_use]
    pub fn of(settings: &BrokerSettings) -> Self {
        Self {
            cluster: settings.broker_cluster_name.clone(),
            broker: settings.broker_name.clone(),
            broker_id: settings.broker_id as i64,
            host: settings.broker_ip1.clone(),
            replica_host: settings.broker_ip2.clone(),
            port: settings.listen_port,
            replica_port: settings.ha_port(),
        }
    }
}

impl Identity {
    /// Addresses for clients and replicas, for a connection with this local address.
    #[must_use]
    pub fn addresses(&self, local: SocketAddr) -> (String, String) {
        let address = |host: Option<&String>, port| match host {
            Some(host) => format!("{host}:{port}"),
            None => SocketAddr::new(local.ip(), port).to_string(),
        };
        let for_clients = address(self.host.as_ref(), self.port);
        let for_replicas = address(self.replica_host.as_ref().or(self.host.as_ref()), self.replica_port);
        (for_clients, for_replicas)
    }
}

/// Builds the requests.
#[derive(Clone, Debug)]
pub struct Requests {
    /// The broker.
    pub identity: Identity,
    /// Its topics.
    pub topics: Arc<Topics>,
    /// Its settings.
    pub settings: Arc<Live<BrokerSettings>>,
}

impl Requests {
    /// Code 103: registers the broker with these topics.
    #[must_use]
    pub fn register(&self, local: SocketAddr, topics: &[Arc<Topic>], data_version: DataVersion, compressed: bool) -> Frame {
        let settings = self.settings.current();
        let permission = settings.broker_permission;
        let acts = settings.enable_slave_acting_master;
        let body = RegisterBrokerBody {
            filter_server_list: Vec::new(),
            topics: TopicConfigs {
                data_version,
                topic_config_table: table::of(topics.iter(), permission),
                topic_queue_mapping_info_map: topics
                    .iter()
                    .filter_map(|topic| Some((topic.name.to_string(), topic.mapping()?.detail().led())))
                    .collect(),
                ..TopicConfigs::default()
            },
        };
        let body = body.encode_short(compressed);
        let (broker_addr, ha_server_addr) = self.identity.addresses(local);
        let mut frame = Frame::request(RequestCode::RegisterBroker);
        let header = RegisterBrokerHeader {
            broker_name: &self.identity.broker,
            broker_addr: &broker_addr,
            cluster_name: &self.identity.cluster,
            ha_server_addr: &ha_server_addr,
            broker_id: self.identity.broker_id,
            heartbeat_timeout_ms: acts.then_some(settings.broker_not_active_timeout.as_millis() as i64),
            enable_acting_master: Some(acts),
            compressed,
            body_crc32: Some(crc(&body)),
        };
        header.encode(&mut frame.ext);
        frame.body = Bytes::from(body);
        frame
    }

    /// Code 217: registers one topic.
    #[must_use]
    pub fn single(&self, topic: &Topic) -> Frame {
        let permission = self.settings.current().broker_permission;
        let queues = QueueData {
            broker_name: self.identity.broker.clone(),
            perm: topic.perm & table::mask(permission),
            read_queue_nums: topic.read_queues,
            topic_sys_flag: topic.sys_flag,
            write_queue_nums: topic.write_queues,
        };
        let route = TopicRoute {
            queue_datas: vec![queues],
            ..TopicRoute::default()
        };
        let mut frame = Frame::request(RequestCode::RegisterTopicInNamesrv);
        TopicHeader { topic: &topic.name }.encode(&mut frame.ext);
        frame.body = Bytes::from(json::write(&route));
        frame
    }

    /// Code 322: asks whether the name server has topics of another version.
    #[must_use]
    pub fn query_version(&self, local: SocketAddr, version: DataVersion) -> Frame {
        let mut frame = self.identified(RequestCode::QueryDataVersion, local);
        frame.body = Bytes::from(json::write(&version));
        frame
    }

    /// Code 104: unregisters the broker.
    #[must_use]
    pub fn unregister(&self, local: SocketAddr) -> Frame {
        self.identified(RequestCode::UnregisterBroker, local)
    }

    fn identified(&self, code: RequestCode, local: SocketAddr) -> Frame {
        let (broker_addr, _) = self.identity.addresses(local);
        let mut frame = Frame::request(code);
        let header = BrokerIdentityHeader {
            broker_name: &self.identity.broker,
            broker_addr: &broker_addr,
            cluster_name: &self.identity.cluster,
            broker_id: self.identity.broker_id,
        };
        header.encode(&mut frame.ext);
        frame
    }
}

/// Checksum of a body, as name servers compute it: the lower 31 bits, as for records.
fn crc(body: &[u8]) -> i32 {
    i32::try_from(message::record::body_crc(body)).unwrap_or(0)
}
