//! The first screen: what the user who started the program needs to know, on stdout, as plain text.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use broker::settings::{BrokerSettings, FlushDiskType};
use controller::ControllerSettings;
use proxy::cluster_settings::ClusterSettings;

use crate::roles::reachable;

/// The running roles.
#[derive(Debug)]
pub(crate) struct Screen<'a> {
    /// The program as it was started, so that shown commands can be typed.
    pub(crate) program: &'a str,
    pub(crate) name_server: Option<SocketAddr>,
    pub(crate) broker: Option<&'a BrokerSettings>,
    /// Role of a broker under controllers.
    pub(crate) role: Option<&'a str>,
    pub(crate) controller: Option<&'a ControllerSettings>,
    /// Address for clients of the gRPC protocol.
    pub(crate) grpc: Option<SocketAddr>,
    /// Address of the proxy for clients of the remoting protocol.
    pub(crate) remoting: Option<SocketAddr>,
    /// Of a proxy in front of the brokers of other processes.
    pub(crate) cluster: Option<&'a ClusterSettings>,
    /// None of a proxy.
    pub(crate) data: Option<&'a Path>,
    pub(crate) took: Duration,
}

/// Prints the screen. A closed stdout is ignored.
pub(crate) fn print(screen: &Screen<'_>) {
    let text = text(screen);
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn text(screen: &Screen<'_>) -> String {
    let mut out = format!("ApogeeMQ {}\n\n", env!("CARGO_PKG_VERSION"));
    let mut line = |name: &str, what: String| {
        let _ = writeln!(out, "  {name:<14}{what}");
    };
    if let Some(address) = screen.name_server {
        line("name server", address.to_string());
    }
    if let Some(broker) = screen.broker {
        line("broker", broker_line(broker));
        if let Some(role) = screen.role {
            line(
                "role",
                format!("{role}, as the controllers at {} say", broker.controller_addr.join(";")),
            );
        }
    }
    if let Some(controller) = screen.controller {
        line(
            "controller",
            format!("{} of {}: {}", controller.self_id, controller.group, controller.peers),
        );
    }
    if let Some(address) = screen.grpc {
        line("gRPC", address.to_string());
    }
    if let Some(address) = screen.remoting {
        line("remoting", format!("{address}, the name server of clients"));
    }
    if let Some(broker) = screen.broker {
        line("registers at", registers_at(screen, broker));
    }
    if let Some(cluster) = screen.cluster {
        line("brokers of", cluster.namesrv_addr.join(", "));
    }
    if let Some(data) = screen.data {
        line("data", absolute(data));
    }
    if let Some(broker) = screen.broker {
        line("flush", flush(broker));
    }
    line("ready in", format!("{} ms", screen.took.as_millis()));
    let _ = writeln!(out, "\n  Try it:  {}", try_it(screen));
    let _ = writeln!(
        out,
        "  Stop it: Ctrl-C. Change it: {} config lists every key. See more: --log info\n",
        screen.program
    );
    out
}

fn broker_line(broker: &BrokerSettings) -> String {
    let address = SocketAddr::new(broker.bind_address, broker.listen_port);
    format!(
        "{address} (VIP {})   {} in {}",
        broker.vip_port(),
        broker.broker_name,
        broker.broker_cluster_name
    )
}

fn registers_at(screen: &Screen<'_>, broker: &BrokerSettings) -> String {
    let own = screen.name_server.map(|_| "the name server above".to_owned());
    let all: Vec<_> = own.into_iter().chain(broker.namesrv_addr.iter().cloned()).collect();
    if all.is_empty() {
        "no name server (set one with -n HOST:PORT)".to_owned()
    } else {
        all.join(", ")
    }
}

fn flush(broker: &BrokerSettings) -> String {
    let interval = broker.flush_interval_commit_log.as_millis();
    match broker.flush_disk_type {
        FlushDiskType::Async => format!("ASYNC_FLUSH: a crash of the process loses nothing, a power cut up to {interval} ms"),
        FlushDiskType::Sync => "SYNC_FLUSH: what is acknowledged is on the device".to_owned(),
    }
}

fn absolute(path: &Path) -> String {
    path.canonicalize().unwrap_or_else(|_| path.to_owned()).display().to_string()
}

fn try_it(screen: &Screen<'_>) -> String {
    let program = screen.program;
    match (screen.broker, screen.name_server) {
        (Some(broker), _) => format!(
            "{program} bench send --broker {}",
            reachable((broker.bind_address, broker.listen_port).into())
        ),
        (None, Some(address)) => format!("{program} broker -n {}", reachable(address)),
        (None, None) => match screen.cluster {
            Some(cluster) => format!("{program} admin clusterList -n '{}'", cluster.namesrv_addr.join(";")),
            None => match screen.controller.and_then(|controller| controller.port().ok()) {
                Some(port) => format!("{program} admin getControllerMetaData -a 127.0.0.1:{port}"),
                None => format!("{program} --help"),
            },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_screen_says_what_runs_where_and_how_safe_it_is() {
        let broker = BrokerSettings {
            broker_name: "b".to_owned(),
            ..BrokerSettings::default()
        };
        let address = "0.0.0.0:9876".parse().unwrap();
        let screen = Screen {
            program: "target/release/apogeemq",
            name_server: Some(address),
            broker: Some(&broker),
            role: None,
            controller: None,
            grpc: None,
            remoting: None,
            cluster: None,
            data: Some(Path::new("/no/such/dir")),
            took: Duration::from_millis(7),
        };
        let text = text(&screen);
        for part in [
            "0.0.0.0:9876",
            "0.0.0.0:10911 (VIP 10909)",
            "b in DefaultCluster",
            "/no/such/dir",
            "ASYNC_FLUSH",
            "target/release/apogeemq bench send --broker 127.0.0.1:10911",
            "7 ms",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }

    #[test]
    fn a_broker_without_name_server_says_how_to_set_one() {
        let broker = BrokerSettings::default();
        let screen = Screen {
            program: "target/release/apogeemq",
            name_server: None,
            broker: Some(&broker),
            role: None,
            controller: None,
            grpc: None,
            remoting: None,
            cluster: None,
            data: Some(Path::new(".")),
            took: Duration::ZERO,
        };
        assert!(text(&screen).contains("-n HOST:PORT"));
    }
}
