//! Misconfigurations of a group that Java brokers do not report: two members with one client id, members with different
//! subscriptions. One WARN per group names both members, and a counter counts the heartbeats that showed it.

use super::table::{Channel, Member};
use super::view::GroupView;
use protocol::heartbeat::Subscription;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How often each misconfiguration was seen since the start: once for each heartbeat that showed it.
#[derive(Debug, Default)]
pub struct Hazards {
    same_client_ids: AtomicU64,
    differing: AtomicU64,
}

/// Warnings already logged for a group since it came online.
#[derive(Debug, Default)]
pub(super) struct Warned {
    pub(super) same_client_id: bool,
    pub(super) differing: bool,
}

impl Hazards {
    /// Heartbeats of a client whose id is also used by another connection of its group.
    #[must_use]
    pub fn same_client_ids(&self) -> u64 {
        self.same_client_ids.load(Relaxed)
    }

    /// Heartbeats of a client whose subscriptions differ from those of its group.
    #[must_use]
    pub fn differing_subscriptions(&self) -> u64 {
        self.differing.load(Relaxed)
    }

    /// Counts, and warns once, that two live connections of a group use the same client id.
    pub(super) fn same_client_id<C: Channel>(&self, kind: &str, group: &str, one: &Member<C>, other: &Member<C>, warned: &mut bool) {
        self.same_client_ids.fetch_add(1, Relaxed);
        if !std::mem::replace(warned, true) {
            tracing::warn!(
                group,
                client = &*one.client_id,
                one = %one.channel.peer(),
                other = %other.channel.peer(),
                "two {kind}s of a group have the same client id: they take each other's queues and answers. Give each its own instanceName"
            );
        }
    }

    /// Counts, and warns once, that a member repeats its subscriptions after another member set different ones.
    pub(super) fn differing<C: Channel>(
        &self,
        group: &str,
        one: &Member<C>,
        other: Option<&Member<C>>,
        difference: &Difference,
        warned: &mut bool,
    ) {
        self.differing.fetch_add(1, Relaxed);
        if !std::mem::replace(warned, true) {
            let other = other.map_or_else(|| "a client that left".to_owned(), name);
            tracing::warn!(
                group,
                topic = &*difference.topic,
                one = name(one),
                subscription = difference.one.as_deref().unwrap_or("nothing"),
                other,
                other_subscription = difference.other.as_deref().unwrap_or("nothing"),
                "two consumers of a group have different subscriptions: messages that one of them subscribes to may go to the other, which skips them. \
                 Give both the same subscriptions, or each a group of its own"
            );
        }
    }
}

fn name<C: Channel>(member: &Member<C>) -> String {
    format!("{} at {}", member.client_id, member.channel.peer())
}

/// A topic to which two members subscribe differently.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Difference {
    topic: String,
    /// The filter expression; `None` if the member does not subscribe to the topic.
    one: Option<String>,
    other: Option<String>,
}

/// The first difference between the subscriptions of a heartbeat and the current ones of its group.
pub(super) fn difference(subscriptions: &[Subscription], view: &GroupView) -> Option<Difference> {
    for data in subscriptions {
        let subscribed = view.subscriptions.get(data.topic.as_str()).map(|subscribed| &subscribed.data);
        if subscribed.is_none_or(|subscribed| key(subscribed) != key(data)) {
            return Some(Difference {
                topic: data.topic.clone(),
                one: Some(data.sub_string.clone()),
                other: subscribed.map(|subscribed| subscribed.sub_string.clone()),
            });
        }
    }
    let missing = view
        .subscriptions
        .iter()
        .find(|(topic, _)| subscriptions.iter().all(|data| data.topic != ***topic));
    missing.map(|(topic, subscribed)| Difference {
        topic: topic.to_string(),
        one: None,
        other: Some(subscribed.data.sub_string.clone()),
    })
}

fn key(data: &Subscription) -> (&str, &str) {
    (&data.expression_type, &data.sub_string)
}

/// A hash of subscriptions, independent of their order; never 0.
pub(super) fn hash(subscriptions: &[Subscription]) -> u64 {
    let each = subscriptions.iter().map(|data| {
        let mut hasher = rustc_hash::FxHasher::default();
        (&data.topic, key(data)).hash(&mut hasher);
        hasher.finish()
    });
    each.fold(1, u64::wrapping_add).max(1)
}
