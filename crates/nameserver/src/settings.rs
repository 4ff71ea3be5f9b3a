//! What a name server is told at its start.
//!
//! Names, defaults and units are Apache's wherever Apache has the key; keys that begin with `apogee` are ours and name the bounds
//! that the Java name server does not have. Invariant: whatever moves a path or opens a port is `AtStart` and can never be changed
//! over the wire. What is not here: keys without an effect; a key is added with the feature that reads it.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use config::shape::{address, bytes, flag, list, milliseconds, optional, path, seconds, text, whole};
use config::{Kept, Note, Settings};

const MINUTE_MS: u32 = 60_000;
/// What a client sends with 10 Mbit/s.
const SLOW_CLIENT_BYTES_A_SECOND: u64 = 1_250_000;
/// Between two registrations of a broker and two looks of a client for its routes, as both have it by default.
const SIGN_OF_LIFE: Duration = Duration::from_secs(30);

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
        /// Directory under which the name server keeps its files, in `namesrv`.
        data_dir: PathBuf { name: "apogeeDataDir", default: PathBuf::from("./data"), allowed: path(), change: AtStart }
        /// File of the KV configuration. Empty: `namesrv/kvConfig.json` in apogeeDataDir.
        kv_config_path: Option<PathBuf> { name: "kvConfigPath", default: None, allowed: optional(path()), change: AtStart }
        /// Files that a start goes on without when they cannot be read: `live.properties`, the settings that were changed while running.
        start_without: Vec<String> { name: "apogeeStartWithout", default: Vec::new(), allowed: list(text(), ';', 16), change: AtStart }
    }

    section "Routes" {
        /// Time between two looks for brokers that gave no sign of life.
        scan_not_active_broker_interval: Duration {
            name: "scanNotActiveBrokerInterval", default: Duration::from_secs(5), allowed: milliseconds(100..=10 * MINUTE_MS), change: AtStart,
        }
        /// Whether routes carry the order configuration of their topic.
        order_message_enable: bool { name: "orderMessageEnable", default: false, allowed: flag(), change: Live }
        /// Whether a broker that registers is told the order configurations.
        return_order_topic_config_to_broker: bool { name: "returnOrderTopicConfigToBroker", default: true, allowed: flag(), change: Live }
        /// Whether a registration also removes the topics the broker no longer has.
        delete_topic_with_broker_registration: bool {
            name: "deleteTopicWithBrokerRegistration", default: false, allowed: flag(), change: Live,
        }
        /// Whether routes show the slave with the lowest id as master where the master is gone and the topic cannot be written.
        support_acting_master: bool { name: "supportActingMaster", default: false, allowed: flag(), change: Live }
        /// Whether brokers of a name are told when the lowest broker id among them changes.
        notify_min_broker_id_changed: bool { name: "notifyMinBrokerIdChanged", default: false, allowed: flag(), change: Live }
        /// Whether the list of all topics is given (request 206).
        enable_all_topic_list: bool { name: "enableAllTopicList", default: true, allowed: flag(), change: Live }
        /// Whether the topics of one cluster, of system and of units are listed (requests 224, 304, 311 to 313).
        enable_topic_list: bool { name: "enableTopicList", default: true, allowed: flag(), change: Live }
        /// Whether routes are refused for waitSecondsForService after the start, until brokers had time to register.
        need_wait_for_service: bool { name: "needWaitForService", default: false, allowed: flag(), change: AtStart }
        /// How long routes are refused after the start, if needWaitForService.
        wait_for_service: Duration {
            name: "waitSecondsForService", default: Duration::from_secs(45), allowed: seconds(0..=3_600), change: AtStart,
        }
    }

    section "Connections" {
        /// Threads that serve connections. 0: one for every two processors.
        worker_threads: usize { name: "apogeeWorkerThreads", default: 0, allowed: whole(0..=256), change: AtStart }
        /// Time without a byte from a client after which its connection is closed. 0: the longest.
        server_channel_max_idle_time: Duration {
            name: "serverChannelMaxIdleTimeSeconds", default: Duration::from_secs(120), allowed: seconds(1..=86_400).zero_is_no_limit(), change: AtStart,
        }
        /// Largest frame that is read; a longer one closes the connection.
        frame_max_length: usize {
            name: "com.rocketmq.remoting.frameMaxLength", default: 16 << 20, allowed: bytes(64 << 10..=256 << 20), change: AtStart,
        }
        /// Time in which a frame has to be complete after its first byte; after it the connection is closed. 0: the longest.
        frame_timeout: Duration {
            name: "apogeeFrameTimeoutSeconds", default: Duration::from_secs(60), allowed: seconds(1..=86_400).zero_is_no_limit(), change: AtStart,
        }
        /// Time in which a TLS handshake has to be complete after its first byte; after it the connection is closed.
        handshake_timeout: Duration {
            name: "apogeeHandshakeTimeoutSeconds", default: Duration::from_secs(10), allowed: seconds(1..=3_600), change: AtStart,
        }
    }

    section "Bounds" {
        /// Connections at once; one more is closed at once.
        max_connections: usize { name: "apogeeMaxConnections", default: 20_000, allowed: whole(1..=1_000_000), change: AtStart }
        /// Memory for frames that are not complete yet, of all clients; the first 4 KiB of each are not counted. A frame takes an eighth of
        /// what is left of this at once at most. A client whose frame has no room is not read; while one waits, connections are closed whose
        /// frames hold some of this and arrive at less than 256 KiB/s, or have waited for 15 s.
        inbound_total_bytes: usize { name: "apogeeInboundTotalBytes", default: 512 << 20, allowed: bytes(4 << 20..=64 << 30), change: AtStart }
        /// Bytes waiting for a client that does not read, above which its requests are not read either.
        outbox_pause_bytes: usize { name: "apogeeOutboxPauseBytes", default: 4 << 20, allowed: bytes(64 << 10..=1 << 30), change: AtStart }
        /// Bytes waiting for a client that does not read, above which its connection is closed.
        outbox_close_bytes: usize { name: "apogeeOutboxCloseBytes", default: 64 << 20, allowed: bytes(1 << 20..=4 << 30), change: AtStart }
        /// Bytes waiting for all clients that do not read. A client's requests are not read either while more waits for it than an eighth
        /// of what is left of this; over it the connection with the most is closed.
        outbox_total_bytes: usize { name: "apogeeOutboxTotalBytes", default: 256 << 20, allowed: bytes(1 << 20..=64 << 30), change: AtStart }
        /// Brokers of all clusters; one more is refused.
        max_brokers: usize { name: "apogeeMaxBrokers", default: 10_000, allowed: whole(1..=1_000_000), change: AtStart }
        /// Brokers that register over one connection; one more is refused.
        max_brokers_per_connection: usize {
            name: "apogeeMaxBrokersPerConnection", default: 100, allowed: whole(1..=1_000_000), change: AtStart,
        }
        /// Topics of all clusters. A registration that brings more is taken without them, and the broker is told so.
        max_topics: usize { name: "apogeeMaxTopics", default: 1_000_000, allowed: whole(1..=100_000_000), change: AtStart }
        /// Bytes of the tables of brokers, topics and queues. A registration that would need more is taken without the topics that have no
        /// room, and the broker is told so.
        max_route_bytes: usize { name: "apogeeMaxRouteBytes", default: 512 << 20, allowed: bytes(1 << 20..=1 << 40), change: AtStart }
        /// Entries of the KV configuration; one more is refused.
        max_kv_entries: usize { name: "apogeeMaxKvEntries", default: 100_000, allowed: whole(1..=10_000_000), change: AtStart }
        /// Bytes of the KV configuration as it is written to its file; a change beyond is refused.
        max_kv_bytes: usize { name: "apogeeMaxKvBytes", default: 4 << 20, allowed: bytes(64 << 10..=1 << 30), change: AtStart }
        /// Bytes of requests that wait for the thread that serves registrations and lists, and as many for the one that writes files; one
        /// more is refused as busy. One connection may have a quarter of it.
        max_waiting_bytes: usize { name: "apogeeMaxWaitingBytes", default: 256 << 20, allowed: bytes(1 << 20..=16 << 30), change: AtStart }
        /// Size of a registration once inflated; a larger one is refused.
        max_registration_bytes: usize {
            name: "apogeeMaxRegistrationBytes", default: 32 << 20, allowed: bytes(1 << 20..=4 << 30), change: AtStart,
        }
    }
}

impl Settings for NamesrvSettings {
    const GIVEN: &'static str = include_str!("given.txt");

    fn settle(&mut self, notes: &mut Vec<Note>) -> Result<(), String> {
        let (pause, close, frame) = (self.outbox_pause_bytes, self.outbox_close_bytes, self.frame_max_length);
        if close < frame {
            self.outbox_close_bytes = frame;
            notes.push(Note::new(
                &["apogeeOutboxCloseBytes", "com.rocketmq.remoting.frameMaxLength"],
                format!(
                    "apogeeOutboxCloseBytes={close} counts as {frame}: an answer as large as com.rocketmq.remoting.frameMaxLength would \
                     close its connection"
                ),
            ));
        }
        if pause > self.outbox_close_bytes {
            self.outbox_pause_bytes = self.outbox_close_bytes;
            notes.push(Note::new(
                &["apogeeOutboxPauseBytes", "apogeeOutboxCloseBytes"],
                format!(
                    "apogeeOutboxPauseBytes={pause} counts as {}: at apogeeOutboxCloseBytes the connection is closed",
                    self.outbox_close_bytes
                ),
            ));
        }
        let (inbound, two_frames) = (self.inbound_total_bytes, frame.saturating_mul(2));
        if inbound < two_frames {
            self.inbound_total_bytes = two_frames;
            notes.push(Note::new(
                &["apogeeInboundTotalBytes", "com.rocketmq.remoting.frameMaxLength"],
                format!(
                    "apogeeInboundTotalBytes={inbound} counts as {two_frames}, twice com.rocketmq.remoting.frameMaxLength={frame}: room for \
                     one such frame is kept for a client that would have to wait"
                ),
            ));
        }
        let needed = Duration::from_secs(frame as u64 / SLOW_CLIENT_BYTES_A_SECOND);
        if self.frame_timeout < needed {
            notes.push(Note::new(
                &["apogeeFrameTimeoutSeconds", "com.rocketmq.remoting.frameMaxLength"],
                format!(
                    "apogeeFrameTimeoutSeconds={}: a client with 10 Mbit/s needs {} s for a frame of \
                     com.rocketmq.remoting.frameMaxLength={frame}, its connection is closed before",
                    self.frame_timeout.as_secs(),
                    needed.as_secs()
                ),
            ));
        }
        if self.server_channel_max_idle_time <= SIGN_OF_LIFE {
            notes.push(Note::new(
                &["serverChannelMaxIdleTimeSeconds"],
                format!(
                    "serverChannelMaxIdleTimeSeconds={}: brokers and clients give a sign of life every {} s, their connections are closed \
                     between two",
                    self.server_channel_max_idle_time.as_secs(),
                    SIGN_OF_LIFE.as_secs()
                ),
            ));
        }
        Ok(())
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
            .unwrap_or_else(|| self.data_dir.join("namesrv").join("kvConfig.json"))
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
    fn keys_that_contradict_each_other_are_fitted_or_warned_of_with_all_of_them_named() {
        const FRAME: &str = "com.rocketmq.remoting.frameMaxLength";
        let cases: [(&str, &[&str], &str); 5] = [
            ("apogeeOutboxCloseBytes=2097152", &["apogeeOutboxCloseBytes", FRAME], "16777216"),
            (
                "apogeeOutboxPauseBytes=134217728",
                &["apogeeOutboxPauseBytes", "apogeeOutboxCloseBytes"],
                "67108864",
            ),
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
