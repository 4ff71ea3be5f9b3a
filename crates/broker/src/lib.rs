//! The broker: topics, groups, offsets and clients at the bottom, one way into the store, parked requests, then what
//! applications and operators ask for.
//!
//! A request code is served in exactly one place: [`routes`] matches all of them, so a new one does not compile until it is
//! served or refused with a reason. Errors become response codes in [`errors`] and nowhere else. There is no broker object to
//! reach through: each feature lists what it needs, and [`Broker`] only puts the parts together.
//!
//! Not here: protobuf, HTTP, the command line, how bytes reach the disk.

pub mod admin;
pub mod arrival;
pub mod assignment;
pub mod attributes;
pub mod clients;
mod clock;
pub mod core;
pub mod delay;
mod destination;
pub mod errors;
pub mod feature;
pub mod filter;
pub mod group;
pub mod hold;
pub mod inspect;
pub mod local_time;
pub mod lock;
pub mod log_writer;
pub mod offset;
pub mod pull;
pub mod query;
pub mod queues;
pub mod readers;
pub mod registration;
pub mod reply;
pub mod request_reply;
pub mod retry;
pub mod routes;
pub mod schedule;
pub mod send;
pub mod settings;
pub mod signal;
mod start;
pub mod state_file;
pub mod stats;
mod store_options;
mod sync;
#[cfg(test)]
mod testing;
pub mod topic;
pub mod transaction;
mod unserved;
pub mod upkeep;
pub mod watch;

pub use start::{Broker, StartError};
pub use store_options::store_options;
