//! Settings of a controller.
//!
//! Names, defaults and units are Apache's where Apache has the key; the defaults of group, controllers and own name are those of its file
//! `controller-standalone.conf`. Keys that begin with `apogee` are ours.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use config::shape::{address, bytes, flag, list, milliseconds, optional, path, seconds, text, whole};
use config::{Declared, Kept, Note, Settings};

const MINUTE_MS: u32 = 60_000;
/// Name of the file that keeps settings changed while running.
const LIVE_FILE: &str = "live.properties";
/// Maximum number of controllers of a group.
const MAX_CONTROLLERS: usize = 7;

config::declare! {
    /// Settings of a controller.
    pub struct ControllerSettings;

    section "Group and files" {
        /// Name of the group of controllers.
        group: String { name: "controllerDLegerGroup", default: "group1".to_owned(), allowed: text(), change: AtStart }
        /// All controllers of the group, `name-host:port` separated by `;`, the same on each. A controller serves brokers, tools and the other
        /// controllers on its port. The names cannot change later; addresses can, on all controllers.
        peers: String { name: "controllerDLegerPeers", default: "n0-127.0.0.1:9878".to_owned(), allowed: text(), change: AtStart }
        /// Name of this controller in controllerDLegerPeers.
        self_id: String { name: "controllerDLegerSelfId", default: "n0".to_owned(), allowed: text(), change: AtStart }
        /// Address to listen on.
        bind_address: IpAddr { name: "bindAddress", default: IpAddr::V4(Ipv4Addr::UNSPECIFIED), allowed: address(), change: AtStart }
        /// Directory for the controller's files, which are in its subdirectory `controller` unless controllerStorePath is set.
        data_dir: PathBuf { name: "apogeeDataDir", default: PathBuf::from("./data"), allowed: path(), change: AtStart }
        /// Directory of the controller's files. Empty: `controller` in apogeeDataDir.
        store_path: Option<PathBuf> { name: "controllerStorePath", default: None, allowed: optional(path()), change: AtStart }
        /// Files that the controller may start without if they are damaged, separated by `;`: `live.properties` (settings changed while
        /// running).
        start_without: Vec<String> { name: "apogeeStartWithout", default: Vec::new(), allowed: list(text(), ';', 16), change: AtStart }
    }

    section "Elections" {
        /// Whether a broker that is not in the in-sync set may become master. Messages that only the others have are lost then.
        enable_elect_unclean_master: bool { name: "enableElectUncleanMaster", default: false, allowed: flag(), change: Live }
        /// Whether brokers are told of a new master. Otherwise they learn of it when they ask (every 5 s).
        notify_broker_role_changed: bool { name: "notifyBrokerRoleChanged", default: true, allowed: flag(), change: Live }
        /// How often an election after the loss of a master is tried while the controllers do not agree on it.
        elect_master_max_retry_count: u32 { name: "electMasterMaxRetryCount", default: 3, allowed: whole(1..=100), change: Live }
        /// Time between two scans for brokers whose heartbeat timeout has passed.
        scan_not_active_broker_interval: Duration {
            name: "scanNotActiveBrokerInterval", default: Duration::from_secs(5), allowed: milliseconds(100..=10 * MINUTE_MS), change: AtStart,
        }
        /// Time between two scans for names whose master is not alive.
        scan_inactive_master_interval: Duration {
            name: "scanInactiveMasterInterval", default: Duration::from_secs(5), allowed: milliseconds(100..=10 * MINUTE_MS), change: AtStart,
        }
    }

    section "Controllers" {
        /// Time without the leader after which another controller asks to lead, at least three quarters of it. The leader sends ten heartbeats
        /// in it.
        election_timeout: Duration {
            name: "apogeeElectionTimeoutMillis", default: Duration::from_secs(2), allowed: milliseconds(400..=MINUTE_MS), change: AtStart,
        }
        /// Time in which a request has to be agreed on by a majority of the controllers; after it, it is refused.
        request_timeout: Duration {
            name: "apogeeControllerRequestTimeoutMillis", default: Duration::from_secs(5), allowed: milliseconds(100..=MINUTE_MS), change: AtStart,
        }
    }

    section "Connections and limits" {
        /// Number of threads that serve connections. 0: one for every two processors.
        worker_threads: usize { name: "apogeeWorkerThreads", default: 0, allowed: whole(0..=256), change: AtStart }
        /// Idle time after which a connection is closed. 0: the maximum.
        server_channel_max_idle_time: Duration {
            name: "serverChannelMaxIdleTimeSeconds", default: Duration::from_secs(120), allowed: seconds(1..=86_400).zero_is_no_limit(), change: AtStart,
        }
        /// Maximum size of a frame. A larger one closes the connection.
        frame_max_length: usize {
            name: "com.rocketmq.remoting.frameMaxLength", default: 16 << 20, allowed: bytes(4 << 20..=256 << 20), change: AtStart,
        }
        /// Maximum number of connections. One more is closed at once.
        max_connections: usize { name: "apogeeMaxConnections", default: 12_000, allowed: whole(1..=1_000_000), change: AtStart }
        /// Maximum number of requests that wait to be agreed on. One more is answered with code 2 (busy).
        max_requests: usize {
            name: "controllerRequestThreadPoolQueueCapacity", default: 50_000, allowed: whole(16..=1_000_000), change: AtStart,
        }
        /// Maximum number of brokers whose heartbeats are known. A heartbeat of one more is refused.
        max_brokers: usize { name: "apogeeMaxBrokers", default: 10_000, allowed: whole(1..=1_000_000), change: AtStart }
        /// Maximum number of broker names. One more is refused.
        max_broker_names: usize { name: "apogeeMaxBrokerNames", default: 10_000, allowed: whole(1..=1_000_000), change: AtStart }
        /// Maximum number of brokers of one name. One more is refused.
        max_replicas: usize { name: "apogeeMaxReplicas", default: 32, allowed: whole(1..=1_000), change: AtStart }
    }
}

impl Settings for ControllerSettings {
    const GIVEN: &'static str = include_str!("given.txt");

    fn settle(&mut self, _notes: &mut Vec<Note>) -> Result<(), String> {
        if let Some(kind) = self.others().of("controllerType").filter(|kind| *kind != "DLedger") {
            return Err(format!(
                "controllerType={kind} is not implemented: only DLedger, whose keys this controller takes"
            ));
        }
        if self.group.is_empty() {
            return Err("controllerDLegerGroup must not be empty".to_owned());
        }
        self.addresses()?;
        Ok(())
    }
}

impl ControllerSettings {
    /// `host:port` of all controllers by name.
    ///
    /// # Errors
    /// A sentence that names the key, if `controllerDLegerPeers` is not such a list, or `controllerDLegerSelfId` is not in it.
    pub fn addresses(&self) -> Result<BTreeMap<String, String>, String> {
        let mut addresses = BTreeMap::new();
        for peer in self.peers.split(';').map(str::trim).filter(|peer| !peer.is_empty()) {
            let (name, address) = peer
                .split_once('-')
                .filter(|(name, address)| !name.is_empty() && port(address).is_some())
                .ok_or_else(|| format!("controllerDLegerPeers: '{peer}' is not name-host:port"))?;
            if addresses.insert(name.to_owned(), address.to_owned()).is_some() {
                return Err(format!("controllerDLegerPeers has {name} twice"));
            }
        }
        if addresses.len() > MAX_CONTROLLERS {
            return Err(format!(
                "controllerDLegerPeers has {} controllers, at most {MAX_CONTROLLERS} are allowed",
                addresses.len()
            ));
        }
        if !addresses.contains_key(&self.self_id) {
            return Err(format!(
                "controllerDLegerSelfId={} is not in controllerDLegerPeers={}",
                self.self_id, self.peers
            ));
        }
        Ok(addresses)
    }

    /// The port of this controller.
    ///
    /// # Errors
    /// As [`Self::addresses`].
    pub fn port(&self) -> Result<u16, String> {
        let addresses = self.addresses()?;
        addresses
            .get(&self.self_id)
            .and_then(|address| port(address))
            .ok_or_else(|| format!("controllerDLegerSelfId={} has no port", self.self_id))
    }

    /// Directory of the controller's files.
    pub fn directory(&self) -> PathBuf {
        self.store_path.clone().unwrap_or_else(|| self.data_dir.join("controller"))
    }

    /// Where settings changed while running are kept.
    pub fn kept(&self) -> Kept {
        Kept::at(self.directory().join(LIVE_FILE))
    }
}

fn port(address: &str) -> Option<u16> {
    let (host, port) = address.rsplit_once(':')?;
    port.parse().ok().filter(|port| *port > 0 && !host.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    config::declaration_tests!(ControllerSettings);

    fn with(peers: &str, self_id: &str) -> ControllerSettings {
        ControllerSettings {
            peers: peers.to_owned(),
            self_id: self_id.to_owned(),
            ..ControllerSettings::default()
        }
    }

    #[test]
    fn controllers_are_names_and_addresses() {
        let settings = with("n0-127.0.0.1:9878; n1-host-2.example:9868;n2-[::1]:9858;", "n1");
        let addresses = settings.addresses().unwrap();
        assert_eq!(addresses.len(), 3);
        assert_eq!((addresses["n1"].as_str(), settings.port()), ("host-2.example:9868", Ok(9868)));
        assert_eq!(addresses["n2"], "[::1]:9858");
        for (peers, own, part) in [
            ("n0-127.0.0.1:9878", "n1", "controllerDLegerSelfId=n1"),
            ("n0:127.0.0.1:9878", "n0", "is not name-host:port"),
            ("n0-h:0", "n0", "is not name-host:port"),
            ("n0-h:1;n0-h:2", "n0", "n0 twice"),
            ("", "n0", "is not in"),
            ("a-h:1;b-h:1;c-h:1;d-h:1;e-h:1;f-h:1;g-h:1;h-h:1", "a", "at most 7"),
        ] {
            let why = with(peers, own).settle(&mut Vec::new()).unwrap_err();
            assert!(why.contains(part), "{why}");
        }
    }

    #[test]
    fn jraft_is_refused() {
        let mut settings = ControllerSettings::default();
        assert!(settings.others_mut().set("controllerType", "jRaft"));
        assert!(settings.settle(&mut Vec::new()).unwrap_err().contains("jRaft"));
    }
}
