//! Who subscribes to which lite topic, which lite topics have messages for whom, and what is in flight. Pure state; times are of the
//! monotonic clock, in ms.
//!
//! A lite topic that has messages for a group is *ready*, and in the list of each client that subscribes to it. A pop takes the first ready
//! one of its client's list; the others find it taken and pass it over. So no client holds messages that it does not ask for, and a list is
//! no longer than the client's subscriptions.
//!
//! Invariants
//! - A lite topic with messages that are neither in flight nor being read is ready, once [`State::ready`] was called for it.
//! - A ready lite topic is in the list of each of its subscribers. A list has it once.
//! - One pop at a time reads a lite topic for a group ([`Reading`]), and none while messages of it are in flight.
//! - A lite topic of a group without subscribers and messages in flight takes no memory.

mod reading;
mod subscriptions;
#[cfg(test)]
mod tests;
mod views;

use super::flight::Flight;
use smallvec::SmallVec;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

/// Name of a group, client, parent topic, or light queue.
pub(super) type Name = Arc<str>;
/// Clients, in the order in which they should be woken.
pub(super) type Clients = SmallVec<[Name; 1]>;

/// How often each message was handed out before; `None` for one that was acknowledged already.
pub(super) type Counts = SmallVec<[Option<u16>; 8]>;

/// Whose parked pops may get messages of a lite topic: one of them is to be woken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wakes {
    /// Nobody's.
    Nobody,
    /// Those of these clients, in this order.
    Of(Clients),
    /// Those of any client of the wildcard group.
    Any,
}

/// The limits, each a setting.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Pairs of client and lite topic: `maxLiteSubscriptionCount`.
    pub(super) subscriptions: usize,
    /// Clients of one group that subscribe to one lite topic: `apogeeMaxLiteSubscribers`.
    pub(super) subscribers: usize,
    /// Lite topics with messages in flight, counted for each group: `apogeeMaxLiteInFlight`.
    pub(super) in_flight: usize,
    /// Lite topics of one client; the group's `lite.sub.client.quota`.
    pub(super) of_client: usize,
}

/// Which limit was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Full {
    #[error("the broker has {0} lite subscriptions already, which is the limit (maxLiteSubscriptionCount)")]
    Subscriptions(usize),
    #[error("{0} clients of the group subscribe to the lite topic already, which is the limit (apogeeMaxLiteSubscribers)")]
    Subscribers(usize),
    #[error("the client would subscribe to {wanted} lite topics, the limit of its group is {most} (lite.sub.client.quota)")]
    OfClient { wanted: usize, most: usize },
    #[error("messages of {0} lite topics are in flight, which is the limit (apogeeMaxLiteInFlight): acknowledge them")]
    InFlight(usize),
}

/// A pop reads a lite topic. Ends with [`State::found`] or [`State::nothing`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) group: Name,
    pub(super) queue: Name,
    number: u64,
}

/// Result of an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Acked {
    /// Commit this offset.
    Done {
        next: i64,
        /// The lite topic can hand out messages.
        is_free: bool,
    },
    /// The message is not in flight: its time has passed, or it was acknowledged.
    Unknown,
}

/// A lite topic of a group.
#[derive(Debug, Default)]
struct Queue {
    subscribers: SmallVec<[Name; 1]>,
    is_ready: bool,
    reading: Option<u64>,
    flight: Option<Box<Flight>>,
    /// When its messages are visible again, as it is planned.
    wake_at: Option<i64>,
    /// For whom messages are held, as [`State::held`] has it.
    holder: Option<u64>,
}

/// Lite topics that may be ready.
#[derive(Debug, Default)]
struct Ready {
    order: VecDeque<Name>,
    members: HashSet<Name>,
}

impl Ready {
    fn add(&mut self, queue: &Name) {
        if self.members.insert(Arc::clone(queue)) {
            self.order.push_back(Arc::clone(queue));
        }
    }

    fn take(&mut self) -> Option<Name> {
        loop {
            let queue = self.order.pop_front()?;
            if self.members.remove(&queue) {
                return Some(queue);
            }
        }
    }

    fn remove(&mut self, queue: &str) {
        self.members.remove(queue);
        // What was removed stays in the order until it is met, but never makes up most of it.
        if self.order.len() > 16 + 2 * self.members.len() {
            let mut seen = HashSet::new();
            let members = &self.members;
            self.order.retain(|queue| members.contains(queue) && seen.insert(Arc::clone(queue)));
        }
    }
}

/// A client of a group.
#[derive(Debug)]
struct Client<C> {
    channel: C,
    queues: HashSet<Name>,
    ready: Ready,
    /// When it changed its subscriptions or popped last.
    seen_at: i64,
    last_access: Option<i64>,
    last_consume: Option<i64>,
    /// The last pop with an attempt id, and the lite topics of its answer.
    attempt: Option<(Box<str>, SmallVec<[Name; 1]>)>,
}

#[derive(Debug)]
struct Group<C> {
    parent: Name,
    /// Its clients get messages of all lite topics of the parent topic.
    is_wildcard: bool,
    clients: HashMap<Name, Client<C>>,
    queues: HashMap<Name, Queue>,
    /// Of a wildcard group, for all its clients.
    ready: Ready,
    turn: usize,
}

/// What is known of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClientView {
    pub(super) queues: Vec<Name>,
    pub(super) last_access: Option<i64>,
    pub(super) last_consume: Option<i64>,
}

/// A client that is not subscribed any more, and has to be told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Excluded<C> {
    pub(super) client: Name,
    pub(super) channel: C,
}

/// See the module. `C` is how a client is reached.
#[derive(Debug)]
pub(super) struct State<C> {
    groups: HashMap<Name, Group<C>>,
    of_parent: HashMap<Name, SmallVec<[Name; 1]>>,
    /// When which messages are visible again: group and queue.
    wakes: BTreeSet<(i64, Name, Name)>,
    /// What is held for each holder: group and queue.
    held: HashMap<u64, HashSet<(Name, Name)>>,
    subscriptions: usize,
    in_flight: usize,
    next_reading: u64,
}

impl<C> Default for State<C> {
    fn default() -> Self {
        Self {
            groups: HashMap::new(),
            of_parent: HashMap::new(),
            wakes: BTreeSet::new(),
            held: HashMap::new(),
            subscriptions: 0,
            in_flight: 0,
            next_reading: 0,
        }
    }
}
