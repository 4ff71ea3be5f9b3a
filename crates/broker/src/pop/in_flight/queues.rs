//! Queues of groups, and the pops that read them.

use super::{Begin, Claim, Full, InFlight, NO_QUEUE, Popped, Queue, Span};
use crate::delay::clock::Moment;
use crate::pop::point::{Key, Point, QueueIndex};
use std::collections::VecDeque;
use std::sync::Arc;

/// Room for so many spans is not kept for later.
const MANY_SPANS: usize = 1024;

impl InFlight {
    /// Messages of a queue in flight.
    #[cfg(test)]
    pub(in crate::pop) fn messages(&self, queue: QueueIndex) -> u64 {
        self.queues[queue as usize].messages
    }

    pub(in crate::pop) fn find_queue(&self, topic: &str, group: &str, queue_id: i32) -> Option<QueueIndex> {
        let at = usize::try_from(queue_id).ok()?;
        let queue = *self.index.get(topic)?.get(group)?.get(at)?;
        (queue != NO_QUEUE).then_some(queue)
    }

    /// The queue of a group, made if it is not known.
    ///
    /// # Errors
    /// [`Full::Queues`]. `queue_id` must not be negative.
    pub(in crate::pop) fn open_queue(&mut self, topic: &str, group: &str, queue_id: i32) -> Result<QueueIndex, Full> {
        if let Some(queue) = self.find_queue(topic, group, queue_id) {
            return Ok(queue);
        }
        if self.queues.len() - self.free_queues.len() >= self.limits.queues {
            self.close_idle_queues();
        }
        if self.queues.len() - self.free_queues.len() >= self.limits.queues {
            return Err(Full::Queues(self.limits.queues));
        }
        Ok(self.add_queue(topic, group, queue_id))
    }

    pub(super) fn add_queue(&mut self, topic: &str, group: &str, queue_id: i32) -> QueueIndex {
        assert!(queue_id >= 0, "a queue has an id");
        let topic = self
            .index
            .get_key_value(topic)
            .map_or_else(|| topic.into(), |(known, _)| known.clone());
        let groups = self.index.entry(Arc::clone(&topic)).or_default();
        let group = groups.get_key_value(group).map_or_else(|| group.into(), |(known, _)| known.clone());
        let by_id = groups.entry(Arc::clone(&group)).or_default();
        self.epochs = self.epochs.wrapping_add(1);
        let queue = Queue {
            topic,
            group,
            queue_id,
            is_claimed: false,
            is_used: true,
            epoch: self.epochs,
            messages: 0,
            points: 0,
            spans: VecDeque::new(),
            covered: Vec::new(),
        };
        let index = match self.free_queues.pop() {
            Some(free) => {
                self.queues[free as usize] = queue;
                free
            }
            None => {
                self.queues.push(queue);
                (self.queues.len() - 1) as QueueIndex
            }
        };
        let at = queue_id as usize;
        if by_id.len() <= at {
            by_id.resize(at + 1, NO_QUEUE);
        }
        by_id[at] = index;
        index
    }

    pub(super) fn close_idle_queues(&mut self) {
        for index in 0..self.queues.len() {
            let queue = &self.queues[index];
            if queue.is_used && !queue.is_claimed && queue.points == 0 && queue.spans.is_empty() && queue.covered.is_empty() {
                self.close_queue(index as QueueIndex);
            }
        }
    }

    pub(super) fn close_queue(&mut self, index: QueueIndex) {
        let queue = &mut self.queues[index as usize];
        queue.is_used = false;
        queue.spans = VecDeque::new();
        queue.covered = Vec::new();
        let (topic, group, at) = (Arc::clone(&queue.topic), Arc::clone(&queue.group), queue.queue_id as usize);
        self.free_queues.push(index);
        if let Some(groups) = self.index.get_mut(&topic) {
            if let Some(by_id) = groups.get_mut(&group) {
                by_id[at] = NO_QUEUE;
                if by_id.iter().all(|queue| *queue == NO_QUEUE) {
                    groups.remove(&group);
                }
            }
            if groups.is_empty() {
                self.index.remove(&topic);
            }
        }
    }

    /// The offset at which the next pop of a queue begins, whether or not one may begin.
    pub(in crate::pop) fn position(&self, queue: QueueIndex, committed: i64) -> i64 {
        let queue = &self.queues[queue as usize];
        queue.covered_to(queue.spans.back().map_or(committed, |span| span.next.max(committed)))
    }

    /// Whether a pop could read the queue now.
    pub(in crate::pop) fn is_free(&self, queue: QueueIndex, most_messages: Option<u64>) -> bool {
        let queue = &self.queues[queue as usize];
        !queue.is_claimed && most_messages.is_none_or(|most| queue.messages <= most)
    }

    /// A pop begins to read a queue whose committed offset is this one.
    pub(in crate::pop) fn begin(&mut self, index: QueueIndex, committed: i64, most_messages: Option<u64>) -> Begin {
        let position = self.position(index, committed);
        let queue = &mut self.queues[index as usize];
        if queue.is_claimed {
            return Begin::Busy;
        }
        if most_messages.is_some_and(|most| queue.messages > most) {
            return Begin::Limited;
        }
        queue.covered.retain(|(_, to)| *to > committed);
        queue.is_claimed = true;
        Begin::At(Claim {
            queue: index,
            epoch: queue.epoch,
            from: position,
            is_covered: queue.spans.is_empty() && position > committed,
        })
    }

    /// The pop ends without a message. Every claim ends once.
    pub(in crate::pop) fn release(&mut self, claim: Claim) {
        let queue = &mut self.queues[claim.queue as usize];
        assert!(queue.is_claimed, "a claim ends once");
        queue.is_claimed = false;
    }

    /// Ends a claim. False if an operator moved the offset or deleted the topic since it began.
    pub(super) fn end(&mut self, claim: Claim) -> bool {
        self.release(claim);
        self.queues[claim.queue as usize].epoch == claim.epoch
    }

    /// The pop ends: none of the messages before `next` is selected. Returns the offset to commit.
    pub(in crate::pop) fn passed(&mut self, claim: Claim, next: i64) -> Option<i64> {
        if !self.end(claim) || next <= claim.from {
            return None;
        }
        self.queues[claim.queue as usize].push(next, 0)
    }

    /// The pop ends: these messages are in flight from now on. False if they must not be handed out, because an operator moved the offset
    /// or deleted the topic meanwhile.
    ///
    /// # Errors
    /// [`Full::Points`]; nothing is in flight then, and the queue is free again.
    pub(in crate::pop) fn popped(&mut self, claim: Claim, popped: Popped<'_>, now: Moment) -> Result<bool, Full> {
        let key = Key {
            queue: claim.queue,
            start: claim.from,
            pop_time: popped.pop_time,
        };
        // The same offset was popped in the same millisecond, before an operator moved back the offset.
        if !self.end(claim) || self.find(key).is_some() {
            return Ok(false);
        }
        if self.points() >= self.limits.points {
            return Err(Full::Points(self.limits.points));
        }
        let queue = &mut self.queues[claim.queue as usize];
        let committed = queue.push(popped.next, 1);
        debug_assert_eq!(committed, None, "a span that is held back is not committed");
        let mut point = Point::new(key, popped.offsets);
        point.epoch = queue.epoch;
        point.hold(popped.next);
        point.revive_queue = popped.revive_queue;
        let id = self.insert_new(point, popped.invisible_ms, now);
        if let Some(lease) = popped.lease {
            self.hold_for(id, lease);
        }
        Ok(true)
    }
}

impl Queue {
    /// Adds a span that was passed, and returns the offset to commit.
    pub(super) fn push(&mut self, next: i64, holders: u32) -> Option<i64> {
        debug_assert!(self.spans.back().is_none_or(|last| last.next < next), "spans are passed in order");
        self.spans.push_back(Span { next, holders });
        self.drain()
    }

    /// Removes the spans that nothing holds back, and returns the end of the last one.
    pub(super) fn drain(&mut self) -> Option<i64> {
        let mut end = None;
        while let Some(span) = self.spans.front()
            && span.holders == 0
        {
            end = Some(span.next);
            self.spans.pop_front();
        }
        let end = end?;
        if self.spans.is_empty() && self.spans.capacity() > MANY_SPANS {
            self.spans = VecDeque::new();
        }
        Some(if self.spans.is_empty() { self.covered_to(end) } else { end })
    }

    /// The end of what records of an earlier run describe from this position on without a gap.
    pub(super) fn covered_to(&self, mut position: i64) -> i64 {
        // Sorted when they were added.
        for (from, to) in &self.covered {
            if *from <= position {
                position = position.max(*to);
            }
        }
        position
    }

    pub(super) fn span_mut(&mut self, epoch: u32, next: i64) -> Option<&mut Span> {
        if epoch != self.epoch || !self.is_used {
            return None;
        }
        let at = self.spans.binary_search_by_key(&next, |span| span.next).ok()?;
        self.spans.get_mut(at)
    }
}
