//! The state machine against a plain model.

use super::super::flight::Handout;
use super::*;
use crate::clients::{Departure, Holder, Lease};
use proptest::prelude::*;
use std::collections::BTreeMap;

const LIMITS: Limits = Limits {
    subscriptions: 100,
    subscribers: 3,
    in_flight: 100,
    of_client: 10,
};
const QUEUES: [&str; 3] = ["%LMQ%$p$a", "%LMQ%$p$b", "%LMQ%$p$c"];
const CLIENTS: [&str; 3] = ["c", "d", "e"];

#[derive(Clone, Copy, Debug)]
struct Out {
    visible_at: i64,
    pop_time: i64,
    count: u16,
    is_acked: bool,
    is_suspended: bool,
    /// It is held for this client, which was never gone for too long, until this time at most.
    held_for: Option<(usize, i64)>,
    /// The client whose goodbye gives it back.
    of_client: Option<usize>,
}

/// A client that comes back within this time keeps its messages.
const GRACE_MS: i64 = 150;

/// A client, in the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    Online,
    AwaySince(i64),
    Left,
}

/// A lite topic, as the group sees it.
#[derive(Debug, Default)]
struct Plain {
    max: i64,
    committed: i64,
    /// Messages that were handed out, by offset.
    out: BTreeMap<i64, Out>,
    subscribers: BTreeSet<usize>,
}

impl Plain {
    fn is_blocked(&self, now: i64) -> bool {
        self.out
            .values()
            .any(|out| !out.is_acked && (out.visible_at > now || out.held_for.is_some()))
    }

    fn can_be_popped(&self, now: i64) -> bool {
        self.committed < self.max && !self.is_blocked(now)
    }
}

struct World {
    state: State<usize>,
    queues: [Plain; 3],
    now: i64,
    pops: i64,
    is_wildcard: bool,
    online: BTreeSet<usize>,
    holders: [Arc<Holder>; CLIENTS.len()],
    presence: [Presence; CLIENTS.len()],
    /// A lease ended, and the look that finds it out is not due yet: what it held may not be handed out yet.
    has_ended: [bool; QUEUES.len()],
    /// A goodbye came after that: it may have given back what is out.
    is_vague: [bool; QUEUES.len()],
}

#[derive(Clone, Debug)]
enum Step {
    Arrive(usize),
    Subscribe(usize, usize),
    Unsubscribe(usize, usize),
    Leave(usize),
    Pop {
        client: usize,
        most: i64,
        invisible: i64,
        /// They are held for the client for so long at most.
        hold: Option<i64>,
    },
    Come(usize),
    Go(usize, bool),
    /// Of the messages that are out.
    Ack(usize, usize),
    Renew {
        queue: usize,
        at: usize,
        by: i64,
        suspend: bool,
    },
    Wait(i64),
    Reset(usize, i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (queue, client) = (0..QUEUES.len(), 0..CLIENTS.len());
    let step = prop_oneof![
        4 => queue.clone().prop_map(Step::Arrive),
        3 => (client.clone(), queue.clone()).prop_map(|(client, queue)| Step::Subscribe(client, queue)),
        1 => (client.clone(), queue.clone()).prop_map(|(client, queue)| Step::Unsubscribe(client, queue)),
        1 => client.clone().prop_map(Step::Leave),
        5 => (client.clone(), 1..4_i64, 0..100_i64, prop::option::of(0..600_i64))
            .prop_map(|(client, most, invisible, hold)| Step::Pop { client, most, invisible, hold }),
        1 => client.clone().prop_map(Step::Come),
        2 => (client, any::<bool>()).prop_map(|(client, says_goodbye)| Step::Go(client, says_goodbye)),
        5 => (queue.clone(), 0..4_usize).prop_map(|(queue, at)| Step::Ack(queue, at)),
        2 => (queue.clone(), 0..4_usize, 0..100_i64, any::<bool>())
            .prop_map(|(queue, at, by, suspend)| Step::Renew { queue, at, by, suspend }),
        3 => (1..60_i64).prop_map(Step::Wait),
        1 => (queue, 0..5_i64).prop_map(|(queue, to)| Step::Reset(queue, to)),
    ];
    prop::collection::vec(step, 1..80)
}

impl World {
    fn new(is_wildcard: bool) -> Self {
        Self {
            state: State::default(),
            queues: Default::default(),
            now: 1_000,
            pops: 0,
            is_wildcard,
            online: BTreeSet::new(),
            holders: CLIENTS.map(|client| {
                let holder = Holder::new("g", client, GRACE_MS, 0);
                holder.come();
                Arc::new(holder)
            }),
            presence: [Presence::Online; CLIENTS.len()],
            has_ended: [false; QUEUES.len()],
            is_vague: [false; QUEUES.len()],
        }
    }

    /// Messages are not held any more whose client is gone for too long, or had them for too long.
    fn end_leases(&mut self) {
        for (queue, plain) in self.queues.iter_mut().enumerate() {
            for out in plain.out.values_mut() {
                let Some((client, most)) = out.held_for else { continue };
                let is_kept = match self.presence[client] {
                    Presence::Online => true,
                    Presence::AwaySince(since) => self.now < since + GRACE_MS,
                    Presence::Left => false,
                };
                if !is_kept || self.now >= most {
                    out.held_for = None;
                    self.has_ended[queue] = true;
                }
            }
        }
    }

    fn go(&mut self, client: usize, says_goodbye: bool) {
        if !says_goodbye {
            self.holders[client].go(Departure::Lost, self.now);
            if self.presence[client] == Presence::Online {
                self.presence[client] = Presence::AwaySince(self.now);
            }
            return;
        }
        self.holders[client].go(Departure::Goodbye(0), self.now);
        self.presence[client] = Presence::Left;
        self.state.give_back(self.holders[client].id(), self.now + 5);
        for (queue, plain) in self.queues.iter_mut().enumerate() {
            if self.has_ended[queue] && plain.out.values().any(|out| out.of_client == Some(client)) {
                self.is_vague[queue] = true;
                for out in plain.out.values_mut() {
                    out.visible_at = out.visible_at.min(self.now + 5);
                }
            }
            let is_its = |out: &Out| !out.is_acked && out.held_for.is_some_and(|(of, _)| of == client);
            if plain.out.values().any(is_its) {
                for out in plain.out.values_mut().filter(|out| !out.is_acked) {
                    (out.visible_at, out.is_suspended, out.held_for, out.of_client) = (self.now + 5, true, None, None);
                }
            }
        }
    }

    fn wake(&mut self, queue: usize) {
        if self.queues[queue].committed < self.queues[queue].max {
            self.state.ready("g", QUEUES[queue], self.now);
        }
    }

    fn is_subscribed(&self, client: usize, queue: usize) -> bool {
        if self.is_wildcard {
            self.online.contains(&client)
        } else {
            self.queues[queue].subscribers.contains(&client)
        }
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Arrive(queue) => {
                self.queues[queue].max += 1;
                self.state.ready("g", QUEUES[queue], self.now);
            }
            Step::Subscribe(client, queue) => {
                let is_new = self.online.insert(client);
                self.state.seen("g", "p", self.is_wildcard, CLIENTS[client], client, self.now);
                if self.is_wildcard {
                    if is_new {
                        (0..QUEUES.len()).for_each(|queue| self.wake(queue));
                    }
                } else {
                    let added = self.state.subscribe("g", CLIENTS[client], QUEUES[queue], LIMITS).unwrap();
                    assert_eq!(added, self.queues[queue].subscribers.insert(client));
                    self.wake(queue);
                }
            }
            Step::Unsubscribe(client, queue) => {
                if !self.is_wildcard {
                    let removed = self.state.unsubscribe("g", CLIENTS[client], QUEUES[queue]);
                    assert_eq!(removed, self.queues[queue].subscribers.remove(&client));
                    self.wake(queue);
                }
            }
            Step::Leave(client) => self.leave(client),
            Step::Pop {
                client,
                most,
                invisible,
                hold,
            } => self.pop(client, most, invisible, hold),
            Step::Come(client) => {
                self.holders[client].come();
                self.presence[client] = Presence::Online;
            }
            Step::Go(client, says_goodbye) => self.go(client, says_goodbye),
            Step::Ack(queue, at) => self.ack(queue, at),
            Step::Renew { queue, at, by, suspend } => self.renew(queue, at, by, suspend),
            Step::Wait(ms) => {
                self.now += ms;
                self.end_leases();
                self.visible();
            }
            Step::Reset(queue, to) => {
                self.state.clear("g", QUEUES[queue]);
                let plain = &mut self.queues[queue];
                plain.committed = to.min(plain.max);
                plain.out.clear();
                self.wake(queue);
            }
        }
    }

    fn leave(&mut self, client: usize) {
        assert_eq!(self.state.remove_client("g", CLIENTS[client]), self.online.remove(&client));
        for queue in 0..QUEUES.len() {
            if self.queues[queue].subscribers.remove(&client) {
                self.wake(queue);
            }
        }
    }

    fn visible(&mut self) {
        for (group, queue) in self.state.take_visible(self.now, 100) {
            assert_eq!(&*group, "g");
            let at = QUEUES.iter().position(|name| **name == *queue).unwrap();
            assert!(!self.queues[at].is_blocked(self.now), "woken too soon");
            self.has_ended[at] = false;
            self.state.ready(&group, &queue, self.now);
        }
    }

    /// Pops all that there is for the client, `most` messages of each lite topic.
    fn pop(&mut self, client: usize, most: i64, invisible: i64, hold: Option<i64>) {
        self.pops += 1;
        self.visible();
        let available: Vec<bool> = (0..QUEUES.len())
            .map(|queue| self.is_subscribed(client, queue) && self.queues[queue].can_be_popped(self.now) && !self.has_ended[queue])
            .collect();
        let mut taken = [false; QUEUES.len()];
        assert!(self.state.begin("g", CLIENTS[client], None, self.now).is_empty());
        while let Some(reading) = self.state.next("g", CLIENTS[client], self.now) {
            let at = QUEUES.iter().position(|name| **name == *reading.queue).unwrap();
            assert!(self.is_subscribed(client, at));
            let plain = &mut self.queues[at];
            let count = most.min(plain.max - plain.committed);
            if count == 0 {
                assert!(self.state.nothing(&reading));
                continue;
            }
            assert!(!plain.is_blocked(self.now), "handed out twice");
            self.has_ended[at] = false;
            let is_vague = std::mem::take(&mut self.is_vague[at]);
            assert!(!taken[at], "a pop gets a lite topic once");
            taken[at] = true;
            let offsets: Vec<i64> = (plain.committed..plain.committed + count).collect();
            let handout = Handout {
                offsets: &offsets,
                attempt: None,
                pop_time: self.pops,
                visible_at: self.now + invisible,
                invisible_ms: invisible,
                lease: hold.map(|most_ms| Lease {
                    holder: Arc::clone(&self.holders[client]),
                    until: self.now + most_ms,
                }),
            };
            let counts = self.state.found(&reading, CLIENTS[client], &handout, LIMITS, self.now);
            let counts = counts.unwrap().unwrap();
            let known = std::mem::take(&mut plain.out);
            for (offset, count) in offsets.iter().zip(counts) {
                let before = known.get(offset);
                let is_acked = before.is_some_and(|out| out.is_acked);
                let expected = before.map_or(0, |out| match count {
                    Some(count) if is_vague && count == out.count => count,
                    _ => out.count + u16::from(!out.is_suspended),
                });
                assert_eq!(count, (!is_acked).then_some(expected), "offset {offset}");
                let out = Out {
                    visible_at: self.now + invisible,
                    pop_time: self.pops,
                    count: expected,
                    is_acked,
                    is_suspended: false,
                    held_for: hold.map(|most_ms| (client, self.now + most_ms)),
                    of_client: hold.map(|_| client),
                };
                plain.out.insert(*offset, out);
            }
        }
        for (queue, is_available) in available.into_iter().enumerate() {
            assert!(taken[queue] || !is_available, "{} has messages that nobody gets", QUEUES[queue]);
        }
    }

    fn ack(&mut self, queue: usize, at: usize) {
        let plain = &mut self.queues[queue];
        let Some((offset, out)) = plain.out.iter().nth(at).map(|(offset, out)| (*offset, *out)) else {
            assert_eq!(self.state.ack("g", QUEUES[queue], 77, 77, self.now), Acked::Unknown);
            return;
        };
        match self.state.ack("g", QUEUES[queue], offset, out.pop_time, self.now) {
            Acked::Done { next, is_free } => {
                plain.out.get_mut(&offset).unwrap().is_acked = true;
                let first_left = plain.out.iter().find(|(_, out)| !out.is_acked).map(|(offset, _)| *offset);
                let end = plain.out.keys().last().unwrap() + 1;
                assert_eq!(next, first_left.unwrap_or(end));
                assert!(is_free != plain.is_blocked(self.now) || self.has_ended[queue]);
                plain.committed = plain.committed.max(next);
                if first_left.is_none() {
                    plain.out.clear();
                }
                if is_free {
                    self.wake(queue);
                }
            }
            Acked::Unknown => {
                // It was forgotten, since its time had passed and nobody subscribed.
                assert!(out.visible_at <= self.now && out.held_for.is_none(), "an acknowledgement is lost");
                plain.out.clear();
            }
        }
    }

    fn renew(&mut self, queue: usize, at: usize, by: i64, suspend: bool) {
        let plain = &mut self.queues[queue];
        let Some((offset, out)) = plain.out.iter().nth(at).map(|(offset, out)| (*offset, *out)) else {
            return;
        };
        let visible_at = self.now + by;
        let is_renewed = self.state.renew("g", QUEUES[queue], (offset, out.pop_time), visible_at, suspend);
        if !is_renewed {
            assert!(out.visible_at <= self.now || out.is_acked && !suspend);
            return;
        }
        for (of, out) in plain.out.iter_mut().filter(|(_, out)| !out.is_acked) {
            if suspend || *of == offset {
                (out.visible_at, out.held_for, out.of_client) = (visible_at, None, None);
                out.is_suspended |= suspend;
            }
        }
        self.visible();
    }

    /// A flight that was forgotten counts from the start again.
    fn forget_unknown(&mut self) {
        for (queue, plain) in self.queues.iter_mut().enumerate() {
            if !self.state.has_flight("g", QUEUES[queue]) {
                assert!(!plain.is_blocked(self.now), "what is in flight is forgotten");
                plain.out.clear();
            }
        }
    }

    fn check(&self) {
        let flights = self.queues.iter().filter(|plain| !plain.out.is_empty()).count();
        assert_eq!(self.state.in_flight(), flights);
        let own: usize = self.queues.iter().map(|plain| plain.subscribers.len()).sum();
        assert_eq!(self.state.subscriptions(), if self.is_wildcard { self.online.len() } else { own });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_message_is_handed_out_once_at_a_time_in_order_and_none_is_left(steps in steps(), is_wildcard in any::<bool>()) {
        let mut world = World::new(is_wildcard);
        for step in &steps {
            world.run(step);
            world.end_leases();
            world.forget_unknown();
            world.check();
        }
        // All that is left is handed out to who comes.
        for queue in 0..QUEUES.len() {
            world.run(&Step::Subscribe(0, queue));
        }
        world.run(&Step::Wait(1_000));
        world.run(&Step::Pop { client: 0, most: 3, invisible: 10, hold: Some(900) });
        for client in 0..CLIENTS.len() {
            world.leave(client);
        }
        world.run(&Step::Wait(1_000));
        let state = &world.state;
        prop_assert!(state.groups.is_empty() && state.of_parent.is_empty() && state.wakes.is_empty() && state.held.is_empty());
        prop_assert_eq!((state.subscriptions, state.in_flight), (0, 0));
    }
}

#[test]
fn a_group_that_is_bound_to_another_topic_begins_again() {
    let mut state: State<()> = State::default();
    state.seen("g", "p", false, "c", (), 0);
    state.subscribe("g", "c", QUEUES[0], LIMITS).unwrap();
    assert_eq!(state.groups_on("p").len(), 1);
    state.seen("g", "q", false, "c", (), 0);
    assert_eq!(
        (state.groups_on("p").len(), state.groups_on("q").len(), state.subscriptions()),
        (0, 1, 0)
    );
    state.forget_group("g");
    assert!(state.groups.is_empty() && state.of_parent.is_empty());
}

#[test]
fn a_list_does_not_grow_with_what_is_removed_from_it() {
    let mut ready = Ready::default();
    let names: Vec<Name> = QUEUES.iter().map(|name| Name::from(*name)).collect();
    for _ in 0..1_000 {
        names.iter().for_each(|name| ready.add(name));
        ready.remove(QUEUES[1]);
    }
    assert!(ready.order.len() < 50);
    assert_eq!((ready.take(), ready.members.len()), (Some(names[0].clone()), 1));
}
