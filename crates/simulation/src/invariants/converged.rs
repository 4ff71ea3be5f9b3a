//! When faults end, the replicas become equal: one master, all brokers in sync, one log, one list of epochs, all of it confirmed.

use replication::Epochs;

use super::{Check, broken};
use crate::log::Log;

/// What there is of a broker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Replica<'c> {
    pub(crate) id: i64,
    pub(crate) log: &'c Log,
    pub(crate) epochs: &'c Epochs,
    /// What its readers see; `None` if it serves none.
    pub(crate) shown: Option<i64>,
}

/// Whether all are equal.
pub(crate) fn converged(replicas: &[Replica<'_>], in_sync: usize) -> Check {
    if in_sync != replicas.len() {
        return broken("converged", format!("{in_sync} of {} brokers are in sync", replicas.len()));
    }
    let Some(first) = replicas.first() else { return Ok(()) };
    for replica in replicas {
        let id = replica.id;
        if replica.log.records != first.log.records {
            return broken("converged", format!("the logs of brokers {} and {id} differ", first.id));
        }
        if replica.epochs != first.epochs {
            return broken("converged", format!("the epochs of brokers {} and {id} differ", first.id));
        }
        if replica.shown != Some(replica.log.end()) {
            return broken(
                "converged",
                format!("broker {id} shows {:?} of {}", replica.shown, replica.log.end()),
            );
        }
    }
    Ok(())
}
