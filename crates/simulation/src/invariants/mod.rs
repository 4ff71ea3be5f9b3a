//! What always holds, one file each. They see what happens to the cluster as an operator with a view of all machines would.

mod acknowledged_survive;
mod converged;
mod one_leader;
mod one_takes;
mod only_grow;
mod seen_stays;

pub(crate) use acknowledged_survive::Acknowledged;
pub(crate) use converged::{Replica, converged};
pub(crate) use one_leader::Leaders;
pub(crate) use one_takes::Taking;
pub(crate) use only_grow::Growing;
pub(crate) use seen_stays::Seen;

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its name, which is that of its file.
    pub invariant: &'static str,
    /// What was seen.
    pub what: String,
}

pub(crate) type Check = Result<(), Violation>;

pub(crate) fn broken<T>(invariant: &'static str, what: impl Into<String>) -> Result<T, Violation> {
    Err(Violation {
        invariant,
        what: what.into(),
    })
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    pub(crate) acknowledged: Acknowledged,
    pub(crate) leaders: Leaders,
    pub(crate) taking: Taking,
    pub(crate) growing: Growing,
    pub(crate) seen: Seen,
}
