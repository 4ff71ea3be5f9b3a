//! Consumers by group, and what each group subscribes to. Pure state: the time is given.

use super::budget::{Budget, Charge};
use super::compensated::Compensated;
use super::hazards::{self, Hazards, Warned};
use super::table::{ByChannel, Channel, ClientError, ClientLimits, Member, Members};
use super::view::{GroupView, Joining, Subscribed};
use bytes::Bytes;
use parking_lot::RwLock;
use protocol::heartbeat::{ConsumerIds, Subscription};
use protocol::json;
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// What a heartbeat changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joined {
    /// Whether a member or a topic is new, or a topic gone.
    pub changed: bool,
    /// Whether the client has to send its subscriptions (v2).
    pub resend: bool,
    /// Whether the members are to be told.
    pub tell: bool,
}

#[derive(Debug)]
struct Group<C> {
    members: Members<C>,
    view: Arc<GroupView>,
    fingerprint: i32,
    /// What the view takes, and who told it.
    charge: Charge,
    warned: Warned,
    /// Body of the answer with all client ids, made when it is asked for. All members ask after each change.
    ids: OnceLock<Bytes>,
}

#[derive(Debug)]
struct State<C> {
    groups: FxHashMap<Arc<str>, Group<C>>,
    by_channel: ByChannel,
    budget: Budget,
}

/// Who is told of a group whose subscriptions changed, and how often that was.
#[derive(Default)]
struct Watcher {
    changes: AtomicU64,
    tell: OnceLock<TellChange>,
}

/// Called with the name of a group.
pub type TellChange = Box<dyn Fn(&str) + Send + Sync>;

impl fmt::Debug for Watcher {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Watcher({:?} changes)", self.changes)
    }
}

/// The consumers that are online.
#[derive(Debug)]
pub struct Consumers<C> {
    watcher: Watcher,
    state: RwLock<State<C>>,
    compensated: Compensated,
    hazards: Hazards,
    limits: ClientLimits,
}

impl<C: Channel> Consumers<C> {
    /// Nobody yet.
    #[must_use]
    pub fn new(limits: ClientLimits) -> Self {
        Self {
            watcher: Watcher::default(),
            state: RwLock::new(State {
                groups: FxHashMap::default(),
                by_channel: ByChannel::default(),
                budget: Budget::default(),
            }),
            compensated: Compensated::new(limits.subscription_bytes.all, limits.subscriptions),
            hazards: Hazards::default(),
            limits,
        }
    }

    /// Has `tell` called with the name of a group whose subscriptions changed, when the change is visible. Once, at the start.
    pub fn watch(&self, tell: TellChange) {
        // A second watcher would be a mistake of ours without harm to the first.
        let first = self.watcher.tell.set(tell).is_ok();
        debug_assert!(first, "subscriptions have one watcher");
    }

    /// How often subscriptions changed. Who sees the same number twice has seen the subscriptions of between.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.watcher.changes.load(Ordering::SeqCst)
    }

    /// Takes a consumer into its group, or refreshes it.
    ///
    /// # Errors
    /// A bound is reached; who is in stays in.
    pub fn join(&self, group: &str, mut joining: Joining<C>) -> Result<Joined, ClientError> {
        let mut state = self.state.write();
        let channel = joining.member.channel.id();
        let before = state.groups.get(group).map(|known| Arc::clone(&known.view));
        let before = before.unwrap_or_else(|| Arc::new(GroupView::before(&joining)));
        let after = before.after(&joining);
        let charge = after.as_ref().map(|(view, _)| Charge {
            connection: channel,
            bytes: view.memory(),
        });
        self.room(&state, group, &joining, charge)?;
        let State {
            groups,
            by_channel,
            budget,
        } = &mut *state;
        let name: Arc<str> = match groups.get_key_value(group) {
            Some((name, _)) => Arc::clone(name),
            None => group.into(),
        };
        let known = groups.entry(Arc::clone(&name)).or_insert_with(|| Group::new(&joining));
        let teller = known.charge.connection;
        if let Some(charge) = charge {
            budget.replace(known.charge, charge);
            known.charge = charge;
        }
        let replaced = after.is_some();
        let topics_changed = after.as_ref().is_some_and(|(_, topics_changed)| *topics_changed);
        if let Some((view, _)) = after {
            known.view = Arc::new(view);
        }
        // Compat: a v2 client that sends no subscriptions believes we have them. After a restart of ours we have not, and
        // Apache never asks for them then; its consumers starve until they restart.
        let starved = joining.subscriptions.is_none() && known.view.subscriptions.is_empty();
        let differs = known.fingerprint != 0 && known.fingerprint != joining.fingerprint;
        known.fingerprint = joining.fingerprint;
        let told = known.members.find(channel).map_or(0, |member| member.subscribes);
        joining.member.subscribes = joining.subscriptions.as_deref().map_or(told, hazards::hash);
        let same_client = known
            .members
            .find(channel)
            .is_some_and(|member| member.client_id == joining.member.client_id);
        let new_member = known.members.refresh(joining.member.clone()).is_none();
        if !same_client {
            known.ids = OnceLock::new();
        }
        if new_member {
            by_channel.add(channel, &name);
            tracing::info!(group, channel, "consumer joined");
        } else {
            known.look_for_hazards(group, &joining, told, teller, &before, &self.hazards);
        }
        let changed = new_member || topics_changed;
        let joined = Joined {
            changed,
            resend: starved || differs,
            tell: changed && joining.notify && !known.view.is_broadcast(),
        };
        drop(state);
        if replaced {
            self.watcher.changes.fetch_add(1, Ordering::SeqCst);
            if let Some(tell) = self.watcher.tell.get() {
                tell(group);
            }
        }
        Ok(joined)
    }

    fn room(&self, state: &State<C>, group: &str, joining: &Joining<C>, charge: Option<Charge>) -> Result<(), ClientError> {
        let count = joining.subscriptions.as_ref().map_or(0, Vec::len);
        let max = self.limits.subscriptions;
        if count > max {
            let group = group.to_owned();
            return Err(ClientError::TooManyTopics { group, count, max });
        }
        if let Some(charge) = charge {
            let old = state.groups.get(group).map_or_else(Charge::default, |known| known.charge);
            let room = state.budget.room(old, charge, &self.limits.subscription_bytes);
            room.map_err(|full| ClientError::TooManyBytes {
                group: group.to_owned(),
                bytes: charge.bytes,
                full,
            })?;
        }
        let channel = joining.member.channel.id();
        let is_in = state.groups.get(group).is_some_and(|known| known.members.contains(channel));
        if is_in {
            Ok(())
        } else {
            state.by_channel.room(channel, group, &self.limits)
        }
    }

    /// A consumer says goodbye. Says whether others are to be told.
    pub fn leave(&self, group: &str, channel: u64) -> bool {
        let mut state = self.state.write();
        state.by_channel.remove(channel, group);
        state.drop_member(group, channel)
    }

    /// A connection closed. Returns groups whose other members are to be told.
    pub fn closed(&self, channel: u64) -> Vec<Arc<str>> {
        let mut state = self.state.write();
        let mut groups = state.by_channel.take(channel);
        groups.retain(|group| state.drop_member(group, channel));
        groups
    }

    /// Takes out who was not heard of for too long. Returns the connections to close, and groups whose members are to be told.
    pub fn expire(&self, now_ms: i64) -> (Vec<C>, Vec<Arc<str>>) {
        let mut state = self.state.write();
        let State {
            groups,
            by_channel,
            budget,
        } = &mut *state;
        let (mut close, mut tell) = (Vec::new(), Vec::new());
        groups.retain(|name, group| {
            let gone = group.members.expire(now_ms, self.limits.expiry_ms);
            for member in &gone {
                tracing::warn!(
                    group = &**name,
                    client = &*member.client_id,
                    "consumer not heard of for channelExpiredTimeout: removed"
                );
                by_channel.remove(member.channel.id(), name);
            }
            if !gone.is_empty() {
                group.members_left(budget);
                if !group.members.is_empty() && !group.view.is_broadcast() {
                    tell.push(Arc::clone(name));
                }
            }
            close.extend(gone.into_iter().map(|member| member.channel));
            !group.members.is_empty()
        });
        drop(state);
        self.compensated.expire(now_ms);
        (close, tell)
    }

    /// How often members of a group get in each other's way.
    #[must_use]
    pub fn hazards(&self) -> &Hazards {
        &self.hazards
    }

    /// How many members an online group has.
    #[must_use]
    pub fn count(&self, group: &str) -> usize {
        self.state.read().groups.get(group).map_or(0, |known| known.members.len())
    }

    /// The members of a group, to tell them of a change of theirs; none of a group whose members share nothing.
    #[must_use]
    pub fn to_tell(&self, group: &str) -> Vec<C> {
        let state = self.state.read();
        let known = state.groups.get(group).filter(|known| !known.view.is_broadcast());
        known.map_or_else(Vec::new, |known| known.members.channels())
    }

    /// The client ids of an online group, as the body of an answer.
    #[must_use]
    pub fn ids(&self, group: &str) -> Option<Bytes> {
        let state = self.state.read();
        let known = state.groups.get(group)?;
        let body = || {
            let consumer_id_list = known.members.iter().map(|member| member.client_id.to_string()).collect();
            json::write(&ConsumerIds { consumer_id_list }).into()
        };
        Some(known.ids.get_or_init(body).clone())
    }

    /// What is known of an online group. For every pull.
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

    /// The member of a group that calls itself so.
    #[must_use]
    pub fn find(&self, group: &str, client_id: &str) -> Option<Member<C>> {
        let state = self.state.read();
        state
            .groups
            .get(group)?
            .members
            .iter()
            .find(|member| &*member.client_id == client_id)
            .cloned()
    }

    /// A group's subscription to a topic, told by heartbeat or else by pulls.
    #[must_use]
    pub fn subscription(&self, group: &str, topic: &str) -> Option<Arc<Subscribed>> {
        let told = self.view(group).and_then(|view| view.subscriptions.get(topic).cloned());
        told.or_else(|| self.compensated.find(group, topic))
    }

    /// How many topics an online group subscribes to; 0 when it is not online.
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

    /// Remembers for ten minutes a subscription that came with a pull, of a consumer that sends no heartbeat for it, so that
    /// administration sees it. Nothing is done while the same expression is already known and young, or when there is no room.
    pub fn compensate(&self, group: &str, topic: &str, expression: &str, now_ms: i64, build: impl FnOnce() -> Subscription) {
        self.compensated.add(group, topic, expression, now_ms, build);
    }

    #[cfg(test)]
    pub(crate) fn is_clean(&self) -> bool {
        let state = self.state.read();
        state.groups.is_empty() && state.by_channel.is_clean() && state.budget.is_clean() && self.compensated.is_clean()
    }
}

impl<C: Channel> State<C> {
    /// Says whether others are to be told.
    fn drop_member(&mut self, group: &str, channel: u64) -> bool {
        let Some(known) = self.groups.get_mut(group) else { return false };
        if known.members.remove(channel).is_none() {
            return false;
        }
        tracing::info!(group, channel, "consumer left");
        known.members_left(&mut self.budget);
        if known.members.is_empty() {
            self.groups.remove(group);
            return false;
        }
        !known.view.is_broadcast()
    }
}

impl<C: Channel> Group<C> {
    fn new(first: &Joining<C>) -> Self {
        Self {
            members: Members::default(),
            view: Arc::new(GroupView::before(first)),
            fingerprint: 0,
            charge: Charge::default(),
            warned: Warned::default(),
            ids: OnceLock::new(),
        }
    }

    /// Members are gone: what they told is counted for one that stays.
    fn members_left(&mut self, budget: &mut Budget) {
        self.ids = OnceLock::new();
        if self.members.contains(self.charge.connection) {
            return;
        }
        let heir = self.members.iter().next().map_or_else(Charge::default, |member| Charge {
            connection: member.channel.id(),
            bytes: self.charge.bytes,
        });
        budget.replace(self.charge, heir);
        self.charge = heir;
    }

    /// A member that is in already was heard of again: does another one get in its way? `told` is a hash of what it subscribed to the
    /// last time, `before` what the group was told last, by `teller`.
    fn look_for_hazards(&mut self, group: &str, joining: &Joining<C>, told: u64, teller: u64, before: &GroupView, hazards: &Hazards) {
        let channel = joining.member.channel.id();
        if let Some((one, other)) = self.members.later_with_same_client_id(channel) {
            hazards.same_client_id("consumer", group, one, other, &mut self.warned.same_client_id);
        }
        let Some(subscriptions) = joining.subscriptions.as_deref().filter(|_| told == joining.member.subscribes) else {
            return;
        };
        if let Some(difference) = hazards::difference(subscriptions, before) {
            let other = self.members.find(teller).filter(|other| other.channel.id() != channel);
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

    /// A client called after its connection, with topics and versions.
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

    fn told(consumers: &Consumers<u64>) -> Vec<u64> {
        consumers.to_tell("g")
    }

    #[test]
    fn members_are_told_of_joins_and_leaves_but_not_of_heartbeats() {
        let consumers = consumers();
        assert!(consumers.join("g", joining(1, Some(&[("t", 1)]))).unwrap().tell);
        assert!(!consumers.join("g", joining(1, Some(&[("t", 1)]))).unwrap().tell);
        assert!(consumers.join("g", joining(2, Some(&[("t", 1)]))).unwrap().tell);
        assert_eq!(told(&consumers), [1, 2]);
        assert!(consumers.leave("g", 1));
        assert_eq!(told(&consumers), [2]);
        assert_eq!(consumers.closed(2), []);
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
        consumers.leave("g", 1);
        assert_eq!(ids().unwrap(), r#"{"consumerIdList":["client-2"]}"#);
    }

    #[test]
    fn two_living_clients_of_one_id_are_counted() {
        let consumers = consumers();
        let heartbeat = |channel| {
            let mut joining = joining(channel, Some(&[("t", 1)]));
            joining.member.client_id = "same".into();
            consumers.join("g", joining).unwrap();
        };
        heartbeat(1);
        // The first may be a connection that nobody has noticed to be gone.
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
    fn members_that_subscribe_to_different_things_are_counted() {
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
        // One of them changes its mind, and the other one after it: a roll-out.
        assert_eq!((beat(2, "t", 2, "b"), beat(1, "t", 2, "b"), beat(2, "t", 2, "b")), (0, 0, 0));
        // One changes its mind and the other one stays.
        assert_eq!((beat(2, "t", 3, "c"), beat(1, "t", 2, "b"), beat(2, "t", 3, "c")), (0, 1, 1));
        // Topics that one has and the other has not take turns.
        assert_eq!((beat(1, "u", 4, "b"), beat(2, "t", 3, "c"), beat(1, "u", 4, "b")), (1, 2, 3));
    }

    #[test]
    fn subscriptions_are_bounded_in_bytes_and_counted_for_who_told_them() {
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
        assert!(join("i", 1, &[("t", 1)]).is_err(), "the second member tells nothing new");
        consumers.leave("g", 1);
        join("i", 1, &[("t", 1)]).unwrap();
        join("k", 3, &[("t", 1)]).unwrap();
        assert!(join("l", 3, &[("t", 1)]).is_err(), "a fifth group");
        for channel in 1..=3 {
            consumers.closed(channel);
        }
        assert!(consumers.is_clean());
    }

    #[test]
    fn members_are_told_when_topics_come_or_go_but_not_of_a_new_expression() {
        let consumers = consumers();
        consumers.join("g", joining(1, Some(&[("t", 1)]))).unwrap();
        assert!(consumers.join("g", joining(1, Some(&[("t", 1), ("u", 1)]))).unwrap().tell);
        assert!(!consumers.join("g", joining(1, Some(&[("t", 5), ("u", 1)]))).unwrap().changed);
        assert_eq!(consumers.subscription("g", "t").unwrap().data.sub_version, 5);
        assert!(!consumers.join("g", joining(1, Some(&[("t", 3), ("u", 1)]))).unwrap().changed);
        assert_eq!(consumers.subscription("g", "t").unwrap().data.sub_version, 5);
        assert!(consumers.join("g", joining(1, Some(&[("u", 1)]))).unwrap().changed);
        assert!(consumers.subscription("g", "t").is_none());
        assert_eq!(consumers.groups_of("u"), BTreeSet::from(["g".to_owned()]));
    }

    #[test]
    fn broadcast_groups_are_not_told() {
        let consumers = consumers();
        for channel in [1, 2] {
            let mut heartbeat = joining(channel, Some(&[("t", 1)]));
            heartbeat.message_model = MessageModel::Broadcasting;
            assert!(!consumers.join("g", heartbeat).unwrap().tell);
        }
        assert!(!consumers.leave("g", 1));
        assert!(told(&consumers).is_empty());
    }

    #[test]
    fn a_short_heartbeat_keeps_the_subscriptions_or_asks_for_them() {
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
    fn silence_removes_a_consumer_and_tells_the_others() {
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
    fn a_closed_connection_leaves_all_its_groups() {
        let consumers = consumers();
        for group in ["g", "h"] {
            consumers.join(group, joining(1, Some(&[("t", 1)]))).unwrap();
            consumers.join(group, joining(2, Some(&[("t", 1)]))).unwrap();
        }
        assert_eq!(consumers.closed(1), ["g".into(), "h".into()]);
        assert_eq!(consumers.closed(1), []);
    }

    #[test]
    fn bounds_refuse_the_new_and_keep_the_old() {
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
    fn a_subscription_told_by_pulls_is_known_but_not_counted() {
        let consumers = consumers();
        consumers.compensate("g", "t", "*", 0, || subscription("t", 1));
        assert!(consumers.subscription("g", "t").is_some());
        assert_eq!(consumers.subscription_count("g"), 0);
        consumers.expire(1_000_000);
        assert!(consumers.is_clean());
    }
}
