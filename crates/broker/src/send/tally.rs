//! Statistics of sends. Messages of one read are counted together: a shared counter costs as much for one as for many.

use super::{Accepted, Sender};
use crate::destination::Destination;
use crate::stats::TopicCounters;
use smallvec::SmallVec;

/// How many queues of earlier requests one is compared with; with many queues more would cost more than it saves.
const LOOKED_AT: usize = 8;

impl Sender {
    /// Counters of the topic in which it is stored.
    fn counters<'s, A>(&'s self, one: &'s Accepted<'_, A>) -> &'s TopicCounters {
        match &one.checked.destination {
            Destination::Topic => &one.topic.counters,
            Destination::Schedule { .. } => &self.delayed,
            Destination::DeadLetter(dead) => &dead.counters,
            Destination::Half => &self.half,
            Destination::Timer { .. } => &self.timed,
        }
    }

    /// Counts the messages of requests, once for those of one topic that follow each other.
    pub(super) fn tally<A>(&self, group: &[Accepted<'_, A>], sizes: &[usize], now_ms: i64) {
        for together in group.chunk_by(|one, next| std::ptr::eq(self.counters(one), self.counters(next))) {
            let (mut messages, mut bytes) = (0, 0);
            for one in together {
                let of_request: usize = sizes[one.messages.clone()].iter().sum();
                messages += one.messages.len();
                bytes += of_request;
                match one.checked.destination {
                    Destination::Schedule { .. } => {
                        let (_, queue_id) = one.checked.destination.place(one.request.header.topic, one.queue_id);
                        self.stats.waits(queue_id, of_request as i64);
                    }
                    Destination::Half => self.transactions.opened(one.request.header.topic, now_ms),
                    Destination::Topic | Destination::DeadLetter(_) | Destination::Timer { .. } => {}
                }
            }
            self.counters(&together[0])
                .stored(messages as i64, bytes as i64, together.len() as i64);
        }
    }

    /// Counts the latency of requests that took equally long, together for those of one queue.
    pub(super) fn tally_time<A>(&self, group: &[Accepted<'_, A>], took_ms: i64) {
        let mut queues = SmallVec::<[(&TopicCounters, i32, i64); 64]>::new();
        for one in group {
            let counters = self.counters(one);
            let mut known = queues.iter_mut().rev().take(LOOKED_AT);
            match known.find(|(of, id, _)| std::ptr::eq(*of, counters) && *id == one.queue_id) {
                Some((_, _, requests)) => *requests += 1,
                None => queues.push((counters, one.queue_id, 1)),
            }
        }
        for (counters, queue_id, requests) in queues {
            counters.took(queue_id, took_ms, requests);
        }
    }
}
