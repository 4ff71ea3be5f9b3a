//! Settings of a name server.
//!
//! Names, defaults and units are Apache's where Apache has the key. Keys that begin with `apogee` are ours: limits that the Java name
//! server does not have. Invariant: a key that moves a path or opens a port is `AtStart` and can never be changed
//! over the wire. What is not here: keys without an effect; a key is added with the feature that reads it.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use config::shape::{address, bytes, flag, list, milliseconds, optional, path, seconds, text, whole};
use config::{ConnectionKeys, ConnectionSettings, Kept, Note, Settings, fit_all};

use crate::kv;

const MINUTE_MS: u32 = 60_000;
/// Name of the file that keeps settings changed while running.
const LIVE_FILE: &str = "live.properties";

config::declare! {
    /// Settings of a name server.
    pub struct NamesrvSettings;

    section "Addresses and files" {
        /// Port for brokers and clients.
        listen_port: u16 { name: "listenPort", default: 9876, allowed: whole(1..=65_535).strict(), change: AtStart }
        /// Address to listen on.
        bind_address: IpAddr { name: "bindAddress", default: IpAddr::V4(Ipv4Addr::UNSPECIFIED), allowed: address(), change: AtStart }
        /// Directory for the name server's files, which are in its subdirectory `namesrv`.
        data_dir: PathBuf { name: "apogeeDataDir", default: PathBuf::from("./data"), allowed: path(), change: AtStart }
        /// File of the KV configuration. Empty: `namesrv/kvConfig.json` in apogeeDataDir.
        kv_config_path: Option<PathBuf> { name: "kvConfigPath", default: None, allowed: optional(path()), change: AtStart }
        /// Files that the name server may start without if they are damaged, separated by `;`: `kvConfig.json` (KV configuration),
        /// `live.properties` (settings changed while running). A file that can be read is used. docs/store.md says what each costs.
        start_without: Vec<String> { name: "apogeeStartWithout", default: Vec::new(), allowed: list(text(), ';', 16), change: AtStart }
    }

    section "Routes" {
        /// Time between two scans for brokers whose heartbeat timeout has passed.
        scan_not_active_broker_interval: Duration {
            name: "scanNotActiveBrokerInterval", default: Duration::from_secs(5), allowed: milliseconds(100..=10 * MINUTE_MS), change: AtStart,
        }
        /// Whether routes contain the order configuration of their topic.
        order_message_enable: bool { name: "orderMessageEnable", default: false, allowed: flag(), change: Live }
        /// Whether the answer to a registration contains the order configurations.
        return_order_topic_config_to_broker: bool { name: "returnOrderTopicConfigToBroker", default: true, allowed: flag(), change: Live }
        /// Whether a registration removes topics of the broker that are not in it.
        delete_topic_with_broker_registration: bool {
            name: "deleteTopicWithBrokerRegistration", default: false, allowed: flag(), change: Live,
        }
        /// Whether routes show the slave with the lowest id as master if there is no master and the topic is read-only.
        support_acting_master: bool { name: "supportActingMaster", default: false, allowed: flag(), change: Live }
        /// Whether the brokers of a name are notified when their lowest broker id changes.
        notify_min_broker_id_changed: bool { name: "notifyMinBrokerIdChanged", default: false, allowed: flag(), change: Live }
        /// Whether the list of all topics is served (request 206).
        enable_all_topic_list: bool { name: "enableAllTopicList", default: true, allowed: flag(), change: Live }
        /// Whether lists of the topics of a cluster and of unit topics are served (requests 224, 311 to 313).
        enable_topic_list: bool { name: "enableTopicList", default: true, allowed: flag(), change: Live }
        /// Whether routes are refused for waitSecondsForService after the start, so that brokers can register first.
        need_wait_for_service: bool { name: "needWaitForService", default: false, allowed: flag(), change: AtStart }
        /// Time after the start during which routes are refused, if needWaitForService.
        wait_for_service: Duration {
            name: "waitSecondsForService", default: Duration::from_secs(45), allowed: seconds(0..=3_600), change: AtStart,
        }
    }

    section "Controller" {
        /// Whether a controller runs in the process of the name server. Its keys are in the same file (docs/controller.md).
        enable_controller_in_namesrv: bool { name: "enableControllerInNamesrv", default: false, allowed: flag(), change: AtStart }
    }

    section "Connections" {
        /// Number of threads that serve connections. 0: one for every two processors.
        worker_threads: usize { name: "apogeeWorkerThreads", default: 0, allowed: whole(0..=256), change: AtStart }
        /// Idle time after which a connection is closed. 0: the maximum.
        server_channel_max_idle_time: Duration {
            name: "serverChannelMaxIdleTimeSeconds", default: Duration::from_secs(120), allowed: seconds(1..=86_400).zero_is_no_limit(), change: AtStart,
        }
        /// Maximum size of a frame. A larger one closes the connection.
        frame_max_length: usize {
            name: "com.rocketmq.remoting.frameMaxLength", default: 16 << 20, allowed: bytes(64 << 10..=256 << 20), change: AtStart,
        }
        /// Maximum time between the first and the last byte of a frame; then the connection is closed. 0: the maximum.
        frame_timeout: Duration {
            name: "apogeeFrameTimeoutSeconds", default: Duration::from_secs(60), allowed: seconds(1..=86_400).zero_is_no_limit(), change: AtStart,
        }
        /// Time in which a TLS handshake has to be complete after its first byte; after it the connection is closed.
        handshake_timeout: Duration {
            name: "apogeeHandshakeTimeoutSeconds", default: Duration::from_secs(10), allowed: seconds(1..=3_600), change: AtStart,
        }
    }

    section "Limits" {
        /// Maximum number of connections. One more is closed at once.
        max_connections: usize { name: "apogeeMaxConnections", default: 20_000, allowed: whole(1..=1_000_000), change: AtStart }
        /// Memory for incomplete frames of all clients, without the first 4 KiB of each. A frame takes at most an eighth of the free part at a
        /// time. A client whose frame does not fit is not read. While one waits, connections are closed whose frames use this memory and
        /// arrive at less than 256 KiB/s, or have waited for 15 s.
        inbound_total_bytes: usize { name: "apogeeInboundTotalBytes", default: 512 << 20, allowed: bytes(4 << 20..=64 << 30), change: AtStart }
        /// Unread answers of one client in bytes above which its requests are not read.
        outbox_pause_bytes: usize { name: "apogeeOutboxPauseBytes", default: 4 << 20, allowed: bytes(64 << 10..=1 << 30), change: AtStart }
        /// Unread answers of one client in bytes above which its connection is closed.
        outbox_close_bytes: usize { name: "apogeeOutboxCloseBytes", default: 64 << 20, allowed: bytes(1 << 20..=4 << 30), change: AtStart }
        /// Unread answers of all clients in bytes. A client's requests are not read while its own take more than an eighth of the free part.
        /// Over the limit, the connection with the most is closed.
        outbox_total_bytes: usize { name: "apogeeOutboxTotalBytes", default: 256 << 20, allowed: bytes(1 << 20..=64 << 30), change: AtStart }
        /// Maximum number of brokers in all clusters. One more is refused.
        max_brokers: usize { name: "apogeeMaxBrokers", default: 10_000, allowed: whole(1..=1_000_000), change: AtStart }
        /// Maximum number of brokers that register over one connection. One more is refused.
        max_brokers_per_connection: usize {
            name: "apogeeMaxBrokersPerConnection", default: 100, allowed: whole(1..=1_000_000), change: AtStart,
        }
        /// Maximum number of topics in all clusters. Further topics of a registration are left out, and the answer says so.
        max_topics: usize { name: "apogeeMaxTopics", default: 1_000_000, allowed: whole(1..=100_000_000), change: AtStart }
        /// Maximum memory of the tables of brokers, topics and queues. Topics of a registration that do not fit are left out, and the answer
        /// says so.
        max_route_bytes: usize { name: "apogeeMaxRouteBytes", default: 512 << 20, allowed: bytes(1 << 20..=1 << 40), change: AtStart }
        /// Maximum number of entries in the KV configuration. One more is refused.
        max_kv_entries: usize { name: "apogeeMaxKvEntries", default: 100_000, allowed: whole(1..=10_000_000), change: AtStart }
        /// Maximum size of the file of the KV configuration. A change beyond it is refused.
        max_kv_bytes: usize { name: "apogeeMaxKvBytes", default: 4 << 20, allowed: bytes(64 << 10..=1 << 30), change: AtStart }
        /// Maximum bytes of requests that wait for the thread of registrations and lists, and the same for the thread that writes files. One
        /// more is answered with code 2 (busy). One connection may use a quarter.
        max_waiting_bytes: usize { name: "apogeeMaxWaitingBytes", default: 256 << 20, allowed: bytes(1 << 20..=16 << 30), change: AtStart }
        /// Maximum size of a registration after inflation. A larger one is refused.
        max_registration_bytes: usize {
            name: "apogeeMaxRegistrationBytes", default: 32 << 20, allowed: bytes(1 << 20..=4 << 30), change: AtStart,
        }
    }
}

impl Settings for NamesrvSettings {
    const GIVEN: &'static str = include_str!("given.txt");

    fn settle(&mut self, notes: &mut Vec<Note>) -> Result<(), String> {
        fit_all(Self::RELATIONS, self, notes);
        Ok(())
    }
}

impl ConnectionSettings for NamesrvSettings {
    fn connection_keys(&mut self) -> ConnectionKeys<'_> {
        ConnectionKeys {
            frame_max_length: self.frame_max_length,
            frame_timeout: self.frame_timeout,
            max_idle_time: self.server_channel_max_idle_time,
            inbound_total_bytes: &mut self.inbound_total_bytes,
            outbox_pause_bytes: &mut self.outbox_pause_bytes,
            outbox_close_bytes: &mut self.outbox_close_bytes,
            outbox_total_bytes: &mut self.outbox_total_bytes,
        }
    }
}

impl NamesrvSettings {
    /// Where settings changed while running are kept.
    pub fn kept(&self) -> Kept {
        Kept::at(self.data_dir.join("namesrv").join(LIVE_FILE))
    }

    /// File of the KV configuration.
    pub fn kv_config_file(&self) -> PathBuf {
        self.kv_config_path
            .clone()
            .unwrap_or_else(|| self.data_dir.join("namesrv").join(kv::FILE_NAME))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::{Change, Declared};

    config::declaration_tests!(NamesrvSettings);

    #[test]
    fn nothing_that_moves_a_path_or_opens_a_port_is_live() {
        for name in ["kvConfigPath", "apogeeDataDir", "listenPort", "bindAddress"] {
            assert_eq!(NamesrvSettings::key(name).map(|key| key.change), Some(Change::AtStart), "{name}");
        }
    }

    #[test]
    fn contradicting_keys_are_adjusted_or_warned_of_by_name() {
        const FRAME: &str = "com.rocketmq.remoting.frameMaxLength";
        let cases: [(&str, &[&str], &str); 6] = [
            ("apogeeOutboxCloseBytes=2097152", &["apogeeOutboxCloseBytes", FRAME], "16777216"),
            (
                "apogeeOutboxPauseBytes=134217728",
                &["apogeeOutboxPauseBytes", "apogeeOutboxCloseBytes"],
                "67108864",
            ),
            ("apogeeOutboxTotalBytes=2097152", &["apogeeOutboxTotalBytes", FRAME], "16777216"),
            ("apogeeInboundTotalBytes=8388608", &["apogeeInboundTotalBytes", FRAME], "33554432"),
            ("apogeeFrameTimeoutSeconds=12", &["apogeeFrameTimeoutSeconds", FRAME], "12"),
            ("serverChannelMaxIdleTimeSeconds=10", &["serverChannelMaxIdleTimeSeconds"], "10"),
        ];
        for (line, keys, value) in cases {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("namesrv.conf");
            std::fs::write(&path, line).unwrap();
            let mut sources = config::Sources::new();
            sources.file(&path).unwrap();
            let settings: NamesrvSettings = sources.fill().unwrap();
            let key = NamesrvSettings::key(keys[0]).unwrap();
            assert_eq!((key.print)(&settings), value, "{line}");
            let notes = sources.take_notes();
            assert_eq!(notes.iter().map(|note| note.keys.clone()).collect::<Vec<_>>(), [keys], "{line}");
            assert!(keys.iter().all(|key| notes[0].text.contains(key)), "{line}");
        }
    }

    #[test]
    fn files_follow_the_data_directory() {
        let settings = NamesrvSettings {
            data_dir: PathBuf::from("/x"),
            ..NamesrvSettings::default()
        };
        assert_eq!(settings.kv_config_file(), PathBuf::from("/x/namesrv/kvConfig.json"));
    }
}
