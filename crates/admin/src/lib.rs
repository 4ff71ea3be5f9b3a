//! Administration of a cluster, Apache's or ours: the operations of `mqadmin` as functions, tables and a command line.
//!
//! ```text
//! operations   topic, group, offset, clients, message, broker, nameserver, stats, export, monitor
//!              functions over a [`Cluster`], each with a typed result that serde can write
//! show         the results as tables
//! cli          mqadmin's verbs and flags over the operations
//! ```
//!
//! An operation is written once and is independent of a terminal, so that a console can use the same functions.
//!
//! Invariants: nothing is retried; a change at several servers is tried at each, and the result has the outcome of each
//! ([`Changes`]); reading never creates a topic or group.
//!
//! Not here: the servers' inside (only `client` talks to them), container, RocksDB and ACL verbs.

pub mod broker;
mod change;
pub mod cli;
pub mod clients;
mod cluster;
pub mod controller;
mod error;
pub mod export;
pub mod group;
pub mod lite;
pub mod message;
pub mod monitor;
pub mod nameserver;
pub mod offset;
pub mod show;
pub mod static_topic;
pub mod stats;
pub mod time;
pub mod topic;

pub use change::{Change, Changes, Steps};
pub use cluster::{Broker, Cluster, Target};
pub use error::Error;
