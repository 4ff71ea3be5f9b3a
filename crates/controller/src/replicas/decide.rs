//! Decisions: a command and the state in, changes and a refusal out.

use std::collections::BTreeSet;

use super::command::{Command, Limits, Live, Refusal};
use super::elect::elect;
use super::{BrokerSet, FIRST_BROKER_ID, Replica, Replicas};

/// One change of the brokers of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// A new master, alone in sync.
    Master(i64),
    /// The master is lost.
    NoMaster,
    /// A new in-sync set.
    InSync(BTreeSet<i64>),
    /// A broker has its id.
    IdTaken { cluster: String, id: i64, replica: Replica },
    /// A broker has another address or lease.
    Registered { id: i64, address: String, lease_ms: Option<i64> },
    /// Brokers are forgotten.
    Removed(BTreeSet<i64>),
    /// The name is forgotten.
    Forgotten,
}

/// What follows from a command. Only a lost master is both a change and a refusal.
#[derive(Debug, Default)]
pub(super) struct Decision {
    pub(super) changes: Vec<Change>,
    pub(super) refusal: Option<Refusal>,
}

impl From<Refusal> for Decision {
    fn from(refusal: Refusal) -> Self {
        Self {
            refusal: Some(refusal),
            changes: Vec::new(),
        }
    }
}

impl From<Vec<Change>> for Decision {
    fn from(changes: Vec<Change>) -> Self {
        Self { changes, refusal: None }
    }
}

impl Replicas {
    pub(super) fn decide(&self, command: &Command) -> Decision {
        let set = self.set(command.broker());
        let decided = match command {
            Command::AlterInSync {
                master,
                master_epoch,
                ids,
                in_sync_epoch,
                alive,
                ..
            } => set
                .ok_or(Refusal::UnknownToAlter)
                .and_then(|set| alter_in_sync(set, (*master, *master_epoch), (ids, *in_sync_epoch), alive)),
            Command::Elect {
                broker,
                candidate,
                designated,
                unclean,
                seen_epoch,
                alive,
            } => match set {
                Some(set) if seen_epoch.is_some_and(|seen| seen != set.master_epoch) => Err(Refusal::ElectLate(set.master_epoch)),
                Some(set) => return elected(set, broker, *candidate, *designated, *unclean, alive),
                None => Err(Refusal::UnknownToElect),
            },
            Command::TakeId {
                cluster,
                broker,
                id,
                check_code,
                limits,
            } => self.take_id(set, (cluster, broker), *id, check_code, *limits),
            Command::Register {
                broker,
                id,
                address,
                lease_ms,
            } => register(set, broker, *id, (address, *lease_ms)),
            Command::Clean {
                broker,
                ids,
                living,
                alive,
            } => set
                .ok_or_else(|| Refusal::UnknownToClean(broker.clone()))
                .and_then(|set| clean(set, broker, ids, *living, alive)),
        };
        decided.map_or_else(Decision::from, Decision::from)
    }

    fn take_id(
        &self,
        set: Option<&BrokerSet>,
        (cluster, broker): (&str, &str),
        id: i64,
        check_code: &str,
        limits: Limits,
    ) -> Result<Vec<Change>, Refusal> {
        let taken = Change::IdTaken {
            cluster: cluster.to_owned(),
            id,
            replica: Replica {
                address: check_code.split(';').next().unwrap_or_default().to_owned(),
                check_code: check_code.to_owned(),
                lease_ms: None,
            },
        };
        let Some(set) = set else {
            return match id {
                FIRST_BROKER_ID if self.sets.len() >= limits.names => Err(Refusal::TooManyNames(self.sets.len())),
                FIRST_BROKER_ID => Ok(vec![taken]),
                _ => Err(Refusal::IdOfUnknownSet(broker.to_owned(), id)),
            };
        };
        match set.replicas.get(&id) {
            Some(replica) if replica.check_code == check_code => Ok(Vec::new()),
            Some(_) => Err(Refusal::IdTaken(id, broker.to_owned())),
            None if id < FIRST_BROKER_ID || id > set.next_id => Err(Refusal::IdTooHigh(id, broker.to_owned(), set.next_id)),
            None if set.replicas.len() >= limits.replicas => Err(Refusal::TooManyReplicas(set.replicas.len(), broker.to_owned())),
            None => Ok(vec![taken]),
        }
    }
}

fn lives(alive: &[Live], id: i64) -> bool {
    alive.iter().any(|live| live.id == id)
}

fn alter_in_sync(
    set: &BrokerSet,
    (master, master_epoch): (i64, i32),
    (ids, in_sync_epoch): (&BTreeSet<i64>, i32),
    alive: &[Live],
) -> Result<Vec<Change>, Refusal> {
    if *ids == set.in_sync {
        return Err(Refusal::SameInSync);
    }
    if set.master != Some(master) {
        return Err(Refusal::NotTheMaster {
            is: set.master,
            asked: master,
        });
    }
    if set.master_epoch != master_epoch {
        return Err(Refusal::MasterEpoch {
            is: set.master_epoch,
            asked: master_epoch,
        });
    }
    if set.in_sync_epoch != in_sync_epoch {
        return Err(Refusal::InSyncEpoch {
            is: set.in_sync_epoch,
            asked: in_sync_epoch,
        });
    }
    if let Some(id) = ids.iter().find(|id| !set.replicas.contains_key(id)) {
        return Err(Refusal::NoSuchReplica(*id));
    }
    if let Some(id) = ids.iter().find(|id| !lives(alive, **id)) {
        return Err(Refusal::ReplicaNotAlive(*id));
    }
    if !ids.contains(&master) {
        return Err(Refusal::WithoutMaster(master));
    }
    Ok(vec![Change::InSync(ids.clone())])
}

fn elected(set: &BrokerSet, broker: &str, candidate: Option<i64>, designated: bool, unclean: bool, alive: &[Live]) -> Decision {
    let first = candidate.filter(|id| set.master_epoch == 0 && set.replicas.contains_key(id));
    let only = candidate.filter(|_| designated);
    let chosen = first.or_else(|| elect(&set.in_sync, alive, set.master, only)).or_else(|| {
        let all = set.replicas.keys().copied().collect();
        unclean.then(|| elect(&all, alive, set.master, only)).flatten()
    });
    match (chosen, set.master) {
        (Some(new), Some(old)) if new == old => Refusal::MasterStillExists(old, broker.to_owned()).into(),
        (Some(new), _) => vec![Change::Master(new)].into(),
        (None, Some(_)) if candidate.is_none() => Decision {
            changes: vec![Change::NoMaster],
            refusal: Some(Refusal::NoMaster),
        },
        (None, _) if candidate.is_none() => Refusal::NoMaster.into(),
        (None, _) => Refusal::ElectFailed.into(),
    }
}

fn register(set: Option<&BrokerSet>, broker: &str, id: i64, (address, lease_ms): (&str, Option<i64>)) -> Result<Vec<Change>, Refusal> {
    let set = set.ok_or_else(|| Refusal::UnknownToRegister(broker.to_owned()))?;
    let known = set.replicas.get(&id).ok_or_else(|| Refusal::UnknownId(id, broker.to_owned()))?;
    let mut changes = Vec::new();
    if (known.address.as_str(), known.lease_ms) != (address, lease_ms) {
        changes.push(Change::Registered {
            id,
            address: address.to_owned(),
            lease_ms,
        });
    }
    if set.master == Some(id) {
        // The process has started again: a change of the set that its last one has asked for, and that is still on its way, is refused now.
        changes.push(Change::InSync(set.in_sync.clone()));
    }
    Ok(changes)
}

fn clean(set: &BrokerSet, broker: &str, ids: &BTreeSet<i64>, living: bool, alive: &[Live]) -> Result<Vec<Change>, Refusal> {
    if ids.is_empty() {
        return match set.master {
            Some(_) if !living => Err(Refusal::SetAlive(broker.to_owned())),
            _ => Ok(vec![Change::Forgotten]),
        };
    }
    if let Some(id) = ids.iter().find(|id| !living && lives(alive, **id)) {
        return Err(Refusal::ReplicaAlive(broker.to_owned(), *id));
    }
    if set.replicas.keys().all(|id| ids.contains(id)) {
        return Ok(vec![Change::Forgotten]);
    }
    let in_sync: BTreeSet<i64> = set.in_sync.difference(ids).copied().collect();
    if in_sync.is_empty() && !set.in_sync.is_empty() {
        return Err(Refusal::LastInSync(broker.to_owned()));
    }
    let mut changes = Vec::new();
    if set.master.is_some_and(|master| ids.contains(&master)) {
        changes.push(Change::NoMaster);
    }
    if in_sync != set.in_sync {
        changes.push(Change::InSync(in_sync));
    }
    if set.replicas.keys().any(|id| ids.contains(id)) {
        changes.push(Change::Removed(ids.clone()));
    }
    Ok(changes)
}
