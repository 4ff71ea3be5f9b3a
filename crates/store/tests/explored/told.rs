//! What senders and operators were told, and the checks of what is left.

use super::{key_of, open, options, read};
use message::record::{Placement, Record};
use shuttle::sync::Arc;
use std::collections::{BTreeMap, HashMap};
use store::FlushMode;
use store::disk::Disk;
use store::disk::simulated::SimulatedDisk;
use store::inspect::{InspectOptions, check};

/// A message that a reader found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) topic: String,
    pub(crate) queue_id: i32,
    pub(crate) body: String,
    pub(crate) queue_offset: i64,
    pub(crate) log_offset: i64,
    pub(crate) log_end: i64,
    pub(crate) store_timestamp: i64,
}

impl Found {
    pub(crate) fn of(record: &Record<'_>) -> Self {
        Self {
            topic: record.topic.to_owned(),
            queue_id: record.queue_id,
            body: String::from_utf8(record.body.to_vec()).unwrap(),
            queue_offset: record.queue_offset.0,
            log_offset: record.log_offset.0,
            log_end: record.log_offset.0 + record.size as i64,
            store_timestamp: record.store_timestamp,
        }
    }
}

#[derive(Clone, Debug)]
struct Sent {
    topic: &'static str,
    queue_id: i32,
    /// How many deletions of its topic had ended before it was appended.
    life: u32,
    placed: Placement,
    /// How many deletions of its topic had begun when it was acknowledged.
    acknowledged: Option<u32>,
    /// A reader did not find it after a deletion.
    is_deleted: bool,
}

/// Deletions of a topic.
#[derive(Clone, Copy, Debug, Default)]
struct Deletions {
    begun: u32,
    ended: u32,
}

/// What was told so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    serial: u32,
    sent: BTreeMap<String, Sent>,
    deletions: HashMap<&'static str, Deletions>,
}

impl Told {
    /// Begins with the topic's name.
    pub(crate) fn next_body(&mut self, topic: &str) -> String {
        self.serial += 1;
        format!("{topic}-{:03}", self.serial)
    }

    /// How many deletions of a topic have ended.
    pub(crate) fn life_of(&self, topic: &str) -> u32 {
        self.deletions.get(topic).map_or(0, |deletions| deletions.ended)
    }

    pub(crate) fn deletion_begins(&mut self, topic: &'static str) {
        self.deletions.entry(topic).or_default().begun += 1;
    }

    /// Returns the topic's messages that were acknowledged by then.
    pub(crate) fn deletion_ends(&mut self, topic: &'static str) -> Vec<String> {
        self.deletions.entry(topic).or_default().ended += 1;
        let acknowledged = self
            .sent
            .iter()
            .filter(|(_, sent)| sent.topic == topic && sent.acknowledged.is_some());
        acknowledged.map(|(body, _)| body.clone()).collect()
    }

    /// These were not found after a deletion had ended.
    pub(crate) fn deleted(&mut self, bodies: &[String]) {
        for body in bodies {
            self.sent.get_mut(body).expect("sent").is_deleted = true;
        }
    }

    pub(crate) fn sent(&mut self, topic: &'static str, queue_id: i32, life: u32, bodies: &[String], placed: &[Placement]) {
        for (body, placed) in bodies.iter().zip(placed) {
            let sent = Sent {
                topic,
                queue_id,
                life,
                placed: *placed,
                acknowledged: None,
                is_deleted: false,
            };
            self.sent.insert(body.clone(), sent);
        }
    }

    pub(crate) fn acknowledge(&mut self, bodies: &[String]) {
        for body in bodies {
            let sent = self.sent.get_mut(body).expect("sent");
            sent.acknowledged = Some(self.deletions.get(sent.topic).map_or(0, |deletions| deletions.begun));
        }
    }

    /// Whether no deletion of a topic has begun since that many had ended.
    pub(crate) fn lives_on(&self, topic: &str, life: u32) -> bool {
        self.deletions.get(topic).is_none_or(|deletions| deletions.begun == life)
    }

    pub(crate) fn place_of(&self, body: &str) -> Option<(&'static str, i32, i64)> {
        let sent = self.sent.get(body)?;
        Some((sent.topic, sent.queue_id, sent.placed.queue_offset.0))
    }

    /// A reader finds only messages that were sent, where their senders were told. A message may be found before its sender has
    /// noted its place.
    pub(crate) fn check_seen(&self, found: &Found) {
        if let Some(sent) = self.sent.get(&found.body) {
            let place = (sent.topic, sent.queue_id, sent.placed.queue_offset.0, sent.placed.store_timestamp);
            assert_eq!(
                (&*found.topic, found.queue_id, found.queue_offset, found.store_timestamp),
                place,
                "{} is elsewhere",
                found.body
            );
        }
    }
}

/// What is left after a kill or power cut.
pub(crate) struct Left {
    pub(crate) mode: FlushMode,
    pub(crate) disk: SimulatedDisk,
    /// What had been told by then.
    pub(crate) told: Told,
    /// All that was told.
    pub(crate) later: Arc<shuttle::sync::Mutex<Told>>,
    /// Under ASYNC_FLUSH: the log below this offset is on the device.
    pub(crate) flushed: i64,
}

impl Left {
    /// Opens what is left and compares it with what was told.
    pub(crate) fn must_hold(&self) {
        let store = open(&self.disk, self.mode);
        let later = self.later.lock().unwrap().clone();
        let mut found = HashMap::new();
        for topic in ["a", "b"] {
            for queue_id in [0, 1] {
                let (min, max) = (store.min_offset(topic, queue_id).0, store.max_offset(topic, queue_id).0);
                let all = read(&store, topic, queue_id, min);
                assert_eq!(
                    all.len() as i64,
                    max - min,
                    "{topic}/{queue_id} has holes: {all:?} of {min} to {max}"
                );
                for one in all {
                    assert!(later.sent.contains_key(&one.body), "invented: {one:?}");
                    later.check_seen(&one);
                    found.insert(one.body.clone(), one);
                }
            }
        }
        let mut lost = None;
        let first = store.log_range().0;
        let is_kept = |sent: &Sent| sent.topic == "a" && sent.placed.log_offset >= first;
        let mut by_log: Vec<_> = self.told.sent.iter().filter(|(_, sent)| is_kept(sent)).collect();
        by_log.sort_by_key(|(_, sent)| sent.placed.log_offset);
        for (body, sent) in by_log {
            let is_there = found.contains_key(body);
            let end = found.get(body).map_or(sent.placed.log_offset.0, |one| one.log_end);
            let must_be_there = match self.mode {
                FlushMode::Sync => true,
                FlushMode::Async => end < self.flushed,
            };
            assert!(
                is_there || sent.acknowledged.is_none() || !must_be_there,
                "lost: {body} {sent:?}, flushed {}",
                self.flushed
            );
            assert!(!is_there || lost.is_none(), "{body} is there, and {lost:?} before it is not");
            lost = lost.or((!is_there && sent.acknowledged.is_some()).then_some(body));
        }
        self.check_deleted(&found);
        self.check_keys(&store, &found);
        store.close().expect("it stops");
        let disk: std::sync::Arc<dyn Disk> = std::sync::Arc::new(self.disk.clone());
        let report = check(&disk, &InspectOptions::of(&options(self.mode)), &mut |_| {}).expect("the directory can be looked at");
        assert!(!report.is_damaged(), "a check finds {:#?}", report.findings);
    }

    /// Messages acknowledged before an acknowledged deletion are gone; messages sent after the last deletion are there.
    fn check_deleted(&self, found: &HashMap<String, Found>) {
        let deletions = self.told.deletions.get("b").copied().unwrap_or_default();
        for (body, sent) in self.told.sent.iter().filter(|(_, sent)| sent.topic == "b") {
            let is_there = found.contains_key(body);
            assert!(!is_there || !sent.is_deleted, "{body} came back: {sent:?}, {deletions:?}");
            let Some(begun) = sent.acknowledged else { continue };
            assert!(!is_there || deletions.ended <= begun, "{body} was deleted: {sent:?}, {deletions:?}");
            let is_durable = self.mode == FlushMode::Sync || self.flushed == i64::MAX;
            let must_be_there = self.told.lives_on("b", sent.life) && is_durable;
            assert!(is_there || !must_be_there, "lost: {body} {sent:?}, {deletions:?}");
        }
    }

    fn check_keys(&self, store: &store::Store, found: &HashMap<String, Found>) {
        store.run_background_work().expect("keys can be indexed");
        for one in found.values() {
            let by_key = store
                .query(&one.topic, key_of(&one.body), 0, i64::MAX, 8)
                .expect("keys can be asked for")
                .records;
            assert_eq!(by_key.len(), 1, "{} is found {} times by its key", one.body, by_key.len());
        }
    }
}
