//! Producers by group. Pure state: the caller passes the time.

use super::hazards::Hazards;
use super::table::{ByChannel, Channel, ClientError, ClientLimits, Member, Members};
use parking_lot::RwLock;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Debug)]
struct Group<C> {
    members: Members<C>,
    /// Whether the WARN about two members with one client id was logged.
    warned: bool,
}

#[derive(Debug)]
struct ProducerTable<C> {
    groups: FxHashMap<Arc<str>, Group<C>>,
    by_channel: ByChannel,
    by_client: FxHashMap<Arc<str>, Client<C>>,
}

/// Connections whose members use one client id, with the number of members of each; the most recent heartbeat comes last.
#[derive(Debug)]
struct Client<C>(Vec<(C, usize)>);

impl<C: Channel> Client<C> {
    fn take(&mut self, channel: u64) -> usize {
        let at = self.0.iter().position(|(entry, _)| entry.id() == channel);
        at.map_or(0, |at| self.0.remove(at).1)
    }

    fn add(&mut self, channel: &C) {
        let members = self.take(channel.id());
        self.0.push((channel.clone(), members + 1));
    }

    fn remove(&mut self, channel: u64) {
        let Some((_, members)) = self.0.iter_mut().find(|(entry, _)| entry.id() == channel) else {
            return;
        };
        *members -= 1;
        if *members == 0 {
            self.take(channel);
        }
    }
}

/// The producers that are online.
#[derive(Debug)]
pub struct Producers<C> {
    state: RwLock<ProducerTable<C>>,
    hazards: Hazards,
    limits: ClientLimits,
}

impl<C: Channel> Producers<C> {
    /// Creates an empty table.
    #[must_use]
    pub fn new(limits: ClientLimits) -> Self {
        let state = ProducerTable {
            groups: FxHashMap::default(),
            by_channel: ByChannel::default(),
            by_client: FxHashMap::default(),
        };
        Self {
            state: RwLock::new(state),
            hazards: Hazards::default(),
            limits,
        }
    }

    /// Adds a producer to its group, or refreshes it.
    ///
    /// # Errors
    /// A [`ClientError`] if a limit is reached; members of the group stay members.
    pub fn join(&self, group: &str, member: Member<C>) -> Result<(), ClientError> {
        let mut state = self.state.write();
        let ProducerTable {
            groups,
            by_channel,
            by_client,
        } = &mut *state;
        let channel = member.channel.id();
        if !groups.get(group).is_some_and(|entry| entry.members.contains(channel)) {
            by_channel.check(member.channel.owner(), group, &self.limits)?;
        }
        let name: Arc<str> = match groups.get_key_value(group) {
            Some((name, _)) => Arc::clone(name),
            None => group.into(),
        };
        let entry = groups.entry(Arc::clone(&name)).or_insert_with(|| Group {
            members: Members::default(),
            warned: false,
        });
        let client = by_client.entry(Arc::clone(&member.client_id)).or_insert_with(|| Client(Vec::new()));
        client.add(&member.channel);
        let joined = member.channel.clone();
        match entry.members.refresh(member) {
            Some(old) => {
                if let Some((one, other)) = entry.members.later_with_same_client_id(channel) {
                    self.hazards.same_client_id("producer", group, one, other, &mut entry.warned);
                }
                state.drop_client(&old);
            }
            None => {
                by_channel.add(&joined, &name);
                tracing::info!(group, channel, "producer joined");
            }
        }
        Ok(())
    }

    /// Counters of misconfigured groups.
    #[must_use]
    pub fn hazards(&self) -> &Hazards {
        &self.hazards
    }

    /// Whether a connection is in any group.
    #[must_use]
    pub fn is_in_any(&self, channel: u64) -> bool {
        self.state.read().by_channel.count_own(channel) > 0
    }

    /// Removes a producer from a group.
    pub fn leave(&self, group: &str, channel: u64) {
        let mut state = self.state.write();
        state.by_channel.remove(channel, group);
        state.drop_member(group, channel);
    }

    /// Removes a closed connection.
    pub fn closed(&self, channel: u64) {
        let mut state = self.state.write();
        for group in state.by_channel.take(channel) {
            state.drop_member(&group, channel);
        }
    }

    /// Removes producers without heartbeats for `expiry_ms`, and returns their connections, which the caller closes.
    pub fn expire(&self, now_ms: i64) -> Vec<C> {
        let mut state = self.state.write();
        let mut gone = Vec::new();
        for (group, entry) in &mut state.groups {
            for member in entry.members.expire(now_ms, self.limits.expiry_ms) {
                tracing::warn!(
                    group = &**group,
                    client = &*member.client_id,
                    "producer removed: no heartbeat for channelExpiredTimeout"
                );
                gone.push((Arc::clone(group), member));
            }
        }
        state.groups.retain(|_, entry| !entry.members.is_empty());
        for (group, member) in &gone {
            state.by_channel.remove(member.channel.id(), group);
            state.drop_client(member);
        }
        gone.into_iter().map(|(_, member)| member.channel).collect()
    }

    /// The producers of a group; `None` if it has none.
    #[must_use]
    pub fn members(&self, group: &str) -> Option<Vec<Member<C>>> {
        let state = self.state.read();
        Some(state.groups.get(group)?.members.iter().cloned().collect())
    }

    /// All producers by group.
    #[must_use]
    pub fn all(&self) -> BTreeMap<String, Vec<Member<C>>> {
        let state = self.state.read();
        let groups = state.groups.iter();
        groups
            .map(|(group, entry)| (group.to_string(), entry.members.iter().cloned().collect()))
            .collect()
    }

    /// The connection with the latest heartbeat of a client id.
    #[must_use]
    pub fn find(&self, client_id: &str) -> Option<C> {
        let state = self.state.read();
        state.by_client.get(client_id)?.0.last().map(|(channel, _)| channel.clone())
    }

    /// A member of a group whose connection is open: of those, the one whose turn it is.
    #[must_use]
    pub fn any_of(&self, group: &str, turn: usize) -> Option<C> {
        let state = self.state.read();
        let members: Vec<&Member<C>> = state.groups.get(group)?.members.iter().collect();
        let count = members.len();
        (0..count)
            .map(|nth| &members[(turn % count + nth) % count].channel)
            .find(|channel| !channel.is_closed())
            .cloned()
    }

    #[cfg(test)]
    pub(crate) fn is_clean(&self) -> bool {
        let state = self.state.read();
        state.groups.is_empty() && state.by_channel.is_clean() && state.by_client.is_empty()
    }
}

impl<C: Channel> ProducerTable<C> {
    fn drop_member(&mut self, group: &str, channel: u64) {
        let Some(entry) = self.groups.get_mut(group) else { return };
        let gone = entry.members.remove(channel);
        if entry.members.is_empty() {
            self.groups.remove(group);
        }
        if let Some(member) = gone {
            tracing::info!(group, channel, "producer left");
            self.drop_client(&member);
        }
    }

    /// Counts one member less for its client id.
    fn drop_client(&mut self, member: &Member<C>) {
        let Some(client) = self.by_client.get_mut(&member.client_id) else {
            return;
        };
        client.remove(member.channel.id());
        if client.0.is_empty() {
            self.by_client.remove(&member.client_id);
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
    fn closing_an_old_connection_keeps_the_new_one() {
        let producers = Producers::new(ClientLimits::default());
        producers.join("g", member(1, "a", 0)).unwrap();
        producers.join("g", member(2, "a", 1)).unwrap();
        producers.closed(1);
        assert_eq!(producers.find("a"), Some(2));
        assert_eq!(producers.members("g").unwrap().len(), 1);
    }

    #[test]
    fn a_producer_without_heartbeats_is_removed() {
        let producers = Producers::new(ClientLimits::default());
        producers.join("g", member(1, "a", 0)).unwrap();
        producers.join("g", member(2, "b", 5)).unwrap();
        assert!(producers.expire(120_000).is_empty());
        assert_eq!(producers.expire(120_001), [1]);
        assert_eq!(producers.all()["g"].len(), 1);
    }

    #[test]
    fn a_full_table_refuses_new_members_and_keeps_existing_ones() {
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

    #[test]
    fn a_client_that_changes_its_id_leaves_no_old_entry() {
        let producers = Producers::new(ClientLimits::default());
        for n in 0..100 {
            producers.join("g", member(1, &format!("id-{n}"), 0)).unwrap();
            producers.join("h", member(1, "the same", 0)).unwrap();
        }
        assert_eq!((producers.find("id-98"), producers.find("id-99")), (None, Some(1)));
        assert_eq!(producers.state.read().by_client.len(), 2);
        producers.leave("h", 1);
        producers.closed(1);
        assert!(producers.is_clean());
    }

    #[test]
    fn the_same_id_on_two_live_connections_is_counted() {
        let producers = Producers::new(ClientLimits::default());
        producers.join("g", member(1, "a", 0)).unwrap();
        producers.join("g", member(2, "a", 1)).unwrap();
        producers.join("g", member(2, "a", 2)).unwrap();
        assert_eq!(producers.hazards().same_client_ids(), 0, "the first connection may be dead");
        producers.join("g", member(1, "a", 3)).unwrap();
        assert_eq!(producers.hazards().same_client_ids(), 1);
        assert_eq!(producers.find("a"), Some(1), "it sent the latest heartbeat");
        producers.closed(1);
        assert_eq!(producers.find("a"), Some(2));
        producers.closed(2);
        assert!(producers.is_clean());
    }
}
