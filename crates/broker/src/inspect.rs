//! Checks the configuration files of a store without a running broker, for `apogeemq store check` and `apogeemq store dump`.
//!
//! Each file and its backup are read as at a start, and committed offsets are compared with the ends of the queues: with an offset
//! after the end the group would miss the messages before it.
//!
//! Not here: log, queues and index ([`store::inspect`]).

use crate::offset::table::Saved as Offsets;
use crate::settings::LIVE_FILE;
use crate::state_file::changes;
use crate::upkeep::table_of;
use crate::{offset, topic};
use message::names;
use protocol::json;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use store::disk::{Disk, if_exists, with_suffix};
use store::inspect::{Finding, Findings, Part, Report, Severity};
use store::json_file::{damage, without_nul_tail};

const DAMAGED: &str = "configuration files that cannot be read; the backup is used, without the latest changes";
const LOST: &str = "configuration files that cannot be read, and neither can their backup: the broker does not start";
const REBUILT: &str = "configuration files that cannot be read, and neither can their backup: the broker rebuilds them";
const REPLACED: &str = "missing configuration files; the backup is used";
const BACKUP: &str = "backups that cannot be read";
const AFTER_END: &str = "committed offsets after the end of their queue: new messages before these offsets would not be delivered";
const NO_TOPIC: &str = "topics that have messages but are not in topics.json: they cannot be consumed until the topic is created again";
const NO_TOPICS: &str = "topics that have messages, without a readable topics.json: they cannot be consumed until the topic is \
                         made again";

/// The content of the configuration files.
#[derive(Debug, Default)]
pub struct ConfigFiles {
    findings: Findings,
    topics: Option<BTreeSet<String>>,
    offsets: Offsets,
    /// Names of the files.
    pub names: Vec<String>,
    /// Whether any table exists, even if it cannot be read. A copy of only log and queues has none.
    has_tables: bool,
}

impl ConfigFiles {
    /// Reads the configuration files of a store. Call it before the queues are read: then the offsets of a running broker are not
    /// after the ends of its queues.
    ///
    /// # Errors
    /// `io::Error` if a file or the directory cannot be read.
    pub fn read(disk: &dyn Disk, store_root: &Path) -> io::Result<Self> {
        let mut files = Self::default();
        if let Some(example) = live_settings(disk, store_root)? {
            files.findings.add(Severity::Damage, Part::Config, LOST, || example);
        }
        for path in paths(disk, store_root)? {
            files.has_tables = true;
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if let Some(content) = files.content(disk, &path, &name)? {
                files.take(&name, &content);
                files.names.push(name);
            }
        }
        Ok(files)
    }

    /// The content that a start would use, if any.
    fn content(&mut self, disk: &dyn Disk, path: &Path, name: &str) -> io::Result<Option<Vec<u8>>> {
        let backup = with_suffix(path, ".bak");
        let (main, spare) = (if_exists(changes::read_with_changes(disk, path))?, if_exists(disk.read(&backup))?);
        let why = main.as_ref().map(|content| check(name, content));
        let spare_why = spare.as_ref().map(|content| check(name, content));
        if let Some(Err(why)) = &spare_why {
            self.findings
                .add(Severity::Note, Part::Config, BACKUP, || format!("{}: {why}", backup.display()));
        }
        match (why, spare_why) {
            (Some(Ok(())), _) => return Ok(main),
            (None, None) => return Ok(None),
            (None | Some(Err(_)), None | Some(Err(_))) if table_of(name).is_some_and(|table| table.is_made_again) => {
                self.findings
                    .add(Severity::Recovery, Part::Config, REBUILT, || path.display().to_string());
                return Ok(None);
            }
            (None, Some(Ok(()))) => self
                .findings
                .add(Severity::Recovery, Part::Config, REPLACED, || path.display().to_string()),
            (Some(Err(why)), Some(Ok(()))) => self
                .findings
                .add(Severity::Damage, Part::Config, DAMAGED, || format!("{}: {why}", path.display())),
            (why, _) => {
                let why = why.and_then(Result::err).unwrap_or_else(|| "it is missing".to_owned());
                self.findings
                    .add(Severity::Damage, Part::Config, LOST, || format!("{}: {why}", path.display()));
                return Ok(None);
            }
        }
        Ok(spare)
    }

    fn take(&mut self, name: &str, content: &[u8]) {
        match name {
            topic::table::FILE => self.topics = topic::table::names(content).ok().map(|names| names.into_iter().collect()),
            offset::table::FILE => self.offsets = offset::table::parse(content).unwrap_or_default(),
            _ => {}
        }
    }

    /// Compares the files with the queues of the report and adds the findings to it.
    pub fn add_to(mut self, report: &mut Report) {
        self.compare_offsets(report);
        self.compare_topics(report);
        report.findings.extend(self.findings.finish());
        report
            .findings
            .sort_by_key(|found: &Finding| (found.severity, found.part, found.what));
    }

    fn compare_offsets(&mut self, report: &Report) {
        let severity = if report.stopped_in_order {
            Severity::Damage
        } else {
            Severity::Recovery
        };
        for (pair, queues) in &self.offsets.offset_table {
            let Some((topic, group)) = pair.split_once('@') else { continue };
            for (queue_id, offset) in queues {
                let ends = report.queue_ends.get(&(topic.to_owned(), *queue_id));
                if let Some(ends) = ends.filter(|ends| *offset > ends.max) {
                    self.findings.add(severity, Part::Config, AFTER_END, || {
                        format!(
                            "group {group} on {topic}/{queue_id} has committed {offset}, the max offset is {}",
                            ends.max
                        )
                    });
                }
            }
        }
    }

    fn compare_topics(&mut self, report: &Report) {
        let mut messages: BTreeMap<&str, i64> = BTreeMap::new();
        for ((topic, _), ends) in &report.queue_ends {
            *messages.entry(topic).or_default() += ends.max - ends.min;
        }
        let (severity, what) = match self.topics {
            Some(_) => (Severity::Note, NO_TOPIC),
            None if self.has_tables => (Severity::Damage, NO_TOPICS),
            None => (Severity::Note, NO_TOPICS),
        };
        let is_known = |topic: &str| match &self.topics {
            Some(topics) => topics.contains(topic),
            None => names::is_system_topic(topic),
        };
        for (topic, messages) in messages.into_iter().filter(|(topic, messages)| *messages > 0 && !is_known(topic)) {
            self.findings
                .add(severity, Part::Config, what, || format!("{topic}: {messages} messages"));
        }
    }
}

/// Damage of the file with changed live settings. It is not a table and has no backup.
fn live_settings(disk: &dyn Disk, store_root: &Path) -> io::Result<Option<String>> {
    let path = store_root.join("config").join(LIVE_FILE);
    let Some(content) = if_exists(disk.read(&path))? else {
        return Ok(None);
    };
    let why = if content.is_empty() || content.contains(&0) {
        Some("it is empty or contains NUL bytes".to_owned())
    } else {
        config::properties::parse_bytes(&content).err().map(|error| error.to_string())
    };
    Ok(why.map(|why| format!("{}: {why}", path.display())))
}

/// The JSON files in `config`, including those of which only the backup exists.
fn paths(disk: &dyn Disk, store_root: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let dir = store_root.join("config");
    let entries = if_exists(disk.list(&dir))?.unwrap_or_default();
    let names = entries.iter().filter(|entry| !entry.is_dir).map(|entry| entry.name.as_str());
    let tables = names.map(|name| name.strip_suffix(".bak").unwrap_or(name));
    Ok(tables.filter(|name| name.ends_with(".json")).map(|name| dir.join(name)).collect())
}

/// Checks whether a start could read the file.
fn check(name: &str, content: &[u8]) -> Result<(), String> {
    if let Some(why) = damage(content) {
        return Err(why.to_owned());
    }
    let content = without_nul_tail(content);
    match table_of(name) {
        Some(table) => (table.check)(content).map_err(|error| error.to_string()),
        None => value(content).map(drop),
    }
}

fn value(content: &[u8]) -> Result<Value, String> {
    let large = json::read_large(content);
    large.or_else(|_| json::read(content)).map_err(|error| error.to_string())
}

/// An entry of a configuration file: a member of one of its tables, or a plain value.
#[derive(Debug)]
pub struct ConfigEntry {
    /// Name of the file.
    pub file: String,
    /// The table that contains it; empty for a plain value of the file.
    pub table: String,
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: Value,
}

/// Visits the entries of one configuration file, or of all. `visit` returns whether to continue.
///
/// # Errors
/// `io::Error` if a file does not exist, cannot be read or is not a JSON object.
pub fn entries(disk: &dyn Disk, store_root: &Path, file: Option<&str>, visit: &mut dyn FnMut(ConfigEntry) -> bool) -> io::Result<()> {
    let paths: Vec<PathBuf> = match file {
        Some(file) => vec![store_root.join("config").join(file)],
        None => paths(disk, store_root)?.into_iter().collect(),
    };
    for path in paths {
        let named = |error: &dyn std::fmt::Display| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()));
        let bytes = match changes::read_with_changes(disk, &path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && file.is_none() => continue,
            read => read.map_err(|error| named(&error))?,
        };
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let Value::Object(members) = value(&bytes).map_err(|error| named(&error))? else {
            return Err(named(&"it is not a JSON object"));
        };
        for (member, value) in members {
            let (table, rows) = match value {
                Value::Object(rows) if member != "dataVersion" => (member, rows.into_iter().collect()),
                value => (String::new(), vec![(member, value)]),
            };
            for (key, value) in rows {
                let (file, table) = (name.clone(), table.clone());
                if !visit(ConfigEntry { file, table, key, value }) {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use store::disk::OpenMode;
    use store::disk::simulated::SimulatedDisk;
    use store::inspect::{InspectOptions, QueueEnds, check};
    use store::{FlushMode, StoreOptions};

    const ROOT: &str = "/s";
    const OFFSETS: &str = "{\"offsetTable\":{\"t@g\":{0:5,1:9},\"gone@g\":{0:3}}}";

    fn disk(files: &[(&str, &str)]) -> SimulatedDisk {
        let disk = SimulatedDisk::new(1);
        for dir in ["commitlog", "config"] {
            disk.create_dir_all(&Path::new(ROOT).join(dir)).unwrap();
        }
        for (name, content) in files {
            let file = disk
                .open(&Path::new(ROOT).join("config").join(name), OpenMode::WriteOrCreate)
                .unwrap();
            file.write_at(content.as_bytes(), 0).unwrap();
        }
        disk
    }

    fn findings(files: &[(&str, &str)], ends: &[(&str, i32, i64)]) -> Vec<(Severity, &'static str, Vec<String>)> {
        let disk: Arc<dyn Disk> = Arc::new(disk(files));
        let options = InspectOptions::of(&StoreOptions::small(ROOT, FlushMode::Sync));
        let mut report = check(&disk, &options, &mut |_| {}).unwrap();
        report.findings.clear();
        for (topic, queue, max) in ends {
            report
                .queue_ends
                .insert(((*topic).to_owned(), *queue), QueueEnds { min: 0, max: *max });
        }
        ConfigFiles::read(&*disk, Path::new(ROOT)).unwrap().add_to(&mut report);
        report
            .findings
            .into_iter()
            .map(|found| (found.severity, found.what, found.examples))
            .collect()
    }

    #[test]
    fn valid_files_of_java_and_of_this_broker_have_no_findings() {
        let files = [
            (offset::table::FILE, OFFSETS),
            (topic::table::FILE, "{\"topicConfigTable\":{\"t\":{}}}"),
            ("delayOffset.json", "{\"offsetTable\":{1:5}}"),
            ("delayOffset.json.bak", "{}"),
        ];
        assert_eq!(findings(&files, &[("t", 0, 5), ("t", 1, 9)]), []);
    }

    #[test]
    fn an_offset_after_the_end_of_its_queue_is_found_except_for_a_deleted_queue() {
        let files = [
            (offset::table::FILE, OFFSETS),
            (topic::table::FILE, "{\"topicConfigTable\":{\"t\":{}}}"),
        ];
        let found = findings(&files, &[("t", 0, 4), ("t", 1, 9)]);
        let text = "group g on t/0 has committed 5, the max offset is 4".to_owned();
        assert_eq!(found, [(Severity::Damage, AFTER_END, vec![text])]);
    }

    #[test]
    fn messages_of_topics_that_do_not_exist_are_found() {
        let ends = [("t", 0, 5), ("t", 1, 9), ("empty", 0, 0), (names::SCHEDULE_TOPIC, 0, 3)];
        let text = vec!["t: 14 messages".to_owned()];
        let topics = format!("{{\"topicConfigTable\":{{\"{}\":{{}}}}}}", names::SCHEDULE_TOPIC);
        let found = findings(&[(topic::table::FILE, &topics)], &ends);
        assert_eq!(found, [(Severity::Note, NO_TOPIC, text.clone())]);
        assert_eq!(
            findings(&[("subscriptionGroup.json", "{}")], &ends),
            [(Severity::Damage, NO_TOPICS, text.clone())]
        );
        assert_eq!(findings(&[], &ends), [(Severity::Note, NO_TOPICS, text)], "a store without tables");
        assert_eq!(findings(&[], &[("empty", 0, 0)]), []);
    }

    #[test]
    fn damage_is_reported_with_its_consequence() {
        let kinds = |files: &[(&str, &str)]| {
            findings(files, &[])
                .into_iter()
                .map(|(severity, what, _)| (severity, what))
                .collect::<Vec<_>>()
        };
        assert_eq!(kinds(&[("topics.json", "{")]), [(Severity::Damage, LOST)]);
        assert_eq!(
            kinds(&[("topics.json", "{"), ("topics.json.bak", "{}")]),
            [(Severity::Damage, DAMAGED)]
        );
        assert_eq!(
            kinds(&[("topics.json", ""), ("topics.json.bak", "{}")]),
            [(Severity::Damage, DAMAGED)]
        );
        assert_eq!(kinds(&[("topics.json.bak", "{}")]), [(Severity::Recovery, REPLACED)]);
        assert_eq!(
            kinds(&[("topics.json", "{}"), ("topics.json.bak", "x")]),
            [(Severity::Note, BACKUP)]
        );
        for content in ["", "\0\0\0", "[]", "{"] {
            for name in [
                "topics.json",
                "subscriptionGroup.json",
                "consumerOffset.json",
                "messageRequestMode.json",
            ] {
                assert_eq!(kinds(&[(name, content)]), [(Severity::Damage, LOST)], "{name} {content:?}");
            }
            assert_eq!(
                kinds(&[("delayOffset.json", content)]),
                [(Severity::Recovery, REBUILT)],
                "{content:?}"
            );
        }
        for content in ["", "\0\0", "a=\0", "a=\\u1"] {
            assert_eq!(kinds(&[(LIVE_FILE, content)]), [(Severity::Damage, LOST)], "{content:?}");
        }
        assert_eq!(kinds(&[(LIVE_FILE, "# changed\nmaxMessageSize=1\n")]), []);
    }

    #[test]
    fn entries_are_the_members_of_the_tables() {
        let disk = disk(&[(offset::table::FILE, OFFSETS), ("messageRequestMode.json", "{\"a\":1}")]);
        let mut seen = Vec::new();
        let mut note = |entry: ConfigEntry| {
            seen.push(format!("{} {} {} {}", entry.file, entry.table, entry.key, entry.value));
            true
        };
        entries(&disk, Path::new(ROOT), None, &mut note).unwrap();
        assert_eq!(
            seen,
            [
                "consumerOffset.json offsetTable gone@g {\"0\":3}",
                "consumerOffset.json offsetTable t@g {\"0\":5,\"1\":9}",
                "messageRequestMode.json  a 1",
            ]
        );
        assert!(entries(&disk, Path::new(ROOT), Some("no.json"), &mut |_| true).is_err());
    }
}
