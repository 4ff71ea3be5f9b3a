//! Clients come, subscribe and go.

use super::{Client, Excluded, Full, Group, Limits, Name, Ready, State};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

impl<C: Clone> State<C> {
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
    pub(in crate::lite) fn seen(&mut self, group: &str, parent: &str, is_wildcard: bool, client: &str, channel: C, now: i64) {
        let group = self.open(group, parent, is_wildcard);
        if let Some(known) = group.clients.get_mut(client) {
            (known.channel, known.seen_at) = (channel, now);
            return;
        }
        group.clients.insert(
            client.into(),
            Client {
                channel,
                queues: HashSet::new(),
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
    pub(in crate::lite) fn check_room(&self, more: usize, of_client: usize, limits: Limits) -> Result<(), Full> {
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
    pub(in crate::lite) fn queues_of(&self, group: &str, client: &str) -> Vec<Name> {
        let known = self.groups.get(group).and_then(|group| group.clients.get(client));
        known.map(|known| known.queues.iter().cloned().collect()).unwrap_or_default()
    }

    /// Subscribes a client that was [`Self::seen`]. True if it was not subscribed before.
    ///
    /// # Errors
    /// [`Full::Subscribers`].
    pub(in crate::lite) fn subscribe(&mut self, group: &str, client: &str, queue: &str, limits: Limits) -> Result<bool, Full> {
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
    pub(in crate::lite) fn others(&self, group: &str, client: &str, queue: &str) -> Vec<Excluded<C>> {
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
    pub(in crate::lite) fn unsubscribe(&mut self, group: &str, client: &str, queue: &str) -> bool {
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
    pub(in crate::lite) fn remove_client(&mut self, group: &str, client: &str) -> bool {
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
    pub(in crate::lite) fn silent_since(&self, then: i64) -> Vec<(Name, Name)> {
        let of_group = |(name, group): (&Name, &Group<C>)| {
            let silent = group.clients.iter().filter(|(_, client)| client.seen_at < then);
            silent.map(|(client, _)| (Arc::clone(name), Arc::clone(client))).collect::<Vec<_>>()
        };
        self.groups.iter().flat_map(of_group).collect()
    }

    /// Removes what is known of a lite topic of a group that nobody needs.
    pub(super) fn tidy(&mut self, group: &str, queue: &str) {
        let Some(of_group) = self.groups.get_mut(group) else { return };
        let Some(of_queue) = of_group.queues.get_mut(queue) else { return };
        if of_queue.subscribers.is_empty() && !of_group.is_wildcard {
            of_queue.is_ready = false;
        }
        let has_readers = !of_queue.subscribers.is_empty() || of_group.is_wildcard && !of_group.clients.is_empty();
        if !has_readers && of_queue.wake_at.is_none() && of_queue.flight.take().is_some() {
            // Its messages are visible, and nobody asks for them.
            self.in_flight -= 1;
            debug_assert!(of_queue.holder.is_none(), "what is held is looked at");
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
    pub(in crate::lite) fn forget_group(&mut self, group: &str) {
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
                self.wakes.remove(&(at, Arc::clone(&name), Arc::clone(&queue)));
            }
            if let Some(holder) = of_queue.holder {
                self.not_held(holder, &(Arc::clone(&name), queue));
            }
        }
    }

    /// A lite topic was deleted: its subscriptions end, and what is in flight is forgotten.
    pub(in crate::lite) fn forget_queue(&mut self, parent: &str, queue: &str) {
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
}
