//! Parked pops and notifications, and what wakes them: a message, a queue that is free again, their deadline.
//!
//! A message wakes one pop and one notification of each group that waits for its topic, since only one pop can get it. When a pop leaves
//! messages in a queue, it wakes the next one. Requests are parked under topic and group; which groups wait for a topic, or for one of
//! their retry topics, is in [`Waiting`].

use super::check::retry_topics;
use super::notify::Notice;
use super::request::Pop;
use super::steps::Step;
use super::{Pops, in_flight::Full};
use crate::arrival::ArrivalListener;
use crate::hold::{Hold, NotParked};
use parking_lot::RwLock;
use protocol::codes::ResponseCode;
use protocol::pop::handle::Origin;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Weak};
use store::Arrival;

/// Pops that one event wakes on its own thread; a catch-up thread wakes the others.
const MAX_WOKEN_INLINE: usize = 64;
/// Parked requests that are answered in one batch.
const BATCH: usize = 256;

/// A topic and a group that pops from it.
#[derive(Debug)]
pub(super) struct GroupOnTopic {
    pub(super) topic: Box<str>,
    pub(super) group: Box<str>,
    /// Retry topics of version 1 and 2.
    retries: [Box<str>; 2],
    /// Under which requests are parked.
    pub(super) key: Box<str>,
}

impl GroupOnTopic {
    /// The topic that messages of this origin are in.
    pub(super) fn name(&self, origin: Origin) -> &str {
        match origin {
            Origin::Topic => &self.topic,
            Origin::RetryV1 => &self.retries[0],
            Origin::RetryV2 => &self.retries[1],
        }
    }

    fn names(&self) -> [&str; 3] {
        [&self.topic, &self.retries[0], &self.retries[1]]
    }
}

/// Groups by the names of their topic and of its retry topics.
type Groups = FxHashMap<Box<str>, SmallVec<[Arc<GroupOnTopic>; 2]>>;

/// Which groups pop from a topic, by the names of the topic and of their retry topics.
#[derive(Debug)]
pub(super) struct Waiting {
    most: usize,
    groups: RwLock<Groups>,
}

impl Waiting {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            groups: RwLock::default(),
        }
    }

    /// The group on the topic.
    ///
    /// # Errors
    /// [`Full::Queues`] if too many groups pop.
    pub(super) fn of(&self, topic: &str, group: &str) -> Result<Arc<GroupOnTopic>, Full> {
        let known = |groups: &Groups| {
            let of_topic = groups.get(topic)?.iter();
            of_topic.filter(|of| *of.topic == *topic).find(|of| *of.group == *group).cloned()
        };
        if let Some(of) = known(&self.groups.read()) {
            return Ok(of);
        }
        let mut groups = self.groups.write();
        if let Some(of) = known(&groups) {
            return Ok(of);
        }
        if groups.len() >= self.most.saturating_mul(3) {
            remove(&mut groups, |of| Arc::strong_count(of) <= of.names().len());
        }
        if groups.len() >= self.most.saturating_mul(3) {
            return Err(Full::Queues(self.most));
        }
        let of = Arc::new(GroupOnTopic {
            topic: topic.into(),
            group: group.into(),
            retries: retry_topics(topic, group).map(String::into_boxed_str),
            key: format!("{topic}@{group}").into(),
        });
        for name in of.names() {
            groups.entry(name.into()).or_default().push(Arc::clone(&of));
        }
        Ok(of)
    }

    fn on(&self, topic: &str) -> SmallVec<[Arc<GroupOnTopic>; 2]> {
        self.groups.read().get(topic).cloned().unwrap_or_default()
    }
}

/// Removes the groups on topics for which `is_gone` holds.
fn remove(groups: &mut Groups, is_gone: impl Fn(&Arc<GroupOnTopic>) -> bool) {
    // Judged once for each: the removal itself changes how often it is referred to.
    let gone: Vec<*const GroupOnTopic> = groups
        .iter()
        .flat_map(|(name, of_name)| of_name.iter().filter(move |of| *of.topic == **name))
        .filter(|of| is_gone(of))
        .map(Arc::as_ptr)
        .collect();
    groups.retain(|_, of_name| {
        of_name.retain(|of| !gone.contains(&Arc::as_ptr(of)));
        !of_name.is_empty()
    });
}

/// Wakes parked requests. Holds a weak reference, because the store owns this and the pops own the store.
struct Waker {
    pops: Weak<Pops>,
    hold: Arc<Hold<Pop>>,
    notices: Arc<Hold<Notice>>,
    revive_topic: Box<str>,
}

impl ArrivalListener for Waker {
    /// Called for every message: two atomic loads while nothing is parked.
    fn arrived(&self, message: &Arrival<'_>) {
        let topic = message.queue.topic();
        let is_revive = *topic == *self.revive_topic;
        if !is_revive && self.hold.is_empty() && self.notices.is_empty() {
            return;
        }
        let Some(pops) = self.pops.upgrade() else { return };
        if is_revive {
            pops.revive_arrived.store(true, SeqCst);
            pops.call_worker();
        } else {
            pops.arrived(topic, message.queue.queue_id(), message.tags_code);
        }
    }
}

impl Pops {
    /// The listener that wakes parked requests.
    #[must_use]
    pub fn listener(this: &Arc<Self>) -> impl ArrivalListener + use<> {
        Waker {
            pops: Arc::downgrade(this),
            hold: Arc::clone(&this.hold),
            notices: Arc::clone(&this.notices),
            revive_topic: this.revive_topic.clone(),
        }
    }

    fn arrived(self: &Arc<Self>, topic: &str, queue_id: i32, tags_code: i64) {
        for of in self.waiting.on(topic) {
            let is_retry = *of.topic != *topic;
            // A pop for any queue, or for one, reads retried messages, too.
            let taken = if is_retry || store::queue::is_ext_address(tags_code) {
                self.hold.take_of(&of.key, 1)
            } else {
                self.hold.take(&of.key, queue_id, tags_code, 1)
            };
            let woken = taken.requests.into_iter().next();
            let by_content = || self.hold.take_by_content(&of.key, queue_id, 1).requests.into_iter().next();
            match woken {
                Some(pop) => self.resume(pop),
                None if self.hold.has_by_content() => {
                    if let Some(pop) = by_content() {
                        self.resume_later(pop);
                    }
                }
                None => {}
            }
            let notices = if is_retry {
                self.notices.take_of(&of.key, 1)
            } else {
                self.notices.take(&of.key, queue_id, tags_code, 1)
            };
            notices.requests.into_iter().for_each(|notice| self.notify(notice));
        }
    }

    /// Continues a parked pop, and further ones while they leave messages.
    fn resume(self: &Arc<Self>, pop: Pop) {
        let of = Arc::clone(&pop.of);
        let mut next = Some(pop);
        for _ in 0..MAX_WOKEN_INLINE {
            let Some(pop) = next.take() else { return };
            let left = self.run(pop);
            next = left.and_then(|left| self.next_of(&of, left));
        }
        if let Some(pop) = next {
            self.resume_later(pop);
        }
    }

    /// Continues a pop on a catch-up thread; its client repeats it if too many wait there.
    pub(super) fn resume_later(self: &Arc<Self>, pop: Pop) {
        let pops = Arc::clone(self);
        self.core.threads.catch_up.run_own_with(
            pop,
            move |pop| net::together(|| pops.resume(pop)),
            |pop, _| self.answer_empty(pop, ResponseCode::PollingTimeout, 0),
        );
    }

    /// The next pop that could read this queue.
    fn next_of(&self, of: &GroupOnTopic, left: Step) -> Option<Pop> {
        let taken = if left.origin == Origin::Topic {
            self.hold.take_all(&of.key, left.queue_id, 1)
        } else {
            self.hold.take_of(&of.key, 1)
        };
        taken.requests.into_iter().next()
    }

    /// A pop left messages in a queue: wakes the next pop of the group.
    pub(super) fn wake_next(self: &Arc<Self>, of: &GroupOnTopic, left: Step) {
        if !self.hold.is_empty()
            && let Some(pop) = self.next_of(of, left)
        {
            self.resume(pop);
        }
    }

    /// A queue of a group is free again, by its name.
    pub(crate) fn wake_queue(self: &Arc<Self>, topic: &str, group: &str, queue_id: i32) {
        if self.hold.is_empty() && self.notices.is_empty() {
            return;
        }
        let first = message::names::popped_topic(topic, group);
        let Ok(of) = self.waiting.of(first, group) else { return };
        let woken = if *first == *topic {
            self.hold.take_all(&of.key, queue_id, 1)
        } else {
            self.hold.take_of(&of.key, 1)
        };
        woken.requests.into_iter().for_each(|pop| self.resume(pop));
        let notices = self.notices.take_of(&of.key, 1);
        notices.requests.into_iter().for_each(|notice| self.notify(notice));
    }

    /// Parks a pop that found nothing, or answers it.
    pub(super) fn park(self: &Arc<Self>, pop: Pop, rest: i64) {
        let Some(until) = pop.until else {
            return self.answer_empty(pop, ResponseCode::PollingTimeout, rest);
        };
        let reads = pop.reads();
        let id = match self.hold.park(until, pop) {
            Ok(id) => id,
            Err((pop, NotParked::Closed)) => return self.answer_empty(pop, ResponseCode::PollingTimeout, rest),
            Err((pop, _)) => return self.answer_empty(pop, ResponseCode::PollingFull, rest),
        };
        // Nothing wakes it for a message or a free queue between the reading and the parking.
        if self.has_messages(&reads)
            && let Some(pop) = self.hold.take_one(id)
        {
            // Not on this stack: it would recurse while messages keep arriving.
            self.resume_later(pop);
        }
    }

    /// Answers the requests whose deadline has passed. Called twice a second.
    pub(super) fn expire(self: &Arc<Self>, now_ms: i64) {
        if !self.hold.is_empty() {
            loop {
                let taken = self.hold.expired(now_ms, BATCH);
                net::together(|| {
                    let expired = taken.requests.into_iter();
                    expired.for_each(|pop| self.answer_empty(pop, ResponseCode::PollingTimeout, 0));
                });
                if !taken.more {
                    break;
                }
            }
        }
        while !self.notices.is_empty() {
            let taken = self.notices.expired(now_ms, BATCH);
            net::together(|| taken.requests.into_iter().for_each(|notice| self.notify_late(notice)));
            if !taken.more {
                break;
            }
        }
    }

    /// Answers the requests that wait for what was deleted.
    pub(super) fn answer_deleted(&self, is_deleted: impl Fn(&DeletedName<'_>) -> bool) {
        let is_gone = |of: &GroupOnTopic| {
            is_deleted(&DeletedName {
                topic: &of.topic,
                group: &of.group,
            })
        };
        let pops = self.hold.take_if(|pop| is_gone(&pop.of));
        if let Some(this) = self.shared() {
            pops.into_iter()
                .for_each(|pop| this.answer_empty(pop, ResponseCode::PollingTimeout, 0));
        }
        let notices = self.notices.take_if(|notice| is_gone(&notice.of));
        notices.into_iter().for_each(Notice::answer_none);
        remove(&mut self.waiting.groups.write(), |of| is_gone(of));
    }
}

/// What a parked request waits for.
pub(super) struct DeletedName<'a> {
    pub(super) topic: &'a str,
    pub(super) group: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_by_their_topic_and_their_retry_topics() {
        let waiting = Waiting::new(2);
        let of = waiting.of("t", "g").unwrap();
        assert!(Arc::ptr_eq(&of, &waiting.of("t", "g").unwrap()));
        for name in ["t", "%RETRY%g_t", "%RETRY%g+t"] {
            assert!(Arc::ptr_eq(&waiting.on(name)[0], &of), "{name}");
        }
        assert_eq!(of.name(Origin::RetryV2), "%RETRY%g+t");
        let second = waiting.of("u", "g").unwrap();
        assert_eq!(waiting.of("v", "g").unwrap_err(), Full::Queues(2));
        drop(of);
        waiting.of("v", "g").unwrap();
        assert!(waiting.on("t").is_empty() && waiting.on("%RETRY%g_t").is_empty(), "it was not used");
        assert!(Arc::ptr_eq(&waiting.on("u")[0], &second));
    }
}
