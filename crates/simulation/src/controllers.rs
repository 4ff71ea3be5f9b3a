//! The controllers: one state, a table of living brokers each, a leader.

use std::collections::{BTreeMap, BTreeSet};

use broker::controlled::decide::{Outcome, Request, Told};
use controller::alive::{Alive, Gone, Heartbeat};
use controller::elections::Elections;
use controller::lost::{leases, lost_masters, was_master};
use controller::replicas::{Answer, BrokerSet, Command, Limits, Live, Replicas};
use replication::Members;

use crate::Broken;
use crate::cluster::{Cluster, Event};
use crate::invariants::Violation;
use crate::network::CONTROLLERS;

pub(crate) const NAME: &str = "b";
const CLUSTER: &str = "c";
/// Time between two scans for masters that are not alive.
const SCAN_MS: i64 = 1_000;
/// Shortest time without a leader when one is lost.
const NO_LEADER_MS: i64 = 100;
/// With Apache's controllers, which know of no leases: longer than they last.
const APACHES_NO_LEADER_MS: i64 = 2_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct Controllers {
    pub(crate) replicas: Replicas,
    tables: Vec<Alive>,
    pub(crate) leader: Option<usize>,
    /// Grows with each leader.
    term: u64,
    elections: Elections,
    /// Commands that are being agreed on, with who awaits the answer.
    pending: BTreeMap<u64, (Command, Option<Asker>)>,
    next_command: u64,
    scan_ms: i64,
    /// Controllers to which the heartbeats of a broker do not come while they do not lead.
    pub(crate) deaf: BTreeSet<(usize, i64)>,
    /// Otherwise they are Apache's: a registration begins no other epoch of the in-sync set, and says nothing of a lease.
    are_ours: bool,
}

/// What a process asks.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    Register,
    Decided(Request),
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker {
    pub(crate) broker: i64,
    pub(crate) incarnation: u64,
    pub(crate) number: u64,
    pub(crate) connection: u64,
    /// Epoch and end of its log.
    pub(crate) progress: (i32, i64),
}

fn address(id: i64) -> String {
    format!("broker:{id}")
}

pub(crate) fn id_of(address: &str) -> i64 {
    address.rsplit(':').next().and_then(|id| id.parse().ok()).unwrap_or(-1)
}

fn told(set: &BrokerSet) -> Told {
    Told {
        master: set.master.map(|id| (id, address(id))),
        epoch: set.master_epoch,
        members: members(set),
    }
}

fn members(set: &BrokerSet) -> Members {
    Members {
        ids: set.in_sync.clone(),
        epoch: set.in_sync_epoch,
    }
}

impl Controllers {
    pub(crate) fn new(brokers: i64, count: usize, are_ours: bool) -> Self {
        let mut elections = Elections::default();
        elections.serve(1);
        let mut replicas = Replicas::default();
        for id in 1..=brokers {
            let command = Command::TakeId {
                cluster: CLUSTER.to_owned(),
                broker: NAME.to_owned(),
                id,
                check_code: format!("{};1", address(id)),
                limits: Limits { names: 9, replicas: 9 },
            };
            assert_eq!(replicas.apply(&command).refusal, None);
        }
        Self {
            replicas,
            tables: (0..count).map(|_| Alive::new(9, 0)).collect(),
            leader: Some(0),
            term: 1,
            elections,
            pending: BTreeMap::new(),
            next_command: 0,
            scan_ms: 0,
            deaf: BTreeSet::new(),
            are_ours,
        }
    }

    pub(crate) fn set(&self) -> Option<&BrokerSet> {
        self.replicas.set(NAME)
    }

    /// Whether an election is being agreed on.
    fn is_electing(&self) -> bool {
        self.elections.is_open(NAME, self.term)
    }
}

impl Cluster {
    fn living(&self) -> Vec<Live> {
        let Some(leader) = self.controllers.leader else { return Vec::new() };
        self.controllers.tables[leader].of(CLUSTER, NAME, self.now)
    }

    /// A request has arrived.
    pub(crate) fn asked(&mut self, asker: Asker, asked: Asked) -> Result<(), Violation> {
        let Some(leader) = self.controllers.leader else { return Ok(()) };
        let command = match asked {
            Asked::Decided(Request::Beat) => {
                self.beat(leader, asker);
                self.answer(asker, Outcome::Beaten);
                return Ok(());
            }
            Asked::Decided(Request::Told | Request::Register) | Asked::Register
                if self.controllers.is_electing() && !self.tells_while_electing() =>
            {
                self.answer(asker, Outcome::Refused);
                return Ok(());
            }
            Asked::Decided(Request::Told) => {
                let told = self.controllers.set().map(told);
                self.answer(asker, told.map_or(Outcome::Refused, Outcome::Told));
                return Ok(());
            }
            Asked::Register | Asked::Decided(Request::Register) if !self.controllers.are_ours => {
                self.answer(asker, Outcome::Registered);
                return Ok(());
            }
            Asked::Register | Asked::Decided(Request::Register) => Command::Register {
                broker: NAME.to_owned(),
                id: asker.broker,
                address: address(asker.broker),
                lease_ms: Some(self.rules.timeout_ms),
            },
            Asked::Decided(request @ (Request::Elect | Request::HandOver { .. })) => {
                let designated = match request {
                    Request::HandOver { to, .. } => Some(to),
                    _ => None,
                };
                if !self.elect(Some(asker), designated) {
                    self.answer(asker, Outcome::Refused);
                }
                return Ok(());
            }
            Asked::Decided(Request::Alter { epoch, members, replaces }) => Command::AlterInSync {
                broker: NAME.to_owned(),
                master: asker.broker,
                master_epoch: epoch,
                ids: members,
                in_sync_epoch: replaces,
                alive: self.living(),
            },
        };
        self.decide_later(command, Some(asker));
        Ok(())
    }

    fn tells_while_electing(&self) -> bool {
        matches!(self.broken, Some(Broken::TellsWhileElecting | Broken::ElectsLate))
    }

    /// Begins an election that somebody has asked for, of this broker and no other one if it is `designated`, unless one is being agreed on.
    fn elect(&mut self, asker: Option<Asker>, designated: Option<i64>) -> bool {
        let term = self.controllers.term;
        let begins = self.controllers.elections.begin(NAME, term) || self.broken == Some(Broken::ElectsLate);
        if begins {
            let candidate = designated.or(asker.map(|asker| asker.broker));
            let command = self.election(candidate, designated.is_some());
            self.decide_later(command, asker);
        }
        begins
    }

    /// A heartbeat has arrived at one controller.
    pub(crate) fn beat(&mut self, controller: usize, asker: Asker) {
        let live = Live {
            id: asker.broker,
            epoch: asker.progress.0,
            max_offset: asker.progress.1,
            priority: i32::MAX,
        };
        let heartbeat = Heartbeat {
            cluster: CLUSTER,
            broker: NAME,
            live: &live,
            timeout_ms: Some(self.rules.timeout_ms),
            connection: asker.connection,
        };
        self.controllers.tables[controller].heartbeat(heartbeat, self.now);
    }

    fn election(&self, candidate: Option<i64>, designated: bool) -> Command {
        Command::Elect {
            broker: NAME.to_owned(),
            candidate,
            designated,
            seen_epoch: self
                .controllers
                .set()
                .map(|set| set.master_epoch)
                .filter(|_| self.broken != Some(Broken::ElectsLate)),
            unclean: self.broken == Some(Broken::ElectsUnclean),
            alive: self.living(),
        }
    }

    fn decide_later(&mut self, command: Command, asker: Option<Asker>) {
        self.controllers.next_command += 1;
        let number = self.controllers.next_command;
        self.controllers.pending.insert(number, (command, asker));
        let at = self.now + self.random.time(self.chaos.agree, 3_000).min(3_000);
        self.at(at, Event::Decide(number));
    }

    /// A command is agreed on, unless a leader has come since.
    pub(crate) fn decide(&mut self, number: u64) -> Result<(), Violation> {
        let Some((command, asker)) = self.controllers.pending.remove(&number) else {
            return Ok(());
        };
        if self.controllers.leader.is_none() && self.random.is(500) {
            // It was lost with the leader.
            return Ok(());
        }
        self.apply(&command, asker)
    }

    fn apply(&mut self, command: &Command, asker: Option<Asker>) -> Result<(), Violation> {
        if let Command::Elect { .. } = command {
            let term = self.controllers.term;
            self.controllers.elections.end(NAME, term);
        }
        let answer = self.controllers.replicas.apply(command);
        if let Some(set) = &answer.set {
            let (master, in_sync) = (set.master_epoch, set.in_sync_epoch);
            self.note(|| {
                format!(
                    "controllers: {command:?} -> {:?}, master {:?} {master}, in sync {:?} {in_sync}",
                    answer.refusal, set.master, set.in_sync
                )
            });
            self.oracle
                .growing
                .epochs(master, in_sync, answer.changed && !matches!(command, Command::Register { .. }))?;
        }
        if let Some(asker) = asker.filter(|_| self.controllers.leader.is_some()) {
            self.answer(asker, outcome(command, &answer));
        }
        Ok(())
    }

    fn answer(&mut self, asker: Asker, outcome: Outcome) {
        let outcome = match outcome {
            Outcome::Told(told) if self.broken == Some(Broken::KeepsEpoch) => Outcome::Told(Told { epoch: 1, ..told }),
            outcome => outcome,
        };
        if self.network.carries(CONTROLLERS, asker.broker) && !self.random.is(self.chaos.loss) {
            let at = self.now + self.delay(CONTROLLERS, asker.broker);
            self.at(at, Event::Answer(asker, outcome));
        }
    }

    /// The controllers see that connections are closed.
    pub(crate) fn connection_closed(&mut self, connection: u64) {
        for table in &mut self.controllers.tables {
            table.closed(connection);
        }
        self.at(self.now + 1, Event::Probe);
    }

    /// The leader looks whether suspected brokers are gone.
    pub(crate) fn probe(&mut self) {
        let Some(leader) = self.controllers.leader else { return };
        let suspected = self.controllers.tables[leader].suspected();
        if suspected.is_empty() {
            return;
        }
        for gone in suspected {
            if self.is_refused(gone.id) && self.controllers.tables[leader].is_gone(&gone) {
                self.lost(&[gone]);
            }
        }
        self.at(self.now + 50, Event::Probe);
    }

    /// Whether the machine of this broker answers, and nobody listens there.
    fn is_refused(&self, id: i64) -> bool {
        let host = &self.hosts[&id];
        let is_open = host.process.as_ref().is_some_and(|process| process.running.is_some());
        let is_reachable = self.network.carries(CONTROLLERS, id) && self.network.carries(id, CONTROLLERS);
        is_reachable && self.is_powered(id) && !is_open
    }

    fn lost(&mut self, gone: &[Gone]) {
        for gone in gone {
            if was_master(&self.controllers.replicas, gone) {
                // It is missed again by the next scan if another election is open.
                self.elect(None, None);
            }
        }
    }

    /// Brokers expire, and masters are missed.
    pub(crate) fn scan(&mut self) {
        for index in 0..self.controllers.tables.len() {
            let gone = self.controllers.tables[index].expire(self.now);
            if self.controllers.leader == Some(index) {
                self.lost(&gone);
            }
        }
        if self.now >= self.controllers.scan_ms
            && let Some(leader) = self.controllers.leader
        {
            self.controllers.scan_ms = self.now + SCAN_MS;
            if !lost_masters(&self.controllers.replicas, &self.controllers.tables[leader], self.now).is_empty() {
                self.elect(None, None);
            }
        }
        self.at(self.now + 50, Event::Scan);
    }

    /// The leader is killed, or loses the others; another one leads later.
    pub(crate) fn lose_leader(&mut self) {
        let Some(old) = self.controllers.leader.take() else { return };
        self.note(|| format!("controllers: {old} leads no more"));
        let next = match self.controllers.tables.len() {
            1 => 0,
            count => (old + self.random.between(1, count as i64 - 1) as usize) % count,
        };
        if next == old || self.random.is(500) {
            // It starts again, without what it has heard.
            self.controllers.tables[old] = Alive::new(9, self.now);
        }
        let shortest = if self.controllers.are_ours {
            NO_LEADER_MS
        } else {
            APACHES_NO_LEADER_MS
        };
        let at = self.now + shortest + self.random.between(0, 2_000);
        self.at(at, Event::Leads(next));
    }

    pub(crate) fn leads(&mut self, next: usize) -> Result<(), Violation> {
        self.note(|| format!("controllers: {next} leads"));
        // What is in its log is applied before it answers anything; the rest is gone.
        for (command, _) in std::mem::take(&mut self.controllers.pending).into_values() {
            if self.random.is(500) {
                self.apply(&command, None)?;
            }
        }
        self.controllers.leader = Some(next);
        self.controllers.term += 1;
        let (term, now) = (self.controllers.term, self.now);
        if self.broken != Some(Broken::LeadsAtOnce) {
            let Controllers { replicas, tables, .. } = &mut self.controllers;
            tables[next].leads(leases(replicas), now);
        }
        self.controllers.elections.serve(term);
        self.controllers.scan_ms = self.now;
        self.at(self.now + 1, Event::Probe);
        Ok(())
    }

    /// The controllers that do not lead and that heartbeats of this broker reach.
    pub(crate) fn other_controllers(&self, broker: i64) -> BTreeSet<usize> {
        (0..self.controllers.tables.len())
            .filter(|index| self.controllers.leader != Some(*index) && !self.controllers.deaf.contains(&(*index, broker)))
            .collect()
    }
}

fn outcome(command: &Command, answer: &Answer) -> Outcome {
    match (&answer.refusal, &answer.set, command) {
        (None, Some(set), Command::AlterInSync { .. }) => Outcome::Members(members(set)),
        (None, Some(_), Command::Register { .. }) => Outcome::Registered,
        (None, Some(set), _) => Outcome::Told(told(set)),
        _ => Outcome::Refused,
    }
}
