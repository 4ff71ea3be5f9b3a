//! Subscriptions of consumers that pull without a heartbeat for them. Kept for ten minutes so that admin requests see them. Pure
//! state: the caller passes the time.

use super::view::Subscribed;
use parking_lot::RwLock;
use protocol::heartbeat::Subscription;
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// How long a subscription is kept after a pull, in ms.
const KEPT_MS: i64 = 600_000;

/// By topic, with the time of the pull in ms since 1970.
type Topics = FxHashMap<Box<str>, (Arc<Subscribed>, i64)>;

#[derive(Debug, Default)]
struct CompensatedTable {
    groups: FxHashMap<Box<str>, Topics>,
    bytes: usize,
}

/// Subscriptions by group and topic. One that exceeds a limit is not kept.
#[derive(Debug)]
pub(super) struct Compensated {
    state: RwLock<CompensatedTable>,
    max_bytes: usize,
    max_topics_of_group: usize,
}

impl Compensated {
    pub(super) fn new(max_bytes: usize, max_topics_of_group: usize) -> Self {
        Self {
            state: RwLock::default(),
            max_bytes,
            max_topics_of_group,
        }
    }

    pub(super) fn find(&self, group: &str, topic: &str) -> Option<Arc<Subscribed>> {
        let state = self.state.read();
        state.groups.get(group)?.get(topic).map(|(data, _)| Arc::clone(data))
    }

    /// Adds or replaces a subscription. Does nothing if the same expression was added in the last half of [`KEPT_MS`].
    pub(super) fn add(&self, group: &str, topic: &str, expression: &str, now_ms: i64, build: impl FnOnce() -> Subscription) {
        let recent =
            |(subscribed, pulled_ms): &(Arc<Subscribed>, i64)| subscribed.data.sub_string == expression && now_ms - pulled_ms < KEPT_MS / 2;
        let is_recent = |state: &CompensatedTable| state.groups.get(group).and_then(|topics| topics.get(topic)).is_some_and(recent);
        if is_recent(&self.state.read()) {
            return;
        }
        let data = build();
        let mut state = self.state.write();
        let CompensatedTable { groups, bytes } = &mut *state;
        let (topics, old) = match groups.get(group) {
            Some(topics) => (topics.len(), topics.get(topic).map_or(0, |(old, _)| old.data.memory())),
            None => (0, 0),
        };
        let after = *bytes - old + data.memory();
        if after > self.max_bytes || (old == 0 && topics >= self.max_topics_of_group) {
            return;
        }
        *bytes = after;
        let topics = groups.entry(group.into()).or_default();
        topics.insert(topic.into(), (Arc::new(data.into()), now_ms));
    }

    pub(super) fn expire(&self, now_ms: i64) {
        let mut state = self.state.write();
        let CompensatedTable { groups, bytes } = &mut *state;
        groups.retain(|_, topics| {
            topics.retain(|_, (subscribed, pulled_ms)| {
                let keep = now_ms - *pulled_ms <= KEPT_MS;
                if !keep {
                    *bytes -= subscribed.data.memory();
                }
                keep
            });
            !topics.is_empty()
        });
    }

    #[cfg(test)]
    pub(super) fn is_clean(&self) -> bool {
        let state = self.state.read();
        state.groups.is_empty() && state.bytes == 0
    }
}

#[cfg(test)]
mod tests {
    use super::super::consumers::testing::subscription;
    use super::*;

    #[test]
    fn a_subscription_of_a_pull_is_kept_for_ten_minutes() {
        let subscriptions = Compensated::new(1 << 20, 10);
        subscriptions.add("g", "t", "*", 0, || subscription("t", 1));
        subscriptions.add("g", "t", "*", 1, || unreachable!("added recently"));
        assert!(subscriptions.find("g", "t").is_some());
        subscriptions.expire(KEPT_MS);
        assert!(subscriptions.find("g", "t").is_some());
        subscriptions.expire(KEPT_MS + 1);
        assert!(subscriptions.find("g", "t").is_none() && subscriptions.is_clean());
    }

    #[test]
    fn topics_and_bytes_stay_within_their_limits() {
        let subscriptions = Compensated::new(2 * subscription("t", 1).memory(), 1);
        subscriptions.add("g", "t", "*", 0, || subscription("t", 1));
        subscriptions.add("g", "u", "*", 0, || subscription("u", 1));
        assert!(subscriptions.find("g", "u").is_none(), "a second topic of the group");
        subscriptions.add("h", "t", "*", 0, || subscription("t", 1));
        subscriptions.add("i", "t", "*", 0, || subscription("t", 1));
        assert!(
            subscriptions.find("h", "t").is_some() && subscriptions.find("i", "t").is_none(),
            "a third expression"
        );
        // Replacing an expression of the same size stays within the limit.
        subscriptions.add("g", "t", "a", 0, || subscription("t", 2));
        assert_eq!(subscriptions.find("g", "t").unwrap().data.sub_version, 2);
        subscriptions.expire(KEPT_MS + 1);
        assert!(subscriptions.is_clean());
    }
}
