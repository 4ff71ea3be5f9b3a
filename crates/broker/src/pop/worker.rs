//! The thread of POP: writes check points that stay, stores messages again whose time has passed, and reads what the revive topic says.
//!
//! It alone writes to the revive topic. Records of it that it did not write come from a directory of Apache's broker; they are read as they
//! arrive. It sleeps until the next check point is due.

use super::Pops;
use super::in_flight::{Job, Recovered, Task};
use super::revive_log::{self, Read, Written};
use crate::errors::Refusal;
use crate::log_writer::WaitFor;
use crate::retry::rules::{self, Fate};
use crate::retry::send_back::dead_letters;
use crate::topic::{Spec, Topic, TopicError};
use bytes::Bytes;
use message::record::{Draft, Record};
use message::{QueueOffset, names, properties};
use protocol::assignment::RequestMode;
use protocol::pop::records::{MAX_MESSAGES, REVIVE_GROUP};
use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use store::{ConsumeQueue, Limits, ReadSource, ReadStatus, StoreError};

/// Check points that are taken at once.
const BATCH: usize = 256;
/// Records in one append.
const APPEND: usize = 64;
/// Records of the revive topic in one read.
const READ: usize = 256;
/// Bytes of copied messages in one append, if there are several.
const APPEND_BYTES: usize = 2 << 20;
/// Compat: the timer of Apache's broker delivers a check point a second before it is due, and its acknowledgements after it.
const LATE_ACKS_MS: i64 = 3_000;
/// Queues of a retry topic.
const RETRY_QUEUES: i32 = 1;
/// The thread is awake.
const AWAKE: i64 = i64::MIN;
/// The thread sleeps until it is called.
const NEVER: i64 = i64::MAX;

/// How far a queue of the revive topic was read and is done.
#[derive(Debug, Default)]
struct Cursor {
    /// The first record that was not looked at.
    next: i64,
    /// Records from there on that this thread wrote.
    own: BTreeSet<i64>,
    /// The committed offset: the last record that is done, as Apache counts.
    done: i64,
}

/// The state of the thread.
pub(super) struct Worker {
    pops: Arc<Pops>,
    cursors: Vec<Cursor>,
}

/// A message that is stored again.
struct Copy {
    record: Bytes,
    topic: Arc<Topic>,
    properties: Vec<u8>,
    reconsume_times: i32,
    is_dead: bool,
}

impl Pops {
    /// Wakes the thread.
    pub(super) fn call_worker(&self) {
        self.sleep.lock().is_called = true;
        self.wake.notify_one();
    }

    /// Wakes the thread if it sleeps for longer than until `at`, by the monotonic clock.
    pub(super) fn call_worker_by(&self, at: Option<i64>) {
        if at.is_some_and(|at| at < self.planned.load(SeqCst)) {
            self.call_worker();
        }
    }

    /// The same by the wall clock.
    pub(super) fn call_worker_by_wall(&self, at_ms: i64) {
        let now = self.now();
        self.call_worker_by(Some(at_ms.saturating_sub(now.wall_ms).saturating_add(now.steady_ms)));
    }
}

impl Worker {
    /// Reads what was in flight when the last broker of this directory stopped.
    ///
    /// # Errors
    /// [`io::Error`] if the revive topic cannot be read.
    pub(super) fn recover(pops: &Arc<Pops>) -> io::Result<Self> {
        let mut worker = Self {
            pops: Arc::clone(pops),
            cursors: Vec::new(),
        };
        let (store, offsets) = (&pops.core.store, &pops.core.offsets);
        for queue_id in 0..i32::from(pops.revive_queues) {
            let (min, max) = (
                store.min_offset(&pops.revive_topic, queue_id).0,
                store.max_offset(&pops.revive_topic, queue_id).0,
            );
            let mut done = offsets.committed(&pops.revive_topic, REVIVE_GROUP, queue_id).unwrap_or(-1);
            if done >= max && max > 0 {
                // The crash lost records that were done.
                done = max - 1;
                let _ = offsets.commit(&pops.revive_topic, REVIVE_GROUP, queue_id, done);
            }
            worker.cursors.push(Cursor {
                next: (done + 1).clamp(min, max.max(min)),
                own: BTreeSet::new(),
                done,
            });
        }
        worker.read_records(0).map_err(io::Error::other)?;
        let covered = pops.state.lock().covered();
        for queue in covered {
            let Some(committed) = offsets.committed(&queue.topic, &queue.group, queue.queue_id) else {
                continue;
            };
            let position = pops.state.lock().position(queue.index, committed);
            if position > committed && position <= store.max_offset(&queue.topic, queue.queue_id).0 {
                let _ = offsets.commit(&queue.topic, &queue.group, queue.queue_id, position);
            }
        }
        let in_flight = pops.in_flight();
        if in_flight > 0 {
            tracing::info!(check_points = in_flight, "messages that were popped before the start are in flight");
        }
        Ok(worker)
    }

    /// The thread.
    pub(super) fn run(mut self) {
        while !self.pops.sleep.lock().is_stopping {
            if self.pops.revive_arrived.swap(false, SeqCst)
                && let Err(error) = self.read_records(LATE_ACKS_MS)
            {
                tracing::error!(%error, "records of the revive topic cannot be read; tried again with the next one");
            }
            let now = self.pops.now();
            let jobs = self.pops.state.lock().take_due(BATCH, now);
            let is_idle = jobs.is_empty();
            self.work(jobs);
            self.settle();
            self.wake_free_queues();
            if is_idle {
                self.sleep();
            }
        }
        self.write_all();
    }

    /// Sleeps until something is due.
    fn sleep(&self) {
        let pops = &self.pops;
        let planned = self.next_time();
        pops.planned.store(planned, SeqCst);
        // What came before the plan could be seen is looked for again; what comes after it calls.
        let left = self.next_time().min(planned).saturating_sub(pops.now().steady_ms);
        let mut sleep = pops.sleep.lock();
        if left > 0 && !sleep.is_called && !sleep.is_stopping {
            if planned == NEVER {
                pops.wake.wait(&mut sleep);
            } else {
                pops.wake.wait_for(&mut sleep, Duration::from_millis(left as u64));
            }
        }
        sleep.is_called = false;
        pops.planned.store(AWAKE, SeqCst);
    }

    /// When the thread has to look, by the monotonic clock.
    fn next_time(&self) -> i64 {
        let pops = &self.pops;
        let now = pops.now();
        let (look, is_settling) = {
            let state = pops.state.lock();
            (state.next_look(), state.is_settling())
        };
        let flush = pops.core.settings.current().flush_interval_commit_log.as_millis() as i64;
        let settle = is_settling.then_some(now.steady_ms + flush);
        let order = pops.orders.lock().next_wake();
        let order = order.map(|at| at.saturating_sub(now.wall_ms).saturating_add(now.steady_ms));
        [look, settle, order].into_iter().flatten().min().unwrap_or(NEVER)
    }

    /// Commits what is on the device by now.
    fn settle(&mut self) {
        let pops = &self.pops;
        let flushed = pops.core.store.flushed().0;
        let mut state = pops.state.lock();
        state.settle(flushed, |commit| pops.commit(&commit));
        for (cursor, queue) in self.cursors.iter_mut().zip(0u16..) {
            let done = state.first_record(queue).unwrap_or(cursor.next).min(cursor.next) - 1;
            if done > cursor.done {
                cursor.done = done;
                let offsets = &pops.core.offsets;
                if let Err(error) = offsets.commit(&pops.revive_topic, REVIVE_GROUP, queue.into(), done) {
                    tracing::warn!(%error, "the progress of the revive topic is not committed: the next start reads more of it");
                }
            }
        }
    }

    /// Wakes the pops that wait for a queue whose messages are visible again.
    fn wake_free_queues(&self) {
        loop {
            let free = self.pops.orders.lock().take_free(self.pops.now().wall_ms);
            let Some((topic, group, queue_id)) = free else { return };
            net::together(|| self.pops.wake_queue(&topic, &group, queue_id));
        }
    }

    /// Does what check points need. False if some of it failed and is tried again.
    fn work(&mut self, jobs: Vec<Job>) -> bool {
        let (revived, mut written): (Vec<Job>, Vec<Job>) = jobs.into_iter().partition(|job| job.task == Task::Revive);
        // A check point that was made for a message of another one is written first.
        written.sort_by_key(|job| job.task == Task::SaveAcks);
        let mut is_done = true;
        for jobs in written.chunks(APPEND) {
            is_done &= self.write(jobs);
        }
        for job in &revived {
            is_done &= self.revive(job);
        }
        is_done
    }

    fn failed(&self, jobs: &[Job], why: &dyn std::fmt::Display) -> bool {
        let now = self.pops.now();
        let mut state = self.pops.state.lock();
        jobs.iter().for_each(|job| state.failed(job, now));
        tracing::warn!(check_points = jobs.len(), reason = %why, "check points of popped messages are not written; tried again in a second");
        false
    }

    /// Writes check points and acknowledgements.
    fn write(&mut self, jobs: &[Job]) -> bool {
        let pops = Arc::clone(&self.pops);
        let (broker, now_ms) = (pops.core.settings.current().broker_name.clone(), pops.now().wall_ms);
        let records: Vec<Written> = jobs
            .iter()
            .map(|job| match job.task {
                Task::Write => Written::point(job, &broker, now_ms),
                Task::SaveAcks | Task::Revive => Written::acks(job, job.acked & !job.saved, &broker, now_ms),
            })
            .collect();
        let host = self.host();
        let drafts: Vec<Draft<'_>> = jobs
            .iter()
            .zip(&records)
            .map(|(job, record)| record.draft(&pops.revive_topic, job.revive_queue, host, now_ms))
            .collect();
        let (offsets, log_end) = match self.append(&drafts, None, now_ms) {
            Ok(appended) => appended,
            Err(refusal) => return self.failed(jobs, &refusal),
        };
        let now = pops.now();
        let mut state = pops.state.lock();
        for (job, offset) in jobs.iter().zip(offsets) {
            self.wrote(job.revive_queue, offset);
            match job.task {
                Task::Write => state.written(job, offset, log_end, now),
                Task::SaveAcks | Task::Revive => state.saved(job, job.acked & !job.saved, log_end, now),
            }
        }
        true
    }

    /// This thread wrote the record at this offset.
    fn wrote(&mut self, revive_queue: u16, offset: i64) {
        if let Some(cursor) = self.cursors.get_mut(usize::from(revive_queue)) {
            if cursor.next == offset {
                cursor.next += 1;
            } else {
                cursor.own.insert(offset);
            }
        }
    }

    fn host(&self) -> SocketAddr {
        self.pops.core.store_host(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// Appends records and waits until they can be read; under SYNC_FLUSH, until they are on the device. `target` is the topic that must
    /// not have been deleted. Returns their queue offsets, and the end of the log behind them.
    fn append(&self, drafts: &[Draft<'_>], target: Option<&[&Topic]>, now_ms: i64) -> Result<(Vec<i64>, i64), Refusal> {
        let log = &self.pops.core.log;
        let queues: Vec<Arc<ConsumeQueue>> = drafts.iter().map(|draft| log.queue(draft.topic, draft.queue_id)).collect();
        // After the queues were looked up, see `Topic::is_deleted`.
        if let Some(topic) = target.into_iter().flatten().find(|topic| topic.is_deleted()) {
            return Err(TopicError::BeingDeleted(topic.name.to_string()).into());
        }
        let mut placements = Vec::with_capacity(drafts.len());
        let ticket = log.append(drafts, &queues, now_ms, &mut placements)?;
        let (done, written) = std::sync::mpsc::channel();
        let wait = WaitFor {
            flush: true,
            topics: false,
        };
        log.complete_then(ticket, wait, move |outcome| drop(done.send(outcome)));
        match written.recv() {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => return Err(Refusal::system(reason.to_string())),
            Err(_) => return Err(Refusal::system("the store was closed before the records were stored")),
        }
        let ends = placements.iter().zip(drafts);
        let log_end = ends.map(|(placed, draft)| placed.log_offset.0 + draft.encoded_len() as i64).max();
        Ok((
            placements.iter().map(|placed| placed.queue_offset.0).collect(),
            log_end.unwrap_or(0),
        ))
    }

    /// Stores the messages again that nobody acknowledged.
    fn revive(&mut self, job: &Job) -> bool {
        let pops = Arc::clone(&self.pops);
        let now = pops.now();
        let copies = match self.copies(job, now.wall_ms) {
            Ok(copies) => copies,
            Err(refusal) => return self.failed(std::slice::from_ref(job), &refusal),
        };
        let broker = pops.core.settings.current().broker_name.clone();
        let record = job
            .is_written
            .then(|| Written::acks(job, job.all() & !job.saved, &broker, now.wall_ms));
        let records: Vec<Record<'_>> = copies.iter().filter_map(|copy| Record::parse(&copy.record).ok()).collect();
        debug_assert_eq!(records.len(), copies.len(), "they were parsed before");
        let mut drafts: Vec<Draft<'_>> = copies
            .iter()
            .zip(&records)
            .map(|(copy, record)| Draft {
                topic: &copy.topic.name,
                queue_id: 0,
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
        if let Some(topic) = core.topics.find(&name) {
            return Ok(topic);
        }
        let topic = core.topics.create_for_group(Spec::new(&name, RETRY_QUEUES), now_ms)?;
        for queue_id in 0..RETRY_QUEUES {
            if core.offsets.committed(&name, &job.group, queue_id).is_none() {
                // A full table: the first pop begins at the first message, too.
                let _ = core.offsets.commit(&name, &job.group, queue_id, 0);
            }
        }
        Ok(topic)
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

    /// Reads the records of the revive topic that this thread did not write.
    fn read_records(&mut self, grace_ms: i64) -> Result<(), StoreError> {
        let pops = Arc::clone(&self.pops);
        for (cursor, queue) in self.cursors.iter_mut().zip(0u16..) {
            loop {
                while cursor.own.remove(&cursor.next) {
                    cursor.next += 1;
                }
                if cursor.next >= pops.core.store.max_offset(&pops.revive_topic, queue.into()).0 {
                    break;
                }
                let limits = Limits {
                    messages: READ,
                    bytes: APPEND_BYTES,
                    scan: READ,
                };
                let from = QueueOffset(cursor.next);
                let read = pops
                    .core
                    .store
                    .read(&pops.revive_topic, queue.into(), from, limits, &|_| true, ReadSource::Disk)?;
                for bytes in &read.records {
                    let offset = revive_log::queue_offset(bytes);
                    if !cursor.own.remove(&offset) {
                        take_record(&pops, bytes, (queue, offset), grace_ms);
                    }
                }
                if read.next <= from && read.status != ReadStatus::Found {
                    break;
                }
                cursor.next = read.next.0.max(cursor.next);
            }
        }
        Ok(())
    }

    /// The broker stops: writes all that is in memory only, so that the next start goes on where this one stops.
    fn write_all(&mut self) {
        loop {
            let jobs = self.pops.state.lock().take_unwritten(BATCH);
            if jobs.is_empty() {
                break;
            }
            if !self.work(jobs) {
                tracing::error!("check points could not be written: their messages are handed out again after the next start");
                return;
            }
        }
        match self.pops.core.store.sync() {
            Ok(()) => self.settle(),
            Err(error) => tracing::error!(%error, "the log could not be synced: popped messages are handed out again after the next start"),
        }
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

/// Takes what a record of the revive topic says into the state.
fn take_record(pops: &Pops, bytes: &Bytes, (revive_queue, record_offset): (u16, i64), grace_ms: i64) {
    let ignored = |why: &str| tracing::warn!(revive_queue, offset = record_offset, why, "a record of the revive topic is ignored");
    let record = match Record::parse(bytes) {
        Ok(record) => record,
        Err(error) => return ignored(&error.to_string()),
    };
    let now = pops.now();
    match revive_log::parse(&record) {
        Ok(Read::Point(point)) => {
            let offsets = point.offsets();
            let (Some(topic), Some(group)) = (&point.topic, &point.group) else {
                return ignored("it does not name topic and group");
            };
            let core = &pops.core;
            let is_known = core.groups.contains(group) && core.topics.contains(names::popped_topic(topic, group));
            let is_ascending = offsets.is_sorted_by(|before, after| before < after);
            if offsets.is_empty() || offsets.len() > MAX_MESSAGES || !is_ascending || point.queue_id < 0 || !is_known {
                return;
            }
            let read_queues = core.topics.find(topic).map_or(0, |topic| topic.read_queues);
            if point.queue_id >= read_queues.max(core.settings.current().max_queues_per_topic as i32) {
                return ignored("it names a queue that cannot exist");
            }
            let of = Recovered {
                start: point.start,
                offsets: &offsets,
                pop_time: point.pop_time,
                invisible_ms: point.invisible_time,
                acked: point.bit_map as u32,
                suspend: point.suspend,
                revive_queue,
                record: record_offset,
                grace_ms,
            };
            pops.state.lock().recover_point(topic, group, point.queue_id, of, now);
        }
        Ok(Read::Acks(acks)) => {
            let (Some(topic), Some(group)) = (&acks.topic, &acks.group) else {
                return ignored("it does not name topic and group");
            };
            let mut state = pops.state.lock();
            for offset in acks.acknowledged().take(MAX_MESSAGES) {
                state.recover_ack(topic, group, acks.queue_id, acks.start, acks.pop_time, offset);
            }
        }
        Err(why) => ignored(&why),
    }
}
