//! The broker: topics, groups, offsets and clients at the bottom, one way into the store, parked requests, and on top the requests
//! of applications and operators.
//!
//! A request code is handled in exactly one place: [`routes`] matches all codes, so a new one does not compile until it is handled
//! or refused with a reason. Only [`errors`] converts errors to response codes. There is no global broker object: each feature
//! lists what it needs, and [`Broker`] only assembles the features.
//!
//! Not here: protobuf, HTTP, the command line, the store's files.

pub mod acting;
pub mod admin;
pub mod alarm;
pub mod arrival;
pub mod asker;
pub mod assignment;
pub mod attributes;
pub mod clients;
mod clock;
pub mod controlled;
pub mod core;
pub mod dedup;
pub mod delay;
mod destination;
pub mod errors;
pub mod escape;
pub mod feature;
pub mod filter;
pub mod group;
pub mod hold;
pub mod inspect;
mod keyed_hash;
pub mod lite;
pub mod local_time;
pub mod lock;
pub mod log_writer;
pub mod logical_queue;
pub mod offset;
pub mod operations;
mod peers;
pub mod place;
pub mod pop;
pub mod pull;
pub mod query;
pub mod queues;
pub mod readers;
mod records;
pub mod registration;
pub mod replication;
pub mod reply;
pub mod request_reply;
pub mod retry;
pub mod role;
pub mod routes;
pub mod schedule;
pub mod send;
pub mod settings;
pub mod signal;
mod start;
pub mod state_file;
pub mod static_topic;
pub mod stats;
mod store_options;
mod sync;
#[cfg(test)]
mod testing;
pub mod timer;
pub mod topic;
pub mod transaction;
pub mod upkeep;
pub mod watch;

pub use start::{Broker, StartError};
pub use store_options::{store_options, timer_options};
