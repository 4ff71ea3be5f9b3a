//! A machine with a broker: what is on its disk, and the process if it runs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use broker::controlled::decide::{Decisions, Running, RunsAs, Silence, Told, Wanted};
use replication::{Epochs, InSync, Members, Proposal};

use crate::Broken;
use crate::log::Log;

/// When a log is on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flush {
    Async,
    Sync,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) id: i64,
    pub(crate) log: Log,
    pub(crate) epochs: Epochs,
    /// The file `abort`: the boot in which a store was opened and not closed.
    pub(crate) abort: Option<u64>,
    pub(crate) boot: u64,
    /// Counts the processes.
    pub(crate) incarnation: u64,
    pub(crate) process: Option<Process>,
    /// Nothing happens in the process before (SIGSTOP).
    pub(crate) stopped_until: i64,
    /// A power cut has lost records, and the broker has waited in vain for another master: it may become the master without them, as documented.
    /// Until it has followed a master.
    pub(crate) accepts_data_loss: bool,
    /// Counts the roles.
    pub(crate) roles: u64,
}

/// What the process does beside its role.
#[derive(Debug)]
pub(crate) enum Phase {
    /// It may have lost what it had acknowledged.
    Silent(Silence),
    Registers,
    Decides(Decisions),
}

#[derive(Debug)]
pub(crate) struct Process {
    /// Its connection to the controllers.
    pub(crate) connection: u64,
    pub(crate) phase: Phase,
    /// Number of the request whose answer is awaited.
    pub(crate) asked: Option<u64>,
    pub(crate) beat_ms: i64,
    pub(crate) look_ms: i64,
    pub(crate) is_poked: bool,
    pub(crate) wakes_ms: Option<i64>,
    /// What the thread `member` has still to hear.
    pub(crate) heard: VecDeque<(Told, i64)>,
    /// The role that it starts.
    pub(crate) starts: Option<(Told, Wanted)>,
    pub(crate) running: Option<Role>,
    /// Epoch and end of the log when the broker last ran.
    pub(crate) progress: (i32, i64),
    pub(crate) is_syncing: bool,
    /// The controllers have said something of the master.
    pub(crate) is_told: bool,
    /// It is to stop, and hands over before.
    pub(crate) is_leaving: bool,
}

/// A broker in a role.
#[derive(Debug)]
pub(crate) struct Role {
    pub(crate) number: u64,
    pub(crate) epoch: i32,
    /// What readers may see, by what replicas have.
    pub(crate) bound: i64,
    /// What readers see.
    pub(crate) confirmed: i64,
    pub(crate) duty: Duty,
}

#[derive(Debug)]
pub(crate) enum Duty {
    Master(Master),
    Slave(Slave),
}

#[derive(Debug)]
pub(crate) struct Master {
    pub(crate) set: InSync,
    pub(crate) lease_until: i64,
    /// Ends of records whose senders wait.
    pub(crate) waits: VecDeque<i64>,
    pub(crate) links: BTreeMap<u64, Link>,
}

/// A slave that follows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) peer: i64,
    pub(crate) sent: i64,
    pub(crate) told: i64,
    pub(crate) last_sent: i64,
}

#[derive(Debug)]
pub(crate) struct Slave {
    pub(crate) master: Option<i64>,
    pub(crate) connection: Option<u64>,
    /// The log is the master's where that has confirmed this much.
    pub(crate) aligned_at: Option<i64>,
    pub(crate) is_aligned: bool,
    pub(crate) reported: i64,
    pub(crate) retry_ms: i64,
    pub(crate) connects: bool,
}

impl Role {
    /// Publishes what may be confirmed.
    pub(crate) fn publish(&mut self, log: &Log, flush: Flush, broken: Option<Broken>) {
        let durable = match flush {
            Flush::Async => log.end(),
            Flush::Sync => log.synced(),
        };
        let bound = match self.duty {
            Duty::Master(_) if broken == Some(Broken::PublishesOnWrite) => i64::MAX,
            _ => self.bound,
        };
        self.confirmed = self.confirmed.max(durable.min(bound));
    }

    /// As `Acks::change`.
    pub(crate) fn change<T>(&mut self, log: &Log, change: impl FnOnce(&mut InSync) -> T) -> Option<T> {
        let Duty::Master(master) = &mut self.duty else { return None };
        let changed = change(&mut master.set);
        master.set.confirm(log.end());
        self.bound = self.bound.max(master.set.confirmed());
        Some(changed)
    }

    pub(crate) fn master(&mut self) -> Option<&mut Master> {
        match &mut self.duty {
            Duty::Master(master) => Some(master),
            Duty::Slave(_) => None,
        }
    }

    pub(crate) fn slave(&mut self) -> Option<&mut Slave> {
        match &mut self.duty {
            Duty::Slave(slave) => Some(slave),
            Duty::Master(_) => None,
        }
    }

    pub(crate) fn runs_as(&self) -> RunsAs {
        match self.duty {
            Duty::Master(_) => RunsAs::Master { epoch: self.epoch },
            Duty::Slave(_) => RunsAs::Slave { epoch: self.epoch },
        }
    }
}

/// The running broker, as the decisions see it.
pub(crate) struct Body<'h> {
    pub(crate) running: &'h mut Option<Role>,
    pub(crate) log: &'h Log,
    pub(crate) now: i64,
    pub(crate) broken: Option<Broken>,
    pub(crate) is_leaving: bool,
}

impl Running for Body<'_> {
    fn role(&self) -> Option<RunsAs> {
        self.running.as_ref().map(Role::runs_as)
    }

    fn set_lease(&mut self, until_ms: i64) {
        if let Some(master) = self.running.as_mut().and_then(Role::master) {
            master.lease_until = until_ms;
        }
    }

    fn give_up(&mut self) {
        if self.broken != Some(Broken::HandsOverAndTakes) {
            self.set_lease(i64::MIN);
        }
    }

    fn propose(&mut self, patience_ms: i64) -> Option<Proposal> {
        let (log, now) = (self.log, self.now);
        let role = self.running.as_mut()?;
        let proposal = role.change(log, |set| set.propose(log.end(), patience_ms, now)).flatten()?;
        if self.broken == Some(Broken::CountsOnlyProposed) {
            let members = Members {
                ids: proposal.members.clone(),
                epoch: proposal.replaces,
            };
            role.change(log, |set| set.told(members, true, now));
        }
        Some(proposal)
    }

    fn told_in_sync(&mut self, members: Members, is_settled: bool) {
        let (log, now) = (self.log, self.now);
        if let Some(role) = self.running.as_mut() {
            role.change(log, |set| set.told(members, is_settled, now));
        }
    }

    // Its disks neither fill up nor fail.
    fn can_write(&self) -> bool {
        true
    }

    fn is_leaving(&self) -> bool {
        self.is_leaving
    }

    fn in_sync(&self) -> BTreeSet<i64> {
        match self.running.as_ref().map(|role| &role.duty) {
            Some(Duty::Master(master)) => master.set.members().ids.clone(),
            _ => BTreeSet::new(),
        }
    }
}

impl Host {
    pub(crate) fn new(id: i64) -> Self {
        Self {
            id,
            log: Log::default(),
            epochs: Epochs::default(),
            abort: None,
            boot: 1,
            incarnation: 0,
            process: None,
            stopped_until: 0,
            accepts_data_loss: false,
            roles: 0,
        }
    }

    pub(crate) fn role(&mut self) -> Option<&mut Role> {
        self.process.as_mut()?.running.as_mut()
    }

    /// Role and log, to be changed together.
    pub(crate) fn parts(&mut self) -> Option<(&mut Role, &mut Log, &mut Epochs)> {
        let role = self.process.as_mut()?.running.as_mut()?;
        Some((role, &mut self.log, &mut self.epochs))
    }
}
