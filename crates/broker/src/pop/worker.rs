//! The thread of POP: writes check points that stay, stores messages again whose time has passed ([`super::revive`]), and reads what the
//! revive topic says ([`super::recover`]).
//!
//! It alone writes to the revive topic. Records of it that it did not write come from a directory of Apache's broker; they are read as they
//! arrive. It sleeps until the next check point is due.

use super::Pops;
use super::in_flight::{Job, Task};
use super::revive_log::Written;
use crate::errors::Refusal;
use crate::escape::Source;
use crate::log_writer::WaitFor;
use crate::topic::{Topic, TopicError};
use message::record::Draft;
use protocol::pop::records::REVIVE_GROUP;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use store::ConsumeQueue;

/// Check points that are taken at once.
const BATCH: usize = 256;
/// Records in one append.
const APPEND: usize = 64;
/// Compat: the timer of Apache's broker delivers a check point a second before it is due, and its acknowledgements after it.
const LATE_ACKS_MS: i64 = 3_000;
/// How often an acting slave looks at what it cannot write, ms.
const WRITTEN_BY_MASTER_MS: i64 = 60_000;
/// The thread is awake.
const AWAKE: i64 = i64::MIN;
/// The thread sleeps until it is called.
const NEVER: i64 = i64::MAX;

/// How far a queue of the revive topic was read and is done.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    /// The first record that was not looked at.
    pub(super) next: i64,
    /// Records from there on that this thread wrote.
    pub(super) own: BTreeSet<i64>,
    /// The committed offset: the last record that is done, as Apache counts.
    pub(super) done: i64,
}

/// The state of the thread.
pub(super) struct Worker {
    pub(super) pops: Arc<Pops>,
    pub(super) cursors: Vec<Cursor>,
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
            let mut state = pops.state.lock();
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
        if pops.writes_nothing() {
            // Records of the master are done when it says so.
            return;
        }
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
            let free = self.pops.orders.lock().take_free(self.pops.now());
            let Some((topic, group, queue_id)) = free else { return };
            net::together(|| self.pops.wake_queue(&topic, &group, queue_id));
        }
    }

    /// Does what check points need. False if some of it failed and is tried again.
    fn work(&mut self, jobs: Vec<Job>) -> bool {
        let (revived, mut written): (Vec<Job>, Vec<Job>) = jobs.into_iter().partition(|job| job.task == Task::Revive);
        if self.pops.writes_nothing() {
            let now = self.pops.now();
            let mut state = self.pops.state.lock();
            written.iter().for_each(|job| state.try_again(job, now, WRITTEN_BY_MASTER_MS));
            written.clear();
        }
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

    pub(super) fn failed(&self, jobs: &[Job], why: &dyn std::fmt::Display) -> bool {
        let now = self.pops.now();
        let mut state = self.pops.state.lock();
        jobs.iter().for_each(|job| state.failed(job, now));
        tracing::warn!(check_points = jobs.len(), reason = %why, "check points of popped messages are not written; tried again in a second");
        false
    }

    /// Writes check points and acknowledgements.
    fn write(&mut self, jobs: &[Job]) -> bool {
        let pops = Arc::clone(&self.pops);
        let (broker, now) = (pops.core.settings.current().broker_name.clone(), pops.now());
        let now_ms = now.wall_ms;
        let records: Vec<Written> = jobs
            .iter()
            .map(|job| match job.task {
                Task::Write => Written::point(job, &broker, now),
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
    pub(super) fn wrote(&mut self, revive_queue: u16, offset: i64) {
        if let Some(cursor) = self.cursors.get_mut(usize::from(revive_queue)) {
            if cursor.next == offset {
                cursor.next += 1;
            } else {
                cursor.own.insert(offset);
            }
        }
    }

    pub(super) fn host(&self) -> SocketAddr {
        self.pops.core.store_host(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// Appends records and waits until they can be read; under SYNC_FLUSH, until they are on the device. `target` is the topic that must
    /// not have been deleted. Returns their queue offsets, and the end of the log behind them.
    pub(super) fn append(&self, drafts: &[Draft<'_>], target: Option<&[&Topic]>, now_ms: i64) -> Result<(Vec<i64>, i64), Refusal> {
        if self.pops.writes_nothing() {
            return self.escape(drafts);
        }
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
            slaves: false,
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

    /// Has other brokers store messages, and waits until they have.
    fn escape(&self, drafts: &[Draft<'_>]) -> Result<(Vec<i64>, i64), Refusal> {
        let (done, stored) = std::sync::mpsc::channel();
        let escape = self.pops.core.log.escape();
        escape.store(Source::Pops, drafts, move |outcome| drop(done.send(outcome)));
        match stored.recv() {
            Ok(Ok(())) => Ok((vec![0; drafts.len()], 0)),
            Ok(Err(reason)) => Err(Refusal::system(reason.to_string())),
            Err(_) => Err(Refusal::system("the broker stops")),
        }
    }

    /// The broker stops: writes all that is in memory only, so that the next start goes on where this one stops.
    fn write_all(&mut self) {
        if self.pops.writes_nothing() {
            return;
        }
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
