//! Consume queues: for each queue of a topic the row of its messages' places in the log, in files a Java broker reads.
//!
//! Life of an entry: the log assigns a queue offset under its append lock ([`ConsumeQueue::assign`]), writes the record,
//! then publishes the entry ([`ConsumeQueue::publish`]), which makes it readable at once, from memory. A background thread
//! writes it behind ([`QueueTable::write_pending`]) and later syncs it ([`QueueTable::sync`]); only then may a checkpoint
//! say that the queues hold everything up to there. After a crash whatever is above the checkpoint is cut off
//! ([`QueueTable::truncate_to_log`]) and published again from the log.
//!
//! Invariants
//! - A queue's entries have rising log offsets and no holes: the queue offset is the place in the row.
//! - Queues are derived: nothing here is ever ahead of the log, and all of it can be made again from the log.
//! - An entry leaves memory after it was written, never because a write failed.
//! - Order of locks: maintenance of the table, the queue's files, the queue's tail; lists of the table are leaves.
//!
//! Not here: reading records, filters, consumers' offsets, and which thread does the background work.

mod bounds;
mod consume_queue;
mod due;
mod entry;
mod extended;
mod files;
mod light;
mod open_files;
mod synced;
mod table;
mod time;

pub use consume_queue::ConsumeQueue;
pub(crate) use due::Code;
pub use due::DueTopic;
pub(crate) use entry::ENTRY_LEN;
pub use entry::Entry;
pub(crate) use extended::Extended;
pub use extended::is_ext_address;
pub(crate) use files::partition;
pub(crate) use light::examine as light_files;
pub(crate) use light::{OFFSETS_PROPERTY, places, split};
pub(crate) use open_files::OpenFiles;
pub(crate) use table::{QueueOptions, QueueTable};
pub use time::Boundary;
pub(crate) use time::StoreTime;

#[cfg(test)]
mod tests;
