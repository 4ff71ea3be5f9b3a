//! What goes wrong, and how often.

use crate::cluster::{Cluster, Event};
use crate::host::Flush;
use crate::log::RECORD_BYTES;
use crate::network::{CONTROLLERS, Place};
use crate::random::Random;

/// Time in which healthy controllers agree on a command.
const AGREE_MS: i64 = 10;

/// How a seed treats its cluster.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chaos {
    /// Longest time between two faults.
    pause: i64,
    /// Messages of a thousand that are lost between brokers and controllers.
    pub(crate) loss: i64,
    /// Longest time between two sends.
    pub(crate) pace: i64,
    /// Time in which the controllers agree on most commands.
    pub(crate) agree: i64,
    /// Of a thousand connections of processes that are killed, those that the controllers do not see closed.
    lingers: i64,
    /// Of a thousand changes of an in-sync set by which replicas come in, those after which the master is killed ([`Cluster::overtake`]).
    overtakes: i64,
    /// Weights of the faults.
    kills: i64,
    stops: i64,
    cuts: i64,
    powers: i64,
    leaders: i64,
    breaks: i64,
    clean: i64,
}

impl Chaos {
    pub(crate) fn of(random: &mut Random, flush: Flush) -> Self {
        let mut weight = || if random.is(300) { 0 } else { random.between(1, 10) };
        let [kills, stops, cuts, leaders, breaks, clean] = std::array::from_fn(|_| weight());
        let is_power = flush == Flush::Sync || random.is(500);
        Self {
            kills,
            stops,
            cuts,
            leaders,
            breaks,
            clean,
            powers: if is_power { random.between(1, 10) } else { 0 },
            pause: random.between(300, 6_000),
            loss: if random.is(500) { random.between(0, 100) } else { 0 },
            pace: random.between(10, 200),
            agree: if random.is(300) { random.between(100, 1_500) } else { AGREE_MS },
            overtakes: if random.is(200) { random.between(50, 500) } else { 0 },
            lingers: if random.is(300) { random.between(100, 900) } else { 0 },
        }
    }
}

/// The end of one fault.
#[derive(Clone, Debug)]
pub(crate) enum Repair {
    Link(Place, Place),
    Slow(Place),
    Power(i64),
    Deaf(usize, i64),
}

impl Cluster {
    /// Something goes wrong.
    pub(crate) fn fault(&mut self) {
        if self.now >= self.ends_ms {
            return;
        }
        let chaos = self.chaos;
        let id = self.random.between(1, self.hosts.len() as i64);
        let weights = [
            chaos.kills,
            chaos.stops,
            chaos.cuts,
            chaos.powers,
            chaos.leaders,
            chaos.breaks,
            chaos.clean,
            1,
        ];
        let mut pick = self.random.between(0, weights.iter().sum::<i64>() - 1);
        let kind = weights.iter().position(|weight| {
            pick -= weight;
            pick < 0
        });
        match kind {
            Some(0) => self.kill(id),
            Some(1) => self.stop_for_a_time(id),
            Some(2) => self.cut_links(id),
            Some(3) => self.cut_power(id),
            Some(4) if self.random.is(300) => self.deafen(id),
            Some(4) => self.lose_leader(),
            Some(5) => self.break_connection(),
            Some(6) => self.restart_cleanly(id),
            _ => {
                let place = self.random.between(0, self.hosts.len() as i64);
                self.network.slow.insert(place);
                let at = self.now + self.random.between(500, 5_000);
                self.at(at, Event::Repair(Repair::Slow(place)));
            }
        }
        let at = self.now + self.random.between(1, chaos.pause);
        self.at(at, Event::Fault);
    }

    pub(crate) fn kill(&mut self, id: i64) {
        if self.hosts[&id].process.is_none() {
            return;
        }
        self.note(|| format!("broker {id} is killed"));
        self.end_process(id, true);
        self.start_later(id);
    }

    /// What a master asks for is on its way for long. Meanwhile it is killed and starts again, before the controllers see that, cut off from the
    /// other brokers; and is killed again. Returns how long its request takes, if this happens.
    pub(crate) fn overtake(&mut self, id: i64) -> Option<i64> {
        if self.now >= self.ends_ms || !self.random.is(self.chaos.overtakes) {
            return None;
        }
        self.at(self.now + 1, Event::Restarts(id));
        let cut_until = self.now + self.random.between(500, 4_000);
        let others: Vec<i64> = self.hosts.keys().copied().filter(|other| *other != id).collect();
        for other in others {
            self.network.cut(id, other);
            self.network.cut(other, id);
            self.at(cut_until, Event::Repair(Repair::Link(id, other)));
            self.at(cut_until, Event::Repair(Repair::Link(other, id)));
        }
        let killed_again = self.now + self.random.between(100, 2_000);
        self.at(killed_again, Event::Killed(id));
        Some(self.random.between(20, 1_000))
    }

    /// A broker is killed and starts again at once; the controllers do not see its connection closed.
    pub(crate) fn restarts(&mut self, id: i64) {
        if self.hosts[&id].process.is_none() {
            return;
        }
        self.note(|| format!("broker {id} is killed, and starts again"));
        self.close_all(id, true);
        if let Some(host) = self.hosts.get_mut(&id) {
            host.process = None;
        }
        let at = self.now + self.random.between(1, 20);
        self.at(at, Event::Start(id));
    }

    /// The process is gone. `is_told`: peers hear that its connections are closed.
    fn end_process(&mut self, id: i64, is_told: bool) {
        self.close_all(id, is_told);
        let Some(process) = self.hosts.get_mut(&id).and_then(|host| host.process.take()) else {
            return;
        };
        if is_told && self.network.carries(id, CONTROLLERS) && !self.random.is(self.chaos.lingers) {
            let at = self.now + self.delay(id, CONTROLLERS);
            self.at(at, Event::ConnectionClosed(process.connection));
        }
    }

    fn start_later(&mut self, id: i64) {
        let after = match self.random.between(0, 3) {
            0 => self.random.between(1, 50),
            1 => self.random.between(50, 1_000),
            _ => self.random.between(500, 12_000),
        };
        self.at(self.now + after, Event::Start(id));
    }

    fn stop_for_a_time(&mut self, id: i64) {
        let time = self.random.between(20, 6_000);
        self.note(|| format!("broker {id} is stopped for {time} ms"));
        let now = self.now;
        if let Some(host) = self.hosts.get_mut(&id).filter(|host| host.process.is_some()) {
            host.stopped_until = host.stopped_until.max(now + time);
        }
    }

    /// A broker is to stop. A master hands over before, or is stopped on the way.
    fn restart_cleanly(&mut self, id: i64) {
        if self.now < self.hosts[&id].stopped_until {
            return;
        }
        let Some(process) = self.hosts.get_mut(&id).and_then(|host| host.process.as_mut()) else {
            return;
        };
        process.is_leaving = true;
        let at = self.now + self.random.between(1, 1_500);
        self.note(|| format!("broker {id} is to stop"));
        self.at(at, Event::Stops(id));
    }

    pub(crate) fn stop_cleanly(&mut self, id: i64) {
        if self.hosts[&id].process.is_none() || self.now < self.hosts[&id].stopped_until {
            return;
        }
        self.note(|| format!("broker {id} shuts down"));
        self.stop_role(id);
        self.end_process(id, true);
        self.start_later(id);
    }

    /// The heartbeats of a broker, mostly the master, do not come to one controller. Often the leader is lost meanwhile.
    fn deafen(&mut self, id: i64) {
        let master = self.controllers.set().and_then(|set| set.master);
        let id = master.filter(|_| self.random.is(800)).unwrap_or(id);
        let others: Vec<usize> = self.other_controllers(id).into_iter().collect();
        if others.is_empty() {
            return;
        }
        let deaf = others[self.random.between(0, others.len() as i64 - 1) as usize];
        self.note(|| format!("controllers: {deaf} does not hear broker {id}"));
        self.controllers.deaf.insert((deaf, id));
        let at = self.now + self.random.between(500, 6_000);
        self.at(at, Event::Repair(Repair::Deaf(deaf, id)));
        if self.random.is(500) {
            let at = self.now + self.random.between(500, 4_000);
            self.at(at, Event::LeaderLost);
        }
    }

    fn cut_power(&mut self, id: i64) {
        self.note(|| format!("broker {id} loses power"));
        self.end_process(id, false);
        let Some(host) = self.hosts.get_mut(&id) else { return };
        if !self.powered.remove(&id) {
            return;
        }
        host.boot += 1;
        host.stopped_until = 0;
        let lost = (host.log.end() - host.log.synced()) / RECORD_BYTES;
        let kept = host.log.synced() + self.random.between(0, lost) * RECORD_BYTES;
        host.log.truncate(kept);
        // What a start finds is on the device.
        host.log.sync(kept);
        let at = self.now + self.random.between(100, 10_000);
        self.at(at, Event::Repair(Repair::Power(id)));
    }

    fn cut_links(&mut self, id: i64) {
        let others: Vec<Place> = (0..=self.hosts.len() as i64).filter(|other| *other != id).collect();
        let other = others[self.random.between(0, others.len() as i64 - 1) as usize];
        let pairs = match self.random.between(0, 3) {
            0 => vec![(id, other)],
            1 => vec![(other, id)],
            2 => vec![(id, other), (other, id)],
            _ => others.iter().flat_map(|other| [(id, *other), (*other, id)]).collect(),
        };
        self.note(|| format!("cut {pairs:?}"));
        let at = self.now + self.random.between(50, 8_000);
        for (from, to) in pairs {
            self.network.cut(from, to);
            self.at(at, Event::Repair(Repair::Link(from, to)));
        }
    }

    /// One side, or both, see a connection end.
    fn break_connection(&mut self) {
        let all: Vec<u64> = self.network.connections.keys().copied().collect();
        if all.is_empty() {
            return;
        }
        let connection = all[self.random.between(0, all.len() as i64 - 1) as usize];
        let side = self.random.between(0, 1) as usize;
        self.note(|| format!("connection {connection} breaks at side {side}"));
        self.hang_up(connection, side);
        if self.random.is(500) {
            self.hang_up(connection, 1 - side);
        }
    }

    pub(crate) fn repair(&mut self, repair: &Repair) {
        match repair {
            Repair::Link(from, to) => self.network.heal(*from, *to),
            Repair::Deaf(controller, broker) => {
                self.controllers.deaf.remove(&(*controller, *broker));
            }
            Repair::Slow(place) => {
                self.network.slow.remove(place);
            }
            Repair::Power(id) => {
                self.powered.insert(*id);
                self.start_later(*id);
            }
        }
    }

    /// All faults end.
    pub(crate) fn heal(&mut self) {
        self.note(|| "all faults end".to_owned());
        self.network.heal_all();
        self.controllers.deaf.clear();
        self.chaos.loss = 0;
        self.chaos.agree = AGREE_MS;
        let ids: Vec<i64> = self.hosts.keys().copied().collect();
        for id in ids {
            self.powered.insert(id);
            self.at(self.now + 1, Event::Start(id));
        }
    }
}
