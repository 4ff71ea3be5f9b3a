//! `topicQueueMapping.json` in Apache's format. It exists only if there was a static topic.

use crate::state_file::{StateFile, Table, Versioned, pretty};
use crate::topic::Topics;
use protocol::static_topic::QueueMappingDetail;
use protocol::{DataVersion, json};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// The file of this table.
pub const TABLE: Table = Table {
    name: "topicQueueMapping.json",
    holds: "which physical queues the logical queues of static topics consist of",
    without: "the messages are kept, but clients of static topics are refused until their mapping is restored: remappingStaticTopic -mf \
              FILE -fr true, with a file that it wrote when the topic was last changed",
    is_made_again: false,
    check: |content| json::read::<Saved>(content).map(drop),
};

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Saved {
    data_version: DataVersion,
    topic_queue_mapping_info_map: BTreeMap<String, QueueMappingDetail>,
}

/// The mappings of the topics in this table, as a file of their own. Loaded after the topics.
#[derive(Debug)]
pub struct Mappings(pub Arc<Topics>);

impl Versioned for Mappings {
    type Version = DataVersion;

    fn load(&self, file: &StateFile) -> io::Result<()> {
        let Some(saved) = file.load(json::read::<Saved>)? else {
            return Ok(());
        };
        let left = self.0.restore_mappings(saved.topic_queue_mapping_info_map, saved.data_version);
        if let Some(topic) = left.first() {
            tracing::warn!(topic, count = left.len(), "mappings of topics that do not exist were dropped");
        }
        Ok(())
    }

    fn version(&self) -> Self::Version {
        self.0.mapping_version()
    }

    fn content(&self) -> (Self::Version, Vec<u8>) {
        let (data_version, topic_queue_mapping_info_map) = self.0.mappings();
        let saved = Saved {
            data_version,
            topic_queue_mapping_info_map,
        };
        (data_version, pretty(&saved))
    }
}

/// The mappings in a master's answer to code 21.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct OfMaster {
    mapping_data_version: DataVersion,
    topic_queue_mapping_detail_map: BTreeMap<String, QueueMappingDetail>,
}

/// Takes over the mappings of a master, from its answer to code 21, after its topics.
///
/// # Errors
/// [`json::JsonError`] if it cannot be parsed; nothing is changed then.
pub fn copy(topics: &Topics, body: &[u8]) -> Result<(), json::JsonError> {
    let of_master = json::read_large::<OfMaster>(body)?;
    if of_master.mapping_data_version != topics.mapping_version() {
        topics.restore_mappings(of_master.topic_queue_mapping_detail_map, of_master.mapping_data_version);
        topics.changed().raise();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::BrokerStats;
    use crate::topic::{Spec, StaticUpdate, TopicLimits};
    use protocol::static_topic::QueueMappingItem;
    use store::disk::real::RealDisk;

    fn topics(names: &[&str]) -> Arc<Topics> {
        let limits = TopicLimits { topics: 10, queues: 64 };
        let specs = names.iter().map(|name| Spec::new(name, 1)).collect();
        Arc::new(Topics::new(specs, limits, Arc::new(BrokerStats::new("c", 100)), Arc::default(), 0))
    }

    fn file(dir: &std::path::Path) -> StateFile {
        StateFile::new(Arc::new(RealDisk), dir, TABLE, &[])
    }

    fn detail(topic: &str, epoch: i64) -> QueueMappingDetail {
        let mut detail = QueueMappingDetail::new(topic, 1, "b", epoch);
        let item = QueueMappingItem {
            bname: "b".to_owned(),
            ..QueueMappingItem::default()
        };
        detail.hosted_queues.insert(0, vec![item]);
        detail
    }

    fn update(topics: &Topics, topic: &str, epoch: i64) {
        let update = StaticUpdate {
            spec: Spec::new(topic, 1),
            changes: Default::default(),
            mapping: detail(topic, epoch),
            broker: "b",
            force: false,
        };
        topics.update_static(update, 7).unwrap();
    }

    #[test]
    fn mappings_survive_a_restart_in_apaches_format() {
        let dir = tempfile::tempdir().unwrap();
        let before = topics(&[]);
        assert_eq!(Mappings(before.clone()).version(), DataVersion::default(), "nothing to save");
        update(&before, "t", 5);
        file(dir.path()).save(&Mappings(before.clone()).content().1).unwrap();
        let text = std::fs::read_to_string(dir.path().join("config/topicQueueMapping.json")).unwrap();
        let expected = "{\n\t\"dataVersion\":{\n\t\t\"counter\":1,\n\t\t\"stateVersion\":0,\n\t\t\"timestamp\":7\n\t},\n\
                        \t\"topicQueueMappingInfoMap\":{\n\t\t\"t\":{\n\t\t\t\"bname\":\"b\",\n\t\t\t\"currIdMap\":{},\n\
                        \t\t\t\"dirty\":false,\n\t\t\t\"epoch\":5,\n\t\t\t\"hostedQueues\":{\n\t\t\t\t\"0\":[";
        assert!(text.starts_with(expected), "{text}");
        let after = topics(&["t", "u"]);
        Mappings(after.clone()).load(&file(dir.path())).unwrap();
        assert_eq!(after.mapping("t").unwrap().detail(), &detail("t", 5));
        assert!(after.mapping("u").is_none() && after.mapping("absent").is_none());
        assert_eq!(after.mapping_version(), before.mapping_version());
    }

    #[test]
    fn a_mapping_goes_with_its_topic_and_stays_when_the_topic_changes() {
        let topics = topics(&["other"]);
        update(&topics, "t", 5);
        topics.update(vec![(Spec::new("t", 3), Default::default())], 8).unwrap();
        assert_eq!(topics.mapping("t").unwrap().detail().epoch, 5);
        let version = topics.mapping_version();
        drop(topics.begin_deletion("t", 9));
        assert_ne!(topics.mapping_version(), version);
        assert!(topics.mapping("t").is_none() && topics.mappings().1.is_empty());
    }

    #[test]
    fn a_slave_copies_the_mappings_of_its_master() {
        let (master, slave) = (topics(&["t"]), topics(&["t"]));
        update(&master, "t", 5);
        let answer = |topics: &Topics| {
            let frame = protocol::Frame::request(protocol::RequestCode::GetAllTopicConfig);
            crate::topic::handler::all(&frame, topics).unwrap().body
        };
        copy(&slave, &answer(&master)).unwrap();
        assert_eq!(slave.mapping("t").unwrap().detail().epoch, 5);
        assert_eq!(slave.mapping_version(), master.mapping_version());
        drop(master.begin_deletion("t", 9));
        copy(&slave, &answer(&master)).unwrap();
        assert!(slave.mapping("t").is_none());
    }
}
