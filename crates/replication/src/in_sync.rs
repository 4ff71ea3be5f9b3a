//! The in-sync set of a master under a controller: the replicas that have everything that is acknowledged, one of which becomes the next
//! master. Pure state.
//!
//! The log is *confirmed* up to where every member of the set has it. The controller keeps the set; this master proposes changes of it:
//!
//! - a replica that has all that is confirmed, and something of this master's epoch, is to come in. One that nearly has it becomes a
//!   *candidate* first: it counts as a member does, so that what is confirmed stands still for the moment in which it draws level;
//! - one that has not been up to date for a time is to go out.
//!
//! While a proposal is not answered, members of the old and of the proposed set count, whichever the controller has by now. So an
//! acknowledged record is on every replica that the controller may elect.
//!
//! Time is a number of milliseconds that the caller passes in.

use std::collections::{BTreeMap, BTreeSet};

/// A replica that lacks no more than so many bytes may become a candidate.
const NEARLY_BYTES: i64 = 1 << 20;
/// A candidate that does not draw level in this time is none any more.
const DRAW_LEVEL_MS: i64 = 200;
/// It may be one again after this time.
const CANDIDATE_PAUSE_MS: i64 = 2_000;

/// A connected replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Peer {
    /// The connection, of which a replica may have two for a while.
    connection: u64,
    /// Up to where it has the log.
    acknowledged: i64,
    /// When it last had everything that the log had then.
    caught_up_ms: i64,
    /// It copies the log, and never becomes a member.
    is_learner: bool,
    candidate: Candidate,
}

/// Whether a replica that is no member counts as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Candidate {
    /// It does not, and may from this time on.
    No { before_ms: i64 },
    /// It does, and has not everything yet that is confirmed.
    Behind { since_ms: i64 },
    /// It does, and always has everything that is confirmed.
    Level,
}

/// A change that the controller is to make. It replaces the set of [`Members::epoch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The new set.
    pub members: BTreeSet<i64>,
    /// Epoch of the set that it replaces.
    pub replaces: i32,
}

/// A set, as the controller has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// Ids of the brokers.
    pub ids: BTreeSet<i64>,
    /// Grows with each change.
    pub epoch: i32,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct InSync {
    own: i64,
    /// Where the epoch of this master begins.
    begin: i64,
    members: Members,
    proposed: Option<BTreeSet<i64>>,
    peers: BTreeMap<i64, Peer>,
    /// When replicas were missing first that are in the set and not connected.
    absent: BTreeMap<i64, i64>,
    confirmed: i64,
}

impl InSync {
    /// Of the master `own`, whose epoch begins at this log offset, with the set that the controller told. What is before is confirmed: it
    /// is the log from now on.
    #[must_use]
    pub fn new(own: i64, begin: i64, members: Members, now_ms: i64) -> Self {
        let absent = members.ids.iter().filter(|id| **id != own).map(|id| (*id, now_ms)).collect();
        Self {
            own,
            begin,
            members,
            proposed: None,
            peers: BTreeMap::new(),
            absent,
            confirmed: begin,
        }
    }

    /// The set that the controller told last.
    #[must_use]
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// Up to where all that may be in the set have the log. Never goes back.
    #[must_use]
    pub fn confirmed(&self) -> i64 {
        self.confirmed
    }

    /// Replicas that are in the set and not connected, with the time since when.
    pub fn absent(&self) -> impl Iterator<Item = (i64, i64)> {
        self.absent.iter().map(|(id, since)| (*id, *since))
    }

    /// Number of members, the master included; of the two sets the smaller one while a proposal is not answered.
    #[must_use]
    pub fn len(&self) -> usize {
        let proposed = self.proposed.as_ref().map_or(usize::MAX, BTreeSet::len);
        self.members.ids.len().min(proposed)
    }

    /// Whether there is nobody, not even the master.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A replica is connected, and has the log up to `acknowledged`. One that was connected before is so by this connection now, unless this is
    /// the older one (`connection` grows with each that is accepted), of which only the first report has been late.
    pub fn connect(&mut self, id: i64, connection: u64, acknowledged: i64, is_learner: bool, now_ms: i64) {
        if self.peers.get(&id).is_some_and(|peer| peer.connection > connection) {
            return;
        }
        self.absent.remove(&id);
        let caught_up_ms = self.peers.get(&id).map_or(now_ms, |peer| peer.caught_up_ms);
        let peer = Peer {
            connection,
            acknowledged,
            caught_up_ms,
            is_learner,
            candidate: Candidate::No { before_ms: i64::MIN },
        };
        self.peers.insert(id, peer);
    }

    /// A connection has ended.
    pub fn disconnect(&mut self, id: i64, connection: u64, now_ms: i64) {
        if self.peers.get(&id).is_none_or(|peer| peer.connection != connection) {
            return;
        }
        self.peers.remove(&id);
        if self.counting().any(|counting| counting == id) {
            self.absent.insert(id, now_ms);
        }
    }

    /// A replica has the log up to `offset`; this one ends at `end`. True if more is confirmed now.
    pub fn acknowledge(&mut self, id: i64, connection: u64, offset: i64, end: i64, now_ms: i64) -> bool {
        let Some(peer) = self.peers.get_mut(&id).filter(|peer| peer.connection == connection) else {
            return false;
        };
        peer.acknowledged = peer.acknowledged.max(offset);
        if peer.acknowledged >= end {
            peer.caught_up_ms = now_ms;
        }
        self.confirm(end)
    }

    /// This log ends at `end` now. True if more is confirmed: without replicas in the set that is all of it.
    pub fn confirm(&mut self, end: i64) -> bool {
        // Somebody who is not connected has what was confirmed, as far as is known.
        let has = |id| self.peers.get(&id).map_or(self.confirmed, |peer| peer.acknowledged);
        let others = self.counting().filter(|id| *id != self.own);
        let confirmed = others.map(has).fold(end, i64::min);
        let grows = confirmed > self.confirmed;
        self.confirmed = self.confirmed.max(confirmed);
        grows
    }

    /// Whether this master alone is in the set, so that what it writes is confirmed.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.counting().all(|id| id == self.own)
    }

    /// A change that is due, if any; then [`Self::told`] has to be called with what the controller has. A replica goes out that has not
    /// been up to date, or not connected, for `patience_ms`. With a log that ends at `end`.
    pub fn propose(&mut self, end: i64, patience_ms: i64, now_ms: i64) -> Option<Proposal> {
        if self.proposed.is_some() {
            return None;
        }
        for peer in self.peers.values_mut().filter(|peer| peer.acknowledged >= end) {
            peer.caught_up_ms = now_ms;
        }
        self.find_candidates(end, now_ms);
        let is_late = |since: i64| now_ms.saturating_sub(since) > patience_ms;
        let stays = |id: &i64| match (self.peers.get(id), self.absent.get(id)) {
            (Some(peer), _) => !is_late(peer.caught_up_ms),
            (None, Some(since)) => !is_late(*since),
            (None, None) => *id == self.own,
        };
        let mut members: BTreeSet<i64> = self.members.ids.iter().filter(|id| stays(id)).copied().collect();
        members.extend(
            self.peers
                .iter()
                .filter(|(_, peer)| peer.candidate == Candidate::Level)
                .map(|(id, _)| *id),
        );
        members.insert(self.own);
        if members == self.members.ids {
            return None;
        }
        self.proposed = Some(members.clone());
        Some(Proposal {
            members,
            replaces: self.members.epoch,
        })
    }

    /// Chooses who counts as a member before it is one, and who does no more.
    fn find_candidates(&mut self, end: i64, now_ms: i64) {
        for (id, peer) in &mut self.peers {
            let is_level = peer.acknowledged >= self.confirmed && peer.acknowledged >= self.begin;
            let is_near = end - peer.acknowledged <= NEARLY_BYTES && peer.acknowledged >= self.begin;
            peer.candidate = match peer.candidate {
                _ if peer.is_learner || self.members.ids.contains(id) => Candidate::No { before_ms: i64::MIN },
                // One that no longer follows must not hold the log.
                Candidate::Level if now_ms - peer.caught_up_ms > DRAW_LEVEL_MS => Candidate::No {
                    before_ms: now_ms + CANDIDATE_PAUSE_MS,
                },
                Candidate::Level => Candidate::Level,
                _ if is_level => Candidate::Level,
                Candidate::No { before_ms } if is_near && now_ms >= before_ms => Candidate::Behind { since_ms: now_ms },
                Candidate::Behind { since_ms } if now_ms - since_ms > DRAW_LEVEL_MS => Candidate::No {
                    before_ms: now_ms + CANDIDATE_PAUSE_MS,
                },
                other => other,
            };
        }
    }

    /// What the controller has. An older set than the known one changes nothing. With the known one a proposal is refused if
    /// `is_settled`: the controller has decided it, and will not do it any more. Call [`Self::confirm`] after it.
    pub fn told(&mut self, members: Members, is_settled: bool, now_ms: i64) {
        if members.epoch < self.members.epoch {
            return;
        }
        if members.epoch > self.members.epoch || is_settled {
            self.proposed = None;
        }
        self.members = members;
        let counting: BTreeSet<i64> = self.counting().collect();
        self.absent.retain(|id, _| counting.contains(id));
        for id in counting {
            if id != self.own && !self.peers.contains_key(&id) {
                self.absent.entry(id).or_insert(now_ms);
            }
        }
    }

    /// All that the controller may elect, and candidates; some of them twice. Called for each acknowledgement: makes no set.
    fn counting(&self) -> impl Iterator<Item = i64> {
        let candidates = self
            .peers
            .iter()
            .filter(|(_, peer)| !matches!(peer.candidate, Candidate::No { .. }));
        let proposed = self.proposed.iter().flatten();
        let ids = self.members.ids.iter().chain(proposed).chain(candidates.map(|(id, _)| id));
        ids.copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PATIENCE: i64 = 1_000;

    fn members(ids: &[i64], epoch: i32) -> Members {
        Members {
            ids: ids.iter().copied().collect(),
            epoch,
        }
    }

    #[test]
    fn a_replica_comes_in_when_it_has_what_is_confirmed_and_then_counts() {
        let mut set = InSync::new(1, 100, members(&[1], 1), 0);
        assert!(set.is_alone() && set.confirm(150) && set.confirmed() == 150);
        set.connect(2, 7, 90, false, 0);
        assert_eq!(set.propose(150, PATIENCE, 10), None, "it has nothing of this epoch");
        set.acknowledge(2, 7, 110, 150, 10);
        assert_eq!(set.propose(150, PATIENCE, 10), None, "it lacks 40 bytes");
        assert!(
            !set.confirm(200) && !set.acknowledge(2, 7, 140, 200, 15),
            "the log waits until it draws level"
        );
        assert_eq!(set.propose(200, PATIENCE, 15), None);
        assert!(set.acknowledge(2, 7, 160, 200, 20) && set.confirmed() == 160);
        let proposal = set.propose(200, PATIENCE, 20).unwrap();
        assert_eq!((proposal.members, proposal.replaces), (BTreeSet::from([1, 2]), 1));
        assert!(!set.confirm(200), "it may be in the set already");
        assert!(set.acknowledge(2, 7, 180, 200, 30) && set.confirmed() == 180);
        set.told(members(&[1, 2], 2), true, 30);
        assert_eq!((set.len(), set.propose(200, PATIENCE, 30)), (2, None));
    }

    #[test]
    fn one_that_is_late_goes_out_and_holds_the_log_until_the_controller_has_said_so() {
        let mut set = InSync::new(1, 0, members(&[1, 2], 4), 0);
        set.connect(2, 7, 0, false, 0);
        assert!(set.acknowledge(2, 7, 50, 50, 10) && !set.confirm(90));
        assert_eq!(set.propose(90, PATIENCE, 1_000), None);
        let proposal = set.propose(90, PATIENCE, 1_011).unwrap();
        assert_eq!(proposal.members, BTreeSet::from([1]));
        assert!(!set.confirm(90), "the controller may not know yet");
        set.told(members(&[1], 5), true, 1_020);
        assert!(set.confirm(90) && set.confirmed() == 90);
    }

    #[test]
    fn one_that_is_gone_counts_until_it_is_out() {
        let mut set = InSync::new(1, 0, members(&[1, 2], 4), 0);
        assert!(!set.confirm(50), "nobody has told what it has");
        set.connect(2, 7, 50, false, 5);
        set.disconnect(2, 6, 6);
        assert!(set.confirm(50), "another connection has ended");
        set.disconnect(2, 7, 10);
        assert_eq!(set.absent().collect::<Vec<_>>(), [(2, 10)]);
        assert_eq!((set.propose(60, PATIENCE, 1_010), set.confirm(60)), (None, false));
        assert!(set.propose(60, PATIENCE, 1_011).is_some());
        // The answer was lost; the set is read again, and has not changed yet.
        set.told(members(&[1, 2], 4), false, 1_020);
        assert!(!set.confirm(60) && set.propose(60, PATIENCE, 1_020).is_none());
        set.told(members(&[1], 5), false, 1_030);
        assert!(set.confirm(60));
    }

    #[test]
    fn an_older_connection_that_reports_late_takes_nothing_from_the_newer_one() {
        let mut set = InSync::new(1, 0, members(&[1, 2], 4), 0);
        set.connect(2, 8, 50, false, 0);
        set.connect(2, 7, 10, false, 1);
        set.disconnect(2, 7, 2);
        assert!(set.acknowledge(2, 8, 60, 60, 3) && set.confirmed() == 60);
    }

    #[test]
    fn one_that_does_not_draw_level_holds_the_log_for_a_moment_only() {
        let mut set = InSync::new(1, 0, members(&[1], 1), 0);
        set.confirm(500);
        set.connect(2, 7, 100, false, 0);
        assert_eq!((set.propose(500, PATIENCE, 0), set.confirm(600)), (None, false));
        assert_eq!((set.propose(600, PATIENCE, DRAW_LEVEL_MS + 1), set.confirm(600)), (None, true));
        assert_eq!(
            (set.propose(600, PATIENCE, DRAW_LEVEL_MS + 2), set.confirm(700)),
            (None, true),
            "not at once again"
        );
        // Far behind it is not even tried.
        set.confirm(NEARLY_BYTES * 2);
        assert_eq!(set.propose(NEARLY_BYTES * 2, PATIENCE, 10_000), None);
        assert!(set.confirm(NEARLY_BYTES * 3));
    }

    #[test]
    fn a_learner_copies_and_is_never_asked() {
        let mut set = InSync::new(1, 0, members(&[1], 1), 0);
        set.connect(3, 1, 0, true, 0);
        assert!(set.acknowledge(3, 1, 10, 10, 0) || set.confirm(10));
        assert_eq!(set.propose(10, PATIENCE, 0), None);
        assert!(set.confirm(99));
    }

    #[derive(Clone, Debug)]
    enum Event {
        Write(i64),
        Connect(i64),
        Acknowledge(i64),
        Disconnect(i64),
        Time(i64),
        Propose,
        /// The controller takes the proposal; the answer may be lost.
        Decide(bool),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            (1i64..100).prop_map(Event::Write),
            (2i64..5).prop_map(Event::Connect),
            (2i64..5).prop_map(Event::Acknowledge),
            (2i64..5).prop_map(Event::Disconnect),
            (1i64..2_000).prop_map(Event::Time),
            Just(Event::Propose),
            any::<bool>().prop_map(Event::Decide),
        ]
    }

    proptest! {
        /// Whatever the controller has decided: each member of its set has what is confirmed.
        #[test]
        fn every_member_has_what_is_confirmed(events in prop::collection::vec(event(), 1..200)) {
            let (mut end, mut now) = (0, 0);
            let mut set = InSync::new(1, 0, members(&[1], 1), now);
            let mut controller = members(&[1], 1);
            let mut waiting: Option<Proposal> = None;
            // What each replica really has.
            let mut logs: BTreeMap<i64, i64> = (2..5).map(|id| (id, 0)).collect();
            let mut connected: BTreeMap<i64, u64> = BTreeMap::new();
            for (step, event) in events.into_iter().enumerate() {
                match event {
                    Event::Write(bytes) => end += bytes,
                    Event::Connect(id) => {
                        connected.insert(id, step as u64);
                        set.connect(id, step as u64, logs[&id], false, now);
                    }
                    Event::Acknowledge(id) => if let Some(connection) = connected.get(&id) {
                        logs.insert(id, end);
                        set.acknowledge(id, *connection, end, end, now);
                    }
                    Event::Disconnect(id) => if let Some(connection) = connected.remove(&id) {
                        set.disconnect(id, connection, now);
                    }
                    Event::Time(passed) => now += passed,
                    Event::Propose => if let Some(proposal) = set.propose(end, PATIENCE, now) {
                        waiting = Some(proposal);
                    }
                    Event::Decide(is_told) => {
                        let taken = waiting.take().filter(|proposal| proposal.replaces == controller.epoch);
                        if let Some(proposal) = taken {
                            controller = Members { ids: proposal.members, epoch: controller.epoch + 1 };
                        }
                        if is_told {
                            set.told(controller.clone(), true, now);
                        } else {
                            // It is read later.
                            let read = controller.clone();
                            set.told(read, false, now);
                        }
                    }
                }
                let before = set.confirmed();
                set.confirm(end);
                prop_assert!(set.confirmed() >= before && set.confirmed() <= end);
                for id in controller.ids.iter().filter(|id| **id != 1) {
                    prop_assert!(logs[id] >= set.confirmed(), "{id} has {}, confirmed is {}", logs[id], set.confirmed());
                }
            }
        }
    }
}
