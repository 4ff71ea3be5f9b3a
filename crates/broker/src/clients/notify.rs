//! Code 40: telling the members of a group that members or topics changed, upon which they share the queues out anew.
//!
//! A change of a small group is told by the thread that made it, at once. While a group is quiet after that, and for a large group
//! always, the control thread tells: changes that come together are told once. Three thousand clients that join one after the other
//! would otherwise be told four and a half million times.

use super::consumers::Consumers;
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

/// Members of a group that the thread which changed it tells itself.
const AT_ONCE: usize = 64;
/// How long a group is quiet after it was told, for each member: telling one takes a tenth of that.
const QUIET_PER_MEMBER: Duration = Duration::from_micros(100);
/// How long at least.
const QUIET: Duration = Duration::from_millis(10);

/// A group that was told not long ago.
#[derive(Debug)]
struct Told {
    quiet_until: Instant,
    /// It changed since.
    again: bool,
}

/// Which groups have to be told, and the consumers they consist of.
#[derive(Debug)]
pub struct Notices<C> {
    consumers: Arc<Consumers<C>>,
    told: Mutex<FxHashMap<Box<str>, Told>>,
    /// A group is waiting that the control thread does not know of.
    added: Notify,
}

impl<C: Channel> Notices<C> {
    /// For these consumers.
    #[must_use]
    pub fn new(consumers: Arc<Consumers<C>>) -> Self {
        Self {
            consumers,
            told: Mutex::default(),
            added: Notify::new(),
        }
    }

    /// The consumers.
    #[must_use]
    pub fn consumers(&self) -> &Consumers<C> {
        &self.consumers
    }

    /// A group changed: its members are told, now or soon. To be called when the change is visible.
    pub fn changed(&self, group: &str) {
        let members = self.consumers.count(group);
        if members == 0 {
            return;
        }
        let at_once = members <= AT_ONCE;
        let mut told = self.told.lock();
        if let Some(told) = told.get_mut(group) {
            told.again = true;
            return;
        }
        let now = Instant::now();
        let quiet_until = if at_once { now + quiet(members) } else { now };
        let again = !at_once;
        told.insert(group.into(), Told { quiet_until, again });
        drop(told);
        self.added.notify_one();
        if at_once {
            self.tell(group);
        }
    }

    /// A connection is gone: its groups' other members are told, if the setting `notifyConsumerIdsChangedEnable` says so.
    pub fn closed(&self, channel: u64, producers: &Producers<C>, notify: bool) {
        producers.closed(channel);
        self.all_changed(&self.consumers.closed(channel), notify);
    }

    /// Members that were not heard of for too long are taken out and their connections closed. To be called every 10 s.
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

    /// Tells groups that changed while they were quiet, until it is dropped.
    pub async fn run(&self) {
        loop {
            let next = self.tell_due(Instant::now());
            let added = self.added.notified();
            match next {
                // Either way the table is looked at again.
                Some(next) => drop(tokio::time::timeout_at(next.into(), added).await),
                None => added.await,
            }
        }
    }

    /// Tells the groups whose time has come; returns when the next one's has.
    fn tell_due(&self, now: Instant) -> Option<Instant> {
        let mut due = Vec::new();
        let mut told = self.told.lock();
        told.retain(|group, told| {
            if told.quiet_until > now {
                return true;
            }
            if !told.again {
                return false;
            }
            told.again = false;
            told.quiet_until = now + quiet(self.consumers.count(group));
            due.push(group.clone());
            true
        });
        let next = told.values().map(|told| told.quiet_until).min();
        drop(told);
        due.iter().for_each(|group| self.tell(group));
        next
    }

    fn tell(&self, group: &str) {
        let mut request = Frame::request(RequestCode::NotifyConsumerIdsChanged);
        request.flag |= FLAG_ONEWAY;
        ConsumerGroupHeader { consumer_group: group }.encode(&mut request.ext);
        for member in self.consumers.to_tell(group) {
            member.tell(&request);
        }
    }

    /// Tells all groups that wait for it; what it returns: nothing is kept any more.
    #[cfg(test)]
    pub(crate) fn settle(&self) -> bool {
        self.tell_due(Instant::now() + Duration::from_secs(60));
        self.tell_due(Instant::now() + Duration::from_secs(120));
        self.told.lock().is_empty()
    }
}

fn quiet(members: usize) -> Duration {
    QUIET.max(QUIET_PER_MEMBER.saturating_mul(u32::try_from(members).unwrap_or(u32::MAX)))
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
    fn a_change_is_told_at_once_and_those_that_follow_it_once() {
        let notices = Notices::new(Arc::new(Consumers::new(ClientLimits::default())));
        let first = join(&notices, 1);
        assert_eq!(first.take().len(), 1);
        let begun = Instant::now();
        let rest: Vec<Recorder> = (2..50).map(|id| join(&notices, id)).collect();
        // On a slow day the quiet time is over before all have joined, but not before each.
        assert!(rest.iter().all(|channel| channel.take().len() <= 1) || begun.elapsed() > QUIET);
        let later = Instant::now() + QUIET;
        let next = notices.tell_due(later).unwrap();
        assert!(next >= later + QUIET);
        assert!(!first.take().is_empty());
        notices.tell_due(next);
        assert!(first.take().is_empty() && notices.told.lock().is_empty());
    }

    #[test]
    fn a_large_group_is_told_by_the_control_thread() {
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
        let next = notices.tell_due(now).unwrap();
        assert!(next >= now + Duration::from_millis(100));
        assert!(members.iter().all(|channel| channel.take().len() == 1));
        for channel in &members {
            notices.changed("g");
            notices.consumers.closed(channel.0);
        }
        assert!(notices.settle());
    }
}
