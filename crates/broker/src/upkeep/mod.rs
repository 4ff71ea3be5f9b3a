//! What goes on without anybody asking: saving tables, telling name servers, taking out the silent, sampling counters.
//!
//! None of it is on the way of a message. Tasks of the thread `control` wait for time, name servers and changes; whatever
//! waits for the disk is done by the thread `tables`, so that a disk that hangs delays neither a time-out nor a registration.
//!
//! | When | What | Thread |
//! |---|---|---|
//! | a topic, group or request mode changed, or an operator moved offsets | save it, register, then let go the answers that waited ([`Signal`]) | `tables`, `control` |
//! | every second | counters' samples | `control` |
//! | every 5 s (`flushConsumerOffsetInterval`) | offsets, if they changed | `tables` |
//! | every 10 s (`flushDelayOffsetInterval`) | how far delayed messages were delivered, if that changed | `tables` |
//! | every 10 s | silent clients and expired locks out | `control` |
//! | every 30 s (`registerNameServerPeriod`) | register | `control` |
//!
//! Invariants: a table is on the disk before a name server or a client hears of the change; a file that cannot be written
//! is tried again, what it holds stays in memory, and whoever waits for it is told.

mod pretty;
mod signal;
mod state_file;
mod tables;
mod worker;

pub use pretty::pretty;
pub use signal::{Saved, Signal};
pub use state_file::{StateFile, TABLES, Table, table_of};
pub use tables::{Files, Tables};
pub use worker::{Ends, Upkeep};
