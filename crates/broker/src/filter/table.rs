//! `consumerFilter.json` as Apache writes it.
//!
//! ```text
//! {"filterDataByTopic":{"topic":{"groupFilterData":{"group":{"bornTime":1700000000000,"clientVersion":1,"consumerGroup":"group",
//!   "dead":false,"deadTime":0,"expression":"a > 5","expressionType":"SQL92","topic":"topic"}},"topic":"topic"}}}
//! ```
//!
//! Each has `bloomFilterData` too; see [`Bloom`].

use super::bloom::{Bits, Bloom};
use super::registered::{Filters, Registered};
use crate::state_file::{SavedTable, StateFile, Table, pretty};
use parking_lot::Mutex;
use protocol::heartbeat::SQL92;
use protocol::json;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// What the table's file is and holds.
pub const TABLE: Table = Table {
    name: "consumerFilter.json",
    holds: "the SQL filters of consumer groups",
    without: "the heartbeats of the groups register them again",
    is_made_again: true,
    check: |content| json::read::<Saved>(content).map(drop),
};

/// How often it is saved, as Apache does.
const PERIOD: Duration = Duration::from_secs(10);

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Saved {
    filter_data_by_topic: BTreeMap<String, SavedTopic>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SavedTopic {
    group_filter_data: BTreeMap<String, SavedFilter>,
    topic: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SavedFilter {
    bloom_filter_data: Bits,
    born_time: i64,
    client_version: i64,
    consumer_group: String,
    dead: bool,
    dead_time: i64,
    expression: String,
    expression_type: String,
    topic: String,
}

impl Saved {
    fn add(&mut self, bloom: Bloom, group: &str, topic: &str, known: &Registered) {
        let of_topic = self.filter_data_by_topic.entry(topic.to_owned()).or_default();
        topic.clone_into(&mut of_topic.topic);
        let filter = SavedFilter {
            bloom_filter_data: bloom.of(group, topic),
            born_time: known.born_ms,
            client_version: known.version,
            consumer_group: group.to_owned(),
            dead: known.dead_ms >= known.born_ms,
            dead_time: known.dead_ms,
            expression: known.text.to_string(),
            expression_type: SQL92.to_owned(),
            topic: topic.to_owned(),
        };
        of_topic.group_filter_data.insert(group.to_owned(), filter);
    }
}

/// The registered expressions and their file, which is not there before one was registered.
pub struct FiltersFile {
    filters: Arc<Filters>,
    file: StateFile,
    bloom: Bloom,
    started_ms: i64,
    /// The number of changes that are on the disk. Held while the file is written, so that it is not replaced by an older one.
    on_disk: Mutex<u64>,
}

impl FiltersFile {
    /// Expressions that are saved in `file`, of a broker that started at `started_ms`.
    #[must_use]
    pub fn new(filters: Arc<Filters>, file: StateFile, bloom: Bloom, started_ms: i64) -> Self {
        Self {
            filters,
            file,
            bloom,
            started_ms,
            on_disk: Mutex::new(0),
        }
    }
}

/// Compat: those that were in use count as dead since this long before the start.
const DEAD_BEFORE_START_MS: i64 = 30_000;

impl SavedTable for FiltersFile {
    fn load(&self) -> io::Result<()> {
        let Some(saved) = self.file.load(json::read::<Saved>)? else {
            return Ok(());
        };
        for (topic, of_topic) in saved.filter_data_by_topic {
            for (group, filter) in of_topic.group_filter_data {
                let dead_ms = match filter.dead_time {
                    0 => self.started_ms - DEAD_BEFORE_START_MS,
                    dead_ms => dead_ms,
                };
                let (text, version) = (&*filter.expression, filter.client_version);
                self.filters.restore(&group, &topic, text, version, filter.born_time, dead_ms);
            }
        }
        Ok(())
    }

    fn save(&self) -> io::Result<()> {
        let mut on_disk = self.on_disk.lock();
        let mut saved = Saved::default();
        let add = |group: &str, topic: &str, known: &Registered| saved.add(self.bloom, group, topic, known);
        let Some(changes) = self.filters.changed_since(*on_disk, add) else {
            return Ok(());
        };
        self.file.save(&pretty(&saved))?;
        *on_disk = changes;
        Ok(())
    }

    fn period(&self) -> Option<Duration> {
        Some(PERIOD)
    }

    fn name(&self) -> &'static str {
        self.file.name()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::heartbeat::Subscription;
    use std::path::Path;
    use store::disk::Disk;
    use store::disk::simulated::SimulatedDisk;

    fn opened(disk: &SimulatedDisk, started_ms: i64) -> (Arc<Filters>, FiltersFile) {
        let (filters, disk): (_, Arc<dyn Disk>) = (Arc::new(Filters::default()), Arc::new(disk.clone()));
        let file = StateFile::new(disk, Path::new("/s"), TABLE, &[]);
        let file = FiltersFile::new(filters.clone(), file, Bloom::new(20, 32), started_ms);
        file.load().unwrap();
        (filters, file)
    }

    #[test]
    fn expressions_survive_a_restart() {
        let disk = SimulatedDisk::new(1);
        let (filters, file) = opened(&disk, 0);
        file.save().unwrap();
        assert!(
            disk.read(Path::new("/s/config/consumerFilter.json")).is_err(),
            "no expression, no file"
        );
        let told = Subscription {
            topic: "t".to_owned(),
            sub_string: "a > 5 AND b = 'x'".to_owned(),
            sub_version: 7,
            expression_type: SQL92.to_owned(),
            ..Subscription::default()
        };
        filters.register("g", std::slice::from_ref(&told), 1_000);
        file.save().unwrap();
        let (filters, file) = opened(&disk, 100_000);
        let known = filters.find("g", "t").unwrap();
        assert_eq!((&*known.text, known.version), (&*told.sub_string, 7));
        assert_eq!((known.born_ms, known.dead_ms), (1_000, 70_000));
        assert!(known.expression.selects(b"a\x016\x02b\x01x\x02"));
        filters.register("g", &[told], 100_001);
        file.save().unwrap();
        let text = String::from_utf8(disk.read(Path::new("/s/config/consumerFilter.json")).unwrap()).unwrap();
        assert!(text.contains(r#""deadTime":0,"#) && text.contains(r#""bornTime":1000,"#), "{text}");
        assert!(
            text.replace(char::is_whitespace, "")
                .contains(r#""bitNum":112,"bitPos":[22,87,58]"#),
            "{text}"
        );
    }

    #[test]
    fn a_file_of_the_java_broker_is_read() {
        let disk = SimulatedDisk::new(1);
        let written = br#"{"filterDataByTopic":{"t":{"groupFilterData":{
            "g":{"bloomFilterData":{"bitNum":112,"bitPos":[12,77,30]},"bornTime":1,"clientVersion":9,"consumerGroup":"g","dead":false,
              "deadTime":0,"expression":"a BETWEEN 0 AND 3","expressionType":"SQL92","topic":"t"},
            "h":{"bornTime":1,"clientVersion":9,"consumerGroup":"h","deadTime":5,"expression":"a >","expressionType":"SQL92","topic":"t"}
            },"topic":"t"}}}"#;
        let on: Arc<dyn Disk> = Arc::new(disk.clone());
        StateFile::new(on, Path::new("/s"), TABLE, &[]).save(written).unwrap();
        let (filters, _) = opened(&disk, 100_000);
        assert_eq!(filters.find("g", "t").unwrap().version, 9);
        assert!(filters.find("h", "t").is_none(), "it cannot be compiled");
    }
}
