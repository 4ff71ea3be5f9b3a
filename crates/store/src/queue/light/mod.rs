//! Light queues (`%LMQ%…`): queues of messages of other topics, of which there may be a million.
//!
//! In memory a light queue is a [`ConsumeQueue`]. Its entries are not in files of its own but in the light log, which all light queues
//! share: a queue with one message takes about 200 bytes on the disk. The light log is a sequence of blocks (`block`); a block of
//! entries names the block before it and an older one, so a reader finds an offset in few steps, whatever the number of queues and of
//! entries. The log is in files of the same length in `lightqueue`, each named after the position of its first byte, like files of the
//! commit log. Only blocks that begin a file tell how long the file before is.
//!
//! A start reads `lightqueue/snapshot` (the state of every queue at a position) and the blocks after it. The light log ends at its first
//! block that is not whole. The keeper writes a snapshot when the blocks after the last one take more than twice its size, and before
//! it removes a file, so that the first file may be removed when all messages that it names are.
//!
//! Invariants
//! - The light log is derived: a block `Covered` says up to which log offset it has the entries of all messages. Recovery drops what may
//!   not match the log, and reads again what is not covered.
//! - Blocks are written by one thread at a time, the one that holds the table's maintenance lock.
//! - A queue's chain names a block only after it was written.
//!
//! Compat: Java brokers keep each light queue as a consume queue of its own. Such directories are taken over by reading the log, and
//! removed when that is done; [`crate::queue::QueueTable::export_light`] writes them.

mod block;
pub(crate) mod examine;
mod load;
mod log;
mod queue;
mod round;
mod snapshot;
mod table;

pub(crate) use log::{LightLog, LightOptions};

use crate::queue::ConsumeQueue;
use crate::sync::atomic::AtomicI64;
use crate::sync::{Mutex, RwLock};
use message::names;
use message::properties::Indexed;
use std::collections::HashMap;
use std::sync::Arc;

/// Offsets are below this, so that a byte position in a file of entries cannot overflow.
const MAX_OFFSET: i64 = i64::MAX / 64;

/// The property that the log adds: the message's offset in each light queue that it names.
pub(crate) const OFFSETS_PROPERTY: &str = message::properties::INNER_MULTI_QUEUE_OFFSET;

/// Where a light queue's newest block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    /// The queue's number; 0 before it has one.
    number: u32,
    /// Position of the newest block; -1 if there is none.
    last: i64,
    /// Queue offset of its first entry.
    first: i64,
    /// Position of the older block that it names.
    jump: i64,
    /// How many blocks are before it.
    depth: u32,
}

impl Chain {
    /// A queue without a block.
    pub(super) const NEW: Self = Self {
        number: 0,
        last: -1,
        first: 0,
        jump: -1,
        depth: 0,
    };
}

/// All light queues by name. Clients choose the names, so the hash is keyed.
#[derive(Debug, Default)]
pub(super) struct LightQueues {
    pub(super) by_name: RwLock<HashMap<Arc<str>, Arc<ConsumeQueue>>>,
    /// Names and maximum offsets of those that a Java broker left.
    pub(super) foreign: Mutex<Vec<(Arc<str>, i64)>>,
    /// The log's first offset when retention last visited all queues.
    pub(super) visited_for: AtomicI64,
}

/// The light queues that a stored message is in, with its offset in each. None if the offsets are missing or not numbers, or do not
/// match the names: as a Java broker reads them.
pub(crate) fn places<'i>(topic: &str, indexed: &'i Indexed<'_>) -> Vec<(&'i str, i64)> {
    if indexed.light_offsets.is_empty() || !names::allows_light_queues(topic) {
        return Vec::new();
    }
    let offsets = split(&indexed.light_offsets);
    let queues = split(&indexed.light_queues);
    if offsets.len() != queues.len() {
        return Vec::new();
    }
    let numbered = queues.into_iter().zip(offsets).filter(|(name, _)| names::can_be_light_queue(name));
    let numbered =
        numbered.map(|(name, offset)| Some((name, offset.parse::<i64>().ok().filter(|offset| (0..MAX_OFFSET).contains(offset))?)));
    numbered.collect::<Option<Vec<_>>>().unwrap_or_default()
}

/// The parts between commas, without empty ones at the end, as Java splits them.
pub(crate) fn split(list: &str) -> Vec<&str> {
    let mut parts: Vec<&str> = list.split(',').collect();
    while parts.last().is_some_and(|part| part.is_empty()) {
        parts.pop();
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_a_java_broker_reads_them() {
        let of = |topic: &str, queues: &str, offsets: &str| {
            let properties = format!("INNER_MULTI_DISPATCH\u{1}{queues}\u{2}INNER_MULTI_QUEUE_OFFSET\u{1}{offsets}\u{2}");
            let indexed = Indexed::of(properties.as_bytes());
            let places = places(topic, &indexed).into_iter();
            places
                .map(|(name, offset)| format!("{name}={offset}"))
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(of("t", "%LMQ%a,%LMQ%b", "3,0"), "%LMQ%a=3 %LMQ%b=0");
        assert_eq!(of("t", "%LMQ%a,,", "3"), "%LMQ%a=3");
        assert_eq!(of("t", "%LMQ%a,plain,%LMQ%x/y", "3,1,2"), "%LMQ%a=3");
        for (queues, offsets) in [
            ("%LMQ%a,%LMQ%b", "3"),
            ("%LMQ%a", "x"),
            ("%LMQ%a", "-1"),
            ("%LMQ%a", "9223372036854775807"),
            ("%LMQ%a", "99999999999999999999"),
        ] {
            assert_eq!(of("t", queues, offsets), "");
        }
        assert_eq!(of("%RETRY%g", "%LMQ%a", "3"), "");
    }
}
