//! The message store: commit log, consume queues, key index, recovery and retention, over one disk trait.
//!
//! The store knows records, queues and files, and neither sockets nor consumer groups nor request codes. A message is appended
//! ([`Store::append`]), completed ([`Store::complete`]), and read by queue, by log offset or by key. `docs/durability.md` says what
//! each flush mode promises.
//!
//! Its threads: one or two that sync the log (`flush-0`, `flush-1`), `relief`, `keeper` for background work, and `cleanup` if topics
//! are compacted or have limits of their own. Order of locks:
//! append state, then nothing; every other lock is a leaf, or its declaration says otherwise.

mod checkpoint;
mod cleanup;
mod compaction;
mod derived;
pub mod disk;
mod dispatch;
mod error;
mod foreign;
#[cfg(test)]
mod golden;
mod index;
pub mod inspect;
pub mod json_file;
mod keeper;
mod log;
mod open;
mod options;
pub mod queue;
mod read;
mod retention;
mod store;
mod sync;
pub mod timer;

pub use cleanup::{TopicRule, TopicRules};
pub use compaction::CompactionOptions;
pub use dispatch::{Arrival, Arrivals};
pub use error::{AppendError, StoreError};
pub use index::IndexOptions;
pub use log::{Completion, RawAppendError, Ticket};
pub use open::{LastStop, Recovery};
pub use options::{FlushMode, LogOptions, StoreOptions};
pub use queue::{Boundary, ConsumeQueue, DueTopic};
pub use read::{Damaged, Limits, ReadResult, ReadSource, ReadStatus};
pub use retention::{LogNeed, RetentionOptions};
pub use store::{IndexedBy, LightEnd, QueryResult, Store};

/// For `tests/explore.rs`: restores wrong orders of steps.
#[cfg(feature = "explore")]
pub mod explore {
    pub use crate::sync::{Broken, break_order};
}
