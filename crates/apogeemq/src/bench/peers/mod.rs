//! Many simulated peers of one server: brokers of a name server, clients, topics and groups of a broker, brokers of a controller.
//!
//! ```text
//! registrations  brokers with topics at a name server, and clients that look routes up
//! heartbeats     clients at a broker, in groups
//! topics         topics at a broker, with a message in each queue
//! groups         groups at a broker, with offsets in each queue of a topic
//! elections      brokers at a controller: heartbeats, elections, and the loss of all masters
//! ```
//!
//! Each run has phases: peers appear in a closed loop ([`asked`]), then they do what such peers do all the time in an open loop (`open.rs`). The
//! report ([`figures`]) has the memory of the server before and after, so that the cost of one more peer can be read off.
//!
//! Peers that the server tells apart by connection have one each; others share connections. All are plain TCP.
//!
//! Not here: sends to many topics (`bench send --topics`), starting and killing servers (`bench/scale`).

mod arguments;
mod asked;
mod elections;
mod figures;
mod groups;
mod heartbeats;
mod load;
mod registrations;
mod talk;
mod topics;

pub(super) use arguments::{ElectionsArguments, GroupsArguments, HeartbeatsArguments, RegistrationsArguments, TopicsArguments};

pub(super) use elections::run as elections;
pub(super) use groups::run as groups;
pub(super) use heartbeats::run as heartbeats;
pub(super) use registrations::run as registrations;
pub(super) use topics::run as topics;

use super::wire::Socket;
use crate::failure::Failure;

/// Opens connections to one address.
fn connect_all(address: &str, count: u32) -> Result<Vec<Socket>, Failure> {
    (0..count).map(|_| Socket::connect(address, None)).collect()
}
