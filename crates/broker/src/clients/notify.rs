//! Notifies the members of a group that members or topics changed (code 40), so that they rebalance.
//!
//! The thread that changes a small group sends the notification itself. For a large group, and for a group that was notified
//! recently, the control thread sends it later, so that several changes cause one notification. Otherwise 3,000 clients that join
//! one after the other would cause 4.5 million notifications.

use super::consumers::Consumers;
use super::holders::Departure;
use super::producers::Producers;
use super::table::Channel;
use parking_lot::Mutex;
use protocol::frame::FLAG_ONEWAY;
use protocol::heartbeat::ConsumerGroupHeader;
use protocol::{Frame, RequestCode};
use rustc_hash::FxHashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Largest group, in members, that is notified by the thread that changed it.
const MAX_IMMEDIATE: usize = 64;
/// Minimum time between two notifications of a group, for each member: sending one takes a tenth of that.
const INTERVAL_PER_MEMBER: Duration = Duration::from_micros(100);
/// Minimum time between two notifications of a group.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// A group that was notified recently or is to be notified.
#[derive(Debug)]
struct Pending {
    not_before: Instant,
    /// The group changed after the last notification.
    changed_again: bool,
}

/// Schedules and sends the notifications of consumer groups.
#[derive(Debug)]
pub struct Notices<C> {
    consumers: Arc<Consumers<C>>,
    pending: Mutex<FxHashMap<Box<str>, Pending>>,
    /// Wakes the control thread: a group was added to `pending`.
    added: Notify,
}

impl<C: Channel> Notices<C> {
    /// Creates the notifier of `consumers`.
    #[must_use]
    pub fn new(consumers: Arc<Consumers<C>>) -> Self {
        Self {
            consumers,
            pending: Mutex::default(),
            added: Notify::new(),
        }
    }

    /// The consumers that are notified.
    #[must_use]
    pub fn consumers(&self) -> &Consumers<C> {
        &self.consumers
    }

    /// Notifies the members of a changed group, now or soon. Call it after the change is visible.
    pub fn changed(&self, group: &str) {
        let members = self.consumers.count(group);
        if members == 0 {
            return;
        }
        let immediate = members <= MAX_IMMEDIATE;
        let mut pending = self.pending.lock();
        if let Some(pending) = pending.get_mut(group) {
            pending.changed_again = true;
            return;
        }
        let now = Instant::now();
        let not_before = if immediate { now + interval(members) } else { now };
        let changed_again = !immediate;
        pending.insert(group.into(), Pending { not_before, changed_again });
        drop(pending);
        self.added.notify_one();
        if immediate {
            self.notify(group);
        }
    }

    /// Removes a closed connection, and notifies the other members of its groups if `notify` (`notifyConsumerIdsChangedEnable`).
    pub fn closed(&self, channel: u64, departure: Departure, producers: &Producers<C>, notify: bool) {
        producers.closed(channel);
        self.all_changed(&self.consumers.closed(channel, departure), notify);
    }

    /// Removes members without heartbeats and closes their connections. Call it every 10 s.
    pub fn expire(&self, producers: &Producers<C>, notify: bool, now_ms: i64) {
        let (silent, changed) = self.consumers.expire(now_ms);
        for channel in silent.iter().chain(&producers.expire(now_ms)) {
            channel.close();
        }
        self.all_changed(&changed, notify);
    }

    fn all_changed(&self, groups: &[Arc<str>], notify: bool) {
        if notify {
            groups.iter().for_each(|group| self.changed(group));
        }
    }

    /// Sends the delayed notifications. Never returns.
    pub async fn run(&self) {
        loop {
            let next = self.notify_due(Instant::now());
            let added = self.added.notified();
            match next {
                // The table is read again in either case.
                Some(next) => drop(tokio::time::timeout_at(next.into(), added).await),
                None => added.await,
            }
        }
    }

    /// Notifies the groups that are due. Returns when the next group is due.
    fn notify_due(&self, now: Instant) -> Option<Instant> {
        let mut due = Vec::new();
        let mut pending = self.pending.lock();
        pending.retain(|group, pending| {
            if pending.not_before > now {
                return true;
            }
            if !pending.changed_again {
                return false;
            }
            pending.changed_again = false;
            pending.not_before = now + interval(self.consumers.count(group));
            due.push(group.clone());
            true
        });
        let next = pending.values().map(|pending| pending.not_before).min();
        drop(pending);
        due.iter().for_each(|group| self.notify(group));
        next
    }

    fn notify(&self, group: &str) {
        let mut request = Frame::request(RequestCode::NotifyConsumerIdsChanged);
        request.flag |= FLAG_ONEWAY;
        ConsumerGroupHeader { consumer_group: group }.encode(&mut request.ext);
        for member in self.consumers.members_to_notify(group) {
            member.send_oneway(&request);
        }
    }

    /// Sends all delayed notifications; returns whether none is left.
    #[cfg(test)]
    pub(crate) fn settle(&self) -> bool {
        self.notify_due(Instant::now() + Duration::from_secs(60));
        self.notify_due(Instant::now() + Duration::from_secs(120));
        self.pending.lock().is_empty()
    }
}

fn interval(members: usize) -> Duration {
    MIN_INTERVAL.max(INTERVAL_PER_MEMBER.saturating_mul(u32::try_from(members).unwrap_or(u32::MAX)))
}

#[cfg(test)]
mod tests {
    use super::super::consumers::testing::joining;
    use super::super::table::ClientLimits;
    use super::super::table::testing::Recorder;
    use super::*;

    fn join(notices: &Notices<Recorder>, id: u64) -> Recorder {
        let channel = Recorder::new(id);
        notices.consumers.join("g", joining(channel.clone(), Some(&[("t", 1)]))).unwrap();
        notices.changed("g");
        channel
    }

    #[test]
    fn a_change_is_notified_at_once_and_later_changes_together() {
        let notices = Notices::new(Arc::new(Consumers::new(ClientLimits::default())));
        let first = join(&notices, 1);
        assert_eq!(first.take().len(), 1);
        let start = Instant::now();
        let rest: Vec<Recorder> = (2..50).map(|id| join(&notices, id)).collect();
        // On a slow machine the interval ends before all have joined, but not before each.
        assert!(rest.iter().all(|channel| channel.take().len() <= 1) || start.elapsed() > MIN_INTERVAL);
        let later = Instant::now() + MIN_INTERVAL;
        let next = notices.notify_due(later).unwrap();
        assert!(next >= later + MIN_INTERVAL);
        assert!(!first.take().is_empty());
        notices.notify_due(next);
        assert!(first.take().is_empty() && notices.pending.lock().is_empty());
    }

    #[test]
    fn a_large_group_is_notified_by_the_control_thread() {
        let notices = Notices::new(Arc::new(Consumers::new(ClientLimits::default())));
        let members: Vec<Recorder> = (0..1_000)
            .map(|id| {
                let channel = Recorder::new(id);
                notices.consumers.join("g", joining(channel.clone(), Some(&[("t", 1)]))).unwrap();
                channel
            })
            .collect();
        (0..1_000).for_each(|_| notices.changed("g"));
        assert!(members.iter().all(|channel| channel.take().is_empty()));
        let now = Instant::now();
        let next = notices.notify_due(now).unwrap();
        assert!(next >= now + Duration::from_millis(100));
        assert!(members.iter().all(|channel| channel.take().len() == 1));
        for channel in &members {
            notices.changed("g");
            notices.consumers.closed(channel.0, Departure::Lost);
        }
        assert!(notices.settle());
    }
}
