//! Starting and stopping the roles of this process.
//!
//! Order: the name server starts first, so that the broker in the process finds it, the proxy last. They stop the other way round: the
//! broker acknowledges nothing more when the proxy has stopped, and can still unregister.

mod broker;
mod controller;
mod descriptors;
mod name_server;
mod proxy;
mod remoting;

pub(crate) use broker::{Running as RunningBroker, reachable};
pub(crate) use name_server::Running as RunningNameServer;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use ::broker::settings::BrokerSettings;
use nameserver::LocalBroker;
use nameserver::settings::NamesrvSettings;
use net::session::Transport;
use tls::Tls;

use crate::arguments::ServerFlags;
use crate::configuration::{self, Configuration};
use crate::failure::Failure;
use crate::process::{StopSignals, give_back_free_memory, raise_descriptor_limit, survive_file_size_limit};
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
    /// Only a controller.
    Controller,
    /// Only a proxy, in front of brokers of other processes.
    Proxy,
}

impl Part {
    pub(crate) fn has_broker(self) -> bool {
        matches!(self, Self::Both | Self::Broker)
    }

    /// A broker has one in its process.
    pub(crate) fn has_proxy(self) -> bool {
        !matches!(self, Self::NameServer | Self::Controller)
    }

    pub(crate) fn has_name_server(self) -> bool {
        matches!(self, Self::Both | Self::NameServer)
    }
}

/// Stops this process when its standard input ends: a parent that is killed (SIGKILL) cannot stop it.
fn stop_with_input() -> io::Result<()> {
    let wait = || {
        // A failure is an end, too.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        StopSignals::send();
    };
    thread::Builder::new().name("input".to_owned()).spawn(wait).map(drop)
}

/// Runs the roles until a signal stops them.
pub(crate) fn serve(part: Part, flags: &ServerFlags) -> Result<(), Failure> {
    let begun = Instant::now();
    // Before the first thread, that of the log: a thread that does not block the signals would let them end the process.
    let signals = StopSignals::block().map_err(Failure::new)?;
    let _log = logging::install(flags.common.log.as_deref())?;
    if flags.common.stop_with_input {
        stop_with_input().map_err(Failure::new)?;
    }
    survive_file_size_limit().map_err(Failure::new)?;
    net::when_relieved(give_back_free_memory);
    let mut configuration = configuration::read(part, flags, configuration::environment())?;
    configuration.report();
    match raise_descriptor_limit() {
        Ok(limit) => {
            if let Some(cut) = descriptors::fit(
                limit,
                configuration.broker.as_mut(),
                configuration.namesrv.as_mut(),
                configuration.proxy.as_mut(),
                configuration.remoting.as_mut(),
            ) {
                tracing::warn!("{cut}");
            }
        }
        Err(error) => tracing::warn!(%error, "the limit of open descriptors was not raised"),
    }
    run(configuration, begun, signals)
}

/// Starts the roles, prints the first screen, waits for a signal, and stops them.
fn run(configuration: Configuration, begun: Instant, signals: StopSignals) -> Result<(), Failure> {
    let data = data_directory(&configuration);
    let tls = Tls::open(&configuration.tls).map_err(Failure::new)?;
    let controller_settings = configuration.controller;
    let controller = controller_settings
        .clone()
        .map(|settings| controller::start(settings, tls.transport()))
        .transpose()?;
    let broker_settings = configuration.broker;
    let name_server = configuration
        .namesrv
        .map(|settings| start_name_server(settings, tls.transport(), broker_settings.as_ref()))
        .transpose()?;
    let address = name_server.as_ref().map(name_server::Running::address);
    let broker = broker_settings
        .clone()
        .map(|settings| broker::Running::start(settings, tls.transport(), address.map(reachable)))
        .transpose()?;
    let proxy_settings = configuration.proxy.filter(|settings| settings.enable);
    let operations = broker.as_ref().and_then(broker::Running::operations);
    // A broker under controllers is reached as any other: which one is the master changes.
    let controlled = broker_settings.as_ref().filter(|_| operations.is_none());
    let cluster = configuration
        .cluster
        .clone()
        .or_else(|| controlled.and_then(|settings| broker::cluster_of(settings, address)));
    let started = match (operations, &cluster, proxy_settings) {
        (Some(operations), _, Some(settings)) => proxy::Running::start(settings, tls.accepted(), operations).map(Some),
        (None, Some(cluster), Some(settings)) => proxy::Running::start_in_cluster(settings, cluster, &tls).map(Some),
        (None, None, Some(_)) if controlled.is_some() => {
            tracing::warn!("there is no gRPC port: a broker under controllers needs a name server for it (namesrvAddr)");
            Ok(None)
        }
        _ => Ok(None),
    };
    let proxy = match started {
        Ok(proxy) => proxy,
        Err(failure) => {
            // What failed first is what the operator has to know.
            let _ = broker.map_or(Ok(()), broker::Running::stop);
            return Err(failure);
        }
    };
    let remoting = configuration
        .remoting
        .map(|settings| remoting::Running::start(settings, configuration.cluster.as_ref(), address, broker_settings.as_ref(), &tls))
        .transpose();
    let remoting = match remoting {
        Ok(remoting) => remoting,
        Err(failure) => {
            if let Some(proxy) = proxy {
                proxy.stop();
            }
            let _ = broker.map_or(Ok(()), broker::Running::stop);
            return Err(failure);
        }
    };
    if let Some(proxy) = &proxy {
        proxy.serve_admin(broker.as_ref(), cluster.as_ref(), tls.transport().connector);
    }
    let program = std::env::args().next();
    screen::print(&screen::Screen {
        program: program.as_deref().unwrap_or("apogeemq"),
        name_server: address,
        broker: broker_settings.as_ref(),
        role: broker.as_ref().and_then(broker::Running::role),
        controller: controller_settings.as_ref(),
        grpc: proxy.as_ref().map(proxy::Running::address),
        remoting: remoting.as_ref().and_then(remoting::Running::address),
        cluster: configuration.cluster.as_ref(),
        data: data.as_deref(),
        took: begun.elapsed(),
    });
    signals.wait().map_err(Failure::new)?;
    tracing::info!("stopping");
    // Both have the same time for their last answers.
    std::thread::scope(|scope| {
        scope.spawn(|| remoting.map(remoting::Running::stop));
        if let Some(proxy) = proxy {
            proxy.stop();
        }
    });
    let stopped = broker.map_or(Ok(()), broker::Running::stop);
    if let Some(name_server) = name_server {
        name_server.stop();
    }
    if let Some(controller) = controller {
        controller.stop();
    }
    stopped
}

/// Starts the name server so that it gives clients the broker in the process under the IP that they connected to.
fn start_name_server(
    settings: NamesrvSettings,
    transport: Transport,
    broker_in_process: Option<&BrokerSettings>,
) -> Result<name_server::Running, Failure> {
    let own = reachable((settings.bind_address, settings.listen_port).into());
    let registered = broker_in_process.and_then(|broker| broker::following_address(broker, own));
    let local_broker = registered.map(|address| -> LocalBroker { Arc::new(move || Some(Arc::clone(&address))) });
    name_server::Running::start(settings, transport, local_broker)
}

fn data_directory(configuration: &Configuration) -> Option<PathBuf> {
    let broker = configuration.broker.as_ref().map(|broker| broker.store_path_root_dir.clone());
    let namesrv = || configuration.namesrv.as_ref().map(|namesrv| namesrv.data_dir.clone());
    let controller = || configuration.controller.as_ref().map(::controller::ControllerSettings::directory);
    broker.or_else(namesrv).or_else(controller)
}
