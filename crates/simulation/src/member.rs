//! The process of a broker: its threads `controlled` and `member`.

use std::collections::{BTreeMap, VecDeque};

use broker::controlled::decide::{Change, Decisions, MAY_BE_DONE_MS, Next, Outcome, Request, Rules, Silence, Told, Wanted, change_of_role};
use replication::InSync;

use crate::Broken;
use crate::cluster::{Cluster, Event};
use crate::controllers::{Asked, Asker, id_of};
use crate::host::{Body, Duty, Flush, Master, Phase, Process, Role, Slave};
use crate::invariants::Violation;
use crate::network::CONTROLLERS;
use crate::replicating::HOUSEKEEPING_MS;

/// As in the broker: heartbeats in the timeout, time between looks at the in-sync set, pause before another attempt.
const BEATS: i64 = 5;
const LOOK_MS: i64 = 100;
const RETRY_MS: i64 = 200;

impl Cluster {
    /// Starts the process of a broker.
    pub(crate) fn start(&mut self, id: i64) {
        let (now, flush, timeout_ms, patience_ms) = (self.now, self.flush, self.rules.timeout_ms, self.rules.patience_ms);
        self.next_connection += 1;
        let connection = self.next_connection;
        let Some(host) = self.hosts.get_mut(&id) else { return };
        if host.process.is_some() || !self.powered.contains(&id) {
            return;
        }
        host.incarnation += 1;
        host.stopped_until = 0;
        let is_unknown = host.abort.is_some_and(|boot| boot != host.boot);
        let last = host.epochs.last().filter(|_| is_unknown);
        let wait_ms = timeout_ms * 2 + 5_000;
        let has_lost = flush == Flush::Async;
        let phase = match last {
            Some(last) => Phase::Silent(Silence {
                id,
                epoch: last.number,
                has_lost,
                forgotten_ms: now + HOUSEKEEPING_MS + MAY_BE_DONE_MS,
                until_ms: now + wait_ms,
                in_sync_until_ms: now + wait_ms + patience_ms + HOUSEKEEPING_MS + MAY_BE_DONE_MS,
                beat_ms: if has_lost { now + wait_ms } else { now },
                beat_every_ms: wait_ms,
            }),
            None => Phase::Registers,
        };
        let rules = Rules {
            id,
            timeout_ms,
            patience_ms,
            is_learner: false,
        };
        let epoch = host.epochs.last().map_or(0, |last| last.number);
        self.note(|| format!("broker {id} starts, silent: {}, {rules:?}", last.is_some()));
        let Some(host) = self.hosts.get_mut(&id) else { return };
        host.process = Some(Process {
            connection,
            phase,
            asked: None,
            beat_ms: now,
            look_ms: now,
            is_poked: false,
            wakes_ms: None,
            heard: VecDeque::new(),
            starts: None,
            running: None,
            progress: (epoch, 0),
            is_syncing: false,
            is_told: false,
            is_leaving: false,
        });
        self.drive(id);
    }

    /// The thread `controlled` goes on.
    pub(crate) fn drive(&mut self, id: i64) {
        let (now, broken) = (self.now, self.broken);
        let Some(host) = self.hosts.get_mut(&id) else { return };
        let Some(process) = &mut host.process else { return };
        if process.asked.is_some() {
            return;
        }
        let mut wakes = now + RETRY_MS;
        let asked = match &mut process.phase {
            Phase::Silent(_) | Phase::Registers if now < process.beat_ms => {
                wakes = process.beat_ms;
                None
            }
            Phase::Silent(_) => {
                process.beat_ms = now + RETRY_MS;
                Some(Asked::Decided(Request::Told))
            }
            Phase::Registers => {
                process.beat_ms = now + RETRY_MS;
                Some(Asked::Register)
            }
            Phase::Decides(decisions) => {
                let mut request = None;
                if process.is_poked || now >= process.beat_ms {
                    process.is_poked = false;
                    process.beat_ms = process.beat_ms.max(now + 1 - self.rules.timeout_ms / BEATS) + self.rules.timeout_ms / BEATS;
                    request = Some(decisions.beat(now));
                } else if now >= process.look_ms {
                    process.look_ms = now + LOOK_MS;
                    let mut body = Body {
                        running: &mut process.running,
                        log: &host.log,
                        now,
                        broken,
                        is_leaving: process.is_leaving,
                    };
                    request = decisions.look(&mut body, now);
                }
                wakes = process.beat_ms.min(process.look_ms);
                request.map(Asked::Decided)
            }
        };
        match asked {
            Some(asked) => self.ask(id, asked),
            None => self.wake_at(id, wakes),
        }
    }

    fn wake_at(&mut self, id: i64, at: i64) {
        let Some(host) = self.hosts.get_mut(&id) else { return };
        let incarnation = host.incarnation;
        if let Some(process) = &mut host.process
            && process.wakes_ms.is_none_or(|wakes| wakes > at)
        {
            process.wakes_ms = Some(at);
            self.at(at, Event::Wake(id, incarnation));
        }
    }

    /// Sends a request to the controller that leads.
    fn ask(&mut self, id: i64, asked: Asked) {
        self.next_number += 1;
        let number = self.next_number;
        let Some(host) = self.hosts.get_mut(&id) else { return };
        let incarnation = host.incarnation;
        let end = host.log.end();
        let epoch = host.epochs.last().map_or(0, |last| last.number);
        let Some(process) = &mut host.process else { return };
        if process.running.is_some() {
            process.progress = (epoch, end);
        }
        process.asked = Some(number);
        let asker = Asker {
            broker: id,
            incarnation,
            number,
            connection: process.connection,
            progress: process.progress,
        };
        if self.broken == Some(Broken::ResumesWithItsSet)
            && let Asked::Decided(Request::Alter { members, replaces, .. }) = &asked
            && self.hosts[&id].process.as_ref().is_some_and(|process| process.running.is_none())
            && members.len() == 1
        {
            let replaces = *replaces;
            let members = self.controllers.set().map(|set| set.in_sync.clone()).unwrap_or_default();
            let members = replication::Members {
                ids: members,
                epoch: replaces,
            };
            self.at(self.now + 1, Event::Answer(asker, Outcome::Members(members)));
            return;
        }
        if self.network.carries(id, CONTROLLERS) {
            let is_beat = matches!(asked, Asked::Decided(Request::Beat));
            for other in self.other_controllers(id) {
                if is_beat && !self.random.is(self.chaos.loss) {
                    let at = self.now + self.delay(id, CONTROLLERS);
                    self.at(at, Event::Beat(other, asker));
                }
            }
            if !self.random.is(self.chaos.loss) {
                let comes_in = matches!(&asked, Asked::Decided(Request::Alter { members, .. }) if members.len() > 1);
                let is_late = comes_in.then(|| self.overtake(id)).flatten();
                let takes = is_late.unwrap_or_else(|| self.delay(id, CONTROLLERS));
                self.at(self.now + takes, Event::Asked(asker, asked));
            }
        }
        self.at(self.now + self.rules.timeout_ms / 3, Event::TimedOut(asker));
    }

    /// The answer to a request, or none in time.
    pub(crate) fn answered(&mut self, asker: Asker, outcome: Outcome) -> Result<(), Violation> {
        let (id, now, broken) = (asker.broker, self.now, self.broken);
        let Some(host) = self.hosts.get_mut(&id) else { return Ok(()) };
        let Some(process) = &mut host.process else { return Ok(()) };
        if process.asked != Some(asker.number) {
            return Ok(());
        }
        process.asked = None;
        match &mut process.phase {
            Phase::Silent(silence) => {
                if let Outcome::Told(told) = &outcome {
                    let resumes = match broken {
                        Some(Broken::ResumesItsEpoch) => told.is_master(id) && (!silence.has_lost || now >= silence.until_ms),
                        Some(Broken::IsHeardInSync) => told.master.as_ref().is_some_and(|(master, _)| *master != id),
                        _ => false,
                    };
                    if resumes || silence.is_over(told, now) {
                        let is_in_sync = told.members.ids.contains(&id);
                        host.accepts_data_loss = silence.has_lost && is_in_sync && broken != Some(Broken::IsHeardInSync);
                        process.phase = Phase::Registers;
                        process.beat_ms = now;
                    } else if silence.must_beat(told, now) {
                        self.ask(id, Asked::Decided(Request::Beat));
                    }
                }
            }
            Phase::Registers if outcome == Outcome::Registered => {
                let rules = Rules {
                    id,
                    is_learner: false,
                    timeout_ms: self.rules.timeout_ms,
                    patience_ms: self.rules.patience_ms,
                };
                process.phase = Phase::Decides(Decisions::new(rules));
                process.beat_ms = now;
            }
            Phase::Registers => {}
            Phase::Decides(decisions) => {
                let mut body = Body {
                    running: &mut process.running,
                    log: &host.log,
                    now,
                    broken,
                    is_leaving: process.is_leaving,
                };
                let is_told = matches!(outcome, Outcome::Told(_));
                let waited_ms = match broken {
                    Some(Broken::ResumesUnfenced) if process.is_told && body.running.is_none() => MAY_BE_DONE_MS + 1,
                    _ => 0,
                };
                process.is_told |= is_told;
                match decisions.answered(outcome, &mut body, now + waited_ms) {
                    Next::Ask(request) => self.ask(id, Asked::Decided(request)),
                    Next::Become(told, lease_until) => {
                        process.heard.push_back((told, lease_until));
                        self.hear(id);
                    }
                    Next::Rest => {}
                }
                self.settle(id)?;
            }
        }
        self.drive(id);
        Ok(())
    }

    /// The thread `member` takes what it has been told.
    pub(crate) fn hear(&mut self, id: i64) {
        loop {
            let Some(host) = self.hosts.get_mut(&id) else { return };
            let Some(process) = &mut host.process else { return };
            if process.starts.is_some() {
                return;
            }
            let Some((told, lease_until)) = process.heard.pop_front() else {
                return;
            };
            match change_of_role(id, process.running.as_ref().map(Role::runs_as), &told) {
                Change::Stay => {}
                Change::Follow(master) => self.follow(id, told.epoch, master.as_deref().map(id_of)),
                Change::StartAs(wanted) => self.start_as(id, told, wanted, lease_until),
            }
        }
    }

    fn follow(&mut self, id: i64, epoch: i32, master: Option<i64>) {
        let Some(role) = self.hosts.get_mut(&id).and_then(|host| host.role()) else {
            return;
        };
        role.epoch = epoch;
        if let Some(slave) = role.slave().filter(|slave| slave.master != master) {
            slave.master = master;
            slave.retry_ms = 100;
            let connection = slave.connection.take();
            if let Some(connection) = connection {
                self.close(connection, 0);
            }
            self.connect_later(id, 1);
        }
    }

    fn start_as(&mut self, id: i64, told: Told, wanted: Wanted, lease_until: i64) {
        self.note(|| format!("broker {id} becomes {wanted:?} of epoch {}", told.epoch));
        self.stop_role(id);
        let takes = self.random.time(30, 3_000);
        let Some(host) = self.hosts.get_mut(&id) else { return };
        let incarnation = host.incarnation;
        if let Some(process) = &mut host.process {
            process.starts = Some((told, wanted));
            self.at(self.now + takes, Event::RoleStopped(id, incarnation, lease_until));
        }
    }

    /// Ends the role cleanly: its log is synced.
    pub(crate) fn stop_role(&mut self, id: i64) {
        self.close_all(id, true);
        let Some(host) = self.hosts.get_mut(&id) else { return };
        let Some(process) = &mut host.process else { return };
        if process.running.take().is_some() {
            process.progress = (host.epochs.last().map_or(0, |last| last.number), host.log.end());
            host.log.sync(host.log.end());
            host.abort = None;
        }
    }

    /// The last role has ended; the next one begins.
    pub(crate) fn role_stopped(&mut self, id: i64, lease_until: i64) {
        let takes = self.random.time(30, 3_000);
        let incarnation = self.hosts[&id].incarnation;
        self.at(self.now + takes, Event::RoleStarts(id, incarnation, lease_until));
    }

    pub(crate) fn role_starts(&mut self, id: i64, lease_until: i64) -> Result<(), Violation> {
        let (now, flush) = (self.now, self.flush);
        let Some(host) = self.hosts.get_mut(&id) else { return Ok(()) };
        let Some((told, wanted)) = host.process.as_mut().and_then(|process| process.starts.take()) else {
            return Ok(());
        };
        host.abort = Some(host.boot);
        host.roles += 1;
        if flush == Flush::Sync {
            // Recovery syncs.
            host.log.sync(host.log.end());
        }
        let end = host.log.end();
        let duty = match &wanted {
            Wanted::Master { epoch } => {
                let begin = host.epochs.begin_as_master(*epoch, 0, end);
                Duty::Master(Master {
                    set: InSync::new(id, begin, told.members.clone(), now),
                    lease_until,
                    waits: VecDeque::new(),
                    links: BTreeMap::new(),
                })
            }
            Wanted::Slave { master } => Duty::Slave(Slave {
                master: master.as_deref().map(id_of),
                connection: None,
                aligned_at: None,
                is_aligned: false,
                reported: -1,
                retry_ms: 100,
                connects: false,
            }),
        };
        let mut role = Role {
            number: host.roles,
            epoch: told.epoch,
            bound: end,
            confirmed: end,
            duty,
        };
        role.change(&host.log, |_| ());
        if let Some(process) = &mut host.process {
            process.running = Some(role);
            process.is_poked = true;
        }
        self.note(|| {
            format!(
                "broker {id} is {wanted:?} of epoch {}, in sync {:?}, log ends at {end}",
                told.epoch, told.members
            )
        });
        match wanted {
            Wanted::Master { epoch } => {
                self.master_begins(id, epoch)?;
                self.settle(id)?;
            }
            Wanted::Slave { .. } => self.connect_later(id, 1),
        }
        self.hear(id);
        self.drive(id);
        Ok(())
    }

    fn master_begins(&mut self, id: i64, epoch: i32) -> Result<(), Violation> {
        let are_all_empty = self.hosts.values().all(|host| host.log.end() == 0);
        let Some(host) = self.hosts.get_mut(&id) else { return Ok(()) };
        let records = &host.log.records;
        if std::mem::take(&mut host.accepts_data_loss) {
            self.oracle.acknowledged.discard_lost(records);
            self.oracle.growing.discard_lost(records);
            self.oracle.seen.discard_lost(records);
            self.data_loss_epoch = epoch;
        }
        self.is_log_lost |= records.is_empty() && !are_all_empty;
        self.oracle.leaders.begins(epoch, id)?;
        self.oracle
            .acknowledged
            .is_in(&format!("broker {id}, which becomes the master of epoch {epoch},"), records)?;
        self.oracle.growing.begins(id, records)
    }
}
