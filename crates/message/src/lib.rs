//! The message model: the stored record, its properties, ids, names and offsets.
//!
//! The stored record is also the body of a pull reply, so this crate is below both the store and the
//! protocol. It knows bytes only.
//!
//! Invariants: nothing here touches files, sockets, clocks or request codes; nothing panics on bytes from
//! outside; every parser checks a length before it uses it.

pub mod batch;
pub mod hash;
pub mod id;
pub mod names;
pub mod offset;
pub mod properties;
pub mod record;
pub mod sys_flag;
pub mod text;

pub use offset::{LogOffset, QueueOffset};
pub use record::{Draft, Record, RecordError};
