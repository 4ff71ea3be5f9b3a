//! Records that queue entries name: reads of them, for threads that deliver what waited, and damage.

use bytes::Bytes;
use store::queue::Entry;
use store::{Damaged, Store, StoreError};

/// The records of these entries, with what each entry came with. Those that are no longer in the log are left out; a damaged one is logged
/// as a message of this `kind` that is not delivered. May block.
///
/// # Errors
/// `StoreError::Io` if the log cannot be read.
pub(crate) fn read<T: Copy>(store: &Store, entries: &[(T, Entry)], kind: &str) -> Result<Vec<(T, Bytes)>, StoreError> {
    let wanted: Vec<&(T, Entry)> = entries.iter().filter(|(_, entry)| !entry.is_blank()).collect();
    let mut places: Vec<Entry> = wanted.iter().map(|(_, entry)| *entry).collect();
    let (mut records, mut found) = (Vec::with_capacity(wanted.len()), Vec::with_capacity(wanted.len()));
    let mut done = 0;
    while !places.is_empty() {
        let outcome = store.records_of(&places, &mut found);
        let count = found.len();
        records.extend(wanted[done..].iter().map(|(with, _)| *with).zip(found.drain(..)));
        match outcome {
            Ok(()) => break,
            Err(StoreError::Corrupt(text)) => {
                if places[count].log_offset >= store.log_range().0.0 {
                    tracing::error!(text, "a {kind} message cannot be found: it is not delivered");
                }
                places.drain(..=count);
                done += count + 1;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(records)
}

/// Says for people which message is damaged.
pub(crate) fn damage(store: &Store, topic: &str, queue_id: i32, damaged: &Damaged) -> String {
    format!(
        "the message at offset {} of queue {topic}/{queue_id} is damaged: the commit log has no record of {} bytes at {} (file {})",
        damaged.queue_offset,
        damaged.size,
        damaged.log_offset,
        store.log_file_of(damaged.log_offset)
    )
}
