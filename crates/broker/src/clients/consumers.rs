//! Consumers by group, and what each group subscribes to. Pure state: the time is given.

use super::table::{ByChannel, Channel, ClientError, ClientLimits, Member, Members};
use crate::filter::TagFilter;
use parking_lot::RwLock;
use protocol::heartbeat::{ConsumeFromWhere, ConsumeType, MessageModel, Subscription};
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// How long a subscription that only pulls told of is kept, in ms.
const COMPENSATED_MS: i64 = 600_000;

/// A subscription with its filter, ready for pulls.
#[derive(Debug)]
pub struct Subscribed {
    /// As the client told it.
    pub data: Subscription,
    /// By the tags of the expression. Without meaning for SQL expressions.
    pub filter: TagFilter,
}

impl From<Subscription> for Subscribed {
    fn from(data: Subscription) -> Self {
        let by_codes = || TagFilter::from_codes(data.code_set.iter().copied());
        let filter = TagFilter::parse(&data.sub_string).unwrap_or_else(|_| by_codes());
        Self { data, filter }
    }
}

/// What is known of an online group: a picture that does not change, replaced on change.
#[derive(Debug)]
pub struct GroupView {
    /// Who asks for messages: the broker on behalf of a push consumer, the application, or POP.
    pub consume_type: ConsumeType,
    /// Each message to one member or to all.
    pub message_model: MessageModel,
    /// Where a new group starts.
    pub consume_from_where: ConsumeFromWhere,
    /// By topic.
    pub subscriptions: FxHashMap<Box<str>, Arc<Subscribed>>,
}

impl GroupView {
    fn is_broadcast(&self) -> bool {
        self.message_model == MessageModel::Broadcasting
    }
}

/// One group of one heartbeat.
#[derive(Debug)]
pub struct Joining<C> {
    /// The client.
    pub member: Member<C>,
    /// As the client says.
    pub consume_type: ConsumeType,
    /// As the client says.
    pub message_model: MessageModel,
    /// As the client says.
    pub consume_from_where: ConsumeFromWhere,
    /// What the group subscribes to; `None` when the heartbeat left it out because nothing changed (v2).
    pub subscriptions: Option<Vec<Subscription>>,
    /// Fingerprint of a v2 heartbeat, 0 in v1.
    pub fingerprint: i32,
    /// Whether members are to be told of changes (a property of the group).
    pub notify: bool,
}

/// What a heartbeat changed.
#[derive(Debug, PartialEq, Eq)]
pub struct Joined<C> {
    /// Whether a member or a topic is new, or a topic gone.
    pub changed: bool,
    /// Whether the client has to send its subscriptions (v2).
    pub resend: bool,
    /// Who is to be told.
    pub tell: Vec<C>,
}

#[derive(Debug)]
struct Group<C> {
    members: Members<C>,
    view: Arc<GroupView>,
    fingerprint: i32,
}

#[derive(Debug)]
struct State<C> {
    groups: FxHashMap<Arc<str>, Group<C>>,
    by_channel: ByChannel,
}

type Compensated = FxHashMap<Box<str>, FxHashMap<Box<str>, (Arc<Subscribed>, i64)>>;

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
    compensated: RwLock<Compensated>,
    limits: ClientLimits,
}

/// Members to tell of a group's change.
pub type Tell<C> = Vec<(Arc<str>, Vec<C>)>;

impl<C: Channel> Consumers<C> {
    /// Nobody yet.
    #[must_use]
    pub fn new(limits: ClientLimits) -> Self {
        Self {
            watcher: Watcher::default(),
            state: RwLock::new(State {
                groups: FxHashMap::default(),
                by_channel: ByChannel::default(),
            }),
            compensated: RwLock::default(),
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
    pub fn join(&self, group: &str, joining: Joining<C>) -> Result<Joined<C>, ClientError> {
        let mut state = self.state.write();
        self.room(&state, group, &joining)?;
        let State { groups, by_channel } = &mut *state;
        let channel = joining.member.channel.id();
        let name: Arc<str> = match groups.get_key_value(group) {
            Some((name, _)) => Arc::clone(name),
            None => group.into(),
        };
        let known = groups.entry(Arc::clone(&name)).or_insert_with(|| Group {
            members: Members::default(),
            view: Arc::new(GroupView {
                consume_type: joining.consume_type,
                message_model: joining.message_model,
                consume_from_where: joining.consume_from_where,
                subscriptions: FxHashMap::default(),
            }),
            fingerprint: 0,
        });
        let before = Arc::clone(&known.view);
        let topics_changed = known.take_in(&joining);
        let replaced = !Arc::ptr_eq(&before, &known.view);
        // Compat: a v2 client that sends no subscriptions believes we have them. After a restart of ours we have not, and
        // Apache never asks for them then; its consumers starve until they restart.
        let starved = joining.subscriptions.is_none() && known.view.subscriptions.is_empty();
        let differs = known.fingerprint != 0 && known.fingerprint != joining.fingerprint;
        known.fingerprint = joining.fingerprint;
        let new_member = known.members.refresh(joining.member);
        if new_member {
            by_channel.add(channel, &name);
            tracing::info!(group, channel, "consumer joined");
        }
        let changed = new_member || topics_changed;
        let tell = changed && joining.notify && !known.view.is_broadcast();
        let joined = Joined {
            changed,
            resend: starved || differs,
            tell: if tell { known.members.channels() } else { Vec::new() },
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

    fn room(&self, state: &State<C>, group: &str, joining: &Joining<C>) -> Result<(), ClientError> {
        let count = joining.subscriptions.as_ref().map_or(0, Vec::len);
        let max = self.limits.subscriptions;
        if count > max {
            let group = group.to_owned();
            return Err(ClientError::TooManyTopics { group, count, max });
        }
        let channel = joining.member.channel.id();
        let is_in = state.groups.get(group).is_some_and(|known| known.members.contains(channel));
        if is_in {
            Ok(())
        } else {
            state.by_channel.room(channel, group, &self.limits)
        }
    }

    /// A consumer says goodbye. Returns who is to be told.
    pub fn leave(&self, group: &str, channel: u64, notify: bool) -> Vec<C> {
        let mut state = self.state.write();
        state.by_channel.remove(channel, group);
        let tell = state.drop_member(group, channel);
        if notify { tell } else { Vec::new() }
    }

    /// A connection closed. Returns who is to be told.
    pub fn closed(&self, channel: u64) -> Tell<C> {
        let mut state = self.state.write();
        let groups = state.by_channel.take(channel);
        let told = groups.into_iter().map(|group| {
            let tell = state.drop_member(&group, channel);
            (group, tell)
        });
        told.filter(|(_, tell)| !tell.is_empty()).collect()
    }

    /// Takes out who was not heard of for too long. Returns the connections to close and who is to be told.
    pub fn expire(&self, now_ms: i64) -> (Vec<C>, Tell<C>) {
        let mut state = self.state.write();
        let State { groups, by_channel } = &mut *state;
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
            if !gone.is_empty() && !group.members.is_empty() && !group.view.is_broadcast() {
                tell.push((Arc::clone(name), group.members.channels()));
            }
            close.extend(gone.into_iter().map(|member| member.channel));
            !group.members.is_empty()
        });
        drop(state);
        self.compensated.write().retain(|_, topics| {
            topics.retain(|_, (_, told_ms)| now_ms - *told_ms <= COMPENSATED_MS);
            !topics.is_empty()
        });
        (close, tell)
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
        told.or_else(|| {
            let compensated = self.compensated.read();
            compensated.get(group)?.get(topic).map(|(data, _)| Arc::clone(data))
        })
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
    /// administration sees it. Nothing is done while the same expression is already known and young.
    pub fn compensate(&self, group: &str, topic: &str, expression: &str, now_ms: i64, build: impl FnOnce() -> Subscription) {
        let young =
            |(known, told_ms): &(Arc<Subscribed>, i64)| known.data.sub_string == expression && now_ms - told_ms < COMPENSATED_MS / 2;
        let compensated = self.compensated.read();
        if compensated.get(group).and_then(|topics| topics.get(topic)).is_some_and(young) {
            return;
        }
        let full = compensated.len() >= self.limits.clients && !compensated.contains_key(group);
        drop(compensated);
        if full {
            return;
        }
        let mut compensated = self.compensated.write();
        let topics = compensated.entry(group.into()).or_default();
        if topics.len() < self.limits.subscriptions || topics.contains_key(topic) {
            topics.insert(topic.into(), (Arc::new(build().into()), now_ms));
        }
    }
}

impl<C: Channel> State<C> {
    fn drop_member(&mut self, group: &str, channel: u64) -> Vec<C> {
        let Some(known) = self.groups.get_mut(group) else {
            return Vec::new();
        };
        if known.members.remove(channel).is_none() {
            return Vec::new();
        }
        tracing::info!(group, channel, "consumer left");
        if known.members.is_empty() {
            self.groups.remove(group);
            return Vec::new();
        }
        if known.view.is_broadcast() {
            return Vec::new();
        }
        known.members.channels()
    }
}

impl<C: Channel> Group<C> {
    /// Replaces the view when the heartbeat tells something new; says whether a topic came or went.
    fn take_in(&mut self, joining: &Joining<C>) -> bool {
        let view = &self.view;
        let same_kind = view.consume_type == joining.consume_type
            && view.message_model == joining.message_model
            && view.consume_from_where == joining.consume_from_where;
        let Some(told) = &joining.subscriptions else {
            if !same_kind {
                self.replace(joining, view.subscriptions.clone());
            }
            return false;
        };
        let newer = |data: &Subscription| match view.subscriptions.get(data.topic.as_str()) {
            Some(known) => data.sub_version > known.data.sub_version,
            None => true,
        };
        let topics: BTreeSet<&str> = told.iter().map(|data| data.topic.as_str()).collect();
        let topics_changed =
            topics.len() != view.subscriptions.len() || topics.iter().any(|topic| !view.subscriptions.contains_key(*topic));
        if same_kind && !topics_changed && !told.iter().any(newer) {
            return false;
        }
        let mut subscriptions = FxHashMap::default();
        for data in told {
            let kept = view.subscriptions.get(data.topic.as_str()).filter(|_| !newer(data));
            let known = kept.map_or_else(|| Arc::new(data.clone().into()), Arc::clone);
            subscriptions.insert(data.topic.as_str().into(), known);
        }
        self.replace(joining, subscriptions);
        topics_changed
    }

    fn replace(&mut self, joining: &Joining<C>, subscriptions: FxHashMap<Box<str>, Arc<Subscribed>>) {
        self.view = Arc::new(GroupView {
            consume_type: joining.consume_type,
            message_model: joining.message_model,
            consume_from_where: joining.consume_from_where,
            subscriptions,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::testing::member;
    use super::*;

    fn subscription(topic: &str, version: i64) -> Subscription {
        Subscription {
            topic: topic.to_owned(),
            sub_string: "*".to_owned(),
            sub_version: version,
            ..Subscription::default()
        }
    }

    fn joining(channel: u64, topics: Option<&[(&str, i64)]>) -> Joining<u64> {
        Joining {
            member: member(channel, &format!("client-{channel}"), 0),
            consume_type: ConsumeType::Passively,
            message_model: MessageModel::Clustering,
            consume_from_where: ConsumeFromWhere::LastOffset,
            subscriptions: topics.map(|topics| topics.iter().map(|(topic, version)| subscription(topic, *version)).collect()),
            fingerprint: 0,
            notify: true,
        }
    }

    fn consumers() -> Consumers<u64> {
        Consumers::new(ClientLimits::default())
    }

    #[test]
    fn members_are_told_of_joins_and_leaves_but_not_of_heartbeats() {
        let consumers = consumers();
        assert_eq!(consumers.join("g", joining(1, Some(&[("t", 1)]))).unwrap().tell, [1]);
        assert!(consumers.join("g", joining(1, Some(&[("t", 1)]))).unwrap().tell.is_empty());
        assert_eq!(consumers.join("g", joining(2, Some(&[("t", 1)]))).unwrap().tell, [1, 2]);
        assert_eq!(consumers.leave("g", 1, true), [2]);
        assert_eq!(consumers.closed(2), []);
        assert!(consumers.view("g").is_none());
    }

    #[test]
    fn members_are_told_when_topics_come_or_go_but_not_of_a_new_expression() {
        let consumers = consumers();
        consumers.join("g", joining(1, Some(&[("t", 1)]))).unwrap();
        assert_eq!(consumers.join("g", joining(1, Some(&[("t", 1), ("u", 1)]))).unwrap().tell, [1]);
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
            assert!(consumers.join("g", heartbeat).unwrap().tell.is_empty());
        }
        assert!(consumers.leave("g", 1, true).is_empty());
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
        assert_eq!(consumers.expire(120_000 + 1), (vec![1], vec![("g".into(), vec![2])]));
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
        assert_eq!(consumers.closed(1), [("g".into(), vec![2]), ("h".into(), vec![2])]);
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
    fn a_subscription_told_by_pulls_is_kept_for_ten_minutes() {
        let consumers = consumers();
        consumers.compensate("g", "t", "*", 0, || subscription("t", 1));
        consumers.compensate("g", "t", "*", 1, || unreachable!("known and young"));
        assert!(consumers.subscription("g", "t").is_some());
        assert_eq!(consumers.subscription_count("g"), 0);
        consumers.expire(COMPENSATED_MS + 1);
        assert!(consumers.subscription("g", "t").is_none());
    }
}
