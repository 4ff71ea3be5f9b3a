//! Rules between keys, checked at the start and at every change.
//!
//! Each [`Relation`] names its keys and its rule; the manual lists them. A relation either adjusts the settings so that its rule
//! holds, or leaves them and describes the consequence. Invariant: a relation that adjusted the settings returns no note the second
//! time, except where a value promises more than the broker does. Relations of keys that every server has are in crate `config`.

use std::path::{Component, Path};
use std::time::Duration;

use super::{BrokerRole, BrokerSettings};
use config::{ConnectionKeys, ConnectionSettings, Note, Relation, fit_all, raise};

/// Bytes of a frame besides the message body: the properties (up to 32 KiB) and header fields.
const FRAME_OVERHEAD: u64 = 48 << 10;
/// Bytes of a record besides the body.
const RECORD_OVERHEAD: u64 = 34 << 10;
/// Memory of a request besides its frame while it waits for a thread, in bytes.
const REQUEST_OVERHEAD: usize = 64 << 10;
/// Default interval of a client's heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// The relations of the broker's own keys. Those that every server has are [`ConnectionSettings::RELATIONS`].
pub const RELATIONS: &[Relation<BrokerSettings>] = &[
    Relation {
        keys: &["brokerRole", "inSyncReplicas"],
        rule: "SYNC_MASTER with inSyncReplicas=1 waits for no slave",
        fit: |s| {
            (s.broker_role == BrokerRole::SyncMaster && s.in_sync_replicas <= 1 && !s.enable_controller_mode).then(|| {
                "brokerRole=SYNC_MASTER waits for no slave with inSyncReplicas=1, as in Apache's broker since 5.0: set inSyncReplicas=2 to have every \
                 acknowledged message on a slave"
                    .to_owned()
            })
        },
    },
    Relation {
        keys: &["brokerRole", "inSyncReplicas"],
        rule: "Only SYNC_MASTER waits for inSyncReplicas",
        fit: |s| {
            (s.broker_role == BrokerRole::AsyncMaster && s.in_sync_replicas > 1).then(|| {
                format!(
                    "inSyncReplicas={} has no effect with brokerRole=ASYNC_MASTER: an acknowledged message is on this broker; with SYNC_MASTER it \
                     would be on slaves, too",
                    s.in_sync_replicas
                )
            })
        },
    },
    Relation {
        keys: &["enableControllerMode", "allAckInSyncStateSet"],
        rule: "Under a controller only allAckInSyncStateSet has acknowledged messages on replicas",
        fit: |s| {
            (s.enable_controller_mode && !s.all_ack_in_sync_state_set).then(|| {
                "with enableControllerMode=true and allAckInSyncStateSet=false a message is acknowledged when the master alone has it, as in Apache's \
                 broker: set allAckInSyncStateSet=true to lose nothing with a master"
                    .to_owned()
            })
        },
    },
    Relation {
        keys: &["brokerId", "brokerRole"],
        rule: "The brokerId of a master counts as 0",
        fit: |s| {
            if s.is_slave() {
                return None;
            }
            let id = std::mem::take(&mut s.broker_id);
            (id != 0).then(|| {
                format!(
                    "brokerId={id} counts as 0: with brokerRole={} this broker is a master",
                    s.broker_role
                )
            })
        },
    },
    Relation {
        keys: &["haHousekeepingInterval", "haSendHeartbeatInterval"],
        rule: "Silence is longer than heartbeats: a shorter haHousekeepingInterval counts as twice haSendHeartbeatInterval",
        fit: |s| {
            let least = s.ha_send_heartbeat_interval * 2;
            let was = s.ha_housekeeping_interval;
            (was < least).then(|| {
                s.ha_housekeeping_interval = least;
                format!(
                    "haHousekeepingInterval={} counts as {}: twice haSendHeartbeatInterval",
                    was.as_millis(),
                    least.as_millis()
                )
            })
        },
    },
    Relation {
        keys: &["enableRemoteEscape", "enableSlaveActingMaster"],
        rule: "Without enableSlaveActingMaster, enableRemoteEscape has no effect",
        fit: |s| {
            (s.enable_remote_escape && !s.enable_slave_acting_master)
                .then(|| "enableRemoteEscape has no effect without enableSlaveActingMaster: no slave acts for its master".to_owned())
        },
    },
    Relation {
        keys: &["lockInStrictMode", "totalReplicas"],
        rule: "With totalReplicas=1, lockInStrictMode has no effect",
        fit: |s| {
            (s.lock_in_strict_mode && s.total_replicas < 2)
                .then(|| "lockInStrictMode has no effect with totalReplicas=1: this broker is the only one that locks".to_owned())
        },
    },
    Relation {
        keys: &["brokerNotActiveTimeoutMillis", "brokerHeartbeatInterval"],
        rule: "A broker is gone after more than one heartbeat: a shorter brokerNotActiveTimeoutMillis counts as three times brokerHeartbeatInterval",
        fit: |s| {
            let least = s.broker_heartbeat_interval * 3;
            let was = s.broker_not_active_timeout;
            (was < least).then(|| {
                s.broker_not_active_timeout = least;
                format!(
                    "brokerNotActiveTimeoutMillis={} counts as {}: three times brokerHeartbeatInterval",
                    was.as_millis(),
                    least.as_millis()
                )
            })
        },
    },
    Relation {
        keys: &["maxMessageSize", "com.rocketmq.remoting.frameMaxLength"],
        rule: "A message limit a frame: a larger maxMessageSize counts as the frame limit minus 48 KiB",
        fit: |s| {
            let limit = remaining(s.frame_max_length as u64, FRAME_OVERHEAD);
            lower(&mut s.max_message_size, limit).map(|was| {
                format!(
                    "maxMessageSize={was} counts as {limit}: a frame of com.rocketmq.remoting.frameMaxLength={} must also hold \
                     properties and header",
                    s.frame_max_length
                )
            })
        },
    },
    Relation {
        keys: &["maxMessageSize", "mappedFileSizeCommitLog"],
        rule: "A message limit a file of the log: a larger maxMessageSize counts as mappedFileSizeCommitLog minus 34 KiB",
        fit: |s| {
            let limit = remaining(s.mapped_file_size_commit_log, RECORD_OVERHEAD);
            lower(&mut s.max_message_size, limit).map(|was| {
                format!(
                    "maxMessageSize={was} counts as {limit}: a larger message does not fit a file of mappedFileSizeCommitLog={}",
                    s.mapped_file_size_commit_log
                )
            })
        },
    },
    Relation {
        keys: &["maxTransferBytesOnMessageInMemory", "com.rocketmq.remoting.frameMaxLength"],
        rule: "The response to a pull limit a frame: a larger maxTransferBytesOnMessageInMemory counts as the frame limit minus 48 KiB",
        fit: |s| {
            fit_transfer(
                "maxTransferBytesOnMessageInMemory",
                &mut s.max_transfer_bytes_on_message_in_memory,
                s.frame_max_length,
            )
        },
    },
    Relation {
        keys: &["maxTransferBytesOnMessageInDisk", "com.rocketmq.remoting.frameMaxLength"],
        rule: "The same for maxTransferBytesOnMessageInDisk: a larger value counts as the frame limit minus 48 KiB",
        fit: |s| {
            fit_transfer(
                "maxTransferBytesOnMessageInDisk",
                &mut s.max_transfer_bytes_on_message_in_disk,
                s.frame_max_length,
            )
        },
    },
    Relation {
        keys: &["apogeeMaxWaitingReadBytesPerConnection", "com.rocketmq.remoting.frameMaxLength"],
        rule: "A request of the frame limit can wait for a thread: a smaller apogeeMaxWaitingReadBytesPerConnection counts as the frame \
               limit plus 64 KiB",
        fit: |s| {
            let least = s.frame_max_length.saturating_add(REQUEST_OVERHEAD);
            raise(&mut s.max_waiting_read_bytes_per_connection, least).map(|was| {
                format!(
                    "apogeeMaxWaitingReadBytesPerConnection={was} counts as {least}: a request of \
                     com.rocketmq.remoting.frameMaxLength={} bytes would never be served",
                    s.frame_max_length
                )
            })
        },
    },
    Relation {
        keys: &["apogeeMaxWaitingReadBytes", "apogeeMaxWaitingReadBytesPerConnection"],
        rule: "An apogeeMaxWaitingReadBytes below apogeeMaxWaitingReadBytesPerConnection counts as that",
        fit: |s| {
            let least = s.max_waiting_read_bytes_per_connection;
            raise(&mut s.max_waiting_read_bytes, least).map(|was| {
                format!(
                    "apogeeMaxWaitingReadBytes={was} counts as {least}, the limit of one connection (apogeeMaxWaitingReadBytesPerConnection)"
                )
            })
        },
    },
    Relation {
        keys: &["apogeeMaxSubscriptionBytesPerConnection", "apogeeMaxSubscriptionBytesPerGroup"],
        rule: "An apogeeMaxSubscriptionBytesPerConnection below apogeeMaxSubscriptionBytesPerGroup counts as that",
        fit: |s| {
            let least = s.max_subscription_bytes_per_group;
            raise(&mut s.max_subscription_bytes_per_connection, least).map(|was| {
                format!(
                    "apogeeMaxSubscriptionBytesPerConnection={was} counts as {least}, the limit of one group \
                     (apogeeMaxSubscriptionBytesPerGroup)"
                )
            })
        },
    },
    Relation {
        keys: &["apogeeMaxSubscriptionBytes", "apogeeMaxSubscriptionBytesPerConnection"],
        rule: "An apogeeMaxSubscriptionBytes below apogeeMaxSubscriptionBytesPerConnection counts as that",
        fit: |s| {
            let least = s.max_subscription_bytes_per_connection;
            raise(&mut s.max_subscription_bytes, least).map(|was| {
                format!(
                    "apogeeMaxSubscriptionBytes={was} counts as {least}, the limit of one connection (apogeeMaxSubscriptionBytesPerConnection)"
                )
            })
        },
    },
    Relation {
        keys: &["defaultTopicQueueNums", "apogeeMaxQueuesPerTopic"],
        rule: "A topic may have the default number of queues: a larger defaultTopicQueueNums counts as apogeeMaxQueuesPerTopic",
        fit: |s| {
            let most = s.max_queues_per_topic;
            let was = s.default_topic_queue_nums;
            s.default_topic_queue_nums = was.min(most);
            (was > most).then(|| format!("defaultTopicQueueNums={was} counts as {most}, the limit apogeeMaxQueuesPerTopic"))
        },
    },
    Relation {
        keys: &["diskMaxUsedSpaceRatio", "diskSpaceCleanForciblyRatio"],
        rule: "diskMaxUsedSpaceRatio is at most diskSpaceCleanForciblyRatio; otherwise it has no effect",
        fit: |s| {
            let (max, forcibly) = (s.disk_max_used_space_ratio, s.disk_space_clean_forcibly_ratio);
            let which = if s.clean_file_forcibly_enable {
                "regardless of their age"
            } else {
                "if they have expired"
            };
            (max > forcibly).then(|| {
                format!(
                    "diskMaxUsedSpaceRatio={max} has no effect: above diskSpaceCleanForciblyRatio={forcibly} files are already deleted, {which}"
                )
            })
        },
    },
    Relation {
        keys: &["diskSpaceCleanForciblyRatio", "diskSpaceWarningLevelRatio"],
        rule: "diskSpaceCleanForciblyRatio is below diskSpaceWarningLevelRatio; otherwise sends are refused before files are deleted",
        fit: |s| {
            let (forcibly, warning) = (s.disk_space_clean_forcibly_ratio, s.disk_space_warning_level_ratio);
            (forcibly >= warning).then(|| {
                format!(
                    "diskSpaceCleanForciblyRatio={forcibly} is not below diskSpaceWarningLevelRatio={warning}: sends are refused before \
                     files are deleted"
                )
            })
        },
    },
    Relation {
        keys: &["messageDelayLevel", "fileReservedTime"],
        rule: "The longest delay is shorter than fileReservedTime; otherwise messages are deleted before they are delivered",
        fit: |s| {
            let longest_ms = s.message_delay_level.delays_ms().iter().copied().max().unwrap_or(0);
            (longest_ms as u128 > s.file_reserved_time.as_millis()).then(|| {
                format!(
                    "messageDelayLevel has a level of {} min and fileReservedTime={} h: messages with a delay longer than the retention \
                     are deleted before they are delivered",
                    longest_ms / 60_000,
                    s.file_reserved_time.as_secs() / 3600
                )
            })
        },
    },
    Relation {
        keys: &["apogeeMaxGroups", "apogeeMaxTopics"],
        rule: "Every group has a retry topic: apogeeMaxGroups is at most apogeeMaxTopics; otherwise the last groups have none",
        fit: |s| {
            (s.max_groups > s.max_topics).then(|| {
                format!(
                    "apogeeMaxGroups={} is more than apogeeMaxTopics={}: every group has a retry topic, and those of the last groups cannot be created",
                    s.max_groups, s.max_topics
                )
            })
        },
    },
    Relation {
        keys: &["channelExpiredTimeout"],
        rule: "Longer than the 30 s between two heartbeats of a client; otherwise clients expire between them",
        fit: |s| {
            let expired = s.channel_expired_timeout;
            (expired <= HEARTBEAT).then(|| {
                format!(
                    "channelExpiredTimeout={}: clients send a heartbeat every {} s, they expire between two of them",
                    expired.as_millis(),
                    HEARTBEAT.as_secs()
                )
            })
        },
    },
    Relation {
        keys: &["storePathConsumeQueue", "storePathRootDir"],
        rule: "Has no effect: queues are in `consumequeue` of storePathRootDir, as in Apache's broker",
        fit: |s| fixed_location(s, "storePathConsumeQueue", "consumequeue"),
    },
    Relation {
        keys: &["storePathIndex", "storePathRootDir"],
        rule: "Has no effect: the key index is in `index` of storePathRootDir, as in Apache's broker",
        fit: |s| fixed_location(s, "storePathIndex", "index"),
    },
    Relation {
        keys: &["storeCheckpoint", "storePathRootDir"],
        rule: "Has no effect: the file is `checkpoint` in storePathRootDir, as in Apache's broker",
        fit: |s| fixed_location(s, "storeCheckpoint", "checkpoint"),
    },
    Relation {
        keys: &["abortFile", "storePathRootDir"],
        rule: "Has no effect: the file is `abort` in storePathRootDir, as in Apache's broker",
        fit: |s| fixed_location(s, "abortFile", "abort"),
    },
    Relation {
        keys: &["storePathRootDir"],
        rule: "`~` and `${NAME}` are not expanded, as in Apache's broker",
        fit: |s| unexpanded("storePathRootDir", &s.store_path_root_dir),
    },
    Relation {
        keys: &["storePathCommitLog"],
        rule: "`~` and `${NAME}` are not expanded, as in Apache's broker",
        fit: |s| {
            s.store_path_commit_log
                .as_deref()
                .and_then(|path| unexpanded("storePathCommitLog", path))
        },
    },
];

/// Whether notes of [`RELATIONS`] fully describe this key: it has no effect, because the location is fixed.
pub fn has_fixed_location(name: &str) -> bool {
    ["storePathConsumeQueue", "storePathIndex", "storeCheckpoint", "abortFile"].contains(&name)
}

impl ConnectionSettings for BrokerSettings {
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

/// Applies all relations to the settings, and adds notes about adjusted values and consequences.
///
/// # Errors
/// A text that names the keys, if no adjustment would help.
pub(super) fn fit(settings: &mut BrokerSettings, notes: &mut Vec<Note>) -> Result<(), String> {
    check_log_directory(settings)?;
    if settings.enable_controller_mode {
        if settings.controller_addr.is_empty() {
            return Err("enableControllerMode=true needs controllerAddr, the controllers as host:port;host:port".to_owned());
        }
        if settings.enable_slave_acting_master {
            return Err(
                "enableControllerMode and enableSlaveActingMaster cannot both be true: a controller elects another master".to_owned(),
            );
        }
        // The controller decides.
        settings.broker_role = BrokerRole::SyncMaster;
        settings.broker_id = 0;
    }
    if settings.is_slave() && settings.broker_id == 0 {
        return Err("brokerRole=SLAVE needs a brokerId of its own, from 1 on: 0 is the master".to_owned());
    }
    if settings.lock_in_strict_mode && !settings.enable_slave_acting_master {
        return Err(
            "lockInStrictMode needs enableSlaveActingMaster: without it this broker does not know the others of its name".to_owned(),
        );
    }
    fit_all(BrokerSettings::RELATIONS, settings, notes);
    fit_all(RELATIONS, settings, notes);
    Ok(())
}

/// The bytes that remain of `whole` after `overhead`.
fn remaining(whole: u64, overhead: u64) -> u64 {
    whole.saturating_sub(overhead).max(whole / 4)
}

/// Lowers a value to at most `limit`; returns the previous value if it was higher.
fn lower(value: &mut u32, limit: u64) -> Option<u32> {
    let limit = u32::try_from(limit).unwrap_or(u32::MAX);
    let was = std::mem::replace(value, limit.min(*value));
    (was > limit).then_some(was)
}

fn fit_transfer(key: &str, bytes: &mut u32, frame: usize) -> Option<String> {
    let limit = remaining(frame as u64, FRAME_OVERHEAD);
    let was = lower(bytes, limit)?;
    Some(format!(
        "{key}={was} counts as {limit}: clients do not read a response larger than com.rocketmq.remoting.frameMaxLength={frame}"
    ))
}

fn fixed_location(settings: &BrokerSettings, key: &str, name: &str) -> Option<String> {
    let given = settings.others.of(key).filter(|given| !given.is_empty())?;
    let root = &settings.store_path_root_dir;
    let fixed_location = root.join(name);
    (!is_same(Path::new(given), &fixed_location)).then(|| {
        format!(
            "{key}={given} has no effect: with storePathRootDir={} the location is {}, as in Apache's broker",
            root.display(),
            fixed_location.display()
        )
    })
}

fn unexpanded(key: &str, path: &Path) -> Option<String> {
    let text = path.to_string_lossy();
    let part = path.components().find(|part| part.as_os_str() == "~").map(|_| "~");
    let part = part.or_else(|| text.contains("${").then_some("${...}"))?;
    Some(format!(
        "{key}={text}: {part} is not expanded, as in Apache's broker, and becomes part of the directory's name"
    ))
}

/// Checks that the commit log has its own directory: other files there would be taken for log segments.
fn check_log_directory(settings: &BrokerSettings) -> Result<(), String> {
    let (root, log) = (&settings.store_path_root_dir, settings.commit_log_dir());
    let taken = ["", "config", "consumequeue", "index"];
    if taken.into_iter().any(|name| is_same(&log, &root.join(name))) {
        return Err(format!(
            "storePathCommitLog={} is a directory where storePathRootDir={} has other files: the commit log needs its own directory, such as {}",
            log.display(),
            root.display(),
            root.join("commitlog").display()
        ));
    }
    Ok(())
}

/// Whether two paths name the same location despite different spelling.
fn is_same(one: &Path, other: &Path) -> bool {
    let parts = |path: &'_ Path| -> Vec<_> {
        let parts = path.components().filter(|part| *part != Component::CurDir);
        parts.map(|part| part.as_os_str().to_owned()).collect()
    };
    parts(one) == parts(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::{Declared, Settings, Sources};

    /// Settings of these lines, and the notes.
    fn filled(text: &str) -> Result<(BrokerSettings, Vec<Note>), String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("broker.conf");
        std::fs::write(&path, text).unwrap();
        let mut sources = Sources::new();
        sources.file(&path).unwrap();
        let settings = sources.fill().map_err(|refusals| refusals.to_string())?;
        Ok((settings, sources.take_notes()))
    }

    fn value(settings: &BrokerSettings, key: &str) -> String {
        let key = BrokerSettings::key(key).unwrap();
        (key.print)(settings)
    }

    /// Lines of a file; the keys of the expected note; a key and its resulting value.
    const CASES: &[(&str, &[&str], (&str, &str))] = &[
        (
            "brokerRole=SYNC_MASTER",
            &["brokerRole", "inSyncReplicas"],
            ("brokerRole", "SYNC_MASTER"),
        ),
        ("inSyncReplicas=2", &["brokerRole", "inSyncReplicas"], ("inSyncReplicas", "2")),
        (
            "haSendHeartbeatInterval=5000\nhaHousekeepingInterval=7000",
            &["haHousekeepingInterval", "haSendHeartbeatInterval"],
            ("haHousekeepingInterval", "10000"),
        ),
        ("brokerId=3", &["brokerId", "brokerRole"], ("brokerId", "0")),
        (
            "enableRemoteEscape=true",
            &["enableRemoteEscape", "enableSlaveActingMaster"],
            ("enableRemoteEscape", "true"),
        ),
        (
            "enableSlaveActingMaster=true\nlockInStrictMode=true",
            &["lockInStrictMode", "totalReplicas"],
            ("totalReplicas", "1"),
        ),
        (
            "brokerHeartbeatInterval=5000",
            &["brokerNotActiveTimeoutMillis", "brokerHeartbeatInterval"],
            ("brokerNotActiveTimeoutMillis", "15000"),
        ),
        (
            "maxMessageSize=33554432",
            &["maxMessageSize", "com.rocketmq.remoting.frameMaxLength"],
            ("maxMessageSize", "16728064"),
        ),
        (
            "com.rocketmq.remoting.frameMaxLength=65536\nmaxTransferBytesOnMessageInMemory=1024\nmaxTransferBytesOnMessageInDisk=1024",
            &["maxMessageSize", "com.rocketmq.remoting.frameMaxLength"],
            ("maxMessageSize", "16384"),
        ),
        (
            "mappedFileSizeCommitLog=1048576",
            &["maxMessageSize", "mappedFileSizeCommitLog"],
            ("maxMessageSize", "1013760"),
        ),
        (
            "maxTransferBytesOnMessageInMemory=67108864",
            &["maxTransferBytesOnMessageInMemory", "com.rocketmq.remoting.frameMaxLength"],
            ("maxTransferBytesOnMessageInMemory", "16728064"),
        ),
        (
            "maxTransferBytesOnMessageInDisk=20000000",
            &["maxTransferBytesOnMessageInDisk", "com.rocketmq.remoting.frameMaxLength"],
            ("maxTransferBytesOnMessageInDisk", "16728064"),
        ),
        (
            "apogeeOutboxPauseBytes=134217728",
            &["apogeeOutboxPauseBytes", "apogeeOutboxCloseBytes"],
            ("apogeeOutboxPauseBytes", "67108864"),
        ),
        (
            "apogeeOutboxPauseBytes=12582912\napogeeOutboxCloseBytes=8388608",
            &["apogeeOutboxCloseBytes", "com.rocketmq.remoting.frameMaxLength"],
            ("apogeeOutboxPauseBytes", "12582912"),
        ),
        (
            "apogeeOutboxCloseBytes=8388608",
            &["apogeeOutboxCloseBytes", "com.rocketmq.remoting.frameMaxLength"],
            ("apogeeOutboxCloseBytes", "16777216"),
        ),
        (
            "apogeeOutboxTotalBytes=8388608",
            &["apogeeOutboxTotalBytes", "com.rocketmq.remoting.frameMaxLength"],
            ("apogeeOutboxTotalBytes", "16777216"),
        ),
        (
            "apogeeInboundTotalBytes=8388608",
            &["apogeeInboundTotalBytes", "com.rocketmq.remoting.frameMaxLength"],
            ("apogeeInboundTotalBytes", "33554432"),
        ),
        (
            "apogeeFrameTimeoutSeconds=12",
            &["apogeeFrameTimeoutSeconds", "com.rocketmq.remoting.frameMaxLength"],
            ("apogeeFrameTimeoutSeconds", "12"),
        ),
        (
            "apogeeMaxWaitingReadBytesPerConnection=8388608",
            &["apogeeMaxWaitingReadBytesPerConnection", "com.rocketmq.remoting.frameMaxLength"],
            ("apogeeMaxWaitingReadBytesPerConnection", "16842752"),
        ),
        (
            "apogeeMaxWaitingReadBytes=8388608",
            &["apogeeMaxWaitingReadBytes", "apogeeMaxWaitingReadBytesPerConnection"],
            ("apogeeMaxWaitingReadBytes", "33554432"),
        ),
        (
            "apogeeMaxSubscriptionBytesPerConnection=65536",
            &["apogeeMaxSubscriptionBytesPerConnection", "apogeeMaxSubscriptionBytesPerGroup"],
            ("apogeeMaxSubscriptionBytesPerConnection", "1048576"),
        ),
        (
            "apogeeMaxSubscriptionBytes=1048576",
            &["apogeeMaxSubscriptionBytes", "apogeeMaxSubscriptionBytesPerConnection"],
            ("apogeeMaxSubscriptionBytes", "33554432"),
        ),
        (
            "defaultTopicQueueNums=2000",
            &["defaultTopicQueueNums", "apogeeMaxQueuesPerTopic"],
            ("defaultTopicQueueNums", "1024"),
        ),
        (
            "diskMaxUsedSpaceRatio=88",
            &["diskMaxUsedSpaceRatio", "diskSpaceCleanForciblyRatio"],
            ("diskMaxUsedSpaceRatio", "88"),
        ),
        (
            "diskSpaceWarningLevelRatio=80",
            &["diskSpaceCleanForciblyRatio", "diskSpaceWarningLevelRatio"],
            ("diskSpaceWarningLevelRatio", "80"),
        ),
        (
            "fileReservedTime=1",
            &["messageDelayLevel", "fileReservedTime"],
            ("fileReservedTime", "1"),
        ),
        (
            "apogeeMaxTopics=100",
            &["apogeeMaxGroups", "apogeeMaxTopics"],
            ("apogeeMaxTopics", "100"),
        ),
        (
            "serverChannelMaxIdleTimeSeconds=30",
            &["serverChannelMaxIdleTimeSeconds"],
            ("serverChannelMaxIdleTimeSeconds", "30"),
        ),
        (
            "channelExpiredTimeout=10000",
            &["channelExpiredTimeout"],
            ("channelExpiredTimeout", "10000"),
        ),
        (
            "storePathRootDir=/a\nstorePathConsumeQueue=/b/consumequeue",
            &["storePathConsumeQueue", "storePathRootDir"],
            ("storePathRootDir", "/a"),
        ),
        (
            "enableControllerMode=true\ncontrollerAddr=h:9878\nbrokerRole=SLAVE",
            &["enableControllerMode", "allAckInSyncStateSet"],
            ("brokerRole", "SYNC_MASTER"),
        ),
        (
            "storePathRootDir=/a\nstorePathIndex=/a/idx",
            &["storePathIndex", "storePathRootDir"],
            ("storePathRootDir", "/a"),
        ),
        (
            "storePathRootDir=/a\nstoreCheckpoint=/a/index/checkpoint",
            &["storeCheckpoint", "storePathRootDir"],
            ("storePathRootDir", "/a"),
        ),
        (
            "storePathRootDir=/a\nabortFile=/a/index/abort",
            &["abortFile", "storePathRootDir"],
            ("storePathRootDir", "/a"),
        ),
        ("storePathRootDir=~/store", &["storePathRootDir"], ("storePathRootDir", "~/store")),
        (
            "storePathCommitLog=${storePathRootDir}/commitlog",
            &["storePathCommitLog"],
            ("storePathCommitLog", "${storePathRootDir}/commitlog"),
        ),
    ];

    #[test]
    fn contradicting_keys_are_adjusted_or_warned_about_by_name() {
        for (text, keys, (key, expected)) in CASES {
            let (mut settings, notes) = filled(text).unwrap();
            assert_eq!(notes.len(), 1, "{text}: {notes:?}");
            assert_eq!(notes[0].keys, *keys, "{text}");
            for named in *keys {
                assert!(notes[0].text.contains(named), "{text}: {}", notes[0].text);
            }
            assert_eq!(value(&settings, key), *expected, "{text}");
            let before = settings.clone();
            settings.settle(&mut Vec::new()).unwrap();
            assert_eq!(settings, before, "{text}: a second pass changes nothing");
        }
    }

    #[test]
    fn every_relation_has_a_case_and_names_existing_keys() {
        for relation in BrokerSettings::RELATIONS.iter().chain(RELATIONS) {
            assert!(CASES.iter().any(|(_, keys, _)| keys == &relation.keys), "{:?}", relation.keys);
            for key in relation.keys {
                assert!(BrokerSettings::key(key).is_some() || config::is_known_to_apache(key), "{key}");
            }
        }
    }

    #[test]
    fn a_broker_under_controllers_needs_them_and_acts_for_no_master() {
        for (text, key) in [
            ("enableControllerMode=true", "controllerAddr"),
            (
                "enableControllerMode=true\ncontrollerAddr=h:1\nenableSlaveActingMaster=true",
                "enableSlaveActingMaster",
            ),
        ] {
            let refusal = filled(text).unwrap_err();
            assert!(refusal.contains(key), "{refusal}");
        }
    }

    #[test]
    fn consistent_settings_have_no_notes() {
        for text in [
            "",
            "storePathRootDir=/a/\nstorePathConsumeQueue=/a/consumequeue/\nstorePathIndex=/a//index\nstoreCheckpoint=/a/checkpoint\nabortFile=/a/abort\nstorePathCommitLog=/a/commitlog",
            "storePathRootDir=/a\nstorePathConsumeQueue=\nstoreCheckpoint=",
            "maxMessageSize=16728064",
        ] {
            assert_eq!(filled(text).unwrap().1, [], "{text}");
        }
    }

    #[test]
    fn the_commit_log_has_its_own_directory() {
        for fixed_location in ["/a", "/a/", "/a/config", "/a/consumequeue", "/a/./index"] {
            let text = filled(&format!("storePathRootDir=/a\nstorePathCommitLog={fixed_location}\n")).unwrap_err();
            assert!(text.contains("storePathCommitLog") && text.contains("storePathRootDir"), "{text}");
        }
        assert!(filled("storePathRootDir=/a\nstorePathCommitLog=/a/log").is_ok());
    }
}
