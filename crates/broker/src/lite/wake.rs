//! Parked pops, and what wakes them: a message, messages that are visible again, their deadline.

use super::Lites;
use super::pop::Pop;
use super::state::Wakes;
use crate::arrival::ArrivalListener;
use crate::clock::now_ms;
use crate::feature;
use crate::hold::NotParked;
use crate::pop::EXPIRE_EVERY;
use message::names;
use protocol::codes::ResponseCode;
use std::sync::{Arc, Weak};
use std::time::Duration;
use store::Arrival;

/// Parked requests that are answered in one batch.
const BATCH: usize = 256;
/// Longest sleep before messages that are visible again are looked for, if any are in flight.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Under which pops of a client are parked. Those of a wildcard group are parked together.
pub(super) fn key(group: &str, client: Option<&str>) -> Box<str> {
    format!("{group}\0{}", client.unwrap_or_default()).into()
}

/// Wakes parked pops. Holds a weak reference, because the store owns this.
struct Waker {
    lites: Weak<Lites>,
}

impl ArrivalListener for Waker {
    fn arrived(&self, message: &Arrival<'_>) {
        let queue = message.queue.topic();
        if let Some((parent, _)) = names::lite_topic_of(queue)
            && let Some(lites) = self.lites.upgrade()
        {
            lites.arrived(parent, queue);
        }
    }
}

impl Lites {
    /// The listener that tells which lite topics have messages.
    #[must_use]
    pub fn listener(this: &Arc<Self>) -> impl ArrivalListener + use<> {
        Waker {
            lites: Arc::downgrade(this),
        }
    }

    fn arrived(self: &Arc<Self>, parent: &str, queue: &str) {
        let now = self.now();
        let groups = self.state.lock().groups_on(parent);
        for group in groups {
            let wakes = self.state.lock().ready(&group, queue, now);
            if let Some(pop) = self.take_parked(&group, wakes) {
                self.run_pop(pop);
            }
        }
    }

    /// The lite topic may have messages for the group. A pop that is woken continues on another thread.
    pub(super) fn ready_later(self: &Arc<Self>, group: &str, queue: &str) {
        let wakes = self.state.lock().ready(group, queue, self.now());
        if let Some(pop) = self.take_parked(group, wakes) {
            self.resume_later(pop);
        }
    }

    fn take_parked(&self, group: &str, wakes: Wakes) -> Option<Pop> {
        if self.hold.is_empty() {
            return None;
        }
        let take = |client| self.hold.take_of(&key(group, client), 1).requests.into_iter().next();
        match wakes {
            Wakes::Nobody => None,
            Wakes::Any => take(None),
            Wakes::Of(clients) => clients.iter().find_map(|client| take(Some(client))),
        }
    }

    /// Continues a pop on a catch-up thread; its client repeats it if too many wait there.
    pub(super) fn resume_later(self: &Arc<Self>, pop: Pop) {
        let lites = Arc::clone(self);
        self.core.threads.catch_up.run_own_with(
            pop,
            move |pop| net::together(|| lites.run_pop(pop)),
            |pop, _| self.answer_empty(pop, ResponseCode::PollingTimeout),
        );
    }

    /// Parks a pop that found nothing, or answers it.
    pub(super) fn park(self: &Arc<Self>, pop: Pop) {
        let Some(until) = pop.until else {
            return self.answer_empty(pop, ResponseCode::PollingTimeout);
        };
        let (group, client) = (pop.group.clone(), pop.client.clone());
        let id = match self.hold.park(until, pop) {
            Ok(id) => id,
            Err((pop, NotParked::Closed)) => return self.answer_empty(pop, ResponseCode::PollingTimeout),
            Err((pop, _)) => return self.answer_empty(pop, ResponseCode::PollingFull),
        };
        // Nothing wakes it for what became ready between the look and the parking.
        let has_ready = self.state.lock().has_ready(&group, &client);
        if has_ready && let Some(pop) = self.hold.take_one(id) {
            // Not on this stack: it would recurse while messages keep arriving.
            self.resume_later(pop);
        }
    }

    /// Answers parked pops whose deadline has passed, twice a second.
    pub(super) async fn answer_late(self: Arc<Self>) {
        feature::every(EXPIRE_EVERY, move |now_ms| self.answer_expired(now_ms)).await;
    }

    pub(super) fn answer_expired(&self, now_ms: i64) {
        while !self.hold.is_empty() {
            let taken = self.hold.expired(now_ms, BATCH);
            net::together(|| {
                let expired = taken.requests.into_iter();
                expired.for_each(|pop| self.answer_empty(pop, ResponseCode::PollingTimeout));
            });
            if !taken.more {
                break;
            }
        }
    }

    /// Answers the pops of a deleted group.
    pub(super) fn answer_deleted(&self, group: &str) {
        let pops = self.hold.take_if(|pop| *pop.group == *group);
        pops.into_iter()
            .for_each(|pop| self.answer_empty(pop, ResponseCode::PollingTimeout));
    }

    /// Answers the pops of a client that is gone.
    pub(super) fn answer_removed(&self, group: &str, client: &str) {
        let of_client = self.hold.take_of(&key(group, Some(client)), usize::MAX - 1).requests;
        of_client
            .into_iter()
            .for_each(|pop| self.answer_empty(pop, ResponseCode::PollingTimeout));
    }

    /// Wakes pops for messages that are visible again, when they are.
    pub(super) async fn wake_visible(self: Arc<Self>) {
        loop {
            let visible = self.state.lock().take_visible(self.now(), BATCH);
            for (group, queue) in &visible {
                self.ready_later(group, queue);
            }
            if visible.len() == BATCH {
                tokio::task::yield_now().await;
                continue;
            }
            let next = self.state.lock().next_wake();
            match next {
                None => self.sooner.notified().await,
                Some(at) => {
                    let left = Duration::from_millis(u64::try_from(at.saturating_sub(self.now())).unwrap_or(0)).min(LONGEST_SLEEP);
                    // Either way the table is read again.
                    drop(tokio::time::timeout(left, self.sooner.notified()).await);
                }
            }
        }
    }

    /// Messages are visible again at `at`: the task that wakes pops sleeps no longer.
    pub(super) fn plan(&self, before: Option<i64>, after: Option<i64>) {
        if after.is_some_and(|after| before.is_none_or(|before| after < before)) {
            self.sooner.notify_one();
        }
    }

    /// Answers a pop without messages.
    pub(super) fn answer_empty(&self, pop: Pop, code: ResponseCode) {
        pop.asker.answer(super::LitePopResult {
            code,
            pop_time: now_ms(),
            invisible_ms: pop.invisible_ms,
            taken: Vec::new(),
            records: Vec::new(),
            bytes: 0,
            is_held: false,
        });
    }
}
