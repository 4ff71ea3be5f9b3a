//! `consumerOffset.json`, and the body of the response to 43, which is the same text without line breaks.
//!
//! ```text
//! {"dataVersion":{"counter":0,"stateVersion":0,"timestamp":1700000000000},
//!  "groupTopicMap":{},
//!  "offsetTable":{"topic@group":{0:123,1:45}},
//!  "pullOffsetTable":{},
//!  "resetOffsetTable":{"topic@group":{0:100}}}
//! ```
//!
//! Queue ids have no quotes, as in the output of Java's serializer. What Java derives (`groupTopicMap`) or does not load
//! (`pullOffsetTable`) is written as Apache 5.5 does and ignored when loading. `resetOffsetTable` holds resets that no pull has
//! applied yet. It is an addition of ApogeeMQ that Java ignores; it is only in the file, and only if there are any. A topic or
//! group cannot contain `@`.

use super::Offsets;
use super::offsets::{AllOffsets, ByQueue, TopicGroup, is_light};
use crate::clock::now_ms;
use crate::state_file::{SavedTable, StateFile, Table};
use message::names;
use parking_lot::Mutex;
use protocol::DataVersion;
use protocol::json::{self, JsonError};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The file of this table.
pub const TABLE: Table = Table {
    name: "consumerOffset.json",
    holds: "the committed offset of each consumer group in each queue",
    without: "every group begins where a new one would (consumeFromWhere of its consumers): messages come again or are passed over, until \
              an operator sets it (admin resetOffsetByTime)",
    is_made_again: false,
    check: |content| parse(content).map(drop),
};
/// The file of all offsets that a Java broker with `enableLmq` keeps instead.
pub const LIGHT_TABLE: Table = Table {
    name: "lmqConsumerOffset.json",
    ..TABLE
};
/// Name of the file.
pub const FILE: &str = TABLE.name;

/// Content of a file.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Saved {
    /// The table's version.
    pub data_version: DataVersion,
    /// `topic@group` to queue id to offset.
    pub offset_table: BTreeMap<String, ByQueue>,
    /// Pending resets, in the same format.
    pub reset_offset_table: BTreeMap<String, ByQueue>,
    /// `topic@group` to the offset in queue 0, of groups named like light queues.
    pub lmq_offset_table: BTreeMap<String, i64>,
}

/// Parses a file written by Java or by ApogeeMQ.
///
/// # Errors
/// [`JsonError`] if it is not JSON of this format.
pub fn parse(content: &[u8]) -> Result<Saved, JsonError> {
    json::read_large(content)
}

/// Loads the content of a file into an empty table.
pub fn restore(offsets: &Offsets, saved: &Saved) {
    restore_each(offsets, &saved.offset_table, false);
    restore_each(offsets, &saved.reset_offset_table, true);
    let light = saved.lmq_offset_table.iter();
    let light = light.map(|(pair, offset)| (pair.clone(), ByQueue::from([(0, *offset)])));
    restore_each(offsets, &light.collect(), false);
    offsets.set_version(saved.data_version);
    offsets.take_dirty();
    offsets.take_moved();
}

fn restore_each(offsets: &Offsets, table: &BTreeMap<String, ByQueue>, are_resets: bool) {
    for (pair, queues) in table {
        let Some((topic, group)) = pair.split_once('@') else {
            tracing::warn!(pair, "saved offset skipped: its key is not topic@group");
            continue;
        };
        for (queue_id, offset) in queues {
            if let Err(error) = offsets.restore(topic, group, *queue_id, *offset, are_resets) {
                tracing::warn!(topic, group, queue_id, offset, %error, "saved offset skipped");
            }
        }
    }
}

/// Takes over the offsets of a master, from its answer to 43. Compat: offsets that the master does not have stay.
///
/// # Errors
/// [`JsonError`] if it cannot be parsed; nothing is changed then.
pub fn copy(offsets: &Offsets, body: &[u8]) -> Result<(), JsonError> {
    let of_master = parse(body)?;
    restore_each(offsets, &of_master.offset_table, false);
    offsets.set_version(of_master.data_version);
    offsets.mark_dirty();
    Ok(())
}

/// Takes over what groups committed at a slave while it acted for this master, from its answer to 43: offsets only advance. Returns how many
/// did.
///
/// # Errors
/// [`JsonError`] if it cannot be parsed; nothing is changed then.
pub fn advance(offsets: &Offsets, body: &[u8]) -> Result<usize, JsonError> {
    let of_slave = parse(body)?;
    let is_ahead =
        |topic: &str, group: &str, queue_id: i32, offset: i64| offsets.committed(topic, group, queue_id).is_none_or(|own| own < offset);
    let mut ahead: BTreeMap<String, ByQueue> = BTreeMap::new();
    for (pair, queues) in of_slave.offset_table {
        let Some((topic, group)) = pair.split_once('@') else { continue };
        let queues: ByQueue = queues
            .into_iter()
            .filter(|(queue_id, offset)| is_ahead(topic, group, *queue_id, *offset))
            .collect();
        if !queues.is_empty() {
            ahead.insert(pair, queues);
        }
    }
    restore_each(offsets, &ahead, false);
    if !ahead.is_empty() {
        offsets.mark_dirty();
    }
    Ok(ahead.values().map(BTreeMap::len).sum())
}

/// Loads the file into an empty table.
///
/// # Errors
/// `io::Error` if the file exists and cannot be read or parsed.
pub fn load(offsets: &Offsets, file: &StateFile) -> io::Result<()> {
    if let Some(saved) = file.load(parse)? {
        restore(offsets, &saved);
    }
    Ok(())
}

/// Loads both files of a broker with light queues. What is in both is that of the newer one: which one was written depends on the keys
/// that the broker had.
fn load_both(offsets: &Offsets, file: &StateFile, light: &StateFile) -> io::Result<()> {
    let mut saved: Vec<Saved> = [file.load(parse)?, light.load(parse)?].into_iter().flatten().collect();
    saved.sort_by_key(|saved| (saved.data_version.timestamp, saved.data_version.counter));
    saved.iter().for_each(|saved| restore(offsets, saved));
    Ok(())
}

/// Writes all offsets if they changed after the last write.
///
/// # Errors
/// `io::Error` if the file cannot be written; the next call tries again.
pub fn save_if_dirty(offsets: &Offsets, file: &StateFile, now_ms: i64) -> io::Result<()> {
    if !offsets.take_dirty() {
        return Ok(());
    }
    let text = text(offsets, offsets.version(now_ms), Layout::File);
    file.save(text.as_bytes()).inspect_err(|_| offsets.mark_dirty())
}

/// How long the file of light queues may lack commits of other queues.
const LIGHT_LAG: Duration = Duration::from_secs(60);

/// The offsets and their file. The response to a reset waits until the file is written; commits of clients are saved every few
/// seconds.
pub struct OffsetsFile {
    offsets: Arc<Offsets>,
    file: StateFile,
    /// Where a Java broker with light queues keeps them; `None` without light queues.
    light: Option<StateFile>,
    period: Duration,
    /// Locked while a file is written, so that an older version never replaces a newer one.
    writing: Mutex<Light>,
}

/// How far the file of light queues is behind the other one, whose offsets it has, too.
#[derive(Debug)]
struct Light {
    lags: bool,
    written: Instant,
}

impl OffsetsFile {
    /// Saves `offsets` in `file`, commits of clients every `period`.
    #[must_use]
    pub fn new(offsets: Arc<Offsets>, file: StateFile, light: Option<StateFile>, period: Duration) -> Self {
        Self {
            offsets,
            file,
            light,
            period,
            writing: Mutex::new(Light {
                lags: false,
                written: Instant::now(),
            }),
        }
    }

    /// Each file is written when its own offsets changed. The one of light queues may be large, and has those of other queues for Java
    /// brokers only: for them it is written once in a while, and `at_the_end`.
    fn save_both(&self, at_the_end: bool) -> io::Result<()> {
        let mut writing = self.writing.lock();
        let Some(light) = &self.light else {
            return save_if_dirty(&self.offsets, &self.file, now_ms());
        };
        let (others_changed, light_changed) = (self.offsets.take_others_dirty(), self.offsets.take_light_dirty());
        writing.lags |= others_changed;
        let is_late = at_the_end || writing.written.elapsed() >= LIGHT_LAG;
        let version = self.offsets.version(now_ms());
        let mut saved = Ok(());
        if light_changed || (writing.lags && is_late) {
            saved = light.save(light_text(&self.offsets.all(), version).as_bytes());
            *writing = Light {
                lags: saved.is_err(),
                written: Instant::now(),
            };
        }
        if others_changed {
            // Those of light queues are many, and in the other file.
            let others = self.offsets.all_of(|topic, group| !is_light(topic, group));
            saved = saved.and(self.file.save(text_of(&others, version, Layout::File).as_bytes()));
        }
        saved.inspect_err(|_| self.offsets.mark_dirty())
    }
}

impl SavedTable for OffsetsFile {
    fn load(&self) -> io::Result<()> {
        match &self.light {
            Some(light) => load_both(&self.offsets, &self.file, light),
            None => load(&self.offsets, &self.file),
        }
    }

    fn save_changes(&self) -> io::Result<()> {
        if !self.offsets.take_moved() {
            return Ok(());
        }
        self.save().inspect_err(|_| self.offsets.mark_moved())
    }

    fn save(&self) -> io::Result<()> {
        self.save_both(false)
    }

    fn save_at_the_end(&self) -> io::Result<()> {
        self.save_both(true)
    }

    fn period(&self) -> Option<Duration> {
        Some(self.period)
    }

    fn name(&self) -> &'static str {
        self.file.name()
    }
}

/// Layout of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// With line breaks and tabs, for the file.
    File,
    /// Without white space, for a response. Compat: Apache's broker writes the numbers of queues without quotes, and its slaves and tools of 5.5.0
    /// cannot read that in `pullOffsetTable`, which they would skip: here they have quotes.
    Body,
}

/// All offsets as text.
#[must_use]
pub fn text(offsets: &Offsets, version: DataVersion, layout: Layout) -> String {
    text_of(&offsets.all(), version, layout)
}

fn text_of(all: &AllOffsets, version: DataVersion, layout: Layout) -> String {
    let with_resets = layout == Layout::File && !all.resets.is_empty();
    let mut out = Lines::new(all.committed.len() * 64 + 256, layout);
    out.open();
    out.version(version);
    out.key("\"groupTopicMap\"");
    group_topics(&mut out, &all.committed);
    out.key("\"offsetTable\"");
    table(&mut out, &all.committed, false);
    out.key("\"pullOffsetTable\"");
    table(&mut out, &all.pulled, !with_resets);
    if with_resets {
        out.key("\"resetOffsetTable\"");
        table(&mut out, &all.resets, true);
    }
    out.close(true);
    out.text
}

/// The text of [`LIGHT_TABLE`]. What Java does not load is left out: it would be as long as all the rest.
fn light_text(all: &AllOffsets, version: DataVersion) -> String {
    let mut out = Lines::new(all.committed.len() * 64 + 256, Layout::File);
    let (light, others): (BTreeMap<_, _>, BTreeMap<_, _>) = all.committed.iter().partition(|((_, group), _)| names::is_light_queue(group));
    let light: Vec<_> = light
        .into_iter()
        .filter_map(|(pair, queues)| Some((pair, *queues.get(&0)?)))
        .collect();
    out.open();
    out.version(version);
    out.key("\"lmqOffsetTable\"");
    out.open();
    for (at, ((topic, group), offset)) in light.iter().enumerate() {
        out.number(&quoted(&format!("{topic}@{group}")), *offset, at + 1 == light.len());
    }
    out.close(false);
    out.key("\"offsetTable\"");
    table(&mut out, others, all.resets.is_empty());
    if !all.resets.is_empty() {
        out.key("\"resetOffsetTable\"");
        table(&mut out, &all.resets, true);
    }
    out.close(true);
    out.text
}

fn group_topics(out: &mut Lines, committed: &BTreeMap<TopicGroup, ByQueue>) {
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (topic, group) in committed.keys() {
        groups.entry(group).or_default().push(topic);
    }
    out.open();
    let last = groups.len();
    for (at, (group, topics)) in groups.into_iter().enumerate() {
        out.key(&quoted(group));
        let topics: Vec<String> = topics.into_iter().map(quoted).collect();
        out.text.push('[');
        out.text.push_str(&topics.join(","));
        out.text.push(']');
        out.end(at + 1 == last);
    }
    out.close(false);
}

fn table<'t, I>(out: &mut Lines, table: I, last_of_all: bool)
where
    I: IntoIterator<Item = (&'t TopicGroup, &'t ByQueue), IntoIter: ExactSizeIterator>,
{
    out.open();
    let table = table.into_iter();
    let last = table.len();
    for (at, ((topic, group), queues)) in table.enumerate() {
        out.key(&quoted(&format!("{topic}@{group}")));
        out.open();
        let last_queue = queues.len();
        for (at, (queue_id, offset)) in queues.iter().enumerate() {
            let key = match out.layout {
                Layout::File => queue_id.to_string(),
                Layout::Body => format!("\"{queue_id}\""),
            };
            out.number(&key, *offset, at + 1 == last_queue);
        }
        out.close(at + 1 == last);
    }
    out.close(last_of_all);
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Writes JSON objects in fastjson's layout.
pub(crate) struct Lines {
    text: String,
    depth: usize,
    layout: Layout,
}

impl Lines {
    pub(crate) fn new(capacity: usize, layout: Layout) -> Self {
        Self {
            text: String::with_capacity(capacity),
            depth: 0,
            layout,
        }
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }

    /// The `dataVersion` member that starts every table.
    pub(crate) fn version(&mut self, version: DataVersion) {
        self.key("\"dataVersion\"");
        self.open();
        self.number("\"counter\"", version.counter, false);
        self.number("\"stateVersion\"", version.state_version, false);
        self.number("\"timestamp\"", version.timestamp, true);
        self.close(false);
    }

    fn line(&mut self) {
        if self.layout == Layout::File {
            self.text.push('\n');
            self.text.extend(std::iter::repeat_n('\t', self.depth));
        }
    }

    pub(crate) fn open(&mut self) {
        self.text.push('{');
        self.depth += 1;
    }

    pub(crate) fn key(&mut self, key: &str) {
        self.line();
        self.text.push_str(key);
        self.text.push(':');
    }

    pub(crate) fn number(&mut self, key: &str, number: i64, last: bool) {
        self.key(key);
        let _ = write!(self.text, "{number}");
        self.end(last);
    }

    fn end(&mut self, last: bool) {
        if !last {
            self.text.push(',');
        }
    }

    pub(crate) fn close(&mut self, last: bool) {
        self.depth -= 1;
        if !self.text.ends_with('{') {
            self.line();
        }
        self.text.push('}');
        if self.depth > 0 {
            self.end(last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use store::disk::real::RealDisk;

    fn some() -> Offsets {
        let offsets = Offsets::new(Default::default());
        offsets.commit("t", "g", 0, 7).unwrap();
        offsets.commit("t", "g", 3, 9).unwrap();
        offsets.commit("%RETRY%g", "g", 0, 1).unwrap();
        offsets.pulled_to("t", "g", 0, 8).unwrap();
        offsets
    }

    const VERSION: DataVersion = DataVersion {
        counter: 2,
        state_version: 0,
        timestamp: 1000,
    };

    #[test]
    fn the_body_is_javas_with_quotes() {
        let expected = concat!(
            r#"{"dataVersion":{"counter":2,"stateVersion":0,"timestamp":1000},"groupTopicMap":{"g":["%RETRY%g","t"]},"#,
            r#""offsetTable":{"%RETRY%g@g":{"0":1},"t@g":{"0":7,"3":9}},"pullOffsetTable":{"t@g":{"0":8}}}"#
        );
        assert_eq!(text(&some(), VERSION, Layout::Body), expected);
    }

    #[test]
    fn a_pending_reset_survives_a_restart() {
        let offsets = some();
        offsets.reset("t", "g", 3, 4).unwrap();
        assert!(!text(&offsets, VERSION, Layout::Body).contains("reset"));
        let restored = |offsets: &Offsets| {
            let after = Offsets::new(Default::default());
            restore(&after, &parse(text(offsets, VERSION, Layout::File).as_bytes()).unwrap());
            after
        };
        let after = restored(&offsets);
        assert_eq!(after.take_reset("t", "g", 0), None);
        assert_eq!(after.take_reset("t", "g", 3), Some(4));
        assert!(after.take_dirty());
        assert_eq!(restored(&after).take_reset("t", "g", 3), None);
    }

    #[test]
    fn an_empty_file_equals_apaches() {
        let expected = "{\n\t\"dataVersion\":{\n\t\t\"counter\":2,\n\t\t\"stateVersion\":0,\n\t\t\"timestamp\":1000\n\t},\n\
                        \t\"groupTopicMap\":{},\n\t\"offsetTable\":{},\n\t\"pullOffsetTable\":{}\n}";
        assert_eq!(text(&Offsets::new(Default::default()), VERSION, Layout::File), expected);
    }

    #[test]
    fn a_written_table_is_read_back() {
        for layout in [Layout::File, Layout::Body] {
            let saved = parse(text(&some(), VERSION, layout).as_bytes()).unwrap();
            assert_eq!(saved.data_version, VERSION);
            let offsets = Offsets::new(Default::default());
            restore(&offsets, &saved);
            assert_eq!(offsets.committed("t", "g", 3), Some(9));
            assert_eq!(offsets.committed("%RETRY%g", "g", 0), Some(1));
            assert!(!offsets.take_dirty());
        }
    }

    #[test]
    fn only_a_changed_table_is_saved_and_a_restart_loads_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = StateFile::new(Arc::new(RealDisk), dir.path(), TABLE, &[]);
        let offsets = some();
        save_if_dirty(&offsets, &file, 5).unwrap();
        let path = dir.path().join("config").join(FILE);
        std::fs::remove_file(&path).unwrap();
        save_if_dirty(&offsets, &file, 6).unwrap();
        assert!(!path.exists(), "nothing changed");
        offsets.commit("t", "g", 3, 10).unwrap();
        save_if_dirty(&offsets, &file, 7).unwrap();
        let after = Offsets::new(Default::default());
        load(&after, &file).unwrap();
        assert_eq!(after.committed("t", "g", 3), Some(10));
    }

    #[test]
    fn commits_of_other_queues_do_not_write_the_file_of_light_queues_until_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let file = |table| StateFile::new(Arc::new(RealDisk), dir.path(), table, &[]);
        let offsets = Arc::new(some());
        let both = OffsetsFile::new(Arc::clone(&offsets), file(TABLE), Some(file(LIGHT_TABLE)), Duration::from_secs(5));
        let written = || {
            let config = dir.path().join("config");
            let names = [FILE, "lmqConsumerOffset.json"].map(|name| config.join(name));
            names.map(|path| path.exists() && std::fs::remove_file(path).is_ok())
        };
        both.save().unwrap();
        assert_eq!(written(), [true, false]);
        offsets.commit("%LMQ%a", "%LMQ%a", 0, 3).unwrap();
        both.save().unwrap();
        assert_eq!(written(), [false, true]);
        offsets.commit("t", "g", 3, 10).unwrap();
        both.save().unwrap();
        assert_eq!(written(), [true, false]);
        both.save_at_the_end().unwrap();
        assert_eq!(written(), [false, true], "for a Java broker, which reads no other one");
        both.save_at_the_end().unwrap();
        assert_eq!(written(), [false, false]);
    }

    #[test]
    fn quoted_keys_and_unusual_names_are_read() {
        let saved = parse(br#"{"offsetTable":{"a\\\"{1:@g":{"0":5, 12:6,-1:3},"no pair":{0:1}},"list":[1,2]}"#).unwrap();
        let offsets = Offsets::new(Default::default());
        restore(&offsets, &saved);
        assert_eq!(offsets.of_group_on_topic("a\\\"{1:", "g"), ByQueue::from([(0, 5), (12, 6)]));
        assert!(parse(b"{").is_err());
        assert!(parse(b"").is_err());
    }
}
