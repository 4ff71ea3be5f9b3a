//! Settings of the broker and its store: every key with its meaning.
//!
//! Names, defaults and units are Apache's where Apache has the key, so a file written for the Java broker works here. Keys that
//! begin with `apogee` are additions: they set limits that the Java broker does not have. Every limit of the broker is here. Where
//! Apache clamps a value, in the getter or where it is used, the limits are Apache's and the shape is `clamped`. Keys that
//! contradict each other are adjusted in [`relations`].
//!
//! Invariants: keys that set a path, a port or the broker's name are `AtStart` and cannot be changed by a request; few keys are
//! read on every request, and from one snapshot. Keys without effect are not here. A key is added together with the feature that
//! reads it.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub mod relations;

use crate::schedule::{Levels, delay_levels};
use crate::signal;
use config::shape::{
    HoursOfDay, address, bytes, bytes_in_units_of, flag, host, host_and_port, hours, hours_of_day, list, milliseconds, name, one_of,
    optional, path, percent, seconds, text_that, whole,
};
use config::{Kept, Note, Settings};

config::choice! {
    /// When a send is acknowledged.
    pub enum FlushDiskType {
        /// Once it is in the page cache; it survives a crash of the process, not of the machine.
        Async = "ASYNC_FLUSH",
        /// Once it is on the device.
        Sync = "SYNC_FLUSH",
    }
}

config::choice! {
    /// Part of this broker among those of its name.
    pub enum BrokerRole {
        /// Takes messages; does not wait for copies.
        AsyncMaster = "ASYNC_MASTER",
        /// Takes messages; a send waits until inSyncReplicas brokers have it.
        SyncMaster = "SYNC_MASTER",
        /// Copies the log of the master and serves reads.
        Slave = "SLAVE",
    }
}

config::choice! {
    /// How a group gets messages of a topic for which no mode was set.
    pub enum DefaultMode {
        /// Each queue belongs to one member, which pulls.
        Pull = "PULL",
        /// Members pop.
        Pop = "POP",
    }
}

/// Size of a consume queue entry in bytes; files contain whole entries.
const QUEUE_ENTRY_BYTES: u64 = 20;
const MINUTE_MS: u32 = 60_000;
const HOUR_MS: u32 = 60 * MINUTE_MS;
const GIB: u64 = 1 << 30;

config::declare! {
    /// Settings of a broker.
    pub struct BrokerSettings;

    section "Identity" {
        /// Name of this broker. Empty: the machine's host name. Consumers find their queues by it, so keep it when the machine changes.
        broker_name: String { name: "brokerName", default: String::new(), allowed: empty_or_name(), change: AtStart }
        /// Cluster this broker belongs to.
        broker_cluster_name: String { name: "brokerClusterName", default: "DefaultCluster".to_owned(), allowed: name(), change: AtStart }
        /// Id of this broker among the brokers of its name. The id of a master counts as 0, as in Apache's broker; a slave needs one from 1 on.
        broker_id: u64 { name: "brokerId", default: 0, allowed: whole(0..=i64::MAX as u64).clamped(), change: AtStart }
        /// Role of this broker among the brokers of its name. ASYNC_MASTER acknowledges a message that it has stored itself. SYNC_MASTER waits
        /// until inSyncReplicas brokers have it. SLAVE copies the log and the tables of the master, refuses messages and serves reads.
        broker_role: BrokerRole { name: "brokerRole", default: BrokerRole::AsyncMaster, allowed: one_of(), change: AtStart }
        /// Region written into messages (property MSG_REGION) and answers.
        region_id: String { name: "regionId", default: "DefaultRegion".to_owned(), allowed: name(), change: AtStart }
    }

    section "Addresses" {
        /// Port for clients. The port two below serves the same (VIP), the port above serves slaves (haListenPort).
        listen_port: u16 { name: "listenPort", default: 10_911, allowed: whole(3..=65_534).strict(), change: AtStart }
        /// Address to listen on.
        bind_address: IpAddr { name: "bindAddress", default: IpAddr::V4(Ipv4Addr::UNSPECIFIED), allowed: address(), change: AtStart }
        /// Name servers to register with. In one process with a name server, that one is always among them.
        namesrv_addr: Vec<String> { name: "namesrvAddr", default: Vec::new(), allowed: list(host_and_port(), ';', 64), change: AtStart }
        /// Host that clients connect to. Empty: in one process with a name server, each client gets the IP through which it reached that one;
        /// a separate name server gives the IP from which this broker connected to it.
        broker_ip1: Option<String> { name: "brokerIP1", default: None, allowed: optional(host()), change: AtStart }
        /// Host for other brokers of this name. Empty: the same as brokerIP1.
        broker_ip2: Option<String> { name: "brokerIP2", default: None, allowed: optional(host()), change: AtStart }
        /// Port where a master serves slaves. Empty or 0: listenPort + 1.
        ha_listen_port: Option<u16> { name: "haListenPort", default: None, allowed: optional(whole(0..=65_535).clamped()), change: AtStart }
    }

    section "Replication" {
        /// Under SYNC_MASTER, how many brokers must have a message before it is acknowledged, the master among them. With 1, the default as in
        /// Apache's broker, no send waits for a slave.
        in_sync_replicas: usize { name: "inSyncReplicas", default: 1, allowed: whole(1..=64).clamped(), change: AtStart }
        /// Maximum time a send waits for slaves; then it is answered with code 12: the message is stored on the master.
        slave_timeout: Duration {
            name: "slaveTimeout", default: Duration::from_secs(3), allowed: milliseconds(1..=10 * MINUTE_MS), change: Live,
        }
        /// A slave counts as in sync in the status of replication while less than so many bytes are missing.
        ha_max_gap_not_in_sync: i64 {
            name: "haMaxGapNotInSync", default: 256 << 20, allowed: bytes(0..=i64::from(i32::MAX)).clamped(), change: AtStart,
        }
        /// Maximum silence between master and slave: then a master sends a heartbeat, and a slave reports its offset.
        ha_send_heartbeat_interval: Duration {
            name: "haSendHeartbeatInterval", default: Duration::from_secs(5), allowed: milliseconds(10..=MINUTE_MS), change: AtStart,
        }
        /// A peer that says nothing for so long is disconnected. Longer than haSendHeartbeatInterval.
        ha_housekeeping_interval: Duration {
            name: "haHousekeepingInterval", default: Duration::from_secs(20), allowed: milliseconds(50..=10 * MINUTE_MS), change: AtStart,
        }
        /// Maximum bytes of the log behind one header. Apache's slaves take less than 4 MiB.
        ha_transfer_batch_size: usize {
            name: "haTransferBatchSize", default: 32 << 10, allowed: bytes(1_024..=2 << 20).clamped(), change: AtStart,
        }
        /// Maximum connections of slaves; one more is closed.
        max_slaves: usize { name: "apogeeMaxSlaves", default: 16, allowed: whole(1..=1_000), change: AtStart }
        /// HA address of the master, `host:port`. Empty: a slave learns it from name servers.
        ha_master_address: Option<String> { name: "haMasterAddress", default: None, allowed: optional(host_and_port()), change: AtStart }
        /// Whether a slave serves pulls, and a master names a slave to consumers that read old messages (suggestWhichBrokerId).
        slave_read_enable: bool { name: "slaveReadEnable", default: false, allowed: flag(), change: Live }
        /// With slaveReadEnable, how far behind the log's end a read is when its consumer is sent to the slave that its group names
        /// (whichBrokerWhenConsumeSlowly). Apache's broker takes 40 % of the machine's memory (accessMessageInMemoryMaxRatio).
        slave_read_behind: i64 {
            name: "apogeeSlaveReadBehindBytes", default: 4 << 30, allowed: bytes(1..=1 << 50), change: Live,
        }
    }

    section "Controller" {
        /// Whether a controller says which broker of a name is the master. brokerRole and brokerId count nothing then. All brokers of the name need
        /// the same value. A gRPC port in the broker's process serves all brokers of the cluster then.
        enable_controller_mode: bool { name: "enableControllerMode", default: false, allowed: flag(), change: AtStart }
        /// The controllers, `host:port` separated by `;`.
        controller_addr: Vec<String> { name: "controllerAddr", default: Vec::new(), allowed: list(host_and_port(), ';', 16), change: AtStart }
        /// Under a controller: whether a message is acknowledged when all in-sync replicas have it. Otherwise the master alone is enough, and what
        /// only it has is lost with it.
        all_ack_in_sync_state_set: bool { name: "allAckInSyncStateSet", default: false, allowed: flag(), change: AtStart }
        /// Under a controller: with fewer in-sync replicas, the master among them, messages are refused.
        min_in_sync_replicas: usize { name: "minInSyncReplicas", default: 1, allowed: whole(1..=64).clamped(), change: AtStart }
        /// Under a controller: a replica leaves the in-sync set when it was not up to date for so long. With allAckInSyncStateSet sends wait for it
        /// until then. Apache's default is 15 s.
        ha_max_time_slave_not_catchup: Duration {
            name: "haMaxTimeSlaveNotCatchup", default: Duration::from_secs(2), allowed: milliseconds(100..=10 * MINUTE_MS), change: AtStart,
        }
        /// Under a controller: this broker copies the log and never becomes the master.
        async_learner: bool { name: "asyncLearner", default: false, allowed: flag(), change: AtStart }
        /// Under a controller: a replica with an empty directory begins at the master's newest log file, not at the oldest.
        sync_from_last_file: bool { name: "syncFromLastFile", default: false, allowed: flag(), change: AtStart }
        /// Under a controller: of two replicas with equal logs the one with the lower number becomes the master.
        broker_election_priority: i32 {
            name: "brokerElectionPriority", default: i32::MAX, allowed: whole(0..=i32::MAX).clamped(), change: AtStart,
        }
        /// Under a controller: a broker that is not heard for so long is taken for dead, and a master that hears no controller for so long takes no more
        /// messages. Five heartbeats are sent in it. Apache's default is 10 s.
        controller_heartbeat_timeout: Duration {
            name: "controllerHeartBeatTimeoutMills", default: Duration::from_millis(1_500), allowed: milliseconds(500..=10 * MINUTE_MS), change: AtStart,
        }
        /// Under a controller: a master that is to stop (SIGTERM) first has another in-sync replica elected. Clients still send to it until they ask a name server
        /// again, every 30 s by default; it passes that on to the new master until nothing came for 2 s, at most so long after it was to stop. A slave passes on
        /// sends, ends of transactions and acknowledgements at any time. 0: neither.
        hand_over_time: Duration {
            name: "apogeeHandOverSeconds", default: Duration::from_secs(35), allowed: seconds(0..=600), change: Live,
        }
    }

    section "Acting for the master" {
        /// Whether the slave with the lowest id acts for a master that is gone: it serves reads and offsets, and with enableRemoteEscape delivers
        /// through other brokers what becomes due. Set it on all brokers of a name, and supportActingMaster on the name servers.
        enable_slave_acting_master: bool { name: "enableSlaveActingMaster", default: false, allowed: flag(), change: AtStart }
        /// With enableSlaveActingMaster, whether an acting master stores due delayed and timer messages, and open transactions, through masters
        /// of other broker names of the cluster. Without it they wait for the master.
        enable_remote_escape: bool { name: "enableRemoteEscape", default: false, allowed: flag(), change: AtStart }
        /// With enableSlaveActingMaster, time between two heartbeats to name servers (request 904).
        broker_heartbeat_interval: Duration {
            name: "brokerHeartbeatInterval", default: Duration::from_secs(1), allowed: milliseconds(100..=MINUTE_MS), change: AtStart,
        }
        /// Maximum wait for a name server's answer to a heartbeat.
        send_heartbeat_timeout: Duration {
            name: "sendHeartbeatTimeoutMillis", default: Duration::from_secs(1), allowed: milliseconds(100..=MINUTE_MS), change: AtStart,
        }
        /// With enableSlaveActingMaster, after so long without a heartbeat a name server counts this broker as gone.
        broker_not_active_timeout: Duration {
            name: "brokerNotActiveTimeoutMillis", default: Duration::from_secs(10), allowed: milliseconds(1_000..=10 * MINUTE_MS), change: AtStart,
        }
        /// With enableSlaveActingMaster, time between two questions to name servers which brokers of this name are there (request 901).
        sync_broker_member_group_period: Duration {
            name: "syncBrokerMemberGroupPeriod", default: Duration::from_secs(1), allowed: milliseconds(100..=MINUTE_MS), change: AtStart,
        }
        /// With enableSlaveActingMaster, whether a master that starts leaves out to take over what its slaves did in its absence.
        skip_pre_online: bool { name: "skipPreOnline", default: false, allowed: flag(), change: AtStart }
        /// With enableSlaveActingMaster, whether a consumer in order holds a queue only when more than half of totalReplicas brokers of this name
        /// have locked it. Otherwise each broker locks for itself.
        lock_in_strict_mode: bool { name: "lockInStrictMode", default: false, allowed: flag(), change: AtStart }
        /// Brokers of this name, the master among them, for lockInStrictMode.
        total_replicas: usize { name: "totalReplicas", default: 1, allowed: whole(1..=64).clamped(), change: AtStart }
        /// Whether a slave that knows no flushed offset of its master takes the one that the master tells when they meet.
        sync_master_flush_offset: bool { name: "syncMasterFlushOffsetWhenStartup", default: false, allowed: flag(), change: AtStart }
    }

    section "Registration at name servers" {
        /// Time between two heartbeats to name servers. They are asked whether they have the newest topics (request 322), and get those that
        /// they lack.
        register_name_server_period: Duration {
            name: "registerNameServerPeriod", default: Duration::from_secs(30), allowed: milliseconds(10_000..=MINUTE_MS).clamped(), change: AtStart,
        }
        /// Maximum wait for a name server's answer to a registration.
        register_broker_timeout: Duration {
            name: "registerBrokerTimeoutMills", default: Duration::from_secs(24), allowed: milliseconds(100..=10 * MINUTE_MS), change: Live,
        }
        /// Whether all topics are registered again periodically, even if a name server has them: at every second heartbeat, less often with
        /// more topics (32 KiB per second on average). Otherwise only topics that a name server lacks are registered.
        force_register: bool { name: "forceRegister", default: true, allowed: flag(), change: Live }
        /// Whether the topics in a registration are deflated. Costs the name server more than it saves on a local network, and leaves out
        /// the flags of unit topics.
        compressed_register: bool { name: "compressedRegister", default: false, allowed: flag(), change: Live }
        /// Whether a registration is split after splitRegistrationSize topics. Without it, it is split where a request would have more than
        /// 256 KiB. It is never split for a name server with deleteTopicWithBrokerRegistration, which would delete what is in other parts.
        split_registration: bool { name: "enableSplitRegistration", default: false, allowed: flag(), change: Live }
        /// Topics in each request of a registration, if enableSplitRegistration.
        split_registration_size: usize { name: "splitRegistrationSize", default: 800, allowed: whole(2..=1_000_000), change: Live }
        /// Whether a new or changed topic is registered by a request of its own (217), not by a registration (103) of the changed topics.
        single_topic_register: bool { name: "enableSingleTopicRegister", default: false, allowed: flag(), change: Live }
    }

    section "Store: files" {
        /// Directory of the store. Directories of the Java broker can be used here, and the other way round.
        store_path_root_dir: PathBuf { name: "storePathRootDir", default: PathBuf::from("./data"), allowed: path(), change: AtStart }
        /// Directory of the commit log. Empty: `commitlog` in storePathRootDir.
        store_path_commit_log: Option<PathBuf> { name: "storePathCommitLog", default: None, allowed: optional(path()), change: AtStart }
        /// Size of one commit log file.
        mapped_file_size_commit_log: u64 {
            name: "mappedFileSizeCommitLog", default: GIB, allowed: bytes(64 * 1024..=2 * GIB - 1).strict(), change: AtStart,
        }
        /// Size of one consume queue file, 20 bytes a message.
        mapped_file_size_consume_queue: u64 {
            name: "mappedFileSizeConsumeQueue", default: 6_000_000,
            allowed: bytes_in_units_of(QUEUE_ENTRY_BYTES, 400..=GIB), change: AtStart,
        }
        /// Whether messages are indexed by key.
        message_index_enable: bool { name: "messageIndexEnable", default: true, allowed: flag(), change: AtStart }
        /// Hash slots of one index file, 4 bytes each.
        max_hash_slot_num: u32 { name: "maxHashSlotNum", default: 5_000_000, allowed: whole(100..=50_000_000).strict(), change: AtStart }
        /// Entries of one index file, 20 bytes each.
        max_index_num: u32 { name: "maxIndexNum", default: 20_000_000, allowed: whole(100..=100_000_000).strict(), change: AtStart }
    }

    section "Store: damage" {
        /// Files that the broker may start without if they and their `.bak` are damaged, separated by `;`. A file that can be read is used.
        /// docs/store.md says what each costs.
        start_without: Vec<String> {
            name: "apogeeStartWithout", default: Vec::new(), allowed: list(file_that_may_be_skipped(), ';', 16), change: AtStart,
        }
    }

    section "Store: durability" {
        /// When a send is acknowledged: ASYNC_FLUSH once it is in the page cache, SYNC_FLUSH once it is on the device.
        flush_disk_type: FlushDiskType { name: "flushDiskType", default: FlushDiskType::Async, allowed: one_of(), change: AtStart }
        /// Maximum time a send waits for the device under SYNC_FLUSH; then it is answered with code 10 (flush timeout).
        sync_flush_timeout: Duration {
            name: "syncFlushTimeout", default: Duration::from_secs(5), allowed: milliseconds(10..=10 * MINUTE_MS), change: Live,
        }
        /// Under ASYNC_FLUSH, time between two flushes of the log: a power cut can lose the messages of this time.
        flush_interval_commit_log: Duration {
            name: "flushIntervalCommitLog", default: Duration::from_millis(500), allowed: milliseconds(10..=MINUTE_MS), change: AtStart,
        }
        /// Maximum time until queues and index are synced while messages arrive. They are rebuilt from the log, so this limits only the work
        /// of a recovery.
        checkpoint_interval: Duration {
            name: "flushConsumeQueueThoroughInterval", default: Duration::from_secs(60), allowed: milliseconds(100..=HOUR_MS), change: AtStart,
        }
        /// Whether recovery checks each message's body against its checksum.
        check_crc_on_recover: bool { name: "checkCRCOnRecover", default: true, allowed: flag(), change: AtStart }
    }

    section "Store: retention" {
        /// Age at which a file of the log may be deleted. 0: at the next hour of deleteWhen.
        file_reserved_time: Duration {
            name: "fileReservedTime", default: Duration::from_secs(72 * 3600), allowed: hours(0..=876_000), change: Live,
        }
        /// Hours of the day, local time, at which files that are old enough are deleted.
        delete_when: HoursOfDay { name: "deleteWhen", default: HoursOfDay::new([4]), allowed: hours_of_day(), change: Live }
        /// Disk use above which files that are old enough are deleted at any hour.
        disk_max_used_space_ratio: u8 { name: "diskMaxUsedSpaceRatio", default: 75, allowed: percent(10..=95), change: Live }
        /// Disk use above which files are deleted whatever their age, if cleanFileForciblyEnable.
        disk_space_clean_forcibly_ratio: u8 { name: "diskSpaceCleanForciblyRatio", default: 85, allowed: percent(30..=85), change: Live }
        /// Disk use above which sends are refused with code 14.
        disk_space_warning_level_ratio: u8 { name: "diskSpaceWarningLevelRatio", default: 90, allowed: percent(35..=90), change: Live }
        /// Whether files may be deleted before their age when the disk is nearly full.
        clean_file_forcibly_enable: bool { name: "cleanFileForciblyEnable", default: true, allowed: flag(), change: Live }
        /// Maximum number of files deleted in one round.
        delete_file_batch_max: u32 { name: "deleteFileBatchMax", default: 10, allowed: whole(1..=1_000), change: Live }
        /// Time between two checks of age, hour and disk usage.
        clean_resource_interval: Duration {
            name: "cleanResourceInterval", default: Duration::from_secs(10), allowed: milliseconds(100..=HOUR_MS), change: AtStart,
        }
    }

    section "Store: light queues" {
        /// Whether messages can be in light queues (%LMQ%…) beside the queue of their topic, as the property INNER_MULTI_DISPATCH or
        /// __LITE_TOPIC asks. Set enableMultiDispatch, too.
        enable_lmq: bool { name: "enableLmq", default: false, allowed: flag(), change: AtStart }
        /// Whether light queues get their entries. ApogeeMQ has light queues only if enableLmq is set, too.
        enable_multi_dispatch: bool { name: "enableMultiDispatch", default: false, allowed: flag(), change: AtStart }
        /// Whether maxLmqConsumeQueueNum limits the light queues, instead of apogeeMaxLightQueues.
        enable_lmq_quota: bool { name: "enableLmqQuota", default: false, allowed: flag(), change: Live }
        /// Maximum light queues if enableLmqQuota is set. A message that would create one more is refused.
        max_lmq_consume_queue_num: usize {
            name: "maxLmqConsumeQueueNum", default: 20_000, allowed: whole(1..=10_000_000), change: Live,
        }
        /// Maximum light queues if enableLmqQuota is not set. A light queue takes about 450 bytes of memory.
        max_light_queues: usize { name: "apogeeMaxLightQueues", default: 2_000_000, allowed: whole(1..=10_000_000), change: Live }
    }

    section "Store: compaction" {
        /// Whether the last message of each key is kept for topics with cleanup.policy=COMPACTION. Without it they are topics like others.
        enable_compaction: bool { name: "enableCompaction", default: true, allowed: flag(), change: AtStart }
        /// Size of a file of compacted messages, rounded to a multiple of compactionCqMappedFileSize. The file that is being filled is not
        /// compacted. Queues that have files keep their size.
        compaction_mapped_file_size: u64 {
            name: "compactionMappedFileSize", default: 100 << 20, allowed: bytes(4_096..=GIB), change: AtStart,
        }
        /// Size of the file that says where the messages of such a file are, 46 bytes a message.
        compaction_cq_mapped_file_size: u64 {
            name: "compactionCqMappedFileSize", default: 10 << 20, allowed: bytes(460..=200 << 20), change: AtStart,
        }
        /// Time between two rounds in which a queue is compacted.
        compaction_schedule_internal: Duration {
            name: "compactionScheduleInternal", default: Duration::from_secs(15 * 60), allowed: milliseconds(100..=24 * HOUR_MS), change: AtStart,
        }
        /// Maximum memory for the keys of one pass, 25 bytes a key. More keys take more passes.
        max_offset_map_size: usize { name: "maxOffsetMapSize", default: 100 << 20, allowed: bytes(64 << 10..=16 << 30), change: AtStart }
    }

    section "Topics and groups" {
        /// Whether a topic is created by its first message.
        auto_create_topic_enable: bool { name: "autoCreateTopicEnable", default: true, allowed: flag(), change: Live }
        /// Maximum number of queues of a topic that is created by its first message.
        default_topic_queue_nums: u32 { name: "defaultTopicQueueNums", default: 8, allowed: whole(1..=65_536), change: Live }
        /// Whether a consumer group is created by its first consumer.
        auto_create_subscription_group: bool { name: "autoCreateSubscriptionGroup", default: true, allowed: flag(), change: Live }
        /// Permission of this broker for all topics: the sum of 4 (read) and 2 (write).
        broker_permission: i32 { name: "brokerPermission", default: 6, allowed: whole(0..=7).strict(), change: Live }
        /// Whether there is a topic with the name of the cluster, from which topics can be created.
        cluster_topic_enable: bool { name: "clusterTopicEnable", default: true, allowed: flag(), change: AtStart }
        /// Whether there is a topic with the name of the broker, from which topics can be created.
        broker_topic_enable: bool { name: "brokerTopicEnable", default: true, allowed: flag(), change: AtStart }
        /// Whether the topic for message traces exists from the start.
        trace_topic_enable: bool { name: "traceTopicEnable", default: false, allowed: flag(), change: AtStart }
        /// Name of the topic for message traces.
        msg_trace_topic_name: String { name: "msgTraceTopicName", default: "RMQ_SYS_TRACE_TOPIC".to_owned(), allowed: name(), change: AtStart }
        /// Whether requests that create or change a system topic are refused.
        validate_system_topic_when_update_topic: bool {
            name: "validateSystemTopicWhenUpdateTopic", default: true, allowed: flag(), change: Live,
        }
        /// Whether a topic may have the attribute message.type=MIXED.
        enable_mixed_message_type: bool { name: "enableMixedMessageType", default: false, allowed: flag(), change: Live }
    }

    section "Sending" {
        /// Largest message body.
        max_message_size: u32 { name: "maxMessageSize", default: 4 << 20, allowed: bytes(1..=128 << 20), change: Live }
        /// Time before which sends are refused with code 1, in epoch milliseconds: for a broker that is filled from elsewhere first.
        start_accept_send_request_timestamp: i64 {
            name: "startAcceptSendRequestTimeStamp", default: 0, allowed: whole(0..=i64::MAX).clamped(), change: Live,
        }
        /// Whether a reply to a request (324, 325) is also stored, in the topic of replies.
        store_reply_message_enable: bool { name: "storeReplyMessageEnable", default: true, allowed: flag(), change: Live }
        /// Whether answers tell producers that messages may be traced.
        trace_on: bool { name: "traceOn", default: true, allowed: flag(), change: Live }
    }

    section "Repeated sends" {
        /// Keys of messages that topics with dedup.window.seconds remember, all topics together. Beyond it the oldest keys of the topic with
        /// most leave before their time, which is counted (apogeeDedupEvicted) and warned about once. A key takes 50 to 105 bytes.
        max_dedup_keys: usize { name: "apogeeMaxDedupKeys", default: 2_000_000, allowed: whole(1_000..=1_000_000_000), change: Live }
    }

    section "Transactions" {
        /// Whether transactional messages are refused with code 16.
        reject_transaction_message: bool { name: "rejectTransactionMessage", default: false, allowed: flag(), change: Live }
        /// How long after a half message was stored its producer is asked for the first time, unless the message says otherwise
        /// (CHECK_IMMUNITY_TIME_IN_SECONDS).
        transaction_timeout: Duration {
            name: "transactionTimeOut", default: Duration::from_secs(6), allowed: milliseconds(1..=24 * 60 * MINUTE_MS), change: Live,
        }
        /// Time between two rounds in which producers are asked how their transactions ended.
        transaction_check_interval: Duration {
            name: "transactionCheckInterval", default: Duration::from_secs(30), allowed: milliseconds(10..=24 * 60 * MINUTE_MS), change: Live,
        }
        /// How often a producer is asked; after that the message is put into TRANS_CHECK_MAX_TIME_TOPIC.
        transaction_check_max: i32 { name: "transactionCheckMax", default: 15, allowed: whole(0..=1_000_000), change: Live }
        /// Time between two saves of how far transactions are done and how many are open.
        transaction_metric_flush_interval: Duration {
            name: "transactionMetricFlushInterval", default: Duration::from_secs(10), allowed: milliseconds(100..=10 * MINUTE_MS), change: AtStart,
        }
        /// Transactions that are open at once; a send that would open one more is answered with code 2 (busy).
        max_open_transactions: usize { name: "apogeeMaxOpenTransactions", default: 2_000_000, allowed: whole(1..=100_000_000), change: Live }
        /// Half messages a second for which producers are asked, at most.
        max_transaction_checks_per_second: u64 {
            name: "apogeeMaxTransactionChecksPerSecond", default: 5_000, allowed: whole(1..=10_000_000), change: Live,
        }
    }

    section "Timers" {
        /// Whether messages can ask for a time (TIMER_DELAY_SEC, TIMER_DELAY_MS, TIMER_DELIVER_MS). If not, they are refused with code 1, and
        /// what waits is not delivered.
        timer_wheel_enable: bool { name: "timerWheelEnable", default: true, allowed: flag(), change: AtStart }
        /// How far away the time may be. A message that asks for more is refused with code 13.
        timer_max_delay: Duration {
            name: "timerMaxDelaySec", default: Duration::from_hours(72), allowed: seconds(1..=100 * 366 * 86_400), change: Live,
        }
        /// Width of a slot of the file timerwheel. Messages are delivered to the millisecond whatever it is; Apache's brokers deliver at the
        /// end of a slot. The files of one width cannot be read with another: they are built again.
        timer_precision_ms: i64 { name: "timerPrecisionMs", default: 1_000, allowed: whole(10..=60_000), change: AtStart }
        /// How many slots ahead messages wait in the index. Those of later times are written again after so many; at most 604740.
        timer_roll_window_slots: u32 { name: "timerRollWindowSlot", default: 172_800, allowed: whole(2..=604_740), change: Live }
        /// Time between two saves of the index.
        timer_flush_interval: Duration {
            name: "timerFlushIntervalMs", default: Duration::from_secs(1), allowed: milliseconds(10..=MINUTE_MS), change: Live,
        }
        /// Size of one file of the timer log, 52 bytes a message.
        mapped_file_size_timer_log: u64 {
            name: "mappedFileSizeTimerLog", default: 100 << 20, allowed: bytes(4_096..=GIB).strict(), change: AtStart,
        }
        /// Messages that may be due in one slot; more are refused with code 1. The default is no limit. Apache's broker refuses some of them
        /// from here on, and all from twice as many on.
        timer_congest_num_each_slot: u32 {
            name: "timerCongestNumEachSlot", default: i32::MAX as u32, allowed: whole(1..=i32::MAX as u32), change: Live,
        }
        /// Whether messages are not taken into the index.
        timer_stop_enqueue: bool { name: "timerStopEnqueue", default: false, allowed: flag(), change: Live }
        /// Whether nothing is delivered.
        timer_stop_dequeue: bool { name: "timerStopDequeue", default: false, allowed: flag(), change: Live }
        /// Whether messages that wait can be recalled (370).
        recall_message_enable: bool { name: "recallMessageEnable", default: false, allowed: flag(), change: Live }
        /// Whether that is so while brokerPermission allows no sends.
        allow_recall_when_broker_not_writeable: bool {
            name: "allowRecallWhenBrokerNotWriteable", default: true, allowed: flag(), change: Live,
        }
        /// Whether a recall names its message with the topic in front, as brokers before 5.3.2 did. Both are understood.
        append_topic_for_timer_delete_key: bool { name: "appendTopicForTimerDeleteKey", default: false, allowed: flag(), change: Live }
    }

    section "Delay levels" {
        /// Delay of each level, starting with level 1. Sends and retries above the highest level get the highest. Messages that wait already
        /// keep their time.
        message_delay_level: Levels { name: "messageDelayLevel", default: Levels::default(), allowed: delay_levels(), change: AtStart }
        /// Time between two saves of how far each level has been delivered.
        flush_delay_offset_interval: Duration {
            name: "flushDelayOffsetInterval", default: Duration::from_secs(10), allowed: milliseconds(100..=10 * MINUTE_MS), change: AtStart,
        }
    }

    section "Pulling" {
        /// Whether a pull that finds nothing waits for new messages (long polling); otherwise it waits shortPollingTimeMills.
        long_polling_enable: bool { name: "longPollingEnable", default: true, allowed: flag(), change: Live }
        /// Time a pull that finds nothing waits without long polling.
        short_polling_time: Duration {
            name: "shortPollingTimeMills", default: Duration::from_secs(1), allowed: milliseconds(1..=MINUTE_MS), change: Live,
        }
        /// How long another broker may take that has older messages of a logical queue (static topics).
        forward_timeout: Duration { name: "forwardTimeout", default: Duration::from_secs(3), allowed: milliseconds(1..=10 * MINUTE_MS), change: Live }
        /// What a pull does at a damaged record of the log: skip it, with one ERROR that names it, or fail, so that the group stops there.
        skip_damaged_messages: bool { name: "apogeeSkipDamagedMessages", default: true, allowed: flag(), change: Live }
        /// Maximum bytes of one answer to a pull of messages in memory.
        max_transfer_bytes_on_message_in_memory: u32 {
            name: "maxTransferBytesOnMessageInMemory", default: 256 * 1024, allowed: bytes(1_024..=64 << 20), change: Live,
        }
        /// Maximum number of messages in one answer to a pull of messages in memory.
        max_transfer_count_on_message_in_memory: u32 {
            name: "maxTransferCountOnMessageInMemory", default: 32, allowed: whole(1..=10_000), change: Live,
        }
        /// Maximum bytes of one answer to a pull of messages that are no longer in memory.
        max_transfer_bytes_on_message_in_disk: u32 {
            name: "maxTransferBytesOnMessageInDisk", default: 64 * 1024, allowed: bytes(1_024..=64 << 20), change: Live,
        }
        /// Maximum number of messages in one answer to a pull of messages that are no longer in memory.
        max_transfer_count_on_message_in_disk: u32 {
            name: "maxTransferCountOnMessageInDisk", default: 8, allowed: whole(1..=10_000), change: Live,
        }
        /// Maximum bytes of consume queue (20 per message) that one pull scans for its tags.
        max_filter_message_size: u32 { name: "maxFilterMessageSize", default: 16_000, allowed: bytes(20..=20 << 20), change: Live }
        /// Whether consumers may ask for an SQL filter. Off in Apache's broker unless it is set.
        enable_property_filter: bool { name: "enablePropertyFilter", default: true, allowed: flag(), change: Live }
        /// Groups with SQL filters that a topic is expected to have: for the bits of groups in the file of filters, which only Apache's broker
        /// uses. It reads the file if both keys are the same there.
        expect_consumer_num_use_filter: u32 { name: "expectConsumerNumUseFilter", default: 32, allowed: whole(1..=100_000), change: AtStart }
        /// Per cent of messages whose bits may seem to be those of a group though they are not; see `expectConsumerNumUseFilter`.
        max_error_rate_of_bloom_filter: u32 { name: "maxErrorRateOfBloomFilter", default: 20, allowed: whole(1..=99), change: AtStart }
        /// Whether an SQL filter on a retry topic is that of the message's first topic. Clients subscribe to retry topics without a filter.
        filter_support_retry: bool { name: "filterSupportRetry", default: false, allowed: flag(), change: Live }
        /// How long the SQL filter of a group that no longer uses it is kept.
        filter_data_clean_time_span: Duration {
            name: "filterDataCleanTimeSpan", default: Duration::from_secs(24 * 3_600), allowed: milliseconds(1_000..=7 * 24 * HOUR_MS), change: AtStart,
        }
        /// Time between two saves of the offsets of consumer groups.
        flush_consumer_offset_interval: Duration {
            name: "flushConsumerOffsetInterval", default: Duration::from_secs(5), allowed: milliseconds(100..=10 * MINUTE_MS), change: AtStart,
        }
        /// Whether an offset reset (222) is stored here until the group's next pull, which also works for offline groups; otherwise the group's
        /// members are asked to reset their offsets.
        use_server_side_reset_offset: bool { name: "useServerSideResetOffset", default: true, allowed: flag(), change: Live }
        /// Maximum number of messages in an answer to a query by key.
        max_msgs_num_batch: u32 { name: "maxMsgsNumBatch", default: 64, allowed: whole(1..=1_024), change: Live }
        /// Maximum number of messages in an answer to a query by unique key, whatever the client asks for.
        default_query_max_num: u32 { name: "defaultQueryMaxNum", default: 32, allowed: whole(1..=1_024), change: Live }
    }

    section "POP" {
        /// How long popped messages are in flight before a record of them is written. What is acknowledged before is never written. A crash
        /// hands out again what was in flight for less.
        pop_stay: Duration {
            name: "popCkStayBufferTime", default: Duration::from_secs(10), allowed: milliseconds(0..=10 * MINUTE_MS), change: AtStart,
        }
        /// Percentage of pops that read retried messages before the others.
        pop_from_retry_probability: u32 { name: "popFromRetryProbability", default: 20, allowed: whole(0..=100), change: Live }
        /// The same of pops that read a topic by priority (`message.type=PRIORITY`, see the group's attribute `priority.factor`). With 0, retried
        /// messages are read when all others were.
        pop_from_retry_probability_for_priority: u32 {
            name: "popFromRetryProbabilityForPriority", default: 0, allowed: whole(0..=100), change: Live,
        }
        /// Whether 0 is the lowest priority, so that pops read the queue of the highest number first; otherwise 0 is the highest.
        priority_order_asc: bool { name: "priorityOrderAsc", default: true, allowed: flag(), change: Live }
        /// Whether retry topics have a queue for each queue of their topic, so that a retried message keeps its queue, and thereby its priority.
        use_separate_retry_queue: bool { name: "useSeparateRetryQueue", default: false, allowed: flag(), change: Live }
        /// Whether retried messages go to retry topics of version 2 (`%RETRY%group+topic`), from whose names group and topic can be told.
        retry_topic_v2: bool { name: "enableRetryTopicV2", default: false, allowed: flag(), change: Live }
        /// With enableRetryTopicV2, whether retry topics of version 1 are read, too.
        retrieve_retry_topic_v1: bool { name: "retrieveMessageFromPopRetryTopicV1", default: true, allowed: flag(), change: Live }
        /// Whether pops return retried messages under the name of their retry topic, without a handle as property.
        pop_returns_retry_topic: bool { name: "popResponseReturnActualRetryTopic", default: false, allowed: flag(), change: Live }
        /// Whether a queue of which popInflightMessageThreshold messages are in flight hands out no more to the group.
        pop_threshold_enable: bool { name: "enablePopMessageThreshold", default: false, allowed: flag(), change: Live }
        /// Messages of a queue that may be in flight in a group, if enablePopMessageThreshold.
        pop_inflight_threshold: u64 { name: "popInflightMessageThreshold", default: 10_000, allowed: whole(0..=i64::MAX as u64), change: Live }
        /// Whether a group that starts at the end of a queue starts at its first message if that is in memory: a new topic has no end that
        /// matters.
        init_pop_offset_by_check_msg_in_mem: bool { name: "initPopOffsetByCheckMsgInMem", default: true, allowed: flag(), change: Live }
        /// How clients that let the broker assign queues (400) get messages, if no mode was set for their group and topic (401).
        default_message_request_mode: DefaultMode {
            name: "defaultMessageRequestMode", default: DefaultMode::Pull, allowed: one_of(), change: Live,
        }
        /// If that is POP, how many further clients share each client's queues. 0 or less: all.
        default_pop_share_queue_num: i32 { name: "defaultPopShareQueueNum", default: -1, allowed: whole(-1..=i32::MAX), change: Live }
        /// Whether the broker shares the queues of a topic among the clients that let it (400); otherwise each gets all.
        server_load_balancer_enable: bool { name: "serverLoadBalancerEnable", default: true, allowed: flag(), change: Live }
        /// Queues of the topic with records of what is in flight.
        revive_queue_num: u32 { name: "reviveQueueNum", default: 8, allowed: whole(1..=512), change: AtStart }
        /// A consumer whose messages the broker holds (a push consumer of a gRPC proxy) and that is gone without a goodbye gets this time to come
        /// back; then what it has not acknowledged is delivered again. Also counts from a start of the broker.
        pop_holder_grace: Duration {
            name: "apogeePopHolderGraceMillis", default: Duration::from_secs(30), allowed: milliseconds(0..=HOUR_MS), change: AtStart,
        }
        /// Maximum number of parked pops, and of parked notifications. One more is answered that polling is full.
        max_pop_polling: usize { name: "maxPopPollingSize", default: 100_000, allowed: whole(1..=10_000_000), change: AtStart }
        /// Maximum number of check points: pops from a queue of which a message is in flight. One more pop is answered with code 2 (busy). A check
        /// point takes about 120 bytes.
        max_pop_check_points: usize { name: "apogeeMaxPopCheckPoints", default: 1_000_000, allowed: whole(1..=100_000_000), change: AtStart }
        /// Maximum number of queues, per group, that are known to POP. Those with nothing in flight make room for others.
        max_pop_queues: usize { name: "apogeeMaxPopQueues", default: 200_000, allowed: whole(1..=10_000_000), change: AtStart }
    }

    section "Lite topics" {
        /// How often lite topics without new messages are looked for (attribute `lite.topic.expiration` of their parent topic).
        lite_ttl_check_interval: Duration {
            name: "liteTtlCheckInterval", default: Duration::from_secs(120), allowed: milliseconds(1_000..=24 * HOUR_MS), change: Live,
        }
        /// Shortest time without a message after which a lite topic is deleted, and time after a start before any is.
        min_lite_ttl: Duration {
            name: "minLiteTTl", default: Duration::from_secs(15 * 60), allowed: milliseconds(1..=24 * HOUR_MS), change: Live,
        }
        /// How often clients that are gone are looked for.
        lite_subscription_check_interval: Duration {
            name: "liteSubscriptionCheckInterval", default: Duration::from_secs(120), allowed: milliseconds(100..=24 * HOUR_MS), change: Live,
        }
        /// Time without a change of its subscriptions and without a pop after which a client's lite subscriptions are removed.
        lite_subscription_check_timeout: Duration {
            name: "liteSubscriptionCheckTimeoutMills", default: Duration::from_secs(180), allowed: milliseconds(1_000..=24 * HOUR_MS), change: Live,
        }
        /// Maximum number of lite subscriptions: pairs of client and lite topic. One more is refused with code 2018. A subscription takes
        /// about 300 bytes.
        max_lite_subscription_count: usize {
            name: "maxLiteSubscriptionCount", default: 100_000, allowed: whole(1..=10_000_000), change: Live,
        }
        /// Maximum number of clients of one group that subscribe to one lite topic. One more is refused with code 2018.
        max_lite_subscribers: usize { name: "apogeeMaxLiteSubscribers", default: 1_000, allowed: whole(1..=100_000), change: Live }
        /// Maximum number of lite topics with messages in flight, counted for each group. One more pop is answered with code 2 (busy).
        max_lite_in_flight: usize { name: "apogeeMaxLiteInFlight", default: 1_000_000, allowed: whole(1..=10_000_000), change: Live }
    }

    section "Connections" {
        /// Number of threads that serve connections. 0: one for every two processors.
        worker_threads: usize { name: "apogeeWorkerThreads", default: 0, allowed: whole(0..=256), change: AtStart }
        /// Idle time after which a connection is closed. 0: the maximum.
        server_channel_max_idle_time: Duration {
            name: "serverChannelMaxIdleTimeSeconds", default: Duration::from_secs(120), allowed: seconds(1..=86_400).zero_is_no_limit(), change: AtStart,
        }
        /// Time without a heartbeat after which a producer or consumer is removed.
        channel_expired_timeout: Duration {
            name: "channelExpiredTimeout", default: Duration::from_secs(120), allowed: milliseconds(1_000..=HOUR_MS), change: AtStart,
        }
        /// Whether the members of a group are notified at once when one joins or leaves.
        notify_consumer_ids_changed_enable: bool { name: "notifyConsumerIdsChangedEnable", default: true, allowed: flag(), change: Live }
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

    section "Bounds" {
        /// Maximum number of connections. One more is closed at once.
        max_connections: usize { name: "apogeeMaxConnections", default: 20_000, allowed: whole(1..=1_000_000), change: AtStart }
        /// Memory for incomplete frames of all clients, without the first 4 KiB of each. A frame takes at most an eighth of the free part at a
        /// time. A client whose frame does not fit is not read. While one waits, connections are closed whose frames use this memory and
        /// arrive at less than 256 KiB/s, or have waited for 15 s.
        inbound_total_bytes: usize { name: "apogeeInboundTotalBytes", default: 512 << 20, allowed: bytes(4 << 20..=64 << 30), change: AtStart }
        /// Unread and expected answers of one client in bytes above which its requests are not read.
        outbox_pause_bytes: usize { name: "apogeeOutboxPauseBytes", default: 4 << 20, allowed: bytes(64 << 10..=1 << 30), change: AtStart }
        /// Unread answers of one client in bytes above which its connection is closed.
        outbox_close_bytes: usize { name: "apogeeOutboxCloseBytes", default: 64 << 20, allowed: bytes(1 << 20..=4 << 30), change: AtStart }
        /// Unread answers of all clients in bytes. A client's requests are not read while its own take more than an eighth of the free part.
        /// Over the limit, the connection with the most is closed.
        outbox_total_bytes: usize { name: "apogeeOutboxTotalBytes", default: 256 << 20, allowed: bytes(1 << 20..=64 << 30), change: AtStart }
        /// Maximum number of requests to one client that wait for its answer. One more is not sent.
        max_pending_requests: usize { name: "apogeeMaxPendingRequests", default: 1_024, allowed: whole(1..=100_000), change: AtStart }
        /// Maximum number of parked pulls (long polling). One more is answered with code 2 (busy). A pull for many tags counts once more for every 16.
        max_parked_pulls: usize { name: "apogeeMaxParkedPulls", default: 100_000, allowed: whole(1..=10_000_000), change: AtStart }
        /// Maximum number of parked pulls of one connection, and of its parked pops and its notifications.
        max_parked_pulls_per_connection: usize {
            name: "apogeeMaxParkedPullsPerConnection", default: 10_000, allowed: whole(1..=10_000_000), change: AtStart,
        }
        /// Maximum number of requests that wait for each kind of thread below. One more is answered with code 2 (busy).
        max_waiting_reads: usize { name: "apogeeMaxWaitingReads", default: 10_000, allowed: whole(1..=1_000_000), change: AtStart }
        /// The same for one connection.
        max_waiting_reads_per_connection: usize {
            name: "apogeeMaxWaitingReadsPerConnection", default: 1_000, allowed: whole(1..=1_000_000), change: AtStart,
        }
        /// Requests for logical queues that wait for other brokers. One more is answered with code 2 (busy).
        max_forwarded_requests: usize {
            name: "apogeeMaxForwardedRequests", default: 10_000, allowed: whole(1..=1_000_000), change: AtStart,
        }
        /// Responses that wait for tables to be saved. One more is answered with code 1 although its change may be saved later.
        max_waiting_changes: usize { name: "apogeeMaxWaitingChanges", default: signal::MAX_WAITING, allowed: whole(1..=10_000_000), change: AtStart }
        /// Maximum bytes of requests that wait for each kind of thread below. One more is answered with code 2 (busy).
        max_waiting_read_bytes: usize { name: "apogeeMaxWaitingReadBytes", default: 128 << 20, allowed: bytes(1 << 20..=64 << 30), change: AtStart }
        /// The same for one connection.
        max_waiting_read_bytes_per_connection: usize {
            name: "apogeeMaxWaitingReadBytesPerConnection", default: 32 << 20, allowed: bytes(64 << 10..=64 << 30), change: AtStart,
        }
        /// Number of threads that read older messages from the page cache, so that consumers that catch up do not delay sends. They start when
        /// needed and end when idle. 0: one for every two processors.
        catch_up_threads: usize { name: "apogeeCatchUpThreads", default: 0, allowed: whole(0..=256), change: AtStart }
        /// Number of threads for reads that wait for the disk. They start when needed and end when idle.
        reader_threads: usize { name: "apogeeReaderThreads", default: 4, allowed: whole(1..=256), change: AtStart }
        /// Number of threads for requests that walk over tables or have large bodies, such as those of administration and monitoring. They start when needed
        /// and end when idle. 0: one for every two processors.
        admin_threads: usize { name: "apogeeAdminThreads", default: 0, allowed: whole(0..=256), change: AtStart }
        /// Memory for the end of the log, from which pulls of new messages are answered.
        tail_cache_bytes: usize { name: "apogeeTailCacheBytes", default: 4 << 20, allowed: bytes(1 << 20..=16 << 30), change: AtStart }
        /// Memory for older parts of the log, which consumers that read a backlog near each other share. 0: each reads its messages alone.
        read_block_bytes: usize { name: "apogeeReadBlockBytes", default: 16 << 20, allowed: bytes(0..=16 << 30), change: AtStart }
        /// Maximum bytes of messages that are written and not yet confirmed; under SYNC_FLUSH they wait for the device. A send over it is answered
        /// with code 2 (busy).
        max_unconfirmed_bytes: i64 { name: "apogeeMaxUnconfirmedBytes", default: 256 << 20, allowed: bytes(1 << 20..=16 << 30), change: AtStart }
        /// Maximum number of keys that wait in memory to be indexed. Over it, and while the disk has no space for the next index file, they are
        /// dropped and indexed from the log later; until then queries by key do not find them.
        max_index_backlog: usize { name: "apogeeMaxIndexBacklog", default: 2_000_000, allowed: whole(1_000..=100_000_000), change: AtStart }
        /// Bytes of new messages after which queues and index are synced: what a recovery has to read at most. With very many queues it is 32 times what
        /// that writes, about 40 B a queue: 1.2 GB with a million.
        checkpoint_bytes: i64 { name: "apogeeCheckpointBytes", default: 256 << 20, allowed: bytes(1 << 20..=16 << 30), change: AtStart }
        /// Maximum number of open consume queue files. For one more, the least recently used is closed.
        max_open_queue_files: usize { name: "apogeeMaxOpenQueueFiles", default: 2_048, allowed: whole(16..=1_000_000), change: AtStart }
        /// Descriptors that are reserved for files of the store; connections get the rest of the process's limit (ulimit -n). Counts as half of
        /// that limit at most.
        reserved_descriptors: usize { name: "apogeeReservedDescriptors", default: 8_192, allowed: whole(64..=1_000_000), change: AtStart }
        /// Maximum number of topics. One more is refused.
        max_topics: usize { name: "apogeeMaxTopics", default: 200_000, allowed: whole(1..=10_000_000), change: AtStart }
        /// Maximum number of queues of a topic. A topic with more is refused.
        max_queues_per_topic: u32 { name: "apogeeMaxQueuesPerTopic", default: 1_024, allowed: whole(1..=65_536), change: AtStart }
        /// Maximum number of consumer groups. One more is refused.
        max_groups: usize { name: "apogeeMaxGroups", default: 100_000, allowed: whole(1..=10_000_000), change: AtStart }
        /// Maximum number of memberships of producers and consumers in groups. One more is refused.
        max_clients: usize { name: "apogeeMaxClients", default: 100_000, allowed: whole(1..=10_000_000), change: AtStart }
        /// The same for one connection. Those of all clients behind a proxy count for its connection.
        max_clients_per_connection: usize {
            name: "apogeeMaxClientsPerConnection", default: 10_000, allowed: whole(1..=10_000_000), change: AtStart,
        }
        /// Maximum number of topics that a consumer group subscribes to. A heartbeat with more is refused.
        max_subscriptions_per_group: usize {
            name: "apogeeMaxSubscriptionsPerGroup", default: 1_000, allowed: whole(1..=100_000), change: AtStart,
        }
        /// Maximum bytes of topics, expressions and tags in the subscriptions of a consumer group. A heartbeat with more is refused.
        max_subscription_bytes_per_group: usize {
            name: "apogeeMaxSubscriptionBytesPerGroup", default: 1 << 20, allowed: bytes(64 << 10..=1 << 30), change: AtStart,
        }
        /// The same for all groups of one connection.
        max_subscription_bytes_per_connection: usize {
            name: "apogeeMaxSubscriptionBytesPerConnection", default: 32 << 20, allowed: bytes(64 << 10..=16 << 30), change: AtStart,
        }
        /// The same for all groups.
        max_subscription_bytes: usize {
            name: "apogeeMaxSubscriptionBytes", default: 256 << 20, allowed: bytes(64 << 10..=64 << 30), change: AtStart,
        }
        /// Maximum length of an SQL filter. A longer one is refused (23), and not registered by a heartbeat.
        max_filter_bytes: usize { name: "apogeeMaxFilterBytes", default: 16 << 10, allowed: bytes(64..=1 << 20), change: AtStart }
        /// Maximum number of literals and properties in an SQL filter, each element of a list among them.
        max_filter_terms: usize { name: "apogeeMaxFilterTerms", default: 1_024, allowed: whole(8..=65_536), change: AtStart }
        /// Maximum number of levels of parentheses and operators in an SQL filter.
        max_filter_depth: usize { name: "apogeeMaxFilterDepth", default: 64, allowed: whole(4..=128), change: AtStart }
        /// Maximum memory of the SQL filters of all groups. Those that no group uses are removed first; one more is not registered, and its
        /// group's pulls are refused (27).
        max_registered_filter_bytes: usize {
            name: "apogeeMaxRegisteredFilterBytes", default: 64 << 20, allowed: bytes(64 << 10..=16 << 30), change: AtStart,
        }
        /// Maximum number of pairs of topic and group with committed offsets. One more is refused.
        max_committed_offsets: usize { name: "apogeeMaxCommittedOffsets", default: 1_000_000, allowed: whole(1..=100_000_000), change: AtStart }
        /// Maximum memory of committed offsets. One more is refused.
        max_offset_bytes: usize { name: "apogeeMaxOffsetBytes", default: 512 << 20, allowed: bytes(1 << 20..=64 << 30), change: AtStart }
        /// Maximum number of pairs of group and topic for which reading is forbidden (353). One more is refused.
        max_forbidden: usize { name: "apogeeMaxForbidden", default: 100_000, allowed: whole(1..=10_000_000), change: AtStart }
        /// Maximum memory of queue locks. One more is refused.
        max_queue_lock_bytes: usize { name: "apogeeMaxQueueLockBytes", default: 256 << 20, allowed: bytes(1 << 20..=16 << 30), change: AtStart }
        /// Maximum number of queues locked by orderly consumers. One more is refused.
        max_queue_locks: usize { name: "apogeeMaxQueueLocks", default: 1_000_000, allowed: whole(1..=100_000_000), change: AtStart }
        /// Maximum number of statistics series (topics, groups, pairs of them). One more is not counted.
        max_stats_series: usize { name: "apogeeMaxStatsSeries", default: 100_000, allowed: whole(1..=10_000_000), change: AtStart }
    }
}

/// Name of the file with settings changed while running.
pub const LIVE_FILE: &str = "live.properties";
/// Name of the name server's KV configuration: in one process, both roles read the same `apogeeStartWithout`.
const KV_FILE: &str = "kvConfig.json";

fn file_that_may_be_skipped() -> config::shape::Text {
    text_that(
        "topics.json, subscriptionGroup.json, consumerOffset.json, messageRequestMode.json, delayOffset.json, live.properties, or \
         kvConfig.json of a name server in the same process",
        |text| text == LIVE_FILE || text == KV_FILE || crate::state_file::NAMES.contains(&text),
    )
}

fn empty_or_name() -> config::shape::Text {
    text_that("empty, or 1 to 127 characters of A-Z a-z 0-9 _ - . % |", |text| {
        text.is_empty() || config::shape::Shape::parse(&name(), text).is_ok()
    })
}

impl Settings for BrokerSettings {
    const GIVEN: &'static str = include_str!("admin/given.txt");

    fn settle(&mut self, notes: &mut Vec<Note>) -> Result<(), String> {
        if self.broker_name.is_empty() {
            self.broker_name = host_name();
        }
        relations::fit(self, notes)
    }
}

impl BrokerSettings {
    /// Second port with the same service as `listen_port`, for clients with the VIP channel.
    pub fn vip_port(&self) -> u16 {
        self.listen_port.saturating_sub(2)
    }

    /// Port for replication, as registered at name servers.
    pub fn ha_port(&self) -> u16 {
        let port = self.ha_listen_port.filter(|port| *port > 0);
        // Tests have the system choose both.
        let next = if self.listen_port == 0 {
            0
        } else {
            self.listen_port.saturating_add(1)
        };
        port.unwrap_or(next)
    }

    /// Whether it copies another broker's log.
    pub fn is_slave(&self) -> bool {
        self.broker_role == BrokerRole::Slave
    }

    /// Slaves that must have a message before it is acknowledged.
    pub fn awaited_slaves(&self) -> usize {
        match self.broker_role {
            BrokerRole::SyncMaster => self.in_sync_replicas.saturating_sub(1),
            BrokerRole::AsyncMaster | BrokerRole::Slave => 0,
        }
    }

    /// The file with settings changed while running.
    pub fn kept(&self) -> Kept {
        Kept::at(self.store_path_root_dir.join("config").join(LIVE_FILE))
    }

    /// Largest number of consume queue entries that one pull scans.
    pub fn max_scanned_entries(&self) -> usize {
        self.max_filter_message_size as usize / QUEUE_ENTRY_BYTES as usize
    }

    /// Whether messages can be in light queues.
    pub fn has_light_queues(&self) -> bool {
        self.enable_lmq && self.enable_multi_dispatch
    }

    /// Maximum light queues.
    pub fn most_light_queues(&self) -> usize {
        if self.enable_lmq_quota {
            self.max_lmq_consume_queue_num
        } else {
            self.max_light_queues
        }
    }

    /// Directory of the commit log.
    pub fn commit_log_dir(&self) -> PathBuf {
        self.store_path_commit_log
            .clone()
            .unwrap_or_else(|| self.store_path_root_dir.join("commitlog"))
    }
}

/// The host name, reduced to characters that a broker name allows; Apache's default if there is none.
fn host_name() -> String {
    let named = std::fs::read_to_string(Path::new("/proc/sys/kernel/hostname"))
        .or_else(|_| std::env::var("HOSTNAME"))
        .unwrap_or_default();
    let fit: String = named
        .trim()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "_-.".contains(*c))
        .take(127)
        .collect();
    if fit.is_empty() { "DEFAULT_BROKER".to_owned() } else { fit }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::{Change, Declared, Sources};

    fn filled(text: &str) -> Result<BrokerSettings, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("broker.conf");
        std::fs::write(&path, text).unwrap();
        let mut sources = Sources::new();
        sources.file(&path).unwrap();
        sources.fill().map_err(|refusals| refusals.to_string())
    }

    config::declaration_tests!(BrokerSettings);

    #[test]
    fn nothing_that_moves_a_path_or_names_the_broker_is_live() {
        for name in [
            "storePathRootDir",
            "storePathCommitLog",
            "listenPort",
            "bindAddress",
            "namesrvAddr",
            "brokerName",
            "brokerIP1",
            "brokerId",
        ] {
            assert_eq!(BrokerSettings::key(name).map(|key| key.change), Some(Change::AtStart), "{name}");
        }
    }

    #[test]
    fn the_broker_file_of_apaches_distribution_is_taken() {
        let text = "brokerClusterName = DefaultCluster\nbrokerName = broker-a\nbrokerId = 0\ndeleteWhen = 04\nfileReservedTime = 48\n\
                    brokerRole = ASYNC_MASTER\nflushDiskType = ASYNC_FLUSH\n";
        let settings = filled(text).unwrap();
        assert_eq!(
            (settings.broker_name.as_str(), settings.file_reserved_time),
            ("broker-a", Duration::from_secs(48 * 3600))
        );
    }

    #[test]
    fn a_slave_needs_an_id_of_its_own() {
        let text = filled("brokerRole=SLAVE\n").unwrap_err();
        assert!(text.contains("brokerId"), "{text}");
        let settings = filled("brokerRole=SLAVE\nbrokerId=3\n").unwrap();
        assert_eq!((settings.broker_role, settings.broker_id), (BrokerRole::Slave, 3));
    }

    #[test]
    fn ports_and_directories_follow_from_each_other() {
        let settings = filled("listenPort=20911\nstorePathRootDir=/tmp/x\n").unwrap();
        assert_eq!((settings.vip_port(), settings.ha_port()), (20_909, 20_912));
        assert_eq!(settings.commit_log_dir(), Path::new("/tmp/x/commitlog"));
        assert!(!settings.broker_name.is_empty(), "the host name stands in");
        for port in ["0", "-1"] {
            assert_eq!(filled(&format!("haListenPort={port}\n")).unwrap().ha_port(), 10_912, "{port}");
        }
    }
}
