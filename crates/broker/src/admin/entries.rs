//! Code 321: entries of a consume queue.

use crate::clients::Consumers;
use crate::clients::table::Channel;
use crate::errors::Refusal;
use crate::reply::{Answer, Outcome};
use message::QueueOffset;
use protocol::diagnose::{ConsumeQueueEntries, ConsumeQueueEntry, QueryConsumeQueueHeader};
use protocol::{Frame, json};
use store::Store;

/// Largest number of entries in a response.
const MAX_ENTRIES: usize = 1_024;

/// Code 321.
///
/// # Errors
/// `SystemError` if the queue does not exist or a field is missing, or the refusal of a `StoreError` if it cannot be read.
pub fn entries<C: Channel>(request: &Frame, store: &Store, consumers: &Consumers<C>) -> Outcome {
    let header = QueryConsumeQueueHeader::decode(&request.ext)?;
    let queue = store
        .find_queue(header.topic, header.queue_id)
        .ok_or_else(|| Refusal::system(format!("{}@{} is not exist!", header.queue_id, header.topic)))?;
    let count = usize::try_from(header.count).unwrap_or(0).min(MAX_ENTRIES);
    let mut found = Vec::new();
    if (queue.min().0..queue.max().0).contains(&header.index) {
        let read = queue.read(QueueOffset(header.index), count, &mut found);
        read.map_err(|error| Refusal::system(error.to_string()))?;
    }
    let subscription = header.consumer_group.and_then(|group| consumers.subscription(group, header.topic));
    let offline = header.consumer_group.filter(|_| subscription.is_none());
    let body = ConsumeQueueEntries {
        filter_data: offline.map(|group| format!("{group}@{} is not online!", header.topic)),
        max_queue_index: queue.max().0,
        min_queue_index: queue.min().0,
        queue_data: Some(found.iter().take(count).map(entry).collect()),
        subscription_data: subscription.map(|known| known.data.clone()),
    };
    Ok(Answer::body(json::write(&body)))
}

fn entry(entry: &store::queue::Entry) -> ConsumeQueueEntry {
    ConsumeQueueEntry {
        physic_offset: entry.log_offset,
        physic_size: entry.size,
        tags_code: entry.tags_code,
        ..ConsumeQueueEntry::default()
    }
}
