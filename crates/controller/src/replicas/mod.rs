//! The replicated state: which brokers each name has, who is their master, and which of them are in sync.
//!
//! ```text
//! request + who is alive ─► Command ─► (agreed on by Raft) ─► Replicas::apply ─► Change… ─► the same state on every controller
//! ```
//!
//! All input is in the command: a command carries who is alive at the time of the request, so that every controller decides the same.
//!
//! Invariants:
//! - An epoch of a broker name has at most one master, and epochs only grow until the name is cleaned.
//! - The master is in the in-sync set. A new master was in it before, unless it is the first one or the command allows an unclean election.
//! - A broker id is given to one broker.
//!
//! Compat: the rules are those of Apache's `ReplicasInfoManager` and `DefaultElectPolicy`. Differences: an id above the next one is
//! refused; a name that has lost its master loses it once, not with every retry; cleaning a master leaves none, cleaning the last in-sync
//! replica while others remain is refused, and ids are obeyed when living brokers may be cleaned, too.
//!
//! Not here: time, heartbeats, files, the wire.

mod command;
mod decide;
mod elect;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use command::{Answer, Command, Limits, Live, Refusal};

use decide::Change;

/// The first id of a broker name.
pub const FIRST_BROKER_ID: i64 = 1;

/// One broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    /// `ip:port`.
    pub address: String,
    /// Identifies the broker when it asks for the id again.
    pub check_code: String,
    /// How long after a heartbeat it may take messages as the master, ms, if it has said so.
    #[serde(default)]
    pub lease_ms: Option<i64>,
}

/// The brokers of one name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerSet {
    /// The cluster.
    pub cluster: String,
    /// By id.
    pub replicas: BTreeMap<i64, Replica>,
    /// The id that is given out next.
    pub next_id: i64,
    /// The master.
    pub master: Option<i64>,
    /// Counts elections and losses of a master. 0: there was none yet.
    pub master_epoch: i32,
    /// Those that may be elected.
    pub in_sync: BTreeSet<i64>,
    /// Counts changes of the in-sync set.
    pub in_sync_epoch: i32,
}

impl BrokerSet {
    fn new(cluster: &str) -> Self {
        Self {
            cluster: cluster.to_owned(),
            replicas: BTreeMap::new(),
            next_id: FIRST_BROKER_ID,
            master: None,
            master_epoch: 0,
            in_sync: BTreeSet::new(),
            in_sync_epoch: 0,
        }
    }

    /// Address of the master.
    pub fn master_address(&self) -> Option<&str> {
        self.address(self.master?)
    }

    /// Address of a broker.
    pub fn address(&self, id: i64) -> Option<&str> {
        self.replicas.get(&id).map(|replica| replica.address.as_str())
    }

    fn set_master(&mut self, master: Option<i64>) {
        self.master = master;
        self.master_epoch = self.master_epoch.saturating_add(1);
    }

    fn set_in_sync(&mut self, ids: BTreeSet<i64>) {
        self.in_sync = ids;
        self.in_sync_epoch = self.in_sync_epoch.saturating_add(1);
    }
}

/// All broker names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replicas {
    sets: BTreeMap<String, BrokerSet>,
}

impl Replicas {
    /// The brokers of a name.
    pub fn set(&self, broker: &str) -> Option<&BrokerSet> {
        self.sets.get(broker)
    }

    /// All names.
    pub fn sets(&self) -> impl Iterator<Item = (&str, &BrokerSet)> {
        self.sets.iter().map(|(name, set)| (name.as_str(), set))
    }

    /// Decides a command and does what it decides.
    pub fn apply(&mut self, command: &Command) -> Answer {
        let decision = self.decide(command);
        let changed = !decision.changes.is_empty();
        for change in decision.changes {
            self.change(command.broker(), change);
        }
        Answer {
            refusal: decision.refusal,
            changed,
            set: self.sets.get(command.broker()).cloned(),
        }
    }

    /// The answer to a command that changes nothing; `None` if it changes something.
    pub fn unchanged(&self, command: &Command) -> Option<Answer> {
        let decision = self.decide(command);
        decision.changes.is_empty().then(|| Answer {
            refusal: decision.refusal,
            changed: false,
            set: self.sets.get(command.broker()).cloned(),
        })
    }

    fn change(&mut self, broker: &str, change: Change) {
        if let Change::Forgotten = change {
            self.sets.remove(broker);
            return;
        }
        if let Change::IdTaken { cluster, id, replica } = change {
            let set = self.sets.entry(broker.to_owned()).or_insert_with(|| BrokerSet::new(&cluster));
            set.replicas.insert(id, replica);
            set.next_id = set.next_id.max(id.saturating_add(1));
            return;
        }
        let Some(set) = self.sets.get_mut(broker) else { return };
        match change {
            Change::Master(id) => {
                set.set_master(Some(id));
                set.set_in_sync(BTreeSet::from([id]));
            }
            Change::NoMaster => set.set_master(None),
            Change::InSync(ids) => set.set_in_sync(ids),
            Change::Registered { id, address, lease_ms } => {
                if let Some(replica) = set.replicas.get_mut(&id) {
                    (replica.address, replica.lease_ms) = (address, lease_ms);
                }
            }
            Change::Removed(ids) => set.replicas.retain(|id, _| !ids.contains(id)),
            Change::Forgotten | Change::IdTaken { .. } => {}
        }
    }
}
