//! What the thread does: which check points need it, and what became of them.

use super::{Commit, InFlight, Job, RETRY_AFTER_MS, SAVE_AFTER_MS, SAVE_COMPLETE_AFTER_MS, Settling, Task};
use crate::delay::clock::Moment;
use crate::pop::point::{NONE, Point, PointId, QueueIndex};
use std::sync::Arc;

/// How many check points are looked at for each job that is taken: most may only be due again later.
const LOOKS: usize = 8;

impl InFlight {
    /// When the thread has to look, by the monotonic clock.
    pub(in crate::pop) fn next_look(&mut self) -> Option<i64> {
        self.first_plan().map(|(at, _)| at)
    }

    /// Whether something waits for the log to be synced.
    pub(in crate::pop) fn is_settling(&self) -> bool {
        !self.settling.is_empty()
    }

    /// Takes up to `most` check points that need the thread now. Each is reported afterwards; until then its clients cannot change more
    /// than its acknowledgements.
    pub(in crate::pop) fn take_due(&mut self, most: usize, now: Moment) -> Vec<Job> {
        let mut jobs = Vec::new();
        let mut looks = 0;
        while jobs.len() < most
            && looks < LOOKS * most
            && let Some((at, id)) = self.first_plan()
            && at <= now.steady_ms
        {
            looks += 1;
            if self.points[id as usize].moved != 0 {
                // After the check points that were made for its messages.
                self.plan(id, now.steady_ms + SAVE_COMPLETE_AFTER_MS);
                continue;
            }
            if self.is_kept(id, now) && self.points[id as usize].is_written() {
                self.plan_written(id, now);
                continue;
            }
            self.agenda.remove_first();
            let job = self.job(id, now);
            let point = &mut self.points[id as usize];
            point.at = NONE;
            point.is_reviving = job.task == Task::Revive;
            jobs.push(job);
        }
        jobs
    }

    /// The thread looks at all check points of these queues now.
    pub(in crate::pop) fn hurry(&mut self, is_wanted: impl Fn(&str, &str) -> bool, now: Moment) {
        for id in 0..self.points.len() {
            let point = &self.points[id];
            let queue = &self.queues[point.key().queue as usize];
            if point.is_used && point.at != NONE && !point.is_written() && is_wanted(&queue.topic, &queue.group) {
                self.plan(id as PointId, now.steady_ms);
            }
        }
    }

    /// As [`Self::take_due`] for all that is in memory only, or has acknowledgements that the log does not have: the broker stops.
    pub(in crate::pop) fn take_unwritten(&mut self, most: usize) -> Vec<Job> {
        let mut jobs = Vec::new();
        for id in 0..self.points.len() {
            let point = &self.points[id];
            let is_ready = point.is_used && point.at != NONE && point.moved == 0;
            if jobs.len() < most && is_ready && (!point.is_written() || point.acked != point.saved) {
                self.unplan(id as PointId);
                let mut job = self.job(
                    id as PointId,
                    Moment {
                        wall_ms: 0,
                        steady_ms: NONE,
                    },
                );
                job.task = if job.is_written { Task::SaveAcks } else { Task::Write };
                jobs.push(job);
            }
        }
        jobs
    }

    pub(super) fn job(&self, id: PointId, now: Moment) -> Job {
        let point = &self.points[id as usize];
        let key = point.key();
        let queue = &self.queues[key.queue as usize];
        let task = if point.is_complete() {
            Task::SaveAcks
        } else if point.due <= now.steady_ms {
            Task::Revive
        } else if point.is_written() {
            Task::SaveAcks
        } else {
            Task::Write
        };
        debug_assert!(
            !point.is_complete() || point.is_written(),
            "a complete check point in memory is removed at once"
        );
        Job {
            id,
            task,
            key,
            topic: Arc::clone(&queue.topic),
            group: Arc::clone(&queue.group),
            queue_id: queue.queue_id,
            revive_queue: point.revive_queue,
            invisible_ms: point.invisible_ms.into(),
            offsets: point.offsets().collect(),
            acked: point.acked,
            saved: point.saved,
            is_written: point.is_written(),
            suspend: point.suspend,
            lease: self.lease_of(point, id).cloned(),
        }
    }

    /// The check point of a job, if it was not removed meanwhile.
    pub(super) fn point_of(&mut self, job: &Job) -> Option<&mut Point> {
        let point = self.points.get_mut(job.id as usize)?;
        (point.is_used && point.key() == job.key && point.at == NONE).then_some(point)
    }

    /// A record was appended at this offset of the revive topic; the log ends behind it at `log_end`.
    pub(in crate::pop) fn written(&mut self, job: &Job, record: i64, log_end: i64, now: Moment) {
        self.records.insert(job.revive_queue, record);
        let Some(point) = self.point_of(job) else {
            // Its topic or group was deleted.
            let revive_queue = job.revive_queue;
            self.settling.push_back((log_end, Settling::Record { revive_queue, record }));
            return;
        };
        let (queue, epoch, span) = (job.key.queue, point.epoch, point.span());
        point.write(record);
        point.saved = job.acked;
        if let Some(next) = span {
            self.settling.push_back((log_end, Settling::Span { queue, epoch, next }));
        }
        self.plan_written(job.id, now);
        self.settle_moved_from(job.id, log_end, now);
    }

    /// A check point that was made for a message of another one is in the log up to `log_end`.
    pub(super) fn settle_moved_from(&mut self, id: PointId, log_end: i64, now: Moment) {
        let Some(from) = self.moved_from(id) else { return };
        if let Some(offset) = self.acked(from, now) {
            unreachable!("the other check point holds back {offset} until the log is on the device up to {log_end}");
        }
    }

    /// Acknowledgements of these messages were appended.
    pub(in crate::pop) fn saved(&mut self, job: &Job, bits: u32, log_end: i64, now: Moment) {
        let Some(point) = self.point_of(job) else { return };
        point.saved |= bits;
        if point.saved != point.all() {
            return self.plan_written(job.id, now);
        }
        let (revive_queue, record) = (point.revive_queue, point.record());
        self.remove(job.id);
        if let Some(record) = record {
            self.settling.push_back((log_end, Settling::Record { revive_queue, record }));
        }
    }

    pub(super) fn plan_written(&mut self, id: PointId, now: Moment) {
        let point = &self.points[id as usize];
        let at = if point.is_complete() {
            now.steady_ms + SAVE_COMPLETE_AFTER_MS
        } else if point.acked == point.saved {
            point.due
        } else {
            point.due.min(now.steady_ms + SAVE_AFTER_MS)
        };
        self.plan(id, at);
    }

    /// The messages are stored again, or are gone: the check point is done when the log is synced up to `log_end`.
    pub(in crate::pop) fn revived(&mut self, job: &Job, log_end: i64, now: Moment) {
        let Some(point) = self.point_of(job) else { return };
        let (queue, epoch, span) = (job.key.queue, point.epoch, point.span());
        let (revive_queue, record) = (point.revive_queue, point.record());
        self.remove(job.id);
        if let Some(next) = span {
            self.settling.push_back((log_end, Settling::Span { queue, epoch, next }));
        }
        if let Some(record) = record {
            self.settling.push_back((log_end, Settling::Record { revive_queue, record }));
        }
        self.settle_moved_from(job.id, log_end, now);
    }

    /// The job could not be done; it is due again in a second.
    pub(in crate::pop) fn failed(&mut self, job: &Job, now: Moment) {
        self.try_again(job, now, RETRY_AFTER_MS);
    }

    /// The job was not done; it is due again after so many ms.
    pub(in crate::pop) fn try_again(&mut self, job: &Job, now: Moment, after_ms: i64) {
        let Some(point) = self.point_of(job) else { return };
        if point.is_complete() && !point.is_written() {
            // Acknowledged meanwhile: nothing is left to do.
            return self.revived(job, 0, now);
        }
        point.is_reviving = false;
        self.plan(job.id, now.steady_ms + after_ms);
    }

    /// The log is on the device up to this offset. Passes what may be committed now to `commit`.
    pub(in crate::pop) fn settle(&mut self, flushed: i64, mut commit: impl FnMut(Commit)) {
        while let Some((log_end, settling)) = self.settling.front().copied()
            && log_end <= flushed
        {
            self.settling.pop_front();
            match settling {
                Settling::Record { revive_queue, record } => {
                    self.records.remove(revive_queue, record);
                }
                Settling::Span { queue, epoch, next } => {
                    if let Some(offset) = self.let_go(queue, epoch, next) {
                        commit(self.commit(queue, offset));
                    }
                }
            }
        }
    }

    pub(super) fn commit(&self, queue: QueueIndex, offset: i64) -> Commit {
        let queue = &self.queues[queue as usize];
        Commit {
            topic: Arc::clone(&queue.topic),
            group: Arc::clone(&queue.group),
            queue_id: queue.queue_id,
            offset,
        }
    }

    /// The first record of a revive queue that is not done.
    pub(in crate::pop) fn first_record(&self, revive_queue: u16) -> Option<i64> {
        self.records.first(revive_queue)
    }
}
