//! Producers by group. Pure state: the time is given.

use super::table::{ByChannel, Channel, ClientError, ClientLimits, Member, Members};
use parking_lot::RwLock;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Debug)]
struct State<C> {
    groups: FxHashMap<Arc<str>, Members<C>>,
    by_channel: ByChannel,
    by_client: FxHashMap<Arc<str>, C>,
}

/// The producers that are online.
#[derive(Debug)]
pub struct Producers<C> {
    state: RwLock<State<C>>,
    limits: ClientLimits,
}

impl<C: Channel> Producers<C> {
    /// Nobody yet.
    #[must_use]
    pub fn new(limits: ClientLimits) -> Self {
        let state = State {
            groups: FxHashMap::default(),
            by_channel: ByChannel::default(),
            by_client: FxHashMap::default(),
        };
        Self {
            state: RwLock::new(state),
            limits,
        }
    }

    /// Takes a producer into its group, or refreshes it.
    ///
    /// # Errors
    /// A bound is reached; who is in stays in.
    pub fn join(&self, group: &str, member: Member<C>) -> Result<(), ClientError> {
        let mut state = self.state.write();
        let State {
            groups,
            by_channel,
            by_client,
        } = &mut *state;
        let channel = member.channel.id();
        if !groups.get(group).is_some_and(|members| members.contains(channel)) {
            by_channel.room(channel, group, &self.limits)?;
            let name: Arc<str> = match groups.get_key_value(group) {
                Some((name, _)) => Arc::clone(name),
                None => group.into(),
            };
            by_channel.add(channel, &name);
            groups.entry(name).or_default();
        }
        by_client.insert(Arc::clone(&member.client_id), member.channel.clone());
        if groups.get_mut(group).is_some_and(|members| members.refresh(member)) {
            tracing::info!(group, channel, "producer joined");
        }
        Ok(())
    }

    /// A producer says goodbye.
    pub fn leave(&self, group: &str, channel: u64) {
        let mut state = self.state.write();
        state.by_channel.remove(channel, group);
        state.drop_member(group, channel);
    }

    /// A connection closed.
    pub fn closed(&self, channel: u64) {
        let mut state = self.state.write();
        for group in state.by_channel.take(channel) {
            state.drop_member(&group, channel);
        }
    }

    /// Takes out who was not heard of for too long, and returns their connections, to be closed.
    pub fn expire(&self, now_ms: i64) -> Vec<C> {
        let mut state = self.state.write();
        let mut gone = Vec::new();
        for (group, members) in &mut state.groups {
            for member in members.expire(now_ms, self.limits.expiry_ms) {
                tracing::warn!(
                    group = &**group,
                    client = &*member.client_id,
                    "producer not heard of for channelExpiredTimeout: removed"
                );
                gone.push((Arc::clone(group), member));
            }
        }
        state.groups.retain(|_, members| !members.is_empty());
        for (group, member) in &gone {
            state.by_channel.remove(member.channel.id(), group);
            state.drop_client(&member.client_id, member.channel.id());
        }
        gone.into_iter().map(|(_, member)| member.channel).collect()
    }

    /// The producers of a group; `None` when it is not online.
    #[must_use]
    pub fn members(&self, group: &str) -> Option<Vec<Member<C>>> {
        let state = self.state.read();
        Some(state.groups.get(group)?.iter().cloned().collect())
    }

    /// All producers by group.
    #[must_use]
    pub fn all(&self) -> BTreeMap<String, Vec<Member<C>>> {
        let state = self.state.read();
        let groups = state.groups.iter();
        groups
            .map(|(group, members)| (group.to_string(), members.iter().cloned().collect()))
            .collect()
    }

    /// The connection a client id was last seen on.
    #[must_use]
    pub fn find(&self, client_id: &str) -> Option<C> {
        self.state.read().by_client.get(client_id).cloned()
    }
}

impl<C: Channel> State<C> {
    fn drop_member(&mut self, group: &str, channel: u64) {
        let Some(members) = self.groups.get_mut(group) else { return };
        let gone = members.remove(channel);
        if members.is_empty() {
            self.groups.remove(group);
        }
        if let Some(member) = gone {
            tracing::info!(group, channel, "producer left");
            self.drop_client(&member.client_id, channel);
        }
    }

    /// Only when the client id is still on that connection (it may have come back on another) and in no group there.
    fn drop_client(&mut self, client_id: &str, channel: u64) {
        let here = self.by_client.get(client_id).is_some_and(|known| known.id() == channel);
        if here && self.by_channel.count(channel) == 0 {
            self.by_client.remove(client_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::testing::member;
    use super::*;

    #[test]
    fn a_producer_is_found_until_it_leaves() {
        let producers = Producers::new(ClientLimits::default());
        producers.join("g", member(1, "a", 0)).unwrap();
        producers.join("h", member(1, "a", 0)).unwrap();
        assert_eq!(producers.find("a"), Some(1));
        producers.leave("g", 1);
        assert!(producers.members("g").is_none());
        producers.closed(1);
        assert!(producers.members("h").is_none());
        assert_eq!(producers.find("a"), None);
    }

    #[test]
    fn an_old_connections_close_does_not_lose_the_new_one() {
        let producers = Producers::new(ClientLimits::default());
        producers.join("g", member(1, "a", 0)).unwrap();
        producers.join("g", member(2, "a", 1)).unwrap();
        producers.closed(1);
        assert_eq!(producers.find("a"), Some(2));
        assert_eq!(producers.members("g").unwrap().len(), 1);
    }

    #[test]
    fn silence_removes_a_producer() {
        let producers = Producers::new(ClientLimits::default());
        producers.join("g", member(1, "a", 0)).unwrap();
        producers.join("g", member(2, "b", 5)).unwrap();
        assert!(producers.expire(120_000).is_empty());
        assert_eq!(producers.expire(120_001), [1]);
        assert_eq!(producers.all()["g"].len(), 1);
    }

    #[test]
    fn a_full_table_refuses_the_new_and_keeps_the_old() {
        let limits = ClientLimits {
            clients: 1,
            ..ClientLimits::default()
        };
        let producers = Producers::new(limits);
        producers.join("g", member(1, "a", 0)).unwrap();
        assert!(producers.join("h", member(1, "a", 0)).is_err());
        assert!(producers.join("g", member(2, "b", 0)).is_err());
        assert!(producers.join("g", member(1, "a", 9)).is_ok());
    }
}
