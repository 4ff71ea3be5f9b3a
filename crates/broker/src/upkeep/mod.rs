//! Background work of the broker: saving tables, registering at name servers, expiring clients and locks, sampling counters.
//!
//! None of it is on the path of a message. Tasks of the thread `control` wait for time, name servers and changes. The thread
//! `tables` does the disk I/O, so that a disk that hangs delays neither timeouts nor registration.
//!
//! | When | What | Thread |
//! |---|---|---|
//! | a topic, group or request mode changed, or an operator moved offsets | save it, register, then send the responses that waited for it ([`crate::signal::Signal`]) | `tables`, `control` |
//! | every second | sample the counters | `control` |
//! | every 5 s (`flushConsumerOffsetInterval`) | save changed offsets | `tables` |
//! | every 10 s (`flushDelayOffsetInterval`) | save the changed progress of delayed messages | `tables` |
//! | every 10 s | save changed SQL filters of groups | `tables` |
//! | every 10 s | expire clients and locks | `control` |
//! | every 30 s (`registerNameServerPeriod`) | register | `control` |
//!
//! Invariants: a client gets its response after the change is on disk and the name servers are updated. If a file cannot be
//! written, its table stays in memory, writing is retried, and the waiting responses are errors.
//!
//! Topics are registered from memory, possibly before they are on disk: a table that cannot be saved must not keep a restarted name
//! server from learning this broker and its other topics. If a crash loses such a topic, its creator got no response, or an error,
//! or creates it again with its next heartbeat. A name server removes its route when the broker's connection closes; after a power
//! failure, which closes no connection, when the broker has not sent a heartbeat for two minutes; else by 216. Until then a
//! producer with the route creates the topic again, or gets code 17 if sends must not create topics.

mod tables;
mod worker;

pub use tables::{TABLES, Tables, table_of};
pub use worker::{Ends, Upkeep};
