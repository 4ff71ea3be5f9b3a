//! `apogeemq config`: the table of all keys, for the terminal or as `docs/configuration.md`. Both are made from the declarations.

use std::io::{self, Write};

use broker::settings::{BrokerSettings, relations};
use config::Declared;
use nameserver::settings::NamesrvSettings;

use crate::arguments::ConfigFlags;
use crate::failure::Failure;

const INTRODUCTION: &str = "\
# Configuration

Made by `apogeemq config --markdown` from the declarations of the keys; do not edit.

`apogeemq` needs no configuration. What can be set has the names, units and defaults of Apache RocketMQ's files, so a broker or name
server file written for it works with `-c FILE`. Keys that begin with `apogee` are ours.

* **Order:** default < file < environment < flags. Every value is checked. A value whose meaning is clear although it is not allowed as
  it stands counts as what is meant, with a WARN: a number beyond a bound as the bound (Apache's own bounds where Apache has some),
  `0.85` or `85%` as 85 where a percentage is asked for, `sync_flush` as `SYNC_FLUSH`, `ASYNC_FLUSH # comment` as what stands before the
  comment, and an empty value as none. What has no sensible meaning is refused with its place, key, value and what is allowed, and
  nothing starts: text for a number, a port, a permission or the size of existing files beyond its bounds, a negative number, 0 where at
  least one is needed.
* **Keys that contradict each other** are fitted together, or a WARN names both: see [the list](#keys-that-belong-together).
* **Environment:** `APOGEEMQ_` and the key in capitals with `_` between its words: `brokerClusterName` is `APOGEEMQ_BROKER_CLUSTER_NAME`,
  `brokerIP1` is `APOGEEMQ_BROKER_IP1`. Our own keys drop their prefix: `apogeeMaxTopics` is `APOGEEMQ_MAX_TOPICS`. `NAMESRV_ADDR`, which
  Apache's scripts set, counts where nothing else names a name server.
* **Flags:** `--data` sets storePathRootDir (and apogeeDataDir) and moves everything below it, `--broker-port` and `--namesrv-port` set the
  listenPort of each role, `-n` sets namesrvAddr, `--bind` sets bindAddress, `--start-without` sets apogeeStartWithout. Each but `-n` and
  the last is also a variable: `APOGEEMQ_CONFIG` (`-c`), `APOGEEMQ_DATA`, `APOGEEMQ_BROKER_PORT`, `APOGEEMQ_NAMESRV_PORT`,
  `APOGEEMQ_BIND`, `APOGEEMQ_LOG` (`--log`).
* **Both roles in one process** read one file, the broker's: its listenPort is the broker's.
* **Live** keys can be changed while running (requests 25 and 318, `mqadmin updateBrokerConfig`). What was changed is kept in
  `config/live.properties` of the store and `namesrv/live.properties` of the name server, and stands between file and environment at the
  next start; the configuration file itself is never written. All other keys are refused over the wire: nothing that moves a path or
  opens a port can be changed by a client.
* **Keys of Apache's without meaning here** are accepted and named once in the log, and so they are when they are changed live: the
  answer's remark says that the key changes nothing. What was set can be read back (requests 26 and 319, `mqadmin getBrokerConfig`); there
  all keys are given that Apache's broker gives, those that change nothing with Apache's default, or with what is true here where that is
  something else (`timerWheelEnable=false`, because there are no timers yet). An unknown key warns with the nearest name.
* **Files** are Java properties text: `key=value`, `key: value`, comments with `#` or `!`, a backslash at the end continues a line.
";

/// What a broker gives of keys that change nothing (request 26), where Apache's default is another and would not be true here.
const TRUE_HERE: [&str; 11] = [
    "brokerFastFailureEnable=false",
    "enableBroadcastOffsetStore=false",
    "enableCompaction=false",
    "enableLiteEventMode=false",
    "enableNotifyAfterPopOrderLockRelease=false",
    "enableNotifyBeforePopCalculateLag=false",
    "mappedFileSwapEnable=false",
    "popConsumerFSServiceInit=false",
    "serverLoadBalancerEnable=false",
    "timerWheelEnable=false",
    "writeWithoutMmap=true",
];

/// Prints the table.
pub(crate) fn show(flags: &ConfigFlags) -> Result<(), Failure> {
    let text = if flags.markdown { markdown() } else { plain() };
    match io::stdout().lock().write_all(text.as_bytes()) {
        // Whoever reads had enough, as `| head` does.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(Failure::new),
    }
}

fn plain() -> String {
    format!(
        "{}\n{}",
        config::plain::<BrokerSettings>("Broker"),
        config::plain::<NamesrvSettings>("Name server")
    )
}

fn markdown() -> String {
    let broker = config::markdown::<BrokerSettings>("Broker");
    let namesrv = config::markdown::<NamesrvSettings>("Name server");
    format!(
        "{INTRODUCTION}\n{broker}\n{namesrv}\n{}\n{}\n{}",
        belonging_together(),
        wishes(),
        without_meaning()
    )
}

fn belonging_together() -> String {
    let mut text = "## Keys that belong together\n\n\
        Checked at the start and with every change. Where the rule says \"counts as\", the value is fitted; a WARN names the keys either way.\n\n\
        | Keys of the broker | Rule |\n|---|---|\n"
        .to_owned();
    for relation in relations::RELATIONS {
        let keys: Vec<_> = relation.keys.iter().map(|key| format!("`{key}`")).collect();
        text.push_str(&format!("| {} | {} |\n", keys.join(", "), relation.rule));
    }
    text.push_str(
        "\nRefused, since no value would do: `storePathCommitLog` in a directory that has other files of the store, and a broker beside a \
         name server of which one has a port of the other.\n",
    );
    text
}

fn wishes() -> String {
    let mut text = "## Keys that are refused when they ask for something not there yet\n\n\
        Passing over these in silence would deceive. Without a value, or with one that asks for nothing, they are accepted.\n\n\
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
            || NamesrvSettings::key(name).is_some()
            || config::missing_features().iter().any(|feature| feature.name == name)
    };
    let names: Vec<_> = config::names_of_apache().filter(|name| !known(name)).collect();
    let said: Vec<_> = names
        .iter()
        .filter_map(|name| Some(format!("| `{name}` | {} |\n", config::without_effect(name)?)))
        .collect();
    format!(
        "## Keys of Apache's that are accepted and change nothing\n\n\
         | Key | Why |\n|---|---|\n{}\n\
         Whoever asks a broker for its settings is given those that Apache's broker gives, as they were set, else with Apache's default, \
         else with what is true here: `{}`. Pools of threads, queues before them and the like do not exist here; their numbers are \
         Apache's.\n\n\
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
        }
    }

    #[test]
    fn what_the_manual_says_of_given_keys_is_given() {
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
