//! The gRPC proxy, in front of the broker of this process or of the brokers of a cluster.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ::admin::Cluster;
use ::broker::operations::Operations;
use ::proxy::cluster_settings::ClusterSettings;
use ::proxy::settings::ProxySettings;
use ::proxy::{Administration, Proxy, StartError};
use client::Options;
use net::session::Connector;
use tls::{Accepted, Tls};

use super::broker;
use crate::failure::Failure;
use crate::logging;

/// How long an answer to the service Admin may take. A broker waits for a consumer for 10 s.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(12);

/// A running proxy.
pub(super) struct Running(Proxy);

impl Running {
    /// Opens its port.
    pub(super) fn start(settings: ProxySettings, accepted: Accepted, operations: Operations) -> Result<Self, Failure> {
        Proxy::start(settings, accepted, operations).map(Self).map_err(explained)
    }

    /// The same in front of the brokers that name servers know.
    pub(super) fn start_in_cluster(settings: ProxySettings, cluster: &ClusterSettings, tls: &Tls) -> Result<Self, Failure> {
        Proxy::start_in_cluster(settings, cluster.clone(), tls.accepted(), tls.transport().connector)
            .map(Self)
            .map_err(explained)
    }

    /// Serves Admin with the broker of this process, or else with those that the name servers of `cluster` know. `connector` opens
    /// connections to them.
    pub(super) fn serve_admin(
        &self,
        broker: Option<&broker::Running>,
        cluster: Option<&ClusterSettings>,
        connector: Option<Arc<dyn Connector>>,
    ) {
        let options = |options: Options| Options {
            request_timeout: ADMIN_TIMEOUT,
            connector,
            ..options
        };
        let change_log_level = Some(logging::change_level as fn(_) -> _);
        let known = broker.and_then(|broker| broker.known().zip(broker.operations()));
        let administration = match (known, cluster) {
            (Some((known, operations)), _) => {
                let core = operations.core;
                let options = options(Options::with_broker(&known.address));
                Administration {
                    cluster: Cluster::of_broker(known, options),
                    address_for: Some(Box::new(move |local| core.store_host(local))),
                    change_log_level,
                }
            }
            (None, Some(cluster)) => Administration {
                cluster: Cluster::over(options(Options::with_name_servers(cluster.namesrv_addr.iter().cloned()))),
                address_for: None,
                change_log_level,
            },
            (None, None) => return,
        };
        self.0.serve_admin(administration);
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
