//! What members of a group do to each other without noticing, and Java keeps silent about: one WARN names both sides, and a counter
//! says how often it was seen.

use super::table::{Channel, Member};
use super::view::GroupView;
use protocol::heartbeat::Subscription;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How often each hazard was seen since the start: once for each heartbeat that showed it.
#[derive(Debug, Default)]
pub struct Hazards {
    same_client_ids: AtomicU64,
    differing: AtomicU64,
}

/// What a group was warned of already, since it came online.
#[derive(Debug, Default)]
pub(super) struct Warned {
    pub(super) same_client_id: bool,
    pub(super) differing: bool,
}

impl Hazards {
    /// Heartbeats of a client whose id another connection of its group uses, too.
    #[must_use]
    pub fn same_client_ids(&self) -> u64 {
        self.same_client_ids.load(Relaxed)
    }

    /// Heartbeats of a client that subscribes to something else than its group.
    #[must_use]
    pub fn differing_subscriptions(&self) -> u64 {
        self.differing.load(Relaxed)
    }

    /// Two connections of a group that are both alive call themselves by one client id.
    pub(super) fn same_client_id<C: Channel>(&self, kind: &str, group: &str, one: &Member<C>, other: &Member<C>, warned: &mut bool) {
        self.same_client_ids.fetch_add(1, Relaxed);
        if !std::mem::replace(warned, true) {
            tracing::warn!(
                group,
                client = &*one.client_id,
                one = %one.channel.peer(),
                other = %other.channel.peer(),
                "two {kind}s of a group have the same client id: they take each other's queues and answers. Give each an instanceName of its own"
            );
        }
    }

    /// A member says again what it said before, but another one has said something else in between.
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
                wants = difference.one.as_deref().unwrap_or("nothing"),
                other,
                other_wants = difference.other.as_deref().unwrap_or("nothing"),
                "two consumers of a group subscribe to different things: what one of them wants may go to the other and be passed over. \
                 Give both the same subscriptions, or each a group of its own"
            );
        }
    }
}

fn name<C: Channel>(member: &Member<C>) -> String {
    format!("{} at {}", member.client_id, member.channel.peer())
}

/// A topic for which one member says something else than another.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Difference {
    topic: String,
    /// The expression; `None` when it does not subscribe.
    one: Option<String>,
    other: Option<String>,
}

/// The first difference between what a member says now and what its group was told last.
pub(super) fn difference(told: &[Subscription], view: &GroupView) -> Option<Difference> {
    for data in told {
        let known = view.subscriptions.get(data.topic.as_str()).map(|known| &known.data);
        if known.is_none_or(|known| key(known) != key(data)) {
            return Some(Difference {
                topic: data.topic.clone(),
                one: Some(data.sub_string.clone()),
                other: known.map(|known| known.sub_string.clone()),
            });
        }
    }
    let missing = view
        .subscriptions
        .iter()
        .find(|(topic, _)| told.iter().all(|data| data.topic != ***topic));
    missing.map(|(topic, known)| Difference {
        topic: topic.to_string(),
        one: None,
        other: Some(known.data.sub_string.clone()),
    })
}

fn key(data: &Subscription) -> (&str, &str) {
    (&data.expression_type, &data.sub_string)
}

/// A hash of what a member says, whatever the order; not 0.
pub(super) fn hash(told: &[Subscription]) -> u64 {
    let each = told.iter().map(|data| {
        let mut hasher = rustc_hash::FxHasher::default();
        (&data.topic, key(data)).hash(&mut hasher);
        hasher.finish()
    });
    each.fold(1, u64::wrapping_add).max(1)
}
