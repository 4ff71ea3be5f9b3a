//! The log on its way from a master to its slaves, as in `replication::{master, link, slave, align}`.

use replication::Epoch;

use crate::Broken;
use crate::cluster::{Cluster, Event};
use crate::host::{Duty, Flush, Link, Role};
use crate::invariants::Violation;
use crate::log::RECORD_BYTES;
use crate::network::{Connection, Said, Side};

/// Records of one block.
const BLOCK: usize = 8;
/// Silence after which a connection is closed.
pub(crate) const HOUSEKEEPING_MS: i64 = 4_000;
const HEARTBEAT_MS: i64 = 1_000;
const TELL_CONFIRMED_MS: i64 = 50;
const MAX_RETRY_MS: i64 = 5_000;

impl Cluster {
    pub(crate) fn connect_later(&mut self, id: i64, after: i64) {
        let at = self.now + after;
        let Some(host) = self.hosts.get_mut(&id) else { return };
        let role = host.roles;
        if let Some(slave) = host.role().and_then(Role::slave)
            && !std::mem::replace(&mut slave.connects, true)
        {
            self.at(at, Event::Connect(id, role));
        }
    }

    /// A slave connects to its master.
    pub(crate) fn connect(&mut self, id: i64) {
        let Some(slave) = self.hosts.get_mut(&id).and_then(|host| host.role()).and_then(Role::slave) else {
            return;
        };
        slave.connects = false;
        if slave.connection.is_some() {
            return;
        }
        let retry = slave.retry_ms;
        slave.retry_ms = (retry * 2).min(MAX_RETRY_MS);
        let Some(master) = slave.master else { return };
        let there = self.hosts.get_mut(&master).and_then(|host| host.role());
        let role = there.and_then(|role| role.master().is_some().then_some(role.number));
        let is_reachable = self.network.carries(id, master) && self.network.carries(master, id) && self.powered.contains(&master);
        let Some(role) = role.filter(|_| is_reachable) else {
            self.connect_later(id, retry);
            return;
        };
        let side = |broker, role| Side {
            broker,
            role,
            is_open: true,
            last_heard: self.now,
        };
        let own = self.hosts[&id].roles;
        let connection = self.network.open(Connection::new([side(id, own), side(master, role)]));
        if let Some(slave) = self.hosts.get_mut(&id).and_then(|host| host.role()).and_then(Role::slave) {
            slave.connection = Some(connection);
            slave.reported = -1;
        }
        self.say(connection, 0, Said::Hello);
    }

    /// One side says something.
    pub(crate) fn say(&mut self, connection: u64, from: usize, said: Said) {
        let Some(known) = self.network.connections.get(&connection) else {
            return;
        };
        let (own, other) = (known.sides[from].broker, known.sides[1 - from].broker);
        let at = self.now + self.delay(own, other);
        if let Some(known) = self.network.connections.get_mut(&connection) {
            let at = known.send(from, said, at);
            self.at(at, Event::Arrives(connection, from));
        }
    }

    /// Closes one side of a connection; the other one hears of it.
    pub(crate) fn close(&mut self, connection: u64, side: usize) {
        self.hang_up(connection, side);
        self.say(connection, side, Said::Closed);
    }

    /// Closes one side of a connection.
    pub(crate) fn hang_up(&mut self, connection: u64, side: usize) {
        let Some(known) = self.network.connections.get_mut(&connection) else {
            return;
        };
        if !std::mem::replace(&mut known.sides[side].is_open, false) {
            return;
        }
        let Side { broker, role: number, .. } = known.sides[side];
        if known.is_over() {
            self.network.connections.remove(&connection);
        }
        let now = self.now;
        let Some((role, log, _)) = self.hosts.get_mut(&broker).and_then(|host| host.parts()) else {
            return;
        };
        if role.number != number {
            return;
        }
        match &mut role.duty {
            Duty::Master(master) => {
                if let Some(link) = master.links.remove(&connection) {
                    role.change(log, |set| set.disconnect(link.peer, connection, now));
                }
            }
            Duty::Slave(slave) if slave.connection == Some(connection) => {
                slave.connection = None;
                let retry = slave.retry_ms;
                self.connect_later(broker, retry);
            }
            Duty::Slave(_) => {}
        }
    }

    /// The broker's sides of all connections are closed. `is_told`: the others hear of it.
    pub(crate) fn close_all(&mut self, id: i64, is_told: bool) {
        let all = self.network.connections.iter();
        let own: Vec<(u64, usize)> = all
            .flat_map(|(connection, known)| [0, 1].map(|side| (*connection, side, known.sides[side])))
            .filter(|(_, _, side)| side.broker == id && side.is_open)
            .map(|(connection, side, _)| (connection, side))
            .collect();
        for (connection, side) in own {
            if is_told {
                self.close(connection, side);
            } else {
                self.hang_up(connection, side);
            }
        }
    }

    /// Something has arrived that `from` has said.
    pub(crate) fn arrives(&mut self, connection: u64, from: usize) -> Result<(), Violation> {
        let (now, to) = (self.now, 1 - from);
        let Some(known) = self.network.connections.get(&connection) else {
            return Ok(());
        };
        let (sender, receiver) = (known.sides[from].broker, known.sides[to].broker);
        if !self.network.carries(sender, receiver) {
            self.at(now + 20, Event::Arrives(connection, from));
            return Ok(());
        }
        let Some(known) = self.network.connections.get_mut(&connection) else {
            return Ok(());
        };
        let Some(said) = known.arrived(from, now) else { return Ok(()) };
        known.sides[to].last_heard = now;
        let side = known.sides[to];
        let is_there = self
            .hosts
            .get_mut(&side.broker)
            .and_then(|host| host.role())
            .is_some_and(|role| role.number == side.role);
        if !side.is_open || !is_there {
            return Ok(());
        }
        let is_kept = match (said, to) {
            (Said::Closed, _) => false,
            (said, 1) => self.master_hears(connection, receiver, sender, said)?,
            (said, _) => self.slave_hears(connection, receiver, said)?,
        };
        if !is_kept {
            self.close(connection, to);
        }
        Ok(())
    }

    /// False if the connection is to end.
    fn master_hears(&mut self, connection: u64, id: i64, peer: i64, said: Said) -> Result<bool, Violation> {
        let now = self.now;
        let Some(host) = self.hosts.get_mut(&id) else { return Ok(false) };
        if let Said::Hello = said {
            let (epochs, end) = (host.epochs.clone(), host.log.end());
            self.say(connection, 1, Said::Epochs { epochs, end });
            return Ok(true);
        }
        let (Said::Report(offset), Some((role, log, _))) = (said, host.parts()) else {
            return Ok(false);
        };
        let end = log.end();
        let Some(master) = role.master() else { return Ok(false) };
        match master.links.get(&connection) {
            None if offset > end => return Ok(false),
            None => {
                let link = Link {
                    peer,
                    sent: offset,
                    told: i64::MIN,
                    last_sent: now,
                };
                master.links.insert(connection, link);
                role.change(log, |set| set.connect(peer, connection, offset, false, now));
            }
            Some(link) if offset > link.sent => return Ok(false),
            Some(_) => {
                role.change(log, |set| set.acknowledge(peer, connection, offset, end, now));
            }
        }
        self.settle(id)?;
        self.send_log(id, connection);
        Ok(true)
    }

    /// Sends what a slave lacks, or what is confirmed.
    fn send_log(&mut self, id: i64, connection: u64) {
        let now = self.now;
        loop {
            let Some(host) = self.hosts.get_mut(&id) else { return };
            let epochs = host.epochs.clone();
            let Some((role, log, _)) = host.parts() else { return };
            let confirmed = role.confirmed;
            let Some(link) = role.master().and_then(|master| master.links.get_mut(&connection)) else {
                return;
            };
            let Some((epoch, next)) = epochs.at(link.sent) else { return };
            let records = log.read(link.sent, next.unwrap_or(i64::MAX), BLOCK).to_vec();
            let is_due = now - link.last_sent >= HEARTBEAT_MS || confirmed > link.told && now - link.last_sent >= TELL_CONFIRMED_MS;
            if records.is_empty() && !is_due {
                return;
            }
            let (offset, count) = (link.sent, records.len());
            link.sent += count as i64 * RECORD_BYTES;
            (link.told, link.last_sent) = (confirmed, now);
            let block = Said::Block {
                offset,
                records,
                epoch,
                confirmed,
            };
            self.say(connection, 1, block);
            if count == 0 {
                return;
            }
        }
    }

    fn slave_hears(&mut self, connection: u64, id: i64, said: Said) -> Result<bool, Violation> {
        let (flush, broken) = (self.flush, self.broken);
        let Some((role, log, epochs)) = self.hosts.get_mut(&id).and_then(|host| host.parts()) else {
            return Ok(false);
        };
        let Some(slave) = role.slave().filter(|slave| slave.connection == Some(connection)) else {
            return Ok(false);
        };
        match said {
            Said::Epochs {
                epochs: others,
                end: master_end,
            } => {
                let end = log.end();
                let Ok(mut common) = epochs.cut(0, end, &others, master_end) else {
                    return Ok(false);
                };
                if broken == Some(Broken::CutsNothing) {
                    common = end;
                }
                log.truncate(common);
                epochs.is_cut(0, common);
                slave.aligned_at = Some(common);
                role.bound = role.bound.min(common);
                role.confirmed = role.confirmed.min(common);
                self.note(|| format!("broker {id} cuts its log from {end} to {common}"));
                self.report(id);
                Ok(true)
            }
            Said::Block {
                offset,
                records,
                epoch,
                confirmed,
            } => {
                if offset != log.end() || !epochs.learn(Epoch { ..epoch }) {
                    return Ok(false);
                }
                log.records.extend_from_slice(&records);
                if !records.is_empty() {
                    slave.retry_ms = 100;
                }
                let is_aligned = slave.aligned_at.is_some_and(|at| confirmed >= at);
                let was_aligned = slave.is_aligned;
                slave.is_aligned |= is_aligned;
                role.bound = role.bound.max(confirmed);
                role.publish(log, flush, broken);
                if is_aligned && !was_aligned {
                    // It has what the in-sync set has.
                    if let Some(host) = self.hosts.get_mut(&id) {
                        host.accepts_data_loss = false;
                    }
                }
                self.sync_later(id);
                self.report(id);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// A slave reports up to where it has the log, if that is news.
    pub(crate) fn report(&mut self, id: i64) {
        let (flush, broken) = (self.flush, self.broken);
        let Some((role, log, _)) = self.hosts.get_mut(&id).and_then(|host| host.parts()) else {
            return;
        };
        let Some(slave) = role.slave() else { return };
        let Some(connection) = slave.connection else { return };
        let end = match flush {
            Flush::Sync if broken != Some(Broken::ReportsEarly) => log.synced(),
            _ => log.end(),
        };
        if slave.aligned_at.is_some() && slave.reported != end {
            slave.reported = end;
            self.say(connection, 0, Said::Report(end));
        }
    }

    /// Heartbeats of connections, and those that are silent for too long.
    pub(crate) fn keep_house(&mut self) {
        let now = self.now;
        let mut silent = Vec::new();
        let mut masters = Vec::new();
        for (connection, known) in &self.network.connections {
            for side in 0..2 {
                let host = &self.hosts[&known.sides[side].broker];
                if known.sides[side].is_open && now - known.sides[side].last_heard > HOUSEKEEPING_MS && now >= host.stopped_until {
                    silent.push((*connection, side));
                }
            }
            if known.sides[1].is_open && now >= self.hosts[&known.sides[1].broker].stopped_until {
                masters.push((known.sides[1].broker, *connection));
            }
        }
        silent.into_iter().for_each(|(connection, side)| self.close(connection, side));
        masters
            .into_iter()
            .for_each(|(master, connection)| self.send_log(master, connection));
        // Reports are heartbeats, too.
        let slaves: Vec<i64> = self.hosts.keys().copied().collect();
        for id in slaves {
            if now < self.hosts[&id].stopped_until || now % 1_000 >= 50 {
                continue;
            }
            if let Some(slave) = self.hosts.get_mut(&id).and_then(|host| host.role()).and_then(Role::slave) {
                slave.reported = -1;
                self.report(id);
            }
        }
        self.at(now + 50, Event::KeepHouse);
    }

    /// The master's log has grown.
    pub(crate) fn wake_links(&mut self, id: i64) {
        let Some(role) = self.hosts.get_mut(&id).and_then(|host| host.role()) else {
            return;
        };
        let links: Vec<u64> = role.master().map_or_else(Vec::new, |master| master.links.keys().copied().collect());
        links.into_iter().for_each(|connection| self.send_log(id, connection));
    }

    /// Something is to be synced.
    pub(crate) fn sync_later(&mut self, id: i64) {
        let takes = match self.flush {
            Flush::Sync => self.random.time(5, 800),
            Flush::Async => self.random.between(200, 5_000),
        };
        let Some(host) = self.hosts.get_mut(&id) else { return };
        let (incarnation, end) = (host.incarnation, (host.log.end(), host.log.cuts));
        let is_behind = host.log.synced() < end.0;
        if let Some(process) = host.process.as_mut().filter(|process| is_behind && !process.is_syncing) {
            process.is_syncing = true;
            self.at(self.now + takes, Event::Synced(id, incarnation, end));
        }
    }

    pub(crate) fn synced(&mut self, id: i64, (end, cuts): (i64, u64)) -> Result<(), Violation> {
        if let Some(host) = self.hosts.get_mut(&id) {
            if host.log.cuts == cuts {
                host.log.sync(end);
            }
            if let Some(process) = &mut host.process {
                process.is_syncing = false;
            }
        }
        self.settle(id)?;
        self.report(id);
        self.sync_later(id);
        Ok(())
    }
}
