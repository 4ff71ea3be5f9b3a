//! The broker of this process.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use broker::settings::BrokerSettings;
use broker::{Broker, StartError};
use store::StoreError;
use store::disk::real::RealDisk;

use crate::failure::Failure;

/// A broker that serves.
pub(crate) struct Running(Broker);

impl Running {
    /// Opens the store and the ports, and registers: with the name server beside it first, if there is one.
    pub(crate) fn start(settings: BrokerSettings, name_server: Option<SocketAddr>) -> Result<Self, Failure> {
        let own = name_server.map(|address| address.to_string());
        let name_servers: Vec<_> = own.into_iter().chain(settings.namesrv_addr.iter().cloned()).collect();
        Broker::start(settings, &name_servers, Arc::new(RealDisk))
            .map(Self)
            .map_err(explained)
    }

    /// Answers what is in flight, says goodbye, and closes the store.
    pub(crate) fn stop(self) -> Result<(), Failure> {
        self.0
            .stop()
            .map_err(|error| Failure::new(format!("the store was not closed in order: {error}")).advice("The next start recovers it"))
    }
}

/// Under which address a broker registers at the name server beside it, `own`, while what clients are told is to follow them.
pub(crate) fn following_address(settings: &BrokerSettings, own: SocketAddr) -> Option<Arc<str>> {
    let follows = settings.broker_ip1.is_none();
    follows.then(|| SocketAddr::new(own.ip(), settings.listen_port).to_string().into())
}

/// An address under which this machine reaches what listens there.
pub(crate) fn reachable(listening: SocketAddr) -> SocketAddr {
    let ip = match listening.ip() {
        IpAddr::V4(any) if any.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(any) if any.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        one => one,
    };
    SocketAddr::new(ip, listening.port())
}

fn explained(error: StartError) -> Failure {
    let failure = Failure::new(&error);
    match &error {
        StartError::Store(StoreError::DiskFull(_)) => failure.advice("Make room on the disk, or choose another directory with --data"),
        StartError::Listen(cause) if cause.kind() == std::io::ErrorKind::AddrInUse => {
            failure.advice("Stop the process that listens there, or choose another port with --broker-port")
        }
        _ => failure,
    }
}
