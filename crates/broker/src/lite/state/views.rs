//! What others may know of the state.

use super::{ClientView, Group, Name, State};
use smallvec::SmallVec;
use std::sync::Arc;

impl<C: Clone> State<C> {
    /// Pairs of client and lite topic; a client of a wildcard group counts once.
    pub(in crate::lite) fn subscriptions(&self) -> usize {
        self.subscriptions
    }

    /// Lite topics with messages in flight, counted for each group.
    pub(in crate::lite) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// The groups with clients or messages in flight on a parent topic.
    pub(in crate::lite) fn groups_on(&self, parent: &str) -> SmallVec<[Name; 1]> {
        self.of_parent.get(parent).cloned().unwrap_or_default()
    }

    /// What is known of a client; `None` if it is unknown.
    pub(in crate::lite) fn client(&self, group: &str, client: &str) -> Option<ClientView> {
        let known = self.groups.get(group)?.clients.get(client)?;
        Some(ClientView {
            queues: known.queues.iter().cloned().collect(),
            last_access: known.last_access,
            last_consume: known.last_consume,
        })
    }

    /// The clients that subscribe to a lite topic, by group; `None` for all of a wildcard group.
    pub(in crate::lite) fn subscribers(&self, parent: &str, queue: &str) -> Vec<(Name, Option<Name>)> {
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
    pub(in crate::lite) fn clients_of(&self, group: &str) -> Vec<Name> {
        let clients = self.groups.get(group).map(|of_group| of_group.clients.keys().cloned().collect());
        clients.unwrap_or_default()
    }

    /// Clients for which lite topics are ready.
    pub(in crate::lite) fn clients_with_ready(&self) -> usize {
        let of_group = |group: &Group<C>| {
            let own = group.clients.values().filter(|client| !client.ready.members.is_empty()).count();
            own + usize::from(!group.ready.members.is_empty())
        };
        self.groups.values().map(of_group).sum()
    }
}
