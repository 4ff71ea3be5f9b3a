//! A simulated cluster: controllers, brokers that are masters and slaves, producers and consumers in one thread, over a simulated network, disk
//! and clock. A seed decides everything, so a seed that fails does so again, event by event.
//!
//! ```text
//! faults, clients, timers ─► queue of events by time ─► cluster ─┬─► the decisions of the real code
//!                                                               └─► invariants, asked at each step that concerns them
//! ```
//!
//! What decides is the code that runs in production: `controller::replicas` (elections, in-sync sets), `controller::alive`, `controller::lost` and
//! `controller::elections` (who is dead, and when nobody is told who is the master), `broker::controlled::decide` (roles, leases, lost answers, a
//! master that starts again), `replication::InSync` (what is confirmed) and `replication::Epochs` (where a log is cut). What carries their inputs is
//! modelled here: connections, threads, the store.
//!
//! The model:
//! - The controllers are one state that changes by commands (Raft is tested elsewhere), with a table of living brokers each, and a leader
//!   that can go. A command can take long, be lost, or be done without an answer. A new leader applies or drops what the last one has left. In some
//!   seeds they are Apache's: a registration of a master fences nothing, and nothing is known of leases.
//! - A log is a list of records with the end of what is synced. A power cut keeps any of the rest, from its beginning.
//! - A connection between brokers keeps the order, stalls while its link is cut, and may be gone for one side only.
//! - A process can be killed, and be stopped for a time and go on (SIGSTOP).
//! - Nobody reads the wall clock for a decision, so that it does not exist here.
//!
//! [`Broken`] has broken versions of the protocol; each invariant finds one.

mod clients;
mod cluster;
mod controllers;
mod faults;
mod host;
mod invariants;
mod log;
mod member;
mod network;
mod random;
mod replicating;

pub use cluster::{Report, run, trace};
pub use invariants::Violation;

/// A broken version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// A master counts only the set that it has proposed.
    CountsOnlyProposed,
    /// A master that starts again keeps the in-sync set.
    ResumesWithItsSet,
    /// A master takes messages whether a controller has confirmed it or not.
    WithoutLease,
    /// A message is acknowledged when the master has written it.
    AcknowledgesOnWrite,
    /// Readers see what the master has written.
    PublishesOnWrite,
    /// A broker is elected whether it is in sync or not.
    ElectsUnclean,
    /// A slave does not cut its log back.
    CutsNothing,
    /// A slave is read before it knows that its log is the master's.
    ReadsUnaligned,
    /// Elections keep the epoch.
    KeepsEpoch,
    /// A slave reports what it has written, not what it has synced.
    ReportsEarly,
    /// As it was found: a master that may have lost the end of its log goes on with its epoch.
    ResumesItsEpoch,
    /// As it was found: a broker that may have lost messages is heard while it is in the in-sync set.
    IsHeardInSync,
    /// A master that starts again alone goes on at once, whatever its last process has asked for.
    ResumesUnfenced,
    /// A leader of the controllers elects by what it has heard itself, and does not wait for leases that the last one has confirmed.
    LeadsAtOnce,
    /// As it was found: who the master is is told while an election is being agreed on.
    TellsWhileElecting,
    /// As it was found: an election is decided by who was alive in an earlier epoch.
    ElectsLate,
    /// As it was found: a master that is to stop takes messages until it hears of its successor.
    HandsOverAndTakes,
}
