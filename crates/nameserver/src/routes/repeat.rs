//! A registration that says what the last one of its broker said. Brokers of Apache's register everything every 30 s; with a thousand topics that is
//! two to three milliseconds of reading, and nothing of it is new.
//!
//! It is recognised by a hash with a key of this process, and only while nothing has changed of the processes and topics of its name: a topic that
//! an operator deleted here is registered again, and a slave whose master left sets the topics.

use super::{BrokerProcess, Registered, Registration, Routes};

/// Who registers, over which connection, and the hash of all that it says.
#[derive(Debug, Clone, Copy)]
pub struct Repetition<'a> {
    /// Cluster.
    pub cluster: &'a str,
    /// Name, shared with its master or slaves.
    pub broker_name: &'a str,
    /// `ip:port` for clients.
    pub address: &'a str,
    /// Connection of the registration.
    pub connection: u64,
    /// As [`Registration::fingerprint`].
    pub fingerprint: u64,
}

impl Routes {
    /// Takes a registration as a heartbeat if it repeats the broker's last one and would change nothing. `None`: it has to be read.
    pub fn repeat(&mut self, new: &Repetition<'_>, now_ms: i64) -> Option<Registered> {
        let broker = self.brokers.get(new.broker_name)?;
        let process = BrokerProcess::new(new.cluster, new.broker_name, new.address);
        let live = self.live.get_mut(&process)?;
        // Without its id it may remember the changes of an earlier group of this name.
        let is_same = live.connection == new.connection && live.repeatable == Some((new.fingerprint, broker.changes));
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

    /// After a registration. Mappings and filter servers are tables that others change, too, so a registration with them is never repeatable.
    pub(super) fn set_repeatable(&mut self, new: &Registration<'_>, process: &BrokerProcess) {
        let Some(changes) = self.brokers.get(new.broker_name).map(|broker| broker.changes) else {
            return;
        };
        let has_more = !new.mappings.is_empty() || new.filter_servers.is_some_and(|servers| !servers.is_empty());
        if let Some(live) = self.live.get_mut(process).filter(|live| live.complete && !has_more) {
            live.repeatable = new.fingerprint.map(|fingerprint| (fingerprint, changes));
        }
    }
}
