//! Options of a client: where it looks up topics, time-outs, limits.

use std::sync::Arc;
use std::time::Duration;

use net::session::Connector;
use net::{Limits, Service};

/// Where the queues of a topic are looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// At name servers, `host:port`; the first answer counts.
    NameServers(Vec<String>),
    /// At one broker, `host:port`, for its own queues; no name server is needed.
    Broker(String),
}

/// Options of a client.
#[derive(Clone)]
pub struct Options {
    /// Where the queues of a topic are looked up.
    pub lookup: Lookup,
    /// Time-out of name resolution and connect. Default 3 s.
    pub connect_timeout: Duration,
    /// Time-out of an answer, plus the time a pull may be parked. Default 3 s, as Apache's clients for sends.
    pub request_timeout: Duration,
    /// Maximum number of open connections; a new one replaces an idle one. Default 256.
    pub max_connections: usize,
    /// Limits of each connection.
    pub limits: Limits,
    /// Makes the session of each connection, such as TLS; without it connections are plain TCP.
    pub connector: Option<Arc<dyn Connector>>,
    /// Serves requests from brokers (rebalance, offset reset, diagnosis). Without it they are dropped.
    pub service: Option<Arc<dyn Service>>,
}

impl Options {
    /// Defaults, with these name servers.
    pub fn with_name_servers<A: Into<String>>(addresses: impl IntoIterator<Item = A>) -> Self {
        Self::new(Lookup::NameServers(addresses.into_iter().map(Into::into).collect()))
    }

    /// Defaults, with one broker for looking up its own queues.
    pub fn with_broker(address: impl Into<String>) -> Self {
        Self::new(Lookup::Broker(address.into()))
    }

    /// Defaults.
    pub fn new(lookup: Lookup) -> Self {
        Self {
            lookup,
            connect_timeout: Duration::from_secs(3),
            request_timeout: Duration::from_secs(3),
            max_connections: 256,
            limits: Limits::default(),
            connector: None,
            service: None,
        }
    }
}
