//! What goes on without anybody asking: saving tables, telling name servers, taking out the silent, sampling counters.
//!
//! Everything periodic is one task on one thread, because none of it is on the way of a message:
//!
//! | When | What |
//! |---|---|
//! | a topic, group or request mode changed | save it, register, then let go the answers that waited ([`Signal`]) |
//! | every second | counters' samples |
//! | every 5 s (`flushConsumerOffsetInterval`) | offsets, if they changed |
//! | every 10 s (`flushDelayOffsetInterval`) | how far delayed messages were delivered, if that changed |
//! | every 10 s | silent clients and expired locks out |
//! | every 30 s (`registerNameServerPeriod`) | register |
//!
//! Invariants: a table is on the disk before a name server or a client hears of the change; a file that cannot be written
//! is tried again, and what it holds stays in memory.

mod pretty;
mod signal;
mod state_file;
mod worker;

pub use pretty::pretty;
pub use signal::Signal;
pub use state_file::StateFile;
pub use worker::{Files, Upkeep};
