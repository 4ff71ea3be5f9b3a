//! What a start reads from the log: the keys of messages that were sent within the windows of their topics.
//!
//! It reads backwards, only the queues in which such messages can be, and only as far as the longest window: the topics that recognise
//! repeats, and the system topics in which messages wait for their delivery. Of a message that was stored several times the first one counts:
//!
//! | Stored | Counts |
//! |---|---|
//! | in its own topic, as it was sent | yes |
//! | in the schedule or timer topic, with its topic in REAL_TOPIC | yes, for that topic |
//! | in its own topic, delivered from there (it has REAL_TOPIC or TIMER_OUT_MS) or committed | no |
//! | half message | yes, unless its transaction was rolled back or given up; its copies do not count |
//!
//! The age of a message is the sum of the times between it and those after it; where a store timestamp is lower than the one before, that
//! time is none. So a clock that was set back makes nothing look older than it is.
//!
//! A client that sets one of these properties itself on what it sends is recognised until the next start only.

use super::window::Place;
use super::{Dedup, Identity};
use crate::attributes::DedupRule;
use crate::clock::now_ms;
use crate::core::Core;
use crate::topic::Topic;
use message::record::Record;
use message::{QueueOffset, names, properties, sys_flag};
use protocol::number::Integer;
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::Arc;
use std::time::Instant;
use store::{Limits, ReadSource, StoreError};

/// Messages read at once.
const TOGETHER: i64 = 256;
const TOGETHER_BYTES: usize = 4 << 20;
/// Topics in which messages wait that are not half messages.
const WAITING: [&str; 2] = [names::SCHEDULE_TOPIC, names::TIMER_TOPIC];

/// A message whose key is restored.
struct Sent {
    topic: u32,
    key: super::Key,
    place: Place,
    stored_ms: i64,
}

/// A half message, or a copy of one.
struct Half {
    queue_offset: i64,
    log_offset: i64,
    /// Offset of the first half message of its transaction.
    first: i64,
    /// The message that it is, if its topic recognises repeats.
    sent: Option<Sent>,
}

/// Reads the keys of all topics that recognise repeats. `marked` has the half messages that a removal mark names. Call it once, before
/// anything is sent.
///
/// # Errors
/// The log cannot be read.
pub(crate) fn rebuild(core: &Core, dedup: &Dedup, marked: impl Fn(&Record<'_>) -> Vec<i64>) -> Result<(), StoreError> {
    let (_, topics) = core.topics.all();
    let topics: Vec<(Arc<Topic>, DedupRule)> = topics
        .into_iter()
        .filter_map(|topic| topic.dedup.map(|rule| (topic, rule)))
        .collect();
    if topics.is_empty() {
        return Ok(());
    }
    let begun = Instant::now();
    let longest = topics.iter().map(|(_, rule)| rule.window_ms).max().unwrap_or(0);
    let mut reading = Reading {
        core,
        dedup,
        numbers: topics.iter().zip(0..).map(|((topic, _), number)| (&*topic.name, number)).collect(),
        rules: topics.iter().map(|(_, rule)| *rule).collect(),
        most: core.settings.current().max_dedup_keys,
        now_ms: now_ms(),
        sent: Vec::new(),
        committed: FxHashSet::default(),
    };
    for (topic, rule) in &topics {
        for queue in core.store.queues_of(&topic.name) {
            reading.back(&topic.name, queue.queue_id(), rule.window_ms, Reading::in_its_topic)?;
        }
    }
    for topic in WAITING {
        for queue in core.store.queues_of(topic) {
            reading.back(topic, queue.queue_id(), longest, Reading::waiting)?;
        }
    }
    reading.halves(longest, marked)?;
    let count = reading.restore(&topics);
    tracing::info!(
        keys = count,
        took_ms = begun.elapsed().as_millis() as u64,
        "keys of recent messages were read, to recognise repeats"
    );
    Ok(())
}

struct Reading<'a> {
    core: &'a Core,
    dedup: &'a Dedup,
    numbers: FxHashMap<&'a str, u32>,
    rules: Vec<DedupRule>,
    /// Most keys that are kept.
    most: usize,
    now_ms: i64,
    sent: Vec<Sent>,
    /// Log offsets of half messages whose message was found.
    committed: FxHashSet<i64>,
}

impl Reading<'_> {
    /// Visits the records of a queue from its end backwards, in groups, until a whole group is older than the window.
    fn back(
        &mut self,
        topic: &str,
        queue_id: i32,
        window_ms: i64,
        mut visit: impl FnMut(&mut Self, &Record<'_>),
    ) -> Result<(), StoreError> {
        let store = &self.core.store;
        let min = store.min_offset(topic, queue_id).0;
        let mut end = store.max_offset(topic, queue_id).0;
        // Age of the last group's first record, and its store timestamp.
        let (mut age, mut after) = (0, self.now_ms);
        let mut read = 0;
        while end > min && age <= window_ms && read < self.most {
            let from = (end - TOGETHER).max(min);
            let mut stored = Vec::new();
            let mut at = from;
            while at < end {
                let limits = Limits {
                    messages: (end - at) as usize,
                    bytes: TOGETHER_BYTES,
                    scan: (end - at) as usize,
                };
                let result = store.read(topic, queue_id, QueueOffset(at), limits, &|_| true, ReadSource::Disk)?;
                for bytes in &result.records {
                    if let Ok(record) = Record::parse(bytes) {
                        stored.push(record.store_timestamp);
                        visit(self, &record);
                    }
                }
                read += result.records.len();
                // A damaged message is passed over.
                at = result.next.0.max(at + 1);
            }
            for stored in stored.into_iter().rev() {
                age += (after - stored).max(0);
                after = stored;
            }
            end = from;
            self.keep_newest();
        }
        Ok(())
    }

    fn in_its_topic(&mut self, record: &Record<'_>) {
        let is_delivery = [properties::REAL_TOPIC, properties::TIMER_OUT_MS]
            .iter()
            .any(|name| properties::find(record.properties, name).is_some());
        if self.is_commit(record) || is_delivery {
            return;
        }
        let sent = self.sent_to(record.topic, record.queue_id, record);
        self.sent.extend(sent);
    }

    fn waiting(&mut self, record: &Record<'_>) {
        // A timer that waits for long is written again, with the number of times; a recall is a message of its own.
        let number = |name| properties::find(record.properties, name).and_then(i64::parse);
        let is_copy = number(properties::TIMER_ROLL_TIMES).is_some_and(|times| times > 0)
            || properties::find(record.properties, properties::TIMER_DEL_UNIQKEY).is_some();
        if self.is_commit(record) || is_copy {
            return;
        }
        let sent = self.sent_to_real(record);
        self.sent.extend(sent);
    }

    /// Whether it is the message of a committed transaction, whose half message counts.
    fn is_commit(&mut self, record: &Record<'_>) -> bool {
        let is_commit = record.sys_flag & sys_flag::TRANSACTION_MASK == sys_flag::TRANSACTION_COMMIT;
        if is_commit {
            self.committed.insert(record.prepared_offset);
        }
        is_commit
    }

    fn sent_to_real(&self, record: &Record<'_>) -> Option<Sent> {
        let topic = properties::find(record.properties, properties::REAL_TOPIC)?;
        let queue_id = i32::parse(properties::find(record.properties, properties::REAL_QID)?)?;
        self.sent_to(std::str::from_utf8(topic).ok()?, queue_id, record)
    }

    fn sent_to(&self, topic: &str, queue_id: i32, record: &Record<'_>) -> Option<Sent> {
        let number = *self.numbers.get(topic)?;
        let rule = self.rules.get(number as usize)?;
        Some(Sent {
            topic: number,
            key: self.dedup.key_of(*rule, Identity::of(record.properties))?,
            place: Place {
                log_offset: record.log_offset.0,
                queue_offset: record.queue_offset.0,
                queue_id: u16::try_from(queue_id).ok()?,
                host: self.dedup.host(record.store_host),
            },
            stored_ms: record.store_timestamp,
        })
    }

    /// Half messages of transactions that are open or committed. After all committed messages were visited.
    fn halves(&mut self, window_ms: i64, marked: impl Fn(&Record<'_>) -> Vec<i64>) -> Result<(), StoreError> {
        let mut halves: Vec<Half> = Vec::new();
        self.back(names::TRANS_HALF_TOPIC, 0, window_ms, |reading, record| {
            let number = |name| properties::find(record.properties, name).and_then(i64::parse);
            let repeats =
                number(properties::TRANSACTION_FIRST_QUEUE_OFFSET).or_else(|| number(properties::TRANSACTION_PREPARED_QUEUE_OFFSET));
            halves.push(Half {
                queue_offset: record.queue_offset.0,
                log_offset: record.log_offset.0,
                first: repeats.unwrap_or(record.queue_offset.0),
                sent: reading.sent_to_real(record),
            });
        })?;
        if halves.iter().all(|half| half.sent.is_none()) {
            return Ok(());
        }
        let mut done = FxHashSet::default();
        self.back(names::TRANS_OP_HALF_TOPIC, 0, window_ms, |_, record| done.extend(marked(record)))?;
        let mut live = FxHashSet::default();
        for half in &halves {
            if !done.contains(&half.queue_offset) || self.committed.contains(&half.log_offset) {
                live.insert(half.first);
            }
        }
        let firsts = halves
            .into_iter()
            .filter(|half| half.first == half.queue_offset && live.contains(&half.first));
        self.sent.extend(firsts.filter_map(|half| half.sent));
        Ok(())
    }

    /// Bounds the memory while queues are read: of twice as many messages as keys may be kept, the later half stays.
    fn keep_newest(&mut self) {
        if self.sent.len() >= self.most.saturating_mul(2) {
            self.sent
                .select_nth_unstable_by_key(self.most, |sent| std::cmp::Reverse(sent.place.log_offset));
            self.sent.truncate(self.most);
        }
    }

    /// Restores the keys in the order in which their messages were stored. Returns how many messages are in their window.
    fn restore(mut self, topics: &[(Arc<Topic>, DedupRule)]) -> usize {
        self.sent.sort_unstable_by_key(|sent| sent.place.log_offset);
        // From here on: how old each is.
        let (mut age, mut after) = (0, self.now_ms);
        for sent in self.sent.iter_mut().rev() {
            let stored = sent.stored_ms;
            age += (after - stored).max(0);
            (sent.stored_ms, after) = (age, stored);
        }
        let now_ms = self.dedup.now_ms();
        let all = topics.iter().map(|(topic, rule)| (self.dedup.keys_of(&topic.name), rule.window_ms));
        let all: Vec<_> = all.collect();
        let first = self.sent.len().saturating_sub(self.most);
        let mut count = 0;
        for sent in &self.sent[first..] {
            let (keys, window_ms) = &all[sent.topic as usize];
            if sent.stored_ms < *window_ms {
                keys.restore(sent.key, sent.place, now_ms - sent.stored_ms, *window_ms);
                count += 1;
            }
        }
        count
    }
}
