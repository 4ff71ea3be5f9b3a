//! Which names have lost their master, and which masters may have a lease. Pure.

use crate::alive::{Alive, Gone};
use crate::replicas::Replicas;

/// Whether a broker that is gone was the master of its name.
#[must_use]
pub fn was_master(replicas: &Replicas, gone: &Gone) -> bool {
    replicas
        .set(&gone.broker)
        .is_some_and(|set| set.cluster == gone.cluster && set.master == Some(gone.id))
}

/// The masters that may have a lease, with the time that it lasts, ms.
pub fn leases(replicas: &Replicas) -> impl Iterator<Item = (Gone, i64)> {
    replicas.sets().filter_map(|(broker, set)| {
        let id = set.master?;
        let master = Gone {
            cluster: set.cluster.clone(),
            broker: broker.to_owned(),
            id,
        };
        Some((master, set.replicas.get(&id)?.lease_ms?))
    })
}

/// Names whose master is not alive while another broker is.
#[must_use]
pub fn lost_masters(replicas: &Replicas, alive: &Alive, now_ms: i64) -> Vec<String> {
    let sets = replicas.sets().filter(|(broker, set)| {
        let living = alive.of(&set.cluster, broker, now_ms);
        set.master.is_some_and(|master| {
            living.iter().all(|live| live.id != master)
                && living.iter().any(|live| set.replicas.contains_key(&live.id))
                && !alive.may_come(&set.cluster, broker, master, now_ms)
                && !alive.is_suspected(&set.cluster, broker, master)
        })
    });
    sets.map(|(broker, _)| broker.to_owned()).collect()
}
