//! The cluster and its events.

use std::collections::{BTreeMap, BTreeSet};

use broker::controlled::decide::Outcome;

use crate::Broken;
use crate::controllers::{Asked, Asker, Controllers};
use crate::faults::{Chaos, Repair};
use crate::host::{Flush, Host};
use crate::invariants::{Check, Oracle, Replica, Violation, converged};
use crate::network::{Network, Place};
use crate::random::Random;

/// How long faults happen.
const FAULTS_MS: i64 = 40_000;
/// How long the replicas may take to become equal then. A broker may have to catch up, and to wait for others.
const CONVERGES_MS: i64 = 90_000;

/// What happens.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    // At the controllers.
    Asked(Asker, Asked),
    Beat(usize, Asker),
    Decide(u64),
    ConnectionClosed(u64),
    Probe,
    Scan,
    Leads(usize),
    // In the process of a broker, with its incarnation.
    Wake(i64, u64),
    Answer(Asker, Outcome),
    TimedOut(Asker),
    RoleStopped(i64, u64, i64),
    RoleStarts(i64, u64, i64),
    Connect(i64, u64),
    Arrives(u64, usize),
    Synced(i64, u64, (i64, u64)),
    Sent(i64),
    // Elsewhere.
    KeepHouse,
    Produce,
    Consume,
    Fault,
    LeaderLost,
    Killed(i64),
    Restarts(i64),
    Stops(i64),
    Repair(Repair),
    Start(i64),
    Heal,
}

/// Times of the settings of the brokers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) timeout_ms: i64,
    pub(crate) patience_ms: i64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) now: i64,
    pub(crate) random: Random,
    pub(crate) broken: Option<Broken>,
    pub(crate) flush: Flush,
    pub(crate) rules: Times,
    pub(crate) chaos: Chaos,
    pub(crate) ends_ms: i64,
    pub(crate) hosts: BTreeMap<i64, Host>,
    pub(crate) powered: BTreeSet<i64>,
    pub(crate) controllers: Controllers,
    pub(crate) network: Network,
    pub(crate) oracle: Oracle,
    /// The last epoch that began with a documented data loss (ASYNC_FLUSH and a power cut). Logs that end in older epochs are not checked: they may
    /// have what was lost.
    pub(crate) data_loss_epoch: i32,
    /// The master has lost its whole log, as documented.
    pub(crate) is_log_lost: bool,
    pub(crate) next_number: u64,
    pub(crate) next_connection: u64,
    pub(crate) next_message: u32,
    events: BTreeMap<(i64, u64), Event>,
    next_event: u64,
    /// Of all events, in their order.
    fingerprint: u64,
    trace: Option<Vec<String>>,
}

/// What a seed did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The first broken invariant, with the time in milliseconds.
    pub violation: Option<(i64, Violation)>,
    /// Of all events: two runs of a seed have the same.
    pub fingerprint: u64,
    /// Number of events.
    pub events: u64,
    /// Messages that were acknowledged.
    pub acknowledged: usize,
    /// The last master epoch.
    pub epoch: i32,
}

/// Runs a seed.
#[must_use]
pub fn run(seed: u64, broken: Option<Broken>) -> Report {
    Cluster::new(seed, broken, false).run()
}

/// Runs a seed, and tells what happened.
#[must_use]
pub fn trace(seed: u64, broken: Option<Broken>) -> (Report, Vec<String>) {
    let mut cluster = Cluster::new(seed, broken, true);
    let report = cluster.run();
    (report, cluster.trace.unwrap_or_default())
}

impl Cluster {
    fn new(seed: u64, broken: Option<Broken>, is_traced: bool) -> Self {
        let mut random = Random::new(seed);
        let flush = if random.is(500) { Flush::Sync } else { Flush::Async };
        let brokers = random.between(2, 3);
        let chaos = Chaos::of(&mut random, flush);
        let controllers = if random.is(500) { 3 } else { 1 };
        let are_ours = random.is(700) && broken != Some(Broken::ResumesUnfenced);
        let mut cluster = Self {
            now: 0,
            broken,
            flush,
            rules: Times {
                timeout_ms: random.between(5, 15) * 100,
                patience_ms: random.between(5, 30) * 100,
            },
            chaos,
            ends_ms: FAULTS_MS,
            hosts: (1..=brokers).map(|id| (id, Host::new(id))).collect(),
            powered: (1..=brokers).collect(),
            controllers: Controllers::new(brokers, controllers, are_ours),
            network: Network::default(),
            oracle: Oracle::default(),
            data_loss_epoch: 0,
            is_log_lost: false,
            next_number: 0,
            next_connection: 0,
            next_message: 0,
            events: BTreeMap::new(),
            next_event: 0,
            fingerprint: 0,
            trace: is_traced.then(Vec::new),
            random,
        };
        cluster.note(|| format!("{brokers} brokers, {flush:?}, {chaos:?}"));
        for id in 1..=brokers {
            let at = cluster.random.between(1, 300);
            cluster.at(at, Event::Start(id));
        }
        for (at, event) in [
            (1, Event::Scan),
            (2, Event::KeepHouse),
            (500, Event::Produce),
            (600, Event::Consume),
            (4_000, Event::Fault),
            (FAULTS_MS, Event::Heal),
        ] {
            cluster.at(at, event);
        }
        cluster
    }

    pub(crate) fn at(&mut self, at: i64, event: Event) {
        self.next_event += 1;
        self.events.insert((at.max(self.now), self.next_event), event);
    }

    pub(crate) fn note(&mut self, what: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{now:>6} {}", what()));
        }
    }

    pub(crate) fn delay(&mut self, from: Place, to: Place) -> i64 {
        let is_slow = self.network.slow.contains(&from) || self.network.slow.contains(&to);
        match is_slow {
            true => self.random.time(400, 3_000),
            false => self.random.time(3, 1_000),
        }
    }

    pub(crate) fn is_powered(&self, id: i64) -> bool {
        self.powered.contains(&id)
    }

    fn run(&mut self) -> Report {
        let outcome = self.run_all();
        if let Err(violation) = &outcome {
            let hosts: Vec<String> = self
                .hosts
                .values()
                .map(|host| format!("broker {}, log ends at {}: {:?}", host.id, host.log.end(), host.process))
                .collect();
            hosts.into_iter().for_each(|host| self.note(|| host));
            self.note(|| format!("{violation:?}"));
        }
        Report {
            violation: outcome.err().map(|violation| (self.now, violation)),
            fingerprint: self.fingerprint,
            events: self.next_event,
            acknowledged: self.oracle.acknowledged.count,
            epoch: self.controllers.set().map_or(0, |set| set.master_epoch),
        }
    }

    fn run_all(&mut self) -> Check {
        let mut looked = FAULTS_MS + 2_000;
        while let Some(((at, number), event)) = self.events.pop_first() {
            self.now = at;
            if at >= looked {
                looked = at + 500;
                match self.is_converged() {
                    Ok(()) => return self.at_end(),
                    Err(why) if at > FAULTS_MS + CONVERGES_MS => return Err(why),
                    Err(_) => {}
                }
            }
            if let Some((id, is_current)) = self.host_of(&event) {
                if !is_current {
                    continue;
                }
                let stopped_until = self.hosts.get(&id).map_or(0, |host| host.stopped_until);
                if stopped_until > at {
                    // With its number, so that the order stays.
                    self.events.insert((stopped_until, number), event);
                    continue;
                }
            }
            self.mix(at as u64 ^ number << 32);
            self.happens(event)?;
        }
        Ok(())
    }

    fn mix(&mut self, value: u64) {
        self.fingerprint = (self.fingerprint ^ value).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
    }

    /// In which process something happens, and whether that still runs.
    fn host_of(&self, event: &Event) -> Option<(i64, bool)> {
        let runs = |id: &i64, incarnation: &u64| {
            let host = &self.hosts[id];
            Some((*id, host.process.is_some() && host.incarnation == *incarnation))
        };
        match event {
            Event::Wake(id, incarnation)
            | Event::RoleStopped(id, incarnation, _)
            | Event::RoleStarts(id, incarnation, _)
            | Event::Synced(id, incarnation, _) => runs(id, incarnation),
            Event::Answer(asker, _) | Event::TimedOut(asker) => runs(&asker.broker, &asker.incarnation),
            Event::Connect(id, role) => {
                let host = &self.hosts[id];
                let running = host.process.as_ref().and_then(|process| process.running.as_ref());
                Some((*id, running.is_some_and(|running| running.number == *role)))
            }
            Event::Arrives(connection, from) => {
                let known = self.network.connections.get(connection);
                known.map(|known| (known.sides[1 - from].broker, true))
            }
            Event::Sent(id) => Some((*id, true)),
            _ => None,
        }
    }

    fn happens(&mut self, event: Event) -> Check {
        match event {
            Event::Asked(asker, asked) => self.asked(asker, asked)?,
            Event::Beat(controller, asker) => self.beat(controller, asker),
            Event::Decide(command) => self.decide(command)?,
            Event::ConnectionClosed(connection) => self.connection_closed(connection),
            Event::Probe => self.probe(),
            Event::Scan => self.scan(),
            Event::Leads(next) => self.leads(next)?,
            Event::Wake(id, _) => {
                if let Some(process) = self.hosts.get_mut(&id).and_then(|host| host.process.as_mut()) {
                    process.wakes_ms = None;
                }
                self.drive(id);
            }
            Event::Answer(asker, outcome) => self.answered(asker, outcome)?,
            Event::TimedOut(asker) => self.answered(asker, Outcome::Unknown)?,
            Event::RoleStopped(id, _, lease_until) => self.role_stopped(id, lease_until),
            Event::RoleStarts(id, _, lease_until) => self.role_starts(id, lease_until)?,
            Event::Connect(id, _) => self.connect(id),
            Event::Arrives(connection, from) => self.arrives(connection, from)?,
            Event::Synced(id, _, end) => self.synced(id, end)?,
            Event::Sent(id) => self.sent(id)?,
            Event::KeepHouse => self.keep_house(),
            Event::Produce => self.produce(),
            Event::Consume => self.consume()?,
            Event::Fault => self.fault(),
            Event::LeaderLost => self.lose_leader(),
            Event::Killed(id) => self.kill(id),
            Event::Restarts(id) => self.restarts(id),
            Event::Stops(id) => self.stop_cleanly(id),
            Event::Repair(repair) => self.repair(&repair),
            Event::Start(id) => self.start(id),
            Event::Heal => self.heal(),
        }
        Ok(())
    }

    fn is_converged(&self) -> Check {
        if self.is_log_lost {
            // The master has lost all of its log, and its slaves refuse to follow it: the operator has to decide.
            return Ok(());
        }
        let replicas: Vec<Replica<'_>> = self
            .hosts
            .values()
            .map(|host| Replica {
                id: host.id,
                log: &host.log,
                epochs: &host.epochs,
                shown: self.shown(host.id),
            })
            .collect();
        converged(&replicas, self.controllers.set().map_or(0, |set| set.in_sync.len()))
    }

    fn at_end(&mut self) -> Check {
        if self.is_log_lost {
            return Ok(());
        }
        for host in self.hosts.values() {
            let who = format!("broker {}, at the end,", host.id);
            self.oracle.acknowledged.is_in(&who, &host.log.records)?;
            self.oracle.seen.is_in(&who, &host.log.records)?;
        }
        Ok(())
    }
}
