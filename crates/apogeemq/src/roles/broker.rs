//! The broker of this process.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use broker::operations::Operations;
use broker::settings::BrokerSettings;
use broker::{Broker, StartError};
use net::session::Transport;
use protocol::route::MASTER_ID;
use store::StoreError;
use store::disk::real::RealDisk;

use crate::failure::Failure;
use crate::process::StopSignals;

/// A running broker.
pub(crate) struct Running(Broker);

impl Running {
    /// Opens the store and the ports, and registers, first at the name server of this process, if there is one.
    pub(crate) fn start(settings: BrokerSettings, transport: Transport, name_server: Option<SocketAddr>) -> Result<Self, Failure> {
        let own = name_server.map(|address| address.to_string());
        let name_servers: Vec<_> = own.into_iter().chain(settings.namesrv_addr.iter().cloned()).collect();
        let broker = Broker::start(settings, transport, &name_servers, Arc::new(RealDisk)).map_err(explained)?;
        broker.call_when_broken(StopSignals::send);
        Ok(Self(broker))
    }

    /// Its verbs, for the proxy.
    pub(crate) fn operations(&self) -> Operations {
        self.0.operations()
    }

    /// Its names and the address with which this machine connects to it.
    pub(crate) fn known(&self) -> admin::Broker {
        let settings = self.0.operations().core.settings.current();
        let listening = self.0.addresses().first().copied();
        let listening = listening.unwrap_or_else(|| SocketAddr::new(settings.bind_address, settings.listen_port));
        admin::Broker {
            cluster: settings.broker_cluster_name.clone(),
            name: settings.broker_name.clone(),
            id: MASTER_ID,
            address: reachable(listening).to_string(),
        }
    }

    /// Shuts the broker down cleanly: unregisters, answers requests in flight, and closes the store.
    pub(crate) fn stop(self) -> Result<(), Failure> {
        self.0
            .stop()
            .map_err(|error| Failure::new(format!("the broker was not shut down cleanly: {error}")).advice("The next start recovers it"))
    }
}

/// The address under which a broker registers at the name server of this process (`own`), if clients get it under the IP that they
/// connected to; `None` with `brokerIP1`.
pub(crate) fn following_address(settings: &BrokerSettings, own: SocketAddr) -> Option<Arc<str>> {
    let follows = settings.broker_ip1.is_none();
    follows.then(|| SocketAddr::new(own.ip(), settings.listen_port).to_string().into())
}

/// The address with which this machine connects to a listening address.
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
        StartError::Store(StoreError::DiskFull(_)) => failure.advice("Free space on the disk, or choose another directory with --data"),
        StartError::Listen(cause) if cause.kind() == std::io::ErrorKind::AddrInUse => {
            failure.advice("Stop the process that listens there, or choose another port with --broker-port")
        }
        _ => failure,
    }
}
