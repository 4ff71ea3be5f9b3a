//! `apogeemq config`: the table of all keys, for the terminal or as `docs/configuration.md`. Both are made from the declarations.

use std::io::{self, Write};

use broker::settings::{BrokerSettings, relations};
use config::{ConnectionSettings, Declared, Relation};
use controller::ControllerSettings;
use nameserver::settings::NamesrvSettings;
use proxy::cluster_settings::ClusterSettings;
use proxy::remoting_settings::RemotingSettings;
use proxy::settings::ProxySettings;
use tls::TlsSettings;

use crate::arguments::ConfigFlags;
use crate::failure::Failure;

const INTRODUCTION: &str = "\
# Configuration

Made by `apogeemq config --markdown` from the declarations of the keys; do not edit.

`apogeemq` needs no configuration. Keys have the names, units and defaults of Apache RocketMQ's files, so a broker or name
server file written for it works with `-c FILE`. Keys that begin with `apogee` are ours.

* **Order:** default < file < environment < flags. Every value is checked. A value that is not allowed but has a clear
  meaning counts as what is meant, with a WARN: a number beyond a bound as the bound (Apache's own bounds where Apache has some),
  `0.85` or `85%` as 85 where a percentage is asked for, `sync_flush` as `SYNC_FLUSH`, `ASYNC_FLUSH # comment` as the text before the
  comment, and an empty value as none. A value without a sensible meaning is refused with its origin, key, value and what is allowed, and
  the start fails: text for a number, a port, a permission or the size of existing files beyond its bounds, a negative number, 0 where at
  least 1 is required.
* **Keys that contradict each other** are adjusted, or a WARN names both: see [the list](#keys-that-belong-together).
* **Environment:** `APOGEEMQ_` and the key in capitals with `_` between its words: `brokerClusterName` is `APOGEEMQ_BROKER_CLUSTER_NAME`,
  `brokerIP1` is `APOGEEMQ_BROKER_IP1`. Our own keys drop their prefix: `apogeeMaxTopics` is `APOGEEMQ_MAX_TOPICS`. `NAMESRV_ADDR`, which
  Apache's scripts set, counts if nothing else names a name server.
* **Flags:** `--data` sets storePathRootDir (and apogeeDataDir) and moves everything below it, `--broker-port` and `--namesrv-port` set the
  listenPort of each role, `--grpc-port` sets grpcServerPort, `--remoting-port` sets remotingListenPort, `-n` sets namesrvAddr, `--bind` sets bindAddress, `--start-without` sets apogeeStartWithout. Each but `-n` and
  the last is also a variable: `APOGEEMQ_CONFIG` (`-c`), `APOGEEMQ_DATA`, `APOGEEMQ_BROKER_PORT`, `APOGEEMQ_NAMESRV_PORT`, `APOGEEMQ_GRPC_PORT`,
  `APOGEEMQ_REMOTING_PORT`, `APOGEEMQ_BIND`, `APOGEEMQ_LOG` (`--log`).
* **A proxy in a process of its own** (`apogeemq proxy -n NAMESRV`) reads properties text, or Apache's `rmq-proxy.json`: the keys of the three proxy tables below, and TLS.
* **Both roles in one process** read one file, the broker's: its listenPort is the broker's.
* **A controller** (`apogeemq controller -c FILE`, or in a name server with enableControllerInNamesrv) listens on its port in controllerDLegerPeers. `--data` moves its files, too ([controller.md](controller.md)).
* **TLS** keys are system properties in Apache. Here they are lines of the same file, and of `tls.config.file`, which overrides it. No client
  can read or change them ([tls.md](tls.md)).
* **Live** keys can be changed while running (requests 25 and 318, `mqadmin updateBrokerConfig`). Changes are saved in
  `config/live.properties` of the store, `namesrv/live.properties` of the name server and `live.properties` of the controller, and rank between file and environment at the
  next start; the configuration file itself is never written. All other keys are refused: no client can move a path or
  open a port.
* **Keys of Apache's without effect here** are accepted and named once in the log. If they are changed live, the
  remark of the answer says that the key has no effect. Values can be read back (requests 26 and 319, `mqadmin getBrokerConfig`). These requests
  return all keys that Apache's broker returns, those without effect with Apache's default, or with the value that is true here if it
  differs (`enableBroadcastOffsetStore=false`). An unknown key gets a WARN with the nearest name.
* **Files** are Java properties text: `key=value`, `key: value`, comments with `#` or `!`, a backslash at the end continues a line.
";

/// Keys without effect that a broker reports (request 26) with a value that is true here, because Apache's default would not be.
const TRUE_HERE: [&str; 6] = [
    "brokerFastFailureEnable=false",
    "enableBroadcastOffsetStore=false",
    "enableNotifyBeforePopCalculateLag=false",
    "mappedFileSwapEnable=false",
    "popConsumerFSServiceInit=false",
    "writeWithoutMmap=true",
];

/// Prints the table.
pub(crate) fn show(flags: &ConfigFlags) -> Result<(), Failure> {
    let text = if flags.markdown { markdown() } else { plain() };
    match io::stdout().lock().write_all(text.as_bytes()) {
        // The reader of the pipe has ended, such as `| head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(Failure::new),
    }
}

fn plain() -> String {
    format!(
        "{}\n{}\n{}\n{}\n{}\n{}\n{}",
        config::plain::<BrokerSettings>("Broker"),
        config::plain::<ProxySettings>("gRPC proxy"),
        config::plain::<ClusterSettings>("Proxy in a process of its own"),
        config::plain::<RemotingSettings>("Remoting proxy"),
        config::plain::<NamesrvSettings>("Name server"),
        config::plain::<ControllerSettings>("Controller"),
        config::plain::<TlsSettings>("TLS")
    )
}

fn markdown() -> String {
    let broker = config::markdown::<BrokerSettings>("Broker");
    let proxy = config::markdown::<ProxySettings>("gRPC proxy");
    let cluster = config::markdown::<ClusterSettings>("Proxy in a process of its own");
    let remoting = config::markdown::<RemotingSettings>("Remoting proxy");
    let namesrv = config::markdown::<NamesrvSettings>("Name server");
    let controller = config::markdown::<ControllerSettings>("Controller");
    let tls = config::markdown::<TlsSettings>("TLS of broker and name server");
    format!(
        "{INTRODUCTION}\n{broker}\n{proxy}\n{cluster}\n{remoting}\n{namesrv}\n{controller}\n{tls}\n{}\n{}\n{}",
        belonging_together(),
        missing_features(),
        without_meaning()
    )
}

fn belonging_together() -> String {
    let mut text = "## Keys that belong together\n\n\
        They are checked at the start and with every change. If the rule says \"counts as\", the value is adjusted. A WARN names the keys in both cases.\n"
        .to_owned();
    text.push_str(&relation_table("broker and name server", BrokerSettings::RELATIONS));
    text.push_str(&relation_table("the broker", relations::RELATIONS));
    text.push_str(
        "\nRefused, because no adjustment is possible: `storePathCommitLog` in a directory with other files of the store, and a broker and a \
         name server in one process with the same port.\n",
    );
    text
}

fn relation_table<S>(of: &str, relations: &[Relation<S>]) -> String {
    let row = |relation: &Relation<S>| {
        let keys: Vec<_> = relation.keys.iter().map(|key| format!("`{key}`")).collect();
        format!("| {} | {} |\n", keys.join(", "), relation.rule)
    };
    let rows: String = relations.iter().map(row).collect();
    format!("\n| Keys of {of} | Rule |\n|---|---|\n{rows}")
}

fn missing_features() -> String {
    let mut text = "## Keys that are refused when they ask for a missing feature\n\n\
        Ignoring these would be misleading. Without a value, or with one that does not ask for the feature, they are accepted.\n\n\
        | Key | Accepted | Why others are refused |\n|---|---|---|\n"
        .to_owned();
    for feature in config::missing_features() {
        text.push_str(&format!(
            "| `{}` | {} | {} |\n",
            feature.name,
            feature.harmless_values(),
            feature.reason
        ));
    }
    text
}

fn without_meaning() -> String {
    let known = |name: &str| {
        BrokerSettings::key(name).is_some()
            || ClusterSettings::key(name).is_some()
            || RemotingSettings::key(name).is_some()
            || NamesrvSettings::key(name).is_some()
            || ControllerSettings::key(name).is_some()
            || TlsSettings::key(name).is_some()
            || config::missing_features().iter().any(|feature| feature.name == name)
    };
    let names: Vec<_> = config::names_of_apache().filter(|name| !known(name)).collect();
    let said: Vec<_> = names
        .iter()
        .filter_map(|name| Some(format!("| `{name}` | {} |\n", config::without_effect(name)?)))
        .collect();
    format!(
        "## Keys of Apache's that are accepted without effect\n\n\
         | Key | Why |\n|---|---|\n{}\n\
         A client that asks a broker for its settings also gets these keys: with the value that was set, otherwise with the value that is true here \
         (`{}`), otherwise with Apache's default. Thread pools and their queues do not exist here; their sizes are Apache's.\n\n\
         All {} names, from the configuration classes of Apache RocketMQ 5.5.0 and from published files of older versions:\n\n{}\n",
        said.concat(),
        TRUE_HERE.join("`, `"),
        names.len(),
        config::folded(&names.join(" "), 120).join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_has_every_key_of_both_roles() {
        for text in [plain(), markdown()] {
            assert!(BrokerSettings::keys().iter().all(|key| text.contains(key.name)));
            assert!(NamesrvSettings::keys().iter().all(|key| text.contains(key.name)));
            assert!(RemotingSettings::keys().iter().all(|key| text.contains(key.name)));
            assert!(ControllerSettings::keys().iter().all(|key| text.contains(key.name)));
            assert!(ClusterSettings::keys().iter().all(|key| text.contains(key.name)));
            assert!(TlsSettings::keys().iter().all(|key| text.contains(key.name)));
        }
    }

    #[test]
    fn the_reported_keys_of_the_manual_are_reported() {
        let given: Vec<_> = config::given::<BrokerSettings>().collect();
        for told in TRUE_HERE {
            assert!(given.contains(&told.split_once('=').unwrap()), "{told}");
        }
    }

    #[test]
    fn the_manual_is_the_same_on_every_machine() {
        assert!(markdown().contains("| `brokerName` | text |  |"), "the host name is no default");
    }
}
