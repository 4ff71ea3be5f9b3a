//! The name server of this process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nameserver::settings::NamesrvSettings;
use nameserver::{LocalBroker, NameServer, Options, Scan, monotonic};
use net::session::Transport;

use crate::failure::Failure;

/// Time for clients to read their answers at the end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// A running name server.
pub(crate) struct Running {
    address: SocketAddr,
    server: net::Server,
    scan: Scan,
}

impl Running {
    /// Opens the port. `local_broker` is the broker of this process, which clients get under the IP that they connected to.
    pub(crate) fn start(settings: NamesrvSettings, transport: Transport, local_broker: Option<LocalBroker>) -> Result<Self, Failure> {
        let network = net::Options {
            encryption: transport.encryption,
            ..NameServer::network(&settings)
        };
        let address = SocketAddr::new(settings.bind_address, settings.listen_port);
        let options = Options {
            settings,
            clock: monotonic(),
            local_broker,
            connector: transport.connector,
        };
        let names = NameServer::new(options).map_err(Failure::new)?;
        let service: Arc<dyn net::Service> = names.clone();
        let server = net::Server::start(network, service).map_err(|error| cannot_listen(&error))?;
        let scan = Scan::start(names).map_err(Failure::new)?;
        Ok(Self { address, server, scan })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests in flight and closes.
    pub(crate) fn stop(self) {
        drop(self.scan);
        let outcome = self.server.stop(DRAIN_TIMEOUT);
        if outcome.cut > 0 {
            tracing::warn!(
                connections = outcome.cut,
                "closed name server connections whose peers did not read their answers"
            );
        }
    }
}

fn cannot_listen(error: &std::io::Error) -> Failure {
    let failure = Failure::new(format!("name server: {error}"));
    match error.kind() {
        std::io::ErrorKind::AddrInUse => failure.advice("Stop the process that listens there, or choose another port with --namesrv-port"),
        _ => failure,
    }
}
