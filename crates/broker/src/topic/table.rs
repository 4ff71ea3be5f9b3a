//! `topics.json` in Apache's format, and the wire format of a topic.

use super::{Spec, Topic, Topics};
use crate::state_file::{StateFile, Table, Versioned, pretty};
use protocol::DataVersion;
use protocol::json;
use protocol::topic::{TopicConfig, TopicFilterType};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// The file of this table.
pub const TABLE: Table = Table {
    name: "topics.json",
    holds: "the topics with their queues, permissions and attributes",
    without: "the messages are kept, but create each topic again (admin updateTopic) with the same number of queues, or by a send if \
              autoCreateTopicEnable is set; the log and 'apogeemq store check' list the topics that have messages",
    is_made_again: false,
    check: |content| names(content).map(drop),
};
/// Name of the file.
pub const FILE: &str = TABLE.name;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Saved {
    data_version: DataVersion,
    topic_config_table: BTreeMap<String, TopicConfig>,
}

impl From<&Spec> for TopicConfig {
    fn from(spec: &Spec) -> Self {
        Self {
            attributes: spec.attributes.clone(),
            order: spec.order,
            perm: spec.perm,
            read_queue_nums: spec.read_queues,
            topic_filter_type: if spec.multi_tag {
                TopicFilterType::MultiTag
            } else {
                TopicFilterType::SingleTag
            },
            topic_name: spec.name.to_string(),
            topic_sys_flag: spec.sys_flag,
            write_queue_nums: spec.write_queues,
        }
    }
}

impl From<TopicConfig> for Spec {
    fn from(config: TopicConfig) -> Self {
        Self {
            name: config.topic_name.into(),
            read_queues: config.read_queue_nums,
            write_queues: config.write_queue_nums,
            perm: config.perm,
            multi_tag: config.topic_filter_type == TopicFilterType::MultiTag,
            sys_flag: config.topic_sys_flag,
            order: config.order,
            attributes: config.attributes,
        }
    }
}

/// All topics in their wire format, with their data version. Their permissions are limited by `permission` (`brokerPermission`).
#[must_use]
pub fn configs(topics: &Topics, permission: i32) -> (DataVersion, BTreeMap<String, TopicConfig>) {
    let (version, all) = topics.all();
    (version, of(all.iter(), permission))
}

/// These topics in their wire format; `permission` as for [`configs`].
#[must_use]
pub fn of<'a>(topics: impl Iterator<Item = &'a Arc<Topic>>, permission: i32) -> BTreeMap<String, TopicConfig> {
    let mask = mask(permission);
    let configs = topics.map(|topic| {
        let mut config = TopicConfig::from(&***topic);
        config.perm &= mask;
        (config.topic_name.clone(), config)
    });
    configs.collect()
}

/// The permission bits that the broker's permission allows.
#[must_use]
pub fn mask(permission: i32) -> i32 {
    let limited = super::is_readable(permission) && super::is_writable(permission);
    if limited { -1 } else { permission }
}

/// Adds the topics in the file to the built-in ones.
///
/// # Errors
/// `io::Error` if the file exists and cannot be read or parsed.
pub fn load(topics: &Topics, file: &StateFile) -> io::Result<()> {
    let Some(saved) = file.load(json::read::<Saved>)? else {
        return Ok(());
    };
    let specs = saved.topic_config_table.into_iter().map(|(name, config)| Spec {
        name: name.into(),
        ..Spec::from(config)
    });
    topics.restore(specs.collect(), Some(saved.data_version));
    Ok(())
}

/// Takes over the topics of a master, from its answer to 21.
///
/// # Errors
/// [`json::JsonError`] if it cannot be parsed; nothing is changed then.
pub fn copy(topics: &Topics, body: &[u8]) -> Result<(), json::JsonError> {
    let of_master = json::read_large::<Saved>(body)?;
    let specs = of_master.topic_config_table.into_iter().map(|(name, config)| Spec {
        name: name.into(),
        ..Spec::from(config)
    });
    topics.copy(specs.collect(), of_master.data_version);
    Ok(())
}

/// The names of the topics in a file's content.
///
/// # Errors
/// [`json::JsonError`] if it cannot be parsed.
pub(crate) fn names(content: &[u8]) -> Result<Vec<String>, json::JsonError> {
    json::read::<Saved>(content).map(|saved| saved.topic_config_table.into_keys().collect())
}

/// Topics that changed, as [`crate::state_file::changes`] has them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Changed {
    data_version: DataVersion,
    topic_config_table: BTreeMap<Box<str>, Option<TopicConfig>>,
}

impl Versioned for Topics {
    /// [`None`]: not written yet.
    type Version = Option<DataVersion>;

    fn load(&self, file: &StateFile) -> io::Result<()> {
        load(self, file)
    }

    fn version(&self) -> Self::Version {
        Some(Topics::version(self))
    }

    fn content(&self) -> (Self::Version, Vec<u8>) {
        // Before the table is read: what changes meanwhile is saved twice.
        self.take_changed();
        let (data_version, topic_config_table) = configs(self, -1);
        let saved = Saved {
            data_version,
            topic_config_table,
        };
        (Some(data_version), pretty(&saved))
    }

    fn take_changes(&self) -> Option<(Self::Version, Vec<u8>)> {
        let (data_version, topics) = self.take_changed()?;
        let configs = topics
            .into_iter()
            .map(|(name, topic)| (name, topic.map(|topic| TopicConfig::from(&**topic))));
        let changed = Changed {
            data_version,
            topic_config_table: configs.collect(),
        };
        Some((Some(data_version), serde_json::to_vec(&changed).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::topics::TopicLimits;
    use super::*;
    use crate::state_file::{SavedTable, VersionedFile};
    use crate::stats::BrokerStats;
    use store::disk::real::RealDisk;

    fn topics(builtin: Vec<Spec>) -> Topics {
        let limits = TopicLimits { topics: 10, queues: 64 };
        Topics::new(builtin, limits, Arc::new(BrokerStats::new("c", 100)), Arc::default(), 0)
    }

    #[test]
    fn topics_survive_a_restart_with_their_version() {
        let dir = tempfile::tempdir().unwrap();
        let file = StateFile::new(Arc::new(RealDisk), dir.path(), TABLE, &[]);
        let before = topics(vec![]);
        let spec = Spec {
            order: true,
            multi_tag: true,
            ..Spec::new("a", 5)
        };
        let changes = crate::attributes::parse("+message.type=FIFO").unwrap();
        before.update(vec![(spec, changes)], 7).unwrap();
        file.save(&before.content().1).unwrap();
        let after = topics(vec![Spec::new("TBW102", 8)]);
        load(&after, &file).unwrap();
        assert_eq!(**after.find("a").unwrap(), **before.find("a").unwrap());
        assert!(after.contains("TBW102"));
        assert_eq!(after.version(), before.version());
    }

    #[test]
    fn changes_of_a_large_table_are_beside_it_until_it_is_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let file = || StateFile::new(Arc::new(RealDisk), dir.path(), TABLE, &[]);
        let limits = TopicLimits {
            topics: 10_000,
            queues: 64,
        };
        let new = || {
            Arc::new(Topics::new(
                vec![Spec::new("s", 1)],
                limits,
                Arc::new(BrokerStats::new("c", 100)),
                Arc::default(),
                0,
            ))
        };
        let make = |topics: &Topics, name: &str, queues| topics.update(vec![(Spec::new(name, queues), Default::default())], 1).unwrap();
        let topics = new();
        (0..3_000).for_each(|n| make(&topics, &format!("topic-{n}"), 4));
        let saved = VersionedFile::new(Arc::clone(&topics), file());
        saved.save_changes().unwrap();
        make(&topics, "topic-7", 8);
        make(&topics, "fresh", 2);
        drop(topics.begin_deletion("topic-9", 2));
        saved.save_changes().unwrap();
        drop(topics.begin_deletion("fresh", 3));
        make(&topics, "fresh", 5);
        saved.save_changes().unwrap();
        assert!(dir.path().join("config/topics.json.changes").exists());
        let same = |saved: &Topics| {
            let plain = |topics: &Topics| configs(topics, -1);
            assert!(plain(saved) == plain(&topics));
        };
        let after = new();
        let again = VersionedFile::new(Arc::clone(&after), file());
        again.load().unwrap();
        same(&after);
        assert!(!after.contains("topic-9") && after.find("fresh").unwrap().read_queues == 5);
        // The start writes the table as a whole.
        again.save_changes().unwrap();
        assert!(!dir.path().join("config/topics.json.changes").exists());
        let last = new();
        load(&last, &file()).unwrap();
        same(&last);
    }

    #[test]
    fn a_file_of_apache_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = StateFile::new(Arc::new(RealDisk), dir.path(), TABLE, &[]);
        let text = "{\n\t\"dataVersion\":{\n\t\t\"counter\":3,\n\t\t\"stateVersion\":0,\n\t\t\"timestamp\":1795397296379\n\t},\n\
                    \t\"topicConfigTable\":{\n\t\t\"a\":{\n\t\t\t\"attributes\":{},\n\t\t\t\"order\":false,\n\t\t\t\"perm\":7,\n\
                    \t\t\t\"readQueueNums\":18,\n\t\t\t\"topicFilterType\":\"SINGLE_TAG\",\n\t\t\t\"topicName\":\"a\",\n\
                    \t\t\t\"topicSysFlag\":0,\n\t\t\t\"writeQueueNums\":18\n\t\t}\n\t}\n}";
        file.save(text.as_bytes()).unwrap();
        let topics = topics(vec![]);
        load(&topics, &file).unwrap();
        assert_eq!((topics.find("a").unwrap().perm, topics.version().counter), (7, 3));
        file.save(&topics.content().1).unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("config/topics.json")).unwrap(), text);
    }

    #[test]
    fn the_brokers_permission_limits_that_of_topics() {
        let topics = topics(vec![Spec::new("a", 1)]);
        assert_eq!(configs(&topics, 6).1["a"].perm, 6);
        assert_eq!(configs(&topics, 4).1["a"].perm, 4);
    }
}
