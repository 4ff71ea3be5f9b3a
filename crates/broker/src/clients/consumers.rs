//! Consumers and subscriptions by group. Pure state but for the clock of [`Holders`]: the caller passes the time.

use super::budget::{Budget, Charge};
use super::compensated::Compensated;
use super::hazards::{self, Hazards, Warned};
use super::holders::{Departure, Holder, Holders};
use super::table::{ByChannel, Channel, ClientError, ClientLimits, Member, Members};
use super::view::{GroupView, Joining, Subscribed};
use crate::filter::Filters;
use bytes::Bytes;
use parking_lot::RwLock;
use protocol::heartbeat::{ConsumerIds, Subscription};
use protocol::json;
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Result of a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joined {
    /// Whether a member or topic was added, or a topic removed.
    pub changed: bool,
    /// Whether the client has to send its subscriptions again (v2).
    pub resend: bool,
    /// Whether the members have to be notified.
    pub notify: bool,
}

#[derive(Debug)]
struct Group<C> {
    members: Members<C>,
    view: Arc<GroupView>,
    fingerprint: i32,
    /// Bytes of the view, and the connection to which they are charged.
    charge: Charge,
    /// The member whose heartbeat set the view.
    set_by: u64,
    warned: Warned,
    /// Body with all client ids, built on the first request. All members ask for it after each change.
    ids: OnceLock<Bytes>,
}

#[derive(Debug)]
struct ConsumerTable<C> {
    groups: FxHashMap<Arc<str>, Group<C>>,
    by_channel: ByChannel,
    budget: Budget,
}

/// Counts subscription changes and calls the listener.
#[derive(Default)]
struct ChangeListener {
    changes: AtomicU64,
    notify: OnceLock<OnSubscriptionChange>,
}

/// Called with the name of a group whose subscriptions changed.
pub type OnSubscriptionChange = Box<dyn Fn(&str) + Send + Sync>;

impl fmt::Debug for ChangeListener {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "ChangeListener({:?} changes)", self.changes)
    }
}

/// The consumers that are online.
#[derive(Debug)]
pub struct Consumers<C> {
    listener: ChangeListener,
    state: RwLock<ConsumerTable<C>>,
    compensated: Compensated,
    filters: Arc<Filters>,
    hazards: Hazards,
    limits: ClientLimits,
    holders: Holders,
}

impl<C: Channel> Consumers<C> {
    /// Creates an empty table without SQL filters.
    #[must_use]
    pub fn new(limits: ClientLimits) -> Self {
        Self::with(limits, Arc::default())
    }

    /// Nobody yet. The SQL filters that heartbeats tell are registered in `filters`.
    #[must_use]
    pub fn with(limits: ClientLimits, filters: Arc<Filters>) -> Self {
        Self {
            listener: ChangeListener::default(),
            state: RwLock::new(ConsumerTable {
                groups: FxHashMap::default(),
                by_channel: ByChannel::default(),
                budget: Budget::default(),
            }),
            compensated: Compensated::new(limits.subscription_bytes.all, limits.subscriptions),
            filters,
            hazards: Hazards::default(),
            holders: Holders::new(limits.grace_ms),
            limits,
        }
    }

    /// The consumers for which messages are held.
    #[must_use]
    pub fn holders(&self) -> &Holders {
        &self.holders
    }

    /// The holder for a client of a group.
    #[must_use]
    pub fn holder(&self, group: &str, client_id: &str) -> Arc<Holder> {
        self.holders.find_or_add(group, client_id, || self.is_member(group, client_id))
    }

    /// Notes that a client has come or gone. Without a lock on the members.
    fn noted(&self, group: &str, client_id: &str, departure: Departure) {
        self.holders
            .changed(group, client_id, departure, || self.is_member(group, client_id));
    }

    /// Whether a connection is in any group.
    #[must_use]
    pub fn is_in_any(&self, channel: u64) -> bool {
        self.state.read().by_channel.count_own(channel) > 0
    }

    fn is_member(&self, group: &str, client_id: &str) -> bool {
        let state = self.state.read();
        state
            .groups
            .get(group)
            .is_some_and(|entry| entry.members.of_client(client_id).is_some())
    }

    /// A client says goodbye to its group, of which it may be no member any more.
    pub fn goodbye(&self, group: &str, client_id: &str, visible_after_ms: i64) {
        self.noted(group, client_id, Departure::Goodbye(visible_after_ms));
    }

    /// Registers the listener of subscription changes. It is called after the change is visible. Call once, at the start.
    pub fn set_subscription_listener(&self, notify: OnSubscriptionChange) {
        // A second listener is a bug; the first one stays.
        let first = self.listener.notify.set(notify).is_ok();
        debug_assert!(first, "the subscription listener is registered once");
    }

    /// The SQL filters of groups.
    #[must_use]
    pub fn filters(&self) -> &Filters {
        &self.filters
    }

    /// Number of subscription changes so far. Subscriptions are unchanged between two equal values.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.listener.changes.load(Ordering::SeqCst)
    }

    /// Adds a consumer to its group, or refreshes it.
    ///
    /// # Errors
    /// A [`ClientError`] if a limit is reached; members of the group stay members.
    pub fn join(&self, group: &str, mut joining: Joining<C>) -> Result<Joined, ClientError> {
        // First: whoever sees the new subscriptions finds their filters. Those of a heartbeat that is refused expire.
        if let Some(subscriptions) = &joining.subscriptions {
            self.filters.register(group, subscriptions, joining.member.last_seen_ms);
        }
        let mut state = self.state.write();
        let (channel, owner) = (joining.member.channel.id(), joining.member.channel.owner());
        let client_id = Arc::clone(&joining.member.client_id);
        let before = state.groups.get(group).map(|entry| Arc::clone(&entry.view));
        let before = before.unwrap_or_else(|| Arc::new(GroupView::before(&joining)));
        let after = before.after(&joining);
        let charge = after.as_ref().map(|(view, _)| Charge {
            connection: owner,
            bytes: view.memory(),
        });
        self.check_limits(&state, group, &joining, charge)?;
        let ConsumerTable {
            groups,
            by_channel,
            budget,
        } = &mut *state;
        let name: Arc<str> = match groups.get_key_value(group) {
            Some((name, _)) => Arc::clone(name),
            None => group.into(),
        };
        let entry = groups.entry(Arc::clone(&name)).or_insert_with(|| Group::new(&joining));
        let set_by = entry.set_by;
        if let Some(charge) = charge {
            budget.replace(entry.charge, charge);
            (entry.charge, entry.set_by) = (charge, channel);
        }
        let replaced = after.is_some();
        let topics_changed = after.as_ref().is_some_and(|(_, topics_changed)| *topics_changed);
        if let Some((view, _)) = after {
            entry.view = Arc::new(view);
        }
        // Compat: a v2 client that sends no subscriptions assumes that the broker has them. After a restart the broker has none,
        // and Apache never asks for them: its consumers get no messages until they restart.
        let has_lost_subscriptions = joining.subscriptions.is_none() && entry.view.subscriptions.is_empty();
        let differs = entry.fingerprint != 0 && entry.fingerprint != joining.fingerprint;
        entry.fingerprint = joining.fingerprint;
        let previous = entry.members.find(channel).map_or(0, |member| member.subscribes);
        joining.member.subscribes = joining.subscriptions.as_deref().map_or(previous, hazards::hash);
        let same_client = entry
            .members
            .find(channel)
            .is_some_and(|member| member.client_id == joining.member.client_id);
        let replaced_member = entry.members.refresh(joining.member.clone());
        let new_member = replaced_member.is_none();
        if !same_client {
            entry.ids = OnceLock::new();
        }
        if new_member {
            by_channel.add(&joining.member.channel, &name);
            tracing::info!(group, channel, "consumer joined");
        } else {
            entry.check_for_hazards(group, &joining, previous, set_by, &before, &self.hazards);
        }
        let changed = new_member || topics_changed;
        let joined = Joined {
            changed,
            resend: has_lost_subscriptions || differs,
            notify: changed && joining.notify && !entry.view.is_broadcast(),
        };
        drop(state);
        if !same_client {
            self.noted(group, &client_id, Departure::Lost);
            if let Some(other) = replaced_member {
                self.noted(group, &other.client_id, Departure::Lost);
            }
        }
        if replaced {
            self.listener.changes.fetch_add(1, Ordering::SeqCst);
            if let Some(notify) = self.listener.notify.get() {
                notify(group);
            }
        }
        Ok(joined)
    }

    fn check_limits(&self, state: &ConsumerTable<C>, group: &str, joining: &Joining<C>, charge: Option<Charge>) -> Result<(), ClientError> {
        let count = joining.subscriptions.as_ref().map_or(0, Vec::len);
        let max = self.limits.subscriptions;
        if count > max {
            let group = group.to_owned();
            return Err(ClientError::TooManyTopics { group, count, max });
        }
        if let Some(charge) = charge {
            let old = state.groups.get(group).map_or_else(Charge::default, |entry| entry.charge);
            let checked = state.budget.check(old, charge, &self.limits.subscription_bytes);
            checked.map_err(|full| ClientError::TooManyBytes {
                group: group.to_owned(),
                bytes: charge.bytes,
                full,
            })?;
        }
        let channel = &joining.member.channel;
        let is_in = state.groups.get(group).is_some_and(|entry| entry.members.contains(channel.id()));
        if is_in {
            Ok(())
        } else {
            state.by_channel.check(channel.owner(), group, &self.limits)
        }
    }

    /// Removes a consumer from a group. Returns whether the other members have to be notified.
    pub fn leave(&self, group: &str, channel: u64, departure: Departure) -> bool {
        let mut state = self.state.write();
        state.by_channel.remove(channel, group);
        let Some((client_id, notify)) = state.drop_member(group, channel) else {
            return false;
        };
        drop(state);
        self.noted(group, &client_id, departure);
        notify
    }

    /// Removes a closed connection. Returns the groups whose other members have to be notified.
    pub fn closed(&self, channel: u64, departure: Departure) -> Vec<Arc<str>> {
        let mut state = self.state.write();
        let groups = state.by_channel.take(channel);
        let dropped = groups.into_iter().map(|group| {
            let dropped = state.drop_member(&group, channel);
            (group, dropped)
        });
        let dropped: Vec<_> = dropped.collect();
        drop(state);
        let left = dropped.into_iter().filter_map(|(group, dropped)| {
            let (client_id, notify) = dropped?;
            self.noted(&group, &client_id, departure);
            notify.then_some(group)
        });
        left.collect()
    }

    /// Removes members without heartbeats for `expiry_ms`. Returns the connections to close and the groups to notify.
    pub fn expire(&self, now_ms: i64) -> (Vec<C>, Vec<Arc<str>>) {
        let mut state = self.state.write();
        let ConsumerTable {
            groups,
            by_channel,
            budget,
        } = &mut *state;
        let (mut close, mut notify, mut lost) = (Vec::new(), Vec::new(), Vec::new());
        groups.retain(|name, group| {
            let gone = group.members.expire(now_ms, self.limits.expiry_ms);
            for member in &gone {
                tracing::warn!(
                    group = &**name,
                    client = &*member.client_id,
                    "consumer removed: no heartbeat for channelExpiredTimeout"
                );
                by_channel.remove(member.channel.id(), name);
            }
            if !gone.is_empty() {
                group.members_left(budget);
                if !group.members.is_empty() && !group.view.is_broadcast() {
                    notify.push(Arc::clone(name));
                }
            }
            lost.extend(gone.iter().map(|member| (Arc::clone(name), Arc::clone(&member.client_id))));
            close.extend(gone.into_iter().map(|member| member.channel));
            !group.members.is_empty()
        });
        drop(state);
        lost.iter()
            .for_each(|(group, client_id)| self.noted(group, client_id, Departure::Lost));
        self.holders.tidy();
        self.compensated.expire(now_ms);
        self.filters.expire(now_ms, |group| self.count(group) > 0);
        (close, notify)
    }

    /// Counters of misconfigured groups.
    #[must_use]
    pub fn hazards(&self) -> &Hazards {
        &self.hazards
    }

    /// Number of members of a group; 0 if it is not online.
    #[must_use]
    pub fn count(&self, group: &str) -> usize {
        self.state.read().groups.get(group).map_or(0, |entry| entry.members.len())
    }

    /// The members of a group to notify of a change; none for a broadcast group, whose members do not share queues.
    #[must_use]
    pub fn members_to_notify(&self, group: &str) -> Vec<C> {
        let state = self.state.read();
        let entry = state.groups.get(group).filter(|entry| !entry.view.is_broadcast());
        entry.map_or_else(Vec::new, |entry| entry.members.channels())
    }

    /// The client ids of an online group, as a response body.
    #[must_use]
    pub fn ids(&self, group: &str) -> Option<Bytes> {
        let state = self.state.read();
        let entry = state.groups.get(group)?;
        let body = || {
            let consumer_id_list = entry.members.iter().map(|member| member.client_id.to_string()).collect();
            json::write(&ConsumerIds { consumer_id_list }).into()
        };
        Some(entry.ids.get_or_init(body).clone())
    }

    /// The subscriptions of an online group. Called for every pull.
    #[must_use]
    pub fn view(&self, group: &str) -> Option<Arc<GroupView>> {
        self.state.read().groups.get(group).map(|group| Arc::clone(&group.view))
    }

    /// The members of an online group.
    #[must_use]
    pub fn members(&self, group: &str) -> Option<Vec<Member<C>>> {
        let state = self.state.read();
        Some(state.groups.get(group)?.members.iter().cloned().collect())
    }

    /// The member of a group with this client id.
    #[must_use]
    pub fn find(&self, group: &str, client_id: &str) -> Option<Member<C>> {
        let state = self.state.read();
        state.groups.get(group)?.members.of_client(client_id).cloned()
    }

    /// A group's subscription to a topic, from a heartbeat or else from a pull.
    #[must_use]
    pub fn subscription(&self, group: &str, topic: &str) -> Option<Arc<Subscribed>> {
        let of_heartbeat = self.view(group).and_then(|view| view.subscriptions.get(topic).cloned());
        of_heartbeat.or_else(|| self.compensated.find(group, topic))
    }

    /// Number of topics that a group subscribes to; 0 if it is not online.
    #[must_use]
    pub fn subscription_count(&self, group: &str) -> usize {
        self.view(group).map_or(0, |view| view.subscriptions.len())
    }

    /// Online groups that subscribe to a topic.
    #[must_use]
    pub fn groups_of(&self, topic: &str) -> BTreeSet<String> {
        let state = self.state.read();
        let subscribed = state
            .groups
            .iter()
            .filter(|(_, group)| group.view.subscriptions.contains_key(topic));
        subscribed.map(|(name, _)| name.to_string()).collect()
    }

    /// Keeps for ten minutes the subscription of a pull whose consumer sends no heartbeat for it, so that admin requests see it.
    /// Does nothing if the same expression was added recently, or if a limit is reached.
    pub fn compensate(&self, group: &str, topic: &str, expression: &str, now_ms: i64, build: impl FnOnce() -> Subscription) {
        self.compensated.add(group, topic, expression, now_ms, build);
    }

    #[cfg(test)]
    pub(crate) fn is_clean(&self) -> bool {
        let state = self.state.read();
        state.groups.is_empty() && state.by_channel.is_clean() && state.budget.is_clean() && self.compensated.is_clean()
    }
}

impl<C: Channel> ConsumerTable<C> {
    /// Removes a member. Returns its client id, and whether the other members have to be notified.
    fn drop_member(&mut self, group: &str, channel: u64) -> Option<(Arc<str>, bool)> {
        let entry = self.groups.get_mut(group)?;
        let member = entry.members.remove(channel)?;
        tracing::info!(group, channel, "consumer left");
        entry.members_left(&mut self.budget);
        let notify = !entry.members.is_empty() && !entry.view.is_broadcast();
        if entry.members.is_empty() {
            self.groups.remove(group);
        }
        Some((member.client_id, notify))
    }
}

impl<C: Channel> Group<C> {
    fn new(first: &Joining<C>) -> Self {
        Self {
            members: Members::default(),
            view: Arc::new(GroupView::before(first)),
            fingerprint: 0,
            charge: Charge::default(),
            set_by: 0,
            warned: Warned::default(),
            ids: OnceLock::new(),
        }
    }

    /// After members left: charges the bytes of the subscriptions to a remaining member.
    fn members_left(&mut self, budget: &mut Budget) {
        self.ids = OnceLock::new();
        if self.members.contains(self.set_by) {
            return;
        }
        let next = self.members.iter().next();
        let successor = next.map_or_else(Charge::default, |member| Charge {
            connection: member.channel.owner(),
            bytes: self.charge.bytes,
        });
        budget.replace(self.charge, successor);
        self.set_by = next.map_or(0, |member| member.channel.id());
        self.charge = successor;
    }

    /// Compares the heartbeat of an existing member with the other members. `previous` is the hash of its last subscriptions,
    /// `before` what the group had before this heartbeat, set by the connection `set_by`.
    fn check_for_hazards(&mut self, group: &str, joining: &Joining<C>, previous: u64, set_by: u64, before: &GroupView, hazards: &Hazards) {
        let channel = joining.member.channel.id();
        if let Some((one, other)) = self.members.later_with_same_client_id(channel) {
            hazards.same_client_id("consumer", group, one, other, &mut self.warned.same_client_id);
        }
        let Some(subscriptions) = joining.subscriptions.as_deref().filter(|_| previous == joining.member.subscribes) else {
            return;
        };
        if let Some(difference) = hazards::difference(subscriptions, before) {
            let other = self.members.find(set_by).filter(|other| other.channel.id() != channel);
            hazards.differing(group, &joining.member, other, &difference, &mut self.warned.differing);
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::super::table::testing::member;
    use super::*;
    use protocol::heartbeat::{ConsumeFromWhere, ConsumeType, MessageModel};

    pub(crate) fn subscription(topic: &str, version: i64) -> Subscription {
        Subscription {
            topic: topic.to_owned(),
            sub_string: "*".to_owned(),
            sub_version: version,
            ..Subscription::default()
        }
    }

    /// A client named after its connection, with topics and subscription versions.
    pub(crate) fn joining<C: Channel>(channel: C, topics: Option<&[(&str, i64)]>) -> Joining<C> {
        let client_id = format!("client-{}", channel.id());
        Joining {
            member: member(channel, &client_id, 0),
            consume_type: ConsumeType::Passively,
            message_model: MessageModel::Clustering,
            consume_from_where: ConsumeFromWhere::LastOffset,
            subscriptions: topics.map(|topics| topics.iter().map(|(topic, version)| subscription(topic, *version)).collect()),
            fingerprint: 0,
            notify: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::budget::BytesLimits;
    use super::testing::{joining, subscription};
    use super::*;
    use protocol::heartbeat::MessageModel;

    fn consumers() -> Consumers<u64> {
        Consumers::new(ClientLimits::default())
    }

    fn to_notify(consumers: &Consumers<u64>) -> Vec<u64> {
        consumers.members_to_notify("g")
    }

    #[test]
    fn members_are_notified_of_joins_and_leaves_but_not_of_heartbeats() {
        let consumers = consumers();
        assert!(consumers.join("g", joining(1, Some(&[("t", 1)]))).unwrap().notify);
        assert!(!consumers.join("g", joining(1, Some(&[("t", 1)]))).unwrap().notify);
        assert!(consumers.join("g", joining(2, Some(&[("t", 1)]))).unwrap().notify);
        assert_eq!(to_notify(&consumers), [1, 2]);
        assert!(consumers.leave("g", 1, Departure::Lost));
        assert_eq!(to_notify(&consumers), [2]);
        assert_eq!(consumers.closed(2, Departure::Lost), []);
        assert!(consumers.view("g").is_none() && consumers.is_clean());
    }

    #[test]
    fn the_list_of_client_ids_follows_every_change() {
        let consumers = consumers();
        let ids = || consumers.ids("g").map(|body| String::from_utf8(body.to_vec()).unwrap());
        assert_eq!(ids(), None);
        consumers.join("g", joining(1, Some(&[("t", 1)]))).unwrap();
        assert_eq!(ids().unwrap(), r#"{"consumerIdList":["client-1"]}"#);
        consumers.join("g", joining(2, Some(&[("t", 1)]))).unwrap();
        assert_eq!(ids().unwrap(), r#"{"consumerIdList":["client-1","client-2"]}"#);
        let mut renamed = joining(1, Some(&[("t", 1)]));
        renamed.member.client_id = "other".into();
        consumers.join("g", renamed).unwrap();
        assert_eq!(ids().unwrap(), r#"{"consumerIdList":["other","client-2"]}"#);
        consumers.leave("g", 1, Departure::Lost);
        assert_eq!(ids().unwrap(), r#"{"consumerIdList":["client-2"]}"#);
    }

    #[test]
    fn two_live_clients_with_the_same_id_are_counted() {
        let consumers = consumers();
        let heartbeat = |channel| {
            let mut joining = joining(channel, Some(&[("t", 1)]));
            joining.member.client_id = "same".into();
            consumers.join("g", joining).unwrap();
        };
        heartbeat(1);
        // The first may be a connection whose close was not noticed yet.
        heartbeat(2);
        heartbeat(2);
        assert_eq!(consumers.hazards().same_client_ids(), 0);
        heartbeat(1);
        assert_eq!(consumers.hazards().same_client_ids(), 1);
        consumers.join("g", joining(3, Some(&[("t", 1)]))).unwrap();
        consumers.join("g", joining(3, Some(&[("t", 1)]))).unwrap();
        assert_eq!(consumers.hazards().same_client_ids(), 1);
    }

    #[test]
    fn members_with_different_subscriptions_are_counted() {
        let consumers = consumers();
        let beat = |channel, topic, version, expression: &str| {
            let mut joining = joining(channel, Some(&[(topic, version)]));
            for data in joining.subscriptions.iter_mut().flatten() {
                data.sub_string = expression.to_owned();
            }
            consumers.join("g", joining).unwrap();
            consumers.hazards().differing_subscriptions()
        };
        assert_eq!((beat(1, "t", 1, "a"), beat(2, "t", 1, "a"), beat(1, "t", 1, "a")), (0, 0, 0));
        // One of them changes its expression, and then the other one: a rolling update.
        assert_eq!((beat(2, "t", 2, "b"), beat(1, "t", 2, "b"), beat(2, "t", 2, "b")), (0, 0, 0));
        // One changes its expression, the other one does not.
        assert_eq!((beat(2, "t", 3, "c"), beat(1, "t", 2, "b"), beat(2, "t", 3, "c")), (0, 1, 1));
        // Their topics differ, too.
        assert_eq!((beat(1, "u", 4, "b"), beat(2, "t", 3, "c"), beat(1, "u", 4, "b")), (1, 2, 3));
    }

    #[test]
    fn subscriptions_are_bounded_in_bytes_and_charged_to_the_connection_that_set_them() {
        let one = subscription("t", 1).memory();
        let limits = ClientLimits {
            subscription_bytes: BytesLimits {
                all: 4 * one,
                of_connection: 2 * one,
                of_group: one,
            },
            ..ClientLimits::default()
        };
        let consumers = Consumers::new(limits);
        let join = |group: &str, channel, topics: &[(&str, i64)]| consumers.join(group, joining(channel, Some(topics)));
        assert!(matches!(join("g", 1, &[("t", 1), ("u", 1)]), Err(ClientError::TooManyBytes { bytes, .. }) if bytes == 2 * one));
        join("g", 1, &[("t", 1)]).unwrap();
        join("h", 1, &[("t", 1)]).unwrap();
        assert!(join("i", 1, &[("t", 1)]).is_err(), "a third group of the connection");
        join("g", 2, &[("t", 1)]).unwrap();
        assert!(join("i", 1, &[("t", 1)]).is_err(), "the second member set no new subscriptions");
        consumers.leave("g", 1, Departure::Lost);
        join("i", 1, &[("t", 1)]).unwrap();
        join("k", 3, &[("t", 1)]).unwrap();
        assert!(join("l", 3, &[("t", 1)]).is_err(), "a fifth group");
        for channel in 1..=3 {
            consumers.closed(channel, Departure::Lost);
        }
        assert!(consumers.is_clean());
    }

    #[test]
    fn members_are_notified_of_added_and_removed_topics_but_not_of_a_new_expression() {
        let consumers = consumers();
        consumers.join("g", joining(1, Some(&[("t", 1)]))).unwrap();
        assert!(consumers.join("g", joining(1, Some(&[("t", 1), ("u", 1)]))).unwrap().notify);
        assert!(!consumers.join("g", joining(1, Some(&[("t", 5), ("u", 1)]))).unwrap().changed);
        assert_eq!(consumers.subscription("g", "t").unwrap().data.sub_version, 5);
        assert!(!consumers.join("g", joining(1, Some(&[("t", 3), ("u", 1)]))).unwrap().changed);
        assert_eq!(consumers.subscription("g", "t").unwrap().data.sub_version, 5);
        assert!(consumers.join("g", joining(1, Some(&[("u", 1)]))).unwrap().changed);
        assert!(consumers.subscription("g", "t").is_none());
        assert_eq!(consumers.groups_of("u"), BTreeSet::from(["g".to_owned()]));
    }

    #[test]
    fn broadcast_groups_are_not_notified() {
        let consumers = consumers();
        for channel in [1, 2] {
            let mut heartbeat = joining(channel, Some(&[("t", 1)]));
            heartbeat.message_model = MessageModel::Broadcasting;
            assert!(!consumers.join("g", heartbeat).unwrap().notify);
        }
        assert!(!consumers.leave("g", 1, Departure::Lost));
        assert!(to_notify(&consumers).is_empty());
    }

    #[test]
    fn a_heartbeat_without_subscriptions_keeps_them_or_asks_for_them() {
        let consumers = consumers();
        let mut first = joining(1, Some(&[("t", 1)]));
        first.fingerprint = 77;
        assert!(!consumers.join("g", first).unwrap().resend);
        let mut short = joining(1, None);
        short.fingerprint = 77;
        assert!(!consumers.join("g", short).unwrap().resend);
        assert!(consumers.subscription("g", "t").is_some());
        let mut other = joining(2, None);
        other.fingerprint = 78;
        assert!(consumers.join("g", other).unwrap().resend);
        let mut unknown = joining(3, None);
        unknown.fingerprint = 77;
        assert!(consumers.join("after-our-restart", unknown).unwrap().resend);
    }

    #[test]
    fn a_consumer_without_heartbeats_is_removed_and_the_others_are_notified() {
        let consumers = consumers();
        consumers.join("g", joining(1, Some(&[("t", 1)]))).unwrap();
        let mut later = joining(2, Some(&[("t", 1)]));
        later.member.last_seen_ms = 10;
        consumers.join("g", later).unwrap();
        assert_eq!(consumers.expire(120_000), (vec![], vec![]));
        assert_eq!(consumers.expire(120_000 + 1), (vec![1], vec!["g".into()]));
        assert_eq!(consumers.find("g", "client-1").map(|member| member.channel), None);
        assert_eq!(consumers.find("g", "client-2").map(|member| member.channel), Some(2));
    }

    #[test]
    fn a_closed_connection_is_removed_from_all_its_groups() {
        let consumers = consumers();
        for group in ["g", "h"] {
            consumers.join(group, joining(1, Some(&[("t", 1)]))).unwrap();
            consumers.join(group, joining(2, Some(&[("t", 1)]))).unwrap();
        }
        assert_eq!(consumers.closed(1, Departure::Lost), ["g".into(), "h".into()]);
        assert_eq!(consumers.closed(1, Departure::Lost), []);
    }

    #[test]
    fn limits_refuse_new_members_and_keep_existing_ones() {
        let limits = ClientLimits {
            clients: 1,
            subscriptions: 1,
            ..ClientLimits::default()
        };
        let consumers = Consumers::new(limits);
        consumers.join("g", joining(1, Some(&[("t", 1)]))).unwrap();
        assert!(consumers.join("h", joining(1, Some(&[("t", 1)]))).is_err());
        assert!(consumers.join("g", joining(2, Some(&[("t", 1)]))).is_err());
        assert!(consumers.join("g", joining(1, Some(&[("t", 1), ("u", 1)]))).is_err());
        assert!(consumers.join("g", joining(1, Some(&[("t", 2)]))).is_ok());
    }

    #[test]
    fn a_subscription_of_a_pull_is_found_but_not_counted() {
        let consumers = consumers();
        consumers.compensate("g", "t", "*", 0, || subscription("t", 1));
        assert!(consumers.subscription("g", "t").is_some());
        assert_eq!(consumers.subscription_count("g"), 0);
        consumers.expire(1_000_000);
        assert!(consumers.is_clean());
    }
}
