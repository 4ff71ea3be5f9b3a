//! Copies the log from a master to its slaves, in the protocol of Apache's default HA, or of its HA under a controller, where brokers change
//! their roles: each log knows its epochs ([`Epochs`]), a slave cuts its log back to where it is the master's, and a master confirms what its
//! in-sync set has ([`InSync`]).
//!
//! A slave connects to the master's HA port and reports the log offset that it needs. The master sends the log from there on, and goes
//! on as it grows; the slave appends it, and reports how far it is. Both sides say something at least every heartbeat interval, and
//! close a connection on which nothing came for the housekeeping interval.
//!
//! Everything waits for events: a write wakes the threads that send ([`Master::start`]), an acknowledgement ends the waits of sends
//! ([`Acks`]). Blocking threads serve the connections, two for each slave, so that a read of old log from a disk holds up nobody else.
//!
//! What a peer sends is checked: a master takes no offset that it has not sent, a slave no record that its own recovery would drop.
//!
//! Not here: topics, groups, offsets, and who is the master.

mod acks;
mod align;
mod assembly;
mod blocks;
mod epochs;
mod in_sync;
mod link;
mod master;
mod rate;
mod slave;
mod wire;

pub use acks::{Acks, NotCopied};
pub use epochs::{Epoch, EpochFile, Epochs, Unaligned};
pub use in_sync::{InSync, Members, Proposal};
pub use master::{Master, MasterOptions, Member, SlaveState, now_ms};
pub use slave::{Follower, Slave, SlaveOptions, SlaveReport};
