//! Administration of a cluster, Apache's or ours: what `mqadmin` does, as functions, as text, as a command line.
//!
//! ```text
//! operations   topic, group, offset, clients, message, broker, nameserver, stats, export, monitor
//!              functions over a [`Cluster`], each with a typed result that serde can write
//! show         those results as tables for people
//! cli          mqadmin's verbs and flags over the operations
//! ```
//!
//! An operation is written once and knows no terminal; a console would be another face over the same functions.
//!
//! Invariants: nothing is done twice in the hope of success; what is done at several servers is tried at each and told of each
//! ([`Changes`]); what is looked at is never created by looking.
//!
//! Not here: the servers' inside (only `client` talks to them), controller, container, RocksDB and ACL verbs.

pub mod broker;
mod change;
pub mod cli;
pub mod clients;
mod cluster;
mod error;
pub mod export;
pub mod group;
pub mod message;
pub mod monitor;
pub mod nameserver;
pub mod offset;
pub mod show;
pub mod stats;
pub mod time;
pub mod topic;

pub use change::{Change, Changes, Steps};
pub use cluster::{Broker, Cluster, Target};
pub use error::Error;
