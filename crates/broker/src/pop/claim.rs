//! The claim of a queue that a pop reads: where it starts, and that it ends.

use super::Pops;
use super::in_flight::{Begin, Claim, Full};
use super::order::Of;
use super::request::Pop;
use super::steps::Step;
use super::wake::GroupOnTopic;
use crate::errors::Refusal;
use crate::settings::BrokerSettings;
use protocol::codes::ResponseCode;
use protocol::pop::handle::Origin;
use std::sync::Arc;

/// A claim of a queue; ends when dropped.
pub(super) struct Claimed {
    pops: Arc<Pops>,
    of: Arc<GroupOnTopic>,
    step: Step,
    claim: Option<Claim>,
}

impl Claimed {
    /// The caller ends the claim.
    pub(super) fn take(mut self) -> Option<Claim> {
        self.claim.take()
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        if let Some(claim) = self.claim.take() {
            self.pops.state.lock().release(claim);
            // A pop that passed over the queue may wait for it. Not on this stack, which may be the one of another pop.
            let (pops, of, step) = (Arc::clone(&self.pops), Arc::clone(&self.of), self.step);
            let _ = self.pops.core.threads.catch_up.run_own(move || {
                pops.wake_queue(of.name(step.origin), &of.group, step.queue_id);
            });
        }
    }
}

/// How a step begins.
pub(super) enum Started {
    /// There is nothing to read; so many messages are left.
    Nothing(i64),
    Claimed(Claimed, i64),
}

impl Pops {
    /// Claims the queue of a step for a pop that `has` so many messages.
    pub(super) fn begin(self: &Arc<Self>, pop: &Pop, has: usize, step: Step, settings: &BrokerSettings) -> Result<Started, Refusal> {
        let (name, group, queue_id) = (pop.of.name(step.origin), &*pop.of.group, step.queue_id);
        let (store, offsets) = (&self.core.store, &self.core.offsets);
        let busy = |error: &dyn std::fmt::Display| Refusal::new(ResponseCode::SystemBusy, error.to_string());
        let max = store.max_offset(name, queue_id).0;
        let reset = offsets.take_reset(name, group, queue_id);
        let committed = match offsets.committed(name, group, queue_id) {
            Some(committed) => committed,
            None => {
                let start = self.start_offset(name, step, pop.starts_at_min, settings);
                offsets.commit(name, group, queue_id, start).map_err(|error| busy(&error))?;
                start
            }
        };
        let mut state = self.state.lock();
        let queue = state.open_queue(name, group, queue_id).map_err(|full| busy(&full))?;
        if reset.is_some() || committed > max {
            // Over the end after a crash that lost messages, as for a pull.
            state.reset(queue);
            if !self.orders.lock().is_empty() {
                self.orders.lock().clear(Of {
                    topic: name,
                    group,
                    queue_id,
                });
            }
        }
        if committed > max {
            let _ = offsets.commit(name, group, queue_id, max);
            return Ok(Started::Nothing(0));
        }
        if pop.in_order
            && !self.orders.lock().has_room(
                Of {
                    topic: name,
                    group,
                    queue_id,
                },
                settings.max_pop_queues,
            )
        {
            return Err(busy(&Full::Queues(settings.max_pop_queues)));
        }
        let position = state.position(queue, committed);
        if position >= max || (pop.in_order && self.is_blocked(&pop.reads(), step, committed)) {
            return Ok(Started::Nothing(0));
        }
        if has >= pop.most {
            return Ok(Started::Nothing(max - position));
        }
        Ok(match state.begin(queue, committed, Self::most_messages(settings)) {
            // Compat: what an order blocks is not counted.
            Begin::Busy | Begin::Limited => Started::Nothing(if pop.in_order { 0 } else { max - position }),
            Begin::At(claim) => {
                drop(state);
                if claim.is_covered {
                    let _ = offsets.commit(name, group, queue_id, claim.from);
                }
                let claimed = Claimed {
                    pops: Arc::clone(self),
                    of: Arc::clone(&pop.of),
                    step,
                    claim: Some(claim),
                };
                Started::Claimed(claimed, claim.from)
            }
        })
    }

    /// Where a group begins that never committed an offset.
    pub(super) fn start_offset(&self, name: &str, step: Step, at_min: bool, settings: &BrokerSettings) -> i64 {
        let store = &self.core.store;
        let min = store.min_offset(name, step.queue_id).0;
        if at_min || step.origin != Origin::Topic {
            return min.max(0);
        }
        let is_cached = || {
            let queues: &dyn crate::queues::Queues = &**store;
            queues.is_cached(name, step.queue_id, 0)
        };
        if settings.init_pop_offset_by_check_msg_in_mem && min <= 0 && is_cached() {
            return 0;
        }
        // Compat: with the last message.
        (store.max_offset(name, step.queue_id).0 - 1).max(0)
    }
}
