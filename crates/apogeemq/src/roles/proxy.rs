//! The gRPC proxy, in front of the broker of this process or of the brokers of a cluster.

use std::net::SocketAddr;

use ::proxy::cluster_settings::ClusterSettings;
use ::proxy::settings::ProxySettings;
use ::proxy::{Proxy, StartError};
use tls::{Accepted, Tls};

use super::broker;
use crate::failure::Failure;

/// A running proxy.
pub(super) struct Running(Proxy);

impl Running {
    /// Opens its port.
    pub(super) fn start(settings: ProxySettings, accepted: Accepted, broker: &broker::Running) -> Result<Self, Failure> {
        Proxy::start(settings, accepted, broker.operations()).map(Self).map_err(explained)
    }

    /// The same in front of the brokers that name servers know.
    pub(super) fn start_in_cluster(settings: ProxySettings, cluster: &ClusterSettings, tls: &Tls) -> Result<Self, Failure> {
        Proxy::start_in_cluster(settings, cluster.clone(), tls.accepted(), tls.transport().connector)
            .map(Self)
            .map_err(explained)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// Answers requests in flight and closes.
    pub(super) fn stop(self) {
        self.0.stop();
    }
}

fn explained(error: StartError) -> Failure {
    let failure = Failure::new(&error);
    match &error {
        StartError::Listen { cause, .. } if cause.kind() == std::io::ErrorKind::AddrInUse => failure.advice(
            "Stop the process that listens there, choose another port with --grpc-port, or serve no gRPC clients (apogeeGrpcEnable=false)",
        ),
        _ => failure,
    }
}
