//! Which queues a pop reads, and in which order; whether there is something to read in them.

use super::Pops;
use super::order::Of;
use super::wake::GroupOnTopic;
use crate::attributes::{PRIORITY_FACTOR, USUAL_PRIORITY_FACTOR};
use crate::settings::BrokerSettings;
use crate::topic::Topic;
use protocol::pop::handle::Origin;
use smallvec::SmallVec;
use std::sync::Arc;

/// What a pop or notification reads.
#[derive(Clone)]
pub(super) struct ReadsOf {
    pub(super) topic: Arc<Topic>,
    pub(super) of: Arc<GroupOnTopic>,
    pub(super) queue_id: i32,
    pub(super) in_order: bool,
    pub(super) attempt: Option<Box<str>>,
}

/// A queue to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) origin: Origin,
    pub(super) queue_id: i32,
}

impl Pops {
    /// The queues to read, in their order: from another one at each turn, so that none is read rarely. By priority: from the queue of the
    /// highest one, then the others by their priority. Compat: as Apache, which of both is drawn for each pop, with the probability of
    /// the group's `priority.factor`.
    pub(super) fn steps(&self, reads: &ReadsOf, settings: &BrokerSettings, turn: u32) -> SmallVec<[Step; 16]> {
        let mut steps = SmallVec::new();
        // 37 and 100 have no common divisor: the pops that differ from the others are spread.
        let drawn = turn.wrapping_mul(37) % 100;
        let by_priority = reads.topic.has_priorities && !reads.in_order && drawn < self.priority_factor(&reads.of.group);
        let first = if by_priority { 0 } else { turn };
        let of_topic = |steps: &mut SmallVec<[Step; 16]>, origin, queues: i32| {
            let first = (first % queues.max(1) as u32) as i32;
            steps.extend((0..queues).map(|n| Step {
                origin,
                queue_id: (first + if settings.priority_order_asc { queues - 1 - n } else { n }) % queues,
            }));
        };
        let retry = (!reads.in_order).then(|| self.retry_topic(&reads.of, settings, turn)).flatten();
        let is_first = drawn
            < if by_priority {
                settings.pop_from_retry_probability_for_priority
            } else {
                settings.pop_from_retry_probability
            };
        if let Some((origin, queues)) = retry.filter(|_| is_first) {
            of_topic(&mut steps, origin, queues);
        }
        if reads.queue_id < 0 {
            of_topic(&mut steps, Origin::Topic, reads.topic.read_queues);
        } else {
            steps.push(Step {
                origin: Origin::Topic,
                queue_id: reads.queue_id,
            });
        }
        if let Some((origin, queues)) = retry.filter(|_| !is_first) {
            of_topic(&mut steps, origin, queues);
        }
        steps
    }

    /// The percentage of a group's pops that read a topic with priorities by them.
    fn priority_factor(&self, group: &str) -> u32 {
        let rule = self.core.groups.find(group);
        let factor = rule.and_then(|rule| rule.attributes.get(PRIORITY_FACTOR)?.parse().ok());
        factor.unwrap_or(USUAL_PRIORITY_FACTOR)
    }

    /// The retry topic that a pop reads, with its number of queues. Compat: of both versions, one in turn.
    fn retry_topic(&self, of: &GroupOnTopic, settings: &BrokerSettings, turn: u32) -> Option<(Origin, i32)> {
        let queues = |origin| {
            let topic = self.core.topics.find(of.name(origin))?;
            Some((origin, topic.read_queues))
        };
        let reads_v1 = !settings.retry_topic_v2 || settings.retrieve_retry_topic_v1;
        let (v1, v2) = (reads_v1.then(|| queues(Origin::RetryV1)).flatten(), queues(Origin::RetryV2));
        if turn.is_multiple_of(2) { v1.or(v2) } else { v2.or(v1) }
    }

    /// Whether a pop would find messages now, if they are selected.
    pub(super) fn has_messages(&self, reads: &ReadsOf) -> bool {
        let settings = self.core.settings.current();
        let most = Self::most_messages(&settings);
        // Both versions of the retry topic.
        let mut steps = self.steps(reads, &settings, 0);
        steps.extend(self.steps(reads, &settings, 1));
        steps.iter().any(|step| {
            let (name, group, queue_id) = (reads.of.name(step.origin), &reads.of.group, step.queue_id);
            let max = self.core.store.max_offset(name, queue_id).0;
            let Some(committed) = self.core.offsets.committed(name, group, queue_id) else {
                return max > 0;
            };
            if self.core.offsets.reset_pending(name, group, queue_id) {
                return committed < max;
            }
            let position = {
                let state = self.state.lock();
                match state.find_queue(name, group, queue_id) {
                    Some(queue) if !state.is_free(queue, most) => return false,
                    Some(queue) => state.position(queue, committed),
                    None => committed,
                }
            };
            position < max && !(reads.in_order && self.is_blocked(reads, *step, committed))
        })
    }

    pub(super) fn is_blocked(&self, reads: &ReadsOf, step: Step, committed: i64) -> bool {
        let of = Of {
            topic: reads.of.name(step.origin),
            group: &reads.of.group,
            queue_id: step.queue_id,
        };
        let now = self.now();
        self.orders.lock().is_blocked(of, reads.attempt.as_deref(), committed, now)
    }
}
