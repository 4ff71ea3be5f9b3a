//! Producers and consumers.

use crate::Broken;
use crate::cluster::{Cluster, Event};
use crate::host::{Duty, Role};
use crate::invariants::Violation;
use crate::log::{RECORD_BYTES, Record};

/// Of a thousand sends, those after which the producer pauses.
const PAUSES: i64 = 12;

impl Cluster {
    /// A producer sends to some broker, as its route says, or an old one.
    pub(crate) fn produce(&mut self) {
        let ids: Vec<i64> = self.hosts.keys().copied().collect();
        let masters: Vec<i64> = ids
            .iter()
            .copied()
            .filter(|id| {
                self.hosts
                    .get_mut(id)
                    .and_then(|host| host.role())
                    .is_some_and(|role| role.master().is_some())
            })
            .collect();
        let among = if masters.is_empty() { &ids } else { &masters };
        let id = among[self.random.between(0, among.len() as i64 - 1) as usize];
        let at = self.now + self.random.time(5, 500);
        self.at(at, Event::Sent(id));
        let pause = if self.random.is(PAUSES) {
            self.random.between(500, 3_000)
        } else {
            self.random.between(2, self.chaos.pace)
        };
        if self.now < self.ends_ms {
            self.at(self.now + pause, Event::Produce);
        }
    }

    /// A message has arrived at a broker.
    pub(crate) fn sent(&mut self, id: i64) -> Result<(), Violation> {
        let (now, flush, broken) = (self.now, self.flush, self.broken);
        self.next_message += 1;
        let message = self.next_message;
        let Some((role, log, _)) = self.hosts.get_mut(&id).and_then(|host| host.parts()) else {
            return Ok(());
        };
        let epoch = role.epoch;
        let Some(master) = role.master() else { return Ok(()) };
        if now >= master.lease_until && broken != Some(Broken::WithoutLease) {
            return Ok(());
        }
        let is_alone = master.set.is_alone();
        log.records.push(Record { id: message, epoch });
        let end = log.end();
        master.waits.push_back(end);
        if is_alone {
            role.change(log, |_| ());
        }
        role.publish(log, flush, broken);
        self.note(|| format!("broker {id} takes message {message} at {end}"));
        self.oracle.taking.takes(epoch, id)?;
        self.settle(id)?;
        self.sync_later(id);
        self.wake_links(id);
        Ok(())
    }

    /// Publishes what may be confirmed, and acknowledges messages.
    pub(crate) fn settle(&mut self, id: i64) -> Result<(), Violation> {
        let (flush, broken) = (self.flush, self.broken);
        let Some((role, log, _)) = self.hosts.get_mut(&id).and_then(|host| host.parts()) else {
            return Ok(());
        };
        role.publish(log, flush, broken);
        let confirmed = role.confirmed;
        let Some(master) = role.master() else { return Ok(()) };
        let copied = match broken {
            Some(Broken::AcknowledgesOnWrite) => i64::MAX,
            _ => master.set.confirmed(),
        };
        let durable = match flush {
            crate::host::Flush::Async => log.end(),
            crate::host::Flush::Sync => log.synced(),
        };
        while let Some(end) = master.waits.pop_front() {
            if end > durable.min(copied) {
                master.waits.push_front(end);
                break;
            }
            let index = (end / RECORD_BYTES) as usize - 1;
            self.oracle.acknowledged.acknowledge(index, log.records[index]);
        }
        match self.counts(id) {
            true => self.oracle.growing.confirmed(id, self.hosts[&id].log.before(confirmed)),
            false => Ok(()),
        }
    }

    /// Whether a log is not one from before a documented loss.
    fn counts(&self, id: i64) -> bool {
        self.hosts[&id].epochs.last().map_or(0, |last| last.number) >= self.data_loss_epoch
    }

    /// A consumer reads from some broker.
    pub(crate) fn consume(&mut self) -> Result<(), Violation> {
        let id = self.random.between(1, self.hosts.len() as i64);
        if self.now >= self.hosts[&id].stopped_until
            && let Some(shown) = self.shown(id)
            && self.counts(id)
        {
            let log = self.hosts[&id].log.before(shown);
            self.oracle.seen.shows(&format!("broker {id}"), log)?;
        }
        let at = self.now + self.random.between(5, 150);
        self.at(at, Event::Consume);
        Ok(())
    }

    /// Up to where readers see the log of a broker; `None` if it serves none.
    pub(crate) fn shown(&self, id: i64) -> Option<i64> {
        let role: &Role = self.hosts[&id].process.as_ref()?.running.as_ref()?;
        match &role.duty {
            Duty::Master(_) => Some(role.confirmed),
            Duty::Slave(slave) if slave.is_aligned || self.broken == Some(Broken::ReadsUnaligned) => Some(role.confirmed),
            Duty::Slave(_) => None,
        }
    }
}
