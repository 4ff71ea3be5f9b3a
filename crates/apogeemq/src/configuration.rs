//! From flags, environment and file to the settings of the roles of this process, with notes for the log.
//!
//! A process with both roles reads one file, the broker's. `listenPort` in it (and its variable) is the broker's port; the name
//! server's port comes from `--namesrv-port`. All other keys apply to every role that has them. `--data` moves all data, so it overrides
//! all paths of the file. The data directory has the changes of earlier runs, so a role's settings are read
//! twice: once to find its directory, then with the changes that are saved there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use broker::settings::{BrokerSettings, LIVE_FILE, relations};
use config::{Declared, Kept, Leftover, Note, Origin, Refusals, Sources};
use controller::ControllerSettings;
use nameserver::settings::NamesrvSettings;
use proxy::cluster_settings::ClusterSettings;
use proxy::remoting_settings::RemotingSettings;
use proxy::settings::ProxySettings;
use tls::TlsSettings;

use crate::arguments::{FLAG_VARIABLES, ServerFlags};
use crate::failure::Failure;
use crate::roles::Part;

/// Variable with which Apache's start scripts name the name servers. The file overrides it, as there.
const APACHE_NAMESRV_VARIABLE: &str = "NAMESRV_ADDR";
const PORT_FLAG: &str = "--namesrv-port";
const ALL_KEYS: &str = "All keys with their allowed values: apogeemq config";

/// Settings of the roles to run, with notes for the log.
#[derive(Debug)]
pub(crate) struct Configuration {
    pub(crate) broker: Option<BrokerSettings>,
    pub(crate) namesrv: Option<NamesrvSettings>,
    pub(crate) controller: Option<ControllerSettings>,
    pub(crate) tls: TlsSettings,
    /// Of a process with a broker or a proxy.
    pub(crate) proxy: Option<ProxySettings>,
    /// Of a proxy in front of brokers of other processes.
    pub(crate) cluster: Option<ClusterSettings>,
    /// Of a process that serves remoting clients on a port of the proxy.
    pub(crate) remoting: Option<RemotingSettings>,
    /// Keys without effect, and unknown keys.
    leftovers: Vec<Leftover>,
    /// Values that count as another value, and keys that contradict each other.
    notes: Vec<Note>,
    /// Files with changes of an earlier run that apply.
    changes: Vec<PathBuf>,
}

/// The environment variables of this process. Those that are not UTF-8 are ignored.
pub(crate) fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Reads all sources for the roles to run.
pub(crate) fn read(part: Part, flags: &ServerFlags, environment: BTreeMap<String, String>) -> Result<Configuration, Failure> {
    let mut sources = sources(part, flags, environment)?;
    let mut changes = Vec::new();
    let broker = if part.has_broker() {
        Some(broker_settings(&mut sources, flags, &mut changes)?)
    } else {
        None
    };
    let namesrv = if part.has_name_server() {
        Some(namesrv_settings(&mut sources, flags, broker.as_ref(), &mut changes)?)
    } else {
        None
    };
    let has_controller = part == Part::Controller || namesrv.as_ref().is_some_and(|names| names.enable_controller_in_namesrv);
    let controller = if has_controller {
        Some(controller_settings(&mut sources, flags, &mut changes)?)
    } else {
        None
    };
    if let Some(controller) = &controller {
        check_controller_port(controller, broker.as_ref(), namesrv.as_ref())?;
    }
    let tls = TlsSettings::read(&mut sources).map_err(|why| Failure::new(why).advice(ALL_KEYS))?;
    if let (Some(broker), Some(namesrv)) = (&broker, &namesrv) {
        check_ports_differ(broker, namesrv)?;
    }
    let cluster = if part == Part::Proxy {
        Some(cluster_settings(&mut sources, flags)?)
    } else {
        None
    };
    let proxy = if part.has_proxy() {
        if let Some(port) = &flags.grpc_port {
            sources.flag("--grpc-port", "grpcServerPort", port);
        }
        Some(sources.fill().map_err(refused)?)
    } else {
        None
    };
    let remoting = if part.has_proxy() {
        if let Some(port) = &flags.remoting_port {
            sources.flag("--remoting-port", "remotingListenPort", port);
        }
        let settings: RemotingSettings = sources.fill().map_err(refused)?;
        Some(settings).filter(|settings| settings.enable.unwrap_or(part == Part::Proxy))
    } else {
        None
    };
    let mut known = names(part);
    known.extend(ControllerSettings::keys().iter().map(|key| key.name).filter(|_| has_controller));
    let mut leftovers = sources.leftovers(&known);
    leftovers.retain(|leftover| !has_a_note(leftover));
    Ok(Configuration {
        broker,
        namesrv,
        controller,
        tls,
        proxy,
        cluster,
        remoting,
        leftovers,
        notes: sources.take_notes(),
        changes,
    })
}

/// A broker's settings for a directory that is only examined, without flags and changes of earlier runs.
pub(crate) fn of_directory(
    directory: &Path,
    file: Option<&Path>,
    environment: BTreeMap<String, String>,
) -> Result<BrokerSettings, Failure> {
    let mut sources = Sources::new();
    if let Some(file) = file {
        sources.file(file).map_err(Failure::new)?;
    }
    sources.environment(environment, FLAG_VARIABLES);
    sources.flag("DIR", "storePathRootDir", &directory.display().to_string());
    sources.fill().map_err(refused)
}

fn broker_settings(sources: &mut Sources, flags: &ServerFlags, changes: &mut Vec<PathBuf>) -> Result<BrokerSettings, Failure> {
    add_broker_flags(sources, flags);
    let settings: BrokerSettings = sources.fill().map_err(refused)?;
    if !add_changes(settings.kept(), &settings.start_without, sources, changes)? {
        return Ok(settings);
    }
    sources.fill().map_err(refused)
}

fn namesrv_settings(
    sources: &mut Sources,
    flags: &ServerFlags,
    broker_in_process: Option<&BrokerSettings>,
    changes: &mut Vec<PathBuf>,
) -> Result<NamesrvSettings, Failure> {
    add_namesrv_flags(sources, flags, broker_in_process);
    let settings = fill_namesrv(sources, flags, broker_in_process)?;
    if !add_changes(settings.kept(), &settings.start_without, sources, changes)? {
        return Ok(settings);
    }
    fill_namesrv(sources, flags, broker_in_process)
}

fn controller_settings(sources: &mut Sources, flags: &ServerFlags, changes: &mut Vec<PathBuf>) -> Result<ControllerSettings, Failure> {
    if let Some(directory) = &flags.common.data {
        sources.flag("--data", "apogeeDataDir", directory);
        sources.flag("--data", "controllerStorePath", "");
    }
    let settings: ControllerSettings = sources.fill().map_err(refused)?;
    if !add_changes(settings.kept(), &settings.start_without, sources, changes)? {
        return Ok(settings);
    }
    sources.fill().map_err(refused)
}

/// Adds the changes of an earlier run; returns whether there are any. A damaged file is skipped if the operator says so.
fn add_changes(kept: Kept, without: &[String], sources: &mut Sources, changes: &mut Vec<PathBuf>) -> Result<bool, Failure> {
    let error = match kept.add_to(sources) {
        Ok(has_changes) => {
            changes.extend(has_changes.then(|| kept.path().to_owned()));
            return Ok(has_changes);
        }
        Err(error) => error,
    };
    const COSTS: &str = "settings are those of configuration file, environment and flags again";
    if !without.iter().any(|file| file == LIVE_FILE) {
        return Err(Failure::new(error).advice(format!(
            "The file holds the settings that were changed while running. Restore it from a copy, or start without it \
             (--start-without {LIVE_FILE}): {COSTS}. The damaged file is kept as {LIVE_FILE}.bad"
        )));
    }
    kept.set_aside().map_err(Failure::new)?;
    tracing::warn!("{error}; starting without the settings that were changed while running: {COSTS}");
    Ok(false)
}

fn cluster_settings(sources: &mut Sources, flags: &ServerFlags) -> Result<ClusterSettings, Failure> {
    if let Some(addresses) = &flags.namesrv {
        sources.flag("-n", "namesrvAddr", addresses);
    }
    let settings: ClusterSettings = sources.fill().map_err(refused)?;
    if settings.namesrv_addr.is_empty() {
        return Err(Failure::new("a proxy needs a name server, which knows the brokers").advice("Name it with -n HOST:PORT"));
    }
    Ok(settings)
}

fn sources(part: Part, flags: &ServerFlags, environment: BTreeMap<String, String>) -> Result<Sources, Failure> {
    let mut sources = Sources::new();
    if let Some(file) = &flags.common.file {
        match part {
            Part::Proxy => sources.file_or_json(file),
            _ => sources.file(file),
        }
        .map_err(Failure::new)?;
    }
    if let Some(addresses) = environment.get(APACHE_NAMESRV_VARIABLE) {
        sources.weakest(Origin::Environment(APACHE_NAMESRV_VARIABLE.to_owned()), "namesrvAddr", addresses);
    }
    sources.environment(environment, FLAG_VARIABLES);
    if let Some(address) = &flags.common.bind {
        sources.flag("--bind", "bindAddress", address);
    }
    if let Some(files) = &flags.common.start_without {
        sources.flag("--start-without", "apogeeStartWithout", files);
    }
    Ok(sources)
}

fn add_broker_flags(sources: &mut Sources, flags: &ServerFlags) {
    if let Some(directory) = &flags.common.data {
        sources.flag("--data", "storePathRootDir", directory);
        sources.flag("--data", "storePathCommitLog", "");
    }
    if let Some(addresses) = &flags.namesrv {
        sources.flag("-n", "namesrvAddr", addresses);
    }
    if let Some(port) = &flags.broker_port {
        sources.flag("--broker-port", "listenPort", port);
    }
}

fn add_namesrv_flags(sources: &mut Sources, flags: &ServerFlags, broker_in_process: Option<&BrokerSettings>) {
    if let Some(directory) = &flags.common.data {
        sources.flag("--data", "apogeeDataDir", directory);
        sources.flag("--data", "kvConfigPath", "");
    }
    match (broker_in_process, &flags.namesrv_port) {
        (Some(broker), _) => {
            sources.weakest(Origin::Together, "apogeeDataDir", &broker.store_path_root_dir.display().to_string());
        }
        (None, Some(port)) => sources.flag(PORT_FLAG, "listenPort", port),
        (None, None) => {}
    }
}

/// With a broker in the process, `listenPort` of the sources is the broker's, and only the flag sets the name server's port.
fn fill_namesrv(
    sources: &mut Sources,
    flags: &ServerFlags,
    broker_in_process: Option<&BrokerSettings>,
) -> Result<NamesrvSettings, Failure> {
    if broker_in_process.is_none() {
        return sources.fill().map_err(refused);
    }
    let mut settings: NamesrvSettings = sources.fill_except(&["listenPort"]).map_err(refused)?;
    if let Some(port) = &flags.namesrv_port {
        let mut own = Sources::new();
        own.flag(PORT_FLAG, "listenPort", port);
        settings.listen_port = own.fill::<NamesrvSettings>().map_err(refused)?.listen_port;
    }
    Ok(settings)
}

/// A name server and a broker in one process cannot share a port. The broker has two ports.
fn check_ports_differ(broker: &BrokerSettings, namesrv: &NamesrvSettings) -> Result<(), Failure> {
    let taken = namesrv.listen_port;
    let (which, port) = if broker.listen_port == taken {
        ("", broker.listen_port)
    } else if broker.vip_port() == taken {
        (", whose port for VIP clients is two below,", broker.listen_port)
    } else {
        return Ok(());
    };
    let why = format!("the broker's listenPort={port}{which} and the name server's port {taken} are the same");
    Err(Failure::new(why).advice("Choose another port with --broker-port or --namesrv-port"))
}

/// A controller cannot share its port with a name server or a broker of the process.
fn check_controller_port(
    controller: &ControllerSettings,
    broker: Option<&BrokerSettings>,
    namesrv: Option<&NamesrvSettings>,
) -> Result<(), Failure> {
    let port = controller.port().map_err(Failure::new)?;
    let of_broker = broker.into_iter().flat_map(|broker| [broker.listen_port, broker.vip_port()]);
    if namesrv
        .map(|names| names.listen_port)
        .into_iter()
        .chain(of_broker)
        .any(|taken| taken == port)
    {
        let why = format!("the controller's port {port} (controllerDLegerPeers) is that of a name server or a broker in the process");
        return Err(Failure::new(why).advice("Choose another port in controllerDLegerPeers, on all controllers"));
    }
    Ok(())
}

fn has_a_note(leftover: &Leftover) -> bool {
    matches!(leftover, Leftover::WithoutMeaning { name, .. } if relations::has_fixed_location(name))
}

fn refused(refusals: Refusals) -> Failure {
    Failure::new(refusals).advice(ALL_KEYS)
}

fn names(part: Part) -> Vec<&'static str> {
    let broker = BrokerSettings::keys().iter().map(|key| key.name).filter(|_| part.has_broker());
    let namesrv = NamesrvSettings::keys()
        .iter()
        .map(|key| key.name)
        .filter(|_| part.has_name_server());
    let proxy = ProxySettings::keys().iter().map(|key| key.name).filter(|_| part.has_proxy());
    let cluster = ClusterSettings::keys().iter().map(|key| key.name).filter(|_| part == Part::Proxy);
    let remoting = RemotingSettings::keys().iter().map(|key| key.name).filter(|_| part.has_proxy());
    let tls = TlsSettings::keys().iter().map(|key| key.name);
    broker
        .chain(namesrv)
        .chain(proxy)
        .chain(cluster)
        .chain(remoting)
        .chain(tls)
        .collect()
}

impl Configuration {
    /// Logs once which values count as another value, which keys contradict each other, which keys have no effect, and which
    /// values come from an earlier run.
    pub(crate) fn report(&self) {
        for note in &self.notes {
            tracing::warn!("{}", note.text);
        }
        let mut without_meaning = Vec::new();
        for leftover in &self.leftovers {
            match leftover {
                Leftover::WithoutMeaning { name, reason: None } => without_meaning.push(name.as_str()),
                Leftover::WithoutMeaning {
                    name,
                    reason: Some(reason),
                } => tracing::warn!(key = name, "has no effect here: {reason}"),
                Leftover::Unknown { name, origin, nearest } => report_unknown(name, origin, nearest.as_deref()),
            }
        }
        if !without_meaning.is_empty() {
            tracing::warn!(keys = without_meaning.join(" "), "keys of Apache's that have no effect here");
        }
        for file in &self.changes {
            tracing::warn!(file = %file.display(), "settings that were changed in an earlier run apply");
        }
    }
}

fn report_unknown(name: &str, origin: &Origin, nearest: Option<&str>) {
    match nearest {
        Some(nearest) => tracing::warn!(key = name, %origin, "unknown key, did you mean {nearest}?"),
        None => tracing::warn!(key = name, %origin, "unknown key"),
    }
}

#[cfg(test)]
mod published;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::CommonFlags;

    fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("broker.conf");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    fn with_file(path: &Path) -> ServerFlags {
        ServerFlags {
            common: CommonFlags {
                file: Some(path.to_owned()),
                ..CommonFlags::default()
            },
            ..ServerFlags::default()
        }
    }

    #[test]
    fn a_controller_in_the_name_server_reads_the_same_file() {
        let read_namesrv = |lines: &str| {
            let (_dir, path) = written(lines);
            read(Part::NameServer, &with_file(&path), environment(&[]))
        };
        assert!(read_namesrv("").unwrap().controller.is_none());
        let settings = read_namesrv("enableControllerInNamesrv=true\ncontrollerDLegerPeers=n0-h:7\nenableElectUncleanMaster=true").unwrap();
        let controller = settings.controller.unwrap();
        assert_eq!((controller.port(), controller.enable_elect_unclean_master), (Ok(7), true));
        for (lines, part) in [
            ("controllerDLegerPeers=n0-h:9876", "port 9876"),
            ("controllerDLegerPeers=n1-h:7", "controllerDLegerSelfId=n0"),
            ("controllerType=jRaft", "jRaft"),
        ] {
            let refused = read_namesrv(&format!("enableControllerInNamesrv=true\n{lines}"))
                .unwrap_err()
                .to_string();
            assert!(refused.contains(part), "{refused}");
        }
    }

    #[test]
    fn by_default_both_roles_have_apaches_ports_and_share_a_directory() {
        let both = read(Part::Both, &ServerFlags::default(), environment(&[])).unwrap();
        let (broker, namesrv) = (both.broker.unwrap(), both.namesrv.unwrap());
        assert_eq!((broker.listen_port, namesrv.listen_port), (10_911, 9876));
        assert_eq!(
            (broker.store_path_root_dir, namesrv.data_dir),
            (PathBuf::from("./data"), PathBuf::from("./data"))
        );
        assert_eq!(both.leftovers, []);
    }

    #[test]
    fn a_brokers_file_does_not_change_the_port_of_the_name_server() {
        let (_dir, path) = written("listenPort=20911\nstorePathRootDir=/srv/mq\norderMessageEnable=true\n");
        let both = read(Part::Both, &with_file(&path), environment(&[])).unwrap();
        let namesrv = both.namesrv.unwrap();
        assert_eq!((both.broker.unwrap().listen_port, namesrv.listen_port), (20_911, 9876));
        assert_eq!(namesrv.data_dir, Path::new("/srv/mq"));
        assert!(namesrv.order_message_enable);
        assert_eq!(both.leftovers, [], "a key counts if one of the roles has it");
    }

    #[test]
    fn alone_a_name_server_listens_where_its_file_says() {
        let (_dir, path) = written("listenPort=19876\n");
        let alone = read(Part::NameServer, &with_file(&path), environment(&[])).unwrap();
        assert_eq!(alone.namesrv.unwrap().listen_port, 19_876);
        assert!(alone.broker.is_none());
    }

    #[test]
    fn the_data_flag_moves_everything() {
        let (_dir, path) = written("storePathRootDir=/a\nstorePathCommitLog=/a/commitlog\nkvConfigPath=/a/kv.json\n");
        let mut flags = with_file(&path);
        flags.common.data = Some("/b".to_owned());
        let both = read(Part::Both, &flags, environment(&[])).unwrap();
        assert_eq!(both.broker.unwrap().commit_log_dir(), Path::new("/b/commitlog"));
        assert_eq!(both.namesrv.unwrap().kv_config_file(), Path::new("/b/namesrv/kvConfig.json"));
    }

    #[test]
    fn apaches_variable_for_name_servers_is_the_weakest() {
        let variables = environment(&[("NAMESRV_ADDR", "a:1")]);
        let broker = |flags: &ServerFlags| read(Part::Broker, flags, variables.clone()).unwrap().broker.unwrap().namesrv_addr;
        assert_eq!(broker(&ServerFlags::default()), ["a:1"]);
        let (_dir, path) = written("namesrvAddr=b:2\n");
        assert_eq!(broker(&with_file(&path)), ["b:2"]);
        let flags = ServerFlags {
            namesrv: Some("c:3;d:4".to_owned()),
            ..with_file(&path)
        };
        assert_eq!(broker(&flags), ["c:3", "d:4"]);
    }

    #[test]
    fn a_wrong_port_is_refused_by_its_flag() {
        let flags = ServerFlags {
            namesrv_port: Some("x".to_owned()),
            ..ServerFlags::default()
        };
        let text = read(Part::Both, &flags, environment(&[])).unwrap_err().to_string();
        assert!(
            text.starts_with("flag --namesrv-port: listenPort=x is refused: allowed is 1 to 65535\n"),
            "{text}"
        );
    }

    #[test]
    fn two_roles_on_one_port_are_refused_before_either_listens() {
        for (port, told) in [
            ("9876", "listenPort=9876 and"),
            ("9878", "listenPort=9878, whose port for VIP clients is two below,"),
        ] {
            let flags = ServerFlags {
                broker_port: Some(port.to_owned()),
                ..ServerFlags::default()
            };
            let text = read(Part::Both, &flags, environment(&[])).unwrap_err().to_string();
            assert!(text.contains(told) && text.contains("port 9876"), "{text}");
            assert!(read(Part::Broker, &flags, environment(&[])).is_ok());
        }
    }

    #[test]
    fn a_proxy_reads_properties_or_apaches_json_and_needs_a_name_server() {
        let dir = tempfile::tempdir().unwrap();
        let json = dir.path().join("rmq-proxy.json");
        let text =
            "{\n  \"namesrvAddr\": \"a:1;b:2\",\n  \"grpcServerPort\": 7, \"enableProxyAutoRenew\": false, \"maxMessageSize\": 2048\n}";
        std::fs::write(&json, text).unwrap();
        let alone = read(Part::Proxy, &with_file(&json), environment(&[])).unwrap();
        let (proxy, cluster) = (alone.proxy.unwrap(), alone.cluster.unwrap());
        assert_eq!((proxy.port, proxy.enable_auto_renew, cluster.max_message_bytes), (7, false, 2_048));
        assert_eq!(cluster.namesrv_addr, ["a:1", "b:2"]);
        assert!(alone.broker.is_none() && alone.namesrv.is_none() && alone.leftovers.is_empty());
        let (_dir, properties) = written("grpcServerPort=9\n");
        let flags = ServerFlags {
            namesrv: Some("c:3".to_owned()),
            ..with_file(&properties)
        };
        let alone = read(Part::Proxy, &flags, environment(&[])).unwrap();
        assert_eq!(
            (alone.proxy.unwrap().port, alone.cluster.unwrap().namesrv_addr),
            (9, vec!["c:3".to_owned()])
        );
        let text = read(Part::Proxy, &with_file(&properties), environment(&[]))
            .unwrap_err()
            .to_string();
        assert!(text.contains("-n HOST:PORT"), "{text}");
        std::fs::write(&json, "{\"grpcServerPort\": 7,").unwrap();
        let text = read(Part::Proxy, &with_file(&json), environment(&[])).unwrap_err().to_string();
        assert!(text.contains("rmq-proxy.json"), "{text}");
        std::fs::write(&json, "{\n\"namesrvAddr\": \"a:1\", \"grpcServerPort\": true}").unwrap();
        let text = read(Part::Proxy, &with_file(&json), environment(&[])).unwrap_err().to_string();
        assert!(text.contains("rmq-proxy.json:2"), "{text}");
    }

    #[test]
    fn variables_of_flags_are_not_unknown_keys() {
        let variables = environment(&[("APOGEEMQ_LOG", "info"), ("APOGEEMQ_DATA", "/x"), ("APOGEEMQ_BROKER_NAME", "b")]);
        let both = read(Part::Both, &ServerFlags::default(), variables).unwrap();
        assert_eq!(both.leftovers, []);
        assert_eq!(both.broker.unwrap().broker_name, "b");
    }

    #[test]
    fn a_change_of_an_earlier_run_applies_with_its_data_directory() {
        let dir = tempfile::tempdir().unwrap();
        let flags = |data: &Path| {
            let common = CommonFlags {
                data: Some(data.display().to_string()),
                ..CommonFlags::default()
            };
            ServerFlags {
                common,
                ..ServerFlags::default()
            }
        };
        let change = config::Changed {
            key: "defaultTopicQueueNums",
            from: "8".to_owned(),
            to: "3".to_owned(),
        };
        let queues = |data: &Path| {
            read(Part::Both, &flags(data), environment(&[]))
                .unwrap()
                .broker
                .unwrap()
                .default_topic_queue_nums
        };
        read(Part::Both, &flags(dir.path()), environment(&[]))
            .unwrap()
            .broker
            .unwrap()
            .kept()
            .keep(&[change])
            .unwrap();
        assert_eq!((queues(dir.path()), queues(&dir.path().join("other"))), (3, 8));
    }

    #[test]
    fn damaged_changes_of_an_earlier_run_are_skipped_only_if_the_operator_says_so() {
        for of in ["config", "namesrv"] {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join(of).join("live.properties");
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, [0; 64]).unwrap();
            let mut flags = ServerFlags::default();
            flags.common.data = Some(dir.path().display().to_string());
            let text = read(Part::Both, &flags, environment(&[])).unwrap_err().to_string();
            for told in [
                file.to_str().unwrap(),
                "settings that were changed while running",
                "--start-without live.properties",
            ] {
                assert!(text.contains(told), "{told} in {text}");
            }
            flags.common.start_without = Some("topics.json".to_owned());
            assert!(read(Part::Both, &flags, environment(&[])).is_err(), "another file is named");
            flags.common.start_without = Some("live.properties".to_owned());
            assert_eq!(read(Part::Both, &flags, environment(&[])).unwrap().changes, Vec::<PathBuf>::new());
            assert_eq!(std::fs::read(file.with_extension("properties.bad")).unwrap(), [0; 64]);
        }
    }
}
