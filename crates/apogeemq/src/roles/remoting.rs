//! The proxy for clients of the remoting protocol, in front of the brokers that name servers know. In the process of a broker these are its own
//! ones, so that its clients need one port only.

use std::net::SocketAddr;

use ::broker::settings::BrokerSettings;
use ::proxy::Remoting;
use ::proxy::cluster_settings::ClusterSettings;
use ::proxy::remoting_settings::RemotingSettings;
use tls::Tls;

use super::broker::cluster_of;
use crate::failure::Failure;

/// A running proxy.
pub(super) struct Running(Remoting);

impl Running {
    /// Opens its port. Without `cluster`, its name servers are the one of this process (`own`) and those of the broker.
    pub(super) fn start(
        settings: RemotingSettings,
        cluster: Option<&ClusterSettings>,
        own: Option<SocketAddr>,
        broker: Option<&BrokerSettings>,
        tls: &Tls,
    ) -> Result<Self, Failure> {
        let cluster = match cluster {
            Some(cluster) => cluster.clone(),
            None => broker.and_then(|broker| cluster_of(broker, own)).unwrap_or_default(),
        };
        if cluster.namesrv_addr.is_empty() {
            return Err(
                Failure::new("apogeeProxyRemotingEnable=true needs a name server, which knows the brokers")
                    .advice("Name it with -n HOST:PORT"),
            );
        }
        Remoting::start(settings, &cluster, tls.transport()).map(Self).map_err(|error| {
            let failure = Failure::new(format!("remoting proxy: {error}"));
            match error.kind() {
                std::io::ErrorKind::AddrInUse => failure.advice(
                    "Stop the process that listens there, choose another port with --remoting-port, or serve no remoting clients \
                     (apogeeProxyRemotingEnable=false)",
                ),
                _ => failure,
            }
        })
    }

    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.0.address()
    }

    /// Answers requests in flight and closes.
    pub(super) fn stop(self) {
        self.0.stop();
    }
}
