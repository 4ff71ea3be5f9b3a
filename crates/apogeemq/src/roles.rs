//! Starting and stopping the roles of this process.
//!
//! Order: the name server opens first, so that the broker beside it finds it; at the end the broker stops first, so that it can still
//! unregister. Each role stops in its own order: no new connections, answers for what is in flight, flush, goodbye.

mod name_server;

use std::path::PathBuf;
use std::time::Instant;

use crate::arguments::ServerFlags;
use crate::configuration::{self, Configuration};
use crate::failure::Failure;
use crate::process::{StopSignals, raise_descriptor_limit};
use crate::{logging, screen};

/// Which roles this process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Name server and broker.
    Both,
    /// Only a name server.
    NameServer,
    /// Only a broker.
    Broker,
}

impl Part {
    pub(crate) fn has_broker(self) -> bool {
        self != Self::NameServer
    }

    pub(crate) fn has_name_server(self) -> bool {
        self != Self::Broker
    }
}

/// Runs until told to stop.
pub(crate) fn serve(part: Part, flags: &ServerFlags) -> Result<(), Failure> {
    let begun = Instant::now();
    logging::install(flags.common.log.as_deref())?;
    let signals = StopSignals::block().map_err(Failure::new)?;
    let environment = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let configuration = configuration::read(part, flags, environment.collect())?;
    configuration.report();
    if let Err(error) = raise_descriptor_limit() {
        tracing::warn!(%error, "the limit of open descriptors stays as it is");
    }
    run(configuration, begun, signals)
}

/// Starts the roles, says so, waits for the signal, and stops them.
fn run(configuration: Configuration, begun: Instant, signals: StopSignals) -> Result<(), Failure> {
    let data = data_directory(&configuration);
    let name_server = configuration
        .namesrv
        .map(|role| name_server::Running::start(role, None))
        .transpose()?;
    let broker = configuration.broker.map(|role| role.settings);
    let address = name_server.as_ref().map(name_server::Running::address);
    screen::print(&screen::Screen {
        name_server: address,
        broker: broker.as_ref(),
        data: &data,
        took: begun.elapsed(),
    });
    signals.wait().map_err(Failure::new)?;
    tracing::info!("stopping");
    if let Some(name_server) = name_server {
        name_server.stop();
    }
    Ok(())
}

fn data_directory(configuration: &Configuration) -> PathBuf {
    let broker = configuration.broker.as_ref().map(|role| role.settings.store_path_root_dir.clone());
    let namesrv = || configuration.namesrv.as_ref().map(|role| role.settings.data_dir.clone());
    broker.or_else(namesrv).unwrap_or_default()
}
