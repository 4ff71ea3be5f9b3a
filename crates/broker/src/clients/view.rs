//! What a group subscribes to, as its members told it. Pure state.

use super::table::Member;
use crate::filter::TagFilter;
use protocol::heartbeat::{ConsumeFromWhere, ConsumeType, MessageModel, Subscription};
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;
use std::sync::Arc;

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
    /// Of a group that nobody has told anything of, but that the first is about to.
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

    /// Bytes that the subscriptions take.
    pub(super) fn memory(&self) -> usize {
        self.subscriptions.values().map(|known| known.data.memory()).sum()
    }

    /// What is known after a heartbeat, and whether a topic came or went; nothing when it tells nothing new.
    pub(super) fn after<C>(&self, joining: &Joining<C>) -> Option<(Self, bool)> {
        let same_kind = self.consume_type == joining.consume_type
            && self.message_model == joining.message_model
            && self.consume_from_where == joining.consume_from_where;
        let with = |subscriptions| Self {
            subscriptions,
            ..Self::before(joining)
        };
        let Some(told) = &joining.subscriptions else {
            return (!same_kind).then(|| (with(self.subscriptions.clone()), false));
        };
        let newer = |data: &Subscription| match self.subscriptions.get(data.topic.as_str()) {
            Some(known) => data.sub_version > known.data.sub_version,
            None => true,
        };
        let topics: BTreeSet<&str> = told.iter().map(|data| data.topic.as_str()).collect();
        let topics_changed =
            topics.len() != self.subscriptions.len() || topics.iter().any(|topic| !self.subscriptions.contains_key(*topic));
        if same_kind && !topics_changed && !told.iter().any(newer) {
            return None;
        }
        let mut subscriptions = FxHashMap::default();
        for data in told {
            let kept = self.subscriptions.get(data.topic.as_str()).filter(|_| !newer(data));
            let known = kept.map_or_else(|| Arc::new(data.clone().into()), Arc::clone);
            subscriptions.insert(data.topic.as_str().into(), known);
        }
        Some((with(subscriptions), topics_changed))
    }
}
