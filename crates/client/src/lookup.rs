//! How a client is set up: where it looks topics up, how long it waits, its bounds.

use std::sync::Arc;
use std::time::Duration;

use net::{Limits, Service};

/// Who is asked for the queues of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// Name servers, `host:port`; the first that answers decides.
    NameServers(Vec<String>),
    /// One broker, `host:port`, for its own queues; no name server is needed.
    Broker(String),
}

/// How a client behaves.
#[derive(Clone)]
pub struct Options {
    /// Who is asked for the queues of a topic.
    pub lookup: Lookup,
    /// For the name lookup and the handshake of a connection. Default 3 s.
    pub connect_timeout: Duration,
    /// For an answer; a held pull may take its own time on top. Default 3 s, as Apache's clients for sends.
    pub request_timeout: Duration,
    /// Addresses with an open connection at once; another one takes the place of any that is not in use. Default 256.
    pub max_connections: usize,
    /// Bounds of each connection.
    pub limits: Limits,
    /// Serves requests of the broker (rebalance, offset reset, diagnosis); without it they are dropped.
    pub service: Option<Arc<dyn Service>>,
}

impl Options {
    /// Defaults, with these name servers.
    pub fn with_name_servers<A: Into<String>>(addresses: impl IntoIterator<Item = A>) -> Self {
        Self::new(Lookup::NameServers(addresses.into_iter().map(Into::into).collect()))
    }

    /// Defaults, with one broker that is asked for its own queues.
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
            service: None,
        }
    }
}
