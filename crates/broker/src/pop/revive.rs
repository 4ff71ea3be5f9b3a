//! Messages whose invisible time has passed: each is stored again, in a retry topic or among the dead letters.

use super::in_flight::Job;
use super::revive_log::{self, Written};
use super::worker::Worker;
use crate::errors::Refusal;
use crate::retry::rules::{self, Fate};
use crate::retry::send_back::dead_letters;
use crate::topic::{Spec, Topic};
use bytes::Bytes;
use message::record::{Draft, Record};
use message::{QueueOffset, names, properties};
use protocol::assignment::RequestMode;
use std::sync::Arc;
use store::{Limits, ReadSource, StoreError};

/// Bytes of copied messages in one append, if there are several.
const APPEND_BYTES: usize = 2 << 20;
/// Queues of a retry topic.
const RETRY_QUEUES: i32 = 1;

/// A message that is stored again.
struct Copy {
    record: Bytes,
    topic: Arc<Topic>,
    queue_id: i32,
    properties: Vec<u8>,
    reconsume_times: i32,
    is_dead: bool,
}

impl Worker {
    /// Stores the messages again that nobody acknowledged.
    pub(super) fn revive(&mut self, job: &Job) -> bool {
        let pops = Arc::clone(&self.pops);
        let now = pops.now();
        let copies = match self.copies(job, now.wall_ms) {
            Ok(copies) => copies,
            Err(refusal) => return self.failed(std::slice::from_ref(job), &refusal),
        };
        let broker = pops.core.settings.current().broker_name.clone();
        let record = (job.is_written && !pops.writes_nothing()).then(|| Written::acks(job, job.all() & !job.saved, &broker, now.wall_ms));
        let records: Vec<Record<'_>> = copies.iter().filter_map(|copy| Record::parse(&copy.record).ok()).collect();
        debug_assert_eq!(records.len(), copies.len(), "they were parsed before");
        let mut drafts: Vec<Draft<'_>> = copies
            .iter()
            .zip(&records)
            .map(|(copy, record)| Draft {
                topic: &copy.topic.name,
                queue_id: copy.queue_id,
                properties: &copy.properties,
                reconsume_times: copy.reconsume_times,
                ..Draft::of(record)
            })
            .collect();
        let host = self.host();
        drafts.extend(
            record
                .as_ref()
                .map(|record| record.draft(&pops.revive_topic, job.revive_queue, host, now.wall_ms)),
        );
        let targets: Vec<&Topic> = copies.iter().map(|copy| &*copy.topic).collect();
        let (mut log_end, mut rest) = (0, &drafts[..]);
        while !rest.is_empty() {
            // The acknowledgements are last: a crash before them delivers again what is stored already.
            let (together, later) = rest.split_at(fitting(rest, pops.core.log.max_append_bytes()));
            match self.append(together, Some(&targets), now.wall_ms) {
                Ok((offsets, end)) => {
                    log_end = end;
                    if later.is_empty()
                        && record.is_some()
                        && let Some(offset) = offsets.last()
                    {
                        self.wrote(job.revive_queue, *offset);
                    }
                }
                Err(refusal) => return self.failed(std::slice::from_ref(job), &refusal),
            }
            rest = later;
        }
        copies.iter().filter(|copy| copy.is_dead).for_each(|copy| {
            let first = names::popped_topic(&job.topic, &job.group);
            pops.core.stats.died(first, &job.group);
            tracing::info!(
                group = &*job.group,
                topic = first,
                dead = &*copy.topic.name,
                "message put into the dead letter queue"
            );
        });
        pops.state.lock().revived(job, log_end, pops.now());
        true
    }

    /// The messages of a check point that nobody acknowledged, and where each is stored. Messages that are gone are left out.
    fn copies(&self, job: &Job, now_ms: i64) -> Result<Vec<Copy>, Refusal> {
        let core = &self.pops.core;
        let first = names::popped_topic(&job.topic, &job.group);
        let Some(rule) = core.groups.find(&job.group).filter(|_| core.topics.contains(first)) else {
            // Compat: as Apache, what a deleted topic or group had in flight is dropped.
            return Ok(Vec::new());
        };
        let mut copies = Vec::new();
        for offset in job.of(job.all() & !job.acked) {
            let Some(record) = self.message(&job.topic, job.queue_id, offset)? else {
                tracing::warn!(
                    topic = &*job.topic,
                    queue_id = job.queue_id,
                    offset,
                    "a popped message is not in the log any more: it is not delivered again"
                );
                continue;
            };
            let Ok(read) = Record::parse(&record) else { continue };
            let fate = if job.suspend {
                Fate::Again { level: 0 }
            } else {
                rules::fate(read.reconsume_times, rule.retry_max_times, 0)
            };
            let is_dead = fate == Fate::Dead;
            let as_first = Record { topic: first, ..read };
            let pulls = self.is_pulling(first, &job.group);
            let (topic, properties) = if is_dead {
                (dead_letters(&core.topics, &job.group, now_ms)?, rules::sent_back(&as_first, 0))
            } else if pulls {
                let spec = Spec::new(&names::retry_topic(&job.group), rule.retry_queue_nums.max(1));
                (core.topics.create_for_group(spec, now_ms)?, rules::sent_back(&as_first, 0))
            } else {
                let topic = self.retry_topic(job, first, now_ms)?;
                (topic, revive_log::retried_properties(&read, &job.group, job.key.pop_time))
            };
            let reconsume_times = if job.suspend {
                read.reconsume_times
            } else {
                read.reconsume_times.saturating_add(1)
            };
            let properties = if properties.len() > properties::MAX_BYTES {
                read.properties.to_vec()
            } else {
                properties
            };
            copies.push(Copy {
                queue_id: if is_dead || pulls { 0 } else { self.retry_queue(job, &topic) },
                topic,
                properties,
                reconsume_times,
                is_dead,
                record,
            });
        }
        Ok(copies)
    }

    /// Whether an operator has set that the group pulls from the topic: then it does not read the retry topics of POP.
    fn is_pulling(&self, topic: &str, group: &str) -> bool {
        self.pops.modes.of(topic, group).is_some_and(|mode| mode.mode == RequestMode::Pull)
    }

    /// The retry topic for messages of a check point, created if necessary.
    fn retry_topic(&self, job: &Job, first: &str, now_ms: i64) -> Result<Arc<Topic>, Refusal> {
        let core = &self.pops.core;
        let is_retried = names::is_retry(&job.topic);
        let name = match (is_retried, core.settings.current().retry_topic_v2) {
            (true, _) => job.topic.to_string(),
            (false, true) => names::pop_retry_topic_v2(first, &job.group),
            (false, false) => names::pop_retry_topic(first, &job.group),
        };
        let queues = if core.settings.current().use_separate_retry_queue {
            core.topics
                .find(first)
                .map_or(RETRY_QUEUES, |topic| topic.write_queues.max(RETRY_QUEUES))
        } else {
            RETRY_QUEUES
        };
        let (topic, from) = match core.topics.find(&name) {
            Some(topic) if topic.write_queues >= queues && topic.read_queues >= queues => return Ok(topic),
            Some(topic) => (core.topics.widen(&topic, queues, now_ms)?, topic.read_queues),
            None => (core.topics.create_for_group(Spec::new(&name, queues), now_ms)?, 0),
        };
        for queue_id in from..queues {
            if core.offsets.committed(&name, &job.group, queue_id).is_none() {
                // A full table: the first pop begins at the first message, too.
                let _ = core.offsets.commit(&name, &job.group, queue_id, 0);
            }
        }
        Ok(topic)
    }

    /// The queue of a retry topic for a message of a check point. Compat: with `useSeparateRetryQueue` that of the message, so that its priority
    /// is kept, unless the topic has fewer.
    fn retry_queue(&self, job: &Job, topic: &Topic) -> i32 {
        let is_separate = self.pops.core.settings.current().use_separate_retry_queue;
        if is_separate && job.queue_id < topic.write_queues {
            job.queue_id
        } else {
            0
        }
    }

    /// Reads a message; `None` if it is not in the log.
    fn message(&self, topic: &str, queue_id: i32, offset: i64) -> Result<Option<Bytes>, StoreError> {
        let limits = Limits {
            messages: 1,
            bytes: 1,
            scan: 1,
        };
        let mut read = self
            .pops
            .core
            .store
            .read(topic, queue_id, QueueOffset(offset), limits, &|_| true, ReadSource::Disk)?;
        Ok(read.records.pop().filter(|record| revive_log::queue_offset(record) == offset))
    }
}

/// How many of these records fit into one append.
fn fitting(drafts: &[Draft<'_>], max_bytes: usize) -> usize {
    let most = APPEND_BYTES.min(max_bytes);
    let mut bytes = 0;
    let fits = |draft: &&Draft<'_>| {
        bytes += draft.encoded_len();
        bytes <= most
    };
    drafts.iter().take_while(fits).count().max(1)
}
