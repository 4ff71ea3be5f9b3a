//! What a broker under a controller does with what the controllers say: a pure state machine. The thread `controlled` and the simulated cluster
//! (crate `simulation`) drive it.
//!
//! ```text
//! beat or look ─► Ask ─► (controllers) ─► answered ─► Ask …, Become or Rest
//! ```
//!
//! One request is asked at a time. Time is the monotonic clock of this process in milliseconds, which the caller passes in.

#[cfg(test)]
mod tests;

use super::hand_over::{HandOver, successor};
use std::collections::BTreeSet;

use replication::{Members, Proposal};

/// A change of the in-sync set whose answer is lost may be done until so long after it.
pub const MAY_BE_DONE_MS: i64 = 15_000;
/// Of the time after which this broker is taken for dead, what its lease is shorter, for clocks that differ in speed.
const MARGIN: i64 = 20;

/// What the controllers say of a broker name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Id and `ip:port` of the master, if there is one.
    pub master: Option<(i64, String)>,
    /// Its epoch; grows with each election and each loss of a master.
    pub epoch: i32,
    /// The in-sync set.
    pub members: Members,
}

/// What this broker is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Master of an epoch.
    Master {
        /// The epoch.
        epoch: i32,
    },
    /// A slave of the broker at this address, if there is a master.
    Slave {
        /// `ip:port`.
        master: Option<String>,
    },
}

impl Told {
    /// Whether this broker is the master.
    #[must_use]
    pub fn is_master(&self, own: i64) -> bool {
        self.master.as_ref().is_some_and(|(id, _)| *id == own)
    }

    fn wanted(&self, own: i64) -> Wanted {
        match &self.master {
            Some((id, _)) if *id == own => Wanted::Master { epoch: self.epoch },
            Some((_, address)) => Wanted::Slave {
                master: Some(address.clone()),
            },
            None => Wanted::Slave { master: None },
        }
    }
}

/// The role of the running broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunsAs {
    /// Master of an epoch.
    Master {
        /// The epoch.
        epoch: i32,
    },
    /// A slave; the epoch is the one in which it heard of its master.
    Slave {
        /// The epoch.
        epoch: i32,
    },
}

/// What follows for the role of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    Stay,
    /// It stays a slave, of this master.
    Follow(Option<String>),
    /// It starts in this role.
    StartAs(Wanted),
}

/// What the broker `own` in this role does when it is told this.
#[must_use]
pub fn change_of_role(own: i64, running: Option<RunsAs>, told: &Told) -> Change {
    let known = match running {
        Some(RunsAs::Master { epoch } | RunsAs::Slave { epoch }) => epoch,
        None => i32::MIN,
    };
    match (running, told.wanted(own)) {
        _ if told.epoch < known => Change::Stay,
        // A slave follows the old master until there is another one. A master has lost its lease, and may be elected again.
        (_, Wanted::Slave { master: None }) => Change::Stay,
        (Some(RunsAs::Slave { .. }), Wanted::Slave { master }) => Change::Follow(master),
        (Some(RunsAs::Master { epoch }), Wanted::Master { epoch: wanted }) if epoch == wanted => Change::Stay,
        (_, wanted) => Change::StartAs(wanted),
    }
}

/// A request to the controller that leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A heartbeat.
    Beat,
    /// Who is the master?
    Told,
    /// An election, of this broker if that may be.
    Elect,
    /// A registration. Our controllers refuse then what an earlier process of this broker has asked for, and is still on its way.
    Register,
    /// An election of this other broker, while this one is the master.
    HandOver {
        /// Its id.
        to: i64,
        /// The epoch of this master, if it takes no more messages. Otherwise the controllers wait until its lease is over.
        gave_up: Option<i32>,
    },
    /// Another in-sync set.
    Alter {
        /// Epoch of this master.
        epoch: i32,
        /// The new set.
        members: BTreeSet<i64>,
        /// Epoch of the set that it replaces.
        replaces: i32,
    },
}

/// What comes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The heartbeat is taken.
    Beaten,
    /// The answer to [`Request::Told`], [`Request::Elect`] and [`Request::HandOver`].
    Told(Told),
    /// The broker is registered.
    Registered,
    /// The set after [`Request::Alter`].
    Members(Members),
    /// The controller will not do it.
    Refused,
    /// Whether it was done, or will be, is not known.
    Unknown,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Ask this.
    Ask(Request),
    /// Take the role that is told, if it is another one ([`change_of_role`]); as the master it may take messages until then.
    Become(Told, i64),
    /// Nothing, until the next heartbeat or look is due.
    Rest,
}

/// The running broker.
pub trait Running {
    /// Its role, if it runs.
    fn role(&self) -> Option<RunsAs>;
    /// As a master it may take messages until then.
    fn set_lease(&mut self, until_ms: i64);
    /// As a master it takes no more messages, until it has another role.
    fn give_up(&mut self);
    /// A change of the in-sync set that is due.
    fn propose(&mut self, patience_ms: i64) -> Option<Proposal>;
    /// The controllers have this set; see `InSync::told`.
    fn told_in_sync(&mut self, members: Members, is_settled: bool);
    /// Whether it can store messages.
    fn can_write(&self) -> bool;
    /// Whether it is to stop.
    fn is_leaving(&self) -> bool {
        false
    }
    /// The in-sync set that the controllers told last, if this broker is the master.
    fn in_sync(&self) -> BTreeSet<i64>;
}

/// Settings of the machine.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Id of this broker.
    pub id: i64,
    /// Time after which the controllers take a broker for dead.
    pub timeout_ms: i64,
    /// A replica leaves the in-sync set when it was not up to date for so long.
    pub patience_ms: i64,
    /// It never becomes the master.
    pub is_learner: bool,
}

/// A change of the in-sync set that may be done.
#[derive(Clone, Debug)]
struct Open {
    proposal: Proposal,
    /// When an attempt was last made whose outcome is not known.
    lost_ms: Option<i64>,
}

/// What was asked last.
#[derive(Clone, Debug)]
enum Step {
    Idle,
    Beat {
        sent_ms: i64,
    },
    Told {
        sent_ms: i64,
    },
    Elect {
        sent_ms: i64,
        told: Told,
    },
    /// A master that starts leaves all others out.
    Resume {
        sent_ms: i64,
        told: Told,
    },
    /// A master that starts alone registers, so that nothing is done any more that an earlier process has asked for.
    Fence {
        sent_ms: i64,
    },
    /// After it.
    Fenced {
        sent_ms: i64,
    },
    Alter,
    HandOver {
        sent_ms: i64,
    },
    /// After a refused change.
    Read,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Decisions {
    rules: Rules,
    open: Option<Open>,
    hand_over: HandOver,
    /// It takes no more messages as the master, because it is to stop and has asked for another one.
    gave_up: bool,
    step: Step,
    first: Option<First>,
}

/// What this process was told first. In that master epoch an earlier process may have asked for a change of the in-sync set that is still on
/// its way; it replaces the set of this epoch, or an older one.
#[derive(Clone, Copy, Debug)]
struct First {
    epoch: i32,
    in_sync_epoch: i32,
    at_ms: i64,
}

impl Decisions {
    /// Of a broker that has its id and is registered.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            open: None,
            hand_over: HandOver::default(),
            gave_up: false,
            step: Step::Idle,
            first: None,
        }
    }

    /// A heartbeat is due.
    pub fn beat(&mut self, now_ms: i64) -> Request {
        self.step = Step::Beat { sent_ms: now_ms };
        Request::Beat
    }

    /// Proposes a change of the in-sync set if one is due, or again if its answer was lost. A master that is to stop or
    /// cannot store messages hands over.
    pub fn look(&mut self, running: &mut dyn Running, now_ms: i64) -> Option<Request> {
        let Some(RunsAs::Master { epoch }) = running.role() else {
            self.open = None;
            return None;
        };
        let is_leaving = running.is_leaving();
        if self.hand_over.is_due(epoch, running.can_write(), is_leaving, now_ms)
            && let Some(to) = successor(&running.in_sync(), self.rules.id)
        {
            if is_leaving {
                // The other one takes messages before this one hears of it.
                self.gave_up = true;
                running.give_up();
                tracing::info!(to, "this master is to stop: another in-sync replica is to be the master");
            } else {
                tracing::error!(to, "this master cannot store messages: another in-sync replica is to be the master");
            }
            self.step = Step::HandOver { sent_ms: now_ms };
            let gave_up = is_leaving.then_some(epoch);
            return Some(Request::HandOver { to, gave_up });
        }
        if let Some(proposal) = running.propose(self.rules.patience_ms) {
            tracing::info!(members = ?proposal.members, replaces = proposal.replaces, "the in-sync set is to change");
            self.open = Some(Open { proposal, lost_ms: None });
        }
        let again = self.open.as_ref().filter(|open| !open.is_over(now_ms))?;
        self.step = Step::Alter;
        Some(Request::Alter {
            epoch,
            members: again.proposal.members.clone(),
            replaces: again.proposal.replaces,
        })
    }

    /// What comes of the last request.
    pub fn answered(&mut self, outcome: Outcome, running: &mut dyn Running, now_ms: i64) -> Next {
        if let Outcome::Told(told) = &outcome {
            self.first.get_or_insert(First {
                epoch: told.epoch,
                in_sync_epoch: told.members.epoch,
                at_ms: now_ms,
            });
        }
        match (std::mem::replace(&mut self.step, Step::Idle), outcome) {
            (Step::Beat { sent_ms }, Outcome::Beaten) => self.ask(Step::Told { sent_ms }, Request::Told),
            (Step::Told { sent_ms }, Outcome::Told(told)) if told.master.is_none() && !self.rules.is_learner => {
                self.ask(Step::Elect { sent_ms, told }, Request::Elect)
            }
            (Step::Told { sent_ms } | Step::Elect { sent_ms, .. } | Step::HandOver { sent_ms }, Outcome::Told(told)) => {
                self.take(told, sent_ms, running, now_ms)
            }
            // Nobody may be elected yet.
            (Step::Elect { sent_ms, told }, Outcome::Refused) => self.take(told, sent_ms, running, now_ms),
            (Step::Fence { sent_ms }, Outcome::Registered) => self.ask(Step::Fenced { sent_ms }, Request::Told),
            // Not yet with Apache's controllers: at the next heartbeat.
            (Step::Fenced { .. }, Outcome::Told(told)) if self.may_be_overtaken(&told, now_ms) => Next::Rest,
            (Step::Fenced { sent_ms }, Outcome::Told(told)) => self.take(told, sent_ms, running, now_ms),
            (Step::Resume { sent_ms, told }, Outcome::Members(members)) => Next::Become(Told { members, ..told }, self.lease(sent_ms)),
            (Step::Alter, Outcome::Members(members)) => {
                tracing::warn!(members = ?members.ids, epoch = members.epoch, "the in-sync set has changed");
                self.told_in_sync(members, true, running, now_ms);
                Next::Rest
            }
            (Step::Alter, Outcome::Refused) => self.ask(Step::Read, Request::Told),
            (Step::Alter, Outcome::Unknown) => {
                if let Some(open) = &mut self.open {
                    open.lost_ms = Some(now_ms);
                }
                Next::Rest
            }
            (Step::Read, Outcome::Told(told)) => {
                let is_known = self.open.as_ref().is_none_or(|open| open.lost_ms.is_none());
                self.told_in_sync(told.members, is_known, running, now_ms);
                Next::Rest
            }
            _ => Next::Rest,
        }
    }

    fn ask(&mut self, step: Step, request: Request) -> Next {
        self.step = step;
        Next::Ask(request)
    }

    /// Of a master that the controllers have confirmed after a heartbeat that was sent at this time: they elect no other one before.
    fn lease(&self, sent_ms: i64) -> i64 {
        sent_ms + self.rules.timeout_ms - self.rules.timeout_ms / MARGIN
    }

    fn take(&mut self, told: Told, sent_ms: i64, running: &mut dyn Running, now_ms: i64) -> Next {
        let is_master = told.is_master(self.rules.id);
        match running.role() {
            Some(RunsAs::Master { epoch }) if is_master && epoch == told.epoch => {
                if !self.gave_up {
                    running.set_lease(self.lease(sent_ms));
                }
                self.told_in_sync(told.members, false, running, now_ms);
                Next::Rest
            }
            None if is_master && told.members.ids.len() > 1 => {
                // A start of a broker that still is the master.
                let alone = Request::Alter {
                    epoch: told.epoch,
                    members: BTreeSet::from([self.rules.id]),
                    replaces: told.members.epoch,
                };
                self.ask(Step::Resume { sent_ms, told }, alone)
            }
            None if is_master && self.may_be_overtaken(&told, now_ms) => self.ask(Step::Fence { sent_ms }, Request::Register),
            _ => Next::Become(told, self.lease(sent_ms)),
        }
    }

    /// Whether a change that an earlier process of this master has asked for may still be done. With it the controllers may elect a replica that
    /// lacks what this process acknowledges.
    fn may_be_overtaken(&self, told: &Told, now_ms: i64) -> bool {
        self.first.is_some_and(|first| {
            (told.epoch, told.members.epoch) == (first.epoch, first.in_sync_epoch) && now_ms - first.at_ms <= MAY_BE_DONE_MS
        })
    }

    fn told_in_sync(&mut self, members: Members, is_settled: bool, running: &mut dyn Running, now_ms: i64) {
        let ends = |open: &Open| members.epoch > open.proposal.replaces || open.is_over(now_ms);
        let is_settled = is_settled || self.open.as_ref().is_some_and(ends);
        if is_settled {
            self.open = None;
        }
        running.told_in_sync(members, is_settled);
    }
}

impl Open {
    /// Whether it can no longer be done.
    fn is_over(&self, now_ms: i64) -> bool {
        self.lost_ms.is_some_and(|at| now_ms - at > MAY_BE_DONE_MS)
    }
}

/// A broker that starts after its machine may have lost power says nothing for a time.
///
/// - Its log may lack an end that other brokers have. So it never goes on with an epoch that it was the master of: other records would be at the
///   same place of the same epoch, where no slave finds them. It waits until the controllers have given it up, which begins another epoch.
/// - Under ASYNC_FLUSH it may also lack what it has acknowledged. So it must not be elected while it is in the in-sync set, nor come in by a
///   proposal of a master that takes its old connection for alive: it waits until the master has put it out and forgotten that connection; in
///   vain for a time at most.
#[derive(Clone, Copy, Debug)]
pub struct Silence {
    /// Id of this broker.
    pub id: i64,
    /// The last epoch of its log.
    pub epoch: i32,
    /// It may lack what it has acknowledged.
    pub has_lost: bool,
    /// From then on no master has a connection from before, nor is a proposal of that time on its way.
    pub forgotten_ms: i64,
    /// So long it waits for another master.
    pub until_ms: i64,
    /// So long it waits for a master to put it out of the in-sync set.
    pub in_sync_until_ms: i64,
    /// When it has to be heard, so that the controllers find that it is silent ([`Self::must_beat`]).
    pub beat_ms: i64,
    /// Time between two such heartbeats: the controllers miss this broker in it.
    pub beat_every_ms: i64,
}

impl Silence {
    /// Whether it is over, by what the controllers say.
    #[must_use]
    pub fn is_over(&self, told: &Told, now_ms: i64) -> bool {
        match &told.master {
            Some((master, _)) if *master == self.id => told.epoch > self.epoch,
            _ if !self.has_lost => true,
            Some(_) if told.members.ids.contains(&self.id) => now_ms >= self.in_sync_until_ms,
            Some(_) => now_ms >= self.forgotten_ms,
            None => now_ms >= self.until_ms,
        }
    }

    /// Whether to send one heartbeat: controllers that have started since miss only who was heard.
    pub fn must_beat(&mut self, told: &Told, now_ms: i64) -> bool {
        let is_due = told.is_master(self.id) && now_ms >= self.beat_ms;
        if is_due {
            self.beat_ms = now_ms + self.beat_every_ms;
        }
        is_due
    }
}
