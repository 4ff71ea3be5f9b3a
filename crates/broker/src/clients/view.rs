//! The subscriptions of a group. Pure state.

use super::table::Member;
use crate::filter::{TagFilter, is_tag_type};
use protocol::heartbeat::{ConsumeFromWhere, ConsumeType, MessageModel, Subscription};
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A subscription with its compiled filter.
#[derive(Debug)]
pub struct Subscribed {
    /// As the client sent it.
    pub data: Subscription,
    /// Filter by the tags of the expression. Unused for SQL expressions, which are in [`crate::filter::Filters`].
    pub filter: TagFilter,
}

impl Subscribed {
    /// Whether messages are selected by tags.
    #[must_use]
    pub fn is_by_tags(&self) -> bool {
        is_tag_type(&self.data.expression_type)
    }
}

impl From<Subscription> for Subscribed {
    fn from(data: Subscription) -> Self {
        if !is_tag_type(&data.expression_type) {
            return Self {
                data,
                filter: TagFilter::All,
            };
        }
        let by_codes = || TagFilter::from_codes(data.code_set.iter().copied());
        let filter = TagFilter::parse(&data.sub_string).unwrap_or_else(|_| by_codes());
        Self { data, filter }
    }
}

/// The heartbeat of a member for one group.
#[derive(Debug)]
pub struct Joining<C> {
    /// The client.
    pub member: Member<C>,
    /// As the client sent it.
    pub consume_type: ConsumeType,
    /// As the client sent it.
    pub message_model: MessageModel,
    /// As the client sent it.
    pub consume_from_where: ConsumeFromWhere,
    /// The group's subscriptions; `None` if the heartbeat left them out because they did not change (v2).
    pub subscriptions: Option<Vec<Subscription>>,
    /// Fingerprint of a v2 heartbeat; 0 in v1.
    pub fingerprint: i32,
    /// Whether members are notified of changes (an attribute of the group).
    pub notify: bool,
}

/// State of an online group. Immutable: a change replaces it.
#[derive(Debug)]
pub struct GroupView {
    /// How messages are fetched: by push consumers, by pulls of the application, or by POP.
    pub consume_type: ConsumeType,
    /// Whether each message goes to one member or to all.
    pub message_model: MessageModel,
    /// Where a new group starts to consume.
    pub consume_from_where: ConsumeFromWhere,
    /// Subscriptions by topic.
    pub subscriptions: FxHashMap<Box<str>, Arc<Subscribed>>,
}

impl GroupView {
    /// The state before the first heartbeat of a group.
    pub(super) fn before<C>(first: &Joining<C>) -> Self {
        Self {
            consume_type: first.consume_type,
            message_model: first.message_model,
            consume_from_where: first.consume_from_where,
            subscriptions: FxHashMap::default(),
        }
    }

    pub(super) fn is_broadcast(&self) -> bool {
        self.message_model == MessageModel::Broadcasting
    }

    /// Memory of the subscriptions, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.subscriptions.values().map(|subscribed| subscribed.data.memory()).sum()
    }

    /// The state after a heartbeat, and whether topics changed; `None` if the heartbeat changes nothing.
    pub(super) fn after<C>(&self, joining: &Joining<C>) -> Option<(Self, bool)> {
        let same_kind = self.consume_type == joining.consume_type
            && self.message_model == joining.message_model
            && self.consume_from_where == joining.consume_from_where;
        let with = |subscriptions| Self {
            subscriptions,
            ..Self::before(joining)
        };
        let Some(data_of_topics) = &joining.subscriptions else {
            return (!same_kind).then(|| (with(self.subscriptions.clone()), false));
        };
        let newer = |data: &Subscription| match self.subscriptions.get(data.topic.as_str()) {
            Some(subscribed) => data.sub_version > subscribed.data.sub_version,
            None => true,
        };
        let topics: BTreeSet<&str> = data_of_topics.iter().map(|data| data.topic.as_str()).collect();
        let topics_changed =
            topics.len() != self.subscriptions.len() || topics.iter().any(|topic| !self.subscriptions.contains_key(*topic));
        if same_kind && !topics_changed && !data_of_topics.iter().any(newer) {
            return None;
        }
        let mut subscriptions = FxHashMap::default();
        for data in data_of_topics {
            let kept = self.subscriptions.get(data.topic.as_str()).filter(|_| !newer(data));
            let subscribed = kept.map_or_else(|| Arc::new(data.clone().into()), Arc::clone);
            subscriptions.insert(data.topic.as_str().into(), subscribed);
        }
        Some((with(subscriptions), topics_changed))
    }
}
