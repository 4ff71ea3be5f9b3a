//! Commit log, consume queues, key index, recovery and retention on one disk seam.

pub mod disk;
pub mod index;
pub mod queue;
