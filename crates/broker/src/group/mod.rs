//! Consumer groups: which there are and what they may do.
//!
//! Life of a group: an operator makes it (200), or its first heartbeat or pull does (`autoCreateSubscriptionGroup`). Every
//! change raises the data version and the change signal, upon which the upkeep writes `subscriptionGroup.json`. It ends
//! with 207.
//!
//! Invariants: a group's configuration never changes, a change replaces it; the groups that Apache makes at its start are
//! always there; at most `apogeeMaxGroups`.
//!
//! Not here: who is online (`clients/`), where a group is (`offset/`).

mod groups;
pub mod handler;
pub mod table;

pub use groups::{Forbidden, GroupError, GroupLimits, Groups, Rule};
