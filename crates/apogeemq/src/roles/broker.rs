//! The broker of this process.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ::proxy::cluster_settings::ClusterSettings;
use broker::controlled::ControlledBroker;
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
pub(crate) enum Running {
    /// In the role of its settings.
    Fixed(Box<Broker>),
    /// In the role that controllers give it.
    Controlled(ControlledBroker),
}

impl Running {
    /// Opens the store and the ports, and registers, first at the name server of this process, if there is one.
    pub(crate) fn start(settings: BrokerSettings, transport: Transport, name_server: Option<SocketAddr>) -> Result<Self, Failure> {
        let own = name_server.map(|address| address.to_string());
        let name_servers: Vec<_> = own.into_iter().chain(settings.namesrv_addr.iter().cloned()).collect();
        if settings.enable_controller_mode {
            let broker = ControlledBroker::start(settings, transport, &name_servers, Arc::new(RealDisk)).map_err(explained)?;
            broker.call_when_broken(StopSignals::send);
            return Ok(Self::Controlled(broker));
        }
        let broker = Broker::start(settings, transport, &name_servers, Arc::new(RealDisk)).map_err(explained)?;
        broker.call_when_broken(StopSignals::send);
        Ok(Self::Fixed(Box::new(broker)))
    }

    /// Its verbs, for a proxy in this process. A broker under controllers has none: it starts again with each change of its role.
    pub(crate) fn operations(&self) -> Option<Operations> {
        match self {
            Self::Fixed(broker) => Some(broker.operations()),
            Self::Controlled(_) => None,
        }
    }

    /// Its role, if controllers give it one.
    pub(crate) fn role(&self) -> Option<&'static str> {
        match self {
            Self::Fixed(_) => None,
            Self::Controlled(broker) => Some(broker.role()),
        }
    }

    /// Its names and the address with which this machine connects to it, if it has verbs for a proxy.
    pub(crate) fn known(&self) -> Option<admin::Broker> {
        let Self::Fixed(broker) = self else { return None };
        let settings = broker.core().settings.current();
        let listening = broker.addresses().first().copied();
        let listening = listening.unwrap_or_else(|| SocketAddr::new(settings.bind_address, settings.listen_port));
        Some(admin::Broker {
            cluster: settings.broker_cluster_name.clone(),
            name: settings.broker_name.clone(),
            id: MASTER_ID,
            address: reachable(listening).to_string(),
        })
    }

    /// Shuts the broker down cleanly: unregisters, answers requests in flight, and closes the store.
    pub(crate) fn stop(self) -> Result<(), Failure> {
        let stopped = match self {
            Self::Fixed(broker) => broker.stop(),
            Self::Controlled(broker) => broker.stop(),
        };
        stopped.map_err(|error| Failure::new(format!("the broker was not shut down cleanly: {error}")).advice("The next start recovers it"))
    }
}

/// The address under which a broker registers at the name server of this process (`own`), if clients get it under the IP that they
/// connected to; `None` with `brokerIP1`.
pub(crate) fn following_address(settings: &BrokerSettings, own: SocketAddr) -> Option<Arc<str>> {
    let follows = settings.broker_ip1.is_none();
    follows.then(|| SocketAddr::new(own.ip(), settings.listen_port).to_string().into())
}

/// The brokers that the name servers of a broker know, and the name server of this process (`own`). `None` without name servers.
pub(crate) fn cluster_of(broker: &BrokerSettings, own: Option<SocketAddr>) -> Option<ClusterSettings> {
    let own = own.map(|address| reachable(address).to_string());
    let namesrv_addr: Vec<_> = own.into_iter().chain(broker.namesrv_addr.iter().cloned()).collect();
    (!namesrv_addr.is_empty()).then(|| ClusterSettings {
        namesrv_addr,
        ..ClusterSettings::default()
    })
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
