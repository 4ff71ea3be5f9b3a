//! A registration that says what the last one of its broker said. Brokers of Apache's register everything every 30 s; with a thousand topics that is
//! two to three milliseconds of reading, and nothing of it is new.
//!
//! It is recognised by a hash with a key of this process, and only while nothing has changed of the processes and topics of its name: a topic that
//! an operator deleted here is registered again, and a slave whose master left sets the topics.

use super::{BrokerProcess, Registered, Registration, Routes};

impl Routes {
    /// Takes a registration as a heartbeat if it repeats the broker's last one and would change nothing. `None`: it has to be read. Of `new`, it needs
    /// who registers, the connection and the fingerprint.
    pub fn repeat(&mut self, new: &Registration<'_>, now_ms: i64) -> Option<Registered> {
        let broker = self.brokers.get(new.broker_name)?;
        let this = (new.fingerprint?, broker.changes);
        let process = BrokerProcess::new(new.cluster, new.broker_name, new.address);
        let live = self.live.get_mut(&process)?;
        // Without its id it may remember the changes of an earlier group of this name.
        let is_same = live.connection == new.connection && live.repeatable == Some(this);
        if !is_same || !broker.holds(live.broker_id, &process) {
            return None;
        }
        live.last_heartbeat_ms = now_ms;
        let broker_id = live.broker_id;
        Some(Registered {
            master: self.master_of(new.broker_name, broker_id),
            ..Registered::default()
        })
    }

    /// What [`Routes::repeat`] compares with, after a registration. Mappings and filter servers are tables that others change, too, so one with them
    /// is never repeated.
    pub(super) fn repeatable(&self, new: &Registration<'_>) -> Option<(u64, u64)> {
        let has_more = !new.mappings.is_empty() || new.filter_servers.is_some_and(|servers| !servers.is_empty());
        let changes = self.brokers.get(new.broker_name)?.changes;
        new.fingerprint.filter(|_| !has_more).map(|fingerprint| (fingerprint, changes))
    }
}
