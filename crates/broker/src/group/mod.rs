//! Consumer groups and their configuration.
//!
//! A group is created by an operator (200), or by its first heartbeat or pull (`autoCreateSubscriptionGroup`). Every change raises
//! the data version and the change signal, and the upkeep then writes `subscriptionGroup.json`. Code 207 deletes a group.
//!
//! Invariants: a group's configuration is immutable, a change replaces it; the groups that Apache creates at its start always
//! exist; there are at most `apogeeMaxGroups`.
//!
//! Not here: members that are online (`clients/`), committed offsets (`offset/`).

mod groups;
pub mod handler;
pub mod table;

pub use groups::{Forbidden, GroupError, GroupLimits, Groups, Rule};
