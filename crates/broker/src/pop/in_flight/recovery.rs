//! What a start reads from the revive topic.

use super::{Covered, InFlight, MAX_INVISIBLE_MS, Recovered};
use crate::delay::clock::Moment;
use crate::pop::point::{Key, NONE, Point};
use std::sync::Arc;

impl InFlight {
    /// A check point was read from the revive topic.
    pub(in crate::pop) fn recover_point(&mut self, topic: &str, group: &str, queue_id: i32, of: Recovered<'_>, now: Moment) {
        let queue = match self.find_queue(topic, group, queue_id) {
            Some(queue) => queue,
            None => self.add_queue(topic, group, queue_id),
        };
        let key = Key {
            queue,
            start: of.start,
            pop_time: of.pop_time,
        };
        if self.find(key).is_some() {
            return;
        }
        let mut point = Point::new(key, of.offsets);
        point.acked = of.acked & point.all();
        point.saved = point.acked;
        if point.is_complete() {
            return;
        }
        let invisible_ms = of.invisible_ms.clamp(0, MAX_INVISIBLE_MS);
        let left = of.pop_time.saturating_add(invisible_ms).saturating_sub(now.wall_ms);
        point.invisible_ms = invisible_ms as u32;
        // By a clock that was set back it would be invisible for longer than it was popped for.
        point.due = now.steady_ms + left.clamp(0, invisible_ms) + of.grace_ms;
        point.write(of.record);
        point.revive_queue = of.revive_queue;
        point.suspend = of.suspend;
        self.records.insert(of.revive_queue, of.record);
        let end = of.offsets.last().map_or(of.start, |last| last + 1);
        let covered = &mut self.queues[queue as usize].covered;
        let at = covered.partition_point(|(from, _)| *from <= of.start);
        match covered[..at].last_mut().filter(|(_, to)| *to >= of.start) {
            Some((_, to)) => *to = end.max(*to),
            None => covered.insert(at, (of.start, end)),
        }
        let due = point.due;
        let id = self.insert(point, due);
        if let Some(lease) = of.lease {
            self.hold_for(id, lease);
        }
    }

    /// The queues that check points of the revive topic describe, after a start has read all of them: their committed offset may move to
    /// [`Self::position`].
    pub(in crate::pop) fn covered(&self) -> Vec<Covered> {
        let queues = self.queues.iter().zip(0..).filter(|(queue, _)| !queue.covered.is_empty());
        let covered = queues.map(|(queue, index)| Covered {
            index,
            topic: Arc::clone(&queue.topic),
            group: Arc::clone(&queue.group),
            queue_id: queue.queue_id,
        });
        covered.collect()
    }

    /// An acknowledgement was read from the revive topic.
    pub(in crate::pop) fn recover_ack(&mut self, topic: &str, group: &str, queue_id: i32, start: i64, pop_time: i64, offset: i64) {
        let Some(queue) = self.find_queue(topic, group, queue_id) else {
            return;
        };
        let Some(id) = self.find(Key { queue, start, pop_time }) else {
            return;
        };
        let point = &mut self.points[id as usize];
        let Some(bit) = point.bit_of(offset) else { return };
        if point.acked & bit == 0 {
            point.acked |= bit;
            self.queues[queue as usize].messages -= 1;
        }
        point.saved |= bit;
        // The thread that works on it removes it.
        if point.saved == point.all() && point.at != NONE {
            let (revive_queue, record, epoch, span) = (point.revive_queue, point.record(), point.epoch, point.span());
            self.remove(id);
            if let Some(record) = record {
                self.records.remove(revive_queue, record);
            }
            if let Some(span) = span {
                self.let_go(queue, epoch, span);
            }
            self.moves.remove(&id);
        }
    }
}
