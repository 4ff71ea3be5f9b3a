//! The command line. A flag that sets a configuration key is checked by that key, so the error text is the same for
//! every source of a value.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Environment variables that belong to flags and are not keys.
pub(crate) const FLAG_VARIABLES: &[&str] = &[
    "APOGEEMQ_CONFIG",
    "APOGEEMQ_DATA",
    "APOGEEMQ_NAMESRV_PORT",
    "APOGEEMQ_BROKER_PORT",
    "APOGEEMQ_GRPC_PORT",
    "APOGEEMQ_REMOTING_PORT",
    "APOGEEMQ_BIND",
    "APOGEEMQ_LOG",
];

/// ApogeeMQ: a message broker that Apache RocketMQ clients use unchanged.
#[derive(Debug, Parser)]
#[command(name = "apogeemq", version, args_conflicts_with_subcommands = true, after_help = AFTER)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) flags: ServerFlags,
}

const AFTER: &str = "Without a command: server.\n\
    Order of settings: default < file (-c) < environment (APOGEEMQ_...) < flags. All keys: apogeemq config.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run name server and broker in one process
    Server(ServerFlags),
    /// Run a name server
    Namesrv(NamesrvFlags),
    /// Run a broker that registers at name servers
    Broker(BrokerFlags),
    /// Run a controller, which elects masters of brokers
    Controller(ControllerFlags),
    /// Run a proxy for gRPC and remoting clients in front of the brokers that name servers know
    Proxy(ProxyFlags),
    /// Print every configuration key with type, default and meaning
    Config(ConfigFlags),
    /// Generate load for any RocketMQ-compatible server and measure it
    Bench(crate::bench::Arguments),
    /// Administer a cluster, Apache's or ours: mqadmin's verbs and flags
    Admin(Box<admin::cli::Arguments>),
    /// Start a cluster of several processes on this machine, for trying out what happens when one of them dies
    Cluster(crate::cluster::Arguments),
    /// Show what a message queue is good for, on a server inside this process, in under a minute
    Demo(crate::demo::Arguments),
    /// Check a data directory or print its content, without starting a broker
    Store(crate::store::Arguments),
}

/// Flags of every role.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct CommonFlags {
    /// Properties file with Apache's keys
    #[arg(short = 'c', long = "config", value_name = "FILE", env = "APOGEEMQ_CONFIG")]
    pub(crate) file: Option<PathBuf>,
    /// Directory for all data [default: ./data]
    #[arg(long, value_name = "DIR", env = "APOGEEMQ_DATA")]
    pub(crate) data: Option<String>,
    /// Address to listen on [default: 0.0.0.0]
    #[arg(long, value_name = "ADDRESS", env = "APOGEEMQ_BIND")]
    pub(crate) bind: Option<String>,
    /// Start without a damaged file of the data directory, such as topics.json; several separated by ';'. The error of the refused
    /// start says what that costs
    #[arg(long, value_name = "FILE")]
    pub(crate) start_without: Option<String>,
    /// What to log to stderr: error, warn, info, debug, trace, or target=level,... [default: warn]
    #[arg(long, value_name = "LEVEL", env = "APOGEEMQ_LOG")]
    pub(crate) log: Option<String>,
    /// Stop when standard input ends, which its writer does by ending, however it ends
    #[arg(long, hide = true)]
    pub(crate) stop_with_input: bool,
}

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ServerFlags {
    #[command(flatten)]
    pub(crate) common: CommonFlags,
    /// Further name servers to register at, HOST:PORT separated by ';'
    #[arg(short = 'n', long = "namesrv", value_name = "NAMESRV")]
    pub(crate) namesrv: Option<String>,
    /// Port of the name server [default: 9876]
    #[arg(long, value_name = "PORT", env = "APOGEEMQ_NAMESRV_PORT")]
    pub(crate) namesrv_port: Option<String>,
    /// Port of the broker [default: 10911]
    #[arg(long, value_name = "PORT", env = "APOGEEMQ_BROKER_PORT")]
    pub(crate) broker_port: Option<String>,
    /// Port for clients of the gRPC protocol; 0 for any free port [default: 8081]
    #[arg(long, value_name = "PORT", env = "APOGEEMQ_GRPC_PORT")]
    pub(crate) grpc_port: Option<String>,
    /// Port of the proxy for remoting clients, if apogeeProxyRemotingEnable is true; 0 for any free port [default: 8080]
    #[arg(long, value_name = "PORT", env = "APOGEEMQ_REMOTING_PORT")]
    pub(crate) remoting_port: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct NamesrvFlags {
    #[command(flatten)]
    common: CommonFlags,
    /// Port of the name server [default: 9876]
    #[arg(long, visible_alias = "port", value_name = "PORT", env = "APOGEEMQ_NAMESRV_PORT")]
    namesrv_port: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ControllerFlags {
    #[command(flatten)]
    common: CommonFlags,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct BrokerFlags {
    #[command(flatten)]
    common: CommonFlags,
    /// Name servers to register at, HOST:PORT separated by ';'
    #[arg(short = 'n', long = "namesrv", value_name = "NAMESRV")]
    namesrv: Option<String>,
    /// Port of the broker [default: 10911]
    #[arg(long, visible_alias = "port", value_name = "PORT", env = "APOGEEMQ_BROKER_PORT")]
    broker_port: Option<String>,
    /// Port for clients of the gRPC protocol; 0 for any free port [default: 8081]
    #[arg(long, value_name = "PORT", env = "APOGEEMQ_GRPC_PORT")]
    grpc_port: Option<String>,
    /// Port of the proxy for remoting clients, if apogeeProxyRemotingEnable is true; 0 for any free port [default: 8080]
    #[arg(long, value_name = "PORT", env = "APOGEEMQ_REMOTING_PORT")]
    remoting_port: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ProxyFlags {
    /// Properties file with Apache's keys, or a rmq-proxy.json
    #[arg(short = 'c', long = "config", value_name = "FILE", env = "APOGEEMQ_CONFIG")]
    file: Option<PathBuf>,
    /// Name servers that know the brokers, HOST:PORT separated by ';'
    #[arg(short = 'n', long = "namesrv", value_name = "NAMESRV")]
    namesrv: Option<String>,
    /// Port for clients of the gRPC protocol; 0 for any free port [default: 8081]
    #[arg(long, visible_alias = "port", value_name = "PORT", env = "APOGEEMQ_GRPC_PORT")]
    grpc_port: Option<String>,
    /// Port for clients of the remoting protocol, their name server; 0 for any free port [default: 8080]
    #[arg(long, value_name = "PORT", env = "APOGEEMQ_REMOTING_PORT")]
    remoting_port: Option<String>,
    /// Address to listen on [default: 0.0.0.0]
    #[arg(long, value_name = "ADDRESS", env = "APOGEEMQ_BIND")]
    bind: Option<String>,
    /// What to log to stderr: error, warn, info, debug, trace, or target=level,... [default: warn]
    #[arg(long, value_name = "LEVEL", env = "APOGEEMQ_LOG")]
    log: Option<String>,
}

impl From<ProxyFlags> for ServerFlags {
    fn from(flags: ProxyFlags) -> Self {
        let common = CommonFlags {
            file: flags.file,
            bind: flags.bind,
            log: flags.log,
            ..CommonFlags::default()
        };
        Self {
            common,
            namesrv: flags.namesrv,
            grpc_port: flags.grpc_port,
            remoting_port: flags.remoting_port,
            ..Self::default()
        }
    }
}

impl From<ControllerFlags> for ServerFlags {
    fn from(flags: ControllerFlags) -> Self {
        Self {
            common: flags.common,
            ..Self::default()
        }
    }
}

impl From<NamesrvFlags> for ServerFlags {
    fn from(flags: NamesrvFlags) -> Self {
        Self {
            common: flags.common,
            namesrv_port: flags.namesrv_port,
            ..Self::default()
        }
    }
}

impl From<BrokerFlags> for ServerFlags {
    fn from(flags: BrokerFlags) -> Self {
        Self {
            common: flags.common,
            namesrv: flags.namesrv,
            broker_port: flags.broker_port,
            grpc_port: flags.grpc_port,
            remoting_port: flags.remoting_port,
            ..Self::default()
        }
    }
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ConfigFlags {
    /// Print the manual page docs/configuration.md
    #[arg(long)]
    pub(crate) markdown: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn flags_are_accepted_without_a_command() {
        let arguments = Arguments::try_parse_from(["apogeemq", "--data", "/x", "-n", "h:1"]).unwrap();
        assert!(arguments.command.is_none());
        assert_eq!(
            (arguments.flags.common.data.as_deref(), arguments.flags.namesrv.as_deref()),
            (Some("/x"), Some("h:1"))
        );
    }

    #[test]
    fn a_role_accepts_only_its_own_flags() {
        assert!(Arguments::try_parse_from(["apogeemq", "broker", "--namesrv-port", "1"]).is_err());
        assert!(Arguments::try_parse_from(["apogeemq", "namesrv", "-n", "h:1"]).is_err());
        assert!(Arguments::try_parse_from(["apogeemq", "broker", "-n", "h:1", "--port", "1"]).is_ok());
        assert!(Arguments::try_parse_from(["apogeemq", "proxy", "-n", "h:1", "--data", "/x"]).is_err());
    }

    #[test]
    fn administration_has_a_verb() {
        let arguments = Arguments::try_parse_from(["apogeemq", "admin", "topicList", "-n", "h:1"]).unwrap();
        assert!(matches!(arguments.command, Some(Command::Admin(_))));
        assert!(Arguments::try_parse_from(["apogeemq", "admin", "noSuchVerb"]).is_err());
    }

    #[test]
    fn every_variable_of_a_flag_is_listed() {
        let server = Arguments::command();
        let variables = server
            .get_arguments()
            .filter_map(|arg| arg.get_env())
            .filter_map(|name| name.to_str());
        assert!(variables.into_iter().all(|name| FLAG_VARIABLES.contains(&name)));
    }
}
