//! Keys that cannot all hold: found at the start and with every change, and fitted together where there is a value that would do.
//!
//! Each [`Relation`] names its keys and its rule; the manual shows the list. A relation changes the settings so that its rule holds, or
//! leaves them and says what follows. Invariant: a relation that was fitted says nothing the second time, except where the operator was
//! promised less than the words say. Relations of keys that the name server has, too, are in crate `config`.

use std::path::{Component, Path};
use std::time::Duration;

use super::{BrokerRole, BrokerSettings};
use config::{ConnectionKeys, ConnectionSettings, Note, Relation, fit_all, raise};

/// Bytes of a frame beside the body of its message: the properties (32 KiB at most), names and numbers.
const BESIDE_BODY: u64 = 48 << 10;
/// Bytes of a record beside its body.
const BESIDE_RECORD: u64 = 34 << 10;
/// Bytes that a request keeps beside its frame while it waits for a thread.
const BESIDE_REQUEST: usize = 64 << 10;
/// Between two heartbeats of a client, as clients have it by default.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// The relations of the broker's own keys. Those that every server has are [`ConnectionSettings::RELATIONS`].
pub const RELATIONS: &[Relation<BrokerSettings>] = &[
    Relation {
        keys: &["brokerRole"],
        rule: "SYNC_MASTER promises no more than ASYNC_MASTER until there is replication",
        fit: |s| {
            (s.broker_role == BrokerRole::SyncMaster).then(|| {
                format!(
                    "brokerRole=SYNC_MASTER promises no copy, there is no replication yet: an acknowledged message is on this broker only \
                     (flushDiskType={}), as with ASYNC_MASTER",
                    s.flush_disk_type
                )
            })
        },
    },
    Relation {
        keys: &["brokerId", "brokerRole"],
        rule: "The brokerId of a master counts as 0",
        fit: |s| {
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
        keys: &["maxMessageSize", "com.rocketmq.remoting.frameMaxLength"],
        rule: "A message fits a frame: maxMessageSize counts as 48 KiB less than the largest frame at most",
        fit: |s| {
            let fits = room(s.frame_max_length as u64, BESIDE_BODY);
            lower(&mut s.max_message_size, fits).map(|was| {
                format!(
                    "maxMessageSize={was} counts as {fits}: com.rocketmq.remoting.frameMaxLength={} has no room for more beside \
                     properties and header",
                    s.frame_max_length
                )
            })
        },
    },
    Relation {
        keys: &["maxMessageSize", "mappedFileSizeCommitLog"],
        rule: "A message fits a file of the log: maxMessageSize counts as 34 KiB less than mappedFileSizeCommitLog at most",
        fit: |s| {
            let fits = room(s.mapped_file_size_commit_log, BESIDE_RECORD);
            lower(&mut s.max_message_size, fits).map(|was| {
                format!(
                    "maxMessageSize={was} counts as {fits}: a file of mappedFileSizeCommitLog={} has no room for more",
                    s.mapped_file_size_commit_log
                )
            })
        },
    },
    Relation {
        keys: &["maxTransferBytesOnMessageInMemory", "com.rocketmq.remoting.frameMaxLength"],
        rule: "What a pull answers fits a frame: maxTransferBytesOnMessageInMemory counts as 48 KiB less than the largest frame at most",
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
        rule: "The same for maxTransferBytesOnMessageInDisk",
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
        rule: "A request as large as a frame may wait for a thread: apogeeMaxWaitingReadBytesPerConnection counts as 64 KiB more than the \
               largest frame at least",
        fit: |s| {
            let least = s.frame_max_length.saturating_add(BESIDE_REQUEST);
            raise(&mut s.max_waiting_read_bytes_per_connection, least).map(|was| {
                format!(
                    "apogeeMaxWaitingReadBytesPerConnection={was} counts as {least}: a request as large as \
                     com.rocketmq.remoting.frameMaxLength={} would never be served",
                    s.frame_max_length
                )
            })
        },
    },
    Relation {
        keys: &["apogeeMaxWaitingReadBytes", "apogeeMaxWaitingReadBytesPerConnection"],
        rule: "apogeeMaxWaitingReadBytes counts as apogeeMaxWaitingReadBytesPerConnection at least",
        fit: |s| {
            let least = s.max_waiting_read_bytes_per_connection;
            raise(&mut s.max_waiting_read_bytes, least).map(|was| {
                format!(
                    "apogeeMaxWaitingReadBytes={was} counts as {least}, which apogeeMaxWaitingReadBytesPerConnection allows one connection"
                )
            })
        },
    },
    Relation {
        keys: &["apogeeMaxSubscriptionBytesPerConnection", "apogeeMaxSubscriptionBytesPerGroup"],
        rule: "apogeeMaxSubscriptionBytesPerConnection counts as apogeeMaxSubscriptionBytesPerGroup at least",
        fit: |s| {
            let least = s.max_subscription_bytes_per_group;
            raise(&mut s.max_subscription_bytes_per_connection, least).map(|was| {
                format!(
                    "apogeeMaxSubscriptionBytesPerConnection={was} counts as {least}, which apogeeMaxSubscriptionBytesPerGroup allows one \
                     group"
                )
            })
        },
    },
    Relation {
        keys: &["apogeeMaxSubscriptionBytes", "apogeeMaxSubscriptionBytesPerConnection"],
        rule: "apogeeMaxSubscriptionBytes counts as apogeeMaxSubscriptionBytesPerConnection at least",
        fit: |s| {
            let least = s.max_subscription_bytes_per_connection;
            raise(&mut s.max_subscription_bytes, least).map(|was| {
                format!(
                    "apogeeMaxSubscriptionBytes={was} counts as {least}, which apogeeMaxSubscriptionBytesPerConnection allows one connection"
                )
            })
        },
    },
    Relation {
        keys: &["defaultTopicQueueNums", "apogeeMaxQueuesPerTopic"],
        rule: "A new topic may have its queues: defaultTopicQueueNums counts as apogeeMaxQueuesPerTopic at most",
        fit: |s| {
            let most = s.max_queues_per_topic;
            let was = s.default_topic_queue_nums;
            s.default_topic_queue_nums = was.min(most);
            (was > most).then(|| format!("defaultTopicQueueNums={was} counts as {most}, which apogeeMaxQueuesPerTopic allows"))
        },
    },
    Relation {
        keys: &["diskMaxUsedSpaceRatio", "diskSpaceCleanForciblyRatio"],
        rule: "diskMaxUsedSpaceRatio is at most diskSpaceCleanForciblyRatio; otherwise it has no effect",
        fit: |s| {
            let (max, forcibly) = (s.disk_max_used_space_ratio, s.disk_space_clean_forcibly_ratio);
            let which = if s.clean_file_forcibly_enable {
                "whatever their age"
            } else {
                "if they are old enough"
            };
            (max > forcibly).then(|| {
                format!(
                    "diskMaxUsedSpaceRatio={max} has no effect: above diskSpaceCleanForciblyRatio={forcibly} files are deleted already, {which}"
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
                     files are deleted to make room"
                )
            })
        },
    },
    Relation {
        keys: &["messageDelayLevel", "fileReservedTime"],
        rule: "The longest delay is shorter than fileReservedTime; otherwise messages are deleted while they wait",
        fit: |s| {
            let longest_ms = s.message_delay_level.delays_ms().iter().copied().max().unwrap_or(0);
            (longest_ms as u128 > s.file_reserved_time.as_millis()).then(|| {
                format!(
                    "messageDelayLevel has a level of {} min and fileReservedTime={} h: messages that wait longer than their file is kept \
                     are deleted before they are delivered",
                    longest_ms / 60_000,
                    s.file_reserved_time.as_secs() / 3600
                )
            })
        },
    },
    Relation {
        keys: &["apogeeMaxGroups", "apogeeMaxTopics"],
        rule: "Every group has a retry topic: apogeeMaxGroups is at most apogeeMaxTopics; otherwise the last groups get none",
        fit: |s| {
            (s.max_groups > s.max_topics).then(|| {
                format!(
                    "apogeeMaxGroups={} is more than apogeeMaxTopics={}: every group has a retry topic, the last ones cannot be made",
                    s.max_groups, s.max_topics
                )
            })
        },
    },
    Relation {
        keys: &["channelExpiredTimeout"],
        rule: "Longer than the 30 s between two heartbeats of a client; otherwise clients are forgotten between them",
        fit: |s| {
            let expired = s.channel_expired_timeout;
            (expired <= HEARTBEAT).then(|| {
                format!(
                    "channelExpiredTimeout={}: clients send a heartbeat every {} s, they are forgotten between two",
                    expired.as_millis(),
                    HEARTBEAT.as_secs()
                )
            })
        },
    },
    Relation {
        keys: &["storePathConsumeQueue", "storePathRootDir"],
        rule: "Has no effect: queues are in `consumequeue` of storePathRootDir, as Apache's broker has it",
        fit: |s| place(s, "storePathConsumeQueue", "consumequeue"),
    },
    Relation {
        keys: &["storePathIndex", "storePathRootDir"],
        rule: "Has no effect: the key index is in `index` of storePathRootDir, as Apache's broker has it",
        fit: |s| place(s, "storePathIndex", "index"),
    },
    Relation {
        keys: &["storeCheckpoint", "storePathRootDir"],
        rule: "Has no effect: the file is `checkpoint` in storePathRootDir, as Apache's broker has it",
        fit: |s| place(s, "storeCheckpoint", "checkpoint"),
    },
    Relation {
        keys: &["abortFile", "storePathRootDir"],
        rule: "Has no effect: the file is `abort` in storePathRootDir, as Apache's broker has it",
        fit: |s| place(s, "abortFile", "abort"),
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

/// Whether a note about its place says all of a key that changes nothing, also by its absence where the place is the right one.
pub fn is_a_place(name: &str) -> bool {
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

/// Fits the settings together and notes what was fitted, and what follows where nothing was.
///
/// # Errors
/// A sentence that names the keys, where no value would do.
pub(super) fn fit(settings: &mut BrokerSettings, notes: &mut Vec<Note>) -> Result<(), String> {
    own_directory_of_the_log(settings)?;
    fit_all(BrokerSettings::RELATIONS, settings, notes);
    fit_all(RELATIONS, settings, notes);
    Ok(())
}

/// What is left of `whole` bytes beside so many.
fn room(whole: u64, beside: u64) -> u64 {
    whole.saturating_sub(beside).max(whole / 4)
}

/// Lowers a value to `fits`; what it was, if it was more.
fn lower(value: &mut u32, fits: u64) -> Option<u32> {
    let fits = u32::try_from(fits).unwrap_or(u32::MAX);
    let was = std::mem::replace(value, fits.min(*value));
    (was > fits).then_some(was)
}

fn fit_transfer(key: &str, bytes: &mut u32, frame: usize) -> Option<String> {
    let fits = room(frame as u64, BESIDE_BODY);
    let was = lower(bytes, fits)?;
    Some(format!(
        "{key}={was} counts as {fits}: an answer larger than com.rocketmq.remoting.frameMaxLength={frame} is not read"
    ))
}

fn place(settings: &BrokerSettings, key: &str, name: &str) -> Option<String> {
    let given = settings.others.of(key).filter(|given| !given.is_empty())?;
    let root = &settings.store_path_root_dir;
    let place = root.join(name);
    (!is_same(Path::new(given), &place)).then(|| {
        format!(
            "{key}={given} has no effect: storePathRootDir={} makes it {}, in Apache's broker as in this one",
            root.display(),
            place.display()
        )
    })
}

fn unexpanded(key: &str, path: &Path) -> Option<String> {
    let text = path.to_string_lossy();
    let part = path.components().find(|part| part.as_os_str() == "~").map(|_| "~");
    let part = part.or_else(|| text.contains("${").then_some("${...}"))?;
    Some(format!(
        "{key}={text}: {part} is not expanded, here as in Apache's broker, and becomes part of the directory's name"
    ))
}

/// The log's files stand alone in their directory: whatever else is there would be taken for one of them.
fn own_directory_of_the_log(settings: &BrokerSettings) -> Result<(), String> {
    let (root, log) = (&settings.store_path_root_dir, settings.commit_log_dir());
    let taken = ["", "config", "consumequeue", "index"];
    if taken.into_iter().any(|name| is_same(&log, &root.join(name))) {
        return Err(format!(
            "storePathCommitLog={} is where storePathRootDir={} has other files: the log needs a directory of its own, such as {}",
            log.display(),
            root.display(),
            root.join("commitlog").display()
        ));
    }
    Ok(())
}

/// Whether two paths are written differently and still name the same place.
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

    /// Settings of these lines, and what was noted.
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

    /// Lines of a file; the keys of the one note expected; a key and what it counts as.
    const CASES: &[(&str, &[&str], (&str, &str))] = &[
        ("brokerRole=SYNC_MASTER", &["brokerRole"], ("brokerRole", "SYNC_MASTER")),
        ("brokerId=3", &["brokerId", "brokerRole"], ("brokerId", "0")),
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
    fn keys_that_contradict_each_other_are_fitted_or_warned_of_with_all_of_them_named() {
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
            assert_eq!(settings, before, "{text}: fitted once and for all");
        }
    }

    #[test]
    fn every_relation_has_a_case_and_names_keys_that_exist() {
        for relation in BrokerSettings::RELATIONS.iter().chain(RELATIONS) {
            assert!(CASES.iter().any(|(_, keys, _)| keys == &relation.keys), "{:?}", relation.keys);
            for key in relation.keys {
                assert!(BrokerSettings::key(key).is_some() || config::is_known_to_apache(key), "{key}");
            }
        }
    }

    #[test]
    fn defaults_and_files_whose_keys_agree_are_not_noted() {
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
    fn the_log_has_a_directory_of_its_own() {
        for place in ["/a", "/a/", "/a/config", "/a/consumequeue", "/a/./index"] {
            let text = filled(&format!("storePathRootDir=/a\nstorePathCommitLog={place}\n")).unwrap_err();
            assert!(text.contains("storePathCommitLog") && text.contains("storePathRootDir"), "{text}");
        }
        assert!(filled("storePathRootDir=/a\nstorePathCommitLog=/a/log").is_ok());
    }
}
