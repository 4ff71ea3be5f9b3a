//! What goes on without anybody asking: saving tables, telling name servers, taking out the silent, sampling counters.
//!
//! None of it is on the way of a message. Tasks of the thread `control` wait for time, name servers and changes; whatever
//! waits for the disk is done by the thread `tables`, so that a disk that hangs delays neither a time-out nor a registration.
//!
//! | When | What | Thread |
//! |---|---|---|
//! | a topic, group or request mode changed, or an operator moved offsets | save it, register, then let go the answers that waited ([`crate::signal::Signal`]) | `tables`, `control` |
//! | every second | counters' samples | `control` |
//! | every 5 s (`flushConsumerOffsetInterval`) | offsets, if they changed | `tables` |
//! | every 10 s (`flushDelayOffsetInterval`) | how far delayed messages were delivered, if that changed | `tables` |
//! | every 10 s | silent clients and expired locks out | `control` |
//! | every 30 s (`registerNameServerPeriod`) | register | `control` |
//!
//! Invariants: a client has its answer when the change is on the disk and the name servers were told; a file that cannot be written
//! is tried again, what it holds stays in memory, and whoever waits for it is told.
//!
//! Name servers are told what is in memory, which may not be on the disk yet: a table that cannot be saved must not keep a name
//! server that was started again from knowing this broker and its other topics. If a crash takes such a topic back, it was
//! promised to nobody: whoever made it has no answer, or an error, or makes it again with its next heartbeat. A name server
//! forgets its route with the broker's connection; after a power cut, which closes no connection, when the broker was silent
//! for two minutes, else with 216. Until then a producer that has the route makes the topic again, or is answered code 17 where
//! sends make no topics.

mod tables;
mod worker;

pub use tables::{TABLES, Tables, table_of};
pub use worker::{Ends, Upkeep};
