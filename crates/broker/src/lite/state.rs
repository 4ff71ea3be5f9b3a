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

use super::flight::{Flight, Handout};
use smallvec::SmallVec;
use std::collections::{BTreeSet, HashMap, VecDeque};
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
}

/// Lite topics that may be ready.
#[derive(Debug, Default)]
struct Ready {
    order: VecDeque<Name>,
    members: std::collections::HashSet<Name>,
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
            let mut seen = std::collections::HashSet::new();
            let members = &self.members;
            self.order.retain(|queue| members.contains(queue) && seen.insert(Arc::clone(queue)));
        }
    }
}

/// A client of a group.
#[derive(Debug)]
struct Client<C> {
    channel: C,
    queues: std::collections::HashSet<Name>,
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
            subscriptions: 0,
            in_flight: 0,
            next_reading: 0,
        }
    }
}

impl<C: Clone> State<C> {
    /// Pairs of client and lite topic; a client of a wildcard group counts once.
    pub(super) fn subscriptions(&self) -> usize {
        self.subscriptions
    }

    /// Lite topics with messages in flight, counted for each group.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// The groups with clients or messages in flight on a parent topic.
    pub(super) fn groups_on(&self, parent: &str) -> SmallVec<[Name; 1]> {
        self.of_parent.get(parent).cloned().unwrap_or_default()
    }

    /// The group, with the parent topic and kind that its attributes say now; those of before are forgotten if they changed.
    fn open(&mut self, group: &str, parent: &str, is_wildcard: bool) -> &mut Group<C> {
        let is_changed = |known: &Group<C>| *known.parent != *parent || known.is_wildcard != is_wildcard;
        if self.groups.get(group).is_some_and(is_changed) {
            self.forget_group(group);
        }
        if !self.groups.contains_key(group) {
            let name: Name = group.into();
            let on_parent = self.of_parent.entry(parent.into()).or_default();
            on_parent.push(Arc::clone(&name));
        }
        self.groups.entry(group.into()).or_insert_with(|| Group {
            parent: parent.into(),
            is_wildcard,
            clients: HashMap::new(),
            queues: HashMap::new(),
            ready: Ready::default(),
            turn: 0,
        })
    }

    /// Notes a client that changes its subscriptions.
    pub(super) fn seen(&mut self, group: &str, parent: &str, is_wildcard: bool, client: &str, channel: C, now: i64) {
        let group = self.open(group, parent, is_wildcard);
        if let Some(known) = group.clients.get_mut(client) {
            (known.channel, known.seen_at) = (channel, now);
            return;
        }
        group.clients.insert(
            client.into(),
            Client {
                channel,
                queues: std::collections::HashSet::new(),
                ready: Ready::default(),
                seen_at: now,
                last_access: None,
                last_consume: None,
                attempt: None,
            },
        );
        self.subscriptions += usize::from(is_wildcard);
    }

    /// Whether a client that exists may subscribe to so many more, and have so many in all.
    ///
    /// # Errors
    /// [`Full`].
    pub(super) fn check_room(&self, more: usize, of_client: usize, limits: Limits) -> Result<(), Full> {
        if more > 0 && self.subscriptions + more > limits.subscriptions {
            return Err(Full::Subscriptions(limits.subscriptions));
        }
        if of_client > limits.of_client {
            return Err(Full::OfClient {
                wanted: of_client,
                most: limits.of_client,
            });
        }
        Ok(())
    }

    /// The client's lite topics.
    pub(super) fn queues_of(&self, group: &str, client: &str) -> Vec<Name> {
        let known = self.groups.get(group).and_then(|group| group.clients.get(client));
        known.map(|known| known.queues.iter().cloned().collect()).unwrap_or_default()
    }

    /// Subscribes a client that was [`Self::seen`]. True if it was not subscribed before.
    ///
    /// # Errors
    /// [`Full::Subscribers`].
    pub(super) fn subscribe(&mut self, group: &str, client: &str, queue: &str, limits: Limits) -> Result<bool, Full> {
        let Some(group) = self.groups.get_mut(group) else {
            return Ok(false);
        };
        let Some((client, known)) = group.clients.get_key_value(client) else {
            return Ok(false);
        };
        if known.queues.contains(queue) {
            return Ok(false);
        }
        let client = Arc::clone(client);
        let name = group
            .queues
            .get_key_value(queue)
            .map_or_else(|| queue.into(), |(name, _)| Arc::clone(name));
        let of_queue = group.queues.entry(Arc::clone(&name)).or_default();
        if of_queue.subscribers.len() >= limits.subscribers {
            return Err(Full::Subscribers(limits.subscribers));
        }
        of_queue.subscribers.push(Arc::clone(&client));
        let is_ready = of_queue.is_ready;
        if let Some(known) = group.clients.get_mut(&client) {
            known.queues.insert(Arc::clone(&name));
            if is_ready {
                known.ready.add(&name);
            }
        }
        self.subscriptions += 1;
        Ok(true)
    }

    /// The clients of the group, but this one, that subscribe to the lite topic.
    pub(super) fn others(&self, group: &str, client: &str, queue: &str) -> Vec<Excluded<C>> {
        let Some(group) = self.groups.get(group) else { return Vec::new() };
        let subscribers = group.queues.get(queue).map_or(&[][..], |queue| &queue.subscribers);
        let others = subscribers.iter().filter(|other| ***other != *client);
        others
            .filter_map(|other| {
                Some(Excluded {
                    client: Arc::clone(other),
                    channel: group.clients.get(other)?.channel.clone(),
                })
            })
            .collect()
    }

    /// Ends a subscription. True if there was one.
    pub(super) fn unsubscribe(&mut self, group: &str, client: &str, queue: &str) -> bool {
        let Some(of_group) = self.groups.get_mut(group) else { return false };
        let Some(known) = of_group.clients.get_mut(client) else {
            return false;
        };
        if !known.queues.remove(queue) {
            return false;
        }
        known.ready.remove(queue);
        if let Some(of_queue) = of_group.queues.get_mut(queue) {
            of_queue.subscribers.retain(|other| **other != *client);
        }
        self.subscriptions -= 1;
        self.tidy(group, queue);
        true
    }

    /// A client is gone. False if it is unknown.
    pub(super) fn remove_client(&mut self, group: &str, client: &str) -> bool {
        for queue in self.queues_of(group, client) {
            self.unsubscribe(group, client, &queue);
        }
        let Some(of_group) = self.groups.get_mut(group) else { return false };
        let is_known = of_group.clients.remove(client).is_some();
        self.subscriptions -= usize::from(is_known && of_group.is_wildcard);
        if is_known && of_group.is_wildcard && of_group.clients.is_empty() {
            // Nobody asks for what is ready; the next client has all lite topics looked at.
            of_group.ready = Ready::default();
            let queues: Vec<Name> = of_group.queues.keys().cloned().collect();
            for queue in queues {
                if let Some(of_queue) = self.groups.get_mut(group).and_then(|of_group| of_group.queues.get_mut(&queue)) {
                    of_queue.is_ready = false;
                }
                self.tidy(group, &queue);
            }
        }
        self.tidy_group(group);
        is_known
    }

    /// Clients that changed nothing and popped nothing since then: group and client.
    pub(super) fn silent_since(&self, then: i64) -> Vec<(Name, Name)> {
        let of_group = |(name, group): (&Name, &Group<C>)| {
            let silent = group.clients.iter().filter(|(_, client)| client.seen_at < then);
            silent.map(|(client, _)| (Arc::clone(name), Arc::clone(client))).collect::<Vec<_>>()
        };
        self.groups.iter().flat_map(of_group).collect()
    }

    /// Removes what is known of a lite topic of a group that nobody needs.
    fn tidy(&mut self, group: &str, queue: &str) {
        let Some(of_group) = self.groups.get_mut(group) else { return };
        let Some(of_queue) = of_group.queues.get_mut(queue) else { return };
        if of_queue.subscribers.is_empty() && !of_group.is_wildcard {
            of_queue.is_ready = false;
        }
        let has_readers = !of_queue.subscribers.is_empty() || of_group.is_wildcard && !of_group.clients.is_empty();
        if !has_readers && of_queue.wake_at.is_none() && of_queue.flight.take().is_some() {
            // Its messages are visible, and nobody asks for them.
            self.in_flight -= 1;
        }
        let is_used = !of_queue.subscribers.is_empty() || of_queue.is_ready || of_queue.reading.is_some() || of_queue.flight.is_some();
        if !is_used {
            of_group.queues.remove(queue);
            self.tidy_group(group);
        }
    }

    fn tidy_group(&mut self, group: &str) {
        let is_used = |of_group: &Group<C>| !of_group.clients.is_empty() || !of_group.queues.is_empty();
        if self.groups.get(group).is_some_and(|of_group| !is_used(of_group)) {
            self.forget_group(group);
        }
    }

    /// A group was deleted, or is another now.
    pub(super) fn forget_group(&mut self, group: &str) {
        let Some((name, of_group)) = self.groups.remove_entry(group) else {
            return;
        };
        if let Some(groups) = self.of_parent.get_mut(&of_group.parent) {
            groups.retain(|other| *other != name);
            if groups.is_empty() {
                self.of_parent.remove(&of_group.parent);
            }
        }
        let own: usize = of_group.clients.values().map(|client| client.queues.len()).sum();
        self.subscriptions -= own + if of_group.is_wildcard { of_group.clients.len() } else { 0 };
        for (queue, of_queue) in of_group.queues {
            self.in_flight -= usize::from(of_queue.flight.is_some());
            if let Some(at) = of_queue.wake_at {
                self.wakes.remove(&(at, Arc::clone(&name), queue));
            }
        }
    }

    /// A lite topic was deleted: its subscriptions end, and what is in flight is forgotten.
    pub(super) fn forget_queue(&mut self, parent: &str, queue: &str) {
        for group in self.groups_on(parent) {
            let subscribers = self.groups.get(&group).and_then(|of_group| of_group.queues.get(queue));
            let subscribers = subscribers.map(|of_queue| of_queue.subscribers.clone()).unwrap_or_default();
            self.clear(&group, queue);
            for client in subscribers {
                self.unsubscribe(&group, &client, queue);
            }
            if let Some(of_group) = self.groups.get_mut(&group) {
                of_group.ready.remove(queue);
                if let Some(of_queue) = of_group.queues.get_mut(queue) {
                    of_queue.is_ready = false;
                }
            }
            self.tidy(&group, queue);
        }
    }

    /// The lite topic may have messages for the group. Returns whose parked pop is to be woken.
    pub(super) fn ready(&mut self, group: &str, queue: &str, now: i64) -> Wakes {
        let Some(of_group) = self.groups.get_mut(group) else {
            return Wakes::Nobody;
        };
        if of_group.is_wildcard && !of_group.clients.is_empty() && !of_group.queues.contains_key(queue) {
            of_group.queues.insert(queue.into(), Queue::default());
        }
        let Some((name, _)) = of_group.queues.get_key_value(queue) else {
            return Wakes::Nobody;
        };
        let name = Arc::clone(name);
        let Some(of_queue) = of_group.queues.get_mut(queue) else {
            return Wakes::Nobody;
        };
        // The end of the reading, or the time or acknowledgement that ends the flight, is the next occasion.
        if of_queue.reading.is_some() || of_queue.flight.as_ref().is_some_and(|flight| flight.blocks(now)) {
            return Wakes::Nobody;
        }
        if of_group.is_wildcard {
            if of_group.clients.is_empty() {
                return Wakes::Nobody;
            }
            of_queue.is_ready = true;
            of_group.ready.add(&name);
            return Wakes::Any;
        }
        if of_queue.subscribers.is_empty() {
            return Wakes::Nobody;
        }
        of_queue.is_ready = true;
        for client in &of_queue.subscribers {
            if let Some(client) = of_group.clients.get_mut(client) {
                client.ready.add(&name);
            }
        }
        let mut clients = of_queue.subscribers.clone();
        of_group.turn = of_group.turn.wrapping_add(1);
        let first = of_group.turn % clients.len();
        clients.rotate_left(first);
        Wakes::Of(clients)
    }

    /// A lite topic that is ready for the client.
    pub(super) fn peek(&self, group: &str, client: &str) -> Option<Name> {
        let of_group = self.groups.get(group)?;
        let known = of_group.clients.get(client)?;
        let ready = if of_group.is_wildcard { &of_group.ready } else { &known.ready };
        ready.order.iter().find(|queue| ready.members.contains(*queue)).cloned()
    }

    /// Whether a pop of the client may find messages.
    pub(super) fn has_ready(&self, group: &str, client: &str) -> bool {
        let Some(of_group) = self.groups.get(group) else { return false };
        if of_group.is_wildcard {
            return !of_group.ready.members.is_empty() && of_group.clients.contains_key(client);
        }
        of_group.clients.get(client).is_some_and(|client| !client.ready.members.is_empty())
    }

    /// A pop of the client begins. Returns the lite topics whose messages it hands out again, if it repeats the last one.
    pub(super) fn begin(&mut self, group: &str, client: &str, attempt: Option<&str>, now: i64) -> SmallVec<[Name; 1]> {
        let known = self.groups.get_mut(group).and_then(|of_group| of_group.clients.get_mut(client));
        let Some(known) = known else { return SmallVec::new() };
        (known.seen_at, known.last_access) = (now, Some(now));
        match (&known.attempt, attempt) {
            (Some((last, queues)), Some(attempt)) if **last == *attempt => queues.clone(),
            _ => {
                known.attempt = None;
                SmallVec::new()
            }
        }
    }

    /// Begins to read a lite topic again whose messages this attempt handed out, and that are not all acknowledged.
    pub(super) fn again(&mut self, group: &str, queue: &str, attempt: Option<&str>) -> Option<Reading> {
        let of_queue = self.groups.get_mut(group)?.queues.get_mut(queue)?;
        let is_own = of_queue.flight.as_ref().is_some_and(|flight| flight.is_of(attempt));
        (is_own && of_queue.reading.is_none()).then_some(())?;
        self.read(group, queue)
    }

    /// Begins to read the next lite topic that is ready for the client.
    pub(super) fn next(&mut self, group: &str, client: &str, now: i64) -> Option<Reading> {
        loop {
            let of_group = self.groups.get_mut(group)?;
            let known = of_group.clients.get_mut(client)?;
            let queue = if of_group.is_wildcard {
                &mut of_group.ready
            } else {
                &mut known.ready
            }
            .take()?;
            let Some(of_queue) = of_group.queues.get_mut(&queue) else {
                continue;
            };
            let is_blocked = of_queue.flight.as_ref().is_some_and(|flight| flight.blocks(now));
            if of_queue.is_ready && of_queue.reading.is_none() && !is_blocked {
                return self.read(group, &queue);
            }
        }
    }

    fn read(&mut self, group: &str, queue: &str) -> Option<Reading> {
        let (group, of_group) = self.groups.get_key_value(group)?;
        let (queue, _) = of_group.queues.get_key_value(queue)?;
        self.next_reading += 1;
        let reading = Reading {
            group: Arc::clone(group),
            queue: Arc::clone(queue),
            number: self.next_reading,
        };
        let of_queue = self.groups.get_mut(&reading.group)?.queues.get_mut(&reading.queue)?;
        of_queue.is_ready = false;
        of_queue.reading = Some(reading.number);
        Some(reading)
    }

    fn end(&mut self, reading: &Reading) -> Option<&mut Queue> {
        let of_queue = self.groups.get_mut(&reading.group)?.queues.get_mut(&reading.queue)?;
        (of_queue.reading == Some(reading.number)).then(|| {
            of_queue.reading = None;
            of_queue
        })
    }

    /// Messages were found and are in flight. Returns how often each was handed out before; `None` if they must not be handed out, because
    /// the group's offset was reset meanwhile.
    ///
    /// # Errors
    /// [`Full::InFlight`]. The reading has ended.
    pub(super) fn found(
        &mut self,
        reading: &Reading,
        client: &str,
        handout: &Handout<'_>,
        limits: Limits,
        now: i64,
    ) -> Result<Option<Counts>, Full> {
        let is_full = self.in_flight >= limits.in_flight;
        let Some(of_queue) = self.end(reading) else { return Ok(None) };
        let before = of_queue.flight.take();
        let is_new = before.is_none();
        if is_new && is_full {
            self.tidy(&reading.group, &reading.queue);
            return Err(Full::InFlight(limits.in_flight));
        }
        let flight = Flight::new(handout, before.as_deref());
        let counts = flight.counts().collect();
        of_queue.flight = Some(Box::new(flight));
        self.in_flight += usize::from(is_new);
        self.plan(&reading.group, &reading.queue);
        let known = self
            .groups
            .get_mut(&reading.group)
            .and_then(|of_group| of_group.clients.get_mut(client));
        if let Some(known) = known {
            known.last_consume = Some(now);
            if let Some(attempt) = handout.attempt {
                let kept = known.attempt.get_or_insert_with(|| (attempt.into(), SmallVec::new()));
                if *kept.0 != *attempt {
                    *kept = (attempt.into(), SmallVec::new());
                }
                if !kept.1.contains(&reading.queue) {
                    kept.1.push(Arc::clone(&reading.queue));
                }
            }
        }
        Ok(Some(counts))
    }

    /// The reading found nothing, or failed. The caller calls [`Self::ready`] if messages have arrived meanwhile. False if it had ended.
    pub(super) fn nothing(&mut self, reading: &Reading) -> bool {
        let was_open = self.end(reading).is_some();
        self.tidy(&reading.group, &reading.queue);
        was_open
    }

    /// Plans when the messages in flight are visible again.
    fn plan(&mut self, group: &str, queue: &str) {
        let Some((group, of_group)) = self.groups.get_key_value(group) else {
            return;
        };
        let Some((queue, _)) = of_group.queues.get_key_value(queue) else {
            return;
        };
        let (group, queue) = (Arc::clone(group), Arc::clone(queue));
        let of_queue = self.groups.get_mut(&group).and_then(|of_group| of_group.queues.get_mut(&queue));
        let Some(of_queue) = of_queue else { return };
        let before = of_queue.wake_at.take();
        of_queue.wake_at = of_queue.flight.as_ref().and_then(|flight| flight.free_at());
        let planned = of_queue.wake_at;
        if let Some(at) = before {
            self.wakes.remove(&(at, Arc::clone(&group), Arc::clone(&queue)));
        }
        if let Some(at) = planned {
            self.wakes.insert((at, group, queue));
        }
    }

    /// A message was acknowledged.
    pub(super) fn ack(&mut self, group: &str, queue: &str, offset: i64, pop_time: i64, now: i64) -> Acked {
        let of_queue = self.groups.get_mut(group).and_then(|of_group| of_group.queues.get_mut(queue));
        let Some(of_queue) = of_queue else { return Acked::Unknown };
        let flight = of_queue.flight.as_mut().filter(|flight| flight.pop_time == pop_time);
        let Some(flight) = flight else { return Acked::Unknown };
        let Some(next) = flight.ack(offset) else {
            return Acked::Unknown;
        };
        let is_free = !flight.blocks(now);
        if flight.free_at().is_none() {
            of_queue.flight = None;
            self.in_flight -= 1;
        }
        self.plan(group, queue);
        self.tidy(group, queue);
        Acked::Done { next, is_free }
    }

    /// A message is invisible until then; with `suspend`, all that are left of its pop, and the next delivery is not counted. False if it is
    /// not in flight.
    pub(super) fn renew(&mut self, group: &str, queue: &str, (offset, pop_time): (i64, i64), visible_at: i64, suspend: bool) -> bool {
        let of_queue = self.groups.get_mut(group).and_then(|of_group| of_group.queues.get_mut(queue));
        let flight = of_queue.and_then(|of_queue| of_queue.flight.as_mut());
        let Some(flight) = flight.filter(|flight| flight.pop_time == pop_time) else {
            return false;
        };
        if suspend {
            flight.suspend(visible_at);
        } else if !flight.renew(offset, visible_at) {
            return false;
        }
        self.plan(group, queue);
        true
    }

    /// The group's offset in the lite topic was reset: nothing is in flight, and what is being read is not handed out.
    pub(super) fn clear(&mut self, group: &str, queue: &str) {
        let of_queue = self.groups.get_mut(group).and_then(|of_group| of_group.queues.get_mut(queue));
        let Some(of_queue) = of_queue else { return };
        of_queue.reading = None;
        if of_queue.flight.take().is_some() {
            self.in_flight -= 1;
        }
        self.plan(group, queue);
        self.tidy(group, queue);
    }

    /// As [`Self::clear`], by the pop that reads the lite topic and goes on.
    pub(super) fn clear_flight(&mut self, reading: &Reading) {
        let of_queue = self
            .groups
            .get_mut(&reading.group)
            .and_then(|group| group.queues.get_mut(&reading.queue));
        if of_queue.is_some_and(|of_queue| of_queue.reading == Some(reading.number) && of_queue.flight.take().is_some()) {
            self.in_flight -= 1;
        }
        self.plan(&reading.group, &reading.queue);
    }

    /// Whether messages of the lite topic are in flight, or visible again and not handed out since.
    pub(super) fn has_flight(&self, group: &str, queue: &str) -> bool {
        let of_queue = self.groups.get(group).and_then(|group| group.queues.get(queue));
        of_queue.is_some_and(|of_queue| of_queue.flight.is_some())
    }

    /// When messages are visible again next.
    pub(super) fn next_wake(&self) -> Option<i64> {
        self.wakes.first().map(|(at, _, _)| *at)
    }

    /// Lite topics whose messages are visible again: group and queue. The caller calls [`Self::ready`]. What nobody subscribes to is
    /// forgotten.
    pub(super) fn take_visible(&mut self, now: i64, most: usize) -> Vec<(Name, Name)> {
        let mut visible = Vec::new();
        while visible.len() < most
            && let Some((at, _, _)) = self.wakes.first()
            && *at <= now
            && let Some((_, group, queue)) = self.wakes.pop_first()
        {
            let Some(of_group) = self.groups.get_mut(&group) else { continue };
            let Some(of_queue) = of_group.queues.get_mut(&queue) else {
                continue;
            };
            of_queue.wake_at = None;
            if of_queue.subscribers.is_empty() && (!of_group.is_wildcard || of_group.clients.is_empty()) {
                of_queue.flight = None;
                self.in_flight -= 1;
                self.tidy(&group, &queue);
            } else {
                visible.push((group, queue));
            }
        }
        visible
    }

    /// What is known of a client; `None` if it is unknown.
    pub(super) fn client(&self, group: &str, client: &str) -> Option<ClientView> {
        let known = self.groups.get(group)?.clients.get(client)?;
        Some(ClientView {
            queues: known.queues.iter().cloned().collect(),
            last_access: known.last_access,
            last_consume: known.last_consume,
        })
    }

    /// The clients that subscribe to a lite topic, by group; `None` for all of a wildcard group.
    pub(super) fn subscribers(&self, parent: &str, queue: &str) -> Vec<(Name, Option<Name>)> {
        let mut found = Vec::new();
        for group in self.groups_on(parent) {
            let Some(of_group) = self.groups.get(&group) else { continue };
            if of_group.is_wildcard {
                found.push((group, None));
            } else if let Some(of_queue) = of_group.queues.get(queue) {
                let clients = of_queue.subscribers.iter().cloned();
                found.extend(clients.map(|client| (Arc::clone(&group), Some(client))));
            }
        }
        found
    }

    /// The clients of a group.
    pub(super) fn clients_of(&self, group: &str) -> Vec<Name> {
        let clients = self.groups.get(group).map(|of_group| of_group.clients.keys().cloned().collect());
        clients.unwrap_or_default()
    }

    /// Clients for which lite topics are ready.
    pub(super) fn clients_with_ready(&self) -> usize {
        let of_group = |group: &Group<C>| {
            let own = group.clients.values().filter(|client| !client.ready.members.is_empty()).count();
            own + usize::from(!group.ready.members.is_empty())
        };
        self.groups.values().map(of_group).sum()
    }
}

#[cfg(test)]
mod tests;
